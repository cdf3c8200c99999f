"""Doors of the gateway, and the server that they stand at."""

import asyncio
import contextlib
from pathlib import Path

import pytest

from drivers.errors import DeviceUnavailable
from drivers.http_routes import Reply, Route
from gateway import secret_files
from gateway.doors import RETRY_S, Doors, HttpSection
from gateway.secret_files import SecretError
from gateway.surroundings import Machine


class Clock:
    def __init__(self):
        self.slept = asyncio.Queue()

    async def sleep(self, seconds):
        self.slept.put_nowait(seconds)
        await asyncio.sleep(0)


class Bell:
    """A door of a kind."""

    def __init__(self, *, clock):
        self.clock = clock

    async def _ring(self, _arrival):
        return Reply(200)

    def routes(self):
        return (Route(path="/bell", handler=self._ring),)


class Server:
    """A server whose address is taken at first."""

    def __init__(self, on_condition):
        self.routes, self.runs, self.on_condition = [], 0, on_condition

    def add(self, *routes):
        self.routes += routes

    async def run(self):
        self.runs += 1
        if self.runs < 3:
            raise DeviceUnavailable("port is taken", device="http")
        self.on_condition(True, "listening")
        await asyncio.Event().wait()


def test_a_door_is_made_once_and_no_server_without_one():
    servers, told = [], []
    clock = Clock()
    doors = Doors(
        lambda hear: servers.append(Server(hear)) or servers[0], clock, lambda *told_now: told.append(told_now)
    )
    assert (dict(doors.tasks()), servers, told) == ({}, [], [])
    door = doors.at(Bell)
    assert doors.at(Bell) is door
    assert door.clock is clock
    assert [route.path for route in servers[0].routes] == ["/bell"]
    assert list(doors.tasks()) == ["http"]
    assert told == [("http", False, "not started yet", "http_unavailable")]


def test_an_address_that_is_taken_is_a_condition_and_tried_again():
    async def run():
        heard, clock = asyncio.Queue(), Clock()
        doors = Doors(Server, clock, lambda *told: heard.put_nowait(told))
        doors.at(Bell)
        task = asyncio.create_task(doors.tasks()["http"]())
        told = [await heard.get() for _ in range(4)]
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        assert [clock.slept.get_nowait(), clock.slept.get_nowait(), clock.slept.empty()] == [RETRY_S, RETRY_S, True]
        assert [(works, code) for _, works, _, code in told] == [(False, "http_unavailable")] * 3 + [(True, None)]
        assert "port is taken" in told[1][2]

    asyncio.run(run())


def test_the_machine_listens_where_the_site_file_says():
    async def run():
        heard = asyncio.Queue()
        server = Machine().http_server(HttpSection(listen="127.0.0.1:1"), lambda *told: heard.put_nowait(told))
        assert (server._config.host, server._config.port, server._config.certificate) == ("127.0.0.1", 1, None)

    asyncio.run(run())


@pytest.fixture
def secret(tmp_path):
    def make(content, mode=0o600):
        path = tmp_path / "secret"
        path.touch()
        path.chmod(mode)
        path.write_bytes(content)
        return path

    return make


def test_a_secret_is_one_line_of_a_file_that_nobody_else_reads(secret):
    assert secret_files.text_of("key", secret("密 word\r\n".encode())) == "密 word"
    login = secret_files.login_of("key", secret(b"admin:a:b"))
    assert (login.user, login.password) == ("admin", "a:b")


@pytest.mark.parametrize(
    ("content", "mode", "problem"),
    [
        (b"word", 0o640, "may be read by others"),
        (b"", 0o600, "one line"),
        (b"one\ntwo\n", 0o600, "one line"),
        (b"\xff", 0o600, "one line"),
        (b"x" * 1025, 0o600, "one line"),
        (b"admin", 0o600, "user:password"),
        (b":word", 0o600, "user:password"),
    ],
)
def test_a_secret_that_cannot_be_used_is_told_and_never_shown(secret, content, mode, problem):
    with pytest.raises(SecretError, match=problem) as caught:
        secret_files.login_of("charge_points[0].pumps[0].login", secret(content, mode))
    assert "charge_points[0].pumps[0].login" in str(caught.value)
    assert "word" not in str(caught.value).replace("user:password", "")


def test_a_secret_that_is_not_there_is_told():
    with pytest.raises(SecretError, match="mode 0600"):
        secret_files.text_of("key", Path("/nowhere/secret"))
