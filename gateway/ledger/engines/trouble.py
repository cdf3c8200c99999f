"""Storage trouble, as the ledger judges it whatever the engine."""

from __future__ import annotations

from enum import Enum


class StorageTrouble(Enum):
    """Kind of trouble with the storage that a failed database call means for the caller."""

    BUSY = "another process holds the database"
    FULL = "the disk is full"
    UNREADABLE = "the database file cannot be read or written"
    LOST = "the database file is gone from its path, or another stands there"
    SLOW = "the ledger does not answer in time"
    CROWDED = "too many queries of the ledger wait"
    STOPPED = "the gateway is stopping"
    OTHER = "the database refused the statement"
