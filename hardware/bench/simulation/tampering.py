"""Tampering with the ledger's file while the gateway is down: rows changed, deleted, put in, a chain made anew.

Verification must find each of them and name table, row and column. Then everything is put back as it was, so that the
run goes on; what is done to a file is chosen by the seed and by the rows there are, in the order of their keys.
"""

from __future__ import annotations

import random
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import Column, Integer, LargeBinary, Table

from gateway.ledger import chain, engines, tables
from gateway.ledger.chain import ChainKey
from gateway.ledger.findings import Finding
from gateway.ledger.hex_text import from_stored
from gateway.ledger.seals import CODES, KEYED_BY_SALT, LEFT_OUT, SALT
from gateway.ledger.verify import verify
from hardware.bench.chain_key import KEYS

TAMPERED_SHARE = 0.5
"""Share of crashes after which the file is changed before the gateway comes back."""

FAULTS = ("row_changed", "row_deleted", "row_put_in", "chain_made_anew")

FORGED: dict[str, tuple[str, ...]] = {"passage": ("id",), "outbox": ("id",), "attempt": ("id", "reference")}
"""Tables into which a copy of a row can be put, and the columns in which it must be another."""


@dataclass(frozen=True, slots=True)
class Change:
    """One thing done to the file, how it is undone, and what verification must say of it."""

    fault: str
    what: str
    undo: Callable[[sqlite3.Connection], Any]
    names: Callable[[Finding], bool]


class Tamperer:
    """Changes the file of one ledger, asks whether it is found, and puts it back."""

    def __init__(self, path: Path, chance: random.Random) -> None:
        self._path = path
        self._chance = chance

    @property
    def comes(self) -> bool:
        """True when somebody is at the file this time."""
        return self._chance.random() < TAMPERED_SHARE

    def act(self) -> Iterator[tuple[Change, bool]]:
        """Make each change, and tell whether verification has named it."""
        with closing(sqlite3.connect(self._path, isolation_level=None)) as connection:
            connection.execute("pragma synchronous=off")
            connection.execute("pragma foreign_keys=off")
            connection.execute("pragma ignore_check_constraints=on")
            changed, deleted, into = self._tables(connection)
            changes = [
                *self._change(connection, changed),
                *self._delete(connection, deleted),
                *self._put_in(connection, into),
                *self._make_chain_anew(connection),
            ]
            findings = self._verified()
            for change in reversed(changes):
                change.undo(connection)
        for change in changes:
            yield change, any(map(change.names, findings))

    def _tables(self, connection: sqlite3.Connection) -> tuple[Table | None, Table | None, Table | None]:
        """Choose three different tables with rows in them."""
        full = [
            tables.metadata.tables[name]
            for name in CODES
            if connection.execute(f"select 1 from {name} limit 1").fetchone() is not None  # noqa: S608 - our own names
        ]
        forged = [table for table in full if table.name in FORGED]
        into = self._chance.choice(forged) if forged else None
        rest = [table for table in full if table is not into]
        first, second = self._chance.sample(rest, 2) if len(rest) > 1 else (None, None)
        return first, second, into

    def _verified(self) -> list[Finding]:
        reader = engines.open_reader(self._path)
        try:
            return [finding for check in verify(reader, KEYS) for finding in check.findings]
        finally:
            reader.dispose()

    def _row(self, connection: sqlite3.Connection, table: Table) -> dict[str, Any]:
        """Choose one row of a table."""
        keys = ", ".join(column.name for column in table.primary_key)
        count = connection.execute(f"select count(*) from {table.name}").fetchone()[0]  # noqa: S608 - our own names
        values = connection.execute(
            f"select * from {table.name} order by {keys} limit 1 offset ?",  # noqa: S608 - as above
            (self._chance.randrange(count),),
        ).fetchone()
        return dict(zip((column.name for column in table.columns), values, strict=True))

    def _change(self, connection: sqlite3.Connection, table: Table | None) -> Iterator[Change]:
        if table is None:
            return
        row = self._row(connection, table)
        column = self._chance.choice(_changeable(table))
        name, before = column.name, row[column.name]
        write = f'update {table.name} set "{name}" = ? where {_where(table)}'  # noqa: S608 - our own names
        place = _place(table, row)
        connection.execute(write, (_other(column, before), *place))
        yield Change(
            "row_changed",
            f"{table.name}.{name}",
            lambda file: file.execute(write, (before, *place)),
            lambda found: found.table == table.name and _may_tell(found, name) and _is_row(table, row, found),
        )

    def _delete(self, connection: sqlite3.Connection, table: Table | None) -> Iterator[Change]:
        if table is None:
            return
        row = self._row(connection, table)
        connection.execute(f"delete from {table.name} where {_where(table)}", _place(table, row))  # noqa: S608 - our own names
        names = ", ".join(f'"{name}"' for name in row)
        back = f"insert into {table.name} ({names}) values ({', '.join('?' * len(row))})"  # noqa: S608 - as above
        yield Change(
            "row_deleted",
            table.name,
            lambda file: file.execute(back, tuple(row.values())),
            lambda found: found.table == table.name and "missing" in found.problem and _is_row(table, row, found),
        )

    def _put_in(self, connection: sqlite3.Connection, table: Table | None) -> Iterator[Change]:
        if table is None:
            return
        row = self._row(connection, table)
        forged = {**row, **{name: _other(table.c[name], row[name]) for name in FORGED[table.name]}}
        marks = ", ".join("?" * len(forged))
        connection.execute(f"insert into {table.name} values ({marks})", tuple(forged.values()))  # noqa: S608 - our names
        yield Change(
            "row_put_in",
            table.name,
            lambda file: file.execute(f"delete from {table.name} where id = ?", (forged["id"],)),  # noqa: S608
            lambda found: found.table == table.name and "put in" in found.problem and _is_row(table, forged, found),
        )

    def _make_chain_anew(self, connection: sqlite3.Connection) -> Iterator[Change]:
        """Change the newest transfer, its link and the head, as one who knows how it works and has no key."""
        connection.row_factory = sqlite3.Row
        newest = connection.execute("select * from transfer order by id desc limit 2").fetchall()
        connection.row_factory = None
        if len(newest) < 2:
            return
        before, previous = dict(newest[0]), newest[1]["chain"]
        number = before["id"]
        forged = {**before, "event_at": before["event_at"] - 1}
        *values, _ = map(from_stored, forged.values())
        link = chain.link(_without_key(before["chain"]), "transfer", previous, values)
        _write_newest(connection, number, forged["event_at"], link)
        yield Change(
            "chain_made_anew",
            "transfer",
            lambda file: _write_newest(file, number, before["event_at"], before["chain"]),
            lambda found: found.table == "transfer" and found.row == f"transfer {number}",
        )


