"""A lane's barrier and lamps on a stand-in of the board, under a clock that only this file turns."""

import asyncio
import itertools

import pytest

from drivers.errors import DeviceRefused, DeviceTimeout, DeviceUnavailable, LinkLost, RequestOutcome
from drivers.lane_io import OFF_TRIES_MAX, TRIES_MAX, LaneOutputs
from tests.drivers.hand_clock import HandClock, finish, settle

BARRIER, GREEN, RED = 0, 1, 2
PULSE_MS = 500


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

    async def order_coil(self, address, *, turn_s, answer_s):
        await self.write_coils(address, [True], timeout_s=turn_s)


def not_sent():
    return DeviceUnavailable("gone", device="board-1")


def silent():
    return DeviceTimeout("no answer", device="board-1")


def refused():
    return DeviceRefused("no", device="board-1")


def lane_on(board, **changed):
    wiring = {"barrier_coil": BARRIER, "green_coil": GREEN, "red_coil": RED, "pulse_ms": PULSE_MS} | changed
    return LaneOutputs(board, **wiring)


def test_opening_is_one_pulse():
    async def scenario():
        board = Board()
        lane = lane_on(board)
        await lane.open_barrier(1)
        assert board.coils[BARRIER] is True
        await board.clock.advance(PULSE_MS / 1000 - 0.001)
        assert board.coils[BARRIER] is True
        await board.clock.advance(0.001)
        assert board.writes == [(BARRIER, True), (BARRIER, False)]
        await lane.close()
        assert len(board.writes) == 2

    asyncio.run(scenario())


@pytest.mark.parametrize("applied", [False, True])
@pytest.mark.parametrize("error", [DeviceTimeout, LinkLost])
def test_an_opening_that_may_have_been_done_is_never_ordered_again(error, applied):
    async def scenario():
        board = Board()
        board.faults = [(error("no word", device="board-1"), applied)]
        lane = lane_on(board, closed_limit=7)
        with pytest.raises(error) as caught:
            await finish(board.clock, lane.open_barrier(1))
        assert caught.value.outcome is RequestOutcome.UNKNOWN
        with pytest.raises(error):
            await finish(board.clock, lane.confirm_opening(1))
        await board.clock.advance(10.0)
        assert [coil for coil, on in board.writes if on] == [BARRIER] * applied
        await lane.close()

    asyncio.run(scenario())


def test_an_opening_that_was_not_sent_is_tried_again():
    async def scenario():
        board = Board()
        board.faults = [(not_sent(), False), (not_sent(), False)]
        lane = lane_on(board)
        await finish(board.clock, lane.open_barrier(1))
        await lane.confirm_opening(1)
        assert board.rising == [BARRIER]
        await lane.close()

    asyncio.run(scenario())


def test_an_on_nobody_answered_may_come_behind_its_off_and_does_not_swallow_the_next_opening():
    async def scenario():
        board = Board()
        board.faults = [(LinkLost("cut", device="board-1"), False)]
        lane = lane_on(board)
        with pytest.raises(LinkLost):
            await finish(board.clock, lane.open_barrier(1))
        await board.clock.advance(1.0)
        assert board.writes == [(BARRIER, False)]
        board.coils[BARRIER] = True  # a frozen board has thawed and works off the lost connection last
        await lane.open_barrier(2)
        assert board.writes[1:] == [(BARRIER, False), (BARRIER, True)]
        assert board.rising == [BARRIER]
        await lane.close()

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("faults", "outcome", "writes"),
    [
        ([(not_sent(), False)] * 99, RequestOutcome.NOT_SENT, 0),
        ([(silent(), False), *[(not_sent(), False)] * 99], RequestOutcome.UNKNOWN, 0),
        ([(silent(), True), (refused(), False)], RequestOutcome.UNKNOWN, 1),
        ([(refused(), False)], RequestOutcome.REFUSED, 0),
    ],
    ids=["never sent", "once silent", "silent, then refused", "refused"],
)
def test_giving_up_tells_the_worst_that_may_have_happened(faults, outcome, writes):
    async def scenario():
        board = Board()
        board.faults = list(faults)
        lane = lane_on(board)
        with pytest.raises((DeviceUnavailable, DeviceTimeout, DeviceRefused)) as caught:
            await finish(board.clock, lane.open_barrier(1, timeout_s=0.5))
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
            await finish(board.clock, lane.show_go(timeout_s=0.3), step_s=0.01)
        assert board.clock.now - start == pytest.approx(0.3, abs=0.02)
        with pytest.raises(DeviceUnavailable):
            await finish(board.clock, lane.show_go(timeout_s=3600.0))
        assert board.clock.now - start < 0.32 + (TRIES_MAX + 1) * 0.06

    asyncio.run(scenario())


def test_no_time_is_not_sent():
    async def scenario():
        board = Board()
        with pytest.raises(DeviceTimeout) as caught:
            await lane_on(board).show_go(timeout_s=0.0)
        assert caught.value.outcome is RequestOutcome.NOT_SENT
        assert board.writes == []

    asyncio.run(scenario())


def test_the_next_opening_ends_the_running_pulse_first():
    async def scenario():
        board = Board()
        lane = lane_on(board)
        await lane.open_barrier(1)
        await board.clock.advance(0.1)
        await lane.open_barrier(1)
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
        await lane.open_barrier(1)
        board.answers.clear()
        await board.clock.advance(PULSE_MS / 1000)  # the off is with the board
        opening = asyncio.create_task(lane.open_barrier(1))
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
        await lane.open_barrier(1)
        board.faults = [(LinkLost("cut", device="board-1"), False)] * 99
        with pytest.raises(DeviceUnavailable, match="last pulse has not ended") as caught:
            await finish(board.clock, lane.open_barrier(1, timeout_s=0.3))
        assert caught.value.outcome is RequestOutcome.NOT_SENT
        board.faults = []
        await board.clock.advance(3.0)
        assert board.coils[BARRIER] is False  # the background went on trying
        assert board.rising == [BARRIER]

    asyncio.run(scenario())


def test_a_pulse_ends_when_the_board_comes_back():
    async def scenario():
        board = Board()
        lane = lane_on(board)
        await lane.open_barrier(1)
        board.down = True
        await board.clock.advance(60.0)
        assert board.coils[BARRIER] is True
        board.down = False
        await board.clock.advance(2.0)
        assert board.coils[BARRIER] is False
        await lane.open_barrier(1)
        assert board.rising == [BARRIER, BARRIER]
        await lane.close()

    asyncio.run(scenario())


def test_tries_to_end_a_pulse_are_bounded():
    async def scenario():
        board = Board()
        tries = itertools.count()
        lane = lane_on(board)
        await lane.open_barrier(1)
        write = board.write_coil

        async def failing(*_args, **_kwargs):
            next(tries)
            raise not_sent()

        board.write_coil = failing
        await board.clock.advance(3 * OFF_TRIES_MAX)
        assert next(tries) == OFF_TRIES_MAX
        board.write_coil = write
        await lane.open_barrier(1)  # still owed: off, then on
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
        await lane.open_barrier(1)
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
            await finish(board.clock, lane.safe_state(timeout_s=0.2))
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
            await finish(board.clock, lane.safe_state(timeout_s=0.2))
        board.down = False
        await lane.open_barrier(1)
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
            await lane.open_barrier(1, timeout_s=0.01)
        assert caught.value.outcome is RequestOutcome.NOT_SENT
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
