"""Lists of passages, debits and accounts: the same facts wherever they are asked for."""

from gateway.ledger.books import AccountKind
from gateway.model.passage import Funding, PassageOutcome
from gateway.views import accounts, debits, passages


def test_the_decision_that_stands_is_the_same_for_a_passage_and_its_debit(connection):
    listed = passages.passages(connection, passages.Wanted(100), unmask=False)
    claimed = {p.decision.debit_id: p.decision.record_no for p in listed if p.decision.debit_id}
    found = debits.debits(connection, (), 100)
    assert {debit.debit_id: debit.record_no for debit in found} == claimed
    assert [p.decision.record_no for p in listed] == [7, 6, 4, 3, 2, 1]
    assert listed[0].decision.outcome is PassageOutcome.REFUSED
    assert found[0].funding is Funding.PURSE


def test_a_page_of_debits_is_the_newest_and_looks_up_no_others(connection):
    everything = debits.debits(connection, (), 100)
    assert debits.debits(connection, (), 2) == everything[:2]
    (owed,) = debits.debits(connection, ("owed",), 100)
    assert [message.kind for message in owed.attempts[0].waiting] == ["reversal"]
    assert owed.attempts[0].request is None


def test_sums_agree_with_the_list(connection):
    sums = {one.state: (one.count, one.amount_fen) for one in debits.sums(connection, ())}
    everything = debits.debits(connection, (), 100)
    assert sums == {
        state: (len(found), sum(debit.amount_fen for debit in found))
        for state in {debit.state for debit in everything}
        if (found := [debit for debit in everything if debit.state == state])
    }


def test_balances_are_zero_together_and_payers_are_one_row_unless_apart(connection):
    together, apart = accounts.balances(connection, apart=False), accounts.balances(connection, apart=True)
    assert sum(one.balance_fen for one in together) == sum(one.balance_fen for one in apart) == 0
    (open_,) = [one for one in together if one.kind == AccountKind.OPEN]
    assert open_.owner is None
    assert open_.owners == len([one for one in apart if one.kind == AccountKind.OPEN]) > 1
    order = [AccountKind(one.kind) for one in together]
    assert order == sorted(order, key=list(AccountKind).index)


def test_a_record_number_is_digits_that_a_database_holds():
    assert [passages.record_number(text) for text in ("7", "007", "x7", "", "9" * 19, "７")] == [
        7,
        7,
        None,
        None,
        None,
        None,
    ]
