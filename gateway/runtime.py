"""Runs a gateway: starts and stops its parts, in a fixed order.

Start-up order is a promise: storage, then every open debit classified, then lists and tariffs, then devices, and only
then do charge points take vehicles. The parts are made by `gateway.assembly`.
"""

from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import Callable, Coroutine, Sequence
from functools import partial
from typing import Any

from sqlalchemy.exc import SQLAlchemyError

from gateway import garbage_collection, private_files
from gateway.acts.desk import Desk
from gateway.acts.doing import terms_of
from gateway.assembly import Documents, Parts, Storage, assemble
from gateway.config import SiteFile, chain_keys_of
from gateway.debit.engine import DebitEngine, Timing
from gateway.debit.recovery import Findings
from gateway.health import HealthFile
from gateway.ledger import running
from gateway.ledger.incarnation import LedgerRefused, Place
from gateway.ledger.running import RunningLedger
from gateway.ledger.writer import StorageUnavailable
from gateway.outbox.worker import Backlog
from gateway.payers import mandate_import, mandates
from gateway.payers.list_keeper import ListKeeper, open_lists
from gateway.points.assemble import Point, live
from gateway.points.config import Need
from gateway.rules.loading import load_rules
from gateway.supervision import Supervisor
from gateway.surroundings import Machine
from gateway.tariffs.loading import load_tariffs
from gateway.timekeeping import Timekeeper
from gateway.timings import Timings

log = logging.getLogger(__name__)


Errand = Callable[[Parts], Coroutine[Any, Any, None]]
"""Work of a command with the parts of a gateway, in its place."""


