"""The road in front of an emulated antenna: vehicles with real emulated tags and cards, and what should go wrong.

A vehicle is described by JSON, built once, and stays the same physical thing however often it drives up: what its card
has paid stays paid. `VehicleSpec.from_json` documents the keys; an error names the key.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date
from enum import Enum
from typing import Any, Final, Self

from hardware.emulators.card import UserCard, make_card
from hardware.emulators.chip import Chip
from hardware.emulators.obu import Obu, make_obu
from hardware.emulators.psam import Psam
from protocols.card import commands, decode_transaction_log, purse, signed_balance, station_new
from protocols.card.apdu import SW_SECURITY, Command, Response
from protocols.card.codes import CardType, PassStatus
from protocols.card.layout import STATION_HEADER
from protocols.card.purse import SEQUENCE_MAX
from protocols.card.station import STATION_BYTES
from protocols.errors import ProtocolError
from protocols.regions import region_of_network
from protocols.rsu.messages import DeviceType

LOG_RECORDS: Final = 10
"""Records of the card's file 0018. The journal is brought up to date after every purchase, so none is missed."""

TRANSACTION_BYTES: Final = 23

FAULTS_MAX: Final = 64
"""Faults waiting for one vehicle: a scenario arms a handful."""

PLATE_BYTES_MAX: Final = 12
"""Room for a plate on tags and cards."""

ID_LENGTH_MAX: Final = 64

FEN_MAX: Final = 0xFFFFFFFF
"""Largest amount, balance or PSAM serial: four bytes."""

NEVER_WRITTEN: Final = STATION_HEADER + b"\xff" * (STATION_BYTES - len(STATION_HEADER))
"""File 0019 of a vehicle without entry data."""


class SpecError(ValueError):
    """A vehicle's description is wrong; the message begins with the key."""


# --- the description ------------------------------------------------------------------------------------------------


class _Reader:
    """Takes keys out of one JSON object; `done` refuses those that nobody took."""

    def __init__(self, value: object, path: str) -> None:
        if not isinstance(value, Mapping):
            raise SpecError(f"{path}: an object is wanted, not {type(value).__name__}")
        self._rest: dict[str, Any] = {str(key): item for key, item in value.items()}
        self._path = path

    def path(self, key: str) -> str:
        return f"{self._path}.{key}"

    def take(self, key: str) -> object:
        """The value of a key, None when it is missing or null."""
        return self._rest.pop(key, None)

    def text(self, key: str, default: str | None = None) -> str:
        value = self.take(key)
        value = default if value is None else value
        if not isinstance(value, str):
            raise SpecError(f"{self.path(key)}: a text is wanted, not {value!r}")
        return value

    def integer(self, key: str, lowest: int, highest: int, default: int | None = None) -> int:
        value = self.take(key)
        if value is None and default is not None:
            return int(default)
        if type(value) is not int or not lowest <= value <= highest:
            raise SpecError(f"{self.path(key)}: a whole number from {lowest} to {highest} is wanted, not {value!r}")
        return value

    def maybe_integer(self, key: str, lowest: int, highest: int) -> int | None:
        value = self.take(key)
        if value is not None and (type(value) is not int or not lowest <= value <= highest):
            raise SpecError(f"{self.path(key)}: a whole number from {lowest} to {highest} is wanted, not {value!r}")
        return value

    def maybe_bytes(self, key: str, length: int) -> bytes | None:
        value = self.take(key)
        if value is None:
            return None
        digits = str(value)
        if len(digits) != 2 * length or not set(digits.lower()) <= set("0123456789abcdef"):
            raise SpecError(f"{self.path(key)}: {2 * length} hexadecimal digits are wanted, not {value!r}")
        return bytes.fromhex(digits)

    def flag(self, key: str) -> bool:
        value = self.take(key)
        value = False if value is None else value
        if not isinstance(value, bool):
            raise SpecError(f"{self.path(key)}: true or false is wanted, not {value!r}")
        return value

    def day(self, key: str, default: date) -> date:
        text = self.text(key, default.isoformat())
        try:
            return date.fromisoformat(text)
        except ValueError as error:
            raise SpecError(f"{self.path(key)}: a date YYYY-MM-DD is wanted, not {text!r}") from error

    def digits(self, key: str, count: int, default: str | None = None, *, hexadecimal: bool = False) -> str:
        text = self.text(key, default)
        known = "0123456789abcdefABCDEF" if hexadecimal else "0123456789"
        if len(text) != count or not set(text) <= set(known):
            kind = "hexadecimal digits" if hexadecimal else "digits"
            raise SpecError(f"{self.path(key)}: {count} {kind} are wanted, not {text!r}")
        return text

    def network(self, key: str, default: str) -> str:
        text = self.digits(key, 4, default)
        if region_of_network(text) is None:
            raise SpecError(f"{self.path(key)}: no issuer region has network {text}; the bench's own is 9901")
        return text

    def plate(self, key: str, default: str | None) -> str:
        text = self.text(key, default)
        try:
            length = len(text.encode("gbk"))
        except UnicodeEncodeError as error:
            raise SpecError(f"{self.path(key)}: not every character is in GBK") from error
        if length > PLATE_BYTES_MAX:
            raise SpecError(f"{self.path(key)}: {length} bytes in GBK, at most {PLATE_BYTES_MAX} fit")
        return text

    def done(self) -> None:
        if self._rest:
            raise SpecError(f"{self.path(min(self._rest))}: unknown key")


