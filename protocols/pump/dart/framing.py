"""Framing of DART: `ADR CTRL FA`, or `ADR CTRL {TRANS LNG DATA}+ CRC_L CRC_H 03 FA`.

An FA in data or check goes as `10 FA`. Only that pair is an escape: a lone 10 is an ordinary byte. So every FA without
a 10 before it ends a frame, and the stream falls into runs that end with one. There is no start mark: stray bytes stand
before a frame when the line turns round, and a frame is whatever fits at the end of a run:

- a data frame from the first place where an address and a DATA control stand and the check is right,
- else a control frame of the last three bytes. It has no check: its sender, number and the time it comes at must be
  looked at by whoever is waiting for one.

Some firmware answers with bit 7 of its address set and computes the check without it: both addresses are read as one.

The promise: however the stream is cut into pieces, its frames are those of this rule over the whole stream. Nothing
before or after a good frame hides or delays it: it is there with its last byte.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Final

from protocols.bad_frame import BadFrame
from protocols.errors import PREFIX_BYTES_MAX, LocalProtocolError, RemoteProtocolError

CLAUSE: Final = "DART line level, as recorded at four stations"
ETX: Final = 0x03
SF: Final = 0xFA
DLE: Final = 0x10
ESCAPED_SF: Final = bytes((DLE, SF))
ADDRESSES: Final = range(0x50, 0x70)
"""One for each side: 32 on a bus."""
ADDRESS_QUIRK: Final = 0x80
NUMBERS_MAX: Final = 0x0F
CONTROL_BYTES: Final = 3
CHECK_BYTES: Final = 2
DATA_FRAME_MIN: Final = 8
"""Bytes of a data frame with one transaction without content."""
FRAME_MAX: Final = 1024
"""Longest frame accepted, escapes included. The longest known, parameters of a pump, stays below 70 bytes."""


class Control(IntEnum):
    """High nibble of CTRL. The low one is the number of the data block meant, or 0."""

    POLL = 0x2
    DATA = 0x3
    IAP = 0x4
    """Reserved for firmware, never seen."""
    NAK = 0x5
    EOT = 0x7
    ACK = 0xC
    ACKPOLL = 0xE


@dataclass(frozen=True, slots=True)
class Frame:
    """One frame. The check of a data frame is right."""

    address: int
    """Without bit 7."""
    control: Control
    number: int
    """TX# of the block sent or meant."""
    data: bytes
    """Transactions, without escapes; empty in a control frame."""
    raw: bytes
    """The frame as it came."""
    position: int
    """Bytes from the start of the stream to the first byte of `raw`."""


FrameEvent = Frame | BadFrame


def _crc_table() -> tuple[int, ...]:
    table = []
    for value in range(256):
        for _ in range(8):
            value = value >> 1 ^ 0xA001 if value & 1 else value >> 1  # noqa: PLW2901 - eight steps of one byte
        table.append(value)
    return tuple(table)


_CRC_TABLE: Final = _crc_table()


def crc16_arc(data: bytes) -> int:
    """Check value: polynomial A001 reflected, start 0000, no final xor; "123456789" gives BB3D.

    Documents call it CCITT. No recorded frame agrees with that, and a pump ignored frames that had it.
    """
    crc = 0
    for byte in data:
        crc = crc >> 8 ^ _CRC_TABLE[(crc ^ byte) & 0xFF]
    return crc


def is_address(byte: int) -> bool:
    """True for the address of a side, with bit 7 or without."""
    return byte & ~ADDRESS_QUIRK in ADDRESSES


def control_of(byte: int) -> Control | None:
    """Meaning of a CTRL byte. A poll has no number."""
    try:
        control = Control(byte >> 4)
    except ValueError:
        return None
    return None if control is Control.POLL and byte & 0x0F else control


# --- writing ----------------------------------------------------------------------------------------------------------


def control_frame(address: int, control: Control, number: int = 0) -> bytes:
    """One control frame."""
    _check_head(address, number)
    if control is Control.DATA or (control is Control.POLL and number):
        raise LocalProtocolError(f"{control.name} {number} is no control frame", field="CTRL", clause=CLAUSE)
    return bytes((address, control << 4 | number, SF))


