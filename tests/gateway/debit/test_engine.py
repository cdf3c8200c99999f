"""The debit engine on a real ledger: every row of the decision table, and what the bank may do to us."""

import asyncio
from dataclasses import replace

import pytest

from gateway.banks.pos import PosLateAnswer
from gateway.debit.claims import HoldPlaced, HoldRefused, PurchaseResult
from gateway.debit.refunds import RefundRequest
from gateway.model.passage import Funding, PassageOutcome, PurchaseOutcome, Release

from .conftest import (
    APPROVED,
    DECLINED,
    NOT_FOUND,
    NOT_SENT,
    SILENT,
    ToldBank,
    charge,
    claim_request,
    hold_request,
    payer_of,
)


def run(box, scenario):
    async def inside():
        async with box:
            result = await scenario(box)
            box.check()
            return result

    return asyncio.run(inside())


def test_purse_is_paid_by_the_issuer_and_the_bank_is_never_asked(box):
    async def scenario(box):
        return await charge(box, hold_request(funding=Funding.PURSE))

    decision = run(box, scenario)
    assert (decision.release, decision.outcome) == (Release.GO, PassageOutcome.PAID)
    assert box.bank.heard == []
    assert box.balance("issuer") == -1500
    assert box.balance("merchant") == 1500
    assert box.balance("open") == 0
    assert box.rows("select count(*) from decision") == [(1,)]


def test_issuer_clearing_stays_open_towards_the_issuer(box):
    async def scenario(box):
        return await charge(box, hold_request(funding=Funding.ISSUER_CLEARING))

    assert run(box, scenario).outcome is PassageOutcome.PAID
    assert box.balance("open") == -1500
    assert box.rows("select state from debit") == [("released",)]


def test_bank_approves(box):
    async def scenario(box):
        box.bank.answers.append(APPROVED)
        return await charge(box, hold_request(funding=Funding.BANK_ONLINE))

    assert run(box, scenario).outcome is PassageOutcome.PAID
    assert box.bank.heard == ["sale T0000001 000001 1500 contract-m1"]
    assert box.balance("bank") == -1500
    assert box.balance("open") == 0


def test_bank_declines_and_the_claim_becomes_a_debt(box):
    async def scenario(box):
        box.bank.answers.append(DECLINED)
        return await charge(box, hold_request(funding=Funding.BANK_ONLINE))

    decision = run(box, scenario)
    assert (decision.release, decision.outcome, decision.reason) == (Release.GO, PassageOutcome.DEBT, "bank_declined")
    assert box.balance("debt") == -1500
    assert box.balance("merchant") == 1500


def test_silent_bank_is_stood_in_for_then_reversed_then_advised(box):
    async def scenario(box):
        box.bank.answers.extend([SILENT, APPROVED, APPROVED])
        decision = await charge(box, hold_request(funding=Funding.BANK_ONLINE))
        assert box.rows("select state from debit") == [("owed",)]
        assert box.rows("select state from attempt") == [("unknown",)]
        await box.drain()
        return decision

    decision = run(box, scenario)
    assert (decision.release, decision.outcome, decision.reason) == (Release.GO, PassageOutcome.OWED, "bank_silent")
    assert [m.split()[0] for m in box.bank.heard] == ["sale", "reversal", "advice"]
    assert box.rows("select state from debit") == [("funded",)]
    assert box.balance("bank") == -1500


def test_over_the_stand_in_limit_the_attendant_is_called(box):
    async def scenario(box):
        payer = payer_of(Funding.BANK_ONLINE, stand_in=2000)
        box.bank.answers.extend([SILENT, SILENT])
        first = await charge(box, hold_request("k1", payer=payer))
        second = await charge(box, hold_request("k2", payer=payer, card="99010000000000000002"))
        return first, second

    first, second = run(box, scenario)
    assert first.release is Release.GO
    assert (second.release, second.reason) == (Release.ATTENDANT, "stand_in_limit")


