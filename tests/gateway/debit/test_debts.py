"""Debts: tried again by the schedule, undone when nobody answers, paid at a till, written off by two people."""

import asyncio

import pytest

from gateway.debit.debts import pay_at_till
from gateway.model.answers import AnswerClass

from .conftest import (
    APPROVED,
    DECLINED,
    NOT_FOUND,
    NOT_SENT,
    SILENT,
    Box,
    claim_request,
    code,
    live,
    rules_of,
)
from .model_bank import ModelBank

HOUR, DAY = 3600, 86_400
LATER = (1 * HOUR, 1 * DAY, 3 * DAY, 7 * DAY, 15 * DAY)
"""Of the rules shipped, for refusals that may pass."""


async def debt(box, key="k1", answer=DECLINED, **values):
    """A debit its bank refused, with what is due at once or at the first time of the schedule."""
    return (await box.charge(claim_request(key, **values), answer)).debit_id


async def due(box, *answers):
    """The next try comes due and is made; these are the bank's answers."""
    retry_at = box.rows("select min(retry_at) from debit")[0][0]
    box.clock.now = max(box.clock.now, retry_at / 1e6 + 1)
    box.bank.answers.extend(answers)
    await box.collector.round()
    await box.drain(1)


def waits_s(box):
    """Seconds until the next try, None when there is none."""
    retry_at = box.rows("select retry_at from debit")[0][0]
    return None if retry_at is None else round(retry_at / 1e6 - box.clock.now)


# --- the schedule -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("number", "first_s"), [("51", HOUR), ("61", HOUR), ("91", 600), ("05", None), ("14", None), ("13", None)]
)
def test_when_a_debt_is_tried_first_depends_on_the_class_of_the_refusal(box, number, first_s):
    async def scenario(box):
        await debt(box, answer=code(number))
        return waits_s(box)

    assert live(box, scenario) == first_s


def test_it_is_tried_by_the_schedule_until_the_tries_are_used_up(box):
    async def scenario(box):
        await debt(box)
        for wait_s in LATER:
            asked_at = box.rows("select changed_at / 1000000 from debit")
            assert abs(waits_s(box) - wait_s) <= 2, asked_at
            await due(box, DECLINED)
        assert waits_s(box) is None
        box.clock.now += 365 * DAY
        await box.collector.round()

    live(box, scenario)
    assert box.kinds() == ["sale"] * 6
    assert box.rows("select state, retries from debit") == [("debt", 5)]
    assert {m.split()[2] for m in box.bank.heard} == {f"{n:06d}" for n in range(1, 7)}, "each with keys of its own"


def test_a_recovery_that_is_approved_pays_the_debt(box):
    async def scenario(box):
        await debt(box)
        await due(box, DECLINED)
        await due(box, APPROVED)
        box.clock.now += 365 * DAY
        await box.collector.round()

    live(box, scenario)
    assert box.states() == ["recovered"]
    assert box.rows("select collected, retry_at from debit") == [(1500, None)]
    assert (box.balance("debt"), box.balance("bank")) == (0, -1500)
    assert box.states("attempt") == ["declined", "declined", "approved"]


def test_a_refusal_that_became_final_ends_the_tries(box):
    async def scenario(box):
        await debt(box)
        await due(box, code("14"))
        return waits_s(box)

    assert live(box, scenario) is None
    assert box.states() == ["debt"]


@pytest.mark.parametrize(("number", "first_s"), [("51", HOUR), ("14", None)])
def test_a_refusal_that_comes_late_is_a_refusal_of_its_class(box, number, first_s):
    async def scenario(box):
        await box.charge(claim_request(), SILENT)
        await box.heard_late(code(number))
        return waits_s(box)

    assert live(box, scenario) == first_s
    assert box.states() == ["debt"]


def test_a_refused_advice_is_tried_again_as_a_refused_sale_is(box):
    async def scenario(box):
        await box.charge(claim_request(), NOT_SENT)
        box.bank.answers.append(DECLINED)
        await box.drain(1)
        assert abs(waits_s(box) - HOUR) <= 2

    live(box, scenario)
    assert box.states() == ["debt"]


def test_a_try_refused_late_is_followed_by_the_next_one_of_the_schedule(box):
    async def scenario(box):
        await debt(box)
        await due(box, SILENT)
        await box.heard_late(DECLINED, stan="000002")
        assert abs(waits_s(box) - DAY) <= 2

    live(box, scenario)


