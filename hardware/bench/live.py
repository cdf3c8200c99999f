"""The demo as a person sees it: a live table, then the summary, then how to look further."""

from __future__ import annotations

import asyncio
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
SERVE_EVERY_S = 2.0
"""Pause between two vehicles while the site is just kept running."""

NUMBERS_FROM = 10_000
"""First vehicle number of the endless traffic, clear of the scenario's."""


async def watch(folder: Path, *, quiet: bool = False) -> Run:
    """Run the demo in `folder` and show it."""
    console = show.console()
    if not quiet:
        console.print(f"emulated site in {folder}", style="dim")
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
                await _tell(demo, driving, console)
        finally:
            driving.cancel()  # it must not go on at a site that is being taken down
            await asyncio.wait({driving})
    if not quiet:
        console.print(show.summary(demo.run))
        console.print(
            f"\nlook further:  etcgw passages --config {site.site_file}   (debits, ledger verify, ... likewise)",
            style="dim",
        )
    return demo.run


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
    with Live(show.live(demo.run), console=console, auto_refresh=False, transient=True) as table:
        while not driving.done():
            await asyncio.wait({driving}, timeout=REFRESH_S)
            table.update(show.live(demo.run), refresh=True)
    await driving


async def _tell(demo: Demo, driving: asyncio.Task[None], console: Console) -> None:
    """Print a line for each change of phase and each vehicle, where there is no terminal."""
    phase, told = "", 0
    while not driving.done():
        await asyncio.wait({driving}, timeout=REFRESH_S)
        if demo.run.phase != phase:
            phase = demo.run.phase
            console.print(phase)
        if phase != "done":
            for result in demo.run.results[told:]:
                mark = "ok   " if result.right else "WRONG"
                outcomes = " -> ".join(d.outcome for d in result.decisions)
                console.print(f"  {mark} {result.vehicle.lane} {result.vehicle.story}: {outcomes}")
            told = max(told, len(demo.run.results))
    await driving
