"""Relay boards over Modbus TCP: barriers, lamps and loops of a plaza share one board and one connection.

The only module of the product that knows pymodbus. The library is asked for three things: framing, matching an
answer to its request, and one connection attempt. Everything that decides something stays here: when to connect
again, how long a request may take, what a silence means.

Theory of operation. `run()` connects, asks the board for one coil, and calls it *up* only when the board has answered
that: a TCP connection alone proves nothing, a hung board still accepts. Requests take turns, because a board works on
one at a time and small ones lose a second request that arrives early. A request that gets no answer costs the
connection: whatever still arrives on it belongs to nobody. `run()` then starts again, with growing pauses. An idle
board is asked for that coil every few seconds, so that a dead one is known before a vehicle needs it.

An order that must not be given twice (`order_coil`) keeps the connection when it is not answered: a board works through
one connection in order, so an answer to a later question on it proves that the order was executed before, or lost. On
another connection an answer proves nothing, because a board that was frozen still executes what the abandoned one has
brought it.

Function codes and exception codes: Modbus application protocol V1.1b3, sections 6 and 7.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from enum import Enum
from typing import Any, NoReturn, TypeVar

from pymodbus.client import AsyncModbusTcpClient
from pymodbus.exceptions import ConnectionException, ModbusException
from pymodbus.pdu import ModbusPDU

from drivers.clock import Clock
from drivers.errors import (
    DeviceError,
    DeviceRefused,
    DeviceTimeout,
    DeviceUnavailable,
    LinkLost,
    RequestOutcome,
    Unanswered,
)
from protocols.errors import LocalProtocolError

BACKOFF_FIRST_S = 0.1
"""Pause before the first new connection. Short: a lane may be waiting for its barrier."""

BACKOFF_S_MAX = 2.0
"""Longest pause between attempts. The board is on the same switch: asking every two seconds burdens nobody."""

CONNECT_TIMEOUT_S = 1.0
"""A board on the local network accepts within milliseconds; one retransmitted SYN takes a second."""

PROBE_TIMEOUT_S = 1.0
"""Time the board has to answer the question that proves it alive."""

IDLE_PROBE_S = 5.0
"""Silence after which the board is asked whether it is alive: how late a dead board is noticed between vehicles."""

REQUEST_S_MAX = 10.0
"""Longest time one request may be given. A caller who would wait longer wants to try again instead."""

WAITING_MAX = 64
"""Requests waiting for their turn. A plaza of 16 lanes has at most four each under way; more means a leak."""

COILS_MAX = 1968
"""Most coils of one write (section 6.11)."""

INPUTS_MAX = 2000
"""Most inputs or coils of one read (sections 6.1 and 6.2)."""

ADDRESS_MAX = 0xFFFF

READ_COILS, READ_INPUTS, WRITE_COIL, WRITE_COILS = 1, 2, 5, 15

EXCEPTION_CODES: dict[int, tuple[str, RequestOutcome]] = {
    1: ("function not supported", RequestOutcome.REFUSED),
    2: ("no such address", RequestOutcome.REFUSED),
    3: ("value not allowed", RequestOutcome.REFUSED),
    4: ("failed while carrying it out", RequestOutcome.UNKNOWN),
    5: ("accepted, still working on it", RequestOutcome.UNKNOWN),
    6: ("busy", RequestOutcome.REFUSED),
    8: ("memory parity error", RequestOutcome.UNKNOWN),
    10: ("gateway has no path to the board", RequestOutcome.REFUSED),
    11: ("board behind the gateway did not answer", RequestOutcome.UNKNOWN),
}
"""Exception code -> (text, outcome), section 7. 4, 5, 8 and 11 leave open whether the coil has switched."""

STOPPED = "stopped"
"""Cause of *down* when `run()` was cancelled: no fault."""

UNKNOWN_EXCEPTION = ("exception code not in the standard", RequestOutcome.UNKNOWN)

log = logging.getLogger(__name__)

# The library logs every failed connect and every unanswered request as an error with a frame dump. All of these
# come back to us as results and are reported once, with their outcome.
logging.getLogger("pymodbus").setLevel(logging.CRITICAL)

T = TypeVar("T")


class BoardState(Enum):
    """State of a board: it answers or it does not."""

    DOWN = "down"
    UP = "up"


StateCallback = Callable[[BoardState, str], None]
"""Called with the new state and its cause, on the event loop. Must not block."""


class RelayBoard:
    """One board, one supervised connection, shared by every lane wired to it.

    `run()` must be running for the requests to succeed. Requests raise `DeviceError` with an outcome, or
    `LocalProtocolError` for an address or a count the protocol does not have. `timeout_s` of a request covers its
    wait for its turn too.
    """

    def __init__(
        self,
        host: str,
        port: int,
        *,
        unit: int = 1,
        clock: Clock,
        name: str = "relay-board",
        on_state: StateCallback | None = None,
        probe_coil: int = 0,
        probe_timeout_s: float = PROBE_TIMEOUT_S,
        idle_probe_s: float = IDLE_PROBE_S,
    ) -> None:
        _check("unit", unit, 0, 255)
        _check("probe_coil", probe_coil, 0, ADDRESS_MAX)
        self.name = name
        self.clock = clock
        self._host = host
        self._port = port
        self._unit = unit
        self._on_state = on_state
        self._probe_coil = probe_coil
        self._probe_timeout_s = probe_timeout_s
        self._idle_probe_s = idle_probe_s
        self._link: _Link | None = None
        self._links_made = 0
        self._turn = asyncio.Lock()
        self._waiting = 0
        self._state = BoardState.DOWN
        self._cause = "not started"

    @property
    def state(self) -> BoardState:
        """State by the board's last answer."""
        return self._state

    @property
    def cause(self) -> str:
        """Reason why the board is in its state, in words for a technician."""
        return self._cause

    async def run(self) -> NoReturn:
        """Keep the board connected until cancelled."""
        pause_s = BACKOFF_FIRST_S
        try:
            while True:
                was_up, cause = await self._serve_connection()
                self._report(BoardState.DOWN, cause)
                if was_up:
                    pause_s = BACKOFF_FIRST_S
                await self.clock.sleep(pause_s)
                pause_s = min(2 * pause_s, BACKOFF_S_MAX)
        finally:
            self._report(BoardState.DOWN, STOPPED)

    async def write_coil(self, address: int, on: bool, *, timeout_s: float) -> None:
        """Switch one coil and wait for the board's echo (function 5)."""
        _check("address", address, 0, ADDRESS_MAX)
        answer = await self._exchange(
            lambda client: client.write_coil(address, on, device_id=self._unit),
            function=WRITE_COIL,
            what=f"coil {address} {'on' if on else 'off'}",
            timeout_s=timeout_s,
        )
        if (answer.address, list(answer.bits)) != (address, [on]):
            raise self._wrong_answer(f"coil {address} {'on' if on else 'off'}", answer)

    async def order_coil(self, address: int, *, turn_s: float, answer_s: float) -> None:
        """Switch one coil on: an order that must not be given twice.

        Not sent when its turn does not come within `turn_s`. Then the board has `answer_s` for its echo, and nobody
        else has a turn; without one this raises `Unanswered`, and the connection is kept.
        """
        _check("address", address, 0, ADDRESS_MAX)
        what = f"coil {address} on"
        answer = await self._exchange(
            lambda client: client.write_coil(address, True, device_id=self._unit),
            function=WRITE_COIL,
            what=what,
            timeout_s=turn_s,
            answer_s=answer_s,
        )
        if (answer.address, list(answer.bits)) != (address, [True]):
            raise self._wrong_answer(what, answer)

    async def write_coils(self, address: int, values: Sequence[bool], *, timeout_s: float) -> None:
        """Switch coils `address`, `address + 1`, ... in one request (function 15)."""
        _check("count", len(values), 1, COILS_MAX)
        _check("address", address, 0, ADDRESS_MAX - len(values) + 1)
        what = f"coils {address} to {address + len(values) - 1}"
        answer = await self._exchange(
            lambda client: client.write_coils(address, list(values), device_id=self._unit),
            function=WRITE_COILS,
            what=what,
            timeout_s=timeout_s,
        )
        if (answer.address, answer.count) != (address, len(values)):
            raise self._wrong_answer(what, answer)

    async def read_inputs(
        self, address: int, count: int, *, timeout_s: float = PROBE_TIMEOUT_S, connection: int | None = None
    ) -> tuple[bool, ...]:
        """State of `count` discrete inputs from `address` on (function 2); with `connection` asked on no other one."""
        return await self._read(READ_INPUTS, address, count, timeout_s=timeout_s, connection=connection)

    async def read_coils(self, address: int, count: int, *, timeout_s: float = PROBE_TIMEOUT_S) -> tuple[bool, ...]:
        """State of `count` coils from `address` on, as the board sees them (function 1)."""
        return await self._read(READ_COILS, address, count, timeout_s=timeout_s)

    async def _read(
        self, function: int, address: int, count: int, *, timeout_s: float, connection: int | None = None
    ) -> tuple[bool, ...]:
        _check("count", count, 1, INPUTS_MAX)
        _check("address", address, 0, ADDRESS_MAX - count + 1)
        what = f"read {count} {'inputs' if function == READ_INPUTS else 'coils'} from {address}"

        def ask(client: AsyncModbusTcpClient) -> Awaitable[ModbusPDU]:
            read = client.read_discrete_inputs if function == READ_INPUTS else client.read_coils
            return read(address, count=count, device_id=self._unit)

        answer = await self._exchange(ask, function=function, what=what, timeout_s=timeout_s, connection=connection)
        # The answer fills its last byte with zeros.
        if len(answer.bits) != (count + 7) // 8 * 8:
            raise self._wrong_answer(what, answer)
        return tuple(bool(bit) for bit in answer.bits[:count])

    # --- one request ----------------------------------------------------------------------------------------------

    async def _exchange(
        self,
        ask: Callable[[AsyncModbusTcpClient], Awaitable[ModbusPDU]],
        *,
        function: int,
        what: str,
        timeout_s: float,
        connection: int | None = None,
        answer_s: float | None = None,
    ) -> ModbusPDU:
        """One request and its answer. With `answer_s` the time for the answer counts from the turn, and silence keeps
        the connection."""
        deadline = self.clock.monotonic() + min(timeout_s, REQUEST_S_MAX)
        if self._waiting >= WAITING_MAX:
            raise DeviceUnavailable(f"{what}: {WAITING_MAX} requests are waiting already", device=self.name)
        self._waiting += 1
        try:
            await self._take_turn(what, deadline)
            try:
                if self._link is None:
                    raise DeviceUnavailable(
                        f"{what}: {self._cause}", device=self.name, hint="check power and network of the relay board"
                    )
                if connection not in (None, self._link.number):
                    raise DeviceUnavailable(f"{what}: connection {connection} has ended", device=self.name)
                kept = answer_s is not None
                seconds = deadline - self.clock.monotonic() if answer_s is None else min(answer_s, REQUEST_S_MAX)
                answer = await self._link.request(ask, what, seconds, keep=kept)
            finally:
                self._turn.release()
        finally:
            self._waiting -= 1
        if answer.isError():
            text, outcome = EXCEPTION_CODES.get(answer.exception_code, UNKNOWN_EXCEPTION)
            raise DeviceRefused(f"{what}: exception {answer.exception_code}, {text}", device=self.name, outcome=outcome)
        if answer.function_code != function:
            raise self._wrong_answer(what, answer)
        return answer

    async def _take_turn(self, what: str, deadline: float) -> None:
        try:
            async with asyncio.timeout(deadline - self.clock.monotonic()):
                await self._turn.acquire()
        except TimeoutError as error:
            raise DeviceTimeout(
                f"{what}: no turn in time", device=self.name, outcome=RequestOutcome.NOT_SENT
            ) from error

    def _wrong_answer(self, what: str, answer: ModbusPDU) -> DeviceError:
        """Drop the connection: the board answered another question, and nothing it said there can be trusted."""
        problem = f"{what}: the answer does not fit ({answer})"
        if self._link is not None:
            self._link.drop("answered another question")
        return LinkLost(problem, device=self.name, hint="does another master use this board?")

    # --- the connection -------------------------------------------------------------------------------------------

    async def _serve_connection(self) -> tuple[bool, str]:
        """Connect, probe, and stay until the connection ends. Returns whether the board was up, and why it ended."""
        self._links_made += 1
        link = _Link(self.name, self._host, self._port, self.clock, self._links_made)
        try:
            if not await link.connect():
                return False, f"no connection to {self._host}:{self._port}"
            try:
                await self._probe(link)
            except DeviceError as error:
                return False, f"connected, but no life: {error.problem}"
            self._link = link
            self._report(BoardState.UP, f"connected to {self._host}:{self._port}")
            return True, await self._watch(link)
        finally:
            self._link = None
            link.drop("closed by us")

    async def _watch(self, link: _Link) -> str:
        """Wait for the end of `link` and return its cause; ask for a sign of life when nobody else asks anything."""
        while (cause := await link.wait_lost(self._idle_probe_s)) is None:
            # A request under way proves or ends the connection by itself.
            if link.silent_for_s() >= self._idle_probe_s and not self._turn.locked():
                try:
                    async with self._turn:
                        await self._probe(link)
                except DeviceError as error:
                    return error.problem
        return cause

    async def _probe(self, link: _Link) -> None:
        """Ask for one coil: any answer proves life, a refusal too."""
        await link.request(
            lambda client: client.read_coils(self._probe_coil, count=1, device_id=self._unit),
            f"read coil {self._probe_coil}",
            self._probe_timeout_s,
        )

    def _report(self, state: BoardState, cause: str) -> None:
        if (state, cause) == (self._state, self._cause):
            return  # the tenth failed attempt is no news
        self._state, self._cause = state, cause
        level = logging.INFO if state is BoardState.UP or cause == STOPPED else logging.WARNING
        log.log(level, "%s %s: %s", self.name, state.value, cause)
        if self._on_state is not None:
            self._on_state(state, cause)


