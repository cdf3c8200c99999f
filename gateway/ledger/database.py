"""Opening the ledger's database, and every difference between SQL engines.

SQLite runs with a write-ahead log flushed at every commit (`synchronous=FULL`): NORMAL may lose the last commits at
power loss, and a commit here means money. pysqlite's own transaction handling is switched off and BEGIN IMMEDIATE is
sent by us, so that a write lock is taken when a batch starts and never half way through.
"""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from enum import Enum
from pathlib import Path
from urllib.parse import quote

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import ConnectionPoolEntry, PoolProxiedConnection, QueuePool

BUSY_TIMEOUT_MS = 200
"""How long one BEGIN waits for another writer: below the 250 ms a lane keeps back for its commit."""

CACHE_KIB = 16_384


_NO_ROOM = (
    sqlite3.SQLITE_IOERR_WRITE,  # a quota that is used up
    sqlite3.SQLITE_IOERR_SHMSIZE,  # no room for the index of the write-ahead log
)
"""Results that mean a full disk without being SQLITE_FULL."""


log = logging.getLogger(__name__)


class StorageTrouble(Enum):
    """What a failed database call means for the caller."""

    BUSY = "another process holds the database"
    FULL = "the disk is full"
    UNREADABLE = "the database file cannot be read or written"
    LOST = "the database file is gone from its path, or another stands there"
    STOPPED = "the gateway is stopping"
    OTHER = "the database refused the statement"


def open_new(path: Path) -> Engine:
    """The engine of the one writer of a ledger that is being made: creates its folder and the file, which its owner
    alone may read.

    For `gateway.ledger.incarnation` and adoptions: whatever else opens a ledger finds one, or says that there is none.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch(0o600)
    return open_writer(path)


def open_writer(path: Path) -> Engine:
    """The engine of the one writer. Never makes a file: an empty ledger at a wrong path would sell into nothing."""
    engine = create_engine(
        f"sqlite:///file:{quote(str(path))}?mode=rw&uri=true",
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
    """Take over the whole write-ahead log and empty it; False while a reader still needs it, which passes by itself.

    Nobody can write while it is emptied, so what can be taken over beside writers is taken over before."""
    take_over_log(engine)
    with engine.connect() as connection:
        busy, _, _ = driver_of(connection.connection).execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        return not busy


def take_over_log(engine: Engine, *, wait_ms: int | None = None) -> None:
    """Bring the rows that stand in the write-ahead log alone into the file, as far as nobody's reading needs the log.

    With `wait_ms` it waits for readers so long, keeps writers out meanwhile, and empties the log; without, it waits for
    nobody and nobody for it. What stays is as durable as before, and is told in the log.
    """
    with engine.connect() as connection:
        driver = driver_of(connection.connection)
        try:
            if wait_ms is not None:
                driver.execute(f"PRAGMA busy_timeout={wait_ms}")
            mode = "PASSIVE" if wait_ms is None else "TRUNCATE"
            _, pages, taken_over = driver.execute(f"PRAGMA wal_checkpoint({mode})").fetchone()
        except sqlite3.Error as error:
            log.warning("the log of %s was not taken over: %s", engine.url.database, error)
            return
    if pages != taken_over:
        level = logging.INFO if wait_ms is None else logging.WARNING
        log.log(level, "%s is being read: its newest rows stand in its log alone", engine.url.database)


def open_all(engine: Engine) -> None:
    """Open every connection the engine may have, with the write-ahead log and its index."""
    pool = engine.pool
    if not isinstance(pool, QueuePool):
        raise TypeError("an engine of `open_writer` or `open_reader` has a pool of connections")
    with ExitStack() as stack:
        for _ in range(pool.size()):
            connection = stack.enter_context(engine.connect())
            driver_of(connection.connection).execute("SELECT count(*) FROM sqlite_master").fetchone()


def driver_of(connection: PoolProxiedConnection) -> sqlite3.Connection:
    """The driver's own connection."""
    driver = connection.driver_connection
    if not isinstance(driver, sqlite3.Connection):
        raise TypeError("the connection has no driver connection")
    return driver


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
