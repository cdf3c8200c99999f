"""Reports of vehicles that wait for the lane, in an order that is fair to those that stand in front of it.

Theory of operation. A lane takes what is in the queue whenever it has its turn, so the queue is long only when an
antenna reports faster than vehicles drive: it is broken, or one sender answers its beacon with one number after the
other. Then it counts who reports:

    a tag the lane is dealing with       first of all, whatever else waits
    a tag that was seen a moment ago     in turn: a vehicle that stands there is reported again and again
    a tag never seen                     in turn, as many a second as vehicles could possibly come; the others are left

What is left is unanswered, so a vehicle that is really there is reported again and then is one that was seen. No tag
takes another's place: each has places of its own, of which it gives up its oldest, and where none is free the newcomer
waits for its next report.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque
from typing import Generic, TypeVar

from drivers.restraint import Budget
from protocols.rsu.messages import Message, Stop, StopType

REPORTS_OF_TAG_MAX = 4
"""Reports of one tag that wait: a purchase has as many steps, and each is answered before the next is made."""

TAGS_MAX = 64
"""Other tags that wait: a zone full of vehicles several times over."""

DEALT_WITH_MAX = 64
"""Tags the lane was last heard to deal with."""

SEEN_MAX = 4096
"""Tags remembered as seen: at a thousand new ones a second still those of the last seconds, and an antenna repeats an
unanswered report within an eighth of one."""

SEEN_S = 10.0
"""Time after which a tag that was seen is new again."""

NEW_TAGS_BURST, NEW_TAGS_PER_S = 64, 8.0
"""New tags taken at once, and each second: in one lane a vehicle takes a second to pass, and this is far above it."""

R = TypeVar("R")


class ReportQueue(Generic[R]):
    """Queue of reports, see the module. One consumer."""

    def __init__(self) -> None:
        self._dealt_with: OrderedDict[bytes, None] = OrderedDict()
        self._seen: OrderedDict[bytes, float] = OrderedDict()
        self._first: OrderedDict[bytes, deque[R]] = OrderedDict()
        self._others: OrderedDict[bytes, deque[R]] = OrderedDict()
        self._new_tags = Budget(NEW_TAGS_BURST, NEW_TAGS_PER_S)
        # First reports do not use up the room of results whose purchase a gateway before this one asked for.
        self._new_results = Budget(NEW_TAGS_BURST, NEW_TAGS_PER_S)
        self._filled = asyncio.Event()

    @property
    def empty(self) -> bool:
        return not (self._first or self._others)

    def answered(self, obu_id: bytes, message: Message) -> None:
        """Note that the lane said this about the tag: it deals with it, or it has done so."""
        self._dealt_with.pop(obu_id, None)
        if isinstance(message, Stop) and message.stop_type != StopType.RESEND:
            return
        self._dealt_with[obu_id] = None
        if len(self._dealt_with) > DEALT_WITH_MAX:
            self._dealt_with.popitem(last=False)

    def put(self, obu_id: bytes, report: R, now: float, *, result: bool = False) -> bool:
        """Let a report wait; False where it is left, or where an older one of its tag is. `now`: monotonic seconds.
        `result`: it is not a tag's first report but tells what became of an order."""
        dealt_with = obu_id in self._dealt_with
        if not dealt_with and not self._may_come(obu_id, now, result=result):
            return False
        waiting = self._first if dealt_with or obu_id in self._first else self._others
        if waiting is self._first and obu_id in self._others:
            self._first[obu_id] = self._others.pop(obu_id)
        elif waiting is self._others and obu_id not in waiting and len(waiting) >= TAGS_MAX:
            return False
        of_tag = waiting.setdefault(obu_id, deque())
        of_tag.append(report)
        self._filled.set()
        if len(of_tag) > REPORTS_OF_TAG_MAX:
            of_tag.popleft()
            return False
        return True

    async def get(self) -> R:
        """The next report."""
        while self.empty:
            self._filled.clear()
            await self._filled.wait()
        waiting = self._first or self._others
        obu_id, of_tag = waiting.popitem(last=False)
        report = of_tag.popleft()
        if of_tag:
            waiting[obu_id] = of_tag  # behind the others
        return report

    def _may_come(self, obu_id: bytes, now: float, *, result: bool) -> bool:
        """True when the tag was seen a moment ago, or is one of few that are new."""
        seen_at = self._seen.pop(obu_id, None)
        self._seen[obu_id] = now
        if len(self._seen) > SEEN_MAX:
            self._seen.popitem(last=False)
        if seen_at is not None and now - seen_at < SEEN_S:
            return True
        return (self._new_results if result else self._new_tags).spend(now)
