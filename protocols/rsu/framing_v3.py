"""Framing of `pcrsu-v3`: FFFF, VER, SEQ, LEN(4), DATA, CRC(2). No escaping, no end mark.

How a frame is found again after garbage
----------------------------------------
FFFF may stand inside DATA, so a start mark alone proves nothing. The deframer judges the leftmost FFFF it holds (a
*candidate*) and knows four answers:

- VER or LEN is impossible, or the whole candidate is here and its CRC is wrong: only its first byte is given up and the
  search goes on at the very next one. Bytes of a bad candidate are never skipped together, so a good frame that starts
  anywhere inside it is still found.
- The whole candidate is here and its CRC is right: it is a frame, and the search goes on behind it.
- Its bytes are not all here: wait.

Waiting is the danger: garbage that looks like a header with a large LEN would hide a good frame behind it. It is
bounded twice. After LEN_MAX + 10 bytes the candidate is complete, fails its CRC, and everything kept is searched again.
Before that, when the line falls quiet, `flush` looks inside the waiting candidate and takes the first complete frame
with a right CRC that it finds there. A candidate with no such frame inside is not dropped by `flush`: it may be a true
frame whose second half is late.

While bytes flow the outer candidate wins on purpose. Taking an inner frame at once would let the content of a file on
a tag (79 bytes of vehicle data can hold a whole B5) be read as a message of the antenna.

The promise: however the stream is cut into pieces, the frames of all `push` calls and one `finish` are those of a
search from the left over the whole stream, where a frame counts when its CRC is right and it does not start inside an
earlier one. So no garbage before, between or behind loses a good frame; it can only delay it, until `flush` or until
LEN_MAX + 10 bytes have come behind the false header.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from protocols.errors import PREFIX_BYTES_MAX, LocalProtocolError, RemoteProtocolError
from protocols.rsu.crc import crc16_x25
from protocols.rsu.framing import BadFrame, Frame, FrameEvent, FrameField, Inspection

CLAUSE = "gantry interface V3.x, frame format"
STX = b"\xff\xff"
VERSION = 0x00
HEADER_BYTES = 8
"""STX 2, VER 1, SEQ 1, LEN 4."""
CRC_BYTES = 2
LEN_MAX = 1024
"""Longest DATA accepted. The longest known report (B6 with 512 bytes of fees) stays below 700."""
FRAME_MAX = HEADER_BYTES + LEN_MAX + CRC_BYTES
"""Most bytes a waiting candidate can need, hence the most a deframer keeps between two calls."""
SLICE_BYTES = 4096
"""Bytes taken into the buffer at a time, so that one huge read cannot make it grow beyond FRAME_MAX + this."""
NOISE_RUN_MAX = FRAME_MAX
"""A run of noise is reported at the latest when it is as long as a frame can be: a chattering line must be heard."""

CRC_HINT = "wait for the repetition; when every frame fails, its sender does not compute this check"
CUT_HINT = "wait for the repetition: bytes were lost, or noise looked like a header"


@dataclass(frozen=True, slots=True)
class _Fault:
    problem: str
    field: str
    offset: int
    hint: str


_NOISE = _Fault("no frame starts here", "STX", 0, "look for noise, a wrong baud rate or another dialect on the line")


class _Open(Enum):
    """Verdicts that are neither a frame nor a fault."""

    WAIT = "its bytes are not all here"
    SKIP = "one more FF before a start mark"


def _judge(buffer: bytes | bytearray, at: int) -> int | _Fault | _Open:
    """What stands at `at`, where an STX has been seen: the length of a good frame, or why it is none (yet)."""
    left = len(buffer) - at
    if left < 3:
        return _Open.WAIT
    version = buffer[at + 2]
    if version == 0xFF:
        return _Open.SKIP
    if version != VERSION:
        return _Fault(
            f"VER is {version:02X}, known is {VERSION:02X}", "VER", 2, "check which dialect the antenna speaks"
        )
    if left < HEADER_BYTES:
        return _Open.WAIT
    length = int.from_bytes(buffer[at + 4 : at + HEADER_BYTES], "big")
    if length > LEN_MAX:
        problem = f"LEN is {length}, at most {LEN_MAX} is possible"
        return _Fault(problem, "LEN", 4, "wait for the next frame: bytes were lost, or noise looked like a start mark")
    total = HEADER_BYTES + length + CRC_BYTES
    if left < total:
        return _Open.WAIT
    end = at + total - CRC_BYTES
    stated = int.from_bytes(buffer[end : end + CRC_BYTES], "big")
    computed = crc16_x25(bytes(buffer[at + 2 : end]))
    if stated != computed:
        return _Fault(_crc_text(stated, computed), "CRC", HEADER_BYTES + length, CRC_HINT)
    return total


def _crc_text(stated: int, computed: int) -> str:
    return f"CRC is {stated:04X}, expected {computed:04X} (CRC-16/X-25 over VER to the end of DATA)"


def _cut_short(raw: bytes | bytearray) -> _Fault:
    """The fault of a candidate whose other bytes will not come."""
    have = len(raw)
    if have < HEADER_BYTES:
        return _Fault(f"header cut short: {have} of {HEADER_BYTES} bytes", "LEN", have, CUT_HINT)
    length = int.from_bytes(raw[4:HEADER_BYTES], "big")
    problem = (
        f"frame cut short: LEN is {length}, {have - HEADER_BYTES} of {length + CRC_BYTES} bytes of DATA and CRC came"
    )
    return _Fault(problem, "DATA", have, CUT_HINT)


def _frame(raw: bytes, position: int) -> Frame:
    return Frame(raw[3], raw[HEADER_BYTES:-CRC_BYTES], raw, HEADER_BYTES, position)


class V3Deframer:
    """Finds the frames of one v3 stream. See the module's text for the rule and the promise."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._position = 0  # of the first byte of the buffer in the stream
        self._run_at = 0  # of the first byte of the open run of discarded bytes
        self._run_length = 0
        self._run_prefix = b""
        self._run_fault: _Fault | None = None

    @property
    def pending(self) -> int:
        """Bytes of an unfinished candidate, at most FRAME_MAX - 1."""
        return len(self._buffer)

    @property
    def unsettled(self) -> bool:
        """True while bytes wait or noise is gathered."""
        return bool(self._buffer) or self._run_length > 0

    def push(self, data: bytes) -> list[FrameEvent]:
        """Take the next bytes. A run with a named fault is reported at once, plain noise when it ends."""
        events: list[FrameEvent] = []
        for start in range(0, len(data), SLICE_BYTES):
            self._buffer += data[start : start + SLICE_BYTES]
            self._drain(events)
        if self._run_fault is not None:
            self._close_run(events)
        return events

    def flush(self) -> list[FrameEvent]:
        """The line is quiet: take complete frames out of the waiting candidate, and report noise gathered so far."""
        events: list[FrameEvent] = []
        while (inner := self._inner()) is not None:
            self._discard(inner, _cut_short(self._buffer), events)
            self._drain(events)
        self._close_run(events)
        return events

    def finish(self) -> list[FrameEvent]:
        """The stream has ended: like `flush`, and what is left is reported as cut short."""
        events = self.flush()
        if self._buffer:
            self._discard(len(self._buffer), _cut_short(self._buffer), events)
        self._close_run(events)
        return events

    def _drain(self, events: list[FrameEvent]) -> None:
        """Judge candidates from the left until one must wait."""
        while True:
            start = self._buffer.find(STX)
            if start < 0:
                # A single FF at the very end may be the first half of the next start mark.
                keep = 1 if self._buffer.endswith(STX[:1]) else 0
                self._discard(len(self._buffer) - keep, None, events)
                return
            self._discard(start, None, events)
            verdict = _judge(self._buffer, 0)
            if verdict is _Open.WAIT:
                return
            if isinstance(verdict, int):
                self._close_run(events)
                events.append(_frame(bytes(self._buffer[:verdict]), self._position))
                self._advance(verdict)
            else:
                self._discard(1, verdict if isinstance(verdict, _Fault) else None, events)

    def _inner(self) -> int | None:
        """Where the first complete frame inside the waiting candidate starts. Not 0: a complete one never waits."""
        start = self._buffer.find(STX, 1)
        while start >= 0:
            if isinstance(_judge(self._buffer, start), int):
                return start
            start = self._buffer.find(STX, start + 1)
        return None

    def _advance(self, count: int) -> None:
        del self._buffer[:count]
        self._position += count

    def _discard(self, count: int, fault: _Fault | None, events: list[FrameEvent]) -> None:
        """Move `count` bytes from the buffer to the open run; a fault begins a run of its own."""
        if fault is not None:
            self._close_run(events)
            self._run_fault = fault
            # Only one byte may be given up, but people need to see the whole header that was wrong.
            self._run_prefix = bytes(self._buffer[:PREFIX_BYTES_MAX])
        if count == 0:
            return
        if self._run_length == 0:
            self._run_at = self._position
        if self._run_fault is None:
            room = PREFIX_BYTES_MAX - len(self._run_prefix)
            self._run_prefix += bytes(self._buffer[: min(room, count)])
        self._run_length += count
        self._advance(count)
        if self._run_fault is None and self._run_length >= NOISE_RUN_MAX:
            self._close_run(events)

    def _close_run(self, events: list[FrameEvent]) -> None:
        if self._run_length:
            fault = self._run_fault or _NOISE
            events.append(
                BadFrame(
                    problem=fault.problem,
                    field=fault.field,
                    offset=fault.offset,
                    position=self._run_at,
                    length=self._run_length,
                    data=self._run_prefix,
                    hint=fault.hint,
                )
            )
        self._run_length = 0
        self._run_prefix = b""
        self._run_fault = None


