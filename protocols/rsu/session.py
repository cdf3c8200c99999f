"""One end of a conversation between a lane computer and an antenna, without I/O and without a clock.

Theory of operation
-------------------
The owner hands over what it read (`receive`), what it wants sent (`send`) and the passing of time (`tick`, when
`next_tick` says so). Each of the three gives an `Output`: events to act on and bytes to write, in that order of
importance: the bytes are always to be written, also when there are no events. `now` is monotonic seconds and never
runs backwards.

The session does what both ends of every dialect need and nothing about money or vehicles:

- *Framing*: bytes become frames; what is no frame becomes `BadBytes`. When the line has been quiet for
  `Timing.gap_ms`, complete frames after an unfinished one are read too.
- *Repetition, sending*: a message the rules call a request is repeated until an answer to it comes, then given up
  (`Unanswered`). One request may wait for each OBU, so vehicles that are interleaved do not disturb each other.
  An answer is known by its type and its OBU, whatever counter its sender uses; an answer about no OBU is known by SEQ.
- *Repetition, receiving*: a frame with the same type, OBU, SEQ and content as a recent one is a `Duplicate`. Its
  answer, if there was one, is written again byte for byte and the owner is not asked: a B4 that comes twice is answered
  twice by the same C6, never by a second purchase. Same SEQ with other content is news: the counter has come round.
  An answer that asks for the frame once more (C2 02) makes the next copy news too.
- *Power-up*: where a dialect marks the first frame after power-up by its number, that frame is `PeerRestarted` and
  answers nothing: a command waiting for its like is written again at once.
- *Heartbeats*: sent when the owner gives a maker of them, answered when the rules say so, missed with `Silent`.

What a side sends, expects, answers and repeats stands in the dialect's `SideRules`; nothing here asks which side it is.
The three small machines are tables below: the peer (`PEER_TABLE`), a request of ours (`REQUEST_TABLE`) and a report
of the peer (`REPORT_TABLE`).
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from types import MappingProxyType

from protocols.bad_frame import BadFrame
from protocols.errors import PREFIX_BYTES_MAX, LocalProtocolError, RemoteProtocolError
from protocols.rsu.dialect import DEFAULT_TIMING, Dialect, Pace, Request, Side, Timing
from protocols.rsu.framing import Frame, FrameEvent
from protocols.rsu.messages import Message

__all__ = [
    "DEFAULT_TIMING",
    "BadBytes",
    "Duplicate",
    "Event",
    "Output",
    "Peer",
    "PeerBack",
    "PeerRestarted",
    "Received",
    "Session",
    "Side",
    "Silent",
    "Timing",
    "Unanswered",
]

OUTSTANDING_MAX = 32
"""Requests that wait for an answer at once: one an OBU, and an antenna's zone holds a handful of vehicles."""
REPORTS_MAX = 64
"""Frames remembered for duplicates. SEQ has 9 values; the rest is room for types and OBUs that share one."""


@dataclass(frozen=True, slots=True)
class Received:
    """A message that is news. `at` is monotonic seconds; `answers` is our request that it answers, if it does."""

    message: Message
    seq: int
    at: float
    raw: bytes
    answers: Message | None = None


@dataclass(frozen=True, slots=True)
class Duplicate:
    """A frame seen before. `resent` is the cached answer, in `Output.to_write` already; `said` is its message."""

    message: Message
    seq: int
    raw: bytes
    resent: bytes | None
    said: Message | None


@dataclass(frozen=True, slots=True)
class Unanswered:
    """A request of ours given up after `tries` sendings."""

    message: Message
    tries: int


@dataclass(frozen=True, slots=True)
class Silent:
    """The peer has not been heard since `since` (monotonic seconds; of the first call when it never was)."""

    since: float


@dataclass(frozen=True, slots=True)
class PeerBack:
    """The peer is heard again after a `Silent`."""

    at: float


@dataclass(frozen=True, slots=True)
class BadBytes:
    """Bytes that are no frame, or a frame that is no message of the peer.

    `offset` counts from the first byte of the frame (its start mark), `position` is that byte's place in the stream,
    `data` is at most the first 16 bytes from there.
    """

    reason: str
    field: str | None
    offset: int | None
    data: bytes
    hint: str | None
    position: int = 0


