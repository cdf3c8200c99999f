"""Words of a bank that come after their time, in every state an attempt can be in."""

from dataclasses import replace
from pathlib import Path

import pytest

from gateway.banks.channel import NewAttempt
from gateway.banks.pos import PosLateAnswer
from gateway.debit.attempts import begin_reversal
from gateway.debit.engine import DebitEngine
from gateway.debit.late import LateEffect, late_answer
from gateway.debit.refunds import RefundRequest
from gateway.ledger import tables
from gateway.ledger.positions import BATCHES, STAN_MAX
from gateway.model.answers import AnswerClass

from .conftest import (
    APPROVED,
    CONTEXT,
    DECLINED,
    DUPLICATE,
    NOT_FOUND,
    NOT_SENT,
    POLICY,
    SILENT,
    ToldBank,
    claim_request,
    code,
    live,
)

HOUR = 3600
UNSETTLED = code("96", AnswerClass.UNSETTLED)


async def sale(box, *answers, drained=0):
    """A charge and the bank's answers to it and to what follows."""
    await box.charge(claim_request(), answers[0])
    box.bank.answers.extend(answers[1:])
    for _ in range(drained):
        await box.drain(1)
        box.clock.now += 120
    box.bank.answers.clear()


async def recovery(box, *answers, drained=1):
    await box.charge(claim_request(), DECLINED)
    box.clock.now += HOUR + 1
    await box.collector.round()
    box.bank.answers.extend(answers)
    for _ in range(drained):
        await box.drain(1)
        box.clock.now += 120
    box.bank.answers.clear()


async def refund(box, *answers, drained=1):
    decision = await box.charge(claim_request(), APPROVED)
    await box.refund(RefundRequest("r1", decision.debit_id, 500, "x", "ann"), told=True)
    box.bank.answers.extend(answers)
    for _ in range(drained):
        await box.drain(1)
        box.clock.now += 120
    box.bank.answers.clear()


def kept(box, stan):
    """The attempt with this trace number, its debit, and what is in suspense."""
    rows = box.rows("select kind, state from attempt join pos_attempt on attempt_id = id where stan = :s", s=stan)
    return (*rows[0], box.states()[0], box.balance("suspense"))


