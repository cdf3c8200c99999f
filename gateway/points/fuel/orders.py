"""Orders of people at an island: a side may be authorised once, for a vehicle they name or whoever pays at the till.

An order is a row of the ledger, with who gave it and why. It waits for the lifted nozzle, is taken in the change that
begins its sale, and lapses when nobody lifts in time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from sqlalchemy import Connection, bindparam, select

from gateway.debit.states import add_order, set_order
from gateway.ledger import tables
from gateway.ledger.transaction import Transaction
from gateway.model.ids import digest_of
from gateway.model.states import OrderState

_o = tables.pump_order
_GIVEN: Final = (
    select(_o)
    .where(tables.one_of(_o.c.state, OrderState.GIVEN), _o.c.charge_point == bindparam("point"))
    .order_by(_o.c.created_at, _o.c.id)
)


@dataclass(frozen=True, slots=True)
class Order:
    """Order that waits."""

    id: str
    side: int
    vehicle: str | None
    """Digest of the vehicle's plate; None: whoever lifts the nozzle pays at the till."""
    limit_fen: int | None
    given_us: int


def vehicle_digest(plate: str, colour: int | None) -> str:
    """Digest of a plate, by which an order names its vehicle: the ledger's chained rows name no person."""
    return digest_of("plate", plate, colour)


def given(connection: Connection, charge_point: str) -> Sequence[Order]:
    """Read the orders that wait at an island, oldest first."""
    return [
        Order(row.id, row.side, row.vehicle, row.limit_fen, row.created_at)
        for row in connection.execute(_GIVEN, {"point": charge_point})
    ]


def give(
    tx: Transaction,
    order_id: str,
    *,
    charge_point: str,
    side: int,
    vehicle: str | None,
    limit_fen: int | None,
    actor: str,
    reason: str,
) -> str | None:
    """Store an order; else the code of the reason why not: one waits for this side already."""
    waiting = tx.rows(_GIVEN, point=charge_point)
    if any(row.side == side for row in waiting):
        return "pump_order_waits"
    add_order(
        tx,
        order_id,
        by=actor,
        why=reason,
        charge_point=charge_point,
        side=side,
        vehicle=vehicle,
        limit_fen=limit_fen,
    )
    return None


def waits(tx: Transaction, order_id: str) -> bool:
    """True while an order is to be followed."""
    row = tx.find(_o, id=order_id)
    return row is not None and row.state == OrderState.GIVEN


def take(tx: Transaction, order_id: str, sale_id: str) -> None:
    """Take an order for a sale that begins in this change."""
    _end(tx, order_id, OrderState.TAKEN, sale_id=sale_id)


def refuse(tx: Transaction, order_id: str, reason: str) -> None:
    """Refuse an order that cannot be followed."""
    _end(tx, order_id, OrderState.REFUSED, reason=reason)


def lapse(tx: Transaction, order_id: str) -> None:
    """End an order for which nobody lifted the nozzle in time."""
    _end(tx, order_id, OrderState.LAPSED, reason="pump_order_lapsed")


def _end(tx: Transaction, order_id: str, state: OrderState, **values: str) -> None:
    row = tx.find(_o, id=order_id)
    if row is not None and row.state == OrderState.GIVEN:
        set_order(tx, row, state, **values)
