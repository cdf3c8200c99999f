"""Faults of frames on a bad line, drawn from a seed and nothing else.

Whether and how a frame suffers depends on the seed, the number of its connection, its direction, its number among the
frames of that direction, the kind of fault and its own bytes. So the same frames suffer the same again, however fast
the machine is, and changing the rate of one kind does not move the others.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum
from types import MappingProxyType

CHANGED_BYTES_MAX = 3
"""Most bytes that one fault drops or adds; more looks like a lost frame."""
PIECES_MAX = 6
"""Most pieces of a chopped frame."""


class Fault(Enum):
    """Fault of a frame, in the order in which faults are done to it."""

    DROP_FRAME = "drop_frame"
    """The frame is lost whole; nothing else happens to it."""
    LOSE_FF = "lose_ff"
    """One byte FF is lost: in most frames a start or end mark. Nothing happens to a frame without any."""
    DROP_BYTES = "drop_bytes"
    """Up to three bytes in a row are lost."""
    CORRUPT = "corrupt"
    """One byte becomes another."""
    STRAY_INSIDE = "stray_inside"
    """Up to three bytes too many in its middle."""
    STRAY_BEFORE = "stray_before"
    """Up to three bytes too many before its start."""
    REPEAT = "repeat"
    """The frame comes twice, equally hurt."""
    CHOP = "chop"
    """The frame comes in pieces with pauses between."""
    DELAY = "delay"
    """The frame comes late, and everything after it."""


class Direction(Enum):
    """Direction of a frame."""

    TO_DEVICE = "to_device"
    TO_GATEWAY = "to_gateway"


@dataclass(frozen=True, slots=True)
class Nature:
    """Nature of a line: how often it does each kind. A kind without a rate never happens."""

    seed: int
    rates: Mapping[Fault, float]
    """Probability for a frame, 0 to 1."""
    delay_ms_max: int = 200
    gap_ms_max: int = 20
    """Longest pause between the pieces of a chopped frame."""

    def __post_init__(self) -> None:
        for kind, rate in self.rates.items():
            if not 0 <= rate <= 1:
                raise ValueError(f"{kind.value}: rate {rate} is not between 0 and 1")
        for name, value in (("delay_ms_max", self.delay_ms_max), ("gap_ms_max", self.gap_ms_max)):
            if value < 1:
                raise ValueError(f"{name}: {value} is below 1")


@dataclass(frozen=True, slots=True)
class Place:
    """Place of a frame in a run."""

    connection: int
    direction: Direction
    frame: int
    """Number of the frame in this direction of this connection, from 1."""


Particulars = Mapping[str, int | str]
"""Particulars of a fault: offsets in the frame as it was then, bytes as hex, milliseconds."""


@dataclass(frozen=True, slots=True)
class Treatment:
    """Treatment that a frame got."""

    faults: tuple[tuple[Fault, Particulars], ...]
    pieces: tuple[tuple[int, bytes], ...]
    """Pieces in order: pause before the piece in milliseconds, and its bytes."""


def treat(frame: bytes, place: Place, nature: Nature) -> Treatment:
    """Draw what happens to `frame`, and do it."""
    patient = _Patient(bytearray(frame), nature)
    faults: list[tuple[Fault, Particulars]] = []
    for kind in Fault:
        # A source for each kind, so that one drawing more numbers does not change what another one draws.
        chance = random.Random(  # noqa: S311 - repeatable on purpose
            f"{nature.seed}:{place.connection}:{place.direction.value}:{place.frame}:{kind.value}"
        )
        if chance.random() >= nature.rates.get(kind, 0.0):
            continue
        particulars = _ACTS[kind](patient, chance)
        if particulars is not None:
            faults.append((kind, particulars))
        if kind is Fault.DROP_FRAME:
            return Treatment(tuple(faults), ())
    return Treatment(tuple(faults), patient.pieces())


@dataclass(slots=True)
class _Patient:
    """A frame under treatment."""

    body: bytearray
    nature: Nature
    before: bytes = b""
    copies: int = 1
    delay_ms: int = 0
    cuts: tuple[tuple[int, int], ...] = ()
    """Offset at which a new piece starts, and the pause before it in milliseconds."""

    def stream(self) -> bytes:
        """Bytes of the whole frame as they will be sent."""
        return self.before + bytes(self.body) * self.copies

    def pieces(self) -> tuple[tuple[int, bytes], ...]:
        """Pieces with pauses and bytes; none when nothing is left."""
        stream = self.stream()
        starts = ((0, self.delay_ms), *self.cuts)
        ends = (*(at for at, _ in self.cuts), len(stream))
        return tuple(
            (pause_ms, stream[at:end]) for (at, pause_ms), end in zip(starts, ends, strict=True) if stream[at:end]
        )


def _drop_frame(patient: _Patient, _: random.Random) -> Particulars:
    return {"bytes": len(patient.body)}


def _lose_ff(patient: _Patient, chance: random.Random) -> Particulars | None:
    places = [at for at, byte in enumerate(patient.body) if byte == 0xFF]
    if not places:
        return None
    at = chance.choice(places)
    del patient.body[at]
    return {"at": at}


def _drop_bytes(patient: _Patient, chance: random.Random) -> Particulars | None:
    if not patient.body:
        return None
    count = min(chance.randint(1, CHANGED_BYTES_MAX), len(patient.body))
    at = chance.randint(0, len(patient.body) - count)
    gone = bytes(patient.body[at : at + count])
    del patient.body[at : at + count]
    return {"at": at, "gone": gone.hex()}


def _corrupt(patient: _Patient, chance: random.Random) -> Particulars | None:
    if not patient.body:
        return None
    at = chance.randrange(len(patient.body))
    was = patient.body[at]
    patient.body[at] ^= chance.randint(1, 0xFF)
    return {"at": at, "was": f"{was:02x}", "became": f"{patient.body[at]:02x}"}


def _stray_inside(patient: _Patient, chance: random.Random) -> Particulars | None:
    if len(patient.body) < 2:
        return None
    at = chance.randint(1, len(patient.body) - 1)
    stray = chance.randbytes(chance.randint(1, CHANGED_BYTES_MAX))
    patient.body[at:at] = stray
    return {"at": at, "bytes": stray.hex()}


def _stray_before(patient: _Patient, chance: random.Random) -> Particulars:
    patient.before = chance.randbytes(chance.randint(1, CHANGED_BYTES_MAX))
    return {"bytes": patient.before.hex()}


def _repeat(patient: _Patient, _: random.Random) -> Particulars:
    patient.copies = 2
    return {"copies": 2}


def _chop(patient: _Patient, chance: random.Random) -> Particulars | None:
    length = len(patient.stream())
    if length < 2:
        return None
    count = min(chance.randint(2, PIECES_MAX), length)
    places = sorted(chance.sample(range(1, length), count - 1))
    patient.cuts = tuple((at, chance.randint(1, patient.nature.gap_ms_max)) for at in places)
    return {"pieces": count, "pause_ms": sum(pause_ms for _, pause_ms in patient.cuts)}


def _delay(patient: _Patient, chance: random.Random) -> Particulars:
    patient.delay_ms = chance.randint(1, patient.nature.delay_ms_max)
    return {"pause_ms": patient.delay_ms}


_ACTS: Mapping[Fault, Callable[[_Patient, random.Random], Particulars | None]] = MappingProxyType(
    {
        Fault.DROP_FRAME: _drop_frame,
        Fault.LOSE_FF: _lose_ff,
        Fault.DROP_BYTES: _drop_bytes,
        Fault.CORRUPT: _corrupt,
        Fault.STRAY_INSIDE: _stray_inside,
        Fault.STRAY_BEFORE: _stray_before,
        Fault.REPEAT: _repeat,
        Fault.CHOP: _chop,
        Fault.DELAY: _delay,
    }
)
"""Acts by kind of fault. An act gives None when there was nothing it could be done to."""
