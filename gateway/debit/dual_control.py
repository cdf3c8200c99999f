"""Dual control: one person proposes an act, and it is done when another asks for the same.

A person is an account of the machine, as `gateway.acts.actor` tells it; nobody types a name.
"""

from __future__ import annotations

from typing import Any

from gateway.debit.states import new_item, set_item
from gateway.ledger import tables
from gateway.ledger.statements import Row
from gateway.ledger.transaction import Transaction
from gateway.model.dual_control import are_two
from gateway.model.states import ItemState

WIDTH = 200
"""Longest note of an item, in characters."""


def agreed(tx: Transaction, kind: str, debit: Row, *, amount: int, actor: str, reason: str) -> Row | None:
    """Find another person's proposal to do this with this amount; None when there is none, and then it is proposed.

    `kind` is that of the item that waits for the second person; there is one for each debit.
    """
    found = proposal(tx, kind, debit.id, amount)
    if found is not None:
        return found if are_two(found.actor, actor) else None
    earlier = tx.find(tables.item, kind=kind, ref=debit.id)
    _propose(tx, kind, debit, earlier, amount=amount, actor=actor, reason=reason)
    return None


def proposal(tx: Transaction, kind: str, debit_id: str, amount: int) -> Row | None:
    """Open proposal that waits for a second person, for this amount."""
    found = tx.find(tables.item, kind=kind, ref=debit_id)
    return found if found is not None and (found.state, found.amount) == (ItemState.OPEN, amount) else None


def _propose(
    tx: Transaction, kind: str, debit: Row, earlier: Row | None, *, amount: int, actor: str, reason: str
) -> None:
    """Propose an act to a second person, anew where it was closed before or was for another amount."""
    put: dict[str, Any] = {"amount": amount, "note": reason[:WIDTH], "actor": actor}
    if earlier is None:
        new_item(tx, ItemState.OPEN, detail=kind, kind=kind, ref=debit.id, debit_id=debit.id, **put)
    else:
        set_item(tx, earlier, ItemState.OPEN, detail=kind, **put)
    tx.note("person", debit.id, kind, debit_id=debit.id, detail=reason[:400], actor=actor)
