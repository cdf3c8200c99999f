"""Answers to reset: what kind of card gives one, as far as its bytes tell."""

from __future__ import annotations

from enum import Enum
from typing import Final

CONTACTLESS_HEAD: Final = bytes.fromhex("8001")
"""TD1 and TD2 that a reader makes up for a card without contacts (PC/SC part 3, §3.1.3.2.3)."""

STORAGE_HEAD: Final = bytes.fromhex("804F0CA000000306")
"""Historical bytes of a card that is nothing but memory: category, tag, length, RID of PC/SC (ibidem)."""


class CardKind(Enum):
    """Kind of a card by its answer to reset. What is on a card, only its files tell."""

    CONTACT = "contact"
    CONTACTLESS = "contactless"
    MEMORY = "memory"
    """A contactless card without a processor: it knows no commands of a user card."""


def card_kind(atr: bytes) -> CardKind | None:
    """Kind of the card behind an answer to reset; None for a card that gave none."""
    if not atr:
        return None
    contactless = atr[:1] == b"\x3b" and len(atr) > 4 and atr[1] >> 4 == 0x8 and atr[2:4] == CONTACTLESS_HEAD
    if not contactless:
        return CardKind.CONTACT
    return CardKind.MEMORY if atr[4:].startswith(STORAGE_HEAD) else CardKind.CONTACTLESS
