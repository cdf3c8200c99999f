"""The time a gateway part may see: injected, never read from the machine.

Monotonic seconds measure deadlines. Aware UTC dates records, and says how far it can be trusted: a box whose battery
died wakes up in 1970, and a card must not expire because of that.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Protocol

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
ONE_MICROSECOND = timedelta(microseconds=1)


class ClockQuality(StrEnum):
    """How far the wall clock can be trusted."""

    TRUSTED = "trusted"
    SUSPECT = "suspect"
    """Behind our own newest record, or before this software existed: judge no dates by it."""


class Clock(Protocol):
    """Monotonic seconds, aware UTC, and waiting; real time on a box, virtual time in a simulation."""

    @property
    def boot(self) -> str:
        """Names the start of the machine that the monotonic seconds count from; those of another are no relation."""
        ...

    def monotonic(self) -> float: ...
    def utcnow(self) -> datetime: ...
    async def sleep(self, seconds: float) -> None: ...


def to_us(moment: datetime) -> int:
    """UTC microseconds since 1970, as stored in every record."""
    return (moment - EPOCH) // ONE_MICROSECOND


def from_us(value: int) -> datetime:
    """The aware UTC moment behind stored microseconds."""
    return EPOCH + timedelta(microseconds=value)
