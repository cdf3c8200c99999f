"""Card files against the published and computed files of card-apdus.jsonl."""

import json
from dataclasses import replace
from datetime import date
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocols.card import (
    StationLayout,
    card_file_new,
    decode_card_file,
    decode_holder,
    decode_station,
    decode_transaction_log,
    describe_card_file,
    describe_holder,
    describe_station,
    describe_transaction_log,
    station_new,
)
from protocols.card import layout as card_layout
from protocols.card.codes import vehicle_class_label
from protocols.codings import time_bytes
from protocols.crypto import Algorithm
from protocols.errors import LocalProtocolError, RemoteProtocolError
from protocols.fields import Layout
from protocols.plates import PLATE_COLOURS, colour_of_text
from protocols.regions import REGIONS, region_factor, region_of_issuer, region_of_network

VECTOR_DIR = Path(__file__).parents[2] / "vectors"
VECTORS = {
    vector["id"]: vector
    for vector in map(json.loads, (VECTOR_DIR / "card-apdus.jsonl").read_text("utf-8").splitlines())
}


def content(vector: dict) -> bytes:
    """The file inside a vector: response without status word, bare file, or what a command writes."""
    if vector["kind"] == "file":
        return bytes.fromhex(vector["response_hex"])
    if vector["response_hex"] and len(vector["response_hex"]) > 4:
        return bytes.fromhex(vector["response_hex"])[:-2]
    data = bytes.fromhex(vector["command_hex"])[5:]
    return data[:-4] if vector["decoded"].get("mac4") else data


def holding(file: str) -> list:
    return [
        pytest.param(content(vector), vector["decoded"], id=vector["id"])
        for vector in VECTORS.values()
        if vector["decoded"].get("file") == file
    ]


STATIONS = holding("0019")


def day(text: str) -> date:
    return date(int(text[:4]), int(text[4:6]), int(text[6:]))


@pytest.mark.parametrize(("raw", "decoded"), holding("0015"))
def test_card_file_vector(raw, decoded):
    card = decode_card_file(raw)
    assert card.issuer == bytes.fromhex(decoded["issuer_id"])
    assert card.region == decoded["region"]
    assert card.card_type == decoded["card_type"]
    assert card.version == int(decoded["card_version"], 16)
    assert card.network == decoded["network"]
    assert card.inner_number == bytes.fromhex(decoded["inner_no"])
    assert card.card_number == decoded["card_no_20"]
    assert (card.starts, card.expires) == (day(decoded["start"]), day(decoded["expiry"]))
    assert card.plate == decoded["plate"]
    assert card.user_type == decoded["user_type"]
    if "tail_2" in decoded:
        assert card.free_pair == bytes.fromhex(decoded["tail_2"])
        assert (card.plate_colour, card.vehicle_class) == (None, None)
    else:
        assert card.free_pair is None
        assert (card.plate_colour, card.vehicle_class) == (decoded["plate_colour"], decoded["vehicle_class"])
    assert card.encode() == raw == card.raw


def test_card_file_vectors_cover_both_lengths_and_layouts():
    kinds = {(len(raw), "tail_2" in decoded) for raw, decoded in (param.values for param in holding("0015"))}
    assert kinds == {(43, True), (50, False)}


def test_a_43_byte_file_of_version_40_has_colour_and_class():
    raw = bytearray.fromhex(VECTORS["pub-sx-01"]["response_hex"])
    raw[9], raw[41], raw[42] = 0x41, 4, 1
    card = decode_card_file(bytes(raw))
    assert (card.plate_colour, card.vehicle_class, card.free_pair) == (4, 1, None)
    raw[9] = 0xFF
    unset = decode_card_file(bytes(raw))
    assert (unset.plate_colour, unset.free_pair) == (None, b"\x04\x01")
    assert any("version" in warning for warning in unset.warnings)


