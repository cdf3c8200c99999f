"""Vehicles through the lanes of a simulated site: real tags and cards before emulated antennas."""

from __future__ import annotations

import asyncio
import random
from datetime import timedelta

from hardware.bench.simulation import calls, forgeries, site
from hardware.bench.simulation.world import World
from hardware.emulators.road import (
    NEVER_WRITTEN,
    AntennaPsam,
    Event,
    Fault,
    FaultKind,
    Forgery,
    Phase,
    Script,
    Vehicle,
    VehicleSpec,
    build,
)
from hardware.emulators.transaction import AirTransaction

AIR_FAULTS = {
    FaultKind.LOSE_ANSWER: 0.02,
    FaultKind.LOSE_ANSWER_KEEP_SERIAL: 0.02,
    FaultKind.DROP_RESULT: 0.03,
    FaultKind.REFUSE_MAC1: 0.02,
    FaultKind.PURCHASE_REFUSED: 0.02,
    FaultKind.READ_ERROR: 0.02,
    FaultKind.SLOW: 0.03,
}
"""Chances of one visit."""
FORGED_RESULT, FORGED_READING, FORGED_PROOF = 0.08, 0.015, 0.03
"""Chances of one visit that its antenna lies: of a result, of what stands on the card, of a fetched proof."""
SLOW_MS = (200, 2500)
LEAVES_EARLY = 0.05
EARLY_S = (0.02, 1.0)
PATIENCE_S = (3.0, 11.0)
"""Time from driving up to giving up when no barrier lifts."""
OFF_S = (0.2, 1.5)
"""Time from the lift to being gone."""
STANDS_STILL, STILL_S = 0.04, (11.0, 25.0)
"""Chance that a vehicle whose barrier has lifted does not drive off, and how long: it is seen once more, and whatever
is done to the clock meanwhile it has paid."""
GAP_S = (0.1, 2.0)
SHOWN_MAX = 12
"""Times a vehicle whose purchase is open is shown again at the end."""
SHOWN_S = 14.0
FOREIGN, FOREIGN_OPEN = 0.01, 0.5
"""Chances that a card was written by somebody else's lane since it was here; the second while its purchase is open."""
DISPUTE_TAKEN_UP = 0.05
"""Chance, before each vehicle, that somebody settles the disputed purchases there are."""
FOREIGN_TERMINAL = bytes.fromhex("029900000001")
FOLLOWERS = 1
"""Lanes that have two streams of vehicles side by side."""


