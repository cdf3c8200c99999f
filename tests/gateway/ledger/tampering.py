"""A ledger with rows in every covered table, and hands that change it behind the gateway's back."""

import itertools
import sqlite3
from contextlib import closing

from sqlalchemy import Integer, LargeBinary, event

from gateway.ledger import engines
from gateway.ledger.batches import Committer
from gateway.ledger.hex_text import HexText, from_stored, to_stored
from gateway.ledger.verify_seals import NAME
from hardware.bench.chain_key import KEYS
from hardware.bench.clocks import StillClock
from tests.gateway.ledger.empty import open_empty
from tests.gateway.ledger.in_parts import verify


def _free(connection, _record):
    """What refers to what is not the question here."""
    connection.execute("pragma foreign_keys=off")
    connection.execute("pragma ignore_check_constraints=on")


def linked(table, row):
    """Values of a row, as the file has them and without its link, that the link is made of."""
    columns = [column for column in table.columns if column.name != "chain"]
    return [from_stored(v) if isinstance(c.type, HexText) else v for c, v in zip(columns, row, strict=True)]


class Files:
    """A ledger file of made-up rows."""

    def __init__(self, path):
        self.path = path
        self.engine = open_empty(path)
        event.listen(self.engine, "connect", _free)
        self.numbers = itertools.count(1)

    def commit(self, *changes, keys=KEYS):
        return Committer(self.engine, StillClock(1), keys=keys).commit(list(changes))

    def value(self, column, n):
        """One that no other row has."""
        if isinstance(column.type, Integer):
            return n
        if isinstance(column.type, LargeBinary):
            return n.to_bytes(16)
        return f"{n:032x}" if column.name == "id" or column.name.endswith("_id") else f"{n}"

    def row(self, table, *, empty=()):
        """A row with something in every column, but nothing in `empty`."""
        n = next(self.numbers)
        return {c.name: None if c.name in empty else self.value(c, n) for c in table.columns}

    def put(self, table, *rows):
        """As a transaction of the gateway writes them."""

        def change(tx):
            for row in rows:
                tx.insert(table, **row)

        self.commit(change)

    def tamper(self, statement, values=()):
        with closing(sqlite3.connect(self.path, isolation_level=None)) as connection:
            connection.execute("pragma ignore_check_constraints=on")
            return connection.execute(statement, [to_stored(v) if isinstance(v, str) else v for v in values]).rowcount

    def findings(self, keys=KEYS):
        """What the seals say."""
        reader = engines.open_reader(self.path)
        try:
            (check,) = (check for check in verify(reader, keys) if check.name == NAME)
            return list(check.findings)
        finally:
            reader.dispose()

    def close(self):
        self.engine.dispose()
