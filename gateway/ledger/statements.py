"""Statements by shape, compiled once and run on the driver's own cursor.

Putting a Core statement together, and SQLAlchemy's way of running one, cost several times what the database does with
it. The ledger runs a few dozen shapes (insert into this table, find by that column) for every passage. So each shape is
written in Core, compiled for the dialect once, and from then on handed to the driver as text with its parameters.
Connection and transaction stay SQLAlchemy's; so do the errors, which callers classify.
"""

from __future__ import annotations

import sys
from collections import namedtuple
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from functools import partial
from operator import itemgetter
from types import MappingProxyType
from typing import Any, TypeAlias

from sqlalchemy import Column, Connection, Dialect, Select, Table, bindparam, insert, select, update
from sqlalchemy.exc import DBAPIError
from sqlalchemy.sql import operators, visitors
from sqlalchemy.sql.base import Executable
from sqlalchemy.sql.dml import Update
from sqlalchemy.sql.elements import BinaryExpression, BindParameter, BooleanClauseList, ClauseElement, Grouping
from sqlalchemy.sql.selectable import Join, SelectBase

from gateway.ledger.hex_text import STORED, TEXTS, HexText, from_stored

PAGE = 5_000
"""Rows kept in memory of a select that walks through a whole table."""

SHAPES_MAX = 512
"""Shapes kept: the code has a few dozen, and a shape is made of names in the code, never of data."""

_WHERE, _SET = "where_", "set_"

Row: TypeAlias = Any
"""Row that was read: columns are attributes."""

Picker: TypeAlias = Callable[[Mapping[str, Any]], Any]
"""Function that takes some values out of many, always as a tuple unless said otherwise."""


@dataclass(frozen=True, slots=True)
class Tree:
    """Tree of a select that joins tables along their references: tells which rows it can find."""

    root: Table
    one_of: tuple[tuple[str, str], ...]
    """Columns of the root with the parameters they are compared with, of which one must be equal."""
    branches: tuple[tuple[Table, str, Table], ...]
    """Branches: every other table, with the column by which it refers to the next one towards the root."""


class Shape:
    """Shape: one statement as the driver takes it."""

    def __init__(self, statement: ClauseElement, dialect: Dialect, columns: Sequence[str] | None = None) -> None:
        self.equals = _equals_of(statement)
        """Columns that a select of one table alone compares with parameters, {column: parameter}.

        A row with another value in one of them cannot matter to it."""
        self.tree = _tree_of(statement)
        self.whole = _whole(statement)
        """Table of which a select gives whole rows and nothing else."""
        if columns is None:
            # Rendering lists of constants wants a value for every parameter, though none is needed yet.
            statement = visitors.cloned_traverse(statement, {}, {"bindparam": _not_required})
        compiled = statement.compile(
            dialect=dialect,
            column_keys=None if columns is None else list(columns),
            compile_kwargs={"render_postcompile": columns is None},
        )
        self.sql = str(compiled)
        self.tables = frozenset(element for element in visitors.iterate(statement) if isinstance(element, Table))
        constants = dict(compiled.params or {}) if columns is None else {}
        positions = getattr(compiled, "positiontup", None)
        positions = None if positions is None else list(map(plain, positions))
        hex_texts = {name for name, parameter in compiled.binds.items() if isinstance(parameter.type, HexText)}  # type: ignore[attr-defined]
        self.arguments = _arguments(
            positions, {name: value for name, value in constants.items() if value is not None}, hex_texts
        )
        """Puts values by name into the form the driver takes."""
        self.hex_texts = _hex_texts_of(statement)
        self.read = _reader_of(self.hex_texts)
        """Converts rows as the driver gives them; None where they are right as they are."""
        self._row: Callable[[Iterable[Any]], Row] | None = None

    def row_of(self, description: Sequence[Sequence[Any]]) -> Callable[[Iterable[Any]], Row]:
        """Maker of rows from this statement's results; the same for every run."""
        if self._row is None:
            self._row = row_maker(column[0] for column in description)
        return self._row


