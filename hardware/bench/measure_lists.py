"""Speed of status list look-ups, as ratios against references that run on the same machine in the same run.

A list of invented cards is built by the real builder in a process of its own. Look-ups are timed with the file in
memory and with its pages dropped, beside an SQLite primary-key look-up and a Python dictionary that hold the same
entries; then two increments are published and switched to while look-ups go on. Ratios are worth comparing between
machines and commits; absolute times are printed for context only.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import random
import resource
import sqlite3
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import closing
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from statistics import median
from typing import Final

from gateway.payers.list_file import ListFile
from gateway.payers.status_list_build import LOWEST_PRIORITY, build
from gateway.payers.status_lists import ListKind, StatusLists, digest_of

ENTRIES_DEFAULT: Final = 200_000
"""Entries of a list: enough for a stable ratio in a few seconds; the bench test uses more than memory keeps."""
PROBES: Final = 5_000
COLD_PROBES: Final = 200
"""Look-ups that each drop the file from memory first, which takes milliseconds."""
SWITCHES: Final = 2
BUILD_SECONDS_MAX: Final = 900
"""Time limit of a build, as one that hangs must end the bench; five million entries take well under a minute."""
SEED: Final = 20261101
CREATED: Final = datetime(2026, 11, 1, tzinfo=UTC)
LIST_TYPES: Final = 7

Figures = dict[str, float | int]


def card(number: int) -> str:
    """Invented card of the bench issuer's network 9901. Even numbers are listed, odd ones are not."""
    return f"9901{number:016d}"


def _list_type(number: int) -> int:
    return number // 2 % LIST_TYPES + 1


def _write_csv(path: Path, rows: Iterator[str]) -> None:
    with path.open("w", encoding="utf-8") as stream:
        stream.write("kind,key,list_type,sign\n")
        stream.writelines(rows)


def _build(source: Path, directory: Path, version: str, base: str | None = None) -> None:
    """Run the real builder as the process of its own that it is on a box."""
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, spawn, os.nice, (LOWEST_PRIORITY,)) as builder:
        asked = partial(build, version=version, base_version=base, created_at=CREATED, effective_at=CREATED)
        builder.submit(asked, source, directory).result(BUILD_SECONDS_MAX)


def _each(lookup: Callable[[str], object], keys: Sequence[str]) -> float:
    """Median seconds of one look-up."""
    taken = []
    for key in keys:
        start = time.perf_counter()
        lookup(key)
        taken.append(time.perf_counter() - start)
    return median(taken)


def _drop_from_memory(listed: ListFile) -> None:
    """Take a list file's pages out of this process and out of the page cache: worse than any night without a car."""
    listed._database.execute("PRAGMA shrink_memory")
    descriptor = os.open(listed.path, os.O_RDONLY)
    try:
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    finally:
        os.close(descriptor)


def _cold(listed: ListFile, keys: Sequence[str]) -> tuple[float, float, int]:
    """(median seconds, worst seconds, blocks read from disk) of look-ups that each find nothing in memory."""
    taken = []
    blocks = resource.getrusage(resource.RUSAGE_SELF).ru_inblock
    for key in keys:
        _drop_from_memory(listed)
        start = time.perf_counter()
        listed.find(digest_of(ListKind.CARD, key))
        taken.append(time.perf_counter() - start)
    return median(taken), max(taken), resource.getrusage(resource.RUSAGE_SELF).ru_inblock - blocks


def _references(directory: Path, entries: int, keys: Sequence[str]) -> tuple[float, float]:
    """Median seconds of one look-up in (SQLite primary key, Python dictionary) holding the same entries."""
    with closing(sqlite3.connect(directory / "reference.db")) as database:
        database.execute("CREATE TABLE listed (key TEXT PRIMARY KEY, list_type INTEGER) WITHOUT ROWID")
        rows = ((card(number), _list_type(number)) for number in range(0, 2 * entries, 2))
        with database:
            database.executemany("INSERT INTO listed VALUES (?, ?)", rows)
        question = "SELECT list_type FROM listed WHERE key = ?"
        by_sqlite = _each(lambda key: database.execute(question, (key,)).fetchone(), keys)
    table = {card(number): _list_type(number) for number in range(0, 2 * entries, 2)}
    return by_sqlite, _each(table.get, keys)


