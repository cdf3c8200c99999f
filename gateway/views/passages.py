"""Passages: the list of what was decided about the vehicles that came, and the facts of one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from sqlalchemy import ColumnElement, Connection, func, select

from gateway.ledger import tables
from gateway.model.passage import PassageOutcome
from gateway.views.decisions import DECISION, Decision, decision_of
from gateway.views.identity import IDENTITY, Identity, identity_of
from gateway.views.rows import view_of

NUMBER_DIGITS_MAX: Final = 18
"""A number of so many digits fits a database's integer; longer texts are ids or keys."""

_p, _s, _d, _t = tables.passage, tables.subject, tables.decision, tables.timing


def record_number(text: str) -> int | None:
    """The record number that a person typed; None for what can be none."""
    return int(text) if text.isascii() and text.isdigit() and len(text) <= NUMBER_DIGITS_MAX else None


def find_passage(connection: Connection, text: str) -> str | None:
    """The id of the passage that a person means by a record number or an id; None when there is none."""
    number = record_number(text)
    query = (
        select(_p.c.id).where(_p.c.id == text.lower())
        if number is None
        else select(_d.c.passage_id).where(_d.c.record_no == number)
    )
    found: str | None = connection.execute(query).scalar_one_or_none()
    return found


@dataclass(frozen=True, slots=True)
class Passage:
    """One vehicle at one charge point; codes of class and device as the tag told them."""

    passage_id: str
    lane: str
    service: str
    opened_us: int
    clock_quality: str
    device_type: int | None
    vehicle_class: int | None
    who: Identity


def passage_of(connection: Connection, passage_id: str, *, unmask: bool) -> Passage:
    """One passage that is known to be there."""
    query = select(_p, *IDENTITY).join_from(_p, _s, _s.c.id == _p.c.id).where(_p.c.id == passage_id)
    row = connection.execute(query).one()
    return view_of(Passage, row, passage_id=row.id, who=identity_of(row, unmask=unmask))


@dataclass(frozen=True, slots=True)
class Wanted:
    """Filter of passages: the newest `last`, of one lane, since a moment (UTC microseconds), of one outcome."""

    last: int
    lane: str | None = None
    since_us: int | None = None
    outcome: PassageOutcome | None = None


@dataclass(frozen=True, slots=True)
class Listed:
    """A passage with the decision that stands. `debit_state`: where its claim stands now; `decisions`: how many there
    were, `repeats` of them because the vehicle was seen again."""

    decision: Decision
    vehicle_class: int | None
    who: Identity
    debit_state: str | None
    decisions: int
    repeats: int


def passages(connection: Connection, wanted: Wanted, *, unmask: bool) -> tuple[Listed, ...]:
    """Passages, newest first. A vehicle that is seen again after it paid does not hide the decision that charged it."""
    other = _d.alias("other")
    same = other.c.passage_id == _d.c.passage_id
    # The decision that stands is the newest that is no repeat: repeats charge nothing and change nothing.
    newest = select(func.max(other.c.record_no)).where(same, other.c.outcome != PassageOutcome.REPEAT.value)
    count = select(func.count()).where(same).scalar_subquery()
    repeats = select(func.count()).where(same, other.c.outcome == PassageOutcome.REPEAT.value).scalar_subquery()
    conditions: list[ColumnElement[bool]] = [_d.c.record_no == newest.scalar_subquery()]
    if wanted.lane is not None:
        conditions.append(_d.c.charge_point == wanted.lane)
    if wanted.since_us is not None:
        conditions.append(_d.c.decided_at >= wanted.since_us)
    if wanted.outcome is PassageOutcome.REPEAT:
        # Found once, and not counted anew for every passage there is.
        seen_again = select(other.c.passage_id).where(other.c.outcome == PassageOutcome.REPEAT.value)
        conditions.append(_d.c.passage_id.in_(seen_again))
    elif wanted.outcome is not None:
        conditions.append(_d.c.outcome == wanted.outcome.value)
    query = (
        select(*DECISION, *IDENTITY, _p.c.vehicle_class, tables.debit.c.state.label("debit_state"))
        .add_columns(count.label("decisions"), repeats.label("repeats"))
        .join_from(_d, _p, _p.c.id == _d.c.passage_id)
        .join(_s, _s.c.id == _p.c.id)
        .outerjoin(_t, _t.c.record_no == _d.c.record_no)
        .outerjoin(tables.debit, tables.debit.c.id == _d.c.debit_id)
        .where(*conditions)
        .order_by(_d.c.record_no.desc())
        .limit(wanted.last)
    )
    return tuple(
        view_of(Listed, row, decision=decision_of(row), who=identity_of(row, unmask=unmask))
        for row in connection.execute(query)
    )


def was_at(connection: Connection, lane: str) -> bool:
    """True when anything was ever decided at a charge point of this name."""
    query = select(_d.c.passage_id).where(_d.c.charge_point == lane).limit(1)
    return connection.execute(query).first() is not None