class Shapes:
    """Shapes of one kind of database, each compiled when it is first used."""

    def __init__(self, dialect: Dialect) -> None:
        self._dialect = dialect
        self._known: dict[Any, Shape] = {}

    def insert(self, table: Table, columns: tuple[str, ...]) -> Shape:
        """Shape of an insert into these columns."""
        key = ("insert", table, columns)
        return self._known.get(key) or self._keep(key, Shape(insert(table), self._dialect, columns))

    def select(self, table: Table, columns: tuple[str, ...]) -> Shape:
        """Shape of a select of whole rows by the values of these columns."""
        key = ("select", table, columns)
        return self._known.get(key) or self._keep(
            key, Shape(select(table).where(*(table.c[name] == bindparam(name) for name in columns)), self._dialect)
        )

    def update(self, table: Table, where: tuple[str, ...], columns: tuple[str, ...], *, returning: bool) -> Shape:
        """Shape of an update of columns by the values of others; `returning`: give back the whole changed rows."""
        key = ("update", table, where, columns, returning)
        found = self._known.get(key)
        if found is not None:
            return found
        statement = _update(table, where, columns)
        return self._keep(key, Shape(statement.returning(*table.columns) if returning else statement, self._dialect))

    def of(self, statement: Executable) -> Shape:
        """Shape of a statement that stands in the code as a constant."""
        found = self._known.get(statement)
        if found is not None:
            return found
        if not isinstance(statement, ClauseElement):
            raise TypeError(f"{statement!r} is no statement")
        return self._keep(statement, Shape(statement, self._dialect))

    def _keep(self, key: Any, shape: Shape) -> Shape:  # noqa: ANN401 - a statement or what it is made of
        if len(self._known) >= SHAPES_MAX:
            self._known.clear()
        self._known[key] = shape
        return shape


class Runner:
    """Runs shapes on one SQLAlchemy connection's driver connection."""

    __slots__ = ("_cursor", "_dialect", "_error", "_shapes", "shape")

    def __init__(self, connection: Connection) -> None:
        self._dialect = connection.dialect
        self._shapes = _shapes_of(connection.dialect)
        self.shape = self._shapes.of
        driver = connection.connection.driver_connection
        if driver is None:
            raise RuntimeError("the connection has no driver connection")
        self._cursor = driver.cursor()
        self._error: type[Exception] = connection.dialect.loaded_dbapi.Error

    def close(self) -> None:
        """Let go of the cursor, and of a statement that was not run to its end."""
        self._cursor.close()

    def insert_many(self, table: Table, columns: tuple[str, ...], rows: Sequence[Mapping[str, Any]]) -> None:
        """Insert rows that all have these columns."""
        self.run_many(self._shapes.insert(table, columns), rows)

    def find(self, table: Table, equals: Mapping[str, Any]) -> Row | None:
        """Find the one row with these values, None when there is none; more than one is an error."""
        found = self.rows(self._shapes.select(table, tuple(equals)), equals)
        if not found:
            return None
        if len(found) > 1:
            raise LookupError(f"{len(found)} rows of {table.name} with {', '.join(equals)} as asked, one was expected")
        return found[0]

    def update(self, table: Table, where: Mapping[str, Any], values: Mapping[str, Any]) -> int:
        """Set `values` where the columns of `where` have these values; the number of rows changed."""
        shape = self._shapes.update(table, tuple(where), tuple(values), returning=False)
        return self.run(shape, _set_and_where(where, values))

    def update_returning(
        self, table: Table, where: Mapping[str, Any], values: Mapping[str, Any]
    ) -> list[tuple[Any, ...]]:
        """Update, and return the changed rows whole, as they are now."""
        shape = self._shapes.update(table, tuple(where), tuple(values), returning=True)
        return self.run_returning(shape, _set_and_where(where, values))

    def update_many(self, table: Table, key: str, columns: tuple[str, ...], rows: Sequence[Mapping[str, Any]]) -> None:
        """Set these columns in many rows, each found by its `key`."""
        shape = self._shapes.update(table, (key,), columns, returning=False)
        self.run_many(shape, [_set_and_where({key: row[key]}, {name: row[name] for name in columns}) for row in rows])

    def run_returning(self, shape: Shape, values: Mapping[str, Any]) -> list[tuple[Any, ...]]:
        """Run a statement that gives back the rows it changed or deleted."""
        try:
            self._cursor.execute(shape.sql, shape.arguments(values))
            found: list[tuple[Any, ...]] = self._cursor.fetchall()
        except self._error as error:
            raise self._wrapped(shape, error) from error
        return found if shape.read is None else list(map(tuple, map(shape.read, found)))

    def run(self, shape: Shape, values: Mapping[str, Any]) -> int:
        """Run a statement that returns no rows; the number of rows it changed."""
        try:
            self._cursor.execute(shape.sql, shape.arguments(values))
            return int(self._cursor.rowcount)
        except self._error as error:
            raise self._wrapped(shape, error) from error

    def run_many(self, shape: Shape, values: Sequence[Mapping[str, Any]]) -> None:
        """Run the same statement for many sets of parameters."""
        try:
            if len(values) == 1:
                self._cursor.execute(shape.sql, shape.arguments(values[0]))
            else:
                self._cursor.executemany(shape.sql, list(map(shape.arguments, values)))
        except self._error as error:
            raise self._wrapped(shape, error) from error

    def rows(self, shape: Shape, values: Mapping[str, Any]) -> list[Row]:
        """Fetch all rows of a select."""
        cursor = self._cursor
        try:
            cursor.execute(shape.sql, shape.arguments(values))
            found = cursor.fetchall()
        except self._error as error:
            raise self._wrapped(shape, error) from error
        if not found:
            return []
        return list(map(shape.row_of(cursor.description), found if shape.read is None else map(shape.read, found)))

    def _wrapped(self, shape: Shape, error: Exception) -> Exception:
        """Wrap the driver's error as SQLAlchemy's: code that judges storage trouble knows only those."""
        return DBAPIError.instance(shape.sql, None, error, self._error, dialect=self._dialect)


