"""The emulated antenna on a serial line: real pseudo terminals, the product's link and its driver."""

import asyncio
import math
import os
import re
import signal

import pytest

from drivers.clock import SystemClock
from drivers.link import open_link
from drivers.rsu import RsuConfig as DriverConfig
from drivers.rsu import RsuDriver, RsuState
from hardware.bench.wire_rsu import read_capture
from hardware.emulators.control import ControlError, SyncControlClient
from hardware.emulators.pty_port import BITS_PER_BYTE, CHUNK_BYTES, Pacer, PtyAddress, PtyPort, parse_listen
from hardware.emulators.rsu import RsuEmulator, main
from hardware.emulators.rsu_antenna import RsuConfig
from protocols.rsu.messages import Continue, Debit, DebitResult, UserReport
from tests.hardware.samples import C0, EXIT, FACTOR, PATIENCE_S, QUICK, TIME, V3, car, card, started, wait
from tests.programs import program


class Lane:
    """The product's driver with a lane behind it that charges each car 14.25 once."""

    def __init__(self, address):
        self.states = asyncio.Queue()
        self.driver = RsuDriver(
            DriverConfig("rsu-1", V3, lambda: C0),
            connect=lambda: open_link(address, timeout_s=PATIENCE_S, device="rsu-1"),
            clock=SystemClock(),
            on_condition=self.states.put_nowait,
        )
        self.results = []
        self.tasks = [asyncio.create_task(self.driver.run()), asyncio.create_task(self.sell())]

    async def sell(self):
        async for report in self.driver.reports():
            message = report.message
            # A card that bears this exit has paid: the answer to its debit was lost on the way.
            if isinstance(message, UserReport) and message.error == 0 and message.station != EXIT:
                report.answer(Debit(message.obu_id, FACTOR, 1425, TIME, EXIT))
            else:
                report.answer(Continue(message.obu_id, FACTOR))
            if isinstance(message, DebitResult):
                self.results.append(message)

    async def becomes(self, state):
        async with asyncio.timeout(PATIENCE_S):
            while (condition := await self.states.get()).state is not state:
                pass
        return condition

    async def close(self):
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)


def antenna(path, **changes):
    return started(RsuEmulator(RsuConfig(**QUICK | {"listen": PtyAddress(path)} | changes)))


def bench(path, check, **changes):
    async def run():
        async with antenna(path, **changes) as (_, control):
            lane = Lane(f"serial:{path}")
            try:
                await check(lane, control)
            finally:
                await lane.close()

    asyncio.run(run())


# --- the port ---------------------------------------------------------------------------------------------------------


def test_late_wake_ups_do_not_add_up():
    """The schedule is exact whatever the sleeper does, and idle time is not caught up."""
    pacer, now = Pacer(9600), 100.0
    pacer.begin(now)
    for number in range(1, 81):
        due = pacer.take(CHUNK_BYTES)
        assert due == pytest.approx(100.0 + number * CHUNK_BYTES * BITS_PER_BYTE / 9600)
        now = max(now, due) + 0.005  # wakes up late each time
    pacer.begin(now + 50)
    assert pacer.take(96) == pytest.approx(now + 50.1)


def test_bytes_take_the_time_of_the_line(tmp_path):
    """Never faster than the line, and four times the speed takes a quarter of the time, both ways.

    A busy machine only ever adds time: the least of many is tried for until it is the line's own.
    """
    path, count = tmp_path / "port", 240

    async def crossing(baud, *, to_client):
        port = PtyPort(PtyAddress(path), baud)
        wire = port.plug()
        link = await open_link(f"serial:{path}", timeout_s=PATIENCE_S, device="rsu-1")
        source, sink = (wire, link) if to_client else (link, wire)
        loop = asyncio.get_running_loop()
        start, got = loop.time(), b""
        if to_client:
            source.send(bytes(count))
        else:
            await source.write(bytes(count))
        while len(got) < count:
            got += await sink.read(count)
        took_s = loop.time() - start
        await link.close()
        port.unplug()
        assert took_s >= count * BITS_PER_BYTE / baud * 0.99
        return took_s

    async def check():
        async with asyncio.timeout(PATIENCE_S):
            for to_client in (True, False):
                slow = fast = math.inf
                while not 3 < slow / fast < 5:
                    slow = min(slow, await crossing(9600, to_client=to_client))
                    fast = min(fast, await crossing(38_400, to_client=to_client))

    asyncio.run(check())


def test_a_name_of_somebody_else_is_left_alone(tmp_path):
    path = tmp_path / "port"

    async def check():
        path.write_text("mine")
        with pytest.raises(FileExistsError, match="no link to a terminal"):
            PtyPort(PtyAddress(path)).plug()
        assert path.read_text() == "mine"
        path.unlink()
        path.symlink_to(tmp_path / "terminal of a program that was killed")
        port = PtyPort(PtyAddress(path))
        port.plug()
        assert str(path.readlink()).startswith("/dev/pts/")
        path.unlink()
        path.symlink_to(tmp_path / "another program's")
        assert port.unplug()
        assert path.is_symlink()  # no longer ours to remove
        assert not port.unplug()

    asyncio.run(check())


