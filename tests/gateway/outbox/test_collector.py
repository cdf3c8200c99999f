"""The collector: what is due is queued once, what people decided is told, and nothing is forgotten."""

import asyncio

import pytest

from gateway.debit.debts import pay_at_till, retry_now
from gateway.debit.refunds import RefundRequest
from gateway.ledger import tables
from gateway.ledger.engines import StorageTrouble
from gateway.ledger.writer import StorageUnavailable
from gateway.outbox import collector as module
from gateway.outbox.collector import Collector
from tests.gateway.debit.conftest import (
    APPROVED,
    DECLINED,
    DUPLICATE,
    NOT_SENT,
    TERMINALS,
    Box,
    ToldBank,
    claim_request,
    live,
)

HOUR = 3600


@pytest.fixture
def box(tmp_path):
    return Box(tmp_path / "ledger.db")


async def debts(box, number):
    for n in range(number):
        await box.charge(claim_request(f"k{n}", mandate=f"m{n}"), DECLINED)
        box.clock.now += 1


async def paid(box, key="k1"):
    return (await box.charge(claim_request(key), APPROVED)).debit_id


async def refund(box, debit_id, amount, key="r1"):
    """Decided by somebody's own program, which knows no bank."""
    await box.refund(RefundRequest(key, debit_id, amount, "x", "ann"))


def queued(box):
    return box.rows("select kind from outbox where done_at is null order by id")


def test_the_oldest_debts_come_first_one_a_terminal(box):
    async def scenario(box):
        await debts(box, 3)
        box.clock.now += HOUR
        await box.collector.round()
        await box.collector.round()
        assert queued(box) == [("recovery",), ("recovery",)]
        asked = "select d.idempotency_key from attempt a join debit d on d.id = a.debit_id where a.kind = 'recovery'"
        assert {row[0] for row in box.rows(asked)} == {"k0", "k1"}
        box.bank.answers.extend([APPROVED] * 3)
        await box.drain(1)
        await box.collector.round()
        await box.drain(1)

    live(box, scenario)
    assert box.states() == ["recovered"] * 3


def test_nothing_is_due_before_its_time_and_nothing_twice(box):
    async def scenario(box):
        await debts(box, 1)
        box.clock.now += HOUR - 10
        await box.collector.round()
        assert queued(box) == []
        box.clock.now += 10
        for _ in range(3):
            await box.collector.round()
        assert queued(box) == [("recovery",)]

    live(box, scenario)


def test_debts_of_another_bank_are_not_its_own(box):
    async def scenario(box):
        await debts(box, 1)
        box.clock.now += HOUR
        other = Collector("bank-2", box.engine, box.queries, clock=box.clock)
        await other.round()
        assert queued(box) == []

    live(box, scenario)


def test_without_a_terminal_it_waits_and_harms_nothing(box):
    async def scenario(box):
        await debts(box, 1)
        await refund(box, await paid(box, "p"), 500)
        box.clock.now += HOUR
        numbers, box.bank._any = box.bank._any, ()
        await box.collector.round()
        assert queued(box) == []
        box.bank._any = numbers
        box.clock.now += HOUR
        await box.collector.round()
        assert sorted(queued(box)) == [("recovery",), ("refund",)]

    live(box, scenario)


def test_more_debts_than_one_look_takes_are_all_found(box, monkeypatch):
    monkeypatch.setattr(module, "FOUND_MAX", 2)

    async def scenario(box):
        await debts(box, 5)
        box.clock.now += HOUR
        for _ in range(5):
            box.bank.answers.extend([APPROVED] * 2)
            await box.collector.round()
            await box.drain(1)

    live(box, scenario)
    assert box.states() == ["recovered"] * 5


class PickyBank(ToldBank):
    """Its messages cannot carry one contract any more."""

    picky = False

    def takes(self, contract_ref):
        return contract_ref != "contract-m0" or not self.picky

    def message(self, kind, order):
        if kind in ("sale", "refund") and not self.takes(order.contract_ref):
            raise ValueError("no such contract")
        return super().message(kind, order)


