"""Attempts at banks, with the messages their hosts must still get."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, func, select

from gateway.ledger import tables
from gateway.views.rows import by_pages, view_of

_a, _o, _p = tables.attempt, tables.outbox, tables.pos_attempt


@dataclass(frozen=True, slots=True)
class Message:
    """A message to a channel's host; waiting until `done_us`."""

    kind: str
    tries: int
    next_us: int
    done_us: int | None
    last_answer: str | None


@dataclass(frozen=True, slots=True)
class Attempt:
    """One try to collect a debit, or to pay some of it back. `response_code`: the bank's; `request`, `reversal`: bytes
    on the wire, None where masked, because they carry the payer's contract. Terminal, batch and STAN: of POS links."""

    attempt_id: str
    kind: str
    state: str
    channel: str
    reference: str
    terminal: str | None
    batch: str | None
    stan: str | None
    amount_fen: int
    response_code: str | None
    retrieval_reference: str | None
    settlement_day: str | None
    late_approval: bool
    sends: int
    request: bytes | None
    reversal: bytes | None
    created_us: int
    changed_us: int
    outbox: tuple[Message, ...]

    @property
    def waiting(self) -> tuple[Message, ...]:
        """Messages the bank has not received yet."""
        return tuple(message for message in self.outbox if message.done_us is None)


def attempts_of(
    connection: Connection, debit_ids: Sequence[str], *, unmask: bool = False
) -> Mapping[str, Sequence[Attempt]]:
    """Attempts of these debits, by debit, oldest first; a debit without one is missing."""
    found: defaultdict[str, list[Attempt]] = defaultdict(list)
    for page in by_pages(debit_ids):
        messages: defaultdict[str, list[Message]] = defaultdict(list)
        ours = _o.c.attempt_id.in_(select(_a.c.id).where(_a.c.debit_id.in_(page)))
        for row in connection.execute(select(_o).where(ours).order_by(_o.c.id)):
            messages[row.attempt_id].append(view_of(Message, row))
        query = (
            select(_a, _p.c.terminal, _p.c.batch, _p.c.stan)
            .outerjoin(_p, _p.c.attempt_id == _a.c.id)
            .where(_a.c.debit_id.in_(page))
            .order_by(_a.c.created_at, _a.c.id)
        )
        for row in connection.execute(query):
            hidden = {} if unmask else {"request": None, "reversal": None}
            outbox = tuple(messages[row.id])
            found[row.debit_id].append(view_of(Attempt, row, attempt_id=row.id, outbox=outbox, **hidden))
    return found


@dataclass(frozen=True, slots=True)
class Backlog:
    """Messages that wait for any bank, and since when the oldest does."""

    waiting: int
    oldest_us: int | None


def backlog(connection: Connection) -> Backlog:
    """Backlog of messages to all banks."""
    query = select(func.count(), func.min(_o.c.created_at)).where(_o.c.done_at.is_(None))
    return Backlog(*connection.execute(query).one())
