"""Changes on debits: place a hold, charge at once, complete or release a hold, and conclude by the decision table.

A hold behind a purchase that was asked for never ends by time: only the card's answer, its file 0019, or a person ends
it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from sqlalchemy import bindparam, func, select

from gateway.banks.channel import BankAnswer, BankChannel, Delivery
from gateway.debit import attempts, debts, limits, purchases
from gateway.debit.attempts import NewAttempt, Terminals
from gateway.debit.claims import (
    BankRequest,
    Decision,
    DecisionContext,
    HoldPlaced,
    HoldRefused,
    HoldRequest,
    Payer,
    PurchaseResult,
    Sight,
)
from gateway.debit.states import add_item, debit_row, set_debit
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
from gateway.rules.judge import NOT_SENT, SILENT, BankWord, ListingEffect, WordKind, listing_effect, may_stand_in
from gateway.rules.loading import DebitRules

_OWED = select(
    func.coalesce(func.sum(tables.debit.c.amount), 0).label("fen"),
).where(tables.debit.c.obligor_id == bindparam("obligor"), tables.debit.c.state == "owed")
_STOOD_IN_TODAY = select(func.count().label("count")).where(
    tables.debit.c.obligor_id == bindparam("obligor"),
    tables.debit.c.day == bindparam("day"),
    tables.debit.c.service == bindparam("service"),
    tables.debit.c.stood_in == 1,
)
_LAST_PURCHASE = (
    select(tables.purchase.c.id)
    .where(tables.purchase.c.debit_id == bindparam("debit"))
    .order_by(tables.purchase.c.attempt_no.desc())
    .limit(1)
)

_ISSUER_OWES = Verdict(Barrier.OPEN, Money.KEEP_OPEN, Outcome.PAID, None)

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


@dataclass(frozen=True, slots=True)
class Begun:
    """A charge under way: its claim stands, and the bank is asked next where there is a request."""

    debit_id: str
    request: BankRequest | None


@dataclass(frozen=True, slots=True)
class Asking:
    """How a bank would be asked for a debit, when there is time for it."""

    channel: BankChannel
    terminals: Terminals
    new: NewAttempt


def place_hold(tx: Transaction, request: HoldRequest, ids: NewIds, rules: DebitRules) -> HoldPlaced | HoldRefused:
    """Reserve the amount and store the purchase's intent, or say why not. Idempotent by the request's key."""
    known = _known(tx, request.idempotency_key)
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
    _store_sight(tx, request.sight, ids.subject)
    _insert_debit(tx, request, ids.debit, obligor.id)
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
    known = _known(tx, request.idempotency_key)
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
        barrier = Barrier.ATTENDANT if to_attendant else Barrier.CLOSED
        return _refuse_charge(tx, request, ids.subject, reason=refused, barrier=barrier, context=context)
    _store_sight(tx, request.sight, ids.subject)
    if request.payer.funding is Funding.ISSUER_CLEARING:
        return _charge_issuer(tx, request, ids.debit, obligor.id, context)
    _insert_debit(tx, request, ids.debit, obligor.id)
    return _ask_bank(tx, ids.debit, asking)


def complete(
    tx: Transaction, debit_id: str, amount_fen: int, payer: Payer, *, asking: Asking | None, context: DecisionContext
) -> Begun | Decision | HoldRefused:
    """What was delivered under a hold is known: it is what is claimed now, whatever was reserved.

    Where nothing was delivered the hold is freed: no bank is asked for nothing. An issuer that collects from its
    customers owes the claim at once; a bank is asked next. What a card proves is brought in with its answer instead.
    Another payer than the hold's is refused: what one account reserves no other pays.
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
    if debit.state != "held":
        return HoldRefused("debit_settled") if debit.final_amount is None else newest_decision(tx, debit.passage_id)
    if debit.final_amount is None:
        tx.update(tables.debit, {"id": debit.id}, amount=amount_fen, final_amount=amount_fen, changed_at=tx.now_us)
        tx.note("debit", debit.id, "completed", debit_id=debit.id, detail=f"{amount_fen} fen")
        debit = debit_row(tx, debit.id)
    if amount_fen == 0:
        return _free_unused(tx, debit, "nothing_delivered", context)
    if debit.funding == Funding.ISSUER_CLEARING:
        _post(tx, debit)
        set_debit(tx, debit.id, "released")
        return write_decision(tx, _ISSUER_OWES, context, debit.passage_id, debit)
    return _ask_bank(tx, debit_id, asking)


