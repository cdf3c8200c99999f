"""One side of an island: who lifts its nozzle is found, let fill up, and charged what was delivered.

Theory of operation. Everything the pump says comes through one inbox and is noted; after each note the side looks at
what it knows and acts, one step at a time, so that nothing is decided twice. A sale walks

    nozzle out -> vehicle proved -> hold of a maximum -> sale stored -> pump authorised -> fuel flows
    -> delivery over -> pump's word and totaliser read -> settled -> stored -> charged -> display cleared

The row of the sale is committed before the pump is authorised, and the pump's last word before it is charged or
cleared: whatever stops in between is found at the next start and goes on from there. From the authorisation on no time
ends the hold; only what the pump says does (`gateway.points.fuel.settling`), or a person.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from enum import Enum, auto
from functools import partial
from types import MappingProxyType
from typing import Final, TypeVar

from gateway.debit.claims import HoldRefused, Identity, Payer
from gateway.debit.engine import BroughtIn, StorageLate, Timing
from gateway.ledger.batches import LedgerWriter, StorageUnavailable
from gateway.ledger.reading import LedgerReader
from gateway.ledger.transaction import Change
from gateway.model.states import SaleState
from gateway.points.etc.visit import EtcServices
from gateway.points.fuel import book
from gateway.points.fuel.book import OpenSale, Place
from gateway.points.fuel.island import Island
from gateway.points.fuel.ports import Heard, PumpSide
from gateway.points.fuel.settings import FuelSettings, SideSettings
from gateway.points.fuel.settling import Begun, Ended, Nothing, Sold, Unclear, settle
from gateway.points.fuel.witnesses import Proven, who
from gateway.points.visit import Visit
from protocols.pump.bus import Offline, Online, Restarted
from protocols.pump.types import (
    AmountLimit,
    AskDelivered,
    AskTotals,
    Authorise,
    Clear,
    Command,
    Delivered,
    NozzleSeen,
    Outcome,
    Reading,
    SideState,
    StateSeen,
    Stop,
    TotalsSeen,
)

OVER: Final = frozenset({SideState.COMPLETED, SideState.LIMIT_REACHED, SideState.STOPPED})
"""States in which a delivery is over; with the nozzle still out only the first is its end."""

RESTING: Final = OVER | {SideState.IDLE, SideState.NOT_PROGRAMMED, SideState.CALLING, SideState.CLOSED}
"""States in which nothing flows and nothing may."""

TOLD_BY_STATE: Final = MappingProxyType({SideState.CALLING: True, SideState.IDLE: False, SideState.COMPLETED: False})
"""Nozzle out, by the state of a pump that says nothing of its nozzles."""

R = TypeVar("R", bound=Reading)
T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class FuelServices(EtcServices):
    """Services of a fuel island."""

    settings: FuelSettings
    writer: LedgerWriter
    reader: LedgerReader


class _Nudge(Enum):
    SEEN = auto()
    """A vehicle was seen at the island."""
    TIME = auto()
    """The time for fuel to flow is over."""


@dataclass(slots=True)
class _Facts:
    """Newest word of the pump on everything."""

    online: bool = False
    state: SideState | None = None
    nozzle: int = 0
    out: bool = False
    tells_nozzle: bool = False
    """The pump says which nozzle is out; others tell by their state, and of the first nozzle."""
    lifted_at: float = 0.0
    unit_price_milli: int | None = None
    delivered: Delivered | None = None


class Side:
    """One side. `run` serves it for ever; `recover` must have been awaited before."""

    def __init__(self, services: FuelServices, settings: SideSettings, pump: PumpSide, island: Island) -> None:
        self._services = services
        self._settings = settings
        self._pump = pump
        self._island = island
        self._engine = services.engine
        self._clock = services.clock
        self._inbox: asyncio.Queue[Heard | _Nudge] = asyncio.Queue()
        self._facts = _Facts()
        self._sale: OpenSale | None = None
        self._watched = False
        self._flowed = False
        self._turned_away = False
        """The vehicle at this lift of the nozzle was refused; it takes another lift to ask again."""
        self._end_seen = False
        """The end of the last delivery has been dealt with; the state may stay for a while."""
        self._closing = False
        self._timer: asyncio.TimerHandle | None = None
        island.on_seen.append(lambda: self._inbox.put_nowait(_Nudge.SEEN))
        self._log = logging.getLogger(f"{__name__}.{services.settings.name}.{settings.number}")

    # --- life -----------------------------------------------------------------------------------------------------

    async def recover(self, sales: Sequence[OpenSale]) -> None:
        """Take up what an earlier run left open here: charge what is known, and watch for the end of the rest."""
        for place in map(self._place, self._settings.grades):
            vehicle = await self._services.reader.read(partial(book.last_vehicle, place=place))
            if vehicle is not None:
                self._island.served(vehicle)  # It may stand here still, and is no proof for whoever comes next.
        for sale in sales:
            if sale.sold is not None:
                await self._charge(replace(sale, state=SaleState.DELIVERED), sale.sold)
            elif sale.state is SaleState.OPEN:
                self._sale, self._watched, self._flowed = sale, False, True
                self._island.begins(self._settings.number, sale.vehicle)
                self._log.info("sale %s was open when the gateway stopped; the pump is asked", sale.id)

    async def charge_if_nobody_does(self, sale: OpenSale) -> None:
        """Charge a sale whose delivery is known, unless it is being charged now."""
        if sale.sold is not None and (self._sale is None or self._sale.id != sale.id):
            await self._charge(sale, sale.sold)

    async def run(self) -> None:
        """Serve until cancelled."""
        listening = asyncio.create_task(self._listen(), name=f"pump-{self._settings.number}")
        try:
            while True:
                self._note(await self._inbox.get())
                while not self._inbox.empty():
                    self._note(self._inbox.get_nowait())
                await self._step()
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

    async def _listen(self) -> None:
        async for event in self._pump.events():
            self._inbox.put_nowait(event)

    # --- what the pump says ---------------------------------------------------------------------------------------

    def _note(self, event: Heard | _Nudge) -> None:
        facts = self._facts
        match event:
            case Offline():
                facts.online, self._watched = False, False
                self._services.report_fault(f"pump-{self._settings.number}", "does not answer")
            case Online():
                facts.online = True
                self._services.report_fault(f"pump-{self._settings.number}", None)
            case Restarted():
                self._watched = False
            case StateSeen(state=state):
                if state is not facts.state and state not in OVER:
                    self._end_seen = False
                facts.state = state
                if state in (SideState.FUELLING, SideState.SUSPENDED):
                    self._flowed = True
                if not facts.tells_nozzle and state in TOLD_BY_STATE:
                    self._note_nozzle(next(iter(self._settings.grades)), out=TOLD_BY_STATE[state])
            case NozzleSeen():
                facts.tells_nozzle = True
                self._note_nozzle(event.nozzle, out=event.out)
                facts.unit_price_milli = event.unit_price_milli or facts.unit_price_milli
            case Delivered():
                facts.delivered = event
                if event.volume_ml:
                    self._flowed = True
            case _:
                pass

    def _note_nozzle(self, nozzle: int, *, out: bool) -> None:
        facts = self._facts
        if out and not facts.out:
            facts.lifted_at, self._turned_away = self._clock.monotonic(), False
        facts.nozzle, facts.out = nozzle, out

    async def _step(self) -> None:
        """Act on what is known."""
        facts = self._facts
        if not facts.online or facts.state is None:
            return
        if self._sale is not None:
            if self._is_over():
                await self._finish(self._sale)
            elif not self._flowed and self._time_is_over():
                await self._do(Stop())
        elif facts.state in OVER and not facts.out and not self._end_seen:
            await self._find()
        elif facts.out and not self._turned_away and not self._closing and facts.state not in OVER:
            await self._sell()

    def _is_over(self) -> bool:
        state, out = self._facts.state, self._facts.out
        if state is SideState.COMPLETED or (state in OVER and not out):
            return True
        return state in RESTING and not out

    def _time_is_over(self) -> bool:
        return self._clock.monotonic() - self._facts.lifted_at >= self._services.settings.lift_to_flow_s

    # --- a new sale -----------------------------------------------------------------------------------------------

    async def _sell(self) -> None:
        """Find the vehicle, hold a maximum, store the sale, and only then authorise the pump."""
        facts = self._facts
        proof = who(self._island.sightings(), self._services.settings.proof, facts.lifted_at)
        if not isinstance(proof, Proven):
            if len(proof.candidates) > 1:
                await self._turn_away(Identity(), "pump_vehicle_unclear")
            return
        customer = self._island.customer(proof.vehicle)
        visit = Visit(self._services)
        try:
            if await self._services.reader.look_up(lambda c: book.has_grey(c, customer.payer)):
                await self._turn_away(customer.seen, "pump_earlier_open")
                return
            totaliser_ml = await self._totaliser(facts.nozzle)
            if totaliser_ml is None:
                await self._turn_away(customer.seen, "pump_unavailable")
                return
            limit = self._limit(facts.nozzle, customer.payer)
            nonce = self._engine.new_id().encode()
            placed = await visit.hold(customer.seen, customer.payer, limit, None, nonce, timeout_s=self._deadline_s)
            if isinstance(placed, str):
                await self._turn_away(customer.seen, placed)
                return
            begun = Begun(limit, facts.unit_price_milli, totaliser_ml)
            await self._begin(placed.debit_id, customer.payer, proof, begun)
        except (StorageLate, StorageUnavailable) as trouble:
            self._turned_away = True
            self._log.warning("cannot sell, the ledger does not store: %s", trouble)
            self._services.report_fault("ledger", str(trouble) or "the ledger is too slow")

    async def _begin(self, debit_id: str, payer: Payer, proof: Proven, begun: Begun) -> None:
        nozzle = self._facts.nozzle
        sale = OpenSale(
            id=self._engine.new_id(),
            debit_id=debit_id,
            debit_state="held",
            payer=payer,
            vehicle=proof.vehicle,
            place=self._place(nozzle),
            state=SaleState.OPEN,
            begun=begun,
            sold=None,
        )
        stored = await self._store(
            lambda tx: book.begin(tx, sale.id, debit_id, place=sale.place, begun=begun, proof=str(proof))
        )
        if not stored:
            self._turned_away = True
            return
        self._sale, self._watched, self._flowed, self._facts.delivered = sale, True, False, None
        self._island.begins(self._settings.number, proof.vehicle)
        while not self._inbox.empty():
            self._note(self._inbox.get_nowait())
        if not self._facts.out:
            await self._nothing(sale, "nozzle_returned", begun.totaliser_ml)
            return
        outcome = await self._do(Authorise(AmountLimit(begun.limit_fen), (nozzle,)))
        if outcome in (Outcome.NOT_SENT, Outcome.REFUSED):
            self._turned_away = True
            await self._nothing(sale, "pump_refused", begun.totaliser_ml)
            return
        if outcome is Outcome.UNKNOWN:
            # It may flow. What the pump says next tells; until then the sale is open, and its hold stays.
            self._watched = False
            await self._do(Stop())
        self._wake_later()

    def _limit(self, nozzle: int, payer: Payer) -> int:
        settings = self._services.settings
        grade = self._settings.grades.get(nozzle, "")
        limits = (settings.limit_fen, settings.limits_of_grades.get(grade), payer.limit_fen)
        return min(limit for limit in limits if limit is not None)

    def _wake_later(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(self._services.settings.lift_to_flow_s, self._inbox.put_nowait, _Nudge.TIME)

    async def _turn_away(self, seen: Identity, reason: str) -> None:
        self._turned_away = True
        with suppress(StorageLate, StorageUnavailable):
            decision = await Visit(self._services).refuse(seen, reason)
            self._log.info("record %s: %s", decision.record_no, reason)

    # --- the end of a sale ----------------------------------------------------------------------------------------

    async def _finish(self, sale: OpenSale) -> None:
        """Read the pump's last word, settle, store, charge, and only then clear the display."""
        began = self._clock.monotonic()
        delivered = await self._ask(AskDelivered(), Delivered)
        totaliser_ml = await self._totaliser(sale.place.nozzle)
        if not self._facts.online:
            return  # It is read when the pump is back.
        ended = Ended(delivered or self._facts.delivered, totaliser_ml, self._watched)
        verdict = settle(sale.begun, ended, self._settings.decimals, wraps_at_ml=self._settings.totaliser_wraps_at_ml)
        pump_us = round(1e6 * (self._clock.monotonic() - began))
        if isinstance(verdict, Nothing):
            await self._nothing(sale, "nothing_delivered", totaliser_ml)
        elif isinstance(verdict, Unclear):
            shown = f"the pump shows {ended.delivered}, its totaliser {totaliser_ml} ml"
            self._log.error("sale %s is grey: %s; %s", sale.id, verdict.reason, shown)
            await self._store(
                partial(book.leave_grey, sale_id=sale.id, reason=verdict.reason, totaliser_ml=totaliser_ml)
            )
        else:
            await self._store(partial(book.deliver, sale_id=sale.id, sold=verdict, totaliser_ml=totaliser_ml))
            await self._charge(sale, verdict, began, pump_us)
        self._sale, self._end_seen = None, True
        self._island.ends(self._settings.number)
        await self._do(Clear())

    async def _charge(self, sale: OpenSale, sold: Sold, began: float | None = None, pump_us: int = 0) -> None:
        visit = Visit(self._services)
        found = await self._engine.complete(
            sale.debit_id,
            sold.amount_fen,
            sale.payer,
            visit.context(),
            self._services.settings.decline_policy,
            deadline=self._clock.monotonic() + self._deadline_s,
        )
        if isinstance(found, HoldRefused):
            self._log.error("sale %s of %d fen was not charged: %s", sale.id, sold.amount_fen, found.reason)
            return
        await self._store(partial(book.bill, sale_id=sale.id))
        if began is not None:
            self._note_timing(found, began, pump_us)

    def _note_timing(self, found: BroughtIn, began: float, pump_us: int) -> None:
        total_us = round(1e6 * (self._clock.monotonic() - began))
        record_no = found.decision.record_no
        self._services.note_timing(Timing(record_no, total_us, pump_us, found.bank_us, found.commit_us, None))

    async def _nothing(self, sale: OpenSale, reason: str, totaliser_ml: int | None) -> None:
        await self._store(partial(book.end_with_nothing, sale_id=sale.id, reason=reason, totaliser_ml=totaliser_ml))
        freed = await self._engine.release(sale.debit_id, Visit(self._services).context(), reason)
        if isinstance(freed, HoldRefused):
            self._log.error("the hold of sale %s was not freed: %s", sale.id, freed.reason)
        self._sale = None
        self._island.ends(self._settings.number)

    async def _find(self) -> None:
        """Store a delivery that nobody of ours let begin: the totaliser counts it, and somebody must say why."""
        place = self._place(self._facts.nozzle)
        delivered = await self._ask(AskDelivered(), Delivered)
        totaliser_ml = await self._totaliser(place.nozzle)
        if not self._facts.online or totaliser_ml is None:
            return
        before = await self._services.reader.look_up(lambda c: book.last_totaliser(c, place))
        self._end_seen = True
        if before is not None and before != totaliser_ml:
            begun = Begun(delivered.amount_minor or 0 if delivered else 0, self._facts.unit_price_milli, before)
            ended = Ended(delivered, totaliser_ml, watched=False)
            verdict = settle(begun, ended, self._settings.decimals, wraps_at_ml=self._settings.totaliser_wraps_at_ml)
            sold = verdict if isinstance(verdict, Sold) else None
            sale_id = self._engine.new_id()
            self._log.warning("a delivery that no sale explains: %s", delivered)
            await self._store(
                lambda tx: book.find(
                    tx, sale_id, place, sold=sold, totaliser_ml=totaliser_ml, reason="fuel_unexplained"
                )
            )
        await self._do(Clear())

    # --- pump and ledger ------------------------------------------------------------------------------------------

    @property
    def _deadline_s(self) -> float:
        return self._services.settings.deadline_s

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
