"""The antenna driver over memory links in virtual time, against a peer that speaks the protocol from the other side."""

import asyncio
import contextlib
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from drivers import report_queue, restraint, rsu
from drivers.errors import DeviceUnavailable
from drivers.link import memory_pair
from drivers.rsu import RsuConfig, RsuDriver, RsuState
from hardware.bench.simulation.loop import SimClock, VirtualLoop
from protocols.rsu.dialect import Side
from protocols.rsu.messages import (
    Continue,
    Debit,
    DeviceStatus,
    Heartbeat,
    HeartbeatAck,
    Initialise,
    ObuReport,
    PsamStatus,
    Stop,
    StopType,
    SwitchAntenna,
    TacResult,
)
from protocols.rsu.registry import dialect_named
from protocols.rsu.session import Duplicate, Received, Session, Timing

V3 = dialect_named("pcrsu-v3")
PATIENCE_S = 20.0
"""Virtual seconds: only a hanging driver reaches them."""

TIMING = Timing(
    retry_ms=30, command_retry_ms=40, command_retries_max=3, duplicate_window_ms=1000, silence_ms=300, gap_ms=20
)
"""Of the driver in tests: what takes seconds on the road takes a fraction of one here."""

START_S = 0.5

OK_STATUS = DeviceStatus(
    rsu_status=0,
    psam_count_declared=1,
    psams=(PsamStatus(channel=1, auth=0, version=1, terminal=bytes.fromhex("019901000001")),),
    algorithm_id=0,
    manufacturer_id=0x99,
    rsu_id=bytes.fromhex("990001"),
    rsu_version=bytes.fromhex("0101"),
    work_status=0,
    flag_id=bytes.fromhex("990101"),
    reserved=bytes(4),
)


def now():
    return asyncio.get_running_loop().time()


def initialise():
    return Initialise(
        unix_seconds=int(datetime(2026, 11, 23, tzinfo=UTC).timestamp()),
        datetime_bcd="20261123080000",
        lane_mode=0x12,
        bst_interval_ms=10,
        tx_power=10,
        pll_channel=1,
        trans_mode=1,
        flag_id=bytes.fromhex("990101"),
        reserved=bytes(2),
    )


def b2(number=1):
    return ObuReport(
        obu_id=number.to_bytes(4, "big"),
        error=0,
        issuer=bytes.fromhex("B2E2CAD499010001"),
        serial=number.to_bytes(8, "big"),
        issued=bytes.fromhex("20200101"),
        expires=bytes.fromhex("20350101"),
        equipment=0,
        status=b"\x00\x01",
        antenna_id=1,
        device_type=1,
        contract_type=0x16,
        contract_version=0x50,
    )


class Peer:
    """The antenna's end of one connection."""

    def __init__(self, link):
        self.link = link
        self.session = Session(V3, Side.RSU, Timing(retry_ms=60_000))
        self.heard = []
        self.got = asyncio.Event()
        self.closed = asyncio.Event()
        self.statuses = [OK_STATUS]
        self.task = asyncio.get_running_loop().create_task(self._read())

    async def _read(self):
        while True:
            data = await self.link.read(4096)
            if not data:
                self.closed.set()
                return
            output = self.session.receive(data, now())
            await self.link.write(output.to_write)
            for event in output.events:
                if isinstance(event, Received):
                    self.heard.append(event.message)
                    if isinstance(event.message, Initialise) and self.statuses:
                        status = self.statuses.pop(0) if len(self.statuses) > 1 else self.statuses[0]
                        if status is not None:
                            await self.say(status, answering=event)
                elif isinstance(event, Duplicate):
                    self.heard.append("duplicate")
                self.got.set()

    async def say(self, message, *, answering=None):
        output = self.session.send(message, now(), answering=answering)
        self.last = output.to_write
        with contextlib.suppress(Exception):
            await self.link.write(output.to_write)

    async def until(self, kind, count=1):
        async with asyncio.timeout(PATIENCE_S):
            while len(self.all(kind)) < count:
                self.got.clear()
                await self.got.wait()
        return self.all(kind)

    def all(self, kind):
        return [m for m in self.heard if isinstance(m, kind)]


