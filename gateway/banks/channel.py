"""What the debit engine knows of a bank: messages it can build, and one exchange.

Building is pure, so that the engine can store the very bytes before the first of them leaves. An exchange ends in one
of the three ways of `Delivery`; only `NOT_SENT` promises that the bank never saw the message.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from gateway.banks.turns import Turns
from gateway.model.answers import AnswerClass, Refusal
from gateway.model.delivery import Delivery
from protocols.bank.anchors import Anchor


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


@dataclass(frozen=True, slots=True)
class LateAnswer:
    """An answer nobody waits for any more, with the keys that find its attempt."""

    terminal: str | None
    """None where the host leaves field 41 out."""
    stan: str
    answer: BankAnswer
    """What it says by itself."""
    compare: Callable[[bytes], BankAnswer] | None = None
    """What it says about the message it is taken for, of which these are the stored bytes."""

    def about(self, request: bytes) -> BankAnswer:
        """The answer, compared with what was asked."""
        return self.answer if self.compare is None else self.compare(request)


@dataclass(frozen=True, slots=True)
class SaleOrder:
    """What a sale or an advice is for."""

    terminal: str
    batch: str
    stan: str
    amount_fen: int
    contract_ref: str
    at: datetime
    anchor: Anchor | None = None
    """Where our ledger stands, for messages that tell it."""


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

    def takes(self, contract_ref: str) -> bool:
        """Whether this bank's messages can carry the contract."""
        ...

    def sale(self, order: SaleOrder) -> bytes: ...
    def reversal(self, order: SaleOrder) -> bytes: ...
    def advice(self, order: SaleOrder) -> bytes: ...
    def refund(self, order: SaleOrder) -> bytes: ...
    def repeat(self, request: bytes) -> bytes:
        """The same message marked as sent before."""
        ...

    async def exchange(self, request: bytes, *, timeout_s: float) -> BankAnswer: ...
    def on_late(self, handler: Callable[[LateAnswer], None]) -> None: ...
