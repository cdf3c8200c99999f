"""Emulated chip as a slot, in memory: for benches without a card reader, and for cards that are pulled on purpose."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from drivers.card_slot import ANSWER_WITHIN_S, answered
from drivers.errors import DeviceUnavailable, LinkLost
from hardware.emulators.chip import Chip
from protocols.card.apdu import Command, Response


@dataclass(frozen=True, slots=True)
class Pull:
    """Command at which the card is pulled; they count from one."""

    at: int
    after: bool
    """True: the chip does what it is told, and its answer is lost; False: the command never reaches it."""


class ChipSlot:
    """Chip in a reader, from its reset to its removal."""

    def __init__(self, name: str, chip: Chip, *, atr: bytes = b"\x3b\x00", pull: Pull | None = None) -> None:
        self.name = name
        self.atr = atr
        self.commands: list[bytes] = []
        """Commands that were sent, the one that was lost included."""
        self._chip = chip
        self._pull = pull
        self._removed = asyncio.Event()
        chip.reset()

    def remove(self) -> None:
        """Take the chip out."""
        self._removed.set()

    async def transmit(self, command: Command, *, timeout_s: float = ANSWER_WITHIN_S) -> Response:
        """Answer to a command, followed up as a driver does."""
        del timeout_s
        return answered(command, lambda one: self._exchange(one.encode()))

    async def raw(self, command: bytes, *, timeout_s: float = ANSWER_WITHIN_S) -> bytes:
        """Answer to the bytes of a command."""
        del timeout_s
        return self._exchange(command)

    async def removed(self) -> None:
        """Return when the chip was taken out."""
        await self._removed.wait()

    @asynccontextmanager
    async def alone(self) -> AsyncIterator[None]:
        """Nobody else is here."""
        yield

    def _exchange(self, command: bytes) -> bytes:
        if self._removed.is_set():
            raise DeviceUnavailable("card was removed", device=self.name)
        self.commands.append(command)
        due = self._pull is not None and self._pull.at == len(self.commands)
        if due and self._pull is not None and not self._pull.after:
            self._lose()
        answer = self._chip.process(command)
        if due:
            self._lose()
        return answer

    def _lose(self) -> None:
        self.remove()
        raise LinkLost("card was removed", device=self.name)
