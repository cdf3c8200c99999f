"""`etcgw debits`: claims, how far each is collected, and what the banks must still hear."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timezone
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from gateway.cli import words
from gateway.cli.options import (
    ConfigOption,
    JsonOption,
    LastOption,
    age_text,
    iso,
    now_utc,
    screen_of,
    short,
    site_of,
    zone_of,
)
from gateway.cli.passage import response_facts
from gateway.cli.passages import REPEAT
from gateway.cli.screen import Cell, Column, Screen
from gateway.cli.store import ledger_of

if TYPE_CHECKING:
    from sqlalchemy import ColumnElement, Connection, Row

OPEN_STATES: Final = ("held", "released", "owed")
"""A claim in one of these is not settled one way or the other yet."""


class DebitState(StrEnum):
    """States to choose from; the values are those of the ledger."""

    HELD = "held"
    RELEASED = "released"
    OWED = "owed"
    FUNDED = "funded"
    DEBT = "debt"
    RECOVERED = "recovered"
    WRITTEN_OFF = "written_off"
    VOIDED = "voided"


def debits(
    context: typer.Context,
    *,
    config: ConfigOption = None,
    state: Annotated[DebitState | None, typer.Option("--state", help="Only in this state.")] = None,
    only_open: Annotated[bool, typer.Option("--open", help="Only what is not settled: held, released, owed.")] = False,
    last: LastOption = 20,
    as_json: JsonOption = False,
) -> None:
    """List debits with their attempts at the bank, and sum them up by state."""
    if state is not None and only_open:
        raise typer.BadParameter("--open already chooses the states; leave --state out", param_hint="'--state'")
    screen = screen_of(context)
    site = site_of(context, config)
    zone = zone_of(site)
    states = OPEN_STATES if only_open else () if state is None else (state.value,)
    with ledger_of(site) as connection:
        facts = {
            "debits": _debits(connection, states, last, zone),
            "sums": _sums(connection, states),
            "outbox": _outbox(connection, zone),
        }
    if as_json:
        screen.json(facts)
    else:
        _show(screen, facts, zone)


def _chosen(states: Sequence[str]) -> list[ColumnElement[bool]]:
    from gateway.ledger import tables

    return [tables.debit.c.state.in_(states)] if states else []


def _debits(connection: Connection, states: Sequence[str], last: int, zone: timezone) -> list[dict[str, Any]]:
    from sqlalchemy import func, select

    from gateway.ledger import tables

    d, p, e = tables.debit, tables.passage, tables.decision
    # The decision that stands, as `passages` shows it: repeats change nothing.
    record_no = select(func.max(e.c.record_no)).where(e.c.debit_id == d.c.id, e.c.outcome != REPEAT).scalar_subquery()
    rows = connection.execute(
        select(d, p.c.charge_point, record_no.label("record_no"))
        .join_from(d, p, p.c.id == d.c.passage_id)
        .where(*_chosen(states))
        .order_by(d.c.created_at.desc(), d.c.id.desc())
        .limit(last)
    ).all()
    attempts = _attempts_of(connection, [row.id for row in rows])
    return [
        {
            "debit_id": row.id,
            "passage_id": row.passage_id,
            "record_no": row.record_no,
            "lane": row.charge_point,
            "state": row.state,
            "amount_fen": row.amount,
            "funding": row.funding,
            "payer": row.payer,
            "mandate_id": row.mandate_id,
            "stood_in": bool(row.stood_in),
            "created_at": iso(row.created_at, zone),
            "created_us": row.created_at,
            "attempts": attempts.get(row.id, []),
        }
        for row in rows
    ]


IDS_PER_QUERY: Final = 500
"""Bound values of one statement: SQLite takes some ten thousand, other engines fewer."""


def _attempts_of(connection: Connection, debit_ids: Sequence[str]) -> dict[str, list[dict[str, Any]]]:
    from sqlalchemy import select

    from gateway.ledger import tables

    a, o = tables.attempt, tables.outbox
    found: dict[str, list[dict[str, Any]]] = {}
    for at in range(0, len(debit_ids), IDS_PER_QUERY):
        page = debit_ids[at : at + IDS_PER_QUERY]
        rows = connection.execute(select(a).where(a.c.debit_id.in_(page)).order_by(a.c.created_at, a.c.id)).all()
        unsent = connection.execute(
            select(o.c.attempt_id, o.c.kind).where(
                o.c.done_at.is_(None), o.c.attempt_id.in_(select(a.c.id).where(a.c.debit_id.in_(page)))
            )
        ).all()
        for row in rows:
            waiting = [message.kind for message in unsent if message.attempt_id == row.id]
            found.setdefault(row.debit_id, []).append(_attempt_facts(row, waiting))
    return found


def _attempt_facts(row: Row[Any], waiting: list[str]) -> dict[str, Any]:
    return {
        "kind": row.kind,
        "state": row.state,
        "channel": row.channel,
        "terminal": row.terminal,
        "stan": row.stan,
        "response": response_facts(row.response_code),
        "sends": row.sends,
        "outbox_waiting": waiting,
    }


def _sums(connection: Connection, states: Sequence[str]) -> dict[str, dict[str, int]]:
    """Count and amount of every state among the chosen ones, over the whole ledger."""
    from sqlalchemy import func, select

    from gateway.ledger import tables

    d = tables.debit
    rows = connection.execute(
        select(d.c.state, func.count(), func.sum(d.c.amount)).where(*_chosen(states)).group_by(d.c.state)
    ).all()
    found = {state: {"count": count, "amount_fen": amount} for state, count, amount in rows}
    return {state: found[state] for state in words.DEBIT_STATES if state in found}


def _outbox(connection: Connection, zone: timezone) -> dict[str, Any]:
    from sqlalchemy import func, select

    from gateway.ledger import tables

    o = tables.outbox
    count, oldest = connection.execute(
        select(func.count(), func.min(o.c.created_at)).where(o.c.done_at.is_(None))
    ).one()
    return {"waiting": count, "oldest_at": iso(oldest, zone), "oldest_us": oldest}


def _show(screen: Screen, facts: Mapping[str, Any], zone: timezone) -> None:
    say = screen.say
    columns = [
        Column(say("Time", "时间")),
        Column(say("Record", "记录号"), right=True),
        Column(say("Lane", "车道"), rank=3),
        Column(say("State", "状态")),
        Column(say("Amount", "金额"), right=True),
        Column(say("Funding", "资金"), rank=1),
        Column(say("Payer", "付款方")),
        Column(say("Mandate", "签约"), rank=4),
        Column(say("Attempts", "银行请求"), wrap_at=24),
    ]
    if facts["debits"]:
        screen.table(columns, [_row(screen, debit, zone) for debit in facts["debits"]])
        screen.line()
    if not facts["sums"]:
        screen.note(say("no such debit yet", "暂无符合条件的应收"))
    else:
        totals: list[list[str | Cell]] = [
            [words.named(screen, words.DEBIT_STATES, state), str(total["count"]), words.yuan(total["amount_fen"])]
            for state, total in facts["sums"].items()
        ]
        heads = [
            Column(say("In all", "合计")),
            Column(say("Count", "笔数"), right=True),
            Column(say("Amount", "金额"), right=True),
        ]
        screen.table(heads, totals)
    outbox = facts["outbox"]
    if outbox["waiting"]:
        age = age_text(now_utc().timestamp() - outbox["oldest_us"] / 1e6)
        screen.line()
        screen.line(
            say(
                f"Outbox: {outbox['waiting']} waiting for a bank, the oldest for {age}",
                f"待发: {outbox['waiting']} 条消息待发往银行,最早 {age} 前",
            )
        )


def _row(screen: Screen, debit: Mapping[str, Any], zone: timezone) -> list[str | Cell]:
    return [
        short(debit["created_us"], zone),
        "" if debit["record_no"] is None else str(debit["record_no"]),
        debit["lane"],
        words.named(screen, words.DEBIT_STATES, debit["state"]),
        words.yuan(debit["amount_fen"]),
        words.named(screen, words.FUNDINGS, debit["funding"]),
        debit["payer"],
        debit["mandate_id"] or "",
        "\n".join(_attempt_text(screen, attempt) for attempt in debit["attempts"]),
    ]


def _attempt_text(screen: Screen, attempt: Mapping[str, Any]) -> str:
    """`sale 000012 unknown, reversal waiting` in words."""
    state = words.named(screen, words.ATTEMPT_STATES, attempt["state"]).text
    code = f" {attempt['response']['code']}" if attempt["response"] else ""
    kinds = ", ".join(attempt["outbox_waiting"])
    waiting = screen.say(f", {kinds} waiting", f",{kinds} 待发") if kinds else ""
    return f"{attempt['kind']} {attempt['stan']} {state}{code}{waiting}"
