"""Sales that a pump controller tells by itself, and what the ledger has of them.

A side settles its sales itself, while they are open at the controller. What the controller tells afterwards is a second
word on the same delivery, or one on a delivery that nobody of ours let begin:

| told | what becomes of it |
|---|---|
| under the tag of a sale of ours, or by the name of one that is stored | it is open: again later; else: known |
| at a side where a sale of ours is open, not sold by hand | again later: it may be that sale |
| none of these, and the totaliser after it is where the sales we know have brought it | known |
| none of these, and that is not known: sent by the controller | stored as unexplained, with an item |
| the same, remembered by an idle pump | known: the totaliser of the side tells |
| any other | stored as unexplained, with an item |

One transaction looks and stores, so nothing is stored twice, however often and by whatever way it comes.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from typing import Final

from gateway.ledger import tables
from gateway.ledger.batches import LedgerWriter, StorageUnavailable
from gateway.ledger.transaction import Transaction
from gateway.model.states import SaleState
from gateway.points.fuel import book
from gateway.points.fuel.book import Place
from gateway.points.fuel.settings import SideSettings
from gateway.points.fuel.settling import Sold, is_gap
from protocols.pump.jsonpts.sides import UploadedSale
from protocols.pump.types import SideId

log = logging.getLogger(__name__)

TAG_LENGTH: Final = 32
"""Hex digits of an id of ours; a tag of another length is a driver's key or card."""


class Uploads:
    """Sales that the controllers of one island tell."""

    def __init__(
        self, point: str, sides: Mapping[SideId, SideSettings], writer: LedgerWriter, new_id: Callable[[], str]
    ) -> None:
        """`sides`: those at one controller, by their pump there."""
        self._point = point
        self._sides = sides
        self._writer = writer
        self._new_id = new_id

    async def take(self, sale: UploadedSale) -> bool:
        """Take a sale; True once it is stored, or was before."""
        side = self._sides.get(sale.key.pump)
        if side is None:
            log.warning("%s: a sale at pump %s, which is no side of this island", self._point, sale.key.pump)
            return True
        new_id = self._new_id()
        try:
            return await asyncio.shield(
                self._writer.submit(lambda tx: _taken(tx, new_id, self._place(side, sale), sale, side), essential=True)
            )
        except StorageUnavailable as trouble:
            log.warning("%s: a sale that was told is not stored: %s", self._point, trouble)
            return False

    def _place(self, side: SideSettings, sale: UploadedSale) -> Place:
        return Place(charge_point=self._point, side=side.number, nozzle=sale.nozzle, grade=side.grades.get(sale.nozzle))


def _taken(tx: Transaction, new_id: str, place: Place, sale: UploadedSale, side: SideSettings) -> bool:
    """Look for a sale, and store it where nobody knows of it; False where that cannot be told yet."""
    known = _state_of_tagged(tx, place, sale.tag)
    if known not in (None, SaleState.NOTHING):
        return known != SaleState.OPEN
    if book.is_stored(tx, place, sale.key.name):
        return True
    if not sale.by_hand and book.is_open(tx, place):
        return False
    totaliser_ml = None if sale.totals is None else sale.totals.volume_ml
    if not sale.delivered.volume_ml or _is_counted(tx, place, totaliser_ml, side, otherwise=not sale.pushed):
        return True
    log.warning("%s: a delivery that no sale explains at side %d: %s", place.charge_point, place.side, sale.delivered)
    book.find(
        tx,
        new_id,
        place,
        sold=_sold(sale, side),
        totaliser_ml=totaliser_ml,
        pump_sale=sale.key.name,
    )
    return True


def _state_of_tagged(tx: Transaction, place: Place, tag: str) -> SaleState | None:
    """State of the sale of ours that was authorised at this side under this tag."""
    row = tx.find(tables.sale, id=tag.lower()) if len(tag) == TAG_LENGTH else None
    if row is None or (row.charge_point, row.side) != (place.charge_point, place.side):
        return None
    return SaleState(row.state)


def _is_counted(
    tx: Transaction, place: Place, totaliser_ml: int | None, side: SideSettings, *, otherwise: bool
) -> bool:
    """True when the totaliser after a sale is where the sales that we know have brought it; `otherwise` where that is
    not known of either."""
    before = book.totaliser_by_sales_in(tx, place)
    if before is None or totaliser_ml is None:
        return otherwise
    return not is_gap(before, totaliser_ml, side.decimals, wraps_at_ml=side.totaliser_wraps_at_ml)


def _sold(sale: UploadedSale, side: SideSettings) -> Sold | None:
    """Delivery as it was sold; None where its numbers contradict each other."""
    told = sale.delivered
    price = told.unit_price_milli
    if price is None or told.volume_ml is None or told.amount_minor is None or not side.decimals.explains(told, price):
        return None
    return Sold(told.volume_ml, told.amount_minor, price)
