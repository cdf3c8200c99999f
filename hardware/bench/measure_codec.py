"""The declared codec against hand-written `struct` for the same frame, and the deframer against a bare loop."""

from __future__ import annotations

import struct
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from protocols.rsu.crc import crc16_x25
from protocols.rsu.framing_v3 import V3Framing
from protocols.rsu.registry import dialect_named

ROUNDS = 2_000
TRIES = 5

_B5 = struct.Struct(">B4sB6s7sBBB4sHII")
"""pcrsu-v3 B5 of 36 bytes."""


_DATA = bytes.fromhex("b599000001000199000000012026112310000009000111223344000700000009000b71b0")
_STREAM_BYTES = 64 * 1024
_READ_BYTES = 16 * 1024
"""Bytes of one read, as many as the driver takes from a line at once."""

STREAMS = {
    "frames": V3Framing().wrap(1, _DATA),
    "all FF": b"\xff",
    "false headers": bytes.fromhex("ffff000100000400"),
    "false headers, LEN impossible": bytes.fromhex("ffff0001ffff0001"),
    "false headers, LEN short": bytes.fromhex("ffff0001000000041122"),
}
"""Streams a line may bring, each piece over and over."""


def measure(_folder: Path) -> list[dict[str, Any]]:
    """Decode and encode of one B5; a frame's length of a stream through the deframer."""
    return [*_messages(), *_streams()]


def _streams() -> list[dict[str, Any]]:
    rows = []
    for name, piece in STREAMS.items():
        ratio, us_each = deframer_ratio(piece)
        rows.append({"what": f"find in {name}", "us_each": us_each, "times_by_hand": ratio})
    return rows


def deframer_ratio(piece: bytes) -> tuple[float, float]:
    """Time of the deframer over a stream of `piece` as a multiple of a bare loop's, and its microseconds for as many
    bytes as one B5 has. The two take turns, so that a busy machine disturbs both."""
    stream = (piece * (_STREAM_BYTES // len(piece) + 1))[:_STREAM_BYTES]
    reads = [stream[start : start + _READ_BYTES] for start in range(0, len(stream), _READ_BYTES)]
    ours = reference = float("inf")
    for _ in range(TRIES):
        ours = min(ours, _once(lambda: _pushed(reads)))
        reference = min(reference, _once(lambda: _by_hand(stream)))
    return ours / reference, ours * 1e6 * len(STREAMS["frames"]) / _STREAM_BYTES


def _pushed(reads: list[bytes]) -> None:
    deframer = V3Framing().deframer()
    for data in reads:
        deframer.push(data)


def _by_hand(stream: bytes) -> list[bytes]:
    """Reference written by hand: find the mark, read the length, check. It waits for nothing and reports nothing."""
    found = []
    at = stream.find(b"\xff\xff\x00")
    while at >= 0:
        end = at + 10 + int.from_bytes(stream[at + 4 : at + 8], "big")
        if (
            end <= min(len(stream), at + 1034)
            and crc16_x25(stream[at + 2 : end - 2]).to_bytes(2, "big") == stream[end - 2 : end]
        ):
            found.append(stream[at:end])
            at = stream.find(b"\xff\xff\x00", end)
        else:
            at = stream.find(b"\xff\xff\x00", at + 1)
    return found


def _once(work: Callable[[], object]) -> float:
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun


def _messages() -> list[dict[str, Any]]:
    dialect = dialect_named("pcrsu-v3")
    data = _DATA
    message = dialect.decode(data)
    values = _B5.unpack(data)
    rows = []
    for name, declared, by_hand in (
        ("decode B5", lambda: dialect.decode(data), lambda: _B5.unpack(data)),
        ("encode B5", lambda: dialect.encode(message), lambda: _B5.pack(*values)),
    ):
        ours, reference = _best(declared), _best(by_hand)
        rows.append({"what": name, "us_each": ours * 1e6, "times_by_hand": ours / reference})
    return rows


def _best(work: Callable[[], object]) -> float:
    """Seconds of one call, best of several series: the others were disturbed."""
    best = float("inf")
    for _ in range(TRIES):
        begun = time.perf_counter()
        for _ in range(ROUNDS):
            work()
        best = min(best, (time.perf_counter() - begun) / ROUNDS)
    return best
