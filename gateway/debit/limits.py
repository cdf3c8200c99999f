"""Whether a payer may owe one more debit: exposure, limits a debit and a day, and the box's own list.

A hold counts from the moment it is durable, and no more once it is voided. Changes of one transaction see each other,
so requests that arrive together cannot pass a limit together.
"""

from __future__ import annotations

from sqlalchemy import bindparam, func, select

from gateway.debit.claims import HoldRequest
from gateway.ledger import tables
from gateway.ledger.books import AccountKind
from gateway.ledger.statements import Row
from gateway.ledger.transaction import Transaction
from gateway.rules.judge import ListingEffect, beyond_limit, limit_of, listing_effect
from gateway.rules.loading import DebitRules

ALL_SERVICES = "*"

_l, _d = tables.mandate_limit, tables.debit
_LIMITS = select(_l).where(
    _l.c.mandate_id == bindparam("mandate"), _l.c.service.in_((bindparam("service"), ALL_SERVICES))
)
_DAY = (
    select(_d.c.service, func.sum(_d.c.amount).label("fen"), func.count().label("count"))
    .where(_d.c.obligor_id == bindparam("obligor"), _d.c.day == bindparam("day"), _d.c.state != "voided")
    .group_by(_d.c.service)
)


def problem(tx: Transaction, request: HoldRequest, obligor_id: str, listed: bool, rules: DebitRules) -> str | None:
    """None when the payer may owe this amount as well, else the code of the reason."""
    payer, service = request.payer, request.sight.service.value
    if listed and listing_effect(rules, service) is not ListingEffect.ALLOW:
        return "debts_listed"
    if payer.limit_fen is not None and exposure(tx, obligor_id) + request.amount_fen > payer.limit_fen:
        return "limit_exceeded"
    if payer.mandate_id is None:
        return None
    stated = {row.service: row for row in tx.rows(_LIMITS, mandate=payer.mandate_id, service=service)}
    for scope in (service, ALL_SERVICES):
        found = _beyond(tx, request, obligor_id, scope, stated=stated.get(scope), rules=rules)
        if found is not None:
            return found
    return None


def exposure(tx: Transaction, obligor: str) -> int:
    """Fen the obligor owes or has reserved: holds + |open| + |debt|. What is due back never lowers it."""
    books = tx.books
    return (
        books.held(AccountKind.OPEN, obligor)
        - books.balance(AccountKind.OPEN, obligor)
        - books.balance(AccountKind.DEBT, obligor)
    )


def _beyond(
    tx: Transaction, request: HoldRequest, obligor_id: str, scope: str, *, stated: Row | None, rules: DebitRules
) -> str | None:
    limit = limit_of(rules, scope)
    per_debit, per_day, count = (
        (limit.per_debit_fen, limit.per_day_fen, limit.per_day_count)
        if stated is None
        else (stated.per_debit_fen, stated.per_day_fen, stated.per_day_count)
    )
    day_fen = day_count = 0
    if per_day is not None or count is not None:
        for row in tx.rows(_DAY, obligor=obligor_id, day=request.sight.day):
            if scope in (ALL_SERVICES, row.service):
                day_fen += row.fen
                day_count += row.count
    return beyond_limit(
        amount_fen=request.amount_fen,
        day_fen=day_fen,
        day_count=day_count,
        per_debit_fen=per_debit,
        per_day_fen=per_day,
        per_day_count=count,
    )