def _write_newest(connection: sqlite3.Connection, number: int, event_at: int, link: bytes) -> None:
    connection.execute("update transfer set event_at = ?, chain = ? where id = ?", (event_at, link, number))
    connection.execute("update chain set digest = ? where name = 'transfer'", (link,))


def _without_key(link: bytes) -> ChainKey:
    """Make a key that says it is the ledger's, and is none."""
    key = ChainKey(bytes(chain.SECRET_BYTES))
    object.__setattr__(key, "id", link[: chain.KEY_ID_BYTES])
    return key


def _where(table: Table) -> str:
    """Condition that finds one row, by the values of `_place`."""
    return " and ".join(f'"{column.name}" = ?' for column in table.primary_key)


def _place(table: Table, row: dict[str, Any]) -> tuple[Any, ...]:
    return tuple(row[column.name] for column in table.primary_key)


def _changeable(table: Table) -> Sequence[Column[Any]]:
    """Columns whose change leaves the row the same row, and that a seal covers."""
    left_out = {*LEFT_OUT.get(table.name, ()), *(column.name for column in table.primary_key)}
    if table.name in KEYED_BY_SALT:
        left_out.add(SALT)
    return [column for column in table.columns if column.name not in left_out]


def _other(column: Column[Any], value: Any) -> Any:  # noqa: ANN401 - whatever a column holds
    """Value that no other row has."""
    if isinstance(column.type, Integer):
        return (value or 0) + 1_000_000_007
    if isinstance(column.type, LargeBinary):
        return (value or b"") + b"\x00"
    if isinstance(value, bytes):
        return value[:-1] + bytes([value[-1] ^ 1])
    return (value or "") + "x"


def _may_tell(found: Finding, column: str) -> bool:
    """True when a finding may be about this column: of one change in 256 the tags do not tell it, and of one salt in
    256 they tell all others."""
    return column == SALT or found.column in (column, None)


def _is_row(table: Table, row: dict[str, Any], found: Finding) -> bool:
    """True when a finding is about this row; those with a personal key are named by something else."""
    if table.name in KEYED_BY_SALT:
        return True
    return found.row == f"{table.name} {' '.join(str(from_stored(row[column.name])) for column in table.primary_key)}"
