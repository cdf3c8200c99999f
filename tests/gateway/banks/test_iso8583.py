"""A bank over ISO 8583 in the engine's words: verdicts, late answers, repeats, and contracts it cannot carry."""

import asyncio
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from gateway.banks.iso8583 import Iso8583Channel, TransportError
from gateway.banks.pos import PosLateAnswer, PosOrder
from gateway.model.answers import AnswerClass
from gateway.model.delivery import Delivery
from protocols.bank.codec import decode
from protocols.bank.responses import CUPS_POS, ISO_1987, ResponseClass
from protocols.bank.transactions import Profile, response_to

PROFILE = Profile(terminal="99010001", merchant="990100000000001", max_message_age_s=42)
AT = datetime(2026, 11, 23, 2, tzinfo=UTC)
ORDER = PosOrder("99010002", "000007", "000123", 1500, "9901230000000017", AT)


class Wire:
    """Answers every message with one response code, or fails as told."""

    def __init__(self, outcome):
        self.outcome = outcome
        self.up = not isinstance(outcome, Exception)
        self.sent = []
        self.timeout_s = None

    async def exchange(self, request, *, timeout_s):
        self.sent.append(request)
        self.timeout_s = timeout_s
        if isinstance(self.outcome, Exception):
            raise self.outcome
        return answer(request, self.outcome)


def answer(message, code):
    message = decode(message) if isinstance(message, bytes) else message
    return response_to(message, code, {11: message.fields[11], 37: "000000004711", 41: message.fields[41]})


def channel(outcome="00"):
    wire = Wire(outcome)
    return Iso8583Channel("bank-1", PROFILE, {}, wire), wire


def ask(kind, outcome):
    bank, wire = channel(outcome)
    found = asyncio.run(bank.exchange(bank.message(kind, ORDER), timeout_s=1.5))
    assert wire.timeout_s == 1.5
    return found


def test_a_channel_has_a_name_and_an_age():
    bank, _ = channel()
    assert (bank.name, bank.max_message_age_s) == ("bank-1", 42.0)


@pytest.mark.parametrize("up", [True, False])
def test_it_is_up_as_long_as_its_link_is(up):
    bank, wire = channel()
    wire.up = up
    assert bank.up is up


@pytest.mark.parametrize(("kind", "mti"), [("sale", "0200"), ("reversal", "0400"), ("advice", "0220")])
def test_an_order_becomes_a_message_with_its_own_keys(kind, mti):
    bank, _ = channel()
    message = decode(bank.message(kind, ORDER), PROFILE.dialect)
    assert message.mti == mti
    fields = message.fields
    assert (fields[41], fields[42]) == ("99010002", PROFILE.merchant), "the order's terminal, not the profile's"
    assert (int(fields[11]), int(fields[4])) == (123, 1500)
    assert "000007" in str(fields[60])


def test_a_reversal_has_the_keys_of_its_sale():
    bank, _ = channel()
    sale, reversal = (decode(bank.message(kind, ORDER), PROFILE.dialect) for kind in ("sale", "reversal"))
    for field in (3, 4, 11, 22, 25, 41, 42, 49):
        assert sale.fields[field] == reversal.fields[field], field


@pytest.mark.parametrize(("kind", "mti"), [("reversal", PROFILE.reversal_repeat_mti), ("advice", "0221")])
def test_a_repetition_differs_in_its_type_alone(kind, mti):
    bank, _ = channel()
    first = bank.message(kind, ORDER)
    again = decode(bank.repeat(first), PROFILE.dialect)
    assert again.mti == mti
    assert again == replace(decode(first, PROFILE.dialect), mti=mti)
    assert bank.repeat(bank.repeat(first)) == bank.repeat(first)


EXPECTED_OF_SALE = {
    ResponseClass.APPROVED: AnswerClass.APPROVED,
    ResponseClass.DECLINED: AnswerClass.DECLINED,
    ResponseClass.DECLINED_FOR_NOW: AnswerClass.DECLINED_FOR_NOW,
    ResponseClass.MANUAL: AnswerClass.MANUAL,
    ResponseClass.UNKNOWN: AnswerClass.UNSETTLED,
    ResponseClass.KEYS: AnswerClass.UNSETTLED,
}


STRANGE = ("ZZ", "Z9", "08", "16", "32", "77", "  ")
"""Codes that the POS set does not have."""


