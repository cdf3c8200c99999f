"""Pace of Python's garbage collection in a process that runs for months.

Almost everything a passage leaves behind is freed the moment nobody holds it. Only what refers to itself in a circle
waits for the collector, which by default looks after every 700 new objects: a tenth of the time of a busy ledger, spent
on finding next to nothing. So it looks rarely, and no more at what start-up has made for good.
"""

from __future__ import annotations

import gc

YOUNG_MAX = 50_000
"""New objects between two collections: some megabytes, the batches of a second or two."""

OLDER_MAX = 20
"""Collections of the young generation before one of the older ones."""


def collect_rarely() -> None:
    """Freeze what start-up made and collect rarely from then on; called once per process, when start-up is done."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(YOUNG_MAX, OLDER_MAX, OLDER_MAX)
