"""World of one run: a simulated site over several lives of its gateway, and everything around it that goes wrong.

The world owns time, chance, lines, bank, antennas and the ledger's file; the gateway comes and goes (`life.Life`).
Workloads are tasks of the world. The first broken promise ends the run.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any, TextIO

from gateway.ledger import engines
from gateway.ledger.batches import Answer, WriterState
from gateway.ledger.engines import StorageTrouble
from gateway.ledger.verify import verify
from hardware.bench.chain_key import KEYS
from hardware.bench.simulation import site
from hardware.bench.simulation.bank import Bank
from hardware.bench.simulation.boards import Board
from hardware.bench.simulation.disk import Disk
from hardware.bench.simulation.invariants import Watch
from hardware.bench.simulation.life import Life
from hardware.bench.simulation.loop import START, Crew, SimClock, VirtualLoop
from hardware.bench.simulation.pumps import Forecourt
from hardware.bench.simulation.storage import LOSS_PLACES, Loss, Storage
from hardware.bench.simulation.tampering import Tamperer
from hardware.bench.simulation.trace import Trace
from hardware.bench.simulation.wires import Harm, Network, damage_bank, damage_frame, is_network_message
from hardware.emulators.road import Event, Vehicle
from hardware.emulators.rsu_antenna import Antenna, RsuConfig
from protocols.bank.codec import Message
from protocols.rsu.registry import dialect_named

FULL_CHECK_EVERY = 1000
"""Commits between two checks of the whole ledger."""

BANK_HARM = {
    "drop": 0.004,
    "delay": 0.003,
    "duplicate": 0.006,
    "reorder": 0.01,
    "cut": 0.0006,
    "half_frame": 0.0004,
    "corrupt": 0.001,
    "connect_refused": 0.06,
    "connect_timeout": 0.03,
}
ANTENNA_HARM = {
    "drop": 0.01,
    "delay": 0.01,
    "duplicate": 0.01,
    "reorder": 0.006,
    "cut": 0.001,
    "half_frame": 0.001,
    "corrupt": 0.01,
    "connect_refused": 0.06,
    "connect_timeout": 0.06,
}
CRASH_PLACES = ("before the commit", "before the answer", "after the answer")
CRASH_EVERY, CRASH_EVERY_AT_ISLAND = (60, 1500), (60, 400)
"""Commits from one crash to the next."""
DOWN_S = (0.05, 8.0)
"""Time from a crash to the next start."""
TROUBLE_EVERY_S = (5.0, 60.0)
TROUBLES: tuple[tuple[StorageTrouble, tuple[float, float]], ...] = (
    (StorageTrouble.BUSY, (0.05, 1.5)),
    (StorageTrouble.FULL, (0.1, 5.0)),
    (StorageTrouble.UNREADABLE, (0.1, 2.0)),
)
LOSS_EVERY_S = (15.0, 50.0)
LOST_FOR_S = (4.0, 8.0)
"""Time until somebody sees to a ledger whose file has gone: longer than the slowest commit and the writer's look."""
SEEN_TO = ("put_back", "rescued", "killed")
"""The very same file comes back while the gateway runs; or it is stopped and started on what it has rescued; or it is
killed, and gets the same file back."""
CRASH_WHILE_LOST = "while its ledger is lost"
BANK_RESTART_EVERY_S = (20.0, 200.0)
BANK_DOWN_S = (0.2, 15.0)
CLOCK_STEP_EVERY_S = (2.0, 30.0)
CLOCK_BACK_S, CLOCK_FORWARD_S = (-1500.0, 0.0), (0.0, 1500.0)
"""Range of one setting of the box's clock: beyond all that is reckoned in minutes."""
LONGEST_S = 50_000.0
"""Virtual time in which a workload of any size has ended, many times over."""
BOOKED_WITHIN_S = 20.0
"""Time from hearing something to having it durable: longer than any trouble of the storage."""
CUT_OVER_EVERY_S = (30.0, 200.0)
ANTENNA_RESTART_EVERY_S = (30.0, 200.0)


@dataclass(slots=True)
class RunResult:
    """Result of one run, at its end."""

    seed: int
    workload: str
    digest: str
    lines: int
    commits: int
    virtual_s: float
    problem: str | None
    last_lines: list[str]
    outcomes: Counter[str] = field(default_factory=Counter)
    faults: Counter[str] = field(default_factory=Counter)
    transitions: Counter[str] = field(default_factory=Counter)
    done: int = 0
    """Passages or debits."""