@pytest.mark.parametrize("code", [*CUPS_POS.codes, *STRANGE])
def test_the_verdict_on_a_sale(code):
    found = ask("sale", code)
    assert (found.delivery, found.code) == (Delivery.ANSWERED, code)
    assert found.retrieval_reference == "000000004711"
    if code == "10":
        assert found.verdict is AnswerClass.UNSETTLED, "part of the fare is no approval of it"
    elif code == "94":
        assert found.verdict is AnswerClass.DUPLICATE, "whose it is depends on how often it was sent"
    elif code in STRANGE:
        assert found.verdict is AnswerClass.UNSETTLED, "never a decline"
    else:
        assert found.verdict is EXPECTED_OF_SALE[CUPS_POS.codes[code].response_class]


@pytest.mark.parametrize(("code", "verdict"), [("08", AnswerClass.APPROVED), ("16", AnswerClass.APPROVED)])
def test_what_a_code_means_is_the_dialects_affair(code, verdict):
    profile = replace(PROFILE, dialect=replace(PROFILE.dialect, responses=ISO_1987))
    bank = Iso8583Channel("bank-1", profile, {}, Wire(code))
    assert asyncio.run(bank.exchange(bank.message("sale", ORDER), timeout_s=1.0)).verdict is verdict


@pytest.mark.parametrize("code", [*CUPS_POS.codes, *STRANGE])
def test_the_verdict_on_a_reversal(code):
    """00 alone closes it, 25 closes it by age, anything else, 12 included, is repeated: it is never declined."""
    expected = {"00": AnswerClass.APPROVED, "25": AnswerClass.NOT_FOUND}
    assert ask("reversal", code).verdict is expected.get(code, AnswerClass.UNSETTLED)


@pytest.mark.parametrize(
    ("code", "verdict"),
    [
        ("00", AnswerClass.APPROVED),
        ("51", AnswerClass.DECLINED_FOR_NOW),
        ("91", AnswerClass.UNSETTLED),
        ("A0", AnswerClass.UNSETTLED),
        ("96", AnswerClass.UNSETTLED),
        ("ZZ", AnswerClass.UNSETTLED),
        ("08", AnswerClass.UNSETTLED),
        ("  ", AnswerClass.UNSETTLED),
        ("10", AnswerClass.UNSETTLED),
        ("94", AnswerClass.DUPLICATE),
    ],
)
def test_the_verdict_on_an_advice(code, verdict):
    """What may still become a yes is repeated, not made a debt."""
    assert ask("advice", code).verdict is verdict


@pytest.mark.parametrize(
    ("outcome", "delivery"),
    [
        (Delivery.NOT_SENT, Delivery.NOT_SENT),
        (Delivery.ANSWERED, Delivery.NOT_SENT),
        (Delivery.SILENT, Delivery.SILENT),
    ],
)
def test_a_link_that_fails_says_whether_the_bank_may_have_heard(outcome, delivery):
    found = ask("sale", TransportError("the link broke", outcome))
    assert (found.delivery, found.verdict, found.detail) == (delivery, None, "the link broke")


def test_an_answer_that_cannot_be_understood_is_silence():
    """The bank has spoken, and what it did is not known."""
    bank, wire = channel()

    async def without_a_code(message, *, timeout_s):
        found = answer(message, "00")
        return replace(found, fields={k: v for k, v in found.fields.items() if k != 39})

    wire.exchange = without_a_code
    found = asyncio.run(bank.exchange(bank.message("sale", ORDER), timeout_s=1.0))
    assert found.delivery is Delivery.SILENT
    assert "not understood" in found.detail


@pytest.mark.parametrize(
    ("kind", "code", "verdict"),
    [
        ("sale", "00", AnswerClass.APPROVED),
        ("sale", "51", AnswerClass.DECLINED_FOR_NOW),
        ("advice", "00", AnswerClass.APPROVED),
        ("advice", "91", AnswerClass.UNSETTLED),
    ],
)
def test_late_answers_carry_the_keys_that_find_their_attempt(kind, code, verdict):
    bank, _ = channel()
    heard = []
    bank.on_late(heard.append)
    bank.heard_late(answer(decode(bank.message(kind, ORDER), PROFILE.dialect), code))
    (late,) = heard
    assert isinstance(late, PosLateAnswer)
    assert (late.terminal, late.stan) == ("99010002", "000123")
    assert (late.answer.verdict, late.answer.code) == (verdict, code)


