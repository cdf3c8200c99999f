"""Backup of a ledger: a whole copy in one file, right also while a gateway writes to it.

The copy is of one moment: it runs under a read transaction, which a writer never waits for. It is written
in steps to a temporary name, checked, flushed and only then given its name; it needs no write-ahead log beside it and
can be read from a medium that cannot be written. Only its owner may read it.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from errno import EEXIST
from pathlib import Path
from typing import Final, TypeAlias

from sqlalchemy import Connection, select

from gateway.ledger import engines, tables

PAGES_A_STEP: Final = 256
"""Pages copied between two calls of `progress`: 1 MiB, a few milliseconds of a disk."""

_NEWEST = select(tables.journal.c.number, tables.journal.c.chain).order_by(tables.journal.c.number.desc()).limit(1)

Progress: TypeAlias = Callable[[int, int], None]
"""Function told after each step how many pages of how many are copied. May rest, to leave the disk to others."""


class CopyDamaged(Exception):
    """Damage of a copy that fails SQLite's own check, as the ledger would, too; names the first finding."""


@dataclass(frozen=True, slots=True)
class Copied:
    """Result of a copy."""

    path: Path
    size_bytes: int
    journal_number: int
    """Newest row of the journal; 0 where there is none."""
    journal_head: str | None
    """Digest of that row, hexadecimal."""


def nothing(_done: int, _total: int) -> None:
    """Ignore the progress."""


def copy(source: Path, target: Path, progress: Progress = nothing) -> Copied:
    """Copy the ledger at `source` as it stands now.

    Raises FileExistsError where something stands at `target`, OSError, DBAPIError, CopyDamaged; then nothing is left.
    """
    if target.exists() or target.is_symlink():
        raise FileExistsError(EEXIST, "there is a file already; a backup never overwrites", str(target))
    engine = engines.open_reader(source.resolve())
    try:
        with engine.connect() as connection:
            # Kept until the end: a backup that lets go of its moment between two steps begins anew after each commit.
            connection.execute(_NEWEST).first()
            return write(connection, target, progress)
    finally:
        engine.dispose()


def write(connection: Connection, target: Path, progress: Progress = nothing) -> Copied:
    """Copy an open ledger; what stands at `target` is replaced in one step. Raises OSError, DBAPIError, CopyDamaged."""
    handle, name = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent)  # mode 0600
    os.close(handle)
    temporary = Path(name)
    try:
        damage = engines.copy_into(connection, temporary, progress, PAGES_A_STEP)
        if damage is not None:
            raise CopyDamaged(damage)
        number, head = _newest(temporary)
        size_bytes = _flush(temporary)
        temporary.replace(target)
    finally:
        for left in (temporary, *(Path(f"{name}{end}") for end in ("-journal", "-wal", "-shm"))):
            left.unlink(missing_ok=True)
    _flush(target.parent)
    return Copied(target, size_bytes, number, head)


def _newest(copied: Path) -> tuple[int, str | None]:
    """Read journal number and head of a copy."""
    engine = engines.open_reader(copied)
    try:
        with engine.connect() as connection:
            row = connection.execute(_NEWEST).first()
            return (0, None) if row is None else (row.number, row.chain.hex())
    finally:
        engine.dispose()


def _flush(path: Path) -> int:
    """Make a file or a folder durable; returns its size."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
        return os.fstat(handle).st_size
    finally:
        os.close(handle)
