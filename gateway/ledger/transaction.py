"""What a change of the ledger may use while it runs: the connection, the books and the numbers of one transaction."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from sqlalchemy import Connection

from gateway.ledger import tables
from gateway.ledger.books import Books
from gateway.ledger.statements import find_row, insert_row, update_rows

T = TypeVar("T")


class Transaction:
    """What a change may use: the connection, the books, the numbers and one booking time for the whole batch."""

    def __init__(self, connection: Connection, now_us: int) -> None:
        self.connection = connection
        self.now_us = now_us
        self.books = Books(connection, now_us)
        self._numbers: dict[str, int] = {}

    def next_number(self, name: str, *, wrap_after: int | None = None) -> int:
        """The next number of a gap-free series; rolled back together with the change that took it."""
        last = self._numbers.get(name)
        if last is None:
            row = find_row(self.connection, tables.counter, name=name)
            if row is None:
                insert_row(self.connection, tables.counter, name=name, value=0)
            last = 0 if row is None else int(row.value)
        number = 1 if wrap_after is not None and last >= wrap_after else last + 1
        self._numbers[name] = number
        return number

    def finish(self) -> None:
        """Write what was gathered in memory; called once, before the commit."""
        self.books.flush()
        for name, value in self._numbers.items():
            update_rows(self.connection, tables.counter, {"name": name}, value=value)


Change = Callable[[Transaction], T]
