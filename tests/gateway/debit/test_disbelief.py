"""A bank that is not believed: it contradicts itself, answers something else than was asked, or knows keys of ours."""

from dataclasses import replace

import pytest

from gateway.banks.channel import BankAnswer
from gateway.banks.pos import PosLateAnswer
from gateway.clearing.items import explain
from gateway.debit.late import LateEffect, late_answer
from gateway.debit.refunds import RefundRefused, RefundRequest
from gateway.ledger import tables
from gateway.ledger.positions import STAN_MAX
from gateway.model.delivery import Delivery

from .conftest import (
    APPROVED,
    DECLINED,
    DUPLICATE,
    NOT_FOUND,
    NOT_SENT,
    SILENT,
    Box,
    ToldBank,
    claim_request,
    live,
)

HOUR = 3600
DIFFERENT = replace(APPROVED, verdict=None, difference="F4 asked 000000001500, answered 000000000001")


class Fickle(ToldBank):
    """Says something else right behind its answer, before anybody has booked the first."""

    def __init__(self, clock):
        super().__init__(clock)
        self.second = None

    async def exchange(self, request, *, timeout_s):
        answer = await super().exchange(request, timeout_s=timeout_s)
        if self.second is not None and not request.startswith(b"reversal"):
            _, terminal, stan = request.decode().split()[:3]
            second, self.second = self.second, None
            self._late(PosLateAnswer(terminal, stan, second))
        return answer


@pytest.fixture
def fickle(tmp_path):
    return Box(tmp_path / "ledger.db", bank=Fickle)


async def contradicted(box, kind, first, second):
    """An attempt of this kind that hears `first` and right behind it `second`."""
    if kind == "sale":
        box.bank.second = second
        decision = await box.charge(claim_request(), first)
    elif kind == "recovery":
        decision = await box.charge(claim_request(), DECLINED)
        box.clock.now += HOUR + 1
        await box.collector.round()
        box.bank.second = second
        box.bank.answers.append(first)
        await box.drain(1)
    else:
        decision = await box.charge(claim_request(), NOT_SENT)
        box.bank.second = second
        box.bank.answers.append(first)
        await box.drain(1)
    await box.followed_up()
    return decision


async def people_act(box, debit_id):
    """Everything that could have the debit asked for again; the codes of why not."""
    refund = await box.refund(RefundRequest("r1", debit_id, 100, "x", "ann"), told=True)
    adjusted = await box.adjust(debit_id, 900, "misread", "ann")
    written_off = await box.write_off(debit_id, "ann", "gone")
    box.clock.now += 30 * 24 * HOUR
    await box.collector.round()
    return refund, adjusted, written_off


ENDS = {"sale": "funded", "recovery": "recovered", "advice": "funded"}


@pytest.mark.parametrize("kind", ENDS)
def test_an_approval_stands_against_a_refusal_that_follows_at_once(fickle, kind):
    async def scenario(box):
        decision = await contradicted(box, kind, APPROVED, DECLINED)
        assert box.states() == [ENDS[kind]]
        assert box.states("attempt")[-1] == "approved"
        assert ("answer_contradicted", "open") in box.items()
        heard = len(box.bank.heard)
        refund, adjusted, _ = await people_act(box, decision.debit_id)
        assert refund == RefundRefused("bank_in_doubt")
        assert adjusted == "debit_settled"
        await box.drain(3)
        assert len(box.bank.heard) == heard, "nothing is asked anew"

    live(fickle, scenario)
    assert fickle.balance("bank") == -1500


@pytest.mark.parametrize("posted", [True, False])
@pytest.mark.parametrize("kind", ENDS)
def test_people_or_the_day_file_say_what_was_true_behind_an_approval(fickle, kind, posted):
    async def scenario(box):
        await contradicted(box, kind, APPROVED, DECLINED)
        attempt = box.rows("select id from attempt where state = 'approved'")[0][0]

        async def said():
            return await box.resolve_attempt(attempt, posted=posted, source="file 1", actor="ann")

        assert await said() is (LateEffect.SETTLED if posted else LateEffect.WITHDRAWN)
        assert ("answer_contradicted", "corrected") in box.items()
        assert await said() is LateEffect.IGNORED
        box.check()
        if not posted:
            assert (box.states(), box.balance("bank"), box.balance("debt")) == (["debt"], 0, -1500)
            box.clock.now += 30 * 24 * HOUR
            await box.collector.round()
            box.bank.answers.append(APPROVED)
            await box.drain(1)

    live(fickle, scenario)
    assert fickle.balance("bank") == -1500
    assert fickle.states() == [ENDS[kind] if posted else "recovered"]


