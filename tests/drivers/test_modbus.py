"""Relay board driver against a board written here byte by byte: the library must not be its own judge."""

import asyncio
import contextlib
import json
import struct
from pathlib import Path

import pytest

from drivers.clock import SystemClock
from drivers.errors import DeviceRefused, DeviceTimeout, DeviceUnavailable, LinkLost, RequestOutcome, Unanswered
from drivers.modbus import (
    BACKOFF_FIRST_S,
    BACKOFF_S_MAX,
    COILS_MAX,
    EXCEPTION_CODES,
    REQUEST_S_MAX,
    WAITING_MAX,
    BoardState,
    RelayBoard,
)
from protocols.errors import LocalProtocolError

VECTORS = {
    vector["id"]: bytes.fromhex(vector["hex"])
    for vector in map(json.loads, (Path(__file__).parents[1] / "vectors/modbus-relay.jsonl").read_text().splitlines())
}
PROBE = bytes.fromhex("0100000001")  # read one coil from 0
ALIVE = bytes.fromhex("010100")
LONG_S = REQUEST_S_MAX  # a request that is expected to end early, and not by its time
SOON_S = 300.0  # patience of a test for something that happens at once


def pdu_of(rtu: bytes) -> bytes:
    """Function code and data of an RTU frame: unit in front and CRC at the end taken off."""
    return rtu[1:-2]


def exception(function: int, code: int) -> bytes:
    return bytes([function | 0x80, code])


class ScriptedBoard:
    """Accepts Modbus TCP and answers with what `reply(pdu)` returns: bytes, None for silence, or "cut"."""

    def __init__(self, reply):
        self.reply = reply
        self.requests: list[tuple[int, bytes]] = []
        self.connections = 0
        self.most_at_once = 0
        self.before_answer = None
        self._writers = set()
        self._server = None
        self.port = 0

    async def start(self):
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self):
        self._server.close()
        for writer in list(self._writers):
            writer.transport.abort()
        await self._server.wait_closed()

    async def _serve(self, reader, writer):
        self.connections += 1
        self._writers.add(writer)
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            while True:
                tid, protocol, length, unit = struct.unpack(">HHHB", await reader.readexactly(7))
                assert protocol == 0
                pdu = await reader.readexactly(length - 1)
                self.requests.append((unit, pdu))
                answer = self.reply(pdu) if pdu != PROBE else self.probe_reply()
                if answer == "cut":
                    break
                if self.before_answer is not None:
                    await self.before_answer(reader)
                if answer is not None:
                    await asyncio.sleep(0)
                    self.most_at_once = max(self.most_at_once, 1 + (len(reader._buffer) > 0))
                    writer.write(struct.pack(">HHHB", tid, 0, len(answer) + 1, unit) + answer)
                    await writer.drain()
        self._writers.discard(writer)
        writer.close()

    def probe_reply(self):
        return ALIVE

    @property
    def asked(self):
        return [pdu for _unit, pdu in self.requests if pdu != PROBE]


class Watch:
    """Collects states and lets a test wait for one."""

    def __init__(self):
        self.seen = []
        self._changed = asyncio.Event()

    def __call__(self, state, cause):
        self.seen.append((state, cause))
        self._changed.set()

    async def until(self, condition):
        async with asyncio.timeout(SOON_S):
            while not any(condition(state, cause) for state, cause in self.seen):
                self._changed.clear()
                await self._changed.wait()

    async def until_up(self, times=1):
        async with asyncio.timeout(SOON_S):
            while sum(state is BoardState.UP for state, _ in self.seen) < times:
                self._changed.clear()
                await self._changed.wait()


async def until(condition):
    async with asyncio.timeout(SOON_S):
        while not condition():
            await asyncio.sleep(0.001)


