"""The emulated relay board over real sockets, driven by the product's driver, judged by the product's database."""

import asyncio
import contextlib
import json
import os
import signal
import sqlite3
import subprocess

import pytest

from drivers.clock import SystemClock
from drivers.errors import DeviceError, DeviceRefused, DeviceTimeout, DeviceUnavailable, RequestOutcome, Unanswered
from drivers.lane_io import LaneOutputs
from drivers.modbus import BoardState, RelayBoard
from hardware.emulators.committed import CommittedRule, Signal, newest_opening
from hardware.emulators.control import ControlClient, ControlError, SyncControlClient
from hardware.emulators.relay_board import COIL_COUNT, Barrier, BoardServer, Config, main, parse_lanes
from tests.programs import program

LANES = '{"lane-1": {"barrier": 0, "green": 1, "red": 2}, "lane-2": {"barrier": 3, "green": 4, "red": 5}}'
SOON_S = 300.0
LONG_S = 10.0


class Decisions:
    """The gateway's table `decision`, written as the gateway does: write-ahead log, one connection, transactions."""

    def __init__(self, path):
        self.path = path
        self.connection = sqlite3.connect(path, isolation_level=None)
        self.connection.execute("PRAGMA journal_mode=WAL")
        self.connection.execute(
            "CREATE TABLE decision (record_no INTEGER PRIMARY KEY, charge_point TEXT, release TEXT, passage_id TEXT,"
            " decided_at INTEGER)"
        )

    def insert(self, record_no, lane="lane-1", release="go"):
        self.connection.execute(
            "INSERT INTO decision VALUES (?, ?, ?, ?, ?)", (record_no, lane, release, f"passage-{record_no}", 1_000)
        )

    def close(self):
        self.connection.close()


@pytest.fixture
def decisions(tmp_path):
    table = Decisions(tmp_path / "site.db")
    yield table
    table.close()


def config(tmp_path, **changed):
    usual = {
        "listen": ("127.0.0.1", 0),
        "control": ("127.0.0.1", 0),
        "watch_database": tmp_path / "site.db",
        "lanes": parse_lanes(LANES),
        "opening_ms": 0,
    }
    return Config(**usual | changed)


@contextlib.asynccontextmanager
async def driver(port):
    up = asyncio.Event()
    board = RelayBoard(
        "127.0.0.1", port, clock=SystemClock(), on_state=lambda state, _: state is BoardState.UP and up.set()
    )
    task = asyncio.create_task(board.run())
    try:
        async with asyncio.timeout(SOON_S):
            await up.wait()
        yield board
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


@contextlib.asynccontextmanager
async def site(tmp_path, **changed):
    """An emulator in this process, the driver connected to it, and its control connection."""
    server = BoardServer(config(tmp_path, **changed))
    port, control_port = await server.start()
    try:
        async with await ControlClient.connect("127.0.0.1", control_port) as control, driver(port) as board:
            yield board, control
    finally:
        await server.close()


async def until(condition):
    async with asyncio.timeout(SOON_S):
        while not condition():
            await asyncio.sleep(0.005)


async def switch(board, coil, on=True):
    await board.write_coil(coil, on, timeout_s=LONG_S)


async def violations(control):
    verdict = await control.request("verdict")
    assert verdict["ok"] is (verdict["violation_count"] == 0)
    assert verdict["violation_count"] == len(verdict["violations"])
    return [(each["lane"], each["signal"], each["reason"]) for each in verdict["violations"]]


# --- the rule -----------------------------------------------------------------------------------------------------


def test_edge_with_a_committed_row_is_allowed(tmp_path, decisions, capsys):
    async def scenario():
        async with site(tmp_path) as (board, control):
            decisions.insert(1)
            await switch(board, 0)
            assert await violations(control) == []
            events = (await control.request("events"))["events"]
            assert [(e["lane"], e["output"], e["on"], e["record_no"], e["passage_id"]) for e in events] == [
                ("lane-1", "barrier", True, 1, "passage-1")
            ]

    asyncio.run(scenario())
    assert capsys.readouterr().err == ""


