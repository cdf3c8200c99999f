"""The storm with everything at once: kills, freezes and floods among traffic, in an order that a seed decides.

Three lanes trade all the time, with cards that pay and with cards that the bank is asked about. Meanwhile the gateway
is killed, programs are frozen (SIGSTOP) for up to seven seconds, and peers pour on their lines what nobody asked for.
One trouble may begin before the one before it is over. Nothing is expected of a sale but that it ends: floods may stop
sales for as long as they last, and then the vehicles that stand there get through. What is proved is the money, and
that no barrier has moved without a row that says so, both as the world outside has it.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from enum import Enum
from functools import partial
from itertools import count, cycle
from pathlib import Path
from typing import Any

from hardware.bench.demo import Demo
from hardware.bench.ledger_view import LedgerView
from hardware.bench.processes import PATIENT_MS, EmulatedSite, Program
from hardware.bench.reckoning import Line
from hardware.bench.scenario import FROM, ONLINE, PAID, Expected, Vehicle
from hardware.bench.storm import outside
from hardware.bench.waiting import LOOK_S, STUCK_S, wait_until

LANES = {"lane-1": None, "lane-2": "99010101", "lane-4": FROM}
"""The lanes that trade, and the station their vehicles have entered at."""

FREEZE_S = (0.5, 7.0)
FLOOD_S = (1.0, 6.0)
"""Seconds a flood lasts, shortest and longest."""

LIFT_S = 15.0
"""A barrier that has not moved so long after its decision does not move any more: longer than any freeze."""

BANK_EVERY = 2
"""Every second vehicle's money is asked for at the bank."""


class Kind(Enum):
    """Kind of trouble at the site. The value is what a person reads."""

    KILL = "gateway killed"
    FREEZE_GATEWAY = "gateway frozen"
    FREEZE_BANK = "bank frozen"
    FREEZE_ANTENNA = "antenna frozen"
    FREEZE_BOARD = "relay board frozen"
    ANSWERS = "bank: answers that nobody asked for"
    TRICKLE = "bank: a message that never ends"
    REPORTS = "antenna: tags that nobody has"
    ALL_FF = "antenna line: all FF"
    FALSE_HEADERS = "antenna line: false headers"


FREEZES = (Kind.FREEZE_GATEWAY, Kind.FREEZE_BANK, Kind.FREEZE_ANTENNA, Kind.FREEZE_BOARD)
FLOODS = (Kind.ANSWERS, Kind.TRICKLE, Kind.REPORTS, Kind.ALL_FF, Kind.FALSE_HEADERS)


@dataclass(frozen=True, slots=True)
class Trouble:
    """Trouble of one kind, and how long; `lane` is where, for an antenna's."""

    kind: Kind
    seconds: float
    lane: str
    overlap: float
    """Share of the trouble that is over when the next one begins."""


def troubles(seed: int, kinds: tuple[Kind, ...]) -> Iterator[Trouble]:
    """Troubles without end, the same for one seed; every kind comes once in each round."""
    chance = random.Random(f"{seed}:chaos")  # noqa: S311 - repeatable on purpose
    while True:
        for kind in chance.sample(kinds, len(kinds)):
            seconds = 0.0 if kind is Kind.KILL else chance.uniform(*(FREEZE_S if kind in FREEZES else FLOOD_S))
            yield Trouble(kind, seconds, chance.choice(list(LANES)), chance.uniform(0.3, 1.2))


