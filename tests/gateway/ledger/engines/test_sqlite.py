"""SQLite as the ledger's engine, and that nothing beside it knows which one it is."""

import re
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import text

import gateway
from gateway.ledger import engines, schema


@pytest.fixture
def engine(tmp_path):
    engine = engines.open_new(tmp_path / "folder" / "ledger.db")
    yield engine
    engine.dispose()


def test_nothing_but_the_engine_speaks_its_dialect():
    """Status lists are files of their own."""
    folder = Path(gateway.__file__).parent
    special = re.compile(r"sqlite|pragma|wal_checkpoint", re.IGNORECASE)
    found = [
        f"{path.relative_to(folder)}: {line.strip()}"
        for path in folder.rglob("*.py")
        if not {"engines", "payers", "migrations"} & set(path.parts)
        for line in path.read_text(encoding="utf-8").splitlines()
        if special.search(line.partition("#")[0].replace("SQLite", ""))
    ]
    assert found == []


@pytest.mark.parametrize("pragma", ["journal_mode", "synchronous", "foreign_keys"])
def test_the_writer_is_set_for_money(engine, pragma):
    expected = {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1}
    with engine.connect() as connection:
        assert connection.exec_driver_sql(f"PRAGMA {pragma}").scalar_one() == expected[pragma]


def test_a_batch_takes_the_write_lock_when_it_begins(engine, tmp_path):
    schema.upgrade(engine)
    other = sqlite3.connect(tmp_path / "folder" / "ledger.db", timeout=0)
    with engine.begin(), closing(other), pytest.raises(sqlite3.OperationalError, match="locked"):
        other.execute("BEGIN IMMEDIATE")


def test_a_reader_cannot_write_and_sees_one_state_throughout(engine, tmp_path):
    schema.upgrade(engine)
    reader = engines.open_reader(tmp_path / "folder" / "ledger.db")
    with reader.connect() as connection:
        assert connection.execute(text("select count(*) from counter")).scalar_one() == 0
        with engine.begin() as writing:
            writing.execute(text("insert into counter values ('n', 1)"))
        assert connection.execute(text("select count(*) from counter")).scalar_one() == 0
    with reader.connect() as connection:
        assert connection.execute(text("select count(*) from counter")).scalar_one() == 1
        with pytest.raises(Exception, match=r"readonly|query_only"):
            connection.execute(text("delete from counter"))
    reader.dispose()
