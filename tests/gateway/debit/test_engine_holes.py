"""Histories that once could have cost money: each is the shortest one that shows its hole."""

import asyncio
import itertools
from dataclasses import replace

import pytest
from sqlalchemy import update

from gateway.banks.pos import PosLateAnswer
from gateway.debit import conclusions
from gateway.debit import late as late_words
from gateway.debit.claims import DecisionContext, HoldPlaced, HoldRefused, PurchasePlan, PurchaseResult
from gateway.debit.engine import ProvenClaim, Superseded
from gateway.ledger import tables
from gateway.ledger.writer import StorageUnavailable
from gateway.model.passage import DeclinePolicy, Funding, Occasion, PassageOutcome, PurchaseOutcome, Release

from .conftest import (
    APPROVED,
    CONTEXT,
    DECLINED,
    NOT_FOUND,
    NOT_SENT,
    POLICY,
    SILENT,
    TAKEN,
    Box,
    charge,
    hold_request,
    honest,
    payer_of,
)
from .test_engine import late, run, settle

ONLINE = Funding.BANK_ONLINE
PURCHASES = itertools.count(100)
NOT_TAKEN = PurchaseResult(PurchaseOutcome.NOT_TAKEN)
STAND_IN = 100_000


def kinds(box):
    return [message.split()[0] for message in box.bank.heard]


def claim_of(request, placed, result=TAKEN, context=CONTEXT):
    card = request.sight.identity.card_number
    return ProvenClaim(
        placed.debit_id,
        request.payer,
        context,
        POLICY,
        placed.purchase_id,
        honest(result, request, next(PURCHASES)),
        card,
    )


async def bring_in(box, claim, timeout=2.0):
    return (await box.engine.bring_in(claim, deadline=box.clock.monotonic() + timeout)).decision


async def recover(box):
    findings = await box.engine.start_up.recover({"lane-1": POLICY}, lambda tx, mandate: STAND_IN)
    closed = await box.engine.start_up.close_backlog()
    return replace(findings, decided_now=closed.decided_now, voided=closed.voided)


def plan_after(previous, after=b"after, again"):
    return PurchasePlan(previous.written_fen, "20261123100001", 50_000, previous.file_before, after)


class Interrupt:
    """Runs something while one kind of message is under way at the bank."""

    def __init__(self, box, kind, meanwhile):
        self.box, self.kind, self.meanwhile = box, kind, meanwhile
        self.exchange = box.bank.exchange
        box.bank.exchange = self

    async def __call__(self, request, *, timeout_s):
        answer = await self.exchange(request, timeout_s=timeout_s)
        if request.decode().startswith(self.kind):
            self.box.bank.exchange = self.exchange
            await self.meanwhile()
        return answer


# --- two at once --------------------------------------------------------------------------------------------------


def test_two_antennas_that_bring_in_one_claim_ask_the_bank_once(box):
    async def scenario(box):
        async def others_get_their_turn():
            for _ in range(5):
                await box.writer.submit(lambda tx: None)

        box.bank.answers.append(APPROVED)
        Interrupt(box, "sale", others_get_their_turn)
        request = hold_request(funding=ONLINE)
        claim = claim_of(request, await box.engine.hold(request, timeout_s=5))
        return await asyncio.gather(*(bring_in(box, claim) for _ in range(3)))

    decisions = run(box, scenario)
    assert kinds(box) == ["sale"]
    assert {d.outcome for d in decisions} == {PassageOutcome.PAID}
    assert len({d.record_no for d in decisions}) == 1
    assert box.rows("select state from debit") == [("funded",)]
    assert box.balance("bank") == -1500


@pytest.mark.parametrize("answer", [APPROVED, DECLINED, SILENT, NOT_SENT])
def test_a_decided_claim_is_never_taken_to_the_bank_again(box, answer):
    async def scenario(box):
        box.bank.answers.extend([answer, APPROVED])
        first = await charge(box, hold_request(funding=ONLINE))
        again = await charge(box, hold_request(funding=ONLINE))
        assert again == first

    run(box, scenario)
    assert kinds(box) == ["sale"]


