"""What one lane switches on a relay board: its barrier and its two lamps.

The barrier opens on the rising edge of its coil, so an opening is a pulse: on, and off again after `pulse_ms` in the
background. A coil that stayed on would swallow the next vehicle's opening, therefore the *off* is owed from the moment
the *on* was attempted until the board has confirmed it, and a new opening settles it first.

Nothing here decides whether to open. The caller has a committed decision in hand, or does not call.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Protocol

from drivers.clock import Clock
from drivers.errors import DeviceError, DeviceRefused, DeviceTimeout, DeviceUnavailable, Outcome

TIMEOUT_S = 1.0
"""Default time of one operation with all its tries. The passage keeps 250 ms for the barrier; the rest is for the
attendant's screen, which should say *board dead* rather than *opened* as soon as it is certain."""

TRY_S_MAX = 0.3
"""Time of one try. A board answers within 20 ms; a lost answer must leave time for a connection and a second try."""

TRIES_MAX = 60
"""Tries of one operation. One per RETRY_PAUSE_S makes three seconds, more than any passage has left."""

RETRY_PAUSE_S = 0.05
"""Pause between two tries, half the driver's shortest pause before it connects again."""

OFF_RETRY_S_MAX = 2.0
"""Longest pause between tries to end a pulse: the driver's own longest pause."""

OFF_TRIES_MAX = 1_000
"""Tries to end a pulse: about half an hour. After that `safe_state` or the next opening ends it."""

log = logging.getLogger(__name__)


class CoilWriter(Protocol):
    """What a lane needs of a board. `drivers.modbus.RelayBoard` is one."""

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


class LaneOutputs:
    """Barrier and lamps of one lane.

    Every operation tries again inside its own time, and a repeated try is harmless: a coil that is on already makes
    no second edge. When it gives up, the error's outcome is *unknown* if any try was, because that one may have
    switched. A refusal by the board is final.

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
        timeout_s: float = TIMEOUT_S,
    ) -> None:
        if len({barrier_coil, green_coil, red_coil}) != 3:
            raise ValueError(f"barrier, green and red share a coil: {barrier_coil}, {green_coil}, {red_coil}")
        if pulse_ms <= 0:
            raise ValueError(f"pulse_ms {pulse_ms} is not positive")
        self._board = board
        self._clock = board.clock
        self._barrier_coil = barrier_coil
        self._green_coil = green_coil
        self._red_coil = red_coil
        self._pulse_ms = pulse_ms
        self._timeout_s = timeout_s
        self._busy = asyncio.Lock()
        self._off_owed = False
        self._pulse: asyncio.Task[None] | None = None
        self._pulse_writing = False

    async def open_barrier(self, *, timeout_s: float | None = None) -> None:
        """Lift the barrier. Returns when the board has confirmed the rising edge; the pulse ends in the background."""
        async with self._turn(timeout_s) as deadline:
            await self._stop_pulse()
            if self._off_owed:  # the coil may still be on: without an off there is no edge
                try:
                    await self._barrier_off(deadline)
                except DeviceError as error:
                    raise DeviceUnavailable(
                        f"barrier not opened, the last pulse has not ended: {error.problem}", device=self._board.name
                    ) from error
            self._off_owed = True
            try:
                await self._persist("barrier on", self._coil(self._barrier_coil, on=True), deadline)
            finally:
                self._pulse = asyncio.create_task(self._end_pulse(self._pulse_ms / 1000))

    async def show_go(self, *, timeout_s: float | None = None) -> None:
        """Red off, green on."""
        async with self._turn(timeout_s) as deadline:
            await self._lamps(go=True, deadline=deadline)

    async def show_stop(self, *, timeout_s: float | None = None) -> None:
        """Red on, green off."""
        async with self._turn(timeout_s) as deadline:
            await self._lamps(go=False, deadline=deadline)

    async def safe_state(self, *, timeout_s: float | None = None) -> None:
        """Barrier coil off, red on, green off. An arm that is up stays up: lowering it is the barrier's own affair."""
        async with self._turn(timeout_s) as deadline:
            await self._stop_pulse()
            self._off_owed = True  # nobody knows what an earlier process left switched on
            await self._barrier_off(deadline)
            await self._lamps(go=False, deadline=deadline)

    async def close(self, *, timeout_s: float | None = None) -> None:
        """End a running pulse now; afterwards nothing runs in the background. Raises DeviceError when the coil may
        still be on."""
        async with self._turn(timeout_s) as deadline:
            await self._stop_pulse()
            if self._off_owed:
                try:
                    await self._barrier_off(deadline)
                finally:
                    await self._stop_pulse()

    # --- parts ----------------------------------------------------------------------------------------------------

    @asynccontextmanager
    async def _turn(self, timeout_s: float | None) -> AsyncIterator[float]:
        """One operation of a lane at a time; gives the deadline, which counts from before the wait."""
        allowed_s = self._timeout_s if timeout_s is None else timeout_s
        deadline = self._clock.monotonic() + allowed_s
        try:
            async with asyncio.timeout(allowed_s):
                await self._busy.acquire()
        except TimeoutError as error:
            raise DeviceTimeout(
                "the lane's last operation is not finished", device=self._board.name, outcome=Outcome.NOT_SENT
            ) from error
        try:
            yield deadline
        finally:
            self._busy.release()

    def _coil(self, address: int, *, on: bool) -> Callable[[float], Awaitable[None]]:
        return lambda seconds: self._board.write_coil(address, on, timeout_s=seconds)

    async def _barrier_off(self, deadline: float) -> None:
        """Pay the owed off now, or leave it to the background and raise."""
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

    async def _persist(self, what: str, write: Callable[[float], Awaitable[None]], deadline: float) -> None:
        """Try `write` until it succeeds, is refused, or the time is over."""
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
                if error.outcome is Outcome.UNKNOWN:
                    maybe_done = error
                if isinstance(error, DeviceRefused):
                    break
            else:
                return
            await self._clock.sleep(min(RETRY_PAUSE_S, max(0.0, deadline - self._clock.monotonic())))
        raise (
            maybe_done
            or last
            or DeviceTimeout(f"{what}: no time left", device=self._board.name, outcome=Outcome.NOT_SENT)
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
