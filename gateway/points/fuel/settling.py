"""Settling of a sale: what a pump delivered, by what it shows, what its totaliser grew by, and what it was let deliver.

The pump's amount is what is billed, never volume times price; but an amount that does not fit volume and price is
billed by nobody's machine. A sale that was watched from the first drop to the last needs the pump's word, and a
totaliser that does not contradict it. One that was not watched to its end (we or the pump were away) needs all three to
agree on one delivery: what the display shows may be another customer's, and so may part of what the totaliser grew by.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from protocols.pump.types import Decimals, Delivered

SILENT, NO_TOTALS = "pump_silent_on_sale", "pump_totals_missing"
MISSING: Final = frozenset({SILENT, NO_TOTALS})
"""Reasons for which a sale is unclear only until the pump says more."""


@dataclass(frozen=True, slots=True)
class Begun:
    """Sale as it began."""

    limit_fen: int
    unit_price_milli: int | None
    """Price when the nozzle was lifted; None where the pump did not say it."""
    totaliser_ml: int | None


@dataclass(frozen=True, slots=True)
class Ended:
    """Side as it is after the sale."""

    delivered: Delivered | None
    """Word of the pump on its last delivery; None when it has none."""
    totaliser_ml: int | None
    watched: bool
    """True when the side was heard from its authorisation to the end of the delivery."""
    unit_price_milli: int | None = None
    """Price that the pump named last: it may have changed since the sale began, before fuel flowed."""


@dataclass(frozen=True, slots=True)
class Sold:
    """One delivery that all sources agree on."""

    volume_ml: int
    amount_fen: int
    unit_price_milli: int | None = None
    """Price that explains the amount; None where a person said what was delivered."""


@dataclass(frozen=True, slots=True)
class Nothing:
    """Nothing was delivered."""


@dataclass(frozen=True, slots=True)
class Unclear:
    """Sources do not agree, or are missing; `reason` is its code."""

    reason: str


def settle(begun: Begun, ended: Ended, decimals: Decimals, *, wraps_at_ml: int) -> Sold | Nothing | Unclear:
    """Settle a sale. `wraps_at_ml`: volume at which the totaliser begins again at zero."""
    grown = _grown(begun.totaliser_ml, ended.totaliser_ml, wraps_at_ml)
    shown = ended.delivered
    volume = None if shown is None else shown.volume_ml
    if grown == 0 and not (ended.watched and volume):
        # The display may still show the customer before.
        return Nothing()
    if ended.watched and volume == 0 and grown is None:
        return Nothing()
    if shown is None or volume is None or shown.amount_minor is None:
        return Unclear(SILENT)
    if grown is None:
        if not ended.watched:
            return Unclear(NO_TOTALS)
    elif abs(grown - volume) > _step_ml(decimals):
        return Unclear("pump_totals_differ")
    told = shown.unit_price_milli
    prices = (ended.unit_price_milli, begun.unit_price_milli) if told is None else (told,)
    price = next((price for price in prices if price is not None and decimals.explains(shown, price)), None)
    if price is None:
        return Unclear("pump_amount_differs")
    if not ended.watched and shown.amount_minor > begun.limit_fen:
        return Unclear("pump_totals_differ")
    return Sold(volume, shown.amount_minor, price)


def is_gap(before_ml: int, after_ml: int, decimals: Decimals, *, wraps_at_ml: int) -> bool:
    """True when a totaliser stands elsewhere than the sales say, by more than its pump's last place."""
    gap = (after_ml - before_ml) % wraps_at_ml
    return min(gap, wraps_at_ml - gap) > _step_ml(decimals)


def _grown(before: int | None, after: int | None, wraps_at_ml: int) -> int | None:
    """Volume that a totaliser grew by. One that went back by more than a wrap explains is far more than any sale."""
    return None if before is None or after is None else (after - before) % wraps_at_ml


def _step_ml(decimals: Decimals) -> int:
    return int(10 ** (3 - decimals.volume))
