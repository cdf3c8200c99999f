"""What rules a tag or a card out, and in which order the driver is told. Pure, so every case is one call."""

from dataclasses import replace
from datetime import date

import pytest

from gateway.model.plate import Plate, PlateColour
from gateway.payers.mandates import IssuerPolicy, Issuers
from gateway.points.etc.inspection import card_problem, plate_of, tag_problem, vehicle_problem
from protocols.card.codes import CardType
from protocols.card.files import decode_card_file
from protocols.obu.vehicle_file import decode_vehicle_file
from protocols.rsu.messages import DeviceType
from tests.gateway.points.plaza import ISSUER, REGION, Car

ISSUERS = Issuers({REGION: IssuerPolicy("issuer-9901")})
TODAY = date(2026, 11, 23)


OTHER_REGION = bytes.fromhex("BEA9CAD7")


def tag(**changes):
    return Car(1, **changes).tag_report()


def files(**changes):
    read = Car(1, **changes).user_report()
    return decode_vehicle_file(read.vehicle_file), decode_card_file(read.card_file)


def test_a_good_tag_and_a_good_card_have_no_problem():
    vehicle, card = files()
    assert tag_problem(tag(), TODAY, ISSUERS) is None
    assert card_problem(card, TODAY, ISSUERS) is None
    assert vehicle_problem(vehicle, card, None) is None
    assert ISSUERS.of(ISSUER) == IssuerPolicy("issuer-9901")
    assert ISSUERS.of(OTHER_REGION * 2) is None


@pytest.mark.parametrize("bits", range(256))
def test_every_status_byte_of_a_two_piece_tag(bits):
    """80 no card, 10 logic card, 08 card error, 04 locked, 02 tampered; battery and interface say nothing."""
    wanted = next(
        (
            reason
            for mask, reason in (
                (0x02, "obu_tampered"),
                (0x04, "obu_locked"),
                (0x80, "obu_no_card"),
                (0x18, "card_unreadable"),
            )
            if bits & mask
        ),
        None,
    )
    assert tag_problem(tag(tag_status=bytes((bits, 1))), TODAY, ISSUERS) == wanted


@pytest.mark.parametrize("flag", [1, 2, 0x7F, 0xFF])
def test_only_a_mount_flag_of_zero_means_taken_off(flag):
    assert tag_problem(tag(tag_status=bytes((0, flag))), TODAY, ISSUERS) is None
    assert tag_problem(tag(tag_status=b"\x00\x00"), TODAY, ISSUERS) == "obu_tampered"


def test_a_one_piece_tag_has_no_card_to_miss():
    report = tag(tag_status=b"\x80\x01", device_type=DeviceType.ONE_PIECE)
    assert tag_problem(report, TODAY, ISSUERS) is None
    assert tag_problem(replace(report, status=b"\x02\x01"), TODAY, ISSUERS) == "obu_tampered"


@pytest.mark.parametrize(
    ("today", "tag_reason", "card_reason"),
    [
        (date(2025, 12, 31), "obu_not_yet_valid", "card_not_yet_valid"),
        (date(2026, 1, 1), None, None),
        (date(2027, 12, 31), None, None),
        (date(2028, 1, 1), "obu_expired", "card_expired"),
        (None, None, None),
    ],
)
def test_the_first_and_the_last_day_are_valid(today, tag_reason, card_reason):
    first, last = date(2026, 1, 1), date(2027, 12, 31)
    assert tag_problem(tag(tag_dates=(f"{first:%Y%m%d}", f"{last:%Y%m%d}")), today, ISSUERS) == tag_reason
    _, card = files(card_dates=(first, last))
    assert card_problem(card, today, ISSUERS) == card_reason


@pytest.mark.parametrize("raw", [b"\x00" * 4, b"\xff" * 4, b"\x20\x26\x13\x45"])
def test_dates_that_are_none_are_not_judged(raw):
    assert tag_problem(replace(tag(), issued=raw, expires=raw), TODAY, ISSUERS) is None


@pytest.mark.parametrize("kind", [0, 21, 51, 255])
def test_only_stored_value_and_charge_cards_are_taken(kind):
    for good in (CardType.STORED_VALUE, CardType.CHARGE):
        assert card_problem(files(card_type=good)[1], TODAY, ISSUERS) is None
    assert card_problem(files(card_type=kind)[1], TODAY, ISSUERS) == "card_type_illegal"


def test_a_card_of_the_older_format_names_no_colour_and_no_class():
    vehicle, card = files()
    older = replace(card, plate_colour=None, vehicle_class=None)
    assert vehicle_problem(vehicle, older, None) is None
    assert vehicle_problem(vehicle, replace(older, plate="测A99999"), None) == "plate_mismatch"
    assert vehicle_problem(replace(vehicle, plate_colour=None), older, None) == "plate_unknown"


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"plate": ""}, "plate_unknown"),
        ({"plate_colour": None}, "plate_unknown"),
        ({"plate_colour": 9}, "plate_unknown"),
        ({"plate_colour": 77}, "plate_unknown"),
        ({"plate_colour": 1}, "plate_mismatch"),
        ({"plate": "测A00002"}, "plate_mismatch"),
        ({"vehicle_class": 0}, "obu_class_illegal"),
        ({"vehicle_class": 2}, "class_mismatch"),
    ],
)
def test_a_plate_that_was_not_read_never_matches_silently(change, reason):
    vehicle, card = files()
    assert vehicle_problem(replace(vehicle, **change), card, None) == reason


def test_the_camera_has_a_say_when_it_saw_something():
    vehicle, card = files()
    assert vehicle_problem(vehicle, card, Plate("测A00001", PlateColour(0))) is None
    assert vehicle_problem(vehicle, card, Plate("")) is None
    assert vehicle_problem(vehicle, card, Plate("测A00002", PlateColour(0))) == "plate_mismatch_camera"
    assert vehicle_problem(vehicle, card, Plate("测A00001", PlateColour(1))) == "plate_mismatch_camera"


def test_colours_nobody_knows_count_as_not_read():
    assert plate_of("测A00001", 200).colour is None
    assert plate_of("测A00001", None).colour is None
    assert plate_of("测A00001", 4).colour is PlateColour(4)
