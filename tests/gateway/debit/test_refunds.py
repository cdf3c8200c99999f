"""Refunds: decided once, never above what came in, paid by whoever took it, and exact in the books all the way."""

import asyncio

import pytest

from gateway.debit.conclusions import issuer_paid
from gateway.debit.refunds import Refunded, RefundRefused, RefundRequest, pay_at_till, pay_refund
from gateway.model.answers import AnswerClass
from gateway.model.passage import Funding, Service

from .conftest import (
    APPROVED,
    DECLINED,
    NOT_SENT,
    SILENT,
    Box,
    charge,
    claim_request,
    code,
    hold_request,
    live,
    rules_of,
)

pytestmark = pytest.mark.slow


async def paid_debit(box, key="k1", amount=1500):
    return (await box.charge(claim_request(key, amount=amount), APPROVED)).debit_id


async def refund(box, debit_id, amount, key="r1", *, told=True, **more):
    request = RefundRequest(key, debit_id, amount, "complaint", "ann", **more)
    return await box.refund(request, told=told)


def books(box):
    return {kind: box.balance(kind) for kind in ("merchant", "due_back", "bank", "issuer", "till")}


# --- how much -----------------------------------------------------------------------------------------------------


def test_a_part_and_then_the_rest(box):
    async def scenario(box):
        debit_id = await paid_debit(box)
        first = await refund(box, debit_id, 500)
        assert (first.target, first.state, first.replayed) == ("bank", "decided", False)
        assert books(box) == {"merchant": 1000, "due_back": 500, "bank": -1500, "issuer": 0, "till": 0}
        box.bank.answers.append(APPROVED)
        await box.drain(1)
        assert books(box) == {"merchant": 1000, "due_back": 0, "bank": -1000, "issuer": 0, "till": 0}
        assert await refund(box, debit_id, 1001, "r2") == RefundRefused("refund_above_collected")
        await refund(box, debit_id, 1000, "r2")
        box.bank.answers.append(APPROVED)
        await box.drain(1)
        assert await refund(box, debit_id, 1, "r3") == RefundRefused("refund_above_collected")

    live(box, scenario)
    assert box.kinds() == ["sale", "refund", "refund"]
    assert books(box) == {"merchant": 0, "due_back": 0, "bank": 0, "issuer": 0, "till": 0}
    assert box.rows("select collected, refunded, state from debit") == [(1500, 1500, "funded")]
    assert box.rows("select event, amount, original_id from transfer where event like 'refund%' order by id") == [
        ("refund_decided", 500, 2),
        ("refund_paid", 500, None),
        ("refund_decided", 1000, 2),
        ("refund_paid", 1000, None),
    ]


@pytest.mark.parametrize("amount", [0, -1, 1501])
def test_never_above_what_was_collected_and_never_nothing(box, amount):
    async def scenario(box):
        return await refund(box, await paid_debit(box), amount)

    assert live(box, scenario) == RefundRefused("refund_above_collected")
    assert box.balance("due_back") == 0


@pytest.mark.parametrize("answer", [DECLINED, SILENT, NOT_SENT])
def test_what_did_not_come_in_is_not_given_back(box, answer):
    async def scenario(box):
        decision = await box.charge(claim_request(), answer)
        return await refund(box, decision.debit_id, 1)

    assert live(box, scenario) == RefundRefused("refund_above_collected")


def test_a_debit_that_is_not_there(box):
    async def scenario(box):
        return await refund(box, "0" * 32, 1)

    assert live(box, scenario) == RefundRefused("debit_unknown")


def test_refunds_at_once_never_pass_what_was_collected(box):
    async def scenario(box):
        debit_id = await paid_debit(box)
        # By people's programs: no bank is told yet, so none of them is in doubt.
        found = await asyncio.gather(*(refund(box, debit_id, 400, f"r{n}", told=False) for n in range(5)))
        assert [type(one) for one in found].count(Refunded) == 3
        assert found.count(RefundRefused("refund_above_collected")) == 2

    live(box, scenario)
    assert box.balance("due_back") == 1200


