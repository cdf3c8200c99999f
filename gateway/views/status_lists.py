"""Status lists as they are published: what is in force, how old it is, every file."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path

from gateway.payers.status_lists import (
    HEADER_LENGTH,
    ChainFile,
    DropBound,
    FileKind,
    StatusListError,
    StatusLists,
    read_header,
    read_manifest,
)


@dataclass(frozen=True, slots=True)
class ListFile:
    """One published file, by its header. `problem`: why the header cannot be read, and then nothing else of it is
    known. `waits`: not in force before `effective_at`."""

    chain: int
    version: str
    name: str
    effective_at: datetime
    in_force: bool
    waits: bool
    kind: str | None = None
    base: str | None = None
    entries: int | None = None
    created_at: datetime | None = None
    problem: str | None = None


@dataclass(frozen=True, slots=True)
class Lists:
    """What is in force at a moment, and all that is published; `stale`: older than `age_limit_h`; `refusal`: why the
    newest publication is not used."""

    directory: Path
    in_force: str
    entries: int
    created_at: datetime
    effective_at: datetime
    age_s: float
    stale: bool
    age_limit_h: float
    refusal: str | None
    files: tuple[ListFile, ...]


def lists_of(directory: Path, drop_bound: DropBound, age_limit_h: float, now: datetime) -> Lists:
    """Open the lists of a folder and check every file. Raises `StatusListError` where none is usable."""
    lists = StatusLists.open(directory, now, drop_bound)
    snapshot = lists.snapshot
    used = {file.header.identity for file in snapshot.files}
    return Lists(
        directory,
        lists.version,
        snapshot.entries,
        snapshot.created_at,
        snapshot.effective_at,
        lists.age(now).total_seconds(),
        lists.stale(now, timedelta(hours=age_limit_h)),
        age_limit_h,
        None if lists.refusal is None else str(lists.refusal),
        tuple(
            _file(directory, number, named, in_force=named.identity in used, now=now)
            for number, chain in enumerate(read_manifest(directory).chains, start=1)
            for named in chain
        ),
    )


def _file(directory: Path, chain: int, named: ChainFile, *, in_force: bool, now: datetime) -> ListFile:
    """A header that cannot be read is told, not fatal."""
    path = directory / named.name
    waits = named.effective_at > now
    plain = ListFile(chain, named.version, named.name, named.effective_at, in_force, waits)
    try:
        with path.open("rb") as stream:
            header = read_header(path, stream.read(HEADER_LENGTH))
    except (OSError, StatusListError) as error:
        return replace(plain, problem=str(error))
    kind = "full" if header.kind is FileKind.FULL else "increment"
    return replace(plain, kind=kind, base=header.base_version, entries=header.count, created_at=header.created_at)
