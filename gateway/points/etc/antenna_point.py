"""Charge point with an antenna: vehicles come as its reports, and each is served by a visit of its own.

The point owns the vehicles it is dealing with (one visit each, by OBU id) and the memory of those it has just dealt
with. What one vehicle goes through is in `gateway.points.etc.visit`. A point never stops because of one vehicle: a
visit that fails is logged, counted, shown to the attendant, and the next report is read.
"""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Coroutine
from dataclasses import dataclass, replace
from typing import Any, Protocol

from gateway.debit.claims import Decision
from gateway.model.passage import PassageOutcome, Release
from gateway.points.etc.crowd import Crowd
from gateway.points.etc.dialogue import VEHICLE_REPORTS
from gateway.points.etc.visit import Errand, EtcServices, EtcVisit
from gateway.points.ports import Antenna, Report
from protocols.rsu.messages import DebitResult, ObuReport, Stop, StopType

REMEMBERED_MAX = 64
"""Vehicles remembered after they were dealt with: more than a queue that reaches back to the road."""

REPEAT_QUIET_S = 30.0
"""Least seconds between two releases of a vehicle that paid and stands still."""

DRAIN_EXTRA_S = 2.0
"""Seconds an orderly stop waits longer than a visit may take: for its commit and its release."""

INBOX_MAX = 16
"""Reports of one vehicle that wait: a visit has five steps, each repeated at most three times."""


class Releaser(Protocol):
    """Releaser of vehicles: a gate, a nozzle."""

    @property
    def under_way(self) -> frozenset[asyncio.Task[None]]:
        """Tasks still under way for earlier decisions."""
        ...

    async def follow(self, who: bytes, decision: Decision) -> int | None:
        """Act on the committed row; microseconds until it was confirmed, None when it was not."""
        ...


@dataclass(slots=True)
class _Remembered:
    """Vehicle that was dealt with."""

    decision: Decision
    quiet_until: float
    tries: int


