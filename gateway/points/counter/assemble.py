"""Assembly of a counter from its section of the site file."""

from __future__ import annotations

from functools import partial
from typing import Final

from gateway.cards.terminal import CardTerminal
from gateway.health import Tell
from gateway.payers.mandates import Issuers
from gateway.points.assemble import Common, Point
from gateway.points.counter.config import CounterPoint
from gateway.points.counter.point import Counter
from gateway.points.counter.settings import CounterSettings
from gateway.points.counter.visit import CounterServices

FAULTS: Final = {"reader": "reader_unavailable", "psam": "psam_operation_failed", "ledger": "storage_unavailable"}
"""Reasons for faults of a counter's parts."""


def assemble(section: CounterPoint, common: Common) -> Point:
    """Assemble a counter with its readers. Raises ValueError without what it needs."""
    counter = make(section, common)
    return Point(section.name, counter, {})


def make(section: CounterPoint, common: Common) -> Counter:
    """Make the counter itself."""
    if common.lists is None:
        raise ValueError(f"{section.name}: a counter needs status lists")
    surroundings = common.surroundings
    report_fault = partial(_tell_fault, common.tell, section.name)
    terminal = surroundings.device(
        f"{section.name}/terminal",
        lambda: CardTerminal(
            surroundings.card_readers(),
            reader=section.reader,
            psam=section.psam,
            on_psam=partial(report_fault, "psam"),
        ),
    )
    services = CounterServices(
        settings=_settings(section, common),
        engine=common.engine,
        mandates=common.mandates,
        lists=common.lists,
        clock=surroundings.clock,
        time=common.time,
        note_timing=common.note_timing,
        report_fault=report_fault,
        issuers=Issuers(common.issuers),
    )
    return Counter(services, terminal)


def _settings(section: CounterPoint, common: Common) -> CounterSettings:
    return CounterSettings(
        name=section.name,
        merchant=common.merchant,
        station=section.station.upper(),
        lane_no=section.lane_no,
        gantry=bytes.fromhex(section.gantry),
        decline_policy=section.bank_declines,
        utc_offset_s=common.utc_offset_min * 60,
        deadline_s=section.deadline_ms / 1000,
        repeat_window_s=section.repeat_window_s,
        charge_card_purchase=section.charge_card_purchase,
    )


def _tell_fault(tell: Tell, counter: str, part: str, problem: str | None) -> None:
    works = problem is None
    tell(f"{counter}/{part}", works, problem or "works", None if works else FAULTS[part])