@dataclass(frozen=True, slots=True)
class V3Framing:
    """The framing strategy of `pcrsu-v3`."""

    def wrap(self, seq: int, data: bytes) -> bytes:
        """One frame. `seq` 0..255; `data` at most LEN_MAX bytes."""
        if not 0 <= seq <= 0xFF:
            raise LocalProtocolError(f"SEQ {seq} is no byte", field="SEQ", clause=CLAUSE)
        if len(data) > LEN_MAX:
            raise LocalProtocolError(f"DATA of {len(data)} bytes, at most {LEN_MAX}", field="LEN", clause=CLAUSE)
        checked = bytes((VERSION, seq)) + len(data).to_bytes(4, "big") + data
        return STX + checked + crc16_x25(checked).to_bytes(CRC_BYTES, "big")

    def unwrap(self, raw: bytes) -> Frame:
        """The one frame that `raw` is, from its first byte to its last."""
        if raw[:2] != STX:
            raise RemoteProtocolError(
                "a frame starts with FFFF",
                field="STX",
                offset=0,
                data=raw,
                clause=CLAUSE,
                hint="cut the capture at a start mark",
            )
        verdict = _judge(raw, 0)
        if isinstance(verdict, int):
            if verdict != len(raw):
                raise RemoteProtocolError(
                    f"{len(raw) - verdict} bytes behind the frame",
                    field="tail",
                    offset=verdict,
                    data=raw[verdict:],
                    clause=CLAUSE,
                    hint="give one frame at a time, or read it as a stream",
                )
            return _frame(raw, 0)
        if verdict is _Open.SKIP:
            verdict = _Fault("FF where VER should stand", "VER", 2, "the frame starts one byte later")
        elif verdict is _Open.WAIT:
            verdict = _cut_short(raw)
        raise RemoteProtocolError(
            verdict.problem,
            field=verdict.field,
            offset=verdict.offset,
            data=raw[verdict.offset :],
            clause=CLAUSE,
            hint=verdict.hint,
        )

    def deframer(self) -> V3Deframer:
        """A fresh deframer for one stream."""
        return V3Deframer()

    def inspect(self, raw: bytes) -> Inspection:
        """Every framing field with what is wrong with it, as far as the bytes go."""
        length = int.from_bytes(raw[4:HEADER_BYTES], "big") if len(raw) >= HEADER_BYTES else None
        end, length_problem = _data_end(raw, length)
        before = (_stx_field(raw), _version_field(raw), _seq_field(raw), _length_field(raw, length, length_problem))
        after = [_crc_field(raw, end, repaired=bool(length_problem))]
        tail = raw[end + CRC_BYTES :]
        if tail:
            after.append(
                FrameField(
                    name="tail",
                    offset=end + CRC_BYTES,
                    raw=tail,
                    value=f"{len(tail)} bytes",
                    meaning="not part of this frame",
                    problem="bytes behind the frame",
                    hint="give them as a frame of their own",
                )
            )
        possible = length if length is not None and length <= LEN_MAX else None
        return Inspection(before, raw[HEADER_BYTES:end], HEADER_BYTES, possible, tuple(after))