def test_a_claim_whose_asker_vanished_is_finished_without_a_second_sale(box):
    """The trade was cancelled while the bank thought; the bank had approved."""

    async def scenario(box):
        request = hold_request(funding=ONLINE)
        claim = claim_of(request, await box.engine.hold(request, timeout_s=5))
        under_way = asyncio.Event()

        async def hangs(request, *, timeout_s):
            box.bank.heard.append(request.decode())
            under_way.set()
            await asyncio.Event().wait()

        exchange, box.bank.exchange = box.bank.exchange, hangs
        task = asyncio.create_task(bring_in(box, claim))
        await under_way.wait()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        box.bank.exchange = exchange
        box.check()
        box.bank.answers.extend([APPROVED, APPROVED])
        decision = await bring_in(box, replace(claim, result=None))
        assert decision.outcome is PassageOutcome.OWED
        await box.drain()

    run(box, scenario)
    assert kinds(box) == ["sale", "reversal", "advice"]
    assert box.rows("select state from debit") == [("funded",)]


def test_an_answer_noted_before_the_decision_decides_it(box):
    async def scenario(box):
        request = hold_request(funding=ONLINE)
        claim = claim_of(request, await box.engine.hold(request, timeout_s=5))

        async def heard_meanwhile():
            late(box, APPROVED)
            await settle(box)

        box.bank.answers.append(SILENT)
        Interrupt(box, "sale", heard_meanwhile)
        return await bring_in(box, claim)

    decision = run(box, scenario)
    assert decision.outcome is PassageOutcome.PAID
    assert box.rows("select count(*) from outbox") == [(0,)]


# --- holds that are late ------------------------------------------------------------------------------------------


def test_a_hold_that_is_durable_too_late_is_voided(box):
    async def scenario(box):
        await box.hold_too_late(hold_request())
        assert box.rows("select state from debit") == [("voided",)]
        assert box.rows("select state from purchase") == [("not_taken",)]
        assert box.balance("merchant") == 0
        # The key is spent: whoever comes with it again learns that nothing is held.
        assert await box.engine.hold(hold_request(), timeout_s=5) == HoldRefused("hold_expired")

    run(box, scenario)


def test_a_purchase_that_touches_no_file_is_seen_by_who_reads_its_card(box):
    """At a counter the card's sequence proves it; an antenna must know of it all the same."""

    async def scenario(box):
        request = hold_request()
        without = replace(request, plan=replace(request.plan, file_before=None, file_after=None))
        placed = await box.engine.hold(without, timeout_s=5)
        previous = box.previous(request.sight.identity.card_number)
        assert (previous.purchase_id, previous.file_before, previous.file_after) == (placed.purchase_id, None, None)
        assert box.rows("select count(*) from purchase_file") == [(0,)]

    run(box, scenario)


def test_a_late_hold_that_the_next_reading_works_with_is_not_voided(box):
    """The vehicle was read again, its card had not paid, and the next purchase is under way."""

    async def scenario(box):
        request = hold_request()
        placed = await box.engine.hold(request, timeout_s=5)
        previous = box.previous(request.sight.identity.card_number)
        second = await box.engine.next_purchase(previous, plan_after(previous), timeout_s=5)
        box.engine._decider.give_up(placed, request)
        await settle(box)
        assert box.rows("select state from debit") == [("held",)]
        return await bring_in(box, claim_of(request, replace(placed, purchase_id=second)))

    decision = run(box, scenario)
    assert (decision.release, decision.outcome) == (Release.GO, PassageOutcome.PAID)
    assert box.balance("issuer") == -1500


def test_one_card_gets_one_purchase_also_of_holds_that_are_stored_together(box):
    async def scenario(box):
        requests = [hold_request("k1"), hold_request("k2"), hold_request("k3", card="99010000000000000002")]
        return await asyncio.gather(*(box.engine.hold(request, timeout_s=5) for request in requests))

    first, second, other = run(box, scenario)
    assert second == HoldRefused("purchase_open")
    assert isinstance(first, HoldPlaced)
    assert isinstance(other, HoldPlaced)


