"""OBU files, status and the real B4 of a pcrsu-v3 antenna."""

import json
from dataclasses import replace
from datetime import date
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocols.crypto import Algorithm
from protocols.errors import LocalProtocolError, RemoteProtocolError
from protocols.fields import Layout
from protocols.obu import (
    VehicleForm,
    decode_obu_status,
    decode_system_info,
    decode_vehicle_file,
    describe_obu_status,
    describe_system_info,
    describe_vehicle_file,
    obu_status_new,
    system_info_new,
    truck_file_new,
    vehicle_file_new,
)
from protocols.obu import commands as obu_commands
from protocols.obu import layout as obu_layout
from protocols.obu.status import CPC_CARD, ONE_PIECE, TWO_PIECE

VECTOR_DIR = Path(__file__).parents[2] / "vectors"


def load(name: str) -> dict:
    lines = (VECTOR_DIR / name).read_text("utf-8").splitlines()
    return {vector["id"]: vector for vector in map(json.loads, lines)}


CARDS, CRYPTO, RSU = load("card-apdus.jsonl"), load("crypto-vectors.jsonl"), load("rsu-frames.jsonl")
SYSTEMS = [
    pytest.param(bytes.fromhex(v["response_hex"])[: -2 if v["kind"] == "apdu" else None], v["decoded"], id=i)
    for i, v in CARDS.items()
    if v["decoded"].get("file", "").startswith("MF EF01")
]


def vehicle(vector_id: str) -> bytes:
    vector = CRYPTO[vector_id]
    return bytes.fromhex(vector["inputs"].get("vehicle_info") or vector["expected"]["vehicle_info_59"])


@pytest.mark.parametrize(("raw", "decoded"), SYSTEMS)
def test_system_info_vector(raw, decoded):
    system = decode_system_info(raw)
    assert system.issuer == bytes.fromhex(decoded["issuer_id"])
    assert system.contract_type == int(decoded["contract_type"], 16)
    assert system.version == int(decoded["version"], 16)
    assert system.contract_number == decoded["serial"]
    for found, text in ((system.starts, decoded["sign"]), (system.expires, decoded["expiry"])):
        assert found == (None if text == "00000000" else date.fromisoformat(text))
    assert system.mount_flag == (int(decoded["tamper_flag"], 16) if "tamper_flag" in decoded else None)
    assert system.algorithm is (Algorithm.SM4 if decoded["version"] == "51" else Algorithm.DES3)
    assert system.encode() == raw == system.raw
    assert system.contract_number not in repr(system)


def test_system_info_vectors_cover_both_lengths():
    assert {len(param.values[0]) for param in SYSTEMS} == {26, 27}


def test_system_info_warnings():
    system = decode_system_info(bytes.fromhex("B9E3B6AB44010001010286030002200479E10000000000000000"))
    assert system.region == "广东"
    assert {warning.split()[0] for warning in system.warnings} == {"contract_serial", "starts", "expires"}
    strange = decode_system_info(b"\x01" * 26 + b"\x07")
    assert {warning.split()[0] for warning in strange.warnings} == {"issuer", "mount_flag"}
    assert (strange.region, strange.encode()) == ("", strange.raw)


def test_new_system_info_matches_the_computed_one():
    raw = bytes.fromhex(CARDS["cmp-obu-sm4-car79-s03"]["response_hex"])[:-2]
    built = system_info_new(
        issuer=bytes.fromhex("B2E2CAD499010001"),
        contract_serial=bytes.fromhex("9901230100000003"),
        starts=date(2024, 1, 1),
        expires=date(2034, 1, 1),
        version=0x51,
    )
    assert built == raw
    assert decode_system_info(built).region_factor == bytes.fromhex("B2E2CAD4B2E2CAD4")
    one_piece = replace(decode_system_info(built), version=0x52, mount_flag=0)
    again = decode_system_info(one_piece.encode())
    assert (again.is_one_piece, again.mount_flag, again.algorithm) == (True, 0, Algorithm.SM4)


