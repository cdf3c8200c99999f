"""`etcgw check-config`: is the site file right, and is everything it names there and usable?

Nothing stops at the first problem: a person at a lane wants the whole list in one go.
"""

from __future__ import annotations

import grp
import os
import stat
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gateway import private_files
from gateway.cli import labels
from gateway.cli.errors import CliFault, ExitCode
from gateway.cli.help import Commands
from gateway.cli.options import ConfigOption, JsonOption, age_text, now_utc, path_of, screen_of, zone_of
from gateway.cli.screen import BAD, DOUBTFUL, GOOD, Cell, Heading, Screen
from gateway.model.states import OPEN_DEBITS
from gateway.texts.catalogue import Language, Pair, Text, Words

if TYPE_CHECKING:
    from pathlib import Path

    from sqlalchemy import Engine

    from gateway.config import SiteFile
    from gateway.documents import Problem
    from gateway.points.config import ChargePoint
    from gateway.tariffs.quote import TariffVersion

app = Commands("check-config")


@dataclass(slots=True)
class _Findings:
    """Findings of the checks."""

    problems: list[Problem] = field(default_factory=list)
    notes: list[tuple[str, Text]] = field(default_factory=list)
    """Notes on what is not wrong, but somebody may want to know."""
    facts: dict[str, Any] = field(default_factory=dict)

    def wrong(self, key: str, value: object, problem: Text, cure: Text) -> None:
        from gateway.documents import Problem

        self.problems.append(Problem(key, str(value), problem, cure))

    def note(self, key: str, text: Text) -> None:
        self.notes.append((key, text))


@app.command("check-config")
def check_config(
    context: typer.Context,
    *,
    config: ConfigOption = None,
    parameters: Annotated[bool, typer.Option("--parameters")] = False,
    as_json: JsonOption = False,
) -> None:
    """Check a site file and everything it names: lists, tariffs, dialects, ledger, mandates. Exit 2 when wrong."""
    screen = screen_of(context)
    if parameters:
        _show_parameters(screen, as_json=as_json)
        return
    from gateway.config import ConfigError, load

    path = path_of(context, config)
    findings = _Findings()
    try:
        site = load(path)
    except ConfigError as error:
        findings.problems.extend(error.problems)
        findings.note("file", Words("check.file-first"))
    else:
        findings.facts["site"] = {
            "name": site.site.name,
            "mode": site.mode.value,
            "charge_points": [point.name for point in site.charge_points],
        }
        for look in CHECKS:
            look(site, findings)
    facts = _facts(str(path), findings)
    if not as_json:
        _show(screen, str(path), findings)
    if findings.problems:
        raise wrong_file("site_file_wrong", path, findings.problems, facts)
    if as_json:
        screen.json(facts)


# --- what is looked at ----------------------------------------------------------------------------------------------


def _check_places(site: SiteFile, findings: _Findings) -> None:
    """Check the folders the gateway writes to."""
    ledger, state = site.storage.ledger, site.storage.state
    if ledger.parent.exists() and not os.access(ledger.parent, os.W_OK):
        findings.wrong("storage.ledger", ledger, Words("check.folder-not-writable"), Words("check.give-right"))
    if ledger.exists() and not os.access(ledger, os.R_OK | os.W_OK):
        findings.wrong("storage.ledger", ledger, Words("check.not-ours-to-use"), Words("check.give-right"))
    if not state.parent.is_dir() and state.parent != ledger.parent:
        findings.wrong("storage.state", state, Words("check.folder-missing"), Words("check.make-folder"))


def _check_people(site: SiteFile, findings: _Findings) -> None:
    """Check that those who have a role can come to the gateway's desk."""
    socket, people = site.people.socket, site.people
    if not socket.parent.is_dir() and socket.parent != site.storage.ledger.parent:
        findings.wrong("people.socket", socket, Words("check.folder-missing"), Words("check.make-folder"))
    known = {group.gr_name for group in grp.getgrall()}
    for role, groups in people.groups.items():
        for name in sorted(set(groups) - known):
            findings.wrong(
                f"people.roles.{role.value}", repr(name), Words("check.no-group"), Words("check.make-group", name=name)
            )
    if any(people.groups.values()) and socket.parent.is_dir() and not socket.parent.stat().st_mode & stat.S_IXOTH:
        findings.note("people.socket", Words("check.folder-not-entered", folder=socket.parent))


def _check_rights(site: SiteFile, findings: _Findings) -> None:
    """Check that nobody but the gateway's user may use our files."""
    for found in private_files.open_to_others(site.storage.files):
        problem = Words("check.open-to-others", mode=f"{found.mode:04o}")
        findings.wrong("storage", found.path, problem, Pair.same(found.cure))