def _data_end(raw: bytes, length: int | None) -> tuple[int, str]:
    """Where DATA ends, and what is wrong with LEN when the bytes themselves prove another length."""
    if length is None:
        return len(raw), ""
    actual = len(raw) - HEADER_BYTES - CRC_BYTES
    if length == actual:
        return HEADER_BYTES + length, ""
    if actual >= 0:
        checked = raw[2:4] + actual.to_bytes(4, "big") + raw[HEADER_BYTES:-CRC_BYTES]
        if crc16_x25(checked) == int.from_bytes(raw[-CRC_BYTES:], "big"):
            return len(raw) - CRC_BYTES, f"LEN is {length}, but with {actual} the CRC is right"
    return min(HEADER_BYTES + length, len(raw)), ""


def _stx_field(raw: bytes) -> FrameField:
    problem = "" if raw[:2] == STX else "start mark FFFF missing"
    return FrameField(
        "STX", 0, raw[:2], raw[:2].hex(), "start mark", problem, "cut the capture at FFFF" if problem else ""
    )


def _version_field(raw: bytes) -> FrameField:
    problem = hint = ""
    if len(raw) < 3:
        problem, hint = "missing: the frame is cut short", "give the whole frame"
    elif raw[2] != VERSION:
        problem, hint = f"known is {VERSION:02X}", "check which dialect the antenna speaks"
    return FrameField("VER", 2, raw[2:3], raw[2:3].hex(), "version of the frame format", problem, hint)


