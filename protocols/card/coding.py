"""How single fields of card and OBU files are coded, both ways, and what is odd about them.

Reading never fails: what cannot be understood reads as an empty value and `check` says why. Writing refuses what the
field cannot hold. So a strange card is still a card, and we never make one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta, timezone
from typing import Any, Final

from protocols.card.codes import PLATE_COLOURS, Label, colour_of_text
from protocols.errors import LocalProtocolError

CHINA_TIME: Final = timezone(timedelta(hours=8), "UTC+8")
"""Zone for showing times to people; on the wire UNIX time is UTC."""

UNIX_UNSET: Final = frozenset({0, 0xFFFFFFFF})
"""UNIX times that mean *never written*."""

PROVINCE_CHARACTERS: Final = frozenset("京津冀晋蒙辽吉黑沪苏浙皖闽赣鲁豫鄂湘粤桂琼渝川贵云藏陕甘青宁新军空海使领测")
"""First characters of plates: provinces, services, embassies, and 测 of the bench issuer."""

PLATE_CHARACTERS_MIN: Final = 5
PLATE_CHARACTERS_MAX: Final = 9
"""Shortest and longest plate text taken as one, when a record's layout must be guessed from its plate."""


def _nothing_odd(_raw: bytes) -> str | None:
    return None


@dataclass(frozen=True, slots=True)
class Coding:
    """One way to hold a value in bytes."""

    read: Callable[[bytes], Any]
    write: Callable[[Any, int], bytes]
    """Value and field length to bytes. Raises ValueError, OverflowError or TypeError when it does not fit."""
    show: Callable[[Any], str]
    check: Callable[[bytes], str | None] = _nothing_odd
    """What is odd about these bytes, for a warning; None when nothing is."""


# --- text -----------------------------------------------------------------------------------------------------------


def read_text(raw: bytes) -> str:
    """GBK text up to the first 00, without filling (00, FF, spaces); '' when it cannot be decoded."""
    try:
        text = _text_bytes(raw).decode("gbk")
    except UnicodeDecodeError:
        return ""
    return text.rstrip() if text.rstrip().isprintable() else ""


def write_text(text: str, length: int) -> bytes:
    """GBK, filled with 00 on the right. Raises ValueError when it is too long or not GBK."""
    raw = text.encode("gbk")
    if len(raw) > length:
        raise ValueError(f"text needs {len(raw)} bytes of {length}")
    return raw.ljust(length, b"\0")


def _check_text(raw: bytes) -> str | None:
    text = _text_bytes(raw)
    if text.strip() and not read_text(raw):
        return "is not readable GBK text"
    if raw.rstrip(b"\0\xff") != text:
        return "has bytes behind its end"
    return None


def _text_bytes(raw: bytes) -> bytes:
    return raw.rstrip(b"\xff").split(b"\0", 1)[0]


def looks_like_plate(text: str) -> bool:
    """True for a text that can only be a plate: province character first, printable rest, plausible length."""
    return (
        PLATE_CHARACTERS_MIN <= len(text) <= PLATE_CHARACTERS_MAX
        and text[0] in PROVINCE_CHARACTERS
        and text[1:].isalnum()
    )


# --- dates and times ------------------------------------------------------------------------------------------------


def read_date(raw: bytes) -> date | None:
    """4 bytes BCD YYYYMMDD; None when they are no date."""
    digits = raw.hex()
    if not digits.isdigit():
        return None
    try:
        return date(int(digits[:4]), int(digits[4:6]), int(digits[6:]))
    except ValueError:
        return None


def write_date(day: date | None, length: int) -> bytes:
    """BCD YYYYMMDD; no date is written as zeros."""
    return bytes(length) if day is None else bytes.fromhex(f"{day:%Y%m%d}")


def _check_date(raw: bytes) -> str | None:
    return f"{raw.hex().upper()} is no date" if read_date(raw) is None else None


def time_bytes(text: str) -> bytes:
    """'YYYYMMDDhhmmss' to 7 bytes BCD, as commands and MACs want it. Raises LocalProtocolError for no such time."""
    if len(text) != 14 or not (text.isascii() and text.isdigit()):
        raise LocalProtocolError(f"{text!r} is not 14 digits YYYYMMDDhhmmss", field="time")
    try:
        datetime.strptime(text, "%Y%m%d%H%M%S").replace(tzinfo=UTC)
    except ValueError as error:
        raise LocalProtocolError(f"{text!r} is no time YYYYMMDDhhmmss", field="time") from error
    return bytes.fromhex(text)


