"""The product's driver before emulated pumps, and eyes that wait for what a side says."""

import asyncio
from contextlib import asynccontextmanager

from drivers.clock import SystemClock
from drivers.link import open_link
from drivers.pump import PumpBus, PumpBusConfig, link_address
from hardware.emulators.pty_port import PtyAddress
from hardware.emulators.pump import PumpConfig, PumpEmulator
from protocols.pump import names
from protocols.pump.types import Decimals, SideId
from tests.hardware.samples import PATIENCE_S, started

FIRST = {names.DART: 0x50, names.TWO_WIRE: 1, names.LANFENG: 1}


class Eyes:
    """Everything one side has said, and a wait for something said from a mark on."""

    def __init__(self, bus, number):
        self.number = number
        self.side = bus.side(SideId(number))
        self.events = []
        self.mark = 0
        self._more = asyncio.Condition()
        self.task = asyncio.create_task(self._look())

    async def _look(self):
        async for event in self.side.events():
            async with self._more:
                self.events.append(event)
                self._more.notify_all()

    async def sees(self, matches):
        """The next event that matches, and everything before it is over."""
        if isinstance(matches, type):
            kind, matches = matches, lambda event: isinstance(event, kind)
        async with asyncio.timeout(PATIENCE_S), self._more:
            while True:
                while self.mark < len(self.events):
                    self.mark += 1
                    if matches(self.events[self.mark - 1]):
                        return self.events[self.mark - 1]
                await self._more.wait()

    async def state(self, *states):
        return (await self.sees(lambda event: getattr(event, "state", None) in states)).state

    async def asks(self, command, kind):
        """The reading that comes after a question."""
        self.mark = len(self.events)
        async with asyncio.timeout(PATIENCE_S):
            outcome = await self.side.do(command)
        return outcome, await self.sees(kind)


class Station:
    def __init__(self, dialect, address, sides):
        self.conditions = []
        self.bus = PumpBus(
            PumpBusConfig("pumps", dialect, {SideId(side): Decimals() for side in sides}),
            connect=lambda: open_link(link_address(dialect, address), timeout_s=PATIENCE_S, device="pumps"),
            clock=SystemClock(),
            on_condition=lambda works, cause: self.conditions.append((works, cause)),
        )
        self.eyes = [Eyes(self.bus, side) for side in sides]
        self.tasks = [asyncio.create_task(self.bus.run()), *(eyes.task for eyes in self.eyes)]

    async def close(self):
        for task in self.tasks:
            task.cancel()
        for result in await asyncio.gather(*self.tasks, return_exceptions=True):
            assert isinstance(result, asyncio.CancelledError)


@asynccontextmanager
async def forecourt(dialect, path=None, count=1, **changes):
    """Pumps, their control, and the driver before them; on a terminal at `path`, else over TCP."""
    sides = [FIRST[dialect] + number for number in range(count)]
    listen = ("127.0.0.1", 0) if path is None else PtyAddress(path)
    config = PumpConfig(dialect, tuple(SideId(side) for side in sides), listen=listen, **changes)
    async with started(PumpEmulator(config)) as (emulator, control):
        # A pseudo terminal knows no parity.
        address = emulator.listens_at if path is None else f"serial:{path}?baud=9600&parity=N"
        station = Station(dialect, address, sides)
        try:
            yield station, control
        finally:
            await station.close()
