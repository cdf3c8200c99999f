"""Books: double entry inside one database transaction.

Accounts touched by a batch are read once, changed in memory and written once when the batch ends, so the merchant's
account, which every debit touches, costs one update a batch. That is right because there is one writer.

`balance` is posted in minus posted out; a pending transfer only raises `held` of the account it will leave. So for an
obligor's `open` account, -balance is what was released and not yet paid, and `held` is what is reserved.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from gateway.ledger import tables

if TYPE_CHECKING:
    from gateway.ledger.transaction import Transaction


class AccountKind(StrEnum):
    """Kinds of account of the design: whose an account is, is its owner."""

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
    """Violation of the books' rules: a bug in the caller, nothing was written."""


@dataclass(slots=True)
class _Account:
    id: int
    kind: AccountKind
    owner: str
    balance: int
    held: int
    version: int
    changed: bool = False
    opened: bool = False
    """True when it was opened in this transaction."""


@dataclass(frozen=True, slots=True)
class _Pending:
    """Pending transfer, as far as its end needs to know it."""

    amount: int
    debit_id: str | None
    giver: int
    taker: int


_WRITTEN = ("balance", "held", "version")


class Books:
    """Books of one running transaction: its accounts and transfers."""

    def __init__(self, tx: Transaction) -> None:
        self._tx = tx
        self._accounts: dict[tuple[str, str], _Account] = {}
        """Accounts by kind and owner. A kind's text is hashed much faster than the kind."""
        self._by_id: dict[int, _Account] = {}
        self._begun: dict[int, _Pending] = {}
        """Pending transfers seen so far. They never change; the database checks whether they have ended: only one
        transfer can name a pending one as its own."""

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
        number = self._insert("pending", event, debit_id, giver, taker, amount=amount, event_us=event_us)
        self._begun[number] = _Pending(amount, debit_id, giver.id, taker.id)
        return number

    def post(self, pending_id: int, event: str, *, amount: int | None = None, event_us: int) -> int:
        """Make a pending transfer final for its whole amount or a part; the rest is free again."""
        pending = self._pending(pending_id)
        moved = pending.amount if amount is None else amount
        if not 0 <= moved <= pending.amount:
            raise BooksError(f"posting {moved} fen of a hold of {pending.amount} fen (transfer {pending_id})")
        giver, taker = self._known(pending.giver), self._known(pending.taker)
        giver.held -= pending.amount
        giver.balance -= moved
        taker.balance += moved
        giver.changed = taker.changed = True
        return self._insert(
            "post", event, pending.debit_id, giver, taker, amount=moved, event_us=event_us, pending_id=pending_id
        )

    def void(self, pending_id: int, event: str, *, event_us: int) -> int:
        """Free a pending transfer: nothing moved."""
        return self._free("void", pending_id, event, event_us)

    def expire(self, pending_id: int, event: str, *, event_us: int) -> int:
        """Free a pending transfer whose time is over: nothing moved."""
        return self._free("expire", pending_id, event, event_us)

    def move(
        self,
        event: str,
        debit_id: str | None,
        *,
        source: tuple[AccountKind, str],
        target: tuple[AccountKind, str],
        amount: int,
        event_us: int,
        attempt_id: str | None = None,
        original_id: int | None = None,
        reference: str | None = None,
    ) -> int:
        """Move `amount` fen at once.

        `original_id` is the transfer that this one corrects, refunds or adds to; `reference` what a transfer without a
        debit belongs to.
        """
        giver, taker = self._account(*source), self._account(*target)
        giver.balance -= amount
        taker.balance += amount
        giver.changed = taker.changed = True
        return self._insert(
            "direct",
            event,
            debit_id,
            giver,
            taker,
            amount=amount,
            event_us=event_us,
            attempt_id=attempt_id,
            original_id=original_id,
            reference=reference,
        )

    def reserved(self, pending_id: int) -> int:
        """Fen that a pending transfer reserves."""
        return self._pending(pending_id).amount

    def balance(self, kind: AccountKind, owner: str) -> int:
        """Posted fen, this transaction's own moves included."""
        found = self._stored(kind, owner)
        return 0 if found is None else found.balance

    def held(self, kind: AccountKind, owner: str) -> int:
        """Reserved fen, this transaction's own holds included."""
        found = self._stored(kind, owner)
        return 0 if found is None else found.held

    def flush(self) -> None:
        """Write every changed account once, in id order so that two writers on one server cannot deadlock."""
        stored = []
        for account in sorted((a for a in self._by_id.values() if a.changed), key=_id_of):
            values = {"balance": account.balance, "held": account.held, "version": account.version + 1}
            if account.opened:
                self._tx.update(tables.account, {"id": account.id}, **values)
            else:
                stored.append({"id": account.id, **values})
        if stored:
            self._tx.update_many(tables.account, "id", _WRITTEN, stored)

    def close(self) -> None:
        """Forget all accounts and transfers, so that nothing a long run keeps holds its transactions alive."""
        del self._tx
        self._accounts.clear()
        self._by_id.clear()
        self._begun.clear()

    def _account(self, kind: AccountKind, owner: str) -> _Account:
        """Account that money moves on; opened when there is none yet."""
        found = self._stored(kind, owner)
        if found is None:
            found = self._open(kind, owner)
            self._accounts[kind._value_, owner] = self._by_id[found.id] = found
        return found

    def _stored(self, kind: AccountKind, owner: str) -> _Account | None:
        known = self._accounts.get((kind._value_, owner))
        if known is not None:
            return known
        row = self._tx.find(tables.account, kind=kind.value, owner=owner)
        if row is None:
            return None
        # The same account may have come in by id before. One opened in this transaction is known already.
        loaded = self._by_id.get(row.id) or _Account(row.id, kind, owner, row.balance, row.held, row.version)
        self._accounts[kind._value_, owner] = self._by_id[loaded.id] = loaded
        return loaded

    def _open(self, kind: AccountKind, owner: str) -> _Account:
        """Open a new account. Its row is gathered now, so that transfers find their account, and filled at the end."""
        number = self._tx.row_id(tables.account)
        self._tx.insert(tables.account, id=number, kind=kind.value, owner=owner, balance=0, held=0, version=0)
        return _Account(number, kind, owner, 0, 0, 0, opened=True)

    def _known(self, account_id: int) -> _Account:
        known = self._by_id.get(account_id)
        if known is None:
            row = self._tx.find(tables.account, id=account_id)
            if row is None:
                raise BooksError(f"there is no account {account_id}")
            known = _Account(row.id, AccountKind(row.kind), row.owner, row.balance, row.held, row.version)
            self._by_id[account_id] = self._accounts[known.kind._value_, known.owner] = known
        return known

    def _pending(self, pending_id: int) -> _Pending:
        begun = self._begun.get(pending_id)
        if begun is not None:
            return begun
        row = self._tx.find(tables.transfer, id=pending_id, phase="pending")
        if row is None:
            raise BooksError(f"transfer {pending_id} is not a pending transfer")
        found = self._begun[pending_id] = _Pending(row.amount, row.debit_id, row.from_account, row.to_account)
        return found

    def _free(self, phase: str, pending_id: int, event: str, event_us: int) -> int:
        pending = self._pending(pending_id)
        giver, taker = self._known(pending.giver), self._known(pending.taker)
        giver.held -= pending.amount
        giver.changed = True
        return self._insert(
            phase,
            event,
            pending.debit_id,
            giver,
            taker,
            amount=pending.amount,
            event_us=event_us,
            pending_id=pending_id,
        )

    def _insert(
        self,
        phase: str,
        event: str,
        debit_id: str | None,
        giver: _Account,
        taker: _Account,
        *,
        amount: int,
        event_us: int,
        pending_id: int | None = None,
        attempt_id: str | None = None,
        original_id: int | None = None,
        reference: str | None = None,
    ) -> int:
        if amount < 0:
            raise BooksError(f"a transfer of {amount} fen: amounts are never negative, turn the accounts round")
        return self._tx.insert_chained(
            tables.transfer,
            phase=phase,
            event=event,
            debit_id=debit_id,
            attempt_id=attempt_id,
            from_account=giver.id,
            to_account=taker.id,
            amount=amount,
            pending_id=pending_id,
            original_id=original_id,
            reference=reference,
            event_at=event_us,
            booked_at=self._tx.now_us,
        )


def _id_of(account: _Account) -> int:
    return account.id
