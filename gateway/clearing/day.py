"""The day end: match, put every row in its state, turn differences into items, settle and pay out what is cleared.

Theory of operation. A run reads one snapshot, compares the witnesses (`gateway.model.clearing`), and then writes in
small changes, so that a gateway that works on the same ledger waits for none of them longer than for a batch of its
own. Every change looks again at what it changes; a run that was cut short, or two at once, therefore do nothing twice.
Run again, a day goes on where it stands: what agrees by now is cleared in a new line, what has been corrected is noted,
and when nothing is new nothing is written.

What is cleared moves through the books once, when its line closes:

    settlement  own account -> bank or issuer    what the payer pays, net of its fee
    fee         fee -> bank or issuer            what the payer keeps
    share       collector -> owner               where one fee belongs to several road owners
    fee_charged owner -> fee                     where the collector bears the fee
    payout      owner -> own account             what is left to the owner

A day on which more goes back than comes in turns a transfer round. A claim on an issuer that is paid after clearing
(`issuer_clearing`) becomes the issuer's debt here: issuer -> open.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import Any, Final

from sqlalchemy import Connection, Engine, func, select

from gateway.clearing import witnesses
from gateway.clearing.terms import Terms
from gateway.clearing.witnesses import OurSide
from gateway.debit.conclusions import issuer_paid
from gateway.debit.refunds import pay_refund
from gateway.debit.states import debit_row, new_item, set_item
from gateway.ledger import tables
from gateway.ledger.books import AccountKind
from gateway.ledger.pace import Pace
from gateway.ledger.statements import Row
from gateway.ledger.transaction import Change, Transaction
from gateway.model.clearing import (
    BankEntry,
    DayFileWord,
    Difference,
    DifferenceKind,
    Finding,
    JudgedRow,
    Resolution,
    RowState,
    WireKeys,
    check_lanes,
    fee_of,
    match,
    parse_day,
    split_by_weight,
)
from gateway.model.states import DebitState, ItemState
from gateway.texts.catalogue import Text, Words

LINE_NUMBERS: Final = "clearing_line"

Commit = Callable[[Change[Any]], Any]
"""Makes one change durable and gives its result."""


class ClearingRefused(Exception):
    """A day cannot be cleared, or an item not be changed so. `reason` is a code of `gateway.model.reasons`."""

    def __init__(self, reason: str, detail: Text) -> None:
        self.reason = reason
        self.detail = detail
        super().__init__(detail)


@dataclass(frozen=True, slots=True)
class _Judged:
    """A row with everything its booking needs."""

    side: OurSide
    row: JudgedRow


@dataclass(slots=True)
class DayResult:
    """Result of a run: what it found and did. Amounts are fen."""

    day: str
    states: Counter[str] = field(default_factory=Counter)
    """Rows by state."""
    amounts: Counter[str] = field(default_factory=Counter)
    """Amounts of the rows in our books, by state."""
    differences: list[Difference] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    """The bank's word on attempts in doubt, for the debit engine to settle."""
    waiting: list[str] = field(default_factory=list)
    """Banks with business on this day and no file yet: nothing of theirs was matched."""
    rows_written: int = 0
    items_written: int = 0
    lines_closed: int = 0

    @property
    def changed(self) -> bool:
        """True when anything was written besides that the day was run."""
        return bool(self.rows_written or self.items_written or self.lines_closed)

    def told(self, word: DayFileWord) -> list[str]:
        """Attempts of which the day files say this."""
        return [finding.attempt_id for finding in self.findings if finding.word is word]


def run_day(
    day: str,
    reader: Engine,
    commit: Commit,
    terms: Terms,
    *,
    today: date,
    tell: Callable[[str], None] = lambda _: None,
    pace: Pace | None = None,
) -> DayResult:
    """Clear one day as far as it can be cleared now. Raises `ClearingRefused` for a day that is not over.

    `pace` gives the size of each change; where nobody measures them, that of the first.
    """
    pace = pace or Pace()
    if parse_day(day) >= today:
        raise ClearingRefused("clearing_day_open", Words("clearing.day-not-over", day=day, today=f"{today:%Y%m%d}"))
    result = DayResult(day)
    began = commit(lambda tx: _begin(tx, day, terms))
    with reader.connect() as connection:
        compared = _compare(connection, day, terms, result, tell)
        news = [found for found in compared.judged if _is_news(found)]
        items = list(_items_to_write(connection, day, compared))
    result.differences = compared.differences
    done = 0
    for page in pace.slices(news):
        tell(f"{done} / {len(news)}")
        result.rows_written += commit(_row_change(day, page, terms))
        done += len(page)
    for some in pace.slices(items):
        result.items_written += commit(_item_change(day, some))
    for line_id in commit(lambda tx: _open_lines(tx, day)):
        with reader.connect() as connection:
            sums = _sums(connection, line_id)
        result.lines_closed += commit(_close_change(line_id, sums, terms))
    if began or result.changed:
        commit(lambda tx: _end(tx, day, result))
    return result


