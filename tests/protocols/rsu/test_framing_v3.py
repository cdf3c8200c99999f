"""The promise of the v3 deframer: no garbage, wherever it stands and however the stream is cut, loses a good frame."""

from __future__ import annotations

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from protocols.bad_frame import BadFrame
from protocols.rsu import framing_v3
from protocols.rsu.crc import crc16_x25
from protocols.rsu.framing import Frame, FrameEvent
from protocols.rsu.framing_v3 import FRAME_MAX, LEN_MAX, SLICE_BYTES, V3Deframer
from tests.protocols.rsu.samples import GOOD, Vector, slow_crc, v3, vector

B5 = vector("v3-b5-36").raw
B2 = vector("v3-b2-37").raw
FALSE_HEADER = bytes.fromhex("ffff000100000400")
"""Looks like the start of a frame with the longest DATA there is."""
MESSAGE_HEADER = FALSE_HEADER + b"\xb4"
"""The same, and a message's: its DATA may be a tag's file."""


def oracle(stream: bytes) -> list[bytes]:
    """Good frames by a search from the left over the finished stream, written apart from the code under test."""
    found, at = [], 0
    while at < len(stream):
        length = int.from_bytes(stream[at + 4 : at + 8], "big")
        end = at + 8 + length
        good = (
            stream[at : at + 3] == b"\xff\xff\x00"
            and length <= 1024
            and len(stream) >= end + 2
            and slow_crc(stream[at + 2 : end]) == int.from_bytes(stream[end : end + 2], "big")
        )
        if good:
            found.append(stream[at : end + 2])
        at = end + 2 if good else at + 1
    return found


def cut(stream: bytes, sizes: list[int]) -> list[bytes]:
    pieces, at = [], 0
    for size in sizes:
        pieces.append(stream[at : at + size])
        at += size
    return [*pieces, stream[at:]]


def frames(events: list[FrameEvent]) -> list[bytes]:
    return [event.raw for event in events if isinstance(event, Frame)]


def feed(pieces: list[bytes]) -> list[FrameEvent]:
    deframer = V3Deframer()
    events: list[FrameEvent] = []
    for piece in pieces:
        events += deframer.push(piece)
        assert deframer.pending < FRAME_MAX
    return events + deframer.finish()


def account_for_every_byte(stream: bytes, events: list[FrameEvent]) -> None:
    """Frames and discarded runs tile the stream: nothing is lost without a word, nothing is told twice."""
    at = 0
    for event in events:
        assert event.position == at
        at += len(event.raw) if isinstance(event, Frame) else event.length
        if isinstance(event, BadFrame):
            assert event.hint
            assert 0 < len(event.data) <= 16
            assert stream[event.position :].startswith(event.data)
        else:
            assert stream[event.position :].startswith(event.raw)
    assert at == len(stream)


@pytest.mark.parametrize("sample", GOOD, ids=lambda v: v.id)
@pytest.mark.parametrize("behind", [b"", b"\xff", b"\xff\xff", b"garbage", FALSE_HEADER], ids=bytes.hex)
@pytest.mark.parametrize("before", [b"", b"\xff", b"\xff\xff\xff", b"garbage", FALSE_HEADER], ids=bytes.hex)
def test_vector_is_found_whole_and_byte_by_byte_between_garbage(sample: Vector, before: bytes, behind: bytes) -> None:
    stream = before + sample.raw + behind
    for pieces in ([stream], [bytes((byte,)) for byte in stream]):
        events = feed(pieces)
        assert frames(events) == [sample.raw]
        account_for_every_byte(stream, events)


def test_vectors_one_after_the_other_with_garbage_in_the_middle() -> None:
    for middle in (b"", b"\x00", b"\xff\xff\x00\x01", B5[:-1], B5[:20], B5[:-1] + b"\x00"):
        stream = middle.join(sample.raw for sample in GOOD)
        assert frames(feed([stream])) == [sample.raw for sample in GOOD]
        assert frames(feed([bytes((byte,)) for byte in stream])) == [sample.raw for sample in GOOD]


def test_frame_gives_seq_data_and_place() -> None:
    (event,) = V3Deframer().push(B5)
    assert event == Frame(seq=7, data=B5[8:-2], raw=B5, data_offset=8, position=0)


garbage = st.one_of(
    st.binary(max_size=40),
    # Noise made of the bytes that headers are made of, with pieces of true frames.
    st.lists(
        st.sampled_from(
            [b"\xff", b"\xff\xff", b"\x00", b"\x01", b"\xff\xff\x00\x01\x00\x00\x00", B5[:9], B5[:40], B2[1:]]
        ),
        max_size=12,
    ).map(b"".join),
)
good = st.builds(
    v3,
    st.integers(0, 255),
    st.one_of(
        st.binary(max_size=80),
        st.sampled_from([b"\xb5" + b"\xff" * 20, b"\xb4" + B5 + b"\xff\xff", b"\xb4" + FALSE_HEADER, B5[8:-2]]),
    ),
)
sizes = st.lists(st.integers(0, 60), max_size=30)


