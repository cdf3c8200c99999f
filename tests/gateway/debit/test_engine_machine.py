"""The debit engine under anything: cars, cards, a bank that does as it likes, power cuts, all in any order.

After every step the ledger verifies. When everything has come to rest the ledger's account of the bank is compared with
the bank's own book, and what every claim became with what its card really did.
"""

import asyncio
import os
import shutil
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from sqlalchemy.exc import OperationalError

from gateway.debit.claims import HoldPlaced, HoldRefused, PurchasePlan, PurchaseResult
from gateway.debit.engine import Collection, DebitEngine, ProvenClaim, StorageLate, Superseded
from gateway.debit.attempts import Terminals
from gateway.ledger.verify import verify
from gateway.ledger.writer import Committer, StorageUnavailable, Writer
from gateway.model.clock import to_us
from gateway.model.passage import Barrier, DeclinePolicy, Funding, Outcome, PurchaseOutcome
from gateway.outbox.worker import OutboxWorker, RetryPolicy

from .conftest import CONTEXT, TAKEN, Box, hold_request, payer_of
from .model_bank import ADVICE, AGE_S, REVERSAL, SALE, ModelBank

TERMINALS = ("T0000001", "T0000002")
LIMIT = 6_000
"""Fen one mandate may have reserved and owe: three of the larger claims."""
STAND_IN = 4_000
ROUNDS_MAX = 400
"""Outbox rounds until everything has come to rest; far more than any history needs."""

NOT_TAKEN = PurchaseResult(PurchaseOutcome.NOT_TAKEN)
UNKNOWN = PurchaseResult(PurchaseOutcome.UNKNOWN)
DISPUTED = PurchaseResult(PurchaseOutcome.DISPUTED)
NO_TAC = PurchaseResult(PurchaseOutcome.TAKEN)
RESULTS = (TAKEN, TAKEN, TAKEN, TAKEN, NO_TAC, NOT_TAKEN, UNKNOWN, DISPUTED)


class PowerCommitter(Committer):
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

    @property
    def payer(self):
        return self.request.payer


