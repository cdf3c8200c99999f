"""`charge`: claim and collect without a card, once, whoever asks how often and whatever fails in between."""

import asyncio
import itertools
from dataclasses import replace

import pytest
from sqlalchemy.exc import OperationalError

from gateway.debit.claims import HoldPlaced, HoldRefused
from gateway.ledger.writer import StorageUnavailable
from gateway.model.answers import AnswerClass
from gateway.model.passage import DeclinePolicy, Funding, PassageOutcome, Release, Service

from .conftest import (
    APPROVED,
    CONTEXT,
    DECLINED,
    NOT_SENT,
    POLICY,
    SILENT,
    Box,
    claim_request,
    code,
    hold_request,
    live,
    rules_of,
)
from .model_bank import ModelBank
from .test_engine_machine import sqlite_busy

ISSUER = Funding.ISSUER_CLEARING

# --- what the bank says -------------------------------------------------------------------------------------------

SAYS = (
    # answer, time left for it, release, outcome, reason, state of the debit, states of its attempts, messages
    (APPROVED, 2.0, Release.GO, PassageOutcome.PAID, None, "funded", ["approved"], ["sale"]),
    (DECLINED, 2.0, Release.GO, PassageOutcome.DEBT, "bank_declined", "debt", ["declined"], ["sale"]),
    (SILENT, 2.0, Release.GO, PassageOutcome.OWED, "bank_silent", "owed", ["unknown"], ["sale"]),
    (NOT_SENT, 2.0, Release.GO, PassageOutcome.OWED, "bank_silent", "owed", ["not_sent", "stored"], ["sale"]),
    (
        code("96", AnswerClass.UNSETTLED),
        2.0,
        Release.GO,
        PassageOutcome.OWED,
        "bank_silent",
        "owed",
        ["unknown"],
        ["sale"],
    ),
    (None, 0.2, Release.GO, PassageOutcome.OWED, "bank_silent", "owed", ["stored"], []),
)


@pytest.mark.parametrize("case", SAYS)
def test_what_the_bank_says_decides(box, case):
    answer, time_s, release, outcome, reason, state, attempts, heard = case

    async def scenario(box):
        return await box.charge(claim_request(), *([answer] if answer else []), timeout=time_s)

    decision = live(box, scenario)
    assert (decision.release, decision.outcome, decision.reason) == (release, outcome, reason)
    assert (box.states(), box.states("attempt"), box.kinds()) == ([state], attempts, heard)
    assert box.balance("merchant") == 1500
    assert box.rows("select rules_version from decision") == [("2026-12-2",)]


def test_silence_without_leave_to_stand_in_calls_the_attendant(box):
    async def scenario(box):
        return await box.charge(claim_request(stand_in=1000), SILENT)

    decision = live(box, scenario)
    assert (decision.release, decision.outcome, decision.reason) == (
        Release.ATTENDANT,
        PassageOutcome.OWED,
        "stand_in_limit",
    )


def test_a_lane_that_keeps_who_is_declined_calls_the_attendant(box):
    strict = DeclinePolicy.HOLD_FOR_ATTENDANT

    async def scenario(box):
        box.bank.answers.append(DECLINED)
        brought = await box.engine.charge(claim_request(), CONTEXT, strict, deadline=box.clock.monotonic() + 2)
        return brought.decision

    assert live(box, scenario).release is Release.ATTENDANT


def test_an_issuer_that_collects_is_charged_in_one_commit(box):
    async def scenario(box):
        committed = []
        commit = box.writer._committer.commit
        box.writer._committer.commit = lambda changes: committed.append(len(changes)) or commit(changes)
        decision = await box.charge(claim_request(funding=ISSUER))
        assert committed == [1]
        return decision

    decision = live(box, scenario)
    assert (decision.release, decision.outcome, decision.funding) == (Release.GO, PassageOutcome.PAID, ISSUER)
    assert box.states() == ["released"]
    assert box.balance("open") == -1500
    assert box.bank.heard == []


