"""The lines emulators serve: accepted TCP connections, pseudo terminals, or a simulation's links in memory."""

from __future__ import annotations

import asyncio
from typing import Protocol


class Line(Protocol):
    """The device's end of one connection."""

    peer: str
    overrun: int
    """Bytes lost because the other side did not read them; a connection loses none."""

    @property
    def unsent(self) -> int:
        """Bytes accepted that have not left."""

    def send(self, data: bytes) -> None:
        """Accept bytes; never waits."""

    async def drain(self) -> None:
        """Return when what was sent may be added to. May raise ConnectionError."""

    async def read(self, max_bytes: int) -> bytes:
        """At least one byte; b"" at the end. May raise ConnectionError."""

    def close(self) -> None:
        """Let go of it; `read` ends."""


class TcpLine:
    """A connection that was accepted."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        host, port = writer.get_extra_info("peername")[:2]
        self.peer = f"{host}:{port}"
        self.overrun = 0
        self._reader = reader
        self._writer = writer

    @property
    def unsent(self) -> int:
        """Bytes the system has not taken yet."""
        return self._writer.transport.get_write_buffer_size()

    def send(self, data: bytes) -> None:
        """Hand bytes to the transport."""
        self._writer.write(data)

    async def drain(self) -> None:
        """Wait while the transport's buffer is full."""
        await self._writer.drain()

    async def read(self, max_bytes: int) -> bytes:
        """Bytes that came in."""
        return await self._reader.read(max_bytes)

    def close(self) -> None:
        """Close the connection; bytes already handed over are still sent."""
        self._writer.close()