def pages(
    connection: Connection, statement: Select[Any], values: Mapping[str, Any] = MappingProxyType({})
) -> Iterator[list[tuple[Any, ...]]]:
    """Read all rows of a select that stands in the code as a constant, in pages, past SQLAlchemy's results: nothing
    else is as quick."""
    shape = _shapes_of(connection.dialect).of(statement)
    cursor = connection.connection.cursor()
    try:
        cursor.execute(shape.sql, shape.arguments(values))
        while page := cursor.fetchmany(PAGE):
            columns = list(zip(*page, strict=True))
            for place in shape.hex_texts:
                columns[place] = tuple(map(from_stored, columns[place]))
            yield list(zip(*columns, strict=True))
    finally:
        cursor.close()


def plain(name: str) -> str:
    """Plain text of a column's name: in dictionaries SQLAlchemy's own kind of text is found three times slower."""
    return sys.intern(str(name))


def row_maker(columns: Iterable[str]) -> Callable[[Iterable[Any]], Row]:
    """Make a function that builds a row from its values in order."""
    kind: Any = namedtuple("Row", list(columns), rename=True)  # type: ignore[misc]
    return partial(tuple.__new__, kind)


def picker(names: Sequence[str]) -> Picker:
    """Make a function that takes the values with these names out of a mapping, as a tuple."""
    if not names:
        return lambda _: ()
    if len(names) == 1:
        (name,) = names
        return lambda values: (values[name],)
    return itemgetter(*names)


def _arguments(positions: Sequence[str] | None, constants: Mapping[str, Any], hex_texts: Set[str]) -> Picker:
    if positions is None:
        return lambda values: {
            name: STORED[value] if name in hex_texts else value for name, value in {**constants, **values}.items()
        }
    pick = picker(positions)
    places = [place for place, name in enumerate(positions) if name in hex_texts]

    def arguments(values: Mapping[str, Any]) -> list[Any]:
        found = list(pick({**constants, **values} if constants else values))
        for place in places:
            found[place] = STORED[found[place]]
        return found

    return arguments


def _hex_texts_of(statement: ClauseElement) -> list[int]:
    """Places of the columns of a statement's rows that hold ids and digests."""
    columns = getattr(statement, "exported_columns", ())
    return [place for place, column in enumerate(columns) if isinstance(column.type, HexText)]


def _reader_of(places: Sequence[int]) -> Callable[[Iterable[Any]], list[Any]] | None:
    def read(row: Iterable[Any]) -> list[Any]:
        found = list(row)
        for place in places:
            found[place] = TEXTS[found[place]]
        return found

    return read if places else None


def _not_required(parameter: BindParameter[Any]) -> None:
    parameter.required = False


