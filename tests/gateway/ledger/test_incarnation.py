"""How a ledger is made, and which files a start takes for the newest it has seen."""

import random
import sqlite3
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from gateway.ledger import engines, incarnation, marks, restoring
from gateway.ledger import file as ledger_file
from gateway.ledger.batches import Committer
from gateway.ledger.file import AlreadyRunning
from gateway.ledger.incarnation import Birth, LedgerRefused, Place
from gateway.ledger.verify import verify
from gateway.model.clock import to_us
from gateway.model.ids import new_id
from hardware.bench.chain_key import KEYS

AT = datetime(2026, 11, 23, tzinfo=UTC)


class Clock:
    boot = "boot"

    def __init__(self, now=AT):
        self.now = now

    def utcnow(self):
        return self.now

    def monotonic(self):
        return 1.0

    async def sleep(self, seconds):
        raise NotImplementedError


@pytest.fixture
def place(tmp_path):
    return Place(tmp_path / "data" / "ledger.db", tmp_path / "elsewhere" / "mark")


def birth(reason="new site"):
    return incarnation.born(Clock(), random.Random(1), reason=reason, actor="wang")


@pytest.fixture
def made(place):
    incarnation.create(place, Clock(), KEYS, birth())
    return place


def write(place, *, follow=True, events=3):
    """Some rows of the journal, as a gateway or a command writes them."""
    engine = engines.open_writer(place.ledger)
    committer = Committer(engine, Clock(), keys=KEYS, mark=incarnation.stand(place, engine))
    for n in range(events):
        committer.commit([lambda tx, n=n: tx.note("test", str(n), "happened")])
    if follow:
        committer.follow()
    engine.dispose()


def code(place):
    with pytest.raises(LedgerRefused) as refused:
        incarnation.stand(place)
    return refused.value.reason


def copy_of(place):
    target = place.ledger.with_suffix(".copy")
    with closing(sqlite3.connect(place.ledger)) as source, closing(sqlite3.connect(target)) as copied:
        source.backup(copied)
    return target


def put(place, copy):
    for side in ("-wal", "-shm"):
        place.ledger.with_name(place.ledger.name + side).unlink(missing_ok=True)
    copy.replace(place.ledger)


def test_a_new_ledger_stands_and_holds_together(made):
    assert marks.read(made.mark).incarnation_number == 1
    mark = incarnation.stand(made)
    assert mark.path == made.mark
    reader = engines.open_reader(made.ledger)
    assert [f for check in verify(reader, KEYS) for f in check.findings] == []
    with reader.connect() as connection:
        row = connection.exec_driver_sql("select number, reason, actor from incarnation").one()
    reader.dispose()
    assert tuple(row) == (1, "new site", "wang")
    assert made.ledger.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("left", ["ledger", "mark"])
def test_no_second_one_is_made_where_anything_is_left(made, left):
    (made.mark if left == "ledger" else made.ledger).unlink()
    with pytest.raises(LedgerRefused) as refused:
        incarnation.create(made, Clock(), KEYS, birth())
    assert refused.value.reason == "ledger_exists"
    assert not (made.mark if left == "ledger" else made.ledger).exists()


def test_none_begins_while_the_clock_is_dead():
    with pytest.raises(LedgerRefused) as refused:
        incarnation.born(Clock(datetime(2000, 1, 1, tzinfo=UTC)), random.Random(1), reason="r", actor="a")
    assert refused.value.reason == "clock_bad"


def test_whatever_opens_a_ledger_makes_none(place):
    engine = engines.open_writer(place.ledger)
    with pytest.raises(Exception, match="unable to open"):
        engine.connect()
    assert not place.ledger.exists()


def test_a_mark_that_trails_is_no_trouble(made):
    write(made, follow=False)
    incarnation.stand(made)
    write(made)
    incarnation.stand(made)


def test_nothing_there(place):
    assert code(place) == "ledger_missing"
    assert not place.ledger.parent.exists()


def test_a_mark_without_its_ledger(made):
    made.ledger.unlink()
    assert code(made) == "ledger_gone"


