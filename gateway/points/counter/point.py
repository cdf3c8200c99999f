"""Counter: lets cards pay, one customer after the other, and settles what cards that were pulled left open."""

from __future__ import annotations

import asyncio
import logging
import math
from dataclasses import dataclass
from typing import Final

from gateway.cards.terminal import CardGone, CardTerminal, TerminalFault
from gateway.debit.claims import Decision
from gateway.debit.engine import StorageLate, Superseded
from gateway.ledger.writer import StorageUnavailable
from gateway.model.passage import Occasion
from gateway.model.states import DebitState
from gateway.points.counter.visit import Bill, CounterServices, CounterVisit, key_of_bill
from gateway.points.visit import SightOutdated

log = logging.getLogger(__name__)

TRIES_MAX: Final = 100
"""Claims that one bill may come to nothing with: a hundred refused cards."""

LOOK_AGAIN_S: Final = 1.0
"""Seconds until a reader in trouble is looked at again."""


@dataclass(frozen=True, slots=True)
class Served:
    """Customer who was served: the decision that stands."""

    decision: Decision
    earlier: bool
    """True where nothing was taken now: the card, or whoever paid this bill, had paid before."""


@dataclass(frozen=True, slots=True)
class NotPaid:
    """End of a try that decided nothing: `reason` is a code of `gateway.model.reasons`."""

    reason: str


class Counter:
    """One counter."""

    def __init__(self, services: CounterServices, terminal: CardTerminal) -> None:
        self._services = services
        self._terminal = terminal
        self._one = asyncio.Lock()
        """One customer at a time."""

    async def run(self) -> None:
        """Settle what is open on every card that is laid on the reader, until cancelled."""
        clock = self._services.clock
        while True:
            try:
                async with self._terminal.customer(wait_s=math.inf) as customer:
                    self._services.report_fault("reader", None)
                    async with self._one:
                        await self._settled(CounterVisit(self._services, customer))
                    await customer.removed()
            except TerminalFault as fault:
                self._services.report_fault("reader", str(fault))
                await clock.sleep(LOOK_AGAIN_S)

    async def drain(self) -> None:
        """Wait for the customer who stands here."""
        async with self._one:
            log.info("%s: closed", self._services.settings.name)

    async def pay(self, bill: Bill, *, wait_s: float) -> Served | NotPaid:
        """Have the next card that is laid on the reader pay. Raises `TerminalFault`."""
        key = None
        async with self._one:
            if bill.reference is not None:
                found = await self._key(bill.reference)
                if not isinstance(found, str):
                    return found
                key = found
            async with self._terminal.customer(wait_s=wait_s) as customer:
                try:
                    visit = CounterVisit(self._services, customer, key)
                    decision = await visit.pay(bill)
                    return Served(decision, earlier=visit.occasion is Occasion.READING and not visit.debited)
                except CardGone as gone:
                    log.info("%s: %s", self._services.settings.name, gone)
                    return NotPaid("card_removed")
                except (SightOutdated, Superseded) as reason:
                    log.info("%s: %s", self._services.settings.name, reason)
                    return NotPaid("purchase_under_way")
                except (StorageLate, StorageUnavailable) as trouble:
                    self._services.report_fault("ledger", str(trouble) or "the ledger is too slow")
                    return NotPaid("storage_unavailable")

    async def settle(self, *, wait_s: float) -> Decision | None:
        """Settle what is open on the next card; None where nothing is, or the card has gone. Raises `TerminalFault`."""
        async with self._one, self._terminal.customer(wait_s=wait_s) as customer:
            return await self._settled(CounterVisit(self._services, customer))

    async def _settled(self, visit: CounterVisit) -> Decision | None:
        try:
            return await visit.settle()
        except (CardGone, SightOutdated, Superseded, StorageLate, StorageUnavailable) as reason:
            log.info("%s: %s", self._services.settings.name, reason)
            return None

    async def _key(self, reference: str) -> str | Served | NotPaid:
        """Key for the next try at a bill; else the decision by which it was paid, or that it cannot be."""
        engine, name = self._services.engine, self._services.settings.name
        for tries in range(TRIES_MAX):
            key = key_of_bill(name, reference, tries)
            claimed = await engine.claimed(key)
            if claimed is None:
                return key
            if claimed.state == DebitState.HELD:
                return key
            if claimed.state != DebitState.VOIDED and claimed.decision is not None:
                return Served(claimed.decision, earlier=True)
        return NotPaid("purchase_refused")
