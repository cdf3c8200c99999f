"""Tasks that must go on, in virtual time."""

import asyncio
import logging
from itertools import pairwise

import pytest

from gateway.supervision import PAUSE_FIRST_S, PAUSE_MAX_S, STEADY_S, Supervisor


class StepClock:
    """Time moves when somebody sleeps, as far as they sleep."""

    def __init__(self):
        self.now = 0.0
        self.pauses = []

    def monotonic(self):
        return self.now

    async def sleep(self, seconds):
        self.pauses.append(seconds)
        self.now += seconds
        await asyncio.sleep(0)


class Watched:
    """A supervisor, its clock and what it reported."""

    def __init__(self):
        self.clock = StepClock()
        self.reports = []
        self.supervisor = Supervisor(self.clock, lambda *report: self.reports.append(report))

    async def turns(self, done, limit=10_000):
        for _ in range(limit):
            if done():
                return
            await asyncio.sleep(0)
        raise AssertionError("it never came to that")


def test_a_task_that_fails_is_reported_counted_and_started_again(caplog):
    async def story():
        watched = Watched()
        runs = []

        async def work():
            runs.append(watched.clock.now)
            if len(runs) < 3:
                raise ValueError("no luck")
            await asyncio.Event().wait()

        with caplog.at_level(logging.ERROR):
            watched.supervisor.start("lane", work)
            await watched.turns(lambda: len(runs) == 3)
        assert watched.supervisor.restarts == {"lane": 2}
        assert [works for _, works, _ in watched.reports] == [False, True, False, True]
        assert {part for part, _, _ in watched.reports} == {"task/lane"}
        assert "ValueError: no luck" in watched.reports[2][2]
        assert "2 so far" in watched.reports[2][2]
        assert caplog.text.count("no luck") >= 2
        await watched.supervisor.stop()

    asyncio.run(story())


def test_a_task_that_ends_is_a_failure_too():
    async def story():
        watched = Watched()

        async def work():
            return

        watched.supervisor.start("lane", work)
        await watched.turns(lambda: len(watched.reports) >= 2)
        assert "ended unexpectedly" in watched.reports[0][2]
        await watched.supervisor.stop()

    asyncio.run(story())


def test_pauses_double_to_their_maximum_and_a_steady_run_earns_the_short_one_again():
    async def story():
        watched = Watched()
        runs = []

        async def work():
            runs.append(watched.clock.now)
            if len(runs) == 12:
                watched.clock.now += STEADY_S + 1
            raise ValueError

        watched.supervisor.start("lane", work)
        await watched.turns(lambda: len(watched.clock.pauses) == 14)
        pauses = watched.clock.pauses
        assert pauses[0] <= 2 * PAUSE_FIRST_S
        assert all(after == min(2 * before, PAUSE_MAX_S) for before, after in pairwise(pauses[:11]))
        assert pauses[10] == PAUSE_MAX_S
        assert pauses[11] == PAUSE_FIRST_S
        assert pauses[12] == 2 * PAUSE_FIRST_S
        await watched.supervisor.stop()

    asyncio.run(story())


def test_the_others_never_notice():
    async def story():
        watched = Watched()
        steps = []

        async def steady():
            while True:
                steps.append(1)
                await asyncio.sleep(0)

        async def bad():
            raise ValueError

        watched.supervisor.start("bad", bad)
        watched.supervisor.start("steady", steady)
        await watched.turns(lambda: len(steps) > 50)
        assert "steady" not in watched.supervisor.restarts
        assert watched.supervisor.restarts["bad"] > 1
        await watched.supervisor.stop()

    asyncio.run(story())


@pytest.mark.parametrize("everything", [True, False])
def test_stop_waits_until_its_tasks_have_cleaned_up(everything):
    async def story():
        watched = Watched()
        ended = []

        def make(name):
            async def work():
                try:
                    await asyncio.Event().wait()
                finally:
                    await asyncio.sleep(0)
                    ended.append(name)

            return work

        for name in ("one", "two"):
            watched.supervisor.start(name, make(name))
        await asyncio.sleep(0)
        await watched.supervisor.stop(*([] if everything else ["one", "nobody"]))
        assert sorted(ended) == (["one", "two"] if everything else ["one"])
        await watched.supervisor.stop()
        assert sorted(ended) == ["one", "two"]
        assert watched.supervisor.restarts == {}
        assert watched.reports == []

    asyncio.run(story())


def test_a_stopped_task_may_be_in_its_pause():
    async def story():
        watched = Watched()
        watched.clock.sleep = lambda _: asyncio.Event().wait()

        async def work():
            raise ValueError

        watched.supervisor.start("lane", work)
        await watched.turns(lambda: watched.reports)
        await watched.supervisor.stop("lane")
        assert [works for _, works, _ in watched.reports] == [False]

    asyncio.run(story())


def test_a_fault_that_is_no_exception_of_work_is_not_swallowed():
    """Ctrl-C and the like end the program, supervised or not."""

    async def story():
        watched = Watched()

        async def work():
            raise SystemExit(3)

        watched.supervisor.start("lane", work)
        await asyncio.sleep(1)

    with pytest.raises(SystemExit):
        asyncio.run(story())
