"""What a run of full size must have hit is complete, and a run that has missed some of it does not pass."""

from collections import Counter

import pytest

from hardware.bench.simulation import declared
from hardware.bench.simulation.invariants import TRANSITIONS
from hardware.bench.simulation.summary import Summary
from hardware.bench.simulation.world import RunResult

pytestmark = pytest.mark.slow


def test_every_transition_the_watcher_allows_is_declared_or_explained():
    allowed = {f"{what}:{old or 'new'}->{new}" for what, changes in TRANSITIONS.items() for old, new in changes}
    made = {f"{name.partition(':')[0].partition('.')[0]}:{name.partition(':')[2]}" for name in declared.TRANSITIONS}
    assert allowed - made == set(declared.NOT_DECLARED)
    assert not made & set(declared.NOT_DECLARED)


def test_nothing_is_declared_twice():
    for names in (declared.FAULTS, declared.TRANSITIONS):
        assert not [name for name, count in Counter(names).items() if count > 1]


def full_size():
    summary = Summary()
    for workload, size in declared.FULL.items():
        outcome = RunResult(1, workload, "", 0, 0, 0.0, None, [], done=size)
        if workload == "lanes":
            outcome.faults, outcome.transitions = Counter(), Counter()
            outcome.faults.update(dict.fromkeys(declared.FAULTS, declared.LEAST))
            outcome.transitions.update(dict.fromkeys(declared.TRANSITIONS, declared.LEAST))
        summary.add(outcome)
    return summary


def test_a_full_run_that_hit_everything_is_good():
    summary = full_size()
    assert summary.full_size
    assert summary.missing() == []
    assert summary.good


def test_a_full_run_that_missed_something_is_not():
    for counts in ("faults", "transitions"):
        summary = full_size()
        name = next(iter(getattr(summary, counts)))
        getattr(summary, counts)[name] -= 1
        assert not summary.good
        assert summary.missing() == [f"{counts[:-1]} {name}: {declared.LEAST - 1}"]
        assert f"hit fewer than {declared.LEAST} times" in summary.text()


def test_a_smaller_run_need_not_hit_everything():
    summary = Summary()
    summary.add(RunResult(1, "lanes", "", 0, 0, 0.0, None, [], done=60))
    assert summary.missing()
    assert summary.good
