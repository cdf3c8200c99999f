"""A lane's barrier and lamps on a stand-in of the board, under a clock that only this file turns."""

import asyncio
import heapq
import itertools
from datetime import UTC, datetime

import pytest

from drivers.errors import DeviceRefused, DeviceTimeout, DeviceUnavailable, LinkLost, Outcome
from drivers.lane_io import OFF_TRIES_MAX, TRIES_MAX, LaneOutputs

BARRIER, GREEN, RED = 0, 1, 2
PULSE_MS = 500


class HandClock:
    """Time stands still until `advance` moves it."""

    def __init__(self):
        self.now = 1000.0
        self._sleepers = []
        self._order = itertools.count()

    def monotonic(self):
        return self.now

    def utcnow(self):
        return datetime.fromtimestamp(self.now, UTC)

    async def sleep(self, seconds):
        wake = asyncio.get_running_loop().create_future()
        heapq.heappush(self._sleepers, (self.now + max(0.0, seconds), next(self._order), wake))
        await wake

    async def advance(self, seconds):
        end = self.now + seconds
        await settle()
        while self._sleepers and self._sleepers[0][0] <= end:
            self.now, _, wake = heapq.heappop(self._sleepers)
            if not wake.done():
                wake.set_result(None)
            await settle()
        self.now = end


async def settle():
    for _ in range(20):
        await asyncio.sleep(0)


class Board:
    """Coils that record every write. `faults` are raised one per write, after `applied` says if it switched."""

    name = "board-1"

    def __init__(self):
        self.clock = HandClock()
        self.coils = {}
        self.writes = []
        self.rising = []
        self.faults = []
        self.down = False
        self.answers = asyncio.Event()  # cleared: the board has the request and thinks
        self.answers.set()
        self.abandoned = 0

    async def write_coils(self, address, values, *, timeout_s):
        assert timeout_s > 0
        try:
            await asyncio.sleep(0)
            await self.answers.wait()
        except asyncio.CancelledError:
            self.abandoned += 1
            raise
        fault, applied = self.faults.pop(0) if self.faults else (None, True)
        if self.down:
            fault, applied = not_sent(), False
        if applied:
            for coil, on in enumerate(values, start=address):
                self.writes.append((coil, on))
                if on and not self.coils.get(coil):
                    self.rising.append(coil)
                self.coils[coil] = on
        if fault is not None:
            raise fault

    async def write_coil(self, address, on, *, timeout_s):
        await self.write_coils(address, [on], timeout_s=timeout_s)


def not_sent():
    return DeviceUnavailable("gone", device="board-1")


def silent():
    return DeviceTimeout("no answer", device="board-1")


def refused():
    return DeviceRefused("no", device="board-1")


def lane_on(board, **changed):
    wiring = {"barrier_coil": BARRIER, "green_coil": GREEN, "red_coil": RED, "pulse_ms": PULSE_MS} | changed
    return LaneOutputs(board, **wiring)


async def finish(board, operation, step_s=0.05, steps=400):
    """Turn the clock until the operation ends; give its result or error."""
    task = asyncio.create_task(operation)
    for _ in range(steps):
        await settle()
        if task.done():
            return await task
        await board.clock.advance(step_s)
    raise AssertionError("the operation does not end")


def test_opening_is_one_pulse():
    async def scenario():
        board = Board()
        lane = lane_on(board)
        await lane.open_barrier()
        assert board.coils[BARRIER] is True
        await board.clock.advance(PULSE_MS / 1000 - 0.001)
        assert board.coils[BARRIER] is True
        await board.clock.advance(0.001)
        assert board.writes == [(BARRIER, True), (BARRIER, False)]
        await lane.close()
        assert len(board.writes) == 2

    asyncio.run(scenario())


