"""What the debit engine knows of a bank: orders it can make, one exchange, and what it hears late.

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
"""Attempts that are undone when nobody answers."""

REPEATED_KINDS = ("advice", "refund")
"""Attempts that are repeated until the bank answers them."""


@dataclass(frozen=True, slots=True)
class BankAnswer:
    """The bank's word, or its absence."""

    delivery: Delivery
    verdict: AnswerClass | None = None
    code: str | None = None
    retrieval_reference: str | None = None
    settlement_day: str | None = None
    detail: str | None = None
    """What went wrong on the way, for people."""
    difference: str | None = None
    """Where it says something else than was asked: field, asked, answered. Such an answer settles nothing."""

    @property
    def refused(self) -> bool:
        """The bank has not done what was asked, and says so."""
        return self.verdict is not None and self.verdict.refused

    @property
    def refusal(self) -> Refusal:
        """What the next try depends on."""
        return Refusal(self.verdict, self.code)


class LateAnswer(Protocol):
    """An answer nobody waits for any more; its text names it in the log."""

    @property
    def answer(self) -> BankAnswer:
        """What it says by itself."""
        ...

    def about(self, request: bytes) -> BankAnswer:
        """What it says about the message it is taken for, of which these are the stored bytes."""
        ...

    def may_mean(self, reference: str) -> bool:
        """Whether it may be about the attempt with this reference."""
        ...


@dataclass(frozen=True, slots=True)
class Meant:
    """The attempts that a late answer may be about."""

    attempts: tuple[str, ...]
    """None: no such attempt; more than one: it does not say which."""
    alike: tuple[str, ...] = ()
    """Where there is none: attempts it would be about if one thing that it says were different."""


@dataclass(frozen=True, slots=True)
class NewAttempt:
    """Born outside the transaction, so that running it twice stores the same."""

    id: str
    at: datetime


@dataclass(frozen=True, slots=True)
class Order:
    """What is sent for one attempt."""

    reference: str
    """Names it at its channel, and no other attempt."""
    destination: str
    """Where its messages wait, one behind the other; begins with the channel's name and a slash."""
    request: bytes
    reversal: bytes | None
    """Undoes a sale or recovery."""


@dataclass(frozen=True, slots=True)
class NothingFree:
    """No order can be made now."""

    kept_by: tuple[str, ...] = ()
    """Attempts without any one of which there could be one."""


class BankChannel(Protocol):
    """One bank, over whatever protocol it speaks."""

    turns: Turns
    """Keeps the answers to its messages in order."""

    @property
    def name(self) -> str: ...
    @property
    def max_message_age_s(self) -> float:
        """Longest time a message may wander in the bank's network before it is dropped."""
        ...

    @property
    def up(self) -> bool:
        """Whether a message would leave at this moment, as far as its link knows."""
        ...

    @property
    def query(self) -> Callable[[str, float], Awaitable[BankAnswer]] | None:
        """Asks what became of the attempt with a reference, for so many seconds; None where the bank cannot tell."""
        ...

    def takes(self, contract_ref: str) -> bool:
        """Whether this bank's messages can carry the contract."""
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
        """The messages of a new attempt, which the caller stores next in the same transaction. Without a charge point
        it is any one's."""
        ...

    def reference_known(self, tx: Transaction, attempt_id: str) -> None:
        """The bank knows the reference of this attempt as another's: none that comes must be near it."""
        ...

    def repeat(self, request: bytes) -> bytes:
        """The same message marked as sent before."""
        ...

    async def exchange(self, request: bytes, *, timeout_s: float) -> BankAnswer:
        """Send these bytes and read the answer."""
        ...

    def on_late(self, handler: Callable[[LateAnswer], None]) -> None: ...

    def meant(self, tx: Transaction, heard: LateAnswer) -> Meant:
        """Which attempts are meant."""
        ...
