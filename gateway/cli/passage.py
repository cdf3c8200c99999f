"""Everything the ledger knows about one passage: as facts for JSON, and as text.

The order is that of events: decisions, the debit with its transfers, attempts at the bank, purchases on the card, items
that somebody must explain.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timezone
from typing import TYPE_CHECKING, Any, Final

from gateway.cli import labels, words
from gateway.cli.options import iso, short
from gateway.cli.screen import QUIET, Cell, Column, Screen
from gateway.model.passage import Occasion

if TYPE_CHECKING:
    from sqlalchemy import Column as StoredColumn
    from sqlalchemy import Connection, Label, Row, Table

RECORD_NO_DIGITS_MAX: Final = 18
"""A number of so many digits fits SQLite's integer; longer texts are passage ids."""

OBLIGOR_ID_LENGTH: Final = 32

# --- facts ----------------------------------------------------------------------------------------------------------


def passage_facts(connection: Connection, which: str, zone: timezone, *, unmask: bool) -> dict[str, Any] | None:
    from sqlalchemy import select

    from gateway.ledger import tables

    passage_id: str | None = which.lower()
    if which.isascii() and which.isdigit() and len(which) <= RECORD_NO_DIGITS_MAX:
        d = tables.decision
        passage_id = connection.execute(select(d.c.passage_id).where(d.c.record_no == int(which))).scalar_one_or_none()
    p, s = tables.passage, tables.subject
    found = connection.execute(
        select(p, s.c.obu_id, s.c.contract, s.c.card_number, s.c.plate, s.c.plate_colour, s.c.erased_at)
        .join_from(p, s, s.c.id == p.c.subject_id)
        .where(p.c.id == passage_id)
    ).one_or_none()
    if found is None:
        return None
    debit = connection.execute(select(tables.debit).where(tables.debit.c.passage_id == found.id)).one_or_none()
    return {
        "passage_id": found.id,
        "lane": found.charge_point,
        "service": found.service,
        "opened_at": iso(found.opened_at, zone),
        "opened_us": found.opened_at,
        "clock_quality": found.clock_quality,
        "device_type": found.device_type,
        "vehicle_class": found.vehicle_class,
        "obu_id": words.number_shown(found.obu_id, unmask=unmask),
        "contract": words.number_shown(found.contract, unmask=unmask),
        "card_number": words.number_shown(found.card_number, unmask=unmask),
        "plate": words.plate_shown(found.plate, unmask=unmask),
        "plate_colour": found.plate_colour,
        "erased_at": iso(found.erased_at, zone),
        "decisions": decisions_of(connection, found.id, zone),
        "debit": None if debit is None else debit_facts(debit, zone, unmask=unmask),
        "transfers": [] if debit is None else transfers_of(connection, debit.id, zone),
        "attempts": [] if debit is None else attempts_of(connection, debit.id, zone, unmask=unmask),
        "purchases": purchases_of(connection, found.id, zone, unmask=unmask),
        "items": [] if debit is None else items_of(connection, debit.id, zone),
    }


def decisions_of(connection: Connection, passage_id: str, zone: timezone) -> list[dict[str, Any]]:
    """Decisions about a passage, oldest first, with their timing."""
    from sqlalchemy import select

    from gateway.ledger import tables

    d, t = tables.decision, tables.timing
    rows = connection.execute(
        select(d, t.c.total_us, t.c.radio_us, t.c.bank_us, t.c.commit_us, t.c.barrier_us, *said_about(d))
        .outerjoin(t, t.c.record_no == d.c.record_no)
        .where(d.c.passage_id == passage_id)
        .order_by(d.c.record_no)
    )
    return [decision_facts(row, zone) for row in rows]


def said_about(decision: Table) -> tuple[Label[Any], Label[Any]]:
    """Who gave the word that a decision followed, and why; nothing for all that no person decided."""
    from sqlalchemy import select

    from gateway.ledger import tables

    j = tables.journal
    # A person's word and the decision that follows it are one change of the ledger, made at one time.
    word = (decision.c.recovered == Occasion.PERSON.value, j.c.debit_id == decision.c.debit_id)
    same = (j.c.kind == "person", j.c.at == decision.c.decided_at)

    def told(column: StoredColumn[Any], name: str) -> Label[Any]:
        found = select(column).where(*word, *same).order_by(j.c.number).limit(1)
        return found.correlate(decision).scalar_subquery().label(name)

    return told(j.c.actor, "said_by"), told(j.c.detail, "said_why")


