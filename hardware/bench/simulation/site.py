"""Simulated site: its prices, mandates, vehicles and callers, all decided before the run.

Prices and limits are written here by hand. The watcher knows them from here and the gateway from the files that are
made of them, so an error in the gateway's reading or reckoning cannot hide.
"""

from __future__ import annotations

import functools
import random
import re
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from enum import Enum
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from gateway.config import SiteFile
from gateway.ledger import engines
from gateway.ledger.batches import Committer
from gateway.ledger.marks import MarkState, MemoryMark
from gateway.model.clock import to_us
from gateway.model.passage import DeclinePolicy
from gateway.payers import mandate_import, mandates, status_list_build
from gateway.payers.status_lists import StatusLists
from gateway.points.config import ChargePoint
from gateway.points.fuel.config import FuelIsland
from gateway.points.toll.config import ChargingLane, EntryLane
from gateway.rules.loading import DebitRules, parse_rules
from gateway.tariffs.loading import load_tariffs
from gateway.tariffs.quote import TariffSet
from hardware.bench.chain_key import KEYS
from hardware.bench.clocks import StillClock
from hardware.bench.ledgers import new_ledger
from hardware.bench.simulation.loop import START

BANK = "bank-1"
MERCHANT_NO = "990100047840001"
MERCHANT = "road-9901"
ISSUER = "issuer-9901"
REGION = bytes.fromhex("B2E2CAD4")
ISSUER_BYTES = REGION + bytes.fromhex("99010001")
MAX_MESSAGE_AGE_S = 30
"""Far above every delay the simulation makes, as a bank promises."""

FARES: Mapping[int, int] = {1: 1500, 2: 2500, 3: 3800}
ABSURD_CLASS, NO_FARE_CLASS = 4, 12
DIALECTS = ("pcrsu-v3", "pcrsu-v3", "pcrsu-v3", "legacy-serial-bj")
"""Dialects of the antennas, by lane."""


def station(index: int) -> str:
    """Station of a lane, its own: a vehicle that comes to another one pays again."""
    return f"9901010{index + 1}"


TARIFF = """
version = "9920261101001"
valid_from = 2026-11-01T00:00:00+08:00
valid_to = 2027-05-01T00:00:00+08:00
longest_trip_hours = 72
[ceiling_fen]
1 = 20000
2 = 20000
3 = 20000
4 = 20000
""" + "".join(
    f"""
[class_table.{station(index)}]
1 = {FARES[1]}
2 = {FARES[2]}
3 = {FARES[3]}
4 = 30000
"""
    for index in range(len(DIALECTS))
)

RULES = """
version = "simulation-1"
[retry.reversal]
max_pause_s = 20.0
answer_timeout_s = 1.5
[retry.advice]
max_pause_s = 20.0
answer_timeout_s = 1.5
alarm_age_s = 5
messages_per_s = "unlimited"
[retry.refund]
max_pause_s = 20.0
answer_timeout_s = 1.5
alarm_age_s = 5
messages_per_s = "unlimited"
[retry.recovery]
max_pause_s = 20.0
answer_timeout_s = 1.5
alarm_age_s = 5
messages_per_s = "unlimited"
[debt.recovery_after_s]
D = []
L = [2, 5, 10, 40]
M = []
[debt.recovery_by_code]
90 = [2, 10, 40]
91 = [2, 10, 40]
92 = [2, 10, 40]
"""
"""Rules as shipped, but for waits of minutes and days: nobody waits so long here. What has waited for five seconds no
longer steps aside for vehicles, because here there always are some."""
BARRIER, GREEN, RED = 0, 1, 2
CLOSED_LIMIT = 0
PULSE_MS, TRAVEL_MS = 300, 500
"""Pulse of every barrier and travel time of its arm."""
LANES = len(DIALECTS)
TERMINALS_A_LANE = 3
CALLERS = 20
TERMINALS_A_CALLER = 4
FLEET = 140
TERMINALS_AT_ISLAND = 6
PAYERS = 60
"""Mandates of the engine's workload."""

