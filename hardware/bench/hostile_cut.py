"""Cuts a passing byte stream into frames and what stands between them, so that a bad line can hurt frames.

No byte is changed or lost here, only delayed until its frame is whole. Frames are found as the receiver finds them;
what belongs to none is handed on as it is and does not count as a frame, however it was cut on its way.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Protocol

from protocols.bank.framing import FRAME_BYTES_MAX, LENGTH_BYTES
from protocols.rsu.framing import Frame, FrameEvent, Framing
from protocols.rsu.registry import DIALECTS

KEPT_BYTES_MAX = 64 * 1024
"""Bytes kept that are no frame: far above the longest frame of every framing. More is another protocol: it passes."""
MBAP_BYTES = 6
"""Modbus/TCP: transaction 2, protocol 2, length 2 of what follows (Modbus Messaging on TCP/IP 1.0b, 3.1.3)."""
MODBUS_LENGTH_MAX = 254
"""Unit and the longest PDU of 253 bytes."""


@dataclass(frozen=True, slots=True)
class Part:
    """A run of the stream."""

    data: bytes
    whole: bool
    """True for a frame, False for what is none."""


class Cutter(Protocol):
    """Cutter of one direction of one connection."""

    @property
    def pending(self) -> int:
        """Bytes kept because their frame is not whole yet."""

    def push(self, data: bytes) -> list[Part]:
        """Take what was read; returns what is settled now."""

    def flush(self) -> list[Part]:
        """Hand over everything kept, because nothing more comes for now."""


class RsuCutter:
    """Cutter by the framing of an antenna's dialect."""

    def __init__(self, framing: Framing) -> None:
        self._framing = framing
        self._kept = bytearray()
        self._restart()

    @property
    def pending(self) -> int:
        return len(self._kept)

    def push(self, data: bytes) -> list[Part]:
        self._kept += data
        parts: list[Part] = []
        self._take(self._deframer.push(data), parts)
        if len(self._kept) > KEPT_BYTES_MAX:
            parts += self.flush()
        return parts

    def flush(self) -> list[Part]:
        parts: list[Part] = []
        self._take(self._deframer.finish(), parts)
        self._pass(len(self._kept), parts)
        self._restart()
        return parts

    def _restart(self) -> None:
        self._deframer = self._framing.deframer()
        self._base = 0  # place in the deframer's stream of the first byte kept

    def _take(self, events: list[FrameEvent], parts: list[Part]) -> None:
        for event in events:
            if isinstance(event, Frame):
                self._pass(event.position - self._base, parts)
                # A mark may be the end of one frame and the start of the next: it has gone with the first.
                parts.append(Part(self._cut(event.position + len(event.raw) - self._base), whole=True))

    def _pass(self, count: int, parts: list[Part]) -> None:
        if count > 0:
            parts.append(Part(self._cut(count), whole=False))

    def _cut(self, count: int) -> bytes:
        data = bytes(self._kept[:count])
        del self._kept[:count]
        self._base += count
        return data


class LengthCutter:
    """Cutter by a length that stands in a header of fixed size, in its last two bytes, big-endian."""

    def __init__(self, header_bytes: int, length_max: int) -> None:
        self._header_bytes = header_bytes
        self._length_max = length_max
        self._kept = bytearray()
        self._lost = False

    @property
    def pending(self) -> int:
        return len(self._kept)

    def push(self, data: bytes) -> list[Part]:
        self._kept += data
        parts: list[Part] = []
        while not self._lost and len(self._kept) >= self._header_bytes:
            length = int.from_bytes(self._kept[self._header_bytes - 2 : self._header_bytes], "big")
            # Without a start mark there is no finding back: the rest of the connection passes as it is.
            self._lost = length > self._length_max
            total = self._header_bytes + length
            if self._lost or len(self._kept) < total:
                break
            parts.append(Part(bytes(self._kept[:total]), whole=True))
            del self._kept[:total]
        return parts + (self.flush() if self._lost else [])

    def flush(self) -> list[Part]:
        data, self._kept = bytes(self._kept), bytearray()
        # The rest of a frame whose start has been passed on is no header.
        self._lost = self._lost or bool(data)
        return [Part(data, whole=False)] if data else []


class ReadCutter:
    """Cutter that takes every read for a frame: for peers that write one at a time and wait."""

    pending = 0

    def push(self, data: bytes) -> list[Part]:
        return [Part(data, whole=True)]

    def flush(self) -> list[Part]:
        return []


def _rsu(framing: Framing) -> Callable[[], Cutter]:
    return lambda: RsuCutter(framing)


CUTTERS: Mapping[str, Callable[[], Cutter]] = MappingProxyType(
    {
        **{name: _rsu(dialect.framing) for name, dialect in DIALECTS.items()},
        "bank": lambda: LengthCutter(LENGTH_BYTES, FRAME_BYTES_MAX),
        "modbus": lambda: LengthCutter(MBAP_BYTES, MODBUS_LENGTH_MAX),
        "reads": ReadCutter,
    }
)
"""Framings that can be named: every dialect of antennas, the bank's, Modbus/TCP, and none at all."""
