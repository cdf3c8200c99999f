"""The HTTP server over real sockets: what it serves, and what it does to those who do it harm."""

import asyncio
import contextlib
import logging
import signal
import socket
import ssl

import pytest
from fastapi import APIRouter
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.frames import Frame, Opcode

from drivers.clock import SystemClock
from drivers.errors import DeviceUnavailable
from drivers.http_routes import Guard, Reply, Route, SocketRoute
from drivers.http_server import FRAGMENTS_MAX, HttpConfig, HttpLimits, HttpServer
from tests.drivers.hand_clock import HandClock
from tests.drivers.test_http_client import made_certificate

HOST = "127.0.0.1"


class Secret(Guard):
    """Lets those in who know a word."""

    def refusal(self, arrival):
        if arrival.headers.get("x-word") == "sesame":
            return None
        return Reply(401, b"", headers={"WWW-Authenticate": 'Basic realm="pumps"'})


async def echo(arrival):
    return Reply(200, arrival.body)


async def echo_socket(_arrival, peer):
    async for message in peer.messages():
        await peer.send(message)


@contextlib.asynccontextmanager
async def serving(*routes, clock=None, **config):
    """A server that listens, and is stopped at the end."""
    conditions = asyncio.Queue()
    server = HttpServer(
        HttpConfig(**config),
        clock=clock or SystemClock(),
        on_condition=lambda up, cause: conditions.put_nowait((up, cause)),
    )
    server.add(*routes or (Route(path="/echo", handler=echo), SocketRoute(path="/socket", handler=echo_socket)))
    task = asyncio.create_task(server.run())
    up, cause = await conditions.get()
    assert up, cause
    try:
        yield server
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        assert (await conditions.get())[0] is False


async def exchange(server, raw):
    """All that comes back for these bytes until the server closes."""
    reader, writer = await asyncio.open_connection(HOST, server.port)
    writer.write(raw)
    answer = b""
    with contextlib.suppress(ConnectionError):
        answer = await reader.read(-1)
    writer.close()
    return answer


def post(body=b"", path="/echo", *headers):
    lines = [f"POST {path} HTTP/1.1", "Host: gateway", f"Content-Length: {len(body)}", "Connection: close", *headers]
    return ("\r\n".join(lines) + "\r\n\r\n").encode() + body


def status(answer):
    return int(answer.split(b" ", 2)[1]) if answer else None


async def until(condition):
    while not condition():
        await asyncio.sleep(0.001)


def warnings(caplog):
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]


# --- serving ---------------------------------------------------------------------------------------------------------


