"""Which messages one look at the queue puts on the wire."""

from gateway.ledger import tables
from gateway.outbox import worker as module
from tests.gateway.debit.conftest import APPROVED, NOT_SENT, live

from .test_worker import box, one_round, owed, ruled, spread

__all__ = ["box"]


def test_what_steps_aside_holds_up_no_other_terminal(box):
    """An advice waits for vehicles; the reversal behind it in the queue, of another terminal, does not wait with it."""

    async def scenario(box):
        await owed(box, 1, NOT_SENT)
        await box.in_books(lambda tx: tx.update(tables.outbox, {"kind": "advice"}, destination="bank-1/T0000009"))
        await owed(box, 2)
        box.engine.banks._waiting["bank-1"] = 1
        box.bank.answers.append(APPROVED)
        assert await box.outbox.round() == 1

    live(box, scenario)
    assert [m.split()[0] for m in box.bank.heard] == ["reversal"]


def test_no_more_than_so_many_are_on_the_wire_at_once(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "TOGETHER_MAX", 2)
    box = ruled(tmp_path, '[retry.advice]\nmessages_per_s = "unlimited"')

    async def scenario(box):
        await spread(box, 3, ("A", "B", "C"))
        box.bank.answers.extend([APPROVED] * 3)
        return [await box.outbox.round() for _ in range(3)]

    assert live(box, scenario) == [2, 1, 0]


def test_what_is_not_due_yet_stays_with_its_place_and_its_count(box):
    """A message without an answer: tried once, due again after the rules' pause, and what was heard is noted."""

    async def scenario(box):
        await owed(box, 1)
        box.clock.now += 1
        assert await one_round(box) == ["reversal"]
        assert await one_round(box) == []
        (row,) = box.rows("select tries, next_at > created_at, done_at, last_answer from outbox")
        assert row == (1, 1, None, "silent")
        box.bank.answers.append(APPROVED)
        box.clock.now += 600
        assert await one_round(box) == ["reversal"]
        assert box.rows("select tries, done_at is null, last_answer from outbox where kind = 'reversal'") == [
            (2, 0, "00")
        ]

    live(box, scenario)
