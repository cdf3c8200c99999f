"""The demo as a person sees it: a live table, then the summary, then how to look further."""

from __future__ import annotations

import asyncio
import sys
import time
from collections import deque
from collections.abc import Sequence
from itertools import count
from pathlib import Path

from rich.console import Console
from rich.live import Live

from hardware.bench import show
from hardware.bench.busy import lane_deadline_ms, slowdown
from hardware.bench.demo import Demo, Phase, Run
from hardware.bench.demo_site import FILLINGS, DemoSite
from hardware.bench.processes import EmulatedSite
from hardware.bench.scenario import VEHICLES, Vehicle, vehicles_of
from hardware.bench.texts import say

REFRESH_S = 0.2
DETAILS = "summary.txt"
"""File beside the site file with what does not fit a screen."""

DETAIL_COLUMNS = 132
TOLD_EVERY = 10
"""Vehicles between two lines about how far a run is, where there is no terminal."""

SERVE_EVERY_S = 2.0
"""Pause between two vehicles while the site is just kept running."""

SERVED_NOISE = 0.02
"""Share of the frames that are hurt while the line is bad: the vehicle on it gets through in some seconds."""

ROUNDS_KNOWN = 20
"""Rounds of the endless traffic whose mandates and list entries are in force; older ones leave."""


async def watch(folder: Path, *, quiet: bool = False) -> Run:
    """Run the demo in `folder` and show it."""
    console = show.console()
    slower = slowdown()
    async with DemoSite(folder, deadline_ms=lane_deadline_ms(slower)) as site:
        demo = Demo(site, slower=slower)
        driving = asyncio.create_task(_all_of(demo))
        try:
            if quiet:
                await driving
            elif console.is_terminal:
                await _follow(demo, driving, console)
            else:
                await _tell(demo, driving)
        finally:
            driving.cancel()  # it must not go on at a site that is being taken down
            await asyncio.wait({driving})
    if not quiet:
        console.print(show.summary(demo.run, console.width))
        with (folder / DETAILS).open("w", encoding="utf-8") as file:
            Console(file=file, width=DETAIL_COLUMNS).print(show.details(demo.run))
        details = near(folder / DETAILS)
        console.print(say(show.screen_of_person(), "live.every-vehicle-time-account", details=details), style="dim")
        _tell_commands(console, site.site_file)
    return demo.run


def _tell_commands(console: Console, site_file: Path) -> None:
    """Print commands that look further, as they work in this folder."""
    for noun in ("passages", "debits"):
        console.print(f"{etcgw()} {noun} --config {near(site_file)}", style="dim", soft_wrap=True)


def etcgw() -> str:
    """The product's program as it is typed from here."""
    return near(Path(sys.executable).with_name("etcgw"))


def near(path: Path) -> str:
    """A path as it is typed from here: relative where it lies below this folder."""
    here = Path.cwd()
    return str(path.relative_to(here) if path.is_relative_to(here) else path)


async def serve(folder: Path, *, bank_days_behind: int = 0) -> None:
    """Run the site of the demo with the vehicles of its scenario, round after round, until cancelled."""
    console = show.console()
    deadline_ms = lane_deadline_ms(slowdown())
    site = EmulatedSite(folder, deadline_ms=deadline_ms, noise=SERVED_NOISE, bank_days_behind=bank_days_behind)
    async with site:
        demo = Demo(site)
        await demo.prepare()
        for name, address in sorted(site.addresses.items()):
            console.print(f"{name:<11} {address}")
        _tell_commands(console, site.site_file)
        rounds: deque[Sequence[Vehicle]] = deque([VEHICLES], maxlen=ROUNDS_KNOWN)
        for number in count(1):
            for vehicle in rounds[-1]:
                if not site.gateway.running:
                    return
                await _one_more(demo, vehicle, console)
                await asyncio.sleep(SERVE_EVERY_S)
            fresh = vehicles_of(number)
            await demo.make_known(fresh, [vehicle for known in rounds for vehicle in known])
            rounds.append(fresh)


async def _one_more(demo: Demo, vehicle: Vehicle, console: Console) -> None:
    result = await demo.drive_in_turn(vehicle)
    demo.run.results.clear()  # this traffic has no end, and no summary
    last = result.decisions[-1] if result.decisions else None
    outcome = "no decision" if last is None else f"{last.outcome}, release {last.release}, {last.amount} fen"
    console.print(f"{time.strftime('%H:%M:%S')} {vehicle.lane} {vehicle.story}: {outcome}")


async def _all_of(demo: Demo) -> None:
    await demo.prepare()
    await demo.drive()
    await demo.prove()


async def _follow(demo: Demo, driving: asyncio.Task[None], console: Console) -> None:
    with Live(show.live(demo.run, console.width), console=console, auto_refresh=False, transient=True) as table:
        while not driving.done():
            await asyncio.wait({driving}, timeout=REFRESH_S)
            table.update(show.live(demo.run, console.width), refresh=True)
    await driving


async def _tell(demo: Demo, driving: asyncio.Task[None]) -> None:
    """Print how far the run is to standard error, where there is no terminal: a line a phase and some vehicles."""
    talk, screen = Console(stderr=True, highlight=False), show.screen_of_person()
    phase, told = None, 0
    while not driving.done():
        await asyncio.wait({driving}, timeout=REFRESH_S)
        if demo.run.phase != phase:
            phase = demo.run.phase
            talk.print(screen.word(phase.value))
        dealt_with = len(demo.run.results) + demo.run.at_pumps
        if phase is not Phase.DONE and dealt_with >= told + TOLD_EVERY:
            told = dealt_with
            talk.print(say(screen, "live.vehicles", dealt_with=dealt_with, vehicles=len(VEHICLES) + len(FILLINGS)))
    await driving
