"""The outbox: order on a terminal, pauses, repeats marked as such, and nothing given up."""

import asyncio
import itertools
import sqlite3
from dataclasses import replace
from datetime import timedelta

import pytest
from sqlalchemy import literal, update
from sqlalchemy.exc import DBAPIError

from gateway.banks.channel import BankAnswer
from gateway.banks.pos import PosLateAnswer
from gateway.debit.engine import DebitEngine, ProvenClaim
from gateway.ledger import tables
from gateway.model.answers import AnswerClass
from gateway.model.delivery import Delivery
from gateway.model.passage import Funding
from gateway.outbox.worker import POLL_S, OutboxWorker
from gateway.rules.loading import shipped_rules
from tests.gateway.debit.conftest import (
    APPROVED,
    CONTEXT,
    DECLINED,
    NOT_FOUND,
    NOT_SENT,
    POLICY,
    SILENT,
    TAKEN,
    Box,
    ToldBank,
    charge,
    claim_request,
    hold_request,
    live,
    payer_of,
    rules_of,
)

pytestmark = pytest.mark.slow

UNSETTLED = BankAnswer(Delivery.ANSWERED, AnswerClass.UNSETTLED, "96")
PATIENCE_S = 300.0
"""Longest wait for something that must happen; no passing test waits for it."""


class MarkingBank(ToldBank):
    """Marks repetitions."""

    def repeat(self, request):
        return b"again " + request


@pytest.fixture
def box(tmp_path):
    box = Box(tmp_path / "ledger.db")
    box.bank = MarkingBank(box.clock)
    return box


async def owed(box, number=1, answer=SILENT):
    """A claim decided in the bank's place: by silence (a reversal waits), or not sent (an advice waits)."""
    box.bank.answers.append(answer)
    payer = payer_of(Funding.BANK_ONLINE, mandate=f"m{number}")
    await charge(box, hold_request(f"k{number}", payer=payer, card=f"9901{number:016d}"))
    box.bank.heard.clear()


async def one_round(box):
    rows = await box.outbox._due()
    for row in rows:
        await box.outbox._send(row)
    return [row.kind for row in rows]


@pytest.mark.parametrize("answer", [SILENT, NOT_SENT, UNSETTLED])
def test_what_is_not_answered_is_repeated_for_ever_with_growing_pauses(box, answer):
    async def scenario(box):
        await owed(box)
        sent_at = []
        for _ in range(400):
            box.bank.answers.append(answer)
            if await one_round(box):
                sent_at.append(box.clock.now)
            box.bank.answers.clear()
            box.clock.now += 1.0
        pauses = [later - earlier for earlier, later in itertools.pairwise(sent_at)]
        assert pauses[:3] == sorted(pauses[:3])
        assert 60 <= pauses[-1] <= 60 + 1 + shipped_rules().retry.reversal.answer_timeout_s
        assert box.queued() == 1

    live(box, scenario)
    assert box.rows("select state from attempt") == [("reversing",)]
    assert box.rows("select tries from outbox")[0][0] > 5


def test_not_found_is_asked_again_without_growing_pauses(box):
    """It will be closed by age, and its terminal waits for that."""

    async def scenario(box):
        await owed(box)
        asked = 0
        for _ in range(40):
            box.bank.answers.append(NOT_FOUND)
            asked += len(await one_round(box))
            box.clock.now += 1.0
        assert asked == 40

    live(box, scenario)


def test_a_repetition_is_marked_also_after_a_restart(box):
    async def first(box):
        await owed(box)
        box.bank.answers.append(SILENT)
        await one_round(box)

    async def second(box):
        box.clock.now += 60
        box.bank.answers.extend([SILENT, APPROVED, SILENT, APPROVED])
        for _ in range(4):
            await one_round(box)
            box.clock.now += 60

    live(box, first)
    box.open()
    live(box, second)
    words = [" ".join(m.split()[:2]) if m.startswith("again") else m.split()[0] for m in box.bank.heard]
    assert words == ["reversal", "again reversal", "again reversal", "advice", "again advice"]


