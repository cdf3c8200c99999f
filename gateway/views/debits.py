"""Debits: claims, how far each is collected, and which one a person means."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import ColumnElement, Connection, func, select, union_all

from gateway.ledger import tables
from gateway.model.passage import Funding, PassageOutcome
from gateway.views.attempts import Attempt, attempts_of
from gateway.views.passages import record_number
from gateway.views.rows import by_pages, view_of

_d, _p, _e = tables.debit, tables.passage, tables.decision


def find_debit(connection: Connection, text: str) -> str | None:
    """The id of the debit that a person means: by record number, id (also of one of its parts), or business key."""
    number = record_number(text)
    if number is not None:
        found = connection.execute(select(_e.c.debit_id).where(_e.c.record_no == number)).scalar_one_or_none()
        if found is not None:
            return str(found)
    a, r, name = tables.attempt, tables.refund, text.lower()
    wanted = union_all(
        select(_d.c.id).where(_d.c.id == name),
        select(a.c.debit_id).where(a.c.id == name),
        select(r.c.debit_id).where(r.c.id == name),
        select(_d.c.id).where(_d.c.passage_id == name),
        select(_d.c.id).where(_d.c.idempotency_key == text),
    )
    return connection.execute(wanted).scalars().first()


@dataclass(frozen=True, slots=True)
class Listed:
    """A debit with its attempts. `record_no`: of the decision that stands, None before there is one."""

    debit_id: str
    passage_id: str
    record_no: int | None
    lane: str
    state: str
    amount_fen: int
    funding: Funding
    payer: str
    mandate_id: str | None
    stood_in: bool
    created_us: int
    attempts: Sequence[Attempt]


def debits(connection: Connection, states: Sequence[str], last: int) -> tuple[Listed, ...]:
    """The newest debits, newest first; of these states, or of all when there are none."""
    # Ids are in the order of time, and indexed, also by state.
    newest = _d.c.id.desc()
    # The page first: what is looked up for each of its rows is not looked up for all the others.
    page = select(_d.c.id).where(*_chosen(states)).order_by(newest).limit(last)
    rows = connection.execute(
        select(_d, _p.c.charge_point)
        .join_from(_d, _p, _p.c.id == _d.c.passage_id)
        .where(_d.c.id.in_(page))
        .order_by(newest)
    ).all()
    records = _records_of(connection, [row.passage_id for row in rows])
    attempts = attempts_of(connection, [row.id for row in rows])
    return tuple(
        view_of(Listed, row, debit_id=row.id, record_no=records.get(row.id), attempts=attempts.get(row.id, ()))
        for row in rows
    )


def _records_of(connection: Connection, passage_ids: Sequence[str]) -> dict[str, int]:
    """Record number of the decision that stands, by debit: repeats change nothing."""
    found: dict[str, int] = {}
    for page in by_pages(passage_ids):
        query = select(_e.c.debit_id, func.max(_e.c.record_no)).where(
            _e.c.passage_id.in_(page), _e.c.debit_id.is_not(None), _e.c.outcome != PassageOutcome.REPEAT.value
        )
        found |= {debit_id: number for debit_id, number in connection.execute(query.group_by(_e.c.debit_id))}
    return found


@dataclass(frozen=True, slots=True)
class StateSum:
    """Debits in one state, over the whole ledger."""

    state: str
    count: int
    amount_fen: int


def sums(connection: Connection, states: Sequence[str]) -> tuple[StateSum, ...]:
    """Count and amount of every state among the chosen ones."""
    query = select(_d.c.state, func.count(), func.sum(_d.c.amount)).where(*_chosen(states))
    return tuple(StateSum(*row) for row in connection.execute(query.group_by(_d.c.state)))


def _chosen(states: Sequence[str]) -> list[ColumnElement[bool]]:
    return [_d.c.state.in_(states)] if states else []
