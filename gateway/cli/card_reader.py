"""Card readers for a command: the options that choose one, and the slot that a command works on."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import TYPE_CHECKING, Annotated, Final, TypeVar

import typer

if TYPE_CHECKING:
    from drivers.card_slot import CardSlot
    from drivers.pcsc import Readers

T = TypeVar("T")

DAY_S: Final = 86_400.0
"""Seconds that a batch waits for its next card: whoever is away for longer begins again."""

ReaderOption = Annotated[str | None, typer.Option("--reader", metavar="READER", show_default=False)]
WaitOption = Annotated[float, typer.Option("--wait", metavar="S", min=0)]


def on_card(reader: str | None, wait_s: float, work: Callable[[CardSlot], Awaitable[T]]) -> T:
    """Do something on the card in a reader."""
    import asyncio

    async def inside() -> T:
        async with slot_of(reader, wait_s) as slot:
            return await work(slot)

    return asyncio.run(inside())


@asynccontextmanager
async def slot_of(reader: str | None, wait_s: float) -> AsyncIterator[CardSlot]:
    """Slot of the card in a reader."""
    async with _readers() as readers, readers.open(reader, wait_s=wait_s) as slot:
        yield slot


@asynccontextmanager
async def cards(reader: str | None) -> AsyncIterator[Callable[[], AbstractAsyncContextManager[CardSlot]]]:
    """Cards as they are laid on a reader, one after another. Raises DeviceUnavailable where there is no such reader."""
    from drivers.card_readers import chosen

    async with _readers() as readers:
        chosen(await readers.listed(), reader)
        yield lambda: readers.open(reader, wait_s=DAY_S)


def _readers() -> Readers:
    from drivers.pcsc import Readers

    return Readers()
