"""The driver of a PTS-2 controller and its emulator, over real HTTP and WebSockets, both ways."""

import asyncio
import contextlib
import json
from datetime import datetime

import httpx2
import pytest

from drivers import pts as driver_module
from drivers.clock import SystemClock
from drivers.http_client import HttpClientConfig, LoginKind
from drivers.http_server import HttpConfig, HttpServer
from drivers.pts import PtsConfig, PtsController
from drivers.pts_door import DialIn, PtsDoor, _Dialled
from hardware.emulators import pts as emulator
from protocols.errors import LocalProtocolError
from protocols.http_login import Login, basic_header
from protocols.pump.jsonpts.codec import Confirmation, Message, decode
from protocols.pump.jsonpts.messages import KINDS
from protocols.pump.jsonpts.signature import HEADER, is_signed, sign
from protocols.pump.types import (
    AlarmSeen,
    AmountLimit,
    AskTotals,
    Authorise,
    Clear,
    Decimals,
    Delivered,
    NozzleSeen,
    Outcome,
    Resume,
    SetPrices,
    SideState,
    StateSeen,
    Stop,
    Suspend,
    TotalsSeen,
    VolumeLimit,
)

HOST = "127.0.0.1"
ADMIN = Login("admin", "admin")
FAST = 100_000.0
SLOW = 1_000.0
ANSWER_S = 20.0
"""Far above what an answer takes; a test that fails waits for it."""


class Seen:
    """Readings, sales and conditions as they come."""

    def __init__(self):
        self.readings = {}
        self.sales = []
        self.conditions = []
        self.stored = True
        self._changed = asyncio.Condition()
        self._tasks = set()

    def reading(self, side, reading):
        kind = (type(reading), getattr(reading, "nozzle", None) if isinstance(reading, TotalsSeen) else None)
        self.readings.setdefault(side, {})[kind] = reading
        self._notify()

    async def sale(self, sale):
        self.sales.append(sale)
        self._notify()
        return self.stored

    def condition(self, up, cause):
        self.conditions.append((up, cause))
        self._notify()

    def _notify(self):
        async def tell():
            async with self._changed:
                self._changed.notify_all()

        task = asyncio.get_running_loop().create_task(tell())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def until(self, so):
        async with self._changed:
            await self._changed.wait_for(so)

    def last(self, side, kind, nozzle=None):
        return self.readings.get(side, {}).get((kind, nozzle))

    async def state(self, side, state):
        await self.until(lambda: self.last(side, StateSeen) == StateSeen(state))

    async def up(self, up=True):
        await self.until(lambda: self.conditions and self.conditions[-1][0] is up)


class Bench:
    """An emulated controller, its driver, and what the driver said."""

    def __init__(self, device, driver, seen, server=None):
        self.device = device
        self.box = device.box
        self.driver = driver
        self.seen = seen
        self.server = server

    async def give(self, command, side=1, **more):
        return await self.driver.command(side, command, timeout_s=more.pop("timeout_s", ANSWER_S), **more)

    async def sell(self, limit=None, side=1):
        """A whole delivery up to its end."""
        assert (await self.give(Authorise(limit or AmountLimit(20_000)), side)).outcome is Outcome.ACCEPTED
        self.box.lift(side, 1)
        await self.seen.state(side, SideState.STOPPED)


def driver_of(seen, **config):
    return PtsController(
        PtsConfig(
            device="pts",
            pts_id=emulator.PTS_ID,
            pumps=(1, 2),
            decimals=Decimals(volume=2, amount=2, price=2),
            poll_every_s=0.01,
            **config,
        ),
        clock=SystemClock(),
        on_reading=seen.reading,
        on_sale=seen.sale,
        on_condition=seen.condition,
    )


@contextlib.asynccontextmanager
async def running(work):
    task = asyncio.create_task(work)
    try:
        yield task
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


@contextlib.asynccontextmanager
async def polled(*, password=ADMIN.password, silence_s=10.0, **config):
    """We poll an emulated controller by HTTP."""
    seen = Seen()
    device = emulator.PtsController(
        emulator.Config(listen=(HOST, 0), control=(HOST, 0), **{"rate_ml_s": FAST} | config)
    )
    port, _ = await device.start()
    http = HttpClientConfig(
        device="pts",
        address=f"http://{HOST}:{port}",
        login=Login("admin", password),
        login_kind=LoginKind.BASIC if config.get("basic") else LoginKind.DIGEST,
    )
    driver = driver_of(seen, http=http, silence_s=silence_s)
    try:
        async with running(driver.run()):
            yield Bench(device, driver, seen)
    finally:
        await device.close()


