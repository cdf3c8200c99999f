"""Whether the file that is open still stands at its path, what becomes of it when not, and who may hold it."""

import sqlite3
import subprocess
import sys
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

from gateway.ledger import engines, schema
from gateway.ledger import file as ledger_file
from gateway.ledger.batches import Batches, Committer, Job, WriterState
from gateway.ledger.engines import StorageTrouble
from gateway.ledger.file import AlreadyRunning, LedgerLost
from hardware.bench.chain_key import KEYS
from hardware.bench.clocks import StillClock

pytestmark = pytest.mark.slow

SIDES = ("-wal", "-shm")


class Box:
    """A ledger that is held, with the writer's judgement over it."""

    def __init__(self, path):
        self.path = path
        self.stack = ExitStack()
        engines.open_new(path).dispose()
        self.file = self.stack.enter_context(ledger_file.held(path))
        self.engine = engines.open_writer(self.file.real)
        schema.upgrade(self.engine)
        self.reader = engines.open_reader(self.file.real)
        self.file.watch(self.engine, self.reader)
        self.states = []
        self.batches = Batches(Committer(self.engine, StillClock(1), file=self.file, keys=KEYS), self.states.append)
        self.batches.start()

    def step(self, *jobs):
        return {answer.job.caller: answer for answer in self.batches.step(jobs).answers}

    def close(self):
        self.file.let_go(self.engine, self.reader)
        self.stack.close()

    def rescued(self):
        return sorted(self.path.parent.glob("ledger.db.rescued-*"))


@pytest.fixture
def box(tmp_path):
    (tmp_path / "data").mkdir()
    box = Box(tmp_path / "data" / "ledger.db")
    yield box
    box.close()


def sale(name):
    return Job(lambda tx: tx.next_number("n"), caller=name)


def result(name):
    return Job(lambda tx: tx.next_number("n"), essential=True, caller=name)


def counted(path, *, immutable=False):
    with closing(sqlite3.connect(f"file:{path}?mode=ro{'&immutable=1' * immutable}", uri=True)) as connection:
        row = connection.execute("select value from counter where name = 'n'").fetchone()
    return 0 if row is None else row[0]


def unlink(box):
    box.path.unlink()


def replace(box):
    other = box.path.with_name("other")
    other.write_bytes(box.path.read_bytes())
    other.replace(box.path)


def unlink_log(box):
    Path(f"{box.path}-wal").unlink()


def unlink_index(box):
    Path(f"{box.path}-shm").unlink()


def replace_log(box):
    log = Path(f"{box.path}-wal")
    other = log.with_name("other")
    other.write_bytes(log.read_bytes())
    other.replace(log)


def rename_folder(box):
    box.path.parent.rename(box.path.parent.with_name("elsewhere"))


HARMS = (unlink, replace, unlink_log, unlink_index, replace_log, rename_folder)


@pytest.mark.parametrize("harm", HARMS, ids=lambda harm: harm.__name__)
def test_after_the_loss_no_sale_is_stored_and_no_result_answered(box, harm):
    assert box.step(sale("a"))["a"].result == 1
    harm(box)
    told = box.step(sale("b"), result("c"))
    assert list(told) == ["b"]
    assert told["b"].error.trouble is StorageTrouble.LOST
    assert box.batches.state is WriterState.LOST
    assert box.step() == {}
    (withheld,) = box.batches.stop()
    assert (withheld.job.caller, withheld.error.trouble) == ("c", StorageTrouble.LOST)
    assert "start it again" in box.file.account


@pytest.mark.parametrize("harm", HARMS, ids=lambda harm: harm.__name__)
def test_an_idle_writer_sees_it_and_everything_stands_in_a_file_then(box, harm):
    box.step(sale("a"), sale("b"))
    harm(box)
    box.batches.step()
    assert box.batches.state is WriterState.LOST
    box.step(result("c"))
    box.batches.step()
    box.batches.stop()
    kept = {unlink: "rescued", replace: "rescued", replace_log: "rescued", rename_folder: "rescued"}.get(harm)
    if kept:
        (copy,) = box.rescued()
        assert str(copy) in box.file.account
        assert counted(copy, immutable=True) == 3
        assert copy.stat().st_mode & 0o777 == 0o600
    else:
        assert box.rescued() == []
        box.close()
        assert counted(box.path) == 3