def test_edge_without_a_row_is_a_violation_and_switches_all_the_same(tmp_path, decisions, capsys):
    async def scenario():
        async with site(tmp_path) as (board, control):
            await switch(board, 0)
            assert await violations(control) == [("lane-1", "barrier", "no committed decision to open this lane")]
            assert (await control.request("state"))["coils"] == [0]
            assert (await control.request("events"))["events"][0]["violation"] is not None

    asyncio.run(scenario())
    assert "violation: lane-1 barrier" in capsys.readouterr().err


def test_a_row_that_is_written_and_not_committed_is_no_row(tmp_path, decisions):
    async def scenario():
        async with site(tmp_path) as (board, control):
            decisions.connection.execute("BEGIN IMMEDIATE")
            decisions.insert(1)
            await switch(board, 0)
            assert len(await violations(control)) == 1
            decisions.connection.execute("COMMIT")
            await switch(board, 1)
            assert len(await violations(control)) == 1

    asyncio.run(scenario())


def test_a_second_edge_on_the_same_row_is_a_violation(tmp_path, decisions):
    async def scenario():
        async with site(tmp_path) as (board, control):
            decisions.insert(1)
            for on in (True, False, True):
                await switch(board, 0, on)
            assert [lane for lane, _, _ in await violations(control)] == ["lane-1"]
            decisions.insert(2)
            for on in (False, True):
                await switch(board, 0, on)
            assert len(await violations(control)) == 1

    asyncio.run(scenario())


def test_an_unused_row_does_not_pile_up(tmp_path, decisions):
    async def scenario():
        async with site(tmp_path) as (board, control):
            decisions.insert(1)
            decisions.insert(2)
            for on in (True, False, True):
                await switch(board, 0, on)
            assert len(await violations(control)) == 1

    asyncio.run(scenario())


@pytest.mark.parametrize("row", [{"lane": "lane-2"}, {"release": "stop"}, {"release": "attendant"}])
def test_a_row_of_another_lane_or_decision_is_no_row(tmp_path, decisions, row):
    async def scenario():
        async with site(tmp_path) as (board, control):
            decisions.insert(1, **row)
            await switch(board, 0)
            assert len(await violations(control)) == 1

    asyncio.run(scenario())


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_green_and_barrier_share_a_row_in_either_order(tmp_path, decisions, order):
    async def scenario():
        async with site(tmp_path) as (board, control):
            for record_no in (1, 2):
                decisions.insert(record_no)
                for coil in order:
                    await switch(board, coil)
                for coil in order:
                    await switch(board, coil, False)
            assert await violations(control) == []
            assert (await control.request("verdict"))["edges_checked"] == 4

    asyncio.run(scenario())


def test_green_needs_a_row_of_its_own_passage(tmp_path, decisions):
    async def scenario():
        async with site(tmp_path) as (board, control):
            await switch(board, 1)
            assert [signal for _, signal, _ in await violations(control)] == ["green"]
            decisions.insert(1)
            for on in (False, True, False, True):
                await switch(board, 1, on)
            assert [signal for _, signal, _ in await violations(control)] == ["green", "green"]

    asyncio.run(scenario())


def test_red_off_and_repeated_writes_need_no_row(tmp_path, decisions):
    async def scenario():
        async with site(tmp_path) as (board, control):
            await board.write_coils(0, [False, False, True], timeout_s=LONG_S)
            await switch(board, 2, False)
            await switch(board, 100)  # a coil no lane uses
            decisions.insert(1)
            for _ in range(3):
                await switch(board, 0)
            assert await violations(control) == []
            assert (await control.request("verdict"))["edges_checked"] == 1

    asyncio.run(scenario())


def test_a_block_write_is_judged_coil_by_coil(tmp_path, decisions):
    async def scenario():
        async with site(tmp_path) as (board, control):
            decisions.insert(1, lane="lane-2")
            await board.write_coils(0, [True, False, False, True, True], timeout_s=LONG_S)
            assert [(lane, name) for lane, name, _ in await violations(control)] == [("lane-1", "barrier")]

    asyncio.run(scenario())


