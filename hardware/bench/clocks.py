"""Clock that stands still: for rows that shall always be the same."""

from __future__ import annotations

from datetime import datetime

from gateway.model.clock import from_us


class StillClock:
    """One moment for ever, `now_us` UTC microseconds since 1970."""

    boot = "no machine"

    def __init__(self, now_us: int) -> None:
        self._now_us = now_us

    def monotonic(self) -> float:
        """Always the same second."""
        return 0.0

    def utcnow(self) -> datetime:
        """Aware UTC, always the same."""
        return from_us(self._now_us)

    async def sleep(self, seconds: float) -> None:
        """There is no later: nothing that waits may be given this clock."""
        raise RuntimeError(f"a clock that stands cannot wait {seconds} s")
