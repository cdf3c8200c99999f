"""The emulated antenna in the serial dialects, driven by a plain lane end of the protocol session."""

import asyncio
from contextlib import suppress
from dataclasses import fields, replace

import pytest

from drivers.link import open_link
from hardware.bench.wire_rsu import orders, read_capture
from hardware.emulators.control import ControlError
from hardware.emulators.pty_port import PtyAddress
from hardware.emulators.road import Phase
from hardware.emulators.rsu import RsuEmulator, main
from hardware.emulators.rsu_antenna import RsuConfig
from hardware.emulators.rsu_turns import ANSWERS_STEPWISE, NETWORK, SAID_STEPWISE, STEPWISE, manner_of
from protocols.card import decode_card_file, decode_station
from protocols.obu import decode_vehicle_file
from protocols.rsu.messages import (
    Acknowledge,
    Continue,
    Debit,
    DebitResult,
    DeviceStatus,
    Heartbeat,
    Initialise,
    ObuReport,
    RecoverTac,
    Stop,
    StopType,
    SwitchAntenna,
    UserReport,
    VehicleReport,
    WriteEntry,
    WriteResult,
)
from protocols.rsu.registry import DIALECTS, dialect_named
from protocols.rsu.session import PeerRestarted, Received, Session, Side, Timing
from tests.hardware.samples import (
    EXIT,
    FACTOR,
    PATIENCE_S,
    QUICK,
    QUIET_S,
    TERMINAL,
    TIME,
    UNIX,
    car,
    card,
    record,
    started,
    state,
    true_tac,
    wait,
)

BJ = dialect_named("legacy-serial-bj")
SERIAL = ("legacy-serial-bj", "legacy-single-ff")
UNHURRIED = Timing(retry_ms=10_000, retries_max=0, silence_ms=600_000, duplicate_window_ms=1)
"""The antenna does not take a slow machine for silence. Nobody repeats here, and with passes that take milliseconds a
number may come round within the second in which a frame like an old one usually is its copy."""
STATION = bytes.fromhex("99010103")
NO_OBU = bytes(4)
TAIL = slice(7, 43)
"""What C3 and C7 carry of file 0019."""

C0 = Initialise(unix_seconds=UNIX, datetime_bcd=TIME, lane_mode=4, tx_power=20, pll_channel=0, trans_mode=1)


class Lane:
    """A bare lane computer."""

    def __init__(self, reader, writer, dialect):
        self.reader, self.writer = reader, writer
        self.session = Session(dialect, Side.LANE, UNHURRIED)
        self.news = asyncio.Queue()
        self.restarts = []
        self.bad = []
        self.seen = []
        self.task = asyncio.create_task(self._read())

    @classmethod
    async def connect(cls, emulator, dialect):
        return cls(*await asyncio.open_connection(*emulator.address), dialect)

    async def start(self, c0=C0):
        """C0, B0, C1 about nobody, 4C 01."""
        self.say(c0)
        status = await self.hear(DeviceStatus)
        self.answer(Continue(NO_OBU, bytes(8)))
        self.say(SwitchAntenna(on=1))
        return status

    async def _read(self):
        loop = asyncio.get_running_loop()
        with suppress(ConnectionError):
            while data := await self.reader.read(4096):
                output = self.session.receive(data, loop.time())
                self.writer.write(output.to_write)
                for event in output.events:
                    if isinstance(event, Received):
                        self.news.put_nowait(event)
                        self.seen.append(event.message)
                    elif isinstance(event, PeerRestarted):
                        self.restarts.append(event)
                        self.seen.append(event.received.message)
                        self.news.put_nowait(event)
                    else:
                        self.bad.append(event)

    def say(self, message, answering=None):
        output = self.session.send(message, asyncio.get_running_loop().time(), answering=answering)
        self.writer.write(output.to_write)

    async def hear(self, kind):
        """The next message that is no heartbeat, which must be of this kind."""
        while True:
            async with asyncio.timeout(PATIENCE_S):
                event = await self.news.get()
            if isinstance(event, PeerRestarted) and kind is not PeerRestarted:
                continue
            if isinstance(event, PeerRestarted):
                return event
            if isinstance(event.message, Heartbeat) and kind is not Heartbeat:
                continue
            assert isinstance(event.message, kind), event.message
            self.last = event
            return event.message

    async def nothing(self, seconds=QUIET_S):
        try:
            async with asyncio.timeout(seconds):
                event = await self.news.get()
        except TimeoutError:
            return
        pytest.fail(f"nothing should have come: {event}")

    def answer(self, message):
        self.say(message, answering=self.last)

    async def met(self):
        """B2, C1, B3, C1, B4."""
        found = await self.hear(ObuReport)
        self.answer(Continue(found.obu_id, found.issuer[:4] * 2))
        vehicle = await self.hear(VehicleReport)
        self.answer(Continue(found.obu_id, FACTOR))
        return found, vehicle, await self.hear(UserReport)

    def order(self, obu_id, amount_fen=1425, time=TIME):
        self.answer(
            Debit(obu_id=obu_id, div_factor=FACTOR, amount_fen=amount_fen, purchase_time_bcd=time, station=EXIT)
        )

    def enter(self, obu_id, station):
        self.answer(WriteEntry(obu_id, FACTOR, TIME, station[TAIL]))

    def recover(self, obu_id, time=TIME):
        self.answer(RecoverTac(obu_id, FACTOR, time, EXIT[TAIL]))

    async def sell(self, amount_fen=1425):
        """A whole sale but for the last word."""
        found, _, user = await self.met()
        self.order(found.obu_id, amount_fen)
        return found, user, await self.hear(DebitResult)

    async def close(self):
        self.writer.close()
        await self.task
        with suppress(ConnectionError):
            await self.writer.wait_closed()


