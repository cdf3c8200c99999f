"""States of the rows on which money hangs, and the moves between them: one enum and one table for each noun.

A table names for every state those that may follow it; under None it names the states in which a new row may begin. A
state that may follow itself is kept while other columns change. No other move is made: `gateway.debit.states`
refuses it. The checks of the database, the words and options of the command line and what the simulation counts and
allows are made of the same enums and tables.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Final

Moves = Mapping[str | None, frozenset[str]]


class DebitState(StrEnum):
    """State of a claim, in the order in which it goes on."""

    HELD = "held"
    RELEASED = "released"
    OWED = "owed"
    FUNDED = "funded"
    DEBT = "debt"
    RECOVERED = "recovered"
    WRITTEN_OFF = "written_off"
    VOIDED = "voided"


class AttemptState(StrEnum):
    """State of an attempt to collect a debit, or to pay some of it back; see `gateway.debit.attempts`."""

    STORED = "stored"
    NOT_SENT = "not_sent"
    APPROVED = "approved"
    DECLINED = "declined"
    UNKNOWN = "unknown"
    REVERSING = "reversing"
    REVERSED = "reversed"
    DISPUTED = "disputed"


class PurchaseState(StrEnum):
    """State of a purchase that a card was asked for."""

    INTENT = "intent"
    UNKNOWN = "unknown"
    TAKEN = "taken"
    NOT_TAKEN = "not_taken"
    DISPUTED = "disputed"


class RefundState(StrEnum):
    """State of a refund."""

    DECIDED = "decided"
    PAID = "paid"


class MandateStatus(StrEnum):
    """Status of a mandate: may it be used? An import sets it, whatever it was before."""

    ACTIVE = "active"
    PAUSED = "paused"
    CLOSED = "closed"


class ItemState(StrEnum):
    """State of a reconciliation item: what people have done about a difference."""

    OPEN = "open"
    EXPLAINED = "explained"
    CORRECTED = "corrected"
    WRITTEN_OFF = "written_off"


class SaleState(StrEnum):
    """State of a sale of fuel: what a pump was let deliver, and what it did."""

    OPEN = "open"
    """The pump may be authorised for it."""
    DELIVERED = "delivered"
    """The pump's last word is stored; its money follows."""
    BILLED = "billed"
    """Claimed of its payer, or paid elsewhere."""
    NOTHING = "nothing"
    """Nothing was delivered, and nothing is claimed."""
    GREY = "grey"
    """Its delivery is not known for certain: the hold stays until evidence or a person ends it."""


class OrderState(StrEnum):
    """State of a person's order that a side of a pump may be authorised once."""

    GIVEN = "given"
    """Waiting for the lifted nozzle."""
    TAKEN = "taken"
    """A sale has begun on it."""
    LAPSED = "lapsed"
    """Nobody lifted the nozzle in time."""
    REFUSED = "refused"


_D, _A, _P, _R, _I, _S, _O = (
    *(DebitState, AttemptState, PurchaseState, RefundState, ItemState),
    *(SaleState, OrderState),
)

DEBIT_MOVES: Final[Moves] = {
    None: frozenset({_D.HELD, _D.RELEASED}),
    _D.HELD: frozenset({_D.RELEASED, _D.OWED, _D.FUNDED, _D.DEBT, _D.VOIDED}),
    _D.RELEASED: frozenset({_D.FUNDED, _D.DEBT}),
    _D.OWED: frozenset({_D.FUNDED, _D.DEBT}),
    _D.DEBT: frozenset({_D.RECOVERED, _D.WRITTEN_OFF}),
    _D.FUNDED: frozenset({_D.DEBT}),
    _D.RECOVERED: frozenset({_D.DEBT}),
    _D.WRITTEN_OFF: frozenset(),
    _D.VOIDED: frozenset(),
}
"""A paid debit is a debt again only where its bank has taken back the approval; a released claim where its issuer does
not take it over. An issuer's claim that needs no card begins released."""

ATTEMPT_MOVES: Final[Moves] = {
    None: frozenset({_A.STORED}),
    _A.STORED: frozenset({_A.STORED, _A.NOT_SENT, _A.APPROVED, _A.DECLINED, _A.UNKNOWN, _A.DISPUTED}),
    _A.NOT_SENT: frozenset({_A.REVERSING}),
    _A.APPROVED: frozenset({_A.DECLINED}),
    _A.DECLINED: frozenset({_A.REVERSING, _A.DISPUTED}),
    _A.UNKNOWN: frozenset({_A.STORED, _A.APPROVED, _A.DECLINED, _A.REVERSING, _A.DISPUTED}),
    _A.REVERSING: frozenset({_A.REVERSING, _A.REVERSED, _A.DISPUTED}),
    _A.REVERSED: frozenset({_A.REVERSING}),
    _A.DISPUTED: frozenset({_A.DISPUTED, _A.APPROVED, _A.DECLINED, _A.REVERSING, _A.REVERSED}),
}
"""Moves of all kinds of attempts together; `gateway.debit.attempts` tells which kind takes which."""

PURCHASE_MOVES: Final[Moves] = {
    None: frozenset({_P.INTENT}),
    _P.INTENT: frozenset({_P.UNKNOWN, _P.TAKEN, _P.NOT_TAKEN, _P.DISPUTED}),
    _P.UNKNOWN: frozenset({_P.UNKNOWN, _P.TAKEN, _P.NOT_TAKEN, _P.DISPUTED}),
    _P.TAKEN: frozenset(),
    _P.NOT_TAKEN: frozenset(),
    _P.DISPUTED: frozenset({_P.TAKEN, _P.NOT_TAKEN}),
}
"""A disputed purchase is ended by a person's word alone."""

