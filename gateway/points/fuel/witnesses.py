"""Proof of which vehicle stands at which side of an island: witnesses with weights, added up and compared.

A driver lifts a nozzle; who is it? Each witness that saw a vehicle near that side within the window speaks for it with
the weight that the rules give to its kind. The vehicle with the most is the one, if it has enough and is far enough
ahead of the next. Otherwise nobody is: a person or the driver's own choice decides, never a guess.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum


class WitnessKind(StrEnum):
    """Kind of a witness by what it can tell."""

    SIDE_ANTENNA = "side_antenna"
    """Short-range antenna that covers this side alone."""
    ISLAND_ANTENNA = "island_antenna"
    """Antenna that covers several sides."""
    CAMERA = "camera"
    """Camera that reads plates at this side."""


@dataclass(frozen=True, slots=True)
class Rules:
    """Rules of the proof. Weights are whole points, so that sums compare exactly."""

    weights: Mapping[WitnessKind, int]
    need: int
    """Fewest points that prove a vehicle."""
    lead: int
    """Fewest points by which it must be ahead of any other."""
    before_s: float
    """Seconds before the nozzle was lifted for which a sighting still tells who stands there."""


@dataclass(frozen=True, slots=True)
class Sighting:
    """Sighting of a vehicle; `vehicle` is whatever names it the same at every witness."""

    vehicle: str
    kind: WitnessKind
    at: float
    """Monotonic second of the last time that it was seen."""


@dataclass(frozen=True, slots=True)
class Proven:
    """One vehicle is proved; `points` of it and of the next one are kept with the sale."""

    vehicle: str
    points: int
    next_points: int
    kinds: tuple[WitnessKind, ...]

    def __str__(self) -> str:
        return f"{'+'.join(self.kinds)} {self.points}:{self.next_points}"


@dataclass(frozen=True, slots=True)
class Open:
    """Nobody is proved: no vehicle has enough, or several could be it."""

    candidates: tuple[str, ...]
    """Vehicles with points, most first."""


def who(sightings: Iterable[Sighting], rules: Rules, lifted_at: float) -> Proven | Open:
    """Find the vehicle at a side whose nozzle was lifted; the newest sighting of each witness kind counts once."""
    kinds: dict[str, set[WitnessKind]] = {}
    for sighting in sightings:
        if lifted_at - sighting.at <= rules.before_s:
            kinds.setdefault(sighting.vehicle, set()).add(sighting.kind)
    points = {vehicle: sum(rules.weights.get(kind, 0) for kind in seen) for vehicle, seen in kinds.items()}
    order = sorted((vehicle for vehicle in points if points[vehicle]), key=lambda v: (-points[v], v))
    if not order:
        return Open(())
    first, rest = order[0], points[order[1]] if len(order) > 1 else 0
    if points[first] < rules.need or points[first] - rest < rules.lead:
        return Open(tuple(order))
    return Proven(first, points[first], rest, tuple(sorted(kinds[first])))
