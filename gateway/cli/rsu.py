"""`etcgw rsu`: what an antenna and a lane computer say to each other, byte by byte. Works without any device."""

from __future__ import annotations

import string
import sys
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from gateway.cli import labels
from gateway.cli.errors import ExitCode
from gateway.cli.options import HELP_NAMES, JsonOption, UnmaskOption, screen_of
from gateway.cli.screen import BAD, GOOD, QUIET, Cell, Heading, Screen
from protocols.masks import STARS

if TYPE_CHECKING:
    from protocols.rsu.describe import FieldDescription, FileDescriber, FrameDescription
    from protocols.rsu.dialect import Dialect

app = typer.Typer(
    name="rsu",
    help="Roadside antennas: decode frames, list dialects.",
    no_args_is_help=True,
    context_settings=HELP_NAMES,
)

FRAMES_MAX: Final = 10_000
"""Frames of one call: hours of a lane. A longer capture is better cut."""

LINE_MAX: Final = 64 * 1024
"""Characters of one line: many times the longest frame of any dialect."""

PIECE_DIGITS_MAX: Final = 16
"""Arguments that are all this short are pieces of one frame, unless each could be one: serial dialects have frames as
short as this."""

FRAME_DIGITS_MIN: Final = 8
"""An empty acknowledgement of the shortest dialect: start mark, control byte, check byte, end mark."""

START_MARK: Final = "ff"
"""Every dialect's frames begin with it, once or twice."""

STATION_BYTES: Final = 43
"""File 0019; one layout pads it to 63 bytes."""

LOOSE: Final = "tail"
"""Bytes after a frame. They may be anything, the next frame with its card included."""


@app.command()
def decode(
    context: typer.Context,
    *,
    frames: Annotated[
        list[str] | None,
        typer.Argument(metavar="HEX", help="Frames in hex; without, one frame a line from standard input."),
    ] = None,
    dialect: Annotated[str, typer.Option("--dialect", help="How the antenna talks; see `rsu dialects`.")] = "pcrsu-v3",
    as_json: JsonOption = False,
    unmask: UnmaskOption = False,
) -> None:
    """Tell what frames say: every field with its place, bytes, value and meaning. Exit 5 when one is damaged.

    Blanks and colons inside the hex do not matter; a frame pasted with blanks needs no quotes. In standard input
    blank lines and lines that start with # are passed over.
    """
    from protocols.rsu.registry import DIALECTS

    screen = screen_of(context)
    if dialect not in DIALECTS:
        raise typer.BadParameter(
            f"{dialect!r} is no dialect; known are {', '.join(sorted(DIALECTS))}", param_hint="'--dialect'"
        )
    if not frames and sys.stdin.isatty():
        screen.note(
            screen.say("reading frames in hex, one a line; end with Ctrl-D", "请逐行输入十六进制帧,以 Ctrl-D 结束")
        )
    raw_frames = _from_arguments(frames) if frames else _from_lines(sys.stdin)
    described = [_describe(DIALECTS[dialect], raw, unmask=unmask) for raw in raw_frames]
    if as_json:
        screen.json(
            {
                "ok": all(frame.ok for frame in described),
                "frames": [_frame_facts(frame, unmask=unmask) for frame in described],
            }
        )
    else:
        for number, frame in enumerate(described):
            if number:
                screen.line()
            _show(screen, frame, unmask=unmask)
    if not all(frame.ok for frame in described):
        raise typer.Exit(ExitCode.PROTOCOL)


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
                (screen.say("Dialect", "协议"), str(fact["name"])),
                (screen.say("What it is", "说明"), str(fact["title"])),
                (screen.say("Layouts", "帧格式"), " ".join(fact["layouts"])),
                (screen.say("Kept whole", "整体保留"), " ".join(fact["kept_whole"])),
            ]
        )


# --- reading hex ----------------------------------------------------------------------------------------------------


