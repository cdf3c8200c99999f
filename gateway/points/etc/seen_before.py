"""What a vehicle that the ledger knows is here for: to be let through again, to be settled, or to pay anew.

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
    """What is done with the newest purchase of a card."""

    NEW = "new"
    """Nothing of it: a new visit begins."""
    LET_THROUGH = "let_through"
    """The same vehicle, still here: its right to pass, and nothing charged."""
    BRING_IN = "bring_in"
    """Its purchase has ended, its claim has not: decide."""
    TAKEN = "taken"
    """File 0019 proves the purchase: fetch its TAC, bring it in."""
    LOOK_AGAIN = "look_again"
    """This reading proves nothing."""
    DISPUTED = "disputed"
    """File 0019 is neither what was read nor what was to be written: people decide."""
    STILL_DISPUTED = "still_disputed"
    """The attendant's, while the vehicle stands here; no second purchase is tried on it."""
    NEXT_ATTEMPT = "next_attempt"
    """It never happened: the next attempt on the same hold."""
    VOID_THERE = "void_there"
    """It never happened, at another charge point: that visit is void, a new one begins here."""


class File(Enum):
    """File 0019 as read now, against the newest purchase."""

    AS_MEANT = "as we meant to write it"
    AS_BEFORE = "as it was before"
    OTHER = "anything else"


OPEN: Final = OPEN_PURCHASES
TAKEN: Final = (PurchaseState.TAKEN,)
DISPUTED: Final = (PurchaseState.DISPUTED,)


@dataclass(frozen=True, slots=True)
class Row:
    """One row; None fits whatever is found."""

    held: bool
    """The claim behind the purchase is not decided."""
    purchase: tuple[PurchaseState, ...] | None
    file: File | None
    proves: bool | None
    """The reading was surely made after the purchase order had arrived."""
    here: bool | None
    """The purchase was ordered at this charge point."""
    in_window: bool | None
    """It was decided at this place, and so lately that the vehicle keeps its right."""
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
    """The first row of the table that fits. `station`: file 0019 as read now."""
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
