"""Hostile line: a program between the gateway and an emulator that hurts what passes, by a seed that it prints.

    python -m hardware.bench.hostile --listen ADDRESS --connect ADDRESS --control HOST:PORT --seed 7 --rate 0.05

The gateway is given the address behind `--listen`: HOST:PORT, or pty:PATH for a serial port of that name. The emulator
is at `--connect`: HOST:PORT, pty:PATH or serial:PATH. What can happen to a frame, and by what it is drawn, is in
`hardware.bench.hostile_faults`; how frames are told apart in `hardware.bench.hostile_cut`. When one side ends, so does
the other; a serial port on the gateway's side is out for as long as the device cannot be reached.

Commands on the control socket: `stats`, `quiet` (nothing happens any more; frames are counted on), `noisy`.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import random
import sys
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from drivers.addresses import BAUD_MAX, BAUD_MIN, LinkAddress, SerialAddress, parse_link_address
from drivers.errors import DeviceError
from drivers.link import Link, TcpLink, open_link
from hardware.bench.hostile_cut import CUTTERS, Cutter, Part
from hardware.bench.hostile_faults import Direction, Fault, Nature, Place, treat
from hardware.emulators.control import Command, ControlServer, parse_address
from hardware.emulators.program import argument, run, say_ready
from hardware.emulators.pty_port import (
    BAUD_DEFAULT,
    PREFIX,
    ListenAddress,
    PtyAddress,
    PtyPort,
    PtyWire,
    parse_listen,
)

READ_BYTES_MAX = 16 * 1024
CONNECT_TIMEOUT_S = 5.0
"""A loopback connection is there at once or not at all."""
RECONNECT_S = 0.2
"""Pause between two tries to reach the device when the gateway's side is a serial port."""
CONNECTIONS_MAX = 64
"""Connections at once. A gateway holds one for each device; more means that somebody leaks them."""
QUIET_S = 1.0
"""An unfinished frame whose rest has not come for so long is passed on as it is: the device would have sent it, too.
Far above every pause inside a frame, so that a slow machine does not change what counts as one."""
SEED_BITS = 32
MS_MAX = 60_000


@dataclass(frozen=True, slots=True, kw_only=True)
class HostileConfig:
    """Configuration of one bad line."""

    listen: ListenAddress
    connect: LinkAddress
    nature: Nature
    control: tuple[str, int] = ("127.0.0.1", 0)
    framing: str = "pcrsu-v3"
    """A key of `CUTTERS`."""
    baud: int = BAUD_DEFAULT
    """Baud rate of the serial port on the gateway's side."""
    log: Path | None = None


class _PtyLink:
    """A serial port that others open, as a `Link`."""

    def __init__(self, wire: PtyWire) -> None:
        self._wire = wire

    async def read(self, max_bytes: int) -> bytes:
        return await self._wire.read(max_bytes)

    async def write(self, data: bytes) -> None:
        self._wire.send(data)
        await self._wire.drain()

    async def close(self) -> None:
        self._wire.close()


@dataclass(slots=True)
class _Counts:
    """Counts of one direction since the start."""

    frames: int = 0
    hurt: int = 0
    other_bytes: int = 0
    """Bytes of no frame, passed on unharmed."""
    faults: Counter[Fault] = field(default_factory=Counter)

    def as_json(self) -> Command:
        faults = {kind.value: self.faults[kind] for kind in Fault}
        return {"frames": self.frames, "hurt": self.hurt, "other_bytes": self.other_bytes, "faults": faults}


class FaultLog:
    """Appends what happened as JSON lines, one a hurt frame. Mode 0600: frames hold card numbers.

    `{"t", "connection", "direction", "frame", "faults": [{"kind", ...}], "in": hex, "out": [{"after_ms", "hex"}]}`;
    everything but `t` is the same again with the same seed and frames.
    """

    def __init__(self, path: Path | None) -> None:
        self._file = None
        if path is not None:
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
            self._file = os.fdopen(descriptor, "ab", buffering=0)

    def write(self, entry: Command) -> None:
        """Append one entry."""
        if self._file is not None:
            stamped = {"t": datetime.now(UTC).isoformat(timespec="microseconds"), **entry}
            self._file.write(json.dumps(stamped, separators=(",", ":")).encode() + b"\n")

    def close(self) -> None:
        """Close the file; later entries are dropped."""
        if self._file is not None:
            self._file.close()
            self._file = None


