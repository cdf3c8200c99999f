"""Fillings: what cars and their drivers do at an island, what must come of it, and what the world outside says of it.

Litres are those of the pumps' own books and totalisers, money is litres times a price that is written down here, and
what a purse has paid is read from its card.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any, Final

from hardware.bench.ledger_view import LedgerView
from hardware.bench.pump_site import Metered, PumpSite
from hardware.bench.reckoning import Line
from hardware.bench.scenario import ONLINE, Expected, Vehicle
from hardware.bench.waiting import LOOK_S, STUCK_S, wait_until

LITRES_S: Final = 12_000
"""Flow of a hurried bench, ml/s."""

FORGOTTEN_S: Final = 2.5
"""Seconds until a car that left is nobody's witness any more, by the site file: the next one is alone."""

NONE = Expected(())
ENDED: Final = ("billed", "nothing", "grey")
"""States in which a sale is at its end."""

DECLINES: Final = {"mode": "decline", "code": "51"}
SILENT: Final = {"mode": "silent_not_posted", "next": 1}
PURSE: Final = 22
"""Type of a stored-value card."""


@dataclass(frozen=True, slots=True)
class Filling:
    """One car, what its driver does, and what must come of it."""

    vehicle: Vehicle
    side: int
    sale: str | None
    """State in which its sale ends; None: there is none."""
    debit: str | None = None
    """State in which its debit ends; None: there is none."""
    ml: int = 10_000
    """Volume after which the driver lets go; 0: the nozzle goes back at once."""
    nozzle: int = 1
    reason: str | None = None
    """Reason of the sale, else of the decision."""
    bank: Mapping[str, Any] | None = None
    """Behaviour of the bank instead of approving."""
    event: str | None = None
    """Trouble: `power` goes while fuel flows, `kill` of the gateway, `wrong` amount, `second` car at the island, a sale
    `by_hand` at the pump, of which nobody of ours knows, the car has `left` when the nozzle comes back, a price is
    `priced` anew at the authorised pump, `cash` at the till by the attendant's order, from a car without a tag."""
    stops_ml: int | None = None
    """Volume at which the pump must have stopped by itself."""
    price_milli: int | None = None
    """Price after the change at the pump."""

    @property
    def purse_pays(self) -> bool:
        """True when its stored-value card must have paid."""
        return self.vehicle.card_type == PURSE and self.debit == "funded" and self.event != "cash"

    @property
    def bank_is_asked(self) -> bool:
        """True when the bank must have been asked."""
        return self.vehicle.funding == ONLINE and self.sale == "billed" and self.debit is not None


@dataclass(slots=True)
class Filled:
    """Result of one filling."""

    filling: Filling
    sale: str | None = None
    debit: str | None = None
    funding: str | None = None
    volume_ml: int = 0
    amount_fen: int = 0
    reason: str | None = None
    priced_fen: int = 0
    """Litres of the pump's own book by the price written down here."""
    problems: list[str] = field(default_factory=list)


def car(number: int, story: str, island: str, *, funding: str | None = ONLINE, card_type: int = 23) -> Vehicle:
    """Car at an island."""
    return Vehicle(number, story, island, NONE, card_type=card_type, funding=funding, stand_in_limit_fen=50_000)


_SALES: Final = """
    select s.side, s.state, d.state, s.volume, s.amount, d.funding, j.obu_id, s.debit_id, coalesce(s.reason,
        (select e.reason from decision e where e.passage_id = d.passage_id order by e.record_no desc limit 1))
    from sale s left join debit d on d.id = s.debit_id left join subject j on j.id = d.passage_id
    order by s.created_at, s.id
"""
_REASON: Final = """
    select e.reason from decision e join subject j on j.id = e.passage_id
    where e.charge_point = ? and j.obu_id = ? and e.reason <> 'obu_silent' order by e.record_no desc limit 1
"""
"""Reason for which a car was turned away; one that leaves in the middle of a report is told as silent besides."""
_UNCLEAR: Final = """
    select count(*) from decision e join subject j on j.id = e.passage_id
    where e.charge_point = ? and e.reason = ? and j.obu_id is null
"""