@dataclass(slots=True)
class Survived:
    """Result of a run: troubles, vehicles, comparisons and problems."""

    seed: int
    seconds: float = 0.0
    happened: Counter[Kind] = field(default_factory=Counter)
    through: int = 0
    vehicles: list[Vehicle] = field(default_factory=list)
    lines: list[Line] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    @property
    def good(self) -> bool:
        return not self.problems and bool(self.lines) and all(line.agrees for line in self.lines)

    def text(self) -> str:
        """Report for people."""
        rows = [f"{kind.value:<38}{self.happened[kind]:>4}" for kind in Kind if self.happened[kind]]
        rows.append(f"seed {self.seed}, {self.seconds:.0f} s, {self.through} of {len(self.vehicles)} vehicles through")
        rows += [
            f"{'ok   ' if x.agrees else 'WRONG'} {x.name}: {x.ours}, {x.outside_source} {x.outside}" for x in self.lines
        ]
        rows += [f"WRONG {problem}" for problem in self.problems]
        return "\n".join(rows)

    def as_dict(self) -> dict[str, Any]:
        """Report for programs; keys are stable."""
        return {
            "good": self.good,
            "seed": self.seed,
            "seconds": round(self.seconds, 1),
            "happened": {kind.name.lower(): self.happened[kind] for kind in Kind},
            "vehicles": len(self.vehicles),
            "through": self.through,
            "comparisons": [{**asdict(line), "agrees": line.agrees} for line in self.lines],
            "problems": self.problems,
        }


