"""Port of one side of a pump: readings of what it does, commands, and whether it can be heard."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Protocol

from protocols.pump.types import Command, Outcome, Reading


@dataclass(frozen=True, slots=True)
class Lost:
    """The side does not answer any more, or has never answered."""


@dataclass(frozen=True, slots=True)
class Found:
    """The side answers (again). `restarted`: it counts anew, so it was without power."""

    restarted: bool = False


class PumpSide(Protocol):
    """Side of a pump, wherever it is connected and whatever it speaks."""

    def events(self) -> AsyncIterator[Reading | Lost | Found]:
        """Readings in the order in which the side made them. Ends with the link's driver."""
        ...

    async def do(self, command: Command) -> Outcome:
        """Give a command; how it ended, as far as the link can tell. Never raises for trouble with the pump."""
        ...
