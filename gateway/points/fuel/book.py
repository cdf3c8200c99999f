"""Book of an island: its sales as they stand in the ledger, and the changes that move them.

| change | sale | debit behind it |
|---|---|---|
| `begin` | open: from here on a pump may have been authorised for it | held, and no time ends it |
| `deliver` | delivered: the pump's last word stands | held; completed next |
| `bill` | billed | decided |
| `end_with_nothing` | nothing | released next, or before |
| `leave_grey` | grey, with an item for people | held |
| `find` | billed elsewhere, or grey: nobody of ours let it begin | none |
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from sqlalchemy import Connection, bindparam, func, or_, select

from gateway.debit import holds
from gateway.debit.claims import DecisionContext, HoldRefused, Payer
from gateway.debit.purchases import PAYER, payer_in
from gateway.debit.states import add_item, add_sale, close_item, new_item, sale_row, set_sale
from gateway.ledger import tables
from gateway.ledger.transaction import Transaction
from gateway.model.passage import Occasion
from gateway.model.states import OPEN_SALES, DebitState, ItemState, SaleState
from gateway.points.fuel import allowance, orders
from gateway.points.fuel.allowance import Allowance, Asked
from gateway.points.fuel.settling import Begun, Sold

GREY, UNEXPLAINED = "sale_grey", "fuel_unexplained"
"""Kinds of items (`ref`: the sale): nobody knows what was delivered; a delivery that no sale of ours explains."""

BLIND_SALES_MAX: Final = 100
"""Sales of a nozzle in a row whose totaliser was not read, after which nobody can say where it should stand."""

_s, _d = tables.sale, tables.debit
_later = _s.alias("later")
_OPEN = (
    select(_s, tables.subject.c.obu_id, tables.subject.c.card_number, *PAYER)
    .add_columns(
        select(func.min(_later.c.id))
        .where(
            _later.c.charge_point == _s.c.charge_point,
            _later.c.side == _s.c.side,
            _later.c.created_at > _s.c.created_at,
        )
        .scalar_subquery()
        .label("later")
    )
    .join_from(_s, _d, _d.c.id == _s.c.debit_id)
    .join(tables.subject, tables.subject.c.id == _d.c.passage_id)
    .outerjoin(tables.mandate, tables.mandate.c.id == _d.c.mandate_id)
    .where(tables.one_of(_s.c.state, *OPEN_SALES), _s.c.charge_point == bindparam("point"))
    .order_by(_s.c.created_at)
)
_SERVED = (
    select(tables.subject.c.obu_id)
    .join_from(_s, _d, _d.c.id == _s.c.debit_id)
    .join(tables.subject, tables.subject.c.id == _d.c.passage_id)
    .where(_s.c.charge_point == bindparam("point"), tables.subject.c.obu_id.is_not(None))
    .order_by(_s.c.created_at.desc())
    .limit(bindparam("most"))
)
_HELD_FOR_NOTHING = (
    select(_d.c.id)
    .join_from(_d, tables.passage, tables.passage.c.id == _d.c.passage_id)
    .outerjoin(_s, (_s.c.debit_id == _d.c.id) & (_s.c.state != SaleState.NOTHING))
    .where(tables.held(), tables.passage.c.charge_point == bindparam("point"), _s.c.id.is_(None))
)
_NEWEST_AT_NOZZLE = (
    select(_s.c.state, _s.c.volume, _s.c.volume_after)
    .where(
        _s.c.charge_point == bindparam("point"),
        _s.c.side == bindparam("side"),
        _s.c.nozzle == bindparam("nozzle"),
    )
    .order_by(_s.c.created_at.desc(), _s.c.id.desc())
    .limit(BLIND_SALES_MAX)
)
_BY_NAME = (
    select(_s.c.id)
    .where(
        _s.c.charge_point == bindparam("point"),
        _s.c.side == bindparam("side"),
        _s.c.pump_sale == bindparam("name"),
    )
    .limit(1)
)
_OPEN_AT = (
    select(_s.c.id)
    .where(
        _s.c.charge_point == bindparam("point"),
        _s.c.side == bindparam("side"),
        tables.one_of(_s.c.state, *OPEN_SALES),
        _s.c.state == SaleState.OPEN,
    )
    .limit(1)
)
_GREY_OF_PAYER = (
    select(_s.c.id)
    .join_from(_s, _d, _d.c.id == _s.c.debit_id)
    .join(tables.subject, tables.subject.c.id == _d.c.passage_id)
    .where(
        tables.one_of(_s.c.state, SaleState.GREY),
        or_(_d.c.mandate_id == bindparam("mandate"), tables.subject.c.obu_id == bindparam("vehicle")),
    )
    .limit(1)
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Nozzle at which a sale is made."""

    charge_point: str
    side: int
    nozzle: int
    grade: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenSale:
    """Sale that is not at its end, as the ledger has it."""

    id: str
    debit_id: str
    payer: Payer
    vehicle: str
    """Tag of the vehicle, as the island names it; empty where it was erased, and for whoever pays at the till."""
    card_number: str | None
    """Card in the tag."""
    place: Place
    state: SaleState
    reason: str | None
    """Code of the reason why it is grey."""
    is_newest: bool
    """True when nothing was sold at this side since: what its pump shows is this sale's."""
    begun: Begun
    sold: Sold | None
    """Set from the moment at which the pump's last word is stored."""


