"""The demo as a person sees it: a live table, then the summary, then how to look further."""

from __future__ import annotations

import asyncio
import sys
import time
from dataclasses import replace
from pathlib import Path

from rich.console import Console
from rich.live import Live

from hardware.bench import show
from hardware.bench.busy import lane_deadline_ms, slowdown
from hardware.bench.demo import Demo, Run
from hardware.bench.processes import EmulatedSite
from hardware.bench.scenario import VEHICLES, Vehicle

REFRESH_S = 0.2
DETAILS = "summary.txt"
"""File beside the site file with what does not fit a screen."""

DETAIL_COLUMNS = 132
TOLD_EVERY = 10
"""Vehicles between two lines about how far a run is, where there is no terminal."""

SERVE_EVERY_S = 2.0
"""Pause between two vehicles while the site is just kept running."""

NUMBERS_FROM = 10_000
"""First vehicle number of the endless traffic, clear of the scenario's."""


async def watch(folder: Path, *, quiet: bool = False) -> Run:
    """Run the demo in `folder` and show it."""
    console = show.console()
    slower = slowdown()
    async with EmulatedSite(folder, deadline_ms=lane_deadline_ms(slower)) as site:
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
        _tell_commands(console, folder / DETAILS, site.site_file)
    return demo.run


def _tell_commands(console: Console, details: Path, site_file: Path) -> None:
    """Print where the rest is, and the commands that look into it, as they work in this folder."""
    say = show.screen_of_person().say
    etcgw, config = near(Path(sys.executable).with_name("etcgw")), near(site_file)
    for line in (
        say(f"every vehicle, time and account: {near(details)}", f"每辆车、用时和账户: {near(details)}"),
        f"{etcgw} passages --config {config}",
        f"{etcgw} debits --config {config}",
    ):
        console.print(line, style="dim", soft_wrap=True)


def near(path: Path) -> str:
    """A path as it is typed from here: relative where it lies below this folder."""
    here = Path.cwd()
    return str(path.relative_to(here) if path.is_relative_to(here) else path)


async def serve(folder: Path) -> None:
    """Run the site of the demo with one ordinary vehicle after another, until cancelled."""
    console = show.console()
    async with EmulatedSite(folder, deadline_ms=lane_deadline_ms(slowdown())) as site:
        demo = Demo(site)
        await demo.prepare()
        console.print(f"site file   {site.site_file}")
        for name, address in sorted(site.addresses.items()):
            console.print(f"{name:<11} {address}")
        console.print("Ctrl-C stops everything.", style="dim")
        ordinary = [v for v in VEHICLES if v.expected.charged and v.card_type == 22 and v.fault is None]
        number = NUMBERS_FROM
        while site.gateway.running:
            await _one_more(demo, replace(ordinary[number % len(ordinary)], number=number, seen_again=False), console)
            number += 1
            await asyncio.sleep(SERVE_EVERY_S)


async def _one_more(demo: Demo, vehicle: Vehicle, console: Console) -> None:
    result = await demo.drive_one(vehicle)
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
    talk = Console(stderr=True, highlight=False)
    phase, told = "", 0
    while not driving.done():
        await asyncio.wait({driving}, timeout=REFRESH_S)
        if demo.run.phase != phase:
            phase = demo.run.phase
            talk.print(phase)
        dealt_with = len(demo.run.results)
        if phase != "done" and dealt_with >= told + TOLD_EVERY:
            told = dealt_with
            talk.print(f"  {dealt_with} of {len(VEHICLES)} vehicles")
    await driving
