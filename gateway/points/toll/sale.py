"""Sale of a toll lane: the road to here, by class or from the entry of the trip."""

from __future__ import annotations

import logging

from gateway.points.card.file_0019 import entry_of, purchase_record
from gateway.points.etc.sale import Price
from gateway.points.toll.settings import LaneKind, LaneSettings
from gateway.tariffs.quote import EntryFact, Refusal, TariffSet, quote
from gateway.timekeeping import Timekeeper
from protocols.card.station import Station
from protocols.obu.vehicle_file import VehicleFile

log = logging.getLogger(__name__)


class Road:
    """`gateway.points.etc.sale.Goods` of an open lane or an exit."""

    def __init__(self, settings: LaneSettings, tariffs: TariffSet, time: Timekeeper) -> None:
        self._settings = settings
        self._tariffs = tariffs
        self._time = time

    def price(self, vehicle: VehicleFile, station: Station | None) -> Price:
        """Price, the fare, by the tariff version in force."""
        entry: EntryFact | None = None
        if self._settings.kind is LaneKind.EXIT:
            found = entry_of(station)
            if isinstance(found, str):
                return Price(0, None, found)
            entry = found
        quoted = quote(
            self._tariffs,
            self._time.now,
            self._settings.station,
            vehicle.vehicle_class,
            entry,
            user_type=vehicle.user_type,
        )
        if isinstance(quoted, Refusal):
            log.warning("%s: no fare: %s", self._settings.name, quoted.detail)
            return Price(0, quoted.tariff_version, quoted.reason.code)
        return Price(quoted.amount_fen, quoted.tariff_version)

    def record(self, station: Station, vehicle: VehicleFile, unix_seconds: int, amount_fen: int) -> bytes:
        """Make file 0019: an exit keeps the entry and closes it, an open lane is both."""
        leaves = self._settings.kind is LaneKind.EXIT
        return purchase_record(self._settings, station, vehicle, unix_seconds, amount_fen, leaves=leaves)
