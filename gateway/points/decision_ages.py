"""How long ago decisions were made, whatever somebody has done to the wall clock since.

Theory of operation. Records are numbered in the order in which they were decided, and no clock changes that. The
monotonic second of each decision that this process has seen made is remembered under its number. Any other decision,
of an earlier run or of a person, came before the next one remembered: it is as old as that one, and by as much older
as their times of day say. A time of day in that one's future means that the clock was set back in between, and says
nothing. Only a clock that was set forward between a decision and the next start cannot be told from time that passed.
"""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass

from gateway.model.clock import Clock, to_us

REMEMBERED_MAX = 4096
"""Decisions remembered: of ten lanes with a vehicle each every second for more than the usual window of 300 s. What is
forgotten is known by the next one still remembered."""


@dataclass(frozen=True, slots=True)
class _Moment:
    """A decision on both clocks."""

    record_no: int
    wall_us: int
    monotonic: float


class DecisionAges:
    """The memory of one process, shared by its lanes. `newest_record` is the newest in the ledger when it is made."""

    def __init__(self, clock: Clock, newest_record: int) -> None:
        self._clock = clock
        self._moments = [self._now(newest_record)]

    def note(self, record_no: int, decided_at: int) -> None:
        """A decision was made just now. The first word about a record stands."""
        at = bisect_left(self._moments, record_no, key=_record_no)
        if at < len(self._moments) and self._moments[at].record_no == record_no:
            return
        self._moments.insert(at, _Moment(record_no, decided_at, self._clock.monotonic()))
        if len(self._moments) > REMEMBERED_MAX:
            del self._moments[0]

    def age_s(self, record_no: int, decided_at: int) -> float:
        """Seconds since a decision was made."""
        at = bisect_left(self._moments, record_no, key=_record_no)
        known = self._moments[at] if at < len(self._moments) else self._now(record_no)
        before_us = max(0, known.wall_us - decided_at)
        return self._clock.monotonic() - known.monotonic + before_us / 1e6

    def _now(self, record_no: int) -> _Moment:
        return _Moment(record_no, to_us(self._clock.utcnow()), self._clock.monotonic())


def _record_no(moment: _Moment) -> int:
    return moment.record_no
