"""The world outside the process, as its parts come to it: clock, chance, lines, relay boards and other devices.

The product's is `Machine`. A simulation or a test brings its own, and the same builders make the same parts of it.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from datetime import datetime
from typing import Protocol, TypeVar

from drivers.clock import SetClock, SystemClock
from drivers.errors import RequestOutcome
from drivers.lane_io import CoilWriter
from drivers.link import Link, open_link
from drivers.modbus import RelayBoard, StateCallback
from gateway.documents import host_port
from gateway.model.clock import Clock
from gateway.model.delivery import Delivery
from gateway.points.gate.config import RelayBoard as RelayBoardSection

T = TypeVar("T")

CONNECT_TIMEOUT_S = 3.0

DELIVERIES = {
    RequestOutcome.NOT_SENT: Delivery.NOT_SENT,
    RequestOutcome.REFUSED: Delivery.ANSWERED,
    RequestOutcome.UNKNOWN: Delivery.SILENT,
}
"""What a driver knows of a request, as banks and charge points are told it."""


class Board(CoilWriter, Protocol):
    """A relay board with the connection to it."""

    async def run(self) -> None:
        """Keep it connected, for ever."""
        ...


class Surroundings(Protocol):
    """See the module."""

    @property
    def clock(self) -> Clock: ...
    @property
    def chance(self) -> random.Random: ...

    async def connect(self, address: str, *, device: str) -> Link:
        """Open the line to a device. Raises `DeviceError`."""
        ...

    def board(self, section: RelayBoardSection, on_state: StateCallback) -> Board:
        """A relay board, and who hears when it comes and goes."""
        ...

    def device(self, name: str, make: Callable[[], T]) -> T:
        """A device behind the interface of its charge point or channel, such as `lane-1/outputs`: the one made, or
        what stands in its place."""
        ...


class Machine:
    """The box itself."""

    def __init__(self, clock: datetime | None = None) -> None:
        """`clock`: what it says now, on a bench; None for the machine's time."""
        self.clock = SystemClock() if clock is None else SetClock(clock)
        self.chance = random.SystemRandom()

    async def connect(self, address: str, *, device: str) -> Link:
        """Over TCP or a serial port. Raises `DeviceError`."""
        return await open_link(address, timeout_s=CONNECT_TIMEOUT_S, device=device)

    def board(self, section: RelayBoardSection, on_state: StateCallback) -> RelayBoard:
        """Over Modbus TCP."""
        host, port = host_port(section.address)
        return RelayBoard(host, port, unit=section.unit, clock=self.clock, name=section.name, on_state=on_state)

    def device(self, name: str, make: Callable[[], T]) -> T:
        """The one made."""
        del name
        return make()
