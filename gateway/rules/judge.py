"""Judgement by the debit rules in one case. Pure functions: the caller brings what it knows, and acts on the answer."""

from __future__ import annotations

from enum import StrEnum

from gateway.model.answers import AnswerClass, Refusal
from gateway.model.passage import Service
from gateway.rules.loading import DebitRules
from gateway.rules.schema import Limit, Retry

GROWTH_TRIES_MAX = 64
"""Tries after which a pause has reached its maximum; keeps the power within what a float holds."""

_SERVICE_SECTIONS = {name: service.word for service in Service for name in (service.value, service.word)}
"""Section of the rules for each service, by either of its names."""


def cause_of(answer: AnswerClass | None, *, sent: bool) -> str:
    """Cause of a missing approval, in the words of `[stand_in.<service>] after`; "declined" is none of them."""
    if answer is None:
        return "silent" if sent else "not_sent"
    if answer is AnswerClass.DECLINED_FOR_NOW:
        return "declined_for_now"
    # An approval that stands is no question; one that comes here says nothing that settles anything.
    return "declined" if answer.refused else "unsettled"


def may_stand_in(
    rules: DebitRules,
    service: str,
    *,
    amount_fen: int,
    owed_fen: int,
    stood_in_today: int,
    in_debt: bool,
    mandate_limit_fen: int,
    answer: AnswerClass | None = None,
    code: str | None = None,
    sent: bool = True,
) -> str | None:
    """None when a debit may be decided in the bank's place, else the code of the reason why not.

    `answer` and `code` are the bank's, None where it said nothing; not `sent`: it never saw the request.

    `owed_fen` is what the payer owes on our word already, `stood_in_today` counts its debits stood in for on this day
    in this service; this debit is in neither. Raises KeyError for a service the rules do not know.
    """
    rule = getattr(rules.stand_in, _SERVICE_SECTIONS[service])
    if not rule.allowed:
        return "stand_in_not_offered"
    listed = code in rule.also_after_codes and answer is not AnswerClass.DECLINED
    if code in rule.never_after_codes or not (listed or cause_of(answer, sent=sent) in rule.after):
        return "stand_in_after_answer"
    if in_debt and not rule.allowed_in_debt:
        return "stand_in_in_debt"
    if rule.per_debit_fen is not None and amount_fen > rule.per_debit_fen:
        return "stand_in_amount"
    own = rule.per_obligor_owed_fen
    limit_fen = mandate_limit_fen if own is None else min(own, mandate_limit_fen)
    if owed_fen + amount_fen > limit_fen:
        return "stand_in_limit"
    if rule.per_day_count is not None and stood_in_today >= rule.per_day_count:
        return "stand_in_count"
    return None


def pause_s(retry: Retry, tries: int) -> float:
    """Seconds to wait after a try when `tries` were made before it (0 = it was the first)."""
    grown = retry.first_pause_s * retry.factor ** min(tries, GROWTH_TRIES_MAX)
    return float(min(grown, retry.max_pause_s))


def given_up(retry: Retry, *, tries: int, age_s: float) -> bool:
    """True when a message with so many tries or of such age goes to a person instead of the bank."""
    too_often = retry.max_tries > 0 and tries >= retry.max_tries
    return too_often or (retry.expire_after_s > 0 and age_s >= retry.expire_after_s)


def alarming(retry: Retry, *, count: int, oldest_age_s: float) -> bool:
    """True when somebody must be told of a queue with so many messages, the oldest so old."""
    return count >= retry.alarm_count or (count > 0 and oldest_age_s >= retry.alarm_age_s)


def recovery_after_s(rules: DebitRules, refusal: Refusal, *, tries: int, amount_fen: int) -> int | None:
    """Seconds from a refusal to the next try to recover the debt, None when there is none.

    `tries`: the recoveries made so far (0 after the refusal that made the debt).
    """
    if refusal.code is None or tries >= rules.debt.max_tries or amount_fen < rules.debt.minimum_fen:
        return None
    own = rules.debt.recovery_by_code.get(refusal.code)
    by_class = {
        AnswerClass.DECLINED: rules.debt.recovery_after_s.D,
        AnswerClass.DECLINED_FOR_NOW: rules.debt.recovery_after_s.L,
        AnswerClass.MANUAL: rules.debt.recovery_after_s.M,
    }
    schedule = own if own is not None else () if refusal.answer is None else by_class.get(refusal.answer, ())
    return schedule[min(tries, len(schedule) - 1)] if schedule else None


class ListingEffect(StrEnum):
    """Effect of listing on a payer's next debit."""

    ALLOW = "allow"
    REFUSE = "refuse"
    ATTENDANT = "attendant"


def is_listed(rules: DebitRules, *, was_listed: bool, debts_fen: int, debts_count: int, oldest_age_s: float) -> bool:
    """True when a payer with these debts stands on the box's own list; a listed one leaves it at another mark."""
    listing = rules.listing
    if debts_count == 0:
        return False
    if was_listed and debts_fen > listing.released_at_fen:
        return True
    reached = (
        (debts_fen, listing.debts_fen),
        (debts_count, listing.debts_count),
        (oldest_age_s, listing.debt_age_s),
    )
    return any(mark is not None and value >= mark for value, mark in reached)


def listing_effect(rules: DebitRules, service: str) -> ListingEffect:
    """Effect of listing at this service. Raises KeyError for a service the rules do not know."""
    return ListingEffect(getattr(rules.listing.effect, _SERVICE_SECTIONS[service]))


def limit_of(rules: DebitRules, service: str) -> Limit:
    """Limits of a mandate that states none for this service; `*` is all services together."""
    section = "all" if service == "*" else _SERVICE_SECTIONS[service]
    found: Limit = getattr(rules.limits, section)
    return found


def beyond_limit(
    *,
    amount_fen: int,
    day_fen: int,
    day_count: int,
    per_debit_fen: int | None,
    per_day_fen: int | None,
    per_day_count: int | None,
) -> str | None:
    """None when a debit keeps within the limits, else the code of the reason; None as a limit is none.

    `day_fen` and `day_count` are the payer's other debits of the day, holds included.
    """
    if per_debit_fen is not None and amount_fen > per_debit_fen:
        return "limit_per_debit"
    if per_day_fen is not None and day_fen + amount_fen > per_day_fen:
        return "limit_per_day"
    if per_day_count is not None and day_count >= per_day_count:
        return "limit_per_day_count"
    return None
