"""Durable debits per second through the engine's public API against a hand-written sqlite3 loop.

Two ways to a debit are measured: `charge` (no card: claim, release and decision in one durable answer) and a purse
passage (hold with intent, then the card's result, release, issuer's payment and decision: two durable answers). The
loop in `hand_written` asks what a person would have to ask, and writes the same rows to the same tables of an equal
database, with the same settings and as many debits in one transaction as callers wait at the engine. Both take turns
in small rounds, so that a disk or a neighbour that slows down in between slows down both; at the end their tables must
hold equally many rows, or the comparison is refused.

Memory is looked at in a process of its own, through `charge`, up to a million debits.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import sqlite3
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from drivers.clock import SystemClock
from gateway import garbage_collection
from gateway.debit.claims import (
    DecisionContext,
    HoldPlaced,
    HoldRequest,
    Identity,
    Payer,
    PurchasePlan,
    PurchaseResult,
    Sight,
)
from gateway.debit.engine import BroughtIn, DebitEngine, ProvenClaim
from gateway.ledger import engines, marks, schema
from gateway.ledger import file as ledger_file
from gateway.ledger.marks import MarkFile, MarkState
from gateway.ledger.reading import Reader
from gateway.ledger.writer import Committer, Writer
from gateway.model.clock import to_us
from gateway.model.passage import Abandoned, DeclinePolicy, Funding, PassageOutcome, PurchaseOutcome, Service
from hardware.bench.chain_key import KEYS
from hardware.bench.hand_written import HandWritten
from hardware.bench.ledgers import ID

CALLERS: Final = (1, 10, 50, 200)
DEBITS: Final = {1: 1_500, 10: 6_000, 50: 12_000, 200: 16_000}
"""Number of debits of each kind by callers: some seconds for either side."""
ROUNDS: Final = 6
"""Turns of either side."""
VEHICLES: Final = 4_000
"""Number of vehicles, each seen again and again: most of the time who owes is known."""
MEMORY_AFTER: Final = (100_000, 500_000, 1_000_000)
MEMORY_CALLERS: Final = 200
PROGRESS_EVERY: Final = 100_000
"""Debits between two lines of progress where nobody sits at a terminal."""
MEMORY_SECONDS_MAX: Final = 3_600
"""A run that hangs must end the bench; a million debits take some minutes."""
FARE_FEN: Final = 1425
DAY: Final = "20261123"
MERCHANT, ISSUER, LANE = "road", "issuer-9901", "lane-1"
BALANCE_FEN: Final = 50_000
PLAN: Final = PurchasePlan(FARE_FEN, "20261123100000", BALANCE_FEN, bytes(43), bytes(43))
POLICY: Final = DeclinePolicy.RELEASE_AS_DEBT
CONTEXT: Final = DecisionContext(LANE)
PURSE: Final = Payer(Funding.PURSE, ISSUER)
CLEARING: Final = Payer(Funding.ISSUER_CLEARING, ISSUER)

Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Kind:
    """One way to a debit, at the engine and by hand."""

    name: str
    ask: Callable[[DebitEngine, int, SystemClock], Awaitable[None]]
    by_hand: Callable[[HandWritten, range], None]


class Ours:
    """Engine under measurement: a ledger with its engine, and what its debits took."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._clock = SystemClock()
        self._held = ExitStack()
        self._writing = engines.open_new(path)
        schema.upgrade(self._writing)
        self._file = self._held.enter_context(ledger_file.held(path))
        mark = Path(f"{path}.mark")
        marks.write(mark, MarkState(ID, 1))
        self._committer = Committer(self._writing, self._clock, file=self._file, keys=KEYS, mark=MarkFile(mark, ID))
        self._reading = engines.open_reader(path)
        self._file.watch(self._writing, self._reading)
        self._writer = Writer(self._committer)
        self._reader = Reader(self._reading)
        self._engine = DebitEngine(self._writer, self._reader, {}, clock=self._clock, random=random.SystemRandom())
        self.waits: list[float] = []
        """Seconds each debit took."""

    def start(self) -> None:
        """Begin taking debits."""
        self._writer.start()
        self._reader.start()

    def stop(self) -> None:
        """Let go of the ledger."""
        self._reader.stop()
        self._writer.stop()
        self._file.let_go(self._writing, self._reading)
        self._held.close()

    async def round(self, kind: Kind, numbers: range, callers: int) -> None:
        """Ask for these debits with so many callers waiting at a time."""
        following = iter(numbers)

        async def caller() -> None:
            for number in following:
                begun = time.perf_counter()
                await kind.ask(self._engine, number, self._clock)
                self.waits.append(time.perf_counter() - begun)

        following_mark = asyncio.create_task(self._follow())
        await asyncio.gather(*(caller() for _ in range(callers)))
        following_mark.cancel()

    async def _follow(self) -> None:
        """Keep the mark following, as the gateway does beside its lanes."""
        while True:
            await self._clock.sleep(marks.FOLLOW_EVERY_S)
            await asyncio.to_thread(self._committer.follow)


