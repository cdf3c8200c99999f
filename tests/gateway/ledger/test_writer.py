"""The one writer: group commit, answers after durability, and what it does when the storage does not want to."""

import asyncio
import signal
import sqlite3
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest
from sqlalchemy import event, insert, text

from gateway.ledger import engines, tables
from gateway.ledger.engines import StorageTrouble
from gateway.ledger.writer import BATCH_MAX, PROBE, StorageUnavailable, WriterState

from .conftest import WAIT_S_MAX, until

ROOT = Path(__file__).parents[3]


def add(name="n"):
    """A change that takes the next number of a series."""
    return lambda tx: tx.next_number(name)


def store(key, size=0):
    """A change that stores one row of about `size` bytes."""

    def change(tx):
        tx.connection.execute(insert(tables.subject).values(id=f"{key:032d}", plate="x" * size))
        return key

    return change


async def outcome(future):
    """A future's result, or its exception as a value."""
    try:
        return await future
    except Exception as error:  # noqa: BLE001 - the exception is what the test looks at
        return error


# --- group commit -------------------------------------------------------------------------------------------------


def test_changes_that_wait_share_a_commit(desk):
    async def scenario(desk):
        desk.committer.gate.clear()
        first = desk.writer.submit(add())
        await until(desk.committer.entered.is_set)
        crowd = [desk.writer.submit(add()) for _ in range(50)]
        desk.committer.gate.set()
        return await asyncio.gather(first, *crowd)

    assert desk.run(scenario) == list(range(1, 52))
    assert desk.committer.batches == [1, 50]


def test_a_connection_is_taken_once_and_anew_after_an_error(desk):
    taken = []
    event.listen(desk.engine, "checkout", lambda *_: taken.append(True))

    async def scenario(desk):
        return [await outcome(desk.writer.submit(change)) for change in (add(), add(), lambda _: 1 / 0, add(), add())]

    one, two, error, three, four = desk.run(scenario)
    assert (one, two, three, four) == (1, 2, 3, 4)
    assert isinstance(error, ZeroDivisionError)
    assert len(taken) == 2
    assert desk.engine.pool.checkedout() == 0


def test_a_patient_change_goes_with_the_next(desk, monkeypatch):
    monkeypatch.setattr("gateway.ledger.writer.PATIENCE_S", WAIT_S_MAX)

    async def scenario(desk):
        patient = desk.writer.submit(add(), patient=True)
        await asyncio.sleep(0)
        found = await desk.writer.submit(add())
        return await patient, found

    assert desk.run(scenario) == (1, 2)
    assert desk.committer.batches == [2]


def test_a_patient_change_that_nobody_takes_along_goes_alone(desk, monkeypatch):
    monkeypatch.setattr("gateway.ledger.writer.PATIENCE_S", 0.01)

    async def scenario(desk):
        return await desk.writer.submit(add(), patient=True), await desk.writer.submit(add())

    assert desk.run(scenario) == (1, 2)
    assert desk.committer.batches == [1, 1]


def test_a_patient_change_is_stored_at_the_end(desk, monkeypatch):
    monkeypatch.setattr("gateway.ledger.writer.PATIENCE_S", WAIT_S_MAX)

    async def scenario(desk):
        desk.writer.submit(add(), patient=True)

    desk.run(scenario)
    assert desk.rows("select value from counter") == [(1,)]


def test_callers_answered_together_come_again_together(desk):
    """Each caller goes on at once; the crowd stays one batch instead of crumbling into many."""

    async def caller(desk):
        for _ in range(5):
            await desk.writer.submit(add())

    async def scenario(desk):
        await asyncio.gather(*(caller(desk) for _ in range(200)))

    desk.run(scenario)
    assert desk.committer.batches == [200] * 5


def test_a_turn_of_the_loop_is_handed_over_whole(desk):
    """However long the turn takes, and however idle the thread is in the meantime."""

    async def scenario(desk):
        first = await desk.writer.submit(add())
        futures = []
        for _ in range(3):
            futures.append(desk.writer.submit(add()))
            time.sleep(0.02)  # noqa: ASYNC251 - the loop shall not turn
        return [first, *await asyncio.gather(*futures)]

    assert desk.run(scenario) == [1, 2, 3, 4]
    assert desk.committer.batches == [1, 3]


def test_answers_of_a_batch_come_back_in_one_call(desk):
    async def scenario(desk):
        loop, calls = asyncio.get_running_loop(), []
        into_the_loop = loop.call_soon_threadsafe
        loop.call_soon_threadsafe = lambda *args, **kw: (calls.append(args), into_the_loop(*args, **kw))
        await asyncio.gather(*(desk.writer.submit(add()) for _ in range(50)))
        return len(calls)

    assert desk.run(scenario) == 1


