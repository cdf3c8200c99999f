"""Buyer at a lifted nozzle: by a person's order, else by who is proved to stand there; and what it may buy at most."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from gateway.debit.claims import Identity, Payer
from gateway.model.passage import Funding
from gateway.points.fuel import book
from gateway.points.fuel.allowance import Asked
from gateway.points.fuel.facts import Facts
from gateway.points.fuel.island import Customer, Island
from gateway.points.fuel.orders import Order
from gateway.points.fuel.services import FuelServices
from gateway.points.fuel.settings import SideSettings
from gateway.points.fuel.witnesses import Proven, who

BY_ATTENDANT: Final = "attendant"
"""Proof of a sale that a person ordered."""


@dataclass(frozen=True, slots=True)
class Buyer:
    """Buyer: who pays, and how that is known."""

    seen: Identity
    payer: Payer
    proof: str
    vehicle: str = ""
    """Name of the vehicle at its island; empty for whoever pays at the till."""
    most_fen: int | None = None
    """Most that its purse or its order allows."""
    order: Order | None = None


@dataclass(frozen=True, slots=True)
class NotSold:
    """Reason why nothing is sold to a buyer, by its code. Nobody in particular where several could be it."""

    reason: str
    seen: Identity
    order: Order | None = None


class Buyers:
    """Buyers at one side."""

    def __init__(self, services: FuelServices, settings: SideSettings, facts: Facts, island: Island) -> None:
        self._services = services
        self._settings = settings
        self._facts = facts
        self._island = island

    async def find(self, order: Order | None) -> Buyer | NotSold | None:
        """Find who buys at the nozzle that is out; None while nobody is there."""
        found = self._proved() if order is None else self._ordered(order)
        problem = await self._problem(found) if isinstance(found, Buyer) else None
        return found if not isinstance(found, Buyer) or problem is None else NotSold(problem, found.seen, found.order)

    def asked(self, buyer: Buyer) -> Asked:
        """Sale that the nozzle asks for, within what site and payer allow."""
        settings, nozzle = self._services.settings, self._facts.nozzle
        grade = self._settings.grades.get(nozzle)
        limits = (settings.limit_fen, settings.limits_of_grades.get(grade or ""), buyer.payer.limit_fen, buyer.most_fen)
        return Asked(
            grade=grade,
            most_fen=min(limit for limit in limits if limit is not None),
            unit_price_milli=self._facts.unit_price_milli or self._settings.unit_prices.get(nozzle),
            decimals=self._settings.decimals,
            minimum_fen=settings.minimum_fen,
        )

    def _ordered(self, order: Order) -> Buyer | NotSold:
        if order.vehicle is None:
            till = Payer(Funding.CASH, self._services.settings.name)
            return Buyer(Identity(), till, BY_ATTENDANT, most_fen=order.limit_fen, order=order)
        named = self._island.by_plate(order.vehicle)
        if named is None:
            return NotSold("pump_vehicle_not_seen", Identity(), order)
        return _buyer(named, BY_ATTENDANT, order)

    def _proved(self) -> Buyer | NotSold | None:
        sightings = self._island.sightings(self._settings.number)
        proof = who(sightings, self._services.settings.proof, self._facts.lifted_at)
        if isinstance(proof, Proven):
            return _buyer(self._island.customer(proof.vehicle), str(proof), None)
        return NotSold("pump_vehicle_unclear", Identity()) if len(proof.candidates) > 1 else None

    async def _problem(self, buyer: Buyer) -> str | None:
        """Code of the reason why nothing is sold to this buyer at this nozzle; None when nothing is against it."""
        by_card_or_plate = buyer.payer.funding is not Funding.CASH
        if by_card_or_plate and await self._services.reader.look_up(
            lambda c: book.has_grey(c, buyer.payer, buyer.vehicle)
        ):
            return "pump_earlier_open"
        price, told = self._settings.unit_prices.get(self._facts.nozzle), self._facts.unit_price_milli
        if price is not None and told is not None and told != price:
            self._facts.fresh = True  # its prices are set once the nozzle is back
            return "pump_price_differs"
        return None


def _buyer(customer: Customer, proof: str, order: Order | None) -> Buyer:
    limits = (customer.purse_fen, None if order is None else order.limit_fen)
    most = min((limit for limit in limits if limit is not None), default=None)
    return Buyer(customer.seen, customer.payer, proof, customer.name, most, order)
