"""The emulated antenna over real loopback sockets, driven by a plain lane end of the protocol session."""

import asyncio
import itertools
import json
import random
import re
import signal
import stat
import subprocess
import sys
from contextlib import suppress
from dataclasses import replace

import pytest

from drivers.clock import SystemClock
from drivers.link import TcpLink
from drivers.rsu import RsuConfig as DriverConfig
from drivers.rsu import RsuDriver, RsuState
from hardware.bench.wire_rsu import orders, read_capture
from hardware.emulators import rsu_antenna as module
from hardware.emulators.control import ControlClient, ControlError, SyncControlClient
from hardware.emulators.road import Phase, Script, SpecError, VehicleSpec, build
from hardware.emulators.rsu import RsuEmulator, main
from hardware.emulators.rsu_antenna import RsuConfig
from hardware.emulators.rsu_turns import ANSWERS, SAID
from protocols.card import decode_card_file, decode_station
from protocols.obu import decode_obu_status, decode_vehicle_file
from protocols.rsu.messages import (
    Continue,
    Debit,
    DebitResult,
    DeviceStatus,
    FetchTac,
    Heartbeat,
    ObuReport,
    Stop,
    StopType,
    SwitchAntenna,
    TacResult,
    UserReport,
)
from protocols.rsu.session import BadBytes, Duplicate, Received, Session, Side, Timing
from tests.hardware.samples import (
    C0,
    ENTRY,
    EXIT,
    FACTOR,
    PATIENCE_S,
    QUICK,
    QUIET_S,
    TERMINAL,
    TIME,
    UNIX,
    V3,
    car,
    card,
    record,
    started,
    state,
    true_tac,
    wait,
)
from tests.programs import program

LOOK_S = 0.005
UNHURRIED = Timing(retry_ms=10_000, duplicate_window_ms=60_000)
"""No repetitions, however slow the machine; tests of repetition take the real times."""


class Lane:
    """A bare lane computer."""

    def __init__(self, reader, writer, timing):
        self.reader, self.writer = reader, writer
        self.session = Session(V3, Side.LANE, timing)
        self.news = asyncio.Queue()
        self.duplicates = []
        self.garbage = []
        self.sent = []
        self.closed = asyncio.Event()
        self.task = asyncio.create_task(self._read())

    @classmethod
    async def connect(cls, emulator, timing=UNHURRIED, *, start=True):
        lane = cls(*await asyncio.open_connection(*emulator.address), timing)
        if start:
            lane.say(C0)
            await lane.hear(DeviceStatus)
            lane.say(SwitchAntenna(on=1))
        return lane

    async def _read(self):
        loop = asyncio.get_running_loop()
        with suppress(ConnectionError):
            while data := await self.reader.read(4096):
                output = self.session.receive(data, loop.time())
                self.writer.write(output.to_write)
                for event in output.events:
                    if isinstance(event, Received):
                        self.news.put_nowait(event)
                    elif isinstance(event, Duplicate):
                        self.duplicates.append(event)
                    elif isinstance(event, BadBytes):
                        self.garbage.append(event)
        self.closed.set()

    def say(self, message, answering=None):
        output = self.session.send(message, asyncio.get_running_loop().time(), answering=answering)
        self.sent.append(output.to_write)
        self.writer.write(output.to_write)

    async def hear(self, kind):
        """The next message that is no heartbeat, which must be of this kind."""
        while True:
            async with asyncio.timeout(PATIENCE_S):
                event = await self.news.get()
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
        pytest.fail(f"nothing should have come: {event.message}")

    def answer(self, message):
        self.say(message, answering=self.last)

    async def met(self, obu_id=None):
        """B2, C1, B4."""
        found = await self.hear(ObuReport)
        assert obu_id in (None, found.obu_id)
        self.answer(Continue(found.obu_id, found.issuer[:4] * 2))
        return found, await self.hear(UserReport)

    def order(self, obu_id, amount_fen=1425, station=None, time=TIME, factor=FACTOR):
        station = EXIT if station is None else station
        self.answer(
            Debit(obu_id=obu_id, div_factor=factor, amount_fen=amount_fen, purchase_time_bcd=time, station=station)
        )

    async def sell(self, amount_fen=1425, station=None):
        """A whole sale but for the last word."""
        found, user = await self.met()
        self.order(found.obu_id, amount_fen, station)
        return found, user, await self.hear(DebitResult)

    def stop(self, obu_id, kind=StopType.SEARCH_AGAIN):
        self.answer(Stop(obu_id, kind, UNIX))

    async def close(self):
        self.writer.close()
        await self.task
        with suppress(ConnectionError):
            await self.writer.wait_closed()


def antenna(**changes):
    return started(RsuEmulator(RsuConfig(**QUICK | {"terminal": TERMINAL, "timing": UNHURRIED} | changes)))


def bench(check, **changes):
    async def run():
        async with antenna(**changes) as (emulator, control):
            lane = await Lane.connect(emulator)
            try:
                await check(lane, control)
            finally:
                await lane.close()

    asyncio.run(run())


async def stat_becomes(control, name, value):
    for _ in range(int(PATIENCE_S / LOOK_S)):
        if (await control.request("stats"))[name] == value:
            return
        await asyncio.sleep(LOOK_S)
    pytest.fail(f"{name} did not become {value}")


# --- the table ------------------------------------------------------------------------------------------------------


def test_answers_are_those_the_session_stops_repeating_for():
    requests = V3.rules[Side.RSU].requests
    asked = {Phase.REPORTED: 0xB2, Phase.READ: 0xB4, Phase.RESULT: 0xB5, Phase.PROVED: 0xB8}
    codes = {Continue: 0xC1, Stop: 0xC2, Debit: 0xC6, FetchTac: 0xC8}
    for phase, code in asked.items():
        ours = {codes[kind] for at, kind in ANSWERS if at is phase}
        assert ours == requests[code].answers - {0xC3}  # C3 is the lane version's
    assert {phase for phase, _ in ANSWERS} == set(asked)
    assert set(ANSWERS.values()) == set(SAID) | {Phase.GUARDED, Phase.SEARCHING}


# --- a sale ---------------------------------------------------------------------------------------------------------


