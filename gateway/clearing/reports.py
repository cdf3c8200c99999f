"""Reports of a day and of its shifts, per charge point, as CSV with headings in both languages.

vehicles = paid + special + violation + unresolved: every vehicle counts once, by the newest decision about it that is
no repeat, and by where its claim stands now. Record numbers of the whole box have no gap; those of one charge point are
a selection of them, so only the range is told. The three witnesses stand side by side: what lanes let go for, what the
books released, what payers have granted so far.
"""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, time, timedelta
from itertools import islice
from pathlib import Path
from typing import Any, Final, TypeAlias

from sqlalchemy import Connection, func, select

from gateway.clearing import witnesses
from gateway.clearing.terms import Terms
from gateway.ledger import tables
from gateway.ledger.life import newest
from gateway.model.clearing import NumberRange, RowState, VehicleKind, number_range, parse_day, vehicle_kind
from gateway.model.clock import to_us
from gateway.model.passage import Funding, PassageOutcome

RECORDS_SLACK: Final = 10_000
"""Records looked at on either side of a period: a clock that was set back leaves times that do not ascend."""

PAGE: Final = 400

Decision: TypeAlias = Any
"""A row of `_decisions`."""


@dataclass(frozen=True, slots=True)
class Period:
    """A stretch of a local day, in microseconds: from the first to before the last."""

    day: str
    shift: int | None
    """Number of the shift from 1; None is the whole day."""
    begins_us: int
    ends_us: int


@dataclass(slots=True)
class Sum:
    """Count and sum in fen."""

    count: int = 0
    fen: int = 0

    def add(self, fen: int) -> None:
        """Count one more."""
        self.count += 1
        self.fen += fen


@dataclass(slots=True)
class ReportRow:
    """One charge point in one period, or all of them (`charge_point` None)."""

    period: Period
    charge_point: str | None
    vehicles: Counter[VehicleKind] = field(default_factory=Counter)
    funding: dict[Funding, Sum] = field(default_factory=lambda: {funding: Sum() for funding in Funding})
    """Claims for which vehicles were let go, by funding source."""
    records: NumberRange | None = None
    lane: Sum = field(default_factory=Sum)
    ledger: Sum = field(default_factory=Sum)
    states: dict[RowState, Sum] = field(default_factory=lambda: {state: Sum() for state in RowState})
    """Clearing rows of these vehicles' claims; cleared ones by what the payer grants, the others by our books."""

    @property
    def all_vehicles(self) -> int:
        """Number of all vehicles, each counted once."""
        return sum(self.vehicles.values())


def whole_day(day: str, terms: Terms) -> Period:
    """Period of the whole local day."""
    return Period(day, None, *terms.day_bounds(day))


def shifts_of(day: str, terms: Terms) -> list[Period]:
    """The shifts of a local day; what comes before the first start belongs to the first."""
    starts = terms.rules.shifts.starts
    begins, ends = terms.day_bounds(day)
    marks = [begins]
    for start in starts[1:]:
        hours, minutes = start.split(":")
        at = datetime.combine(parse_day(day), time(), terms.zone) + timedelta(hours=int(hours), minutes=int(minutes))
        marks.append(to_us(at))
    marks.append(ends)
    return [Period(day, number, marks[number - 1], marks[number]) for number in range(1, len(marks))]


def report(connection: Connection, period: Period) -> list[ReportRow]:
    """One row a charge point in the order of their names, and the sum of all as the last."""
    rows: dict[str, ReportRow] = {}
    whole = ReportRow(period, None)
    numbers: list[int] = []
    numbers_of: dict[str, list[int]] = {}
    standing: list[Decision] = []
    for decision in _decisions(connection, period):
        numbers.append(decision.record_no)
        numbers_of.setdefault(decision.charge_point, []).append(decision.record_no)
        if decision.outcome != PassageOutcome.REPEAT.value and not decision.superseded:
            standing.append(decision)
    for page in _pages(standing, PAGE):
        _count(connection, page, rows, whole)
    for charge_point, own in numbers_of.items():
        row = rows.setdefault(charge_point, ReportRow(period, charge_point))
        row.records = NumberRange(own[0], own[-1])
    whole.records = number_range(numbers)
    return [*(rows[name] for name in sorted(rows)), whole]


