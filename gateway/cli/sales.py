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
from gateway.model.states import SaleState
from gateway.texts.catalogue import Words

if TYPE_CHECKING:
    from gateway.views.sales import NozzleSum, Sale

app = Commands("sales", invoke_without_command=True)

STATES: Final[words.Table] = {
    SaleState.OPEN.value: (Words("sales.state.open"), DOUBTFUL),
    SaleState.DELIVERED.value: (Words("sales.state.delivered"), DOUBTFUL),
    SaleState.BILLED.value: (Words("sales.state.billed"), GOOD),
    SaleState.NOTHING.value: (Words("sales.state.nothing"), QUIET),
    SaleState.GREY.value: (Words("sales.state.grey"), BAD),
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
    screen, found = _one(context, config, which, unmask=unmask)
    if as_json:
        screen.json(facts(screen, SALE, found))
    else:
        show_record(screen, RECORD, found)


@app.command()
def receipt(
    context: typer.Context,
    which: SaleArgument,
    config: ConfigOption = None,
    as_json: JsonOption = False,
    unmask: UnmaskOption = False,
) -> None:
    """Write the receipt of a sale: a slip of text, or with --json all that an invoice needs."""
    screen, found = _one(context, config, which, unmask=unmask)
    if found.state is not SaleState.BILLED:
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


def _one(context: typer.Context, config: ConfigOption, which: str, *, unmask: bool) -> tuple[Screen, Sale]:
    from gateway.views import sales as view

    screen, site = at_site(context, config)
    with ledger_of(site) as connection:
        found = view.sale(connection, which.strip().lower(), unmask=unmask)
    if found is None:
        raise CliFault(
            ExitCode.REFUSED, "no_such_sale", Words("sales.no-such-sale", which=which), None, Words("sales.listed")
        )
    return screen, found


def litres(_: Screen, volume_ml: int | None) -> str:
    """Litres of a volume."""
    return "" if volume_ml is None else f"{volume_ml / 1000:.2f}"


def _totaliser(screen: Screen, sale: Sale) -> str:
    before, after = litres(screen, sale.volume_before_ml), litres(screen, sale.volume_after_ml)
    return f"{before or '?'} - {after or '?'}"


def _price(_: Screen, unit_price_milli: int | None) -> str:
    return "" if unit_price_milli is None else f"{unit_price_milli / 1000:.2f}"


SALE: Final[Columns[Sale]] = (
    Column("sale_id", Words("label.sale"), rank=3),
    at("created_at", labels.TIME),
    Column("lane", Words("label.island"), rank=2),
    Column("side", Words("label.side"), right=True),
    Column("nozzle", Words("label.nozzle"), right=True, rank=4),
    Column("grade", Words("label.grade"), rank=1),
    Column("plate", labels.PLATE, lambda s: s.who.plate, rank=1),
    Column("volume_ml", Words("label.litres"), text=litres, right=True),
    Column("unit_price_milli", Words("label.unit-price"), text=_price, right=True, rank=2),
    fen("amount_fen", labels.AMOUNT),
    Column("state", labels.STATE, text=words.coded(STATES)),
    Column("debit_state", Words("label.money"), text=words.coded(words.DEBIT_STATES), rank=1),
    Column("reason", labels.REASON, text=words.reason_text, rank=1, wrap_at=16),
    *only("limit_fen", "volume_before_ml", "volume_after_ml", "proof", "debit_id", "payer", "record_no", "changed_at"),
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
    Column("unit_price_milli", Words("label.unit-price"), text=_price),
    Column("amount_fen", labels.AMOUNT, text=lambda _, fen: f"{format_fen(fen)} {CURRENCY}"),
    Column("currency", of=lambda _: CURRENCY),
    Column("payer", Words("label.paid-by")),
    Column("plate", labels.PLATE, lambda s: s.who.plate),
    Column("card_number", labels.CARD, lambda s: s.who.card_number),
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
