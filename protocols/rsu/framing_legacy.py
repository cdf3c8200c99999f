"""Framing of the serial dialects: FF FF, RSCTL, DATA, BCC, FF. Marks are never escaped, everything between them is.

Between the marks FF goes as FE 01 and FE as FE 00; FE before anything else is an error. BCC is the XOR of RSCTL and
DATA before escaping. FE xor 01 is FF and FE xor 00 is FE, so the XOR over escaped bytes is the same number: BCC
cannot see an un-escaping that was left out or done twice. What sees it is the length, which each layout knows: a
frame is good only when `Dialect.decode` has found a layout for the length of its DATA, too.

Finding a frame
---------------
FF stands nowhere inside a frame. So the stream falls into runs of other bytes between runs of FF, and each run of other
bytes is judged by itself: with enough FF directly before it (two, or one where a dialect says so) and one after it, it
is a frame when its escapes and its BCC are right. An FF may serve twice, as the end mark of one frame and in the start
mark of the next: when one byte of `FF | FF FF` between two frames is lost, nobody can say whose it was, and both are
read. Three FF in a row therefore need no rule of their own, and more than that are noise.

The promise: however the stream is cut into pieces, its frames are those of that rule over the whole stream. Nothing
before, between or after frames can hide or delay a good frame: it is there with its last byte.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import reduce
from operator import xor

from protocols.bad_frame import BadFrame
from protocols.errors import PREFIX_BYTES_MAX, LocalProtocolError, RemoteProtocolError
from protocols.rsu.framing import Frame, FrameEvent, FrameField, Inspection

CLAUSE = "serial protocol of the Beijing style, frame format"
MARK = 0xFF
MARKS = b"\xff"
_MARK_RUN = re.compile(rb"\xff*")
ESCAPE = 0xFE
ESCAPED = {0x00: 0xFE, 0x01: 0xFF}
"""Meaning of the byte after FE."""
DATA_MAX = 512
"""Longest DATA accepted. The longest known report (card files with a whole EF04 after them) stays below 500."""
CONTENT_MAX = 2 * (1 + DATA_MAX + 1)
"""Bytes between the marks when RSCTL, every byte of DATA and BCC are escaped: the most a deframer keeps of one run."""
NOISE_RUN_MAX = CONTENT_MAX
"""Longest run of noise before it is reported, as long as a frame can be: a chattering line must be reported."""

REPEAT_HINT = "wait for the repetition: bytes were lost or damaged on the line"


@dataclass(frozen=True, slots=True)
class _Fault:
    """Fault in the bytes between two marks. `offset` counts from the first of them."""

    problem: str
    field: str
    offset: int
    hint: str = REPEAT_HINT


_NOISE = _Fault("no frame starts here", "STX", 0, "look for noise, a wrong baud rate or another dialect on the line")


@dataclass(frozen=True, slots=True)
class _Content:
    """Bytes between two marks, un-escaped as far as they can be."""

    values: bytes
    places: tuple[int, ...]
    """Start of each value in the escaped bytes; one more at the end: the end of the last of them."""
    fault: _Fault | None


def _unescape(content: bytes) -> _Content:
    if ESCAPE not in content:
        return _Content(content, tuple(range(len(content) + 1)), None)
    values = bytearray()
    places: list[int] = []
    at = 0
    while at < len(content):
        value = content[at]
        step = 1
        if value == ESCAPE:
            behind = content[at + 1] if at + 1 < len(content) else None
            if behind not in ESCAPED:
                seen = "the end" if behind is None else f"{behind:02X}"
                fault = _Fault(f"FE before {seen}, known are FE 00 and FE 01", "escape", at)
                return _Content(bytes(values), (*places, at), fault)
            value, step = ESCAPED[behind], 2
        values.append(value)
        places.append(at)
        at += step
    return _Content(bytes(values), (*places, at), None)


def _end_of_marks(data: bytes, at: int) -> int:
    """End of a run of FF that may start at `at`."""
    run = _MARK_RUN.match(data, at)
    return at if run is None else run.end()


def escape(values: bytes) -> bytes:
    """Escape `values` as they go on the line; no FF is left in them."""
    return values.replace(b"\xfe", b"\xfe\x00").replace(MARKS, b"\xfe\x01")


def bcc(values: bytes) -> int:
    """XOR of RSCTL and DATA, not escaped."""
    return reduce(xor, values, 0)


def _bcc_text(stated: int, computed: int) -> str:
    return f"BCC is {stated:02X}, expected {computed:02X} (XOR of RSCTL and DATA before escaping)"


def _judge(content: _Content) -> _Fault | None:
    """Reason why `content` is no frame, None when it is one."""
    if content.fault is not None:
        return content.fault
    size = len(content.values)
    if size < 2:
        return _Fault(f"RSCTL and BCC are 2 bytes, {size} between the marks", "BCC", content.places[-1])
    if size > DATA_MAX + 2:
        return _Fault(f"DATA of {size - 2} bytes, at most {DATA_MAX} are possible", "DATA", content.places[1])
    stated, computed = content.values[-1], bcc(content.values[:-1])
    if stated != computed:
        return _Fault(_bcc_text(stated, computed), "BCC", content.places[-2])
    return None


class LegacyDeframer:
    """Finds the frames of one stream. See the module's text for the rule and the promise."""

    def __init__(self, stx_bytes: int) -> None:
        self._stx = MARKS * stx_bytes
        self._content = bytearray()
        self._marks = (
            0  # FF directly before the content that belong to nothing yet, at most as many as a start mark has
        )
        self._end_mark = False  # directly before those stands the end mark of a frame, which may serve twice
        self._in_noise = False  # other bytes come that have no start mark before them
        self._position = 0  # of the next byte of the stream
        self._noise_at = 0
        self._noise_length = 0
        self._noise_prefix = b""

    @property
    def pending(self) -> int:
        """Bytes of an unfinished frame, at most its start mark and CONTENT_MAX."""
        return self._marks + len(self._content)

    @property
    def unsettled(self) -> bool:
        """True while bytes wait or noise is gathered."""
        return self.pending > 0 or self._noise_length > 0

    def push(self, data: bytes) -> list[FrameEvent]:
        """Take the next bytes. A frame is given with its last byte; plain noise when it ends."""
        events: list[FrameEvent] = []
        at = 0
        while at < len(data):
            end = data.find(MARKS, at)
            end = len(data) if end < 0 else end
            # In portions, so that one huge read cannot make the buffer grow beyond its bound.
            for start in range(at, end, CONTENT_MAX):
                self._take_content(data[start : min(end, start + CONTENT_MAX)], events)
            at = _end_of_marks(data, end)
            if at > end:
                self._take_marks(at - end, events)
        return events

    def flush(self) -> list[FrameEvent]:
        """Report the noise: the line is quiet. An unfinished frame hides nothing and may go on later."""
        events: list[FrameEvent] = []
        self._close_noise(events)
        return events

    def finish(self) -> list[FrameEvent]:
        """Report an unfinished frame as cut short: the stream has ended."""
        events = self.flush()
        if self._content:
            fault = _Fault("frame cut short: no end mark came", "ETX", len(self._content))
            self._give_up(self._stx + bytes(self._content), fault, events)
            self._content.clear()
        self._note(self._stx[: self._marks], self._position - self._marks, events)
        self._marks = 0
        self._close_noise(events)
        return events

    def _take_content(self, piece: bytes, events: list[FrameEvent]) -> None:
        if not self._content and not self._in_noise:
            self._in_noise = self._marks + self._end_mark < len(self._stx)
            if self._in_noise:
                self._note(self._stx[: self._marks], self._position - self._marks, events)
            self._marks = 0
            self._end_mark = False
        self._position += len(piece)
        if self._in_noise:
            self._note(piece, self._position - len(piece), events)
        else:
            self._content += piece
            if len(self._content) > CONTENT_MAX:
                fault = _Fault(f"no end mark within {CONTENT_MAX} bytes", "ETX", CONTENT_MAX)
                self._give_up(self._stx + bytes(self._content), fault, events)
                self._content.clear()
                self._in_noise = True  # what follows, up to the next mark

    def _take_marks(self, count: int, events: list[FrameEvent]) -> None:
        """Take `count` FF in a row, at least one."""
        self._in_noise = False
        if self._content:
            self._position += 1
            self._end_content(events)
            count -= 1
        self._position += count
        old, self._marks = self._marks, min(self._marks + count, len(self._stx))
        surplus = old + count - self._marks
        if surplus:
            self._note(MARKS * surplus, self._position - self._marks - surplus, events)  # the oldest of too many
            self._end_mark = False

    def _end_content(self, events: list[FrameEvent]) -> None:
        raw = self._stx + bytes(self._content) + MARKS
        content = _unescape(bytes(self._content))
        self._content.clear()
        self._end_mark = True
        fault = _judge(content)
        if fault is not None:
            self._give_up(raw, fault, events)
            return
        self._close_noise(events)
        events.append(_frame(raw, content, len(self._stx), self._position - len(raw)))

    def _give_up(self, raw: bytes, fault: _Fault, events: list[FrameEvent]) -> None:
        """Report `raw`, which ends where the stream is, start mark included."""
        self._close_noise(events)
        events.append(
            BadFrame(
                problem=fault.problem,
                field=fault.field,
                offset=len(self._stx) + fault.offset,
                position=self._position - len(raw),
                length=len(raw),
                data=raw[:PREFIX_BYTES_MAX],
                hint=fault.hint,
            )
        )

    def _note(self, noise: bytes, position: int, events: list[FrameEvent]) -> None:
        """Gather noise that stands at `position`."""
        if not noise:
            return
        if self._noise_length == 0:
            self._noise_at = position
        self._noise_length += len(noise)
        self._noise_prefix = (self._noise_prefix + noise)[:PREFIX_BYTES_MAX]
        if self._noise_length >= NOISE_RUN_MAX:
            self._close_noise(events)

    def _close_noise(self, events: list[FrameEvent]) -> None:
        if self._noise_length:
            events.append(
                BadFrame(
                    problem=_NOISE.problem,
                    field=_NOISE.field,
                    offset=_NOISE.offset,
                    position=self._noise_at,
                    length=self._noise_length,
                    data=self._noise_prefix,
                    hint=_NOISE.hint,
                )
            )
        self._noise_length = 0
        self._noise_prefix = b""


