"""`etcgw tag`: a tag and the card in it, through an antenna that nobody else uses or out of hex; nothing is bought."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from enum import StrEnum
from functools import partial
from types import MappingProxyType
from typing import TYPE_CHECKING, Annotated, Any, Final, TypeGuard

import typer

from gateway.cli import card_words, labels, words
from gateway.cli.card_verdict import CHECKS, FINDINGS, desk_site, site_facts
from gateway.cli.columns import Column, Columns, each, facts, said, show_record, show_table
from gateway.cli.described import told
from gateway.cli.errors import CliFault, ExitCode
from gateway.cli.help import Commands
from gateway.cli.options import ConfigOption, JsonOption, UnmaskOption, moment, now_utc
from gateway.cli.screen import BAD, DOUBTFUL, GOOD, Cell, Heading, Screen
from gateway.cli.usage import BadValue
from gateway.texts.catalogue import Text, Words
from gateway.views.masks import number_shown, plate_shown
from protocols.rsu.names import PCRSU_V3

if TYPE_CHECKING:
    from gateway.cards.tag import TagContents
    from gateway.cards.tag_verdict import TagVerdict
    from gateway.config import SiteFile
    from gateway.points.etc.config import Antenna, EtcPoint
    from protocols.fields import FieldText
    from protocols.obu import SystemInfo

app = Commands("tag", no_args_is_help=True)

NO_GANTRY: Final = bytes(3)
"""Code of the charge point in the C0 of a desk, which is none."""

WAIT_S: Final = 10.0
WAIT_S_MAX: Final = 600.0

AntennaOption = Annotated[str | None, typer.Option("--antenna", metavar="ADDRESS", show_default=False)]
DialectOption = Annotated[str, typer.Option("--dialect", metavar="NAME")]
LaneOption = Annotated[str | None, typer.Option("--lane", metavar="NAME", show_default=False)]
HexOption = Annotated[list[str] | None, typer.Option("--hex", metavar="HEX", show_default=False)]
WaitOption = Annotated[float, typer.Option("--wait", metavar="SECONDS", min=0.1, max=WAIT_S_MAX)]


@app.callback()
def tag() -> None:
    """A tag: read it through an antenna or out of hex, and judge whether a lane would take it."""


@dataclass(frozen=True, slots=True)
class Source:
    """Place where the tag is."""

    antenna: str | None
    dialect: str
    lane: str | None
    hexes: Sequence[str]
    wait_s: float


@app.command()
def read(
    context: typer.Context,
    *,
    antenna: AntennaOption = None,
    dialect: DialectOption = PCRSU_V3,
    config: ConfigOption = None,
    lane: LaneOption = None,
    hexes: HexOption = None,
    wait: WaitOption = WAIT_S,
    as_json: JsonOption = False,
    unmask: UnmaskOption = False,
) -> None:
    """Show what is on a tag and on the card in it, field by field. Nothing is bought."""
    screen, _, site = desk_site(context, config)
    found = _contents(site, Source(antenna, dialect, lane, hexes or (), wait))
    columns = _columns(unmask=unmask)
    if as_json:
        screen.json({**facts(screen, columns, found), "files": [*_file_facts(found, unmask=unmask)]})
        return
    show_record(screen, columns, found)
    for title, fields in _files(found, unmask=unmask):
        screen.line()
        screen.line(screen.word(title), style="bold")
        _show_fields(screen, fields)


@app.command()
def verdict(
    context: typer.Context,
    *,
    antenna: AntennaOption = None,
    dialect: DialectOption = PCRSU_V3,
    config: ConfigOption = None,
    lane: LaneOption = None,
    hexes: HexOption = None,
    wait: WaitOption = WAIT_S,
    at: Annotated[str | None, typer.Option("--at", metavar="TIME", show_default=False)] = None,
    as_json: JsonOption = False,
    unmask: UnmaskOption = False,
) -> None:
    """Judge whether a lane would take a tag, with every reason why not. Exit 1 when it would be refused."""
    from gateway.cards.contents import CardContents
    from gateway.cards.tag_verdict import judge_tag
    from gateway.cards.verdict import Question
    from gateway.timekeeping import EARLIEST

    screen, zone, site = desk_site(context, config)
    asked = now_utc() if at is None else moment(at, zone, "--at")
    found = _contents(site, Source(antenna, dialect, lane, hexes or (), wait))
    known, trusted = None, asked >= EARLIEST
    if site is not None:
        known, trusted = site_facts(site, found.card or CardContents("", b"", {}), asked, None)
    judged = judge_tag(found, Question(asked, zone, trusted if at is None else True), known)
    told_facts = {
        "taken": judged.taken,
        **facts(screen, _columns(unmask=unmask), found),
        "findings": each(TAG_FINDINGS)(screen, judged.findings),
        "not_checked": [check.value for check in judged.not_made],
    }
    if not as_json:
        _show_verdict(screen, judged, found, unmask=unmask)
    if not judged.taken:
        count = sum(finding.refuses for finding in judged.findings)
        raise CliFault(ExitCode.REFUSED, "tag_refused", Words("tag.refused-count", count=count), facts=told_facts)
    if as_json:
        screen.json(told_facts)


# --- where the tag is -------------------------------------------------------------------------------------------------


def _contents(site: SiteFile | None, source: Source) -> TagContents:
    """Contents of the tag, from the one place that was named."""
    places = {"--antenna": source.antenna, "--lane": source.lane, "--hex": source.hexes}
    named = [name for name, given in places.items() if given]
    if len(named) != 1:
        raise BadValue(Words("tag.one-source"), f"'{named[0] if named else '--antenna'}'")
    if source.hexes:
        return _of_hex(source)
    if source.lane is not None:
        if site is None:
            raise BadValue(Words("tag.lane-needs-site"), "'--config'")
        point = _point(site, source.lane)
        _expect_stopped(site)
        return _through(point.antenna, bytes.fromhex(point.gantry), site.site.utc_offset_min, source.wait_s)
    return _through(_antenna(source), NO_GANTRY, 0 if site is None else site.site.utc_offset_min, source.wait_s)


def _of_hex(source: Source) -> TagContents:
    from gateway.cards.tag import TagBytesWrong, tag_of
    from gateway.cli.frames import HexWrong, bytes_of
    from gateway.points.etc.rsu_errors import PROFILE_OF_DIALECT, PROFILES

    dialect = _dialect(source.dialect)
    try:
        return tag_of(map(bytes_of, source.hexes), dialect, PROFILES[PROFILE_OF_DIALECT[dialect.name]])
    except (HexWrong, TagBytesWrong) as error:
        raise BadValue(error.problem, "'--hex'") from error


def _dialect(name: str) -> Any:  # noqa: ANN401 - imported where it is wanted
    from protocols.rsu.registry import DIALECTS

    if name not in DIALECTS:
        raise BadValue(Words("usage.no-dialect", dialect=name, names=", ".join(sorted(DIALECTS))), "'--dialect'")
    return DIALECTS[name]


def _antenna(source: Source) -> Antenna:
    from pydantic import ValidationError

    from gateway.points.etc.config import Antenna

    _dialect(source.dialect)
    try:
        return Antenna.model_validate({"address": source.antenna, "dialect": source.dialect})
    except ValidationError as error:
        problem = str(error.errors()[0]["msg"])
        raise BadValue(Words("tag.no-address", address=source.antenna, problem=problem), "'--antenna'") from error


def _point(site: SiteFile, name: str) -> EtcPoint:
    from gateway.documents import known_are

    points = {point.name: point for point in site.charge_points if _has_antenna(point)}
    if name not in points:
        raise BadValue(Words("tag.no-lane", lane=name, known=known_are(sorted(points))), "'--lane'")
    return points[name]


def _has_antenna(point: object) -> TypeGuard[EtcPoint]:
    from gateway.points.etc.config import EtcPoint

    return isinstance(point, EtcPoint)


def _expect_stopped(site: SiteFile) -> None:
    """Refuse while a gateway has the antenna: two lanes on one antenna answer each other's vehicles."""
    from gateway.cli.rights import need_right
    from gateway.model.clock import to_us
    from gateway.views.health import health_of

    need_right(site.storage.state)
    try:
        health = health_of(site.storage.state, to_us(now_utc()))
    except FileNotFoundError:
        return
    if health.running:
        raise CliFault(
            ExitCode.UNAVAILABLE,
            "gateway_running",
            Words("tag.gateway-running"),
            Words("tag.antenna-in-its-hands"),
            Words("tag.stop-it-first"),
        )


