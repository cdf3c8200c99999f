"""Decider: stores a claim or its card's answer, asks the bank where the funding says so, applies the table.

One commit for the claim or the card's answer, with the bank's request; then the bank; then one commit for the decision.
Whatever the bank does, and however long it takes, a claim that was stored is decided: `deadline`, a monotonic second,
chooses only how long the bank is waited for. Callers with one claim go one after the other, and the second gets the
decision of the first.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Container
from contextlib import nullcontext
from dataclasses import dataclass
from typing import TypeAlias
from weakref import WeakValueDictionary

from gateway.banks.channel import BankAnswer
from gateway.debit import attempts, conclusions, holds, purchases
from gateway.debit.asking import Banks
from gateway.debit.attempts import Asking
from gateway.debit.claims import (
    BankRequest,
    Decision,
    DecisionContext,
    HoldPlaced,
    HoldRefused,
    HoldRequest,
    Payer,
    PurchaseResult,
)
from gateway.debit.states import debit_row
from gateway.debit.waiting import FollowUps
from gateway.ledger.batches import LedgerWriter
from gateway.ledger.transaction import Transaction
from gateway.model.clock import Clock
from gateway.model.delivery import Delivery
from gateway.model.passage import DeclinePolicy, Funding, PurchaseOutcome
from gateway.model.states import PurchaseState
from gateway.rules.loading import DebitRules


@dataclass(frozen=True, slots=True)
class ProvenClaim:
    """Held debit whose card has answered, or never needed one, with everything its decision depends on."""

    debit_id: str
    payer: Payer
    context: DecisionContext
    decline_policy: DeclinePolicy
    purchase_id: str | None = None
    result: PurchaseResult | None = None
    """Result of the purchase; None: nothing new (there is none, or its result is stored already)."""
    card_number: str | None = None


@dataclass(frozen=True, slots=True)
class BroughtIn:
    """Decision with the time it took, in microseconds."""

    decision: Decision
    bank_us: int
    commit_us: int


Stored: TypeAlias = holds.Begun | Decision | HoldRefused
Begin: TypeAlias = Callable[[Transaction, Asking | None], Stored]
"""Stores a claim, with the bank's request where there is a way to ask it."""


async def _as_long_as_it_takes(storing: asyncio.Future[Stored]) -> Stored:
    return await storing