def release(tx: Transaction, debit_id: str, reason: str, context: DecisionContext) -> Decision | HoldRefused:
    """Nothing was delivered under a hold: it is free again."""
    debit = tx.find(tables.debit, id=debit_id)
    if debit is None:
        return HoldRefused("debit_unknown")
    if debit.state == "voided":
        return newest_decision(tx, debit.passage_id)
    asked = purchases.newest_of_debit(tx, debit_id) is not None or attempts.sale_of(tx, debit_id) is not None
    if debit.state != "held" or debit.final_amount is not None or asked:
        return HoldRefused("debit_settled")
    return _free_unused(tx, debit, reason, context)


def expire_hold(tx: Transaction, debit_id: str, context: DecisionContext) -> Decision | None:
    """A hold whose time is over and behind which nothing was begun is free again; None when something was."""
    debit = debit_row(tx, debit_id)
    asked = purchases.newest_of_debit(tx, debit_id) is not None or attempts.sale_of(tx, debit_id) is not None
    if debit.state != "held" or debit.final_amount is not None or asked:
        return None
    tx.books.expire(debit.hold_id, "expired", event_us=tx.now_us)
    set_debit(tx, debit.id, "voided", detail="expired")
    return write_decision(
        tx, Verdict(Barrier.CLOSED, Money.VOID, Outcome.REFUSED, "hold_expired"), context, debit.passage_id, debit
    )


def conclude(tx: Transaction, conclusion: Conclusion, rules: DebitRules) -> Decision:
    """Store what is known, apply the decision table, move the money, write the decision. Safe to repeat."""
    debit = debit_row(tx, conclusion.debit_id)
    outcome, proved = _purchase_outcome(tx, conclusion)
    if debit.state != "held":
        # The answer counts that was brought now, too: of a purchase that had ended otherwise nothing was stored.
        told = PurchaseOutcome.NONE if conclusion.result is None else conclusion.result.outcome
        if debit.state == "voided" and PurchaseOutcome.TAKEN in (outcome, told):
            add_item(tx, "taken_after_void", debit.id, "the card paid a claim that was let go", amount=debit.amount)
        return newest_decision(tx, debit.passage_id)
    sale = attempts.sale_of(tx, debit.id) if _bank_counts(debit, outcome) else None
    if _bank_counts(debit, outcome) and sale is not None:
        sale = attempts.settle_answer(tx, sale.id, conclusion.bank or NOBODY_LISTENED)
    bank = _bank_outcome(sale) if _bank_counts(debit, outcome) else None
    refusal = None
    if bank is not None and bank is not BankOutcome.APPROVED:
        refusal = _stand_in_refusal(tx, debit, sale, conclusion.stand_in_limit_fen, rules)
    if bank is BankOutcome.DECLINED:
        # Some refusals pass (an issuer that does not operate): the rules may stand in for them as for silence.
        bank, refusal = (BankOutcome.SILENT if refusal is None else bank), None
    verdict = decide(
        outcome,
        Funding(debit.funding),
        bank,
        decline_policy=conclusion.decline_policy,
        stand_in_allowed=refusal is None,
    )
    if refusal is not None:
        verdict = replace(verdict, reason=refusal)
    if outcome is not PurchaseOutcome.TAKEN and conclusion.result is not None and conclusion.result.reason is not None:
        verdict = replace(verdict, reason=conclusion.result.reason)
    _apply(tx, debit, verdict, sale, rules)
    if outcome is PurchaseOutcome.TAKEN and not proved:
        add_item(tx, "charged_without_tac", debit.id, "the card paid, its proof could not be fetched")
    if outcome is PurchaseOutcome.DISPUTED:
        add_item(tx, "disputed_purchase", debit.id, "file 0019 is neither as read nor as written")
    return write_decision(tx, verdict, conclusion.context, debit.passage_id, debit)