ISLAND = "island-1"
LIFT_TO_FLOW_S = 12.0
FORGOTTEN_S = 8.0
"""Time after which a vehicle that is not seen any more is nobody's proof at a pump: longer than the antenna needs to
come back."""
MOST_FEN = 20_000
"""Most that one sale of fuel may come to."""


@dataclass(frozen=True, slots=True)
class PumpLine:
    """Pumps of one line."""

    dialect: str
    addresses: Mapping[int, int]
    """Address on the line by the number of the side."""
    prices: tuple[int, ...]
    """Unit prices by nozzle, thousandths."""
    wraps_at_ml: int
    """Volume at which its totalisers begin again: as many digits as its protocol has."""


PUMPS: Mapping[str, PumpLine] = {
    "dart": PumpLine("dart", {1: 80, 2: 81}, (7850, 8320), 100_000_000_000),
    "two-wire": PumpLine("two-wire", {3: 1}, (7420,), 1_000_000_000),
}
SOON_ML = 40_000
"""Litres before that at which all totalisers stand when a run begins."""

PERSONAL = re.compile(r"测[A-Z]\d{5}|990[12]\d{16}|621[78]\d{8}|B2E2CAD499010001\d{16}", re.IGNORECASE)
"""Plates, card numbers, accounts and tags' contracts of everybody here."""

PLENTY_FEN = 1_000_000_000
POOR_FEN = 9_000


class Kind(Enum):
    """Vehicles of the lanes, by what is to become of them on a good day."""

    PURSE = "purse"
    PURSE_LOW = "purse_low"
    """Pays until the purse is empty."""
    BANK = "bank"
    BANK_TIGHT = "bank_tight"
    """A mandate whose limit is soon reached."""
    BANK_NO_STAND_IN = "bank_no_stand_in"
    BANK_POOR = "bank_poor"
    """An account that covers a few passages, then declines."""
    CLEARING = "clearing"
    NO_MANDATE = "no_mandate"
    PAUSED = "paused"
    TAG = "tag"
    """One piece, pays by the mandate of its contract."""
    TAG_UNKNOWN = "tag_unknown"
    CPC = "cpc"
    LISTED = "listed"
    TAMPERED = "tampered"
    EXPIRED = "expired"
    NO_FARE = "no_fare"
    ABSURD = "absurd"
    OTHER_PLATE = "other_plate"


SHARES: Mapping[Kind, int] = {
    Kind.PURSE: 34,
    Kind.PURSE_LOW: 4,
    Kind.BANK: 40,
    Kind.BANK_TIGHT: 6,
    Kind.BANK_NO_STAND_IN: 8,
    Kind.BANK_POOR: 4,
    Kind.CLEARING: 10,
    Kind.NO_MANDATE: 2,
    Kind.PAUSED: 2,
    Kind.TAG: 18,
    Kind.TAG_UNKNOWN: 2,
    Kind.CPC: 2,
    Kind.LISTED: 2,
    Kind.TAMPERED: 1,
    Kind.EXPIRED: 1,
    Kind.NO_FARE: 1,
    Kind.ABSURD: 1,
    Kind.OTHER_PLATE: 2,
}
"""Numbers of a fleet's vehicles by kind; they sum up to `FLEET`."""


