"""Holds: reserve an amount, charge at once, and complete, release or expire what is reserved. Idempotent by key.

A hold behind a purchase that was asked for never ends by time: only the card's answer, its file 0019, or a person ends
it (`gateway.debit.conclusions`).
"""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import bindparam, select

from gateway.debit import attempts, limits, purchases
from gateway.debit.attempts import Asking
from gateway.debit.claims import BankRequest, Decision, DecisionContext, HoldPlaced, HoldRefused, HoldRequest, Payer
from gateway.debit.decisions import decision_of, newest_decision, refuse, store_sight, write_decision
from gateway.debit.states import add_debit, debit_row, set_debit
from gateway.ledger import tables
from gateway.ledger.books import AccountKind
from gateway.ledger.statements import Row
from gateway.ledger.transaction import Transaction
from gateway.model.ids import digest_of
from gateway.model.passage import DecisionRow, Funding, Money, PassageOutcome, Release
from gateway.model.states import DebitState
from gateway.rules.judge import ListingEffect, listing_effect
from gateway.rules.loading import DebitRules

_LAST_PURCHASE = (
    select(tables.purchase.c.id)
    .where(tables.purchase.c.debit_id == bindparam("debit"))
    .order_by(tables.purchase.c.attempt_no.desc())
    .limit(1)
)
_ISSUER_OWES = DecisionRow(Release.GO, Money.KEEP_OPEN, PassageOutcome.PAID, None)


@dataclass(frozen=True, slots=True)
class NewIds:
    """New identifiers, made outside the transaction, so that running it twice stores the same."""

    debit: str
    purchase: str
    obligor: str


@dataclass(frozen=True, slots=True)
class Begun:
    """Charge under way: its claim stands, and the bank is asked next where there is a request."""

    debit_id: str
    request: BankRequest | None


def place_hold(tx: Transaction, request: HoldRequest, ids: NewIds, rules: DebitRules) -> HoldPlaced | HoldRefused:
    """Reserve the amount and store the purchase's intent, or say why not. Idempotent by the request's key."""
    known = tx.find(tables.debit, idempotency_key=request.idempotency_key)
    if known is not None:
        return _replay(tx, known, request)
    earlier = tx.find(tables.refusal, idempotency_key=request.idempotency_key)
    if earlier is not None:
        return _replay_refused(tx, earlier, request)
    identity = request.sight.identity
    if request.plan is not None and purchases.has_open_purchase(tx, identity.card_number, identity.obu_id):
        return HoldRefused("purchase_open")
    obligor = _obligor(tx, request, ids.obligor)
    refused = limits.problem(tx, request, obligor.id, obligor.listed, rules)
    if refused is not None:
        return HoldRefused(refused)
    store_sight(tx, request.sight)
    _insert_debit(tx, request, ids.debit, obligor.id)
    if request.plan is not None:
        purchases.store_intent(
            tx,
            purchase_id=ids.purchase,
            debit_id=ids.debit,
            attempt_no=1,
            plan=request.plan,
        )
    return HoldPlaced(ids.debit, ids.purchase if request.plan is not None else None, replayed=False)


def hold_and_ask(
    tx: Transaction, request: HoldRequest, ids: NewIds, *, asking: Asking | None, rules: DebitRules
) -> Begun | HoldRefused:
    """Store the hold of a claim without a purchase and its bank's request in one change; a refusal is not recorded."""
    placed = place_hold(tx, request, ids, rules)
    return placed if isinstance(placed, HoldRefused) else _ask_bank(tx, placed.debit_id, asking)


def begin_charge(
    tx: Transaction,
    request: HoldRequest,
    ids: NewIds,
    *,
    context: DecisionContext,
    asking: Asking | None,
    rules: DebitRules,
) -> Begun | Decision | HoldRefused:
    """Claim an amount that needs no purchase on a card.

    An issuer that collects from its customers owes it at once: then this is the whole charge. A bank is asked next;
    its request is stored in the same transaction as the hold.
    """
    known = tx.find(tables.debit, idempotency_key=request.idempotency_key)
    if known is not None:
        return _charge_again(tx, known, request, asking)
    earlier = tx.find(tables.refusal, idempotency_key=request.idempotency_key)
    if earlier is not None:
        return _refused_again(tx, earlier, request)
    obligor = _obligor(tx, request, ids.obligor)
    refused = limits.problem(tx, request, obligor.id, obligor.listed, rules)
    if refused is not None:
        effect = listing_effect(rules, request.sight.service.value)
        to_attendant = refused == "debts_listed" and effect is ListingEffect.ATTENDANT
        release = Release.ATTENDANT if to_attendant else Release.STOP
        return _refuse_charge(tx, request, reason=refused, release=release, context=context)
    store_sight(tx, request.sight)
    if request.payer.funding is Funding.ISSUER_CLEARING:
        return _charge_issuer(tx, request, ids.debit, obligor.id, context)
    _insert_debit(tx, request, ids.debit, obligor.id)
    return _ask_bank(tx, ids.debit, asking)


