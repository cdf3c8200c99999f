"""Builds status list files from what an issuer delivers and publishes them, beside a running gateway.

Input is CSV with the header row `kind,key,list_type,sign`:

    kind,key,list_type,sign
    card,99010000000000000017,4,1
    obu,B2E2CAD4990100010000000000000017,2,1
    plate,测A00017|0,1,1
    psam,990100000017,1,2

The build runs in a process of its own at the lowest priority (`etcgw lists build`), so that millions of rows never cost
a passage its deadline. It sorts outside memory: rows go to 256 bucket files by the first byte of their digest, then one
bucket at a time is sorted and written. If a key stands in a delivery more than once, its last row counts. Publishing is
two renames: the list file, then `CURRENT`; a crash before the second changes nothing.
"""

from __future__ import annotations

import csv
import fcntl
import os
import re
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from tempfile import SpooledTemporaryFile, TemporaryDirectory
from typing import IO, Final

from gateway.model.plate import Plate, PlateColour
from gateway.payers import list_file
from gateway.payers.list_file import Effect, StatusListError
from gateway.payers.status_lists import (
    CHAINS_MAX,
    DIGEST_LENGTH,
    DROP_BOUND,
    ENTRIES_MAX,
    FILE_SUFFIX,
    INCREMENTS_MAX,
    MANIFEST_NAME,
    VERSION,
    Chain,
    ChainFile,
    DropBound,
    ListKind,
    Manifest,
    digest_of,
    open_chain,
    read_manifest,
)
from gateway.text_files import lines_of, not_text
from gateway.texts.catalogue import Pair, Text, Words
from gateway.texts.places import place_of, wrong

COLUMNS: Final = ("kind", "key", "list_type", "sign")
_COLUMNS: Final = ",".join(COLUMNS)
BUCKETS: Final = 256
BUFFER_BYTES: Final = 64 * 1024
"""Bytes of one bucket in memory before it goes to a file: 16 MiB over all buckets."""
RECORD_LENGTH: Final = DIGEST_LENGTH + 1
"""Bytes of a record in a bucket file: digest and list type, 0 where the entry leaves the list."""
PROGRESS_ROWS: Final = 100_000
"""Rows between two progress reports: a few reports a second."""
LOWEST_PRIORITY: Final = 19
_LOCK_NAME: Final = ".lock"
_WORK_PREFIX: Final = ".build-"


class StatusListBuildError(Exception):
    """Fault of a delivery that cannot become a list. Names file, line and column of the fault and what to do."""

    def __init__(self, file: Path, line: int | None, column: str | None, problem: Text, cure: Text) -> None:
        self.file = file
        self.line = line
        self.column = column
        self.problem = problem
        self.cure = cure
        super().__init__(wrong(place_of(file, line, column), problem, cure))


class DropUnconfirmed(StatusListBuildError):
    """Delivery that takes more entries off the list than the bound lets it, and nobody confirmed just that number."""

    def __init__(self, file: Path, effect: Effect, confirmed: int | None) -> None:
        self.effect = effect
        moved = Words("delivery.moved", removed=effect.removed, before=effect.before, added=effect.added)
        problem = moved if confirmed is None else Words("delivery.confirmed-other", moved=moved, confirmed=confirmed)
        super().__init__(file, None, None, problem, Words("delivery.look-whether-whole"))


@dataclass(frozen=True, slots=True)
class Progress:
    """Progress of a build: `read` counts rows (total not known), `write` buckets of `BUCKETS`; `compare` says only that
    it began."""

    phase: str
    done: int
    total: int | None


@dataclass(frozen=True, slots=True)
class BuildResult:
    """Result of a build: rows read, entries kept, and rows that a later row of the same key replaced."""

    path: Path | None
    """Path of the list file; None: it was a trial."""
    version: str
    rows: int
    entries: int
    replaced: int
    effect: Effect | None
    """Effect on the publication before it; None where that cannot be read."""


def _silent(_: Progress | Effect) -> None:
    """Ignore a report."""


