"""The site file: one TOML file says what stands at a site. Unknown keys are errors; secrets never stand in it.

Every key has a description; `etcgw check-config` shows it as the cure when the value is wrong. Relative paths count
from the folder of the site file.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Hashable, Iterator
from dataclasses import replace
from enum import StrEnum
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Final, Literal

from pydantic import AwareDatetime, Field, ValidationError

from gateway import private_files
from gateway.acts.actor import Role
from gateway.banks.config import Bank
from gateway.documents import (
    DocumentError,
    Hex8,
    Name,
    Problem,
    Section,
    host_port,
    not_toml,
    problem_of,
    too_large,
    unreadable,
)
from gateway.documents import parameters as parameters_of
from gateway.doors import HttpSection
from gateway.ledger import chain_key_files
from gateway.ledger.chain import ChainKeys
from gateway.ledger.pace import HELD_MS_MAX
from gateway.payers.status_lists import DROP_BOUND, ENTRIES_MAX, DropBound
from gateway.points.config import Need
from gateway.points.counter.config import CounterPoint
from gateway.points.fuel.config import FuelIsland
from gateway.points.gate.config import RelayBoard
from gateway.points.toll.config import ChargingLane, EntryLane
from gateway.text_files import text_of
from gateway.texts.catalogue import Pair, Text, Words

FILE_BYTES_MAX = 1 << 20
"""A site file of a whole plaza has some ten kilobytes; what is larger is not one."""


class Mode(StrEnum):
    """`bench` allows what a lane must never have: software PSAMs, fault switches, test clocks."""

    PRODUCTION = "production"
    BENCH = "bench"


class Site(Section):
    """[site]"""

    name: str = Field(min_length=1, max_length=80)
    """name of the site for people, for example "东关收费站" """
    merchant: Name = "road"
    """who earns the tolls; its account in the ledger carries this name"""
    utc_offset_min: int = Field(480, ge=-720, le=840)
    """minutes east of Greenwich for times on cards; 480 = China"""


class Storage(Section):
    """[storage]"""

    ledger: Path = Path("ledger.db")
    """SQLite file of the ledger, made by `etcgw ledger create`; its folder also holds the reserve file"""
    mark: Path | None = None
    """file that remembers how far the ledger has come, best on another disk; left out: beside it, name and .mark"""
    state: Path = Path("state.json")
    """file the running gateway keeps its condition in, for `etcgw status`"""
    chain_key: Path = Path("chain.key")
    """file with the key of the ledger's chains, made by `etcgw ledger key`; readable by the gateway's user alone"""
    retired_chain_keys: list[Path] = Field(default_factory=list)
    """files of the keys the ledger was chained under before; `etcgw ledger verify` needs each of them"""
    held_ms_max: float = Field(default=HELD_MS_MAX, gt=0, le=1000)
    """longest time in ms for which a command beside the gateway means to hold the ledger's write lock"""

    @property
    def files(self) -> list[Path]:
        """Files that the gateway writes and nobody but its user may read, existing or not. A key file that others could
        read is refused instead of closed: its key is compromised."""
        mark = self.mark_file
        return [*private_files.of_ledger(self.ledger), mark, Path(f"{mark}.lock"), self.state]

    @property
    def mark_file(self) -> Path:
        """Path of the ledger's mark."""
        return Path(f"{os.path.realpath(self.ledger)}.mark") if self.mark is None else self.mark


class PeopleRoles(Section):
    """[people.roles]: the machine's groups whose accounts may do things; the gateway's user and root may do all"""

    cashier: list[str] = Field(default_factory=list)
    """groups that take and give money at tills"""
    clerk: list[str] = Field(default_factory=list)
    """groups that put right what is stuck or different: refunds, adjustments, limits, items"""


class People(Section):
    """[people]"""

    socket: Path = Path("people.sock")
    """where the running gateway takes what people do; for other accounts, in a folder that they may enter"""
    roles: PeopleRoles = PeopleRoles()

    @property
    def groups(self) -> dict[Role, list[str]]:
        """Groups by role."""
        return {Role.CASHIER: self.roles.cashier, Role.CLERK: self.roles.clerk}


