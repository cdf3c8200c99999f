"""Items: people explain a difference, or give it up, which takes two of them.

An item is open until it is explained, corrected by itself (the next run finds no difference any more), or written off.
A write-off is proposed by one person and agreed by another; where our books hold money that the payer does not grant,
the agreement books the loss. Explaining moves no money: it lets a row be cleared on whose money the payer agrees.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from gateway.clearing.day import ClearingRefused
from gateway.clearing.terms import Terms
from gateway.debit import debts
from gateway.debit.states import debit_row, set_item
from gateway.ledger import tables
from gateway.ledger.books import AccountKind
from gateway.ledger.statements import Row
from gateway.ledger.transaction import Transaction
from gateway.model.answers import NOTHING_SAID
from gateway.model.clearing import LOSSES, DifferenceKind
from gateway.model.dual_control import are_two
from gateway.model.states import DebitState, ItemState
from gateway.texts.catalogue import Words

NEVER_WRITTEN_OFF: Final = frozenset(
    {
        DifferenceKind.OTHER_DAY,
        DifferenceKind.IN_DOUBT,
        DifferenceKind.MISSING_LANE_RECORD,
        DifferenceKind.LANE_AMOUNT_DIFFERS,
        DifferenceKind.LANE_WITHOUT_CLAIM,
    }
)
"""Kinds without money to give up: the payer agrees on it, or the debit engine settles it."""


@dataclass(frozen=True, slots=True)
class ItemChanged:
    """An item as it stands after the change."""

    item_id: int
    state: ItemState
    actor: str
    second_actor: str | None
    lost_fen: int = 0


def explain(tx: Transaction, item_id: int, by: str, reason: str) -> ItemChanged:
    """Close an item with a reason. Raises `ClearingRefused`."""
    item = _open(tx, item_id)
    set_item(tx, item, ItemState.EXPLAINED, detail=reason, by=by, note=reason, actor=by, second_actor=None)
    return ItemChanged(item_id, ItemState.EXPLAINED, by, None)


def write_off(tx: Transaction, item_id: int, by: str, reason: str, terms: Terms) -> ItemChanged:
    """Propose to give an item up, or agree to it; the second person must be another. Raises `ClearingRefused`."""
    item = _open(tx, item_id)
    known = DifferenceKind(item.kind) if item.kind in list(DifferenceKind) else None
    if known is None or known in NEVER_WRITTEN_OFF:
        raise ClearingRefused("item_not_a_loss", Words("clearing.item-is", item=item_id, what=item.kind))
    if item.actor is None:
        tx.update(tables.item, {"id": item_id}, note=reason, actor=by, changed_at=tx.now_us)
        tx.note("item", str(item_id), "write_off_proposed", debit_id=item.debit_id, detail=reason, actor=by)
        return ItemChanged(item_id, ItemState.OPEN, by, None)
    if not are_two(item.actor, by):
        raise ClearingRefused("item_needs_second", Words("clearing.item-proposed", item=item_id, by=by))
    lost = _book_loss(tx, item, known, terms) if known in LOSSES else 0
    set_item(tx, item, ItemState.WRITTEN_OFF, detail=f"{lost} fen: {reason}", by=by, note=reason, second_actor=by)
    return ItemChanged(item_id, ItemState.WRITTEN_OFF, item.actor, by, lost)


def _open(tx: Transaction, item_id: int) -> Row:
    item = tx.find(tables.item, id=item_id)
    if item is None:
        raise ClearingRefused("item_unknown", Words("clearing.no-item", item=item_id))
    if item.state != ItemState.OPEN:
        raise ClearingRefused("item_closed", Words("clearing.item-is", item=item_id, what=item.state))
    return item


def _book_loss(tx: Transaction, item: Row, kind: DifferenceKind, terms: Terms) -> int:
    """Take out of the books what the payer will not pay; returns the signed loss in fen."""
    row = tx.find(tables.clearing_row, ref=item.ref)
    if row is None:
        return 0
    if kind is DifferenceKind.PROOF_MISSING and debit_row(tx, row.debit_id).state == DebitState.RELEASED:
        # The issuer will not take it over: it is the payer's own debt now, and recovered as such.
        debts.to_debt(tx, row.debit_id, terms.debit_rules, NOTHING_SAID)
        tx.update(tables.clearing_row, {"ref": row.ref}, state="rejected", paid=0, changed_at=tx.now_us)
        return 0
    payer = AccountKind.BANK if row.kind == "attempt" else AccountKind.ISSUER
    target = (payer, row.payer)
    if row.line_id is not None:
        # It was settled before the payer took it back: the money has left our own account.
        target = (AccountKind.SETTLEMENT, terms.rules.own_account)
    source, amount = (AccountKind.LOSS, row.payer), item.amount
    if amount < 0:
        source, target, amount = target, source, -amount
    if amount:
        tx.books.move(
            "clearing_loss",
            None,
            source=source,
            target=target,
            amount=amount,
            event_us=tx.now_us,
            reference=f"item/{item.id}",
        )
    return int(item.amount)
