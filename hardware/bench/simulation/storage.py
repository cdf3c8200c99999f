"""The ledger of a simulated site: its file, its faults, and a watcher that sees every row a commit has changed.

The watcher is a set of temporary triggers on the writer's own connection, so it sees what the database was told and
shares no code with the gateway; a transaction that is rolled back takes its notes with it.

Files stand in memory (`/dev/shm`) where there is such a place, and SQLite does not flush them: a simulated crash drops
a process, never the buffers of the operating system, so durability here begins with the commit.
"""

from __future__ import annotations

import asyncio
import random
import shutil
import sqlite3
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from enum import Enum
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy import Engine, event
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.pool import ConnectionPoolEntry

from gateway.ledger import engines
from gateway.ledger import file as ledger_file
from gateway.ledger.batches import Answer, Batches, Committer, Job, WriterState
from gateway.ledger.engines import StorageTrouble
from gateway.ledger.hex_text import from_stored
from gateway.ledger.marks import MemoryMark
from gateway.ledger.reading import LedgerReader, Query, tell
from gateway.ledger.transaction import Change
from gateway.model.clock import Clock, to_us
from hardware.bench.chain_key import KEYS
from hardware.bench.simulation.site import Template
from hardware.bench.simulation.trace import Trace

SHARED_MEMORY = Path("/dev/shm")  # noqa: S108 - the system's own file system in memory

COMMIT_S = (0.001, 0.02)
"""Time from taking a group of changes to its commit."""
SLOW_COMMIT_S = (0.1, 1.5)
SLOW_SHARE = 0.01
"""Share of slow commits: a disk that is busy with something else."""
ANSWER_S = (0.0, 0.001)
"""Time from the commit to its answers."""
LOOK_AGAIN_S = 1.0
"""Time between two looks of an idle writer at its file and, after trouble, at the storage."""

QUERY_S = (0.0, 0.003)
"""From a query to its reading, and from that to its answer."""
SLOW_QUERY_S = (0.05, 1.0)
"""The same of a slow one, as many as there are slow commits."""

T = TypeVar("T")

_WATCHED = {
    # table: (id column, columns told at the insert, columns whose change is told)
    "debit": (
        "id",
        "state, obligor_id, mandate_id, funding, payer, amount, hold_id, passage_id, collected, refunded, service",
        ("state", "hold_id", "amount", "collected", "refunded"),
    ),
    "attempt": (
        "id",
        "state, debit_id, kind, channel, reference, amount, late_approval, created_at, response_code",
        ("state", "late_approval", "response_code"),
    ),
    "purchase": (
        "id",
        "state, debit_id, attempt_no, written_fen, purchase_time,"
        " (select s.card_number from debit d join subject s on s.id = d.passage_id where d.id = new.debit_id)",
        ("state", "terminal", "psam_serial", "card_serial", "tac"),
    ),
    "card_serial": ("card_number", "serial", ("serial",)),
    "decision": ("record_no", "charge_point, release, outcome, debit_id, passage_id, reason, amount", ()),
    "transfer": ("id", "phase, event, debit_id, attempt_id, from_account, to_account, amount, pending_id", ()),
    "outbox": ("id", "kind, attempt_id, destination, done_at", ("done_at",)),
    "item": ("id", "kind, debit_id, state, ref", ("state",)),
    "account": ("id", "kind, owner, balance, held", ("balance", "held")),
    "sale": (
        "id",
        "state, debit_id, side, nozzle, limit_fen, volume_before, volume_after, volume, amount, reason",
        ("state", "volume_after", "volume", "amount", "reason"),
    ),
}
"""Columns of each table that are watched. `new.` is put before plain column names."""

IMMUTABLE = ("transfer", "decision")
KEPT = ("journal",)
"""Tables of rows that are never changed nor deleted, and of no further interest."""


def _columns(names: str) -> str:
    plain = [part.strip() for part in names.split(", ") if not part.lstrip().startswith("(")]
    rest = names[names.index("(") :] if "(" in names else ""
    return ", ".join([*(f"new.{name}" for name in plain), *([rest] if rest else [])])