class Lists(Section):
    """[lists]"""

    directory: Path = Path("lists")
    """folder with CURRENT and the list files built by `etcgw lists build`"""
    age_limit_h: float = Field(default=24.0, gt=0, le=24 * 365)
    """hours after which the lists count as stale (alarm 104)"""
    look_every_s: float = Field(default=2.0, gt=0, le=3600)
    """seconds between two looks for a newly published version"""
    drop_percent_max: float = Field(default=DROP_BOUND.percent_max, ge=0, le=100)
    """share of the entries that may leave with one publication unless a person confirms it"""
    drop_entries_max: int = Field(default=DROP_BOUND.entries_max, ge=0, le=ENTRIES_MAX)
    """so many may always leave, but never all"""

    @property
    def drop_bound(self) -> DropBound:
        """Both drop limits as one bound."""
        return DropBound(self.drop_percent_max, self.drop_entries_max)


class Tariffs(Section):
    """[tariffs]"""

    directory: Path = Path("tariffs")
    """folder with one TOML file for each tariff version"""


class Rules(Section):
    """[rules]"""

    file: Path | None = None
    """TOML file with the debit rules of this site; left out: the rules shipped, see `etcgw rules show` """


class Clearing(Section):
    """[clearing]"""

    rules: Path | None = None
    """TOML file with fees, splits, shifts and the form of banks' day files; left out: no fee, no split, our own form"""


class Issuer(Section):
    """[[issuers]]"""

    region: Hex8
    """first four bytes of the issuer identifier, GBK text of the region in hex, for example "B2E2CAD4" """
    name: Name
    """name of the issuer's account in the ledger"""
    charge_card_without_mandate: Literal["refuse", "issuer_clearing"] = "refuse"
    """what becomes of charge cards (type 23) no mandate is imported for"""


PointSection = Annotated[ChargingLane | EntryLane | FuelIsland | CounterPoint, Field(discriminator="kind")]
"""Every kind of charge point this version knows."""


class BenchSwitches(Section):
    """[bench]: what only a bench may switch; a site file in mode "production" has no such section"""

    clock: AwareDatetime | None = None
    """what the gateway's clock says at its start, such as 1970-01-01T00:00:00Z; left out: the machine's time"""


class SiteFile(Section):
    """The whole file."""

    mode: Mode
    """"production" or "bench" """
    site: Site
    storage: Storage = Storage()
    people: People = People()
    lists: Lists = Lists()
    tariffs: Tariffs = Tariffs()
    rules: Rules = Rules()
    clearing: Clearing = Clearing()
    http: HttpSection = HttpSection()
    issuers: list[Issuer] = Field(default_factory=list)
    banks: list[Bank] = Field(default_factory=list)
    relay_boards: list[RelayBoard] = Field(default_factory=list)
    charge_points: list[PointSection] = Field(min_length=1)
    bench: BenchSwitches | None = None

    def need(self, what: Need) -> bool:
        """True when a charge point of this site cannot work without it."""
        return any(what in point.needs for point in self.charge_points)


class ConfigError(DocumentError):
    """The site file cannot be used; every problem names key, value and cure."""


def load(path: Path) -> SiteFile:
    """Read and check a site file; paths in it come back absolute. Raises `ConfigError`."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ConfigError(path, [unreadable(error)]) from error
    if len(data) > FILE_BYTES_MAX:
        raise ConfigError(path, [too_large(len(data))])
    try:
        table = tomllib.loads(text_of(data))
    except ValueError as error:
        raise ConfigError(path, [not_toml(error)]) from error
    try:
        site = SiteFile.model_validate(table)
    except ValidationError as error:
        raise ConfigError(path, [problem_of(found, SiteFile) for found in error.errors()]) from error
    problems = list(_cross_check(site))
    if problems:
        raise ConfigError(path, problems)
    return _absolute(site, path.resolve().parent)


def chain_keys_of(site: SiteFile) -> ChainKeys:
    """Load the keys of the ledger's chains from the files the site names. Raises `ChainKeyError`."""
    storage = site.storage
    production = site.mode is Mode.PRODUCTION
    return chain_key_files.load(storage.chain_key, storage.retired_chain_keys, production=production)


def parameters() -> Iterator[tuple[str, str, Pair]]:
    """Every key with its default and description, for documentation: (key, default, description)."""
    yield from parameters_of(SiteFile)


_USED_TWICE: Final = Words("config.used-twice")


