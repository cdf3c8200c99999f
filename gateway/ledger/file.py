"""File of the ledger: one gateway alone has it, and the open file must still be the one at its path.

Theory of operation. An open ledger is three files: the ledger itself, SQLite's write-ahead log beside it (`-wal`) and
the index of that log (`-shm`). When somebody deletes or replaces one of them under a running gateway, the gateway keeps
descriptors of a file without a name, and everything it commits is gone when it ends. So `watch` notes the identity
(device and inode) of all three once every connection is open, and `stands` compares them with what the paths lead to:
the writer asks before it stores anything and again before it answers (`gateway.ledger.batches`).

When they differ the open descriptors are the only copy. `rescue` makes a whole file of what they hold: of the ledger
itself where only its log went and nobody else has it open, else beside it. A log that would now lie beside another
ledger is put aside first, because SQLite would apply it to whatever stands there.

Two locks keep a second gateway out. One is on the ledger's inode, so that neither a link, nor another name, nor a
deleted lock file makes two of one; the other is on its name, so that no gateway starts on what stands there now while
another still holds what stood there before. Both are open file description locks. SQLite's own are POSIX locks on other
bytes of the same file, and those a process loses as soon as it closes any descriptor of the file: hence the handle is
opened before the first connection and closed after the last one.
"""

from __future__ import annotations

import fcntl
import itertools
import logging
import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from enum import Enum
from pathlib import Path
from typing import Final

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import DBAPIError

from gateway.ledger import backup, engines
from gateway.texts.catalogue import Words

LOCK_AT: Final = 1 << 62
"""Byte that is locked: far behind the end of any file, and far from SQLite's own at 1 GiB."""

CLOSE_WAIT_MS: Final = 3000
"""Longest wait of an orderly end for other processes that read: below the time a service manager gives."""

_FLOCK: Final = "hhqqi0q"
"""`struct flock`: kind, whence, start, length, process (0 for open file description locks)."""

log = logging.getLogger(__name__)


class AlreadyRunning(Exception):
    """Lock held by another gateway process that works on this ledger."""


class LedgerLost(Exception):
    """File at the ledger's path is not the one that is open, here or in the gateway that runs."""


class Part(Enum):
    """Part of a ledger on disk: one of the three files, by the suffix of the ledger's path."""

    LEDGER = ""
    LOG = "-wal"
    INDEX = "-shm"


class Place(Enum):
    """State of a path: the file it leads to."""

    OURS = "the file that is open"
    NOTHING = "gone"
    ANOTHER = "another file"


Identity = tuple[int, int]


class LedgerFile:
    """Ledger file that is open; `held` and `beside` make them."""

    def __init__(self, path: Path, handle: int) -> None:
        self.path = path
        """Path as the site names it; commands go by this name, so it must lead here."""
        self.real = path.resolve()
        """Path without links: SQLite puts log and index beside this one."""
        self._names = {
            Part.LEDGER: os.fspath(path),
            Part.LOG: f"{self.real}{Part.LOG.value}",
            Part.INDEX: f"{self.real}{Part.INDEX.value}",
        }
        self._asked = tuple(self._names.values())
        self._handle = handle
        self._ours: tuple[Identity, ...] | None = None
        self._rescued: Path | None = None
        self.account = ""
        """Report after a loss: what is missing, what was rescued, what to do."""

    def watch(self, *opened: Engine) -> None:
        """Open every connection of these, so that none is opened later to another file, and note their identity.

        Raises LedgerLost when the path leads elsewhere already.
        """
        for engine in opened:
            engines.open_all(engine)
        ours = tuple(_identity(name) for name in self._asked)
        if None in ours or ours[0] != _identity_of(os.fstat(self._handle)):
            raise LedgerLost(Words("ledger-file.replaced-while-opened", path=self.path))
        self._ours = tuple(found for found in ours if found is not None)

    def stands(self) -> bool:
        """True when all three are where they were opened. Asked around every commit: three calls of the system."""
        if self._ours is None:
            return True
        stat = os.stat
        try:
            for name, (device, inode) in zip(self._asked, self._ours, strict=True):
                found = stat(name)
                if found.st_ino != inode or found.st_dev != device:
                    return False
        except OSError:
            return False
        return True

    def safe_to_write(self) -> bool:
        """True when, after a loss, storing through the open descriptors can harm nobody.

        Whoever opened the ledger since its index went has made another index, and writes to the same log without
        knowing of us.
        """
        return not (self._place(Part.LOG) is Place.OURS and self._place(Part.INDEX) is Place.ANOTHER)

    def found_again(self) -> None:
        """Note that all three are back in their places."""
        self._rescued = None
        log.warning("%s is in its place again", self.path)

    # --- after a loss ---------------------------------------------------------------------------------------------

    def rescue(self, connection: Connection, at: datetime) -> bool:
        """Make a whole file of the open data, and say in `account` where it is. False when it must be tried again."""
        lost = self._what_is_lost()
        try:
            self._put_log_aside(at)
            kept = self._keep(connection, at)
        except (OSError, DBAPIError, backup.CopyDamaged) as error:
            self._tell(f"{lost}; what is open could not be copied yet: {error}")
            return False
        self._tell(f"{lost}; {kept}")
        return True

    def _keep(self, connection: Connection, at: datetime) -> str:
        """Keep all data in a whole file and say where it is. Raises as `rescue` catches."""
        ledger, written, index = (self._place(part) for part in Part)
        if ledger is Place.OURS and written is Place.OURS:
            return "ledger and log hold everything: stop the gateway and start it again"
        if ledger is Place.OURS and Place.ANOTHER not in (written, index):
            left = engines.log_pages_left(connection)
            if left:
                raise OSError(f"{left} pages of the log are still read by somebody")
            return "the ledger was made whole without it: stop the gateway and start it again"
        if self._rescued is None:
            self._rescued = self._free_name("rescued", at)
        self._rescued.parent.mkdir(parents=True, exist_ok=True)
        copied = backup.write(connection, self._rescued)
        return (
            f"a whole copy up to row {copied.journal_number} of the journal is {copied.path}:"
            f" stop the gateway, put the copy in the place of {self.path}, start it again"
        )

    def _what_is_lost(self) -> str:
        names = {Part.LEDGER: "the ledger", Part.LOG: "the ledger's log", Part.INDEX: "the index of the ledger's log"}
        found = {part: self._place(part) for part in Part}
        return ", ".join(
            f"{names[part]} {self._names[part]} is {'gone' if place is Place.NOTHING else 'another file'}"
            for part, place in found.items()
            if place is not Place.OURS
        )

    def _put_log_aside(self, at: datetime) -> None:
        """Put aside the log of a ledger whose place another one has taken."""
        if self._place_of(os.fspath(self.real), Part.LEDGER) is not Place.ANOTHER:
            return
        for part in (Part.LOG, Part.INDEX):
            if self._place(part) is Place.OURS:
                Path(self._names[part]).rename(f"{self._free_name('lost', at)}{part.value}")

    def _free_name(self, what: str, at: datetime) -> Path:
        """Find a name beside the ledger at which nothing stands, neither a database nor what belongs to one."""
        base = f"{self.path}.{what}-{at:%Y%m%dT%H%M%SZ}"
        names = itertools.chain([base], (f"{base}-{number}" for number in itertools.count(2)))
        return next(Path(name) for name in names if not any(Path(name + part.value).exists() for part in Part))

    def _tell(self, account: str) -> None:
        if account != self.account:
            log.critical("%s", account)
        self.account = account

    def _place(self, part: Part) -> Place:
        return self._place_of(self._names[part], part)

    def _place_of(self, name: str, part: Part) -> Place:
        found = _identity(name)
        if found is None:
            return Place.NOTHING
        return Place.OURS if self._ours is not None and found == self._ours[list(Part).index(part)] else Place.ANOTHER

    # --- the end --------------------------------------------------------------------------------------------------

    def let_go(self, writer: Engine, reader: Engine) -> None:
        """Close every connection; afterwards all rows stand in the ledger itself and none in its log alone."""
        if self.stands():
            reader.dispose()
            engines.take_over_log(writer, wait_ms=CLOSE_WAIT_MS)
            writer.dispose()
        else:
            # Whoever closes last takes the log over, and under a lost index it is no longer ours to take. A reader that
            # is still open keeps the writer from being the last, and cannot do it itself.
            writer.dispose()
            reader.dispose()


