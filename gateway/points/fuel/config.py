"""Sections of the site file for fuel islands."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar, Literal

from pydantic import Field

from gateway.documents import Name, Problem, Section, TimeOfDay, known_are
from gateway.points.config import Claim, Need, belongs_to
from gateway.points.etc.config import EtcPoint, LinkText
from gateway.points.fuel.witnesses import WitnessKind
from gateway.texts.catalogue import Pair, Words
from protocols.pump.names import DIALECT_NAMES


class PumpLink(Section):
    """pumps = [{ ... }] of a fuel island: one line with the pumps on it"""

    name: Name
    """name by which sides refer to the line"""
    address: LinkText
    """host:port of a serial server or pump, or "serial:/dev/serial/by-id/...?baud=9600&parity=O" """
    dialect: str = "dart"
    """what the pumps speak: "dart", "two-wire" or "lanfeng" """
    volume_decimals: int = Field(2, ge=0, le=3)
    """digits after the point of volumes on the display: they are not on the line"""
    amount_decimals: int = Field(2, ge=0, le=2)
    """digits after the point of amounts on the display"""
    price_decimals: int = Field(2, ge=0, le=3)
    """digits after the point of unit prices on the display"""
    totaliser_litres: int = Field(100_000_000, ge=1000)
    """litres at which a totaliser begins again at zero"""


class Nozzle(Section):
    """nozzles = [{ ... }] of a side"""

    number: int = Field(ge=1, le=15)
    """number of the nozzle at its pump"""
    grade: str = Field(min_length=1, max_length=20)
    """grade of its fuel, as receipts name it"""


class Side(Section):
    """sides = [{ ... }] of a fuel island: one place at which one vehicle is filled"""

    number: int = Field(ge=1, le=999)
    """number that people know the side by; sales carry it"""
    pump: Name
    """name of the line that its pump is on"""
    address: int = Field(ge=0, le=255)
    """number of the side on that line; DART counts from 80 (50 hex) to 111"""
    nozzles: list[Nozzle] = Field(min_length=1)


class Proof(Section):
    """proof = { ... } of a fuel island: what proves which vehicle stands at a lifted nozzle"""

    weights: dict[WitnessKind, int] = Field(
        default_factory=lambda: {WitnessKind.SIDE_ANTENNA: 10, WitnessKind.ISLAND_ANTENNA: 6, WitnessKind.CAMERA: 6}
    )
    """points of each kind of witness that saw the vehicle"""
    need: int = Field(default=6, ge=1)
    """fewest points that prove a vehicle"""
    lead: int = Field(default=4, ge=1)
    """fewest points by which it must be ahead of any other; else the attendant says who it is"""
    before_s: float = Field(default=20.0, ge=1, le=3600)
    """seconds before the nozzle is lifted for which a sighting counts: an antenna sees all the time who stands there"""


class FuelIsland(EtcPoint):
    """[[charge_points]] kind = "fuel" """

    needs: ClassVar[frozenset[Need]] = EtcPoint.needs

    kind: Literal["fuel"]
    """"fuel": an island with pumps; a vehicle is known by its tag, and pays what was delivered"""
    pumps: list[PumpLink] = Field(min_length=1)
    sides: list[Side] = Field(min_length=1)
    limit_fen: int = Field(100_000, ge=100, le=10_000_000)
    """most that one sale may come to, in fen: so much is held, and preset at the pump"""
    limits: dict[str, int] = Field(default_factory=dict)
    """the same by grade, where it is less"""
    unit_prices: dict[str, int] = Field(default_factory=dict)
    """what the station sells at, by grade, in thousandths of a yuan a litre; left out: what the pumps are set to"""
    order_waits_s: float = Field(120.0, ge=10, le=3600)
    """seconds for which `etcgw pump authorise` waits for the lifted nozzle"""
    card_pays_within_s: float = Field(15.0, ge=2, le=600)
    """seconds after the nozzle is back in which a stored-value card pays; if it has left by then, it is in debt"""
    stock_at: list[TimeOfDay] = Field(default_factory=list, max_length=24)
    """local times at which resting nozzles' totalisers are compared with the sales: the ends of shifts, "08:00" """
    quiet_s: float = Field(60.0, ge=0, le=600)
    """seconds for which a refused vehicle is not dealt with again: it may stand here for long"""
    lift_to_flow_s: float = Field(120.0, ge=10, le=3600)
    """seconds after an authorisation in which fuel must flow, or it is taken back"""
    proof: Proof = Proof()

    def problems(self, boards: frozenset[str], banks: frozenset[str]) -> Iterator[Problem]:
        """Problems, also those of its pumps and sides."""
        yield from super().problems(boards, banks)
        for i, pump in enumerate(self.pumps):
            if pump.dialect not in DIALECT_NAMES:
                known = known_are(sorted(DIALECT_NAMES))
                yield Problem(f"pumps[{i}].dialect", repr(pump.dialect), Words("points.not-known"), known)
        links = [pump.name for pump in self.pumps]
        numbers = [side.number for side in self.sides]
        for i, side in enumerate(self.sides):
            if side.pump not in links:
                yield Problem(f"sides[{i}].pump", repr(side.pump), Words("fuel.no-pump"), known_are(sorted(links)))
            if numbers.count(side.number) > 1:
                yield Problem(
                    f"sides[{i}].number", str(side.number), Words("points.named-twice"), Words("fuel.own-number")
                )

    def claims(self) -> Iterator[Claim]:
        """Claims, also to its lines and the places on them."""
        yield from super().claims()
        for i, pump in enumerate(self.pumps):
            key, what = f"pumps[{i}].address", ("pump line", pump.address)
            yield Claim(what, key, repr(pump.address), Pair.same(self.name), belongs_to, Words("fuel.own-line"))
        for i, side in enumerate(self.sides):
            owner = Words("fuel.side-of", side=side.number, owner=self.name)
            place = ("pump side", self.name, side.pump, side.address)
            yield Claim(place, f"sides[{i}].address", str(side.address), owner, belongs_to, Words("fuel.own-address"))
