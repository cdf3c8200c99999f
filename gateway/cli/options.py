"""Options that several commands share, and what follows from them: the screen, the site, points in time."""

from __future__ import annotations

import re
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from gateway.acts.actor import NAME_CHARS_MAX, REASON_CHARS_MAX
from gateway.cli.screen import Screen
from gateway.cli.usage import BadValue
from gateway.texts.catalogue import Words

if TYPE_CHECKING:
    from gateway.config import SiteFile

CONFIG_VARIABLE: Final = "ETCGW_CONFIG"

HELP_NAMES: Final = {"help_option_names": ["-h", "--help"]}
"""Settings of every group of commands, and of the program."""

ConfigOption = Annotated[
    Path | None,
    typer.Option("--config", metavar="SITE", envvar=CONFIG_VARIABLE, show_default=False),
]
JsonOption = Annotated[bool, typer.Option("--json")]
UnmaskOption = Annotated[bool, typer.Option("--unmask")]

LAST_MAX: Final = 100_000
"""Rows one command shows at most: a year of a busy lane is better asked of the database."""

LastOption = Annotated[int, typer.Option("--last", metavar="N", min=1, max=LAST_MAX)]

ReasonOption = Annotated[str, typer.Option("--reason", metavar="TEXT", show_default=False)]
TillOption = Annotated[str, typer.Option("--till", metavar="NAME", show_default=False)]

DebitArgument = Annotated[
    str,
    typer.Argument(metavar="DEBIT"),
]

_ID: Final = re.compile(r"[0-9a-f]{32}")
_AGO: Final = re.compile(r"([0-9]{1,6})([smhd])", re.ASCII)
DAYS_AGO: Final = {"today": 0, "yesterday": 1}
"""Days by the name that people give them."""
_AGO_UNITS: Final = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


def show_version(context: typer.Context, wanted: bool) -> None:
    """Print name and version of the program and end, when its option --version is given."""
    if not wanted:
        return
    from importlib.metadata import PackageNotFoundError, version

    number = "of a source tree that is not installed"
    with suppress(PackageNotFoundError):
        number = version("etc-gateway")
    typer.echo(f"{context.info_name} {number}")
    raise typer.Exit


def screen_of(context: typer.Context) -> Screen:
    """The screen that the program's own options chose."""
    screen = context.find_object(Screen)
    if screen is None:
        raise RuntimeError("commands run below the program, which makes the screen")
    return screen


def path_of(context: typer.Context, config: Path | None) -> Path:
    """The site file: named here, or before the subcommand (`passages --config SITE show 7`)."""
    above = context.parent
    while config is None and above is not None:
        config = above.params.get("config")
        above = above.parent
    if config is None:
        raise BadValue(Words("usage.which-site", variable=CONFIG_VARIABLE), "'--config'")
    return config


def site_of(context: typer.Context, config: Path | None) -> SiteFile:
    """The site file, loaded and checked."""
    from gateway.config import load

    return load(path_of(context, config))


def at_site(context: typer.Context, config: Path | None) -> tuple[Screen, SiteFile]:
    """The screen with times of the site's zone, and the site file."""
    site = site_of(context, config)
    return replace(screen_of(context), zone=zone_of(site)), site


def zone_of(site: SiteFile) -> timezone:
    """The site's own time zone."""
    return timezone(timedelta(minutes=site.site.utc_offset_min))


def id_of(given: str, option: str) -> str:
    """An id as the ledger keeps it."""
    found = given.strip().lower()
    if not _ID.fullmatch(found):
        raise BadValue(Words("usage.no-id", given=given), option)
    return found


def name_of(given: str, option: str) -> str:
    """A name as the ledger keeps it."""
    name = given.strip()
    if not name or len(name) > NAME_CHARS_MAX:
        raise BadValue(Words("usage.name-length", most=NAME_CHARS_MAX), f"'{option}'")
    return name


def reason_of(given: str) -> str:
    """A reason as the ledger keeps it."""
    reason = given.strip()
    if not reason or len(reason) > REASON_CHARS_MAX:
        raise BadValue(Words("usage.reason-length", most=REASON_CHARS_MAX), "'--reason'")
    return reason


def now_utc() -> datetime:
    """The machine's clock, aware UTC."""
    return datetime.now(UTC)


def moment(text: str, zone: timezone, option: str) -> datetime:
    """A point in time: ISO 8601, in the site's zone unless it names another; `30m`, `2h`, `1d` ago; a day by name."""
    ago = _AGO.fullmatch(text)
    try:
        if text in DAYS_AGO:
            day = now_utc().astimezone(zone) - timedelta(days=DAYS_AGO[text])
            return day.replace(hour=0, minute=0, second=0, microsecond=0)
        if ago is not None:
            return now_utc() - timedelta(**{_AGO_UNITS[ago[2]]: int(ago[1])})
        found = datetime.fromisoformat(text)
    except (ValueError, OverflowError) as error:
        raise BadValue(Words("usage.no-time", text=text), f"'{option}'") from error
    return found if found.tzinfo is not None else found.replace(tzinfo=zone)


def age_text(seconds: float) -> str:
    """An age in one unit: `0.4 s`, `12 min`, `3.5 h`, `8 d`."""
    if seconds < 120:
        return f"{seconds:.1f} s"
    if seconds < 7200:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h" if seconds < 172_800 else f"{seconds / 86_400:.0f} d"