@contextlib.asynccontextmanager
async def dialled(dial="websocket", secret=None, login=None, sources=frozenset(), **config):
    """An emulated controller dials in at our server."""
    seen = Seen()
    driver = driver_of(seen, silence_s=0.2)
    door = PtsDoor(clock=SystemClock())
    door.admit(DialIn(controller=driver, secret=secret, login=login, sources=sources))
    listening = asyncio.Event()
    server = HttpServer(HttpConfig(), clock=SystemClock(), on_condition=lambda *_: listening.set())
    server.add(*door.routes())
    async with running(server.run()), running(driver.run()):
        await listening.wait()
        device = emulator.PtsController(
            emulator.Config(
                listen=(HOST, 0),
                control=(HOST, 0),
                dial=dial,
                server=f"http://{HOST}:{server.port}",
                secret=secret or "",
                **{"rate_ml_s": FAST} | config,
            )
        )
        await device.start()
        try:
            yield Bench(device, driver, seen, server)
        finally:
            await device.close()


WAYS = {"digest": polled, "basic": lambda **more: polled(basic=True, **more), "websocket": dialled}


def play(work):
    asyncio.run(work)


# --- a sale, whichever way --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", WAYS)
def test_sale_from_the_nozzle_to_the_next_customer(way):
    async def sale():
        async with WAYS[way]() as bench:
            seen = bench.seen
            await seen.state(1, SideState.IDLE)
            bench.box.lift(1, 2)
            await seen.state(1, SideState.CALLING)
            await seen.until(lambda: seen.last(1, NozzleSeen) == NozzleSeen(2, True, 7850))

            done = await bench.give(Authorise(AmountLimit(20_000), (2,)), tag="0A1B")
            assert (done.outcome, done.transaction) == (Outcome.ACCEPTED, 1)
            await seen.state(1, SideState.STOPPED)
            delivered = seen.last(1, Delivered)
            assert 19_992 <= delivered.amount_minor <= 20_000
            assert Decimals().explains(delivered, delivered.unit_price_milli)
            assert seen.last(1, TotalsSeen, 2) == TotalsSeen(2, delivered.volume_ml, delivered.amount_minor)
            assert bench.driver.open_transaction(1) == 1

            assert (await bench.give(Clear())).outcome is Outcome.ACCEPTED
            bench.box.hang_up(1)
            await seen.state(1, SideState.IDLE)
            assert bench.driver.open_transaction(1) is None
            assert list(bench.box.requests) == ["PumpAuthorize", "PumpCloseTransaction"]
            assert seen.last(2, StateSeen) == StateSeen(SideState.IDLE)

    play(sale())


def test_totals_that_were_asked_for_come_as_readings_and_show_a_jump():
    async def totals():
        async with polled() as bench:
            await bench.seen.up()
            bench.box.pumps[1].meters[1].total_ml += 12_340
            assert (await bench.give(AskTotals(2))).outcome is Outcome.ACCEPTED
            await bench.seen.until(lambda: bench.seen.last(1, TotalsSeen, 2) == TotalsSeen(2, 12_340, 0))

    play(totals())


def test_price_that_was_set_is_that_of_the_next_sale():
    async def prices():
        async with polled() as bench:
            await bench.seen.up()
            assert (await bench.give(SetPrices((7990, 8010)))).outcome is Outcome.ACCEPTED
            bench.box.pumps[1].meters[0].price_milli = 1  # changed at the controller by somebody else
            await bench.sell(VolumeLimit(10_000))
            delivered = bench.seen.last(1, Delivered)
            assert delivered == Delivered(10_000, 7_990, 7990, delivered.name)

    play(prices())


def test_suspended_delivery_goes_on_and_a_stop_ends_it():
    async def suspend():
        async with polled(rate_ml_s=SLOW) as bench:
            await bench.seen.up()
            await bench.give(Authorise(AmountLimit(20_000)))
            bench.box.lift(1, 1)
            await bench.seen.state(1, SideState.FUELLING)
            assert (await bench.give(Suspend())).outcome is Outcome.ACCEPTED
            await bench.seen.state(1, SideState.SUSPENDED)
            assert (await bench.give(Resume())).outcome is Outcome.ACCEPTED
            await bench.seen.state(1, SideState.FUELLING)
            await bench.seen.until(lambda: (bench.seen.last(1, Delivered).volume_ml or 0) > 0)
            assert (await bench.give(Stop())).outcome is Outcome.ACCEPTED
            await bench.seen.state(1, SideState.STOPPED)

    play(suspend())


