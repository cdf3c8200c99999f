"""Builds status list files from what an issuer delivers and publishes them, beside a running gateway.

Input is CSV with the header row `kind,key,list_type,sign`:

    kind,key,list_type,sign
    card,99010000000000000017,4,1
    obu,B2E2CAD4990100010000000000000017,2,1
    plate,测A00017|0,1,1
    psam,990100000017,1,2

The build runs in a process of its own at the lowest priority (`python -m gateway.payers.status_list_build`), so that
five million rows never cost a passage its deadline. It sorts outside memory: rows go to 256 bucket files by the first
byte of their digest, then one bucket at a time is sorted and written. If a key stands in a delivery more than once, its
last row counts. Publishing is two renames: the list file, then `CURRENT`; a crash before the second changes nothing.
"""

from __future__ import annotations

import argparse
import csv
import fcntl
import hashlib
import json
import os
import re
import shutil
import struct
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import datetime
from heapq import merge
from itertools import accumulate, groupby
from operator import itemgetter
from pathlib import Path
from typing import BinaryIO, Final

from gateway.model.plate import Plate, PlateColour
from gateway.payers.status_lists import (
    CHAINS_MAX,
    DIGEST_LENGTH,
    DROP_BOUND,
    ENTRIES_MAX,
    FILE_SUFFIX,
    HEADER_LENGTH,
    INCREMENTS_MAX,
    MANIFEST_NAME,
    RECORD_LENGTH,
    VERSION,
    ChainFile,
    DropBound,
    Effect,
    FileKind,
    Header,
    ListFile,
    ListKind,
    Manifest,
    Sign,
    StatusListError,
    digest_of,
    fanout_bits_for,
    open_chain,
    read_header,
    read_manifest,
)

COLUMNS: Final = ("kind", "key", "list_type", "sign")
BUCKETS: Final = 256
BUFFER_BYTES_MAX: Final = 64 * 1024
"""Rows of one bucket kept in memory before they are spooled: 16 MiB over all buckets."""
PROGRESS_ROWS: Final = 100_000
"""Rows between two progress reports: a few reports a second."""
LOWEST_PRIORITY: Final = 19
_LOCK_NAME: Final = ".lock"
_WORK_PREFIX: Final = ".build-"


class StatusListBuildError(Exception):
    """A delivery cannot become a list. Names file, line and column of the fault and what to do."""

    def __init__(self, file: Path, line: int | None, column: str | None, problem: str, cure: str) -> None:
        self.file = file
        self.line = line
        self.column = column
        self.problem = problem
        self.cure = cure
        place = "".join([f", line {line}" if line else "", f", column {column}" if column else ""])
        super().__init__(f"{file}{place}: {problem}; {cure}")


