"""Reads antenna frames off the wire a second time, without the product's codec.

Like `wire_bank`, it exists so that an error of the product cannot prove itself right: framing, checksum and offsets are
written here anew from the field tables, with `struct` and nothing of `protocols`. It pulls out what the proof of money
needs from `pcrsu-v3`; what it does not know it leaves alone.

Frame: FFFF, version 00, sequence 1, length 4, data, CRC-16/X-25 over version to data, big-endian.
"""

from __future__ import annotations

import json
import struct
from bisect import bisect_left
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

_HEAD = 8
_TAIL = 2
_DATA_MAX = 1024
_SEQUENCES = 9
"""Sequence numbers either side uses before it starts again."""


@dataclass(frozen=True, slots=True)
class RsuWire:
    """One frame. None where its type has no such field."""

    code: int
    """Type byte, for example 0xC6."""
    sequence: int
    obu_id: bytes
    """4 bytes; empty for types about no OBU."""
    raw: bytes
    """The whole frame."""
    error: int | None = None
    """B2, B4, B5, B8."""
    device_type: int | None = None
    """B2."""
    contract: bytes | None = None
    """B2: contract serial, or id of a CPC card, 8 bytes."""
    card_number: str | None = None
    """B4 of a two-piece tag: network and inner number, 20 digits."""
    amount_fen: int | None = None
    """C6."""
    time: str | None = None
    """C6 and B5: YYYYMMDDhhmmss of the purchase."""
    station: bytes | None = None
    """C6: file 0019 to be written; B4: as read. 43 bytes."""
    terminal: bytes | None = None
    """B5."""
    tac: bytes | None = None
    """B5, B8."""
    card_serial: int | None = None
    """B5, C8."""
    psam_serial: int | None = None
    """B5."""
    balance_raw: int | None = None
    """B4, B5, B8: unsigned 32 bits."""
    stop_type: int | None = None
    """C2."""
    at: str | None = None
    """When its last byte passed, UTC, when it was read from a capture file."""
    direction: str | None = None
    """From a capture file: `in` = from the lane computer."""
    repeat: bool = False
    """Byte for byte one of the last frames of its direction: a repetition, not a second order."""


def crc(data: bytes) -> int:
    """CRC-16/X-25, bit by bit."""
    register = 0xFFFF
    for byte in data:
        register ^= byte
        for _ in range(8):
            odd = register & 1
            register >>= 1
            if odd:
                register ^= 0x8408
    return register ^ 0xFFFF


def read_frames(data: bytes) -> Iterator[RsuWire]:
    """Every good frame of one direction of a connection; bytes between them are passed over.

    Raises ValueError for a frame whose check is right and whose length fits no layout of its type.
    """
    recent: deque[bytes] = deque(maxlen=_SEQUENCES - 1)
    for _, raw in _cut(data):
        frame = read_wire(raw)
        if raw in recent:
            frame = replace(frame, repeat=True)
        else:
            recent.append(raw)
        yield frame


def read_capture(path: Path | str) -> list[RsuWire]:
    """Every frame of a capture file (JSON lines t, dir, peer, hex), by the time its last byte passed."""
    streams: dict[tuple[str, str], _Stream] = {}
    with Path(path).open(encoding="utf-8") as lines:
        for line in lines:
            entry = json.loads(line)
            stream = streams.setdefault((entry["peer"], entry["dir"]), _Stream())
            stream.add(bytes.fromhex(entry["hex"]), entry["t"])
    frames = [
        replace(frame, at=stream.time_at(end), direction=direction)
        for (_, direction), stream in streams.items()
        for frame, (end, _) in zip(read_frames(bytes(stream.data)), _cut(bytes(stream.data)), strict=True)
    ]
    return sorted(frames, key=lambda frame: frame.at or "")


def orders(frames: Iterable[RsuWire]) -> list[RsuWire]:
    """The C6 among them, repetitions left out."""
    return [frame for frame in frames if frame.code == 0xC6 and not frame.repeat]


def read_wire(raw: bytes) -> RsuWire:
    """Read one whole frame. Raises ValueError when it is none or fits no layout of its type."""
    found = list(_cut(raw))
    if len(found) != 1 or found[0][1] != raw:
        raise ValueError(f"{len(raw)} bytes are not one frame with a right check")
    data = raw[_HEAD:-_TAIL]
    bare = RsuWire(code=data[0] if data else 0, sequence=raw[3], obu_id=b"", raw=raw)
    if not data or data[0] not in _READERS:
        return bare
    if len(data) not in _LENGTHS[data[0]]:
        raise ValueError(f"{data[0]:02X} of {len(data)} bytes, known are {sorted(_LENGTHS[data[0]])}")
    return _READERS[data[0]](replace(bare, obu_id=data[1:5]), data)


