"""`etcgw debits`: claims, how far each is collected, and what people do about one of them.

What a person decides is written here; what a bank must hear of it is queued by the gateway.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timezone
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from gateway.cli import debit, labels, words
from gateway.cli.acting import act_on
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
    id_of,
    iso,
    name_of,
    now_utc,
    reason_of,
    screen_of,
    short,
    site_of,
    zone_of,
)
from gateway.cli.passage import response_facts
from gateway.cli.screen import Cell, Column, Screen, lines_cell
from gateway.cli.store import ledger_of
from gateway.model.passage import Outcome
from gateway.model.states import OPEN_DEBITS, DebitState, RefundState

if TYPE_CHECKING:
    from sqlalchemy import ColumnElement, Connection, Row

    from gateway.config import SiteFile

app = typer.Typer(
    name="debits",
    invoke_without_command=True,
    context_settings=HELP_NAMES,
)

AmountOption = Annotated[
    int, typer.Option("--amount", metavar="FEN", min=1, help="Amount in whole fen.", show_default=False)
]


@app.callback()
def debits(
    context: typer.Context,
    *,
    config: ConfigOption = None,
    state: Annotated[DebitState | None, typer.Option("--state", help="Only in this state.")] = None,
    only_open: Annotated[bool, typer.Option("--open", help="Only what is not settled: held, released, owed.")] = False,
    last: LastOption = 20,
    as_json: JsonOption = False,
) -> None:
    """List debits with their attempts at the bank, and sum them up by state; `show` tells all about one."""
    if context.invoked_subcommand is not None:
        return
    if state is not None and only_open:
        raise typer.BadParameter("--open already chooses the states; leave --state out", param_hint="'--state'")
    screen = screen_of(context)
    site = site_of(context, config)
    zone = zone_of(site)
    states = OPEN_DEBITS if only_open else () if state is None else (state.value,)
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
    record_no = (
        select(func.max(e.c.record_no))
        .where(e.c.debit_id == d.c.id, e.c.outcome != Outcome.REPEAT.value)
        .scalar_subquery()
    )
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
        Column(say(*labels.TIME)),
        Column(say("Record", "记录号"), right=True),
        Column(say(*labels.LANE), rank=3),
        Column(say(*labels.STATE)),
        Column(say(*labels.AMOUNT), right=True),
        Column(say(*labels.FUNDING), rank=1),
        Column(say(*labels.PAYER)),
        Column(say(*labels.MANDATE), rank=4),
        Column(say("Attempts", "银行请求"), wrap_at=24),
    ]
    if facts["debits"]:
        screen.table(columns, [_row(screen, fact, zone) for fact in facts["debits"]])
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
            Column(say(*labels.AMOUNT), right=True),
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


def _row(screen: Screen, fact: Mapping[str, Any], zone: timezone) -> list[str | Cell]:
    return [
        short(fact["created_us"], zone),
        "" if fact["record_no"] is None else str(fact["record_no"]),
        fact["lane"],
        words.named(screen, words.DEBIT_STATES, fact["state"]),
        words.yuan(fact["amount_fen"]),
        words.named(screen, words.FUNDINGS, fact["funding"]),
        fact["payer"],
        fact["mandate_id"] or "",
        lines_cell(_attempt_text(screen, attempt) for attempt in fact["attempts"]),
    ]


def _attempt_text(screen: Screen, attempt: Mapping[str, Any]) -> str:
    """`sale 000012 unknown, reversal waiting` in words."""
    state = words.named(screen, words.ATTEMPT_STATES, attempt["state"]).text
    code = f" {attempt['response']['code']}" if attempt["response"] else ""
    kinds = ", ".join(attempt["outbox_waiting"])
    waiting = screen.say(f", {kinds} waiting", f",{kinds} 待发") if kinds else ""
    return f"{attempt['kind']} {attempt['stan']} {state}{code}{waiting}"


# --- one debit ------------------------------------------------------------------------------------------------------


@app.command()
def show(
    context: typer.Context,
    *,
    which: DebitArgument,
    config: ConfigOption = None,
    as_json: JsonOption = False,
    unmask: UnmaskOption = False,
) -> None:
    """Show where one debit stands: money, decisions, attempts, purchases, refunds, items."""
    screen = screen_of(context)
    site = site_of(context, config)
    zone = zone_of(site)
    with ledger_of(site) as connection:
        facts = debit.facts_of(connection, debit.debit_id_of(connection, which), zone, unmask=unmask)
    if as_json:
        screen.json(facts)
    else:
        debit.show(screen, facts, zone)


@app.command()
def history(
    context: typer.Context,
    *,
    which: DebitArgument,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show how one debit came where it stands: every event in the order of booking, and who did it."""
    screen = screen_of(context)
    site = site_of(context, config)
    zone = zone_of(site)
    with ledger_of(site) as connection:
        debit_id = debit.debit_id_of(connection, which)
        entries = debit.history_of(connection, debit_id, zone)
    if as_json:
        screen.json({"debit_id": debit_id, "history": entries})
    else:
        debit.show_history(screen, entries, zone)


