"""The simulation itself: what a seed does, it does again."""

import io

import pytest

from hardware.bench.simulation.runner import Run, run

pytestmark = pytest.mark.slow

SIZES = {"lanes": 60, "engine": 250, "fuel": 12}


@pytest.mark.parametrize("workload", SIZES)
def test_one_seed_gives_one_trace_byte_for_byte(workload):
    traces = []
    for _ in range(2):
        into = io.StringIO()
        outcome = run(Run(7, workload, SIZES[workload]), into)
        assert outcome.problem is None
        traces.append((outcome.digest, into.getvalue()))
    assert traces[0] == traces[1]
    assert traces[0][1].count("\n") > SIZES[workload]


@pytest.mark.parametrize("workload", SIZES)
def test_another_seed_gives_another_trace(workload):
    digests = {run(Run(seed, workload, 20)).digest for seed in (1, 2)}
    assert len(digests) == 2
