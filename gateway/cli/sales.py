"""`etcgw sales`: what pumps delivered, who paid it, and what is still open."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from gateway.cli import labels, words
from gateway.cli.acting import act_on
from gateway.cli.columns import (
    Column,
    Columns,
    at,
    each,
    facts,
    fen,
    one,
    only,
    said,
    show_list,
    show_one,
    show_record,
    show_table,
)
from gateway.cli.errors import CliFault, ExitCode
from gateway.cli.help import Commands
from gateway.cli.options import (
    ConfigOption,
    JsonOption,
    LastOption,
    ReasonOption,
    UnmaskOption,
    at_site,
    id_of,
    moment,
    reason_of,
    zone_of,
)
from gateway.cli.screen import BAD, DOUBTFUL, GOOD, QUIET, Cell, Screen
from gateway.cli.store import ledger_of
from gateway.cli.usage import BadValue
from gateway.model.money import CURRENCY, format_fen
from gateway.model.states import OrderState, SaleState
from gateway.texts.catalogue import Words

if TYPE_CHECKING:
    from gateway.views.pumps import PumpOrder
    from gateway.views.sales import NozzleSum, Sale

app = Commands("sales", invoke_without_command=True)

STATES: Final[words.Table] = {
    SaleState.OPEN.value: (Words("sales.state.open"), DOUBTFUL),
    SaleState.DELIVERED.value: (Words("sales.state.delivered"), DOUBTFUL),
    SaleState.BILLED.value: (Words("sales.state.billed"), GOOD),
    SaleState.NOTHING.value: (Words("sales.state.nothing"), QUIET),
    SaleState.GREY.value: (Words("sales.state.grey"), BAD),
}

ORDER_STATES: Final[words.Table] = {
    OrderState.GIVEN.value: (Words("pump.order.given"), DOUBTFUL),
    OrderState.TAKEN.value: (Words("pump.order.taken"), GOOD),
    OrderState.LAPSED.value: (Words("pump.order.lapsed"), QUIET),
    OrderState.REFUSED.value: (Words("pump.order.refused"), BAD),
}

SaleArgument = Annotated[str, typer.Argument(metavar="SALE")]


@app.callback()
def sales(
    context: typer.Context,
    *,
    config: ConfigOption = None,
    only_open: Annotated[bool, typer.Option("--open")] = False,
    last: LastOption = 20,
    as_json: JsonOption = False,
    unmask: UnmaskOption = False,
) -> None:
    """List the newest sales of fuel, one line each; `show` tells all about one."""
    if context.invoked_subcommand is not None:
        return
    from gateway.views import sales as view

    screen, site = at_site(context, config)
    with ledger_of(site) as connection:
        found = view.sales(connection, last, only_open=only_open, unmask=unmask)
    show_list(screen, "sales", SALE, found, nothing=Words("sales.none"), as_json=as_json)


@app.command()
def show(
    context: typer.Context,
    which: SaleArgument,
    config: ConfigOption = None,
    as_json: JsonOption = False,
    unmask: UnmaskOption = False,
) -> None:
    """Show one sale: what the pump said, what proved the vehicle, what became of the money."""
    screen, found, order = _one(context, config, which, unmask=unmask)
    if as_json:
        screen.json({**facts(screen, SALE, found), "order": one(ORDER)(screen, order)})
    else:
        show_record(screen, RECORD, found, *([] if order is None else [_ordered(screen, order)]))


@app.command()
def receipt(
    context: typer.Context,
    which: SaleArgument,
    config: ConfigOption = None,
    as_json: JsonOption = False,
    unmask: UnmaskOption = False,
) -> None:
    """Write the receipt of a sale: a slip of text, or with --json all that an invoice needs."""
    screen, found, _ = _one(context, config, which, unmask=unmask)
    if found.state is not SaleState.BILLED or found.debit_id is None:
        raise CliFault(
            ExitCode.REFUSED,
            "sale_not_billed",
            Words("sales.not-billed", sale=found.sale_id),
            None,
            Words("sales.see-it", sale=found.sale_id),
        )
    if as_json:
        screen.json(facts(screen, RECEIPT, found))
    else:
        show_record(screen, RECEIPT, found)


@app.command()
def settle(
    context: typer.Context,
    *,
    which: SaleArgument,
    volume: Annotated[int | None, typer.Option("--volume-ml", metavar="ML", min=1)] = None,
    amount: Annotated[int | None, typer.Option("--amount", metavar="FEN", min=1)] = None,
    nothing: Annotated[bool, typer.Option("--nothing")] = False,
    reason: ReasonOption,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Say what a pump delivered under a grey sale: it is charged by the gateway, or its hold is freed."""
    from gateway.acts.acts import SettleSale

    screen, site = at_site(context, config)
    if nothing == (volume is not None or amount is not None) or (volume is None) != (amount is None):
        raise BadValue(Words("usage.settle-what"), "'--nothing'")
    act = SettleSale(
        sale_id=id_of(which, "'SALE'"), volume_ml=volume or 0, amount_fen=amount or 0, reason=reason_of(reason)
    )
    show_one(screen, SETTLED, act_on(site, act), as_json=as_json)