def data_frame(address: int, number: int, data: bytes) -> bytes:
    """One data frame around transactions."""
    _check_head(address, number)
    body = bytes((address, Control.DATA << 4 | number)) + data
    escaped = (body + crc16_arc(body).to_bytes(2, "little")).replace(bytes((SF,)), ESCAPED_SF)
    frame = escaped + bytes((ETX, SF))
    if len(data) < 2 or len(frame) > FRAME_MAX:
        raise LocalProtocolError(f"transactions of {len(data)} bytes", field="DATA", clause=CLAUSE)
    return frame


def _check_head(address: int, number: int) -> None:
    if address not in ADDRESSES:
        raise LocalProtocolError(
            f"address {address:02X}, a side has {ADDRESSES[0]:02X} to {ADDRESSES[-1]:02X}", field="ADR", clause=CLAUSE
        )
    if not 0 <= number <= NUMBERS_MAX:
        raise LocalProtocolError(f"TX# {number}, 0 to {NUMBERS_MAX} exist", field="CTRL", clause=CLAUSE)


# --- reading ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Unescaped:
    """Bytes without their escapes, with the place of each in the bytes as they came."""

    values: bytes
    places: tuple[int, ...]
    """One more than values: at the end, the end of the last of them."""


def unescape(content: bytes) -> Unescaped:
    """Take the 10 before every FA away."""
    values, places, at = bytearray(), [], 0
    while at < len(content):
        places.append(at)
        at += content.startswith(ESCAPED_SF, at)
        values.append(content[at])
        at += 1
    return Unescaped(bytes(values), (*places, at))


class Deframer:
    """Finds the frames of one stream. See the module's text for the rule and the promise."""

    def __init__(self) -> None:
        self._run = bytearray()
        self._position = 0  # of the first byte of the run

    @property
    def pending(self) -> int:
        """Bytes of a run without its end, at most twice FRAME_MAX."""
        return len(self._run)

    def push(self, data: bytes) -> list[FrameEvent]:
        """Take the next bytes of the stream, in pieces of any size."""
        events: list[FrameEvent] = []
        for byte in data:
            escaped = self._run.endswith(b"\x10")
            self._run.append(byte)
            if byte == SF and not escaped:
                self._end_run(events)
            elif len(self._run) >= 2 * FRAME_MAX:
                self._give_up(len(self._run) - FRAME_MAX, events)
        return events

    def flush(self) -> list[BadFrame]:
        """Give up what waits for its end: the line is quiet, and no frame pauses in its middle."""
        events: list[BadFrame] = []
        self._give_up(len(self._run), events)
        return events

    def _end_run(self, events: list[FrameEvent]) -> None:
        self._give_up(len(self._run) - FRAME_MAX, events)
        run = bytes(self._run)
        frame = _frame_at_end(run, self._position)
        if frame is None:
            self._give_up(len(run), events)
            return
        self._give_up(len(run) - len(frame.raw), events)
        events.append(frame)
        self._position += len(frame.raw)
        self._run.clear()

    def _give_up(self, count: int, events: list[BadFrame] | list[FrameEvent]) -> None:
        """Report the first `count` bytes of the run as none of a frame."""
        if count <= 0:
            return
        lost = bytes(self._run[:count])
        del self._run[:count]
        events.append(_bad_frame(lost, self._position))
        self._position += count


def _frame_at_end(run: bytes, position: int) -> Frame | None:
    """The frame that ends where the run does."""
    if run[-2:-1] == bytes((ETX,)):
        content = unescape(run[:-2])
        for start in range(len(content.values) - DATA_FRAME_MIN + 3):
            if _starts_data(content.values, start) and _check_is_right(content.values[start:]):
                raw_at = content.places[start]
                return _data_frame_read(content.values[start:], run[raw_at:], position + raw_at)
        return None
    raw = run[-CONTROL_BYTES:]
    control = control_of(raw[1]) if len(raw) == CONTROL_BYTES and is_address(raw[0]) else None
    if control is None or control is Control.DATA:
        return None
    return Frame(raw[0] & ~ADDRESS_QUIRK, control, raw[1] & 0x0F, b"", raw, position + len(run) - CONTROL_BYTES)


def _starts_data(values: bytes, at: int) -> bool:
    return is_address(values[at]) and values[at + 1] >> 4 == Control.DATA