class DropUnconfirmed(StatusListBuildError):
    """A delivery takes more entries off the list than the bound lets it, and nobody confirmed just that number."""

    def __init__(self, file: Path, effect: Effect, confirmed: int | None) -> None:
        self.effect = effect
        told = "" if confirmed is None else f", {confirmed} were confirmed"
        problem = f"{effect.removed} of {effect.before} entries leave, {effect.added} come{told}"
        super().__init__(file, None, None, problem, "look whether the delivery is whole")


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a build is: `read` counts rows (total not known), `write` buckets of `BUCKETS`, `compare` entries."""

    phase: str
    done: int
    total: int | None


@dataclass(frozen=True, slots=True)
class BuildResult:
    """A list that was built: rows read, entries kept, and rows that a later row of the same key replaced."""

    path: Path | None
    """None: it was a trial."""
    version: str
    rows: int
    entries: int
    replaced: int
    effect: Effect | None
    """On the publication before it; None where that cannot be read."""


def _silent(_: Progress | Effect) -> None:
    """What nobody listens to."""


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
            with _Spool(work) as spool:
                rows = _read_rows(source, new.kind, spool, progress)
                finished, header = _write_list(work, spool, rows, new, progress)
            effect = _effect_on(directory, chains, ListFile.open(finished), progress)
            if effect is not None:
                show(effect)
            path = None
            if not dry_run:
                if effect is not None and bound.exceeded(effect) and confirmed != effect.removed:
                    raise DropUnconfirmed(source, effect, confirmed)
                path = directory / f"{version}-{header.identity[:8]}{FILE_SUFFIX}"
                finished.rename(path)
                _sync_directory(directory)
                named = ChainFile(path.name, version, header.identity, effective_at, effect, confirmed or 0)
                _publish(directory, chains, named, header)
    except OSError as error:
        cure = "free space or fix the rights of the list directory, then build again"
        raise StatusListBuildError(Path(error.filename or directory), None, None, str(error), cure) from error
    return BuildResult(path, version, rows, header.count, rows - header.count, effect)


def roll_back(directory: Path) -> str:
    """Put the publication before the newest one back in force. Returns its version; raises StatusListError."""
    try:
        with _only_builder(directory):
            chains = read_manifest(directory).chains
            if len(chains) < 2:
                cure = "publish a full list instead"
                raise StatusListError(directory / MANIFEST_NAME, "chains", "no older publication is kept", cure)
            _replace_manifest(directory, Manifest(chains[1:]))
            _remove_unnamed(directory, Manifest(chains[1:]))
            return chains[1][-1].version
    except OSError as error:
        raise StatusListError(directory, "directory", str(error), "fix the rights of the list directory") from error


# --- checks before the work -----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Publication:
    """What a build was asked to publish."""

    version: str
    base_version: str | None
    created_at: datetime
    effective_at: datetime

    @property
    def kind(self) -> FileKind:
        return FileKind.FULL if self.base_version is None else FileKind.INCREMENT


def _check_publication(source: Path, new: _Publication) -> None:
    for name, value in (("version", new.version), ("base version", new.base_version)):
        if value is not None and VERSION.fullmatch(value) is None:
            problem = f"{name} {value!r} is not 1 to 32 letters, digits, dots, dashes or underscores"
            raise StatusListBuildError(source, None, None, problem, "give the version as the issuer publishes it")
    for name, moment in (("created", new.created_at), ("effective", new.effective_at)):
        if moment.tzinfo is None:
            raise StatusListBuildError(source, None, None, f"{name} time has no zone", "add an offset such as +08:00")


def _chains_in(directory: Path) -> tuple[tuple[ChainFile, ...], ...]:
    return read_manifest(directory).chains if (directory / MANIFEST_NAME).exists() else ()


def _check_place(directory: Path, chains: tuple[tuple[ChainFile, ...], ...], new: _Publication) -> None:
    manifest = directory / MANIFEST_NAME
    if any(file.version == new.version for chain in chains for file in chain):
        problem = f"{new.version} is published already"
        raise StatusListError(manifest, "version", problem, "give the new list a new version")
    if new.base_version is None:
        return
    head = chains[0][-1] if chains else None
    if head is None or new.base_version != head.version:
        problem = f"increment is based on {new.base_version}, newest here is {head.version if head else 'none'}"
        raise StatusListError(manifest, "base version", problem, "publish the missing increments first, or a full list")
    if len(chains[0]) > INCREMENTS_MAX:
        problem = f"{INCREMENTS_MAX} increments stand on {chains[0][0].version}"
        raise StatusListError(manifest, "increments", problem, "publish a full list")
    if new.effective_at < head.effective_at:
        problem = f"{new.effective_at.isoformat()} is before its base {head.effective_at.isoformat()}"
        raise StatusListError(manifest, "effective", problem, "an increment takes effect with its base or later")


@contextmanager
def _only_builder(directory: Path) -> Iterator[None]:
    """Hold the directory for one builder; the lock goes with the process, however that ends."""
    with (directory / _LOCK_NAME).open("wb") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise StatusListError(directory, "lock", "another build is running", "wait until it has ended") from error
        yield


@contextmanager
def _work_directory(directory: Path) -> Iterator[Path]:
    """A directory for spool and unfinished file on the same disk; leftovers of a killed build go first."""
    for leftover in directory.glob(f"{_WORK_PREFIX}*"):
        shutil.rmtree(leftover)
    with tempfile.TemporaryDirectory(prefix=_WORK_PREFIX, dir=directory) as work:
        yield Path(work)


# --- reading --------------------------------------------------------------------------------------------------------

_CARD: Final = re.compile(r"[0-9]{20}", re.ASCII)
_OBU: Final = re.compile(r"[0-9A-Fa-f]{32}", re.ASCII)
_PSAM: Final = re.compile(r"[0-9A-Fa-f]{12}", re.ASCII)
_COLOURS: Final = frozenset(str(int(colour)) for colour in PlateColour if colour is not PlateColour.UNKNOWN)


PLATE_CHARS_MAX: Final = 16
"""Of a plate as anything else in the gateway can hold it."""


def _plate_ok(key: str) -> bool:
    text, _, colour = key.rpartition("|")
    fits = text.isprintable() and len(text) <= PLATE_CHARS_MAX and "|" not in text
    return colour in _COLOURS and fits and Plate(text).text_known


_KEY_RULES: Final[dict[ListKind, tuple[Callable[[str], object], str]]] = {
    ListKind.CARD: (_CARD.fullmatch, "20 digits"),
    ListKind.OBU: (_OBU.fullmatch, "issuer and contract serial, 16 hex digits each"),
    ListKind.PLATE: (_plate_ok, "plate text, a bar, and a known colour code, such as 测A00017|0"),
    ListKind.PSAM: (_PSAM.fullmatch, "12 hex digits of the terminal number"),
}


def key_form(kind: ListKind, key: str) -> str | None:
    """The form a key of this kind must have, when `key` does not have it; None when it does."""
    fits, form = _KEY_RULES[kind]
    return None if fits(key) else form


_KINDS: Final = {kind.value: kind for kind in ListKind}
_TYPES: Final = {str(number): number for number in range(1, 256)}
_SIGNS: Final = {"1": Sign.ENTERS, "2": Sign.LEAVES}


def _read_rows(source: Path, kind: FileKind, spool: _Spool, progress: Callable[[Progress], None]) -> int:
    """Check every row and spool its record. Returns the number of rows."""
    rows = 0
    line = 1
    try:
        with source.open(encoding="utf-8-sig", newline="") as stream:
            reader = csv.reader(stream, strict=True)
            header = next(reader, None)
            if header is None or tuple(name.strip() for name in header) != COLUMNS:
                cure = f"the first line must read {','.join(COLUMNS)}"
                raise StatusListBuildError(source, 1, None, f"header row is {header}", cure)
            for row in reader:
                line = reader.line_num
                spool.add(_record_of(source, line, row, kind))
                rows += 1
                if rows > ENTRIES_MAX:
                    raise StatusListBuildError(
                        source, line, None, f"more than {ENTRIES_MAX} rows", "split the delivery"
                    )
                if rows % PROGRESS_ROWS == 0:
                    progress(Progress("read", rows, None))
    except UnicodeDecodeError as error:
        problem = f"text after line {line} is not UTF-8 ({error.reason})"
        raise StatusListBuildError(source, line, None, problem, "convert the delivery to UTF-8") from error
    except csv.Error as error:
        raise StatusListBuildError(source, line + 1, None, str(error), "correct the quoting of this line") from error
    progress(Progress("read", rows, rows))
    return rows


def _record_of(source: Path, line: int, row: Sequence[str], file_kind: FileKind) -> bytes:
    if len(row) != len(COLUMNS):
        problem = f"{len(row)} columns where {len(COLUMNS)} belong"
        raise StatusListBuildError(source, line, None, problem, f"write {','.join(COLUMNS)}")
    kind = _KINDS.get(row[0])
    if kind is None:
        raise StatusListBuildError(source, line, "kind", f"{row[0]!r} is unknown", f"use one of {', '.join(_KINDS)}")
    fits, form = _KEY_RULES[kind]
    if not fits(row[1]):
        # The key is not repeated here: it may be somebody's plate or card number.
        problem = f"{len(row[1])} characters that are no {kind.value} key"
        raise StatusListBuildError(source, line, "key", problem, f"a {kind.value} key is {form}")
    list_type = _TYPES.get(row[2])
    if list_type is None:
        raise StatusListBuildError(source, line, "list_type", f"{row[2]!r} is not a type", "use a number from 1 to 255")
    sign = _SIGNS.get(row[3])
    if sign is None:
        raise StatusListBuildError(source, line, "sign", f"{row[3]!r} is unknown", "use 1 (enters) or 2 (leaves)")
    if sign is Sign.LEAVES and file_kind is FileKind.FULL:
        cure = "leave the row out, or publish this delivery as an increment"
        raise StatusListBuildError(source, line, "sign", "a full list holds only entries that enter", cure)
    return digest_of(kind, row[1]) + bytes((list_type, sign, 0, 0))


class _Spool:
    """Records in 256 buckets by first digest byte, in order of arrival; what outgrows its buffer goes to a file."""

    def __init__(self, work: Path) -> None:
        self._paths = [work / f"bucket-{number:02x}" for number in range(BUCKETS)]
        self._buffers = [bytearray() for _ in range(BUCKETS)]
        self._files: dict[int, BinaryIO] = {}
        self._open = ExitStack()

    def __enter__(self) -> _Spool:
        return self

    def __exit__(self, *_: object) -> None:
        self._open.close()

    def add(self, record: bytes) -> None:
        number = record[0]
        buffer = self._buffers[number]
        buffer += record
        if len(buffer) >= BUFFER_BYTES_MAX:
            if number not in self._files:
                self._files[number] = self._open.enter_context(self._paths[number].open("w+b"))
            self._files[number].write(buffer)
            buffer.clear()

    def sorted_buckets(self) -> Iterator[list[bytes]]:
        """Bucket after bucket, ascending; of several records with one digest the last that arrived."""
        for number, buffer in enumerate(self._buffers):
            data = bytes(buffer)
            if number in self._files:
                self._files[number].seek(0)
                data = self._files[number].read() + data
            records = (data[at : at + RECORD_LENGTH] for at in range(0, len(data), RECORD_LENGTH))
            latest = {record[:DIGEST_LENGTH]: record for record in records}
            yield sorted(latest.values())


# --- writing --------------------------------------------------------------------------------------------------------


def _write_list(
    work: Path, spool: _Spool, rows: int, new: _Publication, progress: Callable[[Progress], None]
) -> tuple[Path, Header]:
    """Sort the buckets into one list file inside the work directory, on disk for good when this returns."""
    sorted_path, target = work / "records", work / "list"
    # Rows bound the entries from above; duplicates only make the buckets a little emptier than aimed at.
    bits = fanout_bits_for(rows)
    counts = [0] * (1 << bits)
    shift = 32 - bits
    with sorted_path.open("wb") as stream:
        for done, records in enumerate(spool.sorted_buckets(), start=1):
            for record in records:
                counts[int.from_bytes(record[:4], "big") >> shift] += 1
            stream.write(b"".join(records))
            progress(Progress("write", done, BUCKETS))
    table = [0, *accumulate(counts)]
    fanout = struct.pack(f">{len(table)}I", *table)
    body = hashlib.sha256(fanout)
    with target.open("wb") as out, sorted_path.open("rb") as stream:
        out.write(bytes(HEADER_LENGTH))
        out.write(fanout)
        while chunk := stream.read(1 << 20):
            body.update(chunk)
            out.write(chunk)
        header = Header(
            kind=new.kind,
            fanout_bits=bits,
            count=table[-1],
            body_length=len(fanout) + RECORD_LENGTH * table[-1],
            created_at=new.created_at,
            effective_at=new.effective_at,
            version=new.version,
            base_version=new.base_version,
            body_sha256=body.digest(),
        )
        out.seek(0)
        out.write(header.encode())
        out.flush()
        os.fsync(out.fileno())
    read_header(target, header.encode())  # What we publish must pass our own reader.
    return target, header


# --- comparing ------------------------------------------------------------------------------------------------------


def _effect_on(
    directory: Path, chains: tuple[tuple[ChainFile, ...], ...], new: ListFile, progress: Callable[[Progress], None]
) -> Effect | None:
    """What the new file does to the newest publication that can be read; None where none of them can."""
    if not chains:
        return Effect(0, new.header.count, 0, 0)
    increment = new.header.kind is FileKind.INCREMENT
    for chain in chains[:1] if increment else chains:
        try:
            old = open_chain(directory, chain)
        except StatusListError:
            continue  # A damaged list is replaced by publishing a whole one.
        if not increment:
            return _compared(_in_force(old), new, progress)
        last = chain[-1].effect
        return _increment_on(old, new, sum(1 for _ in _in_force(old)) if last is None else last.after)
    return None


def _in_force(files: Sequence[ListFile]) -> Iterator[bytes]:
    """Records of a chain that are in force, ascending: the newest file that has a digest decides."""
    if len(files) == 1:
        yield from files[0].records()
        return
    streams = (_aged(file, -age) for age, file in enumerate(files))
    for _, same in groupby(merge(*streams), key=itemgetter(0)):
        _, _, newest = next(same)
        if newest[DIGEST_LENGTH + 1] != Sign.LEAVES:
            yield newest


def _aged(file: ListFile, age: int) -> Iterator[tuple[bytes, int, bytes]]:
    return ((record[:DIGEST_LENGTH], age, record) for record in file.records())


def _compared(old: Iterator[bytes], new: ListFile, progress: Callable[[Progress], None]) -> Effect:
    """Both ascend, so one walk through both is enough."""
    before = removed = changed = same = 0
    records = new.records()
    wanted = next(records, None)
    for record in old:
        before += 1
        digest = record[:DIGEST_LENGTH]
        while wanted is not None and wanted[:DIGEST_LENGTH] < digest:
            wanted = next(records, None)
        if wanted is None or wanted[:DIGEST_LENGTH] != digest:
            removed += 1
        elif wanted == record:
            same += 1
        else:
            changed += 1
        if before % PROGRESS_ROWS == 0:
            progress(Progress("compare", before, None))
    return Effect(before, new.header.count - same - changed, removed, changed)


def _increment_on(old: Sequence[ListFile], new: ListFile, before: int) -> Effect:
    added = removed = changed = 0
    for record in new.records():
        found = next((hit for file in reversed(old) if (hit := file.find(record[:DIGEST_LENGTH])) is not None), None)
        listed = found is not None and found[1] != Sign.LEAVES
        if record[DIGEST_LENGTH + 1] == Sign.LEAVES:
            removed += listed
        elif found is None or not listed:
            added += 1
        else:
            changed += found[0] != record[DIGEST_LENGTH]
    return Effect(before, added, removed, changed)


# --- publishing -----------------------------------------------------------------------------------------------------


def _publish(directory: Path, chains: tuple[tuple[ChainFile, ...], ...], new: ChainFile, header: Header) -> None:
    """Name the new file in `CURRENT`, keep older chains as far as they may be needed, drop files nobody names."""
    chain = (*chains[0], new) if header.kind is FileKind.INCREMENT else (new,)
    kept = (chain, *chains)[:CHAINS_MAX]
    # The list in force must stay named. The time a list was made is past, so what was effective then is effective.
    in_force = next((old for old in chains if old[-1].effective_at <= header.created_at), None)
    if in_force is not None and all(old[-1].effective_at > header.created_at for old in kept):
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
    """Delete list files no chain names. Processes that still have one mapped keep its bytes until they let go."""
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


# --- the process ----------------------------------------------------------------------------------------------------


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="status_list_build", description="Build and publish a status list from CSV.")
    parser.add_argument("source", type=Path, help="CSV with the header row kind,key,list_type,sign")
    parser.add_argument("directory", type=Path, help="directory of the lists, on the disk of the box")
    parser.add_argument("--version", required=True, help="version the issuer gives this list")
    parser.add_argument("--base", help="version this increment stands on; without it the list is full")
    parser.add_argument("--created", required=True, type=datetime.fromisoformat, help="when the issuer made it")
    parser.add_argument("--effective", type=datetime.fromisoformat, help="not used before; default: when it was made")
    parser.add_argument("--confirm-drop", type=int, help="so many entries are meant to leave")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Build in this process at the lowest priority. Progress to stderr, the result as JSON to stdout.

    Exit codes: 0 published, 1 refused, 2 usage.
    """
    args = _parser().parse_args(argv)
    os.nice(LOWEST_PRIORITY)

    def report(progress: Progress) -> None:
        total = "" if progress.total is None else f" of {progress.total}"
        sys.stderr.write(f"{progress.phase} {progress.done}{total}\n")

    try:
        result = build(
            args.source,
            args.directory,
            version=args.version,
            base_version=args.base,
            created_at=args.created,
            effective_at=args.effective or args.created,
            confirmed=args.confirm_drop,
            progress=report,
        )
    except (StatusListError, StatusListBuildError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    facts = {
        "file": str(result.path),
        "version": result.version,
        "rows": result.rows,
        "entries": result.entries,
        "replaced": result.replaced,
    }
    sys.stdout.write(json.dumps(facts) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
