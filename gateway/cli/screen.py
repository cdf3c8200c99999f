"""What people and scripts see: JSON, aligned `Label: value`, tables that fit the terminal, and words in two languages.

stdout carries data only, stderr everything else. Colour goes to terminals alone and stops with NO_COLOR (rich sees to
both). A table that does not fit leaves out its least important columns and says so; it never cuts a value short.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, TextIO

if TYPE_CHECKING:
    from rich.console import Console

PIPE_WIDTH = 400
"""Columns where there is no terminal and COLUMNS is not set: a pipe has no edge, so nothing is left out or wrapped."""

GAP = 2
"""Blanks between two columns of a table."""


class Language(StrEnum):
    """Language of texts for people. Codes and JSON keys never change with it."""

    ZH = "zh"
    EN = "en"

    @classmethod
    def of_environment(cls, environment: Mapping[str, str] = os.environ) -> Language:
        """By the locale's own order: LC_ALL, LC_MESSAGES, LANG."""
        for name in ("LC_ALL", "LC_MESSAGES", "LANG"):
            value = environment.get(name)
            if value:
                return cls.ZH if value.lower().startswith("zh") else cls.EN
        return cls.EN


class Words(NamedTuple):
    """One text in both languages."""

    en: str
    zh: str


class Cell(NamedTuple):
    """A value of a table with a rich style, for terminals with colour."""

    text: str
    style: str = ""


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a table. The ones with the highest `rank` go first when the terminal is narrow; rank 0 stays."""

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
    """Writes in one language to this process's own streams."""

    language: Language

    def say(self, en: str, zh: str) -> str:
        """The text in the language chosen."""
        return zh if self.language is Language.ZH else en

    def word(self, words: Words) -> str:
        """The same for words from a table."""
        return self.say(*words)

    def yes(self, value: object) -> str:
        """`yes` or `no`."""
        return self.say("yes", "是") if value else self.say("no", "否")

    def json(self, value: Mapping[str, Any]) -> None:
        """One object, for scripts."""
        sys.stdout.write(json.dumps(value, ensure_ascii=False, indent=2) + "\n")

    def line(self, text: str = "", style: str = "") -> None:
        """A line of data."""
        _console(sys.stdout).print(text, style=style or None, soft_wrap=True)

    def note(self, text: str) -> None:
        """A line of talk."""
        _console(sys.stderr).print(text, soft_wrap=True)

    def pairs(self, pairs: Iterable[tuple[str, str | Cell]]) -> None:
        """`Label: value` with the values aligned; long values go on under themselves."""
        from rich.table import Table
        from rich.text import Text

        grid = Table.grid(padding=(0, GAP, 0, 0))
        grid.add_column(no_wrap=True)
        grid.add_column(overflow="fold")
        for label, value in pairs:
            cell = _cell(value)
            grid.add_row(Text(f"{label}:"), Text(cell.text, style=cell.style))
        _print_trimmed(sys.stdout, grid)

    def table(self, columns: Sequence[Column], rows: Sequence[Sequence[str | Cell]]) -> None:
        """A table with a heading, as many columns as fit."""
        from rich.table import Table
        from rich.text import Text

        cells = [[_cell(value) for value in row] for row in rows]
        widths = [_width(column, [row[i].text for row in cells]) for i, column in enumerate(columns)]
        shown, left_out = _fitting(columns, widths, _console(sys.stdout).width)
        table = Table(box=None, pad_edge=False, padding=(0, GAP, 0, 0), header_style="bold")
        for i in shown:
            column = columns[i]
            table.add_column(
                Text(column.title),
                justify="right" if column.right else "left",
                overflow="fold",
                min_width=widths[i],
            )
        for row in cells:
            table.add_row(*(Text(row[i].text, style=row[i].style) for i in shown))
        _print_trimmed(sys.stdout, table)
        if left_out:
            names = ", ".join(columns[i].title for i in left_out)
            self.note(
                self.say(
                    f"left out for want of room: {names} (a wider terminal or --json has them)",
                    f"因宽度不足未显示: {names} (加宽终端或使用 --json 可见)",
                )
            )

    @contextmanager
    def progress(self, what: str) -> Iterator[Teller]:
        """Tell on stderr how far a long command is: in place on a terminal, line by line elsewhere."""
        console = _console(sys.stderr)
        if not console.is_terminal:
            yield lambda line: self.note(f"{what}: {line}")
            return
        with console.status(what) as status:
            yield lambda line: status.update(f"{what}: {line}")


def _console(stream: TextIO) -> Console:
    from rich.console import Console

    console = Console(file=stream, highlight=False, markup=False, emoji=False)
    if not console.is_terminal and "COLUMNS" not in os.environ:
        console = Console(file=stream, highlight=False, markup=False, emoji=False, width=PIPE_WIDTH)
    return console


def _print_trimmed(stream: TextIO, what: Any) -> None:  # noqa: ANN401 - any renderable of rich
    """Print without the blanks that rich puts behind the last column of a table."""
    from rich.segment import Segment, Segments

    console = _console(stream)
    for line in console.render_lines(what, pad=False):
        plain = Segment.adjust_line_length(line, _used(line), pad=False)
        console.print(Segments([*plain, Segment.line()]), end="", soft_wrap=True)


def _used(line: Sequence[Any]) -> int:
    """Terminal columns of a line without its trailing blanks."""
    from rich.cells import cell_len

    return cell_len("".join(segment.text for segment in line).rstrip())


def _cell(value: str | Cell) -> Cell:
    return value if isinstance(value, Cell) else Cell(value)


def _width(column: Column, texts: Iterable[str]) -> int:
    """Terminal columns a column needs; East Asian characters take two."""
    from rich.cells import cell_len

    widest = max((cell_len(line) for text in texts for line in text.splitlines()), default=0)
    needed = max(widest, cell_len(column.title))
    return needed if column.wrap_at is None else min(needed, max(column.wrap_at, cell_len(column.title)))


def _fitting(columns: Sequence[Column], widths: Sequence[int], room: int) -> tuple[list[int], list[int]]:
    """Indexes of the columns that are shown and of those left out, both in order."""
    shown = list(range(len(columns)))
    while sum(widths[i] + GAP for i in shown) - GAP > room:
        candidates = [i for i in shown if columns[i].rank > 0]
        if not candidates:
            break
        shown.remove(max(candidates, key=lambda i: (columns[i].rank, i)))
    return shown, [i for i in range(len(columns)) if i not in shown]
