"""Commits of a running gateway as the bench makes use of them: it is frozen after one of them, or kept from any."""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from hardware.bench.load.usage import commits
from hardware.bench.processes import Program
from hardware.bench.waiting import STUCK_S, wait_until

GLANCE_S: Final = 0.0005
"""Pause between two looks for a commit: a change that follows on its answer takes some milliseconds."""


class WriteLock:
    """Lock of the database against every commit, as a backup program gone wrong would hold it."""

    def __init__(self, ledger: Path) -> None:
        self._ledger = ledger
        self._held: sqlite3.Connection | None = None

    def take(self) -> None:
        """Wait for the lock, and hold it."""
        self._held = sqlite3.connect(self._ledger, isolation_level=None, timeout=STUCK_S)
        self._held.execute("BEGIN IMMEDIATE")

    def let_go(self) -> None:
        """Let go of the lock; nothing where it is not held."""
        if self._held is not None:
            self._held.rollback()
            self._held.close()
            self._held = None


async def freeze_when(program: Program, ledger: Path, holds: Callable[[], bool]) -> bool:
    """Freeze the program after each of its commits, until one is found after which it holds: it stays frozen then.

    False when it did not come to hold. One that lets two commits follow each other faster than can be looked is frozen
    after the second of them.
    """
    end = time.monotonic() + STUCK_S
    seen = -1  # what is committed already may be enough
    while time.monotonic() < end:
        if commits(ledger) != seen:
            program.freeze()
            await wait_until(lambda: not program.running or _is_frozen(program))
            if holds():
                return True
            seen = commits(ledger)
            program.thaw()
        await asyncio.sleep(GLANCE_S)
    return False


def _is_frozen(program: Program) -> bool:
    """True when the signal has stopped it: that takes a moment."""
    state = (Path("/proc") / str(program.pid) / "stat").read_text().rpartition(")")[2].split()[0]
    return state == "T"
