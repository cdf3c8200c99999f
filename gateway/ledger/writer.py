"""The one writer of a box: every change to the ledger goes through here, many at a time.

Theory of operation. A *change* is a function of a `Transaction`; it reads, decides and writes, and its return value is
the answer. Callers hand changes in and wait. The writer takes whatever waits (up to `BATCH_MAX`), runs all of them in
one database transaction, commits once, and only then answers each caller: what a caller has been told is durable.
While one batch commits, the next one gathers, so the cost of a flush is shared exactly when there is a crowd.

A change may run more than once: when one change of a batch fails, the whole batch is rolled back and its changes run
again one by one, so that a bad one harms nobody else. Changes therefore touch nothing but the transaction.

A change that was handed in cannot be taken back. A caller that stops waiting must look at the answer later.

Trouble with the storage:
- busy (another process holds the database): the batch is kept and tried again; callers watch their own deadlines.
- full: ordinary changes fail at once with `StorageUnavailable`, until the reserve stands again: what little room there
  is belongs to the changes marked `essential` (results of purchases that already happened). Those release the reserve
  file, whose blocks they then live on, and are tried until they succeed.
- anything else that is not the change's own fault: as busy, until it passes or the process is stopped.
`state` says which; no new sale should start unless it is `WRITING`.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import queue
import threading
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy import Engine
from sqlalchemy.exc import DBAPIError, IntegrityError

from gateway.ledger.database import StorageTrouble, trouble_of
from gateway.ledger.transaction import Change, Transaction

QUEUE_MAX = 10_000
"""Changes that may wait: a thousand lanes with ten each; beyond it something upstream has lost its bounds."""

BATCH_MAX = 500
"""Changes in one commit: the gain of larger groups has flattened here, and the first caller is still waiting."""

RETRY_S = 0.05
"""Pause between two tries of a batch that the storage refused."""

IDLE_S = 1.0
"""Longest sleep of an idle writer, after which a storage in trouble is looked at again."""

PROBE = "storage_probe"
"""Counter that is written to find out whether the storage takes writes again."""

RESERVE_BYTES = 8 << 20
"""Kept aside for results when the disk fills up: thousands of purchase results with their index pages."""

FREE_MIN_BYTES = 32 << 20
"""Selling starts again only with this much free besides the reserve."""

T = TypeVar("T")
log = logging.getLogger(__name__)


class StorageUnavailable(Exception):
    """The change was not stored and never will be; nothing about it is durable."""

    def __init__(self, trouble: StorageTrouble) -> None:
        self.trouble = trouble
        super().__init__(trouble.value)


class WriterState(Enum):
    """What the writer can do now."""

    WRITING = "writing"
    BUSY = "busy"
    FULL = "full"
    UNREADABLE = "unreadable"
    STOPPED = "stopped"


_STATE_OF = {
    StorageTrouble.BUSY: WriterState.BUSY,
    StorageTrouble.FULL: WriterState.FULL,
    StorageTrouble.UNREADABLE: WriterState.UNREADABLE,
    StorageTrouble.OTHER: WriterState.UNREADABLE,
}


@dataclass(slots=True)
class _Job:
    change: Change[Any]
    essential: bool
    answer: Callable[[Any, BaseException | None], None]


class Committer:
    """Runs batches of changes against the database. No thread of its own: a thread or a simulation drives it."""

    def __init__(self, engine: Engine, now_us: Callable[[], int], reserve: Path | None = None) -> None:
        self._engine = engine
        self._now_us = now_us
        self._reserve = reserve

    def commit(self, changes: list[Change[Any]]) -> list[Any]:
        """One transaction for all: the results in order, durable; or an error and nothing of it stored."""
        with self._engine.begin() as connection:
            transaction = Transaction(connection, self._now_us())
            results = [change(transaction) for change in changes]
            transaction.finish()
        return results

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


class Writer:
    """The thread that feeds a `Committer`, and the asyncio side that waits for it."""

    def __init__(self, committer: Committer, on_state: Callable[[WriterState], None] | None = None) -> None:
        self._committer = committer
        self._on_state = on_state
        self._queue: queue.Queue[_Job | None] = queue.Queue(QUEUE_MAX)
        self._thread = threading.Thread(target=self._run, name="ledger-writer", daemon=True)
        self._stopping = threading.Event()
        self._ended = False
        self.state = WriterState.STOPPED

    def start(self) -> None:
        """Begin taking changes."""
        self._set_state(WriterState.WRITING if self._committer.keep_reserve() else WriterState.FULL)
        self._thread.start()

    def stop(self) -> None:
        """Commit what waits, then end. What the storage refuses at that point fails with `StorageUnavailable`.

        Called by the thread that submits, so that nothing comes in between the last look at the queue and the end.
        """
        self._stopping.set()
        with contextlib.suppress(queue.Full):
            self._queue.put_nowait(None)
        self._thread.join()
        self._ended = True
        self.state = WriterState.STOPPED
        for job in self._waiting():
            job.answer(None, StorageUnavailable(StorageTrouble.STOPPED))

    @property
    def selling_allowed(self) -> bool:
        """True while a new hold can be expected to become durable at once."""
        return self.state is WriterState.WRITING

    def submit(self, change: Change[T], *, essential: bool = False) -> asyncio.Future[T]:
        """Hand a change in; the future has its result once it is durable.

        The future is never cancelled by the writer. Cancelling it does not undo the change: shield it.
        """
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()

        def answer(result: T, error: BaseException | None) -> None:
            def deliver() -> None:
                if future.done():
                    return
                if error is None:
                    future.set_result(result)
                else:
                    future.set_exception(error)

            # A closed loop has nobody left who could be told.
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(deliver)

        if self._ended:
            future.set_exception(StorageUnavailable(StorageTrouble.STOPPED))
            return future
        try:
            self._queue.put_nowait(_Job(change, essential, answer))
        except queue.Full:
            future.set_exception(StorageUnavailable(StorageTrouble.BUSY))
        return future

    # --- the thread -----------------------------------------------------------------------------------------------

    def _run(self) -> None:
        while True:
            batch = self._gather()
            if self.state is WriterState.FULL:
                batch = _essential(batch, StorageTrouble.FULL)
            if batch:
                self._commit(batch)
            elif self._stopping.is_set():
                return
            elif self.state is not WriterState.WRITING:
                self._look_again()

    def _gather(self) -> list[_Job]:
        """Wait for one change, then take all that wait with it."""
        batch: list[_Job] = []
        try:
            job = self._queue.get(timeout=0.0 if self._stopping.is_set() else IDLE_S)
            while job is not None:
                batch.append(job)
                if len(batch) >= BATCH_MAX:
                    break
                job = self._queue.get_nowait()
        except queue.Empty:
            pass
        return batch

    def _waiting(self) -> list[_Job]:
        """Take all that wait, without waiting for more. At most the queue's own maximum."""
        found: list[_Job] = []
        for _ in range(QUEUE_MAX):
            try:
                job = self._queue.get_nowait()
            except queue.Empty:
                break
            if job is not None:
                found.append(job)
        return found

    def _commit(self, batch: list[_Job]) -> None:
        while batch:
            try:
                results = self._committer.commit([job.change for job in batch])
            except IntegrityError as error:
                self._one_by_one(batch, error)
                return
            except DBAPIError as error:
                batch = self._after_trouble(batch, error)
            except Exception as error:  # noqa: BLE001 - a change's own fault is its caller's answer, not ours
                self._one_by_one(batch, error)
                return
            else:
                if self.state is not WriterState.WRITING:
                    self._look_again()
                for job, result in zip(batch, results, strict=True):
                    job.answer(result, None)
                return

    def _one_by_one(self, batch: list[_Job], error: BaseException) -> None:
        if len(batch) == 1:
            batch[0].answer(None, error)
            return
        for job in batch:
            self._commit([job])

    def _after_trouble(self, batch: list[_Job], error: DBAPIError) -> list[_Job]:
        """What of the batch is worth another try."""
        trouble = trouble_of(error)
        if trouble is StorageTrouble.OTHER and len(batch) > 1:
            self._one_by_one(batch, error)
            return []
        if trouble is StorageTrouble.OTHER:
            batch[0].answer(None, error)
            return []
        self._set_state(_STATE_OF[trouble])
        if trouble is StorageTrouble.FULL:
            self._committer.release_reserve()
            # Also those behind: nobody shall wait for a disk while a result before them is being tried.
            batch = _essential([*batch, *self._waiting()], trouble)
        if self._stopping.is_set():
            for job in batch:
                job.answer(None, StorageUnavailable(trouble))
            return []
        if batch:
            self._stopping.wait(RETRY_S)
        return batch

    def _look_again(self) -> None:
        """After trouble: back to writing once the storage takes a transaction and the reserve stands again."""
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
        if self._on_state is not None:
            self._on_state(state)


def _probe(tx: Transaction) -> int:
    """A change that writes: a transaction that writes nothing succeeds on a full disk too."""
    return tx.next_number(PROBE)


def _essential(jobs: list[_Job], trouble: StorageTrouble) -> list[_Job]:
    """The jobs that must be stored whatever it takes; the others are told at once that they are not."""
    for job in jobs:
        if not job.essential:
            job.answer(None, StorageUnavailable(trouble))
    return [job for job in jobs if job.essential]
