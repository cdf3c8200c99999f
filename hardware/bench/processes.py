"""The emulated site as processes: every emulator a program of its own, and the real gateway among them.

A program is ready when it has said so on its standard output (`ready ADDRESS control ADDRESS`, the gateway `ready`).
What they say on standard error goes to a file each. Everything is stopped through its own handle; when this process is
gone without having done so, each is stopped by its guard, see `kept`.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import signal
import sys
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from hardware.bench import kept
from hardware.bench.chain_key import write_key_file
from hardware.bench.waiting import STUCK_S
from hardware.emulators.control import ControlClient, parse_address

SERIAL_DIALECT = "legacy-serial-bj"

SITES = Path(__file__).parent.parent / "sites"

ORPHAN_S = 30.0
"""Time that a program whose starter is gone has to end in order; then it is killed."""

GUARDED = (sys.executable, "-I", "-S", kept.__file__, str(ORPHAN_S))
"""Beginning of a command that shall end with this process; its standard input is a pipe from here."""


class ProgramFailed(Exception):
    """A program did not start or did not stop as it should; names its log."""


@dataclass(frozen=True, slots=True)
class LanePlan:
    """One lane of an emulated site: what the bench must know beside the site file."""

    name: str
    coils: int
    """First of its three coils: barrier, green, red."""
    station: str | None = None
    """8 hex digits; a lane with one has a serial antenna, which stands at that station."""
    noisy: bool = False
    """A hostile line lies between its antenna and the gateway; it starts quiet."""

    @property
    def dialect(self) -> str:
        """Dialect of its antenna."""
        return "pcrsu-v3" if self.station is None else SERIAL_DIALECT

    @property
    def line(self) -> str:
        """Name of its hostile line."""
        return f"{self.name}-line"


DEADLINE_MS = 2000
"""A lane's time for a vehicle: what the product promises."""

PATIENT_MS = 10_000
"""Deadline of a lane where decisions and money are proved and not time: nothing runs out because a machine is slow."""

DEMO_LANES = (
    LanePlan("lane-1", 0),
    LanePlan("lane-2", 8),
    LanePlan("lane-3", 16, "99010103"),
    LanePlan("lane-4", 24, "99010206", noisy=True),
)
"""The lanes of `hardware/sites/demo/site.toml`."""


BANK_BOOK = "bank.db"
"""The book of an emulated site's bank, in the folder of the site."""


class Program:
    """One child process. It does not outlive this one."""

    def __init__(self, name: str, arguments: Sequence[str], folder: Path) -> None:
        self.name = name
        self.log = folder / f"{name}.log"
        self._arguments = [*GUARDED, sys.executable, *arguments]
        self._process: asyncio.subprocess.Process | None = None
        self._output: asyncio.Task[None] | None = None

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.returncode is None

    @property
    def pid(self) -> int | None:
        """Process id, None before the first start."""
        return None if self._process is None else self._process.pid

    async def start(self) -> str:
        """Start and wait for its `ready` line, which is returned."""
        self._output = None
        with self.log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                *self._arguments,
                stdin=asyncio.subprocess.PIPE,  # never written to: its end tells that we are gone
                stdout=asyncio.subprocess.PIPE,
                stderr=log,
                env={**os.environ, "PYTHONUNBUFFERED": "1", "PYTHONIOENCODING": "utf-8"},
                start_new_session=True,
            )
        stdout = self._process.stdout
        if stdout is None:
            raise ProgramFailed(f"{self.name} has no output")
        try:
            async with asyncio.timeout(STUCK_S):
                while line := (await stdout.readline()).decode():
                    if line.startswith("ready"):
                        self._output = asyncio.create_task(self._drain(stdout))
                        return line.strip()
        except TimeoutError as error:
            raise ProgramFailed(f"{self.name} was not ready in {STUCK_S} s; see {self.log}") from error
        await self._gone()
        raise ProgramFailed(f"{self.name} ended with {self._process.returncode}; see {self.log}\n{self._tail()}")

    async def stop(self, limit_s: float = STUCK_S) -> int:
        """Ask it to end; its exit status. Raises `ProgramFailed` when it had to be killed after `limit_s` seconds."""
        if self._process is None:
            return 0
        self._signal(signal.SIGTERM)
        try:
            async with asyncio.timeout(limit_s):
                await self._process.wait()
        except TimeoutError:
            raise ProgramFailed(f"{self.name} did not stop in {limit_s} s; see {self.log}") from None
        finally:
            await self.kill()
        return self._process.returncode or 0

    async def kill(self) -> None:
        """Kill the program with kill -9: no farewell."""
        if self._process is not None:
            if self.running:
                self._process.kill()
            await self._gone()

    def freeze(self) -> None:
        """Stop the program where it stands; `thaw` lets it go on. One that has ended stays ended."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let a frozen program go on."""
        self._signal(signal.SIGCONT)

    def _signal(self, number: signal.Signals) -> None:
        if self._process is not None and self.running:
            self._process.send_signal(number)

    async def _gone(self) -> None:
        """Wait until it has ended and its output too: only then nothing of it is left open in this process."""
        if self._process is not None and self._process.stdout is not None:
            await (self._output or self._drain(self._process.stdout))
            await self._process.wait()

    @staticmethod
    async def _drain(stdout: asyncio.StreamReader) -> None:
        """Keep the pipe empty, so that a talkative program never blocks on it."""
        while await stdout.read(4096):
            pass

    def _tail(self) -> str:
        lines = self.log.read_text(errors="replace").splitlines()
        return "\n".join(lines[-8:])


