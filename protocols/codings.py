"""Codings of times, texts, numbers and plates on cards, tags, antennas: both ways, with what is odd about them.

Reading never fails: what cannot be understood reads as an empty value and `odd` says why. Writing refuses what the
field cannot hold. So a strange card is still a card, and we never make one.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import UTC, date, datetime, timedelta, timezone
from typing import Final

from protocols.errors import LocalProtocolError
from protocols.fields import Coding, Misfit, coded, raw, uint
from protocols.plates import PLATE_COLOURS, colour_of_text

CHINA_TIME: Final = timezone(timedelta(hours=8), "UTC+8")
"""Zone of displayed times; on the wire UNIX time is UTC."""

UNIX_UNSET: Final = frozenset({0, 0xFFFFFFFF})
"""UNIX times that mean *never written*."""

# --- text -----------------------------------------------------------------------------------------------------------


def read_text(content: bytes) -> str:
    """GBK text up to the first 00, without filling (00, FF, spaces); '' when it cannot be decoded."""
    try:
        text = _text_bytes(content).decode("gbk").rstrip()
    except UnicodeDecodeError:
        return ""
    return text if text.isprintable() else ""


def write_text(text: str, length: int) -> bytes:
    """GBK, filled with 00 on the right. Raises ValueError when it is too long or not GBK."""
    content = text.encode("gbk")
    if len(content) > length:
        raise ValueError(f"text needs {len(content)} bytes of {length}")
    return content.ljust(length, b"\0")


def _odd_text(content: bytes) -> str | None:
    text = _text_bytes(content)
    if text.strip() and not read_text(content):
        return "is not readable GBK text"
    return "has bytes behind its end" if content.rstrip(b"\0\xff") != text else None


def _text_bytes(content: bytes) -> bytes:
    return content.rstrip(b"\xff").split(b"\0", 1)[0]


def text(size: int) -> Coding:
    """GBK text, filled with 00."""
    return coded(size, read_text, write_text, str, _odd_text)


# --- dates and times ------------------------------------------------------------------------------------------------


def read_date(content: bytes) -> date | None:
    """4 bytes BCD YYYYMMDD; None when they are no date."""
    digits = content.hex()
    if not digits.isdigit():
        return None
    try:
        return date(int(digits[:4]), int(digits[4:6]), int(digits[6:]))
    except ValueError:
        return None


def _write_date(day: date | None, length: int) -> bytes:
    return bytes(length) if day is None else bytes.fromhex(f"{day:%Y%m%d}")


def _odd_date(content: bytes) -> str | None:
    return f"{content.hex().upper()} is no date" if read_date(content) is None else None


def time_bytes(moment: str) -> bytes:
    """'YYYYMMDDhhmmss' to 7 bytes BCD, as commands and MACs want it. Raises LocalProtocolError for no such time."""
    if len(moment) != 14 or not (moment.isascii() and moment.isdigit()):
        raise LocalProtocolError(f"{moment!r} is not 14 digits YYYYMMDDhhmmss", field="time")
    try:
        datetime.strptime(moment, "%Y%m%d%H%M%S").replace(tzinfo=UTC)
    except ValueError as error:
        raise LocalProtocolError(f"{moment!r} is no time YYYYMMDDhhmmss", field="time") from error
    return bytes.fromhex(moment)


def show_unix(seconds: int) -> str:
    """UNIX seconds with the wall-clock time in China, for display."""
    if seconds in UNIX_UNSET:
        return f"{seconds} (not set)"
    return f"{seconds} ({datetime.fromtimestamp(seconds, CHINA_TIME):%Y-%m-%d %H:%M:%S} UTC+8)"


# --- numbers --------------------------------------------------------------------------------------------------------


def upper_hex(value: bytes) -> str:
    """Bytes as upper-case hex text."""
    return value.hex().upper()


def _from_hex(value: str, _length: int) -> bytes:
    return bytes.fromhex(value)


def _odd_digits(content: bytes) -> str | None:
    return None if content.hex().isdigit() else "is not decimal"  # without the value: it may be a card number


def _show_optional(value: int | None) -> str:
    return "not set" if value is None else str(value)


def _write_decimetres(value: int, length: int) -> bytes:
    decimetres, rest = divmod(value, 100)
    if rest:
        raise ValueError(f"{value} mm is not whole decimetres")
    return decimetres.to_bytes(length, "big")


def _read_colour_word(content: bytes) -> int | None:
    if content[0] == 0:
        return content[1] if content[1] != 0xFF else None
    return colour_of_text(read_text(content))


def _write_colour_word(value: int | None, length: int) -> bytes:
    return b"\xff" * length if value is None else value.to_bytes(1, "big").rjust(length, b"\0")


def _odd_colour_word(content: bytes) -> str | None:
    if content == b"\xff\xff" or _read_colour_word(content) in PLATE_COLOURS:
        return None
    return f"{content.hex().upper()} is no known plate colour"


def _read_packed(content: bytes) -> int:
    if not content.hex().isdecimal():
        raise Misfit("is not decimal")
    return int(content.hex())


def _write_packed(value: int, length: int) -> bytes:
    text = f"{value:0{2 * length}d}"
    if value < 0 or len(text) != 2 * length:
        raise Misfit(f"{value} does not fit {2 * length} digits")
    return bytes.fromhex(text)


def _write_bcd(value: str, length: int) -> bytes:
    if not re.fullmatch(rf"[0-9a-f]{{{2 * length}}}", value):
        raise Misfit(f"{value!r} is not {2 * length} BCD digits")
    return bytes.fromhex(value)


def one_of(table: Mapping[int, object]) -> Callable[[bytes], str | None]:
    """Check that a number is in the table, or FF for *not set*."""

    def odd(content: bytes) -> str | None:
        number = int.from_bytes(content, "big")
        return None if number in table or content == b"\xff" * len(content) else f"{number} is not a known value"

    return odd


def octets(size: int) -> Coding:
    """Bytes as they are, shown as upper-case hex text."""
    return raw(size, upper_hex)


def digits(size: int) -> Coding:
    """Decimal digits in BCD, as text."""
    return coded(size, upper_hex, _from_hex, str, _odd_digits)


def hex_text(size: int) -> Coding:
    """Code written in hexadecimal, such as a station: text, any digit allowed."""
    return coded(size, upper_hex, _from_hex, str)


def bcd(size: int) -> Coding:
    """Digits as lower-case text. A nibble above 9 stays as a..f, so that it encodes again as it was."""
    return coded(size, bytes.hex, _write_bcd, str)


def packed(size: int, show: Callable[[int], str] = str) -> Coding:
    """Number in BCD, high digit first. Refuses to read what is not decimal: it counts something."""
    return coded(size, _read_packed, _write_packed, show)


def digit_bytes(size: int) -> Coding:
    """BCD that stays bytes, because keys are diversified with it."""
    return Coding(raw(size).wire, upper_hex, _odd_digits)


def decimetres(size: int) -> Coding:
    """Decimetres on the wire, millimetres in values: the two vehicle layouts use different units."""
    return coded(size, lambda content: int.from_bytes(content, "big") * 100, _write_decimetres, millimetres_text)


def millimetres_text(value: int) -> str:
    """Length as text."""
    return f"{value} mm"


def quantity(size: int, unit: str) -> Coding:
    """Number with a unit."""
    return uint(size, lambda value: f"{value} {unit}")


def shifted(size: int, by: int) -> Coding:
    """Number that stands on the link as value + `by`."""
    return coded(
        size, lambda content: int.from_bytes(content, "big") - by, lambda value, _: (value + by).to_bytes(size, "big")
    )


def headed(size: int, header: bytes) -> Coding:
    """Bytes, `size` of them on the link, which the peer puts after `header`: the value is both together."""

    def write(value: bytes, _size: int) -> bytes:
        if not value.startswith(header):
            raise Misfit(f"begins with {value[: len(header)].hex()}, not with {header.hex()}")
        return value[len(header) :]

    return coded(size, lambda content: header + content, write)


HEX_BYTE: Final = uint(1, lambda value: f"{value:02X}")
UNIX: Final = uint(4, show_unix)
SMALL: Final = coded(
    1,
    lambda content: None if content == b"\xff" else content[0],
    lambda value, _: b"\xff" if value is None else value.to_bytes(1, "big"),
    _show_optional,
)
"""Number whose FF means *not set* (None)."""
DATE: Final = coded(4, read_date, _write_date, lambda value: "none" if value is None else value.isoformat(), _odd_date)
COLOUR_WORD: Final = coded(2, _read_colour_word, _write_colour_word, _show_optional, _odd_colour_word)
"""Two bytes: 00 and the code, or GBK text on old OBUs (verified on a real ciphertext)."""
