"""Pace of Python's garbage collection in a process that runs for months.

Almost everything a passage leaves behind is freed the moment nobody holds it. Only what refers to itself in a circle
waits for the collector, which by default looks after every 700 new objects: a tenth of the time of a busy ledger, spent
on finding next to nothing. So it looks rarely, and no more at what start-up has made for good.
"""

from __future__ import annotations

import gc

YOUNG_MAX = 3_000
"""New objects between two collections. With 50,000 one stopped the event loop for 26 to 74 ms, every 20 s at 50 cars a
second; the default of 700 costs a tenth of the time of a busy ledger."""

OLDER_MAX = 20
"""Collections of the young generation before one of the older ones."""


def collect_rarely() -> None:
    """Freeze what start-up made and collect rarely from then on; called once per process, when start-up is done."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(YOUNG_MAX, OLDER_MAX, OLDER_MAX)
