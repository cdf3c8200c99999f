"""Masks of plates and numbers for those who may not see all of them: on screens, in logs, in descriptions.

Three stars stand for what is hidden, however much it is; of a short text nothing is shown.
"""

from __future__ import annotations

from typing import Final

STARS: Final = "***"

PLATE_ENDS: Final = 2
"""Characters shown at either end of a plate: province and letter, and the last two."""

NUMBER_TAIL: Final = 4
"""Digits shown of a card, contract, account or tag number."""


def mask_plate(plate: str) -> str:
    """`测A12345` as `测A***45`."""
    shown = len(plate) > 2 * PLATE_ENDS + 1
    return f"{plate[:PLATE_ENDS]}{STARS}{plate[-PLATE_ENDS:]}" if shown else STARS if plate else ""


def mask_number(number: str) -> str:
    """`99012301220100000017` as `***0017`."""
    shown = len(number) >= 2 * NUMBER_TAIL
    return f"{STARS}{number[-NUMBER_TAIL:]}" if shown else STARS if number else ""
