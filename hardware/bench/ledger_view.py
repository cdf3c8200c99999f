"""View of the gateway's database by the bench alone: plain sqlite3, read only, no code shared with the gateway."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

BUSY_MS = 60_000
"""Longest wait: only a start after a crash or an end keeps readers out, and not for long."""


@dataclass(frozen=True, slots=True)
class DecisionRow:
    """One decision about one tag, with its timings where they are stored already. Microseconds."""

    record_no: int
    passage_id: str
    obu_id: str
    charge_point: str
    outcome: str
    release: str
    reason: str | None
    amount: int
    funding: str | None
    recovered: bool
    total_us: int | None
    radio_us: int | None
    bank_us: int | None
    commit_us: int | None

    @property
    def own_us(self) -> int | None:
        """Own share of the time: all but radio and bank."""
        if self.total_us is None or self.radio_us is None or self.bank_us is None:
            return None
        return self.total_us - self.radio_us - self.bank_us


@dataclass(frozen=True, slots=True)
class DebitRow:
    """One claim."""

    debit_id: str
    obu_id: str | None
    """None where nobody knew a tag."""
    state: str
    funding: str
    amount: int


_DECISIONS = """
    select e.record_no, e.passage_id, s.obu_id, e.charge_point, e.outcome, e.release, e.reason, e.amount, e.funding,
           e.recovered <> 0, t.total_us, t.radio_us, t.bank_us, t.commit_us
    from decision e join passage p on p.id = e.passage_id join subject s on s.id = p.id
    left join timing t on t.record_no = e.record_no
    where e.record_no > ? order by e.record_no
"""

_DEBITS = """
    select d.id, s.obu_id, d.state, d.funding, d.amount
    from debit d join passage p on p.id = d.passage_id join subject s on s.id = p.id order by d.id
"""


def texts(row: Iterable[Any]) -> tuple[Any, ...]:
    """Row with hex digits for the bytes of ids and digests."""
    return tuple(value.hex() if isinstance(value, bytes) and len(value) in (16, 32) else value for value in row)


class LedgerView:
    """Opens the file anew for each look, as any other program would."""

    def __init__(self, path: Path) -> None:
        self._path = path

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        connection = sqlite3.connect(f"file:{self._path}?mode=ro", uri=True, timeout=BUSY_MS / 1000)
        connection.row_factory = lambda _, row: texts(row)
        try:
            yield connection
        finally:
            connection.close()

    def decisions(self, after: int = 0) -> list[DecisionRow]:
        """Decisions with a record number above `after`, in order."""
        with self._open() as connection:
            rows = connection.execute(_DECISIONS, (after,)).fetchall()
        return [DecisionRow(*row) for row in rows]

    def debits(self) -> list[DebitRow]:
        """Every claim."""
        with self._open() as connection:
            return [DebitRow(*row) for row in connection.execute(_DEBITS)]

    def balances(self) -> dict[tuple[str, str], int]:
        """Posted fen by kind and owner of account."""
        with self._open() as connection:
            rows = connection.execute("select kind, owner, balance from account").fetchall()
        return {(kind, owner): balance for kind, owner, balance in rows}

    def waiting(self) -> int:
        """Messages in the outbox."""
        with self._open() as connection:
            return int(connection.execute("select count(*) from outbox where done_at is null").fetchone()[0])

    def release_of(self, obu_id: str) -> str | None:
        """Release of the newest decision about a tag: go, stop or attendant; None when there is none."""
        found = self.value(
            "select e.release from decision e join passage p on p.id = e.passage_id"
            " join subject s on s.id = p.id where s.obu_id = ? order by e.record_no desc limit 1",
            obu_id,
        )
        return None if found is None else str(found)

    def rows(self, sql: str) -> list[tuple[str, str]]:
        """Rows of a query of the bench's own, with two columns of text."""
        with self._open() as connection:
            return [(str(first), str(second)) for first, second in connection.execute(sql)]

    def table(self, sql: str, *arguments: object) -> list[tuple[Any, ...]]:
        """Rows of a query of the bench's own."""
        with self._open() as connection:
            return connection.execute(sql, arguments).fetchall()

    def value(self, sql: str, *arguments: object) -> object:
        """The first column of the first row of a query of the bench's own."""
        with self._open() as connection:
            row = connection.execute(sql, arguments).fetchone()
        return None if row is None else row[0]