async def _answers_routes_of_all_kinds():
    router = APIRouter()

    @router.get("/api/pumps")
    async def pumps():
        return {"pumps": [1, 2]}

    async with serving() as server:
        server.include(router)
    async with serving(Route(path="/echo", handler=echo)) as server:
        server.include(router)
        answer = await exchange(server, post(b"hello"))
        assert (status(answer), answer.split(b"\r\n\r\n")[1]) == (200, b"hello")
        assert b"content-length: 5" in answer.lower()
        answer = await exchange(server, b"GET /api/pumps HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        assert answer.endswith(b'{"pumps":[1,2]}')
        for path in (b"/docs", b"/redoc", b"/openapi.json", b"/nowhere"):
            answer = await exchange(server, b"GET " + path + b" HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            assert status(answer) == 404
        assert status(await exchange(server, b"GET /echo HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")) == 405


def test_answers_routes_of_all_kinds():
    asyncio.run(_answers_routes_of_all_kinds())


def test_listens_on_loopback_unless_told_otherwise():
    assert HttpConfig().host == HOST


def test_websocket_takes_messages_both_ways_and_ends_when_the_server_stops():
    async def play():
        async with serving() as server:
            peer = await connect(f"ws://{HOST}:{server.port}/socket", compression=None)
            await peer.send("hello")
            assert await peer.recv() == "hello"
            await peer.send([b"in ", b"pieces"])
            assert await peer.recv() == "in pieces"
        with pytest.raises(ConnectionClosed) as caught:
            await peer.recv()
        assert caught.value.rcvd.code == 1012

    asyncio.run(play())


def test_guard_refuses_before_the_handler(caplog):
    async def play():
        route = Route(path="/echo", handler=echo, guard=Secret())
        async with serving(route, SocketRoute(path="/socket", handler=echo_socket, guard=Secret())) as server:
            answer = await exchange(server, post(b"hello"))
            assert status(answer) == 401
            assert b"www-authenticate: basic" in answer.lower()
            answer = await exchange(server, post(b"hello", "/echo", "X-Word: sesame"))
            assert status(answer) == 200
            with pytest.raises(InvalidStatus) as caught:
                await connect(f"ws://{HOST}:{server.port}/socket")
            assert caught.value.response.status_code == 401
            peer = await connect(f"ws://{HOST}:{server.port}/socket", additional_headers={"X-Word": "sesame"})
            await peer.close()
            assert server.refused == 2

    asyncio.run(play())
    assert warnings(caplog) == [f"http: {HOST}: refused, 401 for '/echo'"]


def test_refusals_of_one_source_are_one_line_a_minute_and_then_counted(caplog):
    async def play():
        clock = HandClock()
        async with serving(clock=clock) as server:
            for _ in range(3):
                assert status(await exchange(server, post(path="/nowhere"))) == 404
            await clock.advance(61)
            assert status(await exchange(server, post(path="/elsewhere"))) == 404

    asyncio.run(play())
    assert warnings(caplog) == [
        f"http: {HOST}: refused, 404 for '/nowhere'",
        f"http: {HOST}: refused, 404 for '/elsewhere'; 2 more before",
    ]


def test_port_that_is_taken_is_told_and_nothing_is_left():
    async def play():
        async with serving() as server:
            other = HttpServer(HttpConfig(port=server.port), clock=SystemClock())
            with pytest.raises(DeviceUnavailable, match="is the port taken"):
                await other.run()

    asyncio.run(play())


def test_server_runs_again_after_a_stop_and_leaves_no_task():
    async def play():
        server = HttpServer(HttpConfig(), clock=SystemClock())
        server.add(Route(path="/echo", handler=echo))
        for _ in range(2):
            task = asyncio.create_task(server.run())
            await until(lambda: server.port)
            assert status(await exchange(server, post(b"x"))) == 200
            port = server.port
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            assert asyncio.all_tasks() == {asyncio.current_task()}
            with pytest.raises(ConnectionRefusedError):
                await asyncio.open_connection(HOST, port)

    asyncio.run(play())


def test_signals_stay_the_gateways_own():
    async def play():
        before = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)]
        async with serving() as server:
            assert status(await exchange(server, post(b"x"))) == 200
            assert [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)] == before

    asyncio.run(play())


def test_stop_tells_streams_first_and_cuts_a_handler_that_does_not_end():
    async def play():
        order, inside = [], asyncio.Event()

        async def never(_arrival):
            inside.set()
            try:
                await asyncio.Event().wait()
            finally:
                order.append("handler")

        server = HttpServer(
            HttpConfig(limits=HttpLimits(stop_s=0)), clock=SystemClock(), before_stop=lambda: order.append("told")
        )
        server.add(Route(path="/never", handler=never))
        task = asyncio.create_task(server.run())
        await until(lambda: server.port)
        asking = asyncio.create_task(exchange(server, post(path="/never")))
        await inside.wait()
        task.cancel()
        await asyncio.gather(task, asking, return_exceptions=True)
        assert order == ["told", "handler"]
        assert asyncio.all_tasks() == {asyncio.current_task()}

    asyncio.run(play())


def test_fault_of_a_handler_is_answered_500_and_logged_with_its_traceback(caplog):
    async def play():
        async def faulty(_arrival):
            raise ZeroDivisionError

        async with serving(Route(path="/faulty", handler=faulty)) as server:
            assert status(await exchange(server, post(path="/faulty"))) == 500

    asyncio.run(play())
    assert any(record.exc_info and record.exc_info[0] is ZeroDivisionError for record in caplog.records)


def test_handler_that_takes_too_long_is_answered_for():
    async def play():
        async def never(_arrival):
            await asyncio.Event().wait()

        async with serving(Route(path="/never", handler=never), limits=HttpLimits(answer_s=0.01)) as server:
            assert status(await exchange(server, post(path="/never"))) == 503

    asyncio.run(play())


# --- peers that do harm ----------------------------------------------------------------------------------------------

SMALL = HttpLimits(body_bytes_max=1000, head_bytes_max=2000)
ANNOUNCED = b"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 1001\r\n\r\n"
CHUNKED = b"POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"

