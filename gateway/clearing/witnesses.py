"""Witnesses of a day, as stored: our books, the lanes' records, and the banks' files."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any, Final, TypeVar

from sqlalchemy import ColumnElement, Connection, Row, Select, and_, case, exists, func, or_, select, tuple_

from gateway.clearing.terms import Terms
from gateway.debit.states import CONTRADICTED
from gateway.ledger import tables
from gateway.ledger.life import FIRST_LIFE
from gateway.model.answers import AnswerClass
from gateway.model.clearing import (
    OPEN_STANDINGS,
    BankEntry,
    BankLine,
    BankLineKind,
    LaneRecord,
    OurRow,
    RowState,
    Standing,
    WireKeys,
    days_between,
    full_day,
    gather,
)
from gateway.model.passage import Funding, PassageOutcome
from gateway.model.states import UNRESOLVED, AttemptState, DebitState, ItemState, PurchaseState, RefundState

IDS_PER_QUERY: Final = 400
"""Bound values of one statement: some engines take a thousand."""

NEAR_US: Final = 45 * 86_400_000_000
"""A settlement day without its year is looked for this far around the day."""

LATE_DAYS: Final = 62
"""Claims on issuers that were settled this much after their day still come into the next run."""

GONE_OUTCOMES: Final = (PassageOutcome.PAID.value, PassageOutcome.OWED.value, PassageOutcome.DEBT.value)
"""Decisions that let a vehicle go for a claim."""

_STANDINGS: Final[Mapping[str, Standing]] = {
    AttemptState.APPROVED: Standing.POSTED,
    AttemptState.REVERSED: Standing.REVERSED,
    AttemptState.DECLINED: Standing.NOT_POSTED,
    AttemptState.NOT_SENT: Standing.NOT_POSTED,
    AttemptState.DISPUTED: Standing.DISPUTED,
}
"""Every other state of an attempt is one in doubt."""

_SENT_ONCE: Final = ("sale", "recovery")
"""Kinds of attempts whose request leaves once; the others are repeated until they are answered."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class OurSide:
    """A row of ours with what its clearing needs besides the match."""

    row: OurRow
    kind: str
    """attempt, claim or refund."""
    merchant: str
    payer: str
    payer_kind: str
    """bank or issuer."""
    service: str
    charge_point: str
    debit_state: str
    stored: Row[Any] | None
    """Its `clearing_row`, None where it has none."""


@dataclass(frozen=True, slots=True)
class BankDay:
    """One channel on one day."""

    channel: str
    file_ids: tuple[int, ...]
    """The files of the day that were read; none where the bank has not sent one yet."""
    entries: Mapping[WireKeys, BankEntry]
    ours: Sequence[OurSide]


# --- banks ----------------------------------------------------------------------------------------------------------


def channels_of(connection: Connection, day: str, terms: Terms) -> list[str]:
    """Every bank with business on a day: a file, or approved attempts of ours."""
    f, a = tables.bank_file, tables.attempt
    found = set(connection.execute(select(f.c.channel).where(f.c.day == day, f.c.state == "read")).scalars())
    known = set(terms.terminals) | found
    # Banks that have left the site file may still owe us.
    known |= set(connection.execute(select(a.c.channel).where(_of_day(day, terms)).distinct()).scalars())
    return sorted(known)