def show_unix(seconds: int) -> str:
    """UNIX seconds with the wall-clock time in China, for people."""
    if seconds in UNIX_UNSET:
        return f"{seconds} (not set)"
    return f"{seconds} ({datetime.fromtimestamp(seconds, CHINA_TIME):%Y-%m-%d %H:%M:%S} UTC+8)"


# --- numbers --------------------------------------------------------------------------------------------------------


def _write_uint(value: int, length: int) -> bytes:
    return value.to_bytes(length, "big")


def _write_bytes(value: bytes, length: int) -> bytes:
    if len(value) != length:
        raise ValueError(f"{len(value)} bytes, {length} wanted")
    return bytes(value)


def _write_digits(value: str, length: int) -> bytes:
    return _write_bytes(bytes.fromhex(value), length)


def _check_digits(raw: bytes) -> str | None:
    return None if raw.hex().isdigit() else "is not decimal"  # without the value: it may be a card number


def _read_small(raw: bytes) -> int | None:
    return None if raw == b"\xff" * len(raw) else int.from_bytes(raw, "big")


def _write_small(value: int | None, length: int) -> bytes:
    return b"\xff" * length if value is None else _write_uint(value, length)


def _show_optional(value: int | None) -> str:
    return "not set" if value is None else str(value)


def _read_decimetres(raw: bytes) -> int:
    return int.from_bytes(raw, "big") * 100


def _write_decimetres(value: int, length: int) -> bytes:
    decimetres, rest = divmod(value, 100)
    if rest:
        raise ValueError(f"{value} mm is not whole decimetres")
    return _write_uint(decimetres, length)


def _read_colour_word(raw: bytes) -> int | None:
    if raw[0] == 0:
        return raw[1] if raw[1] != 0xFF else None
    return colour_of_text(read_text(raw))


def _write_colour_word(value: int | None, length: int) -> bytes:
    return b"\xff" * length if value is None else _write_uint(value, 1).rjust(length, b"\0")


def _check_colour_word(raw: bytes) -> str | None:
    if raw == b"\xff\xff" or _read_colour_word(raw) in PLATE_COLOURS:
        return None
    return f"{raw.hex().upper()} is no known plate colour"


def one_of(labels: Mapping[int, Label]) -> Callable[[bytes], str | None]:
    """A check: this number is in the table, or FF for *not set*."""

    def check(raw: bytes) -> str | None:
        number = int.from_bytes(raw, "big")
        return None if number in labels or raw == b"\xff" * len(raw) else f"{number} is not a known value"

    return check


BYTES: Final = Coding(bytes, _write_bytes, lambda value: value.hex().upper())
UINT: Final = Coding(lambda raw: int.from_bytes(raw, "big"), _write_uint, str)
HEX_BYTE: Final = Coding(lambda raw: int.from_bytes(raw, "big"), _write_uint, lambda value: f"{value:02X}")
UNIX: Final = Coding(lambda raw: int.from_bytes(raw, "big"), _write_uint, show_unix)
SMALL: Final = Coding(_read_small, _write_small, _show_optional)
"""A number whose all-FF form means *not set* (None)."""
DIGITS: Final = Coding(lambda raw: raw.hex().upper(), _write_digits, str, _check_digits)
"""Decimal digits in BCD, as text."""
HEX_TEXT: Final = Coding(lambda raw: raw.hex().upper(), _write_digits, str)
"""A code that people write in hexadecimal, such as a station: text, any digit allowed."""
DIGIT_BYTES: Final = Coding(bytes, _write_bytes, lambda value: value.hex().upper(), _check_digits)
"""BCD that stays bytes, because keys are diversified with it."""
DATE: Final = Coding(read_date, write_date, lambda value: "none" if value is None else value.isoformat(), _check_date)
TEXT: Final = Coding(read_text, write_text, str, _check_text)
DECIMETRES: Final = Coding(_read_decimetres, _write_decimetres, lambda value: f"{value} mm")
"""Decimetres on the wire, millimetres in values: the two vehicle layouts use different units."""
MILLIMETRES: Final = Coding(lambda raw: int.from_bytes(raw, "big"), _write_uint, lambda value: f"{value} mm")
KILOGRAMS: Final = Coding(lambda raw: int.from_bytes(raw, "big"), _write_uint, lambda value: f"{value} kg")
FEN: Final = Coding(lambda raw: int.from_bytes(raw, "big"), _write_uint, lambda value: f"{value} fen")
COLOUR_WORD: Final = Coding(_read_colour_word, _write_colour_word, _show_optional, _check_colour_word)
"""Two bytes: 00 and the code, or GBK text on old OBUs (verified on a real ciphertext)."""
