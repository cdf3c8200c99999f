"""Cards as the ledger knows them: what permits them to pay, what their payer owes, and what is still open."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Connection, Select, and_, func, or_, select

from gateway.ledger import tables
from gateway.model.states import DebitState, PurchaseState
from gateway.payers import mandates
from gateway.payers.mandates import CredentialKind, Mandate
from gateway.views.mandates import Exposure, Limit, exposure_of, limits_of

_s, _d, _p, _o = tables.subject, tables.debit, tables.purchase, tables.obligor


@dataclass(frozen=True, slots=True)
class OpenPurchase:
    """Newest purchase of a card that has no end yet, or an end that contradicts itself."""

    passage_id: str
    state: PurchaseState
    amount_fen: int


@dataclass(frozen=True, slots=True)
class CardStanding:
    """Standing of a card in the ledger. `listed`: its payer is on the box's own list for its debts."""

    mandate: Mandate | None
    exposure: Exposure | None
    limits: tuple[Limit, ...]
    debts: int
    debts_fen: int
    listed: bool
    purchase: OpenPurchase | None


@dataclass(frozen=True, slots=True)
class DayUse:
    """Debits of a mandate's payer on one day, for one service or all."""

    amount_fen: int
    count: int


def standing_of(connection: Connection, card_number: str) -> CardStanding:
    """Standing of a card, by its printed number."""
    mandate = mandates.find(connection, CredentialKind.CARD, card_number)
    mandate_id = None if mandate is None else mandate.mandate_id
    owed = select(func.count(_d.c.id), func.coalesce(func.sum(_d.c.amount), 0)).where(
        tables.owing(DebitState.DEBT), _d.c.obligor_id.in_(_obligors(card_number, mandate_id))
    )
    debts, debts_fen = connection.execute(owed).one()
    listed = select(_o.c.id).where(_o.c.id.in_(_obligors(card_number, mandate_id)), _o.c.listed_at.is_not(None))
    return CardStanding(
        mandate,
        None if mandate_id is None else exposure_of(connection, mandate_id),
        () if mandate_id is None else limits_of(connection, mandate_id),
        debts,
        debts_fen,
        connection.execute(listed.limit(1)).first() is not None,
        _unsettled(connection, card_number),
    )


def day_use(connection: Connection, mandate_id: str, day: str, service: str | None) -> DayUse:
    """Debits of a mandate on a day (YYYYMMDD), voided ones left out; of one service, or of all for None."""
    query = (
        select(func.coalesce(func.sum(_d.c.amount), 0), func.count())
        .join_from(_d, _o, _o.c.id == _d.c.obligor_id)
        .where(_o.c.mandate_id == mandate_id, _d.c.day == day, _d.c.state != DebitState.VOIDED)
    )
    if service is not None:
        query = query.where(_d.c.service == service)
    return DayUse(*connection.execute(query).one())


def _obligors(card_number: str, mandate_id: str | None) -> Select[tuple[str]]:
    """Obligors behind a card: its mandate, and whoever was charged when it was read."""
    of_card = _s.c.card_number == card_number
    charged = select(_d.c.obligor_id).join_from(_s, _d, _d.c.passage_id == _s.c.id).where(of_card)
    if mandate_id is None:
        return charged
    return select(_o.c.id).where(or_(_o.c.mandate_id == mandate_id, _o.c.id.in_(charged)))


def _unsettled(connection: Connection, card_number: str) -> OpenPurchase | None:
    row = connection.execute(
        select(_d.c.passage_id, _d.c.amount, _p.c.state)
        .join_from(_s, _d, _d.c.passage_id == _s.c.id)
        .join(_p, _p.c.debit_id == _d.c.id)
        .where(
            _s.c.card_number == card_number,
            or_(
                _p.c.state.in_((PurchaseState.INTENT, PurchaseState.UNKNOWN)),
                and_(_p.c.state == PurchaseState.DISPUTED, _d.c.state == DebitState.HELD),
            ),
        )
        .order_by(_d.c.hold_id.desc(), _p.c.attempt_no.desc())
        .limit(1)
    ).one_or_none()
    return None if row is None else OpenPurchase(row.passage_id, PurchaseState(row.state), row.amount)
