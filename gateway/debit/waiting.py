"""Waiting for the ledger's writer with a time limit, and follow-up of changes that nobody waits for any more.

A change that was handed in cannot be taken back. Whoever gives up waiting for it (`within`), or was cancelled, leaves
it to the follow-ups: it ends, and what must be done about its end is done.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

T = TypeVar("T")
log = logging.getLogger(__name__)


class StorageLate(Exception):
    """Storage too late: the change was handed in, not durable in time and followed up; the caller gives up."""


class FollowUps:
    """Changes and work under way that end although nobody may wait for them."""

    def __init__(self) -> None:
        self.under_way: set[asyncio.Future[Any]] = set()
        """Changes and work under way, kept here from being collected."""

    async def see_through(self, work: Coroutine[Any, Any, T]) -> T:
        """Run to the end even when nobody waits any more: a claim that was stored must be decided."""
        task = asyncio.get_running_loop().create_task(work)
        self.under_way.add(task)
        task.add_done_callback(self.under_way.discard)
        return await asyncio.shield(task)

    def follow(self, future: asyncio.Future[T], then: Callable[[T], None] | None) -> None:
        """Follow a change to its end that nobody waits for any more."""

        def done(finished: asyncio.Future[T]) -> None:
            self.under_way.discard(finished)
            if finished.cancelled():
                return
            error = finished.exception()
            if error is not None:
                log.error("a followed-up change was not stored: %s", error)
            elif then is not None:
                then(finished.result())

        self.under_way.add(future)
        future.add_done_callback(done)


async def within(future: asyncio.Future[T], timeout_s: float) -> T:
    """Wait for a limited time; `TimeoutError` then. The future goes on whatever becomes of the caller.

    As `wait_for` of a shielded future, at half the price: every durable answer is waited for here.
    """
    loop = asyncio.get_running_loop()
    waiter: asyncio.Future[None] = loop.create_future()

    def wake(_: object) -> None:
        if not waiter.done():
            waiter.set_result(None)

    future.add_done_callback(wake)
    timer = loop.call_later(timeout_s, wake, None)
    try:
        await waiter
    except asyncio.CancelledError:
        future.add_done_callback(_forget)
        raise
    finally:
        timer.cancel()
        future.remove_done_callback(wake)
    if not future.done():
        raise TimeoutError
    return future.result()


def _forget(future: asyncio.Future[Any]) -> None:
    """Drop the error of a change whose caller was cancelled."""
    if not future.cancelled():
        future.exception()
