"""Durable debits per second through the engine's public API against a hand-written sqlite3 loop.

The loop writes the same rows to the same tables of an equal database, with the same settings and as many debits in
one transaction as callers wait at the engine. Each debit is the whole of a purse passage: hold with intent, then
result, release, issuer's payment and decision: two durable answers.
"""

from __future__ import annotations

import asyncio
import random
import sqlite3
import time
from pathlib import Path
from typing import Any

from drivers.clock import SystemClock
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
from gateway.debit.engine import Collection, DebitEngine, ProvenClaim
from gateway.ledger import database, schema
from gateway.ledger.writer import Committer, Writer
from gateway.model.clock import to_us
from gateway.model.passage import DeclinePolicy, Funding, PurchaseOutcome, Service

CALLERS = (1, 10, 50, 200)
DEBITS = 2_000
FARE_FEN = 1425
TAKEN = PurchaseResult(
    PurchaseOutcome.TAKEN,
    error=0,
    terminal="019900000001",
    card_serial=7,
    psam_serial=9,
    tac=bytes(4),
    tac_source="b5",
    algorithm=0,
    key_version=1,
    balance_after=1,
)


def measure(folder: Path) -> list[dict[str, Any]]:
    """One row for each number of waiting callers."""
    rows = []
    for callers in CALLERS:
        ours, waits = asyncio.run(_engine(folder / f"engine-{callers}.db", callers))
        by_hand = _by_hand(folder / f"hand-{callers}.db", callers)
        waits.sort()
        rows.append(
            {
                "callers": callers,
                "debits_per_s": ours,
                "hand_written_per_s": by_hand,
                "ratio": ours / by_hand,
                "p99_ms_of_a_debit": waits[int(0.99 * len(waits))] * 1000,
            }
        )
    return rows


async def _engine(path: Path, callers: int) -> tuple[float, list[float]]:
    """Debits per second, and the seconds each took."""
    clock = SystemClock()
    writing = database.open_writer(path)
    schema.upgrade(writing)
    reading = database.open_reader(path)
    writer = Writer(Committer(writing, lambda: to_us(clock.utcnow())))
    writer.start()
    engine = DebitEngine(writer, reading, {}, clock=clock, random=random.SystemRandom())
    waits: list[float] = []
    numbers = iter(range(DEBITS))

    async def caller() -> None:
        for number in numbers:
            begun = time.perf_counter()
            await _debit(engine, number, clock)
            waits.append(time.perf_counter() - begun)

    begun = time.perf_counter()
    await asyncio.gather(*(caller() for _ in range(callers)))
    taken = time.perf_counter() - begun
    writer.stop()
    writing.dispose()
    reading.dispose()
    return DEBITS / taken, waits


async def _debit(engine: DebitEngine, number: int, clock: SystemClock) -> None:
    sight = Sight(
        passage_id=engine.new_id(),
        charge_point="lane-1",
        service=Service.TOLL,
        identity=Identity(number.to_bytes(4), "0" * 32, f"{number:020d}", f"测A{number:05d}", 0, 1, 1),
        opened_at=to_us(clock.utcnow()),
        clock_quality="trusted",
    )
    plan = PurchasePlan(FARE_FEN, "20261123100000", 50_000, bytes(43), bytes(43))
    payer = Payer(Funding.PURSE, "issuer-9901")
    placed = await engine.hold(HoldRequest(f"{number:064d}", sight, "road", payer, FARE_FEN, plan), timeout_s=60)
    if not isinstance(placed, HoldPlaced):
        raise TypeError(f"hold refused: {placed}")
    claim = ProvenClaim(
        placed.debit_id,
        FARE_FEN,
        payer,
        DecisionContext("lane-1"),
        Collection(DeclinePolicy.RELEASE_AS_DEBT, {}),
        placed.purchase_id,
        TAKEN,
        f"{number:020d}",
    )
    await engine.bring_in(claim, deadline=clock.monotonic() + 60)


