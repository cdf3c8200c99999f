"""Orders sent to an antenna: which of them a report can be the answer to.

Theory of operation. An antenna that had to wait for an answer starts over with the tag, and takes the late answer for
one to its newest report: answers carry the number of their report, but antennas do not look at it (inferred: of two
lane programs one repeats that number and one counts by itself, and antennas take both). So orders and reports cross,
and what is read from a card may have been asked for before the last purchase was ordered, though it arrives after it.
The line keeps its order and an antenna answers an order at most once. Hence a report was made after the purchase order
had arrived when every order written before that one has had its report already, or is too old to have one. All else may
be older than the purchase and proves nothing about it. Nor does a report that was here before the order was written: it
waited for its turn meanwhile, and is judged when its turn comes.
"""

from __future__ import annotations

from collections import OrderedDict, deque

from protocols.rsu.messages import Debit, Message, Stop, StopType

ORDER_LIFE_S = 5.0
"""An order that has had no report for so long has none any more: antennas search again after 1 s, and a line that
stands still for longer is opened anew (inferred)."""

TAGS_MAX = 64
"""Tags remembered: a zone full of vehicles several times over."""


class _Tag:
    """Seconds at which orders about one tag were written."""

    __slots__ = ("before", "purchase", "since")

    def __init__(self) -> None:
        self.purchase = 0
        """Number of its last purchase order on this connection; 0 for none."""
        self.before: deque[float] = deque()
        """Orders before the last purchase order, without a report so far."""
        self.since: deque[float] = deque()

    def forget(self, now: float) -> None:
        """Drop orders that will have no report any more."""
        for orders in (self.before, self.since):
            while orders and now - orders[0] >= ORDER_LIFE_S:
                orders.popleft()


class OrdersUnderWay:
    """The orders of one connection."""

    def __init__(self) -> None:
        self._tags: OrderedDict[bytes, _Tag] = OrderedDict()
        self.purchases = 0
        """Purchase orders written so far."""

    def written(self, obu_id: bytes, order: Message, now: float) -> None:
        """Note that an order about a tag was written, be it for the second time. `now`: monotonic seconds."""
        if isinstance(order, Stop) and order.stop_type != StopType.RESEND:
            return
        tag = self._tags.get(obu_id)
        if tag is None:
            tag = self._tags[obu_id] = _Tag()
            if len(self._tags) > TAGS_MAX:
                self._tags.popitem(last=False)
        self._tags.move_to_end(obu_id)
        tag.forget(now)
        if isinstance(order, Debit):
            tag.before += tag.since
            tag.since.clear()
            self.purchases += 1
            tag.purchase = self.purchases
        tag.since.append(now)

    def bought_since(self, obu_id: bytes, purchases: int) -> bool:
        """True when a purchase was ordered of a tag since so many purchase orders had been written."""
        tag = self._tags.get(obu_id)
        return tag is not None and tag.purchase > purchases

    def reported(self, obu_id: bytes, now: float) -> bool:
        """Note a report that answers some order. True when it was surely made after the last purchase order arrived."""
        tag = self._tags.get(obu_id)
        if tag is None:
            return True
        tag.forget(now)
        if tag.before:
            tag.before.popleft()
            return False
        if tag.since:
            tag.since.popleft()
        return True
