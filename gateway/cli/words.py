"""Words for the codes that stand in the ledger, in both languages, with a style where a colour helps."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

from gateway.cli.screen import BAD, DOUBTFUL, GOOD, QUIET, Cell, Screen, Words
from gateway.model.money import CURRENCY, format_fen
from gateway.model.passage import Funding, Occasion, PassageOutcome, Release
from gateway.model.plate import PlateColour
from gateway.model.reasons import REASONS, Reason
from gateway.model.special_events import SPECIAL_EVENTS
from gateway.model.states import AttemptState, DebitState, ItemState, MandateStatus, PurchaseState, RefundState
from gateway.model.vehicle_class import VehicleClass, is_vehicle_class

if TYPE_CHECKING:
    from gateway.views.decisions import Decision

Table = Mapping[str, tuple[Words, str]]

OUTCOMES: Final[Table] = MappingProxyType(
    {
        PassageOutcome.PAID.value: (Words("paid", "已付"), GOOD),
        PassageOutcome.OWED.value: (Words("owed", "欠付"), DOUBTFUL),
        PassageOutcome.DEBT.value: (Words("debt", "欠费"), DOUBTFUL),
        PassageOutcome.ENTERED.value: (Words("entered", "入口已写"), GOOD),
        PassageOutcome.REFUSED.value: (Words("refused", "拒绝"), BAD),
        PassageOutcome.UNKNOWN.value: (Words("unknown", "未定"), BAD),
        PassageOutcome.REPEAT.value: (Words("repeat", "重复"), QUIET),
    }
)
BARRIERS: Final[Table] = MappingProxyType(
    {
        Release.GO.value: (Words("open", "抬杆"), GOOD),
        Release.STOP.value: (Words("closed", "不抬杆"), BAD),
        Release.ATTENDANT.value: (Words("attendant", "人工"), DOUBTFUL),
    }
)
FUNDINGS: Final[Table] = MappingProxyType(
    {
        Funding.PURSE.value: (Words("purse", "储值卡"), ""),
        Funding.BANK_ONLINE.value: (Words("bank", "银行联机"), ""),
        Funding.ISSUER_CLEARING.value: (Words("issuer", "发行方清算"), ""),
    }
)
DEBIT_STATES: Final[Table] = MappingProxyType(
    {
        DebitState.HELD.value: (Words("held", "冻结中"), DOUBTFUL),
        DebitState.RELEASED.value: (Words("released", "已放行待清算"), ""),
        DebitState.OWED.value: (Words("owed", "欠付"), DOUBTFUL),
        DebitState.FUNDED.value: (Words("funded", "已入账"), GOOD),
        DebitState.DEBT.value: (Words("debt", "欠费"), BAD),
        DebitState.RECOVERED.value: (Words("recovered", "已追回"), GOOD),
        DebitState.WRITTEN_OFF.value: (Words("written off", "已核销"), QUIET),
        DebitState.VOIDED.value: (Words("voided", "已撤销"), QUIET),
    }
)
"""States of a debit in the order in which a claim goes through them."""

OCCASIONS: Final[Mapping[Occasion, Words]] = MappingProxyType(
    {
        Occasion.LANE: Words("at the lane", "车道实时判定"),
        Occasion.READING: Words("at the lane, when it was read again", "车道再次读取时判定"),
        Occasion.START: Words("by a start of the gateway; nothing moved at the lane", "网关启动时补判,车道未动作"),
        Occasion.PERSON: Words("by a person; nothing moved at the lane", "人工认定,车道未动作"),
    }
)
"""Occasions on which a decision is made."""

ATTEMPT_STATES: Final[Table] = MappingProxyType(
    {
        AttemptState.STORED.value: (Words("stored", "已登记"), DOUBTFUL),
        AttemptState.NOT_SENT.value: (Words("not sent", "未发送"), QUIET),
        AttemptState.APPROVED.value: (Words("approved", "批准"), GOOD),
        AttemptState.DECLINED.value: (Words("declined", "拒绝"), BAD),
        AttemptState.UNKNOWN.value: (Words("unknown", "未定"), DOUBTFUL),
        AttemptState.REVERSING.value: (Words("reversing", "冲正中"), DOUBTFUL),
        AttemptState.REVERSED.value: (Words("reversed", "已冲正"), QUIET),
        AttemptState.DISPUTED.value: (Words("disputed", "有争议"), BAD),
    }
)
PURCHASE_STATES: Final[Table] = MappingProxyType(
    {
        PurchaseState.INTENT.value: (Words("asked, no answer yet", "已发出待应答"), DOUBTFUL),
        PurchaseState.UNKNOWN.value: (Words("unknown", "未定"), DOUBTFUL),
        PurchaseState.TAKEN.value: (Words("taken", "已扣款"), GOOD),
        PurchaseState.NOT_TAKEN.value: (Words("not taken", "未扣款"), QUIET),
        PurchaseState.DISPUTED.value: (Words("disputed", "有争议"), BAD),
    }
)
MANDATE_STATES: Final[Table] = MappingProxyType(
    {
        MandateStatus.ACTIVE.value: (Words("active", "有效"), GOOD),
        MandateStatus.PAUSED.value: (Words("paused", "暂停"), DOUBTFUL),
        MandateStatus.CLOSED.value: (Words("closed", "已解约"), BAD),
    }
)
LATE_EFFECTS: Final[Mapping[str, Words]] = MappingProxyType(
    {
        "no_such_attempt": Words("no such attempt", "无此请求"),
        "ambiguous": Words("more than one attempt could be meant", "对应多笔请求"),
        "noted": Words("noted; whoever waits for it decides", "已登记,由等待方判定"),
        "settled": Words("settled the debit", "已结清该笔应收"),
        "declined": Words("declined", "已拒绝"),
        "reopened": Words("the bank's money is in suspense, its reversal is open again", "银行款转入挂账,重新冲正"),
        "closed": Words("reversal closed, the bank has nothing to undo", "冲正结束,银行未入账"),
        "told_again": Words("the bank is told again", "重新通知银行"),
        "contradicted": Words("the opposite of what was said before", "与此前应答相反"),
        "disputed": Words("disputed: the bank knows keys that were sent once", "有争议:银行称首次发送的报文重复"),
        "differs": Words("something else than was asked, it settles nothing", "与请求不符,不作结论"),
        "withdrawn": Words("approval withdrawn, the bank has booked nothing", "撤回批准,银行未入账"),
        "ignored": Words("known already", "已知,未变"),
    }
)
"""Effects of a word about an attempt in doubt, by the lower-case name of `gateway.debit.late.LateEffect`."""

ITEM_STATES: Final[Table] = MappingProxyType(
    {
        ItemState.OPEN.value: (Words("open", "待处理"), BAD),
        ItemState.EXPLAINED.value: (Words("explained", "已说明"), DOUBTFUL),
        ItemState.CORRECTED.value: (Words("corrected", "已更正"), GOOD),
        ItemState.WRITTEN_OFF.value: (Words("written off", "已核销"), QUIET),
    }
)
REFUND_STATES: Final[Table] = MappingProxyType(
    {
        RefundState.DECIDED.value: (Words("decided, not paid yet", "已决定未付"), DOUBTFUL),
        RefundState.PAID.value: (Words("paid", "已付"), GOOD),
    }
)
REFUND_TARGETS: Final[Mapping[str, Words]] = MappingProxyType(
    {
        "bank": Words("bank", "银行"),
        "issuer": Words("issuer", "发行方"),
        "till": Words("till", "现金"),
    }
)
PROPOSED: Final = Words(
    "proposed; somebody else must give the same command, from an account of their own",
    "已提出,须由另一账号以同一命令确认",
)

"""A write-off that waits for its second person."""


def named(screen: Screen, table: Table, code: str | None) -> Cell:
    """A code in words; the code itself where the table does not know it, nothing where there is none."""
    if code is None:
        return Cell("")
    words, style = table.get(code, (Words(code, code), ""))
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
    return "" if known is None else f"{known['code']} {screen.say(known['en'], known['zh'])}"


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
    return (code or "") if known is None else screen.say(known.en, known.zh)


def next_step(screen: Screen, code: str | None) -> str:
    """Next step for a reason."""
    known = known_reason(code)
    return "" if known is None else screen.say(known.next_step_en, known.next_step_zh)


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
    return f"{code} ({screen.say(known.en, known.zh)})"


def colour_text(screen: Screen, code: int | None) -> str:
    """Plate colour in words; empty when it was not read."""
    if code is None:
        return ""
    colour = PlateColour.of(code)
    return screen.say(colour.en, colour.zh)


def barrier_text(screen: Screen, decision: Decision) -> str | Cell:
    """Effect of a decision on the barrier; nothing where none moved."""
    return named(screen, BARRIERS, decision.release) if decision.occasion.moved else Cell("-", QUIET)


def occasion_text(screen: Screen, decision: Decision) -> str:
    """Occasion of a decision, by whom and why."""
    how = screen.word(OCCASIONS[decision.occasion])
    said = ": ".join(part for part in (decision.said_by, decision.said_why) if part)
    return f"{how}: {said}" if said else how
