"""Plates: one written form, and no equality with something that was not read."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.model.plate import (
    Plate,
    PlateColour,
    PlateMatch,
    compare,
    look_alikes,
    mask,
    normalise,
)

BLUE, YELLOW = PlateColour.BLUE, PlateColour.YELLOW


@pytest.mark.parametrize(
    ("written", "normal"),
    [
        ("测A70345", "测A70345"),
        (" 测a·70 345\0\0", "测A70345"),
        ("测Ａ７０３４５", "测A70345"),
        ("测A･70345", "测A70345"),
        ("测A•70345", "测A70345"),
        ("测A-70345", "测A70345"),
        ("_无_", ""),
        ("unknown", ""),
        ("", ""),
    ],
)
def test_one_written_form(written, normal):
    assert normalise(written) == normal


@given(st.text(alphabet=st.sampled_from("测京ＡａAz09·・･ \u3000\0.-０-"), max_size=12))
def test_normalising_twice_changes_nothing(text):
    assert normalise(normalise(text)) == normalise(text)


@pytest.mark.parametrize(
    ("a", "b", "match"),
    [
        (Plate("测A70345", BLUE), Plate("测a·70345", BLUE), PlateMatch.SAME),
        (Plate("测A70345", BLUE), Plate("测A70345", YELLOW), PlateMatch.DIFFERENT_COLOUR),
        (Plate("测A70345", BLUE), Plate("测A70346", BLUE), PlateMatch.DIFFERENT_TEXT),
        (Plate("测A70345", None), Plate("测A70346", None), PlateMatch.DIFFERENT_TEXT),
        (Plate("测A70345", BLUE), Plate("测A70345", None), PlateMatch.UNKNOWN),
        (Plate("测A70345", PlateColour.UNKNOWN), Plate("测A70345", PlateColour.UNKNOWN), PlateMatch.UNKNOWN),
        (Plate("", BLUE), Plate("", BLUE), PlateMatch.UNKNOWN),
        (Plate("", BLUE), Plate("", YELLOW), PlateMatch.UNKNOWN),
        (Plate("_无_", BLUE), Plate("_无_", BLUE), PlateMatch.UNKNOWN),
        (Plate("测A70?45", BLUE), Plate("测A70?45", BLUE), PlateMatch.UNKNOWN),
    ],
)
def test_compare(a, b, match):
    assert compare(a, b) is match
    assert compare(b, a) is match


plates = st.builds(
    Plate,
    st.sampled_from(["", "_无_", "测A70345", "测a·70345", "测A7034?", "测B00001"]),
    st.sampled_from([None, *PlateColour]),
)


@given(plates, plates)
def test_same_needs_everything_read(a, b):
    if compare(a, b) is PlateMatch.SAME:
        assert a.known
        assert b.known
        assert (a.text, a.colour) == (b.text, b.colour)
    elif (a.text, a.colour) == (b.text, b.colour):
        assert not a.known


@pytest.mark.parametrize(
    ("a", "b", "count"),
    [
        ("测A70345", "测A70345", 0),
        ("测A80I45", "测AB0145", 2),
        ("测AO1234", "测A01234", 1),
        ("测A70345", "测A70346", None),
        ("测A7034", "测A70345", None),
        ("测A80145", "测B80145", None),
    ],
)
def test_look_alikes(a, b, count):
    assert look_alikes(a, b) == count
    assert look_alikes(b, a) == count


def test_masks():
    assert mask("测A70345") == "测A***45"
    assert mask("测AD70001") == "测A***01"
    assert mask("ABC12") == "***"
    assert mask("") == ""


def test_a_plate_never_prints_itself():
    plate = Plate("测A70345", BLUE)
    assert "70345" not in f"{plate} {plate!r}"


def test_colours():
    assert [c.value for c in PlateColour] == [0, 1, 2, 3, 4, 5, 6, 7, 9, 11, 12]
    assert PlateColour.of(0) is BLUE
    assert PlateColour.of(8) is PlateColour.UNKNOWN
    assert PlateColour.of(None) is PlateColour.UNKNOWN
    assert len({c.zh for c in PlateColour}) == len({c.en for c in PlateColour}) == len(PlateColour)
