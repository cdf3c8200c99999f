"""Smartcard readers over PC/SC. The only module that imports pyscard, and only when readers are wanted.

Theory of operation. PC/SC calls block, and one that waits for a mute card blocks for ever. So every open card has one
thread with a context of its own: a reader that hangs keeps nobody else from working, and a service that was restarted
is met by the next opening without a thought of the old one. One thread more lists readers, and one waits for what
happens at them. All of their results come to the event loop, which waits with deadlines and never polls.

A card that does not answer in time keeps its thread. Its reader is told as mute and gives no card until the call comes
back, because the card was taken out or its reader was; then its connection is closed and the reader works again.

What is known about a command that failed is told by the code of the failure alone: `NEVER_SENT` has those that come
before the service hands the command to the reader. Every other code leaves open what the card has done.

Codes: PC/SC part 5, and pcsc-lite's `winscard_clnt.c`, `winscard.c` and `winscard_msg.c` of versions 1.9.9 to 2.5.
"""

from __future__ import annotations

import asyncio
import ctypes
import logging
import sys
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from types import TracebackType
from typing import Any, Final, Self, TypeVar

from drivers.call_thread import CallThread, NotBegun, Overdue
from drivers.card_readers import (
    SERVICE,
    ReaderAbsent,
    ReaderEvent,
    ReaderEventKind,
    ReaderState,
    chosen,
)
from drivers.card_slot import ANSWER_WITHIN_S, CardSlot, answered
from drivers.errors import DeviceTimeout, DeviceUnavailable, LinkLost
from protocols.card.apdu import Command, Response

LIST_WITHIN_S: Final = 5.0
"""Seconds for a list of the readers. A card that is just being powered takes the service half a second of it."""

OPEN_WITHIN_S: Final = 3.0
"""Seconds for power and reset of a card: the slowest speak within one."""

ALONE_WITHIN_S: Final = 3.0
"""Seconds until another program has to let go of a card: that long takes a purchase with all its commands."""

CLOSE_WITHIN_S: Final = 1.0
"""Seconds to wait for the reset at the end. What takes longer goes on without anybody waiting."""

LOOK_MS: Final = 5000
"""Milliseconds after which readers are listed again: one that comes between list and wait is missed until then."""

AGAIN_S: Final = 0.5
"""Seconds between two tries to reach a service that is down."""

STOP_EVERY_S: Final = 0.05
"""Seconds between two tries to stop the wait for events: one that comes between two waits is lost."""

STOP_TRIES_MAX: Final = 20
"""Tries to stop that wait. Its thread keeps no program from ending."""

EVENTS_MAX: Final = 1024
"""Events that wait for one who listens: hours of a busy counter."""

NEW_READERS: Final = r"\\?PnP?\Notification"
"""Name under which PC/SC tells that readers have come."""

COMMAND, TURN, OPENING = "command to the card", "turn at the card", "opening of the card"

SHARING_VIOLATION: Final = 0x8010000B
NO_SMARTCARD: Final = 0x8010000C
PROTO_MISMATCH: Final = 0x8010000F
UNKNOWN_READER: Final = 0x80100009
TIMEOUT: Final = 0x8010000A
COMM_ERROR: Final = 0x80100013
READER_UNAVAILABLE: Final = 0x80100017
NO_SERVICE: Final = 0x8010001D
SERVICE_STOPPED: Final = 0x8010001E
NO_READERS: Final = 0x8010002E
RESET_CARD: Final = 0x80100068
REMOVED_CARD: Final = 0x80100069
SECURITY_VIOLATION: Final = 0x8010006A
NO_STATUS_WORD: Final = 0
"""Code of an answer of less than two bytes: PC/SC calls that a success."""

