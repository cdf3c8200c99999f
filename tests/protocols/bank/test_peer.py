"""An independent library reads what we pack, and we read what it packs."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import iso8583
import pytest

from protocols.bank.codec import HEADER_BYTES, TPDU_BYTES, Message, decode, encode
from protocols.bank.dialects import CUPS_POS_BCD

LINES = (Path(__file__).parents[2] / "vectors" / "iso8583.jsonl").read_text(encoding="utf-8").splitlines()
VECTORS = {vector["id"]: vector for vector in map(json.loads, LINES)}
PADDED_BEFORE = {19, 20, 21, 23, 24}
ODD_PADS = "hand-0200-odd-pads"
"""Packed with pads that are not ours: the peer has one pad character only."""


def peer_field(notation: str, *, pad_before: bool) -> dict[str, Any]:
    """Our notation as the peer declares a field. GBK text is bytes to both: it goes over as latin-1."""
    kind, dots, size = re.fullmatch(r"([a-z]+)(\.*)(\d+)", notation).groups()
    declared = {
        "data_enc": "b" if kind in ("n", "z", "b") else "latin-1",
        "len_enc": "bcd",
        "len_type": {"": 0, "..": 1, "...": 2}[dots],
        "max_len": int(size),
    }
    if kind in ("n", "z"):
        declared |= {"len_count": "nibbles", "left_pad" if pad_before else "right_pad": "0"}
    return declared


def peer_spec(head_bytes: int) -> dict[str, dict[str, Any]]:
    fixed = {"data_enc": "b", "len_enc": "bcd", "len_type": 0}
    spec = {
        "h": fixed | {"max_len": head_bytes},
        "t": fixed | {"max_len": 2},
        "p": fixed | {"max_len": 8},
        "1": fixed | {"max_len": 8},
    }
    for number, field in CUPS_POS_BCD.fields.items():
        spec[str(number)] = peer_field(field.coding.notation, pad_before=number in PADDED_BEFORE)
    return spec


def raw_of(vector: dict[str, Any]) -> bytes:
    raw = bytes.fromhex(vector["hex"])
    return raw[2:] if "length_header" in vector else raw


def as_peer_holds(number: int, value: str | bytes) -> str:
    kind = CUPS_POS_BCD.fields[number].coding.notation
    if isinstance(value, bytes):
        return value.hex().upper() if kind.startswith("b") else value.decode("latin-1")
    return value.encode("gbk").decode("latin-1") if kind.startswith("an") else value


@pytest.mark.parametrize("name", VECTORS)
def test_the_peer_reads_our_messages(name: str) -> None:
    message = decode(raw_of(VECTORS[name]))
    packed = encode(Message(message.mti, dict(message.fields), message.tpdu, message.header))
    spec = peer_spec(TPDU_BYTES + (HEADER_BYTES if message.header else 0))
    read, _ = iso8583.decode(packed, spec)
    assert read["t"] == message.mti
    numbers = {int(key) for key in read if key.isdigit()}
    assert numbers == set(message.fields)
    for number, value in message.fields.items():
        assert read[str(number)] == as_peer_holds(number, value), number


@pytest.mark.parametrize("name", [name for name in VECTORS if name != ODD_PADS])
def test_we_read_the_peers_messages(name: str) -> None:
    message = decode(raw_of(VECTORS[name]))
    head = message.tpdu + message.header
    values = {"h": head.hex().upper(), "t": message.mti}
    values |= {str(number): as_peer_holds(number, value) for number, value in message.fields.items()}
    packed, _ = iso8583.encode(values, peer_spec(len(head)))
    assert bytes(packed) == raw_of(VECTORS[name])
    assert decode(bytes(packed)) == message
