"""Trace of what happened, one line each: `time actor: what`. The digest over all lines is the run's fingerprint."""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Callable
from typing import TextIO

KEPT = 200
"""Lines kept for the report of a violation."""


class Trace:
    """Lines of one run. Only the last ones stay in memory; all of them go to `into` where one is given."""

    def __init__(self, now: Callable[[], float], into: TextIO | None = None) -> None:
        self.now = now
        """Seconds of virtual time."""
        self._into = into
        self._digest = hashlib.sha256()
        self.last: deque[str] = deque(maxlen=KEPT)
        self.lines = 0
        self.ended = False
        """True when what still happens is of no interest."""

    def add(self, actor: str, what: str) -> None:
        """Write down that `actor` did `what` now."""
        if self.ended:
            return
        line = f"{self.now():.6f} {actor}: {what}"
        self.lines += 1
        self.last.append(line)
        self._digest.update(line.encode() + b"\n")
        if self._into is not None:
            self._into.write(line + "\n")

    @property
    def digest(self) -> str:
        """SHA-256 over all lines so far."""
        return self._digest.hexdigest()
