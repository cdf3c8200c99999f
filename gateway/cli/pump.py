"""`etcgw pump`: what a pump and its controller say to each other, byte by byte. Works without any device."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from typing import Annotated, Any, Final

import typer

from gateway.cli.described import frame_facts, show_frame
from gateway.cli.errors import CliFault, ExitCode
from gateway.cli.help import Commands
from gateway.cli.options import JsonOption, screen_of
from gateway.cli.usage import BadValue
from gateway.texts.catalogue import Words

app = Commands("pump", no_args_is_help=True)

PIECE_DIGITS_MAX: Final = 4
"""Arguments that are all this short are pieces of one message, pasted with blanks."""


class Speaker(StrEnum):
    """End of a line that said a message: the bytes of the two cannot be told apart."""

    PUMP = "pump"
    CONTROLLER = "controller"


@app.callback()
def pump() -> None:
    """Fuel pumps: take apart what they say."""


@app.command()
def decode(
    context: typer.Context,
    *,
    frames: Annotated[list[str], typer.Argument(metavar="HEX", show_default=False)],
    dialect: Annotated[str, typer.Option("--dialect", metavar="NAME")] = "wayne-dart",
    speaker: Annotated[Speaker, typer.Option("--from")] = Speaker.PUMP,
    as_json: JsonOption = False,
) -> None:
    """Tell what messages say: every field with its place, bytes, value and meaning. Exit 5 when one is damaged."""
    from protocols.pump.dart.layout import Sender
    from protocols.pump.describe import DESCRIBERS

    screen = screen_of(context)
    if dialect not in DESCRIBERS:
        raise BadValue(Words("usage.no-dialect", dialect=dialect, names=", ".join(sorted(DESCRIBERS))), "'--dialect'")
    damaged = 0
    told: list[dict[str, Any]] = []
    for number, raw in enumerate(_messages(frames)):
        described = DESCRIBERS[dialect](raw, Sender(speaker.value))
        damaged += not described.ok
        if as_json:
            told.append(frame_facts(described, unmask=True))
            continue
        if number:
            screen.line()
        show_frame(screen, described, unmask=True)
    facts = {"ok": not damaged, "frames": told}
    if damaged:
        text = screen.say("rsu.damaged", damaged=damaged, shown=number + 1)
        raise CliFault(ExitCode.PROTOCOL, "frame_damaged", text, facts=facts)
    if as_json:
        screen.json(facts)


def _messages(texts: Sequence[str]) -> list[bytes]:
    """Bytes of the arguments: one message each, or all of them pieces of one."""
    from gateway.cli.frames import HexWrong, bytes_of

    if all(len(text) <= PIECE_DIGITS_MAX for text in texts):
        texts = [" ".join(texts)]
    try:
        return [bytes_of(text) for text in texts]
    except HexWrong as error:
        raise BadValue(error.problem, "'HEX'") from error
