"""Describing a frame: every byte has a field, every value its meaning, every fault its place and a next step."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocols.errors import RemoteProtocolError
from protocols.rsu.describe import FieldDescription, FrameDescription, describe_frame
from protocols.rsu.meanings_v3 import B4_ERRORS, B5_ERRORS, B8_ERRORS, fen_text, obu_status
from protocols.rsu.messages import UserReport
from protocols.rsu.registry import dialect_named
from tests.protocols.rsu.samples import ALL_GOOD, ALL_VECTORS, LEGACY_GOOD, Vector, legacy, v3, vector

V3 = dialect_named("pcrsu-v3")
BJ = dialect_named("legacy-serial-bj")


def leaves(fields: tuple[FieldDescription, ...]) -> list[FieldDescription]:
    return [leaf for field in fields for leaf in (leaves(field.fields) if field.fields else [field])]


def field(description: FrameDescription, name: str) -> FieldDescription:
    def search(fields: tuple[FieldDescription, ...]) -> FieldDescription | None:
        for one in fields:
            found = one if one.name == name else search(one.fields)
            if found is not None:
                return found
        return None

    found = search(description.fields)
    assert found is not None, name
    return found


def named(sample: str) -> FrameDescription:
    return described(vector(sample))


def described(sample: Vector) -> FrameDescription:
    return describe_frame(dialect_named(sample.dialect), sample.raw)


@pytest.mark.parametrize("sample", ALL_VECTORS, ids=lambda v: v.id)
def test_fields_tile_the_frame(sample: Vector) -> None:
    """Offset and length of every field are those in the frame as it came, escaped or not."""
    at = 0
    for leaf in leaves(described(sample).fields):
        assert leaf.offset == at, leaf.name
        on_link = sample.raw[at : at + leaf.length]
        assert leaf.raw in (on_link, on_link.replace(b"\xfe\x01", b"\xff").replace(b"\xfe\x00", b"\xfe"))
        at += leaf.length
    assert at == len(sample.raw)


@pytest.mark.parametrize("sample", ALL_GOOD, ids=lambda v: v.id)
def test_good_frame_has_no_problem_and_every_field_a_meaning(sample: Vector) -> None:
    description = described(sample)
    assert description.ok
    assert description.sender == {"pc->rsu": "lane", "rsu->pc": "rsu"}[sample.direction] or not description.code
    assert description.message == type(dialect_named(sample.dialect).decode(sample.data)).__name__
    assert all(leaf.meaning or "[" in leaf.name for leaf in leaves(description.fields))


@pytest.mark.parametrize("sample", ALL_VECTORS, ids=lambda v: v.id)
def test_as_dict_is_json_and_holds_every_field(sample: Vector) -> None:
    description = described(sample)
    again = json.loads(json.dumps(description.as_dict()))
    assert again["raw"] == sample.raw.hex()
    assert again["ok"] == description.ok
    assert [row["name"] for row in again["fields"]] == [one.name for one in description.fields]
    assert set(again["fields"][0]) == {
        "offset", "length", "raw", "name", "value", "meaning", "problem", "hint", "private", "fields",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("sample", "name", "meaning"),
    [
        ("v3-b0-01", "psams[0].auth", "not authorised"),
        ("v3-b0-01", "manufacturer_id", "WanJi"),
        ("v3-b1-01", "control_status[1]", "slave fault"),
        ("v3-b1-01", "antennas[0].channel", "channel 1"),
        ("v3-b1-declared", "psams2[0].run", "fault"),
        ("v3-b2-01", "issuer", "山东"),
        ("v3-b2-01", "device_type", "two-piece"),
        (
            "v3-b2-01",
            "status",
            "card in the tag, contactless card interface, CPU card, card normal, not locked, not tampered",
        ),
        ("v3-b2-01", "expires", "2030-11-24"),
        ("v3-b2-one-piece", "status", "not locked, not tampered, battery low; mount flag 01"),
        ("v3-b2-cpc", "status", "battery low"),
        ("v3-b4-01", "balance_raw", "-999999.49 yuan"),
        ("v3-b4-183", "balance_raw", "500.00 yuan"),
        ("v3-b4-error-01", "error", "no answer over the air"),
        ("v3-b5-36", "trans_time_bcd", "2024-03-01 11:30:15"),
        ("v3-b5-36", "algorithm", "3DES"),
        ("v3-b5-36-error-01", "error", "ask for its TAC"),
        ("v3-b5-36-error-01", "balance_raw", "not read"),
        ("v3-c0-ex", "unix_seconds", "2024-01-01 00:00:00 UTC"),
        ("v3-c2-ex", "stop_type", "search again"),
        ("v3-c4-01", "on", "radio on"),
        ("v3-c6-67", "amount_fen", "30.00 yuan"),
        ("v3-b2-01", "SEQ", "report 2 of the antenna"),
        ("v3-c4-01", "SEQ", "command of the lane computer"),
        ("bj-c0-ex", "unix_seconds", "2023-12-31 16:00:00 UTC"),
        ("bj-c0-ex", "wait_time_s", "2 s"),
        ("bj-c0-ex", "trans_mode", "composite purchase for all cards"),
        ("bj-c2-resend", "stop_type", "send the current report again"),
        ("bj-4c-ex", "on", "radio on"),
        ("bj-hb-ex", "error", "heartbeat"),
        ("bj-b3", "vehicle_class", "class 1"),
        ("bj-b4", "card_type", "national CPU card"),
        ("bj-b4-39", "physical_card_type", "Mifare S50"),
        ("bj-b5", "unix_seconds", "2024-03-01 03:30:15 UTC"),
        ("bj-b5", "balance_raw", "470.00 yuan"),
        ("bj-b5-unread", "balance_raw", "could not be read"),
        ("bj-b0-power-up", "RSCTL", "after power-up"),
        ("bj-b2", "RSCTL", "report 1 of the antenna"),
        ("bj-hb-soulin", "RSCTL", "report 8 of the antenna"),
        ("bj-c6", "RSCTL", "answer to report 4"),
    ],
)
def test_meaning(sample: str, name: str, meaning: str) -> None:
    if sample == "v3-b4-01":  # the charge card of the published frame: FA0A1E33 as a signed number of fen
        meaning = fen_text(0xFA0A1E33 - (1 << 32))
    assert meaning in field(named(sample), name).meaning


def test_unlisted_values_are_told_as_such() -> None:
    raw = v3(1, vector("v3-b5-36").data[:5] + b"\x77" + vector("v3-b5-36").data[6:])
    assert "77 is not listed" in field(describe_frame(V3, raw), "error").meaning
    assert describe_frame(V3, raw).ok


def test_dates_and_names_that_are_none_are_told_as_such() -> None:
    data = bytearray(vector("v3-b2-37").data)
    data[8:16] = b"\xff" * 8
    data[26:30] = b"\x20\x24\x13\x41"
    description = describe_frame(V3, v3(1, bytes(data)))
    assert "name is not GBK" in field(description, "issuer").meaning
    assert "no date" in field(description, "issued").meaning
    data = bytearray(vector("v3-b5-36").data)
    data[12:19] = b"\xaa" * 7
    assert "no date and time" in field(describe_frame(V3, v3(1, bytes(data))), "trans_time_bcd").meaning


def test_placeholder_crc() -> None:
    description = named("v3-c0-badcrc")
    (problem,) = description.problems
    assert (problem.field, problem.offset) == ("CRC", 30)
    assert "FFFF" in problem.text
    assert "FC82" in problem.text
    assert problem.next_step
    assert field(description, "datetime_bcd").value == "20200211132739"  # the rest is still told


@pytest.mark.parametrize("sample", [v for v in ALL_GOOD if v.data], ids=lambda v: v.id)
def test_frame_cut_anywhere_names_a_place_and_a_next_step(sample: Vector) -> None:
    for end in range(len(sample.raw)):
        description = describe_frame(dialect_named(sample.dialect), sample.raw[:end])
        assert not description.ok
        for problem in description.problems:
            assert problem.text
            assert problem.next_step
            assert problem.field


def test_cut_report_names_the_field_the_bytes_end_in() -> None:
    description = describe_frame(V3, vector("v3-b4-183").raw[:60])
    assert description.layout == "B4/183"
    assert [(p.field, p.offset) for p in description.problems] == [("LEN", 4), ("vehicle_file", 15), ("CRC", 60)]
    assert field(description, "obu_id").value == "0a0b0c01"


def test_cut_inside_a_record_stops_there() -> None:
    description = describe_frame(V3, vector("v3-b0-n2").raw[:22])
    assert [p.field for p in description.problems] == ["LEN", "psams[1].auth", "CRC"]
    assert "algorithm_id" not in [one.name for one in description.fields]


def test_wrong_len_is_told_from_a_wrong_crc() -> None:
    raw = vector("v3-b4-183").raw
    description = describe_frame(V3, raw[:4] + (176).to_bytes(4, "big") + raw[8:])
    (problem,) = description.problems
    assert (problem.field, problem.offset) == ("LEN", 4)
    assert "with 183 the CRC is right" in problem.text
    assert description.layout == "B4/183"


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda raw: b"\xfe" + raw[1:], "STX"),
        (lambda raw: raw[:2] + b"\x01" + raw[3:], "VER"),
        (lambda raw: raw[:4] + b"\x00\x01" + raw[6:], "LEN"),
        (lambda raw: raw[:-1] + bytes((raw[-1] ^ 1,)), "CRC"),
        (lambda raw: raw + b"\x00\x01", "tail"),
    ],
    ids=["STX", "VER", "LEN", "CRC", "tail"],
)
def test_damaged_framing_names_the_field(change, expected: str) -> None:
    description = describe_frame(V3, change(vector("v3-b5-36").raw))
    assert expected in [problem.field for problem in description.problems]
    assert all(problem.next_step for problem in description.problems)


def test_a_huge_len_costs_nothing() -> None:
    raw = bytes.fromhex("ffff0001ffffffff") + b"\xb0\x00\x01" + bytes(20)
    assert V3.framing.inspect(raw).data_length is None  # nobody makes room for four gigabytes
    description = describe_frame(V3, raw)
    assert description.problems[0].field == "LEN"
    assert "1024" in description.problems[0].text
    assert description.layout is None


def test_unknown_type_and_unknown_length_keep_the_body() -> None:
    unknown = describe_frame(V3, v3(1, b"\x77\x01\x02"))
    assert [p.field for p in unknown.problems] == ["type"]
    assert field(unknown, "body").raw == b"\x01\x02"
    odd = describe_frame(V3, v3(1, b"\xb5" + bytes(30)))
    assert "known are 36, 35, 20" in odd.problems[0].text
    kept = describe_frame(V3, v3(1, b"\xba" + bytes(3)))
    assert kept.ok
    assert kept.message == "Unmodelled"


@settings(deadline=None)
@given(st.binary(max_size=60))
def test_any_bytes_can_be_described(raw: bytes) -> None:
    description = describe_frame(V3, raw)
    json.dumps(description.as_dict())
    for end in range(len(raw)):
        describe_frame(V3, b"\xff\xff\x00\x01" + raw[:end])
    for start in (b"", b"\xff\xff", b"\xff\xff\x18\xb2"):
        told = describe_frame(BJ, start + raw)
        json.dumps(told.as_dict())
        assert sum(leaf.length for leaf in leaves(told.fields)) == len(start + raw)


def test_files_are_read_by_whoever_is_handed_in() -> None:
    def card(content: bytes):
        assert len(content) == 50
        return [(0, 8, "issuer", content[:8].hex(), "issuer of the card"), (8, 1, "card_type", "22", "stored value")]

    description = describe_frame(V3, vector("v3-b4-183").raw, {"card_file": card})
    inner = field(description, "card_file").fields
    report = V3.decode(vector("v3-b4-183").data)
    assert isinstance(report, UserReport)
    assert report.card_file is not None
    assert [one.name for one in inner] == ["card_file.issuer", "card_file.card_type"]
    assert inner[1].raw == report.card_file[8:9] == vector("v3-b4-183").raw[inner[1].offset : inner[1].offset + 1]
    assert inner[0].private


def test_a_file_that_cannot_be_read_is_a_problem_of_that_field_only() -> None:
    def refuse(content: bytes):
        raise RemoteProtocolError("record is not 0019", field="header", data=content, hint="read the card on a reader")

    description = describe_frame(V3, vector("v3-b4-183").raw, {"station": refuse})
    (problem,) = description.problems
    assert (problem.field, problem.text, problem.next_step) == (
        "station",
        "record is not 0019",
        "read the card on a reader",
    )
    assert field(description, "balance_raw").value == "50000"


def test_a_file_cut_short_is_not_handed_out() -> None:
    asked: list[bytes] = []
    describe_frame(V3, vector("v3-b4-183").raw[:60], {"vehicle_file": lambda content: asked.append(content) or []})
    assert asked == []


def test_what_identifies_a_vehicle_is_marked() -> None:
    marked = {leaf.name for leaf in leaves(named("v3-b4-183").fields) if leaf.private}
    assert marked == {"obu_id", "vehicle_file", "card_file", "station"}


def test_error_tables() -> None:
    for table in (B4_ERRORS, B5_ERRORS, B8_ERRORS):
        assert table[0] == "success"
    assert "V3.5" in B4_ERRORS[0x07]


@pytest.mark.parametrize(
    ("status", "device", "text"),
    [
        ("0600", 1, "locked, tampered"),
        ("9801", None, "no card, contact card interface, logic-encrypted card, card error"),
        ("f800", 2, "not locked, not tampered, battery normal; mount flag 00"),
        ("0700", 3, "battery normal"),
    ],
)
def test_obu_status(status: str, device: int | None, text: str) -> None:
    assert text in obu_status(bytes.fromhex(status), {"device_type": device})


@pytest.mark.parametrize(("fen", "text"), [(0, "0.00 yuan"), (5, "0.05 yuan"), (-105, "-1.05 yuan")])
def test_fen_text(fen: int, text: str) -> None:
    assert fen_text(fen) == text


# --- frames that are escaped --------------------------------------------------------------------------------------


def test_field_of_an_escaped_frame_has_its_place_on_the_link_and_its_content_unescaped() -> None:
    """C2 about FE FF 00 11: `ff ff 82 c2 fe00 fe01 00 11 01 51 ff`."""
    description = named("bj-c2-ex")
    obu = field(description, "obu_id")
    assert (obu.offset, obu.length, obu.raw.hex(), obu.value) == (4, 6, "feff0011", "feff0011")
    stop = field(description, "stop_type")
    assert (stop.offset, stop.length, stop.raw) == (10, 1, b"\x01")
    assert obu.as_dict()["length"] == 6
    assert field(named("bj-c1-bcc-ff"), "BCC").raw == b"\xfe\x01"
    assert field(named("bj-c1-bcc-ff"), "BCC").value == "FF"


def test_file_whose_header_does_not_travel_is_handed_out_whole() -> None:
    def rows(content: bytes):
        assert content[:3] == bytes.fromhex("aa2900")
        assert len(content) == 43
        return [(0, 3, "header", content[:3].hex(), ""), (2, 2, "across", "", ""), (3, 40, "rest", "", "")]

    sample = vector("bj-c6-escaped")
    station = field(describe_frame(BJ, sample.raw, {"station": rows}), "station")
    header, across, rest = station.fields
    assert (header.offset, header.length, header.raw) == (station.offset, 0, b"")
    assert (across.offset, across.length, across.raw) == (station.offset, 2, b"\xff")
    assert (rest.offset, rest.length, rest.raw) == (station.offset, 80, b"\xff\xfe" * 20)


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        ("", ["STX", "RSCTL", "BCC", "ETX"]),
        ("ff82c2fe00ff", ["STX"]),
        ("ffffff82", ["STX"]),
        ("ffff82ff", ["BCC"]),
        ("ffff82c2fe07ff", ["escape"]),
        ("ffff82c2fe", ["escape", "ETX"]),
        ("ffff82c2fe00fe0100110152ff", ["BCC"]),
        ("ffff82c2fe00fe0100110151", ["ETX"]),
        ("ffff82c2fe00fe01001101", ["BCC", "ETX"]),
        ("ffff82c2fe00fe0100110151ff00", ["tail"]),
        ("ffff7777ff", []),
        ("ffff817700f6ff", ["type"]),
    ],
)
def test_damaged_escaped_frame_names_the_field(raw: str, expected: list[str]) -> None:
    description = describe_frame(BJ, bytes.fromhex(raw))
    problems = [problem.field for problem in description.problems]
    assert [name for name in expected if name not in problems] == []
    assert description.ok == (not expected)
    assert all(problem.next_step for problem in description.problems)


def test_number_of_neither_side_is_told_as_such() -> None:
    assert "neither" in field(describe_frame(BJ, legacy(0x77, b"")), "RSCTL").meaning


def test_unmodelled_escaped_body_keeps_its_place() -> None:
    description = describe_frame(BJ, legacy(0x18, b"\xb1\xff\xfe"))
    body = field(description, "body")
    assert (body.offset, body.length, body.raw) == (4, 4, b"\xff\xfe")
    assert description.ok


def test_what_identifies_a_vehicle_is_marked_in_every_serial_report() -> None:
    told = {leaf.name for sample in LEGACY_GOOD for leaf in leaves(described(sample).fields) if leaf.private}
    kept = {"obu_id", "serial", "bound_card", "plate", "extension", "rest", "card_uid", "card_file", "station", "body"}
    assert told == kept


@pytest.mark.parametrize("sample", LEGACY_GOOD, ids=lambda v: v.id)
def test_meaning_of_a_private_field_gives_nothing_away(sample: Vector) -> None:
    for leaf in leaves(described(sample).fields):
        if leaf.private and leaf.name != "body":
            assert leaf.meaning == fields_of(sample)[leaf.name].meaning


def fields_of(sample: Vector):
    found = dialect_named(sample.dialect).layout_of(sample.data)
    assert found is not None
    return found.fields
