"""Status list file: one publication as a SQLite file that is written once and never changed. Owns `sqlite3`.

Its one table holds `digest`, under which an entry is found, and `list_type`, as the issuer numbers it; NULL where the
entry leaves the list (increments only). `WITHOUT ROWID`: rows stand in the index itself, in order of their digests.

Files are opened immutable (no lock, no journal) and are not mapped into memory: one that is cut short or overwritten
while it is in use makes look-ups fail (`StatusListError`), where a mapped one would end the process.
"""

from __future__ import annotations

import hashlib
import os
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from gateway.texts.catalogue import Pair, Text, Words
from gateway.texts.places import wrong

CACHE_KIB: Final = 8 * 1024
"""Memory of ours for a file, KiB: the inner pages of 50 million entries take 6 MiB, so a look-up reads one page more at
most."""
_SCHEMA: Final = """
    PRAGMA page_size = 4096; PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF;
    CREATE TABLE entry (digest BLOB PRIMARY KEY, list_type INTEGER) WITHOUT ROWID;
    """
_FIND: Final = "SELECT list_type FROM entry WHERE digest = ?"
_COPY_AGAIN: Final = Words("list.copy-again")
BUILD_AGAIN: Final = Words("list.build-again")


class StatusListError(Exception):
    """Problem of a list file or `CURRENT` that cannot be used. Names the file, the field, and what to do."""

    def __init__(self, file: Path, field: str, problem: Text, cure: Text) -> None:
        self.file = file
        self.field = field
        self.problem = problem
        self.cure = cure
        super().__init__(wrong(f"{file}: {field}", problem, cure))


@contextmanager
def _converted(path: Path, cure: Text = _COPY_AGAIN) -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as error:
        raise StatusListError(path, "content", Pair.same(str(error)), cure) from error
    except OSError as error:
        raise StatusListError(path, "file", Pair.same(str(error)), Words("file.check-readable")) from error


def _immutable(path: Path) -> str:
    return f"{path.absolute().as_uri()}?mode=ro&immutable=1"


class ListFile:
    """Verified list file that is open. Closed when nothing refers to it any more."""

    __slots__ = ("_database", "path")

    def __init__(self, path: Path, database: sqlite3.Connection) -> None:
        self.path = path
        self._database = database

    @classmethod
    def open(cls, path: Path, checksum: str) -> ListFile:
        """Verify the checksum of the whole file, then open it: worker thread only. Raises StatusListError."""
        with _converted(path):
            if checksum_of(path) != checksum:
                raise StatusListError(path, "checksum", Words("list.other-checksum"), _COPY_AGAIN)
            # Opened by a worker, asked by the loop; by one at a time.
            database = sqlite3.connect(_immutable(path), uri=True, isolation_level=None, check_same_thread=False)
            database.execute("PRAGMA mmap_size = 0")
            database.execute(f"PRAGMA cache_size = -{CACHE_KIB}")
        opened = cls(path, database)
        opened.find(b"")
        return opened

    def find(self, digest: bytes) -> tuple[int | None] | None:
        """Find a digest: (list type,), (None,) if it leaves the list here, None if the file does not name it."""
        try:
            found: tuple[int | None] | None = self._database.execute(_FIND, (digest,)).fetchone()
        except sqlite3.Error as error:
            raise StatusListError(self.path, "content", Pair.same(str(error)), _COPY_AGAIN) from error
        return found


def checksum_of(path: Path) -> str:
    """SHA-256 of a file as hex text. Raises OSError."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def write(path: Path, entries: Iterable[tuple[bytes, int | None]]) -> int:
    """Write (digest, list type) pairs, ascending, to a new file, on disk for good when this returns; their number.

    Raises StatusListError.
    """
    with _converted(path, BUILD_AGAIN), closing(sqlite3.connect(path, isolation_level=None)) as database:
        database.executescript(_SCHEMA)
        database.execute("BEGIN")
        written = database.executemany("INSERT INTO entry VALUES (?, ?)", entries).rowcount
        database.execute("COMMIT")
    with path.open("rb") as stream:
        os.fsync(stream.fileno())
    return max(written, 0)


# --- what a publication does to the one before it -------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Effect:
    """Effect of a publication on the one before it, in entries in force."""

    before: int
    added: int
    removed: int
    changed: int
    """Entries that have another list type."""

    @property
    def after(self) -> int:
        """Entries in force with it."""
        return self.before + self.added - self.removed


_BEFORE: Final = """
    SELECT (SELECT count(*) FROM whole.entry)
        + coalesce(sum((overlay.list_type IS NOT NULL) - (old.digest IS NOT NULL)), 0)
    FROM main.entry AS overlay LEFT JOIN whole.entry AS old ON old.digest = overlay.digest
    """
_MOVED: Final = """
    SELECT total(now IS NOT NULL AND was IS NULL), total(now IS NULL AND was IS NOT NULL),
        total(now <> was), total(now IS NOT NULL AND was IS NOT NULL)
    FROM (
        SELECT new.list_type AS now,
            CASE WHEN overlay.digest IS NULL THEN old.list_type ELSE overlay.list_type END AS was
        FROM new.entry AS new
            LEFT JOIN main.entry AS overlay ON overlay.digest = new.digest
            LEFT JOIN whole.entry AS old ON old.digest = new.digest
    )
    """


def effect_on(old: Sequence[Path], new: Path, *, increment: bool) -> Effect:
    """Compare a new file with the full list and the increments, oldest first, that are in force before it.

    The increments are laid together in a file beside the new one. Raises StatusListError.
    """
    work = new.absolute().with_name("overlay").as_uri()
    with _converted(new, BUILD_AGAIN), closing(sqlite3.connect(work, uri=True, isolation_level=None)) as overlay:
        overlay.executescript(_SCHEMA)
        for path in old[1:]:
            overlay.execute("ATTACH ? AS increment", (_immutable(path),))
            overlay.execute("INSERT OR REPLACE INTO main.entry SELECT digest, list_type FROM increment.entry")
            overlay.execute("DETACH increment")
        overlay.execute("ATTACH ? AS whole", (_immutable(old[0]),))
        overlay.execute("ATTACH ? AS new", (_immutable(new),))
        (before,) = overlay.execute(_BEFORE).fetchone()
        added, removed, changed, kept = (int(count) for count in overlay.execute(_MOVED).fetchone())
    return Effect(before, added, removed if increment else before - kept, changed)
