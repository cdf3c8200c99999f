"""`etcgw rsu`: what an antenna and a lane computer say to each other, byte by byte. Works without any device."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from gateway.cli.described import frame_facts, show_frame, told
from gateway.cli.errors import CliFault, ExitCode
from gateway.cli.help import Commands
from gateway.cli.options import JsonOption, UnmaskOption, screen_of
from gateway.cli.screen import QUIET, Screen
from gateway.cli.usage import BadValue
from gateway.texts.catalogue import Words
from protocols.rsu.names import PCRSU_V3

if TYPE_CHECKING:
    from gateway.cli.frames import Found, Unread
    from protocols.rsu.describe import FileDescriber, FrameDescription
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
            show_frame(screen, described, _labels, unmask=unmask)
        shown.append(_found_facts(one) | frame_facts(described, unmask=unmask) if as_json else {})
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
                (screen.say("label.what-it-is"), told(screen, _labels, str(fact["title"]))),
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
    from protocols.obu import describe_obu_status, describe_route_file, describe_vehicle_file
    from protocols.obu.commands import ROUTE_BYTES
    from protocols.rsu.describe import describe_frame

    files: dict[str, FileDescriber] = {
        "vehicle_file": partial(describe_vehicle_file, unmask=unmask),
        "card_file": partial(describe_card_file, unmask=unmask),
        "station": lambda data: describe_station(data[:STATION_BYTES], unmask=unmask),
    }
    plain = describe_frame(dialect, raw)
    if any(field.name == "ef04" and len(field.raw) == ROUTE_BYTES for field in plain.fields):
        files["ef04"] = partial(describe_route_file, unmask=unmask)
    if plain.message == "ObuReport":
        # What the status bits mean depends on the kind of device that the same report names.
        kind = next((f.value for f in plain.fields if f.name == "device_type" and f.value), "1")
        files["status"] = partial(describe_obu_status, device_type=int(kind))
    return describe_frame(dialect, raw, files)


def _labels() -> Mapping[str, str]:
    """Chinese of the words of cards and plates."""
    from gateway.cli.card_words import labels

    return labels()