def test_what_was_given_back_meanwhile_is_not_withdrawn(box):
    async def scenario(box):
        decision = await box.charge(claim_request(), APPROVED)
        await box.refund(RefundRequest("r1", decision.debit_id, 100, "x", "ann"), told=True)
        await box.heard_late(DECLINED)
        attempt = box.rows("select id from attempt where kind = 'sale'")[0][0]
        assert await box.resolve_attempt(attempt, posted=False, source="x", actor="a") is LateEffect.IGNORED

    live(box, scenario)
    assert ("answer_contradicted", "open") in box.items()


@pytest.mark.parametrize("posted", [True, False])
def test_a_refund_is_contradicted_as_any_other(fickle, posted):
    async def scenario(box):
        decision = await box.charge(claim_request(), APPROVED)
        await box.refund(RefundRequest("r1", decision.debit_id, 500, "x", "ann"), told=True)
        box.bank.second = DECLINED
        box.bank.answers.append(APPROVED)
        await box.drain(1)
        assert box.states("refund") == ["paid"]
        attempt = box.rows("select id from attempt where kind = 'refund'")[0][0]
        await box.resolve_attempt(attempt, posted=posted, source="file 1", actor="ann")

    live(fickle, scenario)
    assert fickle.states("refund") == (["paid"] if posted else ["decided"])
    assert fickle.balance("bank") == (-1000 if posted else -1500)
    assert (("refund_declined", "open") in fickle.items()) is not posted


@pytest.mark.parametrize("kind", ["sale", "recovery"])
def test_an_approval_behind_a_refusal_is_reversed_and_the_debit_waits(fickle, kind):
    async def scenario(box):
        decision = await contradicted(box, kind, DECLINED, APPROVED)
        assert (box.states(), box.states("attempt")[-1]) == (["debt"], "reversing")
        assert box.balance("suspense") == 1500
        assert ("answer_contradicted", "open") in box.items()
        attempts = len(box.states("attempt"))
        _, adjusted, written_off = await people_act(box, decision.debit_id)
        assert (adjusted, written_off) == ("bank_in_doubt", "bank_in_doubt")
        assert len(box.states("attempt")) == attempts, "not tried again before the reversal closes"
        box.bank.answers.append(APPROVED)
        await box.drain(1)
        assert ("answer_contradicted", "corrected") in box.items()
        box.clock.now += 30 * 24 * HOUR
        await box.collector.round()
        box.bank.answers.append(APPROVED)
        await box.drain(1)

    live(fickle, scenario)
    assert fickle.states() == ["recovered"]
    assert (fickle.balance("bank"), fickle.balance("suspense")) == (-1500, 0)


@pytest.mark.parametrize("posted", [True, False])
def test_an_advice_that_is_refused_then_approved_is_disputed_and_not_asked_again(fickle, posted):
    async def scenario(box):
        decision = await contradicted(box, "advice", DECLINED, APPROVED)
        assert (box.states(), box.states("attempt")[-1]) == (["debt"], "disputed")
        attempts = len(box.states("attempt"))
        await people_act(box, decision.debit_id)
        assert len(box.states("attempt")) == attempts
        advice = box.rows("select id from attempt where kind = 'advice'")[0][0]
        await box.resolve_attempt(advice, posted=posted, source="file 1", actor="ann")
        box.check()
        await box.collector.round()
        box.bank.answers.append(APPROVED)
        await box.drain(1)

    live(fickle, scenario)
    assert fickle.states() == ["recovered"]
    assert fickle.kinds()[-1] == ("advice" if posted else "sale")
    assert fickle.balance("bank") == -1500


