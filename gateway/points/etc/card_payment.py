"""Payment by the card in a tag: the plan of its purchase, the purchase, and the settling of one that is still open."""

from __future__ import annotations

from dataclasses import replace
from typing import Protocol

from gateway.debit.claims import Decision, Identity, Payer, PreviousPurchase, PurchasePlan, PurchaseResult
from gateway.debit.engine import ProvenClaim
from gateway.model.passage import Funding, PurchaseOutcome
from gateway.points.card.paying import purchase_second, purse_problem
from gateway.points.card.settings import ChargeCardPurchase
from gateway.points.etc.seen_before import Next, what_next
from gateway.points.etc.visit import EtcVisit, Read
from gateway.points.visit import SightOutdated
from protocols.card.codes import CardType
from protocols.card.files import CardFile
from protocols.card.station import Station, decode_station
from protocols.obu.vehicle_file import VehicleFile
from protocols.rsu.messages import StopType


class Recorder(Protocol):
    """Recorder of a purchase on its card."""

    def record(self, station: Station, vehicle: VehicleFile, unix_seconds: int, amount_fen: int) -> bytes:
        """Make file 0019 as it will stand on the card after the purchase."""
        ...


class CardPayment:
    """Payments by cards at one charge point."""

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder

    @staticmethod
    def next_of(visit: EtcVisit, read: Read, previous: PreviousPurchase) -> Next:
        """Next step for the newest purchase of a card that is read again."""
        return what_next(
            previous,
            read.user.station,
            proves=visit.antenna.up_to_date,
            here=previous.charge_point == visit.settings.name,
            in_window=visit.within_window(previous),
        )

    async def settle(
        self, visit: EtcVisit, seen: Identity, read: Read, previous: PreviousPurchase, then: Next
    ) -> Decision | None:
        """Settle the card's last, undecided claim; where its purchase has no end yet, file 0019 has told which."""
        claim = visit.claim_again(previous, read.card.card_number)
        if then in (Next.BRING_IN, Next.TAKEN):
            proof = None
            if then is Next.TAKEN:
                proof = await visit.purchases.proof(previous, read.user.balance_raw, read.card.issuer)
            if visit.is_of_this_place(previous):
                return await visit.bring_in(claim, proof)
            # Whatever was paid for there, it was not what is sold here; after a TAC this exchange takes no order.
            deadline, durable = visit.antenna.deadline, visit.antenna.close
            await visit.engine.bring_in(replace(claim, result=proof), deadline=deadline, on_stored=durable)
            raise SightOutdated(f"its claim of {previous.charge_point} is settled; it is served when it is read again")
        if then is Next.LOOK_AGAIN:
            raise SightOutdated("its card was read before the purchase order had arrived")
        if then is Next.DISPUTED:
            return await visit.bring_in(claim, PurchaseResult(PurchaseOutcome.DISPUTED))
        not_taken = PurchaseResult(PurchaseOutcome.NOT_TAKEN)
        if then is Next.VOID_THERE:
            await visit.engine.bring_in(replace(claim, result=not_taken), deadline=visit.antenna.deadline)
            return await visit.go_on_with_card(seen, read.user)
        plan = self.plan(visit, read, claim.payer, previous.amount_fen, previous)
        if isinstance(plan, str):
            visit.antenna.stop(StopType.SEARCH_AGAIN)
            return await visit.bring_in(claim, replace(not_taken, reason=plan))
        purchase_id = await visit.engine.next_purchase(previous, plan, timeout_s=visit.antenna.time_left())
        return await self.purchase(visit, replace(claim, purchase_id=purchase_id), plan, read.card)

    async def purchase(self, visit: EtcVisit, claim: ProvenClaim, plan: PurchasePlan, card: CardFile) -> Decision:
        """Have the card pay, and decide. The plan's intent is durable."""
        result = await visit.purchases.buy(plan, card.issuer, claim.payer.funding)
        return await visit.bring_in(claim, result)

    def plan(
        self, visit: EtcVisit, read: Read, payer: Payer, amount_fen: int, previous: PreviousPurchase | None
    ) -> PurchasePlan | str:
        """Plan of the purchase (C6), or the code of the reason why the purse cannot pay it."""
        card, user = read.card, read.user
        refused = purse_problem(user.balance_raw, amount_fen) if payer.funding is Funding.PURSE else None
        if refused is not None:
            return refused
        charge = card.card_type == CardType.CHARGE
        zero = charge and visit.settings.charge_card_purchase is ChargeCardPurchase.ZERO
        seconds = purchase_second(visit, previous)
        return PurchasePlan(
            written_fen=0 if zero else amount_fen,
            purchase_time=visit.local(seconds),
            balance_before=user.balance_raw,
            file_before=user.station,
            file_after=self._recorder.record(decode_station(user.station), read.vehicle, seconds, amount_fen),
        )
