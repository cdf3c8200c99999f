"""Column type of ids and digests: hex digits everywhere in the program, bytes in the database alone.

An id has 32 digits and a digest 64; as bytes they take half the room in every row and index that names them, a fifth of
what a passage stores. Anything else in such a column (a mandate's id, a bank's name) stays text. What is joined or
compared with an id has this type as well: bytes never equal a text.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from sqlalchemy import Dialect, String
from sqlalchemy.types import TypeDecorator

DIGITS: Final = frozenset((32, 64))
"""Lengths of texts that are stored as bytes: of an id, and of a digest."""

BYTES: Final = frozenset(digits // 2 for digits in DIGITS)

CONVERSIONS_MAX: Final = 4096
"""Conversions kept: those of some hundred passages, less than a megabyte."""

SHOWN: Final = "hex_text"
"""Name of the SQL function that makes the text of a stored value; every connection of a ledger has it."""


def to_stored(value: Any) -> Any:  # noqa: ANN401 - whatever a column holds
    """Convert lower-case hex digits of an id or digest to bytes; anything else is stored as it is.

    Bytes are refused: read back they would be a text, and another than was sealed.
    """
    if isinstance(value, bytes):
        raise TypeError(f"{value!r} is not the text of an id")
    if isinstance(value, str) and len(value) in DIGITS:
        try:
            raw = bytes.fromhex(value)
        except ValueError:
            return value
        return raw if raw.hex() == value else value
    return value


def from_stored(value: Any) -> Any:  # noqa: ANN401 - as above
    """Convert a stored value back to the text it was.

    Two stored values never give the same text, or a change of one for the other would escape the seals: what
    `to_stored` would have stored otherwise comes back in quotes.
    """
    if value.__class__ is bytes:
        return value.hex() if len(value) in BYTES else repr(value)
    if value.__class__ is str and len(value) in DIGITS and to_stored(value) is not value:
        return repr(value)
    return value


class Conversions(dict[Any, Any]):
    """Conversions made before, by value: a passage binds or reads each of its ids about six times, and to look one up
    costs a tenth of making it."""

    def __init__(self, convert: Callable[[Any], Any]) -> None:
        super().__init__()
        self._convert = convert

    def __missing__(self, value: Any) -> Any:  # noqa: ANN401 - as above
        if len(self) >= CONVERSIONS_MAX:
            self.clear()
        made = self[value] = self._convert(value)
        return made


STORED: Final = Conversions(to_stored)
TEXTS: Final = Conversions(from_stored)
"""Conversions to stored values and back, for the statements of a passage."""


class HexText(TypeDecorator[str]):
    """Text of which ids and digests are stored as bytes."""

    impl = String
    cache_ok = True

    def bind_processor(self, dialect: Dialect) -> Any:  # noqa: ANN401 - as SQLAlchemy declares it
        """Give the conversion of values to be stored."""
        return to_stored

    def result_processor(self, dialect: Dialect, coltype: Any) -> Any:  # noqa: ANN401 - as above
        """Give the conversion of values that were read."""
        return from_stored
