"""Sales one after the other at many sides: time from the nozzle's return to the decision, and what the gateway needs.

The gateway and the bank are programs of their own; antennas and pumps are played by this process, so that it knows by
one clock when a nozzle goes in. What became of the sale, and when, is read in the ledger afterwards. The time between
is told in parts that add up:

    noticed   until the side, having heard of the nozzle, had begun to read the pump: mostly the pause between two polls
    pump      reading of the pump's last word and totaliser, as the side counts it
    bank      from the request to the answer, as the engine counts it
    ours      all the rest, up to the first moment at which the stored decision can be acted on

Lines are TCP: what a serial line adds for its bytes is not in these numbers.
"""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import asdict, dataclass, field
from itertools import cycle
from pathlib import Path
from typing import Any, Final, Self

from hardware.bench.demo import Demo
from hardware.bench.fillings import FORGOTTEN_S
from hardware.bench.ledger_view import LedgerView
from hardware.bench.load.roadside import ANYWHERE, measure_lag
from hardware.bench.load.run import quantile_ms
from hardware.bench.load.usage import cpu_s, resident_mb
from hardware.bench.measure import table_of
from hardware.bench.processes import SITES, EmulatedSite, LanePlan, ProgramFailed
from hardware.bench.reckoning import Line
from hardware.bench.scenario import ONLINE, Expected, Vehicle
from hardware.bench.waiting import wait_until
from hardware.emulators.dispenser import Dispenser
from hardware.emulators.pump import PumpConfig, PumpEmulator
from hardware.emulators.road import VehicleSpec
from hardware.emulators.rsu_antenna import Antenna, RsuConfig
from protocols.pump import names
from protocols.pump.dart.master import Timing
from protocols.pump.lanfeng import LANFENG
from protocols.pump.registry import dialect_named
from protocols.pump.two_wire import TWO_WIRE
from protocols.pump.types import SideId, SideState

SIDES_A_LINE: Final = 4
"""Sides of an island, all on one line."""

SIDES_MAX: Final = 255 * SIDES_A_LINE
"""Most sides: lane numbers of one station."""

ISLANDS: Final = ((names.DART, SIDES_A_LINE), (names.TWO_WIRE, SIDES_A_LINE), (names.LANFENG, 2))
"""Dialects and sides of the islands on which times are measured. Panels of Lanfeng want pauses, so that more than two
on a line keep each other waiting for longer than a driver should."""

POLL_MS: Final[Mapping[str, int]] = {
    names.DART: Timing().poll_ms,
    names.TWO_WIRE: TWO_WIRE.timing.poll_ms,
    names.LANFENG: LANFENG.timing.poll_ms,
}
"""Pause between two polls of a side."""

MEASURED_EVERY_S: Final = 8.0
"""Seconds between two sales of a side where times are measured: a sale takes about half of that."""

EVERY_S: Final = 120.0
"""Seconds between two sales of a side of a busy station."""

ML: Final = 10_000
FLOW_ML_S: Final = 3_000
"""A car fills up in seconds: the rate of sales is a station's, the time that fuel flows is not."""

PATIENCE_S: Final = 30.0
"""Time after which a driver hangs up and leaves: a line whose answers come late on a busy machine is not used."""

IDLE_S: Final = 10.0
"""Sample of what a gateway does while nobody comes."""

WITHIN_MS: Final = 2000.0
"""Time in which the bank debit must be decided, at p99."""

FIRST_NUMBER: Final = 1000

POINT: Final = """
[[charge_points]]
name = "{name}"
kind = "fuel"
station = "99010101"
lane_no = {number}
gantry = "{number:06d}"
antenna = {{ address = "${{{name}}}" }}
terminals = {{ bank-a = ["99{number:03d}001", "99{number:03d}002", "99{number:03d}003"] }}
quiet_s = 1
deadline_ms = ${{deadline_ms}}
limit_fen = 30000
proof = {{ before_s = 2 }}
pumps = [{{ name = "line", address = "${{{name}-line}}", dialect = "{dialect}" }}]
"""

SIDE: Final = """
[[charge_points.sides]]
number = {number}
pump = "line"
address = {address}
nozzles = [{{ number = 1, grade = "92" }}]
"""


Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Plan:
    """Plan of one island."""

    name: str
    number: int
    dialect: str
    sides: int

    @property
    def addresses(self) -> tuple[SideId, ...]:
        """Numbers of its sides on their line."""
        return tuple(map(SideId, dialect_named(self.dialect).sides[: self.sides]))

    @property
    def text(self) -> str:
        """Sections of the site file."""
        sides = (SIDE.format(number=at, address=address) for at, address in enumerate(self.addresses, start=1))
        return POINT.format(name=self.name, number=self.number, dialect=self.dialect) + "".join(sides)


