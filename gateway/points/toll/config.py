"""Sections of the site file for toll lanes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar, Literal

from gateway.documents import Problem
from gateway.points.config import Claim, Need
from gateway.points.etc.config import EtcPoint
from gateway.points.gate.config import Outputs
from gateway.points.toll.settings import LaneKind


class TollLane(EtcPoint):
    """A toll lane"""

    outputs: Outputs

    def problems(self, boards: frozenset[str], banks: frozenset[str]) -> Iterator[Problem]:
        """Problems, also those of its barrier."""
        yield from super().problems(boards, banks)
        yield from self.outputs.problems(boards)

    def claims(self) -> Iterator[Claim]:
        """Claims, also to its coils."""
        yield from super().claims()
        yield from self.outputs.claims(self.name)


class ChargingLane(TollLane):
    """[[charge_points]] kind = "toll-open" or "toll-exit" """

    needs: ClassVar[frozenset[Need]] = TollLane.needs | {Need.TARIFFS}

    kind: Literal[LaneKind.OPEN, LaneKind.EXIT]
    """"toll-open" (one fare per class) or "toll-exit" (fare from the entry on the card)"""


class EntryLane(TollLane):
    """[[charge_points]] kind = "toll-entry" """

    kind: Literal[LaneKind.ENTRY]
    """"toll-entry" writes the entry of the trip on the card and charges nothing"""
