"""`etcgw clearing`: match a day with the banks' files, see to the differences, write the reports."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from gateway.cli import labels, words
from gateway.cli.acting import act_on
from gateway.cli.columns import (
    Column,
    Columns,
    each,
    facts,
    fen,
    money,
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
    DAYS_AGO,
    ConfigOption,
    JsonOption,
    LastOption,
    ReasonOption,
    at_site,
    now_utc,
    reason_of,
    screen_of,
    site_of,
    zone_of,
)
from gateway.cli.parts import joined
from gateway.cli.screen import BAD, GOOD, QUIET, Cell, Screen
from gateway.cli.store import changes_of, ledger_of, reader_of
from gateway.cli.usage import BadValue
from gateway.model.states import ItemState
from gateway.texts.catalogue import Language, Pair, Words

if TYPE_CHECKING:
    from gateway.clearing.doubts import DayEnd
    from gateway.clearing.reports import ReportRow
    from gateway.clearing.terms import Terms
    from gateway.config import SiteFile
    from gateway.debit.late import LateEffect
    from gateway.model.clearing import NumberRange, VehicleKind
    from gateway.views.clearing import BankFile, Day, Group, Line, Run
    from gateway.views.items import Item, ItemSum

app = Commands(
    "clearing",
    no_args_is_help=True,
)

KINDS: Final[Mapping[str, Words]] = {
    "missing_at_bank": Words("clearing.kinds.missing_at_bank"),
    "missing_here": Words("clearing.kinds.missing_here"),
    "amount_differs": Words("clearing.kinds.amount_differs"),
    "duplicate_at_bank": Words("clearing.kinds.duplicate_at_bank"),
    "reversed_at_bank": Words("clearing.kinds.reversed_at_bank"),
    "not_posted_here": Words("clearing.kinds.not_posted_here"),
    "in_doubt": Words("clearing.kinds.in_doubt"),
    "other_day": Words("clearing.kinds.other_day"),
    "missing_lane_record": Words("clearing.kinds.missing_lane_record"),
    "lane_amount_differs": Words("clearing.kinds.lane_amount_differs"),
    "lane_without_claim": Words("clearing.kinds.lane_without_claim"),
    "proof_missing": Words("clearing.kinds.proof_missing"),
    "charged_without_tac": Words("clearing.kinds.charged_without_tac"),
    "mac2_unchecked": Words("clearing.kinds.mac2_unchecked"),
    "disputed_purchase": Words("clearing.kinds.disputed_purchase"),
    "taken_after_void": Words("clearing.kinds.taken_after_void"),
    "advice_unanswered": Words("clearing.kinds.advice_unanswered"),
    "refund_unanswered": Words("clearing.kinds.refund_unanswered"),
    "refund_declined": Words("clearing.kinds.refund_declined"),
    "advice_contradicted": Words("clearing.kinds.advice_contradicted"),
    "refund_contradicted": Words("clearing.kinds.refund_contradicted"),
    "answer_differs": Words("clearing.kinds.answer_differs"),
    "answer_contradicted": Words("clearing.kinds.answer_contradicted"),
    "attempt_disputed": Words("clearing.kinds.attempt_disputed"),
    "debt_without_bank": Words("clearing.kinds.debt_without_bank"),
    "debit_not_closed": Words("clearing.kinds.debit_not_closed"),
    "decision_not_told": Words("clearing.kinds.decision_not_told"),
    "outcome_lost": Words("clearing.kinds.outcome_lost"),
    "write_off_proposed": Words("clearing.kinds.write_off_proposed"),
    "refund_proposed": Words("clearing.kinds.refund_proposed"),
}
ROW_STATES: Final[words.Table] = {
    "cleared": (Words("clearing.row_states.cleared"), GOOD),
    "disputed": (Words("clearing.row_states.disputed"), BAD),
    "rejected": (Words("clearing.row_states.rejected"), QUIET),
}


DayArgument = Annotated[
    str,
    typer.Argument(metavar="DAY", show_default=False),
]
ItemArgument = Annotated[int, typer.Argument(metavar="ITEM", min=1, show_default=False)]


# --- joining the site -----------------------------------------------------------------------------------------------


def terms_of(site: SiteFile) -> Terms:
    """Rules of clearing with what they need of the site file."""
    from gateway.acts.doing import clearing_terms_of
    from gateway.rules.loading import load_rules

    return clearing_terms_of(site, load_rules(site.rules.file))


def _day(text: str, zone: timezone) -> str:
    from gateway.model.clearing import day_text, parse_day

    if text in DAYS_AGO:
        return day_text(now_utc().astimezone(zone).date() - timedelta(days=DAYS_AGO[text]))
    try:
        return day_text(parse_day(text.replace("-", "") if len(text) == 10 else text))
    except ValueError as error:
        raise BadValue(Words("usage.no-day", text=text)) from error


def _files(given: Sequence[str], site: SiteFile) -> list[tuple[str, Path]]:
    known = {bank.name for bank in site.banks}
    found = []
    for text in given:
        channel, equals, path = text.partition("=")
        if not equals or channel not in known or not Path(path).is_file():
            names = ", ".join(sorted(known)) or "none"
            raise BadValue(Words("usage.bank-file", text=text, names=names), "'--bank-file'")
        found.append((channel, Path(path)))
    return found


def _must_exist(site: SiteFile) -> None:
    """Clearing begins with a ledger: an empty one would only hide that the path is wrong."""
    with reader_of(site):
        pass


# --- run and show ---------------------------------------------------------------------------------------------------


@app.command()
def run(
    context: typer.Context,
    *,
    day: DayArgument,
    config: ConfigOption = None,
    bank_file: Annotated[
        list[str] | None,
        typer.Option("--bank-file", metavar="BANK=FILE"),
    ] = None,
    supplement: Annotated[bool, typer.Option("--supplement")] = False,
    as_json: JsonOption = False,
) -> None:
    """Clear a day as far as it can be cleared now; run it again as often as you like. Exit 1 with open differences.

    Reads the banks' files, compares them with the ledger and the lanes' records, ends what was in doubt as the files
    say, settles and pays out what agrees, and makes every difference an item. The gateway may go on meanwhile.
    """
    from gateway.clearing.doubts import run_and_settle
    from gateway.clearing.imports import import_file
    from gateway.ledger.pace import Pace
    from gateway.views.clearing import day_of

    screen, site = at_site(context, config)
    terms = terms_of(site)
    which = _day(day, zone_of(site))
    files = _files(bank_file or (), site)
    _must_exist(site)
    today = now_utc().astimezone(zone_of(site)).date()
    pace = Pace(site.storage.held_ms_max)
    with changes_of(site, pace) as commit, reader_of(site) as reader:
        for channel, path in files:
            with screen.progress(screen.say("clearing.reading", name=path.name)) as tell:
                import_file(path, channel, which, commit, terms, supplement=supplement, tell=tell, pace=pace)
        with screen.progress(screen.say("clearing.clearing", which=which)) as tell:
            end = run_and_settle(which, reader, commit, terms, today=today, tell=tell, pace=pace)
        with reader.connect() as connection:
            view = day_of(connection, which)
    found = {**_run_facts(end), **facts(screen, DAY, view)}
    if not as_json:
        _show_run(screen, end)
        _show_day(screen, view)
    if view.open_items or end.result.waiting:
        raise CliFault(
            ExitCode.REFUSED,
            "differences_open",
            screen.say("clearing.not-cleared-end", which=which),
            None,
            Words("clearing.etcgw-clearing-items-lists-open"),
            facts=found,
        )
    if as_json:
        screen.json(found)


@app.command()
def show(
    context: typer.Context,
    *,
    day: DayArgument,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show the clearing of a day: files, lines with what they settled, rows by state, items."""
    from gateway.views.clearing import day_of

    screen, site = at_site(context, config)
    which = _day(day, zone_of(site))
    with ledger_of(site) as connection:
        view = day_of(connection, which)
    if view.run is None:
        raise CliFault(
            ExitCode.REFUSED,
            "day_not_cleared",
            Words("clearing.not-cleared", which=which),
            None,
            Words("clearing.etcgw-clearing-run-clears", which=which),
        )
    if as_json:
        screen.json(facts(screen, DAY, view))
    else:
        _show_day(screen, view)