@pytest.mark.parametrize("tried", ["waits", "paid"])
def test_an_advice_refused_then_approved_is_not_booked_beside_a_recovery(fickle, tried):
    """The debt is being collected another way, or has been: a person's word may end the contradiction, no more."""

    async def scenario(box):
        await box.charge(claim_request(), NOT_SENT)
        box.bank.answers.append(DECLINED)
        await box.drain(1)
        box.clock.now += HOUR + 1
        await box.collector.round()
        if tried == "paid":
            box.bank.answers.append(APPROVED)
            await box.drain(1)
        await box.heard_late(APPROVED, stan="000002")
        ((advice, state),) = box.rows("select id, state from attempt where kind = 'advice'")
        assert (state, box.items()[-1]) == ("declined", ("answer_contradicted", "open"))

        async def said(posted):
            return await box.resolve_attempt(advice, posted=posted, source="file 1", actor="ann")

        assert await said(True) is LateEffect.IGNORED
        assert await said(False) is LateEffect.CLOSED
        assert await said(False) is LateEffect.IGNORED
        assert box.items()[-1] == ("answer_contradicted", "corrected")
        box.bank.answers.append(APPROVED)
        await box.drain(1)

    live(fickle, scenario)
    assert fickle.states() == ["recovered"]
    assert fickle.balance("bank") == -1500


def test_what_is_in_doubt_about_another_debit_does_not_make_this_one_due(fickle):
    async def scenario(box):
        await box.charge(claim_request("k0", mandate="m0"), DUPLICATE)
        await contradicted(box, "advice", DECLINED, APPROVED)

    live(fickle, scenario)
    assert fickle.rows("select state from attempt where kind = 'advice'") == [("disputed",)]


def test_a_refund_that_is_refused_then_approved_is_not_paid_at_a_till_too(box):
    async def scenario(box):
        decision = await box.charge(claim_request(), APPROVED)
        await box.refund(RefundRequest("r1", decision.debit_id, 500, "x", "ann"), told=True)
        box.bank.answers.append(DECLINED)
        await box.drain(1)
        await box.heard_late(APPROVED, stan="000002")
        from gateway.debit.refunds import pay_at_till

        refund = box.rows("select id from refund")[0][0]
        assert await box.in_books(lambda tx: pay_at_till(tx, refund, "till-1", "ann")) == "bank_in_doubt"
        attempt = box.rows("select id from attempt where kind = 'refund'")[0][0]
        await box.resolve_attempt(attempt, posted=False, source="file 1", actor="ann")
        assert await box.in_books(lambda tx: pay_at_till(tx, refund, "till-1", "ann")) is None

    live(box, scenario)
    assert box.balance("bank") == -1500


# --- answers that differ ------------------------------------------------------------------------------------------


def test_an_answer_to_something_else_settles_nothing_and_is_on_peoples_list(box):
    async def scenario(box):
        await box.charge(claim_request(), DIFFERENT)
        assert (box.states(), box.states("attempt")) == (["owed"], ["unknown"])
        box.bank.answers.extend([DIFFERENT, NOT_SENT, APPROVED])
        await box.drain(1)
        assert box.states("attempt") == ["reversing"], "nor does it close a reversal"
        box.clock.now += 120
        await box.drain(2)
        box.bank.answers.extend([DIFFERENT, APPROVED])
        box.clock.now += 120
        await box.drain(3)

    live(box, scenario)
    assert box.states("attempt") == ["reversed", "approved"]
    assert box.rows("select kind, note from item order by id") == [("answer_differs", DIFFERENT.difference)] * 2


def test_a_late_answer_is_compared_with_what_was_asked(box):
    seen = []

    def compare(request):
        seen.append(request)
        return DIFFERENT

    async def scenario(box):
        await box.charge(claim_request(), SILENT)
        box.bank._late(PosLateAnswer("T0000001", "000001", APPROVED, compare))
        await box.followed_up()

    live(box, scenario)
    assert box.states("attempt") == ["unknown"]
    assert seen == [b"sale T0000001 000001 1500 contract-m1"]
    assert ("answer_differs", "open") in box.items()


