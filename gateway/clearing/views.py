"""What a cleared day looks like, read for people and scripts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, case, func, select

from gateway.ledger import tables
from gateway.model.states import ItemState


@dataclass(frozen=True, slots=True)
class Group:
    """One collector, payer and service of a day: counts and fen by state."""

    merchant: str
    payer: str
    service: str
    state: str
    count: int
    amount_fen: int
    paid_fen: int


@dataclass(frozen=True, slots=True)
class DayView:
    """Everything stored about the clearing of a day; rows as the tables have them."""

    day: str
    run: Any | None
    files: Sequence[Any]
    lines: Sequence[Any]
    groups: Sequence[Group]
    items: Sequence[tuple[str, str, int, int]]
    """Kind, state, count and fen of the items of the day."""

    @property
    def open_items(self) -> int:
        """Items somebody must still see to."""
        return sum(count for _, state, count, _ in self.items if state == ItemState.OPEN)


def day_view(connection: Connection, day: str) -> DayView:
    """Read one day."""
    run, file, line, row, item = (
        tables.clearing_run,
        tables.bank_file,
        tables.clearing_line,
        tables.clearing_row,
        tables.item,
    )
    groups = connection.execute(
        select(
            *(row.c.merchant, row.c.payer, row.c.service, row.c.state, func.count()),
            *(func.sum(row.c.amount), func.sum(row.c.paid)),
        )
        .where(row.c.day == day)
        .group_by(row.c.merchant, row.c.payer, row.c.service, row.c.state)
        .order_by(row.c.merchant, row.c.payer, row.c.service, row.c.state)
    )
    items = connection.execute(
        select(item.c.kind, item.c.state, func.count(), func.sum(item.c.amount))
        .where(item.c.day == day)
        .group_by(item.c.kind, item.c.state)
        .order_by(item.c.kind, item.c.state)
    )
    return DayView(
        day,
        connection.execute(select(run).where(run.c.day == day)).one_or_none(),
        connection.execute(select(file).where(file.c.day == day).order_by(file.c.id)).all(),
        connection.execute(select(line).where(line.c.day == day).order_by(line.c.id)).all(),
        [Group(*found) for found in groups],
        [(found[0], found[1], int(found[2]), int(found[3])) for found in items],
    )


def items_of(connection: Connection, *, state: str | None, day: str | None, last: int) -> Sequence[Any]:
    """Items of every kind, open ones first, newest first; those of the charge points (no day) among them."""
    item = tables.item
    chosen = [] if state is None else [item.c.state == state]
    chosen += [] if day is None else [item.c.day == day]
    order = case((item.c.state == ItemState.OPEN, 0), else_=1)
    return connection.execute(select(item).where(*chosen).order_by(order, item.c.id.desc()).limit(last)).all()
