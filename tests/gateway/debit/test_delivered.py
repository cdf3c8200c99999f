"""A claim for what was delivered before its card could be asked: it pays once, later, or it owes."""

from dataclasses import replace

import pytest

from gateway.debit.claims import HoldRefused, PurchasePlan, PurchaseResult
from gateway.debit.engine import ProvenClaim
from gateway.model.passage import Abandoned, Funding, PassageOutcome, PurchaseOutcome, Service

from .conftest import CONTEXT, POLICY, TAKEN, hold_request, live

MAXIMUM, DELIVERED = 20_000, 12_345
PLAN = PurchasePlan(DELIVERED, "20261123100000", 50_000, b"before", b"after")
REFUSED = PurchaseResult(PurchaseOutcome.NOT_TAKEN, reason="purse_too_low")
LOST = PurchaseResult(PurchaseOutcome.UNKNOWN)


def request(funding=Funding.PURSE):
    asked = hold_request(funding=funding, amount=MAXIMUM)
    return replace(asked, plan=None, abandoned=Abandoned.KEEP, sight=replace(asked.sight, service=Service.FUEL))


async def delivered(box):
    """A hold whose delivery is claimed."""
    placed = await box.engine.hold(request(), timeout_s=5)
    assert await box.engine.delivered.claim(placed.debit_id, DELIVERED) is None
    return placed.debit_id


async def ask(box, debit_id, result, purchase_id="b" * 32):
    """One try of the card."""
    if not await box.engine.delivered.intend(debit_id, purchase_id, PLAN):
        return None
    if result is None:
        return "asked"
    claim = ProvenClaim(debit_id, request().payer, CONTEXT, POLICY, purchase_id, result, "99010000000000000001")
    return (await box.engine.bring_in(claim, deadline=box.clock.monotonic() + 2)).decision


async def left(box, debit_id):
    return await box.engine.delivered.card_left(debit_id, "purse_card_left", CONTEXT)


def debit(box):
    return box.rows("select state, amount, collected from debit")[0]


def test_a_card_that_is_still_there_pays_what_was_delivered(box):
    async def scenario(box):
        debit_id = await delivered(box)
        taken = replace(TAKEN, balance_after=50_000 - DELIVERED)
        decision = await ask(box, debit_id, taken)
        assert (decision.outcome, decision.amount_fen) == (PassageOutcome.PAID, DELIVERED)
        assert await ask(box, debit_id, taken, "c" * 32) is None  # never twice
        assert (await left(box, debit_id)).outcome is PassageOutcome.PAID
        assert await box.engine.delivered.claim(debit_id, DELIVERED) is None
        assert box.balance("issuer") == -DELIVERED

    live(box, scenario)
    assert debit(box) == ("funded", DELIVERED, DELIVERED)


def test_a_card_that_has_left_owes_it(box):
    async def scenario(box):
        debit_id = await delivered(box)
        decision = await left(box, debit_id)
        assert (decision.outcome, decision.reason) == (PassageOutcome.DEBT, "purse_card_left")
        assert await ask(box, debit_id, TAKEN) is None  # and is not asked any more

    live(box, scenario)
    assert debit(box) == ("debt", DELIVERED, 0)


def test_a_card_that_does_not_pay_may_be_asked_again_and_then_owes_for_its_own_reason(box):
    async def scenario(box):
        debit_id = await delivered(box)
        decision = await ask(box, debit_id, REFUSED)
        assert (decision.outcome, decision.reason) == (PassageOutcome.UNKNOWN, "purse_too_low")
        assert debit(box)[0] == "held"  # what is in the tank is never let go for nothing
        assert await ask(box, debit_id, REFUSED, "c" * 32)
        assert (await left(box, debit_id)).reason == "purse_too_low"

    live(box, scenario)
    assert box.rows("select attempt_no, state from purchase order by id") == [(1, "not_taken"), (2, "not_taken")]
    assert debit(box) == ("debt", DELIVERED, 0)


@pytest.mark.parametrize("result", [None, LOST])
def test_a_card_that_may_have_paid_is_neither_asked_again_nor_in_debt(box, result):
    async def scenario(box):
        debit_id = await delivered(box)
        await ask(box, debit_id, result)
        assert await ask(box, debit_id, TAKEN, "c" * 32) is None
        assert await left(box, debit_id) is None
        assert debit(box)[0] == "held"

    live(box, scenario)


@pytest.mark.parametrize("tried", [False, REFUSED, LOST])
def test_a_start_leaves_it_to_the_card(box, tried):
    async def first(box):
        debit_id = await delivered(box)
        if tried:
            await ask(box, debit_id, tried)

    async def second(box):
        found, closed = await box.start_up()
        assert (found.open_debits, closed.decided_now, closed.not_closed) == (1, 0, 0)
        assert debit(box)[0] == "held"

    live(box, first, second)


def test_a_claim_says_one_amount_and_only_of_a_purse(box):
    async def scenario(box):
        debit_id = await delivered(box)
        assert await box.engine.delivered.claim(debit_id, DELIVERED + 1) == HoldRefused("idempotency_conflict")
        assert await box.engine.delivered.claim("0" * 32, 1) == HoldRefused("debit_unknown")
        other = replace(request(Funding.ISSUER_CLEARING), idempotency_key="k2")
        other = replace(other, sight=replace(other.sight, passage_id="d" * 32))
        placed = await box.engine.hold(other, timeout_s=5)
        assert await box.engine.delivered.claim(placed.debit_id, 1) == HoldRefused("payer_mismatch")
        assert not await box.engine.delivered.intend(debit_id, "b" * 32, replace(PLAN, written_fen=1))
        assert not await box.engine.delivered.intend(placed.debit_id, "b" * 32, PLAN)

    live(box, scenario)


def test_more_than_was_held_is_an_overrun(box):
    async def scenario(box):
        placed = await box.engine.hold(request(), timeout_s=5)
        await box.engine.delivered.claim(placed.debit_id, MAXIMUM + 500)
        await left(box, placed.debit_id)

    live(box, scenario)
    assert box.rows("select amount from transfer where event = 'overrun'") == [(500,)]
