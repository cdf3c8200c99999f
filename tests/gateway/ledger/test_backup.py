"""A copy of the ledger: of one moment, whole, private, never over another file."""

import sqlite3
from contextlib import closing

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from gateway.ledger import backup, engines
from gateway.ledger.writer import Committer
from hardware.bench.chain_key import KEYS
from hardware.bench.clocks import StillClock
from tests.gateway.ledger.empty import open_empty


class Source:
    """A ledger of some size, whose newest rows stand in its log alone."""

    def __init__(self, path):
        self.path = path
        self.engine = open_empty(path)
        self.committer = Committer(self.engine, StillClock(1), keys=KEYS)
        for _ in range(20):
            self.add()

    def add(self):
        self.committer.commit([lambda tx: tx.note("backup", "b" * 4000, "x" * 60)])

    def newest(self):
        with self.engine.connect() as connection:
            return connection.execute(text("select number, chain from journal order by number desc")).first()


@pytest.fixture
def source(tmp_path):
    source = Source(tmp_path / "ledger.db")
    yield source
    source.engine.dispose()


def journal(path):
    with closing(sqlite3.connect(f"file:{path}?immutable=1", uri=True)) as connection:
        return connection.execute("select count(*) from journal").fetchone()[0]


def test_a_copy_is_of_one_moment_however_much_is_written_meanwhile(source, tmp_path, monkeypatch):
    """A backup that let go of its moment between two steps would begin anew with every commit, and never end."""
    monkeypatch.setattr(backup, "PAGES_A_STEP", 5)
    number, head = source.newest()
    steps = []

    def progress(done, total):
        steps.append((done, total))
        assert len(steps) < 1000, "it never ends"
        source.add()

    copied = backup.copy(source.path, tmp_path / "copy.db", progress)
    assert len(steps) > 5
    assert [done for done, _ in steps] == sorted(done for done, _ in steps), "it began anew"
    assert len({total for _, total in steps}) == 1
    assert (copied.journal_number, copied.journal_head) == (number, head.hex())
    assert journal(copied.path) == number == source.newest().number - len(steps)


def test_a_copy_is_one_private_file_that_can_be_read_where_nothing_can_be_written(source, tmp_path):
    (tmp_path / "out").mkdir()
    copied = backup.copy(source.path, tmp_path / "out" / "copy.db")
    assert [path.name for path in copied.path.parent.iterdir()] == ["copy.db"]
    assert copied.path.stat().st_mode & 0o777 == 0o600
    assert copied.path.stat().st_size == copied.size_bytes
    with closing(sqlite3.connect(copied.path)) as connection:
        assert connection.execute("pragma journal_mode").fetchone() == ("delete",)


def test_a_copy_never_overwrites(source, tmp_path):
    for there in (tmp_path / "there.db", source.path):
        there.touch()
        before = there.read_bytes()
        with pytest.raises(FileExistsError, match="never overwrites"):
            backup.copy(source.path, there)
        assert there.read_bytes() == before
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
    with pytest.raises(FileExistsError):
        backup.copy(source.path, tmp_path / "dangling")


def test_a_damaged_ledger_gives_no_copy(source, tmp_path):
    source.engine.dispose()
    with source.path.open("r+b") as file:
        file.seek(3 * 4096)
        file.write(b"\xa5" * 4096 * 8)
    (tmp_path / "out").mkdir()
    with pytest.raises((backup.CopyDamaged, DBAPIError)):
        backup.copy(source.path, tmp_path / "out" / "copy.db")
    assert list((tmp_path / "out").iterdir()) == []


def test_nothing_is_left_of_a_copy_that_fails(source, tmp_path):
    (tmp_path / "out").mkdir()

    def progress(_done, _total):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        backup.copy(source.path, tmp_path / "out" / "copy.db", progress)
    assert list((tmp_path / "out").iterdir()) == []
    with pytest.raises(DBAPIError) as missing:
        backup.copy(tmp_path / "nowhere.db", tmp_path / "out" / "copy.db")
    assert engines.trouble_of(missing.value) is engines.StorageTrouble.UNREADABLE


def test_what_has_no_journal_is_no_ledger_to_copy(tmp_path):
    with closing(sqlite3.connect(tmp_path / "other.db")) as connection:
        connection.execute("create table debit (id)")
    with pytest.raises(DBAPIError, match="journal"):
        backup.copy(tmp_path / "other.db", tmp_path / "copy.db")
    assert [path.name for path in tmp_path.iterdir()] == ["other.db"]
