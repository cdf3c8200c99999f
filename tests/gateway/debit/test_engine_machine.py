"""The debit engine under anything: cars, cards, a bank that does as it likes, power cuts, all in any order.

After every step the ledger verifies. When everything has come to rest the ledger's account of the bank is compared with
the bank's own book, and what every claim became with what its card really did.
"""

import asyncio
import itertools
import os
import random
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from sqlalchemy.exc import OperationalError

from gateway.debit.claims import HoldPlaced, HoldRefused, PurchasePlan, PurchaseResult
from gateway.debit.engine import DebitEngine, ProvenClaim, StorageLate, Superseded
from gateway.debit.refunds import RefundRefused, RefundRequest
from gateway.ledger.verify import verify
from gateway.ledger.writer import StorageUnavailable, Writer
from gateway.model.passage import DeclinePolicy, Funding, PassageOutcome, PurchaseOutcome, Release, Service
from gateway.outbox.collector import Collector
from gateway.outbox.worker import OutboxWorker
from hardware.bench.chain_key import KEYS

from .conftest import CONTEXT, TAKEN, Box, GatedCommitter, claim_request, hold_request, honest, payer_of
from .model_bank import ADVICE, AGE_S, REVERSAL, SALE, ModelBank

pytestmark = pytest.mark.slow

TERMINALS = ("T0000001", "T0000002")
LIMIT = 6_000
"""Fen one mandate may have reserved and owe: three of the larger claims."""
STAND_IN = 4_000
ROUNDS_MAX = 400
"""Outbox rounds until everything has come to rest; far more than any history needs."""

PAID = {"funded", "debt", "released", "recovered"}
"""Where a claim that stands may have come to rest."""

NOT_TAKEN = PurchaseResult(PurchaseOutcome.NOT_TAKEN)
UNKNOWN = PurchaseResult(PurchaseOutcome.UNKNOWN)
DISPUTED = PurchaseResult(PurchaseOutcome.DISPUTED)
NO_TAC = PurchaseResult(PurchaseOutcome.TAKEN)
RESULTS = (TAKEN, TAKEN, TAKEN, TAKEN, NO_TAC, NOT_TAKEN, UNKNOWN, DISPUTED)


class PowerCommitter(GatedCommitter):
    """Once the power is off, nothing more is committed."""

    power = True

    def commit(self, changes):
        if not self.power:
            error = sqlite_busy()
            raise OperationalError("power", {}, error)
        return super().commit(changes)


def sqlite_busy():
    import sqlite3

    error = sqlite3.OperationalError("power is off")
    error.sqlite_errorcode = sqlite3.SQLITE_BUSY
    return error


class Claim:
    """What the test knows of one claim."""

    def __init__(self, key, request):
        self.key = key
        self.request = request
        self.debit_id = None
        self.card = None
        """How the card's part ended, by the first end the ledger was told; None while it was told none."""
        self.amount = request.amount_fen
        """What it claims: of a pump what was delivered."""
        self.ended = None
        """Without a card: `claimed`, `freed`, None while its hold is open."""

    @property
    def payer(self):
        return self.request.payer

    @property
    def plain(self):
        """Without a card."""
        return self.request.plan is None


