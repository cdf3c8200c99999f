"""`etcgw psam`: a PSAM in a reader, what it holds, and whether a lane would work with it."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from types import MappingProxyType
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from gateway.cli import labels, words
from gateway.cli.card_reader import ReaderOption, WaitOption, on_card
from gateway.cli.card_verdict import desk_site
from gateway.cli.columns import Column, Columns, each, facts, said, show_one, show_record, show_table
from gateway.cli.errors import CliFault, ExitCode
from gateway.cli.help import Commands
from gateway.cli.options import ConfigOption, JsonOption, UnmaskOption, now_utc, screen_of
from gateway.cli.screen import BAD, DOUBTFUL, GOOD, QUIET, Cell, Screen
from gateway.cli.usage import BadValue
from gateway.texts.catalogue import Text, Words
from gateway.texts.foreign import text_of
from gateway.views.masks import number_shown

if TYPE_CHECKING:
    from drivers.card_slot import CardSlot
    from drivers.psam import Psam
    from gateway.cards.psam import Key, PsamContents, PsamFinding
    from gateway.config import SiteFile

app = Commands("psam", no_args_is_help=True)

ProfileOption = Annotated[str, typer.Option("--profile", metavar="NAME")]
DEFAULT_PROFILE: Final = "national"


@app.callback()
def psam() -> None:
    """A PSAM in a reader: what it holds, and whether a lane would work with it."""


@app.command()
def info(
    context: typer.Context,
    *,
    reader: ReaderOption = None,
    wait: WaitOption = 0.0,
    profile: ProfileOption = DEFAULT_PROFILE,
    as_json: JsonOption = False,
    unmask: UnmaskOption = False,
) -> None:
    """Show what a PSAM holds and which keys answer. Spends no terminal number."""
    from gateway.cards.psam import read_psam

    screen = screen_of(context)
    found = on_card(reader, wait, lambda slot: read_psam(psam_in(slot, profile)))
    show_one(screen, _columns(unmask=unmask), found, as_json=as_json)


@app.command()
def check(
    context: typer.Context,
    *,
    reader: ReaderOption = None,
    wait: WaitOption = 0.0,
    profile: ProfileOption = DEFAULT_PROFILE,
    config: ConfigOption = None,
    region: Annotated[str | None, typer.Option("--region", metavar="TEXT", show_default=False)] = None,
    spend_one: Annotated[bool, typer.Option("--spend-one")] = False,
    as_json: JsonOption = False,
    unmask: UnmaskOption = False,
) -> None:
    """Check whether a lane would work with a PSAM. Exit 1 when not; only --spend-one spends a terminal number."""
    from gateway.cards.psam import PsamQuestion, check_psam, read_psam
    from gateway.timekeeping import EARLIEST

    screen, zone, site = desk_site(context, config)
    now = now_utc()
    question = PsamQuestion(now, zone, now >= EARLIEST, _regions(site, region), spend_one)

    async def work(slot: CardSlot) -> tuple[PsamContents, tuple[PsamFinding, ...]]:
        module = psam_in(slot, profile)
        contents = await read_psam(module)
        return contents, await check_psam(module, contents, question)

    contents, findings = on_card(reader, wait, work)
    works = not any(finding.refuses for finding in findings)
    told = {
        "works": works,
        "spent": spend_one,
        **facts(screen, _columns(unmask=unmask), contents),
        "checks": each(FINDINGS)(screen, findings),
    }
    if not as_json:
        verdict = Cell(screen.say("psam.works"), GOOD) if works else Cell(screen.say("psam.does-not-work"), BAD)
        screen.pairs([(screen.say("verdict.verdict"), verdict)])
        show_record(screen, _columns(unmask=unmask), contents)
        screen.line()
        show_table(screen, FINDINGS, findings)
        if not spend_one:
            screen.line(screen.say("psam.nothing-spent"), style=QUIET)
    if not works:
        count = sum(finding.refuses for finding in findings)
        raise CliFault(ExitCode.REFUSED, "psam_refused", Words("psam.refused-count", count=count), facts=told)
    if as_json:
        screen.json(told)


def psam_in(slot: CardSlot, profile: str) -> Psam:
    """PSAM in a slot, with its maker's ways."""
    from drivers.psam import Psam
    from protocols.card.psam_profiles import PROFILES

    if profile not in PROFILES:
        raise BadValue(Words("psam.no-profile", name=profile, names=", ".join(PROFILES)), "'--profile'")
    return Psam(slot, profile=PROFILES[profile])


def _regions(site: SiteFile | None, region: str | None) -> frozenset[bytes] | None:
    """Heads of the issuer ids that are taken: those that somebody names, else the site's."""
    if region is not None:
        return frozenset({region_bytes(region)})
    if site is None:
        return None
    from gateway.assembly import issuers_of

    return frozenset(issuers_of(site))


def region_bytes(text: str) -> bytes:
    """Four bytes of a region, by its text (测试) or in hex."""
    from protocols.regions import REGIONS

    for known in REGIONS:
        if text in (known.zh, known.en, known.text_bytes.hex(), known.text_bytes.hex().upper()):
            return known.text_bytes
    raise BadValue(Words("psam.no-region", region=text), "'--region'")


# --- output -----------------------------------------------------------------------------------------------------------

STATES: Final[Mapping[str, tuple[Words, str]]] = MappingProxyType(
    {
        "present": (Words("psam.key.present"), GOOD),
        "absent": (Words("psam.key.absent"), QUIET),
        "locked": (Words("psam.key.locked"), BAD),
    }
)