def test_a_next_purchase_stored_together_with_a_hold_of_its_card_bars_that_hold(box):
    """The claim and its card's data were written long ago; only the new intent comes with this transaction."""

    async def scenario(box):
        request = hold_request()
        await box.engine.hold(request, timeout_s=5)
        previous = box.previous(request.sight.identity.card_number)
        return await asyncio.gather(
            box.engine.next_purchase(previous, plan_after(previous), timeout_s=5),
            box.engine.hold(hold_request("k2"), timeout_s=5),
        )

    assert run(box, scenario)[1] == HoldRefused("purchase_open")


def test_a_late_hold_without_a_card_is_not_voided_while_its_bank_is_asked(box):
    async def scenario(box):
        request = replace(hold_request(funding=ONLINE), plan=None)
        placed = await box.engine.hold(request, timeout_s=5)

        async def given_up_meanwhile():
            box.engine._decider.give_up(placed, request)
            await settle(box)

        box.bank.answers.append(APPROVED)
        Interrupt(box, "sale", given_up_meanwhile)
        return await bring_in(box, claim_of(request, placed, result=None))

    assert run(box, scenario).outcome is PassageOutcome.PAID
    assert box.rows("select state from debit") == [("funded",)]


def test_a_hold_that_was_given_up_asks_no_bank(box):
    async def scenario(box):
        request = replace(hold_request(funding=ONLINE), plan=None)
        await box.hold_too_late(request)
        placed = HoldPlaced(box.rows("select id from debit")[0][0], None, replayed=True)
        return await bring_in(box, claim_of(request, placed, result=None))

    decision = run(box, scenario)
    assert (decision.outcome, decision.release) == (PassageOutcome.REFUSED, Release.STOP)
    assert box.bank.heard == []


def test_next_purchase_after_the_hold_was_given_up_asks_no_card(box):
    async def scenario(box):
        request = hold_request()
        placed = await box.engine.hold(request, timeout_s=5)
        previous = box.previous(request.sight.identity.card_number)
        box.engine._decider.give_up(placed, request)
        await settle(box)
        with pytest.raises(Superseded):
            await box.engine.next_purchase(previous, plan_after(previous), timeout_s=5)

    run(box, scenario)
    assert box.rows("select count(*) from purchase") == [(1,)]


def test_what_is_known_of_an_earlier_purchase_does_not_void_the_one_under_way(box):
    """Lane 2 read the card before lane 1 tried again; what it concludes comes after."""

    async def scenario(box):
        request = hold_request()
        placed = await box.engine.hold(request, timeout_s=5)
        await bring_in(box, claim_of(request, placed, PurchaseResult(PurchaseOutcome.UNKNOWN)))
        previous = box.previous(request.sight.identity.card_number)
        second = await box.engine.next_purchase(previous, plan_after(previous), timeout_s=5)
        stale = await bring_in(box, claim_of(request, placed, NOT_TAKEN))
        assert stale.outcome is PassageOutcome.UNKNOWN
        return await bring_in(box, claim_of(request, replace(placed, purchase_id=second)))

    assert run(box, scenario).outcome is PassageOutcome.PAID
    assert box.balance("issuer") == -1500


def test_proof_that_a_voided_claim_was_paid_is_put_on_the_list(box):
    """It should not happen; if it does, somebody must give the money back."""

    async def scenario(box):
        request = hold_request()
        placed = await box.engine.hold(request, timeout_s=5)
        await bring_in(box, claim_of(request, placed, NOT_TAKEN))
        await box.writer.submit(lambda tx: tx.execute(update(tables.purchase).values(state="unknown")) and None)
        decision = await bring_in(box, claim_of(request, placed))
        assert decision.outcome is PassageOutcome.REFUSED
        assert box.rows("select kind from item") == [("taken_after_void",)]
        await box.writer.submit(lambda tx: tx.execute(update(tables.purchase).values(state="not_taken")) and None)

    run(box, scenario)


# --- power cuts ---------------------------------------------------------------------------------------------------


def cut(box, scenario):
    """Run one life of the box without checking it at the end; what is not committed is gone."""

    async def inside():
        async with box:
            await scenario(box)

    asyncio.run(inside())
    box.open()