class EmulatedSite:
    """Antennas, a relay board, a bank and the gateway, in a folder of their own."""

    def __init__(
        self,
        folder: Path,
        *,
        plan: Sequence[LanePlan] = DEMO_LANES,
        site_text: str | None = None,
        radio_ms: int = 280,
        bank_ms: int = 180,
        deadline_ms: int = DEADLINE_MS,
        noise: float = 0.1,
        seed: int = 1,
        bank_days_behind: int = 0,
    ) -> None:
        self.folder = folder
        self.plan = tuple(plan)
        self.lanes = tuple(lane.name for lane in plan)
        self._site_text = (SITES / "demo" / "site.toml").read_text() if site_text is None else site_text
        self.site_file = folder / "site.toml"
        self.ledger = folder / "ledger.db"
        self._radio_ms = radio_ms
        self.bank_ms = bank_ms
        self._bank_days_behind = bank_days_behind
        self.deadline_ms = deadline_ms
        self._seed = seed
        self._noise = noise
        self._listen: dict[str, str] = {}
        self.programs: dict[str, Program] = {}
        self.controls: dict[str, ControlClient] = {}
        self.addresses: dict[str, str] = {}
        self.gateway = Program("gateway", ["-m", "gateway.cli.main", "run", "--config", str(self.site_file)], folder)

    async def __aenter__(self) -> Self:
        try:
            await self._start_emulators()
        except BaseException:
            await self.__aexit__()
            raise
        return self

    async def __aexit__(self, kind: type[BaseException] | None = None, *_: object) -> None:
        """End every program. A gateway in the middle of a run that breaks off is stopped in order before."""
        async with AsyncExitStack() as left:  # each is ended, whatever happens to the others
            for program in (*self.programs.values(), self.gateway):
                left.push_async_callback(program.kill)
            for control in self.controls.values():
                left.push_async_callback(control.close)
            if kind is not None:
                with contextlib.suppress(ProgramFailed):  # what broke the run off is what is to be told
                    await self.gateway.stop(ORPHAN_S)

    async def _start_emulators(self) -> None:
        await self._start(
            "bank",
            "bank_host",
            *("--book", str(self.folder / BANK_BOOK)),
            *("--latency-ms", str(self.bank_ms)),
            *("--days-behind", str(self._bank_days_behind)),
        )
        await self._start_roadside()

    async def _start_roadside(self) -> None:
        """Start the relay board and the antennas."""
        lanes = {p.name: {"barrier": p.coils, "green": p.coils + 1, "red": p.coils + 2} for p in self.plan}
        await self._start(
            "board",
            "relay_board",
            "--watch-database",
            str(self.ledger),
            "--lanes",
            json.dumps(lanes),
            *("--opening-ms", "100", "--leaving-ms", "50"),
        )
        for number, lane in enumerate(self.plan, start=1):
            await self._start_antenna(number, lane)

    async def _start_antenna(self, number: int, lane: LanePlan) -> None:
        arguments = ["--dialect", lane.dialect]
        if lane.station is not None:
            arguments += ["--station", lane.station]
            self._listen[lane.name] = f"pty:{self.folder / lane.name}.tty"
        await self._start(
            lane.name,
            "rsu",
            *arguments,
            *("--radio-ms", str(self._radio_ms)),
            *("--terminal", f"0199{number:08d}"),
            *("--seed", str(self._seed * 100 + number)),
        )
        if lane.noisy:
            await self._start_line(number, lane)

    async def _start_line(self, number: int, lane: LanePlan) -> None:
        """Start a line that can be made bad; the gateway is given its far end."""
        program = Program(
            lane.line,
            [
                *("-m", "hardware.bench.hostile"),
                *("--listen", f"pty:{self.folder / lane.line}.tty"),
                *("--connect", self._listen[lane.name]),
                *("--control", "127.0.0.1:0"),
                *("--framing", lane.dialect),
                *("--seed", str(self._seed * 1000 + number)),
                *("--rate", str(self._noise)),
                *("--delay-ms-max", "50"),
                *("--log", str(self.folder / f"{lane.line}.faults")),
            ],
            self.folder,
        )
        self.addresses[lane.name] = await self._ready(program)
        await self.controls[lane.line].request("quiet")

    async def _start(self, name: str, module: str, *arguments: str) -> None:
        program = Program(
            name,
            [
                "-m",
                f"hardware.emulators.{module}",
                *("--listen", self._listen.get(name, "127.0.0.1:0")),
                *("--control", "127.0.0.1:0"),
                *("--capture", str(self.folder / f"{name}.capture")),
                *arguments,
            ],
            self.folder,
        )
        self.addresses[name] = await self._ready(program)

    async def _ready(self, program: Program) -> str:
        """Start a program with a control socket; returns the address it listens on, as a site file names it."""
        self.programs[program.name] = program
        _, listen, _, control = (await program.start()).split()
        host, port = parse_address(control)
        self.controls[program.name] = await ControlClient.connect(host, port)
        return listen.replace("pty:", "serial:")

    def write_site_file(self) -> None:
        """The site file with the addresses the emulators got, and the tariffs beside it."""
        text = self._site_text
        for name, value in {**self.addresses, "deadline_ms": str(self.deadline_ms)}.items():
            text = text.replace("${" + name + "}", value)
        missing = [line for line in text.splitlines() if "${" in line and not line.startswith("#")]
        if missing:
            raise ProgramFailed(f"site file has places nobody fills in: {missing}")
        self.site_file.write_text(text)
        # Copies of ours, not with the rights of what they are copied from.
        (self.folder / "tariffs").mkdir(exist_ok=True)
        for name in ("rules.toml", *(f"tariffs/{file.name}" for file in (SITES / "demo" / "tariffs").iterdir())):
            shutil.copyfile(SITES / "demo" / name, self.folder / name)
        write_key_file(self.folder)

    def works(self, since_us: int = 0) -> bool:
        """True when the running gateway says that every part of it works.

        What an earlier process said does not count, nor what was said before `since_us` (UTC microseconds).
        """
        try:
            state = json.loads((self.folder / "state.json").read_text())
        except (OSError, ValueError):
            return False
        return bool(state["works"]) and state["pid"] == self.gateway.pid and state["written_us"] >= since_us

    def part_works(self, part: str) -> bool:
        """True when the running gateway says that this part works."""
        try:
            return bool(json.loads((self.folder / "state.json").read_text())["parts"][part]["works"])
        except (OSError, ValueError, KeyError):
            return False

    async def command(self, *arguments: str) -> str:
        """Run one `etcgw` command at this site and return what it printed; raises `ProgramFailed`."""
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            *("-m", "gateway.cli.main"),
            *arguments,
            *("--config", str(self.site_file)),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        try:
            out, err = await process.communicate()
        finally:
            if process.returncode is None:  # nobody waits for it any more
                process.kill()
                await process.communicate()
        if process.returncode:
            told = "\n".join(part.decode().strip() for part in (err, out) if part.strip())
            raise ProgramFailed(f"etcgw {' '.join(arguments)} ended with {process.returncode}: {told}")
        return out.decode()
