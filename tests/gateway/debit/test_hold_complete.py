"""A hold without a card, and its end: completed with what was delivered, released, or run out of time."""

import asyncio
import itertools
from dataclasses import replace

import pytest

from gateway.debit.claims import HoldPlaced, HoldRefused, PurchaseResult
from gateway.model.passage import Funding, PassageOutcome, PurchaseOutcome, Release, Service

from .conftest import (
    APPROVED,
    CONTEXT,
    DECLINED,
    NOT_SENT,
    POLICY,
    SILENT,
    Box,
    claim_request,
    hold_request,
    live,
    rules_of,
)
from .model_bank import ModelBank
from .test_charge import until_the_fuse_burns

ISSUER = Funding.ISSUER_CLEARING
MAXIMUM = 20_000


def pump(key="k1", **values):
    return claim_request(key, **{"service": Service.FUEL, "amount": MAXIMUM, **values})


async def held(box, request=None):
    placed = await box.engine.hold(request or pump(), timeout_s=5)
    assert isinstance(placed, HoldPlaced)
    return placed.debit_id


def transfers(box):
    return box.rows("select id, phase, event, amount, pending_id, original_id from transfer order by id")


# --- completing ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("funding", [Funding.BANK_ONLINE, ISSUER])
@pytest.mark.parametrize("delivered", [1, 12_345, MAXIMUM])
def test_what_was_delivered_is_claimed_and_the_rest_is_free(box, delivered, funding):
    async def scenario(box):
        request = pump(funding=funding)
        debit_id = await held(box, request)
        assert box.rows("select held from account where kind = 'open'") == [(MAXIMUM,)]
        decision = await box.complete(debit_id, delivered, request.payer, APPROVED)
        assert (decision.outcome, decision.release) == (PassageOutcome.PAID, Release.GO)
        assert decision.amount_fen == delivered

    live(box, scenario)
    assert box.kinds() == ([] if funding is ISSUER else ["sale"])
    assert box.states() == ["released" if funding is ISSUER else "funded"]
    assert box.balance("merchant") == delivered
    assert box.rows("select held from account where kind = 'open'") == [(0,)]
    assert box.rows("select amount, final_amount from debit") == [(delivered, delivered)]
    assert transfers(box)[1] == (2, "post", "released", delivered, 1, None)


@pytest.mark.parametrize("funding", [Funding.BANK_ONLINE, ISSUER])
def test_more_than_was_held_is_a_second_transfer_that_is_marked_and_linked(box, funding):
    async def scenario(box):
        request = pump(funding=funding)
        await box.complete(await held(box, request), MAXIMUM + 234, request.payer, APPROVED)

    live(box, scenario)
    assert transfers(box)[:3] == [
        (1, "pending", "hold", MAXIMUM, None, None),
        (2, "post", "released", MAXIMUM, 1, None),
        (3, "direct", "overrun", 234, None, 2),
    ]
    assert box.balance("merchant") == MAXIMUM + 234
    if funding is Funding.BANK_ONLINE:
        assert box.bank.heard == [f"sale T0000001 000001 {MAXIMUM + 234} contract-m1"]


def test_nothing_delivered_frees_the_hold_and_asks_no_bank(box):
    """A bank is never asked for nothing: where nothing was pumped the authorisation is given back."""

    async def scenario(box):
        debit_id = await held(box)
        first = await box.complete(debit_id, 0, pump().payer, APPROVED)
        assert (first.outcome, first.reason) == (PassageOutcome.REFUSED, "nothing_delivered")
        assert await box.complete(debit_id, 0, pump().payer) == first
        assert await box.complete(debit_id, 5, pump().payer) == HoldRefused("idempotency_conflict")
        assert await box.engine.release(debit_id, CONTEXT) == first

    live(box, scenario)
    assert box.bank.heard == []
    assert box.states() == ["voided"]
    assert [row[1:4] for row in transfers(box)] == [("pending", "hold", MAXIMUM), ("void", "released_unused", MAXIMUM)]


