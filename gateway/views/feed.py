"""Feed of a ledger: what was decided, and what the journal says, after a number that a reader knows already.

Both series are gap-free and never change, so a reader that keeps the number of the last row it has seen misses nothing
and sees nothing twice: it asks for what comes after that number, takes `Page.last` for its next question, and asks
again at once while there is `Page.more`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, Generic, TypeVar

from sqlalchemy import ColumnElement, Connection, Row, Select, select

from gateway.ledger import tables
from gateway.views.decisions import DECISION, Decision, decision_of
from gateway.views.identity import IDENTITY, Identity, identity_of
from gateway.views.rows import view_of

PAGE_MAX: Final = 1000
"""Rows of one page at most: a reader that was away for long comes again, and holds no snapshot for long."""

T = TypeVar("T")

_d, _p, _s, _t, _j = tables.decision, tables.passage, tables.subject, tables.timing, tables.journal


class Gap(Exception):
    """A number is missing in a series that has no gap: the ledger is damaged, and `etcgw ledger verify` says how."""


@dataclass(frozen=True, slots=True)
class Page(Generic[T]):
    """Rows after a number, in their order. `last`: the number to ask after next; `head`: of the newest row there is.
    Below `last` it says that the ledger is an older one than the reader has seen."""

    rows: tuple[T, ...]
    last: int
    head: int

    @property
    def more(self) -> bool:
        """True when there are rows after this page already."""
        return self.head > self.last


@dataclass(frozen=True, slots=True)
class Record:
    """A decision, repeats included, with the vehicle it was about."""

    decision: Decision
    vehicle_class: int | None
    who: Identity


@dataclass(frozen=True, slots=True)
class Entry:
    """A row of the journal: `event` is the state that the row `ref` of this kind entered, or the act of a person."""

    number: int
    kind: str
    ref: str
    debit_id: str | None
    event: str
    detail: str | None
    actor: str | None
    booked_us: int


def records_query(after: int, limit: int) -> Select[Any]:
    """Decisions after a record number."""
    return (
        select(*DECISION, *IDENTITY, _p.c.vehicle_class)
        .join_from(_d, _p, _p.c.id == _d.c.passage_id)
        .join(_s, _s.c.id == _p.c.id)
        .outerjoin(_t, _t.c.record_no == _d.c.record_no)
        .where(_d.c.record_no > after)
        .order_by(_d.c.record_no)
        .limit(limit)
    )


def journal_query(after: int, limit: int) -> Select[Any]:
    """Rows of the journal after a number."""
    return select(_j).where(_j.c.number > after).order_by(_j.c.number).limit(limit)


def records_after(connection: Connection, record_no: int, limit: int = PAGE_MAX, *, unmask: bool) -> Page[Record]:
    """Decisions after a record number (0: from the beginning). Raises `Gap`, ValueError for a limit out of bounds."""
    rows = _rows(connection, records_query, record_no, limit)
    found = (Record(decision_of(row), row.vehicle_class, identity_of(row, unmask=unmask)) for row in rows)
    return Page(tuple(found), record_no + len(rows), _head(connection, _d.c.record_no))


def journal_after(connection: Connection, number: int, limit: int = PAGE_MAX) -> Page[Entry]:
    """Journal rows after a number (0: from the beginning). Raises `Gap`, ValueError for a limit out of bounds."""
    rows = _rows(connection, journal_query, number, limit)
    found = (view_of(Entry, row, booked_us=row.at) for row in rows)
    return Page(tuple(found), number + len(rows), _head(connection, _j.c.number))


def _rows(
    connection: Connection, query: Callable[[int, int], Select[Any]], after: int, limit: int
) -> Sequence[Row[Any]]:
    """Rows whose first column follows on `after` without a gap."""
    if not 0 < limit <= PAGE_MAX or after < 0:
        raise ValueError(f"{limit} rows after {after}: a page has 1 to {PAGE_MAX} rows after 0 or a later number")
    rows = connection.execute(query(after, limit)).all()
    for expected, row in enumerate(rows, start=after + 1):
        if row[0] != expected:
            raise Gap(f"number {expected} is missing, the next is {row[0]}")
    return rows


def _head(connection: Connection, number: ColumnElement[int]) -> int:
    return connection.execute(select(number).order_by(number.desc()).limit(1)).scalar() or 0
