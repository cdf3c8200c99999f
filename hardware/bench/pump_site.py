"""Emulated site with pumps: their lines and controllers are programs of their own.

A side has the number that the site file gives it, and no two islands share one, as at a station.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NamedTuple

from hardware.bench.controllers import Controller
from hardware.bench.processes import EmulatedSite, LanePlan, Program
from hardware.emulators.control import ControlClient

LOGIN: Final = "admin:admin"
"""Login at a controller, as it comes from its maker."""


class Place(NamedTuple):
    """Place of a side: its line or controller, and its number there."""

    line: str
    number: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Pumps:
    """Pumps of a site."""

    islands: Sequence[str]
    """Islands, each with one antenna."""
    lines: Mapping[str, Sequence[str]]
    """Arguments of each line's program."""
    controllers: Mapping[str, Sequence[str]]
    """Arguments of each pump controller's program."""
    sides: Mapping[int, Place]
    serial: frozenset[str] = frozenset()
    """Lines that are serial."""


@dataclass(frozen=True, slots=True)
class Metered:
    """Delivery as a pump's own book has it."""

    side: int
    nozzle: int
    volume_ml: int
    amount_fen: int
    shown_fen: int


class PumpSite(EmulatedSite):
    """Site with the pumps of `plan_of_pumps`, beside what lanes it has."""

    def __init__(self, folder: Path, plan_of_pumps: Pumps, **settings: Any) -> None:  # noqa: ANN401 - of the site
        super().__init__(folder, **settings)
        self._pumps_plan = plan_of_pumps
        self.sides = plan_of_pumps.sides
        self.islands = tuple(plan_of_pumps.islands)
        self.pumps: dict[str, ControlClient | Controller] = {}
        """Controls of each line and controller."""
        self.addresses["http"] = f"127.0.0.1:{free_port()}"

    async def start_islands(self) -> None:
        """Start lines, controllers and the antennas of the islands."""
        plan = self._pumps_plan
        await asyncio.gather(
            *(self._start_pumps(name, arguments) for name, arguments in plan.lines.items()),
            *(self._start_controller(name, arguments) for name, arguments in plan.controllers.items()),
            *(
                self._start_antenna(number, LanePlan(island, 0))
                for number, island in enumerate(plan.islands, start=len(self.plan) + 1)
            ),
        )

    async def _start_pumps(self, name: str, arguments: Sequence[str]) -> None:
        if name in self._pumps_plan.serial:
            self._listen[name] = f"pty:{self.folder / name}.tty"
        await self._start(name, "pump", *arguments)
        self.pumps[name] = self.controls[name]

    async def _start_controller(self, name: str, arguments: Sequence[str]) -> None:
        ports = ("--listen", "127.0.0.1:0", "--control", "127.0.0.1:0", "--server", f"http://{self.addresses['http']}")
        flow = ("--pumps", "1", "--rate-ml-s", "0")
        program = Program(name, ["-m", "hardware.emulators.pts", *ports, *flow, *arguments], self.folder)
        self.addresses[name] = await self._ready(program)
        self.pumps[name] = Controller(self.controls[name])

    def write_site_file(self) -> None:
        """Write the site file, and the login that it names."""
        super().write_site_file()
        login = self.folder / "pts.login"
        login.touch(0o600)
        login.write_text(f"{LOGIN}\n")

    async def pump(self, side: int, command: str, **values: Any) -> Mapping[str, Any]:  # noqa: ANN401 - JSON values
        """Command to the pump of a side."""
        line, number = self.sides[side]
        return await self.pumps[line].request(command, side=number, **values)

    async def at(self, side: int) -> Mapping[str, Any]:
        """Side as its pump has it."""
        line, number = self.sides[side]
        sides: list[Mapping[str, Any]] = (await self.pumps[line].request("state"))["sides"]
        return next(one for one in sides if one["side"] == number)

    async def idle(self, side: int) -> None:
        """Wait until the display is cleared, where the pump knows such an order: the next car finds it so."""
        if self.sides[side].line != "two-wire":
            await self.pump(side, "wait", state="idle")

    async def book(self) -> list[Metered]:
        """Deliveries of all pumps by their own books, those of each side in their order."""
        found = []
        for side, (line, number) in self.sides.items():
            sales = (await self.pumps[line].request("book"))["sales"]
            found += [
                Metered(side, sale["nozzle"], sale["volume_ml"], sale["amount_minor"], sale["shown_amount_minor"])
                for sale in sales
                if sale["side"] == number
            ]
        return found

    async def totals_ml(self) -> int:
        """Sum of all totalisers."""
        sides = [side for pumps in self.pumps.values() for side in (await pumps.request("state"))["sides"]]
        return sum(total["volume_ml"] for side in sides for total in side["totals"])


def free_port() -> int:
    """Port that nobody has now. The gateway's own address must be known to whom shall call it before it runs."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])