def test_a_message_that_may_have_left_before_a_power_cut_goes_out_as_a_repetition(box):
    async def first(box):
        await owed(box)

        async def dies(request, *, timeout_s):
            box.bank.heard.append(request.decode())
            raise asyncio.CancelledError

        exchange, box.bank.exchange = box.bank.exchange, dies
        with pytest.raises(asyncio.CancelledError):
            await one_round(box)
        box.bank.exchange = exchange

    async def second(box):
        box.bank.answers.append(APPROVED)
        await one_round(box)

    live(box, first)
    assert box.rows("select state from attempt") == [("reversing",)], "durable before the first byte"
    box.open()
    live(box, second)
    assert [m.split()[0] for m in box.bank.heard] == ["reversal", "again"]
    assert box.rows("select state from attempt where kind = 'sale'") == [("reversed",)]


@pytest.mark.parametrize(("answer", "kind"), [(SILENT, "sale"), (NOT_SENT, "advice")])
def test_how_often_a_message_left_is_counted(box, answer, kind):
    async def scenario(box):
        await owed(box, 1, answer)
        for _ in range(2):
            box.bank.answers.append(SILENT)
            await one_round(box)
            box.clock.now += 60

    live(box, scenario)
    assert len(box.bank.heard) == 2
    assert box.rows("select sends from attempt where kind = :k", k=kind) == [(2,)]


@pytest.mark.parametrize("answer", [APPROVED, DECLINED])
def test_an_answered_message_is_off_the_queue_at_once(box, answer):
    async def scenario(box):
        await owed(box, 1, NOT_SENT)
        box.bank.answers.append(answer)
        await one_round(box)
        assert box.queued() == 0

    live(box, scenario)
    assert box.rows("select last_answer from outbox") == [(answer.code,)]


def test_the_advice_behind_a_reversal_is_dated_and_names_who_owes(box):
    orders = []

    async def scenario(box):
        message = box.bank.message
        box.bank.message = lambda kind, order: orders.append((kind, order)) or message(kind, order)
        await owed(box)
        box.bank.answers.append(APPROVED)
        await one_round(box)
        return box.clock.utcnow()

    now = live(box, scenario)
    (order,) = [order for kind, order in orders if kind == "advice"]
    assert (order.amount_fen, order.contract_ref, order.at) == (1500, "contract-m1", now)


def test_an_approval_heard_while_its_reversal_is_on_the_wire_is_known_before_that_closes(box):
    """The answer to this reversal proves nothing about it: it goes out once more, and no advice before."""

    async def scenario(box):
        await owed(box)
        exchange = box.bank.exchange

        async def approved_meanwhile(request, *, timeout_s):
            box.bank.exchange = exchange
            box.bank._late(PosLateAnswer("T0000001", "000001", APPROVED))
            return await exchange(request, timeout_s=timeout_s)

        box.bank.exchange = approved_meanwhile
        box.bank.answers.append(APPROVED)
        await one_round(box)
        await box.followed_up()
        assert box.rows("select kind, state from attempt") == [("sale", "reversing")]
        box.bank.answers.extend([APPROVED, APPROVED])
        for _ in range(2):
            await one_round(box)

    live(box, scenario)
    assert [m.split()[0] for m in box.bank.heard] == ["reversal", "again", "advice"]
    assert (box.balance("suspense"), box.balance("bank")) == (0, -1500)


def test_nothing_overtakes_on_a_terminal(box):
    """Two advices of one terminal: the second waits while the first is not answered, however long its pause is."""

    async def scenario(box):
        await owed(box, 1, NOT_SENT)
        await owed(box, 2, NOT_SENT)
        for _ in range(20):
            box.bank.answers.append(SILENT)
            await one_round(box)
            box.bank.answers.clear()
            box.clock.now += 1.0
        stans = {m.split()[-3] for m in box.bank.heard}
        assert len(stans) == 1
        box.clock.now += 60
        box.bank.answers.extend([APPROVED, DECLINED])
        await one_round(box)
        await one_round(box)

    live(box, scenario)
    assert box.rows("select state from debit order by hold_id") == [("funded",), ("debt",)]


def test_terminals_do_not_wait_for_each_other(box):
    async def scenario(box):
        await owed(box, 1)
        await owed(box, 2)
        box.bank.answers.extend([SILENT, APPROVED])
        assert await one_round(box) == ["reversal", "reversal"]

    live(box, scenario)
    assert sorted(box.rows("select state from attempt where kind = 'sale'")) == [("reversed",), ("reversing",)]


