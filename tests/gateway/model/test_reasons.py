"""The reasons table: complete in two languages, with codes and numbers that exist."""

import re

import pytest

from gateway.model import reasons
from gateway.model.reasons import REASONS, Reason, Severity
from gateway.model.special_events import NATIONAL_MAX, PROVINCIAL_MAX, PROVINCIAL_MIN, SPECIAL_EVENTS

CJK = re.compile(r"[\u4e00-\u9fff]")
DECLARED = {name: value for name, value in vars(reasons).items() if isinstance(value, Reason)}


def test_every_declared_reason_is_in_the_table_under_its_code():
    assert set(REASONS.values()) == set(DECLARED.values())
    assert all(code == reason.code for code, reason in REASONS.items())


@pytest.mark.parametrize(("name", "reason"), sorted(DECLARED.items()))
def test_every_reason_is_complete(name, reason):
    assert reason.code == name.lower()
    assert re.fullmatch(r"[a-z0-9]+(_[a-z0-9]+)*", reason.code)
    for zh in (reason.zh, reason.next_step_zh):
        assert CJK.search(zh)
    for en in (reason.en, reason.next_step_en):
        assert en
        assert en.isascii()
    assert reason.zh != reason.next_step_zh


@pytest.mark.parametrize("reason", DECLARED.values(), ids=lambda reason: reason.code)
def test_every_event_number_exists(reason):
    numbers = [n for n in (reason.special_event, *reason.other_events) if n is not None]
    assert set(numbers) <= set(SPECIAL_EVENTS)
    assert len(set(numbers)) == len(numbers)


def test_event_numbers_are_national_or_provincial():
    for number, (zh, en) in SPECIAL_EVENTS.items():
        assert 1 <= number <= NATIONAL_MAX or PROVINCIAL_MIN <= number <= PROVINCIAL_MAX
        assert CJK.search(zh)
        assert en.isascii()


def test_texts_tell_reasons_apart():
    assert len({reason.zh for reason in REASONS.values()}) == len(REASONS)
    assert len({reason.en for reason in REASONS.values()}) == len(REASONS)


def test_a_second_reason_under_a_code_is_refused():
    with pytest.raises(ValueError, match="declared twice"):
        reasons._add(REASONS["obu_tampered"])


def test_the_table_cannot_be_changed():
    with pytest.raises(TypeError):
        REASONS["obu_tampered"] = REASONS["obu_expired"]


@pytest.mark.parametrize(
    ("code", "event"),
    [
        ("obu_tampered", 2),
        ("obu_no_card", 5),
        ("purse_too_low", 27),
        ("plate_mismatch", 41),
        ("class_mismatch", 42),
        ("issuer_mismatch", 43),
        ("plate_mismatch_camera", 173),
        ("entry_time_invalid", 54),
        ("route_unreachable", 59),
        ("amount_absurd", 68),
        ("tac_missing", 78),
        ("psam_not_authorised", 97),
        ("no_tariff", 102),
        ("clock_bad", 103),
        ("list_stale", 104),
        ("purchase_unknown", 122),
        ("no_entry", 129),
        ("already_charged", 141),
        ("one_piece_refused", None),
    ],
)
def test_numbers_people_know_by_heart(code, event):
    assert REASONS[code].special_event == event


def test_what_stops_a_lane():
    assert {"no_tariff", "clock_bad", "storage_unavailable", "psam_locked"} <= {
        reason.code for reason in REASONS.values() if reason.severity is Severity.STOP
    }
    assert REASONS["obu_battery_low"].severity is Severity.NOTE