def antenna(name=BJ.name, **changes):
    usual = {"dialect": dialect_named(name), "terminal": TERMINAL, "timing": UNHURRIED, "station": STATION}
    return started(RsuEmulator(RsuConfig(**QUICK | usual | changes)))


def bench(check, name=BJ.name, *, start=True, **changes):
    async def run():
        async with antenna(name, **changes) as (emulator, control):
            lane = await Lane.connect(emulator, dialect_named(name))
            try:
                if start:
                    await lane.start()
                await check(lane, control)
                assert not lane.bad
            finally:
                await lane.close()

    asyncio.run(run())


# --- the tables -----------------------------------------------------------------------------------------------------


def test_manners_follow_from_what_a_dialect_says():
    assert {name: manner_of(dialect) is STEPWISE for name, dialect in DIALECTS.items()} == {
        "pcrsu-v3": False,
        **dict.fromkeys(SERIAL, True),
    }
    assert manner_of(dialect_named("pcrsu-v3")) is NETWORK


@pytest.mark.parametrize("name", SERIAL)
def test_answers_are_those_the_session_stops_repeating_for(name):
    requests = dialect_named(name).rules[Side.RSU].requests
    asked = {Phase.REPORTED: 0xB2, Phase.DESCRIBED: 0xB3, Phase.READ: 0xB4, Phase.RESULT: 0xB5}
    codes = {Continue: 0xC1, Stop: 0xC2, WriteEntry: 0xC3, Debit: 0xC6, RecoverTac: 0xC7}
    for phase, code in asked.items():
        assert {codes[kind] for at, kind in ANSWERS_STEPWISE if at is phase} == requests[code].answers - {None}
    assert {phase for phase, _ in ANSWERS_STEPWISE} == set(asked)
    assert set(ANSWERS_STEPWISE.values()) == set(SAID_STEPWISE) | {Phase.GUARDED, Phase.SEARCHING}


# --- starting -------------------------------------------------------------------------------------------------------


def test_b0_says_what_the_antenna_is_and_power_up_is_marked_once():
    async def check():
        async with antenna() as (emulator, control):
            lane = await Lane.connect(emulator, BJ)
            status = await lane.start()
            # The first B0 had the mark: it answered nothing, and C0 went out again by itself.
            (restart,) = lane.restarts
            assert (restart.received.seq, restart.repeated) == (0x98, True)
            assert status == restart.received.message
            assert lane.last.seq == 0x08
            assert (status.rsu_status, [psam.terminal for psam in status.psams]) == (0, [TERMINAL, bytes(6)])
            assert status.psam_count_declared == 1
            await lane.close()
            lane = await Lane.connect(emulator, BJ)
            await lane.start()
            assert (lane.restarts, lane.last.seq) == ([], 0x08)
            assert (await control.request("stats"))["out_of_turn"] == 0
            await lane.close()

    asyncio.run(check())


