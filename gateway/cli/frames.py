"""Frames as people have them: hex as it is copied from anywhere, captures of a bench, or the raw bytes of a line.

What cannot be read is told with its place and passed over. A line or a file may hold several frames, one behind the
other; a line of a capture holds whatever the link gave at once, so the frames of a capture are cut from the whole of
what one peer sent.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from gateway.text_files import NotText, text_of
from gateway.texts.catalogue import Words
from protocols.rsu.dialect import Dialect
from protocols.rsu.framing import Frame, FrameEvent

PIECE_DIGITS_MAX: Final = 16
"""Arguments that are all this short are pieces of one frame, unless each could be one: serial dialects have frames as
short as this."""

FRAME_DIGITS_MIN: Final = 8
"""An empty acknowledgement of the shortest dialect: start mark, control byte, check byte, end mark."""

START_MARK: Final = "ff"
"""Every dialect's frames begin with it, once or twice."""

_TOKEN: Final = re.compile(r"[^\s,:;-]+")
"""Digits between two separators."""
_PREFIX: Final = re.compile("0[xX]")
_NO_DIGIT: Final = re.compile("[^0-9a-fA-F]")


@dataclass(frozen=True, slots=True)
class Found:
    """Bytes that are a frame, or would be one. `offset`: of the first byte in its line, file or stream."""

    raw: bytes
    offset: int = 0
    line: int | None = None
    captured: dict[str, str] | None = None
    """Time, direction and peer, where a capture tells them."""


@dataclass(frozen=True, slots=True)
class Unread:
    """Text that is no hex. `offset`: of the character that is wrong, in its line; `argument`: instead of a line."""

    problem: Words
    offset: int
    line: int | None = None
    argument: int | None = None

    @property
    def place(self) -> Words:
        """Place in the input."""
        if self.line is None:
            return Words("frames.frame-offset", argument=self.argument, offset=self.offset)
        return Words("frames.line-offset", line=self.line, offset=self.offset)


class HexWrong(Exception):
    """Text that is no hex; `offset` of the character that is wrong."""

    def __init__(self, offset: int, problem: Words) -> None:
        self.offset, self.problem = offset, problem
        super().__init__(str(problem))


def from_arguments(texts: Sequence[str], dialect: Dialect) -> Iterator[Found | Unread]:
    """Frames of the arguments of a command: one each, or all of them pieces of one."""
    digits = ["".join(_tokens(text)) for text in texts]
    short = all(len(squeezed) <= PIECE_DIGITS_MAX for squeezed in digits)
    frames = all(len(squeezed) >= FRAME_DIGITS_MIN and squeezed.lower().startswith(START_MARK) for squeezed in digits)
    if len(texts) > 1 and short and not frames:
        texts = [" ".join(texts)]
    for number, text in enumerate(texts, start=1):
        try:
            yield from _cut(bytes_of(text), dialect)
        except HexWrong as error:
            yield Unread(error.problem, error.offset, argument=number)


def from_data(data: bytes, dialect: Dialect) -> Iterator[Found | Unread]:
    """Frames of a file or of standard input. Raises `NotText` for text in another encoding."""
    try:
        text = text_of(data)
    except NotText as error:
        if error.looks_like_gbk:
            raise
        yield from _cut(data, dialect)
        return
    streams: dict[tuple[str, str], _Stream] = {}
    # Not splitlines: it takes a form feed for the end of a line, and numbers would not be those of an editor.
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        try:
            if line.lstrip().startswith("{"):
                yield from _of_capture(line, number, dialect, streams)
            else:
                yield from _cut(bytes_of(line), dialect, number)
        except HexWrong as error:
            yield Unread(error.problem, error.offset, line=number)
    for stream in streams.values():
        yield from stream.end()


def bytes_of(text: str) -> bytes:
    """Bytes of hex digits with blanks, commas, colons or hyphens between them, or 0x before them."""
    digits = "".join(_tokens(text, strictly=True))
    if not digits:
        raise HexWrong(0, Words("frames.no-hex-digits"))
    if len(digits) % 2:
        count = len(digits)
        problem = Words("frames.hex-digits-last-byte-has", count=count)
        raise HexWrong(len(text.rstrip()) - 1, problem)
    return bytes.fromhex(digits)


def _tokens(text: str, *, strictly: bool = False) -> Iterator[str]:
    for found in _TOKEN.finditer(text):
        token = _PREFIX.sub("", found[0], count=1) if _PREFIX.match(found[0]) else found[0]
        wrong = _NO_DIGIT.search(token) if strictly else None
        if wrong is not None:
            shown = repr(wrong[0])
            problem = Words("frames.no-hex-digit", shown=shown)
            raise HexWrong(found.end() - len(token) + wrong.start(), problem)
        # C writes 0x5 for 05.
        yield f"0{token}" if len(token) == 1 and token != found[0] else token


def _cut(data: bytes, dialect: Dialect, line: int | None = None) -> Iterator[Found]:
    """Every frame of some bytes and whatever is between them; all in one where no frame is whole."""
    deframer = dialect.framing.deframer()
    events = [*deframer.push(data), *deframer.finish()]
    if not any(isinstance(event, Frame) for event in events):
        yield Found(data, 0, line)
        return
    for event in events:
        yield Found(_raw_of(event, data), event.position, line)


def _raw_of(event: FrameEvent, data: bytes | bytearray) -> bytes:
    return event.raw if isinstance(event, Frame) else bytes(data[event.position : event.position + event.length])


# --- captures -------------------------------------------------------------------------------------------------------


class _Stream:
    """Bytes that one peer of a capture sent."""

    def __init__(self, dialect: Dialect) -> None:
        self._deframer = dialect.framing.deframer()
        self._data = bytearray()
        self._line = 0
        self._captured: dict[str, str] = {}

    def push(self, piece: bytes, line: int, captured: dict[str, str]) -> Iterator[Found]:
        self._data += piece
        self._line, self._captured = line, captured
        yield from self._found(self._deframer.push(piece))

    def end(self) -> Iterator[Found]:
        yield from self._found(self._deframer.finish())

    def _found(self, events: Sequence[FrameEvent]) -> Iterator[Found]:
        for event in events:
            yield Found(_raw_of(event, self._data), event.position, self._line, self._captured)


def _of_capture(line: str, number: int, dialect: Dialect, streams: dict[tuple[str, str], _Stream]) -> Iterator[Found]:
    """Frames that end in a line of a capture: a JSON object with `t`, `dir`, `peer` and `hex`."""
    try:
        told = json.loads(line)
        piece = bytes.fromhex(told["hex"])
        captured = {key: str(told[key]) for key in ("t", "dir", "peer")}
    except (ValueError, KeyError, TypeError) as error:
        offset = error.pos if isinstance(error, json.JSONDecodeError) else 0
        problem = Words("frames.no-line-capture")
        raise HexWrong(offset, problem) from error
    stream = streams.setdefault((captured["peer"], captured["dir"]), _Stream(dialect))
    yield from stream.push(piece, number, captured)
