"""The control socket and the capture, as every emulator uses them."""

import asyncio
import json
import stat

import pytest

from hardware.emulators.control import (
    COMMAND_BYTES_MAX,
    CONNECTIONS_MAX,
    Capture,
    ControlClient,
    ControlError,
    ControlServer,
    SyncControlClient,
    parse_address,
)


async def echo(command):
    return {"got": command}


async def fail(_command):
    raise ValueError("no such thing")


async def never(_command):
    await asyncio.get_running_loop().create_future()


HANDLERS = {"echo": echo, "fail": fail, "never": never}


def control_test(check):
    async def run():
        server = ControlServer(HANDLERS)
        port = await server.start("127.0.0.1", 0)
        try:
            await check(server, port)
        finally:
            await server.close()
            await server.close()

    asyncio.run(run())


def test_commands_and_errors():
    async def check(_server, port):
        async with await ControlClient.connect("127.0.0.1", port) as client:
            assert await client.request("echo", text="测试") == {"got": {"cmd": "echo", "text": "测试"}}
            with pytest.raises(ControlError, match="ValueError: no such thing"):
                await client.request("fail")
            with pytest.raises(ControlError, match="unknown cmd 'nothing'; known: echo, fail, never"):
                await client.request("nothing")
            assert await client.request("echo")

    control_test(check)


@pytest.mark.parametrize(
    ("line", "why"),
    [(b"{\n", "not a JSON line"), (b"[1]\n", "JSON object"), (b'"' + b"x" * COMMAND_BYTES_MAX + b'"\n', "longer")],
)
def test_lines_that_are_no_commands(line, why):
    async def check(_server, port):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(line)
        assert why in json.loads(await reader.readline())["error"]
        writer.close()
        await writer.wait_closed()

    control_test(check)


def test_half_a_line_is_no_command():
    async def check(_server, port):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b'{"cmd": "echo"}')
        writer.write_eof()
        assert await reader.read() == b""
        writer.close()

    control_test(check)


def test_unanswered_command_ends_the_connection():
    async def check(_server, port):
        async with await ControlClient.connect("127.0.0.1", port) as client:
            with pytest.raises(ControlError, match="never"):
                await client.request("never", answer_timeout_s=0.01)
            with pytest.raises(ControlError):
                await client.request("echo")

    control_test(check)


def test_server_that_leaves():
    async def check(server, port):
        async with await ControlClient.connect("127.0.0.1", port) as client:
            asked = asyncio.create_task(client.request("never"))
            assert await asyncio.wait_for(ask_beside(port), 20)
            await server.close()
            with pytest.raises(ControlError):
                await asked
        with pytest.raises(ControlError, match="no control socket"):
            await ControlClient.connect("127.0.0.1", port)

    control_test(check)


async def ask_beside(port):
    async with await ControlClient.connect("127.0.0.1", port) as client:
        return await client.request("echo")


def test_connections_are_bounded():
    async def check(_server, port):
        clients = [await ControlClient.connect("127.0.0.1", port) for _ in range(CONNECTIONS_MAX)]
        for client in clients:
            await client.request("echo")
        extra = await ControlClient.connect("127.0.0.1", port)
        with pytest.raises(ControlError):
            await extra.request("echo")
        for client in (*clients, extra):
            await client.close()

    control_test(check)


def test_only_loopback_and_only_once():
    async def check(server, _port):
        for host in ("0.0.0.0", "192.0.2.1"):  # noqa: S104 - refused is the point
            with pytest.raises(ValueError, match="not loopback"):
                await ControlServer({}).start(host, 0)
        with pytest.raises(RuntimeError):
            await server.start("127.0.0.1", 0)

    control_test(check)


def test_sync_client():
    async def check(_server, port):
        def work():
            with SyncControlClient("127.0.0.1", port) as client:
                assert client.request("echo", n=1) == {"got": {"cmd": "echo", "n": 1}}
                with pytest.raises(ControlError):
                    client.request("fail")
            with SyncControlClient("127.0.0.1", port, answer_timeout_s=0.01) as client, pytest.raises(ControlError):
                client.request("never")

        await asyncio.to_thread(work)

    control_test(check)
    with pytest.raises(ControlError, match="no control socket"):
        SyncControlClient("127.0.0.1", 1)


def test_capture(tmp_path):
    path = tmp_path / "capture.jsonl"
    for data in (b"\x00\xff", b"\x01"):
        capture = Capture(path)
        capture.write("in", "peer:1", data)
        capture.close()
        capture.write("in", "peer:1", b"dropped")
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert [line["hex"] for line in lines] == ["00ff", "01"]
    assert set(lines[0]) == {"t", "dir", "peer", "hex"}
    assert lines[0]["t"].endswith("+00:00")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    Capture(None).write("out", "peer", b"x")
    with pytest.raises(ValueError, match="direction"):
        Capture(None).write("sideways", "peer", b"x")


@pytest.mark.parametrize("text", ["1.2.3.4", ":5", "host:", "host:x", "host:70000"])
def test_addresses(text):
    assert parse_address("127.0.0.1:0") == ("127.0.0.1", 0)
    assert parse_address("[::1]:80") == ("::1", 80)
    with pytest.raises(ValueError, match="HOST:PORT"):
        parse_address(text)