@dataclass(frozen=True, slots=True)
class SaleRow:
    """One sale, with what became of its claim."""

    side: int
    state: str
    debit: str | None
    volume_ml: int | None
    amount_fen: int | None
    funding: str | None
    obu_id: str | None
    debit_id: str | None
    reason: str | None
    """Reason of the sale, else of the decision about its claim."""

    def is_of(self, filling: Filling) -> bool:
        """True for the sale of a filling: of its car, or at its side where nobody knows who it was."""
        if filling.event == "by_hand":
            return self.debit_id is None and self.side == filling.side
        if filling.event == "cash":
            return self.funding == "cash" and self.side == filling.side
        return self.obu_id == filling.vehicle.obu_id


class Filler:
    """Drives cars at the islands of a site, and judges what became of them."""

    def __init__(
        self,
        site: PumpSite,
        view: LedgerView,
        faults: list[str],
        *,
        second: Vehicle,
        bank_turn: Callable[[], AbstractAsyncContextManager[None]] = nullcontext,
    ) -> None:
        """`second`: the car that stands beside another; `bank_turn`: held while the bank may be asked."""
        self._site = site
        self._view = view
        self._faults = faults
        self._second = second
        self._bank_turn = bank_turn
        self._alone = {island: asyncio.Lock() for island in site.islands}
        """Held while a car of an island is to be told from others."""
        self._began_ml = 0

    async def begin(self) -> None:
        """Note where the totalisers stand."""
        self._began_ml = await self._site.totals_ml()

    # --- one car --------------------------------------------------------------------------------------------------

    async def fill(self, filling: Filling) -> None:
        """Drive one car: it comes, is filled up or turned away, and leaves."""
        site, vehicle = self._site, filling.vehicle
        road = site.controls[vehicle.lane]
        if filling.event == "by_hand":
            await self._pump(filling, "by_hand", nozzle=filling.nozzle, volume_ml=filling.ml)
            await self._until(lambda: bool(self._sales(filling)), f"nobody found what side {filling.side} sold")
            return
        if filling.bank is not None:
            await site.controls["bank"].request("behave", contract=vehicle.contract_ref, mti="0200", **filling.bank)
        async with self._alone[vehicle.lane]:
            if filling.event != "cash":
                await road.request("arrive", vehicle=vehicle.on_the_road(int(time.time())))
            if filling.sale is None:
                await self._turned_away(filling)
                return
            if filling.event == "cash":
                await self._order(filling)
            await self._pump(filling, "lift", nozzle=filling.nozzle)
            await self._pump(filling, "wait", state="authorised")
        await self._deliver(filling)
        async with self._bank_turn():
            if filling.event == "left":
                await road.request("leave", id=vehicle.id)
            if filling.event == "power":
                await self._pump(filling, "power", on=True)
            else:
                await self._pump(filling, "return")
            if filling.event == "kill":
                await site.gateway.start()
            await self._until(
                lambda: [sale.state in ENDED for sale in self._sales(filling)] == [True],
                f"the sale of {vehicle.id} did not end",
            )
        if filling.event not in ("left", "cash"):
            await road.request("leave", id=vehicle.id)
        if filling.sale == "nothing":
            await asyncio.sleep(FORGOTTEN_S)  # seen again, it may lift another nozzle until it is forgotten
        await site.idle(filling.side)

    async def _turned_away(self, filling: Filling) -> None:
        road, cars = self._site.controls[filling.vehicle.lane], [filling.vehicle]
        if filling.event == "second":
            cars.append(self._second)
            await road.request("arrive", vehicle=self._second.on_the_road(int(time.time())))
            for one in cars:  # both are known before the nozzle is lifted
                await road.request("wait", id=one.id, event="stopped", count=1)
            await self._pump(filling, "lift", nozzle=filling.nozzle)
        await self._until(lambda: self._decided_for(filling) is not None, f"{filling.vehicle.id} was not turned away")
        if filling.event == "second":
            await self._pump(filling, "return")
        for one in cars:
            await road.request("leave", id=one.id)
        if filling.event == "second":
            await asyncio.sleep(FORGOTTEN_S)

    async def _order(self, filling: Filling) -> None:
        """Let the attendant order: whoever lifts the nozzle pays at the till."""
        order = ("pump", "authorise", filling.vehicle.lane, str(filling.side), "--cash", "--reason", "pays at the till")
        await self._site.command(*order)

    async def _deliver(self, filling: Filling) -> None:
        """Do what the driver does at an authorised pump, until the nozzle is to go back."""
        if filling.event == "wrong":
            await self._pump(filling, "wrong_amount", by=7)
        if filling.event == "priced":
            await self._pump(filling, "price", nozzle=filling.nozzle, unit_price_milli=filling.price_milli)
        if not filling.ml:
            return
        await self._pump(filling, "flow", ml_per_s=LITRES_S)
        if filling.event in ("power", "kill"):
            await self._delivered(filling, filling.ml // 2)
        if filling.event == "power":
            await self._pump(filling, "power", on=False)
            part = f"{filling.vehicle.lane}/pump-{filling.side}"
            await self._until(lambda: not self._site.part_works(part), "the pump is still heard")
            await self._pump(filling, "flow", ml_per_s=0)
            await self._pump(filling, "return")
            return
        if filling.event == "kill":
            await self._site.gateway.kill()
        await self._delivered(filling, filling.ml)

    async def _delivered(self, filling: Filling, ml: int) -> None:
        """Wait until so much has flowed, or the preset has stopped it."""

        async def enough() -> bool:
            side = await self._site.at(filling.side)
            return bool(side["volume_ml"] >= ml or side["state"] == "limit_reached")

        await self._until_true(enough, f"{ml} ml did not flow at side {filling.side}")
        if ml == filling.ml:
            await self._pump(filling, "flow", ml_per_s=0)

    async def _pump(self, filling: Filling, command: str, **values: Any) -> None:  # noqa: ANN401 - JSON values
        await self._site.pump(filling.side, command, **values)

    # --- judging --------------------------------------------------------------------------------------------------

    async def judge(
        self, fillings: Sequence[Filling], prices: Mapping[int, Sequence[int]]
    ) -> tuple[list[Filled], list[Line]]:
        """Compare each filling with what was expected and with its pump, and all of them with the world outside.

        `prices`: thousandths of a yuan a litre of nozzle 1, 2, ... of each side.
        """
        sales, book = self._all_sales(), await self._site.book()
        results = [self._judged(filling, [sale for sale in sales if sale.is_of(filling)]) for filling in fillings]
        for side in self._site.sides:
            flowed = [result for result in results if result.filling.side == side and result.filling.sale is not None]
            metered = [one for one in book if one.side == side]
            self._judge_side([result for result in flowed if result.filling.ml], metered, prices[side])
        volume, amount = (sum(getattr(sale, name) or 0 for sale in sales) for name in ("volume_ml", "amount_fen"))
        good = [result for result in results if result.filling.event != "wrong"]
        wrong_ml = sum(one.volume_ml for one in book if one.shown_fen != one.amount_fen)
        unexplained = sum(sale.debit_id is None for sale in sales)
        by_hand = sum(filling.event == "by_hand" for filling in fillings)
        flowed_ml = await self._site.totals_ml() - self._began_ml
        return results, [
            Line("fuel (ml)", volume, flowed_ml - wrong_ml, "totalisers of the pumps"),
            Line("fuel sold", amount, sum(one.priced_fen for one in good), "litres priced by hand"),
            Line("fuel unexplained (count)", unexplained, by_hand, "scenario"),
            await self._on_the_cards(results),
        ]

    def _judged(self, filling: Filling, mine: Sequence[SaleRow]) -> Filled:
        result = Filled(filling)
        if len(mine) > 1:
            result.problems.append(f"{len(mine)} sales")
        for sale in mine[:1]:
            result.sale, result.debit, result.funding = sale.state, sale.debit, sale.funding
            result.volume_ml, result.amount_fen = sale.volume_ml or 0, sale.amount_fen or 0
            result.reason = sale.reason
        if not mine:
            result.reason = self._decided_for(filling)
        if filling.event == "kill" and result.reason == "bank_silent":
            result.reason = None  # the sale may be over before the bank can be reached again
        found, wanted = (result.sale, result.debit, result.reason), (filling.sale, filling.debit, filling.reason)
        if found != wanted:
            result.problems.append(f"found {found}, expected {wanted}")
        return result

    def _judge_side(self, flowed: Sequence[Filled], metered: Sequence[Metered], prices: Sequence[int]) -> None:
        """Compare the fillings of a side, in their order, with the pump's own book."""
        if len(flowed) != len(metered):
            self._faults.append(f"the pumps delivered {len(metered)} times where {len(flowed)} were wanted")
        for result, pump in zip(flowed, metered, strict=False):
            filling = result.filling
            price = filling.price_milli or prices[pump.nozzle - 1]
            result.priced_fen = priced(pump.volume_ml, price)
            if filling.event == "wrong":
                continue
            if (result.volume_ml, result.amount_fen) != (pump.volume_ml, result.priced_fen):
                result.problems.append(
                    f"{result.volume_ml} ml for {result.amount_fen} fen; the pump's book: {pump.volume_ml} ml, by hand"
                    f" {result.priced_fen} fen"
                )
            if filling.stops_ml is not None and pump.volume_ml != filling.stops_ml:
                result.problems.append(f"the pump stopped at {pump.volume_ml} ml, not at {filling.stops_ml}")

    async def _on_the_cards(self, results: Sequence[Filled]) -> Line:
        """Check that a purse paid its fuel once, and no other card anything."""
        cards = await self.cards()
        debited = {str(card["card_number"]): [int(fen) for fen in card["decrements"] if fen] for card in cards}
        wrong = 0
        for result in results:
            paid = [result.priced_fen] if result.filling.purse_pays else []
            wrong += debited.get(result.filling.vehicle.card_number, []) != paid
        return Line("cards debited wrongly at islands (count)", wrong, 0, "transaction logs of the emulated cards")

    async def cards(self) -> list[Mapping[str, Any]]:
        """Cards that came to the islands, as any reader would read them."""
        answers = [await self._site.controls[island].request("cards") for island in self._site.islands]
        return [card for answer in answers for card in answer["cards"]]

    def _all_sales(self) -> list[SaleRow]:
        return [SaleRow(*row) for row in self._view.table(_SALES)]

    def _sales(self, filling: Filling) -> list[SaleRow]:
        return [sale for sale in self._all_sales() if sale.is_of(filling)]

    def _decided_for(self, filling: Filling) -> str | None:
        """Code of the reason of the newest decision about a car, or about nobody where two stood there."""
        island = filling.vehicle.lane
        if filling.event == "second":
            return filling.reason if self._view.value(_UNCLEAR, island, filling.reason) else None
        found = self._view.value(_REASON, island, filling.vehicle.obu_id)
        return None if found is None else str(found)

    async def _until(self, holds: Callable[[], bool], problem: str) -> None:
        if not await wait_until(holds):
            self._faults.append(f"{problem} (waited {STUCK_S:.0f} s)")

    async def _until_true(self, holds: Callable[[], Awaitable[bool]], problem: str) -> None:
        end = time.monotonic() + STUCK_S
        while not await holds():
            if time.monotonic() > end:
                self._faults.append(problem)
                return
            await asyncio.sleep(LOOK_S)


def priced(volume_ml: int, price_milli: int) -> int:
    """Price of a volume in fen, halves rounded up."""
    return (volume_ml * price_milli + 5_000) // 10_000
