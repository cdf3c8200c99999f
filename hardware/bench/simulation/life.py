"""One life of the gateway, from its start-up to its crash: what `gateway.runtime` starts, started in the simulation."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar, cast

from sqlalchemy import func, select

from gateway.assembly import Documents, Storage, assemble, assemble_point
from gateway.banks.assemble import BankTransport
from gateway.cards.terminal import Slots
from gateway.debit.engine import DebitEngine, Timing
from gateway.doors import HttpSection, HttpServer
from gateway.ledger import tables
from gateway.ledger.batches import Batches
from gateway.ledger.marks import FOLLOW_EVERY_S
from gateway.model.clock import Clock, from_us
from gateway.outbox.worker import Backlog
from gateway.payers import mandates
from gateway.points.assemble import Common, Point
from gateway.points.gate import config as gate
from gateway.points.gate.assemble import Outputs
from gateway.supervision import Supervisor
from gateway.timekeeping import Timekeeper
from hardware.bench.simulation import site
from hardware.bench.simulation.boards import Coils, CountedOutputs
from hardware.bench.simulation.loop import Crew
from hardware.bench.simulation.storage import SimCommitter, SimReader, SimWriter
from hardware.bench.simulation.wires import LinkEnd
from protocols.bank.codec import Message

if TYPE_CHECKING:
    from drivers.addresses import LinkAddress
    from drivers.modbus import StateCallback
    from hardware.bench.simulation.world import World

CLOSED_S = 15.0
"""Time after the closing until whoever was in the middle of it has ended too."""

T = TypeVar("T")


class HeardTransport:
    """Transport of the product, with a watcher who hears what it hands on."""

    def __init__(self, real: BankTransport, life: Life) -> None:
        self._real = real
        self._life = life
        self.run = real.run

    @property
    def up(self) -> bool:
        """True when the product's transport is up."""
        return self._real.up

    def on_late(self, handler: Callable[[Message], None]) -> None:
        """Set the product's handler; the world hears each late answer first."""

        def heard(message: Message) -> None:
            self._life.world.heard_late(self._life, message)
            handler(message)

        self._real.on_late(heard)

    async def exchange(self, request: bytes, *, timeout_s: float) -> Message:
        """Exchange as the product does; the watcher hears the answer."""
        answer = await self._real.exchange(request, timeout_s=timeout_s)
        self._life.world.watch.heard(answer)
        return answer


class Surroundings:
    """Surroundings of one life of the gateway, as the world gives them."""

    def __init__(self, life: Life) -> None:
        self._life = life
        self.clock: Clock = life.world.clock
        self.chance: random.Random = life.world.gateway_chance

    async def connect(self, address: str | LinkAddress, *, device: str) -> LinkEnd:
        """Connect over a line of the simulated network."""
        del device
        place = str(address).rpartition(":")[0]
        return await self._life.connect(place)

    def http_server(self, section: HttpSection, on_condition: Callable[[bool, str], None]) -> HttpServer:
        """Nobody comes in over HTTP here."""
        raise NotImplementedError

    def board(self, section: gate.RelayBoard, on_state: StateCallback) -> Coils:
        """Coils of the lane's own board."""
        return Coils(self._life.world.board_named(section.name), section.name, self._life.world.clock, on_state)

    def card_readers(self) -> Slots:
        """No site here has a counter."""
        raise NotImplementedError

    def device(self, name: str, make: Callable[[], T]) -> T:
        """Make the product's own device; openings are counted, and banks' answers heard."""
        made = make()
        if isinstance(made, Outputs):
            return cast("T", CountedOutputs(self._life.world, name.partition("/")[0], made))
        if isinstance(made, BankTransport):
            return cast("T", HeardTransport(made, self._life))
        return made


class _Caller:
    """A charge point that the workload plays."""

    async def run(self) -> None:
        """Do nothing: nothing of it runs in the gateway."""

    async def drain(self) -> None:
        """Do nothing: nobody is under way here."""


@assemble_point.register
def _caller(section: site.Caller, common: Common) -> Point:
    del common
    return Point(section.name, _Caller(), {})


