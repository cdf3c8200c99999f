"""The bank's book is ours: charges, holds, debts, refunds and late words all at once, over a bank with a book."""

import asyncio
import random

import pytest

from gateway.debit.claims import HoldPlaced
from gateway.debit.refunds import RefundRequest
from gateway.model.passage import Service

from .conftest import CONTEXT, Box, claim_request, live, rules_of
from .model_bank import ADVICE, REVERSAL, ModelBank

pytestmark = pytest.mark.slow

SALE = ("approve", "decline", "answer lost", "answer late", "decline late", "delayed", "vanished", "not sent")
ROUNDS = 60
REST_MAX = 400
"""Rounds until everything has come to rest: debts are tried for weeks."""


async def charge(box, chance, n):
    await box.charge(claim_request(f"k{n}", mandate=f"m{n % 7}", amount=chance.randrange(1, 3000)))


async def fuel(box, chance, n):
    request = claim_request(f"k{n}", mandate=f"m{n % 7}", amount=2000, service=Service.FUEL)
    placed = await box.engine.hold(request, timeout_s=5)
    if not isinstance(placed, HoldPlaced):
        return
    if chance.random() < 0.2:
        await box.engine.release(placed.debit_id, CONTEXT)
    else:
        await box.complete(placed.debit_id, chance.randrange(0, 3000), request.payer)


async def refund(box, chance, n):
    funded = box.rows("select id from debit where state in ('funded', 'recovered') order by hold_id")
    if funded and chance.random() < 0.5:
        wanted = RefundRequest(f"r{n}", chance.choice(funded)[0], chance.randrange(1, 900), "x", "ann")
        await box.refund(wanted, told=chance.random() < 0.5)


async def hear_late(box, **how):
    box.bank.hear_late(0, **how)
    await box.followed_up()


async def one_round(box, chance, n):
    box.bank.plan["sale"].extend(chance.choice(SALE) for _ in range(3))
    box.bank.plan["reversal"].extend(chance.choice(REVERSAL) for _ in range(2))
    box.bank.plan["advice"].extend(chance.choice(ADVICE) for _ in range(2))
    await asyncio.gather(charge(box, chance, 3 * n), fuel(box, chance, 3 * n + 1), charge(box, chance, 3 * n + 2))
    await refund(box, chance, n)
    if box.bank.network and chance.random() < 0.5:
        box.bank.arrive(0, answered=chance.random() < 0.5)
    if box.bank.late_answers and chance.random() < 0.6:
        await hear_late(box, twice=chance.random() < 0.3)
    box.clock.now += chance.choice((1, 30, 4000))
    await box.collector.round()
    await box.outbox.round()


async def come_to_rest(box):
    """The bank becomes reasonable, everything that wanders arrives or dies, and debts are tried to their end."""
    for queue in box.bank.plan.values():
        queue.clear()
    while box.bank.network:
        box.bank.arrive(0, answered=False)
    while box.bank.late_answers:
        await hear_late(box)
    for _ in range(REST_MAX):
        await box.collector.round()
        await box.outbox.round()
        box.clock.now += 90
        due = box.rows("select min(retry_at) from debit where retry_at is not null")[0][0]
        if not box.queued():
            if due is None:
                return
            box.clock.now = max(box.clock.now, due / 1e6)
    raise AssertionError(box.rows("select * from outbox where done_at is null"))


MANY_STOOD_IN = rules_of("[stand_in.fuel]\nper_day_count = 99")
"""Rules by which a payer may be stood in for at more pumps a day than the shipped ones allow."""


@pytest.mark.parametrize("seed", range(5))
def test_whatever_the_bank_does_its_book_is_ours_payer_by_payer(tmp_path, seed):
    chance = random.Random(seed)
    box = Box(tmp_path / "ledger.db", bank=ModelBank, rules=MANY_STOOD_IN if seed % 2 else None)

    async def scenario(box):
        for n in range(ROUNDS):
            await one_round(box, chance, n)
        box.check()
        await come_to_rest(box)

    live(box, scenario)
    assert box.balance("suspense") == 0
    assert -box.balance("bank") == sum(box.bank.book.values())
    refused = "select coalesce(sum(amount), 0) from attempt where kind = 'refund' and state = 'declined'"
    assert box.rows(refused) == [(box.balance("due_back"),)], "the rest was paid"
    twice = "select 1 from attempt where state = 'approved' and kind <> 'refund' group by debit_id having count(*) > 1"
    assert box.rows(twice) == []
    assert box.rows("select 1 from attempt where state not in ('approved', 'declined', 'not_sent', 'reversed')") == []
    ours = dict(
        box.rows(
            "select obligor_id, sum(collected - (select coalesce(sum(amount), 0) from refund"
            " where debit_id = debit.id and state = 'paid')) from debit group by obligor_id"
        )
    )
    asked = box.rows(
        "select p.terminal, p.stan, d.obligor_id from attempt a join debit d on d.id = a.debit_id"
        " join pos_attempt p on p.attempt_id = a.id"
    )
    payer = {(terminal, stan): obligor for terminal, stan, obligor in asked}
    theirs = dict.fromkeys(ours, 0)
    for key, fen in box.bank.book.items():
        theirs[payer[key]] += fen
    assert theirs == ours