def test_while_a_refund_is_on_its_way_the_next_one_waits(box):
    async def scenario(box):
        debit_id = await paid_debit(box)
        assert isinstance(await refund(box, debit_id, 400), Refunded)
        found = await asyncio.gather(*(refund(box, debit_id, 400, f"r{n}") for n in (2, 3)))
        assert found == [RefundRefused("bank_in_doubt")] * 2

    live(box, scenario)
    assert box.balance("due_back") == 400


def test_refunds_decided_at_the_same_moment_are_each_told_once_and_never_more_than_was_collected(box):
    async def scenario(box):
        debit_id = await paid_debit(box)
        asked = (refund(box, debit_id, 600, f"r{n}", told=False) for n in range(3))
        found = await asyncio.gather(*asked)
        assert sorted(type(one).__name__ for one in found) == ["RefundRefused", "Refunded", "Refunded"]
        assert RefundRefused("refund_above_collected") in found
        for _ in range(3):
            await box.collector.round()
            box.bank.answers.extend([APPROVED] * 2)
            await box.drain(1)

    live(box, scenario)
    assert box.kinds() == ["sale", "refund", "refund"]
    assert (box.states("refund"), box.balance("bank"), box.balance("due_back")) == (["paid"] * 2, -300, 0)


# --- once ---------------------------------------------------------------------------------------------------------


def test_the_same_key_is_the_same_refund_also_after_a_restart_and_at_once(box):
    found = []

    async def first(box):
        box.debit_id = await paid_debit(box)
        found.extend(await asyncio.gather(*(refund(box, box.debit_id, 500) for _ in range(10))))

    async def second(box):
        found.append(await refund(box, box.debit_id, 500))
        assert await refund(box, box.debit_id, 501) == RefundRefused("idempotency_conflict")
        assert await refund(box, box.debit_id, 500, target="till") == RefundRefused("idempotency_conflict")
        other = await paid_debit(box, "k2")
        assert await refund(box, other, 500) == RefundRefused("idempotency_conflict")
        box.bank.answers.append(APPROVED)
        await box.drain(2)
        again = await refund(box, box.debit_id, 500)
        assert (again.state, again.replayed) == ("paid", True)

    live(box, first, second)
    assert len({one.refund_id for one in found}) == 1
    assert sum(not one.replayed for one in found) == 1
    assert box.kinds().count("refund") == 1
    assert box.balance("bank") == -1500 * 2 + 500


# --- the bank's part ----------------------------------------------------------------------------------------------


def test_a_bank_that_is_silent_hears_the_same_message_again_and_nothing_is_reversed(box):
    async def scenario(box):
        debit_id = await paid_debit(box)
        await refund(box, debit_id, 500)
        box.bank.answers.extend([SILENT, NOT_SENT, code("96", AnswerClass.UNSETTLED), APPROVED])
        for _ in range(4):
            await box.drain(1)
            box.clock.now += 600
        assert await refund(box, debit_id, 500, "r2") != RefundRefused("bank_in_doubt")

    live(box, scenario)
    sent = [message for message in box.bank.heard if message.startswith("refund")]
    assert sent == ["refund T0000001 000002 500 contract-m1"] + ["refund T0000001 000002 500 contract-m1 again"] * 3
    assert "reversal" not in box.kinds()
    assert box.states("refund") == ["paid", "decided"]


def test_a_refund_that_may_have_left_before_a_power_cut_is_repeated(box):
    async def first(box):
        await refund(box, await paid_debit(box), 500)

        async def dies(request, *, timeout_s):
            raise asyncio.CancelledError

        box.exchange, box.bank.exchange = box.bank.exchange, dies
        with pytest.raises(asyncio.CancelledError):
            await box.drain(1)
        box.bank.exchange = box.exchange

    async def second(box):
        found, _ = await box.start_up()
        assert found.refunds_waiting == 1
        assert found.sales_in_doubt == 0
        box.bank.answers.append(APPROVED)
        await box.drain(1)

    live(box, first, second)
    assert box.bank.heard[-1].endswith("again")
    assert box.states("refund") == ["paid"]


