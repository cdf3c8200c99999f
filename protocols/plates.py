"""Plates as devices and cards write them: first characters, plausible lengths, colour codes."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from protocols.fields import Label

PROVINCE_CHARACTERS: Final = frozenset("京津冀晋蒙辽吉黑沪苏浙皖闽赣鲁豫鄂湘粤桂琼渝川贵云藏陕甘青宁新军空海使领测")
"""First characters of plates: provinces, services, embassies, and 测 of the bench issuer."""

PLATE_CHARACTERS_MIN: Final = 5
PLATE_CHARACTERS_MAX: Final = 9
"""Shortest and longest plate text taken as one, when a record's layout must be guessed from its plate."""

COLOUR_UNKNOWN: Final = 9
"""Plate colour *not determined*. It equals nothing, not even itself."""

PLATE_COLOURS: Final[Mapping[int, Label]] = MappingProxyType(
    {
        0: Label("蓝", "blue"),
        1: Label("黄", "yellow"),
        2: Label("黑", "black"),
        3: Label("白", "white"),
        4: Label("渐变绿", "gradient green"),
        5: Label("黄绿", "yellow and green"),
        6: Label("蓝白渐变", "gradient blue and white"),
        7: Label("临时", "temporary"),
        COLOUR_UNKNOWN: Label("未确定", "unknown"),
        11: Label("绿", "green"),
        12: Label("红", "red"),
    }
)

_COLOUR_BY_TEXT: Final[Mapping[str, int]] = MappingProxyType({label.zh: code for code, label in PLATE_COLOURS.items()})


def colour_of_text(text: str) -> int | None:
    """Code of a colour written as Chinese text, as old OBUs do ('蓝' -> 0); a trailing 色 is allowed."""
    return _COLOUR_BY_TEXT.get(text.removesuffix("色"))


def looks_like_plate(plate: str) -> bool:
    """True for a text that can only be a plate: province character first, printable rest, plausible length."""
    return (
        PLATE_CHARACTERS_MIN <= len(plate) <= PLATE_CHARACTERS_MAX
        and plate[0] in PROVINCE_CHARACTERS
        and plate[1:].isalnum()
    )
