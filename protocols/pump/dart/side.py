"""A pump side's end of a DART bus, without I/O and without a clock: framing, numbers, repetition.

It answers and never begins: a poll with the block that waits, else EOT; a data block with ACK or NAK. What a block
means is its owner's affair: `Ordered` gives the transactions, `say` puts what the pump has to tell. Blocks said stay
until they are acknowledged, and are the same bytes each time.

Numbers: its own go 0 at power-up, then 1 to F and again to 1, as recorded. Of the master's it takes any that differs
from the last one and always 0; the last one again is the block whose ACK was lost: acknowledged, not acted on.

This is the mirror of `master`, and stands here and not with an emulator, because both ends of the numbers and of the
repetition are one rule: the tests play them against each other.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Final

from protocols.bad_frame import BadFrame
from protocols.errors import LocalProtocolError, RemoteProtocolError
from protocols.pump.dart import framing, layout
from protocols.pump.dart.framing import Control, Deframer, Frame
from protocols.pump.dart.layout import Sender
from protocols.pump.types import SideId

BLOCKS_MAX: Final = 64
"""Blocks that wait for a poll."""


@dataclass(frozen=True, slots=True)
class Ordered:
    """Block of the master, to be acted on."""

    number: int
    transactions: tuple[layout.Transaction, ...]


@dataclass(frozen=True, slots=True)
class OrderedAgain:
    """Block of the master that was acted on before."""

    number: int


@dataclass(frozen=True, slots=True)
class Refused:
    """Block of the master with a right check whose content does not fit."""

    number: int
    error: RemoteProtocolError


Event = Ordered | OrderedAgain | Refused | BadFrame


@dataclass(frozen=True, slots=True)
class Output:
    """Events, and bytes to write."""

    events: tuple[Event, ...]
    to_write: bytes


class SideEnd:
    """One side from power-up on."""

    def __init__(self, address: SideId, *, quirk: bool = False) -> None:
        """`quirk`: answer with bit 7 of the address set, as some firmware does."""
        self._address = address
        self._quirk = quirk
        self._deframer = Deframer()
        self._number = 0
        self._taken: int | None = None
        self._blocks: deque[bytes] = deque()
        self._under_way: bytes | None = None

    @property
    def silent(self) -> bool:
        """True when nothing waits for a poll."""
        return not self._blocks and self._under_way is None

    def say(self, *transactions: layout.FromPump) -> None:
        """Put one block of these transactions for a later poll."""
        if len(self._blocks) >= BLOCKS_MAX:
            raise LocalProtocolError(f"{BLOCKS_MAX} blocks wait for a poll already", field="blocks")
        self._blocks.append(layout.write(*transactions))

    def receive(self, data: bytes) -> Output:
        """Take bytes of the bus. What other sides and their master say is passed over."""
        events: list[Event] = []
        to_write = bytearray()
        for found in self._deframer.push(data):
            if isinstance(found, BadFrame):
                events.append(found)
                to_write += self._take_bad(found)
            elif found.address == self._address:
                to_write += self._take(found, events)
        return Output(tuple(events), bytes(to_write))

    def _take(self, frame: Frame, events: list[Event]) -> bytes:
        match frame.control:
            case Control.POLL:
                return self._answer_poll()
            case Control.ACK | Control.ACKPOLL:
                if self._under_way is not None and frame.number == self._number:
                    self._under_way = None
                    self._number = self._number % framing.NUMBERS_MAX + 1
                return self._answer_poll() if frame.control is Control.ACKPOLL else b""
            case Control.NAK:
                return self._block() if self._under_way is not None and frame.number == self._number else b""
            case Control.DATA:
                return self._take_block(frame, events)
        return b""

    def _answer_poll(self) -> bytes:
        if self._under_way is None:
            if not self._blocks:
                return self._as_sent(framing.control_frame(self._address, Control.EOT))
            self._under_way = self._blocks.popleft()
        return self._block()

    def _block(self) -> bytes:
        return self._as_sent(framing.data_frame(self._address, self._number, self._under_way or b""))

    def _take_block(self, frame: Frame, events: list[Event]) -> bytes:
        if frame.number == self._taken and frame.number != 0:
            events.append(OrderedAgain(frame.number))
            return self._control(Control.ACK, frame.number)
        try:
            found = layout.read(frame.data, Sender.CONTROLLER)
        except RemoteProtocolError as error:
            events.append(Refused(frame.number, error))
            return self._control(Control.NAK, frame.number)
        self._taken = frame.number
        events.append(Ordered(frame.number, found))
        return self._control(Control.ACK, frame.number)

    def _take_bad(self, found: BadFrame) -> bytes:
        number = framing.number_in(found, self._address)
        return b"" if number is None else self._control(Control.NAK, number)

    def _control(self, control: Control, number: int) -> bytes:
        return self._as_sent(framing.control_frame(self._address, control, number))

    def _as_sent(self, raw: bytes) -> bytes:
        return bytes((raw[0] | framing.ADDRESS_QUIRK,)) + raw[1:] if self._quirk else raw
