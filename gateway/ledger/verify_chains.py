"""Verification of the chains: each row holds under the key that was in force when it was written.

The journal is walked first: its own rows say which key is in force from where on, in each chain (`key_notes`).

A link is made over the one before it, which is stored: so the parts of a chain can be walked side by side, each from
the link it begins at. The first part with a problem has the first problem of the chain. Parts of other chains are
walked by the notes that the journal seems to have; where its walk finds that those are not to be believed they are
walked again.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Final, TypeAlias

from sqlalchemy import Connection, Select, Table, bindparam, func, select

from gateway.ledger import chain, key_notes, tables
from gateway.ledger.chain import ChainKey, ChainKeys
from gateway.ledger.findings import Check, Finding, Head
from gateway.ledger.key_notes import KeyNote, Stand
from gateway.ledger.statements import pages
from gateway.ledger.workers import Readers, Task

Row: TypeAlias = tuple[Any, ...]

NAMES: Final[Mapping[str, str]] = {
    "journal": "the chain of the journal holds",
    "transfer": "the chain of transfers holds",
    "decision": "the chain of decisions holds",
}

ROWS_EACH: Final = 50_000
"""Rows of a part of a chain, where parts are walked side by side: a fraction of a second."""


@dataclass(slots=True)
class KeyLine:
    """Keys of the chains by the notes of the journal so far."""

    keys: ChainKeys
    notes: list[KeyNote] = field(default_factory=list)
    _known: dict[bytes, ChainKey | None] = field(default_factory=dict, compare=False)

    @property
    def in_force(self) -> bytes | None:
        """Id of the key that the next row is under; None before the first note."""
        return self.notes[-1].key_id if self.notes else None

    def take(self, ref: str, event: str, detail: str | None) -> str | None:
        """Take a row of the journal that speaks of a key; returns its problem, None when there is none."""
        note = key_notes.parse(ref, detail)
        if note is None or event not in key_notes.EVENTS:
            return "speaks of a chain key as the ledger never does"
        if any(note.key_id == earlier.key_id for earlier in self.notes):
            return f"puts chain key {note.key_id.hex()} in force again, which was given up before"
        if note.before != self.in_force or (event == key_notes.BEGUN) != (not self.notes):
            return "does not follow the key that was in force"
        self.notes.append(note)
        return None

    def spans(self, name: str) -> list[tuple[Stand, bytes]]:
        """Spans of keys in a chain beside the journal: after which row each is in force, in their order."""
        return [(note.others[name], note.key_id) for note in self.notes]

    def key(self, key_id: bytes) -> ChainKey | None:
        """Key with this id; None where the site names none. Asked for every row."""
        if key_id not in self._known:
            self._known[key_id] = self.keys.of(key_id)
        return self._known[key_id]

    def named_by(self, stored: object) -> bytes | None:
        """Key that a link names, for the case that the journal knows no key (it was cut, or is gone)."""
        key = self.keys.of(stored) if isinstance(stored, bytes) else None
        return None if key is None else key.id


class _Columns:
    """Positions of the columns of a chained table in its rows."""

    def __init__(self, table: Table) -> None:
        names = [column.name for column in table.columns]
        self.number = names.index(chain.CHAINED[table.name])
        self.chain = names.index("chain")

    def linked(self, row: Row) -> Row:
        """Values of a row that its link covers."""
        return row[: self.chain] + row[self.chain + 1 :]


@dataclass(frozen=True, slots=True)
class Part:
    """Part of a chain: its rows behind number `after` up to `until`; from its first, to its last where None."""

    table: str
    after: int | None = None
    link: bytes = chain.GENESIS
    """Link of row `after`."""
    until: int | None = None


@dataclass(slots=True)
class Walk:
    """Walk through a part of a chain, and what it has found so far."""

    name: str
    columns: _Columns
    line: KeyLine
    wanted: frozenset[bytes]
    rows: int
    link: bytes
    problem: str | None = None
    seen: set[bytes] = field(default_factory=set)
    """Wanted links that were met."""

    def step(self, row: Row, key_id: bytes | None) -> None:
        """Recompute one link; where it does not hold the walk gets a problem instead."""
        columns = self.columns
        number, stored = row[columns.number], row[columns.chain]
        if number != self.rows + 1:
            self.problem = f"is missing; the next there is has {number}"
            return
        if key_id is None:
            self.problem = "was never put under a chain key"
            return
        key = self.line.key(key_id)
        if key is None:
            self.problem = f"is under chain key {key_id.hex()}, whose file is not named by the site"
            return
        if chain.link(key, self.name, self.link, columns.linked(row)) != stored:
            self.problem = _unlike(stored, key_id, self.line.keys)
            return
        self.rows, self.link = number, stored
        if stored in self.wanted:
            self.seen.add(stored)


def parts_of(connection: Connection, table: Table, rows_each: int) -> list[Part]:
    """Parts of a chain of so many rows each; all but the first begin at a link that is there."""
    number = table.c[chain.CHAINED[table.name]]
    newest = connection.execute(select(func.max(number))).scalar()
    begins: list[tuple[int | None, bytes]] = [(None, chain.GENESIS)]
    for after in range(rows_each, newest or 0, rows_each):
        link = connection.execute(select(table.c.chain).where(number == after)).scalar()
        if isinstance(link, bytes):
            begins.append((after, link))
    ends = [*(after for after, _ in begins[1:]), None]
    return [Part(table.name, *begin, until) for begin, until in zip(begins, ends, strict=True)]


def walk_journal(connection: Connection, part: Part, line: KeyLine, wanted: frozenset[bytes]) -> Walk:
    """Walk a part of the journal. `line`: keys by the notes before it; takes those in it."""
    walk = _begin(part, line, wanted)
    columns = tables.journal.columns.keys()
    ref, kind, event, detail = (columns.index(name) for name in ("ref", "kind", "event", "detail"))
    for page in _rows(connection, part):
        for row in page:
            # A note is the first row under the key it names.
            if row[kind] == key_notes.KIND:
                walk.problem = line.take(row[ref], row[event], row[detail])
            if walk.problem is None:
                walk.step(row, line.in_force)
            if walk.problem is not None:
                return walk
    return walk


def walk_other(connection: Connection, part: Part, line: KeyLine, wanted: frozenset[bytes]) -> Walk:
    """Walk a part of another chain. `line`: keys by the notes of the whole journal."""
    walk = _begin(part, line, wanted)
    spans = line.spans(part.table)
    key_id: bytes | None = None
    while spans and spans[0][0].number < walk.rows:  # the part before it has compared the stands
        _, key_id = spans.pop(0)
    for page in _rows(connection, part):
        for row in page:
            while spans and spans[0][0].number <= walk.rows:
                stand, key_id = spans.pop(0)
                walk.problem = walk.problem or _not_as_noted(walk, stand)
            if walk.problem is None:
                walk.step(row, key_id if line.notes else line.named_by(row[walk.columns.chain]))
            if walk.problem is not None:
                return walk
    if part.until is None:
        for stand, _ in spans:
            walk.problem = walk.problem or _not_as_noted(walk, stand)
    return walk


def _begin(part: Part, line: KeyLine, wanted: frozenset[bytes]) -> Walk:
    """Begin the walk through a part."""
    table = tables.metadata.tables[part.table]
    return Walk(part.table, _Columns(table), line, wanted, part.after or 0, part.link)


def _rows(connection: Connection, part: Part) -> Iterator[list[Row]]:
    """Rows of a part in their order, in pages."""
    bounds = {"after": part.after, "until": part.until}
    statement = _in_order(part.table, after=part.after is not None, until=part.until is not None)
    return pages(connection, statement, bounds)


@cache
def _in_order(name: str, *, after: bool, until: bool) -> Select[Any]:
    table = tables.metadata.tables[name]
    number = table.c[chain.CHAINED[name]]
    rows = select(table).order_by(number)
    if after:
        rows = rows.where(number > bindparam("after"))
    if until:
        rows = rows.where(number <= bindparam("until"))
    return rows


class ChainWalks:
    """Chains of one state of the ledger. `noted` are links noted elsewhere; those met on the way are in `seen`."""

    def __init__(self, readers: Readers, keys: ChainKeys, noted: Sequence[bytes]) -> None:
        self._readers = readers
        self._wanted = frozenset(noted)
        self.seen = {chain.GENESIS}
        self._line = KeyLine(keys)
        """Keys by the notes of the journal; until it has been walked by what its notes say."""
        self._tasks: dict[str, list[Task]] = {}
        notes = _notes(readers.connection) if readers.number > 1 else []
        self._tasks[tables.journal.name] = [
            readers.submit(walk_journal, part, _by_notes(keys, notes, part.after or 0), self._wanted)
            for part in self._parts(tables.journal)
        ]
        if readers.number > 1:
            self._line = _by_notes(keys, notes)
            for name in key_notes.OTHERS:
                self._tasks[name] = self._walks(tables.metadata.tables[name])

    def journal(self) -> Check:
        """Check the journal."""
        table = tables.journal
        walk = self._joined(table)
        if walk.line != self._line:
            self._line = walk.line
            self._tasks.clear()
        if walk.problem is None and walk.rows and self._line.in_force != self._line.keys.current.id:
            return self._check(table, walk, last=self._not_current())
        return self._check(table, walk)

    def other(self, table: Table) -> Check:
        """Check another chain, after the journal."""
        if table.name not in self._tasks:
            self._tasks[table.name] = self._walks(table)
        return self._check(table, self._joined(table))

    def _walks(self, table: Table) -> list[Task]:
        return [self._readers.submit(walk_other, part, self._line, self._wanted) for part in self._parts(table)]

    def _parts(self, table: Table) -> list[Part]:
        return parts_of(self._readers.connection, table, ROWS_EACH if self._readers.number > 1 else sys.maxsize)

    def _joined(self, table: Table) -> Walk:
        """Walk of the whole chain: that of its last part, or of the first with a problem."""
        walks = map(self._readers.answer, self._tasks[table.name])
        walk: Walk = next(walks)
        self.seen |= walk.seen
        while walk.problem is None and (following := next(walks, None)) is not None:
            walk = following
            self.seen |= walk.seen
        return walk

    def _not_current(self) -> str:
        """Problem of a journal that holds, and ends under another key than the site's."""
        in_force, current = (self._line.in_force or b"").hex(), self._line.keys.current.id.hex()
        return (
            f"is under chain key {in_force}, which is retired, and no row says that {current} followed:"
            " the gateway notes it when it starts; has it started since, an old key was used"
        )

    def _check(self, table: Table, walk: Walk, last: str | None = None) -> Check:
        name = NAMES[table.name]
        finding: Finding | None
        if walk.problem is not None:
            finding = Finding(name, f"{table.name} {walk.rows + 1}", walk.problem, table.name)
        elif last is not None:
            finding = Finding(name, f"{table.name} {walk.rows}", last, table.name)
        else:
            finding = _wrong_head(self._readers.connection, name, table, walk)
        head = Head(table.name, walk.rows, walk.link.hex())
        return Check(name, walk.rows, () if finding is None else (finding,), head=head)


