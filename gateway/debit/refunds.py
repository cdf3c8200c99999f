"""Refunds and adjustments: always new, linked transfers, never an edit.

A refund is decided here (merchant -> due_back) and paid when its target has taken it (due_back -> bank, issuer or
till). All refunds of a debit together never exceed what was collected for it.
"""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import bindparam, select

from gateway.debit.debts import keep_list
from gateway.debit.dual_control import agreed
from gateway.debit.states import (
    add_item,
    add_refund,
    close_item,
    debit_row,
    has_open_item,
    in_doubt,
    set_debit,
    set_refund,
)
from gateway.ledger import tables
from gateway.ledger.books import AccountKind
from gateway.ledger.statements import Row
from gateway.ledger.transaction import Transaction
from gateway.model.ids import digest_of
from gateway.model.passage import Funding
from gateway.model.states import LET_GO_DEBITS, DebitState, RefundState
from gateway.rules.loading import DebitRules

TARGETS = {"bank": AccountKind.BANK, "issuer": AccountKind.ISSUER, "till": AccountKind.TILL}

DECLINED = "refund_declined"
"""Kind of the item of a refund that its bank will not pay."""

PROPOSED = "refund_proposed"
"""Kind of the item of a refund that waits for a second person."""

_RELEASED = select(tables.transfer.c.id).where(
    tables.transfer.c.debit_id == bindparam("debit"), tables.transfer.c.event == "released"
)
_PAID_AT_TILL = select(tables.transfer.c.id).where(
    tables.transfer.c.debit_id == bindparam("debit"), tables.transfer.c.event == "debt_paid_at_till"
)
_UNTOLD = select(tables.refund).where(
    tables.refund.c.debit_id == bindparam("debit"),
    tables.refund.c.target == "bank",
    tables.refund.c.state == RefundState.DECIDED,
    tables.refund.c.attempt_id.is_(None),
)
_OF_ATTEMPT = select(tables.refund).where(
    tables.refund.c.debit_id == bindparam("debit"), tables.refund.c.attempt_id == bindparam("attempt")
)


@dataclass(frozen=True, slots=True)
class RefundRequest:
    """Pay back `amount_fen` of a debit. Same key and same content is the same refund."""

    idempotency_key: str
    debit_id: str
    amount_fen: int
    reason: str
    actor: str
    target: str | None = None
    """Target of the money: `till`, or its source (`bank`, `issuer`), which None stands for."""

    @property
    def content_hash(self) -> str:
        """Digest of what must not differ between two requests with one key."""
        return digest_of(self.debit_id, self.amount_fen, self.target)


@dataclass(frozen=True, slots=True)
class Refunded:
    """Refund as it stands."""

    refund_id: str
    debit_id: str
    amount_fen: int
    target: str
    state: RefundState
    replayed: bool


@dataclass(frozen=True, slots=True)
class RefundRefused:
    """Refusal of a refund: `reason` is a code of `gateway.model.reasons`."""

    reason: str


def decide_refund(tx: Transaction, request: RefundRequest, refund_id: str) -> Refunded | RefundRefused:
    """Post merchant -> due_back, or say why not. The bank is told by an attempt of its own, an issuer by clearing."""
    known = tx.find(tables.refund, idempotency_key=request.idempotency_key)
    if known is not None:
        if known.content_hash != request.content_hash:
            return RefundRefused("idempotency_conflict")
        return Refunded(known.id, known.debit_id, known.amount, known.target, RefundState(known.state), replayed=True)
    debit = tx.find(tables.debit, id=request.debit_id)
    if debit is None:
        return RefundRefused("debit_unknown")
    refused = _refusal(tx, request, debit)
    if refused is not None:
        return RefundRefused(refused)
    target = request.target or _where_it_came_from(tx, debit)
    tx.books.move(
        "refund_decided",
        debit.id,
        source=(AccountKind.MERCHANT, debit.merchant),
        target=(AccountKind.DUE_BACK, debit.obligor_id),
        amount=request.amount_fen,
        event_us=tx.now_us,
        original_id=_released(tx, debit.id),
        reference=refund_id,
    )
    tx.update(tables.debit, {"id": debit.id}, refunded=debit.refunded + request.amount_fen)
    add_refund(
        tx,
        refund_id,
        debit_id=debit.id,
        detail=request.reason[:400],
        by=request.actor,
        idempotency_key=request.idempotency_key,
        content_hash=request.content_hash,
        amount=request.amount_fen,
        reason=request.reason[:200],
        target=target,
    )
    return Refunded(refund_id, debit.id, request.amount_fen, target, RefundState.DECIDED, replayed=False)


