"""A roadside antenna for the bench: real TCP or a serial line, the real dialect, and emulated tags, cards and PSAM.

A program, and a class for tests in one process. How it behaves is in `rsu_antenna`, what it does on the air in
`rsu_air`, whom it meets in `road`, and how to steer it in `rsu_control`. Nothing in its bytes says that it is none.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from drivers.addresses import BAUD_MAX, BAUD_MIN
from hardware.emulators.control import ControlServer, parse_address
from hardware.emulators.program import argument, run, say_ready
from hardware.emulators.psam import TERMINAL_DEFAULT
from hardware.emulators.pty_port import BAUD_DEFAULT, parse_listen
from hardware.emulators.rsu_antenna import STATION_DEFAULT, Antenna, RsuConfig
from hardware.emulators.rsu_control import Commands
from protocols.rsu.registry import DIALECTS, dialect_named

SECONDS_MAX = 3600
"""Longest pause that can be asked for: an hour is a vehicle parked before the antenna."""


class RsuEmulator:
    """An antenna with its control socket. Made inside a running event loop."""

    def __init__(self, config: RsuConfig) -> None:
        self._config = config
        self._antenna = Antenna(config)
        self._control = ControlServer(Commands(self._antenna).handlers())
        self._control_port = 0

    @property
    def address(self) -> tuple[str, int]:
        """Address the lane connects to, port filled in. Raises LookupError on a serial line."""
        return self._antenna.address

    @property
    def listens_at(self) -> str:
        """Address as text: HOST:PORT, or pty:PATH."""
        if self._antenna.serial:
            return str(self._config.listen)
        return "{}:{}".format(*self._antenna.address)

    @property
    def control_address(self) -> tuple[str, int]:
        """Address commands go to."""
        return self._config.control[0], self._control_port

    @property
    def failure(self) -> asyncio.Future[None]:
        """Future that gets the exception of a bug of the emulator."""
        return self._antenna.failure

    async def start(self) -> None:
        """Open the control socket, then the lane's side."""
        self._control_port = await self._control.start(*self._config.control)
        await self._antenna.listen()

    async def close(self) -> None:
        """Cut everything."""
        await self._control.close()
        await self._antenna.close()


async def serve(config: RsuConfig) -> None:
    """Run an antenna until cancelled; say `ready ADDRESS control HOST:PORT` on stdout once both can be reached."""
    emulator = RsuEmulator(config)
    try:
        await emulator.start()
        say_ready(emulator.listens_at, emulator.control_address)
        await emulator.failure
    finally:
        await emulator.close()


def _baud(text: str) -> int:
    if not (text.isascii() and text.isdigit()) or not BAUD_MIN <= int(text) <= BAUD_MAX:
        raise argparse.ArgumentTypeError(f"{text!r} is no speed from {BAUD_MIN} to {BAUD_MAX}")
    return int(text)


def _terminal(text: str) -> bytes:
    if len(text) != 12 or not text.isalnum():
        raise argparse.ArgumentTypeError(f"{text!r} is not a terminal number of 12 digits, such as 019900000001")
    try:
        return bytes.fromhex(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is not a terminal number of 12 digits") from error


def _station(text: str) -> bytes:
    if len(text) != 8 or not set(text) <= set("0123456789abcdefABCDEF"):
        raise argparse.ArgumentTypeError(f"{text!r} is not network and station in 8 digits, such as 99010103")
    return bytes.fromhex(text)


def _at_least_zero(text: str) -> int:
    if not (text.isascii() and text.isdigit()):
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 0")
    return int(text)


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of seconds") from error
    if not 0 <= value <= SECONDS_MAX:
        raise argparse.ArgumentTypeError(f"{text} is not between 0 and {SECONDS_MAX} seconds")
    return value


def main(argv: Sequence[str] | None = None) -> int:
    """Command line: see --help."""
    parser = argparse.ArgumentParser(prog="rsu", description="An emulated roadside antenna with vehicles before it.")
    parser.add_argument(
        "--listen",
        type=argument(parse_listen),
        default=("127.0.0.1", 0),
        metavar="ADDRESS",
        help="HOST:PORT, or pty:PATH",
    )
    parser.add_argument("--baud", type=_baud, default=BAUD_DEFAULT, help="speed of the line with pty:PATH, 8N1")
    parser.add_argument("--control", type=argument(parse_address), default=("127.0.0.1", 0), metavar="HOST:PORT")
    parser.add_argument("--dialect", choices=sorted(DIALECTS), default="pcrsu-v3")
    parser.add_argument("--radio-ms", type=_at_least_zero, default=280, help="air time of one sale")
    parser.add_argument("--terminal", type=_terminal, default=TERMINAL_DEFAULT, help="PSAM terminal number, 12 digits")
    parser.add_argument(
        "--station", type=_station, default=STATION_DEFAULT, help="network and station it adds to a C3, 8 digits"
    )
    parser.add_argument("--seed", type=int, default=1, help="of card randoms and radio times")
    parser.add_argument("--guard-s", type=_seconds, default=10.0, help="a finished OBU is left alone so long")
    parser.add_argument("--search-pause-s", type=_seconds, default=1.0, help="pause after C2 and failed purchases")
    parser.add_argument("--capture", type=Path, metavar="PATH", help="append raw bytes as JSON lines")
    given = vars(parser.parse_args(argv))
    config = RsuConfig(**{**given, "dialect": dialect_named(given["dialect"])})
    return run("rsu", serve(config))


if __name__ == "__main__":
    os.umask(0o077)  # captures show who passed when
    sys.exit(main())