async def ask_and_die(box, request, placed, result):
    """The sale is stored and leaves; then the power goes."""

    async def dies(request, *, timeout_s):
        box.bank.heard.append(request.decode())
        raise asyncio.CancelledError

    exchange, box.bank.exchange = box.bank.exchange, dies
    with pytest.raises(asyncio.CancelledError):
        await bring_in(box, claim_of(request, placed, result))
    box.bank.exchange = exchange


@pytest.mark.parametrize("with_card", [True, False])
@pytest.mark.parametrize("posted", [True, False])
def test_a_sale_under_way_at_a_power_cut_is_reversed_and_advised(tmp_path, with_card, posted):
    box = Box(tmp_path / "ledger.db")

    async def first(box):
        request = hold_request(funding=ONLINE)
        if not with_card:
            request = replace(request, plan=None)
        placed = await box.engine.hold(request, timeout_s=5)
        await ask_and_die(box, request, placed, TAKEN if with_card else None)

    async def second(box):
        findings = await recover(box)
        assert (findings.open_debits, findings.sales_in_doubt, findings.decided_now) == (1, 1, 1)
        assert box.rows("select state from debit") == [("owed",)]
        box.check()
        box.bank.answers.extend([APPROVED if posted else NOT_FOUND])
        box.clock.now += 60
        await box.drain(rounds=1)
        box.bank.answers.append(APPROVED)
        await box.drain()

    cut(box, first)
    run(box, second)
    assert kinds(box) == ["sale", "reversal", "advice"]
    assert box.rows("select kind, state from attempt order by kind") == [("advice", "approved"), ("sale", "reversed")]
    assert box.rows("select state from debit") == [("funded",)]


def test_a_purchase_taken_and_stored_without_a_sale_is_decided_at_start_and_advised(tmp_path):
    """The power went between the card's answer and the bank's request: there was no time to ask, say."""
    box = Box(tmp_path / "ledger.db")

    async def first(box):
        request = hold_request(funding=ONLINE)
        placed = await box.engine.hold(request, timeout_s=5)
        claim = claim_of(request, placed)
        assert await box.engine._decider.store_sale(claim, box.clock.monotonic()) is None

    async def second(box):
        findings = await recover(box)
        assert (findings.decided_now, findings.sales_in_doubt) == (1, 0)
        assert box.rows("select state from debit") == [("owed",)]
        box.bank.answers.append(APPROVED)
        await box.drain()

    cut(box, first)
    run(box, second)
    assert kinds(box) == ["advice"]
    assert box.rows("select state from debit") == [("funded",)]


def test_a_purchase_taken_without_a_tac_is_listed_also_when_the_start_up_decides_it(tmp_path):
    box = Box(tmp_path / "ledger.db")

    async def first(box):
        request = hold_request(funding=ONLINE)
        placed = await box.engine.hold(request, timeout_s=5)
        await box.engine._decider.store_sale(claim_of(request, placed, PurchaseResult(PurchaseOutcome.TAKEN)), 0.0)

    cut(box, first)
    run(box, recover)
    assert box.rows("select kind from item") == [("charged_without_tac",)]


def test_a_hold_that_asked_nobody_is_voided_at_start(tmp_path):
    box = Box(tmp_path / "ledger.db")

    async def first(box):
        await box.engine.hold(replace(hold_request(funding=ONLINE), plan=None), timeout_s=5)

    cut(box, first)
    findings = run(box, recover)
    assert findings.voided == 1
    assert box.rows("select state from debit") == [("voided",)]


def test_an_intent_is_unknown_after_a_power_cut_and_its_hold_still_binds(tmp_path):
    box = Box(tmp_path / "ledger.db")
    payer = payer_of(ONLINE, limit=2000)

    async def first(box):
        await box.engine.hold(hold_request(payer=payer), timeout_s=5)

    async def second(box):
        findings = await recover(box)
        assert findings.unknown_purchases == 1
        other = hold_request("k2", payer=payer, card="99010000000000000002")
        assert await box.engine.hold(other, timeout_s=5) == HoldRefused("limit_exceeded")
        same_card = hold_request("k3", payer=payer_of(Funding.PURSE))
        assert await box.engine.hold(same_card, timeout_s=5) == HoldRefused("purchase_open")

    cut(box, first)
    run(box, second)