def test_not_sent_needs_no_reversal(box):
    async def scenario(box):
        box.bank.answers.extend([NOT_SENT, APPROVED])
        await charge(box, hold_request(funding=Funding.BANK_ONLINE))
        await box.drain()

    run(box, scenario)
    assert [m.split()[0] for m in box.bank.heard] == ["sale", "advice"]
    assert box.rows("select state from debit") == [("funded",)]


def test_an_open_reversal_blocks_one_terminal_only(box):
    async def scenario(box):
        box.bank.answers.extend([SILENT, APPROVED])
        await charge(box, hold_request("k1", funding=Funding.BANK_ONLINE))
        await charge(
            box, hold_request("k2", payer=payer_of(Funding.BANK_ONLINE, mandate="m2"), card="99010000000000000002")
        )

    run(box, scenario)
    assert [m.split()[1] for m in box.bank.heard] == ["T0000001", "T0000002"]


def test_not_found_closes_a_reversal_only_when_the_sale_can_no_longer_arrive(box):
    async def scenario(box):
        box.bank.answers.extend([SILENT] + [NOT_FOUND] * 200)
        await charge(box, hold_request(funding=Funding.BANK_ONLINE))
        await box.drain(rounds=30)
        assert box.rows("select state from attempt") == [("reversing",)]
        box.clock.now += 60
        box.bank.answers.clear()
        box.bank.answers.extend([NOT_FOUND, APPROVED])
        await box.drain()

    run(box, scenario)
    assert box.rows("select kind, state from attempt order by kind") == [("advice", "approved"), ("sale", "reversed")]
    assert box.balance("bank") == -1500


def late(box, answer, stan="000001", terminal="T0000001"):
    box.bank._late(PosLateAnswer(terminal, stan, answer))


async def settle(box):
    await box.followed_up()


def test_late_approval_before_the_reversal_left_settles_the_debit(box):
    async def scenario(box):
        box.bank.answers.append(SILENT)
        await charge(box, hold_request(funding=Funding.BANK_ONLINE))
        late(box, APPROVED)
        await settle(box)
        await box.drain()

    run(box, scenario)
    assert [m.split()[0] for m in box.bank.heard] == ["sale"]
    assert box.rows("select state from debit") == [("funded",)]


@pytest.mark.parametrize("closed_before", [False, True])
def test_late_approval_after_the_reversal_goes_to_suspense_until_it_closes_again(box, closed_before):
    async def scenario(box):
        box.bank.answers.extend([SILENT, APPROVED if closed_before else SILENT])
        await charge(box, hold_request(funding=Funding.BANK_ONLINE))
        await box.drain(rounds=1)
        late(box, APPROVED)
        late(box, APPROVED)
        await settle(box)
        assert box.balance("suspense") == 1500
        assert box.rows("select state from attempt where kind='sale'") == [("reversing",)]
        box.check()
        box.bank.answers.extend([APPROVED] * 5)
        await box.drain(rounds=20)

    run(box, scenario)
    assert box.balance("suspense") == 0
    assert box.balance("bank") == -1500
    assert box.rows("select state from debit") == [("funded",)]
    assert box.rows("select state from attempt where kind='sale'") == [("reversed",)]
    answered = box.rows("select last_answer from outbox where kind='reversal' and last_answer='00'")
    assert len(answered) == 1 + closed_before, "what a reversal was answered stays in the books"


def test_declined_advice_becomes_a_debt(box):
    async def scenario(box):
        box.bank.answers.extend([SILENT, APPROVED, DECLINED])
        await charge(box, hold_request(funding=Funding.BANK_ONLINE))
        await box.drain()

    run(box, scenario)
    assert box.rows("select state from debit") == [("debt",)]


