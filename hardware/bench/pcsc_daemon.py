"""A card service (pcscd) of one's own, with virtual readers (vpcd): the true path of a card, apart from the machine's.

The service takes its clients' socket from us, as it takes it from systemd: so it serves our path beside any other
service, for root and for others. Clients find it by `PCSCLITE_CSOCK_NAME`, which their library reads once a process.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import SystemRandom
from typing import Final

from hardware.bench.waiting import STUCK_S

SERVICE: Final = Path("/usr/sbin/pcscd")
DRIVER: Final = Path("/usr/lib/pcsc/drivers/serial/libifdvpcd.so")
STATE_FOLDER: Final = Path("/run/pcscd")
"""Compiled into the service, which will not start without it."""

SOCKET_VARIABLE: Final = "PCSCLITE_CSOCK_NAME"

READERS_MAX: Final = 8
"""Virtual readers of one service; each has two slots, and it serves 16."""

SLOTS_OF_READER: Final = 2

PORTS: Final = range(20_000, 32_000, SLOTS_OF_READER)
"""Ports for slots: below those that the machine gives away by itself."""

LOOK_EVERY_S: Final = 0.02

# The socket comes as standard input and moves to where the service looks for it; it ends with whoever started it.
_START: Final = 'exec 3<&0 </dev/null; export LISTEN_PID=$$ LISTEN_FDS=1; exec "$@"'


class ServiceMissing(Exception):
    """The machine has no card service, or not what it needs; says what to do."""


class ServiceFailed(Exception):
    """The card service did not come up as it was told; names its log."""


@dataclass(frozen=True, slots=True)
class Slot:
    """One slot of a virtual reader."""

    reader: str
    """Name that PC/SC gives it."""
    port: int
    """Port on which it takes a card."""


def missing() -> str | None:
    """Sentence on what this machine lacks for a card service of one's own; None where it lacks nothing."""
    if not SERVICE.exists():
        return f"{SERVICE} is missing: apt-get install pcscd"
    if not DRIVER.exists():
        return f"{DRIVER} is missing: apt-get install vsmartcard-vpcd"
    if not STATE_FOLDER.exists() and os.geteuid() != 0:
        return f"{STATE_FOLDER} is missing and only root can make it: mkdir {STATE_FOLDER}"
    return None


class PcscDaemon:
    """One card service with its readers."""

    def __init__(self, folder: Path, readers: Sequence[str]) -> None:
        """`folder`: an empty one of its own, with a short path: a socket's may have 107 bytes."""
        lack = missing()
        if lack is not None:
            raise ServiceMissing(lack)
        if len(readers) > READERS_MAX:
            raise ValueError(f"{len(readers)} readers, at most {READERS_MAX}")
        self.socket = folder / "pcscd.comm"
        self.log = folder / "pcscd.log"
        self._config = folder / "reader.conf.d"
        self._readers = tuple(readers)
        self._process: subprocess.Popen[bytes] | None = None
        self.slots: tuple[Slot, ...] = ()

    @property
    def environment(self) -> Mapping[str, str]:
        """Variable by which clients find it."""
        return {SOCKET_VARIABLE: str(self.socket)}

    def start(self) -> None:
        """Start it, with new slots the first time. It ends with the thread that starts it. Raises `ServiceFailed`."""
        if not self.slots:
            self._configure()
        self.socket.unlink(missing_ok=True)
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listening, self.log.open("ab") as log:
            listening.bind(str(self.socket))
            self.socket.chmod(0o666)
            listening.listen(32)
            service = (str(SERVICE), "--foreground", "--info", "--config", str(self._config))
            self._process = subprocess.Popen(  # noqa: S603 - words of our own
                ("/usr/bin/setpriv", "--pdeathsig", "TERM", "/bin/sh", "-c", _START, "sh", *service),
                stdin=listening.fileno(),
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self._await_slots(self._process)

    def kill(self) -> None:
        """Kill it, as a crash would."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def stop(self) -> None:
        """Stop it in order."""
        if self._process is not None:
            self._process.terminate()
            try:
                self._process.wait(STUCK_S)
            except subprocess.TimeoutExpired:
                self.kill()

    def _configure(self) -> None:
        """Write the configuration. The driver keeps its slots once a file, so that each reader gets its own copy."""
        self._config.mkdir(parents=True)
        ports = SystemRandom().sample(PORTS, len(PORTS))
        entries, slots = [], []
        for number, name in enumerate(self._readers):
            driver = self._config.parent / f"driver-{number}.so"
            shutil.copy(DRIVER.resolve(), driver)
            port = next(port for port in iter(ports.pop, None) if _is_free(port) and _is_free(port + 1))
            entries.append(
                f'FRIENDLYNAME "{name}"\nDEVICENAME /dev/null:{port}\nLIBPATH {driver}\nCHANNELID {port:#x}\n'
            )
            slots += [Slot(f"{name} 00 {place:02}", port + place) for place in range(SLOTS_OF_READER)]
        (self._config / "vpcd").write_text("\n".join(entries))
        self.slots = tuple(slots)

    def _await_slots(self, process: subprocess.Popen[bytes]) -> None:
        wanted = {slot.port for slot in self.slots}
        until = time.monotonic() + STUCK_S
        while not wanted <= _listening():
            if process.poll() is not None or time.monotonic() > until:
                self.kill()
                raise ServiceFailed(f"the card service did not open its slots; see {self.log}")
            time.sleep(LOOK_EVERY_S)


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind(("", port))
        except OSError:
            return False
    return True


def _listening() -> set[int]:
    """Ports on which this machine listens. Asking the slots themselves would look like a card."""
    ports = set()
    for table in (Path("/proc/net/tcp"), Path("/proc/net/tcp6")):
        if table.exists():
            for line in table.read_text().splitlines()[1:]:
                fields = line.split()
                if fields[3] == "0A":
                    ports.add(int(fields[1].rpartition(":")[2], 16))
    return ports
