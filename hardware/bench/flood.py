"""Line on which a device says far too much: everything passes, and words of our own are put in on the way in."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from types import TracebackType
from typing import Self

from drivers.errors import DeviceError
from drivers.link import Link, TcpLink, open_link
from hardware.bench.hostile_cut import CUTTERS

READ_BYTES_MAX = 16 * 1024
CONNECT_TIMEOUT_S = 5.0
"""Limit for connecting: a loopback connection is there at once or not at all."""
TURNS_PER_S = 50
"""Portions in which a flood is written: one a turn, or one word a turn where fewer are wanted."""


class FloodLine:
    """Line between the gateway and one device, in this process; the gateway is given `address`.

    `word`: makes what is said, by its number from 0, one sequence a connection. While `on`, so many a second go to the
    gateway, fewer when it does not read them; with `instead` they take the place of what the device says.
    """

    def __init__(
        self, device: str, framing: str, word: Callable[[int], bytes], *, per_s: int, instead: bool = False
    ) -> None:
        """`device`: HOST:PORT. `framing`: a key of `hardware.bench.hostile_cut.CUTTERS`; no frame is cut in two."""
        self._device = device
        self._framing = framing
        self._word = word
        self._per_s = per_s
        self._instead = instead
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self.on = False
        self.said = 0
        """Words the gateway was given."""
        self.connections = 0
        """Connections the gateway has made so far."""

    @property
    def address(self) -> str:
        """Address that the gateway connects to."""
        if self._server is None:
            raise RuntimeError("the line is not open")
        host, port = self._server.sockets[0].getsockname()
        return f"{host}:{port}"

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        return self

    async def __aexit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        if self._server is not None:
            self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._server is not None:
            await self._server.wait_closed()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        if task is not None:
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        self.connections += 1
        # Cancelled only when the line is closed; then nobody asks for the outcome.
        with contextlib.suppress(DeviceError, asyncio.CancelledError):
            await self._converse(TcpLink.over(reader, writer, device="gateway"))

    async def _converse(self, gateway: Link) -> None:
        """Carry both directions until one ends."""
        async with contextlib.AsyncExitStack() as ending:
            ending.push_async_callback(gateway.close)
            device = await open_link(self._device, timeout_s=CONNECT_TIMEOUT_S, device="device")
            ending.push_async_callback(device.close)
            ways = [
                asyncio.ensure_future(way)
                for way in (_carry(gateway, device), self._in(device, gateway), self._flood(gateway))
            ]
            try:
                await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for way in ways:
                    way.cancel()
                await asyncio.gather(*ways, return_exceptions=True)

    async def _in(self, device: Link, gateway: Link) -> None:
        cutter = CUTTERS[self._framing]()
        while data := await device.read(READ_BYTES_MAX):
            for part in cutter.push(data):
                if not (self.on and self._instead):
                    await gateway.write(part.data)

    async def _flood(self, gateway: Link) -> None:
        number = 0
        portion = max(1, self._per_s // TURNS_PER_S)
        while True:
            await asyncio.sleep(portion / self._per_s)
            if not self.on:
                continue
            await gateway.write(b"".join(self._word(number + offset) for offset in range(portion)))
            number += portion
            self.said += portion


async def _carry(source: Link, target: Link) -> None:
    while data := await source.read(READ_BYTES_MAX):
        await target.write(data)