def test_a_change_of_the_last_turn_is_stored(desk):
    """Nothing that was handed in is lost because the loop ended before its turn did."""

    async def scenario(desk):
        desk.writer.submit(store(1))

    desk.run(scenario)
    assert desk.rows("select count(*) from subject") == [(1,)]


def test_a_loop_closed_in_the_middle_of_its_turn_takes_nothing_with_it(desk):
    """Its change is handed over with the first of the next loop."""

    async def hand_in(key):
        future = desk.writer.submit(store(key))
        asyncio.get_running_loop().stop()
        return future

    desk.writer.start()
    loop = asyncio.new_event_loop()
    task = loop.create_task(hand_in(1))
    loop.run_forever()
    loop.close()
    assert not task.result().done()

    async def next_loop():
        return await desk.writer.submit(store(2))

    assert asyncio.run(next_loop()) == 2
    desk.close()
    assert desk.rows("select count(*) from subject") == [(2,)]


def test_a_batch_has_a_maximum(desk):
    async def scenario(desk):
        desk.committer.gate.clear()
        crowd = [desk.writer.submit(add()) for _ in range(2 * BATCH_MAX + 3)]
        desk.committer.gate.set()
        return await asyncio.gather(*crowd)

    assert desk.run(scenario) == list(range(1, 2 * BATCH_MAX + 4))
    assert max(desk.committer.batches) <= BATCH_MAX


def test_an_answer_means_that_another_process_can_read_it(desk):
    """Looked at in the very callback that hears the answer, over another connection."""
    seen = []

    async def scenario(desk):
        desk.committer.gate.clear()
        future = desk.writer.submit(store(1))
        future.add_done_callback(lambda _: seen.append(desk.rows("select count(*) from subject")))
        await until(desk.committer.entered.is_set)
        await asyncio.sleep(0.05)
        assert not future.done()
        desk.committer.gate.set()
        await future
        await asyncio.sleep(0)

    desk.run(scenario)
    assert seen == [[(1,)]]


def test_no_answer_while_the_commit_is_under_way(tmp_path):
    """The change has run; its transaction has not ended; nobody has been told."""
    from .conftest import Desk, WatchedCommitter

    class LateCommit(WatchedCommitter):
        def commit(self, changes):
            def last(tx):
                self.entered.set()
                assert self.gate.wait(WAIT_S_MAX)

            return super(WatchedCommitter, self).commit([*changes, last])[:-1]

    desk = Desk(tmp_path / "ledger.db", committer=LateCommit)

    async def scenario(desk):
        desk.committer.gate.clear()
        future = desk.writer.submit(store(1))
        await until(desk.committer.entered.is_set)
        await asyncio.sleep(0.05)
        assert not future.done()
        assert desk.rows("select count(*) from subject") == [(0,)]
        desk.committer.gate.set()
        assert await future == 1
        assert desk.rows("select count(*) from subject") == [(1,)]

    desk.run(scenario)


@pytest.mark.parametrize("poison", ["own error", "constraint", "statement", "books"])
def test_a_poisoned_change_harms_nobody_else(desk, poison):
    runs = {"good": 0, "bad": 0}

    def bad(tx):
        runs["bad"] += 1
        tx.next_number("n")
        if poison == "own error":
            raise KeyError("mine")
        if poison == "constraint":
            tx.connection.execute(insert(tables.counter).values(name="n", value=None))
        if poison == "books":
            tx.books.void(12345, "no such hold", event_us=0)
        tx.connection.execute(text("select * from no_such_table"))

    def good(tx):
        runs["good"] += 1
        return tx.next_number("n")

    async def scenario(desk):
        desk.committer.gate.clear()
        futures = [desk.writer.submit(bad if i == 4 else good) for i in range(10)]
        desk.committer.gate.set()
        return await asyncio.gather(*(outcome(f) for f in futures))

    results = desk.run(scenario)
    assert isinstance(results.pop(4), Exception)
    assert results == list(range(1, 10)), "the numbers of the others have no gap"
    assert desk.rows("select value from counter where name='n'") == [(9,)]
    assert runs["bad"] >= 1
    assert runs["good"] > 9, "the batch was run again, change by change"


def test_cancelling_a_future_does_not_undo_its_change(desk):
    async def scenario(desk):
        desk.committer.gate.clear()
        future = desk.writer.submit(store(1))
        future.cancel()
        desk.committer.gate.set()
        await desk.writer.submit(add())

    desk.run(scenario)
    assert desk.rows("select count(*) from subject") == [(1,)]


def test_the_queue_has_an_end(desk, monkeypatch):
    monkeypatch.setattr("gateway.ledger.writer.QUEUE_MAX", 4)

    async def scenario(desk):
        desk.committer.gate.clear()
        first = desk.writer.submit(add())
        await until(desk.committer.entered.is_set)
        waiting = [desk.writer.submit(add()) for _ in range(4)]
        refused = await outcome(waiting.pop())
        assert isinstance(refused, StorageUnavailable)
        desk.committer.gate.set()
        return await asyncio.gather(first, *waiting)

    assert desk.run(scenario) == [1, 2, 3, 4]