def test_a_decision_no_message_can_tell_keeps_no_other_from_the_bank(tmp_path, caplog):
    box = Box(tmp_path / "ledger.db", bank=PickyBank)

    async def scenario(box):
        ids = [(await box.charge(claim_request(f"k{n}", mandate=f"m{n}"), APPROVED)).debit_id for n in range(3)]
        for n, debit_id in enumerate(ids):
            await refund(box, debit_id, 500, f"r{n}")
        box.bank.picky = True
        for _ in range(2):
            await box.collector.round()
        assert queued(box) == [("refund",), ("refund",)]
        assert [record.args for record in caplog.records if record.exc_info] == [(ids[0],)]
        assert box.rows("select kind, ref, state from item") == [("decision_not_told", ids[0], "open")]

    async def after_a_start(box):
        box.bank.picky = False
        await box.start_up()
        await box.collector.round()
        assert queued(box) == [("refund",)] * 3
        assert box.items() == [("decision_not_told", "corrected")]

    live(box, scenario, after_a_start)


@pytest.mark.parametrize("gone", [True, False], ids=["no contract", "a contract no message carries"])
def test_a_debt_no_bank_can_be_asked_for_goes_to_a_person_and_the_others_get_their_turn(tmp_path, gone):
    box = Box(tmp_path / "ledger.db", bank=PickyBank)

    async def scenario(box):
        await debts(box, 3)
        oldest = box.rows("select id from debit order by hold_id")[0][0]
        if gone:
            await box.in_books(lambda tx: tx.update(tables.debit, {"id": oldest}, contract_ref=None))
        box.bank.picky = True
        box.clock.now += HOUR
        await box.collector.round()
        assert queued(box) == [("recovery",), ("recovery",)]
        box.bank.answers.extend([APPROVED] * 2)
        await box.drain(1)
        for _ in range(3):
            await box.collector.round()
        assert queued(box) == []
        assert box.states() == ["debt", "recovered", "recovered"]
        assert box.rows("select retry_at, retries from debit where state = 'debt'") == [(None, 0)]
        assert box.rows("select kind, ref, state, amount from item") == [("debt_without_bank", oldest, "open", 1500)]
        return oldest

    async def asked_again(box):
        oldest = box.rows("select id from debit order by hold_id")[0][0]
        known = await box.in_books(lambda tx: retry_now(tx, oldest, "ann"))
        assert known == ("debt_without_bank" if gone else None)
        for _ in range(2):
            await box.collector.round()
        assert (queued(box), len(box.items())) == ([], 1)
        await box.in_books(lambda tx: pay_at_till(tx, oldest, "till-1", "ann", box.engine.rules))

    live(box, scenario, asked_again)
    assert box.items() == [("debt_without_bank", "corrected")]


def test_the_item_of_a_debt_without_a_bank_is_over_when_it_is_written_off(tmp_path):
    box = Box(tmp_path / "ledger.db", bank=PickyBank)

    async def scenario(box):
        await debts(box, 1)
        box.bank.picky = True
        box.clock.now += HOUR
        await box.collector.round()
        debit_id = box.rows("select id from debit")[0][0]
        for person in ("ann", "bob"):
            await box.write_off(debit_id, person, "no bank")

    live(box, scenario)
    assert box.states() == ["written_off"]
    assert box.items() == [("debt_without_bank", "corrected"), ("write_off_proposed", "written_off")]


def test_a_debt_that_somebody_has_settled_meanwhile_keeps_no_other_waiting(box):
    """Found due, and paid at a till before its turn came."""

    async def scenario(box):
        await debts(box, 2)
        box.clock.now += HOUR
        due = await box.collector._due_debts()
        await box.in_books(lambda tx: pay_at_till(tx, due[0], "till-1", "ann", box.engine.rules))

        async def as_found():
            return due

        box.collector._due_debts = as_found
        await box.collector.round()
        assert queued(box) == [("recovery",)]

    live(box, scenario)


