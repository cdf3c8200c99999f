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
    """Quality of the wall clock: how far it can be trusted."""

    TRUSTED = "trusted"
    SUSPECT = "suspect"
    """Earlier than our own newest record, or than this software existed: judge no dates by it."""


class Clock(Protocol):
    """Monotonic seconds, aware UTC, and waiting; real time on a box, virtual time in a simulation."""

    @property
    def boot(self) -> str:
        """Name of the machine's start that the monotonic seconds count from; those of another are no relation."""
        ...

    def monotonic(self) -> float: ...
    def utcnow(self) -> datetime: ...
    async def sleep(self, seconds: float) -> None: ...


def to_us(moment: datetime) -> int:
    """UTC microseconds since 1970, as stored in every record."""
    return (moment - EPOCH) // ONE_MICROSECOND


def from_us(value: int) -> datetime:
    """Aware UTC moment of stored microseconds."""
    return EPOCH + timedelta(microseconds=value)
