"""The bank's day file ends what is in doubt, on the real engine: by the rule of late answers, and the books agree."""

import pytest
from sqlalchemy import update

from gateway.clearing.doubts import ACTOR, run_and_settle
from gateway.debit import attempts
from gateway.debit.late import LateEffect
from gateway.ledger import tables
from gateway.model.clearing import DayFileWord
from tests.gateway.clearing.conftest import DAY, DAY_AFTER, TODAY
from tests.gateway.debit.conftest import APPROVED, NOT_FOUND, SILENT


def settle(plaza, day=DAY):
    end = run_and_settle(day, plaza.box.reader, plaza.commit, plaza.terms, today=TODAY)
    plaza.box.check()
    return end


def one_file(plaza):
    """The bank's day turns at eleven: what it booked on this day stands in this file."""
    plaza.rules(day_files={"bank-1": {"cut_over": "23:00"}})


def attempt(plaza, kind="sale"):
    (row,) = plaza.rows(
        "select id, state, settlement_day, late_approval, terminal, batch, stan"
        " from attempt join pos_attempt on attempt_id = id where kind = :k",
        k=kind,
    )
    return row


def state(plaza):
    (row,) = plaza.rows("select state, collected from debit")
    return row


def line(plaza, kind="sale", amount=1500):
    return (kind if kind != "advice" else "sale", *attempt(plaza, kind)[4:], amount)


@pytest.fixture
def silent(plaza):
    """One car whose bank did not answer: its reversal waits, and has not left."""

    async def scenario(plaza):
        await plaza.pass_bank(SILENT)

    plaza.drive(scenario)
    one_file(plaza)
    assert (attempt(plaza)[1], state(plaza)) == ("unknown", ("owed", 0))
    return plaza


def reversal_left(plaza):
    """Let the reversal leave; the bank is silent again."""

    async def scenario(plaza):
        await plaza.box.drain(1)

    plaza.drive(scenario)
    assert attempt(plaza)[1] == "reversing"


def test_posted_before_the_reversal_left_settles_and_clears(silent):
    silent.bring([line(silent)])
    end = settle(silent)
    assert [finding.word for finding in end.told] == [DayFileWord.POSTED]
    assert dict(end.effects) == {LateEffect.SETTLED: 1}
    assert end.changed
    assert attempt(silent)[1:3] == ("approved", DAY)
    assert state(silent) == ("funded", 1500)
    assert dict(end.result.states) == {"cleared": 1}
    assert end.result.differences == []
    assert silent.balances() == {}
    assert silent.items() == [("in_doubt", attempt(silent)[0], -1500, "corrected")]
    assert silent.rows("select count(*) from outbox where done_at is null") == [(0,)]
    ((detail, actor),) = silent.rows("select detail, actor from journal where event = 'said_posted'")
    assert actor == ACTOR
    ((digest,),) = silent.rows("select digest from bank_file")
    assert detail.startswith(f"bank-1 {DAY} {digest[:16]}")


def test_run_again_the_word_is_not_given_twice(silent):
    silent.bring([line(silent)])
    settle(silent)
    before = silent.counted()
    again = settle(silent)
    assert (again.told, again.changed) == ([], False)
    assert silent.counted() == before


def test_posted_after_the_reversal_left_goes_to_suspense_until_the_reversal_closes(silent):
    reversal_left(silent)
    silent.bring([line(silent)])
    end = settle(silent)
    assert dict(end.effects) == {LateEffect.REOPENED: 1}
    assert attempt(silent)[1:4] == ("reversing", None, 1)
    assert state(silent) == ("owed", 0)
    assert silent.balances()["suspense:bank-1"] == 1500
    assert silent.rows("select count(*) from outbox where done_at is null and kind = 'reversal'") == [(1,)]
    assert dict(end.result.states) == {"disputed": 1}

    async def closes(plaza):
        plaza.box.bank.answers.extend([APPROVED, APPROVED])
        plaza.box.clock.now += 120
        await plaza.box.drain()

    silent.drive(closes)
    assert attempt(silent)[1:4] == ("reversed", None, 0)
    assert "suspense:bank-1" not in silent.balances()
    assert state(silent) == ("funded", 1500)
    assert attempt(silent, "advice")[1] == "approved"


def test_not_posted_ends_the_reversal_and_the_bank_is_advised(silent):
    reversal_left(silent)
    silent.bring([])
    end = settle(silent)
    assert [finding.word for finding in end.told] == [DayFileWord.NOT_POSTED]
    assert dict(end.effects) == {LateEffect.CLOSED: 1}
    assert attempt(silent)[1] == "reversed"
    assert silent.rows("select count(*) from outbox where done_at is null") == [(0,)]

    async def adopt(plaza):

        ((debit,),) = plaza.rows("select id from debit")
        await plaza.box.engine.upkeep.adopt(debit)
        plaza.box.bank.answers.append(APPROVED)
        await plaza.box.drain()

    silent.drive(adopt)
    assert state(silent) == ("funded", 1500)


def test_a_late_approval_that_the_bank_took_back_again_leaves_suspense(silent):
    reversal_left(silent)
    keys = line(silent)
    silent.bring([keys])
    settle(silent)
    silent.bring([("reversal", *keys[1:])], supplement=True)
    end = settle(silent)
    assert dict(end.effects) == {LateEffect.CLOSED: 1}
    assert attempt(silent)[1:4] == ("reversed", None, 0)
    assert silent.balances() == {"open:" + silent.rows("select id from obligor")[0][0]: -1500, "merchant:road-1": 1500}


@pytest.fixture
def untold(silent):
    """Its reversal closed, and its advice was given up without an answer."""

    async def scenario(plaza):
        plaza.box.bank.answers.append(NOT_FOUND)
        plaza.box.clock.now += 120
        await plaza.box.drain(3)

    silent.drive(scenario)
    advice = attempt(silent, "advice")[0]

    def give_up(tx):
        attempts.give_up_message(tx, advice)
        tx.flush()
        tx.execute(update(tables.outbox).where(tables.outbox.c.done_at.is_(None)).values(done_at=1))

    silent.commit(give_up)
    assert attempt(silent, "advice")[1] == "unknown"
    assert silent.rows("select kind, state from item") == [("advice_unanswered", "open")]
    return silent


def test_an_advice_that_was_given_up_and_posted_funds_the_debit(untold):
    untold.bring([line(untold, "advice")])
    end = settle(untold)
    assert dict(end.effects) == {LateEffect.SETTLED: 1}
    assert state(untold) == ("funded", 1500)
    assert attempt(untold, "advice")[1:3] == ("approved", DAY)
    assert untold.rows("select state from item where kind = 'advice_unanswered'") == [("corrected",)]
    assert dict(end.result.states) == {"cleared": 1}
    assert untold.balances() == {}


def test_an_advice_that_was_given_up_and_not_posted_is_told_again(untold):
    untold.bring([])
    end = settle(untold)
    assert dict(end.effects) == {LateEffect.TOLD_AGAIN: 1}
    assert attempt(untold, "advice")[1] == "stored"
    assert settle(untold).settled == 0, "it was told again: only later files know"

    async def told(plaza):
        plaza.box.bank.answers.append(APPROVED)
        await plaza.box.drain(2)

    untold.drive(told)
    assert untold.box.bank.heard[-1].startswith("advice")
    assert state(untold) == ("funded", 1500)


def test_without_doubts_it_is_a_plain_run(plaza):
    async def nothing(plaza):
        await plaza.pass_bank(APPROVED)

    plaza.drive(nothing)
    end = settle(plaza, DAY_AFTER)
    assert (end.told, end.settled) == ([], 0)