class Decider:
    """Decider of claims; one for each engine."""

    def __init__(
        self, writer: LedgerWriter, banks: Banks, follow_ups: FollowUps, *, clock: Clock, rules: DebitRules
    ) -> None:
        self._writer = writer
        self._banks = banks
        self._follow_ups = follow_ups
        self._clock = clock
        self._rules = rules
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        """Lock of each debit that is being brought in; removed with its last user."""

    @property
    def taken_up(self) -> Container[str]:
        """Debits that are being brought in at this moment."""
        return self._locks

    # --- a claim that is not stored yet ---------------------------------------------------------------------------

    async def at_once(self, begin: Begin) -> BroughtIn | HoldRefused:
        """Store and decide a claim in one commit, without a bank; it happens whether anybody waits for it or not."""
        begun = self._clock.monotonic()
        # Nobody else waits for this future: where its caller is cancelled so may it be, and the change happens.
        return self._brought(await self._writer.submit(lambda tx: begin(tx, None)), begun)

    async def collect(
        self,
        key: str,
        begin: Begin,
        *,
        payer: Payer,
        context: DecisionContext,
        decline_policy: DeclinePolicy,
        deadline: float,
        essential: bool = False,
        stored: Callable[[asyncio.Future[Stored]], Awaitable[Stored]] = _as_long_as_it_takes,
    ) -> BroughtIn | HoldRefused:
        """Store the claim with the bank's request in one commit, ask the bank, store the decision in another.

        `essential`: what is claimed has happened already and must be stored even on a disk that is full.
        `stored` waits for the claim's commit.
        """
        async with self._lock(key):
            with self._banks.waited_for(payer):
                asking = self._banks.asking(payer, context.charge_point, deadline)
                started = self._clock.monotonic()
                begun = await stored(self._writer.submit(lambda tx: begin(tx, asking), essential=essential))
                if not isinstance(begun, holds.Begun):
                    return self._brought(begun, started)
                async with self._lock(begun.debit_id) if begun.debit_id != key else nullcontext():
                    claim = ProvenClaim(begun.debit_id, payer, context, decline_policy)
                    return await self._finish(claim, begun.request, deadline)

    def _brought(self, found: Stored, begun: float) -> BroughtIn | HoldRefused:
        if isinstance(found, holds.Begun):
            raise TypeError("a charge of an issuer ends in one change")
        if isinstance(found, HoldRefused):
            return found
        return BroughtIn(found, 0, self._us_since(begun))

    # --- a debit that is held -------------------------------------------------------------------------------------

    async def bring_in(self, claim: ProvenClaim, deadline: float, on_stored: Callable[[], None]) -> BroughtIn:
        """Store the card's answer, ask the bank where the funding says so, decide.

        `on_stored` is called once, as soon as the card's answer is durable.
        """
        async with self._lock(claim.debit_id):
            return await self._bring_in(claim, deadline, on_stored)

    async def _bring_in(self, claim: ProvenClaim, deadline: float, on_stored: Callable[[], None]) -> BroughtIn:
        taken = claim.result is None or claim.result.outcome is PurchaseOutcome.TAKEN
        if not (claim.payer.funding is Funding.BANK_ONLINE and taken):
            brought = await self._finish(claim, None, deadline)
            on_stored()
            return brought
        with self._banks.waited_for(claim.payer):
            begun = self._clock.monotonic()
            stored = await self.store_sale(claim, deadline)
            on_stored()
            if isinstance(stored, Decision):
                return BroughtIn(stored, 0, self._us_since(begun))
            return await self._finish(claim, stored, deadline)

    async def store_sale(self, claim: ProvenClaim, deadline: float) -> BankRequest | Decision | None:
        """Store the card's answer and the bank's request in one commit; None when the bank cannot be asked in time.

        Where the answer does not prove the purchase the bank is not asked, and the decision is in the same commit.
        """
        asking = self._banks.asking(claim.payer, claim.context.charge_point, deadline)
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
            return attempts.store_sale(tx, asking, debit)

        return await asyncio.shield(self._writer.submit(change, essential=True))

    def give_up(self, placed: HoldPlaced | HoldRefused, request: HoldRequest, *, unsent: bool = False) -> None:
        """Void a hold that became durable too late: its caller asked no card. `unsent`: it was stored with a request to
        the bank, which has not left."""
        if not isinstance(placed, HoldPlaced) or placed.replayed:
            return
        claim = ProvenClaim(
            debit_id=placed.debit_id,
            payer=request.payer,
            context=DecisionContext(charge_point=request.sight.charge_point),
            decline_policy=DeclinePolicy.HOLD_FOR_ATTENDANT,
            purchase_id=placed.purchase_id,
            result=PurchaseResult(PurchaseOutcome.NOT_TAKEN),
        )
        conclusion = self._conclusion(
            claim, BankAnswer(Delivery.NOT_SENT, detail="stored too late") if unsent else None
        )
        self._follow_ups.follow(
            self._writer.submit(lambda tx: conclusions.give_up(tx, conclusion, self._rules), essential=True), None
        )

    # --- the bank, then the decision ------------------------------------------------------------------------------

    async def _finish(self, claim: ProvenClaim, request: BankRequest | None, deadline: float) -> BroughtIn:
        if request is None:
            return await self._decided(claim, None, 0)
        begun = self._clock.monotonic()
        with self._banks.turn(request) as nothing_heard:
            answer = await self._banks.ask(request, deadline)
            if answer.delivery is not Delivery.ANSWERED:
                nothing_heard()
            return await self._decided(claim, answer, self._us_since(begun))

    async def _decided(self, claim: ProvenClaim, answer: BankAnswer | None, bank_us: int) -> BroughtIn:
        begun = self._clock.monotonic()
        decision = await asyncio.shield(self._writer.submit(self._deciding(claim, answer), essential=True))
        return BroughtIn(decision, bank_us, self._us_since(begun))

    def _deciding(self, claim: ProvenClaim, answer: BankAnswer | None) -> Callable[[Transaction], Decision]:
        """Make the change that decides; a debit owed on our own decision gets its advice in it."""
        conclusion = self._conclusion(claim, answer)
        advice = self._banks.new_attempt()

        def change(tx: Transaction) -> Decision:
            decision = conclusions.conclude(tx, conclusion, self._rules)
            if claim.payer.funding is Funding.BANK_ONLINE:
                self._banks.advise(tx, claim.debit_id, claim.context.charge_point, advice)
            return decision

        return change

    def _conclusion(self, claim: ProvenClaim, answer: BankAnswer | None) -> conclusions.Conclusion:
        return conclusions.Conclusion(
            debit_id=claim.debit_id,
            context=claim.context.under(self._rules.version),
            decline_policy=claim.decline_policy,
            stand_in_limit_fen=claim.payer.stand_in_limit_fen,
            purchase_id=claim.purchase_id,
            result=claim.result,
            card_number=claim.card_number,
            bank=answer,
            channel=self._banks.channel(claim.payer.name),
        )

    def _lock(self, key: str) -> asyncio.Lock:
        return self._locks.setdefault(key, asyncio.Lock())

    def _us_since(self, begun: float) -> int:
        return int((self._clock.monotonic() - begun) * 1e6)
