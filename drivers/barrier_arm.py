"""Proof, from a barrier's *closed* limit input, about an opening that its board has not confirmed.

Theory of operation. The order left at `ordered_at`; if the board executes it at all, then before it answers a later
question on the same connection, so before the first reading's answer. From the order's execution an arm needs at most
its travel time T to have left the limit, and at least 2 T until it lies on it again (up and down; what a vehicle needs
to drive through comes on top and is left out). So the arm has *not* been lifted if all of this holds:

- every reading says *closed*, the last one asked at least T after the first one was answered: a moving arm has
  left by then;
- the first answer came less than 2 T after the order, and each later one less than T after the reading before was
  asked: the limit was never out of sight for so long that the arm could have gone up and come down again.

A single reading proves nothing: a frozen board that thaws executes the order and answers the question at once, while
the arm has not begun to move. Nor does a coil (the pulse is over) or a loop (a standing car).
"""

from __future__ import annotations

TRAVEL_MS = 1000
"""Time an arm takes to rise, where the site file does not say it."""


class ArmWatch:
    """Readings of one closed limit after one order. Times are monotonic seconds."""

    def __init__(self, ordered_at: float, travel_s: float) -> None:
        self._travel_s = travel_s
        self._seen_at = ordered_at
        self._unseen_s_max = 2 * travel_s
        self._dealt_with_at: float | None = None
        self.unbroken = True
        """True while the limit was never out of sight for too long."""

    def closed(self, asked_at: float, answered_at: float) -> bool:
        """Note a reading that says *closed*. True when an arm that was lifted must have left the limit by then: with
        `unbroken` that is the proof that it was not."""
        if self._dealt_with_at is None:
            self._dealt_with_at = answered_at
        if answered_at - self._seen_at >= self._unseen_s_max:
            self.unbroken = False
        self._seen_at, self._unseen_s_max = asked_at, self._travel_s
        return asked_at >= self._dealt_with_at + self._travel_s
