"""Reads bank messages off the wire a second time, without the product's codec.

A bench that proves the gateway's messages with the gateway's own decoder proves nothing: an error would cancel out.
This one walks the bytes with a table of widths of its own and `int.from_bytes`, and shares no line with
`protocols.bank`. It pulls out only what the proof of money needs.

Envelope: two bytes of length, TPDU 5, header 6, type 2, bitmap 8, then fields in ascending order.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

_TPDU, _HEADER = 5, 6
_BITMAP_AT = _TPDU + _HEADER + 2
_FIELDS_AT = _BITMAP_AT + 8

# Bytes a fixed field takes on the wire. Packed numbers take half their digits, rounded up.
_FIXED = (
    {3: 3, 4: 6, 5: 6, 6: 6, 7: 5, 8: 4, 9: 4, 10: 4, 11: 3, 12: 3, 13: 2, 14: 2, 15: 2, 16: 2, 17: 2, 18: 2}
    | dict.fromkeys((19, 20, 21, 22, 23, 24), 2)
    | dict.fromkeys((25, 26, 27), 1)
    | dict.fromkeys((28, 29, 30, 31), 9)
    | {37: 12, 38: 6, 39: 2, 40: 3, 41: 8, 42: 15, 43: 40, 49: 3, 50: 3, 51: 3, 52: 8, 53: 8, 64: 8}
)
# Variable fields: bytes of length in front, and how many characters one byte holds.
_SHORT_PACKED = frozenset({2, 32, 33, 34, 35})
_SHORT_PLAIN = frozenset({44, 45})
_LONG_PACKED = frozenset({36, 48, 60, 61})
_LONG_PLAIN = frozenset({46, 47, 54, 55, 56, 57, 58, 59, 62, 63})


@dataclass(frozen=True, slots=True)
class BankWire:
    """Message of a bank link, as far as it is about money. None where the field is absent."""

    mti: str
    processing: str | None
    """F3."""
    amount_fen: int | None
    """F4."""
    stan: int | None
    """F11."""
    code: str | None
    """F39."""
    terminal: str | None
    """F41."""
    contract: str | None
    """F48."""
    original: str | None
    """F61: batch 6, STAN 6, date 4."""


def split_stream(data: bytes) -> Iterator[bytes]:
    """Messages of one direction of a connection, length removed, keep-alives skipped.

    Raises ValueError when the last one is cut short.
    """
    at = 0
    while at < len(data):
        length = int.from_bytes(data[at : at + 2], "big")
        if at + 2 + length > len(data):
            raise ValueError(f"message at byte {at} is cut short: {length} announced, {len(data) - at - 2} there")
        if length:
            yield data[at + 2 : at + 2 + length]
        at += 2 + length


def read_wire(message: bytes) -> BankWire:
    """Read one message without its length. Raises ValueError."""
    if len(message) < _FIELDS_AT:
        raise ValueError(f"{len(message)} bytes are no bank message")
    bitmap = int.from_bytes(message[_BITMAP_AT:_FIELDS_AT], "big")
    found: dict[int, bytes] = {}
    digits: dict[int, int] = {}
    at = _FIELDS_AT
    for number in range(1, 65):
        if bitmap & (1 << (64 - number)):
            start, size, count = _extent(message, at, number)
            found[number], digits[number] = message[start : start + size], count
            at = start + size
    if at != len(message):
        raise ValueError(f"fields end at byte {at} of {len(message)}")
    return BankWire(
        mti=_packed(message[_TPDU + _HEADER : _BITMAP_AT], 4),
        processing=_packed(found[3], 6) if 3 in found else None,
        amount_fen=int(_packed(found[4], 12)) if 4 in found else None,
        stan=int(_packed(found[11], 6)) if 11 in found else None,
        code=found[39].decode("ascii") if 39 in found else None,
        terminal=found[41].decode("ascii") if 41 in found else None,
        contract=_packed(found[48], digits[48]) if 48 in found else None,
        original=_packed(found[61], digits[61]) if 61 in found else None,
    )


def _extent(message: bytes, at: int, number: int) -> tuple[int, int, int]:
    """Extent of a field: start of its content, its bytes, its characters."""
    if number in _FIXED:
        start, size, count = at, _FIXED[number], _FIXED[number]
    else:
        prefix = 1 if number in _SHORT_PACKED | _SHORT_PLAIN else 2
        if number not in _SHORT_PACKED | _SHORT_PLAIN | _LONG_PACKED | _LONG_PLAIN:
            raise ValueError(f"field {number} is not known here")
        count = int(_packed(message[at : at + prefix], 2 * prefix))
        halved = number in _SHORT_PACKED | _LONG_PACKED
        start, size = at + prefix, -(-count // 2) if halved else count
    if start + size > len(message):
        raise ValueError(f"field {number} runs past the end")
    return start, size, count


def _packed(raw: bytes, count: int) -> str:
    """The first `count` decimal digits of packed bytes."""
    text = "".join(f"{byte >> 4:x}{byte & 15:x}" for byte in raw)[:count]
    if len(text) != count or not text.isdecimal():
        raise ValueError(f"{raw.hex()} is not {count} packed digits")
    return text
