"""Joins everything to a running gateway: the only place that knows drivers, ledger, banks and charge points at once.

Start-up order is a promise: storage, then every open debit classified, then lists and tariffs, then devices, and only
then do lanes take vehicles.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import signal
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

from sqlalchemy import Engine, func, select
from sqlalchemy.exc import SQLAlchemyError

from drivers.bank import BankLink, BankLinkConfig, BankLinkState, BankState
from drivers.clock import SetClock, SystemClock
from drivers.errors import DeviceError, Outcome
from drivers.lane_io import LaneOutputs
from drivers.link import Link, TcpLink, open_link
from drivers.modbus import BoardState, RelayBoard
from drivers.rsu import RsuCondition, RsuConfig, RsuDriver, RsuState
from gateway import garbage, private_files
from gateway.acts.desk import Desk
from gateway.acts.doing import terms_of
from gateway.banks.channel import BankChannel
from gateway.banks.iso8583 import Iso8583Channel, Iso8583Settings, TransportError
from gateway.condition import ConditionBoard
from gateway.config import Bank, Lane, RelayBoardSection, SiteFile, chain_keys_of, host_port
from gateway.debit.attempts import Terminals
from gateway.debit.engine import Collection, DebitEngine, Timing
from gateway.debit.recovery import Findings
from gateway.ledger import database, incarnation, key_change, schema, tables
from gateway.ledger import file as ledger_file
from gateway.ledger.file import LedgerFile
from gateway.ledger.incarnation import LedgerRefused, Place
from gateway.ledger.marks import FOLLOW_EVERY_S, MarkUnwritable
from gateway.ledger.writer import Committer, StorageUnavailable, Writer, WriterState
from gateway.model.clock import from_us
from gateway.model.delivery import Delivery
from gateway.model.passage import DeclinePolicy, Funding
from gateway.outbox.collector import Collector
from gateway.outbox.worker import Backlog, OutboxWorker
from gateway.payers import mandate_import, mandates
from gateway.payers.mandates import CredentialKind, IssuerPolicy, Mandate
from gateway.payers.status_lists import StatusListError, StatusLists, proved_times
from gateway.points.devices import OutputFault
from gateway.points.inspection import Issuers
from gateway.points.rsu_errors import PROFILE_OF_DIALECT, PROFILES
from gateway.points.toll_lane import TollLane
from gateway.points.toll_services import LaneServices
from gateway.points.toll_settings import EntryWrite, LaneSettings, TacCommand
from gateway.rules.loading import load_rules
from gateway.supervision import Supervisor
from gateway.tariffs.loading import load_tariffs
from gateway.tariffs.quote import TariffSet
from gateway.timekeeping import Timekeeper
from protocols.bank.codec import Message
from protocols.bank.dialects import CUPS_POS_BCD
from protocols.bank.responses import RESPONSE_TABLES
from protocols.bank.transactions import ECHOED, Profile
from protocols.rsu.messages import FetchTac, Initialise, RecoverTac, WriteEntry
from protocols.rsu.registry import dialect_named

CONNECT_TIMEOUT_S = 3.0

TIMINGS_MAX = 1000
"""Timings waiting to be stored; beyond it the oldest are lost, which costs no money."""

TIMINGS_EVERY_S = 1.0

CLOCK_EVERY_S = 1.0
"""Between two looks at what the clock says."""

TRANS_MODE_COMPOSITE = 1

DELIVERIES = {
    Outcome.NOT_SENT: Delivery.NOT_SENT,
    Outcome.REFUSED: Delivery.ANSWERED,
    Outcome.UNKNOWN: Delivery.SILENT,
}
"""What a driver knows of a request, as banks and charge points are told it."""

log = logging.getLogger(__name__)


class BankTransport:
    """A bank link in the shape a channel wants."""

    def __init__(self, link: BankLink) -> None:
        self._link = link

    @property
    def up(self) -> bool:
        """Whether the bank has signed every terminal in, and the line lives."""
        return self._link.state.state is BankState.UP

    async def exchange(self, message: Message, *, timeout_s: float) -> Message:
        """Exchange one message; driver errors become transport errors with what is known of the request."""
        try:
            return await self._link.exchange(message, timeout_s=timeout_s)
        except DeviceError as error:
            raise TransportError(str(error), DELIVERIES[error.outcome]) from error


class Outputs:
    """A lane's barrier and lamps in the shape a lane wants."""

    def __init__(self, outputs: LaneOutputs) -> None:
        self._outputs = outputs

    async def open_barrier(self, record_no: int, *, timeout_s: float) -> None:
        """Lift the barrier for the decision of this record."""
        with _as_output_fault():
            await self._outputs.open_barrier(record_no, timeout_s=timeout_s)

    async def confirm_opening(self, record_no: int) -> None:
        """What became of an opening whose fault was not certain."""
        with _as_output_fault():
            await self._outputs.confirm_opening(record_no)

    async def show_go(self, *, timeout_s: float) -> None:
        """Green."""
        with _as_output_fault():
            await self._outputs.show_go(timeout_s=timeout_s)

    async def show_stop(self, *, timeout_s: float) -> None:
        """Red."""
        with _as_output_fault():
            await self._outputs.show_stop(timeout_s=timeout_s)