# What led there, its trace number; then what an approval does and leaves, and what a decline does and leaves:
# effect, state of the attempt, of its debit, fen in suspense.
S, N, D, R, I, C = (  # noqa: E741 - a table
    LateEffect.SETTLED,
    LateEffect.NOTED,
    LateEffect.DECLINED,
    LateEffect.REOPENED,
    LateEffect.IGNORED,
    LateEffect.CONTRADICTED,
)
TABLE = (
    # the sale
    ("sale approved", sale, (APPROVED,), 0, "000001", (I, "approved", "funded", 0), (C, "approved", "funded", 0)),
    ("sale declined", sale, (DECLINED,), 0, "000001", (R, "reversing", "debt", 1500), (I, "declined", "debt", 0)),
    ("sale unknown", sale, (SILENT,), 0, "000001", (S, "approved", "funded", 0), (D, "declined", "debt", 0)),
    ("sale unsettled", sale, (UNSETTLED,), 0, "000001", (S, "approved", "funded", 0), (D, "declined", "debt", 0)),
    ("sale not sent", sale, (NOT_SENT,), 0, "000001", (R, "reversing", "owed", 1500), (I, "not_sent", "owed", 0)),
    ("reversing", sale, (SILENT, SILENT), 1, "000001", (R, "reversing", "owed", 1500), (I, "reversing", "owed", 0)),
    ("reversed", sale, (SILENT, APPROVED), 1, "000001", (R, "reversing", "owed", 1500), (I, "reversed", "owed", 0)),
    (
        "reversed and advised",
        sale,
        (SILENT, APPROVED, APPROVED),
        2,
        "000001",
        (R, "reversing", "funded", 1500),
        (I, "reversed", "funded", 0),
    ),
    # the advice
    ("advice stored", sale, (NOT_SENT, SILENT), 1, "000002", (S, "approved", "funded", 0), (D, "declined", "debt", 0)),
    (
        "advice approved",
        sale,
        (NOT_SENT, APPROVED),
        1,
        "000002",
        (I, "approved", "funded", 0),
        (C, "approved", "funded", 0),
    ),
    (
        "advice declined",
        sale,
        (NOT_SENT, DECLINED),
        1,
        "000002",
        (C, "disputed", "debt", 0),
        (I, "declined", "debt", 0),
    ),
    # the recovery
    ("recovery stored", recovery, (), 0, "000002", (N, "approved", "recovered", 0), (N, "declined", "debt", 0)),
    (
        "recovery unknown",
        recovery,
        (SILENT,),
        1,
        "000002",
        (S, "approved", "recovered", 0),
        (D, "declined", "debt", 0),
    ),
    (
        "recovery approved",
        recovery,
        (APPROVED,),
        1,
        "000002",
        (I, "approved", "recovered", 0),
        (C, "approved", "recovered", 0),
    ),
    (
        "recovery declined",
        recovery,
        (DECLINED,),
        1,
        "000002",
        (R, "reversing", "debt", 1500),
        (I, "declined", "debt", 0),
    ),
    (
        "recovery not sent",
        recovery,
        (NOT_SENT,),
        1,
        "000002",
        (R, "reversing", "debt", 1500),
        (I, "not_sent", "debt", 0),
    ),
    (
        "recovery reversing",
        recovery,
        (SILENT, SILENT),
        2,
        "000002",
        (R, "reversing", "debt", 1500),
        (I, "reversing", "debt", 0),
    ),
    (
        "recovery reversed",
        recovery,
        (SILENT, APPROVED),
        2,
        "000002",
        (R, "reversing", "debt", 1500),
        (I, "reversed", "debt", 0),
    ),
    # the refund
    ("refund stored", refund, (SILENT,), 1, "000002", (S, "approved", "funded", 0), (D, "declined", "funded", 0)),
    ("refund approved", refund, (APPROVED,), 1, "000002", (I, "approved", "funded", 0), (C, "approved", "funded", 0)),
    ("refund declined", refund, (DECLINED,), 1, "000002", (C, "disputed", "funded", 0), (I, "declined", "funded", 0)),
    # disputed: whose message a later word is about is what is in dispute
    ("sale disputed", sale, (DUPLICATE,), 0, "000001", (I, "disputed", "owed", 0), (I, "disputed", "owed", 0)),
    (
        "advice disputed",
        sale,
        (NOT_SENT, DUPLICATE),
        1,
        "000002",
        (I, "disputed", "owed", 0),
        (I, "disputed", "owed", 0),
    ),
    (
        "recovery disputed",
        recovery,
        (DUPLICATE,),
        1,
        "000002",
        (I, "disputed", "debt", 0),
        (I, "disputed", "debt", 0),
    ),
    (
        "refund disputed",
        refund,
        (DUPLICATE,),
        1,
        "000002",
        (I, "disputed", "funded", 0),
        (I, "disputed", "funded", 0),
    ),
)


@pytest.mark.parametrize(
    "word", [APPROVED, DECLINED, UNSETTLED, NOT_FOUND], ids=["yes", "no", "unsettled", "not found"]
)
@pytest.mark.parametrize("case", TABLE, ids=[case[0] for case in TABLE])
def test_a_late_word_in_every_state(box, case, word):
    _, begin, answers, drained, stan, yes, no = case

    async def scenario(box):
        await begin(box, *answers, drained=drained)
        before = kept(box, stan)
        rules = box.engine.rules

        def change(tx):
            return late_answer(tx, box.bank, PosLateAnswer("T0000001", stan, word), rules)

        effect = await box.in_books(change)
        after = kept(box, stan)
        if word in (APPROVED, DECLINED):
            assert (effect, *after[1:]) == (yes if word is APPROVED else no)
        else:
            assert (effect, after) == (LateEffect.IGNORED, before)
        box.check()
        # Said twice it changes nothing more.
        assert await box.in_books(change) is LateEffect.IGNORED
        assert kept(box, stan) == after
        box.check()
        # And it all comes to an end.
        for (attempt,) in box.rows("select id from attempt where state = 'disputed'"):
            await box.resolve_attempt(attempt, posted=False, source="called", actor="ann")
        await box.collector.round()
        box.clock.now += 600
        box.bank.answers.extend([APPROVED] * 20)
        await box.drain(12)
        assert box.balance("suspense") == 0
        assert box.queued() == 0

    live(box, scenario)
    states = box.rows("select distinct state from attempt")
    assert {row[0] for row in states} <= {"approved", "declined", "not_sent", "reversed"}