def test_b0_says_what_the_antenna_is():
    async def check(lane, control):
        lane.say(C0)
        status = await lane.hear(DeviceStatus)
        assert (status.rsu_status, status.flag_id) == (0, C0.flag_id)
        assert [(psam.auth, psam.terminal) for psam in status.psams] == [(0, TERMINAL)]
        # C0 starts the antenna anew: the radio is off until the next C4.
        await control.request("arrive", vehicle=car())
        await lane.nothing()
        lane.say(SwitchAntenna(on=1))
        await lane.hear(ObuReport)

    bench(check)


def test_a_sale_from_b2_to_c1():
    async def check(lane, control):
        arrived = await control.request("arrive", vehicle=car())
        assert arrived["card_number"] == "99012301220100000001"
        found, user = await lane.met()
        assert (found.obu_id.hex(), found.device_type, found.error) == ("99000001", 1, 0)
        assert (found.issuer.hex(), found.serial.hex()) == ("b2e2cad499010001", "9901230100000001")
        assert (found.issued.hex(), found.expires.hex()) == ("20240101", "20340101")
        assert user.error == 0
        assert decode_vehicle_file(user.vehicle_file).plate == "测A00001"
        assert decode_card_file(user.card_file).card_number == arrived["card_number"]
        assert user.balance_raw == 50_000
        entry = decode_station(user.station)
        assert (entry.station_code, entry.lane, entry.unix_seconds) == ("99010101", 2, ENTRY["unix_seconds"])

        lane.order(found.obu_id)
        result = await lane.hear(DebitResult)
        assert (result.error, result.balance_raw, result.card_serial) == (0, 48_575, 2)
        assert (result.terminal, result.trans_time_bcd, result.trans_type) == (TERMINAL, TIME, 9)
        assert (result.algorithm, result.key_version) == (0, 1)
        assert result.tac == true_tac(result, 1425)

        lane.answer(Continue(found.obu_id, FACTOR))
        await wait(control, "finished")
        account = await card(control)
        assert (account["type"], account["balance_start"], account["balance"]) == (22, 50_000, 48_575)
        assert (account["decrements"], account["offline_serial"]) == ([1425], 2)
        assert account["transactions"] == [
            {"sequence": 2, "amount_fen": 1425, "trade_type": 9, "terminal": TERMINAL.hex(), "at": TIME}
        ]
        assert account["file_0019"] == EXIT.hex()
        seen = await state(control)
        assert (seen["phase"], seen["messages"]) == (
            "guarded",
            {"B2": 1, "B4": 1, "B5": 1, "C1": 2, "C6": 1},
        )
        assert {name for name, count in seen["events"].items() if count} == {
            *("reported", "asked", "read", "ordered", "taken", "result_sent", "finished")
        }
        assert seen["seen_at"].endswith("+00:00")

    bench(check)


def test_charge_card_counts_below_zero():
    async def check(lane, control):
        await control.request("arrive", vehicle=car(card={"type": 23, "balance_fen": -500}))
        _, user, result = await lane.sell()
        assert user.balance_raw == (1 << 32) - 500
        assert result.balance_raw == (1 << 32) - 1925
        account = await card(control)
        assert (account["balance_start"], account["balance"], account["decrements"]) == (-500, -1925, [1425])

    bench(check)


def test_purse_too_low_takes_nothing():
    async def check(lane, control):
        await control.request("arrive", vehicle=car(card={"balance_fen": 1424}))
        _, _, result = await lane.sell()
        assert (result.error, result.card_serial, result.tac) == (0x11, 0, bytes(4))
        assert (await card(control))["decrements"] == []

    bench(check)


def test_twelve_purchases_are_all_told_although_the_card_remembers_ten():
    async def check(lane, control):
        await control.request("arrive", vehicle=car())
        for number in range(1, 13):
            found, _, result = await lane.sell(number)
            assert result.error == 0
            lane.answer(Continue(found.obu_id, FACTOR))
            await wait(control, "finished", number)
            await control.request("forget_guard", id="car-1")
        account = await card(control)
        assert account["decrements"] == list(range(1, 13))
        assert account["balance_start"] - account["balance"] == sum(range(1, 13))
        assert account["offline_serial"] == 13

    bench(check)


def test_same_seed_same_bytes():
    async def once(seed):
        async with antenna(seed=seed) as (emulator, control):
            lane = await Lane.connect(emulator)
            await control.request("arrive", vehicle=car())
            found, _, result = await lane.sell()
            lane.answer(FetchTac(found.obu_id, result.card_serial))
            proof = await lane.hear(TacResult)  # MAC2 depends on the card's random number
            await lane.close()
            return result, proof

    first, again, other = (asyncio.run(once(seed)) for seed in (7, 7, 8))
    assert first == again
    assert first[1].tac == other[1].tac
    assert first[1].mac != other[1].mac


# --- orders that make no sense ----------------------------------------------------------------------------------------


def test_a_repeated_c6_debits_once():
    async def check(lane, control):
        await control.request("arrive", vehicle=car())
        await control.request("pause", id="car-1", before="result")
        found, _ = await lane.met()
        lane.order(found.obu_id)
        await wait(control, "paused")
        lane.writer.write(lane.sent[-1])  # the same frame once more
        again = Debit(found.obu_id, FACTOR, 1425, TIME, EXIT)
        lane.say(again)  # and the same order in a frame of its own
        await control.request("continue", id="car-1")
        result = await lane.hear(DebitResult)
        lane.say(again)
        lane.answer(Continue(found.obu_id, FACTOR))
        await wait(control, "finished")
        assert result.error == 0
        assert (await card(control))["decrements"] == [1425]
        counts = await control.request("stats")
        # A frame of its own with the SEQ of an earlier one is a duplicate too.
        assert counts["duplicates"] + counts["out_of_turn"] == 3
        assert min(counts["duplicates"], counts["out_of_turn"]) >= 1

    bench(check)