# --- comparing ------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Compared:
    """Findings of a run before it writes."""

    judged: list[_Judged] = field(default_factory=list)
    differences: list[Difference] = field(default_factory=list)
    payers: set[str] = field(default_factory=set)
    """Payers that could be matched, `LANES` among them."""
    touched: set[str] = field(default_factory=set)
    """Rows that the files of this day name."""


def _compare(
    connection: Connection, day: str, terms: Terms, result: DayResult, tell: Callable[[str], None]
) -> _Compared:
    """Every row in its state, and every difference."""
    verdicts = _verdicts(connection)
    compared = _Compared()

    def compare(payer: str, sides: Sequence[OurSide], entries: Mapping[WireKeys, BankEntry] | None) -> None:
        tell(payer)
        lanes = witnesses.lane_records(connection, (side.row.debit_id for side in sides))
        found = match(day, (side.row for side in sides), entries, lanes, verdicts=verdicts)
        by_ref = {side.row.ref: side for side in sides}
        compared.judged.extend(_Judged(by_ref[row.ref], row) for row in found.rows)
        compared.differences.extend(_with_payer(difference, payer) for difference in found.differences)
        compared.touched.update(side.row.ref for side in sides if entries is not None and side.row.keys in entries)
        compared.payers.add(payer)
        result.findings.extend(found.findings)

    for channel in witnesses.channels_of(connection, day, terms):
        bank = witnesses.bank_day(connection, channel, day, terms)
        if bank.file_ids:
            compare(channel, bank.ours, bank.entries)
        elif any(side.row.day == day for side in bank.ours):
            result.waiting.append(channel)
    by_issuer: dict[str, list[OurSide]] = {}
    for side in witnesses.issuer_rows(connection, day, terms):
        by_issuer.setdefault(side.payer, []).append(side)
    for issuer, sides in sorted(by_issuer.items()):
        compare(issuer, sides, None)
    tell(LANES)
    compared.differences += check_lanes(witnesses.lane_records_of_day(connection, day).values())
    compared.payers.add(LANES)
    for found in compared.judged:
        result.states[found.row.state.value] += 1
        result.amounts[found.row.state.value] += found.row.amount_fen
    return compared


LANES: Final = "lanes"
"""Payer under which a difference between a lane and our own books is noted."""

_OF_LANES: Final = frozenset({DifferenceKind.LANE_AMOUNT_DIFFERS, DifferenceKind.LANE_WITHOUT_CLAIM})


def _with_payer(difference: Difference, payer: str) -> Difference:
    """Difference whose ref begins with the payer when our books do not know the message."""
    if difference.kind is not DifferenceKind.MISSING_HERE:
        return difference
    return Difference(
        difference.kind,
        f"{payer}/{difference.ref}",
        difference.amount_fen,
        bank_fen=difference.bank_fen,
        note=difference.note,
    )


def _verdicts(connection: Connection) -> Mapping[tuple[str, str], Resolution]:
    i = tables.item
    rows = connection.execute(
        select(i.c.kind, i.c.ref, i.c.state).where(
            i.c.kind.in_([kind.value for kind in DifferenceKind]), i.c.state.in_([v.value for v in Resolution])
        )
    )
    return {(row.kind, row.ref): Resolution(row.state) for row in rows}


def _is_news(found: _Judged) -> bool:
    """True when a row is to be written: new, or disputed so far and something has changed."""
    stored = found.side.stored
    return stored is None or _differs((stored.stored_state, stored.stored_amount, stored.stored_paid), found.row)


def _differs(stored: tuple[str, int, int], row: JudgedRow) -> bool:
    """True when a stored row is to be written again; one that is settled never is."""
    return stored[0] == RowState.DISPUTED.value and stored != (row.state.value, row.amount_fen, row.paid_fen)


