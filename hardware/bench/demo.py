"""The demo: drives the scenario's vehicles through the emulated site and proves every decision and every fen.

The gateway is the real program, started as a site would start it. The bench talks to the emulators over their control
sockets, reads the gateway's database with a connection of its own, and never touches the gateway.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import Enum
from functools import partial
from typing import Any

from hardware.bench import wire
from hardware.bench.demo_site import FILLINGS, PRICES, PUMPS, SECOND
from hardware.bench.fillings import Filled, Filler, Filling
from hardware.bench.ledger_view import DecisionRow, LedgerView
from hardware.bench.processes import DEADLINE_MS, EmulatedSite, LanePlan, ProgramFailed
from hardware.bench.pump_site import PumpSite
from hardware.bench.reckoning import Line, Result, accounts, fares_of, judge, late_approvals, lifts, on_the_cards
from hardware.bench.scenario import LATE, VEHICLES, Vehicle, list_lines, mandate_lines
from hardware.bench.texts import Words
from hardware.bench.waiting import LOOK_S, STUCK_S, wait_until

BETWEEN_S = 0.15
"""Gap between two vehicles of a lane."""


class Phase(Enum):
    """Part of a run, as people are told of it."""

    STARTING = Words("demo.starting")
    SETTING_UP = Words("demo.setting-up-site")
    DRIVING = Words("demo.vehicles-on-road")
    WAITING = Words("demo.waiting-banks-last-word")
    COMPARING = Words("demo.comparing-outside")
    DONE = Words("demo.done")


@dataclass(slots=True)
class Run:
    """Result of a run so far; the live table shows it."""

    results: list[Result] = field(default_factory=list)
    filled: list[Filled] = field(default_factory=list)
    """Results at the pumps; there are none before everything is over."""
    at_pumps: int = 0
    """Cars that were dealt with there."""
    on_the_road: dict[str, Vehicle] = field(default_factory=dict)
    lines: list[Line] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    """Faults beside those of vehicles and accounts."""
    condition: dict[str, Any] = field(default_factory=dict)
    phase: Phase = Phase.STARTING
    seconds: float = 0.0
    slower: float = 1.0
    """Slowdown of work on this machine, by its own processor time."""
    deadline_ms: int = DEADLINE_MS

    @property
    def good(self) -> bool:
        return (
            not self.faults
            and len(self.results) > 0
            and len(self.lines) > 0
            and all(r.right for r in self.results)
            and not any(filled.problems for filled in self.filled)
            and all(line.agrees for line in self.lines)
        )


class _BankLine:
    """Turns on the line to the bank: many vehicles at a time, or alone one that cuts the line or keeps it waiting."""

    def __init__(self) -> None:
        self._changed = asyncio.Condition()
        self._talking = 0
        self._alone = False

    @asynccontextmanager
    async def use(self, *, alone: bool) -> AsyncIterator[None]:
        """Wait for the line; `alone` waits until nobody else is on it."""
        async with self._changed:
            await self._changed.wait_for(lambda: not self._alone and not (alone and self._talking))
            self._alone = alone
            self._talking += 1
        try:
            yield
        finally:
            async with self._changed:
                self._talking -= 1
                self._alone = self._alone and not alone
                self._changed.notify_all()


class Demo:
    """Demo run over a started site."""

    def __init__(self, site: EmulatedSite, vehicles: Sequence[Vehicle] = VEHICLES, *, slower: float = 1.0) -> None:
        """`site`: where it has pumps, the cars of `demo_site` fill up there."""
        self._site = site
        self._vehicles = vehicles
        self._view = LedgerView(site.ledger)
        self._bank_line = _BankLine()
        self._lane_free = {lane: asyncio.Lock() for lane in site.lanes}
        self.run = Run(slower=slower, deadline_ms=site.deadline_ms)
        self._fillings: Sequence[Filling] = ()
        self._filler: Filler | None = None
        if isinstance(site, PumpSite):
            turn = partial(self._bank_line.use, alone=False)
            self._filler = Filler(site, self._view, self.run.faults, second=SECOND, bank_turn=turn)
            self._fillings = FILLINGS

    async def prepare(self) -> None:
        """Make site file, mandates, lists and bank accounts; then start the gateway."""
        self.run.phase = Phase.SETTING_UP
        site = self._site
        site.write_site_file()
        await site.command("ledger", "create", "--reason", "demo")
        at_pumps = [filling.vehicle for filling in self._fillings] + [SECOND] * bool(self._fillings)
        await self.make_known([*self._vehicles, *at_pumps])
        await site.command("check-config")
        await site.gateway.start()

    async def make_known(self, vehicles: Sequence[Vehicle], earlier: Sequence[Vehicle] = ()) -> None:
        """Publish lists and mandates of these vehicles, beside those of earlier ones, and give them bank accounts."""
        site, known = self._site, [*earlier, *vehicles]
        mandates, listed = site.folder / "mandates.csv", site.folder / "lists.csv"
        mandates.write_text("\n".join(mandate_lines(known)) + "\n")
        listed.write_text("\n".join(list_lines(known)) + "\n")
        version = datetime.now(UTC).strftime("%Y%m%d%H%M%S")
        await site.command("lists", "build", str(listed), "--version", version)
        if any(vehicle.funding is not None for vehicle in known):
            await site.command("mandates", "import", str(mandates))
        for vehicle in vehicles:
            if vehicle.funding == "bank_online":
                await self._bank("account", contract=vehicle.contract_ref, balance_fen=1_000_000)

    async def drive(self) -> None:
        """Drive each lane's vehicles one after the other, the lanes side by side."""
        self.run.phase = Phase.DRIVING
        begun = time.monotonic()
        await self._all_works()
        if self._filler is not None:
            await self._filler.begin()
        await asyncio.gather(
            *(self._drive_lane(lane) for lane in self._site.lanes),
            *(self._drive_side(side) for side in sorted({filling.side for filling in self._fillings})),
        )
        self.run.phase = Phase.WAITING
        await self._until(lambda: self._view.waiting() == 0, "the outbox is not empty")
        await self._until(self._timings_complete, "timings are missing")
        self.run.seconds = time.monotonic() - begun

    async def prove(self) -> None:
        """Compare everything with the world outside, and stop the gateway properly."""
        self.run.phase = Phase.COMPARING
        debits = self._view.debits()
        decisions = self._view.decisions()
        self.run.results = [
            judge(v, [d for d in decisions if d.obu_id == v.obu_id], [d for d in debits if d.obu_id == v.obu_id])
            for v in self._vehicles
        ]
        cards = [card for lane in self._site.lanes for card in await self._cards(lane)]
        book = await self._bank("book")
        fares, purses, fuel, plan = fares_of(self._vehicles), list(cards), list[Line](), list(self._site.plan)
        if self._filler is not None:
            self.run.filled, fuel = await self._filler.judge(self._fillings, PRICES)
            purses += await self._filler.cards()
            plan += [LanePlan(island, 0) for island in PUMPS.islands]
            for filled in self.run.filled:
                tag = None if filled.funding == "cash" else filled.filling.vehicle.obu_id
                fares[tag] = fares.get(tag, 0) + filled.priced_fen
        self.run.lines = [
            *accounts(self._view, fares, book, purses),
            *fuel,
            *on_the_cards(self._vehicles, cards),
            late_approvals(self._view, self._vehicles),
            *wire.compare(self._vehicles, self._site.folder, plan, self.run.filled),
        ]
        board = self._site.controls["board"]
        self.run.lines += lifts(self._view, (await board.request("lifts"))["lifts"])
        verdict = await board.request("verdict")
        if not verdict["ok"]:
            self.run.faults.append(f"barrier moved without a committed decision: {verdict['violations']}")
        self.run.condition = json.loads((self._site.folder / "state.json").read_text())
        status = await self._site.gateway.stop()
        if status:
            self.run.faults.append(f"the gateway ended with status {status}")
        try:
            await self._site.command("ledger", "verify")
        except ProgramFailed as error:
            self.run.faults.append(str(error))
        self.run.phase = Phase.DONE

    async def _drive_side(self, side: int) -> None:
        if self._filler is None:
            return
        for filling in self._fillings:
            if filling.side == side:
                await self._filler.fill(filling)
                self.run.at_pumps += 1

    # --- one lane -------------------------------------------------------------------------------------------------

    async def _drive_lane(self, lane: str) -> None:
        for vehicle in self._vehicles:
            if vehicle.lane != lane:
                continue
            await self.drive_in_turn(vehicle)
            await asyncio.sleep(BETWEEN_S)

    async def drive_in_turn(self, vehicle: Vehicle) -> Result:
        """Drive one vehicle, with the line to the bank to itself where it troubles it."""
        if vehicle.funding != "bank_online":
            return await self.drive_one(vehicle)
        async with self._bank_line.use(alone=vehicle.troubles_the_line):
            result = await self.drive_one(vehicle)
            if vehicle.troubles_the_line:
                await self._all_works()
            return result

    async def drive_one(self, vehicle: Vehicle) -> Result:
        """Drive one vehicle: it arrives, is dealt with, and leaves."""
        spec = vehicle.on_the_road(int(time.time()))
        if vehicle.enters_at is not None:
            async with self._lane_free[vehicle.enters_at]:
                spec |= await self._enter_first(vehicle, spec)
        async with self._lane_free[vehicle.lane]:
            return await self._pass(vehicle, spec)

    async def _pass(self, vehicle: Vehicle, spec: dict[str, Any]) -> Result:
        """Drive a vehicle with the lane to itself: arrive with its fault, be dealt with, leave."""
        road = self._site.controls[vehicle.lane]
        if vehicle.bank is not None:
            await self._bank("behave", contract=vehicle.contract_ref, mti="0200", **vehicle.bank)
        if vehicle.fault is not None:
            await road.request("fault", id=vehicle.id, what=vehicle.fault, times=1)
        self.run.on_the_road[vehicle.lane] = vehicle
        if vehicle.trouble is not None:
            await self._make_trouble(vehicle)
        await road.request("arrive", vehicle=spec)
        if vehicle.trouble == "unplug":
            await self._pull_the_plug(vehicle)
        wanted = len(vehicle.expected.decisions)
        if vehicle.seen_again:
            await self._decided(vehicle, 1)
            await road.request("wait", id=vehicle.id, event="finished", count=1)
            await road.request("forget_guard", id=vehicle.id)
        await self._decided(vehicle, wanted)
        if vehicle.trouble == "noise":
            await self._site.controls[f"{vehicle.lane}-line"].request("quiet")
        if vehicle.bank is not None and vehicle.bank.get("mode") == LATE:
            await self._deliver_after_reversal(vehicle)
        decisions = self._of(vehicle)
        if decisions and decisions[-1].release == "go":
            await self._site.controls["board"].request("pass", lane=vehicle.lane)
        await road.request("leave", id=vehicle.id)
        del self.run.on_the_road[vehicle.lane]
        debits = [d for d in self._view.debits() if d.obu_id == vehicle.obu_id]
        result = judge(vehicle, decisions, debits, final=False)
        self.run.results.append(result)
        return result

    async def _enter_first(self, vehicle: Vehicle, spec: Mapping[str, Any]) -> dict[str, Any]:
        """Drive the vehicle through its entry lane; what its card then holds is what it brings to the exit."""
        lane = str(vehicle.enters_at)
        road = self._site.controls[lane]
        self.run.on_the_road[lane] = vehicle
        await road.request("arrive", vehicle=spec)
        await self._decided(vehicle, 1)
        await road.request("wait", id=vehicle.id, event="finished", count=1)
        await self._site.controls["board"].request("pass", lane=lane)
        await road.request("leave", id=vehicle.id)
        del self.run.on_the_road[lane]
        card = next(c for c in await self._cards(lane) if c["id"] == vehicle.id)
        return {"station": wire.entry_on_card(card["file_0019"])}

    async def _make_trouble(self, vehicle: Vehicle) -> None:
        if vehicle.trouble == "noise":
            await self._site.controls[f"{vehicle.lane}-line"].request("noisy")
        elif vehicle.trouble == "unplug":
            await self._site.controls[vehicle.lane].request("pause", id=vehicle.id, before="result")

    async def _pull_the_plug(self, vehicle: Vehicle) -> None:
        """Unplug the serial port while the card has paid and its answer has not left, and plug it in again."""
        road = self._site.controls[vehicle.lane]
        await road.request("wait", id=vehicle.id, event="taken", count=1)
        await road.request("unplug")
        await road.request("continue", id=vehicle.id)
        await self._until(lambda: not self._site.part_works(f"{vehicle.lane}/antenna"), "the port did not vanish")
        await road.request("plug")

    async def _deliver_after_reversal(self, vehicle: Vehicle) -> None:
        """Let the bank approve once it has heard the reversal of this sale, and not before."""
        end = time.monotonic() + STUCK_S
        while time.monotonic() < end:
            log = (await self._bank("requests"))["requests"]
            sale = next((r for r in log if r["mti"] == "0200" and r["contract"] == vehicle.contract_ref), None)
            keys = None if sale is None else (sale["terminal"], sale["stan"])
            if any(r["mti"] == "0400" and (r["terminal"], r["stan"]) == keys for r in log):
                await self._bank("deliver")
                return
            await asyncio.sleep(LOOK_S)
        self.run.faults.append(f"{vehicle.id}: the bank never heard a reversal")

    async def _decided(self, vehicle: Vehicle, count: int) -> None:
        def decided() -> bool:
            found = self._of(vehicle)
            if vehicle.expected.through_doubt:
                found = [d for d in found if d.outcome != "unknown"]
            return len(found) >= count

        await self._until(decided, f"{vehicle.id} got no decision number {count}")

    def _of(self, vehicle: Vehicle) -> list[DecisionRow]:
        return [d for d in self._view.decisions() if d.obu_id == vehicle.obu_id]

    # --- asking ---------------------------------------------------------------------------------------------------

    async def _all_works(self) -> None:
        """Wait until antennas, board and bank are up, as the gateway itself says."""
        since_us = time.time_ns() // 1000
        await self._until(lambda: self._site.works(since_us), "not every part of the site came up")

    def _timings_complete(self) -> bool:
        lanes = self._site.lanes  # what a card pays at a pump is told without a time
        return all(d.total_us is not None for d in self._view.decisions() if d.charge_point in lanes)

    async def _until(self, holds: Callable[[], bool], problem: str) -> None:
        if not await wait_until(holds):
            self.run.faults.append(f"{problem} (waited {STUCK_S:.0f} s)")

    async def _bank(self, command: str, **arguments: Any) -> Mapping[str, Any]:  # noqa: ANN401 - JSON values
        return await self._site.controls["bank"].request(command, **arguments)

    async def _cards(self, lane: str) -> Iterable[Mapping[str, Any]]:
        answer = await self._site.controls[lane].request("cards")
        return list(answer["cards"])