def test_a_late_answer_to_a_repeated_advice_is_heard():
    bank, _ = channel()
    heard = []
    bank.on_late(heard.append)
    bank.heard_late(answer(decode(bank.repeat(bank.message("advice", ORDER)), PROFILE.dialect), "00"))
    assert [late.answer.verdict for late in heard] == [AnswerClass.APPROVED]


def test_late_answers_to_reversals_and_echoes_and_rubbish_are_not():
    """A reversal is repeated until an exchange hears its answer; what says nothing is dropped."""
    bank, _ = channel()
    heard = []
    bank.heard_late(answer(decode(bank.message("sale", ORDER), PROFILE.dialect), "00"))
    bank.on_late(heard.append)
    bank.heard_late(answer(decode(bank.message("reversal", ORDER), PROFILE.dialect), "00"))
    bad = answer(decode(bank.message("sale", ORDER), PROFILE.dialect), "00")
    bank.heard_late(replace(bad, fields={k: v for k, v in bad.fields.items() if k != 11}))
    assert heard == []


@pytest.mark.parametrize(
    ("contract", "fits"),
    [("9901230000000017", True), ("", False), ("9" * 100, True), ("9" * 5000, False), ("x17", False)],
)
def test_a_contract_that_does_not_fit_is_known_before_anybody_pays(contract, fits):
    assert channel()[0].takes(contract) is fits


def test_stored_bytes_go_out_as_they_are():
    bank, wire = channel()
    request = bank.message("sale", ORDER)
    asyncio.run(bank.exchange(request, timeout_s=1.0))
    assert wire.sent == [request]


# --- answers to something else ------------------------------------------------------------------------------------


@pytest.mark.parametrize(("field", "value"), [(4, "000000000001"), (49, "840"), (42, "990100000000002")])
@pytest.mark.parametrize("kind", ["sale", "reversal", "advice", "refund"])
@pytest.mark.parametrize("code", ["00", "25", "51"])
def test_an_answer_to_something_else_settles_nothing_and_names_the_field(kind, code, field, value):
    bank, wire = channel()

    async def altered(message, *, timeout_s):
        found = answer(message, code)
        return replace(found, fields={**found.fields, field: value})

    wire.exchange = altered
    found = asyncio.run(bank.exchange(bank.message(kind, ORDER), timeout_s=1.0))
    assert (found.delivery, found.verdict, found.code) == (Delivery.ANSWERED, AnswerClass.UNSETTLED, code)
    assert found.difference.startswith(f"F{field} asked ")
    assert found.difference.endswith(f"answered {value}")


def test_that_the_bank_knows_the_keys_is_heard_whatever_else_it_says():
    """Nothing may be undone under keys that may be somebody else's."""
    bank, wire = channel()

    async def altered(message, *, timeout_s):
        found = answer(message, "94")
        return replace(found, fields={**found.fields, 4: "000000000001"})

    wire.exchange = altered
    found = asyncio.run(bank.exchange(bank.message("sale", ORDER), timeout_s=1.0))
    assert (found.verdict, found.difference is not None) == (AnswerClass.DUPLICATE, True)


def test_a_late_answer_is_compared_with_the_stored_request():
    bank, _ = channel()
    heard = []
    bank.on_late(heard.append)
    request = bank.message("sale", ORDER)
    bank.heard_late(answer(decode(request, PROFILE.dialect), "00"))
    (late,) = heard
    assert late.about(request).verdict is AnswerClass.APPROVED
    other = late.about(bank.message("sale", replace(ORDER, batch="000008", amount_fen=1)))
    assert (other.verdict, other.difference) == (AnswerClass.APPROVED, None), "what it leaves out is no difference"
    wrong = late.about(bank.message("sale", replace(ORDER, stan="000124")))
    assert (wrong.verdict, wrong.difference) == (AnswerClass.UNSETTLED, "F11 asked 000124, answered 000123")


@pytest.mark.parametrize("terminal", ["", "        "])
def test_a_late_answer_with_a_blank_terminal_names_none(terminal):
    bank, _ = channel()
    heard = []
    bank.on_late(heard.append)
    told = answer(decode(bank.message("sale", ORDER), PROFILE.dialect), "00")
    bank.heard_late(replace(told, fields={**told.fields, 41: terminal}))
    assert heard[0].terminal is None