@pytest.mark.parametrize("length", [0, 25, 28, 99])
def test_another_length_is_no_system_info(length):
    with pytest.raises(RemoteProtocolError, match="26 or 27"):
        decode_system_info(bytes(length))


# --- vehicle file ---------------------------------------------------------------------------------------------------


def test_real_vehicle_file_with_colour_as_text():
    raw = vehicle("pub-obu-veh-01")
    found = decode_vehicle_file(raw)
    assert found.form is VehicleForm.CAR
    assert (found.plate, found.plate_colour) == ("粤A12345", 0)  # C0B6 is 蓝
    assert (found.vehicle_class, found.user_type) == (0, 2)
    assert (found.length_mm, found.width_mm, found.height_mm) == (370_000, 1800, 1300)
    assert (found.wheels, found.axles, found.wheelbase_mm) == (4, 2, 1700)
    assert (found.load_or_seats, found.feature, found.engine) == (400, "AAA", "BBB")
    assert found.encode() == raw
    assert "12345" not in repr(found)


def test_real_b4_frame():
    data = bytes.fromhex(RSU["v3-b4-01"]["hex"])[8:-2]
    found = decode_vehicle_file(data[7:86])
    assert (found.plate, found.plate_colour) == ("鲁L71R86", 0)
    assert (found.vehicle_class, found.user_type, found.form) == (1, 0, VehicleForm.CAR)
    assert (found.length_mm, found.width_mm, found.height_mm) == (6700, 2300, 2000)
    assert (found.wheels, found.axles, found.wheelbase_mm, found.load_or_seats) == (4, 2, 3800, 5)
    assert any("feature" in warning for warning in found.warnings)
    assert found.encode() == data[7:86]


def test_computed_cars_and_truck():
    car = decode_vehicle_file(vehicle("cmp-3des-obu-veh-01"))
    assert (car.plate, car.plate_colour, car.vehicle_class) == ("测A12345", 0, 1)
    assert (car.length_mm, car.width_mm, car.height_mm, car.wheelbase_mm) == (4900, 1800, 1500, 2600)
    assert (car.feature, car.engine, car.load_or_seats) == ("BENCH-CAR", "ENG0000001", 5)
    padded = decode_vehicle_file(vehicle("cmp-sm4-obu-veh-03"))
    assert (padded.form, padded.plate, padded.plate_colour) == (VehicleForm.CAR, "测AD00001", 4)
    assert (padded.engine, padded.vin) == ("NEV123456", None)
    truck = decode_vehicle_file(vehicle("cmp-3des-obu-veh-02"))
    assert (truck.form, truck.plate, truck.vehicle_class) == (VehicleForm.TRUCK, "测B54321", 12)
    assert (truck.length_mm, truck.width_mm, truck.height_mm) == (9000, 2500, 3990)
    assert (truck.approved_load_kg, truck.curb_mass_kg, truck.gross_mass_kg) == (8000, 7500, 15995)
    assert (truck.persons, truck.vin, truck.feature) == (3, "LBENCH00000000001", "BENCH-TRUCK")
    head = decode_vehicle_file(vehicle("cmp-3des-obu-veh-04"))
    assert (head.form, head.plate, head.length_mm, head.engine) == (VehicleForm.HEAD, "测A12345", None, None)
    for found in (car, padded, truck, head):
        assert found.encode() == found.raw
        assert found.warnings == ()


