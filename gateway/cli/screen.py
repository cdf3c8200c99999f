"""Output of commands: JSON, aligned `Label: value`, tables that fit the terminal, and words in two languages.

stdout carries data only, stderr everything else. Colour goes to terminals alone and stops with NO_COLOR (rich sees to
both). A table that does not fit leaves out its least important columns and says so; it never cuts a value short.

Names, plates and reasons come from outside. Whatever is written here passes `visible`, so that none of them can move a
terminal's cursor, turn the order of its characters round, or begin a line that looks like one of ours.
"""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, tzinfo
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple, Protocol, TextIO

from gateway.model.clock import from_us
from gateway.texts.catalogue import Language, Text, Words

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

PIPE_WIDTH = 400
"""Columns where there is no terminal and COLUMNS is not set: a pipe has no edge, so nothing is left out or wrapped."""

GAP = 2
"""Blanks between two columns of a table."""


_UNSEEN: Final = re.compile(
    "[\x00-\x09\x0b-\x1f\x7f-\x9f"  # C0 but for the line feed, DEL, C1
    "\u00ad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb"  # no width, or another direction
    "\ud800-\udfff\U000e0000-\U000e007f]"  # half characters, tags
)
"""Characters that a terminal obeys, or that nobody sees."""


def visible(text: str) -> str:
    """One line of text as it may reach a terminal: characters to obey or unseen become escapes such as `\\x1b`."""
    return _UNSEEN.sub(lambda found: repr(found[0])[1:-1], text).replace("\n", r"\n")


class Cell(NamedTuple):
    """A value of a table with a rich style, for terminals with colour."""

    text: str
    style: str = ""
    shown: bool = False
    """True when `visible` has been applied: to a text of several lines it is, line by line."""


def lines_cell(texts: Iterable[str]) -> Cell:
    """A value with a line of its own for each text."""
    return Cell("\n".join(map(visible, texts)), shown=True)


@dataclass(frozen=True, slots=True)
class Heading:
    """Heading of a column. Those with the highest `rank` go first when the terminal is narrow; rank 0 stays."""

    title: str
    rank: int = 0
    right: bool = False
    wrap_at: int | None = None
    """Fewest terminal columns for a text that may run over several lines; None for values that stay in one piece."""


class Teller(Protocol):
    """Takes one line about how far a long command is."""

    def __call__(self, line: str, /) -> None: ...


GOOD, DOUBTFUL, BAD, QUIET = "green", "yellow", "red", "dim"
"""Styles: all is well, somebody should look, something is wrong, of little interest."""


@dataclass(frozen=True, slots=True)
class Screen:
    """Writes in one language, with times of one zone, to this process's own streams."""

    language: Language
    zone: tzinfo = UTC

    def say(self, code: str, /, **values: object) -> str:
        """A text of the catalogue in the language chosen."""
        return Words(code, **values).told(self.language)

    def word(self, words: Text) -> str:
        """A text in the language chosen."""
        return words.told(self.language)

    def iso(self, moment_us: int | None) -> str | None:
        """Stored microseconds as ISO 8601 with milliseconds and offset; None stays None."""
        found = self._local(moment_us)
        return None if found is None else found.isoformat(timespec="milliseconds")

    def short(self, moment_us: int | None) -> str:
        """Stored microseconds for a table: month, day and time of day; nothing for None."""
        found = self._local(moment_us)
        return "" if found is None else f"{found:%m-%d %H:%M:%S}"

    def _local(self, moment_us: int | None) -> datetime | None:
        return None if moment_us is None else from_us(moment_us).astimezone(self.zone)

    def json(self, value: Mapping[str, Any], *, in_a_line: bool = False) -> None:
        """One object, for scripts. What a terminal would obey is escaped as JSON has it: the value stays the same."""
        text = json.dumps(value, ensure_ascii=False, indent=None if in_a_line else 2)
        sys.stdout.write(_UNSEEN.sub(lambda found: json.dumps(found[0])[1:-1], text) + "\n")

    def line(self, text: str = "", style: str = "") -> None:
        """A line of data."""
        _console(sys.stdout).print(visible(text), style=style or None, soft_wrap=True)

    def note(self, text: str) -> None:
        """A line of talk."""
        _console(sys.stderr).print(visible(text), soft_wrap=True)

    def pairs(self, pairs: Iterable[tuple[str, str | Cell]]) -> None:
        """`Label: value` with the values aligned; long values go on under themselves."""
        from rich.table import Table
        from rich.text import Text

        grid = Table.grid(padding=(0, GAP, 0, 0))
        grid.add_column(no_wrap=True)
        grid.add_column(overflow="fold")
        for label, value in pairs:
            cell = _cell(value)
            grid.add_row(Text(visible(f"{label}:")), Text(cell.text, style=cell.style))
        _print_trimmed(sys.stdout, grid, _room(sys.stdout))

    def table(self, columns: Sequence[Heading], rows: Sequence[Sequence[str | Cell]]) -> None:
        """A table with a heading, as many columns as fit."""
        table, width, left_out = laid_out(columns, rows, _room(sys.stdout))
        _print_trimmed(sys.stdout, table, width)
        if left_out:
            names = ", ".join(left_out)
            self.note(self.say("screen.left-out-want-room-wider", names=names))

    @contextmanager
    def progress(self, what: str) -> Iterator[Teller]:
        """Tell on stderr how far a long command is: in place on a terminal, and nobody elsewhere."""
        console = _console(sys.stderr)
        if not console.is_terminal:
            yield lambda _: None
            return
        with console.status(visible(what)) as status:
            yield lambda line: status.update(visible(f"{what}: {line}"))