def _watching() -> Iterator[str]:
    yield "CREATE TEMP TABLE seen (at INTEGER PRIMARY KEY, what TEXT, id, a, b, c, d, e, f, g, h, i, j, k)"
    letters = "abcdefghijk"
    for table, (key, inserted, changed) in _WATCHED.items():
        values = _columns(inserted)
        count = len([part for part in inserted.split("(")[0].split(", ") if part.strip()]) + ("(" in inserted)
        named = ", ".join(letters[:count])
        yield (
            f"CREATE TEMP TRIGGER new_{table} AFTER INSERT ON main.{table} BEGIN"  # noqa: S608 - constant text
            f" INSERT INTO seen (what, id, {named}) VALUES ('+{table}', new.{key}, {values}); END"
        )
        if changed:
            different = " OR ".join(f"old.{name} IS NOT new.{name}" for name in changed)
            news = ", ".join(f"new.{name}" for name in changed)
            yield (
                f"CREATE TEMP TRIGGER changed_{table} AFTER UPDATE ON main.{table} WHEN {different} BEGIN"  # noqa: S608
                f" INSERT INTO seen (what, id, {', '.join(letters[: len(changed)])})"
                f" VALUES ('~{table}', new.{key}, {news}); END"
            )
        yield (
            f"CREATE TEMP TRIGGER gone_{table} AFTER DELETE ON main.{table} BEGIN"  # noqa: S608 - constant text
            f" INSERT INTO seen (what, id) VALUES ('-{table}', old.{key}); END"
        )
    for table in (*IMMUTABLE, *KEPT):
        yield (
            f"CREATE TEMP TRIGGER touched_{table} AFTER UPDATE ON main.{table} BEGIN"  # noqa: S608 - constant text
            f" INSERT INTO seen (what, id) VALUES ('!{table}', old.rowid); END"
        )
    for table in KEPT:
        yield (
            f"CREATE TEMP TRIGGER gone_{table} AFTER DELETE ON main.{table} BEGIN"  # noqa: S608 - constant text
            f" INSERT INTO seen (what, id) VALUES ('-{table}', old.rowid); END"
        )


def _watched(connection: sqlite3.Connection, _record: ConnectionPoolEntry) -> None:
    connection.execute("PRAGMA synchronous=OFF")
    connection.execute("PRAGMA temp_store=MEMORY")
    for statement in _watching():
        connection.execute(statement)


class Loss(Enum):
    """Loss of a file under the running gateway, by disk or person; the value is what follows the ledger's path."""

    FILE_GONE = ""
    FILE_REPLACED = " "
    LOG_GONE = "-wal"
    INDEX_GONE = "-shm"


LOSS_PLACES = ("between two commits", "before the commit", "after the commit")


class Crash(BaseException):
    """The gateway's process ends here. No `Exception`: nothing in the gateway may catch it."""


@contextmanager
def folder() -> Iterator[Path]:
    """A folder for one run, in memory where possible; gone afterwards."""
    base = SHARED_MEMORY if SHARED_MEMORY.is_dir() else None
    with tempfile.TemporaryDirectory(prefix="etc-simulation-", dir=base) as path:
        yield Path(path)