@contextlib.asynccontextmanager
async def running(port, **settings):
    watch = Watch()
    board = RelayBoard("127.0.0.1", port, clock=settings.pop("clock", SystemClock()), on_state=watch, **settings)
    task = asyncio.create_task(board.run())
    try:
        yield board, watch
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        assert board.state is BoardState.DOWN
        left = asyncio.all_tasks() - {asyncio.current_task()}
        assert [task for task in left if "ScriptedBoard" not in task.get_coro().__qualname__] == []


@contextlib.asynccontextmanager
async def connected(reply, **settings):
    scripted = ScriptedBoard(reply)
    await scripted.start()
    async with running(scripted.port, **settings) as (board, watch):
        await watch.until_up()
        yield scripted, board, watch
    await scripted.stop()


def echo(pdu):
    return pdu if pdu[0] == 5 else pdu[:5]


# --- bytes --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("vector", "address", "on"), [("mb-relay1-on", 0, True), ("mb-relay1-off", 0, False), ("mb-relay4-on", 3, True)]
)
def test_write_coil_is_the_captured_request(vector, address, on):
    async def scenario():
        async with connected(echo) as (scripted, board, _):
            await board.write_coil(address, on, timeout_s=LONG_S)
            assert scripted.requests[-1] == (VECTORS[vector][0], pdu_of(VECTORS[vector]))

    asyncio.run(scenario())


def test_read_requests_are_the_captured_ones_and_the_captured_answer_means_input_6():
    async def scenario():
        answers = {2: pdu_of(VECTORS["mb-inputs-20"]), 1: bytes.fromhex("010181")}
        async with connected(lambda pdu: answers[pdu[0]]) as (scripted, board, _):
            assert await board.read_inputs(0, 8) == (False, False, False, False, False, True, False, False)
            assert await board.read_coils(0, 8) == (True, *[False] * 6, True)
            assert scripted.asked == [pdu_of(VECTORS["mb-read-8-inputs"]), pdu_of(VECTORS["mb-read-8-coils"])]

    asyncio.run(scenario())


def test_write_coils_packs_the_lowest_address_in_the_lowest_bit():
    async def scenario():
        async with connected(echo, unit=7) as (scripted, board, _):
            await board.write_coils(4, [True, False, True, True, False, False, False, False, True], timeout_s=LONG_S)
            assert scripted.requests[-1] == (7, bytes.fromhex("0f 0004 0009 02 0d01"))

    asyncio.run(scenario())


def test_what_the_protocol_has_not_is_refused_here():
    async def scenario():
        board = RelayBoard("127.0.0.1", 1, clock=SystemClock())
        with pytest.raises(LocalProtocolError, match="field address"):
            await board.write_coil(0x10000, True, timeout_s=1)
        with pytest.raises(LocalProtocolError, match="field address"):
            await board.write_coils(0xFFFF, [True, True], timeout_s=1)
        with pytest.raises(LocalProtocolError, match="field count"):
            await board.write_coils(0, [True] * (COILS_MAX + 1), timeout_s=1)
        with pytest.raises(LocalProtocolError, match="field count"):
            await board.read_inputs(0, 0)
        with pytest.raises(LocalProtocolError, match="field unit"):
            RelayBoard("127.0.0.1", 1, unit=256, clock=SystemClock())

    asyncio.run(scenario())


# --- what is known when it fails ----------------------------------------------------------------------------------


def test_no_board_is_unavailable_at_once():
    async def scenario():
        board = RelayBoard("127.0.0.1", 1, clock=SystemClock())
        with pytest.raises(DeviceUnavailable) as caught:
            await board.write_coil(0, True, timeout_s=LONG_S)
        assert caught.value.outcome is RequestOutcome.NOT_SENT

    asyncio.run(scenario())


def test_silence_is_unknown_and_the_next_connection_works():
    async def scenario():
        silent = True

        def reply(pdu):
            return None if silent else echo(pdu)

        async with connected(reply) as (scripted, board, watch):
            with pytest.raises(DeviceTimeout) as caught:
                await board.write_coil(0, True, timeout_s=0.1)
            assert caught.value.outcome is RequestOutcome.UNKNOWN
            silent = False
            await watch.until(lambda state, cause: state is BoardState.DOWN and "no answer within" in cause)
            await watch.until_up(2)
            await board.write_coil(0, True, timeout_s=LONG_S)
            assert scripted.connections == 2
            assert len(scripted.asked) == 2  # the silent one was not repeated by itself

    asyncio.run(scenario())