@pytest.mark.parametrize(
    ("answer", "outcome", "state"),
    [
        (DECLINED, PassageOutcome.DEBT, "debt"),
        (SILENT, PassageOutcome.OWED, "owed"),
        (NOT_SENT, PassageOutcome.OWED, "owed"),
    ],
)
@pytest.mark.parametrize("delivered", [500, MAXIMUM + 500])
def test_the_fuel_is_in_the_tank_whatever_the_bank_says(box, answer, outcome, state, delivered):
    async def scenario(box):
        return await box.complete(await held(box), delivered, pump().payer, answer)

    assert live(box, scenario).outcome is outcome
    assert box.states() == [state]
    assert box.balance("merchant") == delivered


@pytest.mark.parametrize("funding", [Funding.BANK_ONLINE, ISSUER])
def test_completed_again_is_the_same_answer_and_another_amount_is_refused(box, funding):
    decisions = []
    request = pump(funding=funding)

    async def first(box):
        debit_id = await held(box, request)
        box.bank.answers.append(APPROVED)
        decisions.extend(await asyncio.gather(*(box.complete(debit_id, 500, request.payer) for _ in range(10))))

    async def second(box):
        debit_id = decisions[0].debit_id
        decisions.append(await box.complete(debit_id, 500, request.payer))
        assert await box.complete(debit_id, 501, request.payer) == HoldRefused("idempotency_conflict")
        assert await box.engine.release(debit_id, CONTEXT) == HoldRefused("debit_settled")
        assert await box.engine.expire(debit_id, CONTEXT) is None

    live(box, first, second)
    assert len(set(decisions)) == 1
    assert len(box.bank.heard) == (funding is not ISSUER)


def test_a_hold_that_ended_otherwise_cannot_be_completed(box):
    async def scenario(box):
        released = await held(box)
        await box.engine.release(released, CONTEXT)
        charged = await box.charge(claim_request("k2"), APPROVED)
        unknown = "0" * 32
        return [
            (await box.complete(debit_id, 500, pump().payer)).reason
            for debit_id in (released, charged.debit_id, unknown)
        ]

    assert live(box, scenario) == ["debit_settled", "debit_settled", "debit_unknown"]
    assert box.kinds() == ["sale"]


@pytest.mark.parametrize("funding", [Funding.BANK_ONLINE, Funding.PURSE, ISSUER])
def test_what_a_card_has_to_prove_is_not_completed_without_it(box, funding):
    """Its purchase is under way: asking the bank as well would take the money twice."""

    async def scenario(box):
        request = hold_request(funding=funding)
        debit_id = await held(box, request)
        return await box.complete(debit_id, 500, request.payer, APPROVED)

    refused = "purse_needs_card" if funding is Funding.PURSE else "purchase_open"
    assert live(box, scenario) == HoldRefused(refused)
    assert box.bank.heard == []
    assert box.rows("select state, final_amount from debit") == [("held", None)]


@pytest.mark.parametrize("completed", [False, True])
@pytest.mark.parametrize("funding", [Funding.BANK_ONLINE, ISSUER])
def test_only_the_payer_of_the_hold_completes_it(box, funding, completed):
    """Else another account is charged than the one that holds. What binds a payer may have changed meanwhile."""

    async def scenario(box):
        payer = pump(funding=funding).payer
        debit_id = await held(box, pump(funding=funding))
        first = await box.complete(debit_id, 500, payer, APPROVED) if completed else None
        others = (
            replace(payer, mandate_id="m2"),
            replace(payer, mandate_id=None),
            replace(payer, name="bank-9"),
            *(replace(payer, funding=other) for other in Funding if other is not funding),
        )
        for other in others:
            assert await box.complete(debit_id, 500, other) == HoldRefused("payer_mismatch")
            assert await box.complete("0" * 32, 500, other) == HoldRefused("debit_unknown")
        if not completed:
            assert box.bank.heard == []
            assert box.rows("select state, amount, final_amount from debit") == [("held", MAXIMUM, None)]
        newer = replace(payer, limit_fen=1, stand_in_limit_fen=0)
        again = await box.complete(debit_id, 500, newer, *([] if completed else [APPROVED]))
        assert first in (None, again)
        return again

    assert live(box, scenario).outcome is PassageOutcome.PAID
    assert len(box.bank.heard) == (funding is Funding.BANK_ONLINE)


def test_negative_amounts_are_a_fault_of_the_caller(box):
    async def scenario(box):
        debit_id = await held(box)
        with pytest.raises(ValueError, match="never negative"):
            await box.complete(debit_id, -1, pump().payer)

    live(box, scenario)