def measure(folder: Path, *, share: float = 1.0) -> list[Row]:
    """One row for each kind of debit and number of waiting callers; `share` of the usual debits."""
    garbage_collection.collect_rarely()  # as the gateway does; the loop gains from it, too
    return [
        asyncio.run(_compare(folder, kind, callers, max(ROUNDS * callers, int(DEBITS[callers] * share))))
        for kind in KINDS
        for callers in CALLERS
    ]


async def _compare(folder: Path, kind: Kind, callers: int, debits: int) -> Row:
    name = f"{kind.name.replace(' ', '-')}-{callers}"
    ours = Ours(folder / f"{name}-engine.db")
    hand = HandWritten(folder / f"{name}-hand.db", fare_fen=FARE_FEN, vehicles=VEHICLES, day=DAY)

    async def by_engine(numbers: range) -> None:
        await ours.round(kind, numbers, callers)

    async def by_hand(numbers: range) -> None:
        for start in range(numbers.start, numbers.stop, callers):
            kind.by_hand(hand, range(start, start + callers))

    sides = [by_engine, by_hand]
    spent = dict.fromkeys(sides, 0.0)
    each = debits // ROUNDS // callers * callers
    ours.start()
    for turn in range(ROUNDS):
        for side in sides:
            begun = time.perf_counter()
            await side(range(turn * each, (turn + 1) * each))
            spent[side] += time.perf_counter() - begun
        sides.reverse()
    ours.stop()
    hand.close()
    _same_rows(ours.path, hand.path)
    ours.waits.sort()
    return {
        "kind": kind.name,
        "callers": callers,
        "debits_per_s": ROUNDS * each / spent[by_engine],
        "hand_written_per_s": ROUNDS * each / spent[by_hand],
        "ratio": spent[by_hand] / spent[by_engine],
        "p99_ms_of_a_debit": ours.waits[int(0.99 * len(ours.waits))] * 1000,
    }


def _same_rows(ours: Path, by_hand: Path) -> None:
    """Compare the rows of both: a loop that writes less would be quicker than it is."""
    found, expected = _counts(ours), _counts(by_hand)
    if found != expected:
        different = {name: (found.get(name), expected.get(name)) for name in found | expected}
        different = {name: pair for name, pair in different.items() if pair[0] != pair[1]}
        raise ValueError(f"engine and hand-written loop wrote different rows (table: ours, theirs): {different}")


def _counts(path: Path) -> dict[str, int]:
    with sqlite3.connect(path) as connection:
        names = [row[0] for row in connection.execute("select name from sqlite_schema where type = 'table'")]
        counts = {name: connection.execute(f"select count(*) from {name}").fetchone()[0] for name in names}  # noqa: S608
        # How many transactions the engine takes is the clock's affair; each ends with one such row.
        counts["journal"] -= connection.execute("select count(*) from journal where kind = 'rows'").fetchone()[0]
    connection.close()
    return {name: count for name, count in counts.items() if count}


# --- one debit ------------------------------------------------------------------------------------------------------


def _sight(engine: DebitEngine, number: int, clock: SystemClock) -> Sight:
    vehicle = number % VEHICLES
    return Sight(
        passage_id=engine.new_id(),
        charge_point=LANE,
        service=Service.TOLL,
        identity=Identity(vehicle.to_bytes(4), "0" * 32, f"{vehicle:020d}", f"测A{vehicle:05d}", 0, 1, 1),
        opened_at=to_us(clock.utcnow()),
        clock_quality="trusted",
        day=DAY,
    )


