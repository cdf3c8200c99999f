"""Gathered rows of one table: they wait in memory to be inserted, and are found and changed while they wait."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from operator import itemgetter
from typing import Any, TypeAlias

from sqlalchemy import Column, Integer, Table

from gateway.ledger import tables
from gateway.ledger.statements import plain, row_maker

RowValues: TypeAlias = dict[str, Any]
"""Values of a row not yet written: all columns by name, in table order."""


class Facts:
    """Facts of a table that gathering needs; made once."""

    __slots__ = ("columns", "empty", "key", "make_row", "number", "parents", "place", "width")

    def __init__(self, table: Table, place: int) -> None:
        self.place = place
        """Order of writing, parents before children: foreign keys are checked row by row."""
        self.columns = tuple(plain(column.name) for column in table.columns)
        self.width = len(self.columns)
        self.empty: RowValues = {plain(column.name): _default(column) for column in table.columns}
        """Values the database would put where nothing is given."""
        key = list(table.primary_key)
        self.key = plain(key[0].name) if len(key) == 1 else None
        self.number = plain(key[0].name) if isinstance(key[0].type, Integer) else None
        """Key that the database would make up by itself where it is missing, and nobody here would know it."""
        self.make_row = row_maker(self.columns)
        self.parents = {
            plain(column.name): frozenset(foreign.column.table for foreign in column.foreign_keys)
            for column in table.columns
            if column.foreign_keys
        }


_MANY: RowValues = {}
"""Marker in an index for several rows."""


class Gathered:
    """Rows of one table that wait, with an index for each way they were asked for."""

    __slots__ = ("_indexes", "_rooted", "facts", "rows")

    def __init__(self, facts: Facts) -> None:
        self.facts = facts
        self.rows: list[RowValues] = []
        self._indexes: dict[tuple[str, ...], tuple[itemgetter[Any], dict[Any, RowValues]]] = {}
        self._rooted: dict[str, int] = {}
        """Number of the first rows, by column, that refer to rows that wait as well."""

    def add(self, row: RowValues) -> None:
        """Add one complete row."""
        self.rows.append(row)
        if self._indexes:
            for pick, index in self._indexes.values():
                _enter(index, pick(row), row)

    def find(self, equals: Mapping[str, Any]) -> RowValues | None:
        """Find the one waiting row with these values, None when there is none. Raises `LookupError` for more."""
        key = self.facts.key
        if key is not None and key in equals:
            row = self._at((key,), equals[key])
            if row is not None and len(equals) > 1 and any(row[name] != value for name, value in equals.items()):
                return None
        else:
            columns = tuple(equals)
            values = tuple(equals.values())
            if None in values:
                return None  # nothing equals null
            row = self._at(columns, values if len(values) > 1 else values[0])
        if row is _MANY:
            raise LookupError(f"more than one new row with {', '.join(equals)} as asked, one was expected")
        return row

    def matters(self, equals: Mapping[str, str], values: Mapping[str, Any]) -> bool:
        """True when a select that compares these columns with these parameters could see any waiting row."""
        if not equals:
            return True
        wanted = tuple(values[parameter] for parameter in equals.values())
        return self._at(tuple(equals), wanted if len(wanted) > 1 else wanted[0]) is not None

    def have(self, column: str, value: Any) -> bool:  # noqa: ANN401 - columns of any type
        """True when any waiting row has this value; none has null for one, which equals nothing."""
        return value is not None and self._at((column,), value) is not None

    def have_strays(self, column: str, parents: Gathered | None) -> bool:
        """True when any waiting row refers by a column to a row that does not wait among `parents`."""
        at = self._rooted.get(column, 0)
        if at < len(self.rows) and parents is not None and parents.facts.key is not None:
            key = (parents.facts.key,)
            while at < len(self.rows) and parents._at(key, self.rows[at][column]) is not None:
                at += 1
            self._rooted[column] = at
        return at < len(self.rows)

    def change(self, row: RowValues, values: Mapping[str, Any]) -> None:
        """Set values of a waiting row."""
        row.update(values)
        if len(row) != self.facts.width:
            raise unknown_column(row, self.facts)
        stale = [columns for columns in self._indexes if not values.keys().isdisjoint(columns)]
        for columns in stale:
            del self._indexes[columns]
        for column in values:
            self._rooted.pop(column, None)

    def _at(self, columns: tuple[str, ...], value: Any) -> RowValues | None:  # noqa: ANN401 - columns of any type
        found = self._indexes.get(columns)
        if found is None:
            found = self._indexes[columns] = (itemgetter(*columns), {})
            for row in self.rows:
                _enter(found[1], found[0](row), row)
        return found[1].get(value)


def unknown_column(names: Iterable[str], facts: Facts) -> TypeError:
    """Make the error for a value of a column that the table has not."""
    strange = [name for name in names if name not in facts.empty]
    return TypeError(f"no such column: {', '.join(strange)}")


def _enter(index: dict[Any, RowValues], value: Any, row: RowValues) -> None:  # noqa: ANN401 - columns of any type
    index[value] = _MANY if value in index else row


def _default(column: Column[Any]) -> Any:  # noqa: ANN401 - columns of any type
    default = column.server_default
    if default is None:
        return None
    text = str(getattr(default, "arg", ""))
    if not isinstance(column.type, Integer) or not text.lstrip("-").isdigit():
        raise TypeError(f"the default of {column} is not a whole number: gathered rows could not know it")
    return int(text)


FACTS = {table: Facts(table, place) for place, table in enumerate(tables.metadata.sorted_tables)}
