"""Driver of a roadside antenna on a byte link: connects, starts it, keeps it alive, and hands over what it reports.

Theory of operation. `run` owns the connection. It opens the link, sends C0 and waits for the B0 that answers it, looks
at what B0 says of the antenna and its PSAMs, switches the radio on and is up. While up, a reader feeds the protocol
session and a timer lets it repeat and complain. Silence longer than the session allows, a device that says it is
broken, or the end of the link start all over, with growing pauses, for ever; what is wrong is reported in words.

Reports of vehicles go to `reports()`, the rest stays here. The queue between is bounded, and fair to vehicles that are
there when an antenna reports more than can be (`drivers.report_queue`).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from enum import Enum

from drivers.clock import Clock
from drivers.errors import DeviceError, DeviceTimeout, DeviceUnavailable, LinkLost
from drivers.link import Link
from drivers.report_queue import ReportQueue
from drivers.restraint import LogStretch
from drivers.rsu_orders import OrdersUnderWay
from protocols.errors import ProtocolError
from protocols.rsu.dialect import Dialect, Side
from protocols.rsu.messages import (
    DeviceStatus,
    Heartbeat,
    Initialise,
    LaneMessage,
    Message,
    ObuReport,
    RsuMessage,
    SwitchAntenna,
    Unmodelled,
)
from protocols.rsu.session import (
    BadBytes,
    Duplicate,
    Event,
    Output,
    PeerBack,
    PeerRestarted,
    Received,
    Session,
    Silent,
    Timing,
    Unanswered,
)

READ_BYTES_MAX = 16 * 1024
"""Bytes taken per read: a dozen of the longest frames."""

PAUSE_FIRST_S, PAUSE_MAX_S = 0.2, 10.0
"""Pauses between attempts; an antenna that is away is asked every ten seconds."""

TICK_MAX_S = 0.5
"""Longest sleep of the timer, so that a session that has nothing to do is still looked at."""

log = logging.getLogger(__name__)


class RsuState(Enum):
    """State of the connection."""

    DOWN = "down"
    STARTING = "starting"
    UP = "up"
    FAULTY = "faulty"
    """Antenna that says it cannot work; it is asked again and again."""


@dataclass(frozen=True, slots=True)
class RsuCondition:
    """State and fault of the connection, as text; `code` names it for programs (a reason of the gateway)."""

    state: RsuState
    cause: str
    code: str | None = None


@dataclass(frozen=True, slots=True)
class RsuConfig:
    """One antenna."""

    device: str
    dialect: Dialect
    initialise: Callable[[], Initialise]
    """Makes the C0 of a connection: clock, mode and radio parameters."""
    timing: Timing | None = None
    """Timing of the link; None: that of the dialect."""
    start_timeout_s: float = 8.0
    """Time for the B0: antennas reset their PSAMs before they answer."""
    ignore_psam_auth: bool = False
    """True for antennas that report *not authorised* and work all the same."""


@dataclass(frozen=True, slots=True)
class RsuReport:
    """Report of a vehicle, with the means to answer it."""

    message: RsuMessage
    at: float
    _up_to_date: Callable[[], bool]
    _send: Callable[[LaneMessage], None]

    @property
    def up_to_date(self) -> bool:
        """True when it was made after the last purchase order for its tag had arrived (`drivers.rsu_orders`), as known
        now: an order given while a report waits makes it old."""
        return self._up_to_date()

    def answer(self, message: LaneMessage) -> None:
        """Answer the report. Never blocks; on a link that is gone the answer is lost, and the antenna asks again."""
        self._send(message)


class RsuDriver:
    """Driver of one antenna, see the module. One consumer of `reports()`."""

    def __init__(
        self,
        config: RsuConfig,
        *,
        connect: Callable[[], Awaitable[Link]],
        clock: Clock,
        on_condition: Callable[[RsuCondition], None] = lambda _: None,
        on_trace: Callable[[str, bytes], None] | None = None,
    ) -> None:
        self._config = config
        self._connect = connect
        self._clock = clock
        self._on_condition = on_condition
        self._on_trace = on_trace
        self._queue: ReportQueue[RsuReport] = ReportQueue()
        self._left_log = LogStretch(log, config.device, "reports left unanswered")
        self._noise_log = LogStretch(log, config.device, "stretches of bytes that are no message")
        self._condition = RsuCondition(RsuState.DOWN, "not started")
        self.bad_bytes = 0
        """Stretches of bytes that were no frame, since start."""

    @property
    def condition(self) -> RsuCondition:
        """Condition of the connection now."""
        return self._condition

    async def reports(self) -> AsyncIterator[RsuReport]:
        """Vehicles' reports as they come, over all connections, for ever."""
        while True:
            yield await self._queue.get()

    async def run(self) -> None:
        """Keep the antenna working until cancelled."""
        pause_s = PAUSE_FIRST_S
        while True:
            try:
                await self._connection()
            except DeviceError as error:
                was_up = self._condition.state is RsuState.UP
                pause_s = PAUSE_FIRST_S if was_up else min(pause_s * 2, PAUSE_MAX_S)
                if not isinstance(error, _SaysBroken):
                    self.enter(RsuCondition(RsuState.DOWN, str(error), "rsu_silent"))
            await self._clock.sleep(pause_s)

    async def _connection(self) -> None:
        """One connection from open to end; always ends in DeviceError."""
        link = await self._connect()
        connection = _Connection(self, link, self._config, self._clock)
        self.enter(RsuCondition(RsuState.STARTING, "connected, waiting for its status"))
        try:
            await connection.serve()
        finally:
            await link.close()

    # --- called by the connection ---------------------------------------------------------------------------------

    @property
    def lane_is_behind(self) -> bool:
        """True when reports wait for the lane."""
        return not self._queue.empty

    def deliver(self, obu_id: bytes, report: RsuReport) -> None:
        """Queue a report for the lane."""
        result = not isinstance(report.message, ObuReport)
        if not self._queue.put(obu_id, report, report.at, result=result):
            self._left_log.say(
                report.at, "more reports than vehicles can make, a %s is left", type(report.message).__name__
            )

    def answered(self, obu_id: bytes, message: Message) -> None:
        """Note the tag that the lane deals with."""
        self._queue.answered(obu_id, message)

    def bad(self, event: BadBytes) -> None:
        """Count and log bytes that were no message."""
        self.bad_bytes += 1
        self._noise_log.say(
            self._clock.monotonic(),
            "%s (field %s, offset %s, data %s)",
            event.reason,
            event.field,
            event.offset,
            event.data.hex(),
        )

    def look(self, now: float) -> None:
        """Let time pass for the stretches of log lines."""
        self._left_log.look(now)
        self._noise_log.look(now)

    def enter(self, condition: RsuCondition) -> None:
        """Note a new condition, log it and report it."""
        if condition == self._condition:
            return
        self._condition = condition
        level = logging.INFO if condition.state in (RsuState.UP, RsuState.STARTING) else logging.WARNING
        log.log(level, "%s: %s: %s", self._config.device, condition.state.value, condition.cause)
        self._on_condition(condition)

    def trace(self, direction: str, data: bytes) -> None:
        """Show raw bytes (`in`, `out`) to the trace, where there is one."""
        if self._on_trace is not None:
            self._on_trace(direction, data)