def give_up(tx: Transaction, conclusion: Conclusion, rules: DebitRules) -> Decision | None:
    """Void a hold nobody waits for, unless somebody has begun to work with it; None then.

    Between the hold and this change its vehicle may have been seen again: a later purchase or a sale of this debit is
    under way, and it ends the hold.
    """
    debit = debit_row(tx, conclusion.debit_id)
    newest = purchases.newest_of_debit(tx, debit.id)
    asked = newest is not None and (newest.id != conclusion.purchase_id or newest.state != "intent")
    if debit.state != "held" or debit.final_amount is not None or asked or attempts.sale_of(tx, debit.id) is not None:
        return None
    return conclude(tx, conclusion, rules)


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
    return write_decision(tx, verdict, context, passage_id, debit_row(tx, debit_id), amount=0)


def write_decision(
    tx: Transaction,
    verdict: Verdict,
    context: DecisionContext,
    passage_id: str,
    debit: Row | None,
    *,
    amount: int | None = None,
    debit_id: str | None = None,
    funding: Funding | None = None,
) -> Decision:
    """The immutable row that barrier and display follow. Without the debit's row its facts come by name."""
    if debit is not None:
        debit_id, funding = debit.id, Funding(debit.funding)
        amount = debit.amount if amount is None else amount
    charged = 0 if amount is None else amount
    record_no = tx.insert_chained(
        tables.decision,
        passage_id=passage_id,
        debit_id=debit_id,
        charge_point=context.charge_point,
        barrier=verdict.barrier.value,
        outcome=verdict.outcome.value,
        reason=verdict.reason,
        special_event=None if verdict.reason is None else REASONS[verdict.reason].special_event,
        funding=None if funding is None else funding.value,
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
        decided_at=tx.now_us,
        passage_id=passage_id,
        debit_id=debit_id,
        barrier=verdict.barrier,
        outcome=verdict.outcome,
        reason=verdict.reason,
        amount_fen=charged,
        funding=funding,
    )


def _purchase_outcome(tx: Transaction, conclusion: Conclusion) -> tuple[PurchaseOutcome, bool]:
    """What the ledger holds for true after this answer, and whether its proof (the TAC) is stored.

    The first end of a purchase stands. The debit's newest purchase counts, whichever the answer was about: what is
    known of an earlier one says nothing about the one that is under way.
    """
    result = conclusion.result
    if conclusion.purchase_id is None:
        outcome = PurchaseOutcome.NONE if result is None else result.outcome
        known = purchases.newest_of_debit(tx, conclusion.debit_id) if outcome is PurchaseOutcome.TAKEN else None
        return outcome, known is not None and known.tac is not None
    newest = purchases.newest_of_debit(tx, conclusion.debit_id)
    if newest is None:
        raise ValueError(f"purchase {conclusion.purchase_id} is none of debit {conclusion.debit_id}")
    if result is not None and newest.id != conclusion.purchase_id:
        purchases.store_result(tx, conclusion.purchase_id, result, conclusion.card_number)
        newest = purchases.newest_of_debit(tx, conclusion.debit_id) or newest
    elif result is not None and purchases.end_purchase(tx, newest, result, conclusion.card_number):
        return result.outcome, result.tac is not None
    return (
        PurchaseOutcome.UNKNOWN if newest.state == "intent" else PurchaseOutcome(newest.state),
        newest.tac is not None,
    )


def _bank_counts(debit: Row, purchase: PurchaseOutcome) -> bool:
    return debit.funding == Funding.BANK_ONLINE and purchase in (PurchaseOutcome.TAKEN, PurchaseOutcome.NONE)


