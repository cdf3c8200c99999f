"""A whole copy of a ledger in one file, right also while a gateway writes to it.

The copy is of one moment: SQLite's backup runs under a read transaction, which a writer never waits for. It is written
in steps to a temporary name, checked, flushed and only then given its name; it needs no write-ahead log beside it and
can be read from a medium that cannot be written. Only its owner may read it.
"""

from __future__ import annotations

import os
import sqlite3
import tempfile
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from errno import EEXIST
from pathlib import Path
from typing import Final, TypeAlias

from sqlalchemy.exc import DBAPIError

from gateway.ledger.database import BUSY_TIMEOUT_MS

PAGES_A_STEP: Final = 256
"""Pages copied between two calls of `progress`: 1 MiB, a few milliseconds of a disk."""

Progress: TypeAlias = Callable[[int, int], None]
"""Told after each step how many pages of how many are copied. May rest, to leave the disk to others."""


class CopyDamaged(Exception):
    """The copy does not pass SQLite's own check, so the ledger would not either; names the first finding."""


@dataclass(frozen=True, slots=True)
class Copied:
    """What a copy holds."""

    path: Path
    size_bytes: int
    journal_number: int
    """Newest row of the journal; 0 where there is none."""
    journal_head: str | None
    """Its digest, hexadecimal."""


def nothing(_done: int, _total: int) -> None:
    """Progress that nobody wants to see."""


def copy(source: Path, target: Path, progress: Progress = nothing) -> Copied:
    """Copy the ledger at `source` as it stands now.

    Raises FileExistsError where something stands at `target`, OSError, DBAPIError, CopyDamaged; then nothing is left.
    """
    if target.exists() or target.is_symlink():
        raise FileExistsError(EEXIST, "there is a file already; a backup never overwrites", str(target))
    try:
        with closing(sqlite3.connect(f"{source.resolve().as_uri()}?mode=ro", uri=True, isolation_level=None)) as opened:
            opened.execute(f"PRAGMA busy_timeout={BUSY_TIMEOUT_MS}")
            # Kept until the end: a backup that lets go of its moment between two steps begins anew after each commit.
            opened.execute("BEGIN")
            opened.execute("SELECT count(*) FROM sqlite_master").fetchone()
            return write(opened, target, progress)
    except sqlite3.Error as error:
        raise DBAPIError.instance("backup", None, error, sqlite3.Error) from error


def write(opened: sqlite3.Connection, target: Path, progress: Progress = nothing) -> Copied:
    """Copy an open database; what stands at `target` is replaced in one step. Raises OSError, sqlite3.Error,
    CopyDamaged."""
    handle, name = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent)  # mode 0600
    os.close(handle)
    temporary = Path(name)
    try:
        number, head = _fill(opened, temporary, progress)
        size_bytes = _flush(temporary)
        temporary.replace(target)
    finally:
        for left in (temporary, *(Path(f"{name}{end}") for end in ("-journal", "-wal", "-shm"))):
            left.unlink(missing_ok=True)
    _flush(target.parent)
    return Copied(target, size_bytes, number, head)


def _fill(opened: sqlite3.Connection, temporary: Path, progress: Progress) -> tuple[int, str | None]:
    """Journal number and head of what was copied and found whole."""
    with closing(sqlite3.connect(temporary, isolation_level=None)) as copied:
        opened.backup(copied, pages=PAGES_A_STEP, progress=lambda _, left, total: progress(total - left, total))
        copied.execute("PRAGMA journal_mode=DELETE")
        (found,) = copied.execute("PRAGMA integrity_check(1)").fetchone()
        if found != "ok":
            raise CopyDamaged(found)
        row = copied.execute("SELECT number, chain FROM journal ORDER BY number DESC LIMIT 1").fetchone()
        return (0, None) if row is None else (row[0], row[1].hex())


def _flush(path: Path) -> int:
    """Make a file or a folder durable; its size."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
        return os.fstat(handle).st_size
    finally:
        os.close(handle)
