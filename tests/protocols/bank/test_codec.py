"""The codec against every message of the dialect we have, whole, damaged and built anew."""

import json
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocols.bank.codec import HEADER_BYTES, TPDU_BYTES, Message, decode, describe, encode
from protocols.bank.dialects import CUPS_POS_BCD
from protocols.errors import LocalProtocolError, RemoteProtocolError
from protocols.fields import Privacy

LINES = (Path(__file__).parents[2] / "vectors" / "iso8583.jsonl").read_text(encoding="utf-8").splitlines()
VECTORS = {vector["id"]: vector for vector in map(json.loads, LINES)}


def body(vector: dict) -> bytes:
    raw = bytes.fromhex(vector["hex"])
    if "length_header" in vector:
        assert int.from_bytes(raw[:2], "big") == vector["length_header"]
        return raw[2:]
    return raw


def refusal(raw: bytes) -> RemoteProtocolError | None:
    """The error of a decode, or None when the bytes are a message, which then encodes back to them."""
    try:
        message = decode(raw)
    except RemoteProtocolError as error:
        return error
    assert encode(message) == raw
    return None


def shown(message: Message) -> dict:
    return {
        str(number): value if isinstance(value, str) else f"0x{value.hex().upper()}"
        for number, value in message.fields.items()
    }


def test_there_are_real_and_constructed_vectors():
    assert sum("origin" not in vector for vector in VECTORS.values()) == 8
    assert {"0200", "0210", "0400", "0410", "0220", "0230", "0820", "0830"} <= {
        vector["mti"] for vector in VECTORS.values() if vector.get("origin") == "constructed"
    }


@pytest.mark.parametrize("name", VECTORS)
def test_vector_decodes_to_its_fields_and_encodes_back(name):
    vector = VECTORS[name]
    message = decode(body(vector))
    assert message.mti == vector["mti"]
    assert message.tpdu.hex().upper() == vector["tpdu"]
    assert message.header.hex().upper() == vector["header"]
    assert shown(message) == vector["fields"]
    assert encode(message) == body(vector)


@pytest.mark.parametrize("name", VECTORS)
def test_vector_is_rebuilt_from_its_values_alone(name):
    vector = VECTORS[name]
    decoded = decode(body(vector))
    rebuilt = encode(Message(decoded.mti, dict(decoded.fields), decoded.tpdu, decoded.header))
    if name == "hand-0200-odd-pads":  # only what came from the wire can know pads that are not ours
        assert rebuilt != body(vector)
        assert decode(rebuilt).fields == decoded.fields
    else:
        assert rebuilt == body(vector)


@pytest.mark.parametrize("name", VECTORS)
def test_every_cut_and_every_tail_is_an_error_with_its_place(name):
    raw = body(VECTORS[name])
    for length in range(len(raw)):
        with pytest.raises(RemoteProtocolError) as caught:
            decode(raw[:length])
        assert caught.value.field is not None
        assert caught.value.offset is not None
        assert caught.value.offset <= length
    with pytest.raises(RemoteProtocolError, match="1 bytes left over") as caught:
        decode(raw + b"\x00")
    assert caught.value.offset == len(raw)


@pytest.mark.parametrize("name", VECTORS)
def test_every_changed_byte_is_a_value_or_an_error_with_its_place(name):
    raw = body(VECTORS[name])
    for position in range(len(raw)):
        for change in (0x01, 0x0F, 0x80, 0xFF):
            damaged = raw[:position] + bytes([raw[position] ^ change]) + raw[position + 1 :]
            error = refusal(damaged)
            assert error is None or (error.field is not None and error.offset is not None)


@given(st.binary(max_size=200))
def test_garbage_is_a_value_or_the_peers_error(data):
    for candidate in (data, bytes.fromhex("6000030000603100310100") + data):
        refusal(candidate)


DIGITS = "0123456789"


def value_of(number: int) -> st.SearchStrategy:
    kind, dots, size = re.fullmatch(r"([a-z]+)(\.*)(\d+)", CUPS_POS_BCD.fields[number].coding.notation).groups()
    least = 0 if dots else int(size)
    most = min(int(size), 40)
    match kind:
        case "n":
            return st.text(DIGITS, min_size=least, max_size=most)
        case "z":
            return st.text(DIGITS + "ABCDEF", min_size=least, max_size=most)
        case "b":
            return st.binary(min_size=least, max_size=most)
        case _:
            return st.text("AZaz09 -", min_size=least, max_size=most)


