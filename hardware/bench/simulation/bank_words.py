"""Words of the simulated bank that differ from its book, and what people must therefore ask it about."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from protocols.bank.codec import Message

if TYPE_CHECKING:
    from hardware.bench.simulation.invariants import Attempt

CONTRADICTED = "answer_contradicted"
"""Kind of the item of an attempt to which the bank said yes and no."""

Key = tuple[str, str, str]
"""Terminal, batch, STAN."""


class BankWords:
    """Bank's words of one run. The watcher tells of attempts, the bank of what it does to a message."""

    def __init__(self, booked: Callable[[Attempt], bool], still_due: Callable[[Attempt], bool]) -> None:
        """`booked`: the bank's book has its money; `still_due`: nothing else has paid what it asked for."""
        self._booked = booked
        self._still_due = still_due
        self.opposite: dict[Key, str] = {}
        """The second code of messages with two opposite answers: one of them is not what the book says."""
        self.altered: set[Key] = set()
        """Keys of sales whose one answer says something else than was asked."""
        self._in_question: dict[str, Attempt] = {}

    def answered_otherwise(self, message: Message, fault: str) -> Key:
        """Note that the bank is about to do this to a message of ours; returns its keys."""
        key = (message.text(41) or "", (message.text(60) or "")[2:8], message.text(11) or "")
        if fault.startswith("altered") and message.mti.startswith("020"):
            self.altered.add(key)
        elif fault.startswith(("yes_no", "no_yes")):
            self.opposite[key] = "05" if fault.startswith("yes_no") else "00"
        return key

    def look_at(self, attempt: Attempt) -> None:
        """Look at an attempt that has changed, or of which more is known."""
        if attempt.state == "disputed" or attempt.contradicted or attempt.key in self.opposite:
            self._in_question[attempt.id] = attempt

    def look_again(self, attempts: Iterable[Attempt]) -> None:
        """Look at the attempts of another, older ledger."""
        self._in_question.clear()
        for attempt in attempts:
            self.look_at(attempt)

    def left_to_people(self) -> list[Attempt]:
        """Attempts that no message will end, or that ended by the wrong one of two words."""
        return [attempt for attempt in self._in_question.values() if self._left(attempt)]

    def hidden(self, attempt: Attempt) -> bool:
        """True when a refusal may hide money: no gateway could know of it before it is told."""
        return attempt.key in self.opposite and attempt.state == "declined"

    def beyond_knowing(self, attempt: Attempt) -> bool:
        """True when ended by the wrong word of two, where the other was lost on the line or in a crash, or came when
        its debit had been paid another way: clearing's comparison finds it, and people give the money back or up."""
        ended = attempt.key in self.opposite and attempt.state in ("approved", "declined")
        return ended and (attempt.state == "approved") != self._booked(attempt)

    def heard_late(self, attempt: Attempt, code: str | None) -> Callable[[], bool]:
        """Note that the gateway has heard one of two opposite words, and nobody waited for it. Returns what to ask
        later: whether it kept what it heard from people. The second word must be a contradiction to the first, also
        where that had not been booked yet."""
        attempt.late_codes.add(code)
        attempt.heard_codes.add(code)
        early = attempt.state == "stored" and code == self.opposite[attempt.key]

        def untold() -> bool:
            opposite = {"approved": "05", "declined": "00"}.get(attempt.state)
            heard_both = opposite in attempt.late_codes or (early and {"00", "05"} <= attempt.heard_codes)
            return heard_both and not (attempt.was_contradicted or attempt.lates)

        return untold

    def _left(self, attempt: Attempt) -> bool:
        if attempt.state == "disputed" or (attempt.state == "approved" and attempt.contradicted):
            return True
        booked = self._booked(attempt)
        if attempt.state == "declined" and attempt.contradicted and not booked:
            return True
        if attempt.key not in self.opposite:
            return False
        refused = attempt.state == "declined" and booked and self._still_due(attempt)
        return refused or (attempt.state == "reversing" and not booked)
