"""What the banks' files say of claims that may have ended in a lost part of the ledger."""

import pytest

from gateway.clearing.doubts import run_and_settle
from gateway.debit import adoption
from gateway.ledger.batches import Committer
from gateway.ledger.incarnation import Birth
from hardware.bench.chain_key import KEYS
from tests.gateway.clearing.conftest import DAY, DAY_AFTER, TODAY, approved
from tests.gateway.debit.conftest import DECLINED, SILENT

AMOUNT = 1500


@pytest.fixture
def adopted(plaza):
    """A debt, a sale without an answer, one that was paid; then the file lost its newest part, and was adopted."""

    async def scenario(plaza):
        await plaza.pass_bank(DECLINED, amount=AMOUNT)
        await plaza.pass_bank(SILENT, amount=AMOUNT)
        await plaza.pass_bank(approved(), amount=900)

    plaza.drive(scenario)
    box = plaza.box
    committer = Committer(box.database, box.clock, keys=KEYS, mark=box.mark)
    _, box.mark.state = adoption.begin_anew(committer, box.mark.state, Birth("f" * 32, "restored", "wang"))
    return plaza


def settle(plaza, day=DAY):
    end = run_and_settle(day, plaza.box.reader, plaza.commit, plaza.terms, today=TODAY)
    plaza.box.check()
    return end


def listed(plaza, state="open"):
    sql = "select count(*) from item where kind = 'outcome_lost' and state = :s"
    return plaza.rows(sql, s=state)[0][0]


def files(plaza, *more):
    """Of both days into which the bank may have booked anything."""
    plaza.bring([*plaza.lines(), *more])
    plaza.bring([], DAY_AFTER)


def test_claims_that_no_line_can_be_are_as_open_as_they_look(adopted):
    assert listed(adopted) == 2
    files(adopted)
    end = settle(adopted)
    assert len(end.proved_open) == 2
    assert end.changed
    assert (listed(adopted), listed(adopted, "corrected")) == (0, 2)
    assert settle(adopted).proved_open == []


def test_before_all_files_are_here_nothing_is_proved(adopted):
    adopted.bring(adopted.lines())
    assert settle(adopted).proved_open == []
    assert listed(adopted) == 2
    adopted.bring([], DAY_AFTER)
    assert len(settle(adopted).proved_open) == 2


@pytest.mark.parametrize(("amount", "left"), [(AMOUNT, 2), (AMOUNT - 1, 2), (AMOUNT + 1, 0)])
def test_a_line_that_could_be_it_leaves_it_to_people(adopted, amount, left):
    """It stands on the list with its amount; a claim is never asked for beside it."""
    files(adopted, ("advice", "T0000001", "777777", "000001", amount))
    settle(adopted)
    assert listed(adopted) == left
    assert adopted.rows("select ref, amount from item where kind = 'missing_here'") == [
        ("bank-1/T0000001/777777/000001", -amount)
    ]


def test_a_line_with_the_keys_of_a_disputed_sale_is_about_it(adopted):
    """Its keys are its own: no part that was lost can have used them."""
    (keys,) = adopted.rows(
        "select 'sale', terminal, batch, stan, amount"
        " from attempt join pos_attempt on attempt_id = id where state = 'disputed'"
    )
    files(adopted, keys)
    settle(adopted)
    assert adopted.rows("select state from attempt where amount = :a order by created_at", a=AMOUNT) == [
        ("declined",),
        ("approved",),
    ]
    assert sorted(state for (state,) in adopted.rows("select state from debit")) == ["debt", "funded", "funded"]


def test_without_a_line_a_disputed_sale_was_not_booked(adopted):
    files(adopted)
    settle(adopted)
    settle(adopted, DAY_AFTER)
    assert adopted.rows("select count(*) from attempt where state = 'disputed'") == [(0,)]