def checked(values: bytes) -> tuple[int, int]:
    """Check stated and check computed of a data frame from its address to its check."""
    body = bytes((values[0] & ~ADDRESS_QUIRK,)) + values[1:-2]
    return int.from_bytes(values[-2:], "little"), crc16_arc(body)


def _check_is_right(values: bytes) -> bool:
    stated, computed = checked(values)
    return stated == computed


def _data_frame_read(values: bytes, raw: bytes, position: int) -> Frame:
    return Frame(values[0] & ~ADDRESS_QUIRK, Control.DATA, values[1] & 0x0F, values[2:-2], raw, position)


@dataclass(frozen=True, slots=True)
class Fault:
    """Fault of bytes that are no frame. `offset` counts from the first of them, as they came."""

    problem: str
    field: str
    offset: int
    hint: str


_REPEAT_HINT: Final = "wait for the repetition: bytes were lost or damaged on the line"
_NOISE_HINT: Final = "look for noise, a wrong speed or parity (9600 8O1 is usual), or another protocol on the line"


def fault_of(lost: bytes) -> Fault:
    """Reason why these bytes are no frame, from the first that could begin one."""
    at = next((at for at, byte in enumerate(lost) if is_address(byte)), None)
    if at is None:
        return Fault("no address of a side (50 to 6F)", "ADR", 0, _NOISE_HINT)
    if at + 1 == len(lost):
        return Fault("cut short after the address", "CTRL", len(lost), _REPEAT_HINT)
    control = control_of(lost[at + 1])
    if control is None:
        return Fault(f"CTRL {lost[at + 1]:02X} is none of DART", "CTRL", at + 1, _NOISE_HINT)
    ended = lost[-1] == SF and lost[-2] != DLE
    if not ended:
        return Fault("cut short: no end FA", "SF", len(lost), _REPEAT_HINT)
    if control is not Control.DATA:
        return Fault(
            f"{control.name} has 3 bytes, {lost[at + 2]:02X} stands for its end FA", "SF", at + 2, _REPEAT_HINT
        )
    if lost[-2] != ETX:
        return Fault(f"{lost[-2]:02X} before the end FA, 03 belongs there", "ETX", len(lost) - 2, _REPEAT_HINT)
    content = unescape(lost[at:-2])
    if len(content.values) < DATA_FRAME_MIN - 2:
        return Fault("no room for a transaction and a check", "DATA", at + 2, _REPEAT_HINT)
    return Fault(_check_text(content.values), "CRC", at + content.places[-3], _REPEAT_HINT)


def _check_text(values: bytes) -> str:
    stated, computed = checked(values)
    return f"CRC is {stated:04X}, expected {computed:04X} (CRC-16/ARC over ADR to the end of DATA, without escapes)"


def _bad_frame(lost: bytes, position: int) -> BadFrame:
    fault = fault_of(lost)
    return BadFrame(
        problem=fault.problem,
        field=fault.field,
        offset=fault.offset,
        position=position,
        length=len(lost),
        data=lost[:PREFIX_BYTES_MAX],
        hint=fault.hint,
    )


def number_in(lost: BadFrame, address: int) -> int | None:
    """Number of the data block of this side whose check is wrong, None for other bytes: NAK answers it."""
    if lost.field != "CRC":
        return None
    head = next((at for at in range(len(lost.data) - 1) if is_address(lost.data[at])), 0)
    same = lost.data[head] & ~ADDRESS_QUIRK == address
    return lost.data[head + 1] & 0x0F if same else None


def unwrap(raw: bytes) -> Frame:
    """The one frame that `raw` is, from its first byte to its last."""
    deframer = Deframer()
    events = [*deframer.push(raw), *deframer.flush()]
    first = events[0] if events else _bad_frame(b"", 0)
    if isinstance(first, BadFrame):
        raise RemoteProtocolError(
            first.problem, field=first.field, offset=first.offset, data=raw, clause=CLAUSE, hint=first.hint
        )
    if first.raw != raw:
        raise RemoteProtocolError(
            f"{len(raw) - len(first.raw)} bytes behind the frame",
            field="tail",
            offset=len(first.raw),
            data=raw[len(first.raw) :],
            clause=CLAUSE,
            hint="give one frame at a time",
        )
    return first
