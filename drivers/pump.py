"""Driver of a line with pumps on it: connects, polls, hands over what each side says, and gives it commands.

Theory of operation. `PumpBus.run` owns the connection: it opens the link, makes the controller's end of the dialect
anew, feeds it what is read, and lets time pass for it as often as it asks for that, so that the line is used at the
pace that the dialect keeps. The end of the link starts all over, with growing pauses, for ever.

A side is `Offline` while there is no link. Commands then are `NOT_SENT` at once; those under way when the link breaks
end with what is known of them. A command whose caller was cancelled is withdrawn: what was not sent stays unsent, so
that no pump is let go for somebody who has left.

Each side has a queue of its own for one consumer. One that falls behind loses what has become old, never the newest
word on anything (see `drivers.pump_side`).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Final

from drivers.addresses import LinkAddress, Parity, SerialSettings, parse_link_address
from drivers.clock import Clock
from drivers.errors import DeviceError, LinkLost
from drivers.link import Link
from drivers.pump_side import Heard, Inbox, PumpSide
from drivers.restraint import LogStretch
from protocols.bad_frame import BadFrame
from protocols.errors import LocalProtocolError
from protocols.pump.bus import Bus, Done, Event, Offline, Online, Output, Restarted, Stray, Ticket, Told, Unreadable
from protocols.pump.registry import dialect_named
from protocols.pump.types import Command, Decimals, Outcome, SideId

READ_BYTES_MAX: Final = 1024
"""Bytes taken per read; one answer seldom has more than a hundred."""

PAUSE_FIRST_S, PAUSE_MAX_S = 0.2, 10.0
"""Pauses between attempts to connect."""

WRITE_TIMEOUT_S: Final = 5.0
"""Longest write: a message has a few bytes, so a link that takes none for so long has no other end."""

log = logging.getLogger(__name__)


def link_address(dialect: str, text: str) -> LinkAddress:
    """Address of a line, set as this dialect usually is where `text` does not say it. Raises ValueError."""
    line = dialect_named(dialect).line
    usual = SerialSettings(baud=line.baud, bits=line.data_bits, parity=Parity(line.parity.value))
    return parse_link_address(text, usual)


@dataclass(frozen=True, slots=True)
class PumpBusConfig:
    """One line."""

    device: str
    dialect: str
    """A name of `protocols.pump.names`."""
    sides: Mapping[SideId, Decimals]


class PumpBus:
    """Driver of one line, see the module."""

    def __init__(
        self,
        config: PumpBusConfig,
        *,
        connect: Callable[[], Awaitable[Link]],
        clock: Clock,
        on_condition: Callable[[bool, str], None] = lambda _works, _cause: None,
        on_trace: Callable[[str, bytes], None] | None = None,
    ) -> None:
        """`on_condition`: told whether the line works and why, when that changes. Each side tells its own presence."""
        self.config = config
        self.clock = clock
        self._dialect = dialect_named(config.dialect)
        self._connect = connect
        self._on_condition = on_condition
        self._on_trace = on_trace
        self._connection: _Connection | None = None
        self._condition: tuple[bool, str] | None = None
        self._inboxes = {
            side: Inbox(LogStretch(log, f"{config.device} side {side}", "events")) for side in config.sides
        }
        self._sides = {side: PumpSide(self, side, inbox) for side, inbox in self._inboxes.items()}
        self._noise_log = LogStretch(log, config.device, "messages that say nothing")
        self._dialect.master(config.sides, clock.monotonic())  # sides that the dialect does not have fail here

    def side(self, side: SideId) -> PumpSide:
        """One side of the line. Raises KeyError for one that is not on it."""
        return self._sides[side]

    async def run(self) -> None:
        """Keep the line working until cancelled."""
        pause_s = PAUSE_FIRST_S
        while True:
            try:
                await self._serve()
            except DeviceError as error:
                works, _ = self._condition or (False, "")
                pause_s = PAUSE_FIRST_S if works else min(pause_s * 2, PAUSE_MAX_S)
                self.enter(works=False, cause=str(error))
            await self.clock.sleep(pause_s)

    async def do(self, side: SideId, command: Command) -> Outcome:
        """Give a command to a side, see `PumpSide.do`."""
        return Outcome.NOT_SENT if self._connection is None else await self._connection.do(side, command)

    async def _serve(self) -> None:
        """Open the link and use it to its end, which is a DeviceError."""
        try:
            link = await self._connect()
        except DeviceError:
            self._all_away()
            raise
        connection = self._connection = _Connection(self, link, self._dialect.master)
        self.enter(works=False, cause="connected, no side has answered yet", level=logging.INFO)
        try:
            await connection.serve()
        finally:
            self._connection = None
            self._all_away()
            connection.end()
            await link.close()

    def _all_away(self) -> None:
        """Note that no side can be heard. One that was online was polled until now, and answered."""
        now = self.clock.monotonic()
        for side, inbox in self._inboxes.items():
            inbox.put(Offline(side, now if inbox.online else None), now)

    # --- called by the connection ---------------------------------------------------------------------------------

    def heard(self, side: SideId, event: Heard) -> None:
        """Queue an event of a side for its charge point."""
        self._inboxes[side].put(event, self.clock.monotonic())
        if isinstance(event, Online):
            self.enter(works=True, cause=f"side {side} answers")
        elif isinstance(event, Offline) and not any(inbox.online for inbox in self._inboxes.values()):
            self.enter(works=False, cause="no side answers")

    def noise(self, text: str, *values: object) -> None:
        """Log bytes of which nothing comes."""
        self._noise_log.say(self.clock.monotonic(), text, *values)

    def look(self, now: float) -> None:
        """Let time pass for the stretches of log lines."""
        self._noise_log.look(now)

    def enter(self, *, works: bool, cause: str, level: int = logging.WARNING) -> None:
        """Note whether the line works, and report it when that is news."""
        if self._condition == (works, cause) or (works and self._condition is not None and self._condition[0]):
            return
        self._condition = works, cause
        log.log(logging.INFO if works else level, "%s: %s", self.config.device, cause)
        self._on_condition(works, cause)

    def trace(self, direction: str, data: bytes) -> None:
        """Show raw bytes (`in`, `out`) to the trace, where there is one."""
        if self._on_trace is not None:
            self._on_trace(direction, data)


class _Connection:
    """One connection: the controller's end of the dialect, and the commands under way."""

    def __init__(self, owner: PumpBus, link: Link, master: Callable[[Mapping[SideId, Decimals], float], Bus]) -> None:
        self._owner = owner
        self._link = link
        self._clock = owner.clock
        self._device = owner.config.device
        self._bus = master(owner.config.sides, self._clock.monotonic())
        self._asked: dict[Ticket, asyncio.Future[Outcome]] = {}
        self._to_write = bytearray()
        self._wake = asyncio.Event()

    async def serve(self) -> None:
        """Read and keep time until one of them fails."""
        tasks = [asyncio.ensure_future(self._read()), asyncio.ensure_future(self._keep_time())]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        done.pop().result()

    def end(self) -> None:
        """End what is under way, as far as it is known."""
        for ticket in self._asked:
            self._bus.withdraw(ticket)
        self._apply(self._bus.receive(b"", self._clock.monotonic()))

    async def do(self, side: SideId, command: Command) -> Outcome:
        try:
            ticket = self._bus.ask(side, command, self._clock.monotonic())
        except LocalProtocolError as error:
            log.error("%s: side %s: %s", self._device, side, error)  # noqa: TRY400 - the text says it all
            return Outcome.NOT_SENT
        self._asked[ticket] = asyncio.get_running_loop().create_future()
        self._wake.set()
        try:
            return await self._asked[ticket]
        finally:
            if self._asked.pop(ticket, None) is not None:
                self._bus.withdraw(ticket)
                self._wake.set()

    async def _read(self) -> None:
        while True:
            data = await self._link.read(READ_BYTES_MAX)
            if not data:
                raise LinkLost("the other end closed the connection", device=self._device)
            self._owner.trace("in", data)
            self._apply(self._bus.receive(data, self._clock.monotonic()))
            self._wake.set()
            # With bytes at hand a read does not wait: a line that is never quiet must not stop the polls.
            await asyncio.sleep(0)

    async def _keep_time(self) -> None:
        while True:
            self._wake.clear()
            now = self._clock.monotonic()
            self._owner.look(now)
            self._apply(self._bus.tick(now))
            await self._flush()
            now = self._clock.monotonic()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(max(0.0, self._bus.next_tick(now) - now)):
                    await self._wake.wait()

    def _apply(self, output: Output) -> None:
        """Act on what the bus gave; writing happens in the timer's task, in order."""
        self._to_write += output.to_write
        for event in output.events:
            self._handle(event)

    async def _flush(self) -> None:
        if not self._to_write:
            return
        data, self._to_write = bytes(self._to_write), bytearray()
        self._owner.trace("out", data)
        try:
            async with asyncio.timeout(WRITE_TIMEOUT_S):
                await self._link.write(data)
        except TimeoutError as error:
            raise LinkLost(f"{len(data)} bytes were not taken in {WRITE_TIMEOUT_S} s", device=self._device) from error

    def _handle(self, event: Event) -> None:
        match event:
            case Told():
                for reading in event.readings:
                    self._owner.heard(event.side, reading)
            case Online() | Offline() | Restarted():
                log.info("%s: %s", self._device, event)
                self._owner.heard(event.side, event)
            case Done():
                asked = self._asked.pop(event.ticket, None)
                if asked is not None and not asked.done():
                    asked.set_result(event.outcome)
            case Unreadable():
                self._owner.noise("side %s: %s", event.side, event.error)
            case Stray():
                self._owner.noise("%s: %s", event.raw.hex(), event.reason)
            case BadFrame():
                self._owner.noise("%s: %s", event.data.hex(), event.problem)
            case _:
                log.debug("%s: %s", self._device, event)