@contextlib.contextmanager
def _as_output_fault() -> Iterator[None]:
    try:
        yield
    except DeviceError as error:
        raise OutputFault(str(error), DELIVERIES[error.outcome]) from error


@dataclass(slots=True)
class _Bank:
    """One bank's parts."""

    link: BankLink
    channel: Iso8583Channel
    worker: OutboxWorker


class Gateway:
    """One gateway process. `run` serves until it is told to stop."""

    def __init__(self, site: SiteFile) -> None:
        self._site = site
        self._clock = clock_of(site)
        self._random = random.SystemRandom()
        self._board = ConditionBoard(site.storage.state, self._clock, self._facts)
        self._supervisor = Supervisor(self._clock, self._board.report)
        self._timings: deque[Timing] = deque(maxlen=TIMINGS_MAX)
        self._time = Timekeeper(self._clock)
        self._rules = load_rules(site.rules.file)
        self._engine: DebitEngine | None = None
        self._backlogs: dict[str, Backlog] = {}
        self._findings: dict[str, int] = {}
        self._stopping = asyncio.Event()
        self._background: set[asyncio.Task[None]] = set()
        self._outputs_of: dict[str, list[LaneOutputs]] = {}
        self._lanes: list[TollLane] = []

    async def run(self, on_ready: Callable[[], None] = lambda: None) -> None:
        """Start everything in order, serve, and stop in reverse order on SIGTERM or SIGINT."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stopping.set)
        self._close_files()
        with self._storage() as (committer, writer, reader):
            tariffs = load_tariffs(self._site.tariffs.directory)
            with reader.connect() as connection:
                if mandate_import.is_under_way(connection):
                    log.warning("an import of mandates is running or was cut short; if nobody runs it, give it again")
            lists = self._open_lists()
            banks = {bank.name: self._make_bank(bank, committer, writer, reader) for bank in self._site.banks}
            channels: dict[str, BankChannel] = {name: bank.channel for name, bank in banks.items()}
            engine = DebitEngine(writer, reader, channels, clock=self._clock, random=self._random, rules=self._rules)
            self._engine = engine
            await self._recover(engine)
            self._start_common(engine, committer, lists)
            people = self._site.people
            desk = Desk(people.socket, people.groups, writer.submit, terms_of(self._site, self._rules))
            self._supervisor.start("people", desk.run)
            for name, bank in banks.items():
                self._supervisor.start(f"bank/{name}", bank.link.run)
                self._supervisor.start(f"outbox/{name}", bank.worker.run)
                self._supervisor.start(f"debts/{name}", self._collector(name, engine, reader).run)
            lanes = self._start_lanes(engine, reader, lists, tariffs)
            garbage.look_rarely()
            closing = asyncio.get_running_loop().create_task(self._close_behind(engine))
            self._background.add(closing)
            closing.add_done_callback(self._background.discard)
            on_ready()
            await self._stopping.wait()
            log.info("stopping: lanes first, then devices, then the ledger")
            await asyncio.gather(*(lane.drain() for lane in self._lanes))
            await self._supervisor.stop(*lanes)
            await self._store_timings(engine)
            await self._close_outputs()
            await self._supervisor.stop()
        self._board.write(running=False)

    def _open_lists(self) -> StatusLists:
        """The lists in force, or the nearest to it: a clock that is wrong stops no lane."""
        directory = self._site.lists.directory
        for moment in proved_times(directory):
            self._time.passed(moment)
        lists = StatusLists.open(directory, self._time.now, self._site.lists.drop_bound)
        if lists.refusal is not None:
            log.warning("status lists %s are used in place of the newest: %s", lists.version, lists.refusal)
        return lists

    # --- storage --------------------------------------------------------------------------------------------------

    def _close_files(self) -> None:
        """Whatever is ours was made for our own user alone, and may have been opened since."""
        still = private_files.close(self._site.storage.files)
        cause = "; ".join(f"{found.path} has mode {found.mode:04o}: {found.cure}" for found in still)
        self._board.report("files", not still, cause or "our own user's alone", "files_open" if still else None)

    @contextlib.contextmanager
    def _storage(self) -> Iterator[tuple[Committer, Writer, Engine]]:
        """The ledger for this process alone: two gateways on one would each believe they are the one writer."""
        place, keys = Place(self._site.storage.ledger, self._site.storage.mark_file), chain_keys_of(self._site)
        with self._refusing(), self._held(place) as (file, engine):
            mark = incarnation.stand(place, engine)
            schema.upgrade(engine, keys)
            reader = database.open_reader(file.real)
            file.watch(engine, reader)
            with reader.connect() as connection:
                newest_us = connection.execute(select(func.max(tables.decision.c.decided_at))).scalar()
                self._time.passed(from_us(newest_us or 0))
                key_is_due = key_change.is_due(connection, keys)
            committer = Committer(engine, self._clock, Path(f"{file.real}.reserve"), file, keys=keys, mark=mark)
            if key_is_due:
                # Here alone, where nobody else writes under the old one.
                committer.commit([key_change.take_current])
                log.info("ledger: chain key %s is in force", keys.current.id.hex())
            writer = Writer(committer, on_state=partial(self._storage_state, file))
            writer.start()
            self._storage_state(file, writer.state)
            try:
                yield committer, writer, reader
            finally:
                writer.stop()
                self._follow(committer)
                file.let_go(engine, reader)

    @contextlib.contextmanager
    def _held(self, place: Place) -> Iterator[tuple[LedgerFile, Engine]]:
        """The ledger's file, locked, and the writer's engine on it. Raises `LedgerRefused` where there is none."""
        if not place.ledger.exists():
            incarnation.marked(place)
        # Before its mark is looked at: another gateway may hold it under another name, which has no mark.
        with ledger_file.held(place.ledger) as file:
            engine = database.open_writer(file.real)
            try:
                yield file, engine
            finally:
                engine.dispose()

    @contextlib.contextmanager
    def _refusing(self) -> Iterator[None]:
        """What a start refuses the ledger for stands in the state file, too."""
        try:
            yield
        except LedgerRefused as refused:
            self._board.report("ledger", False, str(refused), refused.reason)
            self._board.write(running=False)
            raise

    async def _keep_mark(self, committer: Committer) -> None:
        """Let the mark follow the commits, beside the loop and the writer's thread."""
        while True:
            await asyncio.to_thread(self._follow, committer)
            await self._clock.sleep(FOLLOW_EVERY_S)

    def _follow(self, committer: Committer) -> None:
        try:
            committer.follow()
        except MarkUnwritable as error:
            self._board.report("mark", False, str(error), "mark_late")
        else:
            self._board.report("mark", True, "follows the ledger")

    def _storage_state(self, file: LedgerFile, state: WriterState) -> None:
        works, lost = state is WriterState.WRITING, state is WriterState.LOST
        cause = f"storage is {state.value}" + (f": {file.account}" if lost and file.account else "")
        self._board.report("ledger", works, cause, None if works else "ledger_lost" if lost else "storage_unavailable")

    async def _recover(self, engine: DebitEngine) -> None:
        """Classify what the last run left behind, before any lane opens."""
        collections = {lane.name: self._collection(lane) for lane in self._site.lanes}
        findings = await engine.recover(collections, mandates.stand_in_limit, partial(_say_progress, "classified"))
        self._findings = findings.counts
        log.info("start-up: %s", ", ".join(f"{k.replace('_', ' ')} {v}" for k, v in self._findings.items()))

    async def _close_behind(self, engine: DebitEngine) -> None:
        """Close what the last run left open, while lanes are open. What fails here is found at the next start."""
        try:
            closed = await engine.close_behind(partial(_say_progress, "closed"))
        except (StorageUnavailable, SQLAlchemyError):
            log.exception("open debits of the last run are not all closed; the next start goes on")
            return
        self._findings |= {"decided_now": closed.decided_now, "voided": closed.voided, "not_closed": closed.not_closed}

    def _collector(self, channel: str, engine: DebitEngine, reader: Engine) -> Collector:
        numbers = [number for lane in self._site.lanes for number in lane.terminals.get(channel, ())]
        # The last lane's first: the first lane is the busiest at most sites.
        collection = Collection(
            DeclinePolicy.RELEASE_AS_DEBT, {channel: Terminals(tuple(reversed(numbers)))} if numbers else {}
        )
        return Collector(channel, engine, reader, collection, clock=self._clock)

    def _backlog(self, channel: str, backlog: Backlog) -> None:
        self._backlogs[channel] = backlog
        late = ", ".join(backlog.alarms)
        self._board.report(
            f"outbox/{channel}",
            not backlog.alarms,
            f"too many or too old: {late}" if late else f"{backlog.count} waiting",
            "bank_backlog" if late else None,
        )
        self._board.report(
            f"disputes/{channel}",
            not backlog.disputed,
            f"{backlog.disputed} message(s) disputed" if backlog.disputed else "none",
            "bank_disputed" if backlog.disputed else None,
        )

    # --- parts ----------------------------------------------------------------------------------------------------

    def _start_common(self, engine: DebitEngine, committer: Committer, lists: StatusLists) -> None:
        self._supervisor.start("condition", self._board.run)
        self._supervisor.start("timings", partial(self._keep_timings, engine))
        self._supervisor.start("clock", self._keep_time)
        self._supervisor.start("mark", partial(self._keep_mark, committer))
        self._supervisor.start("lists", partial(self._keep_lists, lists))
        for section in self._site.relay_boards:
            self._board.report(f"board/{section.name}", False, "not connected yet", "barrier_fault")

    def _make_bank(self, bank: Bank, committer: Committer, writer: Writer, reader: Engine) -> _Bank:
        terminals = tuple(number for lane in self._site.lanes for number in lane.terminals.get(bank.name, ()))
        profile = Profile(
            terminal=terminals[0] if terminals else "",
            merchant=bank.merchant_no,
            tpdu=bytes.fromhex(bank.tpdu),
            header=bytes.fromhex(bank.header),
            utc_offset_min=self._site.site.utc_offset_min,
            dialect=replace(CUPS_POS_BCD, responses=RESPONSE_TABLES[bank.response_codes]),
            echoed=ECHOED - frozenset(bank.not_echoed),
            max_message_age_s=bank.max_message_age_s,
            anchor_field=bank.anchor_field or None,
        )
        host, port = host_port(bank.address)
        device = f"bank/{bank.name}"
        channels: list[Iso8583Channel] = []

        def heard_late(message: Message) -> None:
            channels[0].heard_late(message)

        link = BankLink(
            BankLinkConfig(device=device, profile=profile, terminals=terminals, echo_idle_s=bank.echo_idle_s),
            connect=partial(_tcp, host, port, device),
            clock=self._clock,
            chance=random.Random(self._random.getrandbits(64)),  # noqa: S311 - spreads reconnects, hides nothing
            on_state=partial(self._bank_state, device),
            on_late=heard_late,
            anchor=committer.anchor,
        )
        channel = Iso8583Channel(Iso8583Settings(bank.name, profile), BankTransport(link))
        channels.append(channel)
        worker = OutboxWorker(
            channel,
            writer,
            reader,
            clock=self._clock,
            random=self._random,
            rules=self._rules,
            fresh=lambda: self._engine is not None and self._engine.fresh(bank.name),
            on_backlog=partial(self._backlog, bank.name),
        )
        self._board.report(device, False, "not connected yet", "bank_unavailable")
        return _Bank(link, channel, worker)

    def _bank_state(self, device: str, state: BankLinkState) -> None:
        up = state.state is BankState.UP
        code = "bank_misbehaves" if state.misbehaved else "bank_unavailable"
        self._board.report(device, up, f"{state.state.value}: {state.cause}", None if up else code)

    def _start_lanes(self, engine: DebitEngine, reader: Engine, lists: StatusLists, tariffs: TariffSet) -> list[str]:
        boards = {section.name: self._make_board(section) for section in self._site.relay_boards}
        started = []
        for lane in self._site.lanes:
            outputs = self._make_outputs(lane, boards[lane.outputs.board])
            driver = self._make_antenna(lane)
            services = LaneServices(
                self._settings(lane),
                engine,
                outputs=Outputs(outputs),
                lists=lists,
                tariffs=lambda: tariffs,
                issuers=self._issuers(),
                errors=PROFILES[lane.antenna.errors or PROFILE_OF_DIALECT[lane.antenna.dialect]],
                clock=self._clock,
                time=self._time,
                find_mandate=partial(_find_mandate, reader),
                mandate_by_id=partial(_mandate_by_id, reader),
                note_timing=self._timings.append,
                report_fault=partial(self._lane_fault, lane.name),
            )
            self._supervisor.start(f"antenna/{lane.name}", driver.run)
            toll_lane = TollLane(services, driver)
            self._lanes.append(toll_lane)
            self._supervisor.start(f"lane/{lane.name}", toll_lane.run)
            started.append(f"lane/{lane.name}")
        for name, board in boards.items():
            self._supervisor.start(f"board/{name}", board.run)
        return started

    def _make_board(self, section: RelayBoardSection) -> RelayBoard:
        host, port = host_port(section.address)
        return RelayBoard(
            host,
            port,
            unit=section.unit,
            clock=self._clock,
            name=section.name,
            on_state=partial(self._board_state, section.name),
        )

    def _board_state(self, name: str, state: BoardState, cause: str) -> None:
        up = state is BoardState.UP
        self._board.report(f"board/{name}", up, cause, None if up else "barrier_fault")
        if up:
            for outputs in self._outputs_of.get(name, ()):
                task = asyncio.get_running_loop().create_task(self._make_safe(outputs))
                self._background.add(task)
                task.add_done_callback(self._background.discard)

    async def _make_safe(self, outputs: LaneOutputs) -> None:
        """A board that comes up may have lost power: barrier coil off, red on."""
        try:
            await outputs.safe_state()
        except DeviceError as error:
            log.warning("lane outputs not in their safe state: %s", error)

    async def _close_outputs(self) -> None:
        """End barrier pulses that are still running; a coil left on would swallow the next opening."""
        for outputs in (o for of_board in self._outputs_of.values() for o in of_board):
            try:
                await outputs.close()
            except DeviceError as error:
                log.warning("a barrier coil may still be on: %s", error)

    def _make_outputs(self, lane: Lane, board: RelayBoard) -> LaneOutputs:
        outputs = LaneOutputs(
            board,
            barrier_coil=lane.outputs.barrier,
            green_coil=lane.outputs.green,
            red_coil=lane.outputs.red,
            pulse_ms=lane.outputs.pulse_ms,
            closed_limit=lane.outputs.closed_limit,
            travel_ms=lane.outputs.travel_ms,
        )
        self._outputs_of.setdefault(lane.outputs.board, []).append(outputs)
        return outputs

    def _make_antenna(self, lane: Lane) -> RsuDriver:
        device = f"{lane.name}/antenna"
        self._board.report(device, False, "not connected yet", "rsu_silent")
        config = RsuConfig(
            device=device,
            dialect=dialect_named(lane.antenna.dialect),
            initialise=partial(self._initialise, lane),
            ignore_psam_auth=lane.antenna.ignore_psam_auth,
        )
        return RsuDriver(
            config,
            connect=partial(open_link, lane.antenna.address, timeout_s=CONNECT_TIMEOUT_S, device=device),
            clock=self._clock,
            on_condition=partial(self._antenna_condition, device),
        )

    def _antenna_condition(self, device: str, condition: RsuCondition) -> None:
        self._board.report(device, condition.state is RsuState.UP, condition.cause, condition.code)

    def _initialise(self, lane: Lane) -> Initialise:
        now = self._clock.utcnow()
        local = now + timedelta(minutes=self._site.site.utc_offset_min)
        return Initialise(
            unix_seconds=int(now.timestamp()),
            datetime_bcd=local.strftime("%Y%m%d%H%M%S"),
            lane_mode=lane.antenna.lane_mode,
            bst_interval_ms=lane.antenna.bst_interval_ms,
            tx_power=lane.antenna.tx_power,
            pll_channel=lane.antenna.channel,
            trans_mode=TRANS_MODE_COMPOSITE,
            flag_id=bytes.fromhex(lane.gantry),
            reserved=bytes(2),
        )

    def _collection(self, lane: Lane) -> Collection:
        return Collection(
            lane.bank_declines,
            {bank: Terminals(tuple(numbers)) for bank, numbers in lane.terminals.items() if numbers},
        )

    def _settings(self, lane: Lane) -> LaneSettings:
        dialect = dialect_named(lane.antenna.dialect)
        by_content = TacCommand.BY_CONTENT if dialect.speaks(RecoverTac) else TacCommand.NONE
        return LaneSettings(
            name=lane.name,
            merchant=self._site.site.merchant,
            kind=lane.kind,
            station=lane.station.upper(),
            lane_no=lane.lane_no,
            gantry=bytes.fromhex(lane.gantry),
            collection=self._collection(lane),
            utc_offset_s=self._site.site.utc_offset_min * 60,
            tac_command=TacCommand.BY_SERIAL if dialect.speaks(FetchTac) else by_content,
            entry_write=EntryWrite.COMMAND if dialect.speaks(WriteEntry) else EntryWrite.ZERO_PURCHASE,
            deadline_s=lane.deadline_ms / 1000,
            repeat_window_s=lane.repeat_window_s,
            same_station=frozenset(
                other.name
                for other in self._site.lanes
                if other.name != lane.name and (other.station, other.kind) == (lane.station, lane.kind)
            ),
            quiet_s=lane.quiet_s,
            charge_card_purchase=lane.charge_card_purchase,
            one_piece=lane.one_piece_tags,
        )

    def _issuers(self) -> Issuers:
        return Issuers(
            {
                bytes.fromhex(issuer.region): IssuerPolicy(
                    issuer.name,
                    Funding.ISSUER_CLEARING if issuer.charge_card_without_mandate == "issuer_clearing" else None,
                )
                for issuer in self._site.issuers
            }
        )

    # --- going on -------------------------------------------------------------------------------------------------

    async def _keep_time(self) -> None:
        """Say what becomes of the clock."""
        while True:
            self._tell_time()
            await self._clock.sleep(CLOCK_EVERY_S)

    def _tell_time(self) -> None:
        trusted, says, least = self._time.trusted, self._clock.utcnow(), self._time.at_least
        cause = "plausible" if trusted else f"it says {_seconds(says)}, and it is {_seconds(least)} at the least"
        self._board.report("clock", trusted, cause, None if trusted else "clock_bad")

    def _lane_fault(self, lane: str, part: str, problem: str | None) -> None:
        codes = {"barrier": "barrier_fault", "ledger": "storage_unavailable"}
        self._board.report(
            f"{lane}/{part}", problem is None, problem or "works", None if problem is None else codes.get(part)
        )

    async def _keep_timings(self, engine: DebitEngine) -> None:
        while True:
            await self._clock.sleep(TIMINGS_EVERY_S)
            await self._store_timings(engine)

    async def _store_timings(self, engine: DebitEngine) -> None:
        batch = [self._timings.popleft() for _ in range(len(self._timings))]
        with contextlib.suppress(StorageUnavailable):
            await engine.note_timings(batch)

    async def _keep_lists(self, lists: StatusLists) -> None:
        """Look for newly published lists. Reading and checking them happens beside the loop, switching is instant."""
        limit = timedelta(hours=self._site.lists.age_limit_h)
        while True:
            try:
                snapshot = await asyncio.to_thread(lists.prepare, self._time.now)
                if snapshot is not None:
                    lists.switch(snapshot)
                    self._time.passed(snapshot.created_at)
                    log.info("status lists %s in force", lists.version)
            except StatusListError:
                log.exception("status lists not switched")
            self._tell_lists(lists, limit)
            await self._clock.sleep(self._site.lists.look_every_s)

    def _tell_lists(self, lists: StatusLists, limit: timedelta) -> None:
        if lists.refusal is not None:
            cause = f"version {lists.version} in force, the newest is refused: {lists.refusal}"
            self._board.report("lists", False, cause, "list_unavailable")
        elif self._time.trusted and lists.stale(self._clock.utcnow(), limit):
            age_h = lists.age(self._clock.utcnow()).total_seconds() / 3600
            self._board.report("lists", False, f"version {lists.version} is {age_h:.1f} h old", "list_stale")
        else:
            self._board.report("lists", True, f"version {lists.version} in force")

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
        }


def clock_of(site: SiteFile) -> SystemClock:
    """The box's clock; on a bench perhaps one that was set."""
    return SystemClock() if site.bench is None or site.bench.clock is None else SetClock(site.bench.clock)


def _say_progress(what: str, findings: Findings) -> None:
    log.info("start-up: %d open debits, %d sales in doubt %s", findings.open_debits, findings.sales_in_doubt, what)


def _seconds(moment: datetime) -> str:
    return moment.isoformat(timespec="seconds")


async def _tcp(host: str, port: int, device: str) -> Link:
    return await TcpLink.connect(host, port, timeout_s=CONNECT_TIMEOUT_S, device=device)


def _find_mandate(reader: Engine, kind: CredentialKind, key: str) -> Mandate | None:
    with reader.connect() as connection:
        return mandates.find(connection, kind, key)


def _mandate_by_id(reader: Engine, mandate_id: str) -> Mandate | None:
    with reader.connect() as connection:
        return mandates.by_id(connection, mandate_id)
