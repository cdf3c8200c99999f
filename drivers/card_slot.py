"""Slot with a card in it, whatever reader it belongs to: a command goes in, the card's answer comes out.

`drivers.pcsc` has the slots of real readers; a bench joins emulated cards at this interface. Who uses a slot compares
what comes out with what was asked: a card is a stranger's computer.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Protocol

from protocols.card.apdu import FOLLOW_UPS_MAX, Command, Response, follow_up
from protocols.errors import RemoteProtocolError

ANSWER_WITHIN_S = 2.0
"""Seconds for one answer: a debit takes a tenth of that; a card that is slower has fallen silent."""


class CardSlot(Protocol):
    """One card in one reader, from its reset to its removal; a card that comes back is another slot."""

    @property
    def name(self) -> str:
        """Name of the reader, for people and in errors."""
        ...

    @property
    def atr(self) -> bytes:
        """Answer to reset."""
        ...

    async def transmit(self, command: Command, *, timeout_s: float = ANSWER_WITHIN_S) -> Response:
        """Answer to a command. The slot fetches what 61xx announces, and asks once more where 6Cxx corrects Le.

        Raises `DeviceUnavailable` when nothing was sent, `LinkLost` when card or reader went away meanwhile, and
        `DeviceTimeout` for a silent card: then the card may have done what it was told. The slot is of no more use
        after any of them.
        """
        ...

    async def raw(self, command: bytes, *, timeout_s: float = ANSWER_WITHIN_S) -> bytes:
        """Answer to the very bytes of a command, status word at its end; nothing is fetched or repeated."""
        ...

    async def removed(self) -> None:
        """Return when the card has left, or its reader."""
        ...

    def alone(self) -> AbstractAsyncContextManager[None]:
        """Keep every other program away from this card meanwhile: a purchase is no place for their commands."""
        ...


def answered(command: Command, ask: Callable[[Command], bytes]) -> Response:
    """Answer of a card that is asked with `ask`: all of what 61xx announces, and that to the Le which 6Cxx corrects.

    Raises RemoteProtocolError for a card that comes to no end, and for an answer without a status word.
    """
    data = b""
    for _ in range(1 + FOLLOW_UPS_MAX):
        response = Response.decode(ask(command))
        data += response.data
        further = follow_up(command, response)
        if further is None:
            return Response(data, response.sw)
        command = further
    raise RemoteProtocolError(f"the card announces more after {FOLLOW_UPS_MAX} commands", field="SW")