class Storage:
    """One ledger file over all lives of its gateway. `watch` gets the rows of every commit."""

    def __init__(
        self,
        template: Template,
        path: Path,
        chance: random.Random,
        trace: Trace,
        watch: Callable[[list[Any]], None],
        *,
        salts: random.Random,
    ) -> None:
        self.path = path
        self.mark = MemoryMark(template.mark, first=template.mark.first)
        """Mark on another disk: it survives whatever becomes of the file. All terminals begin with the same trace
        number, so that each has namesakes."""
        self.chance = chance
        self.salts = salts
        """Source of the salts of its rows."""
        self.trace = trace
        self.commits = 0
        self.trouble: StorageTrouble | None = None
        """Trouble that every commit meets now."""
        self.crash_at: tuple[int, str] | None = None
        """Number of a commit and the place at which the process ends."""
        self.loss_due: tuple[Loss, str, Callable[[], None]] | None = None
        """Loss that is due at the next commit: at which place of it, and who is told."""
        self.away: Loss | None = None
        """Loss that has happened to the file, until somebody has put it right."""
        self.file: ledger_file.LedgerFile
        self._held = ExitStack()
        self._watch = watch
        self._template = template.ledger
        shutil.copyfile(template.ledger, path)

    def open(self) -> tuple[Engine, Engine]:
        """Writer and reader of one life, which has the ledger for itself."""
        self.file = self._held.enter_context(ledger_file.held(self.path))
        writer, reader = engines.open_writer(self.path), engines.open_reader(self.path)
        event.listen(writer, "connect", _watched)
        self.file.watch(writer, reader)
        return writer, reader

    def close(self, writer: Engine, reader: Engine, *, orderly: bool = False) -> None:
        """End a life. Without order all that is in the log stays there."""
        if orderly:
            self.file.let_go(writer, reader)
        writer.dispose()
        reader.dispose()
        self._held.close()

    # --- the file under the running gateway -----------------------------------------------------------------------

    def meet_loss(self, place: str) -> None:
        """Take the file away, if it is to go at this place."""
        if self.loss_due is None or self.loss_due[1] != place:
            return
        (self.away, _, told), self.loss_due = self.loss_due, None
        self._part().rename(self._aside())
        if self.away is Loss.FILE_REPLACED:
            shutil.copyfile(self._template, self.path)
        told()

    def put_back(self) -> None:
        """Put the very same files at their places again, and throw away what was rescued of them."""
        self._aside().replace(self._part())
        self.away = None
        for end in ("-wal", "-shm"):
            for put_aside in self._beside(f".lost-*{end}"):
                put_aside.rename(f"{self.path}{end}")
        for copy in self._beside(".rescued-*"):
            copy.unlink()

    def put_rescued(self) -> bool:
        """Put what was rescued in the place of what was lost; False where the gateway has left nothing to put back."""
        self._aside().unlink()
        self.away = None
        copies = self._beside(".rescued-*")
        if copies:
            for left in (*self._beside(".lost-*"), *(Path(f"{self.path}{end}") for end in ("-wal", "-shm"))):
                left.unlink(missing_ok=True)
            copies.pop().replace(self.path)
        for older in copies:
            older.unlink()
        return self.path.exists()

    def rows(self, table: str) -> int:
        """Number of rows in the file as it stands."""
        connection = sqlite3.connect(f"file:{self.path}?mode=ro", uri=True)
        try:
            return int(connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0])  # noqa: S608 - our own names
        finally:
            connection.close()

    def _part(self) -> Path:
        return Path(f"{self.path}{'' if self.away is None else self.away.value.strip()}")

    def _aside(self) -> Path:
        return self.path.with_name("aside")

    def _beside(self, pattern: str) -> list[Path]:
        return sorted(self.path.parent.glob(f"{self.path.name}{pattern}"))

    def committed(self, engine: Engine) -> None:
        """Tell the watcher what the commit that has just ended changed."""
        connection = engine.raw_connection()
        try:
            rows = connection.driver_connection.execute("SELECT * FROM seen ORDER BY at").fetchall()  # type: ignore[union-attr]
            connection.driver_connection.execute("DELETE FROM seen")  # type: ignore[union-attr]
        finally:
            connection.close()
        self._watch([tuple(map(from_stored, row)) for row in rows])


def _refused(trouble: StorageTrouble) -> DBAPIError:
    """Error that the driver raises, with SQLite's own code."""
    codes = {StorageTrouble.BUSY: sqlite3.SQLITE_BUSY, StorageTrouble.FULL: sqlite3.SQLITE_FULL}
    cause = sqlite3.OperationalError(trouble.value)
    cause.sqlite_errorcode = codes.get(trouble, sqlite3.SQLITE_IOERR)
    return DBAPIError("commit", {}, cause)


class SimCommitter(Committer):
    """Commits for real, unless the storage or the process is to fail at this one."""

    def __init__(self, engine: Engine, clock: Clock, storage: Storage) -> None:
        super().__init__(engine, clock, file=storage.file, keys=KEYS, mark=storage.mark, random=storage.salts)
        self._storage = storage

    def commit(self, changes: list[Change[Any]]) -> list[Any]:
        """Commit as `Committer.commit` does. Raises DBAPIError for trouble, Crash where the process is to end."""
        storage = self._storage
        storage.commits += 1
        storage.meet_loss("before the commit")
        place = storage.crash_at[1] if storage.crash_at is not None and storage.commits >= storage.crash_at[0] else None
        if storage.trouble is not None or place == "before the commit":
            self._undo(changes)
        results = super().commit(changes)
        storage.meet_loss("after the commit")
        storage.trace.add("ledger", f"commit {storage.commits} of {len(changes)}")
        storage.committed(self._engine)
        if place == "before the answer":
            raise Crash(place)
        return results

    def keep_reserve(self) -> bool:
        """True unless the disk is said to be full."""
        return self._storage.trouble is not StorageTrouble.FULL

    def _undo(self, changes: list[Change[Any]]) -> None:
        """Run the changes and fail at the commit: whatever they did is rolled back."""
        trouble = self._storage.trouble
        now_us = to_us(self._clock.utcnow())
        with self._engine.begin() as connection, closing(self.transaction(connection, now_us)) as transaction:
            for change in changes:
                change(transaction)
            transaction.finish()
            raise Crash("before the commit") if trouble is None else _refused(trouble)