@pytest.mark.parametrize("name", SERIAL)
def test_radio_may_be_switched_on_before_c0(name):
    async def check():
        async with antenna(name) as (emulator, control):
            lane = await Lane.connect(emulator, dialect_named(name))
            await lane.start()  # the first B0 is a matter of its own
            await lane.close()
            await control.request("arrive", vehicle=car())
            lane = await Lane.connect(emulator, dialect_named(name))
            lane.say(SwitchAntenna(on=1))
            await lane.nothing()
            lane.say(C0)
            await lane.hear(DeviceStatus)
            await lane.hear(ObuReport)
            # C0 leaves the switch as it is, 4C 00 does not.
            lane.say(C0)
            await lane.hear(DeviceStatus)
            await lane.hear(ObuReport)
            lane.say(SwitchAntenna(on=0))
            lane.say(C0)
            await lane.hear(DeviceStatus)
            await lane.nothing()
            assert (await control.request("stats"))["radio_on"] is False
            await lane.close()

    asyncio.run(check())


def test_radio_stays_off_without_4c():
    async def check(lane, control):
        await control.request("arrive", vehicle=car())
        lane.say(C0)
        await lane.hear(DeviceStatus)
        await lane.nothing()

    bench(check, start=False)


def test_until_c0_the_antenna_says_b0_then_heartbeats():
    async def check(lane, control):
        first = await lane.hear(PeerRestarted)
        assert (first.repeated, isinstance(first.received.message, DeviceStatus)) == (False, True)
        assert isinstance(await lane.hear(DeviceStatus), DeviceStatus)
        await lane.start()
        beat = await lane.hear(Heartbeat)
        assert (beat.obu_id, beat.error) == (NO_OBU, 0x80)
        # A heartbeat may be answered; that is no order about a vehicle.
        lane.answer(Stop(NO_OBU, StopType.SEARCH_AGAIN))
        await lane.hear(Heartbeat)
        assert (await control.request("stats"))["out_of_turn"] == 0

    bench(check, start=False, timing=replace(UNHURRIED, heartbeat_ms=50))


def test_restart_cuts_tcp_and_marks_the_next_frame():
    async def check():
        async with antenna() as (emulator, control):
            lane = await Lane.connect(emulator, BJ)
            await lane.start()
            await control.request("restart")
            async with asyncio.timeout(PATIENCE_S):
                await lane.task
            await lane.close()
            lane = await Lane.connect(emulator, BJ)
            await lane.start()
            assert len(lane.restarts) == 1
            await lane.close()

    asyncio.run(check())


def test_restart_on_a_serial_line_is_told_to_the_lane(tmp_path):
    """The antenna comes back under the same cable in the middle of a pass, and wants everything anew."""
    path = tmp_path / "rsu"

    async def check():
        async with antenna(listen=PtyAddress(path)) as (_, control):
            link = await open_link(f"serial:{path}", timeout_s=PATIENCE_S, device="rsu-1")
            lane = Lane(link, Writes(link), BJ)
            try:
                await lane.start()
                await control.request("arrive", vehicle=car())
                await lane.sell()
                await control.request("restart")
                again = await lane.hear(PeerRestarted)
                assert (again.received.seq, again.repeated) == (0x98, False)
                assert (await control.request("stats"))["initialised"] is False
                await lane.start()
                found, _, user = await lane.met()
                assert user.balance_raw == 48_575
                # Which purchase the last one was, the antenna has forgotten; the card has not.
                lane.recover(found.obu_id)
                proof = await lane.hear(DebitResult)
                assert (proof.error, proof.card_serial, proof.psam_serial) == (0, 2, 0)
                assert proof.tac == true_tac(replace(proof, psam_serial=1), 1425)
            finally:
                lane.task.cancel()
                await asyncio.gather(lane.task, return_exceptions=True)
                await lane.writer.last
                await link.close()

    asyncio.run(check())


