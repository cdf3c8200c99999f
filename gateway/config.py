"""The site file: one TOML file says what stands at a site. Unknown keys are errors; secrets never stand in it.

Every key has a description; `etcgw check-config` shows it as the cure when the value is wrong. Relative paths count
from the folder of the site file.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Iterator
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, AwareDatetime, Field, ValidationError

from drivers.lane_io import TRAVEL_MS
from drivers.link import parse_link_address
from gateway import private_files
from gateway.acts.actor import Role
from gateway.documents import DocumentError, Problem, Section, problem_of
from gateway.documents import parameters as parameters_of
from gateway.ledger import chain_key_files
from gateway.ledger.chain import ChainKeys
from gateway.ledger.pace import HELD_MS_MAX
from gateway.model.passage import DeclinePolicy
from gateway.payers.status_lists import DROP_BOUND, ENTRIES_MAX, DropBound
from gateway.points.etc.rsu_errors import PROFILES
from gateway.points.toll.settings import ChargeCardPurchase, LaneKind, OnePiecePolicy
from protocols.rsu.registry import DIALECTS

FILE_BYTES_MAX = 1 << 20
"""A site file of a whole plaza has some ten kilobytes; what is larger is not one."""


class Mode(StrEnum):
    """`bench` allows what a lane must never have: software PSAMs, fault switches, test clocks."""

    PRODUCTION = "production"
    BENCH = "bench"


Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]{0,39}$")]
PORT_MAX = 65_535


def _with_port(address: str) -> str:
    if not 0 < int(address.rpartition(":")[2]) <= PORT_MAX:
        raise ValueError(f"the port is not between 1 and {PORT_MAX}")
    return address


HostPort = Annotated[str, Field(pattern=r"^[A-Za-z0-9_.\-\[\]:]+:[0-9]{1,5}$"), AfterValidator(_with_port)]


def _link_address(text: str) -> str:
    parse_link_address(text)
    return text


LinkText = Annotated[str, AfterValidator(_link_address)]
Hex8 = Annotated[str, Field(pattern=r"^[0-9A-Fa-f]{8}$")]


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
        """What the gateway writes and nobody but its user may read, whether it is there or not. A key that others
        could read is no key any more: such a one is refused, not closed."""
        mark = self.mark_file
        return [*private_files.of_ledger(self.ledger), mark, Path(f"{mark}.lock"), self.state]

    @property
    def mark_file(self) -> Path:
        """Where the ledger's mark stands."""
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

    directory: Path
    """folder with CURRENT and the list files built by `etcgw lists build`"""
    age_limit_h: float = Field(24.0, gt=0, le=24 * 365)
    """hours after which the lists count as stale (alarm 104)"""
    look_every_s: float = Field(2.0, gt=0, le=3600)
    """seconds between two looks for a newly published version"""
    drop_percent_max: float = Field(default=DROP_BOUND.percent_max, ge=0, le=100)
    """share of the entries that may leave with one publication unless a person confirms it"""
    drop_entries_max: int = Field(default=DROP_BOUND.entries_max, ge=0, le=ENTRIES_MAX)
    """so many may always leave, but never all"""

    @property
    def drop_bound(self) -> DropBound:
        """Both of them."""
        return DropBound(self.drop_percent_max, self.drop_entries_max)


class Tariffs(Section):
    """[tariffs]"""

    directory: Path
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