def test_an_order_without_an_answer_keeps_its_connection_for_the_question_what_became_of_it():
    async def scenario():
        answers = {5: None, 2: bytes.fromhex("020101"), 1: ALIVE}
        async with connected(lambda pdu: answers[pdu[0]]) as (scripted, board, _):
            with pytest.raises(Unanswered) as caught:
                await board.order_coil(0, turn_s=LONG_S, answer_s=0.1)
            assert caught.value.outcome is RequestOutcome.UNKNOWN
            kept = caught.value.connection
            assert await board.read_inputs(0, 1, connection=kept) == (True,)
            assert (scripted.connections, board.state) == (1, BoardState.UP)
            with pytest.raises(DeviceUnavailable, match="has ended") as caught:
                await board.read_inputs(0, 1, connection=kept + 1)
            assert caught.value.outcome is RequestOutcome.NOT_SENT

    asyncio.run(scenario())


def test_an_answer_that_comes_too_late_is_not_taken_for_that_of_the_next_request():
    async def scenario():
        async def until_the_next_one_is_here(reader):
            scripted.before_answer = None
            await until(lambda: reader._buffer)

        inputs = bytes.fromhex("020101")
        async with connected(lambda pdu: pdu if pdu[0] == 5 else inputs) as (scripted, board, _):
            scripted.before_answer = until_the_next_one_is_here
            with pytest.raises(Unanswered) as caught:
                await board.order_coil(0, turn_s=LONG_S, answer_s=0.05)
            asking = asyncio.create_task(board.read_inputs(0, 1, timeout_s=LONG_S, connection=caught.value.connection))
            assert await asking == (True,)
            assert scripted.connections == 1

    asyncio.run(scenario())


def test_an_order_whose_turn_does_not_come_is_not_sent_and_one_that_is_sent_keeps_the_others_waiting():
    async def scenario():
        async with connected(lambda pdu: None if pdu[2] == 0 else echo(pdu)) as (scripted, board, _):
            first = asyncio.create_task(board.order_coil(0, turn_s=LONG_S, answer_s=LONG_S))
            await until(lambda: scripted.asked)
            with pytest.raises(DeviceTimeout) as caught:
                await board.order_coil(1, turn_s=0.05, answer_s=LONG_S)
            assert caught.value.outcome is RequestOutcome.NOT_SENT
            assert len(scripted.asked) == 1
            first.cancel()
            await asyncio.gather(first, return_exceptions=True)

    asyncio.run(scenario())


def test_a_cut_is_link_lost_long_before_the_time_is_over():
    async def scenario():
        async with connected(lambda _: "cut") as (_, board, watch):
            with pytest.raises(LinkLost) as caught:
                await board.write_coil(0, True, timeout_s=LONG_S)
            assert caught.value.outcome is RequestOutcome.UNKNOWN
            await watch.until_up(2)

    asyncio.run(scenario())


@pytest.mark.parametrize("code", [*EXCEPTION_CODES, 0x55])
def test_exception_answers(code):
    async def scenario():
        async with connected(lambda pdu: exception(pdu[0], code)) as (scripted, board, _):
            with pytest.raises(DeviceRefused, match=f"exception {code}") as caught:
                await board.write_coil(0, True, timeout_s=LONG_S)
            never_switched = code in {1, 2, 3, 6, 10}
            assert caught.value.outcome is (RequestOutcome.REFUSED if never_switched else RequestOutcome.UNKNOWN)
            assert board.state is BoardState.UP
            assert scripted.connections == 1

    asyncio.run(scenario())