class _Link:
    """One TCP connection to the board, from its attempt to its end. Never reused."""

    def __init__(self, device: str, host: str, port: int, clock: Clock, number: int) -> None:
        self.number = number
        self._device = device
        self._clock = clock
        self._answered_at = clock.monotonic()
        self._lost: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._client = AsyncModbusTcpClient(
            host,
            port=port,
            name=device,
            reconnect_delay=0,  # never by itself: a connection of which run() knows nothing must not exist
            retries=0,  # whether a write may be repeated is not the library's to decide
            timeout=REQUEST_S_MAX + 1,  # ours always ends first
            trace_connect=self._connection_changed,
        )

    def _connection_changed(self, connected: bool) -> None:
        if not connected:
            self._end("the board closed the connection")

    def _end(self, cause: str) -> None:
        if not self._lost.done():
            self._lost.set_result(cause)

    def drop(self, cause: str) -> None:
        """End the connection from our side. Does nothing to one that has ended."""
        self._end(cause)
        self._client.close()

    def silent_for_s(self) -> float:
        """Seconds since the board's last answer, or since the connection was begun."""
        return self._clock.monotonic() - self._answered_at

    async def wait_lost(self, seconds: float) -> str | None:
        """Wait at most `seconds` for the end of the connection; return its cause, or None while it lasts."""
        await asyncio.wait({self._lost}, timeout=seconds)
        return self._lost.result() if self._lost.done() else None

    async def connect(self) -> bool:
        """Open the connection. The library does not tell why it could not."""
        attempt = asyncio.create_task(self._client.connect())
        try:
            await asyncio.wait({attempt}, timeout=CONNECT_TIMEOUT_S)
            return attempt.done() and attempt.result()
        finally:
            await _abandon(attempt)

    async def request(
        self,
        ask: Callable[[AsyncModbusTcpClient], Awaitable[ModbusPDU]],
        what: str,
        seconds: float,
        *,
        keep: bool = False,
    ) -> ModbusPDU:
        """Send one request and return the answer, an exception answer too.

        Without an answer the link is dropped, or kept where `keep` says so: the library tells a late answer by its
        number and passes it over.
        """
        if seconds <= 0:
            raise DeviceTimeout(f"{what}: no time left", device=self._device, outcome=RequestOutcome.NOT_SENT)
        # A task, so that the loss of the connection ends the wait: the library waits on, for an answer that nobody
        # can send any more.
        sent_at = self._clock.monotonic()
        task = asyncio.create_task(self._ask(ask))
        cause = f"{what}: abandoned"
        try:
            waited: set[asyncio.Future[Any]] = {task, self._lost}
            await asyncio.wait(waited, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
            if task.done():
                answer = task.result()
                self._answered_at = self._clock.monotonic()
                cause = ""
                return answer
            if self._lost.done():
                raise LinkLost(f"{what}: {self._lost.result()}", device=self._device)
            silence = f"{what}: no answer within {round(seconds * 1000)} ms"
            cause = "" if keep else silence
            hint = "is the board hung? switch it off and on"
            if keep:
                raise Unanswered(silence, device=self._device, connection=self.number, sent_at=sent_at, hint=hint)
            raise DeviceTimeout(silence, device=self._device, hint=hint)
        except ConnectionException as error:
            raise DeviceUnavailable(f"{what}: connection gone", device=self._device) from error
        except ModbusException as error:
            raise LinkLost(f"{what}: {error}", device=self._device) from error
        finally:
            if cause:
                self.drop(cause)
            await _abandon(task)

    async def _ask(self, ask: Callable[[AsyncModbusTcpClient], Awaitable[ModbusPDU]]) -> ModbusPDU:
        if not self._client.connected:
            # Checked in the step that sends: the library would open a connection of its own.
            raise ConnectionException("closed before the request was sent")
        return await ask(self._client)


async def _abandon(task: asyncio.Task[T]) -> None:
    """Cancel `task` unless it is done, and see it end: the library's lock must be free again."""
    if not task.done():
        task.cancel()
        await asyncio.wait({task})


def _check(field: str, value: int, lowest: int, highest: int) -> None:
    if not lowest <= value <= highest:
        raise LocalProtocolError(f"{value} is not from {lowest} to {highest}", field=field)