def debit_facts(row: Row[Any], zone: timezone, *, unmask: bool) -> dict[str, Any]:
    """A debit for JSON."""
    return {
        "debit_id": row.id,
        "state": row.state,
        "amount_fen": row.amount,
        "funding": row.funding,
        "payer": row.payer,
        "merchant": row.merchant,
        "mandate_id": row.mandate_id,
        "contract_ref": words.number_shown(row.contract_ref, unmask=unmask),
        "obligor_id": row.obligor_id,
        "stood_in": bool(row.stood_in),
        "idempotency_key": row.idempotency_key,
        "created_at": iso(row.created_at, zone),
        "changed_at": iso(row.changed_at, zone),
    }


def transfers_of(connection: Connection, debit_id: str, zone: timezone) -> list[dict[str, Any]]:
    """A debit's transfers, oldest first."""
    from sqlalchemy import select

    from gateway.ledger import tables

    t = tables.transfer
    source, target = tables.account.alias("source"), tables.account.alias("target")
    rows = connection.execute(
        select(
            t,
            source.c.kind.label("from_kind"),
            source.c.owner.label("from_owner"),
            target.c.kind.label("to_kind"),
            target.c.owner.label("to_owner"),
        )
        .join_from(t, source, source.c.id == t.c.from_account)
        .join(target, target.c.id == t.c.to_account)
        .where(t.c.debit_id == debit_id)
        .order_by(t.c.id)
    )
    return [
        {
            "transfer_id": row.id,
            "phase": row.phase,
            "event": row.event,
            "from": f"{row.from_kind}:{row.from_owner}",
            "to": f"{row.to_kind}:{row.to_owner}",
            "amount_fen": row.amount,
            "pending_id": row.pending_id,
            "attempt_id": row.attempt_id,
            "original_id": row.original_id,
            "reference": row.reference,
            "event_at": iso(row.event_at, zone),
            "event_us": row.event_at,
            "booked_at": iso(row.booked_at, zone),
            "booked_us": row.booked_at,
        }
        for row in rows
    ]


def attempts_of(connection: Connection, debit_id: str, zone: timezone, *, unmask: bool) -> list[dict[str, Any]]:
    """A debit's attempts at banks, oldest first, with what waits in the outbox."""
    from sqlalchemy import select

    from gateway.ledger import tables

    a, o = tables.attempt, tables.outbox
    waiting = connection.execute(select(o).where(o.c.attempt_id.in_(select(a.c.id).where(a.c.debit_id == debit_id))))
    messages: dict[str, list[dict[str, Any]]] = {}
    for row in waiting:
        messages.setdefault(row.attempt_id, []).append(
            {
                "kind": row.kind,
                "tries": row.tries,
                "next_at": iso(row.next_at, zone),
                "done_at": iso(row.done_at, zone),
                "last_answer": row.last_answer,
            }
        )
    rows = connection.execute(select(a).where(a.c.debit_id == debit_id).order_by(a.c.created_at, a.c.id))
    return [
        {
            "attempt_id": row.id,
            "kind": row.kind,
            "state": row.state,
            "channel": row.channel,
            "terminal": row.terminal,
            "batch": row.batch,
            "stan": row.stan,
            "amount_fen": row.amount,
            "response": response_facts(row.response_code),
            "retrieval_reference": row.retrieval_reference,
            "settlement_day": row.settlement_day,
            "late_approval": bool(row.late_approval),
            "sends": row.sends,
            # The messages carry the payer's contract number.
            "request": row.request.hex() if unmask else None,
            "reversal": row.reversal.hex() if unmask and row.reversal is not None else None,
            "created_at": iso(row.created_at, zone),
            "changed_at": iso(row.changed_at, zone),
            "changed_us": row.changed_at,
            "outbox": messages.get(row.id, []),
        }
        for row in rows
    ]


def response_facts(code: str | None) -> dict[str, str] | None:
    """A bank's answer code for JSON."""
    if code is None:
        return None
    from protocols.bank.responses import response_code

    known = response_code(code)
    return {"code": code, "zh": known.chinese, "en": known.english}


