"""Conclusion of a claim: the results of card and bank go through the decision table, and the money moves."""

from __future__ import annotations

from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Final

from sqlalchemy import bindparam, func, select

from gateway.banks.channel import BankAnswer, BankChannel
from gateway.debit import attempts, debts, holds, purchases
from gateway.debit.claims import Decision, DecisionContext, PurchaseResult
from gateway.debit.decisions import decision_of, repeat, write_decision
from gateway.debit.states import add_item, debit_row, set_debit
from gateway.ledger import tables
from gateway.ledger.books import AccountKind
from gateway.ledger.statements import Row
from gateway.ledger.transaction import Transaction
from gateway.model.answers import NOTHING_SAID, AnswerClass, Refusal
from gateway.model.delivery import Delivery
from gateway.model.passage import (
    BankOutcome,
    DecisionRow,
    DeclinePolicy,
    Funding,
    Money,
    PassageOutcome,
    PurchaseOutcome,
    Release,
    decide,
)
from gateway.model.reasons import MAC2_UNCHECKED, REASONS
from gateway.model.states import AttemptState, DebitState, PurchaseState
from gateway.rules.judge import may_stand_in
from gateway.rules.loading import DebitRules

_OWED = select(func.coalesce(func.sum(tables.debit.c.amount), 0).label("fen")).where(
    tables.debit.c.obligor_id == bindparam("obligor"),
    tables.owing(DebitState.OWED),
)
_STOOD_IN_TODAY = select(func.count().label("count")).where(
    tables.debit.c.obligor_id == bindparam("obligor"),
    tables.debit.c.day == bindparam("day"),
    tables.debit.c.service == bindparam("service"),
    tables.debit.c.stood_in == 1,
)
_PAID_AT_ONCE: Final = MappingProxyType(
    {
        Money.ISSUER_PAYS: ("purse_paid", AccountKind.ISSUER),
        Money.TILL_PAYS: ("paid_at_till", AccountKind.TILL),
    }
)
"""Event and account by which money comes in with the decision itself; the account is the debit's payer's."""
NOBODY_LISTENED = BankAnswer(Delivery.SILENT, detail="not answered before whoever asked was gone")


@dataclass(frozen=True, slots=True)
class Conclusion:
    """Input of the decision table for one passage."""

    debit_id: str
    context: DecisionContext
    decline_policy: DeclinePolicy
    stand_in_limit_fen: int
    purchase_id: str | None = None
    result: PurchaseResult | None = None
    card_number: str | None = None
    bank: BankAnswer | None = None
    """Answer to the debit's sale, or its absence; None when this caller did not ask."""
    channel: BankChannel | None = None
    """Channel of that answer."""


def conclude(tx: Transaction, conclusion: Conclusion, rules: DebitRules) -> Decision:
    """Store what is known, apply the decision table, move the money, write the decision. Safe to repeat."""
    debit = debit_row(tx, conclusion.debit_id)
    outcome, proved, reason = _purchase_outcome(tx, conclusion)
    if debit.state != DebitState.HELD:
        # The answer counts that was brought now, too: of a purchase that had ended otherwise nothing was stored.
        told = PurchaseOutcome.NONE if conclusion.result is None else conclusion.result.outcome
        if debit.state == DebitState.VOIDED and PurchaseOutcome.TAKEN in (outcome, told):
            add_item(tx, "taken_after_void", debit.id, "the card paid a claim that was let go", amount=debit.amount)
        return _again(tx, debit, conclusion.context)
    sale = attempts.sale_of(tx, debit.id) if _bank_counts(debit, outcome) else None
    if _bank_counts(debit, outcome) and sale is not None:
        sale = attempts.settle_answer(tx, sale.id, conclusion.bank or NOBODY_LISTENED, conclusion.channel)
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
    if outcome is not PurchaseOutcome.TAKEN and reason is not None:
        verdict = replace(verdict, reason=reason)
    if verdict.money is Money.VOID and debit.final_amount:
        # It was delivered before its card was asked: a card that does not pay leaves the claim where it is.
        verdict = replace(verdict, money=Money.HOLD_STAYS, outcome=PassageOutcome.UNKNOWN)
    _apply(tx, debit, verdict, sale, rules)
    if outcome is PurchaseOutcome.TAKEN and not proved:
        add_item(tx, "charged_without_tac", debit.id, "the card paid, its proof could not be fetched")
    if outcome is PurchaseOutcome.TAKEN and reason == MAC2_UNCHECKED.code:
        add_item(tx, MAC2_UNCHECKED.code, debit.id, "the card paid, no PSAM checked its MAC2")
    if outcome is PurchaseOutcome.DISPUTED:
        add_item(tx, "disputed_purchase", debit.id, _why_disputed(reason))
    return write_decision(tx, verdict, conclusion.context, debit.passage_id, debit)


