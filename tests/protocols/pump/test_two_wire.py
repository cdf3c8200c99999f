"""Gilbarco two-wire: blocks as recorded, and what its dialect asks of a pump."""

from __future__ import annotations

import pytest

from protocols.errors import LocalProtocolError, RemoteProtocolError
from protocols.pump import two_wire, types
from protocols.pump.two_wire import TWO_WIRE
from protocols.pump.types import Decimals, SideId, SideState
from tests.protocols.pump.samples import Vector, bytes_of, load

VECTORS = load("gilbarco-two-wire")
BLOCKS = tuple(vector for vector in VECTORS if vector.valid and vector.raw[0] == 0xFF)
REPORTS = tuple(vector for vector in VECTORS if vector.valid and vector.raw[0] != 0xFF)
ids = {"ids": lambda vector: vector.id}
SIDE = SideId(3)
TRANSACTION = next(vector for vector in VECTORS if vector.id == "2w-transaction")


@pytest.mark.parametrize("vector", BLOCKS, **ids)
def test_recorded_block_says_what_it_states_and_is_written_the_same(vector: Vector) -> None:
    layout, values = two_wire.read_block(vector.raw)
    assert two_wire.write_block(layout, **values) == vector.raw
    if vector.id == "2w-special-010":
        assert (layout, values["function"], values["length"]) == (two_wire.SPECIAL, b"\xe0\xe1\xe0", 9)
        assert values["lrc"] == 0xE
    else:
        assert {name: values[name] for name in vector.decoded} == vector.decoded


def test_recorded_transaction_is_a_delivery() -> None:
    decimals = Decimals(**TRANSACTION.decimals)
    (told,) = two_wire.readings(*two_wire.read_block(TRANSACTION.raw), decimals)
    assert told == types.Delivered(23_360, 250_00, 10_700)
    # The pump stops at the preset; its display has steps of 10 ml, which are 0.107 of money.
    assert abs(decimals.amount_of(23_360, 10_700) - 250_00) <= 11


@pytest.mark.parametrize("vector", REPORTS, **ids)
def test_quoted_report_says_which_nozzle_is_out(vector: Vector) -> None:
    report = two_wire.read_nozzle_report(vector.raw)
    assert {name: getattr(report, name) for name in vector.decoded} == vector.decoded
    damaged = vector.raw[:12] + bytes((vector.raw[12] ^ 1,)) + vector.raw[13:]
    with pytest.raises(RemoteProtocolError, match="sum") as caught:
        two_wire.read_nozzle_report(damaged)
    assert (caught.value.field, caught.value.offset) == ("sum", 15)
    with pytest.raises(RemoteProtocolError, match="line"):
        two_wire.read_nozzle_report(vector.raw[:-1])


def test_recorded_block_with_lost_bytes_is_refused_for_its_check() -> None:
    (bad,) = (vector for vector in VECTORS if not vector.valid)
    with pytest.raises(RemoteProtocolError, match="LRC is E, expected 0") as caught:
        two_wire.read_block(bad.raw)
    assert (caught.value.field, caught.value.offset) == ("lrc", len(bad.raw) - 2)


@pytest.mark.parametrize(
    ("raw", "field", "offset"),
    [
        ("", "start", 0),
        ("f1f0e0f0", "start", 0),
        ("ffe1f1fb", "end", 4),
        ("fff3fbe3f0", "code", 1),
        (TRANSACTION.raw.hex().replace("f7e0e7e0e1", "f7e0ece5e1"), "lrc", 31),
        (TRANSACTION.raw.hex().replace("f7e0e7e0e1", "f7e0e7e1e0"), None, None),
        (TRANSACTION.raw.hex().replace("f7e0e7e0e1", "f7e0ece0ec"), "price_raw", 13),
        (TRANSACTION.raw.hex().replace("f9", "e9"), "volume_code", 16),
    ],
)
def test_block_that_does_not_fit_is_told_by_field_and_place(raw: str, field: str | None, offset: int | None) -> None:
    if field is None:
        assert two_wire.read_block(bytes.fromhex(raw))[1]["price_raw"] == 170
        return
    with pytest.raises(RemoteProtocolError) as caught:
        two_wire.read_block(bytes.fromhex(raw))
    assert (caught.value.field, caught.value.offset) == (field, offset)


@pytest.mark.parametrize("before", [b"", b"\x00", b"\xff\xe1", b"\xff\xe1\xf0", b"garbage"])
@pytest.mark.parametrize("vector", BLOCKS, **ids)
def test_block_is_found_byte_by_byte_amid_garbage(vector: Vector, before: bytes) -> None:
    received = b""
    for piece in bytes_of(before + vector.raw)[:-1]:
        received += piece
        assert two_wire.find_block(received) != vector.raw
    assert two_wire.find_block(received + vector.raw[-1:] + b"\xff\x00") == vector.raw