def plans_of(sides: int) -> list[Plan]:
    """Plans of islands with DART pumps that have so many sides together."""
    return [
        Plan(f"island-{number}", number, names.DART, min(SIDES_A_LINE, sides - first))
        for number, first in enumerate(range(0, sides, SIDES_A_LINE), start=1)
    ]


@dataclass(slots=True)
class Side:
    """Side of a pump that this process plays."""

    island: Island
    dispenser: Dispenser
    free: asyncio.Lock = field(default_factory=asyncio.Lock)

    def do(self, act: Callable[..., None], *values: int) -> None:
        """Let the driver do something now."""
        act(*values, self.island.pumps.now())
        self.island.pumps.look()


class Island:
    """Island whose antenna and pumps this process plays."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.antenna = Antenna(RsuConfig(listen=ANYWHERE, terminal=bytes.fromhex(f"0199{plan.number:08d}")))
        self.pumps = PumpEmulator(PumpConfig(plan.dialect, plan.addresses, flow_ml_s=0))
        self.sides = [Side(self, place.dispenser) for place in self.pumps.pumps.places.values()]
        self.arriving = asyncio.Lock()
        """Turn of the car that has come and not begun: of two such none would be served."""


class StreamSite(EmulatedSite):
    """Bank and gateway as processes; antennas and pumps of the islands in this one."""

    def __init__(self, folder: Path, plans: Sequence[Plan], **settings: Any) -> None:  # noqa: ANN401 - those of the site
        head = (SITES / "forecourt" / "site.toml").read_text().partition("[http]")[0]
        text = head + "".join(plan.text for plan in plans)
        super().__init__(folder, plan=[LanePlan(plan.name, 0) for plan in plans], site_text=text, **settings)
        self._plans = plans
        self.islands: list[Island] = []

    async def __aexit__(self, kind: type[BaseException] | None = None, *_: object) -> None:
        """End every program, then the islands."""
        async with AsyncExitStack() as left:
            for island in self.islands:
                left.push_async_callback(island.antenna.close)
                left.push_async_callback(island.pumps.close)
            await super().__aexit__(kind)

    async def _start_roadside(self) -> None:
        for plan in self._plans:
            self.islands.append(island := Island(plan))
            await island.antenna.listen()
            await island.pumps.listen()
            self.addresses[plan.name] = "{}:{}".format(*island.antenna.address)
            self.addresses[f"{plan.name}-line"] = island.pumps.listens_at


@dataclass(slots=True)
class Fill:
    """One car at a side, as its driver saw it."""

    car: Vehicle
    side: Side
    returned_us: int | None = None
    """Time at which the nozzle went in, UTC microseconds; None: it never came so far."""
    times_ms: Times | None = None


@dataclass(frozen=True, slots=True)
class Times:
    """Time of one sale from the nozzle's return to the decision, and its parts, in milliseconds."""

    noticed: float
    pump: float
    bank: float
    ours: float
    whole: float


