"""Serial links over real pseudo terminals."""

import asyncio
import os
import pty
import re
import termios
import tty
from contextlib import contextmanager
from pathlib import Path

import pytest

from drivers import serial_link as module
from drivers.addresses import Parity, SerialAddress, SerialSettings, TcpAddress, parse_link_address
from drivers.errors import DeviceUnavailable, LinkLost, RequestOutcome
from drivers.link import TcpLink, open_link
from drivers.serial_link import SerialLink

PATIENCE_S = 300.0
"""A test that should see something waits this long before it fails; no passing test waits for it."""


class Port:
    """A terminal whose far end the test holds."""

    def __init__(self, folder):
        self.name = folder / "rsu"
        self.plug()

    def plug(self):
        self.far, self.near = pty.openpty()
        tty.setraw(self.near)
        os.set_blocking(self.far, False)
        self.name.unlink(missing_ok=True)
        self.name.symlink_to(os.ttyname(self.near))

    def pull(self):
        if self.far is not None:
            os.close(self.far)
            os.close(self.near)
            self.far = None

    def say(self, data):
        os.write(self.far, data)

    async def hear(self, count):
        data = b""
        async with asyncio.timeout(PATIENCE_S):
            while len(data) < count:
                try:
                    data += os.read(self.far, count - len(data))
                except BlockingIOError:
                    await asyncio.sleep(0.001)
        return data

    def open(self, **settings):
        return SerialLink.open(str(self.name), SerialSettings(**settings), device="rsu-1")


@pytest.fixture
def port(tmp_path):
    port = Port(tmp_path)
    yield port
    port.pull()


def run(check):
    async def patient():
        async with asyncio.timeout(PATIENCE_S):
            await check()

    asyncio.run(patient())


async def read_all(link, count):
    data = b""
    while len(data) < count:
        data += await link.read(7)
    return data


def open_files():
    return len(list(Path("/proc/self/fd").iterdir()))


@contextmanager
def file_number_is_free(link):
    """The link's descriptor has been given back."""
    yield
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(link._descriptor)


def test_every_byte_value_crosses_both_ways(port):
    everything = bytes(range(256)) * 4

    async def check():
        link = port.open()
        await link.write(everything)
        assert await port.hear(len(everything)) == everything
        port.say(everything)
        assert await read_all(link, len(everything)) == everything
        await link.close()

    run(check)


def test_the_port_is_set_as_asked(port):
    async def check():
        link = port.open(baud=38_400, stop_bits=2)
        _, _, control, local, speed_in, speed_out, _ = termios.tcgetattr(port.near)
        assert speed_in == speed_out == termios.B38400
        assert control & termios.CSTOPB
        assert not local & (termios.ECHO | termios.ICANON)
        await link.close()

    run(check)


def test_a_second_opener_is_told_the_cure(port):
    async def check():
        link = port.open()
        with pytest.raises(DeviceUnavailable) as caught:
            port.open()
        assert "another program holds the port" in str(caught.value)
        assert "fuser" in caught.value.hint
        assert caught.value.outcome is RequestOutcome.NOT_SENT
        port.say(b"x")
        assert await link.read(1) == b"x"  # the first one does not notice
        await link.close()
        again = port.open()
        await again.close()

    run(check)


def test_what_cannot_be_opened_says_why(port, tmp_path):
    plain = tmp_path / "file"
    plain.write_bytes(b"")

    async def refusal(path, **settings):
        before = open_files()
        with pytest.raises(DeviceUnavailable) as caught:
            SerialLink.open(str(path), SerialSettings(**settings), device="rsu-1")
        assert open_files() == before
        assert caught.value.hint
        return str(caught.value)

    async def check():
        assert "there is no such port" in await refusal(tmp_path / "nothing")
        assert "this is no serial port" in await refusal(plain)
        # A pseudo terminal has no parity bit, as some adapters have no seven bits.
        assert "cannot be set to 115200 8E1" in await refusal(port.name, parity=Parity.EVEN)
        assert "cannot be set to 115200 7N1" in await refusal(port.name, bits=7)

    run(check)


def test_pulled_while_reading_is_lost_and_stays_lost(port):
    async def check():
        link = port.open()
        reading = asyncio.create_task(link.read(10))
        await asyncio.sleep(0)
        port.pull()
        with pytest.raises(LinkLost) as caught:
            await reading
        assert caught.value.outcome is RequestOutcome.UNKNOWN
        assert "has gone" in str(caught.value)
        with pytest.raises(LinkLost):
            await link.read(10)
        with pytest.raises(LinkLost) as caught:
            await link.write(b"x")
        assert caught.value.outcome is RequestOutcome.NOT_SENT
        with file_number_is_free(link):
            await link.close()

    run(check)


def test_pulled_while_nobody_reads_is_found_by_the_next_write(port):
    async def check():
        link = port.open()
        port.pull()
        with pytest.raises(LinkLost):
            await link.write(b"x")
        await link.close()
        await link.close()

    run(check)


def test_closing_copes_with_a_port_that_complains(port, monkeypatch):
    async def check():
        link = port.open()
        close = link._port.close

        def complain():
            close()
            raise termios.error(5, "Input/output error")

        monkeypatch.setattr(link._port, "close", complain)
        with file_number_is_free(link):
            await link.close()

    run(check)


