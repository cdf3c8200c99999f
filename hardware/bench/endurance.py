"""Thousands of passages over serial lines that hurt every kind of frame, and not one wrong fen.

Several exit lanes side by side, each behind its own hostile line with its own seed. Nothing is expected of a single
passage but that it ends: paid, or in a named unknown that keeps its hold. What is proved is the money.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from hardware.bench.demo import Demo
from hardware.bench.hostile_faults import Fault
from hardware.bench.ledger_view import LedgerView
from hardware.bench.processes import SITES, EmulatedSite, LanePlan, ProgramFailed
from hardware.bench.reckoning import Line, accounts, fares_of, lifts, on_the_cards
from hardware.bench.scenario import FROM, PAID, Expected, Vehicle
from hardware.bench.waiting import wait_until

LANES = 6
"""Lanes side by side: passages wait for lost frames most of the time."""

STATION = "99010206"
RADIO_MS = 5
"""Radio delay, short because the air is not what is tried here."""


@dataclass(slots=True)
class Endured:
    """Result of a run: outcomes, faults, comparisons and problems."""

    passages: int = 0
    outcomes: Counter[str] = field(default_factory=Counter)
    faults: Counter[str] = field(default_factory=Counter)
    frames: int = 0
    lines: list[Line] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    @property
    def good(self) -> bool:
        return not self.problems and bool(self.lines) and all(line.agrees for line in self.lines)

    def text(self) -> str:
        """Report for people."""
        outcomes = ", ".join(f"{count} {outcome}" for outcome, count in sorted(self.outcomes.items()))
        faults = ", ".join(f"{count} {kind}" for kind, count in sorted(self.faults.items()))
        rows = [f"{self.passages} passages: {outcomes}", f"{self.frames} frames, hurt: {faults}"]
        rows += [
            f"{'ok   ' if x.agrees else 'WRONG'} {x.name}: {x.ours}, {x.outside_source} {x.outside}" for x in self.lines
        ]
        rows += [f"WRONG {problem}" for problem in self.problems]
        return "\n".join(rows)


def site_text() -> str:
    """The demo's site file with its lanes replaced."""
    head = (SITES / "demo" / "site.toml").read_text().split("[[charge_points]]", 1)[0]
    return head + "".join(_lane(number) for number in range(1, LANES + 1))


def _lane(number: int) -> str:
    return f"""
[[charge_points]]
name = "noisy-{number}"
kind = "toll-exit"
station = "{STATION}"
lane_no = {number}
gantry = "99020{number}"
antenna = {{ address = "${{noisy-{number}}}", dialect = "legacy-serial-bj", lane_mode = 4 }}
outputs = {{ board = "plaza", barrier = {number * 8}, green = {number * 8 + 1}, red = {number * 8 + 2} }}
terminals = {{ bank-a = ["9902000{number}"] }}
quiet_s = 1
deadline_ms = ${{deadline_ms}}
"""


async def endure(folder: Path, *, passages: int, rate: float = 0.05, seed: int = 1) -> Endured:
    """Drive `passages` vehicles; `rate` is the chance that any one frame is hurt, over all kinds of faults."""
    plan = [LanePlan(f"noisy-{n}", n * 8, STATION, noisy=True) for n in range(1, LANES + 1)]
    result = Endured()
    async with EmulatedSite(
        folder, plan=plan, site_text=site_text(), radio_ms=RADIO_MS, noise=rate / len(Fault), seed=seed
    ) as site:
        vehicles = [
            Vehicle(
                1000 + number,
                "noisy",
                plan[number % LANES].name,
                Expected((PAID,), charged=True, ends="funded", through_doubt=True),
                plate=f"测N{number:05d}",
                entry=FROM,
                priced_as="lane-4",
            )
            for number in range(passages)
        ]
        await Demo(site, vehicles).prepare()
        if not await wait_until(site.works):
            result.problems.append("not every part of the site came up")
        for lane in plan:
            await site.controls[lane.line].request("noisy")
        view = LedgerView(site.ledger)
        await asyncio.gather(
            *(_drive(site, view, lane.name, [v for v in vehicles if v.lane == lane.name], result) for lane in plan)
        )
        await _prove(site, view, vehicles, result)
    return result


async def _drive(site: EmulatedSite, view: LedgerView, lane: str, vehicles: list[Vehicle], result: Endured) -> None:
    road, board = site.controls[lane], site.controls["board"]
    for vehicle in vehicles:
        await road.request("arrive", vehicle=vehicle.on_the_road(int(time.time())))
        await wait_until(partial(_through, view, vehicle))
        outcome = _outcome(view, vehicle)
        await board.request("pass", lane=lane)
        await road.request("leave", id=vehicle.id)
        result.passages += 1
        result.outcomes[str(outcome)] += 1
        if outcome is None:
            result.problems.append(f"{vehicle.id} ended without a decision")


def _through(view: LedgerView, vehicle: Vehicle) -> bool:
    return _outcome(view, vehicle) in ("paid", "repeat")


def _outcome(view: LedgerView, vehicle: Vehicle) -> str | None:
    found = view.value(
        "select e.outcome from decision e join passage p on p.id = e.passage_id join subject s on s.id = p.id"
        " where s.obu_id = ? order by e.record_no desc limit 1",
        vehicle.obu_id,
    )
    return None if found is None else str(found)


async def _prove(site: EmulatedSite, view: LedgerView, vehicles: list[Vehicle], result: Endured) -> None:
    """Accounts against purses and prices; a purchase nobody could settle keeps its hold and is counted apart."""
    cards = []
    for lane in site.plan:
        stats = await site.controls[lane.line].request("stats")
        _hurt(stats, result)
        cards += (await site.controls[lane.name].request("cards"))["cards"]
    open_numbers = {d.obu_id for d in view.debits() if d.state == "held"}
    settled = [v for v in vehicles if v.obu_id not in open_numbers]
    numbers = {v.card_number for v in settled}
    book = await site.controls["bank"].request("book")
    settled_cards = [c for c in cards if c["card_number"] in numbers]
    result.lines = [*accounts(view, fares_of(vehicles), book, settled_cards), *on_the_cards(settled, settled_cards)]
    paid = Counter(d.obu_id for d in view.debits() if d.state == "funded")
    twice = [obu for obu, count in paid.items() if count != 1]
    if twice:
        result.problems.append(f"charged more than once: {twice}")
    board = site.controls["board"]
    result.lines += lifts(view, (await board.request("lifts"))["lifts"])
    verdict = await board.request("verdict")
    if not verdict["ok"]:
        result.problems.append(f"barrier moved without a committed decision: {verdict['violations']}")
    if await site.gateway.stop():
        result.problems.append("the gateway did not stop cleanly")
    try:
        await site.command("ledger", "verify")
    except ProgramFailed as error:
        result.problems.append(str(error))


def _hurt(stats: dict[str, Any], result: Endured) -> None:
    """Count what one line did, both ways."""
    for direction in stats.values():
        if isinstance(direction, dict):
            result.frames += direction["frames"]
            result.faults.update(direction["faults"])
