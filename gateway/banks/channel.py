"""Bank channel as the debit engine uses it: orders it can make, one exchange, and late answers.

An order is made in the database transaction that stores it, so that the very bytes are durable before the first of them
leaves. An exchange ends in one of the three ways of `Delivery`; only `NOT_SENT` promises that the bank never saw the
message.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from gateway.banks.turns import Turns
from gateway.ledger.transaction import Transaction
from gateway.model.answers import AnswerClass, Refusal
from gateway.model.delivery import Delivery

REVERSED_KINDS = ("sale", "recovery")
"""Kinds of attempt that are reversed when nobody answers."""

REPEATED_KINDS = ("advice", "refund")
"""Kinds of attempt that are repeated until the bank answers them."""


@dataclass(frozen=True, slots=True)
class BankAnswer:
    """Answer of the bank, or its absence."""

    delivery: Delivery
    verdict: AnswerClass | None = None
    code: str | None = None
    retrieval_reference: str | None = None
    settlement_day: str | None = None
    detail: str | None = None
    """Fault of the exchange, for people."""
    difference: str | None = None
    """Difference of the answer from what was asked: field, asked, answered. Such an answer settles nothing."""

    @property
    def refused(self) -> bool:
        """True when the bank has not done what was asked, and says so."""
        return self.verdict is not None and self.verdict.refused

    @property
    def refusal(self) -> Refusal:
        """Refusal, on which the next try depends."""
        return Refusal(self.verdict, self.code)


class LateAnswer(Protocol):
    """Late answer, which no exchange waits for any more; its text names it in the log."""

    @property
    def answer(self) -> BankAnswer:
        """Answer by itself."""
        ...

    def about(self, request: bytes) -> BankAnswer:
        """Answer compared with the message it is taken for, of which these are the stored bytes."""
        ...

    def may_mean(self, reference: str) -> bool:
        """True when it may be about the attempt with this reference."""
        ...


@dataclass(frozen=True, slots=True)
class Meant:
    """Attempts that a late answer may be about."""

    attempts: tuple[str, ...]
    """Ids of the attempts. None: no such attempt; more than one: it does not say which."""
    alike: tuple[str, ...] = ()
    """Attempts, where there is none, that it would be about if one thing that it says were different."""


@dataclass(frozen=True, slots=True)
class NewAttempt:
    """New attempt, made outside the transaction, so that running it twice stores the same."""

    id: str
    at: datetime


@dataclass(frozen=True, slots=True)
class Order:
    """Order: the messages of one attempt."""

    reference: str
    """Reference that names this attempt at its channel, and no other."""
    destination: str
    """Destination: its messages wait there, one behind the other; begins with the channel's name and a slash."""
    request: bytes
    reversal: bytes | None
    """Message that undoes a sale or recovery."""


@dataclass(frozen=True, slots=True)
class NothingFree:
    """Result of an order that cannot be made now."""

    kept_by: tuple[str, ...] = ()
    """Attempts that keep the channel busy: without any one of them there could be an order."""


class BankChannel(Protocol):
    """Channel to one bank, over whatever protocol it speaks."""

    turns: Turns
    """Turns that keep the answers to its messages in order."""

    @property
    def name(self) -> str: ...
    @property
    def max_message_age_s(self) -> float:
        """Longest time a message may be under way in the bank's network before it is dropped."""
        ...

    @property
    def up(self) -> bool:
        """True when a message would leave at this moment, as far as its link knows."""
        ...

    @property
    def query(self) -> Callable[[str, float], Awaitable[BankAnswer]] | None:
        """Query for the end of the attempt with a reference, within so many seconds; None if the bank cannot tell."""
        ...

    def takes(self, contract_ref: str) -> bool:
        """True when this bank's messages can carry the contract."""
        ...

    def order(
        self,
        tx: Transaction,
        new: NewAttempt,
        kind: str,
        *,
        debit_id: str,
        amount_fen: int,
        contract_ref: str,
        charge_point: str | None,
    ) -> Order | NothingFree:
        """Make the messages of a new attempt, which the caller stores next in the same transaction. Without a charge
        point any terminal's."""
        ...

    def reference_known(self, tx: Transaction, attempt_id: str) -> None:
        """Avoid the reference of this attempt, which the bank knows as another's: later ones must not be near it."""
        ...

    def repeat(self, request: bytes) -> bytes:
        """Mark the same message as sent before."""
        ...

    async def exchange(self, request: bytes, *, timeout_s: float) -> BankAnswer:
        """Send these bytes and read the answer."""
        ...

    def on_late(self, handler: Callable[[LateAnswer], None]) -> None: ...

    def meant(self, tx: Transaction, heard: LateAnswer) -> Meant:
        """Find the attempts that a late answer may be about."""
        ...