def ask_refund(tx: Transaction, request: RefundRequest, refund_id: str, rules: DebitRules) -> Refunded | RefundRefused:
    """Decide a refund for a person: above the rules' limit another one must have asked for the same before.

    The first is told `item_needs_second`, and what was asked for is put before somebody else.
    """
    alone = rules.refund.second_person_above_fen
    known = tx.find(tables.refund, idempotency_key=request.idempotency_key) is not None
    debit = tx.find(tables.debit, id=request.debit_id)
    if known or debit is None or alone is None or request.amount_fen <= alone:
        return decide_refund(tx, request, refund_id)
    refused = _refusal(tx, request, debit)
    if refused is not None:
        return RefundRefused(refused)
    proposed = agreed(tx, PROPOSED, debit, amount=request.amount_fen, actor=request.actor, reason=request.reason)
    if proposed is None:
        return RefundRefused("item_needs_second")
    tx.update(tables.item, {"id": proposed.id}, second_actor=request.actor)
    close_item(tx, PROPOSED, debit.id, note=request.reason, actor=proposed.actor)
    return decide_refund(tx, request, refund_id)


def _refusal(tx: Transaction, request: RefundRequest, debit: Row) -> str | None:
    """Code of the reason why this must not be paid back, or None."""
    if request.amount_fen <= 0 or request.amount_fen > debit.collected - debit.refunded:
        return "refund_above_collected"
    if in_doubt(tx, debit.id):
        return "bank_in_doubt"
    if request.target not in (None, "till", _where_it_came_from(tx, debit)):
        return "refund_target_wrong"
    return None


def _where_it_came_from(tx: Transaction, debit: Row) -> str:
    if tx.first(_PAID_AT_TILL, debit=debit.id) is not None:
        return "till"
    return {Funding.BANK_ONLINE: "bank", Funding.CASH: "till"}.get(Funding(debit.funding), "issuer")


def refund_row(tx: Transaction, refund_id: str) -> Row:
    """Read one refund as it stands in this transaction."""
    refund = tx.find(tables.refund, id=refund_id)
    if refund is None:
        raise LookupError(f"the ledger has no refund {refund_id}")
    return refund


def untold(tx: Transaction, debit_id: str) -> list[Row]:
    """Find refunds of a debit that its bank has not been told of."""
    return tx.rows(_UNTOLD, debit=debit_id)


def pay_refund(tx: Transaction, refund_id: str, *, payer: str | None = None, attempt_id: str | None = None) -> bool:
    """Post due_back -> bank, issuer or till: the target has taken it. False when it was paid before.

    `payer` is the account's owner where it is not the debit's own payer: the name of the till.
    """
    refund = refund_row(tx, refund_id)
    if refund.state == RefundState.PAID:
        return False
    debit = debit_row(tx, refund.debit_id)
    tx.books.move(
        "refund_paid",
        debit.id,
        source=(AccountKind.DUE_BACK, debit.obligor_id),
        target=(TARGETS[refund.target], payer or debit.payer),
        amount=refund.amount,
        event_us=tx.now_us,
        attempt_id=attempt_id,
        reference=refund.id,
    )
    set_refund(tx, refund, RefundState.PAID, detail=refund.target)
    close_item(tx, DECLINED, refund.id, note="the refund was paid")
    return True


def of_attempt(tx: Transaction, attempt: Row) -> Row:
    """Refund that an attempt tells the bank of."""
    return tx.rows(_OF_ATTEMPT, debit=attempt.debit_id, attempt=attempt.id)[0]


def tell_anew(tx: Transaction, attempt: Row) -> None:
    """Tell the bank anew of a refund it never had, under other keys, unless it had refused it and people see to it."""
    refund = of_attempt(tx, attempt)
    if not has_open_item(tx, DECLINED, refund.id):
        tx.update(tables.refund, {"id": refund.id}, attempt_id=None, changed_at=tx.now_us)


