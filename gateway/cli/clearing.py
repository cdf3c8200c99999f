"""`etcgw clearing`: match a day with the banks' files, see to the differences, write the reports."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from gateway.cli import labels, words
from gateway.cli.acting import act_on
from gateway.cli.exits import CliFault, ExitCode
from gateway.cli.options import (
    HELP_NAMES,
    ConfigOption,
    JsonOption,
    LastOption,
    ReasonOption,
    iso,
    now_utc,
    reason_of,
    screen_of,
    short,
    site_of,
    zone_of,
)
from gateway.cli.screen import BAD, GOOD, QUIET, Cell, Column, Screen, Words
from gateway.cli.store import changes_of, ledger_of, reader_of
from gateway.model.states import ItemState

if TYPE_CHECKING:
    from gateway.clearing.doubts import DayEnd
    from gateway.clearing.terms import Terms
    from gateway.clearing.views import DayView
    from gateway.config import SiteFile
    from gateway.debit.late import LateEffect

app = typer.Typer(
    name="clearing",
    help="Day end: match the banks' files, settle, see to differences, report.",
    no_args_is_help=True,
    context_settings=HELP_NAMES,
)

KINDS: Final[Mapping[str, Words]] = {
    "missing_at_bank": Words("posted here, not in the bank's file", "本方已入账,银行文件缺失"),
    "missing_here": Words("in the bank's file, not here", "银行文件有,本方无"),
    "amount_differs": Words("amounts differ", "金额不符"),
    "duplicate_at_bank": Words("booked twice by the bank", "银行重复入账"),
    "reversed_at_bank": Words("taken back by the bank", "银行已冲正,本方已入账"),
    "not_posted_here": Words("booked by the bank, not here", "银行已入账,本方已冲正或未入账"),
    "in_doubt": Words("booked by the bank, in doubt here", "银行已入账,本方未定"),
    "other_day": Words("on another settlement day", "清算日不同"),
    "missing_lane_record": Words("no record of the lane", "缺车道记录"),
    "lane_amount_differs": Words("lane recorded another amount", "车道记录金额不符"),
    "lane_without_claim": Words("lane let go without a claim", "车道放行无应收"),
    "proof_missing": Words("no TAC for the issuer", "无TAC,发行方不认"),
    "charged_without_tac": Words("charged, TAC missing", "已扣款无TAC"),
    "disputed_purchase": Words("disputed purchase", "扣款有争议"),
    "taken_after_void": Words("taken after it was let go", "撤销后卡片已扣款"),
    "advice_unanswered": Words("the bank never answered an advice", "银行未应答通知"),
    "refund_unanswered": Words("the bank never answered a refund", "银行未应答退款"),
    "refund_declined": Words("the bank refused a refund", "银行拒绝退款"),
    "advice_contradicted": Words("the bank refused an advice and approved it later", "银行先拒绝后又批准通知"),
    "refund_contradicted": Words("the bank refused a refund and approved it later", "银行先拒绝后又批准退款"),
    "answer_differs": Words("a bank's answer is not what was asked", "银行应答与请求不符"),
    "answer_contradicted": Words("the bank said yes and no to one message", "银行对同一报文先后应答相反"),
    "attempt_disputed": Words("nobody knows whether the bank booked it", "银行是否入账不明"),
    "debt_without_bank": Words("no bank can be asked for a debt", "欠费无可扣款银行"),
    "debit_not_closed": Words("could not be closed after a start", "启动后未能了结"),
    "decision_not_told": Words("the bank cannot be told a decision", "无法把决定通知银行"),
    "outcome_lost": Words("may have ended in a lost part of the ledger", "结果可能在账本丢失部分"),
    "write_off_proposed": Words("debt to be written off", "欠费待核销"),
    "refund_proposed": Words("refund waits for a second person", "退款待复核"),
}
ROW_STATES: Final[words.Table] = {
    "cleared": (Words("cleared", "已清算"), GOOD),
    "disputed": (Words("disputed", "有差错"), BAD),
    "rejected": (Words("rejected", "已拒绝"), QUIET),
}


DayArgument = Annotated[
    str, typer.Argument(metavar="DAY", help="Settlement day: 20261123, 2026-11-23, or yesterday.", show_default=False)
]
ItemArgument = Annotated[int, typer.Argument(metavar="ITEM", min=1, help="Number of the item.", show_default=False)]


# --- joining the site -----------------------------------------------------------------------------------------------


def terms_of(site: SiteFile) -> Terms:
    """Rules of clearing with what they need of the site file."""
    from gateway.acts.doing import clearing_terms_of
    from gateway.rules.loading import load_rules

    return clearing_terms_of(site, load_rules(site.rules.file))


def _day(text: str, zone: timezone) -> str:
    from gateway.model.clearing import day_text, parse_day

    if text == "yesterday":
        return day_text(now_utc().astimezone(zone).date() - timedelta(days=1))
    try:
        return day_text(parse_day(text.replace("-", "") if len(text) == 10 else text))
    except ValueError as error:
        raise typer.BadParameter(f"{text!r} is no day; write it like 20261123 or 2026-11-23") from error


def _files(given: Sequence[str], site: SiteFile) -> list[tuple[str, Path]]:
    known = {bank.name for bank in site.banks}
    found = []
    for text in given:
        channel, equals, path = text.partition("=")
        if not equals or channel not in known or not Path(path).is_file():
            names = ", ".join(sorted(known)) or "none"
            raise typer.BadParameter(
                f"{text!r}: write it as BANK=FILE with a bank of the site ({names}) and a file that is there",
                param_hint="'--bank-file'",
            )
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
        typer.Option("--bank-file", metavar="BANK=FILE", help="A bank's day file; may be given for several banks."),
    ] = None,
    supplement: Annotated[
        bool, typer.Option("--supplement", help="The files add to files of this day that were read before.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Clear a day as far as it can be cleared now; run it again as often as you like. Exit 1 with open differences.

    Reads the banks' files, compares them with the ledger and the lanes' records, ends what was in doubt as the files
    say, settles and pays out what agrees, and makes every difference an item. The gateway may go on meanwhile.
    """
    from gateway.clearing.doubts import run_and_settle
    from gateway.clearing.imports import import_file
    from gateway.clearing.views import day_view
    from gateway.ledger.pace import Pace

    screen = screen_of(context)
    site = site_of(context, config)
    terms = terms_of(site)
    which = _day(day, zone_of(site))
    files = _files(bank_file or (), site)
    _must_exist(site)
    today = now_utc().astimezone(zone_of(site)).date()
    pace = Pace(site.storage.held_ms_max)
    with changes_of(site, pace) as commit, reader_of(site) as reader:
        for channel, path in files:
            with screen.progress(screen.say(f"reading {path.name}", f"正在读取 {path.name}")) as tell:
                import_file(path, channel, which, commit, terms, supplement=supplement, tell=tell, pace=pace)
        with screen.progress(screen.say(f"clearing {which}", f"正在清算 {which}")) as tell:
            end = run_and_settle(which, reader, commit, terms, today=today, tell=tell, pace=pace)
        with reader.connect() as connection:
            view = day_view(connection, which)
    if as_json:
        screen.json({**_run_facts(end), **_day_facts(view, zone_of(site))})
    else:
        _show_run(screen, end)
        _show_day(screen, view, zone_of(site))
    if view.open_items or end.result.waiting:
        raise typer.Exit(ExitCode.REFUSED)


