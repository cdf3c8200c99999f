"""Emulated chip as a slot, in memory: for benches without a card reader, and for cards that are pulled on purpose."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import NoReturn

from drivers.card_slot import ANSWER_WITHIN_S
from drivers.errors import DeviceTimeout, DeviceUnavailable, LinkLost
from hardware.emulators.chip import Inserted
from protocols.card.apdu import FOLLOW_UPS_MAX, Command, Response, follow_up


@dataclass(frozen=True, slots=True)
class Pull:
    """Command at which the card is pulled; they count from one."""

    at: int
    after: bool
    """True: the chip does what it is told, and its answer is lost; False: the command never reaches it."""


class ChipSlot:
    """Chip in a reader, from its reset to its removal."""

    def __init__(self, name: str, chip: Inserted, *, atr: bytes = b"\x3b\x00", pull: Pull | None = None) -> None:
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
        data = b""
        for _ in range(1 + FOLLOW_UPS_MAX):
            response = Response.decode(await self.raw(command.encode(), timeout_s=timeout_s))
            data += response.data
            more = follow_up(command, response)
            if more is None:
                return Response(data, response.sw)
            command = more
        raise LinkLost("the card comes to no end", device=self.name)

    async def raw(self, command: bytes, *, timeout_s: float = ANSWER_WITHIN_S) -> bytes:
        """Answer to the bytes of a command."""
        if self._removed.is_set():
            raise DeviceUnavailable("card was removed", device=self.name)
        self.commands.append(command)
        due = self._pull is not None and self._pull.at == len(self.commands)
        if due and self._pull is not None and not self._pull.after:
            self._lose()
        reaction = self._chip.react(command)
        if due or reaction.answer is None:
            self._lose()
        if not reaction.answer or reaction.after_s >= timeout_s:
            await asyncio.sleep(timeout_s)
            raise DeviceTimeout("card does not answer", device=self.name)
        await asyncio.sleep(reaction.after_s)
        return reaction.answer

    async def removed(self) -> None:
        """Return when the chip was taken out."""
        await self._removed.wait()

    @asynccontextmanager
    async def alone(self) -> AsyncIterator[None]:
        """Nobody else is here."""
        yield

    def _lose(self) -> NoReturn:
        self.remove()
        raise LinkLost("card was removed", device=self.name)