def test_what_cannot_be_checked_has_not_passed(tmp_path):
    async def scenario():
        async with site(tmp_path) as (board, control):  # there is no database at all
            await switch(board, 2)
            assert await violations(control) == []
            await switch(board, 0)
            assert "cannot be read" in (await violations(control))[0][2]

    asyncio.run(scenario())
    assert not (tmp_path / "site.db").exists()


def test_a_database_whose_gateway_has_stopped_is_still_read(tmp_path, decisions):
    decisions.insert(7)
    decisions.close()
    assert not (tmp_path / "site.db-wal").exists()
    opening = newest_opening(tmp_path / "site.db", "lane-1")
    assert (opening.record_no, opening.passage_id) == (7, "passage-7")


def test_a_locked_database_is_not_a_pass(tmp_path, decisions):
    decisions.insert(1)
    decisions.connection.execute("PRAGMA journal_mode=DELETE")
    decisions.connection.execute("BEGIN EXCLUSIVE")
    ruling = CommittedRule(tmp_path / "site.db").judge("lane-1", Signal.BARRIER)
    assert not ruling.allowed
    assert "locked" in ruling.reason


def test_the_path_may_hold_anything_a_uri_may_not(tmp_path):
    path = tmp_path / "100% site?#1.db"
    table = Decisions(path)
    table.insert(3)
    assert newest_opening(path, "lane-1").record_no == 3
    table.close()


def test_the_lane_driver_obeys_the_rule_with_one_row_per_vehicle(tmp_path, decisions):
    async def scenario():
        async with site(tmp_path) as (board, control):
            lane = LaneOutputs(board, barrier_coil=3, green_coil=4, red_coil=5, pulse_ms=20)
            await lane.safe_state(timeout_s=LONG_S)
            for record_no in range(1, 6):
                decisions.insert(record_no, lane="lane-2")
                await lane.open_barrier(record_no, timeout_s=LONG_S)
                await lane.show_go(timeout_s=LONG_S)
                opened = await control.request("wait_open", lane="lane-2", count=record_no)
                assert opened["last"]["record_no"] == record_no
                assert (await control.request("pass", lane="lane-2"))["open"] is True
                await lane.show_stop(timeout_s=LONG_S)
            await lane.close(timeout_s=LONG_S)
            assert await violations(control) == []
            state = (await control.request("state"))["lanes"]["lane-2"]
            assert (state["openings"], state["barrier"], state["green"], state["red"]) == (5, False, False, True)

    asyncio.run(scenario())


# --- faults -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("apply", [False, True])
def test_mute_is_a_timeout_of_unknown_outcome(tmp_path, decisions, apply):
    async def scenario():
        async with site(tmp_path) as (board, control):
            decisions.insert(1)
            await control.request("mute", apply=apply)
            with pytest.raises(DeviceTimeout) as caught:
                await board.write_coil(0, True, timeout_s=0.3)
            assert caught.value.outcome is RequestOutcome.UNKNOWN
            assert (await control.request("state"))["coils"] == ([0] if apply else [])
            await control.request("unmute")
            await until(lambda: board.state is BoardState.UP)
            await switch(board, 0)  # the same edge again, or still the same: never a second one
            assert await violations(control) == []
            assert (await control.request("state"))["lanes"]["lane-1"]["openings"] == 1

    asyncio.run(scenario())


async def held(control):
    await control.request("wait_held", count=1)


async def order(board, answer_s=0.05):
    with pytest.raises(Unanswered):
        await board.order_coil(0, turn_s=LONG_S, answer_s=answer_s)


async def all_lifts(control):
    return (await control.request("lifts"))["lifts"]["lane-1"]


def test_a_frozen_board_executes_when_it_thaws_for_what_was_decided_when_the_write_came(tmp_path, decisions):
    async def scenario():
        async with site(tmp_path) as (board, control):
            await control.request("freeze")
            decisions.insert(1)
            await order(board)
            await held(control)
            decisions.insert(2)  # decided meanwhile: the first write was not sent for it
            assert (await control.request("state"))["coils"] == []
            assert (await control.request("thaw"))["executing"] == 1
            assert await board.read_inputs(0, 1) == (True,)  # in order, on the same connection
            assert await all_lifts(control) == [1]
            for on in (False, True):
                await switch(board, 0, on)
            assert await all_lifts(control) == [1, 2]
            assert await violations(control) == []

    asyncio.run(scenario())