@pytest.mark.parametrize("kind", ["advice", "refund"])
def test_a_bank_that_approves_what_it_had_refused_is_put_on_the_list(box, kind):
    """Nothing can be reversed, and nothing of it may be swallowed: a person asks the bank."""

    async def scenario(box):
        if kind == "advice":
            await sale(box, NOT_SENT, DECLINED, drained=1)
        else:
            await refund(box, DECLINED, drained=1)
        for _ in range(2):
            await box.heard_late(APPROVED, stan="000002")

    live(box, scenario)
    assert ("answer_contradicted", "open") in box.items()
    assert box.rows("select state from attempt join pos_attempt on attempt_id = id where stan = '000002'") == [
        ("disputed",)
    ]


def written(box):
    """Where the chains stand, and what was written to the disk."""
    log = Path(f"{box.path}-wal").stat()
    return box.rows("select * from chain"), log.st_size, log.st_mtime_ns


def test_an_answer_about_a_message_that_no_table_knows_writes_nothing(box):
    async def scenario(box):
        await sale(box, SILENT)
        before = written(box)
        for stan in ("999998", "000777"):
            await box.heard_late(APPROVED, stan=stan)
            await box.heard_late(APPROVED, stan=stan, terminal=None)
        assert written(box) == before
        await box.heard_late(APPROVED)
        assert written(box) != before

    live(box, scenario)


@pytest.mark.parametrize("posted", [True, False])
@pytest.mark.parametrize("drained", [0, 1, 2])
def test_the_day_file_ends_what_the_bank_did_not(box, posted, drained):
    async def scenario(box):
        await sale(box, SILENT, SILENT, SILENT, drained=drained)
        attempt = box.rows("select id from attempt")[0][0]
        await box.resolve_attempt(attempt, posted=posted, source="file 1", actor="clearing")
        box.check()
        await box.collector.round()
        box.bank.answers.extend([APPROVED] * 9)
        box.clock.now += 120
        await box.drain(6)

    live(box, scenario)
    assert box.states() == ["funded"]
    assert (box.balance("suspense"), box.balance("bank")) == (0, -1500)
    assert box.queued() == 0
    assert box.rows("select detail from journal where kind = 'person'") == [("file 1",)]


@pytest.mark.parametrize(("drained", "state"), [(1, "unknown"), (2, "reversing")])
def test_a_recovery_that_was_not_booked_is_made_once_more(box, drained, state):
    async def scenario(box):
        await recovery(box, SILENT, SILENT, drained=drained)
        ((attempt, found),) = box.rows("select id, state from attempt where kind = 'recovery'")
        assert found == state
        effect = await box.resolve_attempt(attempt, posted=False, source="file 1", actor="clearing")
        assert effect is LateEffect.CLOSED
        heard = len(box.bank.heard)
        box.clock.now += 30 * 24 * HOUR
        await box.collector.round()
        box.bank.answers.append(APPROVED)
        await box.drain(1)
        assert box.kinds()[heard:] == ["sale"], "and no reversal of the one that moved nothing"

    live(box, scenario)
    assert box.states("attempt") == ["declined", "reversed", "approved"]
    assert (box.states(), box.balance("bank")) == (["recovered"], -1500)


def test_no_reversal_begins_for_a_sale_that_was_answered(box):
    async def scenario(box):
        await box.charge(claim_request(), APPROVED)
        ((sale_id,),) = box.rows("select id from attempt")
        assert await box.in_books(lambda tx: begin_reversal(tx, sale_id)) is None

    live(box, scenario)
    assert box.states("attempt") == ["approved"]


