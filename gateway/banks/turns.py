"""Turns of a bank's answers: those about one message are booked in the order in which they came in.

Whoever asks a bank books the answer a moment later, in a change of its own. A second answer to the same message that
comes in between must not be booked before the first: which of two final words counts would else hang on the speed of a
disk. So it waits until the asker has handed in what it heard; changes are made in the order in which they are handed
in. Where the asker heard nothing, there is nothing to wait behind.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager


class Turns:
    """Turns of one channel."""

    def __init__(self) -> None:
        self._behind: dict[str, list[Callable[[], None]]] = {}

    @contextmanager
    def asking(self, reference: str) -> Iterator[Callable[[], None]]:
        """Hold back other answers from before the message is sent until its own result is handed in for booking.

        Gives what to call where nothing was heard: whatever came in by another way is then the first word.
        """
        self._behind.setdefault(reference, [])
        try:
            yield lambda: self._end(reference)
        finally:
            self._end(reference)

    def in_turn(self, may_mean: Callable[[str], bool], book: Callable[[], None]) -> None:
        """Book a late answer: now, or behind the exchange of an attempt that it may mean."""
        asked = (behind for reference, behind in self._behind.items() if may_mean(reference))
        behind = next(asked, None)
        if behind is None:
            book()
        else:
            behind.append(book)

    def _end(self, reference: str) -> None:
        for book in self._behind.pop(reference, ()):
            book()
