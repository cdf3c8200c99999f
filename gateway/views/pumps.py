"""Sides of fuel islands: how they stand by the file of the running gateway, and what people ordered there."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Final

from sqlalchemy import Connection, Row, Select, func, select

from gateway.ledger import tables
from gateway.model.states import OrderState
from gateway.points.fuel.book import Place, totaliser_by_sales
from gateway.views.health import Health
from gateway.views.rows import view_of

_o, _j = tables.pump_order, tables.journal


@dataclass(frozen=True, slots=True)
class WaitingOrder:
    """Order that a side follows. `cash`: whoever lifts the nozzle pays at the till."""

    order_id: str
    cash: bool
    limit_fen: int | None


@dataclass(frozen=True, slots=True)
class LiveSide:
    """One side of an island. `online`: None of a gateway that does not run; `out`: of its holder; `volume_ml` and
    `amount_fen`: what its display shows; `since_us`: of its state."""

    lane: str
    side: int
    pump: str | None
    address: int | None
    online: bool | None
    state: str | None
    nozzle: int | None
    out: bool | None
    grade: str | None
    unit_price_milli: int | None
    volume_ml: int | None
    amount_fen: int | None
    sale_id: str | None
    sale_state: str | None
    order: WaitingOrder | None
    since_us: int | None


def sides(health: Health, lane: str | None = None, side: int | None = None) -> tuple[LiveSide, ...]:
    """Sides by the state file, of one island or of all."""
    told = [_side(row, running=health.running) for row in health.state.get("pumps", ())]
    return tuple(one for one in told if lane in (None, one.lane) and side in (None, one.side))


def unheard(lane: str, side: int) -> LiveSide:
    """A side that the gateway does not know: the site file was changed since it started."""
    return _side({"lane": lane, "side": side}, running=False)


def _side(row: Mapping[str, Any], *, running: bool) -> LiveSide:
    values: dict[str, Any] = {field.name: row.get(field.name) for field in fields(LiveSide)}
    if values["order"] is not None:
        values["order"] = WaitingOrder(**values["order"])
    if not running:
        values["online"] = None
    return LiveSide(**values)


@dataclass(frozen=True, slots=True)
class PumpOrder:
    """Order of a person. `cash`: whoever lifts the nozzle pays at the till; `reason`: code of why it came to nothing;
    `actor` and `why`: who gave it and what for, None where the journal is not where its time says."""

    order_id: str
    lane: str
    side: int
    cash: bool
    limit_fen: int | None
    state: OrderState
    sale_id: str | None
    reason: str | None
    actor: str | None
    why: str | None
    created_us: int
    changed_us: int


def order(connection: Connection, order_id: str) -> PumpOrder | None:
    """One order."""
    found = _orders(connection, select(_o).where(_o.c.id == order_id))
    return found[0] if found else None


def order_of_sale(connection: Connection, sale_id: str) -> PumpOrder | None:
    """Order on which a sale began; None for a sale that nobody ordered."""
    found = _orders(connection, select(_o).where(_o.c.sale_id == sale_id).limit(1))
    return found[0] if found else None


def orders_at(connection: Connection, lane: str, side: int, last: int) -> tuple[PumpOrder, ...]:
    """The newest orders of one side, newest first."""
    here = select(_o).where(_o.c.charge_point == lane, _o.c.side == side)
    return _orders(connection, here.order_by(_o.c.id.desc()).limit(last))


def _orders(connection: Connection, query: Select[Any]) -> tuple[PumpOrder, ...]:
    return tuple(_order(connection, row) for row in connection.execute(query))


def _order(connection: Connection, row: Row[Any]) -> PumpOrder:
    actor, why = _given(connection, row)
    return view_of(PumpOrder, row, order_id=row.id, cash=row.vehicle is None, actor=actor, why=why)


NEAR: Final = 2000
"""Rows of the journal on either side of where an order's time is found: those of a transaction have one time, and a
clock that was corrected by a little puts it a little off."""


def _given(connection: Connection, row: Row[Any]) -> tuple[str | None, str | None]:
    """Read who gave an order, and why. Its entry of the journal is found by its time: there is no index by order."""
    low, high = 1, connection.execute(select(func.max(_j.c.number))).scalar() or 1
    while low < high:
        middle = (low + high) // 2
        at = connection.execute(select(_j.c.at).where(_j.c.number == middle)).scalar()
        low, high = (middle + 1, high) if at is not None and at < row.created_at else (low, middle)
    here = _j.c.number.between(low - NEAR, low + NEAR)
    same = (_j.c.kind == "pump_order", _j.c.ref == row.id, _j.c.event == OrderState.GIVEN.value)
    found = connection.execute(select(_j.c.actor, _j.c.detail).where(here, *same)).first()
    return (None, None) if found is None else (found.actor, found.detail)


@dataclass(frozen=True, slots=True)
class Nozzle:
    """Nozzle of a side. `totaliser_ml`: where its totaliser stands by its sales, None where they do not say."""

    nozzle: int
    grade: str
    totaliser_ml: int | None


def nozzles(connection: Connection, lane: str, side: int, grades: Mapping[int, str]) -> tuple[Nozzle, ...]:
    """Nozzles of a side, by their grades."""
    return tuple(
        Nozzle(
            number,
            grade,
            totaliser_by_sales(connection, Place(charge_point=lane, side=side, nozzle=number, grade=grade)),
        )
        for number, grade in sorted(grades.items())
    )
