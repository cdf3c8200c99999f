"""legacy-serial-bj: published frames say what their source states; what is neutral in messages is so here too."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from protocols.errors import LocalProtocolError, RemoteProtocolError
from protocols.rsu.messages import (
    Acknowledge,
    Continue,
    Debit,
    DebitResult,
    DeviceStatus,
    Heartbeat,
    Message,
    ObuReport,
    PsamStatus,
    Unmodelled,
    UserReport,
    VehicleReport,
    WriteResult,
)
from protocols.rsu.registry import dialect_named
from tests.protocols.rsu.samples import LEGACY_GOOD, Vector, legacy, vector

BJ = dialect_named("legacy-serial-bj")
BJ_GOOD = [sample for sample in LEGACY_GOOD if sample.dialect == BJ.name]
OBU = bytes.fromhex("6a81353e")

PUBLISHED: dict[str, tuple[int, Message]] = {
    "leg-b0-01": (
        0x08,
        DeviceStatus(
            rsu_status=0,
            psam_count_declared=1,
            psams=(PsamStatus(terminal=bytes(6)), PsamStatus(terminal=b"777777")),
            algorithm_id=0,
            manufacturer_id=13,
            rsu_id=bytes.fromhex("010001"),
            rsu_version=bytes.fromhex("0001"),
            reserved=bytes(5),
        ),
    ),
    "leg-b2-01": (
        0x18,
        ObuReport(
            obu_id=OBU,
            error=0,
            issuer=bytes.fromhex("cdf2bcafcdf2bcaf"),
            serial=bytes.fromhex("1234567887654321"),
            issued=bytes.fromhex("20200803"),
            expires=bytes.fromhex("20250802"),
            equipment=0x10,
            status=bytes.fromhex("2200"),
        ),
    ),
    "leg-b3-01": (
        0x58,
        VehicleReport(
            obu_id=OBU,
            error=0,
            plate=vector("leg-b3-01").decoded["plate"].encode("gbk").ljust(12, b"\0"),
            plate_color=bytes(2),
            vehicle_class=1,
            user_type=0,
        ),
    ),
    "leg-b5-01": (
        0x48,
        DebitResult(
            obu_id=OBU,
            error=0,
            terminal=b"777777",
            trans_time_bcd="20200827112228",
            trans_type=9,
            tac=bytes.fromhex("613c67b6"),
            card_serial=18,
            psam_serial=17,
            balance_raw=9999,
            unix_seconds=1598527348 - 8 * 3600,
        ),
    ),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_frame_holds_what_its_source_states(name: str) -> None:
    frame = BJ.framing.unwrap(vector(name).raw)
    assert (frame.seq, BJ.decode(frame.data)) == PUBLISHED[name]


def test_published_user_report_holds_what_its_source_states() -> None:
    sample = vector("leg-b4-01")
    report = BJ.decode(sample.data)
    stated = sample.decoded
    assert isinstance(report, UserReport)
    assert report.card_file is not None
    assert (report.obu_id.hex(), report.error) == (stated["obuid"], stated["error"])
    assert (report.card_type, report.physical_card_type) == (stated["card_type"], stated["physical_card_type"])
    assert report.trans_type == int(stated["trans_type"], 16)
    assert (report.balance_raw, report.card_uid) == (stated["balance_fen"], bytes(4))
    assert report.card_file.hex().startswith(stated["f0015_issuer"] + f"{stated['f0015_card_type']:02x}")
    assert report.station.hex() == stated["f0019"]


def test_command_without_check_and_end_mark_is_refused_and_holds_what_its_source_states() -> None:
    sample = vector("leg-c1-partial")
    with pytest.raises(RemoteProtocolError) as caught:
        BJ.framing.unwrap(sample.raw)
    assert caught.value.field == "ETX"
    whole = BJ.framing.unwrap(sample.raw + bytes.fromhex("a3ff"))  # the check its source computed
    assert whole.seq == 0x82
    assert BJ.decode(whole.data) == Continue(OBU, bytes.fromhex("cdf2bcafcdf2bcaf"))


def test_the_clock_of_a_recorded_result_is_the_wall_time_of_its_purchase() -> None:
    """The reason for the shift: 1598527348 read as UTC is 2020-08-27 11:22:28, the purchase time in the same frame."""
    data = vector("leg-b5-01").data
    assert int.from_bytes(data[6:10], "big") == 1598527348
    result = BJ.decode(data)
    assert isinstance(result, DebitResult)
    assert result.unix_seconds == 1598498548


STATION = bytes.fromhex("aa2900") + bytes(range(40))
DEBIT = Debit(obu_id=OBU, div_factor=bytes(8), amount_fen=3000, purchase_time_bcd="20240301113015", station=STATION)


def test_station_means_the_same_in_both_dialects() -> None:
    """The lane hands over the whole file 0019; its header does not travel here."""
    v3 = dialect_named("pcrsu-v3")
    assert v3.encode(DEBIT)[-43:] == STATION
    assert BJ.encode(DEBIT)[-40:] == STATION[3:]
    (ours, theirs) = (BJ.decode(BJ.encode(DEBIT)), v3.decode(v3.encode(DEBIT)))
    assert isinstance(ours, Debit)
    assert isinstance(theirs, Debit)
    assert ours.station == theirs.station == STATION


@pytest.mark.parametrize(
    ("message", "field"),
    [
        (replace(DEBIT, station=b"\xaa\x28\x00" + bytes(40)), "station"),
        (replace(DEBIT, station=bytes(40)), "station"),
        (replace(DEBIT, station=STATION + b"\0"), "station"),
        (replace(DEBIT, ef04=bytes(91)), "ef04"),
        (replace(DEBIT, trade_type=1), "trade_type"),
        (replace(DEBIT, trans_serial=bytes(3)), "trans_serial"),
        (Continue(OBU), "div_factor"),
        (WriteResult(OBU, 0, -8 * 3600 - 1, bytes(6)), "unix_seconds"),
        (WriteResult(OBU, 0, 1 << 32, bytes(6)), "unix_seconds"),
    ],
)
def test_a_message_that_cannot_be_said_is_our_error_and_names_the_field(message: Message, field: str) -> None:
    with pytest.raises(LocalProtocolError) as caught:
        BJ.encode(message)
    assert caught.value.field == field


def test_empty_psam_places_are_filled_and_too_many_refused() -> None:
    one = PsamStatus(channel=1, auth=0, version=1, terminal=bytes.fromhex("019900000001"))
    status = replace(PUBLISHED["leg-b0-01"][1], psam_count_declared=None, psams=(one,))
    data = BJ.encode(status)
    assert data[2:15] == bytes.fromhex("01" + "019900000001" + "00" * 6)
    with pytest.raises(LocalProtocolError) as caught:
        BJ.encode(replace(status, psams=(one, one, one)))
    assert caught.value.field == "psams"
    with pytest.raises(LocalProtocolError) as caught:
        BJ.encode(replace(status, psams=(replace(one, run=1),)))  # nobody may lose a fault on the way
    assert caught.value.field == "psams"


def test_heartbeat_is_told_from_a_report_of_the_same_length() -> None:
    for name in ("bj-hb-ex", "bj-hb-33", "bj-hb-35", "bj-hb-45", "bj-hb-soulin", "bj-hb-soulin-error-00"):
        message = BJ.decode(vector(name).data)
        assert isinstance(message, Heartbeat)
        assert BJ.obu_of(message) == b""
    assert isinstance(BJ.decode(vector("bj-b2").data), ObuReport)
    short = vector("bj-hb-ex").data
    with pytest.raises(RemoteProtocolError):
        BJ.decode(short[:5] + b"\x00")  # nothing but an id, and no heartbeat


def test_vehicle_report_gives_the_beginning_of_the_vehicle_file() -> None:
    report = BJ.decode(vector("bj-b3").data)
    assert isinstance(report, VehicleReport)
    assert report.vehicle_file == vector("bj-b3").data[6:22]
    assert BJ.obu_of(report) == report.obu_id


def test_unescaping_twice_passes_the_check_and_fails_the_length() -> None:
    """Why a length is part of what makes a frame good."""
    sample = vector("bj-b2-id-ends-fe")
    once = sample.raw[2:-1].replace(b"\xfe\x00", b"\xfe")
    twice = once.replace(b"\xfe\x00", b"\xfe")
    assert len(twice) == len(once) - 1
    check = 0
    for value in twice:
        check ^= value
    assert check == 0
    with pytest.raises(RemoteProtocolError) as caught:
        BJ.decode(twice[1:-1])
    assert caught.value.field == "DATA"
    assert "of 32 bytes" in caught.value.problem


@pytest.mark.parametrize("sample", [v for v in BJ_GOOD if BJ.layout_of(v.data)], ids=lambda v: v.id)
@pytest.mark.parametrize("change", ["shorter", "longer"])
def test_wrong_length_is_refused(sample: Vector, change: str) -> None:
    data = sample.data[:-1] if change == "shorter" else sample.data + b"\0"
    with pytest.raises(RemoteProtocolError) as caught:
        BJ.decode(data)
    assert caught.value.field == "DATA"
    assert str(len(data)) in caught.value.problem


@settings(deadline=None)
@given(st.sampled_from(BJ.layouts), st.data())
def test_any_content_of_a_layout_encodes_again(drawn, data) -> None:
    size = int(drawn.rule.split()[0]) - 1
    raw = bytes((drawn.code,)) + data.draw(st.binary(min_size=size, max_size=size))
    if drawn.message is Heartbeat:
        raw = raw[:5] + b"\x80" + raw[6:]
    assume(drawn.plan(raw) is not None)
    message = BJ.decode(raw)
    assert type(message) is drawn.message
    assert BJ.encode(message) == raw


@settings(deadline=None)
@given(st.binary(max_size=150))
def test_any_bytes_give_a_message_that_encodes_again_or_the_peers_error(data: bytes) -> None:
    try:
        message = BJ.decode(data)
    except RemoteProtocolError:
        return
    assert BJ.encode(message) == data


@pytest.mark.parametrize("code", sorted(BJ.unmodelled))
def test_known_type_without_a_layout_is_kept_whole(code: int) -> None:
    data = bytes((code,)) + OBU + b"\xff\xfe"
    assert BJ.decode(data) == Unmodelled(code, data[1:])
    assert BJ.encode(Unmodelled(code, data[1:])) == data
    assert BJ.obu_of(Unmodelled(code, data[1:])) == (OBU if code == 0xD0 else b"")


def test_empty_frame_is_an_acknowledgement() -> None:
    frame = BJ.framing.unwrap(legacy(0x81, b""))
    assert BJ.decode(frame.data) == Acknowledge()
    assert BJ.framing.wrap(0x81, BJ.encode(Acknowledge())) == legacy(0x81, b"")
