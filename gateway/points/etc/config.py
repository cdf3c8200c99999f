"""Section of the site file for a charge point with an antenna."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated

from pydantic import AfterValidator, Field

from drivers.addresses import parse_link_address
from gateway.documents import Problem, Section, known_are
from gateway.points.card.config import CardPoint
from gateway.points.config import Claim, belongs_to
from gateway.points.etc.rsu_errors import PROFILES
from gateway.points.etc.settings import OnePiecePolicy
from gateway.texts.catalogue import Pair, Words
from protocols.rsu.names import DIALECT_NAMES, PCRSU_V3


def _link_address(text: str) -> str:
    parse_link_address(text)
    return text


LinkText = Annotated[str, AfterValidator(_link_address)]


class Antenna(Section):
    """antenna = { ... } of a charge point"""

    address: LinkText
    """host:port of the antenna (it is the server), or "serial:/dev/serial/by-id/...?baud=115200" """
    dialect: str = PCRSU_V3
    """dialect of the antenna; `etcgw rsu dialects` lists the known ones"""
    errors: str | None = None
    """error codes and other ways of a maker and version, for example "pcrsu-v3.5"; left out: those of the dialect"""
    lane_mode: int = Field(0x12, ge=0, le=0xFF)
    """LaneMode of C0: 17 section gantry, 18 and 19 province border or parking entry and exit, 4 lane exit"""
    tx_power: int = Field(0x0A, ge=0, le=0x1F)
    """transmit power, 0 to 31; a bench needs 8 to 10, a lane about 21"""
    channel: int = Field(1, ge=0, le=2)
    """radio channel as C0 numbers it"""
    bst_interval_ms: int = Field(10, ge=1, le=255)
    """milliseconds between two beacons"""
    ignore_psam_auth: bool = False
    """true for antennas that report their PSAM as not authorised and work all the same"""

    def problems(self) -> Iterator[Problem]:
        """Problems of names of tables that this version does not have."""
        for part, named, known in (("dialect", self.dialect, DIALECT_NAMES), ("errors", self.errors, PROFILES)):
            if named is not None and named not in known:
                yield Problem(f"antenna.{part}", repr(named), Words("points.not-known"), known_are(sorted(known)))


class EtcPoint(CardPoint):
    """A charge point with an antenna"""

    antenna: Antenna
    one_piece_tags: OnePiecePolicy = OnePiecePolicy.REFUSE
    """"refuse", or "contract" to charge the bank mandate of the tag's contract"""
    repeat_window_s: float = Field(300.0, ge=1, le=86_400)
    """seconds for which a vehicle that paid keeps its right to pass here"""
    quiet_s: float = Field(10.0, ge=0, le=600)
    """seconds for which a refused vehicle is not dealt with again"""

    def problems(self, boards: frozenset[str], banks: frozenset[str]) -> Iterator[Problem]:
        """Problems of every charge point, and of the antenna."""
        yield from super().problems(boards, banks)
        yield from self.antenna.problems()

    def claims(self) -> Iterator[Claim]:
        """Claims, also to the antenna."""
        yield from super().claims()
        address = self.antenna.address
        yield Claim(
            ("antenna", address),
            "antenna.address",
            repr(address),
            Pair.same(self.name),
            belongs_to,
            Words("claim.own-antenna"),
        )
