"""kill -9 of the real gateway at every step of a sale of fuel, again and again; then it is started, and must make good.

Each round drives one car to a step and kills the gateway there. Steps that end with a commit are met by freezing the
gateway after each of its commits and looking what is stored; the others by holding things still: a lever that nobody
squeezes, a nozzle that stays out, a lock on the database, a bank that keeps its answer. Where the kill really landed is
read afterwards, from the ledger and from the pump, and only that is counted. In every other round the driver goes on
while the gateway is dead, in the others after it is back.

A round is right when the pump's own book, our sales, our debits and the bank's book tell of the same deliveries, each
once and with the same amount, and no hold is left. Where a pump may deliver, before the kill or after the start, a hold
must stand behind it.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any, Final

from hardware.bench.commits import WriteLock, freeze_when
from hardware.bench.demo import Demo
from hardware.bench.fillings import FORGOTTEN_S, LITRES_S
from hardware.bench.forecourt import ISLAND, SIDES, Forecourt
from hardware.bench.ledger_view import LedgerView
from hardware.bench.processes import ProgramFailed
from hardware.bench.reckoning import Line
from hardware.bench.scenario import ONLINE, Expected, Vehicle
from hardware.bench.waiting import LOOK_S, STUCK_S, wait_until

ROUNDS_EXTRA_MAX: Final = 5
"""Rounds a step may need beyond the wanted number, because a kill landed elsewhere."""

ML: Final = 10_000
"""Volume after which a driver lets go."""

SLOWLY: Final = 300
"""Flow at which no limit is reached while the gateway starts, ml/s."""

TOO_MUCH_ML: Final = 100_000
"""More than any limit of the site lets flow."""

READING_S: Final = 0.5
"""Time for which a gateway that cannot store is let read the pump: wherever it is then, the step is the same."""

TURNS: Final = (1, 3, 2)
"""Sides in their turns: both dialects come at once. Sides of controllers, which confirm sales in a way of their own,
have stories in `forecourt`."""


class Step(Enum):
    """Step of a sale, in their order. The value is what a person reads."""

    HELD = "hold stored, sale not yet"
    BEGUN = "sale stored, pump not authorised"
    AUTHORISED = "pump authorised, nothing flows"
    FLOWING = "fuel flows"
    LET_GO = "flow over, nozzle still out"
    RETURNED = "nozzle in, delivery not stored"
    DELIVERED = "delivery stored, bank not asked"
    ASKED = "bank asked, answer not stored"
    DECIDED = "answer stored, sale not billed"
    BILLED = "billed, display not cleared"


ORDER: Final = {step: at for at, step in enumerate(Step)}

SIDES_OF: Final[Mapping[Step, Sequence[int]]] = {Step.BILLED: [side for side in TURNS if SIDES[side][0] == "dart"]}
"""Sides of a step that not every pump knows; TURNS for the others."""

MAY_DELIVER: Final = ("authorised", "fuelling", "suspended")


@dataclass(frozen=True, slots=True)
class Round:
    """One kill and what came of it."""

    step: Step
    landed: Step | None
    side: int
    outcome: str
    problems: tuple[str, ...]


@dataclass(slots=True)
class Killed:
    """Result of all rounds, comparisons and problems beside theirs."""

    rounds: list[Round] = field(default_factory=list)
    lines: list[Line] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    wanted: int = 0
    steps: Sequence[Step] = tuple(Step)

    @property
    def good(self) -> bool:
        """True when every kill was made good, at every step as often as wanted, and every account agrees."""
        enough = all(self._landed(step) >= self.wanted for step in self.steps)
        right = not self.problems and not any(one.problems for one in self.rounds)
        return enough and right and bool(self.lines) and all(line.agrees for line in self.lines)

    def _landed(self, step: Step) -> int:
        return sum(one.landed is step for one in self.rounds)

    def _outcomes(self, step: Step | None) -> Counter[str]:
        return Counter(one.outcome for one in self.rounds if one.landed is step)

    def text(self) -> str:
        """Table of steps, kills and outcomes, for people."""
        outcomes = sorted({one.outcome for one in self.rounds})
        rows = [f"{'step':<34}{'kills':>6}" + "".join(f"{name:>14}" for name in outcomes)]
        for step in (*self.steps, None):
            found = self._outcomes(step)
            name = "landed elsewhere" if step is None else step.value
            rows.append(f"{name:<34}{found.total():>6}" + "".join(f"{found[outcome]:>14}" for outcome in outcomes))
        for line in self.lines:
            rows.append(
                f"{'ok   ' if line.agrees else 'WRONG'} {line.name}: {line.ours}, {line.outside_source} {line.outside}"
            )
        told = [f"{one.step.value}, side {one.side}: {problem}" for one in self.rounds for problem in one.problems]
        return "\n".join(rows + [f"WRONG {problem}" for problem in told + self.problems])

    def as_dict(self) -> dict[str, Any]:
        """Report for programs; keys are stable."""
        return {
            "good": self.good,
            "kills": len(self.rounds),
            "steps": {step.name.lower(): dict(self._outcomes(step)) for step in self.steps},
            "elsewhere": dict(self._outcomes(None)),
            "rounds": [
                asdict(one)
                | {"step": one.step.name.lower(), "landed": None if one.landed is None else one.landed.name.lower()}
                for one in self.rounds
            ],
            "comparisons": [{**asdict(line), "agrees": line.agrees} for line in self.lines],
            "problems": self.problems,
        }


class _Driver:
    """Driver of one car at one side."""

    def __init__(self, site: Forecourt, side: int) -> None:
        self._site = site
        self.side = side
        self.flowed = False
        self.squeezes = False

    async def lift(self) -> None:
        await self._site.pump(self.side, "lift")

    async def fill(self, ml: int) -> None:
        """Fill until so much has flowed, or the limit has stopped it; then let go of the lever."""
        await self.squeeze(LITRES_S)
        end = time.monotonic() + STUCK_S
        while (seen := await self._site.at(self.side))["volume_ml"] < ml and seen["state"] != "limit_reached":
            if time.monotonic() > end:
                raise TimeoutError(f"{ml} ml did not flow at side {self.side}: {seen}")
            await asyncio.sleep(LOOK_S)

    async def squeeze(self, ml_per_s: int) -> None:
        self.flowed = self.squeezes = True
        await self._site.pump(self.side, "flow", ml_per_s=ml_per_s)

    async def let_go(self) -> None:
        self.squeezes = False
        await self._site.pump(self.side, "flow", ml_per_s=0)

    async def hang_up(self) -> None:
        if self.squeezes:
            await self.let_go()
        await self._site.pump(self.side, "return")

    async def go_on(self) -> None:
        """Go on from whatever the pump does to the nozzle's return."""
        seen = await self._site.at(self.side)
        if seen["state"] in MAY_DELIVER:
            await self.fill(ML)
        if seen["out"]:
            await self.hang_up()


