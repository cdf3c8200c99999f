"""Visit of one vehicle with all its parts, as `etcgw passages show`, `etcgw debits show` and `debits history` tell it.

The order is that of events: decisions, the debit with its transfers, attempts at the bank, purchases on the card, items
that somebody must explain.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Final, TypeVar

from gateway.cli import labels, words
from gateway.cli.columns import Column, Columns, at, each, fen, money, one, only, said, show_record, show_table, within
from gateway.cli.parts import (
    ATTEMPT,
    ATTEMPTS_OF_DEBIT,
    DEBIT,
    DECISION,
    DECISION_RECORD,
    ITEM,
    PURCHASE,
    PURCHASE_RECORD,
    REFUND,
    TRANSFER,
    debit_state,
    mandate,
    payer,
)
from gateway.cli.screen import QUIET, Cell, Screen
from gateway.model.passage import PassageOutcome
from gateway.texts.catalogue import Pair, Words

if TYPE_CHECKING:
    from gateway.views.history import Event
    from gateway.views.purchases import StationFiles
    from gateway.views.visits import Debit, Visit

T = TypeVar("T")


def heading(screen: Screen, words_of: Words) -> None:
    """A title with a line before it."""
    screen.line()
    screen.line(screen.word(words_of), style="bold")


def _plate(screen: Screen, visit: Visit) -> str:
    who = visit.passage.who
    return f"{who.plate or ''} {words.colour_text(screen, who.plate_colour)}".strip()


# --- of a passage ---------------------------------------------------------------------------------------------------


def _opened(screen: Screen, visit: Visit) -> str:
    passage = visit.passage
    return f"{screen.iso(passage.opened_us)} ({screen.say('visit.clock')} {passage.clock_quality})"


PASSAGE: Final[Columns[Visit]] = (
    Column("passage_id", labels.PASSAGE, lambda v: v.passage.passage_id),
    Column("lane", labels.LANE, lambda v: v.passage.lane),
    Column("service", of=lambda v: v.passage.service),
    said(Words("label.opened"), _opened),
    Column("opened_at", of=lambda v: v.passage.opened_us, data=Screen.iso),
    Column("opened_us", of=lambda v: v.passage.opened_us),
    Column("clock_quality", of=lambda v: v.passage.clock_quality),
    Column("device_type", of=lambda v: v.passage.device_type),
    said(labels.PLATE, _plate),
    Column("vehicle_class", Words("label.class"), lambda v: v.passage.vehicle_class, words.class_text),
    Column("obu_id", Words("label.tag"), lambda v: v.passage.who.obu_id),
    Column("contract", Words("label.contract-number"), lambda v: v.passage.who.contract),
    Column("card_number", labels.CARD, lambda v: v.passage.who.card_number),
    Column("plate", of=lambda v: v.passage.who.plate),
    Column("plate_colour", of=lambda v: v.passage.who.plate_colour),
    Column("erased_at", Words("label.erased"), lambda v: v.passage.who.erased_us, Screen.iso, Screen.iso),
    Column("decisions", data=each(DECISION)),
    Column("debit", data=one(DEBIT)),
    Column("transfers", data=each(TRANSFER)),
    Column("attempts", data=each(ATTEMPT)),
    Column("purchases", data=each(PURCHASE)),
    Column("items", data=each(ITEM)),
)


def show_passage(screen: Screen, visit: Visit) -> None:
    """A passage with all its parts, as text."""
    show_record(screen, PASSAGE, visit)
    for decision in visit.decisions:
        heading(screen, Words("visit.decision", record_no=decision.record_no))
        show_record(screen, DECISION_RECORD, decision)
    if visit.debit is not None:
        heading(screen, Words("visit.debit"))
        show_record(screen, DEBIT, visit.debit)
        heading(screen, Words("visit.transfers"))
        show_table(screen, TRANSFER, visit.transfers)
    _show_part(screen, Words("visit.bank-attempts"), ATTEMPT, visit.attempts)
    for purchase in visit.purchases:
        number = purchase.attempt_no
        heading(screen, Words("visit.purchase-on-card-attempt", number=number))
        show_record(screen, PURCHASE_RECORD, purchase)
        if purchase.file_0019 is not None:
            _show_files(screen, purchase.file_0019)
    if visit.items:
        heading(screen, Words("visit.open-items"))
        screen.pairs((item.kind, f"{item.state}: {item.note or ''}") for item in visit.items)


def _show_files(screen: Screen, files: StationFiles) -> None:
    """File 0019 before and after, side by side: equal to *after* on the card proves that the money was taken."""
    before = {field.name: field.value for field in files.before.fields}
    after = {field.name: field.value for field in files.after.fields}
    columns: Columns[str] = (
        said(Words("label.file-0019"), lambda _, name: name),
        said(Words("label.as-read"), lambda _, name: before.get(name, ""), wrap_at=12),
        said(
            Words("label.as-written"),
            lambda _, name: Cell("=", QUIET) if before.get(name, "") == after.get(name, "") else after.get(name, ""),
            wrap_at=12,
        ),
    )
    show_table(screen, columns, dict.fromkeys([*before, *after]))


def _show_part(screen: Screen, title: Words, columns: Columns[T], rows: Collection[T]) -> None:
    """A table with its title; nothing where there are no rows."""
    if rows:
        heading(screen, title)
        show_table(screen, columns, rows)


# --- of a debit -----------------------------------------------------------------------------------------------------


def _held(_: Screen, debit: Debit) -> str:
    completed = debit.completed_fen is not None or debit.held_fen != debit.amount_fen
    return words.yuan_with_currency(debit.held_fen) if completed else ""


def _next_try(screen: Screen, debit: Debit) -> str:
    tries = screen.say("visit.so-far", retries=debit.retries)
    return "" if debit.retry_us is None else f"{screen.iso(debit.retry_us)} ({tries})"


_DEBIT_OF_VISIT: Final[Columns[Debit]] = (
    *within(DEBIT, lambda debit: debit),
    Column("", labels.DEBIT, lambda d: d.debit_id),
    Column("", Words("label.business-key"), lambda d: d.idempotency_key),
    said(labels.STATE, debit_state),
    Column("", labels.AMOUNT, lambda d: d.amount_fen, money),
    *only("service", "day", "held_fen"),
    said(labels.HELD, _held),
    Column("completed_fen"),
    Column("collected_fen", labels.COLLECTED, text=money),
    Column(
        "refunded_fen",
        Words("label.refunded"),
        text=lambda _, amount: words.yuan_with_currency(amount) if amount else "",
    ),
    Column("refundable_fen"),
    said(labels.PAYER, payer),
    said(labels.MANDATE, mandate),
    said(Words("label.collector"), lambda _, d: f"{d.merchant}, {d.service}, {d.day}".rstrip(", ")),
    at("retry_at"),
    said(labels.NEXT_TRY, _next_try),
    Column("retries"),
    Column(
        "listed_since",
        Words("label.on-debt-list"),
        lambda d: d.listed_us,
        Screen.iso,
        Screen.iso,
    ),
)
DEBIT_PAGE: Final[Columns[Visit]] = (
    *within(_DEBIT_OF_VISIT, lambda v: v.debit, told=True),
    said(labels.LANE, lambda screen, v: f"{v.passage.lane}, {screen.iso(v.passage.opened_us)}"),
    said(labels.PLATE, _plate),
    Column("card_number", labels.CARD, lambda v: v.passage.who.card_number),
    Column("passage_id", labels.PASSAGE, lambda v: v.passage.passage_id),
    Column("lane", of=lambda v: v.passage.lane),
    Column("opened_at", of=lambda v: v.passage.opened_us, data=Screen.iso),
    Column("plate", of=lambda v: v.passage.who.plate),
    Column("plate_colour", of=lambda v: v.passage.who.plate_colour),
    Column("vehicle_class", of=lambda v: v.passage.vehicle_class),
    Column("contract", of=lambda v: v.passage.who.contract),
    Column("obu_id", of=lambda v: v.passage.who.obu_id),
    Column("decisions", data=each(DECISION)),
    Column("attempts", data=each(ATTEMPT)),
    Column("purchases", data=each(PURCHASE)),
    Column("refunds", data=each(REFUND)),
    Column("items", data=each(ITEM)),
    Column("transfers", data=each(TRANSFER)),
)


def show_debit(screen: Screen, visit: Visit) -> None:
    """Show where a debit stands, on one page."""
    show_record(screen, DEBIT_PAGE, visit)
    decisions = [decision for decision in visit.decisions if decision.outcome is not PassageOutcome.REPEAT]
    _show_part(screen, Words("visit.decisions"), DECISION, decisions)
    _show_part(screen, Words("visit.bank-attempts"), ATTEMPTS_OF_DEBIT, visit.attempts)
    _show_part(screen, Words("visit.purchases-on-card"), PURCHASE, visit.purchases)
    _show_part(screen, Words("visit.refunds"), REFUND, visit.refunds)
    _show_part(screen, Words("visit.items"), ITEM, visit.items)


# --- history --------------------------------------------------------------------------------------------------------

WHAT: Final[Mapping[str, Words]] = {
    "purchase": Words("visit.what.purchase"),
    "transfer": Words("visit.what.transfer"),
    "debit": Words("visit.what.debit"),
    "attempt": Words("visit.what.attempt"),
    "refund": Words("visit.what.refund"),
    "item": Words("visit.what.item"),
    "person": Words("visit.what.person"),
    "decision": Words("visit.what.decision"),
}
"""Nouns whose events the history shows."""

_STATES: Final[Mapping[str, words.Table]] = {
    "debit": words.DEBIT_STATES,
    "attempt": words.ATTEMPT_STATES,
    "purchase": words.PURCHASE_STATES,
    "refund": words.REFUND_STATES,
    "item": words.ITEM_STATES,
    "decision": words.OUTCOMES,
}


def _happened(screen: Screen, moment_us: int | None) -> str:
    moment = screen.iso(moment_us)
    return "" if moment is None else moment[5:19].replace("T", " ")


EVENT: Final[Columns[Event]] = (
    at("booked_at", Words("label.booked-at")),
    Column("event_at", Words("label.happened"), lambda e: e.event_us, _happened, Screen.iso, rank=2),
    Column("what", Words("label.what"), text=lambda screen, what: screen.word(WHAT.get(what, Pair.same(what)))),
    Column("number", Words("label.number"), rank=1, right=True),
    *only("ref", "event"),
    said(Words("label.event"), lambda screen, e: words.named(screen, _STATES.get(e.what, {}), e.event)),
    fen("amount_fen", labels.AMOUNT),
    Column("detail", Words("label.detail"), wrap_at=20),
    Column("actor", labels.BY),
    Column("booked_us"),
)
