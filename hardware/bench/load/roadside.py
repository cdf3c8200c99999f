"""Roadside of many lanes in one process: antennas, relay boards, and the times of the vehicles that pass."""

from __future__ import annotations

import asyncio
import json
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from hardware.bench.scenario import Vehicle as Described
from hardware.emulators.control import Command
from hardware.emulators.relay_board import BoardServer, parse_lanes
from hardware.emulators.relay_board import Config as BoardConfig
from hardware.emulators.road import Event, Vehicle, VehicleSpec
from hardware.emulators.rsu_antenna import Antenna, RsuConfig

ANYWHERE = ("127.0.0.1", 0)

LAG_PERIOD_S = 0.02


async def measure_lag(lags_s: list[float]) -> None:
    """Note delays of this process's loop, for ever."""
    loop = asyncio.get_running_loop()
    while True:
        begun = loop.time()
        await asyncio.sleep(LAG_PERIOD_S)
        lags_s.append(max(0.0, loop.time() - begun - LAG_PERIOD_S))


@dataclass(slots=True)
class Car:
    """One vehicle of the load, as the road saw it. Times are seconds of this process's loop."""

    described: Described
    on_road: Vehicle | None = None
    """None: it has not come yet, or there was no room before the antenna."""
    reported_at: float | None = None
    """Time of its first B2."""
    ordered_at: float = 0.0
    """Time of the last order that the radio works on."""
    radio_s: float = 0.0
    passage_id: str | None = None
    """Passage whose decision opened the barrier, as the board found it in the ledger."""
    lifted_at: float | None = None

    @property
    def whole_s(self) -> float | None:
        """Time from its first report until the barrier was ordered to open; None where it was not."""
        if self.reported_at is None or self.lifted_at is None:
            return None
        return self.lifted_at - self.reported_at

    @property
    def purchases(self) -> int:
        """Purchases that its card tells of."""
        return 0 if self.on_road is None or self.on_road.purse is None else len(self.on_road.purse.decrements)


@dataclass(slots=True)
class _Lane:
    """One lane: its antenna, its board, and the cars that have paid and wait for the barrier, first come first."""

    antenna: Antenna
    board: BoardServer
    paid: deque[Car] = field(default_factory=deque)


class Roadside:
    """Antennas and boards of a site. A car leaves when the barrier of its lane opens after its card has paid."""

    def __init__(self, *, radio_ms: int, seed: int) -> None:
        self._radio_ms = radio_ms
        self._seed = seed
        self._boards: list[BoardServer] = []
        self._lanes: dict[str, _Lane] = {}
        self._board_of: dict[str, BoardServer] = {}
        self._cars: dict[bytes, Car] = {}
        self._lifts: dict[str, float] = {}
        self.lags_s: list[float] = []
        """Delays of this process's loop, so that it is known when it, and not the gateway, was late."""

    async def start_board(self, ledger: Path, lanes: Mapping[str, Mapping[str, int]]) -> str:
        """Start a board of these lanes; returns its address. It reads in the ledger what allows each opening."""
        config = BoardConfig(ANYWHERE, ANYWHERE, ledger, parse_lanes(json.dumps(lanes)), opening_ms=100, leaving_ms=50)
        board = BoardServer(config, on_opening=self._opened)
        self._boards.append(board)
        self._board_of |= dict.fromkeys(lanes, board)
        port, _ = await board.start()
        return f"127.0.0.1:{port}"

    async def start_antenna(self, number: int, lane: str) -> str:
        """Start the antenna of a lane, whose board has been started; returns its address."""
        config = RsuConfig(
            radio_ms=self._radio_ms, terminal=bytes.fromhex(f"0199{number:08d}"), seed=self._seed * 1000 + number
        )
        antenna = Antenna(config, on_event=partial(self._happened, lane))
        self._lanes[lane] = _Lane(antenna, self._board_of[lane])
        await antenna.listen()
        return "{}:{}".format(*antenna.address)

    async def close(self) -> None:
        """Cut everything."""
        for lane in self._lanes.values():
            await lane.antenna.close()
        for board in self._boards:
            await board.close()

    @property
    def connected(self) -> bool:
        """True when every antenna's radio is on and every board has its gateway."""
        radios = all(lane.antenna.stats()["radio_on"] for lane in self._lanes.values())
        return radios and all(board.connection_count for board in self._boards)

    @property
    def violations(self) -> list[Command]:
        """Barrier openings that no committed decision allowed."""
        return [violation for board in self._boards for violation in board.board.violations]

    @property
    def lifts(self) -> dict[str, int]:
        """Barrier openings of each lane."""
        return {lane: board.board.openings[lane] for lane, board in self._board_of.items()}

    def arrive(self, car: Car, spec: Mapping[str, Any]) -> None:
        """Let a car drive up. Where the zone is full it drives on, unserved."""
        vehicle = VehicleSpec.from_json(spec)
        self._cars[bytes.fromhex(vehicle.obu.id)] = car
        try:
            car.on_road = self._lanes[car.described.lane].antenna.arrive(vehicle)
        except ValueError:
            car.on_road = None

    async def measure_lag(self) -> None:
        """Measure this process's loop, for ever."""
        await measure_lag(self.lags_s)

    def _happened(self, lane: str, vehicle: Vehicle, event: Event) -> None:
        """Note when a vehicle's frames come and go."""
        car, now = self._cars[vehicle.obu_id], asyncio.get_running_loop().time()
        if event is Event.REPORTED and car.reported_at is None:
            car.reported_at = now
        elif event in (Event.ASKED, Event.ORDERED):
            car.ordered_at = now
        elif event in (Event.READ, Event.RESULT_SENT):
            car.radio_s += now - car.ordered_at
            if event is Event.RESULT_SENT:
                self._lanes[lane].paid.append(car)

    def _opened(self, lane: str, opening: Command, ordered_at: float) -> None:
        """Note when a barrier opening was ordered, and let the car drive through."""
        now, here = asyncio.get_running_loop().time(), self._lanes[lane]
        if opening["passage_id"] is not None:
            self._lifts[opening["passage_id"]] = ordered_at
        if here.paid:
            car = here.paid.popleft()
            here.board.board.passed(lane, now, datetime.now(UTC))
            if car.on_road is not None:
                car.on_road.drive_off()

    @property
    def openings(self) -> int:
        """Barrier openings so far."""
        return len(self._lifts)

    def match(self, passages: Mapping[str, str]) -> None:
        """Give each car its barrier opening; `passages` has the OBU id of each passage, in hex."""
        for passage_id, obu_id in passages.items():
            lifted_at = self._lifts.get(passage_id)
            if lifted_at is not None:
                car = self._cars[bytes.fromhex(obu_id)]
                car.passage_id, car.lifted_at = passage_id, lifted_at
