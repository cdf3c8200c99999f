"""Runs of the load: gateway and null gateway in turn under the same vehicles, their figures and the ratios of them."""

from __future__ import annotations

import asyncio
import gc
import json
import os
import random
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from hardware.bench.demo import Demo
from hardware.bench.ledger_view import LedgerView
from hardware.bench.load.roadside import Car
from hardware.bench.load.search import find, rates_sum_max
from hardware.bench.load.site import LANES_MAX, LoadSite
from hardware.bench.load.usage import Usage, cpu_s, machine_cpu_s, resident_mb
from hardware.bench.processes import DEADLINE_MS, ProgramFailed
from hardware.bench.scenario import ONLINE, PAID, Expected, Vehicle
from hardware.bench.waiting import wait_until

FIRST_NUMBER: Final = 1000
"""Number of the first vehicle."""

TURNS: Final = 4
"""Turns of either program."""

WARM_S: Final = 2.0
"""Duration of the first traffic, which is counted and not measured: everything happens for the first time in it."""

IDLE_S: Final = 6.0
"""Sample of what a gateway does while nobody passes; its own rounds come every second."""

UNSERVED_S: Final = 15.0
"""Time after the last vehicle's arrival for which those that stand there are waited for."""

LIMITS_MS: Final = (50.0, 200.0)
"""Limits of our share's p99 whose rates `--find` looks for."""

FIND_RATE_MAX: Final = 160.0
"""Highest rate that is tried, in vehicles a second: beyond it this process and the bank would be what is measured."""

LANE_RATE_MAX: Final = 2.0
"""Highest rate of one lane: a vehicle takes a third of a second of its radio."""

FIND_TRIES: Final = 2
"""Tries at a rate that seems too high, of which the better one counts: a neighbour's moment is no limit of ours."""

STEPS: Final = "steps"
"""Name among the figures of the tries of `--find`, each with figures of its own."""

RATIOS: Final = (
    "share_p50_ms",
    "share_p99_ms",
    "whole_p50_ms",
    "cpu_ms_per_passage",
    "kb_stored_per_passage",
    "kb_written_per_passage",
    "resident_mb",
    "commits_per_passage",
    *(f"cars_per_s_within_{limit:.0f}_ms" for limit in LIMITS_MS),
)
"""Figures whose ratio to the null gateway says something."""

Figures = dict[str, Any]