def _decisions(connection: Connection, period: Period) -> Iterator[Decision]:
    e, d = tables.decision, tables.debit
    later = e.alias()
    superseded = (
        select(later.c.record_no)
        .where(
            later.c.passage_id == e.c.passage_id,
            later.c.record_no > e.c.record_no,
            later.c.outcome != PassageOutcome.REPEAT.value,
        )
        .exists()
        .label("superseded")
    )
    first, last = _record_bounds(connection, period)
    yield from connection.execute(
        select(
            e.c.record_no,
            e.c.debit_id,
            e.c.charge_point,
            e.c.outcome,
            e.c.reason,
            e.c.funding,
            e.c.amount,
            d.c.state.label("debit_state"),
            superseded,
        )
        .outerjoin_from(e, d, d.c.id == e.c.debit_id)
        .where(e.c.record_no.between(first, last), e.c.decided_at >= period.begins_us, e.c.decided_at < period.ends_us)
        .order_by(e.c.record_no)
    )


def _record_bounds(connection: Connection, period: Period) -> tuple[int, int]:
    """Record numbers between which a period lies: they ascend with time, so a few looks find it in any ledger."""
    highest = connection.execute(select(func.max(tables.decision.c.record_no))).scalar_one() or 0
    first = _first_at(connection, period.begins_us, highest)
    last = _first_at(connection, period.ends_us, highest)
    return first - RECORDS_SLACK, last + RECORDS_SLACK


def _first_at(connection: Connection, moment_us: int, highest: int) -> int:
    e = tables.decision
    low, high = 1, highest + 1
    while low < high:
        middle = (low + high) // 2
        found = connection.execute(select(e.c.decided_at).where(e.c.record_no == middle)).scalar_one_or_none()
        if found is not None and found < moment_us:
            low = middle + 1
        else:
            high = middle
    return low


def _count(connection: Connection, page: Sequence[Decision], rows: dict[str, ReportRow], whole: ReportRow) -> None:
    debit_ids = [decision.debit_id for decision in page if decision.debit_id is not None]
    lanes = witnesses.lane_records(connection, debit_ids)
    r = tables.clearing_row
    cleared: dict[str, list[Any]] = {}
    found = connection.execute(select(r.c.debit_id, r.c.state, r.c.amount, r.c.paid).where(r.c.debit_id.in_(debit_ids)))
    for stored in found:
        cleared.setdefault(stored.debit_id, []).append(stored)
    for decision in page:
        own = rows.setdefault(decision.charge_point, ReportRow(whole.period, decision.charge_point))
        kind = vehicle_kind(decision.outcome, decision.reason, decision.debit_state)
        for row in (own, whole):
            row.vehicles[kind] += 1
            if decision.outcome in witnesses.GONE_OUTCOMES:
                row.funding[Funding(decision.funding)].add(decision.amount)
                row.lane.add(decision.amount)
            lane = lanes.get(decision.debit_id)
            if lane is not None and lane.released_fen:
                row.ledger.add(lane.released_fen)
            for part in cleared.get(decision.debit_id, ()):
                state = RowState(part.state)
                row.states[state].add(part.paid if state is RowState.CLEARED else part.amount)


# --- files ----------------------------------------------------------------------------------------------------------

_FUNDING_ZH: Final[Mapping[Funding, str]] = {
    Funding.PURSE: "储值卡",
    Funding.BANK_ONLINE: "银行联机",
    Funding.ISSUER_CLEARING: "发行方清算",
    Funding.CASH: "现金",
}
_KIND_ZH: Final[Mapping[VehicleKind, str]] = {
    VehicleKind.PAID: "已付",
    VehicleKind.ENTERED: "入口",
    VehicleKind.SPECIAL: "特情",
    VehicleKind.REFUSED: "拒绝",
    VehicleKind.VIOLATION: "违章",
    VehicleKind.UNRESOLVED: "未决",
}
_STATE_ZH: Final[Mapping[RowState, str]] = {
    RowState.CLEARED: "已清算",
    RowState.DISPUTED: "有差错",
    RowState.REJECTED: "已拒绝",
}


def _headings() -> list[str]:
    heads = ["日期 day", "班次 shift", "开始 from", "结束 to", "收费点 charge point"]
    heads += ["车辆数 vehicles", *(f"{_KIND_ZH[kind]} {kind}" for kind in VehicleKind)]
    for funding in Funding:
        heads += [f"{_FUNDING_ZH[funding]}笔数 {funding} count", f"{_FUNDING_ZH[funding]}金额(分) {funding} fen"]
    heads += ["首记录号 first record", "末记录号 last record", "缺号 missing records"]
    heads += ["车道笔数 lane count", "车道金额(分) lane fen", "账本笔数 ledger count", "账本金额(分) ledger fen"]
    for state in RowState:
        heads += [f"{_STATE_ZH[state]}笔数 {state} count", f"{_STATE_ZH[state]}金额(分) {state} fen"]
    return heads


