"""Ledgers for benches, simulations and tests: made as `etcgw ledger create` makes one, with a mark in memory."""

from __future__ import annotations

from pathlib import Path

from gateway.ledger import incarnation
from gateway.ledger.incarnation import Birth
from gateway.ledger.marks import MarkState
from gateway.model.clock import Clock
from hardware.bench.chain_key import KEYS

ID = f"{1:032x}"
"""Of the first life of every ledger of a bench: none leaves it."""


def new_ledger(path: Path, clock: Clock) -> MarkState:
    """Make an empty ledger; what its mark says."""
    return incarnation.make(path, clock, KEYS, Birth(ID, "for a bench", "bench"))
