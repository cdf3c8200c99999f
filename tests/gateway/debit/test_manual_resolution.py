"""What people say about what is stuck: taken where it may be, journalled with their name, refused where it is known."""

import asyncio
from dataclasses import replace

import pytest

from gateway.banks.pos import PosLateAnswer
from gateway.debit import debts, late, limits, manual_resolution, refunds
from gateway.debit.attempts import Recovery
from gateway.debit.claims import HoldRefused
from gateway.debit.engine import ProvenClaim
from gateway.debit.late import LateEffect
from gateway.debit.manual_resolution import Deciding, ResolvedBy
from gateway.debit.refunds import Refunded, RefundRequest
from gateway.ledger import tables
from gateway.model.passage import Funding, Occasion, PassageOutcome
from gateway.rules.loading import shipped_rules
from tests.gateway.debit.conftest import (
    APPROVED,
    CONTEXT,
    DECLINED,
    POLICY,
    SILENT,
    TAKEN,
    PurchaseOutcome,
    PurchaseResult,
    charge,
    hold_request,
    payer_of,
)

RULES = shipped_rules()
SAID = ResolvedBy("wang", "the camera shows it")
DECIDING = Deciding(RULES, lambda _tx, _mandate: 100_000)
UNKNOWN = PurchaseResult(PurchaseOutcome.UNKNOWN, error=1)
DISPUTED = PurchaseResult(PurchaseOutcome.DISPUTED)
BANK = payer_of(Funding.BANK_ONLINE)


def drive(box, scenario):
    async def inside():
        async with box:
            result = await scenario(box)
            box.check()
            return result

    return asyncio.run(inside())


async def say(box, *, taken, debit_id):
    return await box.writer.submit(
        lambda tx: manual_resolution.resolve_purchase(tx, debit_id, taken=taken, by=SAID, deciding=DECIDING)
    )


# --- purchases ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("found", [UNKNOWN, DISPUTED], ids=["unknown", "disputed"])
@pytest.mark.parametrize(("taken", "state"), [(True, "funded"), (False, "voided")])
def test_a_stuck_purchase_ends_as_a_person_says(box, found, taken, state):
    async def scenario(box):
        held = await charge(box, hold_request(), result=found)
        assert held.outcome is PassageOutcome.UNKNOWN
        decision = await say(box, taken=taken, debit_id=held.debit_id)
        assert decision.outcome is (PassageOutcome.PAID if taken else PassageOutcome.REFUSED)
        assert box.rows("select state, amount, collected from debit") == [(state, 1500, 1500 if taken else 0)]
        assert box.rows("select state from purchase") == [("taken" if taken else "not_taken",)]
        assert box.rows("select actor, detail from journal where event like 'said_%'") == [("wang", SAID.reason)]
        assert box.rows("select recovered, rules_version from decision where record_no = 2") == [
            (Occasion.PERSON, RULES.version)
        ]
        items = dict(box.rows("select kind, state from item"))
        assert items.get("disputed_purchase") == ("corrected" if found is DISPUTED else None)
        assert await say(box, taken=taken, debit_id=held.debit_id) == "debit_settled"

    drive(box, scenario)


def test_a_bank_debit_that_a_person_says_was_taken_is_owed_and_its_bank_advised(box):
    async def scenario(box):
        held = await charge(box, hold_request(payer=BANK), result=UNKNOWN)
        decision = await say(box, taken=True, debit_id=held.debit_id)
        assert decision.outcome is PassageOutcome.OWED
        await box.engine.upkeep.adopt(held.debit_id)
        box.bank.answers.append(APPROVED)
        await box.drain(1)
        assert box.rows("select state, collected from debit") == [("funded", 1500)]
        assert [message.split()[0] for message in box.bank.heard] == ["advice"]

    drive(box, scenario)


def test_only_what_is_stuck_is_taken(box):
    async def scenario(box):
        assert await say(box, taken=True, debit_id="0" * 32) == "debit_unknown"
        placed = await box.engine.hold(hold_request(), timeout_s=5)
        assert await say(box, taken=True, debit_id=placed.debit_id) == "purchase_under_way"
        bare = replace(hold_request("k2", payer=BANK, card="99010000000000000002"), plan=None)
        placed = await box.engine.hold(bare, timeout_s=5)
        assert await say(box, taken=False, debit_id=placed.debit_id) == "purchase_settled"

    drive(box, scenario)