def test_orders_out_of_turn_are_not_followed():
    async def check(lane, control):
        await control.request("arrive", vehicle=car())
        found = await lane.hear(ObuReport)
        lane.order(found.obu_id)  # before anything was read
        lane.say(FetchTac(bytes.fromhex("01020304"), 2))  # of nobody here
        lane.answer(Continue(found.obu_id, FACTOR))
        await lane.hear(UserReport)
        assert (await card(control))["decrements"] == []
        assert (await state(control))["events"]["ordered"] == 0
        assert (await control.request("stats"))["out_of_turn"] == 2

    bench(check)


@pytest.mark.parametrize(
    ("time", "factor", "error"),
    [("2025071209300a", FACTOR, 0x11), ("20250712093000", b"\xb1\xb1\xbe\xa9" * 2, 0x11), (TIME, bytes(8), 0x00)],
    ids=["no time", "factor of another region", "no factor: the card's own"],
)
def test_the_order_is_what_the_psam_gets(time, factor, error):
    async def check(lane, control):
        await control.request("arrive", vehicle=car())
        found, _ = await lane.met()
        lane.order(found.obu_id, time=time, factor=factor)
        result = await lane.hear(DebitResult)
        assert result.error == error
        assert (await card(control))["decrements"] == ([] if error else [1425])

    bench(check)


def test_a_record_that_is_none_is_refused_by_the_card():
    async def check(lane, control):
        await control.request("arrive", vehicle=car())
        _, user, result = await lane.sell(station=b"\xbb" + bytes(42))
        assert result.error == 0x11
        assert (await card(control))["file_0019"] == user.station.hex()

    bench(check)


@pytest.mark.parametrize(
    ("trade_type", "error", "debited"), [(0, 0x14, [1425]), (1, 0x10, []), (2, 0x00, [1425])], ids=["both", "ef04", "c"]
)
def test_ef04_is_said_not_to_be_written(trade_type, error, debited):
    async def check(lane, control):
        await control.request("arrive", vehicle=car())
        found, _ = await lane.met()
        order = Debit(found.obu_id, FACTOR, 1425, TIME, EXIT, trade_type=trade_type, ef04=bytes(91))
        lane.answer(order)
        assert (await lane.hear(DebitResult)).error == error
        assert (await card(control))["decrements"] == debited

    bench(check)


# --- kinds of vehicles ------------------------------------------------------------------------------------------------


def test_one_piece_tag():
    async def check(lane, control):
        await control.request("arrive", vehicle=car(device_type=2, card=None))
        found, user = await lane.met()
        assert (found.device_type, found.contract_version) == (2, 0x52)
        assert (user.error, user.balance_raw) == (0, 0)
        assert decode_vehicle_file(user.vehicle_file).plate == "测A00001"
        assert decode_station(user.station).station_code == "99010101"
        lane.order(found.obu_id)
        result = await lane.hear(DebitResult)
        assert (result.error, result.trans_type) == (0x0A, 0x80)
        lane.stop(found.obu_id, StopType.FREEZE)
        await wait(control, "stopped")
        seen = await state(control)
        assert (seen["phase"], seen["last_stop"]) == ("guarded", 3)
        assert (await control.request("cards"))["cards"] == []

    bench(check)


def test_cpc_card():
    async def check(lane, control):
        await control.request("arrive", vehicle=car(device_type=3, card=None, obu={"battery_low": True}))
        found, user = await lane.met()
        assert (found.device_type, found.serial.hex()) == (3, "9901230100000001")
        assert decode_obu_status(found.status, 3).battery_low
        assert (user.vehicle_file, user.cpc_province, user.cpc_fee) == (None, bytes(4), bytes(10))
        assert decode_station(user.station).station_code == "99010101"
        lane.order(found.obu_id)
        result = await lane.hear(DebitResult)
        assert (result.error, result.tac) == (0x0E, None)

    bench(check)


@pytest.mark.parametrize("flag", ["tampered", "locked", "battery_low", "no_card", "card_error"])
def test_flags_of_a_tag_stand_in_b2(flag):
    async def check(lane, control):
        changes = {"card": None} if flag == "no_card" else {}
        await control.request("arrive", vehicle=car(obu={flag: True}, **changes))
        found, user = await lane.met()
        status = decode_obu_status(found.status)
        said = {
            "tampered": status.tampered,
            "locked": status.locked,
            "battery_low": status.battery_low,
            "no_card": not status.card_present,
            "card_error": status.card_error,
        }
        assert said == {name: name == flag for name in said}
        assert status.mount_flag == (0 if flag == "tampered" else 1)
        assert user.error == {"no_card": 0x11, "card_error": 0x15}.get(flag, 0)
        assert decode_vehicle_file(user.vehicle_file).plate == "测A00001"

    bench(check)


def test_what_a_card_and_a_tag_say_can_differ_and_be_old():
    async def check(lane, control):
        await control.request(
            "arrive",
            vehicle=car(
                obu={"network": "1101", "issued": "20150101", "expires": "2025-01-01"},
                card={"plate": "测B99999", "plate_colour": 4, "vehicle_class": 3, "expires": "2020-02-29"},
                station=None,
                user_type=8,
                plate_colour=1,
                vehicle_class=2,
            ),
        )
        found, user = await lane.met()
        assert found.issuer == "北京".encode("gbk") + bytes.fromhex("11010001")
        assert (found.issued.hex(), found.expires.hex()) == ("20150101", "20250101")
        vehicle, held = decode_vehicle_file(user.vehicle_file), decode_card_file(user.card_file)
        assert (vehicle.plate, vehicle.plate_colour, vehicle.vehicle_class) == ("测A00001", 1, 2)
        assert (held.plate, held.plate_colour, held.vehicle_class) == ("测B99999", 4, 3)
        assert held.expires.isoformat() == "2020-02-29"
        assert held.user_type == vehicle.user_type == 8
        assert user.station == bytes.fromhex("aa2900") + b"\xff" * 40

    bench(check)


# --- the guard, leaving, returning ------------------------------------------------------------------------------------


