"""Rows of the debit engine and their states: read here, changed here, and journalled with every change.

debit    held -> released -> funded | owed;  owed -> funded | debt;  debt -> recovered | written_off;  held -> voided
attempt  see `gateway.debit.attempts`
item     open -> explained | corrected | written_off
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import bindparam, select

from gateway.ledger import tables
from gateway.ledger.statements import Row
from gateway.ledger.transaction import Transaction

AWAITED = ("stored", "unknown", "reversing")
"""States of an attempt about which a bank is asked, or will be. An approval that came late keeps one open, too."""

UNRESOLVED = (*AWAITED, "disputed")
"""States of an attempt whose end is not known. A disputed one is not asked about: people and the day file end it."""

DIFFERS, CONTRADICTED, DISPUTED = "answer_differs", "answer_contradicted", "attempt_disputed"
"""Kinds of items about an attempt (`ref`): an answer says something else than was asked; a second final answer says the
opposite of the first; the attempt is disputed."""

LOST = "outcome_lost"
"""Kind of the item of a claim or refund (`ref`) that was open in a ledger that had lost its newest part, and may have
ended there."""

_UNRESOLVED_OF_DEBIT = (
    select(tables.attempt.c.id)
    .where(tables.attempt.c.debit_id == bindparam("debit"), tables.attempt.c.state.in_(UNRESOLVED))
    .limit(1)
)
_CONTRADICTED_OF_DEBIT = (
    select(tables.item.c.id)
    .join(tables.attempt, tables.attempt.c.id == tables.item.c.ref)
    .where(tables.attempt.c.debit_id == bindparam("debit"))
    .where(tables.item.c.kind == CONTRADICTED, tables.item.c.state == "open")
    .limit(1)
)


def debit_row(tx: Transaction, debit_id: str) -> Row:
    """One debit as it stands in this transaction."""
    return _one(tx.find(tables.debit, id=debit_id), f"debit {debit_id}")


def set_debit(tx: Transaction, debit_id: str, state: str, *, detail: str | None = None, **values: Any) -> None:  # noqa: ANN401 - columns
    """Move a debit to another state."""
    tx.update(tables.debit, {"id": debit_id}, state=state, changed_at=tx.now_us, **values)
    tx.note("debit", debit_id, state, debit_id=debit_id, detail=detail)


def attempt_row(tx: Transaction, attempt_id: str) -> Row:
    """One attempt as it stands in this transaction."""
    return _one(tx.find(tables.attempt, id=attempt_id), f"attempt {attempt_id}")


def set_attempt(tx: Transaction, row: Row, state: str, **values: Any) -> None:  # noqa: ANN401 - columns
    """Move an attempt to another state; `row` is how it stood before."""
    tx.update(tables.attempt, {"id": row.id}, state=state, changed_at=tx.now_us, **values)
    if state != row.state:
        tx.note("attempt", row.id, state, debit_id=row.debit_id, detail=values.get("response_code"))


def in_doubt(tx: Transaction, debit_id: str) -> bool:
    """Whether it is open what became of an attempt of this debit: its bank has yet to say it, has said both, or said
    it in a part of the ledger that was lost."""
    unresolved = tx.first(_UNRESOLVED_OF_DEBIT, debit=debit_id) is not None
    return unresolved or contradicted(tx, debit_id) or outcome_lost(tx, debit_id)


def outcome_lost(tx: Transaction, ref: str) -> bool:
    """Whether a claim or refund may have ended in a part of the ledger that was lost, and nobody has found out yet."""
    if tx.life is None or not tx.life.adopted_at:
        return False
    item = tx.find(tables.item, kind=LOST, ref=ref)
    return item is not None and item.state == "open"


def contradicted(tx: Transaction, debit_id: str) -> bool:
    """Whether a bank has said two opposite things about an attempt of this debit, and nobody has found out since."""
    return tx.first(_CONTRADICTED_OF_DEBIT, debit=debit_id) is not None


def has_open_item(tx: Transaction, kind: str, ref: str) -> bool:
    """Whether people still have to see to this."""
    item = tx.find(tables.item, kind=kind, ref=ref)
    return item is not None and item.state == "open"


def add_item(
    tx: Transaction,
    kind: str,
    debit_id: str,
    note: str,
    *,
    ref: str | None = None,
    amount: int = 0,
    again: bool = False,
) -> None:
    """Put a difference on the list people work through; once per kind and `ref` (default: the debit).

    `again`: it can happen once more after it was put right, and its item is opened once more then.
    """
    about = debit_id if ref is None else ref
    known = tx.find(tables.item, kind=kind, ref=about)
    if known is not None:
        if again and known.state == "corrected":
            tx.update(tables.item, {"id": known.id}, state="open", note=note, actor=None, changed_at=tx.now_us)
            tx.note("item", str(known.id), "open", debit_id=debit_id, detail=kind)
        return
    number = tx.row_id(tables.item)
    tx.insert(
        tables.item,
        id=number,
        kind=kind,
        ref=about,
        debit_id=debit_id,
        amount=amount,
        state="open",
        note=note,
        created_at=tx.now_us,
        changed_at=tx.now_us,
    )
    tx.note("item", str(number), "open", debit_id=debit_id, detail=kind)


def close_item(tx: Transaction, kind: str, ref: str, state: str, *, note: str, actor: str | None = None) -> None:
    """End a difference; nothing when there is none open."""
    row = tx.find(tables.item, kind=kind, ref=ref)
    if row is None or row.state not in ("open", "explained"):
        return
    tx.update(tables.item, {"id": row.id}, state=state, note=note[:200], actor=actor, changed_at=tx.now_us)
    tx.note("item", str(row.id), state, debit_id=row.debit_id, detail=note[:400], actor=actor)


def _one(row: Row | None, what: str) -> Row:
    """A row that a foreign key promises."""
    if row is None:
        raise LookupError(f"the ledger has no {what}")
    return row