class Bench:
    """A driver and the connections it has opened."""

    def __init__(self, **changes):
        self.peers = []
        self.conditions = []
        self.changed = asyncio.Event()
        self.statuses = [OK_STATUS]
        self.refuse = 0
        self.traced = []
        config = RsuConfig("lane-1/antenna", V3, initialise, timing=TIMING, start_timeout_s=START_S)
        self.driver = RsuDriver(
            replace(config, **changes),
            connect=self._connect,
            clock=SimClock(asyncio.get_running_loop()),
            on_condition=self._condition,
            on_trace=lambda direction, data: self.traced.append((direction, data)),
        )
        self.reports = self.driver.reports()

    async def _connect(self):
        if self.refuse:
            self.refuse -= 1
            raise DeviceUnavailable("no route", device="lane-1/antenna")
        near, far = memory_pair()
        peer = Peer(far)
        peer.statuses = self.statuses
        self.peers.append(peer)
        self.changed.set()
        return near

    def _condition(self, condition):
        self.conditions.append(condition)
        self.changed.set()

    async def until(self, true):
        async with asyncio.timeout(PATIENCE_S):
            while not true():
                self.changed.clear()
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self.changed.wait(), 0.02)

    async def state(self, state, connections=1):
        await self.until(lambda: self.driver.condition.state is state and len(self.peers) >= connections)

    async def report(self):
        return await asyncio.wait_for(anext(self.reports), PATIENCE_S)

    @property
    def peer(self):
        return self.peers[-1]


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch):
    monkeypatch.setattr(rsu, "PAUSE_FIRST_S", 0.01)
    monkeypatch.setattr(rsu, "PAUSE_MAX_S", 0.05)
    monkeypatch.setattr(rsu, "TICK_MAX_S", 0.02)


def run(scenario, **changes):
    async def inside():
        bench = Bench(**changes)
        task = asyncio.create_task(bench.driver.run())
        try:
            result = await scenario(bench)
            assert not task.done(), "the driver has stopped"
            return result
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            await bench.reports.aclose()
            for peer in bench.peers:
                # Whatever the test was about: a cancelled driver leaves no connection open.
                await asyncio.wait_for(peer.closed.wait(), PATIENCE_S)
                await peer.link.close()
            await asyncio.gather(*(p.task for p in bench.peers), return_exceptions=True)

    return in_virtual_time(inside())


def in_virtual_time(work):
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(work)


# --- start --------------------------------------------------------------------------------------------------------


def test_an_antenna_is_started_and_switched_on():
    async def scenario(bench):
        await bench.state(RsuState.UP)
        (first,) = await bench.peer.until(Initialise)
        assert first == initialise()
        assert await bench.peer.until(SwitchAntenna) == [SwitchAntenna(on=1)]
        assert [c.state for c in bench.conditions] == [RsuState.STARTING, RsuState.UP]
        assert bench.driver.condition.code is None
        assert {direction for direction, _ in bench.traced} == {"in", "out"}

    run(scenario)


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (replace(OK_STATUS, rsu_status=1), "psam_reset_failed"),
        (replace(OK_STATUS, rsu_status=2), "rsu_antenna_fault"),
        (replace(OK_STATUS, rsu_status=3), "rsu_controller_fault"),
        (replace(OK_STATUS, rsu_status=0x77), "rsu_controller_fault"),
        (replace(OK_STATUS, psams=(replace(OK_STATUS.psams[0], auth=1),)), "psam_not_authorised"),
    ],
)
def test_an_antenna_that_says_it_is_broken_is_not_used_and_asked_again_until_it_is_cured(status, code):
    async def scenario(bench):
        bench.statuses[:] = [status, status, OK_STATUS]
        await bench.until(lambda: bench.driver.condition.state is RsuState.FAULTY)
        assert bench.driver.condition.code == code
        first = bench.peers[0]
        await bench.state(RsuState.UP, connections=3)
        assert first.all(SwitchAntenna) == [], "its radio stays off"
        await asyncio.wait_for(first.closed.wait(), PATIENCE_S)
        assert RsuState.DOWN not in [c.state for c in bench.conditions], "it was there all the time"

    run(scenario)