def _run_facts(end: DayEnd) -> dict[str, Any]:
    from gateway.model.clearing import DayFileWord

    result = end.result
    kinds: dict[str, dict[str, int]] = {}
    for difference in result.differences:
        found = kinds.setdefault(difference.kind.value, {"count": 0, "amount_fen": 0})
        found["count"] += 1
        found["amount_fen"] += difference.amount_fen
    return {
        "changed": end.changed,
        "rows": {
            state: {"count": result.states[state], "amount_fen": result.amounts[state]}
            for state in ROW_STATES
            if result.states[state]
        },
        "differences": kinds,
        "findings": {word.value: [told.attempt_id for told in end.told if told.word is word] for word in DayFileWord},
        "settled": {effect.name.lower(): count for effect, count in sorted(end.effects.items(), key=_by_name)},
        "banks_waited_for": result.waiting,
    }


def _by_name(counted: tuple[LateEffect, int]) -> str:
    return counted[0].name


def _show_run(screen: Screen, end: DayEnd) -> None:
    say, result = screen.say, end.result
    for bank in result.waiting:
        screen.note(say("clearing.no-file-yet-nothing-matched", bank=bank))
    if end.told:
        effects = ", ".join(
            f"{screen.word(words.LATE_EFFECTS[effect.name.lower()])} {count}"
            for effect, count in sorted(end.effects.items(), key=_by_name)
        )
        screen.note(say("clearing.files-tell-attempts-doubt", told=len(end.told), effects=effects))
    if not end.changed:
        screen.note(say("clearing.nothing-new-since-last-run"))


