"""How busy this machine is, and how long a lane of the demo has for a vehicle because of it."""

from __future__ import annotations

import time

from hardware.bench.processes import DEADLINE_MS, PATIENT_MS

SAMPLE_S = 0.3
"""Processor time that is measured: many turns of any scheduler."""

BUSY = 1.5
"""Above it others really want the processor; below it is what every machine does beside."""


def slowdown() -> float:
    """How many times its own processor time a piece of work takes here now: 1 where a processor is free. Blocks."""
    begun, own = time.perf_counter(), time.thread_time()
    while time.thread_time() - own < SAMPLE_S:
        pass
    return (time.perf_counter() - begun) / (time.thread_time() - own)


def lane_deadline_ms(slower: float) -> int:
    """The product's own deadline; on a busy machine as many times longer as all work takes, within a site's bounds."""
    return DEADLINE_MS if slower < BUSY else min(PATIENT_MS, round(DEADLINE_MS * slower))
