"""The first seals of a ledger of an earlier release: its rows as they are found, and the key its chains go on under.

What stood there before nobody can vouch for. The journal says so: its note of the key holds the heads the chains had,
and the seals that follow it stand in the same transaction.
"""

from __future__ import annotations

from random import SystemRandom

from sqlalchemy import Connection, func, select

from gateway.ledger import tables
from gateway.ledger.chain import ChainKeys
from gateway.ledger.seals import LAYOUTS
from gateway.ledger.statements import pages
from gateway.ledger.transaction import Transaction


class KeysNeeded(Exception):
    """The ledger must be sealed, and whoever opened it has named no key."""

    def __init__(self) -> None:
        super().__init__("a ledger of an earlier release is sealed when it is brought to this version: name the keys")


def seal_everything(connection: Connection, keys: ChainKeys | None, *, keyed: bool = False) -> None:
    """Seal every covered row; on the connection of the migration. `keyed`: its chains are under a key already.

    Raises `KeysNeeded` where rows wait and keys do not.

    Its time is that of the newest row of the journal: a migration has no clock.
    """
    if not any(connection.execute(select(table).limit(1)).first() for table in LAYOUTS):
        return
    if keys is None:
        raise KeysNeeded
    newest = connection.execute(select(func.coalesce(func.max(tables.journal.c.at), 0))).scalar_one()
    tx = Transaction(connection, int(newest), keys, SystemRandom())
    if not keyed:
        tx.begin_key()
    for table, layout in LAYOUTS.items():
        for page in pages(connection, select(table)):
            tx.seal_rows(layout, page)
    tx.finish()
