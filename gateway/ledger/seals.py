"""Seals: states of rows that may change, after each transaction, vouched for by the journal's chain.

Theory of operation. Every transaction puts one row into the journal (kind `rows`, event `sealed`) whose `content` names
each covered row it has inserted, changed or deleted, with a commitment to the row's values. The newest seal of a row
tells what it must be now, and a row without one is nobody's (`gateway.ledger.verify_seals`). The chain vouches for the
seals, so the commitments themselves need no key and outlive its rotation.

A commitment is a digest over the whole row (16 bytes), which decides whether it is the same, and a tag a column (1
byte), which only tells which column is not, and of one change in 256 not even that. Values that name a person enter
both together with the row's own random salt (16 bytes): the digest covers the salt, and the tags are added to a pad
that is made of it. An erasure takes values and salt away and seals the row anew; what the older commitments meant can
then not even be tested against a guess. Rows whose key is personal are named by a digest of their salt instead.

An entry of `content`: code of the table (1 byte), length of the row's key (2), number of columns (1), key, digest,
tags. No columns: the row was deleted.
Columns are only ever added at the end of a covered table: an entry of before then covers the columns there were.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from hashlib import blake2b
from itertools import compress
from operator import itemgetter
from typing import Any, Final, Protocol, TypeAlias
from zlib import crc32

from sqlalchemy import Table, select

from gateway.ledger import tables
from gateway.ledger.chain import encode
from gateway.ledger.hex_text import STORED

KIND: Final = "rows"
EVENT: Final = "sealed"

SALT_BYTES: Final = 16
DIGEST_BYTES: Final = 16
SALT: Final = "salt"

ID_BYTES: Final = 16

CONTENT_BYTES_MAX: Final = 1 << 16
"""Longest content of one row of the journal: a large import is sealed in several."""

CODES: Final[Mapping[str, int]] = {
    "counter": 1,
    "rules": 2,
    "account": 3,
    "obligor": 4,
    "debit": 5,
    "attempt": 6,
    "outbox": 7,
    "subject": 8,
    "passage": 9,
    "purchase": 10,
    "purchase_file": 11,
    "card_serial": 12,
    "refusal": 13,
    "refund": 14,
    "item": 15,
    "mandate": 16,
    "mandate_limit": 17,
    "credential": 18,
    "bank_file": 19,
    "bank_line": 20,
    "clearing_run": 21,
    "clearing_line": 22,
    "clearing_row": 23,
    "clearing_share": 24,
    "clearing_payout": 25,
    "incarnation": 26,
    "pos_attempt": 27,
    "sale": 28,
    "pump_order": 29,
    "mandate_fuel": 30,
}
"""Codes of the covered tables. A code stands in ledgers for ever: none is changed or given out again."""

NOT_COVERED: Final[Mapping[str, str]] = {
    "chain": "is compared with the chains themselves",
    "transfer": "never changes; its chain covers it",
    "decision": "never changes; its chain covers it",
    "journal": "never changes; its chain covers it",
    "clock_reading": "tells how old a decision is, and moves no money",
    "timing": "tells how long things took, written in bulk after the fact",
}
"""Tables that are not covered, with the reason."""

LEFT_OUT: Final[Mapping[str, Mapping[str, str]]] = {
    "account": {
        "balance": "is compared with the transfers",
        "held": "is compared with the open holds",
        "version": "counts writes",
    },
    "outbox": {
        "next_at": "when a message is tried next decides nothing about it",
        "tries": "as above",
        "last_answer": "is for people to read; the attempt keeps what was answered",
    },
}
"""Columns of covered tables that no seal covers, with the reason."""

KEYED_BY_SALT: Final = frozenset({"card_serial", "credential"})
"""Tables whose own key names a person."""

_PLAIN = frozenset((int, str, bytes, type(None)))
_HEADER = struct.Struct(">BHB")

FullRow: TypeAlias = tuple[Any, ...]
"""Row with all its columns, in table order."""


class RandomBytes(Protocol):
    """Source of salts: the system's in the product, a seeded one in the simulation."""

    def randbytes(self, n: int, /) -> bytes:
        """Give `n` random bytes."""


