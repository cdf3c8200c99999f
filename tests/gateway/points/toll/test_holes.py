"""Lane histories that could cost money where two readings, two lanes or a stalling disk meet."""

import asyncio
import threading
from contextlib import contextmanager
from datetime import timedelta

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.ledger.reading import Reader
from gateway.outbox.worker import OutboxWorker
from gateway.points.etc.settings import OnePiecePolicy
from protocols.rsu.messages import Debit, DeviceType, Stop, UserReport
from tests.gateway.points import plaza as bench
from tests.gateway.points.plaza import FARE, RADIO_S, Car

plaza_made_once, play = bench.plaza_made_once, bench.play

PAID = ("paid", "go", None)
REPEAT = ("repeat", "go", "already_charged")
OWED = ("owed", "go", "bank_silent")
ONE_PIECE = {"one_piece_tags": OnePiecePolicy.CONTRACT}
CHARGE = 23
STALL_S_MAX = 20.0


@contextmanager
def stalled_disk(plaza):
    """Commits do not return, and nothing says so: the writer still believes that it writes."""
    gate, commit = threading.Event(), plaza.committer.commit

    def waits(changes):
        assert gate.wait(STALL_S_MAX)
        return commit(changes)

    plaza.committer.commit = waits
    plaza.selector.storage_stuck = True
    try:
        yield
    finally:
        plaza.committer.commit = commit
        plaza.selector.storage_stuck = False
        gate.set()


async def drain(plaza, rounds=4):
    """What the bank must still hear."""
    worker = OutboxWorker(plaza.bank, plaza.writer, plaza.queries, clock=plaza.clock, random=plaza.random)
    for _ in range(rounds):
        for row in await worker._due():
            await worker._send(row)
        await plaza.settle(2)


# --- a disk that stalls -------------------------------------------------------------------------------------------


def test_a_second_reading_does_not_work_with_a_hold_that_is_being_given_up(play):
    """Two readings of one vehicle, one key, one hold; the first has given up by the time it is durable."""

    async def story(plaza):
        lane = plaza.lane()
        car = Car(1)
        with stalled_disk(plaza):
            lane.road.meet(car)
            await plaza.settle(2.5)
            lane.road.meet(car)
            await plaza.settle(1)
        await plaza.settle(1)
        assert lane.road.of(Debit) == []
        assert plaza.rows("select state from debit") == [("voided",)]
        lane.road.meet(car)
        await plaza.settle()
        assert plaza.outcomes()[-1] == PAID
        assert len(car.paid) == 1
        assert plaza.balance("issuer") == -FARE

    play(story)


def test_a_one_piece_tag_sold_to_after_a_hold_that_came_too_late(play):
    async def story(plaza):
        lane = plaza.lane(**ONE_PIECE)
        car = Car(bench.GOOD, device_type=2)
        plaza.bank.answers.append(bench.APPROVED)
        with stalled_disk(plaza):
            lane.road.meet(car)
            await plaza.settle(3)
        await plaza.settle(1)
        assert plaza.rows("select state from debit") == [("voided",)]
        assert plaza.rows("select state from attempt") == [("not_sent",)], "stored with the claim, and kept back"
        assert plaza.rows("select count(*) from outbox") == [(0,)]
        assert plaza.bank.heard == []
        lane.road.meet(car)
        await plaza.settle()
        assert plaza.outcomes()[-1] == PAID
        assert len(plaza.bank.heard) == 1

    play(story)


# --- a query that does not end ------------------------------------------------------------------------------------


def test_a_query_that_takes_long_delays_no_vehicle(play):
    """Whatever else reads of the ledger does so beside the loop, and beside what vehicles wait for."""
    begun, ends = threading.Event(), threading.Event()

    def slow(_):
        begun.set()
        assert ends.wait(STALL_S_MAX)
        return "at last"

    async def story(plaza):
        lane = plaza.lane()
        waiting = Reader._hand_in(plaza.queries, slow, urgent=False)  # time passes meanwhile
        while not begun.is_set():
            await asyncio.sleep(0)
        lane.road.meet(Car(1))
        await plaza.settle()
        assert plaza.outcomes() == [PAID]
        assert lane.board.lifts == 1
        assert not waiting.done()
        ends.set()
        while not waiting.done():
            await asyncio.sleep(0)
        assert waiting.result() == "at last"

    play(story)


# --- the bank's answer is lost with whoever asked -----------------------------------------------------------------


def test_a_one_piece_tag_whose_trade_failed_at_the_bank_is_finished_at_the_next_reading(play):
    """The sale has left; it is reversed, not asked again."""

    async def story(plaza):
        plaza.expect_trade_fault = True
        lane = plaza.lane(**ONE_PIECE)
        car = Car(bench.GOOD, device_type=2)
        exchange = plaza.bank.exchange

        async def breaks(request, *, timeout_s):
            plaza.bank.exchange = exchange
            plaza.bank.heard.append(request.decode())
            raise RuntimeError("a bug in a link")

        plaza.bank.exchange = breaks
        lane.road.meet(car)
        await plaza.settle()
        assert lane.fault("trade") == "RuntimeError: a bug in a link"
        lane.road.meet(car)
        await plaza.settle()
        assert plaza.outcomes() == [OWED]
        plaza.bank.answers += [bench.APPROVED, bench.APPROVED]
        await drain(plaza)
        assert [m.split()[0] for m in plaza.bank.heard] == ["sale", "reversal", "advice"]
        assert plaza.rows("select state from debit") == [("funded",)]

    play(story)