class _Watcher(threading.Thread):
    """Looks cards up all the time and checks each answer against the version it came from.

    Increment k takes card 2 * (k - 1) off the list and puts the odd card 2 * k - 1 on it; probes are the cards that
    change and their neighbours that never do.
    """

    def __init__(self, lists: StatusLists) -> None:
        super().__init__(daemon=True)
        self._lists = lists
        self._stopped = threading.Event()
        self.lookups = 0
        self.wrong = 0
        self.worst = 0.0
        self.versions: set[str] = set()

    def run(self) -> None:
        while not self._stopped.is_set():
            for number in range(4 * SWITCHES):
                snapshot = self._lists.snapshot
                start = time.perf_counter()
                hit = snapshot.lookup(ListKind.CARD, card(number))
                self.worst = max(self.worst, time.perf_counter() - start)
                self.versions.add(snapshot.version)
                self.lookups += 1
                self.wrong += (hit is not None) != _listed(number, int(snapshot.version.removeprefix("v")))

    def stop(self) -> None:
        self._stopped.set()
        self.join()


def _listed(number: int, version: int) -> bool:
    """True when a card is on the bench list after so many increments."""
    changed = (number // 2) + 1 <= version
    return (number % 2 == 0) != changed


def _increment(path: Path, version: int) -> None:
    leaves, enters = 2 * (version - 1), 2 * version - 1
    _write_csv(path, iter([f"card,{card(leaves)},1,2\n", f"card,{card(enters)},4,1\n"]))


def _wrong_answers(lists: StatusLists, entries: int, chance: random.Random) -> int:
    """Number of `PROBES` listed and `PROBES` unlisted cards that get another answer than the list says."""
    wrong = 0
    for _ in range(PROBES):
        number = 2 * chance.randrange(entries)
        hit = lists.lookup(ListKind.CARD, card(number))
        wrong += hit is None or hit.list_type != _list_type(number)
        wrong += lists.lookup(ListKind.CARD, card(number + 1)) is not None
    return wrong


def run(work: Path, entries: int) -> Figures:
    """Build, look up and switch in `work`. Keys ending in `_x_sqlite` or `_x_dict` are ratios, `_us` microseconds."""
    chance = random.Random(SEED)  # noqa: S311 probes, not secrets
    directory = work / "lists"
    directory.mkdir()
    source = work / "full.csv"
    _write_csv(source, (f"card,{card(n)},{_list_type(n)},1\n" for n in range(0, 2 * entries, 2)))

    start = time.perf_counter()
    _build(source, directory, "v0")
    build_seconds = time.perf_counter() - start
    start = time.perf_counter()
    lists = StatusLists.open(directory, CREATED)
    verify_seconds = time.perf_counter() - start

    wrong = _wrong_answers(lists, entries, chance)
    keys = [card(chance.randrange(2 * entries)) for _ in range(PROBES)]
    warm = _each(lambda key: lists.lookup(ListKind.CARD, key), keys)
    cold, cold_worst, blocks = _cold(lists.snapshot.files[0], keys[:COLD_PROBES])
    by_sqlite, by_dict = _references(work, entries, keys)

    watcher = _Watcher(lists)
    watcher.start()
    try:
        for version in range(1, SWITCHES + 1):
            change = work / f"v{version}.csv"
            _increment(change, version)
            _build(change, directory, f"v{version}", base=f"v{version - 1}")
            published = lists.prepare(CREATED)
            if published is None:
                raise RuntimeError("a published increment was not noticed")
            lists.switch(published)
    finally:
        watcher.stop()
    return {
        "entries": lists.snapshot.chain[0].entries,
        "build_s": round(build_seconds, 2),
        "verify_s": round(verify_seconds, 3),
        "warm_x_sqlite": round(warm / by_sqlite, 3),
        "warm_x_dict": round(warm / by_dict, 1),
        "cold_x_sqlite_warm": round(cold / by_sqlite, 1),
        "warm_us": round(warm * 1e6, 2),
        "cold_us": round(cold * 1e6, 1),
        "cold_worst_us": round(cold_worst * 1e6, 1),
        "cold_blocks_read": blocks,
        "sqlite_us": round(by_sqlite * 1e6, 2),
        "dict_us": round(by_dict * 1e6, 3),
        "lookups_while_switching": watcher.lookups,
        "worst_while_switching_us": round(watcher.worst * 1e6, 1),
        "versions_seen_while_switching": len(watcher.versions),
        "wrong_answers": wrong + watcher.wrong,
    }


def measure(entries: int = ENTRIES_DEFAULT) -> Figures:
    """Run in a temporary directory and return the figures. `cold_blocks_read` of 0 means the disk cache won: ignore
    the cold figures then (a file system in memory, or one that does not drop pages on request)."""
    with tempfile.TemporaryDirectory(prefix="etc-lists-") as work:
        return run(Path(work), entries)


if __name__ == "__main__":
    sys.stdout.write(json.dumps(measure(), indent=1) + "\n")
