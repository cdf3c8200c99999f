"""Outputs of one lane on a relay board: its barrier and its two lamps.

The barrier opens on the rising edge of its coil, so an opening is a pulse: on, and off again after `pulse_ms` in the
background. A coil that stayed on would swallow the next vehicle's opening, therefore the *off* is owed from the moment
the *on* was attempted until the board has confirmed it, and a new opening settles it first.

Nothing here decides whether to open. The caller has a committed decision in hand, or does not call.

An opening is ordered once. What certainly did not leave this process is tried again; an order that is not answered is
not, because a frozen board executes it when it thaws, and the second one would lift the barrier for the vehicle behind.
One order makes at most one rising edge, whatever offs stand before or after it in a frozen board and in whatever order
two connections are worked off, so openings never outnumber the calls. What became of an unanswered order is learnt in
two ways: the board answers late, or the barrier's *closed* limit input, asked on the same connection, proves that the
arm did not move (`drivers.barrier_arm`). Without that input, or when the connection is lost, nobody can know. Until it
is known or given up, the lane is given no further opening.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Protocol

from drivers.barrier_arm import TRAVEL_MS, ArmWatch
from drivers.clock import Clock
from drivers.errors import DeviceError, DeviceRefused, DeviceTimeout, DeviceUnavailable, RequestOutcome, Unanswered

TIMEOUT_S = 1.0
"""Default time of one operation with all its tries. The passage keeps 250 ms for the barrier; the rest is for the
attendant's screen, which should say *board dead* rather than *opened* as soon as it is certain."""

TRY_S_MAX = 0.3
"""Time of one try. A board answers within 20 ms; a lost answer must leave time for a connection and a second try."""

TRIES_MAX = 60
"""Tries of one operation. One per RETRY_PAUSE_S makes three seconds, more than any passage has left."""

RETRY_PAUSE_S = 0.05
"""Pause between two tries, half the driver's shortest pause before it connects again."""

ANSWER_S_MAX = 3.0
"""Time a board has to answer an opening, or the question what became of it, before its connection is given up. Boards
freeze for a second or two when they are busy with themselves; what hangs for longer is for a person."""

LOOKS_A_TRAVEL = 4
"""Readings of the closed limit within an arm's travel time, after the first one."""

OFF_RETRY_S_MAX = 2.0
"""Longest pause between tries to end a pulse: the driver's own longest pause."""

OFF_TRIES_MAX = 1_000
"""Tries to end a pulse: about half an hour. After that `safe_state` or the next opening ends it."""

log = logging.getLogger(__name__)


class CoilWriter(Protocol):
    """Board as a lane needs it: coils to write, inputs to read. `drivers.modbus.RelayBoard` is one."""

    @property
    def name(self) -> str:
        """Configured name, for errors and logs."""
        ...

    @property
    def clock(self) -> Clock:
        """The clock of the site."""
        ...

    async def write_coil(self, address: int, on: bool, *, timeout_s: float) -> None:
        """Switch one coil or raise DeviceError."""
        ...

    async def write_coils(self, address: int, values: Sequence[bool], *, timeout_s: float) -> None:
        """Switch neighbouring coils in one request or raise DeviceError."""
        ...

    async def order_coil(self, address: int, *, turn_s: float, answer_s: float) -> None:
        """Switch one coil on. Raises DeviceError: `Unanswered` where the board can still be asked about it."""
        ...

    async def read_inputs(
        self, address: int, count: int, *, timeout_s: float, connection: int | None
    ) -> tuple[bool, ...]:
        """State of discrete inputs, asked on this connection and no other one, or raise DeviceError."""
        ...


@dataclass(frozen=True, slots=True)
class _Opening:
    """One opening under way, until it is known what became of it."""

    number: int
    end: asyncio.Task[None]
    """Returns when the barrier has been lifted; raises DeviceError with what is known otherwise."""