def withdrawn(tx: Transaction, attempt: Row) -> None:
    """Post bank -> due_back: the bank has paid out nothing after all, and a person finds another way."""
    refund = of_attempt(tx, attempt)
    debit = debit_row(tx, refund.debit_id)
    tx.books.move(
        "approval_withdrawn",
        debit.id,
        source=(AccountKind.BANK, attempt.channel),
        target=(AccountKind.DUE_BACK, debit.obligor_id),
        amount=refund.amount,
        event_us=tx.now_us,
        attempt_id=attempt.id,
        reference=refund.id,
    )
    set_refund(tx, refund, RefundState.DECIDED, detail="the bank has not paid it")
    note = "the bank approved it and has not paid it"
    add_item(tx, DECLINED, debit.id, note, ref=refund.id, amount=refund.amount, again=True)


def answered(tx: Transaction, attempt: Row, *, approved: bool, code: str | None) -> None:
    """Book the bank's answer to a refund. One it refuses stays due, and a person finds another way to pay it."""
    refund = of_attempt(tx, attempt)
    if approved:
        pay_refund(tx, refund.id, attempt_id=attempt.id)
    else:
        add_item(tx, DECLINED, refund.debit_id, f"the bank refused it: {code}", ref=refund.id, amount=refund.amount)


def pay_at_till(tx: Transaction, refund_id: str, till: str, actor: str) -> str | None:
    """Pay a decided refund in cash: None when done, else the code of the reason why not."""
    refund = tx.find(tables.refund, id=refund_id)
    if refund is None:
        return "refund_unknown"
    if refund.state == RefundState.PAID:
        return "refund_paid_before"
    if refund.attempt_id is not None and in_doubt(tx, refund.debit_id):
        return "bank_in_doubt"
    tx.update(tables.refund, {"id": refund_id}, target="till")
    pay_refund(tx, refund_id, payer=till)
    tx.note("person", refund_id, "paid_at_till", debit_id=refund.debit_id, detail=till, actor=actor)
    return None


def adjust(
    tx: Transaction, debit_id: str, amount_fen: int, reason: str, *, actor: str, rules: DebitRules
) -> str | None:
    """Adjust an unpaid claim by a linked transfer of the difference. None when done, else a code.

    A claim that is paid is put right by a refund, or by a debit of its own for what is missing.
    """
    if amount_fen < 0:
        raise ValueError(f"a claim of {amount_fen} fen: amounts are never negative")
    debit = tx.find(tables.debit, id=debit_id)
    if debit is None:
        return "debit_unknown"
    if debit.state == DebitState.HELD:
        return "debit_held"
    if debit.state not in (*LET_GO_DEBITS, DebitState.DEBT):
        return "debit_settled"
    if in_doubt(tx, debit_id):
        return "bank_in_doubt"
    difference = amount_fen - debit.amount
    if difference == 0:
        return None
    owed = (AccountKind.DEBT if debit.state == DebitState.DEBT else AccountKind.OPEN, debit.obligor_id)
    merchant = (AccountKind.MERCHANT, debit.merchant)
    tx.books.move(
        "correction",
        debit.id,
        source=owed if difference > 0 else merchant,
        target=merchant if difference > 0 else owed,
        amount=abs(difference),
        event_us=tx.now_us,
        original_id=_released(tx, debit.id),
    )
    tx.update(tables.debit, {"id": debit.id}, amount=amount_fen, changed_at=tx.now_us)
    detail = f"{debit.amount} -> {amount_fen} fen: {reason}"[:400]
    tx.note("person", debit.id, "adjusted", debit_id=debit.id, detail=detail, actor=actor)
    if amount_fen == 0 and debit.state != DebitState.RELEASED:
        # Nothing is left to collect: a bank is never asked for nothing. An issuer's claim ends with its clearing.
        over = DebitState.RECOVERED if debit.state == DebitState.DEBT else DebitState.FUNDED
        set_debit(tx, debit, over, detail="corrected to nothing", retry_at=None)
    if debit.state == DebitState.DEBT:
        keep_list(tx, debit.obligor_id, rules)
    return None


def _released(tx: Transaction, debit_id: str) -> int | None:
    found = tx.first(_RELEASED, debit=debit_id)
    return None if found is None else found.id
