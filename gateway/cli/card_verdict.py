"""`etcgw card verdict`: would a charge point take a card, and every reason why not."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from gateway.cli import labels, words
from gateway.cli.card_read import FromOption, contents_from, identity_columns
from gateway.cli.card_reader import ReaderOption, WaitOption, on_card
from gateway.cli.columns import Column, Columns, each, facts, said, show_record, show_table
from gateway.cli.errors import CliFault, ExitCode
from gateway.cli.options import (
    ConfigOption,
    JsonOption,
    UnmaskOption,
    age_text,
    at_site,
    moment,
    now_utc,
    path_of,
    screen_of,
    zone_of,
)
from gateway.cli.screen import BAD, DOUBTFUL, GOOD, Cell, Screen
from gateway.cli.store import ledger_of
from gateway.texts.catalogue import Text, Words

if TYPE_CHECKING:
    from drivers.card_slot import CardSlot
    from gateway.cards.contents import CardContents
    from gateway.cards.verdict import Finding, ListsInForce, Question, SiteFacts, Verdict
    from gateway.config import SiteFile
    from protocols.crypto import Algorithm


def verdict(
    context: typer.Context,
    *,
    reader: ReaderOption = None,
    wait: WaitOption = 0.0,
    dump: FromOption = None,
    config: ConfigOption = None,
    at: Annotated[str | None, typer.Option("--at", metavar="TIME")] = None,
    amount: Annotated[int | None, typer.Option("--amount", metavar="FEN", min=0)] = None,
    psam: Annotated[str | None, typer.Option("--psam", metavar="READER", show_default=False)] = None,
    at_exit: Annotated[bool, typer.Option("--exit")] = False,
    as_json: JsonOption = False,
    unmask: UnmaskOption = False,
) -> None:
    """Judge whether a charge point would take a card, with every reason why not. Exit 1 when it would be refused."""
    from gateway.cards.verdict import Question, judge

    screen, zone, site = desk_site(context, config)
    contents = contents_from(reader, wait, dump)
    asked = now_utc() if at is None else moment(at, zone, "--at")
    facts_of_site, trusted = site_facts(site, contents, asked, amount) if site else (None, _plausible(asked))
    keys = None if psam is None else on_card(psam, 0.0, _keys)
    question = Question(asked, zone, trusted or at is not None, amount, at_exit, keys)
    judged = judge(contents, question, facts_of_site)
    columns = _columns(contents, question, facts_of_site, at, unmask=unmask)
    told = facts(screen, columns, judged)
    if not as_json:
        _show(screen, columns, judged)
    if not judged.taken:
        count = sum(finding.refuses for finding in judged.findings)
        raise CliFault(ExitCode.REFUSED, "card_refused", Words("verdict.refused-count", count=count), facts=told)
    if as_json:
        screen.json(told)


# --- facts of the site ------------------------------------------------------------------------------------------------


def desk_site(context: typer.Context, config: Path | None) -> tuple[Screen, timezone, SiteFile | None]:
    """Screen and zone of the site that was named, and the site; of China where none was."""
    from protocols.codings import CHINA_TIME

    try:
        path_of(context, config)
    except typer.BadParameter:
        return replace(screen_of(context), zone=CHINA_TIME), CHINA_TIME, None
    screen, site = at_site(context, config)
    return screen, zone_of(site), site


def _plausible(now: datetime) -> bool:
    """True when a clock without a site's records to compare it with may be right."""
    from gateway.timekeeping import EARLIEST

    return now >= EARLIEST


def site_facts(site: SiteFile, contents: CardContents, now: datetime, amount_fen: int | None) -> tuple[SiteFacts, bool]:
    """Facts of a site, and True when its clock can be trusted: it says no less than its records and lists prove."""
    from drivers.clock import SystemClock
    from gateway.assembly import issuers_of
    from gateway.cards.standing import day_of, lists_in_force, with_ledger
    from gateway.cards.verdict import SiteFacts
    from gateway.ledger.clock_readings import latest_us
    from gateway.model.clock import from_us
    from gateway.payers.mandates import Issuers
    from gateway.payers.status_lists import proved_times
    from gateway.rules.loading import load_rules
    from gateway.timekeeping import Timekeeper

    time = Timekeeper(SystemClock())
    for made in proved_times(site.lists.directory):
        time.passed(made)
    limit = timedelta(hours=site.lists.age_limit_h)
    lists = lists_in_force(site.lists.directory, now, site.lists.drop_bound, limit)
    found = SiteFacts(Issuers(issuers_of(site)), lists, None)
    card = contents.card_file
    if card is not None and site.storage.ledger.exists():
        rules = load_rules(site.rules.file)
        with ledger_of(site) as connection:
            time.passed(from_us(latest_us(connection)))
            today = day_of(now, zone_of(site))
            found = with_ledger(found, connection, card.card_number, rules, today=today, amount_fen=amount_fen or 0)
    return found, time.trusted


async def _keys(slot: CardSlot) -> frozenset[Algorithm]:
    """Key sets of the PSAM in a slot."""
    from drivers.psam import Psam
    from gateway.cards.psam import read_psam

    return (await read_psam(Psam(slot))).algorithms


# --- output -----------------------------------------------------------------------------------------------------------

