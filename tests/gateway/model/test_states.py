"""The tables of states are whole: they name every state of their enum, and no other."""

import pytest

from gateway.model import states
from gateway.model.states import MOVES, StateRefused, check_move

ENUMS = {
    "debit": states.DebitState,
    "attempt": states.AttemptState,
    "purchase": states.PurchaseState,
    "refund": states.RefundState,
    "item": states.ItemState,
    "sale": states.SaleState,
    "pump_order": states.OrderState,
}


def test_every_noun_has_a_table():
    assert MOVES.keys() == ENUMS.keys()


@pytest.mark.parametrize("noun", ENUMS)
def test_a_table_names_every_state_and_leads_to_every_state(noun):
    table = MOVES[noun]
    assert set(table) == {None, *ENUMS[noun]}
    assert set().union(*table.values()) == set(ENUMS[noun])


@pytest.mark.parametrize(
    ("noun", "before", "after"),
    [
        ("debit", None, "funded"),
        ("debit", "funded", "funded"),
        ("debit", "voided", "released"),
        ("debit", "written_off", "debt"),
        ("attempt", None, "approved"),
        ("attempt", "reversing", "approved"),
        ("attempt", "approved", "reversing"),
        ("attempt", "reversed", "disputed"),
        ("purchase", None, "taken"),
        ("purchase", "taken", "not_taken"),
        ("purchase", "disputed", "unknown"),
        ("refund", None, "paid"),
        ("refund", "paid", "paid"),
        ("item", None, "written_off"),
        ("item", "explained", "written_off"),
        ("item", "written_off", "open"),
    ],
)
def test_a_move_that_no_table_knows_is_refused(noun, before, after):
    with pytest.raises(StateRefused, match=f"{noun} 17 cannot go from {before or 'nothing'} to {after}") as refused:
        check_move(noun, 17, before, after)
    assert (refused.value.noun, refused.value.ref) == (noun, 17)
    assert (refused.value.before, refused.value.after) == (before, after)


def test_a_state_that_is_none_is_refused():
    with pytest.raises(StateRefused):
        check_move("debit", 17, "no such state", "held")


def test_a_debit_is_owing_or_settled():
    assert {*states.OWING_DEBITS, *states.SETTLED_DEBITS} == set(states.DebitState)
    assert set(states.SETTLED_DEBITS) == {"funded", "recovered", "written_off", "voided"}
    assert set(states.EARNED_DEBITS) == {"released", "owed", "funded", "debt", "recovered", "written_off"}
