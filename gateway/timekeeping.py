"""Trust in the box's clock: how far it can be believed, and the earliest time it can be.

A lane goes on while its clock is wrong. What was made before now (our own newest record, a status list in hand) proves
that its moment has passed; from there the monotonic clock counts on, which nobody can set. A clock that says less has
jumped back, or its battery is dead: by it no card expires and no list is stale, and tariffs and lists are chosen by
the time it is at least.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Final

from gateway.health import Tell
from gateway.model.clock import Clock, ClockQuality

BEHIND_MAX: Final = timedelta(minutes=2)
"""Longest lag behind the proved time; a clock further behind has jumped back."""

EARLIEST: Final = datetime(2025, 1, 1, tzinfo=UTC)
"""Time before this software was written: a clock that says less has an empty battery."""

LOOK_EVERY_S: Final = 1.0
"""Seconds between two checks of the clock."""


class Timekeeper:
    """Judges one clock."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._passed = EARLIEST
        self._passed_at = clock.monotonic()

    def passed(self, moment: datetime) -> None:
        """Note that an aware moment is over, whatever the clock says."""
        now = self._clock.monotonic()
        if moment > self.at_least:
            self._passed, self._passed_at = moment, now

    @property
    def at_least(self) -> datetime:
        """Time that is proved to be reached."""
        return self._passed + timedelta(seconds=self._clock.monotonic() - self._passed_at)

    @property
    def now(self) -> datetime:
        """Time to choose lists and tariffs by: the clock's, and never one that is proved to be over."""
        return max(self._clock.utcnow(), self.at_least)

    @property
    def quality(self) -> ClockQuality:
        """Quality of the clock: trusted when dates may be judged by it."""
        trusted = self._clock.utcnow() >= self.at_least - BEHIND_MAX
        return ClockQuality.TRUSTED if trusted else ClockQuality.SUSPECT

    @property
    def trusted(self) -> bool:
        """True when dates may be judged by the clock."""
        return self.quality is ClockQuality.TRUSTED

    async def keep_telling(self, tell: Tell) -> None:
        """Report the clock's health as it changes, for ever."""
        while True:
            trusted, says, least = self.trusted, self._clock.utcnow(), self.at_least
            cause = "plausible" if trusted else f"it says {_seconds(says)}, and it is {_seconds(least)} at the least"
            tell("clock", trusted, cause, None if trusted else "clock_bad")
            await self._clock.sleep(LOOK_EVERY_S)


def _seconds(moment: datetime) -> str:
    return moment.isoformat(timespec="seconds")
