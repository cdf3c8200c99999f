"""Fuel island at work: its antenna, its cameras and its sides, and what people have said about its sales."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from datetime import date, datetime, time, timedelta
from functools import partial
from typing import Any, Final

from gateway.debit.claims import Decision
from gateway.ledger.batches import StorageUnavailable
from gateway.model.clock import to_us
from gateway.model.states import SaleState
from gateway.points.etc.antenna_point import AntennaPoint
from gateway.points.fuel import book, orders
from gateway.points.fuel.charging import Charging
from gateway.points.fuel.island import CUSTOMERS_MAX, Island
from gateway.points.fuel.live import live_facts
from gateway.points.fuel.ports import PlateWitness
from gateway.points.fuel.services import FuelServices
from gateway.points.fuel.side import Side
from gateway.points.visit import Visit

LOOK_EVERY_S: Final = 1.0
"""Seconds between two looks for orders: a person waits for the pump."""

LOOKS_A_SALE: Final = 5
"""Looks for orders to one for sales that people have settled."""


class NothingToRelease:
    """`gateway.points.etc.antenna_point.Releaser` without a gate: a nozzle follows the sale, not the visit."""

    under_way: frozenset[asyncio.Task[None]] = frozenset()

    async def follow(self, who: bytes, decision: Decision) -> int | None:
        """Do nothing: refusals at the antenna hold nobody up."""
        return None


class FuelPoint:
    """Runs one island for ever."""

    def __init__(
        self,
        services: FuelServices,
        antenna: AntennaPoint,
        sides: Sequence[Side],
        *,
        island: Island,
        charging: Charging,
        cameras: Sequence[PlateWitness] = (),
    ) -> None:
        self._services = services
        self._island = island
        self._antenna = antenna
        self._sides = {side.number: side for side in sides}
        self._charging = charging
        self._cameras = cameras

    async def run(self) -> None:
        """Settle what an earlier run left, then serve until cancelled."""
        await self._recover()
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._antenna.run())
                group.create_task(self._look_after())
                group.create_task(self._take_stock())
                for camera in self._cameras:
                    group.create_task(self._watch(camera))
                for side in self._sides.values():
                    group.create_task(side.run())
        finally:
            self._charging.stop()

    async def drain(self) -> None:
        """Drain: begin no sale. One that flows goes on at the pump, and is taken up at the next start."""
        for side in self._sides.values():
            side.close()
        await self._antenna.drain()

    def pumps(self) -> list[dict[str, Any]]:
        """Tell how its sides stand, for other processes."""
        return [live_facts(self._services.settings.name, side) for side in self._sides.values()]

    async def _look_after(self) -> None:
        """Follow orders, and charge what people have said was delivered, for ever."""
        looks = 0
        while True:
            await self._services.clock.sleep(LOOK_EVERY_S)
            looks += 1
            with suppress(StorageUnavailable):
                await self.follow_orders()
                if looks % LOOKS_A_SALE == 0:
                    await self._charge_delivered()

    async def _charge_delivered(self) -> None:
        """Charge sales whose delivery is known, and that no side is about to charge."""
        name = self._services.settings.name
        for sale in await self._services.reader.read(lambda c: book.open_sales(c, name)):
            side = self._sides.get(sale.place.side)
            here = side is not None and side.sale is not None and side.sale.id == sale.id
            if sale.state is SaleState.DELIVERED and sale.sold is not None and not here:
                await self._charging.charge(sale, sale.sold)

    async def follow_orders(self) -> None:
        """Hand orders to their sides, and end those that nobody can or will use."""
        name, writer = self._services.settings.name, self._services.writer
        given = await self._services.reader.read(lambda c: orders.given(c, name))
        wait_us = round(self._services.settings.order_waits_s * 1e6)
        now_us = to_us(self._services.clock.utcnow())
        waiting: dict[int, orders.Order] = {}
        for order in given:
            age_us = now_us - order.given_us
            if order.side not in self._sides:
                await writer.submit(partial(orders.refuse, order_id=order.id, reason="pump_side_unknown"))
            elif not 0 <= age_us <= wait_us:
                await writer.submit(partial(orders.lapse, order_id=order.id))
            else:
                waiting.setdefault(order.side, order)
        for number, side in self._sides.items():
            side.follow(waiting.get(number))

    async def _take_stock(self) -> None:
        """Have totalisers compared with the sales at the ends of shifts, for ever."""
        times, zone = self._services.settings.stock_at, Visit(self._services).zone
        while times:
            now = self._services.clock.utcnow().astimezone(zone)
            wait_s = min((_next(now, at) - now).total_seconds() for at in times)
            await self._services.clock.sleep(wait_s)
            for side in self._sides.values():
                side.take_stock()

    async def _watch(self, camera: PlateWitness) -> None:
        async for seen in camera.plates():
            self._island.saw_plate(seen.side, seen.plate, seen.colour)

    async def _recover(self) -> None:
        name, reader = self._services.settings.name, self._services.reader
        for debit_id in await reader.read(lambda c: book.held_for_nothing(c, name)):
            # Where no sale was stored, no pump was authorised.
            await self._services.engine.release(debit_id, Visit(self._services).context())
        for vehicle in await reader.read(lambda c: book.served(c, name, CUSTOMERS_MAX)):
            self._island.served(vehicle)
        open_sales = await reader.read(lambda c: book.open_sales(c, name))
        for number, side in self._sides.items():
            await side.recover([sale for sale in open_sales if sale.place.side == number])


def _next(now: datetime, at: time) -> datetime:
    """Next moment after `now` at which the local clock shows this time."""
    today: date = now.date()
    moment = datetime.combine(today, at, now.tzinfo)
    return moment if moment > now else moment + timedelta(days=1)
