"""Byte links: one connection each, whatever carries it.

The contract every link keeps: `write` takes all bytes before it first waits, so a cancelled write never leaves half
a message on the wire; `read` gives b"" once and for ever when the other side has closed; `close` may be called twice.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Protocol

from drivers.errors import DeviceUnavailable, LinkLost, RequestOutcome
from drivers.serial_link import Parity, SerialLink, SerialSettings

MEMORY_BYTES_MAX = 64 * 1024
"""Bytes in flight on a memory link, like a socket's buffers: a peer that stops reading stops the writer."""

CLOSE_TIMEOUT_S = 1.0
"""Wait for a closing socket to say goodbye. The bytes are handed to the system already; nobody waits longer."""

PORT_MAX = 0xFFFF
SERIAL_OPTIONS = ("baud", "bits", "parity", "stop")
"""Options that may follow the `?` of a serial address."""


class Link(Protocol):
    """One open byte stream."""

    async def read(self, max_bytes: int) -> bytes:
        """Up to `max_bytes`, at least one; b"" when the peer closed. Raises LinkLost when the link broke."""
        ...

    async def write(self, data: bytes) -> None:
        """Hand over all of `data`. Raises LinkLost, with outcome `not_sent` when no byte was taken."""
        ...

    async def close(self) -> None:
        """Let go of the link. Pending reads end."""
        ...


