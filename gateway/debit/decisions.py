"""Decisions: the immutable rows that barrier and display follow, and the passages that never became a claim."""

from __future__ import annotations

from sqlalchemy import Connection, bindparam, select

from gateway.debit import purchases
from gateway.debit.claims import Claimed, Decision, DecisionContext, Sight
from gateway.debit.states import debit_row
from gateway.ledger import tables
from gateway.ledger.statements import Row
from gateway.ledger.transaction import Transaction
from gateway.model.passage import DecisionRow, Funding, Money, PassageOutcome, Release
from gateway.model.reasons import REASONS

_CLAIMED = select(tables.debit.c.state, tables.debit.c.passage_id).where(
    tables.debit.c.idempotency_key == bindparam("key")
)


def write_decision(
    tx: Transaction,
    verdict: DecisionRow,
    context: DecisionContext,
    passage_id: str,
    debit: Row | None,
    *,
    amount: int | None = None,
    debit_id: str | None = None,
    funding: Funding | None = None,
) -> Decision:
    """Write the immutable row that barrier and display follow. Without the debit's row its facts come by name."""
    if debit is not None:
        debit_id, funding = debit.id, Funding(debit.funding)
        amount = debit.amount if amount is None else amount
    charged = 0 if amount is None else amount
    record_no = tx.insert_chained(
        tables.decision,
        passage_id=passage_id,
        debit_id=debit_id,
        charge_point=context.charge_point,
        release=verdict.release.value,
        outcome=verdict.outcome.value,
        reason=verdict.reason,
        special_event=None if verdict.reason is None else REASONS[verdict.reason].special_event,
        funding=None if funding is None else funding.value,
        amount=charged,
        recovered=int(context.occasion),
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
        release=verdict.release,
        outcome=verdict.outcome,
        reason=verdict.reason,
        amount_fen=charged,
        funding=funding,
    )


def newest_decision(tx: Transaction, passage_id: str) -> Decision:
    """Read the newest decision about a passage."""
    return decision_of(tx.rows(purchases.NEWEST_DECISION, passage=passage_id)[0])


def claimed(connection: Connection, key: str) -> Claimed | None:
    """Claim under an idempotency key."""
    row = connection.execute(_CLAIMED, {"key": key}).one_or_none()
    if row is None:
        return None
    newest = connection.execute(purchases.NEWEST_DECISION, {"passage": row.passage_id}).one_or_none()
    return Claimed(row.state, None if newest is None else decision_of(newest))


def decision_of(row: Row) -> Decision:
    return Decision(
        record_no=row.record_no,
        decided_at=row.decided_at,
        passage_id=row.passage_id,
        debit_id=row.debit_id,
        release=Release(row.release),
        outcome=PassageOutcome(row.outcome),
        reason=row.reason,
        amount_fen=row.amount,
        funding=None if row.funding is None else Funding(row.funding),
    )


def refuse(tx: Transaction, sight: Sight, *, reason: str, release: Release, context: DecisionContext) -> Decision:
    """Record a passage that never became a claim, with its reason."""
    store_sight(tx, sight)
    verdict = DecisionRow(release, Money.NONE, PassageOutcome.REFUSED, reason)
    return write_decision(tx, verdict, context, sight.passage_id, None)


def admit(tx: Transaction, sight: Sight, context: DecisionContext) -> Decision:
    """Record an entry that stands on the card; nothing is owed yet."""
    store_sight(tx, sight)
    verdict = DecisionRow(Release.GO, Money.NONE, PassageOutcome.ENTERED, None)
    return write_decision(tx, verdict, context, sight.passage_id, None)


def repeat(tx: Transaction, passage_id: str, debit_id: str, release: Release, context: DecisionContext) -> Decision:
    """Record that a vehicle is still there: the barrier as decided before, and nothing charged."""
    verdict = DecisionRow(release, Money.NONE, PassageOutcome.REPEAT, "already_charged")
    return write_decision(tx, verdict, context, passage_id, debit_row(tx, debit_id), amount=0)


def repeat_entry(tx: Transaction, passage_id: str, context: DecisionContext) -> Decision:
    """Record that a vehicle whose entry is recorded is still there."""
    verdict = DecisionRow(Release.GO, Money.NONE, PassageOutcome.REPEAT, "already_charged")
    return write_decision(tx, verdict, context, passage_id, None)


def store_sight(tx: Transaction, sight: Sight) -> None:
    identity = sight.identity
    tx.insert(
        tables.subject,
        id=sight.passage_id,
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
        device_type=identity.device_type,
        vehicle_class=identity.vehicle_class,
        opened_at=sight.opened_at,
        clock_quality=sight.clock_quality,
    )
