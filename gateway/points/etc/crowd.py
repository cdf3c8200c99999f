"""Crowd control: chooses vehicles when more report than a charge point can serve at once.

Tags that report once and never again can fill the point, and not the places kept for those that are known to be there.
"""

from __future__ import annotations

import logging
from collections import OrderedDict
from typing import TypeVar

from gateway.model.clock import Clock

T = TypeVar("T")

VISITS_MAX = 8
"""Vehicles dealt with at once: a guided lane has one at the barrier and a few in the antenna's reach."""

PATIENT_MAX = 4
"""Additional vehicles that are known to be there: dealt with a moment ago, or turned away and reported again."""

TURNED_AWAY_MAX = 1024
"""Tags remembered as turned away."""

WAS_SILENT_S = 30.0
"""Seconds for which a tag that was taken and said nothing more has no right to those places: others are tried."""

CROWD_QUIET_S = 10.0
"""Seconds without a vehicle turned away after which a crowd is over; each crowd is logged once."""


class Crowd:
    """Crowd at a charge point: tags that were turned away, and tags that were taken for nothing."""

    def __init__(self, clock: Clock, log: logging.Logger) -> None:
        self._clock = clock
        self._log = log
        self._turned_away: OrderedDict[bytes, None] = OrderedDict()
        self._silent: OrderedDict[bytes, float] = OrderedDict()
        """Time at which the point had taken them for nothing (monotonic seconds)."""
        self._said_at = float("-inf")

    def has_room(self, visits: int, obu_id: bytes, *, known: bool) -> bool:
        """True when one more vehicle is taken: few at once, and a few more of those that are known to be there."""
        silent = self._clock.monotonic() - self._silent.get(obu_id, float("-inf")) < WAS_SILENT_S
        there = known or (obu_id in self._turned_away and not silent)
        return visits < VISITS_MAX + (PATIENT_MAX if there else 0)

    def turn_away(self, obu_id: bytes) -> None:
        """Note a tag there was no room for."""
        _newest(self._turned_away, obu_id, None)
        self.say(f"more than {VISITS_MAX} vehicles at once; some wait for the next search")

    def took(self, obu_id: bytes) -> None:
        """Note that this tag is being dealt with."""
        self._turned_away.pop(obu_id, None)

    def was_silent(self, obu_id: bytes) -> None:
        """Note a tag that was taken, and went away before there was anything to decide."""
        _newest(self._silent, obu_id, self._clock.monotonic())

    def spoke(self, obu_id: bytes) -> None:
        """Note that a tag was there after all."""
        self._silent.pop(obu_id, None)

    def say(self, text: str) -> None:
        """Log a crowd, once."""
        now = self._clock.monotonic()
        if now - self._said_at >= CROWD_QUIET_S:
            self._log.warning(text)
        self._said_at = now


def _newest(known: OrderedDict[bytes, T], obu_id: bytes, value: T) -> None:
    known.pop(obu_id, None)
    known[obu_id] = value
    if len(known) > TURNED_AWAY_MAX:
        known.popitem(last=False)