def grade(number: int) -> two_wire.GradeTotals:
    return two_wire.GradeTotals(0xF6, number, 0xF9, 12_345_678, 0xFA, 87_654_321, 0xF4, 785, 0xF5, 786)


def test_totals_of_several_grades() -> None:
    block = two_wire.write_block(two_wire.TOTALS.bound({"grades": 2}), grades=(grade(1), grade(3)))
    assert len(block) == 2 * 30 + 4
    assert two_wire.readings(*two_wire.read_block(block), Decimals()) == (
        types.TotalsSeen(1, 123_456_780, 87_654_321),
        types.TotalsSeen(3, 123_456_780, 87_654_321),
    )


def sent(command: types.Command, state: SideState | None = None) -> list[str]:
    return [request.raw.hex(" ").upper() for request in TWO_WIRE.requests(SIDE, command, Decimals(), state)]


def test_commands_as_the_public_controller_sends_them() -> None:
    assert sent(types.AskState()) == ["03"]
    assert sent(types.Stop()) == ["33"]
    assert sent(types.AskDelivered()) == ["43"]
    assert sent(types.AskDelivered(), SideState.FUELLING) == ["63"]
    assert sent(types.AskTotals(1)) == ["53"]
    assert sent(types.Clear()) == []
    assert sent(types.SetPrices((7850,))) == ["23", "FF E5 F4 F6 E0 F7 E5 E8 E7 E0 FB EC F0"]
    preset = "FF E2 F2 F4 F6 E1 F8 E0 E0 E0 E0 E2 E0 FB ED F0"
    assert sent(types.Authorise(types.AmountLimit(200_00), nozzles=(2,))) == ["23", preset, "13"]
    assert sent(types.Authorise(types.VolumeLimit(30_000)))[1].startswith("FF E2 F1 F4 F6 E0 F8 E0 E0 E0 E3 E0 E0 FB")
    assert TWO_WIRE.requests(SideId(16), types.AskState(), Decimals(), None)[0].raw == b"\x00"


def test_what_the_protocol_cannot_say() -> None:
    for command in (
        types.Resume(),
        types.Suspend(),
        types.Authorise(types.AmountLimit(0)),
        types.Authorise(types.AmountLimit(10**8)),
        types.Authorise(types.AmountLimit(100), nozzles=(1, 2)),
        types.SetPrices((100_000,)),
    ):
        with pytest.raises(LocalProtocolError):
            TWO_WIRE.requests(SIDE, command, Decimals(), None)


def test_answers_are_found_and_bad_ones_refused() -> None:
    (money,) = TWO_WIRE.requests(SIDE, types.AskDelivered(), Decimals(), SideState.FUELLING)
    assert money.find is not None
    assert money.find(b"\xe4\xe9\xe9\xe9\xe1") is None
    answer = money.find(b"\xe4\xe9\xe9\xe9\xe1\xe0")
    assert answer is not None
    assert answer.readings == (types.Delivered(None, 19_994),)
    with pytest.raises(RemoteProtocolError) as caught:
        money.find(b"\xe4\xe9\xea\xe9\xe1\xe0")
    assert (caught.value.field, caught.value.offset) == ("amount_raw", 2)
    (poll,) = TWO_WIRE.requests(SIDE, types.AskState(), Decimals(), None)
    assert poll.find is not None
    assert poll.find(b"\x64\x13") is None
    found = poll.find(b"\x64\x13\x93")
    assert found is not None
    assert found.readings == (types.StateSeen(SideState.FUELLING),)


def test_nibbles_and_blocks_that_say_nothing() -> None:
    assert two_wire.readings(two_wire.SPECIAL, {}, Decimals()) == ()
    with pytest.raises(RemoteProtocolError) as caught:
        two_wire.read_block(b"\xff\xe5\xf4\xf4\xf6\x00\xf7\xe5\xe8\xe7\xe0\xfb\xed\xf0")
    assert caught.value.field in ("lrc", "price")
    with pytest.raises(LocalProtocolError):
        two_wire.write_block(two_wire.PRICE, level=0xF4, grade=17, price_raw=785)
    wrong_grade = TRANSACTION.raw.replace(b"\xf6\xe2", b"\xf6\x02")
    with pytest.raises(RemoteProtocolError) as caught:
        two_wire.read_block(wrong_grade)
    assert (caught.value.field, caught.value.offset) == ("grade", 9)
