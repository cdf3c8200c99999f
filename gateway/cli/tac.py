"""`etcgw tac`: the proof of a purchase, verified with the keys of a PSAM that has them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from gateway.cli import labels
from gateway.cli.card_reader import ReaderOption, WaitOption, on_card
from gateway.cli.card_verdict import desk_site
from gateway.cli.columns import Column, Columns, facts, money, only, show_one
from gateway.cli.errors import CliFault, ExitCode
from gateway.cli.help import Commands
from gateway.cli.options import ConfigOption, JsonOption, UnmaskOption
from gateway.cli.psam import DEFAULT_PROFILE, ProfileOption, psam_in, region_bytes
from gateway.cli.screen import BAD, GOOD, Cell, Screen
from gateway.cli.store import ledger_of
from gateway.cli.usage import BadValue
from gateway.texts.catalogue import Words
from gateway.views.masks import number_shown

if TYPE_CHECKING:
    from drivers.card_slot import CardSlot
    from gateway.config import SiteFile
    from gateway.views.purchases import Purchase
    from gateway.views.visits import Visit

app = Commands("tac", no_args_is_help=True)

COMPOSITE: Final = 0x09
"""Type of a composite purchase (`protocols.card.codes.TradeType`), as all of the ledger are."""

CARD_DIGITS: Final = 20
INNER_DIGITS: Final = 16


@app.callback()
def tac() -> None:
    """The proof of a purchase."""


@dataclass(frozen=True, slots=True)
class Facts:
    """Facts that a TAC covers, with the TAC itself."""

    card_number: str
    """20 digits, or the 16 of the inner number."""
    region: bytes
    """Four bytes."""
    amount_fen: int
    trade_type: int
    terminal: bytes
    terminal_serial: int
    time: str
    algorithm: int
    tac: bytes


@app.command()
def verify(
    context: typer.Context,
    *,
    reader: ReaderOption = None,
    wait: WaitOption = 0.0,
    profile: ProfileOption = DEFAULT_PROFILE,
    config: ConfigOption = None,
    passage: Annotated[
        str | None, typer.Option("--passage", metavar="RECORD_NO|PASSAGE_ID", show_default=False)
    ] = None,
    card: Annotated[str | None, typer.Option("--card", metavar="DIGITS", show_default=False)] = None,
    region: Annotated[str | None, typer.Option("--region", metavar="TEXT", show_default=False)] = None,
    amount: Annotated[int | None, typer.Option("--amount", metavar="FEN", min=0, show_default=False)] = None,
    trade_type: Annotated[int, typer.Option("--type", metavar="N", min=0, max=255)] = COMPOSITE,
    terminal: Annotated[str | None, typer.Option("--terminal", metavar="HEX", show_default=False)] = None,
    serial: Annotated[int | None, typer.Option("--serial", metavar="N", min=0, show_default=False)] = None,
    time: Annotated[str | None, typer.Option("--time", metavar="YYYYMMDDHHMMSS", show_default=False)] = None,
    sm4: Annotated[bool, typer.Option("--sm4")] = False,
    tac: Annotated[str | None, typer.Option("--tac", metavar="HEX", show_default=False)] = None,
    as_json: JsonOption = False,
    unmask: UnmaskOption = False,
) -> None:
    """Verify a TAC with a PSAM that has TAC keys. Exit 1 when it is wrong, or when this PSAM cannot tell."""
    from protocols.crypto import Algorithm

    screen, _, site = desk_site(context, config)
    algorithm = Algorithm.SM4 if sm4 else Algorithm.DES3
    given = {
        "--card": card,
        "--amount": amount,
        "--terminal": terminal,
        "--serial": serial,
        "--time": time,
        "--tac": tac,
    }
    if passage is not None:
        wanted = _of_ledger(site, passage, region, given)
    else:
        wanted = _of_options(given, region, trade_type, int(algorithm))
    right = on_card(reader, wait, lambda slot: _verify(slot, profile, wanted))
    columns = _columns(right, unmask=unmask)
    if not right:
        told = facts(screen, columns, wanted)
        raise CliFault(ExitCode.REFUSED, "tac_wrong", Words("tac.wrong"), Words("tac.wrong-likely"), facts=told)
    show_one(screen, columns, wanted, as_json=as_json)


async def _verify(slot: CardSlot, profile: str, wanted: Facts) -> bool:
    from protocols.crypto import Algorithm, Trade

    return await psam_in(slot, profile).verify_tac(
        wanted.tac,
        trade=Trade(wanted.amount_fen, wanted.trade_type, wanted.terminal),
        terminal_serial=wanted.terminal_serial,
        time=wanted.time,
        inner_number=bytes.fromhex(wanted.card_number[-INNER_DIGITS:]),
        region=wanted.region * 2,
        algorithm=Algorithm(wanted.algorithm),
    )


# --- facts ------------------------------------------------------------------------------------------------------------


def _of_options(given: Mapping[str, Any], region: str | None, trade_type: int, algorithm: int) -> Facts:
    missing = [name for name, value in given.items() if value is None]
    if missing:
        raise BadValue(Words("tac.missing", names=", ".join(missing)), f"'{missing[0]}'")
    card = _digits(given["--card"])
    return Facts(
        card_number=card,
        region=_region(region, card, None),
        amount_fen=given["--amount"],
        trade_type=trade_type,
        terminal=_bytes(given["--terminal"], 6, "--terminal"),
        terminal_serial=given["--serial"],
        time=_time(given["--time"]),
        algorithm=algorithm,
        tac=_bytes(given["--tac"], 4, "--tac"),
    )


def _of_ledger(site: SiteFile | None, which: str, region: str | None, given: Mapping[str, Any]) -> Facts:
    """Facts of the purchase of a passage that has a TAC."""
    from gateway.views.visits import find_visit

    beside = [name for name, value in given.items() if value is not None]
    if site is None or beside:
        name = beside[0] if beside else "--config"
        raise BadValue(Words("tac.passage-alone"), f"'{name}'")
    with ledger_of(site) as connection:
        visit = find_visit(connection, which, unmask=True)
    purchase = None if visit is None else _proved(visit)
    if visit is None or purchase is None or visit.passage.who.card_number is None:
        raise CliFault(ExitCode.REFUSED, "no_tac", Words("tac.none-there", which=which))
    return Facts(
        card_number=visit.passage.who.card_number,
        region=_region(region, visit.passage.who.card_number, visit.passage.who.contract),
        amount_fen=purchase.written_fen,
        trade_type=COMPOSITE,
        terminal=bytes.fromhex(purchase.terminal or ""),
        terminal_serial=purchase.psam_serial or 0,
        time=purchase.purchase_time,
        algorithm=purchase.algorithm or 0,
        tac=bytes.fromhex(purchase.tac or ""),
    )


def _proved(visit: Visit) -> Purchase | None:
    return next((one for one in reversed(visit.purchases) if one.tac and one.terminal), None)


def _region(region: str | None, card: str, contract: str | None) -> bytes:
    """Region of the card's keys: as it is named, else that of its tag's issuer, else that of its network."""
    from protocols.regions import REGION_BYTES, region_of_network

    if region is not None:
        return region_bytes(region)
    if contract is not None:
        return bytes.fromhex(contract)[:REGION_BYTES]
    known = region_of_network(card) if len(card) == CARD_DIGITS else None
    if known is None:
        raise BadValue(Words("tac.which-region"), "'--region'")
    return known.text_bytes


def _digits(card: str) -> str:
    if not (card.isascii() and card.isdigit() and len(card) in (CARD_DIGITS, INNER_DIGITS)):
        raise BadValue(Words("tac.no-card", most=CARD_DIGITS, least=INNER_DIGITS), "'--card'")
    return card


def _time(text: str) -> str:
    from protocols.codings import time_bytes
    from protocols.errors import LocalProtocolError

    try:
        time_bytes(text)
    except LocalProtocolError as error:
        raise BadValue(Words("usage.no-time", text=text), "'--time'") from error
    return text


def _bytes(text: str, length: int, option: str) -> bytes:
    from gateway.cli.frames import HexWrong, bytes_of

    try:
        found = bytes_of(text)
    except HexWrong as error:
        raise BadValue(error.problem, f"'{option}'") from error
    if len(found) != length:
        raise BadValue(Words("tac.length", found=len(found), wanted=length), f"'{option}'")
    return found


def _columns(right: bool, *, unmask: bool) -> Columns[Facts]:
    def number(_: Screen, value: str) -> str | None:
        return number_shown(value, unmask=unmask)

    return (
        Column("right", Words("verdict.verdict"), lambda _: right, _right),
        Column("card_number", Words("card.number"), None, number, number),
        Column("amount_fen", labels.AMOUNT, text=money),
        Column("time", Words("label.card-time")),
        Column("terminal", Words("psam.terminal"), lambda f: f.terminal.hex().upper()),
        *only("terminal_serial", "trade_type"),
        Column("tac", labels.TAC, lambda f: f.tac.hex().upper()),
    )


def _right(screen: Screen, right: bool) -> Cell:
    return Cell(screen.say("tac.right"), GOOD) if right else Cell(screen.say("tac.wrong"), BAD)
