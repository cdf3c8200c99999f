"""`etcgw privacy`: erase what names a person; the books stay whole and prove it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Final

import typer

from gateway.cli.columns import Column, Columns, said, show_one
from gateway.cli.errors import CliFault, ExitCode
from gateway.cli.help import Commands
from gateway.cli.options import ConfigOption, JsonOption, now_utc, screen_of, site_of
from gateway.cli.screen import DOUBTFUL, Cell, Screen
from gateway.cli.store import committing, ledger_of, reader_of
from gateway.cli.usage import BadValue
from gateway.texts.catalogue import Words

if TYPE_CHECKING:
    from gateway.config import SiteFile
    from gateway.ledger.privacy import Erased, Selection

app = Commands(
    "privacy",
    no_args_is_help=True,
)

DAY_US: Final = 86_400 * 1_000_000
BUSY_TRIES_MAX: Final = 3
"""Tries of a page that found the ledger busy for the whole of its time limit: a running gateway commits in between."""

WHY_KEPT: Final[Mapping[str, Words]] = {
    "too_young": Words("privacy.why_kept.too_young"),
    "debit_open": Words("privacy.why_kept.debit_open"),
    "bank_in_doubt": Words("privacy.why_kept.bank_in_doubt"),
    "refund_open": Words("privacy.why_kept.refund_open"),
    "item_open": Words("privacy.why_kept.item_open"),
    "undecided": Words("privacy.why_kept.undecided"),
}


@app.callback()
def privacy() -> None:
    """Personal data: erase it by age, passage, plate or card."""


@app.command()
def erase(
    context: typer.Context,
    *,
    config: ConfigOption = None,
    older_than: Annotated[
        int | None,
        typer.Option("--older-than", metavar="DAYS", min=1, max=36_500),
    ] = None,
    passage: Annotated[str | None, typer.Option("--passage", metavar="RECORD|ID")] = None,
    plate: Annotated[str | None, typer.Option("--plate")] = None,
    card: Annotated[str | None, typer.Option("--card", metavar="NUMBER")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run")] = False,
    as_json: JsonOption = False,
) -> None:
    """Erase plates, card and tag numbers and card files of settled passages, for good.

    What is not settled stays, and is counted by reason. The books, decisions and chains stay as they are: etcgw ledger
    verify proves after it what it proved before. May run beside the gateway.
    """
    from gateway.ledger import privacy as erasing
    from gateway.views.passages import find_passage

    screen = screen_of(context)
    if sum(value is not None for value in (older_than, passage, plate, card)) != 1:
        raise BadValue(Words("usage.which-passages"), "'--older-than'")
    site = site_of(context, config)
    with ledger_of(site) as connection:
        passage_id = None if passage is None else find_passage(connection, passage)
        if passage is not None and passage_id is None:
            raise _unknown(passage)
        selection = erasing.Selection(
            before_us=None if older_than is None else _now_us() - older_than * DAY_US,
            passage_id=passage_id,
            plate=None if plate is None else _plate(plate),
            card_number=card,
        )
        found = erasing.look(connection, selection, _now_us()) if dry_run else None
    emptied = True
    if found is None:
        found, emptied = _erase(site, selection, screen)
    show_one(screen, _columns(found, dry_run=dry_run, log_emptied=emptied), found, as_json=as_json)
    if as_json:
        return
    if dry_run:
        screen.note(screen.say("privacy.dry-run-nothing-erased"))
    if not emptied:
        screen.note(screen.say("privacy.reader-still-needs-log-database"))


def _plate(text: str) -> str:
    from gateway.model.plate import normalise

    return normalise(text)


def _now_us() -> int:
    from gateway.model.clock import to_us

    return to_us(now_utc())


def _unknown(text: str) -> CliFault:
    return CliFault(
        ExitCode.REFUSED,
        "no_such_passage",
        Words("passages.no-such", which=text),
        None,
        Words("privacy.etcgw-passages-config-site-lists"),
    )


def _erase(site: SiteFile, selection: Selection, screen: Screen) -> tuple[Erased, bool]:
    """Erase passage after passage in short transactions; and True when the database's log was emptied after it."""
    from gateway.acts.actor import of_this_process
    from gateway.ledger import engines
    from gateway.ledger.pace import Pace
    from gateway.ledger.privacy import erase_all

    actor, pace = of_this_process().name, Pace(site.storage.held_ms_max)
    with committing(site, pace, erasing=True) as (commit, engine):
        with reader_of(site) as reader, screen.progress(screen.say("privacy.erasing")) as tell:

            def progress(done: Erased) -> None:
                tell(_progress(screen, done))

            found = erase_all(reader, commit, selection, actor, progress, now_us=_now_us(), pace=pace)
        return found, engines.forget_log(engine)


def _progress(screen: Screen, done: Erased) -> str:
    kept = done.kept.total()
    return screen.say("privacy.passages-kept", passages=done.passages, kept=kept)


def _kept(why: str, count: int) -> Column[Erased]:
    return said(Words("label.kept"), lambda screen, _: Cell(f"{count}: {screen.word(WHY_KEPT[why])}", DOUBTFUL))


def _columns(found: Erased, *, dry_run: bool, log_emptied: bool) -> Columns[Erased]:
    """Columns of an erasure; a trial does not tell what only an erasure finds."""
    kept = {why: found.kept[why] for why in WHY_KEPT if found.kept[why]}
    return (
        Column("dry_run", of=lambda _: dry_run),
        Column("passages", Words("label.passages")),
        Column("purchase_files", Words("label.card-files")),
        Column("card_serials", Words("label.card-serials"), lambda e: None if dry_run else e.card_serials),
        Column("obligors", Words("label.payers"), lambda e: None if dry_run else e.obligors),
        Column("kept", of=lambda _: kept),
        *(_kept(why, count) for why, count in kept.items()),
        Column("log_emptied", of=lambda _: None if dry_run else log_emptied),
    )
