"""`etcgw pump`: one side of a fuel island, what a person orders there, and what pumps say, byte by byte."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any, Final, TypeVar

import typer

from gateway.cli import labels, words
from gateway.cli.acting import act_on
from gateway.cli.columns import Column, Columns, each, facts, one, only, said, show_one, show_record, show_table, within
from gateway.cli.described import frame_facts, show_frame
from gateway.cli.errors import CliFault, ExitCode, refusal
from gateway.cli.help import Commands
from gateway.cli.options import (
    ConfigOption,
    JsonOption,
    LastOption,
    ReasonOption,
    UnmaskOption,
    at_site,
    now_utc,
    reason_of,
    screen_of,
)
from gateway.cli.pumps import SIDE, island_of, order_text, state_text
from gateway.cli.rights import need_right
from gateway.cli.running import health_at, not_running
from gateway.cli.sales import ORDER, ORDER_STATES, SALE, litres
from gateway.cli.screen import Screen
from gateway.cli.status import PART
from gateway.cli.store import ledger_of, reader_of
from gateway.cli.usage import BadValue
from gateway.documents import known_are
from gateway.model.clock import to_us
from gateway.model.states import OrderState
from gateway.texts.catalogue import Words

if TYPE_CHECKING:
    from gateway.config import SiteFile
    from gateway.points.fuel.config import Side as SideSection
    from gateway.points.fuel.pump_links import PumpLink
    from gateway.views.health import Health, Part
    from gateway.views.pumps import LiveSide, Nozzle, PumpOrder
    from gateway.views.sales import Sale

app = Commands("pump", no_args_is_help=True)

PIECE_DIGITS_MAX: Final = 4
"""Arguments that are all this short are pieces of one message, pasted with blanks."""


T = TypeVar("T")

LOOK_EVERY_S: Final = 0.5
"""Seconds between two looks at a file that is renewed each second, or at an order that is followed within one."""

WAIT_S_MAX: Final = 3600.0
"""Longest wait for an order: none waits longer for its lifted nozzle."""

IslandArgument = Annotated[str, typer.Argument(metavar="ISLAND", show_default=False)]
SideArgument = Annotated[int, typer.Argument(metavar="SIDE", show_default=False)]


class Speaker(StrEnum):
    """End of a line that said a message: the bytes of the two cannot be told apart."""

    PUMP = "pump"
    CONTROLLER = "controller"


@app.callback()
def pump() -> None:
    """One side of a fuel island: look at it, watch it, let it be authorised; take apart what pumps say."""


@app.command()
def decode(
    context: typer.Context,
    *,
    frames: Annotated[list[str], typer.Argument(metavar="HEX", show_default=False)],
    dialect: Annotated[str, typer.Option("--dialect", metavar="NAME")] = "wayne-dart",
    speaker: Annotated[Speaker, typer.Option("--from")] = Speaker.PUMP,
    as_json: JsonOption = False,
) -> None:
    """Tell what messages say: every field with its place, bytes, value and meaning. Exit 5 when one is damaged."""
    from protocols.pump.dart.layout import Sender
    from protocols.pump.describe import DESCRIBERS

    screen = screen_of(context)
    if dialect not in DESCRIBERS:
        raise BadValue(Words("usage.no-dialect", dialect=dialect, names=", ".join(sorted(DESCRIBERS))), "'--dialect'")
    damaged = 0
    told: list[dict[str, Any]] = []
    for number, raw in enumerate(_messages(frames)):
        described = DESCRIBERS[dialect](raw, Sender(speaker.value))
        damaged += not described.ok
        if as_json:
            told.append(frame_facts(described, unmask=True))
            continue
        if number:
            screen.line()
        show_frame(screen, described, unmask=True)
    facts = {"ok": not damaged, "frames": told}
    if damaged:
        text = screen.say("rsu.damaged", damaged=damaged, shown=number + 1)
        raise CliFault(ExitCode.PROTOCOL, "frame_damaged", text, facts=facts)
    if as_json:
        screen.json(facts)


def _messages(texts: Sequence[str]) -> list[bytes]:
    """Bytes of the arguments: one message each, or all of them pieces of one."""
    from gateway.cli.frames import HexWrong, bytes_of

    if all(len(text) <= PIECE_DIGITS_MAX for text in texts):
        texts = [" ".join(texts)]
    try:
        return [bytes_of(text) for text in texts]
    except HexWrong as error:
        raise BadValue(error.problem, "'HEX'") from error


# --- one side ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Whole:
    """One side with everything about it."""

    live: LiveSide
    line: PumpLink
    nozzles: Sequence[Nozzle]
    sales: Sequence[Sale]
    orders: Sequence[PumpOrder]
    parts: Sequence[Part]


@app.command()
def show(
    context: typer.Context,
    *,
    island: IslandArgument,
    side: SideArgument,
    config: ConfigOption = None,
    last: LastOption = 5,
    as_json: JsonOption = False,
    unmask: UnmaskOption = False,
) -> None:
    """Show everything about one side: pump, sales, totalisers, orders. Exit 3 when the gateway does not run."""
    screen, site = at_site(context, config)
    section, line = _side_of(site, island, side)
    health = health_at(site)
    found = _whole(site, health, island, section, line, last=last, unmask=unmask)
    told = {**facts(screen, WHOLE, found), "running": health.running}
    if not as_json:
        _show(screen, found)
    elif health.running:
        screen.json(told)
    if not health.running:
        raise not_running(health, told)


def _whole(
    site: SiteFile,
    health: Health,
    island: str,
    section: SideSection,
    line: PumpLink,
    *,
    last: int,
    unmask: bool,
) -> Whole:
    from gateway.views import pumps
    from gateway.views.sales import sales_at

    number, grades = section.number, {nozzle.number: nozzle.grade for nozzle in section.nozzles}
    live = next(iter(pumps.sides(health, island, number)), None)
    parts = {f"{island}/{part}" for part in (line.name, f"pump-{number}", f"prices-{number}")}
    with ledger_of(site) as connection:
        return Whole(
            pumps.unheard(island, number) if live is None else live,
            line,
            pumps.nozzles(connection, island, number, grades),
            sales_at(connection, island, number, grades, last, unmask=unmask),
            pumps.orders_at(connection, island, number, last),
            [part for part in health.parts if part.name in parts],
        )


def _show(screen: Screen, found: Whole) -> None:
    show_record(screen, SIDE, found.live)
    show_record(screen, LINE, found.line)
    _show_part(screen, NOZZLE, found.nozzles)
    _show_part(screen, SALE, found.sales)
    _show_part(screen, ORDER, found.orders)
    _show_part(screen, PART, found.parts)


def _show_part(screen: Screen, columns: Columns[T], rows: Sequence[T]) -> None:
    if rows:
        screen.line()
        show_table(screen, columns, rows)


def _side_of(site: SiteFile, island: str, number: int) -> tuple[SideSection, PumpLink]:
    """The section of a side, and that of the line its pump is on."""
    section = island_of(site, island)
    for side in section.sides:
        if side.number == number:
            return side, next(line for line in section.pumps if line.name == side.pump)
    known = known_are(str(side.number) for side in section.sides)
    raise BadValue(Words("usage.no-side", island=island, side=number, known=known), "'SIDE'")


# --- watching ---------------------------------------------------------------------------------------------------------


@app.command()
def watch(
    context: typer.Context,
    *,
    island: IslandArgument,
    side: Annotated[int | None, typer.Argument(metavar="[SIDE]", show_default=False)] = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Tell how the sides of an island stand, and then every change, a line each, until Ctrl-C."""
    from gateway.views.pumps import sides

    screen, site = at_site(context, config)
    if side is None:
        island_of(site, island)
    else:
        _side_of(site, island, side)
    known: dict[int, LiveSide] = {}
    with suppress(KeyboardInterrupt):
        while True:
            for one in sides(health_at(site), island, side):
                if known.get(one.side) != one:
                    known[one.side] = one
                    _tell(screen, one, as_json=as_json)
            sys.stdout.flush()
            time.sleep(LOOK_EVERY_S)


