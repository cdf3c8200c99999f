"""Drivers at a simulated fuel island: they arrive, lift, fill up, hang up and leave, and people see to what is unclear.

An antenna over an island cannot tell which of two vehicles a driver belongs to. So one vehicle at a time comes that has
not filled up yet, or two together, of which the gateway must take neither or one it may take; and who leaves without
fuel is forgotten before somebody else lifts a nozzle. Those who have filled up stand around as long as they like.
"""

from __future__ import annotations

import asyncio
import random
from dataclasses import dataclass
from typing import Final

from gateway.acts import acts
from hardware.bench.simulation import calls, site
from hardware.bench.simulation.invariants import FuelSale
from hardware.bench.simulation.pumps import Forecourt
from hardware.bench.simulation.site import Kind, Owner
from hardware.bench.simulation.world import World
from hardware.emulators.dispenser import AT_WORK, Dispenser
from hardware.emulators.road import Event, Script, Vehicle, VehicleSpec, build

NO_CUSTOMERS: Final = (Kind.PURSE, Kind.PURSE_LOW, Kind.ABSURD, Kind.NO_FARE)
"""Vehicles that a purse would pay for: too many here, for pumps."""
STRANGER, ALONE, TWO, NOTHING = 0.12, 0.08, 0.06, 0.08
WANTS_MORE, LINGERS, GREY_AGAIN = 0.12, 0.3, 0.5
"""Chances of one turn: a driver without a tag, a delivery by the pump's own keys, two vehicles together; of one
filling: the nozzle goes back at once, more is wanted than allowed; of one vehicle: it stands around when it has filled
up; that whoever has a grey sale comes first."""
WRONG, JUMPS, DIES = 0.05, 0.05, 0.05
"""Chances of one filling: a wrong amount is shown, the totaliser jumps, the gateway dies."""
DIES_HOW: Final = "while fuel flows"
WRONG_FEN = (2, 500)
JUMP_STEP_ML, JUMP_STEPS = 10, (2, 2_000)
ALONE_ML = (500, 20_000)
GAP_S = (0.5, 4.0)
THINKS_S = (0.0, 1.5)
"""Time from driving up to lifting."""
PATIENCE_S = (2.0, 8.0)
LOOKS_UP_S = (0.3, 1.0)
FLOW_ML_S = (1_500, 5_000)
OFF_S, LINGERS_S = (0.2, 1.5), (4.0, 10.0)
LEFT_S = site.FORGOTTEN_S + 1.0
"""Time after which whoever left is surely forgotten: a report may be a while on its way."""
SETTLED_AFTER_S = (5.0, 30.0)
"""Time until somebody sees to a grey sale."""
REST_S = 120.0
"""Time of calm in which every sale ends that needs no people."""