@app.command()
def reconcile(
    context: typer.Context,
    *,
    config: ConfigOption = None,
    since: Annotated[str | None, typer.Option("--since", metavar="TIME")] = None,
    as_json: JsonOption = False,
) -> None:
    """Compare the sum of each nozzle's sales with what its totaliser grew by. Exit 1 where litres are unexplained."""
    from gateway.model.clock import to_us
    from gateway.views import sales as view

    screen, site = at_site(context, config)
    since_us = None if since is None else to_us(moment(since, zone_of(site), "--since"))
    with ledger_of(site) as connection:
        found = view.reconcile(connection, since_us)
    wrong = [one for one in found if one.unexplained_ml != 0]
    told = {"nozzles": each(NOZZLE)(screen, found)}
    if as_json and not wrong:
        screen.json(told)
    elif not as_json:
        show_table(screen, NOZZLE, found)
    if wrong:
        raise CliFault(
            ExitCode.REFUSED,
            "litres_unexplained",
            Words("sales.litres-unexplained", nozzles=len(wrong)),
            None,
            Words("sales.see-open"),
            facts=told,
        )


def _one(
    context: typer.Context, config: ConfigOption, which: str, *, unmask: bool
) -> tuple[Screen, Sale, PumpOrder | None]:
    """One sale, and the order on which it began."""
    from gateway.views import pumps
    from gateway.views import sales as view

    screen, site = at_site(context, config)
    with ledger_of(site) as connection:
        found = view.sale(connection, which.strip().lower(), unmask=unmask)
        order = None if found is None else pumps.order_of_sale(connection, found.sale_id)
    if found is None:
        raise CliFault(
            ExitCode.REFUSED, "no_such_sale", Words("sales.no-such-sale", which=which), None, Words("sales.listed")
        )
    return screen, found, order


def _ordered(screen: Screen, order: PumpOrder) -> tuple[str, str]:
    by = ": ".join(part for part in (order.actor, order.why) if part)
    return screen.word(Words("label.ordered-by")), f"{by} ({order.order_id})"


def litres(_: Screen, volume_ml: int | None) -> str:
    """Litres of a volume."""
    return _thousandths(volume_ml)


def order_for(screen: Screen, cash: bool) -> str:
    """Customer whom an order is for."""
    return screen.word(Words("pump.cash") if cash else Words("pump.for-vehicle"))


def _totaliser(screen: Screen, sale: Sale) -> str:
    before, after = litres(screen, sale.volume_before_ml), litres(screen, sale.volume_after_ml)
    return f"{before or '?'} - {after or '?'}"


def price(_: Screen, unit_price_milli: int | None) -> str:
    """Yuan a litre."""
    return _thousandths(unit_price_milli)


def _thousandths(value: int | None) -> str:
    """Two digits after the point, and the third where there is one."""
    return "" if value is None else f"{value / 1000:.{3 if value % 10 else 2}f}"


