"""Assembly of a fuel island from its section of the site file."""

from __future__ import annotations

from datetime import time
from functools import partial
from typing import Final

from gateway.health import Tell
from gateway.payers.mandates import Issuers
from gateway.points.assemble import Common, Point
from gateway.points.etc import assemble as etc
from gateway.points.etc.antenna_point import AntennaPoint
from gateway.points.fuel import links
from gateway.points.fuel.charging import Charging
from gateway.points.fuel.config import FuelIsland
from gateway.points.fuel.config import Side as SideSection
from gateway.points.fuel.fill_up import FillUp
from gateway.points.fuel.island import Island
from gateway.points.fuel.point import FuelPoint, NothingToRelease
from gateway.points.fuel.pump_links import PumpLink
from gateway.points.fuel.services import FuelServices
from gateway.points.fuel.settings import FuelSettings, SideSettings
from gateway.points.fuel.side import Side
from gateway.points.fuel.witnesses import Rules, WitnessKind
from protocols.pump.types import SideId

ML_OF_LITRE: Final = 1000

FAULTS: Final = {"ledger": "storage_unavailable"}
"""Reasons for faults of an island's parts; all others are its pumps."""


def assemble(section: FuelIsland, common: Common) -> Point:
    """Assemble an island with its antenna and pumps. Raises ValueError without what it needs."""
    if common.lists is None:
        raise ValueError(f"{section.name}: a fuel island needs status lists")
    settings = _settings(section, common)
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
        errors=etc.errors(section.antenna),
        writer=common.writer,
        reader=common.reader,
    )
    witness = WitnessKind.SIDE_ANTENNA if len(section.sides) == 1 else WitnessKind.ISLAND_ANTENNA
    island = Island(common.surroundings.clock, witness, gone_s=section.proof.before_s)
    charging = Charging(services, island)
    pumps = {link.name: links.make(section, link, _sides_on(section, link, settings), common) for link in section.pumps}
    sides = [
        Side(services, own, pumps[side.pump].side(SideId(side.address)), island, charging)
        for side, own in zip(section.sides, settings.sides, strict=True)
    ]
    reading = AntennaPoint(services, antenna, FillUp(island, settings), NothingToRelease())
    point = FuelPoint(services, reading, sides, island=island, charging=charging)
    tasks = {f"pumps/{section.name}/{name}": driver.run for name, driver in pumps.items()}
    return Point(section.name, point, {f"antenna/{section.name}": antenna.run, **tasks}, {"pumps": point.pumps})


def _sides_on(section: FuelIsland, link: PumpLink, settings: FuelSettings) -> dict[SideId, SideSettings]:
    """Sides whose pumps are on a link, by their places there."""
    sides = zip(section.sides, settings.sides, strict=True)
    return {SideId(side.address): own for side, own in sides if side.pump == link.name}


def _settings(section: FuelIsland, common: Common) -> FuelSettings:
    by_name = {link.name: link for link in section.pumps}
    sides = tuple(
        SideSettings(
            number=side.number,
            pump=side.pump,
            address=side.address,
            grades={nozzle.number: nozzle.grade for nozzle in side.nozzles},
            unit_prices=_prices(section, side),
            decimals=links.decimals(by_name[side.pump]),
            totaliser_wraps_at_ml=by_name[side.pump].totaliser_litres * ML_OF_LITRE,
        )
        for side in section.sides
    )
    rules = section.proof
    return FuelSettings(
        sides=sides,
        proof=Rules(rules.weights, rules.need, rules.lead, rules.before_s),
        limit_fen=section.limit_fen,
        minimum_fen=section.minimum_fen,
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


def _tell_fault(tell: Tell, point: str, part: str, problem: str | None) -> None:
    works = problem is None
    tell(f"{point}/{part}", works, problem or "works", None if works else FAULTS.get(part, "pump_unavailable"))