HARMFUL = {
    "no HTTP": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" * 9, 400),
    "a bad length": (b"POST /echo HTTP/1.1\r\nContent-Length: 1x\r\n\r\n", 400),
    "a length given twice": (b"POST /echo HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", 400),
    "a large body announced": (ANNOUNCED, 413),
    "a large body that comes": (ANNOUNCED.replace(b"1001", b"7000") + b"x" * 7000, 413),
    "a large body in chunks": (CHUNKED + b"3e9\r\n" + b"x" * 1001 + b"\r\n", 413),
    "a large head": (b"POST /echo HTTP/1.1\r\nX: " + b"x" * 3000 + b"\r\n\r\n", 400),
    "a head that never ends": (b"POST /echo HTTP/1.1\r\nX: " + b"x" * 3000, 431),
    "an address that never ends": (b"POST /" + b"x" * 3000, 431),
    "empty lines that never end": (b"\r\n" * 1500, 431),
    "many headers": (b"POST /echo HTTP/1.1\r\n" + b"X: x\r\n" * 2000 + b"\r\n", 400),
    "many headers behind the body": (CHUNKED + b"0\r\n" + b"X: x\r\n" * 2000 + b"\r\n", 400),
    "a header behind the body that never ends": (CHUNKED + b"0\r\nX: " + b"x" * 600_000, 413),
    "a handshake without its key": (
        b"GET /socket HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
        400,
    ),
    "a WebSocket nobody serves": (
        b"GET /nowhere HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n",
        403,
    ),
}


@pytest.mark.parametrize("harm", HARMFUL)
def test_harmful_bytes_get_a_status_and_a_line_and_others_are_served_on(harm, caplog):
    raw, expected = HARMFUL[harm]

    async def play():
        async with serving(limits=SMALL) as server:
            reader, writer = await asyncio.open_connection(HOST, server.port)
            writer.write(raw)
            assert status(await reader.readuntil(b"\r\n\r\n")) == expected
            assert server.refused == 1
            writer.close()
            assert status(await exchange(server, post(b"x" * 1000))) == 200

    asyncio.run(play())
    [line] = warnings(caplog)
    assert line.startswith(f"http: {HOST}: refused, ")


def test_route_may_take_larger_bodies_than_the_others():
    async def play():
        large = Route(path="/large", handler=echo, body_bytes_max=5000)
        async with serving(large, Route(path="/echo", handler=echo), limits=SMALL) as server:
            assert status(await exchange(server, post(b"x" * 5000, "/large"))) == 200
            assert status(await exchange(server, post(b"x" * 5001, "/large")[:-5001])) == 413

    asyncio.run(play())


SLOW = {
    "nothing": b"",
    "half a head": b"POST /echo HTTP/1.1\r\nHost:",
    "half a body": post(b"x" * 100)[:-1],
}


@pytest.mark.parametrize("what", SLOW)
def test_slow_peer_is_answered_408_when_its_time_is_over(what, caplog):
    async def play():
        clock = HandClock()
        async with serving(clock=clock) as server:
            reader, writer = await asyncio.open_connection(HOST, server.port)
            writer.write(SLOW[what])
            turning = asyncio.create_task(turn(clock))
            assert status(await reader.read(-1)) == 408
            turning.cancel()
            writer.close()

    asyncio.run(play())
    [line] = warnings(caplog)
    assert "not whole after" in line


async def turn(clock, step_s=0.5):
    """Let the time of the server go on."""
    while True:
        await asyncio.sleep(0.001)
        await clock.advance(step_s)


def test_trickling_head_does_not_buy_time():
    async def play():
        clock = HandClock()
        async with serving(clock=clock) as server:
            reader, writer = await asyncio.open_connection(HOST, server.port)
            began = clock.now
            reading = asyncio.create_task(reader.read(-1))
            for piece in b"POST /echo HTTP/1.1\r\nX: " + b"y" * 200:
                writer.write(bytes([piece]))
                await clock.advance(0.5)
                await asyncio.sleep(0.001)
                if reading.done():
                    break
            assert status(await reading) == 408
            assert clock.now - began <= HttpLimits().head_s + 10 * 0.5
            writer.close()

    asyncio.run(play())


def test_one_source_has_so_many_connections_and_no_more(caplog):
    async def play():
        limits = HttpLimits(connections_of_source_max=3)
        async with serving(limits=limits) as server:
            held = [await asyncio.open_connection(HOST, server.port) for _ in range(3)]
            assert status(await exchange(server, b"")) == 503
            held[0][1].close()
            await held[0][1].wait_closed()
            while True:  # its end is seen in a turn of the server's own
                answer = await exchange(server, post(b"x"))
                if status(answer) == 200:
                    break
            for _, writer in held[1:]:
                writer.close()

    asyncio.run(play())
    assert "more than 3 connections of one source" in warnings(caplog)[0]


def test_requests_before_the_answer_are_refused():
    """One read may bring ten thousand of them."""

    async def play():
        async with serving() as server:
            answer = await exchange(server, b"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n" * 4000)
            assert status(answer) == 400
            assert server.refused == 1

    asyncio.run(play())