def open_sales(connection: Connection, charge_point: str) -> Sequence[OpenSale]:
    """Read the sales of an island that are not at their end, oldest first."""
    return [
        OpenSale(
            id=row.id,
            debit_id=row.debit_id,
            payer=payer_in(row),
            vehicle=row.obu_id or "",
            card_number=row.card_number,
            place=Place(charge_point=row.charge_point, side=row.side, nozzle=row.nozzle, grade=row.grade),
            state=SaleState(row.state),
            reason=row.reason,
            is_newest=row.later is None,
            begun=Begun(row.limit_fen, row.unit_price, row.volume_before),
            sold=None if row.volume is None else Sold(row.volume, row.amount, row.unit_price),
        )
        for row in connection.execute(_OPEN, {"point": charge_point})
    ]


def held_for_nothing(connection: Connection, charge_point: str) -> Sequence[str]:
    """Read held debits of an island under which nothing was delivered: their sale says so, or was never stored."""
    return list(connection.execute(_HELD_FOR_NOTHING, {"point": charge_point}).scalars())


def totaliser_by_sales(connection: Connection, place: Place) -> int | None:
    """Read where a nozzle's totaliser must stand by its sales, millilitres, wraps left aside.

    None where they do not say: there is none yet, or what one of them delivered is not known.
    """
    values = {"point": place.charge_point, "side": place.side, "nozzle": place.nozzle}
    return _standing(connection.execute(_NEWEST_AT_NOZZLE, values))


def totaliser_by_sales_in(tx: Transaction, place: Place) -> int | None:
    """Read the same inside a transaction."""
    return _standing(tx.rows(_NEWEST_AT_NOZZLE, point=place.charge_point, side=place.side, nozzle=place.nozzle))


def _standing(newest: Iterable[Any]) -> int | None:
    since_ml = 0
    for row in newest:
        if row.volume_after is not None:
            return int(row.volume_after) + since_ml
        if row.volume is None and row.state != SaleState.NOTHING:
            return None
        since_ml += row.volume or 0
    return None


def served(connection: Connection, charge_point: str, most: int) -> Sequence[str]:
    """Read the vehicles of the newest sales of an island: any of them may stand there still."""
    return list(connection.execute(_SERVED, {"point": charge_point, "most": most}).scalars())


def has_grey(connection: Connection, payer: Payer, vehicle: str) -> bool:
    """True while a sale of this payer's mandate or this vehicle is grey: it gets no other."""
    values = {"mandate": payer.mandate_id, "vehicle": vehicle}
    return connection.execute(_GREY_OF_PAYER, values).scalar() is not None


def is_stored(tx: Transaction, place: Place, pump_sale: str) -> bool:
    """True when a delivery is stored that the pump's controller tells by this name."""
    return tx.first(_BY_NAME, point=place.charge_point, side=place.side, name=pump_sale) is not None


def is_open(tx: Transaction, place: Place) -> bool:
    """True while what is delivered at this side is to be settled by it."""
    return tx.first(_OPEN_AT, point=place.charge_point, side=place.side) is not None


def begin(
    tx: Transaction,
    sale_id: str,
    debit_id: str,
    *,
    place: Place,
    begun: Begun,
    asked: Asked,
    proof: str,
    order_id: str | None = None,
) -> Allowance | str | None:
    """Begin a sale on a hold, with what its terms allow at this moment: other sales may have begun since the hold.

    The code of the reason where they allow nothing any more; None where the hold, or the person's order that the sale
    is on, has ended in the meantime. Either way no pump may be authorised.
    """
    debit = tx.find(tables.debit, id=debit_id)
    if debit is None or debit.state != DebitState.HELD or (order_id is not None and not orders.waits(tx, order_id)):
        return None
    tx.flush()
    found = allowance.allowed(tx.connection, debit.mandate_id, debit.day, replace(asked, most_fen=debit.amount))
    if isinstance(found, str):
        return found
    add_sale(
        tx,
        sale_id,
        SaleState.OPEN,
        debit_id=debit_id,
        charge_point=place.charge_point,
        side=place.side,
        nozzle=place.nozzle,
        grade=place.grade,
        limit_fen=found.limit_fen,
        limit_ml=found.limit_ml,
        unit_price=begun.unit_price_milli,
        volume_before=begun.totaliser_ml,
        proof=proof[:200],
        mandate_id=debit.mandate_id,
        day=debit.day,
    )
    if order_id is not None:
        orders.take(tx, order_id, sale_id)
    return found


