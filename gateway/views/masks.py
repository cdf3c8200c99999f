"""Masking of what names a person or a vehicle: the one place that decides how far it may be shown."""

from __future__ import annotations

from gateway.model.plate import mask
from protocols.masks import mask_number


def plate_shown(text: str | None, *, unmask: bool) -> str | None:
    """A plate as far as it may be shown; None stays None."""
    return text if text is None or unmask else mask(text)


def number_shown(number: str | None, *, unmask: bool) -> str | None:
    """A card, contract or tag number as far as it may be shown; None stays None."""
    return number if number is None or unmask else mask_number(number)


def key_shown(kind: str, key: str, *, unmask: bool) -> str | None:
    """Key of a credential or of an entry of a status list. A plate's is its text, a bar and its colour; the others are
    numbers."""
    if kind != "plate":
        return number_shown(key, unmask=unmask)
    text, bar, colour = key.rpartition("|")
    return f"{plate_shown(text, unmask=unmask)}{bar}{colour}"
