"""Drivers at a simulated fuel island: they arrive, lift, fill up, hang up and leave, and people see to what is unclear.

An antenna over an island cannot tell which of two vehicles a driver belongs to. So one vehicle at a time comes that has
not filled up yet, or two together, of which the gateway must take neither or one it may take; and who leaves without
fuel is forgotten before somebody else lifts a nozzle. Those who have filled up stand around as long as they like.
"""

from __future__ import annotations

import asyncio
import random
from typing import Final

from gateway.acts import acts
from hardware.bench.simulation import calls, site
from hardware.bench.simulation.invariants import FuelSale
from hardware.bench.simulation.pumps import Forecourt
from hardware.bench.simulation.site import Kind, Owner
from hardware.bench.simulation.world import World
from hardware.emulators.dispenser import AT_WORK
from hardware.emulators.road import Event, Script, Vehicle, VehicleSpec, build

NO_CUSTOMERS: Final = (Kind.PURSE, Kind.PURSE_LOW, Kind.ABSURD, Kind.NO_FARE)
"""Vehicles that a purse would pay for: most pumps take none, and here there are many of them."""
STRANGER, ALONE, TWO, NOTHING, WANTS_MORE, LINGERS, GREY_AGAIN = 0.12, 0.08, 0.06, 0.08, 0.12, 0.3, 0.5
"""Chances of one turn: a driver without a tag, a delivery by the pump's own keys, two vehicles together; of one filling:
the nozzle goes back at once, more is wanted than allowed; of one vehicle: it stands around when it has filled up; that
whoever has a grey sale comes first."""
WRONG, JUMPS, DIES = 0.05, 0.05, 0.05
"""Chances of one filling: a wrong amount is shown, the totaliser jumps, the gateway dies."""
DIES_HOW: Final = "while fuel flows"
WRONG_FEN = (2, 500)
JUMP_ML = (20, 20_000)
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
        while self._begun < self._wanted:
            self._begun += 1
            await asyncio.sleep(chance.uniform(*GAP_S))
            roll = chance.random()
            if roll < ALONE:
                self._sell_alone(world, forecourt, side, chance)
            elif roll < ALONE + STRANGER:
                await self._stranger(world, forecourt, side, chance)
            else:
                await self._customer(world, forecourt, side, chance, two=roll < ALONE + STRANGER + TWO)

    # --- who comes ------------------------------------------------------------------------------------------------

    def _sell_alone(self, world: World, forecourt: Forecourt, side: int, chance: random.Random) -> None:
        of = forecourt.dispenser(side)
        known = [nozzle for nozzle in of.nozzles if forecourt.watch.sides[side].known(nozzle)]
        if known and of.powered and not of.out and of.state not in AT_WORK:
            world.network.note("pump", "alone")
            nozzle, volume_ml = chance.choice(known), chance.randint(*ALONE_ML)
            forecourt.do(side, lambda _: of.sell_alone(nozzle, volume_ml))

    async def _stranger(self, world: World, forecourt: Forecourt, side: int, chance: random.Random) -> None:
        """Lift and wait: nobody's tag is here but those of vehicles that have filled up, so nothing flows."""
        async with self._lifting:
            world.network.note("road", "stranger")
            self._lift(world, forecourt, side, chance, frozenset(), "a stranger")
            await forecourt.until(lambda: forecourt.dispenser(side).state in AT_WORK, chance.uniform(*PATIENCE_S))
        await self._fill(world, forecourt, side, chance)

    async def _customer(
        self, world: World, forecourt: Forecourt, side: int, chance: random.Random, *, two: bool
    ) -> None:
        async with self._lifting:
            owners = [self._choose(world, chance) for _ in range(2 if two else 1)]
            if two:
                world.network.note("road", "two_vehicles")
            for owner in owners:
                self._drive_up(world, owner)
            await asyncio.sleep(chance.uniform(*THINKS_S))
            of = forecourt.dispenser(side)
            self._lift(world, forecourt, side, chance, frozenset(o.mandate_id for o in owners), owners[0].name)
            served = await forecourt.until(lambda: of.state in AT_WORK, chance.uniform(*PATIENCE_S))
            if not served or two:
                # Two that stand there are told apart by nobody: both go, if one of them was taken after it has filled up.
                await self._fill(world, forecourt, side, chance)
                await asyncio.gather(*(self._drive_off(world, owner) for owner in owners))
                await asyncio.sleep(LEFT_S)
                return
        await self._fill(world, forecourt, side, chance)
        await asyncio.sleep(chance.uniform(*(LINGERS_S if chance.random() < LINGERS else OFF_S)))
        await self._drive_off(world, owners[0])

    def _choose(self, world: World, chance: random.Random) -> Owner:
        """Choose a vehicle that is away, now and then one whose payer has a grey sale."""
        grey = {world.watch.debits[s.debit_id].mandate for s in world.watch.sales.values() if _is_grey(s)}
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

    # --- what they do at the pump ---------------------------------------------------------------------------------

    def _lift(
        self, world: World, forecourt: Forecourt, side: int, chance: random.Random, who: frozenset[str], name: str
    ) -> None:
        of = forecourt.dispenser(side)
        nozzle = chance.choice(list(of.nozzles))
        world.trace.add("pump", f"{name} lifts nozzle {nozzle} of side {side}")
        forecourt.watch.sides[side].standing = who
        forecourt.do(side, lambda now: of.lift(nozzle, now))

    async def _fill(self, world: World, forecourt: Forecourt, side: int, chance: random.Random) -> None:
        """Fill up where the pump lets fuel flow, then hang up."""
        of = forecourt.dispenser(side)
        if of.state in AT_WORK and chance.random() >= NOTHING:
            await asyncio.sleep(chance.uniform(*LOOKS_UP_S))
            if chance.random() < WRONG:
                world.network.note("pump", "wrong_amount")
                of.amount_error = chance.choice((-1, 1)) * chance.randint(*WRONG_FEN)
            flow = chance.randint(*FLOW_ML_S)
            most = site.MOST_FEN * 10_000 // of.now_at.unit_price_milli
            wanted = most + 5_000 if chance.random() < WANTS_MORE else chance.randint(200, most)
            roll = chance.random()
            forecourt.do(side, lambda now: of.squeeze(flow, now))
            first = chance.random()
            await asyncio.sleep(first * wanted / flow)
            if roll < JUMPS and of.state in AT_WORK:
                forecourt.jump(side, chance.randint(*JUMP_ML))
            elif roll < JUMPS + DIES and of.state in AT_WORK and not world.network.calm:
                world.crash(DIES_HOW)
            await forecourt.until(lambda: of.state not in AT_WORK, (1 - first) * wanted / flow)
            await asyncio.sleep(chance.uniform(*LOOKS_UP_S))
        forecourt.do(side, lambda now: of.squeeze(0, now))
        world.trace.add("pump", f"the nozzle of side {side} is hung up")
        forecourt.do(side, of.put_back)
        forecourt.watch.sides[side].standing = frozenset()

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
        begun = world.loop.time()
        while waiting := [*self._still_open(world), *forecourt.watch.unexplained()]:
            if world.loop.time() - begun > REST_S:
                world.fail(f"after {REST_S} s of calm: {', '.join(waiting[:3])}")
                return
            await asyncio.sleep(1.0)
        for sale in [s for s in world.watch.sales.values() if _is_grey(s)]:
            await self._settle(world, forecourt, sale)
        await asyncio.sleep(REST_S)

    @staticmethod
    def _still_open(world: World) -> list[str]:
        return [
            f"sale {sale.id} is {sale.state}"
            for sale in world.watch.sales.values()
            if sale.debit_id is not None and sale.state in ("open", "delivered")
        ]


def _is_grey(sale: FuelSale) -> bool:
    return sale.state == "grey" and sale.debit_id is not None