class AntennaPoint:
    """Runs one charge point for ever."""

    def __init__(self, services: EtcServices, antenna: Antenna, errand: Errand, releaser: Releaser) -> None:
        self._services = services
        self._antenna = antenna
        self._errand = errand
        self._releaser = releaser
        self._visits: dict[bytes, asyncio.Queue[Report]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._remembered: OrderedDict[bytes, _Remembered] = OrderedDict()
        self._log = logging.getLogger(f"{__name__}.{services.settings.name}")
        self._crowd = Crowd(services.clock, self._log)
        self._closing = False

    async def run(self) -> None:
        """Read reports until cancelled. Call `drain` before, so that no vehicle is left in the middle of its visit."""
        try:
            async for report in self._antenna.reports():
                self._route(report)
        finally:
            for task in (*self._tasks, *self._releaser.under_way):
                task.cancel()

    async def drain(self) -> None:
        """Drain: take no more vehicles and wait for those under way; `run` must be running. For an orderly stop."""
        self._closing = True
        under_way = self._tasks | self._releaser.under_way
        if under_way:
            await asyncio.wait(under_way, timeout=self._services.settings.deadline_s + DRAIN_EXTRA_S)

    # --- routing --------------------------------------------------------------------------------------------------

    def _route(self, report: Report) -> None:
        message = report.message
        if not isinstance(message, VEHICLE_REPORTS):
            return
        inbox = self._visits.get(message.obu_id)
        if inbox is not None:
            if inbox.full():
                self._crowd.say("an OBU reports faster than it can be served; a report is dropped")
                return
            inbox.put_nowait(report)
        elif isinstance(message, ObuReport):
            self._begin(report, message)
        elif isinstance(message, DebitResult):
            if self._has_room(message.obu_id):
                self._spawn(message.obu_id, self._late_result(report, message))
            else:
                # Unanswered it comes again.
                self._crowd.turn_away(message.obu_id)
        else:
            # Its visit is over; the antenna is told to search again, and the vehicle starts anew.
            report.answer(Stop(message.obu_id, StopType.SEARCH_AGAIN))

    def _begin(self, report: Report, message: ObuReport) -> None:
        remembered = self._remembered.get(message.obu_id)
        quiet = remembered is not None and report.at < remembered.quiet_until
        if quiet or self._closing:
            report.answer(Stop(message.obu_id, StopType.SEARCH_AGAIN))
            return
        if not self._has_room(message.obu_id):
            self._crowd.turn_away(message.obu_id)
            report.answer(Stop(message.obu_id, StopType.SEARCH_AGAIN))
            return
        self._spawn(message.obu_id, self._serve(report, message))

    def _has_room(self, obu_id: bytes) -> bool:
        return self._crowd.has_room(len(self._visits), obu_id, known=obu_id in self._remembered)

    def _spawn(self, obu_id: bytes, work: Coroutine[Any, Any, None]) -> None:
        inbox: asyncio.Queue[Report] = asyncio.Queue(INBOX_MAX)
        self._visits[obu_id] = inbox
        self._crowd.took(obu_id)
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(lambda done: self._ended(obu_id, inbox, done))

    def _ended(self, obu_id: bytes, inbox: asyncio.Queue[Report], task: asyncio.Task[None]) -> None:
        """End a visit; the reports it did not read are routed anew."""
        self._tasks.discard(task)
        if self._visits.get(obu_id) is inbox:
            del self._visits[obu_id]
        if task.cancelled():
            return
        error = task.exception()
        if error is None:
            self._services.report_fault("trade", None)
        else:
            self._log.error("a trade failed; the vehicle needs the attendant", exc_info=error)
            self._services.report_fault("trade", f"{type(error).__name__}: {error}")
        while not inbox.empty():
            self._route(inbox.get_nowait())

    # --- one vehicle ----------------------------------------------------------------------------------------------

    async def _serve(self, report: Report, message: ObuReport) -> None:
        visit = EtcVisit(self._services, self._errand, report, self._visits[message.obu_id])
        remembered = self._remembered.get(message.obu_id)
        tries = (
            0 if remembered is None or remembered.decision.outcome is not PassageOutcome.REFUSED else remembered.tries
        )
        decision = await visit.run(message)
        if decision is None:
            self._crowd.was_silent(message.obu_id)
            return
        self._crowd.spoke(message.obu_id)
        await self._follow(message.obu_id, decision, visit, tries + 1)

    async def _late_result(self, report: Report, message: DebitResult) -> None:
        """Bring in a B5 whose passage was already decided as unknown: the proof came after all."""
        visit = EtcVisit(self._services, self._errand, report, self._visits[message.obu_id])
        decision = await visit.take_late_result(message)
        if decision is not None:
            await self._follow(message.obu_id, decision, visit, 1)

    async def _follow(self, obu_id: bytes, decision: Decision, visit: EtcVisit, tries: int) -> None:
        """Release after a committed decision, and remember the vehicle."""
        barrier_us = await self._releaser.follow(obu_id, decision)
        if visit.timing is not None:
            self._services.note_timing(replace(visit.timing, record_no=decision.record_no, barrier_us=barrier_us))
        self._remember(obu_id, decision, tries)

    def _remember(self, obu_id: bytes, decision: Decision, tries: int) -> None:
        """Remember how long the vehicle is left alone. One whose money is not settled is looked at again at once."""
        settings = self._services.settings
        now = self._services.clock.monotonic()
        again_at_once = decision.outcome is PassageOutcome.UNKNOWN and decision.release is Release.STOP
        retried = decision.outcome is PassageOutcome.REFUSED and decision.debit_id is not None
        if again_at_once:
            # Also by the report that ended the visit: the antenna has started over and waits for its answer.
            quiet_until = float("-inf")
        elif retried and tries < settings.attempts_max:
            quiet_until = now
        elif decision.outcome in (
            PassageOutcome.PAID,
            PassageOutcome.OWED,
            PassageOutcome.DEBT,
            PassageOutcome.ENTERED,
        ):
            # Seen once more it becomes a repeat, which is recorded; only then is it left alone.
            quiet_until = now
        elif decision.outcome is PassageOutcome.REPEAT:
            quiet_until = now + max(settings.quiet_s, REPEAT_QUIET_S)
        else:
            quiet_until = now + settings.quiet_s
        self._remembered.pop(obu_id, None)
        self._remembered[obu_id] = _Remembered(decision, quiet_until, tries)
        while len(self._remembered) > REMEMBERED_MAX:
            self._remembered.popitem(last=False)
