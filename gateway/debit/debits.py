"""Changes on debits: place a hold, and conclude a passage by the decision table.

States: `held -> released | owed | funded | debt | voided`, `owed -> funded | debt`. A hold behind a purchase that was
asked for never ends by time: only the card's answer, its file 0019, or a person ends it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from sqlalchemy import bindparam, func, select

from gateway.banks.channel import BankAnswer, Delivery
from gateway.debit import attempts, purchases
from gateway.debit.claims import (
    Decision,
    DecisionContext,
    HoldPlaced,
    HoldRefused,
    HoldRequest,
    PurchaseResult,
    Sight,
)
from gateway.ledger import tables
from gateway.ledger.books import AccountKind
from gateway.ledger.statements import Row
from gateway.ledger.transaction import Transaction
from gateway.model.ids import digest_of
from gateway.model.passage import (
    BankOutcome,
    Barrier,
    DeclinePolicy,
    Funding,
    Money,
    Outcome,
    PurchaseOutcome,
    Verdict,
    decide,
)
from gateway.model.reasons import REASONS

_OWED = select(func.coalesce(func.sum(tables.debit.c.amount), 0).label("owed")).where(
    tables.debit.c.obligor_id == bindparam("obligor"), tables.debit.c.state == "owed"
)

_LAST_PURCHASE = (
    select(tables.purchase.c.id)
    .where(tables.purchase.c.debit_id == bindparam("debit"))
    .order_by(tables.purchase.c.attempt_no.desc())
    .limit(1)
)

NOBODY_LISTENED = BankAnswer(Delivery.SILENT, detail="not answered before whoever asked was gone")


@dataclass(frozen=True, slots=True)
class NewIds:
    """Identifiers born outside the transaction, so that running it twice stores the same."""

    debit: str
    purchase: str
    subject: str
    obligor: str


@dataclass(frozen=True, slots=True)
class Conclusion:
    """Everything the decision table needs for one passage."""

    debit_id: str
    context: DecisionContext
    decline_policy: DeclinePolicy
    stand_in_limit_fen: int
    purchase_id: str | None = None
    result: PurchaseResult | None = None
    card_number: str | None = None
    bank: BankAnswer | None = None
    """The answer to the debit's sale, or its absence; None when this caller did not ask."""


def place_hold(tx: Transaction, request: HoldRequest, ids: NewIds) -> HoldPlaced | HoldRefused:
    """Reserve the amount and store the purchase's intent, or say why not. Idempotent by the request's key."""
    known = tx.find(tables.debit, idempotency_key=request.idempotency_key)
    if known is not None:
        return _replay(tx, known, request)
    card = request.sight.identity.card_number
    if request.plan is not None and card is not None and purchases.has_open_purchase(tx, card):
        return HoldRefused("purchase_open")
    payer = request.payer
    obligor = _obligor(tx, request, ids.obligor)
    if payer.limit_fen is not None and exposure(tx, obligor) + request.amount_fen > payer.limit_fen:
        return HoldRefused("limit_exceeded")
    _store_sight(tx, request.sight, ids.subject)
    _insert_debit(tx, request, ids.debit, obligor)
    if request.plan is not None:
        purchases.store_intent(
            tx,
            purchase_id=ids.purchase,
            passage_id=request.sight.passage_id,
            debit_id=ids.debit,
            attempt_no=1,
            plan=request.plan,
        )
    return HoldPlaced(ids.debit, ids.purchase if request.plan is not None else None, replayed=False)


def exposure(tx: Transaction, obligor: str) -> int:
    """Fen the obligor owes or has reserved: holds + |open| + |debt|. What is due back never lowers it."""
    books = tx.books
    return (
        books.held(AccountKind.OPEN, obligor)
        - books.balance(AccountKind.OPEN, obligor)
        - books.balance(AccountKind.DEBT, obligor)
    )


def conclude(tx: Transaction, conclusion: Conclusion) -> Decision:
    """Store what is known, apply the decision table, move the money, write the decision. Safe to repeat."""
    debit = attempts.debit_row(tx, conclusion.debit_id)
    outcome = _purchase_outcome(tx, conclusion)
    if debit.state != "held":
        if debit.state == "voided" and outcome is PurchaseOutcome.TAKEN:
            purchases.add_item(tx, "taken_after_void", debit.id, "the card paid a claim that was let go")
        return _newest_decision(tx, debit.passage_id)
    sale = attempts.sale_of(tx, debit.id) if _bank_counts(debit, outcome) else None
    bank = _bank_outcome(tx, sale, conclusion) if _bank_counts(debit, outcome) else None
    owed = _owed(tx, debit.obligor_id)
    verdict = decide(
        outcome,
        Funding(debit.funding),
        bank,
        decline_policy=conclusion.decline_policy,
        stand_in_allowed=owed + debit.amount <= conclusion.stand_in_limit_fen,
    )
    if outcome is not PurchaseOutcome.TAKEN and conclusion.result is not None and conclusion.result.reason is not None:
        verdict = replace(verdict, reason=conclusion.result.reason)
    _apply(tx, debit, verdict, sale)
    if outcome is PurchaseOutcome.TAKEN and not purchases.proved(tx, debit.id):
        purchases.add_item(tx, "charged_without_tac", debit.id, "the card paid, its proof could not be fetched")
    if outcome is PurchaseOutcome.DISPUTED:
        purchases.add_item(tx, "disputed_purchase", debit.id, "file 0019 is neither as read nor as written")
    return write_decision(tx, verdict, conclusion.context, debit.passage_id, debit)