FIELDS = st.sets(st.sampled_from(sorted(CUPS_POS_BCD.fields)), max_size=8).flatmap(
    lambda numbers: st.fixed_dictionaries({number: value_of(number) for number in numbers})
)


@given(FIELDS, st.sampled_from([b"", bytes.fromhex("603100310100")]))
def test_any_message_comes_back(fields, header):
    message = Message("0200", fields, bytes.fromhex("6000030000"), header)
    assert decode(encode(message)) == message


def test_the_table_covers_every_field():
    assert sorted(CUPS_POS_BCD.fields) == list(range(2, 65))
    for number, field in CUPS_POS_BCD.fields.items():
        assert field.name == f"F{number}"
        assert field.meaning
        assert field.zh


def test_header_left_out_is_recognised():
    raw = body(VECTORS["hand-0820-echo"])
    bare = raw[:TPDU_BYTES] + raw[TPDU_BYTES + HEADER_BYTES :]
    message = decode(bare)
    assert message.header == b""
    assert message.mti == "0820"
    assert encode(message) == bare


def test_left_and_right_padding():
    message = Message("0200", {22: "012", 23: "007"})
    assert encode(message).endswith(bytes.fromhex("0120 0007"))


def test_changed_field_is_packed_our_way():
    message = decode(body(VECTORS["hand-0200-odd-pads"]))
    changed = Message(
        message.mti, {**message.fields, 60: "22000008"}, message.tpdu, message.header, message.as_received
    )
    raw = encode(changed)
    assert raw.endswith(bytes.fromhex("0008 22000008"))
    assert bytes.fromhex("05 99012F") in raw


def test_received_packing_that_is_no_field_is_not_used():
    message = Message("0200", {2: "99012"}, as_received={2: b"\x05\x99"})
    assert encode(message).endswith(bytes.fromhex("05 990120"))


def damaged(name: str, old: str, new: str) -> bytes:
    raw = body(VECTORS[name])
    assert raw.count(bytes.fromhex(old)) == 1
    return raw.replace(bytes.fromhex(old), bytes.fromhex(new))


@pytest.mark.parametrize(
    ("raw", "field", "offset"),
    [
        (b"\x70" + body(VECTORS["hand-0820-echo"])[1:], "TPDU", 0),
        (damaged("hand-0820-echo", "0820", "08A0"), "MTI", 11),
        (damaged("hand-0820-echo", "0820 0020", "0820 8020"), "bitmap", 13),
        (damaged("hand-0820-echo", "000002", "0000C2"), "F11", 23),
        (damaged("hand-0820-echo", "0011 0000", "001A 0000"), "F60", 47),
        (damaged("hand-0820-echo", "0011 0000", "0052 0000"), "F60", 47),
        (damaged("hand-0830-echo", "3030 4232", "30FF 4232"), "F39", 29),
    ],
)
def test_errors_name_field_and_offset(raw, field, offset):
    with pytest.raises(RemoteProtocolError) as caught:
        decode(raw)
    assert (caught.value.field, caught.value.offset) == (field, offset)


def test_message_without_fields():
    raw = bytes.fromhex("6000030000 0800") + bytes(8)
    assert dict(decode(raw).fields) == {}
    with pytest.raises(RemoteProtocolError) as caught:
        decode(raw + b"\x01")
    assert caught.value.field == "bitmap"


@pytest.mark.parametrize(
    ("message", "field"),
    [
        (Message("0200", {3: "00000"}), "F3"),
        (Message("0200", {3: "00000A"}), "F3"),
        (Message("0200", {2: "1" * 20}), "F2"),
        (Message("0200", {11: b"\x00\x00\x01"}), "F11"),
        (Message("0200", {35: "99=01"}), "F35"),
        (Message("0200", {48: "CONTRACT"}), "F48"),
        (Message("0200", {52: "00000000"}), "F52"),
        (Message("0200", {41: "终端号码"}), "F41"),
        (Message("0200", {56: "☃"}), "F56"),
        (Message("0200", {65: "1"}), "F65"),
        (Message("02", {}), "MTI"),
        (Message("6200", {}), "MTI"),
        (Message("02AA", {}), "MTI"),
        (Message("0200", {}, b"\x60"), "TPDU"),
        (Message("0200", {}, bytes(5)), "TPDU"),
        (Message("0200", {}, header=b"\x60"), "header"),
        (Message("0200", {}, header=bytes(6)), "header"),
    ],
)
def test_what_cannot_be_packed_is_our_error(message, field):
    with pytest.raises(LocalProtocolError) as caught:
        encode(message)
    assert caught.value.field == field


