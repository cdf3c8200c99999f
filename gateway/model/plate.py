"""Number plates: text and colour together name a vehicle, and an unread plate never equals anything.

Colour codes are the toll network's (0 blue to 12 red), as they stand on tags and cards. Partners number colours
differently (black and white swapped is common), so each partner adapter maps its own codes to `PlateColour`.
"""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass
from enum import Enum, IntEnum

from protocols.masks import mask_plate


class PlateColour(IntEnum):
    """Plate colour code of card file 0015, file 0019 and the OBU vehicle file."""

    BLUE = 0
    YELLOW = 1
    BLACK = 2
    WHITE = 3
    GRADIENT_GREEN = 4
    YELLOW_GREEN = 5
    BLUE_WHITE = 6
    TEMPORARY = 7
    UNKNOWN = 9
    GREEN = 11
    RED = 12

    @property
    def zh(self) -> str:
        return _COLOUR_NAMES[self][0]

    @property
    def en(self) -> str:
        return _COLOUR_NAMES[self][1]

    @classmethod
    def of(cls, code: int | None) -> PlateColour:
        """Colour of a code read from a file; None and codes outside the table are UNKNOWN, never an error."""
        if code is None:
            return cls.UNKNOWN
        try:
            return cls(code)
        except ValueError:
            return cls.UNKNOWN


_COLOUR_NAMES: dict[PlateColour, tuple[str, str]] = {
    PlateColour.BLUE: ("蓝色", "blue"),
    PlateColour.YELLOW: ("黄色", "yellow"),
    PlateColour.BLACK: ("黑色", "black"),
    PlateColour.WHITE: ("白色", "white"),
    PlateColour.GRADIENT_GREEN: ("渐变绿色", "gradient green"),
    PlateColour.YELLOW_GREEN: ("黄绿双拼色", "yellow-green"),
    PlateColour.BLUE_WHITE: ("蓝白渐变色", "blue-white gradient"),
    PlateColour.TEMPORARY: ("临时牌照", "temporary plate"),
    PlateColour.UNKNOWN: ("未知", "unknown"),
    PlateColour.GREEN: ("绿色", "green"),
    PlateColour.RED: ("红色", "red"),
}


class PlateMatch(Enum):
    """Result of comparing two plates. Only SAME may be taken for equality."""

    SAME = "same"
    DIFFERENT_TEXT = "different_text"
    DIFFERENT_COLOUR = "different_colour"
    UNKNOWN = "unknown"


_SEPARATORS = frozenset("·•・‧∙⋅●.-")
"""Dots and dashes that people and cameras put after the second character. NFKC folds the half-width dot to U+30FB."""

_PARTLY_READ = frozenset("?*#")
"""Place holders of recognisers for a character they could not read; such a text identifies nobody."""

_NOT_A_PLATE = frozenset(
    {
        "_无_",  # Vzenith `license` when no plate was found (vendor note sample)
        "无",
        "UNKNOWN",  # Hikvision ANPR `licensePlate` when not read
        "默A00000",  # filler of toll records for an unrecognised plate: general trade knowledge, not from a document
    }
)


def normalise(text: str) -> str:
    """Plate text in the one form that is compared, stored and hashed.

    Full-width letters and digits become ASCII, letters upper case; white space, NUL padding, middle dots and dashes
    go. Texts by which a camera says that it read nothing become empty. Look-alike characters stay as they are.
    """
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).upper())
    kept = "".join(c for c in folded if not (c.isspace() or c == "\0" or c in _SEPARATORS))
    return "" if kept in _NOT_A_PLATE else kept


@dataclass(frozen=True, slots=True, repr=False)
class Plate:
    """Number plate of a vehicle. `text` is normalised when the value is made; empty means not read.

    The representation is masked, because plates are personal data and values end up in logs.
    """

    text: str
    colour: PlateColour | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "text", normalise(self.text))

    def __repr__(self) -> str:
        colour = "none" if self.colour is None else self.colour.en
        return f"Plate({mask(self.text)}, {colour})"

    @property
    def text_known(self) -> bool:
        return bool(self.text) and not any(c in _PARTLY_READ for c in self.text)

    @property
    def colour_known(self) -> bool:
        return self.colour not in (None, PlateColour.UNKNOWN)

    @property
    def known(self) -> bool:
        """True when text and colour are both read, so that the plate names one vehicle."""
        return self.text_known and self.colour_known


def compare(a: Plate, b: Plate) -> PlateMatch:
    """Compare two plates, text first.

    Texts that are both read and differ are different whatever the colours. With a text missing on either side
    nothing can be said: a colour alone names no vehicle. Equal texts with a colour missing are UNKNOWN, because
    a large and a small vehicle may carry the same characters in two colours.
    """
    if not (a.text_known and b.text_known):
        return PlateMatch.UNKNOWN
    if a.text != b.text:
        return PlateMatch.DIFFERENT_TEXT
    if not (a.colour_known and b.colour_known):
        return PlateMatch.UNKNOWN
    return PlateMatch.SAME if a.colour == b.colour else PlateMatch.DIFFERENT_COLOUR


_LOOK_ALIKES = (frozenset("0OQD"), frozenset("1I"), frozenset("8B"), frozenset("2Z"), frozenset("5S"))
"""Characters cameras confuse: 0/O, 1/I and 8/B are reported from the field, the others are common with recognisers."""


def look_alikes(a: str, b: str) -> int | None:
    """Number of positions where two texts differ only by characters a camera confuses; None if they differ more.

    0 means equal texts. A caller may, as policy, take exactly one look-alike for equality when a camera is one of
    the two readers; never between tag and card, which are not read optically.
    """
    left, right = normalise(a), normalise(b)
    if len(left) != len(right):
        return None
    unlike = [(x, y) for x, y in zip(left, right, strict=True) if x != y]
    if all(any(x in group and y in group for group in _LOOK_ALIKES) for x, y in unlike):
        return len(unlike)
    return None


def mask(text: str) -> str:
    """Plate for logs and screens without the right to see it: `测A***45`."""
    return mask_plate(normalise(text))