def test_the_length_field_tells_a_truck_form():
    """Neither the class nor the VIN does: both are odd on real trucks."""
    raw = bytearray(vehicle("cmp-3des-obu-veh-02"))
    raw[16:18] = (300).to_bytes(2, "big")
    for vehicle_class in (1, 11, 21):
        raw[14] = vehicle_class
        assert decode_vehicle_file(bytes(raw)).form is VehicleForm.TRUCK
    raw[32:49] = bytes(8) + bytes.fromhex("8F01A2B3C4D5E6F708")
    binary = decode_vehicle_file(bytes(raw))
    assert (binary.form, binary.vin, binary.warnings) == (VehicleForm.TRUCK, "", ())
    assert binary.encode() == raw
    raw[16:18] = (299).to_bytes(2, "big")
    assert decode_vehicle_file(bytes(raw)).form is VehicleForm.CAR
    assert decode_vehicle_file(bytes(raw[:59])).form is VehicleForm.CAR


def test_a_file_never_written_is_no_truck():
    assert decode_vehicle_file(b"\xff" * 79).form is VehicleForm.CAR


def test_new_vehicle_files_match_the_computed_ones():
    car = vehicle_file_new(
        plate="测A12345",
        plate_colour=0,
        vehicle_class=1,
        length_mm=4900,
        width_mm=1800,
        height_mm=1500,
        wheelbase_mm=2600,
        feature="BENCH-CAR",
        engine="ENG0000001",
        size=59,
    )
    assert car == vehicle("cmp-3des-obu-veh-01")
    truck = truck_file_new(
        plate="测B54321",
        plate_colour=1,
        vehicle_class=12,
        vin="LBENCH00000000001",
        length_mm=9000,
        width_mm=2500,
        height_mm=3990,
        approved_load_kg=8000,
        curb_mass_kg=7500,
        gross_mass_kg=15995,
        persons=3,
        feature="BENCH-TRUCK",
    )
    assert truck == vehicle("cmp-3des-obu-veh-02")
    assert len(vehicle_file_new(plate="测A12345", plate_colour=4, vehicle_class=1)) == 79


@pytest.mark.parametrize(
    ("word", "colour", "odd"),
    [
        ("0001", 1, False),
        ("000B", 11, False),
        ("BBC6", 1, False),
        ("BADA", 2, False),
        ("B0D7", 3, False),
        ("0008", 8, True),
        ("00FF", None, True),
        ("FFFF", None, False),
        ("D7CF", None, True),
        ("8130", None, True),
    ],
)
def test_plate_colour_as_number_or_text(word, colour, odd):
    raw = bytearray(vehicle("cmp-3des-obu-veh-01"))
    raw[12:14] = bytes.fromhex(word)
    found = decode_vehicle_file(bytes(raw))
    assert found.plate_colour == colour
    assert any("plate_colour" in warning for warning in found.warnings) == odd
    assert found.encode() == raw


def test_undecodable_plate_is_empty_with_a_warning():
    raw = b"\xfe\xfe\xfe" + vehicle("cmp-3des-obu-veh-01")[3:]
    found = decode_vehicle_file(raw)
    assert found.plate == ""
    assert any("plate at offset 0" in warning for warning in found.warnings)
    assert found.encode() == raw


def test_text_ends_at_the_first_zero():
    raw = bytearray(vehicle("cmp-3des-obu-veh-01"))
    raw[10:12] = b"XY"
    found = decode_vehicle_file(bytes(raw))
    assert found.plate == "测A12345"
    assert found.warnings == ("plate at offset 0 has bytes behind its end",)
    assert found.encode() == raw


def test_changed_vehicle_file():
    found = decode_vehicle_file(vehicle("pub-obu-veh-01"))
    again = decode_vehicle_file(replace(found, plate_colour=4, length_mm=3700).encode())
    assert (again.plate_colour, again.length_mm, again.plate) == (4, 3700, "粤A12345")
    with pytest.raises(LocalProtocolError, match="length_mm"):
        replace(found, length_mm=3750).encode()
    assert decode_vehicle_file(replace(found, plate_colour=None).encode()).plate_colour is None


