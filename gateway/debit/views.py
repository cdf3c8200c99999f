"""What the ledger knows of one debit, for people and programs that ask."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, RowMapping, or_, select

from gateway.ledger import tables


@dataclass(frozen=True, slots=True)
class DebitView:
    """A debit with everything that hangs on it; mappings by column name, oldest first. Amounts in fen."""

    debit: RowMapping
    passage: RowMapping
    transfers: tuple[RowMapping, ...]
    attempts: tuple[RowMapping, ...]
    purchases: tuple[RowMapping, ...]
    refunds: tuple[RowMapping, ...]
    decisions: tuple[RowMapping, ...]
    items: tuple[RowMapping, ...]
    journal: tuple[RowMapping, ...]


RECORD_NO_DIGITS_MAX = 18
"""A number of so many digits fits a database's integer; longer texts are ids or keys."""


def find_debit(connection: Connection, text: str) -> str | None:
    """The id of the debit that a person means: by record number, id (also of one of its parts), or business key."""
    if text.isascii() and text.isdigit() and len(text) <= RECORD_NO_DIGITS_MAX:
        n = tables.decision
        found = connection.execute(select(n.c.debit_id).where(n.c.record_no == int(text))).scalar_one_or_none()
        if found is not None:
            return str(found)
    view = debit_view(connection, debit_id=text.lower()) or debit_view(connection, key=text)
    return None if view is None else str(view.debit["id"])


def debit_view(connection: Connection, *, key: str | None = None, debit_id: str | None = None) -> DebitView | None:
    """The debit with this business key or this id (or, as people type it, the id of one of its parts)."""
    d, a, r, g, n = tables.debit, tables.attempt, tables.refund, tables.passage, tables.decision
    if debit_id is not None:
        parts = (
            select(a.c.debit_id).where(a.c.id == debit_id),
            select(r.c.debit_id).where(r.c.id == debit_id),
            select(d.c.id).where(d.c.passage_id == debit_id),
        )
        wanted = or_(d.c.id == debit_id, *(d.c.id.in_(part) for part in parts))
    else:
        wanted = d.c.idempotency_key == key
    debit = connection.execute(select(d).where(wanted)).mappings().first()
    if debit is None:
        return None

    def rows(table: Any, column: str, order: str) -> tuple[RowMapping, ...]:  # noqa: ANN401 - a table
        found = select(table).where(table.c[column] == debit["id"]).order_by(table.c[order])
        return tuple(connection.execute(found).mappings())

    return DebitView(
        debit=debit,
        passage=connection.execute(select(g).where(g.c.id == debit["passage_id"])).mappings().one(),
        transfers=rows(tables.transfer, "debit_id", "id"),
        attempts=rows(a, "debit_id", "created_at"),
        purchases=rows(tables.purchase, "debit_id", "attempt_no"),
        refunds=rows(r, "debit_id", "created_at"),
        decisions=rows(n, "debit_id", "record_no"),
        items=rows(tables.item, "debit_id", "id"),
        journal=rows(tables.journal, "debit_id", "number"),
    )
