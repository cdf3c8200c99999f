"""Profiles of emulated cards: TOML files of what is personalised into each of them.

A file holds any number of cards, one table each; its name is the card's. `kind` says which keys there are: those of the
dataclass for that kind below, whose defaults are a card that works. Numbers may be written as 0x40. Unknown keys are
errors, and each error names card, key and cure.

    [car]
    kind = "user-card"
    plate = "测A12345"
    balance_fen = 50_000

All cards carry the published test keys, and numbers of the bench's own network 9901 unless told otherwise.
"""

from __future__ import annotations

import dataclasses
import re
import secrets
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import date
from enum import Enum, StrEnum
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, Final, TypeVar, get_type_hints

from hardware.emulators.card import PIN_DEFAULT, Block, Fci, Stored, UserCard, make_card
from hardware.emulators.chip import TRIES_MAX, Chip, RandomSource, write_part
from hardware.emulators.obu import ROUTE_FILE, Esam, EsamStored, make_obu
from hardware.emulators.other_cards import PUBLIC_BYTES, ForeignCard, blank_card, transit_card
from hardware.emulators.psam import SERIAL_DEFAULT, TERMINAL_DEFAULT, Psam
from protocols.card import layout, station_new
from protocols.card.codes import CardType
from protocols.card.commands import RECORD_AA, SFI_CARD_FILE, SFI_HOLDER, SFI_STATIONS, SFI_TOLL, SFI_TRANSACTIONS
from protocols.card.files import CARD_FILE_LENGTHS
from protocols.card.psam_profiles import NATIONAL, PROFILES, PsamProfile
from protocols.card.station import STATION_BYTES
from protocols.crypto import Algorithm
from protocols.errors import ProtocolError
from protocols.obu.system_info import VERSION_ONE_PIECE
from protocols.obu.vehicle_file import truck_file_new, vehicle_file_new
from protocols.rsu.messages import DeviceType

T = TypeVar("T")

ENTRY_IN_ROUTE_FILE: Final = 0x13A
"""Offset in EF04 of a tag at which it keeps a copy of the card's record AA (one source)."""

COLOUR_OFFSET: Final = 12
"""Offset of the plate colour in a vehicle file."""

OLD_COLOURS: Final = MappingProxyType({0: "蓝", 1: "黄", 2: "黑", 3: "白"})
"""Colours as old tags have them: as text."""

FILES: Final = MappingProxyType(
    {
        "0008": 0x08,
        "0009": 0x09,
        "0012": SFI_TOLL,
        "0015": SFI_CARD_FILE,
        "0016": SFI_HOLDER,
        "0018": SFI_TRANSACTIONS,
        "0019": SFI_STATIONS,
    }
)
"""Files of a user card by their ids."""


class ProfileError(ValueError):
    """Profiles that cannot be used; one line for each thing that is wrong."""


class VehicleForm(StrEnum):
    """Form of a tag's vehicle file."""

    CAR_59 = "car-59"
    CAR_79 = "car-79"
    TRUCK = "truck"


Check = Callable[[Any], Any]
"""Makes the value of a key from what TOML has; ValueError with the cure when it is none."""


def _whole(low: int, high: int) -> Check:
    def check(value: object) -> int:
        if type(value) is not int or not low <= value <= high:
            raise ValueError(f"write a whole number from {low} to {high}")
        return value

    return check


def _text(pattern: str, cure: str) -> Check:
    def check(value: object) -> str:
        if not isinstance(value, str) or re.fullmatch(pattern, value) is None:
            raise ValueError(f"write {cure}")
        return value

    return check


def _octets(length: int | None = None) -> Check:
    def check(value: object) -> bytes:
        try:
            content = bytes.fromhex(value) if isinstance(value, str) else b""
        except ValueError:
            content = b""
        if not content or length not in (None, len(content)):
            raise ValueError(f"write {'' if length is None else f'{length} '}bytes in hexadecimal")
        return content

    return check


def _yes(value: object) -> bool:
    if type(value) is not bool:
        raise ValueError("write true or false")
    return value


def _day(value: object) -> date:
    if type(value) is not date:
        raise ValueError("write a day such as 2034-01-01, without quotes")
    return value


