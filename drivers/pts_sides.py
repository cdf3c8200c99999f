"""Sides of a PTS-2 controller, each as a charge point uses it: whether its pump answers, readings, commands.

A side is `Offline` while its controller is down, and while the controller says that its pump does not answer. Nothing
of that time is told but the fact: what was known of a pump before it fell silent may not be billed.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import Final, NoReturn

from drivers.clock import Clock
from drivers.pts import PtsConfig, PtsController
from drivers.pump_side import Heard, Inbox, PumpSide
from drivers.restraint import LogStretch
from protocols.errors import LocalProtocolError
from protocols.pump.bus import Offline, Online
from protocols.pump.jsonpts.sides import UploadedSale
from protocols.pump.types import (
    AskDelivered,
    Authorise,
    Clear,
    Command,
    Delivered,
    Outcome,
    Reading,
    SideId,
    SideState,
    StateSeen,
)

COMMAND_TIMEOUT_S: Final = 4.0
"""Time for a command: twice that of a poll, whose turn may come before."""

ASKS_MAX: Final = 3
"""Questions for a delivery: totals and prices that were asked for come in place of a status, each once."""

NOTHING_OPEN: Final = frozenset({SideState.IDLE, SideState.CALLING})

log = logging.getLogger(__name__)


class PtsSides:
    """Driver of one controller with its sides, see the module."""

    def __init__(
        self,
        config: PtsConfig,
        *,
        clock: Clock,
        on_sale: Callable[[UploadedSale], Awaitable[bool]],
        on_condition: Callable[[bool, str], None] = lambda _works, _cause: None,
    ) -> None:
        """`on_sale`: see `PtsController`. `on_condition`: told whether the controller answers and why not."""
        self._clock = clock
        self._on_condition = on_condition
        self._inboxes = {
            side: Inbox(LogStretch(log, f"{config.device} pump {side}", "events")) for side in config.pumps
        }
        self._states: dict[SideId, SideState | None] = {}
        self._sides = {side: PumpSide(self, side, inbox) for side, inbox in self._inboxes.items()}
        self.controller = PtsController(
            config, clock=clock, on_reading=self._heard, on_sale=on_sale, on_condition=self._controller_is
        )

    def side(self, side: SideId) -> PumpSide:
        """One pump of the controller. Raises KeyError for one that is not configured."""
        return self._sides[side]

    async def run(self) -> NoReturn:
        """Keep the controller polled until cancelled."""
        await self.controller.run()

    async def do(self, side: SideId, command: Command) -> Outcome:
        """Give a command to a side, see `PumpSide.do`."""
        if isinstance(command, AskDelivered):
            return await self._ask_delivered(side, command)
        if isinstance(command, Clear) and self.controller.open_transaction(side) is None:
            return Outcome.ACCEPTED  # its display is the controller's affair
        return await self._give(side, command)

    async def _ask_delivered(self, side: SideId, command: AskDelivered) -> Outcome:
        """Ask for the delivery. Where none is open the answer has none, and that is told."""
        for _ in range(ASKS_MAX):
            self._states[side] = None
            outcome = await self._give(side, command)
            if outcome is not Outcome.ACCEPTED:
                return outcome
            if self._states[side] in NOTHING_OPEN:
                self._put(side, Delivered(None, None))
            if self._states[side] is not None:
                break
        return Outcome.ACCEPTED

    async def _give(self, side: SideId, command: Command) -> Outcome:
        tag = (command.tag or None) if isinstance(command, Authorise) else None
        try:
            done = await self.controller.command(side, command, timeout_s=COMMAND_TIMEOUT_S, tag=tag)
        except LocalProtocolError as error:
            log.error("%s: pump %s: %s", self.controller.config.device, side, error)  # noqa: TRY400 - the text says it all
            return Outcome.NOT_SENT
        return done.outcome

    # --- what the controller says ---------------------------------------------------------------------------------

    def _heard(self, side: SideId, reading: Reading) -> None:
        inbox = self._inboxes.get(side)
        if inbox is None:
            return  # a push tells of all pumps, also of those that are not ours
        if isinstance(reading, StateSeen):
            self._states[side] = reading.state
            if reading.state is SideState.FAULT:
                self._away(side, inbox)
                return
            if not inbox.online:
                self._put(side, Online(side, self._clock.monotonic()))
        self._put(side, reading)

    def _controller_is(self, works: bool, cause: str) -> None:
        if not works:
            for side, inbox in self._inboxes.items():
                self._away(side, inbox)
        self._on_condition(works, cause)

    def _away(self, side: SideId, inbox: Inbox) -> None:
        self._put(side, Offline(side, self._clock.monotonic() if inbox.online else None))

    def _put(self, side: SideId, event: Heard) -> None:
        self._inboxes[side].put(event, self._clock.monotonic())
