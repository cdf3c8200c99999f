"""`etcgw pumps`: how the sides of fuel islands stand now."""

from __future__ import annotations

from functools import cache
from types import MappingProxyType
from typing import TYPE_CHECKING, Annotated, Final

import typer

from gateway.cli import labels, words
from gateway.cli.columns import Column, Columns, at, each, fen, one, only, said, show_list
from gateway.cli.help import Commands
from gateway.cli.options import ConfigOption, JsonOption, at_site
from gateway.cli.running import health_at, not_running
from gateway.cli.sales import STATES, litres, order_for, price
from gateway.cli.screen import BAD, DOUBTFUL, GOOD, QUIET, Cell, Screen
from gateway.cli.usage import BadValue
from gateway.documents import known_are
from gateway.texts.catalogue import Pair, Words

if TYPE_CHECKING:
    from gateway.config import SiteFile
    from gateway.points.fuel.config import FuelIsland
    from gateway.views.pumps import LiveSide, WaitingOrder

app = Commands("pumps")

IDLE, CALLING = "idle", "calling"

STYLES: Final = MappingProxyType(
    {
        IDLE: QUIET,
        CALLING: DOUBTFUL,
        "authorised": GOOD,
        "fuelling": GOOD,
        "not_programmed": BAD,
        "closed": BAD,
        "fault": BAD,
    }
)
"""Styles of a side's states that are not like any other."""


@app.command("pumps")
def pumps(
    context: typer.Context,
    island: Annotated[str | None, typer.Argument(metavar="[ISLAND]", show_default=False)] = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show how the sides of fuel islands stand now, one line each. Exit 3 when the gateway does not run."""
    from gateway.views.pumps import sides

    screen, site = at_site(context, config)
    if island is not None:
        island_of(site, island)
    health = health_at(site)
    found = sides(health, island)
    beside = {"running": health.running, "age_s": round(health.age_s, 3)}
    if health.running or not as_json:
        show_list(screen, "pumps", SIDE, found, nothing=Words("pump.none"), as_json=as_json, beside=beside)
    if not health.running:
        raise not_running(health, {"pumps": each(SIDE)(screen, found), **beside})


def island_of(site: SiteFile, name: str) -> FuelIsland:
    """The section of a fuel island."""
    from gateway.points.fuel.config import FuelIsland

    islands = {point.name: point for point in site.charge_points if isinstance(point, FuelIsland)}
    if name not in islands:
        known = known_are(islands) if islands else Words("pump.none")
        raise BadValue(Words("usage.no-island", name=name, known=known), "'ISLAND'")
    return islands[name]


def state_text(screen: Screen, side: LiveSide) -> Cell:
    """State of a side in words; of one that is not heard that it is not, for nobody knows its state."""
    if side.online is None:
        return Cell(screen.say("pump.state-unknown"), DOUBTFUL)
    if not side.online:
        return Cell(screen.say("pump.silent"), BAD)
    if side.state is None:
        return Cell(screen.say("pump.not-heard"), DOUBTFUL)
    # DART and others have no state of their own for a lifted nozzle.
    return words.named(screen, _side_states(), CALLING if side.out and side.state == IDLE else side.state)


@cache
def _side_states() -> words.Table:
    from protocols.pump.types import SideState  # brings the library of declarations with it

    named = {state.name.lower(): state.value for state in SideState}
    return {name: (Pair(label.en, label.zh), STYLES.get(name, "")) for name, label in named.items()}


def order_text(screen: Screen, order: WaitingOrder | None) -> str:
    """A waiting order: who pays, and the most they may fill up for."""
    if order is None:
        return ""
    text = order_for(screen, order.cash)
    return text if order.limit_fen is None else f"{text} <= {words.yuan_with_currency(order.limit_fen)}"


ORDER: Final[Columns[WaitingOrder]] = only("order_id", "cash", "limit_fen")

SIDE: Final[Columns[LiveSide]] = (
    Column("lane", Words("label.island")),
    Column("side", Words("label.side"), right=True),
    Column("grade", Words("label.grade")),
    Column("nozzle", Words("label.nozzle"), right=True, rank=4),
    said(labels.STATE, state_text),
    *only("online", "state", "out", "pump", "address"),
    Column("volume_ml", Words("label.litres"), text=litres, right=True),
    fen("amount_fen", labels.AMOUNT),
    Column("unit_price_milli", Words("label.unit-price"), text=price, right=True, rank=1),
    Column("order", Words("label.order"), text=order_text, data=one(ORDER), rank=1),
    Column("sale_id", Words("label.sale"), rank=3),
    Column("sale_state", Words("label.sale-state"), text=words.coded(STATES), rank=2),
    at("since_at", Words("label.since"), rank=2),
)