@pytest.mark.parametrize(
    "answer",
    ["05 0001 ff00", "05 0000 0000", "01 01 00", "0f 0000 0001", "63 00"],
    ids=["other coil", "other value", "a read", "a block write", "no function at all"],
)
def test_an_answer_to_another_question_is_unknown(answer):
    async def scenario():
        async with connected(lambda _: bytes.fromhex(answer)) as (_, board, watch):
            # The library reports an undecodable frame to the loop; the driver reports it to the caller.
            asyncio.get_running_loop().set_exception_handler(lambda *_: None)
            with pytest.raises(LinkLost) as caught:
                await board.write_coil(0, True, timeout_s=LONG_S)
            assert caught.value.outcome is RequestOutcome.UNKNOWN
            await watch.until_up(2)

    asyncio.run(scenario())


@pytest.mark.parametrize("answer", ["0f 0001 0002", "0f 0000 0001", "05 0000 0002"])
def test_a_block_write_wants_its_own_answer(answer):
    async def scenario():
        async with connected(lambda _: bytes.fromhex(answer)) as (_, board, _):
            with pytest.raises(LinkLost):
                await board.write_coils(0, [True, True], timeout_s=LONG_S)

    asyncio.run(scenario())


def test_coils_are_no_answer_to_a_question_for_inputs():
    async def scenario():
        async with connected(lambda _: bytes.fromhex("010120")) as (_, board, _):
            with pytest.raises(LinkLost):
                await board.read_inputs(0, 8)

    asyncio.run(scenario())


def test_a_short_read_answer_is_not_padded():
    async def scenario():
        async with connected(lambda _: bytes.fromhex("020120")) as (_, board, _):
            with pytest.raises(LinkLost):
                await board.read_inputs(0, 9)

    asyncio.run(scenario())


# --- sharing ------------------------------------------------------------------------------------------------------


def test_lanes_take_turns():
    async def scenario():
        async with connected(echo) as (scripted, board, _):
            async with asyncio.TaskGroup() as group:
                for coil in range(WAITING_MAX):
                    group.create_task(board.write_coil(coil, True, timeout_s=LONG_S))
            assert [pdu[2] for pdu in scripted.asked] == list(range(WAITING_MAX))
            assert scripted.most_at_once == 1

    asyncio.run(scenario())


def test_the_queue_is_bounded():
    async def scenario():
        async with connected(lambda _: None) as (scripted, board, _):
            waiting = [asyncio.create_task(board.write_coil(0, True, timeout_s=LONG_S)) for _ in range(WAITING_MAX)]
            await asyncio.sleep(0)
            with pytest.raises(DeviceUnavailable, match="waiting already") as caught:
                await board.write_coil(0, True, timeout_s=LONG_S)
            assert caught.value.outcome is RequestOutcome.NOT_SENT
            for task in waiting:
                task.cancel()
            await asyncio.gather(*waiting, return_exceptions=True)
            assert len(scripted.asked) <= 1

    asyncio.run(scenario())


def test_the_time_runs_while_a_request_waits_for_its_turn():
    async def scenario():
        async with connected(lambda _: None) as (scripted, board, _):
            first = asyncio.create_task(board.write_coil(0, True, timeout_s=LONG_S))
            await asyncio.sleep(0)
            with pytest.raises(DeviceTimeout) as caught:
                await board.write_coil(1, True, timeout_s=0.05)
            assert caught.value.outcome is RequestOutcome.NOT_SENT
            first.cancel()
            await asyncio.gather(first, return_exceptions=True)
            assert all(pdu[2] != 1 for pdu in scripted.asked)

    asyncio.run(scenario())


def test_an_abandoned_request_does_not_leave_its_answer_to_the_next():
    async def scenario():
        async with connected(lambda pdu: None if pdu[2] == 0 else echo(pdu)) as (scripted, board, watch):
            first = asyncio.create_task(board.write_coil(0, True, timeout_s=LONG_S))
            await until(lambda: scripted.asked)
            first.cancel()
            await asyncio.gather(first, return_exceptions=True)
            assert first.cancelled()
            await watch.until_up(2)
            await board.write_coil(1, True, timeout_s=LONG_S)
            assert scripted.connections == 2

    asyncio.run(scenario())