def test_nozzle_put_back_early_ends_the_sale_with_what_was_delivered():
    async def early():
        async with polled(rate_ml_s=SLOW) as bench:
            await bench.seen.up()
            await bench.give(Authorise(AmountLimit(20_000)))
            bench.box.lift(1, 1)
            await bench.seen.until(lambda: getattr(bench.seen.last(1, Delivered), "volume_ml", 0))
            bench.box.hang_up(1)
            await bench.seen.state(1, SideState.COMPLETED)
            assert bench.seen.last(1, Delivered).amount_minor < 20_000
            assert bench.seen.last(1, NozzleSeen).out is False

    play(early())


def test_power_cut_while_filling_is_a_fault_and_then_a_sale_with_what_was_delivered():
    async def cut():
        async with polled(rate_ml_s=SLOW) as bench:
            await bench.seen.up()
            await bench.give(Authorise(AmountLimit(20_000)))
            bench.box.lift(1, 1)
            await bench.seen.until(lambda: getattr(bench.seen.last(1, Delivered), "volume_ml", 0))
            bench.box.power(1, on=False)
            await bench.seen.state(1, SideState.FAULT)
            bench.box.power(1, on=True)
            await bench.seen.state(1, SideState.STOPPED)
            delivered = bench.seen.last(1, Delivered)
            assert delivered.volume_ml == bench.box.pumps[1].meters[0].total_ml > 0
            assert (await bench.give(Clear())).outcome is Outcome.ACCEPTED

    play(cut())


# --- commands and their outcomes --------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", WAYS)
def test_command_whose_answer_is_lost_is_unknown_and_a_stop_takes_it_back(way):
    async def lost():
        async with WAYS[way]() as bench:
            await bench.seen.up()
            bench.device.to_lose = {"PumpAuthorize"}
            done = await bench.give(Authorise(AmountLimit(20_000)), timeout_s=0.3)
            assert done.outcome is Outcome.UNKNOWN
            await bench.seen.state(1, SideState.AUTHORISED)
            assert (await bench.give(Stop())).outcome is Outcome.ACCEPTED
            await bench.seen.state(1, SideState.IDLE)

    play(lost())


@pytest.mark.parametrize("way", WAYS)
def test_answer_that_is_late_is_waited_for_and_one_that_is_too_late_is_passed_over(way):
    async def late():
        async with WAYS[way]() as bench:
            await bench.seen.up()
            bench.device._late_s = 0.1
            assert (await bench.give(Authorise(AmountLimit(20_000)))).outcome is Outcome.ACCEPTED
            bench.device._late_s = 0.5
            done = await bench.give(Stop(), timeout_s=0.1)
            assert done.outcome in (Outcome.UNKNOWN, Outcome.NOT_SENT)  # a poll may have had the turn
            bench.device._late_s = 0.0
            assert (await bench.give(Stop())).outcome is Outcome.ACCEPTED

    play(late())


def test_refusal_comes_with_the_reason_of_the_controller():
    async def refusal():
        async with polled() as bench:
            await bench.seen.up()
            bench.box.pumps[1].user = "till"
            done = await bench.give(Authorise(AmountLimit(20_000)))
            assert (done.outcome, done.error.code) == (Outcome.REFUSED, 40)
            bench.box.pumps[1].user = ""
            assert (await bench.give(Authorise(AmountLimit(20_000)))).outcome is Outcome.ACCEPTED
            done = await bench.give(Authorise(AmountLimit(20_000)))
            assert (done.outcome, done.error.code) == (Outcome.REFUSED, 39)
            bench.box.refusals["PumpStop"] = emulator.Refusal(96, 1)
            done = await bench.give(Stop())
            assert (done.outcome, done.error.code) == (Outcome.REFUSED, 96)
            done = await bench.give(Suspend())
            assert (done.outcome, done.error.code) == (Outcome.REFUSED, 43)

    play(refusal())


def test_sale_is_closed_only_under_its_own_number():
    async def close():
        async with polled() as bench:
            await bench.seen.up()
            with pytest.raises(LocalProtocolError):
                await bench.give(Clear())
            await bench.sell()
            bench.driver._open[1] = 99
            done = await bench.give(Clear())
            assert (done.outcome, done.error.code) == (Outcome.REFUSED, 27)

    play(close())


def test_answer_with_another_id_is_no_answer():
    async def wrong():
        driver = driver_of(Seen())

        async def exchange(_body, ids, _timeout_s):
            return Message(tuple(Confirmation(number + 1, "PumpStop") for number in ids))

        driver.dialled_in(exchange)
        assert (await driver.command(1, Stop(), timeout_s=ANSWER_S)).outcome is Outcome.UNKNOWN

    play(wrong())


