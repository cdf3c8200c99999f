"""What cards tell besides their main files: selection, purse cards, records of 0019, codes, PINs, My Number."""

import json
from datetime import date

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocols.card import commands, my_number
from protocols.card import layout as card_layout
from protocols.card.apdu import STATUS_CURES, STATUS_WORDS, Command, status_cure
from protocols.card.codes import (
    PASS_STATUSES,
    RECORD_KINDS,
    USER_TYPES,
    VALID_ENTRY_STATUSES,
    YUNNAN_PASS_STATUSES,
)
from protocols.card.fci import decode_fci, decode_transit_file, describe_transit_file
from protocols.card.station import describe_record, describe_yunnan_station, yunnan_unix_seconds
from protocols.errors import LocalProtocolError, RemoteProtocolError

TRANSIT = bytes.fromhex("869820007590FFFF82052000B2D0614C800960A720140504201605040914")


# --- selection ------------------------------------------------------------------------------------------------------


def test_a_selection_is_read_as_far_as_it_is_tlv():
    root = decode_fci(bytes.fromhex("6F15840E315041592E5359532E4444463031A503880101"))
    assert (root.name, root.directory_sfi, root.version) == (b"1PAY.SYS.DDF01", 1, None)
    raw = decode_fci(bytes.fromhex("6F3F8409A00000000386980701A532" + "00" * 50))
    assert (raw.name, raw.proprietary, raw.issuer_data) == (commands.ETC_AID, bytes(50), b"")
    assert decode_fci(b"").name == b""
    assert decode_fci(bytes.fromhex("6F0B8409A00000")).name == b""


@given(st.binary(max_size=120))
def test_any_answer_to_a_selection_is_read(raw):
    for whole in (raw, b"\x6f" + bytes((len(raw),)) + raw):
        found = decode_fci(whole)
        assert found.name in whole
        assert found.issuer_data in found.proprietary


def test_a_purse_cards_public_file():
    card = decode_transit_file(TRANSIT)
    assert (card.application_type, card.version, card.free_pair) == (0x82, 0x05, b"\x09\x14")
    assert (card.starts, card.expires) == (date(2014, 5, 4), date(2016, 5, 4))
    assert card.encode() == TRANSIT
    assert "2000B2D0" not in repr(card)
    assert "2000B2D0614C800960A7" not in json.dumps(describe_transit_file(TRANSIT))
    with pytest.raises(RemoteProtocolError, match="30"):
        decode_transit_file(TRANSIT[:-1])


@given(st.binary(min_size=30, max_size=30))
def test_any_public_file_reads_and_encodes_again(raw):
    assert decode_transit_file(raw).encode() == raw


# --- records of file 0019 -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", RECORD_KINDS)
def test_a_record_is_told_by_its_id(number):
    kind = RECORD_KINDS[number]
    raw = bytes((number, kind.total_bytes - 2, 0)) + b"\x11" * (kind.total_bytes - 3)
    lines = describe_record(raw)
    assert sum(line.length for line in lines) == kind.total_bytes
    if number != 0xAA:
        assert lines[0].meaning == f"record id: {kind.use.en}"
        assert "1111" not in lines[-1].value
        assert "1111" in describe_record(raw, unmask=True)[-1].value
        assert describe_record(raw[:-1])[0].meaning == f"{kind.total_bytes - 1} bytes are no such record"


def test_lengths_in_heads_are_two_less():
    heads = {0xAA: 0x29, 0x44: 0x3A, 0xB5: 0x29, 0xC1: 0x3D, 0xD1: 0x5E}
    assert {number: RECORD_KINDS[number].total_bytes - 2 for number in heads} == heads


@given(st.binary(max_size=100))
def test_any_record_is_described(raw):
    assert describe_record(raw)
    assert describe_yunnan_station(raw)