class LaneOutputs:
    """Barrier and lamps of one lane.

    Every operation but an opening tries again inside its own time, and a repeated try is harmless: lamps and an off say
    the same twice. When it gives up, the error's outcome is *unknown* if any try was, because that one may have
    switched. A refusal by the board is final.

    `closed_limit` is the discrete input that is on while the arm lies, `travel_ms` the time the arm takes to rise.

    Call `safe_state` at start and each time the board comes up again: a board that lost power has all coils off, so
    its red lamp is dark.
    """

    def __init__(
        self,
        board: CoilWriter,
        *,
        barrier_coil: int,
        green_coil: int,
        red_coil: int,
        pulse_ms: int,
        closed_limit: int | None = None,
        travel_ms: int = TRAVEL_MS,
        timeout_s: float = TIMEOUT_S,
    ) -> None:
        if len({barrier_coil, green_coil, red_coil}) != 3:
            raise ValueError(f"barrier, green and red share a coil: {barrier_coil}, {green_coil}, {red_coil}")
        if pulse_ms <= 0:
            raise ValueError(f"pulse_ms {pulse_ms} is not positive")
        if travel_ms <= 0:
            raise ValueError(f"travel_ms {travel_ms} is not positive")
        self._board = board
        self._clock = board.clock
        self._barrier_coil = barrier_coil
        self._green_coil = green_coil
        self._red_coil = red_coil
        self._pulse_ms = pulse_ms
        self._closed_limit = closed_limit
        self._travel_s = travel_ms / 1000
        self._timeout_s = timeout_s
        self._busy = asyncio.Lock()
        self._opening: _Opening | None = None
        self._off_owed = False
        self._stray_on = False
        """True when an order nobody answered may reach the coil after its own off, and leave it on."""
        self._pulse: asyncio.Task[None] | None = None
        self._pulse_writing = False

    async def open_barrier(self, number: int, *, timeout_s: float | None = None) -> None:
        """Lift the barrier for the decision of this number, with one order. Returns when the board has confirmed it.

        The pulse ends in the background. Raises DeviceError: with outcome *unknown* the barrier may have been lifted or
        may yet be, and only `confirm_opening` tells; else it certainly was not.
        """
        async with self._turn(timeout_s) as deadline:
            await self._wait_for_last_opening(deadline)
            await self._stop_pulse()
            if self._off_owed or self._stray_on:  # the coil may still be on: without an off there is no edge
                try:
                    await self._barrier_off(deadline)
                except DeviceError as error:
                    raise DeviceUnavailable(
                        f"barrier not opened, the last pulse has not ended: {error.problem}", device=self._board.name
                    ) from error
                self._stray_on = False
            self._off_owed = True
            end = asyncio.create_task(self._open(deadline))
            end.add_done_callback(_look_at_end)
            self._opening = _Opening(number, end)
            await asyncio.wait({end}, timeout=max(0.0, deadline - self._clock.monotonic()))
            if not end.done():
                raise DeviceTimeout("barrier ordered to open, no answer yet", device=self._board.name)
            end.result()

    async def confirm_opening(self, number: int) -> None:
        """Return when the barrier is known to have been lifted by the opening of this number.

        Raises DeviceError: with outcome *unknown* nobody can tell any more; else the barrier certainly was not lifted.
        """
        opening = self._opening
        if opening is None or opening.number != number:
            raise DeviceTimeout(f"opening {number} was followed by another one", device=self._board.name)
        await asyncio.wait({opening.end})
        if opening.end.cancelled():
            raise DeviceTimeout(f"opening {number} was given up", device=self._board.name)
        opening.end.result()

    async def show_go(self, *, timeout_s: float | None = None) -> None:
        """Red off, green on."""
        async with self._turn(timeout_s) as deadline:
            await self._lamps(go=True, deadline=deadline)

    async def show_stop(self, *, timeout_s: float | None = None) -> None:
        """Red on, green off."""
        async with self._turn(timeout_s) as deadline:
            await self._lamps(go=False, deadline=deadline)

    async def safe_state(self, *, timeout_s: float | None = None) -> None:
        """Barrier coil off, red on, green off. An arm that is up stays up: the barrier lowers it by itself."""
        async with self._turn(timeout_s) as deadline:
            await self._stop_pulse()
            self._off_owed = True  # nobody knows what an earlier process left switched on
            await self._barrier_off(deadline)
            await self._lamps(go=False, deadline=deadline)

    async def close(self, *, timeout_s: float | None = None) -> None:
        """End a running pulse now; afterwards nothing runs in the background. Raises DeviceError when the coil may
        still be on."""
        async with self._turn(timeout_s) as deadline:
            if self._opening is not None and not self._opening.end.done():
                self._opening.end.cancel()
                await asyncio.wait({self._opening.end})
            await self._stop_pulse()
            if self._off_owed:
                try:
                    await self._barrier_off(deadline)
                finally:
                    await self._stop_pulse()

    # --- parts ----------------------------------------------------------------------------------------------------

    @asynccontextmanager
    async def _turn(self, timeout_s: float | None) -> AsyncIterator[float]:
        """Turn of one operation of a lane; gives the deadline, which counts from before the wait."""
        allowed_s = self._timeout_s if timeout_s is None else timeout_s
        deadline = self._clock.monotonic() + allowed_s
        try:
            async with asyncio.timeout(allowed_s):
                await self._busy.acquire()
        except TimeoutError as error:
            raise DeviceTimeout(
                "the lane's last operation is not finished", device=self._board.name, outcome=RequestOutcome.NOT_SENT
            ) from error
        try:
            yield deadline
        finally:
            self._busy.release()

    async def _wait_for_last_opening(self, deadline: float) -> None:
        """Wait for the end of the last opening: it may still be executed, and two together could lift once for both."""
        if self._opening is None:
            return
        await asyncio.wait({self._opening.end}, timeout=max(0.0, deadline - self._clock.monotonic()))
        if not self._opening.end.done():
            raise DeviceUnavailable(
                "barrier not opened, the last opening is not known to have ended", device=self._board.name
            )

    async def _open(self, deadline: float) -> None:
        """Order the opening and find out what became of it. Raises DeviceError."""
        answer_s = ANSWER_S_MAX if self._closed_limit is None else min(self._travel_s, ANSWER_S_MAX)
        unanswered: Unanswered | None = None
        try:
            await self._persist(
                "barrier on",
                lambda seconds: self._board.order_coil(self._barrier_coil, turn_s=seconds, answer_s=answer_s),
                deadline,
                once=True,
            )
        except DeviceError as error:
            self._stray_on = error.outcome is RequestOutcome.UNKNOWN
            if not isinstance(error, Unanswered):
                raise
            unanswered = error
        finally:
            self._pulse_ends_later()
        if unanswered is not None:
            await self._look_at_arm(unanswered)

    async def _look_at_arm(self, unanswered: Unanswered) -> None:
        """Return when the arm is seen off its closed limit: it stands open or is moving, the vehicle can go.

        Raises DeviceRefused when it provably has not moved, and `unanswered` when nothing is proved.
        """
        watch = ArmWatch(unanswered.sent_at, self._travel_s)
        for _ in range(LOOKS_A_TRAVEL + 2):
            asked_at = self._clock.monotonic()
            try:
                closed = await self._lies(unanswered.connection)
            except DeviceError as error:
                raise unanswered from error
            if not closed:
                return
            if watch.closed(asked_at, self._clock.monotonic()):
                break
            await self._clock.sleep(self._travel_s / LOOKS_A_TRAVEL)
        if not watch.unbroken:
            raise unanswered
        raise DeviceRefused("the order to open was lost: the arm has not moved", device=self._board.name)

    async def _lies(self, connection: int) -> bool:
        if self._closed_limit is None:
            raise DeviceUnavailable("the barrier has no closed limit input", device=self._board.name)
        (closed,) = await self._board.read_inputs(self._closed_limit, 1, timeout_s=ANSWER_S_MAX, connection=connection)
        return closed

    def _pulse_ends_later(self) -> None:
        if self._pulse is None or self._pulse.done():  # else an off is being tried already, behind this on
            self._pulse = asyncio.create_task(self._end_pulse(self._pulse_ms / 1000))

    def _coil(self, address: int, *, on: bool) -> Callable[[float], Awaitable[None]]:
        return lambda seconds: self._board.write_coil(address, on, timeout_s=seconds)

    async def _barrier_off(self, deadline: float) -> None:
        """Send the owed off now, or leave it to the background and raise."""
        try:
            await self._persist("barrier off", self._coil(self._barrier_coil, on=False), deadline)
        except DeviceError:
            self._pulse = asyncio.create_task(self._end_pulse(RETRY_PAUSE_S))
            raise
        self._off_owed = False

    async def _lamps(self, *, go: bool, deadline: float) -> None:
        what = "lamps to go" if go else "lamps to stop"
        if abs(self._green_coil - self._red_coil) == 1:  # neighbours switch in one request: never both, never none
            first = min(self._green_coil, self._red_coil)
            values = (go, not go) if first == self._green_coil else (not go, go)
            await self._persist(
                what, lambda seconds: self._board.write_coils(first, values, timeout_s=seconds), deadline
            )
            return
        # Otherwise the lamp that stops goes on first and off last: both for a moment when turning to stop, none for
        # a moment when turning to go, never a lone green that should not be.
        red, green = self._coil(self._red_coil, on=not go), self._coil(self._green_coil, on=go)
        await self._persist(what, red, deadline)
        await self._persist(what, green, deadline)

    async def _persist(
        self, what: str, write: Callable[[float], Awaitable[None]], deadline: float, *, once: bool = False
    ) -> None:
        """Try `write` until it succeeds, is refused, or the time is over; with `once` only as long as it certainly was
        not sent."""
        maybe_done: DeviceError | None = None
        last: DeviceError | None = None
        for _ in range(TRIES_MAX):
            remaining = deadline - self._clock.monotonic()
            if remaining <= 0:
                break
            try:
                await write(min(remaining, TRY_S_MAX))
            except DeviceError as error:
                last = error
                if error.outcome is RequestOutcome.UNKNOWN:
                    maybe_done = error
                if isinstance(error, DeviceRefused) or (once and error.outcome is not RequestOutcome.NOT_SENT):
                    break
            else:
                return
            await self._clock.sleep(min(RETRY_PAUSE_S, max(0.0, deadline - self._clock.monotonic())))
        raise (
            maybe_done
            or last
            or DeviceTimeout(f"{what}: no time left", device=self._board.name, outcome=RequestOutcome.NOT_SENT)
        )

    async def _end_pulse(self, after_s: float) -> None:
        """Switch the barrier coil off `after_s` from now, and keep trying until the board confirms it."""
        await self._clock.sleep(after_s)
        pause_s = RETRY_PAUSE_S
        for tried in range(OFF_TRIES_MAX):
            self._pulse_writing = True
            try:
                await self._board.write_coil(self._barrier_coil, False, timeout_s=TRY_S_MAX)
            except DeviceError as error:
                if tried == 0:
                    log.warning("%s: barrier pulse not ended, trying on: %s", self._board.name, error)
            else:
                self._off_owed = False
                return
            finally:
                self._pulse_writing = False
            await self._clock.sleep(pause_s)
            pause_s = min(2 * pause_s, OFF_RETRY_S_MAX)
        log.error("%s: barrier coil %d may still be on", self._board.name, self._barrier_coil)

    async def _stop_pulse(self) -> None:
        """Stop the background task. The off it owed stays owed."""
        if self._pulse is None:
            return
        if self._pulse_writing:
            # An abandoned request costs the connection, and other lanes use it too: let this one end.
            await asyncio.wait({self._pulse}, timeout=TRY_S_MAX)
        self._pulse.cancel()
        await asyncio.wait({self._pulse})
        self._pulse = None


def _look_at_end(end: asyncio.Task[None]) -> None:
    """Read the end of an opening: asyncio must not complain that nobody asked what became of it."""
    if not end.cancelled():
        end.exception()
