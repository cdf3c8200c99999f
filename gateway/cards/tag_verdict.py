"""Verdict on a tag: would a lane take it with the card in it, and if not, every reason why."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import Final

from gateway.cards.tag import TagContents
from gateway.cards.verdict import Check, Finding, ListsInForce, Question, SiteFacts, judge
from gateway.model.reasons import REASONS, Severity
from gateway.payers.list_file import StatusListError
from gateway.payers.status_lists import ListKind, obu_key
from gateway.points.etc.inspection import tag_problems, vehicle_problems
from gateway.texts.catalogue import Pair, Text, Words
from protocols.obu.system_info import SystemInfo
from protocols.rsu.messages import DeviceType


class TagCheck(StrEnum):
    """Check of a tag, before those of its card."""

    READING = "reading"
    STATUS = "status"
    TAG_ISSUER = "tag_issuer"
    TAG_DATES = "tag_dates"
    TAG_LISTS = "tag_lists"
    VEHICLE = "vehicle"
    ROUTE = "route"


@dataclass(frozen=True, slots=True)
class TagVerdict:
    """Verdict on a tag and its card: all that was found, and the checks that nobody could make."""

    findings: tuple[Finding, ...]
    not_made: tuple[StrEnum, ...]

    @property
    def taken(self) -> bool:
        """True when nothing that was found keeps the vehicle from being charged."""
        return not any(finding.refuses for finding in self.findings)


_CHECK_OF: Final[Mapping[str, TagCheck]] = MappingProxyType(
    {
        "obu_issuer_unknown": TagCheck.TAG_ISSUER,
        "obu_expired": TagCheck.TAG_DATES,
        "obu_not_yet_valid": TagCheck.TAG_DATES,
    }
)
"""Checks that reasons of `tag_problems` belong to; the rest is told by the status bits."""


def judge_tag(tag: TagContents, question: Question, site: SiteFacts | None) -> TagVerdict:
    """Judge a tag, and the card in it where there is one, by what they hold and by a site where one is given."""
    found: list[Finding] = []
    not_made: list[StrEnum] = []
    if tag.error:
        code = tag.fault or "rsu_error_unlisted"
        found.append(_found(TagCheck.READING, code, Pair.same(f"{tag.error:02X}")))
    if tag.device_type == DeviceType.CPC_CARD:
        found.append(_found(TagCheck.READING, "cpc_to_attendant"))
    found += _tag(tag, question, site)
    if tag.system is None:
        not_made += [TagCheck.TAG_ISSUER, TagCheck.TAG_DATES, TagCheck.TAG_LISTS]
    else:
        not_made += [] if site is not None else [TagCheck.TAG_ISSUER, TagCheck.TAG_LISTS]
        not_made += [] if question.clock_trusted else [TagCheck.TAG_DATES]
        found += [] if site is None else _lists(tag.system, site.lists)
    if tag.status is None:
        not_made.append(TagCheck.STATUS)
    card = tag.card
    if tag.vehicle is None or card is None or card.card_file is None:
        not_made.append(TagCheck.VEHICLE)
    else:
        found += (_found(TagCheck.VEHICLE, code) for code in vehicle_problems(tag.vehicle, card.card_file, None))
    found += _route(tag)
    if card is None:
        not_made += Check
    else:
        judged = judge(card, question, site)
        found += judged.findings
        not_read = {
            Check.COUNTER: True,  # an antenna reads no log
            Check.ENTRY: tag.station_file is None,
            Check.PURSE: tag.balance_raw is None,
        }
        not_made += [check for check in Check if check in judged.not_made or not_read.get(check, False)]
    order: list[StrEnum] = [*TagCheck, *Check]
    return TagVerdict(tuple(found), tuple(sorted(not_made, key=order.index)))


def _found(check: TagCheck, code: str, detail: Text | None = None) -> Finding:
    reason = REASONS[code]
    return Finding(check, reason, reason.severity is not Severity.NOTE, detail)


def _tag(tag: TagContents, question: Question, site: SiteFacts | None) -> Iterator[Finding]:
    report = tag.report
    if report is None:
        return
    today = question.at.astimezone(question.zone).date() if question.clock_trusted else None
    for code in tag_problems(report, today, None if site is None else site.issuers):
        yield _found(_CHECK_OF.get(code, TagCheck.STATUS), code)
    if tag.status is not None and tag.status.battery_low:
        yield _found(TagCheck.STATUS, "obu_battery_low")


def _lists(system: SystemInfo, site: ListsInForce) -> Iterator[Finding]:
    if site.lists is None:
        yield _found(TagCheck.TAG_LISTS, "list_unavailable", site.problem)
        return
    try:
        hit = site.lists.lookup(ListKind.OBU, obu_key(system.issuer, system.contract_serial))
    except StatusListError as damage:
        yield _found(TagCheck.TAG_LISTS, "list_unavailable", Pair.same(str(damage)))
        return
    if hit is not None:
        detail = Words("verdict.listed", version=hit.list_version, type=hit.list_type)
        yield Finding(TagCheck.TAG_LISTS, hit.reason, refuses=True, detail=detail)


def _route(tag: TagContents) -> Iterator[Finding]:
    """Check the entry on the tag against the vehicle it says it is of."""
    route, vehicle = tag.route, tag.vehicle
    if route is None:
        return
    if route.origin is None:
        yield _found(TagCheck.ROUTE, "obu_entry_invalid", Pair.same(route.header.hex().upper()))
    elif any(route.header) and vehicle is not None and route.plate and route.plate != vehicle.plate:
        yield _found(TagCheck.ROUTE, "obu_entry_invalid", Words("tag.other-plate"))
