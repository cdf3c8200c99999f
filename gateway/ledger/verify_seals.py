"""Verification of the seals: names table, row and column of each covered row that differs from its seal in the journal.

Theory of operation. From the journal the newest seal of every row is kept in a temporary database (what does not fit
goes to disk, so memory is bounded whatever the ledger holds). Then each covered table is read once;
the commitments to its rows are sorted beside the seals, and both are merged: a seal without its row, a row without a
seal, and a row with another commitment are found in one pass. Only the rows found are read again, to name
their columns. Tables are shared out among the readers of the ledger; each reads the journal for its own.

Nothing personal is shown: rows whose own key names a person are named by what stands for it in the seals.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from functools import cache
from itertools import groupby
from operator import itemgetter
from typing import Any, Final, Self

from sqlalchemy import Connection, Select, func, literal_column, select

from gateway.ledger import engines, key_notes, seals, tables
from gateway.ledger.findings import FINDINGS_MAX, Check, Finding, checked, joined
from gateway.ledger.seals import BadContent, FullRow, Layout
from gateway.ledger.statements import pages
from gateway.ledger.tables import quoted
from gateway.ledger.workers import Readers, Task

NAME: Final = "every row is what the journal has sealed"

ROWS_AT_ONCE: Final = 10_000
CACHE_KIB: Final = 32_768

ENDS: Final = ""
"""Name under which stands what seals tell of the journal itself and of the ends of the other chains."""

MISSING, PUT_IN, CHANGED = "missing", "put in", "changed"

_PROBLEMS: Final[Mapping[str, str]] = {
    MISSING: "is missing: it was deleted, or its key was changed",
    PUT_IN: "was sealed by no transaction: it was put in, or its key was changed",
    CHANGED: "is not what was sealed: it was changed",
}


def submit(readers: Readers) -> list[Task]:
    """Hand in the check of all covered tables."""
    shares = shared_out(readers.connection, readers.number)
    return [readers.submit(check_tables, share, number == 0) for number, share in enumerate(shares)]


def answer(readers: Readers, tasks: Sequence[Task]) -> Check:
    """Check of all covered tables, as if one had compared them in their order."""
    rows, found = 0, dict[str, Check]()
    for task in tasks:
        count, checks = readers.answer(task)
        rows += count
        found |= checks
    names = (ENDS, *(layout.name for layout in seals.LAYOUTS.values()))
    return joined(NAME, rows, (found[name] for name in names if name in found))


def shared_out(connection: Connection, number: int) -> list[frozenset[int]]:
    """Codes of the covered tables in so many shares, with about the same number of rows."""
    if number == 1:
        return [frozenset(seals.BY_CODE)]
    counts = {
        layout.code: connection.execute(select(func.count()).select_from(layout.table)).scalar_one()
        for layout in seals.LAYOUTS.values()
    }
    shares: list[set[int]] = [set() for _ in range(number)]
    for code in sorted(counts, key=counts.__getitem__, reverse=True):
        min(shares, key=lambda share: sum(counts[one] for one in share)).add(code)
    return [frozenset(share) for share in shares]


def check_tables(connection: Connection, codes: frozenset[int], ends: bool) -> tuple[int, dict[str, Check]]:
    """Compare these tables with their seals; with `ends` also what seals tell of the journal and of the other chains.

    The number of sealed rows, and what was found by table.
    """
    with SealedRows(codes) as sealed:
        for page in pages(connection, _sealing()):
            for row in page:
                sealed.read(*row)
        return sealed.check(connection, ends=ends)


@cache
def _sealing() -> Select[Any]:
    j = tables.journal.c
    sealing = (j.kind == literal_column(quoted([seals.KIND])), j.event == literal_column(quoted([seals.EVENT])))
    return select(j.number, j.ref, j.content).where(*sealing).order_by(j.number)


class SealedRows:
    """Newest seal of every row of some tables."""

    def __init__(self, codes: frozenset[int]) -> None:
        self._codes = codes
        self._store = engines.scratch(CACHE_KIB)
        for statement in (
            "create table newest (code int, key blob, columns int, digest blob, tags blob, primary key (code, key))"
            " without rowid",
            "create table present (key blob, columns int, digest blob)",
            "begin",
        ):
            self._store.execute(statement)
        self._waiting: list[tuple[int, bytes, int, bytes | None, bytes | None]] = []
        self._problems: list[Finding] = []
        self._numbers: tuple[int, str] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._store.close()

    def read(self, number: int, ref: str, content: bytes | None) -> None:
        """Read one row of the journal that seals, in order."""
        self._numbers = number, ref
        waiting, size, codes = self._waiting, seals.DIGEST_BYTES, self._codes
        try:
            for code, key, count, seal in seals.entries(content or b""):
                if code not in codes:
                    continue
                if seal is not None:
                    waiting.append((code, key, count, seal[:size], seal[size:]))
                else:
                    waiting.append((code, key, 0, None, None))
        except BadContent as error:
            self._problems.append(Finding(NAME, f"journal {number}", f"seals nothing of ours: {error}", "journal"))
        if len(waiting) >= ROWS_AT_ONCE:
            self._flush()

    def check(self, connection: Connection, *, ends: bool) -> tuple[int, dict[str, Check]]:
        """Compare every table with its seals: the number of sealed rows, and what was found by table."""
        self._flush()
        (count,) = self._store.execute("select count(*) from newest where digest is not null").fetchone()
        found = dict(self._findings(connection))
        if ends:
            found[ENDS] = checked(NAME, 0, [*self._problems, *self._cut_off(connection)])
        return count, found

    def _findings(self, connection: Connection) -> Iterator[tuple[str, Check]]:
        for layout in seals.LAYOUTS.values():
            if layout.code in self._codes:
                yield layout.name, checked(NAME, 0, self._of_table(connection, layout))

    def _cut_off(self, connection: Connection) -> Iterator[Finding]:
        """Compare the ends of the other chains with the newest seal: every transaction seals how far they have come."""
        if self._numbers is None:
            return
        number, ref = self._numbers
        stood = dict(zip(key_notes.OTHERS, ref.split("/"), strict=False))
        found = connection.execute(select(tables.chain.c.name, tables.chain.c.number)).all()
        heads = {row.name: str(row.number) for row in found}
        for name in key_notes.OTHERS:
            if heads.get(name, "0") != stood.get(name):
                problem = f"the chain ends with {heads.get(name, '0')}, journal {number} says {stood.get(name)}"
                yield Finding(NAME, f"{name} {heads.get(name, '0')}", problem, name)

    def _of_table(self, connection: Connection, layout: Layout) -> Iterator[Finding]:
        self._load_present(connection, layout)
        if self._agrees(layout):
            return
        bad: dict[bytes, str] = {}
        for kind, key in self._differences(layout):
            if len(bad) < FINDINGS_MAX:
                bad[key] = kind
            else:
                yield Finding(NAME, layout.name, _PROBLEMS[kind], layout.name)
        if bad:
            yield from self._named(connection, layout, bad)

    def _load_present(self, connection: Connection, layout: Layout) -> None:
        """Load the commitments to the rows there are; for each number of columns that a seal of this table covers."""
        store, code, every = self._store, layout.code, len(layout.columns)
        counts = store.execute("select distinct columns from newest where code = ? and columns > 0", (code,))
        older = [count for (count,) in counts if count != every]
        store.execute("delete from present")
        for page in pages(connection, layout.rows):
            rows = [(layout.key_of(row), every, layout.digest(row)) for row in page]
            for count in older:
                rows += [(layout.key_of(row), count, layout.digest(row, count)) for row in page]
            store.executemany("insert into present values (?, ?, ?)", rows)

    def _agrees(self, layout: Layout) -> bool:
        """True when there are as many rows as seals, and each has its own: the usual case, told by SQL alone."""
        sealed, present, same = self._store.execute(
            "select (select count(*) from newest where code = :code and digest is not null),"
            " (select count(*) from present where columns = :every),"
            " (select count(*) from present p join newest n on n.code = :code and n.key = p.key"
            "  where n.columns = p.columns and n.digest = p.digest)",
            {"code": layout.code, "every": len(layout.columns)},
        ).fetchone()
        return bool(sealed == present == same)

    def _differences(self, layout: Layout) -> Iterator[tuple[str, bytes]]:
        """Merge seals and rows, both in the order of their keys."""
        sealed = self._store.execute(
            "select key, columns, digest from newest where code = ? and digest is not null order by key",
            (layout.code,),
        )
        with closing(self._store.cursor()) as cursor:
            present = groupby(cursor.execute("select key, columns, digest from present order by key"), itemgetter(0))
            key, rows = _next(present)
            for wanted, count, digest in sealed:
                while key is not None and key < wanted:
                    yield PUT_IN, key
                    key, rows = _next(present)
                if key != wanted:
                    yield MISSING, wanted
                    continue
                found = [row[2] for row in rows if row[1] == count]
                if found != [digest]:
                    yield (CHANGED if len(found) == 1 else PUT_IN), wanted
                key, rows = _next(present)
            while key is not None:
                yield PUT_IN, key
                key, rows = _next(present)

    def _named(self, connection: Connection, layout: Layout, bad: Mapping[bytes, str]) -> Iterator[Finding]:
        """Name the rows found, and the columns by which they differ."""
        unseen = dict(bad)
        for page in pages(connection, layout.rows):
            for row in page:
                kind = bad.get(layout.key_of(row))
                if kind is None:
                    continue
                unseen.pop(layout.key_of(row), None)
                yield from self._of_row(layout, row, kind)
        for key, kind in unseen.items():
            yield Finding(NAME, f"{layout.name} {seals.shown(key)}", _PROBLEMS[kind], layout.name)

    def _of_row(self, layout: Layout, row: FullRow, kind: str) -> Iterator[Finding]:
        named, problem = f"{layout.name} {_shown(layout, row)}", _PROBLEMS[kind]
        if kind != CHANGED:
            yield Finding(NAME, named, problem, layout.name)
            return
        digest, tags = self._store.execute(
            "select digest, tags from newest where code = ? and key = ?", (layout.code, layout.key_of(row))
        ).fetchone()
        columns = layout.different(row, digest + tags)
        for column in columns:
            yield Finding(NAME, named, f"{column} {problem}", layout.name, column)
        if not columns:
            yield Finding(NAME, named, problem, layout.name)

    def _flush(self) -> None:
        self._store.executemany("insert or replace into newest values (?, ?, ?, ?, ?)", self._waiting)
        self._waiting.clear()


def _shown(layout: Layout, row: FullRow) -> str:
    """Name of a row under which people can find it; nothing that names a person."""
    values = dict(zip((column.name for column in layout.table.columns), row, strict=True))
    if layout.table is tables.credential:
        return f"{values['kind']} of mandate {values['mandate_id']}"
    if layout.table is tables.card_serial:
        return f"of the card ending in {str(values['card_number'])[-4:]}"
    return seals.shown(layout.key_of(row))


def _next(groups: Iterator[tuple[bytes, Iterator[Any]]]) -> tuple[bytes | None, list[Any]]:
    key, rows = next(groups, (None, iter(())))
    return key, list(rows)