def test_a_proof_after_a_person_said_not_taken_is_put_on_the_list(box):
    """The vehicle was being read while a person spoke."""

    async def scenario(box):
        request = hold_request()
        placed = await box.engine.hold(request, timeout_s=5)
        claim = ProvenClaim(placed.debit_id, request.payer, CONTEXT, POLICY, placed.purchase_id, UNKNOWN)
        await box.engine.bring_in(claim, deadline=box.clock.monotonic() + 2)
        await say(box, taken=False, debit_id=placed.debit_id)
        brought = await box.engine.bring_in(replace(claim, result=TAKEN), deadline=box.clock.monotonic() + 2)
        assert brought.decision.outcome is PassageOutcome.REFUSED
        assert box.rows("select kind, amount from item") == [("taken_after_void", 1500)]

    drive(box, scenario)


# --- attempts -------------------------------------------------------------------------------------------------------


async def say_of_attempt(box, debit_id, *, posted, attempt_id=None):
    ((found,),) = box.rows("select id from attempt where debit_id = :d and kind = 'sale'", d=debit_id)
    chosen = attempt_id or found
    return await box.writer.submit(
        lambda tx: manual_resolution.resolve_attempt(
            tx, debit_id, chosen, posted=posted, source="call to the bank", by=SAID, rules=RULES
        )
    )


def test_a_person_who_asked_the_bank_ends_an_attempt_in_doubt(box):
    async def scenario(box):
        box.bank.answers.append(SILENT)
        owed = await charge(box, hold_request(payer=BANK))
        assert await say_of_attempt(box, owed.debit_id, posted=True) is LateEffect.SETTLED
        assert box.rows("select state from debit") == [("funded",)]
        assert box.rows("select detail, actor from journal where event = 'said_posted'") == [
            ("call to the bank: the camera shows it", "wang")
        ]

    drive(box, scenario)


def test_what_the_bank_answered_itself_stands_and_nothing_is_written(box):
    async def scenario(box):
        box.bank.answers.append(APPROVED)
        paid = await charge(box, hold_request(payer=BANK))
        box.bank.answers.append(APPROVED)
        await charge(box, hold_request("k2", payer=BANK, card="99010000000000000002"))
        ((other,),) = box.rows("select id from attempt where debit_id <> :d", d=paid.debit_id)
        before = box.rows("select count(*) from journal")
        assert await say_of_attempt(box, paid.debit_id, posted=False) == "attempt_settled"
        assert await say_of_attempt(box, paid.debit_id, posted=True) == "attempt_settled"
        for wrong in (other, "0" * 32):
            assert await say_of_attempt(box, paid.debit_id, posted=True, attempt_id=wrong) == "attempt_unknown"
        assert box.rows("select count(*) from journal") == before

    drive(box, scenario)


def test_a_late_approval_that_a_person_knows_undone_leaves_suspense(box):
    async def scenario(box):
        box.bank.answers.append(SILENT)
        owed = await charge(box, hold_request(payer=BANK))
        await box.drain(1)
        assert await say_of_attempt(box, owed.debit_id, posted=True) is LateEffect.REOPENED
        assert box.balance("suspense") == 1500
        assert await say_of_attempt(box, owed.debit_id, posted=False) is LateEffect.CLOSED
        assert box.balance("suspense") == 0
        assert box.rows("select state, late_approval from attempt where kind = 'sale'") == [("reversed", 0)]

    drive(box, scenario)


def test_an_answer_that_comes_after_all_closes_the_item_of_its_advice(box):
    async def scenario(box):
        held = await charge(box, hold_request(payer=BANK), result=UNKNOWN)
        await say(box, taken=True, debit_id=held.debit_id)
        await box.engine.upkeep.adopt(held.debit_id)
        ((advice, stan),) = box.rows("select id, stan from attempt join pos_attempt on attempt_id = id")

        def give_up(tx):
            from gateway.debit import attempts

            attempts.give_up_message(tx, advice)
            tx.execute(tables.outbox.update().where(tables.outbox.c.id == 1).values(done_at=1))

        await box.writer.submit(give_up)
        await box.writer.submit(
            lambda tx: late.late_answer(tx, box.bank, PosLateAnswer("T0000001", stan, APPROVED), RULES)
        )
        assert box.rows("select kind, state from item where kind like 'advice%'") == [
            ("advice_unanswered", "corrected")
        ]
        assert box.rows("select state from debit") == [("funded",)]

    drive(box, scenario)