class Engine(RuleBasedStateMachine):
    policy = DeclinePolicy.RELEASE_AS_DEBT

    def __init__(self):
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="engine-"))
        self.runner = asyncio.Runner()
        self.box = Box(self.folder / "ledger.db")
        self.bank = ModelBank(self.box.clock)
        self.claims = {}
        self.decisions = {}
        self._start()

    def teardown(self):
        try:
            self._run(self._rest())
            self._judge()
        finally:
            self.close()

    def close(self):
        self.box.writer.stop()
        self.box.database.dispose()
        self.box.reader.dispose()
        self.runner.close()
        shutil.rmtree(self.folder)

    # --- the box --------------------------------------------------------------------------------------------------

    def _run(self, work):
        return self.runner.run(work)

    def _start(self):
        self.committer = PowerCommitter(self.box.database, self.box.clock, keys=KEYS, mark=self.box.mark)
        self.box.writer = Writer(self.committer)
        self.box.writer.start()
        self._run(self._wire())

    async def _wire(self):
        box = self.box
        parts = {"clock": box.clock, "random": box.random}
        self.engine = box.engine = DebitEngine(box.writer, box.queries, {"bank-1": self.bank}, **parts)
        self.outbox = OutboxWorker(self.bank, box.writer, box.queries, **parts)
        self.collector = Collector("bank-1", self.engine, box.queries, clock=box.clock)
        self.findings = await self.engine.start_up.recover({"lane-1": self.policy}, lambda tx, mandate: STAND_IN)
        await self.engine.start_up.close_backlog()

    def _power_cut(self, *, lose):
        """`lose`: what was handed to the writer and not committed is gone, else it just made it."""
        self.committer.power = not lose
        self.box.writer.stop()
        self.box.database.dispose()
        self.box.reader.dispose()
        self.box.clock.now += 7
        self.box.open()
        self._start()
        for claim in self.claims.values():
            known = self.box.rows("select id from debit where idempotency_key = :k", k=claim.key)
            claim.debit_id = known[0][0] if known else None

    async def _settle(self):
        while self.engine._follow_ups.under_way:
            await asyncio.sleep(0.0005)

    async def _drain(self, rounds):
        self.bank.plan["sale"].clear()
        await self._send(rounds)

    async def _send(self, rounds):
        for _ in range(rounds):
            for row in await self.outbox._due():
                await self.outbox._send(row)
            self.box.clock.now += 2.0

    async def _rest(self):
        """Everything that wanders arrives or dies, every answer is heard, the bank becomes reasonable."""
        for queue in self.bank.plan.values():
            queue.clear()
        for _ in range(len(self.bank.network)):
            self.bank.arrive(0, answered=False)
        while self.bank.late_answers:
            self.bank.hear_late(0)
            await self._settle()
        for _ in range(ROUNDS_MAX):
            if self.box.queued() == 0:
                return
            await self._drain(1)
        raise AssertionError(self.box.rows("select * from outbox where done_at is null"))

    # --- what is true ---------------------------------------------------------------------------------------------

    def _state(self, claim):
        return self.box.rows("select state from debit where id = :i", i=claim.debit_id)[0][0]

    def _exposure(self, mandate):
        rows = self.box.rows(
            "select coalesce(sum(amount), 0) from debit where mandate_id = :m"
            " and state in ('held', 'released', 'owed', 'debt')",
            m=mandate,
        )
        return rows[0][0]

    def _waiting(self, *states):
        """Claims whose debit is held and whose newest purchase is in one of these states, oldest first."""
        rows = self.box.rows(
            "select d.idempotency_key, p.state from debit d join purchase p on p.debit_id = d.id"
            " where d.state = 'held' and p.attempt_no = (select max(attempt_no) from purchase where debit_id = d.id)"
            " order by d.hold_id"
        )
        return [self.claims[key] for key, state in rows if state in states]

    def _claim(self, claim, result):
        card = claim.request.sight.identity.card_number
        previous = self.box.previous(card)
        assert previous is not None
        purchase_id = self.box.rows(
            "select id from purchase where debit_id = :d order by attempt_no desc limit 1", d=claim.debit_id
        )[0][0]
        return ProvenClaim(
            claim.debit_id,
            claim.payer,
            CONTEXT,
            self.policy,
            purchase_id,
            honest(result, claim.request, list(self.claims).index(claim.key)),
            card,
        )

    def _judge(self):
        """At rest."""
        assert -self.box.balance("bank") == sum(self.bank.book.values())
        assert self.box.balance("suspense") == 0
        assert self.box.rows("select count(*) from outbox where done_at is null") == [(0,)]
        unsettled = self.box.rows(
            "select kind, state from attempt where state not in ('approved', 'declined', 'reversed', 'not_sent')"
            " and debit_id in (select id from debit where state <> 'held')"
        )
        assert unsettled == []
        for claim in self.claims.values():
            if claim.debit_id is None:
                continue
            state = self._state(claim)
            by_bank = [a for key, a in self.bank.book.items() if self.bank.asked[key] == claim.payer.contract_ref]
            taken_by_bank = [fen for fen in by_bank if fen > 0]
            given_back = -sum(fen for fen in by_bank if fen < 0)
            paid_back = "select coalesce(sum(amount), 0) from refund where debit_id = :d and state = 'paid'"
            if claim.payer.funding is Funding.BANK_ONLINE:
                assert self.box.rows(paid_back, d=claim.debit_id) == [(given_back,)]
            if claim.plain:
                ends = {None: {"held"}, "freed": {"voided"}, "claimed": PAID}
                assert state in ends[claim.ended]
            elif claim.card is None or claim.card in (PurchaseOutcome.UNKNOWN, PurchaseOutcome.DISPUTED):
                assert state == "held"
            elif claim.card is PurchaseOutcome.NOT_TAKEN:
                assert state == "voided"
            else:
                assert state in PAID
            if state in ("funded", "recovered") and claim.payer.funding is Funding.BANK_ONLINE:
                assert taken_by_bank == [claim.amount] * bool(claim.amount), "taken once"
            elif claim.payer.funding is Funding.BANK_ONLINE:
                assert taken_by_bank == []
        earned = sum(c.amount for c in self.claims.values() if c.debit_id and self._state(c) in PAID)
        refunded = self.box.rows("select coalesce(sum(amount), 0) from refund")[0][0]
        assert self.box.balance("merchant") == earned - refunded
        # An issuer's are paid by the day's end; of the others only what the bank refused is still due.
        due = (
            "select coalesce(sum(r.amount), 0) from refund r left join attempt a on a.id = r.attempt_id"
            " where r.state = 'decided' and (r.target = 'issuer' or a.state = 'declined')"
        )
        assert self.box.rows(due) == [(self.box.balance("due_back"),)]

    @invariant()
    def the_ledger_verifies(self):
        bad = [f for check in verify(self.box.reader, KEYS) for f in check.findings]
        assert bad == []

    # --- one step -------------------------------------------------------------------------------------------------

    @rule(data=st.data())
    def step(self, data):
        """One rule that chooses by weight: left to choose among many, Hypothesis spends its time on the idle ones."""
        action = data.draw(st.sampled_from(possible_actions(self)), "action")
        drawn = {name: data.draw(st.sampled_from(values), name) for name, values in action.arguments.items()}
        getattr(self, action.name)(**drawn)

    # --- cars -----------------------------------------------------------------------------------------------------

    def hold(self, funding, mandate, card, amount, late):
        key = f"k{len(self.claims)}"
        limit = None if funding is Funding.PURSE else LIMIT
        payer = payer_of(funding, mandate=mandate, limit=limit, stand_in=STAND_IN)
        if funding is Funding.BANK_ONLINE:
            # One contract a claim, so that the bank's book can be compared claim by claim.
            payer = replace(payer, contract_ref=f"contract-{key}")
        request = hold_request(key, payer=payer, amount=amount, card=f"9901{card:016d}")
        open_purchase = any(
            c.request.sight.identity.card_number == f"9901{card:016d}" for c in self._waiting("intent", "unknown")
        )
        exposed = payer.mandate_id is not None and self._exposure(payer.mandate_id) + amount > LIMIT
        wanted = "purchase_open" if open_purchase else "limit_exceeded" if exposed else None
        claim = Claim(key, request)

        async def go():
            if late:
                with self.committer.shut(), pytest.raises(StorageLate):
                    await self.engine.hold(request, timeout_s=0)
                await self._settle()
                return None
            return await self.engine.hold(request, timeout_s=20)

        placed = self._run(go())
        if late:
            if wanted is None:
                self.claims[key] = claim
                claim.debit_id = self.box.rows("select id from debit where idempotency_key = :k", k=key)[0][0]
                claim.card = PurchaseOutcome.NOT_TAKEN
                assert self._state(claim) == "voided"
        elif wanted is not None:
            assert placed == HoldRefused(wanted)
            assert self.box.rows("select count(*) from debit where idempotency_key = :k", k=key) == [(0,)]
        else:
            assert isinstance(placed, HoldPlaced)
            assert not placed.replayed
            claim.debit_id = placed.debit_id
            self.claims[key] = claim

    def same_key_again(self, index):
        claim = list(self.claims.values())[-1 - index % len(self.claims)]
        if claim.debit_id is None:
            return
        before = self.box.rows("select count(*) from transfer")
        placed = self._run(self.engine.hold(claim.request, timeout_s=20))
        if self._state(claim) == "voided":
            assert placed == HoldRefused("hold_expired")
        else:
            assert placed == HoldPlaced(claim.debit_id, placed.purchase_id, replayed=True)
        other = replace(claim.request, amount_fen=claim.request.amount_fen + 1)
        assert self._run(self.engine.hold(other, timeout_s=20)) == HoldRefused("idempotency_conflict")
        assert self.box.rows("select count(*) from transfer") == before

    # --- what the card says, and the bank -------------------------------------------------------------------------

    def bring_in(self, index, result, bank, timeout, callers):
        waiting = self._waiting("intent", "unknown")
        claim = waiting[index % len(waiting)]
        self.bank.plan["sale"].clear()
        self.bank.plan["sale"].append(bank)
        proven = self._claim(claim, result)
        claim.card = result.outcome
        self._bring(claim, proven, timeout, callers)

    def _bring(self, claim, proven, timeout, callers=1):
        async def one():
            return await self.engine.bring_in(proven, deadline=self.box.clock.monotonic() + timeout)

        async def go():
            self.bank.power_cut.clear()
            tasks = [asyncio.create_task(one()) for _ in range(callers)]
            cut = asyncio.create_task(self.bank.power_cut.wait())
            await asyncio.wait({*tasks, cut}, return_when=asyncio.FIRST_COMPLETED)
            if cut.done():
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)
                return None
            cut.cancel()
            return [b.decision for b in await asyncio.gather(*tasks)]

        asked = len([m for m in self.bank.heard if m.startswith("sale")])
        decisions = self._run(go())
        now_asked = len([m for m in self.bank.heard if m.startswith("sale")])
        assert now_asked - asked <= 1, "a debit asks its bank once"
        if decisions is None:
            self._power_cut(lose=False)
            return
        decision = decisions[0]
        if claim.card is PurchaseOutcome.TAKEN:
            assert decision.outcome in (PassageOutcome.PAID, PassageOutcome.OWED, PassageOutcome.DEBT)
            assert all(d == decision for d in decisions), "the second caller gets the first one's decision"
        else:
            assert decision.release is not Release.GO
        self.decisions[claim.key] = decision

    # --- without a card -------------------------------------------------------------------------------------------

    def charge(self, mandate, amount, bank, timeout, callers):
        claim = self._plain(mandate, amount, Service.TOLL)
        refused = self._exposure(mandate) + amount > LIMIT

        async def one():
            deadline = self.box.clock.monotonic() + timeout
            return await self.engine.charge(claim.request, CONTEXT, self.policy, deadline=deadline)

        if not refused:
            self.claims[claim.key] = claim
            claim.ended = "claimed"
        decisions = self._collect(one, bank, callers)
        if refused:
            assert {d.reason for d in decisions} == {"limit_exceeded"}
        elif decisions is not None:
            claim.debit_id = decisions[0].debit_id
            assert decisions[0].outcome in (PassageOutcome.PAID, PassageOutcome.OWED, PassageOutcome.DEBT)

    def pump(self, mandate, amount):
        """A maximum is reserved."""
        claim = self._plain(mandate, amount, Service.FUEL)
        refused = self._exposure(mandate) + amount > LIMIT
        listed = self.box.rows("select listed_at from obligor where mandate_id = :m", m=mandate) not in ([], [(None,)])
        placed = self._run(self.engine.hold(claim.request, timeout_s=20))
        if refused or listed:
            assert placed == HoldRefused("debts_listed" if listed else "limit_exceeded")
            return
        claim.debit_id = placed.debit_id
        self.claims[claim.key] = claim

    def complete(self, index, delivered, bank, timeout, callers):
        """Also once more, with the same amount or another, after it was decided."""
        claim = self._pumps()[index % len(self._pumps())]
        before = claim.ended

        async def one():
            deadline = self.box.clock.monotonic() + timeout
            parts = (claim.debit_id, delivered, claim.payer, CONTEXT, self.policy)
            return await self.engine.complete(*parts, deadline=deadline)

        if before is None:
            claim.ended, claim.amount = ("claimed", delivered) if delivered else ("freed", claim.amount)
        decisions = self._collect(one, bank, callers)
        known = self.box.rows("select final_amount from debit where id = :d", d=claim.debit_id)[0][0]
        if decisions is None:
            return
        if before is not None and known != delivered:
            reason = "debit_settled" if known is None else "idempotency_conflict"
            assert set(decisions) == {HoldRefused(reason)}
        else:
            assert {d.amount_fen for d in decisions} == {delivered}

    def free(self, index, how):
        claim = self._pumps()[index % len(self._pumps())]
        found = self._run(getattr(self.engine, how)(claim.debit_id, CONTEXT))
        if claim.ended is None:
            assert found.outcome is PassageOutcome.REFUSED
            claim.ended = "freed"
        elif claim.ended == "claimed":
            assert found == (HoldRefused("debit_settled") if how == "release" else None)

    def _plain(self, mandate, amount, service):
        key = f"k{len(self.claims)}-{self.box.rows('select count(*) from passage')[0][0]}"
        request = claim_request(key, amount=amount, mandate=mandate, limit=LIMIT, stand_in=STAND_IN, service=service)
        return Claim(key, replace(request, payer=replace(request.payer, contract_ref=f"contract-{key}")))

    def _pumps(self):
        """Those that run come first, the newest before the others."""
        found = [c for c in self.claims.values() if c.plain and c.request.sight.service is Service.FUEL]
        return sorted(reversed(found), key=lambda claim: claim.ended is not None)

    def _collect(self, one, bank, callers):
        """The decisions of so many callers; None when the power was cut while the bank thought."""
        self.bank.plan["sale"].clear()
        self.bank.plan["sale"].append(bank)

        async def go():
            self.bank.power_cut.clear()
            tasks = [asyncio.create_task(one()) for _ in range(callers)]
            cut = asyncio.create_task(self.bank.power_cut.wait())
            await asyncio.wait({*tasks, cut}, return_when=asyncio.FIRST_COMPLETED)
            if not cut.done():
                cut.cancel()
                return [getattr(found, "decision", found) for found in await asyncio.gather(*tasks)]
            under_way = [*tasks, *self.engine._follow_ups.under_way]
            for task in under_way:
                task.cancel()
            await asyncio.gather(*under_way, return_exceptions=True)
            return None

        asked = len([m for m in self.bank.heard if m.startswith("sale")])
        decisions = self._run(go())
        assert len([m for m in self.bank.heard if m.startswith("sale")]) - asked <= 1, "a debit asks its bank once"
        if decisions is None:
            self._power_cut(lose=False)
        else:
            assert len(set(decisions)) == 1
        return decisions

    # --- given back, put right, tried again ------------------------------------------------------------------------

    def refund(self, index, amount, told):
        funded = self.box.rows(
            "select id, collected - refunded from debit where state in ('funded', 'recovered') order by hold_id desc"
        )
        debit_id, left = funded[index % len(funded)]
        doubt = "select 1 from attempt where debit_id = :d and state in ('stored', 'unknown', 'reversing')"
        in_doubt = bool(self.box.rows(doubt, d=debit_id))
        number = self.box.rows("select count(*) from refund")[0][0]
        request = RefundRequest(f"r{number}", debit_id, amount, "x", "ann")
        found = self._run(self.box.refund(request, told=told))
        if amount > left:
            assert found == RefundRefused("refund_above_collected")
        elif in_doubt:
            assert found == RefundRefused("bank_in_doubt")
        else:
            assert (found.amount_fen, found.replayed) == (amount, False)
            again = self._run(self.box.refund(request, told=True))
            assert (again.refund_id, again.replayed) == (found.refund_id, True)
            self._run(self.collector.round())

    def adjust(self, index, amount):
        debts = self.box.rows("select idempotency_key, id from debit where state = 'debt' order by hold_id desc")
        key, debit_id = debts[index % len(debts)]
        if self._run(self.box.adjust(debit_id, amount, "wrong class", "ann")) is None:
            self.claims[key].amount = amount

    def debts_are_tried(self, seconds, recoveries, reversals):
        self.box.clock.now += seconds
        self.bank.plan["reversal"].extend(reversals)

        async def go():
            await self.collector.round()
            self.bank.plan["sale"].clear()
            self.bank.plan["sale"].extend(recoveries)
            await self._send(2)

        self._run(go())
        self.bank.plan["sale"].clear()
        self.bank.plan["reversal"].clear()

    def bank_car(self, amount, mandate, bank, timeout, callers):
        """A card of its own, a bank that is asked."""
        known = len(self.claims)
        self.hold(Funding.BANK_ONLINE, mandate, 100 + known, amount, late=False)
        if len(self.claims) > known:
            self.bring_in(-1, TAKEN, bank, timeout, callers)

    def next_attempt(self, index):
        """The card was read and proves that it never paid: the same hold is tried again."""
        waiting = self._waiting("unknown", "intent")
        claim = waiting[index % len(waiting)]
        previous = self.box.previous(claim.request.sight.identity.card_number)
        assert previous.debit_id == claim.debit_id
        plan = PurchasePlan(previous.written_fen, "20261123100001", 50_000, previous.file_before, b"after, once more")
        first = self._run(self.engine.next_purchase(previous, plan, timeout_s=20))
        claim.card = None
        with pytest.raises(Superseded):
            self._run(self.engine.next_purchase(previous, plan, timeout_s=20))
        newest = self.box.previous(claim.request.sight.identity.card_number)
        assert (newest.purchase_id, newest.state, newest.attempt_no) == (first, "intent", previous.attempt_no + 1)

    def bring_in_again(self, index, result):
        """A claim that was decided is not decided again, whatever is said about it; above all no bank is asked."""
        key = list(self.decisions)[-1 - index % len(self.decisions)]
        claim = self.claims[key]
        if claim.debit_id is None or self._state(claim) == "held":
            return
        heard, state = len(self.bank.heard), self._state(claim)
        proven = self._claim(claim, result)
        brought = self._run(self.engine.bring_in(proven, deadline=self.box.clock.monotonic() + 2))
        assert len(self.bank.heard) == heard
        assert self._state(claim) == state
        assert brought.decision.debit_id == claim.debit_id

    # --- afterwards -----------------------------------------------------------------------------------------------

    def drain(self, rounds, reversals, advices):
        self.bank.plan["reversal"].extend(reversals)
        self.bank.plan["advice"].extend(advices)
        self._run(self._drain(rounds))
        self.bank.plan["reversal"].clear()
        self.bank.plan["advice"].clear()

    def something_is_heard_while_a_message_is_under_way(self, reversal, advice, index):
        """The answer to what left before must not be taken for one to what was heard since."""
        self.bank.plan["reversal"].append(reversal)
        self.bank.plan["advice"].append(advice)
        exchange = self.bank.exchange

        async def interrupted(request, *, timeout_s):
            answer = await exchange(request, timeout_s=timeout_s)
            if self.bank.network:
                self.bank.arrive(index % len(self.bank.network), answered=True)
            if self.bank.late_answers:
                self.bank.hear_late(index % len(self.bank.late_answers))
            await self._settle()
            return answer

        self.bank.exchange = interrupted
        try:
            self._run(self._drain(2))
        finally:
            del self.bank.exchange
            self.bank.plan["reversal"].clear()
            self.bank.plan["advice"].clear()

    def a_delayed_sale_arrives(self, index, answered):
        self.bank.arrive(index % len(self.bank.network), answered=answered)

    def a_late_answer_is_heard(self, index, twice, without_terminal):
        async def go():
            answers = self.bank.late_answers
            at = index % len(answers)
            # Without a terminal two attempts may share a trace number; then the answer is not usable, and comes again.
            kept = answers[at]
            self.bank.hear_late(at, twice=twice, without_terminal=without_terminal)
            await self._settle()
            if without_terminal:
                answers.append(kept)

        self._run(go())

    def time_passes(self, seconds):
        self.box.clock.now += seconds

    def power_cut(self, lose):
        """With something on its way to the ledger."""
        key = f"k{len(self.claims)}"
        request = hold_request(key, card=f"9901{99:016d}")

        async def go():
            self.committer.power = not lose
            task = asyncio.create_task(self.engine.hold(request, timeout_s=20))
            await asyncio.sleep(0)
            task.cancel()
            try:
                await task
            except (asyncio.CancelledError, StorageUnavailable):
                pass

        if self._waiting("intent", "unknown") and any(
            c.request.sight.identity.card_number == f"9901{99:016d}" for c in self._waiting("intent", "unknown")
        ):
            self._power_cut(lose=lose)
            return
        self._run(go())
        self._power_cut(lose=lose)
        known = self.box.rows("select id from debit where idempotency_key = :k", k=key)
        assert bool(known) is not lose
        if known:
            claim = Claim(key, request)
            claim.debit_id = known[0][0]
            self.claims[key] = claim