class Chaos:
    """Run of troubles over a started site."""

    def __init__(
        self, site: EmulatedSite, kinds: tuple[Kind, ...], *, seed: int, seconds: float, say: Callable[[str], None]
    ) -> None:
        """`say` is told of every trouble as it begins."""
        self._site = site
        self._kinds = kinds
        self._wanted_s = seconds
        self._say = say
        self._view = LedgerView(site.ledger)
        self._killing = asyncio.Lock()
        self._last = False
        self._numbers = count(100)
        self.result = Survived(seed)

    async def run(self) -> Survived:
        """Run every kind at least once, and for `seconds` at least; then let all that stands there through."""
        banked = {lane: [self._vehicle(lane, ONLINE) for _ in range(self._bank_vehicles())] for lane in LANES}
        await Demo(self._site, [v for vehicles in banked.values() for v in vehicles]).prepare()
        await self._until(self._site.works, "not every part of the site came up")
        begun = time.monotonic()
        async with asyncio.TaskGroup() as traffic:
            for lane, vehicles in banked.items():
                traffic.create_task(self._traffic(lane, iter(vehicles)))
            # A flood of reports looks like the last real one.
            await self._until(lambda: self.result.through >= len(LANES), "no vehicle got through")
            await self._storm(begun)
            self._last = True
        self.result.seconds = time.monotonic() - begun
        await self._prove()
        return self.result

    def _bank_vehicles(self) -> int:
        """Vehicles of one lane that pay by bank: a sale takes about a second, and further ones pay from their card."""
        return 20 + int(self._wanted_s) // BANK_EVERY

    async def _storm(self, begun: float) -> None:
        async with asyncio.TaskGroup() as going:
            for number, trouble in enumerate(troubles(self.result.seed, self._kinds)):
                at = time.monotonic() - begun
                if number >= len(self._kinds) and at >= self._wanted_s:
                    return
                where = f" ({trouble.lane})" if trouble.kind.value.startswith("antenna") else ""
                lasts = f" for {trouble.seconds:.1f} s" if trouble.seconds else ""
                self._say(f"{at:6.1f} s  {self.result.through:>4} through  {trouble.kind.value}{where}{lasts}")
                self.result.happened[trouble.kind] += 1
                task = going.create_task(self._make(trouble))
                await asyncio.sleep(trouble.seconds * trouble.overlap)
                if trouble.kind is Kind.KILL:
                    await asyncio.wait({task})

    async def _make(self, trouble: Trouble) -> None:
        kind, programs = trouble.kind, self._site.programs
        ms = round(trouble.seconds * 1000)
        if kind is Kind.KILL:
            async with self._killing:
                await self._site.gateway.kill()
                await self._site.gateway.start()
        elif kind is Kind.FREEZE_GATEWAY:
            await self._freeze(self._site.gateway, trouble.seconds)
        elif kind is Kind.FREEZE_BANK:
            await self._freeze(programs["bank"], trouble.seconds)
        elif kind is Kind.FREEZE_ANTENNA:
            await self._freeze(programs[trouble.lane], trouble.seconds)
        elif kind is Kind.FREEZE_BOARD:
            await self._freeze(programs["board"], trouble.seconds)
        elif kind in (Kind.ANSWERS, Kind.TRICKLE):
            await self._site.controls["bank"].request("flood", what=kind.name.lower(), ms=ms)
        else:
            await self._site.controls[trouble.lane].request("flood", what=kind.name.lower(), ms=ms)

    async def _freeze(self, program: Program, seconds: float) -> None:
        program.freeze()
        try:
            await asyncio.sleep(seconds)
        finally:
            program.thaw()

    # --- vehicles -------------------------------------------------------------------------------------------------

    def _vehicle(self, lane: str, funding: str | None = None) -> Vehicle:
        return Vehicle(
            next(self._numbers),
            "chaos",
            lane,
            Expected((PAID,), charged=True, ends="funded"),
            entry=LANES[lane],
            card_type=22 if funding is None else 23,
            funding=funding,
        )

    async def _traffic(self, lane: str, banked: Iterator[Vehicle]) -> None:
        """Drive one vehicle after the other, through everything."""
        for asks in cycle((False,) * (BANK_EVERY - 1) + (True,)):
            if self._last:
                return
            vehicle = (next(banked, None) if asks else None) or self._vehicle(lane)
            self.result.vehicles.append(vehicle)
            road, board = self._site.controls[lane], self._site.controls["board"]
            await road.request("arrive", vehicle=vehicle.on_the_road(int(time.time())))
            await self._until(partial(self._is_over, vehicle), f"{vehicle.id} at {lane} never got through")
            if self._view.release_of(vehicle.obu_id) == "go":
                self.result.through += 1
                await self._lifted(vehicle)
                await board.request("pass", lane=lane)
            await road.request("leave", id=vehicle.id)

    async def _lifted(self, vehicle: Vehicle) -> None:
        """Wait until the barrier has moved for it: the board cannot tell the lifts of two decisions apart when both are
        stored before the first of them arrives. A person lets it out where the gateway has died before."""
        end = time.monotonic() + LIFT_S
        while time.monotonic() < end:
            mine = {d.record_no for d in self._view.decisions() if d.obu_id == vehicle.obu_id and d.release == "go"}
            lifts = (await self._site.controls["board"].request("lifts"))["lifts"]
            if not mine.isdisjoint(lifts[vehicle.lane]):
                return
            await asyncio.sleep(LOOK_S)

    def _is_over(self, vehicle: Vehicle) -> bool:
        """True when through, or a person's: no purchase of this bench may be in dispute, and the comparisons say so."""
        return self._view.release_of(vehicle.obu_id) in ("go", "attendant")

    async def _until(self, holds: Callable[[], bool], problem: str) -> bool:
        held = await wait_until(holds)
        if not held:
            self.result.problems.append(f"{problem} (waited {STUCK_S:.0f} s)")
        return held

    async def _prove(self) -> None:
        await self._until(lambda: not self._view.waiting(), "the outbox is not empty")
        lines, problems = await outside(self._site, self._view, self.result.vehicles)
        self.result.lines = lines
        self.result.problems += problems


async def run_chaos(
    folder: Path,
    *,
    freezes: bool,
    floods: bool,
    seconds: float,
    seed: int = 1,
    say: Callable[[str], None] = lambda _: None,
) -> Survived:
    """Run everything in `folder`, for `seconds` at least; kills are always among the troubles."""
    kinds = (Kind.KILL, *(FREEZES if freezes else ()), *(FLOODS if floods else ()))
    async with EmulatedSite(folder, deadline_ms=PATIENT_MS, seed=seed) as site:
        return await Chaos(site, kinds, seed=seed, seconds=seconds, say=say).run()