def _kind(screen: Screen, kind: str) -> str:
    return screen.word(KINDS.get(kind, Pair.same(kind)))


_FILE: Final[Columns[BankFile]] = only("bank", "name", "digest", "lines", "net_fen", "state", "imported_at")
LINE: Final[Columns[Line]] = (
    Column("line", Words("label.line"), right=True),
    Column("collector", Words("label.collector"), rank=1),
    Column("payer", labels.PAYER),
    Column("payer_kind"),
    Column("service", labels.SERVICE, rank=2),
    *only("seq", "state"),
    Column("count", labels.COUNT, right=True),
    fen("amount_fen", Words("label.ours"), rank=1),
    fen("paid_fen", Words("label.paid")),
    fen("fee_fen", Words("label.fee")),
    fen("net_fen", Words("label.net")),
)
GROUP: Final[Columns[Group]] = (
    Column("collector"),
    Column("payer", labels.PAYER),
    Column("service", labels.SERVICE),
    Column("state", labels.STATE, text=words.coded(ROW_STATES)),
    Column("count", labels.COUNT, right=True),
    fen("amount_fen", Words("label.ours")),
    fen("paid_fen", Words("label.granted")),
)
_ITEM_SUM: Final[Columns[ItemSum]] = (
    Column("kind", labels.DIFFERENCE, text=_kind, wrap_at=20),
    Column("state", labels.STATE, text=words.coded(words.ITEM_STATES)),
    Column("count", labels.COUNT, right=True),
    fen("amount_fen", labels.AT_STAKE),
)


def _run_state(screen: Screen, run: Run | None) -> Cell | None:
    if run is None:
        return None
    done = run.state == "done"
    return Cell(screen.say("clearing.done"), GOOD) if done else Cell(screen.say("clearing.cut-short"), BAD)


DAY: Final[Columns[Day]] = (
    Column("day", labels.DAY),
    Column("", Words("label.run"), lambda d: d.run, _run_state),
    Column("state", of=lambda d: d.run and d.run.state),
    Column("rules", of=lambda d: d.run and d.run.rules_version),
    Column("ended_at", of=lambda d: d.run and d.run.ended_us, data=Screen.iso),
    said(Words("label.ended"), lambda screen, d: None if d.run is None else screen.short(d.run.ended_us) or "-"),
    said(Words("check.rules"), lambda _, d: None if d.run is None else d.run.rules_version),
    Column("files", data=each(_FILE)),
    Column("lines", data=each(LINE)),
    Column("groups", data=each(GROUP)),
    Column("items", data=each(_ITEM_SUM)),
    Column("open_items"),
)


