"""A toll lane: vehicles come as reports of an antenna, leave through a barrier, and pay in between.

The lane owns the vehicles it is dealing with (one `Trade` each, by OBU id) and the memory of those it has just dealt
with. What one vehicle goes through is in `gateway.points.toll.trade`. A lane never stops because of one vehicle: a
trade that fails is logged, counted, shown to the attendant, and the next report is read.
"""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Coroutine
from dataclasses import dataclass, replace
from typing import Any

from gateway.debit.claims import Decision
from gateway.model.passage import Barrier, Outcome
from gateway.points.etc.dialogue import VEHICLE_REPORTS
from gateway.points.ports import Antenna, OutputFault, Report
from gateway.points.toll.services import LaneServices
from gateway.points.toll.trade import Trade
from protocols.rsu.messages import DebitResult, ObuReport, Stop, StopType

TRADES_MAX = 8
"""Vehicles dealt with at once: a guided lane has one at the barrier and a few in the antenna's reach."""

PATIENT_MAX = 4
"""And so many more that are known to be there: dealt with a moment ago, or turned away and reported again. Tags that
report once and never again can fill the lane, and not these places."""

TURNED_AWAY_MAX = 1024
"""Tags remembered as turned away."""

WAS_SILENT_S = 30.0
"""A tag that the lane took and that said nothing more has no right to those places for so long: others are tried."""

CROWD_QUIET_S = 10.0
"""A crowd is said once; it is over when nobody was turned away for so long."""

REMEMBERED_MAX = 64
"""Vehicles remembered after they were dealt with: more than a queue that reaches back to the road."""

LIFT_TRY_S = 1.0
LIFT_TRIES_MAX = 30
"""A barrier that cannot be reached is tried for half a minute; by then the vehicle has been seen again or waved on."""

OUTPUT_TIMEOUT_S = 1.0

REPEAT_QUIET_S = 30.0
"""A vehicle that paid and stands still has the barrier lifted for it at most this often."""

DRAIN_EXTRA_S = 2.0
"""An orderly stop waits this much longer than a passage may take: for its commit and its barrier."""

INBOX_MAX = 16
"""Reports of one vehicle that wait: a trade has five steps, each repeated at most three times."""

log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Remembered:
    """A vehicle that was dealt with."""

    decision: Decision
    quiet_until: float
    tries: int


