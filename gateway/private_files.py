"""Files that only their owner may read: they record who passed when, and data that decides about money.

Every program of ours makes its files for its own user alone. Files that an older version made, or somebody copied,
are closed at a start; a folder may hold what is not ours, so it is only looked at.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

UMASK: Final = 0o077
FILE_MODE: Final = 0o600
FOLDER_MODE: Final = 0o700
OTHERS: Final = 0o077
"""Permission bits of the group and of all others."""

BESIDE_LEDGER: Final = ("", "-wal", "-shm", ".lock", ".reserve")
"""Files that belong to a ledger, by the suffix of their names."""


@dataclass(frozen=True, slots=True)
class Open:
    """File or folder that others than its owner may use."""

    path: Path
    mode: int
    folder: bool

    @property
    def cure(self) -> str:
        """Command that closes it."""
        return f"chmod {FOLDER_MODE if self.folder else FILE_MODE:o} {self.path}"


class ReadByOthers(Exception):
    """File with a secret that others than its owner may read."""

    def __init__(self, mode: int) -> None:
        self.mode = mode
        super().__init__(f"{mode:04o}")


def read_private(path: Path, bytes_max: int) -> bytes:
    """Read a file with a secret, up to one byte more than it may have. Raises OSError, `ReadByOthers`."""
    with path.open("rb") as file:
        mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
        text = file.read(bytes_max + 1)
    if mode & OTHERS:
        raise ReadByOthers(mode)
    return text


def make_private() -> None:
    """Set the umask: from now on this process, and those it starts, make files for their own user alone."""
    os.umask(UMASK)


def of_ledger(ledger: Path) -> list[Path]:
    """Files of a ledger: its own and those beside it; where it is a link, those of its target."""
    return [Path(f"{os.path.realpath(ledger)}{end}") for end in BESIDE_LEDGER]


def open_to_others(files: Iterable[Path]) -> Iterator[Open]:
    """Find existing files, of those given, that others than their owner may use, and their folders."""
    folders: dict[Path, None] = {}
    for path in files:
        try:
            mode = stat.S_IMODE(path.stat().st_mode)
        except OSError:
            continue
        folders.setdefault(path.parent.resolve())
        if mode & OTHERS:
            yield Open(path, mode, folder=False)
    for folder in folders:
        mode = stat.S_IMODE(folder.stat().st_mode)
        if mode & OTHERS:
            yield Open(folder, mode, folder=True)


def close(files: Iterable[Path]) -> list[Open]:
    """Take the rights of others away; returns what is still open afterwards."""
    still = []
    for found in open_to_others(files):
        if found.folder:
            still.append(found)
            continue
        try:
            found.path.chmod(found.mode & ~OTHERS)
        except OSError:
            still.append(found)
    return still
