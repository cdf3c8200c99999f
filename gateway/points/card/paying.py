"""Payment by a user card, before it is asked: who pays with it, what its purse allows, and when the purchase is."""

from __future__ import annotations

from datetime import datetime
from typing import Final, Protocol

from gateway.debit.claims import Payer, PreviousPurchase
from gateway.model.plate import Plate
from gateway.payers import mandates
from gateway.payers.mandates import CredentialKind, Issuers, Mandate
from gateway.points.visit import Visit
from protocols.card.codes import CardType
from protocols.card.files import CardFile

PURSE_SUSPICIOUS: Final = 1 << 31
"""Top bit of a stored-value balance: a card in debt in one scheme, to be looked at by a person."""


class AsksPayers(Protocol):
    """Visit as it is needed to find a payer."""

    @property
    def issuers(self) -> Issuers: ...
    async def mandate_of(self, kind: CredentialKind, key: str) -> Mandate | None:
        """Find a credential's mandate."""
        ...


async def payer_of(visit: AsksPayers, card: CardFile, plate: Plate) -> Payer | str:
    """Find the payer behind a card, or the code of the reason why there is none."""
    issuer = visit.issuers.of(card.issuer)
    if issuer is None:
        return "card_issuer_unknown"
    if card.card_type == CardType.STORED_VALUE:
        return mandates.payer_of_stored_value(issuer)
    mandate = await visit.mandate_of(CredentialKind.CARD, card.card_number)
    return mandates.payer_of_charge_card(issuer, mandate, plate)


def purse_problem(balance_raw: int | None, amount_fen: int) -> str | None:
    """Code of the reason why a purse with this balance cannot pay this amount; None when it can."""
    balance = balance_raw or 0
    if balance >= PURSE_SUSPICIOUS:
        return "purse_suspicious"
    if balance < amount_fen:
        return "purse_zero" if balance == 0 else "purse_too_low"
    return None


def purchase_second(visit: Visit, previous: PreviousPurchase | None) -> int:
    """UNIX second of the purchase, later than that of the card's last one: file 0019 must differ from it."""
    now = int(visit.clock.utcnow().timestamp())
    if previous is None:
        return now
    last = datetime.strptime(previous.purchase_time, "%Y%m%d%H%M%S").replace(tzinfo=visit.zone)
    return max(now, int(last.timestamp()) + 1)
