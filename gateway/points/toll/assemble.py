"""Assembly of a toll lane from its section of the site file."""

from __future__ import annotations

from functools import partial

from gateway.health import Tell
from gateway.payers.mandates import Issuers
from gateway.points.assemble import Common, Point
from gateway.points.etc import assemble as etc
from gateway.points.etc.antenna_point import AntennaPoint
from gateway.points.etc.sale import Sale
from gateway.points.etc.visit import Errand, EtcServices
from gateway.points.gate.gate import Gate
from gateway.points.toll.config import ChargingLane, EntryLane
from gateway.points.toll.entry import Entry
from gateway.points.toll.sale import Road
from gateway.points.toll.settings import LaneKind, LaneSettings

FAULTS = {"barrier": "barrier_fault", "ledger": "storage_unavailable"}
"""Reasons for faults of a lane's parts."""


def assemble(section: ChargingLane | EntryLane, common: Common) -> Point:
    """Assemble a lane with its antenna; outputs are on a board of the site. Raises ValueError without what it needs."""
    if common.lists is None:
        raise ValueError(f"{section.name}: a toll lane needs status lists")
    settings = _settings(section, common)
    antenna = etc.antenna(section, common)
    report_fault = partial(_tell_fault, common.tell, section.name)
    services = EtcServices(
        settings=settings,
        engine=common.engine,
        mandates=common.mandates,
        lists=common.lists,
        clock=common.surroundings.clock,
        time=common.time,
        note_timing=common.note_timing,
        report_fault=report_fault,
        issuers=Issuers(common.issuers),
        errors=etc.errors(section.antenna),
    )
    errand = _errand(settings, common)
    outputs = common.boards.outputs(section.name, section.outputs)
    gate = Gate(section.name, outputs, common.surroundings.clock, report_fault)
    point = AntennaPoint(services, antenna, errand, gate)
    return Point(section.name, point, {f"antenna/{section.name}": antenna.run})


def _errand(settings: LaneSettings, common: Common) -> Errand:
    if settings.kind is LaneKind.ENTRY:
        return Entry()
    if common.tariffs is None:
        raise ValueError(f"{settings.name}: a lane that charges needs tariffs")
    return Sale(Road(settings, common.tariffs, common.time))


def _settings(section: ChargingLane | EntryLane, common: Common) -> LaneSettings:
    same_direction = frozenset(
        other.name
        for other in common.sections
        if isinstance(other, ChargingLane | EntryLane)
        and other.name != section.name
        and (other.station, other.kind) == (section.station, section.kind)
    )
    return LaneSettings(kind=section.kind, same_station=same_direction, **etc.settings(section, common))


def _tell_fault(tell: Tell, lane: str, part: str, problem: str | None) -> None:
    works = problem is None
    tell(f"{lane}/{part}", works, problem or "works", None if works else FAULTS.get(part))