def build(
    source: Path,
    directory: Path,
    *,
    version: str,
    created_at: datetime,
    effective_at: datetime,
    base_version: str | None = None,
    bound: DropBound = DROP_BOUND,
    confirmed: int | None = None,
    dry_run: bool = False,
    show: Callable[[Effect], None] = _silent,
    progress: Callable[[Progress], None] = _silent,
) -> BuildResult:
    """Build one list file from CSV and publish it in `directory`. A full list, or an increment on `base_version`.

    `show` hears what comes and goes before anything is published. Where more goes than `bound` lets it, `confirmed` has
    to be just that number. `dry_run`: nothing is published. Blocking and long: run it in a process of its own. Raises
    StatusListBuildError for the delivery and StatusListError for what already stands in the directory; in both cases
    nothing is published.
    """
    new = _Publication(version, base_version, created_at, effective_at)
    _check_publication(source, new)
    try:
        with _only_builder(directory), _work_directory(directory) as work:
            chains = _chains_in(directory)
            _check_place(directory, chains, new)
            finished = work / "list"
            with _buckets(work) as buckets:
                rows = _read_rows(source, new, buckets, progress)
                entries = list_file.write(finished, _sorted(buckets, progress))
            checksum = list_file.checksum_of(finished)
            progress(Progress("compare", 0, entries))
            effect = _effect_on(directory, chains, finished, entries, increment=new.increment)
            if effect is not None:
                show(effect)
            path = None
            if not dry_run:
                if effect is not None and bound.exceeded(effect) and confirmed != effect.removed:
                    raise DropUnconfirmed(source, effect, confirmed)
                path = directory / f"{version}-{checksum[:8]}{FILE_SUFFIX}"
                finished.rename(path)
                _sync_directory(directory)
                named = ChainFile(
                    name=path.name,
                    version=version,
                    checksum=checksum,
                    size=path.stat().st_size,
                    entries=entries,
                    created_at=created_at.astimezone(UTC),
                    effective_at=effective_at.astimezone(UTC),
                    effect=effect,
                    confirmed=confirmed or 0,
                )
                _publish(directory, chains, named, increment=new.increment)
    except OSError as error:
        file = Path(error.filename or directory)
        raise StatusListBuildError(file, None, None, Pair.same(str(error)), list_file.BUILD_AGAIN) from error
    return BuildResult(path, version, rows, entries, rows - entries, effect)


def roll_back(directory: Path) -> str:
    """Put the publication before the newest one back in force. Returns its version; raises StatusListError."""
    try:
        with _only_builder(directory):
            chains = read_manifest(directory).chains
            if len(chains) < 2:
                problem, cure = Words("list.none-older"), Words("list.publish-full-instead")
                raise StatusListError(directory / MANIFEST_NAME, "chains", problem, cure)
            _replace_manifest(directory, Manifest(chains[1:]))
            _remove_unnamed(directory, Manifest(chains[1:]))
            return chains[1][-1].version
    except OSError as error:
        raise StatusListError(directory, "directory", Pair.same(str(error)), Words("list.fix-rights")) from error


# --- checks before the work -----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Publication:
    """Publication that a build was asked for."""

    version: str
    base_version: str | None
    created_at: datetime
    effective_at: datetime

    @property
    def increment(self) -> bool:
        return self.base_version is not None


def _check_publication(source: Path, new: _Publication) -> None:
    for name, value in (("version", new.version), ("base version", new.base_version)):
        if value is not None and VERSION.fullmatch(value) is None:
            problem = Words("delivery.version-form", name=name, value=repr(value))
            raise StatusListBuildError(source, None, None, problem, Words("delivery.version-as-published"))
    for name, moment in (("created", new.created_at), ("effective", new.effective_at)):
        if moment.tzinfo is None:
            problem = Words("delivery.no-zone", name=name)
            raise StatusListBuildError(source, None, None, problem, Words("delivery.add-offset"))


def _chains_in(directory: Path) -> tuple[Chain, ...]:
    return read_manifest(directory).chains if (directory / MANIFEST_NAME).exists() else ()


def _check_place(directory: Path, chains: tuple[Chain, ...], new: _Publication) -> None:
    manifest = directory / MANIFEST_NAME
    if any(file.version == new.version for chain in chains for file in chain):
        problem = Words("list.published-already", version=new.version)
        raise StatusListError(manifest, "version", problem, Words("list.new-version"))
    if new.base_version is None:
        return
    head = chains[0][-1] if chains else None
    if head is None or new.base_version != head.version:
        newest = Words("list.none") if head is None else head.version
        problem = Words("list.other-base", base=new.base_version, newest=newest)
        raise StatusListError(manifest, "base version", problem, Words("list.publish-missing"))
    if len(chains[0]) > INCREMENTS_MAX:
        problem = Words("list.increments", most=INCREMENTS_MAX, version=chains[0][0].version)
        raise StatusListError(manifest, "increments", problem, Words("list.publish-full"))
    if new.effective_at < head.effective_at:
        moments = {"effective": new.effective_at.isoformat(), "base": head.effective_at.isoformat()}
        problem = Words("list.before-base", **moments)
        raise StatusListError(manifest, "effective", problem, Words("list.with-base-or-later"))


