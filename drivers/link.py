"""Byte links: one connection each, whatever carries it.

The contract every link keeps: `write` takes all bytes before it first waits, so a cancelled write never leaves half
a message on the wire; `read` gives b"" once and for ever when the other side has closed; `close` may be called twice.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from typing import Protocol

from drivers.addresses import LinkAddress, SerialAddress, parse_link_address
from drivers.errors import DeviceUnavailable, LinkLost, RequestOutcome
from drivers.serial_link import SerialLink

MEMORY_BYTES_MAX = 64 * 1024
"""Bytes in flight on a memory link, like a socket's buffers: a peer that stops reading stops the writer."""

CLOSE_TIMEOUT_S = 1.0
"""Wait for a closing socket to say goodbye. The bytes are handed to the system already; nobody waits longer."""


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


async def open_link(address: str | LinkAddress, *, timeout_s: float, device: str) -> Link:
    """Open the link `address` names. Raises DeviceUnavailable, and ValueError for text that is no address."""
    where = parse_link_address(address) if isinstance(address, str) else address
    if isinstance(where, SerialAddress):
        return SerialLink.open(where.path, where.settings, device=device)
    return await TcpLink.connect(where.host, where.port, timeout_s=timeout_s, device=device)


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
