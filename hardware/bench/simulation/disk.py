"""Disk that gives back an older ledger when the gateway's process has ended, or none at all; and people who adopt it.

A copy of the ledger is taken some commits before the process is to end, with the watcher's picture of that moment. At
some ends the copy stands in the ledger's place afterwards; at others nothing does, and people bring back the copy. The
mark stands on another disk, and knows better: the start must refuse. People then adopt what is there.
"""

from __future__ import annotations

import random
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from gateway.debit import adoption
from gateway.ledger import engines, incarnation, life
from gateway.ledger.batches import Committer
from gateway.ledger.incarnation import LedgerRefused, Place
from hardware.bench.chain_key import KEYS
from hardware.bench.simulation.storage import Storage

if TYPE_CHECKING:
    from hardware.bench.simulation.world import World

OLDER, GONE = "older_file", "file_gone"
HARMED: Final = 0.8
"""Share of the ends of a process, with a copy that has lost something, at which the file is harmed."""
LOST_COMMITS: Final = (5, 120)
"""Commits from the copy to the end of the process."""
SIDES: Final = ("", "-wal")
IN_FLIGHT_S: Final = 20.0
"""Time from an adoption in which messages of the lost part may still reach the bank; above all delays made here."""
BANK_ASKED_S: Final = (35.0, 60.0)
"""Time from an adoption to the day when the bank's file is here: a message cannot be under way any more."""


@dataclass(frozen=True, slots=True)
class Copy:
    """The ledger's files as they were after one commit."""

    folder: Path
    journal: int
    picture: bytes
    """Picture of the watcher, see `Watch.picture`."""


class Disk:
    """Disk of one run, see the module."""

    def __init__(self, world: World, storage: Storage, chance: random.Random) -> None:
        self._world = world
        self._storage = storage
        self._chance = chance
        self._copy: Copy | None = None
        self._copy_at: int | None = None
        self._place = Place(storage.path, Path(f"{storage.path}.mark"))
        """Place by names alone: this mark is in memory."""

    def plan(self) -> None:
        """Choose at which commit of a life the copy is to be taken."""
        crash_at = self._storage.crash_at
        self._copy_at = None if crash_at is None else crash_at[0] - self._chance.randint(*LOST_COMMITS)

    def committed(self) -> None:
        """Take the copy when the commit it was planned for has ended."""
        if self._copy_at is None or self._storage.commits < self._copy_at:
            return
        self._copy_at = None
        folder = self._storage.path.parent / "copy"
        folder.mkdir(exist_ok=True)
        for side in SIDES:
            shutil.copyfile(f"{self._storage.path}{side}", folder / f"copy.db{side}")
        reader = engines.open_reader(self._storage.path)
        with reader.connect() as connection:
            journal = life.journal_head(connection).number
        reader.dispose()
        self._copy = Copy(folder, journal, self._world.watch.picture())

    def harm(self) -> str | None:
        """Harm the file after the process has ended; returns how, or None. A mark that trails this far sees nothing."""
        copy = self._copy
        if copy is None or copy.journal >= self._storage.mark.state.journal or self._chance.random() >= HARMED:
            return None
        what = self._chance.choice((OLDER, GONE))
        for side in (*SIDES, "-shm"):
            Path(f"{self._storage.path}{side}").unlink(missing_ok=True)
        if what == OLDER:
            self._bring_back(copy)
        return what

    def refused(self) -> str | None:
        """Code with which a start refuses the file, as the product would at a path; None where it starts."""
        if not self._storage.path.exists():
            return "ledger_gone"
        reader = engines.open_reader(self._storage.path)
        try:
            with reader.connect() as connection:
                incarnation.compare(connection, self._place, self._storage.mark.state)
        except LedgerRefused as refused:
            return refused.reason
        finally:
            reader.dispose()
        return None

    def adopt(self) -> None:
        """Adopt as people do: bring back the copy where nothing is left, and begin a new life."""
        world, storage = self._world, self._storage
        if self._copy is not None and not storage.path.exists():
            self._bring_back(self._copy)
        if self._copy is None:
            raise RuntimeError("nothing was harmed")
        world.watch.roll_back(self._copy.picture)
        birth = incarnation.Birth(f"{self._chance.getrandbits(128):032x}", "the disk gave back an older file", "p1")
        writing, reading = storage.open()
        committer = Committer(writing, world.clock, keys=KEYS, mark=storage.mark, random=storage.salts)
        found, storage.mark.state = adoption.begin_anew(committer, storage.mark.state, birth)
        storage.committed(writing)
        storage.close(writing, reading)
        world.trace.add("people", f"adopt life {found.incarnation.number}, {found.disputed} attempts in dispute")
        world.watch.adopted(world.loop.time() + IN_FLIGHT_S)
        self._copy = None

    def _bring_back(self, copy: Copy) -> None:
        for side in SIDES:
            shutil.copyfile(copy.folder / f"copy.db{side}", f"{self._storage.path}{side}")
