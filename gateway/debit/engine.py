"""Debit engine: reserves, proves and collects money for the charge points.

Every call ends in one durable change (see `gateway.ledger.writer`); what it returns has been committed. Where a card
proves the claim the order is always the same: `hold` (with the purchase's intent), then the card is asked, then
`bring_in` (store the card's answer, ask the bank if the funding says so, decide). Without a card it is `charge`, or
`hold` and later `complete` or `release`. The decision returned *is* the committed row; barrier, pump and display
follow it and nothing else.

Same key and same content is the same claim, executed once, whoever asks how often, across restarts; same key and other
content is refused. What people do about a claim later is in `gateway.acts`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeVar

from gateway.banks.channel import BankChannel
from gateway.debit import decisions, holds, purchases
from gateway.debit.asking import Banks
from gateway.debit.attempts import Asking
from gateway.debit.claims import (
    Claimed,
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
from gateway.debit.decider import BroughtIn, Decider, ProvenClaim, Stored
from gateway.debit.delivered import DeliveredClaims
from gateway.debit.listening import Listener
from gateway.debit.start_up import StartUp
from gateway.debit.upkeep import Upkeep
from gateway.debit.waiting import FollowUps, StorageLate, within
from gateway.ledger import tables
from gateway.ledger.batches import LedgerWriter
from gateway.ledger.reading import LedgerReader
from gateway.ledger.transaction import Transaction
from gateway.model.clock import Clock, to_us
from gateway.model.ids import RandomBits, new_id, new_ids
from gateway.model.passage import DeclinePolicy, Funding, PurchaseOutcome, Release
from gateway.rules.loading import DebitRules, shipped_rules

__all__ = [
    "BroughtIn",
    "DebitEngine",
    "ProvenClaim",
    "StorageLate",
    "Superseded",
    "Timing",
]

T = TypeVar("T")

ASKED_KEPT_S = 60.0
"""Seconds for which the time of asking a debit's card is remembered: longer than any caller looks back."""


class Superseded(Exception):
    """Claim or purchase of the caller that was ended by somebody else in the meantime. Nothing was stored."""


@dataclass(frozen=True, slots=True)
class Timing:
    """Microseconds of one passage; `commit` is the last commit alone, `barrier` the coil's answer after it."""

    record_no: int
    total_us: int
    radio_us: int
    bank_us: int
    commit_us: int
    barrier_us: int | None