def _cross_check(site: SiteFile) -> Iterator[Problem]:
    """Problems between sections, which the check of one key cannot find."""
    for kind, sections in (
        ("banks", site.banks),
        ("relay_boards", site.relay_boards),
        ("charge_points", site.charge_points),
    ):
        names = [section.name for section in sections]
        for name in sorted({n for n in names if names.count(n) > 1}):
            yield Problem(f"{kind}.name", repr(name), _USED_TWICE, Words("config.own-name-each"))
    if site.bench is not None and site.mode is Mode.PRODUCTION:
        yield Problem("bench", "", Words("config.bench-in-production"), Words("config.remove-section"))
    regions = [issuer.region.upper() for issuer in site.issuers]
    for region in sorted({r for r in regions if regions.count(r) > 1}):
        yield Problem("issuers.region", repr(region), _USED_TWICE, Words("config.one-issuer-a-region"))
    if not site.issuers and site.need(Need.ISSUERS):
        yield Problem("issuers", "[]", Words("config.names-none"), Words("config.name-issuers"))
    yield from _check_http(site)
    yield from _check_boards(site)
    yield from _check_banks(site)
    yield from _check_charge_points(site)


def _check_http(site: SiteFile) -> Iterator[Problem]:
    """Problems of the gateway's own server: callers that cannot reach it, or others that could listen to them."""
    http = site.http
    if _is_loopback(host_port(http.listen)[0]):
        for i, point in enumerate(site.charge_points):
            for key, source in point.callers():
                if not _is_loopback(source):
                    cure, away = Words("config.listen-there"), Words("config.out-of-reach", listen=http.listen)
                    yield Problem(f"charge_points[{i}].{key}", repr(source), away, cure)
    if http.certificate is None and http.key is not None:
        yield Problem(
            "http.key", str(http.key), Words("config.key-without-certificate"), Words("config.add-certificate")
        )
    if http.certificate is None and not http.without_tls and not _is_loopback(host_port(http.listen)[0]):
        yield Problem(
            "http.listen", repr(http.listen), Words("config.open-without-tls"), Words("config.add-certificate")
        )


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _check_boards(site: SiteFile) -> Iterator[Problem]:
    """Problems of relay boards: a board under two names would hide that two outputs share a coil."""
    wired: dict[tuple[str, int], str] = {}
    for i, board in enumerate(site.relay_boards):
        other = wired.setdefault((board.address, board.unit), board.name)
        if other != board.name:
            problem = Words("config.unit-belongs-to", unit=board.unit, other=other)
            yield Problem(f"relay_boards[{i}].address", repr(board.address), problem, Words("config.name-it-once"))


def _check_banks(site: SiteFile) -> Iterator[Problem]:
    """Problems of banks: one that no charge point can ask."""
    for i, bank in enumerate(site.banks):
        if not any(point.terminals.get(bank.name) for point in site.charge_points):
            cure = Words("config.give-terminals-or-remove-bank")
            yield Problem(f"banks[{i}]", repr(bank.name), Words("config.bank-without-terminal"), cure)


def _check_charge_points(site: SiteFile) -> Iterator[Problem]:
    """Problems of charge points against the rest of the file and each other."""
    boards = frozenset(board.name for board in site.relay_boards)
    banks = frozenset(bank.name for bank in site.banks)
    claimed: dict[tuple[Hashable, ...], Text] = {}
    for i, point in enumerate(site.charge_points):
        for problem in point.problems(boards, banks):
            yield replace(problem, key=f"charge_points[{i}].{problem.key}")
        for claim in point.claims():
            other = claimed.setdefault(claim.what, claim.owner)
            if other != claim.owner:
                key = f"charge_points[{i}].{claim.key}"
                yield Problem(key, claim.value, claim.problem(other), claim.cure)


def _absolute(site: SiteFile, folder: Path) -> SiteFile:
    mark = None if site.storage.mark is None else folder / site.storage.mark
    storage = site.storage.model_copy(
        update={
            "ledger": folder / site.storage.ledger,
            "mark": mark,
            "state": folder / site.storage.state,
            "chain_key": folder / site.storage.chain_key,
            "retired_chain_keys": [folder / path for path in site.storage.retired_chain_keys],
        }
    )
    return site.model_copy(
        update={
            "storage": storage,
            "people": site.people.model_copy(update={"socket": folder / site.people.socket}),
            "lists": site.lists.model_copy(update={"directory": folder / site.lists.directory}),
            "tariffs": site.tariffs.model_copy(update={"directory": folder / site.tariffs.directory}),
            "rules": site.rules if site.rules.file is None else Rules(file=folder / site.rules.file),
            "http": site.http.placed(folder),
            "charge_points": [point.placed(folder) for point in site.charge_points],
            "clearing": site.clearing if site.clearing.rules is None else Clearing(rules=folder / site.clearing.rules),
        }
    )
