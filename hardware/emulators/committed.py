"""The proof that no barrier moves on a decision that is not on disk yet.

The relay board of the bench asks this module about every coil it is told to switch on. The module opens the gateway's
SQLite file with a connection of its own, read-only, for this one question: another connection sees committed rows and
nothing else, so a row found here is a decision that would survive a power cut at this very moment.

The rule, per lane: a rising edge of the barrier coil, or of the green coil, needs a committed row of table `decision`
with `charge_point` = lane and `release` = 'go' whose `record_no` is greater than the one the previous edge of the
same coil used. Barrier and green are counted apart, so both use the row of one passage, in either order, once each.
An edge uses up the newest row and with it every older one: an opening that was decided and never carried out
licenses nothing later. What counts is the newest row at the moment the write *arrived*: a frozen board executes it
later, and what has been decided meanwhile is not what it was sent for. No row is ever used twice. Everything that
closes (coil off, red on) is always allowed: closing needs no permission.
"""

from __future__ import annotations

import sqlite3
from contextlib import closing
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from urllib.parse import quote

BUSY_TIMEOUT_S = 0.25
"""Longest wait for a locked database. In write-ahead mode readers are not blocked; this covers a checkpoint that
restarts the log, and stays below the time a gateway gives one coil write."""

NEWEST_OPENING = """
SELECT record_no, passage_id, decided_at FROM decision
WHERE charge_point = ? AND release = 'go' ORDER BY record_no DESC LIMIT 1
"""


class Signal(Enum):
    """The outputs of a lane that let a vehicle go."""

    BARRIER = "barrier"
    GREEN = "green"


@dataclass(frozen=True, slots=True)
class Opening:
    """One committed decision to open. `decided_at` is the gateway's own number, not interpreted here."""

    record_no: int
    passage_id: str
    decided_at: int


@dataclass(frozen=True, slots=True)
class Ruling:
    """The answer for one rising edge. `opening` is the row it used; `reason` says why there is none."""

    lane: str
    signal: Signal
    opening: Opening | None
    reason: str | None

    @property
    def allowed(self) -> bool:
        """True when a committed decision allows the edge."""
        return self.opening is not None


def newest_opening(database: Path, charge_point: str) -> Opening | None:
    """Newest committed decision to open `charge_point`, or None. Raises sqlite3.Error when it cannot be read."""
    uri = f"file:{quote(str(database.absolute()))}?mode=ro"
    with closing(sqlite3.connect(uri, uri=True, timeout=BUSY_TIMEOUT_S, isolation_level=None)) as connection:
        row = connection.execute(NEWEST_OPENING, (charge_point,)).fetchone()
    if row is None:
        return None
    number, passage, decided_at = row
    passage_id = passage.hex() if isinstance(passage, bytes) else str(passage)
    return Opening(record_no=int(number), passage_id=passage_id, decided_at=int(decided_at))


class CommittedRule:
    """Judges rising edges and remembers, per lane and output, which rows they used.

    An edge that cannot be checked (no file, no table, locked too long) is not allowed: a check that was not made
    has not passed.
    """

    def __init__(self, database: Path) -> None:
        self._database = database
        self._used: dict[tuple[str, Signal], set[int]] = {}
        self._newest_used: dict[tuple[str, Signal], int] = {}

    def judge(self, lane: str, signal: Signal) -> Ruling:
        """Decide on one rising edge of `signal` in `lane` now, and use up the row that allows it."""
        return self.use(self.behind(lane, signal))

    def behind(self, lane: str, signal: Signal) -> Ruling:
        """Ruling on a write that arrives now, should it make an edge."""
        try:
            opening = newest_opening(self._database, lane)
        except (sqlite3.Error, TypeError, ValueError) as error:  # the latter two: a row that is not as agreed
            return Ruling(lane, signal, None, f"decisions cannot be read: {type(error).__name__}: {error}")
        if opening is None:
            return Ruling(lane, signal, None, "no committed decision to open this lane")
        used = self._newest_used.get((lane, signal))
        if used is not None and opening.record_no <= used:
            return Ruling(lane, signal, None, f"the newest committed opening, record {used}, was used before")
        return Ruling(lane, signal, opening, None)

    def use(self, ruling: Ruling) -> Ruling:
        """Use up the row of `ruling`, whose edge is made, unless another edge has done so since."""
        lane, signal, opening = ruling.lane, ruling.signal, ruling.opening
        if opening is None:
            return ruling
        if opening.record_no in self._used.get((lane, signal), ()):
            return Ruling(lane, signal, None, f"record {opening.record_no} was used by another edge before")
        self.resume(lane, signal, opening.record_no)
        return ruling

    def resume(self, lane: str, signal: Signal, record_no: int) -> None:
        """Take `record_no` as used: what an earlier process of the same board had already matched."""
        self._used.setdefault((lane, signal), set()).add(record_no)
        self._newest_used[lane, signal] = max(record_no, self._newest_used.get((lane, signal), record_no))