@dataclass(frozen=True, slots=True)
class ObuSpec:
    """JSON `obu`: the tag, or the CPC card."""

    id: str
    """`id`: 8 hexadecimal digits, its address on the air."""
    serial: str
    """`serial`: 16 digits, contract serial or CPC card id."""
    network: str
    """`network`: 4 digits, whose region issued it; default 9901, issuer 测试 99010001."""
    issued: date
    """`issued`, default 2024-01-01."""
    expires: date
    """`expires`, default 2034-01-01."""
    tampered: bool
    locked: bool
    battery_low: bool
    no_card: bool
    """True for a tag without a card in the slot. The four flags before and this one default to false."""
    card_error: bool
    """True when a card is in the slot and cannot be used; default false."""

    @classmethod
    def from_json(cls, value: object, path: str) -> Self:
        """Raises SpecError."""
        reader = _Reader(value, path)
        spec = cls(
            id=reader.digits("id", 8, hexadecimal=True),
            serial=reader.digits("serial", 16),
            network=reader.network("network", "9901"),
            issued=reader.day("issued", date(2024, 1, 1)),
            expires=reader.day("expires", date(2034, 1, 1)),
            tampered=reader.flag("tampered"),
            locked=reader.flag("locked"),
            battery_low=reader.flag("battery_low"),
            no_card=reader.flag("no_card"),
            card_error=reader.flag("card_error"),
        )
        reader.done()
        return spec


@dataclass(frozen=True, slots=True)
class CardSpec:
    """JSON `card`: the user card in a two-piece tag. Plate, colour and class default to the vehicle's."""

    type: CardType
    """`type`: 22 stored value, 23 charge."""
    inner_number: str
    """`inner_number`: 16 digits."""
    network: str
    """`network`: 4 digits, default 9901; with the inner number it is the printed card number."""
    balance_fen: int
    """`balance_fen`: type 22 from 0, default 0; type 23 may be negative: a counter."""
    starts: date
    """`starts`, default 2024-01-01."""
    expires: date
    """`expires`, default 2034-01-01."""
    version: int
    """`version`: 0 to 255, default 64 = 40 hex (3DES); from 80 = 50 hex the card is an SM4 card."""
    serial_start: int
    """`serial_start`: number of its last purchase so far, default 1."""
    plate: str = field(repr=False)
    plate_colour: int
    vehicle_class: int

    @classmethod
    def from_json(cls, value: object, path: str, *, plate: str, plate_colour: int, vehicle_class: int) -> Self:
        """Raises SpecError. The keywords are the vehicle's."""
        reader = _Reader(value, path)
        kind = reader.integer("type", CardType.STORED_VALUE, CardType.CHARGE)
        stored_value = kind == CardType.STORED_VALUE
        spec = cls(
            type=CardType(kind),
            inner_number=reader.digits("inner_number", 16),
            network=reader.network("network", "9901"),
            balance_fen=reader.integer("balance_fen", 0 if stored_value else -(1 << 31), (1 << 31) - 1, 0),
            starts=reader.day("starts", date(2024, 1, 1)),
            expires=reader.day("expires", date(2034, 1, 1)),
            version=reader.integer("version", 0, 0xFF, 0x40),
            serial_start=reader.integer("serial_start", 0, SEQUENCE_MAX, 1),
            plate=reader.plate("plate", plate),
            plate_colour=reader.integer("plate_colour", 0, 0xFF, plate_colour),
            vehicle_class=reader.integer("vehicle_class", 0, 0xFF, vehicle_class),
        )
        reader.done()
        return spec


