"""A toll lane from its section of the site file."""

from __future__ import annotations

from functools import partial

from gateway.condition import Tell
from gateway.points.assemble import Common, Point
from gateway.points.etc import assemble as etc
from gateway.points.etc.inspection import Issuers
from gateway.points.toll.config import ChargingLane, EntryLane
from gateway.points.toll.lane import TollLane
from gateway.points.toll.services import LaneServices
from gateway.points.toll.settings import LaneSettings

FAULTS = {"barrier": "barrier_fault", "ledger": "storage_unavailable"}
"""Reasons of what a lane says is wrong with its parts."""


def assemble(section: ChargingLane | EntryLane, common: Common) -> Point:
    """The lane with its antenna. Its outputs are on a board of the site. Raises ValueError without lists or tariffs."""
    if common.lists is None or common.tariffs is None:
        raise ValueError(f"{section.name}: a toll lane needs status lists and tariffs")
    tariffs = common.tariffs
    driver = etc.antenna(section, common)
    services = LaneServices(
        _settings(section, common),
        common.engine,
        outputs=common.boards.outputs(section.name, section.outputs),
        lists=common.lists,
        tariffs=lambda: tariffs,
        issuers=Issuers(common.issuers),
        errors=etc.errors(section),
        clock=common.surroundings.clock,
        time=common.time,
        find_mandate=common.mandates.find,
        mandate_by_id=common.mandates.by_id,
        note_timing=common.note_timing,
        report_fault=partial(_tell_fault, common.tell, section.name),
    )
    return Point(section.name, TollLane(services, driver), {f"antenna/{section.name}": driver.run})


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
