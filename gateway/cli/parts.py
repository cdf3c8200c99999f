"""Columns of the parts of a visit: decisions, the debit with its transfers, attempts, purchases, refunds, items.

A noun in capitals is its JSON and its table; a name that ends in `_RECORD` its `Label: value` lines.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Final

from gateway.cli import labels, words
from gateway.cli.columns import Column, Columns, at, each, fen, money, only, said
from gateway.cli.screen import Cell, Screen
from gateway.model.passage import Occasion
from gateway.texts.catalogue import Pair, Words

if TYPE_CHECKING:
    from gateway.views.accounts import Transfer
    from gateway.views.attempts import Attempt, Message
    from gateway.views.decisions import Decision, Timing
    from gateway.views.items import Item
    from gateway.views.purchases import Purchase, StationFile, StationFiles
    from gateway.views.visits import Debit, Refund


def joined(*parts: str | None) -> str:
    """Names of people in one text."""
    return " / ".join(part for part in parts if part)


# --- decisions ------------------------------------------------------------------------------------------------------


def _timing_facts(_: Screen, timing: Timing | None) -> dict[str, float | None] | None:
    """Milliseconds of a passage; None while they are not stored yet."""
    if timing is None:
        return None
    return {
        "total": timing.total_us / 1000,
        "ours": timing.own_us / 1000,
        "radio": timing.radio_us / 1000,
        "bank": timing.bank_us / 1000,
        "commit": timing.commit_us / 1000,
        "barrier": None if timing.barrier_us is None else timing.barrier_us / 1000,
    }


DECISION: Final[Columns[Decision]] = (
    Column("record_no", Words("label.record"), right=True),
    at("decided_at"),
    Column("decided_us", labels.TIME, text=Screen.short),
    *only("lane", "fare_fen"),
    Column("outcome", labels.OUTCOME, text=words.coded(words.OUTCOMES)),
    Column("release", labels.BARRIER, text=words.coded(words.BARRIERS)),
    Column("reason", labels.REASON, text=words.reason_text, data=lambda _, code: words.reason_facts(code), wrap_at=16),
    Column("special_event", data=lambda _, number: words.event_facts(number)),
    Column("funding"),
    Column("recovered", of=lambda d: d.occasion is not Occasion.LANE),
    Column("occasion", data=lambda _, occasion: occasion.name.lower()),
    Column("barrier_moved", of=lambda d: d.occasion.moved),
    Column("by", of=lambda d: d.said_by),
    Column("why", of=lambda d: d.said_why),
    Column("timing_ms", of=lambda d: d.timing, data=_timing_facts),
    Column("tariff_version", Words("label.tariff"), rank=2),
    Column("list_version", Words("label.lists"), rank=2),
    Column("list_age_s"),
    Column("rules_version", Words("label.rules"), rank=1),
)


def _event_text(screen: Screen, number: int | None) -> str:
    event = words.event_facts(number)
    return "" if event is None else f"{number} {screen.word(Pair(event['en'] or '', event['zh'] or ''))}"


def _time_spent(screen: Screen, timing: Timing | None) -> str:
    spent = _timing_facts(screen, timing)
    return "" if spent is None else ", ".join(f"{n} {v:.0f}" for n, v in spent.items() if v is not None) + " ms"


def _versions(screen: Screen, d: Decision) -> Cell:
    say, age = screen.say, d.list_age_s
    parts = (
        "" if d.tariff_version is None else say("parts.tariff") + d.tariff_version,
        "" if d.list_version is None else say("parts.lists") + d.list_version,
        "" if age is None else say("parts.s-old", age=age),
        "" if d.rules_version is None else say("parts.rules") + d.rules_version,
    )
    return Cell(", ".join(part for part in parts if part))


DECISION_RECORD: Final[Columns[Decision]] = (
    Column("decided_us", labels.TIME, text=Screen.iso),
    Column("outcome", labels.OUTCOME, text=words.coded(words.OUTCOMES)),
    said(labels.BARRIER, words.barrier_text),
    Column("fare_fen", Words("label.fare"), text=money),
    Column("reason", labels.REASON, text=words.named_reason),
    said(labels.NEXT_STEP, lambda screen, d: words.next_step(screen, d.reason)),
    Column("special_event", Words("label.special-event"), text=_event_text),
    Column("funding", labels.FUNDING, text=words.coded(words.FUNDINGS)),
    said(
        Words("label.decided"),
        lambda screen, d: "" if d.occasion is Occasion.LANE else words.occasion_text(screen, d),
    ),
    Column("timing", Words("label.time-spent"), text=_time_spent),
    said(Words("label.versions"), _versions),
)

# --- debit and transfers --------------------------------------------------------------------------------------------


def debit_state(screen: Screen, debit: Debit) -> Cell:
    state = words.named(screen, words.DEBIT_STATES, debit.state)
    stood_in = screen.say("parts.decided-banks-place") if debit.stood_in else ""
    return Cell(f"{state.text}{stood_in}", state.style)


def payer(screen: Screen, debit: Debit) -> str:
    return f"{debit.payer} ({words.named(screen, words.FUNDINGS, debit.funding).text})"


def mandate(_: Screen, debit: Debit) -> str:
    return f"{debit.mandate_id} ({debit.contract_ref or '-'})" if debit.mandate_id else ""


DEBIT: Final[Columns[Debit]] = (
    Column("debit_id", Words("label.debit-number")),
    Column("state"),
    said(labels.STATE, debit_state),
    Column("amount_fen", labels.AMOUNT, text=money),
    *only("funding", "payer"),
    said(labels.PAYER, payer),
    Column("merchant", Words("label.merchant")),
    *only("mandate_id", "contract_ref"),
    said(labels.MANDATE, mandate),
    *only("obligor_id", "stood_in", "idempotency_key", "created_at", "changed_at"),
)
TRANSFER: Final[Columns[Transfer]] = (
    Column("transfer_id", Words("label.id"), right=True),
    said(Words("label.phase"), lambda _, t: t.phase if t.pending_id is None else f"{t.phase} {t.pending_id}"),
    Column("phase"),
    Column("event", Words("label.event")),
    fen("amount_fen", labels.AMOUNT),
    Column(
        "from",
        Words("label.from"),
        of=lambda t: t.source,
        text=lambda _, account: account.short,
        data=lambda _, account: str(account),
        wrap_at=12,
    ),
    Column(
        "to",
        Words("label.booked-to"),
        of=lambda t: t.target,
        text=lambda _, account: account.short,
        data=lambda _, account: str(account),
        wrap_at=12,
    ),
    *only("pending_id", "attempt_id", "original_id", "reference", "event_at", "event_us"),
    at("booked_at", Words("label.booked"), rank=1),
    Column("booked_us"),
)

# --- attempts -------------------------------------------------------------------------------------------------------

_MESSAGE: Final[Columns[Message]] = only("kind", "tries", "next_at", "done_at", "last_answer")


def _hex(_: Screen, data: bytes | None) -> str | None:
    return None if data is None else data.hex()


def _tried(screen: Screen, waiting: Iterable[Message]) -> str:
    return ", ".join(screen.say("parts.tried-x", kind=m.kind, tries=m.tries) for m in waiting)


ATTEMPT: Final[Columns[Attempt]] = (
    Column("attempt_id"),
    Column("kind", Words("label.kind")),
    Column("state", labels.STATE, text=words.coded(words.ATTEMPT_STATES)),
    Column("channel", Words("label.channel")),
    Column("terminal", Words("label.terminal")),
    Column("batch"),
    Column("stan", labels.STAN),
    fen("amount_fen", labels.AMOUNT, rank=2),
    Column(
        "response",
        Words("label.answer"),
        of=lambda a: a.response_code,
        text=words.response_text,
        data=lambda _, code: words.response_facts(code),
        wrap_at=14,
    ),
    *only("retrieval_reference", "settlement_day", "late_approval", "sends"),
    Column("request", data=_hex),
    Column("reversal", data=_hex),
    said(Words("label.sent"), lambda screen, a: _tried(screen, a.waiting), rank=1, wrap_at=12),
    at("created_at"),
    at("changed_at", Words("label.changed"), rank=3),
    Column("changed_us"),
    Column("outbox", data=each(_MESSAGE)),
)


def _attempt_state(screen: Screen, attempt: Attempt) -> Cell:
    state = words.named(screen, words.ATTEMPT_STATES, attempt.state)
    return Cell(f"{state.text}{screen.say('parts.suspense') if attempt.late_approval else ''}", state.style)


ATTEMPTS_OF_DEBIT: Final[Columns[Attempt]] = (
    Column("attempt_id", Words("label.attempt")),
    Column("kind", Words("label.kind")),
    said(labels.STATE, _attempt_state),
    fen("amount_fen", labels.AMOUNT, rank=1),
    Column("response_code", Words("label.answer"), text=words.response_text, wrap_at=14),
    said(Words("label.sent"), lambda _, a: ", ".join(m.kind for m in a.waiting), wrap_at=10),
    Column("terminal", Words("label.terminal"), rank=2),
    Column("stan", labels.STAN, rank=2),
    at("changed_at", Words("label.changed"), rank=3),
)

# --- purchases ------------------------------------------------------------------------------------------------------


def _station_facts(file: StationFile) -> dict[str, Any]:
    fields = [{"name": field.name, "value": field.value, "meaning": field.meaning} for field in file.fields]
    return {"raw": None if file.raw is None else file.raw.hex(), "fields": fields}


def _files_facts(_: Screen, files: StationFiles | None) -> dict[str, Any] | None:
    """File 0019 as read and as written, told field by field; None when it was erased."""
    return None if files is None else {"before": _station_facts(files.before), "after": _station_facts(files.after)}


PURCHASE: Final[Columns[Purchase]] = (
    Column("attempt_no", Words("label.no"), right=True),
    Column("state", labels.STATE, text=words.coded(words.PURCHASE_STATES)),
    fen("written_fen", labels.AMOUNT),
    Column("purchase_time", Words("label.card-time")),
    Column("error"),
    Column("reason", data=lambda _, code: words.reason_facts(code)),
    fen("balance_before_fen", Words("label.before"), rank=1),
    fen("balance_after_fen", Words("label.after"), rank=1),
    *only("terminal", "card_serial", "psam_serial"),
    Column("tac", labels.TAC, text=lambda screen, tac: tac or screen.say("parts.none")),
    *only("tac_source", "algorithm", "key_version", "created_at", "changed_at"),
    Column("file_0019", data=_files_facts),
)


def _proof(_: Screen, purchase: Purchase) -> str:
    serials = (
        ("terminal", purchase.terminal),
        ("card serial", purchase.card_serial),
        ("PSAM serial", purchase.psam_serial),
    )
    return ", ".join(f"{text} {serial}" for text, serial in serials if serial is not None)


PURCHASE_RECORD: Final[Columns[Purchase]] = (
    Column("state", labels.STATE, text=words.coded(words.PURCHASE_STATES)),
    Column("written_fen", labels.AMOUNT, text=money),
    Column("purchase_time", Words("label.card-time"), text=lambda _, text: Cell(text)),
    said(
        Words("label.balance"),
        lambda _, p: f"{words.yuan(p.balance_before_fen) or '?'} -> {words.yuan(p.balance_after_fen) or '?'}",
    ),
    said(labels.TAC, lambda screen, p: screen.say("parts.none") if p.tac is None else f"{p.tac} ({p.tac_source})"),
    said(Words("label.proof"), _proof),
    Column("reason", labels.REASON, text=words.named_reason),
    Column("error", Words("label.error-byte"), text=lambda _, error: f"{error:02X}" if error else ""),
)

# --- refunds, items -------------------------------------------------------------------------------------------------

REFUND: Final[Columns[Refund]] = (
    Column("refund_id", Words("label.refund")),
    fen("amount_fen", labels.AMOUNT),
    Column("target", Words("label.to"), text=lambda screen, target: screen.word(words.REFUND_TARGETS[target])),
    Column("state", labels.STATE, text=words.coded(words.REFUND_STATES)),
    Column("reason", labels.REASON, wrap_at=12),
    Column("key", Words("label.business-key"), rank=1),
    *only("attempt_id", "created_at", "changed_at"),
)
ITEM: Final[Columns[Item]] = (
    Column("item", labels.ITEM, of=lambda i: i.item_id, right=True),
    Column("kind", Words("label.kind")),
    Column("state", labels.STATE, text=words.coded(words.ITEM_STATES)),
    Column("amount_fen"),
    said(labels.BY, lambda _, i: joined(i.actor, i.second_actor), rank=1),
    Column("note", labels.NOTE, wrap_at=20),
    *only("actor", "second_actor", "created_at"),
)