# --- rows -----------------------------------------------------------------------------------------------------------


def _begin(tx: Transaction, day: str, terms: Terms) -> bool:
    """True where the day had not been run to its end before."""
    run = tx.find(tables.clearing_run, day=day)
    if run is not None:
        return bool(run.state != "done")
    tx.insert(
        tables.clearing_run,
        day=day,
        state="running",
        rules_version=terms.rules.version,
        began_at=tx.now_us,
        ended_at=None,
    )
    tx.note("clearing", day, "running", detail=f"rules {terms.rules.version}")
    return True


def _row_change(day: str, page: Sequence[_Judged], terms: Terms) -> Change[int]:
    def change(tx: Transaction) -> int:
        tx.flush()
        r = tables.clearing_row
        refs = [found.side.row.ref for found in page]
        stored = select(r.c.ref, r.c.state, r.c.amount, r.c.paid).where(r.c.ref.in_(refs))
        known = {row.ref: (row.state, row.amount, row.paid) for row in tx.connection.execute(stored)}
        lines: dict[tuple[str, str, str], int] = {}
        written = 0
        for found in page:
            before = known.get(found.row.ref)
            if before is None or _differs(before, found.row):
                _write_row(tx, day, found, terms, lines, new=before is None)
                written += 1
        return written

    return change


def _write_row(
    tx: Transaction,
    day: str,
    found: _Judged,
    terms: Terms,
    lines: dict[tuple[str, str, str], int],
    *,
    new: bool,
) -> None:
    side, row = found.side, found.row
    in_line = row.state is not RowState.DISPUTED and _book(tx, side, row)
    line_id = _line_for(tx, day, side, terms, lines) if in_line else None
    fee = terms.rules.fee(side.payer)
    values = {
        "day": day,
        "state": row.state.value,
        "amount": row.amount_fen,
        "paid": row.paid_fen,
        "fee": fee_of(row.paid_fen, fee.basis_points, fee.rounding) if in_line and fee.per == "debit" else 0,
        "line_id": line_id,
        "changed_at": tx.now_us,
    }
    if new:
        tx.insert(
            tables.clearing_row,
            ref=row.ref,
            kind=side.kind,
            debit_id=row.debit_id,
            merchant=side.merchant,
            payer=side.payer,
            service=side.service,
            **values,
        )
    else:
        tx.update(tables.clearing_row, {"ref": row.ref}, **values)
    if not in_line:
        return
    owners = terms.rules.owners(side.charge_point, terms.stations.get(side.charge_point), side.merchant)
    if list(owners) != [side.merchant]:
        shares = split_by_weight(row.amount_fen, list(owners.values()))
        for owner, share in zip(owners, shares, strict=True):
            tx.insert(tables.clearing_share, ref=row.ref, owner=owner, amount=share)


def _book(tx: Transaction, side: OurSide, row: JudgedRow) -> bool:
    """Book a cleared row on its own debit. False where the row has no part in settlement and payout."""
    if side.kind == "refund":
        if row.state is not RowState.CLEARED:
            return False
        pay_refund(tx, row.ref)
    elif side.kind == "claim":
        debit = debit_row(tx, row.debit_id)
        if row.state is RowState.CLEARED:
            issuer_paid(tx, debit.id)
        # An issuer's refusal that was accepted has turned the claim into a debt: nothing was collected yet.
        return bool(debit.state == DebitState.FUNDED or row.state is RowState.CLEARED)
    return row.state is RowState.CLEARED or row.amount_fen != 0


def _line_for(tx: Transaction, day: str, side: OurSide, terms: Terms, lines: dict[tuple[str, str, str], int]) -> int:
    """The open line of a row's group; a new one where the last is closed."""
    group = (side.merchant, side.payer, side.service)
    if group in lines:
        return lines[group]
    table = tables.clearing_line
    tx.flush()
    newest = tx.connection.execute(
        select(table.c.id, table.c.seq, table.c.state)
        .where(
            table.c.day == day,
            table.c.merchant == side.merchant,
            table.c.payer == side.payer,
            table.c.service == side.service,
        )
        .order_by(table.c.seq.desc())
        .limit(1)
    ).one_or_none()
    if newest is not None and newest.state == "open":
        line_id = int(newest.id)
    else:
        line_id = tx.next_number(LINE_NUMBERS)
        tx.insert(
            table,
            id=line_id,
            day=day,
            merchant=side.merchant,
            payer=side.payer,
            payer_kind=side.payer_kind,
            service=side.service,
            seq=1 if newest is None else newest.seq + 1,
            state="open",
            rules_version=terms.rules.version,
        )
        tx.flush()  # rows that are changed next name it
    lines[group] = line_id
    return line_id