CHECKS: Final[Mapping[str, Text]] = MappingProxyType(
    {
        "kind": Words("verdict.check.kind"),
        "files": Words("verdict.check.files"),
        "issuer": Words("verdict.check.issuer"),
        "dates": Words("verdict.check.dates"),
        "plate": Words("verdict.check.plate"),
        "lists": Words("verdict.check.lists"),
        "mandate": Words("verdict.check.mandate"),
        "limits": Words("verdict.check.limits"),
        "purse": Words("verdict.check.purse"),
        "entry": Words("verdict.check.entry"),
        "keys": Words("verdict.check.keys"),
        "counter": Words("verdict.check.counter"),
        "purchases": Words("verdict.check.purchases"),
        "debts": Words("verdict.check.debts"),
    }
)


def _show(screen: Screen, columns: Columns[Verdict], judged: Verdict) -> None:
    """Show a verdict to people."""
    show_record(screen, columns, judged)
    if judged.findings:
        screen.line()
        show_table(screen, FINDINGS, judged.findings)
    if judged.not_made:
        screen.line()
        names = ", ".join(screen.word(CHECKS[check.value]) for check in judged.not_made)
        screen.line(screen.say("verdict.not-checked", checks=names), style=DOUBTFUL)


def _columns(
    contents: CardContents, question: Question, site: SiteFacts | None, at: str | None, *, unmask: bool
) -> Columns[Verdict]:
    """Columns of a verdict, those of its card among them."""
    return (
        Column("taken", Words("verdict.verdict"), text=_taken),
        *(
            Column(one.key, one.title, lambda _, one=one: one.take(contents), one.text, one.data)  # type: ignore[misc]
            for one in identity_columns(unmask=unmask)
        ),
        Column("at", Words("verdict.judged-at"), lambda _: question.at, _at, _iso),
        Column("clock", Words("verdict.clock"), lambda _: _clock(question, at), _clock_text),
        Column("list", Words("label.list"), lambda _: None if site is None else site.lists, *_list_columns(question)),
        Column("findings", data=each(FINDINGS)),
        Column("not_checked", of=lambda v: v.not_made, data=lambda _, checks: [check.value for check in checks]),
    )


def _taken(screen: Screen, taken: bool) -> Cell:
    return Cell(screen.say("verdict.taken"), GOOD) if taken else Cell(screen.say("verdict.refused"), BAD)


def _at(screen: Screen, moment: datetime) -> str:
    return f"{moment.astimezone(screen.zone):%Y-%m-%d %H:%M:%S %Z}"


def _iso(screen: Screen, moment: datetime) -> str:
    return moment.astimezone(screen.zone).isoformat(timespec="seconds")


def _clock(question: Question, at: str | None) -> str:
    return "given" if at is not None else "trusted" if question.clock_trusted else "suspect"


def _clock_text(screen: Screen, quality: str) -> Cell:
    told = {
        "given": Cell(screen.say("verdict.clock-given")),
        "trusted": Cell(screen.say("verdict.clock-trusted"), GOOD),
        "suspect": Cell(screen.say("verdict.clock-suspect"), BAD),
    }
    return told[quality]


def _list_columns(question: Question) -> tuple[Any, Any]:
    """Text and JSON of the list in force."""

    def text(screen: Screen, found: ListsInForce | None) -> str | Cell | None:
        if found is None:
            return None
        if found.lists is None:
            return Cell("-" if found.problem is None else screen.word(found.problem), BAD)
        age = age_text(found.lists.age(question.at).total_seconds())
        stale = found.lists.stale(question.at, found.age_limit)
        return Cell(screen.say("verdict.list", version=found.lists.version, age=age), DOUBTFUL if stale else "")

    def data(_: Screen, found: ListsInForce | None) -> dict[str, Any] | None:
        if found is None or found.lists is None:
            return None
        age = found.lists.age(question.at)
        return {
            "version": found.lists.version,
            "age_s": round(age.total_seconds(), 1),
            "stale": found.lists.stale(question.at, found.age_limit),
        }

    return text, data


def _weight(screen: Screen, finding: Finding) -> Cell:
    return Cell(screen.say("verdict.refuses"), BAD) if finding.refuses else Cell(screen.say("verdict.note"), DOUBTFUL)


def _reason(screen: Screen, finding: Finding) -> str:
    text = words.named_reason(screen, finding.reason.code)
    return text if finding.detail is None else f"{text}: {screen.word(finding.detail)}"


FINDINGS: Final[Columns[Any]] = (
    said(Words("verdict.weight"), _weight),
    Column("check", Words("verdict.check"), text=lambda screen, check: screen.word(CHECKS[check.value])),
    said(labels.REASON, _reason, wrap_at=24),
    Column("reason", of=lambda f: f.reason.code, data=lambda _, code: words.reason_facts(code)),
    Column("refuses"),
    Column("detail", data=lambda _, text: None if text is None else str(text)),
    Column(
        "special_event",
        Words("verdict.event"),
        lambda f: f.reason.special_event,
        data=lambda _, number: words.event_facts(number),
        right=True,
    ),
    said(labels.NEXT_STEP, lambda screen, f: words.next_step(screen, f.reason.code), wrap_at=20),
)
