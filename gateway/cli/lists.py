"""`etcgw lists`: publish status lists, see what is in force, and ask for one key."""

from __future__ import annotations

import os
from collections.abc import Callable
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from gateway.cli import labels, words
from gateway.cli.columns import Column, Columns, each, english, facts, only, said, show_one, show_record, show_table
from gateway.cli.help import Commands
from gateway.cli.options import (
    ConfigOption,
    JsonOption,
    UnmaskOption,
    age_text,
    at_site,
    moment,
    now_utc,
    screen_of,
    site_of,
    zone_of,
)
from gateway.cli.screen import BAD, DOUBTFUL, GOOD, Cell, Screen
from gateway.cli.usage import BadValue
from gateway.texts.catalogue import Text, Words
from gateway.views import masks

if TYPE_CHECKING:
    from gateway.config import SiteFile
    from gateway.payers.list_file import Effect
    from gateway.payers.status_list_build import BuildResult, Progress
    from gateway.payers.status_lists import ListHit
    from gateway.views.status_lists import ListFile, Lists

app = Commands(
    "lists",
    no_args_is_help=True,
)


class KindChoice(StrEnum):
    """Kind of a list entry."""

    CARD = "card"
    OBU = "obu"
    PLATE = "plate"
    PSAM = "psam"


