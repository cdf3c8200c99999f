"""Mark of the ledger: a memory of this box outside the database, by which an older or lost file is recognised.

Theory of operation. A database cannot tell that it is a copy of last week. The mark is a small file of its own, on
another disk if the site has one, and says which life of which ledger it belongs to, how far its journal had come, and
up to where each bank terminal's positions are given out (`gateway.ledger.positions`).

- The end of a block of positions stands in the mark before the first message of the block can leave: it may lead what
  the ledger knows, and a start begins behind it.
- Journal number and head of the journal's chain follow the commits. They may trail the ledger, by a second or by what
  a crash left out, and never lead it: a ledger that is behind its mark has lost commits.

The file is replaced whole (write, flush, rename, flush the folder) under a lock, because commands write beside a
running gateway. It has a digest over itself: one that was damaged is unreadable, and never half believed.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from threading import Lock
from typing import Any, Final, Protocol

from gateway.ledger import chain
from gateway.ledger.positions import MarkTrouble, MarkUnwritable, by_clock
from gateway.texts.catalogue import Words

__all__ = [
    "FOLLOW_EVERY_S",
    "Mark",
    "MarkFile",
    "MarkMissing",
    "MarkState",
    "MarkTrouble",
    "MarkUnreadable",
    "MarkUnwritable",
    "MemoryMark",
    "flush_folder",
    "is_full",
    "locked",
    "read",
    "write",
]

FORMAT: Final = 1
"""Format number of the file; one of another format is not read."""

BYTES_MAX: Final = 1 << 20
"""Longest file in bytes: ten thousand terminals have half of it."""

FOLLOW_EVERY_S: Final = 0.5
"""Seconds between two checks whether the journal has moved: the mark trails by less than a second."""


class MarkMissing(MarkTrouble):
    """Mark file that is not there."""


class MarkUnreadable(MarkTrouble):
    """Mark file that is no whole mark of ours."""


@dataclass(frozen=True, slots=True)
class MarkState:
    """State that a mark holds."""

    incarnation: str
    """Id of the ledger's newest life."""
    incarnation_number: int
    first: int = 0
    """Earliest position at which unknown terminals begin: the clock may be set back."""
    journal: int = 0
    """Number of the newest journal row noted."""
    head: bytes = chain.GENESIS
    """Chain digest of that row."""
    reserved: Mapping[str, int] = field(default_factory=dict)
    """First position that is not given out, by terminal (`channel/number`)."""
    restored_us: int | None = None
    """Time at which a backup was put in the ledger's place (UTC microseconds); None since it was adopted."""


class Mark(Protocol):
    """Mark as the ledger uses it while it works."""

    def begin(self, now_us: int) -> int:
        """First position of a terminal that neither ledger nor mark knows. Raises `MarkUnwritable`."""

    def reserved(self, terminal: str) -> int | None:
        """End of a terminal's positions that are given out, as the mark has it. Raises `MarkUnwritable`."""

    def reserve(self, terminal: str, end: int) -> None:
        """Give positions out up to `end`; durable on return. Raises `MarkUnwritable`, and nothing is given out."""

    def follow(self, journal: int, head: bytes) -> None:
        """Note how far the journal has durably come. Raises `MarkUnwritable`."""


class MarkFile:
    """Mark of a ledger at work: bound to one incarnation, it never writes into the mark of another."""

    def __init__(self, path: Path, incarnation: str) -> None:
        self.path = path
        self._incarnation = incarnation
        self._lock = Lock()
        """Lock between the writer's thread and callers of `follow`."""

    def begin(self, now_us: int) -> int:
        """Position by the clock: behind all given out before, even in a new folder. Raises `MarkUnwritable`."""
        with self._alone():
            return max(self._own().first, by_clock(now_us))

    def reserved(self, terminal: str) -> int | None:
        with self._alone():
            return self._own().reserved.get(terminal)

    def reserve(self, terminal: str, end: int) -> None:
        with self._alone():
            state = self._own()
            known = state.reserved.get(terminal, 0)
            if end > known:
                write(self.path, replace(state, reserved={**state.reserved, terminal: end}))

    def follow(self, journal: int, head: bytes) -> None:
        with self._alone():
            state = self._own()
            if journal > state.journal:
                write(self.path, replace(state, journal=journal, head=head))

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        with self._lock, locked(self.path):
            yield

    def _own(self) -> MarkState:
        try:
            state = read(self.path)
        except MarkTrouble as error:
            raise MarkUnwritable(str(error)) from error
        if state.incarnation != self._incarnation:
            raise MarkUnwritable(Words("ledger-file.mark-of-other", path=self.path))
        return state