def test_a_finished_vehicle_is_left_alone_until_the_guard_is_forgotten_or_it_returns():
    async def check(lane, control):
        await control.request("arrive", vehicle=car())
        found, _, _ = await lane.sell()
        lane.answer(Continue(found.obu_id, FACTOR))
        await wait(control, "finished")
        await lane.nothing()
        assert (await state(control))["quiet_ms"] > 0

        assert await control.request("forget_guard", id="car-1") == {"id": "car-1", "was_guarded": True}
        found, user = await lane.met()
        assert user.station == EXIT
        lane.answer(Continue(found.obu_id, FACTOR))  # no purchase wanted
        await control.request("leave", id="car-1")
        await wait(control, "gone")
        assert (await state(control))["phase"] == "away"

        await control.request("return", id="car-1")
        _, user, result = await lane.sell(100, record(lane=3))
        assert (user.balance_raw, result.error) == (48_575, 0)
        assert (await card(control))["decrements"] == [1425, 100]

    bench(check, guard_s=3600.0)


def test_the_guard_ends_by_itself():
    async def check(lane, control):
        await control.request("arrive", vehicle=car())
        found, _, _ = await lane.sell()
        lane.answer(Continue(found.obu_id, FACTOR))
        await lane.hear(ObuReport)

    bench(check, guard_s=0.1)


def test_stop_types():
    async def check(lane, control):
        await control.request("arrive", vehicle=car())
        found, user = await lane.met()
        first = lane.last
        lane.stop(found.obu_id, StopType.RESEND)
        assert await lane.hear(UserReport) == user
        assert lane.last.seq != first.seq
        assert (await state(control))["events"]["stopped"] == 0
        lane.stop(found.obu_id)
        await lane.met()  # searched again
        lane.stop(found.obu_id, StopType.FREEZE)
        await wait(control, "stopped", 2)
        await lane.nothing()
        assert (await state(control))["events"]["read"] == 2

    bench(check, guard_s=3600.0)


def test_a_lane_that_only_asks_for_repetition_is_not_heard_for_ever():
    async def check(lane, control):
        await control.request("arrive", vehicle=car())
        found = await lane.hear(ObuReport)
        for _ in range(module.RESENDS_MAX):
            lane.stop(found.obu_id, StopType.RESEND)
            await lane.hear(ObuReport)
        lane.stop(found.obu_id, StopType.RESEND)
        await wait(control, "stopped")

    bench(check)


def test_leaving_while_being_read_and_while_paying():
    async def check(lane, control):
        await control.request("arrive", vehicle=car())
        await control.request("pause", id="car-1", before="read")
        found = await lane.hear(ObuReport)
        lane.answer(Continue(found.obu_id, FACTOR))
        await wait(control, "paused")
        await control.request("leave", id="car-1")
        user = await lane.hear(UserReport)
        assert (user.error, user.vehicle_file) == (1, bytes(79))
        lane.stop(found.obu_id)
        await wait(control, "gone")

        await control.request("return", id="car-1")
        await control.request("pause", id="car-1", before="debit")
        found, _ = await lane.met()
        lane.order(found.obu_id)
        await wait(control, "paused", 2)
        assert (await state(control))["paused_before"] == "debit"
        with pytest.raises(ControlError, match="still buying"):
            await control.request("return", id="car-1")
        await control.request("leave", id="car-1")
        result = await lane.hear(DebitResult)
        assert (result.error, result.card_serial, result.tac) == (1, 0, bytes(4))
        lane.answer(Continue(found.obu_id, FACTOR))
        await wait(control, "gone", 2)
        assert (await card(control))["decrements"] == []
        await lane.nothing()

    bench(check)


# --- what goes wrong on the air ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("kept", [False, True])
def test_a_lost_answer_is_proved_by_c8(kept):
    async def check(lane, control):
        what = "lose_answer_keep_serial" if kept else "lose_answer"
        await control.request("fault", id="car-1", what=what)  # before it arrives
        await control.request("arrive", vehicle=car())
        found, user, lost = await lane.sell()
        assert (lost.error, lost.tac, lost.balance_raw) == (1, bytes(4), 0xFFFFFFFF)
        assert lost.card_serial == (2 if kept else 0)
        lane.answer(Continue(found.obu_id, FACTOR))

        found, again = await lane.met()  # not finished, so it is looked for again, guard or not
        assert again.station == EXIT != user.station
        assert again.balance_raw == user.balance_raw - 1425
        lane.answer(FetchTac(found.obu_id, 3))
        wrong = await lane.hear(TacResult)  # the card says 9406
        assert (wrong.error, wrong.tac, wrong.balance_raw) == (4, bytes(4), 48_575)
        lane.stop(found.obu_id)

        found = await lane.hear(ObuReport)
        lane.answer(FetchTac(found.obu_id, 2))  # without reading again
        proof = await lane.hear(TacResult)
        assert (proof.error, proof.balance_raw) == (0, 48_575)
        assert proof.tac == true_tac(lost, 1425)
        lane.answer(Continue(found.obu_id, FACTOR))
        await wait(control, "finished")
        seen = await state(control)
        assert seen["messages"]["B8"] == seen["events"]["tac_asked"] == seen["events"]["tac_sent"] == 2
        assert (await card(control))["decrements"] == [1425]

    bench(check, guard_s=3600.0)


def test_tac_asked_right_after_b5():
    async def check(lane, control):
        await control.request("arrive", vehicle=car())
        await control.request("fault", id="car-1", what="lose_answer_keep_serial")
        found, _, lost = await lane.sell()
        lane.answer(FetchTac(found.obu_id, lost.card_serial))
        assert (await lane.hear(TacResult)).tac == true_tac(lost, 1425)

    bench(check)


@pytest.mark.parametrize(("command", "error"), [(0, 0), (1, 5)])
def test_c8_with_ef04(command, error):
    async def check(lane, control):
        await control.request("arrive", vehicle=car())
        await control.request("fault", id="car-1", what="lose_answer_keep_serial")
        found, _, lost = await lane.sell()
        lane.answer(FetchTac(found.obu_id, lost.card_serial, ef04_command=command, ef04=bytes(91), ef04_extra=bytes(5)))
        proof = await lane.hear(TacResult)
        assert (proof.error, proof.tac) == (error, true_tac(lost, 1425))

    bench(check)


