"""Vehicles at an island, as its antenna sees them, and the errand that lets them fill up.

An antenna's visit ends when the vehicle is known and may pay: nothing is sold yet. The vehicle stays here for as long
as it is seen, and whoever lifts a nozzle next to it is asked for (`gateway.points.fuel.witnesses`).
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

from gateway.debit.claims import Decision, Identity, Payer
from gateway.model.clock import Clock
from gateway.model.passage import Funding
from gateway.payers import mandates
from gateway.payers.mandates import CredentialKind
from gateway.points.etc.inspection import plate_of
from gateway.points.etc.sale import payer_of, problem_of
from gateway.points.etc.settings import OnePiecePolicy
from gateway.points.etc.visit import EtcVisit, Read, with_vehicle
from gateway.points.fuel.witnesses import Sighting, WitnessKind
from protocols.obu.vehicle_file import decode_vehicle_file
from protocols.rsu.messages import StopType, UserReport

CUSTOMERS_MAX: Final = 64
"""Vehicles remembered; more than can stand around an island."""


@dataclass(frozen=True, slots=True)
class Customer:
    """Vehicle that may fill up."""

    seen: Identity
    payer: Payer
    at: float
    """Monotonic second at which it was last seen."""

    @property
    def name(self) -> str:
        """Name of the vehicle, the same at every sighting: its tag."""
        return "" if self.seen.obu_id is None else self.seen.obu_id.hex()


class Island:
    """Vehicles at one island."""

    def __init__(self, clock: Clock, witness: WitnessKind, *, gone_s: float) -> None:
        """`gone_s`: seconds after which a vehicle that was not seen again has left."""
        self._clock = clock
        self._witness = witness
        self._gone_s = gone_s
        self._customers: OrderedDict[str, Customer] = OrderedDict()
        self._filling: dict[int, str] = {}
        """Vehicle filling up at each side."""
        self._served: dict[str, float] = {}
        """Vehicles that have filled up, with the second at which they were last seen. While one stands here still it is
        nobody's proof: whoever lifts another nozzle is somebody else."""
        self.on_seen: list[Callable[[], None]] = []
        """Called when a vehicle was seen: sides whose nozzle is out look again."""

    def saw(self, seen: Identity, payer: Payer) -> None:
        """Note a vehicle that may fill up."""
        now = self._clock.monotonic()
        customer = Customer(seen, payer, now)
        served_at = self._served.pop(customer.name, None)
        if served_at is not None and now - served_at <= self._gone_s:
            self._served[customer.name] = now
            return
        self._customers.pop(customer.name, None)
        self._customers[customer.name] = customer
        while len(self._customers) > CUSTOMERS_MAX:
            self._customers.popitem(last=False)
        for call in self.on_seen:
            call()

    def sightings(self) -> Iterator[Sighting]:
        """Sightings of vehicles that are not filling up elsewhere."""
        for name, customer in self._customers.items():
            if name not in self._filling.values():
                yield Sighting(name, self._witness, customer.at)

    def customer(self, name: str) -> Customer:
        """Customer by the name that a proof gave."""
        return self._customers[name]

    def begins(self, side: int, name: str) -> None:
        """Note that a vehicle fills up at a side: no other side asks for it."""
        self._filling[side] = name

    def ends(self, side: int) -> None:
        """Note that a side is free again. Its vehicle has to leave and come back for another sale."""
        name = self._filling.pop(side, None)
        if name is not None:
            self.served(name)

    def served(self, name: str) -> None:
        """Note a vehicle that has filled up, and may stand here still."""
        self._customers.pop(name, None)
        self._served[name] = self._clock.monotonic()
        while len(self._served) > CUSTOMERS_MAX:
            del self._served[next(iter(self._served))]


class FillUp:
    """`gateway.points.etc.visit.Errand` of a vehicle at an island."""

    def __init__(self, island: Island) -> None:
        self._island = island

    async def card(self, visit: EtcVisit, seen: Identity, read: Read) -> Decision | None:
        """Find who pays for a vehicle with a card, and remember it."""
        problem = problem_of(visit, read)
        if problem is not None:
            return await visit.turn_away(seen, problem)
        plate = plate_of(read.vehicle.plate, read.vehicle.plate_colour)
        return await self._remember(visit, seen, await payer_of(visit, read.card, plate))

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
        return await self._remember(visit, seen, mandates.payer_of_contract(mandate, plate))

    async def _remember(self, visit: EtcVisit, seen: Identity, payer: Payer | str) -> Decision | None:
        if isinstance(payer, str):
            return await visit.turn_away(seen, payer)
        if payer.funding is Funding.PURSE:
            return await visit.turn_away(seen, "purse_not_at_pump")
        self._island.saw(seen, payer)
        visit.antenna.stop(StopType.SEARCH_AGAIN)
        return None