@dataclass(frozen=True, slots=True)
class PeerRestarted:
    """Restart of the peer, told by a frame's number: just powered up, it must be told everything again.

    `received` is that frame; it answers nothing. When `repeated`, a command of ours that waited for such a frame has
    been written again; else the owner has to give it (C0) anew.
    """

    received: Received
    repeated: bool


Event = Received | Duplicate | Unanswered | Silent | PeerBack | PeerRestarted | BadBytes


@dataclass(frozen=True, slots=True)
class Output:
    """Result of a call: events in the order they happened, and bytes to write to the link now."""

    events: tuple[Event, ...] = ()
    to_write: bytes = b""


# --- the machines -------------------------------------------------------------------------------------------------


class Peer(Enum):
    """State of the peer."""

    UNHEARD = "unheard"
    HEARD = "heard"
    SILENT = "silent"


class PeerInput(Enum):
    """Input of `PEER_TABLE`."""

    FRAME = "frame"
    QUIET = "quiet"


PEER_TABLE: Mapping[tuple[Peer, PeerInput], tuple[Peer, type[Silent] | type[PeerBack] | None]] = MappingProxyType(
    {
        (Peer.UNHEARD, PeerInput.FRAME): (Peer.HEARD, None),
        (Peer.UNHEARD, PeerInput.QUIET): (Peer.SILENT, Silent),
        (Peer.HEARD, PeerInput.FRAME): (Peer.HEARD, None),
        (Peer.HEARD, PeerInput.QUIET): (Peer.SILENT, Silent),
        (Peer.SILENT, PeerInput.FRAME): (Peer.HEARD, PeerBack),
        (Peer.SILENT, PeerInput.QUIET): (Peer.SILENT, None),
    }
)
"""New state, and the event its change makes."""


class RequestState(Enum):
    """Life of a request of ours."""

    WAITING = "waiting"
    ANSWERED = "answered"
    GIVEN_UP = "given_up"


class RequestInput(Enum):
    """Input of `REQUEST_TABLE`."""

    DUE = "due"
    SPENT = "spent"
    ANSWER = "answer"


REQUEST_TABLE: Mapping[tuple[RequestState, RequestInput], RequestState] = MappingProxyType(
    {
        (RequestState.WAITING, RequestInput.DUE): RequestState.WAITING,
        (RequestState.WAITING, RequestInput.SPENT): RequestState.GIVEN_UP,
        (RequestState.WAITING, RequestInput.ANSWER): RequestState.ANSWERED,
    }
)
"""DUE sends it again, SPENT (due with no repetition left) makes `Unanswered`. The other two states are ends."""


class ReportState(Enum):
    """Life of a frame of the peer, while it is remembered."""

    OPEN = "open"
    ANSWERED = "answered"
    FORGOTTEN = "forgotten"


class ReportInput(Enum):
    """Input of `REPORT_TABLE`."""

    ANSWER = "answer"
    ASK_AGAIN = "ask_again"
    COPY = "copy"
    EXPIRE = "expire"


REPORT_TABLE: Mapping[tuple[ReportState, ReportInput], ReportState] = MappingProxyType(
    {
        (ReportState.OPEN, ReportInput.ANSWER): ReportState.ANSWERED,
        (ReportState.OPEN, ReportInput.ASK_AGAIN): ReportState.FORGOTTEN,
        (ReportState.OPEN, ReportInput.COPY): ReportState.OPEN,
        (ReportState.OPEN, ReportInput.EXPIRE): ReportState.FORGOTTEN,
        (ReportState.ANSWERED, ReportInput.ANSWER): ReportState.ANSWERED,
        (ReportState.ANSWERED, ReportInput.ASK_AGAIN): ReportState.FORGOTTEN,
        (ReportState.ANSWERED, ReportInput.COPY): ReportState.ANSWERED,
        (ReportState.ANSWERED, ReportInput.EXPIRE): ReportState.FORGOTTEN,
    }
)
"""COPY writes the cached answer again when ANSWERED; a second ANSWER replaces the cached one."""


@dataclass(slots=True)
class _Outstanding:
    """A request of ours that waits. `due` is monotonic seconds."""

    message: Message
    request: Request
    seq: int
    raw: bytes
    tries: int
    due: float
    state: RequestState = RequestState.WAITING