def test_banks_whose_names_begin_alike_keep_to_their_own(box):
    """`bank-1` does not send what `bank-10` has to say; nor do names act as patterns."""

    async def scenario(box):
        await owed(box)
        other = MarkingBank(box.clock)
        for name in ("bank-10", "bank-", "bank%", "bank_1", "1"):
            other.name = name
            worker = OutboxWorker(other, box.writer, box.queries, clock=box.clock, random=box.random)
            assert await worker._due() == []
            assert (await worker.backlog()).count == 0
        assert box.queued() == 1

    live(box, scenario)


def test_the_backlog_tells_how_much_and_since_when(box):
    async def scenario(box):
        assert (box.queued(), (await box.outbox.backlog()).oldest_at) == (0, None)
        begun = box.clock.now
        await owed(box, 1)
        box.clock.now += 100
        await owed(box, 2)
        backlog = await box.outbox.backlog()
        assert backlog.count == 2
        assert begun * 1e6 <= backlog.oldest_at < (begun + 10) * 1e6

    live(box, scenario)


def test_what_was_answered_late_is_taken_off_and_not_sent(box):
    async def scenario(box):
        await owed(box)
        rows = await box.outbox._due()
        box.bank._late(PosLateAnswer("T0000001", "000001", APPROVED))
        await box.followed_up()
        for row in rows:
            await box.outbox._send(row)
        assert box.queued() == 0

    live(box, scenario)
    assert box.bank.heard == []
    assert box.rows("select state from debit") == [("funded",)]


def test_a_message_that_was_queued_anew_is_not_sent_in_its_old_place(box):
    """An approval was heard between the look at the queue and the sending."""

    async def scenario(box):
        await owed(box)
        box.bank.answers.append(SILENT)
        await one_round(box)
        box.clock.now += 60
        rows = await box.outbox._due()
        box.bank._late(PosLateAnswer("T0000001", "000001", APPROVED))
        await box.followed_up()
        heard = len(box.bank.heard)
        for row in rows:
            await box.outbox._send(row)
        assert len(box.bank.heard) == heard
        box.bank.answers.extend([APPROVED, APPROVED])
        await one_round(box)
        await one_round(box)

    live(box, scenario)
    assert box.balance("suspense") == 0
    assert box.rows("select state from debit") == [("funded",)]


def test_run_drains_reports_its_backlog_and_goes_on(box):
    async def scenario(box):
        told = []
        worker = OutboxWorker(
            box.bank,
            box.writer,
            box.queries,
            clock=box.clock,
            random=box.random,
            on_backlog=told.append,
        )
        await owed(box)
        box.bank.answers.extend([APPROVED, APPROVED])
        task = asyncio.create_task(worker.run())
        while not told or told[-1].count:
            await asyncio.sleep(0.001)
        assert not task.done()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    live(box, scenario)
    assert box.rows("select state from debit") == [("funded",)]


def test_an_answer_is_kept_short_in_the_books(box):
    async def scenario(box):
        await owed(box)
        box.bank.answers.append(BankAnswer(Delivery.SILENT, detail="x" * 500))
        await one_round(box)

    live(box, scenario)
    assert len(box.rows("select last_answer from outbox")[0][0]) == 80


def test_an_advice_for_a_claim_paid_in_the_meantime_is_not_sent(box):
    async def scenario(box):
        await owed(box, 1, NOT_SENT)
        await box.in_books(lambda tx: tx.update(tables.attempt, {"kind": "advice"}, state="declined"))
        await one_round(box)
        assert box.bank.heard == []
        assert box.queued() == 0
        await box.in_books(lambda tx: tx.update(tables.attempt, {"kind": "advice"}, state="stored"))
        await box.in_books(lambda tx: tx.update(tables.outbox, {}, done_at=None))

    live(box, scenario)


