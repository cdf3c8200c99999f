"""`etcgw readers`: the card readers of this machine, and what lies in them."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

import typer

from gateway.cli import words
from gateway.cli.columns import Column, Columns, show_list
from gateway.cli.help import Commands
from gateway.cli.options import JsonOption, screen_of
from gateway.cli.screen import BAD, DOUBTFUL, GOOD, QUIET, Cell, Screen
from gateway.texts.catalogue import Text, Words

if TYPE_CHECKING:
    from drivers.card_readers import ReaderState

app = Commands("readers")


@app.command("readers")
def readers(context: typer.Context, *, as_json: JsonOption = False) -> None:
    """List the card readers, numbered as --reader takes them. Exit 3 with the cure where no card service runs."""
    import asyncio

    from drivers.pcsc import Readers

    async def listed() -> tuple[ReaderState, ...]:
        async with Readers() as found:
            return await found.listed()

    screen = screen_of(context)
    nothing = Words("readers.none")
    show_list(screen, "readers", READER, asyncio.run(listed()), nothing=nothing, as_json=as_json)


def _card_text(screen: Screen, state: ReaderState) -> Cell:
    """State of the slot in a word."""
    if state.mute:
        return Cell(screen.say("readers.mute"), BAD)
    if state.atr is None:
        return Cell(screen.say("readers.empty"), QUIET)
    return Cell(screen.say("readers.in-use"), DOUBTFUL) if state.in_use else Cell(screen.say("readers.card"), GOOD)


def _kind(state: ReaderState) -> str | None:
    from protocols.card.atr import card_kind

    kind = card_kind(state.atr or b"")
    return None if kind is None else kind.value


KINDS: Final[Mapping[str, tuple[Text, str]]] = MappingProxyType(
    {
        "contact": (Words("readers.kind.contact"), ""),
        "contactless": (Words("readers.kind.contactless"), ""),
        "memory": (Words("readers.kind.memory"), DOUBTFUL),
    }
)
"""Words and style of a kind of card, by the value of `protocols.card.atr.CardKind`."""

READER: Final[Columns[ReaderState]] = (
    Column("index", Words("label.number"), right=True),
    Column("name", Words("label.reader")),
    Column("card", of=lambda state: state.atr is not None),
    Column("", Words("label.card"), lambda state: state, text=_card_text),
    Column("kind", Words("label.kind"), _kind, text=words.coded(KINDS)),
    Column("atr", Words("label.atr"), lambda state: None if state.atr is None else state.atr.hex().upper(), rank=1),
    Column("in_use"),
    Column("mute"),
)
