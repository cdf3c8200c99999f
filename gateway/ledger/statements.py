"""Statements by shape, built once.

Putting a Core statement together costs several times what running it costs. The ledger runs a few dozen shapes (insert
into this table, find by that column) and runs them for every passage, so each shape is built once and kept.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from sqlalchemy import Connection, Row, Table, bindparam, insert, select, update
from sqlalchemy.sql.dml import Insert, Update
from sqlalchemy.sql.selectable import Select

SHAPES_MAX = 256
"""Shapes kept: the code has a few dozen, and a shape is made of names in the code, never of data."""

_WHERE, _SET = "where_", "set_"


def insert_row(connection: Connection, table: Table, **values: Any) -> int:  # noqa: ANN401 - columns of any type
    """Insert one row; returns the number the database gave it, 0 where the key is our own text."""
    result = connection.execute(_insert(table), values)
    key = result.inserted_primary_key
    return key[0] if key is not None and isinstance(key[0], int) else 0


def find_row(connection: Connection, table: Table, **equals: Any) -> Row[Any] | None:  # noqa: ANN401 - as above
    """The one row with these values, None when there is none; more than one is an error."""
    return connection.execute(_select(table, tuple(equals)), equals).one_or_none()


def update_rows(
    connection: Connection,
    table: Table,
    where: dict[str, Any],
    **values: Any,  # noqa: ANN401 - as above
) -> int:
    """Set `values` where the columns of `where` have these values; the number of rows changed."""
    shape = _update(table, tuple(where), tuple(values))
    parameters = {_WHERE + name: value for name, value in where.items()}
    parameters |= {_SET + name: value for name, value in values.items()}
    return connection.execute(shape, parameters).rowcount


@lru_cache(SHAPES_MAX)
def _insert(table: Table) -> Insert:
    return insert(table)


@lru_cache(SHAPES_MAX)
def _select(table: Table, columns: tuple[str, ...]) -> Select[Any]:
    return select(table).where(*(table.c[name] == bindparam(name) for name in columns))


@lru_cache(SHAPES_MAX)
def _update(table: Table, where: tuple[str, ...], columns: tuple[str, ...]) -> Update:
    return (
        update(table)
        .where(*(table.c[name] == bindparam(_WHERE + name) for name in where))
        .values({name: bindparam(_SET + name) for name in columns})
    )
