"""Columns: what a noun shows, said once for people and for programs.

A tuple of columns is a noun's JSON (`facts`), its table (`show_table`) and its `Label: value` lines (`show_record`).
Whichever asks takes from it what it needs: JSON the columns with a key, the others those with a title.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from operator import attrgetter
from types import MappingProxyType
from typing import Any, Final, Generic, TypeVar

from gateway.cli import words
from gateway.cli.screen import Cell, Heading, Screen
from gateway.texts.catalogue import Language
from gateway.texts.catalogue import Text as Title

T = TypeVar("T")
U = TypeVar("U")

Text = str | Cell | None
"""Text of a fact for people; None for nothing."""

EMPTY: Final[Mapping[str, Any]] = MappingProxyType({})


def plain(_: Screen, value: object) -> str:
    """A value as it stands; nothing for None."""
    return "" if value is None else str(value)


def same(_: Screen, value: Any) -> Any:  # noqa: ANN401 - whatever JSON can hold
    """A value as it stands."""
    return value


def english(_: Screen, text: Title | None) -> str | None:
    """A text as programs get it, whatever language people read."""
    return None if text is None else text.told(Language.EN)


def money(_: Screen, amount_fen: int | None) -> str:
    """An amount with its currency, for a line that no heading explains."""
    return words.yuan_with_currency(amount_fen)


@dataclass(frozen=True, slots=True)
class Column(Generic[T]):
    """One fact of a view.

    `key`: its member of the JSON, "" for people only. `title`: its heading or label, None for programs only. `of` takes
    it from the view (left out: the field or member of the key's name), `data` makes JSON of it, `text` what is read.
    `rank`, `right` and `wrap_at` are those of its `Heading`.
    """

    key: str
    title: Title | None = None
    of: Callable[[T], Any] | None = None
    text: Callable[[Screen, Any], Text] = plain
    data: Callable[[Screen, Any], Any] = same
    rank: int = 0
    right: bool = False
    wrap_at: int | None = None

    def take(self, row: T) -> Any:  # noqa: ANN401 - a field of any view
        """The fact of this view."""
        if self.of is not None:
            return self.of(row)
        return row[self.key] if isinstance(row, Mapping) else attrgetter(self.key)(row)


Columns = tuple[Column[T], ...]


def said(
    title: Title,
    text: Callable[[Screen, T], Text],
    *,
    rank: int = 0,
    right: bool = False,
    wrap_at: int | None = None,
) -> Column[T]:
    """A column for people that is made of several facts of a view."""
    return Column("", title, lambda row: row, text, rank=rank, right=right, wrap_at=wrap_at)


def at(key: str, title: Title | None = None, *, rank: int = 0) -> Column[Any]:
    """A moment: `created_at` of the field `created_us`. ISO 8601 for programs, short for people."""
    return Column(key, title, attrgetter(key.removesuffix("at") + "us"), Screen.short, Screen.iso, rank=rank)


def only(*keys: str) -> Columns[Any]:
    """Columns for programs alone, of the fields of these names; `created_at` is a moment."""
    return tuple(at(key) if key.endswith("_at") else Column(key) for key in keys)


def fen(
    key: str,
    title: Title | None = None,
    of: Callable[[T], int | None] | None = None,
    *,
    text: Callable[[Screen, Any], Text] = lambda _, amount: words.yuan(amount),
    rank: int = 0,
) -> Column[T]:
    """An amount: fen for programs, yuan for people."""
    return Column(key, title, of, text, rank=rank, right=True)


def each(columns: Sequence[Column[T]]) -> Callable[[Screen, Iterable[T]], list[dict[str, Any]]]:
    """JSON of a list of views within a view."""
    return lambda screen, rows: [facts(screen, columns, row) for row in rows]


def one(columns: Sequence[Column[T]]) -> Callable[[Screen, T | None], dict[str, Any] | None]:
    """JSON of a view within a view; None stays None."""
    return lambda screen, row: None if row is None else facts(screen, columns, row)


def within(columns: Iterable[Column[U]], part: Callable[[T], U], *, told: bool = False) -> Columns[T]:
    """Columns of a part as those of the whole: their JSON, and if `told` their text."""

    def of_whole(column: Column[U]) -> Column[T]:
        title = column.title if told else None
        text, data, layout = column.text, column.data, (column.rank, column.right, column.wrap_at)
        return Column(column.key, title, lambda row: column.take(part(row)), text, data, *layout)

    return tuple(map(of_whole, columns))


def facts(screen: Screen, columns: Iterable[Column[T]], row: T) -> dict[str, Any]:
    """A view as JSON."""
    return {column.key: column.data(screen, column.take(row)) for column in columns if column.key}


def show_table(screen: Screen, columns: Iterable[Column[T]], rows: Iterable[T], *more: Sequence[str | Cell]) -> None:
    """Views as a table, a row each, and `more` rows below them."""
    shown = [(column, column.title) for column in columns if column.title is not None]
    screen.table(
        [Heading(screen.word(title), column.rank, column.right, column.wrap_at) for column, title in shown],
        [*([column.text(screen, column.take(row)) or "" for column, _ in shown] for row in rows), *more],
    )


def show_list(
    screen: Screen,
    name: str,
    columns: Columns[T],
    rows: Sequence[T],
    *,
    nothing: Title,
    as_json: bool,
    beside: Mapping[str, Any] = EMPTY,
) -> None:
    """Views as a list under a name of its JSON with what else there is `beside` it, or as a table.

    `nothing`: what people are told where there is none.
    """
    if as_json:
        screen.json({name: each(columns)(screen, rows), **beside})
    elif rows:
        show_table(screen, columns, rows)
    else:
        screen.note(screen.word(nothing))


def show_record(screen: Screen, columns: Iterable[Column[T]], row: T, *more: tuple[str, str | Cell]) -> None:
    """A view as `Label: value`, without those that say nothing, and `more` lines below them."""
    told = (
        (screen.word(column.title), column.text(screen, column.take(row)))
        for column in columns
        if column.title is not None
    )
    screen.pairs([*((label, text) for label, text in told if text), *more])


def show_one(screen: Screen, columns: Columns[T], row: T, *, as_json: bool) -> None:
    """A view as JSON or as `Label: value`, whichever was asked for."""
    if as_json:
        screen.json(facts(screen, columns, row))
    else:
        show_record(screen, columns, row)
