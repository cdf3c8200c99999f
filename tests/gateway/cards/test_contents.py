"""Reading a whole card: what it gives, what it refuses, and what kind of card it is."""

import asyncio
from datetime import date

import pytest

from drivers.errors import LinkLost
from gateway.cards.contents import CardKind, Identified, identify, read_card
from hardware.bench.chip_slot import ChipSlot, Pull
from protocols.card import commands
from protocols.errors import RemoteProtocolError
from tests.gateway.cards.odd_cards import (
    NUMBER,
    PLATE,
    Refusing,
    Strange,
    entry,
    in_slot,
    reads_file,
    reads_record,
    selects_application,
    transit_card,
    user_card,
    with_file,
)


def contents_of(chip, **how):
    return asyncio.run(read_card(in_slot(chip), **how))


def identified(chip):
    return asyncio.run(identify(in_slot(chip)))


def test_whole_card_is_read():
    read = contents_of(user_card())
    assert read.kind is CardKind.ETC
    assert read.card_file.card_number == NUMBER
    assert read.card_file.plate == PLATE
    assert read.card_file.expires == date(2034, 1, 1)
    assert (read.station.station_code, read.station.lane) == ("99010105", 1)
    assert read.balance_fen == 50_000
    assert [name for name in read.files if name.startswith("0019")] == [f"0019/{n}" for n in range(1, 11)]
    assert len(read.files["0009"].data) == 512
    assert len(read.files["0008"].data) == 128
    assert (read.files["0012"].problem, read.log, read.damaged) == (None, (), ())
    assert "0016" not in read.files


def test_holder_is_read_on_request_only():
    read = contents_of(user_card(), holder=True)
    assert read.holder.holder_name == ""
    away = user_card()
    away._holder_in_application = False
    assert (contents_of(away, holder=True)).holder is not None


@pytest.mark.parametrize("version", [0x10, 0x40])
def test_file_of_43_bytes_is_read(version):
    read = contents_of(user_card(length=43, version=version))
    assert len(read.card_file.raw) == 43
    assert read.kind is CardKind.ETC


@pytest.mark.parametrize("sw", [0x6700, 0x6B00, 0x6282])
def test_card_that_will_not_give_50_bytes_gives_43(sw):
    card = user_card(length=43)
    said = Refusing(card, lambda c: reads_file(commands.SFI_CARD_FILE)(c) and c.le != 43, sw)
    assert (contents_of(said)).card_file.card_number == NUMBER


@pytest.mark.parametrize("sw", [0x6700, 0x6B00])
def test_card_that_wants_lengths_named_gets_them(sw):
    read = contents_of(Refusing(user_card(), lambda c: c.ins in (0xB0, 0xB2) and c.le == 256, sw))
    assert (read.station.station_code, read.damaged, len(read.files["0012"].data)) == ("99010105", (), 40)


def test_answer_that_follows_no_rule_stops_no_other_file():
    class Circling(ChipSlot):
        async def transmit(self, command, **how):
            if command.ins == 0x5C:
                raise RemoteProtocolError("the card announces more after 8 commands", field="SW")
            return await super().transmit(command, **how)

    read = asyncio.run(read_card(Circling("desk", user_card())))
    assert [file.name for file in read.damaged] == ["0002"]


def test_bytes_beside_a_warning_count():
    data = user_card().card_file.raw[:43]
    said = Refusing(user_card(), reads_file(commands.SFI_CARD_FILE), 0x6282, data)
    read = contents_of(said)
    assert read.card_file.card_number == NUMBER


def test_balance_of_a_charge_card_has_its_sign():
    assert contents_of(user_card(card_type=23, balance_raw=0xFA0A1E33)).balance_fen == -100_000_205


def test_file_that_cannot_be_read_never_stops_the_rest():
    read = contents_of(Refusing(user_card(), reads_record(commands.SFI_STATIONS), 0x6581))
    assert read.kind is CardKind.ETC
    assert [file.name for file in read.damaged] == ["0019/1"]
    assert "6581" in str(read.files["0019/1"].problem)
    assert (read.balance_fen, read.files["0012"].problem) == (50_000, None)


def test_short_issue_file_is_damage_where_the_records_are_those_of_an_etc_card():
    read = contents_of(with_file(user_card(), commands.SFI_CARD_FILE, lambda data: data[:31]))
    assert (read.kind, read.card_file) == (CardKind.DAMAGED, None)
    assert len(read.files["0015"].data) == 31
    assert "31" in str(read.files["0015"].problem)


def test_kinds_of_cards():
    blank = with_file(user_card(station=None), commands.SFI_CARD_FILE, lambda data: b"\xff" * len(data))
    unknown = with_file(user_card(), commands.SFI_CARD_FILE, lambda data: b"\xc4\xb3\xb9\xab" + data[4:])
    kinds = {
        CardKind.PURSE: transit_card(),
        CardKind.BLANK: blank,
        CardKind.OTHER: unknown,
    }
    assert {kind: contents_of(chip).kind for kind, chip in kinds.items()} == {kind: kind for kind in kinds}
    assert (contents_of(Strange(payments=True))).kind is CardKind.BLANK
    assert (contents_of(Strange(payments=False))).kind is CardKind.OTHER


@pytest.mark.parametrize("sw", [0x6283, 0x6A81, 0x9303])
def test_blocked_application_is_told(sw):
    assert (contents_of(Refusing(user_card(), selects_application, sw))).locked


def test_identify_gives_what_a_purchase_needs():
    found = identified(user_card())
    assert isinstance(found, Identified)
    assert (found.card.card_number, found.balance_raw) == (NUMBER, 50_000)
    assert found.station == entry()


def test_identify_says_why_not():
    reasons = {
        "card_not_etc": transit_card(),
        "card_blank": with_file(user_card(), commands.SFI_CARD_FILE, lambda data: bytes(len(data))),
        "card_unreadable": Refusing(user_card(), reads_record(commands.SFI_STATIONS), 0x6581),
        "card_locked": Refusing(user_card(), selects_application, 0x6A81),
    }
    assert {code: identified(chip) for code, chip in reasons.items()} == {code: code for code in reasons}


def test_card_that_goes_away_ends_the_reading():
    slot = ChipSlot("desk", user_card(), pull=Pull(at=12, after=True))
    with pytest.raises(LinkLost):
        asyncio.run(read_card(slot))


def test_contents_name_nobody_in_a_log():
    read = contents_of(user_card())
    assert PLATE not in repr(read)
    assert NUMBER[4:] not in repr(read)