# --- another process holds the database ----------------------------------------------------------------------------


def test_busy_keeps_everything_until_it_passes(desk):
    async def scenario(desk):
        other = sqlite3.connect(desk.path, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        futures = [desk.writer.submit(add()) for _ in range(5)]
        await until(lambda: desk.writer.state is WriterState.BUSY)
        assert not desk.writer.selling_allowed
        assert not any(f.done() for f in futures)
        other.execute("ROLLBACK")
        other.close()
        assert await asyncio.gather(*futures) == [1, 2, 3, 4, 5]
        assert desk.writer.selling_allowed

    desk.run(scenario)
    assert desk.states == [WriterState.WRITING, WriterState.BUSY, WriterState.WRITING]


# --- the disk is full ---------------------------------------------------------------------------------------------


async def fill_up(desk):
    """Store ordinary rows until one is refused; returns the refusal."""
    for i in range(2000):
        result = await outcome(desk.writer.submit(store(i, 3000)))
        if isinstance(result, Exception):
            return result
    raise AssertionError("the disk never filled up")


def test_full_fails_sales_lets_results_live_on_the_reserve_and_recovers(full_disk):
    disk, desk = full_disk

    async def scenario(desk):
        assert desk.writer.state is WriterState.WRITING
        disk.fill()
        refused = await fill_up(desk)
        assert isinstance(refused, StorageUnavailable)
        assert refused.trouble is StorageTrouble.FULL
        assert desk.writer.state is WriterState.FULL
        assert not desk.writer.selling_allowed
        before = desk.rows("select count(*) from subject")[0][0]

        results = [await desk.writer.submit(store(10_000 + i, 500), essential=True) for i in range(20)]
        assert results == [10_000 + i for i in range(20)]
        assert desk.rows("select count(*) from subject") == [(before + 20,)]
        if disk.reserve is not None:
            assert not disk.reserve.exists()
        assert desk.writer.state is WriterState.FULL

        # What the reserve has freed belongs to results: nothing ordinary may eat it.
        assert isinstance(await outcome(desk.writer.submit(store(20_000))), StorageUnavailable)

        disk.free()
        await until(lambda: desk.writer.state is WriterState.WRITING)
        assert await desk.writer.submit(store(30_000, 3000)) == 30_000
        if disk.reserve is not None:
            assert disk.reserve.stat().st_size == 1 << 20

    desk.run(scenario)


def test_full_nobody_waits_behind_a_result_that_does_not_fit_yet(full_disk):
    disk, desk = full_disk
    big = 2 << 20

    async def scenario(desk):
        disk.fill()
        await fill_up(desk)
        stuck = desk.writer.submit(store(10_000, big), essential=True)
        await asyncio.sleep(0.2)
        assert not stuck.done()
        assert isinstance(await outcome(desk.writer.submit(store(20_000))), StorageUnavailable)
        disk.free()
        assert await stuck == 10_000

    desk.run(scenario)


def test_a_disk_without_room_for_the_reserve_starts_full(full_disk):
    disk, desk = full_disk
    if disk.reserve is None:
        disk.released = True
    disk.fill()

    async def scenario(desk):
        assert desk.writer.state is WriterState.FULL
        assert not desk.writer.selling_allowed
        disk.free()
        await until(lambda: desk.writer.state is WriterState.WRITING)

    desk.run(scenario)


def test_a_reserve_that_cannot_be_deleted_does_not_end_the_writer(tmp_path):
    """Its name is a folder here, as bad as a disk gone read-only."""
    from .conftest import Desk

    reserve = tmp_path / "reserve"
    desk = Desk(tmp_path / "ledger.db", reserve)

    async def scenario(desk):
        reserve.unlink()
        (reserve / "sub").mkdir(parents=True)
        desk.committer.release_reserve()
        assert desk.committer.keep_reserve() is False
        return await desk.writer.submit(add())

    assert desk.run(scenario) == 1


@pytest.mark.parametrize(
    ("code", "trouble"),
    [
        (sqlite3.SQLITE_BUSY, StorageTrouble.BUSY),
        (sqlite3.SQLITE_BUSY_SNAPSHOT, StorageTrouble.BUSY),
        (sqlite3.SQLITE_LOCKED, StorageTrouble.BUSY),
        (sqlite3.SQLITE_FULL, StorageTrouble.FULL),
        (sqlite3.SQLITE_IOERR_WRITE, StorageTrouble.FULL),
        (sqlite3.SQLITE_IOERR_SHMSIZE, StorageTrouble.FULL),
        (sqlite3.SQLITE_IOERR_READ, StorageTrouble.UNREADABLE),
        (sqlite3.SQLITE_CANTOPEN, StorageTrouble.UNREADABLE),
        (sqlite3.SQLITE_READONLY, StorageTrouble.UNREADABLE),
        (sqlite3.SQLITE_CORRUPT, StorageTrouble.UNREADABLE),
        (sqlite3.SQLITE_NOTADB, StorageTrouble.UNREADABLE),
        (sqlite3.SQLITE_ERROR, StorageTrouble.OTHER),
        (sqlite3.SQLITE_CONSTRAINT_UNIQUE, StorageTrouble.OTHER),
        (None, StorageTrouble.OTHER),
    ],
)
def test_trouble_is_known_by_its_code(code, trouble):
    from sqlalchemy.exc import OperationalError

    cause = sqlite3.OperationalError("words that mean nothing: disk is full, database is locked")
    if code is not None:
        cause.sqlite_errorcode = code
    assert engines.trouble_of(OperationalError("x", {}, cause)) is trouble


def test_the_probe_writes(desk):
    """Looking whether the storage is well again must not be satisfied by an empty transaction."""

    async def scenario(desk):
        other = sqlite3.connect(desk.path, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        future = desk.writer.submit(add())
        await until(lambda: desk.writer.state is WriterState.BUSY)
        other.execute("ROLLBACK")
        other.close()
        await future

    desk.run(scenario)
    assert desk.rows(f"select value from counter where name='{PROBE}'") == [(1,)]


# --- stopping -----------------------------------------------------------------------------------------------------


def test_stop_commits_what_waits(desk):
    async def scenario(desk):
        desk.committer.gate.clear()
        futures = [desk.writer.submit(add()) for _ in range(200)]
        desk.committer.gate.set()
        await asyncio.to_thread(desk.writer.stop)
        return await asyncio.gather(*futures)

    assert desk.run(scenario) == list(range(1, 201))
    assert desk.writer.state is WriterState.STOPPED


def test_stop_does_not_wait_for_a_storage_that_refuses(desk):
    async def scenario(desk):
        other = sqlite3.connect(desk.path, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        futures = [desk.writer.submit(add(), essential=i % 2 == 0) for i in range(6)]
        await until(lambda: desk.writer.state is WriterState.BUSY)
        await asyncio.to_thread(desk.writer.stop)
        other.execute("ROLLBACK")
        other.close()
        return await asyncio.gather(*(outcome(f) for f in futures))

    results = desk.run(scenario)
    assert all(isinstance(r, StorageUnavailable) for r in results)
    assert desk.rows("select count(*) from counter where name='n'") == [(0,)]


def test_after_the_end_a_change_is_refused_and_never_left_hanging(desk):
    async def scenario(desk):
        await asyncio.to_thread(desk.writer.stop)
        return await asyncio.wait_for(outcome(desk.writer.submit(add(), essential=True)), WAIT_S_MAX)

    refused = desk.run(scenario)
    assert isinstance(refused, StorageUnavailable)
    assert refused.trouble is StorageTrouble.STOPPED


# --- power cut ----------------------------------------------------------------------------------------------------

CHILD = textwrap.dedent("""
    import asyncio, sys
    from pathlib import Path
    from gateway.ledger import engines, schema, tables
    from gateway.ledger.writer import Committer, Writer
    from hardware.bench.chain_key import KEYS
    from hardware.bench.clocks import StillClock

    async def main():
        engine = engines.open_new(Path(sys.argv[1]))
        schema.upgrade(engine)
        writer = Writer(Committer(engine, StillClock(1), keys=KEYS))
        writer.start()

        def change(tx):
            number = tx.next_number("n")
            tx.insert(tables.subject, id=f"{number:032d}")
            return number

        async def caller():
            while True:
                number = await writer.submit(change)
                sys.stdout.write(f"{number}\\n")
                sys.stdout.flush()

        await asyncio.gather(*(caller() for _ in range(8)))

    asyncio.run(main())
""")


def test_what_was_answered_is_there_after_kill_9(tmp_path):
    path = tmp_path / "ledger.db"
    with subprocess.Popen(
        [sys.executable, "-c", CHILD, str(path)], stdout=subprocess.PIPE, text=True, cwd=ROOT
    ) as child:
        answered = {int(child.stdout.readline()) for _ in range(300)}
        child.send_signal(signal.SIGKILL)
        answered |= {int(line) for line in child.stdout.read().split("\n")[:-1]}
    assert child.returncode == -signal.SIGKILL
    with sqlite3.connect(path) as connection:
        stored = {int(row[0].hex()) for row in connection.execute("select id from subject")}
        value = connection.execute("select value from counter where name='n'").fetchone()[0]
    connection.close()
    assert answered <= stored
    assert stored == set(range(1, value + 1)), "no gap, and the counter agrees with what it numbered"
