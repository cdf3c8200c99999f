"""`etcgw card watch`: what happens at the card readers, as it happens."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from contextlib import suppress
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

import typer

from gateway.cli.options import JsonOption, now_utc, screen_of
from gateway.cli.screen import BAD, GOOD, QUIET, Screen
from gateway.texts.catalogue import Text, Words

if TYPE_CHECKING:
    from drivers.card_readers import ReaderEvent

EVENTS: Final[Mapping[str, tuple[Text, str]]] = MappingProxyType(
    {
        "service_up": (Words("card-watch.service-up"), GOOD),
        "service_lost": (Words("card-watch.service-lost"), BAD),
        "reader_added": (Words("card-watch.reader-added"), ""),
        "reader_removed": (Words("card-watch.reader-removed"), QUIET),
        "card_in": (Words("card-watch.card-in"), GOOD),
        "card_out": (Words("card-watch.card-out"), QUIET),
    }
)
"""Words and style of an event, by the value of `drivers.card_readers.ReaderEventKind`."""


def watch(context: typer.Context, *, as_json: JsonOption = False) -> None:
    """Tell which readers and cards are there, and then every change, a line each, until Ctrl-C."""
    import asyncio

    from drivers.pcsc import Readers

    screen = screen_of(context)

    async def follow() -> None:
        async with Readers() as readers:
            async for event in readers.events():
                _tell(screen, event, as_json=as_json)

    with suppress(KeyboardInterrupt):
        asyncio.run(follow())


def _tell(screen: Screen, event: ReaderEvent, *, as_json: bool) -> None:
    from gateway.model.clock import to_us

    now_us = to_us(now_utc())
    atr = None if event.atr is None else event.atr.hex().upper()
    if as_json:
        told = {"at": screen.iso(now_us), "event": event.kind.value, "reader": event.reader, "atr": atr}
        screen.json({**told, "cause": event.cause}, in_a_line=True)
    else:
        words, style = EVENTS[event.kind.value]
        parts = (screen.short(now_us), screen.word(words), event.reader, atr, event.cause)
        screen.line("  ".join(part for part in parts if part), style)
    sys.stdout.flush()
