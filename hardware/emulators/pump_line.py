"""Sides of emulated pumps on one line: who hears what, and what goes wrong on the way back."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Final, Protocol

from hardware.emulators.dispenser import Dispenser
from protocols.pump.types import SideId


@dataclass(frozen=True, slots=True)
class Said:
    """Answer of a side."""

    raw: bytes
    confirms: bool = False
    """True when it says that an order was taken."""


class Electronics(Protocol):
    """Side of the protocol that a pump speaks."""

    def receive(self, byte: int, now: float) -> Said | None:
        """Take one byte of the line."""

    def changed(self) -> None:
        """Note that something has happened at the dispenser."""

    def repriced(self) -> None:
        """Note that a price was changed at the pump itself."""

    def restarted(self) -> None:
        """Begin anew after a loss of power."""

    def refuse(self, count: int) -> None:
        """Refuse the next orders, as the protocol does."""


class Fault(Enum):
    """Fault of a side's answers; each is for a number of them."""

    DEAF = "deaf"
    """Nothing is heard until the number is set to 0."""
    MUTE = "mute"
    """Orders are obeyed, answers are lost."""
    LOSE_ACK = "lose_ack"
    """The same, of answers that confirm an order."""
    NAK = "nak"
    """Orders are refused."""
    NOISE = "noise"
    """Stray bytes come before its answers."""
    GARBLE = "garble"
    """One byte of its answers is wrong."""


NOISE_BYTES_MAX: Final = 6


class Place:
    """One side on the line."""

    def __init__(self, dispenser: Dispenser, electronics: Electronics, chance: random.Random) -> None:
        self.dispenser = dispenser
        self.electronics = electronics
        self._chance = chance
        self._faults: Counter[Fault] = Counter()
        dispenser.on_change = self._changed

    @property
    def faults(self) -> dict[str, int]:
        """Faults that are still to come."""
        return {fault.value: count for fault, count in self._faults.items() if count}

    def arm(self, fault: Fault, count: int) -> None:
        """Let the next answers be faulty."""
        if fault is Fault.NAK:
            self.electronics.refuse(count)
        else:
            self._faults[fault] = count

    def power(self, *, on: bool, prices_lost: bool, now: float) -> None:
        """Take power away or give it back. A side that has power loses it for a moment."""
        if self.dispenser.powered:
            self.dispenser.power_off(now)
        if on:
            self.dispenser.power_on(prices_lost=prices_lost)
            self.electronics.restarted()

    def hear(self, byte: int, now: float) -> bytes:
        """Take one byte of the line; its answer, as the line carries it."""
        if not self.dispenser.powered or self._faults[Fault.DEAF]:
            return b""
        self.dispenser.advance(now)
        said = self.electronics.receive(byte, now)
        return b"" if said is None else self._spoiled(said)

    def _spoiled(self, said: Said) -> bytes:
        if self._strikes(Fault.MUTE) or (said.confirms and self._strikes(Fault.LOSE_ACK)):
            return b""
        raw = said.raw
        if self._strikes(Fault.GARBLE):
            at = self._chance.randrange(len(raw))
            raw = raw[:at] + bytes((raw[at] ^ self._chance.randrange(1, 256),)) + raw[at + 1 :]
        if self._strikes(Fault.NOISE):
            raw = self._chance.randbytes(self._chance.randrange(1, NOISE_BYTES_MAX + 1)) + raw
        return raw

    def _strikes(self, fault: Fault) -> bool:
        if not self._faults[fault]:
            return False
        self._faults[fault] -= 1
        return True

    def _changed(self) -> None:
        if self.dispenser.powered:
            self.electronics.changed()


class Pumps:
    """All sides on one line."""

    def __init__(self, places: Mapping[SideId, Place]) -> None:
        self.places = places

    def hear(self, data: bytes, now: float) -> bytes:
        """Take bytes of the controller; the answers to them."""
        return b"".join(place.hear(byte, now) for byte in data for place in self.places.values())

    def advance(self, now: float) -> None:
        """Let fuel flow until `now`."""
        for place in self.places.values():
            place.dispenser.advance(now)

    def next_at(self, now: float) -> float | None:
        """Time at which the next delivery ends by itself."""
        return min(
            (at for place in self.places.values() if (at := place.dispenser.next_at(now)) is not None), default=None
        )
