"""`etcgw lists`: publish status lists, see what is in force, and ask for one key."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta, timezone
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gateway.cli import labels, words
from gateway.cli.options import (
    HELP_NAMES,
    ConfigOption,
    JsonOption,
    UnmaskOption,
    age_text,
    moment,
    now_utc,
    screen_of,
    site_of,
    zone_of,
)
from gateway.cli.screen import BAD, DOUBTFUL, GOOD, Cell, Column, Screen

if TYPE_CHECKING:
    from gateway.config import SiteFile
    from gateway.payers.status_list_build import Progress
    from gateway.payers.status_lists import ChainFile, Effect

app = typer.Typer(
    name="lists",
    help="Status lists: build, show, look up, roll back.",
    no_args_is_help=True,
    context_settings=HELP_NAMES,
)


class KindChoice(StrEnum):
    """What a list entry is about."""

    CARD = "card"
    OBU = "obu"
    PLATE = "plate"
    PSAM = "psam"


@app.command()
def build(
    context: typer.Context,
    *,
    file: Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="CSV: kind,key,list_type,sign.")],
    version: Annotated[str, typer.Option("--version", help="Version the issuer gives this list.")],
    config: ConfigOption = None,
    base: Annotated[
        str | None, typer.Option("--base", help="Version this increment stands on; without it the list is full.")
    ] = None,
    created: Annotated[
        str | None,
        typer.Option(
            "--created",
            metavar="TIME",
            help="When the issuer made it; its age counts from here.",
            show_default="time of FILE",
        ),
    ] = None,
    effective: Annotated[
        str | None,
        typer.Option("--effective", metavar="TIME", help="Not used before then.", show_default="when it was made"),
    ] = None,
    confirm_drop: Annotated[
        int | None,
        typer.Option("--confirm-drop", metavar="N", min=1, help="Just so many entries are meant to leave the list."),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Check the file and count what comes and goes; publish nothing.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Build a list from an issuer's delivery and publish it; a running gateway takes it over by itself.

    First says how many entries come, change and leave. If more leave than the site file lets them, or all, nothing is
    published until --confirm-drop names their number. Works at the lowest priority, so that millions of rows cost no
    vehicle its deadline.
    """
    from gateway.payers import status_list_build

    screen = screen_of(context)
    site = site_of(context, config)
    zone = zone_of(site)
    created_at = _file_time(file) if created is None else moment(created, zone, "--created")
    effective_at = created_at if effective is None else moment(effective, zone, "--effective")
    directory = site.lists.directory
    if not directory.exists():
        directory.mkdir(parents=True)
        screen.note(screen.say(f"made the folder {directory}", f"已创建目录 {directory}"))
    os.nice(status_list_build.LOWEST_PRIORITY)
    with screen.progress(screen.say(f"list {version}", f"名单 {version}")) as tell:

        def report(progress: Progress) -> None:
            total = "" if progress.total is None else f"/{progress.total}"
            tell(f"{progress.phase} {progress.done}{total}")

        def show(effect: Effect) -> None:
            screen.note(_effect_text(screen, effect))

        result = status_list_build.build(
            file,
            directory,
            version=version,
            base_version=base,
            created_at=created_at,
            effective_at=effective_at,
            bound=site.lists.drop_bound,
            confirmed=confirm_drop,
            dry_run=dry_run,
            show=show,
            progress=_seldom(report),
        )
    effect = result.effect
    facts = {
        "file": None if result.path is None else str(result.path),
        "dry_run": dry_run,
        "version": result.version,
        "base": base,
        "rows": result.rows,
        "entries": result.entries,
        "replaced": result.replaced,
        "before": None if effect is None else effect.before,
        "added": None if effect is None else effect.added,
        "changed": None if effect is None else effect.changed,
        "removed": None if effect is None else effect.removed,
        "created_at": created_at.isoformat(),
        "effective_at": effective_at.isoformat(),
    }
    if as_json:
        screen.json(facts)
        return
    say = screen.say
    screen.pairs(
        [
            (
                say("Version", "版本"),
                f"{result.version} ({say('increment on ' + base, '基于 ' + base) if base else say('full', '全量')})",
            ),
            (say("Rows", "行数"), str(result.rows)),
            (say("Entries", "条目"), str(result.entries)),
            (say("Replaced", "重复被替换"), str(result.replaced)),
            (say("Created", "生成时间"), _text(created_at, zone)),
            (say("Effective", "生效时间"), _text(effective_at, zone)),
            (say(*labels.FILE), "-" if result.path is None else str(result.path)),
        ]
    )
    if dry_run:
        screen.note(say("dry run: nothing was published", "试运行: 未发布任何名单"))


