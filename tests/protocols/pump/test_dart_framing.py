"""The promise of the DART deframer: every good frame is read with its last byte, whatever stands around it."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from protocols.bad_frame import BadFrame
from protocols.errors import LocalProtocolError, RemoteProtocolError
from protocols.pump.dart import framing
from protocols.pump.dart.framing import FRAME_MAX, Control, Deframer, Frame, FrameEvent
from tests.protocols.pump.samples import DART, DART_BAD, DART_GOOD, Vector, bytes_of, cut, dart, dart_frame, slow_crc

ids = {"ids": lambda vector: vector.id}
ESCAPED = dart("dart-uz-04").raw
POLL = dart("dart-ctl-01").raw
DATA = dart("dart-uz-07").raw


def feed(pieces: list[bytes]) -> list[FrameEvent]:
    deframer = Deframer()
    events: list[FrameEvent] = []
    for piece in pieces:
        events += deframer.push(piece)
        assert deframer.pending <= 2 * FRAME_MAX
    return [*events, *deframer.flush()]


def frames(events: list[FrameEvent]) -> list[bytes]:
    return [event.raw for event in events if isinstance(event, Frame)]


def account_for_every_byte(stream: bytes, events: list[FrameEvent]) -> None:
    at = 0
    for event in events:
        assert event.position == at
        shown = event.raw if isinstance(event, Frame) else event.data
        assert stream[at:].startswith(shown)
        at += len(event.raw) if isinstance(event, Frame) else event.length
        if isinstance(event, BadFrame):
            assert event.hint
            assert 0 <= event.offset <= event.length
    assert at == len(stream)


@pytest.mark.parametrize("vector", DART_GOOD, **ids)
def test_vector_says_what_it_states_and_is_written_the_same(vector: Vector) -> None:
    frame = framing.unwrap(vector.raw)
    assert f"{frame.address:02X}" == vector.decoded["adr"]
    assert (frame.control.name, frame.number) == (vector.decoded["ctrl"], vector.decoded["seq"])
    if frame.control is Control.DATA:
        assert framing.data_frame(frame.address, frame.number, frame.data) == vector.raw
    else:
        assert framing.control_frame(frame.address, frame.control, frame.number) == vector.raw


@pytest.mark.parametrize("vector", DART_BAD, **ids)
def test_bad_vector_is_refused_for_its_check(vector: Vector) -> None:
    assert vector.decoded["crc_ok"] is False
    with pytest.raises(RemoteProtocolError) as caught:
        framing.unwrap(vector.raw)
    assert (caught.value.field, caught.value.offset) == ("CRC", len(vector.raw) - 4)
    assert f"expected {slow_crc(vector.raw[:-4]):04X}" in caught.value.problem
    (event,) = feed([vector.raw])
    assert isinstance(event, BadFrame)
    assert event.problem == caught.value.problem
    assert framing.number_in(event, vector.raw[0]) == vector.decoded["seq"]
    assert framing.number_in(event, vector.raw[0] + 1) is None


BEFORE = [
    b"",
    b"\x00",
    b"\x10",
    b"\xfa",
    b"garbage",
    b"\x50",
    b"\x50\x31\x01\x01",
    b"\x03\xfa",
    b"\x50\x31\x10\xfa\x10",
]
BEHIND = [b"", b"\x50", b"\x50\x31", b"garbage", b"\x10"]


@pytest.mark.parametrize("vector", DART_GOOD, **ids)
def test_vector_is_found_whole_and_byte_by_byte_between_garbage(vector: Vector) -> None:
    for before, behind in itertools.product(BEFORE, BEHIND):
        stream = before + vector.raw + behind
        whole, single = feed([stream]), feed(bytes_of(stream))
        assert whole == single
        assert frames(whole) == [vector.raw]
        account_for_every_byte(stream, whole)


@pytest.mark.parametrize("vector", DART, **ids)
def test_any_byte_lost_or_damaged_spoils_one_frame_and_never_the_next(vector: Vector) -> None:
    for at in range(len(vector.raw)):
        for stray in (b"", b"\x55", b"\x10", b"\xfa"):
            stream = vector.raw[:at] + stray + vector.raw[at + 1 :] + DATA + POLL
            events = feed([stream])
            # A damaged 10 before FA, or a lost FA, may glue or split; the frames behind are read all the same.
            assert frames(events)[-2:] == [DATA, POLL], (at, stray)
            account_for_every_byte(stream, events)


def test_only_a_ten_before_fa_is_an_escape() -> None:
    data = b"\x65\x06\x01\x10\x10\xfa\x10\xfa"
    raw = dart_frame(0x50, 1, data)
    assert b"\x10\x10\x10\xfa\x10\x10\xfa" in raw
    assert framing.unwrap(raw).data == data
    assert framing.data_frame(0x50, 1, data) == raw


def test_bit_seven_of_the_address_is_read_as_the_address_and_not_checked() -> None:
    raw = dart_frame(0x50, 3, b"\x01\x01\x05", quirk=True)
    frame = framing.unwrap(raw)
    assert (raw[0], frame.address, frame.number) == (0xD0, 0x50, 3)
    assert framing.unwrap(b"\xd0\x70\xfa").address == 0x50
    checked_as_sent = bytes((0xD0, 0x33, 1, 1, 5))
    with pytest.raises(RemoteProtocolError, match="CRC"):
        framing.unwrap(checked_as_sent + slow_crc(checked_as_sent).to_bytes(2, "little") + b"\x03\xfa")


garbage = st.one_of(
    st.binary(max_size=30),
    st.lists(
        st.sampled_from([b"\xfa", b"\x10", b"\x10\xfa", b"\x03\xfa", b"\x50", b"\x31", DATA[:-1], ESCAPED[3:]]),
        max_size=8,
    ).map(b"".join),
)
good = st.one_of(
    st.builds(
        dart_frame,
        st.integers(0x50, 0x6F),
        st.integers(0, 15),
        st.one_of(
            st.binary(min_size=2, max_size=60),
            st.lists(st.sampled_from([0xFA, 0x10, 0x03, 0x50, 0x31]), min_size=2, max_size=60).map(bytes),
        ),
        quirk=st.booleans(),
    ),
    st.sampled_from([POLL, b"\x51\xc3\xfa", b"\xd2\x70\xfa", b"\x50\x5c\xfa"]),
)


@settings(deadline=None)
@given(st.lists(st.tuples(garbage, good), max_size=5), garbage, st.lists(st.integers(0, 40), max_size=30))
@example([(b"\x50\x31", b"\x50\x70\xfa")], b"\x10", [1] * 9)
def test_any_stream_in_any_pieces_gives_the_same_and_loses_no_good_frame(parts, tail, sizes) -> None:
    stream = b"".join(noise + frame for noise, frame in parts) + tail
    whole = feed([stream])
    assert feed(cut(stream, sizes)) == whole
    assert feed(bytes_of(stream)) == whole
    account_for_every_byte(stream, whole)
    found = iter(frames(whole))
    assert all(frame in found for _, frame in parts), "a frame sent was not read, or not in its order"


@settings(deadline=None)
@given(garbage, good)
def test_a_good_frame_is_there_with_its_last_byte(noise, frame) -> None:
    deframer = Deframer()
    assert frames(deframer.push(noise + frame[:-1]))[-1:] != [frame]
    assert frames(deframer.push(frame[-1:])) == [frame]


@pytest.mark.parametrize(
    ("raw", "field", "offset"),
    [
        ("", "ADR", 0),
        ("4020fa", "ADR", 0),
        ("50", "CTRL", 1),
        ("5021fa", "CTRL", 1),
        ("5090fa", "CTRL", 1),
        ("5020", "SF", 2),
        ("5070fafa", "tail", 3),
        ("50370101061e2a03", "SF", 8),
        ("50370101061e2afa", "ETX", 6),
        ("5037fa", "ETX", 1),
        ("503703fa", "DATA", 2),
        ("507000fa", "SF", 2),
        ("50370101061e2a03fa5020fa", "tail", 9),
        ("00005037010107" + "1e2a03fa", "CRC", 7),
    ],
)
def test_what_is_no_frame_is_refused_by_field_and_place(raw: str, field: str, offset: int) -> None:
    with pytest.raises(RemoteProtocolError) as caught:
        framing.unwrap(bytes.fromhex(raw))
    assert (caught.value.field, caught.value.offset) == (field, offset)
    assert caught.value.hint


def test_a_run_without_an_end_is_given_up_and_the_next_frame_read() -> None:
    stream = b"\x50\x31" * (3 * FRAME_MAX) + DATA
    for pieces in ([stream], bytes_of(stream)):
        assert frames(feed(pieces)) == [DATA]


def test_frames_that_cannot_be_written() -> None:
    for wrong in (0x4F, 0x70, 0xD0):
        with pytest.raises(LocalProtocolError, match="address"):
            framing.control_frame(wrong, Control.POLL)
    with pytest.raises(LocalProtocolError, match="TX#"):
        framing.data_frame(0x50, 16, b"\x01\x01\x05")
    with pytest.raises(LocalProtocolError, match="POLL"):
        framing.control_frame(0x50, Control.POLL, 1)
    with pytest.raises(LocalProtocolError, match="DATA"):
        framing.control_frame(0x50, Control.DATA, 1)
    with pytest.raises(LocalProtocolError, match="transactions"):
        framing.data_frame(0x50, 1, bytes(FRAME_MAX))


@given(st.binary(max_size=40))
def test_check_agrees_with_the_slow_one(data: bytes) -> None:
    assert framing.crc16_arc(data) == slow_crc(data)
    assert framing.crc16_arc(b"123456789") == 0xBB3D
