"""Control of an emulator by a bench: JSON lines over a loopback socket, and a capture of the raw bytes.

One line in, one line out: `{"cmd": "name", ...}` is answered by whatever the handler of that name returns, or by
`{"error": "..."}`. Commands of one connection run one after the other; a client that waits for an event opens a
second connection for everything else.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import json
import os
import socket
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO, Self

COMMAND_BYTES_MAX = 64 * 1024
"""Longest command line. Commands are typed by hand or built from a scenario: a longer one is a mistake."""

ANSWER_BYTES_MAX = 32 * 1024 * 1024
"""Longest answer line: a book or a request log of a whole day of bench traffic fits."""

CONNECTIONS_MAX = 64
"""Open control connections. A scenario holds a few; more means a leak."""

WAIT_MS_DEFAULT = 300_000
"""Default `timeout_ms` of a command that waits for an event: it has got stuck, also on a machine slow and busy."""

CONNECT_TIMEOUT_S = 60.0
"""Longest loopback connect: it succeeds at once or nobody listens."""

ANSWER_TIMEOUT_S = 360.0
"""Default wait of a client for an answer, above any sensible `timeout_ms` of a `wait` command."""

Command = dict[str, Any]
Handler = Callable[[Command], Awaitable[Command]]


class ControlError(Exception):
    """The emulator refused a command, or the control connection is gone."""


def parse_address(text: str) -> tuple[str, int]:
    """`HOST:PORT` to its parts. Port 0 lets the system choose one."""
    host, separator, port = text.rpartition(":")
    if not separator or not host or not port.isascii() or not port.isdigit() or int(port) > 65535:
        raise ValueError(f"{text!r} is not an address; write HOST:PORT, for example 127.0.0.1:0")
    return host.strip("[]"), int(port)


class ControlServer:
    """Answers control commands on a loopback address. Anybody who reaches it steers the emulator: never wider."""

    def __init__(self, handlers: Mapping[str, Handler]) -> None:
        self._handlers = dict(handlers)
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self, host: str, port: int) -> int:
        """Listen, and return the real port. Raises ValueError for an address that is not loopback."""
        if host != "localhost" and not ipaddress.ip_address(host).is_loopback:
            raise ValueError(f"control address {host} is not loopback; use 127.0.0.1")
        if self._server is not None:
            raise RuntimeError("the control server is already listening")
        self._server = await asyncio.start_server(self._accept, host, port, limit=COMMAND_BYTES_MAX)
        return int(self._server.sockets[0].getsockname()[1])

    async def close(self) -> None:
        """Stop listening and drop every connection."""
        if self._server is None:
            return
        self._server.close()
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._server.wait_closed()
        self._server = None

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if len(self._tasks) >= CONNECTIONS_MAX:
            writer.close()
            return
        task = asyncio.get_running_loop().create_task(self._serve(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                try:
                    line = await reader.readline()
                except ValueError:
                    writer.write(_line({"error": f"a command is longer than {COMMAND_BYTES_MAX} bytes"}))
                    await writer.drain()
                    return
                if not line.endswith(b"\n"):
                    return  # closed, perhaps in the middle of a line: half a command is no command
                writer.write(_line(await self._answer(line)))
                await writer.drain()
        except ConnectionError:
            return  # the client left; its commands are done
        finally:
            writer.close()

    async def _answer(self, line: bytes) -> Command:
        try:
            command = json.loads(line)
        except ValueError as error:
            return {"error": f"not a JSON line: {error}"}
        if not isinstance(command, dict):
            return {"error": 'a command is a JSON object such as {"cmd": "book"}'}
        handler = self._handlers.get(str(command.get("cmd")))
        if handler is None:
            return {"error": f"unknown cmd {command.get('cmd')!r}; known: {', '.join(sorted(self._handlers))}"}
        try:
            return await handler(command)
        except (ControlError, ValueError, TypeError, LookupError, OSError, TimeoutError) as error:
            # What a handler says about its arguments goes back to the caller; anything else is a bug of the
            # emulator and ends the connection with a traceback.
            return {"error": f"{type(error).__name__}: {error}"}


class ControlClient:
    """Asyncio client of one control connection. One command at a time."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._busy = asyncio.Lock()

    @classmethod
    async def connect(cls, host: str, port: int) -> Self:
        """Open a control connection. Raises ControlError when nobody listens."""
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT_S):
                reader, writer = await asyncio.open_connection(host, port, limit=ANSWER_BYTES_MAX)
        except OSError as error:  # TimeoutError is one
            raise ControlError(f"no control socket at {host}:{port}: {error}") from error
        return cls(reader, writer)

    async def request(self, cmd: str, *, answer_timeout_s: float = ANSWER_TIMEOUT_S, **arguments: Any) -> Command:  # noqa: ANN401 - JSON values
        """Send one command and return its answer. Raises ControlError when the emulator says no or is gone."""
        async with self._busy:
            answered = False
            try:
                async with asyncio.timeout(answer_timeout_s):
                    self._writer.write(_line({"cmd": cmd, **arguments}))
                    await self._writer.drain()
                    line = await self._reader.readline()
                answered = True
            except (OSError, ValueError) as error:
                raise ControlError(f"control command {cmd}: {type(error).__name__} {error}") from error
            finally:
                if not answered:
                    self._writer.close()  # a late answer must not be taken for the next command's
        return _checked(cmd, line)

    async def close(self) -> None:
        """Close the connection."""
        self._writer.close()
        with contextlib.suppress(ConnectionError):
            await self._writer.wait_closed()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()