def _by_hand(path: Path, group: int) -> float:
    """Debits per second of the loop a person would write for exactly these rows."""
    writing = database.open_writer(path)
    schema.upgrade(writing)
    writing.dispose()
    connection = sqlite3.connect(path, isolation_level=None)
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON"):
        connection.execute(f"PRAGMA {pragma}")
    connection.execute("insert into account values (1, 'merchant', 'road', 0, 0, 0), (2, 'issuer', 'i', 0, 0, 0)")
    begun = time.perf_counter()
    for start in range(0, DEBITS, group):
        numbers = range(start, min(start + group, DEBITS))
        connection.execute("BEGIN IMMEDIATE")
        for number in numbers:
            _hold_by_hand(connection, number)
        connection.execute("COMMIT")
        connection.execute("BEGIN IMMEDIATE")
        for number in numbers:
            _decide_by_hand(connection, number)
        moved = FARE_FEN * len(numbers)
        connection.execute("update account set balance = balance + ?, version = version + 1 where id = 1", (moved,))
        connection.execute("update account set balance = balance - ?, version = version + 1 where id = 2", (moved,))
        connection.execute("COMMIT")
    taken = time.perf_counter() - begun
    connection.close()
    return DEBITS / taken


def _hold_by_hand(connection: sqlite3.Connection, number: int) -> None:
    key, now = f"{number:032d}", 1_700_000_000_000_000
    run = connection.execute
    run("select 1 from debit where idempotency_key = ?", (key,)).fetchone()
    run("insert into obligor values (?, null, ?)", (key, key))
    run("insert into account values (?, 'open', ?, 0, ?, 1)", (number + 10, key, FARE_FEN))
    run(
        "insert into subject (id, obu_id, contract, card_number, plate, plate_colour) values (?, ?, ?, ?, ?, 0)",
        (key, f"{number:08x}", key, f"{number:020d}", f"测A{number:05d}"),
    )
    run("insert into passage values (?, 'lane-1', 'toll', ?, 1, 1, ?, 'trusted')", (key, key, now))
    run(
        "insert into debit (id, idempotency_key, content_hash, passage_id, obligor_id, merchant, funding, payer,"
        " amount, state, hold_id, created_at, changed_at)"
        " values (?, ?, ?, ?, ?, 'road', 'purse', 'i', ?, 'held', ?, ?, ?)",
        (key, key, key * 2, key, key, FARE_FEN, 3 * number + 1, now, now),
    )
    run(
        "insert into transfer values (?, 'pending', 'hold', ?, null, ?, 1, ?, null, ?, ?)",
        (3 * number + 1, key, number + 10, FARE_FEN, now, now),
    )
    run(
        "insert into purchase (id, passage_id, debit_id, attempt_no, state, written_fen, purchase_time, balance_before,"
        " created_at, changed_at) values (?, ?, ?, 1, 'intent', ?, '20261123100000', 50000, ?, ?)",
        (key, key, key, FARE_FEN, now, now),
    )
    run("insert into purchase_file values (?, ?, ?)", (key, bytes(43), bytes(43)))


def _decide_by_hand(connection: sqlite3.Connection, number: int) -> None:
    key, now = f"{number:032d}", 1_700_000_000_000_000
    run = connection.execute
    run(
        "update purchase set state = 'taken', error = 0, terminal = '019900000001', card_serial = 7, psam_serial = 9,"
        " tac = '00000000', tac_source = 'b5', algorithm = 0, key_version = 1, balance_after = 1, changed_at = ?"
        " where id = ? and state in ('intent', 'unknown')",
        (now, key),
    )
    run("insert into card_serial values (?, 7)", (f"{number:020d}",))
    run("select * from debit where id = ?", (key,)).fetchone()
    run(
        "insert into transfer values (?, 'post', 'released', ?, null, ?, 1, ?, ?, ?, ?)",
        (3 * number + 2, key, number + 10, FARE_FEN, 3 * number + 1, now, now),
    )
    run(
        "insert into transfer values (?, 'direct', 'purse_paid', ?, null, 2, ?, ?, null, ?, ?)",
        (3 * number + 3, key, number + 10, FARE_FEN, now, now),
    )
    run("update account set held = 0, version = 2 where id = ?", (number + 10,))
    run("update debit set state = 'funded', changed_at = ? where id = ?", (now, key))
    run(
        "insert into decision values"
        " (?, ?, ?, 'lane-1', 'open', 'paid', null, null, 'purse', ?, 0, ?, null, null, null)",
        (number + 1, key, key, FARE_FEN, now),
    )