def test_answer_that_is_not_read_is_cut(caplog):
    async def play():
        clock = HandClock()

        async def much(_arrival):
            return Reply(200, bytes(64 * 1024 * 1024))

        async with serving(Route(path="/much", handler=much), clock=clock) as server:
            peer = socket.create_connection((HOST, server.port))
            peer.setblocking(False)
            await asyncio.get_running_loop().sock_sendall(peer, post(path="/much"))
            while server.refused == 0:
                await asyncio.sleep(0.001)
                await clock.advance(0.5)
            with peer:
                assert await drained(peer) < 64 * 1024 * 1024

    asyncio.run(play())
    assert "left unread" in warnings(caplog)[0]


async def drained(peer):
    """Count of bytes until the end."""
    count = 0
    while data := await asyncio.get_running_loop().sock_recv(peer, 1 << 20):
        count += len(data)
    return count


def raw_socket_handshake():
    return (
        b"GET /socket HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
    )


def frame(opcode, data=b"", *, fin=True):
    return Frame(opcode, data, fin).serialize(mask=True)


HARMFUL_FRAMES = {
    "a large message": frame(Opcode.TEXT, b"x" * 1001),
    "a large message in pieces": frame(Opcode.TEXT, b"x" * 600, fin=False) + frame(Opcode.CONT, b"x" * 600),
    "empty pieces without end": frame(Opcode.TEXT, fin=False) + frame(Opcode.CONT, fin=False) * (FRAGMENTS_MAX + 1),
    "frames without end": frame(Opcode.PING) * 600,
    "a frame without its mask": b"\x81\x01x",
    "a bit nobody agreed on": b"\xc1" + frame(Opcode.TEXT, b"x")[1:],
    "text that is none": frame(Opcode.TEXT, b"\xff\xff"),
}


@pytest.mark.parametrize("harm", HARMFUL_FRAMES)
def test_harmful_frames_end_the_websocket(harm, caplog):
    async def play():
        async with serving(limits=SMALL) as server:
            reader, writer = await asyncio.open_connection(HOST, server.port)
            writer.write(raw_socket_handshake())
            assert b" 101 " in await reader.readuntil(b"\r\n\r\n")
            writer.write(HARMFUL_FRAMES[harm])
            with contextlib.suppress(ConnectionError):
                await reader.read(-1)
            assert server.refused == 1
            writer.close()

    asyncio.run(play())
    assert warnings(caplog)[0].startswith(f"http: {HOST}: refused, ")


def test_peer_that_pings_and_reads_nothing_is_cut(caplog):
    async def play():
        clock = HandClock()
        async with serving(clock=clock, limits=HttpLimits(frames_burst=1_000_000)) as server:
            peer = socket.create_connection((HOST, server.port))
            peer.setblocking(False)
            loop = asyncio.get_running_loop()
            await loop.sock_sendall(peer, raw_socket_handshake())
            assert b" 101 " in await loop.sock_recv(peer, 4096)
            flood = frame(Opcode.PING, b"x" * 125) * 1000

            async def pinging():
                while True:
                    await loop.sock_sendall(peer, flood)

            task = asyncio.create_task(pinging())
            while server.refused == 0:
                await asyncio.sleep(0.001)
                await clock.advance(0.5)
            with peer, pytest.raises(OSError, match=r"reset|Broken"):
                await task

    asyncio.run(play())
    assert "left unread" in warnings(caplog)[0]


# --- TLS --------------------------------------------------------------------------------------------------------------


def test_certificate_makes_it_speak_tls_on_both_kinds_of_routes(tmp_path):
    certificate = made_certificate(tmp_path)
    trust = ssl.create_default_context(cafile=str(certificate))
    trust.check_hostname = False

    async def tls():
        async with serving(certificate=certificate) as server:
            reader, writer = await asyncio.open_connection(HOST, server.port, ssl=trust)
            writer.write(post(b"secret"))
            assert (await reader.read(-1)).endswith(b"secret")
            writer.close()
            async with connect(f"wss://{HOST}:{server.port}/socket", ssl=trust) as peer:
                await peer.send("hello")
                assert await peer.recv() == "hello"
            assert status(await exchange(server, post(b"plain"))) is None

    asyncio.run(tls())


def test_certificate_that_cannot_be_used_is_told(tmp_path):
    (tmp_path / "empty.pem").touch()
    server = HttpServer(HttpConfig(certificate=tmp_path / "empty.pem"), clock=SystemClock())
    with pytest.raises(DeviceUnavailable, match="certificate"):
        asyncio.run(server.run())
