"""Workers: processes that read one state of a ledger side by side, for checks that keep a core busy.

Theory of operation. `reading` opens the ledger here and in a process for each core, and lets all of them begin until
the journal's head is the same for all: whatever changes what is checked goes with a row of the journal, so they all see
one state, whoever writes meanwhile. A *task* is a function of a connection that stands in a module. Workers take tasks
in the order in which they were handed in; whoever handed one in asks for its answer when it wants it.

Where there is one core, little to read, or a writer too quick to be met at one state, tasks run here when their answer
is asked for. So does a task that failed in a worker: what is wrong is told by the very error it would have here.

A worker lives no longer than this process: it ends as soon as nobody holds the other end of its link.
"""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection as Link
from multiprocessing.connection import wait
from pathlib import Path
from queue import SimpleQueue
from typing import Any, Final

from sqlalchemy import Connection, Engine

from gateway.ledger import engines
from gateway.ledger.life import journal_head
from gateway.texts.catalogue import Words

WORKERS_MAX: Final = 4
"""Most workers: they share one disk, and each has a cache."""

TRIES_MAX: Final = 50
"""Tries to begin at one state; one fails when a commit falls between the first and the last to begin."""

STOP_S: Final = 10.0
"""Longest wait for a killed worker: it holds nothing that could keep it."""


class WorkerLost(Exception):
    """Worker that ended before its work was done."""

    def __init__(self, status: int) -> None:
        self.status = status
        killed = status < 0
        how = (
            Words("ledger-file.worker-killed", signal=-status)
            if killed
            else Words("ledger-file.worker-status", status=status)
        )
        super().__init__(Words("ledger-file.worker-lost", how=how))


@dataclass(slots=True, eq=False)
class Task:
    """Task that was handed in; `answer` and `failed` once it is done."""

    function: Callable[..., Any]
    arguments: tuple[Any, ...]
    done: bool = False
    failed: bool = False
    answer: Any = None


def cores() -> int:
    """Number of workers that this machine has cores for."""
    return min(WORKERS_MAX, len(os.sched_getaffinity(0)))


@contextlib.contextmanager
def reading(engine: Engine, number: int) -> Iterator[Readers]:
    """Open the ledger of an engine at one state, here and in so many workers; no worker where it is fewer than two."""
    with engine.connect() as connection, contextlib.ExitStack() as stack:
        workers: list[_Worker] = []
        if number > 1:
            path = engines.path_of(connection)
            workers += (stack.enter_context(_Worker(path)) for _ in range(number))
        yield Readers(connection, workers if _at_one_state(connection, workers) else [])


class Readers:
    """Readers of one state of the ledger: this process, whose `connection` it is, and its workers."""

    def __init__(self, connection: Connection, workers: list[_Worker]) -> None:
        self.connection = connection
        self._idle = workers
        self._busy: dict[object, tuple[_Worker, Task]] = {}
        self._waiting: deque[Task] = deque()
        self.number = max(1, len(workers))
        """Number of processes that tasks are shared by."""

    def submit(self, function: Callable[..., Any], *arguments: Any) -> Task:  # noqa: ANN401 - whatever it takes
        """Hand in `function(connection, *arguments)`."""
        task = Task(function, arguments)
        self._waiting.append(task)
        self._give_out()
        return task

    def answer(self, task: Task) -> Any:  # noqa: ANN401 - whatever the function returns
        """Answer of a task; raises what the function raises. Raises `WorkerLost`."""
        while self._busy and not task.done:
            for link in wait([worker.link for worker, _ in self._busy.values()]):
                worker, finished = self._busy.pop(link)
                finished.failed, finished.answer = worker.receive()
                finished.done = True
                self._idle.append(worker)
            self._give_out()
        if not task.done:
            self._waiting.remove(task)
        if not task.done or task.failed:
            return task.function(self.connection, *task.arguments)
        return task.answer

    def _give_out(self) -> None:
        while self._idle and self._waiting:
            worker, task = self._idle.pop(), self._waiting.popleft()
            worker.send((task.function, task.arguments))
            self._busy[worker.link] = worker, task


def _at_one_state(connection: Connection, workers: list[_Worker]) -> bool:
    """Begin everywhere until all see the same state; False when that cannot be had."""
    for _ in range(TRIES_MAX):
        connection.rollback()
        for worker in workers:
            worker.send(None)
        heads = {journal_head(connection), *(worker.receive() for worker in workers)}
        if len(heads) == 1:
            return True
    return False


class _Worker:
    """Worker process, seen from here; killed when it is left."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __enter__(self) -> _Worker:
        ours, theirs = socket.socketpair()
        with theirs:
            self._process = subprocess.Popen(  # noqa: S603 - ourselves
                [sys.executable, "-P", "-m", __name__, str(theirs.fileno()), str(self._path)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                pass_fds=(theirs.fileno(),),
                process_group=0,  # Ctrl-C is for us: it ends with us
            )
        self.link = Link(ours.detach())
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait(STOP_S)
        self.link.close()

    def send(self, message: object) -> None:
        """Send a message. Raises `WorkerLost`."""
        with self._told():
            self.link.send(message)

    def receive(self) -> Any:  # noqa: ANN401 - whatever a task returns
        """Receive the answer. Raises `WorkerLost`."""
        with self._told():
            return self.link.recv()

    @contextlib.contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except (EOFError, OSError) as error:
            raise WorkerLost(self._process.wait(STOP_S)) from error


# --- the worker -------------------------------------------------------------------------------------------------------


def _work(link: Link, path: Path) -> None:
    """Begin and do tasks, as they come."""
    messages: SimpleQueue[Any] = SimpleQueue()
    threading.Thread(target=_listen, args=(link, messages), daemon=True).start()
    with engines.open_reader(path).connect() as connection:
        while True:
            message = messages.get()
            if message is None:
                connection.rollback()
                link.send(journal_head(connection))
            else:
                link.send(_result(connection, *message))


def _listen(link: Link, messages: SimpleQueue[Any]) -> None:
    """Take messages until the other end is gone, however it went; then nobody wants what is being done."""
    with contextlib.suppress(EOFError, OSError):
        while True:
            messages.put(link.recv())
    os._exit(0)


def _result(connection: Connection, function: Callable[..., Any], arguments: tuple[Any, ...]) -> tuple[bool, Any]:
    try:
        return False, function(connection, *arguments)
    except Exception:  # noqa: BLE001 - it is raised where it is asked for, which does it again
        return True, None


if __name__ == "__main__":
    _work(Link(int(sys.argv[1])), Path(sys.argv[2]))
