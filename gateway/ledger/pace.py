"""Pace of a long command: rows it changes in one transaction, so that a gateway on the same ledger never waits long.

A transaction holds the one write lock from its first statement to its commit. How many rows fit into a given time
depends on the disk, the machine and what else runs, so each slice is as large as the last one's time allows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Final, TypeVar

HELD_MS_MAX: Final = 50.0
"""Longest hold of the write lock: a fifth of the 250 ms that a lane keeps back for its commit."""

FIRST_ROWS: Final = 50
"""Rows of the first slice, when nothing is known yet: some three milliseconds on a slow box."""

ROWS_MAX: Final = 1000
"""Most rows of a slice, however fast the last one was: a disk that is busy answers the next one late."""

AIM: Final = 0.5
"""Share of the longest hold time that a slice aims at: the next one may well be twice as slow."""

GROWTH_MAX: Final = 2
"""Greatest growth of a slice over the last size; one fast slice proves little."""

T = TypeVar("T")


class Pace:
    """Size of the next slice, by the time of the last. Times are seconds."""

    def __init__(self, held_ms_max: float = HELD_MS_MAX) -> None:
        self._aim_s = held_ms_max / 1000 * AIM
        self.rows = FIRST_ROWS
        """Rows of the next slice."""
        self._given = 0
        """Rows of the slice under way."""

    def slices(self, items: Iterable[T], rows_of: Callable[[T], int] = lambda _: 1) -> Iterator[list[T]]:
        """Slices of the items, one for each transaction; an item that has many rows stays in one piece."""
        piece: list[T] = []
        size = 0
        for item in items:
            piece.append(item)
            size += rows_of(item)
            if size >= self.rows:
                self._given = size
                yield piece
                piece, size = [], 0
        if piece:
            self._given = size
            yield piece

    def page(self) -> int:
        """Rows that the next transaction may look for by itself."""
        self._given = self.rows
        return self.rows

    def took(self, held_s: float) -> None:
        """Note how long a transaction held the lock. One that took no slice tells nothing about rows."""
        given, self._given = self._given, 0
        if given:
            fits = int(given * self._aim_s / max(held_s, 1e-6))
            self.rows = max(1, min(fits, GROWTH_MAX * self.rows, ROWS_MAX))