@app.command()
def show(
    context: typer.Context,
    *,
    day: DayArgument,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show the clearing of a day: files, lines with what they settled, rows by state, items."""
    from gateway.clearing.views import day_view

    screen = screen_of(context)
    site = site_of(context, config)
    which = _day(day, zone_of(site))
    with ledger_of(site) as connection:
        view = day_view(connection, which)
    if view.run is None:
        raise CliFault(
            ExitCode.REFUSED,
            f"{which} has not been cleared",
            None,
            Words(f"etcgw clearing run {which} clears it", f"用 etcgw clearing run {which} 执行清算"),
        )
    if as_json:
        screen.json(_day_facts(view, zone_of(site)))
    else:
        _show_day(screen, view, zone_of(site))


def _run_facts(end: DayEnd) -> dict[str, Any]:
    from gateway.model.clearing import BankWord

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
        "findings": {word.value: [told.attempt_id for told in end.told if told.word is word] for word in BankWord},
        "settled": {effect.name.lower(): count for effect, count in sorted(end.effects.items(), key=_by_name)},
        "banks_waited_for": result.waiting,
    }


def _day_facts(view: DayView, zone: timezone) -> dict[str, Any]:
    run = view.run
    return {
        "day": view.day,
        "state": None if run is None else run.state,
        "rules": None if run is None else run.rules_version,
        "ended_at": None if run is None else iso(run.ended_at, zone),
        "files": [
            {
                "bank": file.channel,
                "name": file.name,
                "digest": file.digest,
                "lines": file.lines,
                "net_fen": file.amount,
                "state": file.state,
                "imported_at": iso(file.imported_at, zone),
            }
            for file in view.files
        ],
        "lines": [
            {
                "line": line.id,
                "collector": line.merchant,
                "payer": line.payer,
                "payer_kind": line.payer_kind,
                "service": line.service,
                "seq": line.seq,
                "state": line.state,
                "count": line.count,
                "amount_fen": line.amount,
                "paid_fen": line.paid,
                "fee_fen": line.fee,
                "net_fen": line.paid - line.fee,
            }
            for line in view.lines
        ],
        "groups": [
            {
                "collector": group.merchant,
                "payer": group.payer,
                "service": group.service,
                "state": group.state,
                "count": group.count,
                "amount_fen": group.amount_fen,
                "paid_fen": group.paid_fen,
            }
            for group in view.groups
        ],
        "items": [
            {"kind": kind, "state": state, "count": count, "amount_fen": fen} for kind, state, count, fen in view.items
        ],
        "open_items": view.open_items,
    }


def _by_name(counted: tuple[LateEffect, int]) -> str:
    return counted[0].name


def _show_run(screen: Screen, end: DayEnd) -> None:
    say, result = screen.say, end.result
    for bank in result.waiting:
        screen.note(say(f"no file of {bank} yet: nothing of it was matched", f"{bank} 对账文件未到,未作核对"))
    if end.told:
        effects = ", ".join(
            f"{screen.word(words.LATE_EFFECTS[effect.name.lower()])} {count}"
            for effect, count in sorted(end.effects.items(), key=_by_name)
        )
        screen.note(
            say(
                f"the files tell of {len(end.told)} attempts in doubt: {effects}",
                f"文件说明了 {len(end.told)} 笔未定请求的结果: {effects}",
            )
        )
    if not end.changed:
        screen.note(say("nothing new since the last run", "与上次清算相比无变化"))


def _show_day(screen: Screen, view: DayView, zone: timezone) -> None:
    say = screen.say
    run = view.run
    pairs: list[tuple[str, str | Cell]] = [(say("Day", "清算日"), view.day)]
    if run is not None:
        done = Cell(say("done", "完成"), GOOD) if run.state == "done" else Cell(say("cut short", "未完成"), BAD)
        pairs += [(say("Run", "清算"), done), (say("Ended", "结束"), short(run.ended_at, zone) or "-")]
        pairs += [(say("Rules", "规则"), run.rules_version)]
    for file in view.files:
        read = "" if file.state == "read" else say(" (cut off while it was stored)", " (导入未完成)")
        pairs.append((file.channel, f"{file.name}, {file.lines}, {words.yuan_with_currency(file.amount)}{read}"))
    screen.pairs(pairs)
    if view.lines:
        screen.line()
        _show_lines(screen, view)
    if view.groups:
        screen.line()
        heads = [say(*labels.PAYER), say("Service", "业务"), say(*labels.STATE), say("Count", "笔数")]
        columns = [*(Column(head) for head in heads[:3]), Column(heads[3], right=True)]
        columns += [Column(say("Ours", "本方"), right=True), Column(say("Granted", "对方"), right=True)]
        screen.table(
            columns,
            [
                [
                    *(group.payer, group.service, words.named(screen, ROW_STATES, group.state), str(group.count)),
                    *(words.yuan(group.amount_fen), words.yuan(group.paid_fen)),
                ]
                for group in view.groups
            ],
        )
    screen.line()
    if not view.items:
        screen.line(say("No difference.", "无差错。"))
        return
    screen.table(
        [
            Column(say("Difference", "差错"), wrap_at=20),
            Column(say(*labels.STATE)),
            Column(say("Count", "笔数"), right=True),
            Column(say("At stake", "差额"), right=True),
        ],
        [
            [_kind(screen, kind), words.named(screen, words.ITEM_STATES, state), str(count), words.yuan(fen)]
            for kind, state, count, fen in view.items
        ],
    )


def _show_lines(screen: Screen, view: DayView) -> None:
    say = screen.say
    columns = [
        Column(say("Line", "行"), right=True),
        Column(say("Collector", "收款方"), rank=1),
        Column(say(*labels.PAYER)),
        Column(say("Service", "业务"), rank=2),
        Column(say("Count", "笔数"), right=True),
        Column(say("Ours", "本方"), rank=1, right=True),
        Column(say("Paid", "实付"), right=True),
        Column(say("Fee", "手续费"), right=True),
        Column(say("Net", "净额"), right=True),
    ]
    screen.table(
        columns,
        [
            [
                *(str(line.id), line.merchant, line.payer, line.service, str(line.count)),
                *(words.yuan(line.amount), words.yuan(line.paid), words.yuan(line.fee)),
                words.yuan(line.paid - line.fee),
            ]
            for line in view.lines
        ],
    )


def _kind(screen: Screen, kind: str) -> str:
    return screen.word(KINDS.get(kind, Words(kind, kind)))


# --- items ----------------------------------------------------------------------------------------------------------


@app.command()
def items(
    context: typer.Context,
    *,
    config: ConfigOption = None,
    state: Annotated[ItemState | None, typer.Option("--state", help="Only in this state.")] = None,
    day: Annotated[str | None, typer.Option("--day", metavar="DAY", help="Only of this settlement day.")] = None,
    last: LastOption = 50,
    as_json: JsonOption = False,
) -> None:
    """List what somebody must explain or give up, open items first."""
    from gateway.clearing.views import items_of

    screen = screen_of(context)
    site = site_of(context, config)
    zone = zone_of(site)
    with ledger_of(site) as connection:
        found = items_of(
            connection,
            state=None if state is None else state.value,
            day=None if day is None else _day(day, zone),
            last=last,
        )
    if as_json:
        screen.json({"items": [_item_facts(item, zone) for item in found]})
        return
    if not found:
        screen.note(screen.say("no such item", "没有符合条件的差错记录"))
        return
    say = screen.say
    columns = [
        Column(say("Item", "编号"), right=True),
        Column(say("Day", "清算日")),
        Column(say("Difference", "差错"), wrap_at=20),
        Column(say("At stake", "差额"), right=True),
        Column(say(*labels.STATE)),
        Column(say("By", "经办"), rank=2),
        Column(say("About", "对象"), rank=3),
        Column(say("Note", "说明"), rank=1, wrap_at=20),
    ]
    screen.table(
        columns,
        [
            [
                *(str(item.id), item.day or "", _kind(screen, item.kind), words.yuan(item.amount)),
                words.named(screen, words.ITEM_STATES, item.state),
                " / ".join(name for name in (item.actor, item.second_actor) if name),
                *(item.ref, item.note or ""),
            ]
            for item in found
        ],
    )


def _item_facts(item: Any, zone: timezone) -> dict[str, Any]:  # noqa: ANN401 - a row
    words_of = KINDS.get(item.kind)
    return {
        "item": item.id,
        "kind": item.kind,
        "kind_en": None if words_of is None else words_of.en,
        "kind_zh": None if words_of is None else words_of.zh,
        "ref": item.ref,
        "debit_id": item.debit_id,
        "day": item.day,
        "amount_fen": item.amount,
        "state": item.state,
        "note": item.note,
        "actor": item.actor,
        "second_actor": item.second_actor,
        "created_at": iso(item.created_at, zone),
        "changed_at": iso(item.changed_at, zone),
    }


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
    facts = act_on(site, ExplainItem(item_id=item, reason=reason_of(reason)))
    _show_changed(screen_of(context), facts, as_json=as_json)


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
    facts = act_on(site, WriteOffItem(item_id=item, reason=reason_of(reason)))
    _show_changed(screen_of(context), facts, as_json=as_json)


def _show_changed(screen: Screen, facts: Mapping[str, Any], *, as_json: bool) -> None:
    say = screen.say
    if as_json:
        screen.json(facts)
        return
    pairs: list[tuple[str, str | Cell]] = [
        (say("Item", "编号"), str(facts["item"])),
        (say(*labels.STATE), words.named(screen, words.ITEM_STATES, facts["state"])),
        (say("By", "经办"), facts["actor"]),
    ]
    if facts["second_actor"] is not None:
        pairs += [(say("Agreed by", "复核"), facts["second_actor"])]
        pairs += [(say("Loss", "损失"), words.yuan_with_currency(facts["lost_fen"]))]
    screen.pairs(pairs)
    if facts["state"] == ItemState.OPEN:
        screen.note(screen.word(words.PROPOSED))
    else:
        screen.note(say("run the clearing of its day again", "请重新执行该日清算"))


# --- reports --------------------------------------------------------------------------------------------------------


@app.command("report")
def report_(
    context: typer.Context,
    *,
    day: DayArgument,
    out: Annotated[
        Path, typer.Option("--out", metavar="DIR", file_okay=False, help="Folder for the files.", show_default=False)
    ],
    config: ConfigOption = None,
    shift: Annotated[bool, typer.Option("--shift", help="One row for each shift too, in a file of its own.")] = False,
    bom: Annotated[bool, typer.Option("--bom", help="With a byte order mark, for spreadsheets.")] = False,
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
    with ledger_of(site) as connection, screen.progress(screen.say("reporting", "正在生成报表")) as tell:
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
    facts = {
        "day": which,
        "files": [str(path) for path in written],
        "vehicles": whole.all_vehicles,
        **{kind.value: whole.vehicles[kind] for kind in VehicleKind},
        "records": None if whole.records is None else [whole.records.first, whole.records.last],
        "missing_records": gaps,
        "lane_fen": whole.lane.fen,
        "ledger_fen": whole.ledger.fen,
        "cleared_fen": whole.states[RowState.CLEARED].fen,
    }
    if as_json:
        screen.json(facts)
    else:
        _show_report(screen, facts)
    if gaps:
        raise CliFault(
            ExitCode.REFUSED,
            "record numbers have gaps: " + ", ".join(f"{first} to {last}" for first, last in gaps),
            Words("the clock was set, or the ledger lost rows", "时钟被调整,或账本缺失记录"),
            Words("etcgw ledger verify --config SITE tells which", "用 etcgw ledger verify --config SITE 核实"),
        )


def _show_report(screen: Screen, facts: Mapping[str, Any]) -> None:
    say = screen.say
    names = [
        ("vehicles", say("Vehicles", "车辆数")),
        ("paid", say("Paid", "已付")),
        ("entered", say("Entered", "入口")),
        ("special", say("Special", "特情")),
        ("refused", say("Refused", "拒绝")),
        ("violation", say("Violation", "违章")),
        ("unresolved", say("Unresolved", "未决")),
    ]
    pairs: list[tuple[str, str | Cell]] = [(label, str(facts[name])) for name, label in names]
    if facts["records"] is not None:
        pairs.append((say("Records", "记录号"), f"{facts['records'][0]} - {facts['records'][1]}"))
    for name, label in (("lane_fen", say("Lanes", "车道")), ("ledger_fen", say("Ledger", "账本"))):
        pairs.append((label, words.yuan_with_currency(facts[name])))
    pairs.append((say("Cleared", "已清算"), words.yuan_with_currency(facts["cleared_fen"])))
    pairs += [(say(*labels.FILE), path) for path in facts["files"]]
    screen.pairs(pairs)
