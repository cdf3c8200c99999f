"""Restore: puts a backup in the place of a ledger, so that nobody takes it for the newest one.

The ledger that is replaced is kept aside, with its write-ahead log. The mark stays: it knows how far the box had come
and which numbers were given out, and notes that a backup stands there now. So a start refuses it until a person adopts
it, even if nothing was lost.
"""

from __future__ import annotations

import os
import shutil
from contextlib import ExitStack, suppress
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Final

from gateway.ledger import engines, file, marks
from gateway.ledger.incarnation import Place
from gateway.ledger.marks import MarkTrouble
from gateway.model.clock import to_us

SIDES: Final = ("-wal", "-shm")


class NotALedger(Exception):
    """File to be restored is no whole ledger; names the problem."""


def restore(backup: Path, place: Place, at: datetime) -> Path | None:
    """Restore a copy of `backup` as the ledger; returns where the replaced ledger was put, None where there was none.

    For a stopped gateway: raises AlreadyRunning. Raises NotALedger, OSError and `MarkUnwritable`, and then the ledger
    is where it was.
    """
    place.ledger.parent.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        if place.ledger.exists():
            stack.enter_context(file.held(place.ledger))
        copied = Path(f"{place.ledger.resolve()}.restoring")
        try:
            _copy(backup, copied)
            problem = engines.problem_of_file(copied, ("journal", "chain"))
            if problem is not None:
                raise NotALedger(problem)
            _note(place, at)
            aside = _put_aside(place.ledger.resolve(), at)
            copied.rename(place.ledger.resolve())
        finally:
            copied.unlink(missing_ok=True)
        marks.flush_folder(place.ledger.resolve().parent)
    return aside


def _copy(backup: Path, target: Path) -> None:
    """Copy the file as it is, durable; its owner alone may read it."""
    target.unlink(missing_ok=True)
    target.touch(0o600)
    with backup.open("rb") as source, target.open("wb") as copied:
        shutil.copyfileobj(source, copied)
        copied.flush()
        os.fsync(copied.fileno())


def _note(place: Place, at: datetime) -> None:
    """Note it in the mark, before the file: a restore cut short is refused as well. Without a mark nothing starts."""
    with suppress(MarkTrouble), marks.locked(place.mark):
        state = marks.read(place.mark)
        marks.write(place.mark, replace(state, restored_us=to_us(at)))


def _put_aside(ledger: Path, at: datetime) -> Path | None:
    """Rename the ledger with its log; the log first, for SQLite would apply it to whatever stands there."""
    if not any(Path(f"{ledger}{side}").exists() for side in ("", *SIDES)):
        return None
    aside = Path(f"{ledger}.replaced-{at:%Y%m%dT%H%M%S%fZ}")
    for side in (*SIDES, ""):
        with suppress(FileNotFoundError):
            Path(f"{ledger}{side}").rename(f"{aside}{side}")
    return aside