class Gateway:
    """Gateway process. `run` serves until it is told to stop."""

    def __init__(self, site: SiteFile) -> None:
        self._site = site
        self._machine = Machine(None if site.bench is None else site.bench.clock)
        self._clock = self._machine.clock
        self._board = HealthFile(site.storage.state, self._clock, self._facts)
        self.tell = self._board.report
        self._supervisor = Supervisor(self._clock, self.tell)
        self._time = Timekeeper(self._clock)
        self._timings = Timings(self._clock)
        self._rules = load_rules(site.rules.file)
        self._backlogs: dict[str, Backlog] = {}
        self._findings: dict[str, int] = {}
        self._points: Sequence[Point] = ()
        self._stopping = asyncio.Event()

    async def run(self, on_ready: Callable[[], None] = lambda: None, errand: Errand | None = None) -> None:
        """Start everything in order, serve, and stop in reverse order on SIGTERM or SIGINT.

        `errand`: what a command does with the parts instead of serving at the charge points; the end of it ends the
        run. Raises what it raises, once everything is stopped.
        """
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stopping.set)
        self._close_files()
        place = Place(self._site.storage.ledger, self._site.storage.mark_file)
        try:
            keys = chain_keys_of(self._site)
            with running.opened(place, keys, self._clock, self.tell, passed=self._time.passed) as ledger:
                await self._serve(ledger, on_ready, errand)
        except LedgerRefused:
            self._board.write(running=False)
            raise
        self._board.write(running=False)

    async def _serve(self, ledger: RunningLedger, on_ready: Callable[[], None], errand: Errand | None) -> None:
        documents = await self._documents(ledger)
        storage = Storage(ledger.writer, ledger.reader, ledger.committer.anchor)
        parts = assemble(self._site, self._machine, storage, documents, time=self._time, listener=self)
        self._points = parts.points
        await self._recover(parts)
        self._start_common(ledger, documents, parts.engine)
        points = self._start(parts, serving=errand is None)
        garbage_collection.collect_rarely()
        closing = asyncio.get_running_loop().create_task(self._close_behind(parts.engine))
        self._board.write(running=True)
        on_ready()
        ended = await self._until_stopped(None if errand is None else errand(parts))
        log.info("stopping: charge points first, then devices, then the ledger")
        await asyncio.gather(*(point.serving.drain() for point in parts.points))
        await self._supervisor.stop(*points)
        await self._timings.store(parts.engine, patient=False)
        await parts.boards.close()
        await self._supervisor.stop()
        closing.cancel()
        if ended is not None:
            ended.result()

    async def _until_stopped(self, errand: Coroutine[Any, Any, None] | None) -> asyncio.Task[None] | None:
        """Wait for the end of the errand, if there is one, or to be told to stop."""
        stopping = asyncio.create_task(self._stopping.wait())
        if errand is None:
            await stopping
            return None
        work = asyncio.create_task(errand)
        await asyncio.wait((stopping, work), return_when=asyncio.FIRST_COMPLETED)
        stopping.cancel()
        work.cancel()
        await asyncio.wait((work,))
        return None if work.cancelled() else work

    # --- starting -------------------------------------------------------------------------------------------------

    def _close_files(self) -> None:
        """Close files of ours to other users: all were made for our own user alone, and may have been opened since."""
        still = private_files.close(self._site.storage.files)
        cause = "; ".join(f"{found.path} has mode {found.mode:04o}: {found.cure}" for found in still)
        self.tell("files", not still, cause or "our own user's alone", "files_open" if still else None)

    async def _documents(self, ledger: RunningLedger) -> Documents:
        """Load the site's other files; lists and tariffs are left alone where nothing needs them."""
        site = self._site
        tariffs = load_tariffs(site.tariffs.directory) if site.need(Need.TARIFFS) else None
        if await ledger.reader.read(mandate_import.is_under_way):
            log.warning("an import of mandates is running or was cut short; if nobody runs it, give it again")
        needed = site.need(Need.LISTS)
        lists = open_lists(site.lists.directory, self._time, site.lists.drop_bound) if needed else None
        return Documents(self._rules, lists, tariffs)

    async def _recover(self, parts: Parts) -> None:
        """Classify the debits the last run left open, before anything opens."""
        progress = partial(_say_progress, "classified")
        findings = await parts.engine.start_up.recover(parts.decline_policies, mandates.stand_in_limit, progress)
        self._findings = findings.counts
        log.info("start-up: %s", ", ".join(f"{k.replace('_', ' ')} {v}" for k, v in self._findings.items()))

    def _start_common(self, ledger: RunningLedger, documents: Documents, engine: DebitEngine) -> None:
        start = self._supervisor.start
        start("condition", self._board.run)
        start("timings", partial(self._timings.run, engine))
        start("clock", partial(self._time.keep_telling, self.tell))
        start("mark", ledger.keep_mark)
        start("log", ledger.keep_log)
        if documents.lists is not None:
            section = self._site.lists
            keeper = ListKeeper(
                documents.lists,
                self._time,
                self._clock,
                self.tell,
                age_limit_h=section.age_limit_h,
                look_every_s=section.look_every_s,
            )
            start("lists", keeper.run)
        people = self._site.people
        desk = Desk(people.socket, people.groups, ledger.writer.submit, terms_of(self._site, self._rules))
        start("people", desk.run)

    def _start(self, parts: Parts, *, serving: bool) -> list[str]:
        """Start banks, and where it serves charge points with devices, shared boards, doors; returns names of the
        charge points' tasks."""
        started: list[str] = []
        for name, work in parts.banks.items():
            self._supervisor.start(name, work)
        if not serving:
            return started
        for point in parts.points:
            for name, work in point.devices.items():
                self._supervisor.start(name, work)
            started.append(f"point/{point.name}")
            self._supervisor.start(started[-1], point.serving.run)
        for name, board in parts.boards.boards.items():
            self._supervisor.start(f"board/{name}", board.run)
        for name, work in parts.doors.tasks().items():
            self._supervisor.start(name, work)
        return started

    async def _close_behind(self, engine: DebitEngine) -> None:
        """Close debits the last run left open, while charge points are open. What fails here the next start finds."""
        try:
            closed = await engine.start_up.close_backlog(partial(_say_progress, "closed"))
        except (StorageUnavailable, SQLAlchemyError):
            log.exception("open debits of the last run are not all closed; the next start goes on")
            return
        self._findings |= {"decided_now": closed.decided_now, "voided": closed.voided, "not_closed": closed.not_closed}

    # --- hearing --------------------------------------------------------------------------------------------------

    def note_timing(self, timing: Timing) -> None:
        """Keep the timing of one finished passage, to be stored soon."""
        self._timings.note(timing)

    def backlog(self, channel: str, backlog: Backlog) -> None:
        """Note the backlog of a bank and report it as that outbox's health."""
        self._backlogs[channel] = backlog
        late = ", ".join(backlog.alarms)
        self.tell(
            f"outbox/{channel}",
            not backlog.alarms,
            f"too many or too old: {late}" if late else f"{backlog.count} waiting",
            "bank_backlog" if late else None,
        )
        self.tell(
            f"disputes/{channel}",
            not backlog.disputed,
            f"{backlog.disputed} message(s) disputed" if backlog.disputed else "none",
            "bank_disputed" if backlog.disputed else None,
        )

    def _facts(self) -> dict[str, Any]:
        return {
            "site": self._site.site.name,
            "mode": self._site.mode.value,
            "recovered_at_start": self._findings,
            "outbox": {
                name: {"waiting": backlog.count, "oldest_us": backlog.oldest_at}
                for name, backlog in self._backlogs.items()
            },
            "restarts": self._supervisor.restarts,
            **live(self._points),
        }


def _say_progress(what: str, findings: Findings) -> None:
    log.info("start-up: %d open debits, %d sales in doubt %s", findings.open_debits, findings.sales_in_doubt, what)