def test_a_file_that_goes_within_the_commit_is_seen_before_the_answer(box):
    def harmful(tx):
        tx.next_number("n")
        box.path.unlink()

    assert box.step(Job(harmful, caller="a"), sale("b")) == {}
    assert box.batches.state is WriterState.LOST
    box.batches.step()
    assert counted(box.rescued()[0], immutable=True) == 2


def test_the_same_file_back_gives_the_answers_that_were_withheld(box):
    elsewhere = box.path.with_name("elsewhere")
    box.path.rename(elsewhere)
    assert box.step(result("a")) == {}
    box.batches.step()
    elsewhere.rename(box.path)
    told = box.step(sale("b"))
    assert {name: answer.result for name, answer in told.items()} == {"a": 1, "b": 2}
    assert box.states == [WriterState.WRITING, WriterState.LOST, WriterState.LOST, WriterState.WRITING]
    assert counted(box.path) == 2


def test_another_file_does_not_heal_it_and_is_left_alone(box):
    box.step(sale("a"))
    replace(box)
    before = box.path.read_bytes()
    box.step(result("b"))
    box.batches.step()
    assert box.batches.state is WriterState.LOST
    # The log is not left beside a ledger it does not belong to: SQLite would apply it at the next start.
    assert [Path(f"{box.path}{end}").exists() for end in SIDES] == [False, False]
    assert len(list(box.path.parent.glob("ledger.db.lost-*-wal"))) == 1
    box.batches.stop()
    box.close()
    assert box.path.read_bytes() == before