# --- lines ----------------------------------------------------------------------------------------------------------


def _open_lines(tx: Transaction, day: str) -> list[int]:
    tx.flush()
    table = tables.clearing_line
    found = select(table.c.id).where(table.c.day == day, table.c.state == "open").order_by(table.c.id)
    return list(tx.connection.execute(found).scalars())


@dataclass(frozen=True, slots=True)
class _Sums:
    """Sums of the rows of a line; amounts are fen."""

    count: int
    amount: int
    paid: int
    fee: int
    shares: Mapping[str, int]
    """Shares by owner, of rows that are split."""


def _close_change(line_id: int, sums: _Sums, terms: Terms) -> Change[int]:
    """Close a line whose sums were read before: adding up a large one takes longer than writers are kept waiting."""

    def change(tx: Transaction) -> int:
        line = tx.find(tables.clearing_line, id=line_id)
        if line is None or line.state != "open":
            return 0
        tx.flush()
        rows = select(func.count()).where(tables.clearing_row.c.line_id == line_id)
        # A row of a line is never written again, so the line is as it was read unless another run has added some.
        same = tx.connection.execute(rows).scalar_one() == sums.count
        _close(tx, line, sums if same else _sums(tx.connection, line_id), terms)
        return 1

    return change


def _close(tx: Transaction, line: Row, sums: _Sums, terms: Terms) -> None:
    fee_rule = terms.rules.fee(line.payer)
    paid, fee = sums.paid, sums.fee
    if fee_rule.per == "line":
        fee = fee_of(paid, fee_rule.basis_points, fee_rule.rounding)
    _settle(tx, line, paid, fee, terms)
    _pay_out(tx, line, sums, fee, terms)
    tx.update(
        tables.clearing_line,
        {"id": line.id},
        state="closed",
        count=sums.count,
        amount=sums.amount,
        paid=paid,
        fee=fee,
        closed_at=tx.now_us,
    )
    group = f"{line.merchant} {line.payer} {line.service}"
    tx.note("clearing", _reference(line), "closed", detail=f"{group}: {sums.count} rows, {paid} fen, fee {fee} fen")


def _sums(connection: Connection, line_id: int) -> _Sums:
    r, s = tables.clearing_row, tables.clearing_share
    sums = (func.coalesce(func.sum(column), 0) for column in (r.c.amount, r.c.paid, r.c.fee))
    found = connection.execute(select(func.count(), *sums).where(r.c.line_id == line_id)).one()
    count, amount, paid, fee = (int(value) for value in found)
    shares = connection.execute(
        select(s.c.owner, func.sum(s.c.amount))
        .join_from(s, r, r.c.ref == s.c.ref)
        .where(r.c.line_id == line_id)
        .group_by(s.c.owner)
        .order_by(s.c.owner)
    )
    return _Sums(count, amount, paid, fee, {owner: int(share) for owner, share in shares})


def _settle(tx: Transaction, line: Row, paid: int, fee: int, terms: Terms) -> None:
    payer = (AccountKind.BANK if line.payer_kind == "bank" else AccountKind.ISSUER, line.payer)
    own = (AccountKind.SETTLEMENT, terms.rules.own_account)
    _move(tx, line, "settlement", source=own, target=payer, amount=paid - fee)
    _move(tx, line, "fee", source=(AccountKind.FEE, line.payer), target=payer, amount=fee)


def _pay_out(tx: Transaction, line: Row, sums: _Sums, fee: int, terms: Terms) -> None:
    rule = terms.rules.fee(line.payer)
    owners = _owners(line, sums)
    weights = [abs(share) for share in owners.values()]
    fees = split_by_weight(fee, weights) if any(weights) else [fee] + [0] * (len(owners) - 1)
    collector = (AccountKind.MERCHANT, line.merchant)
    own = (AccountKind.SETTLEMENT, terms.rules.own_account)
    for (owner, share), fee_share in zip(owners.items(), fees, strict=True):
        account = (AccountKind.MERCHANT, owner)
        kept = fee_share if rule.borne_by == "collector" else 0
        if owner != line.merchant:
            _move(tx, line, "share", source=collector, target=account, amount=share)
        _move(tx, line, "fee_charged", source=account, target=(AccountKind.FEE, line.payer), amount=kept)
        _move(tx, line, "payout", source=account, target=own, amount=share - kept)
        tx.insert(tables.clearing_payout, line_id=line.id, owner=owner, amount=share, fee=kept)


