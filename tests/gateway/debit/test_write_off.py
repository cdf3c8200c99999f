"""Giving a debt up takes two people, and the ledger proves it."""

import asyncio

import pytest

from gateway.debit import debts
from gateway.debit.states import close_item
from gateway.model.passage import Funding
from gateway.model.states import ItemState
from gateway.rules.loading import SHIPPED, parse_rules, shipped_rules
from tests.gateway.debit.conftest import DECLINED, charge, hold_request, payer_of

TWO = shipped_rules()
ONE = parse_rules(b'version = "one"\n[debt]\nfour_eyes = false\n', SHIPPED)


@pytest.fixture
def indebted(box):
    """A box with one debt; `steps` are changes with the debit's id, `check` the ledger after each."""

    def run(*steps):
        async def scenario():
            async with box:
                box.bank.answers.append(DECLINED)
                decision = await charge(box, hold_request(payer=payer_of(Funding.BANK_ONLINE)))
                found = []
                for step in steps:
                    found.append(
                        await box.writer.submit(lambda tx, step=step: step(tx, decision.debit_id), essential=True)
                    )
                    box.check()
                return found

        return asyncio.run(scenario())

    return run


def off(actor, rules=TWO):
    return lambda tx, debit_id: debts.write_off(tx, debit_id, actor, f"{actor} says so", rules)


def items(box):
    return box.rows("select state, actor, second_actor from item where kind = 'write_off_proposed'")


def reopened(box):
    box.open()
    return box


def test_one_proposes_and_another_agrees(box, indebted):
    assert indebted(off("wang"), off("li"), off("li")) == ["item_needs_second", None, "not_a_debt"]
    assert items(reopened(box)) == [("written_off", "wang", "li")]
    assert box.balance("loss") == -1500
    assert box.balance("debt") == 0


@pytest.mark.parametrize("same", ["wang", "Wang", " wang "])
def test_nobody_agrees_with_himself(box, indebted, same):
    assert indebted(off("wang"), off(same)) == ["item_needs_second", "item_needs_second"]
    assert items(reopened(box)) == [("open", "wang", None)]


def test_a_proposal_that_was_closed_starts_anew(box, indebted):
    def explain(tx, debit_id):
        close_item(tx, debts.WRITE_OFF, debit_id, ItemState.EXPLAINED, note="he will pay", actor="li")

    assert indebted(off("wang"), explain, off("li"), off("wang")) == [
        "item_needs_second",
        None,
        "item_needs_second",
        None,
    ]
    assert items(reopened(box)) == [("written_off", "li", "wang")]


def test_where_the_rules_let_one_do_it_the_proposal_is_over(box, indebted):
    assert indebted(off("wang"), off("wang", ONE)) == ["item_needs_second", None]
    assert items(reopened(box)) == [("corrected", "wang", None)]
    assert box.balance("loss") == -1500


def test_where_the_rules_let_one_do_it_there_is_no_item(box, indebted):
    assert indebted(off("wang", ONE)) == [None]
    assert items(reopened(box)) == []
