"""Relay boards of a simulated site, one a lane, and the driver's way to them: `drivers.lane_io` runs as it is.

A board executes requests one after the other, in the order in which they came. It freezes, and what comes meanwhile is
executed when it thaws, whoever sent it and whether or not anybody still waits for the answer, or is lost; single
requests and single answers are lost too. Some boards switch a barrier's coil off by themselves after a moment, some
barriers have an input for their closed limit. The arm is as quick as the theory of `drivers.barrier_arm` allows.

`Coils` stands where `drivers.modbus` does, with the same promises: one request at a time, silence costs the connection
unless the request was an order.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from drivers.errors import (
    DeviceError,
    DeviceRefused,
    DeviceTimeout,
    DeviceUnavailable,
    LinkLost,
    RequestOutcome,
    Unanswered,
)
from drivers.modbus import BoardState, StateCallback
from gateway.points.gate.assemble import Outputs
from gateway.points.ports import OutputFault
from hardware.bench.simulation.loop import SimClock
from hardware.bench.simulation.site import BARRIER, CLOSED_LIMIT, GREEN, RED, TRAVEL_MS
from hardware.emulators.barrier import Barrier

if TYPE_CHECKING:
    from collections.abc import Coroutine, Sequence

    from hardware.bench.simulation.world import World

TRAVEL_S = TRAVEL_MS / 1000
"""Travel time of an arm, up and down: it is never away from its limit for less than twice that."""
LEAVING_S = 0.4
"""Time until an arm on its way has left its limit."""
STANDS_S = 20.0
COIL_BACK_S = 0.1
"""Time until a board that does it by itself has switched a barrier's coil off again."""
LATENCY_S = (0.005, 0.02)

ORDER_HARM = {"freeze": 0.04, "lost_write": 0.06, "lost_answer": 0.03, "refused": 0.015, "cut": 0.015}
OTHER_HARM = {"freeze": 0.003, "lost_write": 0.002, "lost_answer": 0.002, "refused": 0.001, "cut": 0.001}
READING_HARM = {"freeze": 0.12, "lost_write": 0.02, "cut": 0.02}
"""Chances of one order to open, one other write, one question for the closed limit."""
HARMS = tuple(ORDER_HARM)
FREEZES_S = ((0.2, 1.5), (1.0, 6.0))
QUEUE_LOST = 0.2
"""Chance that a board that thaws has forgotten what came meanwhile."""

T = TypeVar("T")

_record: ContextVar[int] = ContextVar("record", default=0)
"""Record number whose opening a task of the driver works on."""


@dataclass(slots=True)
class _Request:
    execute: Callable[[], Any]
    answer: asyncio.Future[Any]
    harm: str | None


class Board:
    """The board of one lane with its barrier; it outlives every gateway."""

    def __init__(self, world: World, lane: str, chance: random.Random, *, limit: bool, coil_comes_back: bool) -> None:
        self.name = f"board-{lane}"
        self.closed_limit = CLOSED_LIMIT if limit else None
        self.frozen = False
        self._world = world
        self._lane = lane
        self._chance = chance
        self._coil_comes_back = coil_comes_back
        self._coils = dict.fromkeys((BARRIER, GREEN, RED), False)
        self._arm = Barrier(opening_s=TRAVEL_S, closing_s=TRAVEL_S, hold_s=STANDS_S, leaving_s=LEAVING_S)
        self._queue: list[_Request] = []
        self._due = 0.0

    def receive(self, harms: Mapping[str, float], execute: Callable[[], T]) -> asyncio.Future[T]:
        """Take a request that has come; the future is its answer, which may never be."""
        loop = self._world.loop
        request = _Request(execute, loop.create_future(), self._draw(harms))
        self._due = max(self._due + 1e-6, loop.time() + self._chance.uniform(*LATENCY_S))
        loop.call_at(self._due, self._work, request)
        return request.answer

    def passed(self) -> None:
        """Note that the vehicle before the barrier has driven off."""
        self._arm.passed(self._world.loop.time())

    def switch(self, coil: int, on: bool, record_no: int) -> None:
        """Switch a coil, for the opening of this record."""
        edge = on and not self._coils[coil]
        self._coils[coil] = on
        if coil != BARRIER or not edge:
            return
        self._arm.command(self._world.loop.time())
        self._world.watch.lift(self._lane, record_no)
        self._world.lifted(self._lane)
        if self._coil_comes_back:
            self._world.loop.call_later(COIL_BACK_S, self._coils.__setitem__, BARRIER, False)

    def lies(self) -> bool:
        """True when the closed limit input is on."""
        return self._arm.at_closed_limit(self._world.loop.time())

    def _draw(self, harms: Mapping[str, float]) -> str | None:
        network = self._world.network
        if network.calm:
            return None
        roll = self._chance.random()
        for harm, share in harms.items():
            if roll < share:
                network.note(f"board/{self._lane}", harm)
                return harm
            roll -= share
        return None

    def _work(self, request: _Request) -> None:
        if request.harm == "freeze" and not self.frozen:
            self.frozen = True
            lasts_s = self._chance.uniform(*self._chance.choice(FREEZES_S))
            self._world.loop.call_later(lasts_s, self._thaw)
        if self.frozen:
            self._queue.append(request)
            return
        if request.harm == "lost_write":
            return
        if request.harm == "refused":
            _answer(request.answer, DeviceRefused("busy", device=self._lane))
            return
        cut = request.harm == "cut"
        if cut and self._chance.random() < 0.5:
            _answer(request.answer, LinkLost("cut", device=self._lane))
            return
        result = request.execute()
        if request.harm != "lost_answer":
            _answer(request.answer, LinkLost("cut", device=self._lane) if cut else result)

    def _thaw(self) -> None:
        self.frozen = False
        queue, self._queue = self._queue, []
        lost = self._chance.random() < QUEUE_LOST
        self._world.network.note(f"board/{self._lane}", "queue_lost" if lost else "executed_late")
        for request in () if lost else queue:
            request.harm = None
            self._work(request)


