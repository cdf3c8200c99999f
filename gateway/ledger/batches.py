"""Batches: commits the writer's changes in groups, step by step and without a thread.

Theory of operation. A *job* is a change with the mark whether it is essential. `Batches.step` takes the jobs that have
come in and makes one try: it commits a group of them in one database transaction and says who is answered with what.
What could not be stored is kept inside, before anything newer, and the step says after how many seconds the next one is
worth making. Nothing here waits, starts a thread or reads a clock: the writer's thread drives it in the product, a
virtual-time event loop in the simulation.

A group that fails by the fault of one of its changes is rolled back whole; its changes then go one at a time, one a
step, so that a bad one harms nobody else and the good ones are answered as they are stored. A change may therefore run
more than once and touches nothing but its transaction.

Trouble with the storage:
- busy (another process holds the database): the group is kept and tried again; callers watch their own deadlines.
- full: ordinary changes fail at once with `StorageUnavailable`, until the reserve stands again: what little room there
  is belongs to the changes marked `essential` (results of purchases that already happened). Those release the reserve
  file, whose blocks they then live on, and are tried until they succeed.
- lost (the file that is open is no longer the one at its path, see `gateway.ledger.file`): ordinary changes fail at
  once. Essential ones are stored through what is open, and so is what was being committed when the file went; but
  nobody is told: what cannot be found at its path is not durable. When nothing else is to be done, all of it is brought
  into a whole file (`rescue`). Should the very same file come back, the answers that were withheld are given.
- anything else that is not the change's own fault: as busy, until it passes or the process is stopped.
- a mark that cannot be written (`gateway.ledger.marks`): as the same trouble of the database.
`state` says which; no new sale should start unless it is `WRITING`.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from random import SystemRandom
from typing import Any, Protocol, TypeVar

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import DBAPIError, IntegrityError

from gateway.ledger import clock_readings, life
from gateway.ledger.chain import ChainKeys
from gateway.ledger.clock_readings import Covered
from gateway.ledger.engines import StorageTrouble, trouble_of
from gateway.ledger.file import LedgerFile
from gateway.ledger.life import Head, Life
from gateway.ledger.marks import Mark, MarkUnwritable, MemoryMark
from gateway.ledger.seals import RandomBytes
from gateway.ledger.transaction import Change, Transaction
from gateway.model.clock import Clock
from protocols.bank.anchors import Anchor

BATCH_MAX = 500
"""Changes in one commit: the gain of larger groups has flattened here, and the first caller is still waiting."""

RETRY_S = 0.05
"""Pause between two tries of a group that the storage refused."""

PROBE = "storage_probe"
"""Counter that is written to find out whether the storage takes writes again."""

RESERVE_BYTES = 8 << 20
"""Bytes kept aside for results when the disk fills up: thousands of purchase results with their index pages."""

FREE_MIN_BYTES = 32 << 20
"""Free bytes, besides the reserve, that selling needs to start again."""

T = TypeVar("T")
log = logging.getLogger(__name__)


class StorageUnavailable(Exception):
    """Change that was not stored and never will be; nothing about it is durable. Of a query: it was not answered.

    With `StorageTrouble.LOST` it may stand in the copy that was rescued of a ledger whose file has gone.
    """

    def __init__(self, trouble: StorageTrouble) -> None:
        self.trouble = trouble
        super().__init__(trouble.text)


class WriterState(Enum):
    """State of the writer."""

    WRITING = "writing"
    BUSY = "busy"
    FULL = "full"
    UNREADABLE = "unreadable"
    LOST = "lost"
    STOPPED = "stopped"


_STATE_OF = {
    StorageTrouble.BUSY: WriterState.BUSY,
    StorageTrouble.FULL: WriterState.FULL,
    StorageTrouble.UNREADABLE: WriterState.UNREADABLE,
    StorageTrouble.OTHER: WriterState.UNREADABLE,
    StorageTrouble.LOST: WriterState.LOST,
}

_ONLY_ESSENTIAL = {WriterState.FULL: StorageTrouble.FULL, WriterState.LOST: StorageTrouble.LOST}
"""States in which ordinary changes are refused at once, with the trouble their callers are told."""


class LedgerWriter(Protocol):
    """Writer as the engine and the outbox use it; the product's has a thread, the simulation's has not."""

    @property
    def selling_allowed(self) -> bool:
        """True while a new hold can be expected to become durable at once."""

    def submit(self, change: Change[T], *, essential: bool = False, patient: bool = False) -> asyncio.Future[T]:
        """Hand a change in; the future has its result once it is durable, `StorageUnavailable` when it never will be.

        A patient change may wait some seconds for another one to be committed with.

        Cancelling the future does not undo the change: shield it.
        """


@dataclass(slots=True, eq=False)
class Job:
    """Change handed in. `caller` is what its driver needs to find who waits for it."""

    change: Change[Any]
    essential: bool = False
    caller: Any = None


@dataclass(frozen=True, slots=True)
class Answer:
    """Answer to a job: the durable result of its change, or the error for which nothing of it is stored."""

    job: Job
    result: Any = None
    error: Exception | None = None


@dataclass(frozen=True, slots=True)
class StepResult:
    """Result of a step: answers to give now, number of jobs kept for another try, and the pause before it."""

    answers: list[Answer]
    kept: int
    """Jobs inside that wait for a later step: refused by the storage, to be run alone, or too many for a group."""
    pause_s: float
    """Seconds to let pass before the next step; 0 unless the storage has just refused."""


class Committer:
    """Runs groups of changes against the database, one transaction each.

    `commit` is the one place where anything becomes durable, the probe after trouble included, so it is also the one
    seam for injected faults: subclass it, or put another function in its place on an instance.
    - Disk full, busy, unreadable: raise the `DBAPIError` that `engines.trouble_of` would read that from.
    - Crash before the commit: raise an exception that is not an `Exception`. Nothing here or in `Batches` catches it;
      throw the `Batches` away with the rest of the memory.
    - Crash after the commit and before its answers: call the real one, then raise the same.
    A crash after the answers is the driver's: it has the `StepResult` in its hand.
    """

    def __init__(
        self,
        engine: Engine,
        clock: Clock,
        reserve: Path | None = None,
        file: LedgerFile | None = None,
        *,
        keys: ChainKeys,
        mark: Mark | None = None,
        random: RandomBytes | None = None,
    ) -> None:
        """`file` is the one `engine` has opened, when it is to be watched. `keys` of the chains. `mark`: the ledger's
        memory outside the database; without one, a memory of this process alone. `random` gives the salts, the system's
        source where there is none."""
        self._engine = engine
        self._clock = clock
        self._reserve = reserve
        self._file = file
        self._keys = keys
        self._random = SystemRandom() if random is None else random
        self._covered: Covered | None = None
        self._mark = MemoryMark() if mark is None else mark
        self._life: Life | None = None
        self._keeps = False
        self._kept: Connection | None = None
        self._followed: Head | None = None
        self.head: Head | None = None
        """Newest journal row that is durable, as far as this process wrote it."""

    def commit(self, changes: list[Change[Any]]) -> list[Any]:
        """Commit all in one transaction: the results in order, durable; or an error and nothing of it stored."""
        now = clock_readings.read(self._clock)
        connection = self._take_connection()
        try:
            with (
                connection.begin(),
                contextlib.closing(self.transaction(connection, now.wall_us)) as transaction,
            ):
                results = [change(transaction) for change in changes]
                covered = clock_readings.cover(transaction, now, self._covered)
                transaction.finish()
            if self._keeps:
                self._kept = connection
        finally:
            if self._kept is None:
                connection.close()
        self._covered = covered
        self.head = transaction.head() or self.head
        return results

    @contextlib.contextmanager
    def connected(self) -> Iterator[None]:
        """Keep the connection from commit to commit, until one fails; nobody else may use the engine meanwhile.

        To take it anew costs each commit 28 us, a twentieth of one with a single change."""
        self._keeps = True
        try:
            yield
        finally:
            self._keeps = False
            if self._kept is not None:
                self._take_connection().close()

    def _take_connection(self) -> Connection:
        connection, self._kept = self._kept or self._engine.connect(), None
        return connection

    def transaction(self, connection: Connection, now_us: int) -> Transaction:
        """Make the transaction of a batch, on a connection that has begun, with the positions of this ledger's life."""
        if self._life is None:
            self._life = life.begin(connection, self._mark)
        return Transaction(connection, now_us, self._keys, self._random, self._life)

    def anchor(self) -> Anchor | None:
        """Anchor (durable position of the journal) to be kept elsewhere; None before this process has committed."""
        life = None if self._life is None else self._life.incarnation
        head = self.head
        return None if life is None or head is None else Anchor(life.number, head.number, head.digest)

    def follow(self) -> None:
        """Write into the mark how far the journal has durably come, if it has; from any thread.

        Raises `MarkUnwritable`.
        """
        head = self.head
        if head is not None and head is not self._followed:
            self._mark.follow(head.number, head.digest)
            self._followed = head

    def stands(self) -> bool:
        """True when a commit made now can be found at the ledger's path."""
        return self._file is None or self._file.stands()

    def safe_to_write(self) -> bool:
        """True when, after the file was lost, storing through the open descriptors harms nobody."""
        return self._file is None or self._file.safe_to_write()

    def rescue(self) -> bool:
        """Make a whole file from the open descriptors. False when that must be tried again."""
        if self._file is None:
            return True
        with self._take_connection() as connection:
            return self._file.rescue(connection, self._clock.utcnow())

    def found_again(self) -> None:
        """Note that the file that was lost is back."""
        if self._file is not None:
            self._file.found_again()

    def keep_reserve(self) -> bool:
        """Make or remake the reserve file. False while the disk has no room for it and some to spare."""
        if self._reserve is None:
            return True
        try:
            if self._reserve.exists() and self._reserve.stat().st_blocks * 512 >= RESERVE_BYTES:
                return True
            free = os.statvfs(self._reserve.parent)
            if free.f_bavail * free.f_frsize < RESERVE_BYTES + FREE_MIN_BYTES:
                return False
            with self._reserve.open("wb") as file:
                os.posix_fallocate(file.fileno(), 0, RESERVE_BYTES)
        except OSError:
            with contextlib.suppress(OSError):
                self._reserve.unlink(missing_ok=True)
            return False
        return True

    def release_reserve(self) -> None:
        """Give the reserved blocks back to the disk so that results fit. A disk that refuses even that is no worse."""
        if self._reserve is None:
            return
        try:
            self._reserve.unlink(missing_ok=True)
        except OSError as error:
            log.warning("reserve %s not released: %s", self._reserve, error)