def test_more_open_debits_than_a_page_are_all_classified(tmp_path, monkeypatch):
    monkeypatch.setattr("gateway.debit.recovery.CLOSING_PAGE", 3)
    box = Box(tmp_path / "ledger.db")

    async def first(box):
        for n in range(7):
            await box.engine.hold(hold_request(f"k{n}", card=f"9901{n:016d}"), timeout_s=5)

    told = []

    async def second(box):
        findings = await box.engine.start_up.recover({}, lambda tx, mandate: 0)
        assert findings.open_debits == 7
        return await box.engine.start_up.close_backlog(lambda f: told.append(f.open_debits))

    cut(box, first)
    assert run(box, second).unknown_purchases == 7
    assert told == [3, 6, 7]


def test_a_charge_point_that_is_gone_is_decided_for_the_attendant(tmp_path):
    box = Box(tmp_path / "ledger.db")

    async def first(box):
        request = hold_request(funding=ONLINE)
        await ask_and_die(box, request, await box.engine.hold(request, timeout_s=5), TAKEN)

    async def second(box):
        await box.engine.start_up.recover({}, lambda tx, mandate: 0)
        await box.engine.start_up.close_backlog()

    cut(box, first)
    run(box, second)
    assert box.rows("select release, outcome, recovered from decision") == [("attendant", "owed", Occasion.START)]


# --- late approvals -----------------------------------------------------------------------------------------------


def test_an_answer_to_what_left_before_the_approval_was_heard_does_not_close_the_reversal(box):
    """The bank closed a reversal it knew no sale for; the sale arrived after that and was approved."""

    async def scenario(box):
        async def approval():
            late(box, APPROVED)
            await settle(box)

        box.bank.answers.extend([SILENT, APPROVED])
        await charge(box, hold_request(funding=ONLINE))
        Interrupt(box, "reversal", approval)
        await box.drain(rounds=1)
        assert box.balance("suspense") == 1500
        assert box.rows("select state from attempt where kind = 'sale'") == [("reversing",)]
        box.check()
        box.bank.answers.extend([APPROVED, APPROVED])
        await box.drain()

    run(box, scenario)
    assert kinds(box) == ["sale", "reversal", "reversal", "advice"]
    assert box.balance("suspense") == 0
    assert box.balance("bank") == -1500


def test_not_found_never_closes_a_reversal_whose_sale_was_approved(box):
    async def scenario(box):
        box.bank.answers.extend([SILENT, SILENT])
        await charge(box, hold_request(funding=ONLINE))
        await box.drain(rounds=1)
        late(box, APPROVED)
        await settle(box)
        box.clock.now += 3600
        box.bank.answers.extend([NOT_FOUND] * 5)
        await box.drain(rounds=5)
        assert box.rows("select state from attempt where kind = 'sale'") == [("reversing",)]
        assert box.balance("suspense") == 1500
        box.bank.answers.clear()
        box.bank.answers.extend([APPROVED, APPROVED])
        await box.drain()

    run(box, scenario)
    assert box.balance("suspense") == 0


def test_an_unanswered_advice_waits_behind_a_reopened_reversal(box):
    async def scenario(box):
        box.bank.answers.extend([SILENT, APPROVED, SILENT])
        await charge(box, hold_request(funding=ONLINE))
        await box.drain(rounds=2)
        assert kinds(box) == ["sale", "reversal", "advice"]
        late(box, APPROVED)
        await settle(box)
        box.bank.answers.extend([SILENT, APPROVED, APPROVED])
        box.clock.now += 120
        await box.drain(rounds=10)

    run(box, scenario)
    assert kinds(box)[3:] == ["reversal", "reversal", "advice"]
    assert box.rows("select state from debit") == [("funded",)]
    assert box.balance("suspense") == 0


