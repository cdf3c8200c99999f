"""Sections of the site file for relay boards, and for a barrier and its lamps."""

from __future__ import annotations

from collections.abc import Iterator

from pydantic import Field

from drivers.barrier_arm import TRAVEL_MS
from gateway.documents import HostPort, Name, Problem, Section, known_are
from gateway.points.config import Claim
from gateway.texts.catalogue import Pair, Words


class RelayBoard(Section):
    """[[relay_boards]]"""

    name: Name
    """name by which lanes refer to the board"""
    address: HostPort
    """host:port of Modbus TCP, usually port 502"""
    unit: int = Field(1, ge=0, le=247)
    """Modbus unit number"""


class Outputs(Section):
    """outputs = { ... } of a charge point with a barrier"""

    board: Name
    """name of a relay board"""
    barrier: int = Field(ge=0, le=65_535)
    """coil that lifts the barrier on its rising edge"""
    green: int = Field(ge=0, le=65_535)
    """coil of the green lamp"""
    red: int = Field(ge=0, le=65_535)
    """coil of the red lamp"""
    pulse_ms: int = Field(500, ge=50, le=10_000)
    """length of the barrier pulse"""
    closed_limit: int | None = Field(None, ge=0, le=65_535)
    """input that is on while the barrier is down; left out: an opening the board does not answer is the attendant's"""
    travel_ms: int = Field(TRAVEL_MS, ge=100, le=20_000)
    """time the arm takes to rise, as its maker says; with closed_limit it tells a lost opening from a late one"""

    def problems(self, boards: frozenset[str]) -> Iterator[Problem]:
        """Problem of a board that the site does not have."""
        if self.board not in boards:
            yield Problem("outputs.board", repr(self.board), Words("points.no-relay-board"), known_are(sorted(boards)))

    def claims(self, owner: str) -> Iterator[Claim]:
        """Claims to coils and limit input of `owner`."""
        for use, coil in (("barrier", self.barrier), ("green", self.green), ("red", self.red)):
            yield Claim(
                ("coil", self.board, coil),
                f"outputs.{use}",
                str(coil),
                Words("claim.use-of", use=use, owner=owner),
                lambda owner: Words("claim.coil-belongs-to", owner=owner),
                Words("claim.own-coil"),
            )
        if self.closed_limit is not None:
            yield Claim(
                ("input", self.board, self.closed_limit),
                "outputs.closed_limit",
                str(self.closed_limit),
                Pair.same(owner),
                lambda owner: Words("claim.input-belongs-to", owner=owner),
                Words("claim.own-limit-input"),
            )
