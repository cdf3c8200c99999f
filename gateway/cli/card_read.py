"""`etcgw card read`: everything that may be read of a card, for people and as a dump that other commands take."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from gateway.cli import card_words, labels, words
from gateway.cli.card_reader import ReaderOption, WaitOption, on_card
from gateway.cli.columns import Column, Columns, each, facts, only, said, show_record, show_table
from gateway.cli.described import told
from gateway.cli.errors import CliFault, ExitCode
from gateway.cli.options import JsonOption, UnmaskOption, screen_of
from gateway.cli.screen import BAD, DOUBTFUL, GOOD, QUIET, Cell, Heading, Screen, lines_cell
from gateway.texts.catalogue import Pair, Words
from gateway.views.masks import number_shown, plate_shown

if TYPE_CHECKING:
    from gateway.cards.contents import CardContents, FileRead
    from protocols.card.files import CardFile, TransactionLog
    from protocols.card.station import Station

FromOption = Annotated[Path | None, typer.Option("--from", metavar="FILE", exists=True, dir_okay=False)]

SHOWN_WHOLE: Final = ("0015", "0019/1", "0012", "0016")
"""Files whose every field is shown to people; the log is a table of its own, and the others have no fields."""


def read(
    context: typer.Context,
    *,
    reader: ReaderOption = None,
    wait: WaitOption = 0.0,
    dump: FromOption = None,
    holder: Annotated[bool, typer.Option("--holder")] = False,
    as_json: JsonOption = False,
    unmask: UnmaskOption = False,
) -> None:
    """Read an ETC user card: whose it is, what it holds, where it entered, and every file of it."""
    screen = screen_of(context)
    contents = contents_from(reader, wait, dump, holder=holder)
    columns = columns_of(unmask=unmask)
    if as_json:
        screen.json(facts(screen, columns, contents))
        return
    show_record(screen, columns, contents)
    if contents.log:
        screen.line()
        screen.line(screen.say("card.log"), style="bold")
        show_table(screen, LOG, contents.log)
    screen.line()
    screen.line(screen.say("card.files"), style="bold")
    show_table(screen, FILES, [file for file in contents.files.values() if not _older_blank(file)])
    for name in SHOWN_WHOLE:
        file = contents.files.get(name)
        if file is not None and file.readable and not file.blank:
            _show_fields(screen, file, unmask=unmask)


def _older_blank(file: FileRead) -> bool:
    """True for the transactions that a card has room for and has not made yet, but for the first."""
    from gateway.cards.contents import LOG as LOG_FILE
    from gateway.cards.contents import NEWEST

    return file.file == LOG_FILE and file.blank and file.name != NEWEST


def contents_from(reader: str | None, wait_s: float, dump: Path | None, *, holder: bool = False) -> CardContents:
    """Contents of the card in a reader, or of a dump."""
    from gateway.cards.contents import read_card
    from gateway.cards.dump import DumpWrong, contents_of_dump

    if dump is None:
        return on_card(reader, wait_s, lambda slot: read_card(slot, holder=holder))
    try:
        return contents_of_dump(dump)
    except DumpWrong as error:
        raise CliFault(ExitCode.REFUSED, "dump_wrong", error.problem, None, Words("card-dump.make-one")) from error


# --- fields ---------------------------------------------------------------------------------------------------------


def _show_fields(screen: Screen, file: FileRead, *, unmask: bool) -> None:
    """Show the fields of a file with their places, values and meanings."""
    screen.line()
    screen.line(f"{file.name}  {card_words.file_title(screen, file.name, file.data)}", style="bold")
    columns = [
        Heading(screen.say("rsu.at"), right=True),
        Heading(screen.say("rsu.field")),
        Heading(screen.word(labels.VALUE), wrap_at=12),
        Heading(screen.word(labels.MEANING), wrap_at=18),
    ]
    rows = [
        [str(one.offset), one.name, one.value, told(screen, card_words.labels, one.meaning)]
        for one in file.described(unmask=unmask)
    ]
    screen.table(columns, rows)
    if unmask:
        screen.line(file.data.hex(" ").upper(), style=QUIET)


# --- the card as a whole ---------------------------------------------------------------------------------------------


def columns_of(*, unmask: bool) -> Columns[CardContents]:
    """Columns of a card, in the order in which a technician asks."""
    return (
        Column("reader"),
        Column("atr", data=lambda _, atr: atr.hex().upper()),
        *identity_columns(unmask=unmask),
        said(Words("card.type"), _type),
        *only_of_card("card_type", "version", "user_type", "vehicle_class"),
        Column("algorithm", of=lambda c: _of_card(c, lambda f: f.algorithm.name.lower())),
        said(Words("card.vehicle"), _vehicle),
        said(Words("card.valid"), _validity),
        Column("starts", of=_card, data=lambda _, card: _day(None if card is None else card.starts)),
        Column("expires", of=_card, data=lambda _, card: _day(None if card is None else card.expires)),
        Column("balance_fen"),
        Column("balance_raw"),
        said(Words("card.balance"), _balance),
        Column("entry", Words("card.entry"), lambda c: c.station, _entry, _entry_facts(unmask)),
        Column("manual_entry", of=lambda c: c.toll, data=_entry_facts(unmask)),
        said(Words("card.newest"), _newest),
        Column("log", of=lambda c: c.log, data=each(LOG)),
        Column("holder", Words("card.holder"), lambda c: c.holder, _holder(unmask), _holder_facts(unmask)),
        Column("warnings", Words("card.warnings"), text=_warnings, data=_warning_facts),
        Column("files", of=lambda c: c.files.values(), data=_file_facts(unmask)),
    )


def identity_columns(*, unmask: bool) -> Columns[CardContents]:
    """Columns that say which card it is."""
    return (
        Column("kind", Words("card.kind-of-card"), text=_kind, data=lambda _, kind: kind.value),
        Column("locked", Words("card.locked"), text=_locked),
        Column("issuer", Words("card.issuer"), _card, _issuer, _issuer_facts),
        Column("number", Words("card.number"), lambda c: _of_card(c, lambda f: f.card_number), *_masked(unmask)),
        said(Words("label.plate"), lambda screen, c: _plate(screen, c, unmask=unmask)),
        Column("plate", of=lambda c: _of_card(c, lambda f: f.plate), data=_masked_plate(unmask)),
        *only_of_card("plate_colour"),
    )


def only_of_card(*names: str) -> Columns[CardContents]:
    """Columns for programs, of fields of file 0015."""
    return tuple(Column(name, of=_field(name)) for name in names)


def _field(name: str) -> Any:  # noqa: ANN401 - a field of any kind
    return lambda contents: _of_card(contents, lambda card: getattr(card, name))


def _card(contents: CardContents) -> CardFile | None:
    return contents.card_file


def _of_card(contents: CardContents, take: Any) -> Any:  # noqa: ANN401 - a field of any kind
    card = contents.card_file
    return None if card is None else take(card)


def _masked(unmask: bool) -> tuple[Any, Any]:
    def shown(_: Screen, number: str | None) -> str | None:
        return number_shown(number, unmask=unmask)

    return shown, shown


def _masked_plate(unmask: bool) -> Any:  # noqa: ANN401 - a function of a column
    return lambda _, plate: plate_shown(plate, unmask=unmask)


def _kind(screen: Screen, kind: str) -> Cell:
    return words.named(screen, card_words.KINDS, kind)


def _locked(screen: Screen, locked: bool) -> Cell | None:
    return Cell(screen.say("card.locked-by-issuer"), BAD) if locked else None


def _issuer(screen: Screen, card: CardFile | None) -> Cell | str | None:
    from protocols.regions import region_of_issuer

    if card is None:
        return None
    region = region_of_issuer(card.issuer)
    if region is None:
        return Cell(screen.say("card.issuer-unknown", issuer=card.issuer.hex().upper(), network=card.network), BAD)
    name = screen.word(Pair(f"{region.zh} {region.en}", region.zh))
    return screen.say("card.issuer-network", issuer=name, network=card.network)


def _issuer_facts(_: Screen, card: CardFile | None) -> dict[str, Any] | None:
    if card is None:
        return None
    return {"region": card.region, "network": card.network, "id": card.issuer.hex().upper()}


def _plate(screen: Screen, contents: CardContents, *, unmask: bool) -> Cell | str | None:
    card = contents.card_file
    if card is None:
        return None
    if not card.plate:
        return Cell(screen.say("card.no-plate"), DOUBTFUL)
    colour = words.colour_text(screen, card.plate_colour)
    return f"{plate_shown(card.plate, unmask=unmask)} {colour}".rstrip()


def _type(screen: Screen, contents: CardContents) -> str | None:
    from protocols.card.codes import CARD_TYPES

    card = contents.card_file
    if card is None:
        return None
    kind = card_words.named(screen, CARD_TYPES, card.card_type)
    return screen.say("card.type-version", kind=kind, version=f"{card.version:02X}", cipher=card.algorithm.title)


def _vehicle(screen: Screen, contents: CardContents) -> str | None:
    from protocols.card.codes import USER_TYPES

    card = contents.card_file
    if card is None:
        return None
    user = card_words.named(screen, USER_TYPES, card.user_type)
    kind = card_words.class_word(screen, card.vehicle_class)
    return screen.say("card.user-and-class", user=user, kind=kind) if kind else user


def _day(day: date | None) -> str | None:
    return None if day is None else day.isoformat()


def _validity(screen: Screen, contents: CardContents) -> Cell | None:
    card = contents.card_file
    if card is None:
        return None
    text = screen.say("card.from-to", first=_day(card.starts) or "-", last=_day(card.expires) or "-")
    return Cell(text, "" if card.starts and card.expires else DOUBTFUL)


def _balance(screen: Screen, contents: CardContents) -> str | None:
    fen, card = contents.balance_fen, contents.card_file
    if fen is None:
        return None
    if card is not None and card.is_charge_card:
        return screen.say("card.counter", amount=words.yuan_with_currency(fen), raw=f"{contents.balance_raw:08X}")
    return words.yuan_with_currency(fen)


def moment(unix_seconds: int | None) -> datetime | None:
    """Time on a card as a toll station would say it; None for *never written*."""
    from protocols.codings import CHINA_TIME, UNIX_UNSET

    if unix_seconds is None or unix_seconds in UNIX_UNSET:
        return None
    return datetime.fromtimestamp(unix_seconds, UTC).astimezone(CHINA_TIME)


def _entry(screen: Screen, station: Station | None) -> Cell | str | None:
    from protocols.card.codes import PASS_STATUSES

    if station is None:
        return None
    at = moment(station.unix_seconds)
    if station.station_code is None or at is None:
        return Cell(screen.say("card.no-entry"), QUIET)
    status = card_words.named(screen, PASS_STATUSES, station.status)
    return screen.say(
        "card.entry-at", station=station.station_code, lane=station.lane, at=f"{at:%Y-%m-%d %H:%M:%S}", status=status
    )


def _entry_facts(unmask: bool) -> Any:  # noqa: ANN401 - a function of a column
    def entry(_: Screen, station: Station | None) -> dict[str, Any] | None:
        if station is None:
            return None
        at = moment(station.unix_seconds)
        return {
            "layout": station.layout.value,
            "station": station.station_code,
            "lane": station.lane,
            "at": None if at is None else at.isoformat(),
            "status": station.status,
            "vehicle_class": station.vehicle_class,
            "plate": plate_shown(station.plate, unmask=unmask),
            "plate_colour": station.plate_colour,
            "fee_fen": station.fee_fen,
        }

    return entry


def _newest(screen: Screen, contents: CardContents) -> str | None:
    if not contents.log:
        return None
    newest = contents.log[0]
    return screen.say(
        "card.newest-is",
        amount=words.yuan_with_currency(newest.amount_fen),
        kind=_trade(screen, newest.trade_type),
        at=_log_time(screen, newest),
        sequence=newest.sequence,
    )


def _holder(unmask: bool) -> Any:  # noqa: ANN401 - a function of a column
    from protocols.masks import STARS

    def text(screen: Screen, holder: Any) -> str | None:  # noqa: ANN401 - of a module that is loaded later
        if holder is None:
            return None
        name, document = (holder.holder_name, holder.document_number) if unmask else (STARS, STARS)
        return screen.say("card.holder-is", name=name or "-", document=document or "-")

    return text


def _holder_facts(unmask: bool) -> Any:  # noqa: ANN401 - a function of a column
    def holder_facts(_: Screen, holder: Any) -> dict[str, Any] | None:  # noqa: ANN401 - as above
        if holder is None:
            return None
        return {
            "name": holder.holder_name if unmask else None,
            "document": holder.document_number if unmask else None,
            "document_type": holder.document_type,
            "holder_type": holder.holder_type,
            "staff_flag": holder.staff_flag,
        }

    return holder_facts


def _warnings(screen: Screen, warnings: tuple[tuple[str, str], ...]) -> Cell | None:
    lines = [f"{name}: {told(screen, card_words.labels, text)}" for name, text in warnings]
    return Cell(lines_cell(lines).text, DOUBTFUL, shown=True) if lines else None


def _warning_facts(_: Screen, warnings: tuple[tuple[str, str], ...]) -> list[dict[str, str]]:
    return [{"file": name, "text": text} for name, text in warnings]


# --- transactions -----------------------------------------------------------------------------------------------------


def _trade(screen: Screen, trade_type: int) -> str:
    from protocols.card.codes import TRADE_TYPES

    return card_words.named(screen, TRADE_TYPES, trade_type)


def _log_time(_: Screen, record: TransactionLog) -> str:
    return f"{_day(record.day) or '-'} {record.time[:2]}:{record.time[2:4]}:{record.time[4:]}"


LOG: Final[Columns[TransactionLog]] = (
    Column("sequence", Words("card.sequence"), right=True),
    said(Words("label.time"), _log_time),
    Column("at", of=lambda r: r, data=_log_time),
    Column("trade_type", Words("label.kind"), text=_trade),
    Column("amount_fen", Words("label.amount"), text=lambda _, fen: words.yuan(fen), right=True),
    Column("terminal", Words("card.terminal"), text=lambda _, t: t.hex().upper(), data=lambda _, t: t.hex().upper()),
    *only("overdraft_fen"),
)


# --- files ------------------------------------------------------------------------------------------------------------


def _file_state(screen: Screen, file: FileRead) -> Cell:
    from gateway.cards.contents import ABSENT

    problem = file.problem
    if problem is not None:
        return Cell(screen.word(problem), QUIET if file.sw in ABSENT else BAD)
    if file.warnings:
        return Cell(screen.say("card.odd", count=len(file.warnings)), DOUBTFUL)
    return Cell(screen.say("card.never-written"), QUIET) if file.blank else Cell(screen.say("card.read"), GOOD)


FILES: Final[Columns[FileRead]] = (
    said(Words("label.file"), lambda _, file: file.name),
    said(Words("label.what-it-is"), lambda screen, file: card_words.file_title(screen, file.name, file.data)),
    said(Words("card.length"), lambda _, file: str(len(file.data)), right=True),
    said(Words("card.sw"), lambda _, file: f"{file.sw:04X}"),
    said(Words("label.state"), _file_state, wrap_at=20),
)


def _file_facts(unmask: bool) -> Any:  # noqa: ANN401 - a function of a column
    def one(screen: Screen, file: FileRead) -> dict[str, Any]:
        problem = file.problem
        return {
            "file": file.name,
            "sw": f"{file.sw:04X}",
            "length": len(file.data),
            "raw": file.data.hex().upper() if unmask else None,
            "problem": None if problem is None else str(problem),
            "fields": [field._asdict() for field in file.described(unmask=unmask)],
        }

    return lambda screen, files: [one(screen, file) for file in files]


def facts_of(screen: Screen, contents: CardContents, *, unmask: bool) -> Mapping[str, Any]:
    """JSON of a card."""
    return facts(screen, columns_of(unmask=unmask), contents)