def _equals_of(statement: ClauseElement) -> Mapping[str, str]:
    if not isinstance(statement, Select) or statement.whereclause is None:
        return {}
    (source, *more) = statement.get_final_froms()
    selects = sum(isinstance(element, SelectBase) for element in visitors.iterate(statement))
    if more or selects > 1 or not isinstance(source, Table):
        return {}
    compared = map(_compared, _parts(statement.whereclause, operators.and_))
    return {column.name: parameter for column, parameter in filter(None, compared)}


def _whole(statement: ClauseElement) -> Table | None:
    """Find the table of which a select gives all columns in their order, and nothing else."""
    columns = list(statement.selected_columns) if isinstance(statement, Select) else []
    table = getattr(columns[0], "table", None) if columns else None
    whole = isinstance(table, Table) and list(map(id, columns)) == list(map(id, table.columns))
    return table if whole else None


def _tree_of(statement: ClauseElement) -> Tree | None:
    """Find the tree of a select; None for one that joins otherwise, or whose condition may hold for any row."""
    if not isinstance(statement, Select) or statement.whereclause is None:
        return None
    if sum(isinstance(element, SelectBase) for element in visitors.iterate(statement)) > 1:
        return None
    source, *more = statement.get_final_froms()
    branches = []
    while isinstance(source, Join):
        branch = _branch_of(source.onclause)
        if branch is None or source.isouter or not isinstance(source.right, Table):
            return None
        branches.append(branch)
        source = source.left
    if more or not branches or not isinstance(source, Table):
        return None
    grown = {table for table, _, _ in branches}
    for one_of in map(_one_of, _parts(statement.whereclause, operators.and_)):
        for table in {column.table for column, _ in one_of}:
            if table not in grown and len(grown) == len(branches) and all(c.table is table for c, _ in one_of):
                return Tree(table, tuple((column.name, parameter) for column, parameter in one_of), tuple(branches))
    return None


def _branch_of(condition: ClauseElement | None) -> tuple[Table, str, Table] | None:
    """Find the table that refers to another, by which column, and the other."""
    if not isinstance(condition, BinaryExpression) or condition.operator is not operators.eq:
        return None
    for one, other in ((condition.left, condition.right), (condition.right, condition.left)):
        if isinstance(one, Column) and isinstance(other, Column) and one.references(other) and other.primary_key:
            return one.table, one.name, other.table
    return None


def _one_of(condition: ClauseElement) -> list[tuple[Column[Any], str]]:
    """Find columns with parameters of which one must be equal; nothing where something else may hold."""
    compared = [_compared(part) for part in _parts(condition, operators.or_)]
    return [pair for pair in compared if pair is not None] if None not in compared else []


def _compared(part: ClauseElement) -> tuple[Column[Any], str] | None:
    """Find a column and the parameter it must be equal to."""
    if not isinstance(part, BinaryExpression) or part.operator is not operators.eq:
        return None
    column, value = part.left, part.right
    if isinstance(column, Column) and isinstance(value, BindParameter) and value.required:
        return column, str(value.key)
    return None


def _parts(condition: Any, operator: Any) -> Sequence[Any]:  # noqa: ANN401 - a condition and one of `operators`
    """Split a condition at `and`, or at `or`."""
    whole = condition.element if isinstance(condition, Grouping) else condition
    return whole.clauses if isinstance(whole, BooleanClauseList) and whole.operator is operator else [whole]


def _set_and_where(where: Mapping[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
    parameters = {_WHERE + name: value for name, value in where.items()}
    for name, value in values.items():
        parameters[_SET + name] = value
    return parameters


def _update(table: Table, where: tuple[str, ...], columns: tuple[str, ...]) -> Update:
    return (
        update(table)
        .where(*(table.c[name] == bindparam(_WHERE + name) for name in where))
        .values({name: bindparam(_SET + name) for name in columns})
    )


_SHAPES: dict[tuple[Any, ...], Shapes] = {}


def _shapes_of(dialect: Dialect) -> Shapes:
    """Shapes shared by all engines of a kind, so that a ledger opened again finds its statements compiled."""
    kind = (type(dialect), dialect.paramstyle, dialect.server_version_info)
    return _SHAPES.get(kind) or _SHAPES.setdefault(kind, Shapes(dialect))
