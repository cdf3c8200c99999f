"""Claims that may have ended in a part of the ledger that was lost: which of them the banks' files prove open.

An adoption lists every claim on a bank, and every refund by one, that was open in the file it took over
(`gateway.debit.adoption`). When the files of all days are here into which a bank may have booked what the lost part
sent, a claim is as open as it looks unless one of their lines, unknown to us, could be it: of its direction, and of no
more than its amount, for a claim may have been corrected downwards before it was asked for. Such a claim is left to
people; all others are taken off the list, and the bank is asked for them again.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Connection, Select, and_, exists, func, select

from gateway.clearing.terms import Terms
from gateway.debit.states import LOST, close_item
from gateway.ledger import tables
from gateway.ledger.life import FIRST_LIFE
from gateway.ledger.transaction import Transaction
from gateway.model.clearing import days_between
from gateway.model.states import ItemState

NOTE: Final = "no line of the bank's files is it"
COLLECTING: Final = ("sale", "advice")
GIVING: Final = ("refund",)


@dataclass(frozen=True, slots=True)
class LostPart:
    """Lost part of the ledger, whose messages left between these two moments (UTC microseconds)."""

    since: int
    until: int


def proved_open(connection: Connection, terms: Terms) -> list[str]:
    """Refs of the listed claims and refunds that ended in no lost part, by the files that are here."""
    parts = list(_parts(connection))
    found = []
    for row in connection.execute(_listed()):
        kinds = COLLECTING if row.ref == row.debit_id else GIVING
        days = _days(terms, row.payer, [part for part in parts if part.until > row.created_at])
        if _files_are_here(connection, row.payer, days) and not _could_be_it(
            connection, row.payer, days, kinds, row.amount
        ):
            found.append(row.ref)
    return found


def take_off(tx: Transaction, refs: list[str], actor: str) -> None:
    """Take claims and refunds off the list, because they are as open as they look."""
    for ref in refs:
        close_item(tx, LOST, ref, note=NOTE, actor=actor)


def _listed() -> Select[Any]:
    i, d = tables.item, tables.debit
    return (
        select(i.c.ref, i.c.debit_id, i.c.amount, d.c.payer, d.c.created_at)
        .join_from(i, d, d.c.id == i.c.debit_id)
        .where(i.c.kind == LOST, i.c.state == ItemState.OPEN)
        .order_by(i.c.id)
    )


def _parts(connection: Connection) -> Iterator[LostPart]:
    """Lost parts, one for each adoption: from the newest row that was left, to the adoption."""
    life, j = tables.incarnation, tables.journal
    rows = connection.execute(
        select(life.c.born_at, j.c.at)
        .join_from(life, j, j.c.number == life.c.journal_number, isouter=True)
        .where(life.c.number > FIRST_LIFE)
    )
    for row in rows:
        yield LostPart(row.born_at if row.at is None else min(row.at, row.born_at), row.born_at)


def _days(terms: Terms, channel: str, parts: list[LostPart]) -> list[str]:
    """Settlement days into which a bank may have booked what these parts sent."""
    found: set[str] = set()
    for part in parts:
        found.update(days_between(*terms.booking_days(channel, part.since, part.until)))
    return sorted(found)


def _files_are_here(connection: Connection, channel: str, days: list[str]) -> bool:
    f = tables.bank_file
    here = select(func.count(f.c.day.distinct())).where(f.c.channel == channel, f.c.state == "read", f.c.day.in_(days))
    return bool(connection.execute(here).scalar_one() == len(days))


def _could_be_it(connection: Connection, channel: str, days: list[str], kinds: tuple[str, ...], amount: int) -> bool:
    """True when a line of these days that we do not know is for no more than this amount."""
    b, f, a = tables.bank_line, tables.bank_file, tables.pos_attempt
    ours = exists().where(
        a.c.channel == b.c.channel, a.c.terminal == b.c.terminal, a.c.batch == b.c.batch, a.c.stan == b.c.stan
    )
    found = (
        select(b.c.line)
        .join_from(b, f, and_(f.c.id == b.c.file_id, f.c.state == "read"))
        .where(b.c.channel == channel, f.c.day.in_(days), b.c.kind.in_(kinds), b.c.amount <= amount, ~ours)
        .limit(1)
    )
    return connection.execute(found).first() is not None