Tell = Callable[[str, int, Figures], None]
"""Told of each try of `--find`: the program, its lanes, the try's figures."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """Load of one run. `every_s`: time between two vehicles of a lane; `bank_every`: every so many vehicles the bank is
    asked about a charge card, 0 for none. With `find`, a try takes `find_s`, and `find_steps` of them lie between a
    rate that holds a limit and one that does not."""

    lanes: int
    every_s: float = 4.0
    seconds: float = 20.0
    seed: int = 1
    bank_every: int = 4
    radio_ms: int = 280
    deadline_ms: int = DEADLINE_MS
    idle_s: float = IDLE_S
    find: bool = False
    find_s: float = 6.0
    find_steps: int = 3

    @property
    def rate(self) -> float:
        """Vehicles a second over all lanes."""
        return self.lanes / self.every_s

    @property
    def rate_max(self) -> float:
        """Highest rate that may be tried at these lanes."""
        return min(FIND_RATE_MAX, self.lanes * LANE_RATE_MAX)

    @property
    def vehicles_max(self) -> int:
        """Vehicles that may be needed."""
        rates = FIND_TRIES * rates_sum_max(self.rate_max, len(LIMITS_MS), self.find_steps) if self.find else 0.0
        return round(1.25 * (self.rate * (WARM_S + self.seconds) + rates * self.find_s) + (1 + TURNS) * self.lanes)


class Load:
    """Load over a started site."""

    def __init__(self, site: LoadSite, wanted: Wanted, tell: Tell = lambda *_: None) -> None:
        self._site = site
        self._wanted = wanted
        self._tell = tell
        self._view = LedgerView(site.ledger)
        self._chance = random.Random(f"{wanted.seed}:load")  # noqa: S311 - repeatable on purpose
        self._numbers = iter(range(FIRST_NUMBER, FIRST_NUMBER + wanted.vehicles_max))
        self._warm: list[Car] = []
        self._cars: list[Car] = []
        self._idle = self._used = Usage(0.0, 0.0, 0, 0, 0)
        self._roadside_s = self._others_s = 0.0
        self._steps: list[Figures] = []

    async def prepare(self) -> None:
        """Start the gateway with a mandate for every charge card, and wait until it has all its lanes."""
        site, numbers = self._site, range(FIRST_NUMBER, FIRST_NUMBER + self._wanted.vehicles_max)
        if site.null:
            site.write_site_file()
            await site.gateway.start()
        else:
            await Demo(site, [car for n in numbers if (car := self._vehicle(n, "")).funding]).prepare()
        since_us = time.time_ns() // 1000
        if not await wait_until(lambda: site.roadside.connected and (site.null or site.works(since_us))):
            raise ProgramFailed(f"{site.gateway.name} does not have all its lanes; see {site.gateway.log}")

    async def warm_up(self) -> None:
        """Drive for the first time."""
        self._warm = await self.drive(self._wanted.rate, WARM_S)

    async def take_turn(self) -> None:
        """Idle and drive for a turn, and add to what the load has measured so far."""
        wanted, site = self._wanted, self._site
        before = Usage.of(self._pid, site.ledger)
        await asyncio.sleep(wanted.idle_s / TURNS)
        quiet, roadside_s, others_s = Usage.of(self._pid, site.ledger), time.process_time(), self._others_cpu_s()
        self._cars += await self.drive(wanted.rate, wanted.seconds / TURNS)
        self._idle += quiet.since(before)
        self._used += Usage.of(self._pid, site.ledger).since(quiet)
        self._roadside_s += time.process_time() - roadside_s
        self._others_s += self._others_cpu_s() - others_s

    async def figures(self) -> Figures:
        """Figures of all turns."""
        wanted, site, pid, cars = self._wanted, self._site, self._pid, self._cars
        used = self._used.net_of(self._idle)
        served = max(1, sum(car.lifted_at is not None for car in cars))
        figures: Figures = {
            "cars_per_s": wanted.rate,
            "offered": len(self._warm + cars),
            "served": sum(car.lifted_at is not None for car in self._warm + cars),
            "charged_once": 0,
            "lifts_out_of_turn": len(site.roadside.violations),
            **_times("share", self._shares_s(cars)),
            **_times("whole", [car.whole_s for car in cars if car.whole_s is not None]),
            "cpu_ms_per_passage": 1e3 * used.cpu_s / served,
            "kb_stored_per_passage": used.stored_bytes / 1e3 / served,
            "kb_written_per_passage": used.written_bytes / 1e3 / served,
            "commits_per_passage": used.commits / served,
            "resident_mb": resident_mb(pid),
            **self._gateways_own(cars),
            "roadside_lag_p99_ms": quantile_ms(site.roadside.lags_s, 0.99),
            "roadside_cpu_percent": 100 * self._roadside_s / used.seconds,
            "others_cpu_percent": 100 * self._others_s / used.seconds,
        }
        if wanted.find:
            figures |= await self._find()
        figures["charged_once"] = self._charged_once(self._warm + cars)
        return figures

    @property
    def _pid(self) -> int:
        if self._site.gateway.pid is None:
            raise ProgramFailed(f"{self._site.gateway.name} was never started")
        return self._site.gateway.pid

    def _others_cpu_s(self) -> float:
        """Processor time that everything but this load has had: what disturbs it."""
        pids = (os.getpid(), self._pid, self._site.programs["bank"].pid)
        return machine_cpu_s() - sum(cpu_s(pid) for pid in pids if pid is not None)

    async def end(self) -> None:
        """Stop the gateway. Raises `ProgramFailed` when it does not end in order, or barriers moved more often than
        decided. An order that comes after the next vehicle's decision, from a board that did not answer in time, is one
        out of turn and no more than that."""
        site = self._site
        decided = Counter(
            lane for lane, _ in self._view.rows("select charge_point, 1 from decision where release = 'go'")
        )
        if more := Counter(site.roadside.lifts) - decided:
            raise ProgramFailed(f"barriers moved without a committed decision: {dict(more)}")
        status = await site.gateway.stop()
        if status:
            raise ProgramFailed(f"{site.gateway.name} ended with status {status}; see {site.gateway.log}")

    async def drive(self, rate: float, seconds: float) -> list[Car]:
        """Let vehicles come at this rate, each lane's evenly but for a fifth, and wait until they have passed."""
        site, loop = self._site, asyncio.get_running_loop()
        due = self._moments(rate, seconds)
        cars = [Car(self._vehicle(next(self._numbers), lane)) for _, lane in due]
        specs = [car.described.on_the_road(int(time.time())) for car in cars]
        opened = site.roadside.openings
        begun = loop.time()
        with _no_garbage_collection():
            lag = loop.create_task(site.roadside.measure_lag())
            for (moment, _), car, spec in zip(due, cars, specs, strict=True):
                await asyncio.sleep(max(0.0, begun + moment - loop.time()))
                site.roadside.arrive(car, spec)
            came = sum(car.on_road is not None for car in cars)
            await wait_until(lambda: site.roadside.openings - opened >= came, UNSERVED_S)
            lag.cancel()
        await self._match()
        for car in cars:
            if car.on_road is not None and car.on_road.present:
                car.on_road.drive_off()
        return cars

    def _moments(self, rate: float, seconds: float) -> list[tuple[float, str]]:
        """Moments of arrival, in order, with the lane."""
        every = len(self._site.lanes) / rate
        found = []
        for lane in self._site.lanes:
            moment = every * self._chance.random()
            while moment < seconds:
                found.append((moment, lane))
                moment += every * self._chance.uniform(0.8, 1.2)
        return sorted(found)

    def _vehicle(self, number: int, lane: str) -> Vehicle:
        asks = self._wanted.bank_every > 0 and number % self._wanted.bank_every == 0
        card, funding = (23, ONLINE) if asks else (22, None)
        return Vehicle(number, "load", lane, Expected((PAID,), charged=True), card_type=card, funding=funding)

    # --- comparing with the ledger ----------------------------------------------------------------------------------

    async def _match(self) -> None:
        """Give the cars the openings of their passages; the ledger knows which passage is whose."""
        if self._site.null:
            rows = self._view.rows("select passage_id, passage_id from decision")
        else:
            await wait_until(lambda: all(row.total_us is not None for row in self._view.decisions()), UNSERVED_S)
            rows = self._view.rows("select p.id, s.obu_id from passage p join subject s on s.id = p.id")
        self._site.roadside.match(dict(rows))

    def _bank_s(self) -> dict[str, float]:
        """Seconds at the bank by passage."""
        if self._site.null:
            return {}
        asked = [row for row in self._view.decisions() if row.bank_us]
        return {row.passage_id: (row.bank_us or 0) / 1e6 for row in asked}

    def _shares_s(self, cars: Sequence[Car]) -> list[float]:
        """Our share of each passage in seconds: the whole without radio and bank."""
        bank_s = self._bank_s()
        return [
            car.whole_s - car.radio_s - bank_s.get(car.passage_id or "", 0.0) for car in cars if car.whole_s is not None
        ]

    def _charges(self, cars: Sequence[Car]) -> list[tuple[int, int]]:
        """Purchases that the card of each car tells of, and charges that the ledger does."""
        charged = "('released', 'funded', 'owed', 'debt')"
        rows = self._view.rows(
            "select passage_id, 1 from decision"
            if self._site.null
            else "select s.obu_id, 1 from debit d join passage p on p.id = d.passage_id"  # noqa: S608 - nothing from outside
            f" join subject s on s.id = p.id where d.state in {charged}"
        )
        debits = Counter(obu_id for obu_id, _ in rows)
        return [(car.purchases, debits[car.described.obu_id]) for car in cars]

    def _charged_once(self, cars: Sequence[Car]) -> int:
        """Count the cars whose card tells of one purchase, and the ledger of one charge."""
        return self._charges(cars).count((1, 1))

    def _gateways_own(self, cars: Sequence[Car]) -> Figures:
        """Figures that the gateway keeps of itself; the null gateway keeps none."""
        names = ("own_share_p50_ms", "own_share_p99_ms", "loop_lag_p50_ms", "loop_lag_p99_ms", "loop_lag_max_ms")
        if self._site.null:
            return dict.fromkeys(names)
        ours = {car.passage_id for car in cars}
        own_s = [d.own_us / 1e6 for d in self._view.decisions() if d.own_us is not None and d.passage_id in ours]
        lag = json.loads((self._site.folder / "state.json").read_text())["loop_lag_ms"]
        values = (quantile_ms(own_s, 0.5), quantile_ms(own_s, 0.99), lag["p50"], lag["p99"], lag["max"])
        return dict(zip(names, values, strict=True))

    # --- looking for the rate ----------------------------------------------------------------------------------------

    async def _find(self) -> Figures:
        """Rates between which our share's p99 passes each limit, and every step on the way."""
        wanted = self._wanted
        found = await find(
            LIMITS_MS, self._share_p99_ms, first=wanted.rate, most=wanted.rate_max, halvings=wanted.find_steps
        )
        figures: Figures = {}
        for limit, bounds in found.items():
            figures |= {
                f"cars_per_s_within_{limit:.0f}_ms": bounds.within,
                f"cars_per_s_beyond_{limit:.0f}_ms": bounds.beyond,
            }
        return figures | {STEPS: self._steps}

    async def _share_p99_ms(self, rate: float) -> float:
        """Our share's p99 at a rate, in the better of the tries; infinite where a car was not served."""
        p99_ms = float("inf")
        for _ in range(FIND_TRIES):
            step = await self._step(rate)
            self._steps.append(step)
            self._tell(self._site.gateway.name, self._wanted.lanes, step)
            if step["share_p99_ms"] is not None and step["served"] == step["offered"]:
                p99_ms = min(p99_ms, step["share_p99_ms"])
            if p99_ms < LIMITS_MS[0]:
                break
        return p99_ms

    async def _step(self, rate: float) -> Figures:
        """Figures of one try. `charged_wrong` counts the cars that were served and not charged once, and those that
        were charged twice."""
        lags_s = self._site.roadside.lags_s
        lags_before, before = len(lags_s), len(self._site.roadside.violations)
        cars = await self.drive(rate, self._wanted.find_s)
        charges = self._charges(cars)
        return {
            "cars_per_s": rate,
            "offered": len(cars),
            "served": sum(car.lifted_at is not None for car in cars),
            "charged_once": charges.count((1, 1)),
            "charged_wrong": sum(
                max(charge) > 1 or (car.lifted_at is not None and charge != (1, 1))
                for car, charge in zip(cars, charges, strict=True)
            ),
            "lifts_out_of_turn": len(self._site.roadside.violations) - before,
            **_times("share", self._shares_s(cars)),
            "roadside_lag_p99_ms": quantile_ms(lags_s[lags_before:], 0.99),
        }


