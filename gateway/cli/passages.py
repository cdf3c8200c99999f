"""`etcgw passages`: what was decided about the vehicles that came, and all the ledger knows about one of them."""

from __future__ import annotations

from difflib import get_close_matches
from typing import TYPE_CHECKING, Annotated, Final

import typer

from gateway.cli import labels, words
from gateway.cli.columns import Column, Columns, facts, fen, only, said, show_list, within
from gateway.cli.errors import CliFault, ExitCode
from gateway.cli.help import Commands
from gateway.cli.options import (
    ConfigOption,
    JsonOption,
    LastOption,
    UnmaskOption,
    at_site,
    moment,
    zone_of,
)
from gateway.cli.parts import DECISION
from gateway.cli.screen import DOUBTFUL, Cell, Screen
from gateway.cli.store import ledger_of
from gateway.cli.visit import PASSAGE as VISIT
from gateway.cli.visit import show_passage
from gateway.model.passage import Occasion, PassageOutcome
from gateway.texts.catalogue import Words

if TYPE_CHECKING:
    from gateway.views.decisions import Timing
    from gateway.views.passages import Listed

app = Commands(
    "passages",
    invoke_without_command=True,
)


@app.callback()
def passages(
    context: typer.Context,
    *,
    config: ConfigOption = None,
    last: LastOption = 20,
    lane: Annotated[str | None, typer.Option("--lane")] = None,
    since: Annotated[
        str | None,
        typer.Option("--since", metavar="TIME"),
    ] = None,
    outcome: Annotated[PassageOutcome | None, typer.Option("--outcome")] = None,
    as_json: JsonOption = False,
    unmask: UnmaskOption = False,
) -> None:
    """List the newest passages, one line each with the decision that stands; `show` tells all about one.

    A vehicle that is seen again after it paid does not hide the decision that charged it: repeats are only counted.
    """
    if context.invoked_subcommand is not None:
        return
    from gateway.model.clock import to_us
    from gateway.views import passages as view

    screen, site = at_site(context, config)
    since_us = None if since is None else to_us(moment(since, zone_of(site), "--since"))
    with ledger_of(site) as connection:
        found = view.passages(connection, view.Wanted(last, lane, since_us, outcome), unmask=unmask)
        if lane is not None and not found:
            names = [point.name for point in site.charge_points]
            # A lane that was renamed or taken down stands in the ledger still.
            if lane not in names and not view.was_at(connection, lane):
                raise _no_such_lane(lane, names)
    show_list(screen, "passages", PASSAGE, found, nothing=Words("passages.no-such-passage-yet"), as_json=as_json)


def _no_such_lane(lane: str, names: list[str]) -> CliFault:
    known = ", ".join(names)
    meant = get_close_matches(lane.lower(), names, n=1)
    return CliFault(
        ExitCode.USAGE,
        "no_such_lane",
        Words("passages.no-charge-point-this-site", lane=lane, known=known),
        None,
        Words("passages.did-you-mean-lane", meant=meant[0]) if meant else None,
    )


# --- list -----------------------------------------------------------------------------------------------------------


def _shares(_: Screen, timing: Timing | None) -> str:
    if timing is None:
        return ""
    return "/".join(f"{part / 1000:.0f}" for part in (timing.own_us, timing.radio_us, timing.bank_us))


def _total(_: Screen, timing: Timing | None) -> str:
    return "" if timing is None else f"{timing.total_us / 1000:.0f}"


def _remark(screen: Screen, passage: Listed) -> Cell:
    """Remark on what makes a passage longer than one decision."""
    parts = []
    if passage.decision.occasion is not Occasion.LANE:
        parts.append(words.occasion_text(screen, passage.decision))
    earlier = passage.decisions - passage.repeats - 1
    if earlier:
        parts.append(screen.say("passages.decisions", count=earlier + 1))
    if passage.repeats:
        parts.append(screen.say("passages.seen-x-again", repeats=passage.repeats))
    return Cell(", ".join(parts), DOUBTFUL)


PASSAGE: Final[Columns[Listed]] = (
    *within(DECISION, lambda p: p.decision),
    Column("", Words("label.record-no"), lambda p: p.decision.record_no, right=True),
    Column("", labels.TIME, lambda p: p.decision.decided_us, Screen.short),
    Column("", labels.LANE, lambda p: p.decision.lane),
    Column("passage_id", of=lambda p: p.decision.passage_id),
    Column("plate", labels.PLATE, lambda p: p.who.plate),
    Column("plate_colour", Words("label.colour"), lambda p: p.who.plate_colour, words.colour_text, rank=8),
    Column("vehicle_class", Words("label.class"), rank=3, right=True),
    fen("", Words("label.fare"), lambda p: p.decision.fare_fen),
    Column("", labels.OUTCOME, lambda p: p.decision.outcome, words.coded(words.OUTCOMES)),
    Column("debit_state", Words("label.now"), text=words.coded(words.DEBIT_STATES), rank=1),
    said(labels.BARRIER, lambda screen, p: words.barrier_text(screen, p.decision), rank=1),
    Column("", labels.REASON, lambda p: p.decision.reason, words.reason_text, wrap_at=16),
    Column("", Words("label.special-event"), lambda p: p.decision.special_event, rank=5, right=True),
    Column("", labels.FUNDING, lambda p: p.decision.funding, words.coded(words.FUNDINGS), rank=2),
    said(Words("label.remark"), _remark, rank=7),
    *only("decisions", "repeats"),
    Column("", Words("label.ms"), lambda p: p.decision.timing, _total, rank=2, right=True),
    Column("", Words("label.ours-radio-bank"), lambda p: p.decision.timing, _shares, rank=4, right=True),
    Column("", Words("label.tariff"), lambda p: p.decision.tariff_version, rank=9),
    Column("", Words("label.lists"), lambda p: p.decision.list_version, rank=9),
)


# --- one passage ----------------------------------------------------------------------------------------------------


@app.command()
def show(
    context: typer.Context,
    *,
    which: Annotated[str, typer.Argument(metavar="RECORD_NO|PASSAGE_ID")],
    config: ConfigOption = None,
    as_json: JsonOption = False,
    unmask: UnmaskOption = False,
) -> None:
    """Show everything about one passage: decisions, debit, transfers, bank attempts, purchases, open items."""
    from gateway.views.visits import find_visit

    screen, site = at_site(context, config)
    with ledger_of(site) as connection:
        visit = find_visit(connection, which, unmask=unmask)
    if visit is None:
        raise CliFault(
            ExitCode.REFUSED,
            "no_such_passage",
            Words("passages.no-such", which=which),
            Words("passages.passage-named-record-number-or"),
            Words("passages.etcgw-passages-config-site-lists"),
        )
    if as_json:
        screen.json(facts(screen, VISIT, visit))
    else:
        show_passage(screen, visit)