class Bank(Section):
    """[[banks]]"""

    name: Name
    """name of the channel; mandates and the bank account in the ledger carry it"""
    protocol: Literal["cups-pos-bcd"] = "cups-pos-bcd"
    """ISO 8583 dialect"""
    address: HostPort
    """host:port of the bank's front end"""
    merchant_no: str = Field(pattern=r"^[0-9A-Za-z]{15}$")
    """merchant number of field 42, 15 characters"""
    tpdu: str = Field("6000030000", pattern=r"^60[0-9A-Fa-f]{8}$")
    """transport header, 5 bytes in hex: 60 and two addresses"""
    header: str = Field("603100310100", pattern=r"^[0-9A-Fa-f]{12}$")
    """message header, 6 bytes in hex"""
    response_codes: Literal["cups-pos", "iso-8583-1987"] = "cups-pos"
    """table of its answer codes (field 39); a code that is not in it leaves the outcome unknown"""
    not_echoed: tuple[Literal[3, 25, 42, 60], ...] = ()
    """fields that its answers fill otherwise than they were asked, and honestly so; all others are compared"""
    anchor_field: Literal[0, 62] = 62
    """private field in which sign-ins, echoes, advices and refunds tell where the ledger stands; 0 = none"""
    mac: Literal["none"] = "none"
    """message authentication of field 64; only "none" is supported by this version"""
    max_message_age_s: int = Field(180, ge=1, le=86_400)
    """seconds after which a message can no longer be under way in the bank's network"""
    echo_idle_s: float = Field(60.0, gt=0, le=3600)
    """seconds without traffic after which the link is tested with an echo"""


class RelayBoardSection(Section):
    """[[relay_boards]]"""

    name: Name
    """name by which lanes refer to the board"""
    address: HostPort
    """host:port of Modbus TCP, usually port 502"""
    unit: int = Field(1, ge=0, le=247)
    """Modbus unit number"""


class Antenna(Section):
    """antenna = { ... } of a lane"""

    address: LinkText
    """host:port of the antenna (it is the server), or "serial:/dev/serial/by-id/...?baud=115200" """
    dialect: str = "pcrsu-v3"
    """dialect of the antenna; `etcgw rsu dialects` lists the known ones"""
    errors: str | None = None
    """error codes and other ways of a maker and version, for example "pcrsu-v3.5"; left out: those of the dialect"""
    lane_mode: int = Field(0x12, ge=0, le=0xFF)
    """LaneMode of C0: 17 section gantry, 18 and 19 province border or parking entry and exit, 4 lane exit"""
    tx_power: int = Field(0x0A, ge=0, le=0x1F)
    """transmit power, 0 to 31; a bench needs 8 to 10, a lane about 21"""
    channel: int = Field(1, ge=0, le=2)
    """radio channel as C0 numbers it"""
    bst_interval_ms: int = Field(10, ge=1, le=255)
    """milliseconds between two beacons"""
    ignore_psam_auth: bool = False
    """true for antennas that report their PSAM as not authorised and work all the same"""


class Outputs(Section):
    """outputs = { ... } of a lane"""

    board: Name
    """name of a relay board"""
    barrier: int = Field(ge=0, le=65_535)
    """coil that lifts the barrier on its rising edge"""
    green: int = Field(ge=0, le=65_535)
    """coil of the green lamp"""
    red: int = Field(ge=0, le=65_535)
    """coil of the red lamp"""
    pulse_ms: int = Field(500, ge=50, le=10_000)
    """length of the barrier pulse"""
    closed_limit: int | None = Field(None, ge=0, le=65_535)
    """input that is on while the barrier is down; left out: an opening the board does not answer is the attendant's"""
    travel_ms: int = Field(TRAVEL_MS, ge=100, le=20_000)
    """time the arm takes to rise, as its maker says; with closed_limit it tells a lost opening from a late one"""