def test_what_makes_no_sense_is_refused_and_leaves_nothing(box):
    async def scenario(box):
        purse = replace(claim_request(), payer=replace(claim_request().payer, funding=Funding.PURSE))
        with_card = hold_request(funding=Funding.BANK_ONLINE)
        nowhere = replace(claim_request(), payer=replace(claim_request().payer, name="bank-9"))
        without = replace(claim_request(), payer=replace(claim_request().payer, contract_ref=None))
        return [await box.charge(request) for request in (purse, with_card, nowhere, without)]

    refused = live(box, scenario)
    assert refused == [HoldRefused("purse_needs_card")] * 2 + [HoldRefused("bank_unavailable")] * 2
    assert box.rows("select count(*) from passage") == [(0,)]


# --- the same key -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("funding", [Funding.BANK_ONLINE, ISSUER])
@pytest.mark.parametrize("answer", [APPROVED, DECLINED, SILENT, NOT_SENT])
def test_the_same_claim_again_is_the_same_answer_also_after_a_restart(box, funding, answer):
    decisions = []

    async def twice(box):
        for _ in range(2):
            decisions.append(await box.charge(claim_request(funding=funding), answer))
            box.bank.answers.clear()

    live(box, twice, twice)
    assert len(set(decisions)) == 1
    assert len(box.bank.heard) == (funding is not ISSUER)
    assert box.rows("select count(*) from debit") == box.rows("select count(*) from decision") == [(1,)]


@pytest.mark.parametrize("funding", [Funding.BANK_ONLINE, ISSUER])
@pytest.mark.parametrize("limit", [None, 1000])
def test_twenty_callers_with_one_claim_are_one_execution(box, funding, limit):
    async def scenario(box):
        request = claim_request(funding=funding, limit=limit)
        box.bank.answers.append(APPROVED)
        return await asyncio.gather(*(box.charge(request) for _ in range(20)))

    decisions = live(box, scenario)
    assert len(set(decisions)) == 1
    assert decisions[0].outcome is (PassageOutcome.PAID if limit is None else PassageOutcome.REFUSED)
    assert len(box.bank.heard) <= 1
    assert box.rows("select count(*) from decision") == [(1,)]


def test_twenty_refused_callers_share_their_commit(box):
    """Nobody's change is at fault: a group that has to be taken apart costs one commit a caller."""

    async def scenario(box):
        failed = []
        commit = box.writer._committer.commit

        def watched(changes):
            try:
                return commit(changes)
            except Exception as error:
                failed.append(error)
                raise

        box.writer._committer.commit = watched
        request = claim_request(funding=ISSUER, limit=1000)
        await asyncio.gather(*(box.charge(request) for _ in range(20)))
        return failed

    assert live(box, scenario) == []


def test_twenty_callers_with_claims_of_their_own_get_numbers_without_a_gap(box):
    async def scenario(box):
        box.bank.answers.extend([APPROVED, DECLINED, NOT_SENT] * 10)
        requests = [
            claim_request(
                f"k{n}", funding=(Funding.BANK_ONLINE, ISSUER)[n % 2], mandate=f"m{n}", limit=(None, 10)[n % 5 == 0]
            )
            for n in range(20)
        ]
        return await asyncio.gather(*(box.charge(request) for request in requests))

    decisions = live(box, scenario)
    assert sorted(d.record_no for d in decisions) == list(range(1, 21))
    assert sum(d.reason == "limit_exceeded" for d in decisions) == 4


@pytest.mark.parametrize("funding", [Funding.BANK_ONLINE, ISSUER])
def test_a_claim_that_was_refused_is_refused_as_a_hold_too_also_after_a_restart(box, funding):
    """Whoever was turned away and reserves with the same key gets the answer it had, also when the limit has grown."""
    again = claim_request(funding=funding)
    answers = []

    async def hold(box):
        others = (claim_request(funding=funding, amount=999), hold_request(again.idempotency_key, funding=funding))
        answers.extend([await box.engine.hold(call, timeout_s=5) for call in (again, again, *others)])

    async def charged_and_held(box):
        assert (await box.charge(claim_request(funding=funding, limit=1000))).reason == "limit_exceeded"
        await hold(box)

    live(box, charged_and_held, hold)
    limit, conflict = HoldRefused("limit_exceeded"), HoldRefused("idempotency_conflict")
    assert answers == [limit, limit, conflict, conflict] * 2
    assert box.rows("select count(*) from passage") == box.rows("select count(*) from decision") == [(1,)]
    assert box.states() == []


