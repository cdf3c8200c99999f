"""Links to the pumps of a fuel island, made by the kind that its section of the site file has."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Protocol

from drivers.pump import PumpBus, PumpBusConfig, link_address
from gateway.points.assemble import Common
from gateway.points.fuel.config import FuelIsland
from gateway.points.fuel.ports import PumpSide
from gateway.points.fuel.pump_links import PumpController, PumpLine, PumpLink
from gateway.points.fuel.settings import SideSettings
from protocols.pump.types import Decimals, SideId


class Link(Protocol):
    """Driver of a line or controller."""

    def side(self, side: SideId) -> PumpSide:
        """One side on it."""
        ...

    async def run(self) -> object:
        """Keep it working until cancelled."""
        ...


def decimals(link: PumpLink) -> Decimals:
    """Places that the pumps on a link count in."""
    return Decimals(link.volume_decimals, link.amount_decimals, link.price_decimals)


def make(section: FuelIsland, link: PumpLink, sides: Mapping[SideId, SideSettings], common: Common) -> Link:
    """Make the driver of a link with these sides; its `run` must be running."""
    device = f"{section.name}/{link.name}"
    common.tell(device, False, "not connected yet", "pump_unavailable")
    if isinstance(link, PumpController):
        # Loads the client for HTTP and the messages: an island without controllers does without.
        from gateway.points.fuel import controllers

        return controllers.make(section.name, device, link, sides, decimals=decimals(link), common=common)
    if isinstance(link, PumpLine):
        return _line(device, link, sides, common)
    raise TypeError(f"{device}: {type(link).__name__} is no kind of link that is known here")


def _line(device: str, line: PumpLine, sides: Mapping[SideId, SideSettings], common: Common) -> PumpBus:
    address = link_address(line.dialect, line.address)
    return common.surroundings.device(
        device,
        lambda: PumpBus(
            PumpBusConfig(device=device, dialect=line.dialect, sides=dict.fromkeys(sides, decimals(line))),
            connect=partial(common.surroundings.connect, address, device=device),
            clock=common.surroundings.clock,
            on_condition=lambda works, cause: common.tell(device, works, cause, None if works else "pump_unavailable"),
        ),
    )
