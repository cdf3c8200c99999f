"""Double entry inside one database transaction.

Accounts touched by a batch are read once, changed in memory and written once when the batch ends, so the merchant's
account, which every debit touches, costs one update a batch. That is right because there is one writer.

`balance` is posted in minus posted out; a pending transfer only raises `held` of the account it will leave. So for an
obligor's `open` account, -balance is what was released and not yet paid, and `held` is what is reserved.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from sqlalchemy import Connection, Row, bindparam, update

from gateway.ledger import tables
from gateway.ledger.statements import find_row, insert_row


class AccountKind(StrEnum):
    """Accounts of the design: who or what an account belongs to is its owner."""

    OPEN = "open"
    DEBT = "debt"
    DUE_BACK = "due_back"
    MERCHANT = "merchant"
    ISSUER = "issuer"
    BANK = "bank"
    SUSPENSE = "suspense"
    SETTLEMENT = "settlement"
    TILL = "till"
    FEE = "fee"
    INCENTIVE = "incentive"
    LOSS = "loss"


class BooksError(Exception):
    """The books would stop being true: a bug in the caller, nothing was written."""


@dataclass(slots=True)
class _Account:
    id: int
    balance: int
    held: int
    version: int
    changed: bool = False


_WRITE = (
    update(tables.account)
    .where(tables.account.c.id == bindparam("account_id"))
    .values(balance=bindparam("new_balance"), held=bindparam("new_held"), version=bindparam("new_version"))
)


class Books:
    """Accounts and transfers of one running transaction."""

    def __init__(self, connection: Connection, now_us: int) -> None:
        self._connection = connection
        self._now_us = now_us
        self._accounts: dict[tuple[AccountKind, str], _Account] = {}
        self._by_id: dict[int, _Account] = {}

    def hold(
        self,
        event: str,
        debit_id: str,
        *,
        source: tuple[AccountKind, str],
        target: tuple[AccountKind, str],
        amount: int,
        event_us: int,
    ) -> int:
        """Reserve `amount` fen; returns the id of the pending transfer."""
        giver, taker = self._account(*source), self._account(*target)
        giver.held += amount
        giver.changed = True
        return self._insert("pending", event, debit_id, giver, taker, amount=amount, event_us=event_us)

    def post(self, pending_id: int, event: str, *, amount: int | None = None, event_us: int) -> int:
        """Make a pending transfer final for its whole amount or a part; the rest is free again."""
        row = self._pending(pending_id)
        moved = row.amount if amount is None else amount
        if not 0 <= moved <= row.amount:
            raise BooksError(f"posting {moved} fen of a hold of {row.amount} fen (transfer {pending_id})")
        giver, taker = self._known(row.from_account), self._known(row.to_account)
        giver.held -= row.amount
        giver.balance -= moved
        taker.balance += moved
        giver.changed = taker.changed = True
        return self._insert(
            "post", event, row.debit_id, giver, taker, amount=moved, event_us=event_us, pending_id=pending_id
        )

    def void(self, pending_id: int, event: str, *, event_us: int) -> int:
        """Free a pending transfer: nothing moved."""
        row = self._pending(pending_id)
        giver, taker = self._known(row.from_account), self._known(row.to_account)
        giver.held -= row.amount
        giver.changed = True
        return self._insert(
            "void", event, row.debit_id, giver, taker, amount=row.amount, event_us=event_us, pending_id=pending_id
        )

    def move(
        self,
        event: str,
        debit_id: str,
        *,
        source: tuple[AccountKind, str],
        target: tuple[AccountKind, str],
        amount: int,
        event_us: int,
        attempt_id: str | None = None,
    ) -> int:
        """Move `amount` fen at once."""
        giver, taker = self._account(*source), self._account(*target)
        giver.balance -= amount
        taker.balance += amount
        giver.changed = taker.changed = True
        return self._insert(
            "direct", event, debit_id, giver, taker, amount=amount, event_us=event_us, attempt_id=attempt_id
        )

    def balance(self, kind: AccountKind, owner: str) -> int:
        """Posted fen, this transaction's own moves included."""
        return self._account(kind, owner).balance

    def held(self, kind: AccountKind, owner: str) -> int:
        """Reserved fen, this transaction's own holds included."""
        return self._account(kind, owner).held

    def flush(self) -> None:
        """Write every changed account once, in id order so that two writers on one server cannot deadlock."""
        changed = sorted((a for a in self._by_id.values() if a.changed), key=lambda a: a.id)
        if not changed:
            return
        self._connection.execute(
            _WRITE,
            [
                {"account_id": a.id, "new_balance": a.balance, "new_held": a.held, "new_version": a.version + 1}
                for a in changed
            ],
        )

    def _account(self, kind: AccountKind, owner: str) -> _Account:
        known = self._accounts.get((kind, owner))
        if known is not None:
            return known
        row = find_row(self._connection, tables.account, kind=kind.value, owner=owner)
        if row is None:
            number = insert_row(
                self._connection, tables.account, kind=kind.value, owner=owner, balance=0, held=0, version=0
            )
            loaded = _Account(number, 0, 0, 0)
        else:
            # The same account may have come in by id before.
            loaded = self._by_id.get(row.id) or _Account(row.id, row.balance, row.held, row.version)
        self._accounts[kind, owner] = self._by_id[loaded.id] = loaded
        return loaded

    def _known(self, account_id: int) -> _Account:
        known = self._by_id.get(account_id)
        if known is None:
            row = find_row(self._connection, tables.account, id=account_id)
            if row is None:
                raise BooksError(f"there is no account {account_id}")
            known = self._by_id[account_id] = _Account(row.id, row.balance, row.held, row.version)
            self._accounts[AccountKind(row.kind), row.owner] = known
        return known

    def _pending(self, pending_id: int) -> Row[Any]:
        row = find_row(self._connection, tables.transfer, id=pending_id, phase="pending")
        if row is None:
            raise BooksError(f"transfer {pending_id} is not a pending transfer")
        return row

    def _insert(
        self,
        phase: str,
        event: str,
        debit_id: str,
        giver: _Account,
        taker: _Account,
        *,
        amount: int,
        event_us: int,
        pending_id: int | None = None,
        attempt_id: str | None = None,
    ) -> int:
        if amount < 0:
            raise BooksError(f"a transfer of {amount} fen: amounts are never negative, turn the accounts round")
        return insert_row(
            self._connection,
            tables.transfer,
            phase=phase,
            event=event,
            debit_id=debit_id,
            attempt_id=attempt_id,
            from_account=giver.id,
            to_account=taker.id,
            amount=amount,
            pending_id=pending_id,
            event_at=event_us,
            booked_at=self._now_us,
        )
