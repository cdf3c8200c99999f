"""Stock of one side: its prices against the station's, its totalisers against the sales.

A litre that no sale explains is stored with an item for people, as soon as it is seen: when a pump has delivered
something that nobody of ours let begin, when the next nozzle is lifted, at the ends of shifts, and whenever a pump has
come back.
"""

from __future__ import annotations

import asyncio
import logging
from functools import partial

from gateway.points.fuel import book
from gateway.points.fuel.book import Place
from gateway.points.fuel.conversation import Conversation
from gateway.points.fuel.services import FuelServices
from gateway.points.fuel.settings import SideSettings
from gateway.points.fuel.settling import Begun, Ended, Sold, is_gap, settle
from protocols.pump.types import AskDelivered, Clear, Delivered, Outcome, SetPrices, SideState


class Stock:
    """Stock of one side."""

    def __init__(self, services: FuelServices, settings: SideSettings, pump: Conversation, log: logging.Logger) -> None:
        self._services = services
        self._settings = settings
        self._pump = pump
        self._log = log

    def place(self, nozzle: int) -> Place:
        """Place of a nozzle of this side, as sales name it."""
        return Place(
            charge_point=self._services.settings.name,
            side=self._settings.number,
            nozzle=nozzle,
            grade=self._settings.grades.get(nozzle),
        )

    async def find(self) -> None:
        """Store a delivery that nobody of ours let begin: the totaliser counts it, and somebody must say why."""
        place = self.place(self._pump.facts.nozzle or self._pump.facts.first_nozzle)
        delivered = await self._pump.ask(AskDelivered(), Delivered)
        totaliser_ml = await self._pump.totaliser(place.nozzle)
        if not self._pump.facts.online or totaliser_ml is None:
            return
        self._pump.facts.end_seen = True
        before = await self._expected_ml(place)
        wraps = self._settings.totaliser_wraps_at_ml
        if before is not None and is_gap(before, totaliser_ml, self._settings.decimals, wraps_at_ml=wraps):
            limit = delivered.amount_minor or 0 if delivered else 0
            ended = Ended(delivered, totaliser_ml, watched=False, unit_price_milli=self._pump.facts.unit_price_milli)
            verdict = settle(Begun(limit, None, before), ended, self._settings.decimals, wraps_at_ml=wraps)
            name = None if delivered is None else delivered.name
            await self._unexplained(place, verdict if isinstance(verdict, Sold) else None, totaliser_ml, name)
        await self._pump.do(Clear())

    async def look_over(self) -> None:
        """Set the station's prices where the pump has others, and compare its totalisers with the sales."""
        facts, prices = self._pump.facts, self._settings.unit_prices
        facts.fresh = False
        differs = facts.unit_price_milli not in (None, prices.get(facts.nozzle or facts.first_nozzle))
        if facts.state is SideState.NOT_PROGRAMMED or (prices and differs):
            await self._set_prices()
        for nozzle in self._settings.grades:
            totaliser_ml = await self._pump.totaliser(nozzle)
            if not facts.at_rest:
                facts.fresh = True  # somebody has come: it is looked over when they have gone
                return
            if totaliser_ml is not None:
                await self.compare(nozzle, totaliser_ml)

    async def _set_prices(self) -> None:
        prices = self._settings.unit_prices
        part = f"prices-{self._settings.number}"
        if not prices:
            self._services.report_fault(part, "the pump has no prices, and the site file has none for it")
            return
        told = tuple(prices[nozzle] for nozzle in sorted(prices))
        if await self._pump.do(SetPrices(told)) is Outcome.ACCEPTED:
            await self._pump.do(Clear())
            self._services.report_fault(part, None)
            self._log.info("prices set: %s", ", ".join(f"{price / 1000:.3f}" for price in told))
        else:
            self._services.report_fault(part, "the pump did not take the station's prices")

    async def compare(self, nozzle: int, totaliser_ml: int) -> None:
        """Compare where a totaliser stands with the sales: litres that none explains are put on people's list."""
        place, wraps = self.place(nozzle), self._settings.totaliser_wraps_at_ml
        before = await self._expected_ml(place)
        if before is not None and is_gap(before, totaliser_ml, self._settings.decimals, wraps_at_ml=wraps):
            await self._unexplained(place, None, totaliser_ml)

    async def _expected_ml(self, place: Place) -> int | None:
        found = await self._services.reader.look_up(lambda c: book.totaliser_by_sales(c, place))
        return None if found is None else found % self._settings.totaliser_wraps_at_ml

    async def _unexplained(
        self, place: Place, sold: Sold | None, totaliser_ml: int, pump_sale: str | None = None
    ) -> None:
        sale_id = self._services.engine.new_id()
        self._log.warning("nozzle %d stands at %d ml, and no sale explains it", place.nozzle, totaliser_ml)
        change = partial(book.find, sold=sold, totaliser_ml=totaliser_ml, pump_sale=pump_sale)
        storing = self._services.writer.submit(lambda tx: change(tx, sale_id, place), essential=True)
        await asyncio.shield(storing)
