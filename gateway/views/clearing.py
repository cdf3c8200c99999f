"""A cleared day: files of the banks, lines with what they settled, rows by state, items."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Connection, func, select

from gateway.ledger import tables
from gateway.model.states import ItemState
from gateway.views.items import ItemSum, item_sums
from gateway.views.rows import view_of

_run, _file, _line, _row = tables.clearing_run, tables.bank_file, tables.clearing_line, tables.clearing_row


@dataclass(frozen=True, slots=True)
class Run:
    """The clearing of a day; `ended_us` is None while it runs, or was cut short."""

    state: str
    rules_version: str
    ended_us: int | None


@dataclass(frozen=True, slots=True)
class BankFile:
    """A bank's day file; `net_fen`: what it books less what it takes back."""

    bank: str
    name: str
    digest: str
    lines: int
    net_fen: int
    state: str
    imported_us: int


@dataclass(frozen=True, slots=True)
class Line:
    """Settlement of one payer with one collector for one service: `paid_fen` is granted, `fee_fen` kept back."""

    line: int
    collector: str
    payer: str
    payer_kind: str
    service: str
    seq: int
    state: str
    count: int
    amount_fen: int
    paid_fen: int
    fee_fen: int

    @property
    def net_fen(self) -> int:
        """Amount that is settled."""
        return self.paid_fen - self.fee_fen


@dataclass(frozen=True, slots=True)
class Group:
    """Rows of one collector, payer and service in one state."""

    collector: str
    payer: str
    service: str
    state: str
    count: int
    amount_fen: int
    paid_fen: int


@dataclass(frozen=True, slots=True)
class Day:
    """Clearing of a day (YYYYMMDD), all that is stored; `run` is None before the first."""

    day: str
    run: Run | None
    files: tuple[BankFile, ...]
    lines: tuple[Line, ...]
    groups: tuple[Group, ...]
    items: tuple[ItemSum, ...]

    @property
    def open_items(self) -> int:
        """Items somebody must still see to."""
        return sum(item.count for item in self.items if item.state == ItemState.OPEN)


def day_of(connection: Connection, day: str) -> Day:
    """Read one day."""
    run = connection.execute(select(_run).where(_run.c.day == day)).one_or_none()
    files = connection.execute(select(_file).where(_file.c.day == day).order_by(_file.c.id))
    lines = connection.execute(select(_line).where(_line.c.day == day).order_by(_line.c.id))
    key = (_row.c.merchant, _row.c.payer, _row.c.service, _row.c.state)
    groups = connection.execute(
        select(*key, func.count(), func.sum(_row.c.amount), func.sum(_row.c.paid))
        .where(_row.c.day == day)
        .group_by(*key)
        .order_by(*key)
    )
    return Day(
        day,
        None if run is None else view_of(Run, run),
        tuple(view_of(BankFile, file, net_fen=file.amount) for file in files),
        tuple(view_of(Line, line, line=line.id, collector=line.merchant) for line in lines),
        tuple(Group(*group) for group in groups),
        item_sums(connection, day),
    )