async def run_both(
    folder: Path, wanted: Wanted, *, null_only: bool = False, tell: Tell = lambda *_: None
) -> dict[str, Figures]:
    """Figures of gateway and null gateway under the same vehicles. They take turns, so that a neighbour who comes or
    goes disturbs both. Raises `ProgramFailed`."""
    if not 1 <= wanted.lanes <= LANES_MAX:
        raise ValueError(f"{wanted.lanes} lanes; a site of the load has 1 to {LANES_MAX}")
    loads: dict[str, Load] = {}
    async with AsyncExitStack() as sites:
        for name in ("null",) if null_only else ("gateway", "null"):
            site = LoadSite(
                folder / f"{wanted.lanes}-{name}",
                wanted.lanes,
                null=name == "null",
                radio_ms=wanted.radio_ms,
                deadline_ms=wanted.deadline_ms,
                seed=wanted.seed,
            )
            loads[name] = Load(await sites.enter_async_context(site), wanted, tell)
            await loads[name].prepare()
            await loads[name].warm_up()
        for _ in range(TURNS):
            for load in loads.values():
                await load.take_turn()
        found = {name: await load.figures() for name, load in loads.items()}
        for load in loads.values():
            await load.end()
    return found


def rows_of(found: dict[str, Figures]) -> list[dict[str, Any]]:
    """Figures as rows, with the ratio of the gateway's to the null gateway's where that says something."""
    names = next(iter(found.values()))
    rows = []
    for name in (name for name in names if name != STEPS):
        row: dict[str, Any] = {"figure": name} | {who: figures[name] for who, figures in found.items()}
        ours, null = (found[who][name] if who in found else None for who in ("gateway", "null"))
        if len(found) > 1:
            row["ratio"] = ours / null if name in RATIOS and ours is not None and null else None
        rows.append(row)
    return rows


