"""Sale to a vehicle at an antenna: something with a price is paid at once, by purse, bank or issuer.

What is sold is the kind's to say (`Goods`): a toll lane sells the road to here, a car park the minutes. Before anything
new is sold the ledger is asked what it knows of this card (`seen_before`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from gateway.debit.claims import (
    Decision,
    Identity,
    PreviousPassage,
    PreviousPurchase,
)
from gateway.debit.engine import StorageLate
from gateway.model.passage import Occasion
from gateway.model.states import DebitState
from gateway.payers import mandates
from gateway.payers.mandates import CredentialKind
from gateway.payers.status_lists import ListKind
from gateway.points.card.paying import payer_of
from gateway.points.etc.card_payment import CardPayment, Recorder
from gateway.points.etc.inspection import card_problem, plate_of, vehicle_problem
from gateway.points.etc.seen_before import Next
from gateway.points.etc.settings import OnePiecePolicy
from gateway.points.etc.visit import EtcVisit, Read, with_vehicle
from gateway.points.visit import SightOutdated
from protocols.card.station import Station, decode_station
from protocols.obu.vehicle_file import VehicleFile, decode_vehicle_file
from protocols.rsu.messages import StopType, UserReport


@dataclass(frozen=True, slots=True)
class Price:
    """Price and the version of the tariff it is from; `refusal` is the code of the reason why there is none."""

    amount_fen: int
    tariff_version: str | None
    refusal: str | None = None


class Goods(Recorder, Protocol):
    """Goods sold at this charge point."""

    def price(self, vehicle: VehicleFile, station: Station | None) -> Price:
        """Price for this vehicle. `station`: file 0019 as read, None where there is no card."""
        ...


class Sale:
    """Sale: the errand of a vehicle that pays at once."""

    def __init__(self, goods: Goods) -> None:
        self._goods = goods
        self._cards = CardPayment(goods)

    async def card(self, visit: EtcVisit, seen: Identity, read: Read) -> Decision | None:
        """Settle what is open on the card, let through who has paid, or sell."""
        previous = await visit.engine.previous(read.card.card_number)
        if previous is None:
            return await self._sell(visit, seen, read, None)
        if previous.debit_state == DebitState.HELD:
            visit.leave_if_elsewhere(previous)
        then = self._cards.next_of(visit, read, previous)
        if then is Next.LET_THROUGH:
            return await visit.let_through_again(previous.passage_id, previous.debit_id, previous.release)
        if previous.debit_state == DebitState.HELD:
            visit.occasion = Occasion.READING
        if then is Next.STILL_DISPUTED:
            return await visit.turn_away(seen, previous.reason or "purchase_disputed")
        if then is Next.NEW:
            return await self._sell(visit, seen, read, previous)
        return await self._cards.settle(visit, seen, read, previous, then)

    async def tag(self, visit: EtcVisit, seen: Identity, user: UserReport) -> Decision | None:
        """Serve a tag without a card: refused, or paid by the mandate behind its contract; no purchase is written."""
        obu_id, contract = seen.obu_id, seen.contract
        refused = visit.settings.one_piece is OnePiecePolicy.REFUSE
        if refused or user.vehicle_file is None or obu_id is None or contract is None:
            return await visit.turn_away(seen, "one_piece_refused")
        vehicle = decode_vehicle_file(user.vehicle_file)
        seen = with_vehicle(seen, vehicle)
        earlier = await visit.engine.newest_of_tag(obu_id, contract)
        if earlier is not None and earlier.debit_state == DebitState.HELD:
            return await self._finish_tag(visit, earlier)
        settled = earlier is not None and earlier.debit_state != DebitState.VOIDED
        if earlier is not None and settled and visit.within_window(earlier):
            return await visit.let_through_again(earlier.passage_id, earlier.debit_id, earlier.release)
        plate = plate_of(vehicle.plate, vehicle.plate_colour)
        listed = visit.listed_plate(plate)
        if listed is not None:
            return await visit.turn_away(seen, listed)
        payer = mandates.payer_of_contract(await visit.mandate_of(CredentialKind.CONTRACT, contract), plate)
        if isinstance(payer, str):
            return await visit.turn_away(seen, payer)
        fare = self._price(visit, vehicle, None)
        if isinstance(fare, str):
            return await visit.turn_away(seen, fare)
        entry_data = user.station + (b"" if earlier is None else earlier.passage_id.encode())
        brought = await visit.charge(
            seen,
            payer,
            fare,
            entry_data,
            deadline=visit.antenna.deadline,
            on_stored=lambda: visit.antenna.stop(StopType.FREEZE),
        )
        if isinstance(brought, str):
            return await visit.turn_away(seen, brought)
        visit.note_spent(brought.bank_us, brought.commit_us)
        return brought.decision

    async def _finish_tag(self, visit: EtcVisit, earlier: PreviousPassage) -> Decision:
        """Bring in the tag's last claim, which was never decided; the bank is asked once."""
        visit.leave_if_elsewhere(earlier)
        visit.occasion = Occasion.READING
        visit.antenna.stop(StopType.FREEZE)
        return await visit.bring_in(visit.claim_again(earlier, None), None)

    # --- a new one ------------------------------------------------------------------------------------------------

    async def _sell(
        self, visit: EtcVisit, seen: Identity, read: Read, previous: PreviousPurchase | None
    ) -> Decision | None:
        card, vehicle = read.card, read.vehicle
        problem = problem_of(visit, read)
        if problem is not None:
            return await visit.turn_away(seen, problem)
        payer = await payer_of(visit, card, plate_of(vehicle.plate, vehicle.plate_colour))
        if isinstance(payer, str):
            return await visit.turn_away(seen, payer)
        fare = self._price(visit, vehicle, decode_station(read.user.station))
        if isinstance(fare, str):
            return await visit.turn_away(seen, fare)
        plan = self._cards.plan(visit, read, payer, fare, previous)
        if isinstance(plan, str):
            return await visit.turn_away(seen, plan)
        if not visit.engine.selling_allowed:
            raise StorageLate
        earlier = "" if previous is None else previous.purchase_id
        entry_data = read.user.station + earlier.encode()
        placed = await visit.hold(seen, payer, fare, plan, entry_data, timeout_s=visit.antenna.time_left())
        if isinstance(placed, str):
            return await visit.turn_away(seen, placed)
        if placed.replayed:
            raise SightOutdated("its claim was stored by another reading")
        claim = visit.claim(placed.debit_id, payer, card.card_number, placed.purchase_id)
        return await self._cards.purchase(visit, claim, plan, card)

    def _price(self, visit: EtcVisit, vehicle: VehicleFile, station: Station | None) -> int | str:
        """Price in fen, frozen from here on, or the code of the reason why there is none."""
        price = self._goods.price(vehicle, station)
        visit.tariff_version = price.tariff_version
        return price.amount_fen if price.refusal is None else price.refusal


def problem_of(visit: EtcVisit, read: Read) -> str | None:
    """Code of the reason why this card may not be used with this tag, or neither of them."""
    card, vehicle = read.card, read.vehicle
    problem = card_problem(card, visit.today(), visit.issuers) or vehicle_problem(vehicle, card, None)
    if problem is not None:
        return problem
    listed = visit.listed(ListKind.CARD, card.card_number)
    return visit.listed_plate(plate_of(vehicle.plate, vehicle.plate_colour)) if listed is None else listed
