"""Lanfeng: constructed messages only, packed by hand."""

from __future__ import annotations

import pytest

from protocols.errors import LocalProtocolError, RemoteProtocolError
from protocols.pump import lanfeng, types
from protocols.pump.lanfeng import LANFENG
from protocols.pump.types import Decimals, SideId, SideState
from tests.protocols.pump.samples import bytes_of

SIDE = SideId(2)


def message(body: str) -> bytes:
    """Panel and ten bytes, with their check."""
    raw = bytes.fromhex(body)
    assert len(raw) == 11
    return raw + bytes(((0x100 - sum(raw[1:]) % 0x100) % 0x100,))


STATUS = message("02 00 0785 019994 002547 C2")


def sent(command: types.Command) -> list[bytes]:
    return [request.raw for request in LANFENG.requests(SIDE, command, Decimals(), None)]


def test_commands() -> None:
    assert sent(types.AskState()) == [message("02 00 B8 00000000 00000000")]
    assert sent(types.Stop()) == [message("02 00 B1 00000000 00000000")]
    assert sent(types.SetPrices((7850,))) == [message("02 00 A4 07850000 00000000")]
    assert sent(types.AskTotals(1)) == [message("02 00 AD 0000000000000000"), message("02 00 AC 0000000000000000")]
    assert sent(types.Authorise(types.AmountLimit(200_00))) == [
        message("02 00 A0 00000000 00000000"),
        message("02 00 A2 02000000 00000000"),
        message("02 00 A1 00000000 00000000"),
    ]
    assert sent(types.Authorise(types.VolumeLimit(30_000)))[1] == message("02 00 A3 00300000 00000000")
    assert sent(types.Clear()) == []


def test_what_the_protocol_cannot_say() -> None:
    for command in (
        types.Suspend(),
        types.Resume(),
        types.SetPrices((1, 2)),
        types.SetPrices((100_000,)),
        types.Authorise(types.AmountLimit(0)),
        types.Authorise(types.AmountLimit(10**6 * 100)),
        types.Authorise(types.AmountLimit(100), nozzles=(2,)),
    ):
        with pytest.raises(LocalProtocolError):
            LANFENG.requests(SIDE, command, Decimals(), None)
    with pytest.raises(LocalProtocolError):
        lanfeng.write_request(2, lanfeng.STOP, bytes(9))


def test_status_says_state_and_delivery() -> None:
    values = lanfeng.read(STATUS, lanfeng.STATUS)
    delivered = types.Delivered(25_470, 199_94, 7_850)
    for code, state, out in (
        (0xC2, SideState.FUELLING, True),
        (0xC1, SideState.CALLING, True),
        (0x41, SideState.IDLE, False),
    ):
        told = lanfeng.status_readings(values | {"state": code}, Decimals())
        nozzle = types.NozzleSeen(1, out, delivered.unit_price_milli)
        assert told == (types.StateSeen(state), nozzle, delivered)
    assert lanfeng.status_readings(values | {"state": 0x00}, Decimals()) == (delivered,)
    assert [field.name for field in lanfeng.STATUS.describe(STATUS)][2] == "price_raw"


@pytest.mark.parametrize("before", [b"", b"\x02", b"\x02\x00", STATUS[:-1], b"\x03" + STATUS[1:]])
def test_answer_is_found_byte_by_byte_amid_garbage(before: bytes) -> None:
    find = LANFENG.poll(SIDE, Decimals()).find
    assert find is not None
    received = b""
    for piece in bytes_of(before + STATUS)[:-1]:
        received += piece
        assert find(received) is None
    answer = find(received + STATUS[-1:] + b"\x00")
    assert answer is not None
    assert answer.raw == STATUS


def test_what_does_not_fit_is_told_by_field_and_place() -> None:
    for raw, field, offset in (
        (STATUS[:-1] + bytes((STATUS[-1] ^ 1,)), "check", 11),
        (message("02 00 0785 01999A 002547 C2"), "amount_raw", 4),
        (STATUS[:-1], "status", 11),
    ):
        with pytest.raises(RemoteProtocolError) as caught:
            lanfeng.read(raw, lanfeng.STATUS)
        assert (caught.value.field, caught.value.offset) == (field, offset)


def test_totals() -> None:
    volume, amount = (request.find for request in LANFENG.requests(SIDE, types.AskTotals(1), Decimals(), None))
    assert volume is not None
    assert amount is not None
    total = message("02 00 00 0000 000012345678")
    for find, expected in ((volume, (1, 123_456_780, None)), (amount, (1, None, 12_345_678))):
        answer = find(total)
        assert answer is not None
        assert answer.readings == (types.TotalsSeen(*expected),)
