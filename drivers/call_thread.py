"""Thread for calls of one device that may block for ever. Its caller waits with a deadline; the call cannot be ended.

Calls are made one after the other, in the order in which they were given, so the answer to an abandoned one reaches
nobody and no later one starts before it. A thread that hangs is a daemon: it keeps no program from ending.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from queue import SimpleQueue
from typing import Any, TypeVar

T = TypeVar("T")

log = logging.getLogger(__name__)


class NotBegun(Exception):
    """The deadline passed before the call was made, and now it never will be: an earlier one is still under way."""


class Overdue(Exception):
    """The deadline passed while the call was under way."""


class CallThread:
    """One daemon thread that makes calls for an event loop."""

    def __init__(self, name: str, on_change: Callable[[], None] = lambda: None) -> None:
        """`on_change` is called on the running loop when a call has come back late, and at the end of the thread."""
        self.name = name
        self.overdue: str | None = None
        """Kind of the call that should have come back long ago, while it has not."""
        self.ended = asyncio.Event()
        self._on_change = on_change
        self._loop = asyncio.get_running_loop()
        self._calls: SimpleQueue[tuple[Future[Any], Callable[[], Any]] | None] = SimpleQueue()
        self._under_way = ""
        threading.Thread(target=self._run, name=name, daemon=True).start()

    async def call(self, work: Callable[[], T], within_s: float, kind: str = "call") -> T:
        """Result of `work` in the thread. Raises what it raises, `NotBegun` or `Overdue`."""
        given = self._give(work, kind)
        answer = asyncio.wrap_future(given)
        try:
            await asyncio.wait({answer}, timeout=within_s)
            if given.cancel():
                self.overdue = self._under_way
                raise NotBegun
            if not given.done():
                self.overdue = kind
                raise Overdue
            return given.result()
        except asyncio.CancelledError:
            if not given.cancel():
                log.warning("%s: a %s was given up while it was under way; its outcome is unknown", self.name, kind)
            raise
        finally:
            if not answer.cancel():
                answer.exception()  # seen: nobody is told of it again

    async def end(self, last: Callable[[], None], within_s: float) -> None:
        """Let the thread end after a `last` call that does not fail. A thread that hangs ends whenever it can."""
        self._give(last, "end")
        self._calls.put(None)
        try:
            async with asyncio.timeout(within_s):
                await self.ended.wait()
        except TimeoutError:
            self.overdue = self._under_way

    def give(self, work: Callable[[], None], kind: str = "call") -> None:
        """Let `work`, which does not fail, be done without waiting for it."""
        self._give(work, kind)

    def _give(self, work: Callable[[], T], kind: str) -> Future[T]:
        given: Future[T] = Future()

        def begin() -> T:
            self._under_way = kind
            return work()

        self._calls.put((given, begin))
        return given

    def _run(self) -> None:
        while (given := self._calls.get()) is not None:
            answer, work = given
            if answer.set_running_or_notify_cancel():
                try:
                    answer.set_result(work())
                except Exception as error:  # noqa: BLE001 - whoever waits for the call gets it
                    answer.set_exception(error)
                self._post(self._back)
        self._post(self._end)

    def _post(self, told: Callable[[], None]) -> None:
        with suppress(RuntimeError):  # the loop is closed: nobody is left to be told
            self._loop.call_soon_threadsafe(told)

    def _back(self) -> None:
        if self.overdue is not None:
            self.overdue = None
            self._on_change()

    def _end(self) -> None:
        self.overdue = None
        self.ended.set()
        self._on_change()
