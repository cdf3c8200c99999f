"""The pump frames under tests/vectors, and a second, slower implementation of what they are checked with."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

VECTORS = Path(__file__).parents[2] / "vectors"


@dataclass(frozen=True)
class Vector:
    id: str
    protocol: str
    direction: str
    valid: bool
    raw: bytes
    decoded: dict[str, Any]
    decimals: dict[str, Any]


def load(protocol: str) -> tuple[Vector, ...]:
    files = (VECTORS / name for name in ("pump-frames.jsonl", "pump-two-wire.jsonl"))
    rows = [json.loads(line) for file in files for line in file.read_text(encoding="utf-8").splitlines()]
    return tuple(
        Vector(
            row["id"],
            row["protocol"],
            row["direction"],
            row["valid"],
            bytes.fromhex(row["hex"]),
            row["decoded"],
            row.get("decimals", {}),
        )
        for row in rows
        if row["protocol"] == protocol
    )


DART = load("wayne-dart")
DART_GOOD = tuple(vector for vector in DART if vector.valid)
DART_BAD = tuple(vector for vector in DART if not vector.valid)


def dart(name: str) -> Vector:
    return next(vector for vector in DART if vector.id == name)


def slow_crc(data: bytes) -> int:
    """CRC-16/ARC bit by bit."""
    crc = 0
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ 0xA001 if crc & 1 else crc >> 1
    return crc


def dart_frame(address: int, number: int, data: bytes, *, quirk: bool = False) -> bytes:
    """A data frame packed without the code under test."""
    body = bytes((address, 0x30 | number)) + data
    body += slow_crc(body).to_bytes(2, "little")
    sent = bytes((body[0] | 0x80 if quirk else body[0],)) + body[1:]
    return b"".join(b"\x10\xfa" if byte == 0xFA else bytes((byte,)) for byte in sent) + b"\x03\xfa"


def bytes_of(stream: bytes) -> list[bytes]:
    return [bytes((byte,)) for byte in stream]


def cut(stream: bytes, sizes: list[int]) -> list[bytes]:
    pieces, at = [], 0
    for size in sizes:
        pieces.append(stream[at : at + size])
        at += size
    return [*pieces, stream[at:]]