def _bank_outcome(sale: Row | None) -> BankOutcome:
    """How far the bank was heard. A sale whose asker did not live to tell is one without an answer."""
    if sale is None:
        return BankOutcome.NOT_SENT
    known = {
        "approved": BankOutcome.APPROVED,
        "declined": BankOutcome.DECLINED,
        "not_sent": BankOutcome.NOT_SENT,
    }
    return known.get(sale.state, BankOutcome.SILENT)


def _stand_in_refusal(
    tx: Transaction, debit: Row, sale: Row | None, mandate_limit_fen: int, rules: DebitRules
) -> str | None:
    """None when we may decide in the bank's place, else the code of why not."""
    word = NOT_SENT if sale is None or sale.state == "not_sent" else SILENT
    if sale is not None and sale.response_code is not None:
        word = BankWord(WordKind.ANSWERED, sale.response_code)
    counted = tx.rows(_STOOD_IN_TODAY, obligor=debit.obligor_id, day=debit.day, service=debit.service)
    return may_stand_in(
        rules,
        debit.service,
        amount_fen=debit.amount,
        owed_fen=int(tx.rows(_OWED, obligor=debit.obligor_id)[0].fen),
        stood_in_today=counted[0].count,
        in_debt=tx.books.balance(AccountKind.DEBT, debit.obligor_id) != 0,
        mandate_limit_fen=mandate_limit_fen,
        why=word,
    )


def _apply(tx: Transaction, debit: Row, verdict: Verdict, sale: Row | None, rules: DebitRules) -> None:
    """Move the money as the verdict says. A hold that stays moves nothing."""
    if verdict.money is Money.HOLD_STAYS:
        return
    if verdict.money is Money.VOID:
        tx.books.void(debit.hold_id, "refused", event_us=tx.now_us)
        set_debit(tx, debit.id, "voided")
        return
    _post(tx, debit)
    if verdict.money is Money.ISSUER_PAYS:
        tx.books.move(
            "purse_paid",
            debit.id,
            source=(AccountKind.ISSUER, debit.payer),
            target=(AccountKind.OPEN, debit.obligor_id),
            amount=debit.amount,
            event_us=tx.now_us,
        )
        set_debit(tx, debit.id, "funded", collected=debit.amount)
    elif verdict.money is Money.KEEP_OPEN:
        set_debit(tx, debit.id, "released")
    elif verdict.money is Money.OWED:
        set_debit(tx, debit.id, "owed", stood_in=int(verdict.barrier is Barrier.OPEN))
    elif verdict.money is Money.DEBT:
        debts.to_debt(tx, debit.id, rules, None if sale is None else sale.response_code)
    elif verdict.money is Money.BANK_PAYS:
        if sale is None:
            raise RuntimeError("the bank paid without an attempt")
        attempts.fund_by_bank(tx, sale, rules)


def _post(tx: Transaction, debit: Row) -> None:
    """The hold becomes final for what is claimed; what goes beyond it is a transfer of its own, linked and marked."""
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


def issuer_paid(tx: Transaction, debit_id: str, *, reference: str | None = None) -> bool:
    """issuer -> open at the day's end: the issuer took the claim into its clearing. False when it had before."""
    debit = debit_row(tx, debit_id)
    if debit.state != "released":
        return False
    tx.books.move(
        "issuer_paid",
        debit.id,
        source=(AccountKind.ISSUER, debit.payer),
        target=(AccountKind.OPEN, debit.obligor_id),
        amount=debit.amount,
        event_us=tx.now_us,
        reference=reference,
    )
    set_debit(tx, debit.id, "funded", collected=debit.amount)
    return True


def newest_decision(tx: Transaction, passage_id: str) -> Decision:
    """The newest decision about a passage."""
    return _decision(tx.rows(purchases.NEWEST_DECISION, passage=passage_id)[0])


def _decision(row: Row) -> Decision:
    return Decision(
        record_no=row.record_no,
        decided_at=row.decided_at,
        passage_id=row.passage_id,
        debit_id=row.debit_id,
        barrier=Barrier(row.barrier),
        outcome=Outcome(row.outcome),
        reason=row.reason,
        amount_fen=row.amount,
        funding=None if row.funding is None else Funding(row.funding),
    )