def _frame(raw: bytes, content: _Content, stx_bytes: int, position: int) -> Frame:
    values = content.values
    return Frame(values[0], values[1:-1], raw, stx_bytes + content.places[1], position)


@dataclass(frozen=True, slots=True)
class LegacyFraming:
    """The framing strategy of the serial dialects. `stx_bytes`: how many FF start a frame, 2 or 1."""

    stx_bytes: int = 2

    def wrap(self, seq: int, data: bytes) -> bytes:
        """One frame. `seq` is RSCTL, 0..255; `data` at most DATA_MAX bytes, not escaped."""
        if not 0 <= seq <= 0xFF:
            raise LocalProtocolError(f"RSCTL {seq} is no byte", field="RSCTL", clause=CLAUSE)
        if len(data) > DATA_MAX:
            raise LocalProtocolError(f"DATA of {len(data)} bytes, at most {DATA_MAX}", field="DATA", clause=CLAUSE)
        values = bytes((seq,)) + data
        return MARKS * self.stx_bytes + escape(values + bytes((bcc(values),))) + MARKS

    def unwrap(self, raw: bytes) -> Frame:
        """The one frame that `raw` is, from its first byte to its last. Offsets of errors count escaped bytes."""
        if raw[: self.stx_bytes] != MARKS * self.stx_bytes:
            hint = "cut the capture at a start mark"
            raise _refused(_Fault(f"a frame starts with {self._stx_text()}", "STX", 0, hint), raw, 0)
        end = raw.find(MARKS, self.stx_bytes)
        content = _unescape(raw[self.stx_bytes : end if end >= 0 else len(raw)])
        if end < 0:
            raise _refused(_Fault("no end mark", "ETX", len(raw), "give the whole frame"), raw, 0)
        if (fault := _judge(content)) is not None:
            raise _refused(fault, raw, self.stx_bytes)
        if end + 1 != len(raw):
            behind = f"{len(raw) - end - 1} bytes behind the frame"
            raise _refused(_Fault(behind, "tail", end + 1, "give one frame at a time"), raw, 0)
        return _frame(raw, content, self.stx_bytes, 0)

    def deframer(self) -> LegacyDeframer:
        """A fresh deframer for one stream."""
        return LegacyDeframer(self.stx_bytes)

    def inspect(self, raw: bytes) -> Inspection:
        """Every framing field with what is wrong with it, as far as the bytes go. Offsets count escaped bytes."""
        start = len(raw) - len(raw.lstrip(MARKS))
        end = raw.find(MARKS, start)
        body = raw[start : end if end >= 0 else len(raw)]
        content = _unescape(body)
        values, places = content.values, tuple(start + place for place in content.places)
        # Without an end mark or behind a bad escape, the last byte is BCC only if it proves it.
        proven = len(values) > 1 and bcc(values) == 0
        closed = content.fault is None and (end >= 0 or proven)
        stop = max(1, len(values) - 1) if closed else len(values)
        after = [_escape_field(content.fault, raw, start, start + len(body))] if content.fault else []
        if content.fault is None:
            after.append(_bcc_field(raw, values, places, stop))
        after.append(_etx_field(raw, end))
        if end >= 0 and raw[end + 1 :]:
            after.append(_tail_field(raw, end + 1))
        return Inspection(
            before=(self._stx_field(raw[:start]), _rsctl_field(raw, values, places)),
            data=values[1:stop],
            data_offset=places[min(1, len(values))],
            data_length=len(values[1:stop]) if closed else None,
            after=tuple(after),
            places=places[1 : stop + 1],
        )

    def _stx_text(self) -> str:
        return "FF" * self.stx_bytes

    def _stx_field(self, marks: bytes) -> FrameField:
        problem = hint = ""
        if len(marks) != self.stx_bytes:
            problem = f"{len(marks)} bytes of FF, a start mark is {self._stx_text()}"
            hint = "cut the capture at a start mark, or check which dialect the antenna speaks"
        return FrameField("STX", 0, marks, marks.hex(), "start mark", problem, hint)