class Strict(Engine):
    """The lane that keeps a vehicle whose bank says no."""

    policy = DeclinePolicy.HOLD_FOR_ATTENDANT


class Action(NamedTuple):
    """A step, what each of its arguments may be, and when it makes sense."""

    name: str
    arguments: dict
    possible: Callable[[Engine], bool] = lambda _: True


INDEX = range(4)
AMOUNT = (1500, 1, 2000)
MANDATE = ("m1", "m2", "m3", "m4")
BANK = {"bank": (*SALE, "delayed", "answer late"), "timeout": (2.0, 2.0, 2.0, 0.1), "callers": (1, 1, 1, 2)}
THREE_REVERSALS = tuple(itertools.product(REVERSAL, repeat=3))
THREE_ADVICES = tuple(itertools.product(ADVICE, repeat=3))
RECOVERIES = tuple(itertools.product([how for how in SALE if not how.startswith("power cut")], repeat=2))
NO_OR_YES = (False, True)


def _open(machine):
    return bool(machine._waiting("intent", "unknown"))


def _wandering(machine):
    return bool(machine.bank.late_answers or machine.bank.network)


def _any(*states):
    wanted = ", ".join(f"'{state}'" for state in states)
    return lambda machine: bool(machine.box.rows(f"select 1 from debit where state in ({wanted}) limit 1"))