@settings(deadline=None)
@given(st.lists(st.tuples(garbage, good), max_size=6), garbage, sizes)
def test_any_stream_in_any_pieces_gives_the_frames_of_the_finished_stream(parts, tail, sizes) -> None:
    stream = b"".join(noise + frame for noise, frame in parts) + tail
    expected = oracle(stream)
    for pieces in ([stream], cut(stream, sizes), [bytes((byte,)) for byte in stream]):
        events = feed(pieces)
        assert frames(events) == expected
        account_for_every_byte(stream, events)


@settings(deadline=None)
@given(st.binary(max_size=60), good, sizes)
@example(FALSE_HEADER, B5, [])
@example(B5[:-1] + FALSE_HEADER, B5, [1] * 30)
def test_the_frame_behind_garbage_is_there_as_soon_as_the_line_is_quiet(noise, frame, sizes) -> None:
    """Not only at the end of the stream: `flush` gives it, and the stream goes on behind it."""
    stream = noise + frame
    expected = oracle(stream)
    deframer = V3Deframer()
    events: list[FrameEvent] = []
    for piece in cut(stream, sizes):
        events += deframer.push(piece)
    events += deframer.flush()
    assert frames(events) == expected
    events += deframer.push(B2) + deframer.finish()
    assert frames(events) == oracle(stream + B2)
    account_for_every_byte(stream + B2, events)


@pytest.mark.parametrize("noise", [FALSE_HEADER, FALSE_HEADER * 5, FALSE_HEADER + bytes(300), FALSE_HEADER + B2[:20]])
def test_a_frame_behind_a_false_header_is_there_with_its_last_byte(noise: bytes) -> None:
    assert frames(V3Deframer().push(noise + B5)) == [B5]
    deframer = V3Deframer()
    events = [event for byte in noise + B5[:-1] for event in deframer.push(bytes((byte,)))]
    assert frames(events) == []
    events += deframer.push(B5[-1:])
    assert frames(events) == [B5]
    assert frames(events + deframer.push(B2)) == [B5, B2]
    account_for_every_byte(noise + B5, events)


def test_a_frame_behind_the_header_of_a_message_comes_once_that_one_is_full() -> None:
    deframer = V3Deframer()
    assert deframer.push(MESSAGE_HEADER + B5) == []
    events: list[FrameEvent] = []
    sent = 0
    while not frames(events):
        events += deframer.push(B2)
        sent += len(B2)
        assert sent <= FRAME_MAX + len(B2)
    assert frames(events)[0] == B5
    assert len(frames(events)) == 1 + sent // len(B2)  # and with it everything that had to wait behind


def test_a_frame_behind_the_header_of_a_message_comes_when_the_line_is_quiet() -> None:
    deframer = V3Deframer()
    assert deframer.push(FALSE_HEADER + MESSAGE_HEADER + B5) == []
    assert frames(deframer.flush()) == [B5]


def test_a_flush_in_the_middle_of_a_message_does_not_set_free_what_its_data_holds() -> None:
    outer = v3(3, b"\xb4" + B2 + B5 + bytes(40))
    deframer = V3Deframer()
    for cut_at in (20, 60):
        events = deframer.push(outer[:cut_at] if cut_at == 20 else outer[20:cut_at])
        assert frames(events) == []
    # B2 is whole inside: on a quiet line it is taken for a frame behind a false header, and the outer one is over.
    assert frames(deframer.flush()) == [B2]
    deframer = V3Deframer()
    deframer.push(outer[:40])
    assert deframer.flush() == []
    assert frames([event for byte in outer[40:] for event in deframer.push(bytes((byte,)))]) == [outer]


def test_a_frame_of_unknown_kind_wins_over_what_its_data_holds_when_it_is_whole_first() -> None:
    outer = v3(3, b"\x77" + B5 + bytes(40))
    assert frames(feed([outer])) == [outer]
    assert frames(feed([FALSE_HEADER + outer])) == [outer]
    late = v3(3, b"\x77" + bytes(40) + B5)
    assert frames(feed([late[:-3], late[-3:]])) == [late]
    # In pieces the inner one may be whole first. No owner of a tag writes what has no type of a message.
    assert frames(feed([bytes((byte,)) for byte in outer])) == [B5]