def purchases_of(connection: Connection, passage_id: str, zone: timezone, *, unmask: bool) -> list[dict[str, Any]]:
    """A passage's purchases, oldest first."""
    from sqlalchemy import select

    from gateway.ledger import tables

    p, f = tables.purchase, tables.purchase_file
    rows = connection.execute(
        select(p, f.c.before, f.c.after)
        .outerjoin(f, f.c.purchase_id == p.c.id)
        .where(p.c.passage_id == passage_id)
        .order_by(p.c.attempt_no)
    )
    return [
        {
            "attempt_no": row.attempt_no,
            "state": row.state,
            "written_fen": row.written_fen,
            "purchase_time": row.purchase_time,
            "error": row.error,
            "reason": words.reason_facts(row.reason),
            "balance_before_fen": row.balance_before,
            "balance_after_fen": row.balance_after,
            "terminal": row.terminal,
            "card_serial": row.card_serial,
            "psam_serial": row.psam_serial,
            "tac": row.tac,
            "tac_source": row.tac_source,
            "algorithm": row.algorithm,
            "key_version": row.key_version,
            "created_at": iso(row.created_at, zone),
            "changed_at": iso(row.changed_at, zone),
            "file_0019": _file_facts(row, unmask=unmask),
        }
        for row in rows
    ]


def _file_facts(row: Row[Any], *, unmask: bool) -> dict[str, Any] | None:
    """File 0019 as read and as written, told field by field; None when it was erased."""
    if row.before is None:
        return None
    from protocols.card import describe_station

    def told(data: bytes) -> dict[str, Any]:
        fields = [
            {"name": field.name, "value": field.value, "meaning": field.meaning}
            for field in describe_station(data, unmask=unmask)
        ]
        return {"raw": data.hex() if unmask else None, "fields": fields}

    return {"before": told(row.before), "after": told(row.after)}


def items_of(connection: Connection, debit_id: str, zone: timezone) -> list[dict[str, Any]]:
    """A debit's items, oldest first."""
    from sqlalchemy import select

    from gateway.ledger import tables

    i = tables.item
    rows = connection.execute(select(i).where(i.c.debit_id == debit_id).order_by(i.c.id))
    return [
        {
            "item": row.id,
            "kind": row.kind,
            "state": row.state,
            "amount_fen": row.amount,
            "note": row.note,
            "actor": row.actor,
            "second_actor": row.second_actor,
            "created_at": iso(row.created_at, zone),
        }
        for row in rows
    ]


def decision_facts(row: Row[Any], zone: timezone) -> dict[str, Any]:
    """A decision with its timing, for JSON."""
    return {
        "record_no": row.record_no,
        "decided_at": iso(row.decided_at, zone),
        "decided_us": row.decided_at,
        "lane": row.charge_point,
        "fare_fen": row.amount,
        "outcome": row.outcome,
        "barrier": row.barrier,
        "reason": words.reason_facts(row.reason),
        "special_event": words.event_facts(row.special_event),
        "funding": row.funding,
        "recovered": bool(row.recovered),
        "occasion": Occasion(row.recovered).name.lower(),
        "barrier_moved": Occasion(row.recovered).moved,
        "by": row.said_by,
        "why": row.said_why,
        "timing_ms": _timing_facts(row),
        "tariff_version": row.tariff_version,
        "list_version": row.list_version,
        "list_age_s": row.list_age_s,
        "rules_version": row.rules_version,
    }


def _timing_facts(row: Row[Any]) -> dict[str, float | None] | None:
    """Milliseconds of a passage; None while they are not stored yet."""
    if row.total_us is None:
        return None
    return {
        "total": row.total_us / 1000,
        "ours": (row.total_us - row.radio_us - row.bank_us) / 1000,
        "radio": row.radio_us / 1000,
        "bank": row.bank_us / 1000,
        "commit": row.commit_us / 1000,
        "barrier": None if row.barrier_us is None else row.barrier_us / 1000,
    }


# --- text -----------------------------------------------------------------------------------------------------------


def show_passage(screen: Screen, facts: Mapping[str, Any], zone: timezone) -> None:
    say = screen.say
    plate = facts["plate"] or ""
    colour = words.colour_text(screen, facts["plate_colour"])
    screen.pairs(
        (label, value)
        for label, value in (
            (say(*labels.PASSAGE), facts["passage_id"]),
            (say(*labels.LANE), facts["lane"]),
            (say("Opened", "开始时间"), f"{facts['opened_at']} ({say('clock', '时钟')} {facts['clock_quality']})"),
            (say(*labels.PLATE), f"{plate} {colour}".strip()),
            (say("Class", "车型"), words.class_text(screen, facts["vehicle_class"])),
            (say("Tag", "OBU"), facts["obu_id"] or ""),
            (say("Contract", "合同号"), facts["contract"] or ""),
            (say("Card", "卡号"), facts["card_number"] or ""),
            (say("Erased", "已擦除"), facts["erased_at"] or ""),
        )
        if value
    )
    for decision in facts["decisions"]:
        show_decision(screen, decision)
    if facts["debit"] is not None:
        _show_debit(screen, facts["debit"])
        heading(screen, say("Transfers", "转账"))
        show_transfers(screen, facts["transfers"], zone)
    if facts["attempts"]:
        heading(screen, say("Bank attempts", "银行请求"))
        _show_attempts(screen, facts["attempts"], zone)
    for purchase in facts["purchases"]:
        show_purchase(screen, purchase)
    if facts["items"]:
        heading(screen, say("Open items", "待处理事项"))
        screen.pairs((item["kind"], f"{item['state']}: {item['note'] or ''}") for item in facts["items"])