def test_antenna_padded_old_card_warns_about_colour_and_class():
    """The 50 bytes of a real B4 come from a 43-byte card of version 10."""
    frame = bytes.fromhex(rsu_vector("v3-b4-01"))
    data = frame[8:-2]
    card = decode_card_file(data[90:140])
    assert (card.card_number, card.plate) == ("37011901230211225128", "鲁L71R86")
    assert (card.plate_colour, card.vehicle_class) == (0, 1)
    assert (card.starts, card.expires) == (date(2020, 11, 24), date(2030, 11, 24))
    assert card.is_charge_card
    assert card.looks_like_etc
    assert any("issuer's own pair" in warning for warning in card.warnings)
    assert card.encode() == data[90:140]
    station = decode_station(data[140:183])
    assert station.layout is StationLayout.UNKNOWN
    assert station.warnings
    assert station.encode() == data[140:183]


def rsu_vector(name: str) -> str:
    for line in (VECTOR_DIR / "rsu-frames.jsonl").read_text("utf-8").splitlines():
        vector = json.loads(line)
        if vector["id"] == name:
            return vector["hex"]
    raise LookupError(name)


@pytest.mark.parametrize("length", [0, 1, 30, 42, 44, 49, 51])
def test_another_length_is_no_card_file(length):
    with pytest.raises(RemoteProtocolError, match="card file 0015"):
        decode_card_file(bytes(length))


def test_transit_card_of_the_same_application_id_is_refused():
    public = bytes.fromhex(VECTORS["pub-tr-01"]["decoded"]["tag_9F0C"])
    with pytest.raises(RemoteProtocolError, match="not an ETC card"):
        decode_card_file(public)


def test_odd_content_warns_and_decodes():
    card = decode_card_file(
        b"\x00" * 8 + b"\x33\x40\xab\xcd" + b"\xee" * 8 + b"\x20\x24\x13\x01" * 2 + b"\xfe" * 12 + b"\0cc"
    )
    assert (card.starts, card.expires, card.plate) == (None, None, "")
    assert not card.looks_like_etc
    assert card.plate_colour == 0x63
    found = " ".join(card.warnings)
    for word in ("issuer", "card_type", "network", "inner_number", "starts", "expires", "plate ", "plate_colour"):
        assert word in found
    assert card.encode() == card.raw


def test_changed_card_file_encodes_the_change_and_nothing_else():
    raw = content(VECTORS["pub-jy-02"])
    card = decode_card_file(raw)
    later = replace(card, expires=date(2039, 12, 31), plate="测A12345", plate_colour=None)
    again = decode_card_file(later.encode())
    assert (again.expires, again.plate, again.plate_colour) == (date(2039, 12, 31), "测A12345", None)
    changed = {i for i, (a, b) in enumerate(zip(raw, later.encode(), strict=True)) if a != b}
    assert changed <= {*range(24, 40), 41}
    assert {28, 41} <= changed
    assert replace(card, plate="").encode()[28:40] == bytes(12)


def test_what_does_not_fit_is_refused_without_showing_it():
    card = decode_card_file(content(VECTORS["pub-jy-02"]))
    with pytest.raises(LocalProtocolError, match="plate") as caught:
        replace(card, plate="测A1234567890").encode()
    assert "1234567890" not in str(caught.value)
    for changed in (
        replace(card, plate="测A😀"),
        replace(card, card_type=256),
        replace(card, network="43"),
        replace(card, issuer=b"short"),
        replace(card, plate_colour=-1),
    ):
        with pytest.raises(LocalProtocolError):
            changed.encode()


def test_new_card_file_matches_the_computed_one():
    raw = content(VECTORS["cmp-user-3des-exit-s03"])
    facts = {
        "issuer": bytes.fromhex("B2E2CAD499010001"),
        "card_type": 22,
        "network": "9901",
        "inner_number": bytes.fromhex("2301220100000001"),
        "starts": date(2024, 1, 1),
        "expires": date(2034, 1, 1),
        "plate": "测A12345",
    }
    assert card_file_new(**facts, version=0x40, plate_colour=0, vehicle_class=1) == raw
    assert card_file_new(**facts, version=0x40, plate_colour=0, vehicle_class=1, length=43) == raw[:43]
    old = card_file_new(**facts, version=0x10, free_pair=b"\x05\x01", length=43)
    assert decode_card_file(old).free_pair == b"\x05\x01"


