"""A clock that only a test turns, for drivers that wait."""

import asyncio
import heapq
import itertools
from datetime import UTC, datetime


class HandClock:
    """Time stands still until `advance` moves it."""

    def __init__(self):
        self.now = 1000.0
        self._sleepers = []
        self._order = itertools.count()

    def monotonic(self):
        return self.now

    def utcnow(self):
        return datetime.fromtimestamp(self.now, UTC)

    async def sleep(self, seconds):
        wake = asyncio.get_running_loop().create_future()
        heapq.heappush(self._sleepers, (self.now + max(0.0, seconds), next(self._order), wake))
        await wake

    async def advance(self, seconds):
        end = self.now + seconds
        await settle()
        while self._sleepers and self._sleepers[0][0] <= end:
            self.now, _, wake = heapq.heappop(self._sleepers)
            if not wake.done():
                wake.set_result(None)
            await settle()
        self.now = end


async def settle():
    for _ in range(20):
        await asyncio.sleep(0)


async def finish(clock, operation, step_s=0.05, steps=400):
    """Turn the clock until the operation ends; give its result or error."""
    task = asyncio.create_task(operation)
    for _ in range(steps):
        await settle()
        if task.done():
            return await task
        await clock.advance(step_s)
    raise AssertionError("the operation does not end")
