"""A day end that also settles what the banks' files say of attempts in doubt.

A first run finds them; the bank's word is then put on each, as a person's would be (`gateway.debit.late`), and a second
run clears what has become clear. Messages that follow for a bank are queued by the gateway.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import date
from functools import partial
from typing import Final

from sqlalchemy import Connection, Engine, select

from gateway.clearing import lost
from gateway.clearing.day import Commit, DayResult, run_day
from gateway.clearing.terms import Terms
from gateway.clearing.witnesses import IDS_PER_QUERY, pages
from gateway.debit.late import LateEffect, resolve_attempt
from gateway.ledger import tables
from gateway.ledger.pace import Pace
from gateway.ledger.transaction import Change
from gateway.model.clearing import DayFileWord, Finding

ACTOR: Final = "day file"
"""Actor of the banks' word, in the journal."""

DIGEST_CHARS: Final = 16
"""Digits of a file's SHA-256: enough to find it by."""


@dataclass(slots=True)
class DayEnd:
    """A day as its last run left it, and what the banks' word did before."""

    result: DayResult
    told: list[Finding] = field(default_factory=list)
    """Findings of the files on attempts in doubt, in the order in which they were put on them."""
    effects: Counter[LateEffect] = field(default_factory=Counter)
    proved_open: list[str] = field(default_factory=list)
    """Claims and refunds that had ended in no lost part of the ledger: the bank is asked for them again."""

    @property
    def changed(self) -> bool:
        """True when anything was written besides that the day was run."""
        return self.result.changed or self.settled > 0 or bool(self.proved_open)

    @property
    def settled(self) -> int:
        """Attempts on which the word changed anything."""
        return self.effects.total() - self.effects[LateEffect.IGNORED]


def run_and_settle(
    day: str,
    reader: Engine,
    commit: Commit,
    terms: Terms,
    *,
    today: date,
    tell: Callable[[str], None] = lambda _: None,
    pace: Pace | None = None,
) -> DayEnd:
    """Clear one day as `run_day` does, with the banks' word on what was in doubt."""
    pace = pace or Pace()
    first = run_day(day, reader, commit, terms, today=today, tell=tell, pace=pace)
    end = _tell_findings(first, reader, commit, terms, today=today, tell=tell, pace=pace)
    with reader.connect() as connection:
        end.proved_open = lost.proved_open(connection, terms)
    for page in pace.slices(end.proved_open):
        commit(partial(lost.take_off, refs=page, actor=ACTOR))
    return end


def _tell_findings(
    first: DayResult,
    reader: Engine,
    commit: Commit,
    terms: Terms,
    *,
    today: date,
    tell: Callable[[str], None],
    pace: Pace,
) -> DayEnd:
    """Put the banks' word on what was in doubt, and clear what has become clear."""
    day = first.day
    if not first.findings:
        return DayEnd(first)
    with reader.connect() as connection:
        sources = _sources(connection, day, {finding.attempt_id for finding in first.findings})
    end = DayEnd(first, told=list(first.findings))
    done = 0
    for page in pace.slices(first.findings):
        tell(f"{done} / {len(first.findings)}")
        end.effects.update(commit(_settle(page, sources, day, terms)))
        done += len(page)
    if end.settled:
        second = run_day(day, reader, commit, terms, today=today, tell=tell, pace=pace)
        second.rows_written += first.rows_written
        second.items_written += first.items_written
        second.lines_closed += first.lines_closed
        end.result = second
    return end


def _settle(page: list[Finding], sources: dict[str, str], day: str, terms: Terms) -> Change[list[LateEffect]]:
    return lambda tx: [
        resolve_attempt(
            tx,
            finding.attempt_id,
            posted=finding.word is DayFileWord.POSTED,
            source=sources[finding.attempt_id],
            actor=ACTOR,
            rules=terms.debit_rules,
            settlement_day=day if finding.word is DayFileWord.POSTED else None,
        )
        for finding in page
    ]


def _sources(connection: Connection, day: str, attempt_ids: set[str]) -> dict[str, str]:
    """Files that give the word on each attempt, by day and digest."""
    f, a = tables.bank_file, tables.attempt
    digests: dict[str, list[str]] = {}
    for channel, digest in connection.execute(
        select(f.c.channel, f.c.digest).where(f.c.day == day, f.c.state == "read").order_by(f.c.id)
    ):
        digests.setdefault(channel, []).append(digest[:DIGEST_CHARS])
    found = dict.fromkeys(attempt_ids, day)
    for page in pages(sorted(attempt_ids), IDS_PER_QUERY):
        for attempt_id, channel in connection.execute(select(a.c.id, a.c.channel).where(a.c.id.in_(page))):
            found[attempt_id] = f"{channel} {day} {' '.join(digests.get(channel, []))}".rstrip()
    return found
