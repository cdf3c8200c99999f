"""SQLite as the ledger's engine.

It runs with a write-ahead log flushed at every commit (`synchronous=FULL`): NORMAL may lose the last commits at
power loss, and a commit here means money. pysqlite's own transaction handling is switched off and BEGIN IMMEDIATE is
sent by us, so that a write lock is taken when a batch starts and never half way through.
"""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

from sqlalchemy import Connection, Engine, Index, create_engine, event, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import ConnectionPoolEntry, QueuePool

from gateway.ledger.engines.trouble import StorageTrouble

BUSY_TIMEOUT_MS = 200
"""Longest wait of one BEGIN for another writer: below the 250 ms a lane keeps back for its commit."""

CACHE_KIB = 16_384

LOG_PAGES = 4_000
"""Pages of the write-ahead log after which the commit that wrote the last of them takes the log over itself, and it is
begun anew: 16 MB. A running ledger's log is taken over beside its commits long before; but a log that is never idle is
only begun anew by a writer, and grew to 86 MB where none did that."""

IN_ITS_KEY: Final[dict[str, Any]] = {"sqlite_with_rowid": False}
"""Option of a table whose rows stand in the tree of their key, instead of in one by a number that nobody asked for and
a second one from key to number: a page less to write for every row."""

_NO_ROOM = (
    sqlite3.SQLITE_IOERR_WRITE,  # a quota that is used up
    sqlite3.SQLITE_IOERR_SHMSIZE,  # no room for the index of the write-ahead log
)
"""Result codes that mean a full disk without being SQLITE_FULL."""


log = logging.getLogger(__name__)


def partial_index(name: str, *columns: str, where: str, unique: bool = False) -> Index:
    """Make an index over the rows alone that meet a condition."""
    return Index(name, *columns, sqlite_where=text(where), unique=unique)


# --- opening ----------------------------------------------------------------------------------------------------------


def open_new(path: Path) -> Engine:
    """Open the one writer's engine on a ledger that is being made: creates its folder and the file, which its owner
    alone may read.

    For `gateway.ledger.incarnation` and adoptions: whatever else opens a ledger finds one, or says that there is none.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch(0o600)
    return open_writer(path)


def open_writer(path: Path) -> Engine:
    """Open the one writer's engine. Never makes a file: an empty ledger at a wrong path would sell into nothing."""
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
    """Open a writer that overwrites with zeros what it deletes or changes, so that it is gone from the file.

    What the write-ahead log still holds of it goes with `forget_log`.
    """
    engine = open_writer(path)
    event.listen(engine, "connect", _overwrite_deleted)
    return engine


def open_all(engine: Engine) -> None:
    """Open every connection the engine may have, with the write-ahead log and its index."""
    pool = engine.pool
    if not isinstance(pool, QueuePool):
        raise TypeError("an engine of `open_writer` or `open_reader` has a pool of connections")
    with ExitStack() as stack:
        for _ in range(pool.size()):
            connection = stack.enter_context(engine.connect())
            _driver_of(connection).execute("SELECT count(*) FROM sqlite_master").fetchone()


def open_reader(path: Path) -> Engine:
    """Open an engine that can only read; readers never wait for the writer."""
    engine = create_engine(
        f"sqlite:///file:{quote(str(path))}?mode=ro&uri=true",
        pool_size=2,
        max_overflow=0,
        connect_args={"check_same_thread": False},
    )
    event.listen(engine, "connect", _prepare_reader)
    event.listen(engine, "begin", _begin_snapshot)
    return engine


def path_of(connection: Connection) -> Path:
    """Path of the database of a connection."""
    _, _, path = _driver_of(connection).execute("PRAGMA database_list").fetchone()
    return Path(path)


# --- the write-ahead log ----------------------------------------------------------------------------------------------


def log_pages_left(connection: Connection) -> int:
    """Bring the rows that stand in the write-ahead log alone into the file; returns the pages a reader still needs
    there. Raises DBAPIError."""
    with _as_dbapi_error("wal_checkpoint"):
        _, pages, taken_over = _driver_of(connection).execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
    return int(pages - taken_over)


def take_over_log(engine: Engine, *, wait_ms: int | None = None) -> None:
    """Take over the write-ahead log into the file, and report pages left to the program log; as durable as before.

    With `wait_ms` it waits for readers so long, keeps writers out meanwhile, and empties the log; without, it waits for
    nobody and nobody for it.
    """
    with engine.connect() as connection:
        driver = _driver_of(connection)
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


def forget_log(engine: Engine) -> bool:
    """Take over the whole write-ahead log and empty it; False while a reader still needs it, which passes by itself.

    Nobody can write while it is emptied, so what can be taken over beside writers is taken over before."""
    take_over_log(engine)
    with engine.connect() as connection:
        busy, _, _ = _driver_of(connection).execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        return not busy


# --- whole files ------------------------------------------------------------------------------------------------------


