"""Reads tariff files: TOML, one file per version, checked completely before any fare comes from them.

    version = "9920261101001"                     # province 2, yyyymmdd 8, serial 3 digits
    valid_from = 2026-11-01T00:00:00+08:00
    valid_to = 2027-05-01T00:00:00+08:00          # left out: no end is published yet
    exempt_user_types = []                        # user types of card and tag that pay nothing
    longest_trip_hours = 72                       # left out: any

    [ceiling_fen]                                 # largest full fare per class that can be true
    1 = 200000

    [discount]                                    # left out: none. percent_off = 5 says the same
    permille_off = 50
    rounding = { unit = "fen", mode = "half_up", where = "unit" }

    [class_table.99010101]                        # a plaza with one fare per class
    1 = 500

    [matrix.99010101.99010102]                    # entry station, exit station: fare per class
    1 = 2345

    [routes.99010101.99010103]                    # entry station, exit station: toll units in the order driven
    units = ["99A1", "99A2"]

    [units.99A1]                                  # a fare per class ...
    fen = { 1 = 1000 }
    metres = 21500                                # ... its length may stand beside it for the record

    [units.99A2]                                  # or only a length, charged by [per_metre]
    metres = 12345

    [per_metre]
    fen_per_km = { 1 = 40 }
    rounding = { unit = "fen", mode = "half_up", where = "unit" }

All amounts are integer fen. Unknown keys are errors, because a misspelt key would be a wrong price. Rounding modes:
half_up, half_even, down, up; units: fen, yuan; where: unit, total.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from enum import StrEnum
from itertools import pairwise
from pathlib import Path
from types import MappingProxyType
from typing import Final, NoReturn, TypeVar

from gateway.model.money import FEN_MAX, Fen
from gateway.model.vehicle_class import is_vehicle_class
from gateway.tariffs.quote import (
    PERMILLE,
    Discount,
    Fares,
    PerMetre,
    Rounding,
    RoundingMode,
    RoundingPlace,
    RoundingUnit,
    TariffSet,
    TariffVersion,
    TollUnit,
)
from gateway.text_files import NotText, text_of
from gateway.texts.catalogue import Pair, Text, Words
from gateway.texts.places import wrong

FILES_MAX: Final = 200
"""Versions kept side by side: years of monthly changes. More is a directory that nobody tends."""
FILE_BYTES_MAX: Final = 32 * 1024 * 1024
"""A matrix of 500 stations squared with ten classes; a larger network gives toll units instead."""
UNITS_PER_ROUTE_MAX: Final = 1000
"""The longest way through the country passes some hundred toll units."""
METRES_MAX: Final = 10_000_000
"""One toll unit is shorter than the country; longer is a misplaced decimal."""
FEN_PER_KM_MAX: Final = 100_000
"""1000 yuan a kilometre; more is a misplaced decimal."""
HOURS_MAX: Final = 24 * 366

_VERSION: Final = re.compile(r"[0-9]{2}([0-9]{8})[0-9]{3}", re.ASCII)
_STATION: Final = re.compile(r"[0-9]{4}[0-9A-F]{4}", re.ASCII)
_UNIT_NAME: Final = re.compile(r"[0-9A-Za-z_-]{1,32}", re.ASCII)


class TariffError(Exception):
    """A tariff file cannot be used. Names file, key and value, and what to do."""

    def __init__(self, file: Path, key: str, value: object, problem: Text, cure: Text) -> None:
        self.file = file
        self.key = key
        self.value = value
        self.problem = problem
        self.cure = cure
        shown = "" if value is None else f" = {value!r}"
        super().__init__(wrong(f"{file}: {key}{shown}", problem, cure))


_Choice = TypeVar("_Choice", bound=StrEnum)


class _Table:
    """TOML table with its place in the file, so that every error can name the full key."""

    def __init__(self, file: Path, path: str, values: Mapping[str, object]) -> None:
        self.file = file
        self.path = path
        self.values = values

    def key(self, name: str) -> str:
        return f"{self.path}.{name}" if self.path else name

    def refuse(self, name: str, problem: Text, cure: Text) -> NoReturn:
        raise TariffError(self.file, self.key(name), self.values.get(name), problem, cure)

    def only(self, *names: str) -> None:
        for name in self.values:
            if name not in names:
                self.refuse(name, Words("tariff.unknown-key"), Words("tariff.known-keys", names=", ".join(names)))

    def table(self, name: str) -> _Table:
        """A table below this one; empty if it is left out."""
        value = self.values.get(name, {})
        if not isinstance(value, dict):
            self.refuse(name, Words("tariff.no-table"), Words("tariff.write-table", key=self.key(name)))
        return _Table(self.file, self.key(name), value)

    def integer(self, name: str, low: int, high: int) -> int:
        value = self.values.get(name)
        if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
            self.refuse(name, Words("tariff.no-integer", low=low, high=high), Words("tariff.write-integer"))
        return value

    def text(self, name: str, pattern: re.Pattern[str], form: Text) -> str:
        value = self.values.get(name)
        if not isinstance(value, str) or pattern.fullmatch(value) is None:
            self.refuse(name, Words("tariff.no-form", form=form), Words("tariff.write-form", name=name))
        return value

    def moment(self, name: str) -> datetime:
        value = self.values.get(name)
        if not isinstance(value, datetime) or value.tzinfo is None:
            self.refuse(name, Words("tariff.no-moment"), Words("tariff.write-moment"))
        return value

    def choice(self, name: str, choices: type[_Choice], default: _Choice) -> _Choice:
        value = self.values.get(name, default)
        if not isinstance(value, str) or value not in list(choices):
            self.refuse(name, Words("tariff.no-choice"), Words("tariff.use-one-of", choices=", ".join(choices)))
        return choices(value)

    def items(self, name: str) -> Sequence[object]:
        value = self.values.get(name, [])
        if not isinstance(value, list):
            self.refuse(name, Words("tariff.no-list"), Words("tariff.write-list", name=name))
        return value


# --- one file -------------------------------------------------------------------------------------------------------


def load_version(file: Path) -> TariffVersion:
    """Read and check one tariff file. Raises TariffError."""
    try:
        with file.open("rb") as stream:
            data = stream.read(FILE_BYTES_MAX + 1)
    except OSError as error:
        raise TariffError(file, "file", None, Pair.same(str(error)), Words("file.check-readable")) from error
    if len(data) > FILE_BYTES_MAX:
        problem = Words("tariff.too-long", most=FILE_BYTES_MAX)
        raise TariffError(file, "file", None, problem, Words("tariff.give-units"))
    try:
        content = tomllib.loads(text_of(data))
    except NotText as error:
        raise TariffError(file, "file", None, error.problem, error.cure) from error
    except ValueError as error:  # not TOML, or a number without end
        raise TariffError(
            file, "file", None, Words("tariff.not-toml", error=str(error)), Words("tariff.correct-place")
        ) from error
    return _version_of(_Table(file, "", content))


def _version_of(top: _Table) -> TariffVersion:
    top.only(
        "version",
        "valid_from",
        "valid_to",
        "exempt_user_types",
        "longest_trip_hours",
        "ceiling_fen",
        "discount",
        "class_table",
        "matrix",
        "routes",
        "units",
        "per_metre",
    )
    valid_from, valid_to = top.moment("valid_from"), None
    if "valid_to" in top.values:
        valid_to = top.moment("valid_to")
        if valid_to <= valid_from:
            top.refuse("valid_to", Words("tariff.not-after-from"), Words("tariff.correct-one"))
    longest = None
    if "longest_trip_hours" in top.values:
        longest = timedelta(hours=top.integer("longest_trip_hours", 1, HOURS_MAX))
    per_metre = _per_metre(top.table("per_metre"))
    units = _units(top.table("units"), per_metre)
    tariff = TariffVersion(
        version=_version_name(top),
        valid_from=valid_from,
        valid_to=valid_to,
        discount=_discount(top.table("discount")) if "discount" in top.values else Discount(),
        ceiling=_fares(top.table("ceiling_fen")),
        exempt_user_types=_user_types(top),
        longest_trip=longest,
        class_tables=_by_station(top.table("class_table"), _fares),
        matrix=_by_exit(top.table("matrix"), _fares),
        routes=_by_exit(top.table("routes"), lambda table: _route(table, units)),
        units=units,
        per_metre=per_metre,
    )
    _check_stations(top, tariff)
    _check_ceilings(top, tariff)
    return tariff


def _version_name(top: _Table) -> str:
    name = top.text("version", _VERSION, Words("tariff.version-form"))
    try:
        datetime.strptime(f"{name[2:10]}+0000", "%Y%m%d%z")
    except ValueError:
        top.refuse("version", Words("tariff.version-date"), Words("tariff.write-date"))
    return name


def _user_types(top: _Table) -> frozenset[int]:
    types = top.items("exempt_user_types")
    numbers = [number for number in types if isinstance(number, int) and not isinstance(number, bool)]
    if len(numbers) != len(types) or any(not 0 <= number <= 255 for number in numbers):
        top.refuse("exempt_user_types", Words("tariff.user-types"), Words("tariff.numbers-only"))
    return frozenset(numbers)


def _fares(table: _Table) -> Fares:
    """Class -> fen of a table whose keys are vehicle classes."""
    return _by_class(table, FEN_MAX)


def _by_class(table: _Table, high: int) -> Mapping[int, Fen]:
    fares: dict[int, Fen] = {}
    for name in table.values:
        if not (name.isascii() and name.isdigit() and is_vehicle_class(int(name))) or name != str(int(name)):
            table.refuse(name, Words("tariff.no-class"), Words("tariff.classes"))
        fares[int(name)] = Fen(table.integer(name, 0, high))
    return MappingProxyType(fares)


def _rounding(parent: _Table) -> Rounding:
    table = parent.table("rounding")
    table.only("unit", "mode", "where")
    default = Rounding()
    return Rounding(
        unit=table.choice("unit", RoundingUnit, default.unit),
        mode=table.choice("mode", RoundingMode, default.mode),
        where=table.choice("where", RoundingPlace, default.where),
    )


def _discount(table: _Table) -> Discount:
    table.only("permille_off", "percent_off", "rounding")
    if ("permille_off" in table.values) == ("percent_off" in table.values):
        table.refuse("permille_off", Words("tariff.one-discount"), Words("tariff.keep-one"))
    if "percent_off" in table.values:
        off = 10 * table.integer("percent_off", 0, PERMILLE // 10)
    else:
        off = table.integer("permille_off", 0, PERMILLE)
    return Discount(off, _rounding(table))


def _per_metre(table: _Table) -> PerMetre:
    table.only("fen_per_km", "rounding")
    return PerMetre(_by_class(table.table("fen_per_km"), FEN_PER_KM_MAX), _rounding(table))


def _units(table: _Table, per_metre: PerMetre) -> Mapping[str, TollUnit]:
    units: dict[str, TollUnit] = {}
    for name in table.values:
        if _UNIT_NAME.fullmatch(name) is None:
            table.refuse(name, Words("tariff.no-unit-name"), Words("tariff.unit-name-form"))
        unit = table.table(name)
        unit.only("fen", "metres")
        metres = unit.integer("metres", 1, METRES_MAX) if "metres" in unit.values else None
        fares = _fares(unit.table("fen"))
        if not fares and metres is None:
            unit.refuse("fen", Words("tariff.fen-and-metres"), Words("tariff.give-fares-or-length"))
        if not fares and not per_metre.fen_per_km:
            unit.refuse("metres", Words("tariff.needs-rate"), Words("tariff.add-rate"))
        units[name] = TollUnit(name, fares, metres)
    return MappingProxyType(units)


def _route(table: _Table, units: Mapping[str, TollUnit]) -> tuple[str, ...]:
    table.only("units")
    names = table.items("units")
    if not 1 <= len(names) <= UNITS_PER_ROUTE_MAX:
        table.refuse("units", Words("tariff.route-units", most=UNITS_PER_ROUTE_MAX), Words("tariff.list-units"))
    known = tuple(name for name in names if isinstance(name, str) and name in units)
    if len(known) != len(names):
        table.refuse("units", Words("tariff.unit-unknown"), Words("tariff.add-unit"))
    if len(set(known)) != len(known):
        table.refuse("units", Words("tariff.unit-twice"), Words("tariff.unit-once"))
    return known


_Value = TypeVar("_Value")


def _by_station(table: _Table, read: Callable[[_Table], _Value]) -> Mapping[str, _Value]:
    found: dict[str, _Value] = {}
    for code in table.values:
        if _STATION.fullmatch(code) is None:
            table.refuse(code, Words("tariff.no-station"), Words("tariff.station-form"))
        found[code] = read(table.table(code))
    return MappingProxyType(found)


def _by_exit(table: _Table, read: Callable[[_Table], _Value]) -> Mapping[str, Mapping[str, _Value]]:
    """Entry -> exit -> value of the file, turned to exit -> entry -> value: the exit is what a lane knows first."""
    by_entry = _by_station(table, lambda entry: _by_station(entry, read))
    turned: dict[str, dict[str, _Value]] = {}
    for entry, exits in by_entry.items():
        for station, value in exits.items():
            turned.setdefault(station, {})[entry] = value
    return MappingProxyType({station: MappingProxyType(entries) for station, entries in turned.items()})


def _check_stations(top: _Table, tariff: TariffVersion) -> None:
    """A relation has one price: a station is a plaza with a class table or an exit, and a relation stands once."""
    for station in tariff.class_tables:
        if station in tariff.matrix or station in tariff.routes:
            top.table("class_table").refuse(station, Words("tariff.exit-too"), Words("tariff.keep-source"))
    for station, entries in tariff.matrix.items():
        for entry in entries:
            if entry in tariff.routes.get(station, {}):
                top.table("matrix").table(entry).refuse(station, Words("tariff.route-too"), Words("tariff.keep-source"))


def _check_ceilings(top: _Table, tariff: TariffVersion) -> None:
    """Every class with a fare needs a ceiling, or the guard against absurd amounts would have a hole."""
    tables = [
        *tariff.class_tables.values(),
        *(fares for entries in tariff.matrix.values() for fares in entries.values()),
        *(unit.fares for unit in tariff.units.values()),
        tariff.per_metre.fen_per_km,
    ]
    for vehicle_class in sorted({vehicle_class for table in tables for vehicle_class in table}):
        if vehicle_class not in tariff.ceiling:
            ceiling = top.table("ceiling_fen")
            ceiling.refuse(str(vehicle_class), Words("tariff.no-ceiling"), Words("tariff.give-ceiling"))


# --- all versions ---------------------------------------------------------------------------------------------------


def load_tariffs(directory: Path) -> TariffSet:
    """Read every `*.toml` of a directory and put the versions in order.

    Raises TariffError for a file that cannot be used, for two files of one version, and for time that no version or
    more than one covers. Nothing is dropped quietly: a lane with a doubtful tariff must not open.
    """
    files = sorted(directory.glob("*.toml"))
    if not files:
        raise TariffError(directory, "files", None, Words("tariff.none-here"), Words("tariff.install"))
    if len(files) > FILES_MAX:
        problem = Words("tariff.too-many", most=FILES_MAX)
        raise TariffError(directory, "files", len(files), problem, Words("tariff.move-old"))
    loaded = sorted(((load_version(file), file) for file in files), key=lambda pair: pair[0].valid_from)
    seen: dict[str, Path] = {}
    for version, file in loaded:
        if version.version in seen:
            problem = Words("tariff.version-twice", other=seen[version.version].name)
            raise TariffError(file, "version", version.version, problem, Words("tariff.remove-one"))
        seen[version.version] = file
    for (older, older_file), (newer, newer_file) in pairwise(loaded):
        _check_border(older, older_file, newer, newer_file)
    return TariffSet(tuple(version for version, _ in loaded))


def _check_border(older: TariffVersion, older_file: Path, newer: TariffVersion, newer_file: Path) -> None:
    begin = newer.valid_from.isoformat()
    if older.valid_to is None or older.valid_to > newer.valid_from:
        end = "no end" if older.valid_to is None else older.valid_to.isoformat()
        problem = Words("tariff.overlaps", other=newer_file.name, begin=begin)
        raise TariffError(older_file, "valid_to", end, problem, Words("tariff.end-at", begin=begin))
    if older.valid_to < newer.valid_from:
        problem = Words("tariff.gap", other=newer_file.name, begin=begin)
        raise TariffError(older_file, "valid_to", older.valid_to.isoformat(), problem, Words("tariff.close-gap"))
