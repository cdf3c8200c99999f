"""One life of the gateway, from its start-up to its crash: what `gateway.runtime` joins, joined to the simulation."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING

from sqlalchemy import Engine, func, select

from drivers.bank import BankLink, BankLinkConfig
from drivers.rsu import RsuConfig, RsuDriver
from gateway.banks.iso8583 import Iso8583Channel, Iso8583Settings
from gateway.debit.attempts import Terminals
from gateway.debit.engine import Collection, DebitEngine
from gateway.ledger import tables
from gateway.ledger.batches import Batches
from gateway.ledger.marks import FOLLOW_EVERY_S
from gateway.model.clock import from_us
from gateway.model.passage import DeclinePolicy
from gateway.outbox.collector import Collector
from gateway.outbox.worker import OutboxWorker
from gateway.payers import mandates
from gateway.payers.mandates import CredentialKind, IssuerPolicy, Mandate
from gateway.points.etc.inspection import Issuers
from gateway.points.etc.rsu_errors import PROFILE_OF_DIALECT, PROFILES
from gateway.points.toll.lane import TollLane
from gateway.points.toll.services import LaneServices
from gateway.runtime import TRANS_MODE_COMPOSITE, BankTransport
from gateway.supervision import Supervisor
from gateway.timekeeping import Timekeeper
from hardware.bench.simulation import site
from hardware.bench.simulation.boards import LaneBoard
from hardware.bench.simulation.loop import Crew
from hardware.bench.simulation.storage import SimCommitter, SimWriter
from hardware.bench.simulation.wires import LinkEnd
from protocols.bank.codec import Message
from protocols.bank.transactions import Profile
from protocols.rsu.messages import Initialise
from protocols.rsu.registry import dialect_named

if TYPE_CHECKING:
    from hardware.bench.simulation.world import World

CLOSED_S = 15.0
"""After closing behind, until whoever was in the middle of it has ended too."""


class HeardTransport(BankTransport):
    """The product's, with a watcher who hears what it hands on."""

    def __init__(self, link: BankLink, heard: Callable[[Message], None]) -> None:
        super().__init__(link)
        self._heard = heard

    async def exchange(self, message: Message, *, timeout_s: float) -> Message:
        """As the product's."""
        answer = await super().exchange(message, timeout_s=timeout_s)
        self._heard(answer)
        return answer