def test_two_channels_each_hear_their_own(box):
    async def scenario(box):
        second = MarkingBank(box.clock)
        second.name = "bank-2"
        second.answers.append(SILENT)
        engine = DebitEngine(
            box.writer, box.queries, {"bank-1": box.bank, "bank-2": second}, clock=box.clock, random=box.random
        )
        box.engine = engine
        payer = replace(payer_of(Funding.BANK_ONLINE), name="bank-2")
        request = hold_request("k9", payer=payer)
        placed = await engine.hold(request, timeout_s=5)
        claim = ProvenClaim(placed.debit_id, payer, CONTEXT, POLICY, placed.purchase_id, TAKEN, "9" * 20)
        await engine.bring_in(claim, deadline=box.clock.monotonic() + 2)
        assert await box.outbox._due() == []
        worker = OutboxWorker(second, box.writer, box.queries, clock=box.clock, random=box.random)
        assert [row.destination for row in await worker._due()] == ["bank-2/T0000001"]

    live(box, scenario)
    assert box.balance("bank") == 0


def test_an_advice_steps_aside_for_vehicles_but_never_in_front_of_a_reversal(box):
    """A reversal goes out before its terminal's next sale; an advice that stepped aside would hold up the terminal."""

    async def scenario(box):
        await owed(box, 1, NOT_SENT)
        box.outbox._fresh = lambda: True
        assert await box.outbox.round() == 0
        await owed(box, 2, SILENT)
        terminals = {
            terminal for (terminal,) in box.rows("select terminal from attempt join pos_attempt on attempt_id = id")
        }
        assert len(terminals) == 1
        box.bank.answers.extend([APPROVED, APPROVED])
        assert [await box.outbox.round() for _ in range(2)] == [1, 1]

    live(box, scenario)
    assert box.rows("select kind, state from attempt where amount > 0 order by kind, state") == [
        ("advice", "approved"),
        ("advice", "stored"),
        ("sale", "not_sent"),
        ("sale", "reversed"),
    ]


# --- what is given up, and who is told ----------------------------------------------------------------------------


def ruled(tmp_path, text):
    box = Box(tmp_path / "ruled.db", rules=rules_of(text))
    box.bank = MarkingBank(box.clock)
    return box


@pytest.mark.parametrize("rule", ["max_tries = 3", "expire_after_s = 100"])
@pytest.mark.parametrize("answer", [APPROVED, DECLINED])
def test_an_advice_given_up_is_a_persons_and_may_still_be_answered(tmp_path, rule, answer):
    box = ruled(tmp_path, f"[retry.advice]\n{rule}")

    async def scenario(box):
        await owed(box, 1, NOT_SENT)
        for _ in range(240):
            await one_round(box)
            box.clock.now += 1.0
        assert box.queued() == 0
        assert box.items() == [("advice_unanswered", "open")]
        assert box.rows("select state from attempt where kind = 'advice'") == [("unknown",)]
        assert box.rows("select last_answer from outbox") == [("given up by the rules",)]
        assert box.states() == ["owed"]
        box.check()
        heard = len(box.bank.heard)
        await box.heard_late(answer, stan="000002")
        assert box.items() == [("advice_unanswered", "corrected")]
        await one_round(box)
        assert len(box.bank.heard) == heard

    live(box, scenario)
    assert box.states() == ["funded" if answer is APPROVED else "debt"]


def test_an_advice_is_not_given_up_before_its_time(tmp_path):
    box = ruled(tmp_path, "[retry.advice]\nexpire_after_s = 100")

    async def scenario(box):
        await owed(box, 1, NOT_SENT)
        late = box.clock.now + 90
        while box.clock.now < late:
            await one_round(box)
            box.clock.now += 1
        assert (box.queued(), box.items()) == (1, [])

    live(box, scenario)


def test_an_advice_told_again_may_be_given_up_again(tmp_path):
    box = ruled(tmp_path, "[retry.advice]\nmax_tries = 1")

    async def scenario(box):
        await owed(box, 1, NOT_SENT)
        attempt = box.rows("select id from attempt where kind = 'advice'")[0][0]
        for _ in range(2):
            for _ in range(2):
                await one_round(box)
                box.clock.now += 60
            assert box.items() == [("advice_unanswered", "open")]
            box.check()
            await box.resolve_attempt(attempt, posted=False, source="call", actor="ann")
            assert box.items() == [("advice_unanswered", "corrected")]
        box.bank.answers.append(APPROVED)
        await one_round(box)

    live(box, scenario)
    assert box.states() == ["funded"]
    told = "select event from journal where kind = 'item' order by number"
    assert [row[0] for row in box.rows(told)] == ["open", "corrected"] * 2