@dataclass(frozen=True, slots=True)
class Pump:
    """Side of a pump, and whoever stands at it."""

    world: World
    forecourt: Forecourt
    side: int
    chance: random.Random

    @property
    def of(self) -> Dispenser:
        """Dispenser of the side."""
        return self.forecourt.places[self.side].dispenser

    @property
    def at_work(self) -> bool:
        """True when it may deliver."""
        return self.of.state in AT_WORK

    def sell_alone(self) -> None:
        """Deliver by the pump's own keys, where it can."""
        known = [nozzle for nozzle in self.of.nozzles if self.forecourt.watch.sides[self.side].known(nozzle)]
        if known and self.of.powered and not self.of.out and not self.at_work:
            self.world.network.note("pump", "alone")
            nozzle, volume_ml = self.chance.choice(known), self.chance.randint(*ALONE_ML)
            self.forecourt.do(self.side, lambda _: self.of.sell_alone(nozzle, volume_ml))

    async def lift(self, who: frozenset[str], name: str) -> bool:
        """Lift a nozzle and wait until fuel may flow, but not for ever: whether it may."""
        nozzle = self.chance.choice(list(self.of.nozzles))
        self.world.trace.add("pump", f"{name} lifts nozzle {nozzle} of side {self.side}")
        self.forecourt.watch.sides[self.side].standing = who
        self.forecourt.do(self.side, lambda now: self.of.lift(nozzle, now))
        return await self.forecourt.until(lambda: self.at_work, self.chance.uniform(*PATIENCE_S))

    async def fill(self) -> None:
        """Fill up where the pump lets fuel flow, then hang up."""
        if self.at_work and self.chance.random() >= NOTHING:
            await asyncio.sleep(self.chance.uniform(*LOOKS_UP_S))
            await self._squeeze()
            await asyncio.sleep(self.chance.uniform(*LOOKS_UP_S))
        self.forecourt.do(self.side, lambda now: self.of.squeeze(0, now))
        self.world.trace.add("pump", f"the nozzle of side {self.side} is hung up")
        self.forecourt.do(self.side, self.of.put_back)
        self.forecourt.watch.sides[self.side].standing = frozenset()

    async def _squeeze(self) -> None:
        """Let fuel flow until there is enough, or the pump stops; now and then something happens meanwhile."""
        world, chance = self.world, self.chance
        if chance.random() < WRONG:
            world.network.note("pump", "wrong_amount")
            self.of.amount_error = chance.choice((-1, 1)) * chance.randint(*WRONG_FEN)
        flow = chance.randint(*FLOW_ML_S)
        most = site.MOST_FEN * 10_000 // self.of.now_at.unit_price_milli
        wanted = most + 5_000 if chance.random() < WANTS_MORE else chance.randint(200, most)
        roll, first = chance.random(), chance.random()
        self.forecourt.do(self.side, lambda now: self.of.squeeze(flow, now))
        await asyncio.sleep(first * wanted / flow)
        if self.at_work and roll < JUMPS:
            self.forecourt.jump(self.side, JUMP_STEP_ML * chance.randint(*JUMP_STEPS))
        elif self.at_work and roll < JUMPS + DIES and not world.network.calm:
            world.crash(DIES_HOW)
        await self.forecourt.until(lambda: not self.at_work, (1 - first) * wanted / flow)