class Kills:
    """Kills over a started forecourt."""

    def __init__(self, site: Forecourt, *, wanted: int, steps: Collection[Step] = tuple(Step)) -> None:
        self._site = site
        self._view = LedgerView(site.ledger)
        self._lock = WriteLock(site.ledger)
        self._numbers = itertools.count(100)
        self.result = Killed(wanted=wanted, steps=tuple(step for step in Step if step in steps))

    async def run(self, tell: Callable[[str], None]) -> Killed:
        """Kill at every step as often as wanted, telling of each round; then compare everything with the outside."""
        result = self.result
        rounds = [(step, at) for step in result.steps for at in range(result.wanted + ROUNDS_EXTRA_MAX)]
        cars = [self._car(step) for step, _ in rounds]
        await Demo(self._site, cars).prepare()
        for (step, at), car in zip(rounds, cars, strict=True):
            if sum(one.landed is step for one in result.rounds) < result.wanted:
                result.rounds.append(done := await self._round(step, at, car))
                verdict = "WRONG" if done.problems else "ok   "
                landed = "nowhere of these" if done.landed is None else done.landed.value
                elsewhere = "" if done.landed is step else f" (landed: {landed})"
                tell(f"{verdict} {step.value}, side {done.side}: {done.outcome}{elsewhere}")
        await self._prove()
        return result

    def _car(self, step: Step) -> Vehicle:
        nothing_expected = Expected(())
        return Vehicle(
            next(self._numbers),
            step.value,
            ISLAND,
            nothing_expected,
            card_type=23,
            funding=ONLINE,
            stand_in_limit_fen=50_000,
        )

    # --- one round ------------------------------------------------------------------------------------------------

    async def _round(self, step: Step, at: int, car: Vehicle) -> Round:
        site, problems = self._site, list[str]()
        turns = SIDES_OF.get(step, TURNS)
        driver = _Driver(site, turns[at % len(turns)])
        at_once = at % 2 == 0
        await self._works(problems)
        before = (await site.at(driver.side))["sales"]
        await site.controls[ISLAND].request("arrive", vehicle=car.on_the_road(int(time.time())))
        try:
            await self._reach(step, driver, car, at_once=at_once)
            await site.gateway.kill()
            landed = await self._landed(driver, car)
        finally:
            self._lock.let_go()
            await site.controls["bank"].request("release")
        await self._guarded(driver, car, problems)
        if at_once:
            await driver.go_on()
        await site.gateway.start()
        if not at_once:
            await self._works(problems)
            await self._guarded(driver, car, problems)
            if landed is Step.HELD:
                # Nothing was begun: the nozzle is out, and the car is served as if it had just come.
                await site.pump(driver.side, "wait", state="authorised")
            await driver.go_on()
        await self._until(lambda: self._is_over(car), f"the sale of {car.id} did not end", problems)
        await site.idle(driver.side)
        await site.controls[ISLAND].request("leave", id=car.id)
        outcome = await self._judge(driver, car, before, problems)
        if outcome != "billed":
            await asyncio.sleep(FORGOTTEN_S)  # a car that has not filled up would be a witness still
        return Round(step, landed, driver.side, outcome, tuple(problems))

    async def _reach(self, step: Step, driver: _Driver, car: Vehicle, *, at_once: bool) -> None:
        """Drive a sale to a step. The variant of a step goes with `at_once`."""
        if step in (Step.HELD, Step.BEGUN):
            await self._frozen_at(step, car, driver.lift)
            return
        await driver.lift()
        await self._site.pump(driver.side, "wait", state="authorised")
        if step is Step.AUTHORISED:
            return
        if step is Step.FLOWING:
            await driver.fill(ML // 2)
            if not at_once:
                await driver.squeeze(SLOWLY)  # until the gateway is back
            return
        await driver.fill(TOO_MUCH_ML if step is Step.LET_GO and at_once else ML)
        await driver.let_go()
        if step is Step.RETURNED:
            self._lock.take()
            await driver.hang_up()
            await asyncio.sleep(0 if at_once else READING_S)
        elif step is Step.ASKED:
            await self._asked(driver, car, posted=at_once)
        elif step is not Step.LET_GO:
            await self._frozen_at(step, car, driver.hang_up)

    async def _frozen_at(self, step: Step, car: Vehicle, act: Callable[[], Awaitable[None]]) -> None:
        """Freeze the gateway after the commit that ends with a step, or a later one."""
        freezing = asyncio.create_task(
            freeze_when(
                self._site.gateway,
                self._site.ledger,
                lambda: (found := self._stored(car)) is not None and ORDER[found] >= ORDER[step],
            )
        )
        await act()
        await freezing

    async def _asked(self, driver: _Driver, car: Vehicle, *, posted: bool) -> None:
        """Hang up, and wait until the bank has been asked. It keeps its answer, or posts nothing."""
        bank = self._site.controls["bank"]
        heard = sum(one["mti"] == "0200" for one in (await bank.request("requests"))["requests"])
        if posted:
            await bank.request("hold")
        else:
            await bank.request("behave", contract=car.contract_ref, mti="0200", mode="silent_not_posted", next=1)
        await driver.hang_up()
        await bank.request("wait", mti="0200", count=heard + 1)

    # --- what is durable, and what the pump does --------------------------------------------------------------------

    def _stored(self, car: Vehicle) -> Step | None:
        """Last step of the car's newest sale that the ledger tells of."""
        found = self._view.table(
            "select d.state, s.state, a.state from debit d join subject o on o.id = d.passage_id"
            " left join sale s on s.debit_id = d.id left join attempt a on a.debit_id = d.id"
            " where o.obu_id = ? order by d.created_at desc, a.created_at desc limit 1",
            car.obu_id,
        )
        debit, sale, attempt = found[0] if found else (None, None, None)
        if sale == "delivered":
            return {None: Step.DELIVERED, "stored": Step.ASKED}.get(attempt, Step.DECIDED)
        return {None: Step.HELD if debit == "held" else None, "open": Step.BEGUN, "billed": Step.BILLED}.get(sale)

    async def _landed(self, driver: _Driver, car: Vehicle) -> Step | None:
        """Step that the kill really hit."""
        stored, seen = self._stored(car), await self._site.at(driver.side)
        if stored is Step.BILLED:
            return stored if seen["state"] == "completed" else None
        if stored is not Step.BEGUN:
            return stored
        if not driver.flowed:
            return Step.AUTHORISED if seen["state"] == "authorised" else stored
        if not seen["out"]:
            return Step.RETURNED
        return Step.FLOWING if driver.squeezes and seen["state"] == "fuelling" else Step.LET_GO

    async def _guarded(self, driver: _Driver, car: Vehicle, problems: list[str]) -> None:
        """Check that a hold and a sale stand behind a pump that may deliver."""
        if (await self._site.at(driver.side))["state"] in MAY_DELIVER:
            behind = self._view.table(
                "select d.state, s.state from sale s join debit d on d.id = s.debit_id"
                " join subject o on o.id = d.passage_id where o.obu_id = ? order by s.created_at desc limit 1",
                car.obu_id,
            )
            if behind != [("held", "open")]:
                problems.append(f"the pump may deliver, and behind it stands {behind or 'nothing'}")

    def _is_over(self, car: Vehicle) -> bool:
        """True when nothing of the car is open: no hold, no sale, and the bank has been told everything."""
        open_ones = self._view.value(
            "select count(*) from debit d join subject o on o.id = d.passage_id left join sale s on s.debit_id = d.id"
            " where o.obu_id = ? and (d.state in ('held', 'owed') or s.state in ('open', 'delivered'))",
            car.obu_id,
        )
        return open_ones == 0 and self._view.waiting() == 0

    # --- judging --------------------------------------------------------------------------------------------------

    async def _judge(self, driver: _Driver, car: Vehicle, before: int, problems: list[str]) -> str:
        """Compare the pump's book, our sales, our debits and the bank's book; the outcome in a word."""
        line, number = SIDES[driver.side]
        book = await self._book(line)
        pumped = [
            (one["volume_ml"], one["shown_amount_minor"])
            for one in book
            if one["side"] == number and one["number"] > before
        ]
        rows = self._view.table(
            "select s.state, d.state, s.volume, s.amount, d.amount from debit d join subject o on o.id = d.passage_id"
            " left join sale s on s.debit_id = d.id where o.obu_id = ? order by d.created_at",
            car.obu_id,
        )
        sold = [(volume, amount) for state, _, volume, amount, _ in rows if state == "billed"]
        charged = [amount for _, state, _, _, amount in rows if state == "funded"]
        accounts = (await self._site.controls["bank"].request("book"))["accounts"]
        posted = sum(one["amount_fen"] for one in accounts[car.contract_ref]["postings"])
        if sold != pumped:
            problems.append(f"sold {sold}, the pump's book has {pumped}")
        if charged != [amount for _, amount in pumped]:
            problems.append(f"charged {charged}, the pump's book has {pumped}")
        if posted != sum(charged):
            problems.append(f"the bank has posted {posted} fen, charged were {sum(charged)}")
        ends = {(sale, debit) for sale, debit, *_ in rows}
        if wrong := ends - {("billed", "funded"), ("nothing", "voided"), (None, "voided")}:
            problems.append(f"sale and debit ended as {sorted(wrong, key=str)}")
        newest = rows[-1][0] if rows else None
        return newest or "hold freed"

    async def _prove(self) -> None:
        site, view, result = self._site, self._view, self.result
        book = await site.controls["bank"].request("book")
        metered = [one for line in site.pumps for one in await self._book(line)]
        ours = view.table("select coalesce(sum(volume), 0), coalesce(sum(amount), 0) from sale")[0]
        bank = sum(balance for (kind, _), balance in view.balances().items() if kind == "bank")
        held = view.value("select count(*) from debit where state = 'held'")
        expired = view.value("select count(*) from transfer where phase = 'expire'")
        source = "meters of the pumps"
        result.lines = [
            Line("millilitres", int(ours[0]), sum(one["volume_ml"] for one in metered), source),
            Line("amounts", int(ours[1]), sum(one["shown_amount_minor"] for one in metered), source),
            Line("bank", -bank, int(book["totals"]["net_fen"]), "the bank's own book"),
            Line("holds left (count)", int(str(held)), 0, "no pump may deliver"),
            Line("holds ended by time (count)", int(str(expired)), 0, "only a pump's word ends one"),
        ]
        if status := await site.gateway.stop():
            result.problems.append(f"the gateway ended with status {status}")
        try:
            await site.command("ledger", "verify")
        except ProgramFailed as error:
            result.problems.append(str(error))

    async def _book(self, line: str) -> list[Mapping[str, Any]]:
        sales: list[Mapping[str, Any]] = (await self._site.pumps[line].request("book"))["sales"]
        return sales

    async def _works(self, problems: list[str]) -> None:
        await self._until(self._site.works, "not every part of the site came up", problems)

    @staticmethod
    async def _until(holds: Callable[[], bool], problem: str, problems: list[str]) -> None:
        if not await wait_until(holds):
            problems.append(f"{problem} (waited {STUCK_S:.0f} s)")


async def run_kills(
    folder: Path,
    tell: Callable[[str], None],
    *,
    wanted: int,
    steps: Collection[Step] = tuple(Step),
) -> Killed:
    """Kill the gateway of a forecourt of its own, `wanted` times at each step."""
    async with Forecourt(folder) as site:
        return await Kills(site, wanted=wanted, steps=steps).run(tell)