class Writes:
    """A link as a stream writer: bytes leave in the order they were written."""

    def __init__(self, link):
        self.link = link
        self.last = None

    def write(self, data):
        if data:
            before = self.last
            self.last = asyncio.ensure_future(self._write(before, data))

    async def _write(self, before, data):
        if before is not None:
            await before
        await self.link.write(data)


# --- a sale ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SERIAL)
def test_a_sale_from_b2_to_c1(name):
    async def check(lane, control):
        arrived = await control.request("arrive", vehicle=car())
        found, vehicle, user = await lane.met()
        assert (found.obu_id.hex(), found.error) == ("99000001", 0)
        assert (found.contract_type, found.contract_version, found.device_type) == (None, None, None)
        assert (found.issuer.hex(), found.serial.hex()) == ("b2e2cad499010001", "9901230100000001")
        assert (found.issued.hex(), found.expires.hex(), found.status[0] & 0x80) == ("20240101", "20340101", 0)
        assert (vehicle.obu_id, vehicle.error, vehicle.vehicle_class) == (found.obu_id, 0, 1)
        assert decode_vehicle_file(vehicle.vehicle_file).plate == "测A00001"
        assert (user.error, user.vehicle_file, len(user.card_file), user.balance_raw) == (0, None, 43, 50_000)
        assert (user.card_type, user.physical_card_type, user.card_uid, user.trans_type) == (0, 0, bytes(4), 0x10)
        assert decode_card_file(user.card_file).card_number == arrived["card_number"]
        assert decode_station(user.station).station_code == "99010101"

        lane.order(found.obu_id)
        result = await lane.hear(DebitResult)
        assert (result.error, result.balance_raw, result.card_serial) == (0, 48_575, 2)
        assert (result.terminal, result.trans_time_bcd, result.trans_type) == (TERMINAL, TIME, 9)
        assert result.tac == true_tac(result, 1425)
        # The antenna's clock is the one C0 has set.
        assert UNIX <= result.unix_seconds < UNIX + PATIENCE_S

        lane.answer(Continue(found.obu_id, FACTOR))
        await wait(control, "finished")
        account = await card(control)
        assert (account["balance"], account["decrements"], account["file_0019"]) == (48_575, [1425], EXIT.hex())
        seen = await state(control)
        assert (seen["phase"], seen["messages"]) == (
            "guarded",
            {"B2": 1, "B3": 1, "B4": 1, "B5": 1, "C1": 3, "C6": 1},
        )
        assert {event for event, count in seen["events"].items() if count} == {
            *("reported", "asked", "described", "read", "ordered", "taken", "result_sent", "finished")
        }
        await lane.nothing()

    bench(check, name)


def test_resend_stop_and_continue_without_a_debit():
    async def check(lane, control):
        await control.request("arrive", vehicle=car())
        found = await lane.hear(ObuReport)
        lane.answer(Continue(found.obu_id, FACTOR))
        first = await lane.hear(VehicleReport)
        lane.answer(Stop(found.obu_id, StopType.RESEND))
        assert await lane.hear(VehicleReport) == first
        lane.answer(Stop(found.obu_id, StopType.SEARCH_AGAIN))
        await wait(control, "stopped")
        found, _, user = await lane.met()
        lane.answer(Stop(found.obu_id, StopType.RESEND))
        assert await lane.hear(UserReport) == user
        lane.answer(Continue(found.obu_id, FACTOR))
        await lane.nothing()
        seen = await state(control)
        assert (seen["phase"], seen["messages"]["B3"], seen["messages"]["B4"]) == ("guarded", 3, 2)
        assert seen["events"]["finished"] == 0

    bench(check)


