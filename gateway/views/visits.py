"""Visits: one passage with all its parts, for looking into one passage or one debit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, select

from gateway.ledger import tables
from gateway.model.passage import Funding
from gateway.views.accounts import Transfer, transfers_of
from gateway.views.attempts import Attempt, attempts_of
from gateway.views.debits import find_debit
from gateway.views.decisions import Decision, decisions_of
from gateway.views.items import Item, items_of
from gateway.views.masks import number_shown
from gateway.views.passages import Passage, find_passage, passage_of
from gateway.views.purchases import Purchase, purchases_of
from gateway.views.rows import view_of

_d, _o, _t, _r = tables.debit, tables.obligor, tables.transfer, tables.refund


@dataclass(frozen=True, slots=True)
class Debit:
    """A claim, as it stands. `amount_fen` is asked for now, `held_fen` was held, `completed_fen` what a hold was
    completed with; `day`: YYYYMMDD; `listed_us`: since when its payer is on the box's own list."""

    debit_id: str
    state: str
    amount_fen: int
    funding: Funding
    payer: str
    merchant: str
    mandate_id: str | None
    contract_ref: str | None
    obligor_id: str
    stood_in: bool
    idempotency_key: str
    service: str
    day: str
    held_fen: int
    completed_fen: int | None
    collected_fen: int
    refunded_fen: int
    retry_us: int | None
    retries: int
    listed_us: int | None
    created_us: int
    changed_us: int

    @property
    def refundable_fen(self) -> int:
        """Amount that may still go back."""
        return self.collected_fen - self.refunded_fen


@dataclass(frozen=True, slots=True)
class Refund:
    """Money that goes back: decided, then paid to its target (bank, issuer, till)."""

    refund_id: str
    key: str
    amount_fen: int
    reason: str
    target: str
    state: str
    attempt_id: str | None
    created_us: int
    changed_us: int


@dataclass(frozen=True, slots=True)
class Visit:
    """A passage, its debit (None where nothing was claimed), and all that became of both; each kind oldest first."""

    passage: Passage
    debit: Debit | None
    decisions: tuple[Decision, ...]
    transfers: tuple[Transfer, ...]
    attempts: Sequence[Attempt]
    purchases: tuple[Purchase, ...]
    refunds: tuple[Refund, ...]
    items: tuple[Item, ...]


def find_visit(connection: Connection, text: str, *, unmask: bool) -> Visit | None:
    """The visit that a person means by a record number or the passage's id; None when there is none."""
    passage_id = find_passage(connection, text)
    return None if passage_id is None else visit_of(connection, passage_id, unmask=unmask)


def find_visit_of_debit(connection: Connection, text: str, *, unmask: bool) -> Visit | None:
    """The visit of the debit that a person means, as `find_debit`; None when there is none."""
    debit_id = find_debit(connection, text)
    if debit_id is None:
        return None
    passage_id = connection.execute(select(_d.c.passage_id).where(_d.c.id == debit_id)).scalar_one()
    return visit_of(connection, passage_id, unmask=unmask)


def visit_of(connection: Connection, passage_id: str, *, unmask: bool) -> Visit:
    """Visit of a passage that is known to be there."""
    passage = passage_of(connection, passage_id, unmask=unmask)
    debit = _debit_of(connection, passage_id, unmask=unmask)
    known = debit is not None
    debit_id = "" if debit is None else debit.debit_id
    return Visit(
        passage,
        debit,
        decisions_of(connection, passage_id),
        transfers_of(connection, debit_id) if known else (),
        attempts_of(connection, [debit_id], unmask=unmask).get(debit_id, ()) if known else (),
        purchases_of(connection, passage_id, unmask=unmask),
        _refunds_of(connection, debit_id) if known else (),
        items_of(connection, debit_id) if known else (),
    )


def _debit_of(connection: Connection, passage_id: str, *, unmask: bool) -> Debit | None:
    row = connection.execute(
        select(_d, _t.c.amount.label("held_fen"), _o.c.listed_at)
        .join_from(_d, _t, _t.c.id == _d.c.hold_id)
        .join(_o, _o.c.id == _d.c.obligor_id)
        .where(_d.c.passage_id == passage_id)
    ).one_or_none()
    if row is None:
        return None
    shown = number_shown(row.contract_ref, unmask=unmask)
    return view_of(Debit, row, debit_id=row.id, contract_ref=shown, completed_fen=row.final_amount)


def _refunds_of(connection: Connection, debit_id: str) -> tuple[Refund, ...]:
    rows = connection.execute(select(_r).where(_r.c.debit_id == debit_id).order_by(_r.c.created_at, _r.c.id))
    return tuple(view_of(Refund, row, refund_id=row.id, key=row.idempotency_key) for row in rows)
