"""Reconciliation items: what somebody must explain or give up."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import ColumnElement, Connection, case, func, select

from gateway.ledger import tables
from gateway.model.states import ItemState
from gateway.views.rows import view_of

_i = tables.item


@dataclass(frozen=True, slots=True)
class Item:
    """A difference. `kind`: of `gateway.model.clearing.DifferenceKind` or of a charge point; `ref`: what it is about;
    `day`: YYYYMMDD; `actor` closed or proposed it, `second_actor` agreed."""

    item_id: int
    kind: str
    ref: str
    debit_id: str | None
    day: str | None
    amount_fen: int
    state: str
    note: str | None
    actor: str | None
    second_actor: str | None
    created_us: int
    changed_us: int


def items(connection: Connection, *, state: str | None, day: str | None, last: int) -> tuple[Item, ...]:
    """Items of every kind, open ones first, newest first; those of the charge points (no day) among them."""
    chosen = [] if state is None else [_i.c.state == state]
    chosen += [] if day is None else [_i.c.day == day]
    return _items(connection, chosen, case((_i.c.state == ItemState.OPEN, 0), else_=1), _i.c.id.desc(), last=last)


def items_of(connection: Connection, debit_id: str) -> tuple[Item, ...]:
    """A debit's items, oldest first."""
    return _items(connection, [_i.c.debit_id == debit_id], _i.c.id)


def _items(
    connection: Connection, chosen: list[ColumnElement[bool]], *order: ColumnElement[int], last: int | None = None
) -> tuple[Item, ...]:
    rows = connection.execute(select(_i).where(*chosen).order_by(*order).limit(last))
    return tuple(view_of(Item, row, item_id=row.id) for row in rows)


@dataclass(frozen=True, slots=True)
class ItemSum:
    """Items of one kind and state."""

    kind: str
    state: str
    count: int
    amount_fen: int


def item_sums(connection: Connection, day: str) -> tuple[ItemSum, ...]:
    """Items of a day, counted."""
    rows = connection.execute(
        select(_i.c.kind, _i.c.state, func.count(), func.sum(_i.c.amount))
        .where(_i.c.day == day)
        .group_by(_i.c.kind, _i.c.state)
        .order_by(_i.c.kind, _i.c.state)
    )
    return tuple(ItemSum(*row) for row in rows)