def bank_day(connection: Connection, channel: str, day: str, terms: Terms) -> BankDay:
    """Day of one channel: the entries of the bank's file and our rows."""
    file_ids = _file_ids(connection, channel, day)
    entries = gather(_lines(connection, file_ids))
    _add_other_days(connection, channel, file_ids, entries)
    ours: dict[str, OurSide] = {}
    by_day = _attempts().where(tables.attempt.c.channel == channel, _of_day(day, terms))
    in_doubt = _attempts().where(
        tables.attempt.c.channel == channel,
        tables.attempt.c.state.in_(UNRESOLVED) | _contradicted(),
        tables.attempt.c.created_at < terms.day_bounds(day)[1],
    )
    for statement in (by_day, in_doubt):
        for row in connection.execute(statement):
            side = _of_attempt(connection, row, terms)
            if side.row.standing is not Standing.POSTED or side.row.day == day:
                ours[side.row.ref] = side
    seen = {side.row.keys for side in ours.values()}
    for page in pages((keys for keys in entries if keys not in seen), IDS_PER_QUERY // 3):
        for row in connection.execute(_attempts().where(tables.attempt.c.channel == channel, _named(page))):
            ours[row.id] = _of_attempt(connection, row, terms)
    return BankDay(channel, file_ids, entries, list(ours.values()))


def _file_ids(connection: Connection, channel: str, day: str) -> tuple[int, ...]:
    f = tables.bank_file
    return tuple(
        connection.execute(
            select(f.c.id).where(f.c.channel == channel, f.c.day == day, f.c.state == "read").order_by(f.c.id)
        ).scalars()
    )


def _lines(connection: Connection, file_ids: Collection[int]) -> Iterator[BankLine]:
    b = tables.bank_line
    rows = connection.execute(select(b).where(b.c.file_id.in_(file_ids)).order_by(b.c.file_id, b.c.line))
    for row in rows:
        keys = WireKeys(row.terminal, row.batch, row.stan)
        yield BankLine(row.line, BankLineKind(row.kind), keys, row.amount, row.reference)


def _add_other_days(
    connection: Connection, channel: str, file_ids: Collection[int], entries: dict[WireKeys, BankEntry]
) -> None:
    """Add bookings of other days: a message booked on one side of the cut-over may be taken back on the other."""
    b = tables.bank_line
    elsewhere = select(b.c.terminal, b.c.batch, b.c.stan, b.c.kind).where(
        b.c.channel == channel, b.c.file_id.not_in(file_ids)
    )
    for row in connection.execute(elsewhere.where(b.c.kind == BankLineKind.REVERSAL.value)):
        entry = entries.get(WireKeys(row.terminal, row.batch, row.stan))
        if entry is not None:
            entry.elsewhere -= 1
    alone = [keys for keys, entry in entries.items() if entry.stands < 0]
    for page in pages(alone, IDS_PER_QUERY // 3):
        booked = elsewhere.where(b.c.kind != BankLineKind.REVERSAL.value, _named(page, b))
        for row in connection.execute(booked):
            entries[WireKeys(row.terminal, row.batch, row.stan)].elsewhere += 1


def _named(keys: Sequence[WireKeys], table: Any = tables.pos_attempt) -> ColumnElement[bool]:  # noqa: ANN401 - a table
    return tuple_(table.c.terminal, table.c.batch, table.c.stan).in_([(k.terminal, k.batch, k.stan) for k in keys])


def _of_day(day: str, terms: Terms) -> ColumnElement[bool]:
    """Approved attempts that may be of this settlement day; banks tell it with or without its year, or not at all."""
    a = tables.attempt
    begins, ends = terms.day_bounds(day)
    return and_(
        a.c.state == AttemptState.APPROVED,
        or_(
            a.c.settlement_day == day,
            and_(a.c.settlement_day == day[4:], a.c.created_at.between(begins - NEAR_US, ends + NEAR_US)),
            and_(a.c.settlement_day.is_(None), a.c.changed_at.between(begins - 2 * 86_400_000_000, ends)),
        ),
    )


def _attempts() -> Select[Any]:
    a, d, p, r = tables.attempt, tables.debit, tables.passage, tables.clearing_row
    pos = tables.pos_attempt
    return (
        select(
            a.c.id,
            a.c.debit_id,
            a.c.channel,
            pos.c.terminal,
            pos.c.batch,
            pos.c.stan,
            a.c.kind,
            a.c.state,
            a.c.amount,
            a.c.settlement_day,
            a.c.late_approval,
            a.c.created_at,
            a.c.changed_at,
            _contradicted().label("contradicted"),
            _end_lost().label("end_lost"),
            d.c.merchant,
            d.c.service,
            d.c.state.label("debit_state"),
            p.c.charge_point,
            *_stored_columns(),
        )
        .join_from(a, d, d.c.id == a.c.debit_id)
        .join(p, p.c.id == d.c.passage_id)
        .outerjoin(pos, pos.c.attempt_id == a.c.id)
        .outerjoin(r, r.c.ref == a.c.id)
    )


def _end_lost() -> ColumnElement[bool]:
    """Attempts disputed because their end may stand in a part of the ledger that was lost. No such part can have used
    their keys, so a line that has them is about them. Not so where the bank said it knew them (94)."""
    a, life = tables.attempt, tables.incarnation
    lost = exists().where(life.c.number > FIRST_LIFE, life.c.born_at > a.c.created_at)
    return and_(func.coalesce(a.c.answer_class, "") != AnswerClass.DUPLICATE, lost)


def _contradicted() -> ColumnElement[bool]:
    """Attempts approved, then refused by the same bank, and nobody has found out since which was true."""
    a, i = tables.attempt, tables.item
    found = exists().where(i.c.kind == CONTRADICTED, i.c.ref == a.c.id, i.c.state == ItemState.OPEN)
    return and_(a.c.state == AttemptState.APPROVED, found)


def _stored_columns() -> list[ColumnElement[Any]]:
    r = tables.clearing_row
    return [
        r.c.ref.label("stored_ref"),
        r.c.state.label("stored_state"),
        r.c.day.label("stored_day"),
        r.c.amount.label("stored_amount"),
        r.c.paid.label("stored_paid"),
    ]


def _of_attempt(connection: Connection, row: Row[Any], terms: Terms) -> OurSide:
    standing = _STANDINGS.get(row.state, Standing.IN_DOUBT)
    if standing is Standing.DISPUTED and row.end_lost:
        standing = Standing.IN_DOUBT
    elif standing is Standing.IN_DOUBT and row.late_approval:
        standing = Standing.SUSPENSE
    if row.contradicted:
        standing = Standing.CONTRADICTED
    day = None
    if row.settlement_day is not None:
        day = full_day(row.settlement_day, terms.local_date(row.created_at))
    elif standing in (Standing.POSTED, Standing.CONTRADICTED):
        day = terms.bank_day(row.channel, row.changed_at)
    ours = OurRow(
        ref=row.id,
        debit_id=row.debit_id,
        amount_fen=-row.amount if row.kind == "refund" else row.amount,
        standing=standing,
        day=day,
        keys=None if row.stan is None else WireKeys(row.terminal, row.batch, row.stan),
        needs_lane=row.kind != "refund",
        cleared_on=_cleared_on(row),
    )
    if standing in OPEN_STANDINGS:
        ours = replace(ours, last_day=_last_day(connection, row, terms))
    return OurSide(
        ours,
        "attempt",
        row.merchant,
        row.channel,
        "bank",
        row.service,
        row.charge_point,
        row.debit_state,
        _stored(row),
    )


def _last_day(connection: Connection, row: Row[Any], terms: Terms) -> str | None:
    """The last day into which the bank may have booked it, once the files of all such days are here and none has it."""
    last_sent = row.created_at if row.kind in _SENT_ONCE else row.changed_at
    days = days_between(*terms.booking_days(row.channel, row.created_at, last_sent))
    f, b = tables.bank_file, tables.bank_line
    here = select(func.count(f.c.day.distinct())).where(
        f.c.channel == row.channel, f.c.state == "read", f.c.day.in_(days)
    )
    if connection.execute(here).scalar_one() < len(days):
        return None
    stands = select(func.sum(case((b.c.kind == BankLineKind.REVERSAL.value, -1), else_=1))).where(
        b.c.channel == row.channel, b.c.terminal == row.terminal, b.c.batch == row.batch, b.c.stan == row.stan
    )
    booked = connection.execute(stands).scalar_one() or 0
    return None if booked > 0 else days[-1]


# --- issuers --------------------------------------------------------------------------------------------------------


def issuer_rows(connection: Connection, day: str, terms: Terms) -> list[OurSide]:
    """Claims on issuers of a day, those of earlier days that were settled late, and refunds that issuers pay out."""
    return [*_claims(connection, day), *_refunds(connection, day, terms)]


def _claims(connection: Connection, day: str) -> Iterator[OurSide]:
    d, p, r, u, done = (
        tables.debit,
        tables.passage,
        tables.clearing_row,
        tables.purchase,
        tables.clearing_run,
    )
    proved = (
        select(u.c.id)
        .where(u.c.debit_id == d.c.id, u.c.state == PurchaseState.TAKEN, u.c.tac.is_not(None))
        .exists()
        .label("proved")
    )
    earlier = select(done.c.day).where(done.c.state == "done", done.c.day < day).order_by(done.c.day.desc())
    late_days = list(connection.execute(earlier.limit(LATE_DAYS)).scalars())
    rows = connection.execute(
        select(d, p.c.charge_point, proved, *_stored_columns())
        .join_from(d, p, p.c.id == d.c.passage_id)
        .outerjoin(r, r.c.ref == d.c.id)
        .where(
            d.c.funding.in_((Funding.PURSE.value, Funding.ISSUER_CLEARING.value)),
            d.c.state.in_((DebitState.RELEASED, DebitState.FUNDED)),
            or_(d.c.day == day, and_(d.c.day.in_(late_days), r.c.ref.is_(None))),
        )
        .order_by(d.c.id)
    )
    for row in rows:
        amount = row.collected if row.state == DebitState.FUNDED and row.collected else row.amount
        ours = OurRow(
            row.id,
            row.id,
            amount,
            Standing.POSTED,
            day,
            proved=bool(row.proved),
            cleared_on=_cleared_on(row),
        )
        yield OurSide(
            ours, "claim", row.merchant, row.payer, "issuer", row.service, row.charge_point, row.state, _stored(row)
        )


def _refunds(connection: Connection, day: str, terms: Terms) -> Iterator[OurSide]:
    f, d, p, r = tables.refund, tables.debit, tables.passage, tables.clearing_row
    rows = connection.execute(
        select(
            f.c.id.label("refund_id"),
            f.c.amount.label("refund_amount"),
            d,
            p.c.charge_point,
            *_stored_columns(),
        )
        .join_from(f, d, d.c.id == f.c.debit_id)
        .join(p, p.c.id == d.c.passage_id)
        .outerjoin(r, r.c.ref == f.c.id)
        .where(
            f.c.target == "issuer",
            f.c.created_at < terms.day_bounds(day)[1],
            or_(f.c.state == RefundState.DECIDED, r.c.day == day),
        )
        .order_by(f.c.id)
    )
    for row in rows:
        ours = OurRow(
            row.refund_id,
            row.id,
            -row.refund_amount,
            Standing.POSTED,
            day,
            needs_lane=False,
            cleared_on=_cleared_on(row),
        )
        yield OurSide(
            ours, "refund", row.merchant, row.payer, "issuer", row.service, row.charge_point, row.state, _stored(row)
        )


def _cleared_on(row: Row[Any]) -> str | None:
    final = row.stored_state in (RowState.CLEARED.value, RowState.REJECTED.value)
    return row.stored_day if final else None


def _stored(row: Row[Any]) -> Row[Any] | None:
    return None if row.stored_ref is None else row


# --- lanes ----------------------------------------------------------------------------------------------------------


def lane_records(connection: Connection, debit_ids: Iterable[str]) -> dict[str, LaneRecord]:
    """Lane records of these debits: the newest decision that let each go."""
    found: dict[str, LaneRecord] = {}
    for page in pages(debit_ids, IDS_PER_QUERY):
        found |= _lanes_of(connection, tables.debit.c.id.in_(page))
    return found


def lane_records_of_day(connection: Connection, day: str) -> dict[str, LaneRecord]:
    """Lane records of every debit of a business day."""
    return _lanes_of(connection, tables.debit.c.day == day)


def _lanes_of(connection: Connection, chosen: ColumnElement[bool]) -> dict[str, LaneRecord]:
    d, e, t, a = tables.debit, tables.decision, tables.transfer, tables.account
    merchant = a.alias()
    released: dict[str, list[tuple[int, int]]] = {}
    for debit_id, amount, booked_at in connection.execute(
        select(t.c.debit_id, t.c.amount, t.c.booked_at)
        .join_from(d, t, t.c.debit_id == d.c.id)
        .join(a, a.c.id == t.c.from_account)
        .join(merchant, merchant.c.id == t.c.to_account)
        .where(chosen, t.c.phase.in_(("post", "direct")), a.c.kind == "open", merchant.c.kind == "merchant")
    ):
        released.setdefault(debit_id, []).append((amount, booked_at))
    found: dict[str, LaneRecord] = {}
    for row in connection.execute(
        select(d.c.id, e.c.record_no, e.c.charge_point, e.c.amount, e.c.decided_at)
        .join_from(d, e, e.c.passage_id == d.c.passage_id)
        .where(chosen, e.c.debit_id == d.c.id, e.c.outcome.in_(GONE_OUTCOMES))
        .order_by(e.c.record_no)
    ):
        by_then = sum(amount for amount, booked_at in released.get(row.id, ()) if booked_at <= row.decided_at)
        found[row.id] = LaneRecord(row.id, row.record_no, row.charge_point, row.amount, by_then)
    return found


def pages(values: Iterable[T], size: int) -> Iterator[list[T]]:
    """The values, at most `size` at a time."""
    left = iter(values)
    while page := list(islice(left, size)):
        yield page
