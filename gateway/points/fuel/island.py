"""Vehicles at an island, as its witnesses see them; whoever lifts a nozzle next to one is asked for here.

A vehicle stays for as long as it is seen (`gateway.points.fuel.witnesses` weighs that). One that has filled up is
nobody's proof any more until it has left: whoever lifts another nozzle is somebody else.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Final

from gateway.debit.claims import Identity, Payer
from gateway.model.clock import Clock
from gateway.points.fuel.orders import vehicle_digest
from gateway.points.fuel.witnesses import Sighting, WitnessKind

CUSTOMERS_MAX: Final = 64
"""Vehicles remembered; more than can stand around an island."""


@dataclass(frozen=True, slots=True)
class Customer:
    """Vehicle that may fill up."""

    seen: Identity
    payer: Payer
    at: float
    """Monotonic second at which it was last seen."""
    purse_fen: int | None = None
    """Balance of its card, where that is what pays."""

    @property
    def name(self) -> str:
        """Name of the vehicle, the same at every sighting: its tag."""
        return "" if self.seen.obu_id is None else self.seen.obu_id.hex()


@dataclass(slots=True)
class Owing:
    """Claim that the card in a vehicle has to pay before it leaves."""

    debit_id: str
    payer: Payer
    amount_fen: int
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when the card was asked and its answer is decided, or cannot be asked at all."""
    reason: str | None = None
    """Code of the reason why it cannot pay."""


class Island:
    """Vehicles at one island."""

    def __init__(self, clock: Clock, witness: WitnessKind, *, gone_s: float) -> None:
        """`witness`: kind of the antenna; `gone_s`: seconds after which a vehicle not seen again has left."""
        self._clock = clock
        self._witness = witness
        self._gone_s = gone_s
        self._customers: OrderedDict[str, Customer] = OrderedDict()
        self._plates: OrderedDict[tuple[int, str], float] = OrderedDict()
        """Plates that cameras have read at a side, by their digest, with the second."""
        self._filling: dict[int, str] = {}
        """Vehicle filling up at each side."""
        self._stands_at: OrderedDict[str, tuple[int, float]] = OrderedDict()
        """Side at which a vehicle went without fuel, with the second at which it was last seen: until it has left,
        whoever lifts a nozzle elsewhere is somebody else."""
        self._served: dict[str, float] = {}
        """Vehicles that have filled up, with the second at which they were last seen."""
        self._owing: dict[str, Owing] = {}
        """Claims that cards have to pay, by card number."""
        self.on_seen: list[Callable[[], None]] = []
        """Called when a vehicle was seen: sides whose nozzle is out look again."""

    # --- seeing ---------------------------------------------------------------------------------------------------

    def saw(self, seen: Identity, payer: Payer, purse_fen: int | None = None) -> None:
        """Note a vehicle that may fill up."""
        now = self._clock.monotonic()
        customer = Customer(seen, payer, now, purse_fen)
        served_at = self._served.pop(customer.name, None)
        if served_at is not None and now - served_at <= self._gone_s:
            self._served[customer.name] = now
            return
        side, at = self._stands_at.pop(customer.name, (None, 0.0))
        if side is not None and now - at <= self._gone_s:
            self._stands_at[customer.name] = side, now
        self._customers.pop(customer.name, None)
        self._customers[customer.name] = customer
        while len(self._customers) > CUSTOMERS_MAX:
            self._customers.popitem(last=False)
        self._look_again()

    def saw_plate(self, side: int, plate: str, colour: int | None) -> None:
        """Note a plate that a camera has read at a side: a second witness of a vehicle that the antenna sees."""
        key = side, vehicle_digest(plate, colour)
        self._plates.pop(key, None)
        self._plates[key] = self._clock.monotonic()
        while len(self._plates) > CUSTOMERS_MAX:
            self._plates.popitem(last=False)
        self._look_again()

    def _look_again(self) -> None:
        for call in self.on_seen:
            call()

    # --- asking ---------------------------------------------------------------------------------------------------

    def sightings(self, side: int) -> Iterator[Sighting]:
        """Sightings that tell who stands at a side; vehicles that fill up elsewhere do not."""
        for name, customer in self._customers.items():
            if name in self._filling.values() or self._stands_at.get(name, (side, 0.0))[0] != side:
                continue
            yield Sighting(name, self._witness, customer.at)
            plate_at = self._plates.get((side, _digest(customer)))
            if plate_at is not None:
                yield Sighting(name, WitnessKind.CAMERA, plate_at)

    def customer(self, name: str) -> Customer:
        """Customer by the name that a proof gave."""
        return self._customers[name]

    def by_plate(self, digest: str) -> Customer | None:
        """Customer whose plate has this digest, if it stands here and does not fill up."""
        return next(
            (
                customer
                for name, customer in self._customers.items()
                if _digest(customer) == digest and name not in self._filling.values()
            ),
            None,
        )

    # --- filling up -----------------------------------------------------------------------------------------------

    def begins(self, side: int, name: str) -> None:
        """Note that a vehicle fills up at a side: no other side asks for it."""
        self._filling[side] = name

    def goes_without(self, side: int) -> None:
        """Note that a side is free and delivered nothing. Its vehicle may lift again there once it is seen again."""
        name = self._filling.pop(side, None)
        if name:
            self._customers.pop(name, None)
            self._stands_at[name] = side, self._clock.monotonic()
            while len(self._stands_at) > CUSTOMERS_MAX:
                self._stands_at.popitem(last=False)

    def ends(self, side: int) -> None:
        """Note that a side is free again. Its vehicle has to leave and come back for another sale."""
        name = self._filling.pop(side, None)
        if name:
            self.served(name)

    def served(self, name: str) -> None:
        """Note that a vehicle has filled up, and may stand here still."""
        self._customers.pop(name, None)
        self._stands_at.pop(name, None)
        self._served.pop(name, None)
        self._served[name] = self._clock.monotonic()
        while len(self._served) > CUSTOMERS_MAX:
            del self._served[next(iter(self._served))]

    # --- paying by card -------------------------------------------------------------------------------------------

    def owes(self, card_number: str, owing: Owing) -> None:
        """Note what a card has to pay: it is asked at its next sighting."""
        self._owing[card_number] = owing

    def owing(self, card_number: str) -> Owing | None:
        """Claim that a card has to pay."""
        return self._owing.get(card_number)

    def settled(self, card_number: str) -> None:
        """Note that a card is asked for nothing any more."""
        self._owing.pop(card_number, None)


def _digest(customer: Customer) -> str:
    return "" if customer.seen.plate is None else vehicle_digest(customer.seen.plate, customer.seen.plate_colour)