# --- debts ----------------------------------------------------------------------------------------------------------


async def in_debt(box, key="k1", amount=1500):
    box.bank.answers.append(DECLINED)
    card = f"9901000000000000{int(key[1:]):04d}"
    decision = await charge(box, hold_request(key, payer=BANK, amount=amount, card=card))
    assert decision.outcome is PassageOutcome.DEBT
    return decision.debit_id


def test_a_debt_is_tried_again_at_once_when_somebody_asks(box):
    async def scenario(box):
        debit_id = await in_debt(box)
        box.clock.now += 5
        assert await box.writer.submit(lambda tx: debts.retry_now(tx, debit_id, "wang")) is None
        assert box.rows("select retry_at from debit") == [(int(box.clock.now * 1e6),)]
        assert box.rows("select actor from journal where event = 'retry_asked'") == [("wang",)]
        assert await box.engine.upkeep.start_recovery(debit_id) is Recovery.QUEUED
        assert await box.writer.submit(lambda tx: debts.retry_now(tx, debit_id, "wang")) == "bank_in_doubt"
        box.bank.answers.append(APPROVED)
        await box.drain(1)
        assert await box.writer.submit(lambda tx: debts.retry_now(tx, debit_id, "wang")) == "not_a_debt"

    drive(box, scenario)


def test_a_debt_that_was_corrected_below_the_mark_takes_its_payer_off_the_list(box):
    async def scenario(box):
        debit_id = await in_debt(box, amount=RULES.listing.debts_fen)
        assert box.rows("select listed_at is not null from obligor") == [(1,)]
        assert await box.adjust(debit_id, 0, "wrong class", "wang") is None
        assert box.rows("select listed_at is not null from obligor") == [(0,)]

    drive(box, scenario)


def test_a_write_off_needs_another_person_however_the_name_is_written(box):
    async def scenario(box):
        debit_id = await in_debt(box)
        for by in ("wang", "wang", "WANG"):
            assert await box.write_off(debit_id, by, "gone") == "item_needs_second"
        assert box.rows("select state from debit") == [("debt",)]
        assert await box.write_off(debit_id, "li", "gone") is None
        assert box.rows("select state, actor, second_actor from item") == [("written_off", "wang", "li")]

    drive(box, scenario)


def test_a_write_off_that_was_explained_away_can_be_proposed_anew(box):
    async def scenario(box):
        debit_id = await in_debt(box)
        await box.write_off(debit_id, "wang", "gone")
        from gateway.clearing.items import explain

        await box.writer.submit(lambda tx: explain(tx, 1, "zhao", "not gone"))
        assert await box.write_off(debit_id, "li", "gone after all") == "item_needs_second"
        assert box.rows("select state, note, actor from item") == [("open", "gone after all", "li")]

    drive(box, scenario)


def test_where_one_person_is_enough_an_old_proposal_does_not_claim_two(box):
    alone = replace(RULES, debt=RULES.debt.model_copy(update={"four_eyes": False}))

    async def scenario(box):
        debit_id = await in_debt(box)
        await box.write_off(debit_id, "wang", "gone")
        assert await box.writer.submit(lambda tx: debts.write_off(tx, debit_id, "wang", "gone", alone)) is None
        assert box.rows("select state, second_actor from item") == [("corrected", None)]

    drive(box, scenario)


def test_what_was_paid_at_a_till_goes_back_at_a_till(box):
    async def scenario(box):
        debit_id = await in_debt(box)
        assert await box.writer.submit(lambda tx: debts.pay_at_till(tx, debit_id, "till-1", "wang", RULES)) is None
        request = RefundRequest("r1", debit_id, 500, "too much", "wang")
        refunded = await box.refund(request, told=True)
        assert isinstance(refunded, Refunded)
        assert (refunded.target, refunded.state) == ("till", "decided")
        assert box.rows("select count(*) from attempt where kind = 'refund'") == [(0,)]
        paid = refunds.pay_at_till
        assert await box.writer.submit(lambda tx: paid(tx, refunded.refund_id, "till-1", "wang")) is None
        assert box.balance("till", "till-1") == -1000

    drive(box, scenario)


# --- limits at run time ---------------------------------------------------------------------------------------------