class HostileLink:
    """The bad line with its control socket. Made inside a running event loop."""

    def __init__(self, config: HostileConfig) -> None:
        self._config = config
        self._control = ControlServer(
            {"stats": self._command_stats, "quiet": self._command_quiet, "noisy": self._command_noisy}
        )
        self._control_port = 0
        self._server: asyncio.Server | None = None
        self._port = 0
        self._log = FaultLog(config.log)
        self._noisy = True
        self._connections = 0
        self._open = 0
        self._counts = {direction: _Counts() for direction in Direction}
        self._tasks: set[asyncio.Task[None]] = set()
        self.failure: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        """Future that gets the exception of a bug of this program."""

    @property
    def listens_at(self) -> str:
        """Address that the gateway connects to: HOST:PORT, or pty:PATH."""
        listen = self._config.listen
        return str(listen) if isinstance(listen, PtyAddress) else f"{listen[0]}:{self._port}"

    @property
    def control_address(self) -> tuple[str, int]:
        """Address that takes commands."""
        return self._config.control[0], self._control_port

    async def start(self) -> None:
        """Open the control socket and the gateway's side. A serial port appears once the device is reached."""
        self._control_port = await self._control.start(*self._config.control)
        listen = self._config.listen
        if isinstance(listen, PtyAddress):
            self._spawn(self._serve_port(PtyPort(listen, self._config.baud)))
        else:
            self._server = await asyncio.start_server(self._accept, *listen)
            self._port = int(self._server.sockets[0].getsockname()[1])

    async def close(self) -> None:
        """Cut everything."""
        await self._control.close()
        if self._server is not None:
            self._server.close()
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._server is not None:
            await self._server.wait_closed()
        self._log.close()
        self.failure.cancel()

    # --- commands -------------------------------------------------------------------------------------------------

    async def _command_stats(self, _: Command) -> Command:
        """Counts of both directions since the start."""
        return {
            "seed": self._config.nature.seed,
            "noisy": self._noisy,
            "connections": self._connections,
            "open": self._open,
            **{direction.value: counts.as_json() for direction, counts in self._counts.items()},
        }

    async def _command_quiet(self, _: Command) -> Command:
        """Let everything pass as it is."""
        self._noisy = False
        return {"noisy": False}

    async def _command_noisy(self, _: Command) -> Command:
        """Go on hurting."""
        self._noisy = True
        return {"noisy": True}

    # --- connections ------------------------------------------------------------------------------------------------

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._open >= CONNECTIONS_MAX:
            writer.close()
            return
        self._open += 1
        self._spawn(self._serve_connection(TcpLink.over(reader, writer, device="gateway")))

    async def _serve_connection(self, gateway: Link) -> None:
        try:
            device = await self._reach()
            if device is not None:
                await self._converse(gateway, device)
        finally:
            self._open -= 1
            await gateway.close()

    async def _serve_port(self, port: PtyPort) -> None:
        try:
            while True:
                device = await self._reach()
                if device is not None:
                    self._open += 1
                    try:
                        await self._converse(_PtyLink(port.plug()), device)
                    finally:
                        self._open -= 1
                        port.unplug()
                await asyncio.sleep(RECONNECT_S)
        finally:
            port.unplug()

    async def _reach(self) -> Link | None:
        try:
            return await open_link(self._config.connect, timeout_s=CONNECT_TIMEOUT_S, device="device")
        except DeviceError as error:
            sys.stderr.write(f"hostile: {error}\n")
            return None

    async def _converse(self, gateway: Link, device: Link) -> None:
        """Carry both directions until one of them ends."""
        self._connections += 1
        number = self._connections
        # Both are closed whatever happens, also when this is cancelled while it tidies up.
        async with contextlib.AsyncExitStack() as ending:
            ending.push_async_callback(gateway.close)
            ending.push_async_callback(device.close)
            carrying = [
                asyncio.ensure_future(self._carry(gateway, device, number, Direction.TO_DEVICE)),
                asyncio.ensure_future(self._carry(device, gateway, number, Direction.TO_GATEWAY)),
            ]
            try:
                done, _ = await asyncio.wait(carrying, return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    task.result()
            finally:
                for task in carrying:
                    task.cancel()
                await asyncio.gather(*carrying, return_exceptions=True)

    async def _carry(self, source: Link, sink: Link, connection: int, direction: Direction) -> None:
        """Carry one direction, until the source ends or either side breaks."""
        cutter = CUTTERS[self._config.framing]()
        numbers = 0
        with contextlib.suppress(DeviceError):
            async for part in _parts(source, cutter):
                if not part.whole:
                    self._counts[direction].other_bytes += len(part.data)
                    await sink.write(part.data)
                    continue
                numbers += 1
                await self._pass_frame(part.data, sink, Place(connection, direction, numbers))

    async def _pass_frame(self, frame: bytes, sink: Link, place: Place) -> None:
        counts = self._counts[place.direction]
        counts.frames += 1
        if not self._noisy:
            await sink.write(frame)
            return
        treatment = treat(frame, place, self._config.nature)
        if treatment.faults:
            counts.hurt += 1
            counts.faults.update(kind for kind, _ in treatment.faults)
            self._log.write(
                {
                    "connection": place.connection,
                    "direction": place.direction.value,
                    "frame": place.frame,
                    "faults": [{"kind": kind.value, **particulars} for kind, particulars in treatment.faults],
                    "in": frame.hex(),
                    "out": [{"after_ms": pause_ms, "hex": piece.hex()} for pause_ms, piece in treatment.pieces],
                }
            )
        for pause_ms, piece in treatment.pieces:
            if pause_ms:
                await asyncio.sleep(pause_ms / 1000)
            await sink.write(piece)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        error = None if task.cancelled() else task.exception()
        if error is not None and not self.failure.done():
            self.failure.set_exception(error)


async def _parts(source: Link, cutter: Cutter) -> AsyncIterator[Part]:
    """Parts of what `source` gives, cut into frames, to its end. Raises DeviceError."""
    reading: asyncio.Task[bytes] | None = None
    try:
        while True:
            # A read is never cancelled to look at the clock: what it had taken already would be lost.
            reading = reading or asyncio.ensure_future(source.read(READ_BYTES_MAX))
            await asyncio.wait((reading,), timeout=QUIET_S if cutter.pending else None)
            if not reading.done():
                parts, data = cutter.flush(), None
            else:
                data, reading = reading.result(), None
                parts = cutter.push(data) if data else cutter.flush()
            for part in parts:
                yield part
            if data == b"":
                return
    finally:
        if reading is not None:
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)