class Lane(Section):
    """[[lanes]]"""

    name: Name
    """name of the lane; decisions carry it"""
    kind: LaneKind
    """"open" (one fare per class) or "exit" (fare from the entry on the card)"""
    station: Hex8
    """network and station as in file 0019, 8 hex digits"""
    lane_no: int = Field(ge=0, le=255)
    """lane number as in file 0019"""
    gantry: str = Field(pattern=r"^[0-9A-Fa-f]{6}$")
    """the lane's own code, 3 bytes in hex (FlagID of C0, last gantry of file 0019)"""
    antenna: Antenna
    outputs: Outputs
    terminals: dict[str, list[Annotated[str, Field(pattern=r"^[0-9A-Za-z]{8}$")]]] = Field(default_factory=dict)
    """terminal numbers (field 41, 8 characters) by bank; an open reversal blocks one terminal, so give two or more"""
    bank_declines: DeclinePolicy = DeclinePolicy.RELEASE_AS_DEBT
    """"release_as_debt" or "hold_for_attendant" when the bank says no after the card has paid"""
    charge_card_purchase: ChargeCardPurchase = ChargeCardPurchase.FARE
    """amount written to charge cards: "fare" or "zero" """
    one_piece_tags: OnePiecePolicy = OnePiecePolicy.REFUSE
    """"refuse", or "contract" to charge the bank mandate of the tag's contract"""
    deadline_ms: int = Field(2000, ge=500, le=10_000)
    """time from the first report to the committed decision"""
    repeat_window_s: float = Field(300.0, ge=1, le=86_400)
    """seconds for which a vehicle that paid keeps its right to pass here"""
    quiet_s: float = Field(10.0, ge=0, le=600)
    """seconds for which a refused vehicle is not dealt with again"""


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
    lists: Lists
    tariffs: Tariffs
    rules: Rules = Rules()
    clearing: Clearing = Clearing()
    issuers: list[Issuer] = Field(min_length=1)
    banks: list[Bank] = Field(default_factory=list)
    relay_boards: list[RelayBoardSection] = Field(min_length=1)
    lanes: list[Lane] = Field(min_length=1)
    bench: BenchSwitches | None = None


class ConfigError(DocumentError):
    """The site file cannot be used; every problem names key, value and cure."""


def load(path: Path) -> SiteFile:
    """Read and check a site file; paths in it come back absolute. Raises `ConfigError`."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ConfigError(path, [Problem("file", "", error.strerror or str(error), "Name a readable file")]) from error
    if len(data) > FILE_BYTES_MAX:
        problem = Problem("file", f"{len(data)} bytes", "is too large for a site file", "Check the path")
        raise ConfigError(path, [problem])
    try:
        table = tomllib.loads(data.decode())
    except ValueError as error:  # not TOML, not UTF-8, or a number without end
        problem = Problem("file", "", f"is not TOML: {error}", "Correct the file at the place named")
        raise ConfigError(path, [problem]) from error
    try:
        site = SiteFile.model_validate(table)
    except ValidationError as error:
        raise ConfigError(path, [problem_of(found, SiteFile) for found in error.errors()]) from error
    problems = list(_cross_check(site))
    if problems:
        raise ConfigError(path, problems)
    return _absolute(site, path.resolve().parent)


def chain_keys_of(site: SiteFile) -> ChainKeys:
    """The keys of the ledger's chains, from the files the site names. Raises `ChainKeyError`."""
    storage = site.storage
    production = site.mode is Mode.PRODUCTION
    return chain_key_files.load(storage.chain_key, storage.retired_chain_keys, production=production)


def host_port(address: str) -> tuple[str, int]:
    """Split an address that the schema has accepted."""
    host, _, port = address.rpartition(":")
    return host.strip("[]"), int(port)


def parameters() -> Iterator[tuple[str, str, str]]:
    """Every key with its default and description, for documentation: (key, default, description)."""
    yield from parameters_of(SiteFile)


def _cross_check(site: SiteFile) -> Iterator[Problem]:
    """What one key alone cannot tell."""
    for kind, names in (
        ("banks", [b.name for b in site.banks]),
        ("relay_boards", [b.name for b in site.relay_boards]),
        ("lanes", [lane.name for lane in site.lanes]),
    ):
        for name in sorted({n for n in names if names.count(n) > 1}):
            yield Problem(f"{kind}.name", repr(name), "is used twice", "Give each its own name")
    if site.bench is not None and site.mode is Mode.PRODUCTION:
        yield Problem("bench", "", 'has no place in mode "production"', "Remove the section")
    regions = [issuer.region.upper() for issuer in site.issuers]
    for region in sorted({r for r in regions if regions.count(r) > 1}):
        yield Problem("issuers.region", repr(region), "is used twice", "A region's cards are one issuer's")
    yield from _check_boards(site)
    yield from _check_banks(site)
    yield from _check_lanes(site)
    yield from _check_lane_numbers(site)


def _check_boards(site: SiteFile) -> Iterator[Problem]:
    """A board under two names would hide that two outputs share a coil."""
    wired: dict[tuple[str, int], str] = {}
    for i, board in enumerate(site.relay_boards):
        other = wired.setdefault((board.address, board.unit), board.name)
        if other != board.name:
            yield Problem(
                f"relay_boards[{i}].address",
                repr(board.address),
                f"unit {board.unit} belongs to {other}",
                "Name it once",
            )


