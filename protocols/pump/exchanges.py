"""Controller's end of pump links that know neither numbers nor acknowledgements, without I/O and without a clock.

Theory of operation
-------------------
Every message of ours is a `Request`. Some have an answer, whose end its own bytes tell; some have none, and only the
state of the side proves that they were taken. A `Dialect` says which requests ask for the state and make up a command,
and reads answers; it is data and pure functions. One request is under way at a time. Calls and events are those of
`protocols.pump.bus`.

- *Polls* ask each side for its state, round robin. A side is `Offline` after some without an answer, one that was never
  heard after the first; such sides share one poll now and then.
- *Commands*: requests in their order. `needs` names the states in which a request makes sense: it is sent only after a
  poll that just found one of them, or directly after the request it belongs to (`then_at_once`). `proof` names the
  states that show that it was taken: they are polled for, for a while. Without a proof the outcome is *unknown*.
- *Repetition*: a request is repeated when its answer does not come. A permission is a request without an answer, so it
  is given once; a stop is said again while the state does not show it (`insists`).
- *Late bytes*: everything that came before a request is dropped when it is sent.
"""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from protocols.errors import LocalProtocolError, RemoteProtocolError
from protocols.pump.bus import COMMANDS_MAX, Done, Event, LineFormat, Offline, Online, Output, Ticket, Told, Unreadable
from protocols.pump.types import Command, Decimals, Outcome, Reading, SideId, SideState, StateSeen, Stop

ANY_STATE: frozenset[SideState] = frozenset(SideState)
NO_PROOF: frozenset[SideState] = frozenset()
RECEIVED_MAX = 1024
"""Bytes of one answer kept; the longest known, totals of eight nozzles, has 244."""


@dataclass(frozen=True, slots=True)
class Answer:
    """Whole answer, found in received bytes."""

    raw: bytes
    readings: tuple[Reading, ...] = ()


Find = Callable[[bytes], Answer | None]
"""Finds the answer in the bytes since the request; None while it is not all there. Raises RemoteProtocolError for one
whose content does not fit."""


@dataclass(frozen=True, slots=True)
class Request:
    """One message of ours."""

    raw: bytes
    find: Find | None
    """None: it has no answer."""
    acts: bool = False
    needs: frozenset[SideState] = ANY_STATE
    proof: frozenset[SideState] = NO_PROOF
    """Empty: its answer, or that it was sent, is enough."""
    insists: bool = False
    """Sent again while the state does not prove it: to act twice does no harm."""
    pause_ms: int = 0
    """Time that the side wants before the next message."""
    then_at_once: bool = False
    """The next request follows its answer directly, with no poll between: the side waits for it."""


@dataclass(frozen=True, slots=True)
class Timing:
    """Time limits and counts of a link."""

    line: LineFormat
    answer_ms: int
    """First byte of an answer."""
    gap_ms: int
    """Silence inside an answer."""
    poll_ms: int
    pause_ms: int = 10
    """From one message to the next."""
    offline_poll_ms: int = 500
    """From one poll of a side that does not answer to the next of any such side: each costs the others `answer_ms`."""
    misses_max: int = 3
    tries_max: int = 3
    proof_ms: int = 2_000
    """Time for a state to show that a request was taken."""
    command_ms: int = 5_000


class Dialect(Protocol):
    """A protocol of this kind."""

    name: str
    sides: range
    """Numbers a side can have."""
    timing: Timing

    def poll(self, side: SideId, decimals: Decimals) -> Request:
        """Question for the state."""

    def requests(
        self, side: SideId, command: Command, decimals: Decimals, state: SideState | None
    ) -> tuple[Request, ...]:
        """A command as requests. Raises LocalProtocolError for what the protocol cannot say."""


@dataclass(slots=True)
class _Job:
    ticket: Ticket
    command: Command
    requests: tuple[Request, ...]
    expires: float
    done: int = 0
    tries: int = 0
    acted: bool = False
    proof_until: float | None = None
    """Time until which a state may prove the request sent last."""

    def given_up(self) -> Outcome:
        return Outcome.UNKNOWN if self.acted else Outcome.NOT_SENT


@dataclass(slots=True)
class _Side:
    side: SideId
    decimals: Decimals
    poll_at: float
    online: bool | None = None
    heard_at: float | None = None
    misses: int = 0
    state: SideState | None = None
    fresh: bool = False
    """The state was polled, and nothing sent to the side since."""
    awaits_more: bool = False
    """True while it waits for the rest of what was begun."""
    jobs: deque[_Job] = field(default_factory=deque)


