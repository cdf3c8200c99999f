"""Report of `etcbench load`: tables of figures and ratios, or JSON, and the plot over the lanes."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hardware.bench import measure, show
from hardware.bench.load.plot import plot
from hardware.bench.load.run import Wanted, good, rows_of, run_both


async def load(
    folder: Path,
    lanes: Sequence[int],
    *,
    null_only: bool,
    picture: Path | None,
    as_json: bool,
    **wanted: Any,  # noqa: ANN401 - the rest of `Wanted`
) -> bool:
    """Run the load at each number of lanes and report it; True when every vehicle was served and charged once."""
    console = show.console()
    runs = {}
    for number in lanes:
        runs[number] = found = await run_both(folder, Wanted(lanes=number, **wanted), null_only=null_only)
        if not as_json:
            console.print(measure.table_of(f"{number} lanes", rows_of(found)))
    if picture is not None:
        show.save_picture(plot(runs), picture, title="etcbench load")
    if as_json:
        console.out(json.dumps([{"lanes": n, "figures": rows_of(found)} for n, found in runs.items()]))
    elif len(runs) > 1:
        console.print(plot(runs))
    return all(good(found) for found in runs.values())
