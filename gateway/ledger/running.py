"""Ledger of a running gateway: opened for this process alone, written by one writer, followed by its mark.

Two gateways on one ledger would each believe they are the one writer, so the file is locked first.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Iterator
from datetime import datetime
from functools import partial
from pathlib import Path

from sqlalchemy import Engine

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

log = logging.getLogger(__name__)


class RunningLedger:
    """Ledger that is open, with its one writer and the mark that follows it. Made by `opened`."""

    def __init__(self, committer: Committer, writer: Writer, reader: Reader, clock: Clock, tell: Tell) -> None:
        self.committer = committer
        self.writer = writer
        self.reader = reader
        self._clock = clock
        self._tell = tell

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
        reading = engines.open_reader(file.real)
        file.watch(engine, reading)
        with reading.connect() as connection:
            passed(from_us(clock_readings.latest_us(connection)))
            key_is_due = key_change.is_due(connection, keys)
        committer = Committer(engine, clock, Path(f"{file.real}.reserve"), file, keys=keys, mark=mark)
        if key_is_due:
            # Here alone, where nobody else writes under the old one.
            committer.commit([key_change.take_current])
            log.info("ledger: chain key %s is in force", keys.current.id.hex())
        writer = Writer(committer, on_state=partial(_tell_state, tell, file))
        writer.start()
        reader = Reader(reading)
        reader.start()
        _tell_state(tell, file, writer.state)
        ledger = RunningLedger(committer, writer, reader, clock, tell)
        try:
            yield ledger
        finally:
            reader.stop()
            writer.stop()
            ledger.follow()
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
