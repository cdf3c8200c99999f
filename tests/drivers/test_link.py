"""Links: a real TCP socket and the in-memory pair keep the same contract."""

import asyncio
import socket

import pytest

from drivers.errors import DeviceUnavailable, LinkLost, RequestOutcome
from drivers.link import MEMORY_BYTES_MAX, TcpLink, memory_pair


async def tcp_pair():
    accepted = asyncio.get_running_loop().create_future()
    server = await asyncio.start_server(lambda r, w: accepted.set_result((r, w)), "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    near = await TcpLink.connect("127.0.0.1", port, timeout_s=5, device="bank")
    far = TcpLink.over(*await accepted, device="host")
    server.close()
    return near, far


async def memory():
    return memory_pair()


@pytest.fixture(params=[tcp_pair, memory], ids=["tcp", "memory"])
def pair(request):
    return request.param


async def read_all(link, count):
    data = b""
    while len(data) < count:
        piece = await link.read(7)
        assert 0 < len(piece) <= 7
        data += piece
    return data


def test_bytes_arrive_in_order_and_in_pieces(pair):
    async def run():
        near, far = await pair()
        await near.write(b"0123456789")
        await near.write(b"abc")
        assert await read_all(far, 13) == b"0123456789abc"
        await far.write(b"back")
        assert await read_all(near, 4) == b"back"
        await near.close()
        await far.close()

    asyncio.run(run())


def test_closed_by_the_peer_reads_empty_for_ever(pair):
    async def run():
        near, far = await pair()
        await far.write(b"last")
        await far.close()
        assert await read_all(near, 4) == b"last"
        assert await near.read(10) == b""
        assert await near.read(10) == b""
        await near.close()
        await near.close()

    asyncio.run(run())


def test_write_on_a_closed_link_sends_nothing(pair):
    async def run():
        near, far = await pair()
        await near.close()
        with pytest.raises(LinkLost) as caught:
            await near.write(b"x")
        assert caught.value.outcome is RequestOutcome.NOT_SENT
        assert await far.read(10) == b""
        await far.close()

    asyncio.run(run())


def test_peer_that_does_not_read_stops_the_writer_and_a_cancelled_write_is_whole():
    async def run():
        near, far = memory_pair(capacity=10)
        writing = asyncio.create_task(near.write(b"0123456789abcdef"))
        await asyncio.sleep(0)
        assert not writing.done()
        writing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await writing
        assert await read_all(far, 16) == b"0123456789abcdef"
        assert MEMORY_BYTES_MAX >= 1024

    asyncio.run(run())


def test_memory_write_ends_when_the_peer_reads_or_closes():
    async def run():
        near, far = memory_pair(capacity=4)
        writing = asyncio.create_task(near.write(b"012345"))
        await asyncio.sleep(0)
        assert await far.read(2) == b"01"
        await writing
        writing = asyncio.create_task(near.write(b"6789"))
        await asyncio.sleep(0)
        await far.close()
        with pytest.raises(LinkLost) as caught:
            await writing
        assert caught.value.outcome is RequestOutcome.UNKNOWN

    asyncio.run(run())


def test_tcp_does_not_hold_small_messages_back():
    async def run():
        near, far = await tcp_pair()
        for link in (near, far):
            raw = link._writer.get_extra_info("socket")
            assert raw.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
            await link.close()

    asyncio.run(run())


def test_nobody_listens():
    async def run():
        with socket.socket() as unused:
            unused.bind(("127.0.0.1", 0))
            port = unused.getsockname()[1]
            with pytest.raises(DeviceUnavailable) as caught:
                await TcpLink.connect("127.0.0.1", port, timeout_s=5, device="bank")
        assert caught.value.outcome is RequestOutcome.NOT_SENT
        assert caught.value.device == "bank"

    asyncio.run(run())


def test_connect_has_a_deadline(monkeypatch):
    async def never(*_args):
        await asyncio.get_running_loop().create_future()

    monkeypatch.setattr(asyncio, "open_connection", never)

    async def run():
        with pytest.raises(DeviceUnavailable, match="no connection to"):
            await TcpLink.connect("127.0.0.1", 9, timeout_s=0.01, device="bank")

    asyncio.run(run())


def test_reset_by_the_peer_is_a_lost_link():
    async def run():
        near, far = await tcp_pair()
        raw = far._writer.get_extra_info("socket")
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, bytes([1, 0, 0, 0, 0, 0, 0, 0]))
        far._writer.transport.abort()
        with pytest.raises(LinkLost) as caught:
            await near.read(10)
        assert caught.value.outcome is RequestOutcome.UNKNOWN
        await near.close()

    asyncio.run(run())
