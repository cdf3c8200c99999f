"""Timings of passages: stored in the ledger later than the decision, so that they never delay it."""

from __future__ import annotations

import contextlib
from collections import deque

from gateway.debit.engine import DebitEngine, Timing
from gateway.ledger.writer import StorageUnavailable
from gateway.model.clock import Clock

WAITING_MAX = 1000
"""Timings waiting to be stored; beyond it the oldest are lost, which costs no money."""

STORE_EVERY_S = 1.0


class Timings:
    """Timings not stored yet."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._waiting: deque[Timing] = deque(maxlen=WAITING_MAX)

    def note(self, timing: Timing) -> None:
        """Keep a timing, to be stored soon."""
        self._waiting.append(timing)

    async def run(self, engine: DebitEngine) -> None:
        """Store the waiting timings again and again, for ever."""
        while True:
            await self._clock.sleep(STORE_EVERY_S)
            await self.store(engine, patient=True)

    async def store(self, engine: DebitEngine, *, patient: bool) -> None:
        """Store the waiting timings once, a patient caller's with a commit that something else needs; they are lost
        where the ledger does not store."""
        batch = [self._waiting.popleft() for _ in range(len(self._waiting))]
        with contextlib.suppress(StorageUnavailable):
            await engine.note_timings(batch, patient=patient)
