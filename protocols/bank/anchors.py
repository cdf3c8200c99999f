"""Where our ledger stands, told to the bank in a private field: a copy of the head of its chain in other hands.

Advices, refunds, sign-ins and echoes carry it where the partner lets us have the field. Its place and form are ours
(inferred, no public sample): twenty-three bytes in F62, terminal data in the UnionPay table. A host that does not know
it passes it on or drops it; whoever asks the bank later can prove what the journal was.
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
    """One moment of a ledger."""

    life: int
    """Number of its incarnation."""
    journal: int
    """Number of the newest row of its journal."""
    head: bytes
    """First bytes of that row's chain digest."""


def write_anchor(anchor: Anchor) -> bytes:
    """The field's content."""
    return _FORM.pack(MAGIC, anchor.life, anchor.journal, anchor.head[:HEAD_BYTES])


def read_anchor(content: bytes) -> Anchor | None:
    """What such a field says; None for one that is somebody else's."""
    if len(content) != _FORM.size or not content.startswith(MAGIC):
        return None
    _, life, journal, head = _FORM.unpack(content)
    return Anchor(life, journal, head)