def test_an_advice_given_up_that_was_booked_pays_its_claim(tmp_path):
    box = ruled(tmp_path, "[retry.advice]\nmax_tries = 1")

    async def scenario(box):
        await owed(box, 1, NOT_SENT)
        for _ in range(2):
            await one_round(box)
            box.clock.now += 60
        ((attempt,),) = box.rows("select id from attempt where kind = 'advice' and state = 'unknown'")
        await box.resolve_attempt(attempt, posted=True, source="file 1", actor="ann")

    live(box, scenario)
    assert (box.states(), box.items()) == (["funded"], [("advice_unanswered", "corrected")])


def test_a_reversal_is_never_given_up(tmp_path):
    box = ruled(tmp_path, "[retry.reversal]\nmax_tries = 2\nexpire_after_s = 60")

    async def scenario(box):
        await owed(box)
        for _ in range(300):
            await one_round(box)
            box.clock.now += 1.0
        assert box.queued() == 1

    live(box, scenario)
    assert box.rows("select tries from outbox")[0][0] > 2


def test_alarms_by_number_and_by_age(tmp_path):
    box = ruled(tmp_path, "[retry.advice]\nalarm_count = 2\n[retry.reversal]\nalarm_age_s = 100")

    async def scenario(box):
        await owed(box, 1)
        await owed(box, 2, NOT_SENT)
        assert (await box.outbox.backlog()).alarms == ()
        await owed(box, 3, NOT_SENT)
        assert (await box.outbox.backlog()).alarms == ("advice",)
        box.clock.now += 100
        assert set((await box.outbox.backlog()).alarms) == {"advice", "reversal"}

    live(box, scenario)


# --- pace, and vehicles first -------------------------------------------------------------------------------------


def test_advices_step_aside_for_vehicles_reversals_do_not(box):
    async def scenario(box):
        await owed(box, 1)
        await owed(box, 2, NOT_SENT)
        # Of another lane, so that no reversal waits behind it.
        await box.in_books(lambda tx: tx.update(tables.outbox, {"kind": "advice"}, destination="bank-1/T0000009"))
        box.engine.banks._waiting["bank-1"] = 1
        box.bank.answers.extend([APPROVED] * 3)
        await box.outbox.round()
        assert [m.split()[0] for m in box.bank.heard] == ["reversal"]
        box.engine.banks._waiting["bank-1"] = 0
        for _ in range(3):
            await box.outbox.round()
            box.clock.now += 1

    live(box, scenario)
    assert [m.split()[0] for m in box.bank.heard] == ["reversal", "advice", "advice"]


def test_an_advice_that_waited_too_long_steps_aside_no_more(tmp_path):
    box = ruled(tmp_path, "[retry.advice]\nalarm_age_s = 600")

    async def scenario(box):
        await owed(box, 1, NOT_SENT)
        box.engine.banks._waiting["bank-1"] = 1
        assert await box.outbox.round() == 0
        box.clock.now += 600
        box.bank.answers.append(APPROVED)
        assert await box.outbox.round() == 1

    live(box, scenario)


@pytest.mark.parametrize(("pace", "sent"), [("0.5", 5), ("2.0", 20), ("3.0", 30)])
def test_a_backlog_keeps_its_pace(tmp_path, pace, sent):
    """Ten seconds of rounds over more terminals than may go at once."""
    box = ruled(tmp_path, f"[retry.advice]\nmessages_per_s = {pace}")

    async def scenario(box):
        for n in range(40):
            await owed(box, n, NOT_SENT)
        spread = update(tables.outbox).values(destination=literal("bank-1/S").concat(tables.outbox.c.id))
        await box.in_books(lambda tx: tx.execute(spread))
        box.bank.answers.extend([APPROVED] * 40)
        began = box.clock.now
        while box.clock.now < began + 10:
            await box.outbox.round()
            box.clock.now += POLL_S
        return len(box.bank.heard)

    assert abs(live(box, scenario) - sent) <= 1


# --- many terminals -----------------------------------------------------------------------------------------------


