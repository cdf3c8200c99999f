"""A ledger file, a writer on it whose commits a test can watch and hold up, and places that run full."""

import asyncio
import contextlib
import os
import random
import subprocess
import threading
import time

import pytest
from sqlalchemy import event, text

from gateway.ledger import engines
from gateway.ledger.transaction import Transaction
from gateway.ledger.writer import Committer, Writer
from hardware.bench.chain_key import KEYS
from hardware.bench.clocks import StillClock
from hardware.bench.ledger_view import texts
from tests.gateway.ledger.empty import open_empty

WAIT_S_MAX = 300.0
"""Longest wait for something another thread does; only a hanging writer reaches it."""


class WatchedCommitter(Committer):
    """Counts its batches. `gate` holds up every commit while it is cleared."""

    def __init__(self, engine, reserve=None):
        super().__init__(engine, StillClock(1_700_000_000_000_000), reserve, keys=KEYS)
        self.batches = []
        self.gate = threading.Event()
        self.gate.set()
        self.entered = threading.Event()

    def commit(self, changes):
        self.entered.set()
        assert self.gate.wait(WAIT_S_MAX)
        results = super().commit(changes)
        self.batches.append(len(changes))
        return results


class Desk:
    """One ledger file with its writer; `states` are those the writer went through."""

    def __init__(self, path, reserve=None, committer=WatchedCommitter):
        self.path = path
        self.engine = open_empty(path)
        self.committer = committer(self.engine, reserve)
        self.states = []
        self.writer = Writer(self.committer, self.states.append)

    def rows(self, sql):
        """Read over a connection of its own, as another process would."""
        reader = engines.open_reader(self.path)
        try:
            with reader.connect() as connection:
                return [texts(row) for row in connection.execute(text(sql))]
        finally:
            reader.dispose()

    def run(self, scenario):
        """Start the writer, run the scenario inside a loop, stop the writer."""

        async def inside():
            self.writer.start()
            try:
                async with asyncio.timeout(WAIT_S_MAX):
                    return await scenario(self)
            finally:
                await asyncio.to_thread(self.close)

        return asyncio.run(inside())

    def close(self):
        self.committer.gate.set()
        if self.writer._thread.is_alive():
            self.writer.stop()
        self.engine.dispose()


async def until(condition):
    """Let the loop turn until the writer's thread has made it true."""
    ends = time.monotonic() + WAIT_S_MAX
    while not condition():
        assert time.monotonic() < ends, "the writer did not get there"
        await asyncio.sleep(0.005)


@pytest.fixture
def desk(tmp_path):
    desk = Desk(tmp_path / "ledger.db")
    yield desk
    desk.engine.dispose()


class PageLimit:
    """A disk that is full by SQLite's own limit on its file: works without any right on the machine."""

    RESERVE_PAGES = 40

    def __init__(self, path):
        self.path = path
        self.reserve = None
        self.limit = None

    def attach(self, desk):
        self.desk = desk
        limit_of = self

        class Limited(type(desk.committer)):
            """Its reserve is a number of pages above the limit."""

            def keep_reserve(self):
                if limit_of.limit is None:
                    limit_of.released = False
                return not limit_of.released

            def release_reserve(self):
                limit_of.released = True
                limit_of.apply()

        self.released = False
        desk.committer.__class__ = Limited
        event.listen(desk.engine, "begin", self._begin)

    def _begin(self, connection):
        allowed = 1 << 30 if self.limit is None else self.limit + (self.RESERVE_PAGES if self.released else 0)
        connection.exec_driver_sql(f"PRAGMA max_page_count={allowed}")

    def apply(self):
        """Takes effect with the next transaction."""

    def fill(self):
        self.limit = self.desk.rows("pragma page_count")[0][0]

    def free(self):
        self.limit = None

    def close(self):
        pass


class SmallDisk:
    """A real file system of a few megabytes."""

    def __init__(self, folder):
        self.folder = folder
        folder.mkdir()
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(folder)], check=True, capture_output=True)
        self.path = folder / "ledger.db"
        self.reserve = folder / "ledger.db.reserve"
        self.ballast = folder / "ballast"

    def attach(self, desk):
        pass

    def fill(self):
        with self.ballast.open("ab", buffering=0) as file, contextlib.suppress(OSError):
            for size in (65_536, 4_096, 512):
                with contextlib.suppress(OSError):
                    while True:
                        if file.write(b"x" * size) < size:
                            break

    def free(self):
        self.ballast.unlink()

    def close(self):
        subprocess.run(["umount", "--lazy", str(self.folder)], check=True)


@pytest.fixture(params=["small disk", "page limit"])
def full_disk(request, tmp_path, monkeypatch):
    """Both ways for a disk to be full; the page limit also where mounting is not permitted."""
    monkeypatch.setattr("gateway.ledger.batches.RESERVE_BYTES", 1 << 20)
    monkeypatch.setattr("gateway.ledger.batches.FREE_MIN_BYTES", 1 << 20)
    if request.param == "page limit":
        disk = PageLimit(tmp_path / "ledger.db")
    else:
        if os.geteuid() != 0:
            pytest.skip("mounting needs root; the page limit variant covers the rule")
        try:
            disk = SmallDisk(tmp_path / "disk")
        except (OSError, subprocess.CalledProcessError) as error:
            pytest.skip(f"mounting is not permitted here ({error}); the page limit variant covers the rule")
    desk = Desk(disk.path, disk.reserve)
    disk.attach(desk)
    yield disk, desk
    desk.engine.dispose()
    disk.close()


@pytest.fixture
def engine(tmp_path):
    engine = open_empty(tmp_path / "ledger.db")
    yield engine
    engine.dispose()


@pytest.fixture
def tx(engine):
    with engine.begin() as connection:
        yield Transaction(connection, 7, KEYS, random.Random(7))