def test_a_ledger_without_its_mark(made):
    made.mark.unlink()
    assert code(made) == "mark_missing"
    made.mark.write_text("{}")
    assert code(made) == "mark_unreadable"


def test_an_older_copy(made):
    write(made)
    copy = copy_of(made)
    write(made, events=1)
    put(made, copy)
    assert code(made) == "ledger_behind"


def test_a_copy_that_went_on_by_itself(made):
    """As long as the lost one, or longer: the row the mark knows is another."""
    write(made)
    copy = copy_of(made)
    state = marks.read(made.mark)
    write(made, events=1)
    newest = marks.read(made.mark)
    put(made, copy)
    marks.write(made.mark, state)
    engine = engines.open_writer(made.ledger)
    committer = Committer(engine, Clock(), keys=KEYS, mark=incarnation.stand(made, engine))
    for n in range(4):
        committer.commit([lambda tx, n=n: tx.note("test", str(n), "happened otherwise")])
    engine.dispose()
    marks.write(made.mark, newest)
    assert code(made) == "ledger_rewritten"


def test_the_ledger_of_another_site(made, tmp_path):
    other = Place(tmp_path / "other.db", tmp_path / "other.mark")
    incarnation.create(other, Clock(), KEYS, Birth(new_id(to_us(AT), random.Random(2)), "other site", "li"))
    put(made, other.ledger)
    assert code(made) == "ledger_other"


def test_a_ledger_from_before_there_were_lives(made):
    with closing(sqlite3.connect(made.ledger)) as connection:
        connection.execute("drop table incarnation")
        connection.commit()
    assert code(made) == "ledger_other"


# --- backups ------------------------------------------------------------------------------------------------------


def test_a_restored_backup_is_known_to_be_one(made):
    """Even the newest: whether anything was lost is not for the file to say."""
    write(made)
    copy = copy_of(made)
    aside = restoring.restore(copy, made, AT)
    assert code(made) == "ledger_restored"
    assert aside is not None
    assert aside.exists()
    with closing(sqlite3.connect(aside)) as replaced, closing(sqlite3.connect(made.ledger)) as restored:
        count = "select count(*) from journal"
        assert replaced.execute(count).fetchone() == restored.execute(count).fetchone()


def test_a_backup_in_the_place_of_nothing(made):
    copy = copy_of(made)
    made.ledger.unlink()
    assert restoring.restore(copy, made, AT) is None
    assert code(made) == "ledger_restored"
    made.mark.unlink()
    restoring.restore(copy, made, AT)
    assert code(made) == "mark_missing"


def test_nothing_is_restored_while_a_gateway_runs(made):
    copy = copy_of(made)
    before = made.ledger.read_bytes()
    with ledger_file.held(made.ledger), pytest.raises(AlreadyRunning):
        restoring.restore(copy, made, AT)
    assert made.ledger.read_bytes() == before
    incarnation.stand(made)


@pytest.mark.parametrize("content", [b"", b"no database" * 500, None])
def test_what_is_no_ledger_is_not_restored(made, tmp_path, content):
    other = tmp_path / "other"
    if content is None:
        with closing(sqlite3.connect(other)) as connection:
            connection.execute("create table t (x)")
            connection.commit()
    else:
        other.write_bytes(content)
    with pytest.raises(restoring.NotALedger):
        restoring.restore(other, made, AT)
    incarnation.stand(made)
    assert sorted(p.name for p in made.ledger.parent.iterdir() if "restoring" in p.name) == []


def test_a_restore_that_is_cut_short_is_refused_as_well(made, monkeypatch):
    copy = copy_of(made)
    monkeypatch.setattr(restoring, "_put_aside", _cut)
    with pytest.raises(RuntimeError, match="power"):
        restoring.restore(copy, made, AT)
    assert code(made) == "ledger_restored"
    state = marks.read(made.mark)
    marks.write(made.mark, replace(state, restored_us=None))
    incarnation.stand(made)


def _cut(*_):
    raise RuntimeError("power cut")