def heading(screen: Screen, text: str) -> None:
    """A title with a line before it."""
    screen.line()
    screen.line(text, style="bold")


def show_decision(screen: Screen, decision: Mapping[str, Any]) -> None:
    """One decision, with its timing and versions."""
    say = screen.say
    heading(screen, say(f"Decision {decision['record_no']}", f"判定 {decision['record_no']}"))
    reason, event, timing = decision["reason"], decision["special_event"], decision["timing_ms"]
    code = None if reason is None else reason["code"]
    pairs: list[tuple[str, str | Cell]] = [
        (say(*labels.TIME), decision["decided_at"]),
        (say(*labels.OUTCOME), words.named(screen, words.OUTCOMES, decision["outcome"])),
        (say(*labels.BARRIER), words.barrier_text(screen, decision)),
        (say("Fare", "金额"), words.yuan_with_currency(decision["fare_fen"])),
    ]
    if code is not None:
        pairs.append((say(*labels.REASON), f"{words.reason_text(screen, code)} [{code}]"))
        pairs.append((say(*labels.NEXT_STEP), words.next_step(screen, code)))
    if event is not None:
        pairs.append((say("Event", "特情"), f"{event['number']} {say(event['en'] or '', event['zh'] or '')}"))
    if decision["funding"] is not None:
        pairs.append((say(*labels.FUNDING), words.named(screen, words.FUNDINGS, decision["funding"])))
    if decision["occasion"] != Occasion.LANE.name.lower():
        pairs.append((say("Decided", "判定方式"), words.occasion_text(screen, decision)))
    if timing is not None:
        times = ", ".join(f"{name} {timing[name]:.0f}" for name in ("total", "ours", "radio", "bank", "commit"))
        barrier = "" if timing["barrier"] is None else f", barrier {timing['barrier']:.0f}"
        pairs.append((say("Time spent", "耗时"), f"{times}{barrier} ms"))
    age = decision["list_age_s"]
    versions = [
        "" if decision["tariff_version"] is None else say("tariff ", "费率 ") + decision["tariff_version"],
        "" if decision["list_version"] is None else say("lists ", "名单 ") + decision["list_version"],
        "" if age is None else say(f"{age} s old", f"生成于 {age} 秒前"),
        "" if decision["rules_version"] is None else say("rules ", "规则 ") + decision["rules_version"],
    ]
    pairs.append((say("Versions", "版本"), ", ".join(v for v in versions if v)))
    screen.pairs(pairs)


def _show_debit(screen: Screen, debit: Mapping[str, Any]) -> None:
    say = screen.say
    heading(screen, say("Debit", "应收"))
    stood_in = say(", decided in the bank's place", ",代银行判定") if debit["stood_in"] else ""
    state = words.named(screen, words.DEBIT_STATES, debit["state"])
    pairs: list[tuple[str, str | Cell]] = [
        (say("Debit", "编号"), debit["debit_id"]),
        (say(*labels.STATE), Cell(f"{state.text}{stood_in}", state.style)),
        (say(*labels.AMOUNT), words.yuan_with_currency(debit["amount_fen"])),
        (say(*labels.PAYER), f"{debit['payer']} ({words.named(screen, words.FUNDINGS, debit['funding']).text})"),
        (say("Merchant", "收款方"), debit["merchant"]),
    ]
    if debit["mandate_id"]:
        pairs.append((say(*labels.MANDATE), f"{debit['mandate_id']} ({debit['contract_ref'] or '-'})"))
    screen.pairs(pairs)


def show_transfers(screen: Screen, transfers: Sequence[Mapping[str, Any]], zone: timezone) -> None:
    """A table of transfers."""
    say = screen.say
    columns = [
        Column(say("Id", "号"), right=True),
        Column(say("Phase", "阶段")),
        Column(say("Event", "事件")),
        Column(say(*labels.AMOUNT), right=True),
        Column(say("From", "转出"), wrap_at=12),
        Column(say("To", "转入"), wrap_at=12),
        Column(say("Booked", "入账"), rank=1),
    ]
    screen.table(
        columns,
        [
            [
                str(t["transfer_id"]),
                t["phase"] if t["pending_id"] is None else f"{t['phase']} {t['pending_id']}",
                t["event"],
                words.yuan(t["amount_fen"]),
                account_text(t["from"]),
                account_text(t["to"]),
                short(t["booked_us"], zone),
            ]
            for t in transfers
        ],
    )


