"""`etcgw debts`: what payers owe since their bank refused, and what people do about it."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timezone
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gateway.cli import labels, words
from gateway.cli.acting import act_on
from gateway.cli.debits import tell_state
from gateway.cli.options import (
    HELP_NAMES,
    ConfigOption,
    DebitArgument,
    JsonOption,
    LastOption,
    ReasonOption,
    TillOption,
    UnmaskOption,
    age_text,
    iso,
    name_of,
    now_utc,
    reason_of,
    screen_of,
    short,
    site_of,
    zone_of,
)
from gateway.cli.screen import BAD, Cell, Column, Screen
from gateway.cli.store import ledger_of
from gateway.model.states import UNRESOLVED, DebitState, ItemState

if TYPE_CHECKING:
    from sqlalchemy import Connection, Row


app = typer.Typer(
    name="debts",
    invoke_without_command=True,
    context_settings=HELP_NAMES,
)


@app.callback()
def debts(
    context: typer.Context,
    *,
    config: ConfigOption = None,
    listed: Annotated[bool, typer.Option("--listed", help="Only of payers on the box's own list.")] = False,
    last: LastOption = 50,
    as_json: JsonOption = False,
    unmask: UnmaskOption = False,
) -> None:
    """List debts: who owes, how much, since when, and when the bank is asked again."""
    if context.invoked_subcommand is not None:
        return
    screen = screen_of(context)
    site = site_of(context, config)
    zone = zone_of(site)
    with ledger_of(site) as connection:
        facts = {
            "debts": _debts(connection, zone, last, listed=listed, unmask=unmask),
            **_totals(connection, listed=listed),
        }
    if as_json:
        screen.json(facts)
    else:
        _show(screen, facts, zone)


def _debts(connection: Connection, zone: timezone, last: int, *, listed: bool, unmask: bool) -> list[dict[str, Any]]:
    from sqlalchemy import func, select

    from gateway.debit.debts import WRITE_OFF
    from gateway.ledger import tables

    d, o, p, s, j, a, i = (
        tables.debit,
        tables.obligor,
        tables.passage,
        tables.subject,
        tables.journal,
        tables.attempt,
        tables.item,
    )
    since = (
        select(func.max(j.c.at)).where(j.c.debit_id == d.c.id, j.c.kind == "debit", j.c.event == DebitState.DEBT)
    ).scalar_subquery()
    asking = select(a.c.id).where(a.c.debit_id == d.c.id, a.c.state.in_(UNRESOLVED)).exists()
    proposed = (
        select(i.c.actor).where(i.c.kind == WRITE_OFF, i.c.ref == d.c.id, i.c.state == ItemState.OPEN)
    ).scalar_subquery()
    rows = connection.execute(
        select(d, o.c.listed_at, s.c.plate, s.c.plate_colour, s.c.card_number, since.label("since"))
        .add_columns(asking.label("asking"), proposed.label("proposed_by"))
        .join_from(d, o, o.c.id == d.c.obligor_id)
        .join(p, p.c.id == d.c.passage_id)
        .join(s, s.c.id == p.c.subject_id)
        .where(d.c.state == DebitState.DEBT, *([o.c.listed_at.is_not(None)] if listed else []))
        .order_by(since.desc(), d.c.id.desc())
        .limit(last)
    )
    return [_facts(row, zone, unmask=unmask) for row in rows]


def _facts(row: Row[Any], zone: timezone, *, unmask: bool) -> dict[str, Any]:
    return {
        "debit_id": row.id,
        "mandate_id": row.mandate_id,
        "plate": words.plate_shown(row.plate, unmask=unmask),
        "plate_colour": row.plate_colour,
        "card_number": words.number_shown(row.card_number, unmask=unmask),
        "obligor_id": row.obligor_id,
        "payer": row.payer,
        "service": row.service,
        "amount_fen": row.amount,
        "since": iso(row.since, zone),
        "since_us": row.since,
        "next_try_at": iso(row.retry_at, zone),
        "next_try_us": row.retry_at,
        "bank_in_doubt": bool(row.asking),
        "tries": row.retries,
        "listed_since": iso(row.listed_at, zone),
        "listed_us": row.listed_at,
        "write_off_proposed_by": row.proposed_by,
    }


def _totals(connection: Connection, *, listed: bool) -> dict[str, Any]:
    from sqlalchemy import func, select

    from gateway.ledger import tables

    d, o = tables.debit, tables.obligor
    count, fen, payers, on_list = connection.execute(
        select(
            func.count(),
            func.coalesce(func.sum(d.c.amount), 0),
            func.count(d.c.obligor_id.distinct()),
            func.count(o.c.id.distinct()).filter(o.c.listed_at.is_not(None)),
        )
        .join_from(d, o, o.c.id == d.c.obligor_id)
        .where(d.c.state == DebitState.DEBT, *([o.c.listed_at.is_not(None)] if listed else []))
    ).one()
    return {"count": count, "amount_fen": fen, "payers": payers, "payers_listed": on_list}


def _show(screen: Screen, facts: Mapping[str, Any], zone: timezone) -> None:
    say = screen.say
    if not facts["count"]:
        screen.note(say("no such debt", "没有符合条件的欠费"))
        return
    now = now_utc().timestamp()
    columns = [
        Column(say(*labels.DEBIT)),
        Column(say("Owed by", "欠费人")),
        Column(say(*labels.PLATE), rank=1),
        Column(say(*labels.AMOUNT), right=True),
        Column(say("Age", "欠费时长"), right=True),
        Column(say(*labels.NEXT_TRY)),
        Column(say("Tries", "已试"), right=True),
        Column(say("Listed since", "列入名单")),
        Column(say("Write-off", "核销提出人"), rank=2),
    ]
    screen.table(
        columns,
        [
            [
                debt["debit_id"],
                debt["mandate_id"] or debt["plate"] or debt["card_number"] or f"..{debt['obligor_id'][-6:]}",
                debt["plate"] or "",
                words.yuan(debt["amount_fen"]),
                "" if debt["since_us"] is None else age_text(now - debt["since_us"] / 1e6),
                _next_try(screen, debt, zone),
                str(debt["tries"]),
                Cell(short(debt["listed_us"], zone), BAD),
                debt["write_off_proposed_by"] or "",
            ]
            for debt in facts["debts"]
        ],
    )
    screen.line()
    amount = words.yuan_with_currency(facts["amount_fen"])
    screen.line(
        say(
            f"In all: {facts['count']} debts of {amount}, payers: {facts['payers']}, listed: {facts['payers_listed']}",
            f"合计: {facts['count']} 笔 {amount},欠费人 {facts['payers']},列入名单 {facts['payers_listed']}",
        )
    )


def _next_try(screen: Screen, debt: Mapping[str, Any], zone: timezone) -> str:
    if debt["bank_in_doubt"]:
        return screen.say("asking the bank", "正在请求银行")
    return short(debt["next_try_us"], zone) or screen.say("none", "无")


# --- what people do -------------------------------------------------------------------------------------------------


@app.command()
def pay(
    context: typer.Context,
    *,
    which: DebitArgument,
    till: TillOption,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Take the money for a debt at a till."""
    from gateway.acts.acts import PayDebt

    site = site_of(context, config)
    at_till = name_of(till, "--till")
    tell_state(screen_of(context), site, act_on(site, PayDebt(debit=which, till=at_till)), as_json=as_json)


@app.command()
def retry(
    context: typer.Context, *, which: DebitArgument, config: ConfigOption = None, as_json: JsonOption = False
) -> None:
    """Have the bank of a debt asked again now, whatever the schedule says."""
    from gateway.acts.acts import RetryDebt

    site = site_of(context, config)
    facts = act_on(site, RetryDebt(debit=which))
    screen = screen_of(context)
    tell_state(screen, site, facts, as_json=as_json)
    if not as_json:
        screen.note(screen.say("a running gateway asks within seconds", "运行中的网关将在数秒内请求银行"))


@app.command("write-off")
def write_off(
    context: typer.Context,
    *,
    which: DebitArgument,
    reason: ReasonOption,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Give a debt up: proposed by one account, in force when another gives the same command."""
    from gateway.acts.acts import WriteOffDebt

    screen = screen_of(context)
    site = site_of(context, config)
    why = reason_of(reason)
    facts = act_on(site, WriteOffDebt(debit=which, reason=why))
    tell_state(screen, site, facts, as_json=as_json)
    if facts["proposed"] and not as_json:
        screen.note(screen.word(words.PROPOSED))