@dataclass(slots=True)
class _Waiting:
    side: _Side
    request: Request
    job: _Job | None
    due: float


class ExchangeMaster:
    """One link with its sides."""

    def __init__(self, dialect: Dialect, sides: Mapping[SideId, Decimals], *, now: float) -> None:
        """`sides`: numbers of the dialect, each with the decimals of its pump."""
        odd = [side for side in sides if side not in dialect.sides]
        if odd or not sides:
            raise LocalProtocolError(f"{dialect.name} has no sides {odd}", field="sides")
        self._dialect = dialect
        self._timing = dialect.timing
        self._sides = {side: _Side(side, decimals, now) for side, decimals in sides.items()}
        self._turns = deque(self._sides.values())
        self._waiting: _Waiting | None = None
        self._quiet_until = now
        self._offline_poll_at = now
        self._received = bytearray()
        self._tickets: Iterator[int] = itertools.count(1)
        self._events: list[Event] = []

    # --- calls ----------------------------------------------------------------------------------------------------

    def ask(self, side: SideId, command: Command, now: float) -> Ticket:
        """Take a command for a side; ask `next_tick` after it. Raises LocalProtocolError for what cannot be said."""
        at = self._sides.get(side)
        if at is None:
            raise LocalProtocolError(f"side {side} is not on this link", field="side")
        requests = self._dialect.requests(side, command, at.decimals, at.state)
        job = _Job(Ticket(next(self._tickets)), command, requests, now + self._timing.command_ms / 1000)
        if isinstance(command, Stop):
            for other in tuple(at.jobs):
                self._finish(at, other, other.given_up())
        elif len(at.jobs) >= COMMANDS_MAX:
            raise LocalProtocolError(f"{COMMANDS_MAX} commands wait at side {side} already", field="side")
        at.jobs.append(job)
        at.poll_at = min(at.poll_at, now)
        if not requests:
            self._finish(at, job, Outcome.ACCEPTED)  # there is nothing to say for it
        return job.ticket

    def withdraw(self, ticket: Ticket) -> None:
        """End a command that nobody waits for: nothing more of it is sent, and its `Done` says what is known. One that
        has ended stays as it is."""
        for side in self._sides.values():
            for job in tuple(side.jobs):
                if job.ticket == ticket:
                    self._finish(side, job, job.given_up())

    def receive(self, data: bytes, now: float) -> Output:
        """Take bytes read from the link, in pieces of any size."""
        waiting = self._waiting
        if waiting is None or waiting.request.find is None:
            return self._output(b"")  # nobody waits: noise, or an answer too late
        self._received = (self._received + data)[-RECEIVED_MAX:]
        try:
            answer = waiting.request.find(bytes(self._received))
        except RemoteProtocolError as error:
            self._events.append(Unreadable(waiting.side.side, error, bytes(self._received)))
            self._heard(waiting.side, now)
            self._end_wait(waiting, now)
            self._no_answer(waiting)
            return self._output(b"")
        if answer is not None:
            self._take(waiting, answer, now)
        elif data:
            waiting.due = max(waiting.due, now + self._timing.gap_ms / 1000)
        return self._output(b"")

    def tick(self, now: float) -> Output:
        """Do what time asks for: give an answer up, end a command, send the next message."""
        waiting = self._waiting
        if waiting is not None and now >= waiting.due:
            self._end_wait(waiting, now)
            if waiting.request.find is None:
                self._taken(waiting, now)
            else:
                self._miss(waiting, now)
        for side in self._sides.values():
            for job in tuple(side.jobs):
                late = job.proof_until is not None and now >= job.proof_until
                if late or now >= job.expires:
                    self._finish(side, job, job.given_up())
        if self._waiting is None and now >= self._quiet_until:
            return self._output(self._next_message(now))
        return self._output(b"")

    def next_tick(self, now: float) -> float:
        """Time at which `tick` has something to do (monotonic seconds)."""
        if self._events:
            return now
        jobs = [job for side in self._sides.values() for job in side.jobs]
        times = [job.expires for job in jobs] + [job.proof_until for job in jobs if job.proof_until is not None]
        if self._waiting is not None:
            return min([self._waiting.due, *times])
        due = [now if _ready(side) is not None else self._poll_at(side) for side in self._sides.values()]
        return max(now, min([max(self._quiet_until, min(due)), *times]))

    # --- sending --------------------------------------------------------------------------------------------------

    def _output(self, to_write: bytes) -> Output:
        events = tuple(self._events)
        self._events.clear()
        return Output(events, to_write)

    def _next_message(self, now: float) -> bytes:
        turns = [side for side in self._turns if side.awaits_more] or tuple(self._turns)
        for side in turns:
            job = _ready(side)
            if job is None and self._poll_at(side) > now:
                continue
            self._turns.remove(side)
            self._turns.append(side)
            side.awaits_more = False
            if job is None:
                if side.online is False:
                    self._offline_poll_at = now + self._timing.offline_poll_ms / 1000
                return self._send(side, self._dialect.poll(side.side, side.decimals), None, now)
            request = job.requests[job.done]
            if side.state not in request.needs:
                self._finish(side, job, job.given_up())
                return b""
            job.tries += 1
            job.acted = job.acted or request.acts
            return self._send(side, request, job, now)
        return b""

    def _poll_at(self, side: _Side) -> float:
        """Time of the next poll of this side."""
        return self._offline_poll_at if side.online is False else side.poll_at

    def _send(self, side: _Side, request: Request, job: _Job | None, now: float) -> bytes:
        self._received.clear()
        wait_ms = request.pause_ms if request.find is None else self._timing.answer_ms
        self._waiting = _Waiting(side, request, job, now + self._timing.line.seconds(request.raw) + wait_ms / 1000)
        side.fresh = False
        side.poll_at = now
        return request.raw

    def _end_wait(self, waiting: _Waiting, now: float) -> None:
        self._waiting = None
        pause_ms = self._timing.pause_ms
        if waiting.request.find is not None:
            pause_ms = max(pause_ms, waiting.request.pause_ms)
        self._quiet_until = now + pause_ms / 1000

    # --- answers --------------------------------------------------------------------------------------------------

    def _take(self, waiting: _Waiting, answer: Answer, now: float) -> None:
        side = waiting.side
        self._heard(side, now)
        self._end_wait(waiting, now)
        self._events.append(Told(side.side, answer.readings, now, answer.raw))
        for reading in answer.readings:
            if isinstance(reading, StateSeen):
                side.state = reading.state
                side.fresh = True
        if waiting.job is not None:
            self._taken(waiting, now)
            return
        side.poll_at = now + self._timing.poll_ms / 1000
        job = side.jobs[0] if side.jobs else None
        if job is None or job.proof_until is None:
            return
        request = job.requests[job.done]
        if side.state in request.proof:
            self._step(side, job)
        elif request.insists and job.tries < self._timing.tries_max:
            job.proof_until = None

    def _taken(self, waiting: _Waiting, now: float) -> None:
        """A request has its answer, or was sent and has none."""
        side, job = waiting.side, waiting.job
        if job is None or job not in side.jobs:
            return
        side.fresh = side.awaits_more = waiting.request.then_at_once
        if waiting.request.proof:
            job.proof_until = now + self._timing.proof_ms / 1000
        else:
            self._step(side, job)

    def _step(self, side: _Side, job: _Job) -> None:
        job.proof_until = None
        job.tries = 0
        job.done += 1
        if job.done == len(job.requests):
            self._finish(side, job, Outcome.ACCEPTED)

    def _heard(self, side: _Side, now: float) -> None:
        side.misses = 0
        side.heard_at = now
        if not side.online:
            side.online = True
            self._events.append(Online(side.side, now))

    def _miss(self, waiting: _Waiting, now: float) -> None:
        side = waiting.side
        if waiting.job is not None:
            self._no_answer(waiting)
            return
        side.misses += 1
        side.poll_at = now + self._timing.poll_ms / 1000
        if side.misses >= self._timing.misses_max or side.online is None:
            side.state = None
            if side.online is not False:
                side.online = False
                self._events.append(Offline(side.side, side.heard_at))

    def _no_answer(self, waiting: _Waiting) -> None:
        """A request of a command got no answer that can be read: repeat it later, or give the command up."""
        side, job = waiting.side, waiting.job
        if job is None or job not in side.jobs:
            return
        if job.tries >= self._timing.tries_max:
            self._finish(side, job, job.given_up())

    def _finish(self, side: _Side, job: _Job, outcome: Outcome) -> None:
        side.jobs.remove(job)
        self._events.append(Done(job.ticket, side.side, job.command, outcome))


def _ready(side: _Side) -> _Job | None:
    """The command whose next request can be sent: the state was just polled, and no proof is waited for."""
    if not (side.online and side.fresh and side.jobs) or side.jobs[0].proof_until is not None:
        return None
    return side.jobs[0]