def account_text(name: str) -> str:
    """`open:..4a6dbe` for a payer's account, whose owner is a long random id."""
    kind, _, owner = name.partition(":")
    return f"{kind}:..{owner[-6:]}" if len(owner) == OBLIGOR_ID_LENGTH else name


def _show_attempts(screen: Screen, attempts: Sequence[Mapping[str, Any]], zone: timezone) -> None:
    say = screen.say
    columns = [
        Column(say("Kind", "种类")),
        Column(say(*labels.STATE)),
        Column(say("Channel", "渠道")),
        Column(say("Terminal", "终端")),
        Column("STAN"),
        Column(say(*labels.AMOUNT), rank=2, right=True),
        Column(say("Answer", "应答"), wrap_at=14),
        Column(say("To be sent", "待发"), rank=1, wrap_at=12),
        Column(say("Changed", "更新"), rank=3),
    ]
    rows: list[list[str | Cell]] = []
    for attempt in attempts:
        open_messages = [m for m in attempt["outbox"] if m["done_at"] is None]
        rows.append(
            [
                attempt["kind"],
                words.named(screen, words.ATTEMPT_STATES, attempt["state"]),
                attempt["channel"],
                attempt["terminal"],
                attempt["stan"],
                words.yuan(attempt["amount_fen"]),
                answer_text(screen, attempt["response"]),
                ", ".join(
                    say(f"{m['kind']}, tried {m['tries']}x", f"{m['kind']},已试 {m['tries']} 次") for m in open_messages
                ),
                short(attempt["changed_us"], zone),
            ]
        )
    screen.table(columns, rows)


def answer_text(screen: Screen, response: Mapping[str, str] | None) -> str:
    """A bank's answer in words, its code first."""
    return "" if response is None else f"{response['code']} {screen.say(response['en'], response['zh'])}"


def show_purchase(screen: Screen, purchase: Mapping[str, Any]) -> None:
    """One purchase, with its files."""
    say = screen.say
    heading(
        screen,
        say(f"Purchase on the card, attempt {purchase['attempt_no']}", f"卡片扣款,第 {purchase['attempt_no']} 次"),
    )
    serials = (("terminal", "terminal"), ("card_serial", "card serial"), ("psam_serial", "PSAM serial"))
    proof = ", ".join(f"{text} {purchase[name]}" for name, text in serials if purchase[name] is not None)
    tac = say("none", "无") if purchase["tac"] is None else f"{purchase['tac']} ({purchase['tac_source']})"
    balances = (words.yuan(purchase["balance_before_fen"]) or "?", words.yuan(purchase["balance_after_fen"]) or "?")
    pairs: list[tuple[str, str | Cell]] = [
        (say(*labels.STATE), words.named(screen, words.PURCHASE_STATES, purchase["state"])),
        (say(*labels.AMOUNT), words.yuan_with_currency(purchase["written_fen"])),
        (say("Card time", "卡内时间"), purchase["purchase_time"]),
        (say("Balance", "余额"), f"{balances[0]} -> {balances[1]}"),
        ("TAC", tac),
    ]
    if proof:
        pairs.append((say("Proof", "凭证"), proof))
    if purchase["reason"] is not None:
        code = purchase["reason"]["code"]
        pairs.append((say(*labels.REASON), f"{words.reason_text(screen, code)} [{code}]"))
    if purchase["error"]:
        pairs.append((say("Error byte", "错误码"), f"{purchase['error']:02X}"))
    screen.pairs(pairs)
    if purchase["file_0019"] is not None:
        _show_file(screen, purchase["file_0019"])


def _show_file(screen: Screen, file: Mapping[str, Any]) -> None:
    """File 0019 before and after, side by side: equal to *after* on the card proves that the money was taken."""
    say = screen.say
    before = {field["name"]: field["value"] for field in file["before"]["fields"]}
    after = {field["name"]: field["value"] for field in file["after"]["fields"]}
    columns = [
        Column(say("File 0019", "文件 0019")),
        Column(say("as read", "读出"), wrap_at=12),
        Column(say("as written", "写入"), wrap_at=12),
    ]
    rows: list[list[str | Cell]] = []
    for name in dict.fromkeys([*before, *after]):
        old, new = before.get(name, ""), after.get(name, "")
        rows.append([name, old, Cell("=", QUIET) if old == new else new])
    screen.table(columns, rows)
