"""A stream is cut into messages whatever the pieces it arrives in."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocols.bank.codec import decode
from protocols.bank.framing import BUFFER_BYTES_MAX, FRAME_BYTES_MAX, KEEP_ALIVE, Framer, frame
from protocols.errors import LocalProtocolError, RemoteProtocolError

LINES = (Path(__file__).parents[2] / "vectors" / "iso8583.jsonl").read_text(encoding="utf-8").splitlines()
BODIES = []
for vector in map(json.loads, LINES):
    raw = bytes.fromhex(vector["hex"])
    BODIES.append(raw[2:] if "length_header" in vector else raw)


def pull(framer: Framer) -> list[bytes]:
    frames = []
    while (body := framer.next_frame()) is not None:
        frames.append(body)
    return frames


@pytest.mark.parametrize("body", BODIES)
def test_whole_bytewise_and_with_the_beginning_of_the_next(body):
    whole = Framer()
    whole.feed(frame(body))
    assert pull(whole) == [body]

    slow = Framer()
    got = []
    for index, byte in enumerate(frame(body)):
        assert got == []
        assert slow.pending == index
        slow.feed(bytes([byte]))
        got = pull(slow)
    assert got == [body]

    tailed = Framer()
    tailed.feed(frame(body) + frame(body)[:3])
    assert pull(tailed) == [body]
    assert tailed.pending == 3
    tailed.feed(frame(body)[3:])
    assert pull(tailed) == [body]
    assert decode(body).mti


@given(st.lists(st.integers(1, 400), max_size=40))
def test_glued_and_cut_anywhere(cuts):
    stream = KEEP_ALIVE + b"".join(frame(body) for body in BODIES) + KEEP_ALIVE
    framer, got, at = Framer(), [], 0
    for cut in cuts:
        framer.feed(stream[at : at + cut])
        got += pull(framer)
        at += cut
    framer.feed(stream[at:])
    assert got + pull(framer) == [b"", *BODIES, b""]
    assert framer.pending == 0


def test_real_length_headers_agree():
    for line in map(json.loads, LINES):
        if "length_header" in line:
            framer = Framer()
            framer.feed(bytes.fromhex(line["hex"]))
            assert len(framer.next_frame()) == line["length_header"]


def test_largest_and_too_large():
    framer = Framer()
    framer.feed(frame(bytes(FRAME_BYTES_MAX)))
    assert framer.next_frame() == bytes(FRAME_BYTES_MAX)
    framer.feed((FRAME_BYTES_MAX + 1).to_bytes(2, "big"))
    for _ in range(2):  # the stream stays broken
        with pytest.raises(RemoteProtocolError) as caught:
            framer.next_frame()
        assert caught.value.field == "length"
        assert caught.value.offset == 2 + FRAME_BYTES_MAX
    with pytest.raises(LocalProtocolError):
        frame(bytes(FRAME_BYTES_MAX + 1))


def test_unread_bytes_are_bounded():
    framer = Framer()
    framer.feed(bytes(BUFFER_BYTES_MAX))
    with pytest.raises(LocalProtocolError):
        framer.feed(b"\x00")