@pytest.mark.parametrize("length", [0, 15, 17, 58, 60, 78, 80])
def test_another_length_is_no_vehicle_file(length):
    with pytest.raises(RemoteProtocolError, match="16, 59 or 79"):
        decode_vehicle_file(bytes(length))


@given(st.sampled_from([16, 59, 79]).flatmap(lambda size: st.binary(min_size=size, max_size=size)))
def test_any_vehicle_file_decodes_and_encodes_again(raw):
    assert decode_vehicle_file(raw).encode() == raw


@given(st.sampled_from([26, 27]).flatmap(lambda size: st.binary(min_size=size, max_size=size)))
def test_any_system_info_decodes_and_encodes_again(raw):
    assert decode_system_info(raw).encode() == raw


def test_every_layout_has_its_documented_size():
    sizes = {name: value.size for name, value in vars(obu_layout).items() if isinstance(value, Layout)}
    assert sizes == {
        "SYSTEM_SHORT": 26,
        "SYSTEM_LONG": 27,
        "VEHICLE_HEAD": 16,
        "VEHICLE_59": 59,
        "VEHICLE_79": 79,
        "VEHICLE_TRUCK": 79,
        "ROUTE": 91,
    }


# --- status ---------------------------------------------------------------------------------------------------------


def test_status_of_a_real_good_tag():
    status = decode_obu_status(bytes.fromhex("2001"))
    assert (status.card_present, status.contactless, status.logic_card, status.card_error) == (True, True, False, False)
    assert (status.locked, status.tampered, status.battery_low, status.mount_flag) == (False, False, False, 1)
    assert status.encode() == bytes.fromhex("2001")


@pytest.mark.parametrize(
    ("bits", "flag"),
    [
        (0x80, "card_present"),
        (0x10, "logic_card"),
        (0x08, "card_error"),
        (0x04, "locked"),
        (0x02, "tampered"),
        (0x01, "battery_low"),
        (0x20, "contactless"),
    ],
)
def test_each_status_bit(bits, flag):
    normal = decode_obu_status(bytes((0, 1)))
    found = decode_obu_status(bytes((bits, 1)))
    changed = {
        name
        for name in ("card_present", "contactless", "logic_card", "card_error", "locked", "tampered", "battery_low")
        if getattr(normal, name) != getattr(found, name)
    }
    assert changed == {flag}


def test_status_depends_on_the_device():
    one_piece = decode_obu_status(b"\x87\x00", ONE_PIECE)
    assert (one_piece.card_present, one_piece.card_error) == (None, None)
    assert (one_piece.locked, one_piece.tampered, one_piece.battery_low) == (True, True, True)
    cpc = decode_obu_status(b"\x80\x00", CPC_CARD)
    assert (cpc.card_present, cpc.locked, cpc.tampered, cpc.battery_low) == (None, None, None, True)
    assert not decode_obu_status(b"\x01\x00", CPC_CARD).battery_low


def test_new_status():
    assert obu_status_new() == bytes.fromhex("2001")
    assert obu_status_new(TWO_PIECE, card_present=False, tampered=True, mount_flag=0) == bytes.fromhex("A200")
    assert obu_status_new(ONE_PIECE, card_present=False, locked=True) == bytes.fromhex("0401")
    assert obu_status_new(CPC_CARD, battery_low=True, mount_flag=0) == bytes.fromhex("8000")
    assert obu_status_new(battery_low=True, card_error=True, contactless=False) == bytes.fromhex("0901")
    with pytest.raises(LocalProtocolError):
        obu_status_new(mount_flag=256)


def test_status_of_another_length_is_refused():
    with pytest.raises(RemoteProtocolError, match="OBU status"):
        decode_obu_status(b"\x20")


