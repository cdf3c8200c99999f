"""Services that everything at a fuel island uses."""

from __future__ import annotations

from dataclasses import dataclass

from gateway.ledger.batches import LedgerWriter
from gateway.ledger.reading import LedgerReader
from gateway.points.etc.visit import EtcServices
from gateway.points.fuel.settings import FuelSettings


@dataclass(frozen=True, slots=True, kw_only=True)
class FuelServices(EtcServices):
    """Services of a fuel island."""

    settings: FuelSettings
    writer: LedgerWriter
    reader: LedgerReader