# --- program ----------------------------------------------------------------------------------------------------------


async def serve(config: HostileConfig) -> None:
    """Run until cancelled; say `ready ADDRESS control HOST:PORT` on stdout once the control socket listens."""
    line = HostileLink(config)
    try:
        await line.start()
        sys.stdout.write(f"seed {config.nature.seed}\n")
        say_ready(line.listens_at, line.control_address)
        await line.failure
    finally:
        await line.close()


def parse_connect(text: str) -> LinkAddress:
    """HOST:PORT or serial:PATH, and pty:PATH as emulators call theirs. Raises ValueError."""
    if text.startswith(PREFIX):
        return SerialAddress(str(Path(text.removeprefix(PREFIX)).absolute()))
    return parse_link_address(text)


def parse_fault(text: str) -> tuple[Fault, float]:
    """`KIND=RATE`. Raises ValueError."""
    name, _, rate = text.partition("=")
    try:
        kind = Fault(name)
    except ValueError as error:
        raise ValueError(f"{name!r} is none of {', '.join(kind.value for kind in Fault)}") from error
    return kind, parse_rate(rate)


def parse_rate(text: str) -> float:
    """A probability. Raises ValueError."""
    try:
        rate = float(text)
    except ValueError as error:
        raise ValueError(f"{text!r} is no number from 0 to 1") from error
    if not 0 <= rate <= 1:
        raise ValueError(f"{text} is not between 0 and 1")
    return rate


def _whole(lowest: int, highest: int) -> Callable[[str], int]:
    def read(text: str) -> int:
        if not (text.isascii() and text.isdigit()) or not lowest <= int(text) <= highest:
            raise ValueError(f"{text!r} is no whole number from {lowest} to {highest}")
        return int(text)

    return read


def main(argv: Sequence[str] | None = None) -> int:
    """Command line: see --help."""
    parser = argparse.ArgumentParser(prog="hostile", description="A bad line between the gateway and an emulator.")
    add = parser.add_argument
    add("--listen", type=argument(parse_listen), default=("127.0.0.1", 0), metavar="ADDRESS", help="for the gateway")
    add("--connect", type=argument(parse_connect), required=True, metavar="ADDRESS", help="of the emulator")
    add("--control", type=argument(parse_address), default=("127.0.0.1", 0), metavar="HOST:PORT")
    add("--framing", choices=sorted(CUTTERS), default="pcrsu-v3", help="how frames are told apart")
    add("--seed", type=int, help="drawn and printed when not given")
    add("--rate", type=argument(parse_rate), default=0.0, help="of every kind of fault, for a frame, 0 to 1")
    add(
        "--fault",
        type=argument(parse_fault),
        action="append",
        default=[],
        metavar="KIND=RATE",
        help="rate of one kind, again for others: " + ", ".join(kind.value for kind in Fault),
    )
    add("--delay-ms-max", type=argument(_whole(1, MS_MAX)), default=200, help="longest delay of a frame")
    add("--gap-ms-max", type=argument(_whole(1, MS_MAX)), default=20, help="longest pause inside a chopped frame")
    add("--baud", type=argument(_whole(BAUD_MIN, BAUD_MAX)), default=BAUD_DEFAULT, help="with --listen pty:PATH")
    add("--log", type=Path, metavar="PATH", help="append what happened as JSON lines")
    given = parser.parse_args(argv)
    config = HostileConfig(
        listen=given.listen,
        connect=given.connect,
        nature=Nature(
            seed=random.SystemRandom().getrandbits(SEED_BITS) if given.seed is None else given.seed,
            rates={**dict.fromkeys(Fault, given.rate), **dict(given.fault)},
            delay_ms_max=given.delay_ms_max,
            gap_ms_max=given.gap_ms_max,
        ),
        control=given.control,
        framing=given.framing,
        baud=given.baud,
        log=given.log,
    )
    return run("hostile", serve(config))


if __name__ == "__main__":
    sys.exit(main())