def test_a_charge_card_whose_trade_failed_at_the_bank_is_not_charged_again(play):
    """The card has paid and says so; nothing but the decision is missing."""

    async def story(plaza):
        plaza.expect_trade_fault = True
        lane = plaza.lane()
        car = Car(bench.GOOD, card_type=CHARGE)
        exchange = plaza.bank.exchange

        async def breaks(request, *, timeout_s):
            plaza.bank.exchange = exchange
            raise RuntimeError("a bug in a link")

        plaza.bank.exchange = breaks
        lane.road.meet(car)
        await plaza.settle()
        assert plaza.decisions() == []
        lane.road.meet(car)
        await plaza.settle()
        assert plaza.outcomes() == [OWED]
        assert len(car.paid) == 1
        lane.road.meet(car)
        await plaza.settle()
        assert plaza.outcomes()[-1][0] == "repeat"

    play(story)


def test_a_purchase_whose_trade_failed_behind_c6_is_proved_at_the_next_reading(play):
    """Nobody has written down yet how it ended: it is asked of file 0019 like any other that has no end."""

    async def story(plaza):
        plaza.expect_trade_fault = True
        lane = plaza.lane()
        car = Car(1, script=bench.deque([bench.Purchase(takes=True, error=None)]))
        obey = lane.road.obey

        def breaks(report, order):
            obey(report, order)
            if not isinstance(order, Debit):
                return
            lane.road.obey = obey
            raise RuntimeError("a bug in a driver")

        lane.road.obey = breaks
        lane.road.meet(car)
        await plaza.settle()
        assert plaza.rows("select state from purchase") == [("intent",)]
        lane.road.meet(car)
        await plaza.settle()
        assert plaza.outcomes() == [PAID]
        assert len(car.paid) == 1

    play(story)


# --- the lane next door -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("one_piece", [False, True])
def test_a_lane_next_door_does_not_charge_while_the_bank_is_asked(play, one_piece):
    async def story(plaza):
        first, second = plaza.lane("lane-1", **ONE_PIECE), plaza.lane("lane-2", **ONE_PIECE)
        car = Car(bench.GOOD, card_type=CHARGE, device_type=2 if one_piece else 1)
        plaza.bank.answers.append(bench.APPROVED)
        plaza.bank.delay_s = 1.0
        first.road.meet(car)
        await plaza.settle(4 * RADIO_S)
        assert len(plaza.bank.heard) == 1
        second.road.meet(car)
        await plaza.settle(3 * RADIO_S)
        assert [type(o) for o in second.road.orders][-1] is Stop
        await plaza.settle()
        assert [(d[0], d[1]) for d in plaza.decisions()] == [("lane-1", "paid")]
        assert len(plaza.bank.heard) == 1
        assert len(car.paid) <= 1
        assert second.board.lifts == 0

    play(story)


# --- clocks -------------------------------------------------------------------------------------------------------


def test_of_two_purchases_the_later_one_counts_though_the_clock_was_set_back_between(play):
    async def story(plaza):
        lane = plaza.lane()
        car = Car(1)
        lane.road.meet(car)
        await plaza.settle(301)
        plaza.clock.shift = timedelta(hours=-2)
        lane.road.meet(car)
        await plaza.settle()
        lane.road.meet(car)
        await plaza.settle()
        assert plaza.outcomes() == [PAID, PAID, REPEAT]
        assert len(car.paid) == 2

    play(story)


# --- whatever is read ---------------------------------------------------------------------------------------------

NOISE = st.fixed_dictionaries(
    {
        "vehicle_file": st.one_of(st.none(), st.binary(min_size=79, max_size=79), st.binary(min_size=59, max_size=59)),
        "card_file": st.one_of(st.none(), st.binary(min_size=50, max_size=50), st.binary(min_size=43, max_size=43)),
        "station": st.binary(min_size=43, max_size=43),
        "balance_raw": st.one_of(st.none(), st.integers(0, 0xFFFFFFFF)),
    }
)


def test_whatever_stands_on_tag_and_card_every_vehicle_gets_a_decision(play):
    """Raw noise, and good files mixed with it: recorded with a reason or sold to, never a failed trade."""
    cases = []

    @settings(max_examples=80, derandomize=True, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(noise=NOISE, kept=st.sets(st.sampled_from(sorted(UserReport.__slots__))), device=st.sampled_from(DeviceType))
    def draw(noise, kept, device):
        cases.append((noise, kept, device))

    draw()

    async def story(plaza):
        lane = plaza.lane(**ONE_PIECE)
        for number, (noise, kept, device) in enumerate(cases, 1000):
            good = Car(number, device_type=device)
            read = {name: getattr(good.user_report(), name) if name in kept else value for name, value in noise.items()}
            good.user_report = lambda car=good, read=read: UserReport(car.obu_id, 0, 0, **read)
            before = len(plaza.decisions())
            lane.road.meet(good)
            await plaza.settle(3)
            assert lane.fault("trade") is None, (device, read)
            assert len(plaza.decisions()) == before + 1, (device, read)

    play(story)


def test_reports_of_one_tag_that_pile_up_while_its_bank_is_asked_are_one_vehicle(play):
    async def story(plaza):
        lane = plaza.lane()
        car = Car(bench.GOOD, card_type=CHARGE)
        plaza.bank.answers.append(bench.APPROVED)
        plaza.bank.delay_s = 1.0
        lane.road.meet(car)
        await plaza.settle(4 * RADIO_S)
        for _ in range(30):
            lane.road.meet(car)
            await asyncio.sleep(0.01)
        await plaza.settle()
        assert plaza.outcomes() == [PAID]
        assert len(car.paid) == 1
        assert len(plaza.bank.heard) == 1

    play(story)
