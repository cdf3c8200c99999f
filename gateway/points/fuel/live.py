"""Live state of a side as other processes get it, in the health file: keys are stable."""

from __future__ import annotations

from typing import Any

from gateway.points.fuel.side import Side


def live_facts(charge_point: str, side: Side) -> dict[str, Any]:
    """Tell how a side stands: its place, its pump's newest word, and what the gateway does there."""
    settings, facts, sale, order = side.settings, side.facts, side.sale, side.order
    nozzle = facts.nozzle if sale is None else sale.place.nozzle
    delivered = facts.delivered
    return {
        "lane": charge_point,
        "side": settings.number,
        "pump": settings.pump,
        "address": settings.address,
        "online": facts.online,
        "state": None if facts.state is None else facts.state.name.lower(),
        "nozzle": nozzle or None,
        "out": facts.out,
        "grade": settings.grades.get(nozzle),
        "unit_price_milli": facts.unit_price_milli,
        "volume_ml": None if delivered is None else delivered.volume_ml,
        "amount_fen": None if delivered is None else delivered.amount_minor,
        "sale_id": None if sale is None else sale.id,
        "sale_state": None if sale is None else sale.state.value,
        "order": None
        if order is None
        else {"order_id": order.id, "cash": order.vehicle is None, "limit_fen": order.limit_fen},
        "since_us": facts.since_us,
    }