def laid_out(
    columns: Sequence[Heading], rows: Sequence[Sequence[str | Cell]], room: int
) -> tuple[Table, int, list[str]]:
    """A table with as many columns as fit in `room`; its width, and the titles of the columns left out."""
    from rich.table import Table
    from rich.text import Text

    cells = [[_cell(value) for value in row] for row in rows]
    fits = _fitting(columns, [[row[i].text for row in cells] for i in range(len(columns))], room)
    table = Table(box=None, pad_edge=False, padding=(0, GAP, 0, 0), header_style="bold")
    for i, width in fits.widths.items():
        justify: Literal["left", "right"] = "right" if columns[i].right else "left"
        table.add_column(Text(columns[i].title), justify=justify, overflow="fold", width=width)
    for row in cells:
        table.add_row(*(Text(row[i].text, style=row[i].style) for i in fits.widths))
    # A terminal too narrow for what must be shown breaks the lines itself; nothing is dropped.
    return table, max(room, _total(fits.widths.values())), [columns[i].title for i in fits.left_out]


def _console(stream: TextIO, width: int | None = None) -> Console:
    from rich.console import Console

    console = Console(file=stream, highlight=False, markup=False, emoji=False, width=width)
    if width is None and not console.is_terminal and "COLUMNS" not in os.environ:
        return _console(stream, PIPE_WIDTH)
    return console


def _print_trimmed(stream: TextIO, what: Any, width: int) -> None:  # noqa: ANN401 - any renderable of rich
    """Print without the blanks that rich puts after the last column of a table."""
    from rich.segment import Segment, Segments

    console = _console(stream, width)
    for line in console.render_lines(what, pad=False):
        plain = Segment.adjust_line_length(line, _used(line), pad=False)
        console.print(Segments([*plain, Segment.line()]), end="", soft_wrap=True)


def _used(line: Sequence[Any]) -> int:
    """Terminal columns of a line without its trailing blanks."""
    from rich.cells import cell_len

    return cell_len("".join(segment.text for segment in line).rstrip())


def _cell(value: str | Cell) -> Cell:
    cell = value if isinstance(value, Cell) else Cell(value)
    return cell if cell.shown else Cell(visible(cell.text), cell.style, shown=True)


def _room(stream: TextIO) -> int:
    return _console(stream).width


@dataclass(frozen=True, slots=True)
class _Fit:
    """Columns of a table that are shown, with their widths, and those left out; by index."""

    widths: dict[int, int]
    left_out: list[int]


def _fitting(columns: Sequence[Heading], texts: Sequence[Sequence[str]], room: int) -> _Fit:
    """Choose columns for so much room, and give what is left to those whose texts would rather be wider."""
    natural = [max(_widest(texts[i]), _widest([column.title])) for i, column in enumerate(columns)]
    needed = [
        natural[i] if column.wrap_at is None else min(natural[i], max(column.wrap_at, _widest([column.title])))
        for i, column in enumerate(columns)
    ]
    shown = list(range(len(columns)))
    while _total(needed[i] for i in shown) > room:
        candidates = [i for i in shown if columns[i].rank > 0]
        if not candidates:
            break
        # A column without a single value is missed by nobody, so it goes before all others.
        shown.remove(max(candidates, key=lambda i: (not any(texts[i]), columns[i].rank, i)))
    widths = {i: needed[i] for i in shown}
    for _ in range(room - _total(widths.values()) if shown else 0):
        poorest = max(shown, key=lambda i: natural[i] - widths[i])
        if natural[poorest] == widths[poorest]:
            break
        widths[poorest] += 1
    return _Fit(widths, [i for i in range(len(columns)) if i not in widths and any(texts[i])])


def _total(widths: Iterable[int]) -> int:
    """Terminal columns of a row with its gaps."""
    return sum(width + GAP for width in widths) - GAP


def _widest(texts: Iterable[str]) -> int:
    """Terminal columns of the longest line; East Asian characters take two."""
    from rich.cells import cell_len

    return max((cell_len(line) for text in texts for line in text.splitlines()), default=0)