def test_a_psam_that_is_not_authorised_may_be_ignored_by_the_site():
    async def scenario(bench):
        bench.statuses[:] = [replace(OK_STATUS, psams=(replace(OK_STATUS.psams[0], auth=1),))]
        await bench.state(RsuState.UP)

    run(scenario, ignore_psam_auth=True)


def test_a_fault_while_it_works_stops_it_at_once():
    async def scenario(bench):
        await bench.state(RsuState.UP)
        peer = bench.peer
        await peer.say(replace(OK_STATUS, rsu_status=2))
        await peer.say(b2())
        await bench.until(lambda: RsuState.FAULTY in [c.state for c in bench.conditions])
        await asyncio.wait_for(peer.closed.wait(), PATIENCE_S)
        await bench.state(RsuState.UP, connections=2)
        await bench.peer.say(b2(2))
        assert (await bench.report()).message == b2(2), "what came with the fault is not sold to"

    run(scenario)


def test_no_answer_to_c0_starts_over():
    async def scenario(bench):
        bench.statuses[:] = [None, OK_STATUS]
        await bench.until(lambda: len(bench.peers) >= 1)
        first = bench.peers[0]
        await bench.state(RsuState.UP, connections=2)
        assert first.all(Initialise) == [initialise()]
        assert first.heard.count("duplicate") >= 1, "it was repeated before"
        down = [c for c in bench.conditions if c.state is RsuState.DOWN]
        assert down[0].code == "rsu_silent"
        assert "C0" in down[0].cause

    run(scenario)


def test_the_status_must_come_in_time_whatever_repetitions_are_left():
    async def scenario(bench):
        bench.statuses[:] = [None, OK_STATUS]
        await bench.state(RsuState.UP, connections=2)
        assert "no B0 within" in next(c.cause for c in bench.conditions if c.state is RsuState.DOWN)

    run(scenario, start_timeout_s=0.05, timing=replace(TIMING, command_retry_ms=60_000))


def test_an_antenna_that_sends_anything_but_its_status_is_not_up():
    """Heartbeats alone do not say that it can work."""

    async def scenario(bench):
        bench.statuses[:] = [None, OK_STATUS]
        await bench.until(lambda: len(bench.peers) >= 1)
        await bench.peers[0].say(b2())
        await bench.state(RsuState.UP, connections=2)

    run(scenario)


def test_an_address_where_nobody_listens_is_tried_for_ever():
    async def scenario(bench):
        bench.refuse = 5
        await bench.state(RsuState.UP)
        assert bench.refuse == 0

    run(scenario)


def test_pauses_between_attempts_grow_to_their_maximum_and_start_anew_after_success(monkeypatch):
    monkeypatch.setattr(rsu, "PAUSE_FIRST_S", 1.0)
    monkeypatch.setattr(rsu, "PAUSE_MAX_S", 10.0)
    slept = []

    class Clock(SimClock):
        async def sleep(self, seconds):
            slept.append(seconds)
            await super().sleep(seconds)

    async def refuse():
        raise DeviceUnavailable("no route", device="a")

    async def scenario():
        driver = RsuDriver(RsuConfig("a", V3, initialise), connect=refuse, clock=Clock(asyncio.get_running_loop()))
        task = asyncio.create_task(driver.run())
        while len(slept) <= 8:
            await asyncio.sleep(0.1)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    in_virtual_time(scenario())
    assert slept == sorted(slept)
    assert slept[-1] == 10.0
    assert slept[0] <= 2.0


# --- reports ------------------------------------------------------------------------------------------------------


def test_a_report_is_answered_with_the_number_of_its_frame():
    async def scenario(bench):
        await bench.state(RsuState.UP)
        before = now()
        await bench.peer.say(b2())
        report = await bench.report()
        assert report.message == b2()
        assert before <= report.at <= now()
        report.answer(Continue(b2().obu_id, bytes(8)))
        assert await bench.peer.until(Continue) == [Continue(b2().obu_id, bytes(8))]

    run(scenario)


