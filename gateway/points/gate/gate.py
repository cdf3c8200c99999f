"""Gate: a barrier and its lamps, which follow committed decisions and nothing else.

At most one lift a decision, unless it is proved that the first did not happen. An opening that the board does not
confirm is seen to in the background, so that it holds up nobody behind.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from gateway.debit.claims import Decision
from gateway.model.clock import Clock
from gateway.model.passage import PassageOutcome, Release
from gateway.points.ports import GateOutputs, OutputFault

LIFT_TRY_S = 1.0
LIFT_TRIES_MAX = 30
"""Tries to lift an unreachable barrier, for half a minute; by then the vehicle was seen again or waved on."""

OUTPUT_TIMEOUT_S = 1.0


class Gate:
    """Gate with one barrier."""

    def __init__(
        self, name: str, outputs: GateOutputs, clock: Clock, report_fault: Callable[[str, str | None], None]
    ) -> None:
        self._outputs = outputs
        self._clock = clock
        self._report_fault = report_fault
        self._tasks: set[asyncio.Task[None]] = set()
        self._lifting: dict[int, bytes] = {}
        """Vehicles that wait for an opening that is not confirmed yet, by record."""
        self._unconfirmed: int | None = None
        """Newest record whose opening the board did not confirm."""
        self._log = logging.getLogger(f"{__name__}.{name}")

    @property
    def under_way(self) -> frozenset[asyncio.Task[None]]:
        """Tasks of openings that are not confirmed yet."""
        return frozenset(self._tasks)

    async def follow(self, who: bytes, decision: Decision) -> int | None:
        """Follow the committed row; microseconds until the board confirmed, None when it did not."""
        begun = self._clock.monotonic()
        outputs = self._outputs
        lifted_us: int | None = None
        try:
            if decision.release is not Release.GO:
                await outputs.show_stop(timeout_s=OUTPUT_TIMEOUT_S)
                if self._unconfirmed is None:
                    self._report_fault("barrier", None)
                return None
            if decision.outcome is PassageOutcome.REPEAT and who in self._lifting.values():
                self._log.info("record %d: its vehicle's opening is under way", decision.record_no)
                return None
            await outputs.open_barrier(decision.record_no, timeout_s=OUTPUT_TIMEOUT_S)
            lifted_us = int((self._clock.monotonic() - begun) * 1e6)
            self._confirmed()
            await outputs.show_go(timeout_s=OUTPUT_TIMEOUT_S)
        except OutputFault as fault:
            self._log.error("record %d: %s", decision.record_no, fault)
            self._report_fault("barrier", str(fault))
            # Lifted once is enough: a lamp that fails must not lift it again for the vehicle behind.
            if decision.release is Release.GO and lifted_us is None:
                self._lift_later(who, decision, fault)
        return lifted_us

    def _confirmed(self) -> None:
        self._unconfirmed = None
        self._report_fault("barrier", None)

    def _lift_later(self, who: bytes, decision: Decision, fault: OutputFault) -> None:
        """Lift later, since the board does not confirm: while the vehicle waits, without holding up the next one."""
        record_no = self._unconfirmed = decision.record_no
        self._lifting[record_no] = who
        task = asyncio.get_running_loop().create_task(self._keep_lifting(record_no, fault))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        task.add_done_callback(lambda _: self._lifting.pop(record_no))

    async def _keep_lifting(self, record_no: int, fault: OutputFault) -> None:
        """Order again what certainly did nothing; where it may have lifted, wait until its end is known."""
        for _ in range(LIFT_TRIES_MAX):
            certain = fault.certain
            try:
                if certain:
                    await self._clock.sleep(LIFT_TRY_S)
                    await self._outputs.open_barrier(record_no, timeout_s=OUTPUT_TIMEOUT_S)
                else:
                    await self._outputs.confirm_opening(record_no)
            except OutputFault as next_fault:
                fault = next_fault
                if not (certain or fault.certain):
                    break
            else:
                self._confirmed()
                self._log.info("record %d: barrier lifted late", record_no)
                return
        self._log.error("record %d: barrier not confirmed, for the attendant: %s", record_no, fault)
        self._report_fault("barrier", f"record {record_no}: {fault}")
