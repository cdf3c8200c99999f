"""An event loop whose clock jumps, and the owners of its tasks.

Nothing here waits: when no callback is ready, the time becomes that of the next timer. Callbacks run in the order in
which they were scheduled, so a run depends on nothing but what the program does.
"""

from __future__ import annotations

import asyncio
import contextvars
import math
from collections.abc import Callable, Coroutine, Generator
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar, TypeVarTuple, Unpack

START = datetime(2026, 11, 23, 2, 0, tzinfo=UTC)
"""The wall clock of every simulated site when its time begins."""

PER_SECOND = 1_000_000
"""Moments a second has."""

DROP_TURNS_MAX = 50
"""Turns of the loop that dropped tasks may take to end; nothing they touch waits for anything."""

T = TypeVar("T")
Ts = TypeVarTuple("Ts")


class Deadlock(RuntimeError):
    """Deadlock: all tasks wait and no timer is set, so nothing would ever happen again."""


class _NoSelector:
    """Selector in name only: it stands where a loop keeps the thing that waits for descriptors."""

    def __init__(self, loop: VirtualLoop) -> None:
        self._loop = loop

    def select(self, timeout: float | None) -> list[Any]:
        """Let time pass, because nothing ever becomes ready from outside. Raises Deadlock."""
        if timeout is None:
            raise Deadlock(f"at {self._loop.time():.6f} s everybody waits and no timer is set")
        if timeout > 0:
            self._loop.jump()
        return []


class VirtualLoop(asyncio.BaseEventLoop):
    """Event loop of virtual time. `call_soon_threadsafe` is for callers of the same thread only."""

    def __init__(self) -> None:
        super().__init__()
        self._now = 0.0
        self._selector = _NoSelector(self)
        self.set_task_factory(_owned_task)

    def time(self) -> float:
        """Seconds since the run began."""
        return self._now

    def call_at(
        self,
        when: float,
        callback: Callable[[Unpack[Ts]], object],
        *args: *Ts,
        context: contextvars.Context | None = None,
    ) -> asyncio.TimerHandle:
        """Set a timer as everywhere, on the next whole microsecond.

        The base class calls a timer up to a nanosecond early. Real time has moved on when the callback looks at the
        clock again; here one that waits for the rest of that nanosecond would wait for ever.
        """
        moment = math.ceil(when * PER_SECOND) / PER_SECOND
        if moment <= self._now < when:  # by less than the product can tell
            moment = (round(self._now * PER_SECOND) + 1) / PER_SECOND
        return super().call_at(moment, callback, *args, context=context)

    def jump(self) -> None:
        """Jump to the moment of the next timer."""
        self._now = max(self._now, self._scheduled[0].when())  # type: ignore[attr-defined]

    def _process_events(self, event_list: list[Any]) -> None:
        """Do nothing: nothing comes from outside."""

    def _write_to_self(self) -> None:
        """Do nothing: the loop never sleeps, so nobody has to wake it."""


class SimClock:
    """Clock of the loop's time, and a wall clock somebody may set. `offset` is by how much it has been set so far."""

    boot = "the only start"

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self.offset = timedelta()

    def monotonic(self) -> float:
        """Seconds; the loop's own."""
        return self._loop.time()

    def utcnow(self) -> datetime:
        """Aware UTC."""
        return START + self.offset + timedelta(seconds=self._loop.time())

    async def sleep(self, seconds: float) -> None:
        """Let virtual time pass."""
        await asyncio.sleep(max(0.0, seconds))


class Crew:
    """All tasks begun under one owner, however deep; they can be dropped at once, as a power cut would."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.tasks: dict[asyncio.Task[Any], None] = {}
        self._context = contextvars.copy_context()
        self._context.run(_crew.set, self)

    @property
    def context(self) -> contextvars.Context:
        """Context in which callbacks of this owner run."""
        return self._context

    def call(self, function: Callable[..., T], *args: object) -> T:
        """Call `function` as this owner."""
        return self._context.copy().run(function, *args)

    def start(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Begin a task of this owner."""
        return self.call(asyncio.get_running_loop().create_task, work)

    async def drop(self) -> None:
        """End every task, in the order in which they began. Raises RuntimeError when one does not let go."""
        for _ in range(DROP_TURNS_MAX):
            for task in list(self.tasks):
                task.cancel()
            if not self.tasks:
                return
            await asyncio.sleep(0)
        left = ", ".join(repr(task.get_coro()) for task in self.tasks)
        raise RuntimeError(f"{self.name}: tasks that do not end when cancelled: {left}")


_crew: contextvars.ContextVar[Crew | None] = contextvars.ContextVar("crew", default=None)


def _owned_task(
    loop: asyncio.AbstractEventLoop,
    work: Coroutine[Any, Any, T] | Generator[Any, None, T],
    context: contextvars.Context | None = None,
) -> asyncio.Task[T]:
    task: asyncio.Task[T] = asyncio.Task(work, loop=loop, context=context)
    crew = _crew.get() if context is None else context.get(_crew)
    if crew is not None:
        crew.tasks[task] = None
        task.add_done_callback(crew.tasks.pop)
    return task