def _through(section: Antenna, gantry: bytes, utc_offset_min: int, wait_s: float) -> TagContents:
    """Contents of the next tag before an antenna."""
    import asyncio

    from drivers.clock import SystemClock
    from drivers.link import open_link
    from drivers.rsu import RsuConfig
    from gateway.cards.tag import tag_at
    from gateway.points.etc.assemble import errors, initialise
    from gateway.surroundings import CONNECT_TIMEOUT_S
    from protocols.rsu.registry import dialect_named

    clock = SystemClock()
    config = RsuConfig(
        device=section.address,
        dialect=dialect_named(section.dialect),
        initialise=partial(initialise, section, gantry, clock, utc_offset_min),
        ignore_psam_auth=section.ignore_psam_auth,
    )
    connect = partial(open_link, section.address, timeout_s=CONNECT_TIMEOUT_S, device=section.address)
    return asyncio.run(tag_at(config, errors(section), connect, clock, wait_s=wait_s))


# --- output -----------------------------------------------------------------------------------------------------------


def _columns(*, unmask: bool) -> Columns[TagContents]:
    """Columns of a tag, in the order in which a technician asks."""

    def number(_: Screen, value: str | None) -> str | None:
        return number_shown(value, unmask=unmask)

    def plate(_: Screen, value: str | None) -> str | None:
        return plate_shown(value, unmask=unmask)

    return (
        Column("device_type", Words("tag.device"), text=_device),
        Column("obu_id", Words("tag.obu-id"), lambda t: _hex(t.obu_id), number, number),
        Column("error_byte", Words("tag.error"), lambda t: t.error or None, _error_text),
        Column("status", Words("tag.status"), lambda t: t, _status_text, _status_facts),
        Column("issuer", Words("card.issuer"), _of_system(_issuer)),
        Column("contract", Words("tag.contract"), _of_system(lambda s: s.contract_number), number, number),
        Column("version", Words("tag.version"), _of_system(_version), _plain_version),
        said(Words("card.valid"), _validity),
        Column("starts", of=_of_system(lambda s: s.starts), data=_day),
        Column("expires", of=_of_system(lambda s: s.expires), data=_day),
        Column("plate", Words("label.plate"), lambda t: None if t.vehicle is None else t.vehicle.plate, plate, plate),
        Column("plate_colour", of=lambda t: None if t.vehicle is None else t.vehicle.plate_colour),
        said(Words("tag.vehicle"), _vehicle),
        Column("vehicle_class", of=lambda t: None if t.vehicle is None else t.vehicle.vehicle_class),
        Column("card_number", Words("card.number"), _card_number, number, number),
        Column("card_plate", Words("tag.card-plate"), _card_plate, plate, plate),
        Column("balance_raw"),
        said(Words("card.balance"), _balance),
    )