def _effect_text(screen: Screen, effect: Effect) -> str:
    return screen.say(
        f"entries: {effect.added} come, {effect.changed} change, {effect.removed} leave;"
        f" {effect.before} before, {effect.after} after",
        f"条目: 新增 {effect.added},变更 {effect.changed},移出 {effect.removed};原 {effect.before},现 {effect.after}",
    )


STEPS_TOLD = 16
"""Of the buckets a build writes, every so-manieth is told: a line for each of 256 would be noise."""


def _seldom(report: Callable[[Progress], None]) -> Callable[[Progress], None]:
    def told(progress: Progress) -> None:
        if progress.phase != "write" or progress.done % STEPS_TOLD == 0:
            report(progress)

    return told


def _file_time(file: Path) -> datetime:
    """A delivery is not younger than its file, so the age of the list is not told too low."""
    return datetime.fromtimestamp(file.stat().st_mtime, UTC)


def _text(at: datetime, zone: timezone) -> str:
    return at.astimezone(zone).isoformat(timespec="seconds")


# --- show -----------------------------------------------------------------------------------------------------------


@app.command()
def show(context: typer.Context, config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Show which list is in force, how old it is, and what else is published. Checks every file."""
    screen = screen_of(context)
    site = site_of(context, config)
    facts = _facts(site)
    if as_json:
        screen.json(facts)
    else:
        _show(screen, facts)


def _facts(site: SiteFile) -> dict[str, Any]:
    from gateway.payers.status_lists import StatusLists, read_manifest

    now = now_utc()
    directory = site.lists.directory
    lists = StatusLists.open(directory, now, site.lists.drop_bound)
    snapshot = lists.snapshot
    in_force = {file.header.identity for file in snapshot.files}
    manifest = read_manifest(directory)
    zone = zone_of(site)
    return {
        "directory": str(directory),
        "in_force": lists.version,
        "entries": snapshot.entries,
        "created_at": _text(snapshot.created_at, zone),
        "effective_at": _text(snapshot.effective_at, zone),
        "age_s": round(lists.age(now).total_seconds(), 1),
        "stale": lists.stale(now, timedelta(hours=site.lists.age_limit_h)),
        "age_limit_h": site.lists.age_limit_h,
        "refusal": None if lists.refusal is None else str(lists.refusal),
        "files": [
            {"chain": number, "in_force": named.identity in in_force, **_file_facts(directory, named, zone)}
            for number, chain in enumerate(manifest.chains, start=1)
            for named in chain
        ],
    }


def _file_facts(directory: Path, named: ChainFile, zone: timezone) -> dict[str, Any]:
    """One published file by its header; a header that cannot be read is told, not fatal."""
    from gateway.payers.status_lists import HEADER_LENGTH, FileKind, StatusListError, read_header

    path = directory / named.name
    facts: dict[str, Any] = {
        "version": named.version,
        "effective_at": _text(named.effective_at, zone),
        "name": named.name,
        "kind": None,
        "base": None,
        "entries": None,
        "created_at": None,
        "problem": None,
    }
    try:
        with path.open("rb") as stream:
            header = read_header(path, stream.read(HEADER_LENGTH))
    except (OSError, StatusListError) as error:
        return facts | {"problem": str(error)}
    return facts | {
        "kind": "full" if header.kind is FileKind.FULL else "increment",
        "base": header.base_version,
        "entries": header.count,
        "created_at": _text(header.created_at, zone),
    }


def _show(screen: Screen, facts: Mapping[str, Any]) -> None:
    say = screen.say
    age = age_text(facts["age_s"])
    limit = f"{facts['age_limit_h']:g} h"
    pairs: list[tuple[str, str | Cell]] = [
        (say("In force", "现用版本"), facts["in_force"]),
        (say("Entries", "条目"), str(facts["entries"])),
        (say("Created", "生成时间"), facts["created_at"]),
        (
            say("Age", "名单时效"),
            Cell(say(f"{age}, STALE: the limit is {limit}", f"{age},已超过上限 {limit}"), BAD)
            if facts["stale"]
            else Cell(say(f"{age} of at most {limit}", f"{age},上限 {limit}"), GOOD),
        ),
        (say("Folder", "目录"), facts["directory"]),
    ]
    if facts["refusal"]:
        pairs.append((say("Refused", "被拒绝"), Cell(facts["refusal"], BAD)))
    screen.pairs(pairs)
    screen.line()
    columns = [
        Column(say("Chain", "链"), right=True),
        Column(say("Version", "版本")),
        Column(say("Kind", "类型")),
        Column(say("Base", "基于"), rank=2),
        Column(say("Entries", "条目"), right=True),
        Column(say("Effective", "生效时间")),
        Column(say("Created", "生成时间"), rank=1),
        Column(say(*labels.STATE), wrap_at=12),
    ]
    kinds = {"full": say("full", "全量"), "increment": say("increment", "增量"), None: ""}
    rows: list[list[str | Cell]] = [
        [
            str(file["chain"]),
            file["version"],
            kinds[file["kind"]],
            file["base"] or "",
            "" if file["entries"] is None else str(file["entries"]),
            _minute(file["effective_at"]),
            _minute(file["created_at"]),
            _file_state(screen, file),
        ]
        for file in facts["files"]
    ]
    screen.table(columns, rows)


def _minute(text: str | None) -> str:
    return "" if text is None else f"{datetime.fromisoformat(text):%Y-%m-%d %H:%M}"


def _file_state(screen: Screen, file: Mapping[str, Any]) -> Cell:
    if file["problem"]:
        return Cell(file["problem"], BAD)
    if file["in_force"]:
        return Cell(screen.say("in force", "现用"), GOOD)
    waiting = datetime.fromisoformat(file["effective_at"]) > now_utc()
    return Cell(screen.say("waits", "待生效"), DOUBTFUL) if waiting else Cell(screen.say("older", "旧版"))


# --- look up and roll back ------------------------------------------------------------------------------------------


@app.command()
def lookup(
    context: typer.Context,
    *,
    kind: Annotated[KindChoice, typer.Argument(help="What the key names.")],
    key: Annotated[
        str,
        typer.Argument(
            help="Card: 20 digits. Tag: issuer and serial, 32 hex digits. Plate: text|colour code. PSAM: 12 hex digits."
        ),
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
        raise typer.BadParameter(f"a {kind.value} key is {expected}", param_hint="'KEY'")
    lists = StatusLists.open(site.lists.directory, now_utc(), site.lists.drop_bound)
    hit = lists.lookup(list_kind, plain)
    facts = {
        "kind": kind.value,
        "key": _key_shown(kind, plain, unmask=unmask),
        "listed": hit is not None,
        "list_type": None if hit is None else hit.list_type,
        "reason": None if hit is None else words.reason_facts(hit.reason.code),
        "entered_by": None if hit is None else hit.list_version,
        "list_version": lists.version,
    }
    if as_json:
        screen.json(facts)
        return
    say = screen.say
    pairs: list[tuple[str, str | Cell]] = [
        (say(*labels.KEY), f"{kind.value} {facts['key']}"),
        (
            say("Listed", "在名单中"),
            Cell(say("no", "否"), GOOD) if hit is None else Cell(say("YES", "是"), BAD),
        ),
    ]
    if hit is not None:
        pairs += [
            (say("Type", "名单类型"), str(hit.list_type)),
            (say(*labels.REASON), f"{words.reason_text(screen, hit.reason.code)} [{hit.reason.code}]"),
            (say(*labels.NEXT_STEP), words.next_step(screen, hit.reason.code)),
            (say("Entered by", "加入版本"), hit.list_version),
        ]
    pairs.append((say("List", "名单版本"), lists.version))
    screen.pairs(pairs)


def _key_shown(kind: KindChoice, key: str, *, unmask: bool) -> str:
    if kind is not KindChoice.PLATE:
        return words.number_shown(key, unmask=unmask) or ""
    text, bar, colour = key.rpartition("|")
    return f"{words.plate_shown(text, unmask=unmask)}{bar}{colour}"


@app.command("roll-back")
def roll_back(context: typer.Context, config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Take the newest publication out and put the one before it back in force."""
    from gateway.payers import status_list_build
    from gateway.payers.status_lists import read_manifest

    screen = screen_of(context)
    site = site_of(context, config)
    withdrawn = read_manifest(site.lists.directory).chains[0][-1].version
    version = status_list_build.roll_back(site.lists.directory)
    if as_json:
        screen.json({"withdrawn": withdrawn, "in_force": version})
        return
    say = screen.say
    screen.pairs([(say("Withdrawn", "已撤回"), withdrawn), (say("In force", "现用版本"), version)])
