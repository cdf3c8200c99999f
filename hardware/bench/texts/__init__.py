"""Texts of the bench, in a catalogue of its own."""

from pathlib import Path
from typing import ClassVar

from gateway.cli.screen import Screen
from gateway.texts import catalogue


class Words(catalogue.Words):
    """A text of the bench's catalogue."""

    __slots__ = ()

    FOLDER: ClassVar[Path] = Path(__file__).parent


def say(screen: Screen, code: str, /, **values: object) -> str:
    """A text of the bench's catalogue in the screen's language."""
    return screen.word(Words(code, **values))
