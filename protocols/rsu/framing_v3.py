"""Framing of `pcrsu-v3`: FFFF, VER, SEQ, LEN(4), DATA, CRC(2). No escaping, no end mark.

Finding a frame again after noise
---------------------------------
FFFF may stand inside DATA, so a start mark alone proves nothing. The deframer judges each FFFF it holds (a *candidate*)
from the left and knows three answers:

- VER or LEN is impossible, or the whole candidate is here and its CRC is wrong: only its first byte is given up and the
  search goes on at the very next one. Bytes of a bad candidate are never skipped together, so a good frame that starts
  anywhere inside it is still found.
- The whole candidate is here and its CRC is right: it is a frame, and the search goes on after it.
- Its bytes are not all here: it waits.

What to do with a whole frame with a right CRC inside a candidate that waits? One of the two is no frame. If the outer
one is false and is believed, a good frame is late. If the outer one is true and the inner one is believed, the content
of a file on a tag (79 bytes of vehicle data can hold a whole B5) is read as a message of the antenna: whoever wrote the
tag says that its card has paid. Chance makes either CRC right once in 65,536 times; the owner of a tag needs no chance.
So the rule goes by what an owner can write. Content of tags stands only in messages, whose types are B0 to FC:

- The outer candidate's DATA begins with such a type: it may be a message, and wins while bytes flow. The inner frame
  waits until the outer one is complete, until LEN_MAX + 10 bytes have come, or until `flush` says that the line is
  quiet: a frame does not pause in its middle for so long.
- It begins with anything else, as after most noise that looks like a header (the good frame's own FF among it): the
  inner frame is taken at once, in the same `push`. If the outer one is whole first, or in the same push, and its CRC is
  right, it is a frame all the same.

A candidate with no frame inside is not dropped by `flush`: it may be a true frame whose second half is late.

The promise: however the stream is cut into pieces, the frames of all `push` calls and one `finish` are those of a
search from the left over the whole stream, where a frame counts when its CRC is right and it does not start inside an
earlier one. So no noise before, between or after them loses a good frame. (A frame whose DATA begins with no type of a
message and holds a whole frame is the exception, when it comes in pieces: it is given up for the one inside.)

The work is bounded: a candidate's header is looked at once and its CRC is computed once, over at most FRAME_MAX bytes,
whatever waits around it; only a `flush` makes the inside of one waiting candidate be looked at a second time.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum

from protocols.bad_frame import BadFrame
from protocols.errors import PREFIX_BYTES_MAX, LocalProtocolError, RemoteProtocolError
from protocols.rsu.crc import crc16_x25
from protocols.rsu.framing import Frame, FrameEvent, FrameField, Inspection

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
SLICE_BYTES = 16 * 1024
"""Bytes taken into the buffer at a time, so that one huge read cannot make it grow beyond FRAME_MAX + this."""
MESSAGE_TYPES = range(0xB0, 0xFD)
"""First byte of DATA: B0 to FC holds all reports of an antenna and all commands of a lane computer that are known."""
NOISE_RUN_MAX = FRAME_MAX
"""Longest run of noise before it is reported, as long as a frame can be: a chattering line must be reported. One that
begins with an impossible header goes on for as long through further faults: the first one names it."""
FAULT_RUN_MIN = 128
"""Shortest run that begins with a wrong CRC. It goes on through the faults in as many bytes as its LEN says, and at
least so many: false headers one after the other are one event."""

CRC_HINT = "wait for the repetition; when every frame fails, its sender does not compute this check"
CUT_HINT = "wait for the repetition: bytes were lost, or noise looked like a header"


@dataclass(frozen=True, slots=True)
class _Fault:
    problem: str
    field: str
    offset: int
    hint: str


_MARKS = re.compile(rb"\xff+")

_NOISE = _Fault("no frame starts here", "STX", 0, "look for noise, a wrong baud rate or another dialect on the line")


class _Verdict(Enum):
    """Reason why a candidate is no frame, or none yet."""

    WAIT = "its bytes are not all here"
    SKIP = "one more FF before a start mark"
    VER = "impossible version"
    LEN = "impossible length"
    CRC = "wrong check"


def _judge(buffer: bytes, at: int) -> int | _Verdict:
    """Length of the good frame at `at`, where an STX has been seen, or why it is none (yet)."""
    left = len(buffer) - at
    if left < 3:
        return _Verdict.WAIT
    version = buffer[at + 2]
    if version != VERSION:
        return _Verdict.SKIP if version == 0xFF else _Verdict.VER
    if left < HEADER_BYTES:
        return _Verdict.WAIT
    length = int.from_bytes(buffer[at + 4 : at + HEADER_BYTES], "big")
    if length > LEN_MAX:
        return _Verdict.LEN
    total = HEADER_BYTES + length + CRC_BYTES
    if left < total:
        return _Verdict.WAIT
    end = at + total - CRC_BYTES
    good = int.from_bytes(buffer[end : at + total], "big") == crc16_x25(buffer[at + 2 : end])
    return total if good else _Verdict.CRC


def _length(buffer: bytes, at: int) -> int:
    """LEN of the candidate at `at`."""
    return int.from_bytes(buffer[at + 4 : at + HEADER_BYTES], "big")


def _last_mark(buffer: bytes, at: int) -> int:
    """Start of the last STX in a run of FF."""
    marks = _MARKS.match(buffer, at)
    return at if marks is None else marks.end() - len(STX)


def _explain(buffer: bytes, at: int, verdict: _Verdict) -> _Fault:
    """A verdict in words."""
    if verdict is _Verdict.WAIT:
        return _cut_short(buffer[at:])
    if verdict is _Verdict.SKIP:
        return _Fault("FF where VER should stand", "VER", 2, "the frame starts one byte later")
    if verdict is _Verdict.VER:
        problem = f"VER is {buffer[at + 2]:02X}, known is {VERSION:02X}"
        return _Fault(problem, "VER", 2, "check which dialect the antenna speaks")
    length = _length(buffer, at)
    if verdict is _Verdict.LEN:
        problem = f"LEN is {length}, at most {LEN_MAX} is possible"
        return _Fault(problem, "LEN", 4, "wait for the next frame: bytes were lost, or noise looked like a start mark")
    end = at + HEADER_BYTES + length
    stated = int.from_bytes(buffer[end : end + CRC_BYTES], "big")
    problem = _crc_text(stated, crc16_x25(buffer[at + 2 : end]))
    return _Fault(problem, "CRC", HEADER_BYTES + length, CRC_HINT)


def _crc_text(stated: int, computed: int) -> str:
    return f"CRC is {stated:04X}, expected {computed:04X} (CRC-16/X-25 over VER to the end of DATA)"


def _cut_short(raw: bytes) -> _Fault:
    """Fault of a candidate whose other bytes will not come."""
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
    """Finds the frames of one v3 stream. See the module's text for the rule and the promise.

    Places count from the start of the stream.
    """

    def __init__(self) -> None:
        self._buffer = b""
        self._position = 0  # of the first byte of the buffer
        self._next = 0  # where the search for start marks goes on
        self._waiting: dict[int, int] = {}  # candidates whose bytes are not all here: where each starts and ends
        self._held = False  # the last of those may be a message: nothing is looked for inside while bytes flow
        self._told = 0  # up to here all bytes are in frames or runs
        self._run_at = 0  # of the first byte of the open run of discarded bytes
        self._run_length = 0
        self._run_prefix = b""
        self._run_fault: _Fault | None = None
        self._run_until = 0  # a fault before here is part of the open run

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
            self._settle(events)
            self._search(events)
            self._forget(events)
        if self._run_fault is not None:
            self._close_run(events)
        return events

    def flush(self) -> list[FrameEvent]:
        """Take complete frames out of the waiting candidate, and report noise gathered so far: the line is quiet."""
        events: list[FrameEvent] = []
        self._search(events, quiet=True)
        self._hold_again()
        self._forget(events)
        self._close_run(events)
        return events

    def finish(self) -> list[FrameEvent]:
        """Report what is left as cut short, after what `flush` does: the stream has ended."""
        events = self.flush()
        if self._buffer:
            end = self._position + len(self._buffer)
            self._blame(self._told, _cut_short(self._buffer), end, events)
            self._waiting.clear()
            self._held = False
            self._next = end
            self._forget(events)
        self._close_run(events)
        return events

    def _settle(self, events: list[FrameEvent]) -> None:
        """Judge the waiting candidates that have all their bytes now, from the left."""
        have = self._position + len(self._buffer)
        for start, end in list(self._waiting.items()):
            if end > have:
                continue
            verdict = _judge(self._buffer, start - self._position)
            if isinstance(verdict, int):
                self._give(start, end, events)
                return
            if start == next(iter(self._waiting)):
                self._blame_candidate(start - self._position, verdict, events)
            self._held = self._held and start != next(reversed(self._waiting))
            del self._waiting[start]

    def _search(self, events: list[FrameEvent], *, quiet: bool = False) -> None:
        """Judge candidates that have not been looked at, from the left. `quiet`: inside messages, too."""
        buffer, base = self._buffer, self._position
        at = self._next - base
        while quiet or not self._held:
            start = buffer.find(STX, at)
            if start < 0:
                # A single FF at the very end may be the first half of the next start mark.
                at = max(at, len(buffer) - buffer.endswith(STX[:1]))
                break
            at = start
            verdict = _judge(buffer, start)
            if isinstance(verdict, int):
                self._give(base + start, base + start + verdict, events)
                at = start + verdict
            elif verdict is _Verdict.SKIP:
                at = _last_mark(buffer, start)
            elif verdict is not _Verdict.WAIT:
                if base + start >= self._run_until and not self._waiting:
                    self._blame_candidate(start, verdict, events)
                at = start + 1
            elif self._wait(start):
                at = start + 1
            else:
                break
        self._next = base + at

    def _wait(self, at: int) -> bool:
        """Let the candidate at this byte of the buffer wait; False where too little of it is here to hide a frame."""
        if len(self._buffer) - at <= HEADER_BYTES:
            return False
        end = at + HEADER_BYTES + _length(self._buffer, at) + CRC_BYTES
        self._waiting[self._position + at] = self._position + end
        self._held = self._may_be_message(at)
        return True

    def _may_be_message(self, at: int) -> bool:
        return self._buffer[at + HEADER_BYTES] in MESSAGE_TYPES

    def _hold_again(self) -> None:
        """Forget what waits inside something that may be a message: bytes may flow again."""
        inside = False
        for start in list(self._waiting):
            if inside:
                del self._waiting[start]
            elif self._may_be_message(start - self._position):
                inside = True
                self._next = start + 1
        self._held = inside

    def _give(self, start: int, end: int, events: list[FrameEvent]) -> None:
        """Give a frame. Whatever waits lies around it or starts in it."""
        first = next(iter(self._waiting), start)
        if first < start:
            self._blame(first, _cut_short(self._buffer[first - self._position :]), start, events)
        self._discard(start, events)
        self._close_run(events)
        events.append(_frame(self._buffer[start - self._position : end - self._position], start))
        self._waiting.clear()
        self._held = False
        self._told = self._next = end

    def _forget(self, events: list[FrameEvent]) -> None:
        """Discard what belongs to no frame and to no candidate."""
        self._discard(next(iter(self._waiting), self._next), events)
        self._buffer = self._buffer[self._told - self._position :]
        self._position = self._told

    def _blame_candidate(self, at: int, verdict: _Verdict, events: list[FrameEvent]) -> None:
        """Begin a run with the bad candidate at this byte of the buffer, unless the open one reaches as far."""
        if self._position + at < self._run_until:
            return
        bad_crc = verdict is _Verdict.CRC
        total = HEADER_BYTES + _length(self._buffer, at) + CRC_BYTES
        extent = max(total, FAULT_RUN_MIN) if bad_crc else NOISE_RUN_MAX
        start = self._position + at
        self._blame(start, _explain(self._buffer, at, verdict), start + extent, events)

    def _blame(self, start: int, fault: _Fault, until: int, events: list[FrameEvent]) -> None:
        """Begin a run with a fault at `start`, unless the open one reaches as far; faults before `until` join it."""
        if start < self._run_until:
            return
        self._discard(start, events)
        self._close_run(events)
        self._run_fault, self._run_until = fault, until
        at = start - self._position
        # Only one byte may be given up, but people need to see the whole header that was wrong.
        self._run_prefix = self._buffer[at : at + PREFIX_BYTES_MAX]

    def _discard(self, end: int, events: list[FrameEvent]) -> None:
        """Put what is not reported yet, up to `end`, into the open run."""
        count = end - self._told
        if count <= 0:
            return
        if self._run_length == 0:
            self._run_at = self._told
        if self._run_fault is None:
            at = self._told - self._position
            room = PREFIX_BYTES_MAX - len(self._run_prefix)
            self._run_prefix += self._buffer[at : at + min(room, count)]
        self._run_length += count
        self._told = end
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
        self._run_until = 0


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
        fault = _explain(raw, 0, verdict)
        raise RemoteProtocolError(
            fault.problem,
            field=fault.field,
            offset=fault.offset,
            data=raw[fault.offset :],
            clause=CLAUSE,
            hint=fault.hint,
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
    """End of DATA, and what is wrong with LEN when the bytes themselves prove another length."""
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