def _from_arguments(texts: Sequence[str]) -> list[bytes]:
    short = all(len(_squeezed(text)) <= PIECE_DIGITS_MAX for text in texts)
    frames = all(
        len(_squeezed(text)) >= FRAME_DIGITS_MIN and _squeezed(text).lower().startswith(START_MARK) for text in texts
    )
    if len(texts) > 1 and short and not frames:
        return [_bytes_of(" ".join(texts), "")]
    return [_bytes_of(text, f"frame {number}: " if len(texts) > 1 else "") for number, text in enumerate(texts, 1)]


def _from_lines(lines: Iterable[str]) -> list[bytes]:
    found = []
    for number, line in enumerate(lines, start=1):
        text = line.strip()
        if not text or text.startswith("#"):
            continue
        if len(text) > LINE_MAX:
            raise _bad_hex(f"line {number}: {len(text)} characters, at most {LINE_MAX} make sense")
        found.append(_bytes_of(line.rstrip("\r\n"), f"line {number}: "))
        if len(found) > FRAMES_MAX:
            raise _bad_hex(f"more than {FRAMES_MAX} frames; cut the capture")
    if not found:
        raise _bad_hex("no frame given; put hex behind the command, or one frame a line into standard input")
    return found


def _squeezed(text: str) -> str:
    return "".join(c for c in text if not c.isspace() and c != ":")


def _bytes_of(text: str, place: str) -> bytes:
    """Bytes of one frame. Positions in errors count characters of the text as it was given, from 1."""
    for position, character in enumerate(text, start=1):
        if character not in string.hexdigits and not character.isspace() and character != ":":
            raise _bad_hex(f"{place}character {position} ({character!r}) is no hex digit")
    digits = _squeezed(text)
    if not digits:
        raise _bad_hex(f"{place}no hex digits")
    if len(digits) % 2:
        raise _bad_hex(f"{place}{len(digits)} hex digits: the byte at digit {len(digits)} has only one")
    return bytes.fromhex(digits)


def _bad_hex(problem: str) -> typer.BadParameter:
    return typer.BadParameter(problem, param_hint="'HEX'")


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
        "lane": say("lane -> antenna", "车道 -> 天线"),
        "rsu": say("antenna -> lane", "天线 -> 车道"),
    }
    code = "" if frame.code is None else f"{frame.code:02X}"
    length = say(f"{len(frame.raw)} bytes", f"{len(frame.raw)} 字节")
    what = [frame.layout or code, frame.message or "", senders.get(frame.sender, ""), length]
    screen.line("  ".join(part for part in what if part), style="bold")
    if frame.source:
        screen.line(say(f"layout: {frame.source}", f"格式来源: {frame.source}"), style=QUIET)
    columns = [
        Heading(say("At", "偏移"), right=True),
        Heading(say("Field", "字段")),
        Heading(say("Bytes", "字节"), wrap_at=12),
        Heading(say(*labels.VALUE), wrap_at=12),
        Heading(say(*labels.MEANING), wrap_at=18),
    ]
    screen.table(columns, [row for field in frame.fields for row in _rows(screen, field, "", unmask=unmask)])
    if frame.ok:
        screen.line(say("frame is in order", "帧完好"), style=GOOD)
    for problem in frame.problems:
        screen.line(
            say(
                f"DAMAGED  {problem.field} at offset {problem.offset}: {problem.text}",
                f"损坏  {problem.field},偏移 {problem.offset}: {problem.text}",
            ),
            style=BAD,
        )
        if problem.next_step:
            screen.line(f"  {say('next', '下一步')}: {problem.next_step}")


def _rows(screen: Screen, field: FieldDescription, parent: str, *, unmask: bool) -> list[list[str | Cell]]:
    """A field and what is inside it, indented."""
    inside = bool(parent)
    name = field.name.removeprefix(f"{parent}.")
    value = _value_shown(field, unmask=unmask, inside_file=inside)
    meaning = field.meaning
    if field.fields:
        shown = screen.say(f"{len(field.raw)} bytes", f"{len(field.raw)} 字节")
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
        meaning,
    ]
    children = [row for child in field.fields for row in _rows(screen, child, field.name, unmask=unmask)]
    return [own, *children]
