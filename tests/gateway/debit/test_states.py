"""Each noun has one function that moves its rows, and it makes the moves of its table alone."""

from types import SimpleNamespace

import pytest

from gateway.debit import states as rows
from gateway.model.states import (
    MOVES,
    AttemptState,
    DebitState,
    ItemState,
    PurchaseState,
    RefundState,
    StateRefused,
)

MOVERS = {
    "debit": (DebitState, rows.set_debit, {}),
    "attempt": (AttemptState, rows.set_attempt, {}),
    "purchase": (PurchaseState, rows.set_purchase, {}),
    "refund": (RefundState, rows.set_refund, {"detail": "told"}),
    "item": (ItemState, rows.set_item, {"detail": "told"}),
}


class Written:
    """Takes down what is written."""

    now_us = 5

    def __init__(self):
        self.updates, self.inserts, self.notes = [], [], []

    def update(self, table, where, **values):
        self.updates.append((table.name, where, values))

    def insert(self, table, **values):
        self.inserts.append((table.name, values))

    def note(self, kind, ref, event, **_):
        self.notes.append((kind, ref, event))

    def row_id(self, _table):
        return 1


def row_in(noun, state):
    values = {"id": "x", "state": state} if noun == "debit" else {"id": "x", "debit_id": "d", "state": state}
    return SimpleNamespace(**values)


CASES = [(noun, before, after) for noun, (enum, *_) in MOVERS.items() for before in enum for after in enum]


@pytest.mark.parametrize(("noun", "before", "after"), CASES)
def test_a_row_moves_as_its_table_says_or_stays(noun, before, after):
    _, move, said = MOVERS[noun]
    tx, row = Written(), row_in(noun, before.value)
    if after in MOVES[noun][before]:
        move(tx, row, after, **said)
        nobody = {"actor": None, "second_actor": None} if after is ItemState.OPEN else {}
        assert tx.updates == [(noun, {"id": "x"}, {"state": after.value, "changed_at": 5} | nobody)]
        assert type(tx.updates[0][2]["state"]) is str, "what is chained is plain text"
        assert all(type(event) is str for _, _, event in tx.notes)
    else:
        with pytest.raises(StateRefused, match=f"{noun} x cannot go from {before} to {after}"):
            move(tx, row, after, **said)
        assert (tx.updates, tx.notes) == ([], [])


@pytest.mark.parametrize("state", DebitState)
def test_a_debit_begins_as_its_table_says(state):
    tx = Written()
    if state in MOVES["debit"][None]:
        rows.add_debit(tx, "x", state, amount=1)
        assert [(name, values["state"]) for name, values in tx.inserts] == [("debit", state.value)]
    else:
        with pytest.raises(StateRefused):
            rows.add_debit(tx, "x", state, amount=1)
        assert (tx.inserts, tx.notes) == ([], [])


@pytest.mark.parametrize("state", ItemState)
def test_an_item_begins_as_its_table_says(state):
    tx = Written()
    if state in MOVES["item"][None]:
        rows.new_item(tx, state, detail="kind", debit_id="d", kind="kind", ref="d")
        assert [(name, values["state"]) for name, values in tx.inserts] == [("item", state.value)]
    else:
        with pytest.raises(StateRefused):
            rows.new_item(tx, state, detail="kind", debit_id="d", kind="kind", ref="d")
        assert (tx.inserts, tx.notes) == ([], [])