def _queued(machine):
    return machine.box.queued() > 0


WEIGHTED = (
    (5, Action("bank_car", {"amount": AMOUNT, "mandate": MANDATE, **BANK})),
    (
        2,
        Action(
            "hold",
            {
                "funding": tuple(funding for funding in Funding if funding is not Funding.CASH),
                "mandate": MANDATE,
                "card": range(1, 5),
                "amount": AMOUNT,
                "late": (False, False, True),
            },
        ),
    ),
    (1, Action("same_key_again", {"index": INDEX}, lambda m: bool(m.claims))),
    (3, Action("bring_in", {"index": INDEX, "result": RESULTS, **BANK}, _open)),
    (1, Action("next_attempt", {"index": INDEX}, _open)),
    (
        1,
        Action(
            "bring_in_again",
            {"index": INDEX, "result": (TAKEN, None, UNKNOWN, NOT_TAKEN, DISPUTED)},
            lambda m: bool(m.decisions),
        ),
    ),
    (4, Action("drain", {"rounds": (1, 1, 2, 3), "reversals": THREE_REVERSALS, "advices": THREE_ADVICES}, _queued)),
    (
        4,
        Action(
            "something_is_heard_while_a_message_is_under_way",
            {"reversal": REVERSAL, "advice": ADVICE, "index": INDEX},
            lambda m: _queued(m) and _wandering(m),
        ),
    ),
    (3, Action("a_delayed_sale_arrives", {"index": INDEX, "answered": NO_OR_YES}, lambda m: bool(m.bank.network))),
    (
        3,
        Action(
            "a_late_answer_is_heard",
            {"index": INDEX, "twice": NO_OR_YES, "without_terminal": (False, False, True)},
            lambda m: bool(m.bank.late_answers),
        ),
    ),
    (3, Action("charge", {"mandate": MANDATE, "amount": AMOUNT, **BANK})),
    (3, Action("pump", {"mandate": MANDATE, "amount": AMOUNT})),
    (3, Action("complete", {"index": INDEX, "delivered": (1, 700, 1500, 2500, 0), **BANK}, lambda m: bool(m._pumps()))),
    (1, Action("free", {"index": INDEX, "how": ("release", "expire")}, lambda m: bool(m._pumps()))),
    (2, Action("refund", {"index": INDEX, "amount": (1, 700, 1500), "told": NO_OR_YES}, _any("funded", "recovered"))),
    (1, Action("adjust", {"index": INDEX, "amount": (0, 500, 1700)}, _any("debt"))),
    (
        2,
        Action(
            "debts_are_tried",
            {"seconds": (3700.0, 90_000.0), "recoveries": RECOVERIES, "reversals": THREE_REVERSALS},
            _any("debt"),
        ),
    ),
    (1, Action("time_passes", {"seconds": (1.0, 20.0, AGE_S)})),
    (1, Action("power_cut", {"lose": NO_OR_YES})),
)