def test_a_reopened_reversal_blocks_its_terminal(box):
    async def scenario(box):
        box.bank.answers.extend([SILENT, APPROVED, APPROVED])
        await charge(box, hold_request("k1", funding=ONLINE))
        await box.drain()
        late(box, APPROVED)
        await settle(box)
        await charge(box, hold_request("k2", payer=payer_of(ONLINE, mandate="m2"), card="99010000000000000002"))

    run(box, scenario)
    assert box.bank.heard[-1].split()[:2] == ["sale", "T0000002"]


def test_a_late_decline_while_the_sale_is_under_way_decides_it(box):
    async def scenario(box):
        async def decline():
            late(box, DECLINED)
            await settle(box)

        request = hold_request(funding=ONLINE)
        claim = claim_of(request, await box.engine.hold(request, timeout_s=5))
        box.bank.answers.append(SILENT)
        Interrupt(box, "sale", decline)
        return await bring_in(box, claim)

    assert run(box, scenario).outcome is PassageOutcome.DEBT
    assert box.rows("select count(*) from outbox") == [(0,)]


@pytest.mark.parametrize("answer", [APPROVED, DECLINED])
def test_a_late_answer_to_an_advice_ends_it(box, answer):
    async def scenario(box):
        box.bank.answers.extend([NOT_SENT, SILENT])
        await charge(box, hold_request(funding=ONLINE))
        await box.drain(rounds=1)
        late(box, answer, stan="000002")
        await settle(box)
        await box.drain()

    run(box, scenario)
    assert kinds(box) == ["sale", "advice"]
    assert box.rows("select state from debit") == [("funded" if answer is APPROVED else "debt",)]


def test_a_late_answer_without_a_terminal_counts_only_when_it_can_mean_one_attempt(box):
    """Two terminals count their trace numbers from one. The answer repeated for the first must not pay the second."""

    async def scenario(box):
        box.bank.answers.extend([SILENT, SILENT, SILENT])
        await charge(box, hold_request("k1", funding=ONLINE))
        await charge(box, hold_request("k2", payer=payer_of(ONLINE, mandate="m2"), card="99010000000000000002"))
        assert [m.split()[1:3] for m in box.bank.heard] == [["T0000001", "000001"], ["T0000002", "000001"]]
        late(box, APPROVED, terminal=None)
        await settle(box)
        assert box.rows("select count(*) from debit where state = 'funded'") == [(0,)]
        late(box, APPROVED, terminal="T0000002")
        await settle(box)
        late(box, APPROVED, terminal=None)
        await settle(box)
        assert box.rows("select count(*) from debit where state = 'funded'") == [(1,)]
        # The next trace number of the second terminal is its own.
        await charge(box, hold_request("k3", payer=payer_of(ONLINE, mandate="m3"), card="99010000000000000003"))
        assert box.bank.heard[-1].split()[1:3] == ["T0000002", "000002"]
        late(box, APPROVED, terminal=None, stan="000002")
        await settle(box)

    run(box, scenario)
    assert box.rows("select count(*) from debit where state = 'funded'") == [(2,)]


def test_an_answer_that_fits_nothing_changes_nothing(box):
    async def scenario(box):
        effect = await box.writer.submit(
            lambda tx: late_words.late_answer(
                tx, box.bank, PosLateAnswer("T0000001", "000777", APPROVED), box.engine.rules
            ),
            essential=True,
        )
        assert effect is late_words.LateEffect.NO_SUCH_ATTEMPT
        box.bank._late(PosLateAnswer("T0000001", "000777", APPROVED))
        await settle(box)

    run(box, scenario)
    assert box.rows("select count(*) from transfer") == [(0,)]


# --- terminals and trace numbers ----------------------------------------------------------------------------------


def test_with_every_terminal_blocked_the_bank_is_told_afterwards(box):
    async def scenario(box):
        box.bank.answers.extend([SILENT, SILENT])
        for n in range(3):
            payer = payer_of(ONLINE, mandate=f"m{n}")
            decision = await charge(box, hold_request(f"k{n}", payer=payer, card=f"9901{n:016d}"))
            assert decision.outcome is PassageOutcome.OWED
        assert [m.split()[1] for m in box.bank.heard] == ["T0000001", "T0000002"]
        box.check()
        box.bank.answers.extend([APPROVED] * 6)
        await box.drain()

    run(box, scenario)
    assert sorted(kinds(box)) == ["advice"] * 3 + ["reversal"] * 2 + ["sale"] * 2
    assert box.rows("select distinct state from debit") == [("funded",)]
    assert box.balance("bank") == -4500


