"""Allowance of one sale: what a pump may deliver at most, by the site, the payer, and a fleet's fuel terms.

A pump takes one preset, an amount or a volume. So where litres are bound as well as money they are compared by the
nozzle's price, with the rounding of its display: a volume is preset where what it shows for it is within the money, and
else an amount, at which it has delivered less than that volume. Either way neither bound is passed, whatever step the
pump counts in; and what is held is what the preset comes to.

What is used of a day and a month is the sum of the mandate's sales: as delivered, more than was let or less; those not
at their end count with all that the pump may deliver for them. `allowed` is asked before the hold, for its amount, and
again in the change that stores the sale, where no other sale can come in between.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from sqlalchemy import Connection, bindparam, func, select

from gateway.ledger import tables
from gateway.model.states import SaleState
from gateway.payers.fuel_terms import NO_TERMS, FuelTerms, terms_of
from protocols.pump.types import AmountLimit, Decimals, VolumeLimit

PRICED: Final = 10_000
"""Millilitres times thousandths of a yuan a litre in one fen."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """Sale that a lifted nozzle asks for."""

    grade: str | None
    most_fen: int
    """Most that site and payer allow, whatever the terms."""
    unit_price_milli: int | None
    decimals: Decimals
    minimum_fen: int
    """Smallest sale; less is not worth beginning, or more than the pump can stop at."""


@dataclass(frozen=True, slots=True)
class Used:
    """Fuel of a mandate's earlier sales on a day and in its month."""

    day_fen: int = 0
    day_ml: int = 0
    month_fen: int = 0
    month_ml: int = 0


@dataclass(frozen=True, slots=True)
class Allowance:
    """Allowance of a sale: what is held, and the preset that keeps within it."""

    limit_fen: int
    limit_ml: int | None
    """Most that the preset lets flow; None where the price is not known."""
    preset: AmountLimit | VolumeLimit


def allow(terms: FuelTerms, used: Used, asked: Asked) -> Allowance | str:
    """Work out the allowance of a sale, or the code of the reason why there is none."""
    if terms.grades is not None and asked.grade not in terms.grades:
        return "pump_grade_refused"
    day = _left(terms.per_day_fen, used.day_fen), _left(terms.per_day_ml, used.day_ml)
    month = _left(terms.per_month_fen, used.month_fen), _left(terms.per_month_ml, used.month_ml)
    for left, reason in ((month, "fuel_month_used_up"), (day, "fuel_day_used_up")):
        if any(amount is not None and amount <= 0 for amount in left):
            return reason
    fens, mls = zip((terms.per_sale_fen, terms.per_sale_ml), day, month, strict=True)
    most_fen = min((fen for fen in fens if fen is not None), default=asked.most_fen)
    most_ml = min((ml for ml in mls if ml is not None), default=None)
    found = _preset(asked, min(most_fen, asked.most_fen), most_ml)
    if isinstance(found, Allowance) and found.limit_fen < asked.minimum_fen:
        return "fuel_too_little_left"
    return found


def _preset(asked: Asked, most_fen: int, most_ml: int | None) -> Allowance | str:
    decimals, price = asked.decimals, asked.unit_price_milli
    fen = decimals.amount_minor(decimals.amount_digits(most_fen))
    if most_ml is not None:
        if price is None:
            return "fuel_price_unknown"
        ml = decimals.volume_ml(decimals.volume_digits(most_ml))
        cost_fen = decimals.amount_of(ml, price)
        if cost_fen <= fen:
            return Allowance(cost_fen, ml, VolumeLimit(ml))
    # As long as the display rounds to no more than the amount.
    ml_max = None if price is None else (2 * fen + decimals.amount_minor(1)) * PRICED // (2 * price)
    return Allowance(fen, ml_max, AmountLimit(fen))


def _left(bound: int | None, used: int) -> int | None:
    return None if bound is None else bound - used


# --- as the ledger has it -----------------------------------------------------------------------------------------

_s = tables.sale
_USED = (
    select(
        _s.c.day,
        func.sum(func.coalesce(_s.c.amount, _s.c.limit_fen, 0)).label("fen"),
        func.sum(func.coalesce(_s.c.volume, _s.c.limit_ml, 0)).label("ml"),
    )
    .where(
        _s.c.mandate_id == bindparam("mandate"),
        _s.c.day.between(bindparam("first"), bindparam("last")),
        _s.c.state != SaleState.NOTHING,
    )
    .group_by(_s.c.day)
)


def used(connection: Connection, mandate_id: str, day: str) -> Used:
    """Sum up a mandate's sales of a day (YYYYMMDD) and its month, those not at their end with their limits."""
    month = day[:6]
    values = {"mandate": mandate_id, "first": f"{month}01", "last": f"{month}31"}
    rows = connection.execute(_USED, values).all()
    today = [row for row in rows if row.day == day]
    return Used(*(sum(getattr(row, unit) for row in some) for some in (today, rows) for unit in ("fen", "ml")))


def allowed(connection: Connection, mandate_id: str | None, day: str, asked: Asked) -> Allowance | str:
    """Work out the allowance of a sale on a mandate's terms, and on what is used of them, as both stand now."""
    terms = NO_TERMS if mandate_id is None else terms_of(connection, mandate_id)
    if mandate_id is None or terms == NO_TERMS:
        return allow(NO_TERMS, Used(), asked)
    return allow(terms, used(connection, mandate_id, day), asked)
