"""Limits of what a payer may owe: exposure, limits a debit and a day, and the box's own list.

Limits are read in the very transaction that places the hold, so one that was changed binds from the next hold on. A
hold counts from the moment it is durable, and no more once it is voided. Changes of one transaction see each other,
so requests that arrive together cannot pass a limit together.
"""

from __future__ import annotations

from collections.abc import Mapping

from sqlalchemy import and_, bindparam, delete, func, select

from gateway.debit.claims import HoldRequest
from gateway.ledger import tables
from gateway.ledger.books import AccountKind
from gateway.ledger.statements import Row
from gateway.ledger.transaction import Transaction
from gateway.model.states import DebitState
from gateway.rules.judge import ListingEffect, beyond_limit, limit_of, listing_effect
from gateway.rules.loading import DebitRules

ALL_SERVICES = "*"
LIMIT_COLUMNS = ("per_debit_fen", "per_day_fen", "per_day_count")

_m, _l, _d = tables.mandate, tables.mandate_limit, tables.debit
_LIMITS = (
    select(_m.c.limit_fen, _l.c.service, _l.c.per_debit_fen, _l.c.per_day_fen, _l.c.per_day_count)
    .join_from(
        _m,
        _l,
        and_(_l.c.mandate_id == _m.c.id, _l.c.service.in_((bindparam("service"), ALL_SERVICES))),
        isouter=True,
    )
    .where(_m.c.id == bindparam("mandate"))
)
_CLEAR = delete(_l).where(_l.c.mandate_id == bindparam("mandate"), _l.c.service == bindparam("service"))
_DAY = (
    select(_d.c.service, func.sum(_d.c.amount).label("fen"), func.count().label("count"))
    .where(_d.c.obligor_id == bindparam("obligor"), _d.c.day == bindparam("day"), _d.c.state != DebitState.VOIDED)
    .group_by(_d.c.service)
)


def problem(tx: Transaction, request: HoldRequest, obligor_id: str, listed: bool, rules: DebitRules) -> str | None:
    """None when the payer may owe this amount as well, else the code of the reason."""
    payer, service = request.payer, request.sight.service.value
    if listed and listing_effect(rules, service) is not ListingEffect.ALLOW:
        return "debts_listed"
    # What the mandate says at this moment: the payer was looked up before its vehicle was asked for anything.
    rows = [] if payer.mandate_id is None else tx.rows(_LIMITS, mandate=payer.mandate_id, service=service)
    limit_fen = rows[0].limit_fen if rows else payer.limit_fen
    if limit_fen is not None and exposure(tx, obligor_id) + request.amount_fen > limit_fen:
        return "limit_exceeded"
    if payer.mandate_id is None:
        return None
    stated = {row.service: row for row in rows}
    for scope in (service, ALL_SERVICES):
        found = _beyond(tx, request, obligor_id, scope, stated=stated.get(scope), rules=rules)
        if found is not None:
            return found
    return None


def change_limit(
    tx: Transaction, mandate_id: str, service: str, changes: Mapping[str, int | None], *, actor: str, rules: DebitRules
) -> str | None:
    """Set limits of a mandate for a service (`*`: all together); None when done, else the code of the reason why not.

    `changes` by column, None for no such limit. What it does not name stays as it is: stated before, or by the rules.
    """
    if tx.find(_m, id=mandate_id) is None:
        return "mandate_unknown"
    known = tx.find(_l, mandate_id=mandate_id, service=service)
    now = limit_of(rules, service) if known is None else known
    before = {column: getattr(now, column) for column in LIMIT_COLUMNS}
    values = {**before, **changes}
    if known is None:
        tx.insert(_l, mandate_id=mandate_id, service=service, **values)
    else:
        tx.update(_l, {"mandate_id": mandate_id, "service": service}, **values)
    told = ", ".join(f"{name} {_told(before[name])} -> {_told(values[name])}" for name in changes)
    tx.note("limit", mandate_id, "changed", detail=f"{service}: {told}", actor=actor)
    return None


def clear_limit(tx: Transaction, mandate_id: str, service: str, actor: str) -> str | None:
    """Remove the limits stated for a service: the rules' limits bind again. None when done, else a code."""
    if tx.find(_m, id=mandate_id) is None:
        return "mandate_unknown"
    tx.execute(_CLEAR, mandate=mandate_id, service=service)
    tx.note("limit", mandate_id, "cleared", detail=service, actor=actor)
    return None


def change_exposure(tx: Transaction, mandate_id: str, limit_fen: int | None, actor: str) -> str | None:
    """Change the exposure limit of a mandate's payer, None for no such limit. None when done, else a code."""
    mandate = tx.find(_m, id=mandate_id)
    if mandate is None:
        return "mandate_unknown"
    tx.update(_m, {"id": mandate_id}, limit_fen=limit_fen)
    detail = f"exposure {_told(mandate.limit_fen)} -> {_told(limit_fen)}"
    tx.note("limit", mandate_id, "changed", detail=detail, actor=actor)
    return None


def _told(value: int | None) -> str:
    return "none" if value is None else str(value)


def exposure(tx: Transaction, obligor: str) -> int:
    """Exposure of an obligor, fen owed or reserved: holds + |open| + |debt|. What is due back never lowers it."""
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