class _SaysBroken(DeviceUnavailable):
    """Answer of an antenna that cannot work. The condition names the fault already."""


class _Connection:
    """One connection's session, its reader and its timer."""

    def __init__(self, driver: RsuDriver, link: Link, config: RsuConfig, clock: Clock) -> None:
        self._driver = driver
        self._link = link
        self._config = config
        self._clock = clock
        self._session = Session(config.dialect, Side.LANE, config.timing)
        self._orders = OrdersUnderWay()
        self._to_write = bytearray()
        self._wake = asyncio.Event()
        self._failure: DeviceError | None = None

    async def serve(self) -> None:
        """Start the antenna, then read and tick until one of them fails."""
        self._apply(self._session.send(self._config.initialise(), self._clock.monotonic()))
        reading = asyncio.ensure_future(self._read())
        ticking = asyncio.ensure_future(self._tick())
        starting = asyncio.ensure_future(self._started())
        tasks = (reading, ticking, starting)
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        for task in done:
            error = None if task.cancelled() else task.exception()
            if error is not None:
                raise error
        raise LinkLost("the connection ended", device=self._config.device)

    async def _started(self) -> None:
        """Fail when the antenna does not say in time what it is."""
        await self._clock.sleep(self._config.start_timeout_s)
        if self._driver.condition.state is RsuState.STARTING:
            raise DeviceTimeout(
                f"no B0 within {self._config.start_timeout_s} s of C0",
                device=self._config.device,
                hint="check dialect and port: another program may hold the antenna",
            )

    async def _read(self) -> None:
        while True:
            data = await self._link.read(READ_BYTES_MAX)
            if not data:
                raise LinkLost("the antenna closed the connection", device=self._config.device)
            self._driver.trace("in", data)
            self._apply(self._session.receive(data, self._clock.monotonic()))
            if self._failure is not None:
                raise self._failure
            if self._driver.lane_is_behind:
                # With bytes at hand a read does not wait: a line that is never quiet must not keep the lane from its
                # turn.
                await asyncio.sleep(0)

    async def _tick(self) -> None:
        while True:
            now = self._clock.monotonic()
            self._driver.look(now)
            due = self._session.next_tick(now)
            wait_s = TICK_MAX_S if due is None else min(TICK_MAX_S, max(0.0, due - now))
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(wait_s):
                    await self._wake.wait()
            self._wake.clear()
            await self._flush()
            self._apply(self._session.tick(self._clock.monotonic()))
            await self._flush()
            if self._failure is not None:
                raise self._failure

    def _apply(self, output: Output) -> None:
        """Act on what the session gave; writing happens in the timer's task, in order."""
        self._to_write += output.to_write
        for event in output.events:
            self._handle(event)
        if self._to_write:
            self._wake.set()

    async def _flush(self) -> None:
        if not self._to_write:
            return
        data, self._to_write = bytes(self._to_write), bytearray()
        self._driver.trace("out", data)
        await self._link.write(data)

    def _handle(self, event: Event) -> None:
        if isinstance(event, Received):
            self._received(event)
        elif isinstance(event, BadBytes):
            self._driver.bad(event)
        elif isinstance(event, PeerRestarted):
            self._restarted(event)
        elif isinstance(event, Silent):
            self._failure = DeviceTimeout(
                "the antenna has gone silent", device=self._config.device, hint="check its power and cable"
            )
        elif isinstance(event, Unanswered) and isinstance(event.message, Initialise):
            self._failure = DeviceTimeout(
                f"C0 not answered after {event.tries} tries",
                device=self._config.device,
                hint="check dialect and port: another program may hold the antenna",
            )
        elif isinstance(event, Duplicate | PeerBack | Unanswered):
            log.debug("%s: %s", self._config.device, event)
            if isinstance(event, Duplicate) and event.said is not None:
                self._ordered(event.said)

    def _restarted(self, event: PeerRestarted) -> None:
        """Start the antenna again after it lost its power; its status after that counts."""
        log.warning("%s: the antenna has been switched on again", self._config.device)
        self._driver.enter(RsuCondition(RsuState.STARTING, "restarted, waiting for its status"))
        if not event.repeated:
            now = self._clock.monotonic()
            self._apply(self._session.send(self._config.initialise(), now, answering=event.received))

    def _received(self, event: Received) -> None:
        message = event.message
        if isinstance(message, DeviceStatus):
            self._device_status(message)
        elif isinstance(message, Heartbeat | Unmodelled):
            log.debug("%s: %s", self._config.device, type(message).__name__)
        elif isinstance(message, RsuMessage) and self._failure is None:
            self._driver.deliver(
                self._config.dialect.obu_of(message),
                RsuReport(message, event.at, self._up_to_date(event), lambda answer: self._answer(event, answer)),
            )

    def _up_to_date(self, event: Received) -> Callable[[], bool]:
        obu_id = self._config.dialect.obu_of(event.message)
        if isinstance(event.message, ObuReport) or not obu_id:
            return lambda: True
        made_since = self._orders.reported(obu_id, event.at)
        purchases = self._orders.purchases
        return lambda: made_since and not self._orders.bought_since(obu_id, purchases)

    def _ordered(self, message: Message) -> None:
        obu_id = self._config.dialect.obu_of(message)
        if obu_id:
            self._driver.answered(obu_id, message)
            self._orders.written(obu_id, message, self._clock.monotonic())

    def _device_status(self, status: DeviceStatus) -> None:
        """Check B0: fit for work, or in words why not."""
        if status.rsu_status:
            codes = {1: "psam_reset_failed", 2: "rsu_antenna_fault", 3: "rsu_controller_fault"}
            cause = f"B0 reports fault {status.rsu_status:02X}"
            self._broken(cause, codes.get(status.rsu_status, "rsu_controller_fault"))
            return
        locked = [psam.channel for psam in status.psams if psam.auth]
        if locked and not self._config.ignore_psam_auth:
            self._broken(f"PSAM in channel {locked[0]} is not authorised", "psam_not_authorised")
            return
        self._apply(self._session.send(SwitchAntenna(on=1), self._clock.monotonic()))
        self._driver.enter(RsuCondition(RsuState.UP, f"RSU {status.rsu_id.hex()} works"))

    def _broken(self, cause: str, code: str) -> None:
        """Let go of an antenna that must not sell as it is, and see later whether it has been cured."""
        self._driver.enter(RsuCondition(RsuState.FAULTY, cause, code))
        self._failure = _SaysBroken(cause, device=self._config.device)

    def _answer(self, event: Received, message: LaneMessage) -> None:
        if self._failure is not None:
            return
        try:
            self._apply(self._session.send(message, self._clock.monotonic(), answering=event))
        except ProtocolError:
            log.exception("%s: an answer could not be encoded", self._config.device)
            return
        self._ordered(message)