def test_banks_that_number_their_terminals_alike_are_not_mixed_up(box):
    """A reversal that waits at one blocks no terminal of the other, and an answer is about its own bank's sale."""

    async def scenario(box):
        other = ToldBank(box.clock)
        other.name = "bank-2"
        banks = {bank.name: bank for bank in (box.bank, other)}
        box.engine = DebitEngine(box.writer, box.queries, banks, clock=box.clock, random=box.random)
        for name in banks:
            request = claim_request(name)
            request = replace(request, payer=replace(request.payer, name=name))
            await box.engine.charge(request, CONTEXT, POLICY, deadline=box.clock.monotonic() + 2)
        await box.heard_late(APPROVED)

    live(box, scenario)
    assert box.rows("select channel, reference, state from attempt order by channel") == [
        ("bank-1", "T0000001/000001/000001", "approved"),
        ("bank-2", "T0000001/000001/000001", "unknown"),
    ]


def test_a_reversal_that_is_opened_again_leaves_every_other_message_in_its_place(box):
    """Only its own debit's advice goes behind it; a recovery that waits stays one."""
    waiting = "select id, kind from outbox where done_at is null order by id"

    async def scenario(box):
        await box.charge(claim_request("k0", mandate="m0"), NOT_SENT)
        await box.charge(claim_request("k1", mandate="m1"), DECLINED)
        ((stan,),) = box.rows("select stan from attempt join pos_attempt on attempt_id = id where state = 'declined'")
        box.clock.now += HOUR + 1
        await box.collector.round()
        before = box.rows(waiting)
        assert [kind for _, kind in before] == ["advice", "recovery"]
        await box.heard_late(APPROVED, stan=stan)
        *others, (_, reopened) = box.rows(waiting)
        assert (others, reopened) == (before, "reversal")

    live(box, scenario)


# --- trace numbers that are used up -------------------------------------------------------------------------------


async def near_the_end(box, terminal, left, batch=1):
    """Let so many trace numbers be left in a batch."""
    name, end = f"stan:bank-1/{terminal}", (batch + 1) * STAN_MAX
    await box.in_books(lambda tx: tx.next_position(f"bank-1/{terminal}") and None)
    await box.in_books(lambda tx: tx.update(tables.counter, {"name": name}, value=end - left) and None)


def test_the_batch_moves_on_when_the_trace_numbers_are_used_up(box):
    async def scenario(box):
        await box.charge(claim_request("k0"), APPROVED)
        await near_the_end(box, "T0000001", 2)
        for n in range(1, 5):
            await box.charge(claim_request(f"k{n}"), APPROVED)

    live(box, scenario)
    assert box.rows("select batch, stan from attempt join pos_attempt on attempt_id = id order by batch, stan") == [
        ("000001", "000001"),
        ("000001", "989998"),
        ("000001", "989999"),
        ("000002", "000001"),
        ("000002", "000002"),
    ]


@pytest.mark.parametrize("terminal", ["T0000001", None])
def test_a_late_answer_after_that_finds_the_attempt_of_the_new_batch(box, terminal):
    async def scenario(box):
        await box.charge(claim_request("k0"), DECLINED)
        await near_the_end(box, "T0000001", 0)
        box.clock.now += 60
        await box.charge(claim_request("k1", mandate="m2"), SILENT)
        await box.heard_late(APPROVED, stan="000001", terminal=terminal)

    live(box, scenario)
    assert box.rows("select batch, state from attempt join pos_attempt on attempt_id = id order by batch") == [
        ("000001", "declined"),
        ("000002", "approved"),
    ]
    assert box.states() == ["debt", "funded"]


def test_batches_begin_again_after_the_last_one(box):
    async def scenario(box):
        await near_the_end(box, "T0000001", 0, batch=BATCHES - 1)

        def change(tx):
            new = NewAttempt("a" * 32, box.clock.utcnow())
            made = box.bank.order(tx, new, "sale", debit_id="d", amount_fen=1, contract_ref="c", charge_point="lane-1")
            tx.find(tables.pos_attempt, attempt_id=new.id)
            tx._waiting.pop(tables.pos_attempt)
            return made

        order = await box.in_books(change)
        assert order.reference == "T0000001/000000/000001"

    live(box, scenario)