class DebitEngine:
    """Debit engine; one for each box, shared by all its charge points."""

    def __init__(
        self,
        writer: LedgerWriter,
        reader: LedgerReader,
        channels: Mapping[str, BankChannel],
        *,
        clock: Clock,
        random: RandomBits,
        rules: DebitRules | None = None,
    ) -> None:
        self._writer = writer
        self._reader = reader
        self._clock = clock
        self._random = random
        self.rules = shipped_rules() if rules is None else rules
        """Rules in force; every decision names their version."""
        self._follow_ups = FollowUps()
        self.banks = Banks(channels, clock=clock, random=random, rules=self.rules)
        self._decider = Decider(writer, self.banks, self._follow_ups, clock=clock, rules=self.rules)
        self.delivered = DeliveredClaims(writer, self.rules)
        self.upkeep = Upkeep(writer, self.banks, self.rules)
        self.start_up = StartUp(
            writer, reader, self.banks, self.upkeep, self._decider.taken_up, clock=clock, rules=self.rules
        )
        self._listener = Listener(channels.values(), writer, self._follow_ups, self.rules)
        self._begun = clock.monotonic()
        self._asked: dict[str, float] = {}
        """Monotonic second at which something was last asked for a debit, the oldest first."""

    # --- reading --------------------------------------------------------------------------------------------------

    # What is read here may be overtaken before it is acted on. That is safe: the change that acts on it (a hold, a
    # purchase, a decision) finds debit, purchases and limits anew, and goes on only from where they stand then.

    async def previous(self, card_number: str) -> PreviousPurchase | None:
        """Read the newest purchase of a card."""
        return await self._reader.look_up(lambda c: purchases.newest_purchase(c, card_number, self._clock))

    async def claimed(self, key: str) -> Claimed | None:
        """Read the claim that was made under an idempotency key."""
        return await self._reader.look_up(lambda c: decisions.claimed(c, key))

    async def newest_of_tag(self, obu_id: bytes, contract: str) -> PreviousPassage | None:
        """Read the newest claim on a tag with its contract."""
        return await self._reader.look_up(lambda c: purchases.newest_of_tag(c, obu_id, contract, self._clock))

    async def open_in_tag(self, obu_id: bytes) -> tuple[str, PreviousPurchase] | None:
        """Read card number and unresolved purchase of this OBU."""
        return await self._reader.look_up(lambda c: purchases.open_in_tag(c, obu_id, self._clock))

    def asked_s_ago(self, debit_id: str) -> float:
        """Seconds since a card or a bank was to be asked for this debit; for debits of an earlier process since this
        one began, for what was asked then may still be under way."""
        return self._clock.monotonic() - self._asked.get(debit_id, self._begun)

    @property
    def selling_allowed(self) -> bool:
        """False while a new hold could not become durable at once."""
        return self._writer.selling_allowed

    # --- before the card is asked ---------------------------------------------------------------------------------

    async def hold(self, request: HoldRequest, *, timeout_s: float) -> HoldPlaced | HoldRefused:
        """Reserve the amount with the purchase's intent; durable when this returns.

        Raises `StorageLate` or `StorageUnavailable` when it could not be made durable in time. A hold that becomes
        durable after all is voided behind the caller's back: nothing was asked of the card.
        """
        if request.payer.funding is Funding.BANK_ONLINE and not self.banks.can_charge(request.payer):
            return HoldRefused("bank_unavailable")
        ids = self._new_ids()
        self._note_asked(ids.debit)
        future = self._writer.submit(lambda tx: holds.place_hold(tx, request, ids, self.rules))
        return await self._in_time(future, timeout_s, lambda placed: self._decider.give_up(placed, request))

    async def next_purchase(self, previous: PreviousPurchase, plan: PurchasePlan, *, timeout_s: float) -> str:
        """Store the next attempt on the same hold, after the card proved that the earlier purchase never happened.

        Raises `Superseded` when that purchase has ended another way since it was looked at, else as `hold`.
        """
        purchase_id = self.new_id()

        def change(tx: Transaction) -> str | None:
            if not purchases.store_result(tx, previous.purchase_id, PurchaseResult(PurchaseOutcome.NOT_TAKEN), None):
                return None
            purchases.store_intent(
                tx,
                purchase_id=purchase_id,
                debit_id=previous.debit_id,
                attempt_no=previous.attempt_no + 1,
                plan=plan,
            )
            return purchase_id

        self._note_asked(previous.debit_id)
        future = self._writer.submit(change)
        stored = await self._in_time(future, timeout_s)
        if stored is None:
            raise Superseded(f"purchase {previous.purchase_id} ended while its card was being read")
        return stored

    async def _in_time(
        self, future: asyncio.Future[T], timeout_s: float, too_late: Callable[[T], None] | None = None
    ) -> T:
        """Result of a change stored in time; raises `StorageLate`, and `too_late` hears of a later one."""
        try:
            return await within(future, timeout_s)
        except TimeoutError as error:
            if too_late is not None:
                self._follow_ups.follow(future, too_late)
            raise StorageLate from error

    def _note_asked(self, debit_id: str) -> None:
        now = self._clock.monotonic()
        self._asked.pop(debit_id, None)
        self._asked[debit_id] = now
        while now - self._asked[oldest := next(iter(self._asked))] > ASKED_KEPT_S:
            del self._asked[oldest]

    # --- without a card -------------------------------------------------------------------------------------------

    async def charge_here(
        self,
        request: HoldRequest,
        context: DecisionContext,
        decline_policy: DeclinePolicy,
        *,
        deadline: float,
        on_stored: Callable[[], None],
    ) -> BroughtIn | HoldRefused:
        """Charge as `charge` does, at a gate where the caller turns the customer away after a refusal.

        So a refusal is not recorded here. The claim must become durable before the deadline, which `on_stored` hears:
        else it raises `StorageLate`, and what becomes durable after all is voided as a late hold is.
        """
        if request.payer.funding is Funding.BANK_ONLINE and not self.banks.can_charge(request.payer):
            return HoldRefused("bank_unavailable")
        ids = self._new_ids()
        self._note_asked(ids.debit)

        def give_up(begun: Stored) -> None:
            if isinstance(begun, holds.Begun):
                placed = HoldPlaced(begun.debit_id, None, replayed=begun.debit_id != ids.debit)
                self._decider.give_up(placed, request, unsent=begun.request is not None)

        async def in_time(storing: asyncio.Future[Stored]) -> Stored:
            begun = await self._in_time(storing, max(0.0, deadline - self._clock.monotonic()), give_up)
            if isinstance(begun, holds.Begun):
                on_stored()
            return begun

        work = self._decider.collect(
            request.idempotency_key,
            lambda tx, asking: holds.hold_and_ask(tx, request, ids, asking=asking, rules=self.rules),
            payer=request.payer,
            context=self._ruled(context),
            decline_policy=decline_policy,
            deadline=deadline,
            stored=in_time,
        )
        return await self._follow_ups.see_through(work)

    async def charge(
        self, request: HoldRequest, context: DecisionContext, decline_policy: DeclinePolicy, *, deadline: float
    ) -> BroughtIn | HoldRefused:
        """Claim and collect an amount that needs no purchase on a card: a plate, a code, a contract.

        `deadline` is a monotonic second and chooses only how long the bank is waited for. A caller that is cancelled
        does not stop it. A limit's refusal is a decision like any other; `HoldRefused` are requests that make no sense.
        """
        if request.payer.funding is Funding.PURSE or request.plan is not None:
            return HoldRefused("purse_needs_card")
        if request.payer.funding is Funding.BANK_ONLINE and not self.banks.can_charge(request.payer):
            return HoldRefused("bank_unavailable")
        work = self._charge(request, self._ruled(context), decline_policy, deadline)
        if request.payer.funding is Funding.ISSUER_CLEARING:
            return await work
        return await self._follow_ups.see_through(work)

    async def complete(
        self,
        debit_id: str,
        amount_fen: int,
        payer: Payer,
        context: DecisionContext,
        decline_policy: DeclinePolicy,
        *,
        deadline: float,
    ) -> BroughtIn | HoldRefused:
        """Complete a hold with what was delivered: collect that, or free the hold where it is nothing.

        More than was held is marked as an overrun. `payer` must be the hold's, with the limits that bind it now. A
        caller that is cancelled does not stop it.
        """
        if amount_fen < 0:
            raise ValueError(f"{amount_fen} fen were delivered: amounts are never negative")

        ruled = self._ruled(context)

        def begin(tx: Transaction, asking: Asking | None) -> holds.Begun | Decision | HoldRefused:
            return holds.complete(tx, debit_id, amount_fen, payer, asking=asking, context=ruled)

        work = self._decider.collect(
            debit_id,
            begin,
            payer=payer,
            context=ruled,
            decline_policy=decline_policy,
            deadline=deadline,
            essential=True,
        )
        return await self._follow_ups.see_through(work)

    async def release(
        self, debit_id: str, context: DecisionContext, reason: str = "nothing_delivered"
    ) -> Decision | HoldRefused:
        """Free a hold under which nothing was delivered. A hold that was completed or asked for stays."""
        ruled = self._ruled(context)
        return await asyncio.shield(
            self._writer.submit(lambda tx: holds.release(tx, debit_id, reason, ruled), essential=True)
        )

    async def expire(self, debit_id: str, context: DecisionContext) -> Decision | None:
        """Free a hold whose time is over; None when anything was begun on it: then only evidence frees it."""
        ruled = self._ruled(context)
        return await asyncio.shield(self._writer.submit(lambda tx: holds.expire_hold(tx, debit_id, ruled)))

    async def _charge(
        self, request: HoldRequest, context: DecisionContext, decline_policy: DeclinePolicy, deadline: float
    ) -> BroughtIn | HoldRefused:
        ids = self._new_ids()

        def begin(tx: Transaction, asking: Asking | None) -> holds.Begun | Decision | HoldRefused:
            return holds.begin_charge(tx, request, ids, context=context, asking=asking, rules=self.rules)

        if request.payer.funding is Funding.ISSUER_CLEARING:
            return await self._decider.at_once(begin)
        return await self._decider.collect(
            request.idempotency_key,
            begin,
            payer=request.payer,
            context=context,
            decline_policy=decline_policy,
            deadline=deadline,
        )

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
        return await self._decider.bring_in(claim, deadline, on_stored)

    async def refuse(
        self, sight: Sight, reason: str, release: Release, context: DecisionContext, *, timeout_s: float
    ) -> Decision:
        """Record a passage that is turned away, with its reason."""
        ruled = self._ruled(context)
        future = self._writer.submit(
            lambda tx: decisions.refuse(tx, sight, reason=reason, release=release, context=ruled)
        )
        return await self._in_time(future, timeout_s)

    async def repeat(self, passage_id: str, debit_id: str, release: Release, context: DecisionContext) -> Decision:
        """Record that a vehicle is still there: same barrier as before, nothing charged."""
        ruled = self._ruled(context)
        return await asyncio.shield(
            self._writer.submit(lambda tx: decisions.repeat(tx, passage_id, debit_id, release, ruled))
        )

    async def newest_entry(self, card_number: str, charge_point: str) -> PreviousEntry | None:
        """Read the newest entry of a card recorded at a lane."""
        return await self._reader.look_up(lambda c: purchases.newest_entry(c, card_number, charge_point, self._clock))

    async def admit(self, sight: Sight, context: DecisionContext, *, timeout_s: float) -> Decision:
        """Record the entry of a trip. Raises `StorageLate` as `hold` does."""
        ruled = self._ruled(context)
        future = self._writer.submit(lambda tx: decisions.admit(tx, sight, ruled))
        return await self._in_time(future, timeout_s)

    async def repeat_entry(self, earlier: PreviousEntry, context: DecisionContext) -> Decision:
        """Record that a vehicle whose entry is recorded is still there: let it through once more."""
        ruled = self._ruled(context)
        return await asyncio.shield(
            self._writer.submit(lambda tx: decisions.repeat_entry(tx, earlier.passage_id, ruled))
        )

    async def note_timings(self, timings: list[Timing], *, patient: bool = False) -> None:
        """Store the timings of finished passages, `patient` as the writer knows it; losing some at a power cut costs no
        money."""
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
            await asyncio.shield(self._writer.submit(change, patient=patient))

    def new_id(self) -> str:
        """Make a fresh time-ordered identifier."""
        return new_id(to_us(self._clock.utcnow()), self._random)

    def _new_ids(self) -> holds.NewIds:
        return holds.NewIds(*new_ids(3, to_us(self._clock.utcnow()), self._random))

    def _ruled(self, context: DecisionContext) -> DecisionContext:
        """Add the rules' version to a context: it stands on every decision."""
        return context.under(self.rules.version)