class Stream:
    """Sales over a site of this process's islands."""

    def __init__(self, site: StreamSite, *, sales: int, every_s: float) -> None:
        """`every_s`: seconds between two sales of a side, but for a fifth."""
        self._site = site
        self._view = LedgerView(site.ledger)
        self._every_s = every_s
        chance = random.Random("stream")  # noqa: S311 - repeatable on purpose
        sides = [side for island in site.islands for side in island.sides]
        chance.shuffle(sides)
        between_s = every_s / len(sides)
        cars = (self._car(FIRST_NUMBER + at, side) for at, side in zip(range(sales), cycle(sides), strict=False))
        self.fills = [Fill(car, side) for car, side in cars]
        self._moments = [between_s * (at + chance.uniform(0.0, 0.2)) for at in range(sales)]
        self.lags_s: list[float] = []
        """Delays of this process's loop, so that it is known when it, and not the gateway, was late."""
        self.lines: list[Line] = []
        self.problems: list[str] = []

    @staticmethod
    def _car(number: int, side: Side) -> tuple[Vehicle, Side]:
        nothing_expected = Expected(())
        lane = side.island.plan.name
        return Vehicle(number, "stream", lane, nothing_expected, card_type=23, funding=ONLINE), side

    @property
    def figures(self) -> Row:
        """Figures of the run itself, by which to judge the others."""
        unserved = sum(fill.returned_us is None for fill in self.fills)
        return {"cars_turned_away": unserved, "bench_lag_p99_ms": quantile_ms(self.lags_s, 0.99)}

    async def prepare(self) -> None:
        """Start the gateway with a mandate for every car, and wait until it has all its sides. Raises ProgramFailed."""
        await Demo(self._site, [fill.car for fill in self.fills]).prepare()
        since_us = time.time_ns() // 1000
        if not await wait_until(lambda: self._site.works(since_us)):
            raise ProgramFailed(f"not every part of the site came up; see {self._site.gateway.log}")

    async def drive(self) -> None:
        """Let the cars come, and wait until all have been charged."""
        lag = asyncio.create_task(measure_lag(self.lags_s))
        begun = time.monotonic()
        async with asyncio.TaskGroup() as sales:
            for moment, fill in zip(self._moments, self.fills, strict=True):
                await asyncio.sleep(max(0.0, begun + moment - time.monotonic()))
                sales.create_task(self._sell(fill))
        lag.cancel()

    async def _sell(self, fill: Fill) -> None:
        side, island = fill.side, fill.side.island
        of = side.dispenser
        async with side.free:
            async with island.arriving:
                vehicle = island.antenna.arrive(VehicleSpec.from_json(fill.car.on_the_road(int(time.time()))))
                side.do(of.lift, 1)
                if not await wait_until(lambda: of.state is SideState.AUTHORISED, PATIENCE_S):
                    side.do(of.put_back)
                    vehicle.drive_off()
                    await asyncio.sleep(FORGOTTEN_S)  # it would be a witness still
                    return
            side.do(of.squeeze, FLOW_ML_S)
            while of.volume_ml < ML:
                await asyncio.sleep((ML - of.volume_ml) / FLOW_ML_S)
                island.pumps.look()
            side.do(of.squeeze, 0)
            fill.returned_us = time.time_ns() // 1000
            side.do(of.put_back)
            if not await wait_until(lambda: self._billed(fill.car)):
                self.problems.append(f"{fill.car.id} was not charged")
            vehicle.drive_off()

    def _billed(self, car: Vehicle) -> bool:
        return bool(
            self._view.value(
                "select count(*) from sale s join debit d on d.id = s.debit_id join subject o on o.id = d.passage_id"
                " where o.obu_id = ? and s.state = 'billed' and d.state = 'funded'",
                car.obu_id,
            )
        )

    async def end(self) -> None:
        """Read the times of the sales, compare litres and money with the outside, and stop the gateway."""
        site, view = self._site, self._view
        served = sum(fill.returned_us is not None for fill in self.fills)
        if not await wait_until(lambda: len(self._timed()) == served):
            self.problems.append(f"{len(self._timed())} of {served} sales have times")
        timed = self._timed()
        for fill in self.fills:
            if fill.returned_us is not None and fill.car.obu_id in timed:
                fill.times_ms = _times(fill.returned_us, *timed[fill.car.obu_id])
        book = await site.controls["bank"].request("book")
        metered = [sale for island in site.islands for side in island.sides for sale in side.dispenser.book]
        ours = view.table("select coalesce(sum(volume), 0), coalesce(sum(amount), 0) from sale")[0]
        bank = sum(balance for (kind, _), balance in view.balances().items() if kind == "bank")
        source = "meters of the pumps"
        self.lines = [
            Line("sales", len(timed), served, "cars that filled up"),
            Line("millilitres", int(ours[0]), sum(sale.volume_ml for sale in metered), source),
            Line("amounts", int(ours[1]), sum(sale.shown_amount_minor for sale in metered), source),
            Line("bank", -bank, int(book["totals"]["net_fen"]), "the bank's own book"),
        ]
        if status := await site.gateway.stop():
            self.problems.append(f"the gateway ended with status {status}")

    def _timed(self) -> dict[str, tuple[int, int, int, int]]:
        """Times of each billed sale by its tag, microseconds: delivery stored at, billed at, pump took, bank took."""
        rows = self._view.table(
            "select o.obu_id, j.at, s.changed_at, t.radio_us, t.bank_us from sale s join debit d on d.id = s.debit_id"
            " join subject o on o.id = d.passage_id join decision e on e.debit_id = d.id"
            " join timing t on t.record_no = e.record_no"
            " join journal j on j.debit_id = d.id and j.kind = 'sale' and j.event = 'delivered'"
            " where s.state = 'billed'"
        )
        return {obu_id: (delivered, billed, pump, bank) for obu_id, delivered, billed, pump, bank in rows}


def _times(returned_us: int, delivered_us: int, billed_us: int, pump_us: int, bank_us: int) -> Times:
    """Parts of the time. A sale is billed in the change that follows on the answered commit of its decision."""
    whole, noticed = billed_us - returned_us, delivered_us - returned_us - pump_us
    ours = whole - noticed - pump_us - bank_us
    return Times(*(us / 1000 for us in (noticed, pump_us, bank_us, ours, whole)))


