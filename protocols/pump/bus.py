"""Controller's end of a pump link as its owner sees it, whatever is spoken: calls, events, outcomes.

The owner hands over what it read (`receive`), commands (`ask`) and the passing of time (`tick`, when `next_tick` says
so). `receive` and `tick` give an `Output`: events, and bytes that are to be written at once. `now` is monotonic
seconds and never runs backwards. One that is made anew knows nothing of its sides.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Final, NewType, Protocol

from protocols.bad_frame import BadFrame
from protocols.errors import ProtocolError
from protocols.pump.types import Command, Outcome, Reading, SideId

Ticket = NewType("Ticket", int)
"""One command asked for."""

COMMANDS_MAX: Final = 16
"""Commands that wait at one side: prices, reset, authorisation, questions, and room for impatience."""


class Parity(Enum):
    """Parity of a serial line."""

    NONE = "N"
    EVEN = "E"
    ODD = "O"


@dataclass(frozen=True, slots=True)
class LineFormat:
    """Usual format of a serial line, one stop bit."""

    baud: int
    parity: Parity
    data_bits: int = 8

    def seconds(self, raw: bytes) -> float:
        """Time that these bytes are on the line."""
        bits = 1 + self.data_bits + (self.parity is not Parity.NONE) + 1
        return len(raw) * bits / self.baud


@dataclass(frozen=True, slots=True)
class Told:
    """Message of a side, read."""

    side: SideId
    readings: tuple[Reading, ...]
    at: float
    raw: bytes
    parts: tuple[object, ...] = ()
    """Values of the link itself, where it has more to say than readings."""


@dataclass(frozen=True, slots=True)
class Unreadable:
    """Message of a side with a right check whose content does not fit."""

    side: SideId
    error: ProtocolError
    raw: bytes


@dataclass(frozen=True, slots=True)
class Repeated:
    """Message that was read before."""

    side: SideId
    raw: bytes


@dataclass(frozen=True, slots=True)
class Done:
    """End of a command."""

    ticket: Ticket
    side: SideId
    command: Command
    outcome: Outcome


@dataclass(frozen=True, slots=True)
class Online:
    """The side answers."""

    side: SideId
    at: float


@dataclass(frozen=True, slots=True)
class Offline:
    """The side does not answer. `since`: when it last did, None when it never has."""

    side: SideId
    since: float | None


@dataclass(frozen=True, slots=True)
class Restarted:
    """The side counts anew: it lost power. Compare its totals with the last ones stored."""

    side: SideId


@dataclass(frozen=True, slots=True)
class Stray:
    """A message that nobody waits for. It changes nothing."""

    raw: bytes
    reason: str


Event = Told | Unreadable | Repeated | Done | Online | Offline | Restarted | Stray | BadFrame


@dataclass(frozen=True, slots=True)
class Output:
    """Events, and bytes to write at once."""

    events: tuple[Event, ...] = ()
    to_write: bytes = b""


class Bus(Protocol):
    """One link with its sides."""

    def ask(self, side: SideId, command: Command, now: float) -> Ticket:
        """Take a command for a side; ask `next_tick` after it. Raises LocalProtocolError for what cannot be said."""

    def withdraw(self, ticket: Ticket) -> None:
        """End a command that nobody waits for: nothing more of it is sent, and its `Done` says what is known. One that
        has ended stays as it is."""

    def receive(self, data: bytes, now: float) -> Output:
        """Take bytes read from the link, in pieces of any size."""

    def tick(self, now: float) -> Output:
        """Do what time asks for: give an answer up, end a command, send the next message."""

    def next_tick(self, now: float) -> float:
        """Time at which `tick` has something to do (monotonic seconds)."""
