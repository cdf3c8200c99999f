"""Ledger position sent to the bank in a private field: a copy of the head of our chain in other hands.

Advices, refunds, sign-ins and echoes carry it where the partner lets us have the field. Its place and form are ours
(inferred, no public sample): twenty-three bytes in F62, terminal data in the UnionPay table. A host that does not know
it passes it on or drops it; anyone who asks the bank later can prove what the journal was.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Final

MAGIC: Final = b"ETCA1"
HEAD_BYTES: Final = 8
"""First bytes of the digest: enough that nobody makes another journal with the same ones by chance."""

_FORM: Final = struct.Struct(f">{len(MAGIC)}sHQ{HEAD_BYTES}s")


@dataclass(frozen=True, slots=True)
class Anchor:
    """Position of a ledger at one moment."""

    life: int
    """Number of the ledger's incarnation."""
    journal: int
    """Number of the newest row of its journal."""
    head: bytes
    """First bytes of that row's chain digest."""


def write_anchor(anchor: Anchor) -> bytes:
    """Content of the field for `anchor`."""
    return _FORM.pack(MAGIC, anchor.life, anchor.journal, anchor.head[:HEAD_BYTES])


def read_anchor(content: bytes) -> Anchor | None:
    """Read the field's content; None for one that is not an anchor of ours."""
    if len(content) != _FORM.size or not content.startswith(MAGIC):
        return None
    _, life, journal, head = _FORM.unpack(content)
    return Anchor(life, journal, head)