class Life:
    """The gateway's process: made, started, and dropped as a whole."""

    def __init__(self, world: World, number: int) -> None:
        self.world = world
        self.dead = False
        self.crew = Crew(f"gateway {number}")
        self._links: list[LinkEnd] = []
        self.database, self.reader = world.storage.open()
        self.writer: SimWriter
        self.queries: SimReader
        self.engine: DebitEngine
        self.supervisor: Supervisor
        self.restarts: dict[str, int] = {}

    async def run(self) -> None:
        """Start everything in the runtime's order; the tasks it starts go on after it."""
        world = self.world
        with self.reader.connect() as connection:
            newest = connection.execute(select(func.max(tables.decision.c.decided_at))).scalar() or 0
        time = Timekeeper(world.clock)
        time.passed(from_us(int(newest)))
        committer = SimCommitter(self.database, world.clock, world.storage)
        self.writer = SimWriter(Batches(committer), world.storage, world.crash, world.answered)
        self.queries = SimReader(self.reader, world.query_chance)
        template = world.template
        parts = assemble(
            world.site,
            Surroundings(self),
            Storage(self.writer, self.queries, committer.anchor),
            Documents(template.rules, template.lists, template.tariffs),
            time=time,
            listener=self,
        )
        self.engine = parts.engine
        await self.engine.start_up.recover(parts.decline_policies, mandates.stand_in_limit)
        world.watch.started()
        self.supervisor = Supervisor(world.clock, self._report)
        self.restarts = self.supervisor.restarts
        held = [debit.id for debit in world.watch.debits.values() if debit.state == "held"]
        self.crew.start(self._close_behind(held))
        self.crew.start(self._keep_mark(committer))
        for name, work in parts.banks.items():
            self.supervisor.start(name, work)
        for point in parts.points:
            if isinstance(point.serving, _Caller):
                continue
            for name, work in point.devices.items():
                self.supervisor.start(name, work)
            self.supervisor.start(point.name, point.serving.run)
        world.trace.add("gateway", "serves")
        world.serving.set()

    async def _keep_mark(self, committer: SimCommitter) -> None:
        while True:
            committer.follow()
            await self.world.clock.sleep(FOLLOW_EVERY_S)

    async def _close_behind(self, held: list[str]) -> None:
        world = self.world
        await self.engine.start_up.close_backlog()
        # A debit that somebody was bringing in at that moment is ended by that one.
        world.loop.call_later(CLOSED_S, lambda: None if self.dead else world.watch.closed_behind(held))

    def die(self) -> None:
        """End the process: nothing of it acts any more from here on."""
        self.dead = True
        self.writer.stop()
        self.queries.dead = True
        for link in self._links:
            link.wire.abandon()

    async def bury(self, *, orderly: bool = False) -> None:
        """Drop its tasks and close its files."""
        if orderly:
            self.writer.end()
        await self.crew.drop()
        self.world.storage.close(self.database, self.reader, orderly=orderly)

    # --- what its parts come to -----------------------------------------------------------------------------------

    async def connect(self, place: str) -> LinkEnd:
        """Open a line that ends with this process. Raises DeviceUnavailable."""
        link = await self.world.network.connect(place, place)
        self._links = [other for other in self._links if other.wire.whole]
        self._links.append(link)
        return link

    def tell(self, part: str, works: bool, cause: str, code: str | None = None) -> None:
        """Report to the world how a part of a lane works."""
        del code
        self.world.lane_fault(part.rpartition("/")[2], None if works else cause)

    def note_timing(self, timing: Timing) -> None:
        """Ignore a timing, which is of no interest here."""

    def backlog(self, channel: str, backlog: Backlog) -> None:
        """Ignore a backlog, which is of no interest here."""

    def _report(self, name: str, works: bool, what: str) -> None:
        if not self.dead:
            self.world.trace.add("gateway", f"{name} {'works' if works else 'is in trouble'}: {what}")
            if not works:
                self.world.task_failed(name, what)
