"""Ports of a charge point: its devices as it needs them. Drivers have these shapes; their assemblers join the two."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Protocol

from gateway.model.delivery import Delivery
from protocols.rsu.messages import LaneMessage, RsuMessage


class Report(Protocol):
    """Report of an antenna, and the way to answer it."""

    @property
    def message(self) -> RsuMessage: ...
    @property
    def at(self) -> float:
        """Time of its arrival, monotonic second."""
        ...

    @property
    def up_to_date(self) -> bool:
        """True when it was made after the antenna had the last purchase order for this tag; else it proves nothing
        about that purchase."""
        ...

    def answer(self, message: LaneMessage) -> None:
        """Send `message` as the answer. Never blocks; a link that is down loses it, as the air would."""
        ...


class Antenna(Protocol):
    """Antenna: gives reports of vehicles, one after the other. Heartbeats and device status stay inside the driver."""

    def reports(self) -> AsyncIterator[Report]: ...


class GateOutputs(Protocol):
    """Barrier and lights. Each call returns when the board has confirmed it, and raises `OutputFault` when not."""

    async def open_barrier(self, record_no: int, *, timeout_s: float) -> None:
        """Lift the barrier for the decision of this record."""
        ...

    async def confirm_opening(self, record_no: int) -> None:
        """Return when the barrier is known to have been lifted by an opening whose fault was not certain."""
        ...

    async def show_go(self, *, timeout_s: float) -> None: ...
    async def show_stop(self, *, timeout_s: float) -> None: ...


class OutputFault(Exception):
    """Fault of outputs: the barrier or the lights did not confirm.

    `certain`: nothing was switched, nor will it be, so the same may be ordered again. Otherwise it may have been, or
    may yet be when a frozen board thaws.
    """

    def __init__(self, problem: str, delivery: Delivery) -> None:
        super().__init__(problem)
        self.certain = delivery is not Delivery.SILENT
