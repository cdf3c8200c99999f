"""Descriptions of all pump protocols: every byte once, a name and words in both languages, what is wrong where."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocols.description import FieldDescription
from protocols.pump import lanfeng
from protocols.pump.dart.layout import Sender
from protocols.pump.describe import DESCRIBERS, describe_lanfeng
from tests.protocols.pump.samples import Vector, load

VECTORS = tuple(vector for name in DESCRIBERS for vector in load(name))
STATUS = lanfeng.STATUS.build(
    panel=2, zero=b"\0", price_raw=785, amount_raw=19994, volume_raw=2547, state=0xC2, check=0
)
STATUS = STATUS[:-1] + bytes((lanfeng.check_of(STATUS),))


def account_for_every_byte(raw: bytes, fields: tuple[FieldDescription, ...]) -> None:
    at = 0
    for field in fields:
        assert field.offset == at, field
        at += field.length
    assert at == len(raw)


def inner(fields: tuple[FieldDescription, ...]) -> list[FieldDescription]:
    return [leaf for field in fields for leaf in (field, *inner(field.fields))]


def sender(vector: Vector) -> Sender:
    return Sender.CONTROLLER if vector.direction.startswith("controller") else Sender.PUMP


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector.id)
def test_vector_is_described_whole_in_both_languages(vector: Vector) -> None:
    found = DESCRIBERS[vector.protocol](vector.raw, sender(vector))
    account_for_every_byte(vector.raw, found.fields)
    assert found.ok == vector.valid, found.problems
    for field in inner(found.fields):
        assert field.meaning
        assert field.zh or field.name.startswith("prices")


@pytest.mark.parametrize("name", DESCRIBERS)
@given(st.binary(max_size=40), st.sampled_from(Sender))
def test_any_bytes_are_described(name: str, raw: bytes, one: Sender) -> None:
    found = DESCRIBERS[name](raw, one)
    account_for_every_byte(raw, found.fields)
    assert all(problem.text for problem in found.problems)


def rows(name: str, raw: str, one: Sender) -> list[tuple[str, str, str]]:
    return [(field.name, field.meaning, field.zh) for field in DESCRIBERS[name](bytes.fromhex(raw), one).fields]


def test_bytes_of_the_two_wire_loop() -> None:
    name = "gilbarco-two-wire"
    assert rows(name, "13", Sender.CONTROLLER) == [("command", "command for pump 3: authorise", "3 号面板命令：授权")]
    assert rows(name, "70", Sender.PUMP) == [
        ("state", "state of pump 16: nozzle out, waiting for authorisation", "16 号面板状态：提枪请求")
    ]
    assert rows(name, "FC", Sender.CONTROLLER) == [("command", "stop all pumps", "命令：全部停止")]
    assert not DESCRIBERS[name](b"\x23", Sender.PUMP).ok


def test_sums_are_told_at_their_field() -> None:
    line = bytearray(b"\xba\xb0\xb3\xb1\xb0\xb1\xb0\xb0\xb0\xb0\xb1\xb0\xb0\xb1\xb0\xc3\xc3\x8d\x8a")
    line[14] ^= 1
    for name, raw, field, offset in (
        ("gilbarco-two-wire", bytes(line), "sum", 15),
        ("lanfeng", STATUS[:-1] + b"\x00", "check", 11),
        ("lanfeng", STATUS[:4] + b"\x0a" + STATUS[5:], "amount_raw", 4),
        ("lanfeng", STATUS[:7], "volume_raw", 7),
        ("lanfeng", STATUS + b"\x00", "tail", 12),
        ("ifsf", bytes.fromhex("0201010100800099012164"), "length", 6),
    ):
        found = DESCRIBERS[name](raw, Sender.PUMP)
        problems = [(problem.field, problem.offset) for problem in found.problems]
        assert (field, offset) in problems, name


def test_lanfeng_answers_are_read_by_what_was_asked() -> None:
    total = lanfeng.TOTAL.build(panel=2, head=bytes(4), total_raw=12_345_678, check=0)
    found = describe_lanfeng(total[:-1] + bytes((lanfeng.check_of(total),)), Sender.PUMP, lanfeng.ASK_VOLUME_TOTAL)
    assert found.ok
    assert [field.value for field in found.fields if field.name == "total_raw"] == ["12345678"]
    named = {field.name: field.zh for field in describe_lanfeng(STATUS, Sender.PUMP).fields}
    assert named["state"] == "状态：加油中"


def test_ifsf_heartbeat() -> None:
    found = DESCRIBERS["ifsf"](bytes.fromhex("C0A801011F9001010101"), Sender.PUMP)
    assert found.ok
    assert found.layout == "heartbeat"