def _again(tx: Transaction, debit: Row, context: DecisionContext) -> Decision:
    """Earlier decision of a passage. Where it let a vehicle go at another charge point it is a repeat here: no barrier
    lifts on another one's record."""
    newest = tx.rows(purchases.NEWEST_DECISION, passage=debit.passage_id)[0]
    if newest.charge_point == context.charge_point or newest.release != Release.GO:
        return decision_of(newest)
    return repeat(tx, debit.passage_id, debit.id, Release.GO, context)


def give_up(tx: Transaction, conclusion: Conclusion, rules: DebitRules) -> Decision | None:
    """Void a hold nobody waits for, unless somebody has begun to work with it; None then.

    Between the hold and this change its vehicle may have been seen again: a later purchase or a sale of this debit is
    under way, and it ends the hold. A request that was stored with it and has not left goes with it.
    """
    debit = debit_row(tx, conclusion.debit_id)
    newest = purchases.newest_of_debit(tx, debit.id)
    asked = newest is not None and (newest.id != conclusion.purchase_id or newest.state != PurchaseState.INTENT)
    sale = attempts.sale_of(tx, debit.id)
    asked = asked or (sale is not None and conclusion.bank is None)
    if debit.state != DebitState.HELD or debit.final_amount is not None or asked:
        return None
    if sale is not None and conclusion.bank is not None:
        attempts.settle_answer(tx, sale.id, conclusion.bank, conclusion.channel)
    return conclude(tx, conclusion, rules)


def _why_disputed(reason: str | None) -> str:
    return "file 0019 is neither as read nor as written" if reason is None else f"{reason}: {REASONS[reason].en}"


def _purchase_outcome(tx: Transaction, conclusion: Conclusion) -> tuple[PurchaseOutcome, bool, str | None]:
    """Outcome of the purchase after this answer, True when its proof (the TAC) is stored, and the code of the reason.

    The first end of a purchase stands. The debit's newest purchase counts, whichever the answer was about: what is
    known of an earlier one says nothing about the one that is under way.
    """
    result = conclusion.result
    if conclusion.purchase_id is None:
        outcome = PurchaseOutcome.NONE if result is None else result.outcome
        known = purchases.newest_of_debit(tx, conclusion.debit_id) if outcome is PurchaseOutcome.TAKEN else None
        reason = None if result is None else result.reason
        return outcome, known is not None and known.tac is not None, reason
    newest = purchases.newest_of_debit(tx, conclusion.debit_id)
    if newest is None:
        raise ValueError(f"purchase {conclusion.purchase_id} is none of debit {conclusion.debit_id}")
    if result is not None and newest.id != conclusion.purchase_id:
        purchases.store_result(tx, conclusion.purchase_id, result, conclusion.card_number)
        newest = purchases.newest_of_debit(tx, conclusion.debit_id) or newest
    elif result is not None:
        stored = purchases.end_purchase(tx, newest, result, conclusion.card_number)
        if stored is not None:
            return stored.outcome, stored.tac is not None, stored.reason
    return (
        PurchaseOutcome.UNKNOWN if newest.state == PurchaseState.INTENT else PurchaseOutcome(newest.state),
        newest.tac is not None,
        newest.reason,
    )


