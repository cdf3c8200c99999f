"""Error bytes of antennas: what they say about the money, and never a guess."""

import pytest

from gateway.model import reasons
from gateway.model.reasons import REASONS
from gateway.points.etc.rsu_errors import (
    DEVICE_STATUS,
    L_EF04_ENTRY,
    L_EF04_EXIT,
    PCRSU_V3,
    PCRSU_V3_5,
    PROFILES,
    MoneyMeaning,
    ReportType,
)

TAKEN, NOT_TAKEN, UNKNOWN = MoneyMeaning.TAKEN, MoneyMeaning.NOT_TAKEN, MoneyMeaning.UNKNOWN


@pytest.mark.parametrize("profile", PROFILES.values(), ids=lambda profile: profile.name)
@pytest.mark.parametrize("report", ReportType)
def test_every_possible_byte_has_a_meaning(profile, report):
    for code in range(256):
        meaning = profile.meaning(report, code)
        if code == 0 and report in profile.reports:
            assert meaning.reason is None
        else:
            assert meaning.reason in REASONS.values()
        listed = code in profile.reports.get(report, {})
        if not listed:
            assert meaning.money is (UNKNOWN if report in (ReportType.RESULT, ReportType.TAC) else NOT_TAKEN)
        if report in (ReportType.VEHICLE, ReportType.USER):
            assert meaning.money is NOT_TAKEN


@pytest.mark.parametrize(
    ("code", "money", "reason"),
    [
        (0x00, TAKEN, None),
        (0x01, UNKNOWN, reasons.PURCHASE_UNKNOWN),
        (0x02, UNKNOWN, reasons.PURCHASE_UNKNOWN),
        (0x06, NOT_TAKEN, reasons.MAC1_FAILED),
        (0x07, TAKEN, reasons.MAC2_FAILED),
        (0x08, UNKNOWN, reasons.PURCHASE_UNKNOWN),
        (0x0A, NOT_TAKEN, reasons.RECORD_UPDATE_FAILED),
        (0x11, UNKNOWN, reasons.PURCHASE_UNKNOWN),
        (0x13, UNKNOWN, reasons.PURCHASE_UNKNOWN),
        (0x14, TAKEN, reasons.EF04_WRITE_FAILED),
        (0x42, UNKNOWN, reasons.RSU_ERROR_UNLISTED),
    ],
)
def test_v3_result(code, money, reason):
    meaning = PCRSU_V3.meaning(ReportType.RESULT, code)
    assert (meaning.money, meaning.reason) == (money, reason)


def test_only_a_bad_mac2_is_disputed():
    for profile in PROFILES.values():
        for codes in profile.reports.values():
            for meaning in codes.values():
                assert meaning.disputed == (meaning.reason is reasons.MAC2_FAILED)


def test_a_failed_file_write_is_paid_at_the_exit_and_not_at_the_entry():
    for code in (0x22, 0x23):
        assert L_EF04_EXIT.meaning(ReportType.RESULT, code).money is TAKEN
        assert L_EF04_ENTRY.meaning(ReportType.RESULT, code).money is NOT_TAKEN


def test_a_tac_in_hand_proves_the_purchase_and_its_absence_proves_nothing():
    money = {code: PCRSU_V3.meaning(ReportType.TAC, code).money for code in range(6)}
    assert money == {0: TAKEN, 1: UNKNOWN, 2: UNKNOWN, 3: UNKNOWN, 4: UNKNOWN, 5: TAKEN}


def test_versions_differ_in_user_report_codes():
    assert PCRSU_V3.meaning(ReportType.USER, 0x07).reason is reasons.RSU_ERROR_UNLISTED
    assert PCRSU_V3_5.meaning(ReportType.USER, 0x07).reason is reasons.ONE_PIECE_VEHICLE_FAILED
    assert PCRSU_V3_5.meaning(ReportType.USER, 0x0C).reason is reasons.RSU_ERROR_UNLISTED
    assert PCRSU_V3.meaning(ReportType.USER, 0x11).reason is reasons.OBU_NO_CARD


def test_device_status():
    assert DEVICE_STATUS[0] is None
    assert {code: reason.code for code, reason in DEVICE_STATUS.items() if reason} == {
        1: "psam_reset_failed",
        2: "rsu_antenna_fault",
        3: "rsu_controller_fault",
    }
