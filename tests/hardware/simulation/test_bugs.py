"""The simulation bites: every known bug, planted in the gateway's code, is caught; without them nothing is."""

import pytest

from hardware.bench.simulation.bugs import BUGS, plant
from hardware.bench.simulation.planting import NoLongerFits, edit
from hardware.bench.simulation.runner import Run, run

pytestmark = pytest.mark.slow

SIZES = {"engine": 1500, "lanes": 400, "fuel": 40}
"""Debits, passages or fillings of one seed."""
SEEDS = range(1, 14)


@pytest.mark.parametrize("name", BUGS)
def test_a_planted_bug_is_caught(name):
    bug = BUGS[name]
    for seed in SEEDS if bug.seed is None else (bug.seed,):
        outcome = run(Run(seed, bug.workload, SIZES[bug.workload], name))
        if outcome.problem is not None:
            assert outcome.last_lines
            assert outcome.last_lines[-1].endswith(f"BROKEN {outcome.problem}")
            return
    pytest.fail(f"{bug.what}: not caught")


@pytest.mark.parametrize("workload", SIZES)
def test_the_same_seed_breaks_nothing_without_a_bug(workload):
    outcome = run(Run(SEEDS[0], workload, SIZES[workload]))
    assert outcome.problem is None, outcome.last_lines


def test_a_bug_is_gone_after_its_run():
    for name in BUGS:
        with plant(name):
            pass
    assert run(Run(1, "engine", 60)).problem is None


def test_a_bug_that_fits_no_more_is_an_error():
    from gateway.debit import attempts

    with (
        pytest.raises(NoLongerFits, match="0 times 'no such words'"),
        edit((attempts, "close_reversal", "no such words", ""))(),
    ):
        pass


def test_a_bug_nobody_knows_is_an_error():
    with pytest.raises(ValueError, match="hold_not_counted"), plant("no_such_bug"):
        pass