ReportKey = tuple[int, bytes, int]
"""Type, OBU, SEQ."""


@dataclass(slots=True)
class _Report:
    """A frame of the peer we remember. `index` counts the news before it."""

    raw: bytes
    expires: float
    index: int
    answer: bytes | None = None
    said: Message | None = None
    state: ReportState = ReportState.OPEN


class Session:
    """One end of one connection. A new connection needs a new session."""

    def __init__(
        self,
        dialect: Dialect,
        side: Side,
        timing: Timing | None = None,
        heartbeat: Callable[[], Message] | None = None,
        *,
        powered_up: bool = False,
    ) -> None:
        """`timing`: that of the dialect when None. `powered_up`: our first frame says so, where the dialect can."""
        self.dialect = dialect
        self.side = side
        self.timing = dialect.timing if timing is None else timing
        self._rules = dialect.rules[side]
        self._peer_rules = dialect.rules[side.peer]
        self._deframer = dialect.framing.deframer()
        first = self._rules.power_up_number
        start = () if first is None or not powered_up else (first,)
        self._numbers: Iterator[int] = itertools.chain(start, itertools.cycle(self._rules.numbers))
        self._outstanding: dict[bytes, _Outstanding] = {}
        self._reports: dict[ReportKey, _Report] = {}
        self._news = 0
        self._peer = Peer.UNHEARD
        self._heard_at: float | None = None
        self._look_at: float | None = None
        self._heartbeat = heartbeat
        self._beat_at: float | None = None

    @property
    def peer(self) -> Peer:
        """State of the peer."""
        return self._peer

    @property
    def outstanding(self) -> tuple[Message, ...]:
        """Requests of ours that wait for an answer, oldest first."""
        return tuple(waiting.message for waiting in self._outstanding.values())

    # --- calls ----------------------------------------------------------------------------------------------------

    def receive(self, data: bytes, now: float) -> Output:
        """Take bytes read from the link, in pieces of any size."""
        self._begin(now)
        events: list[Event] = []
        found = self._look_inside(now) + self._deframer.push(data)
        if data and self._deframer.unsettled:
            self._look_at = now + self.timing.gap_ms / 1000
        elif not self._deframer.unsettled:
            self._look_at = None
        return Output(to_write=self._take_all(found, now, events), events=tuple(events))

    def send(self, message: Message, now: float, *, answering: Received | None = None) -> Output:
        """Send `message`. `answering` gives it the SEQ of an answer and repeats it whenever that frame comes again.

        A request that is still waiting for the same OBU is replaced by the newer one.
        """
        self._begin(now)
        code = self.dialect.code_of(message)
        if code is not None and code not in self._rules.sends:
            raise LocalProtocolError(
                f"type {code:02X} is not sent by the {self.side.value} side",
                field="type",
                hint="check which side this session was made for",
            )
        request = self._rules.requests.get(code) if code is not None else None
        if request is not None and request.unless(message):
            request = None
        obu = self.dialect.obu_of(message)
        if request is not None and obu not in self._outstanding and len(self._outstanding) >= OUTSTANDING_MAX:
            raise LocalProtocolError(
                f"{OUTSTANDING_MAX} requests wait for an answer already", field="type", hint="wait, or drop an OBU"
            )
        data = self.dialect.encode(message)  # before a SEQ is used up: a message that cannot be said changes nothing
        seq = self._number_for(answering)
        raw = self.dialect.framing.wrap(seq, data)
        if answering is not None:
            # The peer will say the same again because of a power-up number: that is news, and gets the next number.
            again = self._rules.asks_again(message) or seq == self._rules.power_up_number
            self._remember_answer(answering, raw, message, again=again)
        if request is not None:
            self._outstanding.pop(obu, None)
            due = now + self._retry_s(request.pace)
            self._outstanding[obu] = _Outstanding(message, request, seq, raw, tries=1, due=due)
        return Output(to_write=raw)

    def tick(self, now: float) -> Output:
        """Do what time asks for: repetitions, heartbeats, silence, and frames hidden after an unfinished one."""
        self._begin(now)
        events: list[Event] = []
        to_write = bytearray(self._take_all(self._look_inside(now), now, events))
        for obu, waiting in list(self._outstanding.items()):
            if now >= waiting.due:
                to_write += self._repeat(obu, waiting, now, events)
        if self._heartbeat is not None and self._beat_at is not None and now >= self._beat_at:
            to_write += self.send(self._heartbeat(), now).to_write
            self._beat_at = now + self.timing.heartbeat_ms / 1000
        silent_at = self._silent_at()
        if silent_at is not None and now >= silent_at:
            self._feed_peer(PeerInput.QUIET, now, events)
        return Output(tuple(events), bytes(to_write))

    def next_tick(self, now: float) -> float | None:
        """Time at which `tick` has something to do (monotonic seconds); None when it never has."""
        self._begin(now)
        times = [waiting.due for waiting in self._outstanding.values()]
        times += [at for at in (self._look_at, self._beat_at, self._silent_at()) if at is not None]
        return min(times, default=None)

    # --- receiving ------------------------------------------------------------------------------------------------

    def _begin(self, now: float) -> None:
        """Start the clocks of silence and heartbeat at the first call."""
        if self._heard_at is None:
            self._heard_at = now
            if self._heartbeat is not None:
                self._beat_at = now + self.timing.heartbeat_ms / 1000

    def _look_inside(self, now: float) -> list[FrameEvent]:
        if self._look_at is None or now < self._look_at:
            return []
        self._look_at = None
        return self._deframer.flush()

    def _take_all(self, found: list[FrameEvent], now: float, events: list[Event]) -> bytes:
        to_write = bytearray()
        for item in found:
            if isinstance(item, BadFrame):
                events.append(BadBytes(item.problem, item.field, item.offset, item.data, item.hint, item.position))
            else:
                to_write += self._take(item, now, events)
        return bytes(to_write)

    def _take(self, frame: Frame, now: float, events: list[Event]) -> bytes:
        """One good frame: decode, check who may say it, recognise copies and answers. Gives bytes to write."""
        self._feed_peer(PeerInput.FRAME, now, events)
        try:
            message = self.dialect.decode(frame.data)
        except RemoteProtocolError as error:
            offset = frame.data_offset + (error.offset or 0)
            events.append(self._bad(frame, error.problem, error.field, offset, error.hint))
            return b""
        code = self.dialect.code_of(message)
        if code is None:  # a frame without DATA says nothing that could be repeated or answered
            events.append(Received(message, frame.seq, now, frame.raw, self._answered_by(message, code, frame.seq)))
            return b""
        if code not in self._peer_rules.sends:
            reason = f"type {code:02X} is not sent by the {self.side.peer.value} side"
            hint = "look for an echo on the line, or for two ends set to the same side"
            events.append(self._bad(frame, reason, "type", frame.data_offset, hint))
            return b""
        key = (code, self.dialect.obu_of(message), frame.seq)
        known = self._known_report(key, frame.raw, now)
        if known is not None:
            known.state = REPORT_TABLE[known.state, ReportInput.COPY]
            events.append(Duplicate(message, frame.seq, frame.raw, known.answer, known.said))
            return known.answer or b""
        self._remember_report(key, frame.raw, now)
        if frame.seq == self._peer_rules.power_up_number:
            return self._restarted(Received(message, frame.seq, now, frame.raw), code, now, events)
        received = Received(message, frame.seq, now, frame.raw, self._answered_by(message, code, frame.seq))
        events.append(received)
        automatic = self._rules.automatic.get(code)
        return b"" if automatic is None else self.send(automatic, now, answering=received).to_write

    def _restarted(self, received: Received, code: int, now: float, events: list[Event]) -> bytes:
        """Send again what waits for a frame like this one: the peer has just been powered up."""
        waiting = next((w for w in self._outstanding.values() if code in w.request.answers), None)
        events.append(PeerRestarted(received, repeated=waiting is not None))
        if waiting is None:
            return b""
        waiting.due = now + self._retry_s(waiting.request.pace)
        self._remember_answer(received, waiting.raw, waiting.message, again=False)
        return waiting.raw

    def _bad(self, frame: Frame, reason: str, field: str | None, offset: int, hint: str | None) -> BadBytes:
        return BadBytes(reason, field, offset, frame.raw[:PREFIX_BYTES_MAX], hint, frame.position)

    def _feed_peer(self, what: PeerInput, now: float, events: list[Event]) -> None:
        self._peer, event = PEER_TABLE[self._peer, what]
        if event is Silent:
            events.append(Silent(now if self._heard_at is None else self._heard_at))
        elif event is PeerBack:
            events.append(PeerBack(now))
        if what is PeerInput.FRAME:
            self._heard_at = now

    def _silent_at(self) -> float | None:
        """Time at which the peer will count as silent; None when it does already or need not be heard."""
        if not self._rules.hears_heartbeats or self._peer is Peer.SILENT or self._heard_at is None:
            return None
        return self._heard_at + self.timing.silence_ms / 1000

    # --- reports of the peer --------------------------------------------------------------------------------------

    def _known_report(self, key: ReportKey, raw: bytes, now: float) -> _Report | None:
        report = self._reports.get(key)
        if report is None or report.raw != raw:
            return None
        # With as many news since as there are numbers, the same SEQ has come round and means another frame.
        come_round = self._news - report.index >= len(self._peer_rules.numbers)
        if come_round or now >= report.expires:
            report.state = REPORT_TABLE[report.state, ReportInput.EXPIRE]
            del self._reports[key]
            return None
        return report

    def _remember_report(self, key: ReportKey, raw: bytes, now: float) -> None:
        self._reports.pop(key, None)
        while len(self._reports) >= REPORTS_MAX:
            del self._reports[next(iter(self._reports))]
        expires = now + self.timing.duplicate_window_ms / 1000
        self._reports[key] = _Report(raw, expires, self._news)
        self._news += 1

    def _remember_answer(self, answered: Received, raw: bytes, said: Message, *, again: bool) -> None:
        """Keep our answer for copies of the frame, or forget the frame when its next copy is to be news (`again`)."""
        code = self.dialect.code_of(answered.message)
        if code is None:
            return
        key = (code, self.dialect.obu_of(answered.message), answered.seq)
        report = self._reports.get(key)
        if report is None or report.raw != answered.raw:
            return  # forgotten meanwhile: its copies are news again
        report.state = REPORT_TABLE[report.state, ReportInput.ASK_AGAIN if again else ReportInput.ANSWER]
        report.answer, report.said = raw, said
        if report.state is ReportState.FORGOTTEN:
            del self._reports[key]

    # --- requests of ours -----------------------------------------------------------------------------------------

    def _answered_by(self, message: Message, code: int | None, seq: int) -> Message | None:
        """The request of ours that `message` answers, which then waits no longer."""
        obu = self.dialect.obu_of(message)
        found = self._outstanding.get(obu)
        if found is None and not any(obu):  # about no OBU: only SEQ can tell which
            swap = self._peer_rules.answer_number
            found = next((w for w in self._outstanding.values() if swap is not None and swap(w.seq) == seq), None)
        if found is None or code not in found.request.answers:
            return None
        found.state = REQUEST_TABLE[found.state, RequestInput.ANSWER]
        del self._outstanding[self.dialect.obu_of(found.message)]
        return found.message

    def _repeat(self, obu: bytes, waiting: _Outstanding, now: float, events: list[Event]) -> bytes:
        spent = waiting.tries > self._retries_max(waiting.request.pace)
        waiting.state = REQUEST_TABLE[waiting.state, RequestInput.SPENT if spent else RequestInput.DUE]
        if waiting.state is RequestState.GIVEN_UP:
            del self._outstanding[obu]
            events.append(Unanswered(waiting.message, waiting.tries))
            return b""
        waiting.tries += 1
        waiting.due = now + self._retry_s(waiting.request.pace)
        return waiting.raw

    def _number_for(self, answering: Received | None) -> int:
        if answering is not None and self._rules.answer_number is not None:
            return self._rules.answer_number(answering.seq)
        return next(self._numbers)

    def _retry_s(self, pace: Pace) -> float:
        return (self.timing.retry_ms if pace is Pace.REPORT else self.timing.command_retry_ms) / 1000

    def _retries_max(self, pace: Pace) -> int:
        return self.timing.retries_max if pace is Pace.REPORT else self.timing.command_retries_max