def give_up(tx: Transaction, conclusion: Conclusion) -> Decision | None:
    """Void a hold nobody waits for, unless somebody has begun to work with it; None then.

    Between the hold and this change its vehicle may have been seen again: a later purchase or a sale of this debit is
    under way, and it ends the hold.
    """
    debit = attempts.debit_row(tx, conclusion.debit_id)
    newest = purchases.newest_of_debit(tx, debit.id)
    asked = newest is not None and (newest.id != conclusion.purchase_id or newest.state != "intent")
    if debit.state != "held" or asked or attempts.sale_of(tx, debit.id) is not None:
        return None
    return conclude(tx, conclusion)


def refuse(
    tx: Transaction, sight: Sight, subject_id: str, *, reason: str, barrier: Barrier, context: DecisionContext
) -> Decision:
    """A passage that never became a claim: recorded with its reason."""
    _store_sight(tx, sight, subject_id)
    verdict = Verdict(barrier, Money.NONE, Outcome.REFUSED, reason)
    return write_decision(tx, verdict, context, sight.passage_id, None)


def admit(tx: Transaction, sight: Sight, subject_id: str, context: DecisionContext) -> Decision:
    """An entry that stands on the card: recorded, and nothing owed yet."""
    _store_sight(tx, sight, subject_id)
    verdict = Verdict(Barrier.OPEN, Money.NONE, Outcome.ENTERED, None)
    return write_decision(tx, verdict, context, sight.passage_id, None)


def repeat_entry(tx: Transaction, passage_id: str, context: DecisionContext) -> Decision:
    """A vehicle whose entry is recorded is still there."""
    verdict = Verdict(Barrier.OPEN, Money.NONE, Outcome.REPEAT, "already_charged")
    return write_decision(tx, verdict, context, passage_id, None)


def repeat(tx: Transaction, passage_id: str, debit_id: str, barrier: Barrier, context: DecisionContext) -> Decision:
    """A vehicle that was dealt with is still there: the barrier as decided before, and nothing charged."""
    verdict = Verdict(barrier, Money.NONE, Outcome.REPEAT, "already_charged")
    return write_decision(tx, verdict, context, passage_id, attempts.debit_row(tx, debit_id), amount=0)


def write_decision(
    tx: Transaction,
    verdict: Verdict,
    context: DecisionContext,
    passage_id: str,
    debit: Row | None,
    *,
    amount: int | None = None,
) -> Decision:
    """The immutable row that barrier and display follow."""
    charged = amount if amount is not None else debit.amount if debit is not None else 0
    record_no = tx.insert_chained(
        tables.decision,
        passage_id=passage_id,
        debit_id=None if debit is None else debit.id,
        charge_point=context.charge_point,
        barrier=verdict.barrier.value,
        outcome=verdict.outcome.value,
        reason=verdict.reason,
        special_event=None if verdict.reason is None else REASONS[verdict.reason].special_event,
        funding=None if debit is None else debit.funding,
        amount=charged,
        recovered=int(context.recovered),
        decided_at=tx.now_us,
        tariff_version=context.tariff_version,
        list_version=context.list_version,
        list_age_s=context.list_age_s,
        rules_version=context.rules_version,
    )
    return Decision(
        record_no=record_no,
        passage_id=passage_id,
        debit_id=None if debit is None else debit.id,
        barrier=verdict.barrier,
        outcome=verdict.outcome,
        reason=verdict.reason,
        amount_fen=charged,
        funding=None if debit is None else Funding(debit.funding),
    )


def _purchase_outcome(tx: Transaction, conclusion: Conclusion) -> PurchaseOutcome:
    """What the ledger holds for true after this answer: the first end of a purchase stands.

    The debit's newest purchase counts, whichever the answer was about: what is known of an earlier one says nothing
    about the one that is under way.
    """
    if conclusion.purchase_id is None:
        return PurchaseOutcome.NONE if conclusion.result is None else conclusion.result.outcome
    if conclusion.result is not None:
        purchases.store_result(tx, conclusion.purchase_id, conclusion.result, conclusion.card_number)
    newest = purchases.newest_of_debit(tx, conclusion.debit_id)
    if newest is None:
        raise ValueError(f"purchase {conclusion.purchase_id} is none of debit {conclusion.debit_id}")
    return PurchaseOutcome.UNKNOWN if newest.state == "intent" else PurchaseOutcome(newest.state)


def _bank_counts(debit: Row, purchase: PurchaseOutcome) -> bool:
    return debit.funding == Funding.BANK_ONLINE and purchase in (PurchaseOutcome.TAKEN, PurchaseOutcome.NONE)


