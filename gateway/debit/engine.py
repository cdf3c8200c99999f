"""The debit engine: what a charge point calls to reserve, prove and collect money, and to give it back.

Every call ends in one durable change (see `gateway.ledger.writer`); what it returns has been committed. Where a card
proves the claim the order is always the same: `hold` (with the purchase's intent), then the card is asked, then
`bring_in` (store the card's answer, ask the bank if the funding says so, decide). Without a card it is `charge`, or
`hold` and later `complete` or `release`. The decision returned *is* the committed row; barrier, pump and display
follow it and nothing else.

Same key and same content is the same claim, executed once, whoever asks how often, across restarts; same key and other
content is refused.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar
from weakref import WeakValueDictionary

from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

from gateway.banks.channel import BankAnswer, BankChannel, LateAnswer
from gateway.debit import attempts, conclusions, debts, decisions, holds, late, purchases, recovery, refunds
from gateway.debit.attempts import NewAttempt, Recovery, Terminals
from gateway.debit.claims import (
    BankRequest,
    Decision,
    DecisionContext,
    HoldPlaced,
    HoldRefused,
    HoldRequest,
    Payer,
    PreviousEntry,
    PreviousPassage,
    PreviousPurchase,
    PurchasePlan,
    PurchaseResult,
    Sight,
)
from gateway.debit.refunds import Refunded, RefundRefused, RefundRequest
from gateway.debit.states import add_item, close_item, debit_row
from gateway.ledger import clock_readings, tables
from gateway.ledger.batches import LedgerWriter, StorageUnavailable
from gateway.ledger.transaction import Transaction
from gateway.model.clock import Clock, to_us
from gateway.model.delivery import Delivery
from gateway.model.ids import RandomBits, digest_of, new_id, new_ids
from gateway.model.passage import DeclinePolicy, Funding, PurchaseOutcome, Release
from gateway.model.states import PurchaseState
from gateway.rules.loading import DebitRules, shipped_rules

ASKED_KEPT_S = 60.0
"""How long it is remembered when a debit's card was asked: longer than anybody means by lately."""

NOT_TOLD = "decision_not_told"
"""Kind of the item of a debit whose bank cannot be told what a person decided; corrected when it is told."""

T = TypeVar("T")
log = logging.getLogger(__name__)


class StorageLate(Exception):
    """The change was handed in but not durable in time; it is followed up, the caller gives up."""


class Superseded(Exception):
    """What the caller meant to go on with was ended by somebody else in the meantime. Nothing was stored."""


@dataclass(frozen=True, slots=True)
class Collection:
    """How one charge point collects: its policy and its terminals at each bank channel."""

    decline_policy: DeclinePolicy
    terminals: Mapping[str, Terminals]


@dataclass(frozen=True, slots=True)
class Timing:
    """Microseconds of one passage; `commit` is the last commit alone, `barrier` the coil's answer after it."""

    record_no: int
    total_us: int
    radio_us: int
    bank_us: int
    commit_us: int
    barrier_us: int | None


@dataclass(frozen=True, slots=True)
class ProvenClaim:
    """A held debit whose card has answered, or never needed one, and everything its decision depends on."""

    debit_id: str
    payer: Payer
    context: DecisionContext
    collection: Collection
    purchase_id: str | None = None
    result: PurchaseResult | None = None
    """None: nothing new about the purchase (there is none, or its result is stored already)."""
    card_number: str | None = None


@dataclass(frozen=True, slots=True)
class BroughtIn:
    """A decision with what it cost in time."""

    decision: Decision
    bank_us: int
    commit_us: int