def test_what_nobody_reads_is_lost_and_counted(tmp_path):
    async def check():
        port = PtyPort(PtyAddress(tmp_path / "port"), 4_000_000)
        wire = port.plug()
        wire.send(bytes(60_000))
        async with asyncio.timeout(PATIENCE_S):
            await wire.drain()
        assert 0 < wire.overrun < 60_000
        port.unplug()

    asyncio.run(check())


@pytest.mark.parametrize("text", ["pty:", "pty:/", "port", "host:99999"])
def test_wrong_places_to_listen(text):
    with pytest.raises(ValueError, match=re.escape(repr(text))):
        parse_listen(text)
    with pytest.raises(SystemExit):
        main(["--listen", text])


# --- the antenna ------------------------------------------------------------------------------------------------------


def test_a_sale_over_the_line(tmp_path):
    path, capture = tmp_path / "rsu", tmp_path / "rsu.capture"

    async def check(lane, control):
        await lane.becomes(RsuState.UP)
        await control.request("arrive", vehicle=car())
        await wait(control, "finished")
        assert (await card(control))["decrements"] == [1425]
        assert [result.error for result in lane.results] == [0]
        assert lane.driver.bad_bytes == 0
        stats = await control.request("stats")
        assert (stats["listening"], stats["bytes_overrun"], stats["bad_bytes"]) == (True, 0, 0)

    bench(path, check, capture=capture)
    assert not path.is_symlink()
    assert read_capture(capture)


@pytest.mark.parametrize("point", ["read", "debit", "result"])
def test_pulled_out_in_the_middle_of_a_sale(tmp_path, point):
    """The driver finds the port again by its name, and the car is charged once, whatever was under way."""
    path = tmp_path / "rsu"

    async def check(lane, control):
        await lane.becomes(RsuState.UP)
        await control.request("pause", id="car-1", before=point)
        await control.request("arrive", vehicle=car())
        async with asyncio.timeout(PATIENCE_S):
            while (await control.request("vehicles"))["vehicles"][0]["paused_before"] != point:
                await asyncio.sleep(0.005)
        before, held = path.readlink(), os.open(path, os.O_RDWR | os.O_NOCTTY)
        assert await control.request("unplug") == {"plugged": False, "was_plugged": True}
        down = await lane.becomes(RsuState.DOWN)
        assert "has gone" in down.cause
        assert not path.is_symlink()
        missing = await lane.becomes(RsuState.DOWN)
        assert "there is no such port" in missing.cause
        await control.request("continue", id="car-1")
        assert await control.request("plug") == {"plugged": True}
        # The old terminal is still held open by a program, so its number is taken.
        assert path.readlink() != before
        os.close(held)
        await lane.becomes(RsuState.UP)
        await wait(control, "reported")
        async with asyncio.timeout(PATIENCE_S):
            while (await control.request("vehicles"))["vehicles"][0]["phase"] != "guarded":
                await asyncio.sleep(0.005)
        assert (await card(control))["decrements"] == [1425]
        assert (await control.request("stats"))["connections"] == 2

    bench(path, check)


def test_a_second_gateway_is_told_that_the_port_is_held(tmp_path):
    path = tmp_path / "rsu"

    async def check(lane, control):
        await lane.becomes(RsuState.UP)
        other = Lane(f"serial:{path}")
        refused = await other.becomes(RsuState.DOWN)
        await other.close()
        assert "another program holds the port" in refused.cause
        assert lane.driver.condition.state is RsuState.UP
        assert (await control.request("stats"))["initialised"]

    bench(path, check)


def test_commands_of_the_other_kind_of_line_are_refused(tmp_path):
    async def check():
        async with antenna(tmp_path / "rsu") as (emulator, control):
            for name in ("cut", "down", "up"):
                with pytest.raises(ControlError, match="unplug and plug"):
                    await control.request(name)
            with pytest.raises(LookupError):
                _ = emulator.address
        async with antenna(None, listen=("127.0.0.1", 0)) as (_, control):
            for name in ("unplug", "plug"):
                with pytest.raises(ControlError, match="cut, down and up"):
                    await control.request(name)

    asyncio.run(check())


def test_as_a_program(tmp_path):
    path = tmp_path / "rsu"
    with program("hardware.emulators.rsu", "--listen", f"pty:{path}", "--baud", "38400") as process:
        word, listen, _, control = process.stdout.readline().split()
        assert (word, listen) == ("ready", f"pty:{path}")
        assert path.is_char_device()
        host, _, port = control.rpartition(":")
        with SyncControlClient(host, int(port)) as client:
            assert client.request("unplug")["was_plugged"]
            assert not path.exists()
            client.request("plug")
        assert path.is_char_device()
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE_S) == 0
    assert not path.is_symlink()
