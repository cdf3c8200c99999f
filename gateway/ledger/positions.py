"""Positions of bank terminals: batch and trace number (STAN) as one growing number, so that a pair never comes twice.

Theory of operation. *Position* p of a terminal is the pair (batch p // STAN_MAX, STAN p % STAN_MAX + 1). A terminal
counts in its ledger, and the ledger may be an old copy tomorrow, or gone. So positions are given out in blocks, and a
block's end stands in the mark, outside the database, before the first message of the block can leave. The first
message after a start takes the first position behind everything the mark has given out: what is left of a block is
never used, whatever the ledger says.

Where nobody knows a terminal any more, ledger and mark included, it begins by the clock: one position for each
millisecond since 2020. A terminal sells far fewer, so the clock is ahead of whatever was used. Batches have six digits:
the numbers begin again after 31 years.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from gateway.texts.catalogue import Words

if TYPE_CHECKING:
    from gateway.ledger.marks import Mark


class MarkTrouble(Exception):
    """Trouble with the mark, which cannot be read or written."""


class MarkUnwritable(MarkTrouble):
    """Mark that could not be made durable. `full`: for want of room on its disk."""

    def __init__(self, problem: str | Words, *, full: bool = False) -> None:
        self.full = full
        super().__init__(problem)


STAN_MAX: Final = 989_999
"""Trace numbers of one batch; those above belong to sign-ins and echoes of the link."""

BATCHES: Final = 1_000_000
"""Number of batches: their numbers have six digits."""

BLOCK: Final = 1000
"""Positions given out at once: a busy lane flushes the mark for it once in an hour or two."""

COUNTED_FROM_US: Final = 1_577_836_800_000_000
"""Time from which the clock counts positions: 2020-01-01T00:00Z in UTC microseconds."""


def by_clock(now_us: int) -> int:
    """Position of a moment, in milliseconds since 2020."""
    return max(0, (now_us - COUNTED_FROM_US) // 1000)


def pair(position: int) -> tuple[str, str]:
    """Batch and STAN of a position, six digits each."""
    return f"{position // STAN_MAX % BATCHES:06d}", f"{position % STAN_MAX + 1:06d}"


def next_batch_after(position: int) -> int:
    """Position with the same STAN in the next batch. A STAN that came back at once could be taken for its namesake of
    the batch before, by a host that leaves the batch out of its answers."""
    return position + STAN_MAX


@dataclass(frozen=True, slots=True)
class _Block:
    """Block of positions of one terminal that this process may use."""

    next: int
    """First position not given out yet, whatever the counter in the ledger says since: a change that took one may have
    been rolled back, and somebody may have set the counter back."""
    end: int


class Positions:
    """Blocks of positions that one process has for its terminals."""

    def __init__(self, mark: Mark) -> None:
        self._mark = mark
        self._blocks: dict[str, _Block] = {}

    def take(self, terminal: str, counted: int | None, now_us: int) -> int:
        """Take the next position of a terminal of which the ledger says `counted`: no start will ever use it again.

        Raises `MarkUnwritable`; then nothing is given out.
        """
        position = self._next(terminal, counted, now_us)
        end = self._blocks[terminal].end
        if position >= end:
            end = position + BLOCK
            self._mark.reserve(terminal, end)
        self._blocks[terminal] = _Block(position + 1, end)
        return position

    def next_batch(self, terminal: str, counted: int | None, now_us: int) -> int:
        """Position for a terminal whose numbers may be in use elsewhere: in a new batch, not behind the clock.

        Raises `MarkUnwritable` for a terminal that has taken no position yet.
        """
        behind = next_batch_after(self._next(terminal, counted, now_us))
        with suppress(MarkUnwritable):
            behind = max(behind, self._mark.begin(now_us))
        return behind

    def _next(self, terminal: str, counted: int | None, now_us: int) -> int:
        block = self._blocks.get(terminal)
        if block is None:
            # A counter that stands at nothing was made by a change whose position could not be reserved.
            begin = counted or self._mark.begin(now_us)
            begin = max(begin, self._mark.reserved(terminal) or 0)
            block = self._blocks[terminal] = _Block(begin, begin)
        return max(counted or 0, block.next)
