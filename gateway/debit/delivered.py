"""Delivered claims that only a card can pay: fuel is in the tank before the purse can be asked for its price.

The claim is stored when the delivery is over; each try of the purchase is an intent on the same hold, as at a lane. A
card that does not pay leaves the claim held, and where it has left altogether the claim becomes its debt. While the
answer to a purchase is open it does not: the card may have paid, and only proof or a person ends that.
"""

from __future__ import annotations

import asyncio

from gateway.debit import debts, holds, purchases
from gateway.debit.claims import Decision, DecisionContext, HoldRefused, PurchasePlan
from gateway.debit.decisions import newest_decision, write_decision
from gateway.debit.states import debit_row
from gateway.ledger import tables
from gateway.ledger.batches import LedgerWriter
from gateway.ledger.statements import Row
from gateway.ledger.transaction import Transaction
from gateway.model.answers import NOTHING_SAID
from gateway.model.passage import DecisionRow, Funding, Money, PassageOutcome, Release
from gateway.model.states import DebitState, PurchaseState
from gateway.rules.loading import DebitRules


class DeliveredClaims:
    """Delivered claims of one engine."""

    def __init__(self, writer: LedgerWriter, rules: DebitRules) -> None:
        self._writer = writer
        self._rules = rules

    async def claim(self, debit_id: str, amount_fen: int) -> HoldRefused | None:
        """Claim what was delivered, durably; None when that is done, now or before."""
        return await asyncio.shield(self._writer.submit(lambda tx: _claim(tx, debit_id, amount_fen), essential=True))

    async def intend(self, debit_id: str, purchase_id: str, plan: PurchasePlan) -> bool:
        """Store the intent of a purchase on a claim; False where it is not to be asked for, or not any more."""
        return await asyncio.shield(
            self._writer.submit(lambda tx: _intend(tx, debit_id, purchase_id, plan), essential=True)
        )

    async def card_left(self, debit_id: str, reason: str, context: DecisionContext) -> Decision | None:
        """Make the claim of a card that has left its debt; None while a purchase of it may have been taken."""
        ruled = context.under(self._rules.version)
        return await asyncio.shield(
            self._writer.submit(lambda tx: _card_left(tx, debit_id, reason, ruled, self._rules), essential=True)
        )


def _claim(tx: Transaction, debit_id: str, amount_fen: int) -> HoldRefused | None:
    debit = tx.find(tables.debit, id=debit_id)
    if debit is None:
        return HoldRefused("debit_unknown")
    if debit.funding != Funding.PURSE:
        return HoldRefused("payer_mismatch")
    if debit.final_amount is None and debit.state != DebitState.HELD:
        return HoldRefused("debit_settled")
    if debit.final_amount is not None and debit.final_amount != amount_fen:
        return HoldRefused("idempotency_conflict")
    holds.claim(tx, debit, amount_fen)
    return None


def _intend(tx: Transaction, debit_id: str, purchase_id: str, plan: PurchasePlan) -> bool:
    debit, newest = debit_row(tx, debit_id), purchases.newest_of_debit(tx, debit_id)
    if debit.state != DebitState.HELD or debit.final_amount != plan.written_fen or not _may_ask(newest):
        return False
    attempt_no = 1 if newest is None else newest.attempt_no + 1
    purchases.store_intent(tx, purchase_id=purchase_id, debit_id=debit_id, attempt_no=attempt_no, plan=plan)
    return True


def _card_left(
    tx: Transaction, debit_id: str, reason: str, context: DecisionContext, rules: DebitRules
) -> Decision | None:
    debit, newest = debit_row(tx, debit_id), purchases.newest_of_debit(tx, debit_id)
    if debit.state != DebitState.HELD:
        return newest_decision(tx, debit.passage_id)
    if debit.final_amount is None or not _may_ask(newest):
        return None
    holds.post_hold(tx, debit)
    debts.to_debt(tx, debit.id, rules, NOTHING_SAID)
    why = reason if newest is None or newest.reason is None else newest.reason
    verdict = DecisionRow(Release.GO, Money.DEBT, PassageOutcome.DEBT, why)
    return write_decision(tx, verdict, context, debit.passage_id, debit)


def _may_ask(newest: Row | None) -> bool:
    """True when no purchase of the claim can have been taken."""
    return newest is None or newest.state == PurchaseState.NOT_TAKEN
