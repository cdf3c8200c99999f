"""Start-up: every open debit is found, classified and queued before a charge point opens; closing may take longer.

What a crash can leave behind, and what becomes of it:

| found | before charge points open | behind |
|---|---|---|
| purchase `intent`, no answer stored | `unknown`: its card and tag are barred | only the card's file frees the hold |
| sale or recovery that may have left | `unknown`, its reversal is queued | its debit is decided without the bank |
| purchase taken, or sale answered, no decision | counted | decided by what is known |
| hold of a toll lane, nothing behind it | counted | voided: no such vehicle was let go |
| hold of a pump or a car park | counted | stays: only evidence ends it |
| completed hold | counted | decided; one that only a card can pay stays: the card pays when it is seen, or owes |
| reversal, advice, refund waiting | stays in the outbox | the outbox goes on with it |
| a debit whose closing fails | counted | told in the log; stays, and is tried again at the next start |
| decision committed, barrier not lifted | nothing to do: the vehicle is seen again and let through as a repeat | |
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields

from sqlalchemy import Connection, bindparam, func, select

from gateway.debit import attempts, conclusions
from gateway.debit.claims import DecisionContext, PurchaseResult
from gateway.debit.states import close_item, debit_row, intents_unknown, set_attempt
from gateway.ledger import tables
from gateway.ledger.statements import Row
from gateway.ledger.transaction import Transaction
from gateway.model.passage import Abandoned, DeclinePolicy, Funding, Occasion, PurchaseOutcome
from gateway.model.states import OPEN_PURCHASES, UNRESOLVED, AttemptState, DebitState, ItemState, PurchaseState
from gateway.rules.loading import DebitRules
from gateway.texts.catalogue import Words

PAGE = 500
"""Attempts classified in one change: short enough that progress shows."""

CLOSING_PAGE = 100
"""Debits closed in one change: a vehicle that comes in between waits for one of them at most."""

NOT_CLOSED = "debit_not_closed"
"""Kind of the item of a debit that cannot be closed; corrected when a later start finds it ended."""

_d, _p, _a, _i = tables.debit, tables.purchase, tables.attempt, tables.item
_IN_DOUBT = (
    select(_a)
    .where(
        tables.one_of(_a.c.state, *UNRESOLVED),
        _a.c.state == AttemptState.STORED,
        _a.c.id > bindparam("after"),
        (_a.c.kind == "sale") | ((_a.c.kind == "recovery") & (_a.c.sends > 0)),
    )
    .order_by(_a.c.id)
    .limit(bindparam("page"))
)
_OPEN_DEBITS = select(func.count().label("count"), func.coalesce(func.max(_d.c.hold_id), 0).label("newest")).where(
    tables.held()
)
_UNKNOWN_PURCHASES = select(func.count().label("count")).where(tables.one_of(_p.c.state, *OPEN_PURCHASES))
_QUEUED = (
    select(tables.outbox.c.kind, func.count().label("count"))
    .where(tables.outbox.c.done_at.is_(None))
    .group_by(tables.outbox.c.kind)
)
_LAST_PURCHASE = select(_p).where(_p.c.debit_id == bindparam("debit")).order_by(_p.c.attempt_no.desc()).limit(1)
_HELD_PAGE = (
    select(_d.c.id)
    .where(tables.held(), _d.c.id > bindparam("after"), _d.c.hold_id <= bindparam("newest"))
    .order_by(_d.c.id)
    .limit(bindparam("page"))
)


_ENDED_AFTER_ALL = (
    select(_i.c.ref)
    .join(_d, _d.c.id == _i.c.ref)
    .where(_i.c.kind == NOT_CLOSED, _i.c.state == ItemState.OPEN, _d.c.state != DebitState.HELD)
)


class RulesConflict(Exception):
    """Conflict of rules: two different documents carry one version, so a decision could not say which it followed."""


@dataclass(slots=True)
class Findings:
    """Findings of a start-up; counts only, but for the newest hold and, of one debit, its charge point."""

    open_debits: int = 0
    unknown_purchases: int = 0
    sales_in_doubt: int = 0
    decided_now: int = 0
    voided: int = 0
    not_closed: int = 0
    reversals_waiting: int = 0
    advices_waiting: int = 0
    refunds_waiting: int = 0
    newest_hold: int = 0
    charge_point: str = ""

    def __add__(self, other: Findings) -> Findings:
        return Findings(*(getattr(self, f.name) + getattr(other, f.name) for f in fields(self)[:-1]))

    @property
    def counts(self) -> dict[str, int]:
        """Counts by name, for people."""
        return {f.name: getattr(self, f.name) for f in fields(self)[:-2]}


@dataclass(frozen=True, slots=True)
class ClosingRules:
    """Rules by which debits are decided that no vehicle waits for."""

    rules: DebitRules
    stand_in_limits: Callable[[Transaction, str | None], int]
    """Stand-in limit of a mandate, fen."""
    decline_policies: Mapping[str, DeclinePolicy]
    """Decline policy by charge point; one that is no longer configured holds for the attendant."""
    newest_hold: int
    """Newest hold at start-up: debits with a later one belong to vehicles of this run."""


def keep_rules(tx: Transaction, rules: DebitRules) -> None:
    """Store the rules in force, once a version. Raises `RulesConflict`."""
    known = tx.find(tables.rules, version=rules.version)
    if known is None:
        tx.insert(tables.rules, version=rules.version, digest=rules.digest, body=rules.body, in_force_at=tx.now_us)
        tx.note("rules", rules.version, "in_force", detail=rules.digest)
    elif known.digest != rules.digest:
        raise RulesConflict(Words("rules.conflict", version=rules.version))


def classify_attempts(tx: Transaction, after: str) -> tuple[str | None, Findings]:
    """Put the next attempts that may have left, after id `after`, in doubt; returns the last id, None when done."""
    rows = tx.rows(_IN_DOUBT, after=after, page=PAGE)
    for row in rows:
        if row.kind == "recovery":
            attempts.off_queue(tx, row.id, "in doubt after a restart: reversed")
        set_attempt(tx, row, AttemptState.UNKNOWN, sends=0)
        attempts.queue(tx, row, "reversal")
    return (rows[-1].id if len(rows) == PAGE else None), Findings(sales_in_doubt=len(rows))


def classify_rest(tx: Transaction) -> Findings:
    """Purchases without an answer become unknown; everything open is counted."""
    intents_unknown(tx)
    held = tx.rows(_OPEN_DEBITS)[0]
    queued = {row.kind: row.count for row in tx.rows(_QUEUED)}
    return Findings(
        open_debits=held.count,
        unknown_purchases=tx.rows(_UNKNOWN_PURCHASES)[0].count,
        reversals_waiting=queued.get("reversal", 0),
        advices_waiting=queued.get("advice", 0),
        refunds_waiting=queued.get("refund", 0),
        newest_hold=held.newest,
    )


def page_of_held(connection: Connection, after: str, newest_hold: int) -> list[str]:
    """Read ids of the next debits that were held at start-up."""
    values = {"after": after, "newest": newest_hold, "page": CLOSING_PAGE}
    return list(connection.execute(_HELD_PAGE, values).scalars())


def ended_after_all(connection: Connection) -> list[str]:
    """Find debits with an item because they could not be closed, and that have ended since."""
    return list(connection.execute(_ENDED_AFTER_ALL).scalars())


def take_off_list(tx: Transaction, debit_ids: list[str]) -> None:
    """Close these items: people need not look at them any more."""
    for debit_id in debit_ids:
        close_item(tx, NOT_CLOSED, debit_id, note="it has ended")


def close(tx: Transaction, debit_id: str, closing: ClosingRules) -> Findings:
    """End one held debit, if what is known ends it."""
    debit = debit_row(tx, debit_id)
    if debit.state != DebitState.HELD:
        return Findings()
    passage = tx.find(tables.passage, id=debit.passage_id)
    point = "" if passage is None else passage.charge_point
    purchase = tx.first(_LAST_PURCHASE, debit=debit.id)
    if purchase is not None:
        if purchase.state in (*OPEN_PURCHASES, PurchaseState.DISPUTED):
            return Findings(open_debits=1, unknown_purchases=1)
        if purchase.state == PurchaseState.NOT_TAKEN and debit.final_amount:
            return Findings(open_debits=1)
        conclusions.conclude(tx, _conclusion(tx, debit, point, closing, purchase_id=purchase.id), closing.rules)
        voided = int(purchase.state == PurchaseState.NOT_TAKEN)
        return Findings(open_debits=1, decided_now=1, voided=voided, charge_point=point)
    sale = attempts.sale_of(tx, debit.id)
    if sale is not None and sale.state == AttemptState.STORED:
        # Those of the last run are in doubt since it was classified: this one's bank is being asked now.
        return Findings(open_debits=1)
    if sale is None and (debit.final_amount is None or debit.funding == Funding.PURSE):
        if debit.abandoned == Abandoned.KEEP:
            return Findings(open_debits=1)
        nothing_asked = PurchaseResult(PurchaseOutcome.NOT_TAKEN)
        conclusions.conclude(tx, _conclusion(tx, debit, point, closing, result=nothing_asked), closing.rules)
        return Findings(open_debits=1, decided_now=1, voided=1, charge_point=point)
    conclusions.conclude(tx, _conclusion(tx, debit, point, closing), closing.rules)
    return Findings(open_debits=1, decided_now=1, charge_point=point)


def _conclusion(
    tx: Transaction,
    debit: Row,
    point: str,
    closing: ClosingRules,
    *,
    purchase_id: str | None = None,
    result: PurchaseResult | None = None,
) -> conclusions.Conclusion:
    return conclusions.Conclusion(
        debit_id=debit.id,
        context=DecisionContext(charge_point=point, occasion=Occasion.START, rules_version=closing.rules.version),
        decline_policy=closing.decline_policies.get(point, DeclinePolicy.HOLD_FOR_ATTENDANT),
        stand_in_limit_fen=closing.stand_in_limits(tx, debit.mandate_id),
        purchase_id=purchase_id,
        result=result,
    )
