"""The choice of a reader by what a person calls it."""

import pytest

from drivers.card_readers import ReaderAbsent, ReaderState, chosen
from drivers.errors import DeviceUnavailable

NAMES = ("ACS ACR39U 00 00", "ACS ACR39U SAM 00 01", "Desk 00 00", "desk 00 00 spare", "1")
READERS = tuple(ReaderState(index, name) for index, name in enumerate(NAMES))


@pytest.mark.parametrize(
    ("selector", "index"),
    [
        ("0", 0),
        ("1", 4),  # a name that is exactly so comes before a number
        ("ACS ACR39U 00 00", 0),
        ("sam", 1),
        ("Desk 00 00", 2),
        ("DESK 00 00", 2),  # a whole name before a part of one
        ("SPARE", 3),
    ],
)
def test_a_reader_is_called_by_number_name_or_part(selector, index):
    assert chosen(READERS, selector).index == index


def test_the_only_reader_needs_no_name():
    assert chosen(READERS[:1], None) == READERS[0]


@pytest.mark.parametrize(
    ("selector", "problem", "absent"),
    [
        ("acr39u", "several card readers are called that", False),
        (None, "several card readers are there", False),
        ("9", "no card reader is called that", True),
        ("Gemalto", "no card reader is called that", True),
        ("²", "no card reader is called that", True),
    ],
)
def test_a_name_that_means_none_or_several_is_told_with_what_is_there(selector, problem, absent):
    with pytest.raises(DeviceUnavailable) as raised:
        chosen(READERS, selector)
    assert problem in raised.value.problem
    assert all(f"{state.index} {state.name}" in raised.value.problem for state in READERS)
    assert "--reader" in raised.value.hint or "plug" in raised.value.hint
    assert isinstance(raised.value, ReaderAbsent) is absent  # one that is absent may be plugged in; others never


def test_no_reader_at_all_is_told_so():
    with pytest.raises(ReaderAbsent, match="there is no card reader"):
        chosen((), "0")
