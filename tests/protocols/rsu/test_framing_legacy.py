"""The promise of the serial deframer: every good frame is read with its last byte, whatever stands around it."""

from __future__ import annotations

import itertools
import re

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from protocols.bad_frame import BadFrame
from protocols.errors import LocalProtocolError, RemoteProtocolError
from protocols.rsu.framing import Frame, FrameEvent
from protocols.rsu.framing_legacy import CONTENT_MAX, DATA_MAX, NOISE_RUN_MAX, LegacyFraming
from tests.protocols.rsu.samples import LEGACY_GOOD, Vector, legacy, vector

B5 = vector("bj-b5").raw
B2 = vector("bj-b2").raw
ESCAPED = vector("bj-c6-escaped").raw
FRAMINGS = {2: LegacyFraming(), 1: LegacyFraming(1)}
both = pytest.mark.parametrize("stx", FRAMINGS, ids=["FFFF", "FF"])
widths = st.sampled_from(sorted(FRAMINGS))


def as_sent(raw: bytes, stx: int) -> bytes:
    """The same frame in the framing with that many FF in front."""
    return b"\xff" * stx + raw.lstrip(b"\xff")


def oracle(stream: bytes, stx: int) -> list[bytes]:
    """Contents of good frames, found by a pattern over the finished stream and un-escaped by replacing."""
    found = []
    for match in re.finditer(rb"(?<=\xff{%d})[^\xff]{2,1028}(?=\xff)" % stx, stream):
        if re.fullmatch(rb"(?:[^\xfe]|\xfe[\x00\x01])*", match[0], re.DOTALL) is None:
            continue
        values = match[0].replace(b"\xfe\x01", b"\xff").replace(b"\xfe\x00", b"\xfe")
        check = 0
        for value in values:
            check ^= value
        if check == 0 and 2 <= len(values) <= 514:
            found.append(values)
    return found


def cut(stream: bytes, sizes: list[int]) -> list[bytes]:
    pieces, at = [], 0
    for size in sizes:
        pieces.append(stream[at : at + size])
        at += size
    return [*pieces, stream[at:]]


def frames(events: list[FrameEvent]) -> list[bytes]:
    return [event.raw for event in events if isinstance(event, Frame)]


def values(events: list[FrameEvent]) -> list[bytes]:
    """RSCTL and DATA of every frame and the XOR over both."""
    found = []
    for event in events:
        if isinstance(event, Frame):
            check = event.seq
            for value in event.data:
                check ^= value
            found.append(bytes((event.seq,)) + event.data + bytes((check,)))
    return found


def feed(pieces: list[bytes], stx: int = 2) -> list[FrameEvent]:
    deframer = FRAMINGS[stx].deframer()
    events: list[FrameEvent] = []
    for piece in pieces:
        events += deframer.push(piece)
        assert deframer.pending <= CONTENT_MAX + stx
    return events + deframer.finish()


def account_for_every_byte(stream: bytes, events: list[FrameEvent], stx: int) -> None:
    """Frames and discarded runs tile the stream; only an FF between two frames may belong to both."""
    at = 0
    for event in events:
        shared = at - event.position
        assert 0 <= shared <= stx
        assert stream[event.position : at] == b"\xff" * shared
        size = len(event.raw) if isinstance(event, Frame) else event.length
        shown = event.raw if isinstance(event, Frame) else event.data
        assert stream[event.position :].startswith(shown)
        at = event.position + size
        if isinstance(event, BadFrame):
            assert event.hint
            assert 0 < len(event.data) <= 16
    assert at == len(stream)


BEFORE = [b"", b"\xff", b"\xff\xff\xff", b"\xfe", b"garbage", b"\xff\xff\x18\xb2", b"\xff\xff\x18\xfe\x07\xff"]
BEHIND = [b"", b"\xff", b"garbage", b"\xff\xff\x18"]


@both
@pytest.mark.parametrize("sample", LEGACY_GOOD, ids=lambda v: v.id)
def test_vector_is_found_whole_and_byte_by_byte_between_garbage(stx: int, sample: Vector) -> None:
    raw = as_sent(sample.raw, stx)
    for before, behind in itertools.product(BEFORE, BEHIND):
        stream = before + raw + behind
        for pieces in ([stream], [bytes((byte,)) for byte in stream]):
            events = feed(pieces, stx)
            assert raw in frames(events)
            assert values(events) == oracle(stream, stx)
            account_for_every_byte(stream, events, stx)