def _check_chain_keys(site: SiteFile, findings: _Findings) -> None:
    from gateway.config import chain_keys_of
    from gateway.ledger.chain_key_files import ChainKeyError

    try:
        keys = chain_keys_of(site)
    except ChainKeyError as error:
        for problem in error.problems:
            findings.wrong(problem.key, error.path, problem.problem, problem.cure)
        return
    findings.facts["chain_key"] = {"id": keys.current.id.hex(), "retired": [key.id.hex() for key in keys.retired]}


def _check_secrets(site: SiteFile, findings: _Findings) -> None:
    """Check the files with logins and keys of devices."""
    from gateway.secret_files import SecretError

    for i, point in enumerate(site.charge_points):
        for secret in point.secrets():
            try:
                secret.read(f"charge_points[{i}].{secret.key}", secret.path)
            except SecretError as error:
                for problem in error.problems:
                    findings.wrong(problem.key, error.path, problem.problem, problem.cure)


def _check_http(site: SiteFile, findings: _Findings) -> None:
    """Check that the files of the gateway's own server are there, and its key closed."""
    for name, path in (("certificate", site.http.certificate), ("key", site.http.key)):
        if path is not None and not path.is_file():
            findings.wrong(f"http.{name}", path, Words("check.file-missing"), Words("documents.name-readable-file"))
    key = site.http.key
    for found in private_files.open_to_others([] if key is None else [key]):
        if not found.folder:
            findings.wrong(
                "http.key", key, Words("check.open-to-others", mode=f"{found.mode:04o}"), Pair.same(found.cure)
            )


def _check_lists(site: SiteFile, findings: _Findings) -> None:
    from gateway.payers.list_file import StatusListError
    from gateway.payers.status_lists import StatusLists
    from gateway.points.config import Need

    if not site.need(Need.LISTS):
        return
    now = now_utc()
    try:
        lists = StatusLists.open(site.lists.directory, now, site.lists.drop_bound)
    except StatusListError as error:
        problem = Words("check.part", part=error.field, problem=error.problem)
        findings.wrong("lists.directory", error.file, problem, Words("check.build-list", cure=error.cure))
        return
    if lists.refusal is not None:
        refusal = lists.refusal
        problem = Words("check.newest-unusable", part=refusal.field, problem=refusal.problem)
        findings.wrong("lists.directory", refusal.file, problem, refusal.cure)
    stale = lists.stale(now, timedelta(hours=site.lists.age_limit_h))
    age_s = lists.age(now).total_seconds()
    if stale:
        limit_h = f"{site.lists.age_limit_h:g}"
        findings.note("lists", Words("check.list-old", version=lists.version, age=age_text(age_s), limit_h=limit_h))
    findings.facts["lists"] = {
        "version": lists.version,
        "entries": lists.snapshot.entries,
        "age_s": round(age_s, 1),
        "stale": stale,
    }


def _check_tariffs(site: SiteFile, findings: _Findings) -> None:
    from gateway.points.config import Need
    from gateway.tariffs.loading import TariffError, load_tariffs

    if not site.need(Need.TARIFFS):
        return
    try:
        tariffs = load_tariffs(site.tariffs.directory)
    except TariffError as error:
        shown = error.file if error.value is None else f"{error.file}: {error.value!r}"
        findings.wrong(f"tariffs: {error.key}", shown, error.problem, error.cure)
        return
    now = now_utc()
    version = tariffs.in_force(now)
    findings.facts["tariffs"] = {
        "versions": [known.version for known in tariffs.versions],
        "in_force": None if version is None else version.version,
        "valid_to": None
        if version is None or version.valid_to is None
        else version.valid_to.astimezone(zone_of(site)).isoformat(),
    }
    if version is None:
        problem = Words("check.no-tariff-in-force", valid_from=tariffs.versions[0].valid_from.isoformat())
        findings.wrong("tariffs.directory", site.tariffs.directory, problem, Words("check.install-tariff"))
        return
    for i, point in enumerate(site.charge_points):
        missing = _fare_missing(point, version)
        if missing is not None:
            key = f"charge_points[{i}].station"
            findings.wrong(key, repr(point.station), missing, Words("check.correct-station"))


def _fare_missing(lane: ChargePoint, version: TariffVersion) -> Text | None:
    """Reason why a lane could not price any vehicle, None when it can."""
    from gateway.points.toll.config import ChargingLane
    from gateway.points.toll.settings import LaneKind

    if not isinstance(lane, ChargingLane):
        return None
    station = lane.station.upper()
    if lane.kind is LaneKind.OPEN and station not in version.class_tables:
        return Words("check.no-class-table", station=station, version=version.version)
    if lane.kind is LaneKind.EXIT and station not in version.matrix and station not in version.routes:
        return Words("check.no-exit", version=version.version)
    return None