def test_a_refund_the_bank_refuses_stays_due_until_a_till_pays_it(box):
    async def scenario(box):
        refunded = await refund(box, await paid_debit(box), 500)
        at_till = pay_at_till
        assert await box.in_books(lambda tx: at_till(tx, refunded.refund_id, "till-1", "bob")) == "bank_in_doubt"
        box.bank.answers.append(code("14"))
        await box.drain(2)
        assert box.items() == [("refund_declined", "open")]
        assert box.rows("select note from item") == [("the bank refused it: 14",)]
        assert (box.balance("due_back"), box.balance("bank")) == (500, -1500)
        box.check()
        assert await box.in_books(lambda tx: at_till(tx, refunded.refund_id, "till-1", "bob")) is None
        assert await box.in_books(lambda tx: at_till(tx, refunded.refund_id, "till-1", "bob")) == "refund_paid_before"
        assert await box.in_books(lambda tx: at_till(tx, "0" * 32, "till-1", "bob")) == "refund_unknown"

    live(box, scenario)
    assert box.items() == [("refund_declined", "corrected")]
    assert books(box) == {"merchant": 1000, "due_back": 0, "bank": -1500, "issuer": 0, "till": 500}
    assert box.rows("select owner from account where kind = 'till'") == [("till-1",)]


def test_a_refund_that_is_given_up_is_a_persons_and_told_again_it_may_be_given_up_again(tmp_path):
    box = Box(tmp_path / "ledger.db", rules=rules_of("[retry.refund]\nmax_tries = 2"))

    async def scenario(box):
        refunded = await refund(box, await paid_debit(box), 500)
        for _ in range(2):
            for _ in range(3):
                box.bank.answers.append(SILENT)
                await box.drain(1)
                box.clock.now += 600
            box.bank.answers.clear()
            assert box.queued() == 0
            assert box.items() == [("refund_unanswered", "open")]
            assert box.states("refund") == ["decided"]
            box.check()
            attempt = box.rows("select id from attempt where kind = 'refund'")[0][0]
            await box.resolve_attempt(attempt, posted=False, source="call", actor="bob")
            assert box.items() == [("refund_unanswered", "corrected")]
        box.bank.answers.append(APPROVED)
        await box.drain(2)
        assert (await refund(box, refunded.debit_id, 500)).state == "paid"

    live(box, scenario)
    assert box.balance("bank") == -1000


def test_a_late_answer_to_a_refund_counts_once(box):
    async def scenario(box):
        await refund(box, await paid_debit(box), 500)
        box.bank.answers.append(SILENT)
        await box.drain(1)
        for _ in range(2):
            await box.heard_late(APPROVED, stan="000002")
        box.clock.now += 600
        await box.drain(2)

    live(box, scenario)
    assert box.kinds() == ["sale", "refund"]
    assert books(box) == {"merchant": 1000, "due_back": 0, "bank": -1000, "issuer": 0, "till": 0}


def test_what_a_person_decided_in_a_program_of_its_own_is_told_by_the_collector(box):
    async def scenario(box):
        debit_id = await paid_debit(box)
        await box.collector.round()
        await refund(box, debit_id, 500, told=False)
        assert box.queued() == 0
        await box.collector.round()
        await box.collector.round()
        assert box.queued() == 1
        box.bank.answers.append(APPROVED)
        await box.drain(1)

    live(box, scenario)
    assert box.states("refund") == ["paid"]


def test_a_debit_in_doubt_is_not_refunded(box):
    """Its approval was heard, then contradicted: nobody knows what the bank did."""

    async def scenario(box):
        decision = await box.charge(claim_request(), SILENT)
        box.bank.answers.extend([APPROVED, APPROVED])
        await box.drain(2)
        await box.heard_late(APPROVED)
        assert box.states() == ["funded"]
        return await refund(box, decision.debit_id, 500)

    assert live(box, scenario) == RefundRefused("bank_in_doubt")


# --- where it goes ------------------------------------------------------------------------------------------------


