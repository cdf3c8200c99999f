"""Errand of a vehicle at an island's antenna: it becomes known, and once it has filled up its purse pays.

A visit at the antenna ends when the vehicle is known and may pay: nothing is sold yet. A stored-value card alone is
asked for money here, at its next sighting after the nozzle is back: the delivery is over then, and the claim stored
(`gateway.points.fuel.charging`).
"""

from __future__ import annotations

from gateway.debit.claims import Decision, Identity, Payer, PreviousPurchase
from gateway.model.passage import Funding, Occasion
from gateway.model.states import DebitState, PurchaseState
from gateway.payers import mandates
from gateway.payers.mandates import CredentialKind
from gateway.points.card.file_0019 import sale_record
from gateway.points.card.paying import payer_of, purse_problem
from gateway.points.etc.card_payment import CardPayment
from gateway.points.etc.inspection import plate_of
from gateway.points.etc.sale import problem_of
from gateway.points.etc.seen_before import Next
from gateway.points.etc.settings import OnePiecePolicy
from gateway.points.etc.visit import EtcVisit, Read, with_vehicle
from gateway.points.fuel.island import Island, Owing
from gateway.points.fuel.settings import FuelSettings
from protocols.card.station import Station
from protocols.obu.vehicle_file import VehicleFile, decode_vehicle_file
from protocols.rsu.messages import StopType, UserReport


class FillUp:
    """`gateway.points.etc.visit.Errand` of a vehicle at an island."""

    def __init__(self, island: Island, settings: FuelSettings) -> None:
        self._island = island
        self._settings = settings
        self._cards = CardPayment(self)

    def record(self, station: Station, vehicle: VehicleFile, unix_seconds: int, amount_fen: int) -> bytes:
        """Make file 0019 of a purchase: no trip begins or ends at a pump."""
        return sale_record(self._settings, station, vehicle, unix_seconds, amount_fen)

    async def card(self, visit: EtcVisit, seen: Identity, read: Read) -> Decision | None:
        """Have a card pay what it owes, or find who pays for its vehicle, and remember it."""
        number = read.card.card_number
        owing, previous = self._island.owing(number), await visit.engine.previous(number)
        open_one = None if previous is None or not _is_open(previous) else previous
        if open_one is not None:
            return await self._settle(visit, seen, read, open_one)
        if owing is not None:
            return await self._pay(visit, read, owing, previous)
        problem = problem_of(visit, read)
        if problem is not None:
            return await visit.turn_away(seen, problem)
        plate = plate_of(read.vehicle.plate, read.vehicle.plate_colour)
        payer = await payer_of(visit, read.card, plate)
        return await self._remember(visit, seen, payer, read.user.balance_raw)

    async def tag(self, visit: EtcVisit, seen: Identity, user: UserReport) -> Decision | None:
        """Find who pays for a tag of one piece, and remember it."""
        contract = seen.contract
        refused = visit.settings.one_piece is OnePiecePolicy.REFUSE
        if refused or user.vehicle_file is None or contract is None:
            return await visit.turn_away(seen, "one_piece_refused")
        vehicle = decode_vehicle_file(user.vehicle_file)
        seen, plate = with_vehicle(seen, vehicle), plate_of(vehicle.plate, vehicle.plate_colour)
        listed = visit.listed_plate(plate)
        if listed is not None:
            return await visit.turn_away(seen, listed)
        mandate = await visit.mandate_of(CredentialKind.CONTRACT, contract)
        return await self._remember(visit, seen, mandates.payer_of_contract(mandate, plate), None)

    async def _remember(
        self, visit: EtcVisit, seen: Identity, payer: Payer | str, balance_raw: int | None
    ) -> Decision | None:
        if isinstance(payer, str):
            return await visit.turn_away(seen, payer)
        purse = payer.funding is Funding.PURSE
        problem = purse_problem(balance_raw, self._settings.minimum_fen) if purse else None
        if problem is not None:
            return await visit.turn_away(seen, problem)
        self._island.saw(seen, payer, balance_raw if purse else None)
        visit.antenna.stop(StopType.SEARCH_AGAIN)
        return None

    # --- paying by card -------------------------------------------------------------------------------------------

    async def _settle(self, visit: EtcVisit, seen: Identity, read: Read, previous: PreviousPurchase) -> Decision | None:
        """Settle a purchase whose answer was lost: the card in the antenna's field tells."""
        visit.leave_if_elsewhere(previous)
        then = self._cards.next_of(visit, read, previous)
        visit.occasion = Occasion.READING
        if then in (Next.STILL_DISPUTED, Next.NEW):
            return await visit.turn_away(seen, previous.reason or "purchase_disputed")
        decision = await self._cards.settle(visit, seen, read, previous, then)
        self._told(read.card.card_number)
        return decision

    async def _pay(
        self, visit: EtcVisit, read: Read, owing: Owing, previous: PreviousPurchase | None
    ) -> Decision | None:
        """Have the card pay what was delivered to its vehicle."""
        plan = self._cards.plan(visit, read, owing.payer, owing.amount_fen, previous)
        if isinstance(plan, str):
            owing.reason = plan
            owing.ended.set()
            visit.antenna.stop(StopType.SEARCH_AGAIN)
            return None
        purchase_id = visit.engine.new_id()
        if not await visit.engine.delivered.intend(owing.debit_id, purchase_id, plan):
            owing.ended.set()
            visit.antenna.stop(StopType.SEARCH_AGAIN)
            return None
        claim = visit.claim(owing.debit_id, owing.payer, read.card.card_number, purchase_id)
        decision = await self._cards.purchase(visit, claim, plan, read.card)
        self._told(read.card.card_number)
        return decision

    def _told(self, card_number: str) -> None:
        owing = self._island.owing(card_number)
        if owing is not None:
            owing.ended.set()


def _is_open(previous: PreviousPurchase) -> bool:
    """True while nobody knows whether the card has paid a claim. One that surely has not may be asked again."""
    return previous.debit_state == DebitState.HELD and previous.state != PurchaseState.NOT_TAKEN