class World:
    """World of one run, see the module. Made inside the running virtual loop."""

    def __init__(
        self,
        seed: int,
        folder: Path,
        *,
        lanes: int = 0,
        callers: int = 0,
        island: bool = False,
        into: TextIO | None = None,
    ) -> None:
        loop = asyncio.get_running_loop()
        if not isinstance(loop, VirtualLoop):
            raise TypeError("a world lives in virtual time")
        self.seed = seed
        self.loop = loop
        self.lanes = lanes
        self.callers = callers
        self.template = site.template()
        self.site = site.site_file(lanes, callers, island=island)
        self.clock = SimClock(loop)
        self.trace = Trace(loop.time, into)
        self.chance = site.series(seed, "world")
        self.gateway_chance = site.series(seed, "gateway")
        self.query_chance = site.series(seed, "queries")
        self.failed: asyncio.Future[str] = loop.create_future()
        self.watch = Watch(self.trace, self.template.limits, self.fail)
        self.storage = Storage(
            self.template,
            folder / "ledger.db",
            site.series(seed, "storage"),
            self.trace,
            self._committed,
            salts=site.series(seed, "salts"),
        )
        self.tamperer = Tamperer(self.storage.path, site.series(seed, "tampering"))
        self.disk = Disk(self, self.storage, site.series(seed, "disk"))
        self.rolled_back = 0
        """Number of times the disk has given back an older ledger."""
        self.on_adoption: Callable[[], object] = lambda: None
        self.network = Network(loop, site.series(seed, "network"), self.trace)
        self.crew = Crew("world")
        self.bank_offset = timedelta()
        self.bank = Bank(self.network, site.series(seed, "bank"), self._bank_time, self.watch)
        for contract, balance in site.balances().items():
            self.bank.host.book.set_account(contract, balance)
        self._listen_bank()
        self.owners = {owner.name: owner for owner in site.fleet()}
        names = [*(site.lane_name(index) for index in range(lanes)), *([site.ISLAND] if island else [])]
        self.antennas = [self._make_antenna(index, name) for index, name in enumerate(names)]
        self.boards = [self._make_board(index) for index in range(lanes)]
        self.serving = asyncio.Event()
        self.forecourt = Forecourt(self) if island else None
        self.lives = 0
        self.life: Life | None = None
        self.crashing = False
        self.forging: dict[str, str] = {}
        """Kinds of what is being forged, by vehicle."""
        self._lift_waiters: dict[str, list[Callable[[], None]]] = {}
        self._checked = 0

    # --- what happens ---------------------------------------------------------------------------------------------

    def fail(self, problem: str) -> None:
        """End the run: a promise was broken."""
        if not self.failed.done():
            self.trace.add("watch", f"BROKEN {problem}")
            self.trace.ended = True
            self.failed.set_result(problem)

    def lifted(self, lane: str) -> None:
        """Tell those who wait that the barrier of a lane has been asked to open."""
        for waiter in self._lift_waiters.pop(lane, []):
            waiter()

    def on_lift(self, lane: str, waiter: Callable[[], None]) -> None:
        """Call `waiter` at the next lift."""
        self._lift_waiters.setdefault(lane, []).append(waiter)

    def heard_late(self, life: Life, message: Message) -> None:
        """Take an answer that no exchange waits for. If the process lives on it must have been booked soon."""
        look = self.watch.heard_late(message)
        if look is not None:
            self.trace.add("gateway", f"hears late {message.mti} {message.text(41)} {message.text(11)}")
            self.loop.call_later(BOOKED_WITHIN_S, lambda: None if life.dead or self.storage.trouble else look())

    def board_named(self, name: str) -> Board:
        """Board that a section of the site file is about."""
        return next(board for board in self.boards if board.name == name)

    def lane_fault(self, part: str, problem: str | None) -> None:
        """Take a lane's trouble with a part. A trade that fails is a bug of the gateway."""
        if part == "trade" and problem is not None and "StorageUnavailable" not in problem:
            self.fail(f"a trade failed: {problem}")

    def task_failed(self, name: str, what: str) -> None:
        """Take the fault of a task of the gateway that is started again. Only storage may be the reason."""
        if "StorageUnavailable" not in what:
            self.fail(f"task {name}: {what}")

    def crash(self, place: str) -> None:
        """End the gateway's process at once; it comes back after a while."""
        life = self.life
        if life is None or life.dead:
            return
        self.trace.add("gateway", f"crashes {place}")
        self.network.counts[f"crash.{place.replace(' ', '_')}"] += 1
        self.storage.crash_at = None
        self.serving.clear()
        life.die()
        self.crew.start(self._come_back(life)).add_done_callback(partial(self._ended, "coming back"))

    async def _come_back(self, life: Life) -> None:
        await life.bury()
        if self.storage.away is not None:
            self._put_right("put_back_after_crash", self.storage.put_back)
        self._tamper()
        await asyncio.sleep(self.chance.uniform(*DOWN_S))
        harm = self.disk.harm() if self.callers and not self.network.calm else None
        if harm is not None:
            self.trace.add("disk", harm)
            self.network.counts[f"disk.{harm}"] += 1
        await self.begin(harmed=harm is not None)

    def _tamper(self) -> None:
        """Change the file while nobody holds it; verification must name every change. It is put back then."""
        if self.network.calm or not self.tamperer.comes:
            return
        for change, found in self.tamperer.act():
            self.network.note("storage", change.fault)
            self.watch.promise(found, f"ledger verify does not name what was done: {change.fault} {change.what}")

    async def begin(self, *, harmed: bool = False) -> None:
        """Start the gateway; where it refuses its ledger, people adopt it."""
        refused = self.disk.refused()
        if (refused is not None) != harmed:
            self.fail(f"the start {'took an older ledger' if harmed else f'refuses its own ledger: {refused}'}")
            return
        if refused is not None:
            self.rolled_back += 1
            self.disk.adopt()
            self.on_adoption()
        self.lives += 1
        self.trace.add("gateway", f"starts, life {self.lives}")
        self.life = life = Life(self, self.lives)
        if not self.network.calm and self.storage.crash_at is None:
            self.storage.crash_at = (
                self.storage.commits + self.chance.randint(*(CRASH_EVERY_AT_ISLAND if self.forecourt else CRASH_EVERY)),
                self.chance.choice(CRASH_PLACES),
            )
        self.disk.plan()
        life.crew.start(life.run()).add_done_callback(partial(self._ended, "a start"))

    def _ended(self, what: str, task: asyncio.Task[None]) -> None:
        """Fail the run where a task failed in silence: somebody waits, and nothing is proved from there on."""
        if not task.cancelled() and (error := task.exception()) is not None:
            self.fail(f"{what} failed: {error!r}")

    async def served(self) -> Life:
        """The gateway, as soon as one serves."""
        while self.life is None or self.life.dead or not self.serving.is_set():
            await self.serving.wait()
        return self.life

    def answered(self, answers: list[Answer]) -> None:
        """Check what callers are about to be told."""
        told = sum(answer.error is None for answer in answers)
        self.watch.promise(not told or self.storage.away is None, f"{told} are answered, and the ledger's file is gone")

    def _committed(self, rows: list[Any]) -> None:
        self.watch.committed(rows)
        if self.forecourt is not None:
            self.forecourt.committed()
        if self.storage.away is not None:
            return
        self.disk.committed()
        if self.storage.commits - self._checked >= FULL_CHECK_EVERY:
            self._checked = self.storage.commits
            self.loop.call_soon(self.check_whole)

    def check_whole(self) -> None:
        """Run the ledger's own verification, and compare the watcher's picture with the rows."""
        reader = engines.open_reader(self.storage.path)
        try:
            for check in verify(reader, KEYS):
                for finding in check.findings:
                    self.fail(f"ledger verify: {finding}")
        finally:
            reader.dispose()

    def _bank_time(self) -> datetime:
        return START + self.bank_offset + timedelta(seconds=self.loop.time())

    # --- the outside ----------------------------------------------------------------------------------------------

    def _listen_bank(self) -> None:
        harm = Harm(BANK_HARM, (0.1, 3.0), damage_bank, is_network_message)
        self.network.listen("bank", self.bank.host.attach, self.crew, harm)

    def _make_antenna(self, index: int, name: str) -> Antenna:
        dialect = dialect_named(site.DIALECTS[index])
        config = RsuConfig(
            seed=self.seed * 1000 + index, radio_ms=200, dialect=dialect, terminal=site.psam_terminal(index)
        )
        antenna = self.crew.call(lambda: Antenna(config, utcnow=self.clock.utcnow, on_event=self._at_antenna))
        harm = Harm(ANTENNA_HARM, (0.05, 1.5), damage_frame, orders_in_order=True)
        self.network.listen(f"antenna/{name}", antenna.attach, self.crew, harm)
        antenna.failure.add_done_callback(self._antenna_failed)
        return antenna

    def _make_board(self, index: int) -> Board:
        """Make a board, with and without a limit input, with and without coils that come back by themselves."""
        name = site.lane_name(index)
        chance = site.series(self.seed, f"board {index}")
        return Board(self, name, chance, limit=site.has_limit(index), coil_comes_back=index % 2 == 1)

    def _at_antenna(self, vehicle: Vehicle, event: Event) -> None:
        if event is Event.FORGED:
            self.network.note("forged", self.forging[vehicle.spec.id])
        if event is not Event.TAKEN or vehicle.purse is None:
            return
        owner = self.owners[vehicle.spec.id]
        paid = vehicle.purse.decrements[-1]
        self.watch.card_pays(owner.card_number, paid.at, paid.amount_fen, owner.fare)

    def _antenna_failed(self, failure: asyncio.Future[None]) -> None:
        if not failure.cancelled() and failure.exception() is not None:
            self.fail(f"an emulated antenna failed: {failure.exception()!r}")

    # --- disturbers -----------------------------------------------------------------------------------------------

    def start_disturbers(self) -> None:
        """Start trouble that comes by the clock and not by the message."""
        for disturber in (
            self._storage_troubles,
            self._losses,
            self._bank_restarts,
            self._clock_steps,
            self._cut_overs,
            *((self.forecourt.cuts, self.forecourt.power_cuts) if self.forecourt else ()),
        ):
            self.crew.start(disturber()).add_done_callback(partial(self._ended, disturber.__name__))
        for index, antenna in enumerate(self.antennas):
            self.crew.start(self._antenna_restarts(antenna, site.series(self.seed, f"antenna {index}")))

    async def _storage_troubles(self) -> None:
        chance = site.series(self.seed, "troubles")
        while await self.pause(chance, TROUBLE_EVERY_S):
            trouble, lasts_s = chance.choice(TROUBLES)
            self.network.note("storage", trouble.name.lower())
            self.storage.trouble = trouble
            await asyncio.sleep(chance.uniform(*lasts_s))
            self.storage.trouble = None

    async def _losses(self) -> None:
        chance = site.series(self.seed, "losses")
        while await self.pause(chance, LOSS_EVERY_S):
            await self.served()
            loss, place = chance.choice(tuple(Loss)), chance.choice(LOSS_PLACES)
            lost = asyncio.Event()
            self.storage.loss_due = (loss, place, partial(self._lost, loss, lost))
            self.storage.meet_loss(LOSS_PLACES[0])
            await lost.wait()
            await asyncio.sleep(chance.uniform(*LOST_FOR_S))
            life = self.life
            if self.storage.away is None or life is None or life.dead:
                continue  # it crashed meanwhile
            self.watch.promise(life.writer.state is WriterState.LOST, f"{loss.name} was not noticed")
            seen_to = chance.choice(SEEN_TO)
            if seen_to == "put_back":
                self._put_right(seen_to, self.storage.put_back)
            elif seen_to == "rescued":
                await self._restart_on_rescued(life)
            else:
                self.crash(CRASH_WHILE_LOST)

    def _lost(self, loss: Loss, happened: asyncio.Event) -> None:
        happened.set()
        self.network.note("storage", loss.name.lower())
        self.watch.file_lost()

    async def _restart_on_rescued(self, life: Life) -> None:
        """Stop the gateway as a person does, do what it says, and start it again."""
        self.trace.add("gateway", "is stopped")
        self.serving.clear()
        life.die()
        await life.bury(orderly=True)
        self._put_right("rescued", self.storage.put_rescued)
        for table, known in self.watch.rows().items():
            found = self.storage.rows(table)
            self.watch.promise(found == known, f"after a loss {found} rows of {table} are left of {known}")
        await asyncio.sleep(self.chance.uniform(*DOWN_S))
        await self.begin()

    def _put_right(self, how: str, put: Callable[[], object]) -> None:
        self.trace.add("storage", f"{how.replace('_', ' ')}")
        self.watch.transitions[f"ledger:lost->{how}"] += 1
        put()
        self.watch.file_found()

    async def _bank_restarts(self) -> None:
        chance = site.series(self.seed, "bank restarts")
        while await self.pause(chance, BANK_RESTART_EVERY_S):
            self.network.note("bank", "restart")
            self.network.ignore("bank")
            self.bank.host.restart()
            await asyncio.sleep(chance.uniform(*BANK_DOWN_S))
            self._listen_bank()

    async def _clock_steps(self) -> None:
        chance = site.series(self.seed, "clock")
        while await self.pause(chance, CLOCK_STEP_EVERY_S):
            back = chance.random() < 0.5
            step_s = chance.uniform(*(CLOCK_BACK_S if back else CLOCK_FORWARD_S))
            self.network.note("clock", "step_back" if back else "step_forward")
            self.clock.offset += timedelta(seconds=step_s)

    async def _cut_overs(self) -> None:
        chance = site.series(self.seed, "cut-over")
        while await self.pause(chance, CUT_OVER_EVERY_S):
            self.network.note("bank", "cut_over")
            self.bank_offset += timedelta(days=1)

    async def _antenna_restarts(self, antenna: Antenna, chance: random.Random) -> None:
        while await self.pause(chance, ANTENNA_RESTART_EVERY_S):
            self.network.note("antenna", "restart")
            antenna.restart()

    async def pause(self, chance: random.Random, every_s: tuple[float, float]) -> bool:
        """Wait for a while; False when all is calm then."""
        await asyncio.sleep(chance.uniform(*every_s))
        return not self.network.calm

    # --- the run --------------------------------------------------------------------------------------------------

    def calm_down(self) -> None:
        """Do no new harm from here on; what is under way takes its course."""
        self.trace.add("world", "calms down")
        self.network.calm = True
        self.storage.trouble = None
        self.storage.crash_at = None
        self.storage.loss_due = None

    async def mended(self) -> None:
        """Return when the ledger's file is where it belongs and a gateway serves: till then people are told nothing."""
        while self.storage.away is not None:
            await self.clock.sleep(1.0)
        await self.serving.wait()

    async def drained(self, longest_s: float) -> None:
        """Return when nothing waits for the bank any more. Fails the run when that takes too long."""
        begun = self.loop.time()
        while waiting := self.watch.waits_for_bank():
            if self.loop.time() - begun > longest_s:
                self.fail(f"after {longest_s} s of calm there still wait: {', '.join(waiting[:3])}")
                return
            await asyncio.sleep(1.0)

    async def close(self) -> None:
        """Drop everything."""
        self.serving.clear()
        if self.life is not None and not self.life.dead:
            self.life.die()
        if self.life is not None:
            await self.life.bury()
        await self.crew.drop()
        self.bank.host.book.close()