async def _charge(engine: DebitEngine, number: int, clock: SystemClock) -> None:
    request = HoldRequest(
        f"{number:064d}", _sight(engine, number, clock), MERCHANT, CLEARING, FARE_FEN, None, Abandoned.VOID
    )
    charged = await engine.charge(request, CONTEXT, POLICY, deadline=clock.monotonic() + 60)
    if not isinstance(charged, BroughtIn) or charged.decision.outcome is not PassageOutcome.PAID:
        raise TypeError(f"charge refused: {charged}")


async def _passage(engine: DebitEngine, number: int, clock: SystemClock) -> None:
    sight = _sight(engine, number, clock)
    placed = await engine.hold(
        HoldRequest(f"{number:064d}", sight, MERCHANT, PURSE, FARE_FEN, PLAN, Abandoned.VOID), timeout_s=60
    )
    if not isinstance(placed, HoldPlaced):
        raise TypeError(f"hold refused: {placed}")
    claim = ProvenClaim(
        placed.debit_id,
        PURSE,
        CONTEXT,
        POLICY,
        placed.purchase_id,
        _paid(number),
        sight.identity.card_number,
    )
    await engine.bring_in(claim, deadline=clock.monotonic() + 60)


def _paid(number: int) -> PurchaseResult:
    """Result of card and PSAM for the purchase of this number, each one further than the time before."""
    return PurchaseResult(
        PurchaseOutcome.TAKEN,
        error=0,
        terminal="019900000001",
        card_serial=number // VEHICLES,
        psam_serial=number,
        tac=bytes(4),
        tac_source="b5",
        algorithm=0,
        key_version=1,
        balance_after=BALANCE_FEN - FARE_FEN,
    )


KINDS: Final = (
    Kind("charge", _charge, HandWritten.charge),
    Kind("purse passage", _passage, HandWritten.passage),
)


# --- memory ---------------------------------------------------------------------------------------------------------


def measure_memory(folder: Path, debits: int = MEMORY_AFTER[-1]) -> list[Row]:
    """Resident memory of a process that has charged so many debits, one row a mark."""
    command = [sys.executable, "-m", __name__, str(folder / "memory.db"), str(debits)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:  # noqa: S603 - ourselves
        try:
            output, _ = process.communicate(timeout=MEMORY_SECONDS_MAX)
        except subprocess.TimeoutExpired:
            process.kill()
            raise
    if process.returncode:
        raise RuntimeError(f"the run of {debits} debits ended with status {process.returncode}")
    rows: list[Row] = json.loads(output)
    return rows


async def _charge_many(path: Path, debits: int) -> list[Row]:
    garbage_collection.collect_rarely()
    marks = [mark for mark in MEMORY_AFTER if mark < debits] + [debits]
    ours = Ours(path)
    ours.start()
    rows: list[Row] = []
    done, begun = 0, time.perf_counter()
    for mark in marks:
        while done < mark:
            until = min(done + 10_000, mark)
            await ours.round(KINDS[0], range(done, until), MEMORY_CALLERS)
            done = until
            ours.waits.clear()
            progress("memory", done, debits, time.perf_counter() - begun)
        rows.append(
            {
                "debits": done,
                "resident_mb": _resident_bytes() / 1e6,
                "ledger_mb": os.stat(path).st_size / 1e6,  # noqa: PTH116 - nobody else waits for this loop
                "seconds": time.perf_counter() - begun,
            }
        )
    ours.stop()
    return rows


def progress(what: str, done: int, debits: int, taken_s: float) -> None:
    """Show progress: on a terminal one line that goes on, else a line now and then."""
    on_terminal, end = sys.stderr.isatty(), done == debits
    if on_terminal or end or done % PROGRESS_EVERY == 0:
        line = f"{what}: {done} of {debits} debits, {taken_s:.0f} s"
        sys.stderr.write(f"\r{line}{chr(10) if end else ''}" if on_terminal else f"{line}\n")
        sys.stderr.flush()


def _resident_bytes() -> int:
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


if __name__ == "__main__":
    sys.stdout.write(json.dumps(asyncio.run(_charge_many(Path(sys.argv[1]), int(sys.argv[2])))))
