"""Incarnations (lives) of a ledger: makes one, and alone decides whether a file is the ledger this box knows.

Theory of operation. `create` is the only way to a ledger where there was none. A start compares file and mark before
anything else (`stand`); a file that is not the newest one this box has seen, or a mark that cannot say, is refused
until a person adopts it (`gateway.debit.adoption`), which begins a new life.

| found | refused as |
|---|---|
| neither file nor mark | `ledger_missing` |
| no file, but a mark | `ledger_gone` |
| a file, but no mark; one that cannot be read | `mark_missing`, `mark_unreadable` |
| a file of another life than the mark's, or without any | `ledger_other` |
| the journal ends before the row the mark knows | `ledger_behind` |
| that row has another digest | `ledger_rewritten` |
| a backup was put in its place | `ledger_restored` |

The mark trails the ledger, so what a crash leaves behind is never taken for any of these.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import Connection, Engine, inspect, select

from gateway.ledger import chain, engines, life, marks, schema, tables
from gateway.ledger.batches import Committer
from gateway.ledger.chain import ChainKeys
from gateway.ledger.life import FIRST_LIFE, Head, Incarnation, journal_head
from gateway.ledger.marks import MarkFile, MarkMissing, MarkState, MarkUnreadable, MemoryMark
from gateway.ledger.positions import by_clock
from gateway.ledger.transaction import Transaction
from gateway.model.clock import Clock, to_us
from gateway.model.ids import RandomBits, new_id
from gateway.texts.catalogue import Text, Words
from gateway.texts.foreign import text_of_error
from gateway.timekeeping import EARLIEST


class LedgerRefused(Exception):
    """Refusal to work on this ledger. `reason` is a code of `gateway.model.reasons`."""

    def __init__(self, reason: str, detail: Text) -> None:
        self.reason = reason
        super().__init__(detail)


@dataclass(frozen=True, slots=True)
class Place:
    """Paths of a site's ledger and of its mark."""

    ledger: Path
    mark: Path


@dataclass(frozen=True, slots=True)
class Birth:
    """Birth of a life: its reason and the person who begins it."""

    id: str
    reason: str
    actor: str


def born(clock: Clock, random: RandomBits, *, reason: str, actor: str) -> Birth:
    """Make a new life's name. Raises `LedgerRefused` while the clock cannot tell where its positions begin."""
    now_us = to_us(clock.utcnow())
    if clock.utcnow() < EARLIEST:  # its terminals would begin with positions that may have been used
        raise LedgerRefused("clock_bad", Words("ledger-file.clock", now=clock.utcnow().isoformat()))
    return Birth(new_id(now_us, random), reason, actor)


def create(place: Place, clock: Clock, keys: ChainKeys, birth: Birth) -> Incarnation:
    """Make the ledger of a site that has none, and its mark. Raises `LedgerRefused` where there is either."""
    if place.ledger.exists():
        raise LedgerRefused("ledger_exists", Words("ledger-file.ledger-exists", path=place.ledger))
    if place.mark.exists():
        raise LedgerRefused("ledger_exists", Words("ledger-file.mark-exists", path=place.mark))
    place.mark.parent.mkdir(parents=True, exist_ok=True)
    state = make(place.ledger, clock, keys, birth)
    with marks.locked(place.mark):
        marks.write(place.mark, state)
    return Incarnation(state.incarnation_number, state.incarnation, to_us(clock.utcnow()))


def make(path: Path, clock: Clock, keys: ChainKeys, birth: Birth) -> MarkState:
    """Make an empty ledger in its first life; returns the state for its mark."""
    engine = engines.open_new(path)
    try:
        schema.upgrade(engine)
        memory = MemoryMark()
        committer = Committer(engine, clock, keys=keys, mark=memory)
        begun, first = committer.commit([lambda tx: begin_life(tx, birth)])[0]
        head = committer.head or Head(0, chain.GENESIS)
        return MarkState(begun.id, begun.number, first, head.number, head.digest)
    finally:
        engine.dispose()


def begin_life(tx: Transaction, birth: Birth, *, known: int = 0) -> tuple[Incarnation, int]:
    """Insert the row of a new life; with the position at which terminals begin that nobody knows.

    `known`: number of a life that is known of, and that this file may have lost.
    """
    before = life.newest(tx.connection)
    number = max(FIRST_LIFE, known + 1, 0 if before is None else before.number + 1)
    _, journal = tx.chain_span(tables.journal)
    tx.insert(
        tables.incarnation,
        number=number,
        id=birth.id,
        born_at=tx.now_us,
        journal_number=journal,
        reason=birth.reason,
        actor=birth.actor,
    )
    event = "created" if number == FIRST_LIFE else "adopted"
    tx.note("ledger", birth.id, event, detail=birth.reason, actor=birth.actor)
    return Incarnation(number, birth.id, tx.now_us), by_clock(tx.now_us)


def stand(place: Place, engine: Engine | None = None) -> MarkFile:
    """Check that a ledger may be worked on; returns its mark. Raises `LedgerRefused`; changes nothing.

    `engine`: one that has the file open already.
    """
    state = marked(place)
    own = engine is None
    reading = engines.open_reader(place.ledger) if engine is None else engine
    try:
        with reading.connect() as connection:
            compare(connection, place, state)
    finally:
        if own:
            reading.dispose()
    return MarkFile(place.mark, state.incarnation)


def marked(place: Place) -> MarkState:
    """State of the mark, where ledger and mark are both there. Raises `LedgerRefused` where one is not."""
    try:
        state = marks.read(place.mark)
    except MarkMissing as error:
        if not place.ledger.exists():
            raise LedgerRefused("ledger_missing", Words("ledger-file.none", path=place.ledger)) from error
        there = Words("ledger-file.ledger-and", path=place.ledger, mark=error.args[0])
        raise LedgerRefused("mark_missing", there) from error
    except MarkUnreadable as error:
        raise LedgerRefused("mark_unreadable", text_of_error(error)) from error
    if not place.ledger.exists():
        gone = Words("ledger-file.none-and-known", path=place.ledger, mark=place.mark, rows=state.journal)
        raise LedgerRefused("ledger_gone", gone)
    return state


def compare(connection: Connection, place: Place, state: MarkState) -> None:
    """Compare a ledger with its mark. Raises `LedgerRefused`."""
    found = life.newest(connection) if inspect(connection).has_table(tables.incarnation.name) else None
    if found is None or found.id != state.incarnation:
        known = {"path": place.ledger, "mark": place.mark, "number": state.incarnation_number}
        other = (
            Words("ledger-file.no-life", **known)
            if found is None
            else Words("ledger-file.other-life", found=found.number, **known)
        )
        raise LedgerRefused("ledger_other", other)
    head = journal_head(connection)
    if head.number < state.journal:
        rows = {"found": head.number, "known": state.journal}
        raise LedgerRefused("ledger_behind", Words("ledger-file.behind", path=place.ledger, mark=place.mark, **rows))
    if state.journal and digest_at(connection, state.journal) != state.head:
        other = Words("ledger-file.rewritten", row=state.journal, path=place.ledger, mark=place.mark)
        raise LedgerRefused("ledger_rewritten", other)
    if state.restored_us is not None:
        raise LedgerRefused("ledger_restored", Words("ledger-file.restored", path=place.ledger))


def digest_at(connection: Connection, number: int) -> bytes | None:
    """Chain digest of one row of the journal; None where there is none."""
    j = tables.journal
    found = connection.execute(select(j.c.chain).where(j.c.number == number)).scalar()
    return None if found is None else bytes(found)
