"""Accounts with their balances, and the transfers between them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, NamedTuple

from sqlalchemy import Connection, case, func, null, select

from gateway.ledger import tables
from gateway.ledger.books import AccountKind
from gateway.views.rows import view_of

OF_OBLIGORS: Final = (AccountKind.OPEN, AccountKind.DEBT, AccountKind.DUE_BACK)
"""Kinds with one account for each payer: summed up, because a busy box has many thousands of them."""

OBLIGOR_ID_LENGTH: Final = 32

_a, _t = tables.account, tables.transfer


class AccountName(NamedTuple):
    """Kind and owner of an account."""

    kind: str
    owner: str

    def __str__(self) -> str:
        return f"{self.kind}:{self.owner}"

    @property
    def short(self) -> str:
        """`open:..4a6dbe` for a payer's account, whose owner is a long random id."""
        return f"{self.kind}:..{self.owner[-6:]}" if len(self.owner) == OBLIGOR_ID_LENGTH else str(self)


@dataclass(frozen=True, slots=True)
class Balance:
    """Balance of the account of one owner, or (`owner` None) of those of all payers together."""

    kind: str
    owner: str | None
    owners: int
    balance_fen: int
    held_fen: int


def balances(connection: Connection, *, apart: bool) -> tuple[Balance, ...]:
    """Accounts in the order of `AccountKind`, then of owners; those of payers as one sum a kind unless `apart`."""
    owner = _a.c.owner if apart else case((_a.c.kind.in_(OF_OBLIGORS), null()), else_=_a.c.owner)
    rows = connection.execute(
        select(_a.c.kind, owner, func.count(), func.sum(_a.c.balance), func.sum(_a.c.held)).group_by(_a.c.kind, owner)
    )
    order = {kind.value: number for number, kind in enumerate(AccountKind)}
    found = (Balance(*row) for row in rows)
    return tuple(sorted(found, key=lambda b: (order.get(b.kind, len(order)), b.owner or "")))


@dataclass(frozen=True, slots=True)
class Transfer:
    """One move between two accounts; names as in `gateway.ledger.tables.transfer`."""

    transfer_id: int
    phase: str
    event: str
    source: AccountName
    target: AccountName
    amount_fen: int
    pending_id: int | None
    attempt_id: str | None
    original_id: int | None
    reference: str | None
    event_us: int
    booked_us: int


def transfers_of(connection: Connection, debit_id: str) -> tuple[Transfer, ...]:
    """A debit's transfers, oldest first."""
    source, target = _a.alias("source"), _a.alias("target")
    query = (
        select(_t, source.c.kind.label("source_kind"), source.c.owner.label("source_owner"))
        .add_columns(target.c.kind.label("target_kind"), target.c.owner.label("target_owner"))
        .join_from(_t, source, source.c.id == _t.c.from_account)
        .join(target, target.c.id == _t.c.to_account)
        .where(_t.c.debit_id == debit_id)
        .order_by(_t.c.id)
    )
    return tuple(
        view_of(
            Transfer,
            row,
            transfer_id=row.id,
            source=AccountName(row.source_kind, row.source_owner),
            target=AccountName(row.target_kind, row.target_owner),
        )
        for row in connection.execute(query)
    )
