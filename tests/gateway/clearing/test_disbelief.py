"""The day file ends what a bank has left open by saying two things, or by knowing keys: as far as it is proof."""

import pytest

from gateway.banks.pos import PosLateAnswer
from gateway.clearing.day import run_day
from gateway.debit.late import LateEffect
from gateway.model.clearing import DayFileWord, RowState
from tests.gateway.clearing.conftest import DAY, TODAY, approved
from tests.gateway.clearing.test_doubts import attempt, line, one_file, settle, state
from tests.gateway.debit.conftest import APPROVED, DECLINED, DUPLICATE


async def hears_late(plaza, answer):
    plaza.box.bank._late(PosLateAnswer(*attempt(plaza)[4:7:2], answer))
    await plaza.box.followed_up()


@pytest.fixture
def contradicted(plaza):
    """One car whose bank said yes, and then no."""

    async def scenario(plaza):
        await plaza.pass_bank(approved())
        await hears_late(plaza, DECLINED)

    plaza.drive(scenario)
    one_file(plaza)
    assert (attempt(plaza)[1], state(plaza)) == ("approved", ("funded", 1500))
    return plaza


def people(plaza):
    return plaza.rows("select kind, state from item where day is null order by id")


def test_the_file_has_what_was_approved_and_it_is_cleared(contradicted):
    contradicted.bring([line(contradicted)])
    end = settle(contradicted)
    assert [finding.word for finding in end.told] == [DayFileWord.POSTED]
    assert dict(end.effects) == {LateEffect.SETTLED: 1}
    assert people(contradicted) == [("answer_contradicted", "corrected")]
    assert dict(end.result.states) == {RowState.CLEARED.value: 1}
    assert contradicted.balances() == {}


def test_the_file_lacks_it_and_the_approval_is_withdrawn(contradicted):
    contradicted.bring([])
    end = settle(contradicted)
    assert [finding.word for finding in end.told] == [DayFileWord.NOT_POSTED]
    assert dict(end.effects) == {LateEffect.WITHDRAWN: 1}
    assert people(contradicted) == [("answer_contradicted", "corrected")]
    assert (attempt(contradicted)[1], state(contradicted)) == ("declined", ("debt", 0))
    assert "bank:bank-1" not in contradicted.balances()
    assert end.result.differences == []


def test_without_its_file_nothing_is_said_and_nothing_cleared(contradicted):
    result = contradicted.run()
    assert (result.findings, result.waiting, dict(result.states)) == ([], ["bank-1"], {})


def test_a_run_that_settles_nothing_keeps_it_from_being_cleared(contradicted):
    contradicted.bring([line(contradicted)])
    result = run_day(DAY, contradicted.box.reader, contradicted.commit, contradicted.terms, today=TODAY)
    assert dict(result.states) == {RowState.DISPUTED.value: 1}
    assert dict(result.amounts) == {RowState.DISPUTED.value: 1500}
    (difference,) = result.differences
    assert (difference.kind.value, difference.amount_fen, difference.ours_fen) == ("in_doubt", 0, 1500)


def test_what_was_cleared_before_the_bank_took_its_word_back_is_not_withdrawn(plaza):
    """The next file that names it says what became of it."""

    async def scenario(plaza):
        await plaza.pass_bank(approved())

    plaza.drive(scenario)
    one_file(plaza)
    plaza.bring([line(plaza)])
    settle(plaza)

    async def later(plaza):
        await hears_late(plaza, DECLINED)

    plaza.drive(later)
    end = settle(plaza)
    assert dict(end.effects) == {LateEffect.SETTLED: 1}
    assert people(plaza) == [("answer_contradicted", "corrected")]
    assert plaza.rows("select state from clearing_row") == [("cleared",)]


@pytest.fixture
def disputed(plaza):
    """One car whose keys its bank knew already."""

    async def scenario(plaza):
        await plaza.pass_bank(DUPLICATE)

    plaza.drive(scenario)
    one_file(plaza)
    assert (attempt(plaza)[1], state(plaza)) == ("disputed", ("owed", 0))
    return plaza


@pytest.mark.parametrize("amount", [1500, 700])
def test_a_line_with_the_keys_is_no_proof_it_may_be_an_earlier_sale(disputed, amount):
    """Of the same fare, too: fares repeat. People find out, and what they say is then cleared."""
    disputed.bring([line(disputed, amount=amount)])
    end = settle(disputed)
    assert (end.told, end.settled) == ([], 0)
    assert attempt(disputed)[1] == "disputed"
    assert disputed.items() == [("in_doubt", attempt(disputed)[0], -amount, "open")]

    async def people_say(plaza):
        attempt_id = attempt(plaza)[0]
        await plaza.box.resolve_attempt(attempt_id, posted=amount == 1500, source="called", actor="ann")
        if amount != 1500:
            plaza.box.bank.answers.append(APPROVED)
            await plaza.box.collector.round()
            await plaza.box.drain(1)

    disputed.drive(people_say)
    assert state(disputed) == ("funded", 1500)
    end = settle(disputed)
    if amount == 1500:
        assert dict(end.result.states) == {RowState.CLEARED.value: 1}
    else:
        assert disputed.rows(
            "select state from attempt join pos_attempt on attempt_id = id order by created_at, batch"
        ) == [("declined",), ("approved",)]


def test_a_file_without_the_keys_proves_that_nothing_was_booked(disputed):
    disputed.bring([])
    end = settle(disputed)
    assert [finding.word for finding in end.told] == [DayFileWord.NOT_POSTED]
    assert dict(end.effects) == {LateEffect.CLOSED: 1}
    assert (attempt(disputed)[1], state(disputed)) == ("declined", ("owed", 0))
    assert people(disputed) == [("attempt_disputed", "corrected")]


def test_keys_that_were_booked_and_taken_back_hold_nothing_of_ours(disputed):
    booked = line(disputed)
    disputed.bring([booked, ("reversal", *booked[1:])])
    end = settle(disputed)
    assert [finding.word for finding in end.told] == [DayFileWord.NOT_POSTED]


def test_what_has_been_cleared_is_not_withdrawn(plaza):
    plaza.drive(lambda plaza: plaza.pass_bank(approved()))
    plaza.bring(plaza.lines())
    assert dict(plaza.run().states) == {RowState.CLEARED.value: 1}

    async def scenario(plaza):
        await hears_late(plaza, DECLINED)
        return await plaza.box.resolve_attempt(attempt(plaza)[0], posted=False, source="called", actor="ann")

    assert plaza.drive(scenario) is LateEffect.IGNORED
    assert people(plaza) == [("answer_contradicted", "open")]
    assert (attempt(plaza)[1], state(plaza)) == ("approved", ("funded", 1500))