def _check_banks(site: SiteFile) -> Iterator[Problem]:
    """A bank that no lane can ask."""
    for i, bank in enumerate(site.banks):
        if not any(lane.terminals.get(bank.name) for lane in site.lanes):
            cure = "Give lanes terminal numbers at this bank, or remove it"
            yield Problem(f"banks[{i}]", repr(bank.name), "has no terminal at any lane", cure)


def _check_lanes(site: SiteFile) -> Iterator[Problem]:
    """Lanes against boards, banks and each other."""
    banks = {b.name for b in site.banks}
    boards = {b.name for b in site.relay_boards}
    terminals: dict[tuple[str, str], str] = {}
    coils: dict[tuple[str, int], str] = {}
    limits: dict[tuple[str, int], str] = {}
    antennas: dict[str, str] = {}
    for i, lane in enumerate(site.lanes):
        if lane.outputs.board not in boards:
            known = ", ".join(sorted(boards))
            yield Problem(
                f"lanes[{i}].outputs.board", repr(lane.outputs.board), "is no relay board", f"Known are: {known}"
            )
        for use in ("barrier", "green", "red"):
            coil = getattr(lane.outputs, use)
            owner = f"{use} of {lane.name}"
            other = coils.setdefault((lane.outputs.board, coil), owner)
            if other != owner:
                yield Problem(
                    f"lanes[{i}].outputs.{use}", str(coil), f"coil belongs to {other}", "Give each output its coil"
                )
        limit = lane.outputs.closed_limit
        other = lane.name if limit is None else limits.setdefault((lane.outputs.board, limit), lane.name)
        if other != lane.name:
            cure = "Give each barrier its own limit input"
            yield Problem(f"lanes[{i}].outputs.closed_limit", str(limit), f"input belongs to {other}", cure)
        yield from _check_antenna(f"lanes[{i}].antenna", lane)
        other = antennas.setdefault(lane.antenna.address, lane.name)
        if other != lane.name:
            address = repr(lane.antenna.address)
            yield Problem(f"lanes[{i}].antenna.address", address, f"belongs to {other}", "Give each lane its antenna")
        for bank, numbers in lane.terminals.items():
            if bank not in banks:
                yield Problem(f"lanes[{i}].terminals", repr(bank), "is no bank", f"Known are: {', '.join(banks)}")
            for number in sorted({n for n in numbers if numbers.count(n) > 1}):
                yield Problem(f"lanes[{i}].terminals.{bank}", repr(number), "is named twice", "Name each terminal once")
            for number in numbers:
                other = terminals.setdefault((bank, number), lane.name)
                if other != lane.name:
                    yield Problem(
                        f"lanes[{i}].terminals.{bank}",
                        repr(number),
                        f"belongs to {other}",
                        "Give each lane its own terminals: their trace numbers must not mix",
                    )


def _check_lane_numbers(site: SiteFile) -> Iterator[Problem]:
    """What files 0019 and records call a lane by."""
    numbers: dict[tuple[str, int], str] = {}
    for i, lane in enumerate(site.lanes):
        other = numbers.setdefault((lane.station.upper(), lane.lane_no), lane.name)
        if other != lane.name:
            problem = f"is the number of {other} at station {lane.station}"
            cure = "Give each lane of a station its own: on cards nobody could tell them apart"
            yield Problem(f"lanes[{i}].lane_no", str(lane.lane_no), problem, cure)


def _check_antenna(key: str, lane: Lane) -> Iterator[Problem]:
    """Names of tables this version must have."""
    for part, named, known in (("dialect", lane.antenna.dialect, DIALECTS), ("errors", lane.antenna.errors, PROFILES)):
        if named is not None and named not in known:
            yield Problem(f"{key}.{part}", repr(named), "is not known", f"Known are: {', '.join(sorted(known))}")


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
            "clearing": site.clearing if site.clearing.rules is None else Clearing(rules=folder / site.clearing.rules),
        }
    )
