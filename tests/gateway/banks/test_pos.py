"""What only POS links have: which terminal an attempt takes, and which attempt a late answer is about."""

import pytest

from gateway.banks.channel import BankAnswer, NewAttempt, NothingFree, Order
from gateway.banks.pos import PosLateAnswer
from gateway.debit.refunds import RefundRequest
from gateway.ledger import tables
from gateway.model.delivery import Delivery
from tests.gateway.debit.conftest import APPROVED, SILENT, Box, claim_request, code, live, rules_of

STAND_IN = rules_of('[stand_in.toll]\nafter = ["silent", "not_sent"]\nalso_after_codes = ["51"]\n')


@pytest.fixture
def box(tmp_path):
    return Box(tmp_path / "ledger.db", rules=STAND_IN)


def destinations(box, kind):
    return [row[0] for row in box.rows("select destination from attempt where kind = :k", k=kind)]


def test_an_advice_and_a_refund_go_out_at_the_terminal_of_their_debits_sale(box):
    """So what may still come of the sale is undone before them."""

    async def scenario(box):
        await box.charge(claim_request("k1"), SILENT)
        owed = await box.charge(claim_request("k2", mandate="m2"), code("51"))
        assert destinations(box, "advice") == ["bank-1/T0000002"]
        box.bank.answers += [SILENT, APPROVED]
        await box.drain(1)
        await box.refund(RefundRequest("r1", owed.debit_id, 500, "x", "ann"), told=True)
        assert destinations(box, "refund") == ["bank-1/T0000002"]

    live(box, scenario)


def test_a_terminal_that_is_gone_is_not_gone_back_to(box):
    async def scenario(box):
        paid = await box.charge(claim_request(), APPROVED)
        box.bank._any = ("T0000002",)
        await box.refund(RefundRequest("r1", paid.debit_id, 500, "x", "ann"), told=True)
        assert destinations(box, "refund") == ["bank-1/T0000002"]

    live(box, scenario)


def test_what_nothing_is_free_for_says_what_keeps_it(box):
    async def scenario(box):
        for n in (1, 2):
            await box.charge(claim_request(f"k{n}", mandate=f"m{n}"), SILENT)
        kept = box.rows("select id from attempt order by reference")
        asked = {"debit_id": "d", "amount_fen": 1, "contract_ref": "c"}
        new = NewAttempt("a" * 32, box.clock.utcnow())

        def change(tx):
            full = box.bank.order(tx, new, "sale", **asked, charge_point="lane-1")
            assert full == NothingFree(tuple(row[0] for row in kept))
            assert box.bank.order(tx, new, "sale", **asked, charge_point="lane-9") == NothingFree()
            assert isinstance(box.bank.order(tx, new, "advice", **asked, charge_point="lane-9"), Order)
            tx._waiting.pop(tables.pos_attempt)

        await box.in_books(change)

    live(box, scenario, check=False)


@pytest.mark.parametrize(
    ("terminal", "stan", "means"),
    [("T1", "000002", True), (None, "000002", True), ("T2", "000002", False), ("T1", "000003", False)],
)
def test_a_late_answer_may_mean_what_it_names(terminal, stan, means):
    told = PosLateAnswer(terminal, stan, BankAnswer(Delivery.ANSWERED))
    assert told.may_mean("T1/000009/000002") is means
