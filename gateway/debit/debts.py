"""Debts: claims that a bank refused for good. Tried again by a schedule, paid at a till, or written off by two people.

A payer whose debts reach the marks of the rules stands on the box's own list until enough of them is recovered; what
that means for its next debit is a rule of each service.
"""

from __future__ import annotations

from sqlalchemy import bindparam, func, select

from gateway.debit.dual_control import agreed
from gateway.debit.states import add_item, close_item, debit_row, in_doubt, set_debit
from gateway.ledger import tables
from gateway.ledger.books import AccountKind
from gateway.ledger.statements import Row
from gateway.ledger.transaction import Transaction
from gateway.model.answers import UNANSWERED, Refusal
from gateway.model.dual_control import are_two
from gateway.model.states import DebitState, ItemState
from gateway.rules.judge import is_listed, recovery_after_s
from gateway.rules.loading import DebitRules

WRITE_OFF = "write_off_proposed"
"""Kind of the item that waits for a second person."""

WITHOUT_BANK = "debt_without_bank"
"""Kind of the item of a debt that is due and for which no bank can be asked."""

_DEBTS = select(
    func.coalesce(func.sum(tables.debit.c.amount), 0).label("fen"),
    func.count().label("count"),
    func.min(tables.debit.c.changed_at).label("oldest"),
).where(
    tables.debit.c.obligor_id == bindparam("obligor"),
    tables.owing(DebitState.DEBT),
)


def to_debt(tx: Transaction, debit_id: str, rules: DebitRules, refusal: Refusal) -> None:
    """Post debt -> open: the bank finally refused; the claim stays and is collected another way."""
    debit = debit_row(tx, debit_id)
    tx.books.move(
        "declined",
        debit.id,
        source=(AccountKind.DEBT, debit.obligor_id),
        target=(AccountKind.OPEN, debit.obligor_id),
        amount=debit.amount,
        event_us=tx.now_us,
    )
    set_debit(tx, debit, DebitState.DEBT, detail=refusal.code, retry_at=_next_try(tx, debit, rules, refusal), retries=0)
    keep_list(tx, debit.obligor_id, rules)


def approval_withdrawn(tx: Transaction, attempt: Row, rules: DebitRules) -> None:
    """Post debt -> bank: the bank booked nothing for its approval; the claim is a debt, due as after silence."""
    debit = debit_row(tx, attempt.debit_id)
    tx.books.move(
        "approval_withdrawn",
        debit.id,
        source=(AccountKind.DEBT, debit.obligor_id),
        target=(AccountKind.BANK, attempt.channel),
        amount=attempt.amount,
        event_us=tx.now_us,
        attempt_id=attempt.id,
    )
    set_debit(
        tx,
        debit,
        DebitState.DEBT,
        detail="approval withdrawn",
        collected=0,
        retry_at=_next_try(tx, debit, rules, UNANSWERED),
    )
    keep_list(tx, debit.obligor_id, rules)


def refused_again(tx: Transaction, debit_id: str, rules: DebitRules, refusal: Refusal) -> None:
    """Schedule the next recovery, if there is one, after one was refused or undone."""
    debit = debit_row(tx, debit_id)
    if debit.state != DebitState.DEBT:
        return
    again = recovery_after_s(rules, refusal, tries=debit.retries, amount_fen=debit.amount)
    tx.update(tables.debit, {"id": debit.id}, retry_at=None if again is None else tx.now_us + again * 1_000_000)


def not_tried(tx: Transaction, debit_id: str, rules: DebitRules) -> None:
    """Schedule a recovery a little later: the link was down, and the try does not count."""
    debit = debit_row(tx, debit_id)
    pause_us = int(rules.retry.recovery.max_pause_s * 1e6)
    tx.update(tables.debit, {"id": debit.id}, retries=debit.retries - 1, retry_at=tx.now_us + pause_us)


def without_bank(tx: Transaction, debit: Row) -> None:
    """Stop the tries until a person asks for one: no contract, or no message of its bank can carry it."""
    tx.update(tables.debit, {"id": debit.id}, retry_at=None)
    add_item(tx, WITHOUT_BANK, debit.id, "no bank can be asked for this debt", amount=debit.amount)