class SyncControlClient:
    """Client of one control connection for scripts and tests without an event loop."""

    def __init__(self, host: str, port: int, *, answer_timeout_s: float = ANSWER_TIMEOUT_S) -> None:
        try:
            self._socket = socket.create_connection((host, port), timeout=CONNECT_TIMEOUT_S)
        except OSError as error:
            raise ControlError(f"no control socket at {host}:{port}: {error}") from error
        self._socket.settimeout(answer_timeout_s)
        self._file = self._socket.makefile("rb")

    def request(self, cmd: str, **arguments: Any) -> Command:  # noqa: ANN401 - JSON values
        """Send one command and return its answer. Raises ControlError when the emulator says no or is gone."""
        try:
            self._socket.sendall(_line({"cmd": cmd, **arguments}))
            line = self._file.readline(ANSWER_BYTES_MAX)
        except (OSError, ValueError) as error:
            self.close()
            raise ControlError(f"control command {cmd}: {type(error).__name__} {error}") from error
        return _checked(cmd, line)

    def close(self) -> None:
        """Close the connection."""
        self._file.close()
        self._socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def utcnow_of_machine() -> datetime:
    """This machine's wall clock, where an emulator is given no other."""
    return datetime.now(UTC)


class Capture:
    """Appends raw bytes of a link as JSON lines `{"t", "dir", "peer", "hex"}`, before anybody interprets them.

    `t` is UTC with microseconds, `dir` is `in` or `out` as the emulator sees it, one line per read or write of the
    socket: a line is not a message. Mode 0600, since captures hold card numbers. With no path nothing is written.
    """

    def __init__(self, path: Path | str | None) -> None:
        self._file: BinaryIO | None = None
        if path is not None:
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
            self._file = os.fdopen(descriptor, "ab", buffering=0)

    def write(self, direction: str, peer: str, data: bytes) -> None:
        """Record `data` seen in `direction` (`in` or `out`) on the connection to `peer`."""
        if direction not in {"in", "out"}:
            raise ValueError(f"direction {direction!r} is neither 'in' nor 'out'")
        if self._file is None:
            return
        moment = datetime.now(UTC).isoformat(timespec="microseconds")
        # One write of one line: with O_APPEND several processes may share the file.
        self._file.write(_line({"t": moment, "dir": direction, "peer": peer, "hex": data.hex()}))

    def close(self) -> None:
        """Close the file; later writes are dropped."""
        if self._file is not None:
            self._file.close()
            self._file = None


def _line(value: Command) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"


def _checked(cmd: str, line: bytes) -> Command:
    if not line.endswith(b"\n"):
        raise ControlError(f"control command {cmd}: the emulator closed the connection")
    try:
        answer = json.loads(line)
    except ValueError as error:
        raise ControlError(f"control command {cmd}: the answer is not JSON") from error
    if not isinstance(answer, dict):
        raise ControlError(f"control command {cmd}: the answer is not a JSON object")
    if "error" in answer:
        raise ControlError(str(answer["error"]))
    return answer