def _notes(connection: Connection) -> list[Row]:
    """Rows of the journal that speak of keys: number, ref, event, detail."""
    j = tables.journal.c
    query = select(j.number, j.ref, j.event, j.detail).where(j.kind == key_notes.KIND).order_by(j.number)
    return [tuple(row) for row in connection.execute(query)]


def _by_notes(keys: ChainKeys, notes: Sequence[Row], until: int = sys.maxsize) -> KeyLine:
    """Keys by the notes up to a number, as far as they make sense."""
    line = KeyLine(keys)
    for number, *note in notes:
        if number > until or line.take(*note) is not None:
            break
    return line


def _not_as_noted(walk: Walk, stand: Stand) -> str | None:
    if (stand.number, stand.link) == (walk.rows, walk.link):
        return None
    return f"the chain has not the head that the journal has noted after row {stand.number}"


def _unlike(stored: object, key_id: bytes, keys: ChainKeys) -> str:
    """Problem of a link; a file tampered with may hold anything where a link stood."""
    changed = "is not what it was chained as: it was changed, or put in"
    other = keys.of(stored) if isinstance(stored, bytes) else None
    if other is None or other.id == key_id:
        return changed
    return f"{changed}; it is under chain key {other.id.hex()}, and {key_id.hex()} was in force"


def _wrong_head(connection: Connection, name: str, table: Table, walk: Walk) -> Finding | None:
    """Compare a chain's end with its head, written with every row: rows cut off leave a chain that holds."""
    head = connection.execute(select(tables.chain).where(tables.chain.c.name == table.name)).one_or_none()
    number, stored = (0, chain.GENESIS) if head is None else (int(head.number), bytes(head.digest))
    if (number, stored) == (walk.rows, walk.link):
        return None
    short = number != walk.rows
    what = f"the head says {number} rows, there are {walk.rows}" if short else "the head has another digest"
    row = min(number, walk.rows) + 1 if short else walk.rows
    return Finding(name, f"{table.name} {row}", what, table.name)
