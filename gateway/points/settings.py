"""Settings that every kind of charge point has. Apart from what a visit does, so that reading a site file is quick."""

from __future__ import annotations

from dataclasses import dataclass

from gateway.model.passage import Abandoned, DeclinePolicy, Service


@dataclass(frozen=True, slots=True, kw_only=True)
class PointSettings:
    """Settings of one charge point, from the site file."""

    name: str
    service: Service
    merchant: str
    decline_policy: DeclinePolicy
    utc_offset_s: int
    deadline_s: float = 2.0
    abandoned: Abandoned = Abandoned.KEEP
    """Fate of a hold that nobody comes back to."""
    repeat_window_s: float = 300.0
    """Seconds for which a customer who has paid keeps the right to pass."""
    same_station: frozenset[str] = frozenset()
    """Other charge points of this place: a customer who paid there and changed over has the right here, too."""