class HangingBank(MarkingBank):
    """Says nothing to some terminals, for as long as it is let."""

    def __init__(self, clock):
        super().__init__(clock)
        self.mute = set()
        self.speaks = asyncio.Event()

    async def exchange(self, request, *, timeout_s):
        self.heard.append(request.decode())
        if request.decode().removeprefix("again ").split()[1] in self.mute:
            await self.speaks.wait()
            return SILENT
        await asyncio.sleep(0)
        return APPROVED


async def spread(box, number, terminals):
    """Advices of so many debits at these terminals in turn."""
    for n in range(number):
        await owed(box, n, NOT_SENT)
    rows = box.rows("select o.id, a.id from outbox o join attempt a on a.id = o.attempt_id order by o.id")

    def change(tx):
        for place, (message, attempt) in enumerate(rows):
            terminal = terminals[place % len(terminals)]
            request = b"advice " + terminal.encode() + b" x"
            tx.update(tables.outbox, {"id": message}, destination=f"bank-1/{terminal}")
            tx.update(tables.attempt, {"id": attempt}, destination=f"bank-1/{terminal}", request=request)

    await box.in_books(change)


def test_a_silent_terminal_holds_up_no_other(box):
    async def scenario(box):
        await spread(box, 12, ("A", "B", "C"))
        box.bank = HangingBank(box.clock)
        box.bank.mute = {"B"}
        worker = OutboxWorker(box.bank, box.writer, box.queries, clock=box.clock, random=box.random)
        task = asyncio.create_task(worker.run())
        async with asyncio.timeout(PATIENCE_S):
            while (await worker.backlog()).count != 4:
                await asyncio.sleep(0.001)
        assert sorted(m.split()[1] for m in box.bank.heard) == ["A"] * 4 + ["B"] + ["C"] * 4
        assert (await worker.backlog()).count == 4
        box.bank.mute = set()
        box.bank.speaks.set()
        while (await worker.backlog()).count:
            await asyncio.sleep(0.001)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    live(box, scenario)
    assert set(box.states()) == {"funded"}


def test_each_terminal_hears_its_messages_in_order(box):
    async def scenario(box):
        await spread(box, 12, ("A", "B", "C"))
        order = box.rows("select attempt_id, destination from outbox order by id")
        box.bank = HangingBank(box.clock)
        worker = OutboxWorker(box.bank, box.writer, box.queries, clock=box.clock, random=box.random)
        while (await worker.backlog()).count:
            await worker.round()
            box.clock.now += 1
        ended = box.rows("select ref from journal where kind = 'attempt' and event = 'approved' order by number")
        for terminal in ("bank-1/A", "bank-1/B", "bank-1/C"):
            wanted = [attempt for attempt, destination in order if destination == terminal]
            assert [ref for (ref,) in ended if ref in wanted] == wanted

    live(box, scenario)


def test_terminals_that_pause_do_not_keep_others_from_their_turn(tmp_path, monkeypatch):
    """More terminals than may go at once, and the first of them wait out a pause."""
    monkeypatch.setattr("gateway.outbox.worker.TOGETHER_MAX", 2)
    box = ruled(tmp_path, '[retry.advice]\nmessages_per_s = "unlimited"')

    async def scenario(box):
        await spread(box, 6, ("A", "B", "C", "D", "E", "F"))
        later = "update outbox set next_at = next_at + 30000000 where id <= 4"
        await box.in_books(lambda tx: tx.connection.exec_driver_sql(later) and None)
        box.bank.answers.extend([APPROVED] * 2)
        assert await box.outbox.round() == 2

    live(box, scenario)
    assert [m.split()[1] for m in box.bank.heard] == ["E", "F"]


def test_a_failure_in_sending_ends_the_worker_and_the_next_one_goes_on(box):
    async def scenario(box):
        await spread(box, 2, ("A", "B"))
        exchange = box.bank.exchange

        async def breaks(request, *, timeout_s):
            raise OSError("no such host")

        box.bank.exchange = breaks
        with pytest.raises(OSError, match="no such host"):
            await box.outbox.run()
        box.bank.exchange = exchange
        box.bank.answers.extend([APPROVED] * 2)
        assert await box.outbox.round() == 2

    live(box, scenario)
    assert box.states() == ["funded", "funded"]


def set_clock(box, seconds):
    """Somebody sets the wall clock; the time that only grows does not care."""
    before = box.clock.utcnow
    box.clock.utcnow = lambda: before() + timedelta(seconds=seconds)


