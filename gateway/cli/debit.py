"""Everything about one debit: where it stands, and how it came there; as facts for JSON, and as text."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timezone
from typing import TYPE_CHECKING, Any, Final

from gateway.cli import labels, words
from gateway.cli.exits import refusal
from gateway.cli.options import iso, short
from gateway.cli.passage import (
    account_text,
    answer_text,
    attempts_of,
    debit_facts,
    decisions_of,
    heading,
    items_of,
    purchases_of,
    transfers_of,
)
from gateway.cli.screen import Cell, Column, Screen, Words
from gateway.model.passage import Outcome
from gateway.model.states import PurchaseState

if TYPE_CHECKING:
    from sqlalchemy import Connection


def debit_id_of(connection: Connection, which: str) -> str:
    """The id behind what a person typed. Refuses what names no debit."""
    from gateway.debit.views import find_debit

    found = find_debit(connection, which)
    if found is None:
        raise refusal("debit_unknown", f"no debit {which} in the ledger")
    return found


# --- facts ----------------------------------------------------------------------------------------------------------


def facts_of(connection: Connection, debit_id: str, zone: timezone, *, unmask: bool) -> dict[str, Any]:
    """Where a debit stands, for JSON."""
    from sqlalchemy import select

    from gateway.ledger import tables

    d, p, s, o, t = tables.debit, tables.passage, tables.subject, tables.obligor, tables.transfer
    row = connection.execute(
        select(d, t.c.amount.label("held"), o.c.listed_at)
        .join_from(d, t, t.c.id == d.c.hold_id)
        .join(o, o.c.id == d.c.obligor_id)
        .where(d.c.id == debit_id)
    ).one()
    seen = connection.execute(
        select(p, s.c.obu_id, s.c.contract, s.c.card_number, s.c.plate, s.c.plate_colour)
        .join_from(p, s, s.c.id == p.c.subject_id)
        .where(p.c.id == row.passage_id)
    ).one()
    return {
        **debit_facts(row, zone, unmask=unmask),
        "service": row.service,
        "day": row.day,
        "held_fen": row.held,
        "completed_fen": row.final_amount,
        "collected_fen": row.collected,
        "refunded_fen": row.refunded,
        "refundable_fen": row.collected - row.refunded,
        "retry_at": iso(row.retry_at, zone),
        "retries": row.retries,
        "listed_since": iso(row.listed_at, zone),
        "passage_id": row.passage_id,
        "lane": seen.charge_point,
        "opened_at": iso(seen.opened_at, zone),
        "plate": words.plate_shown(seen.plate, unmask=unmask),
        "plate_colour": seen.plate_colour,
        "vehicle_class": seen.vehicle_class,
        "card_number": words.number_shown(seen.card_number, unmask=unmask),
        "contract": words.number_shown(seen.contract, unmask=unmask),
        "obu_id": words.number_shown(seen.obu_id, unmask=unmask),
        "decisions": decisions_of(connection, row.passage_id, zone),
        "attempts": attempts_of(connection, debit_id, zone, unmask=unmask),
        "purchases": purchases_of(connection, row.passage_id, zone, unmask=unmask),
        "refunds": _refunds(connection, debit_id, zone),
        "items": items_of(connection, debit_id, zone),
        "transfers": transfers_of(connection, debit_id, zone),
    }


def _refunds(connection: Connection, debit_id: str, zone: timezone) -> list[dict[str, Any]]:
    from sqlalchemy import select

    from gateway.ledger import tables

    r = tables.refund
    rows = connection.execute(select(r).where(r.c.debit_id == debit_id).order_by(r.c.created_at, r.c.id))
    return [
        {
            "refund_id": row.id,
            "key": row.idempotency_key,
            "amount_fen": row.amount,
            "reason": row.reason,
            "target": row.target,
            "state": row.state,
            "attempt_id": row.attempt_id,
            "created_at": iso(row.created_at, zone),
            "changed_at": iso(row.changed_at, zone),
        }
        for row in rows
    ]


def history_of(connection: Connection, debit_id: str, zone: timezone) -> list[dict[str, Any]]:
    """How a debit came where it stands: purchases, transfers, journal and decisions, in the order of their booking.

    What was booked in one transaction has one time: money first, then what the journal says of it, then the decision.
    """
    from sqlalchemy import select

    from gateway.ledger import tables

    p, j, e = tables.purchase, tables.journal, tables.decision
    found: list[tuple[int, int, int, dict[str, Any]]] = []

    def add(rank: int, at: int, *, number: int, **entry: Any) -> None:  # noqa: ANN401 - columns
        told = {"what": entry.pop("what"), "number": number, **entry, "booked_at": iso(at, zone), "booked_us": at}
        found.append((at, rank, number, told))

    for row in connection.execute(select(p).where(p.c.debit_id == debit_id)):
        what = {"what": "purchase", "number": row.attempt_no, "ref": row.id, "amount_fen": row.written_fen}
        add(0, row.created_at, **what, event=PurchaseState.INTENT.value, event_at=None, detail=None, actor=None)
        if row.state != PurchaseState.INTENT:
            tac = None if row.tac is None else f"TAC {row.tac}"
            add(0, row.changed_at, **what, event=row.state, event_at=None, detail=tac, actor=None)
    for transfer in transfers_of(connection, debit_id, zone):
        add(
            1,
            transfer["booked_us"],
            what="transfer",
            number=transfer["transfer_id"],
            ref=transfer["attempt_id"] or transfer["reference"],
            amount_fen=transfer["amount_fen"],
            event=transfer["event"],
            event_at=transfer["event_at"],
            detail=f"{transfer['phase']}: {account_text(transfer['from'])} -> {account_text(transfer['to'])}",
            actor=None,
        )
    for row in connection.execute(select(j).where(j.c.debit_id == debit_id)):
        add(
            2,
            row.at,
            what=row.kind,
            number=row.number,
            ref=row.ref,
            amount_fen=None,
            event=row.event,
            event_at=None,
            detail=row.detail,
            actor=row.actor,
        )
    for row in connection.execute(select(e).where(e.c.debit_id == debit_id)):
        parts = [f"barrier {row.barrier}", row.reason, row.rules_version and f"rules {row.rules_version}"]
        add(
            3,
            row.decided_at,
            what="decision",
            number=row.record_no,
            ref=row.passage_id,
            amount_fen=row.amount,
            event=row.outcome,
            event_at=None,
            detail=", ".join(part for part in parts if part),
            actor=None,
        )
    return [entry for *_, entry in sorted(found, key=lambda one: one[:3])]


# --- text -----------------------------------------------------------------------------------------------------------


def show(screen: Screen, facts: Mapping[str, Any], zone: timezone) -> None:
    """Where a debit stands, on one page."""
    say = screen.say
    state = words.named(screen, words.DEBIT_STATES, facts["state"])
    stood_in = say(", decided in the bank's place", ",代银行判定") if facts["stood_in"] else ""
    plate = f"{facts['plate'] or ''} {words.colour_text(screen, facts['plate_colour'])}".strip()
    tries = say(f"{facts['retries']} so far", f"已试 {facts['retries']} 次")
    mandate = f"{facts['mandate_id']} ({facts['contract_ref'] or '-'})" if facts["mandate_id"] else ""
    completed = facts["completed_fen"] is not None or facts["held_fen"] != facts["amount_fen"]
    pairs: list[tuple[str, str | Cell]] = [
        (say(*labels.DEBIT), facts["debit_id"]),
        (say("Key", "业务键"), facts["idempotency_key"]),
        (say(*labels.STATE), Cell(f"{state.text}{stood_in}", state.style)),
        (say(*labels.AMOUNT), words.yuan_with_currency(facts["amount_fen"])),
        (say(*labels.HELD), words.yuan_with_currency(facts["held_fen"]) if completed else ""),
        (say("Collected", "已收"), words.yuan_with_currency(facts["collected_fen"])),
        (say("Refunded", "已退"), words.yuan_with_currency(facts["refunded_fen"]) if facts["refunded_fen"] else ""),
        (say(*labels.PAYER), f"{facts['payer']} ({words.named(screen, words.FUNDINGS, facts['funding']).text})"),
        (say(*labels.MANDATE), mandate),
        (say("Collector", "收款方"), f"{facts['merchant']}, {facts['service']}, {facts['day']}".rstrip(", ")),
        (say(*labels.NEXT_TRY), f"{facts['retry_at']} ({tries})" if facts["retry_at"] else ""),
        (say("Listed", "列入欠费名单"), facts["listed_since"] or ""),
        (say(*labels.LANE), f"{facts['lane']}, {facts['opened_at']}"),
        (say(*labels.PLATE), plate),
        (say("Card", "卡号"), facts["card_number"] or ""),
        (say(*labels.PASSAGE), facts["passage_id"]),
    ]
    screen.pairs((label, value) for label, value in pairs if value)
    decisions = [decision for decision in facts["decisions"] if decision["outcome"] != Outcome.REPEAT.value]
    if decisions:
        heading(screen, say("Decisions", "判定"))
        _show_decisions(screen, decisions, zone)
    if facts["attempts"]:
        heading(screen, say("Bank attempts", "银行请求"))
        _show_attempts(screen, facts, zone)
    if facts["purchases"]:
        heading(screen, say("Purchases on the card", "卡片扣款"))
        _show_purchases(screen, facts)
    if facts["refunds"]:
        heading(screen, say("Refunds", "退款"))
        _show_refunds(screen, facts)
    if facts["items"]:
        heading(screen, say("Items", "待处理事项"))
        _show_items(screen, facts)


def _show_decisions(screen: Screen, decisions: list[Mapping[str, Any]], zone: timezone) -> None:
    say = screen.say
    columns = [
        Column(say("Record", "记录号"), right=True),
        Column(say(*labels.TIME)),
        Column(say(*labels.OUTCOME)),
        Column(say(*labels.BARRIER)),
        Column(say(*labels.REASON), wrap_at=16),
        Column(say("Tariff", "费率版本"), rank=2),
        Column(say("Lists", "名单版本"), rank=2),
        Column(say("Rules", "规则版本"), rank=1),
    ]
    screen.table(
        columns,
        [
            [
                str(decision["record_no"]),
                short(decision["decided_us"], zone),
                words.named(screen, words.OUTCOMES, decision["outcome"]),
                words.named(screen, words.BARRIERS, decision["barrier"]),
                words.reason_text(screen, None if decision["reason"] is None else decision["reason"]["code"]),
                *(decision[name] or "" for name in ("tariff_version", "list_version", "rules_version")),
            ]
            for decision in decisions
        ],
    )


def _show_attempts(screen: Screen, facts: Mapping[str, Any], zone: timezone) -> None:
    say = screen.say
    columns = [
        Column(say("Attempt", "请求编号")),
        Column(say("Kind", "种类")),
        Column(say(*labels.STATE)),
        Column(say(*labels.AMOUNT), rank=1, right=True),
        Column(say("Answer", "应答"), wrap_at=14),
        Column(say("To be sent", "待发"), wrap_at=10),
        Column(say("Terminal", "终端"), rank=2),
        Column("STAN", rank=2),
        Column(say("Changed", "更新"), rank=3),
    ]
    rows: list[list[str | Cell]] = []
    for attempt in facts["attempts"]:
        waiting = ", ".join(message["kind"] for message in attempt["outbox"] if message["done_at"] is None)
        suspense = say(", in suspense", ",挂账") if attempt["late_approval"] else ""
        state = words.named(screen, words.ATTEMPT_STATES, attempt["state"])
        rows.append(
            [
                attempt["attempt_id"],
                attempt["kind"],
                Cell(f"{state.text}{suspense}", state.style),
                words.yuan(attempt["amount_fen"]),
                answer_text(screen, attempt["response"]),
                waiting,
                attempt["terminal"],
                attempt["stan"],
                short(attempt["changed_us"], zone),
            ]
        )
    screen.table(columns, rows)


def _show_purchases(screen: Screen, facts: Mapping[str, Any]) -> None:
    say = screen.say
    columns = [
        Column(say("No", "次"), right=True),
        Column(say(*labels.STATE)),
        Column(say(*labels.AMOUNT), right=True),
        Column(say("Card time", "卡内时间")),
        Column(say("Before", "扣前"), rank=1, right=True),
        Column(say("After", "扣后"), rank=1, right=True),
        Column("TAC"),
    ]
    screen.table(
        columns,
        [
            [
                str(purchase["attempt_no"]),
                words.named(screen, words.PURCHASE_STATES, purchase["state"]),
                words.yuan(purchase["written_fen"]),
                purchase["purchase_time"],
                words.yuan(purchase["balance_before_fen"]),
                words.yuan(purchase["balance_after_fen"]),
                purchase["tac"] or say("none", "无"),
            ]
            for purchase in facts["purchases"]
        ],
    )


def _show_refunds(screen: Screen, facts: Mapping[str, Any]) -> None:
    say = screen.say
    columns = [
        Column(say("Refund", "退款编号")),
        Column(say(*labels.AMOUNT), right=True),
        Column(say("To", "退至")),
        Column(say(*labels.STATE)),
        Column(say(*labels.REASON), wrap_at=12),
        Column(say("Key", "业务键"), rank=1),
    ]
    screen.table(
        columns,
        [
            [
                refund["refund_id"],
                words.yuan(refund["amount_fen"]),
                screen.word(words.REFUND_TARGETS[refund["target"]]),
                words.named(screen, words.REFUND_STATES, refund["state"]),
                refund["reason"],
                refund["key"],
            ]
            for refund in facts["refunds"]
        ],
    )


def _show_items(screen: Screen, facts: Mapping[str, Any]) -> None:
    say = screen.say
    columns = [
        Column(say("Item", "编号"), right=True),
        Column(say("Kind", "种类")),
        Column(say(*labels.STATE)),
        Column(say("By", "经办"), rank=1),
        Column(say("Note", "说明"), wrap_at=20),
    ]
    screen.table(
        columns,
        [
            [
                str(item["item"]),
                item["kind"],
                words.named(screen, words.ITEM_STATES, item["state"]),
                " / ".join(name for name in (item["actor"], item["second_actor"]) if name),
                item["note"] or "",
            ]
            for item in facts["items"]
        ],
    )


def show_history(screen: Screen, history: list[dict[str, Any]], zone: timezone) -> None:
    """How a debit came where it stands, one line an event."""
    say = screen.say
    columns = [
        Column(say("Booked", "入账时间")),
        Column(say("Happened", "发生时间"), rank=2),
        Column(say("What", "对象")),
        Column(say("No", "号"), rank=1, right=True),
        Column(say("Event", "事件")),
        Column(say(*labels.AMOUNT), right=True),
        Column(say("Detail", "明细"), wrap_at=20),
        Column(say("By", "经办")),
    ]
    tables = {
        "debit": words.DEBIT_STATES,
        "attempt": words.ATTEMPT_STATES,
        "purchase": words.PURCHASE_STATES,
        "refund": words.REFUND_STATES,
        "item": words.ITEM_STATES,
        "decision": words.OUTCOMES,
    }
    rows: list[list[str | Cell]] = []
    for entry in history:
        whose = WHAT.get(entry["what"])
        known = tables.get(entry["what"], {})
        event = words.named(screen, known, entry["event"]) if entry["event"] in known else Cell(entry["event"])
        rows.append(
            [
                short(entry["booked_us"], zone),
                "" if entry["event_at"] is None else entry["event_at"][5:19].replace("T", " "),
                entry["what"] if whose is None else screen.word(whose),
                str(entry["number"]),
                event,
                words.yuan(entry["amount_fen"]),
                entry["detail"] or "",
                entry["actor"] or "",
            ]
        )
    screen.table(columns, rows)


WHAT: Final[Mapping[str, Words]] = {
    "purchase": Words("purchase", "卡片扣款"),
    "transfer": Words("transfer", "转账"),
    "debit": Words("debit", "应收"),
    "attempt": Words("attempt", "银行请求"),
    "refund": Words("refund", "退款"),
    "item": Words("item", "差错"),
    "person": Words("person", "人工"),
    "decision": Words("decision", "判定"),
}
"""Whose event it is."""
