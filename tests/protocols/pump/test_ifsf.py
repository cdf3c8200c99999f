"""IFSF: the constructed messages of the vectors, and what does not fit."""

from __future__ import annotations

import dataclasses

import pytest

from protocols.errors import RemoteProtocolError
from protocols.pump import ifsf, types
from protocols.pump.ifsf import Deframer, Kind, Number
from protocols.pump.types import SideState
from tests.protocols.pump.samples import Vector, bytes_of, load

VECTORS = load("ifsf")
IDLE, RUNNING = (vector.raw for vector in VECTORS)
ids = {"ids": lambda vector: vector.id}


def stated(one: ifsf.Element) -> object:
    """An element the way the vectors state one."""
    if one.number is not None:
        return str(one.number)
    if one.words is not None:
        return f"{one.data[0]} {one.words.en.capitalize()}"
    return one.data[0] if one.name == "Current_Log_Noz" else one.data.hex()


@pytest.mark.parametrize("vector", VECTORS, **ids)
def test_vector_says_what_it_states_and_is_written_the_same(vector: Vector) -> None:
    message = ifsf.read(vector.raw)
    assert ifsf.write(message) == vector.raw
    assert message.database.hex() == vector.decoded["db"]
    data = {f"{one.data_id} {one.name}": stated(one) for one in message.elements if one.data}
    assert data == vector.decoded["data"]
    if "to" in vector.decoded:
        assert ["/".join(f"{part:02}" for part in end) for end in (message.receiver, message.sender)] == [
            vector.decoded["to"],
            vector.decoded["from"],
        ]
        assert (message.code, message.kind.name.lower()) == (vector.decoded["mc"], vector.decoded["m_st"])
    assert all(one.zh for one in message.elements)


def test_readings() -> None:
    assert ifsf.readings(ifsf.read(IDLE)) == (types.StateSeen(SideState.IDLE),)
    assert ifsf.readings(ifsf.read(RUNNING)) == (types.Delivered(10_000, 78_50, None),)
    finer = ifsf.read(RUNNING.replace(b"\x06\x00\x00\x10\x00", b"\x04\x00\x10\x00\x01"))
    assert ifsf.readings(finer) == (types.Delivered(None, 78_50, None),)


def test_numbers() -> None:
    assert [str(Number(7850, decimals)) for decimals in (0, 2, 4, 5)] == ["7850", "78.50", "0.7850", "0.07850"]
    assert (Number(7850, 2).in_units(2), Number(7850, 2).in_units(3), Number(7850, 2).in_units(1)) == (7850, 78500, 785)
    assert Number(7855, 2).in_units(1) is None


def test_stream_is_cut_into_messages() -> None:
    stream = IDLE + RUNNING
    deframer = Deframer()
    found = [message for piece in bytes_of(stream + IDLE[:5]) for message in deframer.push(piece)]
    assert found == Deframer().push(stream) == [IDLE, RUNNING]
    assert deframer.pending == 5
    with pytest.raises(RemoteProtocolError, match="M_Lg"):
        Deframer().push(b"garbage that says a length")


def test_transaction_and_other_databases() -> None:
    body = bytes.fromhex("04 21 21 0001 15 01 02 05 05 06 00 00 78 50 06 05 06 00 00 10 00 07 04 04 00 07 85")
    raw = IDLE[:6] + len(body).to_bytes(2, "big") + body
    message = ifsf.read(raw)
    assert (message.database_name, message.kind) == ("transaction", Kind.UNSOLICITED)
    assert message.elements[0].words == ifsf.TRANSACTION_STATES[2]
    assert ifsf.readings(message) == (types.Delivered(10_000, 78_50, 7_850),)
    names = {"00": "communication", "01": "calculator", "41": "product", "81": "meter", "2111": "logical nozzle"}
    for address, name in (names | {"24": "fuelling point", "71": "unknown", "2199": "unknown"}).items():
        body = bytes((len(address) // 2,)) + bytes.fromhex(address)
        found = ifsf.read(IDLE[:6] + len(body).to_bytes(2, "big") + body)
        assert (found.database_name, found.elements) == (name, ())
    heartbeat = bytes.fromhex("C0A80101 1F90 0101 01 01")
    assert ifsf.HEARTBEAT.parse(heartbeat)["port"] == 8080


def with_length(raw: bytes) -> bytes:
    return raw[:6] + (len(raw) - 8).to_bytes(2, "big") + raw[8:]


@pytest.mark.parametrize(
    ("raw", "field", "offset"),
    [
        (b"", "length", 0),
        (IDLE[:8], "length", 8),
        (IDLE + b"\x00", "length", 6),
        (IDLE[:5] + b"\xa0" + IDLE[6:], "status", 5),
        (IDLE[:8] + b"\x40" + IDLE[9:], "Ad_Lg", 8),
        (with_length(IDLE[:-1]), "Data_Lg", 19),
        (with_length(IDLE[:-3]), "Data_Lg", 19),
        (with_length(IDLE[:13] + b"\x02\x03" + IDLE[14:]), "FP_State", 13),
        (RUNNING.replace(b"\x06\x00\x00\x78\x50", b"\x06\x00\x00\x7a\x50"), "Current_Amount", 17),
        (RUNNING.replace(b"\x06\x00\x00\x78\x50", b"\x09\x00\x00\x78\x50"), "Current_Amount", 17),
    ],
)
def test_what_does_not_fit_is_told_by_field_and_place(raw: bytes, field: str, offset: int) -> None:
    with pytest.raises(RemoteProtocolError) as caught:
        ifsf.read(raw)
    assert (caught.value.field, caught.value.offset) == (field, offset)
    assert caught.value.hint


def test_unknown_elements_are_kept() -> None:
    raw = with_length(IDLE + b"\xfe\x02\xaa\xbb")
    message = ifsf.read(raw)
    assert dataclasses.replace(message.elements[-1], offset=0) == ifsf.Element(0xFE, "", "", b"\xaa\xbb", 0)
    assert ifsf.write(message) == raw
