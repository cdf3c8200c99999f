"""Port of one side of a pump: readings of what it does, commands, and whether it can be heard."""

from __future__ import annotations

from collections.abc import AsyncIterator
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