def test_a_second_write_behind_a_frozen_one_lifts_without_a_decision(tmp_path, decisions):
    async def scenario():
        async with site(tmp_path) as (board, control):
            await control.request("freeze", lane="lane-1")
            decisions.insert(1)
            await order(board)
            with pytest.raises(DeviceTimeout):
                await board.write_coil(0, False, timeout_s=0.05)  # costs the connection
            second = await asyncio.open_connection("127.0.0.1", board._port)
            second[1].write(bytes.fromhex("0001 0000 0006 01 05 0000 ff00"))
            await control.request("wait_held", count=2)
            await control.request("thaw")
            await control.request("wait_open", lane="lane-1", count=2)
            assert await all_lifts(control) == [1, None]
            assert [reason for _, _, reason in await violations(control)] == [
                "record 1 was used by another edge before"
            ]
            second[1].close()

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("thaw", "coils"), [({}, [0]), ({"lose": True}, []), ({"closed": False}, [])], ids=["executes", "loses", "hung up"]
)
def test_what_becomes_of_the_writes_of_a_closed_connection(tmp_path, decisions, thaw, coils):
    async def scenario():
        async with site(tmp_path) as (board, control):
            await control.request("freeze")
            decisions.insert(1)
            with pytest.raises(DeviceTimeout):
                await board.write_coil(0, True, timeout_s=0.05)
            await held(control)
            await until(lambda: board.state is BoardState.DOWN)
            async with asyncio.timeout(SOON_S):
                while (await control.request("state"))["connections"]:
                    await asyncio.sleep(0.005)
            answer = await control.request("thaw", **thaw)
            assert answer["executing"] == len(coils)
            await until(lambda: board.state is BoardState.UP)
            assert (await control.request("state"))["coils"] == coils

    asyncio.run(scenario())


@pytest.mark.parametrize("executed", [False, True])
def test_an_opening_is_lost_or_its_answer_is_and_the_rest_works(tmp_path, decisions, executed):
    async def scenario():
        async with site(tmp_path) as (board, control):
            await control.request("lose", lane="lane-1", executed=executed)
            decisions.insert(1)
            await switch(board, 2)
            await order(board, answer_s=0.3)
            assert await board.read_coils(0, 3) == (executed, False, True)
            assert await all_lifts(control) == [1] * executed
            await switch(board, 0)
            assert await all_lifts(control) == [1]
            assert await violations(control) == []

    asyncio.run(scenario())


def test_requests_that_come_in_one_piece_are_all_answered(tmp_path, decisions):
    async def scenario():
        server = BoardServer(config(tmp_path))
        port, _ = await server.start()
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        red_on, red_off = (
            bytes.fromhex("0001 0000 0006 01 05 0002 ff00"),
            bytes.fromhex("0002 0000 0006 01 05 0002 0000"),
        )
        writer.write(red_on + red_off)
        assert await reader.readexactly(24) == red_on + red_off
        assert [e["on"] for e in server.board.events] == [True, False]
        writer.close()
        await server.close()

    asyncio.run(scenario())


@pytest.mark.parametrize("frame", ["0003 0000 ffff 01 05", "0003 0000 0001 01", "0003 0000 0000"])
def test_a_request_of_a_length_that_cannot_be_ends_the_connection(tmp_path, decisions, frame):
    async def scenario():
        server = BoardServer(config(tmp_path))
        port, _ = await server.start()
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(bytes.fromhex(frame))
        assert await reader.read() == b""
        writer.close()
        await server.close()

    asyncio.run(scenario())


def test_refused_is_refused_and_switches_nothing(tmp_path, decisions):
    async def scenario():
        async with site(tmp_path) as (board, control):
            await control.request("refuse")
            with pytest.raises(DeviceRefused) as caught:
                await switch(board, 0)
            assert caught.value.outcome is RequestOutcome.REFUSED
            await control.request("refuse", code=4)
            with pytest.raises(DeviceRefused) as caught:
                await switch(board, 0)
            assert caught.value.outcome is RequestOutcome.UNKNOWN
            assert (await control.request("state"))["coils"] == []
            assert await violations(control) == []
            await control.request("accept")
            await switch(board, 2)
            assert (await control.request("state"))["coils"] == [2]

    asyncio.run(scenario())