class DebitEngine:
    """One engine a box, shared by all its charge points."""

    def __init__(
        self,
        writer: LedgerWriter,
        reader: Engine,
        channels: Mapping[str, BankChannel],
        *,
        clock: Clock,
        random: RandomBits,
        rules: DebitRules | None = None,
    ) -> None:
        self._writer = writer
        self._reader = reader
        self._channels = channels
        self._clock = clock
        self._random = random
        self.rules = shipped_rules() if rules is None else rules
        """The rules in force; every decision names their version."""
        self._fresh: Counter[str] = Counter()
        self._behind: recovery.Behind | None = None
        self._follow_ups: set[asyncio.Future[Any]] = set()
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        """One a debit that is being brought in; gone with its last user."""
        self._begun = clock.monotonic()
        self._asked: dict[str, float] = {}
        """Monotonic second at which something was last asked for a debit, the oldest first."""
        for channel in channels.values():
            channel.on_late(partial(self._hear_late, channel))

    # --- reading --------------------------------------------------------------------------------------------------

    def previous(self, card_number: str) -> PreviousPurchase | None:
        """The newest purchase of a card. An indexed read, well under a millisecond."""
        with self._reader.connect() as connection:
            return purchases.newest_purchase(connection, card_number)

    def newest_of_contract(self, contract: str) -> PreviousPassage | None:
        """The newest claim on a tag contract."""
        with self._reader.connect() as connection:
            return purchases.newest_of_contract(connection, contract)

    def decided_s_ago(self, record_no: int, decided_at: int) -> float:
        """Seconds since a decision was made, by whatever lane, process or person."""
        with self._reader.connect() as connection:
            return clock_readings.age_s(connection, self._clock, record_no, decided_at)

    def card_of_open_purchase(self, obu_id: bytes) -> str | None:
        """The card behind an unresolved purchase of this OBU."""
        with self._reader.connect() as connection:
            return purchases.open_purchase_of_obu(connection, obu_id)

    def asked_s_ago(self, debit_id: str) -> float:
        """Seconds since a card or a bank was to be asked for this debit; for debits of an earlier process since this
        one began, for what was asked then may still be under way."""
        return self._clock.monotonic() - self._asked.get(debit_id, self._begun)

    @property
    def selling_allowed(self) -> bool:
        """False while a new hold could not become durable at once."""
        return self._writer.selling_allowed

    # --- at start-up ----------------------------------------------------------------------------------------------

    async def recover(
        self,
        collections: Mapping[str, Collection],
        stand_in_limits: Callable[[Transaction, str | None], int],
        progress: Callable[[recovery.Findings], None] | None = None,
    ) -> recovery.Findings:
        """Classify every open debit before a charge point opens; `collections` by charge point.

        What is in doubt becomes `unknown` and is queued, so its card and tag are barred from a new purchase and its
        terminal from a new sale. Closing what can be closed comes after (`close_behind`).
        """
        await self._writer.submit(lambda tx: recovery.keep_rules(tx, self.rules), essential=True)
        findings, after = recovery.Findings(), ""
        while True:
            page = partial(recovery.classify_attempts, after=after)
            last, found = await self._writer.submit(page, essential=True)
            findings += found
            if progress is not None:
                progress(findings)
            if last is None:
                break
            after = last
        findings += await self._writer.submit(recovery.classify_rest, essential=True)
        if progress is not None:
            progress(findings)
        self._behind = recovery.Behind(
            self.rules,
            stand_in_limits,
            {name: c.decline_policy for name, c in collections.items()},
            collections,
            findings.newest_hold,
        )
        return findings

    async def close_behind(self, progress: Callable[[recovery.Findings], None] | None = None) -> recovery.Findings:
        """Close what start-up found and needs no vehicle for; charge points may be open meanwhile.

        A debit that somebody is bringing in at this moment is left to that one. One that cannot be closed stays held,
        is told in the log and put on people's list; it keeps no other open.
        """
        behind, findings, after = self._behind, recovery.Findings(), ""
        while behind is not None:
            with self._reader.connect() as connection:
                page = recovery.page_of_held(connection, after, behind.newest_hold)
            free = [debit_id for debit_id in page if debit_id not in self._locks]
            findings += await self._close(free, behind)
            if progress is not None:
                progress(findings)
            if len(page) < recovery.CLOSING_PAGE:
                break
            after = page[-1]
            await self._clock.sleep(0)
        with self._reader.connect() as connection:
            ended = recovery.ended_after_all(connection)
        if ended:
            await self._writer.submit(partial(recovery.take_off_list, debit_ids=ended), essential=True)
        return findings

    async def _close(self, debit_ids: list[str], behind: recovery.Behind) -> recovery.Findings:
        """Close these in one change; where that fails, each in a change of its own."""
        closing = self._writer.submit(partial(self._close_page, debit_ids, behind), essential=True)
        try:
            return await closing
        except StorageUnavailable:
            raise
        except Exception as error:
            if len(debit_ids) == 1:
                log.exception("debit %s cannot be closed: it stays held until somebody has looked at it", *debit_ids)
                await self.leave_to_people(recovery.NOT_CLOSED, debit_ids[0], error)
                return recovery.Findings(open_debits=1, not_closed=1)
        findings = recovery.Findings()
        for debit_id in debit_ids:
            # Somebody may have taken it up meanwhile.
            if debit_id not in self._locks:
                findings += await self._close([debit_id], behind)
        return findings

    def _close_page(self, debit_ids: list[str], behind: recovery.Behind, tx: Transaction) -> recovery.Findings:
        findings = recovery.Findings()
        at = self._clock.utcnow()
        for debit_id in debit_ids:
            found = recovery.close(tx, debit_id, behind)
            if found.decided_now:
                # Same id whenever the change runs: it is made of nothing but the debit's.
                advice = NewAttempt(digest_of("advice at start-up", debit_id)[:32], at)
                own = behind.collections.get(found.charge_point)
                # What a charge point that is gone has left is told by any other that knows the bank.
                for collection in behind.collections.values() if own is None else (own,):
                    self._advise(tx, debit_id, collection, advice)
            findings += found
        return findings

    # --- before the card is asked ---------------------------------------------------------------------------------

    async def hold(self, request: HoldRequest, *, timeout_s: float) -> HoldPlaced | HoldRefused:
        """Reserve the amount with the purchase's intent; durable when this returns.

        Raises `StorageLate` or `StorageUnavailable` when it could not be made durable in time. A hold that becomes
        durable after all is voided behind the caller's back: nothing was asked of the card.
        """
        if request.payer.funding is Funding.BANK_ONLINE and not self._can_ask(request.payer):
            return HoldRefused("bank_unavailable")
        ids = self._new_ids()
        self._note_asked(ids.debit)
        future = self._writer.submit(lambda tx: holds.place_hold(tx, request, ids, self.rules))
        try:
            return await _within(future, timeout_s)
        except TimeoutError as error:
            self._follow(future, lambda placed: self._give_up(placed, request))
            raise StorageLate from error

    async def next_purchase(self, previous: PreviousPurchase, plan: PurchasePlan, *, timeout_s: float) -> str:
        """The card proves that the earlier purchase never happened: store the next attempt on the same hold.

        Raises `Superseded` when that purchase has ended another way since it was looked at, else as `hold`.
        """
        purchase_id = self.new_id()

        def change(tx: Transaction) -> str | None:
            if not purchases.store_result(tx, previous.purchase_id, PurchaseResult(PurchaseOutcome.NOT_TAKEN), None):
                return None
            purchases.store_intent(
                tx,
                purchase_id=purchase_id,
                passage_id=previous.passage_id,
                debit_id=previous.debit_id,
                attempt_no=previous.attempt_no + 1,
                plan=plan,
            )
            return purchase_id

        self._note_asked(previous.debit_id)
        future = self._writer.submit(change)
        try:
            stored = await _within(future, timeout_s)
        except TimeoutError as error:
            raise StorageLate from error
        if stored is None:
            raise Superseded(f"purchase {previous.purchase_id} ended while its card was being read")
        return stored

    def _note_asked(self, debit_id: str) -> None:
        now = self._clock.monotonic()
        self._asked.pop(debit_id, None)
        self._asked[debit_id] = now
        while now - self._asked[oldest := next(iter(self._asked))] > ASKED_KEPT_S:
            del self._asked[oldest]

    # --- without a card -------------------------------------------------------------------------------------------

    async def charge(
        self, request: HoldRequest, context: DecisionContext, collection: Collection, *, deadline: float
    ) -> BroughtIn | HoldRefused:
        """Claim and collect an amount that needs no purchase on a card: a plate, a code, a contract.

        `deadline` is a monotonic second and chooses only how long the bank is waited for. A caller that is cancelled
        does not stop it. A limit's refusal is a decision like any other; `HoldRefused` are requests that make no sense.
        """
        if request.payer.funding is Funding.PURSE or request.plan is not None:
            return HoldRefused("purse_needs_card")
        if request.payer.funding is Funding.BANK_ONLINE and not self._can_ask(request.payer):
            return HoldRefused("bank_unavailable")
        if request.payer.funding is Funding.ISSUER_CLEARING:
            return await self._charge_issuer(request, self._ruled(context))
        return await self._see_through(self._charge(request, self._ruled(context), collection, deadline))

    async def complete(
        self,
        debit_id: str,
        amount_fen: int,
        payer: Payer,
        context: DecisionContext,
        collection: Collection,
        *,
        deadline: float,
    ) -> BroughtIn | HoldRefused:
        """What was delivered under a hold is known: collect that, or free the hold where it is nothing.

        More than was held is marked as an overrun. `payer` must be the hold's, with the limits that bind it now. A
        caller that is cancelled does not stop it.
        """
        if amount_fen < 0:
            raise ValueError(f"{amount_fen} fen were delivered: amounts are never negative")

        ruled = self._ruled(context)

        def begin(tx: Transaction, asking: holds.Asking | None) -> holds.Begun | Decision | HoldRefused:
            return holds.complete(tx, debit_id, amount_fen, payer, asking=asking, context=ruled)

        work = self._collect(
            debit_id,
            begin,
            payer=payer,
            context=ruled,
            collection=collection,
            deadline=deadline,
            essential=True,
        )
        return await self._see_through(work)

    async def release(
        self, debit_id: str, context: DecisionContext, reason: str = "nothing_delivered"
    ) -> Decision | HoldRefused:
        """Nothing was delivered under a hold: free it. A hold that was completed or asked for stays."""
        ruled = self._ruled(context)
        return await asyncio.shield(
            self._writer.submit(lambda tx: holds.release(tx, debit_id, reason, ruled), essential=True)
        )

    async def expire(self, debit_id: str, context: DecisionContext) -> Decision | None:
        """Free a hold whose time is over; None when something was begun behind it: then only evidence frees it."""
        ruled = self._ruled(context)
        return await asyncio.shield(self._writer.submit(lambda tx: holds.expire_hold(tx, debit_id, ruled)))

    async def _charge_issuer(self, request: HoldRequest, context: DecisionContext) -> BroughtIn | HoldRefused:
        """One commit for claim and decision; it happens whether anybody waits for it or not."""
        ids = self._new_ids()
        begun = self._clock.monotonic()

        def change(tx: Transaction) -> holds.Begun | Decision | HoldRefused:
            return holds.begin_charge(tx, request, ids, context=context, asking=None, rules=self.rules)

        # Nobody else waits for this future: where its caller is cancelled so may it be, and the change happens.
        return self._brought(await self._writer.submit(change), begun)

    async def _charge(
        self, request: HoldRequest, context: DecisionContext, collection: Collection, deadline: float
    ) -> BroughtIn | HoldRefused:
        ids = self._new_ids()

        def begin(tx: Transaction, asking: holds.Asking | None) -> holds.Begun | Decision | HoldRefused:
            return holds.begin_charge(tx, request, ids, context=context, asking=asking, rules=self.rules)

        return await self._collect(
            request.idempotency_key,
            begin,
            payer=request.payer,
            context=context,
            collection=collection,
            deadline=deadline,
        )

    async def _collect(
        self,
        key: str,
        begin: Callable[[Transaction, holds.Asking | None], holds.Begun | Decision | HoldRefused],
        *,
        payer: Payer,
        context: DecisionContext,
        collection: Collection,
        deadline: float,
        essential: bool = False,
    ) -> BroughtIn | HoldRefused:
        """One commit for the claim with the bank's request, then the bank, then one commit for the decision.

        `essential`: what is claimed has happened already and must be stored even on a disk that is full.
        """
        async with self._locks.setdefault(key, asyncio.Lock()):
            with self._asking_fresh(payer):
                asking = self._asking(payer, collection, deadline)
                started = self._clock.monotonic()
                begun = await self._writer.submit(lambda tx: begin(tx, asking), essential=essential)
                if not isinstance(begun, holds.Begun):
                    return self._brought(begun, started)
                async with (
                    self._locks.setdefault(begun.debit_id, asyncio.Lock()) if begun.debit_id != key else nullcontext()
                ):
                    claim = ProvenClaim(begun.debit_id, payer, context, collection)
                    return await self._finish(claim, begun.request, deadline)

    async def _finish(self, claim: ProvenClaim, request: BankRequest | None, deadline: float) -> BroughtIn:
        if request is None:
            return await self._decided(claim, None, 0)
        begun = self._clock.monotonic()
        with self._channels[request.channel].turns.asking(request.terminal, request.stan) as nothing_heard:
            answer = await self._ask(request, deadline)
            if answer.delivery is not Delivery.ANSWERED:
                nothing_heard()
            bank_us = int((self._clock.monotonic() - begun) * 1e6)
            return await self._decided(claim, answer, bank_us)

    async def _decided(self, claim: ProvenClaim, answer: BankAnswer | None, bank_us: int) -> BroughtIn:
        begun = self._clock.monotonic()
        decision = await self._conclude(claim, answer)
        return BroughtIn(decision, bank_us, int((self._clock.monotonic() - begun) * 1e6))

    def _brought(self, found: holds.Begun | Decision | HoldRefused, begun: float) -> BroughtIn | HoldRefused:
        if isinstance(found, holds.Begun):
            raise TypeError("a charge of an issuer ends in one change")
        if isinstance(found, HoldRefused):
            return found
        return BroughtIn(found, 0, int((self._clock.monotonic() - begun) * 1e6))

    # --- afterwards -----------------------------------------------------------------------------------------------

    async def refund(self, request: RefundRequest, collection: Collection | None = None) -> Refunded | RefundRefused:
        """Give back some of what was collected. A bank is told by the outbox until it answers."""
        refund_id, advice = self.new_id(), NewAttempt(self.new_id(), self._clock.utcnow())

        def change(tx: Transaction) -> Refunded | RefundRefused:
            found = refunds.decide_refund(tx, request, refund_id)
            if isinstance(found, Refunded) and not found.replayed:
                self._tell_refund(tx, found.refund_id, collection, advice)
            return found

        return await asyncio.shield(self._writer.submit(change))

    async def adjust(self, debit_id: str, amount_fen: int, reason: str, actor: str) -> str | None:
        """Put right what an unpaid claim asks for; None when done, else the code of why not."""
        if amount_fen < 0:
            raise ValueError(f"a claim of {amount_fen} fen: amounts are never negative")
        return await asyncio.shield(
            self._writer.submit(
                lambda tx: refunds.adjust(tx, debit_id, amount_fen, reason, actor=actor, rules=self.rules)
            )
        )

    async def write_off(self, debit_id: str, actor: str, reason: str) -> str | None:
        """Write a debt off, once two people agree; None when done, else the code of why not (yet)."""
        return await asyncio.shield(
            self._writer.submit(lambda tx: debts.write_off(tx, debit_id, actor, reason, self.rules))
        )

    async def resolve_attempt(self, attempt_id: str, *, posted: bool, source: str, actor: str) -> late.LateEffect:
        """What the bank's day file, or a person who asked the bank, says of an attempt in doubt."""
        return await asyncio.shield(
            self._writer.submit(
                lambda tx: late.resolve_attempt(
                    tx, attempt_id, posted=posted, source=source, actor=actor, rules=self.rules
                ),
                essential=True,
            )
        )

    def fresh(self, channel: str) -> bool:
        """Whether a vehicle waits for this bank at this moment: a backlog steps aside for it."""
        return self._fresh[channel] > 0

    def reachable(self, channel: str) -> bool:
        """Whether this bank can be asked at this moment."""
        found = self._channels.get(channel)
        return found is not None and found.up

    async def start_recovery(self, debit_id: str, collection: Collection) -> Recovery:
        """Queue one more try to collect a debt, where one can be made now."""
        new = NewAttempt(self.new_id(), self._clock.utcnow())

        def change(tx: Transaction) -> Recovery:
            debit = debit_row(tx, debit_id)
            channel, terminals = self._channels.get(debit.payer), collection.terminals.get(debit.payer)
            if channel is None or terminals is None:
                return Recovery.LATER
            return attempts.store_recovery(tx, channel, terminals, new, debit=debit)

        return await asyncio.shield(self._writer.submit(change))

    async def keep_lists(self, obligors: Sequence[str]) -> None:
        """Put these payers on the box's own list, or take them off, by their debts and how old those are."""

        def change(tx: Transaction) -> None:
            for obligor in obligors:
                debts.keep_list(tx, obligor, self.rules)

        await asyncio.shield(self._writer.submit(change))

    async def adopt(self, debit_id: str, collection: Collection) -> None:
        """Queue what a person's act left to be told to the bank: an advice, refunds."""
        advice, at = self.new_id(), self._clock.utcnow()

        def change(tx: Transaction) -> None:
            self._advise(tx, debit_id, collection, NewAttempt(advice, at))
            for refund in refunds.untold(tx, debit_id):
                self._tell_refund(tx, refund.id, collection, NewAttempt(digest_of("refund", refund.id)[:32], at))
            close_item(tx, NOT_TOLD, debit_id, note="it is told")

        await asyncio.shield(self._writer.submit(change, essential=True))

    async def leave_to_people(self, kind: str, debit_id: str, error: Exception) -> None:
        """Put a debit on the list that people work through: something about it cannot be done, by an error of ours."""
        note = f"{type(error).__name__}: the log of this moment says more"
        await self._writer.submit(lambda tx: add_item(tx, kind, debit_id, note, again=True), essential=True)

    # --- after the card answered ----------------------------------------------------------------------------------

    async def bring_in(
        self, claim: ProvenClaim, *, deadline: float, on_stored: Callable[[], None] = lambda: None
    ) -> BroughtIn:
        """Store the card's answer, ask the bank where the funding says so, decide by the table.

        `on_stored` is called once, as soon as the card's answer is durable: whoever brought it need not wait for the
        bank.
        `deadline` is a monotonic second. It chooses only how long the bank is waited for: the decision itself is
        whatever gets committed, however long that takes. Two callers with one debit (two antennas see the same
        vehicle) go one after the other, and the second gets the decision of the first.
        """
        lock = self._locks.setdefault(claim.debit_id, asyncio.Lock())
        async with lock:
            return await self._bring_in(claim, deadline, on_stored)

    async def _bring_in(self, claim: ProvenClaim, deadline: float, on_stored: Callable[[], None]) -> BroughtIn:
        taken = claim.result is None or claim.result.outcome is PurchaseOutcome.TAKEN
        if not (claim.payer.funding is Funding.BANK_ONLINE and taken):
            brought = await self._finish(claim, None, deadline)
            on_stored()
            return brought
        with self._asking_fresh(claim.payer):
            begun = self._clock.monotonic()
            stored = await self._store_sale(claim, deadline)
            on_stored()
            if isinstance(stored, Decision):
                return BroughtIn(stored, 0, int((self._clock.monotonic() - begun) * 1e6))
            return await self._finish(claim, stored, deadline)

    async def refuse(
        self, sight: Sight, reason: str, release: Release, context: DecisionContext, *, timeout_s: float
    ) -> Decision:
        """Record a passage that is turned away, with its reason."""
        subject_id, ruled = self.new_id(), self._ruled(context)
        future = self._writer.submit(
            lambda tx: decisions.refuse(tx, sight, subject_id, reason=reason, release=release, context=ruled)
        )
        try:
            return await _within(future, timeout_s)
        except TimeoutError as error:
            raise StorageLate from error

    async def repeat(self, passage_id: str, debit_id: str, release: Release, context: DecisionContext) -> Decision:
        """A vehicle that was dealt with is still there: same barrier as before, nothing charged."""
        ruled = self._ruled(context)
        return await asyncio.shield(
            self._writer.submit(lambda tx: decisions.repeat(tx, passage_id, debit_id, release, ruled))
        )

    def newest_entry(self, card_number: str, charge_point: str) -> PreviousEntry | None:
        """The newest entry of a card recorded at a lane."""
        with self._reader.connect() as connection:
            return purchases.newest_entry(connection, card_number, charge_point)

    async def admit(self, sight: Sight, context: DecisionContext, *, timeout_s: float) -> Decision:
        """Record the entry of a trip. Raises `StorageLate` as `hold` does."""
        subject_id, ruled = self.new_id(), self._ruled(context)
        future = self._writer.submit(lambda tx: decisions.admit(tx, sight, subject_id, ruled))
        try:
            return await _within(future, timeout_s)
        except TimeoutError as error:
            raise StorageLate from error

    async def repeat_entry(self, earlier: PreviousEntry, context: DecisionContext) -> Decision:
        """A vehicle whose entry is recorded is still there: let it through once more."""
        ruled = self._ruled(context)
        return await asyncio.shield(
            self._writer.submit(lambda tx: decisions.repeat_entry(tx, earlier.passage_id, ruled))
        )

    async def note_timings(self, timings: list[Timing]) -> None:
        """Store where the time of finished passages went; losing some at a power cut costs no money."""
        rows = [
            {
                "record_no": t.record_no,
                "total_us": t.total_us,
                "radio_us": t.radio_us,
                "bank_us": t.bank_us,
                "commit_us": t.commit_us,
                "barrier_us": t.barrier_us,
            }
            for t in timings
        ]

        def change(tx: Transaction) -> None:
            for row in rows:
                tx.insert(tables.timing, **row)

        if rows:
            await asyncio.shield(self._writer.submit(change))

    def new_id(self) -> str:
        """A fresh time-ordered identifier."""
        return new_id(to_us(self._clock.utcnow()), self._random)

    def _new_ids(self) -> holds.NewIds:
        return holds.NewIds(*new_ids(4, to_us(self._clock.utcnow()), self._random))

    # --- inside ---------------------------------------------------------------------------------------------------

    async def _store_sale(self, claim: ProvenClaim, deadline: float) -> BankRequest | Decision | None:
        """One commit for the card's answer and the bank's request; None when the bank cannot be asked in time.

        Where the answer does not prove the purchase the bank is not asked, and the decision is in the same commit.
        """
        asking = self._asking(claim.payer, claim.collection, deadline)
        decide = self._deciding(claim, None)

        def change(tx: Transaction) -> BankRequest | Decision | None:
            if claim.purchase_id is not None and claim.result is not None:
                purchases.store_result(tx, claim.purchase_id, claim.result, claim.card_number)
            newest = purchases.newest_of_debit(tx, claim.debit_id)
            if newest is not None and newest.state != PurchaseState.TAKEN:
                return decide(tx)
            if asking is None:
                return None
            debit = debit_row(tx, claim.debit_id)
            return attempts.store_sale(tx, asking.channel, asking.terminals, asking.new, debit=debit)

        return await asyncio.shield(self._writer.submit(change, essential=True))

    async def _conclude(self, claim: ProvenClaim, answer: BankAnswer | None) -> Decision:
        """Commit the decision."""
        return await asyncio.shield(self._writer.submit(self._deciding(claim, answer), essential=True))

    def _deciding(self, claim: ProvenClaim, answer: BankAnswer | None) -> Callable[[Transaction], Decision]:
        """The change that decides; what is owed on our own word gets its advice in it."""
        conclusion = _conclusion(claim, answer, self._ruled(claim.context))
        advice = NewAttempt(self.new_id(), self._clock.utcnow())

        def change(tx: Transaction) -> Decision:
            decision = conclusions.conclude(tx, conclusion, self.rules)
            if claim.payer.funding is Funding.BANK_ONLINE:
                self._advise(tx, claim.debit_id, claim.collection, advice)
            return decision

        return change

    def _advise(self, tx: Transaction, debit_id: str, collection: Collection | None, new: NewAttempt) -> None:
        """Queue the advice of a debit that is owed and about which nothing is in doubt at the bank."""
        debit = debit_row(tx, debit_id)
        channel = self._channels.get(debit.payer)
        terminals = None if collection is None else collection.terminals.get(debit.payer)
        if channel is not None and terminals is not None:
            attempts.queue_advice(tx, debit, channel, terminal=terminals.numbers[0], new=new)

    def _tell_refund(self, tx: Transaction, refund_id: str, collection: Collection | None, new: NewAttempt) -> None:
        refund = refunds.refund_row(tx, refund_id)
        debit = debit_row(tx, refund.debit_id)
        channel = self._channels.get(debit.payer)
        terminals = None if collection is None else collection.terminals.get(debit.payer)
        if refund.target == "bank" and channel is not None and terminals is not None:
            attempts.queue_refund(tx, refund, debit, channel, terminals=terminals, new=new)

    def _asking(self, payer: Payer, collection: Collection, deadline: float) -> holds.Asking | None:
        """How the bank is asked, None when that would be in vain: no link of ours, or no time."""
        channel, terminals = self._channels.get(payer.name), collection.terminals.get(payer.name)
        worth_asking = self._bank_time(deadline) > self.rules.deadline.bank_worth_asking_ms / 1000
        if payer.funding is not Funding.BANK_ONLINE or channel is None or terminals is None or not worth_asking:
            return None
        return holds.Asking(channel, terminals, NewAttempt(self.new_id(), self._clock.utcnow()))

    @contextmanager
    def _asking_fresh(self, payer: Payer) -> Iterator[None]:
        """Somebody waits for this bank."""
        self._fresh[payer.name] += 1
        try:
            yield
        finally:
            self._fresh[payer.name] -= 1

    def _ruled(self, context: DecisionContext) -> DecisionContext:
        """With the rules' version: it stands on every decision."""
        return context.under(self.rules.version)

    async def _see_through(self, work: Coroutine[Any, Any, T]) -> T:
        """Run to its end even when nobody waits any more: a claim that was stored must be decided."""
        task = asyncio.get_running_loop().create_task(work)
        self._follow_ups.add(task)
        task.add_done_callback(self._follow_ups.discard)
        return await asyncio.shield(task)

    async def _ask(self, request: BankRequest, deadline: float) -> BankAnswer:
        """Send a stored sale and wait as long as the deadline allows."""
        timeout_s = self._bank_time(deadline)
        if timeout_s <= 0:
            return BankAnswer(Delivery.NOT_SENT, detail="no time left to ask the bank")
        return await self._channels[request.channel].exchange(request.request, timeout_s=timeout_s)

    def _can_ask(self, payer: Payer) -> bool:
        """Whether the mandate names a bank of this site and a contract its messages can carry."""
        channel = self._channels.get(payer.name)
        if channel is None or payer.contract_ref is None or not channel.takes(payer.contract_ref):
            log.error("mandate %s cannot be charged: no bank %s, or no usable contract", payer.mandate_id, payer.name)
            return False
        return True

    def _bank_time(self, deadline: float) -> float:
        return deadline - self.rules.deadline.kept_back_ms / 1000 - self._clock.monotonic()

    def _give_up(self, placed: HoldPlaced | HoldRefused, request: HoldRequest) -> None:
        """A hold that became durable too late: its caller asked no card, so it is voided."""
        if not isinstance(placed, HoldPlaced) or placed.replayed:
            return
        claim = ProvenClaim(
            debit_id=placed.debit_id,
            payer=request.payer,
            context=DecisionContext(charge_point=request.sight.charge_point),
            collection=Collection(DeclinePolicy.HOLD_FOR_ATTENDANT, {}),
            purchase_id=placed.purchase_id,
            result=PurchaseResult(PurchaseOutcome.NOT_TAKEN),
        )
        conclusion = _conclusion(claim, None, self._ruled(claim.context))
        self._follow(
            self._writer.submit(lambda tx: conclusions.give_up(tx, conclusion, self.rules), essential=True), None
        )

    def _hear_late(self, channel: BankChannel, heard: LateAnswer) -> None:
        channel.turns.in_turn(heard.terminal, heard.stan, partial(self._book_late, channel, heard))

    def _book_late(self, channel: BankChannel, heard: LateAnswer) -> None:
        if not self._may_be_ours(channel.name, heard.stan):
            log.debug("late answer of %s trace %s: no message of ours", channel.name, heard.stan)
            return
        future = self._writer.submit(lambda tx: late.late_answer(tx, channel.name, heard, self.rules), essential=True)
        self._follow(
            future,
            lambda effect: log.log(
                logging.DEBUG if effect in late.NO_NEWS else logging.WARNING,
                "late answer %s of %s terminal %s trace %s: %s",
                heard.answer.code,
                channel.name,
                heard.terminal,
                heard.stan,
                effect.value,
            ),
        )

    def _may_be_ours(self, channel: str, stan: str) -> bool:
        """Whether a message of ours may have had the trace number. Every message is durable before it leaves, so one
        that no table knows is none of ours, and its answer costs no write: a host may send any number of them."""
        try:
            with self._reader.connect() as connection:
                return late.was_used(connection, channel, stan)
        except SQLAlchemyError as error:
            log.warning("a late answer of %s goes to the writer unseen: %s", channel, type(error).__name__)
            return True

    def _follow(self, future: asyncio.Future[T], then: Callable[[T], None] | None) -> None:
        """See a change through that nobody waits for any more; the set keeps it from being collected."""

        def done(finished: asyncio.Future[T]) -> None:
            self._follow_ups.discard(finished)
            if finished.cancelled():
                return
            error = finished.exception()
            if error is not None:
                log.error("a followed-up change was not stored: %s", error)
            elif then is not None:
                then(finished.result())

        self._follow_ups.add(future)
        future.add_done_callback(done)