def _tell(screen: Screen, side: LiveSide, *, as_json: bool) -> None:
    now_us = to_us(now_utc())
    if as_json:
        screen.json({"at": screen.iso(now_us), **facts(screen, SIDE, side)}, in_a_line=True)
        return
    shown = "" if side.volume_ml is None else screen.say("pump.litres", litres=litres(screen, side.volume_ml))
    state, order = state_text(screen, side), order_text(screen, side.order)
    place = screen.say("pump.place", side=side.side, grade=side.grade or "-")
    parts = (screen.short(now_us), place, state.text, shown, words.yuan_with_currency(side.amount_fen), order)
    screen.line("  ".join(part for part in parts if part), state.style)


# --- what people do ---------------------------------------------------------------------------------------------------


@app.command()
def authorise(
    context: typer.Context,
    *,
    island: IslandArgument,
    side: SideArgument,
    cash: Annotated[bool, typer.Option("--cash")] = False,
    plate: Annotated[str | None, typer.Option("--plate", metavar="TEXT", show_default=False)] = None,
    colour: Annotated[int | None, typer.Option("--colour", metavar="N", show_default=False)] = None,
    limit: Annotated[int | None, typer.Option("--limit", metavar="FEN", min=1, show_default=False)] = None,
    reason: ReasonOption,
    wait: Annotated[float, typer.Option("--wait", metavar="SECONDS", min=0, max=WAIT_S_MAX)] = 0,
    even_stopped: Annotated[bool, typer.Option("--even-stopped")] = False,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Let a side be authorised once, at the next lift or at this one. Exit 1 when the order comes to nothing."""
    from gateway.acts.acts import AuthorisePump

    screen, site = at_site(context, config)
    _side_of(site, island, side)
    text, code = _vehicle(cash, plate, colour)
    act = AuthorisePump(
        charge_point=island, side=side, plate=text, plate_colour=code, limit_fen=limit, reason=reason_of(reason)
    )
    if wait:
        need_right(site.storage.ledger)  # asked before: an order that was given cannot be taken back
    given = {**act_on(site, act, only_running=not even_stopped), "sale_id": None, "reason": None}
    found = _followed(site, given, wait)
    if found["reason"] is not None:
        raise refusal(found["reason"], Words("pump.not-followed", island=island, side=side), found)
    show_one(screen, ORDERED, found, as_json=as_json)
    if found["state"] == OrderState.GIVEN and not as_json:
        screen.note(screen.say("pump.waits-for-lift", seconds=f"{island_of(site, island).order_waits_s:.0f}"))


def _vehicle(cash: bool, plate: str | None, colour: int | None) -> tuple[str | None, int | None]:
    """Plate of the vehicle that an order names, as tags have it; None for whoever pays at the till."""
    from gateway.model.plate import Plate, PlateColour

    if cash == (plate is not None) or (plate is None) != (colour is None):
        raise BadValue(Words("usage.authorise-whom"), "'--cash'")
    if plate is None or colour is None:
        return None, None
    vehicle = Plate(plate, PlateColour.of(colour))
    if not vehicle.colour_known:
        known = ", ".join(str(one.value) for one in PlateColour if one is not PlateColour.UNKNOWN)
        raise BadValue(Words("mandates.no-colour", value=colour, known=known), "'--colour'")
    if not vehicle.text_known:
        raise BadValue(Words("usage.no-plate", text=plate), "'--plate'")
    return vehicle.text, colour


def _followed(site: SiteFile, given: Mapping[str, Any], wait_s: float) -> Mapping[str, Any]:
    """Wait until an order is taken or has come to nothing, but no longer than that; as it stands then."""
    from gateway.views.pumps import order

    if not wait_s:
        return given
    until = time.monotonic() + wait_s
    with reader_of(site) as reader:
        while True:
            with reader.connect() as connection:
                found = order(connection, given["order_id"])
            if found is not None and (found.state is not OrderState.GIVEN or time.monotonic() >= until):
                return {**given, "state": found.state.value, "sale_id": found.sale_id, "reason": found.reason}
            time.sleep(LOOK_EVERY_S)


ORDERED: Final[Columns[Mapping[str, Any]]] = (
    Column("order_id", Words("label.order")),
    Column("lane", Words("label.island")),
    Column("side", Words("label.side")),
    Column("state", labels.STATE, text=words.coded(ORDER_STATES)),
    Column("sale_id", Words("label.sale")),
    *only("reason"),
)

LINE: Final[Columns[PumpLink]] = (
    Column("name", Words("label.pump-line")),
    Column("address", Words("label.address"), lambda link: getattr(link, "address", None)),  # some call us
    Column("dialect", Words("label.dialect")),
    said(
        Words("label.decimals"),
        lambda screen, line: screen.say(
            "pump.decimals",
            volume=line.volume_decimals,
            amount=line.amount_decimals,
            price=line.price_decimals,
        ),
    ),
    *only("volume_decimals", "amount_decimals", "price_decimals", "totaliser_litres"),
)

NOZZLE: Final[Columns[Nozzle]] = (
    Column("nozzle", Words("label.nozzle"), right=True),
    Column("grade", Words("label.grade")),
    Column("totaliser_ml", Words("label.totaliser-by-sales"), text=litres, right=True),
)

WHOLE: Final[Columns[Whole]] = (
    *within(SIDE, lambda found: found.live),
    Column("line", of=lambda found: found.line, data=one(LINE)),
    Column("nozzles", data=each(NOZZLE)),
    Column("sales", data=each(SALE)),
    Column("orders", data=each(ORDER)),
    Column("parts", data=lambda _, parts: [asdict(part) for part in parts]),
)