def _bank_counts(debit: Row, purchase: PurchaseOutcome) -> bool:
    return debit.funding == Funding.BANK_ONLINE and purchase in (PurchaseOutcome.TAKEN, PurchaseOutcome.NONE)


def _bank_outcome(sale: Row | None) -> BankOutcome:
    """Outcome of the bank's sale. A sale without an answer, as after a crash of its asker, counts as silent."""
    if sale is None:
        return BankOutcome.NOT_SENT
    known = {
        AttemptState.APPROVED: BankOutcome.APPROVED,
        AttemptState.DECLINED: BankOutcome.DECLINED,
        AttemptState.NOT_SENT: BankOutcome.NOT_SENT,
    }
    return known.get(sale.state, BankOutcome.SILENT)


def _stand_in_refusal(
    tx: Transaction, debit: Row, sale: Row | None, mandate_limit_fen: int, rules: DebitRules
) -> str | None:
    """None when we may decide in the bank's place, else the code of the reason why not."""
    told = _told(sale)
    counted = tx.rows(_STOOD_IN_TODAY, obligor=debit.obligor_id, day=debit.day, service=debit.service)
    return may_stand_in(
        rules,
        debit.service,
        amount_fen=debit.amount,
        owed_fen=int(tx.rows(_OWED, obligor=debit.obligor_id)[0].fen),
        stood_in_today=counted[0].count,
        in_debt=tx.books.balance(AccountKind.DEBT, debit.obligor_id) != 0,
        mandate_limit_fen=mandate_limit_fen,
        answer=told.answer,
        code=told.code,
        sent=sale is not None and sale.state != AttemptState.NOT_SENT,
    )


def _told(sale: Row | None) -> Refusal:
    """Refusal by the bank: its answer class and code, or that it said nothing."""
    if sale is None or sale.answer_class is None:
        return NOTHING_SAID
    return Refusal(AnswerClass(sale.answer_class), sale.response_code)


def _apply(tx: Transaction, debit: Row, verdict: DecisionRow, sale: Row | None, rules: DebitRules) -> None:
    """Move the money as the verdict says. A hold that stays moves nothing."""
    if verdict.money is Money.HOLD_STAYS:
        return
    if verdict.money is Money.VOID:
        tx.books.void(debit.hold_id, "refused", event_us=tx.now_us)
        set_debit(tx, debit, DebitState.VOIDED)
        return
    holds.post_hold(tx, debit)
    if verdict.money in _PAID_AT_ONCE:
        event, source = _PAID_AT_ONCE[verdict.money]
        tx.books.move(
            event,
            debit.id,
            source=(source, debit.payer),
            target=(AccountKind.OPEN, debit.obligor_id),
            amount=debit.amount,
            event_us=tx.now_us,
        )
        set_debit(tx, debit, DebitState.FUNDED, collected=debit.amount)
    elif verdict.money is Money.KEEP_OPEN:
        set_debit(tx, debit, DebitState.RELEASED)
    elif verdict.money is Money.OWED:
        set_debit(tx, debit, DebitState.OWED, stood_in=int(verdict.release is Release.GO))
    elif verdict.money is Money.DEBT:
        debts.to_debt(tx, debit.id, rules, _told(sale))
    elif verdict.money is Money.BANK_PAYS:
        if sale is None:
            raise RuntimeError("the bank paid without an attempt")
        attempts.fund_by_bank(tx, sale, rules)


def issuer_paid(tx: Transaction, debit_id: str, *, reference: str | None = None) -> bool:
    """Post issuer -> open at the day's end: the issuer took the claim into its clearing. False when it had before."""
    debit = debit_row(tx, debit_id)
    if debit.state != DebitState.RELEASED:
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
    set_debit(tx, debit, DebitState.FUNDED, collected=debit.amount)
    return True
