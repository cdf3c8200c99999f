"""Report of `etcbench load`: tables of figures and ratios, or JSON, the plot over the lanes, and words on the way."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import typer

from hardware.bench import measure, show
from hardware.bench.load.picture import save_picture
from hardware.bench.load.plot import plot
from hardware.bench.load.run import STEPS, Figures, Wanted, good, rows_of, run_both
from hardware.bench.texts import say


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
        wish = Wanted(lanes=number, **wanted)
        runs[number] = found = await run_both(folder, wish, null_only=null_only, tell=_tell)
        if not as_json:
            console.print(measure.table_of(f"{number} lanes", rows_of(found)))
            if wish.find:
                console.print(measure.table_of("steps of the search", _steps(found)))
    if picture is not None:
        save_picture(runs, picture)
    if as_json:
        told = [
            {"lanes": n, "figures": rows_of(found)} | ({STEPS: _steps(found)} if wanted.get("find") else {})
            for n, found in runs.items()
        ]
        console.out(json.dumps(told))
    elif len(runs) > 1:
        console.print(plot(runs))
    return all(good(found) for found in runs.values())


def _steps(found: Mapping[str, Figures]) -> list[Figures]:
    """Tries of the search as rows, in the order in which they were made."""
    return [{"program": who} | step for who, figures in found.items() for step in figures[STEPS]]


def _tell(program: str, lanes: int, step: Figures) -> None:
    """Tell on standard error what a try of the search has found."""
    screen = show.screen_of_person()
    share, lag = (
        "-" if step[name] is None else f"{step[name]:.1f}" for name in ("share_p99_ms", "roadside_lag_p99_ms")
    )
    text = say(screen, "load.step", program=program, lanes=lanes, rate=step["cars_per_s"], share=share, lag=lag)
    if unserved := step["offered"] - step["served"]:
        text += say(screen, "load.not-served", unserved=unserved, offered=step["offered"])
    if wrong := step["charged_wrong"]:
        text += say(screen, "load.charged-wrong", wrong=wrong)
    if late := step["lifts_out_of_turn"]:
        text += say(screen, "load.lifted-late", late=late)
    typer.echo(text, err=True)
