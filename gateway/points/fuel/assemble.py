"""Assembly of a fuel island from its section of the site file."""

from __future__ import annotations

from datetime import time
from functools import partial
from typing import Final

from drivers.pump import PumpBus, PumpBusConfig
from gateway.health import Tell
from gateway.points.assemble import Common, Point
from gateway.points.etc import assemble as etc
from gateway.points.etc.antenna_point import AntennaPoint
from gateway.points.etc.inspection import Issuers
from gateway.points.fuel.charging import Charging, FuelServices
from gateway.points.fuel.config import FuelIsland, PumpLink
from gateway.points.fuel.config import Side as SideSection
from gateway.points.fuel.fill_up import FillUp
from gateway.points.fuel.island import Island
from gateway.points.fuel.point import FuelPoint, NothingToRelease
from gateway.points.fuel.settings import FuelSettings, SideSettings
from gateway.points.fuel.side import Side
from gateway.points.fuel.witnesses import Rules, WitnessKind
from protocols.pump.types import Decimals, SideId

ML_OF_LITRE: Final = 1000

FAULTS: Final = {"ledger": "storage_unavailable"}
"""Reasons for faults of an island's parts; all others are its pumps."""


def assemble(section: FuelIsland, common: Common) -> Point:
    """Assemble an island with its antenna and pumps. Raises ValueError without what it needs."""
    if common.lists is None:
        raise ValueError(f"{section.name}: a fuel island needs status lists")
    links = {pump.name: pump for pump in section.pumps}
    settings = _settings(section, common, links)
    antenna = etc.antenna(section, common)
    services = FuelServices(
        settings=settings,
        engine=common.engine,
        mandates=common.mandates,
        lists=common.lists,
        clock=common.surroundings.clock,
        time=common.time,
        note_timing=common.note_timing,
        report_fault=partial(_tell_fault, common.tell, section.name),
        issuers=Issuers(common.issuers),
        errors=etc.errors(section),
        writer=common.writer,
        reader=common.reader,
    )
    witness = WitnessKind.SIDE_ANTENNA if len(section.sides) == 1 else WitnessKind.ISLAND_ANTENNA
    island = Island(common.surroundings.clock, witness, gone_s=section.proof.before_s)
    charging = Charging(services, island)
    buses = {pump.name: _bus(section, pump, common) for pump in section.pumps}
    sides = [
        Side(services, settings.sides[i], buses[side.pump].side(SideId(side.address)), island, charging)
        for i, side in enumerate(section.sides)
    ]
    reading = AntennaPoint(services, antenna, FillUp(island, settings), NothingToRelease())
    point = FuelPoint(services, reading, sides, island=island, charging=charging)
    tasks = {f"pumps/{section.name}/{name}": bus.run for name, bus in buses.items()}
    return Point(section.name, point, {f"antenna/{section.name}": antenna.run, **tasks}, {"pumps": point.pumps})


def _settings(section: FuelIsland, common: Common, links: dict[str, PumpLink]) -> FuelSettings:
    sides = tuple(
        SideSettings(
            number=side.number,
            pump=side.pump,
            address=side.address,
            grades={nozzle.number: nozzle.grade for nozzle in side.nozzles},
            unit_prices=_prices(section, side),
            decimals=_decimals(links[side.pump]),
            totaliser_wraps_at_ml=links[side.pump].totaliser_litres * ML_OF_LITRE,
        )
        for side in section.sides
    )
    rules = section.proof
    return FuelSettings(
        sides=sides,
        proof=Rules(rules.weights, rules.need, rules.lead, rules.before_s),
        limit_fen=section.limit_fen,
        limits_of_grades=section.limits,
        lift_to_flow_s=section.lift_to_flow_s,
        order_waits_s=section.order_waits_s,
        card_pays_within_s=section.card_pays_within_s,
        stock_at=tuple(time.fromisoformat(at) for at in section.stock_at),
        **etc.settings(section, common),
    )


def _prices(section: FuelIsland, side: SideSection) -> dict[int, int]:
    """Prices of a side's nozzles; none where the station does not say them all, for pumps take them all at once."""
    prices = {nozzle.number: section.unit_prices.get(nozzle.grade) for nozzle in side.nozzles}
    return {} if None in prices.values() else {number: price for number, price in prices.items() if price is not None}


def _decimals(pump: PumpLink) -> Decimals:
    return Decimals(pump.volume_decimals, pump.amount_decimals, pump.price_decimals)


def _bus(section: FuelIsland, pump: PumpLink, common: Common) -> PumpBus:
    device = f"{section.name}/{pump.name}"
    common.tell(device, False, "not connected yet", "pump_unavailable")
    sides = {SideId(side.address): _decimals(pump) for side in section.sides if side.pump == pump.name}
    return common.surroundings.device(
        device,
        lambda: PumpBus(
            PumpBusConfig(device=device, dialect=pump.dialect, sides=sides),
            connect=partial(common.surroundings.connect, pump.address, device=device),
            clock=common.surroundings.clock,
            on_condition=lambda works, cause: common.tell(device, works, cause, None if works else "pump_unavailable"),
        ),
    )


def _tell_fault(tell: Tell, point: str, part: str, problem: str | None) -> None:
    works = problem is None
    tell(f"{point}/{part}", works, problem or "works", None if works else FAULTS.get(part, "pump_unavailable"))