def test_what_people_decided_is_told_once_also_across_a_restart(box):
    async def first(box):
        await box.collector.round()
        box.debit_id = await paid(box)
        await refund(box, box.debit_id, 500)

    async def second(box):
        await box.start_up()
        for _ in range(3):
            await box.collector.round()
        assert queued(box) == [("refund",)]
        box.bank.answers.append(APPROVED)
        await box.drain(1)
        await refund(box, box.debit_id, 1000, "r2")
        for _ in range(3):
            await box.collector.round()
        assert queued(box) == [("refund",)]

    live(box, first, second)
    assert box.balance("bank") == -1000


def test_a_refund_that_its_bank_never_had_is_told_anew(box):
    """The bank knew its keys from an older message: it has booked nothing, says a person."""

    async def scenario(box):
        await refund(box, await paid(box), 500)
        await box.collector.round()
        box.bank.answers.append(DUPLICATE)
        await box.drain(1)
        attempt_id = box.rows("select id from attempt where kind = 'refund' and state = 'disputed'")[0][0]
        await box.resolve_attempt(attempt_id, posted=False, source="called", actor="ann")
        await box.collector.round()
        assert queued(box) == [("refund",)]
        box.bank.answers.append(APPROVED)
        await box.drain(1)

    live(box, scenario)
    assert box.states("refund") == ["paid"]
    assert box.balance("bank") == -1000
    assert "decision_not_told" not in [kind for kind, _ in box.items()]


def test_what_the_storage_refused_is_tried_again(box):
    """The supervisor starts the same collector again: it must not have forgotten where it was."""

    async def scenario(box):
        await box.collector.round()
        await refund(box, await paid(box), 500)
        adopt = box.engine.upkeep.adopt

        async def refused(debit_id):
            raise StorageUnavailable(StorageTrouble.FULL)

        box.engine.upkeep.adopt = refused
        with pytest.raises(StorageUnavailable):
            await box.collector.round()
        box.engine.upkeep.adopt = adopt
        await box.collector.round()
        assert queued(box) == [("refund",)]

    live(box, scenario)


def test_at_the_first_look_only_what_its_bank_does_not_know_is_touched(box):
    """After an outage thousands are owed whose advices wait: none of them is looked at one by one."""

    async def scenario(box):
        for n in range(5):
            await box.charge(claim_request(f"k{n}", mandate=f"m{n}"), NOT_SENT)
        adopted = []
        adopt = box.engine.upkeep.adopt

        async def seen(debit_id):
            adopted.append(debit_id)
            await adopt(debit_id)

        box.engine.upkeep.adopt = seen
        await box.collector.round()
        assert adopted == []
        box.check()

    live(box, scenario)


def test_a_debit_owed_that_its_bank_was_never_told_is_told(box):
    async def first(box):
        box.bank._any, box.bank._terminals = (), {}
        await box.charge(claim_request())
        box.bank._any, box.bank._terminals = ("T0000001",), TERMINALS
        assert (box.states(), queued(box)) == (["owed"], [])

    async def second(box):
        await box.start_up()
        await box.collector.round()
        box.bank.answers.append(APPROVED)
        await box.drain(1)

    live(box, first, second)
    assert box.states() == ["funded"]


def test_a_bank_that_is_away_for_days_is_not_asked_for_debts(box):
    """No try is made in vain and none counts; once its link is up they are made as they would have been."""

    async def scenario(box):
        await debts(box, 3)
        tries = box.rows("select retry_at from debit order by hold_id")
        box.bank.up = False
        for _ in range(3 * 24):
            box.clock.now += HOUR
            await box.collector.round()
            await box.drain(1)
        assert queued(box) == []
        assert box.rows("select count(*) from attempt where kind = 'recovery'") == [(0,)]
        assert box.rows("select retry_at, retries from debit order by hold_id") == [(*row, 0) for row in tries]
        box.bank.up = True
        for _ in range(2):
            box.bank.answers.extend([APPROVED] * 2)
            await box.collector.round()
            await box.drain(1)

    live(box, scenario)
    assert box.states() == ["recovered"] * 3
    assert box.kinds() == ["sale"] * 6


def test_it_runs_until_it_is_stopped(box):
    async def scenario(box):
        await debts(box, 1)
        task = asyncio.create_task(box.collector.run())
        box.clock.now += HOUR
        while not queued(box):
            await asyncio.sleep(0.001)
        assert not task.done()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    live(box, scenario)
