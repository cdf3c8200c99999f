"""The simulation bites: every known bug, planted in the gateway's code, is caught; without them nothing is."""

import pytest

from hardware.bench.simulation.bugs import BUGS, plant
from hardware.bench.simulation.planting import NoLongerFits, edit
from hardware.bench.simulation.runner import Run, run

pytestmark = pytest.mark.slow

SIZES = {"engine": 1500, "lanes": 400, "fuel": 40}
"""Debits, passages or fillings of one seed."""
SEEDS = range(1, 14)
SOONEST = {
    "adopted_claims_asked_again": 2,
    "age_by_time_of_day": 2,
    "amount_not_explained": 3,
    "amount_recomputed": 3,
    "arm_not_watched": 2,
    "completed_again": 3,
    "display_of_before": 43,
    "grey_billed": 3,
    "grey_served_again": 3,
    "hold_freed_behind_pump": 2,
    "late_approval_swallowed": 6,
    "open_sales_forgotten": 2,
    "second_word_first": 6,
    "served_vehicle_proves": 4,
    "silence_is_nothing": 2,
}
"""Seeds to begin with where the first shows a bug late or not at all; only the time of a test hangs on them."""


@pytest.mark.parametrize("name", BUGS)
def test_a_planted_bug_is_caught(name):
    bug = BUGS[name]
    for seed in (SOONEST.get(name, SEEDS[0]), *SEEDS):
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
    assert outcome.done >= SIZES[workload]
    assert outcome.faults.total() > 10


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
