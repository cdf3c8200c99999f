"""What readings of a closed limit prove, against every arm that could have been there; and the lane's use of it."""

import asyncio
import random

import pytest

from drivers.barrier_arm import ArmWatch
from drivers.errors import DeviceRefused, DeviceTimeout, DeviceUnavailable, RequestOutcome, Unanswered
from drivers.lane_io import LOOKS_A_TRAVEL, LaneOutputs
from tests.drivers.hand_clock import HandClock, finish, settle

TRAVEL_S = 1.0
LIMIT = 7


def proved(ordered_at, readings):
    """Whether these readings (asked, answered), all closed, prove that the arm has not moved."""
    watch = ArmWatch(ordered_at, TRAVEL_S)
    late_enough = [watch.closed(asked, answered) for asked, answered in readings][-1]
    return late_enough and watch.unbroken


@pytest.mark.parametrize(
    ("readings", "expected"),
    [
        ([(0.3, 0.3)], False),  # it may not have begun to move
        ([(0.3, 0.3), (0.8, 0.8)], False),  # nor have left its limit
        ([(0.3, 0.3), (0.8, 0.8), (1.3, 1.3)], True),
        ([(0.3, 1.9), (2.0, 2.0), (2.9, 2.9)], False),  # the first reading may be old: what came between is unseen
        ([(0.3, 1.2), (1.35, 1.36), (1.8, 1.8), (2.2, 2.2)], False),  # so is this one, by a little
        ([(0.3, 1.1), (1.2, 1.2), (1.7, 1.7), (2.1, 2.1)], True),
        ([(1.9, 1.9), (2.4, 2.4), (2.9, 2.9)], True),
        ([(1.9, 2.0), (2.4, 2.4), (3.0, 3.0)], False),  # up and down again before anybody looked
        ([(0.3, 0.3), (1.3, 1.3)], False),  # as far apart as that, it could be back
        ([(0.3, 0.3), (0.8, 1.4), (1.5, 1.5)], False),
    ],
)
def test_what_is_a_proof(readings, expected):
    assert proved(0.0, readings) is expected


def test_no_arm_that_moved_is_ever_proved_to_have_lain_still():
    """Arms of every kind the theory allows, read at moments of every kind."""
    chance = random.Random(1)
    found = 0
    for _ in range(20_000):
        readings, now = [], chance.uniform(0.0, 2.2)
        for _ in range(chance.randint(2, 8)):
            asked = now
            now += chance.choice((0.01, 0.02, chance.uniform(0, 0.9)))
            readings.append((asked, now))
            now += chance.choice((0.1, 0.25, chance.uniform(0, 0.8)))
        if not proved(0.0, readings):
            continue
        found += 1
        executed = chance.uniform(0.0, readings[0][1])
        leaves, back = executed + chance.uniform(0.0, TRAVEL_S), executed + chance.uniform(2.0, 4.0) * TRAVEL_S
        # Whenever between question and answer the board has looked, one reading must have missed the closed arm.
        assert any(leaves <= asked and answered < back for asked, answered in readings)
    assert found > 500


class Board:
    """A board that has the order and says nothing; its limit reads as told."""

    name = "board-1"

    def __init__(self, *limit):
        self.clock = HandClock()
        self.limit = list(limit)
        self.orders = 0
        self.offs = 0
        self.asked = []

    async def order_coil(self, address, *, turn_s, answer_s):
        self.orders += 1
        sent_at = self.clock.now
        await self.clock.sleep(answer_s)
        raise Unanswered("no answer", device=self.name, connection=3, sent_at=sent_at)

    async def write_coil(self, address, on, *, timeout_s):
        self.offs += not on

    async def read_inputs(self, address, count, *, timeout_s, connection):
        self.asked.append((address, count, connection))
        reading = self.limit.pop(0)
        if reading == "silent":
            await self.clock.sleep(timeout_s)
            raise DeviceTimeout("no answer", device=self.name)
        if reading == "lost":
            raise DeviceUnavailable("connection 3 has ended", device=self.name)
        if reading == "slow":
            await self.clock.sleep(TRAVEL_S)
        return (reading != "up",)


def open_on(board, **changed):
    lane = LaneOutputs(board, **{"barrier_coil": 0, "green_coil": 1, "red_coil": 2, "pulse_ms": 500} | changed)

    async def opened():
        try:
            await lane.open_barrier(1)
        except DeviceTimeout:
            await lane.confirm_opening(1)

    return lane, opened()


@pytest.mark.parametrize(
    ("limit", "outcome"),
    [
        (["closed"] * (LOOKS_A_TRAVEL + 1), RequestOutcome.REFUSED),
        (["closed", "up"], None),
        (["up"], None),
        (["closed", "closed", "silent"], RequestOutcome.UNKNOWN),
        (["lost"], RequestOutcome.UNKNOWN),
        (["closed", "lost"], RequestOutcome.UNKNOWN),
        (["slow", *["closed"] * 9], RequestOutcome.UNKNOWN),  # so late that the arm could be down again
        (["slow", "closed", "up"], None),
    ],
    ids=["lay still", "moved", "up already", "silent", "connection lost", "lost later", "too late", "late, and moved"],
)
def test_an_unanswered_opening_is_looked_at(limit, outcome):
    async def scenario():
        board = Board(*limit)
        lane, opened = open_on(board, closed_limit=LIMIT, travel_ms=int(TRAVEL_S * 1000))
        if outcome is None:
            await finish(board.clock, opened)
        else:
            with pytest.raises((DeviceTimeout, DeviceRefused)) as caught:
                await finish(board.clock, opened)
            assert caught.value.outcome is outcome
        assert board.orders == 1
        assert set(board.asked) == {(LIMIT, 1, 3)}
        await settle()
        await lane.close()
        assert board.offs == 1

    asyncio.run(scenario())


def test_without_a_limit_nothing_is_asked_and_nothing_is_proved():
    async def scenario():
        board = Board()
        lane, opened = open_on(board)
        with pytest.raises(DeviceTimeout) as caught:
            await finish(board.clock, opened)
        assert caught.value.outcome is RequestOutcome.UNKNOWN
        assert (board.orders, board.asked) == (1, [])
        await lane.close()

    asyncio.run(scenario())


def test_while_an_opening_is_open_to_question_the_next_one_is_not_sent():
    async def scenario():
        board = Board("closed", "up")
        lane, opened = open_on(board, closed_limit=LIMIT, travel_ms=1000)
        first = asyncio.create_task(opened)
        await settle()
        with pytest.raises(DeviceTimeout) as caught:
            await lane.open_barrier(2, timeout_s=0.01)
        assert caught.value.outcome is RequestOutcome.NOT_SENT
        await finish(board.clock, asyncio.wait_for(first, None))
        with pytest.raises(DeviceTimeout, match="followed by another one") as caught:
            await lane.confirm_opening(2)
        assert caught.value.outcome is RequestOutcome.UNKNOWN
        assert board.orders == 1
        await lane.close()

    asyncio.run(scenario())


def test_closing_ends_an_opening_that_nobody_has_confirmed():
    async def scenario():
        board = Board("closed")
        lane = LaneOutputs(board, barrier_coil=0, green_coil=1, red_coil=2, pulse_ms=500, closed_limit=LIMIT)
        with pytest.raises(DeviceTimeout):
            await lane.open_barrier(1, timeout_s=0.05)
        confirming = asyncio.create_task(lane.confirm_opening(1))
        await settle()
        await lane.close()
        with pytest.raises(DeviceTimeout, match="given up"):
            await confirming
        assert board.offs == 1

    asyncio.run(scenario())
