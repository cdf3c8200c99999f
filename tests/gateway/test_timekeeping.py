"""What the box's clock is believed, and what time it is at least."""

from datetime import timedelta

from gateway.model.clock import ClockQuality
from gateway.timekeeping import BEHIND_MAX, EARLIEST, Timekeeper
from tests.gateway.debit.conftest import FakeClock


def clock_at(moment):
    clock = FakeClock()
    clock.now = moment.timestamp()
    return clock


SOON = EARLIEST + timedelta(days=400)


class SteppedClock(FakeClock):
    """Its clock for records is set while the monotonic one goes on."""

    step = timedelta()

    def utcnow(self):
        return super().utcnow() + self.step


def test_a_clock_that_nothing_speaks_against_is_trusted():
    time = Timekeeper(clock_at(SOON))
    assert time.trusted
    assert time.now == SOON


def test_a_dead_battery_is_seen_without_any_record():
    time = Timekeeper(clock_at(EARLIEST - timedelta(days=365)))
    assert time.quality is ClockQuality.SUSPECT
    assert time.now == EARLIEST


def test_a_clock_a_little_behind_is_trusted_and_one_far_behind_is_not():
    clock = clock_at(SOON)
    time = Timekeeper(clock)
    time.passed(SOON + BEHIND_MAX)
    assert time.trusted
    time.passed(SOON + BEHIND_MAX + timedelta(seconds=1))
    assert not time.trusted
    assert time.now == SOON + BEHIND_MAX + timedelta(seconds=1)


def test_what_is_proved_goes_on_with_the_monotonic_clock():
    clock = SteppedClock()
    clock.now = SOON.timestamp()
    time = Timekeeper(clock)
    time.passed(SOON)
    clock.now += 3600
    assert time.at_least == SOON + timedelta(hours=1)
    clock.step = timedelta(minutes=-30)
    assert not time.trusted, "set back while we run, to a moment after our newest record"
    assert time.now == SOON + timedelta(hours=1)
    clock.step = timedelta(0)
    assert time.trusted


def test_an_older_proof_says_nothing_new():
    time = Timekeeper(clock_at(SOON))
    time.passed(SOON)
    time.passed(SOON - timedelta(days=3))
    assert time.at_least == SOON