def recovered(
    tx: Transaction,
    debit: Row,
    source: tuple[AccountKind, str],
    rules: DebitRules,
    *,
    event: str,
    attempt_id: str | None = None,
) -> None:
    """Post source -> debt: the debt is paid."""
    tx.books.move(
        event,
        debit.id,
        source=source,
        target=(AccountKind.DEBT, debit.obligor_id),
        amount=debit.amount,
        event_us=tx.now_us,
        attempt_id=attempt_id,
    )
    set_debit(tx, debit, DebitState.RECOVERED, collected=debit.amount, retry_at=None)
    for kind in (WRITE_OFF, WITHOUT_BANK):
        close_item(tx, kind, debit.id, note="the debt was paid")
    keep_list(tx, debit.obligor_id, rules)


def pay_at_till(tx: Transaction, debit_id: str, till: str, actor: str, rules: DebitRules) -> str | None:
    """Pay a debt in cash: None, or the code of the reason why not."""
    debit = debit_row(tx, debit_id)
    if debit.state != DebitState.DEBT:
        return "not_a_debt"
    if in_doubt(tx, debit_id):
        return "bank_in_doubt"
    recovered(tx, debit, (AccountKind.TILL, till), rules, event="debt_paid_at_till")
    tx.note("person", debit.id, "paid_at_till", debit_id=debit.id, detail=till, actor=actor)
    return None


def retry_now(tx: Transaction, debit_id: str, actor: str) -> str | None:
    """Have a debt tried again at once, whatever the schedule says: None, or the code of the reason why not."""
    debit = debit_row(tx, debit_id)
    if debit.state != DebitState.DEBT:
        return "not_a_debt"
    if debit.contract_ref is None:
        return "debt_without_bank"
    if in_doubt(tx, debit_id):
        return "bank_in_doubt"
    tx.update(tables.debit, {"id": debit.id}, retry_at=tx.now_us)
    tx.note("person", debit.id, "retry_asked", debit_id=debit.id, actor=actor)
    return None


def write_off(tx: Transaction, debit_id: str, actor: str, reason: str, rules: DebitRules) -> str | None:
    """Post loss -> debt, once two people agree (one where the rules say so): None when done, else a code."""
    debit = debit_row(tx, debit_id)
    if debit.state != DebitState.DEBT:
        return "not_a_debt"
    if in_doubt(tx, debit_id):
        return "bank_in_doubt"
    if rules.debt.four_eyes and not agreed(tx, WRITE_OFF, debit, amount=debit.amount, actor=actor, reason=reason):
        return "item_needs_second"
    proposed = tx.find(tables.item, kind=WRITE_OFF, ref=debit.id)
    tx.books.move(
        "written_off",
        debit.id,
        source=(AccountKind.LOSS, debit.merchant),
        target=(AccountKind.DEBT, debit.obligor_id),
        amount=debit.amount,
        event_us=tx.now_us,
    )
    set_debit(tx, debit, DebitState.WRITTEN_OFF, detail=reason[:400], retry_at=None)
    if proposed is not None and proposed.state == ItemState.OPEN:
        # An item says "written off" of two people only; where the rules let one do it, its proposal is merely over.
        two = are_two(proposed.actor, actor)
        if two:
            tx.update(tables.item, {"id": proposed.id}, second_actor=actor)
        state = ItemState.WRITTEN_OFF if two else ItemState.CORRECTED
        close_item(tx, WRITE_OFF, debit.id, state, note=reason, actor=proposed.actor)
    close_item(tx, WITHOUT_BANK, debit.id, note="the debt was written off", actor=actor)
    tx.note("person", debit.id, "written_off", debit_id=debit.id, detail=reason[:400], actor=actor)
    keep_list(tx, debit.obligor_id, rules)
    return None


def keep_list(tx: Transaction, obligor_id: str, rules: DebitRules) -> None:
    """Put a payer on the box's own list, or take it off, by its debts as they are now."""
    obligor = tx.find(tables.obligor, id=obligor_id)
    if obligor is None:
        return
    debts = tx.rows(_DEBTS, obligor=obligor_id)[0]
    age_s = 0.0 if debts.oldest is None else (tx.now_us - debts.oldest) / 1e6
    was = obligor.listed_at is not None
    listed = is_listed(rules, was_listed=was, debts_fen=debts.fen, debts_count=debts.count, oldest_age_s=age_s)
    if listed != was:
        tx.update(tables.obligor, {"id": obligor_id}, listed_at=tx.now_us if listed else None)
        tx.note("obligor", obligor_id, "listed" if listed else "unlisted", detail=f"debts {debts.fen} fen")


def _next_try(tx: Transaction, debit: Row, rules: DebitRules, refusal: Refusal) -> int | None:
    again = recovery_after_s(rules, refusal, tries=0, amount_fen=debit.amount)
    return None if again is None else tx.now_us + again * 1_000_000
