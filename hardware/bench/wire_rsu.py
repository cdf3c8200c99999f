"""Reads antenna frames off the wire a second time, without the product's codec.

Like `wire_bank`, it exists so that an error of the product cannot prove itself right: framing, checksum and offsets are
written here anew from the field tables, with `struct` and nothing of `protocols`. It pulls out what the proof of money
needs from a dialect named by the caller; what it does not know it leaves alone.

`pcrsu-v3`: FFFF, version 00, sequence 1, length 4, data, CRC-16/X-25 over version to data, big-endian.
`legacy-serial-bj`: FFFF, sequence 1, data, XOR of both, FF; between the marks FF goes as FE01 and FE as FE00.
`legacy-single-ff`: the same after one FF.
"""

from __future__ import annotations

import json
import re
import struct
from bisect import bisect_left
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

DEFAULT = "pcrsu-v3"
"""The dialect read when the caller names none."""

_HEAD = 8
_TAIL = 2
_DATA_MAX = 1024
_FILE_HEADER = bytes.fromhex("aa2900")
"""First bytes of file 0019, which a C6 of the serial dialects leaves out."""
_HEARTBEAT = 0x80
"""Error byte of a B2 about no OBU (serial dialects)."""


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
    """B2, B3, B4, B5, B8."""
    device_type: int | None = None
    """B2."""
    contract: bytes | None = None
    """B2: contract serial, or id of a CPC card, 8 bytes."""
    card_number: str | None = None
    """B4 of a two-piece tag: network and inner number, 20 digits."""
    amount_fen: int | None = None
    """C6."""
    time: str | None = None
    """C6 and B5: YYYYMMDDhhmmss of the purchase; C3: of the entry; C7: of the purchase that is meant."""
    station: bytes | None = None
    """C6: file 0019 to be written; B4: as read. 43 bytes; what a C3, a C7 or a short form of the two has of it."""
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
    """Time at which its last byte passed, UTC, when it was read from a capture file."""
    direction: str | None = None
    """Direction told by a capture file: `in` = from the lane computer."""
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


def read_frames(data: bytes, dialect: str = DEFAULT) -> Iterator[RsuWire]:
    """Every good frame of one direction of a connection; bytes between them are passed over.

    Raises ValueError for a frame whose CRC is right and whose length fits no layout of its type. Where the check is an
    XOR such a frame is passed over as well: a line that loses bytes of value 0 leaves an XOR right.
    """
    form = _form(dialect)
    recent: deque[bytes] = deque(maxlen=form.sequences - 1)
    for _, raw in form.cut_whole(data):
        frame = _read(form, raw)
        if raw in recent:
            frame = replace(frame, repeat=True)
        else:
            recent.append(raw)
        yield frame


def read_capture(path: Path | str, dialect: str = DEFAULT) -> list[RsuWire]:
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
        for frame, (end, _) in zip(
            read_frames(bytes(stream.data), dialect), _form(dialect).cut_whole(bytes(stream.data)), strict=True
        )
    ]
    return sorted(frames, key=lambda frame: frame.at or "")


def orders(frames: Iterable[RsuWire]) -> list[RsuWire]:
    """The C6 among them, repetitions left out."""
    return [frame for frame in frames if frame.code == 0xC6 and not frame.repeat]


def read_wire(raw: bytes, dialect: str = DEFAULT) -> RsuWire:
    """Read one whole frame. Raises ValueError when it is none or fits no layout of its type."""
    form = _form(dialect)
    found = list(form.cut(raw))
    if len(found) != 1 or found[0][1] != raw:
        raise ValueError(f"{len(raw)} bytes are not one frame with a right check")
    return _read(form, raw)


def _read(form: _Form, raw: bytes) -> RsuWire:
    sequence, data = form.open(raw)
    bare = RsuWire(code=data[0] if data else 0, sequence=sequence, obu_id=b"", raw=raw)
    if not data or data[0] not in form.readers:
        return bare
    if not form.fits(data):
        raise ValueError(f"{data[0]:02X} of {len(data)} bytes, known are {sorted(form.lengths[data[0]])}")
    return form.readers[data[0]](replace(bare, obu_id=data[1:5]), data)


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


# --- pcrsu-v3 -------------------------------------------------------------------------------------------------------


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


def _open(raw: bytes) -> tuple[int, bytes]:
    return raw[3], raw[_HEAD:-_TAIL]


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
"""Lengths of DATA with fields that stand where the readers look. Older revisions have others: they are refused."""


# --- serial dialects ------------------------------------------------------------------------------------------------


def _cut_serial(mark: bytes, data: bytes) -> Iterator[tuple[int, bytes]]:
    """Cut as `_cut`: whatever stands between a start mark and FF, and whose escapes and check are right."""
    for run in re.finditer(rb"[^\xff]+", data):
        start, end = run.span()
        enclosed = data[max(0, start - len(mark)) : start] == mark and data[end : end + 1] == b"\xff"
        if enclosed and _content(run.group()):
            yield end + 1, mark + run.group() + b"\xff"


