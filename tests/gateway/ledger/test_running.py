"""A running ledger's log is taken over beside its commits."""

import asyncio
import sqlite3
from contextlib import closing

import pytest

from gateway.ledger import engines, file
from gateway.ledger.batches import Committer
from gateway.ledger.running import LOG_EVERY_ROWS, LogTaker, RunningLedger
from hardware.bench.chain_key import KEYS
from hardware.bench.clocks import StillClock
from tests.gateway.ledger.empty import open_empty


class Running:
    """A ledger with what takes its log over."""

    def __init__(self, path, held):
        self.path, self.file = path, held
        self.writing, taking = engines.open_writer(path), engines.open_writer(path)
        held.watch(self.writing, taking)
        clock = StillClock(1_700_000_000_000_000)
        self.committer = Committer(self.writing, clock, file=held, keys=KEYS)
        self.taker = LogTaker(taking, self.committer)

    def note(self, count):
        self.committer.commit([lambda tx: [tx.note("test", str(n), "happened") for n in range(count)]])

    def rows_in_log(self):
        """Rows of the journal that do not stand in the file itself."""
        with closing(sqlite3.connect(f"file:{self.path}?mode=ro&immutable=1", uri=True)) as connection:
            return self.committer.head.number - connection.execute("select count(*) from journal").fetchone()[0]


@pytest.fixture
def running(tmp_path):
    path = tmp_path / "ledger.db"
    made = open_empty(path)
    made.dispose()
    with file.held(path) as held:
        running = Running(path, held)
        running.note(1)
        running.taker.take()
        yield running
        running.taker.close()
        running.writing.dispose()


def test_a_log_is_due_after_so_many_rows_and_then_stands_in_the_file(running):
    assert not running.taker.is_due
    running.note(LOG_EVERY_ROWS - 1)
    assert not running.taker.is_due
    running.note(1)
    assert running.taker.is_due
    assert running.rows_in_log() == LOG_EVERY_ROWS
    running.taker.take()
    assert running.rows_in_log() == 0
    assert not running.taker.is_due


def test_a_reader_that_needs_the_log_is_not_waited_for(running):
    with closing(sqlite3.connect(running.path)) as reading:
        reading.execute("begin")
        before = reading.execute("select count(*) from journal").fetchone()
        running.note(LOG_EVERY_ROWS)
        running.taker.take()
        assert running.rows_in_log() == LOG_EVERY_ROWS
        assert reading.execute("select count(*) from journal").fetchone() == before
    running.note(1)
    running.taker.take()
    assert running.rows_in_log() == 0


def test_the_log_of_a_lost_ledger_is_left_alone(running):
    running.note(LOG_EVERY_ROWS)
    aside = running.path.with_suffix(".aside")
    running.path.rename(aside)
    running.taker.take()
    aside.rename(running.path)
    assert running.rows_in_log() == LOG_EVERY_ROWS


def test_a_running_ledger_takes_over_what_is_due_and_goes_on(running):
    class Clock(StillClock):
        """Commits a little in every sleep."""

        slept = 0

        async def sleep(self, _seconds):
            self.slept += 1
            if self.slept == 5:
                raise TimeoutError
            running.note(LOG_EVERY_ROWS // 2)

    ledger = RunningLedger(running.committer, None, None, running.taker, clock=Clock(0), tell=None)
    with pytest.raises(TimeoutError):
        asyncio.run(ledger.keep_log())
    assert running.rows_in_log() == 0
