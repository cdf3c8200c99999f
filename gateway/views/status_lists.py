"""Status lists as they are published: what is in force, how old it is, every file."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from gateway.payers.status_lists import DropBound, StatusLists, read_manifest
from gateway.texts.catalogue import Text
from gateway.texts.foreign import text_of_error


@dataclass(frozen=True, slots=True)
class ListFile:
    """One published file. `problem`: why it cannot be what was published. `waits`: not in force before
    `effective_at`."""

    chain: int
    version: str
    name: str
    effective_at: datetime
    in_force: bool
    waits: bool
    kind: str
    base: str | None
    entries: int
    created_at: datetime
    problem: Text | None


@dataclass(frozen=True, slots=True)
class Lists:
    """Lists in force at a moment, and all that is published; `stale`: older than `age_limit_h`; `refusal`: why the
    newest publication is not used."""

    directory: Path
    in_force: str
    entries: int
    created_at: datetime
    effective_at: datetime
    age_s: float
    stale: bool
    age_limit_h: float
    refusal: Text | None
    files: tuple[ListFile, ...]


def lists_of(directory: Path, drop_bound: DropBound, age_limit_h: float, now: datetime) -> Lists:
    """Open the lists of a folder and check every file. Raises `StatusListError` where none is usable."""
    lists = StatusLists.open(directory, now, drop_bound)
    snapshot = lists.snapshot
    return Lists(
        directory,
        lists.version,
        snapshot.entries,
        snapshot.created_at,
        snapshot.chain[-1].effective_at,
        lists.age(now).total_seconds(),
        lists.stale(now, timedelta(hours=age_limit_h)),
        age_limit_h,
        None if lists.refusal is None else text_of_error(lists.refusal),
        tuple(
            ListFile(
                number,
                named.version,
                named.name,
                named.effective_at,
                named in snapshot.chain,
                named.effective_at > now,
                "full" if base is None else "increment",
                None if base is None else base.version,
                named.entries,
                named.created_at,
                named.problem(directory),
            )
            for number, chain in enumerate(read_manifest(directory).chains, start=1)
            for base, named in zip((None, *chain), chain, strict=False)
        ),
    )