class Batches:
    """Batches of the writer: decides which changes to commit together, which to try again, and the answers."""

    def __init__(self, committer: Committer, on_state: Callable[[WriterState], None] | None = None) -> None:
        self._committer = committer
        self._on_state = on_state
        self._alone: deque[Job] = deque()
        """Rest of a group in which one change was at fault: one a step, before all others."""
        self._waiting: deque[Job] = deque()
        self._withheld: list[Answer] = []
        """Answers withheld from changes that are stored in a file which is no longer at its path."""
        self._rescued = True
        """True when all that is stored stands in a file at some path."""
        self.state = WriterState.STOPPED

    def start(self) -> None:
        """Look at the disk and begin; before the first step."""
        self._set_state(WriterState.WRITING if self._committer.keep_reserve() else WriterState.FULL)

    @property
    def kept(self) -> int:
        """Jobs taken in and not answered yet."""
        return len(self._alone) + len(self._waiting)

    def step(self, jobs: Sequence[Job] = (), *, last: bool = False) -> StepResult:
        """Take these jobs in and make one try to store some of all that are kept.

        Without any job it looks, after trouble, whether the storage is well again. `last`: the writer is being
        stopped, so what the storage refuses now is not kept but answered with `StorageUnavailable`.
        """
        self._waiting.extend(jobs)
        answers = self._look_at_file()
        if self.state in _ONLY_ESSENTIAL:
            answers += self._refuse_ordinary(_ONLY_ESSENTIAL[self.state])
        group = self._group()
        pause_s = 0.0
        if group:
            pause_s = self._try(group, answers, last=last)
        elif self.state is WriterState.LOST:
            self._rescue(now=not answers)
        elif self.state is not WriterState.WRITING:
            self._look_again()
        return StepResult(answers, self.kept, pause_s)

    def stop(self) -> list[Answer]:
        """Stop: kept jobs are answered as not stored, and withheld ones as lost."""
        self._rescue(now=True)
        lost = [answer.job for answer in self._withheld]
        left = [*self._alone, *self._waiting]
        if lost or (left and self.state is WriterState.LOST):
            log.critical(
                "%d changes were stored after the ledger's file was lost, %d could not be stored", len(lost), len(left)
            )
        self._withheld.clear()
        self._alone.clear()
        self._waiting.clear()
        self.state = WriterState.STOPPED
        return [*_refused(lost, StorageTrouble.LOST), *_refused(left, StorageTrouble.STOPPED)]

    def _look_at_file(self) -> list[Answer]:
        """Check the file before anything is stored. When it has come back: the withheld answers."""
        if not self._committer.stands():
            self._set_state(WriterState.LOST)
            return []
        if self.state is not WriterState.LOST:
            return []
        self._committer.found_again()
        self._rescued = True
        self._look_again()
        told, self._withheld = self._withheld, []
        return told

    def _rescue(self, *, now: bool) -> None:
        """Rescue the data after a loss; not `now` while somebody waits for the answers of this step."""
        if self._rescued or not now:
            return
        self._rescued = self._committer.rescue()
        if self._on_state is not None:
            self._on_state(self.state)

    def _group(self) -> list[Job]:
        if self._alone:
            return [self._alone.popleft()]
        return [self._waiting.popleft() for _ in range(min(BATCH_MAX, len(self._waiting)))]

    def _try(self, group: list[Job], answers: list[Answer], *, last: bool) -> float:
        """Commit a group; adds to the answers and returns the pause."""
        if self.state is WriterState.LOST and not self._committer.safe_to_write():
            return self._after_trouble(group, StorageTrouble.LOST, answers, last=last)
        try:
            results = self._committer.commit([job.change for job in group])
        except IntegrityError as error:
            self._somebodys_fault(group, error, answers)
        except DBAPIError as error:
            trouble = trouble_of(error)
            if trouble is not StorageTrouble.OTHER:
                return self._after_trouble(group, trouble, answers, last=last)
            self._somebodys_fault(group, error, answers)
        except MarkUnwritable as error:
            trouble = StorageTrouble.FULL if error.full else StorageTrouble.UNREADABLE
            return self._after_trouble(group, trouble, answers, last=last)
        except Exception as error:  # noqa: BLE001 - a change's own fault is its caller's answer, not ours
            self._somebodys_fault(group, error, answers)
        else:
            self._stored(list(map(Answer, group, results)), answers)
        return 0.0

    def _stored(self, stored: list[Answer], answers: list[Answer]) -> None:
        """Answers of a committed group; durable only if the file is still where it was."""
        if not self._committer.stands():
            self._set_state(WriterState.LOST)
            self._rescued = False
            self._withheld += stored
            return
        if self.state is not WriterState.WRITING:
            self._look_again()
        answers += stored

    def _somebodys_fault(self, group: list[Job], error: Exception, answers: list[Answer]) -> None:
        if len(group) == 1:
            answers.append(Answer(group[0], error=error))
        else:
            self._alone.extend(group)

    def _after_trouble(self, group: list[Job], trouble: StorageTrouble, answers: list[Answer], *, last: bool) -> float:
        """Keep the changes of a group that are worth another try."""
        if self.state is not WriterState.LOST:
            self._set_state(_STATE_OF[trouble])
        if trouble is StorageTrouble.FULL:
            self._committer.release_reserve()
        if last:
            answers += _refused(group, trouble)
            return 0.0
        # A change that goes alone stays alone: there may still be one at fault behind it.
        (self._alone if self._alone else self._waiting).extendleft(reversed(group))
        if trouble is StorageTrouble.FULL:
            # Also those behind: nobody shall wait for a disk while a result before them is being tried.
            answers += self._refuse_ordinary(trouble)
        return RETRY_S if self.kept else 0.0

    def _refuse_ordinary(self, trouble: StorageTrouble) -> list[Answer]:
        """Answer ordinary changes at once as not stored; essential ones are kept."""
        refused = [job for kept in (self._alone, self._waiting) for job in kept if not job.essential]
        if refused:
            self._alone = deque(job for job in self._alone if job.essential)
            self._waiting = deque(job for job in self._waiting if job.essential)
        return _refused(refused, trouble)

    def _look_again(self) -> None:
        """Return to writing after trouble, once the storage takes a transaction and the reserve stands again."""
        try:
            self._committer.commit([_probe])
        except DBAPIError as error:
            self._set_state(_STATE_OF[trouble_of(error)])
            return
        self._set_state(WriterState.WRITING if self._committer.keep_reserve() else WriterState.FULL)

    def _set_state(self, state: WriterState) -> None:
        if state is self.state:
            return
        log.log(logging.INFO if state is WriterState.WRITING else logging.ERROR, "ledger storage is %s", state.value)
        self.state = state
        if state is WriterState.LOST:
            self._rescued = False
        if self._on_state is not None:
            self._on_state(state)


def _probe(tx: Transaction) -> int:
    """Write a counter as a probe: a transaction that writes nothing succeeds on a full disk too."""
    return tx.next_number(PROBE)


def _refused(jobs: Iterable[Job], trouble: StorageTrouble) -> list[Answer]:
    return [Answer(job, error=StorageUnavailable(trouble)) for job in jobs]
