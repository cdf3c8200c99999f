"""The debit engine: what a charge point calls to reserve, prove and collect money.

Every call ends in one durable change (see `gateway.ledger.writer`); what it returns has been committed. The order is
always the same: `hold` (with the purchase's intent), then the card is asked, then `bring_in` (store the card's answer,
ask the bank if the funding says so, decide). The decision returned *is* the committed row; barrier and display follow
it and nothing else.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any, TypeVar
from weakref import WeakValueDictionary

from sqlalchemy import Engine

from gateway.banks.channel import BankAnswer, BankChannel, Delivery, LateAnswer
from gateway.debit import attempts, debits, purchases, recovery
from gateway.debit.attempts import Terminals
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
from gateway.ledger import tables
from gateway.ledger.batches import LedgerWriter
from gateway.ledger.transaction import Transaction
from gateway.model.clock import Clock, to_us
from gateway.model.ids import RandomBits, digest_of, new_id
from gateway.model.passage import Barrier, DeclinePolicy, Funding, PurchaseOutcome

KEPT_BACK_S = 0.250
"""Of the deadline, kept for commit and barrier after the bank has had its say."""

BANK_WORTH_ASKING_S = 0.050
"""With less time than this left the bank could not answer anyway, and would leave a reversal behind."""

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
    amount_fen: int
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
    ) -> None:
        self._writer = writer
        self._reader = reader
        self._channels = channels
        self._clock = clock
        self._random = random
        self._follow_ups: set[asyncio.Future[Any]] = set()
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        """One a debit that is being brought in; gone with its last user."""
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

    def card_of_open_purchase(self, obu_id: bytes) -> str | None:
        """The card behind an unresolved purchase of this OBU."""
        with self._reader.connect() as connection:
            return purchases.open_purchase_of_obu(connection, obu_id)

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
        """Classify every open debit before a charge point opens; `collections` by charge point."""

        at = self._clock.utcnow()

        def advise(tx: Transaction, debit_id: str, charge_point: str) -> None:
            # Same id whenever the change runs: it is made of nothing but the debit's.
            advice_id = digest_of("advice at start-up", debit_id)[:32]
            self._advise(tx, debit_id, collections.get(charge_point), advice_id, at)

        policy = recovery.RecoveryPolicy(
            stand_in_limits, {name: c.decline_policy for name, c in collections.items()}, advise
        )
        findings = await self._writer.submit(recovery.count_queued, essential=True)
        after: str | None = ""
        while after is not None:
            page = partial(recovery.classify_page, after=after, policy=policy)
            after, found = await self._writer.submit(page, essential=True)
            findings += found
            if progress is not None:
                progress(findings)
        return findings

    # --- before the card is asked ---------------------------------------------------------------------------------

    async def hold(self, request: HoldRequest, *, timeout_s: float) -> HoldPlaced | HoldRefused:
        """Reserve the amount with the purchase's intent; durable when this returns.

        Raises `StorageLate` or `StorageUnavailable` when it could not be made durable in time. A hold that becomes
        durable after all is voided behind the caller's back: nothing was asked of the card.
        """
        if request.payer.funding is Funding.BANK_ONLINE and not self._can_ask(request.payer):
            return HoldRefused("bank_unavailable")
        ids = debits.NewIds(*(self.new_id() for _ in range(4)))
        future = self._writer.submit(lambda tx: debits.place_hold(tx, request, ids))
        try:
            return await asyncio.wait_for(asyncio.shield(future), timeout_s)
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

        future = self._writer.submit(change)
        try:
            stored = await asyncio.wait_for(asyncio.shield(future), timeout_s)
        except TimeoutError as error:
            raise StorageLate from error
        if stored is None:
            raise Superseded(f"purchase {previous.purchase_id} ended while its card was being read")
        return stored

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
        request: BankRequest | None = None
        answer: BankAnswer | None = None
        bank_us = 0
        taken = claim.result is None or claim.result.outcome is PurchaseOutcome.TAKEN
        if claim.payer.funding is Funding.BANK_ONLINE and taken:
            request = await self._store_sale(claim, deadline)
            on_stored()
            if request is not None:
                begun = self._clock.monotonic()
                answer = await self._ask(request, deadline)
                bank_us = int((self._clock.monotonic() - begun) * 1e6)
        begun = self._clock.monotonic()
        decision = await self._conclude(claim, answer)
        if not (claim.payer.funding is Funding.BANK_ONLINE and taken):
            on_stored()
        return BroughtIn(decision, bank_us, int((self._clock.monotonic() - begun) * 1e6))

    async def refuse(
        self, sight: Sight, reason: str, barrier: Barrier, context: DecisionContext, *, timeout_s: float
    ) -> Decision:
        """Record a passage that is turned away, with its reason."""
        subject_id = self.new_id()
        future = self._writer.submit(
            lambda tx: debits.refuse(tx, sight, subject_id, reason=reason, barrier=barrier, context=context)
        )
        try:
            return await asyncio.wait_for(asyncio.shield(future), timeout_s)
        except TimeoutError as error:
            raise StorageLate from error

    async def repeat(self, passage_id: str, debit_id: str, barrier: Barrier, context: DecisionContext) -> Decision:
        """A vehicle that was dealt with is still there: same barrier as before, nothing charged."""
        return await asyncio.shield(
            self._writer.submit(lambda tx: debits.repeat(tx, passage_id, debit_id, barrier, context))
        )

    def newest_entry(self, card_number: str, charge_point: str) -> PreviousEntry | None:
        """The newest entry of a card recorded at a lane."""
        with self._reader.connect() as connection:
            return purchases.newest_entry(connection, card_number, charge_point)

    async def admit(self, sight: Sight, context: DecisionContext, *, timeout_s: float) -> Decision:
        """Record the entry of a trip. Raises `StorageLate` as `hold` does."""
        subject_id = self.new_id()
        future = self._writer.submit(lambda tx: debits.admit(tx, sight, subject_id, context))
        try:
            return await asyncio.wait_for(asyncio.shield(future), timeout_s)
        except TimeoutError as error:
            raise StorageLate from error

    async def repeat_entry(self, earlier: PreviousEntry, context: DecisionContext) -> Decision:
        """A vehicle whose entry is recorded is still there: let it through once more."""
        return await asyncio.shield(
            self._writer.submit(lambda tx: debits.repeat_entry(tx, earlier.passage_id, context))
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

    # --- inside ---------------------------------------------------------------------------------------------------

    async def _store_sale(self, claim: ProvenClaim, deadline: float) -> BankRequest | None:
        """One commit for the card's answer and the bank's request; None when the bank cannot be asked in time."""
        payer = claim.payer
        channel, terminals = self._channels.get(payer.name), claim.collection.terminals.get(payer.name)
        attempt_id, at = self.new_id(), self._clock.utcnow()
        worth_asking = self._bank_time(deadline) > BANK_WORTH_ASKING_S

        def change(tx: Transaction) -> BankRequest | None:
            if claim.purchase_id is not None and claim.result is not None:
                purchases.store_result(tx, claim.purchase_id, claim.result, claim.card_number)
            newest = purchases.newest_of_debit(tx, claim.debit_id)
            if newest is not None and newest.state != "taken":
                return None
            if channel is None or terminals is None or payer.contract_ref is None or not worth_asking:
                return None
            return attempts.store_sale(
                tx,
                channel,
                terminals,
                attempt_id=attempt_id,
                debit_id=claim.debit_id,
                amount_fen=claim.amount_fen,
                contract_ref=payer.contract_ref,
                at=at,
            )

        return await asyncio.shield(self._writer.submit(change, essential=True))

    async def _conclude(self, claim: ProvenClaim, answer: BankAnswer | None) -> Decision:
        """Commit the decision; what is owed on our own word gets its advice in the same commit."""
        conclusion = _conclusion(claim, answer)
        advice_id, at = self.new_id(), self._clock.utcnow()

        def change(tx: Transaction) -> Decision:
            decision = debits.conclude(tx, conclusion)
            self._advise(tx, claim.debit_id, claim.collection, advice_id, at)
            return decision

        return await asyncio.shield(self._writer.submit(change, essential=True))

    def _advise(
        self, tx: Transaction, debit_id: str, collection: Collection | None, advice_id: str, at: datetime
    ) -> None:
        """Queue the advice of a debit that is owed and about which nothing is in doubt at the bank."""
        debit = attempts.debit_row(tx, debit_id)
        channel = self._channels.get(debit.payer)
        terminals = None if collection is None else collection.terminals.get(debit.payer)
        if channel is None or terminals is None:
            return
        attempts.queue_advice(
            tx,
            debit,
            channel,
            terminal=terminals.numbers[0],
            batch=terminals.batch,
            attempt_id=advice_id,
            at=at,
        )

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
        return deadline - KEPT_BACK_S - self._clock.monotonic()

    def _give_up(self, placed: HoldPlaced | HoldRefused, request: HoldRequest) -> None:
        """A hold that became durable too late: its caller asked no card, so it is voided."""
        if not isinstance(placed, HoldPlaced) or placed.replayed:
            return
        claim = ProvenClaim(
            debit_id=placed.debit_id,
            amount_fen=request.amount_fen,
            payer=request.payer,
            context=DecisionContext(charge_point=request.sight.charge_point),
            collection=Collection(DeclinePolicy.HOLD_FOR_ATTENDANT, {}),
            purchase_id=placed.purchase_id,
            result=PurchaseResult(PurchaseOutcome.NOT_TAKEN),
        )
        conclusion = _conclusion(claim, None)
        self._follow(self._writer.submit(lambda tx: debits.give_up(tx, conclusion), essential=True), None)

    def _hear_late(self, channel: BankChannel, late: LateAnswer) -> None:
        future = self._writer.submit(
            lambda tx: attempts.late_answer(tx, channel.name, late.terminal, late.stan, late.answer), essential=True
        )
        self._follow(
            future,
            lambda effect: log.warning(
                "late answer %s of %s terminal %s trace %s: %s",
                late.answer.code,
                channel.name,
                late.terminal,
                late.stan,
                effect.value,
            ),
        )

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


def _conclusion(claim: ProvenClaim, answer: BankAnswer | None) -> debits.Conclusion:
    return debits.Conclusion(
        debit_id=claim.debit_id,
        context=claim.context,
        decline_policy=claim.collection.decline_policy,
        stand_in_limit_fen=claim.payer.stand_in_limit_fen,
        purchase_id=claim.purchase_id,
        result=claim.result,
        card_number=claim.card_number,
        bank=answer,
    )