def test_orders_out_of_turn_are_not_followed():
    async def check(lane, control):
        await control.request("arrive", vehicle=car())
        found = await lane.hear(ObuReport)
        lane.order(found.obu_id)
        lane.recover(found.obu_id)
        lane.enter(found.obu_id, EXIT)
        lane.answer(Continue(bytes.fromhex("0a0b0c01"), FACTOR))
        lane.answer(Continue(found.obu_id, FACTOR))
        await lane.hear(VehicleReport)
        assert (await control.request("stats"))["out_of_turn"] == 4
        assert (await card(control))["decrements"] == []

    bench(check)


@pytest.mark.parametrize("answer", [None, Acknowledge()], ids=["silence", "empty frame"])
def test_without_a_command_the_antenna_searches_again_after_a_second(answer):
    """Its own retry time of 1 s; an empty frame ends the wait for an answer, not the wait for a command."""

    async def check(lane, control):
        loop = asyncio.get_running_loop()
        await control.request("arrive", vehicle=car())
        found = await lane.hear(ObuReport)
        before = loop.time()
        lane.answer(Continue(found.obu_id, FACTOR))
        await lane.hear(VehicleReport)
        if answer is not None:
            lane.answer(answer)
        await lane.hear(ObuReport)
        assert loop.time() - before >= 1

    bench(check, timing=None)


# --- an entry -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SERIAL)
def test_an_entry_is_written_whole_and_costs_nothing(name):
    # The lane's own network and station do not travel: those on the card are the antenna's.
    wanted = record("0103", status=3)

    async def check(lane, control):
        await control.request("arrive", vehicle=car(station=None))
        found, _, user = await lane.met()
        assert user.station[3:] == b"\xff" * 40
        lane.enter(found.obu_id, record("7777", status=3))
        result = await lane.hear(WriteResult)
        assert (result.obu_id, result.error, result.terminal) == (found.obu_id, 0, TERMINAL)
        assert UNIX <= result.unix_seconds < UNIX + PATIENCE_S
        lane.answer(Continue(found.obu_id, FACTOR))
        await wait(control, "finished")
        account = await card(control)
        assert (account["file_0019"], account["balance"], account["decrements"]) == (wanted.hex(), 50_000, [0])
        seen = await state(control)
        assert seen["messages"] == {"B2": 1, "B3": 1, "B4": 1, "B5": 1, "C1": 3, "C3": 1}
        assert (seen["events"]["entry_ordered"], seen["events"]["written"], seen["events"]["taken"]) == (1, 1, 0)
        await control.request("forget_guard", id="car-1")
        _, _, user = await lane.met()
        assert user.station == wanted
        assert decode_station(user.station).station_code == STATION.hex()

    bench(check, name)


def test_an_entry_whose_answer_is_lost_stands_on_the_card():
    async def check(lane, control):
        await control.request("fault", id="car-1", what="lose_answer")
        await control.request("arrive", vehicle=car(station=None))
        found, _, _ = await lane.met()
        lane.enter(found.obu_id, EXIT)
        assert (await lane.hear(WriteResult)).error == 1
        lane.answer(Continue(found.obu_id, FACTOR))
        _, _, user = await lane.met()  # not finished: it searches again
        assert user.station == record("0103")

    bench(check)


def test_a_debit_with_a_short_station_is_completed_too():
    async def check(lane, control):
        await control.request("arrive", vehicle=car())
        found, _, _ = await lane.met()
        lane.answer(Debit(found.obu_id, FACTOR, 100, TIME, EXIT[TAIL]))
        assert (await lane.hear(DebitResult)).error == 0
        assert (await card(control))["file_0019"] == record("0103").hex()

    bench(check)


