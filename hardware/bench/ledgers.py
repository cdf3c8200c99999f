"""Ledgers for benches, simulations and tests: made as `etcgw ledger create` makes one, with a mark in memory."""

from __future__ import annotations

import tempfile
from datetime import datetime
from pathlib import Path

from gateway.ledger import incarnation
from gateway.ledger.incarnation import Birth
from gateway.ledger.marks import MarkState
from gateway.model.clock import Clock
from hardware.bench.chain_key import KEYS

ID = f"{1:032x}"
"""Id of the first life of every ledger of a bench: none leaves it."""


def new_ledger(path: Path, clock: Clock) -> MarkState:
    """Make an empty ledger; returns what its mark says. Raises FileExistsError.

    Thousands are made in one process, and those of one moment are the same: each is a copy of the first.
    """
    moment = (clock.utcnow(), clock.monotonic(), clock.boot)
    if moment not in _MADE:
        _MADE[moment] = _make(clock)
    body, state = _MADE[moment]
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("xb") as new:
        new.write(body)
    path.chmod(0o600)
    return state


_MADE: dict[tuple[datetime, float, str], tuple[bytes, MarkState]] = {}
"""Files with what their marks say, by all that a ledger takes from a clock."""


def _make(clock: Clock) -> tuple[bytes, MarkState]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "ledger.db")
        state = incarnation.make(path, clock, KEYS, Birth(ID, "for a bench", "bench"))
        return path.read_bytes(), state
