"""Outbox worker: sends the messages a bank must still hear, first in first out for each destination.

One worker a channel. A destination (on POS links a terminal) is served one message at a time; a message that was not
answered waits with growing pauses and keeps its place, so nothing overtakes it there. How long the pauses
are, how fast a backlog may drain, whether it steps aside for a vehicle that waits, and when a message is given up and
handed to a person, are rules of each kind of message. The queue's age and length are what an alarm looks at.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractContextManager, asynccontextmanager, nullcontext
from dataclasses import dataclass
from functools import partial

from sqlalchemy import Connection, bindparam, func, select

from gateway.banks.channel import REPEATED_KINDS, BankAnswer, BankChannel, NewAttempt
from gateway.debit import attempts, late
from gateway.debit.attempts import Asking, Outgoing
from gateway.debit.states import attempt_row, debit_row
from gateway.ledger import tables
from gateway.ledger.batches import LedgerWriter
from gateway.ledger.reading import LedgerReader
from gateway.ledger.statements import Row
from gateway.ledger.transaction import Change, Transaction
from gateway.model.answers import AnswerClass
from gateway.model.clock import Clock, to_us
from gateway.model.delivery import Delivery
from gateway.model.ids import RandomBits, new_id
from gateway.model.states import AttemptState
from gateway.rules.judge import alarming, given_up, pause_s
from gateway.rules.loading import DebitRules, shipped_rules
from gateway.rules.schema import Retry

TOGETHER_MAX = 64
"""Messages on the wire at once, one a destination: more than a plaza has lanes, so that a bank that is silent to some
holds up none that it answers."""

KINDS = ("reversal", "advice", "refund", "recovery")

POLL_S = 0.25
"""Seconds between two looks at the queue."""

_WAITING = select(tables.outbox.c.id).where(tables.outbox.c.id == bindparam("id"), tables.outbox.c.done_at.is_(None))

_UNKNOWN = select(tables.attempt.c.reference).where(
    tables.attempt.c.id == bindparam("attempt"), tables.attempt.c.state == AttemptState.UNKNOWN
)
_DISPUTED = select(func.count()).where(
    tables.attempt.c.state == AttemptState.DISPUTED, tables.attempt.c.channel == bindparam("channel")
)


@dataclass(frozen=True, slots=True)
class Backlog:
    """Backlog of one channel: the messages that still wait."""

    count: int
    oldest_at: int | None
    """Time of the oldest message, UTC microseconds."""
    alarms: tuple[str, ...] = ()
    """Kinds of message that too many wait of, or one for too long."""
    disputed: int = 0
    """Attempts that wait for people or the bank's day file, and are not in the queue."""