def _conclusion(claim: ProvenClaim, answer: BankAnswer | None, context: DecisionContext) -> conclusions.Conclusion:
    return conclusions.Conclusion(
        debit_id=claim.debit_id,
        context=context,
        decline_policy=claim.collection.decline_policy,
        stand_in_limit_fen=claim.payer.stand_in_limit_fen,
        purchase_id=claim.purchase_id,
        result=claim.result,
        card_number=claim.card_number,
        bank=answer,
    )


async def _within(future: asyncio.Future[T], timeout_s: float) -> T:
    """Wait so long and no longer; `TimeoutError` then. The future goes on whatever becomes of the caller.

    As `wait_for` of a shielded future, at half the price: every durable answer is waited for here.
    """
    loop = asyncio.get_running_loop()
    waiter: asyncio.Future[None] = loop.create_future()

    def wake(_: object) -> None:
        if not waiter.done():
            waiter.set_result(None)

    future.add_done_callback(wake)
    timer = loop.call_later(timeout_s, wake, None)
    try:
        await waiter
    except asyncio.CancelledError:
        future.add_done_callback(_forget)
        raise
    finally:
        timer.cancel()
        future.remove_done_callback(wake)
    if not future.done():
        raise TimeoutError
    return future.result()


def _forget(future: asyncio.Future[Any]) -> None:
    """Nobody is left to hear the error of a change whose caller was cancelled."""
    if not future.cancelled():
        future.exception()
