"""Surroundings of the process, as its parts use them: clock, random source, lines, HTTP server, boards, other devices.

The product's is `Machine`. A simulation or a test brings its own, and the same builders make the same parts of it.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from datetime import datetime
from typing import Protocol, TypeVar

from drivers.addresses import LinkAddress
from drivers.clock import SetClock, SystemClock
from drivers.errors import RequestOutcome
from drivers.lane_io import CoilWriter
from drivers.link import Link, open_link
from drivers.modbus import RelayBoard, StateCallback
from gateway.cards.terminal import Slots
from gateway.documents import host_port
from gateway.doors import PART, HttpSection, HttpServer
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
"""Delivery of a request, as banks and charge points are told it, by the outcome its driver reports."""


class Board(CoilWriter, Protocol):
    """Relay board with the connection to it."""

    async def run(self) -> None:
        """Keep the board connected, for ever."""
        ...


class Surroundings(Protocol):
    """Source of everything outside the process; see the module."""

    @property
    def clock(self) -> Clock: ...
    @property
    def chance(self) -> random.Random: ...

    async def connect(self, address: str | LinkAddress, *, device: str) -> Link:
        """Open the line to a device. Raises `DeviceError`."""
        ...

    def http_server(self, section: HttpSection, on_condition: Callable[[bool, str], None]) -> HttpServer:
        """Make the server of those who come in over HTTP; `on_condition` hears whether it listens."""
        ...

    def board(self, section: RelayBoardSection, on_state: StateCallback) -> Board:
        """Make a relay board; `on_state` hears when it comes and goes."""
        ...

    def card_readers(self) -> Slots:
        """Give the card readers of the machine."""
        ...

    def device(self, name: str, make: Callable[[], T]) -> T:
        """Give a device behind the interface of its charge point or channel, such as `lane-1/outputs`: the one made, or
        its substitute."""
        ...


class Machine:
    """Surroundings of the product: the real machine."""

    def __init__(self, clock: datetime | None = None) -> None:
        """`clock`: its initial time, on a bench; None for the machine's time."""
        self.clock = SystemClock() if clock is None else SetClock(clock)
        self.chance = random.SystemRandom()
        self._readers: Slots | None = None

    async def connect(self, address: str | LinkAddress, *, device: str) -> Link:
        """Connect over TCP or a serial port. Raises `DeviceError`."""
        return await open_link(address, timeout_s=CONNECT_TIMEOUT_S, device=device)

    def http_server(self, section: HttpSection, on_condition: Callable[[bool, str], None]) -> HttpServer:
        """Make the one server of the process. Its libraries are loaded only where there is a door."""
        from drivers import http_server

        host, port = host_port(section.listen)
        config = http_server.HttpConfig(
            device=PART, host=host, port=port, certificate=section.certificate, key=section.key
        )
        return http_server.HttpServer(config, clock=self.clock, on_condition=on_condition)

    def board(self, section: RelayBoardSection, on_state: StateCallback) -> RelayBoard:
        """Make a relay board over Modbus TCP."""
        host, port = host_port(section.address)
        return RelayBoard(host, port, unit=section.unit, clock=self.clock, name=section.name, on_state=on_state)

    def card_readers(self) -> Slots:
        """Give those behind PC/SC. Their library is loaded only where there is a counter."""
        from drivers.pcsc import Readers

        if self._readers is None:
            self._readers = Readers()
        return self._readers

    def device(self, name: str, make: Callable[[], T]) -> T:
        """Give the device that was made."""
        del name
        return make()
