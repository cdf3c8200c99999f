"""Verification of the chains: each row holds under the key that was in force when it was written.

The journal is walked first: its own rows say which key is in force from where on, in each chain (`key_notes`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias

from sqlalchemy import Connection, Table, select

from gateway.ledger import chain, key_notes, seals, tables
from gateway.ledger.chain import ChainKeys
from gateway.ledger.findings import Check, Finding, Head
from gateway.ledger.key_notes import KeyNote, Stand
from gateway.ledger.statements import pages

Row: TypeAlias = tuple[Any, ...]

NAMES: Final[Mapping[str, str]] = {
    "journal": "the chain of the journal holds",
    "transfer": "the chain of transfers holds",
    "decision": "the chain of decisions holds",
}


@dataclass(slots=True)
class KeyLine:
    """Keys of the chains by the notes of the journal so far."""

    keys: ChainKeys
    notes: list[KeyNote] = field(default_factory=list)

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


class _Columns:
    """Positions of the columns of a chained table in its rows."""

    def __init__(self, table: Table) -> None:
        names = [column.name for column in table.columns]
        self.number = names.index(chain.CHAINED[table.name])
        self.chain = names.index("chain")

    def linked(self, row: Row) -> Row:
        """Values of a row that its link covers."""
        return row[: self.chain] + row[self.chain + 1 :]


@dataclass(slots=True)
class _Walk:
    """State of the walk through one chain."""

    name: str
    columns: _Columns
    rows: int = 0
    link: bytes = chain.GENESIS
    problem: str | None = None


class ChainWalks:
    """Chains of one snapshot. `noted` are links noted elsewhere; those met on the way are in `seen`."""

    def __init__(self, connection: Connection, keys: ChainKeys, noted: Sequence[bytes]) -> None:
        self._connection = connection
        self._line = KeyLine(keys)
        self._wanted = frozenset(noted)
        self.seen = {chain.GENESIS}

    def journal(self, sealed: Callable[[int, str, bytes | None], None]) -> Check:
        """Walk the journal; `sealed` gets number, ref and content of every row that seals, also behind a broken one."""
        table = tables.journal
        walk = _Walk(table.name, _Columns(table))
        ref, kind, event, detail, content = (
            table.columns.keys().index(name) for name in ("ref", "kind", "event", "detail", "content")
        )
        for row in self._rows(table):
            if walk.problem is None:
                # A note is the first row under the key it names.
                if row[kind] == key_notes.KIND:
                    walk.problem = self._line.take(row[ref], row[event], row[detail])
                if walk.problem is None:
                    self._step(walk, row, self._line.in_force)
            if row[kind] == seals.KIND and row[event] == seals.EVENT:
                sealed(row[walk.columns.number], row[ref], row[content])
        if walk.problem is None and walk.rows and self._line.in_force != self._line.keys.current.id:
            return self._check(table, walk, last=self._not_current())
        return self._check(table, walk)

    def other(self, table: Table) -> Check:
        """Walk another chain, after the journal."""
        walk = _Walk(table.name, _Columns(table))
        spans = self._line.spans(table.name)
        key_id: bytes | None = None
        for row in self._rows(table):
            while spans and spans[0][0].number <= walk.rows:
                stand, key_id = spans.pop(0)
                walk.problem = walk.problem or _not_as_noted(walk, stand)
            if walk.problem is None:
                self._step(walk, row, key_id if self._line.notes else self._named_by(row[walk.columns.chain]))
            if walk.problem is not None:
                break
        for stand, _ in spans:
            walk.problem = walk.problem or _not_as_noted(walk, stand)
        return self._check(table, walk)

    def _step(self, walk: _Walk, row: Row, key_id: bytes | None) -> None:
        """Recompute one link; where it does not hold the walk gets a problem instead."""
        columns = walk.columns
        number, stored = row[columns.number], row[columns.chain]
        if number != walk.rows + 1:
            walk.problem = f"is missing; the next there is has {number}"
            return
        if key_id is None:
            walk.problem = "was never put under a chain key"
            return
        key = self._line.keys.of(key_id)
        if key is None:
            walk.problem = f"is under chain key {key_id.hex()}, whose file is not named by the site"
            return
        if chain.link(key, walk.name, walk.link, columns.linked(row)) != stored:
            walk.problem = _unlike(stored, key_id, self._line.keys)
            return
        walk.rows, walk.link = number, stored
        if stored in self._wanted:
            self.seen.add(stored)

    def _named_by(self, stored: object) -> bytes | None:
        """Key that a link names, for the case that the journal knows no key (it was cut, or is gone)."""
        key = self._line.keys.of(stored) if isinstance(stored, bytes) else None
        return None if key is None else key.id

    def _rows(self, table: Table) -> Iterator[Row]:
        for page in pages(self._connection, select(table).order_by(table.c[chain.CHAINED[table.name]])):
            yield from page

    def _not_current(self) -> str:
        """Problem of a journal that holds, and ends under another key than the site's."""
        in_force, current = (self._line.in_force or b"").hex(), self._line.keys.current.id.hex()
        return (
            f"is under chain key {in_force}, which is retired, and no row says that {current} followed:"
            " the gateway notes it when it starts; has it started since, an old key was used"
        )

    def _check(self, table: Table, walk: _Walk, last: str | None = None) -> Check:
        name = NAMES[table.name]
        finding: Finding | None
        if walk.problem is not None:
            finding = Finding(name, f"{table.name} {walk.rows + 1}", walk.problem, table.name)
        elif last is not None:
            finding = Finding(name, f"{table.name} {walk.rows}", last, table.name)
        else:
            finding = _wrong_head(self._connection, name, table, walk)
        head = Head(table.name, walk.rows, walk.link.hex())
        return Check(name, walk.rows, () if finding is None else (finding,), head=head)


def _not_as_noted(walk: _Walk, stand: Stand) -> str | None:
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


def _wrong_head(connection: Connection, name: str, table: Table, walk: _Walk) -> Finding | None:
    """Compare a chain's end with its head, written with every row: rows cut off leave a chain that holds."""
    head = connection.execute(select(tables.chain).where(tables.chain.c.name == table.name)).one_or_none()
    number, stored = (0, chain.GENESIS) if head is None else (int(head.number), bytes(head.digest))
    if (number, stored) == (walk.rows, walk.link):
        return None
    short = number != walk.rows
    what = f"the head says {number} rows, there are {walk.rows}" if short else "the head has another digest"
    row = min(number, walk.rows) + 1 if short else walk.rows
    return Finding(name, f"{table.name} {row}", what, table.name)
