"""Frames taken apart, for people and programs, whatever protocol they are of: fields with place, bytes, value, meaning.

Bytes that could give a vehicle, a tag or a card away are hidden unless somebody asks for them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final

from gateway.cli import labels
from gateway.cli.screen import BAD, GOOD, QUIET, Cell, Heading, Screen
from gateway.texts.catalogue import Language
from gateway.texts.foreign import NO_LABELS, text_of
from protocols.masks import STARS

if TYPE_CHECKING:
    from protocols.description import FieldDescription, FrameDescription

LOOSE: Final = "tail"
"""Bytes after a frame. They may be anything, the next frame with its card included."""

Labels = Callable[[], Mapping[str, str]]
"""Gives the Chinese of words of a protocol's own tables, when it is needed."""


def no_labels() -> Mapping[str, str]:
    """No words of a table."""
    return NO_LABELS


def frame_facts(frame: FrameDescription, *, unmask: bool) -> dict[str, Any]:
    """JSON of a frame."""
    facts = frame.as_dict()
    if not unmask:
        facts["raw"] = None
        facts["fields"] = [_masked_facts(field, inside_file=False) for field in frame.fields]
    return {"length": len(frame.raw), **facts}


def _masked_facts(field: FieldDescription, *, inside_file: bool) -> dict[str, object]:
    hidden = _hides(field)
    facts = field.as_dict()
    facts["raw"] = None if hidden else field.raw.hex()
    facts["value"] = _value_shown(field, unmask=False, inside_file=inside_file)
    facts["fields"] = [_masked_facts(child, inside_file=field.private) for child in field.fields]
    return facts


def _hides(field: FieldDescription) -> bool:
    """True when bytes of this field could give a vehicle, a tag or a card away."""
    return field.private or field.name == LOOSE


def _value_shown(field: FieldDescription, *, unmask: bool, inside_file: bool) -> str:
    """The value as far as it may be shown. Values inside a file come masked from whoever described it."""
    if unmask or inside_file or field.name == LOOSE:
        return field.value
    return field.privacy.masked(field.value) if field.value else ""


def show_frame(screen: Screen, frame: FrameDescription, labels_of: Labels = no_labels, *, unmask: bool) -> None:
    """A frame for people: a line of what it is, its fields, and what is wrong with it."""
    say = screen.say
    senders: Mapping[str | None, str] = {
        "lane": say("rsu.lane-antenna"),
        "rsu": say("rsu.antenna-lane"),
        "controller": say("pump.from-controller"),
        "pump": say("pump.from-pump"),
    }
    code = "" if frame.code is None else f"{frame.code:02X}"
    length = say("rsu.bytes", raw=len(frame.raw))
    what = [frame.layout or code, frame.message or "", senders.get(frame.sender, ""), length]
    screen.line("  ".join(part for part in what if part), style="bold")
    if frame.source:
        screen.line(say("rsu.layout", source=told(screen, labels_of, frame.source)), style=QUIET)
    columns = [
        Heading(say("rsu.at"), right=True),
        Heading(say("rsu.field")),
        Heading(say("rsu.byte-values"), wrap_at=12),
        Heading(screen.word(labels.VALUE), wrap_at=12),
        Heading(screen.word(labels.MEANING), wrap_at=18),
    ]
    screen.table(columns, [row for field in frame.fields for row in _rows(screen, labels_of, field, "", unmask=unmask)])
    if frame.ok:
        screen.line(say("rsu.frame-order"), style=GOOD)
    for problem in frame.problems:
        screen.line(
            say(
                "rsu.damaged-offset",
                field=problem.field,
                offset=problem.offset,
                text=told(screen, labels_of, problem.text),
            ),
            style=BAD,
        )
        if problem.next_step:
            screen.line(f"  {say('program.next')}: {told(screen, labels_of, problem.next_step)}")


def told(screen: Screen, labels_of: Labels, english: str) -> str:
    """Text of a codec, in the language chosen."""
    return english if screen.language is Language.EN else text_of(english, labels_of()).told(screen.language)


def _meaning(screen: Screen, labels_of: Labels, field: FieldDescription) -> str:
    """Meaning of a field: in Chinese by the codec itself, where it has it."""
    chinese = field.zh if screen.language is Language.ZH else ""
    return chinese or told(screen, labels_of, field.meaning)


def _rows(
    screen: Screen, labels_of: Labels, field: FieldDescription, parent: str, *, unmask: bool
) -> list[list[str | Cell]]:
    """A field and what is inside it, indented."""
    inside = bool(parent)
    name = field.name.removeprefix(f"{parent}.")
    value = _value_shown(field, unmask=unmask, inside_file=inside)
    if field.fields:
        shown = screen.say("rsu.bytes", raw=len(field.raw))
        value = ""
    elif _hides(field) and not unmask:
        shown = STARS
    else:
        shown = field.raw.hex(" ")
        if value.lower() == field.raw.hex():
            value = ""  # The bytes say it already.
    own: list[str | Cell] = [
        str(field.offset),
        Cell(f"{'  ' if inside else ''}{name}", BAD if field.problem else ""),
        Cell(shown, QUIET),
        value,
        _meaning(screen, labels_of, field),
    ]
    children = [row for child in field.fields for row in _rows(screen, labels_of, child, field.name, unmask=unmask)]
    return [own, *children]