REFUND_MOVES: Final[Moves] = {
    None: frozenset({_R.DECIDED}),
    _R.DECIDED: frozenset({_R.PAID}),
    _R.PAID: frozenset({_R.DECIDED}),
}
"""A paid refund is due again where the bank had approved it and paid nothing."""

ITEM_MOVES: Final[Moves] = {
    None: frozenset({_I.OPEN, _I.EXPLAINED}),
    _I.OPEN: frozenset({_I.OPEN, _I.EXPLAINED, _I.CORRECTED, _I.WRITTEN_OFF}),
    _I.EXPLAINED: frozenset({_I.OPEN, _I.CORRECTED}),
    _I.CORRECTED: frozenset({_I.OPEN}),
    _I.WRITTEN_OFF: frozenset(),
}
"""A difference that explains itself begins explained; one that comes back is opened once more."""

SALE_MOVES: Final[Moves] = {
    None: frozenset({_S.OPEN, _S.BILLED, _S.GREY}),
    _S.OPEN: frozenset({_S.DELIVERED, _S.NOTHING, _S.GREY}),
    _S.GREY: frozenset({_S.DELIVERED, _S.NOTHING, _S.BILLED}),
    _S.DELIVERED: frozenset({_S.BILLED}),
    _S.BILLED: frozenset(),
    _S.NOTHING: frozenset(),
}
"""A delivery that nobody of ours let begin is found when it is over: paid elsewhere, or grey."""

ORDER_MOVES: Final[Moves] = {
    None: frozenset({_O.GIVEN}),
    _O.GIVEN: frozenset({_O.TAKEN, _O.LAPSED, _O.REFUSED}),
    _O.TAKEN: frozenset(),
    _O.LAPSED: frozenset(),
    _O.REFUSED: frozenset(),
}

MOVES: Final[Mapping[str, Moves]] = {
    "debit": DEBIT_MOVES,
    "attempt": ATTEMPT_MOVES,
    "purchase": PURCHASE_MOVES,
    "refund": REFUND_MOVES,
    "item": ITEM_MOVES,
    "sale": SALE_MOVES,
    "pump_order": ORDER_MOVES,
}
"""Moves by the name of the table whose rows they are of."""


class StateRefused(RuntimeError):
    """A move that its table does not know: an error in our program. The row stays as it was."""

    def __init__(self, noun: str, ref: object, before: str | None, after: str) -> None:
        super().__init__(f"{noun} {ref} cannot go from {before or 'nothing'} to {after}")
        self.noun, self.ref, self.before, self.after = noun, ref, before, after


def check_move(noun: str, ref: object, before: str | None, after: str) -> None:
    """Raise `StateRefused` where no row of this noun goes from one state to the other; None: there was no row yet."""
    if after not in MOVES[noun].get(before, ()):
        raise StateRefused(noun, ref, before, after)


# --- states that are asked for together -------------------------------------------------------------------------------

OPEN_DEBITS: Final = (_D.HELD, _D.RELEASED, _D.OWED)
"""States of a debit that is not settled one way or the other yet."""

OWING_DEBITS: Final = (*OPEN_DEBITS, _D.DEBT)
"""States of a debit whose obligor owes the amount, or has it reserved."""

SETTLED_DEBITS: Final = tuple(state for state in _D if state not in OWING_DEBITS)
"""States of a debit on which nothing follows, as far as is known."""

LET_GO_DEBITS: Final = (_D.RELEASED, _D.OWED)
"""States of a claim that is neither paid nor refused, after the vehicle has gone."""

PAID_DEBITS: Final = (_D.FUNDED, _D.RECOVERED)

DEBT_DEBITS: Final = (_D.DEBT, _D.RECOVERED, _D.WRITTEN_OFF)
"""States of a claim that was refused for good, and of what became of it."""

UNEARNED_DEBITS: Final = (_D.HELD, _D.VOIDED)
"""States of a debit for which nothing is claimed of the obligor yet, or any more."""

EARNED_DEBITS: Final = tuple(state for state in _D if state not in UNEARNED_DEBITS)

BANK_DEBITS: Final = (_D.HELD, _D.OWED, _D.DEBT)
"""States of a claim on a bank that is still to be collected."""

AWAITED: Final = (_A.STORED, _A.UNKNOWN, _A.REVERSING)
"""States of an attempt about which a bank is asked, or will be. An approval that came late keeps one open, too."""

UNRESOLVED: Final = (*AWAITED, _A.DISPUTED)
"""States of an attempt whose end is not known. A disputed one is not asked about: people and the day file end it."""

ANSWERABLE: Final = (_A.STORED, _A.UNKNOWN)
"""States of an attempt whose request may be answered yet."""

OPEN_PURCHASES: Final = (_P.INTENT, _P.UNKNOWN)
"""States of a purchase that is neither proved nor disproved."""

STUCK_PURCHASES: Final = (_P.UNKNOWN, _P.DISPUTED)
"""States of a purchase that a person may end who knows what the card did."""

OPEN_SALES: Final = (_S.OPEN, _S.DELIVERED, _S.GREY)
"""States of a sale that is not at its end."""

LISTED_ITEMS: Final = (_I.OPEN, _I.EXPLAINED)
"""States of items on people's list, whether or not somebody has looked."""