def test_a_late_answer_to_something_else_is_told_apart_from_one_that_says_nothing_new(box):
    async def scenario(box):
        await box.charge(claim_request(), SILENT)
        told = PosLateAnswer("T0000001", "000001", DIFFERENT)
        effect = await box.in_books(lambda tx: late_answer(tx, box.bank, told, box.engine.rules))
        assert effect is LateEffect.DIFFERS

    live(box, scenario)


@pytest.mark.parametrize(("others", "listed"), [(0, True), (1, False)])
def test_an_answer_of_a_terminal_that_asked_nothing_is_on_the_list_where_it_can_mean_one_alone(box, others, listed):
    async def scenario(box):
        for n in range(1 + others):
            await box.charge(claim_request(f"k{n}", mandate=f"m{n}"), SILENT)
        compare = {b"sale T0000001 000001 1500 contract-m0": DIFFERENT}.__getitem__
        box.bank._late(PosLateAnswer("T9999999", "000001", APPROVED, compare))
        await box.followed_up()

    live(box, scenario)
    assert set(box.states("attempt")) == {"unknown"}
    assert (("answer_differs", "open") in box.items()) is listed


# --- 94 to a message that left once -------------------------------------------------------------------------------


async def disputed(box, kind):
    """An attempt of this kind that the bank says it knows, when it leaves for the first time."""
    if kind == "sale":
        return await box.charge(claim_request(), DUPLICATE)
    if kind == "recovery":
        decision = await box.charge(claim_request(), DECLINED)
        box.clock.now += HOUR + 1
        await box.collector.round()
    elif kind == "advice":
        decision = await box.charge(claim_request(), NOT_SENT)
    else:
        decision = await box.charge(claim_request(), APPROVED)
        await box.refund(RefundRequest("r1", decision.debit_id, 500, "x", "ann"), told=True)
    box.bank.answers.append(DUPLICATE)
    await box.drain(1)
    return decision


KINDS = ("sale", "recovery", "advice", "refund")
WAITS = {"sale": "owed", "recovery": "debt", "advice": "owed", "refund": "funded"}


@pytest.mark.parametrize("kind", KINDS)
def test_keys_that_are_not_ours_are_not_undone_nor_asked_again(box, kind):
    async def first_life(box):
        decision = await disputed(box, kind)
        assert (box.states(), box.states("attempt")[-1]) == ([WAITS[kind]], "disputed")
        assert ("attempt_disputed", "open") in box.items()
        heard, attempts = len(box.bank.heard), len(box.states("attempt"))
        await people_act(box, decision.debit_id)
        await box.drain(5)
        assert (len(box.bank.heard), len(box.states("attempt"))) == (heard, attempts)
        assert (await box.outbox.backlog()).disputed == 1
        return heard

    async def second_life(box):
        await box.start_up()
        await box.collector.round()
        box.clock.now += 30 * 24 * HOUR
        await box.drain(5)
        assert box.states("attempt")[-1] == "disputed"

    live(box, first_life, second_life)
    assert box.kinds().count("reversal") == 0


@pytest.mark.parametrize("posted", [True, False])
@pytest.mark.parametrize("kind", KINDS)
def test_a_dispute_ends_by_a_word_from_outside(box, kind, posted):
    async def scenario(box):
        await disputed(box, kind)
        attempt = box.rows("select id from attempt where state = 'disputed'")[0][0]
        effect = await box.resolve_attempt(attempt, posted=posted, source="file 1", actor="ann")
        assert effect is (LateEffect.SETTLED if posted else LateEffect.CLOSED)
        assert ("attempt_disputed", "corrected") in box.items()
        box.check()
        if not posted:
            keys = box.rows(
                "select batch, stan from attempt join pos_attempt on attempt_id = id where id = :i", i=attempt
            )
            box.clock.now += 30 * 24 * HOUR
            await box.collector.round()
            box.bank.answers.append(APPROVED)
            await box.drain(1)
            assert (
                box.rows(
                    "select batch, stan"
                    " from attempt join pos_attempt on attempt_id = id order by created_at desc, batch desc limit 1"
                )
                != keys
            )
        again = await box.resolve_attempt(attempt, posted=posted, source="file 1", actor="ann")
        assert again is LateEffect.IGNORED

    live(box, scenario)
    assert box.states() == ["recovered" if kind == "recovery" else "funded"]
    assert box.balance("bank") == (-1000 if kind == "refund" else -1500)


