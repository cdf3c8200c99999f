"""Words for what stands on cards, in both languages."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from itertools import chain
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from gateway.cli.screen import BAD, GOOD, Screen
from gateway.texts.catalogue import Pair, Words

if TYPE_CHECKING:
    from protocols.fields import Label

VEHICLE_CLASS_MAX: Final = 0xFF
"""Largest number that a card can hold."""


@cache
def labels() -> Mapping[str, str]:
    """Chinese of the words of cards and plates, which their tables have in both languages."""
    from protocols.card import codes
    from protocols.plates import PLATE_COLOURS

    tables = (
        PLATE_COLOURS,
        codes.CARD_TYPES,
        codes.TRADE_TYPES,
        codes.PASS_STATUSES,
        codes.USER_TYPES,
        codes.VEHICLE_STATES,
        codes.RECORDS,
        codes.YUNNAN_PASS_STATUSES,
    )
    classes = filter(None, map(codes.vehicle_class_label, range(VEHICLE_CLASS_MAX + 1)))
    return {word.en: word.zh for word in chain(classes, *(table.values() for table in tables))}


def named(screen: Screen, table: Mapping[int, Label], number: int | None) -> str:
    """Number of a table with its word; nothing for None."""
    if number is None:
        return ""
    word = table.get(number)
    return str(number) if word is None else f"{number} {told(screen, word)}"


def told(screen: Screen, label: Label) -> str:
    """Label of a protocol's table in the language chosen."""
    return screen.word(Pair(label.en, label.zh))


def class_word(screen: Screen, vehicle_class: int | None) -> str:
    """Vehicle class in words; its number where it has none."""
    from protocols.card.codes import vehicle_class_label

    label = None if vehicle_class is None else vehicle_class_label(vehicle_class)
    return told(screen, label) if label is not None else "" if vehicle_class is None else str(vehicle_class)


FILE_TITLES: Final[Mapping[str, Words]] = MappingProxyType(
    {
        "1001": Words("card.file.1001"),
        "0002": Words("card.file.0002"),
        "0008": Words("card.file.0008"),
        "0009": Words("card.file.0009"),
        "0012": Words("card.file.0012"),
        "0015": Words("card.file.0015"),
        "0016": Words("card.file.0016"),
    }
)


def file_title(screen: Screen, name: str, data: bytes) -> str:
    """Title of a file or a record of one."""
    file, _, number = name.partition("/")
    if file == "0019":
        return screen.say("card.file.0019", record=f"{data[0]:02X}" if data else number)
    if file == "0018":
        return screen.say("card.file.0018", number=number)
    title = FILE_TITLES.get(file)
    return "" if title is None else screen.word(title)


KINDS: Final[Mapping[str, tuple[Words, str]]] = MappingProxyType(
    {
        "etc": (Words("card.kind.etc"), GOOD),
        "damaged": (Words("card.kind.damaged"), BAD),
        "purse": (Words("card.kind.purse"), BAD),
        "blank": (Words("card.kind.blank"), BAD),
        "other": (Words("card.kind.other"), BAD),
    }
)
"""Kinds of cards, by the value of `gateway.cards.contents.CardKind`."""