def test_a_claim_refused_and_reserved_in_one_commit_is_refused_twice(box):
    async def scenario(box):
        refused, again = claim_request(funding=ISSUER, limit=1000), claim_request(funding=ISSUER)
        return await asyncio.gather(box.charge(refused), box.engine.hold(again, timeout_s=5))

    charged, placed = live(box, scenario)
    assert (charged.reason, placed) == ("limit_exceeded", HoldRefused("limit_exceeded"))


def test_the_same_key_for_another_claim_is_refused(box):
    async def scenario(box):
        first = await box.charge(claim_request(), APPROVED)
        assert first.outcome is PassageOutcome.PAID
        others = (
            claim_request(amount=1501),
            claim_request(mandate="m2"),
            claim_request(funding=ISSUER),
            claim_request(merchant="road-2"),
            claim_request(service=Service.PARKING),
        )
        return [await box.charge(request) for request in others]

    assert live(box, scenario) == [HoldRefused("idempotency_conflict")] * 5
    assert box.rows("select count(*) from debit") == [(1,)]


def test_a_refused_charge_stays_refused_though_the_limit_was_raised(box):
    async def first(box):
        refused = await box.charge(claim_request(limit=1000))
        assert (refused.release, refused.outcome, refused.reason) == (
            Release.STOP,
            PassageOutcome.REFUSED,
            "limit_exceeded",
        )
        return refused

    async def second(box):
        again = await box.charge(claim_request(limit=5000))
        assert again == box.refused
        assert await box.charge(claim_request(limit=5000, amount=1)) == HoldRefused("idempotency_conflict")
        another = await box.charge(claim_request("k2", limit=5000), APPROVED)
        assert another.outcome is PassageOutcome.PAID

    async def remembered(box):
        box.refused = await first(box)

    live(box, remembered, second)
    assert box.rows("select outcome, reason from decision order by record_no") == [
        ("refused", "limit_exceeded"),
        ("paid", None),
    ]


# --- callers that go away, and power cuts -------------------------------------------------------------------------


def test_a_caller_who_gives_up_does_not_stop_it(box):
    async def scenario(box):
        under_way, go_on = asyncio.Event(), asyncio.Event()
        exchange = box.bank.exchange

        async def slow(request, *, timeout_s):
            under_way.set()
            await go_on.wait()
            return await exchange(request, timeout_s=timeout_s)

        box.bank.exchange = slow
        task = asyncio.create_task(box.charge(claim_request(), APPROVED))
        await under_way.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        go_on.set()
        again = await box.charge(claim_request())
        assert again.outcome is PassageOutcome.PAID

    live(box, scenario)
    assert box.kinds() == ["sale"]


class Fuse:
    """In a committer, burns through at one commit: nothing of it is stored, or all of it and nobody is told."""

    def __init__(self, committer, *, holds, stored):
        self._commit = committer.commit
        committer.commit = self.commit
        self.holds = holds
        self.stored = stored
        self.burnt = asyncio.Event()
        self.loop = asyncio.get_running_loop()

    def commit(self, changes):
        if self.holds == 0 and self.stored:
            self._commit(changes)
        if self.holds <= 0:
            self.holds, self.stored = -1, False
            self.loop.call_soon_threadsafe(self.burnt.set)
            raise OperationalError("power", {}, sqlite_busy())
        self.holds -= 1
        return self._commit(changes)


async def until_the_fuse_burns(box, work, holds, stored):
    """Do this with a writer that fails at its commit number `holds`; True when it was done before."""
    fuse = Fuse(box.committer, holds=holds, stored=stored)
    task, burnt = asyncio.create_task(work), asyncio.create_task(fuse.burnt.wait())
    await asyncio.wait({task, burnt}, return_when=asyncio.FIRST_COMPLETED)
    done = task.done() and not burnt.done()
    burnt.cancel()
    for follow in box.engine._follow_ups.under_way:
        follow.cancel()
    task.cancel()
    await asyncio.gather(task, *box.engine._follow_ups.under_way, return_exceptions=True)
    return done