def _bank_outcome(tx: Transaction, sale: Row | None, conclusion: Conclusion) -> BankOutcome:
    """How far the bank was heard. A sale whose asker did not live to tell is one without an answer."""
    if sale is None:
        return BankOutcome.NOT_SENT
    row = attempts.settle_answer(tx, sale.id, conclusion.bank or NOBODY_LISTENED)
    known = {
        "approved": BankOutcome.APPROVED,
        "declined": BankOutcome.DECLINED,
        "not_sent": BankOutcome.NOT_SENT,
    }
    return known.get(row.state, BankOutcome.SILENT)


def _apply(tx: Transaction, debit: Row, verdict: Verdict, sale: Row | None) -> None:
    """Move the money as the verdict says. A hold that stays moves nothing."""
    if verdict.money is Money.HOLD_STAYS:
        return
    if verdict.money is Money.VOID:
        tx.books.void(debit.hold_id, "refused", event_us=tx.now_us)
        attempts.set_debit(tx, debit.id, "voided")
        return
    tx.books.post(debit.hold_id, "released", event_us=tx.now_us)
    if verdict.money is Money.ISSUER_PAYS:
        tx.books.move(
            "purse_paid",
            debit.id,
            source=(AccountKind.ISSUER, debit.payer),
            target=(AccountKind.OPEN, debit.obligor_id),
            amount=debit.amount,
            event_us=tx.now_us,
        )
        attempts.set_debit(tx, debit.id, "funded")
    elif verdict.money is Money.KEEP_OPEN:
        attempts.set_debit(tx, debit.id, "released")
    elif verdict.money is Money.OWED:
        attempts.set_debit(tx, debit.id, "owed", stood_in=1)
    elif verdict.money is Money.DEBT:
        attempts.to_debt(tx, debit.id)
    elif verdict.money is Money.BANK_PAYS:
        if sale is None:
            raise RuntimeError("the bank paid without an attempt")
        attempts.fund_by_bank(tx, sale)


def _owed(tx: Transaction, obligor: str) -> int:
    """Fen the obligor owes on our own decision."""
    return int(tx.rows(_OWED, obligor=obligor)[0].owed)


def _newest_decision(tx: Transaction, passage_id: str) -> Decision:
    row = tx.rows(purchases.NEWEST_DECISION, passage=passage_id)[0]
    return Decision(
        record_no=row.record_no,
        passage_id=row.passage_id,
        debit_id=row.debit_id,
        barrier=Barrier(row.barrier),
        outcome=Outcome(row.outcome),
        reason=row.reason,
        amount_fen=row.amount,
        funding=None if row.funding is None else Funding(row.funding),
    )


def _replay(tx: Transaction, known: Row, request: HoldRequest) -> HoldPlaced | HoldRefused:
    if known.content_hash != request.content_hash:
        return HoldRefused("idempotency_conflict")
    purchase = tx.first(_LAST_PURCHASE, debit=known.id)
    return HoldPlaced(known.id, None if purchase is None else purchase.id, replayed=True)


def _obligor(tx: Transaction, request: HoldRequest, new_id: str) -> str:
    """Who owes: the mandate, else the plate with its colour, else the card or tag that was read."""
    mandate, identity = request.payer.mandate_id, request.sight.identity
    if mandate is not None:
        values = {"mandate_id": mandate}
    elif identity.plate:
        values = {"subject_key": digest_of("plate", identity.plate, identity.plate_colour)}
    else:
        key = digest_of("credential", identity.card_number, identity.contract, identity.obu_id)
        values = {"subject_key": key}
    found = tx.find(tables.obligor, **values)
    if found is not None:
        return str(found.id)
    tx.insert(tables.obligor, id=new_id, **values)
    return new_id


def _store_sight(tx: Transaction, sight: Sight, subject_id: str) -> None:
    identity = sight.identity
    tx.insert(
        tables.subject,
        id=subject_id,
        obu_id=None if identity.obu_id is None else identity.obu_id.hex(),
        contract=identity.contract,
        card_number=identity.card_number,
        plate=identity.plate,
        plate_colour=identity.plate_colour,
    )
    tx.insert(
        tables.passage,
        id=sight.passage_id,
        charge_point=sight.charge_point,
        service=sight.service.value,
        subject_id=subject_id,
        device_type=identity.device_type,
        vehicle_class=identity.vehicle_class,
        opened_at=sight.opened_at,
        clock_quality=sight.clock_quality,
    )


def _insert_debit(tx: Transaction, request: HoldRequest, debit_id: str, obligor: str) -> None:
    """The claim and the pending transfer behind it. They name each other: the claim is told its hold afterwards."""
    payer = request.payer
    tx.insert(
        tables.debit,
        id=debit_id,
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
        state="held",
        hold_id=0,
        created_at=tx.now_us,
        changed_at=tx.now_us,
    )
    hold_id = tx.books.hold(
        "hold",
        debit_id,
        source=(AccountKind.OPEN, obligor),
        target=(AccountKind.MERCHANT, request.merchant),
        amount=request.amount_fen,
        event_us=request.sight.opened_at,
    )
    attempts.set_debit(tx, debit_id, "held", hold_id=hold_id)
