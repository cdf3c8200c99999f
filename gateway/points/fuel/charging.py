"""Charging of what was delivered: once, by whoever the hold named, however often it is asked for.

Bank, issuer and till are charged at once. A stored-value card pays through the antenna while its vehicle stands there;
where it has left, the claim becomes its debt. A claim whose purchase is in doubt waits for the card or for a person.
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Final

from gateway.debit.claims import Decision, HoldRefused
from gateway.debit.engine import BroughtIn, Timing
from gateway.model.passage import Funding
from gateway.points.fuel import book
from gateway.points.fuel.book import OpenSale
from gateway.points.fuel.island import Island, Owing
from gateway.points.fuel.services import FuelServices
from gateway.points.fuel.settling import Sold
from gateway.points.visit import Visit

CARD_LEFT: Final = "purse_card_left"


@dataclass(frozen=True, slots=True)
class PumpTime:
    """Time that the pump took: `began` is the monotonic second at which its nozzle was back, `pump_us` until it had
    said all there is to say."""

    began: float
    pump_us: int


class Charging:
    """Charges the sales of one island."""

    def __init__(self, services: FuelServices, island: Island) -> None:
        self._services = services
        self._engine = services.engine
        self._island = island
        self._under_way: set[str] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._log = logging.getLogger(f"{__name__}.{services.settings.name}")

    async def charge(self, sale: OpenSale, sold: Sold, spent: PumpTime | None = None) -> None:
        """Charge a sale whose delivery is stored; a card that is to pay is waited for behind the caller's back."""
        if sale.id in self._under_way:
            return
        self._under_way.add(sale.id)
        if sale.payer.funding is Funding.PURSE:
            task = asyncio.get_running_loop().create_task(self._by_card(sale, sold))
            self._tasks.add(task)
            task.add_done_callback(partial(self._ended, sale))
            return
        try:
            await self._at_once(sale, sold, spent)
        finally:
            self._under_way.discard(sale.id)

    def stop(self) -> None:
        """Leave what waits for cards to the next start."""
        for task in self._tasks:
            task.cancel()

    async def _at_once(self, sale: OpenSale, sold: Sold, spent: PumpTime | None) -> None:
        deadline = self._services.clock.monotonic() + self._services.settings.deadline_s
        found = await self._engine.complete(
            sale.debit_id,
            sold.amount_fen,
            sale.payer,
            Visit(self._services).context(),
            self._services.settings.decline_policy,
            deadline=deadline,
        )
        if isinstance(found, HoldRefused):
            self._log.error("sale %s of %d fen was not charged: %s", sale.id, sold.amount_fen, found.reason)
            return
        await self._bill(sale)
        if spent is not None:
            self._note_timing(found, spent)

    def _note_timing(self, found: BroughtIn, spent: PumpTime) -> None:
        total_us = round(1e6 * (self._services.clock.monotonic() - spent.began))
        record_no = found.decision.record_no
        self._services.note_timing(Timing(record_no, total_us, spent.pump_us, found.bank_us, found.commit_us, None))

    async def _bill(self, sale: OpenSale) -> None:
        change = partial(book.bill, sale_id=sale.id)
        await asyncio.shield(self._services.writer.submit(change, essential=True))

    # --- by card --------------------------------------------------------------------------------------------------

    async def _by_card(self, sale: OpenSale, sold: Sold) -> None:
        refused = await self._engine.delivered.claim(sale.debit_id, sold.amount_fen)
        if refused is not None:
            self._log.error("sale %s of %d fen was not claimed: %s", sale.id, sold.amount_fen, refused.reason)
            return
        reason = await self._card_asked(sale, sold)
        context = Visit(self._services).context()
        decision: Decision | None = await self._engine.delivered.card_left(sale.debit_id, reason, context)
        if decision is None:
            self._log.warning("sale %s: nobody knows yet whether its card has paid", sale.id)
            return
        await self._bill(sale)

    async def _card_asked(self, sale: OpenSale, sold: Sold) -> str:
        """Wait until the card was asked, or has left; the code of the reason for a debt, should it not have paid."""
        number = sale.card_number
        if number is None:
            return CARD_LEFT
        owing = Owing(sale.debit_id, sale.payer, sold.amount_fen)
        self._island.owes(number, owing)
        try:
            with suppress(TimeoutError):
                async with asyncio.timeout(self._services.settings.card_pays_within_s):
                    await owing.ended.wait()
        finally:
            self._island.settled(number)
        return owing.reason or CARD_LEFT

    def _ended(self, sale: OpenSale, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        self._under_way.discard(sale.id)
        if not task.cancelled() and task.exception() is not None:
            self._log.error("sale %s was not charged; it is tried again", sale.id, exc_info=task.exception())
