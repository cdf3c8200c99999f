"""Rows of the ledger as values of a view."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import fields
from enum import Enum
from types import UnionType
from typing import Any, Final, TypeVar, get_args, get_type_hints

from sqlalchemy import Row

T = TypeVar("T")

UNITS: Final = {"_us": "_at", "_fen": ""}
"""Endings of a field of a view, and of the column it comes from: `created_us` of `created_at`, `amount_fen` of
`amount`."""

OTHER_NAMES: Final = {"lane": "charge_point", "bank": "channel"}
"""Fields of views that have another name than their column of the ledger."""


def view_of(kind: type[T], row: Row[Any], **given: Any) -> T:  # noqa: ANN401 - fields of any view
    """A value of the class `kind` made of a row.

    Each field is what is `given`, else the column of its own name, else the column by the rules above; flags become
    bool, codes their enum. Raises KeyError where the row lacks a column, ValueError for a code that no enum knows.
    """
    found = row._mapping  # SQLAlchemy's public name, underscored so that no column can hide it
    plan = _PLANS.get(kind) or _PLANS.setdefault(kind, _plan(kind))
    for name, other, convert in plan:
        if name not in given:
            value = found[name if name in found else other]
            given[name] = value if convert is None or value is None else convert(value)
    return kind(**given)


_Plan = tuple[tuple[str, str, Callable[[Any], Any] | None], ...]
"""Name, other name of the column, and conversion of every field of a class."""

_PLANS: Final[dict[type[Any], _Plan]] = {}


def _plan(kind: type[Any]) -> _Plan:
    hints = get_type_hints(kind)
    return tuple((field.name, _other_name(field.name), _conversion(hints[field.name])) for field in fields(kind))


def _other_name(name: str) -> str:
    for ending, column_ending in UNITS.items():
        if name.endswith(ending):
            return name.removesuffix(ending) + column_ending
    return OTHER_NAMES.get(name, name)


def _conversion(hint: Any) -> Callable[[Any], Any] | None:  # noqa: ANN401 - an annotation
    """Conversion of a column's value into the type of a field; None where it stays as it is."""
    for one in get_args(hint) if isinstance(hint, UnionType) else (hint,):
        if one is bool or (isinstance(one, type) and issubclass(one, Enum)):
            return one
    return None


IDS_PER_QUERY: Final = 500
"""Bound values of one statement: SQLite takes some ten thousand, other engines fewer."""


def by_pages(ids: Sequence[str]) -> Iterator[Sequence[str]]:
    """Pages of identifiers, each of as many as one statement may name."""
    return (ids[at : at + IDS_PER_QUERY] for at in range(0, len(ids), IDS_PER_QUERY))