@contextmanager
def held(path: Path) -> Iterator[LedgerFile]:
    """Hold the ledger for this process alone, among gateways and commands that may not run beside one.

    Raises FileNotFoundError, and AlreadyRunning when another process holds this file or this name.
    """
    with _opened(_lock_name(path), os.O_RDWR | os.O_CREAT) as name, _opened(path, os.O_RDWR) as handle:
        # In this order: a command that finds the name locked finds the file locked, too (`beside`).
        for one, what in ((handle, path), (name, _lock_name(path))):
            if not _lock(one):
                raise AlreadyRunning(Words("ledger-file.other-gateway", path=what))
        yield LedgerFile(path, handle)


@contextmanager
def beside(path: Path) -> Iterator[LedgerFile]:
    """Open the ledger for a command that may work beside a gateway.

    Raises FileNotFoundError, and LedgerLost when a gateway runs at this name and holds another file: its log lies here
    and would be applied to a ledger it does not belong to.
    """
    with _opened(path, os.O_RDWR) as handle:
        name = _lock_name(path)
        if name.exists():
            with _opened(name, os.O_RDWR) as lock:
                if _locked(lock) and not _locked(handle):
                    raise LedgerLost(Words("ledger-file.not-the-held", path=path))
        yield LedgerFile(path, handle)


def _lock_name(path: Path) -> Path:
    return Path(f"{path.resolve()}.lock")


@contextmanager
def _opened(path: Path, flags: int) -> Iterator[int]:
    handle = os.open(path, flags | os.O_CLOEXEC, 0o600)
    try:
        yield handle
    finally:
        os.close(handle)


def _lock(handle: int) -> bool:
    """Take the lock for as long as the handle is open; False when another process has it."""
    try:
        fcntl.fcntl(handle, fcntl.F_OFD_SETLK, struct.pack(_FLOCK, fcntl.F_WRLCK, os.SEEK_SET, LOCK_AT, 1, 0))
    except BlockingIOError:
        return False
    return True


def _locked(handle: int) -> bool:
    """True when another process has the lock; takes nothing."""
    asked = struct.pack(_FLOCK, fcntl.F_WRLCK, os.SEEK_SET, LOCK_AT, 1, 0)
    found = struct.unpack(_FLOCK, fcntl.fcntl(handle, fcntl.F_OFD_GETLK, asked))
    return bool(found[0] != fcntl.F_UNLCK)


def _identity(name: str) -> Identity | None:
    """Identity of the file a path leads to; None when there is none that we can see."""
    try:
        return _identity_of(os.stat(name))  # noqa: PTH116
    except OSError:
        return None


def _identity_of(found: os.stat_result) -> Identity:
    return found.st_dev, found.st_ino