def test_its_terminal_goes_on_in_a_new_batch_with_the_next_trace_number(box):
    async def scenario(box):
        await box.charge(claim_request("k0", mandate="m0"), APPROVED)
        await box.charge(claim_request("k1", mandate="m1"), DUPLICATE)
        await box.charge(claim_request("k2", mandate="m2"), APPROVED)

    live(box, scenario)
    assert box.rows(
        "select terminal, batch, stan, state from attempt join pos_attempt on attempt_id = id order by batch, stan"
    ) == [
        ("T0000001", "000001", "000001", "approved"),
        ("T0000001", "000001", "000002", "disputed"),
        ("T0000001", "000002", "000003", "approved"),
    ]
    assert box.rows("select value from counter where name = 'stan:bank-1/T0000001'") == [(2 * STAN_MAX + 3,)]


@pytest.mark.parametrize("kind", ["advice", "refund"])
def test_94_to_a_repetition_of_ours_is_repeated_as_ever(box, kind):
    async def scenario(box):
        if kind == "advice":
            await box.charge(claim_request(), NOT_SENT)
        else:
            decision = await box.charge(claim_request(), APPROVED)
            await box.refund(RefundRequest("r1", decision.debit_id, 500, "x", "ann"), told=True)
        box.bank.answers.extend([SILENT, DUPLICATE, APPROVED])
        for _ in range(3):
            box.clock.now += 600
            await box.drain(1)

    live(box, scenario)
    assert box.states("attempt")[-1] == "approved"
    assert ("attempt_disputed", "open") not in box.items()


@pytest.mark.parametrize(
    ("drained", "answers", "state"),
    [(0, (), "disputed"), (1, (SILENT,), "disputed"), (1, (APPROVED,), "reversed"), (1, (NOT_FOUND,), "disputed")],
)
def test_94_that_comes_late_stops_the_reversal_unless_it_has_closed(box, drained, answers, state):
    async def scenario(box):
        await box.charge(claim_request(), SILENT)
        box.bank.answers.extend(answers)
        await box.drain(drained)
        await box.heard_late(DUPLICATE)
        assert box.states("attempt")[0] == state
        heard = box.kinds().count("reversal")
        box.clock.now += 600
        await box.drain(3)
        assert box.kinds().count("reversal") == heard

    live(box, scenario)


@pytest.mark.parametrize(("sent", "state"), [(1, "disputed"), (2, "stored")])
def test_94_about_an_advice_comes_late_and_counts_where_it_has_left_once(box, sent, state):
    async def scenario(box):
        await box.charge(claim_request(), NOT_SENT)
        for _ in range(sent):
            await box.drain(1)
            box.clock.now += 600
        await box.heard_late(DUPLICATE, stan="000002")

    live(box, scenario)
    assert box.kinds() == ["sale"] + ["advice"] * sent
    assert box.states("attempt")[-1] == state


def test_an_explained_dispute_still_waits_for_its_word(box):
    """Whoever explains the item has not said what the bank did."""

    async def scenario(box):
        await disputed(box, "sale")
        item = box.rows("select id from item where kind = 'attempt_disputed'")[0][0]
        await box.in_books(lambda tx: explain(tx, item, "ann", "asked the bank"))
        await box.collector.round()

    live(box, scenario)
    assert box.states("attempt") == ["disputed"]


