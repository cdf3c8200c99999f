"""Waiting for a state of the site. Nothing on the bench waits for a time to pass."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

LOOK_S = 0.03
"""Pause between two looks."""

STUCK_S = 300.0
"""Time after which what has not come has got stuck, also on a machine that is slow and busy: no run waits for it."""


async def wait_until(holds: Callable[[], bool], limit_s: float = STUCK_S) -> bool:
    """Look until it holds; False when `limit_s` seconds have gone by. The limit is for what has got stuck."""
    end = time.monotonic() + limit_s
    while not holds():
        if time.monotonic() > end:
            return False
        await asyncio.sleep(LOOK_S)
    return True
