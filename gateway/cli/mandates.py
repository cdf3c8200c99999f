"""`etcgw mandates`: bring in who may be charged, look at it, and limit how far."""

from __future__ import annotations

import csv
from collections.abc import Callable, Mapping, Sequence
from datetime import timezone
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
    UnmaskOption,
    iso,
    screen_of,
    short,
    site_of,
    zone_of,
)
from gateway.cli.screen import Cell, Column, Screen, Words
from gateway.cli.store import changes_of, ledger_of, reader_of
from gateway.model.passage import Service
from gateway.model.states import MandateStatus

if TYPE_CHECKING:
    from sqlalchemy import Connection, Row

    from gateway.acts.acts import LimitName
    from gateway.config import SiteFile
    from gateway.payers.mandate_import import Changes
    from gateway.payers.mandates import Credential, Mandate

app = typer.Typer(
    name="mandates",
    help="Who may be charged, and how far: import, list, show, limit.",
    no_args_is_help=True,
    context_settings=HELP_NAMES,
)

MandateArgument = Annotated[str, typer.Argument(help="The mandate's own id.")]

DEBITS_SHOWN: Final = 10
"""Newest debits shown with a mandate: enough to see whether it works."""


# --- import ---------------------------------------------------------------------------------------------------------


@app.command("import")
def import_(
    context: typer.Context,
    *,
    file: Annotated[
        Path, typer.Argument(exists=True, dir_okay=False, help="CSV with every mandate that is to be in force.")
    ],
    config: ConfigOption = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Check the file and count the changes; change nothing.")
    ] = False,
    allow_empty: Annotated[
        bool, typer.Option("--allow-empty", help="Accept a file without any mandate, which ends them all.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Put the mandates of a CSV file in force; one bad line and the old ones stay.

    The file replaces what is there: first it says how many mandates come, change and go, then it writes them a few at
    a time, so that the gateway may go on. If it is cut short, give the same file again; it goes on where it stopped.
    """
    screen = screen_of(context)
    site = site_of(context, config)
    mandates, credentials = _read(file)
    if not mandates and not allow_empty:
        raise CliFault(
            ExitCode.REFUSED,
            f"{file}: holds no mandate",
            Words("an empty delivery would end every mandate", "空文件将终止全部签约"),
            Words("if that is meant, add --allow-empty", "如确需如此,请加 --allow-empty"),
        )
    for bank in sorted(_banks_missing(mandates, site)):
        screen.note(
            screen.say(
                f"note: mandates name the bank {bank}, which is not in the site file; they cannot be charged",
                f"注意: 有签约指向配置中不存在的银行 {bank},无法扣款",
            )
        )
    if dry_run:
        changes = _compare_only(site, mandates, credentials)
    else:
        changes = _bring_in(site, file.name, mandates, credentials, screen)
    facts = {
        "file": str(file),
        "dry_run": dry_run,
        "mandates": len(mandates),
        "credentials": len(credentials),
        "added": changes.added,
        "changed": changes.changed,
        "removed": changes.removed,
        "unchanged": changes.unchanged,
    }
    if as_json:
        screen.json(facts)
    else:
        _show_changes(screen, facts)


def _read(file: Path) -> tuple[dict[str, Mandate], list[Credential]]:
    from gateway.payers.mandates import MandateImportError, read_csv

    try:
        with file.open(encoding="utf-8-sig", newline="") as stream:
            return read_csv(stream)
    except UnicodeDecodeError as error:
        raise MandateImportError([f"{file} is not UTF-8 ({error.reason}); save it as UTF-8"]) from error
    except csv.Error as error:
        raise MandateImportError([f"{file} is not CSV: {error}"]) from error


def _banks_missing(mandates: Mapping[str, Mandate], site: SiteFile) -> set[str]:
    known = {bank.name for bank in site.banks}
    return {mandate.channel for mandate in mandates.values() if mandate.channel is not None} - known


def _compare_only(site: SiteFile, mandates: Mapping[str, Mandate], credentials: Sequence[Credential]) -> Changes:
    from gateway.payers.mandate_import import Plan, compare

    if not site.storage.ledger.exists():
        return Plan(mandates).changes
    with ledger_of(site) as connection:
        return compare(connection, mandates, credentials).changes


def _bring_in(
    site: SiteFile, name: str, mandates: Mapping[str, Mandate], credentials: Sequence[Credential], screen: Screen
) -> Changes:
    from gateway.ledger.pace import Pace
    from gateway.payers.mandate_import import Plan, bring_in

    say, pace = screen.say, Pace(site.storage.held_ms_max)

    def show(plan: Plan) -> None:
        changes = plan.changes
        if plan.under_way:
            screen.note(
                say(
                    "an earlier import was cut short, or is running; this file takes its place",
                    "此前的签约导入未完成或仍在进行,将以本文件为准",
                )
            )
        screen.note(
            say(
                f"mandates: {changes.added} come, {changes.changed} change, {changes.removed} go",
                f"签约: 新增 {changes.added},变更 {changes.changed},移除 {changes.removed}",
            )
        )

    with (
        changes_of(site, pace) as commit,
        reader_of(site) as reader,
        screen.progress(say("importing", "正在导入")) as tell,
    ):
        progress = _each_percent(lambda done, total: tell(f"{done} / {total}"))
        return bring_in(reader, commit, mandates, credentials, name=name, pace=pace, show=show, tell=progress)


def _each_percent(tell: Callable[[int, int], None]) -> Callable[[int, int], None]:
    """Tells once a hundredth: a line for each of a thousand transactions would be noise."""
    told = 0

    def progress(done: int, total: int) -> None:
        nonlocal told
        if done == total or (done - told) * 100 >= total:
            told = done
            tell(done, total)

    return progress


def _note_under_way(screen: Screen, connection: Connection) -> None:
    """Say that what follows is neither the old mandates nor the new."""
    from gateway.payers.mandate_import import is_under_way

    if is_under_way(connection):
        screen.note(
            screen.say(
                "note: an import of mandates is running or was cut short: some are the old ones, some the new;"
                " if nobody runs it, give the file again",
                "注意: 签约导入正在进行或未完成,新旧签约并存;如无人执行,请重新导入该文件",
            )
        )


def _show_changes(screen: Screen, facts: Mapping[str, Any]) -> None:
    say = screen.say
    screen.pairs(
        [
            (say("Mandates", "签约"), str(facts["mandates"])),
            (say("Credentials", "凭据"), str(facts["credentials"])),
            (say("Added", "新增"), str(facts["added"])),
            (say("Changed", "变更"), str(facts["changed"])),
            (say("Removed", "移除"), str(facts["removed"])),
            (say("Unchanged", "未变"), str(facts["unchanged"])),
        ]
    )
    if facts["dry_run"]:
        screen.note(say("dry run: nothing was changed", "试运行: 未作任何更改"))


# --- looking --------------------------------------------------------------------------------------------------------


@app.command("list")
def list_(
    context: typer.Context,
    *,
    config: ConfigOption = None,
    last: LastOption = 50,
    state: Annotated[MandateStatus | None, typer.Option("--status", help="Only in this state.")] = None,
    as_json: JsonOption = False,
    unmask: UnmaskOption = False,
) -> None:
    """List mandates with what proves them, and count them by state."""
    from sqlalchemy import func, select

    from gateway.ledger import tables

    screen = screen_of(context)
    site = site_of(context, config)
    zone = zone_of(site)
    m = tables.mandate
    chosen = [] if state is None else [m.c.status == state.value]
    with ledger_of(site) as connection:
        _note_under_way(screen, connection)
        states = connection.execute(select(m.c.status, func.count()).group_by(m.c.status)).all()
        counts: dict[str, int] = {name: count for name, count in states}
        rows = connection.execute(select(m).where(*chosen).order_by(m.c.imported_at.desc(), m.c.id).limit(last)).all()
        facts = [
            {**_mandate_facts(row, zone, unmask=unmask), "credentials": _credentials(connection, row.id, unmask=unmask)}
            for row in rows
        ]
    if as_json:
        screen.json({"mandates": facts, "counts": counts})
        return
    if not facts:
        screen.note(screen.say("no mandate here", "没有签约"))
        return
    _show_list(screen, facts)
    screen.line()
    totals = ", ".join(
        f"{words.named(screen, words.MANDATE_STATES, name).text} {counts[name]}"
        for name in words.MANDATE_STATES
        if name in counts
    )
    screen.line(screen.say(f"In all: {totals}", f"合计: {totals}"))


@app.command()
def show(
    context: typer.Context,
    *,
    mandate_id: MandateArgument,
    config: ConfigOption = None,
    as_json: JsonOption = False,
    unmask: UnmaskOption = False,
) -> None:
    """Show one mandate: what proves it, what its payer owes, and its newest debits."""
    from sqlalchemy import select

    from gateway.ledger import tables

    screen = screen_of(context)
    site = site_of(context, config)
    zone = zone_of(site)
    with ledger_of(site) as connection:
        _note_under_way(screen, connection)
        row = connection.execute(select(tables.mandate).where(tables.mandate.c.id == mandate_id)).one_or_none()
        if row is None:
            raise CliFault(
                ExitCode.REFUSED,
                f"no mandate {mandate_id} in the ledger",
                None,
                Words("etcgw mandates list --config SITE lists them", "用 etcgw mandates list --config SITE 列出"),
            )
        facts = {
            **_mandate_facts(row, zone, unmask=unmask),
            "credentials": _credentials(connection, mandate_id, unmask=unmask),
            "limits": _limits(connection, mandate_id),
            **_owes(connection, mandate_id),
            "debits": _debits(connection, mandate_id, zone),
        }
    if as_json:
        screen.json(facts)
    else:
        _show_mandate(screen, facts, zone)


def _mandate_facts(row: Row[Any], zone: timezone, *, unmask: bool) -> dict[str, Any]:
    return {
        "mandate_id": row.id,
        "status": row.status,
        "funding": row.funding,
        "bank": row.channel,
        "contract_ref": words.number_shown(row.contract_ref, unmask=unmask),
        "limit_fen": row.limit_fen,
        "stand_in_limit_fen": row.stand_in_limit_fen,
        "imported_at": iso(row.imported_at, zone),
    }


def _limits(connection: Connection, mandate_id: str) -> list[dict[str, Any]]:
    """What is stated for the mandate itself; of every other service the rules' limits bind."""
    from sqlalchemy import select

    from gateway.ledger import tables

    t = tables.mandate_limit
    rows = connection.execute(select(t).where(t.c.mandate_id == mandate_id).order_by(t.c.service))
    return [
        {
            "service": row.service,
            "per_debit_fen": row.per_debit_fen,
            "per_day_fen": row.per_day_fen,
            "per_day_count": row.per_day_count,
        }
        for row in rows
    ]


def _credentials(connection: Connection, mandate_id: str, *, unmask: bool) -> list[dict[str, Any]]:
    from sqlalchemy import select

    from gateway.ledger import tables

    c = tables.credential
    rows = connection.execute(select(c).where(c.c.mandate_id == mandate_id).order_by(c.c.kind, c.c.key))
    return [
        {
            "kind": row.kind,
            "key": _key_shown(row, unmask=unmask),
            "plate": words.plate_shown(row.plate, unmask=unmask),
            "plate_colour": row.plate_colour,
        }
        for row in rows
    ]


def _key_shown(row: Row[Any], *, unmask: bool) -> str | None:
    """A plate's key is its text, a bar and its colour; the others are numbers."""
    if row.kind != "plate":
        return words.number_shown(row.key, unmask=unmask)
    text, bar, colour = row.key.rpartition("|")
    return f"{words.plate_shown(text, unmask=unmask)}{bar}{colour}"


def _owes(connection: Connection, mandate_id: str) -> dict[str, int]:
    """Fen the mandate's payer has reserved, owes as released, and owes as debt."""
    from sqlalchemy import func, select

    from gateway.ledger import tables

    a, o = tables.account, tables.obligor
    rows = connection.execute(
        select(a.c.kind, func.sum(a.c.balance), func.sum(a.c.held))
        .join_from(a, o, o.c.id == a.c.owner)
        .where(o.c.mandate_id == mandate_id, a.c.kind.in_(("open", "debt")))
        .group_by(a.c.kind)
    )
    found = {kind: (balance, held) for kind, balance, held in rows}
    opened, debt = found.get("open", (0, 0)), found.get("debt", (0, 0))
    return {"held_fen": opened[1], "open_fen": -opened[0], "debt_fen": -debt[0]}


def _debits(connection: Connection, mandate_id: str, zone: timezone) -> list[dict[str, Any]]:
    from sqlalchemy import select

    from gateway.ledger import tables

    d = tables.debit
    rows = connection.execute(
        select(d).where(d.c.mandate_id == mandate_id).order_by(d.c.created_at.desc(), d.c.id.desc()).limit(DEBITS_SHOWN)
    )
    return [
        {
            "debit_id": row.id,
            "passage_id": row.passage_id,
            "state": row.state,
            "amount_fen": row.amount,
            "created_at": iso(row.created_at, zone),
            "created_us": row.created_at,
        }
        for row in rows
    ]


def _show_list(screen: Screen, facts: Sequence[Mapping[str, Any]]) -> None:
    say = screen.say
    columns = [
        Column(say(*labels.MANDATE)),
        Column(say(*labels.STATE)),
        Column(say(*labels.FUNDING)),
        Column(say("Bank", "银行")),
        Column(say("Contract", "协议号"), rank=2),
        Column(say("Limit", "限额"), rank=1, right=True),
        Column(say("Stand-in", "代授权限额"), rank=1, right=True),
        Column(say("Credentials", "凭据"), wrap_at=24),
    ]
    screen.table(
        columns,
        [
            [
                fact["mandate_id"],
                words.named(screen, words.MANDATE_STATES, fact["status"]),
                words.named(screen, words.FUNDINGS, fact["funding"]),
                fact["bank"] or "",
                fact["contract_ref"] or "",
                words.yuan(fact["limit_fen"]),
                words.yuan(fact["stand_in_limit_fen"]),
                ", ".join(f"{c['kind']} {c['key']}" for c in fact["credentials"]),
            ]
            for fact in facts
        ],
    )


def _show_mandate(screen: Screen, facts: Mapping[str, Any], zone: timezone) -> None:
    say = screen.say
    limit = words.yuan_with_currency(facts["limit_fen"]) or say("none of ours", "不限")
    pairs: list[tuple[str, str | Cell]] = [
        (say(*labels.MANDATE), facts["mandate_id"]),
        (say(*labels.STATE), words.named(screen, words.MANDATE_STATES, facts["status"])),
        (say(*labels.FUNDING), words.named(screen, words.FUNDINGS, facts["funding"])),
        (say("Bank", "银行"), facts["bank"] or "-"),
        (say("Contract", "协议号"), facts["contract_ref"] or "-"),
        (say("Limit", "限额"), limit),
        (say("Stand-in limit", "代授权限额"), words.yuan_with_currency(facts["stand_in_limit_fen"])),
        *(
            (say(f"Limits {limit['service']}", f"限额 {limit['service']}"), _limit_text(screen, limit))
            for limit in facts["limits"]
        ),
        (say(*labels.HELD), words.yuan_with_currency(facts["held_fen"])),
        (say("Owes", "应付"), words.yuan_with_currency(facts["open_fen"])),
        (say("Debt", "欠费"), words.yuan_with_currency(facts["debt_fen"])),
        (say("Imported", "导入"), facts["imported_at"]),
    ]
    for credential in facts["credentials"]:
        plate = credential["plate"]
        of_plate = "" if plate is None or credential["kind"] == "plate" else say(f" for {plate}", f",车牌 {plate}")
        colour = words.colour_text(screen, credential["plate_colour"])
        pairs.append((credential["kind"], f"{credential['key']}{of_plate} {colour}".rstrip()))
    screen.pairs(pairs)
    if not facts["debits"]:
        return
    screen.line()
    columns = [
        Column(say(*labels.TIME)),
        Column(say(*labels.STATE)),
        Column(say(*labels.AMOUNT), right=True),
        Column(say(*labels.PASSAGE)),
    ]
    screen.table(
        columns,
        [
            [
                short(debit["created_us"], zone),
                words.named(screen, words.DEBIT_STATES, debit["state"]),
                words.yuan(debit["amount_fen"]),
                debit["passage_id"],
            ]
            for debit in facts["debits"]
        ],
    )


def _limit_text(screen: Screen, limit: Mapping[str, Any]) -> str:
    say = screen.say
    nothing = say("none", "不限")
    per_debit = words.yuan(limit["per_debit_fen"]) or nothing
    per_day = words.yuan(limit["per_day_fen"]) or nothing
    count = nothing if limit["per_day_count"] is None else str(limit["per_day_count"])
    return say(
        f"a debit {per_debit}, a day {per_day}, debits a day {count}",
        f"单笔 {per_debit},每日 {per_day},每日笔数 {count}",
    )


# --- limits ---------------------------------------------------------------------------------------------------------


NO_LIMIT: Final = "none"

LIMITED: Final = {service.word: service.value for service in Service} | {"*": "*"}
"""What a limit may be for, by the words of a command; * counts all services together."""


def _limited(text: str) -> str:
    if text not in LIMITED:
        raise typer.BadParameter(f"{text!r} is not one of {', '.join(LIMITED)}")
    return LIMITED[text]


@app.command()
def limit(
    context: typer.Context,
    *,
    mandate_id: MandateArgument,
    service: Annotated[
        str,
        typer.Option(
            "--service",
            parser=_limited,
            autocompletion=lambda: list(LIMITED),
            metavar=f"[{'|'.join(LIMITED)}]",
            help="What the limit is for; * counts all services together.",
        ),
    ] = "*",
    per_debit: Annotated[
        str | None, typer.Option("--per-debit", metavar="FEN", help="Largest single debit in fen, or none.")
    ] = None,
    per_day: Annotated[
        str | None, typer.Option("--per-day", metavar="FEN", help="Sum of a day's debits in fen, or none.")
    ] = None,
    count: Annotated[
        str | None, typer.Option("--count", metavar="N", help="Number of a day's debits, or none.")
    ] = None,
    exposure: Annotated[
        str | None,
        typer.Option(
            "--exposure", metavar="FEN", help="Most that may be owed at once, or none; until the next import."
        ),
    ] = None,
    clear: Annotated[
        bool, typer.Option("--clear", help="Take back what is stated for the service: the rules bind again.")
    ] = False,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Change a mandate's limits; they bind from the next hold on, holds and debits of the day counted.

    What is not named stays as it is. Limits of services outlive an import of mandates; the exposure limit is replaced
    by the imported one.
    """
    from gateway.acts.acts import ChangeLimits

    screen = screen_of(context)
    site = site_of(context, config)
    given: dict[LimitName, str | None] = {"per_debit_fen": per_debit, "per_day_fen": per_day, "per_day_count": count}
    changes: dict[LimitName, int | None] = {n: _limit_value(text) for n, text in given.items() if text is not None}
    if clear and changes:
        raise typer.BadParameter("--clear takes all limits of the service back; name no other", param_hint="'--clear'")
    if not (clear or changes or exposure is not None):
        raise typer.BadParameter(
            "say which limit: --per-debit, --per-day, --count, --exposure, or --clear", param_hint="'--per-debit'"
        )
    act = ChangeLimits(
        mandate_id=mandate_id,
        service=service,
        changes=changes,
        clear=clear,
        exposure=None if exposure is None else (_limit_value(exposure),),
    )
    act_on(site, act)
    with ledger_of(site) as connection:
        facts = {"mandate_id": mandate_id, **_limits_now(connection, mandate_id)}
    if as_json:
        screen.json(facts)
        return
    exposed = words.yuan_with_currency(facts["limit_fen"]) or screen.say("none of ours", "不限")
    pairs: list[tuple[str, str | Cell]] = [
        (screen.say(*labels.MANDATE), mandate_id),
        (screen.say("Limit", "限额"), exposed),
    ]
    pairs += [(stated["service"], _limit_text(screen, stated)) for stated in facts["limits"]]
    screen.pairs(pairs)


def _limits_now(connection: Connection, mandate_id: str) -> dict[str, Any]:
    from sqlalchemy import select

    from gateway.ledger import tables

    m = tables.mandate
    limit_fen = connection.execute(select(m.c.limit_fen).where(m.c.id == mandate_id)).scalar_one()
    return {"limit_fen": limit_fen, "limits": _limits(connection, mandate_id)}


def _limit_value(text: str) -> int | None:
    """A whole number, or `none` for no such limit."""
    from gateway.payers.mandates import LIMIT_DIGITS_MAX

    if text == NO_LIMIT:
        return None
    if not (text.isascii() and text.isdigit() and len(text) <= LIMIT_DIGITS_MAX):
        raise typer.BadParameter(f"{text!r} is no whole number; for no limit write {NO_LIMIT}")
    return int(text)
