"""Field codings of bank messages, in the notation of ISO 8583 tables: `n6`, `n..19`, `ans...999`.

Letters say what the characters are, dots how many length digits stand in front (none: the length is fixed), the number
how many characters there are, or at most:

- `n` decimal digits, two to a byte; `z` hexadecimal nibbles, two to a byte, of which D separates;
- `an` printable ASCII, one to a byte: anything else is an error, since decisions hang on these fields;
- `ans` GBK text, counted in bytes: content that is not clean text stays bytes;
- `b` raw bytes.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from typing import Final

from protocols.fields import Coding, Misfit, coded, counted

Value = str | bytes
"""Digits, nibbles and text as `str`; raw bytes, and text that is none, as `bytes`."""

_NOTATION: Final = re.compile(r"(n|z|an|ans|b)(\.{0,3})(\d+)")
_PREFIX_BYTES: Final = {"": 0, "..": 1, "...": 2}
"""Packed length digits: two in one byte, four in two of which the first is zero."""
_NIBBLES: Final = frozenset("0123456789ABCDEF")
_PACKED: Final = frozenset({"n", "z"})


def coding(notation: str, *, pad_before: bool = False) -> Coding:
    """`pad_before`: where the spare nibble of an odd number of digits goes; else it goes after them."""
    found = _NOTATION.fullmatch(notation)
    if found is None or found[2] not in _PREFIX_BYTES:
        raise ValueError(f"{notation!r} is no notation of a field")
    kind, prefix, size = found[1], _PREFIX_BYTES[found[2]], int(found[3])
    read, write = _reader(kind, pad_before), _writer(kind, pad_before)
    per_byte = 2 if kind in _PACKED else 1

    def write_fixed(value: Value, _length: int) -> bytes:
        content, count = write(value)
        if count != size:
            raise Misfit(f"has length {count}, not {size}")
        return content

    if prefix:
        held = counted(prefix, size, per_byte, read, write)
    else:
        held = coded(-(-size // per_byte), lambda raw: read(raw, size), write_fixed)
    return replace(held, show=_shown, notation=notation)


def _shown(value: Value) -> str:
    return f"0x{value.hex().upper()}" if isinstance(value, bytes) else value


# --- reading --------------------------------------------------------------------------------------------------------


def _reader(kind: str, pad_before: bool) -> Callable[[bytes, int], Value]:
    if kind in _PACKED:
        return lambda raw, count: _read_nibbles(raw, count, pad_before=pad_before, decimal=kind == "n")
    return {"an": _read_printable, "ans": _read_text, "b": lambda raw, _: raw}[kind]


def _read_nibbles(raw: bytes, count: int, *, pad_before: bool, decimal: bool) -> str:
    nibbles = raw.hex().upper()
    first = len(nibbles) - count if pad_before else 0  # one nibble to spare for an odd count, else none
    text = nibbles[first : first + count]
    if decimal and text and not text.isdecimal():
        position, nibble = next((at, one) for at, one in enumerate(text, first) if not one.isdecimal())
        raise Misfit(f"nibble {nibble} in packed digits", position // 2)
    return text


def _read_printable(raw: bytes, _count: int) -> str:
    text = raw.decode("latin-1")
    if not (text.isascii() and text.isprintable()):
        raise Misfit("not printable ASCII")
    return text


def _read_text(raw: bytes, _count: int) -> Value:
    try:
        text = raw.decode("gbk")
    except UnicodeDecodeError:
        return raw
    # Control characters mean that a host put binary data here. Encoding gives the same bytes back: every GBK
    # sequence stands for a character of its own (all of them tried).
    return raw if any(character < " " or character == "\x7f" for character in text) else text


# --- writing --------------------------------------------------------------------------------------------------------


def _writer(kind: str, pad_before: bool) -> Callable[[Value], tuple[bytes, int]]:
    if kind in _PACKED:
        return lambda value: _write_nibbles(value, pad_before=pad_before, decimal=kind == "n")
    return {"an": _write_printable, "ans": _write_text, "b": _write_bytes}[kind]


def _write_nibbles(value: Value, *, pad_before: bool, decimal: bool) -> tuple[bytes, int]:
    text = _text_of(value)
    if not (text.isascii() and text.isdecimal() if decimal and text else _NIBBLES.issuperset(text)):
        raise Misfit(f"holds characters outside {'0123456789' if decimal else '0123456789ABCDEF'}")
    spare = "0" * (len(text) % 2)
    return bytes.fromhex(spare + text if pad_before else text + spare), len(text)


def _write_printable(value: Value) -> tuple[bytes, int]:
    text = _text_of(value)
    if not (text.isascii() and text.isprintable()):
        raise Misfit("holds characters that are not printable ASCII")
    return text.encode("ascii"), len(text)


def _write_text(value: Value) -> tuple[bytes, int]:
    try:
        content = value if isinstance(value, bytes) else value.encode("gbk")
    except UnicodeEncodeError as error:
        raise Misfit("holds characters GBK does not have") from error
    return content, len(content)


def _write_bytes(value: Value) -> tuple[bytes, int]:
    if isinstance(value, str):
        raise Misfit("holds text, raw bytes wanted")
    return value, len(value)


def _text_of(value: Value) -> str:
    if isinstance(value, bytes):
        raise Misfit("holds bytes, text wanted")
    return value