# --- descriptions and commands --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("describe", "raw"),
    [
        (describe_vehicle_file, vehicle("cmp-3des-obu-veh-01")),
        (describe_vehicle_file, vehicle("cmp-3des-obu-veh-02")),
        (describe_vehicle_file, vehicle("cmp-sm4-obu-veh-03")),
        (describe_vehicle_file, vehicle("cmp-3des-obu-veh-04")),
        (describe_system_info, SYSTEMS[0].values[0]),
        (describe_obu_status, b"\x20\x01"),
        (describe_vehicle_file, b"\x01"),
        (describe_system_info, b"\x01"),
        (describe_obu_status, b"\x01"),
    ],
)
def test_description_covers_every_byte_once_and_is_json(describe, raw):
    lines = describe(raw)
    assert [line.offset for line in lines] == [sum(line.length for line in lines[:n]) for n in range(len(lines))]
    assert sum(line.length for line in lines) == len(raw)
    assert json.loads(json.dumps(lines)) == [list(line) for line in lines]


def test_description_words_and_masks():
    lines = {line.name: line for line in describe_vehicle_file(vehicle("cmp-3des-obu-veh-02"))}
    assert (lines["plate"].value, lines["vin"].value) == ("测B***21", "***0001")
    assert lines["plate_colour"].meaning == "plate colour: yellow"
    assert lines["vehicle_class"].meaning == "vehicle class: truck class 2"
    status = describe_obu_status(b"\xa2\x00")[0].meaning
    assert "no card" in status
    assert "tampered" in status
    assert describe_obu_status(b"\x00\x00", ONE_PIECE)[0].meaning == "not locked, not tampered, battery normal"
    assert describe_obu_status(b"\x80\x00", CPC_CARD)[0].meaning == "battery low"


def test_obu_commands_match_the_sessions():
    def command(step: str) -> bytes:
        return bytes.fromhex(CARDS[step]["command_hex"])

    assert obu_commands.read_obu_id().encode() == command("cmp-obu-3des-car-s02")
    assert obu_commands.read_system_info().encode() == command("cmp-obu-3des-car-s03")
    for name, random, length, algorithm in (
        ("3des-car", "40EB7DADB87F5E0E", 59, Algorithm.DES3),
        ("sm4-car79", "A0A1A2A3A4A5A6A7", 79, Algorithm.SM4),
    ):
        built = obu_commands.read_vehicle(bytes.fromhex(random), length, algorithm)
        assert built.encode() == command(f"cmp-obu-{name}-s05")
    assert obu_commands.set_mount_flag(1).encode() == bytes.fromhex("04D6811A0101")


STATION_FRAMES = Path(__file__).parents[2] / "vectors" / "std-station-frames.jsonl"
REPORTS = [
    record
    for frame in map(json.loads, STATION_FRAMES.read_text("utf-8").splitlines())
    for record in frame["decoded"].get("records", ())
    if record["func"] == "B4"
]


@pytest.mark.parametrize("report", REPORTS, ids=range(len(REPORTS)))
def test_vehicle_files_of_a_real_day(report):
    """Pseudonymised; the station's own program is the oracle for the form and the numbers."""
    raw = bytes.fromhex(report["vehicle_hex"])[:79]
    said, found = report["vehicle"], decode_vehicle_file(raw)
    assert found.encode() == raw
    if said["class"] == 0xFF:
        assert found.form is VehicleForm.CAR
        return
    assert found.form is (VehicleForm.TRUCK if said["form"] == "mm" else VehicleForm.CAR)
    assert (found.plate, found.vehicle_class, found.user_type) == (said["plate"], said["class"], said["user_type"])
    for name in ("length_mm", "width_mm", "height_mm", "approved_load_kg", "persons"):
        if name in said:
            assert getattr(found, name) == said[name]


def test_the_real_day_has_trucks_with_a_vin_in_letters_and_in_bytes():
    trucks = [decode_vehicle_file(bytes.fromhex(one["vehicle_hex"])[:79]) for one in REPORTS]
    vins = {bool(one.vin) for one in trucks if one.form is VehicleForm.TRUCK}
    assert vins == {True, False}
