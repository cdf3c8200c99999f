"""Dialect of an antenna: framing, layouts and the rules of its conversation, all of it data.

The session, the describer, the drivers and the emulators only ever see a `Dialect`. A new one is a layout module, a
table of rules and a line in `registry.py`; no code branches on the name of a dialect.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum

from protocols.errors import LocalProtocolError, RemoteProtocolError
from protocols.rsu.framing import Framing
from protocols.rsu.layout import FrameLayout
from protocols.rsu.messages import (
    Acknowledge,
    Continue,
    Debit,
    DebitResult,
    FetchTac,
    Message,
    ObuReport,
    RecoverTac,
    Stop,
    TacResult,
    Unmodelled,
    UserReport,
    VehicleReport,
    WriteEntry,
    WriteResult,
)

OBU_ID_BYTES = 4

_ABOUT_AN_OBU = (
    Continue | Stop | Debit | WriteEntry | RecoverTac | FetchTac
    | ObuReport | VehicleReport | UserReport | DebitResult | WriteResult | TacResult
)  # fmt: skip


class Side(Enum):
    """Side of the link that a session plays."""

    LANE = "lane"
    RSU = "rsu"

    @property
    def peer(self) -> Side:
        """Other end of the link."""
        return Side.RSU if self is Side.LANE else Side.LANE


class Pace(Enum):
    """Pace of repetition: the clock by which an unanswered request is repeated."""

    REPORT = "report"
    """Report of a passing vehicle: fast, while it is in the zone."""
    COMMAND = "command"
    """Command that the antenna needs time for."""


@dataclass(frozen=True, slots=True)
class Timing:
    """Times of a conversation, all milliseconds; `…_max` are counts."""

    retry_ms: int = 120
    """Time after which an unanswered report is repeated [one document]."""
    retries_max: int = 3
    """Repetitions of a report, after its first sending."""
    command_retry_ms: int = 1_000
    """Time after which an unanswered command is repeated: the antenna may be resetting its PSAMs."""
    command_retries_max: int = 5
    """Repetitions of a command: six sendings a second apart take the 6 s that gateways give a step; then reconnect."""
    duplicate_window_ms: int = 1_000
    """Window for copies: report and repetitions take 480 ms, a stall the rest. After 1 s antennas search anew."""
    heartbeat_ms: int = 10_000
    """Time between two heartbeats of an antenna."""
    silence_ms: int = 30_000
    """Time unheard after which the peer counts as silent: three heartbeats missed."""
    gap_ms: int = 60
    """Quiet time after which an unfinished frame no longer hides complete ones after it: half a repetition, so
    that a report is read before it is repeated."""


DEFAULT_TIMING = Timing()
"""Timing of `pcrsu-v3`."""


def _never(_: Message) -> bool:
    return False


def _none_known(_: bytes) -> str | None:
    return None


@dataclass(frozen=True, slots=True)
class Request:
    """A message that is repeated until it is answered."""

    answers: frozenset[int | None]
    """Type bytes that answer it; None for a frame without DATA."""
    pace: Pace
    unless: Callable[[Message], bool] = _never
    """True for a message with this type byte that wants no answer all the same."""


@dataclass(frozen=True, slots=True)
class SideRules:
    """Rules of one side of the link. Type bytes are those of the dialect."""

    sends: frozenset[int]
    numbers: tuple[int, ...]
    """The SEQ values of its own counter, in order; the first follows the last."""
    answer_number: Callable[[int], int] | None
    """SEQ of an answer from the SEQ answered; None when answers take the own counter like everything else."""
    requests: Mapping[int, Request]
    automatic: Mapping[int, Message]
    """Answers given at once without asking the caller, by the type byte received."""
    asks_again: Callable[[Message], bool] = _never
    """True for an answer after which the same frame, should it come again, is news and no repetition."""
    hears_heartbeats: bool = False
    """True when the peer promises to be heard regularly, so that its silence means something."""
    power_up_number: int | None = None
    """SEQ of the first frame after power-up, None where nothing marks it."""


@dataclass(frozen=True, slots=True)
class Dialect:
    """Dialect of lane computers and antennas."""

    name: str
    title: str
    framing: Framing
    layouts: tuple[FrameLayout, ...]
    unmodelled: frozenset[int]
    """Known type bytes kept whole."""
    obu_first: frozenset[int]
    """Those of them whose body starts with the OBU id."""
    rules: Mapping[Side, SideRules]
    empty_frames: bool
    """True when a frame without DATA is allowed, as an acknowledgement."""
    foreign: Callable[[bytes], str | None] = _none_known
    """Name of another link whose form DATA has, though type and length may be ours."""
    timing: Timing = DEFAULT_TIMING
    """Times of a conversation that nobody has set otherwise."""

    def speaks(self, message: type[Message]) -> bool:
        """True when this dialect has a frame for that kind of message."""
        return any(layout.message is message for layout in self.layouts)

    def layouts_of(self, code: int) -> tuple[FrameLayout, ...]:
        """Every layout of a type byte."""
        return tuple(layout for layout in self.layouts if layout.code == code)

    def layout_of(self, data: bytes) -> FrameLayout | None:
        """The layout that `data` has by its type byte and length, None when there is none."""
        for layout in self.layouts_of(data[0]) if data and self.foreign(data) is None else ():
            if layout.plan(data) is not None:
                return layout
        return None

    def decode(self, data: bytes) -> Message:
        """The message in DATA. Offsets of errors count from the type byte."""
        if not data:
            if self.empty_frames:
                return Acknowledge()
            raise RemoteProtocolError("frame without DATA", field="type", offset=0, hint="check the dialect")
        other = self.foreign(data)
        if other is not None:
            raise RemoteProtocolError(
                f"a frame of {other}, not of {self.name}",
                field="DATA",
                offset=0,
                data=data,
                hint="the device at this address speaks another dialect: check address and dialect",
            )
        code = data[0]
        layouts = self.layouts_of(code)
        for layout in layouts:
            counts = layout.plan(data)
            if counts is not None:
                return layout.decode(data, counts)
        if layouts:
            raise RemoteProtocolError(
                f"{code:02X} of {len(data)} bytes, known are {', '.join(layout.rule for layout in layouts)}",
                field="DATA",
                offset=0,
                data=data,
                hint="the antenna may speak another revision or dialect: keep the frame and ask for its manual",
            )
        if code in self.unmodelled:
            return Unmodelled(code, data[1:])
        raise RemoteProtocolError(
            f"type {code:02X} is unknown to {self.name}",
            field="type",
            offset=0,
            data=data,
            hint="check which dialect the antenna speaks",
        )

    def encode(self, message: Message) -> bytes:
        """DATA for `message`: the first layout that has a place for each of its fields and no other."""
        if isinstance(message, Acknowledge):
            if self.empty_frames:
                return b""
            raise LocalProtocolError(f"{self.name} has no frame without DATA", field="type")
        if isinstance(message, Unmodelled):
            if message.code in self.unmodelled:
                return bytes((message.code,)) + message.body
            raise LocalProtocolError(f"type {message.code:02X} is not one {self.name} keeps whole", field="type")
        problem: LocalProtocolError | None = None
        for layout in self.layouts:
            if layout.message is not type(message):
                continue
            misfit = layout.misfit(message)
            if misfit is not None:
                problem = problem or LocalProtocolError(
                    f"{layout.name} and this {type(message).__name__} do not have the same fields",
                    field=misfit,
                    clause=layout.source,
                    hint="leave the fields of other revisions None and set all of one",
                )
                continue
            try:
                return layout.encode(message)
            except LocalProtocolError as error:
                # The same fields in another size may be the next layout (C6 of 164 and 174 bytes).
                problem = error
        raise problem or LocalProtocolError(f"{self.name} has no {type(message).__name__}", field="type")

    def code_of(self, message: Message) -> int | None:
        """The type byte of `message` in this dialect, None for a frame without DATA."""
        if isinstance(message, Acknowledge):
            return None
        if isinstance(message, Unmodelled):
            return message.code
        for layout in self.layouts:
            if layout.message is type(message):
                return layout.code
        raise LocalProtocolError(f"{self.name} has no {type(message).__name__}", field="type")

    def obu_of(self, message: Message) -> bytes:
        """The OBU or CPC card `message` is about, empty when it is about none."""
        if isinstance(message, _ABOUT_AN_OBU):
            return message.obu_id
        if isinstance(message, Unmodelled) and message.code in self.obu_first:
            return message.body[:OBU_ID_BYTES]
        return b""
