"""Identifiers: time-ordered and random, so that indexes stay hot and nobody can guess a neighbour."""

from __future__ import annotations

import hashlib
from typing import Protocol


class RandomBits(Protocol):
    """The part of `random.Random` identifiers need; seeded on the bench."""

    def getrandbits(self, k: int, /) -> int: ...


_STAMP_BITS, _RANDOM_BITS = 48, 80
_FIXED = 0x7 << 76 | 0x2 << 62
"""Version 7 and the variant, where UUIDs have them."""
_FREE = ~(0xF << 76 | 0x3 << 62)


def new_id(now_us: int, random: RandomBits) -> str:
    """32 hex digits: 48 bits of UTC milliseconds, version and variant bits as UUID version 7, the rest random."""
    return new_ids(1, now_us, random)[0]


def new_ids(count: int, now_us: int, random: RandomBits) -> list[str]:
    """So many at once, of one instant and one draw."""
    stamp = (now_us // 1000 & (1 << _STAMP_BITS) - 1) << _RANDOM_BITS
    bits = random.getrandbits(_RANDOM_BITS * count)
    found = []
    for _ in range(count):
        found.append(f"{(stamp | bits & (1 << _RANDOM_BITS) - 1) & _FREE | _FIXED:032x}")
        bits >>= _RANDOM_BITS
    return found


def digest_of(*parts: str | bytes | int | None) -> str:
    """SHA-256 over length-prefixed parts: equal only for equal parts, wherever their borders lie."""
    pieces = []
    for part in parts:
        if part is None:
            pieces.append(b"-")
        else:
            data = part if isinstance(part, bytes) else str(part).encode()
            pieces.append(b"%d:%b" % (len(data), data))
    return hashlib.sha256(b"".join(pieces)).hexdigest()