def test_down_cuts_and_up_comes_back_with_the_coils_as_they_were(tmp_path, decisions):
    async def scenario():
        async with site(tmp_path) as (board, control):
            await switch(board, 2)
            await control.request("down")
            await until(lambda: board.state is BoardState.DOWN)
            with pytest.raises(DeviceUnavailable):
                await switch(board, 2, False)
            assert (await control.request("state"))["listening"] is False
            await control.request("up")
            await until(lambda: board.state is BoardState.UP)
            assert await board.read_coils(0, 8) == (False, False, True, *[False] * 5)

    asyncio.run(scenario())


def test_addresses_and_functions_the_board_has_not(tmp_path, decisions):
    async def scenario():
        async with site(tmp_path) as (board, _):
            await switch(board, COIL_COUNT - 1)
            assert (await board.read_coils(COIL_COUNT - 8, 8))[-1] is True
            for request in (
                board.write_coil(COIL_COUNT, True, timeout_s=LONG_S),
                board.write_coils(COIL_COUNT - 1, [True, True], timeout_s=LONG_S),
                board.read_inputs(COIL_COUNT - 1, 2),
            ):
                with pytest.raises(DeviceRefused, match="no such address"):
                    await request

    asyncio.run(scenario())


def test_registers_are_an_illegal_function(tmp_path, decisions):
    async def scenario():
        server = BoardServer(config(tmp_path))
        port, _ = await server.start()
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(bytes.fromhex("0001 0000 0006 01 03 0000 0001"))
        assert await reader.readexactly(9) == bytes.fromhex("0001 0000 0003 01 83 01")
        writer.close()
        await server.close()

    asyncio.run(scenario())


def test_the_capture_holds_the_raw_bytes(tmp_path, decisions):
    async def scenario():
        async with site(tmp_path, capture=tmp_path / "board.jsonl") as (board, _):
            await switch(board, 2)

    asyncio.run(scenario())
    lines = [json.loads(line) for line in (tmp_path / "board.jsonl").read_text().splitlines()]
    write = "00000006010500" + "02ff00"  # length 6, unit 1, function 5, coil 2 on; the echo is the same
    assert [(line["dir"], line["hex"][4:]) for line in lines[-2:]] == [("in", write), ("out", write)]


def test_more_connections_than_the_board_has_are_closed(tmp_path, decisions):
    async def scenario():
        server = BoardServer(config(tmp_path))
        port, _ = await server.start()
        opened = [await asyncio.open_connection("127.0.0.1", port) for _ in range(9)]
        async with asyncio.timeout(SOON_S):
            assert await opened[-1][0].read() == b""
        assert server.connection_count == 8
        for _, writer in opened:
            writer.close()
        await server.close()

    asyncio.run(scenario())


# --- the barrier and the control socket ---------------------------------------------------------------------------


def test_barrier_positions():
    barrier = Barrier(opening_s=0.5, closing_s=1.0, hold_s=20.0)
    assert barrier.position(0.0) == "closed"
    assert barrier.passed(0.0) is False
    barrier.command(10.0)
    assert [barrier.position(10.0 + s) for s in (0.0, 0.49, 0.5, 20.49, 20.5, 21.49, 21.5)] == [
        *["opening"] * 2,
        *["open"] * 2,
        *["closing"] * 2,
        "closed",
    ]
    barrier.command(40.0)
    assert barrier.passed(40.2) is True  # it rises to the end, then falls
    assert [barrier.position(40.0 + s) for s in (0.4, 0.5, 1.49, 1.5)] == ["opening", "closing", "closing", "closed"]
    barrier.command(41.0)  # the next vehicle, while it falls
    assert [barrier.position(s) for s in (41.0, 41.5)] == ["opening", "open"]
    barrier.command(50.0)  # and one more while it stands open: only the stand is longer
    assert [barrier.position(s) for s in (50.0, 69.9, 70.1)] == ["open", "open", "closing"]