def cells_of(row: ReportRow, terms: Terms) -> list[str | int]:
    """The cells of a row in the order of the headings; empty in the place of a whole day's shift and of all points."""
    period, records = row.period, row.records
    bounds = [
        datetime.fromtimestamp(us / 1e6, terms.zone).strftime("%Y-%m-%dT%H:%M")
        for us in (period.begins_us, period.ends_us)
    ]
    gaps = "" if records is None else " ".join(f"{a}-{b}" if a != b else f"{a}" for a, b in records.missing)
    cells: list[str | int] = [period.day, period.shift or "", *bounds, row.charge_point or ""]
    cells += [row.all_vehicles, *(row.vehicles[kind] for kind in VehicleKind)]
    for part in row.funding.values():
        cells += [part.count, part.fen]
    cells += ["", "", ""] if records is None else [records.first, records.last, gaps]
    for part in (row.lane, row.ledger, *row.states.values()):
        cells += [part.count, part.fen]
    return cells


def write_report(path: Path, rows: Iterable[ReportRow], terms: Terms, *, bom: bool) -> None:
    """One CSV; with a byte order mark where a spreadsheet is to open it."""
    _write(path, _headings(), (cells_of(row, terms) for row in rows), bom=bom)


_LINE_HEADS: Final = (
    "日期 day",
    "收款方 collector",
    "付款方 payer",
    "类型 payer kind",
    "业务 service",
    "序号 seq",
    "状态 state",
    "笔数 count",
    "应收(分) amount fen",
    "实付(分) paid fen",
    "手续费(分) fee fen",
    "净额(分) net fen",
    "规则 rules",
)
_OWNER_HEADS: Final = ("日期 day", "行 line", "付款方 payer", "业主 owner", "应分(分) share fen", "手续费(分) fee fen")
_ITEM_HEADS: Final = (
    "编号 item",
    "日期 day",
    "差错 kind",
    "对象 ref",
    "应收记录 debit",
    "差额(分) amount fen",
    "状态 state",
    "说明 note",
    "经办 actor",
    "复核 second actor",
)

_CHAIN_HEADS: Final = ("世代 life", "链 chain", "行数 rows", "最新摘要 head")


def write_clearing(folder: Path, connection: Connection, day: str, *, bom: bool) -> list[Path]:
    """Lines, owners' shares and items of a day, and the heads of the ledger's chains as they stand now: whoever keeps
    the report can prove later that nothing up to here was rewritten. Returns the files written."""
    line, payout, item = tables.clearing_line, tables.clearing_payout, tables.item
    paths = [folder / f"{name}-{day}.csv" for name in ("clearing", "owners", "items", "heads")]
    lines = connection.execute(select(line).where(line.c.day == day).order_by(line.c.id)).all()
    _write(
        paths[0],
        _LINE_HEADS,
        (
            [
                *(row.day, row.merchant, row.payer, row.payer_kind, row.service, row.seq, row.state),
                *(row.count, row.amount, row.paid, row.fee, row.paid - row.fee, row.rules_version),
            ]
            for row in lines
        ),
        bom=bom,
    )
    owners = connection.execute(
        select(line.c.day, line.c.id, line.c.payer, payout.c.owner, payout.c.amount, payout.c.fee)
        .join_from(payout, line, line.c.id == payout.c.line_id)
        .where(line.c.day == day)
        .order_by(line.c.id, payout.c.owner)
    )
    _write(paths[1], _OWNER_HEADS, (list(row) for row in owners), bom=bom)
    items = connection.execute(
        select(
            *(item.c.id, item.c.day, item.c.kind, item.c.ref, item.c.debit_id, item.c.amount, item.c.state),
            *(item.c.note, item.c.actor, item.c.second_actor),
        )
        .where(item.c.day == day)
        .order_by(item.c.id)
    )
    _write(paths[2], _ITEM_HEADS, (list(row) for row in items), bom=bom)
    life, chain = newest(connection), tables.chain
    heads = connection.execute(select(chain.c.name, chain.c.number, chain.c.digest).order_by(chain.c.name))
    of_life = None if life is None else life.number
    _write(paths[3], _CHAIN_HEADS, ([of_life, row.name, row.number, row.digest.hex()] for row in heads), bom=bom)
    return paths


def _write(path: Path, heads: Sequence[str], rows: Iterable[Sequence[Any]], *, bom: bool) -> None:
    with path.open("w", encoding="utf-8-sig" if bom else "utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(heads)
        writer.writerows(["" if cell is None else cell for cell in row] for row in rows)


def _pages(values: Iterable[Decision], size: int) -> Iterator[list[Decision]]:
    left = iter(values)
    while page := list(islice(left, size)):
        yield page