def _refused(fault: _Fault, raw: bytes, base: int) -> RemoteProtocolError:
    offset = base + fault.offset
    return RemoteProtocolError(
        fault.problem, field=fault.field, offset=offset, data=raw[offset:], clause=CLAUSE, hint=fault.hint
    )


def _rsctl_field(raw: bytes, values: bytes, places: tuple[int, ...]) -> FrameField:
    if not values:
        return FrameField(
            "RSCTL", places[0], b"", "", "frame number", "missing: the frame is cut short", "give the whole frame"
        )
    seq = values[0]
    if seq == 0x98:
        meaning = "first report of the antenna after power-up: C0 is to be sent again"
    elif seq & 0x0F == 8 and seq >> 4 != 8:
        meaning = f"report {seq >> 4} of the antenna"
    elif seq == 0x88:
        meaning = "report 8 of the antenna, or the lane computer's answer to it"
    elif seq >> 4 == 8:
        meaning = f"command of the lane computer: its own number, or the answer to report {seq & 0x0F}"
    else:
        meaning = "neither X8 (antenna) nor 8X (lane computer)"
    return FrameField("RSCTL", places[0], raw[places[0] : places[1]], f"{seq:02x}", meaning)


def _bcc_field(raw: bytes, values: bytes, places: tuple[int, ...], stop: int) -> FrameField:
    meaning = "XOR of RSCTL and DATA before escaping"
    if stop >= len(values):
        return FrameField(
            "BCC", places[-1], b"", "", meaning, "missing: the frame is cut short", "give the whole frame"
        )
    stated, computed = values[-1], bcc(values[:-1])
    problem = "" if stated == computed else _bcc_text(stated, computed)
    on_link = raw[places[-2] : places[-1]]
    return FrameField("BCC", places[-2], on_link, f"{stated:02X}", meaning, problem, REPEAT_HINT if problem else "")


def _escape_field(fault: _Fault, raw: bytes, start: int, end: int) -> FrameField:
    at = start + fault.offset
    left = raw[at:end]
    return FrameField("escape", at, left, left.hex(), "the rest cannot be read", fault.problem, fault.hint)


def _etx_field(raw: bytes, end: int) -> FrameField:
    if end < 0:
        return FrameField(
            "ETX", len(raw), b"", "", "end mark", "missing: the frame is cut short", "give the whole frame"
        )
    return FrameField("ETX", end, raw[end : end + 1], "ff", "end mark")


def _tail_field(raw: bytes, at: int) -> FrameField:
    tail = raw[at:]
    return FrameField(
        name="tail",
        offset=at,
        raw=tail,
        value=f"{len(tail)} bytes",
        meaning="not part of this frame",
        problem="bytes behind the frame",
        hint="give them as a frame of their own",
    )