class TollLane:
    """Runs one lane for ever."""

    def __init__(self, services: LaneServices, antenna: Antenna) -> None:
        self._services = services
        self._antenna = antenna
        self._trades: dict[bytes, asyncio.Queue[Report]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._remembered: OrderedDict[bytes, _Remembered] = OrderedDict()
        self._turned_away: OrderedDict[bytes, None] = OrderedDict()
        self._was_silent: OrderedDict[bytes, float] = OrderedDict()
        """Tags the lane took for nothing, and when that ended (monotonic seconds)."""
        self._crowded_at = float("-inf")
        self._lifting: dict[int, bytes] = {}
        """OBUs whose opening is not confirmed yet, by record."""
        self._unconfirmed: int | None = None
        """Newest record whose opening the board did not confirm."""
        self._closing = False
        self._log = logging.getLogger(f"{__name__}.{services.settings.name}")

    async def run(self) -> None:
        """Read reports until cancelled. Call `drain` before, so that no vehicle is left in the middle of its trade."""
        try:
            async for report in self._antenna.reports():
                self._route(report)
        finally:
            for task in self._tasks:
                task.cancel()

    async def drain(self) -> None:
        """Begin with no more vehicles and wait for those under way; `run` must be running. For an orderly stop."""
        self._closing = True
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=self._services.settings.deadline_s + DRAIN_EXTRA_S)

    # --- routing --------------------------------------------------------------------------------------------------

    def _route(self, report: Report) -> None:
        message = report.message
        if not isinstance(message, VEHICLE_REPORTS):
            return
        inbox = self._trades.get(message.obu_id)
        if inbox is not None:
            if inbox.full():
                self._crowded("an OBU reports faster than it can be served; a report is dropped")
                return
            inbox.put_nowait(report)
        elif isinstance(message, ObuReport):
            self._begin(report, message)
        elif isinstance(message, DebitResult):
            if self._has_room(message.obu_id):
                self._spawn(message.obu_id, self._late_result(report, message))
            else:
                # Unanswered it comes again.
                self._turn_away(message.obu_id)
        else:
            # Its trade is over; the antenna is told to search again, and the vehicle starts anew.
            report.answer(Stop(message.obu_id, StopType.SEARCH_AGAIN))

    def _begin(self, report: Report, message: ObuReport) -> None:
        remembered = self._remembered.get(message.obu_id)
        quiet = remembered is not None and report.at < remembered.quiet_until
        if quiet or self._closing:
            report.answer(Stop(message.obu_id, StopType.SEARCH_AGAIN))
            return
        if not self._has_room(message.obu_id):
            self._turn_away(message.obu_id)
            report.answer(Stop(message.obu_id, StopType.SEARCH_AGAIN))
            return
        self._spawn(message.obu_id, self._serve(report, message))

    def _has_room(self, obu_id: bytes) -> bool:
        """Whether one more vehicle is taken: few at once, and a few more of those that are known to be there."""
        silent_at = self._was_silent.get(obu_id, float("-inf"))
        silent = self._services.clock.monotonic() - silent_at < WAS_SILENT_S
        there = obu_id in self._remembered or (obu_id in self._turned_away and not silent)
        return len(self._trades) < TRADES_MAX + (PATIENT_MAX if there else 0)

    def _turn_away(self, obu_id: bytes) -> None:
        self._turned_away.pop(obu_id, None)
        self._turned_away[obu_id] = None
        if len(self._turned_away) > TURNED_AWAY_MAX:
            self._turned_away.popitem(last=False)
        self._crowded(f"more than {TRADES_MAX} vehicles at once; some wait for the next search")

    def _crowded(self, text: str) -> None:
        """Say it once a crowd."""
        now = self._services.clock.monotonic()
        if now - self._crowded_at >= CROWD_QUIET_S:
            self._log.warning(text)
        self._crowded_at = now

    def _spawn(self, obu_id: bytes, work: Coroutine[Any, Any, None]) -> None:
        inbox: asyncio.Queue[Report] = asyncio.Queue(INBOX_MAX)
        self._trades[obu_id] = inbox
        self._turned_away.pop(obu_id, None)
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(lambda done: self._ended(obu_id, inbox, done))

    def _ended(self, obu_id: bytes, inbox: asyncio.Queue[Report], task: asyncio.Task[None]) -> None:
        """A trade is over, one way or the other; what it did not read is routed anew."""
        self._tasks.discard(task)
        if self._trades.get(obu_id) is inbox:
            del self._trades[obu_id]
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
        trade = Trade(self._services, report, self._trades[message.obu_id])
        remembered = self._remembered.get(message.obu_id)
        tries = 0 if remembered is None or remembered.decision.outcome is not Outcome.REFUSED else remembered.tries
        decision = await trade.run(message)
        if decision is None:
            self._was_silent.pop(message.obu_id, None)
            self._was_silent[message.obu_id] = self._services.clock.monotonic()
            if len(self._was_silent) > TURNED_AWAY_MAX:
                self._was_silent.popitem(last=False)
            return
        self._was_silent.pop(message.obu_id, None)
        await self._follow(message.obu_id, decision, trade, tries + 1)

    async def _late_result(self, report: Report, message: DebitResult) -> None:
        """A B5 whose passage was already decided as unknown: the proof came after all."""
        trade = Trade(self._services, report, self._trades[message.obu_id])
        decision = await trade.take_late_result(message)
        if decision is not None:
            await self._follow(message.obu_id, decision, trade, 1)

    async def _follow(self, obu_id: bytes, decision: Decision, trade: Trade, tries: int) -> None:
        """Barrier and lights after a committed decision, and what the lane remembers of the vehicle."""
        barrier_us = await self._act(obu_id, decision)
        if trade.timing is not None:
            self._services.note_timing(replace(trade.timing, record_no=decision.record_no, barrier_us=barrier_us))
        self._remember(obu_id, decision, tries)

    async def _act(self, obu_id: bytes, decision: Decision) -> int | None:
        """Follow the committed row; microseconds until the board confirmed, None when it did not."""
        begun = self._services.clock.monotonic()
        outputs = self._services.outputs
        lifted_us: int | None = None
        try:
            if decision.barrier is not Barrier.OPEN:
                await outputs.show_stop(timeout_s=OUTPUT_TIMEOUT_S)
                if self._unconfirmed is None:
                    self._services.report_fault("barrier", None)
                return None
            if decision.outcome is Outcome.REPEAT and obu_id in self._lifting.values():
                self._log.info("record %d: its vehicle's opening is under way", decision.record_no)
                return None
            await outputs.open_barrier(decision.record_no, timeout_s=OUTPUT_TIMEOUT_S)
            lifted_us = int((self._services.clock.monotonic() - begun) * 1e6)
            self._confirmed()
            await outputs.show_go(timeout_s=OUTPUT_TIMEOUT_S)
        except OutputFault as fault:
            self._log.error("record %d: %s", decision.record_no, fault)
            self._services.report_fault("barrier", str(fault))
            # Lifted once is enough: a lamp that fails must not lift it again for the vehicle behind.
            if decision.barrier is Barrier.OPEN and lifted_us is None:
                self._lift_later(obu_id, decision, fault)
        return lifted_us

    def _confirmed(self) -> None:
        self._unconfirmed = None
        self._services.report_fault("barrier", None)

    def _lift_later(self, obu_id: bytes, decision: Decision, fault: OutputFault) -> None:
        """The board does not confirm: see to it while the vehicle waits, without holding up the next one."""
        record_no = self._unconfirmed = decision.record_no
        self._lifting[record_no] = obu_id
        task = asyncio.get_running_loop().create_task(self._keep_lifting(record_no, fault))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        task.add_done_callback(lambda _: self._lifting.pop(record_no))

    async def _keep_lifting(self, record_no: int, fault: OutputFault) -> None:
        """Order again what certainly did nothing; where it may have lifted, wait to hear what became of it."""
        for _ in range(LIFT_TRIES_MAX):
            certain = fault.certain
            try:
                if certain:
                    await self._services.clock.sleep(LIFT_TRY_S)
                    await self._services.outputs.open_barrier(record_no, timeout_s=OUTPUT_TIMEOUT_S)
                else:
                    await self._services.outputs.confirm_opening(record_no)
            except OutputFault as next_fault:
                fault = next_fault
                if not (certain or fault.certain):
                    break
            else:
                self._confirmed()
                self._log.info("record %d: barrier lifted late", record_no)
                return
        self._log.error("record %d: barrier not confirmed, for the attendant: %s", record_no, fault)
        self._services.report_fault("barrier", f"record {record_no}: {fault}")

    def _remember(self, obu_id: bytes, decision: Decision, tries: int) -> None:
        """How long the vehicle is left alone. One whose money is not settled is looked at again at once."""
        settings = self._services.settings
        now = self._services.clock.monotonic()
        again_at_once = decision.outcome is Outcome.UNKNOWN and decision.barrier is Barrier.CLOSED
        retried = decision.outcome is Outcome.REFUSED and decision.debit_id is not None
        if again_at_once:
            # Also by the report that ended the trade: the antenna has started over and waits for its answer.
            quiet_until = float("-inf")
        elif retried and tries < settings.attempts_max:
            quiet_until = now
        elif decision.outcome in (Outcome.PAID, Outcome.OWED, Outcome.DEBT, Outcome.ENTERED):
            # Seen once more it becomes a repeat, which is recorded; only then is it left alone.
            quiet_until = now
        elif decision.outcome is Outcome.REPEAT:
            quiet_until = now + max(settings.quiet_s, REPEAT_QUIET_S)
        else:
            quiet_until = now + settings.quiet_s
        self._remembered.pop(obu_id, None)
        self._remembered[obu_id] = _Remembered(decision, quiet_until, tries)
        while len(self._remembered) > REMEMBERED_MAX:
            self._remembered.popitem(last=False)
