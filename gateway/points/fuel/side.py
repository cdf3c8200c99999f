"""One side of an island: who lifts its nozzle is found, let fill up, and charged what was delivered.

Theory of operation. Everything that happens comes through one inbox and is noted (`gateway.points.fuel.conversation`);
then the side looks at what it knows and acts, one step at a time, so that nothing is decided twice. A sale walks

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
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import Final, TypeVar

from gateway.debit.claims import HoldRefused, Identity
from gateway.debit.engine import StorageLate
from gateway.ledger.batches import StorageUnavailable
from gateway.ledger.transaction import Change
from gateway.model.states import SaleState
from gateway.points.fuel import allowance, book, orders
from gateway.points.fuel.allowance import Allowance, Asked
from gateway.points.fuel.book import OpenSale
from gateway.points.fuel.buyers import Buyer, Buyers, NotSold
from gateway.points.fuel.charging import Charging, PumpTime
from gateway.points.fuel.conversation import Conversation
from gateway.points.fuel.facts import OVER, Facts
from gateway.points.fuel.island import Island
from gateway.points.fuel.orders import Order
from gateway.points.fuel.ports import PumpSide
from gateway.points.fuel.services import FuelServices
from gateway.points.fuel.settings import SideSettings
from gateway.points.fuel.settling import MISSING, Begun, Ended, Nothing, Unclear, settle
from gateway.points.fuel.stock import Stock
from gateway.points.visit import Visit
from protocols.pump.types import (
    AskDelivered,
    AskState,
    Authorise,
    Clear,
    Delivered,
    Outcome,
    Stop,
)

ASK_AGAIN_S: Final = 5.0
"""Seconds between two questions for the evidence that a grey sale lacks."""

T = TypeVar("T")


class Side:
    """One side. `run` serves it for ever; `recover` must have been awaited before."""

    def __init__(
        self, services: FuelServices, settings: SideSettings, pump: PumpSide, island: Island, charging: Charging
    ) -> None:
        self._services = services
        self._settings = settings
        self._log = logging.getLogger(f"{__name__}.{services.settings.name}.{settings.number}")
        self._pump = Conversation(services, settings, pump, self._log)
        self._stock = Stock(services, settings, self._pump, self._log)
        self._buyers = Buyers(services, settings, self._pump.facts, island)
        self._island = island
        self._charging = charging
        self._engine = services.engine
        self._clock = services.clock
        self._facts = self._pump.facts
        self._sale: OpenSale | None = None
        self._order: Order | None = None
        self._turned_away = 0
        """Lift of the nozzle that was refused: it takes another lift, or an order, to ask again."""
        self._lift_of_sale = 0
        """Lift of the nozzle under which the sale under way began."""
        self._ask_again_at = 0.0
        self._closing = False
        island.on_seen.append(self._pump.look)

    # --- life -----------------------------------------------------------------------------------------------------

    async def recover(self, sales: Sequence[OpenSale]) -> None:
        """Take up what an earlier run left open here: charge what is known, and ask for the end of the rest."""
        for sale in sales:
            if sale.sold is not None:
                await self._charging.charge(sale, sale.sold)
            elif sale.state is SaleState.OPEN or (sale.reason in MISSING and sale.is_newest):
                self._sale = sale
                self._lift_of_sale = int(sale.state is SaleState.OPEN)  # its nozzle may be out since then
                self._island.begins(self._settings.number, sale.vehicle)
                self._log.info("sale %s was open when the gateway stopped; the pump is asked", sale.id)

    async def run(self) -> None:
        """Serve until cancelled."""
        listening = asyncio.create_task(self._pump.listen(), name=f"pump-{self._settings.number}")
        try:
            while True:
                await self._pump.next()
                before = self._facts.position
                await self._step()
                self._pump.took(before)
        finally:
            self._pump.end()
            listening.cancel()
            with suppress(asyncio.CancelledError):
                await listening

    def close(self) -> None:
        """Begin no more sales; for an orderly stop."""
        self._closing = True

    @property
    def settings(self) -> SideSettings:
        """Settings of the side."""
        return self._settings

    @property
    def number(self) -> int:
        """Number that people know it by."""
        return self._settings.number

    @property
    def sale(self) -> OpenSale | None:
        """Sale under way."""
        return self._sale

    @property
    def order(self) -> Order | None:
        """Order of a person that it follows."""
        return self._order

    @property
    def facts(self) -> Facts:
        """Newest word of its pump."""
        return self._facts

    def take_stock(self) -> None:
        """Have prices and totalisers looked over as soon as the side rests."""
        self._facts.fresh = True
        self._pump.look()

    def follow(self, order: Order | None) -> None:
        """Follow a person's order at the next lift, or at this one; None takes back what was ordered."""
        if order == self._order:
            return
        if order is not None:
            self._turned_away = 0
        self._order = order
        self._pump.look()

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
            self._pump.look_later(ASK_AGAIN_S)

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
            if left_s > 0 and facts.out:
                self._pump.look_later(left_s)
            else:  # without its nozzle in a hand it is let go for whoever comes next
                await self._pump.do(Stop())

    async def _serve(self) -> None:
        """Deal with a side at which no sale of ours is under way."""
        facts = self._facts
        if facts.state in OVER and not facts.out and not facts.end_seen:
            await self._stock.find()
        elif facts.fresh and facts.at_rest:
            await self._stock.look_over()
        elif facts.out and facts.lifts != self._turned_away and not self._closing and facts.state not in OVER:
            await self._sell()

    # --- a new sale -----------------------------------------------------------------------------------------------

    async def _sell(self) -> None:
        """Find the buyer, hold a maximum, store the sale, and only then authorise the pump."""
        facts = self._facts
        buyer = await self._buyers.find(self._order)
        if buyer is None:
            return
        if isinstance(buyer, NotSold):
            await self._turn_away(buyer.seen, buyer.order, buyer.reason)
            return
        lift, nozzle = facts.lifts, facts.nozzle
        totaliser_ml = await self._pump.totaliser(nozzle)
        if totaliser_ml is None:
            await self._turn_away(buyer.seen, buyer.order, "pump_unavailable")
            return
        await self._stock.compare(nozzle, totaliser_ml)
        if facts.lifts != lift or facts.nozzle != nozzle:
            self._pump.look()  # it was hung up meanwhile, and another one may be out
            return
        price = facts.unit_price_milli
        visit, nonce = Visit(self._services), self._engine.new_id().encode()
        asked, mandate_id = self._buyers.asked(buyer), buyer.payer.mandate_id
        day = visit.local(int(self._clock.utcnow().timestamp()))[:8]
        found = await self._services.reader.look_up(lambda c: allowance.allowed(c, mandate_id, day, asked))
        if isinstance(found, str):
            await self._turn_away(buyer.seen, buyer.order, found)
            return
        deadline_s = self._services.settings.deadline_s
        placed = await visit.hold(buyer.seen, buyer.payer, found.limit_fen, None, nonce, timeout_s=deadline_s)
        if isinstance(placed, str):
            await self._turn_away(buyer.seen, buyer.order, placed)
            return
        begun = Begun(found.limit_fen, price, totaliser_ml)
        self._lift_of_sale = lift
        await self._begin(placed.debit_id, buyer, begun, asked, nozzle)

    async def _begin(self, debit_id: str, buyer: Buyer, begun: Begun, asked: Asked, nozzle: int) -> None:
        sale_id, place = self._engine.new_id(), self._stock.place(nozzle)
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
        self._pump.catch_up()
        if not self._facts.out or self._facts.lifts != self._lift_of_sale:
            await self._nothing(sale, "nozzle_returned", begun.totaliser_ml)
            self._pump.look()
            return
        outcome = await self._pump.do(Authorise(found.preset, (nozzle,), tag=sale.id))
        if outcome in (Outcome.NOT_SENT, Outcome.REFUSED):
            self._turned_away = self._facts.lifts
            await self._nothing(sale, "pump_refused", begun.totaliser_ml)
            return
        self._pump.catch_up()
        self._facts.let_go()
        if outcome is Outcome.UNKNOWN:
            # It may flow. What the pump says next tells; until then the sale is open, and its hold stays.
            self._facts.watched = False
            await self._pump.do(Stop())
            await self._pump.do(AskState())
        self._pump.look_later(self._services.settings.lift_to_flow_s)

    async def _turn_away(self, seen: Identity, order: Order | None, reason: str) -> None:
        self._turned_away = self._facts.lifts
        if order is not None:
            await self._refuse_order(order, reason)
        with suppress(StorageLate, StorageUnavailable):
            decision = await Visit(self._services).refuse(seen, reason)
            self._log.info("record %s: %s", decision.record_no, reason)

    async def _refuse_order(self, order: Order, reason: str) -> None:
        await self._store(partial(orders.refuse, order_id=order.id, reason=reason))
        self._order = None

    # --- the end of a sale ----------------------------------------------------------------------------------------

    async def _finish(self, sale: OpenSale) -> None:
        """Read the pump's last word, settle, store, charge, and only then clear the display."""
        began = self._clock.monotonic()
        delivered = await self._pump.ask(AskDelivered(), Delivered)
        totaliser_ml = await self._pump.totaliser(sale.place.nozzle)
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
                self._pump.look_later(ASK_AGAIN_S)
                return
        else:
            await self._store(
                partial(book.deliver, sale_id=sale.id, sold=verdict, totaliser_ml=totaliser_ml, pump_sale=name)
            )
            await self._charging.charge(sale, verdict, PumpTime(began, pump_us))
        self._sale, facts.end_seen = None, True
        if facts.out and facts.lifts == self._lift_of_sale:
            self._turned_away = facts.lifts  # a nozzle that hangs out still is no new customer's
        self._island.ends(self._settings.number)
        await self._pump.do(Clear())

    async def _nothing(self, sale: OpenSale, reason: str, totaliser_ml: int | None) -> None:
        await self._store(partial(book.end_with_nothing, sale_id=sale.id, reason=reason, totaliser_ml=totaliser_ml))
        freed = await self._engine.release(sale.debit_id, Visit(self._services).context(), reason)
        if isinstance(freed, HoldRefused):
            self._log.error("the hold of sale %s was not freed: %s", sale.id, freed.reason)
        self._sale = None
        self._island.goes_without(self._settings.number)

    async def _store(self, change: Change[T]) -> T:
        """Store a change of a sale; its end needs no room on a full disk, and waits however long it takes."""
        return await asyncio.shield(self._services.writer.submit(change, essential=True))