def test_a_dropped_result():
    async def check(lane, control):
        await control.request("fault", id="car-1", what="drop_result")
        await control.request("arrive", vehicle=car())
        found, _ = await lane.met()
        lane.order(found.obu_id)
        _, again = await lane.met()  # no B5 in between
        assert again.station == EXIT
        seen = await state(control)
        assert (seen["events"]["taken"], seen["events"]["result_sent"]) == (1, 0)

    bench(check, silence_s=0.05)


@pytest.mark.parametrize(("what", "error"), [("refuse_mac1", 0x06), ("purchase_refused", 0x11)])
def test_purchases_that_take_nothing(what, error):
    async def check(lane, control):
        await control.request("fault", id="car-1", what=what, times=2)
        await control.request("arrive", vehicle=car())
        for _ in range(2):
            found, user, result = await lane.sell()
            assert (result.error, result.card_serial, result.tac) == (error, 0, bytes(4))
            assert decode_station(user.station).station_code == "99010101"
            lane.answer(Continue(found.obu_id, FACTOR))
        assert (await card(control))["decrements"] == []
        found, _, result = await lane.sell()  # used up
        assert (result.error, result.tac) == (0, true_tac(result, 1425))
        assert (await card(control))["decrements"] == [1425]

    bench(check, guard_s=3600.0)


def test_a_reading_that_fails():
    async def check(lane, control):
        await control.request("fault", id="car-1", what="read_error")
        await control.request("arrive", vehicle=car())
        found, user = await lane.met()
        assert (user.error, user.vehicle_file, user.card_file) == (1, bytes(79), bytes(50))
        lane.stop(found.obu_id)
        _, user = await lane.met()
        assert user.error == 0

    bench(check)


def test_air_time_is_shared_out_and_made_longer_by_slow():
    async def check(lane, control):
        loop = asyncio.get_running_loop()
        await control.request("fault", id="car-1", what="slow", extra_ms=200)
        await control.request("arrive", vehicle=car())
        found = await lane.hear(ObuReport)
        lane.answer(Continue(found.obu_id, FACTOR))
        asked = loop.time()
        await lane.hear(UserReport)
        read = loop.time()
        lane.order(found.obu_id)
        await lane.hear(DebitResult)
        done = loop.time()
        # 400 ms in all, give or take a tenth; timers never ring early, a slow machine only makes it longer.
        assert read - asked >= 0.9 * 0.45 * 0.4
        assert done - read >= 0.9 * 0.55 * 0.4

    bench(check, radio_ms=200)


# --- the lane goes silent, or away ------------------------------------------------------------------------------------


def test_a_report_nobody_answers_is_repeated_and_then_made_anew():
    async def run():
        timing = Timing(retry_ms=20)
        async with antenna(timing=timing, silence_s=0.5) as (emulator, control):
            lane = await Lane.connect(emulator)
            await control.request("arrive", vehicle=car())
            found = await lane.hear(ObuReport)
            first = lane.last
            assert await lane.hear(ObuReport) == found  # after three repetitions and the rest of the silence
            assert lane.last.seq != first.seq
            assert [item.seq for item in lane.duplicates if item.seq == first.seq] == [first.seq] * 3
            counts = await control.request("stats")
            assert counts["unanswered"] >= 1
            await lane.close()

    asyncio.run(run())


def test_a_late_answer_within_the_silence_is_followed():
    async def run():
        timing = Timing(retry_ms=1, retries_max=0)
        async with antenna(timing=timing, silence_s=3600.0) as (emulator, control):
            lane = await Lane.connect(emulator)
            await control.request("arrive", vehicle=car())
            found = await lane.hear(ObuReport)
            await stat_becomes(control, "unanswered", 1)
            lane.answer(Continue(found.obu_id, FACTOR))
            assert (await lane.hear(UserReport)).error == 0
            await lane.close()

    asyncio.run(run())


@pytest.mark.parametrize(
    ("point", "debited"), [("read", []), ("debit", []), ("result", [1425])], ids=["reading", "before", "after"]
)
def test_a_cut_line_ends_the_pass_and_the_card_keeps_what_happened(point, debited):
    async def run():
        async with antenna() as (emulator, control):
            lane = await Lane.connect(emulator)
            await control.request("pause", id="car-1", before=point)
            await control.request("arrive", vehicle=car())
            found = await lane.hear(ObuReport)
            lane.answer(Continue(found.obu_id, FACTOR))
            if point != "read":
                await lane.hear(UserReport)
                lane.order(found.obu_id)
            await wait(control, "paused")
            assert await control.request("cut") == {"was_connected": True}
            async with asyncio.timeout(PATIENCE_S):
                await lane.closed.wait()
            await lane.close()
            assert (await card(control))["decrements"] == debited
            assert (await state(control))["events"]["result_sent"] == 0

            lane = await Lane.connect(emulator)
            _, user = await lane.met()
            assert (user.station == EXIT) == bool(debited)
            await lane.close()

    asyncio.run(run())


def test_radio_off_ends_every_pass():
    async def check(lane, control):
        await control.request("arrive", vehicle=car())
        found, _ = await lane.met()
        lane.say(SwitchAntenna(on=0))
        lane.order(found.obu_id)
        await lane.nothing()
        assert (await card(control))["decrements"] == []
        assert not (await control.request("stats"))["radio_on"]
        lane.say(SwitchAntenna(on=1))
        await lane.met()

    bench(check)


def test_one_lane_at_a_time():
    async def run():
        async with antenna() as (emulator, control):
            idle = await Lane.connect(emulator, start=False)
            lane = await Lane.connect(emulator)  # nobody had said C0: the idle one gives way
            async with asyncio.timeout(PATIENCE_S):
                await idle.closed.wait()
            other = await Lane.connect(emulator, start=False)
            async with asyncio.timeout(PATIENCE_S):
                await other.closed.wait()
            counts = await control.request("stats")
            assert (counts["connections"], counts["connections_refused"]) == (2, 1)
            await control.request("arrive", vehicle=car())
            await lane.hear(ObuReport)
            await lane.close()
            await stat_becomes(control, "connected", False)
            again = await Lane.connect(emulator)
            await again.hear(ObuReport)
            for each in (idle, other, again):
                await each.close()

    asyncio.run(run())