@pytest.mark.parametrize("sample", LEGACY_GOOD, ids=lambda v: v.id)
def test_garbage_inside_spoils_one_frame_and_never_the_next(sample: Vector) -> None:
    raw = as_sent(sample.raw, 2)
    for at in range(len(raw) + 1):
        for stray in (b"\x55", b"\xff", b"\xfe", b"\xff\xff", b"\xff\xff\xff"):
            events = feed([raw[:at] + stray + raw[at:] + B5 + B2])
            assert frames(events)[-2:] == [B5, B2], (at, stray)


@pytest.mark.parametrize("sample", LEGACY_GOOD, ids=lambda v: v.id)
def test_any_byte_lost_spoils_one_frame_and_never_the_next(sample: Vector) -> None:
    """A mark is a byte like any other: with one FF of either mark lost the frame behind is still read."""
    raw = as_sent(sample.raw, 2)
    for at in range(len(raw)):
        assert frames(feed([raw[:at] + raw[at + 1 :] + B5 + B2]))[-2:] == [B5, B2], at


def test_lost_mark_between_two_frames_costs_neither() -> None:
    """FF FF A FF FF B FF: whether the end mark of A or half a start mark of B is missing cannot be told."""
    assert frames(feed([B2 + B5[1:]])) == [B2, B5]
    assert frames(feed([B2 + B5[2:]])) == [B2]
    assert frames(feed([as_sent(B2, 1) + as_sent(B5, 1)[1:]], 1)) == [as_sent(B2, 1), as_sent(B5, 1)]


def test_lost_end_mark_makes_the_frame_late_and_hides_nothing() -> None:
    deframer = LegacyFraming().deframer()
    assert deframer.push(B2[:-1]) == []
    assert deframer.flush() == []
    assert frames(deframer.push(B5)) == [B2, B5]


def test_frame_gives_number_data_and_place() -> None:
    (event,) = LegacyFraming().deframer().push(ESCAPED)
    assert event == Frame(0x84, vector("bj-c6-escaped").data, ESCAPED, data_offset=3, position=0)
    raw = legacy(0xFE, b"\xff")
    (event,) = LegacyFraming().deframer().push(raw)
    assert event == Frame(0xFE, b"\xff", raw, data_offset=4, position=0)


garbage = st.one_of(
    st.binary(max_size=40),
    st.lists(
        st.sampled_from([b"\xff", b"\xff\xff", b"\xfe", b"\x00", b"\x01", b"\x18\xb2", B5[:-1], B5[2:], ESCAPED[:40]]),
        max_size=12,
    ).map(b"".join),
)
good = st.builds(
    legacy,
    st.integers(0, 255),
    st.one_of(st.binary(max_size=80), st.lists(st.sampled_from([0xFE, 0xFF, 0, 1]), max_size=80).map(bytes)),
)
sizes = st.lists(st.integers(0, 60), max_size=30)


@settings(deadline=None)
@given(widths, st.lists(st.tuples(garbage, good), max_size=6), garbage, sizes)
@example(2, [(b"\xff", B5), (b"\xff\xff\xff\xff", B5[:-1])], b"", [1] * 30)
def test_any_stream_in_any_pieces_gives_the_frames_of_the_finished_stream(stx, parts, tail, sizes) -> None:
    stream = b"".join(noise + as_sent(frame, stx) for noise, frame in parts) + tail
    expected = oracle(stream, stx)
    for pieces in ([stream], cut(stream, sizes), [bytes((byte,)) for byte in stream]):
        events = feed(pieces, stx)
        assert values(events) == expected
        account_for_every_byte(stream, events, stx)


@settings(deadline=None)
@given(widths, garbage, good, sizes)
def test_a_good_frame_is_there_with_its_last_byte(stx, noise, frame, sizes) -> None:
    raw = as_sent(frame, stx)
    deframer = FRAMINGS[stx].deframer()
    found: list[bytes] = []
    for piece in cut(noise + raw, sizes):
        found += frames(deframer.push(piece))
    assert found[-1] == raw


