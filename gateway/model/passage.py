"""Passage: its funding, the outcome of each step, and the decision table that judges them.

The decision table is the whole policy of letting go in one pure function, so it can be read, tested exhaustively and
shown to a customer. Times are milliseconds, money is integer fen.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum, StrEnum


class Service(StrEnum):
    """Service that the money is for; numbered for clearing in `CLEARING_SERVICE`."""

    TOLL = "toll"
    PARKING = "parking"
    FUEL = "fuel"
    SERVICE_AREA = "service_area"

    @property
    def word(self) -> str:
        """Name in rules and commands: clearing knows a counter's sales as those of the service area."""
        return "counter" if self is Service.SERVICE_AREA else self.value


class Funding(StrEnum):
    """Funding source: who pays us. Exactly one per debit, fixed with the hold."""

    PURSE = "purse"
    """Stored-value card: the purchase took the money, the issuer owes us; no bank is asked."""
    BANK_ONLINE = "bank_online"
    """The mandate's bank channel is asked while the vehicle waits."""
    ISSUER_CLEARING = "issuer_clearing"
    """The issuer collects after clearing; the TAC is our proof."""
    CASH = "cash"
    """The customer pays at the till of the charge point, which answers for the money; nobody's account is asked."""


class Abandoned(StrEnum):
    """Fate of a hold that nobody comes back to, when nothing was asked of card or bank."""

    VOID = "void"
    """Nothing was delivered on it: a lane whose barrier follows the decision."""
    KEEP = "keep"
    """Something may have been delivered: an authorised pump. Evidence ends it, no start and no time."""


class PurchaseOutcome(StrEnum):
    """Outcome of the purchase on card or tag."""

    TAKEN = "taken"
    NOT_TAKEN = "not_taken"
    UNKNOWN = "unknown"
    DISPUTED = "disputed"
    """The card's file is neither what we read nor what we wrote, or its proof fails: people decide."""
    NONE = "none"
    """There is no card at this charge point."""


class BankOutcome(StrEnum):
    """Outcome of the request to the bank inside the deadline."""

    APPROVED = "approved"
    DECLINED = "declined"
    SILENT = "silent"
    """Sent, and no answer in time: the bank may have booked it."""
    NOT_SENT = "not_sent"
    """Not one byte left: the link was down or the terminal is held by an open reversal."""


class Release(StrEnum):
    """Release of the customer: what a barrier, a nozzle or a turnstile follows."""

    GO = "go"
    STOP = "stop"
    ATTENDANT = "attendant"
    """Stop, and a person is called."""


class Money(StrEnum):
    """Effect of a decision on the claim."""

    ISSUER_PAYS = "issuer_pays"
    TILL_PAYS = "till_pays"
    KEEP_OPEN = "keep_open"
    BANK_PAYS = "bank_pays"
    DEBT = "debt"
    OWED = "owed"
    VOID = "void"
    HOLD_STAYS = "hold_stays"
    NONE = "none"


class PassageOutcome(StrEnum):
    """Outcome of a passage, as a list shows it."""

    PAID = "paid"
    OWED = "owed"
    DEBT = "debt"
    ENTERED = "entered"
    """The entry of a trip was written on the card; money follows at the exit."""
    REFUSED = "refused"
    UNKNOWN = "unknown"
    REPEAT = "repeat"
    """The same vehicle seen again after it paid: let through, charged nothing."""


class Occasion(IntEnum):
    """Occasion of a decision; the number stands in the ledger."""

    LANE = 0
    """At the charge point, in the passage itself."""
    READING = 1
    """At the charge point, when the vehicle was read again after something had gone wrong."""
    START = 2
    """Start of the gateway, for a passage that an earlier process left open: nothing moved at the charge point."""
    PERSON = 3
    """Word of a person: nothing moved at the charge point."""

    @property
    def moved(self) -> bool:
        """True when barrier and display followed the decision."""
        return self not in (Occasion.START, Occasion.PERSON)


class DeclinePolicy(StrEnum):
    """Policy of a lane for a bank's no after the purchase proves the claim."""

    RELEASE_AS_DEBT = "release_as_debt"
    HOLD_FOR_ATTENDANT = "hold_for_attendant"


@dataclass(frozen=True, slots=True)
class DecisionRow:
    """One row of the decision table, applied."""

    release: Release
    money: Money
    outcome: PassageOutcome
    reason: str | None
    """Code in `gateway.model.reasons`, None when there is nothing to explain."""


def decide(
    purchase: PurchaseOutcome,
    funding: Funding,
    bank: BankOutcome | None,
    *,
    decline_policy: DeclinePolicy,
    stand_in_allowed: bool,
) -> DecisionRow:
    """The decision table of a charge point. `bank` is None when no bank was asked.

    Raises ValueError where only a purchase can pay and there is none, for a purse pays by it and an issuer for its TAC;
    and where a card has paid what a till was to take.
    """
    if purchase is PurchaseOutcome.NONE and funding not in (Funding.BANK_ONLINE, Funding.CASH):
        raise ValueError(f"{funding} without a purchase on a card")
    if purchase is PurchaseOutcome.TAKEN and funding is Funding.CASH:
        raise ValueError(f"{funding} with a purchase on a card")
    if purchase is PurchaseOutcome.NOT_TAKEN:
        return DecisionRow(Release.STOP, Money.VOID, PassageOutcome.REFUSED, "purchase_refused")
    if purchase is PurchaseOutcome.UNKNOWN:
        return DecisionRow(Release.STOP, Money.HOLD_STAYS, PassageOutcome.UNKNOWN, "purchase_unknown")
    if purchase is PurchaseOutcome.DISPUTED:
        return DecisionRow(Release.ATTENDANT, Money.HOLD_STAYS, PassageOutcome.UNKNOWN, "purchase_disputed")
    if funding is Funding.PURSE:
        return DecisionRow(Release.GO, Money.ISSUER_PAYS, PassageOutcome.PAID, None)
    if funding is Funding.ISSUER_CLEARING:
        return DecisionRow(Release.GO, Money.KEEP_OPEN, PassageOutcome.PAID, None)
    if funding is Funding.CASH:
        return DecisionRow(Release.GO, Money.TILL_PAYS, PassageOutcome.PAID, None)
    if bank is BankOutcome.APPROVED:
        return DecisionRow(Release.GO, Money.BANK_PAYS, PassageOutcome.PAID, None)
    if bank is BankOutcome.DECLINED:
        release = Release.GO if decline_policy is DeclinePolicy.RELEASE_AS_DEBT else Release.ATTENDANT
        return DecisionRow(release, Money.DEBT, PassageOutcome.DEBT, "bank_declined")
    # Silent, or never asked: we decide in the bank's place, as far as the stand-in limit goes.
    if stand_in_allowed:
        return DecisionRow(Release.GO, Money.OWED, PassageOutcome.OWED, "bank_silent")
    return DecisionRow(Release.ATTENDANT, Money.OWED, PassageOutcome.OWED, "stand_in_limit")