@dataclass(frozen=True, slots=True)
class Owner:
    """One vehicle with what pays for it."""

    number: int
    kind: Kind
    vehicle_class: int

    @property
    def name(self) -> str:
        return f"v{self.number}"

    @property
    def card_number(self) -> str:
        return f"9901{self.number:016d}"

    @property
    def contract_ref(self) -> str:
        """Contract of the account at the bank."""
        return f"6217{self.number:08d}"

    @property
    def mandate_id(self) -> str:
        return f"m{self.number}"

    @property
    def tag_contract(self) -> str:
        return (ISSUER_BYTES + bytes.fromhex(f"{self.number:016d}")).hex().upper()

    @property
    def fare(self) -> int | None:
        """Fare in fen; None where there is none."""
        return FARES.get(self.vehicle_class)

    @property
    def plate(self) -> str:
        return f"测A{self.number:05d}"

    @property
    def two_piece(self) -> bool:
        """True for tag and card. The serial dialects tell of no other."""
        return self.kind not in (Kind.TAG, Kind.TAG_UNKNOWN, Kind.CPC)

    def spec(self) -> dict[str, Any]:
        """The JSON the road emulator takes."""
        one_piece = self.kind in (Kind.TAG, Kind.TAG_UNKNOWN)
        device = 2 if one_piece else 3 if self.kind is Kind.CPC else 1
        spec: dict[str, Any] = {
            "id": self.name,
            "device_type": device,
            "plate_colour": 0,
            "vehicle_class": self.vehicle_class,
            "obu": {"id": f"99{self.number:06x}", "serial": f"{self.number:016d}"},
        }
        if device != 3:
            spec["plate"] = self.plate
        if self.kind is Kind.TAMPERED:
            spec["obu"]["tampered"] = True
        if self.kind is Kind.EXPIRED:
            spec["obu"]["expires"] = "2026-01-01"
        if device == 1:
            purse = self.kind in (Kind.PURSE, Kind.PURSE_LOW, Kind.LISTED, Kind.NO_FARE, Kind.ABSURD)
            spec["card"] = {
                "type": 22 if purse else 23,
                "inner_number": f"{self.number:016d}",
                "balance_fen": 12_000 if self.kind is Kind.PURSE_LOW else 50_000_000,
            }
        return spec


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits of a mandate, fen."""

    limit: int | None
    stand_in: int


LIMITS: Mapping[Kind, Limits] = {
    Kind.BANK: Limits(200_000, 20_000),
    Kind.BANK_TIGHT: Limits(6_000, 4_000),
    Kind.BANK_NO_STAND_IN: Limits(None, 0),
    Kind.BANK_POOR: Limits(100_000, 10_000),
    Kind.CLEARING: Limits(None, 0),
    Kind.PAUSED: Limits(None, 0),
    Kind.TAG: Limits(200_000, 10_000),
    Kind.OTHER_PLATE: Limits(None, 0),
}


@dataclass(frozen=True, slots=True)
class Account:
    """A payer of the engine's workload."""

    number: int
    limits: Limits
    balance_fen: int

    @property
    def mandate_id(self) -> str:
        return f"e{self.number}"

    @property
    def contract_ref(self) -> str:
        return f"6218{self.number:08d}"


def fleet() -> list[Owner]:
    """Every vehicle, always the same ones."""
    owners: list[Owner] = []
    for kind, count in SHARES.items():
        for _ in range(count):
            number = len(owners) + 1
            vehicle_class = {Kind.ABSURD: ABSURD_CLASS, Kind.NO_FARE: NO_FARE_CLASS}.get(kind, 1 + number % 3)
            owners.append(Owner(number, kind, vehicle_class))
    return owners


def balances() -> dict[str, int]:
    """Balances of the accounts at the bank, fen."""
    found = {account.contract_ref: account.balance_fen for account in accounts()}
    for owner in fleet():
        if owner.kind in LIMITS:
            found[owner.contract_ref] = POOR_FEN if owner.kind is Kind.BANK_POOR else PLENTY_FEN
    return found


def accounts() -> list[Account]:
    """Payers of the engine's workload: most can pay, some meet a limit soon, some have an empty account."""
    found = []
    for number in range(1, PAYERS + 1):
        limits = [Limits(5_000_000, 50_000), Limits(5_000, 3_000), Limits(None, 0), Limits(5_000_000, 1_000)][
            number % 4
        ]
        found.append(Account(number, limits, 20_000 if number % 10 == 0 else PLENTY_FEN))
    return found


def lane_name(index: int) -> str:
    """Lanes are counted from 1."""
    return f"lane-{index + 1}"


def caller_name(index: int) -> str:
    """Charge points of the engine's workload, counted from 1."""
    return f"point-{index + 1}"


def terminals(index: int, count: int, *, caller: bool) -> tuple[str, ...]:
    """Terminal numbers of one charge point."""
    return tuple(f"{'E' if caller else 'T'}{index:03d}{number:04d}" for number in range(count))


def has_limit(index: int) -> bool:
    """True when a lane's barrier has a limit input."""
    return index % 3 == 0


