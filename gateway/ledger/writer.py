"""Writer of a box, the only one: every change to the ledger goes through here, many at a time.

Theory of operation. A *change* is a function of a `Transaction`; it reads, decides and writes, and its return value is
the answer. Callers hand changes in and wait. The writer's thread takes whatever waits, has it committed in one database
transaction, and only then answers each caller: what a caller has been told is durable. While one batch commits, the
next one gathers, so the cost of a flush is shared exactly when there is a crowd. What is committed together, tried
again or refused is decided in `gateway.ledger.batches`, which knows no thread.

What one turn of the event loop hands in goes to the thread together, so that callers who were answered together, and
come again together, also share the next commit. The answers of one batch come back together for the same reason.

A change that was handed in cannot be taken back. A caller that stops waiting must look at the answer later.
"""

from __future__ import annotations

import asyncio
import contextlib
import queue
import threading
from asyncio import AbstractEventLoop, Future
from collections.abc import Callable, Iterable
from itertools import groupby
from typing import Any, TypeVar

from gateway.ledger.batches import (
    BATCH_MAX,
    PROBE,
    Answer,
    Batches,
    Committer,
    Job,
    LedgerWriter,
    StorageUnavailable,
    WriterState,
)
from gateway.ledger.engines import StorageTrouble
from gateway.ledger.transaction import Change

__all__ = [
    "BATCH_MAX",
    "PROBE",
    "QUEUE_MAX",
    "Committer",
    "LedgerWriter",
    "StorageUnavailable",
    "Writer",
    "WriterState",
]

QUEUE_MAX = 10_000
"""Most changes under way: a thousand lanes with ten each; beyond it something upstream has lost its bounds."""

PATIENCE_S = 3.0
"""Longest wait of a patient change for another one that takes it along; then it has a commit of its own."""

IDLE_S = 1.0
"""Longest sleep of an idle writer, after which a storage in trouble is looked at again."""

T = TypeVar("T")


class Writer:
    """Writer: the thread that drives `Batches`, and the asyncio side that waits for it."""

    def __init__(self, committer: Committer, on_state: Callable[[WriterState], None] | None = None) -> None:
        self._committer = committer
        self._batches = Batches(committer, on_state)
        self._turn: list[Job] = []
        """Jobs not yet given to the thread: handed in during this turn of the loop, or patient."""
        self._handing_over = False
        self._turn_of: AbstractEventLoop | None = None
        self._turns: queue.SimpleQueue[list[Job]] = queue.SimpleQueue()
        self._lock = threading.Lock()
        """Lock over `_turn`, `_handing_over` and `_under_way`."""
        self._under_way = 0
        self._thread = threading.Thread(target=self._run, name="ledger-writer", daemon=True)
        self._stopping = threading.Event()
        self._ended = False

    @property
    def state(self) -> WriterState:
        """State of the writer by what the storage allows now."""
        return self._batches.state

    @property
    def selling_allowed(self) -> bool:
        """True while a new hold can be expected to become durable at once."""
        return self._batches.state is WriterState.WRITING

    def start(self) -> None:
        """Start to take changes."""
        self._batches.start()
        self._thread.start()

    def stop(self) -> None:
        """Stop: commit what waits. Changes that the storage refuses at that point fail with `StorageUnavailable`.

        Called by the thread that submits, so that nothing comes in between the last look at the queue and the end.
        """
        self._hand_over()
        self._stopping.set()
        self._turns.put([])
        self._thread.join()
        self._ended = True
        self._hand_over()
        left = [Answer(job, error=StorageUnavailable(StorageTrouble.STOPPED)) for job in self._arrived(0.0)]
        self._deliver([*self._batches.stop(), *left])

    def submit(self, change: Change[T], *, essential: bool = False, patient: bool = False) -> Future[T]:
        """Hand a change in; the future has its result once it is durable. A patient one waits for another to go with.

        The future is never cancelled by the writer. Cancelling it does not undo the change: shield it.
        """
        loop = asyncio.get_running_loop()
        future: Future[T] = loop.create_future()
        if self._ended:
            future.set_exception(StorageUnavailable(StorageTrouble.STOPPED))
            return future
        with self._lock:
            if self._under_way >= QUEUE_MAX:
                future.set_exception(StorageUnavailable(StorageTrouble.BUSY))
                return future
            self._under_way += 1
            self._turn.append(Job(change, essential, future))
            # A loop that was closed in between has left its turn here and will not hand it over any more.
            first = not patient and (not self._handing_over or loop is not self._turn_of)
            if first:
                self._handing_over, self._turn_of = True, loop
        if first:
            loop.call_soon(self._hand_over)
        elif patient:
            loop.call_later(PATIENCE_S, self._hand_over)
        return future

    def _hand_over(self) -> None:
        """Hand over to the thread the jobs this turn has gathered."""
        with self._lock:
            turn, self._turn = self._turn, []
            self._handing_over = False
        if turn:
            self._turns.put(turn)

    # --- the thread -----------------------------------------------------------------------------------------------

    def _run(self) -> None:
        with self._committer.connected():
            self._drive()

    def _drive(self) -> None:
        while True:
            last = self._stopping.is_set()
            jobs = self._arrived(0.0 if last or self._batches.kept else IDLE_S)
            if last and not jobs and not self._batches.kept:
                return
            step = self._batches.step(jobs, last=last)
            self._deliver(step.answers)
            if step.pause_s:
                self._stopping.wait(step.pause_s)

    def _arrived(self, timeout_s: float) -> list[Job]:
        """Wait for one turn's changes, then take all that wait with them: bounded by what may be under way."""
        jobs: list[Job] = []
        with contextlib.suppress(queue.Empty):
            jobs += self._turns.get(timeout=timeout_s) if timeout_s else self._turns.get_nowait()
            while True:
                jobs += self._turns.get_nowait()
        return jobs

    def _deliver(self, answers: list[Answer]) -> None:
        """Deliver the answers to the callers, all of one loop in one call."""
        if not answers:
            return
        with self._lock:
            self._under_way -= len(answers)
        for loop, told in groupby(answers, _loop_of):
            # A closed loop has nobody left who could be told.
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(_tell, list(told))


def _loop_of(answer: Answer) -> AbstractEventLoop:
    future: Future[Any] = answer.job.caller
    return future.get_loop()


def _tell(answers: Iterable[Answer]) -> None:
    for answer in answers:
        future: Future[Any] = answer.job.caller
        if future.done():
            continue
        if answer.error is None:
            future.set_result(answer.result)
        else:
            future.set_exception(answer.error)
