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


SOURCES_MAX = 256
"""Sources told apart at a time. More than ever talk to one box; a stranger with many addresses is counted together."""


class LogBySource:
    """Warnings about sources: one line for each source and minute, with the count of those it stands for."""

    def __init__(self, log: logging.Logger, device: str) -> None:
        self._log = log
        self._device = device
        self._since: dict[str, float] = {}
        self._more: dict[str, int] = {}
        self.count = 0
        """Warnings since start, written or not."""

    def say(self, now: float, source: str, text: str) -> None:
        """Log or count one more warning about `source`. `now`: monotonic seconds."""
        self.count += 1
        for old in [known for known, since in self._since.items() if now - since >= LONG_S]:
            del self._since[old]
        if source not in self._since and len(self._since) >= SOURCES_MAX:
            source = "others"
        if source in self._since:
            self._more[source] = self._more.get(source, 0) + 1
            return
        self._since[source] = now
        more = self._more.pop(source, 0)
        counted = f"; {more} more before" if more else ""
        self._log.warning("%s: %s: %s%s", self._device, source, text, counted)
        if len(self._more) > SOURCES_MAX:
            self._more.clear()  # counts of sources that never came back