def _hex(data: bytes | None) -> str | None:
    return None if data is None else data.hex().upper()


def _of_system(take: Any) -> Any:  # noqa: ANN401 - a field of any kind
    return lambda found: None if found.system is None else take(found.system)


def _day(_: Screen, day: date | None) -> str | None:
    return None if day is None else day.isoformat()


DEVICES: Final[Mapping[int, Words]] = MappingProxyType(
    {1: Words("tag.two-piece"), 2: Words("tag.one-piece"), 3: Words("tag.cpc")}
)


def _device(screen: Screen, kind: int) -> str:
    return screen.word(DEVICES[kind]) if kind in DEVICES else str(kind)


def _error_text(screen: Screen, code: int | None) -> Cell | None:
    return None if code is None else Cell(f"{code:02X}", BAD)


def _status_words(found: TagContents) -> list[str]:
    from protocols.obu.status import obu_status_words

    return [] if found.status_bytes is None else obu_status_words(found.status_bytes[0], found.device_type)


def _status_text(screen: Screen, found: TagContents) -> str | None:
    shown = [told(screen, card_words.labels, word) for word in _status_words(found)]
    return f"{_hex(found.status_bytes)}  {', '.join(shown)}" if shown else None


def _status_facts(_: Screen, found: TagContents) -> dict[str, Any] | None:
    if found.status is None:
        return None
    return {"raw": _hex(found.status_bytes), "words": _status_words(found), "mount_flag": found.status.mount_flag}


def _issuer(system: SystemInfo) -> str:
    return f"{system.region} {system.issuer.hex().upper()}".strip()


def _version(system: SystemInfo) -> str:
    return f"{system.version:02X}"


