"""Interface of every framing: bytes in, frames and discarded runs out, whatever the start mark, check and escaping.

A framing is a strategy object that a dialect names. It holds no state itself; `deframer()` makes the part that
remembers bytes, one for each connection and direction.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from protocols.bad_frame import BadFrame


@dataclass(frozen=True, slots=True)
class Frame:
    """One frame whose length and check are right. `data` starts at the type byte and may be empty."""

    seq: int
    data: bytes
    raw: bytes
    """The frame as it came, start mark to check."""
    data_offset: int
    """Bytes from the first byte of `raw` to the first of `data`, as they came: escaped where the framing escapes."""
    position: int
    """Bytes from the start of the stream to the first byte of `raw`."""


FrameEvent = Frame | BadFrame


@dataclass(frozen=True, slots=True)
class FrameField:
    """Field of the frame around DATA, for display. Empty `raw` means that the field is missing."""

    name: str
    offset: int
    raw: bytes
    value: str
    meaning: str
    problem: str = ""
    hint: str = ""


@dataclass(frozen=True, slots=True)
class Inspection:
    """A frame taken apart without giving up at the first fault."""

    before: tuple[FrameField, ...]
    data: bytes
    data_offset: int
    data_length: int | None
    """Length of DATA according to the frame; None where it does not say, or says what no frame can have."""
    after: tuple[FrameField, ...]
    places: tuple[int, ...] | None = None
    """Start of each byte of DATA in the frame, and at the end the end of the last of them, for framings that
    escape. None: DATA stands in the frame as it is."""

    def place(self, at: int) -> int:
        """Offset in the frame of byte `at` of DATA, 0 to the number of bytes present."""
        return self.data_offset + at if self.places is None else self.places[at]


class Deframer(Protocol):
    """Keeps the bytes of one stream until they make frames. Never blocks, never grows beyond a named bound."""

    @property
    def pending(self) -> int:
        """Bytes kept because they may still become a frame."""

    @property
    def unsettled(self) -> bool:
        """True when `flush` may give something: bytes kept, or noise not reported yet."""

    def push(self, data: bytes) -> list[FrameEvent]:
        """Take the next bytes of the stream, in pieces of any size."""

    def flush(self) -> list[FrameEvent]:
        """Give the frames after an unfinished one, and the noise: the line has been quiet for a while."""

    def finish(self) -> list[FrameEvent]:
        """Account for every byte left: the stream has ended, nothing more will come."""


class Framing(Protocol):
    """Framing of a dialect: DATA to bytes on the link and back."""

    def wrap(self, seq: int, data: bytes) -> bytes:
        """One whole frame around `data`."""

    def unwrap(self, raw: bytes) -> Frame:
        """Exactly one frame; RemoteProtocolError for anything else."""

    def deframer(self) -> Deframer:
        """A fresh deframer for one stream."""

    def inspect(self, raw: bytes) -> Inspection:
        """Take `raw` apart for display, damaged or not."""