def _seq_field(raw: bytes) -> FrameField:
    if len(raw) < 4:
        return FrameField("SEQ", 3, b"", "", "frame number", "missing: the frame is cut short", "give the whole frame")
    high, low = raw[3] >> 4, raw[3] & 0xF
    if high == 0 and low:
        meaning = f"report {low} of the antenna (1 to 9, then 1 again)"
    elif high and low == 0:
        meaning = f"command of the lane computer: its own number {high}, or the answer to report {high}"
    else:
        meaning = "neither 0X (antenna) nor X0 (lane computer)"
    return FrameField("SEQ", 3, raw[3:4], raw[3:4].hex(), meaning)


def _length_field(raw: bytes, length: int | None, contradiction: str) -> FrameField:
    if length is None:
        return FrameField(
            "LEN", 4, raw[4:], "", "bytes of DATA", "missing: the frame is cut short", "give the whole frame"
        )
    problem = hint = ""
    have = len(raw) - HEADER_BYTES
    if contradiction:
        problem, hint = contradiction, "keep the capture: LEN was changed on the way or set wrongly by its sender"
    elif length > LEN_MAX:
        problem, hint = f"at most {LEN_MAX} is possible", "look for the true start mark: this is no header"
    elif have < length + CRC_BYTES:
        problem = f"DATA and CRC need {length + CRC_BYTES} bytes, {have} follow"
        hint = "the frame was cut short: give the whole frame, or wait for the repetition"
    return FrameField("LEN", 4, raw[4:HEADER_BYTES], str(length), "bytes of DATA", problem, hint)


def _crc_field(raw: bytes, end: int, *, repaired: bool) -> FrameField:
    raw_crc = raw[end : end + CRC_BYTES]
    meaning = "CRC-16/X-25 over VER to the end of DATA, high byte first"
    if len(raw_crc) < CRC_BYTES:
        return FrameField(
            "CRC", end, raw_crc, raw_crc.hex(), meaning, "missing: the frame is cut short", "give the whole frame"
        )
    stated, computed = int.from_bytes(raw_crc, "big"), crc16_x25(raw[2:end])
    if stated == computed or repaired:
        return FrameField("CRC", end, raw_crc, f"{stated:04X}", meaning)
    return FrameField("CRC", end, raw_crc, f"{stated:04X}", meaning, _crc_text(stated, computed), CRC_HINT)
