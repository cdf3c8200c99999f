"""What an answer says again is compared with what was asked."""

import json
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from protocols.bank.codec import Message, decode
from protocols.bank.echoes import Difference, differences
from protocols.bank.transactions import ECHOED, Profile, advice, refund, response_to, reversal, sale

PROFILE = Profile(terminal="B2E20001", merchant="990100000000001")
AT = datetime(2026, 7, 12, 1, 30, tzinfo=UTC)
ORDER = {"stan": 101, "batch": "000007", "amount_fen": 1250, "contract": "9901230000000017", "at": AT}
SALE = sale(PROFILE, **ORDER)
REQUESTS = {
    "sale": SALE,
    "advice": advice(PROFILE, **ORDER),
    "refund": refund(PROFILE, **ORDER),
    "reversal": reversal(PROFILE, SALE),
}
ALTERED = {
    3: "200000",
    4: "000000000001",
    11: "000102",
    25: "06",
    41: "B2E20002",
    42: "990100000000002",
    49: "840",
    60: "22000008",
}


def answer(request, code="00", **changes):
    fields = {n: request.fields[n] for n in ECHOED if n in request.fields}
    fields |= {int(name[1:]): value for name, value in changes.items()}
    return response_to(request, code, {n: value for n, value in fields.items() if value is not None})


def test_every_echoed_field_has_a_case():
    assert set(ALTERED) == ECHOED


@pytest.mark.parametrize("kind", REQUESTS)
def test_an_answer_that_says_the_same_differs_in_nothing(kind):
    request = REQUESTS[kind]
    assert differences(PROFILE, request, answer(request)) == ()
    assert differences(PROFILE, replace(request, mti=f"{request.mti[:3]}1"), answer(request)) == ()


@pytest.mark.parametrize("field", ALTERED)
@pytest.mark.parametrize("kind", REQUESTS)
def test_one_that_says_something_else_names_the_field(kind, field):
    request = REQUESTS[kind]
    if field == 3 and kind == "refund":
        told = answer(request, F3="000000")
    else:
        told = answer(request, **{f"F{field}": ALTERED[field]})
    (found,) = differences(PROFILE, request, told)
    assert found.field == f"F{field}"
    assert found.asked != found.answered
    assert str(found) == f"F{field} asked {found.asked}, answered {found.answered}"


@pytest.mark.parametrize("left_out", [None, "blank"])
@pytest.mark.parametrize("field", ECHOED)
def test_what_a_host_leaves_out_is_no_difference(field, left_out):
    blank = None if left_out is None else " " * len(SALE.fields.get(field, ""))
    assert differences(PROFILE, SALE, answer(SALE, **{f"F{field}": blank})) == ()


def test_of_f60_only_the_batch_is_compared():
    assert differences(PROFILE, SALE, answer(SALE, F60="30000007301")) == ()
    assert differences(PROFILE, SALE, answer(SALE, F60="22")) == ()


def test_the_amount_of_a_partial_approval_is_what_was_taken():
    assert differences(PROFILE, SALE, answer(SALE, "10", F4="000000000500")) == ()
    assert [found.field for found in differences(PROFILE, SALE, answer(SALE, "10", F4="000000000500", F49="840"))] == [
        "F49"
    ]


def test_the_hosts_own_clock_is_none_of_ours():
    assert differences(PROFILE, SALE, answer(SALE, F12="235959", F13="0101")) == ()


def test_all_differences_are_told_in_order_and_the_type_first():
    told = replace(answer(SALE, F49="840", F4="000000000001"), mti="0230")
    assert differences(PROFILE, SALE, told) == (
        Difference("MTI", "0200", "0230"),
        Difference("F4", "000000001250", "000000000001"),
        Difference("F49", "156", "840"),
    )


def test_a_partners_profile_may_leave_a_field_out():
    honest = replace(PROFILE, echoed=ECHOED - {42})
    assert differences(honest, SALE, answer(SALE, F42="990100000000002")) == ()


def test_a_real_host_answers_with_another_merchant_and_its_own_clock():
    """So both are known to happen: the first is a partner's profile, the second everybody's."""
    lines = (Path(__file__).parents[2] / "vectors" / "iso8583.jsonl").read_text().splitlines()
    vectors = {v["id"]: bytes.fromhex(v["hex"]) for v in map(json.loads, lines)}
    asked, told = decode(vectors["cups-pos-pay-req"]), decode(vectors["cups-pos-pay-rsp"])
    assert [found.field for found in differences(PROFILE, asked, told)] == ["F42"]
    assert asked.text(12) != told.text(12)
    assert isinstance(told, Message)
