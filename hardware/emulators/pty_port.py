"""A serial port for the bench: a pseudo terminal under a stable name, with the time a real line takes.

A pseudo terminal has no baud rate: bytes cross it at once. So both directions are paced here. What is sent leaves in
chunks, each when the line would have finished it; what comes in is handed over when the line would have delivered it.
The schedule is absolute, so that late wake-ups do not add up.

There is no connection on a serial line. The device's end stays open whoever opens and leaves the other one, and bytes
that nobody reads are lost once the buffers are full, as without flow control they are.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import pty
import tty
from dataclasses import dataclass
from pathlib import Path

from hardware.emulators.control import parse_address

BITS_PER_BYTE = 10
"""8N1: start, eight, stop."""
CHUNK_BYTES = 16
"""Bytes that go together: the FIFO of a usual UART."""
BAUD_DEFAULT = 115_200
PREFIX = "pty:"


@dataclass(frozen=True, slots=True)
class PtyAddress:
    """The name under which a pseudo terminal can be opened."""

    path: Path

    def __str__(self) -> str:
        return f"{PREFIX}{self.path}"


ListenAddress = tuple[str, int] | PtyAddress


def parse_listen(text: str) -> ListenAddress:
    """`pty:PATH` or `HOST:PORT`. Raises ValueError."""
    if not text.startswith(PREFIX):
        return parse_address(text)
    path = Path(text.removeprefix(PREFIX))
    if not path.name:
        raise ValueError(f"{text!r} names no path; write pty:PATH, for example pty:/tmp/rsu-1")
    return PtyAddress(path.absolute())


class Pacer:
    """Pace of one direction of a line: when its bytes are through. Times are seconds of the caller's clock."""

    def __init__(self, baud: int) -> None:
        """`baud`: bits a second, above 0."""
        if baud <= 0:
            raise ValueError(f"baud {baud} is not above 0")
        self._byte_s = BITS_PER_BYTE / baud
        self._due = 0.0

    def begin(self, now: float) -> None:
        """Begin after an idle line, at `now`. Not to be called while bytes follow each other."""
        self._due = max(self._due, now)

    def take(self, count: int) -> float:
        """Time at which `count` more bytes are through."""
        self._due += count * self._byte_s
        return self._due


class PtyWire:
    """The device's end of one pseudo terminal, from plugging in to pulling out. Made by `PtyPort.plug`."""

    def __init__(self, address: PtyAddress, master: int, slave: int, baud: int) -> None:
        self.peer = str(address)
        self.overrun = 0
        """Bytes lost because nobody read them."""
        self._master = master
        self._slave = slave  # held open: without it the master reads EIO whenever the client is away
        self._loop = asyncio.get_running_loop()
        self._sending, self._receiving = Pacer(baud), Pacer(baud)
        self._out = bytearray()
        self._timer: asyncio.TimerHandle | None = None
        self._drained = asyncio.Event()
        self._drained.set()
        self._ready = asyncio.Event()
        self._flowing = False
        self._pulled = asyncio.Event()

    def is_open(self) -> bool:
        """True until it is closed from either end."""
        return not self._pulled.is_set()

    @property
    def unsent(self) -> int:
        """Bytes the line has not carried yet."""
        return len(self._out)

    def send(self, data: bytes) -> None:
        """Put bytes on the line after those that wait; nothing happens on a closed one."""
        if not self.is_open() or not data:
            return
        self._out += data
        self._drained.clear()
        if self._timer is None:
            self._sending.begin(self._loop.time())
            self._schedule()

    async def drain(self) -> None:
        """Return when everything sent has left, or the port has gone."""
        await self._drained.wait()

    async def read(self, max_bytes: int) -> bytes:
        """Bytes that came over the line, at least one; b"" when the port has gone."""
        waited = False
        while self.is_open():
            try:
                data = os.read(self._master, min(max_bytes, CHUNK_BYTES))
            except BlockingIOError:
                waited = True
                await self._readable()
                continue
            except OSError:
                self.close()
                break
            if waited or not self._flowing:
                self._receiving.begin(self._loop.time())
            # Less than a chunk was all there was: what comes next, comes after a pause.
            self._flowing = len(data) == CHUNK_BYTES
            due = self._receiving.take(len(data))
            await asyncio.sleep(due - self._loop.time())
            return data if self.is_open() else b""
        return b""

    def close(self) -> None:
        """Pull the cable: what has not left is gone. May be called twice."""
        if not self.is_open():
            return
        self._pulled.set()
        self._loop.remove_reader(self._master)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._out.clear()
        os.close(self._master)
        os.close(self._slave)
        self._ready.set()
        self._drained.set()

    async def _readable(self) -> None:
        self._ready.clear()
        self._loop.add_reader(self._master, self._ready.set)
        try:
            await self._ready.wait()
        finally:
            if self.is_open():
                self._loop.remove_reader(self._master)

    def _schedule(self) -> None:
        count = min(CHUNK_BYTES, len(self._out))
        self._timer = self._loop.call_at(self._sending.take(count), self._carry, count)

    def _carry(self, count: int) -> None:
        """Hand on `count` bytes that the line has carried."""
        self._timer = None
        chunk = bytes(self._out[:count])
        del self._out[:count]
        try:
            written = os.write(self._master, chunk)
        except BlockingIOError:
            written = 0
        except OSError:
            self.close()
            return
        self.overrun += count - written
        if self._out:
            self._schedule()
        else:
            self._drained.set()


class PtyPort:
    """A port that can be pulled out and plugged in again, each time as another pseudo terminal under the same name."""

    def __init__(self, address: PtyAddress, baud: int = BAUD_DEFAULT) -> None:
        self._address = address
        self._baud = baud
        self._wire: PtyWire | None = None
        self._target = ""

    @property
    def plugged(self) -> bool:
        """True when it can be opened now."""
        return self._wire is not None and self._wire.is_open()

    def plug(self) -> PtyWire:
        """Make the terminal, raw, and then its name. Raises OSError, also for a name that a file has already."""
        self.unplug()
        path = self._address.path
        if path.exists() and not path.is_symlink():
            raise FileExistsError(f"{path} is no link to a terminal; remove it or choose another name")
        master, slave = pty.openpty()
        try:
            tty.setraw(slave)  # else the terminal echoes, and turns 0D into 0A
            os.set_blocking(master, False)
            target = os.ttyname(slave)
            # In one step: whoever looks sees the old port, no port or the new one.
            fresh = path.with_name(f".{path.name}.{os.getpid()}")
            fresh.unlink(missing_ok=True)
            fresh.symlink_to(target)
            fresh.replace(path)
        except OSError:
            os.close(master)
            os.close(slave)
            raise
        self._target = target
        self._wire = PtyWire(self._address, master, slave, self._baud)
        return self._wire

    def unplug(self) -> bool:
        """Take name and terminal away; False when it was out already."""
        wire, self._wire = self._wire, None
        if wire is None:
            return False
        with contextlib.suppress(OSError):  # gone, or another program's by now: not ours to remove
            if str(self._address.path.readlink()) == self._target:
                self._address.path.unlink()
        wire.close()
        return True