def _columns(*, unmask: bool) -> Columns[PsamContents]:
    def number(_: Screen, value: str | None) -> str | None:
        return number_shown(value, unmask=unmask)

    return (
        Column("reader"),
        Column("serial", Words("psam.serial"), lambda c: c.info.issue.serial.hex().upper(), number, number),
        Column("terminal", Words("psam.terminal"), lambda c: c.info.terminal.hex().upper()),
        Column("version", Words("psam.version"), lambda c: f"{c.info.issue.version:02X}"),
        Column("key_type", Words("psam.key-type"), lambda c: f"{c.info.issue.key_type:02X}"),
        Column("issuer", Words("card.issuer"), lambda c: _region_text(c.info.application.issuer)),
        Column("area", Words("psam.area"), lambda c: _region_text(c.info.application.area)),
        said(Words("card.valid"), _validity),
        Column("starts", of=lambda c: c.info.starts, data=_day),
        Column("expires", of=lambda c: c.info.expires, data=_day),
        Column("key_index", Words("psam.key-index"), lambda c: f"{c.info.application.key_index:02X}"),
        Column("sm4_key_index", Words("psam.sm4-key-index"), lambda c: _hex_byte(c.info.application.sm4_key_index)),
        Column("algorithms", Words("psam.key-sets"), _algorithms, lambda _, names: ", ".join(names)),
        Column("authorised", Words("psam.authorised"), text=_authorised),
        Column("keys", Words("psam.keys"), lambda c: c.keys, _keys_text, _keys_facts),
        Column("warnings", Words("card.warnings"), lambda c: c.info.warnings, _warnings, lambda _, texts: list(texts)),
    )


def _region_text(issuer: bytes) -> str:
    from protocols.codings import read_text
    from protocols.regions import REGION_BYTES

    return f"{read_text(issuer[:REGION_BYTES])} {issuer.hex().upper()}".strip()


def _hex_byte(value: int | None) -> str | None:
    return None if value is None else f"{value:02X}"


def _day(_: Screen, day: date | None) -> str | None:
    return None if day is None else day.isoformat()


def _validity(screen: Screen, found: PsamContents) -> Cell:
    starts, expires = found.info.starts, found.info.expires
    first, last = (day.isoformat() if day else "-" for day in (starts, expires))
    return Cell(screen.say("card.from-to", first=first, last=last), "" if starts and expires else DOUBTFUL)


def _algorithms(found: PsamContents) -> list[str]:
    return sorted(one.title for one in found.algorithms)


def _authorised(screen: Screen, authorised: bool | None) -> Cell:
    if authorised is None:
        return Cell(screen.say("psam.authorised-unknown"), DOUBTFUL)
    return Cell(screen.say("psam.authorised-yes"), GOOD) if authorised else Cell(screen.say("psam.authorised-no"), BAD)


def _keys_text(screen: Screen, keys: tuple[Key, ...]) -> str:
    names = ((screen.word(KINDS[key.kind.value]), key.algorithm.title, STATES[key.state.value][0]) for key in keys)
    return ", ".join(f"{kind} {cipher} {screen.word(state)}" for kind, cipher, state in names)


def _keys_facts(_: Screen, keys: tuple[Key, ...]) -> list[dict[str, str]]:
    return [{"use": key.kind.value, "algorithm": key.algorithm.title, "state": key.state.value} for key in keys]


def _warnings(screen: Screen, texts: tuple[str, ...]) -> Cell | None:
    return Cell("; ".join(screen.word(text_of(text)) for text in texts), DOUBTFUL) if texts else None


KINDS: Final[Mapping[str, Text]] = MappingProxyType(
    {
        "vehicle": Words("psam.kind.vehicle"),
        "tac": Words("psam.kind.tac"),
        "external_auth": Words("psam.kind.external_auth"),
        "maintenance": Words("psam.kind.maintenance"),
    }
)

CHECKS: Final[Mapping[str, Text]] = MappingProxyType(
    {
        "dates": Words("verdict.check.dates"),
        "region": Words("psam.check.region"),
        "authorised": Words("psam.authorised"),
        "keys": Words("psam.key-sets"),
        "counter": Words("psam.check.counter"),
    }
)


def _result(screen: Screen, finding: PsamFinding) -> Cell:
    if not finding.made:
        return Cell(screen.say("psam.not-checked"), QUIET)
    if finding.reason is None:
        return Cell(screen.say("psam.passed"), GOOD)
    return Cell(screen.say("verdict.refuses"), BAD) if finding.refuses else Cell(screen.say("verdict.note"), DOUBTFUL)


def _reason(screen: Screen, finding: PsamFinding) -> str:
    parts = [] if finding.reason is None else [words.named_reason(screen, finding.reason.code)]
    parts += [] if finding.detail is None else [screen.word(finding.detail)]
    return ": ".join(parts)


FINDINGS: Final[Columns[Any]] = (
    said(Words("psam.result"), _result),
    Column("check", Words("verdict.check"), lambda f: f.check.value, lambda screen, name: screen.word(CHECKS[name])),
    Column("made"),
    said(labels.REASON, _reason, wrap_at=24),
    Column("reason", of=lambda f: f.reason, data=lambda _, r: None if r is None else words.reason_facts(r.code)),
    Column("refuses"),
    Column("detail", data=lambda _, text: None if text is None else str(text)),
    said(
        labels.NEXT_STEP,
        lambda screen, f: "" if f.reason is None else words.next_step(screen, f.reason.code),
        wrap_at=20,
    ),
)