CAUSES: Final = {
    0x80100003: "the connection has ended",
    UNKNOWN_READER: "the reader has gone",
    SHARING_VIOLATION: "another program has it for itself",
    NO_SMARTCARD: "no card is in it",
    PROTO_MISMATCH: "the card speaks neither T=0 nor T=1",
    COMM_ERROR: "the connection to the PC/SC service broke",
    0x80100016: "the card did not finish the command",
    READER_UNAVAILABLE: "the reader has gone",
    NO_SERVICE: "the PC/SC service does not run",
    SERVICE_STOPPED: "the PC/SC service was stopped",
    NO_READERS: "the reader has gone",
    0x8010002F: "reader and card do not understand each other",
    0x80100065: "the card does not speak as readers expect",
    0x80100066: "the card does not answer its reset",
    0x80100067: "the card has no power",
    RESET_CARD: "another program has reset the card",
    REMOVED_CARD: "the card was taken out",
    SECURITY_VIOLATION: "this user may not use smartcards",
    NO_STATUS_WORD: "the card went away within its answer",
}
"""Code -> what it means here."""

NEVER_SENT: Final = frozenset(
    {
        0x80100003,
        SHARING_VIOLATION,
        PROTO_MISMATCH,
        READER_UNAVAILABLE,
        NO_SERVICE,  # of a command: it could not be written to the service
        RESET_CARD,
        REMOVED_CARD,
    }
)
"""Codes of a command that never reached the card: the service looks for these before it hands a command on."""

GONE: Final = frozenset({UNKNOWN_READER, NO_SMARTCARD, READER_UNAVAILABLE, NO_READERS, REMOVED_CARD})
"""Codes of an opening for which a card only has to be put in."""

DOWN: Final = frozenset({COMM_ERROR, NO_SERVICE, SERVICE_STOPPED, UNKNOWN_READER})
"""Codes of a list that is asked for again: the service is being started, or a reader left while it was asked."""

HINT_INSTALL = "install it: pip install 'etc-gateway[cards]'"
HINT_LIBRARY = "install pcscd and libpcsclite1 (Debian: apt install pcscd), then try again"
HINT_START = "start it: systemctl start pcscd.socket"
HINT_RIGHT = (
    "allow org.debian.pcsc-lite.access_pcsc and org.debian.pcsc-lite.access_card to this user in a rule of polkit"
)
HINT_PUT_IN = "put a card in, or wait for one with --wait"
HINT_TAKE_OUT = "take the card out and put it in again; if that does not help, the reader itself"
HINT_OTHERS = "find the other program and end it: gpg's scdaemon, a browser with a card module, a second gateway"
HINTS: Final = {
    SHARING_VIOLATION: HINT_OTHERS,
    NO_SMARTCARD: HINT_PUT_IN,
    REMOVED_CARD: HINT_PUT_IN,
    COMM_ERROR: f"{HINT_START}; if it runs, {HINT_RIGHT}",  # older services hang up on a user without the right
    NO_SERVICE: HINT_START,
    SERVICE_STOPPED: HINT_START,
    0x80100066: HINT_TAKE_OUT,
    RESET_CARD: HINT_OTHERS,
    SECURITY_VIOLATION: HINT_RIGHT,
}

T = TypeVar("T")

log = logging.getLogger(__name__)


class PcscError(Exception):
    """Failure that PC/SC tells by a code. `sent`: a command of the same call has reached the card, or may have."""

    def __init__(self, code: int, *, sent: bool = False) -> None:
        self.code = code
        self.sent = sent
        super().__init__(f"{self.cause} ({code:08X})")

    @property
    def cause(self) -> str:
        """Cause in words."""
        return CAUSES.get(self.code, f"PC/SC failure {self.code:08X}")

    def unavailable(self, device: str) -> DeviceUnavailable:
        """The failure of something that cannot be done now, with its cure."""
        return DeviceUnavailable(self.cause, device=device, hint=HINTS.get(self.code))