@pytest.mark.parametrize(("version", "algorithm"), [(0x10, Algorithm.DES3), (0x51, Algorithm.SM4)])
def test_card_version_names_the_algorithm(version, algorithm):
    raw = bytearray(content(VECTORS["pub-jy-02"]))
    raw[9] = version
    assert decode_card_file(bytes(raw)).algorithm is algorithm


@pytest.mark.parametrize(("raw", "decoded"), STATIONS)
def test_station_vector(raw, decoded):
    station = decode_station(raw)
    assert station.encode() == raw == station.raw
    if "layout" not in decoded:
        assert station.layout is StationLayout.UNKNOWN
        assert station.plate == ""
        assert station.warnings
        return
    if decoded["network"] == "FFFF":
        assert station.layout is StationLayout.BLANK
        assert station.station_code is None
        assert station.warnings == ()
        return
    assert (station.network, station.station) == (decoded["network"], decoded["station"])
    assert station.station_code == decoded["network"] + decoded["station"]
    assert station.lane == decoded["lane"]
    assert station.unix_seconds == decoded["time_unix"]
    assert station.vehicle_class == decoded["vehicle_class"]
    assert station.status == int(decoded["status"], 16)
    if decoded["layout"] == "old":
        assert station.layout is StationLayout.OLD
        assert (station.staff, station.shift) == (bytes.fromhex(decoded["staff"]), decoded["shift"])
        assert station.plate == decoded["plate"]
        return
    assert station.layout is StationLayout.NEW
    assert station.last_gantry == bytes.fromhex(decoded["last_gantry"])
    assert station.gantry_unix_seconds == decoded["gantry_time_unix"]
    assert (station.plate, station.plate_colour) == (decoded["plate"], decoded["plate_colour"])
    assert (station.axles, station.weight_kg) == (decoded["axles"], decoded["weight_kg"])
    assert station.vehicle_state == int(decoded["vehicle_state"], 16)
    assert station.fee_fen == decoded["fee_fen"]
    rebuilt = station_new(
        network=station.network,
        station=station.station,
        lane=station.lane,
        unix_seconds=station.unix_seconds,
        vehicle_class=station.vehicle_class,
        status=station.status,
        plate=station.plate,
        plate_colour=station.plate_colour,
        last_gantry=station.last_gantry,
        gantry_unix_seconds=station.gantry_unix_seconds,
        axles=station.axles,
        weight_kg=station.weight_kg,
        vehicle_state=station.vehicle_state,
        fee_fen=station.fee_fen,
    )
    assert rebuilt == raw


def test_old_station_layout_from_a_published_command():
    vector = VECTORS["pub-pt-01"]
    raw, decoded = bytes.fromhex(vector["command_hex"])[5:], vector["decoded"]
    station = decode_station(raw)
    assert station.layout is StationLayout.OLD
    assert (station.network, station.station, station.lane) == ("0026", "0431", 51)
    assert station.unix_seconds == decoded["time_unix"]
    assert (station.vehicle_class, station.status) == (4, 3)
    assert station.flag_stations == bytes.fromhex(decoded["flags"])
    assert station.staff == bytes.fromhex(decoded["staff"])
    assert (station.shift, station.plate) == (2, decoded["plate"])
    assert (station.fee_fen, station.last_gantry, station.plate_colour) == (None, None, None)
    assert station.encode() == raw


def test_station_with_a_plate_in_both_places_is_unknown():
    record = bytearray(b"\xaa\x29\x00" + b"\x01" * 40)
    record[27:39] = "测A12345".encode("gbk").ljust(12, b"\0")
    assert decode_station(bytes(record)).layout is StationLayout.OLD
    record[21:27] = "测试AB".encode("gbk")  # runs on into the second plate and still looks like one
    both = decode_station(bytes(record))
    assert both.layout is StationLayout.UNKNOWN
    assert both.encode() == record
    record[21:23] = b"\xff\xfe"
    record[27] = 0
    neither = decode_station(bytes(record))
    assert neither.layout is StationLayout.UNKNOWN
    # What the layouts share is there all the same.
    assert (neither.network, neither.station, neither.lane, neither.status) == ("0101", "0101", 1, 1)
    assert neither.warnings