def _one_of(known: Mapping[str, T]) -> Check:
    def check(value: object) -> T:
        if not isinstance(value, str) or value not in known:
            raise ValueError(f"write one of {', '.join(known)}")
        return known[value]

    return check


def _list_of(check: Check, *, least: int = 0) -> Check:
    def check_all(value: object) -> tuple[Any, ...]:
        if not isinstance(value, list) or len(value) < least:
            raise ValueError(f"write a list{f' of at least {least}' if least else ''}")
        return tuple(map(check, value))

    return check_all


def _by_file(check: Check) -> Check:
    def check_all(value: object) -> tuple[tuple[int, Any], ...]:
        if type(value) is not dict:
            raise ValueError(f"write a table by file, such as {{ 0015 = ... }}: {', '.join(FILES)}")
        return tuple((_FILE(name), check(one)) for name, one in value.items())

    return check_all


def _named(kind: type[Enum]) -> Mapping[str, Any]:
    return {member.value: member for member in kind}


def _length(value: object) -> int:
    if type(value) is not int or value not in CARD_FILE_LENGTHS:
        raise ValueError(f"write {' or '.join(map(str, CARD_FILE_LENGTHS))}")
    return value


def _entry(value: object) -> Entry:
    return _facts(Entry, value)


_FILE: Final = _one_of(FILES)
_CARD_TYPES: Final = {"stored-value": CardType.STORED_VALUE, "charge": CardType.CHARGE, "period": CardType.PERIOD}
_CIPHERS: Final = _list_of(_one_of({"3des": Algorithm.DES3, "sm4": Algorithm.SM4}), least=1)

Flag = Annotated[bool, _yes]
Day = Annotated[date, _day]
Byte = Annotated[int, _whole(0, 0xFF)]
Word = Annotated[int, _whole(0, 0xFFFF)]
Long = Annotated[int, _whole(0, 0xFFFF_FFFF)]
Tries = Annotated[int, _whole(0, TRIES_MAX)]
Network = Annotated[str, _text(r"[0-9]{4}", 'four digits such as "9901"')]
Digits16 = Annotated[str, _text(r"[0-9]{16}", "16 digits")]
Plate = Annotated[str, _text(r".{0,8}", 'a plate such as "测A12345"')]
Record = Annotated[bytes | None, _octets(STATION_BYTES)]
Files = Annotated[tuple[int, ...], _list_of(_FILE)]

STARTS: Final = date(2024, 1, 1)
EXPIRES: Final = date(2034, 1, 1)
BOTH: Final = (Algorithm.DES3, Algorithm.SM4)


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """Entry of a vehicle into the road: record AA of file 0019."""

    station: Annotated[str, _text(r"[0-9A-F]{8}", 'network and station such as "99010101"')]
    lane: Byte = 1
    unix_seconds: Long
    status: Byte = 3
    """3: entered through an ETC lane; 4: left through one."""
    fee_fen: Long = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """Keys of every kind of card."""

    atr: Annotated[bytes | None, _octets()] = None
    """Answer to reset; that of an emulated reader unless given."""
    t0: Flag = False
    """True: it answers 61xx and waits for GET RESPONSE, as chips on T=0 do."""

    def make(self, random: RandomSource) -> Chip:
        """Chip with these facts."""
        raise NotImplementedError


