"""One side of an island: who lifts its nozzle is found, let fill up, and charged what was delivered.

Theory of operation. Everything the pump says comes through one inbox and is noted (`gateway.points.fuel.facts`); after
each note the side looks at what it knows and acts, one step at a time, so that nothing is decided twice. A sale walks

    nozzle out -> vehicle proved, or a person's order -> hold of a maximum -> sale stored -> pump authorised
    -> fuel flows -> delivery over -> pump's word and totaliser read -> settled -> stored -> charged -> display cleared

The row of the sale is committed before the pump is authorised, and the pump's last word before it is charged or
cleared: whatever stops in between is found at the next start and goes on from there. From the authorisation on no time
ends the hold; only what the pump says does (`gateway.points.fuel.settling`), or a person.

A sale whose evidence is missing is grey at once, and stays the side's until the pump says more or the next nozzle is
lifted; its display is not cleared before. One whose evidence contradicts itself is left to people.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from enum import Enum, auto
from functools import partial
from typing import Final, TypeVar

from gateway.debit.claims import HoldRefused, Identity, Payer
from gateway.debit.engine import StorageLate
from gateway.ledger.batches import StorageUnavailable
from gateway.ledger.transaction import Change
from gateway.model.passage import Funding
from gateway.model.states import SaleState
from gateway.points.fuel import allowance, book, orders
from gateway.points.fuel.allowance import Allowance, Asked
from gateway.points.fuel.book import OpenSale, Place
from gateway.points.fuel.charging import Charging, FuelServices, PumpTime
from gateway.points.fuel.facts import OVER, Facts
from gateway.points.fuel.island import Customer, Island
from gateway.points.fuel.orders import Order
from gateway.points.fuel.ports import Heard, PumpSide
from gateway.points.fuel.settings import SideSettings
from gateway.points.fuel.settling import MISSING, Begun, Ended, Nothing, Sold, Unclear, is_gap, settle
from gateway.points.fuel.witnesses import Proven, who
from gateway.points.visit import Visit
from protocols.pump.bus import Offline, Online
from protocols.pump.types import (
    AskDelivered,
    AskTotals,
    Authorise,
    Clear,
    Command,
    Delivered,
    Outcome,
    Reading,
    SetPrices,
    SideState,
    Stop,
    TotalsSeen,
)

ASK_AGAIN_S: Final = 5.0
"""Seconds between two questions for the evidence that a grey sale lacks."""

BY_ATTENDANT: Final = "attendant"
"""Proof of a sale that a person ordered."""

R = TypeVar("R", bound=Reading)
T = TypeVar("T")


class _Nudge(Enum):
    LOOK = auto()
    """Something beside the pump has changed, or a time is over: the side looks at what it knows."""


@dataclass(frozen=True, slots=True)
class _Buyer:
    """Buyer at a lifted nozzle: who pays, and how that is known."""

    seen: Identity
    payer: Payer
    proof: str
    vehicle: str = ""
    most_fen: int | None = None
    order: Order | None = None


class Side:
    """One side. `run` serves it for ever; `recover` must have been awaited before."""

    def __init__(
        self, services: FuelServices, settings: SideSettings, pump: PumpSide, island: Island, charging: Charging
    ) -> None:
        self._services = services
        self._settings = settings
        self._pump = pump
        self._island = island
        self._charging = charging
        self._engine = services.engine
        self._clock = services.clock
        self._inbox: asyncio.Queue[Heard | _Nudge] = asyncio.Queue()
        self._facts = Facts(next(iter(settings.grades)))
        self._sale: OpenSale | None = None
        self._order: Order | None = None
        self._turned_away = 0
        """Lift of the nozzle that was refused: it takes another lift, or an order, to ask again."""
        self._ask_again_at = 0.0
        self._closing = self._nudged = False
        self._timer: asyncio.TimerHandle | None = None
        island.on_seen.append(self._look)
        self._log = logging.getLogger(f"{__name__}.{services.settings.name}.{settings.number}")

    # --- life -----------------------------------------------------------------------------------------------------

    async def recover(self, sales: Sequence[OpenSale]) -> None:
        """Take up what an earlier run left open here: charge what is known, and ask for the end of the rest."""
        for place in map(self._place, self._settings.grades):
            vehicle = await self._services.reader.read(partial(book.last_vehicle, place=place))
            if vehicle is not None:
                self._island.served(vehicle)  # It may stand here still, and is no proof for whoever comes next.
        for sale in sales:
            if sale.sold is not None:
                await self._charging.charge(sale, sale.sold)
            elif sale.state is SaleState.OPEN or (sale.reason in MISSING and sale.is_newest):
                self._sale = sale
                self._facts.flowed = True
                self._island.begins(self._settings.number, sale.vehicle)
                self._log.info("sale %s was open when the gateway stopped; the pump is asked", sale.id)

    async def run(self) -> None:
        """Serve until cancelled."""
        listening = asyncio.create_task(self._listen(), name=f"pump-{self._settings.number}")
        try:
            while True:
                self._note(await self._inbox.get())
                while not self._inbox.empty():
                    self._note(self._inbox.get_nowait())
                before, self._nudged = self._facts.position, False
                await self._step()
                if self._nudged or self._facts.position != before:
                    self._look()  # something happened while the pump was asked for something else
        finally:
            if self._timer is not None:
                self._timer.cancel()
            listening.cancel()
            with suppress(asyncio.CancelledError):
                await listening

    def close(self) -> None:
        """Begin no more sales; for an orderly stop."""
        self._closing = True

    @property
    def number(self) -> int:
        """Number that people know it by."""
        return self._settings.number

    @property
    def sale(self) -> OpenSale | None:
        """Sale under way."""
        return self._sale

    @property
    def facts(self) -> Facts:
        """Newest word of its pump."""
        return self._facts

    def take_stock(self) -> None:
        """Have prices and totalisers looked over as soon as the side rests."""
        self._facts.fresh = True
        self._look()

    def follow(self, order: Order | None) -> None:
        """Follow a person's order at the next lift, or at this one; None takes back what was ordered."""
        if order is not None and (self._order is None or self._order.id != order.id):
            self._turned_away = 0
        self._order = order
        self._look()

    def _look(self) -> None:
        self._inbox.put_nowait(_Nudge.LOOK)

    async def _listen(self) -> None:
        async for event in self._pump.events():
            self._inbox.put_nowait(event)

    def _note(self, event: Heard | _Nudge) -> None:
        if isinstance(event, _Nudge):
            self._nudged = True
            return
        self._facts.note(event, self._clock.monotonic())
        if isinstance(event, Offline | Online):
            part = f"pump-{self._settings.number}"
            self._services.report_fault(part, "does not answer" if isinstance(event, Offline) else None)

    async def _step(self) -> None:
        """Act on what is known; once more later where the ledger does not store."""
        if not self._facts.online or self._facts.state is None:
            return
        try:
            if self._sale is not None:
                await self._go_on(self._sale)
            else:
                await self._serve()
        except (StorageLate, StorageUnavailable) as trouble:
            self._log.warning("the ledger does not store: %s", trouble)
            self._services.report_fault("ledger", str(trouble) or "the ledger is too slow")
            self._look_later(ASK_AGAIN_S)

    async def _go_on(self, sale: OpenSale) -> None:
        """Go on with the sale under way."""
        facts, now = self._facts, self._clock.monotonic()
        if sale.state is SaleState.GREY:
            if facts.out or now >= self._ask_again_at:
                await self._finish(sale)
        elif facts.is_over:
            await self._finish(sale)
        elif not facts.flowed:
            left_s = facts.lifted_at + self._services.settings.lift_to_flow_s - now
            if left_s > 0:
                self._look_later(left_s)
            else:
                await self._do(Stop())

    async def _serve(self) -> None:
        """Deal with a side at which no sale of ours is under way."""
        facts = self._facts
        if facts.state in OVER and not facts.out and not facts.end_seen:
            await self._find()
        elif facts.fresh and facts.at_rest:
            await self._look_over()
        elif facts.out and facts.lifts != self._turned_away and not self._closing and facts.state not in OVER:
            await self._sell()

    def _look_later(self, seconds: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_later(seconds, self._look)

    # --- a new sale -----------------------------------------------------------------------------------------------

    async def _sell(self) -> None:
        """Find the buyer, hold a maximum, store the sale, and only then authorise the pump."""
        facts = self._facts
        buyer = await self._buyer()
        if buyer is None:
            return
        refused = await self._problem(buyer)
        if refused is not None:
            await self._turn_away(buyer, refused)
            return
        totaliser_ml = await self._totaliser(facts.nozzle)
        if totaliser_ml is None:
            await self._turn_away(buyer, "pump_unavailable")
            return
        await self._compare(facts.nozzle, totaliser_ml)
        visit, nonce = Visit(self._services), self._engine.new_id().encode()
        asked, mandate_id = self._asked(facts.nozzle, buyer), buyer.payer.mandate_id
        day = visit.local(int(self._clock.utcnow().timestamp()))[:8]
        found = await self._services.reader.look_up(lambda c: allowance.allowed(c, mandate_id, day, asked))
        if isinstance(found, str):
            await self._turn_away(buyer, found)
            return
        deadline_s = self._services.settings.deadline_s
        placed = await visit.hold(buyer.seen, buyer.payer, found.limit_fen, None, nonce, timeout_s=deadline_s)
        if isinstance(placed, str):
            await self._turn_away(buyer, placed)
            return
        begun = Begun(found.limit_fen, facts.unit_price_milli, totaliser_ml)
        await self._begin(placed.debit_id, buyer, begun, asked)

    async def _buyer(self) -> _Buyer | None:
        """Find who buys at the lifted nozzle: by a person's order, else by who is proved to stand here."""
        order = self._order
        if order is not None and order.vehicle is None:
            till = Payer(Funding.CASH, self._services.settings.name)
            return _Buyer(Identity(), till, BY_ATTENDANT, most_fen=order.limit_fen, order=order)
        if order is not None:
            named = self._island.by_plate(order.vehicle or "")
            if named is not None:
                return _buyer(named, BY_ATTENDANT, order)
            await self._refuse_order(order, "pump_vehicle_not_seen")
            return None
        proof = who(self._island.sightings(self._settings.number), self._services.settings.proof, self._facts.lifted_at)
        if isinstance(proof, Proven):
            return _buyer(self._island.customer(proof.vehicle), str(proof), None)
        if len(proof.candidates) > 1:
            await self._turn_away(None, "pump_vehicle_unclear")
        return None

    async def _problem(self, buyer: _Buyer) -> str | None:
        """Code of the reason why nothing is sold to this buyer at this nozzle; None when nothing is against it."""
        if buyer.payer.funding is not Funding.CASH and await self._services.reader.look_up(
            lambda c: book.has_grey(c, buyer.payer, buyer.vehicle)
        ):
            return "pump_earlier_open"
        price = self._settings.unit_prices.get(self._facts.nozzle)
        told = self._facts.unit_price_milli
        if price is not None and told is not None and told != price:
            self._facts.fresh = True  # its prices are set once the nozzle is back
            return "pump_price_differs"
        return None

    async def _begin(self, debit_id: str, buyer: _Buyer, begun: Begun, asked: Asked) -> None:
        nozzle = self._facts.nozzle
        sale_id, place = self._engine.new_id(), self._place(nozzle)
        order = buyer.order
        found = await self._store(
            lambda tx: book.begin(
                tx,
                sale_id,
                debit_id,
                place=place,
                begun=begun,
                asked=asked,
                proof=buyer.proof,
                order_id=None if order is None else order.id,
            )
        )
        self._order = None
        if not isinstance(found, Allowance):
            self._turned_away = self._facts.lifts
            if order is not None and found is not None:
                await self._refuse_order(order, found)
            await self._engine.release(debit_id, Visit(self._services).context(), found or "pump_order_lapsed")
            return
        begun = replace(begun, limit_fen=found.limit_fen)
        sale = OpenSale(
            id=sale_id,
            debit_id=debit_id,
            payer=buyer.payer,
            vehicle=buyer.vehicle,
            card_number=buyer.seen.card_number,
            place=place,
            state=SaleState.OPEN,
            reason=None,
            is_newest=True,
            begun=begun,
            sold=None,
        )
        self._sale = sale
        self._facts.authorised()
        self._island.begins(self._settings.number, sale.vehicle)
        while not self._inbox.empty():
            self._note(self._inbox.get_nowait())
        if not self._facts.out:
            await self._nothing(sale, "nozzle_returned", begun.totaliser_ml)
            return
        outcome = await self._do(Authorise(found.preset, (nozzle,), tag=sale.id))
        if outcome in (Outcome.NOT_SENT, Outcome.REFUSED):
            self._turned_away = self._facts.lifts
            await self._nothing(sale, "pump_refused", begun.totaliser_ml)
            return
        if outcome is Outcome.UNKNOWN:
            # It may flow. What the pump says next tells; until then the sale is open, and its hold stays.
            self._facts.watched = False
            await self._do(Stop())
        self._look_later(self._services.settings.lift_to_flow_s)

    def _asked(self, nozzle: int, buyer: _Buyer) -> Asked:
        settings = self._services.settings
        grade = self._settings.grades.get(nozzle)
        limits = (settings.limit_fen, settings.limits_of_grades.get(grade or ""), buyer.payer.limit_fen, buyer.most_fen)
        return Asked(
            grade=grade,
            most_fen=min(limit for limit in limits if limit is not None),
            unit_price_milli=self._facts.unit_price_milli or self._settings.unit_prices.get(nozzle),
            decimals=self._settings.decimals,
            minimum_fen=settings.minimum_fen,
        )

    async def _turn_away(self, buyer: _Buyer | None, reason: str) -> None:
        self._turned_away = self._facts.lifts
        if buyer is not None and buyer.order is not None:
            await self._refuse_order(buyer.order, reason)
        with suppress(StorageLate, StorageUnavailable):
            decision = await Visit(self._services).refuse(Identity() if buyer is None else buyer.seen, reason)
            self._log.info("record %s: %s", decision.record_no, reason)

    async def _refuse_order(self, order: Order, reason: str) -> None:
        self._order = None
        await self._store(partial(orders.refuse, order_id=order.id, reason=reason))

    # --- the end of a sale ----------------------------------------------------------------------------------------

    async def _finish(self, sale: OpenSale) -> None:
        """Read the pump's last word, settle, store, charge, and only then clear the display."""
        began = self._clock.monotonic()
        delivered = await self._ask(AskDelivered(), Delivered)
        totaliser_ml = await self._totaliser(sale.place.nozzle)
        if not self._facts.online:
            return  # It is read when the pump is back.
        facts = self._facts
        ended = Ended(delivered or facts.delivered, totaliser_ml, facts.watched, facts.unit_price_milli)
        verdict = settle(sale.begun, ended, self._settings.decimals, wraps_at_ml=self._settings.totaliser_wraps_at_ml)
        name = None if ended.delivered is None else ended.delivered.name
        pump_us = round(1e6 * (self._clock.monotonic() - began))
        if isinstance(verdict, Nothing):
            await self._nothing(sale, "nothing_delivered", totaliser_ml)
        elif isinstance(verdict, Unclear):
            shown = f"the pump shows {ended.delivered}, its totaliser {totaliser_ml} ml"
            self._log.error("sale %s is grey: %s; %s", sale.id, verdict.reason, shown)
            await self._store(
                partial(
                    book.leave_grey,
                    sale_id=sale.id,
                    reason=verdict.reason,
                    totaliser_ml=totaliser_ml,
                    pump_sale=name,
                )
            )
            if verdict.reason in MISSING and not facts.out:
                self._sale = replace(sale, state=SaleState.GREY)
                self._ask_again_at = self._clock.monotonic() + ASK_AGAIN_S
                self._look_later(ASK_AGAIN_S)
                return
        else:
            await self._store(
                partial(book.deliver, sale_id=sale.id, sold=verdict, totaliser_ml=totaliser_ml, pump_sale=name)
            )
            await self._charging.charge(sale, verdict, PumpTime(began, pump_us))
        self._sale, facts.end_seen = None, True
        self._island.ends(self._settings.number)
        await self._do(Clear())

    async def _nothing(self, sale: OpenSale, reason: str, totaliser_ml: int | None) -> None:
        await self._store(partial(book.end_with_nothing, sale_id=sale.id, reason=reason, totaliser_ml=totaliser_ml))
        freed = await self._engine.release(sale.debit_id, Visit(self._services).context(), reason)
        if isinstance(freed, HoldRefused):
            self._log.error("the hold of sale %s was not freed: %s", sale.id, freed.reason)
        self._sale = None
        self._island.ends(self._settings.number)

    # --- what no sale explains ------------------------------------------------------------------------------------

    async def _find(self) -> None:
        """Store a delivery that nobody of ours let begin: the totaliser counts it, and somebody must say why."""
        place = self._place(self._facts.nozzle or self._facts.first_nozzle)
        delivered = await self._ask(AskDelivered(), Delivered)
        totaliser_ml = await self._totaliser(place.nozzle)
        if not self._facts.online or totaliser_ml is None:
            return
        self._facts.end_seen = True
        before = await self._expected_ml(place)
        wraps = self._settings.totaliser_wraps_at_ml
        if before is not None and is_gap(before, totaliser_ml, self._settings.decimals, wraps_at_ml=wraps):
            limit = delivered.amount_minor or 0 if delivered else 0
            ended = Ended(delivered, totaliser_ml, watched=False, unit_price_milli=self._facts.unit_price_milli)
            verdict = settle(Begun(limit, None, before), ended, self._settings.decimals, wraps_at_ml=wraps)
            name = None if delivered is None else delivered.name
            await self._unexplained(place, verdict if isinstance(verdict, Sold) else None, totaliser_ml, name)
        await self._do(Clear())

    async def _look_over(self) -> None:
        """Set the station's prices where the pump has others, and compare its totalisers with the sales."""
        self._facts.fresh = False
        prices = self._settings.unit_prices
        differs = self._facts.unit_price_milli not in (None, prices.get(self._facts.nozzle or self._facts.first_nozzle))
        if self._facts.state is SideState.NOT_PROGRAMMED or (prices and differs):
            await self._set_prices()
        for nozzle in self._settings.grades:
            totaliser_ml = await self._totaliser(nozzle)
            if not self._facts.at_rest:
                self._facts.fresh = True  # somebody has come: it is looked over when they have gone
                return
            if totaliser_ml is not None:
                await self._compare(nozzle, totaliser_ml)

    async def _set_prices(self) -> None:
        prices = self._settings.unit_prices
        part = f"prices-{self._settings.number}"
        if not prices:
            self._services.report_fault(part, "the pump has no prices, and the site file has none for it")
            return
        told = tuple(prices[nozzle] for nozzle in sorted(prices))
        if await self._do(SetPrices(told)) is Outcome.ACCEPTED and await self._do(Clear()) is Outcome.ACCEPTED:
            self._services.report_fault(part, None)
            self._log.info("prices set: %s", ", ".join(f"{price / 1000:.3f}" for price in told))
        else:
            self._services.report_fault(part, "the pump did not take the station's prices")

    async def _compare(self, nozzle: int, totaliser_ml: int) -> None:
        """Compare where a totaliser stands with the sales: litres that none explains are put on people's list."""
        place, wraps = self._place(nozzle), self._settings.totaliser_wraps_at_ml
        before = await self._expected_ml(place)
        if before is not None and is_gap(before, totaliser_ml, self._settings.decimals, wraps_at_ml=wraps):
            await self._unexplained(place, None, totaliser_ml)

    async def _expected_ml(self, place: Place) -> int | None:
        found = await self._services.reader.look_up(lambda c: book.totaliser_by_sales(c, place))
        return None if found is None else found % self._settings.totaliser_wraps_at_ml

    async def _unexplained(
        self, place: Place, sold: Sold | None, totaliser_ml: int, pump_sale: str | None = None
    ) -> None:
        sale_id = self._engine.new_id()
        self._log.warning("nozzle %d stands at %d ml, and no sale explains it", place.nozzle, totaliser_ml)
        change = partial(book.find, sold=sold, totaliser_ml=totaliser_ml, pump_sale=pump_sale)
        await self._store(lambda tx: change(tx, sale_id, place))

    # --- pump and ledger ------------------------------------------------------------------------------------------

    def _place(self, nozzle: int) -> Place:
        return Place(
            charge_point=self._services.settings.name,
            side=self._settings.number,
            nozzle=nozzle,
            grade=self._settings.grades.get(nozzle),
        )

    async def _do(self, command: Command) -> Outcome:
        outcome = await self._pump.do(command)
        if outcome is not Outcome.ACCEPTED:
            self._log.warning("%s: %s", type(command).__name__, outcome.value)
        return outcome

    async def _ask(self, command: Command, kind: type[R], meant: Callable[[R], bool] = lambda _: True) -> R | None:
        """Ask for a reading and wait for it; None when it does not come in time."""
        if await self._do(command) is not Outcome.ACCEPTED:
            return None
        with suppress(TimeoutError):
            async with asyncio.timeout(self._services.settings.answer_s):
                while self._facts.online:
                    event = await self._inbox.get()
                    self._note(event)
                    if isinstance(event, kind) and meant(event):
                        return event
        return None

    async def _totaliser(self, nozzle: int) -> int | None:
        # Some pumps tell the totalisers of all their nozzles at once.
        found = await self._ask(AskTotals(nozzle), TotalsSeen, lambda seen: seen.nozzle in (None, nozzle))
        return None if found is None else found.volume_ml

    async def _store(self, change: Change[T]) -> T:
        """Store a change of a sale; its end needs no room on a full disk, and waits however long it takes."""
        return await asyncio.shield(self._services.writer.submit(change, essential=True))


def _buyer(customer: Customer, proof: str, order: Order | None) -> _Buyer:
    limits = (customer.purse_fen, None if order is None else order.limit_fen)
    most = min((limit for limit in limits if limit is not None), default=None)
    return _Buyer(customer.seen, customer.payer, proof, customer.name, most, order)
