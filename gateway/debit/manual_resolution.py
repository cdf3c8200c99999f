"""Manual resolution of a debit that cannot end by itself: a person says what the card or the bank did.

Only what is stuck is taken: a purchase whose answer was lost, or whose card shows neither file, and an attempt that the
bank has not told the end of. What is known stands, whoever says otherwise. Every word is journalled with who gave it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from gateway.debit import conclusions, late, purchases
from gateway.debit.claims import Decision, DecisionContext
from gateway.debit.late import LateEffect
from gateway.debit.states import close_item
from gateway.ledger import tables
from gateway.ledger.transaction import Transaction
from gateway.model.passage import DeclinePolicy, Occasion
from gateway.model.states import STUCK_PURCHASES, DebitState, PurchaseState
from gateway.rules.loading import DebitRules


@dataclass(frozen=True, slots=True)
class ResolvedBy:
    """Person who resolves what is stuck, and the reason given."""

    actor: str
    reason: str


@dataclass(frozen=True, slots=True)
class Deciding:
    """Inputs of a decision that is made away from its charge point."""

    rules: DebitRules
    stand_in_limits: Callable[[Transaction, str | None], int]
    """Stand-in limit of a mandate, fen."""


def resolve_purchase(
    tx: Transaction, debit_id: str, *, taken: bool, by: ResolvedBy, deciding: Deciding
) -> Decision | str:
    """End a purchase by a person who knows whether the card paid, and decide. Else the code of the reason why not.

    A bank that would have been asked after the purchase was not: such a debit is owed, and its bank is advised.
    """
    debit = tx.find(tables.debit, id=debit_id)
    if debit is None:
        return "debit_unknown"
    if debit.state != DebitState.HELD:
        return "debit_settled"
    purchase = purchases.newest_of_debit(tx, debit.id)
    if purchase is not None and purchase.state == PurchaseState.INTENT:
        return "purchase_under_way"
    if purchase is None or purchase.state not in STUCK_PURCHASES:
        return "purchase_settled"
    purchases.end_by_person(tx, purchase, taken=taken)
    tx.note(
        "person",
        purchase.id,
        "said_taken" if taken else "said_not_taken",
        debit_id=debit.id,
        detail=by.reason[:400],
        actor=by.actor,
    )
    close_item(tx, "disputed_purchase", debit.id, note=by.reason, actor=by.actor)
    passage = tx.find(tables.passage, id=debit.passage_id)
    point = "" if passage is None else passage.charge_point
    conclusion = conclusions.Conclusion(
        debit_id=debit.id,
        context=DecisionContext(charge_point=point, occasion=Occasion.PERSON, rules_version=deciding.rules.version),
        decline_policy=DeclinePolicy.HOLD_FOR_ATTENDANT,  # of no account: no bank is asked
        stand_in_limit_fen=deciding.stand_in_limits(tx, debit.mandate_id),
        purchase_id=purchase.id,
    )
    return conclusions.conclude(tx, conclusion, deciding.rules)


def resolve_attempt(
    tx: Transaction, debit_id: str, attempt_id: str, *, posted: bool, source: str, by: ResolvedBy, rules: DebitRules
) -> LateEffect | str:
    """End an attempt by a person who asked the bank whether money moved. Else the code of the reason why not."""
    attempt = tx.find(tables.attempt, id=attempt_id)
    if attempt is None or attempt.debit_id != debit_id:
        return "attempt_unknown"
    detail = f"{source}: {by.reason}"
    effect = late.resolve_attempt(tx, attempt.id, posted=posted, source=detail, actor=by.actor, rules=rules)
    return "attempt_settled" if effect is LateEffect.IGNORED else effect