@settings(deadline=None)
@given(st.integers(0, 255), st.binary(max_size=DATA_MAX))
def test_wrapping_agrees_with_the_independent_packer_and_leaves_no_mark_inside(seq: int, data: bytes) -> None:
    raw = LegacyFraming().wrap(seq, data)
    assert raw == legacy(seq, data)
    assert b"\xff" not in raw[2:-1]
    frame = LegacyFraming().unwrap(raw)
    assert (frame.seq, frame.data) == (seq, data)


BAD = [
    ("ffff1805ff", "BCC", 3),
    ("ffff18ff", "BCC", 3),
    ("ffff18fe07ff", "escape", 3),
    ("ffff18b2feff", "escape", 4),
]


@pytest.mark.parametrize(("raw", "field", "offset"), BAD)
def test_bad_frame_is_told_at_once_by_field_and_place(raw: str, field: str, offset: int) -> None:
    (event,) = LegacyFraming().deframer().push(bytes.fromhex(raw))
    assert isinstance(event, BadFrame)
    assert (event.field, event.offset, event.position, event.length) == (field, offset, 0, len(raw) // 2)
    with pytest.raises(RemoteProtocolError) as caught:
        LegacyFraming().unwrap(bytes.fromhex(raw))
    assert (caught.value.field, caught.value.offset) == (field, offset)
    assert caught.value.hint


def test_bad_check_is_told_with_both_values() -> None:
    damaged = B5[:10] + bytes((B5[10] ^ 1,)) + B5[11:]
    (event,) = LegacyFraming().deframer().push(damaged)
    assert isinstance(event, BadFrame)
    assert event.field == "BCC"
    assert f"BCC is {B5[-2]:02X}, expected {B5[-2] ^ 1:02X}" in event.problem


@pytest.mark.parametrize(
    ("raw", "field"),
    [(b"", "STX"), (b"\xff\x18\x18\xff", "STX"), (B5[:-1], "ETX"), (B5 + b"\x00", "tail"), (B5 + B2, "tail")],
)
def test_what_is_no_frame_is_refused_by_field(raw: bytes, field: str) -> None:
    with pytest.raises(RemoteProtocolError) as caught:
        LegacyFraming().unwrap(raw)
    assert caught.value.field == field


def test_frames_that_cannot_be_wrapped() -> None:
    with pytest.raises(LocalProtocolError, match="RSCTL"):
        LegacyFraming().wrap(256, b"")
    with pytest.raises(LocalProtocolError, match="513"):
        LegacyFraming().wrap(8, bytes(DATA_MAX + 1))


def test_longest_frame_is_taken_and_one_byte_more_is_not() -> None:
    for byte in (0x00, 0xFF):
        longest = legacy(0xFF if byte else 8, bytes((byte,)) * DATA_MAX)
        assert frames(feed([longest])) == [longest]
        (event,) = feed([legacy(8, bytes((byte,)) * (DATA_MAX + 1))])
        assert isinstance(event, BadFrame)
        assert event.field == "DATA"


def test_content_without_an_end_is_given_up_and_the_next_frame_read() -> None:
    stream = b"\xff\xff" + b"\x55" * (3 * CONTENT_MAX) + B5
    for pieces in ([stream], [bytes((byte,)) for byte in stream]):
        events = feed(pieces)
        assert isinstance(events[0], BadFrame)
        assert events[0].field == "ETX"
        assert frames(events) == [B5]


def test_noise_is_told_once_a_run_when_the_line_is_quiet() -> None:
    deframer = LegacyFraming().deframer()
    for _ in range(100):
        assert deframer.push(b"\x55") == []
    assert deframer.unsettled
    (event,) = deframer.flush()
    assert isinstance(event, BadFrame)
    assert (event.field, event.length) == ("STX", 100)
    assert not deframer.unsettled


@pytest.mark.parametrize("noise", [b"\x55", b"\xff"])
def test_endless_noise_is_told_without_a_pause(noise: bytes) -> None:
    events = LegacyFraming().deframer().push(noise * (3 * NOISE_RUN_MAX))
    assert sum(event.length for event in events if isinstance(event, BadFrame)) >= 2 * NOISE_RUN_MAX
    assert len(events) <= 3


def test_end_of_stream_tells_what_was_cut_short() -> None:
    deframer = LegacyFraming().deframer()
    deframer.push(B5[:20])
    assert deframer.pending == 18
    (event,) = deframer.finish()
    assert isinstance(event, BadFrame)
    assert (event.field, event.offset, event.length) == ("ETX", 20, 20)
