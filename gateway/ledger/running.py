"""Ledger of a running gateway: opened for this process alone, written by one writer, followed by its mark.

Two gateways on one ledger would each believe they are the one writer, so the file is locked first.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
from collections.abc import Callable, Iterator
from datetime import datetime
from functools import partial
from pathlib import Path

from sqlalchemy import Engine
from sqlalchemy.exc import DBAPIError

from gateway.health import Tell
from gateway.ledger import clock_readings, engines, incarnation, key_change, schema
from gateway.ledger import file as ledger_file
from gateway.ledger.batches import Committer
from gateway.ledger.chain import ChainKeys
from gateway.ledger.file import LedgerFile
from gateway.ledger.incarnation import LedgerRefused, Place
from gateway.ledger.marks import FOLLOW_EVERY_S, MarkUnwritable
from gateway.ledger.reading import Reader
from gateway.ledger.writer import Writer, WriterState
from gateway.model.clock import Clock, from_us

LOG_EVERY_ROWS = 100
"""Rows of the journal after which the log is taken over: some 25 passages, or 1,000 pages."""

LOG_LOOK_S = 0.2
"""Seconds between two looks at how many there are."""

log = logging.getLogger(__name__)


class LogTaker:
    """Takes the write-ahead log over into the file beside the writer: a commit that does so makes whoever waits for it
    wait for a few hundred pages more."""

    def __init__(self, engine: Engine, committer: Committer) -> None:
        self._engine = engine
        self._committer = committer
        self._taken = 0
        """Journal row up to which the log was taken over."""
        self._one = threading.Lock()

    @property
    def is_due(self) -> bool:
        """True when enough was committed since."""
        head = self._committer.head
        return head is not None and head.number - self._taken >= LOG_EVERY_ROWS

    def take(self) -> None:
        """Take it over, as far as readers allow; from any thread."""
        head = self._committer.head
        with self._one:
            if head is None or not self._committer.stands():
                return
            self._taken = head.number
            # A storage in trouble is the writer's to tell of, which meets it as well.
            with contextlib.suppress(DBAPIError), self._engine.connect() as connection:
                engines.log_pages_left(connection)

    def close(self) -> None:
        """Close, after what a thread is at."""
        with self._one:
            self._engine.dispose()


class RunningLedger:
    """Ledger that is open, with its one writer and the mark that follows it. Made by `opened`."""

    def __init__(
        self, committer: Committer, writer: Writer, reader: Reader, log_taker: LogTaker, *, clock: Clock, tell: Tell
    ) -> None:
        self.committer = committer
        self.writer = writer
        self.reader = reader
        self._clock = clock
        self._tell = tell
        self._log_taker = log_taker

    async def keep_log(self) -> None:
        """Take the write-ahead log over, outside the loop and the writer's thread."""
        while True:
            await self._clock.sleep(LOG_LOOK_S)
            if self._log_taker.is_due:
                await asyncio.to_thread(self._log_taker.take)

    async def keep_mark(self) -> None:
        """Let the mark follow the commits, outside the loop and the writer's thread."""
        while True:
            await asyncio.to_thread(self.follow)
            await self._clock.sleep(FOLLOW_EVERY_S)

    def follow(self) -> None:
        """Let the mark follow once; also after the last commit."""
        try:
            self.committer.follow()
        except MarkUnwritable as error:
            self._tell("mark", False, str(error), "mark_late")
        else:
            self._tell("mark", True, "follows the ledger")


@contextlib.contextmanager
def opened(
    place: Place, keys: ChainKeys, clock: Clock, tell: Tell, *, passed: Callable[[datetime], None]
) -> Iterator[RunningLedger]:
    """Open the ledger for this process alone. `passed`: told the moment of the newest record, which is over.

    Raises `LedgerRefused` where there is none, or not this one; `tell` has heard of it then.
    """
    with _refusing(tell), _held(place) as (file, engine):
        mark = incarnation.stand(place, engine)
        schema.upgrade(engine)
        reading, taking = engines.open_reader(file.real), engines.open_writer(file.real)
        file.watch(engine, reading, taking)
        with reading.connect() as connection:
            passed(from_us(clock_readings.latest_us(connection)))
            key_is_due = key_change.is_due(connection, keys)
        committer = Committer(engine, clock, Path(f"{file.real}.reserve"), file, keys=keys, mark=mark)
        if key_is_due:
            # Here alone, where nobody else writes under the old one.
            committer.commit([key_change.take_current])
            log.info("ledger: chain key %s is in force", keys.current.id.hex())
        log_taker = LogTaker(taking, committer)
        writer = Writer(committer, on_state=partial(_tell_state, tell, file))
        writer.start()
        reader = Reader(reading)
        reader.start()
        _tell_state(tell, file, writer.state)
        ledger = RunningLedger(committer, writer, reader, log_taker, clock=clock, tell=tell)
        try:
            yield ledger
        finally:
            reader.stop()
            writer.stop()
            ledger.follow()
            log_taker.close()
            file.let_go(engine, reading)


@contextlib.contextmanager
def _held(place: Place) -> Iterator[tuple[LedgerFile, Engine]]:
    """Lock the ledger's file and open the writer's engine on it."""
    if not place.ledger.exists():
        incarnation.marked(place)
    # Before its mark is looked at: another gateway may hold it under another name, which has no mark.
    with ledger_file.held(place.ledger) as file:
        engine = engines.open_writer(file.real)
        try:
            yield file, engine
        finally:
            engine.dispose()


@contextlib.contextmanager
def _refusing(tell: Tell) -> Iterator[None]:
    try:
        yield
    except LedgerRefused as refused:
        tell("ledger", False, str(refused), refused.reason)
        raise


def _tell_state(tell: Tell, file: LedgerFile, state: WriterState) -> None:
    works, lost = state is WriterState.WRITING, state is WriterState.LOST
    cause = f"storage is {state.value}" + (f": {file.account}" if lost and file.account else "")
    tell("ledger", works, cause, None if works else "ledger_lost" if lost else "storage_unavailable")
