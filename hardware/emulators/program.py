"""Running of an emulator as a program: its arguments, its ready line, and its end."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import signal
import sys
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


def argument(parse: Callable[[str], T]) -> Callable[[str], T]:
    """`parse` for argparse, which shows the text of no other exception."""

    def checked(text: str) -> T:
        try:
            return parse(text)
        except (ValueError, TypeError) as error:
            raise argparse.ArgumentTypeError(str(error)) from error

    return checked


def say_ready(address: str, control: tuple[str, int]) -> None:
    """Print `ready ADDRESS control HOST:PORT` on stdout, for the program that started it and waits."""
    sys.stdout.write(f"ready {address} control {control[0]}:{control[1]}\n")
    sys.stdout.flush()


def run(name: str, work: Coroutine[Any, Any, None], refused: tuple[type[Exception], ...] = (OSError,)) -> int:
    """Do `work` until SIGTERM or SIGINT. Exit status: 0, or 3 when a port or a file cannot be used, and stderr why."""
    try:
        asyncio.run(_until_signal(work))
    except refused as error:
        sys.stderr.write(f"{name}: {error}\n")
        return 3
    return 0


async def _until_signal(work: Coroutine[Any, Any, None]) -> None:
    task = asyncio.current_task()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        if task is not None:
            loop.add_signal_handler(number, task.cancel)
    with contextlib.suppress(asyncio.CancelledError):
        await work