def mandate(tx, limit_fen=None):
    tx.insert(
        tables.mandate,
        id="m1",
        status="active",
        funding="bank_online",
        channel="bank-1",
        contract_ref="contract-m1",
        limit_fen=limit_fen,
        stand_in_limit_fen=0,
        imported_at=tx.now_us,
    )


async def hold(box, key, amount, **more):
    request = replace(hold_request(key, payer=replace(BANK, **more), amount=amount, card=None), plan=None)
    request = replace(request, sight=replace(request.sight, day="20231115"))
    found = await box.engine.hold(request, timeout_s=5)
    return found.reason if isinstance(found, HoldRefused) else None


def test_the_exposure_limit_is_the_one_of_the_moment_not_of_the_look_up(box):
    async def scenario(box):
        await box.writer.submit(lambda tx: mandate(tx, 5000))
        assert await hold(box, "k1", 4000, limit_fen=5000) is None
        box.clock.now += 100
        assert await box.writer.submit(lambda tx: limits.change_exposure(tx, "m1", 4500, "wang")) is None
        assert await hold(box, "k2", 1000, limit_fen=5000) == "limit_exceeded"
        assert await box.writer.submit(lambda tx: limits.change_exposure(tx, "m1", None, "wang")) is None
        assert await hold(box, "k3", 9000, limit_fen=5000) is None
        assert box.rows("select detail, actor from journal where kind = 'limit' order by number") == [
            ("exposure 5000 -> 4500", "wang"),
            ("exposure 4500 -> none", "wang"),
        ]

    drive(box, scenario)


def test_a_limit_lowered_below_what_is_owed_is_no_fault_of_the_ledger(box):
    async def scenario(box):
        await box.writer.submit(lambda tx: mandate(tx, 5000))
        box.clock.now += 100
        assert await hold(box, "k1", 4000) is None
        box.clock.now += 100
        await box.writer.submit(lambda tx: limits.change_exposure(tx, "m1", 1000, "wang"))

    drive(box, scenario)


def test_limits_of_a_service_bind_from_the_next_hold_on_and_leave_the_others_as_they_are(box):
    async def scenario(box):
        await box.writer.submit(mandate)
        assert await hold(box, "k1", 2000) is None

        def change(**values):
            return box.writer.submit(
                lambda tx: limits.change_limit(tx, "m1", "toll", values, actor="wang", rules=RULES)
            )

        assert await change(per_debit_fen=1000) is None
        assert await hold(box, "k2", 1001) == "limit_per_debit"
        assert await change(per_day_fen=2500) is None
        assert box.rows("select per_debit_fen, per_day_fen, per_day_count from mandate_limit") == [(1000, 2500, None)]
        assert await hold(box, "k3", 501) == "limit_per_day"
        assert await change(per_debit_fen=None, per_day_fen=None, per_day_count=1) is None
        assert await hold(box, "k4", 501) == "limit_per_day_count"
        assert await box.writer.submit(lambda tx: limits.clear_limit(tx, "m1", "toll", "wang")) is None
        assert await hold(box, "k5", 501) is None
        assert box.rows("select event, detail from journal where kind = 'limit' order by number")[0] == (
            "changed",
            "toll: per_debit_fen none -> 1000",
        )

    drive(box, scenario)


def test_a_first_stated_limit_keeps_the_others_of_the_rules(box):
    toll = RULES.limits.toll.model_copy(update={"per_day_count": 7})
    rules = replace(RULES, limits=RULES.limits.model_copy(update={"toll": toll}))

    async def scenario(box):
        await box.writer.submit(mandate)
        change = {"per_day_fen": 100}
        await box.writer.submit(lambda tx: limits.change_limit(tx, "m1", "toll", change, actor="wang", rules=rules))
        assert box.rows("select per_debit_fen, per_day_fen, per_day_count from mandate_limit") == [(None, 100, 7)]

    drive(box, scenario)


def test_limits_of_a_mandate_that_is_not_there(box):
    async def scenario(box):
        for change in (
            lambda tx: limits.change_limit(tx, "m9", "*", {}, actor="wang", rules=RULES),
            lambda tx: limits.clear_limit(tx, "m9", "*", "wang"),
            lambda tx: limits.change_exposure(tx, "m9", 1, "wang"),
        ):
            assert await box.writer.submit(change) == "mandate_unknown"

    drive(box, scenario)
