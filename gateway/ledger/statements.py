"""Statements by shape, compiled once and run on the driver's own connection.

Putting a Core statement together, and SQLAlchemy's way of running one, cost several times what the database does with
it. The ledger runs a few dozen shapes (insert into this table, find by that column) for every passage. So each shape is
written in Core, compiled for the dialect once, and from then on handed to the driver as text with its parameters.
Connection and transaction stay SQLAlchemy's; so do the errors, which callers classify.
"""

from __future__ import annotations

from collections import namedtuple
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from operator import itemgetter
from typing import Any, TypeAlias

from sqlalchemy import Connection, Dialect, Table, bindparam, insert, select, update
from sqlalchemy.exc import DBAPIError
from sqlalchemy.sql import visitors
from sqlalchemy.sql.base import Executable
from sqlalchemy.sql.elements import BindParameter, ClauseElement

SHAPES_MAX = 512
"""Shapes kept: the code has a few dozen, and a shape is made of names in the code, never of data."""

_WHERE, _SET = "where_", "set_"

Row: TypeAlias = Any
"""A row read: columns are attributes."""


class Shape:
    """One statement as the driver takes it."""

    def __init__(self, statement: ClauseElement, dialect: Dialect, columns: Sequence[str] | None = None) -> None:
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
        self._fixed = {name: value for name, value in constants.items() if value is not None}
        positions = getattr(compiled, "positiontup", None)
        self._names: tuple[str, ...] | None = None if positions is None else tuple(positions)
        self._row: Callable[..., Row] | None = None
        self.arguments: Callable[[Mapping[str, Any]], Any] = self._arguments()

    def _arguments(self) -> Callable[[Mapping[str, Any]], Any]:
        """How this statement's parameters are put in the driver's order; without constants a plain picking."""
        names, fixed = self._names, self._fixed
        if names is None:
            return lambda values: {**fixed, **values}
        if not names:
            return lambda _: ()
        if fixed:
            pick = itemgetter(*names)
            many = len(names) > 1
            return lambda values: pick({**fixed, **values}) if many else (pick({**fixed, **values}),)
        if len(names) == 1:
            (name,) = names
            return lambda values: (values[name],)
        return itemgetter(*names)

    def row_of(self, description: Sequence[Sequence[Any]]) -> Callable[..., Row]:
        """What makes rows of this statement's results; the same for every run."""
        if self._row is None:
            columns = [column[0] for column in description]
            kind: Any = namedtuple("Row", columns, rename=True)  # type: ignore[misc]
            self._row = kind._make
        return self._row


def _not_required(parameter: BindParameter[Any]) -> None:
    parameter.required = False


class Runner:
    """Runs shapes on one SQLAlchemy connection's driver connection."""

    def __init__(self, connection: Connection) -> None:
        self._dialect = connection.dialect
        driver = connection.connection.driver_connection
        if driver is None:
            raise RuntimeError("the connection has no driver connection")
        self._driver = driver
        dbapi = connection.dialect.loaded_dbapi
        self._error: type[Exception] = dbapi.Error

    def insert_many(self, table: Table, columns: tuple[str, ...], rows: Sequence[Mapping[str, Any]]) -> None:
        """Insert rows that all have these columns."""
        shape = _insert(self._dialect, table, columns)
        arguments = [shape.arguments(row) for row in rows]
        try:
            if len(arguments) == 1:
                self._driver.execute(shape.sql, arguments[0])
            else:
                self._driver.executemany(shape.sql, arguments)
        except self._error as error:
            raise self._wrapped(shape, error) from error

    def find(self, table: Table, equals: Mapping[str, Any]) -> Row | None:
        """The one row with these values, None when there is none; more than one is an error."""
        found = self._rows(_select(self._dialect, table, tuple(equals)), equals)
        if len(found) > 1:
            raise LookupError(f"{len(found)} rows of {table.name} with {', '.join(equals)} as asked, one was expected")
        return found[0] if found else None

    def update(self, table: Table, where: Mapping[str, Any], values: Mapping[str, Any]) -> int:
        """Set `values` where the columns of `where` have these values; the number of rows changed."""
        shape = _update(self._dialect, table, tuple(where), tuple(values))
        parameters = {_WHERE + name: value for name, value in where.items()}
        parameters |= {_SET + name: value for name, value in values.items()}
        return self.run(shape, parameters)

    def rows(self, statement: Executable, values: Mapping[str, Any]) -> list[Row]:
        """All rows of a Core select with bound parameters."""
        return self._rows(self.shape(statement), values)

    def shape(self, statement: Executable) -> Shape:
        """A statement of the code (a module's constant), compiled once."""
        return _constant(self._dialect, statement)

    def run(self, shape: Shape, values: Mapping[str, Any]) -> int:
        """Run a statement that returns no rows; the number of rows it changed."""
        try:
            return int(self._driver.execute(shape.sql, shape.arguments(values)).rowcount)
        except self._error as error:
            raise self._wrapped(shape, error) from error

    def run_many(self, shape: Shape, values: Sequence[Mapping[str, Any]]) -> None:
        """The same statement for many sets of parameters."""
        try:
            self._driver.executemany(shape.sql, [shape.arguments(one) for one in values])
        except self._error as error:
            raise self._wrapped(shape, error) from error

    def _rows(self, shape: Shape, values: Mapping[str, Any]) -> list[Row]:
        try:
            cursor = self._driver.execute(shape.sql, shape.arguments(values))
            found = cursor.fetchall()
        except self._error as error:
            raise self._wrapped(shape, error) from error
        return list(map(shape.row_of(cursor.description), found)) if found else found

    def _wrapped(self, shape: Shape, error: Exception) -> Exception:
        """The driver's error as SQLAlchemy's: whoever judges storage trouble knows only those."""
        return DBAPIError.instance(shape.sql, None, error, self._error, dialect=self._dialect)


@lru_cache(SHAPES_MAX)
def _insert(dialect: Dialect, table: Table, columns: tuple[str, ...]) -> Shape:
    return Shape(insert(table), dialect, columns)


@lru_cache(SHAPES_MAX)
def _select(dialect: Dialect, table: Table, columns: tuple[str, ...]) -> Shape:
    return Shape(select(table).where(*(table.c[name] == bindparam(name) for name in columns)), dialect)


@lru_cache(SHAPES_MAX)
def _update(dialect: Dialect, table: Table, where: tuple[str, ...], columns: tuple[str, ...]) -> Shape:
    statement = (
        update(table)
        .where(*(table.c[name] == bindparam(_WHERE + name) for name in where))
        .values({name: bindparam(_SET + name) for name in columns})
    )
    return Shape(statement, dialect)


@lru_cache(SHAPES_MAX)
def _constant(dialect: Dialect, statement: ClauseElement) -> Shape:
    return Shape(statement, dialect)
