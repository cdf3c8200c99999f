"""A bank that can be asked what became of a sale is asked before the sale is undone."""

from dataclasses import replace

import pytest

from gateway.banks.channel import BankAnswer
from gateway.model.answers import AnswerClass
from gateway.model.delivery import Delivery
from tests.gateway.debit.conftest import (
    APPROVED,
    DECLINED,
    NOT_FOUND,
    NOT_SENT,
    SILENT,
    Box,
    ToldBank,
    claim_request,
    live,
)

WALLET_REFUSAL = BankAnswer(Delivery.ANSWERED, AnswerClass.DECLINED, "USERPAYING_AND_THEN_CLOSED_BY_US")


class AskableBank(ToldBank):
    """Says what became of a message, by its reference."""

    def __init__(self, clock):
        super().__init__(clock)
        self.known = []
        self.asked = []

    async def query(self, reference, timeout_s):
        assert timeout_s > 0
        self.asked.append(reference)
        return self.known.pop(0)


@pytest.fixture
def box(tmp_path):
    return Box(tmp_path / "ledger.db", bank=AskableBank)


REFERENCE = "T0000001/000001/000001"


@pytest.mark.parametrize(
    ("known", "state", "attempt", "messages"),
    [
        (APPROVED, "funded", "approved", []),
        (DECLINED, "debt", "declined", []),
        (WALLET_REFUSAL, "debt", "declined", []),
        (NOT_FOUND, "owed", "reversing", ["reversal"]),
        (SILENT, "owed", "reversing", ["reversal"]),
        (NOT_SENT, "owed", "reversing", ["reversal"]),
        (replace(APPROVED, verdict=AnswerClass.UNSETTLED), "owed", "reversing", ["reversal"]),
    ],
    ids=str,
)
def test_what_the_bank_says_of_a_silent_sale_counts_and_else_it_is_undone(box, known, state, attempt, messages):
    async def scenario(box):
        box.bank.known.append(known)
        await box.charge(claim_request(), SILENT)
        await box.drain(1)
        assert (box.states(), box.states("attempt")) == ([state], [attempt])
        assert (box.bank.asked, box.kinds()) == ([REFERENCE], ["sale", *messages])

    live(box, scenario)
    if known.verdict is AnswerClass.DECLINED:
        assert box.rows("select response_code, answer_class from attempt") == [(known.code, "declined")]


def test_it_is_asked_once_and_not_when_the_reversal_has_left(box):
    async def scenario(box):
        box.bank.known.append(SILENT)
        await box.charge(claim_request(), SILENT)
        await box.drain(1)
        box.clock.now += 60
        box.bank.answers.append(APPROVED)
        await box.drain(1)
        assert (box.states("attempt")[0], box.bank.asked) == ("reversed", [REFERENCE])

    live(box, scenario)


def test_what_comes_in_by_another_way_meanwhile_stands(box):
    async def scenario(box):
        async def query(reference, timeout_s):
            await box.heard_late(DECLINED)
            return APPROVED

        box.bank.query = query
        await box.charge(claim_request(), SILENT)
        await box.drain(1)
        assert (box.states(), box.states("attempt"), box.kinds()) == (["debt"], ["declined"], ["sale"])

    live(box, scenario)


def test_a_sale_left_in_doubt_by_a_crash_is_asked_about(box):
    async def first(box):
        async def gone(request, *, timeout_s):
            raise RuntimeError("power cut")

        box.bank.exchange = gone
        with pytest.raises(RuntimeError):
            await box.charge(claim_request())
        del box.bank.exchange

    async def second(box):
        box.bank.known.append(APPROVED)
        await box.start_up()
        await box.drain(1)
        assert (box.states(), box.kinds(), box.bank.asked) == (["funded"], [], [REFERENCE])

    live(box, first, second)
