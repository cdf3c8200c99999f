"""Hash chains over the rows that never change.

The `chain` of a row is SHA-256 over the `chain` of the row before it (32 zero bytes before the first) and the row's
other columns, in table order, as one JSON array (ASCII, no blanks, null for nothing). So a row that was changed, taken
out or put in breaks the chain at itself, and the newest digest vouches for all rows before it: whoever has noted it
elsewhere can prove later that nothing was rewritten.

Rows name people by random ids only; what those stand for can be erased without touching the chain.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence

GENESIS = bytes(32)
"""Before the first row."""

CHAINED = {"transfer": "id", "decision": "record_no", "journal": "number"}
"""The chained tables with the column that holds their gap-free number, from 1."""

_encode = json.JSONEncoder(ensure_ascii=True, separators=(",", ":")).encode


def link(previous: bytes, values: Sequence[int | str | None]) -> bytes:
    """The digest (32 bytes) of a row with these values (all columns but `chain`, in table order) after `previous`."""
    return hashlib.sha256(previous + _encode(values).encode("ascii")).digest()
