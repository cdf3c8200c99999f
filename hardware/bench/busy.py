"""Load of this machine, and the deadline of a demo lane that follows from it."""

from __future__ import annotations

import time

from hardware.bench.processes import DEADLINE_MS, PATIENT_MS

SAMPLE_S = 0.3
"""Seconds of processor time that are measured: many turns of any scheduler."""

BUSY = 1.5
"""Slowdown above which others really want the processor; below it is what every machine does beside."""


def slowdown() -> float:
    """Slowdown now: time that work takes here per own processor time; 1 where a processor is free. Blocks."""
    begun, own = time.perf_counter(), time.thread_time()
    while time.thread_time() - own < SAMPLE_S:
        pass
    return (time.perf_counter() - begun) / (time.thread_time() - own)


def lane_deadline_ms(slower: float) -> int:
    """Deadline of a lane: the product's; on a busy machine as many times longer as all work takes, within bounds."""
    return DEADLINE_MS if slower < BUSY else min(PATIENT_MS, round(DEADLINE_MS * slower))
