"""`etcgw card compare`: a card beside a golden one, field by field."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from gateway.cli import labels
from gateway.cli.card_read import FromOption, contents_from, identity_columns
from gateway.cli.card_reader import ReaderOption, WaitOption
from gateway.cli.columns import Column, Columns, each, facts, said, show_record, show_table
from gateway.cli.errors import CliFault, ExitCode
from gateway.cli.options import JsonOption, UnmaskOption, screen_of
from gateway.cli.screen import BAD, GOOD, Cell, Screen
from gateway.texts.catalogue import Words

if TYPE_CHECKING:
    from gateway.cards.compare import Difference, Golden

GoldenArgument = Annotated[Path, typer.Argument(metavar="GOLDEN", exists=True, dir_okay=False)]
FreeOption = Annotated[list[str] | None, typer.Option("--free", metavar="FILE.FIELD")]


def compare(
    context: typer.Context,
    *,
    golden: GoldenArgument,
    reader: ReaderOption = None,
    wait: WaitOption = 0.0,
    dump: FromOption = None,
    free: FreeOption = None,
    also: Annotated[list[str] | None, typer.Option("--also", metavar="FILE.FIELD")] = None,
    as_json: JsonOption = False,
    unmask: UnmaskOption = False,
) -> None:
    """Compare a card with a golden one, file by file and field by field. Exit 1 when they differ."""
    from gateway.cards.compare import compare as differences_of

    screen = screen_of(context)
    wanted = golden_from(golden, free, also)
    contents = contents_from(reader, wait, dump)
    found = differences_of(contents, wanted, unmask=unmask)
    columns: Columns[Any] = (
        Column("same", Words("card-compare.result"), lambda _: not found, _same),
        *identity_columns(unmask=unmask),
        Column("golden", Words("card-page.golden"), lambda _: wanted.name),
        Column("golden_digest", of=lambda _: wanted.digest),
        Column("differences", of=lambda _: found, data=each(DIFFERENCES)),
    )
    told = facts(screen, columns, contents)
    if not as_json:
        show_record(screen, columns, contents)
        if found:
            screen.line()
            show_table(screen, DIFFERENCES, found)
    if found:
        raise CliFault(ExitCode.REFUSED, "card_differs", Words("card-compare.differs", count=len(found)), facts=told)
    if as_json:
        screen.json(told)


def golden_from(file: Path, free: list[str] | None, also: list[str] | None = None) -> Golden:
    """Golden card of a file."""
    from gateway.cards.compare import golden_of
    from gateway.cards.dump import DumpWrong

    try:
        return golden_of(file, free=tuple(free or ()), compared=tuple(also or ()))
    except DumpWrong as error:
        raise CliFault(ExitCode.REFUSED, "golden_wrong", error.problem, None, Words("card-compare.make-one")) from error


def _same(screen: Screen, same: bool) -> Cell:
    return Cell(screen.say("card-compare.same"), GOOD) if same else Cell(screen.say("card-compare.other"), BAD)


DIFFERENCES: Final[Columns[Difference]] = (
    Column("file", labels.FILE),
    Column("field", Words("card-compare.field"), lambda d: d.name),
    Column("offset", Words("card-compare.offset"), right=True),
    said(Words("card-compare.expected"), lambda screen, d: screen.word(d.expected), wrap_at=12),
    Column("expected", data=lambda _, text: str(text)),
    said(Words("card-compare.found"), lambda screen, d: Cell(screen.word(d.found), BAD), wrap_at=12),
    Column("found", data=lambda _, text: str(text)),
)