@pytest.mark.parametrize(
    "piece", [FALSE_HEADER, bytes.fromhex("ffff00010000004011"), MESSAGE_HEADER, B5[:-1] + b"\x00"]
)
@pytest.mark.parametrize("size", [1, 100, 3 * SLICE_BYTES])
def test_every_check_is_computed_once(piece: bytes, size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    checked = []

    def counted(data: bytes) -> int:
        checked.append(len(data))
        return crc16_x25(data)

    monkeypatch.setattr(framing_v3, "crc16_x25", counted)
    stream = piece * (3 * FRAME_MAX // len(piece))
    deframer = V3Deframer()
    events: list[FrameEvent] = []
    for start in range(0, len(stream), size):
        events += deframer.push(stream[start : start + size])
    # Once more for each fault that is put into words.
    assert len(checked) <= stream.count(b"\xff\xff") + len(events) + 1
    assert max(checked, default=0) <= FRAME_MAX


def test_flush_keeps_a_true_frame_whose_second_half_is_late() -> None:
    deframer = V3Deframer()
    assert deframer.push(B5[:30]) == []
    assert deframer.flush() == []
    assert frames(deframer.push(B5[30:])) == [B5]


def test_a_whole_frame_inside_the_data_of_another_is_data() -> None:
    """A file on a tag may hold anything, a forged B5 too: as long as bytes flow the outer frame wins."""
    outer = v3(3, b"\xb4" + B5 + bytes(40))
    assert frames(feed([outer])) == [outer]
    assert frames(feed([bytes((byte,)) for byte in outer])) == [outer]
    deframer = V3Deframer()
    deframer.push(outer[:20])
    deframer.flush()  # quiet, but the inner frame is not complete
    assert frames(deframer.push(outer[20:])) == [outer]


def test_damaged_outer_frame_gives_way_to_the_next_good_one_at_once() -> None:
    damaged = B2[:20] + b"\x55" + B2[21:]
    events = V3Deframer().push(damaged + B5)
    assert frames(events) == [B5]
    assert isinstance(events[0], BadFrame)
    assert (events[0].field, events[0].offset, events[0].length) == ("CRC", 45, len(damaged))


def test_bad_crc_is_told_at_once_with_both_values() -> None:
    (event,) = V3Deframer().push(vector("v3-c0-badcrc").raw)
    assert isinstance(event, BadFrame)
    assert (event.field, event.offset, event.position) == ("CRC", 30, 0)
    assert "FFFF" in event.problem
    assert "FC82" in event.problem
    assert event.data == vector("v3-c0-badcrc").raw[:16]


@pytest.mark.parametrize(
    ("raw", "field", "offset"),
    [("ffff01", "VER", 2), ("ffff000100000401", "LEN", 4), ("ffff0001ff000001", "LEN", 4)],
)
def test_impossible_header_is_told_at_once(raw: str, field: str, offset: int) -> None:
    (event,) = V3Deframer().push(bytes.fromhex(raw))
    assert isinstance(event, BadFrame)
    assert (event.field, event.offset) == (field, offset)


def test_longest_frame_is_taken_and_one_byte_more_is_not() -> None:
    longest = v3(1, b"\xb6" + bytes(LEN_MAX - 1))
    assert frames(feed([longest])) == [longest]
    assert len(longest) == FRAME_MAX
    assert frames(feed([v3(1, bytes(LEN_MAX + 1))])) == []


def test_noise_is_told_once_a_run_not_once_a_byte() -> None:
    deframer = V3Deframer()
    for _ in range(100):
        assert deframer.push(b"\x55") == []
    assert deframer.unsettled
    (event,) = deframer.flush()
    assert isinstance(event, BadFrame)
    assert (event.field, event.length) == ("STX", 100)
    assert not deframer.unsettled


def test_endless_noise_is_told_without_a_pause() -> None:
    events = V3Deframer().push(b"\x55" * (3 * FRAME_MAX))
    assert sum(event.length for event in events if isinstance(event, BadFrame)) >= 2 * FRAME_MAX
    assert len(events) <= 3


def test_one_huge_read_does_not_grow_the_buffer() -> None:
    stream = (B5 + b"\x00") * (3 * SLICE_BYTES // len(B5))
    deframer = V3Deframer()
    assert len(frames(deframer.push(stream))) == 3 * SLICE_BYTES // len(B5)
    assert deframer.pending == 0


def test_end_of_stream_tells_what_was_cut_short() -> None:
    deframer = V3Deframer()
    deframer.push(B5[:30])
    (event,) = deframer.finish()
    assert isinstance(event, BadFrame)
    assert (event.field, event.offset, event.length) == ("DATA", 30, 30)
    assert "LEN is 36" in event.problem
    deframer = V3Deframer()
    deframer.push(B5[:5])
    (event,) = deframer.finish()
    assert isinstance(event, BadFrame)
    assert (event.field, event.length) == ("LEN", 5)
