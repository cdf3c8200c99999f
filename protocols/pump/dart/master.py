"""Controller's end of a DART bus, without I/O and without a clock.

Theory of operation
-------------------
Calls and events are those of `protocols.pump.bus`.

One frame is under way at a time. It is a poll, answered by EOT or by a data block, or a data block of ours, answered by
ACK or NAK; the result of a command comes with a later poll. Whatever else arrives is `Stray` and changes nothing: an
answer of another side, one that comes too late, the echo of an adapter. When the answer does not come the bus goes on.
A block of a side can be the same bytes as one of ours: it is then taken for an echo, and read when it comes again.

- *Turns*: blocks, polls of sides that were sent a block, and all other polls take turns, so that a command on a bus of
  32 sides waits for a frame or two and not for a round. Polls go round robin; among blocks a stop goes first, then what
  was begun, then the oldest command: of many at once some are served in time, and not all too late.
- *Presence*: a side is `Offline` after some polls in a row without an answer, one that was never heard after the first.
  Such sides share one poll now and then, so that a row of dead sides does not slow the others. At its first answer a
  side is `Online`.
- *Numbers (TX#)*: ours go 1 to F and again to 1. A block without an answer is repeated with its number, which the side
  takes for the same block. 0 starts anew: after `Online`, after a NAK, after a restart of the side, and when a command
  ends whose block was sent and not answered, since the side may have it and would take the next block with its number
  for its repetition. A side acts on every 0, so such a block is never anything but *return status*; what waits follows
  with 1.
- *Blocks of the side*: the same bytes as in the block before are a `Repeated` one, whose ACK was lost: acknowledged,
  not read again. One whose check is right and whose content does not fit is acknowledged, too: it would not fit again.
  Any other bytes are news, whatever their number, so that both ways of counting (F to 1, F to 0) and a side that starts
  anew are understood. After a 0 our numbers start anew, too, and a command under way ends: the side may have lost
  power, or count F to 0. Other bytes with a 0 after any number but F are a side that `Restarted`.
- *Commands*: the steps of a command are sent in their order, each after the ACK of the one before; only the last one
  acts. Between two steps, and before a step is repeated, a poll must have been answered: a side that lost power has
  forgotten the steps before, the poll tells, and the command ends. It ends in a `Done` with its outcome, at the latest
  when its time has passed: an authorisation that could not be sent is not sent later. A step that acts and got first no
  answer and then a NAK is not sent again under another number, its outcome is unknown. `Stop` ends all other commands
  of its side first.

Limits of the protocol that no master can lift: ACK has no check. A NAK that noise turns into an ACK with the very
number makes a refused preset look accepted (parity finds one wrong bit; this takes two in one byte).
"""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

from protocols.bad_frame import BadFrame
from protocols.errors import LocalProtocolError, RemoteProtocolError
from protocols.pump.bus import (
    COMMANDS_MAX,
    Done,
    Event,
    LineFormat,
    Offline,
    Online,
    Output,
    Parity,
    Repeated,
    Restarted,
    Stray,
    Ticket,
    Told,
    Unreadable,
)
from protocols.pump.dart import framing, layout
from protocols.pump.dart.framing import ADDRESSES, Control, Deframer, Frame
from protocols.pump.dart.layout import Sender
from protocols.pump.dart.meanings import OrderCode
from protocols.pump.dart.readings import readings, steps
from protocols.pump.types import Command, Decimals, Outcome, SideId, Stop

NUMBER_FIRST: Final = 1
USUAL_LINE: Final = LineFormat(9_600, Parity.ODD)
"""Some buses run at 19200."""