CUTS = list(
    itertools.product(
        (Funding.BANK_ONLINE, ISSUER), ("approve", "decline", "answer lost"), (0, 1), (False, True), (False, True)
    )
)


@pytest.mark.parametrize("cut_at", CUTS)
def test_a_power_cut_at_any_commit(tmp_path, cut_at):
    """The claim asked for again before start-up closes it, or never again: the bank's book and ours agree."""
    funding, bank, holds, stored, asked_again = cut_at
    box = Box(tmp_path / "ledger.db", bank=ModelBank)
    request = claim_request(funding=funding)
    answers = []

    async def cut(box):
        box.bank.plan["sale"].append(bank)
        work = box.engine.charge(request, CONTEXT, POLICY, deadline=box.clock.monotonic() + 2)
        box.finished = await until_the_fuse_burns(box, work, holds, stored)

    async def after(box):
        await box.engine.start_up.recover({"lane-1": POLICY}, lambda tx, mandate: 100_000)
        if asked_again:
            answers.extend([await box.charge(request) for _ in range(2)])
        await box.engine.start_up.close_backlog()
        box.check()
        answers.extend([await box.charge(request) for _ in range(2)])
        box.clock.now += 60
        await box.drain(rounds=20)

    live(box, cut, after, check=False)
    box.check()
    assert len(set(answers)) == 1
    assert box.queued() == 0
    assert -box.balance("bank") == sum(box.bank.book.values())
    assert box.rows("select count(*) from debit") == [(1,)]
    assert sum(box.bank.book.values()) in (0, 1500)
    outcomes = box.rows("select outcome from decision")
    assert len(outcomes) == 1
    states = {"paid": {"funded", "released"}, "owed": {"funded", "debt"}, "debt": {"debt"}, "refused": {"voided"}}
    assert box.states()[0] in states[outcomes[0][0]]


def test_storage_that_refuses_the_claim_leaves_nothing_and_asks_no_bank(box):
    async def scenario(box):
        box.writer._committer.commit = _full
        with pytest.raises(StorageUnavailable):
            await box.charge(claim_request(), APPROVED)

    live(box, scenario)
    assert box.bank.heard == []
    assert box.rows("select count(*) from debit") == [(0,)]


def _full(changes):
    import sqlite3

    error = sqlite3.OperationalError("disk is full")
    error.sqlite_errorcode = sqlite3.SQLITE_FULL
    raise OperationalError("insert", {}, error)


def test_a_hold_and_a_charge_with_one_key_are_one_claim(box):
    async def scenario(box):
        placed = await box.engine.hold(claim_request(), timeout_s=5)
        assert isinstance(placed, HoldPlaced)
        decision = await box.charge(claim_request(), APPROVED)
        assert decision.debit_id == placed.debit_id
        assert decision.outcome is PassageOutcome.PAID

    live(box, scenario)
    assert box.rows("select count(*) from debit") == [(1,)]


def test_start_up_leaves_a_charge_under_way_to_its_caller(box):
    """Asked again while the debits of the last run are being closed: the bank has just been asked."""

    async def first(box):
        await box.engine.hold(claim_request(service=Service.TOLL), timeout_s=5)

    async def second(box):
        await box.engine.start_up.recover({"lane-1": POLICY}, lambda tx, mandate: 100_000)
        closing = box.engine.start_up._closing

        exchange = box.bank.exchange

        async def meanwhile(request, *, timeout_s):
            debit_id = box.rows("select id from debit")[0][0]
            await box.in_books(lambda tx: box.engine.start_up._close_page([debit_id], closing, tx))
            return await exchange(request, timeout_s=timeout_s)

        box.bank.exchange = meanwhile
        decision = await box.charge(claim_request(), APPROVED)
        assert decision.outcome is PassageOutcome.PAID

    live(box, first, second)
    assert box.states("attempt") == ["approved"]
    assert box.queued() == 0


# --- standing in, by the rules of the service ---------------------------------------------------------------------

