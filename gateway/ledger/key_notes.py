"""Notes of chain keys in the journal: each tells from which row on a key is in force.

A note is itself the first row of the journal under the key it names. It says where the other chains stood then, so each
row of each chain has exactly one key it may be under, and a key that was given up and stolen later makes no row that
holds. The first note (`begun`) is the first row of the journal.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

KIND: Final = "chain_key"
BEGUN: Final = "begun"
ROTATED: Final = "rotated"
EVENTS: Final = (BEGUN, ROTATED)

OTHERS: Final = ("transfer", "decision")
"""Chains beside the journal."""

_DETAIL = re.compile(
    r"after (?P<before>[0-9a-f]{8}|none); transfer (?P<transfer>\d+) (?P<transfer_head>[0-9a-f]{64}),"
    r" decision (?P<decision>\d+) (?P<decision_head>[0-9a-f]{64})",
    re.ASCII,
)


@dataclass(frozen=True, slots=True)
class Stand:
    """Position of a chain: number and link of its newest row."""

    number: int
    link: bytes


@dataclass(frozen=True, slots=True)
class KeyNote:
    """Note of a key that came into force."""

    key_id: bytes
    before: bytes | None
    """Id of the key it follows; None where there was none."""
    others: Mapping[str, Stand]
    """Last row, by chain, that is not under this key."""


def detail_of(before: bytes | None, others: Mapping[str, Stand]) -> str:
    """Text of the note."""
    stands = ", ".join(f"{name} {others[name].number} {others[name].link.hex()}" for name in OTHERS)
    return f"after {'none' if before is None else before.hex()}; {stands}"


def parse(ref: str, detail: str | None) -> KeyNote | None:
    """Parse the note in a row's `ref` and `detail`; None for what the ledger never writes."""
    found = _DETAIL.fullmatch(detail or "")
    if found is None or not re.fullmatch(r"[0-9a-f]{8}", ref, re.ASCII):
        return None
    before = found["before"]
    others = {name: Stand(int(found[name]), bytes.fromhex(found[f"{name}_head"])) for name in OTHERS}
    return KeyNote(bytes.fromhex(ref), None if before == "none" else bytes.fromhex(before), others)