def test_a_lost_answer_is_tried_again_and_makes_one_edge():
    async def scenario():
        board = Board()
        board.faults = [(silent(), True), (not_sent(), False)]
        lane = lane_on(board)
        await finish(board, lane.open_barrier())
        assert board.rising == [BARRIER]
        await lane.close()

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("faults", "outcome", "writes"),
    [
        ([(not_sent(), False)] * 99, Outcome.NOT_SENT, 0),
        ([(silent(), False), *[(not_sent(), False)] * 99], Outcome.UNKNOWN, 0),
        ([(silent(), True), (refused(), False)], Outcome.UNKNOWN, 1),
        ([(refused(), False)], Outcome.REFUSED, 0),
    ],
    ids=["never sent", "once silent", "silent, then refused", "refused"],
)
def test_giving_up_tells_the_worst_that_may_have_happened(faults, outcome, writes):
    async def scenario():
        board = Board()
        board.faults = list(faults)
        lane = lane_on(board)
        with pytest.raises((DeviceUnavailable, DeviceTimeout, DeviceRefused)) as caught:
            await finish(board, lane.open_barrier(timeout_s=0.5))
        assert caught.value.outcome is outcome
        assert board.writes == [(BARRIER, True)] * writes
        board.faults = []
        await lane.close()
        assert board.coils[BARRIER] is False  # whatever happened to the on, the off follows

    asyncio.run(scenario())


def test_the_time_bounds_the_tries():
    async def scenario():
        board = Board()
        board.down = True
        lane = lane_on(board)
        start = board.clock.now
        with pytest.raises(DeviceUnavailable):
            await finish(board, lane.show_go(timeout_s=0.3), step_s=0.01)
        assert board.clock.now - start == pytest.approx(0.3, abs=0.02)
        with pytest.raises(DeviceUnavailable):
            await finish(board, lane.show_go(timeout_s=3600.0))
        assert board.clock.now - start < 0.32 + (TRIES_MAX + 1) * 0.06

    asyncio.run(scenario())


def test_no_time_is_not_sent():
    async def scenario():
        board = Board()
        with pytest.raises(DeviceTimeout) as caught:
            await lane_on(board).show_go(timeout_s=0.0)
        assert caught.value.outcome is Outcome.NOT_SENT
        assert board.writes == []

    asyncio.run(scenario())


def test_the_next_opening_ends_the_running_pulse_first():
    async def scenario():
        board = Board()
        lane = lane_on(board)
        await lane.open_barrier()
        await board.clock.advance(0.1)
        await lane.open_barrier()
        assert board.writes == [(BARRIER, True), (BARRIER, False), (BARRIER, True)]
        await board.clock.advance(PULSE_MS / 1000 - 0.05)
        assert board.coils[BARRIER] is True  # the first pulse's end does not shorten the second
        await board.clock.advance(0.05)
        assert board.coils[BARRIER] is False

    asyncio.run(scenario())


def test_an_off_under_way_is_not_abandoned_by_the_next_opening():
    async def scenario():
        board = Board()
        lane = lane_on(board)
        await lane.open_barrier()
        board.answers.clear()
        await board.clock.advance(PULSE_MS / 1000)  # the off is with the board
        opening = asyncio.create_task(lane.open_barrier())
        await settle()
        board.answers.set()
        await opening
        assert board.abandoned == 0  # it would have cost every lane the connection
        assert board.writes == [(BARRIER, True), (BARRIER, False), (BARRIER, True)]
        await lane.close()

    asyncio.run(scenario())


def test_an_opening_behind_an_unfinished_pulse_is_not_sent():
    async def scenario():
        board = Board()
        lane = lane_on(board)
        await lane.open_barrier()
        board.faults = [(LinkLost("cut", device="board-1"), False)] * 99
        with pytest.raises(DeviceUnavailable, match="last pulse has not ended") as caught:
            await finish(board, lane.open_barrier(timeout_s=0.3))
        assert caught.value.outcome is Outcome.NOT_SENT
        board.faults = []
        await board.clock.advance(3.0)
        assert board.coils[BARRIER] is False  # the background went on trying
        assert board.rising == [BARRIER]

    asyncio.run(scenario())


def test_a_pulse_ends_when_the_board_comes_back():
    async def scenario():
        board = Board()
        lane = lane_on(board)
        await lane.open_barrier()
        board.down = True
        await board.clock.advance(60.0)
        assert board.coils[BARRIER] is True
        board.down = False
        await board.clock.advance(2.0)
        assert board.coils[BARRIER] is False
        await lane.open_barrier()
        assert board.rising == [BARRIER, BARRIER]
        await lane.close()

    asyncio.run(scenario())


