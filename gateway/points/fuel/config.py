"""Sections of the site file for fuel islands."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import ClassVar, Literal, Self

from pydantic import Field

from gateway.documents import Name, Problem, Section, TimeOfDay, known_are
from gateway.points.config import Claim, Need, SecretFile, belongs_to
from gateway.points.etc.config import EtcPoint
from gateway.points.fuel.pump_links import AnyPumpLink
from gateway.points.fuel.witnesses import WitnessKind
from gateway.texts.catalogue import Words


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
    """name of the line or controller that its pump is on"""
    address: int = Field(ge=0, le=255)
    """number of the side there: on a line (DART counts from 80, 50 hex, to 111), or of the pump at its controller"""
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
    pumps: list[AnyPumpLink] = Field(min_length=1)
    sides: list[Side] = Field(min_length=1)
    limit_fen: int = Field(100_000, ge=100, le=10_000_000)
    """most that one sale may come to, in fen: so much is held, and preset at the pump"""
    minimum_fen: int = Field(100, ge=1, le=10_000_000)
    """least that a sale may be let come to, in fen: whose limits leave less is refused"""
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
            for problem in pump.problems():
                yield replace(problem, key=f"pumps[{i}].{problem.key}")
        links = {pump.name: pump for pump in self.pumps}
        if len(links) < len(self.pumps):
            names = ", ".join(pump.name for pump in self.pumps)
            yield Problem("pumps.name", names, Words("points.named-twice"), Words("config.own-name-each"))
        numbers = [side.number for side in self.sides]
        for i, side in enumerate(self.sides):
            if side.pump not in links:
                yield Problem(f"sides[{i}].pump", repr(side.pump), Words("fuel.no-pump"), known_are(sorted(links)))
            elif side.address not in links[side.pump].places:
                places = links[side.pump].places
                cure = Words("fuel.places", first=places[0], last=places[-1])
                yield Problem(f"sides[{i}].address", str(side.address), Words("fuel.no-place"), cure)
            if numbers.count(side.number) > 1:
                yield Problem(
                    f"sides[{i}].number", str(side.number), Words("points.named-twice"), Words("fuel.own-number")
                )

    def claims(self) -> Iterator[Claim]:
        """Claims, also to its lines and the places on them."""
        yield from super().claims()
        for i, pump in enumerate(self.pumps):
            key, what, value = pump.claimed()
            owner = Words("fuel.pump-of", pump=pump.name, owner=self.name)
            yield Claim((pump.own, what), f"pumps[{i}].{key}", value, owner, belongs_to, Words("fuel.own-line"))
        for i, side in enumerate(self.sides):
            owner = Words("fuel.side-of", side=side.number, owner=self.name)
            place = ("pump side", self.name, side.pump, side.address)
            yield Claim(place, f"sides[{i}].address", str(side.address), owner, belongs_to, Words("fuel.own-address"))

    def secrets(self) -> Iterator[SecretFile]:
        """Secret files of its pumps."""
        for i, pump in enumerate(self.pumps):
            for secret in pump.secrets():
                yield replace(secret, key=f"pumps[{i}].{secret.key}")

    def callers(self) -> Iterator[tuple[str, str]]:
        """Controllers that call, by the addresses that they may come from."""
        for i, pump in enumerate(self.pumps):
            for k, source in enumerate(pump.sources):
                yield f"pumps[{i}].calls.sources[{k}]", source

    def placed(self, folder: Path) -> Self:
        """Give the same with paths counted from a folder."""
        return self.model_copy(update={"pumps": [pump.placed(folder) for pump in self.pumps]})
