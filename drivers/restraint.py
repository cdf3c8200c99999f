"""Limits on the work and the log lines that a talkative peer can cause."""

from __future__ import annotations

import logging

SAID_FIRST = 3
"""Lines of a stretch that are written out: enough to see its subject."""

QUIET_S = 10.0
"""Time without another of its kind after which a stretch is over."""

LONG_S = 60.0
"""Time after which a stretch that lasts is counted: four lines a minute, however fast it comes."""


class Budget:
    """Things a peer may do unasked: `burst` at once, and `per_s` of them in the long run (a token bucket)."""

    def __init__(self, burst: int, per_s: float) -> None:
        self._burst = burst
        self._per_s = per_s
        self._left = float(burst)
        self._at: float | None = None

    def spend(self, now: float) -> bool:
        """Take one; False when there is none left. `now`: monotonic seconds."""
        if self._at is not None:
            self._left = min(float(self._burst), self._left + (now - self._at) * self._per_s)
        self._at = now
        if self._left < 1.0:
            return False
        self._left -= 1.0
        return True


class LogStretch:
    """Warnings of one kind: the first few of a stretch are written, the others counted, the count when it ends."""

    def __init__(self, log: logging.Logger, device: str, kind: str) -> None:
        """`kind`: what is counted, in the plural, for the log."""
        self._log = log
        self._device = device
        self._kind = kind
        self._count = 0
        self._began = 0.0
        self._last = 0.0

    def say(self, now: float, text: str, *values: object) -> None:
        """Log or count one more of the kind. `now`: monotonic seconds; `text` and `values` as for a logger."""
        self.look(now)
        if self._count == 0:
            self._began = now
        self._count += 1
        self._last = now
        if self._count <= SAID_FIRST:
            self._log.warning(f"%s: {text}", self._device, *values)

    def look(self, now: float) -> None:
        """Count a stretch that is over, or that lasts."""
        if self._count and (now - self._last >= QUIET_S or now - self._began >= LONG_S):
            self.end()

    def end(self) -> None:
        """Count the stretch, if there is one: nothing of it will come any more."""
        more = self._count - SAID_FIRST
        if more > 0:
            self._log.warning("%s: %d more %s in %.1f s", self._device, more, self._kind, self._last - self._began)
        self._count = 0
