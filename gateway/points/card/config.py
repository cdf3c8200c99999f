"""Section of the site file for a charge point that sells to user cards."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

from pydantic import Field

from gateway.documents import Hex8
from gateway.points.card.settings import ChargeCardPurchase
from gateway.points.config import ChargePoint, Claim, Need
from gateway.texts.catalogue import Pair, Words


class CardPoint(ChargePoint):
    """A charge point that sells to user cards"""

    needs: ClassVar[frozenset[Need]] = frozenset({Need.ISSUERS, Need.LISTS})

    station: Hex8
    """network and station as in file 0019, 8 hex digits"""
    lane_no: int = Field(ge=0, le=255)
    """lane number as in file 0019"""
    gantry: str = Field(pattern=r"^[0-9A-Fa-f]{6}$")
    """the lane's own code, 3 bytes in hex (FlagID of C0, last gantry of file 0019)"""
    charge_card_purchase: ChargeCardPurchase = ChargeCardPurchase.FARE
    """amount written to charge cards: "fare" or "zero" """

    def claims(self) -> Iterator[Claim]:
        """Claims, also to the number by which cards and records tell it apart."""
        yield from super().claims()
        yield Claim(
            ("lane number", self.station.upper(), self.lane_no),
            "lane_no",
            str(self.lane_no),
            Pair.same(self.name),
            lambda owner: Words("claim.lane-number-of", owner=owner, station=self.station),
            Words("claim.own-lane-number"),
        )
