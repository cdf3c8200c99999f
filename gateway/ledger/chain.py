"""Chains with a key over the rows that never change.

The `chain` of a row (its *link*, 32 bytes) is the id of a key (4 bytes) and a keyed BLAKE2b (28 bytes) over the link of
the row before it (32 zero bytes before the first), that id and the row's other columns, in table order. So a row that
was changed, taken out or put in breaks the chain at itself, nobody without the key can make the chain anew, and the
newest link vouches for all rows before it: whoever has noted it elsewhere can prove later that nothing was rewritten,
not even by somebody who has the key. The key belongs to this record alone; it is no payment key.

Which key is in force from which row on stands in the journal (`gateway.ledger.key_notes`).

Rows name people by random ids only; what those stand for can be erased without touching the chain.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from gateway.texts.catalogue import Words

GENESIS = bytes(32)
"""Link before the first row."""

CHAINED = {"transfer": "id", "decision": "record_no", "journal": "number"}
"""Chained tables with the column that holds their gap-free number, from 1."""

SECRET_BYTES = 32
KEY_ID_BYTES = 4
MAC_BYTES = len(GENESIS) - KEY_ID_BYTES

_ID_PREFIX = b"etc-gateway chain key id\x00"


@dataclass(frozen=True, slots=True)
class ChainKey:
    """Key of a chain. `id` identifies it without revealing it."""

    secret: bytes = field(repr=False)
    id: bytes = field(init=False)

    def __post_init__(self) -> None:
        if len(self.secret) != SECRET_BYTES:
            raise ValueError(f"a chain key has {SECRET_BYTES} bytes, not {len(self.secret)}")
        object.__setattr__(self, "id", hashlib.sha256(_ID_PREFIX + self.secret).digest()[:KEY_ID_BYTES])


@dataclass(frozen=True, slots=True)
class ChainKeys:
    """Keys of a chain: the one for new rows, and those of older rows."""

    current: ChainKey
    retired: tuple[ChainKey, ...] = ()

    def __iter__(self) -> Iterator[ChainKey]:
        yield self.current
        yield from self.retired

    def of(self, link_or_id: bytes) -> ChainKey | None:
        """Find the key that a link was made with, None where it is not among these."""
        key_id = link_or_id[:KEY_ID_BYTES]
        return next((key for key in self if key.id == key_id), None)


class ChainKeyUnknown(Exception):
    """Key of the ledger's newest row is not among ours: nothing may be added under another."""

    def __init__(self, key_id: bytes) -> None:
        self.key_id = key_id
        super().__init__(Words("ledger-file.chain-key-unknown", key=key_id.hex()))


def encode(values: Iterable[int | str | bytes | None]) -> bytes:
    """Encode a row's values, one a line: None, decimal digits, or text in quotes with escapes (as `ascii` writes it).

    Values of different kind or content never give the same line, and no value can hold a line's end.
    """
    return "\n".join(map(ascii, values)).encode("ascii")


def link(key: ChainKey, table: str, previous: bytes, values: Sequence[int | str | bytes | None]) -> bytes:
    """Link of a row of `table` with these values (all columns but `chain`, in table order) after `previous`."""
    whole = previous + key.id + encode(values)
    made = hashlib.blake2b(whole, digest_size=MAC_BYTES, key=key.secret, person=table.encode("ascii"))
    return key.id + made.digest()
