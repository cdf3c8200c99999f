"""Fuel island at work: its antenna, and its sides."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from typing import Final

from gateway.debit.claims import Decision
from gateway.ledger.batches import StorageUnavailable
from gateway.model.states import SaleState
from gateway.points.etc.antenna_point import AntennaPoint
from gateway.points.fuel import book
from gateway.points.fuel.side import FuelServices, Side
from gateway.points.visit import Visit

LOOK_EVERY_S: Final = 5.0
"""Seconds between two looks for sales that people have settled."""


class NothingToRelease:
    """`gateway.points.etc.antenna_point.Releaser` without a gate: a nozzle follows the sale, not the visit."""

    under_way: frozenset[asyncio.Task[None]] = frozenset()

    async def follow(self, who: bytes, decision: Decision) -> int | None:
        """Do nothing: refusals at the antenna hold nobody up."""
        return None


class FuelPoint:
    """Runs one island for ever."""

    def __init__(self, services: FuelServices, antenna: AntennaPoint, sides: Sequence[Side]) -> None:
        self._services = services
        self._antenna = antenna
        self._sides = sides

    async def run(self) -> None:
        """Settle what an earlier run left, then serve until cancelled."""
        await self._recover()
        async with asyncio.TaskGroup() as group:
            group.create_task(self._antenna.run())
            group.create_task(self._look_after())
            for side in self._sides:
                group.create_task(side.run())

    async def drain(self) -> None:
        """Drain: begin no sale. One that flows goes on at the pump, and is taken up at the next start."""
        for side in self._sides:
            side.close()
        await self._antenna.drain()

    async def _look_after(self) -> None:
        """Charge what people have said was delivered, for ever."""
        name, reader = self._services.settings.name, self._services.reader
        while True:
            await self._services.clock.sleep(LOOK_EVERY_S)
            with suppress(StorageUnavailable):
                for sale in await reader.read(lambda c: book.open_sales(c, name)):
                    for side in self._sides:
                        if side.number == sale.place.side and sale.state is SaleState.DELIVERED:
                            await side.charge_if_nobody_does(sale)

    async def _recover(self) -> None:
        name, reader = self._services.settings.name, self._services.reader
        for debit_id in await reader.read(lambda c: book.held_for_nothing(c, name)):
            # Where no sale was stored, no pump was authorised.
            await self._services.engine.release(debit_id, Visit(self._services).context())
        open_sales = await reader.read(lambda c: book.open_sales(c, name))
        for side in self._sides:
            await side.recover([sale for sale in open_sales if sale.place.side == side.number])
