"""Life of the ledger a process works on: its incarnation and the positions of its terminals."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from sqlalchemy import Connection, select

from gateway.ledger import chain, tables
from gateway.ledger.positions import Positions

if TYPE_CHECKING:
    from gateway.ledger.marks import Mark

_NEWEST = select(tables.incarnation).order_by(tables.incarnation.c.number.desc()).limit(1)

FIRST_LIFE: Final = 1
"""Number of the incarnation a ledger is made with; those after it are adoptions."""


@dataclass(frozen=True, slots=True)
class Head:
    """Head of the journal's chain."""

    number: int
    digest: bytes


@dataclass(frozen=True, slots=True)
class Incarnation:
    """Incarnation: one life of a ledger."""

    number: int
    id: str
    born_at: int
    """Time at which it began, UTC microseconds."""


@dataclass(slots=True)
class Life:
    """Work of one process on one life of a ledger."""

    positions: Positions
    incarnation: Incarnation | None

    @property
    def adopted_at(self) -> int:
        """Time at which a file that had lost something was adopted: earlier claims may have ended in the lost part.

        UTC microseconds; 0 for a ledger that never lost anything.
        """
        life = self.incarnation
        return 0 if life is None or life.number == FIRST_LIFE else life.born_at


def newest(connection: Connection) -> Incarnation | None:
    """Read the incarnation a ledger is in; None while it is being made."""
    row = connection.execute(_NEWEST).first()
    return None if row is None else Incarnation(row.number, row.id, row.born_at)


def begin(connection: Connection, mark: Mark) -> Life:
    """Begin the work of a process that has just opened the ledger."""
    return Life(Positions(mark), newest(connection))


def journal_head(connection: Connection) -> Head:
    """Head of the journal's chain."""
    c = tables.chain
    row = connection.execute(select(c).where(c.c.name == tables.journal.name)).first()
    return Head(0, chain.GENESIS) if row is None else Head(int(row.number), bytes(row.digest))