def _check_rules(site: SiteFile, findings: _Findings) -> None:
    from gateway.banks.iso8583 import refuses_for_good
    from gateway.rules.loading import RulesError, load_rules

    try:
        rules = load_rules(site.rules.file)
    except RulesError as error:
        for problem in error.problems:
            findings.wrong("rules.file", error.path, problem, Words("check.rules-check"))
        return
    findings.facts["rules"] = {"version": rules.version, "digest": rules.digest}
    for service, rule in rules.stand_in:
        for code in filter(refuses_for_good, rule.also_after_codes):
            key = f"rules.stand_in.{service}.also_after_codes"
            findings.wrong(key, code, Words("check.final-refusal"), Words("check.leave-out"))


def _check_clearing(site: SiteFile, findings: _Findings) -> None:
    from gateway.clearing.rules import ClearingRulesError, load_rules

    try:
        rules = load_rules(site.clearing.rules)
    except ClearingRulesError as error:
        for problem in error.problems:
            findings.wrong("clearing.rules", error.path, problem, Words("check.correct-file"))
        return
    known = {bank.name for bank in site.banks} | {issuer.name for issuer in site.issuers}
    for name in sorted((rules.fees.keys() | rules.day_files.keys()) - known):
        findings.wrong("clearing.rules", name, Words("check.no-payer"), Words("check.correct-name"))
    places = {point.name for point in site.charge_points} | {point.station for point in site.charge_points}
    for name in sorted(rules.splits.keys() - places):
        findings.wrong("clearing.rules", name, Words("check.no-place"), Words("check.correct-name"))
    findings.facts["clearing"] = {"version": rules.version}


def _check_ledger(site: SiteFile, findings: _Findings) -> None:
    from sqlalchemy.exc import DBAPIError

    from gateway.ledger import engines, schema

    path = site.storage.ledger
    if not path.exists():
        findings.facts["ledger"] = {"path": str(path), "exists": False}
        findings.note("storage.ledger", Words("check.ledger-not-there", path=path))
        return
    engine = engines.open_reader(path)
    try:
        state = schema.look(engine)
        findings.facts["ledger"] = {"path": str(path), "exists": True, "schema": state.found, "schema_here": state.head}
        if isinstance(state.refused, schema.SchemaTooOld):
            problem = Words("check.schema-too-old", found=state.found)
            findings.wrong("storage.ledger", path, problem, Words("check.new-ledger"))
        elif state.refused is not None:
            problem = Words("check.schema-unknown", found=state.found)
            findings.wrong("storage.ledger", path, problem, Words("check.install-version"))
        elif state.found != state.head:
            findings.note("storage.ledger", Words("check.schema-upgraded", found=state.found, head=state.head))
        else:
            _check_mandates(site, engine, findings)
    except DBAPIError as error:
        problem = Words("check.part", part=engines.trouble_of(error).text, problem=str(error.orig))
        findings.wrong("storage.ledger", path, problem, Words("check.name-ledger"))
    finally:
        engine.dispose()


def _check_mandates(site: SiteFile, engine: Engine, findings: _Findings) -> None:
    """Check the banks that mandates name against the site file and the lanes' terminals."""
    from gateway.views import debits, mandates

    with engine.connect() as connection:
        total = sum(mandates.counts(connection).values())
        charged = mandates.charged_banks(connection)
        still_open = sum(one.count for one in debits.sums(connection, OPEN_DEBITS))
    findings.facts["ledger"] |= {"mandates": total, "open_debits": still_open}
    known = {bank.name for bank in site.banks}
    for name, count in sorted(charged.items()):
        if name not in known:
            problem = Words("check.bank-of-mandates", count=count)
            findings.wrong("banks", repr(name), problem, Words("check.add-bank"))
            continue
        without = [point.name for point in site.charge_points if not point.terminals.get(name)]
        if without:
            findings.note("charge_points.terminals", Words("check.never-asked", points=", ".join(without), bank=name))


def _check_barriers(site: SiteFile, findings: _Findings) -> None:
    """Note lanes whose barrier has no closed limit: nothing can prove there that an opening was lost."""
    from gateway.points.toll.config import TollLane

    points: Sequence[ChargePoint] = site.charge_points
    lanes = [point for point in points if isinstance(point, TollLane)]
    without = [lane.name for lane in lanes if lane.outputs.closed_limit is None]
    if without:
        findings.note(
            "charge_points.outputs.closed_limit",
            Words("check.no-closed-limit", lanes=", ".join(without)),
        )


