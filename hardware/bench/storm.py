"""kill -9 of the real gateway, at five places of a passage, under traffic, again and again.

Each round drives one vehicle to a place and kills the gateway there. The places are reached by holding things still,
never by timing: an antenna that pauses, a bank that keeps its answers, a board that is down, a second connection that
holds the database. Where the kill really landed is read afterwards from what is durable and what the emulators saw,
and only that is counted. Then everything is let go, the gateway started again, and the vehicle, still standing there,
must get through, paid once.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any

from hardware.bench.commits import WriteLock
from hardware.bench.demo import Demo
from hardware.bench.ledger_view import LedgerView
from hardware.bench.processes import PATIENT_MS, EmulatedSite, ProgramFailed
from hardware.bench.reckoning import Line, accounts, fares_of, lifts, on_the_cards
from hardware.bench.scenario import PAID, Expected, Vehicle
from hardware.bench.waiting import STUCK_S, wait_until

ROUNDS_EXTRA_MAX = 5
"""Rounds a place may need beyond the wanted number, because a kill landed elsewhere."""


class Place(Enum):
    """Place in a passage at which the gateway dies."""

    BEFORE_C6 = "before C6"
    C6_TO_B5 = "between C6 and B5"
    B5_TO_COMMIT = "between B5 and commit"
    ASKED_TO_ANSWER = "between 0200 and 0210"
    DECISION_TO_COIL = "between decision and coil"


@dataclass(slots=True)
class StormResult:
    """Result of the storm: kills by place, vehicles, comparisons and problems."""

    histogram: Counter[Place] = field(default_factory=Counter)
    elsewhere: int = 0
    kills: int = 0
    vehicles: list[Vehicle] = field(default_factory=list)
    lines: list[Line] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    @property
    def good(self) -> bool:
        return not self.problems and all(line.agrees for line in self.lines)

    def text(self) -> str:
        """Histogram, for people."""
        rows = [f"{place.value:<28}{self.histogram[place]:>4}  {'#' * self.histogram[place]}" for place in Place]
        rows.append(f"{'landed elsewhere':<28}{self.elsewhere:>4}")
        rows.append(f"{'kills in all':<28}{self.kills:>4}   vehicles {len(self.vehicles)}")
        return "\n".join(rows)

    def as_dict(self) -> dict[str, Any]:
        """Report for programs; keys are stable."""
        return {
            "good": self.good,
            "kills": self.kills,
            "landed": {place.name.lower(): self.histogram[place] for place in Place},
            "elsewhere": self.elsewhere,
            "vehicles": len(self.vehicles),
            "comparisons": [{**asdict(line), "agrees": line.agrees} for line in self.lines],
            "problems": self.problems,
        }


class Storm:
    """Storm over a started site."""

    def __init__(self, site: EmulatedSite, *, wanted: int = 5, lane: str = "lane-1", entry: str | None = None) -> None:
        self._site = site
        self._wanted = wanted
        self._lane = lane
        self._entry = entry
        self._view = LedgerView(site.ledger)
        self._numbers = itertools.count(100)
        self._last = False
        self._lock = WriteLock(site.ledger)
        self._sales_heard = 0
        self.result = StormResult()

    async def run(self) -> StormResult:
        """All places, `wanted` kills each, with a second lane trading all the time."""
        vehicles = [self._vehicle(place) for place in Place for _ in range(self._wanted + ROUNDS_EXTRA_MAX)]
        await Demo(self._site, vehicles).prepare()
        await self._until(self._site.works, "not every part of the site came up")
        traffic = asyncio.create_task(self._traffic())
        waiting = iter(vehicles)
        for place in Place:
            for _ in range(self._wanted + ROUNDS_EXTRA_MAX):
                if self.result.histogram[place] >= self._wanted:
                    break
                await self._round(place, next(v for v in waiting if v.story == place.value))
        self._last = True
        await traffic
        await self._prove()
        return self.result

    def _vehicle(self, place: Place) -> Vehicle:
        online = place is Place.ASKED_TO_ANSWER
        return Vehicle(
            next(self._numbers),
            place.value,
            self._lane,
            Expected((PAID,), charged=True, ends="funded"),
            entry=self._entry,
            card_type=23 if online else 22,
            funding="bank_online" if online else None,
        )

    def _passer(self) -> Vehicle:
        return Vehicle(
            next(self._numbers), "traffic", "lane-2", Expected((PAID,), charged=True, ends="funded"), entry="99010101"
        )

    # --- one round ------------------------------------------------------------------------------------------------

    async def _round(self, place: Place, vehicle: Vehicle) -> None:
        self.result.vehicles.append(vehicle)
        await self._until(self._site.works, "not every part of the site came up")
        if place is Place.ASKED_TO_ANSWER:
            # A terminal that still has something to tell the bank sells nothing: the next sale needs a free one.
            await self._until(lambda: not self._view.waiting(), "the outbox is not empty")
        async with self._held(place, vehicle):
            await self._arrive(vehicle)
            await self._reach(place, vehicle)
            await self._site.gateway.kill()
            self.result.kills += 1
            landed = await self._landed(vehicle)
        if landed is place:
            self.result.histogram[place] += 1
        else:
            self.result.elsewhere += 1
        await self._site.gateway.start()
        await self._through(vehicle)

    @asynccontextmanager
    async def _held(self, place: Place, vehicle: Vehicle) -> AsyncIterator[None]:
        """Hold still what makes the place reachable; let go of it whatever happens."""
        road, bank, board = (self._site.controls[name] for name in (self._lane, "bank", "board"))
        if place is Place.BEFORE_C6:
            self._lock.take()
        elif place is Place.C6_TO_B5:
            # Alternately before and after the card has executed the debit.
            before = "debit" if vehicle.number % 2 else "result"
            await road.request("pause", id=vehicle.id, before=before)
        elif place is Place.B5_TO_COMMIT:
            await road.request("pause", id=vehicle.id, before="result")
        elif place is Place.ASKED_TO_ANSWER:
            log = await bank.request("requests")
            self._sales_heard = sum(r["mti"] == "0200" for r in log["requests"])
            await bank.request("hold")
        elif place is Place.DECISION_TO_COIL:
            # Alternately out of reach and frozen: a frozen board opens late, for a gateway that is dead by then.
            await board.request("down" if vehicle.number % 2 else "freeze")
        try:
            yield
        finally:
            self._lock.let_go()
            if place in (Place.C6_TO_B5, Place.B5_TO_COMMIT):
                await road.request("continue", id=vehicle.id)
            await bank.request("release")
            if place is Place.DECISION_TO_COIL:
                await board.request("up" if vehicle.number % 2 else "thaw")

    async def _reach(self, place: Place, vehicle: Vehicle) -> None:
        """Wait until the passage stands at the place."""
        road, bank = self._site.controls[self._lane], self._site.controls["bank"]

        async def event(name: str) -> None:
            await road.request("wait", id=vehicle.id, event=name, count=1)

        if place is Place.BEFORE_C6:
            await event("read")
        elif place is Place.C6_TO_B5:
            await event("ordered" if vehicle.number % 2 else "taken")
        elif place is Place.B5_TO_COMMIT:
            await event("taken")
            self._lock.take()
            await road.request("continue", id=vehicle.id)
            await event("result_sent")
        elif place is Place.ASKED_TO_ANSWER:
            await bank.request("wait", mti="0200", count=self._sales_heard + 1)
        else:
            await self._until(lambda: self._view.release_of(vehicle.obu_id) == "go", "no decision")

    async def _landed(self, vehicle: Vehicle) -> Place | None:
        """Place that the kill really hit, from what is durable and what the antenna saw."""
        answer = await self._site.controls[self._lane].request("vehicles")
        messages = next(v["messages"] for v in answer["vehicles"] if v["id"] == vehicle.id)
        ordered, result = bool(messages.get("C6")), bool(messages.get("B5"))
        state = self._purchase(vehicle)
        if self._view.release_of(vehicle.obu_id) is not None:
            return Place.DECISION_TO_COIL
        if self._asked(vehicle):
            return Place.ASKED_TO_ANSWER
        if not ordered:
            return Place.BEFORE_C6
        if state == "intent":
            return Place.B5_TO_COMMIT if result else Place.C6_TO_B5
        return None

    # --- what is durable ------------------------------------------------------------------------------------------

    def _purchase(self, vehicle: Vehicle) -> Any:  # noqa: ANN401 - a column's value
        return self._view.value(
            "select u.state from purchase u join debit d on d.id = u.debit_id join subject s on s.id = d.passage_id"
            " where s.obu_id = ? order by u.created_at desc limit 1",
            vehicle.obu_id,
        )

    def _asked(self, vehicle: Vehicle) -> bool:
        """True when a sale of the vehicle is stored without an answer."""
        return bool(
            self._view.value(
                "select count(*) from attempt a join debit d on d.id = a.debit_id join passage p on p.id = d.passage_id"
                " join subject s on s.id = p.id where s.obu_id = ? and a.state = 'stored'",
                vehicle.obu_id,
            )
        )

    # --- vehicles -------------------------------------------------------------------------------------------------

    async def _arrive(self, vehicle: Vehicle) -> None:
        await self._site.controls[vehicle.lane].request("arrive", vehicle=vehicle.on_the_road(int(time.time())))

    async def _through(self, vehicle: Vehicle) -> None:
        """Wait for an open barrier, which the vehicle must get in the end; then let it leave."""
        await self._until(
            lambda: self._view.release_of(vehicle.obu_id) == "go", f"{vehicle.id} ({vehicle.story}) never got through"
        )
        await self._site.controls["board"].request("pass", lane=vehicle.lane)
        await self._site.controls[vehicle.lane].request("leave", id=vehicle.id)

    async def _traffic(self) -> None:
        """Drive one ordinary vehicle after the other on the second lane, through every kill."""
        while not self._last:
            vehicle = self._passer()
            self.result.vehicles.append(vehicle)
            await self._arrive(vehicle)
            await self._through(vehicle)

    async def _until(self, holds: Callable[[], bool], problem: str) -> None:
        if not await wait_until(holds):
            self.result.problems.append(f"{problem} (waited {STUCK_S:.0f} s)")

    # --- the end --------------------------------------------------------------------------------------------------

    async def _prove(self) -> None:
        """Prove that each vehicle is charged once, accounts are as outside, and the ledger agrees with itself."""
        await self._until(lambda: not self._view.waiting(), "the outbox is not empty")
        self.result.lines, problems = await outside(self._site, self._view, self.result.vehicles)
        self.result.problems += problems


async def outside(site: EmulatedSite, view: LedgerView, vehicles: Sequence[Vehicle]) -> tuple[list[Line], list[str]]:
    """Judge a site where every vehicle must have paid once, and stop its gateway: comparisons, and what is wrong."""
    cards = [card for lane in site.lanes for card in (await site.controls[lane].request("cards"))["cards"]]
    book = await site.controls["bank"].request("book")
    board = site.controls["board"]
    lines = [
        *accounts(view, fares_of(vehicles), book, cards),
        *on_the_cards(vehicles, cards),
        *lifts(view, (await board.request("lifts"))["lifts"]),
    ]
    debits = Counter(d.obu_id for d in view.debits() if d.state == "funded")
    problems = [f"{v.id} ({v.story}) has {debits[v.obu_id]} paid debits" for v in vehicles if debits[v.obu_id] != 1]
    verdict = await board.request("verdict")
    if not verdict["ok"]:
        problems.append(f"barrier moved without a committed decision: {verdict['violations']}")
    if await site.gateway.stop():
        problems.append("the gateway did not stop cleanly")
    try:
        await site.command("ledger", "verify")
    except ProgramFailed as error:
        problems.append(str(error))
    return lines, problems


async def run_storm(folder: Path, *, wanted: int = 5, lane: str = "lane-1", entry: str | None = None) -> StormResult:
    """Run the whole storm in `folder`, on the vehicles of one lane; an exit lane needs the entry they come from."""
    async with EmulatedSite(folder, deadline_ms=PATIENT_MS) as site:
        return await Storm(site, wanted=wanted, lane=lane, entry=entry).run()
