"""Storage trouble, as the ledger judges it whatever the engine."""

from __future__ import annotations

from enum import Enum

from gateway.texts.catalogue import Words


class StorageTrouble(Enum):
    """Kind of trouble with the storage that a failed database call means for the caller."""

    BUSY = "busy"
    """Another process holds the database."""
    FULL = "full"
    UNREADABLE = "unreadable"
    """The file cannot be read or written."""
    LOST = "lost"
    """The file is gone from its path, or another stands there."""
    SLOW = "slow"
    """The ledger does not answer in time."""
    CROWDED = "crowded"
    """Too many queries wait."""
    STOPPED = "stopped"
    OTHER = "other"
    """The database refused the statement."""

    @property
    def text(self) -> Words:
        """Text for people."""
        return Words(f"storage.{self.value}")
