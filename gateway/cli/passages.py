"""`etcgw passages`: what was decided about the vehicles that came, and all the ledger knows about one of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timezone
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gateway.cli import labels, words
from gateway.cli.exits import CliFault, ExitCode
from gateway.cli.options import (
    HELP_NAMES,
    ConfigOption,
    JsonOption,
    LastOption,
    UnmaskOption,
    moment,
    screen_of,
    short,
    site_of,
    zone_of,
)
from gateway.cli.passage import decision_facts, passage_facts, said_about, show_passage
from gateway.cli.screen import DOUBTFUL, Cell, Column, Screen, Words
from gateway.cli.store import ledger_of
from gateway.model.passage import Outcome

if TYPE_CHECKING:
    from sqlalchemy import ColumnElement, Row, Select

app = typer.Typer(
    name="passages",
    invoke_without_command=True,
    context_settings=HELP_NAMES,
)


@dataclass(frozen=True, slots=True)
class _Wanted:
    """Which passages to show."""

    last: int
    lane: str | None
    since_us: int | None
    outcome: Outcome | None


@app.callback()
def passages(
    context: typer.Context,
    *,
    config: ConfigOption = None,
    last: LastOption = 20,
    lane: Annotated[str | None, typer.Option("--lane", help="Only this lane.")] = None,
    since: Annotated[
        str | None,
        typer.Option("--since", metavar="TIME", help="Only from then on: ISO 8601 site time, or 30m, 2h, 1d."),
    ] = None,
    outcome: Annotated[Outcome | None, typer.Option("--outcome", help="Only these.")] = None,
    as_json: JsonOption = False,
    unmask: UnmaskOption = False,
) -> None:
    """List the newest passages, one line each with the decision that stands; `show` tells all about one.

    A vehicle that is seen again after it paid does not hide the decision that charged it: repeats are only counted.
    """
    if context.invoked_subcommand is not None:
        return
    from gateway.model.clock import to_us

    screen = screen_of(context)
    site = site_of(context, config)
    zone = zone_of(site)
    since_us = None if since is None else to_us(moment(since, zone, "--since"))
    with ledger_of(site) as connection:
        rows = connection.execute(_list_query(_Wanted(last, lane, since_us, outcome))).all()
    facts = [_list_facts(row, zone, unmask=unmask) for row in rows]
    if as_json:
        screen.json({"passages": facts})
    elif facts:
        _show_list(screen, facts, zone)
    else:
        screen.note(screen.say("no such passage yet", "暂无符合条件的通行记录"))


# --- list -----------------------------------------------------------------------------------------------------------


def _list_query(wanted: _Wanted) -> Select[Any]:
    from sqlalchemy import func, select

    from gateway.ledger import tables

    d, p, s, t = tables.decision, tables.passage, tables.subject, tables.timing
    other = d.alias("other")
    same = other.c.passage_id == d.c.passage_id
    # The decision that stands is the newest that is no repeat: repeats charge nothing and change nothing.
    stands = d.c.record_no == (
        select(func.max(other.c.record_no)).where(same, other.c.outcome != Outcome.REPEAT.value).scalar_subquery()
    )
    count = select(func.count()).where(same).scalar_subquery()
    repeats = select(func.count()).where(same, other.c.outcome == Outcome.REPEAT.value).scalar_subquery()
    conditions: list[ColumnElement[bool]] = [stands]
    if wanted.lane is not None:
        conditions.append(d.c.charge_point == wanted.lane)
    if wanted.since_us is not None:
        conditions.append(d.c.decided_at >= wanted.since_us)
    if wanted.outcome is Outcome.REPEAT:
        conditions.append(repeats > 0)
    elif wanted.outcome is not None:
        conditions.append(d.c.outcome == wanted.outcome.value)
    return (
        select(
            d,
            p.c.vehicle_class,
            p.c.opened_at,
            s.c.plate,
            s.c.plate_colour,
            t.c.total_us,
            t.c.radio_us,
            t.c.bank_us,
            t.c.commit_us,
            t.c.barrier_us,
            tables.debit.c.state.label("debit_state"),
            *said_about(d),
            count.label("decisions"),
            repeats.label("repeats"),
        )
        .join_from(d, p, p.c.id == d.c.passage_id)
        .join(s, s.c.id == p.c.subject_id)
        .outerjoin(t, t.c.record_no == d.c.record_no)
        .outerjoin(tables.debit, tables.debit.c.id == d.c.debit_id)
        .where(*conditions)
        .order_by(d.c.record_no.desc())
        .limit(wanted.last)
    )


def _list_facts(row: Row[Any], zone: timezone, *, unmask: bool) -> dict[str, Any]:
    return {
        **decision_facts(row, zone),
        "passage_id": row.passage_id,
        "plate": words.plate_shown(row.plate, unmask=unmask),
        "plate_colour": row.plate_colour,
        "vehicle_class": row.vehicle_class,
        "debit_state": row.debit_state,
        "decisions": row.decisions,
        "repeats": row.repeats,
    }


def _show_list(screen: Screen, facts: Sequence[Mapping[str, Any]], zone: timezone) -> None:
    say = screen.say
    columns = [
        Column(say("No", "记录号"), right=True),
        Column(say(*labels.TIME)),
        Column(say(*labels.LANE)),
        Column(say(*labels.PLATE)),
        Column(say("Colour", "颜色"), rank=8),
        Column(say("Class", "车型"), rank=3, right=True),
        Column(say("Fare", "金额"), right=True),
        Column(say(*labels.OUTCOME)),
        Column(say("Now", "现状"), rank=1),
        Column(say(*labels.BARRIER), rank=1),
        Column(say(*labels.REASON), wrap_at=16),
        Column(say("Event", "特情"), rank=5, right=True),
        Column(say(*labels.FUNDING), rank=2),
        Column(say("Note", "备注"), rank=7),
        Column(say("ms", "毫秒"), rank=2, right=True),
        Column(say("ours/radio/bank", "本机/微波/银行"), rank=4, right=True),
        Column(say("Tariff", "费率版本"), rank=9),
        Column(say("Lists", "名单版本"), rank=9),
    ]
    screen.table(columns, [_list_row(screen, fact, zone) for fact in facts])


def _list_row(screen: Screen, fact: Mapping[str, Any], zone: timezone) -> list[str | Cell]:
    reason, event = fact["reason"], fact["special_event"]
    timing: Mapping[str, float] = fact["timing_ms"] or {}
    shares = "/".join(f"{timing[name]:.0f}" for name in ("ours", "radio", "bank") if name in timing)
    return [
        str(fact["record_no"]),
        short(fact["decided_us"], zone),
        fact["lane"],
        fact["plate"] or "",
        words.colour_text(screen, fact["plate_colour"]),
        "" if fact["vehicle_class"] is None else str(fact["vehicle_class"]),
        words.yuan(fact["fare_fen"]),
        words.named(screen, words.OUTCOMES, fact["outcome"]),
        "" if fact["debit_state"] is None else words.named(screen, words.DEBIT_STATES, fact["debit_state"]),
        words.barrier_text(screen, fact),
        words.reason_text(screen, None if reason is None else reason["code"]),
        "" if event is None else str(event["number"]),
        words.named(screen, words.FUNDINGS, fact["funding"]),
        Cell(_remark(screen, fact), DOUBTFUL),
        f"{timing['total']:.0f}" if "total" in timing else "",
        shares,
        fact["tariff_version"] or "",
        fact["list_version"] or "",
    ]


def _remark(screen: Screen, fact: Mapping[str, Any]) -> str:
    """What makes a passage longer than one decision."""
    parts = []
    if fact["recovered"]:
        parts.append(words.occasion_text(screen, fact))
    earlier = fact["decisions"] - fact["repeats"] - 1
    if earlier:
        parts.append(screen.say(f"{earlier + 1} decisions", f"{earlier + 1} 次判定"))
    if fact["repeats"]:
        parts.append(screen.say(f"seen {fact['repeats']}x again", f"重复 {fact['repeats']} 次"))
    return ", ".join(parts)


# --- one passage ----------------------------------------------------------------------------------------------------


@app.command()
def show(
    context: typer.Context,
    *,
    which: Annotated[str, typer.Argument(metavar="RECORD_NO|PASSAGE_ID", help="A record number, or a passage id.")],
    config: ConfigOption = None,
    as_json: JsonOption = False,
    unmask: UnmaskOption = False,
) -> None:
    """Show everything about one passage: decisions, debit, transfers, bank attempts, purchases, open items."""
    screen = screen_of(context)
    site = site_of(context, config)
    zone = zone_of(site)
    with ledger_of(site) as connection:
        facts = passage_facts(connection, which, zone, unmask=unmask)
    if facts is None:
        raise CliFault(
            ExitCode.REFUSED,
            f"no passage {which} in the ledger",
            Words("a passage is named by its record number or its 32-digit id", "请给出记录号或 32 位通行编号"),
            Words("etcgw passages --config SITE lists them", "用 etcgw passages --config SITE 列出"),
        )
    if as_json:
        screen.json(facts)
    else:
        show_passage(screen, facts, zone)