def _owners(line: Row, sums: _Sums) -> dict[str, int]:
    """Amounts of a line by owner; what is not split is the collector's."""
    found: dict[str, int] = {line.merchant: sums.amount}
    for owner, share in sums.shares.items():
        found[line.merchant] -= share
        found[owner] = found.get(owner, 0) + share
    return found


def _reference(line: Row) -> str:
    """Reference that the transfers of a line carry."""
    return f"clearing/{line.day}/{line.id}"


def _move(
    tx: Transaction,
    line: Row,
    event: str,
    *,
    source: tuple[AccountKind, str],
    target: tuple[AccountKind, str],
    amount: int,
) -> None:
    """Move a signed amount; 0 makes no transfer."""
    if amount < 0:
        source, target, amount = target, source, -amount
    if amount:
        tx.books.move(
            event, None, source=source, target=target, amount=amount, event_us=tx.now_us, reference=_reference(line)
        )


def _end(tx: Transaction, day: str, result: DayResult) -> None:
    tx.update(tables.clearing_run, {"day": day}, state="done", ended_at=tx.now_us)
    counts = ", ".join(f"{state.value} {result.states[state.value]}" for state in RowState)
    tx.note("clearing", day, "done", detail=f"{counts}; differences {len(result.differences)}")


# --- items ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _ItemNews:
    """One item to open, to open again, or to close as corrected."""

    kind: str
    ref: str
    difference: Difference | None
    """Difference found; None when it is gone."""


def _items_to_write(connection: Connection, day: str, compared: _Compared) -> Iterator[_ItemNews]:
    """Items of this day against the differences found now."""
    i, r = tables.item, tables.clearing_row
    kinds = [kind.value for kind in DifferenceKind]
    stored = {
        (row.kind, row.ref): row
        for row in connection.execute(
            select(i, r.c.payer)
            .join_from(i, r, r.c.ref == i.c.ref, isouter=True)
            .where(i.c.kind.in_(kinds), (i.c.day == day) | (i.c.state == ItemState.OPEN))
        )
    }
    current: set[tuple[str, str]] = set()
    for difference in compared.differences:
        key = (difference.kind.value, difference.ref)
        if key in current:
            continue
        current.add(key)
        known = stored.get(key)
        if known is None or known.state == ItemState.CORRECTED:
            yield _ItemNews(*key, difference)
    for key, row in stored.items():
        if row.state != ItemState.OPEN or key in current:
            continue
        payer = LANES if DifferenceKind(row.kind) in _OF_LANES else row.payer
        if row.kind == DifferenceKind.MISSING_HERE.value:
            payer = row.ref.split("/", 1)[0]
        # Gone from its own day; or the file of today brings what the file of its day had not.
        if payer in compared.payers if row.day == day else row.ref in compared.touched:
            yield _ItemNews(*key, None)


def _item_change(day: str, page: Sequence[_ItemNews]) -> Change[int]:
    def change(tx: Transaction) -> int:
        return sum(_write_item(tx, day, news) for news in page)

    return change


def _write_item(tx: Transaction, day: str, news: _ItemNews) -> bool:
    item = tx.find(tables.item, kind=news.kind, ref=news.ref)
    difference = news.difference
    if difference is None:
        if item is None or item.state != ItemState.OPEN:
            return False
        note = "no difference any more"
        set_item(tx, item, ItemState.CORRECTED, detail=note, note=note)
        return True
    if item is not None:
        if item.state != ItemState.CORRECTED:
            return False
        note = difference.note or "found again"
        set_item(tx, item, ItemState.OPEN, detail=note, note=note)
        return True
    new_item(
        tx,
        ItemState.EXPLAINED if difference.kind is DifferenceKind.OTHER_DAY else ItemState.OPEN,
        detail=f"{news.kind} {difference.amount_fen} fen",
        kind=news.kind,
        ref=news.ref,
        debit_id=difference.debit_id,
        day=day,
        amount=difference.amount_fen,
        note=difference.note or None,
    )
    return True
