"""Decisions about a passage, with the time they took and the person's word they followed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Column, ColumnElement, Connection, Label, Row, select

from gateway.ledger import tables
from gateway.model.passage import Funding, Occasion, PassageOutcome, Release
from gateway.views.rows import view_of

_d, _t, _j = tables.decision, tables.timing, tables.journal


@dataclass(frozen=True, slots=True)
class Timing:
    """Time a passage took, by part, in microseconds from trade start to the answered commit."""

    total_us: int
    radio_us: int
    bank_us: int
    commit_us: int
    barrier_us: int | None

    @property
    def own_us(self) -> int:
        """Our share: all but radio and bank."""
        return self.total_us - self.radio_us - self.bank_us


@dataclass(frozen=True, slots=True)
class Decision:
    """One decision. `reason`: code of `gateway.model.reasons`; `said_by`, `said_why`: of a person's word alone;
    `timing`: None while it is not stored yet."""

    record_no: int
    passage_id: str
    debit_id: str | None
    lane: str
    decided_us: int
    fare_fen: int
    outcome: PassageOutcome
    release: Release
    reason: str | None
    special_event: int | None
    funding: Funding | None
    occasion: Occasion
    tariff_version: str | None
    list_version: str | None
    list_age_s: int | None
    rules_version: str | None
    said_by: str | None
    said_why: str | None
    timing: Timing | None


def _said(column: Column[Any]) -> Label[Any]:
    """Column of the person's word that a decision followed; null for all that no person decided."""
    # A person's word and the decision that follows it are one change of the ledger, made at one time.
    word = (_d.c.recovered == Occasion.PERSON.value, _j.c.debit_id == _d.c.debit_id)
    same = (_j.c.kind == "person", _j.c.at == _d.c.decided_at)
    found = select(column).where(*word, *same).order_by(_j.c.number).limit(1).correlate(_d).scalar_subquery()
    return found.label("said_by" if column is _j.c.actor else "said_why")


DECISION: Final[tuple[ColumnElement[Any], ...]] = (
    *_d.c,
    *(_t.c[name] for name in ("total_us", "radio_us", "bank_us", "commit_us", "barrier_us")),
    _said(_j.c.actor),
    _said(_j.c.detail),
)
"""Columns that `decision_of` needs, of the tables decision and timing (an outer join)."""


def decision_of(row: Row[Any]) -> Decision:
    """The decision of a row with the columns of `DECISION`."""
    return view_of(
        Decision,
        row,
        fare_fen=row.amount,
        occasion=Occasion(row.recovered),
        timing=None if row.total_us is None else view_of(Timing, row),
    )


def decisions_of(connection: Connection, passage_id: str) -> tuple[Decision, ...]:
    """Decisions about a passage, oldest first."""
    query = select(*DECISION).outerjoin_from(_d, _t, _t.c.record_no == _d.c.record_no)
    return tuple(
        map(decision_of, connection.execute(query.where(_d.c.passage_id == passage_id).order_by(_d.c.record_no)))
    )
