"""Words for the codes that stand in the ledger, in both languages, with a style where a colour helps."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

from gateway.cli.screen import BAD, DOUBTFUL, GOOD, QUIET, Cell, Screen
from gateway.model.money import CURRENCY, format_fen
from gateway.model.passage import Funding, Occasion, PassageOutcome, Release
from gateway.model.plate import PlateColour
from gateway.model.reasons import REASONS, Reason
from gateway.model.special_events import SPECIAL_EVENTS
from gateway.model.states import AttemptState, DebitState, ItemState, MandateStatus, PurchaseState, RefundState
from gateway.model.vehicle_class import VehicleClass, is_vehicle_class
from gateway.texts.catalogue import Pair, Text, Words

if TYPE_CHECKING:
    from gateway.views.decisions import Decision

Table = Mapping[str, tuple[Text, str]]

OUTCOMES: Final[Table] = MappingProxyType(
    {
        PassageOutcome.PAID.value: (Words("words.refund_states.paid"), GOOD),
        PassageOutcome.OWED.value: (Words("words.debit_states.owed"), DOUBTFUL),
        PassageOutcome.DEBT.value: (Words("words.debit_states.debt"), DOUBTFUL),
        PassageOutcome.ENTERED.value: (Words("words.outcomes.entered"), GOOD),
        PassageOutcome.REFUSED.value: (Words("words.outcomes.refused"), BAD),
        PassageOutcome.UNKNOWN.value: (Words("words.purchase_states.unknown"), BAD),
        PassageOutcome.REPEAT.value: (Words("words.outcomes.repeat"), QUIET),
    }
)
BARRIERS: Final[Table] = MappingProxyType(
    {
        Release.GO.value: (Words("words.barriers.go"), GOOD),
        Release.STOP.value: (Words("words.barriers.stop"), BAD),
        Release.ATTENDANT.value: (Words("words.barriers.attendant"), DOUBTFUL),
    }
)
FUNDINGS: Final[Table] = MappingProxyType(
    {
        Funding.PURSE.value: (Words("words.fundings.purse"), ""),
        Funding.BANK_ONLINE.value: (Words("words.fundings.bank_online"), ""),
        Funding.ISSUER_CLEARING.value: (Words("words.fundings.issuer_clearing"), ""),
        Funding.CASH.value: (Words("words.fundings.cash"), ""),
    }
)
DEBIT_STATES: Final[Table] = MappingProxyType(
    {
        DebitState.HELD.value: (Words("words.debit_states.held"), DOUBTFUL),
        DebitState.RELEASED.value: (Words("words.debit_states.released"), ""),
        DebitState.OWED.value: (Words("words.debit_states.owed"), DOUBTFUL),
        DebitState.FUNDED.value: (Words("words.debit_states.funded"), GOOD),
        DebitState.DEBT.value: (Words("words.debit_states.debt"), BAD),
        DebitState.RECOVERED.value: (Words("words.debit_states.recovered"), GOOD),
        DebitState.WRITTEN_OFF.value: (Words("words.item_states.written_off"), QUIET),
        DebitState.VOIDED.value: (Words("words.debit_states.voided"), QUIET),
    }
)
"""States of a debit in the order in which a claim goes through them."""

OCCASIONS: Final[Mapping[Occasion, Words]] = MappingProxyType(
    {
        Occasion.LANE: Words("words.occasions.lane"),
        Occasion.READING: Words("words.occasions.reading"),
        Occasion.START: Words("words.occasions.start"),
        Occasion.PERSON: Words("words.occasions.person"),
    }
)
"""Occasions on which a decision is made."""

ATTEMPT_STATES: Final[Table] = MappingProxyType(
    {
        AttemptState.STORED.value: (Words("words.attempt_states.stored"), DOUBTFUL),
        AttemptState.NOT_SENT.value: (Words("words.attempt_states.not_sent"), QUIET),
        AttemptState.APPROVED.value: (Words("words.attempt_states.approved"), GOOD),
        AttemptState.DECLINED.value: (Words("words.attempt_states.declined"), BAD),
        AttemptState.UNKNOWN.value: (Words("words.purchase_states.unknown"), DOUBTFUL),
        AttemptState.REVERSING.value: (Words("words.attempt_states.reversing"), DOUBTFUL),
        AttemptState.REVERSED.value: (Words("words.attempt_states.reversed"), QUIET),
        AttemptState.DISPUTED.value: (Words("words.purchase_states.disputed"), BAD),
    }
)
PURCHASE_STATES: Final[Table] = MappingProxyType(
    {
        PurchaseState.INTENT.value: (Words("words.purchase_states.intent"), DOUBTFUL),
        PurchaseState.UNKNOWN.value: (Words("words.purchase_states.unknown"), DOUBTFUL),
        PurchaseState.TAKEN.value: (Words("words.purchase_states.taken"), GOOD),
        PurchaseState.NOT_TAKEN.value: (Words("words.purchase_states.not_taken"), QUIET),
        PurchaseState.DISPUTED.value: (Words("words.purchase_states.disputed"), BAD),
    }
)
MANDATE_STATES: Final[Table] = MappingProxyType(
    {
        MandateStatus.ACTIVE.value: (Words("words.mandate_states.active"), GOOD),
        MandateStatus.PAUSED.value: (Words("words.mandate_states.paused"), DOUBTFUL),
        MandateStatus.CLOSED.value: (Words("words.mandate_states.closed"), BAD),
    }
)
LATE_EFFECTS: Final[Mapping[str, Words]] = MappingProxyType(
    {
        "no_such_attempt": Words("words.late_effects.no_such_attempt"),
        "ambiguous": Words("words.late_effects.ambiguous"),
        "noted": Words("words.late_effects.noted"),
        "settled": Words("words.late_effects.settled"),
        "declined": Words("words.late_effects.declined"),
        "reopened": Words("words.late_effects.reopened"),
        "closed": Words("words.late_effects.closed"),
        "told_again": Words("words.late_effects.told_again"),
        "contradicted": Words("words.late_effects.contradicted"),
        "disputed": Words("words.late_effects.disputed"),
        "differs": Words("words.late_effects.differs"),
        "withdrawn": Words("words.late_effects.withdrawn"),
        "ignored": Words("words.late_effects.ignored"),
    }
)
"""Effects of a word about an attempt in doubt, by the lower-case name of `gateway.debit.late.LateEffect`."""

ITEM_STATES: Final[Table] = MappingProxyType(
    {
        ItemState.OPEN.value: (Words("words.item_states.open"), BAD),
        ItemState.EXPLAINED.value: (Words("words.item_states.explained"), DOUBTFUL),
        ItemState.CORRECTED.value: (Words("words.item_states.corrected"), GOOD),
        ItemState.WRITTEN_OFF.value: (Words("words.item_states.written_off"), QUIET),
    }
)
REFUND_STATES: Final[Table] = MappingProxyType(
    {
        RefundState.DECIDED.value: (Words("words.refund_states.decided"), DOUBTFUL),
        RefundState.PAID.value: (Words("words.refund_states.paid"), GOOD),
    }
)
REFUND_TARGETS: Final[Mapping[str, Words]] = MappingProxyType(
    {
        "bank": Words("words.refund_targets.bank"),
        "issuer": Words("words.refund_targets.issuer"),
        "till": Words("words.refund_targets.till"),
    }
)
PROPOSED: Final = Words("words.proposed-somebody-else-must-give")

"""A write-off that waits for its second person."""


def named(screen: Screen, table: Table, code: str | None) -> Cell:
    """A code in words; the code itself where the table does not know it, nothing where there is none."""
    if code is None:
        return Cell("")
    words, style = table.get(code, (Pair.same(code), ""))
    return Cell(screen.word(words), style)


def coded(table: Table) -> Callable[[Screen, str | None], str | Cell]:
    """Function that gives the words of a code; nothing where there is none."""
    return lambda screen, code: "" if code is None else named(screen, table, code)


def named_reason(screen: Screen, code: str | None) -> str:
    """A reason in words, with its code."""
    return "" if code is None else f"{reason_text(screen, code)} [{code}]"


def response_facts(code: str | None) -> dict[str, str] | None:
    """A bank's answer code for JSON."""
    if code is None:
        return None
    from gateway.banks.iso8583 import words_of

    chinese, english = words_of(code)
    return {"code": code, "zh": chinese, "en": english}