@dataclass(frozen=True, slots=True, kw_only=True)
class UserCardFacts(Facts):
    """ETC user card."""

    plate: Plate
    plate_colour: Byte = 0
    vehicle_class: Byte = 1
    user_type: Byte = 0
    card_type: Annotated[CardType, _one_of(_CARD_TYPES)] = CardType.STORED_VALUE
    version: Byte = 0x40
    """From 0x50 on its own cipher is SM4."""
    algorithms: Annotated[tuple[Algorithm, ...] | None, _CIPHERS] = None
    """Key sets; 3DES and that of its version unless given."""
    network: Network = "9901"
    number: Digits16 = "2301220100000001"
    """Inner number; with the network before it, the printed one."""
    starts: Day = STARTS
    expires: Day = EXPIRES
    length: Annotated[int, _length] = 50
    """Bytes of file 0015."""
    balance_fen: Long = 0
    """On a charge card the counter, unsigned."""
    offline_sequence: Word = 1
    online_sequence: Word = 0
    entry: Annotated[Entry | None, _entry] = None
    record: Record = None
    """Record AA of file 0019 in bytes, instead of `entry`."""
    holder_name: Annotated[str, _text(r".{0,10}", "a name of at most ten characters")] = ""
    holder_document: Annotated[str, _text(r"[ -~]{0,32}", "at most 32 letters and digits")] = ""
    pin: Annotated[bytes, _octets()] = PIN_DEFAULT
    """Bytes of the PIN: six digits are three bytes."""
    pin_tries: Tries = TRIES_MAX
    auth_tries: Tries = TRIES_MAX
    block: Annotated[Block, _one_of(_named(Block))] = Block.NONE
    fci: Annotated[Fci, _one_of(_named(Fci))] = Fci.COPY

    def make(self, random: RandomSource) -> UserCard:
        """Card with these facts."""
        if None not in (self.entry, self.record):
            raise ValueError("entry and record say the same thing: write one of them")
        station = self.record
        if self.entry is not None:
            station = station_new(
                network=self.entry.station[:4],
                station=self.entry.station[4:],
                lane=self.entry.lane,
                unix_seconds=self.entry.unix_seconds,
                vehicle_class=self.vehicle_class,
                status=self.entry.status,
                plate=self.plate,
                plate_colour=self.plate_colour,
                fee_fen=self.entry.fee_fen,
            )
        card = make_card(
            plate=self.plate,
            plate_colour=self.plate_colour,
            vehicle_class=self.vehicle_class,
            user_type=self.user_type,
            card_type=self.card_type,
            version=self.version,
            algorithms=None if self.algorithms is None else frozenset(self.algorithms),
            network=self.network,
            inner_number=self.number,
            starts=self.starts,
            expires=self.expires,
            length=self.length,
            balance_raw=self.balance_fen,
            offline_sequence=self.offline_sequence,
            online_sequence=self.online_sequence,
            station=station,
            holder=layout.HOLDER.build(
                holder_type=0,
                staff_flag=0,
                holder_name=self.holder_name,
                document_number=self.holder_document,
                document_type=0,
            ),
            pin=self.pin,
            fci=self.fci,
            t0=self.t0,
            random=random,
        )
        stored = replace(card.stored, pin_tries=self.pin_tries, auth_tries=self.auth_tries, block=self.block)
        card.restore(self._worn(stored))
        return card

    def _worn(self, stored: Stored) -> Stored:
        """State of the card after what has happened to it."""
        return stored


@dataclass(frozen=True, slots=True, kw_only=True)
class DamagedFacts(UserCardFacts):
    """ETC user card with files that have suffered; its keys are whole."""

    unreadable: Files = ()
    """Files whose memory has failed: 6581."""
    missing: Files = ()
    cut: Annotated[tuple[tuple[int, int], ...], _by_file(_whole(0, 0xFF))] = ()
    """Bytes that are left of a file; of 0019, of its record AA."""
    garbage: Annotated[tuple[tuple[int, bytes], ...], _by_file(_octets())] = ()
    """Bytes that stand in a file instead of what was there."""

    def _worn(self, stored: Stored) -> Stored:
        files, records, log = dict(stored.files), dict(stored.records), stored.log
        for sfi, content in self.garbage:
            if sfi == SFI_STATIONS:
                records[RECORD_AA] = content
            elif sfi == SFI_TRANSACTIONS:
                log = (content, *log)
            else:
                files[sfi] = content
        for sfi, left in self.cut:
            if sfi == SFI_STATIONS:
                records[RECORD_AA] = records[RECORD_AA][:left]
            elif sfi != SFI_TRANSACTIONS:
                files[sfi] = files[sfi][:left]
        for sfi in self.missing:
            files.pop(sfi, None)
        if SFI_STATIONS in self.missing:
            records = {}
        return replace(stored, files=files, records=records, log=log, unreadable=frozenset(self.unreadable))


