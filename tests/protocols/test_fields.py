"""The field language: what generated code would let through is caught, and every failure has its place."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocols import fields
from protocols.codings import DATE, bcd, digits, text
from protocols.errors import LocalProtocolError, RemoteProtocolError
from protocols.fields import (
    BOUND_KEPT_MAX,
    COMPILED_AFTER,
    Coding,
    Field,
    Label,
    Layout,
    Misfit,
    Privacy,
    Repeated,
    coded,
    const,
    counted,
    is_fill,
    numbers,
    raw,
    uint,
    unreadable,
)


@dataclass(frozen=True)
class Psam:
    slot: int | None = None
    terminal: bytes | None = None


FLAT = Layout(
    "flat",
    "test",
    (
        Field("type", const(b"\xc6"), "kind"),
        Field("left", raw(4), "four bytes"),
        Field("right", raw(4), "four bytes"),
        Field("amount", uint(3), "fen", words={5: Label("五", "five")}),
        Field("plate", text(8), "plate", privacy=Privacy.PLATE),
        Field("number", digits(4), "number", privacy=Privacy.NUMBER),
    ),
)
VALUES = {"type": None, "left": b"abcd", "right": b"efgh", "amount": 5, "plate": "测A12345", "number": "12345678"}
BYTES = b"\xc6abcdefgh\0\0\5" + "测A1234".encode("gbk")

RECORDS = Layout(
    "records",
    "test",
    (
        Field("count", uint(1), "declared", default=lambda values: len(values["psams"])),
        Repeated("psams", (Field("slot", uint(1), "slot"), Field("terminal", raw(2), "terminal")), "PSAMs", Psam),
        Field("states", numbers(2), "states", words=({0: "works"}, {0: "link works"})),
        Field("rest", raw(2), "rest", default=b"\0\0"),
    ),
)


def flat() -> bytes:
    return FLAT.build(**{**VALUES, "plate": "测A1234"})


def test_what_is_built_is_read_back():
    built = flat()
    assert FLAT.parse(built) == {**VALUES, "type": b"\xc6", "plate": "测A1234"}
    assert len(built) == FLAT.size == 24


@pytest.fixture(params=["as declared", "generated"], autouse=True)
def code(request, monkeypatch):
    """Both ways, whatever ran before."""
    never, always = 1 << 30, -1
    monkeypatch.setattr(fields, "COMPILED_AFTER", never if request.param == "as declared" else always)


@pytest.mark.parametrize("length", [*range(24), 25])
def test_generated_code_reads_past_the_end_and_the_layout_does_not(length):
    with pytest.raises(RemoteProtocolError) as caught:
        FLAT.parse((flat() + b"\0")[:length])
    assert caught.value.field == "flat"
    assert caught.value.clause == "test"


def test_bytes_of_a_wrong_length_are_refused_even_where_they_even_out():
    """Generated code writes as many as it is given: 3 and 5 make 8, too."""
    with pytest.raises(LocalProtocolError) as caught:
        FLAT.build(**{**VALUES, "left": b"abc", "right": b"efghi"})
    assert caught.value.field == "left"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("amount", 1 << 24),
        ("amount", -1),
        ("amount", None),
        ("plate", "测A12345678"),
        ("number", "12"),
        ("left", "abcd"),
    ],
)
def test_a_value_that_does_not_fit_names_its_field_and_offset_and_not_itself(name, value):
    with pytest.raises(LocalProtocolError) as caught:
        FLAT.build(**{**VALUES, name: value})
    assert caught.value.field == name
    assert caught.value.offset == {"left": 1, "amount": 9, "plate": 12, "number": 20}[name]
    assert "12345678" not in str(caught.value)


def test_another_constant_is_named_with_its_place():
    with pytest.raises(RemoteProtocolError) as caught:
        FLAT.parse(b"\xc5" + flat()[1:])
    assert (caught.value.field, caught.value.offset) == ("type", 0)


def test_patching_keeps_what_was_not_changed():
    @dataclass
    class Seen:
        plate: str
        amount: int

    came = bytearray(flat())
    came[12:20] = "测A1".encode("gbk") + b"\0xyz"  # garbage behind the end of the text
    assert FLAT.patch(bytes(came), Seen("测A1", 5)) == came
    changed = FLAT.patch(bytes(came), Seen("测A1", 6))
    assert changed[11] == 6
    assert changed[:11] + b"\5" + changed[12:] == came


def test_warnings_and_description():
    came = bytearray(flat())
    came[20] = 0xAB
    assert FLAT.warnings(bytes(came)) == ("number at offset 20 is not decimal",)
    rows = {row.name: row for row in FLAT.describe(bytes(came))}
    assert rows["number"].meaning == "number (odd: is not decimal)"
    assert rows["amount"].meaning == "fen: five"
    assert (rows["plate"].value, rows["number"].value) == ("测A***34", "***5678")
    assert {row.name: row.value for row in FLAT.describe(bytes(came), unmask=True)}["plate"] == "测A1234"
    (line,) = FLAT.describe(bytes(came)[:-1])
    assert (line.value, line.meaning) == ("***", "23 bytes, 24 wanted")


@pytest.mark.parametrize("count", [0, 1, 3])
def test_records_are_counted_before_they_are_read(count):
    psams = tuple(Psam(slot, bytes((slot, slot))) for slot in range(count))
    bound = RECORDS.bound({"psams": count})
    built = bound.build(count=None, psams=psams, states=(0, 1), rest=b"")
    assert built[0] == count
    assert bound.parse(built) == {"count": count, "psams": psams, "states": (0, 1), "rest": b"\0\0"}
    assert RECORDS.bound({"psams": count}) is bound


def test_a_peer_that_changes_its_shape_with_every_frame_costs_no_generated_code(monkeypatch):
    monkeypatch.setattr(fields, "COMPILED_AFTER", COMPILED_AFTER)
    records = Layout("records", "test", RECORDS.fields)
    for count in range(3 * BOUND_KEPT_MAX):
        bound = records.bound({"psams": count})
        bound.parse(bound.build(count=None, psams=(Psam(1, b"ab"),) * count, states=(0, 1), rest=b""))
        assert "_compiled" not in vars(bound)
    assert len(records._bound) == BOUND_KEPT_MAX
    often = Layout("often", "test", FLAT.fields)
    whole = often.build(**{**VALUES, "plate": "测A1234"})
    for _ in range(COMPILED_AFTER):
        assert often.parse(whole) == FLAT.parse(whole)
    assert "_compiled" in vars(often)


def test_a_walk_goes_as_far_as_the_bytes():
    bound = RECORDS.bound({"psams": 2})
    whole = bound.build(count=None, psams=(Psam(1, b"ab"), Psam(2, b"cd")), states=(0, 9), rest=b"")
    count, psams, states, rest = bound.walk(whole)
    assert [child.name for child in psams.children] == [
        "psams[0].slot", "psams[0].terminal", "psams[1].slot", "psams[1].terminal",
    ]  # fmt: skip
    assert [(child.name, child.offset, child.value) for child in states.children] == [
        ("states[0]", 7, 0),
        ("states[1]", 8, 9),
    ]
    assert states.field.explained(0, {}, 0) == "works"
    assert states.field.explained(9, {}, 1) == "09 is not listed"
    assert not any(found.ends for found in (count, psams, states, rest))
    cut = bound.walk(whole[:6])
    assert cut[-1].ends
    trouble = cut[-1].trouble()
    assert (trouble.name, trouble.offset, trouble.problem) == ("psams[1].terminal", 5, "needs 2 bytes, 1 left")


def letters(most: int) -> Coding:
    def read(content: bytes, _count: int) -> str:
        odd = next((at for at, one in enumerate(content) if not bytes([one]).isalpha()), None)
        if odd is not None:
            raise Misfit("no letter", odd)
        return content.decode("ascii")

    return counted(1, most, 1, read, lambda value: (value.encode("ascii"), len(value)))


MESSAGE = Layout(
    "message", "test", (Field("head", raw(2), "head"), Field("word", letters(12), "word")), told_by_length=False
)


@pytest.mark.parametrize(
    ("content", "field", "offset", "problem"),
    [
        (b"", "head", 0, "needs 2 bytes, 0 left"),
        (b"h", "head", 0, "needs 2 bytes, 1 left"),
        (b"hd", "word", 2, "needs 1 bytes of length, 0 left"),
        (b"hd\x0a", "word", 2, "length is not packed digits"),
        (b"hd\x13", "word", 2, "length 13, at most 12 allowed"),
        (b"hd\x03ab", "word", 3, "needs 3 bytes, 2 left"),
        (b"hd\x03a1b", "word", 4, "no letter"),
        (b"hd\x02abc", "word", 5, "1 bytes left over"),
    ],
)
def test_a_message_that_tells_its_own_length(content, field, offset, problem):
    with pytest.raises(RemoteProtocolError, match=problem) as caught:
        MESSAGE.parse(content)
    assert (caught.value.field, caught.value.offset) == (field, offset)
    assert MESSAGE.parse(MESSAGE.build(head=b"hd", word="abc")) == {"head": b"hd", "word": "abc"}
    with pytest.raises(LocalProtocolError, match="no length of its own"):
        MESSAGE.size  # noqa: B018 - asked for its error


def test_fields_must_be_the_layouts():
    with pytest.raises(LocalProtocolError, match="amount"):
        FLAT.build(**{name: value for name, value in VALUES.items() if name != "amount"})
    with pytest.raises(LocalProtocolError, match="colour"):
        FLAT.build(**VALUES, colour=1)


def test_a_coding_that_writes_another_length_is_refused():
    odd = Layout("odd", "test", (Field("two", coded(2, bytes, lambda value, _: value), "two bytes"),))
    with pytest.raises(LocalProtocolError, match="3 bytes, 2 wanted"):
        odd.build(two=b"abc")


def refusal(layout: Layout, content: bytes) -> RemoteProtocolError | None:
    try:
        values = layout.parse(content)
    except RemoteProtocolError as error:
        return error
    assert set(values) == layout.names
    return None


@given(st.binary(max_size=30))
def test_any_bytes_are_values_or_the_peers_error(content):
    for layout in (FLAT, RECORDS.bound({"psams": 2}), MESSAGE):
        error = refusal(layout, content)
        assert error is None or (error.field and error.offset is not None)
        assert layout.walk(content)
        assert layout.describe(content)


def test_small_helpers():
    assert is_fill(b"\0\0")
    assert is_fill(b"\xff")
    assert not is_fill(b"\0\xff")
    assert unreadable(b"\1\2", "file", "odd", unmask=True)[0].value == "0102"
    assert DATE.show(None) == "none"
    with pytest.raises(LocalProtocolError):
        Layout("t", "test", (Field("time", bcd(2), "time"),)).build(time="12x4")
