"""Settings of a charge point that sells to user cards, whatever reads them."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from gateway.points.settings import PointSettings


class ChargeCardPurchase(StrEnum):
    """Amount written to a charge card (type 23)."""

    FARE = "fare"
    ZERO = "zero"


@dataclass(frozen=True, slots=True, kw_only=True)
class CardSettings(PointSettings):
    """Settings of one charge point that sells to user cards, from the site file."""

    station: str
    """Network and station, 8 hex digits as in file 0019."""
    lane_no: int
    gantry: bytes
    """3 bytes, the charge point's own code in file 0019 and C0."""
    charge_card_purchase: ChargeCardPurchase = ChargeCardPurchase.FARE