def test_tries_to_end_a_pulse_are_bounded():
    async def scenario():
        board = Board()
        tries = itertools.count()
        lane = lane_on(board)
        await lane.open_barrier()
        write = board.write_coil

        async def failing(*_args, **_kwargs):
            next(tries)
            raise not_sent()

        board.write_coil = failing
        await board.clock.advance(3 * OFF_TRIES_MAX)
        assert next(tries) == OFF_TRIES_MAX
        board.write_coil = write
        await lane.open_barrier()  # still owed: off, then on
        assert board.writes[-2:] == [(BARRIER, False), (BARRIER, True)]
        await lane.close()

    asyncio.run(scenario())


def test_neighbouring_lamps_switch_in_one_request():
    async def scenario():
        board = Board()
        lane = lane_on(board)
        await lane.show_go()
        assert board.writes == [(GREEN, True), (RED, False)]
        await lane.show_stop()
        assert board.writes[2:] == [(GREEN, False), (RED, True)]
        swapped = Board()
        lane = lane_on(swapped, green_coil=RED, red_coil=GREEN)
        await lane.show_go()
        assert swapped.writes == [(GREEN, False), (RED, True)]  # names are of the usual wiring: coil 2 is green here

    asyncio.run(scenario())


def test_lamps_apart_never_show_a_green_before_the_red_is_off_nor_after_it_is_on():
    async def scenario():
        board = Board()
        lane = lane_on(board, green_coil=5, red_coil=9)
        await lane.show_go()
        await lane.show_stop()
        assert board.writes == [(9, False), (5, True), (9, True), (5, False)]

    asyncio.run(scenario())


def test_safe_state_closes_and_shows_red():
    async def scenario():
        board = Board()
        board.coils = {BARRIER: True, GREEN: True, RED: False}  # an earlier process was killed in a pulse
        lane = lane_on(board)
        await lane.safe_state()
        assert board.coils == {BARRIER: False, GREEN: False, RED: True}
        await lane.open_barrier()
        await lane.safe_state()
        assert board.coils == {BARRIER: False, GREEN: False, RED: True}
        written = len(board.writes)
        await board.clock.advance(10.0)
        assert len(board.writes) == written

    asyncio.run(scenario())


def test_safe_state_without_a_board_raises_and_switches_the_barrier_off_later():
    async def scenario():
        board = Board()
        board.coils = {BARRIER: True}
        board.down = True
        lane = lane_on(board)
        with pytest.raises(DeviceUnavailable):
            await finish(board, lane.safe_state(timeout_s=0.2))
        board.down = False
        await board.clock.advance(3.0)
        assert board.coils[BARRIER] is False

    asyncio.run(scenario())


def test_a_coil_left_on_by_an_earlier_process_does_not_swallow_the_first_opening():
    async def scenario():
        board = Board()
        board.coils = {BARRIER: True}
        board.down = True
        lane = lane_on(board)
        with pytest.raises(DeviceUnavailable):
            await finish(board, lane.safe_state(timeout_s=0.2))
        board.down = False
        await lane.open_barrier()
        assert board.rising == [BARRIER]
        await lane.close()

    asyncio.run(scenario())


def test_one_operation_of_a_lane_at_a_time():
    async def scenario():
        board = Board()
        lane = lane_on(board)
        board.down = True
        first = asyncio.create_task(lane.show_go(timeout_s=0.5))
        await settle()
        with pytest.raises(DeviceTimeout) as caught:
            await lane.open_barrier(timeout_s=0.01)
        assert caught.value.outcome is Outcome.NOT_SENT
        first.cancel()
        await asyncio.gather(first, return_exceptions=True)
        board.down = False
        await lane.show_stop()  # the turn was given back

    asyncio.run(scenario())


def test_wiring_is_checked():
    with pytest.raises(ValueError, match="share a coil"):
        lane_on(Board(), red_coil=GREEN)
    with pytest.raises(ValueError, match="not positive"):
        lane_on(Board(), pulse_ms=0)