CHECKS: Sequence[Callable[[SiteFile, _Findings], None]] = (
    _check_places,
    _check_people,
    _check_rights,
    _check_chain_keys,
    _check_secrets,
    _check_http,
    _check_lists,
    _check_tariffs,
    _check_rules,
    _check_clearing,
    _check_ledger,
    _check_barriers,
)


# --- telling --------------------------------------------------------------------------------------------------------


def _facts(path: str, findings: _Findings) -> dict[str, Any]:
    return {
        "ok": not findings.problems,
        "file": path,
        "problems": problem_facts(findings.problems),
        "notes": [{"key": key, "note": text.told(Language.EN)} for key, text in findings.notes],
        "facts": findings.facts,
    }


def _show(screen: Screen, path: str, findings: _Findings) -> None:
    say = screen.say
    pairs: list[tuple[str, str | Cell]] = [(say("check.site-file"), path), *_fact_pairs(screen, findings.facts)]
    pairs += [(say("check.note"), Cell(f"{key}: {screen.word(note)}", DOUBTFUL)) for key, note in findings.notes]
    count = len(findings.problems)
    pairs.append(
        (
            say("check.verdict"),
            Cell(say("check.count-wrong", count=count), BAD) if count else Cell(say("check.order"), GOOD),
        )
    )
    screen.pairs(pairs)
    show_problems(screen, findings.problems)


def wrong_file(name: str, path: Path, problems: Sequence[Problem], facts: Mapping[str, Any]) -> CliFault:
    """Fault to raise once the problems of a file have been shown."""
    cure = Words("check.correct-shown")
    return CliFault(
        ExitCode.USAGE,
        name,
        Words("check.wrong", path=path, problems=len(problems)),
        None,
        cure,
        facts=facts,
    )


def problem_facts(problems: Sequence[Problem]) -> list[dict[str, str | None]]:
    """Problems of a file for JSON."""
    return [
        {
            "key": problem.key,
            "value": problem.value or None,
            "problem": problem.problem.told(Language.EN),
            "problem_zh": problem.problem.told(Language.ZH),
            "cure": problem.cure.told(Language.EN),
            "cure_zh": problem.cure.told(Language.ZH),
        }
        for problem in problems
    ]


def show_problems(screen: Screen, problems: Sequence[Problem]) -> None:
    """Problems of a file for people, each in a block of its own."""
    say = screen.say
    for problem in problems:
        screen.line()
        shown: list[tuple[str, str | Cell]] = [(screen.word(labels.KEY), Cell(problem.key, BAD))]
        if problem.value:
            shown.append((screen.word(labels.VALUE), problem.value))
        shown.append((say("check.problem"), screen.word(problem.problem)))
        shown.append((say("check.cure"), screen.word(problem.cure)))
        screen.pairs(shown)


def _fact_pairs(screen: Screen, facts: Mapping[str, Any]) -> list[tuple[str, str | Cell]]:
    say = screen.say
    pairs: list[tuple[str, str | Cell]] = []
    if "site" in facts:
        site = facts["site"]
        pairs.append((say("check.site"), f"{site['name']} ({site['mode']}): {', '.join(site['charge_points'])}"))
    if "lists" in facts:
        lists = facts["lists"]
        count = say("check.entries", entries=lists["entries"])
        pairs.append((say("check.lists"), f"{lists['version']}, {count}, {age_text(lists['age_s'])}"))
    if "tariffs" in facts:
        tariffs = facts["tariffs"]
        until = "" if tariffs["valid_to"] is None else say("check.until", valid_to=tariffs["valid_to"])
        pairs.append((say("check.tariff"), f"{tariffs['in_force'] or '-'}{until}"))
    if "rules" in facts:
        pairs.append((say("check.rules"), facts["rules"]["version"]))
    ledger = facts.get("ledger", {})
    if ledger.get("exists"):
        parts = [say("check.schema", schema=ledger["schema"])]
        if "mandates" in ledger:
            parts.append(say("check.mandates", mandates=ledger["mandates"]))
            parts.append(say("check.open-debits", open_debits=ledger["open_debits"]))
        pairs.append((say("label.ledger"), ", ".join(parts)))
    return pairs


def _show_parameters(screen: Screen, *, as_json: bool) -> None:
    from gateway.config import parameters

    rows = list(parameters())
    if as_json:
        screen.json({"parameters": [{"key": k, "default": d, "description": text.en} for k, d, text in rows]})
        return
    say = screen.say
    columns = [
        Heading(screen.word(labels.KEY)),
        Heading(say("check.default"), wrap_at=10),
        Heading(screen.word(labels.MEANING), wrap_at=24),
    ]
    defaults = {"required": say("check.required")}
    screen.table(columns, [[key, defaults.get(default, default), screen.word(text)] for key, default, text in rows])