def library() -> Any:  # noqa: ANN401 - a module without types
    """The calls of PC/SC. Raises DeviceUnavailable where a part of the machine is missing."""
    if sys.platform == "linux":
        try:
            ctypes.CDLL("libpcsclite.so.1")  # pyscard loads it too, and prints to stdout when it cannot
        except OSError as error:
            raise DeviceUnavailable("the PC/SC library is missing", device=SERVICE, hint=HINT_LIBRARY) from error
    try:
        from smartcard import scard  # noqa: PLC0415 - an extra: a site without readers needs none of it
    except ImportError as error:
        raise DeviceUnavailable("pyscard is not installed", device=SERVICE, hint=HINT_INSTALL) from error
    return scard


class Readers:
    """Card readers of this machine."""

    def __init__(self) -> None:
        self._library: Any = None
        self._asking: CallThread | None = None
        self._cards: dict[str, CallThread] = {}
        """Threads of open cards, and of those that never came back, by reader."""
        self._watch: _Watch | None = None
        self._changed = asyncio.Event()
        self._listeners: set[asyncio.Queue[ReaderEvent | None]] = set()
        self._known: list[ReaderEvent] = []
        """Events that tell one who begins to listen how things stand."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        watch, self._watch = self._watch, None
        if watch is not None:
            await self._stop(watch)
        if self._asking is not None:
            await self._asking.end(lambda: None, CLOSE_WITHIN_S)
            self._asking = None

    async def listed(self) -> tuple[ReaderState, ...]:
        """All readers as they are now. Raises DeviceUnavailable where there is no service to ask."""
        return tuple(
            replace(state, mute=state.mute or self._is_mute(state.name))
            for state in await self._ask(lambda: _listed(self._scard))
        )

    @asynccontextmanager
    async def open(self, selector: str | None, *, wait_s: float = 0.0) -> AsyncIterator[CardSlot]:
        """The card in the reader that is meant, from its reset; see `chosen`. Reset again at the end.

        Waits so long for service, reader and card. Raises DeviceUnavailable when there is none then.
        """
        thread, card = await self._opened(selector, wait_s)
        try:
            yield _Slot(thread, card, self)
        finally:
            await thread.end(card.close, CLOSE_WITHIN_S)

    async def gone(self, reader: str, moves: int) -> None:
        """Return when a card that came after so many `moves` has left a reader, or the reader or the service has."""
        self._start_watch()
        while True:
            changed = self._changed
            try:
                states = await self.listed()
            except DeviceUnavailable:
                return
            if not any((state.name, state.moves) == (reader, moves) and state.atr is not None for state in states):
                return
            await changed.wait()

    async def events(self) -> AsyncIterator[ReaderEvent]:
        """State of things, told as events, and then every change, for as long as somebody listens.

        Raises DeviceUnavailable for a listener who has left too many of them waiting.
        """
        self._start_watch()
        waiting: asyncio.Queue[ReaderEvent | None] = asyncio.Queue()
        for event in self._known:
            waiting.put_nowait(event)
        self._listeners.add(waiting)
        try:
            while (told := await waiting.get()) is not None:
                yield told
        finally:
            self._listeners.discard(waiting)
        raise DeviceUnavailable(f"{EVENTS_MAX} events have waited for too long", device=SERVICE)

    @property
    def _scard(self) -> Any:  # noqa: ANN401 - a module without types
        """Library, loaded when it is first needed. Raises DeviceUnavailable."""
        if self._library is None:
            self._library = library()
        return self._library

    # --- opening --------------------------------------------------------------------------------------------------

    async def _opened(self, selector: str | None, wait_s: float) -> tuple[CallThread, _Card]:
        loop = asyncio.get_running_loop()
        until = loop.time() + wait_s
        while True:
            changed = self._changed
            try:
                return await self._open_now(selector)
            except _NotYet as error:
                if loop.time() >= until:
                    raise error.problem from error
            self._start_watch()
            with suppress(TimeoutError):
                async with asyncio.timeout_at(until):
                    await changed.wait()

    async def _open_now(self, selector: str | None) -> tuple[CallThread, _Card]:
        """Open a card. Raises `_NotYet` for what time can mend."""
        try:
            reader = chosen(await self.listed(), selector)
        except ReaderAbsent as error:
            raise _NotYet(error) from error
        except DeviceUnavailable as error:
            cause = error.__cause__
            raise (_NotYet(error) if isinstance(cause, PcscError) and cause.code in DOWN else error) from error
        if reader.name in self._cards:
            raise _NotYet(self._kept(reader.name))
        if reader.atr is None:
            raise _NotYet(PcscError(NO_SMARTCARD).unavailable(reader.name))
        thread = CallThread(reader.name, self._thread_changed)
        self._cards[reader.name] = thread
        card = _Card(self._scard, reader.name)
        try:
            await thread.call(card.open, OPEN_WITHIN_S, OPENING)
        except BaseException as error:
            await thread.end(card.close, 0 if isinstance(error, Overdue) else CLOSE_WITHIN_S)
            if isinstance(error, Overdue | NotBegun):
                raise self._unreached(reader.name) from error
            if isinstance(error, PcscError):
                problem_of = error.unavailable(reader.name)
                raise (_NotYet(problem_of) if error.code in GONE else problem_of) from error
            raise
        return thread, card

    def _kept(self, name: str) -> DeviceUnavailable:
        """The problem of a reader whose thread is still there."""
        if self._is_mute(name):
            return DeviceUnavailable("its card has not answered yet", device=name, hint=HINT_TAKE_OUT)
        if self._cards[name].overdue is not None:
            return self._unreached(name)
        return DeviceUnavailable("this program has the card open already", device=name)

    def _unreached(self, name: str) -> DeviceUnavailable:
        problem = "the card cannot be reached: it is mute, or another program keeps it to itself"
        return DeviceUnavailable(problem, device=name, hint=HINT_OTHERS)

    def _is_mute(self, name: str) -> bool:
        return name in self._cards and self._cards[name].overdue == COMMAND

    def _thread_changed(self) -> None:
        for name in [name for name, thread in self._cards.items() if thread.ended.is_set()]:
            del self._cards[name]
        self._wake()

    def _wake(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

    async def _ask(self, work: Callable[[], T]) -> T:
        try:
            return await self._asker().call(work, LIST_WITHIN_S)
        except PcscError as error:
            raise error.unavailable(SERVICE) from error
        except (NotBegun, Overdue) as error:
            raise DeviceUnavailable("the PC/SC service does not answer", device=SERVICE, hint=HINT_START) from error

    def _asker(self) -> CallThread:
        """The thread for what concerns no single card."""
        if self._asking is None:
            self._asking = CallThread(SERVICE)
        return self._asking

    # --- events ---------------------------------------------------------------------------------------------------

    def _start_watch(self) -> None:
        if self._watch is None:
            self._watch = _Watch(self._scard, asyncio.get_running_loop(), self._happened)

    def _happened(self, event: ReaderEvent) -> None:
        self._known = _standing(self._known, event)
        self._wake()
        for waiting in tuple(self._listeners):
            if waiting.qsize() < EVENTS_MAX:
                waiting.put_nowait(event)
            else:
                self._listeners.discard(waiting)
                waiting.put_nowait(None)

    async def _stop(self, watch: _Watch) -> None:
        for _ in range(STOP_TRIES_MAX):
            self._asker().give(watch.stop)
            with suppress(TimeoutError):
                async with asyncio.timeout(STOP_EVERY_S):
                    await watch.ended.wait()
                    return
        log.warning("%s: the wait for events could not be stopped", SERVICE)


class _NotYet(Exception):
    """Problem that may end by itself."""

    def __init__(self, problem: DeviceUnavailable) -> None:
        self.problem = problem
        super().__init__(str(problem))


class _Slot:
    """One open card; keeps the contract of `drivers.card_slot.CardSlot`."""

    def __init__(self, thread: CallThread, card: _Card, readers: Readers) -> None:
        self._thread = thread
        self._card = card
        self._readers = readers
        self._lost: str | None = None

    @property
    def name(self) -> str:
        return self._card.reader

    @property
    def atr(self) -> bytes:
        return self._card.atr

    async def transmit(self, command: Command, *, timeout_s: float = ANSWER_WITHIN_S) -> Response:
        """See `CardSlot`."""
        return await self._call(lambda: self._card.exchange(command), timeout_s)

    async def raw(self, command: bytes, *, timeout_s: float = ANSWER_WITHIN_S) -> bytes:
        """See `CardSlot`."""
        return await self._call(lambda: self._card.transmit(command), timeout_s)

    async def removed(self) -> None:
        """See `CardSlot`."""
        await self._readers.gone(self.name, self._card.moves)

    @asynccontextmanager
    async def alone(self) -> AsyncIterator[None]:
        """See `CardSlot`."""
        try:
            await self._call(self._card.begin, ALONE_WITHIN_S, TURN)
            yield
        finally:
            self._thread.give(self._card.end)

    async def _call(self, work: Callable[[], T], within_s: float, kind: str = COMMAND) -> T:
        if self._lost is not None:
            raise DeviceUnavailable(f"the card has to be opened again: {self._lost}", device=self.name)
        try:
            return await self._thread.call(work, within_s, kind)
        except NotBegun as error:
            self._lost = "the card has not finished an earlier command"
            raise DeviceUnavailable(self._lost, device=self.name, hint=HINT_TAKE_OUT) from error
        except Overdue as error:
            if kind == TURN:
                self._lost = "another program keeps the card to itself"
                raise DeviceUnavailable(self._lost, device=self.name, hint=HINT_OTHERS) from error
            self._lost = f"no answer within {round(within_s * 1000)} ms"
            raise DeviceTimeout(self._lost, device=self.name, hint=HINT_TAKE_OUT) from error
        except PcscError as error:
            self._lost = error.cause
            if not error.sent:
                raise error.unavailable(self.name) from error
            raise LinkLost(self._lost, device=self.name, hint=HINTS.get(error.code)) from error


# --- calls that block: each in a thread of its own --------------------------------------------------------------------


class _Card:
    """Connection to the card in one reader."""

    def __init__(self, scard: Any, reader: str) -> None:  # noqa: ANN401 - a module without types
        self.reader = reader
        self.atr = b""
        self.moves = 0
        self._scard = scard
        self._context: Any = None
        self._handle: Any = None
        self._protocol = 0
        self._touched = False
        """True once the card has been given a command: a reset would undo something."""

    def open(self) -> None:
        """Connect, over T=1 where the card speaks it, and begin with a reset: nothing is left of other programs."""
        s = self._scard
        (self._context,) = _done(s.SCardEstablishContext(s.SCARD_SCOPE_USER))
        wanted: tuple[int, ...] = (s.SCARD_PROTOCOL_T1, s.SCARD_PROTOCOL_T0)
        for protocol in wanted:
            try:
                self._handle, self._protocol = _done(
                    s.SCardConnect(self._context, self.reader, s.SCARD_SHARE_SHARED, protocol)
                )
                break
            except PcscError as error:
                if error.code != PROTO_MISMATCH or protocol == wanted[-1]:
                    raise
        ((_, state, _),) = _done(s.SCardGetStatusChange(self._context, 0, [(self.reader, s.SCARD_STATE_UNAWARE)]))[0]
        self.moves = _moves(state)
        self._reset()  # fails for a card that has moved since
        *_, atr = _done(s.SCardStatus(self._handle))
        self.atr = bytes(atr)

    def _reset(self) -> None:
        s = self._scard
        (self._protocol,) = _done(
            s.SCardReconnect(self._handle, s.SCARD_SHARE_SHARED, self._protocol, s.SCARD_RESET_CARD)
        )

    def exchange(self, command: Command) -> Response:
        """Answer to a command with everything that belongs to it."""
        asked = 0

        def ask(one: Command) -> bytes:
            nonlocal asked
            asked += 1
            return self.transmit(one.encode_t0() if self._protocol == self._scard.SCARD_PROTOCOL_T0 else one.encode())

        try:
            return answered(command, ask)
        except PcscError as error:
            raise PcscError(error.code, sent=error.sent or asked > 1) from error

    def transmit(self, command: bytes) -> bytes:
        """Answer to some bytes."""
        try:
            return self._transmit(command)
        except PcscError as error:
            if error.code != RESET_CARD or self._touched:
                raise
        self._reset()  # by another program, before we had said anything
        return self._transmit(command)

    def _transmit(self, command: bytes) -> bytes:
        try:
            (answer,) = _done(self._scard.SCardTransmit(self._handle, self._protocol, list(command)))
        except PcscError as error:
            raise PcscError(error.code, sent=error.code not in NEVER_SENT) from error
        self._touched = True
        if len(answer) < 2:
            raise PcscError(NO_STATUS_WORD, sent=True)
        return bytes(answer)

    def begin(self) -> None:
        """Keep other programs away."""
        try:
            _done(self._scard.SCardBeginTransaction(self._handle))
        except PcscError as error:
            if error.code != RESET_CARD or self._touched:
                raise
            self._reset()
            _done(self._scard.SCardBeginTransaction(self._handle))

    def end(self) -> None:
        """Let other programs at the card again. A card that has gone keeps nobody away."""
        self._scard.SCardEndTransaction(self._handle, self._scard.SCARD_LEAVE_CARD)

    def close(self) -> None:
        """Let go of the card and forget what it was told. Whatever PC/SC says to that: it is over."""
        if self._handle is not None:
            self._scard.SCardDisconnect(self._handle, self._scard.SCARD_RESET_CARD)
        if self._context is not None:
            self._scard.SCardReleaseContext(self._context)


def _done(result: Any) -> tuple[Any, ...]:  # noqa: ANN401 - of a module without types
    """Values of a call that went well: a code before them, or nothing but a code."""
    code, *values = result if isinstance(result, list | tuple) else (result,)
    code &= 0xFFFFFFFF  # signed on some machines
    if code:
        raise PcscError(code)
    return tuple(values)


def _names(scard: Any, context: Any) -> list[str]:  # noqa: ANN401
    try:
        (names,) = _done(scard.SCardListReaders(context, []))
    except PcscError as error:
        if error.code != NO_READERS:
            raise
        return []
    return list(names)


def _listed(scard: Any) -> list[ReaderState]:  # noqa: ANN401
    (context,) = _done(scard.SCardEstablishContext(scard.SCARD_SCOPE_USER))
    try:
        unaware = [(name, scard.SCARD_STATE_UNAWARE) for name in _names(scard, context)]
        if not unaware:
            return []
        (states,) = _done(scard.SCardGetStatusChange(context, 0, unaware))
    finally:
        scard.SCardReleaseContext(context)
    return [
        ReaderState(
            index,
            name,
            bytes(atr) if state & scard.SCARD_STATE_PRESENT else None,
            in_use=bool(state & (scard.SCARD_STATE_INUSE | scard.SCARD_STATE_EXCLUSIVE)),
            mute=bool(state & scard.SCARD_STATE_MUTE),
            moves=_moves(state),
        )
        for index, (name, state, atr) in enumerate(states)
    ]


def _moves(state: int) -> int:
    """Cards that came or went, counted by the service in the upper 16 bits of a reader's state."""
    return state >> 16