class SimReader(LedgerReader):
    """Answers queries by timers: what they found may be out of date by then."""

    def __init__(self, engine: Engine, chance: random.Random) -> None:
        self._loop = asyncio.get_running_loop()
        self._engine = engine
        self._chance = chance
        self.dead = False

    def _hand_in(self, query: Query[T], *, urgent: bool) -> asyncio.Future[T]:
        del urgent
        future: asyncio.Future[T] = self._loop.create_future()
        self._loop.call_later(self._delay_s(), self._step, query, future)
        return future

    def _step(self, query: Query[T], future: asyncio.Future[T]) -> None:
        if self.dead or future.done():
            return
        result: Any = None
        error: Exception | None = None
        try:
            with self._engine.connect() as connection:
                result = query(connection)
        except SQLAlchemyError as failed:
            error = failed
        self._loop.call_later(self._delay_s(), self._answer, future, result, error)

    def _answer(self, future: asyncio.Future[T], result: T, error: Exception | None) -> None:
        if not self.dead:
            tell(future, result, error)

    def _delay_s(self) -> float:
        slow = self._chance.random() < SLOW_SHARE
        return self._chance.uniform(*(SLOW_QUERY_S if slow else QUERY_S))


class SimWriter:
    """Writer whose batches are driven by timers. `on_crash` is called where the process ends, and nothing after it;
    `on_answers` with what callers are about to be told."""

    def __init__(
        self,
        batches: Batches,
        storage: Storage,
        on_crash: Callable[[str], None],
        on_answers: Callable[[list[Answer]], None],
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._batches = batches
        self._storage = storage
        self._on_crash = on_crash
        self._on_answers = on_answers
        self._looking = False
        self._waiting: list[Job] = []
        self._busy = False
        self.dead = False
        batches.start()

    @property
    def state(self) -> WriterState:
        """State of the writer: what it can do now."""
        return self._batches.state

    @property
    def selling_allowed(self) -> bool:
        """True while a new hold can be expected to become durable at once."""
        return self._batches.state is WriterState.WRITING

    def submit(self, change: Change[T], *, essential: bool = False, patient: bool = False) -> asyncio.Future[T]:
        """Hand a change in; in a dead process nothing comes of it. Nobody is so patient that it would show here."""
        del patient
        future: asyncio.Future[T] = self._loop.create_future()
        if not self.dead:
            self._waiting.append(Job(change, essential, future))
            self._wake(0.0)
        return future

    def stop(self) -> None:
        """Mark the process as ended."""
        self.dead = True

    def end(self) -> None:
        """End the writer in order; nobody listens any more."""
        self.dead = True
        self._batches.stop()

    def _wake(self, pause_s: float) -> None:
        if self._busy or self.dead:
            return
        self._busy = True
        chance = self._storage.chance
        slow = chance.random() < SLOW_SHARE
        taken, self._waiting = self._waiting, []
        self._loop.call_later(pause_s + chance.uniform(*(SLOW_COMMIT_S if slow else COMMIT_S)), self._step, taken)

    def _step(self, jobs: list[Job]) -> None:
        if self.dead:
            return
        try:
            result = self._batches.step(jobs)
        except Crash as crash:
            self._on_crash(str(crash))
            return
        chance = self._storage.chance
        self._on_answers(result.answers)
        self._loop.call_later(chance.uniform(*ANSWER_S), self._answer, result.answers)
        self._busy = False
        if result.kept or self._waiting:
            self._wake(result.pause_s)
        elif not self._looking:
            self._looking = True
            self._loop.call_later(LOOK_AGAIN_S, self._look)

    def _look(self) -> None:
        self._looking = False
        self._wake(0.0)

    def _answer(self, answers: list[Answer]) -> None:
        if self.dead:
            return
        for answer in answers:
            future: asyncio.Future[Any] = answer.job.caller
            if future.done():
                continue
            if answer.error is None:
                future.set_result(answer.result)
            else:
                future.set_exception(answer.error)
                # Whoever asked may have stopped waiting; then nobody fetches it, and asyncio must not complain.
                future.exception()
        crash_at = self._storage.crash_at
        if crash_at is not None and self._storage.commits >= crash_at[0] and crash_at[1] == "after the answer":
            self._loop.call_later(self._storage.chance.uniform(0.0, 0.005), self._on_crash, crash_at[1])