@dataclass(frozen=True, slots=True)
class Timing:
    """Time limits and counts of a bus."""

    line: LineFormat = USUAL_LINE
    answer_ms: int = 100
    """First byte of an answer. A side has 25 ms; known masters wait 50 to 100, since adapters add their own."""
    gap_ms: int = 40
    """Silence inside a frame; adapters hand over bytes every 16 ms."""
    frame_ms: int = 400
    """Whole answer; the longest known takes 80 ms."""
    turn_ms: int = 5
    """Pause after an answer, so that the line can turn round."""
    poll_ms: int = 150
    """From one poll of a side to the next."""
    offline_poll_ms: int = 500
    """From one poll of a side that does not answer to the next of any such side: each costs the others `answer_ms`."""
    misses_max: int = 3
    """Polls in a row without an answer after which a side is offline. Known masters take 2 to 5; a side may stay silent
    once while its state changes."""
    tries_max: int = 3
    """Sendings of one block without an answer."""
    repeat_ms: int = 600
    """From the first sending of a block to its last: an order is not repeated long after it was meant."""
    naks_max: int = 3
    """Refusals of one command, or of one block of a side in a row."""
    command_ms: int = 3_000
    """Time for a command from `ask` to its last ACK."""


@dataclass(slots=True)
class _Job:
    """A command under way."""

    ticket: Ticket
    command: Command
    steps: tuple[layout.ToPump, ...]
    expires: float
    done: int = 0
    """Steps accepted."""
    tries: int = 0
    """Sendings of the present step under the present number."""
    first_at: float = 0.0
    """Time of the first of these."""
    naks: int = 0
    begun: bool = False
    acted: bool = False
    """The step that acts was sent."""

    @property
    def acts(self) -> bool:
        """True when the present step is the one that acts."""
        return self.done == len(self.steps) - 1

    def given_up(self) -> Outcome:
        """Outcome when it ends without an ACK of its last step and without a refusal."""
        return Outcome.UNKNOWN if self.acted else Outcome.NOT_SENT


@dataclass(slots=True)
class _Side:
    side: SideId
    decimals: Decimals
    poll_at: float
    online: bool | None = None
    heard_at: float | None = None
    misses: int = 0
    number: int | None = None
    """Number of our last block accepted; None: start anew with 0."""
    start_at: float = 0.0
    """Earliest time of the next start with 0."""
    last: Frame | None = None
    """Last data block of the side."""
    naks_sent: int = 0
    unconfirmed: bool = False
    """True after a block to it, until it answers a poll."""
    acked_until: float = 0.0
    """Time until which the side's ACK would be taken for the echo of ours."""
    jobs: deque[_Job] = field(default_factory=deque)

    def block_at(self) -> float | None:
        """Time from which a block can be sent; None when there is none."""
        if not self.online:
            return None
        if self.number is not None and not self.jobs:
            return None
        if self.number is not None and self.unconfirmed and self.jobs[0].begun:
            return None
        number = 0 if self.number is None else _after(self.number)
        at = self.start_at if self.number is None else 0.0
        return max(at, self.acked_until) if self.last is not None and self.last.number == number else at

    def urgency(self) -> tuple[bool, bool, int]:
        """Rank of its block among those that can be sent: a stop, a command begun, the oldest."""
        if not self.jobs:
            return (True, True, 0)
        job = self.jobs[0]
        return (not isinstance(job.command, Stop), not job.begun, job.ticket)


@dataclass(slots=True)
class _Waiting:
    """The frame under way."""

    side: _Side
    due: float
    limit: float
    block: int | None = None
    """Number of our data block; None after a poll or a NAK of ours."""
    job: _Job | None = None
    """Command of the block; None when it only starts anew. It may have ended meanwhile."""


