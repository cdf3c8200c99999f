"""What a process knows of the life of the ledger it works on: which one it is, and where its numbers go on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from sqlalchemy import Connection, select

from gateway.ledger import tables
from gateway.ledger.positions import Positions

if TYPE_CHECKING:
    from gateway.ledger.marks import Mark

_NEWEST = select(tables.incarnation).order_by(tables.incarnation.c.number.desc()).limit(1)

FIRST_LIFE: Final = 1
"""Number of the incarnation a ledger is made with; those after it are adoptions."""


@dataclass(frozen=True, slots=True)
class Head:
    """Where the journal's chain stands."""

    number: int
    digest: bytes


@dataclass(frozen=True, slots=True)
class Incarnation:
    """One life of a ledger."""

    number: int
    id: str
    born_at: int
    """UTC microseconds."""


@dataclass(slots=True)
class Life:
    """One process's work on one life of a ledger."""

    positions: Positions
    incarnation: Incarnation | None

    @property
    def adopted_at(self) -> int:
        """When the file was adopted, which had lost something: claims made before may have ended in the lost part.

        UTC microseconds; 0 for a ledger that never lost anything.
        """
        life = self.incarnation
        return 0 if life is None or life.number == FIRST_LIFE else life.born_at


def newest(connection: Connection) -> Incarnation | None:
    """The life a ledger is in; None while it is being made."""
    row = connection.execute(_NEWEST).first()
    return None if row is None else Incarnation(row.number, row.id, row.born_at)


def begin(connection: Connection, mark: Mark) -> Life:
    """What a process that has just opened the ledger knows of it."""
    return Life(Positions(mark), newest(connection))