@pytest.mark.parametrize("plate", [b"", "默A00000".encode("gbk"), b"\xff" * 12])
def test_station_without_a_usable_plate_keeps_its_fields(plate):
    raw = bytearray(content(VECTORS["cmp-user-3des-exit-s04"]))
    whole = decode_station(bytes(raw))
    assert whole.layout is StationLayout.NEW
    raw[21:33] = plate.ljust(12, b"\0")
    found = decode_station(bytes(raw))
    assert found.layout is StationLayout.NEW
    for name in ("network", "station", "lane", "unix_seconds", "vehicle_class", "status", "fee_fen", "plate_colour"):
        assert getattr(found, name) == getattr(whole, name)
    assert any("plate at offset 21" in warning for warning in found.warnings)
    assert found.encode() == raw


def test_station_header_of_a_tag_without_card_is_noted():
    raw = bytearray(content(VECTORS["cmp-user-3des-exit-s04"]))
    raw[0] = 0xBB
    assert decode_station(bytes(raw)).warnings == ()
    raw[1] = 0x2A
    assert any("header" in warning for warning in decode_station(bytes(raw)).warnings)


def test_blank_station_in_both_fillings():
    for fill in (b"\x00", b"\xff"):
        station = decode_station(b"\xaa\x29\x00" + fill * 40)
        assert station.layout is StationLayout.BLANK
        assert (station.unix_seconds, station.plate) == (None, "")


@pytest.mark.parametrize("length", [0, 36, 40, 42, 44])
def test_another_length_is_no_station_record(length):
    with pytest.raises(RemoteProtocolError, match="station record"):
        decode_station(bytes(length))


REPORTS = [
    record
    for frame in map(json.loads, (VECTOR_DIR / "std-station-frames.jsonl").read_text("utf-8").splitlines())
    for record in frame["decoded"].get("records", ())
    if record["func"] == "B4"
]


@pytest.mark.parametrize("report", REPORTS, ids=range(len(REPORTS)))
def test_station_records_of_a_real_day(report):
    """Pseudonymised; the station's own program is the oracle."""
    raw, said = bytes.fromhex(report["f0019_hex"]), report["f0019"]
    found = decode_station(raw)
    assert found.encode() == raw
    if found.layout is StationLayout.BLANK:
        assert raw[3:] in (bytes(40), b"\xff" * 40)
        return
    assert found.layout is StationLayout.NEW
    assert (found.network, found.station, found.unix_seconds) == (
        said["network"].upper(),
        said["station"].upper(),
        said["unix"],
    )
    assert (found.vehicle_class or 0, found.status, found.plate) == (
        said["vehicle_class"],
        said["status"],
        said["plate"],
    )
    assert (found.fee_fen, found.last_gantry) == (said["fee_fen"], bytes.fromhex(said["gantry"]))


def test_the_road_network_centre_is_a_region():
    (card,) = {report["f0015_hex"] for report in REPORTS if report["f0015"]["network"] == "9901"} or {None}
    if card is not None:
        assert decode_card_file(bytes.fromhex(card)).region == "路网"
    assert region_of_issuer("路网".encode("gbk") + bytes.fromhex("99010001")).code == "99"


@pytest.mark.parametrize(("raw", "decoded"), holding("0018"))
def test_transaction_log_vector(raw, decoded):
    log = decode_transaction_log(raw)
    assert log.sequence == int(decoded["seq"], 16)
    assert (log.overdraft_fen, log.amount_fen) == (decoded["overdraft"], decoded["amount_fen"])
    assert log.trade_type == int(decoded["type"], 16)
    assert log.terminal == bytes.fromhex(decoded["terminal"])
    assert (log.day, log.time) == (day(decoded["date"]), decoded["time"])
    assert log.encode() == raw
    assert not log.is_blank
    assert log.warnings == ()