def test_a_dead_lane_gives_way(monkeypatch):
    async def run():
        async with antenna() as (emulator, control):
            lane = await Lane.connect(emulator)
            monkeypatch.setattr(module, "LANE_DEAD_S", 0.0)
            again = await Lane.connect(emulator)
            async with asyncio.timeout(PATIENCE_S):
                await lane.closed.wait()
            await control.request("arrive", vehicle=car())
            await again.hear(ObuReport)
            await lane.close()
            await again.close()

    asyncio.run(run())


def test_a_lane_that_never_reads_is_cut_off(monkeypatch):
    async def run():
        monkeypatch.setattr(module, "WRITE_BYTES_MAX", -1)
        async with antenna() as (emulator, control):
            lane = await Lane.connect(emulator, start=False)
            lane.say(C0)
            async with asyncio.timeout(PATIENCE_S):
                await lane.closed.wait()
            assert not (await control.request("stats"))["connected"]
            await lane.close()

    asyncio.run(run())


def test_down_and_up():
    async def run():
        async with antenna() as (emulator, control):
            lane = await Lane.connect(emulator)
            assert await control.request("down") == {"listening": False}
            async with asyncio.timeout(PATIENCE_S):
                await lane.closed.wait()
            with pytest.raises(ConnectionRefusedError):
                await asyncio.open_connection(*emulator.address)
            assert await control.request("up") == {"listening": True, "port": emulator.address[1]}
            await control.request("up")
            again = await Lane.connect(emulator)
            await lane.close()
            await again.close()

    asyncio.run(run())


def test_garbage_on_the_line_and_from_the_line():
    async def check(lane, control):
        await control.request("garbage", hex="ffff00ff00")
        lane.writer.write(bytes.fromhex("ffff0010000000ff00aa55"))
        await control.request("arrive", vehicle=car())
        # The lane's C1 stands behind garbage that looks like a long frame: the antenna reads it once the line is quiet.
        _, _, result = await lane.sell()
        assert result.error == 0
        assert (await control.request("stats"))["bad_bytes"] >= 1

    bench(check)


def test_a_flood_of_reports_is_one_of_tags_that_nobody_has_and_a_real_one_trades_among_them():
    async def check(lane, control):
        with pytest.raises(ControlError, match="no tag has been reported yet"):
            await control.request("flood", what="reports", ms=100)
        await control.request("arrive", vehicle=car())
        await lane.sell()
        await control.request("flood", what="reports", ms=500, per_s=400)
        crowd = [await lane.hear(ObuReport) for _ in range(50)]
        assert len({report.obu_id for report in crowd}) == len({report.serial for report in crowd}) == 50
        assert {report.obu_id[0] for report in crowd} == {0xEE}
        await control.request("arrive", vehicle=car(2))
        while (await lane.hear(ObuReport)).obu_id.hex() != "99000002":
            pass

    bench(check)


@pytest.mark.parametrize("what", ["all_ff", "false_headers"])
def test_a_flood_of_garbage_delays_a_sale_and_breaks_nothing(what):
    async def check(lane, control):
        await control.request("flood", what=what, ms=300)
        await control.request("arrive", vehicle=car())
        _, _, result = await lane.sell()
        assert result.error == 0
        assert lane.garbage
        assert (await control.request("stats"))["connected"]

    bench(check)


def test_heartbeats_are_sent_and_answered():
    async def run():
        timing = replace(UNHURRIED, heartbeat_ms=20)
        async with antenna(timing=timing) as (emulator, _control):
            lane = await Lane.connect(emulator)
            beat = await lane.hear(Heartbeat)
            assert (beat.psams1[0].run, beat.antennas[0].status, beat.antennas[0].power) == (0, 0, C0.tx_power)
            await lane.close()

    asyncio.run(run())


# --- several vehicles -------------------------------------------------------------------------------------------------


def test_vehicles_side_by_side():
    async def check(lane, control):
        wanted = {}
        for number in range(1, 6):
            await control.request("arrive", vehicle=car(number))
            wanted[f"9900{number:04x}"] = 1000 + number
        finished = 0
        while finished < len(wanted):
            message = await lane.hear(object)
            obu_id = message.obu_id
            if isinstance(message, UserReport):
                lane.order(obu_id, wanted[obu_id.hex()])
            else:
                lane.answer(Continue(obu_id, FACTOR))
            if isinstance(message, DebitResult):
                assert message.error == 0
                assert message.tac == true_tac(
                    message, wanted[obu_id.hex()], f"23012201{int(obu_id.hex()[4:], 16):08d}"
                )
                finished += 1
        for number in range(1, 6):
            account = await card(control, f"car-{number}")
            assert account["decrements"] == [1000 + number]

    bench(check)


def test_a_paused_vehicle_does_not_hold_the_radio():
    async def check(lane, control):
        await control.request("pause", id="car-1", before="debit")
        await control.request("arrive", vehicle=car(1))
        first, _ = await lane.met()
        lane.order(first.obu_id)
        await wait(control, "paused")
        await control.request("arrive", vehicle=car(2))
        second, _, result = await lane.sell()
        assert (second.obu_id.hex(), result.error) == ("99000002", 0)
        lane.answer(Continue(second.obu_id, FACTOR))
        assert (await control.request("continue", id="car-1"))["was_paused_before"] == "debit"
        result = await lane.hear(DebitResult)
        assert (result.obu_id, result.error) == (first.obu_id, 0)

    bench(check)