def _standing(known: list[ReaderEvent], event: ReaderEvent) -> list[ReaderEvent]:
    """Events that tell how things stand after one more: the service, every reader, every card."""
    kinds = ReaderEventKind
    match event.kind:
        case kinds.SERVICE_UP | kinds.SERVICE_LOST:
            return [event]
        case kinds.READER_ADDED | kinds.CARD_IN:
            return [*known, event]
        case kinds.READER_REMOVED:
            return [one for one in known if one.reader != event.reader]
        case kinds.CARD_OUT:
            return [one for one in known if (one.reader, one.kind) != (event.reader, kinds.CARD_IN)]


class _Watch:
    """Wait for what happens at the readers, in one thread that sleeps meanwhile."""

    def __init__(
        self,
        scard: Any,  # noqa: ANN401 - a module without types
        loop: asyncio.AbstractEventLoop,
        tell: Callable[[ReaderEvent], None],
    ) -> None:
        self.ended = asyncio.Event()
        self._scard = scard
        self._loop = loop
        self._tell = tell
        self._halt = threading.Event()
        self._context: Any = None
        self._lost = False
        threading.Thread(target=self._run, name="card readers", daemon=True).start()

    def stop(self) -> None:
        """Ask the thread to end."""
        self._halt.set()
        context = self._context
        if context is not None:
            self._scard.SCardCancel(context)

    def _run(self) -> None:
        while not self._halt.is_set():
            try:
                (self._context,) = _done(self._scard.SCardEstablishContext(self._scard.SCARD_SCOPE_USER))
                self._lost = False
                self._happened(ReaderEventKind.SERVICE_UP)
                self._follow()
            except PcscError as error:
                self._lose(error)
            finally:
                context, self._context = self._context, None
                if context is not None:
                    self._scard.SCardReleaseContext(context)
        self._post(self.ended.set)

    def _lose(self, error: PcscError) -> None:
        if self._halt.is_set():
            return
        if not self._lost:  # the tenth failed try is no news, whatever it failed of
            self._lost = True
            self._happened(ReaderEventKind.SERVICE_LOST, cause=error.cause)
        self._halt.wait(AGAIN_S)

    def _follow(self) -> None:
        """Tell what happens until the service is lost, which raises `PcscError`."""
        s = self._scard
        known: dict[str, tuple[int, bytes]] = {}
        readers_changed = 0
        while not self._halt.is_set():
            names = _names(s, self._context)
            for name in [name for name in known if name not in names]:
                del known[name]
                self._happened(ReaderEventKind.READER_REMOVED, name)
            asked = [(name, known[name][0] if name in known else s.SCARD_STATE_UNAWARE) for name in names]
            try:
                (states,) = _done(
                    s.SCardGetStatusChange(self._context, LOOK_MS, [*asked, (NEW_READERS, readers_changed)])
                )
            except PcscError as error:
                if error.code not in {TIMEOUT, UNKNOWN_READER}:
                    raise
                continue
            # What the service counts there is given back to it; older ones do not count.
            readers_changed = states.pop()[1] & 0xFFFF0000
            for name, state, atr in states:
                if state & s.SCARD_STATE_UNKNOWN:
                    continue  # gone: the next list tells
                for kind, of_card in self._changes(known.get(name), state, bytes(atr)):
                    self._happened(kind, name, of_card)
                known[name] = (state & ~s.SCARD_STATE_CHANGED, bytes(atr))

    def _changes(
        self, before: tuple[int, bytes] | None, state: int, atr: bytes
    ) -> Iterator[tuple[ReaderEventKind, bytes | None]]:
        """Events between two states of a reader."""
        present = bool(state & self._scard.SCARD_STATE_PRESENT)
        was = before is not None and bool(before[0] & self._scard.SCARD_STATE_PRESENT)
        if before is None:
            yield ReaderEventKind.READER_ADDED, None
        swapped = before is not None and (_moves(before[0]) != _moves(state) or (was and before[1] != atr))
        if was and (swapped or not present):
            yield ReaderEventKind.CARD_OUT, None
        if present and (swapped or not was):
            yield ReaderEventKind.CARD_IN, atr
        if swapped and not was and not present:
            yield ReaderEventKind.CARD_IN, b""
            yield ReaderEventKind.CARD_OUT, None

    def _happened(
        self, kind: ReaderEventKind, reader: str | None = None, atr: bytes | None = None, *, cause: str | None = None
    ) -> None:
        self._post(self._tell, ReaderEvent(kind, reader, atr, cause))

    def _post(self, told: Callable[..., object], *values: object) -> None:
        with suppress(RuntimeError):  # the loop is closed: nobody is left to be told
            self._loop.call_soon_threadsafe(told, *values)
