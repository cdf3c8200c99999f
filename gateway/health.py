"""Health of every part, in words: collected from all of them and kept in a file for `etcgw status` and others.

The file is replaced whole (write, rename), so a reader never sees half of it. It says when it was written: a file that
is not renewed belongs to a gateway that is not running.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from gateway.model.clock import Clock, to_us
from gateway.model.reasons import REASONS

WRITE_EVERY_S = 1.0
"""Longest time between two writes of the file, so that its age tells whether the gateway lives."""

SAMPLES_MAX = 4096
"""Loop-lag samples kept: some minutes of a lane."""

LAG_PERIOD_S = 0.05

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class PartHealth:
    """Health of one part of the gateway. `code` is a reason of `gateway.model.reasons` when there is one."""

    works: bool
    cause: str
    code: str | None
    since_us: int


class Tell(Protocol):
    """Report the health of a part; `code` is a reason of `gateway.model.reasons`."""

    def __call__(self, part: str, works: bool, cause: str, code: str | None = None) -> None: ...


class HealthFile:
    """Health of all parts, by name such as `lane-1/antenna`, kept in a file."""

    def __init__(self, path: Path, clock: Clock, facts: Callable[[], dict[str, Any]]) -> None:
        self._path = path
        self._clock = clock
        self._facts = facts
        self._parts: dict[str, PartHealth] = {}
        self._lags: deque[float] = deque(maxlen=SAMPLES_MAX)

    def report(self, part: str, works: bool, cause: str, code: str | None = None) -> None:
        """Note the health of a part; only changes are logged."""
        known = self._parts.get(part)
        if known is not None and (known.works, known.cause, known.code) == (works, cause, code):
            return
        if known is None or known.works != works:
            log.log(logging.INFO if works else logging.ERROR, "%s: %s", part, cause)
        self._parts[part] = PartHealth(works, cause, code, to_us(self._clock.utcnow()))

    async def run(self) -> None:
        """Measure the event loop and renew the file, for ever."""
        written = float("-inf")
        while True:
            begun = self._clock.monotonic()
            await self._clock.sleep(LAG_PERIOD_S)
            now = self._clock.monotonic()
            self._lags.append(max(0.0, now - begun - LAG_PERIOD_S))
            if now - written >= WRITE_EVERY_S:
                self.write(running=True)
                written = now

    def write(self, *, running: bool) -> None:
        """Replace the file. On a full disk it is overwritten where it stands: its own blocks are still there."""
        # Without indentation: that is written by a slow encoder, 13 ms of the event loop for 200 lanes.
        text = json.dumps(self.snapshot(running=running), ensure_ascii=False)
        temporary = self._path.with_suffix(".tmp")
        try:
            temporary.write_text(text)
            temporary.replace(self._path)
        except OSError as error:
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)
            self._overwrite(text, error)

    def _overwrite(self, text: str, why: OSError) -> None:
        try:
            with self._path.open("r+b") as file:
                file.write(text.encode())
                file.truncate()
        except OSError:
            log.warning("condition not written to %s: %s", self._path, why)

    def snapshot(self, *, running: bool) -> dict[str, Any]:
        """Content of the file; keys are stable."""
        lags = sorted(self._lags)
        return {
            "running": running,
            "pid": os.getpid(),
            "written_us": to_us(self._clock.utcnow()),
            "works": all(part.works for part in self._parts.values()),
            "parts": {name: _part(condition) for name, condition in sorted(self._parts.items())},
            "loop_lag_ms": {
                "p50": _quantile_ms(lags, 0.50),
                "p99": _quantile_ms(lags, 0.99),
                "max": _quantile_ms(lags, 1.0),
            },
            **self._facts(),
        }


def _part(condition: PartHealth) -> dict[str, Any]:
    reason = REASONS.get(condition.code) if condition.code is not None else None
    return {
        "works": condition.works,
        "cause": condition.cause,
        "code": condition.code,
        "zh": None if reason is None else reason.zh,
        "en": None if reason is None else reason.en,
        "next_step_zh": None if reason is None else reason.next_step_zh,
        "next_step_en": None if reason is None else reason.next_step_en,
        "since_us": condition.since_us,
    }


def _quantile_ms(ordered: list[float], share: float) -> float | None:
    if not ordered:
        return None
    return round(ordered[min(len(ordered) - 1, int(share * len(ordered)))] * 1000, 3)