@pytest.mark.parametrize("step_s", [3600.0, -3600.0])
def test_a_clock_that_is_set_makes_a_sale_neither_old_nor_young(box, step_s):
    """Not found closes a reversal when the sale can no longer arrive: that is a matter of time, not of the clock."""
    states = []

    async def scenario(box):
        assert await box.outbox.round() == 0
        await owed(box, 1, SILENT)
        for step in (0.0, step_s, 0.0):
            set_clock(box, step)
            box.clock.now += 29.0
            box.bank.answers.append(NOT_FOUND)
            await box.outbox.round()
            states.append(box.rows("select state from attempt where kind = 'sale'")[0][0])
        box.clock.now += 29.0
        box.bank.answers.append(NOT_FOUND)
        await box.outbox.round()

    live(box, scenario)
    assert states == ["reversing"] * 3
    assert box.rows("select state from attempt where kind = 'sale'") == [("reversed",)]


def test_each_reversal_has_an_age_of_its_own(box):
    """Not found closes the old one; the sale of the young one may still arrive."""

    async def scenario(box):
        assert await box.outbox.round() == 0
        for number in (1, 2):
            await owed(box, number, SILENT)
            box.bank.answers.extend([NOT_FOUND] * number)
            assert await box.outbox.round() == number
            box.clock.now += 60.0 if number == 1 else 0.0

    live(box, scenario)
    assert box.rows("select state from attempt where kind = 'sale' order by created_at") == [
        ("reversed",),
        ("reversing",),
    ]


def test_a_clock_set_back_does_not_stop_the_queue(box):
    async def scenario(box):
        await owed(box, 1, SILENT)
        box.bank.answers.append(SILENT)
        assert await box.outbox.round() == 1
        set_clock(box, -86_400.0)
        box.bank.answers.append(APPROVED)
        assert await box.outbox.round() == 1

    live(box, scenario)
    assert box.rows("select state from attempt where kind = 'sale'") == [("reversed",)]


def test_a_recovery_whose_worker_broke_off_is_reversed_and_never_sent_again(box):
    """The supervisor starts the worker again in the same run: nothing was classified in between."""

    async def scenario(box):
        await box.charge(claim_request(), DECLINED)
        box.clock.now += 3700
        await box.collector.round()
        exchange = box.bank.exchange

        async def breaks(request, *, timeout_s):
            box.bank.heard.append(request.decode())
            raise OSError("the link broke in a way nobody foresaw")

        box.bank.exchange = breaks
        with pytest.raises(OSError, match="nobody foresaw"):
            await box.outbox.round()
        box.bank.exchange = exchange
        box.bank.answers.append(APPROVED)
        for _ in range(3):
            await one_round(box)
            box.clock.now += 1

    live(box, scenario)
    assert [m.split()[0] for m in box.bank.heard] == ["sale", "sale", "reversal"]
    assert box.rows("select state from attempt join pos_attempt on attempt_id = id order by stan") == [
        ("declined",),
        ("reversed",),
    ]
    assert box.states() == ["debt"]


# --- a disk that is full ------------------------------------------------------------------------------------------


def full_once(box, when):
    """The disk refuses one commit, the first for which `when` holds."""
    commit, refused = box.committer.commit, []

    def refuses(changes):
        if not refused and when():
            cause = sqlite3.OperationalError("database or disk is full")
            cause.sqlite_errorcode = sqlite3.SQLITE_FULL
            refused.append(cause)
            raise DBAPIError("commit", {}, cause)
        return commit(changes)

    box.committer.commit = refuses
    return refused


@pytest.mark.parametrize("sent", [0, 1], ids=["before it leaves", "when it is answered"])
def test_a_message_is_sent_and_its_answer_stored_though_the_disk_is_full(box, sent):
    """It ends what is in doubt: of that no word is lost, whatever is refused to new sales meanwhile."""

    async def scenario(box):
        await owed(box)
        refused = full_once(box, lambda: len(box.bank.heard) == sent)
        box.bank.answers.append(APPROVED)
        assert await box.outbox.round() == 1
        assert refused

    live(box, scenario)
    assert [m.split()[0] for m in box.bank.heard] == ["reversal"]
    assert box.rows("select state from attempt where kind = 'sale'") == [("reversed",)]
