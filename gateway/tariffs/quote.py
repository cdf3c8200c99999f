"""Fare of a passage: a pure function from tariff data and facts of the passage to integer fen.

Three sources of a fare, chosen by the data of the exit station:

- class table: one fare per vehicle class at this plaza, whatever the entry;
- matrix: one fare per class for each entry and exit;
- routes: the toll units between entry and exit, each with a fare per class or with a length charged per metre.

The arithmetic is exact: sums and products of integers, and one division per rounding. A discount is taken off the
rounded full fare, never off an amount that was discounted before. Whether rounding happens per toll unit or once on
the total is provincial policy and therefore data. Rules: national toll module interface (2020), fee of one passage.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Final

from gateway.model import reasons
from gateway.model.money import FEN_PER_YUAN, Fen
from gateway.model.reasons import Reason
from gateway.model.vehicle_class import is_vehicle_class

PERMILLE: Final = 1000
METRES_PER_KM: Final = 1000
ENTRY_AHEAD_MAX: Final = timedelta(minutes=1)
"""Most that an entry may lie in our future: two lanes whose clocks differ, not a wrong date."""
ENTRY_EARLIEST: Final = datetime(2001, 1, 1, tzinfo=UTC)
"""Lane clocks that lost their battery start at 1970 or 2000; an entry before this date was stamped by one."""


# --- rounding -------------------------------------------------------------------------------------------------------


class RoundingUnit(StrEnum):
    FEN = "fen"
    YUAN = "yuan"


class RoundingMode(StrEnum):
    HALF_UP = "half_up"
    HALF_EVEN = "half_even"
    DOWN = "down"
    UP = "up"


class RoundingPlace(StrEnum):
    """Place of rounding: each toll unit before the sum, or the sum once."""

    UNIT = "unit"
    TOTAL = "total"


@dataclass(frozen=True, slots=True)
class Rounding:
    """Rounding of an exact amount to money."""

    unit: RoundingUnit = RoundingUnit.FEN
    mode: RoundingMode = RoundingMode.HALF_UP
    where: RoundingPlace = RoundingPlace.UNIT


def divide(numerator: int, denominator: int, mode: RoundingMode) -> int:
    """Quotient of two non-negative integers as an integer, rounded by `mode`."""
    whole, rest = divmod(numerator, denominator)
    match mode:
        case RoundingMode.DOWN:
            return whole
        case RoundingMode.UP:
            return whole + (rest > 0)
        case RoundingMode.HALF_UP:
            return whole + (2 * rest >= denominator)
        case RoundingMode.HALF_EVEN:
            return whole + (2 * rest > denominator or (2 * rest == denominator and whole % 2 == 1))


def split(total: int, weights: Sequence[int]) -> list[int]:
    """Share a total in proportion to weights so that the shares sum to it: largest remainder, ties to the first.

    Weights of nothing share nothing: the total must be 0 then.
    """
    whole = sum(weights)
    if whole == 0:
        return [0] * len(weights)
    shares = [total * weight // whole for weight in weights]
    by_remainder = sorted(range(len(weights)), key=lambda at: -(total * weights[at] % whole))
    for at in by_remainder[: total - sum(shares)]:
        shares[at] += 1
    return shares


def round_amounts(exact: Sequence[int], denominator: int, rounding: Rounding) -> list[int]:
    """Fen per toll unit from exact amounts given in fen times `denominator`, rounded where the data say.

    Rounded on the total, the total is shared out over the units by largest remainder, so parts sum to it either way.
    """
    step = FEN_PER_YUAN if rounding.unit is RoundingUnit.YUAN else 1
    if rounding.where is RoundingPlace.UNIT:
        return [step * divide(amount, denominator * step, rounding.mode) for amount in exact]
    return split(step * divide(sum(exact), denominator * step, rounding.mode), exact)


# --- tariff data ----------------------------------------------------------------------------------------------------

Fares = Mapping[int, Fen]
"""Vehicle class -> fen."""


@dataclass(frozen=True, slots=True)
class Discount:
    """Discount of ETC users in thousandths of the full fare, and the rounding of the discounted fare."""

    permille_off: int = 0
    rounding: Rounding = field(default_factory=Rounding)


@dataclass(frozen=True, slots=True)
class TollUnit:
    """A stretch of road charged as one. Without own fares it is charged per metre."""

    name: str
    fares: Fares = field(default_factory=dict)
    metres: int | None = None


@dataclass(frozen=True, slots=True)
class PerMetre:
    """Rates for toll units that have only a length: class -> fen per kilometre."""

    fen_per_km: Mapping[int, int] = field(default_factory=dict)
    rounding: Rounding = field(default_factory=Rounding)


class FareKind(StrEnum):
    """Source of the fare of a quote."""

    CLASS_TABLE = "class_table"
    MATRIX = "matrix"
    ROUTES = "routes"


@dataclass(frozen=True, slots=True)
class TariffVersion:
    """One published tariff. Station codes are network and station, 4 BCD and 4 hex digits, such as `99010101`.

    `matrix` and `routes` go from exit station to entry station. `ceiling` is the largest full fare per class that can
    be true; `exempt_user_types` are user types of card and tag that pay nothing.
    """

    version: str
    valid_from: datetime
    valid_to: datetime | None = None
    """First instant at which it is no longer valid; None while no end is published."""
    discount: Discount = field(default_factory=Discount)
    ceiling: Fares = field(default_factory=dict)
    exempt_user_types: frozenset[int] = frozenset()
    longest_trip: timedelta | None = None
    class_tables: Mapping[str, Fares] = field(default_factory=dict)
    matrix: Mapping[str, Mapping[str, Fares]] = field(default_factory=dict)
    routes: Mapping[str, Mapping[str, tuple[str, ...]]] = field(default_factory=dict)
    units: Mapping[str, TollUnit] = field(default_factory=dict)
    per_metre: PerMetre = field(default_factory=PerMetre)


@dataclass(frozen=True, slots=True)
class TariffSet:
    """Every known version, oldest first, without gaps or overlaps (`loading` sees to that)."""

    versions: tuple[TariffVersion, ...]

    def in_force(self, at: datetime) -> TariffVersion | None:
        """The version valid at an instant, None before the first and after the last."""
        if at.tzinfo is None:
            raise ValueError("a tariff is chosen by an instant: give the time a zone")
        newest = bisect_right(self.versions, at, key=lambda version: version.valid_from) - 1
        if newest < 0:
            return None
        version = self.versions[newest]
        return version if version.valid_to is None or at < version.valid_to else None


# --- quoting --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class EntryFact:
    """Entry of a trip: station and time, as read from card, tag or centre."""

    station: str
    at: datetime


@dataclass(frozen=True, slots=True)
class Part:
    """Share of one toll unit, plaza or relation; amount = gross - discount."""

    name: str
    gross_fen: Fen
    discount_fen: Fen
    amount_fen: Fen


@dataclass(frozen=True, slots=True)
class Quote:
    """A fare, final once it is held: amount = gross - discount, and the parts sum to each of the three."""

    amount_fen: Fen
    gross_fen: Fen
    discount_fen: Fen
    tariff_version: str
    parts: tuple[Part, ...]
    kind: FareKind
    metres: int | None = None
    """Length of the charged route, None if the data do not give it."""
    note: Reason | None = None


@dataclass(frozen=True, slots=True)
class Refusal:
    """Reason why there is no fare. `detail` names the missing data, for the attendant and the tariff office."""

    reason: Reason
    detail: str
    tariff_version: str | None = None


@dataclass(frozen=True, slots=True)
class _Gross:
    """Full fare before any discount, by part."""

    kind: FareKind
    names: tuple[str, ...]
    amounts: list[int]
    metres: int | None = None


def quote(
    tariffs: TariffSet,
    at: datetime,
    charge_point: str,
    vehicle_class: int,
    entry: EntryFact | None = None,
    *,
    user_type: int = 0,
    discounted: bool = True,
) -> Quote | Refusal:
    """Fare of a passage at `at` (aware) through the station `charge_point`.

    `entry` is needed where the fare depends on it. `discounted` is False for passages that lose the ETC discount.
    Raises ValueError for a time without zone; every other shortcoming is a Refusal with its reason.
    """
    tariff = tariffs.in_force(at)
    if tariff is None:
        return Refusal(reasons.NO_TARIFF, f"no version covers {at.isoformat()}")
    if not is_vehicle_class(vehicle_class):
        return Refusal(reasons.OBU_CLASS_ILLEGAL, f"class {vehicle_class}", tariff.version)
    gross = _gross(tariff, at, charge_point.upper(), vehicle_class, entry)
    if isinstance(gross, Refusal):
        return gross
    total = sum(gross.amounts)
    ceiling = tariff.ceiling.get(vehicle_class)
    if ceiling is None or total > ceiling:
        limit = "no ceiling" if ceiling is None else f"the ceiling of {ceiling} fen"
        return Refusal(reasons.AMOUNT_ABSURD, f"{total} fen for class {vehicle_class} against {limit}", tariff.version)
    exempt = user_type in tariff.exempt_user_types
    nets = _nets(gross.amounts, tariff.discount, discounted=discounted, exempt=exempt)
    return _quote_of(tariff.version, gross, nets, reasons.VEHICLE_EXEMPT if exempt else None)


def _nets(amounts: Sequence[int], discount: Discount, *, discounted: bool, exempt: bool) -> list[int]:
    """Amounts after exemption or discount. Rounding never raises a discounted fare above the full one."""
    if exempt:
        return [0] * len(amounts)
    if not discounted or discount.permille_off == 0:
        return list(amounts)
    exact = [amount * (PERMILLE - discount.permille_off) for amount in amounts]
    rounded = round_amounts(exact, PERMILLE, discount.rounding)
    if discount.rounding.where is RoundingPlace.TOTAL:
        return split(min(sum(rounded), sum(amounts)), amounts)
    return [min(net, amount) for net, amount in zip(rounded, amounts, strict=True)]


def _quote_of(version: str, gross: _Gross, nets: Sequence[int], note: Reason | None) -> Quote:
    parts = tuple(
        Part(name, Fen(full), Fen(full - net), Fen(net))
        for name, full, net in zip(gross.names, gross.amounts, nets, strict=True)
    )
    total, net = sum(gross.amounts), sum(nets)
    return Quote(Fen(net), Fen(total), Fen(total - net), version, parts, gross.kind, gross.metres, note)


def _gross(
    tariff: TariffVersion, at: datetime, station: str, vehicle_class: int, entry: EntryFact | None
) -> _Gross | Refusal:
    """Full fare from whichever source the data give for this station."""
    if station in tariff.class_tables:
        fare = tariff.class_tables[station].get(vehicle_class)
        if fare is None:
            return _missing(tariff, f"class {vehicle_class} at {station}")
        return _Gross(FareKind.CLASS_TABLE, (station,), [fare])
    if station not in tariff.matrix and station not in tariff.routes:
        return _missing(tariff, f"station {station}")
    if entry is None:
        return Refusal(reasons.NO_ENTRY, f"the fare at {station} depends on the entry", tariff.version)
    late = _entry_time_fault(tariff, at, entry)
    if late is not None:
        return late
    return _by_entry(tariff, station, entry.station.upper(), vehicle_class)


def _missing(tariff: TariffVersion, what: str) -> Refusal:
    return Refusal(reasons.FARE_MISSING, f"no fare for {what}", tariff.version)


def _entry_time_fault(tariff: TariffVersion, at: datetime, entry: EntryFact) -> Refusal | None:
    if entry.at.tzinfo is None:
        raise ValueError("the time of an entry needs a zone")
    if entry.at < ENTRY_EARLIEST or entry.at - at > ENTRY_AHEAD_MAX:
        return Refusal(reasons.ENTRY_TIME_INVALID, f"entry at {entry.at.isoformat()}", tariff.version)
    if tariff.longest_trip is not None and at - entry.at > tariff.longest_trip:
        return Refusal(reasons.TRIP_TOO_LONG, f"entry at {entry.at.isoformat()}", tariff.version)
    return None


def _by_entry(tariff: TariffVersion, station: str, entry: str, vehicle_class: int) -> _Gross | Refusal:
    relation = f"{entry}>{station}"
    fares = tariff.matrix.get(station, {}).get(entry)
    if fares is not None:
        fare = fares.get(vehicle_class)
        if fare is None:
            return _missing(tariff, f"class {vehicle_class} on {relation}")
        return _Gross(FareKind.MATRIX, (relation,), [fare])
    route = tariff.routes.get(station, {}).get(entry)
    if route is not None:
        return _by_units(tariff, [tariff.units[name] for name in route], vehicle_class)
    reason = reasons.U_TURN if entry == station else reasons.ROUTE_UNREACHABLE
    return Refusal(reason, f"no relation {relation}", tariff.version)


def _by_units(tariff: TariffVersion, units: Sequence[TollUnit], vehicle_class: int) -> _Gross | Refusal:
    """Fares of toll units; those charged per metre are rounded among themselves before the sum."""
    rate = tariff.per_metre.fen_per_km.get(vehicle_class)
    measured: list[tuple[int, int]] = []
    amounts = [0] * len(units)
    for at, unit in enumerate(units):
        fare = unit.fares.get(vehicle_class)
        if fare is not None:
            amounts[at] = fare
        elif unit.fares or unit.metres is None or rate is None:
            return _missing(tariff, f"class {vehicle_class} on unit {unit.name}")
        else:
            measured.append((at, rate * unit.metres))
    rounded = round_amounts([exact for _, exact in measured], METRES_PER_KM, tariff.per_metre.rounding)
    for (at, _), amount in zip(measured, rounded, strict=True):
        amounts[at] = amount
    lengths = [unit.metres for unit in units if unit.metres is not None]
    metres = sum(lengths) if len(lengths) == len(units) else None
    return _Gross(FareKind.ROUTES, tuple(unit.name for unit in units), amounts, metres)