def _answer(future: asyncio.Future[Any], what: object) -> None:
    """Set the answer of a request for which nobody may wait any more."""
    if future.done():
        return
    if isinstance(what, Exception):
        future.set_exception(what)
        future.exception()  # told to nobody is no fault either
    else:
        future.set_result(what)


class Coils:
    """One gateway's connection to a board: a `drivers.lane_io.CoilWriter`."""

    def __init__(self, board: Board, name: str, clock: SimClock, on_state: StateCallback) -> None:
        """`on_state`: told whenever the board is connected, at first and again."""
        self.name = name
        self.clock = clock
        self._on_state = on_state
        self._board = board
        self._turn = asyncio.Lock()
        self._connection: int | None = None
        self._connected = 0

    async def run(self) -> None:
        """Do nothing: it connects when it is asked for something."""

    async def write_coil(self, address: int, on: bool, *, timeout_s: float) -> None:
        """Switch one coil or raise DeviceError."""
        await self.write_coils(address, [on], timeout_s=timeout_s)

    async def write_coils(self, address: int, values: Sequence[bool], *, timeout_s: float) -> None:
        """Switch neighbouring coils or raise DeviceError."""
        record_no = _record.get()

        def switch() -> None:
            for coil, on in enumerate(values, start=address):
                self._board.switch(coil, on, record_no)

        await self._exchange(OTHER_HARM, switch, turn_s=timeout_s, answer_s=timeout_s)

    async def order_coil(self, address: int, *, turn_s: float, answer_s: float) -> None:
        """Switch a coil on, once. Raises DeviceError."""
        record_no = _record.get()
        await self._exchange(
            ORDER_HARM,
            lambda: self._board.switch(address, True, record_no),
            turn_s=turn_s,
            answer_s=answer_s,
            keep=True,
        )

    async def read_inputs(
        self, address: int, count: int, *, timeout_s: float, connection: int | None
    ) -> tuple[bool, ...]:
        """Read the closed limit. Raises DeviceError."""
        if (address, count) != (self._board.closed_limit, 1):
            raise ValueError(f"this board has no inputs {address} to {address + count - 1}")
        closed = await self._exchange(
            READING_HARM, self._board.lies, turn_s=timeout_s, answer_s=timeout_s, connection=connection
        )
        return (closed,)

    async def _exchange(
        self,
        harms: Mapping[str, float],
        execute: Callable[[], T],
        *,
        turn_s: float,
        answer_s: float,
        connection: int | None = None,
        keep: bool = False,
    ) -> T:
        try:
            async with asyncio.timeout(turn_s):
                await self._turn.acquire()
        except TimeoutError as error:
            raise DeviceTimeout("no turn in time", device=self.name, outcome=RequestOutcome.NOT_SENT) from error
        try:
            here = self._connected_to(connection)
            self._connection = None  # unless it is seen to have lived through this
            sent_at = self.clock.monotonic()
            answer = self._board.receive(harms, execute)
            await asyncio.wait({answer}, timeout=answer_s)
            if not answer.done() and keep:
                self._connection = here
                raise Unanswered("no answer", device=self.name, connection=here, sent_at=sent_at)
            if not answer.done():
                raise DeviceTimeout("no answer", device=self.name)
            if not isinstance(answer.exception(), LinkLost):
                self._connection = here
            return answer.result()
        finally:
            self._turn.release()

    def _connected_to(self, connection: int | None) -> int:
        if self._connection is None and not self._board.frozen:
            self._connected += 1
            self._connection = self._connected
            self._on_state(BoardState.UP, "connected")
        if self._connection is None or connection not in (None, self._connection):
            raise DeviceUnavailable("not connected", device=self.name)
        return self._connection


class CountedOutputs(Outputs):
    """Outputs of one lane as the product has them; counts what becomes of openings."""

    def __init__(self, world: World, lane: str, made: Outputs) -> None:
        super().__init__(made.driver)
        self._lane = lane
        self._seen = world.watch.transitions
        self._trace = world.trace

    async def make_safe(self) -> None:
        """Do as the product does, with a line in the trace where it fails."""
        try:
            await self.driver.safe_state()
        except DeviceError as error:
            self._trace.add(self._lane, f"not made safe: {error.problem}")

    async def open_barrier(self, record_no: int, *, timeout_s: float) -> None:
        """Lift the barrier. Raises OutputFault."""
        _record.set(record_no)
        await self._counted(super().open_barrier(record_no, timeout_s=timeout_s), "ordered")

    async def confirm_opening(self, record_no: int) -> None:
        """Confirm what became of an opening. Raises OutputFault."""
        await self._counted(super().confirm_opening(record_no), "unanswered")

    async def _counted(self, work: Coroutine[Any, Any, None], before: str) -> None:
        try:
            await work
        except OutputFault as fault:
            self._seen[f"lift:{before}->{'not done' if fault.certain else 'unknown'}"] += 1
            raise
        self._seen[f"lift:{before}->done"] += 1


LIFT_ENDS = tuple(
    f"lift:{before}->{end}" for before in ("ordered", "unanswered") for end in ("done", "not done", "unknown")
)
"""Ends of an opening, by what is known of it before."""
