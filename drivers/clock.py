"""The clock every driver is given: monotonic seconds for deadlines, aware UTC for records."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime, timedelta
from functools import cached_property
from pathlib import Path
from typing import Protocol
from uuid import uuid4

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_THIS_PROCESS = uuid4().hex


class Clock(Protocol):
    """Time as an argument, so that a simulation can set it."""

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

    @cached_property
    def boot(self) -> str:
        """The kernel's name for this start of the machine; where it has none, one for this process alone."""
        try:
            return _BOOT_ID.read_text(encoding="ascii").strip().replace("-", "") or _THIS_PROCESS
        except OSError:
            return _THIS_PROCESS

    def monotonic(self) -> float:
        """Seconds since some point in the past. Under asyncio this is the clock of the event loop too."""
        return time.monotonic()

    def utcnow(self) -> datetime:
        """Aware UTC from the operating system."""
        return datetime.now(UTC)

    async def sleep(self, seconds: float) -> None:
        """Wait on the running event loop."""
        await asyncio.sleep(seconds)


class SetClock(SystemClock):
    """Real clocks, of which the one for records was set by somebody: for benches, which try clocks that are wrong."""

    def __init__(self, says: datetime) -> None:
        self._says = says
        self._since = self.monotonic()

    def utcnow(self) -> datetime:
        """Time it was set to, plus the time since."""
        return self._says + timedelta(seconds=self.monotonic() - self._since)
