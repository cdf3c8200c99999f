"""Identity of tag, card and vehicle, as a passage told it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Row

from gateway.ledger import tables
from gateway.views.masks import number_shown, plate_shown


@dataclass(frozen=True, slots=True)
class Identity:
    """Identity of tag, card and vehicle in a passage; None for what was not read, or was erased. `plate_colour`: code
    of the toll network."""

    obu_id: str | None
    contract: str | None
    card_number: str | None
    plate: str | None
    plate_colour: int | None
    erased_us: int | None


IDENTITY: Final = tuple(
    tables.subject.c[name] for name in ("obu_id", "contract", "card_number", "plate", "plate_colour", "erased_at")
)
"""Columns that `identity_of` needs."""


def identity_of(row: Row[Any], *, unmask: bool) -> Identity:
    """Tag, card and vehicle of a row with the columns of `IDENTITY`."""
    return Identity(
        number_shown(row.obu_id, unmask=unmask),
        number_shown(row.contract, unmask=unmask),
        number_shown(row.card_number, unmask=unmask),
        plate_shown(row.plate, unmask=unmask),
        row.plate_colour,
        row.erased_at,
    )
