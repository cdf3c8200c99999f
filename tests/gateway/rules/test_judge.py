"""What the rules say in single cases, with the rules shipped and with changed ones."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.model.answers import NOTHING_SAID, UNANSWERED, AnswerClass, Refusal
from gateway.model.reasons import REASONS
from gateway.rules.judge import (
    ListingEffect,
    alarming,
    beyond_limit,
    given_up,
    is_listed,
    limit_of,
    listing_effect,
    may_stand_in,
    pause_s,
    recovery_after_s,
)
from gateway.rules.loading import SHIPPED, parse_rules, shipped_rules
from protocols.bank.responses import RESPONSE_TABLES, ResponseClass, response_code

SERVICES = ("toll", "fuel", "parking", "counter", "service_area")


def rules_with(text):
    return parse_rules(f'version = "t"\n{text}'.encode(), SHIPPED)


ANSWERS = {
    ResponseClass.APPROVED: AnswerClass.UNSETTLED,  # in part, or of something else than was asked
    ResponseClass.DECLINED: AnswerClass.DECLINED,
    ResponseClass.DECLINED_FOR_NOW: AnswerClass.DECLINED_FOR_NOW,
    ResponseClass.MANUAL: AnswerClass.MANUAL,
    ResponseClass.UNKNOWN: AnswerClass.UNSETTLED,
    ResponseClass.KEYS: AnswerClass.UNSETTLED,
}
SILENT, NOT_SENT = {}, {"sent": False}


def answered(code):
    return {"answer": ANSWERS[response_code(code).response_class], "code": code}


def stand_in(rules=None, service="toll", **more):
    case = {
        "amount_fen": 1500,
        "owed_fen": 0,
        "stood_in_today": 0,
        "in_debt": False,
        "mandate_limit_fen": 5000,
    }
    refusal = may_stand_in(rules or shipped_rules(), service, **case | more)
    assert refusal is None or refusal in REASONS
    return refusal


# --- the rules shipped do what the engine did before there were rules -----------------------------------------------


def test_the_deadline_is_divided_as_before():
    deadline = shipped_rules().deadline
    assert (deadline.kept_back_ms, deadline.bank_worth_asking_ms) == (250, 50)


@pytest.mark.parametrize("kind", ["reversal", "advice"])
def test_messages_are_repeated_as_before(kind):
    retry = getattr(shipped_rules().retry, kind)
    assert [pause_s(retry, n) for n in range(8)] == [1, 2, 4, 8, 16, 32, 60, 60]
    assert retry.answer_timeout_s == 5.0
    assert not given_up(retry, tries=1_000_000, age_s=1e9)


@given(amount=st.integers(1, 9000), owed=st.integers(0, 9000), limit=st.integers(0, 9000), debt=st.booleans())
def test_a_toll_is_stood_in_for_up_to_the_mandates_limit_as_before(amount, owed, limit, debt):
    found = stand_in(amount_fen=amount, owed_fen=owed, mandate_limit_fen=limit, in_debt=debt, stood_in_today=99)
    assert found == (None if owed + amount <= limit else "stand_in_limit")


# --- standing in ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("word", "refusal"),
    [
        (SILENT, None),
        (NOT_SENT, None),
        (answered("96"), None),
        (answered("A0"), None),
        (answered("10"), None),
        (answered("51"), "stand_in_after_answer"),
        (answered("91"), "stand_in_after_answer"),
        (answered("41"), "stand_in_after_answer"),
        (answered("30"), "stand_in_after_answer"),
        (answered("ZZ"), None),
        ({"answer": AnswerClass.UNSETTLED, "code": "51"}, None),
        ({"answer": AnswerClass.UNSETTLED, "code": "PAYING"}, None),
        ({"answer": AnswerClass.DUPLICATE, "code": "94"}, None),
    ],
    ids=str,
)
def test_standing_in_depends_on_the_banks_word(word, refusal):
    assert stand_in(**word) == refusal


@pytest.mark.parametrize("code", sorted({code for table in RESPONSE_TABLES.values() for code in table.codes}))
def test_no_final_refusal_can_be_stood_in_for_even_where_all_causes_are_allowed(code):
    rules = rules_with('[stand_in.toll]\nafter = ["silent", "not_sent", "unsettled", "declined_for_now"]\n')
    final = response_code(code).response_class.value in "DM"
    assert (stand_in(rules, **answered(code)) is not None) == final


def test_causes_and_codes_can_be_chosen():
    only_silence = rules_with('[stand_in.toll]\nafter = ["silent"]\nalso_after_codes = ["91"]\n')
    assert stand_in(only_silence) is None
    assert stand_in(only_silence, **answered("91")) is None
    assert stand_in(only_silence, **NOT_SENT) == "stand_in_after_answer"
    assert stand_in(only_silence, **answered("96")) == "stand_in_after_answer"
    never = rules_with('[stand_in.toll]\nalso_after_codes = ["91"]\nnever_after_codes = ["91", "96"]\n')
    assert stand_in(never, **answered("91")) == "stand_in_after_answer"
    assert stand_in(never, **answered("96")) == "stand_in_after_answer"
    assert stand_in(never, **answered("98")) is None


def test_no_list_of_codes_lets_a_final_refusal_be_stood_in_for():
    rules = rules_with('[stand_in.toll]\nalso_after_codes = ["41", "30", "NOTENOUGH"]\n')
    assert stand_in(rules, **answered("41")) == "stand_in_after_answer"
    assert stand_in(rules, **answered("30")) is None
    assert stand_in(rules, answer=AnswerClass.DECLINED_FOR_NOW, code="NOTENOUGH") is None


@pytest.mark.parametrize(
    ("more", "refusal"),
    [
        ({}, None),
        ({"amount_fen": 30000, "mandate_limit_fen": 30000}, None),
        ({"amount_fen": 30001, "mandate_limit_fen": 90000}, "stand_in_amount"),
        ({"stood_in_today": 1}, "stand_in_count"),
        ({"in_debt": True}, "stand_in_in_debt"),
        ({"owed_fen": 3500}, None),
        ({"owed_fen": 3501}, "stand_in_limit"),
        ({"mandate_limit_fen": 0}, "stand_in_limit"),
    ],
    ids=str,
)
def test_fuel_is_guarded_more(more, refusal):
    assert stand_in(service="fuel", **more) == refusal


@pytest.mark.parametrize("service", ["counter", "service_area"])
def test_a_counter_never_stands_in(service):
    assert stand_in(service=service, mandate_limit_fen=10**9) == "stand_in_not_offered"


def test_of_the_rules_limit_and_the_mandates_the_smaller_counts():
    rules = rules_with("[stand_in.toll]\nper_obligor_owed_fen = 2000\n")
    assert stand_in(rules, owed_fen=500) is None
    assert stand_in(rules, owed_fen=501) == "stand_in_limit"
    assert stand_in(rules, mandate_limit_fen=1499) == "stand_in_limit"


def test_an_unknown_service_is_no_quiet_yes():
    with pytest.raises(KeyError):
        stand_in(service="ferry")
    with pytest.raises(KeyError):
        listing_effect(shipped_rules(), "ferry")
    with pytest.raises(KeyError):
        limit_of(shipped_rules(), "ferry")


# --- messages -------------------------------------------------------------------------------------------------------


def test_pauses_grow_to_their_maximum_and_never_overflow():
    retry = rules_with("[retry.refund]\nfirst_pause_s = 2\nfactor = 3\nmax_pause_s = 50\n").retry.refund
    assert [pause_s(retry, n) for n in (0, 1, 2, 3, 4, 10**9)] == [2, 6, 18, 50, 50, 50]


def test_giving_up_by_tries_and_by_age():
    retry = rules_with("[retry.recovery]\nmax_tries = 3\nexpire_after_s = 100\n").retry.recovery
    assert not given_up(retry, tries=2, age_s=99.9)
    assert given_up(retry, tries=3, age_s=0)
    assert given_up(retry, tries=0, age_s=100)


def test_alarms_by_age_and_by_count():
    retry = rules_with("[retry.advice]\nalarm_age_s = 60\nalarm_count = 10\n").retry.advice
    assert not alarming(retry, count=9, oldest_age_s=59.9)
    assert alarming(retry, count=10, oldest_age_s=0)
    assert alarming(retry, count=1, oldest_age_s=60)
    assert not alarming(retry, count=0, oldest_age_s=1e9)


# --- debts ----------------------------------------------------------------------------------------------------------


def schedule(rules, code, amount_fen=1500):
    refusal = NOTHING_SAID if code is None else Refusal(answered(code)["answer"], code)
    return [recovery_after_s(rules, refusal, tries=n, amount_fen=amount_fen) for n in range(7)]


def test_debts_are_tried_again_by_the_answer_that_made_them():
    rules = shipped_rules()
    assert schedule(rules, "51") == [3600, 86400, 259200, 604800, 1296000, None, None]
    assert schedule(rules, "91")[0] == 600
    assert recovery_after_s(rules, UNANSWERED, tries=0, amount_fen=1500) == 600
    for code in ("41", "14", "03", "30", "ZZ", None):
        assert schedule(rules, code) == [None] * 7


def test_a_short_schedule_repeats_its_last_pause_and_a_long_one_is_cut():
    longer = rules_with("[debt]\nmax_tries = 6\n[debt.recovery_after_s]\nL = [10, 20]\n")
    assert schedule(longer, "51") == [10, 20, 20, 20, 20, 20, None]
    shorter = rules_with("[debt]\nmax_tries = 1\n")
    assert schedule(shorter, "51") == [3600] + [None] * 6


def test_a_codes_own_schedule_goes_first_even_an_empty_one():
    rules = rules_with("[debt.recovery_by_code]\n51 = []\n14 = [5]\n")
    assert schedule(rules, "51") == [None] * 7
    assert schedule(rules, "14")[:2] == [5, 5]
    assert schedule(rules, "61")[0] == 3600


def test_small_debts_are_left_alone():
    rules = rules_with("[debt]\nminimum_fen = 100\n")
    assert schedule(rules, "51", 99) == [None] * 7
    assert schedule(rules, "51", 100)[0] == 3600


# --- the list of debtors --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("was", "fen", "count", "age_s", "listed"),
    [
        (False, 0, 0, 0, False),
        (False, 19_999, 2, 2_591_999, False),
        (False, 20_000, 1, 0, True),
        (False, 3, 3, 0, True),
        (False, 1, 1, 2_592_000, True),
        (True, 1, 1, 0, True),
        (True, 0, 0, 0, False),
    ],
)
def test_who_is_listed(was, fen, count, age_s, listed):
    found = is_listed(shipped_rules(), was_listed=was, debts_fen=fen, debts_count=count, oldest_age_s=age_s)
    assert found is listed


def test_marks_can_be_switched_off_and_the_release_moved():
    rules = rules_with(
        '[listing]\ndebts_fen = 1000\ndebts_count = "never"\ndebt_age_s = "never"\nreleased_at_fen = 500\n'
    )
    case = {"debts_count": 50, "oldest_age_s": 1e9}
    assert not is_listed(rules, was_listed=False, debts_fen=999, **case)
    assert is_listed(rules, was_listed=False, debts_fen=1000, **case)
    assert is_listed(rules, was_listed=True, debts_fen=501, **case)
    assert not is_listed(rules, was_listed=True, debts_fen=500, **case)


def test_what_a_listed_payer_meets():
    effects = {service: listing_effect(shipped_rules(), service) for service in SERVICES}
    assert effects == {
        "toll": ListingEffect.ALLOW,
        "fuel": ListingEffect.REFUSE,
        "parking": ListingEffect.ATTENDANT,
        "counter": ListingEffect.REFUSE,
        "service_area": ListingEffect.REFUSE,
    }
    assert "debts_listed" in REASONS


# --- limits ---------------------------------------------------------------------------------------------------------


def test_no_limits_are_shipped():
    for service in (*SERVICES, "*"):
        limit = limit_of(shipped_rules(), service)
        assert (limit.per_debit_fen, limit.per_day_fen, limit.per_day_count) == (None, None, None)


def test_limits_are_by_service_and_for_all_together():
    rules = rules_with("[limits.all]\nper_day_fen = 9\n[limits.counter]\nper_day_fen = 5\n")
    assert limit_of(rules, "*").per_day_fen == 9
    assert limit_of(rules, "service_area").per_day_fen == 5
    assert limit_of(rules, "toll").per_day_fen is None


@pytest.mark.parametrize(
    ("case", "refusal"),
    [
        ({"amount_fen": 100}, None),
        ({"amount_fen": 101}, "limit_per_debit"),
        ({"amount_fen": 100, "day_fen": 200}, None),
        ({"amount_fen": 100, "day_fen": 201}, "limit_per_day"),
        ({"amount_fen": 1, "day_count": 2}, None),
        ({"amount_fen": 1, "day_count": 3}, "limit_per_day_count"),
        ({"amount_fen": 1000, "per_debit_fen": None}, "limit_per_day"),
        ({"amount_fen": 1000, "per_debit_fen": None, "per_day_fen": None}, None),
        ({"amount_fen": 1, "day_count": 3, "per_day_count": None}, None),
    ],
    ids=str,
)
def test_limits(case, refusal):
    usual = {"day_fen": 0, "day_count": 0, "per_debit_fen": 100, "per_day_fen": 300, "per_day_count": 3}
    found = beyond_limit(**usual | case)
    assert found == refusal
    assert found is None or found in REASONS