class Engine(RuleBasedStateMachine):
    policy = DeclinePolicy.RELEASE_AS_DEBT

    def __init__(self):
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="engine-"))
        self.runner = asyncio.Runner()
        self.box = Box(self.folder / "ledger.db")
        self.bank = ModelBank(self.box.clock)
        self.collection = Collection(self.policy, {"bank-1": Terminals(TERMINALS, "000001")})
        self.claims = {}
        self.decisions = {}
        self._start()

    def teardown(self):
        try:
            self._run(self._rest())
            self._judge()
        finally:
            self.box.writer.stop()
            self.box.database.dispose()
            self.box.reader.dispose()
            self.runner.close()
            shutil.rmtree(self.folder)

    # --- the box --------------------------------------------------------------------------------------------------

    def _run(self, work):
        return self.runner.run(work)

    def _start(self):
        self.committer = PowerCommitter(self.box.database, lambda: to_us(self.box.clock.utcnow()))
        self.box.writer = Writer(self.committer)
        self.box.writer.start()
        self._run(self._wire())

    async def _wire(self):
        box = self.box
        parts = {"clock": box.clock, "random": box.random}
        self.engine = DebitEngine(box.writer, box.reader, {"bank-1": self.bank}, **parts)
        self.outbox = OutboxWorker(self.bank, box.writer, box.reader, **parts, policy=RetryPolicy())
        self.findings = await self.engine.recover({"lane-1": self.collection}, lambda tx, mandate: STAND_IN)

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
        while self.engine._follow_ups:
            await asyncio.sleep(0.0005)

    async def _drain(self, rounds):
        for _ in range(rounds):
            for row in self.outbox._due():
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
            if self.outbox.backlog().count == 0:
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
        previous = self.engine.previous(card)
        assert previous is not None
        purchase_id = self.box.rows(
            "select id from purchase where debit_id = :d order by attempt_no desc limit 1", d=claim.debit_id
        )[0][0]
        return ProvenClaim(
            claim.debit_id,
            claim.request.amount_fen,
            claim.payer,
            CONTEXT,
            self.collection,
            purchase_id,
            result,
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
            taken_by_bank = [a for key, a in self.bank.book.items() if self.bank.asked[key] == claim.payer.contract_ref]
            if claim.card is None or claim.card in (PurchaseOutcome.UNKNOWN, PurchaseOutcome.DISPUTED):
                assert state == "held"
            elif claim.card is PurchaseOutcome.NOT_TAKEN:
                assert state == "voided"
            else:
                assert state in ("funded", "debt", "released")
            if state == "funded" and claim.payer.funding is Funding.BANK_ONLINE:
                assert taken_by_bank == [claim.request.amount_fen], "taken once"
            elif claim.payer.funding is Funding.BANK_ONLINE:
                assert taken_by_bank == []
        paid = {c.key for c in self.claims.values() if c.debit_id and self._state(c) in ("funded", "debt", "released")}
        earned = sum(self.claims[key].request.amount_fen for key in paid)
        assert self.box.balance("merchant") == earned

    @invariant()
    def the_ledger_verifies(self):
        bad = [f for check in verify(self.box.reader) for f in check.findings]
        assert bad == []

    # --- cars -----------------------------------------------------------------------------------------------------

    @rule(
        funding=st.sampled_from([*Funding, Funding.BANK_ONLINE, Funding.BANK_ONLINE]),
        mandate=st.sampled_from(["m1", "m2"]),
        card=st.integers(1, 4),
        amount=st.sampled_from([1, 1500, 2000]),
        late=st.sampled_from([False, False, False, True]),
    )
    def hold(self, funding, mandate, card, amount, late):
        key = f"k{len(self.claims)}"
        payer = payer_of(funding, mandate=mandate, limit=LIMIT, stand_in=STAND_IN)
        if funding is Funding.BANK_ONLINE:
            # One contract a claim, so that the bank's book can be compared claim by claim.
            from dataclasses import replace

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
                with pytest.raises(StorageLate):
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

    @precondition(lambda self: self.claims)
    @rule(data=st.data())
    def same_key_again(self, data):
        claim = data.draw(st.sampled_from(sorted(self.claims.values(), key=lambda c: c.key)), "claim")
        if claim.debit_id is None:
            return
        before = self.box.rows("select count(*) from transfer")
        placed = self._run(self.engine.hold(claim.request, timeout_s=20))
        assert placed == HoldPlaced(claim.debit_id, placed.purchase_id, replayed=True)
        from dataclasses import replace

        other = replace(claim.request, amount_fen=claim.request.amount_fen + 1)
        assert self._run(self.engine.hold(other, timeout_s=20)) == HoldRefused("idempotency_conflict")
        assert self.box.rows("select count(*) from transfer") == before

    # --- what the card says, and the bank -------------------------------------------------------------------------

    @precondition(lambda self: self._waiting("intent", "unknown"))
    @rule(
        index=st.integers(0, 3),
        result=st.sampled_from(RESULTS),
        bank=st.sampled_from(SALE),
        timeout=st.sampled_from([2.0, 2.0, 2.0, 0.1]),
        callers=st.sampled_from([1, 1, 1, 2]),
    )
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
            assert decision.outcome in (Outcome.PAID, Outcome.OWED, Outcome.DEBT)
            assert all(d == decision for d in decisions), "the second caller gets the first one's decision"
        else:
            assert decision.barrier is not Barrier.OPEN
        self.decisions[claim.key] = decision

    @precondition(lambda self: self._waiting("unknown", "intent"))
    @rule(index=st.integers(0, 3))
    def next_attempt(self, index):
        """The card was read and proves that it never paid: the same hold is tried again."""
        waiting = self._waiting("unknown", "intent")
        claim = waiting[index % len(waiting)]
        previous = self.engine.previous(claim.request.sight.identity.card_number)
        assert previous.debit_id == claim.debit_id
        plan = PurchasePlan(previous.written_fen, "20261123100001", 50_000, previous.file_before, b"after, once more")
        first = self._run(self.engine.next_purchase(previous, plan, timeout_s=20))
        claim.card = None
        with pytest.raises(Superseded):
            self._run(self.engine.next_purchase(previous, plan, timeout_s=20))
        newest = self.engine.previous(claim.request.sight.identity.card_number)
        assert (newest.purchase_id, newest.state, newest.attempt_no) == (first, "intent", previous.attempt_no + 1)

    @precondition(lambda self: self.decisions)
    @rule(data=st.data(), result=st.sampled_from([TAKEN, None, UNKNOWN, NOT_TAKEN, DISPUTED]))
    def bring_in_again(self, data, result):
        """A claim that was decided is not decided again, whatever is said about it; above all no bank is asked."""
        key = data.draw(st.sampled_from(sorted(self.decisions)), "claim")
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

    @rule(
        rounds=st.integers(1, 4),
        reversals=st.lists(st.sampled_from(REVERSAL), max_size=3),
        advices=st.lists(st.sampled_from(ADVICE), max_size=3),
    )
    def drain(self, rounds, reversals, advices):
        self.bank.plan["reversal"].extend(reversals)
        self.bank.plan["advice"].extend(advices)
        self._run(self._drain(rounds))
        self.bank.plan["reversal"].clear()
        self.bank.plan["advice"].clear()

    @precondition(lambda self: self.outbox.backlog().count and (self.bank.late_answers or self.bank.network))
    @rule(reversal=st.sampled_from(REVERSAL), advice=st.sampled_from(ADVICE), index=st.integers(0, 3))
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

    @precondition(lambda self: self.bank.network)
    @rule(index=st.integers(0, 3), answered=st.booleans())
    def a_delayed_sale_arrives(self, index, answered):
        self.bank.arrive(index % len(self.bank.network), answered=answered)

    @precondition(lambda self: self.bank.late_answers)
    @rule(index=st.integers(0, 3), twice=st.booleans(), without_terminal=st.sampled_from([False, False, True]))
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

    @rule(seconds=st.sampled_from([1.0, 20.0, AGE_S]))
    def time_passes(self, seconds):
        self.box.clock.now += seconds

    @rule(lose=st.booleans())
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


PROFILE = settings(
    max_examples=int(os.environ.get("ENGINE_EXAMPLES", "40")),
    stateful_step_count=30,
    derandomize="ENGINE_EXAMPLES" not in os.environ,
    deadline=None,
    database=None,
    suppress_health_check=list(HealthCheck),
)
Engine.TestCase.settings = PROFILE
TestEngine = Engine.TestCase
Strict.TestCase.settings = settings(PROFILE, max_examples=10)
TestStrictEngine = Strict.TestCase