def test_limit_inputs_follow_the_arm(tmp_path, decisions):
    async def scenario():
        async with site(tmp_path, closing_ms=0) as (board, control):
            assert await board.read_inputs(0, 4) == (False, True, False, True)
            decisions.insert(1)
            await switch(board, 0)
            assert await board.read_inputs(0, 4) == (True, False, False, True)
            await control.request("pass", lane="lane-1")
            assert await board.read_inputs(0, 4) == (False, True, False, True)
        async with site(tmp_path, opening_ms=10**9) as (board, _):
            await switch(board, 0)
            assert await board.read_inputs(0, 2) == (False, False)  # on its way
        async with site(tmp_path, opening_ms=10**9, leaving_ms=10**9) as (board, _):
            await switch(board, 0)
            assert await board.read_inputs(0, 2) == (False, True)  # on its way, and still on its limit

    asyncio.run(scenario())


def test_waiting_for_an_opening(tmp_path, decisions):
    async def scenario():
        async with site(tmp_path) as (board, control):
            with pytest.raises(ControlError, match="0 of 1 openings within 10 ms"):
                await control.request("wait_open", lane="lane-1", count=1, timeout_ms=10)
            waiting = asyncio.create_task(control.request("wait_open", lane="lane-1", count=1))
            decisions.insert(1)
            await switch(board, 3)  # the other lane does not wake it
            await switch(board, 0)
            answer = await waiting
            assert (answer["openings"], answer["last"]["record_no"]) == (1, 1)

    asyncio.run(scenario())


def test_events_are_numbered(tmp_path, decisions):
    async def scenario():
        async with site(tmp_path) as (board, control):
            await switch(board, 2)
            await switch(board, 2)
            await control.request("pass", lane="lane-1")
            await switch(board, 2, False)
            answer = await control.request("events", since=1)
            assert [(e["number"], e["kind"], e.get("on")) for e in answer["events"]] == [
                (1, "pass", None),
                (2, "coil", False),
            ]
            assert (answer["next"], answer["dropped"]) == (3, 0)

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("cmd", "arguments"),
    [
        ("pass", {"lane": "lane-9"}),
        ("wait_open", {"lane": "lane-1", "count": 0}),
        ("wait_open", {"lane": "lane-1", "timeout_ms": 10**9}),
        ("mute", {"apply": 1}),
        ("freeze", {"lane": "lane-9"}),
        ("thaw", {"lose": 1}),
        ("lose", {"lane": "lane-9"}),
        ("lose", {"lane": "lane-1", "count": -1}),
        ("wait_held", {"timeout_ms": 1}),
        ("refuse", {"code": 77}),
        ("events", {"since": -1}),
        ("events", {"since": True}),
    ],
)
def test_wrong_commands_are_answered_with_an_error(tmp_path, decisions, cmd, arguments):
    async def scenario():
        server = BoardServer(config(tmp_path))
        _, control_port = await server.start()
        async with await ControlClient.connect("127.0.0.1", control_port) as control:
            with pytest.raises(ControlError, match="Error"):
                await control.request(cmd, **arguments)
        await server.close()

    asyncio.run(scenario())


@pytest.mark.parametrize(
    "lanes",
    [
        "[]",
        "{}",
        "{",
        '{"a": 1}',
        '{"a": {"barrier": 0, "green": 1}}',
        '{"a": {"barrier": 0, "green": 1, "red": 2, "blue": 3}}',
        '{"a": {"barrier": 0, "green": 1, "red": 1}}',
        '{"a": {"barrier": 0, "green": 1, "red": 128}}',
        '{"a": {"barrier": 0, "green": 1, "red": true}}',
        '{"a": {"barrier": 0, "green": 1, "red": 2, "opened_input": 1}}',
    ],
)
def test_wrong_wiring_is_a_usage_error(lanes, tmp_path, capsys):
    arguments = ["--listen", "127.0.0.1:0", "--control", "127.0.0.1:0", "--watch-database", str(tmp_path / "x")]
    with pytest.raises(SystemExit) as caught:
        main([*arguments, "--lanes", lanes])
    assert caught.value.code == 2
    assert "--lanes" in capsys.readouterr().err


