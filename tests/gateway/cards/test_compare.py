"""Comparison with a golden card, from a dump and from a file of what is expected."""

import asyncio
import json
from datetime import date

import pytest

from gateway.cards.compare import compare, golden_of
from gateway.cards.contents import read_card
from gateway.cards.dump import DumpWrong
from gateway.cli.card_read import facts_of
from gateway.cli.screen import Screen
from gateway.texts.catalogue import Language
from protocols.card import commands
from tests.gateway.cards.odd_cards import Refusing, entry, in_slot, reads_record, user_card, with_file


def contents_of(chip, **how):
    return asyncio.run(read_card(in_slot(chip), **how))


@pytest.fixture
def golden(tmp_path):
    """Golden card of a chip's dump, or of a text in TOML."""

    def make(source, *, unmask=False, **how):
        if isinstance(source, str):
            file = tmp_path / "golden.toml"
            file.write_text(source, encoding="utf-8")
        else:
            file = tmp_path / "golden.json"
            found = facts_of(Screen(Language.EN), contents_of(source), unmask=unmask)
            file.write_text(json.dumps(found), encoding="utf-8")
        return golden_of(file, **how)

    return make


def places(chip, wanted):
    return [one.place for one in compare(contents_of(chip), wanted)]


@pytest.mark.parametrize("unmask", [False, True])
def test_cards_of_one_delivery_are_the_same(golden, unmask):
    wanted = golden(user_card(), unmask=unmask)
    other = user_card(
        plate="测B99999", inner_number="2301220100000099", balance_raw=1, expires=date(2031, 1, 1),
        station=entry(station="0999", plate="测B99999"),
    )  # fmt: skip
    assert places(user_card(), wanted) == []
    assert places(other, wanted) == []


@pytest.mark.parametrize(
    ("facts", "expected"),
    [
        ({"network": "9902"}, ["0015.issuer", "0015.network"]),
        ({"card_type": 23}, ["0015.card_type"]),
        ({"version": 0x50}, ["0015.version"]),
        ({"vehicle_class": 2}, ["0015.vehicle_class"]),
        ({"plate_colour": 1}, ["0015.plate_colour"]),
        ({"user_type": 6}, ["0015.user_type"]),
    ],
)
def test_each_field_that_differs_is_named(golden, facts, expected):
    assert places(user_card(**facts), golden(user_card())) == expected


def test_a_difference_has_its_offset_and_both_values(golden):
    (one,) = compare(contents_of(user_card(vehicle_class=2)), golden(user_card()))
    assert (one.file, one.name, one.offset, str(one.expected), str(one.found)) == (
        "0015",
        "vehicle_class",
        42,
        "1",
        "2",
    )


def test_a_file_of_another_length_and_one_that_cannot_be_read_are_named(golden):
    wanted = golden(user_card())
    shorter = places(user_card(length=43), wanted)
    assert "0015.bytes" in shorter
    assert places(Refusing(user_card(), reads_record(commands.SFI_STATIONS, 1), 0x6581), wanted)[0] == "0019/1.sw"
    longer = with_file(user_card(), commands.SFI_TOLL, lambda data: data + b"\0")
    assert "0012.bytes" in places(longer, wanted)


def test_fields_can_be_set_free_and_compared(golden):
    card, other = user_card(), user_card(vehicle_class=2, expires=date(2030, 1, 1))
    assert places(other, golden(card, free=("0015.vehicle_class",))) == []
    assert places(other, golden(card, free=("0015.*",), compared=("0015.expires",))) == []
    assert places(other, golden(card, compared=("0015.expires",))) == ["0015.expires", "0015.vehicle_class"]


def test_a_file_of_expectations_counts_alone(golden):
    text = """
    name = "x"
    [files.0015]
    vehicle_class = [1, 2]
    network = "9901"
    plate = { pattern = "测A[0-9]{5}" }
    expires = { min = "2030-01-01", max = "2036-01-01" }
    [files.0002]
    sw = "9000"
    """
    wanted = golden(text)
    assert places(user_card(vehicle_class=2, card_type=23), wanted) == []
    assert places(user_card(vehicle_class=3), wanted) == ["0015.vehicle_class"]
    assert places(user_card(plate="测B12345"), wanted) == ["0015.plate"]
    assert places(user_card(expires=date(2029, 12, 31)), wanted) == ["0015.expires"]
    assert places(user_card(expires=date(2036, 1, 2)), wanted) == ["0015.expires"]
    assert places(Refusing(user_card(), lambda c: c.ins == 0x5C, 0x6F00), wanted) == ["0002.sw"]
    assert places(user_card(), golden("[files.0015]\nno_such = 1")) == ["0015.no_such"]


def test_plates_stay_masked_in_what_differs(golden):
    wanted = golden('[files.0015]\nplate = "测A12345"')
    (masked,) = compare(contents_of(user_card(plate="测B67890")), wanted)
    assert (str(masked.expected), str(masked.found)) == ("***", "测B***90")
    (plain,) = compare(contents_of(user_card(plate="测B67890")), wanted, unmask=True)
    assert (str(plain.expected), str(plain.found)) == ("测A12345", "测B67890")


@pytest.mark.parametrize(
    "text",
    [
        "x", "strange = 1", "files = 1", "[files]\n0015 = 1", "keys = [300]", "[files.0015]\nplate = {}",
        "[files.0015]\nplate = { pattern = '(' }", "[files.0015]\nplate = []", "[files.0015]\nplate = 1.5",
        "[files.0015]\nplate = { like = 'x' }",
    ],
)  # fmt: skip
def test_what_is_not_understood_is_refused(golden, text):
    with pytest.raises(DumpWrong):
        golden(text)
