"""Facts of a site that a card is judged by, gathered once from its ledger and its status lists; nothing is written."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Final

from sqlalchemy import Connection

from gateway.cards.verdict import ListsInForce, SiteFacts
from gateway.model.passage import Service
from gateway.payers.list_file import StatusListError
from gateway.payers.status_lists import DropBound, StatusLists
from gateway.rules.judge import ListingEffect, beyond_limit, limit_of, listing_effect
from gateway.rules.loading import DebitRules
from gateway.texts.foreign import text_of_error
from gateway.views.cards import CardStanding, day_use, standing_of

ALL_SERVICES: Final = "*"


def lists_in_force(directory: Path, now: datetime, bound: DropBound, age_limit: timedelta) -> ListsInForce:
    """Open the status lists of a folder; where none can be used, with the reason."""
    try:
        return ListsInForce(StatusLists.open(directory, now, bound), age_limit)
    except StatusListError as error:
        return ListsInForce(None, age_limit, text_of_error(error))


def with_ledger(
    facts: SiteFacts, connection: Connection, card_number: str, rules: DebitRules, *, today: str, amount_fen: int
) -> SiteFacts:
    """Facts of a site with what its ledger knows of a card. `today`: local day, YYYYMMDD, for limits a day."""
    standing = standing_of(connection, card_number)
    return replace(
        facts,
        standing=standing,
        limit_problem=_limit_problem(connection, standing, rules, today, amount_fen),
        debts_refused=listing_effect(rules, Service.TOLL.value) is not ListingEffect.ALLOW,
    )


def day_of(moment: datetime, zone: timezone) -> str:
    """Local day of a moment, YYYYMMDD."""
    return f"{moment.astimezone(zone):%Y%m%d}"


def _limit_problem(
    connection: Connection, standing: CardStanding, rules: DebitRules, today: str, amount_fen: int
) -> str | None:
    """Code of the reason why the mandate's limits leave no room for an amount, at a toll lane; None when they do."""
    mandate, exposure = standing.mandate, standing.exposure
    if mandate is None or exposure is None:
        return None
    used = exposure.held_fen + exposure.open_fen + exposure.debt_fen
    if mandate.limit_fen is not None and used + amount_fen > mandate.limit_fen:
        return "limit_exceeded"
    stated = {limit.service: limit for limit in standing.limits}
    for scope in (Service.TOLL.value, ALL_SERVICES):
        limit = stated.get(scope) or limit_of(rules, scope)
        use = day_use(connection, mandate.mandate_id, today, None if scope == ALL_SERVICES else scope)
        code = beyond_limit(
            amount_fen=amount_fen,
            day_fen=use.amount_fen,
            day_count=use.count,
            per_debit_fen=limit.per_debit_fen,
            per_day_fen=limit.per_day_fen,
            per_day_count=limit.per_day_count,
        )
        if code is not None:
            return code
    return None