def response_text(screen: Screen, code: str | None) -> str:
    """A bank's answer in words, its code first."""
    known = response_facts(code)
    return "" if known is None else f"{known['code']} {screen.word(Pair(known['en'], known['zh']))}"


def reason_facts(code: str | None) -> dict[str, str | None] | None:
    """A reason for JSON: both languages always."""
    if code is None:
        return None
    known = REASONS.get(code)
    return {
        "code": code,
        "zh": known.zh if known else None,
        "en": known.en if known else None,
        "next_step_zh": known.next_step_zh if known else None,
        "next_step_en": known.next_step_en if known else None,
    }


def reason_text(screen: Screen, code: str | None) -> str:
    """A reason in words."""
    known = known_reason(code)
    return (code or "") if known is None else screen.word(Pair(known.en, known.zh))


def next_step(screen: Screen, code: str | None) -> str:
    """Next step for a reason."""
    known = known_reason(code)
    return "" if known is None else screen.word(Pair(known.next_step_en, known.next_step_zh))


def known_reason(code: str | None) -> Reason | None:
    """Reason of a code of the ledger, None where there is none."""
    return None if code is None else REASONS.get(code)


def event_facts(number: int | None) -> dict[str, Any] | None:
    """A special event of the toll network for JSON."""
    if number is None:
        return None
    zh, en = SPECIAL_EVENTS.get(number, (None, None))
    return {"number": number, "zh": zh, "en": en}


def yuan(amount_fen: int | None) -> str:
    """Fen as yuan for people; empty for no amount."""
    return "" if amount_fen is None else format_fen(amount_fen)


def yuan_with_currency(amount_fen: int | None) -> str:
    """Fen as yuan with the currency, where no heading says it."""
    return "" if amount_fen is None else f"{format_fen(amount_fen)} {CURRENCY}"


def class_text(screen: Screen, code: int | None) -> str:
    """Vehicle class in words, with its number."""
    if code is None:
        return ""
    if not is_vehicle_class(code):
        return f"{code}"
    known = VehicleClass(code)
    return f"{code} ({screen.word(Pair(known.en, known.zh))})"


def colour_text(screen: Screen, code: int | None) -> str:
    """Plate colour in words; empty when it was not read."""
    if code is None:
        return ""
    colour = PlateColour.of(code)
    return screen.word(Pair(colour.en, colour.zh))


def barrier_text(screen: Screen, decision: Decision) -> str | Cell:
    """Effect of a decision on the barrier; nothing where none moved."""
    return named(screen, BARRIERS, decision.release) if decision.occasion.moved else Cell("-", QUIET)


def occasion_text(screen: Screen, decision: Decision) -> str:
    """Occasion of a decision, by whom and why."""
    how = screen.word(OCCASIONS[decision.occasion])
    said = ": ".join(part for part in (decision.said_by, decision.said_why) if part)
    return f"{how}: {said}" if said else how
