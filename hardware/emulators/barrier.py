"""The arm of a barrier, as its relay board moves it."""

from __future__ import annotations


class Barrier:
    """One arm. Its position follows from the times of its last command and fall; no timer runs.

    closed -> opening (rising edge) -> open -> closing (passed, or held too long) -> closed. A rising edge while it
    closes lifts it again; while it rises or stands open it only prolongs the stand.
    """

    def __init__(self, *, opening_s: float, closing_s: float, hold_s: float, leaving_s: float = 0.0) -> None:
        self._opening_s = opening_s
        self._leaving_s = leaving_s
        self._closing_s = closing_s
        self._hold_s = hold_s
        self._rise_at: float | None = None
        self._fall_at = 0.0

    def position(self, now: float) -> str:
        """`closed`, `opening`, `open` or `closing` at `now`, seconds of one monotonic clock."""
        if self._rise_at is None or now >= self._fall_at + self._closing_s:
            return "closed"
        if now >= self._fall_at:
            return "closing"
        return "opening" if now < self._rise_at + self._opening_s else "open"

    def at_closed_limit(self, now: float) -> bool:
        """True when the arm lies on the limit switch, still when it has begun to rise."""
        position = self.position(now)
        return position == "closed" or (position == "opening" and now < (self._rise_at or 0.0) + self._leaving_s)

    def command(self, now: float) -> None:
        """Take a rising edge of the coil."""
        if self._rise_at is None or self.position(now) in {"closed", "closing"}:
            self._rise_at = now
        self._fall_at = max(now, self._rise_at + self._opening_s) + self._hold_s

    def passed(self, now: float) -> bool:
        """Let the arm fall as soon as it has fully risen: the vehicle is through. False when it was not open."""
        if self._rise_at is None or self.position(now) in {"closed", "closing"}:
            return False
        self._fall_at = max(now, self._rise_at + self._opening_s)
        return True
