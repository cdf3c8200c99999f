"""Fuel terms of a mandate: grades its vehicles may fill, and its bounds in fen and in litres a sale, a day and a month.

They stand in a table of their own, which lanes and car parks never read. What they come to at a nozzle is told by
`gateway.points.fuel.allowance`.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Final

from sqlalchemy import Connection, Row, Select, bindparam, select

from gateway.ledger import tables

COLUMNS: Final = (
    "fuel_grades",
    "fuel_sale_fen",
    "fuel_sale_litres",
    "fuel_day_fen",
    "fuel_day_litres",
    "fuel_month_fen",
    "fuel_month_litres",
)
"""Columns of a file of mandates; each may be missing, as it was before there were any."""

PREFIX: Final = "fuel_"
"""Prefix of columns that are known here or refused: a bound whose name is misspelt would bound nothing."""

BETWEEN_GRADES: Final = ";"

_m, _f = tables.mandate, tables.mandate_fuel
_TERMS = select(_f).where(_f.c.mandate_id == bindparam("mandate"))


@dataclass(frozen=True, slots=True)
class FuelTerms:
    """Fuel terms of one mandate. None: any grade, or no such bound. A month is one of the calendar at the site."""

    grades: tuple[str, ...] | None = None
    """Grades as site files name them, sorted."""
    per_sale_fen: int | None = None
    per_sale_ml: int | None = None
    per_day_fen: int | None = None
    per_day_ml: int | None = None
    per_month_fen: int | None = None
    per_month_ml: int | None = None


NO_TERMS: Final = FuelTerms()
"""Terms that bound nothing; a ledger has no row of them."""


def mandates() -> Select[Any]:
    """Select mandates, each with its fuel terms."""
    terms = (column for column in _f.c if column is not _f.c.mandate_id)
    return select(_m, *terms).join_from(_m, _f, _f.c.mandate_id == _m.c.id, isouter=True)


def terms_of(connection: Connection, mandate_id: str) -> FuelTerms:
    """Read the fuel terms of a mandate as they stand now."""
    row = connection.execute(_TERMS, {"mandate": mandate_id}).one_or_none()
    return NO_TERMS if row is None else read_terms(row)


def read_terms(row: Row[Any]) -> FuelTerms:
    """Read fuel terms from a row of the ledger, or from one with an empty outer join."""
    return FuelTerms(
        grades=None if row.grades is None else tuple(row.grades.split(BETWEEN_GRADES)),
        per_sale_fen=row.per_sale_fen,
        per_sale_ml=row.per_sale_ml,
        per_day_fen=row.per_day_fen,
        per_day_ml=row.per_day_ml,
        per_month_fen=row.per_month_fen,
        per_month_ml=row.per_month_ml,
    )


def terms_row(mandate_id: str, terms: FuelTerms) -> dict[str, Any]:
    """Row of a mandate's fuel terms, as the ledger keeps it."""
    grades = None if terms.grades is None else BETWEEN_GRADES.join(terms.grades)
    return {**asdict(terms), "mandate_id": mandate_id, "grades": grades}
