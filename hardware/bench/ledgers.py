"""Ledgers for benches, simulations and tests: made as `etcgw ledger create` makes one, with a mark in memory."""

from __future__ import annotations

import tempfile
from functools import lru_cache
from pathlib import Path

from gateway.ledger import incarnation
from gateway.ledger.incarnation import Birth
from gateway.ledger.marks import MarkState
from gateway.model.clock import Clock
from hardware.bench.chain_key import KEYS

ID = f"{1:032x}"
"""Of the first life of every ledger of a bench: none leaves it."""


def new_ledger(path: Path, clock: Clock) -> MarkState:
    """Make an empty ledger; what its mark says. Raises FileExistsError.

    Thousands are made in one process, and those of one moment are the same: each is a copy of the first.
    """
    body, state = _first(_Moment(clock))
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("xb") as new:
        new.write(body)
    path.chmod(0o600)
    return state


class _Moment:
    """What a ledger takes from a clock; equal where that is."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self._read = (clock.utcnow(), clock.monotonic(), clock.boot)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Moment) and self._read == other._read

    def __hash__(self) -> int:
        return hash(self._read)


@lru_cache(maxsize=8)
def _first(moment: _Moment) -> tuple[bytes, MarkState]:
    """A ledger's file, and what its mark says."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "ledger.db")
        state = incarnation.make(path, moment.clock, KEYS, Birth(ID, "for a bench", "bench"))
        return path.read_bytes(), state
