"""One side of a pump, as its charge point uses it, on whatever link it is: a queue of news, and commands."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from typing import Final, Protocol

from drivers.restraint import LogStretch
from protocols.pump.bus import Offline, Online, Restarted
from protocols.pump.types import AlarmSeen, Command, NozzleSeen, Outcome, Reading, SideId, StateSeen, TotalsSeen

EVENTS_MAX: Final = 1024
"""Events that wait for the consumer of a side: minutes of a delivery, and more than there are kinds of events."""

Heard = Reading | Online | Offline | Restarted
"""News of a side."""


class PumpLink(Protocol):
    """Link with several sides on it."""

    async def do(self, side: SideId, command: Command) -> Outcome:
        """Give a command to a side, see `PumpSide.do`."""
        ...


class PumpSide:
    """One side, as its charge point uses it. One consumer of `events()`."""

    def __init__(self, link: PumpLink, side: SideId, inbox: Inbox) -> None:
        self._link = link
        self._side = side
        self._inbox = inbox

    async def events(self) -> AsyncIterator[Heard]:
        """Readings and presence in the order in which they came, over all connections, for ever."""
        while True:
            yield await self._inbox.get()

    async def do(self, command: Command) -> Outcome:
        """Give a command; its end, as far as the link can tell. Never raises for trouble with the pump."""
        return await self._link.do(self._side, command)


class Inbox:
    """Events of one side, for one consumer.

    Of more than EVENTS_MAX it leaves the oldest that has a newer one of its kind: the newest of each state, nozzle and
    totaliser stays, and so does the fact that the side was away or lost power. There are fewer kinds than room.
    """

    def __init__(self, left_log: LogStretch) -> None:
        self.online = False
        self._away = False
        self._left_log = left_log
        self._events: deque[Heard] = deque()
        self._filled = asyncio.Event()

    def put(self, event: Heard, now: float) -> None:
        """Add an event; one that says again that the side is away is none."""
        if isinstance(event, Offline | Online):
            if self._away and isinstance(event, Offline):
                return
            self.online, self._away = isinstance(event, Online), isinstance(event, Offline)
        self._events.append(event)
        if len(self._events) > EVENTS_MAX:
            self._leave_one(now)
        self._filled.set()

    async def get(self) -> Heard:
        """The oldest event, as soon as there is one."""
        while not self._events:
            self._filled.clear()
            await self._filled.wait()
        return self._events.popleft()

    def _leave_one(self, now: float) -> None:
        last = {_kind(event): at for at, event in enumerate(self._events)}
        old = next(at for at, event in enumerate(self._events) if last[_kind(event)] != at)
        self._left_log.say(now, "nobody takes its events, left %s", self._events[old])
        del self._events[old]


def _kind(event: Heard) -> object:
    """Kind of an event: of two of the same, the older is left."""
    match event:
        case StateSeen(state):
            return state
        case NozzleSeen(nozzle, out):
            return NozzleSeen, nozzle, out
        case TotalsSeen(nozzle, volume_ml):
            return TotalsSeen, nozzle, volume_ml is None
        case AlarmSeen(code):
            return AlarmSeen, code
    return type(event)