class LaneWorkload:
    """Vehicles that come, pay, are refused, leave too early, and come back."""

    def __init__(self, passages: int) -> None:
        self._wanted = passages
        self._begun = 0
        self._vehicles: dict[str, Vehicle] = {}
        self._away: list[str] = []
        self._elsewhere = random.Random(0)  # noqa: S311 - replaced when the run begins

    async def __call__(self, world: World) -> int:
        """Runs until all vehicles have come, then until all is settled; returns how many there were."""
        self._elsewhere = site.series(world.seed, "elsewhere")
        for owner in world.owners.values():
            spec = VehicleSpec.from_json(owner.spec())
            self._vehicles[owner.name] = build(spec, Script(), world.seed)
            self._away.append(owner.name)
        world.crew.start(calls.ask_the_bank(world))
        streams = [index % world.lanes for index in range(world.lanes + FOLLOWERS)]
        await asyncio.gather(*(world.crew.start(self._stream(world, n, lane)) for n, lane in enumerate(streams)))
        world.calm_down()
        await world.mended()
        await self._show_again(world)
        return self._begun

    async def _stream(self, world: World, number: int, lane: int) -> None:
        chance = site.series(world.seed, f"stream {number}")
        while self._begun < self._wanted:
            self._begun += 1
            await asyncio.sleep(chance.uniform(*GAP_S))
            if chance.random() < DISPUTE_TAKEN_UP:
                await self._settle_disputes(world)
            name = self._choose(world, chance, lane)
            vehicle = self._vehicles[name]
            self._arm(world, vehicle, chance)
            if vehicle.card is not None and chance.random() < self._foreign(world, name):
                self._write_elsewhere(world, vehicle)
            early = chance.random() < LEAVES_EARLY
            if early:
                world.network.note("road", "leaves_early")
            await self._visit(world, chance, lane, vehicle, chance.uniform(*(EARLY_S if early else PATIENCE_S)))
            self._away.append(name)

    def _choose(self, world: World, chance: random.Random, lane: int) -> str:
        """A vehicle that is away, of those this lane's antenna can tell of."""
        serial = site.DIALECTS[lane] != site.DIALECTS[0]
        able = [name for name in self._away if not serial or world.owners[name].two_piece]
        name = chance.choice(able)
        self._away.remove(name)
        return name

    def _foreign(self, world: World, name: str) -> float:
        """Chance that the card was written elsewhere: more often where it matters."""
        card = world.owners[name].card_number
        newest = world.watch.newest_of_card.get(card)
        return FOREIGN_OPEN if newest is not None and newest.state in ("intent", "unknown") else FOREIGN

    def _arm(self, world: World, vehicle: Vehicle, chance: random.Random) -> None:
        vehicle.script.faults.clear()
        for kind, share in AIR_FAULTS.items():
            if chance.random() < share:
                world.network.note("air", kind.value)
                extra_ms = chance.randint(*SLOW_MS) if kind is FaultKind.SLOW else 0
                vehicle.script.arm(Fault(kind, 1, extra_ms))
        if vehicle.card is not None:
            self._forge(world, vehicle, chance)

    def _forge(self, world: World, vehicle: Vehicle, chance: random.Random) -> None:
        """Have the antenna lie about this vehicle, at most in one way."""
        name, roll = vehicle.spec.id, chance.random()
        if roll < FORGED_RESULT:
            drawn = forgeries.draw(world.watch.told, world.owners[name].card_number, chance)
            if drawn is not None:
                world.forging[name], forgery = drawn
                vehicle.script.arm(Fault(FaultKind.FORGE_RESULT, 1, forgery=forgery))
        elif roll < FORGED_RESULT + FORGED_READING:
            # The card refuses, which B5 does not tell from a lost answer; then B4 shows the file as if it had paid.
            world.forging[name] = "reading"
            vehicle.script.arm(Fault(FaultKind.PURCHASE_REFUSED, 1))
            vehicle.script.arm(Fault(FaultKind.FORGE_READING, 1))
        elif roll < FORGED_RESULT + FORGED_READING + FORGED_PROOF:
            world.forging[name] = "proof"
            vehicle.script.arm(Fault(FaultKind.LOSE_ANSWER_KEEP_SERIAL, 1))
            forgery = Forgery(balance_off_fen=chance.randint(1, 1_000))
            vehicle.script.arm(Fault(FaultKind.FORGE_PROOF, 1, forgery=forgery))

    def _write_elsewhere(self, world: World, vehicle: Vehicle) -> None:
        """Another operator's lane has written file 0019, with a purchase of zero."""
        world.network.note("road", "written_elsewhere")
        psam = AntennaPsam(mode="bench", terminal=FOREIGN_TERMINAL, random=self._elsewhere.randbytes)
        air = AirTransaction(vehicle.obu, vehicle.card, psam, random=self._elsewhere.randbytes)
        air.identify()
        air.read_user()
        now = world.clock.utcnow() + timedelta(hours=8)
        station = NEVER_WRITTEN[:-1] + bytes([self._elsewhere.randrange(255)])
        air.purchase(0, now.strftime("%Y%m%d%H%M%S"), station)
        if vehicle.purse is not None:
            vehicle.purse.update()

    async def _visit(self, world: World, chance: random.Random, lane: int, vehicle: Vehicle, patience_s: float) -> None:
        antenna, name = world.antennas[lane], site.lane_name(lane)
        lifted = asyncio.Event()
        paid_before = vehicle.events[Event.TAKEN]
        world.trace.add(name, f"{vehicle.spec.id} drives up")
        world.on_lift(name, lifted.set)
        world.crew.call(antenna.enter, vehicle)
        try:
            async with asyncio.timeout(patience_s):
                await lifted.wait()
            still = not world.network.calm and chance.random() < STANDS_STILL
            if still:
                world.network.note("road", "stands_still")
            await asyncio.sleep(chance.uniform(*(STILL_S if still else OFF_S)))
        except TimeoutError:
            pass
        world.trace.add(name, f"{vehicle.spec.id} drives off")
        gone = vehicle.events[Event.GONE] + 1
        vehicle.drive_off()
        world.boards[lane].passed()
        await antenna.happened(vehicle, Event.GONE, gone, 60.0)
        paid = vehicle.events[Event.TAKEN] - paid_before
        world.watch.promise(paid <= 1, f"the card of {vehicle.spec.id} paid {paid} times in one visit")
        world.watch.promise(vehicle.phase is Phase.AWAY, f"{vehicle.spec.id} does not leave")

    async def _show_again(self, world: World) -> None:
        """Every vehicle whose purchase is open comes back until it is proved or disproved; people settle the rest."""
        chance = site.series(world.seed, "shown again")
        by_card = {owner.card_number: owner.name for owner in world.owners.values()}
        for vehicle in self._vehicles.values():
            vehicle.script.faults.clear()
        for turn in range(SHOWN_MAX):
            open_cards = [
                purchase.card
                for purchase in world.watch.purchases.values()
                if purchase.state in ("intent", "unknown")
                or (world.watch.debits[purchase.debit_id].state == "held" and purchase.state != "disputed")
            ]
            names = dict.fromkeys(by_card[card] for card in open_cards)
            names.update(dict.fromkeys(self._tags_held(world)))
            if not names:
                break
            for name in names:
                await self._visit(world, chance, turn % (world.lanes - 1), self._vehicles[name], SHOWN_S)
        await self._settle_disputes(world)

    async def _settle_disputes(self, world: World) -> None:
        for debit in list(world.watch.debits.values()):
            if debit.state == "held" and debit.purchases and debit.purchases[-1].state == "disputed":
                await calls.settle_dispute(world, debit.id)

    def _tags_held(self, world: World) -> list[str]:
        """Vehicles without a card whose claim was never decided."""
        by_mandate = {owner.mandate_id: owner.name for owner in world.owners.values()}
        held = [debit for debit in world.watch.debits.values() if debit.state == "held" and not debit.purchases]
        return [by_mandate[debit.mandate] for debit in held if debit.mandate is not None]