class Master:
    """One bus. A new connection needs a new master: nothing is known of the sides then."""

    def __init__(self, sides: Mapping[SideId, Decimals], timing: Timing | None = None, *, now: float) -> None:
        """`sides`: addresses 50 to 6F, each with the decimals of its pump."""
        odd = [side for side in sides if side not in ADDRESSES]
        if odd or not sides:
            raise LocalProtocolError(f"addresses {odd} are none of 50 to 6F", field="sides", clause=framing.CLAUSE)
        self.timing = Timing() if timing is None else timing
        self._sides = {side: _Side(side, decimals, now) for side, decimals in sides.items()}
        self._deframer = Deframer()
        self._waiting: _Waiting | None = None
        self._quiet_until = now
        self._offline_poll_at = now
        self._turn_next = 0
        self._polled = deque(self._sides.values())
        self._tickets: Iterator[int] = itertools.count(1)
        self._events: list[Event] = []
        self._said: deque[tuple[bytes, float]] = deque()  # frames of ours, and until when their echo may come

    # --- calls ----------------------------------------------------------------------------------------------------

    def ask(self, side: SideId, command: Command, now: float) -> Ticket:
        """Take a command for a side; ask `next_tick` after it. Raises LocalProtocolError for what cannot be said."""
        at = self._sides.get(side)
        if at is None:
            raise LocalProtocolError(f"side {side:02X} is not on this bus", field="side")
        expires = now + self.timing.command_ms / 1000
        job = _Job(Ticket(next(self._tickets)), command, steps(command, at.decimals), expires)
        if isinstance(command, Stop):
            for other in tuple(at.jobs):
                self._finish(at, other, other.given_up())
        elif len(at.jobs) >= COMMANDS_MAX:
            raise LocalProtocolError(f"{COMMANDS_MAX} commands wait at side {side:02X} already", field="side")
        at.jobs.append(job)
        return job.ticket

    def withdraw(self, ticket: Ticket) -> None:
        """End a command that nobody waits for: nothing more of it is sent, and its `Done` says what is known. One that
        has ended stays as it is."""
        for side in self._sides.values():
            for job in tuple(side.jobs):
                if job.ticket == ticket:
                    self._finish(side, job, job.given_up())

    def receive(self, data: bytes, now: float) -> Output:
        """Take bytes read from the bus, in pieces of any size."""
        to_write = bytearray()
        for found in self._deframer.push(data):
            if isinstance(found, BadFrame):
                to_write += self._take_bad(found, now)
            else:
                to_write += self._take(found, now)
        waiting = self._waiting
        if data and waiting is not None and self._deframer.pending:
            waiting.due = min(waiting.limit, max(waiting.due, now + self.timing.gap_ms / 1000))
        return self._output(bytes(to_write))

    def tick(self, now: float) -> Output:
        """Do what time asks for: give an answer up, end a command, send the next frame."""
        if self._waiting is not None and now >= self._waiting.due:
            self._miss(self._waiting, now)
        for side in self._sides.values():
            for job in tuple(side.jobs):
                if now >= job.expires:
                    self._finish(side, job, job.given_up())
        if self._waiting is None and now >= self._quiet_until:
            return self._output(self._next_frame(now))
        return self._output(b"")

    def next_tick(self, now: float) -> float:
        """Time at which `tick` has something to do (monotonic seconds)."""
        if self._events:
            return now
        sides = self._sides.values()
        times = [job.expires for side in sides for job in side.jobs]
        if self._waiting is not None:
            return min([self._waiting.due, *times])
        due = [self._poll_at(side) for side in sides] + [at for side in sides if (at := side.block_at()) is not None]
        return max(now, min([max(self._quiet_until, min(due)), *times]))

    # --- sending --------------------------------------------------------------------------------------------------

    def _output(self, to_write: bytes) -> Output:
        events = tuple(self._events)
        self._events.clear()
        return Output(events, to_write)

    def _next_frame(self, now: float) -> bytes:
        """The next frame that is due: a block, a poll that confirms a step, any poll, each kind in its turn."""
        blocks = [side for side in self._sides.values() if (at := side.block_at()) is not None and at <= now]
        block = min(blocks, key=_Side.urgency, default=None)
        due = [side for side in self._polled if self._poll_at(side) <= now]
        confirm = next((side for side in due if side.unconfirmed), None)
        turns = (block, confirm, due[0] if due else None)
        for turn in (*range(self._turn_next, len(turns)), *range(self._turn_next)):
            side = turns[turn]
            if side is None:
                continue
            self._turn_next = (turn + 1) % len(turns)
            if turn == 0:
                return self._send_block(side, now)
            self._polled.remove(side)
            self._polled.append(side)
            if side.online is False:
                self._offline_poll_at = now + self.timing.offline_poll_ms / 1000
            side.poll_at = now + self.timing.poll_ms / 1000
            return self._send(side, framing.control_frame(side.side, Control.POLL), now)
        return b""

    def _poll_at(self, side: _Side) -> float:
        """Time of the next poll of this side."""
        return self._offline_poll_at if side.online is False else side.poll_at

    def _send_block(self, side: _Side, now: float) -> bytes:
        if side.number is None:
            side.start_at = now + self.timing.poll_ms / 1000
            data = layout.write(layout.Order(OrderCode.RETURN_STATUS))
            return self._send(side, framing.data_frame(side.side, 0, data), now, block=0)
        job = side.jobs[0]
        job.first_at = now if job.tries == 0 else job.first_at
        job.tries += 1
        job.begun = True
        job.acted = job.acted or job.acts
        number = _after(side.number)
        raw = framing.data_frame(side.side, number, layout.write(job.steps[job.done]))
        return self._send(side, raw, now, block=number, job=job)

    def _send(self, side: _Side, raw: bytes, now: float, *, block: int | None = None, job: _Job | None = None) -> bytes:
        self._events += self._deframer.flush()
        due = self._say(raw, now)
        self._waiting = _Waiting(side, due, due + self.timing.frame_ms / 1000, block, job)
        return raw

    def _say(self, raw: bytes, now: float) -> float:
        """Note a frame that is written now. Gives the time until which an answer, or its echo, may begin."""
        until = now + self.timing.line.seconds(raw) + self.timing.answer_ms / 1000
        self._said.append((raw, until))
        return until

    def _turn(self, now: float) -> None:
        """End of a turn: the line may be used again after a pause."""
        self._waiting = None
        self._quiet_until = now + self.timing.turn_ms / 1000

    # --- receiving ------------------------------------------------------------------------------------------------

    def _take(self, frame: Frame, now: float) -> bytes:
        waiting = self._waiting
        while self._said and self._said[0][1] < now:
            self._said.popleft()
        if any(frame.raw == raw for raw, _ in self._said):
            self._events.append(Stray(frame.raw, "as we said it just now: an echo"))
            return b""
        if waiting is None or frame.address != waiting.side.side:
            self._events.append(Stray(frame.raw, "nobody waits for this side: an answer too late, or two ends at once"))
            return b""
        if frame.control in (Control.POLL, Control.ACKPOLL):
            self._events.append(Stray(frame.raw, "only a master says this: a second controller on the bus"))
            return b""
        if waiting.block is None:
            return self._take_answer_to_poll(waiting.side, frame, now)
        return self._take_answer_to_block(waiting, frame, now)

    def _take_answer_to_poll(self, side: _Side, frame: Frame, now: float) -> bytes:
        if frame.control is Control.EOT:
            self._heard(side, now)
            side.unconfirmed = False
            self._turn(now)
            return b""
        if frame.control is not Control.DATA:
            self._events.append(Stray(frame.raw, "no answer to a poll"))
            return b""
        self._heard(side, now)
        self._read_block(side, frame, now)
        side.unconfirmed = False
        side.naks_sent = 0
        side.poll_at = now  # it may have more to say
        ack = framing.control_frame(side.side, Control.ACK, frame.number)
        self._turn(now + self.timing.line.seconds(ack))
        side.acked_until = self._say(ack, now)
        return ack

    def _read_block(self, side: _Side, frame: Frame, now: float) -> None:
        last, side.last = side.last, frame
        if frame.number == 0 and last is not None:
            # It may have lost power, and what it was told before, even if these are the bytes of its first block again.
            self._end_begun(side)
            self._start_anew(side, now)
        if last is not None and frame.raw == last.raw:
            self._events.append(Repeated(side.side, frame.raw))
            return
        if frame.number == 0 and last is not None and last.number != framing.NUMBERS_MAX:
            self._events.append(Restarted(side.side))
        try:
            found = layout.read(frame.data, Sender.PUMP)
        except RemoteProtocolError as error:
            self._events.append(Unreadable(side.side, error, frame.raw))
            return
        self._events.append(Told(side.side, readings(found, side.decimals), now, frame.raw, found))

    def _take_answer_to_block(self, waiting: _Waiting, frame: Frame, now: float) -> bytes:
        side = waiting.side
        if frame.control is Control.ACK and frame.number == waiting.block:
            self._heard(side, now)
            side.poll_at = now
            self._turn(now)
            self._accepted(waiting)
        elif frame.control is Control.NAK:
            self._heard(side, now)
            self._turn(now)
            self._start_anew(side, now)
            if waiting.job in side.jobs:
                self._refused(side, side.jobs[0])
        else:
            # A data block here is the echo of ours, or an answer to the poll before: it comes again if it is news.
            self._events.append(Stray(frame.raw, f"no answer to block {waiting.block}"))
        return b""

    def _accepted(self, waiting: _Waiting) -> None:
        side, job = waiting.side, waiting.job
        side.unconfirmed = True
        if job is None or side.number is not None:
            side.number = waiting.block
        if job is not None and job in side.jobs:
            job.tries = 0
            job.done += 1
            if job.done == len(job.steps):
                self._finish(side, job, Outcome.ACCEPTED)

    def _refused(self, side: _Side, job: _Job) -> None:
        job.naks += 1
        if job.acts and job.tries > 1:
            self._finish(side, job, Outcome.UNKNOWN)
        elif job.naks > self.timing.naks_max:
            self._finish(side, job, Outcome.REFUSED)
        job.tries = 0

    def _start_anew(self, side: _Side, now: float) -> None:
        if side.number is not None:
            side.number = None
            side.start_at = now

    def _take_bad(self, found: BadFrame, now: float) -> bytes:
        """Ask for a block again whose check is wrong, when it is the one waited for."""
        self._events.append(found)
        waiting = self._waiting
        if waiting is None or waiting.block is not None:
            return b""
        side = waiting.side
        number = framing.number_in(found, side.side)
        if number is None or side.naks_sent >= self.timing.naks_max:
            return b""
        side.naks_sent += 1
        return self._send(side, framing.control_frame(side.side, Control.NAK, number), now)

    # --- presence -------------------------------------------------------------------------------------------------

    def _heard(self, side: _Side, now: float) -> None:
        side.misses = 0
        side.heard_at = now
        if not side.online:
            side.online = True
            side.number = None
            side.start_at = now
            self._events.append(Online(side.side, now))

    def _miss(self, waiting: _Waiting, now: float) -> None:
        """No answer came."""
        self._events += self._deframer.flush()
        self._turn(now)
        side, job = waiting.side, waiting.job
        side.naks_sent = 0
        if waiting.block is not None:
            side.unconfirmed = True
            if job is not None and job in side.jobs and self._spent(job, now):
                self._finish(side, job, job.given_up())
                self._start_anew(side, now)
            return
        side.misses += 1
        if side.misses >= self.timing.misses_max or side.online is None:
            side.last = None
            self._end_begun(side)
            if side.online is not False:
                side.online = False
                self._events.append(Offline(side.side, side.heard_at))

    def _spent(self, job: _Job, now: float) -> bool:
        """True when a block that got no answer is not to be repeated."""
        late = now - job.first_at > self.timing.repeat_ms / 1000
        return job.tries >= self.timing.tries_max or late

    def _end_begun(self, side: _Side) -> None:
        """End a command some of whose steps the side may have forgotten."""
        for job in tuple(side.jobs):
            if job.begun:
                self._finish(side, job, job.given_up())

    def _finish(self, side: _Side, job: _Job, outcome: Outcome) -> None:
        side.jobs.remove(job)
        if job.tries:
            side.number = None
        self._events.append(Done(job.ticket, side.side, job.command, outcome))


def _after(number: int) -> int:
    """Number of the block after this one: F is followed by 1."""
    return number % framing.NUMBERS_MAX + NUMBER_FIRST
