"""Reads off the event loop: who waits for whom, what is bounded, and how it ends."""

import asyncio
import threading

import pytest
from sqlalchemy import text
from sqlalchemy.exc import OperationalError

from gateway.ledger import engines, reading
from gateway.ledger.batches import StorageUnavailable
from gateway.ledger.engines import StorageTrouble
from gateway.ledger.reading import Reader
from tests.gateway.ledger.conftest import WAIT_S_MAX, until
from tests.gateway.ledger.empty import open_empty


@pytest.fixture
def reads(tmp_path):
    """Run a scenario with a reader; its queries are let go when it ends."""
    writing = open_empty(tmp_path / "ledger.db")
    engine = engines.open_reader(tmp_path / "ledger.db")
    made = []

    def call(scenario):
        reader = Reader(engine)
        made.append(reader)
        reader.start()

        async def bounded():
            async with asyncio.timeout(WAIT_S_MAX):
                return await scenario(reader)

        return asyncio.run(bounded())

    yield call
    for reader in made:
        reader.stop()
        assert not any(thread.is_alive() for thread in reader._threads)
    engine.dispose()
    writing.dispose()


def tables_of(connection):
    return connection.execute(text("select count(*) from sqlite_master where name = 'journal'")).scalar_one()


class Slow:
    """A query that takes as long as a test wants."""

    def __init__(self):
        self.begun, self.ends = threading.Event(), threading.Event()

    def __call__(self, connection):
        self.begun.set()
        self.ends.wait(WAIT_S_MAX)
        return tables_of(connection)


def test_a_query_is_answered_off_the_loop(reads):
    async def scenario(reader):
        return await reader.read(lambda c: (tables_of(c), threading.current_thread())), await reader.look_up(tables_of)

    (found, thread), looked_up = reads(scenario)
    assert (found, looked_up) == (1, 1)
    assert thread is not threading.current_thread()
    assert thread.daemon


def test_what_a_customer_waits_for_waits_for_no_other_query(reads):
    async def scenario(reader):
        slow = Slow()
        first, behind = reader.read(slow), reader.read(tables_of)
        await until(slow.begun.is_set)
        looked_up = await reader.look_up(tables_of)
        assert [first.done(), behind.done()] == [False, False]
        slow.ends.set()
        return looked_up, await first, await behind

    assert reads(scenario) == (1, 1, 1)


def test_a_query_that_fails_tells_its_caller_and_no_other(reads):
    async def scenario(reader):
        failing = reader.read(lambda c: c.execute(text("select x from nowhere")))
        following = reader.read(tables_of)
        with pytest.raises(OperationalError):
            await failing
        with pytest.raises(ZeroDivisionError):
            await reader.look_up(lambda _: 1 // 0)
        return await following

    assert reads(scenario) == 1


def test_no_more_queries_wait_than_the_bound(reads, monkeypatch):
    monkeypatch.setattr(reading, "WAITING_MAX", 2)

    async def scenario(reader):
        slow = Slow()
        under_way = reader.read(slow)
        await until(slow.begun.is_set)
        waiting = [reader.read(tables_of), reader.read(tables_of)]
        with pytest.raises(StorageUnavailable) as refused:
            await reader.read(tables_of)
        slow.ends.set()
        return refused.value.trouble, await asyncio.gather(under_way, *waiting)

    assert reads(scenario) == (StorageTrouble.CROWDED, [1, 1, 1])


def test_a_look_up_that_takes_too_long_is_given_up(reads, monkeypatch):
    ran = []

    async def scenario(reader):
        slow = Slow()
        before = asyncio.create_task(reader.look_up(slow))
        await until(slow.begun.is_set)
        with monkeypatch.context() as hurried:
            hurried.setattr(reading, "LOOK_UP_S", 0.0)
            with pytest.raises(StorageUnavailable) as given_up:
                await reader.look_up(ran.append)
        slow.ends.set()
        return given_up.value.trouble, await before, await reader.look_up(tables_of)

    assert reads(scenario) == (StorageTrouble.SLOW, 1, 1)
    assert ran == [], "nobody waited for it any more"


def test_what_waits_at_the_end_is_told_so(reads):
    async def scenario(reader):
        slow = Slow()
        under_way = reader.read(slow)
        await until(slow.begun.is_set)
        waiting = reader.read(tables_of)
        stopping = asyncio.create_task(asyncio.to_thread(reader.stop))
        await until(lambda: reader._stopping)
        slow.ends.set()
        await stopping
        troubles = []
        for future in (waiting, reader.read(tables_of)):
            with pytest.raises(StorageUnavailable) as refused:
                await future
            troubles.append(refused.value.trouble)
        return await under_way, troubles

    assert reads(scenario) == (1, [StorageTrouble.STOPPED] * 2)


def test_a_query_that_never_ends_keeps_no_gateway_from_stopping(reads, monkeypatch, caplog):
    monkeypatch.setattr(reading, "STOP_S", 0.0)
    slow = Slow()

    async def scenario(reader):
        reader.read(slow)
        await until(slow.begun.is_set)
        reader.stop()
        slow.ends.set()

    reads(scenario)
    monkeypatch.setattr(reading, "STOP_S", WAIT_S_MAX)
    assert "still under way" in caplog.text


def test_a_loop_that_has_ended_harms_no_later_one(reads):
    slow = Slow()

    async def left(reader):
        reader.read(slow)
        await until(slow.begun.is_set)

    reads(left)
    slow.ends.set()

    async def scenario(reader):
        return await reader.read(tables_of)

    assert reads(scenario) == 1