@dataclass(frozen=True, slots=True)
class EntrySpec:
    """JSON `station`: what an entry lane wrote into file 0019 (or a one-piece tag's or CPC card's file of that use)."""

    network: str
    """`network`: 4 digits, default 9901."""
    station: str
    """`station`: 4 hexadecimal digits."""
    lane: int
    """`lane`: 0 to 255, default 1."""
    unix_seconds: int
    """`unix_seconds`: time of entry, UTC."""
    status: int
    """`status`: 0 to 255, default 3 = ETC entry."""

    @classmethod
    def from_json(cls, value: object, path: str) -> Self:
        """Raises SpecError."""
        reader = _Reader(value, path)
        spec = cls(
            network=reader.digits("network", 4, "9901"),
            station=reader.digits("station", 4, hexadecimal=True),
            lane=reader.integer("lane", 0, 0xFF, 1),
            unix_seconds=reader.integer("unix_seconds", 0, 0xFFFFFFFF),
            status=reader.integer("status", 0, 0xFF, PassStatus.ETC_ENTRY),
        )
        reader.done()
        return spec


@dataclass(frozen=True, slots=True)
class VehicleSpec:
    """One vehicle as JSON describes it."""

    id: str
    """`id`: what commands call it; on no wire."""
    device_type: DeviceType
    """`device_type`: 1 two-piece tag (default), 2 one-piece tag, 3 CPC card."""
    plate: str = field(repr=False)
    """`plate`: on the tag; needed for tags, a CPC card has none of its own."""
    plate_colour: int
    """`plate_colour`: 0 to 255, default 0 blue."""
    vehicle_class: int
    """`vehicle_class`: 0 to 255, default 1."""
    user_type: int
    """`user_type`: 0 to 255, default 0."""
    obu: ObuSpec
    card: CardSpec | None
    """`card`: needed in a two-piece tag unless `obu.no_card`; forbidden in the other two."""
    station: EntrySpec | None
    """`station`: null or missing = never written."""

    @classmethod
    def from_json(cls, value: object, path: str = "vehicle") -> Self:
        """Read a description. Raises SpecError, whose message begins with the key."""
        reader = _Reader(value, path)
        name = reader.text("id")
        if not 0 < len(name) <= ID_LENGTH_MAX:
            raise SpecError(f"{reader.path('id')}: 1 to {ID_LENGTH_MAX} characters are wanted")
        kind = DeviceType(reader.integer("device_type", 1, 3, DeviceType.TWO_PIECE))
        plate = reader.plate("plate", "" if kind is DeviceType.CPC_CARD else None)
        colour = reader.integer("plate_colour", 0, 0xFF, 0)
        vehicle_class = reader.integer("vehicle_class", 0, 0xFF, 1)
        user_type = reader.integer("user_type", 0, 0xFF, 0)
        obu = ObuSpec.from_json(reader.take("obu"), reader.path("obu"))
        card_value, station_value = reader.take("card"), reader.take("station")
        card = None
        if card_value is not None:
            card = CardSpec.from_json(
                card_value, reader.path("card"), plate=plate, plate_colour=colour, vehicle_class=vehicle_class
            )
        station = None if station_value is None else EntrySpec.from_json(station_value, reader.path("station"))
        reader.done()
        wants_card = kind is DeviceType.TWO_PIECE and not obu.no_card
        if wants_card != (card is not None):
            problem = "a two-piece tag needs one, unless obu.no_card" if wants_card else "this tag holds none"
            raise SpecError(f"{reader.path('card')}: {problem}")
        return cls(name, kind, plate, colour, vehicle_class, user_type, obu, card, station)


# --- what happens ---------------------------------------------------------------------------------------------------


class Phase(Enum):
    """Phase of a vehicle with the antenna."""

    AWAY = "away"
    SEARCHING = "searching"
    """Present; the antenna will report it as soon as radio, lane and pauses allow."""
    GUARDED = "guarded"
    """Present and finished or frozen: not reported for a while."""
    REPORTED = "reported"
    """B2 sent."""
    DESCRIBING = "describing"
    DESCRIBED = "described"
    """B3 sent (serial dialects)."""
    READING = "reading"
    READ = "read"
    """B4 sent."""
    BUYING = "buying"
    WRITING = "writing"
    """C3 received (serial dialects): the entry is being written."""
    RECOVERING = "recovering"
    """C7 received (serial dialects): a lost result is being fetched."""
    RESULT = "result"
    """B5 sent, whatever it answers."""
    PROVING = "proving"
    PROVED = "proved"
    """B8 sent."""