def test_contract_with_letters_is_told_as_such():
    with pytest.raises(LocalProtocolError, match="contract reference"):
        encode(Message("0200", {48: "合同B2E2"}))


def test_description_masks_and_places_every_field():
    raw = body(VECTORS["cups-pos-pay-req"])
    rows = {row.name: row for row in describe(raw)}
    told = [f"F{number}" for number in sorted(map(int, VECTORS["cups-pos-pay-req"]["fields"]))]
    assert list(rows) == ["TPDU", "header", "MTI", "bitmap", *told]
    account = VECTORS["cups-pos-pay-req"]["fields"]["2"]
    assert rows["F2"].value == f"***{account[-4:]}"
    assert account not in str(rows)
    assert {rows[name].value for name in ("F55", "F14")} == {"***"}
    assert rows["F4"].value == "000000001111"
    assert sum(row.length for row in rows.values()) == len(raw)


def test_description_shows_all_when_asked():
    raw = body(VECTORS["cups-pos-pay-req"])
    rows = describe(raw, unmask=True)
    assert {row.name[1:]: row.value for row in rows[4:]} == VECTORS["cups-pos-pay-req"]["fields"]
    assert all(row.offset == sum(before.length for before in rows[:at]) for at, row in enumerate(rows))


@pytest.mark.parametrize("name", VECTORS)
def test_a_message_cut_short_is_described_as_far_as_it_goes(name):
    raw = body(VECTORS[name])
    for length in range(len(raw)):
        rows = describe(raw[:length])
        assert rows
        assert sum(row.length for row in rows) <= length
    assert "damaged: needs" in describe(raw[: len(raw) - 1])[-1].meaning


def test_fields_that_identify_are_declared_so():
    hidden = {number for number, field in CUPS_POS_BCD.fields.items() if field.privacy is Privacy.HIDDEN}
    assert hidden == {14, 35, 36, 45, 52, 55, 58, 62, 64}
    assert {n for n, field in CUPS_POS_BCD.fields.items() if field.privacy is Privacy.NUMBER} == {2, 34, 48}


@pytest.mark.parametrize("name", VECTORS)
def test_a_message_without_tpdu_is_told_as_such(name):
    with pytest.raises(RemoteProtocolError, match="no TPDU") as caught:
        decode(body(VECTORS[name])[TPDU_BYTES:])
    assert (caught.value.field, caught.value.offset) == ("TPDU", 0)


def test_repr_holds_no_values():
    message = decode(body(VECTORS["cups-pos-pay-req"]))
    assert VECTORS["cups-pos-pay-req"]["fields"]["2"] not in repr(message)
    assert "0200" in repr(message)


def test_text_of_a_field():
    message = Message("0210", {39: "00", 63: b"\x01"})
    assert message.text(39) == "00"
    assert message.text(41) is None
    with pytest.raises(RemoteProtocolError) as caught:
        message.text(63)
    assert caught.value.field == "F63"


def test_fields_cannot_be_changed_behind_the_message():
    fields = {11: "000001"}
    message = Message("0800", fields)
    fields[11] = "000002"
    assert message.text(11) == "000001"
    with pytest.raises(TypeError):
        message.fields[11] = "000003"


@pytest.mark.parametrize(
    ("raw", "value"),
    [
        (b"01 ", "01 "),
        ("银联　成功".encode("gbk"), "银联　成功"),  # with a full-width blank
        (b"\x01\x02", b"\x01\x02"),
        (b"A\x7f", b"A\x7f"),
        (b"A\xff", b"A\xff"),
        (b"\x80", b"\x80"),
        (b"\xc4", b"\xc4"),
    ],
)
def test_clean_text_is_text_and_the_rest_stays_bytes(raw, value):
    wire = bytes.fromhex("6000030000 0210 0000000000000002") + bytes.fromhex(f"{len(raw):04d}") + raw
    message = decode(wire)
    assert message.fields[63] == value
    assert encode(message) == wire


def test_every_gbk_sequence_comes_back():
    for lead in range(0x80, 0x100):
        wire = b"".join(
            raw for trail in range(0x100) if (raw := bytes([lead, trail])).decode("gbk", "ignore").encode("gbk") == raw
        )
        message = Message("0210", {63: wire.decode("gbk")})
        assert encode(message).endswith(wire)
        assert decode(encode(message)) == message
