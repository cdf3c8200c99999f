"""Dialogue of one vehicle with the antenna: each report is answered once, and the answer asks for the next one."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import replace
from typing import TypeVar

from gateway.model.clock import Clock
from gateway.points.ports import Report
from protocols.rsu.messages import (
    Continue,
    DebitResult,
    LaneMessage,
    ObuReport,
    RsuMessage,
    Stop,
    StopType,
    TacResult,
    UserReport,
    VehicleReport,
    WriteResult,
)

VEHICLE_REPORTS = (ObuReport, VehicleReport, UserReport, DebitResult, WriteResult, TacResult)

R = TypeVar("R", bound=RsuMessage)
log = logging.getLogger(__name__)


class Gone(Exception):
    """End of a visit: the vehicle stopped answering before anything was asked of its card, and nothing is to decide."""


class Dialogue:
    """Dialogue with the report in hand, its answer, and the time that all of it takes. Made for one first report."""

    def __init__(
        self, lane: str, first: Report, inbox: asyncio.Queue[Report], *, deadline_s: float, clock: Clock
    ) -> None:
        """`inbox`: this vehicle's further reports. `deadline_s` counts from the first one."""
        self._lane = lane
        self._inbox = inbox
        self._clock = clock
        self._report = first
        self._answered = False
        self._started = first.at
        self.deadline = first.at + deadline_s
        """Deadline, monotonic second."""
        self.factor = bytes(8)
        """Diversification factor of the tag's issuer; zero until it is known, as after a restart of the antenna."""
        self._asked_at: float | None = None
        self._radio_s = 0.0

    @property
    def obu_id(self) -> bytes:
        """OBU id of the tag that all this is about."""
        message = self._report.message
        if not isinstance(message, VEHICLE_REPORTS):
            raise TypeError("a visit's reports are about one OBU")
        return message.obu_id

    @property
    def up_to_date(self) -> bool:
        """True when the report in hand was read from the card after the last purchase order had arrived."""
        return self._report.up_to_date

    async def ask(self, order: LaneMessage, *wanted: type[R]) -> R:
        """Answer the report in hand and wait for the next one of this vehicle.

        Raises `Gone` when the deadline passes, or when the antenna starts over with this OBU; that new report is then
        left for the lane.
        """
        self._answer(order)
        while True:
            left = self.deadline - self._clock.monotonic()
            if left <= 0:
                raise Gone
            try:
                async with asyncio.timeout(left):
                    report = await self._inbox.get()
            except TimeoutError as error:
                raise Gone from error
            message = report.message
            if isinstance(message, wanted):
                if self._asked_at is not None:
                    self._radio_s += max(0.0, report.at - self._asked_at)
                self._report, self._answered = report, False
                return message
            if isinstance(message, ObuReport):
                self._inbox.put_nowait(report)
                raise Gone
            log.info("%s: %s out of turn, skipped", self._lane, type(message).__name__)

    async def read_user(self) -> UserReport:
        """Read tag and card, in one report or, where the dialect has a step for the vehicle, in two."""
        step: VehicleReport | UserReport = await self.ask(self.onward(), VehicleReport, UserReport)
        if isinstance(step, UserReport):
            return step
        if step.error:
            return UserReport(step.obu_id, step.error, trans_type=0, station=b"")
        user = await self.ask(self.onward(), UserReport)
        return replace(user, vehicle_file=step.vehicle_file)

    def onward(self) -> Continue:
        """Make a C1: go on with this vehicle."""
        return Continue(self.obu_id, self.factor)

    def acknowledge(self) -> None:
        """Acknowledge the report, which is durable: the antenna need not tell it again."""
        if not self._answered:
            self._answer(self.onward())

    def stop(self, kind: StopType) -> None:
        """Send a C2: no more with this vehicle."""
        now = int(self._clock.utcnow().timestamp())
        self._answer(Stop(self.obu_id, kind, now))

    def close(self) -> None:
        """Close, all is durable: acknowledge a result of the card; after anything else search for the next tag."""
        if isinstance(self._report.message, DebitResult | WriteResult | TacResult):
            self.acknowledge()
        elif not self._answered:
            self.stop(StopType.SEARCH_AGAIN)

    def let_go(self) -> None:
        """End with the vehicle undecided. A result of its card stays unanswered: it is not stored, and comes again."""
        if not self._answered and not isinstance(self._report.message, DebitResult | TacResult):
            self.stop(StopType.SEARCH_AGAIN)

    def time_left(self) -> float:
        """Seconds to the deadline, never less than 0."""
        return max(0.0, self.deadline - self._clock.monotonic())

    def spent_us(self) -> tuple[int, int]:
        """Microseconds since the first report, and of those the ones spent waiting for the antenna."""
        return int((self._clock.monotonic() - self._started) * 1e6), int(self._radio_s * 1e6)

    def _answer(self, order: LaneMessage) -> None:
        self._report.answer(order)
        self._answered = True
        self._asked_at = self._clock.monotonic()