class FuelWorkload:
    """Workload of drivers at the sides of one island."""

    def __init__(self, fillings: int) -> None:
        self._wanted = fillings
        self._begun = 0
        self._vehicles: dict[str, Vehicle] = {}
        self._away: list[Owner] = []
        self._lifting = asyncio.Lock()
        """Held by whoever stands at the island and has not filled up."""

    async def __call__(self, world: World) -> int:
        """Runs until all have come, then until all is settled; returns how many there were."""
        forecourt = world.forecourt
        if forecourt is None:
            raise TypeError("drivers need pumps")
        for owner in world.owners.values():
            if owner.kind not in NO_CUSTOMERS:
                self._vehicles[owner.name] = build(VehicleSpec.from_json(owner.spec()), Script(), world.seed)
                self._away.append(owner)
        people = world.crew.start(self._people(world, forecourt))
        world.crew.start(calls.ask_the_bank(world))
        streams = [world.crew.start(self._stream(world, forecourt, side)) for side in forecourt.places]
        await asyncio.gather(*streams)
        world.calm_down()
        await world.mended()
        people.cancel()
        await self._settle_all(world, forecourt)
        return self._begun

    async def _stream(self, world: World, forecourt: Forecourt, side: int) -> None:
        chance = site.series(world.seed, f"side {side}")
        at = Pump(world, forecourt, side, chance)
        while self._begun < self._wanted:
            self._begun += 1
            await asyncio.sleep(chance.uniform(*GAP_S))
            roll = chance.random()
            if roll < ALONE:
                at.sell_alone()
            elif roll < ALONE + STRANGER:
                await self._stranger(at)
            else:
                await self._customer(at, two=roll < ALONE + STRANGER + TWO)

    async def _stranger(self, at: Pump) -> None:
        """Lift and wait: nobody's tag is here but those of vehicles that have filled up, so nothing flows."""
        async with self._lifting:
            at.world.network.note("road", "stranger")
            await at.lift(frozenset(), "a stranger")
        await at.fill()

    async def _customer(self, at: Pump, *, two: bool) -> None:
        world, chance = at.world, at.chance
        async with self._lifting:
            owners = [self._choose(world, chance) for _ in range(2 if two else 1)]
            if two:
                world.network.note("road", "two_vehicles")
            for owner in owners:
                self._drive_up(world, owner)
            await asyncio.sleep(chance.uniform(*THINKS_S))
            served = await at.lift(frozenset(owner.mandate_id for owner in owners), owners[0].name)
            if not served or two:
                # Nobody tells two apart that stand there: should one be taken, both stay until it has filled up.
                await at.fill()
                await asyncio.gather(*(self._drive_off(world, owner) for owner in owners))
                await asyncio.sleep(LEFT_S)
                return
        await at.fill()
        await asyncio.sleep(chance.uniform(*(LINGERS_S if chance.random() < LINGERS else OFF_S)))
        await self._drive_off(world, owners[0])

    def _choose(self, world: World, chance: random.Random) -> Owner:
        """Choose a vehicle that is away, now and then one whose payer has a grey sale."""
        grey = {world.watch.debits[s.debit_id or ""].mandate for s in world.watch.sales.values() if _is_grey(s)}
        asked = [owner for owner in self._away if owner.mandate_id in grey]
        owner = chance.choice(asked if asked and chance.random() < GREY_AGAIN else self._away)
        self._away.remove(owner)
        return owner

    def _drive_up(self, world: World, owner: Owner) -> None:
        world.trace.add(site.ISLAND, f"{owner.name} drives up")
        world.crew.call(world.antennas[0].enter, self._vehicles[owner.name])

    async def _drive_off(self, world: World, owner: Owner) -> None:
        vehicle = self._vehicles[owner.name]
        world.trace.add(site.ISLAND, f"{owner.name} drives off")
        gone = vehicle.events[Event.GONE] + 1
        vehicle.drive_off()
        await world.antennas[0].happened(vehicle, Event.GONE, gone, 60.0)
        self._away.append(owner)

    # --- people ---------------------------------------------------------------------------------------------------

    async def _people(self, world: World, forecourt: Forecourt) -> None:
        chance = site.series(world.seed, "people at the pumps")
        while True:
            await asyncio.sleep(chance.uniform(*SETTLED_AFTER_S))
            for sale in [s for s in world.watch.sales.values() if _is_grey(s)][:1]:
                await self._settle(world, forecourt, sale)

    async def _settle(self, world: World, forecourt: Forecourt, sale: FuelSale) -> None:
        """Settle a grey sale as a person who has looked at the pump's own meter."""
        grant = forecourt.watch.grants.get(sale.id)
        metered = [] if grant is None else grant.deliveries
        word = acts.SettleSale(
            sale_id=sale.id,
            volume_ml=sum(one.volume_ml for one in metered),
            amount_fen=sum(one.amount_minor for one in metered),
            reason="the meter was read",
        )
        told = await calls.do(world, "p1", word)
        world.watch.outcomes[f"sale_settled.{told if isinstance(told, str) else 'done'}"] += 1

    async def _settle_all(self, world: World, forecourt: Forecourt) -> None:
        """Wait until no sale needs anything but people, then let these settle the rest."""
        forecourt.plug_in_again()
        begun = world.loop.time()
        while waiting := [*self._still_open(world), *forecourt.watch.unexplained()]:
            if world.loop.time() - begun > REST_S:
                world.fail(f"after {REST_S} s of calm: {', '.join(waiting[:3])}")
                return
            await asyncio.sleep(1.0)
        for sale in [s for s in world.watch.sales.values() if _is_grey(s)]:
            await self._settle(world, forecourt, sale)
        while left := forecourt.watch.open_sales():
            if world.loop.time() - begun > 2 * REST_S:
                world.fail(f"after {2 * REST_S} s of calm: {', '.join(left[:3])}")
                return
            await asyncio.sleep(1.0)

    @staticmethod
    def _still_open(world: World) -> list[str]:
        return [
            f"sale {sale.id} is {sale.state}"
            for sale in world.watch.sales.values()
            if sale.debit_id is not None and sale.state in ("open", "delivered")
        ]


def _is_grey(sale: FuelSale) -> bool:
    return sale.state == "grey" and sale.debit_id is not None