@pytest.mark.parametrize("answer", [SILENT, code("96", AnswerClass.UNSETTLED)])
def test_a_recovery_nobody_answers_is_reversed_and_then_tried_anew(box, answer):
    async def scenario(box):
        await debt(box)
        await due(box, answer)
        assert box.states("attempt") == ["declined", "unknown"]
        assert waits_s(box) is None, "never while in doubt"
        box.check()
        box.clock.now += 30 * DAY
        await box.collector.round()
        assert box.kinds() == ["sale", "sale"]
        box.bank.answers.append(APPROVED)
        await box.drain(1)
        assert box.states("attempt") == ["declined", "reversed"]
        assert abs(waits_s(box) - HOUR) <= 2
        await due(box, APPROVED)

    live(box, scenario)
    assert box.kinds() == ["sale", "sale", "reversal", "sale"]
    assert box.states() == ["recovered"]
    assert box.balance("bank") == -1500


def test_a_try_with_the_link_down_does_not_count(box):
    async def scenario(box):
        await debt(box)
        for _ in range(10):
            await due(box, NOT_SENT)
            assert waits_s(box) == 299
        assert box.rows("select retries from debit") == [(0,)]
        await due(box, APPROVED)

    live(box, scenario)
    assert box.states() == ["recovered"]
    assert "reversal" not in box.kinds()


@pytest.mark.parametrize("posted", [True, False])
def test_a_recovery_cut_off_by_a_restart_is_reversed_not_repeated(tmp_path, posted):
    box = Box(tmp_path / "ledger.db", bank=ModelBank)

    async def first(box):
        box.bank.plan["sale"].extend(["decline", "power cut, taken" if posted else "power cut, not taken"])
        await box.charge(claim_request())
        box.clock.now += HOUR + 1
        await box.collector.round()
        task = asyncio.create_task(box.outbox.round())
        await box.bank.power_cut.wait()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    async def second(box):
        found, _ = await box.start_up()
        assert found.sales_in_doubt == 1
        assert box.states("attempt") == ["declined", "unknown"]
        box.check()
        box.clock.now += 60
        await box.drain(20)
        assert box.states("attempt") == ["declined", "reversed"]
        assert box.bank.book == {}
        box.clock.now += HOUR
        await box.collector.round()
        await box.drain(1)

    live(box, first, second, check=False)
    box.check()
    assert box.states() == ["recovered"]
    assert list(box.bank.book.values()) == [1500]


def test_a_recovery_that_had_not_left_is_simply_made_after_a_restart(box):
    async def first(box):
        await debt(box)
        box.clock.now += HOUR + 1
        await box.collector.round()

    async def second(box):
        found, _ = await box.start_up()
        assert found.sales_in_doubt == 0
        box.bank.answers.append(APPROVED)
        await box.drain(1)

    live(box, first, second)
    assert box.kinds() == ["sale", "sale"]
    assert box.states() == ["recovered"]


def test_a_restart_keeps_the_schedule(box):
    async def first(box):
        await debt(box)

    async def second(box):
        await box.start_up()
        await box.collector.round()
        assert box.kinds() == ["sale"]
        await due(box, APPROVED)

    live(box, first, second)
    assert box.states() == ["recovered"]


# --- tries that have to wait --------------------------------------------------------------------------------------


def test_a_debt_in_doubt_does_not_hold_up_the_others(box):
    """An approval after the decline has its reversal open, and the bank will not close it."""

    async def scenario(box):
        await debt(box, "k1")
        await box.heard_late(APPROVED)
        assert box.states("attempt") == ["reversing"]
        box.clock.now += 1
        await debt(box, "k2", mandate="m2")
        box.clock.now += HOUR + 1
        box.bank.answers.extend([NOT_FOUND, APPROVED])
        await box.collector.round()
        await box.drain(1)

    live(box, scenario)
    assert box.states() == ["debt", "recovered"]


def test_tries_wait_while_a_vehicle_does(box):
    async def scenario(box):
        await debt(box)
        box.clock.now += HOUR + 1
        box.engine.banks._waiting["bank-1"] = 1
        await box.collector.round()
        assert box.queued() == 0
        box.engine.banks._waiting["bank-1"] = 0
        await box.collector.round()
        assert box.queued() == 1

    live(box, scenario)


def test_a_vehicle_does_not_wait_for_a_terminal_that_a_debt_has_not_used_yet(box):
    """Every terminal has a recovery queued that has not left: the vehicle's sale goes first, they come again."""

    async def scenario(box):
        for n in range(3):
            await debt(box, f"k{n}", mandate=f"m{n}")
        box.clock.now += HOUR + 5
        await box.collector.round()
        assert box.queued() == 2
        fresh = await box.charge(claim_request("fresh", mandate="m9"), APPROVED)
        assert fresh.outcome.value == "paid"
        retries = box.rows(
            "select retries, retry_at is null from debit where state = 'debt' order by retries, retry_at"
        )
        assert retries == [(0, 0), (0, 0), (1, 1)], "a try that gave way is none"
        box.check()
        box.clock.now += 600
        for _ in range(4):
            box.bank.answers.extend([APPROVED] * 3)
            await box.collector.round()
            await box.drain(2)
            box.clock.now += 600

    live(box, scenario)
    assert box.states() == ["recovered"] * 3 + ["funded"]
    assert len(box.bank.heard) == 7


