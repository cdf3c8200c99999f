"""Use of the machine by one process, as the kernel counts it, and commits of its ledger, as SQLite counts them."""

from __future__ import annotations

import os
import struct
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Self

TICKS_A_SECOND = os.sysconf("SC_CLK_TCK")

CHANGES_AT = 8
"""Place of `iChange` in the index of the write-ahead log (SQLite's "WAL-index header"): one more a commit."""


@dataclass(frozen=True, slots=True)
class Usage:
    """Counts since the start of a process, or a difference of two of them."""

    seconds: float
    cpu_s: float
    stored_bytes: int
    """Bytes of pages that went to a disk (`write_bytes`)."""
    written_bytes: int
    """Bytes given to the kernel in writes to files (`wchar`)."""
    commits: int

    @classmethod
    def of(cls, pid: int, ledger: Path) -> Self:
        """Counts of a process now."""
        process = Path("/proc") / str(pid)
        counts = dict(line.split(": ") for line in (process / "io").read_text().splitlines())
        return cls(
            seconds=time.monotonic(),
            cpu_s=cpu_s(pid),
            stored_bytes=int(counts["write_bytes"]),
            written_bytes=int(counts["wchar"]),
            commits=commits(ledger),
        )

    def since(self, before: Usage) -> Usage:
        """Use between two counts."""
        return Usage(
            self.seconds - before.seconds,
            self.cpu_s - before.cpu_s,
            self.stored_bytes - before.stored_bytes,
            self.written_bytes - before.written_bytes,
            self.commits - before.commits,
        )

    def __add__(self, more: Usage) -> Usage:
        """Use in both times together."""
        return Usage(
            self.seconds + more.seconds,
            self.cpu_s + more.cpu_s,
            self.stored_bytes + more.stored_bytes,
            self.written_bytes + more.written_bytes,
            self.commits + more.commits,
        )

    def net_of(self, idle: Usage) -> Usage:
        """Use without what the process does while nobody passes, of which `idle` is a sample."""
        share = self.seconds / idle.seconds
        return Usage(
            self.seconds,
            self.cpu_s - share * idle.cpu_s,
            round(self.stored_bytes - share * idle.stored_bytes),
            round(self.written_bytes - share * idle.written_bytes),
            round(self.commits - share * idle.commits),
        )


def commits(ledger: Path) -> int:
    """Commits of a ledger since it was opened; only a difference says something."""
    with Path(f"{ledger}-shm").open("rb") as index:
        return int(struct.unpack_from("=I", index.read(CHANGES_AT + 4), CHANGES_AT)[0])


def cpu_s(pid: int) -> float:
    """Processor time that a process has had, all its threads."""
    times = (Path("/proc") / str(pid) / "stat").read_text().rpartition(")")[2].split()
    return (int(times[11]) + int(times[12])) / TICKS_A_SECOND


def machine_cpu_s() -> float:
    """Processor time that all programs have had, and the system: all but idle, waiting for disks, and guests."""
    user, nice, system, _idle, _waiting, *interrupts = Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]
    return sum(map(int, (user, nice, system, *interrupts))) / TICKS_A_SECOND


def resident_mb(pid: int) -> float:
    """Memory of a process that is in use now."""
    lines = (Path("/proc") / str(pid) / "status").read_text().splitlines()
    kib = next(int(line.split()[1]) for line in lines if line.startswith("VmRSS:"))
    return kib / 1024
