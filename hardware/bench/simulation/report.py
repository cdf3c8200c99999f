"""`etcbench simulate`: runs, progress on stderr, summary on stdout."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import typer

from hardware.bench.simulation.bugs import BUGS
from hardware.bench.simulation.runner import Run, run, run_all
from hardware.bench.simulation.summary import Summary
from hardware.bench.simulation.world import RunResult

PROGRESS_EVERY_S = 5.0


def simulate(
    seeds: Sequence[int],
    sizes: Mapping[str, int],
    *,
    workers: int,
    bug: str | None,
    trace: Path | None,
    as_json: bool,
) -> bool:
    """Run every seed with each workload that has a size; True when all is well."""
    if bug is not None and bug not in BUGS:
        raise typer.BadParameter(f"bug {bug!r} is not known; known are {', '.join(BUGS)}")
    runs = [Run(seed, workload, size, bug) for workload, size in sizes.items() if size for seed in seeds]
    if trace is not None and len(runs) != 1:
        raise typer.BadParameter("a trace is of one seed and one workload: give --seeds 1, and all sizes but one as 0")
    summary = Summary()
    begun = shown = time.monotonic()
    for what, outcome in _played(runs, workers, trace):
        summary.add(outcome)
        if outcome.problem is not None:
            _complain(what, outcome)
        if time.monotonic() - shown >= PROGRESS_EVERY_S:
            shown = time.monotonic()
            typer.echo(f"{summary.runs} of {len(runs)} runs, {len(summary.broken)} broken", err=True)
    took_s = time.monotonic() - begun
    if as_json:
        typer.echo(json.dumps({**summary.as_dict(), "took_s": round(took_s, 3)}))
    else:
        typer.echo(summary.text())
        if len(runs) == 1:
            typer.echo(f"digest of the trace {next(iter(summary.digests.values()))}")
        typer.echo(f"took {took_s:.1f} s")
    return summary.good


def _played(runs: Sequence[Run], workers: int, trace: Path | None) -> Iterator[tuple[Run, RunResult]]:
    if trace is None:
        yield from run_all(runs, workers)
        return
    with trace.open("w", encoding="utf-8") as into:
        yield runs[0], run(runs[0], into)


def _complain(what: Run, outcome: RunResult) -> None:
    for line in outcome.last_lines:
        typer.echo(line, err=True)
    typer.echo(f"BROKEN seed {what.seed}, {what.workload}, line {outcome.lines}: {outcome.problem}", err=True)
    typer.echo(f"again: {what.command}", err=True)
