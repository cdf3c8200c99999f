"""Site of the load: lanes like the first of the demo, any number of them, their roadside played by this process."""

from __future__ import annotations

from contextlib import AsyncExitStack
from pathlib import Path

from hardware.bench.load.roadside import Roadside
from hardware.bench.processes import DEADLINE_MS, SITES, EmulatedSite, LanePlan, Program

LANES_MAX = 255
"""Lane numbers of one station."""

LANES_A_BOARD = 16
"""Lanes that share a relay board, three coils each: more would wait for each other."""

STATION = "99010101"
"""An open lane's station, which the tariff of the demo prices by vehicle class alone."""

BOARD = """
[[relay_boards]]
name = "board-{board}"
address = "${{board-{board}}}"
"""

LANE = """
[[charge_points]]
name = "{plan.name}"
kind = "toll-open"
station = "{station}"
lane_no = {number}
gantry = "{number:06d}"
antenna = {{ address = "${{{plan.name}}}" }}
outputs = {{ board = "board-{board}", barrier = {plan.coils}, green = {green}, red = {red} }}
terminals = {{ bank-a = ["99{number:03d}001", "99{number:03d}002", "99{number:03d}003"] }}
quiet_s = 3
deadline_ms = ${{deadline_ms}}
"""


def plan_of(lanes: int) -> list[LanePlan]:
    """Plan of so many lanes; every board's coils count from 0."""
    return [LanePlan(f"lane-{number}", 3 * ((number - 1) % LANES_A_BOARD)) for number in range(1, lanes + 1)]


def board_of(number: int) -> int:
    """Number of the relay board of a lane; both count from 1."""
    return (number - 1) // LANES_A_BOARD + 1


def site_text(lanes: int) -> str:
    """Text of the site file: what the demo's says before its boards, then boards and lanes."""
    demo = (SITES / "demo" / "site.toml").read_text()
    boards = [BOARD.format(board=board) for board in range(1, board_of(lanes) + 1)]
    points = [
        LANE.format(
            plan=plan,
            number=number,
            station=STATION,
            board=board_of(number),
            green=plan.coils + 1,
            red=plan.coils + 2,
        )
        for number, plan in enumerate(plan_of(lanes), start=1)
    ]
    return demo.partition("[[relay_boards]]")[0] + "".join(boards + points)


class LoadSite(EmulatedSite):
    """Bank and gateway, or null gateway, as processes; antennas and relay boards in this one."""

    def __init__(
        self,
        folder: Path,
        lanes: int,
        *,
        null: bool,
        radio_ms: int = 280,
        deadline_ms: int = DEADLINE_MS,
        seed: int = 1,
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        super().__init__(
            folder,
            plan=plan_of(lanes),
            site_text=site_text(lanes),
            radio_ms=radio_ms,
            deadline_ms=deadline_ms,
            seed=seed,
        )
        self.null = null
        self.roadside = Roadside(radio_ms=radio_ms, seed=seed)
        if null:
            arguments = ["-m", "hardware.bench.load.null_gateway", str(self.site_file)]
            self.gateway = Program("null-gateway", arguments, folder)

    async def __aexit__(self, kind: type[BaseException] | None = None, *_: object) -> None:
        """End every program, then the roadside."""
        async with AsyncExitStack() as left:
            left.push_async_callback(self.roadside.close)
            await super().__aexit__(kind)

    async def _start_roadside(self) -> None:
        for board in range(1, board_of(len(self.plan)) + 1):
            lanes = {
                plan.name: {"barrier": plan.coils, "green": plan.coils + 1, "red": plan.coils + 2}
                for number, plan in enumerate(self.plan, start=1)
                if board_of(number) == board
            }
            self.addresses[f"board-{board}"] = await self.roadside.start_board(self.ledger, lanes)
        for number, plan in enumerate(self.plan, start=1):
            self.addresses[plan.name] = await self.roadside.start_antenna(number, plan.name)