def rows_of(fills: Sequence[Fill]) -> list[Row]:
    """Rows of p50, p99 and the most of each part, for all sales and for each dialect."""
    rows: list[Row] = []
    for dialect in (None, *dict.fromkeys(fill.side.island.plan.dialect for fill in fills)):
        times = [
            asdict(fill.times_ms)
            for fill in fills
            if fill.times_ms is not None and dialect in (None, fill.side.island.plan.dialect)
        ]
        for part in times[0] if times else ():
            values = [one[part] / 1000 for one in times]
            row: Row = {"pumps": dialect or "all", "sales": len(times), "part": part}
            row |= {f"{name}_ms": quantile_ms(values, share) for name, share in (("p50", 0.5), ("p99", 0.99))}
            rows.append(row | {"max_ms": quantile_ms(values, 1.0), "poll_every_ms": POLL_MS.get(dialect or "")})
    return rows


@dataclass(slots=True)
class Measured:
    """Result of a run: rows of figures, comparisons, problems."""

    rows: list[Row]
    figures: Row
    lines: list[Line]
    problems: list[str]

    @property
    def good(self) -> bool:
        """True when every sale that was made was charged right, once, and there are times to tell of."""
        return not self.problems and bool(self.rows) and all(line.agrees for line in self.lines)

    def as_dict(self) -> dict[str, Any]:
        """Report for programs; keys are stable."""
        lines = [{**asdict(line), "agrees": line.agrees} for line in self.lines]
        return {
            "good": self.good,
            "times": self.rows,
            "figures": self.figures,
            "comparisons": lines,
            "problems": self.problems,
        }

    def show(self) -> None:
        """Print tables for people."""
        from hardware.bench import show

        console = show.console()
        if self.rows:
            console.print(table_of("from the nozzle's return to the decision", self.rows))
        console.print(table_of("the run", [{"figure": name, "value": value} for name, value in self.figures.items()]))
        for line in self.lines:
            verdict = "ok   " if line.agrees else "WRONG"
            console.print(f"{verdict} {line.name}: {line.ours}, {line.outside_source} {line.outside}")
        for problem in self.problems:
            console.print(f"WRONG {problem}")


async def measure_times(folder: Path, *, sales: int, within_ms: float = WITHIN_MS) -> Measured:
    """Measure the time from the nozzle's return to the decision, on an island of each dialect."""
    islands = enumerate(ISLANDS, start=1)
    plans = [Plan(f"island-{number}", number, dialect, sides) for number, (dialect, sides) in islands]
    async with StreamSite(folder, plans) as site:
        stream = Stream(site, sales=sales, every_s=MEASURED_EVERY_S)
        await stream.prepare()
        await stream.drive()
        await stream.end()
    rows = rows_of(stream.fills)
    whole_ms = next((row["p99_ms"] for row in rows if row["part"] == "whole"), float("inf"))
    if whole_ms >= within_ms:
        stream.problems.append(f"p99 of the whole is {whole_ms:.0f} ms, and must be below {within_ms:.0f}")
    figures = {"bank_ms": site.bank_ms, **stream.figures}
    return Measured(rows, figures, stream.lines, stream.problems)


async def measure_sides(folder: Path, *, sides: int, every_s: float = EVERY_S, idle_s: float = IDLE_S) -> Measured:
    """Measure what so many sides cost one gateway: while nobody comes, and while each of them sells once."""
    async with StreamSite(folder, plans_of(sides)) as site:
        stream = Stream(site, sales=sides, every_s=every_s)
        await stream.prepare()
        pid = site.gateway.pid
        if pid is None:
            raise ProgramFailed("the gateway was never started")
        figures: Row = {"sides": sides, "islands": len(site.islands), "resident_mb": resident_mb(pid)}
        before = _Spent.of(pid)
        await asyncio.sleep(idle_s)
        idle = _Spent.of(pid).since(before)
        before = _Spent.of(pid)
        await stream.drive()
        selling = _Spent.of(pid).since(before)
        figures |= {
            "resident_mb_after_the_sales": resident_mb(pid),
            "idle_cpu_percent": 100 * idle.cpu_s / idle.seconds,
            "selling_cpu_percent": 100 * selling.cpu_s / selling.seconds,
            "sales_per_minute": 60 * len(stream.fills) / selling.seconds,
            "cpu_ms_per_sale": 1e3 * (selling.cpu_s - idle.cpu_s * selling.seconds / idle.seconds) / len(stream.fills),
        }
        lag = json.loads((site.folder / "state.json").read_text())["loop_lag_ms"]
        figures |= {f"loop_lag_{name}_ms": value for name, value in lag.items()}
        figures |= stream.figures
        await stream.end()
    return Measured(rows_of(stream.fills), figures, stream.lines, stream.problems)


@dataclass(frozen=True, slots=True)
class _Spent:
    """Processor time of a process, and time gone by."""

    seconds: float
    cpu_s: float

    @classmethod
    def of(cls, pid: int) -> Self:
        return cls(time.monotonic(), cpu_s(pid))

    def since(self, before: Self) -> Self:
        return type(self)(self.seconds - before.seconds, self.cpu_s - before.cpu_s)
