"""pcrsu-v3: vectors say what they should and encode again to the same bytes; all else is refused by name."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocols.errors import LocalProtocolError, RemoteProtocolError
from protocols.fields import Field, uint
from protocols.rsu.crc import crc16_x25
from protocols.rsu.layout import layout
from protocols.rsu.messages import (
    Acknowledge,
    AntennaStatus,
    Continue,
    Debit,
    DeviceStatus,
    Heartbeat,
    Initialise,
    Message,
    ObuReport,
    PsamStatus,
    Stop,
    SwitchAntenna,
    TacResult,
    Unmodelled,
    UserReport,
)
from protocols.rsu.registry import DIALECTS, dialect_named
from tests.protocols.rsu.samples import ALL_GOOD, ALL_VECTORS, GOOD, Vector, plain, slow_crc, v3, vector

V3 = dialect_named("pcrsu-v3")
STATED_ELSEWHERE = {"ver", "seq", "len", "type", "note"}
OBU = bytes.fromhex("0a0b0c01")


def test_crc_gives_the_published_check_value() -> None:
    assert crc16_x25(b"123456789") == 0x906E


@settings(deadline=None)
@given(st.binary(max_size=64))
def test_crc_agrees_with_the_bitwise_definition(data: bytes) -> None:
    assert crc16_x25(data) == slow_crc(data)


@pytest.mark.parametrize("sample", ALL_GOOD, ids=lambda v: v.id)
def test_vector_encodes_again_to_the_same_bytes(sample: Vector) -> None:
    dialect = dialect_named(sample.dialect)
    frame = dialect.framing.unwrap(sample.raw)
    assert dialect.framing.wrap(frame.seq, dialect.encode(dialect.decode(frame.data))) == sample.raw


@pytest.mark.parametrize("sample", [v for v in ALL_GOOD if v.origin == "constructed"], ids=lambda v: v.id)
def test_constructed_vector_holds_what_it_states(sample: Vector) -> None:
    dialect = dialect_named(sample.dialect)
    frame = dialect.framing.unwrap(sample.raw)
    assert f"{frame.seq:02x}" == sample.decoded["seq"]
    assert len(frame.data) == sample.decoded["len"]
    assert frame.data[:1].hex() == sample.decoded.get("type", "")
    stated = {key: value for key, value in sample.decoded.items() if key not in STATED_ELSEWHERE}
    got = plain(dialect.decode(frame.data))
    assert {key: got[key] for key in stated} == stated
    # What is not stated may only be what this size of frame does not carry.
    assert all(value is None for key, value in got.items() if key not in stated)


PUBLISHED: dict[str, tuple[int, Message]] = {
    "v3-b0-01": (
        5,
        DeviceStatus(
            rsu_status=0,
            psam_count_declared=0,
            psams=(PsamStatus(channel=3, version=1, auth=1, terminal=bytes.fromhex("01370004727f")),),
            algorithm_id=0,
            manufacturer_id=8,
            rsu_id=bytes.fromhex("000829"),
            rsu_version=bytes.fromhex("2009"),
            work_status=0,
            flag_id=bytes(3),
            reserved=bytes(4),
        ),
    ),
    "v3-b1-01": (
        1,
        Heartbeat(
            control_status=(0x00, 0x11, 0x01),
            psam1_count_declared=0,
            psams1=(PsamStatus(channel=3, run=0, auth=1),),
            psam2_count_declared=0,
            psams2=(),
            antennas=(AntennaStatus(antenna_id=1, status=0, channel=0, power=2),),
            antenna_count_declared=1,
            antenna_ok_declared=0,
        ),
    ),
    "v3-b2-01": (
        2,
        ObuReport(
            obu_id=bytes.fromhex("652bc7a3"),
            error=0,
            antenna_id=1,
            device_type=1,
            issuer=bytes.fromhex("c9bdb6ab37010001"),
            contract_type=1,
            contract_version=0,
            serial=bytes.fromhex("3701012023109155"),
            issued=bytes.fromhex("20201124"),
            expires=bytes.fromhex("20301124"),
            equipment=0x10,
            status=bytes.fromhex("2001"),
        ),
    ),
    "v3-c4-01": (0x10, SwitchAntenna(on=1)),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_frame_holds_what_its_source_states(name: str) -> None:
    frame = V3.framing.unwrap(vector(name).raw)
    assert (frame.seq, V3.decode(frame.data)) == PUBLISHED[name]


def test_published_user_report_holds_what_its_source_states() -> None:
    sample = vector("v3-b4-01")
    frame = V3.framing.unwrap(sample.raw)
    report = V3.decode(frame.data)
    assert isinstance(report, UserReport)
    stated = sample.decoded
    assert frame.seq == 7
    assert report.obu_id.hex() == stated["obuid"]
    assert (report.error, report.trans_type) == (stated["error"], int(stated["trans_type"], 16))
    assert report.vehicle_file is not None
    assert report.card_file is not None
    assert report.vehicle_file.startswith(stated["veh_plate"].encode("gbk"))
    assert report.vehicle_file.hex().endswith(stated["veh_rest"])
    assert report.balance_raw == int(stated["balance_raw"], 16)
    assert report.card_file.hex().startswith(stated["f0015_issuer"] + f"{stated['f0015_card_type']:02x}")
    assert report.card_file.hex().endswith(stated["f0015_pad"])
    assert report.station.hex() == stated["f0019"]
    assert (report.ef04, report.cpc_province, report.cpc_fee) == (None, None, None)


def test_placeholder_crc_is_refused_by_name_with_both_values() -> None:
    sample = vector("v3-c0-badcrc")
    with pytest.raises(RemoteProtocolError) as caught:
        V3.framing.unwrap(sample.raw)
    assert caught.value.field == "CRC"
    assert caught.value.offset == 30
    assert "FFFF" in caught.value.problem
    assert "FC82" in caught.value.problem
    assert caught.value.hint


def test_what_the_placeholder_frame_would_say() -> None:
    """Its content is good; only the check is not computed."""
    message = V3.decode(vector("v3-c0-badcrc").data)
    assert message == Initialise(
        unix_seconds=1581398859,
        datetime_bcd="20200211132739",
        lane_mode=0x11,
        bst_interval_ms=10,
        tx_power=15,
        pll_channel=1,
        trans_mode=1,
        flag_id=bytes.fromhex("040001"),
        reserved=bytes(2),
    )


def test_every_layout_of_every_dialect_has_a_vector() -> None:
    seen = {}
    for sample in ALL_VECTORS:
        dialect = dialect_named(sample.dialect)
        found = dialect.layout_of(dialect.framing.unwrap(sample.raw).data) if sample.checksum_ok else None
        if found is not None:
            seen.setdefault((sample.dialect, found.name), sample.id)
    missing = [
        (name, layout.name)
        for name, dialect in DIALECTS.items()
        for layout in dialect.layouts
        if (name, layout.name) not in seen
    ]
    assert missing == []


def test_layouts_of_a_dialect_have_names_of_their_own_and_one_type_byte_a_message() -> None:
    for dialect in DIALECTS.values():
        names = [layout.name for layout in dialect.layouts]
        assert len(set(names)) == len(names)
        codes: dict[type, set[int]] = {}
        for declared in dialect.layouts:
            codes.setdefault(declared.message, set()).add(declared.code)
            assert declared.source
        assert all(len(found) == 1 for found in codes.values())
        assert not {layout.code for layout in dialect.layouts} & dialect.unmodelled
        assert not {code for rules in dialect.rules.values() for code in rules.requests} & dialect.unmodelled


def test_every_known_type_byte_has_one_sender() -> None:
    for dialect in DIALECTS.values():
        lane, rsu = (rules.sends for rules in dialect.rules.values())
        assert not lane & rsu
        assert lane | rsu == {layout.code for layout in dialect.layouts} | dialect.unmodelled


@pytest.mark.parametrize("code", sorted(V3.unmodelled))
@pytest.mark.parametrize("body", [b"", b"\xff\xff\x00", bytes(range(200))])
def test_known_type_without_a_layout_is_kept_whole(code: int, body: bytes) -> None:
    data = bytes((code,)) + body
    assert V3.decode(data) == Unmodelled(code, body)
    assert V3.encode(Unmodelled(code, body)) == data


@pytest.mark.parametrize("code", [0x00, 0xC5, 0xCD, 0xB0 - 1, 0xD1, 0xFF])
def test_unknown_type_is_refused(code: int) -> None:
    with pytest.raises(RemoteProtocolError) as caught:
        V3.decode(bytes((code, 1, 2, 3)))
    assert (caught.value.field, caught.value.offset) == ("type", 0)
    assert f"{code:02X}" in caught.value.problem


@pytest.mark.parametrize("sample", [v for v in GOOD if V3.layout_of(v.data)], ids=lambda v: v.id)
@pytest.mark.parametrize("change", ["shorter", "longer"])
def test_wrong_length_is_refused_or_another_layout_but_never_stretched(sample: Vector, change: str) -> None:
    data = sample.data[:-1] if change == "shorter" else sample.data + b"\0"
    other = V3.layout_of(data)
    if other is None:
        with pytest.raises(RemoteProtocolError) as caught:
            V3.decode(data)
        assert caught.value.field == "DATA"
        assert str(len(data)) in caught.value.problem
    else:
        assert other is not V3.layout_of(sample.data)
        assert V3.encode(V3.decode(data)) == data


@settings(deadline=None)
@given(st.binary(max_size=300))
def test_any_bytes_give_a_message_that_encodes_again_or_the_peers_error(data: bytes) -> None:
    try:
        message = V3.decode(data)
    except RemoteProtocolError:
        return
    assert V3.encode(message) == data


@settings(deadline=None)
@given(st.sampled_from([layout for layout in V3.layouts if layout.rule.isdigit()]), st.data())
def test_any_content_of_a_layout_encodes_again(drawn, data) -> None:
    size = int(drawn.rule) - 1
    raw = bytes((drawn.code,)) + data.draw(st.binary(min_size=size, max_size=size))
    message = V3.decode(raw)
    assert type(message) is drawn.message
    assert V3.encode(message) == raw


@settings(deadline=None)
@given(st.integers(0, 5), st.integers(0, 255), st.data())
def test_device_status_trusts_the_length_and_keeps_the_declared_count(count: int, declared: int, data) -> None:
    body = data.draw(st.binary(min_size=16 + 9 * count, max_size=16 + 9 * count))
    raw = b"\xb0" + body[:1] + bytes((declared,)) + body[1:]
    message = V3.decode(raw)
    assert isinstance(message, DeviceStatus)
    assert len(message.psams) == count
    assert message.psam_count_declared == declared
    assert V3.encode(message) == raw


@settings(deadline=None)
@given(st.integers(0, 4), st.integers(0, 4), st.integers(0, 4), st.data())
def test_heartbeat_with_true_counts(first: int, second: int, heads: int, data) -> None:
    def some(size: int) -> bytes:
        return data.draw(st.binary(min_size=size, max_size=size))

    counted = bytes((first,)) + some(3 * first) + bytes((second,)) + some(3 * second)
    raw = b"\xb1" + some(3) + counted + bytes((heads, 1)) + some(4 * heads)
    message = V3.decode(raw)
    assert isinstance(message, Heartbeat)
    assert (len(message.psams1), len(message.psams2), len(message.antennas)) == (first, second, heads)
    assert V3.encode(message) == raw


def test_heartbeat_whose_counts_cannot_add_up_is_refused() -> None:
    with pytest.raises(RemoteProtocolError, match="known are 8"):
        V3.decode(bytes.fromhex("b1001101 00 030001 00 02 00 01000002".replace(" ", "")))


def test_a_message_of_ours_may_leave_count_and_reserved_to_the_codec() -> None:
    status = DeviceStatus(
        rsu_status=0,
        psam_count_declared=None,
        psams=(PsamStatus(channel=1, version=1, auth=0, terminal=bytes(6)),) * 2,
        algorithm_id=0,
        manufacturer_id=0x77,
        rsu_id=bytes(3),
        rsu_version=bytes(2),
        work_status=0,
        flag_id=bytes(3),
    )
    data = V3.encode(status)
    assert data[2] == 2
    assert data[-4:] == bytes(4)
    assert len(data) == 36


DEBIT = Debit(obu_id=OBU, div_factor=bytes(8), amount_fen=1, purchase_time_bcd="20240301113015", station=bytes(43))
STATUS = DeviceStatus(
    rsu_status=0,
    psam_count_declared=1,
    psams=(PsamStatus(channel=1, auth=0, version=1, terminal=bytes(6)),),
    algorithm_id=0,
    manufacturer_id=0x77,
    rsu_id=bytes(3),
    rsu_version=bytes(2),
    work_status=0,
    flag_id=bytes(3),
)
BEAT = Heartbeat(
    control_status=(0, 0x10, 0),
    psam1_count_declared=1,
    psams1=(PsamStatus(channel=1, run=0, auth=0),),
    psam2_count_declared=0,
    psams2=(),
    antennas=(AntennaStatus(antenna_id=1, status=0, channel=0, power=20),),
    antenna_count_declared=1,
    antenna_ok_declared=1,
)


@pytest.mark.parametrize(
    ("message", "field"),
    [
        (Continue(obu_id=OBU), "div_factor"),
        (Continue(obu_id=OBU + b"\0", div_factor=bytes(8)), "obu_id"),
        (Stop(obu_id=OBU, stop_type=None), "stop_type"),
        (Stop(obu_id=OBU, stop_type=256), "stop_type"),
        (SwitchAntenna(on=-1), "on"),
        (replace(DEBIT, amount_fen=1 << 32), "amount_fen"),
        (replace(DEBIT, amount_fen=-1), "amount_fen"),
        (replace(DEBIT, purchase_time_bcd="2024030111301"), "purchase_time_bcd"),
        (replace(DEBIT, purchase_time_bcd="2024 030111301"), "purchase_time_bcd"),
        (replace(DEBIT, purchase_time_bcd="20240301113015 "), "purchase_time_bcd"),
        (replace(DEBIT, station=bytes(40)), "station"),
        (replace(DEBIT, trans_serial=bytes(4)), "trans_serial"),
        (replace(DEBIT, trade_type=0, ef04=bytes(91), ef04_extra=bytes(6)), "ef04_extra"),
        (replace(STATUS, flag_id=None), "flag_id"),
        (replace(STATUS, reserved=bytes(5)), "reserved"),
        (replace(STATUS, psams=(PsamStatus(channel=1, auth=0, version=1),)), "terminal"),
        (replace(STATUS, psams=(PsamStatus(channel=1, auth=0, version=1, terminal=bytes(6), run=0),)), "psams"),
        (replace(BEAT, psams1=(PsamStatus(channel=1, auth=0, run=0, version=1),)), "psams1"),
        (replace(BEAT, psam1_count_declared=0, psams1=BEAT.psams1 * 2), "psams1"),
        (replace(BEAT, control_status=(0, 0)), "control_status"),
        (TacResult(obu_id=OBU, error=0, tac=bytes(3), mac=bytes(4), balance_raw=0), "tac"),
        (Unmodelled(0xB2, b""), "type"),
    ],
    ids=lambda value: value if isinstance(value, str) else type(value).__name__,
)
def test_a_message_that_cannot_be_said_is_our_error_and_names_the_field(message: Message, field: str) -> None:
    with pytest.raises(LocalProtocolError) as caught:
        V3.encode(message)
    assert caught.value.field == field


def test_the_fields_that_are_none_choose_the_layout() -> None:
    sizes = {
        len(V3.encode(message)): message
        for message in (
            DEBIT,
            replace(DEBIT, trade_type=0, ef04=bytes(91)),
            replace(DEBIT, trade_type=0, ef04=bytes(91), ef04_extra=bytes(5)),
            replace(DEBIT, trade_type=0, ef04=bytes(91), ef04_extra=bytes(15)),
        )
    }
    assert set(sizes) == {67, 159, 164, 174}
    assert all(V3.decode(V3.encode(message)) == message for message in sizes.values())


def test_empty_frame_is_an_acknowledgement() -> None:
    frame = V3.framing.unwrap(v3(0x10, b""))
    assert V3.decode(frame.data) == Acknowledge()
    assert V3.framing.wrap(0x10, V3.encode(Acknowledge())) == v3(0x10, b"")


def test_a_dialect_without_empty_frames_refuses_them_both_ways() -> None:
    strict = replace(V3, empty_frames=False)
    with pytest.raises(RemoteProtocolError):
        strict.decode(b"")
    with pytest.raises(LocalProtocolError):
        strict.encode(Acknowledge())


def test_a_dialect_that_lacks_a_message_says_so() -> None:
    small = replace(V3, layouts=tuple(layout for layout in V3.layouts if layout.message is not Debit))
    for call in (small.encode, small.code_of):
        with pytest.raises(LocalProtocolError, match="no Debit"):
            call(DEBIT)


def test_frame_with_bytes_behind_it_is_not_one_frame() -> None:
    with pytest.raises(RemoteProtocolError) as caught:
        V3.framing.unwrap(vector("v3-b2-01").raw + b"\0")
    assert (caught.value.field, caught.value.offset) == ("tail", 47)


@pytest.mark.parametrize(
    ("raw", "field"),
    [
        (b"", "STX"),
        (b"\xff\xfe\x00", "STX"),
        (b"\xff\xff\xff\x00", "VER"),
        (b"\xff\xff\x01\x00", "VER"),
        (b"\xff\xff\x00\x01\x00", "LEN"),
        (b"\xff\xff\x00\x01\x00\x00\x04\x01", "LEN"),
        (vector("v3-b2-01").raw[:-1], "DATA"),
    ],
)
def test_what_is_no_frame_is_refused_by_field(raw: bytes, field: str) -> None:
    with pytest.raises(RemoteProtocolError) as caught:
        V3.framing.unwrap(raw)
    assert caught.value.field == field
    assert caught.value.hint


def test_frames_that_cannot_be_wrapped() -> None:
    with pytest.raises(LocalProtocolError, match="SEQ"):
        V3.framing.wrap(256, b"")
    with pytest.raises(LocalProtocolError, match="1025"):
        V3.framing.wrap(1, bytes(1025))


def test_unknown_dialect_names_the_known_ones() -> None:
    with pytest.raises(LocalProtocolError, match="pcrsu-v3"):
        dialect_named("pcrsu-v9")


def test_a_layout_whose_fields_do_not_add_up_cannot_be_declared() -> None:
    with pytest.raises(LocalProtocolError, match="declares 2 bytes"):
        layout(0xC4, 3, SwitchAntenna, Field("on", uint(1), "radio"), source="test")
    with pytest.raises(LocalProtocolError, match="needs a length"):
        layout(0xC4, None, SwitchAntenna, Field("on", uint(1), "radio"), source="test")


def test_construct_s_errors_leave_as_ours() -> None:
    """A plan that promises more than there is would make construct raise its own error."""
    lying = layout(
        0xC4, None, SwitchAntenna, Field("on", uint(1), "radio"), source="test", rule="any", plan=lambda _: {}
    )
    with pytest.raises(RemoteProtocolError) as caught:
        lying.decode(b"\xc4", {})
    assert caught.value.field == "C4/any"
    with pytest.raises(RemoteProtocolError):
        lying.decode(b"\xc4\x00\x00", {})


def test_walking_another_type_s_bytes_names_the_type_byte_and_stops() -> None:
    declared = V3.layouts_of(0xC4)[0]
    (field,) = declared.walk(b"\xc5\x01", 2)
    assert (field.name, field.raw) == ("type", b"\xc5")
    assert field.problem


# --- another link with the same framing -----------------------------------------------------------------------------

STATION_FRAMES = Path(__file__).parents[2] / "vectors" / "std-station-frames.jsonl"
STATION_LINK = [
    pytest.param(bytes.fromhex(found["hex"])[8:-2], id=found["id"])
    for found in map(json.loads, STATION_FRAMES.read_text(encoding="utf-8").splitlines())
]


@pytest.mark.parametrize("data", STATION_LINK)
def test_a_frame_of_the_station_link_is_never_one_of_ours(data: bytes) -> None:
    with pytest.raises(RemoteProtocolError, match="standardised stations"):
        V3.decode(data)
    assert V3.layout_of(data) is None


def test_a_barrier_s_answer_at_an_unlucky_moment_is_no_heartbeat() -> None:
    """Its time then reads as counts that add up: B1 of 47 bytes with 1 and 12 PSAMs (the time is made up)."""
    unlucky = bytes.fromhex(
        "b10000019632dad00c370199010100000000000000000000010014e401010000000000000000f600000000000000f8"
    )
    (heartbeat,) = (layout for layout in V3.layouts_of(0xB1) if layout.plan(unlucky) is not None)
    assert heartbeat.message is Heartbeat
    with pytest.raises(RemoteProtocolError, match="standardised stations"):
        V3.decode(unlucky)