STAND_IN = (
    # what differs from the rules shipped, service, amount, the bank's answer, and why the rules do not stand in
    ("", Service.FUEL, 30_000, SILENT, None),
    ("", Service.FUEL, 30_001, SILENT, "stand_in_amount"),
    ("", Service.SERVICE_AREA, 100, SILENT, "stand_in_not_offered"),
    ("", Service.PARKING, 10_000, NOT_SENT, None),
    ('[stand_in.parking]\nafter = ["not_sent"]', Service.PARKING, 100, SILENT, "stand_in_after_answer"),
    ('[stand_in.toll]\nnever_after_codes = ["96"]', Service.TOLL, 100, "96", "stand_in_after_answer"),
    ('[stand_in.toll]\nafter = []\nalso_after_codes = ["96"]', Service.TOLL, 100, "96", None),
    ("[stand_in.toll]\nper_obligor_owed_fen = 99", Service.TOLL, 100, SILENT, "stand_in_limit"),
)


@pytest.mark.parametrize("case", STAND_IN)
def test_the_rules_of_a_service_say_whether_we_decide_in_the_banks_place(tmp_path, case):
    text, service, amount, answer, why_not = case
    box = Box(tmp_path / "ledger.db", rules=rules_of(text))
    answer = code(answer, AnswerClass.UNSETTLED) if isinstance(answer, str) else answer

    async def scenario(box):
        return await box.charge(claim_request(service=service, amount=amount), answer)

    decision = live(box, scenario)
    expected = (Release.GO, "bank_silent") if why_not is None else (Release.ATTENDANT, why_not)
    assert (decision.release, decision.reason) == expected
    assert box.rows("select stood_in from debit") == [(int(why_not is None),)]
    assert box.rows("select rules_version from decision") == [("test-1@2026-12-2",)]


DECLINED_FOR_NOW = (
    ("", "91", False),
    ('[stand_in.toll]\nalso_after_codes = ["91"]', "91", True),
    ('[stand_in.toll]\nalso_after_codes = ["91"]', "51", False),
    ('[stand_in.toll]\nafter = ["silent", "declined_for_now"]', "51", True),
    ('[stand_in.toll]\nafter = ["declined_for_now"]\nnever_after_codes = ["51"]', "51", False),
    ('[stand_in.toll]\nafter = ["declined_for_now"]\nper_debit_fen = 100', "51", False),
    ('[stand_in.toll]\nafter = ["declined_for_now"]', "05", False),
)


@pytest.mark.parametrize(("text", "number", "stood_in"), DECLINED_FOR_NOW)
def test_a_refusal_that_may_pass_is_stood_in_for_where_the_rules_say_so(tmp_path, text, number, stood_in):
    box = Box(tmp_path / "ledger.db", rules=rules_of(text))

    async def scenario(box):
        decision = await box.charge(claim_request(), code(number))
        box.bank.answers.append(APPROVED)
        await box.drain()
        return decision

    decision = live(box, scenario)
    assert decision.outcome is (PassageOutcome.OWED if stood_in else PassageOutcome.DEBT)
    assert decision.release is Release.GO
    assert box.kinds() == (["sale", "advice"] if stood_in else ["sale"])
    assert box.states() == ["funded" if stood_in else "debt"]


def test_stand_ins_are_counted_a_day_and_one_that_was_refused_does_not_count(box):
    async def scenario(box):
        reasons = []
        for n, (day, amount) in enumerate((("1", 30_001), ("1", 100), ("1", 100), ("2", 100))):
            request = claim_request(f"k{n}", service=Service.FUEL, day=day, amount=amount)
            reasons.append((await box.charge(request, NOT_SENT)).reason)
        return reasons

    assert live(box, scenario) == ["stand_in_amount", "bank_silent", "stand_in_count", "bank_silent"]


def test_a_payer_in_debt_is_not_stood_in_for_at_a_pump(box):
    async def scenario(box):
        await box.charge(claim_request("k1", service=Service.FUEL), DECLINED)
        at_the_pump = await box.charge(claim_request("k2", service=Service.FUEL), SILENT)
        on_the_road = await box.charge(claim_request("k3", service=Service.TOLL), SILENT)
        return at_the_pump.reason, on_the_road.reason

    assert live(box, scenario) == ("stand_in_in_debt", "bank_silent")