class Event(Enum):
    """Event that can be waited for, counted per vehicle since it first arrived."""

    REPORTED = "reported"
    """B2 sent."""
    DESCRIBED = "described"
    """B3 sent."""
    ASKED = "asked"
    """C1 received that asks for the vehicle to be read."""
    READ = "read"
    """B4 sent."""
    ORDERED = "ordered"
    """C6 received."""
    TAKEN = "taken"
    """The card has debited, whatever becomes of the answer."""
    ENTRY_ORDERED = "entry_ordered"
    """C3 received."""
    WRITTEN = "written"
    """The entry stands on the card, whatever becomes of the answer."""
    RESULT_SENT = "result_sent"
    """B5 sent that answers C6 or C3."""
    TAC_ASKED = "tac_asked"
    """C8 or C7 received."""
    TAC_SENT = "tac_sent"
    """B8 sent, or the B5 that answers C7."""
    FINISHED = "finished"
    """C1 came after a B5 without error, or after a B8."""
    STOPPED = "stopped"
    """C2 received that ends the pass."""
    PAUSED = "paused"
    """Vehicle has reached its pause point and is held there."""
    FORGED = "forged"
    """Report made that is not true."""
    GONE = "gone"
    """Vehicle has left, and the antenna has nothing more to do with it."""


class FaultKind(Enum):
    """Kind of fault of one vehicle, each for a number of passes."""

    LOSE_ANSWER = "lose_answer"
    """The card debits, its answer is lost on the air: B5 error 01 with card serial 0."""
    LOSE_ANSWER_KEEP_SERIAL = "lose_answer_keep_serial"
    """Lost answer as above, but B5 tells the serial that the purchase would have."""
    DROP_RESULT = "drop_result"
    """The card debits, the antenna falls silent and searches again."""
    REFUSE_MAC1 = "refuse_mac1"
    """The PSAM makes no MAC1: B5 error 06, nothing taken."""
    PURCHASE_REFUSED = "purchase_refused"
    """MAC1 reaches the card damaged, which answers 9302: B5 error 11, purchase failed; nothing taken."""
    READ_ERROR = "read_error"
    """No answer while reading: B4 error 01."""
    SLOW = "slow"
    """The pass takes `extra_ms` more radio time."""
    FORGE_RESULT = "forge_result"
    """B5 tells of success, and otherwise what its `Forgery` says."""
    FORGE_READING = "forge_reading"
    """B4 shows file 0019 as the last C6 was to write it, whether or not the card has it so."""
    FORGE_PROOF = "forge_proof"
    """B8, or the B5 that answers C7, is right but for what its `Forgery` says."""


PURCHASE_FAULTS: Final = frozenset(
    {
        FaultKind.LOSE_ANSWER,
        FaultKind.LOSE_ANSWER_KEEP_SERIAL,
        FaultKind.DROP_RESULT,
        FaultKind.REFUSE_MAC1,
        FaultKind.PURCHASE_REFUSED,
        FaultKind.FORGE_RESULT,
    }
)
"""Faults of which at most one strikes in one purchase: the oldest that waits."""


class PausePoint(Enum):
    """Point where a vehicle can be held until told to continue."""

    READ = "read"
    """Pause after C1, before anything is read."""
    DEBIT = "debit"
    """Pause after C6 or C3, before the card is asked."""
    RESULT = "result"
    """Pause after the card has debited or been written, before B5."""


@dataclass(frozen=True, slots=True)
class Forgery:
    """Content of a forged report. None is told as it would be after an honest purchase."""

    debits: bool = False
    """True when the card is asked all the same, and pays; a forged result else tells of a purchase that nobody made."""
    balance_unchanged: bool = False
    balance_off_fen: int = 0
    """Added to the balance told."""
    card_serial: int | None = None
    terminal: bytes | None = None
    psam_serial: int | None = None
    tac: bytes | None = None

    @classmethod
    def from_json(cls, value: object, path: str = "forgery") -> Self:
        """Keys as the fields here, `terminal` and `tac` in hex. Raises SpecError."""
        reader = _Reader(value, path)
        forgery = cls(
            debits=reader.flag("debits"),
            balance_unchanged=reader.flag("balance_unchanged"),
            balance_off_fen=reader.integer("balance_off_fen", -FEN_MAX, FEN_MAX, 0),
            card_serial=reader.maybe_integer("card_serial", 0, SEQUENCE_MAX),
            terminal=reader.maybe_bytes("terminal", 6),
            psam_serial=reader.maybe_integer("psam_serial", 0, FEN_MAX),
            tac=reader.maybe_bytes("tac", 4),
        )
        reader.done()
        return forgery


