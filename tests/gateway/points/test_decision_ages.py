"""How old decisions are, on clocks that somebody sets."""

from datetime import UTC, datetime, timedelta

from gateway.model.clock import to_us
from gateway.points.decision_ages import REMEMBERED_MAX, DecisionAges

AT = datetime(2026, 11, 23, 2, 0, tzinfo=UTC)


class Hands:
    """A clock moved by hand; `shift` is what somebody did to the wall clock."""

    def __init__(self):
        self.seconds = 1000.0
        self.shift = timedelta()

    def monotonic(self):
        return self.seconds

    def utcnow(self):
        return AT + self.shift + timedelta(seconds=self.seconds)

    @property
    def now_us(self):
        return to_us(self.utcnow())


def test_a_decision_seen_made_ages_by_the_monotonic_clock_alone():
    clock = Hands()
    ages = DecisionAges(clock, 0)
    decided_at = clock.now_us
    ages.note(1, decided_at)
    for step in (timedelta(days=-1), timedelta(days=2)):
        clock.shift += step
        clock.seconds += 60
        ages.note(1, decided_at)
    assert ages.age_s(1, decided_at) == 120


def test_a_decision_of_an_earlier_run_is_as_old_as_it_was_at_the_start_and_then_ages():
    clock = Hands()
    before = clock.now_us - 40_000_000
    ages = DecisionAges(clock, 7)
    clock.seconds += 5
    clock.shift = timedelta(hours=3)
    assert ages.age_s(7, before) == 45
    assert ages.age_s(3, before - 20_000_000) == 65
    assert ages.age_s(7, clock.now_us + 1) == 5


def test_a_persons_decision_ages_by_the_wall_clock_until_the_next_one_seen_made():
    clock = Hands()
    ages = DecisionAges(clock, 7)
    clock.seconds += 1000
    by_person = clock.now_us
    clock.seconds += 10
    assert ages.age_s(8, by_person) == 10
    ages.note(9, clock.now_us)
    clock.seconds += 10
    clock.shift = timedelta(hours=-3)
    assert ages.age_s(8, by_person) == 20


def test_lanes_may_note_their_decisions_out_of_order():
    clock = Hands()
    ages = DecisionAges(clock, 0)
    decided_at = clock.now_us
    ages.note(2, decided_at)
    clock.seconds += 1
    ages.note(1, decided_at)
    clock.shift = timedelta(hours=3)
    clock.seconds += 30
    assert (ages.age_s(1, decided_at), ages.age_s(2, decided_at)) == (30, 31)


def test_what_is_forgotten_stays_older_than_what_is_remembered():
    clock = Hands()
    ages = DecisionAges(clock, 0)
    first = newest = clock.now_us
    for number in range(1, REMEMBERED_MAX + 10):
        newest = clock.now_us
        ages.note(number, newest)
        clock.seconds += 1
    assert len(ages._moments) == REMEMBERED_MAX
    for step in (timedelta(days=-1), timedelta(days=1)):
        clock.shift = step
        assert ages.age_s(1, first) == REMEMBERED_MAX + 9
        assert ages.age_s(REMEMBERED_MAX + 9, newest) == 1
