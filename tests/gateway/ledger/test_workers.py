"""Processes that read a ledger side by side: all see one state, and none is left behind."""

import asyncio
import contextlib
import os
import select
import signal
import sqlite3
import subprocess
import sys

import pytest

from gateway.ledger import engines, incarnation, life, verify_chains, workers
from gateway.ledger import verify as verification
from gateway.ledger.verify import verify
from gateway.ledger.workers import WorkerLost
from hardware.bench.chain_key import KEYS
from tests.gateway.debit.conftest import Box, charge, hold_request


@pytest.fixture
def box(tmp_path):
    """A ledger with some rows, open for reading and writing."""
    box = Box(tmp_path / "a ledger.db")

    async def fill():
        async with box:
            for n in range(5):
                await charge(box, hold_request(f"k{n}", card=f"9901{n:016d}"))

    asyncio.run(fill())
    box.open()
    yield box
    box.database.dispose()
    box.reader.dispose()


def move_on(path):
    """Let the journal move on, as a commit of a gateway beside us does."""
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute("update chain set number = number + 1 where name = 'journal'")
        connection.commit()


def has_ended(pid):
    """Wait for the end of a process, whoever started it."""
    try:
        process = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    ends = select.poll()
    ends.register(process, select.POLLIN)
    try:
        return bool(ends.poll(300_000))
    finally:
        os.close(process)


@pytest.mark.parametrize("corruption", ["select 1", "update debit set day = '1'", "update transfer set amount = 7"])
def test_workers_find_what_one_process_finds(box, monkeypatch, corruption):
    with contextlib.closing(sqlite3.connect(box.path)) as connection:
        connection.execute(corruption)
        connection.commit()
    told_alone, told = [], []
    alone = verify(box.reader, KEYS, told_alone.append)
    monkeypatch.setattr(verification, "ROWS_OF_A_LARGE_ONE", 0)
    monkeypatch.setattr(verify_chains, "ROWS_EACH", 3)
    started = []
    monkeypatch.setattr(
        workers, "_Worker", lambda path, kind=workers._Worker: started.append(kind(path)) or started[-1]
    )
    assert verify(box.reader, KEYS, told.append, workers=2) == alone
    assert told == told_alone
    assert len(started) == 2
    assert all(worker._process.returncode == -signal.SIGKILL for worker in started)


def test_a_small_ledger_is_verified_without_workers(box, monkeypatch):
    monkeypatch.setattr(workers, "_Worker", None)
    assert all(check.ok for check in verify(box.reader, KEYS, workers=2))


def test_all_see_one_state_whatever_is_written_meanwhile(box):
    with workers.reading(box.reader, 2) as readers:
        assert readers.number == 2
        before = life.journal_head(readers.connection)
        move_on(box.path)
        tasks = [readers.submit(life.journal_head) for _ in range(4)]
        assert [readers.answer(task) for task in tasks] == [before] * 4


@pytest.mark.parametrize(("commits", "number"), [(3, 2), (10_000, 1)])
def test_workers_begin_again_until_they_see_one_state(box, monkeypatch, commits, number):
    """A writer that always gets in between leaves the work to one process."""
    send, left = workers._Worker.send, iter(range(commits))

    def send_and_commit(worker, message):
        send(worker, message)
        if message is None and next(left, None) is not None:
            assert worker.link.poll(300)  # it has begun
            move_on(box.path)

    monkeypatch.setattr(workers._Worker, "send", send_and_commit)
    with workers.reading(box.reader, 2) as readers:
        assert readers.number == number
        here = life.journal_head(readers.connection)
        assert [readers.answer(readers.submit(life.journal_head)) for _ in range(2)] == [here] * 2


def test_a_task_that_fails_fails_here_as_itself(box):
    with workers.reading(box.reader, 2) as readers:
        task = readers.submit(incarnation.digest_at, object())
        with pytest.raises(Exception, match="object"):
            readers.answer(task)
        assert readers.answer(readers.submit(life.journal_head)).number > 0


def test_a_worker_that_was_killed_is_told_and_none_is_left(box):
    with workers.reading(box.reader, 2) as readers:
        pids = [worker._process.pid for worker in readers._idle]
        os.kill(pids[-1], signal.SIGKILL)
        assert has_ended(pids[-1])
        with pytest.raises(WorkerLost, match="killed by signal 9"):
            readers.answer(readers.submit(life.journal_head))
    for pid in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


PARENT = """
import signal, sys
from pathlib import Path
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell has background commands ignore it
from gateway.ledger import engines, workers
with workers.reading(engines.open_reader(Path(sys.argv[1])), 2) as readers:
    print(*(worker._process.pid for worker in readers._idle), flush=True)
    sys.stdin.read()
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_workers_end_with_whoever_started_them(box, number):
    with subprocess.Popen(
        [sys.executable, "-c", PARENT, str(box.path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as parent:
        pids = [int(pid) for pid in parent.stdout.readline().split()]
        assert len(pids) == 2
        parent.send_signal(number)
        assert all(map(has_ended, pids))


def test_workers_are_no_more_than_the_cores_that_this_process_may_use(monkeypatch):
    for number in (1, 2, 64):
        monkeypatch.setattr(workers.os, "sched_getaffinity", lambda _, n=number: set(range(n)))
        assert workers.cores() == min(number, workers.WORKERS_MAX)


def test_a_path_is_told_as_it_is(box):
    with box.reader.connect() as connection:
        assert engines.path_of(connection) == box.path.resolve()