def test_a_message_says_when_it_was_made_and_where_the_ledger_stood_if_it_tells_what_was_decided(box, monkeypatch):
    made = []

    make = ToldBank.message

    def noted(bank, kind, order):
        made.append((kind, order.at == bank.clock.utcnow(), order.anchor is not None))
        return make(bank, kind, order)

    monkeypatch.setattr(ToldBank, "message", noted)

    async def scenario(box):
        decision = await box.charge(claim_request(), NOT_SENT)
        box.bank.answers.append(APPROVED)
        await box.drain(1)
        await box.refund(RefundRequest("r1", decision.debit_id, 500, "x", "ann"), told=True)

    run(box, scenario)
    assert made == [
        ("reversal", True, False),
        ("sale", True, False),
        ("advice", True, True),
        ("refund", True, True),
    ]


def test_same_key_same_content_is_one_debit_other_content_is_refused(box):
    async def scenario(box):
        request = hold_request("k1")
        results = await asyncio.gather(*(box.engine.hold(request, timeout_s=5) for _ in range(20)))
        assert len({r.debit_id for r in results}) == 1
        assert sum(not r.replayed for r in results) == 1
        return await box.engine.hold(hold_request("k1", amount=1501), timeout_s=5)

    assert run(box, scenario) == HoldRefused("idempotency_conflict")
    assert box.rows("select count(*) from transfer") == [(1,)]


def test_holds_bind_the_limit_also_when_they_come_together(box):
    async def scenario(box):
        payer = payer_of(Funding.BANK_ONLINE, limit=5000)
        requests = [hold_request(f"k{i}", payer=payer, amount=1000, card=f"9901{i:016d}") for i in range(6)]
        return await asyncio.gather(*(box.engine.hold(r, timeout_s=5) for r in requests))

    results = run(box, scenario)
    assert sum(isinstance(r, HoldPlaced) for r in results) == 5
    assert HoldRefused("limit_exceeded") in results


def test_a_card_with_an_open_purchase_gets_no_second_one(box):
    async def scenario(box):
        await box.engine.hold(hold_request("k1"), timeout_s=5)
        return await box.engine.hold(hold_request("k2"), timeout_s=5)

    assert run(box, scenario) == HoldRefused("purchase_open")


def test_a_tag_with_an_open_purchase_gets_no_second_one_with_another_card(box):
    def in_tag(key, card):
        request = hold_request(key, card=card)
        sight = replace(request.sight, identity=replace(request.sight.identity, obu_id=b"\x0a\x0b\x0c\x0d"))
        return replace(request, sight=sight)

    async def scenario(box):
        first = in_tag("k1", "99010000000000000001")
        found = await asyncio.gather(
            box.engine.hold(first, timeout_s=5), box.engine.hold(in_tag("k2", "99010000000000000002"), timeout_s=5)
        )
        found.append(await box.engine.hold(in_tag("k3", "99010000000000000003"), timeout_s=5))
        await charge(box, first)
        found.append(await box.engine.hold(in_tag("k4", "99010000000000000004"), timeout_s=5))
        return found

    placed, *refused, later = run(box, scenario)
    assert isinstance(placed, HoldPlaced)
    assert refused == [HoldRefused("purchase_open")] * 2
    assert isinstance(later, HoldPlaced)


def test_unknown_keeps_the_hold_and_a_later_proof_charges_once(box):
    async def scenario(box):
        unknown = PurchaseResult(PurchaseOutcome.UNKNOWN, error=1)
        first = await charge(box, hold_request(funding=Funding.PURSE), result=unknown)
        assert (first.release, first.outcome) == (Release.STOP, PassageOutcome.UNKNOWN)
        assert box.rows("select held from account where kind='open'") == [(1500,)]
        previous = box.previous("99010000000000000001")
        assert previous.state == "unknown"
        return await charge(box, hold_request(funding=Funding.PURSE))

    second = run(box, scenario)
    assert (second.release, second.outcome) == (Release.GO, PassageOutcome.PAID)
    assert box.balance("issuer") == -1500
    assert box.rows("select count(*) from debit") == [(1,)]


def test_taken_without_tac_is_listed(box):
    async def scenario(box):
        await charge(box, hold_request(), result=PurchaseResult(PurchaseOutcome.TAKEN))

    run(box, scenario)
    assert box.rows("select kind, state from item") == [("charged_without_tac", "open")]