SALE: Final[Columns[Sale]] = (
    Column("sale_id", Words("label.sale"), rank=3),
    at("created_at", labels.TIME),
    Column("lane", Words("label.island"), rank=2),
    Column("side", Words("label.side"), right=True),
    Column("nozzle", Words("label.nozzle"), right=True, rank=4),
    Column("grade", Words("label.grade"), rank=1),
    Column("plate", labels.PLATE, lambda s: s.who.plate, rank=1),
    Column("volume_ml", Words("label.litres"), text=litres, right=True),
    Column("unit_price_milli", Words("label.unit-price"), text=price, right=True, rank=2),
    fen("amount_fen", labels.AMOUNT),
    Column("state", labels.STATE, text=words.coded(STATES)),
    Column("debit_state", Words("label.money"), text=words.coded(words.DEBIT_STATES), rank=1),
    Column("reason", labels.REASON, text=words.reason_text, rank=1, wrap_at=16),
    *only(
        "funding",
        "limit_fen",
        "volume_before_ml",
        "volume_after_ml",
        "proof",
        "debit_id",
        "payer",
        "record_no",
        "changed_at",
    ),
    Column("card_number", of=lambda s: s.who.card_number),
)

RECORD: Final[Columns[Sale]] = (
    Column("sale_id", Words("label.sale")),
    *(column for column in SALE if column.key not in ("sale_id", "plate")),
    Column("plate", labels.PLATE, lambda s: s.who.plate),
    said(
        Words("label.totaliser"),
        lambda s, sale: f"{litres(s, sale.volume_before_ml)} > {litres(s, sale.volume_after_ml)}",
    ),
    fen("limit_fen", labels.LIMIT),
    Column("proof", Words("label.proof-of-vehicle")),
    Column("debit_id", labels.DEBIT),
    Column("funding", labels.FUNDING, text=words.coded(words.FUNDINGS)),
    Column("record_no", Words("label.record")),
)

RECEIPT: Final[Columns[Sale]] = (
    Column("sale_id", Words("label.sale")),
    Column("record_no", Words("label.record")),
    Column("paid_at", labels.TIME, lambda s: s.changed_us, Screen.iso, Screen.iso),
    Column("merchant", Words("label.merchant")),
    Column("lane", Words("label.island")),
    Column("side", Words("label.side")),
    Column("nozzle", Words("label.nozzle")),
    Column("grade", Words("label.grade")),
    Column("volume_ml", Words("label.litres"), text=litres),
    Column("unit_price_milli", Words("label.unit-price"), text=price),
    Column("amount_fen", labels.AMOUNT, text=lambda _, fen: f"{format_fen(fen)} {CURRENCY}"),
    Column("currency", of=lambda _: CURRENCY),
    Column("funding", Words("label.paid-with"), text=words.coded(words.FUNDINGS)),
    Column("payer", Words("label.paid-by")),
    Column("debit_state", Words("label.money"), text=words.coded(words.DEBIT_STATES)),
    Column("plate", labels.PLATE, lambda s: s.who.plate),
    Column("card_number", labels.CARD, lambda s: s.who.card_number),
)

ORDER: Final[Columns[PumpOrder]] = (
    Column("order_id", Words("label.order")),
    at("created_at", labels.TIME),
    Column("cash", Words("label.for-whom"), text=order_for),
    fen("limit_fen", labels.LIMIT),
    Column("state", labels.STATE, text=words.coded(ORDER_STATES)),
    Column("reason", labels.REASON, text=words.reason_text, wrap_at=16),
    Column("actor", labels.BY),
    Column("why", Words("label.note"), rank=1, wrap_at=16),
    Column("sale_id", Words("label.sale"), rank=2),
    *only("lane", "side", "changed_at"),
)

SETTLED: Final[Columns[Mapping[str, Any]]] = (
    Column("sale_id", Words("label.sale")),
    Column("volume_ml", Words("label.litres"), text=litres),
    Column("amount_fen", labels.AMOUNT, text=lambda _, amount: words.yuan(amount)),
)

NOZZLE: Final[Columns[NozzleSum]] = (
    Column("lane", Words("label.island")),
    Column("side", Words("label.side"), right=True),
    Column("nozzle", Words("label.nozzle"), right=True),
    Column("sales", Words("label.sales"), right=True),
    Column("open", Words("label.not-ended"), right=True),
    Column("volume_ml", Words("label.litres"), text=litres, right=True),
    fen("amount_fen", labels.AMOUNT),
    Column("first_ml", Words("label.first-totaliser"), text=litres, right=True, rank=1),
    Column("last_ml", Words("label.last-totaliser"), text=litres, right=True, rank=1),
    Column(
        "unexplained_ml",
        Words("label.unexplained"),
        text=lambda screen, ml: Cell("?", DOUBTFUL) if ml is None else Cell(litres(screen, ml), BAD if ml else GOOD),
        right=True,
    ),
)