def test_late_answer_on_a_websocket_is_not_taken_for_the_next_one():
    async def late():
        sent = asyncio.Queue()

        class Peer:
            async def send(self, body):
                sent.put_nowait(body)

        dialled_peer = _Dialled(Peer(), "pts")
        asking = asyncio.create_task(dialled_peer.exchange(b"", frozenset({8}), ANSWER_S))
        await sent.get()
        assert dialled_peer.answered(Message((Confirmation(7, "PumpStop"),))) is None
        await asyncio.sleep(0)
        assert not asking.done()
        right = Message((Confirmation(8, "PumpStop"),))
        assert dialled_peer.answered(right) is None
        assert await asking is right
        assert dialled_peer.answered(right) is None  # nobody waits

    play(late())


def test_command_under_way_when_the_controller_hangs_up_is_unknown_at_once():
    async def hang_up():
        async with dialled() as bench:
            await bench.seen.up()
            bench.device.to_lose = {"PumpAuthorize"}
            giving = asyncio.create_task(bench.give(Authorise(AmountLimit(20_000)), timeout_s=600.0))
            while "PumpAuthorize" not in bench.box.requests:
                await asyncio.sleep(0.001)
            await bench.device._cut({})
            assert (await giving).outcome is Outcome.UNKNOWN

    play(hang_up())


def test_without_a_connection_nothing_is_sent():
    async def alone():
        seen = Seen()
        driver = driver_of(seen)
        assert (await driver.command(1, Stop(), timeout_s=1.0)).outcome is Outcome.NOT_SENT
        http = HttpClientConfig(device="pts", address=f"http://{HOST}:9", login=ADMIN)
        driver = driver_of(seen, http=http, silence_s=0.0)
        async with running(driver.run()):
            await seen.until(lambda: any("no connection" in cause for _, cause in seen.conditions))
            assert (await driver.command(1, Stop(), timeout_s=ANSWER_S)).outcome is Outcome.NOT_SENT

    play(alone())


# --- the connection ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("basic", [False, True])
def test_login_that_is_not_taken_is_told(basic):
    async def login():
        async with polled(password="admim", basic=basic, silence_s=0.0) as bench:
            await bench.seen.until(lambda: any("401" in cause for _, cause in bench.seen.conditions))
            assert not any(up for up, _ in bench.seen.conditions)
            assert (await bench.give(Stop())).outcome is Outcome.REFUSED

    play(login())


def test_nonce_that_is_old_is_asked_for_again():
    async def nonce():
        async with polled() as bench:
            await bench.seen.up()
            bench.device._nonce = "another"
            assert (await bench.give(Authorise(AmountLimit(20_000)))).outcome is Outcome.ACCEPTED

    play(nonce())


def test_silence_is_reported_and_so_is_its_end(monkeypatch):
    monkeypatch.setattr(driver_module, "ASK_TIMEOUT_S", 0.1)

    async def silence():
        async with polled(silence_s=0.0) as bench:
            await bench.seen.up()
            bench.device._mute = True
            await bench.seen.up(False)
            bench.device._mute = False
            await bench.seen.up()

    play(silence())


def test_websocket_that_breaks_is_dialled_again(monkeypatch):
    monkeypatch.setattr(emulator, "RETRY_S", 0.01)

    async def cut():
        async with dialled() as bench:
            await bench.seen.up()
            await bench.device._cut({})
            await bench.seen.up(False)
            await bench.seen.up()
            assert (await bench.give(Authorise(AmountLimit(20_000)))).outcome is Outcome.ACCEPTED

    play(cut())


# --- what it reports by itself ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("dial", ["websocket", "http"])
def test_sale_is_sent_again_until_it_is_stored(dial, monkeypatch):
    monkeypatch.setattr(emulator, "RETRY_S", 0.01)

    async def upload():
        async with dialled(dial, secret="qwerty12345", login=ADMIN) as bench:
            seen, box = bench.seen, bench.box
            seen.stored = False
            box.sell_by_hand(2, 1, 25_470)
            await seen.until(lambda: len(seen.sales) >= 3)
            assert len({sale.key for sale in seen.sales}) == 1
            assert len(box.uploads) == 1
            seen.stored = True
            while box.uploads:
                await asyncio.sleep(0.001)
            sale = seen.sales[-1]
            assert (sale.key.controller, sale.key.pump, sale.key.transaction) == (emulator.PTS_ID, 2, 1)
            assert (sale.nozzle, sale.by_hand) == (1, True)
            assert sale.delivered == Delivered(25_470, 19_994, 7850)
            assert sale.totals == TotalsSeen(1, 25_470, 19_994)

    play(upload())


