"""How old decisions are: on clocks that somebody sets, over restarts of the process and of the machine."""

from datetime import UTC, datetime, timedelta

import pytest

from gateway.ledger import clock_readings, tables
from gateway.ledger.batches import Committer
from gateway.model.clock import to_us
from hardware.bench.chain_key import KEYS
from tests.gateway.ledger.empty import open_empty

AT = datetime(2026, 11, 23, 2, 0, tzinfo=UTC)
DAY = timedelta(days=1)


class Hands:
    """A clock moved by hand; `shift` is what somebody did to the wall clock."""

    def __init__(self):
        self.boot = "first boot"
        self.seconds = 1000.0
        self.shift = timedelta()

    def monotonic(self):
        return self.seconds

    def utcnow(self):
        return AT + self.shift + timedelta(seconds=self.seconds)


class Box:
    """A ledger and the process that writes it."""

    def __init__(self, path):
        self.clock = Hands()
        self.path = path
        self.writing = open_empty(path)
        self.decided = {}
        self.start()

    def start(self):
        """The process starts; what the last one had in memory is gone."""
        self.committer = Committer(self.writing, self.clock, keys=KEYS)

    def boot(self, name):
        """The machine starts, and its monotonic clock anew; the process with it."""
        self.clock.shift += timedelta(seconds=self.clock.seconds)
        self.clock.boot, self.clock.seconds = name, 3.0
        self.clock.shift -= timedelta(seconds=3)
        self.start()

    def decide(self, committer=None):
        """A decision; its number."""

        def change(tx):
            number = tx.chain_span(tables.decision)[1] + 1
            tx.insert(tables.subject, id=f"passage {number}")
            tx.insert(
                tables.passage,
                id=f"passage {number}",
                charge_point="lane-1",
                service="toll",
                opened_at=0,
                clock_quality="trusted",
            )
            assert number == tx.insert_chained(
                tables.decision,
                passage_id=f"passage {number}",
                charge_point="lane-1",
                release="go",
                outcome="paid",
                amount=0,
                recovered=0,
                decided_at=tx.now_us,
            )
            return number, tx.now_us

        number, at = (committer or self.committer).commit([change])[0]
        self.decided[number] = at
        return number

    def age(self, number):
        with self.writing.connect() as connection:
            return clock_readings.age_s(connection, self.clock, number, self.decided[number])

    @property
    def readings(self):
        with self.writing.connect() as connection:
            return connection.execute(tables.clock_reading.select().order_by(tables.clock_reading.c.id)).all()


@pytest.fixture
def box(tmp_path):
    box = Box(tmp_path / "ledger.db")
    yield box
    box.writing.dispose()


STEPS = [timedelta(seconds=-320), timedelta(seconds=320), -3 * DAY, 3 * DAY]


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("restart", [False, True])
def test_a_decision_ages_by_the_monotonic_clock_alone(box, step, restart):
    number = box.decide()
    box.clock.seconds += 60
    box.clock.shift += step
    if restart:
        box.start()
    box.clock.seconds += 60
    assert box.age(number) == 120
    later = box.decide()
    box.clock.shift += step
    box.clock.seconds += 30
    assert (box.age(number), box.age(later)) == (150, 30)


def test_clocks_that_run_together_are_read_once_and_then_when_they_were_set(box):
    for _ in range(5):
        box.decide()
        box.clock.seconds += 3600
    box.start()
    box.decide()
    assert [(r.boot, r.after_record) for r in box.readings] == [("first boot", 0)]
    box.clock.shift += timedelta(seconds=0.9)
    box.decide()
    assert len(box.readings) == 1
    box.clock.shift += timedelta(seconds=0.2)
    box.decide()
    assert [r.after_record for r in box.readings] == [0, 7]
    assert box.readings[1].wall_at == box.decided[8]


def test_a_transaction_without_a_decision_needs_no_reading_but_the_first_of_a_process(box):
    box.committer.commit([lambda tx: tx.next_number("n")])
    assert [r.after_record for r in box.readings] == [0]
    box.clock.shift += DAY
    box.committer.commit([lambda tx: tx.next_number("n")])
    assert len(box.readings) == 1
    box.start()
    box.committer.commit([lambda tx: tx.next_number("n")])
    assert len(box.readings) == 2


def test_a_reading_that_was_not_stored_is_stored_with_the_next_decision(box):
    box.decide()
    box.clock.shift += DAY

    def fail(_):
        raise RuntimeError("power cut")

    with pytest.raises(RuntimeError, match="power"):
        box.committer.commit([lambda tx: tx.next_number("n"), fail])
    number = box.decide()
    box.clock.shift -= DAY
    box.clock.seconds += 10
    assert box.age(number) == 10


def test_another_process_on_the_same_ledger_leaves_its_readings_to_all(box):
    person = Committer(box.writing, box.clock, keys=KEYS)
    box.decide()
    box.clock.shift += DAY
    by_person = box.decide(person)
    box.clock.shift -= DAY
    box.clock.seconds += 10
    by_lane = box.decide()
    box.clock.seconds += 10
    assert (box.age(by_person), box.age(by_lane)) == (20, 10)
    assert [r.after_record for r in box.readings] == [0, 1, 2]


def test_across_a_restart_of_the_machine_the_time_of_day_tells(box):
    number = box.decide()
    box.clock.seconds += 40
    box.boot("second boot")
    assert box.age(number) == 40
    box.clock.seconds += 5
    box.decide()
    box.clock.shift += 2 * DAY
    box.clock.seconds += 5
    assert box.age(number) == 50, "nothing is left to the time of day from the first reading on"


def test_a_decision_of_the_future_is_as_old_as_the_first_reading_of_this_start(box):
    number = box.decide()
    box.clock.shift -= DAY
    box.boot("second boot")
    assert box.age(number) == 0
    box.decide()
    box.clock.seconds += 7
    box.decide()
    box.clock.shift += DAY
    assert box.age(number) == 7


def test_a_ledger_that_had_no_readings_goes_by_the_time_of_day(box):
    number = box.decide()
    with box.writing.begin() as connection:
        connection.execute(tables.clock_reading.delete())
    box.clock.seconds += 40
    assert box.age(number) == 40
    assert to_us(box.clock.utcnow()) == box.decided[number] + 40_000_000


@pytest.mark.parametrize("steps", [(), (DAY, -DAY), (-DAY, DAY), (DAY, -3 * DAY, DAY), (-DAY, -DAY)])
def test_the_latest_moment_is_found_whatever_was_done_to_the_clock(box, steps):
    """Also a moment that a clock set too far has told, and that no decision has reached since."""

    def latest():
        with box.writing.connect() as connection:
            return clock_readings.latest_us(connection)

    assert latest() == 0
    for step in (timedelta(), *steps):
        box.clock.shift += step
        for _ in range(3):
            box.clock.seconds += 60
            box.decide()
            assert latest() == max(box.decided.values())
    assert len(box.readings) == 1 + len(steps)
