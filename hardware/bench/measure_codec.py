"""Frames per second of the declared codec against hand-written `struct` for the same frame."""

from __future__ import annotations

import struct
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from protocols.rsu.registry import dialect_named

ROUNDS = 2_000
TRIES = 5

_B5 = struct.Struct(">B4sB6s7sBBB4sHII")
"""pcrsu-v3 B5 of 36 bytes."""


def measure(_folder: Path) -> list[dict[str, Any]]:
    """Decode and encode of one B5."""
    dialect = dialect_named("pcrsu-v3")
    data = bytes.fromhex("b599000001000199000000012026112310000009000111223344000700000009000b71b0")
    message = dialect.decode(data)
    values = _B5.unpack(data)
    rows = []
    for name, declared, by_hand in (
        ("decode B5", lambda: dialect.decode(data), lambda: _B5.unpack(data)),
        ("encode B5", lambda: dialect.encode(message), lambda: _B5.pack(*values)),
    ):
        ours, reference = _best(declared), _best(by_hand)
        rows.append({"what": name, "us_each": ours * 1e6, "times_bare_struct": ours / reference})
    return rows


def _best(work: Callable[[], object]) -> float:
    """Seconds of one call, best of several series: the others were disturbed."""
    best = float("inf")
    for _ in range(TRIES):
        begun = time.perf_counter()
        for _ in range(ROUNDS):
            work()
        best = min(best, (time.perf_counter() - begun) / ROUNDS)
    return best
