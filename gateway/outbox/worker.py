"""Drains the outbox: what a bank must still hear, first in first out for each of its terminals.

One worker a channel. A destination (channel and terminal) is served one message at a time; a message that was not
answered waits with growing pauses and keeps its place, so nothing overtakes it on that terminal. Nothing is ever given
up: the queue's age and length are what an alarm looks at.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from sqlalchemy import Engine, bindparam, func, select

from gateway.banks.channel import AnswerClass, BankAnswer, BankChannel, Delivery
from gateway.debit import attempts
from gateway.ledger import tables
from gateway.ledger.batches import LedgerWriter
from gateway.ledger.statements import Row
from gateway.ledger.transaction import Transaction
from gateway.model.clock import Clock, to_us
from gateway.model.ids import RandomBits, new_id

DESTINATIONS_MAX = 64
"""Terminals looked at in one round: more than a plaza has lanes."""


_WAITING = select(tables.outbox.c.id).where(tables.outbox.c.id == bindparam("id"), tables.outbox.c.done_at.is_(None))


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """Seconds. Defaults follow the store-and-forward settings common among payment switches, shortened for a lane."""

    poll_s: float = 0.25
    answer_timeout_s: float = 5.0
    pause_first_s: float = 1.0
    pause_max_s: float = 60.0

    def pause_s(self, tries: int) -> float:
        """Pause after the n-th try, doubling up to the maximum."""
        return min(self.pause_first_s * float(1 << min(tries, 16)), self.pause_max_s)


@dataclass(frozen=True, slots=True)
class Backlog:
    """What still waits at one channel."""

    count: int
    oldest_at: int | None
    """UTC microseconds."""


class OutboxWorker:
    """Sends one channel's reversals and advices until the bank has the last word on each."""

    def __init__(
        self,
        channel: BankChannel,
        writer: LedgerWriter,
        reader: Engine,
        *,
        clock: Clock,
        random: RandomBits,
        policy: RetryPolicy,
        on_backlog: Callable[[Backlog], None] | None = None,
    ) -> None:
        self._channel = channel
        self._writer = writer
        self._reader = reader
        self._clock = clock
        self._random = random
        self._policy = policy
        self._on_backlog = on_backlog
        self._log = logging.getLogger(f"{__name__}.{channel.name}")

    async def run(self) -> None:
        """Forever; ends only by cancellation."""
        while True:
            for row in self._due():
                await self._send(row)
            if self._on_backlog is not None:
                self._on_backlog(self.backlog())
            await self._clock.sleep(self._policy.poll_s)

    def backlog(self) -> Backlog:
        """How many messages wait, and since when."""
        o = tables.outbox
        with self._reader.connect() as connection:
            row = connection.execute(
                select(func.count(), func.min(o.c.created_at)).where(
                    o.c.done_at.is_(None), o.c.destination.startswith(f"{self._channel.name}/", autoescape=True)
                )
            ).one()
        return Backlog(row[0], row[1])

    def _due(self) -> Sequence[Row]:
        """The head of every destination whose time has come."""
        o = tables.outbox
        heads = (
            select(func.min(o.c.id))
            .where(o.c.done_at.is_(None), o.c.destination.startswith(f"{self._channel.name}/", autoescape=True))
            .group_by(o.c.destination)
            .limit(DESTINATIONS_MAX)
        )
        now = to_us(self._clock.utcnow())
        with self._reader.connect() as connection:
            return connection.execute(select(o).where(o.c.id.in_(heads), o.c.next_at <= now)).all()

    async def _send(self, row: Row) -> None:
        request = await self._writer.submit(lambda tx: self._begin(tx, row), essential=True)
        if request is None:
            return
        answer = await self._channel.exchange(request, timeout_s=self._policy.answer_timeout_s)
        advice_id, at = new_id(to_us(self._clock.utcnow()), self._random), self._clock.utcnow()

        def change(tx: Transaction) -> bool:
            if not _still_waits(tx, row):
                # Something was heard meanwhile, and the message stands in the queue anew or is no longer wanted: an
                # answer to what left before that proves nothing.
                return False
            done = self._settle(tx, row, answer)
            if done:
                sale = attempts.attempt_row(tx, row.attempt_id)
                attempts.queue_advice(
                    tx,
                    attempts.debit_row(tx, sale.debit_id),
                    self._channel,
                    terminal=sale.terminal,
                    batch=sale.batch,
                    attempt_id=advice_id,
                    at=at,
                )
            self._mark(tx, row, answer, done)
            return done

        done = await self._writer.submit(change, essential=True)
        self._log.info(
            "%s to %s try %d: %s%s",
            row.kind,
            row.destination,
            row.tries + 1,
            answer.code or answer.delivery.value,
            "" if done else ", will repeat",
        )

    def _begin(self, tx: Transaction, row: Row) -> bytes | None:
        """The bytes to send, or None when the message is no longer wanted (then it is taken off the queue).

        What left before, or may have left before a crash, goes out marked as a repetition.
        """
        if not _still_waits(tx, row):
            return None
        begin = attempts.begin_reversal if row.kind == "reversal" else attempts.begin_advice
        request = begin(tx, row.attempt_id)
        if request is None:
            self._mark(tx, row, BankAnswer(Delivery.NOT_SENT, detail="no longer wanted"), done=True)
            return None
        return self._channel.repeat(request.message) if request.sent_before else request.message

    def _settle(self, tx: Transaction, row: Row, answer: BankAnswer) -> bool:
        if answer.delivery is not Delivery.ANSWERED:
            return False
        if row.kind == "reversal":
            age_us = int(self._channel.max_message_age_s * 1e6)
            return attempts.close_reversal(tx, row.attempt_id, answer, max_message_age_us=age_us)
        return attempts.settle_advice(tx, row.attempt_id, answer)

    def _mark(self, tx: Transaction, row: Row, answer: BankAnswer, done: bool) -> None:
        not_found = answer.verdict is AnswerClass.NOT_FOUND
        pause_s = self._policy.pause_first_s if not_found else self._policy.pause_s(row.tries)
        tx.update(
            tables.outbox,
            {"id": row.id},
            tries=row.tries + 1,
            next_at=tx.now_us + int(pause_s * 1e6),
            done_at=tx.now_us if done else None,
            last_answer=(answer.code or answer.detail or answer.delivery.value)[:80],
        )


def _still_waits(tx: Transaction, row: Row) -> bool:
    return tx.first(_WAITING, id=row.id) is not None