# --- money back, and claims put right -------------------------------------------------------------------------------


class RefundTarget(StrEnum):
    """Where a refund may go besides where the money came from."""

    TILL = "till"


KEY_CHARS_MAX: Final = 64
"""Width of a business key in the ledger."""


@app.command()
def refund(
    context: typer.Context,
    *,
    which: DebitArgument,
    amount: AmountOption,
    reason: ReasonOption,
    key: Annotated[
        str | None,
        typer.Option("--key", help="Business key: the same key is the same refund.", show_default="of what is given"),
    ] = None,
    target: Annotated[
        RefundTarget | None, typer.Option("--target", help="Pay it at a till, not where the money came from.")
    ] = None,
    till: Annotated[
        str | None, typer.Option("--till", metavar="NAME", help="The till that pays it out at once.")
    ] = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Give back some of what was collected, where it came from or at a till; the same key twice pays once.

    Above the limit of the rules it is proposed by one account, and paid when another gives the same command.
    """
    from gateway.acts.acts import KEY_CHARS_MAX, PROPOSED, Refund

    screen = screen_of(context)
    site = site_of(context, config)
    if key is not None and not 0 < len(key) <= KEY_CHARS_MAX:
        raise typer.BadParameter(f"a key has 1 to {KEY_CHARS_MAX} characters", param_hint="'--key'")
    facts = act_on(
        site,
        Refund(
            debit=which,
            amount_fen=amount,
            reason=reason_of(reason),
            key=key,
            at_till=target is not None,
            till=None if till is None else name_of(till, "--till"),
        ),
    )
    refunded = {"debit_id": facts["debit_id"], **facts["refund"]}
    if as_json:
        screen.json(refunded)
    elif refunded["state"] == PROPOSED:
        screen.note(screen.word(words.PROPOSED))
    else:
        _show_refund(screen, refunded)


def _show_refund(screen: Screen, facts: Mapping[str, Any]) -> None:
    say = screen.say
    screen.pairs(
        [
            (say("Refund", "退款编号"), facts["refund_id"]),
            (say(*labels.DEBIT), facts["debit_id"]),
            (say(*labels.AMOUNT), words.yuan_with_currency(facts["amount_fen"])),
            (say("To", "退至"), screen.word(words.REFUND_TARGETS[facts["target"]])),
            (say(*labels.STATE), words.named(screen, words.REFUND_STATES, facts["state"])),
            (say("Key", "业务键"), facts["key"]),
        ]
    )
    if facts["replayed"]:
        screen.note(
            say(
                "decided before, nothing was done again; another refund needs a --key of its own",
                "该退款此前已决定,未重复办理;如另有退款请用 --key 另给业务键",
            )
        )
    elif facts["state"] != RefundState.PAID:
        screen.note(
            {
                "bank": say("the gateway tells the bank", "由网关通知银行"),
                "issuer": say("the issuer has it with the next clearing", "随下次清算退给发行方"),
                "till": say("etcgw debits pay-refund pays it out", "用 etcgw debits pay-refund 付出"),
            }[facts["target"]]
        )


@app.command("pay-refund")
def pay_refund(
    context: typer.Context,
    *,
    refund_id: Annotated[str, typer.Argument(metavar="REFUND", help="The refund's id.", show_default=False)],
    till: TillOption,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Pay out a decided refund at a till, also one that its bank refused."""
    from gateway.acts.acts import PayRefund

    screen = screen_of(context)
    site = site_of(context, config)
    act = PayRefund(refund_id=id_of(refund_id, "REFUND"), till=name_of(till, "--till"))
    facts = act_on(site, act)
    if as_json:
        screen.json(facts)
    else:
        screen.pairs(
            [
                (screen.say("Refund", "退款编号"), facts["refund_id"]),
                (screen.say(*labels.STATE), words.named(screen, words.REFUND_STATES, RefundState.PAID)),
                (screen.say("Till", "收银台"), facts["till"]),
            ]
        )


@app.command()
def adjust(
    context: typer.Context,
    *,
    which: DebitArgument,
    amount: AmountOption,
    reason: ReasonOption,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Put right what an unpaid debit asks for: --amount is what it asks for from then on."""
    from gateway.acts.acts import Adjust

    screen = screen_of(context)
    site = site_of(context, config)
    why = reason_of(reason)
    facts = act_on(site, Adjust(debit=which, amount_fen=amount, reason=why))
    tell_state(screen, site, facts, as_json=as_json)


# --- what is stuck --------------------------------------------------------------------------------------------------


@app.command()
def resolve(
    context: typer.Context,
    *,
    which: DebitArgument,
    taken: Annotated[
        bool | None,
        typer.Option("--taken/--not-taken", help="Whether the card of a held debit paid.", show_default=False),
    ] = None,
    attempt: Annotated[
        str | None, typer.Option("--attempt", metavar="ATTEMPT", help="The attempt in doubt that is meant.")
    ] = None,
    posted: Annotated[
        bool | None,
        typer.Option("--posted/--not-posted", help="Whether the bank booked the attempt.", show_default=False),
    ] = None,
    source: Annotated[
        str | None, typer.Option("--source", metavar="TEXT", help="Where the word on the attempt comes from.")
    ] = None,
    reason: ReasonOption,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Give a person's word on what is stuck: whether the card paid, or whether the bank booked an attempt.

    --taken or --not-taken ends a purchase that is unknown or disputed, and the debit is decided. --attempt with
    --posted or --not-posted and --source ends an attempt in doubt.
    """
    from gateway.acts.acts import ResolveAttempt, ResolvePurchase

    screen = screen_of(context)
    site = site_of(context, config)
    why = reason_of(reason)
    bank = (attempt, posted, source)
    if (taken is None) == all(part is None for part in bank) or (taken is None and None in bank):
        raise typer.BadParameter(
            "say what of one thing: --taken or --not-taken, or --attempt with --posted or --not-posted and --source",
            param_hint="'--taken'",
        )
    act: ResolvePurchase | ResolveAttempt
    if attempt is not None and posted is not None and source is not None:
        attempt_id = id_of(attempt, "'--attempt'")
        act = ResolveAttempt(debit=which, attempt_id=attempt_id, posted=posted, source=reason_of(source), reason=why)
    else:
        act = ResolvePurchase(debit=which, taken=bool(taken), reason=why)
    tell_state(screen, site, act_on(site, act), as_json=as_json)


def tell_state(screen: Screen, site: SiteFile, done: Mapping[str, Any], *, as_json: bool) -> None:
    """Where a debit stands after what was done."""
    retry_at, record_no, effect = iso(done["retry_us"], zone_of(site)), done.get("record_no"), done.get("effect")
    if as_json:
        names = ("debit_id", "state", "amount_fen", "collected_fen")
        screen.json({**{n: done[n] for n in names}, "retry_at": retry_at, "record_no": record_no, "effect": effect})
        return
    say = screen.say
    pairs: list[tuple[str, str | Cell]] = [
        (say(*labels.DEBIT), done["debit_id"]),
        (say(*labels.STATE), words.named(screen, words.DEBIT_STATES, done["state"])),
        (say(*labels.AMOUNT), words.yuan_with_currency(done["amount_fen"])),
        (say("Collected", "已收"), words.yuan_with_currency(done["collected_fen"])),
        (say(*labels.NEXT_TRY), retry_at or ""),
        (say("Record", "记录号"), "" if record_no is None else str(record_no)),
        (say("Effect", "结果"), "" if effect is None else screen.word(words.LATE_EFFECTS[effect])),
    ]
    screen.pairs((label, value) for label, value in pairs if value)
