"""File 0019 as it is written on a card: entry of the trip, last place, and fare."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final, Protocol

from gateway.points.card.settings import CardSettings
from gateway.tariffs.quote import EntryFact
from protocols.card.codes import VALID_ENTRY_STATUSES, PassStatus
from protocols.card.station import Station, station_new

STATION_TAIL: Final = slice(7, 43)
"""Bytes of file 0019 that C3 and C7 carry, 36 from the lane on. Which ones they are is not documented (inferred: the
last 36, so that header, network and station, which the antenna knows or adds, are left out)."""


class Vehicle(Protocol):
    """Vehicle as the file of its tag tells it, or that of its card alone. None: not told."""

    @property
    def plate(self) -> str: ...
    @property
    def plate_colour(self) -> int | None: ...
    @property
    def vehicle_class(self) -> int | None: ...


def entry_record(settings: CardSettings, vehicle: Vehicle, seconds: int) -> bytes:
    """Make the file of a trip that begins here. `seconds`: UNIX time."""
    return station_new(
        network=settings.station[:4],
        station=settings.station[4:],
        lane=settings.lane_no,
        unix_seconds=seconds,
        vehicle_class=vehicle.vehicle_class or 0,
        status=PassStatus.ETC_ENTRY,
        plate=vehicle.plate,
        plate_colour=vehicle.plate_colour,
        last_gantry=settings.gantry,
        gantry_unix_seconds=seconds,
    )


def purchase_record(
    settings: CardSettings, read: Station, vehicle: Vehicle, seconds: int, fare: int, *, leaves: bool
) -> bytes:
    """Make the file as it will stand on the card after a purchase.

    `read`: what stands there now. `seconds`: UNIX time of the purchase. `fare`: fen. `leaves`: the trip that was
    entered ends here, so its entry is kept and closed; else it begins and ends here.
    """
    kept = leaves and read.network is not None and read.station is not None
    return station_new(
        network=read.network if kept and read.network is not None else settings.station[:4],
        station=read.station if kept and read.station is not None else settings.station[4:],
        lane=read.lane if kept and read.lane is not None else settings.lane_no,
        unix_seconds=read.unix_seconds if kept and read.unix_seconds is not None else seconds,
        vehicle_class=vehicle.vehicle_class or 0,
        status=PassStatus.ETC_EXIT if leaves else PassStatus.ETC_OPEN,
        plate=vehicle.plate,
        plate_colour=vehicle.plate_colour,
        last_gantry=settings.gantry,
        gantry_unix_seconds=seconds,
        axles=(read.axles or 0) if kept else 0,
        weight_kg=(read.weight_kg or 0) if kept else 0,
        fee_fen=fare,
    )


def sale_record(settings: CardSettings, read: Station, vehicle: Vehicle, seconds: int, amount: int) -> bytes:
    """Make the file as it will stand on the card after a sale that is no part of its trip: fuel, a service area.

    A trip under way goes on: only the time of its last place is this purchase's, which proves it (inferred: no
    published rule says what a pump writes there). Without a trip it reads as one that began and ended here.
    """
    if isinstance(entry_of(read), str) or read.network is None or read.station is None:
        return purchase_record(settings, read, vehicle, seconds, amount, leaves=False)
    return station_new(
        network=read.network,
        station=read.station,
        lane=read.lane or 0,
        unix_seconds=read.unix_seconds or 0,
        vehicle_class=read.vehicle_class or vehicle.vehicle_class or 0,
        status=read.status or PassStatus.ETC_ENTRY,
        plate=vehicle.plate,
        plate_colour=vehicle.plate_colour,
        last_gantry=read.last_gantry or bytes(3),
        gantry_unix_seconds=seconds,
        axles=read.axles or 0,
        weight_kg=read.weight_kg or 0,
        fee_fen=read.fee_fen or 0,
    )


def entered_here(settings: CardSettings, station: Station, now: datetime) -> bool:
    """True when the trip on the card began in this lane just now: while a vehicle keeps its right to pass."""
    if station.network is None or station.station is None or station.unix_seconds is None:
        return False
    here = (station.network + station.station, station.lane) == (settings.station, settings.lane_no)
    age_s = abs(now.timestamp() - station.unix_seconds)
    return here and station.status == PassStatus.ETC_ENTRY and age_s < settings.repeat_window_s


def entry_of(station: Station | None) -> EntryFact | str:
    """Entry of the trip; without a valid entry the code of the reason."""
    if station is None or station.network is None or station.station is None or station.unix_seconds is None:
        return "no_entry"
    if station.status not in VALID_ENTRY_STATUSES:
        return "no_entry"
    return EntryFact(station.network + station.station, datetime.fromtimestamp(station.unix_seconds, UTC))