def test_an_old_record_of_yunnan_is_an_option():
    raw = card_layout.STATION_YUNNAN.build(
        header=b"\xaa\x29\x00",
        network="5301",
        station="000102",
        lane=3,
        yunnan_seconds=1,
        vehicle_class=1,
        status=9,
        terminal=bytes(6),
        record_index=1,
        operator=bytes(4),
        shift=1,
        plate="测A12345",
        plate_colour=0,
        reserved=bytes(1),
        crc=bytes(2),
    )
    assert len(raw) == 43
    lines = {line.name: line for line in describe_yunnan_station(raw)}
    assert lines["status"].meaning == "entry or exit status: unattended"
    assert "12345" not in lines["plate"].value
    assert yunnan_unix_seconds(0) == 946_656_000


# --- codes ----------------------------------------------------------------------------------------------------------


def test_numbers_of_the_reference_have_words():
    assert set(USER_TYPES) >= {0, 1, 5, 6, 8, 10, 12, 14, 15, 20, *range(21, 29)}
    assert set(PASS_STATUSES) >= VALID_ENTRY_STATUSES
    assert set(YUNNAN_PASS_STATUSES) == {0, 1, 3, 5, 7, 9}


def test_every_status_word_has_a_cure_in_both_languages():
    assert STATUS_CURES.keys() == STATUS_WORDS.keys()
    for sw in (*STATUS_WORDS, 0x6108, 0x6C32, 0x63C2, 0x63C0, 0x1234):
        cure = status_cure(sw)
        assert cure.en.isascii()
        assert not cure.zh.isascii()
    assert status_cure(0x63C0) == status_cure(0x6983)
    assert status_cure(0x63C1) != status_cure(0x63C0)
    assert "GET RESPONSE" in status_cure(0x6108).en


def test_every_named_command_has_both_languages():
    for (cla, ins), name in commands.COMMAND_NAMES.items():
        assert name.en.isascii()
        assert not name.zh.isascii()
        assert commands.command_name(Command(cla, ins, 0, 0)) is name
    assert commands.command_name(Command(0xFF, 0xCA, 0, 0)) is None


def test_a_pin_has_two_codings():
    assert commands.pin_bytes("123456") == bytes.fromhex("123456")
    assert commands.pin_bytes("123456", commands.PinCoding.ASCII) == b"123456"
    for wrong in ("12345", "12345a", "１２３４"):
        with pytest.raises(LocalProtocolError) as refused:
            commands.pin_bytes(wrong)
        assert wrong not in str(refused.value)


def test_plain_writes():
    assert commands.update_record(0x1A, 11, b"\x01").encode().hex() == "00dc0bd40101"
    assert commands.internal_authenticate(1, bytes(8)).encode().hex() == "00880001080000000000000000" + "08"
    with pytest.raises(LocalProtocolError):
        commands.internal_authenticate(1, bytes(4))


# --- My Number cards ------------------------------------------------------------------------------------------------


def test_a_my_number_card_is_asked_without_costing_a_try():
    assert my_number.select_application(my_number.JPKI).encode().hex() == "00a4040c0ad392f000260100000001"
    assert my_number.select_file(my_number.AUTH_PIN).encode().hex() == "00a4020c020018"
    assert my_number.ask_tries().encode().hex() == "00200080"
    assert {sw: my_number.tries_left(sw) for sw in (0x63C3, 0x63C0, 0x6983, 0x6984, 0x6986)} == {
        0x63C3: 3,
        0x63C0: 0,
        0x6983: 0,
        0x6984: 0,
        0x6986: None,
    }
    with pytest.raises(RemoteProtocolError):
        my_number.tries_left(0x9000)
    assert all(len(aid) == 10 for aid in my_number.APPLICATIONS)


@pytest.mark.parametrize(("head", "length"), [("308204D2", 0x4D2 + 4), ("30818000", 0x80 + 3), ("30050000", 7)])
def test_a_certificates_length(head, length):
    assert my_number.certificate_bytes(bytes.fromhex(head)) == length


@pytest.mark.parametrize("head", ["", "308204", "00000000", "30840000", "30800000"])
def test_what_is_no_certificate_is_refused(head):
    with pytest.raises(RemoteProtocolError):
        my_number.certificate_bytes(bytes.fromhex(head))