def deliver(
    tx: Transaction, sale_id: str, sold: Sold, totaliser_ml: int | None, *, pump_sale: str | None = None
) -> None:
    """Store the pump's last word on a sale. Once only: a second call changes nothing."""
    row = sale_row(tx, sale_id)
    if row.state in (SaleState.OPEN, SaleState.GREY):
        detail = f"{sold.volume_ml} ml, {sold.amount_fen} fen"
        set_sale(
            tx,
            row,
            SaleState.DELIVERED,
            detail=detail,
            volume=sold.volume_ml,
            amount=sold.amount_fen,
            unit_price=row.unit_price if sold.unit_price_milli is None else sold.unit_price_milli,
            volume_after=totaliser_ml,
            pump_sale=row.pump_sale if pump_sale is None else pump_sale,
            reason=None,
        )
        close_item(tx, GREY, sale_id, note="its delivery is known")


def bill(tx: Transaction, sale_id: str) -> None:
    """Note that the debit of a sale is decided."""
    row = sale_row(tx, sale_id)
    if row.state == SaleState.DELIVERED:
        set_sale(tx, row, SaleState.BILLED)


def end_with_nothing(tx: Transaction, sale_id: str, reason: str, totaliser_ml: int | None) -> None:
    """End a sale under which nothing was delivered."""
    row = sale_row(tx, sale_id)
    if row.state in (SaleState.OPEN, SaleState.GREY):
        set_sale(tx, row, SaleState.NOTHING, detail=reason, reason=reason, volume_after=totaliser_ml)
        close_item(tx, GREY, sale_id, note="nothing was delivered")


def leave_grey(
    tx: Transaction, sale_id: str, reason: str, totaliser_ml: int | None, *, pump_sale: str | None = None
) -> None:
    """Leave a sale to people: its hold stays, and an item is open."""
    row = sale_row(tx, sale_id)
    if row.state == SaleState.OPEN:
        set_sale(
            tx,
            row,
            SaleState.GREY,
            detail=reason,
            reason=reason,
            volume_after=totaliser_ml,
            pump_sale=pump_sale,
        )
        add_item(tx, GREY, row.debit_id, reason, ref=sale_id, amount=row.limit_fen)


def settle_by_person(tx: Transaction, sale_id: str, sold: Sold | None, *, actor: str, reason: str) -> str | None:
    """End a grey sale by a person who knows what was delivered, None for nothing; else the code of the reason why not.

    What was delivered is charged by the gateway; where nothing was, the hold is freed here.
    """
    row = tx.find(tables.sale, id=sale_id)
    if row is None:
        return "sale_unknown"
    if row.state != SaleState.GREY or row.debit_id is None:
        return "sale_settled"
    tx.note("person", sale_id, "settled", debit_id=row.debit_id, detail=reason, actor=actor)
    if sold is not None:
        deliver(tx, sale_id, sold, row.volume_after)
        return None
    end_with_nothing(tx, sale_id, "nothing_delivered", row.volume_after)
    context = DecisionContext(charge_point=row.charge_point, occasion=Occasion.PERSON)
    freed = holds.release(tx, row.debit_id, "nothing_delivered", context)
    return freed.reason if isinstance(freed, HoldRefused) else None


def find(
    tx: Transaction,
    sale_id: str,
    place: Place,
    *,
    sold: Sold | None,
    totaliser_ml: int | None,
    pump_sale: str | None = None,
) -> None:
    """Store a delivery that no sale of ours explains, with an item for people; one that is stored already is left."""
    if pump_sale is not None and is_stored(tx, place, pump_sale):
        return
    add_sale(
        tx,
        sale_id,
        SaleState.GREY if sold is None else SaleState.BILLED,
        debit_id=None,
        charge_point=place.charge_point,
        side=place.side,
        nozzle=place.nozzle,
        grade=place.grade,
        volume=None if sold is None else sold.volume_ml,
        amount=None if sold is None else sold.amount_fen,
        unit_price=None if sold is None else sold.unit_price_milli,
        volume_after=totaliser_ml,
        pump_sale=pump_sale,
        reason=UNEXPLAINED,
    )
    amount = 0 if sold is None else sold.amount_fen
    new_item(
        tx,
        ItemState.OPEN,
        detail=UNEXPLAINED,
        debit_id=None,
        kind=UNEXPLAINED,
        ref=sale_id,
        amount=amount,
        note=UNEXPLAINED,
    )
