"""Change of the chain key: the site names a new one, and the journal says from which row on it is in force.

It happens where the gateway starts, because nobody else writes then; commands beside it go on under the key that the
journal ends with. A key comes into force once: one that was given up may have been given away.
"""

from __future__ import annotations

from sqlalchemy import Connection, bindparam, func, select

from gateway.ledger import key_notes, tables
from gateway.ledger.chain import ChainKeys
from gateway.ledger.transaction import Transaction
from gateway.texts.catalogue import Words

_j = tables.journal
_TIMES_IN_FORCE = (
    select(func.count().label("n")).select_from(_j).where(_j.c.kind == key_notes.KIND, _j.c.ref == bindparam("key"))
)
"""Count of a key's times in force; walks through the journal, asked once for each new key."""


_NEWEST_LINK = select(tables.chain.c.digest).where(tables.chain.c.name == _j.name)


class ChainKeyReused(Exception):
    """Key that the site names as its current one and that the journal has given up before."""

    def __init__(self, key_id: bytes) -> None:
        self.key_id = key_id
        super().__init__(Words("ledger-file.chain-key-reused", key=key_id.hex()))


def is_due(connection: Connection, keys: ChainKeys) -> bool:
    """True when the journal ends under another key than the site's current one."""
    link = connection.execute(_NEWEST_LINK).scalar_one_or_none()
    return link is not None and keys.of(link) is not keys.current


def take_current(tx: Transaction) -> bool:
    """Put the site's current key in force where the journal still ends under a retired one; True if it did.

    Raises `ChainKeyReused`, and `ChainKeyUnknown` where the journal ends under a key we do not have.
    """
    if not tx.key_is_due:
        return False
    key_id = tx.keys.current.id
    if tx.rows(_TIMES_IN_FORCE, key=key_id.hex())[0].n:
        raise ChainKeyReused(key_id)
    tx.take_current_key()
    return True