def test_trace_numbers_of_a_terminal_are_used_once_and_have_no_gap(box):
    async def scenario(box):
        for n in range(6):
            box.bank.answers.append([APPROVED, DECLINED, NOT_SENT][n % 3])
            payer = payer_of(ONLINE, mandate=f"m{n}")
            await charge(box, hold_request(f"k{n}", payer=payer, card=f"9901{n:016d}"))
        box.bank.answers.extend([APPROVED] * 4)
        await box.drain()

    run(box, scenario)
    stans = [
        int(r[0])
        for r in box.rows(
            "select stan from attempt join pos_attempt on attempt_id = id where terminal = 'T0000001' order by stan"
        )
    ]
    assert stans == list(range(1, 9))


def test_without_terminals_or_time_nothing_is_sent_and_the_claim_is_owed(box):
    async def scenario(box):
        request = hold_request("k1", funding=ONLINE)
        placed = await box.engine.hold(request, timeout_s=5)
        first = await bring_in(box, claim_of(request, placed, context=replace(CONTEXT, charge_point="lane-9")))
        second = await charge(
            box, hold_request("k2", payer=payer_of(ONLINE, mandate="m2"), card="99010000000000000002"), timeout=0.2
        )
        return first, second

    for decision in run(box, scenario):
        assert decision.outcome is PassageOutcome.OWED
    assert box.bank.heard == []
    assert box.rows("select kind from attempt order by kind") == [("advice",)] * 2, "any terminal will do"


def test_a_bank_that_cannot_carry_the_contract_is_refused_before_the_card_pays(box):
    async def scenario(box):
        unknown = await box.engine.hold(hold_request("k1", payer=replace(payer_of(ONLINE), name="bank-2")), timeout_s=5)
        without = await box.engine.hold(
            hold_request("k2", payer=replace(payer_of(ONLINE), contract_ref=None)), timeout_s=5
        )
        box.bank.takes = lambda contract_ref: False
        refused = await box.engine.hold(hold_request("k3", funding=ONLINE), timeout_s=5)
        assert unknown == without == refused == HoldRefused("bank_unavailable")

    run(box, scenario)


# --- one source of money ------------------------------------------------------------------------------------------


def test_a_purse_without_a_card_cannot_be_claimed(box):
    """Nobody would have paid, and the issuer would be told it owes us."""

    async def scenario(box):
        request = replace(hold_request(funding=Funding.PURSE), plan=None)
        placed = await box.engine.hold(request, timeout_s=5)
        with pytest.raises(ValueError, match="without a purchase"):
            await bring_in(box, claim_of(request, placed, result=None))

    run(box, scenario)
    assert box.balance("issuer") == 0


def test_a_hold_whose_storage_fails_leaves_nothing(box):
    async def scenario(box):
        commit = box.writer._committer.commit

        def full(changes):
            import sqlite3

            from sqlalchemy.exc import OperationalError

            error = sqlite3.OperationalError()
            error.sqlite_errorcode = sqlite3.SQLITE_FULL
            raise OperationalError("insert", {}, error)

        box.writer._committer.commit = full
        with pytest.raises(StorageUnavailable):
            await box.engine.hold(hold_request(), timeout_s=5)
        assert not box.engine.selling_allowed
        box.writer._committer.commit = commit

    run(box, scenario)
    assert box.rows("select count(*) from debit") == [(0,)]


def test_a_result_is_stored_however_long_the_storage_takes(box):
    async def scenario(box):
        request = hold_request()
        placed = await box.engine.hold(request, timeout_s=5)
        commit = box.writer._committer.commit
        tries = []

        def full_twice(changes):
            import sqlite3

            from sqlalchemy.exc import OperationalError

            tries.append(1)
            if len(tries) > 2:
                return commit(changes)
            error = sqlite3.OperationalError()
            error.sqlite_errorcode = sqlite3.SQLITE_FULL
            raise OperationalError("insert", {}, error)

        box.writer._committer.commit = full_twice
        return await bring_in(box, claim_of(request, placed))

    assert run(box, scenario).outcome is PassageOutcome.PAID


