"""`etcgw card batch`: one card after another beside a golden one, with a record and a report."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Annotated, Final

import typer

from gateway.cli import card_reader
from gateway.cli.card_compare import FreeOption, golden_from
from gateway.cli.card_reader import ReaderOption
from gateway.cli.errors import CliFault, ExitCode
from gateway.cli.options import JsonOption, UnmaskOption, screen_of
from gateway.cli.screen import BAD, DOUBTFUL, GOOD, Screen
from gateway.texts.catalogue import Text, Words

if TYPE_CHECKING:
    from gateway.cards.batch import Batch, Tested

BELL: Final = "\a"

RESULTS: Final[Mapping[str, tuple[Text, str, str]]] = MappingProxyType(
    {
        "accepted": (Words("card-page.accepted"), GOOD, BELL),
        "rejected": (Words("card-page.rejected"), BAD, 3 * BELL),
        "try_again": (Words("card-page.try-again"), DOUBTFUL, 2 * BELL),
    }
)
"""Words, style and sound of a result, by the value of `gateway.cards.batch.Result`."""


def batch(
    context: typer.Context,
    *,
    golden: Annotated[Path, typer.Option("--golden", metavar="GOLDEN", exists=True, dir_okay=False)],
    record: Annotated[Path, typer.Option("--csv", metavar="FILE", dir_okay=False, show_default=False)],
    html: Annotated[Path | None, typer.Option("--html", metavar="FILE", dir_okay=False)] = None,
    count: Annotated[int | None, typer.Option("--count", metavar="N", min=1)] = None,
    reader: ReaderOption = None,
    free: FreeOption = None,
    as_json: JsonOption = False,
    unmask: UnmaskOption = False,
) -> None:
    """Test cards one after another against a golden card. Exit 1 when one was rejected.

    Insert a card, wait for its line, take it out, insert the next. Ends after --count cards or with Ctrl-C; the same
    command goes on with the same record.
    """
    import asyncio

    from gateway.cards.batch import Batch, RecordWrong, Result

    screen = screen_of(context)
    wanted = golden_from(golden, free)
    try:
        testing = Batch(record, wanted, language=screen.language, unmask=unmask)
    except RecordWrong as error:
        raise CliFault(ExitCode.REFUSED, "record_wrong", error.problem, None, Words("card-batch.other-file")) from error
    if testing.tested and not as_json:
        screen.note(screen.say("card-batch.goes-on", count=len(testing.tested), file=record))
    try:
        with suppress(KeyboardInterrupt):
            asyncio.run(_work(screen, testing, reader, count, as_json=as_json))
    finally:
        testing.close()
        if html is not None:
            _write_page(html, screen, testing)
    counts = {result.value: testing.counts[result] for result in Result}
    if counts["rejected"]:
        raise CliFault(
            ExitCode.REFUSED,
            "cards_rejected",
            Words("card-batch.rejected", rejected=counts["rejected"], accepted=counts["accepted"]),
            facts=counts,
        )
    if as_json:
        screen.json(counts, in_a_line=True)
    else:
        screen.note(screen.say("card-batch.all-accepted", accepted=counts["accepted"]))


async def _work(screen: Screen, testing: Batch, reader: str | None, count: int | None, *, as_json: bool) -> None:
    from gateway.cards.batch import work_off

    async with card_reader.cards(reader) as next_card:
        await work_off(
            testing,
            next_card,
            count=count,
            now=lambda: datetime.now().astimezone(),
            tell=lambda tested: _tell(screen, tested, as_json=as_json),
        )


def _tell(screen: Screen, tested: Tested, *, as_json: bool) -> None:
    """Tell of one card in a line, and by sound where there is a terminal."""
    words, style, sound = RESULTS[tested.result.value]
    if as_json:
        screen.json(
            {
                "no": tested.no,
                "time": tested.time,
                "result": tested.result.value,
                "number": tested.number,
                "plate": tested.plate,
                "defects": list(tested.defects),
                "text": tested.text,
            },
            in_a_line=True,
        )
    else:
        parts = (f"{tested.no:4}", screen.word(words), tested.number, tested.plate, tested.text)
        screen.line("  ".join(part for part in parts if part), style=style)
    sys.stdout.flush()
    if sys.stderr.isatty():
        sys.stderr.write(sound)
        sys.stderr.flush()


def _write_page(file: Path, screen: Screen, testing: Batch) -> None:
    from gateway.cards.report_page import page

    fresh = file.with_name(f"{file.name}.new")
    fresh.write_text(page(testing.tested, testing.golden, screen.language), encoding="utf-8")
    fresh.replace(file)