class MemoryMark:
    """Mark for simulations and tests, in memory: survives the process whose memory it is."""

    def __init__(self, state: MarkState | None = None, *, first: int | None = None) -> None:
        """`first`: position at which an unknown terminal begins, instead of the one by the clock."""
        self.state = MarkState("0" * 32, 1) if state is None else state
        self._first = first

    def begin(self, now_us: int) -> int:
        return by_clock(now_us) if self._first is None else self._first

    def reserved(self, terminal: str) -> int | None:
        return self.state.reserved.get(terminal)

    def reserve(self, terminal: str, end: int) -> None:
        if end > self.state.reserved.get(terminal, 0):
            self.state = replace(self.state, reserved={**self.state.reserved, terminal: end})

    def follow(self, journal: int, head: bytes) -> None:
        if journal > self.state.journal:
            self.state = replace(self.state, journal=journal, head=head)


def read(path: Path) -> MarkState:
    """Read the mark file. Raises `MarkMissing`, `MarkUnreadable`."""
    try:
        with path.open("rb") as file:
            data = file.read(BYTES_MAX + 1)
    except FileNotFoundError as error:
        raise MarkMissing(Words("ledger-file.no-mark", path=path)) from error
    except OSError as error:
        raise MarkUnreadable(f"{path}: {error.strerror or error}") from error
    try:
        found = json.loads(data)
        state = _state(found)
        whole = found["format"] == FORMAT and found["digest"] == _digest(_facts(state))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise MarkUnreadable(Words("ledger-file.not-a-mark", path=path, error=type(error).__name__)) from error
    if not whole:
        raise MarkUnreadable(Words("ledger-file.mark-damaged", path=path))
    return state


def write(path: Path, state: MarkState) -> None:
    """Replace the file durably; under `locked`. Raises `MarkUnwritable`, and the old one stands."""
    facts = _facts(state)
    text = json.dumps({"format": FORMAT, **facts, "digest": _digest(facts)}, indent=1) + "\n"
    temporary = Path(f"{path}.new")
    try:
        handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        try:
            os.fchmod(handle, 0o600)
            _write_all(handle, text.encode())
            os.fsync(handle)
        finally:
            os.close(handle)
        temporary.rename(path)
        flush_folder(path.parent)
    except OSError as error:
        raise MarkUnwritable(f"{path}: {error.strerror or error}", full=is_full(error)) from error


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Lock the mark against other writers. Raises `MarkUnwritable` where not even the lock can be had."""
    try:
        handle = os.open(f"{path}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise MarkUnwritable(f"{path}.lock: {error.strerror or error}", full=is_full(error)) from error
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def is_full(error: OSError) -> bool:
    """True when there was no room on the disk."""
    return error.errno in (errno.ENOSPC, errno.EDQUOT)


def _facts(state: MarkState) -> dict[str, Any]:
    return {
        "incarnation": state.incarnation,
        "incarnation_number": state.incarnation_number,
        "first": state.first,
        "journal": state.journal,
        "head": state.head.hex(),
        "reserved": dict(sorted(state.reserved.items())),
        "restored_us": state.restored_us,
    }


def _state(found: Mapping[str, Any]) -> MarkState:
    return MarkState(
        str(found["incarnation"]),
        int(found["incarnation_number"]),
        int(found["first"]),
        int(found["journal"]),
        bytes.fromhex(found["head"]),
        {str(name): int(end) for name, end in found["reserved"].items()},
        None if found["restored_us"] is None else int(found["restored_us"]),
    )


def _digest(facts: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(facts, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def _write_all(handle: int, data: bytes) -> None:
    while data:
        data = data[os.write(handle, data) :]


def flush_folder(folder: Path) -> None:
    """Make renames in a folder durable."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