def psam_terminal(index: int, *, caller: bool = False) -> bytes:
    """Number of the PSAM at one charge point: every purchase there is made under it."""
    return bytes.fromhex(f"0199{9 if caller else 0}{index:07d}")


def decline_policy(index: int) -> DeclinePolicy:
    """Decline policy of a charge point of the engine's workload."""
    return Caller.model_validate(_caller(index)).bank_declines


class Caller(ChargePoint):
    """A charge point that the engine's workload plays."""

    kind: Literal["caller"]


class SimulatedSite(SiteFile):
    """Site file that also knows the callers."""

    charge_points: list[Annotated[ChargingLane | EntryLane | FuelIsland | Caller, Field(discriminator="kind")]]  # type: ignore[assignment]


def site_file(lanes: int, callers: int, *, island: bool = False) -> SimulatedSite:
    """Site file of the gateway."""
    points = [*(_lane(index) for index in range(lanes)), *(_caller(index) for index in range(callers))]
    points += [_island()] if island else []
    boards = [{"name": f"board-{lane_name(index)}", "address": f"{lane_name(index)}:502"} for index in range(lanes)]
    return SimulatedSite.model_validate(
        {
            "mode": "bench",
            "site": {"name": "simulated", "merchant": MERCHANT},
            "issuers": [{"region": REGION.hex(), "name": ISSUER}],
            "banks": [
                {
                    "name": BANK,
                    "address": "bank:1",
                    "merchant_no": MERCHANT_NO,
                    "max_message_age_s": MAX_MESSAGE_AGE_S,
                    "echo_idle_s": 20.0,
                    "reconnect_max_s": 3.0,
                }
            ],
            "relay_boards": boards,
            "charge_points": points,
        }
    )


def _point(index: int, name: str, numbers: tuple[str, ...]) -> dict[str, Any]:
    """Charge point; every third one holds a declined vehicle for the attendant."""
    policy = DeclinePolicy.HOLD_FOR_ATTENDANT if index % 3 == 2 else DeclinePolicy.RELEASE_AS_DEBT
    return {"name": name, "terminals": {BANK: list(numbers)}, "bank_declines": policy}


def _lane(index: int) -> dict[str, Any]:
    """One open lane; every third barrier has a limit input."""
    name = lane_name(index)
    limit = {"closed_limit": CLOSED_LIMIT} if has_limit(index) else {}
    return {
        **_point(index, name, terminals(index, TERMINALS_A_LANE, caller=False)),
        "kind": "toll-open",
        "station": station(index),
        "lane_no": index + 1,
        "gantry": "990101",
        "antenna": {"address": f"antenna/{name}:1", "dialect": DIALECTS[index], "lane_mode": 0, "channel": 0},
        "outputs": {
            "board": f"board-{name}",
            "barrier": BARRIER,
            "green": GREEN,
            "red": RED,
            "pulse_ms": PULSE_MS,
            "travel_ms": TRAVEL_MS,
            **limit,
        },
        "one_piece_tags": "contract",
    }