# --- a lost result --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fault", ["lose_answer", "drop_result"])
def test_a_lost_result_is_fetched_with_c7(fault):
    async def check(lane, control):
        await control.request("fault", id="car-1", what=fault)
        await control.request("arrive", vehicle=car())
        found, _, _ = await lane.met()
        lane.order(found.obu_id)
        if fault == "lose_answer":
            lost = await lane.hear(DebitResult)
            assert (lost.error, lost.card_serial, lost.tac, lost.balance_raw) == (1, 0, bytes(4), 0xFFFFFFFF)
            lane.answer(Continue(found.obu_id, FACTOR))
        found, _, user = await lane.met()
        assert (user.balance_raw, user.station) == (48_575, EXIT)
        lane.recover(found.obu_id, time="20250712093500")
        proof = await lane.hear(DebitResult)
        assert (proof.error, proof.card_serial, proof.balance_raw) == (0, 2, 48_575)
        # The purchase's own time, whatever the lane asked with.
        assert (proof.terminal, proof.trans_time_bcd, proof.trans_type) == (TERMINAL, TIME, 9)
        assert proof.tac == true_tac(proof, 1425)
        lane.answer(Continue(found.obu_id, FACTOR))
        await wait(control, "finished")
        assert (await card(control))["decrements"] == [1425]
        seen = await state(control)
        assert (seen["messages"]["C7"], seen["messages"]["C6"]) == (1, 1)
        assert (seen["events"]["tac_asked"], seen["events"]["tac_sent"]) == (1, 1)

    bench(check)


def test_c7_for_a_purchase_that_was_not_made():
    """The card has left before 8054: the number it would have had proves nothing."""

    async def check(lane, control):
        await control.request("pause", id="car-1", before="debit")
        await control.request("arrive", vehicle=car())
        found, _, _ = await lane.met()
        lane.order(found.obu_id)
        await wait(control, "paused")
        await control.request("leave", id="car-1")
        assert (await lane.hear(DebitResult)).error == 1
        lane.answer(Continue(found.obu_id, FACTOR))
        await wait(control, "gone")
        await control.request("return", id="car-1")
        found, _, user = await lane.met()
        assert user.balance_raw == 50_000
        lane.recover(found.obu_id)
        answer = await lane.hear(DebitResult)
        assert (answer.error, answer.tac, answer.card_serial) == (4, bytes(4), 0)
        assert (answer.balance_raw, answer.psam_serial) == (0xFFFFFFFF, 0)
        lane.answer(Continue(found.obu_id, FACTOR))
        await lane.hear(ObuReport)

    bench(check)


def test_c7_for_a_card_that_never_bought():
    async def check(lane, control):
        await control.request("arrive", vehicle=car())
        found, _, _ = await lane.met()
        lane.recover(found.obu_id)
        answer = await lane.hear(DebitResult)
        assert (answer.error, answer.tac, answer.trans_time_bcd) == (4, bytes(4), "0" * 14)

    bench(check)


# --- faults ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("fault", "error"), [("refuse_mac1", 0x06), ("purchase_refused", 0x11)])
def test_purchases_that_fail_take_nothing(fault, error):
    async def check(lane, control):
        await control.request("fault", id="car-1", what=fault)
        await control.request("arrive", vehicle=car())
        found, _, result = await lane.sell()
        assert (result.error, result.tac, result.card_serial) == (error, bytes(4), 0)
        assert result.unix_seconds >= UNIX
        lane.answer(Continue(found.obu_id, FACTOR))
        _, _, result = await lane.sell()
        assert result.error == 0
        assert (await card(control))["decrements"] == [1425]

    bench(check)


def test_reading_errors_say_nothing_of_tag_or_card():
    async def check(lane, control):
        await control.request("fault", id="car-1", what="read_error")
        await control.request("arrive", vehicle=car())
        found, vehicle, user = await lane.met()
        assert (vehicle.error, user.error, user.balance_raw, user.card_file) == (0, 1, 0, bytes(43))
        lane.answer(Stop(found.obu_id, StopType.SEARCH_AGAIN))
        await control.request("pause", id="car-1", before="read")
        found = await lane.hear(ObuReport)
        lane.answer(Continue(found.obu_id, FACTOR))
        await wait(control, "paused")
        await control.request("leave", id="car-1")
        vehicle = await lane.hear(VehicleReport)
        assert (vehicle.error, vehicle.plate) == (1, bytes(12))

    bench(check)


@pytest.mark.parametrize("changes", [{"no_card": True}, {"card_error": True}])
def test_a_tag_without_a_usable_card(changes):
    async def check(lane, control):
        spec = car()
        spec["obu"] |= changes
        await control.request("arrive", vehicle=spec | ({"card": None} if "no_card" in changes else {}))
        _, vehicle, user = await lane.met()
        assert vehicle.error == 0
        assert user.error == (0x11 if "no_card" in changes else 0x15)

    bench(check)


