"""The bench's own antenna decoder agrees with the vectors, and shares nothing with the product's codec."""

import ast
import json
from pathlib import Path

import pytest

import hardware.bench.wire_rsu as module
from hardware.bench.wire_rsu import crc, orders, read_capture, read_frames, read_wire
from tests.protocols.rsu.samples import GOOD, LEGACY_GOOD, legacy, v3, vector

V3 = [item for item in GOOD if item.dialect == "pcrsu-v3"]
PUBLISHED = {"b2-01", "b4-01"}
"""Stated in words of their own; tested by hand."""
READ = PUBLISHED | {
    *("b2-37", "b2-one-piece", "b2-cpc", "b4-183", "b4-183-negative", "b4-274", "b4-cpc-64"),
    *("b4-error-01", "b5-36", "b5-36-error-01", "b5-cpc-20", "b8", "c1-ex", "c1-bench", "c2-ex", "c2-6"),
    *("c6-67", "c6-159", "c6-164", "c6-174", "c8-7", "c8-22", "c8-104"),
}
NAMES = {
    "obu_id": "obu_id",
    "error": "error",
    "device_type": "device_type",
    "contract": "serial",
    "amount_fen": "amount_fen",
    "station": "station",
    "terminal": "terminal",
    "tac": "tac",
    "card_serial": "card_serial",
    "psam_serial": "psam_serial",
    "balance_raw": "balance_raw",
    "stop_type": "stop_type",
}
"""Our field to the vectors'."""


def shown(value):
    return value.hex() if isinstance(value, bytes) else value


def test_it_is_independent():
    tree = ast.parse(Path(module.__file__).read_text(encoding="utf-8"))
    imported = {
        name
        for node in ast.walk(tree)
        if isinstance(node, ast.Import | ast.ImportFrom)
        for name in ([node.module] if isinstance(node, ast.ImportFrom) else [alias.name for alias in node.names])
    }
    assert imported == {
        *("__future__", "bisect", "collections", "collections.abc", "dataclasses", "functools"),
        *("json", "pathlib", "re", "struct"),
    }


def test_check_value_of_the_checksum():
    assert crc(b"123456789") == 0x906E


@pytest.mark.parametrize("name", sorted(READ - PUBLISHED))
def test_vectors_read_as_stated(name):
    sample = vector(f"v3-{name}")
    read = read_wire(sample.raw)
    assert (f"{read.code:02x}", f"{read.sequence:02x}") == (sample.decoded["type"], sample.decoded["seq"])
    stated = sample.decoded
    for ours, theirs in NAMES.items():
        value = getattr(read, ours)
        if value is not None:
            assert shown(value) == stated[theirs], ours
    time = stated.get("purchase_time_bcd") or stated.get("trans_time_bcd")
    assert read.time == time


def test_published_frames_of_a_real_antenna():
    found = read_wire(vector("v3-b2-01").raw)
    assert (found.obu_id.hex(), found.error, found.device_type) == ("652bc7a3", 0, 1)
    assert found.contract.hex() == "3701012023109155"
    user = read_wire(vector("v3-b4-01").raw)
    assert (user.obu_id.hex(), user.error, user.balance_raw) == ("652bc7a3", 0, 0xFA0A1E33)
    assert user.card_number == "37011901230211225128"
    assert user.station[:3].hex() == "aa2900"


def test_no_field_is_left_out_where_the_type_has_it():
    order = read_wire(vector("v3-c6-67").raw)
    assert (order.amount_fen, order.time, order.station[:3].hex()) == (3000, "20240301113015", "aa2900")
    assert read_wire(vector("v3-c6-174").raw).station == order.station
    result = read_wire(vector("v3-b5-36").raw)
    assert (result.error, result.tac.hex(), result.card_serial) == (0, "f48a6336", 2)
    assert (result.psam_serial, result.balance_raw, result.terminal.hex()) == (2, 47000, "019900000001")
    assert read_wire(vector("v3-b5-cpc-20").raw).tac is None
    proof = read_wire(vector("v3-b8").raw)
    assert (proof.tac.hex(), proof.balance_raw) == ("f48a6336", 47000)
    assert read_wire(vector("v3-c8-7").raw).card_serial == 2
    assert read_wire(vector("v3-b4-274").raw).card_number == read_wire(vector("v3-b4-183").raw).card_number


@pytest.mark.parametrize("sample", V3, ids=lambda sample: sample.id)
def test_every_good_frame_is_found_between_garbage(sample):
    if sample.data[:1] and sample.data[0] in module._LENGTHS and sample.id[3:] not in READ:
        with pytest.raises(ValueError, match="bytes, known are"):
            read_wire(sample.raw)
        return
    stream = b"\xff\xff\x00\x10\x00\x00\x00\x40\xff" + sample.raw + b"\xff" + sample.raw + sample.raw[:5]
    frames = list(read_frames(stream))
    assert [frame.raw for frame in frames] == [sample.raw, sample.raw]
    assert [frame.repeat for frame in frames] == [False, True]


def test_a_wrong_check_is_no_frame():
    assert list(read_frames(vector("v3-c0-badcrc").raw)) == []
    with pytest.raises(ValueError, match="not one frame"):
        read_wire(vector("v3-c0-badcrc").raw)