# --- paid, or written off -----------------------------------------------------------------------------------------


def test_a_debt_paid_at_a_till_is_tried_no_more(box):
    async def scenario(box):
        debit_id = await debt(box)
        rules = box.engine.rules
        assert await box.in_books(lambda tx: pay_at_till(tx, debit_id, "till-1", "ann", rules)) is None
        assert await box.in_books(lambda tx: pay_at_till(tx, debit_id, "till-1", "ann", rules)) == "not_a_debt"
        box.clock.now += 30 * DAY
        await box.collector.round()
        assert await box.write_off(debit_id, "ann", "x") == "not_a_debt"

    live(box, scenario)
    assert box.kinds() == ["sale"]
    assert box.rows("select state, collected from debit") == [("recovered", 1500)]
    assert (box.balance("till"), box.balance("debt")) == (-1500, 0)


def test_two_people_write_a_debt_off(box):
    async def scenario(box):
        debit_id = await debt(box)
        assert await box.write_off(debit_id, "ann", "insolvent") == "item_needs_second"
        assert await box.write_off(debit_id, "ann", "insolvent") == "item_needs_second"
        assert box.states() == ["debt"]
        assert box.items() == [("write_off_proposed", "open")]
        assert await box.write_off(debit_id, "bob", "agreed") is None
        assert await box.write_off(debit_id, "bob", "agreed") == "not_a_debt"
        box.clock.now += 30 * DAY
        await box.collector.round()

    live(box, scenario)
    assert box.states() == ["written_off"]
    assert (box.balance("loss"), box.balance("debt")) == (-1500, 0)
    assert box.rows("select state, actor, second_actor from item") == [("written_off", "ann", "bob")]
    assert box.kinds() == ["sale"]


def test_the_second_person_agrees_to_the_amount_that_was_proposed(box):
    async def scenario(box):
        debit_id = await debt(box)
        await box.write_off(debit_id, "ann", "insolvent")
        await box.adjust(debit_id, 9000, "wrong class", "ann")
        assert await box.write_off(debit_id, "bob", "agreed") == "item_needs_second"
        assert await box.write_off(debit_id, "ann", "agreed") is None

    live(box, scenario)
    assert box.rows("select amount, actor, second_actor from item") == [(9000, "bob", "ann")]


def test_two_people_at_the_same_moment_are_two_people(box):
    async def scenario(box):
        debit_id = await debt(box)
        return await asyncio.gather(*(box.write_off(debit_id, who, "x") for who in ("ann", "ann", "bob", "bob")))

    assert live(box, scenario) == ["item_needs_second", "item_needs_second", None, "not_a_debt"]


def test_one_person_where_the_rules_say_so(tmp_path):
    box = Box(tmp_path / "ledger.db", rules=rules_of("[debt]\nfour_eyes = false"))

    async def scenario(box):
        return await box.write_off(await debt(box), "ann", "insolvent")

    assert live(box, scenario) is None
    assert box.states() == ["written_off"]


def test_a_proposal_is_over_when_the_debt_is_paid(box):
    async def scenario(box):
        debit_id = await debt(box)
        await box.write_off(debit_id, "ann", "insolvent")
        await due(box, APPROVED)
        assert await box.write_off(debit_id, "bob", "agreed") == "not_a_debt"

    live(box, scenario)
    assert box.items() == [("write_off_proposed", "corrected")]
    assert box.balance("loss") == 0


@pytest.mark.parametrize("queued", [True, False])
def test_a_debt_in_doubt_is_neither_paid_at_a_till_nor_written_off(box, queued):
    async def scenario(box):
        debit_id = await debt(box)
        box.clock.now += HOUR + 1
        await box.collector.round()
        if not queued:
            box.bank.answers.append(SILENT)
            await box.drain(1)
        rules = box.engine.rules
        assert await box.in_books(lambda tx: pay_at_till(tx, debit_id, "till-1", "ann", rules)) == "bank_in_doubt"
        assert await box.write_off(debit_id, "ann", "x") == "bank_in_doubt"

    live(box, scenario)


def test_small_debts_are_not_tried(tmp_path):
    box = Box(tmp_path / "ledger.db", rules=rules_of("[debt]\nminimum_fen = 1501"))

    async def scenario(box):
        await debt(box)
        return waits_s(box)

    assert live(box, scenario) is None