Workload = Callable[[World], Coroutine[Any, Any, int]]
"""Work of a world: runs until all is settled; how much there was."""


async def play(world: World, workload: Workload, name: str, calm_s: float = 400.0) -> RunResult:
    """Run a workload to its end, then let everything settle, and ask whether all is well."""
    done = 0

    async def whole() -> None:
        nonlocal done
        await world.begin()
        world.start_disturbers()
        try:
            async with asyncio.timeout(LONGEST_S):
                done = await workload(world)
        except TimeoutError:
            world.fail(f"after {LONGEST_S:.0f} s somebody still waits for something that never comes")
            return
        await world.drained(calm_s)
        world.check_whole()
        world.watch.at_the_end()
        if world.forecourt is not None:
            world.forecourt.watch.at_the_end()

    task = world.crew.start(whole())
    await asyncio.wait((task, world.failed), return_when=asyncio.FIRST_COMPLETED)
    if task.done() and not task.cancelled() and task.exception() is not None and not world.failed.done():
        raise RuntimeError(f"the simulation itself failed with seed {world.seed}") from task.exception()
    problem = world.failed.result() if world.failed.done() else None
    outcome = RunResult(
        world.seed,
        name,
        world.trace.digest,
        world.trace.lines,
        world.storage.commits,
        world.loop.time(),
        problem,
        list(world.trace.last),
        world.watch.outcomes,
        world.network.counts,
        world.watch.transitions,
        done,
    )
    await world.close()
    return outcome