class OutboxWorker:
    """Worker of one channel: sends its messages until the bank has the last word on each."""

    def __init__(
        self,
        channel: BankChannel,
        writer: LedgerWriter,
        reader: LedgerReader,
        *,
        clock: Clock,
        random: RandomBits,
        rules: DebitRules | None = None,
        fresh: Callable[[], bool] = lambda: False,
        on_backlog: Callable[[Backlog], None] | None = None,
    ) -> None:
        """`fresh`: True while a vehicle waits for this bank."""
        self._channel = channel
        self._writer = writer
        self._reader = reader
        self._clock = clock
        self._random = random
        self._rules = shipped_rules() if rules is None else rules
        pauses = (self._retry(kind).max_pause_s for kind in KINDS)
        self._longest_pause_us = int(max(self._rules.reversal.not_found_pause_s, *pauses) * 1e6)
        self._fresh = fresh
        self._on_backlog = on_backlog
        self._next_of_kind: dict[str, float] = {}
        self._sending: set[str] = set()
        """Destinations whose message is being sent."""
        self._known_since: dict[str, float] = {}
        """Time at which this process first knew of a reversal (monotonic seconds), by attempt."""
        self._begun, self._looked = clock.monotonic(), False
        self._log = logging.getLogger(f"{__name__}.{channel.name}")

    async def run(self) -> None:
        """Work forever; ends only by cancellation, or with the error of a sending."""
        async with _messages() as messages:
            while True:
                await self._begin_round(messages)
                if self._on_backlog is not None:
                    self._on_backlog(await self.backlog())
                await self._clock.sleep(POLL_S)

    async def round(self) -> int:
        """Send what is due and may go now, one message a destination, and wait for the answers; how many went."""
        async with _messages() as messages:
            return await self._begin_round(messages)

    async def _begin_round(self, messages: asyncio.TaskGroup) -> int:
        """Begin to send what is due and may go now; a destination that waits for an answer waits alone."""
        # As it was before reading: what ends its way meanwhile is read as it was before its answer.
        sending = frozenset(self._sending)
        due = [row for row in await self._due() if row.destination not in sending]
        urgent = await self._reader.read(_destinations_held) if due else frozenset()
        begun = 0
        for row in due:
            if len(self._sending) >= TOGETHER_MAX:
                break
            if row.destination not in urgent and self._steps_aside(row):
                continue
            self._sending.add(row.destination)
            task = messages.create_task(self._send(row))
            task.add_done_callback(partial(self._sent, row.destination))
            begun += 1
        return begun

    def _sent(self, destination: str, _: object) -> None:
        self._sending.discard(destination)

    async def backlog(self) -> Backlog:
        """Count the waiting messages, their age, and the kinds of which it is too many or too long."""
        o = tables.outbox
        kinds = (
            select(o.c.kind, func.count().label("waiting"), func.min(o.c.created_at).label("oldest"))
            .where(o.c.done_at.is_(None), o.c.destination.startswith(f"{self._channel.name}/", autoescape=True))
            .group_by(o.c.kind)
        )
        rows = await self._reader.read(lambda connection: connection.execute(kinds).all())
        of_channel = {"channel": self._channel.name}
        disputed = await self._reader.read(lambda connection: connection.execute(_DISPUTED, of_channel).scalar_one())
        now = to_us(self._clock.utcnow())
        alarms = tuple(
            row.kind
            for row in rows
            if alarming(self._retry(row.kind), count=row.waiting, oldest_age_s=(now - row.oldest) / 1e6)
        )
        oldest = min((row.oldest for row in rows), default=None)
        return Backlog(sum(row.waiting for row in rows), oldest, alarms, disputed)

    async def _due(self) -> Sequence[Row]:
        """Find the first message of every destination whose time has come."""
        o = tables.outbox
        heads = (
            select(func.min(o.c.id))
            .where(o.c.done_at.is_(None), o.c.destination.startswith(f"{self._channel.name}/", autoescape=True))
            .group_by(o.c.destination)
        )
        now = to_us(self._clock.utcnow())
        # What waits longer than any pause was queued before the clock was set back.
        due = (o.c.next_at <= now) | (o.c.next_at > now + self._longest_pause_us)
        waiting = select(o).where(o.c.id.in_(heads), due).order_by(o.c.id).limit(2 * TOGETHER_MAX)
        found = await self._reader.read(lambda connection: connection.execute(waiting).all())
        if not self._looked:
            # Left by an earlier process: its sales are older than this one.
            self._looked = True
            self._known_since = {row.attempt_id: self._begun for row in found if row.kind == "reversal"}
        return found

    def _steps_aside(self, row: Row) -> bool:
        """True when a message waits for vehicles or for its pace. One that waits too long already goes all the same."""
        retry, now = self._retry(row.kind), self._clock.monotonic()
        age_s = (to_us(self._clock.utcnow()) - row.created_at) / 1e6
        if retry.yield_to_fresh and age_s < retry.alarm_age_s and self._fresh():
            return True
        if not retry.messages_per_s:
            return False
        due = self._next_of_kind.get(row.kind, now)
        if now < due:
            return True
        # Half a poll of credit: a pace that is not a divisor of the poll would else lose a message a round.
        self._next_of_kind[row.kind] = max(due, now - POLL_S) + 1 / retry.messages_per_s
        return False

    async def _send(self, row: Row) -> None:
        if row.kind == "reversal" and await self._told_when_asked(row):
            return
        request = await self._writer.submit(lambda tx: self._begin(tx, row), essential=True)
        if request is None:
            self._known_since.pop(row.attempt_id, None)
            return
        since = self._known_since.setdefault(row.attempt_id, self._clock.monotonic()) if row.kind == "reversal" else 0.0
        with self._turn(row, request) as nothing_heard:
            answer = await self._asked(row, request)
            if answer.delivery is not Delivery.ANSWERED:
                nothing_heard()
            settled = self._writer.submit(self._settling(row, answer, since), essential=True)
        done = await settled
        if done:
            self._known_since.pop(row.attempt_id, None)
        self._log.info(
            "%s to %s try %d: %s%s",
            row.kind,
            row.destination,
            row.tries + 1,
            answer.code or answer.delivery.value,
            "" if done else ", will repeat",
        )

    async def _told_when_asked(self, row: Row) -> bool:
        """True when the bank tells the end of a sale, so that it need not be undone. One that cannot be asked, or does
        not say, is sent the reversal."""
        query = self._channel.query
        if query is None:
            return False
        unknown = {"attempt": row.attempt_id}
        reference = await self._reader.read(
            lambda connection: connection.execute(_UNKNOWN, unknown).scalar_one_or_none()
        )
        if reference is None:
            return False
        answer = await query(reference, self._retry(row.kind).answer_timeout_s)

        def change(tx: Transaction) -> bool:
            attempt = attempt_row(tx, row.attempt_id)
            if attempt.state == AttemptState.UNKNOWN:
                late.answered(tx, attempt, answer, self._rules, self._channel)
            return bool(attempt_row(tx, row.attempt_id).state != AttemptState.UNKNOWN)

        return await self._writer.submit(change, essential=True)

    def _turn(self, row: Row, request: Outgoing) -> AbstractContextManager[Callable[[], None]]:
        """Hold back late answers to a message until its own is handed in. A late answer to a reversed sale does not
        wait: it is no answer to the reversal, and must be known before that closes."""
        if row.kind == "reversal":
            return nullcontext(lambda: None)
        return self._channel.turns.asking(request.reference)

    async def _asked(self, row: Row, request: Outgoing) -> BankAnswer:
        if row.kind == "recovery" and request.sent_before:
            # A sale is never sent twice: what a crash left in doubt is reversed.
            return BankAnswer(Delivery.SILENT, detail="it may have left before")
        message = self._channel.repeat(request.message) if request.sent_before else request.message
        return await self._channel.exchange(message, timeout_s=self._retry(row.kind).answer_timeout_s)

    def _settling(self, row: Row, answer: BankAnswer, since: float) -> Change[bool]:
        """Make the change that books an answer, or its absence."""
        advice = NewAttempt(new_id(to_us(self._clock.utcnow()), self._random), self._clock.utcnow())

        def change(tx: Transaction) -> bool:
            waits = _still_waits(tx, row)
            if not waits and not (row.kind in REPEATED_KINDS and _is_stored(tx, row)):
                # Something was heard meanwhile, and the message stands in the queue anew or is no longer wanted: an
                # answer to a reversal that left before that proves nothing. A word on an advice is final all the same.
                return False
            done = self._settle(tx, row, answer, since)
            if done:
                sent = attempt_row(tx, row.attempt_id)
                attempts.queue_advice(tx, debit_row(tx, sent.debit_id), Asking(self._channel, advice))
            if waits:
                self._mark(tx, row, answer, done)
            elif done:
                attempts.off_queue(tx, row.attempt_id, "answered")
            return done

        return change

    def _begin(self, tx: Transaction, row: Row) -> Outgoing | None:
        """Begin a message: None when it is no longer wanted or given up (then it is taken off the queue)."""
        if not _still_waits(tx, row):
            return None
        age_s = (tx.now_us - row.created_at) / 1e6
        if row.kind in REPEATED_KINDS and given_up(self._retry(row.kind), tries=row.tries, age_s=age_s):
            attempts.give_up_message(tx, row.attempt_id)
            self._mark(tx, row, BankAnswer(Delivery.NOT_SENT, detail="given up by the rules"), done=True)
            return None
        begin = attempts.begin_reversal if row.kind == "reversal" else attempts.begin_message
        request = begin(tx, row.attempt_id)
        if request is None:
            self._mark(tx, row, BankAnswer(Delivery.NOT_SENT, detail="no longer wanted"), done=True)
        return request

    def _settle(self, tx: Transaction, row: Row, answer: BankAnswer, since: float) -> bool:
        """Settle a message. `since`: monotonic second at which this process first knew of a reversal."""
        if row.kind == "recovery":
            return attempts.settle_message(tx, row.attempt_id, answer, self._rules, self._channel)
        if answer.delivery is not Delivery.ANSWERED:
            return False
        if row.kind == "reversal":
            # Its sale left before. The wall clock is not asked: it may have been set meanwhile.
            aged = self._clock.monotonic() - since >= self._channel.max_message_age_s
            return attempts.close_reversal(tx, row.attempt_id, answer, aged=aged, rules=self._rules)
        return attempts.settle_message(tx, row.attempt_id, answer, self._rules, self._channel)

    def _mark(self, tx: Transaction, row: Row, answer: BankAnswer, done: bool) -> None:
        not_found = answer.verdict is AnswerClass.NOT_FOUND
        wait_s = self._rules.reversal.not_found_pause_s if not_found else pause_s(self._retry(row.kind), row.tries)
        tx.update(
            tables.outbox,
            {"id": row.id},
            tries=row.tries + 1,
            next_at=tx.now_us + int(wait_s * 1e6),
            done_at=tx.now_us if done else None,
            last_answer=(answer.code or answer.detail or answer.delivery.value)[:80],
        )

    def _retry(self, kind: str) -> Retry:
        found: Retry = getattr(self._rules.retry, kind)
        return found


@asynccontextmanager
async def _messages() -> AsyncIterator[asyncio.TaskGroup]:
    """Task group of messages being sent: the first that fails ends the others, and is what is told."""
    try:
        async with asyncio.TaskGroup() as group:
            yield group
    except ExceptionGroup as failed:
        raise failed.exceptions[0] from failed


def _destinations_held(connection: Connection) -> frozenset[str]:
    """Destinations where a reversal waits: no sale begins there before it has gone, so messages in its way must go too.
    One that stepped aside for vehicles would else hold up the very terminal that should serve them."""
    o = tables.outbox
    waiting = select(o.c.destination).where(o.c.done_at.is_(None), o.c.kind == "reversal").distinct()
    return frozenset(connection.execute(waiting).scalars())


def _is_stored(tx: Transaction, row: Row) -> bool:
    return bool(attempt_row(tx, row.attempt_id).state == AttemptState.STORED)


def _still_waits(tx: Transaction, row: Row) -> bool:
    return tx.first(_WAITING, id=row.id) is not None