def complete(
    tx: Transaction, debit_id: str, amount_fen: int, payer: Payer, *, asking: Asking | None, context: DecisionContext
) -> Begun | Decision | HoldRefused:
    """Complete a hold with what was delivered: that amount is claimed now, whatever was reserved.

    Where nothing was delivered the hold is freed: no bank is asked for nothing. An issuer that collects from its
    customers owes the claim at once; a bank is asked next, and a till is not asked. What a card pays is brought in with
    its answer instead (`gateway.debit.delivered`). Another payer than the hold's is refused: what one account reserves
    no other pays.
    """
    debit = tx.find(tables.debit, id=debit_id)
    if debit is None:
        return HoldRefused("debit_unknown")
    if (debit.funding, debit.payer, debit.mandate_id) != (payer.funding, payer.name, payer.mandate_id):
        return HoldRefused("payer_mismatch")
    if debit.funding == Funding.PURSE:
        return HoldRefused("purse_needs_card")
    if purchases.newest_of_debit(tx, debit_id) is not None:
        return HoldRefused("purchase_open")
    if debit.final_amount is not None and debit.final_amount != amount_fen:
        return HoldRefused("idempotency_conflict")
    if debit.state != DebitState.HELD:
        return HoldRefused("debit_settled") if debit.final_amount is None else newest_decision(tx, debit.passage_id)
    debit = claim(tx, debit, amount_fen)
    if amount_fen == 0:
        return _free_unused(tx, debit, "nothing_delivered", context)
    if debit.funding == Funding.ISSUER_CLEARING:
        post_hold(tx, debit)
        set_debit(tx, debit, DebitState.RELEASED)
        return write_decision(tx, _ISSUER_OWES, context, debit.passage_id, debit)
    return _ask_bank(tx, debit_id, None if debit.funding == Funding.CASH else asking)


def claim(tx: Transaction, debit: Row, amount_fen: int) -> Row:
    """Claim what was delivered under a hold, whatever was reserved; the row as it stands then. Once only."""
    if debit.final_amount is not None:
        return debit
    tx.update(tables.debit, {"id": debit.id}, amount=amount_fen, final_amount=amount_fen, changed_at=tx.now_us)
    tx.note("debit", debit.id, "completed", debit_id=debit.id, detail=f"{amount_fen} fen")
    return debit_row(tx, debit.id)


def release(tx: Transaction, debit_id: str, reason: str, context: DecisionContext) -> Decision | HoldRefused:
    """Free a hold under which nothing was delivered."""
    debit = tx.find(tables.debit, id=debit_id)
    if debit is None:
        return HoldRefused("debit_unknown")
    if debit.state == DebitState.VOIDED:
        return newest_decision(tx, debit.passage_id)
    asked = purchases.newest_of_debit(tx, debit_id) is not None or attempts.sale_of(tx, debit_id) is not None
    if debit.state != DebitState.HELD or debit.final_amount is not None or asked:
        return HoldRefused("debit_settled")
    return _free_unused(tx, debit, reason, context)


def expire_hold(tx: Transaction, debit_id: str, context: DecisionContext) -> Decision | None:
    """Free a hold whose time is over and on which nothing was begun; None when anything was."""
    debit = debit_row(tx, debit_id)
    asked = purchases.newest_of_debit(tx, debit_id) is not None or attempts.sale_of(tx, debit_id) is not None
    if debit.state != DebitState.HELD or debit.final_amount is not None or asked:
        return None
    tx.books.expire(debit.hold_id, "expired", event_us=tx.now_us)
    set_debit(tx, debit, DebitState.VOIDED, detail="expired")
    return write_decision(
        tx,
        DecisionRow(Release.STOP, Money.VOID, PassageOutcome.REFUSED, "hold_expired"),
        context,
        debit.passage_id,
        debit,
    )


def post_hold(tx: Transaction, debit: Row) -> None:
    """Post the hold for the amount claimed; what goes beyond it is a transfer of its own, linked and marked."""
    reserved = tx.books.reserved(debit.hold_id)
    posted = tx.books.post(debit.hold_id, "released", amount=min(debit.amount, reserved), event_us=tx.now_us)
    if debit.amount > reserved:
        tx.books.move(
            "overrun",
            debit.id,
            source=(AccountKind.OPEN, debit.obligor_id),
            target=(AccountKind.MERCHANT, debit.merchant),
            amount=debit.amount - reserved,
            event_us=tx.now_us,
            original_id=posted,
        )


def _ask_bank(tx: Transaction, debit_id: str, asking: Asking | None) -> Begun:
    if asking is None:
        return Begun(debit_id, None)
    return Begun(debit_id, attempts.store_sale(tx, asking, debit_row(tx, debit_id)))


def _free_unused(tx: Transaction, debit: Row, reason: str, context: DecisionContext) -> Decision:
    tx.books.void(debit.hold_id, "released_unused", event_us=tx.now_us)
    set_debit(tx, debit, DebitState.VOIDED)
    verdict = DecisionRow(Release.STOP, Money.VOID, PassageOutcome.REFUSED, reason)
    return write_decision(tx, verdict, context, debit.passage_id, debit)


