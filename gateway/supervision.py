"""Supervised tasks: one that fails is reported, counted and started again; the others are not affected."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

from gateway.model.clock import Clock

PAUSE_FIRST_S, PAUSE_MAX_S = 0.5, 30.0
"""Pauses before a failed task starts again; they double, so that a hopeless one does not fill the log."""

STEADY_S = 60.0
"""Time of running after which a task has earned the short pause again."""

log = logging.getLogger(__name__)


class Supervisor:
    """Runs named tasks for ever."""

    def __init__(self, clock: Clock, report: Callable[[str, bool, str], None]) -> None:
        self._clock = clock
        self._report = report
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self.restarts: dict[str, int] = {}

    def start(self, name: str, work: Callable[[], Awaitable[object]]) -> None:
        """Keep `work()` running under this name."""
        self._tasks[name] = asyncio.get_running_loop().create_task(self._keep(name, work), name=name)

    async def stop(self, *names: str) -> None:
        """Cancel these tasks, or all, and wait until they have ended."""
        chosen = [self._tasks.pop(name) for name in (names or tuple(self._tasks)) if name in self._tasks]
        for task in chosen:
            task.cancel()
        await asyncio.gather(*chosen, return_exceptions=True)

    async def _keep(self, name: str, work: Callable[[], Awaitable[object]]) -> None:
        pause_s = PAUSE_FIRST_S
        while True:
            begun = self._clock.monotonic()
            try:
                await work()
                problem = "ended unexpectedly"
            except Exception as error:
                log.exception("task %s failed", name)
                problem = f"{type(error).__name__}: {error}"
            self.restarts[name] = self.restarts.get(name, 0) + 1
            self._report(f"task/{name}", False, f"{problem}; starting again, {self.restarts[name]} so far")
            pause_s = PAUSE_FIRST_S if self._clock.monotonic() - begun > STEADY_S else min(pause_s * 2, PAUSE_MAX_S)
            await self._clock.sleep(pause_s)
            self._report(f"task/{name}", True, "running again")