def test_unused_transaction_records_are_blank():
    for fill in (b"\x00", b"\xff"):
        log = decode_transaction_log(fill * 23)
        assert log.is_blank
        assert log.warnings == ()


def test_holder_vector():
    raw, decoded = content(VECTORS["cmp-0016-01"]), VECTORS["cmp-0016-01"]["decoded"]
    holder = decode_holder(raw)
    assert (holder.holder_name, holder.document_number) == (decoded["name"], decoded["id_no"])
    assert (holder.holder_type, holder.staff_flag, holder.document_type) == (0, 0, 0)
    assert replace(holder, document_type=1).encode() == raw[:-1] + b"\x01"
    assert decoded["id_no"] not in repr(holder)
    assert decoded["id_no"] not in json.dumps(describe_holder(raw))
    assert decoded["id_no"] in json.dumps(describe_holder(raw, unmask=True))


def test_plates_and_numbers_stay_out_of_repr():
    raw = content(VECTORS["cmp-user-3des-exit-s03"])
    shown = repr(decode_card_file(raw)) + repr(decode_station(content(VECTORS["cmp-user-3des-exit-s04"])))
    assert "12345" not in shown
    assert raw[12:20].hex() not in shown
    assert repr(raw[12:20]) not in shown


# --- descriptions ---------------------------------------------------------------------------------------------------

DESCRIBED = [
    (describe_card_file, content(VECTORS["cmp-user-3des-exit-s03"])),
    (describe_card_file, content(VECTORS["pub-yn-03"])),
    (describe_station, content(VECTORS["cmp-user-3des-exit-s04"])),
    (describe_station, bytes.fromhex(VECTORS["pub-pt-01"]["command_hex"])[5:]),
    (describe_station, content(VECTORS["pub-sd-02"])),
    (describe_station, b"\xaa\x29\x00" + b"\xff" * 40),
    (describe_transaction_log, content(VECTORS["cmp-user-3des-exit-s18"])),
    (describe_holder, bytes(55)),
]


@pytest.mark.parametrize(("describe", "raw"), DESCRIBED)
def test_description_covers_every_byte_once_and_is_json(describe, raw):
    lines = describe(raw)
    position = 0
    for line in lines:
        assert line.offset == position
        assert line.meaning
        position += line.length
    assert position == len(raw)
    assert json.loads(json.dumps(lines)) == [list(line) for line in lines]


def test_description_masks_by_default():
    raw = content(VECTORS["cmp-user-3des-exit-s03"])
    masked = {line.name: line.value for line in describe_card_file(raw)}
    assert (masked["plate"], masked["inner_number"]) == ("测A***45", "***0001")
    clear = {line.name: line.value for line in describe_card_file(raw, unmask=True)}
    assert (clear["plate"], clear["inner_number"]) == ("测A12345", "2301220100000001")
    words = {line.name: line.meaning for line in describe_card_file(raw)}
    assert words["card_type"].endswith("stored value")
    assert words["plate_colour"].endswith("blue")
    assert words["vehicle_class"].endswith("passenger class 1")


def test_description_shows_times_in_china_and_oddities():
    lines = {line.name: line for line in describe_station(content(VECTORS["cmp-user-3des-exit-s04"]))}
    assert lines["unix_seconds"].value == "1709258700 (2024-03-01 10:05:00 UTC+8)"
    assert lines["gantry_unix_seconds"].value == "0 (not set)"
    odd = {line.name: line for line in describe_card_file(bytes(43))}
    assert "odd" in odd["starts"].meaning


@pytest.mark.parametrize("describe", [describe_card_file, describe_station, describe_transaction_log, describe_holder])
def test_description_of_a_wrong_length_does_not_raise(describe):
    (line,) = describe(b"\x01\x02")
    assert line.length == 2
    assert "wanted" in line.meaning
    assert (line.value, describe(b"\x01\x02", unmask=True)[0].value) == ("***", "0102")


