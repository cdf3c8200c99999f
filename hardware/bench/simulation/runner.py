"""Runs seeds, one after the other or in processes side by side."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import multiprocessing
import os
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from multiprocessing.connection import wait
from typing import Any, TextIO

from hardware.bench.simulation.bugs import plant
from hardware.bench.simulation.drivers import FuelWorkload
from hardware.bench.simulation.log_reader import LogReader, reading
from hardware.bench.simulation.loop import VirtualLoop
from hardware.bench.simulation.site import CALLERS, LANES
from hardware.bench.simulation.storage import folder
from hardware.bench.simulation.summary import COUNTED
from hardware.bench.simulation.traffic import LaneWorkload
from hardware.bench.simulation.workloads import EngineWorkload
from hardware.bench.simulation.world import RunResult, Workload, World, play

PLACES: Mapping[str, Mapping[str, Any]] = {
    "lanes": {"lanes": LANES},
    "engine": {"callers": CALLERS},
    "fuel": {"island": True},
}
"""Charge points of a world by the workload."""
WORKLOADS: Mapping[str, Callable[[int], Workload]] = {
    "lanes": LaneWorkload,
    "engine": EngineWorkload,
    "fuel": FuelWorkload,
}


@dataclass(frozen=True, slots=True)
class Run:
    """Order of one run: seed, workload and size."""

    seed: int
    workload: str
    """A key of `COUNTED`."""
    size: int
    """Passages, debits or fillings."""
    bug: str | None = None
    """Bug planted in the gateway's code for this run."""

    @property
    def command(self) -> str:
        """Command that shows the run again."""
        sizes = " ".join(f"--{what} {self.size if work == self.workload else 0}" for work, what in COUNTED.items())
        planted = "" if self.bug is None else f" --plant {self.bug}"
        return f"etcbench simulate --seed {self.seed} --seeds 1 {sizes}{planted} --trace trace.txt"


def run(what: Run, into: TextIO | None = None) -> RunResult:
    """Play one seed. `into` gets the whole trace."""

    async def whole() -> RunResult:
        world = World(what.seed, path, **PLACES[what.workload], into=into)
        with reading(LogReader(world.fail)):
            return await play(world, WORKLOADS[what.workload](what.size), what.workload)

    gc.disable()  # when it runs depends on the process's past
    try:
        planted = contextlib.nullcontext() if what.bug is None else plant(what.bug)
        with planted, folder() as path, asyncio.Runner(loop_factory=VirtualLoop) as runner:
            return runner.run(whole())
    finally:
        gc.enable()
        gc.collect()


def run_all(runs: Sequence[Run], workers: int) -> Iterator[tuple[Run, RunResult]]:
    """Every run with what came of it, in the order in which they end."""
    if workers <= 1:
        for what in runs:
            yield what, run(what)
        return
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, mp_context=context, initializer=_end_with_parent) as pool:
        waiting = {pool.submit(run, what): what for what in runs}
        for done in as_completed(waiting):
            yield waiting[done], done.result()


def _end_with_parent() -> None:
    """End this worker with its parent: it would wait for its next seed for ever."""
    parent = multiprocessing.parent_process()
    if parent is None:
        raise RuntimeError("a worker has a parent")

    def watch(sentinel: int = parent.sentinel) -> None:
        wait([sentinel])
        os._exit(1)

    threading.Thread(target=watch, name="parent", daemon=True).start()