class Layout:
    """Layout of the seals of one covered table."""

    __slots__ = ("_covered", "_key", "_pack", "_salt", "code", "columns", "name", "names", "rows", "table")

    def __init__(self, table: Table, code: int) -> None:
        self.table = table
        self.rows = select(table)
        """All rows, whole."""
        self.name = table.name
        self.code = code
        left_out = LEFT_OUT.get(table.name, {})
        every = [column.name for column in table.columns]
        self.columns = tuple(name for name in every if name not in left_out)
        """Covered columns, in table order."""
        self.names = frozenset(self.columns)
        self._covered = None if not left_out else [name not in left_out for name in every]
        self._salt = every.index(SALT) if SALT in every else None
        self._pack = {len(self.columns): struct.Struct(f"<{len(self.columns)}I").pack}
        self._key = self._key_by_salt if table.name in KEYED_BY_SALT else _key_maker(every, table)

    def key_of(self, row: FullRow) -> bytes:
        """Key that names a row in its seals."""
        return self._key(row)

    def seal(self, row: FullRow, count: int | None = None) -> bytes:
        """Seal a row as the database has it, or its first `count` covered columns: digest and tags."""
        lines = self._lines(row, count)
        checks = list(map(crc32, lines.split(b"\n")))
        number = len(checks)
        packed = (self._pack.get(number) or self._packer(number))(*checks)
        tags = packed[::4]
        salt = None if self._salt is None else row[self._salt]
        if salt is not None:
            pad = blake2b(salt, digest_size=number, person=b"etc seal tags").digest()
            tags = (int.from_bytes(tags) ^ int.from_bytes(pad)).to_bytes(number)
        return blake2b(lines, digest_size=DIGEST_BYTES).digest() + tags

    def digest(self, row: FullRow, count: int | None = None) -> bytes:
        """Digest that begins a seal and alone decides whether a row is the same."""
        return blake2b(self._lines(row, count), digest_size=DIGEST_BYTES).digest()

    def _lines(self, row: FullRow, count: int | None) -> bytes:
        values: Iterable[Any] = row if self._covered is None else compress(row, self._covered)
        return encode(values if count is None else list(values)[:count])

    def different(self, row: FullRow, sealed: bytes) -> list[str]:
        """Names of the columns by which a row differs from its seal; empty where that cannot be told."""
        then = sealed[DIGEST_BYTES:]
        now = self.seal(row, len(then))[DIGEST_BYTES:]
        found = [name for name, new, old in zip(self.columns, now, then, strict=False) if new != old]
        # Every tag hangs on the salt: another salt makes nearly all of them another.
        return [SALT] if SALT in found else found

    def _key_by_salt(self, row: FullRow) -> bytes:
        salt = b"" if self._salt is None else row[self._salt]
        return blake2b(salt or b"", digest_size=SALT_BYTES, person=b"etc seal row").digest()

    def _packer(self, count: int) -> Callable[..., bytes]:
        packer = self._pack[count] = struct.Struct(f"<{count}I").pack
        return packer


def _key_maker(columns: Sequence[str], table: Table) -> Callable[[FullRow], bytes]:
    places = [columns.index(column.name) for column in table.primary_key]
    if len(places) > 1:
        pick = itemgetter(*places)
        return lambda row: encode(pick(row))
    (place,) = places
    return lambda row: _packed(row[place])


def _packed(key: Any) -> bytes:  # noqa: ANN401 - a number or a text
    """Pack a key in few bytes: most are 128 random bits in hex digits."""
    raw = STORED[key]
    return raw if isinstance(raw, bytes) and len(raw) == ID_BYTES else encode((key,))


def shown(key: bytes) -> str:
    """Key of a row as people know it."""
    if not (key.isascii() and key[:1] in b"'\"0123456789"):
        return key.hex()
    return " ".join(part.strip("'\"") for part in key.decode("ascii", "replace").split("\n"))


def as_stored(values: Iterable[Any]) -> FullRow:
    """Convert a row that a change has put together to the values that the database gives back."""
    row = tuple(values)
    return row if _PLAIN.issuperset(map(type, row)) else tuple(map(_plain, row))


def _plain(value: Any) -> Any:  # noqa: ANN401 - whatever a caller has put into a row
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, int):
        return int(value)
    if isinstance(value, bytearray | memoryview):
        return bytes(value)
    return value


LAYOUTS: Final[Mapping[Table, Layout]] = {
    table: Layout(table, CODES[name]) for name, table in tables.metadata.tables.items() if name in CODES
}
BY_CODE: Final[Mapping[int, Layout]] = {layout.code: layout for layout in LAYOUTS.values()}


class Seals:
    """Seals of the covered rows one transaction has touched, as they stand at its end."""

    def __init__(self) -> None:
        self._rows: dict[Layout, dict[bytes, FullRow | None]] = {}

    def put(self, layout: Layout, rows: Iterable[FullRow]) -> None:
        """Note that these rows were inserted, or changed to this."""
        kept = self._rows.get(layout)
        if kept is None:
            kept = self._rows[layout] = {}
        key_of = layout.key_of
        for row in rows:
            kept[key_of(row)] = row

    def gone(self, layout: Layout, rows: Iterable[FullRow]) -> None:
        """Note that these rows were deleted."""
        self._rows.setdefault(layout, {}).update((layout.key_of(row), None) for row in rows)

    def contents(self) -> list[bytes]:
        """Contents for the journal, in pieces of bounded size; nothing where no covered row was touched."""
        pieces: list[bytes] = []
        piece: list[bytes] = []
        size = 0
        for entry in self._entries():
            piece.append(entry)
            size += len(entry)
            if size > CONTENT_BYTES_MAX:
                pieces.append(b"".join(piece))
                piece, size = [], 0
        return [*pieces, b"".join(piece)] if piece else pieces

    def _entries(self) -> Iterator[bytes]:
        header = _HEADER.pack
        for layout, rows in self._rows.items():
            code, count, seal = layout.code, len(layout.columns), layout.seal
            for key, row in rows.items():
                if row is None:
                    yield header(code, len(key), 0) + key
                else:
                    yield header(code, len(key), count) + key + seal(row)


class BadContent(ValueError):
    """Content that no transaction seals."""


def entries(content: bytes) -> Iterator[tuple[int, bytes, int, bytes | None]]:
    """Read a journal row's seals: (code, key, columns, seal). No seal: the row was deleted. Raises `BadContent`."""
    at, end, start, unpack = 0, len(content), _HEADER.size, _HEADER.unpack_from
    while at < end:
        if end - at < start:
            raise BadContent(f"{end - at} bytes are left over")
        code, key_size, count = unpack(content, at)
        begin = at + start
        middle = begin + key_size
        at = middle if not count else middle + DIGEST_BYTES + count
        if at > end or not key_size or code not in BY_CODE or count > len(BY_CODE[code].columns):
            raise BadContent(f"an entry of table {code} with {count} columns at byte {begin - start}")
        yield code, content[begin:middle], count, content[middle:at] or None