# --- the connection -----------------------------------------------------------------------------------------------


def test_a_board_that_accepts_and_never_answers_is_not_up():
    async def scenario():
        scripted = ScriptedBoard(echo)
        mute = True
        scripted.probe_reply = lambda: None if mute else ALIVE
        await scripted.start()
        async with running(scripted.port, probe_timeout_s=0.2) as (board, watch):
            await watch.until(lambda state, cause: "no life" in cause)
            assert board.state is BoardState.DOWN
            with pytest.raises(DeviceUnavailable, match="no life"):
                await board.write_coil(0, True, timeout_s=LONG_S)
            await until(lambda: scripted.connections >= 3)
            mute = False
            await watch.until_up()
            await board.write_coil(0, True, timeout_s=LONG_S)
            # Every failed attempt had the same cause: it was told once.
            assert [state for state, _ in watch.seen] == [BoardState.DOWN, BoardState.UP]
        await scripted.stop()

    asyncio.run(scenario())


def test_a_refused_probe_proves_life():
    async def scenario():
        scripted = ScriptedBoard(echo)
        scripted.probe_reply = lambda: exception(1, 2)
        await scripted.start()
        async with running(scripted.port) as (_, watch):
            await watch.until_up()
        await scripted.stop()

    asyncio.run(scenario())


def test_an_idle_board_that_dies_silently_is_noticed():
    async def scenario():
        scripted = ScriptedBoard(echo)
        dead = False
        scripted.probe_reply = lambda: None if dead else ALIVE
        await scripted.start()
        async with running(scripted.port, idle_probe_s=0.02, probe_timeout_s=0.2) as (board, watch):
            await watch.until_up()
            dead = True
            await watch.until(lambda state, cause: state is BoardState.DOWN and cause.startswith("read coil 0: no"))
            dead = False
            await until(lambda: board.state is BoardState.UP)
            await board.write_coil(0, True, timeout_s=LONG_S)
        await scripted.stop()

    asyncio.run(scenario())


def test_the_board_may_come_and_go():
    async def scenario():
        scripted = ScriptedBoard(echo)
        await scripted.start()
        async with running(scripted.port) as (board, watch):
            for round_number in range(1, 4):
                await watch.until_up(round_number)
                await board.write_coil(0, True, timeout_s=LONG_S)
                await scripted.stop()
                await until(lambda: board.state is BoardState.DOWN)
                with pytest.raises(DeviceUnavailable):
                    await board.write_coil(0, True, timeout_s=LONG_S)
                await scripted.start()
            await watch.until_up(4)
        await scripted.stop()
        assert watch.seen[-1] == (BoardState.DOWN, "stopped")

    asyncio.run(scenario())


def test_pauses_grow_to_a_limit_and_start_again_after_success():
    class HastyClock(SystemClock):
        def __init__(self):
            self.pauses = []

        async def sleep(self, seconds):
            self.pauses.append(seconds)
            await asyncio.sleep(0)

    async def scenario():
        clock = HastyClock()
        scripted = ScriptedBoard(lambda _: "cut")
        await scripted.start()
        await scripted.stop()  # its port is now known and closed
        async with running(scripted.port, clock=clock) as (board, watch):
            await until(lambda: len(clock.pauses) >= 8)
            assert clock.pauses[:6] == pytest.approx([BACKOFF_FIRST_S * 2**i for i in range(5)] + [BACKOFF_S_MAX])
            assert max(clock.pauses) == BACKOFF_S_MAX
            await scripted.start()
            await watch.until_up()
            before = len(clock.pauses)
            with pytest.raises(LinkLost):
                await board.write_coil(0, True, timeout_s=LONG_S)
            await watch.until_up(2)
            assert clock.pauses[before] == BACKOFF_FIRST_S
        await scripted.stop()

    asyncio.run(scenario())