def copy_into(connection: Connection, path: Path, progress: Callable[[int, int], None], pages: int) -> str | None:
    """Copy the database of a connection into an empty file that needs no log; the first finding of SQLite's own check
    of the copy, None when it is whole. `progress` hears after so many `pages` how many of how many are copied.

    Raises DBAPIError."""
    with _as_dbapi_error("backup"), closing(sqlite3.connect(path, isolation_level=None)) as copied:
        _driver_of(connection).backup(copied, pages=pages, progress=lambda _, left, all_: progress(all_ - left, all_))
        copied.execute("PRAGMA journal_mode=DELETE")
        return _damage(copied)


def problem_of_file(path: Path, tables: Iterable[str]) -> str | None:
    """Problem of a file that nobody has open and that is no whole database with these tables; None when it is one."""
    try:
        with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro&immutable=1", uri=True)) as opened:
            damage = _damage(opened)
            known = {name for (name,) in opened.execute("SELECT name FROM sqlite_master")}
    except sqlite3.Error as error:
        return f"it is no database: {error}"
    if damage is not None:
        return f"it is damaged: {damage}"
    missing = [name for name in tables if name not in known]
    return f"it is no ledger: it has no {missing[0]}" if missing else None


def _damage(opened: sqlite3.Connection) -> str | None:
    (found,) = opened.execute("PRAGMA integrity_check(1)").fetchone()
    return None if found == "ok" else str(found)


def scratch(cache_kib: int) -> sqlite3.Connection:
    """Open a database for this process alone, gone when closed; what does not fit into its cache goes to the disk."""
    store = sqlite3.connect("", isolation_level=None)
    for pragma in ("journal_mode=off", "synchronous=off", f"cache_size=-{cache_kib}"):
        store.execute(f"PRAGMA {pragma}")
    return store


# --- changing tables --------------------------------------------------------------------------------------------------


@contextmanager
def without_foreign_keys(engine: Engine) -> Iterator[Connection]:
    """Run one transaction in which tables may be rebuilt: references are checked once, at its end.

    SQLite changes a column by making the table anew, and dropping the old one would count as deleting what others refer
    to; the switch can only be turned outside a transaction.
    """
    with engine.connect() as connection:
        driver = _driver_of(connection)
        driver.execute("PRAGMA foreign_keys=OFF")
        try:
            with connection.begin():
                yield connection
                broken = connection.exec_driver_sql("PRAGMA foreign_key_check").first()
                if broken is not None:
                    raise RuntimeError(f"a row of {broken[0]} refers to a row of {broken[2]} that does not exist")
        finally:
            driver.execute("PRAGMA foreign_keys=ON")


# --- trouble ----------------------------------------------------------------------------------------------------------


def trouble_of(error: DBAPIError) -> StorageTrouble:
    """Classify a driver's error by SQLite's result code, never by message text."""
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


@contextmanager
def _as_dbapi_error(statement: str) -> Iterator[None]:
    """Wrap the driver's error as SQLAlchemy's: code that judges trouble knows only those."""
    try:
        yield
    except sqlite3.Error as error:
        raise DBAPIError.instance(statement, None, error, sqlite3.Error) from error


# --- connections ------------------------------------------------------------------------------------------------------


def _driver_of(connection: Connection) -> sqlite3.Connection:
    """Get the driver's own connection."""
    driver = connection.connection.driver_connection
    if not isinstance(driver, sqlite3.Connection):
        raise TypeError("the connection has no driver connection")
    return driver


def _prepare_writer(connection: sqlite3.Connection, _record: ConnectionPoolEntry) -> None:
    connection.isolation_level = None
    for pragma in (
        f"busy_timeout={BUSY_TIMEOUT_MS}",
        "journal_mode=WAL",
        "synchronous=FULL",
        "foreign_keys=ON",
        f"cache_size=-{CACHE_KIB}",
        f"wal_autocheckpoint={LOG_PAGES}",
    ):
        connection.execute(f"PRAGMA {pragma}")


def _overwrite_deleted(connection: sqlite3.Connection, _record: ConnectionPoolEntry) -> None:
    connection.execute("PRAGMA secure_delete=ON")


def _prepare_reader(connection: sqlite3.Connection, _record: ConnectionPoolEntry) -> None:
    connection.isolation_level = None
    connection.execute(f"PRAGMA busy_timeout={BUSY_TIMEOUT_MS}")
    connection.execute("PRAGMA query_only=ON")


def _begin_immediate(connection: Connection) -> None:
    """Begin on the driver's connection: SQLAlchemy's way would cost every commit as much as the whole rest."""
    driver = _driver_of(connection)
    with _as_dbapi_error("BEGIN IMMEDIATE"):
        driver.execute("BEGIN IMMEDIATE")


def _begin_snapshot(connection: Connection) -> None:
    """Begin a read of one state until the connection's end. pysqlite alone begins at the first write."""
    connection.exec_driver_sql("BEGIN")
