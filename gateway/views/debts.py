"""Debts: what payers owe since their bank refused."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import ColumnElement, Connection, func, select

from gateway.debit.debts import WRITE_OFF
from gateway.ledger import tables
from gateway.model.states import UNRESOLVED, DebitState, ItemState
from gateway.views.identity import IDENTITY, Identity, identity_of
from gateway.views.rows import view_of

_d, _o, _p, _s = tables.debit, tables.obligor, tables.passage, tables.subject


@dataclass(frozen=True, slots=True)
class Debt:
    """A claim that a bank refused. `since_us`: when it became a debt; `next_try_us`: when the bank is asked again, None
    for never; `listed_us`: since when its payer is on the box's own list."""

    debit_id: str
    mandate_id: str | None
    who: Identity
    obligor_id: str
    payer: str
    service: str
    amount_fen: int
    since_us: int | None
    next_try_us: int | None
    bank_in_doubt: bool
    tries: int
    listed_us: int | None
    write_off_proposed_by: str | None


@dataclass(frozen=True, slots=True)
class Totals:
    """All debts together, and how many payers owe them."""

    count: int
    amount_fen: int
    payers: int
    payers_listed: int


def debts(connection: Connection, last: int, *, listed: bool, unmask: bool) -> tuple[Debt, ...]:
    """The newest debts, newest first; `listed`: only of payers on the box's own list."""
    j, a, i = tables.journal, tables.attempt, tables.item
    since = select(func.max(j.c.at)).where(j.c.debit_id == _d.c.id, j.c.kind == "debit", j.c.event == DebitState.DEBT)
    asking = select(a.c.id).where(a.c.debit_id == _d.c.id, a.c.state.in_(UNRESOLVED)).exists()
    proposed = select(i.c.actor).where(i.c.kind == WRITE_OFF, i.c.ref == _d.c.id, i.c.state == ItemState.OPEN)
    since_us = since.scalar_subquery()
    rows = connection.execute(
        select(_d, _o.c.listed_at, *IDENTITY, since_us.label("since_us"), asking.label("bank_in_doubt"))
        .add_columns(proposed.scalar_subquery().label("write_off_proposed_by"))
        .join_from(_d, _o, _o.c.id == _d.c.obligor_id)
        .join(_p, _p.c.id == _d.c.passage_id)
        .join(_s, _s.c.id == _p.c.id)
        .where(*_owed(listed=listed))
        .order_by(since_us.desc(), _d.c.id.desc())
        .limit(last)
    )
    return tuple(
        view_of(
            Debt,
            row,
            debit_id=row.id,
            who=identity_of(row, unmask=unmask),
            next_try_us=row.retry_at,
            tries=row.retries,
        )
        for row in rows
    )


def totals(connection: Connection, *, listed: bool) -> Totals:
    """Sums over all debts, or those of listed payers."""
    found = connection.execute(
        select(
            func.count(),
            func.coalesce(func.sum(_d.c.amount), 0),
            func.count(_d.c.obligor_id.distinct()),
            func.count(_o.c.id.distinct()).filter(_o.c.listed_at.is_not(None)),
        )
        .join_from(_d, _o, _o.c.id == _d.c.obligor_id)
        .where(*_owed(listed=listed))
    ).one()
    return Totals(*found)


def _owed(*, listed: bool) -> list[ColumnElement[bool]]:
    return [tables.owing(DebitState.DEBT), *([_o.c.listed_at.is_not(None)] if listed else [])]
