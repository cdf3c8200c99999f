"""Who is dealt with when more vehicles report than a charge point can serve at once.

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
"""And so many more that are known to be there: dealt with a moment ago, or turned away and reported again."""

TURNED_AWAY_MAX = 1024
"""Tags remembered as turned away."""

WAS_SILENT_S = 30.0
"""A tag that was taken and said nothing more has no right to those places for so long: others are tried."""

CROWD_QUIET_S = 10.0
"""A crowd is said once; it is over when nobody was turned away for so long."""


class Crowd:
    """Tags that were turned away, and tags that were taken for nothing."""

    def __init__(self, clock: Clock, log: logging.Logger) -> None:
        self._clock = clock
        self._log = log
        self._turned_away: OrderedDict[bytes, None] = OrderedDict()
        self._silent: OrderedDict[bytes, float] = OrderedDict()
        """When the point had taken them for nothing (monotonic seconds)."""
        self._said_at = float("-inf")

    def has_room(self, visits: int, obu_id: bytes, *, known: bool) -> bool:
        """Whether one more vehicle is taken: few at once, and a few more of those that are known to be there."""
        silent = self._clock.monotonic() - self._silent.get(obu_id, float("-inf")) < WAS_SILENT_S
        there = known or (obu_id in self._turned_away and not silent)
        return visits < VISITS_MAX + (PATIENT_MAX if there else 0)

    def turn_away(self, obu_id: bytes) -> None:
        """There was none for this one."""
        _newest(self._turned_away, obu_id, None)
        self.say(f"more than {VISITS_MAX} vehicles at once; some wait for the next search")

    def took(self, obu_id: bytes) -> None:
        """This one is being dealt with."""
        self._turned_away.pop(obu_id, None)

    def was_silent(self, obu_id: bytes) -> None:
        """This one was taken, and went away before there was anything to decide."""
        _newest(self._silent, obu_id, self._clock.monotonic())

    def spoke(self, obu_id: bytes) -> None:
        """This one was there after all."""
        self._silent.pop(obu_id, None)

    def say(self, text: str) -> None:
        """Once a crowd."""
        now = self._clock.monotonic()
        if now - self._said_at >= CROWD_QUIET_S:
            self._log.warning(text)
        self._said_at = now


def _newest(known: OrderedDict[bytes, T], obu_id: bytes, value: T) -> None:
    known.pop(obu_id, None)
    known[obu_id] = value
    if len(known) > TURNED_AWAY_MAX:
        known.popitem(last=False)
