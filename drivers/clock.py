"""The clock every driver is given: monotonic seconds for deadlines, aware UTC for records."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime
from typing import Protocol


class Clock(Protocol):
    """Time as an argument, so that a simulation can turn the hands."""

    def monotonic(self) -> float:
        """Seconds that only grow. Only differences mean something."""
        ...

    def utcnow(self) -> datetime:
        """Now, aware, UTC. May jump when the machine's clock is set."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Return after `seconds`; zero or less gives the other tasks one turn."""
        ...


class SystemClock:
    """The real clocks of this machine."""

    def monotonic(self) -> float:
        """Seconds since some point in the past. Under asyncio this is the clock of the event loop too."""
        return time.monotonic()

    def utcnow(self) -> datetime:
        """Aware UTC from the operating system."""
        return datetime.now(UTC)

    async def sleep(self, seconds: float) -> None:
        """Wait on the running event loop."""
        await asyncio.sleep(seconds)