def test_a_purse_is_refunded_by_its_issuer(box):
    async def scenario(box):
        decision = await charge(box, hold_request(funding=Funding.PURSE))
        refunded = await refund(box, decision.debit_id, 500)
        assert refunded.target == "issuer"
        assert books(box) == {"merchant": 1000, "due_back": 500, "bank": 0, "issuer": -1500, "till": 0}
        assert await box.in_books(lambda tx: pay_refund(tx, refunded.refund_id)) is True
        assert await box.in_books(lambda tx: pay_refund(tx, refunded.refund_id)) is False

    live(box, scenario)
    assert box.bank.heard == []
    assert books(box) == {"merchant": 1000, "due_back": 0, "bank": 0, "issuer": -1000, "till": 0}


def test_an_issuers_claim_is_refunded_once_it_has_paid(box):
    async def scenario(box):
        decision = await box.charge(claim_request(funding=Funding.ISSUER_CLEARING))
        assert await refund(box, decision.debit_id, 1) == RefundRefused("refund_above_collected")
        await box.in_books(lambda tx: issuer_paid(tx, decision.debit_id))
        return await refund(box, decision.debit_id, 1500)

    assert live(box, scenario).target == "issuer"


@pytest.mark.parametrize("target", ["issuer", "bank-1", "cash", ""])
def test_money_goes_back_the_way_it_came_or_over_a_till(box, target):
    async def scenario(box):
        debit_id = await paid_debit(box)
        if target:
            assert await refund(box, debit_id, 500, target=target) == RefundRefused("refund_target_wrong")
        purse = (await charge(box, hold_request("p1", funding=Funding.PURSE))).debit_id
        assert await refund(box, purse, 500, "r2", target="bank") == RefundRefused("refund_target_wrong")
        by_hand = await refund(box, debit_id, 500, "r3", target="till")
        assert (by_hand.target, by_hand.state) == ("till", "decided")
        assert await box.in_books(lambda tx: pay_at_till(tx, by_hand.refund_id, "till-2", "bob")) is None

    live(box, scenario)
    assert box.kinds() == ["sale"]
    assert box.balance("till") == 500


# --- corrections of what is not paid yet --------------------------------------------------------------------------


@pytest.mark.parametrize("amount", [1200, 1800])
def test_an_unpaid_claim_is_put_right_by_a_linked_transfer(box, amount):
    async def scenario(box):
        decision = await box.charge(claim_request(funding=Funding.ISSUER_CLEARING))
        assert await box.adjust(decision.debit_id, amount, "wrong class", "ann") is None
        assert await box.adjust(decision.debit_id, amount, "wrong class", "ann") is None

    live(box, scenario)
    assert (box.balance("open"), box.balance("merchant")) == (-amount, amount)
    assert box.rows("select event, amount, original_id from transfer order by id desc limit 1") == [
        ("correction", 300, 2)
    ]
    assert box.rows("select amount from debit") == [(amount,)]


def test_what_cannot_be_put_right(box):
    async def scenario(box):
        unknown = "0" * 32
        held = (await box.engine.hold(claim_request("h", service=Service.FUEL), timeout_s=5)).debit_id
        paid = await paid_debit(box)
        in_doubt = (await box.charge(claim_request("k2"), SILENT)).debit_id
        return [await box.adjust(debit, 1, "x", "ann") for debit in (unknown, held, paid, in_doubt)]

    assert live(box, scenario) == ["debit_unknown", "debit_held", "debit_settled", "bank_in_doubt"]


def test_a_claim_is_never_negative(box):
    async def scenario(box):
        debit_id = (await box.charge(claim_request(), DECLINED)).debit_id
        with pytest.raises(ValueError, match="never negative"):
            await box.adjust(debit_id, -1, "x", "ann")

    live(box, scenario)
    assert box.rows("select amount from debit") == [(1500,)]


def test_a_debt_corrected_to_nothing_is_over_and_no_bank_hears_of_it(box):
    async def scenario(box):
        decision = await box.charge(claim_request(), DECLINED)
        assert await box.adjust(decision.debit_id, 0, "never passed", "ann") is None
        box.check()
        box.clock.now += 86_400 * 30
        await box.collector.round()
        await box.drain()

    live(box, scenario)
    assert box.kinds() == ["sale"]
    assert box.rows("select amount, retry_at from debit") == [(0, None)]
    assert (box.balance("debt"), box.balance("merchant")) == (0, 0)