@pytest.mark.parametrize("point", ["read", "debit", "result"])
def test_a_pass_is_held_where_told(point):
    async def check(lane, control):
        await control.request("pause", id="car-1", before=point)
        await control.request("arrive", vehicle=car())
        selling = asyncio.ensure_future(lane.sell())
        await wait(control, "paused")
        seen = await state(control)
        assert (seen["paused_before"], "B3" in seen["messages"]) == (point, point != "read")
        assert (await card(control))["decrements"] == ([1425] if point == "result" else [])
        await control.request("continue", id="car-1")
        assert (await selling)[2].error == 0

    bench(check)


def test_a_slow_vehicle_takes_its_time():
    async def check(lane, control):
        loop = asyncio.get_running_loop()
        await control.request("fault", id="car-1", what="slow", extra_ms=400)
        await control.request("arrive", vehicle=car())
        start = loop.time()
        _, _, result = await lane.sell()
        assert (result.error, loop.time() - start > 0.3) == (0, True)

    bench(check)


@pytest.mark.parametrize("kind", [2, 3])
def test_devices_the_dialect_cannot_tell_of(kind):
    async def check(_, control):
        with pytest.raises(ControlError, match="tags with a card only"):
            await control.request("arrive", vehicle=car(device_type=kind, card=None))

    bench(check)


# --- the wire -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SERIAL)
def test_the_wire_tells_what_the_sessions_said(tmp_path, name):
    """An OBU id with FE and FF in it, read by the bench's own decoder, field by field."""
    path = tmp_path / "rsu.capture"
    said = []

    async def check(lane, control):
        spec = car()
        spec["obu"]["id"] = "fefffe00"
        await control.request("fault", id="car-1", what="lose_answer")
        await control.request("arrive", vehicle=spec)
        found, _, _ = await lane.sell()
        lane.answer(Continue(found.obu_id, FACTOR))
        found, _, _ = await lane.met()
        lane.recover(found.obu_id)
        await lane.hear(DebitResult)
        lane.answer(Continue(found.obu_id, FACTOR))
        await wait(control, "finished")
        await control.request("forget_guard", id="car-1")
        found, _, _ = await lane.met()
        lane.enter(found.obu_id, EXIT)
        await lane.hear(WriteResult)
        said.extend(message for message in lane.seen if not isinstance(message, DeviceStatus))

    bench(check, name, capture=path)
    frames = read_capture(path, name)
    (order,) = orders(frames)
    assert (order.obu_id.hex(), order.amount_fen, order.time) == ("fefffe00", 1425, TIME)
    assert order.station == EXIT
    (entry,) = [frame for frame in frames if frame.code == 0xC3]
    (lost,) = [frame for frame in frames if frame.code == 0xC7]
    assert entry.station == lost.station == EXIT[TAIL]
    reports = [frame for frame in frames if frame.direction == "out" and frame.code not in (0xB0, 0)]
    assert len(reports) == len(said) == 12
    shared = {field.name for field in fields(reports[0])}
    for frame, message in zip(reports, said, strict=True):
        for field in fields(message):
            read = getattr(frame, field.name, None) if field.name in shared else None
            assert read in (None, getattr(message, field.name)), field.name
        wanted = {
            ObuReport: ("obu_id", "error"),
            VehicleReport: ("obu_id", "error"),
            UserReport: ("obu_id", "error", "station", "balance_raw"),
            DebitResult: ("obu_id", "error", "terminal", "tac", "card_serial", "psam_serial", "balance_raw"),
            WriteResult: ("obu_id", "error", "terminal"),
        }[type(message)]
        assert all(getattr(frame, name) is not None for name in wanted)
        if isinstance(message, DebitResult):
            assert frame.time == message.trans_time_bcd


# --- the program ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["9901", "9901010g", "990101030"])
def test_wrong_stations(text, capsys):
    with pytest.raises(SystemExit) as ended:
        main(["--station", text])
    assert ended.value.code == 2
    assert "--station" in capsys.readouterr().err
