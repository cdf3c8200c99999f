"""Inspection of tag and card: pure checks on what was read, each failing with a reason's code.

Order matters to people: the first thing wrong is what the driver is told. Dates count only when the clock is trusted.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date

from gateway.model.plate import Plate, PlateColour, PlateMatch, compare
from gateway.model.vehicle_class import is_vehicle_class
from gateway.payers.mandates import Issuers
from protocols.card.codes import CardType
from protocols.card.files import CardFile
from protocols.codings import read_date
from protocols.obu.status import decode_obu_status
from protocols.obu.vehicle_file import VehicleFile
from protocols.rsu.messages import DeviceType, ObuReport

MOUNT_FLAG_REMOVED = 0
"""Byte 27 of the system file: 00 = taken off. Other values occur on good tags and say nothing."""


def tag_problem(report: ObuReport, today: date | None, issuers: Issuers) -> str | None:
    """First problem of a tag that its own report (B2) already shows; `today` is None while the clock is not trusted."""
    return next(tag_problems(report, today, issuers), None)


def tag_problems(report: ObuReport, today: date | None, issuers: Issuers | None) -> Iterator[str]:
    """Every problem of a tag that its own report shows; `issuers` is None where nobody knows who is taken."""
    status = decode_obu_status(report.status, report.device_type or DeviceType.TWO_PIECE)
    starts, expires = read_date(report.issued), read_date(report.expires)
    if status.tampered or status.mount_flag == MOUNT_FLAG_REMOVED:
        yield "obu_tampered"
    if status.locked:
        yield "obu_locked"
    if issuers is not None and issuers.of(report.issuer) is None:
        yield "obu_issuer_unknown"
    if today is not None and expires is not None and expires < today:
        yield "obu_expired"
    if today is not None and starts is not None and starts > today:
        yield "obu_not_yet_valid"
    if status.card_present is False:
        yield "obu_no_card"
    elif status.card_error or status.logic_card:
        yield "card_unreadable"


def card_problem(card: CardFile, today: date | None, issuers: Issuers) -> str | None:
    """First problem of a card that file 0015 shows by itself."""
    return next(card_problems(card, today, issuers), None)


def card_problems(card: CardFile, today: date | None, issuers: Issuers | None) -> Iterator[str]:
    """Every problem of a card that file 0015 shows by itself; `issuers` is None where nobody knows who is taken."""
    if issuers is not None and issuers.of(card.issuer) is None:
        yield "card_issuer_unknown"
    if card.card_type not in (CardType.STORED_VALUE, CardType.CHARGE):
        yield "card_type_illegal"
    if today is not None and card.expires is not None and card.expires < today:
        yield "card_expired"
    if today is not None and card.starts is not None and card.starts > today:
        yield "card_not_yet_valid"


def vehicle_problem(vehicle: VehicleFile, card: CardFile, camera: Plate | None) -> str | None:
    """First problem of tag against card, then of tag against camera."""
    return next(vehicle_problems(vehicle, card, camera), None)


def vehicle_problems(vehicle: VehicleFile, card: CardFile, camera: Plate | None) -> Iterator[str]:
    """Every problem of tag against card, then of tag against camera. A plate that was not read never matches silently.

    Cards of the older format name no colour; then the text alone is compared, and the tag's colour counts.
    """
    if not is_vehicle_class(vehicle.vehicle_class):
        yield "obu_class_illegal"
    tag_plate = plate_of(vehicle.plate, vehicle.plate_colour)
    card_plate = plate_of(card.plate, card.plate_colour)
    match = compare(tag_plate, card_plate)
    if match in (PlateMatch.DIFFERENT_TEXT, PlateMatch.DIFFERENT_COLOUR):
        yield "plate_mismatch"
    colour_missing_on_card = card.plate_colour is None and tag_plate.known and tag_plate.text == card_plate.text
    if match is PlateMatch.UNKNOWN and not colour_missing_on_card:
        yield "plate_unknown"
    if card.vehicle_class is not None and card.vehicle_class not in (0, vehicle.vehicle_class):
        yield "class_mismatch"
    if camera is not None and compare(tag_plate, camera) in (
        PlateMatch.DIFFERENT_TEXT,
        PlateMatch.DIFFERENT_COLOUR,
    ):
        yield "plate_mismatch_camera"


def plate_of(text: str, colour: int | None) -> Plate:
    """Plate from a file's fields; colour numbers nobody knows count as not read."""
    known = colour is not None and colour in PlateColour.__members__.values()
    return Plate(text, PlateColour(colour) if known and colour is not None else None)