def _show_day(screen: Screen, day: Day) -> None:
    say = screen.say
    files = []
    for file in day.files:
        read = "" if file.state == "read" else say("clearing.cut-off-while-stored")
        files.append((file.bank, f"{file.name}, {file.lines}, {words.yuan_with_currency(file.net_fen)}{read}"))
    show_record(screen, DAY, day, *files)
    if day.lines:
        screen.line()
        show_table(screen, LINE, day.lines)
    if day.groups:
        screen.line()
        show_table(screen, GROUP, day.groups)
    screen.line()
    if day.items:
        show_table(screen, _ITEM_SUM, day.items)
    else:
        screen.line(say("clearing.no-difference"))


# --- items ----------------------------------------------------------------------------------------------------------


@app.command()
def items(
    context: typer.Context,
    *,
    config: ConfigOption = None,
    state: Annotated[ItemState | None, typer.Option("--state")] = None,
    day: Annotated[str | None, typer.Option("--day", metavar="DAY")] = None,
    last: LastOption = 50,
    as_json: JsonOption = False,
) -> None:
    """List what somebody must explain or give up, open items first."""
    from gateway.views import items as view

    screen, site = at_site(context, config)
    chosen = None if day is None else _day(day, zone_of(site))
    with ledger_of(site) as connection:
        found = view.items(connection, state=None if state is None else state.value, day=chosen, last=last)
    show_list(screen, "items", ITEM, found, nothing=Words("clearing.no-such-item"), as_json=as_json)


ITEM: Final[Columns[Item]] = (
    Column("item", labels.ITEM, lambda i: i.item_id, right=True),
    Column("", labels.DAY, lambda i: i.day),
    Column("kind", labels.DIFFERENCE, text=_kind, wrap_at=20),
    Column("kind_en", of=lambda i: KINDS[i.kind].told(Language.EN) if i.kind in KINDS else None),
    Column("kind_zh", of=lambda i: KINDS[i.kind].told(Language.ZH) if i.kind in KINDS else None),
    *only("ref", "debit_id", "day"),
    fen("amount_fen", labels.AT_STAKE),
    Column("state", labels.STATE, text=words.coded(words.ITEM_STATES)),
    said(labels.BY, lambda _, i: joined(i.actor, i.second_actor), rank=2),
    Column("", Words("label.about"), lambda i: i.ref, rank=3),
    Column("note", labels.NOTE, rank=1, wrap_at=20),
    *only("actor", "second_actor", "created_at", "changed_at"),
)


