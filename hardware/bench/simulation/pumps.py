"""Pumps of a simulated fuel island: emulated lines in virtual time, what goes wrong with them, and who watches.

The state machines are those of the emulated pumps, byte for byte; only the socket is a wire of the simulated network.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Final

from hardware.bench.simulation import site
from hardware.bench.simulation.pump_watch import PumpWatch
from hardware.bench.simulation.storage import Crash
from hardware.bench.simulation.wires import Harm
from hardware.emulators.dispenser import AT_WORK
from hardware.emulators.pump import PumpConfig, PumpEmulator
from hardware.emulators.pump_line import Place
from protocols.pump.types import SideId

if TYPE_CHECKING:
    from hardware.bench.simulation.world import World

HARM: Final = {
    "drop": 0.004,
    "delay": 0.004,
    "cut": 0.0003,
    "half_frame": 0.0002,
    "corrupt": 0.004,
    "connect_refused": 0.1,
    "connect_timeout": 0.05,
}
"""Chances of one message. Bytes of a line never overtake each other, and come once."""
LATE_S: Final = (0.02, 0.3)
CUT_EVERY_S, CUT_FOR_S = (15.0, 60.0), (0.2, 6.0)
POWER_EVERY_S, POWER_OFF_S = (15.0, 60.0), (0.3, 4.0)
CRASH_AT_SALE: Final = 0.05
"""Chance, at each commit that moves a sale or its claim, that the gateway ends at it or at the next one."""


class Forecourt:
    """Lines of pumps with their sides, see the module."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._chance = site.series(world.seed, "forecourt")
        self.watch = PumpWatch(world.watch)
        self.places: dict[int, Place] = {}
        """Places by the number of the side."""
        self._lines: dict[str, PumpEmulator] = {}
        self._line_of: dict[int, str] = {}
        self._waiters: list[Callable[[], None]] = []
        for name in site.PUMPS:
            self._make_line(name)

    def _make_line(self, name: str) -> None:
        line, world = site.PUMPS[name], self._world
        sides = tuple(SideId(address) for address in line.addresses.values())
        config = PumpConfig(line.dialect, sides, prices=line.prices, flow_ml_s=0, seed=world.seed)
        pumps = self._lines[name] = world.crew.call(PumpEmulator, config)
        pumps.failure.add_done_callback(partial(self._failed, name))
        for number, address in line.addresses.items():
            place = self.places[number] = pumps.pumps.places[SideId(address)]
            self._line_of[number] = name
            of = place.dispenser
            for nozzle in of.nozzles.values():
                nozzle.volume_ml = line.wraps_at_ml - site.SOON_ML
            self.watch.add(number, of, line.wraps_at_ml)
            of.on_change = partial(self._changed, number, of.on_change)
        self._listen(name)

    def _listen(self, name: str) -> None:
        harm = Harm(HARM, LATE_S, lose_byte)
        self._world.network.listen(f"pumps/{name}", self._lines[name].attach, self._world.crew, harm)

    def _failed(self, name: str, failure: asyncio.Future[None]) -> None:
        if not failure.cancelled() and failure.exception() is not None:
            self._world.fail(f"emulated pumps {name} failed: {failure.exception()!r}")

    def _changed(self, number: int, told: Callable[[], None]) -> None:
        self.watch.changed(number)
        told()
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            waiter()

    # --- what drivers and others do at a side ---------------------------------------------------------------------

    def do(self, number: int, what: Callable[[float], object]) -> None:
        """Do something at a side now."""
        what(self._world.loop.time())
        self._look(number)

    def power(self, number: int, *, on: bool) -> None:
        """Take power away, or give it back."""
        self._world.trace.add("pump", f"side {number} {'gets power again' if on else 'loses power'}")
        self.places[number].power(on=on, prices_lost=False, now=self._world.loop.time())
        self._look(number)

    def jump(self, number: int, volume_ml: int) -> None:
        """Let the totaliser of the nozzle that is out say more than was delivered."""
        self._world.network.note("pump", "jump")
        of = self.places[number].dispenser
        of.jump(of.nozzle, volume_ml)
        self.watch.jumped(number, of.nozzle)

    async def until(self, holds: Callable[[], bool], timeout_s: float) -> bool:
        """Return when it holds, or the time is over: whether it does."""
        loop = self._world.loop
        end = loop.time() + timeout_s
        while not holds():
            changed = asyncio.Event()
            self._waiters.append(changed.set)
            try:
                async with asyncio.timeout_at(end):
                    await changed.wait()
            except TimeoutError:
                break
        return holds()

    def _look(self, number: int) -> None:
        self._lines[self._line_of[number]].look()

    # --- what happens by itself -----------------------------------------------------------------------------------

    def committed(self) -> None:
        """Look at what a commit has changed; the process may end over a sale. Raises Crash."""
        self.watch.committed()
        world, storage = self._world, self._world.storage
        moved = world.watch.sales_moved or any(debit.completed for debit in world.watch.touched())
        if not moved or world.network.calm or storage.away is not None:
            return
        if self._chance.random() < CRASH_AT_SALE:
            place = self._chance.choice(("before the commit", "before the answer", "after the answer"))
            if place == "before the answer":
                raise Crash(place)
            storage.crash_at = storage.commits + (place == "before the commit"), place

    async def cuts(self) -> None:
        """Pull out the cable of a line now and then, until all is calm."""
        world, chance = self._world, site.series(self._world.seed, "cables")
        while await world.pause(chance, CUT_EVERY_S):
            name = chance.choice(list(self._lines))
            world.network.note("pump", "cable")
            world.network.ignore(f"pumps/{name}")
            await asyncio.sleep(chance.uniform(*CUT_FOR_S))
            self._listen(name)

    def plug_in_again(self) -> None:
        """Pull out all cables for a moment: the gateway looks pumps over that come back."""
        for name in self._lines:
            self._world.network.cut(f"pumps/{name}")

    async def power_cuts(self) -> None:
        """Take the power of a side away now and then, most often while it delivers, until all is calm."""
        world, chance = self._world, site.series(self._world.seed, "power")
        while await world.pause(chance, POWER_EVERY_S):
            busy = [number for number, place in self.places.items() if place.dispenser.state in AT_WORK]
            number = chance.choice(busy or list(self.places))
            world.network.note("pump", "power_at_work" if busy else "power")
            self.power(number, on=False)
            await asyncio.sleep(chance.uniform(*POWER_OFF_S))
            self.power(number, on=True)


def lose_byte(data: bytes, chance: random.Random) -> bytes:
    """Lose the byte whose parity is wrong: its receiver throws it away."""
    at = chance.randrange(len(data))
    return data[:at] + data[at + 1 :]