def test_a_capture_is_read_by_time_whatever_the_pieces(tmp_path):
    first, second, report = vector("v3-c6-67").raw, v3(0x20, vector("v3-c6-67").data), vector("v3-b5-36").raw
    pieces = [
        ("00:01", "in", "a", first[:20]),
        ("00:02", "out", "a", report),
        ("00:03", "in", "a", first[20:] + first),
        ("00:04", "in", "b", second),
    ]
    lines = [json.dumps({"t": t, "dir": way, "peer": peer, "hex": data.hex()}) for t, way, peer, data in pieces]
    path = tmp_path / "capture.jsonl"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    frames = read_capture(path)
    assert [(frame.at, frame.direction, frame.code, frame.repeat) for frame in frames] == [
        ("00:02", "out", 0xB5, False),
        ("00:03", "in", 0xC6, False),
        ("00:03", "in", 0xC6, True),
        ("00:04", "in", 0xC6, False),
    ]
    assert [frame.raw for frame in orders(frames)] == [first, second]


# --- serial dialects ------------------------------------------------------------------------------------------------

BJ = "legacy-serial-bj"
STATED = [item for item in LEGACY_GOOD if "seq" in item.decoded]
"""Those with the names of our messages; frames published with words of their own are tested by hand."""


@pytest.mark.parametrize("sample", STATED, ids=lambda sample: sample.id)
def test_serial_vectors_read_as_stated(sample):
    stated = sample.decoded
    read = read_wire(sample.raw, sample.dialect)
    assert (read.sequence, read.code) == (int(stated["seq"], 16), int(stated.get("type", "00"), 16))
    if read.code not in module._SERIAL_READERS:
        assert read.obu_id == b""
        return
    if read.code == 0xB2 and "serial" not in stated:
        assert (read.obu_id, read.contract) == (b"", None)  # a heartbeat tells of no OBU
        return
    for ours, theirs in NAMES.items():
        assert shown(getattr(read, ours)) == stated.get(theirs), ours
    assert read.time == (stated.get("purchase_time_bcd") or stated.get("trans_time_bcd"))


def test_published_frames_of_a_real_serial_antenna():
    assert read_wire(vector("leg-b2-01").raw, BJ).contract.hex() == "1234567887654321"
    user = read_wire(vector("leg-b4-01").raw, BJ)
    assert (user.obu_id.hex(), user.error, user.balance_raw) == ("6a81353e", 0, 9999)
    assert (user.card_number, user.station[:3].hex()) == ("11011234567887654321", "aa2900")
    result = read_wire(vector("leg-b5-01").raw, BJ)
    assert (result.terminal.hex(), result.time, result.tac.hex()) == ("37" * 6, "20200827112228", "613c67b6")
    assert (result.card_serial, result.psam_serial, result.balance_raw) == (18, 17, 9999)


def test_serial_frames_between_garbage_and_with_a_shared_mark():
    order, result = vector("bj-c6-escaped").raw, vector("bj-b5-escaped").raw
    bad = bytearray(vector("bj-b5").raw)
    bad[9] ^= 0x01
    # The FF that ends one frame begins the mark of the next; FE before 02 is no escape, whatever the check says.
    stream = b"\xff\xff\xff" + order[2:] + order[1:] + bytes(bad) + b"\xff\xff\xfe\x02\xfc\xff" + result + order[:9]
    frames = list(read_frames(stream, BJ))
    assert [frame.raw for frame in frames] == [order, order, result]
    assert [frame.repeat for frame in frames] == [False, True, False]
    with pytest.raises(ValueError, match="not one frame"):
        read_wire(bytes(bad), BJ)


def test_one_start_mark_or_two():
    data = vector("bj-c6").data
    single = legacy(0x84, data, stx=b"\xff")
    assert read_wire(single, "legacy-single-ff").amount_fen == read_wire(vector("bj-c6").raw, BJ).amount_fen == 3000
    assert list(read_frames(single, BJ)) == []


def test_a_serial_frame_of_an_unknown_length_or_dialect():
    with pytest.raises(ValueError, match=r"C6 of 30 bytes, known are \[64, 68\]"):
        read_wire(legacy(0x84, b"\xc6" + bytes(29)), BJ)
    with pytest.raises(ValueError, match="no dialect 'morse'"):
        list(read_frames(b"", "morse"))


def test_a_number_comes_round_after_eight_frames():
    order = vector("bj-c6").raw
    others = [legacy(0x80 + number, b"\xc1" + bytes(12)) for number in range(7)]
    assert [frame.repeat for frame in read_frames(order + b"".join(others) + order, BJ)] == [False] * 9
    assert next(reversed(list(read_frames(order + b"".join(others[1:]) + order, BJ)))).repeat


def test_a_serial_frame_that_lost_zeros_is_passed_over():
    """XOR does not see a lost zero: FF FF, sequence, C1 with a tag's number, check, FF."""
    whole = bytes.fromhex("ffff87c19900002eb2e2cad4b2e2cad4f1ff")
    hurt = whole.replace(b"\x00\x00", b"")
    assert [frame.code for frame in read_frames(whole, BJ)] == [0xC1]
    assert [frame.raw for frame in read_frames(hurt + whole, BJ)] == [whole]
    with pytest.raises(ValueError, match="C1 of 11 bytes"):
        read_wire(hurt, BJ)