def _content(escaped: bytes) -> bytes:
    """Sequence and DATA in clear; empty when an escape or the check is wrong."""
    if re.search(rb"\xfe(?![\x00\x01])", escaped):
        return b""
    values = re.sub(rb"\xfe([\x00\x01])", lambda found: bytes((0xFE + found.group(1)[0],)), escaped)
    check = 0
    for value in values:
        check ^= value
    return values[:-1] if check == 0 else b""


def _open_serial(mark: bytes, raw: bytes) -> tuple[int, bytes]:
    content = _content(raw[len(mark) : -1])
    return content[0], content[1:]


def _serial_b2(frame: RsuWire, data: bytes) -> RsuWire:
    error = data[5]
    if error == _HEARTBEAT or frame.obu_id == b"\xff" * 4:
        return replace(frame, obu_id=b"", error=error)
    if len(data) == 6:
        raise ValueError("B2 of 6 bytes that is no heartbeat")
    # The longer forms have contract type and version before the serial.
    (contract,) = struct.unpack_from(">8s", data, 14 if len(data) == 33 else 16)
    return replace(frame, error=error, contract=contract)


def _serial_b3(frame: RsuWire, data: bytes) -> RsuWire:
    return replace(frame, error=data[5])


def _serial_b4(frame: RsuWire, data: bytes) -> RsuWire:
    error, balance, card_file = struct.unpack_from(">B3xI4x43s", data, 5)
    number = card_file[10:20].hex() if card_file[8] in (22, 23) else None
    return replace(frame, error=error, balance_raw=balance, card_number=number, station=data[60:])


def _serial_b5(frame: RsuWire, data: bytes) -> RsuWire:
    error, terminal = struct.unpack_from(">B4x6s", data, 5)
    frame = replace(frame, error=error, terminal=terminal)
    if len(data) == 16:  # answers C3
        return frame
    time, tac, card_serial, psam_serial, balance = struct.unpack_from(">7sx4sHII", data, 16)
    return replace(
        frame, time=time.hex(), tac=tac, card_serial=card_serial, psam_serial=psam_serial, balance_raw=balance
    )


def _serial_c3(frame: RsuWire, data: bytes) -> RsuWire:
    time, station = struct.unpack_from(">7s36s", data, 17)
    return replace(frame, time=time.hex(), station=station)


def _serial_c6(frame: RsuWire, data: bytes) -> RsuWire:
    amount, time = struct.unpack_from(">I7s", data, 17)
    station = data[28:]
    whole = _FILE_HEADER + station if len(station) == 40 else station
    return replace(frame, amount_fen=amount, time=time.hex(), station=whole)


_SERIAL_READERS = {
    0xB2: _serial_b2,
    0xB3: _serial_b3,
    0xB4: _serial_b4,
    0xB5: _serial_b5,
    0xC1: _read_c1,
    0xC2: _read_c2,
    0xC3: _serial_c3,
    0xC6: _serial_c6,
    0xC7: _serial_c3,
}

_SERIAL_LENGTHS = {
    0xB2: {6, 33, 35, 45},
    0xB3: {22, 69},
    0xB4: {99, 103},
    0xB5: {16, 38},
    0xC1: {13},
    0xC2: {6},
    0xC3: {60},
    0xC6: {64, 68},
    0xC7: {60},
}

# --- which ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Form:
    """Form of one dialect, for reading it."""

    cut: Callable[[bytes], Iterator[tuple[int, bytes]]]
    """Cutter: position after each good frame, and the frame."""
    open: Callable[[bytes], tuple[int, bytes]]
    """Opener: sequence and DATA of a good frame."""
    readers: Mapping[int, Callable[[RsuWire, bytes], RsuWire]]
    lengths: Mapping[int, set[int]]
    sequences: int
    """Sequence numbers of an antenna, and so of the answers to it, before they start again."""
    xor: bool = False
    """True when the check is an XOR of all bytes."""

    def fits(self, data: bytes) -> bool:
        """True when DATA is of no known type, or as long as one of its type's layouts."""
        return not data or data[0] not in self.lengths or len(data) in self.lengths[data[0]]

    def cut_whole(self, data: bytes) -> Iterator[tuple[int, bytes]]:
        """Cut as `cut`, without frames that only an XOR takes for good."""
        return (found for found in self.cut(data) if not self.xor or self.fits(self.open(found[1])[1]))


def _serial(mark: bytes) -> _Form:
    return _Form(partial(_cut_serial, mark), partial(_open_serial, mark), _SERIAL_READERS, _SERIAL_LENGTHS, 8, xor=True)


_FORMS: Mapping[str, _Form] = {
    DEFAULT: _Form(_cut, _open, _READERS, _LENGTHS, 9),
    "legacy-serial-bj": _serial(b"\xff\xff"),
    "legacy-single-ff": _serial(b"\xff"),
}


def _form(dialect: str) -> _Form:
    if dialect not in _FORMS:
        raise ValueError(f"no dialect {dialect!r}, known are {', '.join(sorted(_FORMS))}")
    return _FORMS[dialect]
