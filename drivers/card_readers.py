"""Card readers as PC/SC lists them, what happens at them, and the choice of one by what a person calls it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

from drivers.errors import DeviceUnavailable

SERVICE = "PC/SC"
"""Device of an error that belongs to no single reader."""

HINT_CHOOSE = "name one with --reader: its number, its name or a part of the name"
HINT_PLUG = "plug the reader in; `etcgw readers` lists those that are there"


@dataclass(frozen=True, slots=True)
class ReaderState:
    """One reader, or one slot of a reader that has several."""

    index: int
    name: str
    atr: bytes | None = None
    """Answer to reset of the card in it, empty for a card that gives none; None without a card."""
    in_use: bool = False
    """True when some program, this one included, has the card open."""
    mute: bool = False
    """True for a card that gave no answer to its reset, or has owed this program an answer for too long."""
    moves: int = 0
    """Cards that came or went there, as the service counts them: more of them mean another card."""


class ReaderEventKind(Enum):
    """Kind of an event at the readers of this machine."""

    SERVICE_UP = "service_up"
    SERVICE_LOST = "service_lost"
    """All readers and cards are gone with it, without an event of their own."""
    READER_ADDED = "reader_added"
    READER_REMOVED = "reader_removed"
    """A card in it is gone with it."""
    CARD_IN = "card_in"
    CARD_OUT = "card_out"


@dataclass(frozen=True, slots=True)
class ReaderEvent:
    """One event, with the reader where it happened."""

    kind: ReaderEventKind
    reader: str | None = None
    atr: bytes | None = None
    """Of a card that came; empty for one that gave none, or had gone before it was asked."""
    cause: str | None = None
    """Cause of a lost service."""


class ReaderAbsent(DeviceUnavailable):
    """No reader is the one that was asked for. One may be plugged in."""


def chosen(states: Sequence[ReaderState], selector: str | None) -> ReaderState:
    """The reader of this number, name or part of a name, and the only one for None.

    Raises DeviceUnavailable, which lists what is there, where none or several are meant.
    """
    listed = ", ".join(f"{state.index} {state.name}" for state in states)
    if not states:
        raise ReaderAbsent("there is no card reader", device=SERVICE, hint=HINT_PLUG)
    found = _meant(states, selector)
    if len(found) == 1:
        return found[0]
    if selector is None:
        raise DeviceUnavailable(f"several card readers are there: {listed}", device=SERVICE, hint=HINT_CHOOSE)
    if found:
        raise DeviceUnavailable(f"several card readers are called that: {listed}", device=selector, hint=HINT_CHOOSE)
    raise ReaderAbsent(f"no card reader is called that; there are: {listed}", device=selector, hint=HINT_PLUG)


def _meant(states: Sequence[ReaderState], selector: str | None) -> Sequence[ReaderState]:
    if selector is None:
        return states
    exact = [state for state in states if state.name == selector]
    if exact:
        return exact
    if selector.isascii() and selector.isdigit():
        return [state for state in states if state.index == int(selector)]
    wanted = selector.casefold()
    return [state for state in states if state.name.casefold() == wanted] or [
        state for state in states if wanted in state.name.casefold()
    ]