# --- commands ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("vehicle", "problem"),
    [
        (None, "vehicle: an object is wanted"),
        ({"id": ""}, "vehicle.id: 1 to 64"),
        ({"id": 5}, "vehicle.id: a text is wanted"),
        (car(device_type=4), "vehicle.device_type: a whole number from 1 to 3"),
        (car(device_type=True), "vehicle.device_type: a whole number"),
        (car(plate=None), "vehicle.plate: a text is wanted"),
        (car(plate="测A1234567890"), "vehicle.plate: 13 bytes"),
        (car(plate="🚗"), "vehicle.plate: not every character"),
        (car(vehicle_class=256), "vehicle.vehicle_class: a whole number from 0 to 255"),
        (car(colour=1), "vehicle.colour: unknown key"),
        (car(obu=None), "vehicle.obu: an object is wanted"),
        (car(obu={"id": "9900000g"}), "vehicle.obu.id: 8 hexadecimal digits"),
        (car(obu={"serial": "123"}), "vehicle.obu.serial: 16 digits"),
        (car(obu={"tampered": 1}), "vehicle.obu.tampered: true or false"),
        (car(obu={"expires": "tomorrow"}), "vehicle.obu.expires: a date"),
        (car(obu={"network": "0001"}), "vehicle.obu.network: no issuer region"),
        (car(obu={"no_card": True}), "vehicle.card: this tag holds none"),
        (car(device_type=2), "vehicle.card: this tag holds none"),
        (car(card=None), "vehicle.card: a two-piece tag needs one"),
        (car(card={"type": 21}), "vehicle.card.type: a whole number from 22 to 23"),
        (car(card={"balance_fen": -1}), "vehicle.card.balance_fen: a whole number from 0"),
        (car(card={"serial_start": 65536}), "vehicle.card.serial_start"),
        (car(card={"balance": 1}), "vehicle.card.balance: unknown key"),
        (car(station={"station": "01"}), "vehicle.station.station: 4 hexadecimal digits"),
        (car(station={"unix_seconds": None}), "vehicle.station.unix_seconds: a whole number"),
    ],
)
def test_a_wrong_description_names_its_key(vehicle, problem):
    with pytest.raises(SpecError, match=re.escape(problem)):
        VehicleSpec.from_json(vehicle)


def test_any_description_is_read_or_refused():
    """Every key replaced by every odd value: a vehicle or a SpecError, never anything else."""
    odd = (None, True, -1, 0, 1 << 40, 1.5, "", "测", "0" * 70, [], {}, {"id": 1})
    base = car()
    places = [(key,) for key in base] + [
        (key, inner) for key, value in base.items() if isinstance(value, dict) for inner in value
    ]
    for place, value in itertools.product(places, odd):
        spec = json.loads(json.dumps(base))
        target = spec
        for key in place[:-1]:
            target = target[key]
        target[place[-1]] = value
        with suppress(SpecError):
            build(VehicleSpec.from_json(spec), Script(), 1)


@pytest.mark.parametrize(
    ("command", "problem"),
    [
        ({"cmd": "arrive", "vehicle": car()}, "car-1 has been here"),
        ({"cmd": "arrive", "vehicle": car(id="other")}, "99000001 belongs to car-1"),
        ({"cmd": "arrive", "car": 1}, "car: unknown key"),
        ({"cmd": "leave", "id": "nobody"}, "no vehicle 'nobody'"),
        ({"cmd": "return", "id": "car-1"}, "is still searching"),
        ({"cmd": "wait", "id": "car-1", "event": "paid"}, "event: 'paid' is not one of reported"),
        ({"cmd": "wait", "id": "car-1", "event": "taken", "timeout_ms": 0}, "0 of 1 taken within 0 ms"),
        ({"cmd": "wait", "id": "car-1", "event": "taken", "count": 0}, "count: a whole number from 1"),
        ({"cmd": "fault", "id": "car-1", "what": "explode"}, "what: 'explode' is not one of lose_answer"),
        ({"cmd": "fault", "id": "car-1", "what": "slow"}, "extra_ms: a whole number"),
        ({"cmd": "fault", "id": "car-1", "what": "read_error", "extra_ms": 5}, "extra_ms: unknown key"),
        ({"cmd": "fault", "what": "read_error"}, "id: a text is wanted"),
        ({"cmd": "pause", "id": "car-1", "before": "lunch"}, "before: 'lunch' is not one of read"),
        ({"cmd": "garbage", "hex": "zz"}, "non-hexadecimal"),
        ({"cmd": "garbage", "hex": "00"}, "no lane is connected"),
        ({"cmd": "flood", "what": "rain", "ms": 5}, "what: 'rain' is not one of reports, all_ff, false_headers"),
        ({"cmd": "flood", "what": "all_ff", "ms": 60_001}, "ms: a whole number from 1 to 60000"),
        ({"cmd": "cut", "now": True}, "now: unknown key"),
    ],
)
def test_wrong_commands_are_refused(command, problem):
    async def run():
        async with antenna() as (_, control):
            await control.request("arrive", vehicle=car())
            with pytest.raises(ControlError, match=re.escape(problem)):
                await control.request(**command)

    asyncio.run(run())


def test_bounds_of_the_road(monkeypatch):
    async def run():
        monkeypatch.setattr(module, "PRESENT_MAX", 1)
        monkeypatch.setattr(module, "VEHICLES_MAX", 2)
        async with antenna() as (_, control):
            await control.request("arrive", vehicle=car(1))
            with pytest.raises(ControlError, match="1 vehicles stand here already"):
                await control.request("arrive", vehicle=car(2))
            await control.request("leave", id="car-1")
            await wait(control, "gone")
            await control.request("arrive", vehicle=car(2))
            with pytest.raises(ControlError, match="2 vehicles are known already"):
                await control.request("fault", id="car-3", what="read_error")
            for _ in range(64):
                await control.request("fault", id="car-2", what="read_error")
            with pytest.raises(ControlError, match="64 faults wait"):
                await control.request("fault", id="car-2", what="read_error")

    asyncio.run(run())


def test_wait_is_told_when_it_happens():
    async def check(lane, control):
        await control.request("arrive", vehicle=car())
        await lane.hear(ObuReport)
        async with await ControlClient.connect(*control._writer.get_extra_info("peername")) as second:
            waiting = asyncio.create_task(wait(second, "finished"))
            found = lane.last.message
            lane.answer(Continue(found.obu_id, FACTOR))
            await lane.hear(UserReport)
            lane.order(found.obu_id)
            await lane.hear(DebitResult)
            assert not waiting.done()
            lane.answer(Continue(found.obu_id, FACTOR))
            assert await waiting == {"id": "car-1", "event": "finished", "count": 1}

    bench(check)


# --- with the product's driver, as a program, and on the wire ---------------------------------------------------------