def test_status_and_alerts_come_as_readings():
    async def status():
        async with dialled("http", status_every_s=0.02, rate_ml_s=SLOW) as bench:
            seen = bench.seen
            await seen.state(2, SideState.IDLE)
            bench.box.power(1, on=False)
            await seen.state(1, SideState.FAULT)
            await seen.until(lambda: seen.last(1, AlarmSeen))
            assert seen.last(1, AlarmSeen).words.en == "pump does not answer"

    play(status())


SALE = {
    "DateTimeStart": "2019-05-19T12:44:01",
    "DateTime": "2019-05-19T12:45:14",
    "Pump": 1,
    "Nozzle": 1,
    "Transaction": 15,
    "Volume": 1.15,
    "Price": 10.0,
    "Amount": 11.5,
}


def upload_body(kind="UploadPumpTransaction", data=None, pts_id=emulator.PTS_ID):
    packet = {"Id": 123, "Type": kind, "Data": SALE if data is None else data}
    return json.dumps({"Protocol": "jsonPTS", "PtsId": pts_id, "Packets": [packet]}).encode()


async def posted(bench, body, **headers):
    given = {"X-Pts-Id": emulator.PTS_ID, "Authorization": basic_header(ADMIN)}
    given |= {HEADER: sign(body, "qwerty12345")} | headers
    async with httpx2.AsyncClient(trust_env=False) as client:
        return await client.post(
            f"http://{HOST}:{bench.server.port}/jsonPTS",
            content=body,
            headers={name: value for name, value in given.items() if value is not None},
        )


def test_uploads_prove_their_sender_and_replies_prove_ours():
    async def uploads():
        async with dialled("none", secret="qwerty12345", login=ADMIN) as bench:
            body = upload_body()
            reply = await posted(bench, body)
            assert reply.status_code == 200
            assert is_signed(reply.content, reply.headers[HEADER], "qwerty12345")
            assert json.loads(reply.content)["Packets"] == [
                {"Id": 123, "Type": "UploadPumpTransaction", "Message": "OK"}
            ]
            assert bench.seen.sales[0].key.started == datetime(2019, 5, 19, 12, 44, 1)  # noqa: DTZ001
            for headers, expected in (
                ({HEADER: None}, 403),
                ({HEADER: sign(body, "qwerty12346")}, 403),
                ({"Authorization": None}, 401),
                ({"Authorization": basic_header(Login("admin", "admim"))}, 401),
                ({"X-Pts-Id": None}, 403),
                ({"X-Pts-Id": "00"}, 403),
            ):
                assert (await posted(bench, body, **headers)).status_code == expected
            assert len(bench.seen.sales) == 1
            # The one push that never carries a signature may come without, and no other with it.
            never = upload_body("UploadConfiguration", {})
            assert (await posted(bench, never, **{HEADER: None})).status_code == 200
            both = json.loads(body)
            both["Packets"] += json.loads(never)["Packets"]
            assert (await posted(bench, json.dumps(both).encode(), **{HEADER: None})).status_code == 403

    play(uploads())


def test_push_that_cannot_be_taken_is_refused_so_that_it_is_not_lost():
    async def bad():
        async with dialled("none") as bench:
            for body, code in (
                (upload_body(data=SALE | {"Amount": "x"}), 2),
                (upload_body(data=SALE | {"Amount": 11.505}), 2),
                (upload_body("RequestTagsInformation", {"Tags": []}), 1),
                (upload_body("UploadStatus", {"Pumps": {"IdleStatus": {"Ids": [1], "NozzlesUp": [1, 2]}}}), 2),
            ):
                [packet] = decode((await posted(bench, body)).content).packets
                assert packet.meaning.code == code
            for body in (b"{", upload_body(pts_id="00")):
                assert decode((await posted(bench, body)).content).refused.meaning.code == 2
            assert bench.seen.sales == []
            for kind in ("UploadTankMeasurement", "UploadShift"):
                assert kind not in KINDS
                [packet] = json.loads((await posted(bench, upload_body(kind))).content)["Packets"]
                assert packet["Message"] == "OK"

    play(bad())


def test_controller_comes_only_from_where_it_may():
    async def elsewhere():
        async with dialled("websocket", sources=frozenset({"192.0.2.7"})) as bench:
            while bench.server.refused == 0:
                await asyncio.sleep(0.001)
            assert (await posted(bench, upload_body())).status_code == 403
            assert not any(up for up, _ in bench.seen.conditions)

    play(elsewhere())