@contextmanager
def _only_builder(directory: Path) -> Iterator[None]:
    """Lock the directory for one builder; the lock goes with the process, however that ends."""
    with (directory / _LOCK_NAME).open("wb") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            problem, cure = Words("list.other-build"), Words("list.wait-for-build")
            raise StatusListError(directory, "lock", problem, cure) from error
        yield


@contextmanager
def _work_directory(directory: Path) -> Iterator[Path]:
    """Make a directory for spool and unfinished file on the same disk; leftovers of a killed build go first."""
    for leftover in directory.glob(f"{_WORK_PREFIX}*"):
        shutil.rmtree(leftover)
    with TemporaryDirectory(prefix=_WORK_PREFIX, dir=directory) as work:
        yield Path(work)


# --- reading --------------------------------------------------------------------------------------------------------

_CARD: Final = re.compile(r"[0-9]{20}", re.ASCII)
_OBU: Final = re.compile(r"[0-9A-Fa-f]{32}", re.ASCII)
_PSAM: Final = re.compile(r"[0-9A-Fa-f]{12}", re.ASCII)
_COLOURS: Final = frozenset(str(int(colour)) for colour in PlateColour if colour is not PlateColour.UNKNOWN)


PLATE_CHARS_MAX: Final = 16
"""Characters of a plate as anything else in the gateway can hold it."""


def _plate_ok(key: str) -> bool:
    text, _, colour = key.rpartition("|")
    fits = text.isprintable() and len(text) <= PLATE_CHARS_MAX and "|" not in text
    return colour in _COLOURS and fits and Plate(text).text_known


_KEY_RULES: Final[dict[ListKind, tuple[Callable[[str], object], Text]]] = {
    ListKind.CARD: (_CARD.fullmatch, Words("delivery.form-card")),
    ListKind.OBU: (_OBU.fullmatch, Words("delivery.form-obu")),
    ListKind.PLATE: (_plate_ok, Words("delivery.form-plate")),
    ListKind.PSAM: (_PSAM.fullmatch, Words("delivery.form-psam")),
}


def key_form(kind: ListKind, key: str) -> Text | None:
    """Required form of a key of this kind, when `key` does not have it; None when it does."""
    fits, form = _KEY_RULES[kind]
    return None if fits(key) else form


_KINDS: Final = {kind.value: kind for kind in ListKind}
_TYPES: Final = {str(number): number for number in range(1, 256)}
_SIGNS: Final = {"1": True, "2": False}
"""Signs: True where the entry enters the list, False where it leaves it."""


def _read_rows(
    source: Path, new: _Publication, buckets: Sequence[IO[bytes]], progress: Callable[[Progress], None]
) -> int:
    """Check every row and put its record into its bucket. Returns the number of rows."""
    rows = 0
    line = 1
    try:
        with source.open(encoding="utf-8-sig", newline="") as stream:
            reader = csv.reader(lines_of(stream), strict=True)
            header = next(reader, None)
            if header is None or tuple(name.strip() for name in header) != COLUMNS:
                problem = Words("delivery.header", header=header)
                raise StatusListBuildError(source, 1, None, problem, Words("delivery.header-form", columns=_COLUMNS))
            for row in reader:
                line = reader.line_num
                record = _record_of(source, line, row, increment=new.increment)
                buckets[record[0]].write(record)
                rows += 1
                if rows > ENTRIES_MAX:
                    problem = Words("delivery.too-many-rows", most=ENTRIES_MAX)
                    raise StatusListBuildError(source, line, None, problem, Words("delivery.split"))
                if rows % PROGRESS_ROWS == 0:
                    progress(Progress("read", rows, None))
    except UnicodeDecodeError as error:
        refusal = not_text(source, error)
        raise StatusListBuildError(source, line, None, refusal.problem, refusal.cure) from error
    except csv.Error as error:
        cure = Words("delivery.correct-quoting")
        raise StatusListBuildError(source, line + 1, None, Pair.same(str(error)), cure) from error
    progress(Progress("read", rows, rows))
    return rows


