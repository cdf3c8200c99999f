"""Places in files that people hand to us, and what is wrong there."""

from __future__ import annotations

from pathlib import Path

from gateway.texts.catalogue import Pair, Text, Words


def place_in(line: int | None, column: str | None) -> Text:
    """Place by its line and column, as far as either is known."""
    if line is None:
        return Words("place.file") if column is None else Words("place.column", column=column)
    return Words("place.line", line=line) if column is None else Words("place.line-column", line=line, column=column)


def place_of(file: Path, line: int | None, column: str | None) -> Text:
    """Place by its file too."""
    if line is None and column is None:
        return Pair.same(str(file))
    return Words("place.in-file", file=file, place=place_in(line, column))


def wrong(place: Text | str, problem: Text, cure: Text) -> Words:
    """Text about a place: what is wrong there, and what to do."""
    return Words("place.wrong", place=place, problem=problem, cure=cure)
