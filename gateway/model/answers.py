"""Meaning of a bank's answer for the money: its channel says so, in whatever it speaks, and the ledger keeps it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class AnswerClass(StrEnum):
    """Class of an answer: all that may be concluded from it."""

    APPROVED = "approved"
    DECLINED = "declined"
    """Refused for good: asking again does not help."""
    DECLINED_FOR_NOW = "declined_for_now"
    """Refused; may succeed later."""
    MANUAL = "manual"
    """Refused; a person must look at configuration or data."""
    NOT_FOUND = "not_found"
    """The original of a reversal is not known (yet)."""
    DUPLICATE = "duplicate"
    """The bank knows the reference already; whether as ours depends on how often we have sent it."""
    UNSETTLED = "unsettled"
    """No final word: repeat, or treat as silence."""

    @property
    def refused(self) -> bool:
        """The bank has not done what was asked, and says so."""
        return self in (AnswerClass.DECLINED, AnswerClass.DECLINED_FOR_NOW, AnswerClass.MANUAL)


@dataclass(frozen=True, slots=True)
class Refusal:
    """Cause of a debt, as far as the next try to collect it depends on it."""

    answer: AnswerClass | None
    code: str | None
    """The bank's own."""


NOTHING_SAID = Refusal(None, None)
UNANSWERED = Refusal(AnswerClass.DECLINED_FOR_NOW, "unanswered")
"""A bank that does not answer is tried again under a schedule of its own, which stands beside those of answer codes."""