def test_the_lanes_driver_takes_it_for_an_antenna():
    async def run():
        async with antenna(timing=Timing()) as (emulator, control):
            host, port = emulator.address
            up = asyncio.Event()
            driver = RsuDriver(
                DriverConfig("rsu-1", V3, lambda: C0),
                connect=lambda: TcpLink.connect(host, port, timeout_s=PATIENCE_S, device="rsu-1"),
                clock=SystemClock(),
                on_condition=lambda condition: up.set() if condition.state is RsuState.UP else None,
            )
            running = asyncio.create_task(driver.run())
            try:
                async with asyncio.timeout(PATIENCE_S):
                    await up.wait()
                    await control.request("arrive", vehicle=car())
                    async for report in driver.reports():
                        message = report.message
                        if isinstance(message, UserReport):
                            report.answer(Debit(message.obu_id, FACTOR, 1425, TIME, EXIT))
                        else:
                            report.answer(Continue(message.obu_id, FACTOR))
                        if isinstance(message, DebitResult):
                            break
                    await wait(control, "finished")
                assert (await card(control))["decrements"] == [1425]
                assert driver.bad_bytes == 0
            finally:
                running.cancel()
                await asyncio.gather(running, return_exceptions=True)

    asyncio.run(run())


def test_the_capture_holds_what_the_lane_saw(tmp_path):
    path = tmp_path / "rsu.capture"

    async def check(lane, control):
        await control.request("arrive", vehicle=car())
        await control.request("fault", id="car-1", what="lose_answer_keep_serial")
        found, user, lost = await lane.sell()
        lane.answer(Continue(found.obu_id, FACTOR))
        _, again = await lane.met()
        lane.answer(FetchTac(found.obu_id, lost.card_serial))
        proof = await lane.hear(TacResult)
        lane.answer(Continue(found.obu_id, FACTOR))
        await wait(control, "finished")
        seen.extend((found, user, lost, again, proof))

    seen = []
    bench(check, capture=path)
    found, user, lost, again, proof = seen
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    frames = read_capture(path)
    codes = [f"{frame.code:02X}" for frame in frames if frame.code not in (0xB1, 0xCF)]
    assert codes == ["C0", "B0", "C4", "B2", "C1", "B4", "C6", "B5", "C1", "B2", "C1", "B4", "C8", "B8", "C1"]
    by_code = {code: [frame for frame in frames if frame.code == code] for code in {frame.code for frame in frames}}
    assert all(frame.direction == ("in" if frame.code >= 0xC0 else "out") for frame in frames)
    b2, b4, b5, b8 = by_code[0xB2][0], by_code[0xB4], by_code[0xB5][0], by_code[0xB8][0]
    assert (b2.obu_id, b2.device_type, b2.contract) == (found.obu_id, 1, found.serial)
    assert [(frame.station, frame.balance_raw) for frame in b4] == [
        (report.station, report.balance_raw) for report in (user, again)
    ]
    assert {frame.card_number for frame in b4} == {"99012301220100000001"}
    (order,) = orders(frames)
    assert (order.obu_id, order.amount_fen, order.time) == (found.obu_id, 1425, TIME)
    assert order.station == EXIT == b4[1].station
    assert (b5.error, b5.tac, b5.card_serial, b5.psam_serial) == (1, lost.tac, lost.card_serial, lost.psam_serial)
    assert (b5.terminal, b5.time, b5.balance_raw) == (TERMINAL, TIME, lost.balance_raw)
    assert by_code[0xC8][0].card_serial == lost.card_serial
    assert (b8.error, b8.tac, b8.balance_raw) == (0, proof.tac, proof.balance_raw)
    # The money on the wire is the money on the card.
    assert b4[0].balance_raw - b4[1].balance_raw == order.amount_fen


def test_the_program(tmp_path):
    arguments = ["--listen", "127.0.0.1:0", "--control", "127.0.0.1:0"]
    arguments += ["--dialect", "pcrsu-v3", "--radio-ms", "20", "--terminal", "019900000002", "--seed", "5"]
    with program("hardware.emulators.rsu", *arguments) as process:
        ready, address, word, control = process.stdout.readline().split()
        assert (ready, word) == ("ready", "control")
        assert int(address.rpartition(":")[2]) > 0
        host, port = control.rsplit(":", 1)
        with SyncControlClient(host, int(port)) as client:
            client.request("arrive", vehicle=car())
            assert client.request("vehicles")["vehicles"][0]["phase"] == "searching"
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE_S) == 0


@pytest.mark.parametrize(
    "arguments",
    [
        ["--listen", "nowhere"],
        ["--terminal", "1"],
        ["--terminal", "01990000000g"],
        ["--radio-ms", "-1"],
        ["--guard-s", "nan"],
        ["--guard-s", "soon"],
        ["--dialect", "morse"],
    ],
)
def test_wrong_arguments(arguments, capsys):
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
    assert arguments[0] in capsys.readouterr().err


def test_a_port_that_is_taken(capsys):
    async def run():
        async with antenna() as (emulator, _):
            host, port = emulator.address
            return await asyncio.to_thread(main_in_process, f"{host}:{port}")

    assert asyncio.run(run()) == 3


def main_in_process(address):
    return subprocess.run(
        [sys.executable, "-m", "hardware.emulators.rsu", "--listen", address], capture_output=True, check=False
    ).returncode


def test_any_bytes_from_the_lane_leave_the_antenna_working():
    """Random frames and noise, seeded: the antenna goes on and takes no money it was not told to."""

    async def check(lane, control):
        chance = random.Random(11)
        await control.request("arrive", vehicle=car())
        found = await lane.hear(ObuReport)
        for _ in range(300):
            body = bytes([chance.choice([0xC0, 0xC1, 0xC2, 0xC4, 0xC8, 0xCF, 0x00])])
            body += found.obu_id + chance.randbytes(chance.randrange(0, 20))
            lane.writer.write(V3.framing.wrap(chance.randrange(256), body))
            if chance.random() < 0.2:
                lane.writer.write(chance.randbytes(chance.randrange(1, 40)))
        await lane.writer.drain()
        assert (await card(control))["decrements"] == []
        await lane.close()
        await stat_becomes(control, "connected", False)

    bench(check)
