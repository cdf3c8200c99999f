"""Identifiers: time-ordered and random, so that indexes stay hot and nobody can guess a neighbour."""

from __future__ import annotations

import hashlib
from typing import Protocol


class RandomBits(Protocol):
    """The part of `random.Random` identifiers need; seeded on the bench."""

    def getrandbits(self, k: int, /) -> int: ...


def new_id(now_us: int, random: RandomBits) -> str:
    """32 hex digits: 48 bits of UTC milliseconds, version and variant bits as UUID version 7, the rest random."""
    value = (now_us // 1000 & (1 << 48) - 1) << 80 | random.getrandbits(80)
    value = value & ~(0xF << 76) | 0x7 << 76
    value = value & ~(0x3 << 62) | 0x2 << 62
    return f"{value:032x}"


def digest_of(*parts: str | bytes | int | None) -> str:
    """SHA-256 over length-prefixed parts: equal only for equal parts, wherever their borders lie."""
    whole = hashlib.sha256()
    for part in parts:
        data = part if isinstance(part, bytes) else b"" if part is None else str(part).encode()
        whole.update(b"-" if part is None else str(len(data)).encode() + b":")
        whole.update(data)
    return whole.hexdigest()
