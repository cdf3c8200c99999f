"""EF04 of a tag against the files of a real day, whose values another program read."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocols.card.layout import STATION_NEW
from protocols.errors import RemoteProtocolError
from protocols.obu import (
    ProvinceFee,
    decode_province_fees,
    decode_route_file,
    describe_route_file,
    route_file_new,
)
from protocols.obu import commands as obu_commands
from protocols.obu import layout as obu_layout

STATION_VECTORS = Path(__file__).parents[2] / "vectors" / "std-station-frames.jsonl"


def records():
    for line in STATION_VECTORS.read_text("utf-8").splitlines():
        vector = json.loads(line)
        for record in vector["decoded"].get("records", []):
            if "ef04" in record:
                yield pytest.param(record, id=vector["id"])


@pytest.mark.parametrize("record", list(records()))
def test_a_real_file_reads_as_another_program_read_it(record):
    raw, told, entry = bytes.fromhex(record["ef04_hex"]), record["ef04"], record["f0019"]
    route = decode_route_file(raw)
    assert route.encode() == raw
    assert (route.issuer.hex(), route.card_type) == (told["issuer"], told["card_type"])
    assert (f"{route.card_version:02x}", route.card_network) == (told["card_version"], told["network"])
    assert route.inner_number.hex() == told["card_no"]
    assert raw[:39].hex() == told["record39"]
    assert raw[59:].hex() == told["tail32"]
    if entry["station"] == route.station and entry["unix"] == route.unix_seconds:
        assert (route.plate, route.vehicle_class, route.lane) == (
            entry["plate"],
            entry["vehicle_class"],
            int(entry["lane"], 16),
        )


def test_totals_of_a_trip():
    raw = bytes.fromhex(
        "aa29003701776c0567428f380b013dab15674292eeb2e2414e38393335000000000002000a28ff"
        "b9f3d6dd52010001174252012413233214774252000100039800030e00050059d9000000000003980500030e73116b3ed20995ae"
    )
    route = decode_route_file(raw)
    assert (route.provinces, route.receivable_fen, route.fee_fen) == (1, 920, 782)
    assert (route.gantries, route.metres, route.write_errors) == (5, 23001, 0)
    assert (route.own_receivable_fen, route.own_gantries, route.own_fee_fen) == (920, 5, 782)
    assert route.verify_code == bytes.fromhex("73116b3ed20995ae")
    assert route.origin.en == "written at the entry lane"
    assert replace(route, fee_fen=1).encode() == raw[:64] + b"\0\0\1" + raw[67:]


@pytest.mark.parametrize("header", ["AA2900", "BB2900", "CC2900", "000000", "FFFFFF"])
def test_the_origin_of_an_entry(header):
    raw = bytes.fromhex(header) + bytes(88)
    assert decode_route_file(raw).origin is not None
    odd = decode_route_file(b"\x12" + raw[1:])
    assert odd.origin is None
    assert any("header at offset 0 is 12" in warning for warning in odd.warnings)


def test_a_file_is_made_of_the_record_that_the_card_gets():
    station = STATION_NEW.build(
        **(STATION_NEW.parse(bytes(43)) | {"header": b"\xaa\x29\x00", "station": "0101", "plate": "测A12345"})
    )
    raw = route_file_new(station, header=b"\xbb\x29\x00", provinces=1, own_fee_fen=250)
    route = decode_route_file(raw)
    assert (raw[:3], raw[3:39]) == (b"\xbb\x29\x00", station[3:39])
    assert (route.plate, route.provinces, route.own_fee_fen, route.metres) == ("测A12345", 1, 250, 0)


def test_fees_of_provinces_follow_the_file():
    assert obu_commands.PROVINCES_OFFSET == 0x0195
    fees = decode_province_fees(bytes.fromhex("4100012C37000000"))
    assert fees == (ProvinceFee(41, 300), ProvinceFee(37, 0))
    assert decode_province_fees(b"") == ()
    with pytest.raises(RemoteProtocolError, match="whole entries"):
        decode_province_fees(bytes(5))
    with pytest.raises(RemoteProtocolError):
        decode_province_fees(b"\xff\0\0\0")


@pytest.mark.parametrize("length", [0, 90, 92])
def test_another_length_is_refused_and_still_described(length):
    with pytest.raises(RemoteProtocolError):
        decode_route_file(bytes(length))
    assert describe_route_file(bytes(length))[0].meaning == f"{length} bytes, 91 wanted"


def test_a_description_covers_every_byte_and_hides_whose_it_is():
    raw = bytes(21) + "测A12345".encode("gbk") + bytes(62)
    lines = describe_route_file(raw)
    assert sum(line.length for line in lines) == obu_layout.ROUTE.size
    assert "12345" not in json.dumps(lines, ensure_ascii=False)
    assert "12345" in json.dumps(describe_route_file(raw, unmask=True), ensure_ascii=False)


@given(st.binary(min_size=91, max_size=91))
def test_any_file_of_its_length_reads_and_encodes_again(raw):
    assert decode_route_file(raw).encode() == raw


@given(st.binary(max_size=200))
def test_any_bytes_are_described(raw):
    assert describe_route_file(raw)