# --- every layout, any bytes ----------------------------------------------------------------------------------------


@given(st.binary(min_size=43, max_size=43) | st.binary(min_size=50, max_size=50))
def test_any_card_file_decodes_and_encodes_again(raw):
    assert decode_card_file(raw).encode() == raw
    assert describe_card_file(raw)


@given(st.binary(min_size=43, max_size=43))
def test_any_station_decodes_and_encodes_again(raw):
    assert decode_station(raw).encode() == raw
    assert describe_station(raw)


@given(st.binary(min_size=23, max_size=23), st.binary(min_size=55, max_size=55))
def test_any_log_and_holder_decode_and_encode_again(log, holder):
    assert decode_transaction_log(log).encode() == log
    assert decode_holder(holder).encode() == holder


LAYOUTS = {name: value for name, value in vars(card_layout).items() if isinstance(value, Layout)}
SIZES = {
    "CARD_FILE_OLD": 43,
    "CARD_FILE_SHORT": 43,
    "CARD_FILE_LONG": 50,
    "STATION_NEW": 43,
    "STATION_OLD": 43,
    "STATION_SHARED": 43,
    "STATION_BLANK": 43,
    "TRANSACTION_LOG": 23,
    "HOLDER": 55,
    "PSAM_ISSUE": 14,
    "PSAM_APPLICATION_SHORT": 25,
    "PSAM_APPLICATION_LONG": 27,
    "TRANSIT_FILE": 30,
    "STATION_YUNNAN": 43,
}


def test_every_layout_has_its_documented_size():
    assert {name: record.size for name, record in LAYOUTS.items()} == SIZES


def test_building_wants_exactly_the_layouts_fields():
    with pytest.raises(LocalProtocolError, match="free_pair"):
        card_layout.CARD_FILE_OLD.build(issuer=bytes(8))


# --- tables ---------------------------------------------------------------------------------------------------------


def test_regions_are_unique_and_their_text_is_four_bytes():
    assert len({region.zh for region in REGIONS}) == len(REGIONS) == 34
    assert all(len(region.text_bytes) == 4 and len(region.factor) == 8 for region in REGIONS)
    assert region_of_issuer(bytes.fromhex("BAFEC4CF43010001")).code == "43"
    assert region_of_network("9901").zh == "路网"
    assert region_of_network("0001") is None


def test_region_factor():
    assert region_factor(bytes.fromhex("B1B1BEA911010001")) == bytes.fromhex("B1B1BEA9B1B1BEA9")
    assert region_factor(bytes.fromhex("C9CFBAA331010001")) == bytes.fromhex("C9CFBAA3C9CFBAA3")
    assert region_factor(bytes.fromhex("BDF0D2E7BDF0D2E7")) == bytes.fromhex("BDF0D2E7BDF0D2E7")
    assert region_factor(bytes(8), "3701") == bytes.fromhex("C9BDB6ABC9BDB6AB")
    assert region_factor(bytes(8), "0001") == bytes(8)
    assert region_factor(bytes(8)) == bytes(8)


def test_codes():
    assert colour_of_text("蓝") == 0
    assert colour_of_text("黄色") == 1
    assert colour_of_text("紫") is None
    assert set(PLATE_COLOURS) == {0, 1, 2, 3, 4, 5, 6, 7, 9, 11, 12}
    assert vehicle_class_label(12).en == "truck class 2"
    assert vehicle_class_label(26).zh == "专项6"
    assert [vehicle_class_label(odd) for odd in (0, 7, 10, 17, 20, 27, 31, 255)] == [None] * 8


@pytest.mark.parametrize(
    "text", ["", "2024030111301", "20240301113060", "20240231000000", "2024030111301x", "２０２４０３０１１１３０１５"]
)
def test_no_such_time(text):
    with pytest.raises(LocalProtocolError, match="time"):
        time_bytes(text)


def test_time_bytes():
    assert time_bytes("20240301113015") == bytes.fromhex("20240301113015")
