"""`etcgw card apdu`: commands to a card, byte by byte, with the answers that are expected."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from gateway.cli.card_reader import ReaderOption, WaitOption, on_card
from gateway.cli.errors import CliFault, ExitCode
from gateway.cli.options import JsonOption, screen_of
from gateway.cli.screen import BAD, GOOD, Screen
from gateway.cli.usage import BadValue
from gateway.texts.catalogue import Pair, Words

if TYPE_CHECKING:
    from drivers.card_slot import CardSlot
    from protocols.card.apdu import Response

_EXPECTED: Final = re.compile(r"[0-9A-Fa-fXx]{4}")


@dataclass(frozen=True, slots=True)
class Answered:
    """Command with its answer."""

    command: bytes
    response: Response


def apdu(
    context: typer.Context,
    *,
    commands: Annotated[list[str], typer.Argument(metavar="HEX...")],
    expect: Annotated[str, typer.Option("--expect", metavar="SW")] = "9000",
    follow: Annotated[bool, typer.Option("--follow")] = False,
    reader: ReaderOption = None,
    wait: WaitOption = 0,
    as_json: JsonOption = False,
) -> None:
    """Send commands to a card, just these bytes, one after another. Exit 1 at the first answer that is not expected.

    Whatever the card does with them it does: a command may write, count down a PIN, or move money. Nothing is masked.
    """
    screen = screen_of(context)
    wanted = _expected(expect)
    sent = [_bytes_of(text, number) for number, text in enumerate(commands, start=1)]
    answers = on_card(reader, wait, lambda slot: _exchange(slot, sent, wanted, follow=follow))
    facts = {"exchanges": [_facts(one, wanted) for one in answers]}
    if not as_json:
        for one in answers:
            _show(screen, one, expected=_fits(one.response.sw, wanted))
    last = answers[-1].response
    if not _fits(last.sw, wanted):
        told = Words("card-apdu.unexpected", sw=f"{last.sw:04X}", expected=expect.upper(), number=len(answers))
        raise CliFault(ExitCode.REFUSED, "status_unexpected", told, None, _cure(last.sw), facts=facts)
    if as_json:
        screen.json(facts)


async def _exchange(slot: CardSlot, commands: Sequence[bytes], wanted: str, *, follow: bool) -> list[Answered]:
    """Send until an answer is not the expected one; nobody else comes between."""
    from protocols.card.apdu import Command, Response

    answers: list[Answered] = []
    async with slot.alone():
        for command in commands:
            if follow:
                response = await slot.transmit(Command.decode(command))
            else:
                response = Response.decode(await slot.raw(command))
            answers.append(Answered(command, response))
            if not _fits(response.sw, wanted):
                break
    return answers


def _expected(text: str) -> str:
    """Pattern of a status word, X for any digit."""
    if not _EXPECTED.fullmatch(text):
        raise BadValue(Words("usage.no-status-word", text=text), "'--expect'")
    return text.upper()


def _fits(sw: int, wanted: str) -> bool:
    return all(digit in (told, "X") for told, digit in zip(f"{sw:04X}", wanted, strict=True))


def _bytes_of(text: str, number: int) -> bytes:
    from gateway.cli.frames import HexWrong, bytes_of

    try:
        return bytes_of(text)
    except HexWrong as error:
        raise BadValue(Words("usage.command-wrong", number=number, problem=error.problem), "'HEX'") from error


def _facts(one: Answered, wanted: str) -> dict[str, Any]:
    from protocols.card.apdu import status_text

    meaning = status_text(one.response.sw)
    return {
        "command": one.command.hex().upper(),
        "data": one.response.data.hex().upper(),
        "sw": f"{one.response.sw:04X}",
        "meaning": {"zh": meaning.zh, "en": meaning.en},
        "expected": _fits(one.response.sw, wanted),
    }


def _show(screen: Screen, one: Answered, *, expected: bool) -> None:
    from gateway.cards.contents import status_words

    screen.line(f"> {one.command.hex(' ').upper()}")
    if one.response.data:
        screen.line(f"< {one.response.data.hex(' ').upper()}")
    screen.line(f"< {screen.word(status_words(one.response.sw))}", GOOD if expected else BAD)


def _cure(sw: int) -> Pair:
    from protocols.card.apdu import status_cure

    cure = status_cure(sw)
    return Pair(cure.en, cure.zh)
