"""Start-up: every open debit is found, classified and queued before a charge point opens.

What a crash can leave behind, and what becomes of it:

| found | then |
|---|---|
| purchase `intent`, no answer stored | the card may have paid: `unknown`; only the card's file frees the hold |
| sale `stored`, no answer | it may have left: `unknown`, its reversal is queued; decided without the bank |
| purchase taken, sale answered, no decision | decided by that answer |
| reversal or advice waiting | stays in the outbox, the worker goes on with it |
| decision committed, barrier not lifted | nothing to do: the vehicle is seen again and let through as a repeat |

A hold with neither purchase nor sale behind it and no decision cannot be of a vehicle that was let go: it is voided.
One whose bank was asked is decided like any other: the bank may have paid.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from sqlalchemy import bindparam, select

from gateway.debit import attempts, debits
from gateway.debit.claims import DecisionContext, PurchaseResult
from gateway.ledger import tables
from gateway.ledger.statements import Row
from gateway.ledger.transaction import Transaction
from gateway.model.passage import DeclinePolicy, PurchaseOutcome

PAGE = 500
"""Debits classified in one change: short enough that progress shows and a batch stays small."""


_d, _p = tables.debit, tables.purchase
_HELD = (
    select(_d, tables.passage.c.charge_point)
    .join(tables.passage, tables.passage.c.id == _d.c.passage_id)
    .where(_d.c.state == "held", _d.c.id > bindparam("after"))
    .order_by(_d.c.id)
    .limit(bindparam("page"))
)
_LAST_PURCHASE = select(_p).where(_p.c.debit_id == bindparam("debit")).order_by(_p.c.attempt_no.desc()).limit(1)
_QUEUED = select(tables.outbox.c.kind).where(tables.outbox.c.done_at.is_(None))


@dataclass(slots=True)
class Findings:
    """What start-up found; counts only."""

    open_debits: int = 0
    unknown_purchases: int = 0
    sales_in_doubt: int = 0
    decided_now: int = 0
    voided: int = 0
    reversals_waiting: int = 0
    advices_waiting: int = 0

    def __add__(self, other: Findings) -> Findings:
        return Findings(*(getattr(self, f) + getattr(other, f) for f in self.__dataclass_fields__))


@dataclass(frozen=True, slots=True)
class RecoveryPolicy:
    """How debits are decided that no vehicle waits for: per mandate its stand-in limit."""

    stand_in_limits: Callable[[Transaction, str | None], int]
    decline_policies: Mapping[str, DeclinePolicy]
    """By charge point; one that is no longer configured holds for the attendant."""
    advise: Callable[[Transaction, str, str], None]
    """Queue the advice of a debit (id) of a charge point, if it is owed and nothing about it is in doubt."""


def classify_page(tx: Transaction, after: str, policy: RecoveryPolicy) -> tuple[str | None, Findings]:
    """Classify the next open debits after id `after`; returns the last id seen (None when done) and the findings."""
    rows = tx.rows(_HELD, after=after, page=PAGE)
    findings = Findings()
    for row in rows:
        findings += _classify(tx, row, policy)
    return (rows[-1].id if len(rows) == PAGE else None), findings


def count_queued(tx: Transaction) -> Findings:
    """Reversals and advices that wait in the outbox."""
    kinds = [row.kind for row in tx.rows(_QUEUED)]
    return Findings(reversals_waiting=kinds.count("reversal"), advices_waiting=kinds.count("advice"))


def _classify(tx: Transaction, row: Row, policy: RecoveryPolicy) -> Findings:
    purchase = tx.first(_LAST_PURCHASE, debit=row.id)
    sale = attempts.sale_of(tx, row.id)
    in_doubt = int(sale is not None and sale.state == "stored")
    if purchase is None:
        nothing_asked = None if sale is not None else PurchaseResult(PurchaseOutcome.NOT_TAKEN)
        debits.conclude(tx, _conclusion(tx, row, policy, result=nothing_asked))
        policy.advise(tx, row.id, row.charge_point)
        return Findings(open_debits=1, sales_in_doubt=in_doubt, decided_now=1, voided=int(sale is None))
    if purchase.state == "intent":
        tx.update(tables.purchase, {"id": purchase.id}, state="unknown", changed_at=tx.now_us)
        return Findings(open_debits=1, unknown_purchases=1)
    if purchase.state in ("unknown", "disputed"):
        return Findings(open_debits=1, unknown_purchases=1)
    debits.conclude(tx, _conclusion(tx, row, policy, purchase_id=purchase.id))
    policy.advise(tx, row.id, row.charge_point)
    return Findings(
        open_debits=1,
        sales_in_doubt=in_doubt,
        decided_now=1,
        voided=int(purchase.state == "not_taken"),
    )


def _conclusion(
    tx: Transaction,
    row: Row,
    policy: RecoveryPolicy,
    *,
    purchase_id: str | None = None,
    result: PurchaseResult | None = None,
) -> debits.Conclusion:
    return debits.Conclusion(
        debit_id=row.id,
        context=DecisionContext(charge_point=row.charge_point, recovered=True),
        decline_policy=policy.decline_policies.get(row.charge_point, DeclinePolicy.HOLD_FOR_ATTENDANT),
        stand_in_limit_fen=policy.stand_in_limits(tx, row.mandate_id),
        purchase_id=purchase_id,
        result=result,
    )