def possible_actions(machine):
    """Steps that make sense now, each as often as its weight."""
    return [action for weight, action in WEIGHTED if action.possible(machine) for _ in range(weight)]


Engine.TestCase.settings = settings(
    max_examples=12,
    stateful_step_count=25,
    derandomize=True,
    deadline=None,
    database=None,
    suppress_health_check=list(HealthCheck),
)
TestEngine = Engine.TestCase


SEEDS = (*range(11), 15) if "ENGINE_SEEDS" not in os.environ else range(int(os.environ["ENGINE_SEEDS"]))
"""Long histories of evenly drawn steps: Hypothesis finds short ones, and prefers what it knows. Of ten bugs planted in
the engine the first three find six, and the last one a reversal closed too early; the simulation finds all of them.
More by hand."""
STEPS = 60


@pytest.mark.parametrize("seed", SEEDS)
def test_a_long_history_ends_in_the_truth(seed):
    chance = random.Random(seed)
    machine = (Strict if seed % 4 == 3 else Engine)()
    finished = False
    try:
        for _ in range(STEPS):
            action = chance.choice(possible_actions(machine))
            drawn = {name: chance.choice(values) for name, values in action.arguments.items()}
            getattr(machine, action.name)(**drawn)
            machine.the_ledger_verifies()
        finished = True
    finally:
        machine.teardown() if finished else machine.close()