def test_a_posted_dispute_of_a_debit_that_was_paid_another_way_goes_back(box):
    """As after a ledger was restored: its sale is put in dispute although an advice has paid since."""
    from gateway.debit.attempts import dispute
    from gateway.debit.states import attempt_row

    async def scenario(box):
        await box.charge(claim_request(), SILENT)
        box.bank.answers.extend([APPROVED, APPROVED])
        await box.drain(3)
        sale = box.rows("select id from attempt where kind = 'sale'")[0][0]

        def restored(tx):
            tx.update(tables.attempt, {"id": sale}, state="unknown")  # no move leads back there
            dispute(tx, attempt_row(tx, sale), "the ledger was restored")

        await box.in_books(restored)
        effect = await box.resolve_attempt(sale, posted=True, source="file 1", actor="ann")
        assert effect is LateEffect.REOPENED
        assert box.balance("suspense") == 1500
        box.check()
        box.bank.answers.append(APPROVED)
        await box.drain(1)

    live(box, scenario)
    assert (box.balance("bank"), box.balance("suspense")) == (-1500, 0)


# --- a terminal that gives way ------------------------------------------------------------------------------------


@pytest.mark.parametrize(("sent", "taken", "behind"), [(False, True, False), (False, True, True), (True, False, False)])
def test_a_recovery_gives_way_to_a_vehicle_only_while_it_has_not_left(box, sent, taken, behind):
    """One that may have left keeps its terminal: under its keys money may move at any moment."""

    async def scenario(box):
        await box.charge(claim_request("k0", mandate="m0"), DECLINED)
        box.clock.now += HOUR + 1
        if behind:
            await box.charge(claim_request("k1", mandate="m1"), SILENT)
        await box.collector.round()
        recovery = box.rows(
            "select id, terminal from attempt join pos_attempt on attempt_id = id where kind = 'recovery'"
        )[0]
        if sent:
            from gateway.debit.attempts import begin_message

            await box.in_books(lambda tx: begin_message(tx, recovery[0]) and None)
        other = "T0000002" if recovery[1] == "T0000001" else "T0000001"
        if not behind:
            await box.charge(claim_request("k1", mandate="m1"), SILENT)
        assert box.rows("select terminal from attempt join pos_attempt on attempt_id = id where state = 'unknown'") == [
            (other,)
        ]
        await box.charge(claim_request("k2", mandate="m2"), APPROVED)
        return recovery

    recovery = live(box, scenario)
    asked = box.rows(
        "select terminal from attempt join pos_attempt on attempt_id = id where kind = 'sale' and state = 'approved'"
    )
    assert asked == ([(recovery[1],)] if taken else [])
    assert box.rows("select state from attempt where id = :i", i=recovery[0]) == [("not_sent" if taken else "stored",)]


def test_nothing_answered_is_no_contradiction(fickle):
    """Whoever asked heard nothing: what came by another way meanwhile is the first word."""

    async def scenario(box):
        box.bank.second = APPROVED
        decision = await box.charge(claim_request(), SILENT)
        assert decision.outcome == "paid"

    live(fickle, scenario)
    assert fickle.items() == []


def test_an_answer_is_a_value():
    assert BankAnswer(Delivery.ANSWERED) == BankAnswer(Delivery.ANSWERED)
    assert PosLateAnswer(None, "000001", APPROVED).about(b"anything") is APPROVED


@pytest.mark.parametrize(("word", "state"), [(DECLINED, "disputed"), (APPROVED, "approved")])
def test_a_word_on_an_advice_counts_though_it_was_put_behind_a_reversal_meanwhile(fickle, word, state):
    """An approval of its sale that came too late has opened the reversal again while the advice was on the wire."""

    async def scenario(box):
        await box.charge(claim_request(), SILENT)
        box.bank.answers.append(APPROVED)
        await box.drain(1)
        exchange = box.bank.exchange

        async def reopened_meanwhile(request, *, timeout_s):
            box.bank.exchange = exchange
            answer = await exchange(request, timeout_s=timeout_s)
            await box.heard_late(APPROVED)
            box.bank._late(PosLateAnswer("T0000001", "000002", APPROVED))
            return answer

        box.bank.exchange = reopened_meanwhile
        box.bank.answers.append(word)
        await box.drain(1)
        await box.followed_up()
        assert box.rows("select state from attempt where kind = 'advice'") == [(state,)]
        box.bank.answers.append(APPROVED)
        await box.drain(2)

    live(fickle, scenario)
    assert fickle.balance("suspense") == 0