def good(found: dict[str, Figures]) -> bool:
    """True when every car that came was served and charged once, each barrier in its turn; at a rate of the search,
    which may be too high to serve all, nobody was charged wrongly."""
    return all(
        figures["offered"] == figures["served"] == figures["charged_once"]
        and not figures["lifts_out_of_turn"]
        and not any(step["charged_wrong"] for step in figures.get(STEPS, ()))
        for figures in found.values()
    )


def measure(folder: Path) -> list[dict[str, Any]]:
    """Short run for `make bench`: 16 lanes, a vehicle every four seconds on each."""
    return rows_of(asyncio.run(run_both(folder, Wanted(lanes=16, seconds=12.0))))


@contextmanager
def _no_garbage_collection() -> Iterator[None]:
    """Switch the collector off while this process plays the road: it must not be late where the gateway is measured."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def _times(name: str, seconds: Sequence[float]) -> Figures:
    return {f"{name}_p50_ms": quantile_ms(seconds, 0.5), f"{name}_p99_ms": quantile_ms(seconds, 0.99)}


def quantile_ms(seconds: Sequence[float], share: float) -> float | None:
    """Quantile in milliseconds, by nearest rank; None of nothing."""
    ranked = sorted(seconds)
    return 1e3 * ranked[round(share * (len(ranked) - 1))] if ranked else None