# --- as a process -------------------------------------------------------------------------------------------------


def as_program(database, *extra, port=0):
    """The board as the bench runs it."""
    places = ("--listen", f"127.0.0.1:{port}", "--control", "127.0.0.1:0", "--watch-database", str(database))
    return program("hardware.emulators.relay_board", *places, "--lanes", LANES, *extra, stderr=subprocess.PIPE)


class Process:
    """A board that is ready."""

    def __init__(self, process):
        self.process = process
        words = process.stdout.readline().split()
        assert words[0::2] == ["ready", "control"], process.communicate()
        self.port, self.control_port = (int(address.rpartition(":")[2]) for address in words[1::2])

    def verdict(self):
        with SyncControlClient("127.0.0.1", self.control_port) as control:
            return control.request("verdict")

    def end(self, number):
        """Send a signal; return exit status and what was on stderr."""
        self.process.send_signal(number)
        _, errors = self.process.communicate(timeout=SOON_S)
        return self.process.returncode, errors


@pytest.fixture
def start(tmp_path):
    with contextlib.ExitStack() as started:

        def start_one(*extra, port=0):
            return Process(started.enter_context(as_program(tmp_path / "site.db", *extra, port=port)))

        yield start_one


@pytest.mark.parametrize(("row", "status"), [(True, 0), (False, 1)])
def test_exit_status(start, decisions, row, status):
    process = start()
    if row:
        decisions.insert(1)

    async def scenario():
        async with driver(process.port) as board:
            await switch(board, 0)

    asyncio.run(scenario())
    assert process.verdict()["ok"] is row
    ended, errors = process.end(signal.SIGTERM)
    assert ended == status
    assert errors == ("" if row else "violation: lane-1 barrier on: no committed decision to open this lane\n")


def test_the_driver_survives_a_killed_board(start, decisions):
    first = start()

    async def scenario():
        async with driver(first.port) as board:
            lane = LaneOutputs(board, barrier_coil=0, green_coil=1, red_coil=2, pulse_ms=20)
            await lane.safe_state(timeout_s=LONG_S)
            os.kill(first.process.pid, signal.SIGKILL)
            await until(lambda: board.state is BoardState.DOWN)
            decisions.insert(1)
            with pytest.raises(DeviceError) as caught:
                await lane.open_barrier(1, timeout_s=0.2)
            assert caught.value.outcome is RequestOutcome.NOT_SENT
            second = await asyncio.to_thread(start, port=first.port)
            await until(lambda: board.state is BoardState.UP)
            await lane.safe_state(timeout_s=LONG_S)
            await lane.open_barrier(1, timeout_s=LONG_S)
            await lane.close(timeout_s=LONG_S)
            return second

    second = asyncio.run(scenario())
    assert second.verdict()["edges_checked"] == 1
    assert second.end(signal.SIGTERM) == (0, "")


def test_a_journal_remembers_over_a_kill(start, decisions, tmp_path):
    decisions.insert(1)
    journal = ("--journal", str(tmp_path / "board.journal"))

    async def open_once(port):
        async with driver(port) as board:
            await switch(board, 0)

    first = start(*journal)
    asyncio.run(open_once(first.port))
    first.end(signal.SIGKILL)
    with (tmp_path / "board.journal").open("a") as file:
        file.write('{"lane": "lane-1", "sig')  # killed in the middle of a line
    second = start(*journal)
    assert second.verdict() == {"ok": True, "edges_checked": 1, "violation_count": 0, "violations": []}
    asyncio.run(open_once(second.port))  # the coil is off after a restart: a second edge on the same row
    assert second.verdict()["violation_count"] == 1
    second.end(signal.SIGKILL)
    third = start(*journal)
    assert third.verdict()["violation_count"] == 1
    assert third.end(signal.SIGTERM)[0] == 1


def test_a_taken_port_is_said(start, decisions):
    with as_program("x.db", port=start().port) as second:
        _, errors = second.communicate(timeout=SOON_S)
    assert second.returncode == 3
    assert "is the port taken?" in errors
    assert "Traceback" not in errors
