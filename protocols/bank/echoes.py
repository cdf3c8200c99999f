"""Check that an answer belongs to its request: fields it repeats are compared with what was asked.

Hosts leave fields out, or send blanks for nothing: that is no difference. A field that is there and says something else
is one, and then the answer proves nothing about our message, whatever its code: it may be another one's, or the host
has booked another amount, in another currency, for another merchant.

The amount of a partial approval is what was taken and not what was asked: it is not compared.
"""

from __future__ import annotations

from dataclasses import dataclass

from protocols.bank.codec import Message
from protocols.bank.responses import PARTIAL_CODE
from protocols.bank.transactions import AMOUNT, BATCH, Profile, answer_mtis

BATCH_DIGITS = slice(2, 8)
"""Batch digits of F60: its type and network code differ between a request and its answer at some hosts."""


@dataclass(frozen=True, slots=True)
class Difference:
    """Field whose answer differs from the request."""

    field: str
    """`F4`, or `MTI`."""
    asked: str
    answered: str

    def __str__(self) -> str:
        return f"{self.field} asked {self.asked}, answered {self.answered}"


def differences(profile: Profile, request: Message, answer: Message) -> tuple[Difference, ...]:
    """Every echoed field in which `answer` differs from `request`, in the order of their numbers."""
    found = []
    if answer.mti not in answer_mtis(request.mti):
        found.append(Difference("MTI", request.mti, answer.mti))
    for number in sorted(profile.echoed):
        if number == AMOUNT and answer.text(39) == PARTIAL_CODE:
            continue
        asked, answered = _compared(request, number), _compared(answer, number)
        if asked and answered and asked != answered:
            found.append(Difference(f"F{number}", asked, answered))
    return tuple(found)


def _compared(message: Message, number: int) -> str:
    text = (message.text(number) or "").strip()
    return text[BATCH_DIGITS] if number == BATCH else text
