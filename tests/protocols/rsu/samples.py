"""The RSU frames under tests/vectors, and a second, slower implementation of what they are checked with."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from protocols.rsu.messages import Message
from protocols.rsu.registry import dialect_named

V3_NAME = "pcrsu-v3"
VECTORS_FILE = Path(__file__).parents[2] / "vectors" / "rsu-frames.jsonl"


@dataclass(frozen=True)
class Vector:
    id: str
    dialect: str
    origin: str
    direction: str
    raw: bytes
    decoded: dict[str, Any]
    checksum_ok: bool

    @property
    def data(self) -> bytes:
        """DATA of a v3 frame, whatever its check; that of a good frame of another dialect."""
        return self.raw[8:-2] if self.dialect == V3_NAME else dialect_named(self.dialect).framing.unwrap(self.raw).data


def load() -> tuple[Vector, ...]:
    rows = [json.loads(line) for line in VECTORS_FILE.read_text(encoding="utf-8").splitlines()]
    return tuple(
        Vector(
            row["id"],
            row["dialect"],
            row["origin"],
            row["direction"],
            bytes.fromhex(row["hex"]),
            row["decoded"],
            row["checksum_ok"],
        )
        for row in rows
    )


ALL_VECTORS = load()
"""Of every dialect."""
ALL_GOOD = tuple(vector for vector in ALL_VECTORS if vector.checksum_ok)
VECTORS = tuple(vector for vector in ALL_VECTORS if vector.dialect == V3_NAME)
"""Those of pcrsu-v3."""
GOOD = tuple(vector for vector in VECTORS if vector.checksum_ok)
LEGACY_GOOD = tuple(vector for vector in ALL_GOOD if vector.dialect != V3_NAME)
"""Those of the serial dialects."""


def vector(name: str) -> Vector:
    return next(vector for vector in ALL_VECTORS if vector.id == name)


def slow_crc(data: bytes) -> int:
    """CRC-16/X-25 bit by bit, as the standard writes it."""
    crc = 0xFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ 0x8408 if crc & 1 else crc >> 1
    return crc ^ 0xFFFF


def v3(seq: int, data: bytes) -> bytes:
    """A v3 frame packed without the code under test."""
    checked = bytes((0, seq)) + len(data).to_bytes(4, "big") + data
    return b"\xff\xff" + checked + slow_crc(checked).to_bytes(2, "big")


def legacy(seq: int, data: bytes, stx: bytes = b"\xff\xff") -> bytes:
    """A frame of the serial dialects packed without the code under test."""
    check = 0
    for value in (seq, *data):
        check ^= value
    escapes = {0xFE: b"\xfe\x00", 0xFF: b"\xfe\x01"}
    return stx + b"".join(escapes.get(value, bytes((value,))) for value in (seq, *data, check)) + b"\xff"


def plain(message: Message) -> dict[str, Any]:
    """A message the way the vectors state one: bytes as hex, records as objects."""

    def text(value: object) -> object:
        if isinstance(value, bytes):
            return value.hex()
        if isinstance(value, dict):
            return {key: text(inner) for key, inner in value.items()}
        return [text(inner) for inner in value] if isinstance(value, tuple | list) else value

    return {key: text(value) for key, value in dataclasses.asdict(message).items()}