def _island() -> dict[str, Any]:
    """One island: all its sides have one antenna."""
    return {
        **_point(0, ISLAND, tuple(f"F{number:07d}" for number in range(TERMINALS_AT_ISLAND))),
        "kind": "fuel",
        "station": "99010199",
        "lane_no": 99,
        "gantry": "990199",
        "antenna": {"address": f"antenna/{ISLAND}:1", "dialect": DIALECTS[0], "lane_mode": 0, "channel": 0},
        "one_piece_tags": "contract",
        "quiet_s": 1.0,
        "limit_fen": MOST_FEN,
        "lift_to_flow_s": LIFT_TO_FLOW_S,
        "proof": {"before_s": FORGOTTEN_S},
        "pumps": [
            {"name": name, "address": f"pumps/{name}:1", "dialect": line.dialect}
            | {"totaliser_litres": line.wraps_at_ml // 1000}
            for name, line in PUMPS.items()
        ],
        "sides": [
            {"number": side, "pump": name, "address": address}
            | {"nozzles": [{"number": n + 1, "grade": f"g{n + 1}"} for n in range(len(line.prices))]}
            for name, line in PUMPS.items()
            for side, address in line.addresses.items()
        ],
    }


def _caller(index: int) -> dict[str, Any]:
    return {"kind": "caller", **_point(index, caller_name(index), terminals(index, TERMINALS_A_CALLER, caller=True))}


@dataclass(frozen=True, slots=True)
class Template:
    """Template made once a process: a ledger with mandates, status lists and tariffs."""

    folder: Path
    ledger: Path
    mark: MarkState
    """Mark of that ledger, kept outside it."""
    lists: StatusLists
    tariffs: TariffSet
    rules: DebitRules
    limits: Mapping[str, Limits] = field(default_factory=dict)
    """Limits by mandate."""


@functools.cache
def template() -> Template:
    """Files every run of this process begins with."""
    folder = Path(tempfile.mkdtemp(prefix="etc-simulation-template-"))
    (folder / "tariffs").mkdir()
    (folder / "lists").mkdir()
    (folder / "tariffs" / "a.toml").write_text(TARIFF, encoding="utf-8")
    listed = [owner for owner in fleet() if owner.kind is Kind.LISTED]
    delivery = folder / "delivery.csv"
    rows = "".join(f"card,{owner.card_number},4,1\n" for owner in listed)
    delivery.write_text(f"kind,key,list_type,sign\n{rows}", encoding="utf-8")
    made = START - timedelta(hours=1)
    status_list_build.build(delivery, folder / "lists", version="L1", created_at=made, effective_at=made)
    found, credentials = mandates.read_csv([",".join(mandates.COLUMNS), *_mandate_lines()])
    ledger = folder / "ledger.db"
    clock = StillClock(to_us(START))
    mark = MemoryMark(new_ledger(ledger, clock))
    engine = engines.open_writer(ledger)
    committer = Committer(engine, clock, keys=KEYS, mark=mark, random=series(0, "salts of the template"))
    committer.commit([lambda tx: mandate_import.put_all(tx, found, credentials)])
    committer.follow()
    with engine.connect() as connection:
        connection.exec_driver_sql("COMMIT")
        connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")
        connection.exec_driver_sql("BEGIN")
    engine.dispose()
    rules = parse_rules(RULES.encode(), folder / "rules.toml")
    limits = {owner.mandate_id: LIMITS[owner.kind] for owner in fleet() if owner.kind in LIMITS}
    limits |= {account.mandate_id: account.limits for account in accounts()}
    lists = StatusLists.open(folder / "lists", START)
    return Template(folder, ledger, mark.state, lists, load_tariffs(folder / "tariffs"), rules, limits)


def _mandate_lines() -> list[str]:
    lines = []
    for owner in fleet():
        limits = LIMITS.get(owner.kind)
        if limits is None:
            continue
        clearing = owner.kind is Kind.CLEARING
        line = [
            owner.mandate_id,
            "paused" if owner.kind is Kind.PAUSED else "active",
            "issuer_clearing" if clearing else "bank_online",
            "" if clearing else BANK,
            "" if clearing else owner.contract_ref,
            "" if limits.limit is None else str(limits.limit),
            str(limits.stand_in),
            owner.card_number,
            owner.tag_contract,
            f"测D{owner.number:05d}" if owner.kind is Kind.OTHER_PLATE else owner.plate,
            "0",
        ]
        lines.append(",".join(line))
    for account in accounts():
        limits = account.limits
        limit = "" if limits.limit is None else str(limits.limit)
        line = [account.mandate_id, "active", "bank_online", BANK, account.contract_ref, limit, str(limits.stand_in)]
        number = 500_000 + account.number
        tag = (ISSUER_BYTES + bytes.fromhex(f"{number:016d}")).hex().upper()
        lines.append(",".join([*line, f"9901{number:016d}", tag, f"测B{account.number:05d}", "0"]))
    return lines


def series(seed: int, name: str) -> random.Random:
    """A source of chance of its own: one more draw here disturbs nothing there."""
    return random.Random(f"{seed}:{name}")  # noqa: S311 - repeatable on purpose
