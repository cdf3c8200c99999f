"""Transaction of the ledger: rows, books and numbers that a change may use while it runs.

Inserts are gathered and written many at a time, at the latest before the commit. A change never notices: what it
inserted it can read and change. A row asked for by value is looked for among the gathered ones first; a select that
could see one of them has them written before it runs.

What a change does to covered rows is sealed at the end, whatever way it does it (`gateway.ledger.seals`): no change has
to think of it. Every chained row is linked under the key that the journal names as the one in force.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from operator import itemgetter
from typing import Any, TypeVar

from sqlalchemy import Connection, Table, bindparam, func, select, update
from sqlalchemy.sql.base import Executable
from sqlalchemy.sql.dml import Delete, Insert, Update

from gateway.ledger import chain, key_notes, seals, tables
from gateway.ledger.books import Books
from gateway.ledger.chain import ChainKey, ChainKeys, ChainKeyUnknown
from gateway.ledger.gathered import FACTS, Gathered, RowValues, unknown_column
from gateway.ledger.life import Head, Life
from gateway.ledger.seals import LAYOUTS, SALT, SALT_BYTES, FullRow, Layout, RandomBytes, Seals, as_stored
from gateway.ledger.statements import Row, Runner, Shape, plain
from protocols.bank.anchors import Anchor

T = TypeVar("T")

_CHAINED: dict[Table, tuple[str, Callable[[RowValues], tuple[Any, ...]]]] = {
    table: (number, itemgetter(*(plain(column.name) for column in table.columns if column.name != "chain")))
    for table, number in ((tables.metadata.tables[name], number) for name, number in chain.CHAINED.items())
}
"""Number column of each chained table, and the function that takes the digested values out of a row."""

_HEADS = select(tables.chain)
_MOVE_HEAD = (
    update(tables.chain)
    .where(tables.chain.c.name == bindparam("chain_name"))
    .values(number=bindparam("new_number"), digest=bindparam("new_digest"))
)
_HIGHEST = {
    table: select(func.max(table.c.id).label("highest"))
    for table in (tables.account, tables.outbox, tables.item, tables.clock_reading)
}

READ_MAX = 2_000
"""Rows of a table kept as they were read: a full batch of passages reads one or two a change, an import any number."""

_OTHERS = tuple(tables.metadata.tables[name] for name in key_notes.OTHERS)


class _Head:
    """Head of a chain in this transaction."""

    __slots__ = ("digest", "found", "found_digest", "new", "number")

    def __init__(self, number: int, digest: bytes) -> None:
        self.number = self.found = number
        self.digest = self.found_digest = digest
        self.new = False


class Transaction:
    """Transaction of one batch, shared by its changes; `now_us` is the booking time of all of them."""

    def __init__(
        self, connection: Connection, now_us: int, keys: ChainKeys, random: RandomBytes, life: Life | None = None
    ) -> None:
        """`life`: the process's work on the ledger's life; without it no position can be taken."""
        self.connection = connection
        """Connection for selects; `flush` first. What writes goes through the methods here, which seal it."""
        self.now_us = now_us
        self.life = life
        self._keys = keys
        self._key: ChainKey = keys.current
        """Key in force; known once the heads are loaded."""
        self._random = random
        self._seals = Seals()
        self._runner = Runner(connection)
        self._waiting: dict[Table, Gathered] = {}
        self._read: dict[Table, dict[Any, Row]] = {}
        """Whole rows of covered tables as they are now, by their key: those that were read one at a time."""
        self._numbers: dict[str, int] = {}
        self._ids: dict[Table, int] = {}
        self._heads: dict[Table, _Head] = {}
        self.books = Books(self)

    # --- rows -----------------------------------------------------------------------------------------------------

    def insert(self, table: Table, **values: Any) -> None:  # noqa: ANN401 - columns of any type
        """Insert one row."""
        waiting = self._waiting.get(table) or self._gather(table)
        facts = waiting.facts
        row = {**facts.empty, **values}
        if len(row) != facts.width:
            raise unknown_column(values, facts)
        if facts.number is not None and row[facts.number] is None:
            raise ValueError(f"a row of {table.name} needs its number")
        if SALT in row and row[SALT] is None:
            row[SALT] = self._random.randbytes(SALT_BYTES)
        waiting.add(row)

    def insert_chained(self, table: Table, **values: Any) -> int:  # noqa: ANN401 - as above
        """Insert one row into a chain; returns its number."""
        waiting = self._waiting.get(table) or self._gather(table)
        facts = waiting.facts
        number_column, digested = _CHAINED[table]
        head = self._heads.get(table) or self._load_head(table)
        row = {**facts.empty, **values}
        if len(row) != facts.width:
            raise unknown_column(values, facts)
        number = row[number_column] = head.number = head.number + 1
        row["chain"] = head.digest = chain.link(self._key, table.name, head.digest, digested(row))
        waiting.add(row)
        return number

    def find(self, table: Table, **equals: Any) -> Row | None:  # noqa: ANN401 - as above
        """Find the one row with these values, which no other row may have; None when there is none."""
        waiting = self._waiting.get(table)
        if waiting is not None:
            row = waiting.find(equals)
            if row is not None:
                return waiting.facts.make_row(row.values())
        found = self._runner.find(table, equals)
        if found is not None:
            self._keep_read(table, found)
        return found

    def rows(self, statement: Executable, **values: Any) -> list[Row]:  # noqa: ANN401 - as above
        """Fetch all rows of a select that stands in the code as a constant, with its bound parameters."""
        shape = self._runner.shape(statement)
        if self._could_see(shape, values):
            self.flush()
        found = self._runner.rows(shape, values)
        if len(found) == 1 and shape.whole is not None:
            self._keep_read(shape.whole, found[0])
        return found

    def _keep_read(self, table: Table, row: Row) -> None:
        key = FACTS[table].key
        if key is not None and table in LAYOUTS:
            read = self._read.setdefault(table, {})
            if len(read) >= READ_MAX:
                read.clear()
            read[getattr(row, key)] = row

    def _could_see(self, shape: Shape, values: Mapping[str, Any]) -> bool:
        """True when a select could find any gathered row."""
        gathered, tree = self._waiting.get, shape.tree
        if tree is None:
            for table in shape.tables:
                rows = gathered(table)
                if rows is not None and rows.matters(shape.equals, values):
                    return True
            return False
        # A gathered row that hangs on gathered ones alone is found with their root or not at all.
        for table, column, parent in tree.branches:
            rows = gathered(table)
            if rows is not None and rows.have_strays(column, gathered(parent)):
                return True
        roots = gathered(tree.root)
        return roots is not None and any(roots.have(column, values[parameter]) for column, parameter in tree.one_of)

    def first(self, statement: Executable, **values: Any) -> Row | None:  # noqa: ANN401 - as above
        """Fetch the first row of such a select."""
        found = self.rows(statement, **values)
        return found[0] if found else None

    def update(self, table: Table, where: dict[str, Any], **values: Any) -> int:  # noqa: ANN401 - as above
        """Set `values` where the columns of `where` have these values; the number of rows changed."""
        facts = FACTS[table]
        waiting = self._waiting.get(table)
        if waiting is not None:
            if facts.key in where:
                row = waiting.find({facts.key: where[facts.key]})
                if row is not None:
                    if any(row[name] != value for name, value in where.items()):
                        return 0
                    waiting.change(row, values)
                    return 1
            else:
                self.flush()
        if self._waiting and not values.keys().isdisjoint(facts.parents):
            self._flush_parents(facts.parents, values)
        layout = LAYOUTS.get(table)
        if layout is None or layout.names.isdisjoint(values):
            self._read.pop(table, None)
            return self._runner.update(table, where, values)
        changed = self._update_read(table, where, values)
        if changed is None:
            self._read.pop(table, None)
            changed = self._runner.update_returning(table, where, values)
        self._seals.put(layout, changed)
        return len(changed)

    def _update_read(self, table: Table, where: Mapping[str, Any], values: Mapping[str, Any]) -> list[FullRow] | None:
        """Update a row that this transaction has read whole, and return it as it is now; None when it has not.

        To have the database tell how it stands takes longer than the update itself: 15 of 24 us for a debit."""
        read, key = self._read.get(table), FACTS[table].key
        if read is None or key is None or key in values or where.keys() != {key}:
            return None
        row = read.get(where[key])
        if row is None or not self._runner.update(table, where, values):
            return None
        read[where[key]] = row = row._replace(**values)
        return [as_stored(row)]

    def execute(self, statement: Executable, **values: Any) -> int:  # noqa: ANN401 - as above
        """Run any other statement that stands in the code as a constant; the number of rows changed."""
        self.flush()
        layout = _layout_of(statement)
        if layout is None:
            return self._runner.run(self._runner.shape(statement), values)
        self._read.pop(layout.table, None)
        rows = self._runner.run_returning(self._runner.shape(_returning(statement)), values)
        (self._seals.gone if isinstance(statement, Delete) else self._seals.put)(layout, rows)
        return len(rows)

    def execute_many(self, statement: Executable, values: list[dict[str, Any]]) -> None:
        """Run such a statement for many sets of parameters; not for covered tables, whose rows would go unsealed."""
        layout = _layout_of(statement)
        if layout is not None:
            raise TypeError(f"many rows of {layout.name} at once would go unsealed")
        self.flush()
        self._runner.run_many(self._runner.shape(statement), values)

    def update_many(self, table: Table, key: str, columns: tuple[str, ...], rows: list[dict[str, Any]]) -> None:
        """Set columns that no seal covers, in many rows, each found by its `key`."""
        layout = LAYOUTS.get(table)
        if layout is not None and not layout.names.isdisjoint(columns):
            raise TypeError(f"many rows of {layout.name} at once would go unsealed")
        self.flush()
        self._read.pop(table, None)
        self._runner.update_many(table, key, columns, rows)

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
        """Write one row of the journal: the `kind` of thing, its id, and the event."""
        self.insert_chained(
            tables.journal,
            kind=kind,
            ref=None if ref == debit_id else ref,
            debit_id=debit_id,
            event=event,
            detail=detail,
            actor=actor,
            at=self.now_us,
        )

    def close(self) -> None:
        """Close its cursor. A statement that was not run to its end, because a change failed, would keep the
        connection's files open after the connection is closed."""
        self._runner.close()

    # --- numbers --------------------------------------------------------------------------------------------------

    def next_number(self, name: str) -> int:
        """Take the next number of a gap-free series; rolled back together with the change that took it."""
        last = self._counted(name) or 0
        self._numbers[name] = last + 1
        return last + 1

    def next_position(self, terminal: str) -> int:
        """Take the next position (batch and STAN) of a bank terminal, never to be used again.

        Raises `MarkUnwritable` where that cannot be promised.
        """
        name = f"stan:{terminal}"
        position = self._life().positions.take(terminal, self._counted(name), self.now_us)
        self._numbers[name] = position + 1
        return position

    def next_batch(self, terminal: str) -> None:
        """Let a terminal go on in a new batch. Raises `MarkUnwritable`."""
        name = f"stan:{terminal}"
        self._numbers[name] = self._life().positions.next_batch(terminal, self._counted(name), self.now_us)

    def set_position(self, terminal: str, position: int) -> None:
        """Let a terminal go on at a position: for an adoption, which knows all that was used."""
        name = f"stan:{terminal}"
        self._counted(name)
        self._numbers[name] = position

    def _counted(self, name: str) -> int | None:
        """Read a counter; one that is not there yet is made, and has counted nothing."""
        last = self._numbers.get(name)
        if last is None:
            row = self.find(tables.counter, name=name)
            if row is None:
                self.insert(tables.counter, name=name, value=0)
                return None
            last = int(row.value)
        return last

    def _life(self) -> Life:
        if self.life is None:
            raise RuntimeError("this transaction has no life of a ledger to count positions in")
        return self.life

    def row_id(self, table: Table) -> int:
        """Take the next integer key of a table."""
        last = self._ids.get(table)
        if last is None:
            found = self.first(_HIGHEST[table])
            last = int(found.highest or 0) if found is not None else 0
        self._ids[table] = last + 1
        return last + 1

    def chain_span(self, table: Table) -> tuple[int, int]:
        """Numbers of a chain's newest row before this transaction, and now."""
        head = self._heads.get(table)
        if head is not None:
            return head.found, head.number
        row = self.find(tables.chain, name=table.name)
        number = 0 if row is None else int(row.number)
        return number, number

    def head(self) -> Head | None:
        """Head of the journal after this transaction; None where it wrote nothing into it."""
        head = self._heads.get(tables.journal)
        return None if head is None or head.number == head.found else Head(head.number, head.digest)

    def anchor(self) -> Anchor | None:
        """Anchor (durable position of the journal) at this transaction's begin, to be kept elsewhere."""
        life = None if self.life is None else self.life.incarnation
        if life is None:
            return None
        head = self._heads.get(tables.journal) or self._load_head(tables.journal)
        return Anchor(life.number, head.found, head.found_digest)

    # --- keys -----------------------------------------------------------------------------------------------------

    @property
    def keys(self) -> ChainKeys:
        """Chain keys of the site."""
        return self._keys

    @property
    def key_is_due(self) -> bool:
        """True when the journal ends under a retired key. Raises `ChainKeyUnknown` where we do not have its key."""
        self._load_head(tables.journal)
        return self._key is not self._keys.current

    def take_current_key(self) -> None:
        """Put the site's current key in force for every chained row from here on, with a note in the journal."""
        self._note_key(self._keys.current, self._key)

    # --- writing what was gathered ----------------------------------------------------------------------------------

    def flush(self) -> None:
        """Write the gathered rows."""
        if not self._waiting:
            return
        waiting, self._waiting = self._waiting, {}
        for table in sorted(waiting, key=_place):
            rows = waiting[table].rows
            self._runner.insert_many(table, FACTS[table].columns, rows)
            layout = LAYOUTS.get(table)
            if layout is not None:
                self._seals.put(layout, [as_stored(row.values()) for row in rows])

    def finish(self) -> None:
        """Write what was gathered in memory; called once, before the commit. The transaction is spent then."""
        self.books.flush()
        for name, value in self._numbers.items():
            self.update(tables.counter, {"name": name}, value=value)
        self.flush()
        self._seal()
        self._store_heads()
        self.flush()
        self.books.close()

    def _seal(self) -> None:
        """Seal in the journal the covered rows as they are now, and how far the other chains have come."""
        contents = self._seals.contents()
        self._seals = Seals()
        if not contents and any(head.number != head.found for head in map(self._heads.get, _OTHERS) if head):
            contents = [b""]
        if not contents:
            return
        if not self._heads:
            self._load_head(tables.journal)
        numbers = [0 if head is None else head.number for head in map(self._heads.get, _OTHERS)]
        ref = "/".join(map(str, numbers))
        for content in contents:
            self.insert_chained(
                tables.journal, kind=seals.KIND, ref=ref, event=seals.EVENT, at=self.now_us, content=content
            )

    def _gather(self, table: Table) -> Gathered:
        waiting = self._waiting[table] = Gathered(FACTS[table])
        return waiting

    def _flush_parents(self, parents: Mapping[str, frozenset[Table]], values: Mapping[str, Any]) -> None:
        """Write gathered rows that a reference may point to: it is checked when it is written."""
        if any(name in parents and not parents[name].isdisjoint(self._waiting) for name in values):
            self.flush()

    def _load_head(self, table: Table) -> _Head:
        """Load all heads at once: a writer of one chain writes the others, too."""
        if not self._heads:
            for row in self.rows(_HEADS):
                self._heads[tables.metadata.tables[row.name]] = _Head(int(row.number), bytes(row.digest))
            self._choose_key()
        return self._heads.get(table) or self._new_head(table)

    def _new_head(self, table: Table) -> _Head:
        head = self._heads[table] = _Head(0, chain.GENESIS)
        self.insert(tables.chain, name=table.name, number=0, digest=chain.GENESIS)
        head.new = True
        return head

    def _choose_key(self) -> None:
        """Keep the key the journal ends with in force until a note says otherwise; a new journal begins with one."""
        head = self._heads.get(tables.journal)
        if head is None:
            self._new_head(tables.journal)
            self._note_key(self._keys.current, None)
            return
        key = self._keys.of(head.digest)
        if key is None:
            raise ChainKeyUnknown(head.digest[: chain.KEY_ID_BYTES])
        self._key = key

    def _note_key(self, key: ChainKey, before: ChainKey | None) -> None:
        """Put a key in force for every chained row from here on; the note names the heads of the other chains."""
        heads = {table.name: self._heads.get(table) for table in _OTHERS}
        others = {
            name: key_notes.Stand(0, chain.GENESIS) if head is None else key_notes.Stand(head.number, head.digest)
            for name, head in heads.items()
        }
        event = key_notes.BEGUN if before is None else key_notes.ROTATED
        detail = key_notes.detail_of(None if before is None else before.id, others)
        self._key = key
        self.note(key_notes.KIND, key.id.hex(), event, detail=detail)

    def _store_heads(self) -> None:
        stored = []
        for table, head in self._heads.items():
            if head.new:
                self.update(tables.chain, {"name": table.name}, number=head.number, digest=head.digest)
            elif head.number != head.found:
                stored.append({"chain_name": table.name, "new_number": head.number, "new_digest": head.digest})
        if stored:
            self.execute_many(_MOVE_HEAD, stored)


def _place(table: Table) -> int:
    return FACTS[table].place


_RETURNING: dict[Executable, Executable] = {}


def _returning(statement: Executable) -> Executable:
    """Statement that gives back whole rows; one for each that stands in the code."""
    found = _RETURNING.get(statement)
    if found is None:
        if not isinstance(statement, Update | Delete):
            raise TypeError(f"{statement} writes to a covered table and cannot be sealed: insert rows with `insert`")
        found = _RETURNING[statement] = statement.returning(*statement.table.columns)
    return found


def _layout_of(statement: Executable) -> Layout | None:
    """Layout of the covered table that a statement writes to."""
    if not isinstance(statement, Update | Delete | Insert) or not isinstance(statement.table, Table):
        return None
    return LAYOUTS.get(statement.table)


Change = Callable[[Transaction], T]
