"""What a change of the ledger may use while it runs: rows, books and numbers of one transaction.

Inserts are gathered and written many at a time: before anything is read or changed of the same table, and at the latest
before the commit. A change never notices: what it inserted it can read.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from sqlalchemy import Connection, Table, func, select
from sqlalchemy.sql.base import Executable

from gateway.ledger import chain, tables
from gateway.ledger.books import Books
from gateway.ledger.statements import Row, Runner

T = TypeVar("T")

_ORDER = {table: place for place, table in enumerate(tables.metadata.sorted_tables)}
"""Parents before children: foreign keys are checked row by row."""

_CHAINED = {
    tables.metadata.tables[name]: (
        number,
        tuple(column.name for column in tables.metadata.tables[name].columns if column.name != "chain"),
    )
    for name, number in chain.CHAINED.items()
}
_HIGHEST = {
    table: select(func.max(table.c.id).label("highest")) for table in (tables.account, tables.outbox, tables.item)
}


class _Head:
    """Where a chain stands in this transaction."""

    __slots__ = ("digest", "number", "stored")

    def __init__(self, number: int, digest: bytes, *, stored: bool) -> None:
        self.number = number
        self.digest = digest
        self.stored = stored


class Transaction:
    """One transaction, shared by all changes of a batch; `now_us` is the booking time of all of them."""

    def __init__(self, connection: Connection, now_us: int) -> None:
        self.connection = connection
        """For statements of its own; `flush` first."""
        self.now_us = now_us
        self._runner = Runner(connection)
        self._waiting: dict[Table, dict[tuple[str, ...], list[dict[str, Any]]]] = {}
        self._numbers: dict[str, int] = {}
        self._ids: dict[Table, int] = {}
        self._heads: dict[Table, _Head] = {}
        self.flushes = 0
        """How often gathered rows were written so far."""
        self.books = Books(self)
        self.memo: dict[Any, Any] = {}
        """What changes of this transaction know of each other without asking the database."""

    # --- rows -----------------------------------------------------------------------------------------------------

    def insert(self, table: Table, **values: Any) -> None:  # noqa: ANN401 - columns of any type
        """Add one row."""
        self.insert_row(table, values)

    def insert_row(self, table: Table, values: dict[str, Any]) -> None:
        """Add one row. Until the next flush its values may still be changed."""
        shapes = self._waiting.get(table)
        if shapes is None:
            shapes = self._waiting[table] = {}
        shapes.setdefault(tuple(values), []).append(values)

    def insert_chained(self, table: Table, **values: Any) -> int:  # noqa: ANN401 - as above
        """Add one row to a chain; returns its number."""
        number_column, columns = _CHAINED[table]
        head = self._heads.get(table) or self._load_head(table)
        head.number += 1
        values[number_column] = head.number
        head.digest = chain.link(head.digest, [values.get(column) for column in columns])
        self.insert(table, chain=head.digest, **values)
        return head.number

    def find(self, table: Table, **equals: Any) -> Row | None:  # noqa: ANN401 - as above
        """The one row with these values, None when there is none; more than one is an error."""
        if table in self._waiting:
            self.flush()
        return self._runner.find(table, equals)

    def peek(self, table: Table, **equals: Any) -> Row | None:  # noqa: ANN401 - as above
        """As `find`, of what stands in the database alone: for callers who know what was gathered since (`memo`)."""
        return self._runner.find(table, equals)

    def rows(self, statement: Executable, **values: Any) -> list[Row]:  # noqa: ANN401 - as above
        """All rows of a select that stands in the code as a constant, with its bound parameters."""
        shape = self._runner.shape(statement)
        if not shape.tables.isdisjoint(self._waiting):
            self.flush()
        return self._runner.rows(statement, values)

    def first(self, statement: Executable, **values: Any) -> Row | None:  # noqa: ANN401 - as above
        """The first row of such a select."""
        found = self.rows(statement, **values)
        return found[0] if found else None

    def update(self, table: Table, where: dict[str, Any], **values: Any) -> int:  # noqa: ANN401 - as above
        """Set `values` where the columns of `where` have these values; the number of rows changed."""
        if table in self._waiting:
            self.flush()
        return self._runner.update(table, where, values)

    def execute(self, statement: Executable, **values: Any) -> int:  # noqa: ANN401 - as above
        """Run any other statement that stands in the code as a constant; the number of rows changed."""
        self.flush()
        return self._runner.run(self._runner.shape(statement), values)

    def execute_many(self, statement: Executable, values: list[dict[str, Any]]) -> None:
        """The same for many sets of parameters."""
        self.flush()
        self._runner.run_many(self._runner.shape(statement), values)

    def note(
        self,
        kind: str,
        ref: str,
        event: str,
        *,
        debit_id: str | None = None,
        detail: str | None = None,
        actor: str | None = None,
    ) -> None:
        """One row of the journal: what `kind` of thing, which one, and what became of it."""
        self.insert_chained(
            tables.journal,
            kind=kind,
            ref=ref,
            debit_id=debit_id,
            event=event,
            detail=detail,
            actor=actor,
            at=self.now_us,
        )

    # --- numbers --------------------------------------------------------------------------------------------------

    def next_number(self, name: str, *, wrap_after: int | None = None) -> int:
        """The next number of a gap-free series; rolled back together with the change that took it."""
        last = self._numbers.get(name)
        if last is None:
            row = self.find(tables.counter, name=name)
            if row is None:
                self.insert(tables.counter, name=name, value=0)
            last = 0 if row is None else int(row.value)
        number = 1 if wrap_after is not None and last >= wrap_after else last + 1
        self._numbers[name] = number
        return number

    def row_id(self, table: Table) -> int:
        """The next integer key of a table."""
        last = self._ids.get(table)
        if last is None:
            found = self.first(_HIGHEST[table])
            last = int(found.highest or 0) if found is not None else 0
        self._ids[table] = last + 1
        return last + 1

    # --- writing what was gathered ----------------------------------------------------------------------------------

    def flush(self) -> None:
        """Write the gathered rows."""
        if not self._waiting:
            return
        self.flushes += 1
        waiting, self._waiting = self._waiting, {}
        for table in sorted(waiting, key=_ORDER.__getitem__):
            for columns, rows in waiting[table].items():
                self._runner.insert_many(table, columns, rows)

    def finish(self) -> None:
        """Write what was gathered in memory; called once, before the commit."""
        self.books.flush()
        self.flush()
        for name, value in self._numbers.items():
            self._runner.update(tables.counter, {"name": name}, {"value": value})
        for table, head in self._heads.items():
            values = {"number": head.number, "digest": head.digest}
            if head.stored:
                self._runner.update(tables.chain, {"name": table.name}, values)
            else:
                self._runner.insert_many(tables.chain, ("name", *values), [{"name": table.name, **values}])

    def _load_head(self, table: Table) -> _Head:
        row = self.find(tables.chain, name=table.name)
        head = (
            _Head(0, chain.GENESIS, stored=False)
            if row is None
            else _Head(int(row.number), bytes(row.digest), stored=True)
        )
        self._heads[table] = head
        return head


Change = Callable[[Transaction], T]