class TcpLink:
    """A TCP connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, device: str) -> None:
        self._reader = reader
        self._writer = writer
        self._device = device

    @classmethod
    async def connect(cls, host: str, port: int, *, timeout_s: float, device: str) -> TcpLink:
        """Connect within `timeout_s`. Raises DeviceUnavailable."""
        try:
            async with asyncio.timeout(timeout_s):
                reader, writer = await asyncio.open_connection(host, port)
        except TimeoutError as error:
            raise DeviceUnavailable(
                f"no connection to {host}:{port} within {timeout_s} s", device=device, hint="check address and firewall"
            ) from error
        except OSError as error:
            raise DeviceUnavailable(
                f"cannot connect to {host}:{port}: {error}", device=device, hint="check that the peer is running"
            ) from error
        return cls.over(reader, writer, device=device)

    @classmethod
    def over(cls, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, device: str) -> TcpLink:
        """Wrap an open connection, for example one that was accepted."""
        raw = writer.get_extra_info("socket")
        # Short messages must not wait for the acknowledgement of the one before.
        raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        return cls(reader, writer, device=device)

    async def read(self, max_bytes: int) -> bytes:
        """Up to `max_bytes`; b"" when the peer closed. Raises LinkLost."""
        try:
            return await self._reader.read(max_bytes)
        except OSError as error:
            raise LinkLost(f"connection broke while reading: {error}", device=self._device) from error

    async def write(self, data: bytes) -> None:
        """Hand `data` to the system and wait while its buffers are full. Raises LinkLost."""
        if self._writer.is_closing():
            raise LinkLost("connection is closed", device=self._device, outcome=RequestOutcome.NOT_SENT)
        self._writer.write(data)
        try:
            await self._writer.drain()
        except OSError as error:
            raise LinkLost(f"connection broke while writing: {error}", device=self._device) from error

    async def close(self) -> None:
        """Close the connection; bytes already handed over are still sent."""
        self._writer.close()
        with contextlib.suppress(OSError, TimeoutError):
            async with asyncio.timeout(CLOSE_TIMEOUT_S):
                await self._writer.wait_closed()


@dataclass(frozen=True, slots=True)
class TcpAddress:
    """A host and a port to connect to."""

    host: str
    port: int

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"


@dataclass(frozen=True, slots=True)
class SerialAddress:
    """A serial port by its path, and how it is set."""

    path: str
    settings: SerialSettings = field(default_factory=SerialSettings)

    def __str__(self) -> str:
        return f"serial:{self.path} {self.settings}"


LinkAddress = TcpAddress | SerialAddress


def parse_link_address(text: str) -> LinkAddress:
    """Address of a device's line as a site file gives it. Raises ValueError saying what is wrong with `text`.

    `HOST:PORT`, the same after `tcp://`, or `serial:/dev/...` with any of `?baud=115200&bits=8&parity=N&stop=1`.
    """
    if text.startswith("serial:"):
        return _serial_address(text)
    return _tcp_address(text)


async def open_link(address: str | LinkAddress, *, timeout_s: float, device: str) -> Link:
    """Open the link `address` names. Raises DeviceUnavailable, and ValueError for text that is no address."""
    where = parse_link_address(address) if isinstance(address, str) else address
    if isinstance(where, SerialAddress):
        return SerialLink.open(where.path, where.settings, device=device)
    return await TcpLink.connect(where.host, where.port, timeout_s=timeout_s, device=device)


def _tcp_address(text: str) -> TcpAddress:
    scheme, separator, rest = text.rpartition("://")
    if separator and scheme != "tcp":
        raise ValueError(f"{text!r}: {scheme}:// is not known; write HOST:PORT, tcp://HOST:PORT or serial:/dev/...")
    host, separator, port = rest.rpartition(":")
    if not separator:
        raise ValueError(f"{text!r}: the port is missing; write HOST:PORT, or serial:/dev/... for a serial port")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        raise ValueError(f"{text!r}: {host!r} has a colon; write an IPv6 address in brackets, as in [::1]:9000")
    if not host or host.startswith("/"):
        raise ValueError(f"{text!r}: {host!r} is no host name; write HOST:PORT, or serial:/dev/... for a serial port")
    if not (port.isascii() and port.isdigit()) or not 0 < int(port) <= PORT_MAX:
        raise ValueError(f"{text!r}: port {port!r} is no number from 1 to {PORT_MAX}")
    return TcpAddress(host, int(port))


def _serial_address(text: str) -> SerialAddress:
    path, _, options = text.removeprefix("serial:").partition("?")
    if not PurePosixPath(path).is_absolute() or path.startswith("//"):
        raise ValueError(f"{text!r}: {path!r} is no absolute path; write serial:/dev/serial/by-id/... or /dev/ttyS0")
    given: dict[str, str] = {}
    for option in options.split("&") if options else ():
        key, separator, value = option.partition("=")
        if key not in SERIAL_OPTIONS:
            raise ValueError(f"{text!r}: option {key!r} is not known; known are {', '.join(SERIAL_OPTIONS)}")
        if not separator or not value:
            raise ValueError(f"{text!r}: option {key} has no value")
        if key in given:
            raise ValueError(f"{text!r}: option {key} stands there twice")
        given[key] = value
    usual = SerialSettings()
    try:
        settings = SerialSettings(
            baud=_whole("baud", given.get("baud"), usual.baud),
            bits=_whole("bits", given.get("bits"), usual.bits),
            parity=_parity(given.get("parity"), usual.parity),
            stop_bits=_whole("stop", given.get("stop"), usual.stop_bits),
        )
    except ValueError as error:
        raise ValueError(f"{text!r}: {error}") from error
    return SerialAddress(path, settings)


def _whole(name: str, text: str | None, usual: int) -> int:
    if text is None:
        return usual
    if not (text.isascii() and text.isdigit()):
        raise ValueError(f"{name} {text!r} is no whole number")
    return int(text)


def _parity(text: str | None, usual: Parity) -> Parity:
    if text is None:
        return usual
    try:
        return Parity(text)
    except ValueError as error:
        raise ValueError(f"parity {text!r} is none of {', '.join(parity.value for parity in Parity)}") from error


class MemoryLink:
    """One end of a connection inside this process, for tests and simulations. See `memory_pair`."""

    def __init__(self, incoming: _Pipe, outgoing: _Pipe, device: str) -> None:
        self._incoming = incoming
        self._outgoing = outgoing
        self._device = device

    async def read(self, max_bytes: int) -> bytes:
        """Up to `max_bytes`; b"" when the peer closed."""
        return await self._incoming.take(max_bytes)

    async def write(self, data: bytes) -> None:
        """Hand `data` over; waits while the peer leaves too much unread. Raises LinkLost."""
        if self._outgoing.closed:
            raise LinkLost("connection is closed", device=self._device, outcome=RequestOutcome.NOT_SENT)
        if not await self._outgoing.give(data):
            raise LinkLost("connection broke while writing", device=self._device)

    async def close(self) -> None:
        """Close both directions; what was written stays readable for the peer."""
        self._outgoing.close()
        self._incoming.close()


class _Pipe:
    """One direction of a memory link."""

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._buffer = bytearray()
        self._changed = asyncio.Condition()
        self.closed = False
        self._notifiers: set[asyncio.Task[None]] = set()

    async def take(self, max_bytes: int) -> bytes:
        async with self._changed:
            await self._changed.wait_for(lambda: self._buffer or self.closed)
            piece = bytes(self._buffer[:max_bytes])
            del self._buffer[:max_bytes]
            self._changed.notify_all()
            return piece

    async def give(self, data: bytes) -> bool:
        self._buffer += data
        async with self._changed:
            self._changed.notify_all()
            await self._changed.wait_for(lambda: len(self._buffer) <= self._capacity or self.closed)
            return len(self._buffer) <= self._capacity

    def close(self) -> None:
        self.closed = True
        task = asyncio.get_running_loop().create_task(self._wake())
        self._notifiers.add(task)
        task.add_done_callback(self._notifiers.discard)

    async def _wake(self) -> None:
        async with self._changed:
            self._changed.notify_all()


def memory_pair(capacity: int = MEMORY_BYTES_MAX, *, device: str = "memory") -> tuple[MemoryLink, MemoryLink]:
    """Two ends of one connection."""
    there, back = _Pipe(capacity), _Pipe(capacity)
    return MemoryLink(back, there, device), MemoryLink(there, back, device)