def test_a_rescue_that_fails_is_tried_again(box, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    box.step(sale("a"))
    box.path.unlink()
    with monkeypatch.context() as patched:
        patched.setattr(ledger_file.backup, "write", full)
        box.batches.step()
        assert "could not be copied yet: [Errno 28]" in box.file.account
    assert box.rescued() == []
    box.batches.step()
    assert counted(box.rescued()[0], immutable=True) == 1


def test_every_loss_has_a_copy_of_its_own(box):
    elsewhere = box.path.with_name("elsewhere")
    for _ in range(2):
        box.path.rename(elsewhere)
        box.batches.step()
        box.step(result("again"))
        box.batches.step()
        elsewhere.rename(box.path)
        box.batches.step()
    assert [counted(copy, immutable=True) for copy in box.rescued()] == [1, 2]


OTHER = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("insert into counter (name, value) values ('other', 7)")
connection.close()
"""


def test_nothing_is_written_beside_somebody_who_has_made_another_index(box):
    """Two programs that write to one log under two indexes overwrite each other."""
    box.step(sale("a"))
    unlink_index(box)
    subprocess.run([sys.executable, "-c", OTHER, str(box.path)], check=True)
    told = box.batches.step([result("b")])
    assert (told.answers, told.kept) == ([], 1)
    assert told.pause_s > 0
    last = box.batches.step(last=True)
    assert [answer.error.trouble for answer in last.answers] == [StorageTrouble.LOST]
    box.batches.stop()
    box.close()
    with closing(sqlite3.connect(box.path)) as connection:
        found = dict(connection.execute("select name, value from counter where name in ('n', 'other')"))
        assert found == {"n": 1, "other": 7}
        assert connection.execute("pragma integrity_check").fetchone() == ("ok",)


# --- the end ------------------------------------------------------------------------------------------------------


def test_an_orderly_end_leaves_everything_in_the_file_though_others_read(box):
    box.step(sale("a"))
    with closing(sqlite3.connect(f"file:{box.path}?mode=ro", uri=True)) as other:
        other.execute("select count(*) from counter").fetchone()
        box.batches.stop()
        box.close()
        assert counted(box.path, immutable=True) == 1


def test_an_end_while_somebody_is_in_the_middle_of_reading_says_so(box, caplog, monkeypatch):
    monkeypatch.setattr(ledger_file, "CLOSE_WAIT_MS", 1)
    with closing(sqlite3.connect(f"file:{box.path}?mode=ro", uri=True, isolation_level=None)) as other:
        other.execute("begin")
        other.execute("select count(*) from counter").fetchone()
        box.step(sale("a"))
        box.close()
    assert "its newest rows stand in its log alone" in caplog.text
    assert counted(box.path) == 1


# --- who may hold it ----------------------------------------------------------------------------------------------


@pytest.fixture
def ledger(tmp_path):
    path = tmp_path / "ledger.db"
    engines.open_new(path).dispose()
    with ledger_file.held(path):
        yield path


def refused(path):
    with pytest.raises(AlreadyRunning, match="another gateway holds"), ledger_file.held(path):
        pass
    return True


def test_nobody_else_holds_it_by_whatever_name(ledger, tmp_path):
    assert refused(ledger)
    (tmp_path / "alias.db").symlink_to(ledger)
    assert refused(tmp_path / "alias.db")
    (tmp_path / "folder").symlink_to(tmp_path)
    assert refused(tmp_path / "folder" / "ledger.db")
    (tmp_path / "hard.db").hardlink_to(ledger)
    assert refused(tmp_path / "hard.db")
    (tmp_path / "ledger.db.lock").unlink()
    assert refused(ledger)


def test_nobody_else_starts_on_what_stands_in_its_place(ledger):
    ledger.unlink()
    engines.open_new(ledger).dispose()
    assert refused(ledger)


def test_after_the_end_the_next_one_gets_it(tmp_path):
    path = tmp_path / "ledger.db"
    engines.open_new(path).dispose()
    for _ in range(2):
        with ledger_file.held(path):
            pass


def test_a_ledger_that_is_not_there_is_not_made(tmp_path):
    for way in (ledger_file.held, ledger_file.beside):
        with pytest.raises(FileNotFoundError), way(tmp_path / "nowhere.db"):
            pass
    assert not (tmp_path / "nowhere.db").exists()


def test_commands_work_beside_a_gateway_but_not_on_another_file_in_its_ledgers_place(ledger):
    with ledger_file.beside(ledger):
        pass
    ledger.unlink()
    engines.open_new(ledger).dispose()
    with pytest.raises(LedgerLost, match="not the ledger that the running gateway holds"), ledger_file.beside(ledger):
        pass


def test_a_file_replaced_while_it_is_being_opened_is_noticed(ledger):
    with ledger_file.beside(ledger) as file:
        ledger.unlink()
        engine = engines.open_new(ledger)
        try:
            with pytest.raises(LedgerLost, match="while it was being opened"):
                file.watch(engine)
        finally:
            engine.dispose()


HOLDER = """
import sys
from pathlib import Path
from gateway.ledger import engines, file, schema
path = Path(sys.argv[1])
engines.open_new(path).dispose()
with file.held(path) as held:
    engine = engines.open_writer(held.real)
    schema.upgrade(engine)
    held.watch(engine)
    with engine.begin() as connection:
        print("ready", flush=True)
        sys.stdin.read(1)
    engine.dispose()
"""


def test_the_lock_on_the_file_is_not_in_the_way_of_sqlites_own(tmp_path):
    """Nor does holding it drop them: another process still sees that somebody writes."""
    path = tmp_path / "ledger.db"
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as holder:
        try:
            assert holder.stdout.readline() == "ready\n"
            assert refused(path)
            with closing(sqlite3.connect(path, timeout=0, isolation_level=None)) as other:
                other.execute("select count(*) from counter").fetchone()
                with pytest.raises(sqlite3.OperationalError, match="locked"):
                    other.execute("begin immediate")
        finally:
            holder.communicate("x", timeout=60)
    assert holder.returncode == 0
    with ledger_file.held(path):
        pass