class _Stream:
    """Bytes of one direction of one connection, and when they passed."""

    def __init__(self) -> None:
        self.data = bytearray()
        self._ends: list[int] = []
        self._times: list[str] = []

    def add(self, piece: bytes, at: str) -> None:
        self.data += piece
        self._ends.append(len(self.data))
        self._times.append(at)

    def time_at(self, end: int) -> str:
        """Time of the piece that holds the byte before `end`."""
        return self._times[bisect_left(self._ends, end)]


def _cut(data: bytes) -> Iterator[tuple[int, bytes]]:
    """End position and bytes of every frame with a right check, from the left, none inside another."""
    at = data.find(b"\xff\xff")
    while at >= 0:
        size = _size(data, at)
        if size:
            yield at + size, data[at : at + size]
        at = data.find(b"\xff\xff", at + (size or 1))


def _size(data: bytes, at: int) -> int:
    """Length of the good frame at `at`, 0 when there is none."""
    if len(data) - at < _HEAD + _TAIL:
        return 0
    version, length = struct.unpack_from(">xxBxI", data, at)
    end = at + _HEAD + length
    if version or length > _DATA_MAX or end + _TAIL > len(data):
        return 0
    (stated,) = struct.unpack_from(">H", data, end)
    return _HEAD + length + _TAIL if stated == crc(data[at + 2 : end]) else 0


def _read_b2(frame: RsuWire, data: bytes) -> RsuWire:
    error, _antenna, kind, _issuer, contract = struct.unpack_from(">BBB8s2x8s", data, 5)
    return replace(frame, error=error, device_type=kind, contract=contract)


def _read_b4(frame: RsuWire, data: bytes) -> RsuWire:
    if len(data) == 64:  # a CPC card: no vehicle, no purse
        return replace(frame, error=data[5], station=data[7:50])
    error, balance = struct.unpack_from(">Bx79xI", data, 5)
    after = 90 + (91 if len(data) == 274 else 0)  # with a piece of EF04 in between
    card_file, station = struct.unpack_from(">50s43s", data, after)
    number = card_file[10:20].hex() if card_file[8] in (22, 23) else None
    return replace(frame, error=error, balance_raw=balance, card_number=number, station=station)


def _read_b5(frame: RsuWire, data: bytes) -> RsuWire:
    error, terminal, time = struct.unpack_from(">B6s7s", data, 5)
    frame = replace(frame, error=error, terminal=terminal, time=time.hex())
    if len(data) == 20:  # a CPC card
        return frame
    tac, card_serial, psam_serial, balance = struct.unpack_from(">4sHII", data, 22)
    return replace(frame, tac=tac, card_serial=card_serial, psam_serial=psam_serial, balance_raw=balance)


def _read_b8(frame: RsuWire, data: bytes) -> RsuWire:
    error, tac, balance = struct.unpack_from(">B4s4xI", data, 5)
    return replace(frame, error=error, tac=tac, balance_raw=balance)


def _read_c1(frame: RsuWire, _: bytes) -> RsuWire:
    return frame


def _read_c2(frame: RsuWire, data: bytes) -> RsuWire:
    return replace(frame, stop_type=data[5])


def _read_c6(frame: RsuWire, data: bytes) -> RsuWire:
    # The longer forms put one byte, what to trade, before the amount.
    amount, time, station = struct.unpack_from(">I7s43s", data, 13 if len(data) == 67 else 14)
    return replace(frame, amount_fen=amount, time=time.hex(), station=station)


def _read_c8(frame: RsuWire, data: bytes) -> RsuWire:
    (serial,) = struct.unpack_from(">H", data, 5)
    return replace(frame, card_serial=serial)


_READERS = {
    0xB2: _read_b2,
    0xB4: _read_b4,
    0xB5: _read_b5,
    0xB8: _read_b8,
    0xC1: _read_c1,
    0xC2: _read_c2,
    0xC6: _read_c6,
    0xC8: _read_c8,
}

_LENGTHS = {
    0xB2: {37},
    0xB4: {64, 183, 274},
    0xB5: {20, 36},
    0xB8: {18},
    0xC1: {13},
    0xC2: {6, 10},
    0xC6: {67, 159, 164, 174},
    0xC8: {7, 22, 104},
}
"""Lengths of DATA whose fields stand where the readers look. Older revisions have others: they are refused."""