class Life:
    """The gateway's process: made, started, and dropped as a whole."""

    def __init__(self, world: World, number: int) -> None:
        self.world = world
        self.dead = False
        self.crew = Crew(f"gateway {number}")
        self._links: list[LinkEnd] = []
        self.database, self.reader = world.storage.open()
        self._mandates: dict[tuple[str, str], Mandate | None] = {}
        self.writer: SimWriter
        self.engine: DebitEngine
        self.lanes: list[TollLane] = []
        self.supervisor: Supervisor
        self.restarts: dict[str, int] = {}

    async def run(self) -> None:
        """Start everything in the runtime's order; the tasks it starts go on after it."""
        world = self.world
        with self.reader.connect() as connection:
            newest = connection.execute(select(func.max(tables.decision.c.decided_at))).scalar() or 0
        self._time = Timekeeper(world.clock)
        self._time.passed(from_us(int(newest)))
        committer = SimCommitter(self.database, world.clock, world.storage)
        self.writer = SimWriter(Batches(committer), world.storage, world.crash, world.answered)
        channel, link = self._make_bank(committer)
        self.engine = DebitEngine(
            self.writer,
            self.reader,
            {site.BANK: channel},
            clock=world.clock,
            random=world.gateway_chance,
            rules=world.template.rules,
        )
        await self.engine.recover(world.collections, mandates.stand_in_limit)
        world.watch.started()
        self.supervisor = Supervisor(world.clock, self._report)
        self.restarts = self.supervisor.restarts
        worker = OutboxWorker(
            channel,
            self.writer,
            self.reader,
            clock=world.clock,
            random=world.gateway_chance,
            rules=world.template.rules,
            fresh=lambda: self.engine.fresh(site.BANK),
        )
        numbers = tuple(n for c in reversed(world.collections.values()) for n in c.terminals[site.BANK].numbers)
        collection = Collection(DeclinePolicy.RELEASE_AS_DEBT, {site.BANK: Terminals(numbers)})
        collector = Collector(site.BANK, self.engine, self.reader, collection, clock=world.clock)
        held = [debit.id for debit in world.watch.debits.values() if debit.state == "held"]
        self.crew.start(self._close_behind(held))
        self.crew.start(self._keep_mark(committer))
        self.supervisor.start("bank", link.run)
        self.supervisor.start("outbox", worker.run)
        self.supervisor.start("collector", collector.run)
        for index in range(world.lanes):
            self._start_lane(index)
        world.trace.add("gateway", "serves")
        world.serving.set()

    async def _keep_mark(self, committer: SimCommitter) -> None:
        while True:
            committer.follow()
            await self.world.clock.sleep(FOLLOW_EVERY_S)

    async def _close_behind(self, held: list[str]) -> None:
        world = self.world
        await self.engine.close_behind()
        # A debit that somebody was bringing in at that moment is ended by that one.
        world.loop.call_later(CLOSED_S, lambda: None if self.dead else world.watch.closed_behind(held))

    def die(self) -> None:
        """Nothing of this process acts any more from here on."""
        self.dead = True
        self.writer.stop()
        for link in self._links:
            link.wire.abandon()

    async def bury(self, *, orderly: bool = False) -> None:
        """Drop its tasks and close its files."""
        if orderly:
            self.writer.end()
        await self.crew.drop()
        self.world.storage.close(self.database, self.reader, orderly=orderly)

    # --- parts ----------------------------------------------------------------------------------------------------

    async def _connect(self, address: str) -> LinkEnd:
        link = await self.world.network.connect(address, address)
        self._links = [other for other in self._links if other.wire.whole]
        self._links.append(link)
        return link

    def _make_bank(self, committer: SimCommitter) -> tuple[Iso8583Channel, BankLink]:
        world = self.world
        terminals = tuple(number for c in world.collections.values() for number in c.terminals[site.BANK].numbers)
        profile = Profile(
            terminal=terminals[0],
            merchant=site.MERCHANT_NO,
            max_message_age_s=site.MAX_MESSAGE_AGE_S,
        )
        channels: list[Iso8583Channel] = []

        def heard_late(message: Message) -> None:
            world.heard_late(self, message)
            channels[0].heard_late(message)

        link = BankLink(
            BankLinkConfig(device="bank", profile=profile, terminals=terminals, echo_idle_s=20.0, backoff_max_s=3.0),
            connect=partial(self._connect, "bank"),
            clock=world.clock,
            chance=world.gateway_chance,
            on_late=heard_late,
            anchor=committer.anchor,
        )
        channel = Iso8583Channel(Iso8583Settings(site.BANK, profile), HeardTransport(link, world.watch.heard))
        channels.append(channel)
        return channel, link

    def _start_lane(self, index: int) -> None:
        world = self.world
        settings = site.lane_settings(index)
        address, dialect = f"antenna/{settings.name}", site.DIALECTS[index]
        config = RsuConfig(device=address, dialect=dialect_named(dialect), initialise=self._initialise)
        driver = RsuDriver(config, connect=partial(self._connect, address), clock=world.clock)
        outputs = LaneBoard(world, settings.name, world.boards[index])
        outputs.coils.on_up = lambda: self.crew.start(outputs.make_safe())
        services = LaneServices(
            settings,
            self.engine,
            outputs=outputs,
            lists=world.template.lists,
            tariffs=lambda: world.template.tariffs,
            find_mandate=self._find_mandate,
            mandate_by_id=self._mandate_by_id,
            issuers=Issuers({site.REGION: IssuerPolicy(site.ISSUER)}),
            errors=PROFILES[PROFILE_OF_DIALECT[dialect]],
            clock=world.clock,
            time=self._time,
            note_timing=lambda _: None,
            report_fault=world.lane_fault,
        )
        lane = TollLane(services, driver)
        self.lanes.append(lane)
        self.supervisor.start(address, driver.run)
        self.supervisor.start(settings.name, lane.run)

    def _initialise(self) -> Initialise:
        now = self.world.clock.utcnow()
        return Initialise(
            unix_seconds=int(now.timestamp()),
            datetime_bcd=(now + timedelta(hours=8)).strftime("%Y%m%d%H%M%S"),
            lane_mode=0,
            bst_interval_ms=10,
            tx_power=10,
            pll_channel=0,
            trans_mode=TRANS_MODE_COMPOSITE,
            flag_id=bytes.fromhex("990101"),
            reserved=bytes(2),
        )

    def _find_mandate(self, kind: CredentialKind, key: str) -> Mandate | None:
        return _read(self.reader, kind, key)

    def _mandate_by_id(self, mandate_id: str) -> Mandate | None:
        with self.reader.connect() as connection:
            return mandates.by_id(connection, mandate_id)

    def _report(self, name: str, works: bool, what: str) -> None:
        if not self.dead:
            self.world.trace.add("gateway", f"{name} {'works' if works else 'is in trouble'}: {what}")
            if not works:
                self.world.task_failed(name, what)


def _read(reader: Engine, kind: CredentialKind, key: str) -> Mandate | None:
    with reader.connect() as connection:
        return mandates.find(connection, kind, key)
