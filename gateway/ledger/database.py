"""Opening the ledger's database, and every difference between SQL engines.

SQLite runs with a write-ahead log flushed at every commit (`synchronous=FULL`): NORMAL may lose the last commits at
power loss, and a commit here means money. pysqlite's own transaction handling is switched off and BEGIN IMMEDIATE is
sent by us, so that a write lock is taken when a batch starts and never half way through.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from enum import Enum
from pathlib import Path
from urllib.parse import quote

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import ConnectionPoolEntry

BUSY_TIMEOUT_MS = 200
"""How long one BEGIN waits for another writer: below the 250 ms a lane keeps back for its commit."""

CACHE_KIB = 16_384


_NO_ROOM = (
    sqlite3.SQLITE_IOERR_WRITE,  # a quota that is used up
    sqlite3.SQLITE_IOERR_SHMSIZE,  # no room for the index of the write-ahead log
)
"""Results that mean a full disk without being SQLITE_FULL."""


class StorageTrouble(Enum):
    """What a failed database call means for the caller."""

    BUSY = "another process holds the database"
    FULL = "the disk is full"
    UNREADABLE = "the database file cannot be read or written"
    STOPPED = "the gateway is stopping"
    OTHER = "the database refused the statement"


def open_new(path: Path) -> Engine:
    """The engine of the one writer of a ledger that is being made: creates the file and its folder.

    For `gateway.ledger.incarnation` alone: whatever else opens a ledger finds one, or says that there is none.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    return _writing(path, "rwc")


def open_writer(path: Path) -> Engine:
    """The engine of the one writer. Never makes a file: an empty ledger at a wrong path would sell into nothing."""
    return _writing(path, "rw")


def _writing(path: Path, mode: str) -> Engine:
    engine = create_engine(
        f"sqlite:///file:{quote(str(path))}?mode={mode}&uri=true",
        pool_size=1,
        max_overflow=0,
        connect_args={"check_same_thread": False},
    )
    event.listen(engine, "connect", _prepare_writer)
    event.listen(engine, "begin", _begin_immediate)
    return engine


def open_eraser(path: Path) -> Engine:
    """As `open_writer`, and what it deletes or overwrites is gone from the file: SQLite fills it with zeros.

    What the write-ahead log still holds of it goes with `forget_log`.
    """
    engine = open_writer(path)
    event.listen(engine, "connect", _overwrite_deleted)
    return engine


def forget_log(engine: Engine) -> bool:
    """Take over the whole write-ahead log and empty it; False while a reader still needs it, which passes by itself."""
    with engine.connect() as connection:
        driver = connection.connection.driver_connection
        if driver is None:
            raise RuntimeError("the connection has no driver connection")
        busy, _, _ = driver.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        return not busy


def open_reader(path: Path) -> Engine:
    """An engine that can only read; readers never wait for the writer."""
    engine = create_engine(
        f"sqlite:///file:{quote(str(path))}?mode=ro&uri=true",
        pool_size=2,
        max_overflow=0,
        connect_args={"check_same_thread": False},
    )
    event.listen(engine, "connect", _prepare_reader)
    event.listen(engine, "begin", _begin_snapshot)
    return engine


@contextmanager
def without_foreign_keys(engine: Engine) -> Iterator[Connection]:
    """One transaction in which tables may be rebuilt: references are checked once, at its end.

    SQLite changes a column by making the table anew, and dropping the old one would count as deleting what others refer
    to; the switch can only be turned outside a transaction.
    """
    with engine.connect() as connection:
        driver = connection.connection.driver_connection
        if driver is None:
            raise RuntimeError("the connection has no driver connection")
        driver.execute("PRAGMA foreign_keys=OFF")
        try:
            with connection.begin():
                yield connection
                broken = connection.exec_driver_sql("PRAGMA foreign_key_check").first()
                if broken is not None:
                    raise RuntimeError(f"a row of {broken[0]} refers to a row of {broken[2]} that does not exist")
        finally:
            driver.execute("PRAGMA foreign_keys=ON")


def trouble_of(error: DBAPIError) -> StorageTrouble:
    """Classify what the driver said. By SQLite's result code, never by message text."""
    cause = error.orig
    code = getattr(cause, "sqlite_errorcode", None)
    if not isinstance(code, int):
        return StorageTrouble.OTHER
    primary = code & 0xFF
    if primary in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return StorageTrouble.BUSY
    if primary == sqlite3.SQLITE_FULL or code in _NO_ROOM:
        return StorageTrouble.FULL
    if primary in (
        sqlite3.SQLITE_IOERR,
        sqlite3.SQLITE_CANTOPEN,
        sqlite3.SQLITE_READONLY,
        sqlite3.SQLITE_CORRUPT,
        sqlite3.SQLITE_NOTADB,
        sqlite3.SQLITE_PERM,
    ):
        return StorageTrouble.UNREADABLE
    return StorageTrouble.OTHER


def _prepare_writer(connection: sqlite3.Connection, _record: ConnectionPoolEntry) -> None:
    connection.isolation_level = None
    for pragma in (
        f"busy_timeout={BUSY_TIMEOUT_MS}",
        "journal_mode=WAL",
        "synchronous=FULL",
        "foreign_keys=ON",
        f"cache_size=-{CACHE_KIB}",
    ):
        connection.execute(f"PRAGMA {pragma}")


def _overwrite_deleted(connection: sqlite3.Connection, _record: ConnectionPoolEntry) -> None:
    connection.execute("PRAGMA secure_delete=ON")


def _prepare_reader(connection: sqlite3.Connection, _record: ConnectionPoolEntry) -> None:
    connection.isolation_level = None
    connection.execute(f"PRAGMA busy_timeout={BUSY_TIMEOUT_MS}")
    connection.execute("PRAGMA query_only=ON")


def _begin_immediate(connection: Connection) -> None:
    """On the driver's connection: every commit pays for it, and SQLAlchemy's way costs as much as the whole rest."""
    driver = connection.connection.driver_connection
    if driver is None:
        raise RuntimeError("the connection has no driver connection")
    try:
        driver.execute("BEGIN IMMEDIATE")
    except sqlite3.Error as error:
        raise DBAPIError.instance("BEGIN IMMEDIATE", None, error, sqlite3.Error, dialect=connection.dialect) from error


def _begin_snapshot(connection: Connection) -> None:
    """Everything read on one connection until its end is of one state. pysqlite alone begins at the first write."""
    connection.exec_driver_sql("BEGIN")
