"""The bench's own reader agrees with the vectors, and shares nothing with the product's codec."""

import ast
import json
from pathlib import Path

import pytest

import hardware.bench.wire_bank as module
from hardware.bench.wire_bank import read_wire, split_stream

LINES = (Path(__file__).parents[1] / "vectors" / "iso8583.jsonl").read_text(encoding="utf-8").splitlines()
VECTORS = {vector["id"]: vector for vector in map(json.loads, LINES)}


def body(vector):
    return bytes.fromhex(vector["hex"])[2 if "length_header" in vector else 0 :]


def test_it_is_independent():
    tree = ast.parse(Path(module.__file__).read_text(encoding="utf-8"))
    imported = {
        name
        for node in ast.walk(tree)
        if isinstance(node, ast.Import | ast.ImportFrom)
        for name in ([node.module] if isinstance(node, ast.ImportFrom) else [alias.name for alias in node.names])
    }
    assert imported == {"__future__", "collections.abc", "dataclasses"}


@pytest.mark.parametrize("name", VECTORS)
def test_vectors(name):
    vector = VECTORS[name]
    fields = vector["fields"]
    read = read_wire(body(vector))
    assert read.mti == vector["mti"]
    assert read.processing == fields.get("3")
    assert read.amount_fen == (int(fields["4"]) if "4" in fields else None)
    assert read.stan == (int(fields["11"]) if "11" in fields else None)
    assert read.code == fields.get("39")
    assert read.terminal == fields.get("41")
    assert read.contract == fields.get("48")
    assert read.original == fields.get("61")
    for length in range(len(body(vector))):
        with pytest.raises(ValueError, match=r"."):
            read_wire(body(vector)[:length])
    with pytest.raises(ValueError, match="fields end at"):
        read_wire(body(vector) + b"\x00")


def test_stream():
    first, second = (body(VECTORS[name]) for name in ("hand-0200-sale", "hand-0400-reversal"))
    stream = b"".join(len(part).to_bytes(2, "big") + part for part in (first, b"", second))
    assert list(split_stream(stream)) == [first, second]
    with pytest.raises(ValueError, match="cut short"):
        list(split_stream(stream[:-1]))


@pytest.mark.parametrize(
    ("old", "new"), [("3038048000C18010", "B038048000C18010"), ("000000000000001250", "00000000000000125F")]
)
def test_nonsense(old, new):
    raw = body(VECTORS["hand-0200-sale"])
    assert raw.count(bytes.fromhex(old)) == 1
    with pytest.raises(ValueError, match=r"not known here|packed digits"):
        read_wire(raw.replace(bytes.fromhex(old), bytes.fromhex(new)))
