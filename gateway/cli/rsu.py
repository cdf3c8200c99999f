"""`etcgw rsu`: what an antenna and a lane computer say to each other, byte by byte. Works without any device."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from functools import cache, partial
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from gateway.cli import labels
from gateway.cli.errors import CliFault, ExitCode
from gateway.cli.help import Commands
from gateway.cli.options import JsonOption, UnmaskOption, screen_of
from gateway.cli.screen import BAD, GOOD, QUIET, Cell, Heading, Screen
from gateway.cli.usage import BadValue
from gateway.texts.catalogue import Language, Words
from gateway.texts.foreign import text_of
from protocols.masks import STARS
from protocols.rsu.names import PCRSU_V3

if TYPE_CHECKING:
    from gateway.cli.frames import Found, Unread
    from protocols.rsu.describe import FieldDescription, FileDescriber, FrameDescription
    from protocols.rsu.dialect import Dialect

app = Commands(
    "rsu",
    no_args_is_help=True,
)

FRAMES_MAX: Final = 10_000
"""Frames of one call: hours of a lane. A longer capture is better cut."""

INPUT_BYTES_MAX: Final = 16 * 1024 * 1024
"""Bytes of one input: so many frames as lines of a capture take less."""

STATION_BYTES: Final = 43
"""File 0019; one layout pads it to 63 bytes."""

VEHICLE_CLASS_MAX: Final = 0xFF
"""Largest number that a card can hold."""

LOOSE: Final = "tail"
"""Bytes after a frame. They may be anything, the next frame with its card included."""


@app.command()
def decode(
    context: typer.Context,
    *,
    frames: Annotated[
        list[str] | None,
        typer.Argument(metavar="HEX"),
    ] = None,
    file: Annotated[
        Path | None,
        typer.Option("--file", metavar="FILE", show_default=False),
    ] = None,
    dialect: Annotated[str, typer.Option("--dialect")] = PCRSU_V3,
    as_json: JsonOption = False,
    unmask: UnmaskOption = False,
) -> None:
    """Tell what frames say: every field with its place, bytes, value and meaning. Exit 5 when one is damaged.

    Blanks, commas, colons, hyphens and 0x in the hex do not matter; a frame pasted with blanks needs no quotes. Files
    and standard input may be hex lines, a capture of the bench, or raw bytes; blank lines and lines that start with #
    are passed over. Several frames may stand behind each other. A line that is no hex is told, and the next one read;
    exit 2 then.
    """
    from gateway.cli.frames import Found, from_arguments, from_data
    from protocols.rsu.registry import DIALECTS

    screen = screen_of(context)
    if dialect not in DIALECTS:
        raise BadValue(Words("usage.no-dialect", dialect=dialect, names=", ".join(sorted(DIALECTS))), "'--dialect'")
    if frames and file is not None:
        raise BadValue(Words("usage.frames-or-file"), "'--file'")
    speaks = DIALECTS[dialect]
    found = from_arguments(frames, speaks) if frames else from_data(_input(screen, file), speaks)
    shown: list[dict[str, Any]] = []
    unread: list[Unread] = []
    damaged = 0
    for one in found:
        if not isinstance(one, Found):
            unread.append(one)
            if not as_json:
                screen.note(f"{screen.word(one.place)}: {screen.word(one.problem)}")
            continue
        if len(shown) == FRAMES_MAX:
            raise _bad_input(Words("usage.more-frames", most=FRAMES_MAX))
        described = _describe(speaks, one.raw, unmask=unmask)
        damaged += not described.ok
        if not as_json:
            _show_place(screen, one, first=not shown)
            _show(screen, described, unmask=unmask)
        shown.append(_found_facts(one) | _frame_facts(described, unmask=unmask) if as_json else {})
    if not shown and not unread:
        raise _bad_input(Words("usage.no-frame"))
    facts = {
        "ok": not damaged and not unread,
        "frames": shown,
        "unread": [
            {"line": one.line, "argument": one.argument, "offset": one.offset, "text": screen.word(one.problem)}
            for one in unread
        ],
    }
    if unread:
        raise _unread(screen, unread, facts)
    if damaged:
        raise CliFault(
            ExitCode.PROTOCOL,
            "frame_damaged",
            screen.say("rsu.damaged", damaged=damaged, shown=len(shown)),
            facts=facts,
        )
    if as_json:
        screen.json(facts)


@app.command()
def dialects(context: typer.Context, as_json: JsonOption = False) -> None:
    """List the dialects a site file or --dialect can name."""
    from protocols.rsu.registry import DIALECTS

    screen = screen_of(context)
    facts = [
        {
            "name": known.name,
            "title": known.title,
            "layouts": [layout.name for layout in known.layouts],
            "kept_whole": [f"{code:02X}" for code in sorted(known.unmodelled)],
        }
        for known in sorted(DIALECTS.values(), key=lambda known: known.name)
    ]
    if as_json:
        screen.json({"dialects": facts})
        return
    for fact in facts:
        screen.pairs(
            [
                (screen.say("rsu.dialect"), str(fact["name"])),
                (screen.say("label.what-it-is"), _told(screen, str(fact["title"]))),
                (screen.say("rsu.layouts"), " ".join(fact["layouts"])),
                (screen.say("rsu.kept-whole"), " ".join(fact["kept_whole"])),
            ]
        )


# --- input ----------------------------------------------------------------------------------------------------------


def _input(screen: Screen, file: Path | None) -> bytes:
    if file is None and sys.stdin.isatty():
        screen.note(screen.say("rsu.reading-frames-hex-one-line"))
    with nullcontext(sys.stdin.buffer) if file is None else file.open("rb") as stream:
        data = stream.read(INPUT_BYTES_MAX + 1)
    if len(data) > INPUT_BYTES_MAX:
        raise _bad_input(Words("usage.more-bytes", most=INPUT_BYTES_MAX))
    return data


def _bad_input(problem: Words) -> BadValue:
    return BadValue(problem, "'HEX'")


def _unread(screen: Screen, unread: Sequence[Unread], facts: Mapping[str, Any]) -> CliFault:
    """Fault of input that could be read in part, or not at all."""
    first, count = unread[0], len(unread)
    place, problem = screen.word(first.place), screen.word(first.problem)
    return CliFault(
        ExitCode.USAGE,
        "hex_wrong",
        screen.say("rsu.not-read-first", count=count, place=place, problem=problem),
        None,
        Words("rsu.correct-these-lines-others-were"),
        facts=facts,
    )


def _found_facts(found: Found) -> dict[str, Any]:
    return {"line": found.line, "offset": found.offset, "captured": found.captured}


def _show_place(screen: Screen, found: Found, *, first: bool) -> None:
    """A blank line between frames, and the place of a frame that was not alone."""
    if not first:
        screen.line()
    parts = [] if found.line is None else [screen.say("rsu.line", line=found.line)]
    if parts or found.offset:
        parts.append(screen.say("rsu.byte", offset=found.offset))
    parts += (found.captured or {}).values()
    if parts:
        screen.line("  ".join(parts), style=QUIET)


# --- describing -----------------------------------------------------------------------------------------------------


def _describe(dialect: Dialect, raw: bytes, *, unmask: bool) -> FrameDescription:
    """Describe a frame, with the files inside it taken apart as well."""
    from protocols.card import describe_card_file, describe_station
    from protocols.obu import describe_obu_status, describe_vehicle_file
    from protocols.rsu.describe import describe_frame

    files: dict[str, FileDescriber] = {
        "vehicle_file": partial(describe_vehicle_file, unmask=unmask),
        "card_file": partial(describe_card_file, unmask=unmask),
        "station": lambda data: describe_station(data[:STATION_BYTES], unmask=unmask),
    }
    plain = describe_frame(dialect, raw)
    if plain.message == "ObuReport":
        # What the status bits mean depends on the kind of device that the same report names.
        kind = next((f.value for f in plain.fields if f.name == "device_type" and f.value), "1")
        files["status"] = partial(describe_obu_status, device_type=int(kind))
    return describe_frame(dialect, raw, files)


def _frame_facts(frame: FrameDescription, *, unmask: bool) -> dict[str, Any]:
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


def _show(screen: Screen, frame: FrameDescription, *, unmask: bool) -> None:
    say = screen.say
    senders: Mapping[str | None, str] = {
        "lane": say("rsu.lane-antenna"),
        "rsu": say("rsu.antenna-lane"),
    }
    code = "" if frame.code is None else f"{frame.code:02X}"
    length = say("rsu.bytes", raw=len(frame.raw))
    what = [frame.layout or code, frame.message or "", senders.get(frame.sender, ""), length]
    screen.line("  ".join(part for part in what if part), style="bold")
    if frame.source:
        screen.line(say("rsu.layout", source=_told(screen, frame.source)), style=QUIET)
    columns = [
        Heading(say("rsu.at"), right=True),
        Heading(say("rsu.field")),
        Heading(say("rsu.byte-values"), wrap_at=12),
        Heading(screen.word(labels.VALUE), wrap_at=12),
        Heading(screen.word(labels.MEANING), wrap_at=18),
    ]
    screen.table(columns, [row for field in frame.fields for row in _rows(screen, field, "", unmask=unmask)])
    if frame.ok:
        screen.line(say("rsu.frame-order"), style=GOOD)
    for problem in frame.problems:
        screen.line(
            say("rsu.damaged-offset", field=problem.field, offset=problem.offset, text=_told(screen, problem.text)),
            style=BAD,
        )
        if problem.next_step:
            screen.line(f"  {say('program.next')}: {_told(screen, problem.next_step)}")


def _told(screen: Screen, english: str) -> str:
    """Text of a codec, in the language chosen."""
    return english if screen.language is Language.EN else text_of(english, _labels()).told(screen.language)


@cache
def _labels() -> Mapping[str, str]:
    """Chinese of the words of cards and plates, which their tables have in both languages."""
    from protocols.card import codes
    from protocols.plates import PLATE_COLOURS

    tables = (
        PLATE_COLOURS,
        codes.CARD_TYPES,
        codes.TRADE_TYPES,
        codes.PASS_STATUSES,
        codes.USER_TYPES,
        codes.VEHICLE_STATES,
    )
    classes = filter(None, map(codes.vehicle_class_label, range(VEHICLE_CLASS_MAX + 1)))
    return {word.en: word.zh for word in chain(classes, *(table.values() for table in tables))}


def _rows(screen: Screen, field: FieldDescription, parent: str, *, unmask: bool) -> list[list[str | Cell]]:
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
        _told(screen, field.meaning),
    ]
    children = [row for child in field.fields for row in _rows(screen, child, field.name, unmask=unmask)]
    return [own, *children]