def test_giving_up_is_for_fresh_holds_only(box):
    async def scenario(box):
        request = hold_request()
        placed = await box.engine.hold(request, timeout_s=5)
        again = await box.engine.hold(request, timeout_s=5)
        assert isinstance(again, HoldPlaced)
        box.engine._decider.give_up(again, request)
        box.engine._decider.give_up(HoldRefused("limit_exceeded"), request)
        await settle(box)
        assert box.rows("select state from debit") == [("held",)]
        await bring_in(box, claim_of(request, placed))
        box.engine._decider.give_up(placed, request)
        await settle(box)

    run(box, scenario)
    assert box.rows("select state from debit") == [("funded",)]


def test_concluding_twice_gives_the_newest_decision(box):
    async def scenario(box):
        first = await charge(box, hold_request())
        repeat = await box.engine.repeat(first.passage_id, first.debit_id, Release.GO, CONTEXT)
        assert (repeat.amount_fen, repeat.outcome, repeat.record_no) == (0, PassageOutcome.REPEAT, 2)
        conclusion = conclusions.Conclusion(first.debit_id, CONTEXT, DeclinePolicy.RELEASE_AS_DEBT, 0)
        assert await box.writer.submit(lambda tx: conclusions.conclude(tx, conclusion, box.engine.rules)) == repeat

    run(box, scenario)
    assert box.balance("merchant") == 1500


def test_what_another_charge_point_let_go_is_a_repeat_here(box):
    """Its barrier would else lift on the other one's record."""
    there = replace(CONTEXT, charge_point="lane-9")

    async def scenario(box):
        first = await charge(box, hold_request())
        conclusion = conclusions.Conclusion(first.debit_id, there, DeclinePolicy.RELEASE_AS_DEBT, 0)
        for _ in range(2):
            again = await box.writer.submit(lambda tx: conclusions.conclude(tx, conclusion, box.engine.rules))
            assert (again.record_no, again.outcome, again.release) == (2, PassageOutcome.REPEAT, Release.GO)

    run(box, scenario)
    assert box.rows("select record_no, charge_point, outcome, amount from decision") == [
        (1, CONTEXT.charge_point, "paid", 1500),
        (2, "lane-9", "repeat", 0),
    ]
    assert box.balance("merchant") == 1500


def test_what_another_charge_point_kept_closed_stays_its_record(box):
    there = replace(CONTEXT, charge_point="lane-9")

    async def scenario(box):
        request = hold_request()
        placed = await box.engine.hold(request, timeout_s=5)
        claim = replace(claim_of(request, placed), result=PurchaseResult(PurchaseOutcome.NOT_TAKEN))
        refused = await bring_in(box, claim)
        conclusion = conclusions.Conclusion(placed.debit_id, there, DeclinePolicy.RELEASE_AS_DEBT, 0)
        assert await box.writer.submit(lambda tx: conclusions.conclude(tx, conclusion, box.engine.rules)) == refused

    run(box, scenario)


def test_terminals_of_another_charge_point_do_not_count(box):
    async def scenario(box):
        request = hold_request(funding=ONLINE)
        placed = await box.engine.hold(request, timeout_s=5)
        return await bring_in(box, claim_of(request, placed, context=replace(CONTEXT, charge_point="lane-9")))

    assert run(box, scenario).outcome is PassageOutcome.OWED
    assert box.bank.heard == []


def test_a_context_under_rules_keeps_everything_else():
    context = DecisionContext("lane-1", "t1", "l1", 5, occasion=Occasion.READING)
    assert context.under("r1") == replace(context, rules_version="r1")


def test_a_caller_that_is_cancelled_leaves_its_hold_to_be_stored(box):
    async def scenario(box):
        waiting = asyncio.create_task(box.engine.hold(hold_request(), timeout_s=5))
        await asyncio.sleep(0)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        await box.writer.submit(lambda tx: None)

    run(box, scenario)
    assert box.rows("select state from debit") == [("held",)]
