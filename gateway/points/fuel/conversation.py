"""Conversation with the pump of one side: what it says is noted, what is asked of it is waited for.

Everything that happens to a side comes through one inbox: words of the pump, and nudges where something beside it has
changed. Whoever waits for an answer notes what comes before it; nothing that was said meanwhile is lost.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress
from enum import Enum, auto
from typing import TypeVar

from gateway.model.clock import to_us
from gateway.points.fuel.facts import Facts
from gateway.points.fuel.ports import Heard, PumpSide
from gateway.points.fuel.services import FuelServices
from gateway.points.fuel.settings import SideSettings
from protocols.pump.bus import Offline, Online
from protocols.pump.types import AskTotals, Command, Outcome, Reading, TotalsSeen

R = TypeVar("R", bound=Reading)


class _Nudge(Enum):
    LOOK = auto()
    """Something beside the pump has changed, or a time is over: the side looks at what it knows."""


class Conversation:
    """Conversation with one pump; `facts` is the newest word on everything."""

    def __init__(self, services: FuelServices, settings: SideSettings, pump: PumpSide, log: logging.Logger) -> None:
        self.facts = Facts(next(iter(settings.grades)), since_us=to_us(services.clock.utcnow()))
        self._services = services
        self._part = f"pump-{settings.number}"
        self._pump = pump
        self._log = log
        self._inbox: asyncio.Queue[Heard | _Nudge] = asyncio.Queue()
        self._nudged = False
        self._timer: asyncio.TimerHandle | None = None

    async def listen(self) -> None:
        """Take what the pump says, for ever."""
        async for event in self._pump.events():
            self._inbox.put_nowait(event)

    def end(self) -> None:
        """Nudge nobody any more."""
        if self._timer is not None:
            self._timer.cancel()

    # --- hearing --------------------------------------------------------------------------------------------------

    def look(self) -> None:
        """Have the side look at what it knows."""
        self._inbox.put_nowait(_Nudge.LOOK)

    def look_later(self, seconds: float) -> None:
        """Have the side look again after a time; the newest such call counts."""
        self.end()
        self._timer = asyncio.get_running_loop().call_later(seconds, self.look)

    async def next(self) -> None:
        """Wait for something to happen, and note it with all else that has."""
        self._note(await self._inbox.get())
        self.catch_up()
        self._nudged = False

    def catch_up(self) -> None:
        """Note what has happened."""
        while not self._inbox.empty():
            self._note(self._inbox.get_nowait())

    def took(self, before: tuple[object, ...]) -> None:
        """Look again where something has happened while the pump was asked for something else."""
        if self._nudged or self.facts.position != before:
            self.look()

    def _note(self, event: Heard | _Nudge) -> None:
        if isinstance(event, _Nudge):
            self._nudged = True
            return
        before, clock = self.facts.position, self._services.clock
        self.facts.note(event, clock.monotonic())
        if self.facts.position != before:
            self.facts.since_us = to_us(clock.utcnow())
        if isinstance(event, Offline | Online):
            self._services.report_fault(self._part, "does not answer" if isinstance(event, Offline) else None)

    # --- asking ---------------------------------------------------------------------------------------------------

    async def do(self, command: Command) -> Outcome:
        """Give a command; its end, as far as it can be told."""
        outcome = await self._pump.do(command)
        if outcome is not Outcome.ACCEPTED:
            self._log.warning("%s: %s", type(command).__name__, outcome.value)
        return outcome

    async def ask(self, command: Command, kind: type[R], meant: Callable[[R], bool] = lambda _: True) -> R | None:
        """Ask for a reading and wait for it; None when it does not come in time."""
        if await self.do(command) is not Outcome.ACCEPTED:
            return None
        with suppress(TimeoutError):
            async with asyncio.timeout(self._services.settings.answer_s):
                while self.facts.online:
                    event = await self._inbox.get()
                    self._note(event)
                    if isinstance(event, kind) and meant(event):
                        return event
        return None

    async def totaliser(self, nozzle: int) -> int | None:
        """Totaliser of a nozzle, millilitres."""
        # Some pumps tell the totalisers of all their nozzles at once.
        found = await self.ask(AskTotals(nozzle), TotalsSeen, lambda seen: seen.nozzle in (None, nozzle))
        return None if found is None else found.volume_ml