def _record_of(source: Path, line: int, row: Sequence[str], *, increment: bool) -> bytes:
    if len(row) != len(COLUMNS):
        problem = Words("delivery.columns", found=len(row), belong=len(COLUMNS))
        raise StatusListBuildError(source, line, None, problem, Words("delivery.write-columns", columns=_COLUMNS))
    kind = _KINDS.get(row[0])
    if kind is None:
        cure = Words("delivery.use-one-of", known=", ".join(_KINDS))
        raise StatusListBuildError(source, line, "kind", Words("delivery.unknown", value=repr(row[0])), cure)
    fits, form = _KEY_RULES[kind]
    if not fits(row[1]):
        # The key is not repeated here: it may be somebody's plate or card number.
        problem = Words("delivery.no-key", count=len(row[1]), kind=kind.value)
        raise StatusListBuildError(source, line, "key", problem, Words("delivery.key-is", kind=kind.value, form=form))
    list_type = _TYPES.get(row[2])
    if list_type is None:
        problem = Words("delivery.no-type", value=repr(row[2]))
        raise StatusListBuildError(source, line, "list_type", problem, Words("delivery.use-type"))
    enters = _SIGNS.get(row[3])
    if enters is None:
        problem = Words("delivery.unknown", value=repr(row[3]))
        raise StatusListBuildError(source, line, "sign", problem, Words("delivery.use-sign"))
    if not enters and not increment:
        problem, cure = Words("delivery.enters-alone"), Words("delivery.leave-row-out")
        raise StatusListBuildError(source, line, "sign", problem, cure)
    return digest_of(kind, row[1]) + bytes((list_type if enters else 0,))


@contextmanager
def _buckets(work: Path) -> Iterator[list[IO[bytes]]]:
    """Open the buckets, where records wait by the first byte of their digest, in order of arrival."""
    with ExitStack() as opened:
        yield [opened.enter_context(SpooledTemporaryFile(BUFFER_BYTES, dir=str(work))) for _ in range(BUCKETS)]


def _sorted(buckets: Sequence[IO[bytes]], progress: Callable[[Progress], None]) -> Iterator[tuple[bytes, int | None]]:
    """Sort bucket after bucket, ascending; of several records with one digest the last that arrived counts."""
    for done, bucket in enumerate(buckets, start=1):
        bucket.seek(0)
        data = bucket.read()
        starts = range(0, len(data), RECORD_LENGTH)
        latest = {data[at : at + DIGEST_LENGTH]: data[at + DIGEST_LENGTH] for at in starts}
        for digest in sorted(latest):
            yield digest, latest[digest] or None
        progress(Progress("write", done, BUCKETS))


def _effect_on(
    directory: Path, chains: tuple[Chain, ...], new: Path, entries: int, *, increment: bool
) -> Effect | None:
    """Effect of the new file on the newest publication that can be read; None where none of them can."""
    if not chains:
        return Effect(0, entries, 0, 0)
    for chain in chains[:1] if increment else chains:
        try:
            old = open_chain(directory, chain)
        except StatusListError:
            continue  # A damaged list is replaced by publishing a whole one.
        return list_file.effect_on([listed.path for listed in old], new, increment=increment)
    return None


# --- publishing -----------------------------------------------------------------------------------------------------


def _publish(directory: Path, chains: tuple[Chain, ...], new: ChainFile, *, increment: bool) -> None:
    """Name the new file in `CURRENT`, keep older chains as far as they may be needed, drop files nobody names."""
    chain = (*chains[0], new) if increment else (new,)
    kept = (chain, *chains)[:CHAINS_MAX]
    # The list in force must stay named. The time a list was made is past, so what was effective then is effective.
    in_force = next((old for old in chains if old[-1].effective_at <= new.created_at), None)
    if in_force is not None and all(old[-1].effective_at > new.created_at for old in kept):
        kept = (*kept[: CHAINS_MAX - 1], in_force)
    manifest = Manifest(kept)
    _replace_manifest(directory, manifest)
    _remove_unnamed(directory, manifest)


def _replace_manifest(directory: Path, manifest: Manifest) -> None:
    temporary = directory / f"{MANIFEST_NAME}.new"
    with temporary.open("wb") as out:
        out.write(manifest.encode())
        out.flush()
        os.fsync(out.fileno())
    temporary.rename(directory / MANIFEST_NAME)
    _sync_directory(directory)


def _remove_unnamed(directory: Path, manifest: Manifest) -> None:
    """Delete list files no chain names. Processes that still have one open keep its bytes until they let go."""
    named = {file.name for chain in manifest.chains for file in chain}
    for path in directory.glob(f"*{FILE_SUFFIX}"):
        if path.name not in named:
            path.unlink()


def _sync_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
