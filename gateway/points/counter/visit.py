"""Visit of one card at a counter: settle what is open on it, then let it pay the amount that was asked.

Theory of operation. An amount is asked for, a card is laid on the reader. What the ledger knows of the card comes
first: a purchase without an end is proved or disproved by the card itself, and a proved one *is* the payment of whoever
stands here. Only then is the amount asked, and its intent is durable before the debit; whatever happens from there on
finds this intent when the card comes again, here or in a lane.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace

from gateway.cards.contents import Identified
from gateway.cards.purchase import OpenPurchase, PurchaseRefused, proved
from gateway.cards.terminal import Customer
from gateway.debit.claims import Decision, Identity, Payer, PreviousPurchase, PurchaseResult
from gateway.debit.engine import ProvenClaim, StorageLate
from gateway.model.ids import digest_of
from gateway.model.passage import Funding, Occasion, PurchaseOutcome, Release
from gateway.model.states import OPEN_PURCHASES, DebitState, PurchaseState
from gateway.payers.mandates import Issuers
from gateway.payers.status_lists import ListKind
from gateway.points.card.file_0019 import sale_record
from gateway.points.card.paying import payer_of, purchase_second, purse_problem
from gateway.points.card.settings import ChargeCardPurchase
from gateway.points.counter.settings import CounterSettings
from gateway.points.etc.inspection import card_problem, plate_of
from gateway.points.visit import Services, Visit
from protocols.card.files import CardFile
from protocols.card.station import decode_station

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class CounterServices(Services):
    """Services that every visit at a counter uses."""

    settings: CounterSettings
    issuers: Issuers


@dataclass(frozen=True, slots=True)
class Bill:
    """Amount that a customer is to pay."""

    amount_fen: int
    reference: str | None = None
    """Number of the bill at whoever asks for it: one number is paid once, however often it is asked for."""
    again: bool = False
    """True where the same card is to pay the same amount once more, at once."""


def key_of_bill(point: str, reference: str, tries: int) -> str:
    """Make the idempotency key of a bill; one that came to nothing may be tried again, under the next."""
    return digest_of(point, "bill", reference, tries)


class CounterVisit(Visit):
    """Visit of a card, see the module. Made for one card on the reader, used once."""

    def __init__(self, services: CounterServices, customer: Customer, bill_key: str | None = None) -> None:
        """`bill_key`: key of a bill with a number, see `key_of_bill`."""
        super().__init__(services)
        self.debited = False
        """True once the card was asked for a debit in this visit."""
        self._bill_key = bill_key
        self.issuers = services.issuers
        self.settings = services.settings
        self._customer = customer
        self._deadline = self._new_deadline()

    async def settle(self) -> Decision | None:
        """Settle what is open on the card; None where nothing is. Raises `CardGone`, `SightOutdated`."""
        seen = await self._customer.identify()
        if isinstance(seen, str):
            return None
        previous = await self.engine.previous(seen.card.card_number)
        if previous is None or previous.debit_state != DebitState.HELD or previous.state == PurchaseState.DISPUTED:
            return None
        return await self._settle(seen, previous, None)

    async def pay(self, bill: Bill) -> Decision:
        """Settle what is open on the card, else have it pay. Raises `CardGone` before anything was asked of it."""
        seen = await self._customer.identify()
        if isinstance(seen, str):
            return await self.refuse(Identity(), seen)
        file = seen.card
        previous = await self.engine.previous(file.card_number)
        if previous is not None and previous.debit_state == DebitState.HELD:
            if previous.state == PurchaseState.DISPUTED:
                return await self.refuse(_identity(file), previous.reason or "purchase_disputed")
            settled = await self._settle(seen, previous, bill)
            if settled is not None:
                return settled
            previous = await self.engine.previous(file.card_number)
        if previous is not None and self._paid_lately(previous, bill):
            return await self.refuse(_identity(file), "paid_lately")
        return await self._sell(seen, bill, previous)

    # --- what is open -----------------------------------------------------------------------------------------------

    async def _settle(self, seen: Identified, previous: PreviousPurchase, bill: Bill | None) -> Decision | None:
        """Settle the card's last claim. None: it is settled, was not for this bill, and a new one may begin."""
        self.leave_if_elsewhere(previous)
        self.occasion = Occasion.READING
        claim = self.claim_again(previous, seen.card.card_number)
        open_still = previous.state in OPEN_PURCHASES
        result = proved(await self._customer.judge(previous)) if open_still else None
        wanted = bill is None or self._is_for(bill, previous)
        if result is not None and result.outcome is PurchaseOutcome.NOT_TAKEN and bill is not None and wanted:
            return await self._next_attempt(seen, previous, claim)
        decision = await self._bring_in(claim, result)
        if wanted or decision.release is Release.ATTENDANT:
            return decision
        self.occasion = Occasion.LANE
        self._deadline = self._new_deadline()  # a bank may have been asked meanwhile
        return None

    def _is_for(self, bill: Bill, previous: PreviousPurchase) -> bool:
        """True when an earlier claim is for this bill: by its number, or else by its amount, here."""
        if self._bill_key is not None:
            return previous.idempotency_key == self._bill_key
        return self.is_of_this_place(previous) and previous.amount_fen == bill.amount_fen

    async def _next_attempt(self, seen: Identified, previous: PreviousPurchase, claim: ProvenClaim) -> Decision:
        """Make the next attempt on the same hold: the card proved that the last one never happened."""
        opened = await self._open(seen, claim.payer, previous.amount_fen, previous)
        if isinstance(opened, str):
            return await self._bring_in(claim, PurchaseResult(PurchaseOutcome.NOT_TAKEN, reason=opened))
        purchase_id = await self.engine.next_purchase(previous, opened.plan, timeout_s=self._time_left())
        return await self._debit(opened, replace(claim, purchase_id=purchase_id))

    def _paid_lately(self, previous: PreviousPurchase, bill: Bill) -> bool:
        same = previous.amount_fen == bill.amount_fen and previous.charge_point == self.settings.name
        paid = previous.state == PurchaseState.TAKEN and previous.debit_state != DebitState.VOIDED
        # A bill with a number of its own is another one, or its key says that it is this one.
        return same and paid and self.within_window(previous) and not bill.again and bill.reference is None

    # --- a new one ------------------------------------------------------------------------------------------------

    async def _sell(self, seen: Identified, bill: Bill, previous: PreviousPurchase | None) -> Decision:
        file, identity = seen.card, _identity(seen.card)
        problem = card_problem(file, self.today(), self.issuers) or self.listed(ListKind.CARD, file.card_number)
        plate = plate_of(file.plate, file.plate_colour)
        problem = problem or self.listed_plate(plate)
        if problem is not None:
            return await self.refuse(identity, problem)
        payer = await payer_of(self, file, plate)
        if isinstance(payer, str):
            return await self.refuse(identity, payer)
        if not self.engine.selling_allowed:
            raise StorageLate
        opened = await self._open(seen, payer, bill.amount_fen, previous)
        if isinstance(opened, str):
            return await self.refuse(identity, opened)
        placed = await self.hold(
            identity, payer, bill.amount_fen, opened.plan, _before(previous), timeout_s=self._time_left()
        )
        if isinstance(placed, str):
            return await self.refuse(identity, placed)
        claim = self.claim(placed.debit_id, payer, file.card_number, placed.purchase_id)
        if placed.replayed:
            return await self._bring_in(claim, None)
        return await self._debit(opened, claim)

    async def _open(
        self, seen: Identified, payer: Payer, amount_fen: int, previous: PreviousPurchase | None
    ) -> OpenPurchase | str:
        """Begin the purchase on the card; else the code of the reason why not. Nothing is taken yet."""
        file = seen.card
        if payer.funding is Funding.PURSE:
            refused = purse_problem(seen.balance_raw, amount_fen)
            if refused is not None:
                return refused
        zero = file.is_charge_card and self.settings.charge_card_purchase is ChargeCardPurchase.ZERO
        seconds = purchase_second(self, previous)
        after = sale_record(self.settings, decode_station(seen.station), file, seconds, amount_fen)
        try:
            return await self._customer.open_purchase(
                file, 0 if zero else amount_fen, self.local(seconds), file_before=seen.station, file_after=after
            )
        except PurchaseRefused as refusal:
            log.warning("%s: %s", self.settings.name, refusal)
            return refusal.reason

    async def _debit(self, opened: OpenPurchase, claim: ProvenClaim) -> Decision:
        self.debited = True
        return await self._bring_in(claim, await self._customer.debit(opened))

    async def _bring_in(self, claim: ProvenClaim, result: PurchaseResult | None) -> Decision:
        brought = await self.engine.bring_in(self.answered(claim, result), deadline=self._deadline)
        return brought.decision

    def key(self, seen: Identity, entry_data: bytes) -> str:
        """Make the claim's key: that of its bill, whoever pays it, or one of this card alone."""
        return super().key(seen, entry_data) if self._bill_key is None else self._bill_key

    def _new_deadline(self) -> float:
        return self.clock.monotonic() + self.settings.deadline_s

    def _time_left(self) -> float:
        return max(0.0, self._deadline - self.clock.monotonic())


def _before(previous: PreviousPurchase | None) -> bytes:
    """Data that tell this claim from others of the card: the purchase before it."""
    return b"" if previous is None else previous.purchase_id.encode()


def _identity(file: CardFile) -> Identity:
    return Identity(
        card_number=file.card_number,
        plate=file.plate,
        plate_colour=file.plate_colour,
        vehicle_class=file.vehicle_class,
    )