def test_a_repeated_report_is_answered_by_the_same_bytes_and_told_once():
    async def scenario(bench):
        await bench.state(RsuState.UP)
        peer = bench.peer
        raw = peer.session.send(b2(), now()).to_write
        await peer.link.write(raw)
        report = await bench.report()
        order = Debit(b2().obu_id, bytes(8), 1500, "20261123080000", bytes(43))
        report.answer(order)
        await peer.until(Debit)
        await peer.link.write(raw)
        await bench.until(lambda: "duplicate" in peer.heard)
        assert bench.driver._queue.empty
        debits = [data for direction, data in bench.traced if direction == "out" and b"\xc6" in data]
        assert len(set(debits)) == 1

    run(scenario)


def test_heartbeats_are_acknowledged_and_stay_inside():
    beat = Heartbeat((0, 0, 0), 0, (), 0, (), (), 0, 0)

    async def scenario(bench):
        await bench.state(RsuState.UP)
        await bench.peer.say(beat)
        await bench.peer.until(HeartbeatAck)
        assert bench.driver._queue.empty

    run(scenario)


def many(numbers):
    """Reports of as many tags in one write, as frames that follow each other."""
    return b"".join(V3.framing.wrap(number % 9 + 1, V3.encode(b2(number))) for number in numbers)


def told(caplog):
    return [record for record in caplog.records if record.module == "restraint"]


def test_a_vehicle_is_served_in_the_middle_of_reports_of_tags_that_never_come_again(caplog):
    """It is reported twice, answered, and its next report passes all that wait."""

    async def scenario(bench):
        await bench.state(RsuState.UP)
        link = bench.peer.link
        for start in range(1000, 5000, 400):
            await link.write(many(range(start, start + 200)))
            await bench.peer.say(b2(7))
            await link.write(many(range(start + 200, start + 400)))
        heard = [await bench.report()]
        while heard[-1].message.obu_id != b2(7).obu_id:
            heard.append(await bench.report())
        heard[-1].answer(Continue(b2(7).obu_id, bytes(8)))
        await bench.peer.until(Continue)
        await link.write(many(range(6000, 6400)))
        await bench.peer.say(TacResult(b2(7).obu_id, 0, bytes(4), bytes(4), 1))
        await link.write(many(range(6400, 6800)))
        await bench.until(lambda: b2(7).obu_id in bench.driver._queue._first)
        # What it said before its answer came is still there; nobody else comes in between.
        messages = []
        while not messages or not isinstance(messages[-1], TacResult):
            messages.append((await bench.report()).message)
        assert {message.obu_id for message in messages} == {b2(7).obu_id}
        return len(heard)

    served = run(scenario)
    assert served <= report_queue.NEW_TAGS_BURST + 10
    assert len(told(caplog)) <= restraint.SAID_FIRST + 1


def test_noise_is_told_a_few_times_and_then_counted(caplog):
    async def scenario(bench):
        await bench.state(RsuState.UP)
        for _ in range(50):
            await bench.peer.link.write(b"\xff\xff\x01" * 10)
            await bench.peer.say(Heartbeat((0, 0, 0), 0, (), 0, (), (), 0, 0))
        await bench.peer.until(HeartbeatAck, 50)
        assert bench.driver.bad_bytes >= 50
        await bench.until(lambda: any("more stretches of bytes" in record.getMessage() for record in caplog.records))

    run(scenario)
    assert len(told(caplog)) == restraint.SAID_FIRST + 1


def test_an_answer_that_cannot_be_said_is_logged_and_the_connection_lives(caplog):
    async def scenario(bench):
        await bench.state(RsuState.UP)
        await bench.peer.say(b2())
        report = await bench.report()
        report.answer(Debit(b2().obu_id, b"", -1, "now", b""))
        report.answer(Stop(b2().obu_id, StopType.SEARCH_AGAIN, 1))
        await bench.peer.until(Stop)

    run(scenario)
    assert "could not be encoded" in caplog.text


