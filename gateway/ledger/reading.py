"""Reads of a running gateway, outside its event loop: a slow one delays no lane.

Theory of operation. A *query* is a function of a connection, on which everything read is of one state of the ledger.
It runs in a thread, and its answer comes back to the loop. What a customer waits for (`look_up`: a few rows by an
index) has a thread of its own, so that no other query (`read`: queues, debts, backlogs) is ever before it.

What was read may be out of date when it arrives. Whoever acts on it does so in a change of the writer, which looks
again; what is compared with it in memory is compared after it has arrived.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import queue
import threading
from abc import ABC, abstractmethod
from asyncio import Future
from collections.abc import Callable
from typing import Any, Final, TypeVar

from sqlalchemy import Connection, Engine

from gateway.ledger.batches import StorageUnavailable
from gateway.ledger.engines import StorageTrouble

WAITING_MAX: Final = 10_000
"""Queries that may wait in front of one thread: a thousand lanes with ten each, as for the writer."""

LOOK_UP_S: Final = 2.0
"""Longest wait for an answer to a customer's query: all the time a visit has."""

STOP_S: Final = 3.0
"""Longest wait for a query under way when the gateway stops: below the time a service manager gives."""

T = TypeVar("T")
Query = Callable[[Connection], T]

log = logging.getLogger(__name__)


class LedgerReader(ABC):
    """Reader that answers queries; the product's has threads, the simulation's has not."""

    @abstractmethod
    def _hand_in(self, query: Query[T], *, urgent: bool) -> Future[T]:
        """Hand in a query; an urgent one does not wait behind those that are not."""

    def read(self, query: Query[T]) -> Future[T]:
        """Answer a query that takes its time. Fails with `StorageUnavailable` where too many wait, DBAPIError."""
        return self._hand_in(query, urgent=False)

    async def look_up(self, query: Query[T]) -> T:
        """Answer a query that a customer waits for. Raises as above, and where it takes too long."""
        try:
            async with asyncio.timeout(LOOK_UP_S):
                return await self._hand_in(query, urgent=True)
        except TimeoutError as error:
            raise StorageUnavailable(StorageTrouble.SLOW) from error


class Reader(LedgerReader):
    """Reader with two daemon threads on the connections of an engine that reads."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._waiting: dict[bool, queue.SimpleQueue[tuple[Query[Any], Future[Any]] | None]] = {}
        self._threads = []
        for urgent in (False, True):
            waiting = self._waiting[urgent] = queue.SimpleQueue()
            name = "ledger-look-ups" if urgent else "ledger-reads"
            self._threads.append(threading.Thread(target=self._run, args=(waiting,), name=name, daemon=True))
        self._stopping = False

    def start(self) -> None:
        """Start both threads."""
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Stop; waiting queries fail with `StorageUnavailable`."""
        self._stopping = True
        for waiting in self._waiting.values():
            waiting.put(None)
        for thread in self._threads:
            thread.join(STOP_S)
            if thread.is_alive():
                log.warning("%s: a query is still under way", thread.name)

    def _hand_in(self, query: Query[T], *, urgent: bool) -> Future[T]:
        future: Future[T] = asyncio.get_running_loop().create_future()
        waiting = self._waiting[urgent]
        if self._stopping or waiting.qsize() >= WAITING_MAX:
            trouble = StorageTrouble.STOPPED if self._stopping else StorageTrouble.CROWDED
            future.set_exception(StorageUnavailable(trouble))
        else:
            waiting.put((query, future))
        return future

    def _run(self, waiting: queue.SimpleQueue[tuple[Query[Any], Future[Any]] | None]) -> None:
        while (job := waiting.get()) is not None:
            query, future = job
            result: Any = None
            error: Exception | None = None
            if self._stopping:
                error = StorageUnavailable(StorageTrouble.STOPPED)
            elif not future.done():  # else nobody waits for it any more
                try:
                    with self._engine.connect() as connection:
                        result = query(connection)
                except Exception as failed:  # noqa: BLE001 - a query's own fault is its caller's answer, not ours
                    error = failed
            # A closed loop has nobody left who could be told.
            with contextlib.suppress(RuntimeError):
                future.get_loop().call_soon_threadsafe(tell, future, result, error)
            del job, query, future, result, error


def tell(future: Future[T], result: T, error: Exception | None) -> None:
    """Tell a query's caller the answer, if it still waits."""
    if future.done():
        return
    if error is None:
        future.set_result(result)
    else:
        future.set_exception(error)