def _charge_issuer(
    tx: Transaction, request: HoldRequest, debit_id: str, obligor: str, context: DecisionContext
) -> Decision:
    hold_id = _insert_debit(tx, request, debit_id, obligor, state=DebitState.RELEASED)
    tx.books.post(hold_id, "released", event_us=tx.now_us)
    return write_decision(
        tx,
        _ISSUER_OWES,
        context,
        request.sight.passage_id,
        None,
        debit_id=debit_id,
        amount=request.amount_fen,
        funding=request.payer.funding,
    )


def _charge_again(
    tx: Transaction, known: Row, request: HoldRequest, asking: Asking | None
) -> Begun | Decision | HoldRefused:
    if known.content_hash != request.content_hash:
        return HoldRefused("idempotency_conflict")
    if known.state != DebitState.HELD:
        return newest_decision(tx, known.passage_id)
    return _ask_bank(tx, known.id, asking)


def _refuse_charge(
    tx: Transaction, request: HoldRequest, *, reason: str, release: Release, context: DecisionContext
) -> Decision:
    decision = refuse(tx, request.sight, reason=reason, release=release, context=context)
    tx.insert(
        tables.refusal,
        idempotency_key=request.idempotency_key,
        content_hash=request.content_hash,
        record_no=decision.record_no,
    )
    return decision


def _refused_again(tx: Transaction, earlier: Row, request: HoldRequest) -> Decision | HoldRefused:
    if earlier.content_hash != request.content_hash:
        return HoldRefused("idempotency_conflict")
    row = tx.find(tables.decision, record_no=earlier.record_no)
    if row is None:
        raise LookupError(f"the ledger has no record {earlier.record_no}")
    return decision_of(row)


def _replay(tx: Transaction, known: Row, request: HoldRequest) -> HoldPlaced | HoldRefused:
    if known.content_hash != request.content_hash:
        return HoldRefused("idempotency_conflict")
    if known.state == DebitState.VOIDED:
        return HoldRefused("hold_expired")
    purchase = tx.first(_LAST_PURCHASE, debit=known.id)
    return HoldPlaced(known.id, None if purchase is None else purchase.id, replayed=True)


def _replay_refused(tx: Transaction, earlier: Row, request: HoldRequest) -> HoldRefused:
    """Refusal of a hold whose key a charge was refused with: its passage is recorded and decided."""
    again = _refused_again(tx, earlier, request)
    if isinstance(again, HoldRefused):
        return again
    if again.reason is None:
        raise ValueError(f"record {again.record_no} refuses and does not say why")
    return HoldRefused(again.reason)


@dataclass(frozen=True, slots=True)
class _Obligor:
    id: str
    listed: bool


def _obligor(tx: Transaction, request: HoldRequest, new_id: str) -> _Obligor:
    """Obligor of a claim: the mandate, else the plate with its colour, else the card, tag or code that was read."""
    mandate, identity = request.payer.mandate_id, request.sight.identity
    if mandate is not None:
        values = {"mandate_id": mandate}
    elif identity.plate:
        values = {"subject_key": digest_of("plate", identity.plate, identity.plate_colour)}
    elif identity.card_number or identity.contract or identity.obu_id:
        key = digest_of("credential", identity.card_number, identity.contract, identity.obu_id)
        values = {"subject_key": key}
    elif identity.code:
        values = {"subject_key": digest_of("code", identity.code)}
    else:
        # Nobody in particular: never the same as anybody else.
        values = {"subject_key": digest_of("unknown", request.sight.passage_id)}
    found = tx.find(tables.obligor, **values)
    if found is not None:
        return _Obligor(found.id, listed=found.listed_at is not None)
    tx.insert(tables.obligor, id=new_id, **values)
    return _Obligor(new_id, listed=False)


def _insert_debit(
    tx: Transaction, request: HoldRequest, debit_id: str, obligor: str, *, state: DebitState = DebitState.HELD
) -> int:
    """Insert the claim and its pending transfer; returns that transfer's number."""
    payer = request.payer
    hold_id = tx.books.hold(
        "hold",
        debit_id,
        source=(AccountKind.OPEN, obligor),
        target=(AccountKind.MERCHANT, request.merchant),
        amount=request.amount_fen,
        event_us=request.sight.opened_at,
    )
    add_debit(
        tx,
        debit_id,
        state,
        idempotency_key=request.idempotency_key,
        content_hash=request.content_hash,
        passage_id=request.sight.passage_id,
        obligor_id=obligor,
        mandate_id=payer.mandate_id,
        merchant=request.merchant,
        service=request.sight.service.value,
        day=request.sight.day,
        funding=payer.funding.value,
        payer=payer.name,
        contract_ref=payer.contract_ref,
        amount=request.amount_fen,
        hold_id=hold_id,
        abandoned=request.abandoned.value,
    )
    return hold_id
