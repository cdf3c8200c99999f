"""Clock readings, kept beside the decisions: they give a decision's age whatever was done to a clock.

Theory of operation. Decisions carry the time of day, and somebody may set that by hours. The monotonic clock cannot be
set, but means nothing outside the start of the machine it counts from. A reading is both clocks at one moment, with the
name of that start. One is stored in the transaction of a decision whenever the clocks stand otherwise to each other
than in the newest reading, and in the first transaction of a process; so the reading before a decision turns its time
of day into monotonic time exactly, across restarts of the process too.

Across a restart of the machine only the time of day is left. Then a decision is as old as the first reading of this
start, and by as much older as the times of day say. One of the future means that the clock was set back in between,
and says nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Connection, bindparam, func, select

from gateway.ledger import tables
from gateway.ledger.statements import Row, Runner
from gateway.ledger.transaction import Transaction
from gateway.model.clock import Clock, to_us

APART_US_MAX = 1_000_000
"""Drift from the newest reading at which a new one is stored: an age is right to a second."""

_READING = tables.clock_reading
_BEFORE = (
    select(_READING)
    .where(_READING.c.after_record < bindparam("record_no"))
    .order_by(_READING.c.after_record.desc(), _READING.c.id.desc())
    .limit(1)
)
_AFTER = (
    select(_READING)
    .where(_READING.c.after_record >= bindparam("record_no"), _READING.c.boot == bindparam("this_boot"))
    .order_by(_READING.c.after_record, _READING.c.id)
    .limit(1)
)
_LATEST = select(func.max(tables.decision.c.decided_at)).where(
    tables.decision.c.record_no.in_(
        select(_READING.c.after_record).union(select(func.max(tables.decision.c.record_no)))
    )
)
"""Latest moment at which anything was decided. Between two readings the clock was not set back, so the last decision
before each, and the newest of all, are enough: there are months of decisions, and one reading for each start."""


@dataclass(frozen=True, slots=True)
class Reading:
    """Reading of both clocks at one moment."""

    boot: str
    """Name of the start of the machine that the monotonic clock counts from."""
    wall_us: int
    monotonic_us: int

    def agrees_with(self, other: Reading) -> bool:
        """True when nobody has set the wall clock between the two, and the machine has not started anew."""
        apart_us = (self.wall_us - self.monotonic_us) - (other.wall_us - other.monotonic_us)
        return self.boot == other.boot and abs(apart_us) < APART_US_MAX


@dataclass(frozen=True, slots=True)
class Covered:
    """Coverage known to a process: the newest reading stored, and the newest decision when it looked."""

    newest: Reading
    record_no: int


def read(clock: Clock) -> Reading:
    """Read both clocks now."""
    return Reading(clock.boot, to_us(clock.utcnow()), int(clock.monotonic() * 1e6))


def cover(tx: Transaction, now: Reading, known: Covered | None) -> Covered:
    """Store a reading where the decisions of this transaction need one; called last before it is finished.

    `known`: what this returned for the last transaction that was committed. Where another process has made a decision
    since, it is looked up anew.
    """
    first, last = tx.chain_span(tables.decision)
    if known is not None and first == last:
        return known
    newest = known.newest if known is not None and known.record_no == first else _newest(tx, first)
    if newest is None or not now.agrees_with(newest):
        tx.insert(
            _READING,
            id=tx.row_id(_READING),
            boot=now.boot,
            wall_at=now.wall_us,
            monotonic_us=now.monotonic_us,
            after_record=first,
        )
        newest = now
    return Covered(newest, last)


def latest_us(connection: Connection) -> int:
    """Latest moment at which anything was decided, to a second: UTC microseconds, 0 before the first decision."""
    return int(connection.execute(_LATEST).scalar() or 0)


def age_s(connection: Connection, clock: Clock, record_no: int, decided_at: int) -> float:
    """Age of a decision in seconds. `decided_at`: its time of day, UTC microseconds."""
    now, runner = read(clock), Runner(connection)
    before = runner.rows(runner.shape(_BEFORE), {"record_no": record_no})
    if before and before[0].boot == now.boot:
        known = _reading(before[0])
        since_us = decided_at - known.wall_us
    else:
        after = runner.rows(runner.shape(_AFTER), {"record_no": record_no, "this_boot": now.boot})
        known = _reading(after[0]) if after else now
        since_us = min(0, decided_at - known.wall_us)
    return (now.monotonic_us - known.monotonic_us - since_us) / 1e6


def _newest(tx: Transaction, record_no: int) -> Reading | None:
    row = tx.first(_BEFORE, record_no=record_no + 1)
    return None if row is None else _reading(row)


def _reading(row: Row) -> Reading:
    return Reading(row.boot, row.wall_at, row.monotonic_us)