def test_a_reading_is_up_to_date_when_no_earlier_order_can_have_caused_it():
    """The antenna repeats its B2, has it answered twice, and takes the second answer for one to a later B2."""

    async def scenario(bench):
        await bench.state(RsuState.UP)
        peer, obu_id = bench.peer, b2().obu_id
        on, seen = Continue(obu_id, bytes(8)), TacResult(obu_id, 0, b"TAC1", bytes(4), 5)
        await peer.say(b2())
        first = await bench.report()
        first.answer(on)
        await peer.until(Continue)
        await peer.link.write(peer.last)
        await peer.until(str)
        found = []
        for serial in (1, 2, 3):
            await peer.say(replace(seen, balance_raw=serial))
            report = await bench.report()
            found.append(report.up_to_date)
            if serial == 1:
                report.answer(Debit(obu_id, bytes(8), 100, "20261123100144", bytes(43)))
                await peer.until(Debit)
        return [first.up_to_date, *found]

    assert run(scenario) == [True, True, False, True]


def test_a_reading_that_waited_while_a_purchase_was_ordered_is_old():
    """It was here before the order was written, so it says nothing of what became of it."""

    async def scenario(bench):
        await bench.state(RsuState.UP)
        peer, obu_id = bench.peer, b2().obu_id
        seen = TacResult(obu_id, 0, b"TAC1", bytes(4), 5)
        await peer.say(b2())
        (await bench.report()).answer(Continue(obu_id, bytes(8)))
        await peer.until(Continue)
        found = []
        for serial in (1, 2):
            await peer.say(replace(seen, balance_raw=serial))
            found.append(await bench.report())
        before = [report.up_to_date for report in found]
        found[0].answer(Debit(obu_id, bytes(8), 100, "20261123100144", bytes(43)))
        await peer.until(Debit)
        return before, [report.up_to_date for report in found]

    assert run(scenario) == ([True, True], [False, False])


# --- trouble on the line ------------------------------------------------------------------------------------------


def test_silence_starts_over():
    async def scenario(bench):
        await bench.state(RsuState.UP)
        await bench.state(RsuState.UP, connections=2)
        down = [c for c in bench.conditions if c.state is RsuState.DOWN]
        assert "silent" in down[0].cause

    run(scenario)


def test_a_closed_link_starts_over_and_an_answer_for_it_is_lost_without_harm():
    async def scenario(bench):
        await bench.state(RsuState.UP)
        await bench.peer.say(b2())
        report = await bench.report()
        await bench.peer.link.close()
        await bench.state(RsuState.UP, connections=2)
        report.answer(Continue(b2().obu_id, bytes(8)))
        await bench.peer.say(b2(2))
        fresh = await bench.report()
        fresh.answer(Continue(b2(2).obu_id, bytes(8)))
        await bench.peer.until(Continue)
        assert bench.peer.all(Continue) == [Continue(b2(2).obu_id, bytes(8))]

    run(scenario)


def test_reports_of_all_connections_come_by_one_queue():
    async def scenario(bench):
        seen = []
        for number in range(1, 4):
            await bench.state(RsuState.UP, connections=number)
            await bench.peer.say(b2(number))
            seen.append((await bench.report()).message.serial[-1])
            await bench.peer.link.close()
            await bench.until(lambda: bench.driver.condition.state is not RsuState.UP)
        assert seen == [1, 2, 3]

    run(scenario)


@pytest.mark.parametrize("noise", [b"\x00" * 300, b"\xff" * 301, b"\xff\xff\x00\x01\x00\x00\x00\x40" + b"\x55" * 20])
def test_garbage_is_counted_and_the_next_good_frame_is_read(noise):
    async def scenario(bench):
        await bench.state(RsuState.UP)
        await bench.peer.link.write(noise)
        await bench.peer.say(b2())
        assert (await bench.report()).message == b2()
        assert bench.driver.bad_bytes >= 1
        assert bench.driver.condition.state is RsuState.UP

    run(scenario)
