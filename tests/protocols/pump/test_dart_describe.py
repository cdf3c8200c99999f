"""Description of DART frames: every byte once, names and words, and what is wrong where."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocols.description import FieldDescription
from protocols.pump.dart.describe import describe
from protocols.pump.dart.layout import DECLARED, Sender
from protocols.pump.dart.meanings import TITLES
from tests.protocols.pump.samples import DART, Vector, dart, dart_frame


def sender(vector: Vector) -> Sender:
    return Sender.CONTROLLER if vector.direction.startswith("controller") else Sender.PUMP


def account_for_every_byte(raw: bytes, fields: tuple[FieldDescription, ...]) -> None:
    at = 0
    for field in fields:
        assert field.offset == at, field
        at += field.length
    assert at == len(raw)


def inner(fields: tuple[FieldDescription, ...]) -> list[FieldDescription]:
    return [leaf for field in fields for leaf in (field, *inner(field.fields))]


@pytest.mark.parametrize("vector", DART, ids=lambda vector: vector.id)
def test_vector_is_described_whole_with_names_and_words(vector: Vector) -> None:
    found = describe(vector.raw, sender(vector))
    account_for_every_byte(vector.raw, found.fields)
    assert found.ok == vector.valid
    assert found.message == vector.decoded["ctrl"]
    for field in inner(found.fields):
        assert field.meaning
        assert field.zh or field.name.startswith("prices")
    assert found.as_dict()["raw"] == vector.raw.hex()


def test_sale_reads_as_people_say_it() -> None:
    found = describe(dart("dart-cn-10").raw, Sender.PUMP)
    rows = [(field.name, field.value, field.meaning, field.zh) for field in inner(found.fields)]
    assert rows == [
        ("ADR", "50", "address of the side: 1 of 32", "地址：第 1 面"),
        ("CTRL", "DATA 4", "data block, TX# 4", "数据，序号 4"),
        ("DC3", "4 bytes", "nozzle and price", "油枪与单价"),
        ("price_raw", "785", "unit price, digits without a point", "单价"),
        ("nozio", "01", "nozzle and its place: nozzle 1 in", "油枪位置：1 号枪已挂好"),
        ("DC2", "8 bytes", "filling", "加油数据"),
        ("volume_raw", "2547", "volume, digits without a point", "油量"),
        ("amount_raw", "19994", "amount, digits without a point", "金额"),
        ("DC1", "1 bytes", "status", "油机状态"),
        ("status", "5", "status: filling completed", "状态：加油完毕"),
        ("CRC", "B44E", "CRC-16/ARC over ADR to the end of the data, without escapes", "校验"),
        ("ETX", "03", "end of the data", "数据结束"),
        ("SF", "FA", "end of the frame", "帧尾"),
    ]


def test_totaliser_asked_for_is_named() -> None:
    words = [describe(dart_frame(0x50, 1, bytes((0x65, 1, counter))), Sender.CONTROLLER) for counter in (0x01, 0x12)]
    named = [found.fields[2].fields[0].meaning for found in words]
    assert named == ["totaliser: volume total of nozzle 1", "totaliser: amount total of nozzle 2"]


def test_direction_decides_the_words() -> None:
    raw = dart("dart-cn-07").raw
    names = [[field.name for field in describe(raw, one).fields][2] for one in Sender]
    assert names == ["CD1", "DC1"]


def test_escapes_count_where_they_stand() -> None:
    found = describe(dart_frame(0x50, 1, b"\x44\x02\xfa\x10\x01\x01\x05"), Sender.PUMP)
    unknown, status = found.fields[2:4]
    assert (unknown.name, unknown.raw.hex(), unknown.length) == ("TRANS 44", "4402fa10", 5)
    assert (status.offset, status.length) == (7, 3)
    assert found.ok


@pytest.mark.parametrize(
    ("raw", "field", "offset"),
    [
        ("", "ADR", 0),
        ("0011", "noise", 0),
        ("50", "CTRL", 1),
        ("5099fa", "CTRL", 1),
        ("5020", "SF", 2),
        ("502000", "SF", 2),
        ("5020fafa", "tail", 3),
        ("00501101", "noise", 0),
        ("50370101061d3d03fa", "CRC", 5),
        ("5037010106", "CRC", 5),
        ("503703fa", "CRC", 2),
        ("50370103061e2a03fa", "TRANS 01", 2),
        ("50310208000000000a", "DC2", 2),
    ],
)
def test_what_is_wrong_is_told_where_it_is(raw: str, field: str, offset: int) -> None:
    found = describe(bytes.fromhex(raw), Sender.PUMP)
    account_for_every_byte(bytes.fromhex(raw), found.fields)
    assert (field, offset) in [(problem.field, problem.offset) for problem in found.problems]
    assert all(problem.text and problem.next_step for problem in found.problems)


def test_digit_that_is_none_is_told_at_its_field() -> None:
    found = describe(dart_frame(0x50, 1, bytes.fromhex("0208000a254700019994")), Sender.PUMP)
    assert [(problem.field, problem.offset) for problem in found.problems] == [("volume_raw", 4)]


@given(st.binary(max_size=40), st.sampled_from(Sender))
def test_any_bytes_are_described(raw: bytes, one: Sender) -> None:
    account_for_every_byte(raw, describe(raw, one).fields)


@given(st.binary(max_size=40), st.sampled_from(Sender), st.integers(0, 15))
def test_any_data_is_described(data: bytes, one: Sender, number: int) -> None:
    raw = dart_frame(0x51, number, data)
    account_for_every_byte(raw, describe(raw, one).fields)


def test_every_transaction_has_a_title_in_both_languages() -> None:
    assert TITLES.keys() == {one.name for one in DECLARED}
    assert all(title.zh and title.en for title in TITLES.values())