def test_two_ends_at_once_are_one(box):
    """Completed and released, or expired, by two hands at the same moment: whichever comes first stands."""

    async def after(turns, work):
        for _ in range(turns):
            await asyncio.sleep(0)
        return await work

    async def scenario(box):
        for n, end in enumerate((box.engine.release, box.engine.expire) * 4):
            debit_id = await held(box, pump(f"k{n}"))
            box.bank.answers.append(APPROVED)
            await asyncio.gather(box.complete(debit_id, 500, pump().payer), after(n // 2, end(debit_id, CONTEXT)))
            box.bank.answers.clear()
            box.check()

    live(box, scenario)
    assert set(box.states()) == {"funded", "voided"}
    assert len(box.kinds()) == box.states().count("funded")
    assert box.balance("bank") == -500 * box.states().count("funded")


# --- freeing ------------------------------------------------------------------------------------------------------


def test_a_released_hold_is_void_and_released_again_says_the_same(box):
    async def scenario(box):
        debit_id = await held(box)
        first = await box.engine.release(debit_id, CONTEXT)
        assert (first.outcome, first.release, first.reason) == (
            PassageOutcome.REFUSED,
            Release.STOP,
            "nothing_delivered",
        )
        assert await box.engine.release(debit_id, CONTEXT) == first
        assert await box.engine.release("0" * 32, CONTEXT) == HoldRefused("debit_unknown")

    live(box, scenario)
    assert box.states() == ["voided"]
    assert transfers(box)[-1][1:3] == ("void", "released_unused")
    assert box.rows("select held, balance from account where kind = 'open'") == [(0, 0)]


def test_only_an_untouched_hold_runs_out(box):
    async def scenario(box):
        untouched = await held(box)
        carded = await held(box, hold_request("k2", card="99010000000000000002"))
        expired = await box.engine.expire(untouched, CONTEXT)
        assert (expired.outcome, expired.reason) == (PassageOutcome.REFUSED, "hold_expired")
        assert await box.engine.expire(untouched, CONTEXT) is None
        assert await box.engine.expire(carded, CONTEXT) is None

    live(box, scenario)
    assert box.states() == ["voided", "held"]
    assert box.rows("select phase from transfer where event = 'expired'") == [("expire",)]


def test_a_hold_stored_too_late_is_not_voided_once_it_was_completed(box):
    """Whoever asked again with the same key got the hold and pumped on it."""

    async def scenario(box):
        placed = await box.engine.hold(pump(), timeout_s=5)
        from gateway.debit import holds

        await box.in_books(
            lambda tx: holds.complete(tx, placed.debit_id, 500, pump().payer, asking=None, context=CONTEXT)
        )
        box.engine._decider.give_up(placed, pump())
        await box.followed_up()
        assert box.states() == ["held"]
        return await box.complete(placed.debit_id, 500, pump().payer, APPROVED)

    assert live(box, scenario).outcome is PassageOutcome.PAID


def test_a_hold_stored_too_late_without_a_card_is_freed(box):
    async def scenario(box):
        await box.hold_too_late(pump())

    live(box, scenario)
    assert box.states() == ["voided"]


# --- power cuts ---------------------------------------------------------------------------------------------------

CUTS = list(
    itertools.product(
        (Funding.BANK_ONLINE, ISSUER), ("approve", "answer lost"), (500, MAXIMUM + 500, 0), (0, 1), (False, True)
    )
)


@pytest.mark.parametrize("asked_again", [False, True])
@pytest.mark.parametrize("cut_at", CUTS)
def test_a_power_cut_at_any_commit_of_a_completion(tmp_path, cut_at, asked_again):
    funding, bank, delivered, holds, stored = cut_at
    box = Box(tmp_path / "ledger.db", bank=ModelBank)
    request = pump(funding=funding, stand_in=100_000)
    answers = []

    async def cut(box):
        box.debit_id = await held(box, request)
        box.bank.plan["sale"].append(bank)
        work = box.engine.complete(
            box.debit_id, delivered, request.payer, CONTEXT, POLICY, deadline=box.clock.monotonic() + 2
        )
        await until_the_fuse_burns(box, work, holds, stored)

    async def after(box):
        await box.engine.start_up.recover({"lane-1": POLICY}, lambda tx, mandate: 100_000)
        if asked_again:
            answers.append(await box.complete(box.debit_id, delivered, request.payer))
        await box.engine.start_up.close_backlog()
        box.check()
        known = box.rows("select final_amount from debit")[0][0] is not None
        assert (box.states() == ["held"]) is not known
        answers.extend([await box.complete(box.debit_id, delivered, request.payer) for _ in range(2)])
        box.clock.now += 60
        await box.drain(rounds=20)

    live(box, cut, after, check=False)
    box.check()
    assert len(set(answers)) == 1
    assert -box.balance("bank") == sum(box.bank.book.values())
    assert box.balance("merchant") == delivered
    assert box.states()[0] in ({"voided"} if not delivered else {"funded", "released"})
    assert box.queued() == 0


LEFT_BEHIND = (
    (Service.TOLL, "voided"),
    (Service.FUEL, "held"),
    (Service.PARKING, "held"),
    (Service.SERVICE_AREA, "held"),
)


@pytest.mark.parametrize(("service", "state"), LEFT_BEHIND)
@pytest.mark.parametrize("funding", list(Funding))
def test_an_untouched_hold_at_start_up_ends_only_where_no_vehicle_was_let_go(box, service, state, funding):
    async def first(box):
        request = pump(service=service)
        await held(box, replace(request, payer=replace(request.payer, funding=funding)))

    async def second(box):
        found, closed = await box.start_up()
        assert found.open_debits == 1
        assert closed.voided == (state == "voided")

    live(box, first, second)
    assert box.states() == [state]
    assert box.bank.heard == []


def test_a_purse_without_a_card_is_not_completed(box):
    async def scenario(box):
        request = replace(pump(), payer=replace(pump().payer, funding=Funding.PURSE, name="issuer-9901"))
        return await box.complete(await held(box, request), 500, request.payer)

    assert live(box, scenario) == HoldRefused("purse_needs_card")
    assert box.states() == ["held"]


def test_the_decision_of_a_hold_names_rules_and_numbers_without_a_gap(tmp_path):
    box = Box(tmp_path / "ledger.db", rules=rules_of("[stand_in.fuel]\nper_day_count = 9"))

    async def scenario(box):
        for n in range(6):
            debit_id = await held(box, pump(f"k{n}"))
            if n % 3 == 0:
                await box.complete(debit_id, 100, pump().payer, (APPROVED, SILENT)[n % 2])
            elif n % 3 == 1:
                await box.engine.release(debit_id, CONTEXT)
            else:
                await box.engine.expire(debit_id, CONTEXT)

    live(box, scenario)
    assert box.rows("select record_no, rules_version from decision order by record_no") == [
        (n, "test-1@2026-12-2") for n in range(1, 7)
    ]


def test_unknown_stays_barred_from_release(box):
    """The card may have paid: neither time nor a hand frees it."""

    async def scenario(box):
        request = hold_request(funding=Funding.PURSE)
        placed = await box.engine.hold(request, timeout_s=5)
        from gateway.debit.purchases import store_result

        unknown = PurchaseResult(PurchaseOutcome.UNKNOWN)
        await box.in_books(lambda tx: store_result(tx, placed.purchase_id, unknown, None))
        assert await box.engine.release(placed.debit_id, CONTEXT) == HoldRefused("debit_settled")
        assert await box.engine.expire(placed.debit_id, CONTEXT) is None

    live(box, scenario)
    assert box.states() == ["held"]


def test_what_was_delivered_is_stored_even_where_no_new_sale_would_be(box):
    """A full disk takes results of what has happened, from its reserve; a new claim is none of them."""
    marks = []

    async def scenario(box):
        debit_id = await held(box)
        submit = box.writer.submit

        def marking(change, *, essential=False):
            marks.append(essential)
            return submit(change, essential=essential)

        box.writer.submit = marking
        await box.complete(debit_id, 500, pump().payer, APPROVED)
        assert marks == [True, True]
        marks.clear()
        box.bank.answers.append(APPROVED)
        deadline = box.clock.monotonic() + 2
        await box.engine.charge(pump("k2"), CONTEXT, POLICY, deadline=deadline)
        assert marks == [False, True]

    live(box, scenario)
