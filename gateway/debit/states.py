"""Rows of the debit engine: found, begun and moved to another state here, and journalled with every change.

What may follow what is a table of `gateway.model.states` for each noun. A move that its table does not know raises
`StateRefused` and leaves the row as it was.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import Table, bindparam, select, update

from gateway.ledger import tables
from gateway.ledger.statements import Row
from gateway.ledger.transaction import Transaction
from gateway.model.states import (
    LISTED_ITEMS,
    OPEN_PURCHASES,
    UNRESOLVED,
    AttemptState,
    DebitState,
    ItemState,
    OrderState,
    PurchaseState,
    RefundState,
    SaleState,
    check_move,
)

State = DebitState | AttemptState | PurchaseState | RefundState | ItemState | SaleState | OrderState

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
    .where(tables.item.c.kind == CONTRADICTED, tables.item.c.state == ItemState.OPEN)
    .limit(1)
)
_INTENTS_UNKNOWN = (
    update(tables.purchase)
    .where(tables.one_of(tables.purchase.c.state, *OPEN_PURCHASES), tables.purchase.c.state == PurchaseState.INTENT)
    .values(state=PurchaseState.UNKNOWN.value, changed_at=bindparam("now"))
)
_s = tables.sale
_NEWEST_AT_NOZZLE = (
    select(_s.c.created_at)
    .where(
        _s.c.charge_point == bindparam("charge_point"),
        _s.c.side == bindparam("side"),
        _s.c.nozzle == bindparam("nozzle"),
    )
    .order_by(_s.c.created_at.desc())
    .limit(1)
)


def sale_row(tx: Transaction, sale_id: str) -> Row:
    """Read one sale as it stands in this transaction."""
    return _one(tx.find(tables.sale, id=sale_id), f"sale {sale_id}")


def add_sale(tx: Transaction, sale_id: str, state: SaleState, *, debit_id: str | None, **values: Any) -> None:  # noqa: ANN401 - columns
    """Begin a sale of fuel: what a pump may be told to deliver, or a delivery that was found.

    A clock that was set back does not put it before the sales that its nozzle has had.
    """
    newest = tx.rows(_NEWEST_AT_NOZZLE, **{name: values[name] for name in ("charge_point", "side", "nozzle")})
    created_at = max([tx.now_us, *(row.created_at + 1 for row in newest)])
    _add(tx, tables.sale, sale_id, state, debit_id=debit_id, created_at=created_at, **values)
    tx.note("sale", sale_id, state.value, debit_id=debit_id)


def set_sale(
    tx: Transaction,
    row: Row,
    state: SaleState,
    *,
    detail: str | None = None,
    by: str | None = None,
    **values: Any,  # noqa: ANN401 - columns
) -> None:
    """Move a sale to another state; `row` is how it stood before, `by` the person whose word moves it."""
    _set(tx, tables.sale, row, state, **values)
    tx.note("sale", row.id, state.value, debit_id=row.debit_id, detail=detail, actor=by)


def add_order(tx: Transaction, order_id: str, *, by: str, why: str, **values: Any) -> None:  # noqa: ANN401 - columns
    """Begin a person's order to a pump."""
    _add(tx, tables.pump_order, order_id, OrderState.GIVEN, **values)
    tx.note("pump_order", order_id, OrderState.GIVEN.value, detail=why, actor=by)


def set_order(tx: Transaction, row: Row, state: OrderState, **values: Any) -> None:  # noqa: ANN401 - columns
    """Move an order to another state; `row` is how it stood before."""
    _set(tx, tables.pump_order, row, state, **values)
    tx.note("pump_order", row.id, state.value, detail=values.get("reason"))


def debit_row(tx: Transaction, debit_id: str) -> Row:
    """Read one debit as it stands in this transaction."""
    return _one(tx.find(tables.debit, id=debit_id), f"debit {debit_id}")


def add_debit(tx: Transaction, debit_id: str, state: DebitState, **values: Any) -> None:  # noqa: ANN401 - columns
    """Begin a debit."""
    _add(tx, tables.debit, debit_id, state, **values)
    tx.note("debit", debit_id, state.value, debit_id=debit_id)


def set_debit(tx: Transaction, row: Row, state: DebitState, *, detail: str | None = None, **values: Any) -> None:  # noqa: ANN401 - columns
    """Move a debit to another state; `row` is how it stood before."""
    _set(tx, tables.debit, row, state, **values)
    tx.note("debit", row.id, state.value, debit_id=row.id, detail=detail)


def attempt_row(tx: Transaction, attempt_id: str) -> Row:
    """Read one attempt as it stands in this transaction."""
    return _one(tx.find(tables.attempt, id=attempt_id), f"attempt {attempt_id}")


def add_attempt(tx: Transaction, attempt_id: str, *, debit_id: str, kind: str, **values: Any) -> None:  # noqa: ANN401 - columns
    """Begin an attempt: stored before it leaves."""
    _add(tx, tables.attempt, attempt_id, AttemptState.STORED, debit_id=debit_id, kind=kind, **values)
    tx.note("attempt", attempt_id, AttemptState.STORED.value, debit_id=debit_id, detail=kind)


def set_attempt(tx: Transaction, row: Row, state: AttemptState, **values: Any) -> None:  # noqa: ANN401 - columns
    """Move an attempt to another state; `row` is how it stood before."""
    _set(tx, tables.attempt, row, state, **values)
    if state != row.state:
        tx.note("attempt", row.id, state.value, debit_id=row.debit_id, detail=values.get("response_code"))