def _plain_version(screen: Screen, version: str | None) -> str | None:
    if version is None:
        return None
    from protocols.crypto import algorithm_of_version

    return f"{version} ({algorithm_of_version(int(version, 16)).title})"


def _validity(screen: Screen, found: TagContents) -> Cell | None:
    system = found.system
    if system is None:
        return None
    first, last = (day.isoformat() if day else "-" for day in (system.starts, system.expires))
    text = screen.say("card.from-to", first=first, last=last)
    return Cell(text, "" if system.starts and system.expires else DOUBTFUL)


def _vehicle(screen: Screen, found: TagContents) -> str | None:
    vehicle = found.vehicle
    if vehicle is None:
        return None
    colour = words.colour_text(screen, vehicle.plate_colour)
    return f"{colour} {card_words.class_word(screen, vehicle.vehicle_class)}".strip()


def _card_number(found: TagContents) -> str | None:
    card = None if found.card is None else found.card.card_file
    return None if card is None else card.card_number


def _card_plate(found: TagContents) -> str | None:
    card = None if found.card is None else found.card.card_file
    return None if card is None else card.plate


def _balance(_: Screen, found: TagContents) -> str | None:
    fen = None if found.card is None else found.card.balance_fen
    return None if fen is None else words.yuan_with_currency(fen)


def _files(found: TagContents, *, unmask: bool) -> Iterator[tuple[Text, list[FieldText]]]:
    """Files that were read, with every field of each."""
    from protocols.card import describe_card_file, describe_station
    from protocols.obu import describe_route_file, describe_system_info, describe_vehicle_file

    for title, data, describe in (
        (Words("tag.file.system"), found.system_file, describe_system_info),
        (Words("tag.file.vehicle"), found.vehicle_file, describe_vehicle_file),
        (Words("tag.file.route"), found.route_bytes, describe_route_file),
        (Words("card.file.0015"), found.card_file, describe_card_file),
        (Words("tag.file.station"), found.station_file, describe_station),
    ):
        if data is not None:
            yield title, describe(data, unmask=unmask)


def _file_facts(found: TagContents, *, unmask: bool) -> Iterator[dict[str, Any]]:
    for title, fields in _files(found, unmask=unmask):
        yield {"file": str(title), "fields": [field._asdict() for field in fields]}


def _show_fields(screen: Screen, fields: Sequence[FieldText]) -> None:
    columns = [
        Heading(screen.say("rsu.at"), right=True),
        Heading(screen.say("rsu.field")),
        Heading(screen.word(labels.VALUE), wrap_at=12),
        Heading(screen.word(labels.MEANING), wrap_at=18),
    ]
    screen.table(
        columns,
        [[str(one.offset), one.name, one.value, told(screen, card_words.labels, one.meaning)] for one in fields],
    )


TAG_CHECKS: Final[Mapping[str, Text]] = MappingProxyType(
    {
        "reading": Words("tag.check.reading"),
        "status": Words("tag.check.status"),
        "tag_issuer": Words("tag.check.issuer"),
        "tag_dates": Words("tag.check.dates"),
        "tag_lists": Words("tag.check.lists"),
        "vehicle": Words("tag.check.vehicle"),
        "route": Words("tag.check.route"),
        **{name: Words("tag.check.of-card", check=check) for name, check in CHECKS.items()},
    }
)


def _check_text(screen: Screen, check: StrEnum) -> str:
    return screen.word(TAG_CHECKS[check.value])


TAG_FINDINGS: Final[Columns[Any]] = tuple(
    replace(column, text=_check_text) if column.key == "check" else column for column in FINDINGS
)


def _show_verdict(screen: Screen, judged: TagVerdict, found: TagContents, *, unmask: bool) -> None:
    """Show a verdict to people."""
    shown = Cell(screen.say("verdict.taken"), GOOD) if judged.taken else Cell(screen.say("verdict.refused"), BAD)
    screen.pairs([(screen.say("verdict.verdict"), shown)])
    show_record(screen, _columns(unmask=unmask), found)
    if judged.findings:
        screen.line()
        show_table(screen, TAG_FINDINGS, judged.findings)
    if judged.not_made:
        screen.line()
        names = ", ".join(screen.word(TAG_CHECKS[check.value]) for check in judged.not_made)
        screen.line(screen.say("verdict.not-checked", checks=names), style=DOUBTFUL)
