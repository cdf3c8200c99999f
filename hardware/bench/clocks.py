"""Clocks that no machine keeps: one stands still, for rows that shall always be the same, one goes when looked at."""

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


class SteppingClock(StillClock):
    """Clock on which `step_us` microseconds pass whenever it is looked at: months of records in minutes."""

    def __init__(self, now_us: int, step_us: int) -> None:
        super().__init__(now_us)
        self._begun_us = now_us
        self._step_us = step_us

    def monotonic(self) -> float:
        """Seconds since its begin."""
        return (self._now_us - self._begun_us) / 1e6

    def utcnow(self) -> datetime:
        """Aware UTC, later each time."""
        self._now_us += self._step_us
        return super().utcnow()