@dataclass(slots=True)
class Fault:
    """One armed fault."""

    what: FaultKind
    remaining: int
    extra_ms: int = 0
    forgery: Forgery = Forgery()


@dataclass(slots=True)
class Script:
    """Faults and pause of one vehicle. Kept by its id, so that they can be written before the vehicle arrives."""

    faults: list[Fault] = field(default_factory=list)
    pause_before: PausePoint | None = None
    proceed: asyncio.Event = field(default_factory=asyncio.Event)

    def arm(self, fault: Fault) -> None:
        """Add a fault after those that wait. Raises ValueError when there are too many."""
        if len(self.faults) >= FAULTS_MAX:
            raise ValueError(f"{FAULTS_MAX} faults wait for this vehicle already")
        self.faults.append(fault)

    def strike(self, *kinds: FaultKind) -> Fault | None:
        """Use up one time of the oldest armed fault of these kinds, and return it."""
        for fault in self.faults:
            if fault.what in kinds:
                fault.remaining -= 1
                if fault.remaining == 0:
                    self.faults.remove(fault)
                return fault
        return None


class Mac1Fault(Enum):
    """Fault of the next MAC1 of the antenna's PSAM."""

    REFUSE = "refuse"
    DAMAGE = "damage"


class AntennaPsam(Psam):
    """The PSAM in the antenna, whose next MAC1 can be refused, or damaged on its way to the card."""

    mac1_fault: Mac1Fault | None = None

    def process(self, command: bytes) -> bytes:
        """Process as `Psam.process`, but for the fault."""
        fault = self.mac1_fault if command[:2] == b"\x80\x70" else None
        if fault is Mac1Fault.REFUSE:
            return Response(b"", SW_SECURITY).encode()
        answer = super().process(command)
        if fault is Mac1Fault.DAMAGE:
            damaged = bytearray(answer)
            damaged[4] ^= 0x01  # first byte of MAC1, behind the terminal serial
            return bytes(damaged)
        return answer


@dataclass(frozen=True, slots=True)
class Decrement:
    """One purchase as the card's own file 0018 tells it."""

    sequence: int
    amount_fen: int
    trade_type: int
    terminal: bytes
    at: str
    """YYYYMMDDhhmmss"""


class PurseReader:
    """Reads a card the way any reader would, and keeps the purchases that its ten records have told so far."""

    def __init__(self, card: UserCard) -> None:
        self._card = card
        self._start_sequence = card.offline_sequence
        self.start_fen = self.balance_fen()
        self.decrements: list[Decrement] = []

    def balance_fen(self) -> int:
        """805C: purse balance, or a charge card's signed counter."""
        self._open()
        raw = purse.parse_balance(_send(self._card, purse.get_balance()))
        return signed_balance(raw) if self._card.card_file.is_charge_card else raw

    def station(self) -> bytes:
        """00B2: record AA of file 0019, 43 bytes."""
        self._open()
        return _send(self._card, commands.read_record(commands.SFI_STATIONS, 1, STATION_BYTES))

    def update(self) -> None:
        """00B2 over file 0018: take in purchases that are new since the last call."""
        self._open()
        last = self.decrements[-1].sequence if self.decrements else self._start_sequence
        found: list[Decrement] = []
        for number in range(1, LOG_RECORDS + 1):
            raw = _send(self._card, commands.read_record(commands.SFI_TRANSACTIONS, number, TRANSACTION_BYTES))
            record = decode_transaction_log(raw)
            if record.is_blank or record.sequence <= last:
                break  # newest first: all that follow are known
            at = raw[-7:].hex()
            found.append(Decrement(record.sequence, record.amount_fen, record.trade_type, record.terminal, at))
        self.decrements += reversed(found)

    def _open(self) -> None:
        _send(self._card, commands.select_id(commands.ETC_APPLICATION))


