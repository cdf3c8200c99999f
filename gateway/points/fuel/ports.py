"""Ports of a fuel island: one side of a pump, and a camera that reads plates at its sides."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Protocol

from protocols.pump.bus import Offline, Online, Restarted
from protocols.pump.types import Command, Outcome, Reading

Heard = Reading | Online | Offline | Restarted
"""Anything that comes from a side."""


class PumpSide(Protocol):
    """Side of a pump, wherever it is connected and whatever it speaks."""

    def events(self) -> AsyncIterator[Heard]:
        """Readings in the order in which the side made them, and whether it answers at all."""
        ...

    async def do(self, command: Command) -> Outcome:
        """Give a command; its end, as far as the link can tell. Never raises for trouble with the pump."""
        ...


@dataclass(frozen=True, slots=True)
class PlateSeen:
    """Plate that a camera has read at a side; `colour` as tags code it, None when it was not told."""

    side: int
    plate: str
    colour: int | None


class PlateWitness(Protocol):
    """Camera, whatever it speaks."""

    def plates(self) -> AsyncIterator[PlateSeen]:
        """Plates in the order in which they were read, for ever."""
        ...