@dataclass(frozen=True, slots=True, kw_only=True)
class PsamFacts(Facts):
    """PSAM with the published test keys."""

    terminal: Annotated[bytes, _octets(6)] = TERMINAL_DEFAULT
    serial: Annotated[bytes, _octets(10)] = SERIAL_DEFAULT
    network: Network = "9901"
    terminal_serial: Long = 0
    """Last number given out."""
    serial_step: Byte = 1
    algorithms: Annotated[tuple[Algorithm, ...], _CIPHERS] = BOTH
    starts: Day = STARTS
    expires: Day = EXPIRES
    long_application_file: Flag = False
    vendor: Annotated[PsamProfile, _one_of(PROFILES)] = NATIONAL
    """Maker's or province's way with 801A and 80FA."""
    authorisation_needed: Flag = False
    auth_tries: Tries = TRIES_MAX
    """Tries left for its authorisation; 0 is locked."""

    def make(self, random: RandomSource) -> Psam:
        """PSAM with these facts."""
        return Psam(
            mode="bench",
            terminal=self.terminal,
            serial=self.serial,
            network=self.network,
            terminal_serial=self.terminal_serial,
            serial_step=self.serial_step,
            algorithms=frozenset(self.algorithms),
            key_type=Algorithm.SM4 if Algorithm.SM4 in self.algorithms else Algorithm.DES3,
            starts=self.starts,
            expires=self.expires,
            long_application_file=self.long_application_file,
            authorisation_needed=self.authorisation_needed,
            auth_tries=self.auth_tries,
            profile=self.vendor,
            t0=self.t0,
            random=random,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class EsamFacts(Facts):
    """Secure chip of a tag (OBU)."""

    plate: Plate
    plate_colour: Byte = 0
    vehicle_class: Byte = 1
    user_type: Byte = 0
    form: Annotated[VehicleForm, _one_of(_named(VehicleForm))] = VehicleForm.CAR_79
    old_colour: Flag = False
    """True: the colour stands as text, as old tags have it."""
    vin: Annotated[str, _text(r"[ -~]{0,17}", "at most 17 letters and digits")] = ""
    length_mm: Word = 0
    gross_mass_kg: Annotated[int, _whole(0, 0xFF_FFFF)] = 0
    obu_id: Annotated[str, _text(r"[0-9A-F]{8}", 'eight hexadecimal digits such as "08411A01"')] = "08411A01"
    contract: Digits16 = "9901230100000001"
    network: Network = "9901"
    version: Byte = 0x10
    """From 0x50 on its vehicle file is under SM4; 0x52 is a tag without a card."""
    starts: Day = STARTS
    expires: Day = EXPIRES
    mounted: Flag = True
    route_file: Flag = False
    """True: it has file EF04."""
    record: Record = None
    """Copy of the card's record AA in EF04."""

    def make(self, random: RandomSource) -> Esam:
        """Chip with these facts."""
        esam = make_obu(
            obu_id=self.obu_id,
            contract_serial=self.contract,
            network=self.network,
            version=self.version,
            device_type=DeviceType.ONE_PIECE if self.version == VERSION_ONE_PIECE else DeviceType.TWO_PIECE,
            starts=self.starts,
            expires=self.expires,
            vehicle_file=self._vehicle_file(),
            mount_flag=int(self.mounted),
            ef04=self.route_file or self.record is not None,
            t0=self.t0,
            random=random,
        ).esam
        if self.record is not None:
            stored: EsamStored = esam.stored
            content = write_part(stored.content(ROUTE_FILE) or b"", ENTRY_IN_ROUTE_FILE, self.record)
            esam.restore(stored.written(ROUTE_FILE, content))
        return esam

    def _vehicle_file(self) -> bytes:
        common: dict[str, Any] = {
            "plate": self.plate,
            "plate_colour": self.plate_colour,
            "vehicle_class": self.vehicle_class,
            "user_type": self.user_type,
        }
        if self.form is VehicleForm.TRUCK:
            length_mm = self.length_mm or 12_000
            content = truck_file_new(**common, vin=self.vin, length_mm=length_mm, gross_mass_kg=self.gross_mass_kg)
        else:
            size = 59 if self.form is VehicleForm.CAR_59 else 79
            content = vehicle_file_new(**common, length_mm=self.length_mm, size=size)
        if self.old_colour and self.plate_colour not in OLD_COLOURS:
            raise ValueError(f"old_colour goes with plate_colour 0 to {max(OLD_COLOURS)}")
        if self.old_colour:
            content = write_part(content, COLOUR_OFFSET, OLD_COLOURS[self.plate_colour].encode("gbk"))
        return content


@dataclass(frozen=True, slots=True, kw_only=True)
class BlankFacts(Facts):
    """Card as the factory delivers it."""

    formatted: Flag = True
    """True: it has its root, and nothing in it."""

    def make(self, random: RandomSource) -> Chip:
        """Card with these facts."""
        return blank_card(formatted=self.formatted, t0=self.t0, random=random)


@dataclass(frozen=True, slots=True, kw_only=True)
class TransitFacts(Facts):
    """Transit card, which has the application id of ETC cards."""

    public: Annotated[bytes, _octets(PUBLIC_BYTES)]
    """File 0015."""
    balance_fen: Long = 0

    def make(self, random: RandomSource) -> Chip:
        """Card with these facts."""
        return transit_card(public=self.public, balance_raw=self.balance_fen, t0=self.t0, random=random)


@dataclass(frozen=True, slots=True, kw_only=True)
class ForeignFacts(Facts):
    """Card of anybody else: it answers 6A82 to everything."""

    def make(self, random: RandomSource) -> Chip:
        """Card that finds nothing."""
        return ForeignCard(random=random)


KINDS: Final[Mapping[str, type[Facts]]] = MappingProxyType(
    {
        "user-card": UserCardFacts,
        "damaged": DamagedFacts,
        "psam": PsamFacts,
        "esam": EsamFacts,
        "blank": BlankFacts,
        "transit": TransitFacts,
        "foreign": ForeignFacts,
    }
)
"""Kinds of cards by the words of a profile."""


@dataclass(frozen=True, slots=True)
class Profile:
    """One card of a profile file."""

    name: str
    kind: str
    facts: Facts
    table: Mapping[str, str]
    """Keys and values as they were written."""

    def make(self, random: RandomSource = secrets.token_bytes) -> Chip:
        """Chip as it was personalised. A repeatable run gives its own `random`."""
        return self.facts.make(random)


def load(path: Path) -> dict[str, Profile]:
    """Cards of a profile file by name. Raises ProfileError, and OSError for a file that is not there."""
    try:
        tables = tomllib.loads(path.read_text("utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ProfileError(f"{path}: {error}") from error
    profiles: dict[str, Profile] = {}
    problems: list[str] = []
    for name, table in tables.items():
        try:
            profiles[name] = _profile(name, table)
        except ValueError as error:
            problems += [f"{path}: [{name}] {line}" for line in str(error).splitlines()]
    if not tables:
        problems.append(f'{path}: no card: write a table such as [car] with kind = "user-card"')
    if problems:
        raise ProfileError("\n".join(problems))
    return profiles


def _profile(name: str, table: object) -> Profile:
    kinds = f"one of {', '.join(KINDS)}"
    if not isinstance(table, dict):
        raise ProfileError(f"is no card: write a table [{name}] with kind = {kinds}")
    if re.fullmatch(r"[a-z0-9][a-z0-9-]{0,39}", name) is None:
        raise ProfileError("name: write small letters, digits and hyphens")
    kind = str(table.get("kind"))
    if kind not in KINDS:
        raise ProfileError(f"kind: {kind!r}: write {kinds}")
    facts = _facts(KINDS[kind], {word: value for word, value in table.items() if word != "kind"})
    try:
        facts.make(secrets.token_bytes)
    except (ProtocolError, ValueError) as error:
        raise ProfileError(f"does not make a card: {error}") from error
    return Profile(name, kind, facts, {word: str(value) for word, value in table.items()})


def _facts(kind: type[T], table: object) -> T:
    if not isinstance(table, dict):
        raise ProfileError("write a table")
    keys = {one.name: one for one in dataclasses.fields(kind)}  # type: ignore[arg-type]
    checks = get_type_hints(kind, include_extras=True)
    values: dict[str, Any] = {}
    problems = [f"{word}: no such key here: {', '.join(keys)}" for word in table if word not in keys]
    for word, one in keys.items():
        if word in table:
            try:
                values[word] = checks[word].__metadata__[0](table[word])
            except ValueError as error:
                problems += [f"{word}: {table[word]!r}: {line}" for line in str(error).splitlines()]
        elif one.default is dataclasses.MISSING:
            problems.append(f"{word}: is missing")
    if problems:
        raise ProfileError("\n".join(problems))
    return kind(**values)