def _send(chip: Chip, command: Command) -> bytes:
    answer = Response.decode(chip.process(command.encode()))
    if not answer.ok:
        raise RuntimeError(f"the emulated card answers {answer.sw:04X} to a plain reading")
    return answer.data


@dataclass(slots=True)
class Vehicle:
    """A built vehicle and its history with this antenna."""

    spec: VehicleSpec
    obu: Obu
    card: UserCard | None
    purse: PurseReader | None
    script: Script
    random: random.Random
    """Source of radio times, its own, so that vehicles side by side do not disturb each other's."""
    present: bool = True
    phase: Phase = Phase.SEARCHING
    search_at: float = 0.0
    """Time before which it is not reported (monotonic seconds)."""
    messages: Counter[str] = field(default_factory=Counter)
    """Messages sent and received, by type, repetitions left out."""
    events: Counter[Event] = field(default_factory=Counter)
    last_stop: int | None = None
    seen_at: str | None = None
    """Time of the last B2, UTC."""
    paused_before: PausePoint | None = None
    """Point where it is being held now."""
    wake: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when something has changed that a searching vehicle may care for."""
    left: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def obu_id(self) -> bytes:
        """4 bytes."""
        return self.obu.obu_id

    @property
    def card_on_air(self) -> UserCard | None:
        """The card as far as the tag can use it."""
        return None if self.spec.obu.card_error else self.card

    def status(self) -> bytes:
        """The two status bytes of B2."""
        return self.obu.status(card_present=self.card is not None, card_error=self.spec.obu.card_error)

    def drive_up(self) -> None:
        """Drive up to the antenna again: power on, and no memory of the guard."""
        self.obu.esam.reset()
        if self.card is not None:
            self.card.reset()
        self.present = True
        self.left.clear()
        self.phase = Phase.SEARCHING
        self.search_at = 0.0

    def drive_off(self) -> None:
        """Drive off, in the middle of whatever goes on."""
        self.present = False
        self.left.set()
        self.wake.set()


def build(spec: VehicleSpec, script: Script, seed: int) -> Vehicle:
    """The vehicle of a description. The same seed gives the same card randoms and radio times."""
    chips = random.Random(f"{seed}:{spec.id}:chips")  # noqa: S311 - repeatable on purpose; the keys are published
    card = None if spec.card is None else _card(spec, spec.card, chips)
    try:
        obu = make_obu(
            plate=spec.plate,
            plate_colour=spec.plate_colour,
            vehicle_class=spec.vehicle_class,
            user_type=spec.user_type,
            obu_id=spec.obu.id,
            contract_serial=spec.obu.serial,
            network=spec.obu.network,
            starts=spec.obu.issued,
            expires=spec.obu.expires,
            device_type=spec.device_type,
            station=_entry(spec),
            tampered=spec.obu.tampered,
            battery_low=spec.obu.battery_low,
            locked=spec.obu.locked,
            random=chips.randbytes,
        )
    except ProtocolError as error:
        raise SpecError(f"vehicle {spec.id}: {error}") from error
    return Vehicle(
        spec=spec,
        obu=obu,
        card=card,
        purse=None if card is None else PurseReader(card),
        script=script,
        random=random.Random(f"{seed}:{spec.id}:radio"),  # noqa: S311 - repeatable on purpose
    )


def _card(spec: VehicleSpec, card: CardSpec, chips: random.Random) -> UserCard:
    try:
        return make_card(
            plate=card.plate,
            balance_raw=card.balance_fen % (1 << 32),
            plate_colour=card.plate_colour,
            vehicle_class=card.vehicle_class,
            card_type=card.type,
            version=card.version,
            network=card.network,
            inner_number=card.inner_number,
            starts=card.starts,
            expires=card.expires,
            user_type=spec.user_type,
            station=_entry(spec),
            offline_sequence=card.serial_start,
            random=chips.randbytes,
        )
    except ProtocolError as error:
        raise SpecError(f"vehicle {spec.id}: card: {error}") from error


def _entry(spec: VehicleSpec) -> bytes:
    """The 43 bytes of entry data."""
    entry = spec.station
    if entry is None:
        return NEVER_WRITTEN
    return station_new(
        network=entry.network,
        station=entry.station,
        lane=entry.lane,
        unix_seconds=entry.unix_seconds,
        vehicle_class=spec.vehicle_class,
        status=entry.status,
        plate=spec.plate,
        plate_colour=spec.plate_colour,
    )
