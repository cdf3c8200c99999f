"""Recognition of a vehicle that the ledger knows: let it through again, settle its claim, or let it pay anew.

A crash, a lost answer and an impatient antenna all end in the same few questions, and none charges twice. `TABLE` is
read from the top; the first row that fits says what to do, and where none fits it is a new visit. A purchase that
another charge point asked for a moment ago is left to that one, before this table is asked: what is read here may be
older than its answer. So may a reading here that crossed the purchase order on the line: it proves no purchase undone.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Final

from gateway.debit.claims import PreviousPurchase
from gateway.model.states import OPEN_PURCHASES, DebitState, PurchaseState


class Next(Enum):
    """Next step for the newest purchase of a card."""

    NEW = "new"
    """Begin a new visit; the purchase needs nothing."""
    LET_THROUGH = "let_through"
    """Let the same vehicle through, still here with its right to pass; nothing is charged."""
    BRING_IN = "bring_in"
    """Decide a claim whose purchase has ended."""
    TAKEN = "taken"
    """Bring in the purchase that file 0019 proves, and fetch its TAC."""
    LOOK_AGAIN = "look_again"
    """Read again: this reading proves nothing."""
    DISPUTED = "disputed"
    """Dispute: file 0019 is neither what was read nor what was to be written: people decide."""
    STILL_DISPUTED = "still_disputed"
    """Leave it to the attendant, while the vehicle stands here; no second purchase is tried on it."""
    NEXT_ATTEMPT = "next_attempt"
    """Make the next attempt on the same hold: it never happened."""
    VOID_THERE = "void_there"
    """Void the visit at another charge point, where it never happened, and begin a new one here."""


class File(Enum):
    """State of file 0019 as read now, against the newest purchase."""

    AS_MEANT = "as we meant to write it"
    AS_BEFORE = "as it was before"
    OTHER = "anything else"


OPEN: Final = OPEN_PURCHASES
TAKEN: Final = (PurchaseState.TAKEN,)
DISPUTED: Final = (PurchaseState.DISPUTED,)


@dataclass(frozen=True, slots=True)
class Row:
    """Row of the table; None fits whatever is found."""

    held: bool
    """True when the claim behind the purchase is not decided."""
    purchase: tuple[PurchaseState, ...] | None
    file: File | None
    proves: bool | None
    """True when the reading was surely made after the purchase order had arrived."""
    here: bool | None
    """True when the purchase was ordered at this charge point."""
    in_window: bool | None
    """True when it was decided at this place, and so lately that the vehicle keeps its right."""
    then: Next


TABLE: Final = (
    #   held   purchase  file 0019       proves  here   window  then
    Row(True, DISPUTED, None, None, None, True, Next.STILL_DISPUTED),
    Row(True, DISPUTED, None, None, None, False, Next.NEW),
    Row(True, OPEN, File.AS_MEANT, None, None, None, Next.TAKEN),
    Row(True, OPEN, None, False, None, None, Next.LOOK_AGAIN),
    Row(True, OPEN, File.OTHER, True, None, None, Next.DISPUTED),
    Row(True, OPEN, File.AS_BEFORE, True, True, None, Next.NEXT_ATTEMPT),
    Row(True, OPEN, File.AS_BEFORE, True, False, None, Next.VOID_THERE),
    Row(True, None, None, None, None, None, Next.BRING_IN),
    Row(False, TAKEN, File.AS_MEANT, None, None, True, Next.LET_THROUGH),
)


def what_next(previous: PreviousPurchase, station: bytes, *, proves: bool, here: bool, in_window: bool) -> Next:
    """Find the first row of the table that fits. `station`: file 0019 as read now."""
    file = File.OTHER
    if station == previous.file_after:
        file = File.AS_MEANT
    elif station == previous.file_before:
        file = File.AS_BEFORE
    held = previous.debit_state == DebitState.HELD
    for row in TABLE:
        fits = (
            row.held == held
            and (row.purchase is None or previous.state in row.purchase)
            and row.file in (None, file)
            and row.proves in (None, proves)
            and row.here in (None, here)
            and row.in_window in (None, in_window)
        )
        if fits:
            return row.then
    return Next.NEW