def add_purchase(tx: Transaction, purchase_id: str, **values: Any) -> None:  # noqa: ANN401 - columns
    """Begin a purchase: what the card is about to be asked for."""
    _add(tx, tables.purchase, purchase_id, PurchaseState.INTENT, **values)


def set_purchase(tx: Transaction, row: Row, state: PurchaseState, **values: Any) -> None:  # noqa: ANN401 - columns
    """Move a purchase to another state; `row` is how it stood before."""
    _set(tx, tables.purchase, row, state, **values)


def intents_unknown(tx: Transaction) -> None:
    """Move all purchases that an earlier run left without an answer to unknown."""
    check_move("purchase", "of an earlier run", PurchaseState.INTENT, PurchaseState.UNKNOWN)
    tx.execute(_INTENTS_UNKNOWN, now=tx.now_us)


def add_refund(tx: Transaction, refund_id: str, *, debit_id: str, detail: str, by: str, **values: Any) -> None:  # noqa: ANN401 - columns
    """Begin a refund that was decided."""
    _add(tx, tables.refund, refund_id, RefundState.DECIDED, debit_id=debit_id, **values)
    tx.note("refund", refund_id, RefundState.DECIDED.value, debit_id=debit_id, detail=detail, actor=by)


def set_refund(tx: Transaction, row: Row, state: RefundState, *, detail: str) -> None:
    """Move a refund to another state; `row` is how it stood before."""
    _set(tx, tables.refund, row, state)
    tx.note("refund", row.id, state.value, debit_id=row.debit_id, detail=detail)


def in_doubt(tx: Transaction, debit_id: str) -> bool:
    """True when the end of an attempt of this debit is open: its bank has yet to say it, has said both, or said it in a
    part of the ledger that was lost."""
    unresolved = tx.first(_UNRESOLVED_OF_DEBIT, debit=debit_id) is not None
    return unresolved or contradicted(tx, debit_id) or outcome_lost(tx, debit_id)


def outcome_lost(tx: Transaction, ref: str) -> bool:
    """True when a claim or refund may have ended in a lost part of the ledger, and nobody has found out yet."""
    if tx.life is None or not tx.life.adopted_at:
        return False
    item = tx.find(tables.item, kind=LOST, ref=ref)
    return item is not None and item.state == ItemState.OPEN


def contradicted(tx: Transaction, debit_id: str) -> bool:
    """True when a bank has said two opposite things about an attempt of this debit, and nobody has found out since."""
    return tx.first(_CONTRADICTED_OF_DEBIT, debit=debit_id) is not None


def has_open_item(tx: Transaction, kind: str, ref: str) -> bool:
    """True while people have to work on this item."""
    item = tx.find(tables.item, kind=kind, ref=ref)
    return item is not None and item.state == ItemState.OPEN


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
    """Open an item for a difference that people must explain; once per kind and `ref` (default: the debit).

    `again`: it can happen once more after it was put right, and its item is opened once more then.
    """
    about = debit_id if ref is None else ref
    known = tx.find(tables.item, kind=kind, ref=about)
    if known is None:
        new_item(tx, ItemState.OPEN, detail=kind, kind=kind, ref=about, debit_id=debit_id, amount=amount, note=note)
    elif again and known.state == ItemState.CORRECTED:
        set_item(tx, known, ItemState.OPEN, detail=kind, note=note)


def close_item(
    tx: Transaction,
    kind: str,
    ref: str,
    state: ItemState = ItemState.CORRECTED,
    *,
    note: str,
    actor: str | None = None,
) -> None:
    """Close an item; nothing when there is none open."""
    row = tx.find(tables.item, kind=kind, ref=ref)
    if row is not None and row.state in LISTED_ITEMS:
        set_item(tx, row, state, detail=note[:400], by=actor, note=note[:200], actor=actor)


def new_item(tx: Transaction, state: ItemState, *, detail: str, debit_id: str | None, **values: Any) -> None:  # noqa: ANN401 - columns
    """Insert an item that is not there yet."""
    number = tx.row_id(tables.item)
    _add(tx, tables.item, number, state, debit_id=debit_id, **values)
    tx.note("item", str(number), state.value, debit_id=debit_id, detail=detail)


def set_item(
    tx: Transaction,
    row: Row,
    state: ItemState,
    *,
    detail: str,
    by: str | None = None,
    **values: Any,  # noqa: ANN401 - columns
) -> None:
    """Move an item to another state; `row` is how it stood before, `by` the person whose word moves it.

    Whoever proposed or said something about an item has said nothing about it once it is opened anew.
    """
    nobody = {"actor": None, "second_actor": None} if state is ItemState.OPEN else {}
    _set(tx, tables.item, row, state, **{**nobody, **values})
    tx.note("item", str(row.id), state.value, debit_id=row.debit_id, detail=detail, actor=by)


def _add(tx: Transaction, table: Table, row_id: str | int, state: State, **values: Any) -> None:  # noqa: ANN401 - columns
    check_move(table.name, row_id, None, state)
    made = {"created_at": tx.now_us, **values}
    tx.insert(table, id=row_id, state=state.value, changed_at=tx.now_us, **made)


def _set(tx: Transaction, table: Table, row: Row, state: State, **values: Any) -> None:  # noqa: ANN401 - columns
    check_move(table.name, row.id, row.state, state)
    tx.update(table, {"id": row.id}, state=state.value, changed_at=tx.now_us, **values)


def _one(row: Row | None, what: str) -> Row:
    """Read a row that a foreign key promises."""
    if row is None:
        raise LookupError(f"the ledger has no {what}")
    return row
