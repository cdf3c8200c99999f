"""A lane with many vehicles, a slow or full ledger, and a board that does not answer."""

import asyncio
import random
import sqlite3
import time
from contextlib import closing, contextmanager
from dataclasses import replace

import pytest

from gateway.ledger.writer import WriterState
from gateway.points.etc.antenna_point import INBOX_MAX, REMEMBERED_MAX, REPEAT_QUIET_S
from gateway.points.etc.crowd import VISITS_MAX
from gateway.points.gate.gate import LIFT_TRIES_MAX
from protocols.rsu.messages import Continue, Debit, DebitResult, Heartbeat, Stop, StopType, TacResult
from tests.gateway.points import plaza as bench
from tests.gateway.points.plaza import FARE, Car, Purchase

plaza_made_once, play = bench.plaza_made_once, bench.play

PAID = ("paid", "go", None)
REPEAT = ("repeat", "go", "already_charged")
UNKNOWN = ("unknown", "stop", "purchase_unknown")
LOST, LOST_NOT_TAKEN = Purchase(takes=True, error=None), Purchase(takes=False, error=None)
LONG_ENOUGH_S = 300.0
"""Real seconds after which something that must come is taken for lost."""


@contextmanager
def another_process_writes(plaza):
    """The ledger is locked from outside; virtual time goes on."""
    with closing(sqlite3.connect(plaza.path, isolation_level=None)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        plaza.selector.storage_stuck = True
        try:
            yield
        finally:
            connection.execute("ROLLBACK")
            plaza.selector.storage_stuck = False


def wait_for_state(plaza, state):
    """Really wait until the writer's thread has noticed."""
    end = time.monotonic() + LONG_ENOUGH_S
    while plaza.writer.state is not state:
        assert time.monotonic() < end
        time.sleep(0.01)


# --- many vehicles --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("apart_s", [0.0, 0.01, 0.03, 0.07])
def test_cars_whose_steps_interleave_are_each_charged_once(play, apart_s):
    async def story(plaza):
        lane = plaza.lane()
        cars = [Car(number) for number in range(1, 6)]
        for car in cars:
            lane.road.meet(car)
            await plaza.settle(apart_s)
        await plaza.settle()
        assert [len(car.paid) for car in cars] == [1] * 5
        assert plaza.outcomes() == [PAID] * 5
        assert plaza.balance("merchant") == 5 * FARE
        assert sorted(plaza.rows("select obu_id from subject")) == [(car.obu_id.hex(),) for car in cars]

    play(story)


@pytest.mark.parametrize("seed", range(12))
def test_tags_that_start_over_at_any_moment_pay_once_and_leave_with_an_open_barrier(play, seed):
    """Reports at random moments, answers lost at random: whatever happened, once everybody is heard out all is well."""
    chance = random.Random(seed)

    async def story(plaza):
        lane = plaza.lane()
        plaza.bank.answers += [bench.APPROVED] * 50
        cars = [Car(number) for number in range(1, 4)] + [Car(bench.GOOD, card_type=23)]
        for car in cars:
            car.script += [chance.choice((Purchase(), LOST, LOST_NOT_TAKEN)) for _ in range(3)]
        for _ in range(30):
            lane.road.meet(chance.choice(cars))
            await plaza.settle(chance.choice((0.0, 0.03, 0.15, 0.4, 3.0)))
        await plaza.settle(40)
        for car in cars * 4:
            lane.road.meet(car)
            await plaza.settle()
        assert [len(car.paid) for car in cars] == [1] * len(cars)
        last = plaza.rows(
            "select s.obu_id, d.release, max(d.record_no) from decision d join passage g on g.id = d.passage_id "
            "join subject s on s.id = g.id group by s.obu_id"
        )
        assert {release for _, release, _ in last} == {"go"}
        assert plaza.rows("select distinct state from debit") == [("funded",)]
        assert plaza.balance("merchant") == len(cars) * FARE
        assert len(plaza.bank.heard) == 1

    play(story)


def test_a_tag_that_reports_twice_in_a_row_is_one_vehicle(play):
    async def story(plaza):
        lane = plaza.lane()
        car = Car(1)
        lane.road.meet(car)
        lane.road.meet(car)
        await plaza.settle()
        assert len(car.paid) == 1
        assert plaza.outcomes() == [PAID]

    play(story)


def test_more_vehicles_than_a_lane_deals_with_wait_for_the_next_search(play):
    async def story(plaza):
        lane = plaza.lane()
        cars = [Car(number) for number in range(1, VISITS_MAX + 3)]
        for car in cars:
            lane.road.meet(car)
        await plaza.settle()
        assert [len(car.paid) for car in cars] == [1] * VISITS_MAX + [0, 0]
        for car in cars[VISITS_MAX:]:
            lane.road.meet(car)
        await plaza.settle()
        assert all(len(car.paid) == 1 for car in cars)

    play(story)


@pytest.mark.parametrize("tags", [100_000, 60])
def test_a_car_is_sold_to_while_tags_that_never_say_more_fill_the_lane(play, tags, caplog):
    """Ever new tags, or some that come round and round: each is taken once, the car as well."""

    async def story(plaza):
        lane = plaza.lane()
        car = Car(bench.GOOD)
        sent = 0
        until = plaza.clock.monotonic() + 30
        while not car.paid and plaza.clock.monotonic() < until:
            for _ in range(40):
                lane.road.meet(Car(1000 + sent % tags, answers_user=False))
                sent += 1
            lane.road.meet(car)
            await plaza.settle(0.12)
        assert len(car.paid) == 1
        assert sent >= 80
        await plaza.settle(40)
        assert plaza.outcomes() == [PAID]

    play(story)
    assert len([record for record in caplog.records if "vehicles at once" in record.getMessage()]) == 1


def test_a_tag_that_floods_the_lane_is_dropped_beyond_its_inbox(play):
    async def story(plaza):
        lane = plaza.lane()
        car = Car(1, answers_user=False)
        lane.road.meet(car)
        await plaza.settle(0.01)
        reports = [lane.road.say(replace(car.result(DEBIT, 0), error=0)) for _ in range(INBOX_MAX + 40)]
        await plaza.settle()
        assert sum(len(report.orders) for report in reports) <= INBOX_MAX
        assert plaza.decisions() == []

    play(story)


DEBIT = Debit(bytes(4), bytes(8), 0, "20261123100000", bytes(43))


def test_reports_of_a_trade_that_is_over_are_sent_back_to_the_search(play):
    async def story(plaza):
        lane = plaza.lane()
        car = Car(1)
        lane.road.cars[car.obu_id] = car
        for message in (car.user_report(), TacResult(car.obu_id, 0, bytes(4), bytes(4), 0)):
            report = lane.road.say(message)
            await plaza.settle(1)
            assert [order.stop_type for order in report.orders] == [StopType.SEARCH_AGAIN]
        stray = lane.road.say(car.result(DEBIT, 0))
        await plaza.settle(1)
        assert [type(order) for order in stray.orders] == [Continue]
        lane.road.queue.put_nowait(bench.Heard(lane.road, Heartbeat((), 0, (), 0, (), (), 0, 0), 0.0))
        await plaza.settle(1)
        assert plaza.decisions() == []
        assert not lane.task.done()

    play(story)


def test_a_vehicle_that_goes_away_before_its_purchase_leaves_no_record(play):
    async def story(plaza):
        lane = plaza.lane()
        car = Car(1, answers_user=False)
        lane.road.meet(car)
        await plaza.settle()
        assert plaza.decisions() == []
        car.answers_user = True
        lane.road.meet(car)
        await plaza.settle()
        assert plaza.outcomes() == [PAID]

    play(story)


def test_a_refused_vehicle_is_left_alone_for_a_while_and_then_looked_at_again(play):
    async def story(plaza):
        lane = plaza.lane(quiet_s=10.0)
        car = Car(1, balance=0)
        for _ in range(3):
            lane.road.meet(car)
            await plaza.settle(3)
        assert len(plaza.decisions()) == 1
        await plaza.settle(3)
        car.balance = FARE
        lane.road.meet(car)
        await plaza.settle()
        assert plaza.outcomes()[1:] == [PAID]

    play(story)


def test_a_paid_vehicle_that_stands_still_lifts_the_barrier_now_and_then(play):
    async def story(plaza):
        lane = plaza.lane()
        car = Car(1)
        for _ in range(12):
            lane.road.meet(car)
            await plaza.settle(5)
        repeats = plaza.outcomes()[1:]
        assert plaza.outcomes()[0] == PAID
        assert set(repeats) == {REPEAT}
        assert len(repeats) == 1 + int((60 - 10) // (REPEAT_QUIET_S + 5))
        assert lane.board.lifts == len(plaza.decisions())

    play(story)


def test_what_a_lane_remembers_of_vehicles_is_bounded(play):
    async def story(plaza):
        lane = plaza.lane()
        for number in range(REMEMBERED_MAX + 5):
            lane.road.meet(Car(1000 + number, balance=0))
            await plaza.settle(0.5)
        assert len(lane.lane._remembered) == REMEMBERED_MAX

    play(story)


def test_a_drained_lane_finishes_who_is_there_and_begins_with_nobody(play):
    async def story(plaza):
        lane = plaza.lane()
        first, second = Car(1), Car(2)
        lane.road.meet(first)
        await plaza.settle(0.15)
        draining = asyncio.create_task(lane.lane.drain())
        await asyncio.sleep(0)
        refused = lane.road.meet(second)
        await draining
        assert plaza.outcomes() == [PAID]
        assert lane.board.lifts == 1
        assert [order.stop_type for order in refused.orders] == [StopType.SEARCH_AGAIN]
        assert second.paid == []

    play(story)


def test_a_trade_that_fails_is_reported_and_harms_nobody_else(play, monkeypatch):
    async def story(plaza):
        plaza.expect_trade_fault = True
        lane = plaza.lane()

        def broken(*_):
            raise ValueError("nobody thought of this")

        monkeypatch.setattr("gateway.points.etc.sale.card_problem", broken)
        lane.road.meet(Car(1))
        await plaza.settle()
        assert lane.fault("trade") == "ValueError: nobody thought of this"
        assert plaza.decisions() == []
        monkeypatch.undo()
        lane.road.meet(Car(2))
        await plaza.settle()
        assert lane.fault("trade") is None
        assert plaza.outcomes() == [PAID]

    play(story)


# --- storage --------------------------------------------------------------------------------------------------------


def test_a_ledger_that_does_not_store_in_time_sells_nothing(play):
    """The hold is handed in and comes too late: no C6, and the hold is let go again."""

    async def story(plaza):
        lane = plaza.lane()
        car = Car(1)
        with another_process_writes(plaza):
            lane.road.meet(car)
            await plaza.settle(3)
            assert lane.road.of(Debit) == []
            assert [type(order) for order in lane.road.orders] == [Continue, Stop]
            assert "too slow" in lane.fault("ledger")
        await plaza.settle(1)
        assert plaza.rows("select state from debit") == [("voided",)]
        assert plaza.rows("select state from purchase") == [("not_taken",)]
        assert car.paid == []
        assert lane.board.lifts == 0
        lane.road.meet(car)
        await plaza.settle()
        assert plaza.outcomes()[-1] == PAID
        assert lane.fault("ledger") is None

    play(story)


def test_a_ledger_known_to_be_busy_is_not_even_asked_for_a_hold(play):
    async def story(plaza):
        lane = plaza.lane()
        with another_process_writes(plaza):
            waiting = plaza.writer.submit(lambda tx: tx.next_number("test"))
            await asyncio.sleep(0)  # the writer hears of a change at the end of the turn
            wait_for_state(plaza, WriterState.BUSY)
            lane.road.meet(Car(1))
            await plaza.settle(1)
            assert [type(order) for order in lane.road.orders] == [Continue, Stop]
        await waiting
        assert plaza.rows("select count(*) from debit") == [(0,)]

    play(story)


def test_a_result_waits_for_a_busy_ledger_and_nothing_is_acknowledged_or_opened_before(play):
    async def story(plaza):
        lane = plaza.lane()
        car = Car(1)
        lane.road.meet(car)
        await plaza.settle(1.5 * bench.RADIO_S)
        assert lane.road.of(Debit)
        with another_process_writes(plaza):
            await plaza.settle(10)
            assert plaza.decisions() == []
            assert lane.board.done == []
            assert [type(order) for order in lane.road.orders] == [Continue, Debit]
        await plaza.settle()
        assert plaza.outcomes() == [PAID]
        assert lane.board.lifts == 1
        assert [type(order) for order in lane.road.orders] == [Continue, Debit, Continue]

    play(story)


@pytest.mark.parametrize("car", [Car(1), Car(1, balance=0)])
def test_a_full_disk_sells_and_refuses_nothing(play, car):
    car = replace(car)

    async def story(plaza):
        lane = plaza.lane()
        plaza.committer.full = True
        lane.road.meet(car)
        await plaza.settle()
        assert lane.road.of(Debit) == []
        assert lane.fault("ledger") is not None
        assert lane.board.lifts == 0
        plaza.committer.full = False
        wait_for_state(plaza, WriterState.WRITING)
        car.balance = FARE
        lane.road.meet(car)
        await plaza.settle()
        assert plaza.outcomes() == [PAID]
        assert lane.fault("ledger") is None

    play(story)


def test_a_result_that_the_ledger_will_not_take_is_not_acknowledged(play, monkeypatch):
    """The gateway is stopping under a purchase: the antenna keeps its result, and file 0019 tells at the next start."""

    async def story(plaza):
        lane = plaza.lane()
        car = Car(1)
        lane.road.meet(car)
        await plaza.settle(1.5 * bench.RADIO_S)
        assert lane.road.of(Debit)
        plaza.writer.stop()
        await plaza.settle(1)
        (result,) = [report for report in lane.road.heard if isinstance(report.message, DebitResult)]
        assert result.orders == []
        assert lane.board.lifts == 0
        await plaza.crash()
        plaza.lanes["lane-1"].road.meet(car)
        await plaza.settle()
        assert plaza.outcomes() == [PAID]
        assert len(car.paid) == 1

    play(story)


# --- board ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("failures", [1, 3])
def test_a_barrier_that_does_not_confirm_is_lifted_later_and_charged_once(play, failures):
    async def story(plaza):
        lane = plaza.lane()
        lane.board.broken_lifts = failures
        car = Car(1)
        lane.road.meet(car)
        await plaza.settle(1.5)
        assert plaza.outcomes() == [PAID]
        assert lane.board.lifts == 0
        assert lane.fault("barrier") is not None
        (timing,) = lane.timings
        assert timing.barrier_us is None
        await plaza.settle(10)
        assert lane.board.lifts == 1
        assert lane.board.tried == failures + 1
        assert lane.fault("barrier") is None
        assert len(car.paid) == 1

    play(story)


def test_a_barrier_that_never_confirms_is_given_up(play):
    async def story(plaza):
        lane = plaza.lane()
        lane.board.broken_lifts = 1000
        lane.road.meet(Car(1))
        await plaza.settle(200)
        assert lane.board.tried == 1 + LIFT_TRIES_MAX
        assert lane.board.lifts == 0
        assert lane.fault("barrier") is not None

    play(story)


def test_an_opening_that_nobody_answered_is_not_ordered_again(play):
    """The frozen board thaws and lifts it late: a second order would have let the next vehicle pass free."""

    async def story(plaza):
        lane = plaza.lane()
        lane.board.unknown_lifts.append("lifted")
        lane.road.meet(Car(1))
        await plaza.settle(1.5)
        assert plaza.outcomes() == [PAID]
        assert lane.board.lifts == 0
        assert lane.fault("barrier") is not None
        await plaza.settle(100)
        assert (lane.board.records, lane.board.lifts) == ([1], 1)
        assert lane.fault("barrier") is None

    play(story)


def test_an_opening_nobody_can_know_of_is_the_attendants(play):
    async def story(plaza):
        lane = plaza.lane()
        lane.board.unknown_lifts.append(None)
        lane.road.meet(Car(1))
        await plaza.settle(100)
        assert lane.board.records == [1]
        assert lane.fault("barrier") == "record 1: no word"
        lane.road.meet(Car(2, balance=0))
        await plaza.settle(10)
        assert lane.fault("barrier") == "record 1: no word"  # refusing the next one has opened nothing
        lane.road.meet(Car(3))
        await plaza.settle(10)
        assert lane.fault("barrier") is None

    play(story)


def test_an_opening_proved_lost_is_ordered_once_more(play):
    async def story(plaza):
        lane = plaza.lane()
        lane.board.unknown_lifts.append("lost")
        lane.road.meet(Car(1))
        await plaza.settle(100)
        assert (lane.board.records, lane.board.lifts) == ([1, 1], 1)
        assert lane.fault("barrier") is None

    play(story)


def test_a_vehicle_seen_again_while_its_opening_is_under_way_gets_no_second_one(play):
    async def story(plaza):
        lane = plaza.lane()
        lane.board.unknown_lifts.append("lifted")
        car = Car(1)
        lane.road.meet(car)
        await plaza.settle(1.3)
        lane.road.meet(car)
        await plaza.settle(0.5)
        assert plaza.outcomes() == [PAID, REPEAT]
        await plaza.settle(20)
        assert (lane.board.records, lane.board.lifts) == ([1], 1)
        assert lane.lane._releaser.under_way == set()
        await plaza.settle(REPEAT_QUIET_S)
        lane.road.meet(car)
        await plaza.settle(5)
        assert lane.board.records == [1, 3]  # it stands there still: its own decision, its own opening

    play(story)


def test_a_lamp_that_fails_does_not_lift_the_barrier_for_the_next_car(play):
    async def story(plaza):
        lane = plaza.lane()
        lane.board.broken_lamps = 1
        lane.road.meet(Car(1))
        await plaza.settle(20)
        assert lane.board.tried == 1
        assert lane.fault("barrier") == "the lamp does not answer"
        assert lane.timings[0].barrier_us is not None

    play(story)


def test_a_slow_board_does_not_hold_up_the_next_vehicle(play):
    async def story(plaza):
        lane = plaza.lane()
        lane.board.broken_lifts = 2
        lane.road.meet(Car(1))
        await plaza.settle(0.25)
        lane.road.meet(Car(2))
        await plaza.settle(0.25)
        assert plaza.outcomes() == [PAID, PAID]
        await plaza.settle(20)
        assert lane.board.lifts == 2

    play(story)


def test_a_lane_that_is_cancelled_takes_its_trades_with_it(play):
    async def story(plaza):
        lane = plaza.lane()
        car = Car(1, script=bench.deque([Purchase(takes=True, error=None)]))
        lane.road.meet(car)
        await plaza.settle(0.25)
        lane.task.cancel()
        await asyncio.gather(lane.task, return_exceptions=True)
        await plaza.settle()
        assert not lane.lane._tasks
        assert plaza.rows("select state from purchase") == [("intent",)]

    play(story)