def test_it_comes_back_under_its_name_as_another_terminal(port):
    async def check():
        link = port.open()
        # Something else takes the old number, so that only the name can lead to the new terminal.
        before = os.ttyname(port.near)
        port.pull()
        holder = Port.__new__(Port)
        holder.far, holder.near = pty.openpty()
        port.plug()
        assert os.ttyname(port.near) != before
        with pytest.raises(LinkLost):
            await link.read(1)
        again = port.open()
        port.say(b"back")
        assert await read_all(again, 4) == b"back"
        await again.close()
        await link.close()
        holder.pull()

    run(check)


def test_a_cancelled_write_leaves_no_half_message(port):
    message = bytes(range(256)) * 128  # more than the terminal takes at once

    async def check():
        link = port.open()
        writing = asyncio.create_task(link.write(message))
        await asyncio.sleep(0)
        assert not writing.done()
        writing.cancel()
        await asyncio.gather(writing, return_exceptions=True)
        second = asyncio.create_task(link.write(b"second"))
        assert await port.hear(len(message) + 6) == message + b"second"
        await second
        await link.close()

    run(check)


def test_a_port_that_stands_still_is_not_fed_for_ever(port, monkeypatch):
    monkeypatch.setattr(module, "WRITE_BYTES_MAX", 32_000)
    monkeypatch.setattr(module, "DRAIN_TIMEOUT_S", 0.02)

    async def check():
        link = port.open()
        stuck = asyncio.create_task(link.write(bytes(32_000)))
        await asyncio.sleep(0)
        with pytest.raises(LinkLost) as caught:
            await link.write(bytes(20_000))
        assert caught.value.outcome is RequestOutcome.NOT_SENT
        with file_number_is_free(link):
            await link.close()
        with pytest.raises(LinkLost) as caught:
            await stuck
        assert caught.value.outcome is RequestOutcome.UNKNOWN

    run(check)


def test_closing_ends_a_read_and_refuses_a_write(port):
    async def check():
        link = port.open()
        reading = asyncio.create_task(link.read(10))
        await asyncio.sleep(0)
        await link.close()
        assert await reading == b""
        assert await link.read(10) == b""
        with pytest.raises(LinkLost) as caught:
            await link.write(b"x")
        assert caught.value.outcome is RequestOutcome.NOT_SENT

    run(check)


def test_a_cancelled_read_loses_nothing(port):
    async def check():
        link = port.open()
        reading = asyncio.create_task(link.read(10))
        await asyncio.sleep(0)
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)
        port.say(b"later")
        assert await read_all(link, 5) == b"later"
        await link.close()

    run(check)


# --- addresses --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("127.0.0.1:9000", TcpAddress("127.0.0.1", 9000)),
        ("tcp://rsu-1.lane:80", TcpAddress("rsu-1.lane", 80)),
        ("tcp://[::1]:9000", TcpAddress("::1", 9000)),
        ("serial:/dev/ttyS0", SerialAddress("/dev/ttyS0")),
        (
            "serial:/dev/serial/by-id/usb-FTDI_a:b-if00?baud=9600&parity=E&bits=7&stop=2",
            SerialAddress("/dev/serial/by-id/usb-FTDI_a:b-if00", SerialSettings(9600, 7, Parity.EVEN, 2)),
        ),
    ],
)
def test_addresses(text, address):
    assert parse_link_address(text) == address


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "port is missing"),
        ("localhost", "port is missing"),
        (":80", "no host name"),
        ("/dev/ttyS0:1", "no host name"),
        ("::1:80", "in brackets"),
        ("host:0", "port '0'"),
        ("host:65536", "port '65536'"),
        ("host:８０", "no number"),
        ("udp://host:80", "udp:// is not known"),
        ("serial:ttyS0", "no absolute path"),
        ("serial://dev/ttyS0", "no absolute path"),
        ("serial:/dev/ttyS0?speed=9600", "option 'speed' is not known"),
        ("serial:/dev/ttyS0?baud", "baud has no value"),
        ("serial:/dev/ttyS0?baud=fast", "baud 'fast' is no whole number"),
        ("serial:/dev/ttyS0?baud=5", "baud 5 is not between"),
        ("serial:/dev/ttyS0?bits=9", "bits 9"),
        ("serial:/dev/ttyS0?stop=3", "stop 3"),
        ("serial:/dev/ttyS0?parity=X", "parity 'X' is none of N, E, O"),
        ("serial:/dev/ttyS0?baud=9600&baud=9600", "twice"),
    ],
)
def test_wrong_addresses_are_named(text, complaint):
    with pytest.raises(ValueError, match=re.escape(complaint)) as caught:
        parse_link_address(text)
    assert repr(text) in str(caught.value)


def test_open_link_opens_either_kind(port):
    async def check():
        server = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0)
        host, number = server.sockets[0].getsockname()
        tcp = await open_link(f"tcp://{host}:{number}", timeout_s=PATIENCE_S, device="rsu-1")
        assert isinstance(tcp, TcpLink)
        await tcp.close()
        server.close()
        serial = await open_link(f"serial:{port.name}?baud=9600", timeout_s=PATIENCE_S, device="rsu-1")
        assert isinstance(serial, SerialLink)
        await serial.close()

    run(check)