def _ask_bank(tx: Transaction, debit_id: str, asking: Asking | None) -> Begun:
    if asking is None:
        return Begun(debit_id, None)
    request = attempts.store_sale(tx, asking.channel, asking.terminals, asking.new, debit=debit_row(tx, debit_id))
    return Begun(debit_id, request)


def _free_unused(tx: Transaction, debit: Row, reason: str, context: DecisionContext) -> Decision:
    tx.books.void(debit.hold_id, "released_unused", event_us=tx.now_us)
    set_debit(tx, debit.id, "voided")
    verdict = Verdict(Barrier.CLOSED, Money.VOID, Outcome.REFUSED, reason)
    return write_decision(tx, verdict, context, debit.passage_id, debit)


def _charge_issuer(
    tx: Transaction, request: HoldRequest, debit_id: str, obligor: str, context: DecisionContext
) -> Decision:
    hold_id = _insert_debit(tx, request, debit_id, obligor, state="released")
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
    if known.state != "held":
        return newest_decision(tx, known.passage_id)
    return _ask_bank(tx, known.id, asking)


def _refuse_charge(
    tx: Transaction, request: HoldRequest, subject_id: str, *, reason: str, barrier: Barrier, context: DecisionContext
) -> Decision:
    decision = refuse(tx, request.sight, subject_id, reason=reason, barrier=barrier, context=context)
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
    return _decision(row)


def _known(tx: Transaction, key: str) -> Row | None:
    """The debit with this key, one that was claimed in this very transaction included."""
    if ("key", key) in tx.memo:
        return tx.find(tables.debit, idempotency_key=key)
    return tx.peek(tables.debit, idempotency_key=key)


def _replay(tx: Transaction, known: Row, request: HoldRequest) -> HoldPlaced | HoldRefused:
    if known.content_hash != request.content_hash:
        return HoldRefused("idempotency_conflict")
    if known.state == "voided":
        return HoldRefused("hold_expired")
    purchase = tx.first(_LAST_PURCHASE, debit=known.id)
    return HoldPlaced(known.id, None if purchase is None else purchase.id, replayed=True)


def _replay_refused(tx: Transaction, earlier: Row, request: HoldRequest) -> HoldRefused:
    """A key that a charge was turned away with reserves nothing either: its passage is recorded and decided."""
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
    """Who owes: the mandate, else the plate with its colour, else the card or tag that was read."""
    mandate, identity = request.payer.mandate_id, request.sight.identity
    if mandate is not None:
        values = {"mandate_id": mandate}
    elif identity.plate:
        values = {"subject_key": digest_of("plate", identity.plate, identity.plate_colour)}
    else:
        key = digest_of("credential", identity.card_number, identity.contract, identity.obu_id)
        values = {"subject_key": key}
    memo = ("obligor", *values.values())
    born: str | None = tx.memo.get(memo)
    if born is not None:
        return _Obligor(born, listed=False)
    found = tx.peek(tables.obligor, **values)
    if found is not None:
        return _Obligor(found.id, listed=found.listed_at is not None)
    tx.insert(tables.obligor, id=new_id, **values)
    tx.memo[memo] = new_id
    return _Obligor(new_id, listed=False)


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


def _insert_debit(tx: Transaction, request: HoldRequest, debit_id: str, obligor: str, *, state: str = "held") -> int:
    """The claim and the pending transfer behind it; returns that transfer's number."""
    payer = request.payer
    hold_id = tx.books.hold(
        "hold",
        debit_id,
        source=(AccountKind.OPEN, obligor),
        target=(AccountKind.MERCHANT, request.merchant),
        amount=request.amount_fen,
        event_us=request.sight.opened_at,
    )
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
        state=state,
        hold_id=hold_id,
        created_at=tx.now_us,
        changed_at=tx.now_us,
    )
    tx.note("debit", debit_id, state, debit_id=debit_id)
    tx.memo["key", request.idempotency_key] = debit_id
    return hold_id
