"""Runs seeds, one after the other or in processes side by side."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import multiprocessing
import os
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from multiprocessing.connection import wait
from typing import TextIO

from hardware.bench.simulation.bugs import plant
from hardware.bench.simulation.log_reader import LogReader, reading
from hardware.bench.simulation.loop import VirtualLoop
from hardware.bench.simulation.site import CALLERS, LANES
from hardware.bench.simulation.storage import folder
from hardware.bench.simulation.traffic import LaneWorkload
from hardware.bench.simulation.workloads import EngineWorkload
from hardware.bench.simulation.world import RunResult, World, play


@dataclass(frozen=True, slots=True)
class Run:
    """Order of one run: seed, workload and size."""

    seed: int
    workload: str
    """`lanes` or `engine`."""
    size: int
    """Passages or debits."""
    bug: str | None = None
    """Bug planted in the gateway's code for this run."""

    @property
    def command(self) -> str:
        """Command that shows the run again."""
        sizes = (
            f"--passages {self.size} --debits 0" if self.workload == "lanes" else f"--passages 0 --debits {self.size}"
        )
        planted = "" if self.bug is None else f" --plant {self.bug}"
        return f"etcbench simulate --seed {self.seed} --seeds 1 {sizes}{planted} --trace trace.txt"


def run(what: Run, into: TextIO | None = None) -> RunResult:
    """Play one seed. `into` gets the whole trace."""

    async def whole() -> RunResult:
        engine = what.workload == "engine"
        world = World(what.seed, path, lanes=0 if engine else LANES, callers=CALLERS if engine else 0, into=into)
        workload = EngineWorkload(what.size) if engine else LaneWorkload(what.size)
        with reading(LogReader(world.fail)):
            return await play(world, workload, what.workload)

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
