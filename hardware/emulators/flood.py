"""Flood of unrequested bytes, put on a line at a steady rate. Its length is bounded by the command that wants it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from itertools import islice

FLOOD_MS_MAX = 60_000
"""Longest flood of one command: a run goes on after it, even when its bench forgets it."""
PER_S_MAX = 10_000
"""Pieces a second: above what one process of a bench can make and send."""
TURN_S = 0.01
"""Time between two portions; small against all that a flood is to disturb."""
PORTION_S = 0.1
"""Most that one portion makes up for: after a standstill there is no wave."""


async def paced(pieces: Iterator[bytes], per_s: int) -> AsyncIterator[bytes]:
    """Portions of `pieces`, together `per_s` of them a second, without end. What a late user has missed is left out."""
    loop = asyncio.get_running_loop()
    begun, had = loop.time(), 0
    while True:
        await asyncio.sleep(TURN_S)
        due = int((loop.time() - begun) * per_s)
        count, had = min(due - had, max(1, int(per_s * PORTION_S))), due
        if count:
            yield b"".join(islice(pieces, count))