@app.command()
def build(
    context: typer.Context,
    *,
    file: Annotated[Path, typer.Argument(exists=True, dir_okay=False)],
    version: Annotated[str, typer.Option("--version")],
    config: ConfigOption = None,
    base: Annotated[str | None, typer.Option("--base")] = None,
    created: Annotated[
        str | None,
        typer.Option(
            "--created",
            metavar="TIME",
            show_default="time of FILE",
        ),
    ] = None,
    effective: Annotated[
        str | None,
        typer.Option("--effective", metavar="TIME", show_default="when it was made"),
    ] = None,
    confirm_drop: Annotated[
        int | None,
        typer.Option("--confirm-drop", metavar="N", min=1),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run")] = False,
    as_json: JsonOption = False,
) -> None:
    """Build a list from an issuer's delivery and publish it; a running gateway takes it over by itself.

    First says how many entries come, change and leave. If more leave than the site file lets them, or all, nothing is
    published until --confirm-drop names their number. Works at the lowest priority, so that millions of rows cost no
    vehicle its deadline.
    """
    screen, site = at_site(context, config)
    zone = zone_of(site)
    created_at = _file_time(file) if created is None else moment(created, zone, "--created")
    effective_at = created_at if effective is None else moment(effective, zone, "--effective")
    result = _publish(
        screen,
        site,
        file,
        version=version,
        base_version=base,
        created_at=created_at,
        effective_at=effective_at,
        confirmed=confirm_drop,
        dry_run=dry_run,
    )
    show_one(screen, _columns(base, created_at, effective_at, dry_run=dry_run), result, as_json=as_json)
    if dry_run and not as_json:
        screen.note(screen.say("lists.dry-run-nothing-published"))


def _publish(
    screen: Screen,
    site: SiteFile,
    file: Path,
    *,
    version: str,
    **asked: Any,  # noqa: ANN401 - as `build` takes them
) -> BuildResult:
    """Build, showing what comes and goes, and the progress."""
    from gateway.payers import status_list_build

    directory = site.lists.directory
    if not directory.exists():
        directory.mkdir(parents=True)
        screen.note(screen.say("lists.made-folder", directory=directory))
    os.nice(status_list_build.LOWEST_PRIORITY)
    with screen.progress(screen.say("lists.list", version=version)) as tell:

        def report(progress: Progress) -> None:
            total = "" if progress.total is None else f"/{progress.total}"
            tell(f"{progress.phase} {progress.done}{total}")

        return status_list_build.build(
            file,
            directory,
            version=version,
            bound=site.lists.drop_bound,
            show=lambda effect: screen.note(_effect_text(screen, effect)),
            progress=_seldom(report),
            **asked,
        )


def _columns(base: str | None, created_at: datetime, effective_at: datetime, *, dry_run: bool) -> Columns[BuildResult]:
    """Columns of a list that was built, with what was asked for."""
    kind = Words("lists.full") if base is None else Words("lists.increment-on", base=base)
    return (
        Column("file", of=lambda r: None if r.path is None else str(r.path)),
        Column("dry_run", of=lambda _: dry_run),
        Column("version"),
        said(labels.VERSION, lambda screen, r: f"{r.version} ({screen.word(kind)})"),
        Column("base", of=lambda _: base),
        Column("rows", Words("label.rows")),
        Column("entries", labels.ENTRIES),
        Column("replaced", Words("label.replaced")),
        Column("before", of=lambda r: r.effect and r.effect.before),
        Column("added", of=lambda r: r.effect and r.effect.added),
        Column("changed", of=lambda r: r.effect and r.effect.changed),
        Column("removed", of=lambda r: r.effect and r.effect.removed),
        Column("created_at", labels.CREATED, lambda _: created_at, _text, lambda _, moment: moment.isoformat()),
        Column("effective_at", labels.EFFECTIVE, lambda _: effective_at, _text, lambda _, moment: moment.isoformat()),
        said(labels.FILE, lambda _, r: "-" if r.path is None else str(r.path)),
    )


def _effect_text(screen: Screen, effect: Effect) -> str:
    return screen.say(
        "lists.entries-come-change-leave-before",
        added=effect.added,
        changed=effect.changed,
        removed=effect.removed,
        before=effect.before,
        after=effect.after,
    )


STEPS_TOLD = 16
"""Buckets between two reports of a build: a line for each of 256 would be noise."""


def _seldom(report: Callable[[Progress], None]) -> Callable[[Progress], None]:
    def told(progress: Progress) -> None:
        if progress.phase != "write" or progress.done % STEPS_TOLD == 0:
            report(progress)

    return told


def _file_time(file: Path) -> datetime:
    """Time of a delivery's file: the delivery is not younger, so the age of the list is not told too low."""
    return datetime.fromtimestamp(file.stat().st_mtime, UTC)


def _text(screen: Screen, moment: datetime | None) -> str | None:
    return None if moment is None else moment.astimezone(screen.zone).isoformat(timespec="seconds")


# --- show -----------------------------------------------------------------------------------------------------------


@app.command()
def show(context: typer.Context, config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Show which list is in force, how old it is, and what else is published. Checks every file."""
    from gateway.views.status_lists import lists_of

    screen, site = at_site(context, config)
    found = lists_of(site.lists.directory, site.lists.drop_bound, site.lists.age_limit_h, now_utc())
    if as_json:
        screen.json(facts(screen, LISTS, found))
    else:
        show_record(screen, LISTS, found)
        screen.line()
        show_table(screen, FILE, found.files)


def _minute(screen: Screen, moment: datetime | None) -> str:
    return "" if moment is None else f"{moment.astimezone(screen.zone):%Y-%m-%d %H:%M}"


def _kind(screen: Screen, kind: str | None) -> str:
    return "" if kind is None else screen.say(f"lists.kind.{kind}")


def _file_state(screen: Screen, file: ListFile) -> Cell:
    if file.problem is not None:
        return Cell(screen.word(file.problem), BAD)
    if file.in_force:
        return Cell(screen.say("lists.force"), GOOD)
    return Cell(screen.say("lists.waits"), DOUBTFUL) if file.waits else Cell(screen.say("lists.older"))


FILE: Final[Columns[ListFile]] = (
    Column("chain", Words("label.chain"), right=True),
    Column("in_force"),
    Column("version", labels.VERSION),
    Column("name"),
    Column("kind", Words("label.kind-of-list"), text=_kind),
    Column("base", Words("label.base"), rank=2),
    Column("entries", labels.ENTRIES, right=True),
    Column("effective_at", labels.EFFECTIVE, text=_minute, data=_text),
    Column("created_at", labels.CREATED, text=_minute, data=_text, rank=1),
    said(labels.STATE, _file_state, wrap_at=12),
    Column("problem", data=english),
)


def _age(screen: Screen, lists: Lists) -> Cell:
    age, limit = age_text(round(lists.age_s, 1)), f"{lists.age_limit_h:g} h"
    if lists.stale:
        return Cell(screen.say("lists.stale-limit", age=age, limit=limit), BAD)
    return Cell(screen.say("lists.most", age=age, limit=limit), GOOD)


def _refusal(screen: Screen, why: Text | None) -> Cell | None:
    return None if why is None else Cell(screen.word(why), BAD)


LISTS: Final[Columns[Lists]] = (
    Column("in_force", labels.IN_FORCE),
    Column("entries", labels.ENTRIES),
    Column("created_at", labels.CREATED, text=_text, data=_text),
    Column("effective_at", data=_text),
    Column("age_s", data=lambda _, age: round(age, 1)),
    said(Words("label.age-of-list"), _age),
    *only("stale", "age_limit_h"),
    Column("directory", Words("label.folder"), data=lambda _, folder: str(folder)),
    Column("refusal", Words("label.refused-delivery"), text=_refusal, data=english),
    Column("files", data=each(FILE)),
)


# --- look up and roll back ------------------------------------------------------------------------------------------


@app.command()
def lookup(
    context: typer.Context,
    *,
    kind: Annotated[KindChoice, typer.Argument()],
    key: Annotated[
        str,
        typer.Argument(),
    ],
    config: ConfigOption = None,
    as_json: JsonOption = False,
    unmask: UnmaskOption = False,
) -> None:
    """Ask whether a card, tag, plate or PSAM is on the list in force, and why. Exit 0 whatever the answer."""
    from gateway.payers.status_list_build import key_form
    from gateway.payers.status_lists import ListKind, StatusLists, canonical_key

    screen = screen_of(context)
    site = site_of(context, config)
    list_kind = ListKind(kind.value)
    plain = canonical_key(list_kind, key)
    expected = key_form(list_kind, plain)
    if expected is not None:
        # Without this check a mistyped key would read as "not listed".
        raise BadValue(Words("usage.list-key", kind=kind.value, expected=expected), "'KEY'")
    lists = StatusLists.open(site.lists.directory, now_utc(), site.lists.drop_bound)
    shown = masks.key_shown(kind.value, plain, unmask=unmask) or ""
    columns: Columns[ListHit | None] = (
        Column("kind", of=lambda _: kind.value),
        Column("key", of=lambda _: shown),
        said(labels.KEY, lambda *_: f"{kind.value} {shown}"),
        Column("listed", Words("label.listed"), lambda hit: hit is not None, _listed),
        Column("list_type", Words("label.type"), lambda hit: hit and hit.list_type),
        Column(
            "reason",
            labels.REASON,
            lambda hit: hit and hit.reason.code,
            words.named_reason,
            lambda _, code: words.reason_facts(code),
        ),
        said(labels.NEXT_STEP, lambda screen, hit: words.next_step(screen, None if hit is None else hit.reason.code)),
        Column("entered_by", Words("label.entered"), lambda hit: hit and hit.list_version),
        Column("list_version", Words("label.list"), lambda _: lists.version),
    )
    show_one(screen, columns, lists.lookup(list_kind, plain), as_json=as_json)


def _listed(screen: Screen, listed: bool) -> Cell:
    return Cell(screen.say("lists.yes"), BAD) if listed else Cell(screen.say("lists.no"), GOOD)


@app.command("roll-back")
def roll_back(context: typer.Context, config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Take the newest publication out and put the one before it back in force."""
    from gateway.payers import status_list_build
    from gateway.payers.status_lists import read_manifest

    screen = screen_of(context)
    site = site_of(context, config)
    withdrawn = read_manifest(site.lists.directory).chains[0][-1].version
    version = status_list_build.roll_back(site.lists.directory)
    columns: Columns[str] = (
        Column("withdrawn", Words("label.withdrawn"), lambda _: withdrawn),
        Column("in_force", labels.IN_FORCE, lambda found: found),
    )
    show_one(screen, columns, version, as_json=as_json)