@app.command()
def explain(
    context: typer.Context,
    *,
    item: ItemArgument,
    reason: ReasonOption,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Close an item with a reason. Where the payer agrees on the money, the next run then clears its row."""
    from gateway.acts.acts import ExplainItem

    site = site_of(context, config)
    done = act_on(site, ExplainItem(item_id=item, reason=reason_of(reason)))
    _show_changed(screen_of(context), done, as_json=as_json)


@app.command("write-off")
def write_off(
    context: typer.Context,
    *,
    item: ItemArgument,
    reason: ReasonOption,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Give an item up: proposed by one account, in force when another gives the same command."""
    from gateway.acts.acts import WriteOffItem

    site = site_of(context, config)
    done = act_on(site, WriteOffItem(item_id=item, reason=reason_of(reason)))
    _show_changed(screen_of(context), done, as_json=as_json)


_CHANGED: Final[Columns[Mapping[str, Any]]] = (
    Column("item", labels.ITEM),
    Column("state", labels.STATE, text=words.coded(words.ITEM_STATES)),
    Column("actor", labels.BY),
    Column("second_actor", Words("label.agreed")),
    Column("", Words("label.loss"), lambda done: done["lost_fen"] if done["second_actor"] else None, money),
    Column("lost_fen"),
)


def _show_changed(screen: Screen, done: Mapping[str, Any], *, as_json: bool) -> None:
    show_one(screen, _CHANGED, done, as_json=as_json)
    if as_json:
        return
    if done["state"] == ItemState.OPEN:
        screen.note(screen.word(words.PROPOSED))
    else:
        screen.note(screen.say("clearing.run-clearing-day-again"))


# --- reports --------------------------------------------------------------------------------------------------------


@app.command("report")
def report_(
    context: typer.Context,
    *,
    day: DayArgument,
    out: Annotated[Path, typer.Option("--out", metavar="DIR", file_okay=False, show_default=False)],
    config: ConfigOption = None,
    shift: Annotated[bool, typer.Option("--shift")] = False,
    bom: Annotated[bool, typer.Option("--bom")] = False,
    as_json: JsonOption = False,
) -> None:
    """Write CSV reports of a day: vehicles, funding, record numbers, the three witnesses, lines, owners, items."""
    from gateway.clearing import reports
    from gateway.model.clearing import RowState, VehicleKind

    screen = screen_of(context)
    site = site_of(context, config)
    terms = terms_of(site)
    which = _day(day, zone_of(site))
    written = [out / f"day-{which}.csv"]
    with ledger_of(site) as connection, screen.progress(screen.say("clearing.reporting")) as tell:
        out.mkdir(parents=True, exist_ok=True)
        tell(which)
        rows = reports.report(connection, reports.whole_day(which, terms))
        reports.write_report(written[0], rows, terms, bom=bom)
        if shift:
            written.append(out / f"shifts-{which}.csv")
            parts = [row for period in reports.shifts_of(which, terms) for row in reports.report(connection, period)]
            reports.write_report(written[1], parts, terms, bom=bom)
        written += reports.write_clearing(out, connection, which, bom=bom)
    whole = rows[-1]
    gaps = [] if whole.records is None else [list(gap) for gap in whole.records.missing]
    columns: Columns[ReportRow] = (
        Column("day", of=lambda _: which),
        Column("files", of=lambda _: [str(path) for path in written]),
        Column("vehicles", Words("label.vehicles"), lambda row: row.all_vehicles),
        *map(_vehicles, VehicleKind),
        Column("records", of=lambda row: row.records and [row.records.first, row.records.last]),
        Column("", Words("label.records"), lambda row: row.records, _records),
        Column("missing_records", of=lambda _: gaps),
        Column("lane_fen", Words("label.lanes"), lambda row: row.lane.fen, money),
        Column("ledger_fen", labels.LEDGER, lambda row: row.ledger.fen, money),
        Column("cleared_fen", Words("label.cleared"), lambda row: row.states[RowState.CLEARED].fen, money),
        *map(_file, written),
    )
    show_one(screen, columns, whole, as_json=as_json)
    if gaps:
        told = Pair(*(", ".join(f"{first} {to} {last}" for first, last in gaps) for to in ("to", "至")))
        raise CliFault(
            ExitCode.REFUSED,
            "record_numbers_missing",
            Words("clearing.gaps", gaps=told),
            Words("clearing.clock-set-or-ledger-lost"),
            Words("clearing.etcgw-ledger-verify-config-site"),
        )


_VEHICLES: Final[Mapping[str, Words]] = {
    "paid": Words("clearing.vehicles.paid"),
    "entered": Words("clearing.vehicles.entered"),
    "special": Words("clearing.vehicles.special"),
    "refused": Words("clearing.vehicles.refused"),
    "violation": Words("clearing.vehicles.violation"),
    "unresolved": Words("clearing.vehicles.unresolved"),
}


def _vehicles(kind: VehicleKind) -> Column[ReportRow]:
    return Column(kind.value, _VEHICLES[kind.value], lambda row: row.vehicles[kind])


def _file(path: Path) -> Column[ReportRow]:
    return said(labels.FILE, lambda *_: str(path))


def _records(_: Screen, records: NumberRange | None) -> str:
    return "" if records is None else f"{records.first} - {records.last}"
