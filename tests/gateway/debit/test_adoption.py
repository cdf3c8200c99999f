"""An adopted ledger: nothing that was open is undone, told or asked again before somebody has found out."""

import asyncio
from pathlib import Path

import pytest

from gateway.debit import adoption
from gateway.debit.adoption import WHY_DISPUTED
from gateway.debit.late import LateEffect, resolve_attempt
from gateway.debit.refunds import RefundRequest
from gateway.debit.states import LOST
from gateway.ledger.batches import Committer, StorageUnavailable
from gateway.ledger.incarnation import Birth, LedgerRefused, Place
from gateway.ledger.marks import MarkState, MarkUnwritable, MemoryMark
from gateway.ledger.positions import BLOCK, STAN_MAX, by_clock, pair
from gateway.model.clock import to_us
from gateway.model.passage import Funding
from hardware.bench.chain_key import KEYS

from .conftest import APPROVED, DECLINED, NOT_FOUND, SILENT, charge, claim_request, hold_request, live

T1, T2 = "bank-1/T0000001", "bank-1/T0000002"
BIRTH = Birth("f" * 32, "restored", "wang")


def adopt(box, birth=BIRTH, mark=None):
    """As a person does while the gateway stands."""
    box.open()
    committer = Committer(box.database, box.clock, keys=KEYS, mark=box.mark)
    found, box.mark.state = adoption.begin_anew(committer, box.mark.state if mark is None else mark, birth)
    box.check()
    box.database.dispose()
    box.reader.dispose()
    box.open()
    return found


def again(box, scenario):
    async def inside():
        async with box:
            result = await scenario(box)
            box.check()
            return result

    return asyncio.run(inside())


async def open_ones(box):
    """A reversal that waits, an advice that waits, a debt, one paid, and one whose bank was never asked."""
    await box.charge(claim_request("paid", mandate="m0"), APPROVED)
    await box.charge(claim_request("reversing", mandate="m1"), SILENT)
    await box.charge(claim_request("debt", mandate="m2"), DECLINED)
    await box.engine.hold(claim_request("held", mandate="m3"), timeout_s=5)
    box.clock.now += 5


def open_items(box, kind):
    return box.rows("select ref, amount from item where kind = :k and state = 'open' order by ref", k=kind)


def test_what_was_open_is_disputed_and_its_messages_are_dropped(box):
    live(box, open_ones)
    found = adopt(box)
    assert (found.disputed, found.claims, found.refunds) == (1, 3, 0)
    assert sorted(box.states("attempt")) == ["approved", "declined", "disputed"]
    assert box.rows("select count(*) from outbox where done_at is null") == [(0,)]
    assert box.rows("select note from item where kind = 'attempt_disputed'") == [(WHY_DISPUTED,)]
    assert len(open_items(box, LOST)) == 3

    async def scenario(box):
        await box.start_up()
        box.bank.heard.clear()
        box.clock.now += 86_400
        for _ in range(3):
            await box.collector.round()
            await box.drain()
        assert box.bank.heard == []

    again(box, scenario)
    assert sorted(box.states()) == ["debt", "funded", "owed", "voided"]


def test_every_terminal_goes_on_behind_all_that_is_known(box):
    live(box, open_ones)
    used = {t: e for t, e in box.mark.state.reserved.items()}
    now = by_clock(to_us(box.clock.utcnow()))
    assert min(used.values()) < now
    found = adopt(box, mark=MarkState("0" * 32, 7, reserved={T1: now + 5, "bank-1/T9999999": 10}))
    assert found.incarnation.number == 8
    assert found.terminals == {T1: now + 5 + STAN_MAX, T2: now, "bank-1/T9999999": now}
    assert box.mark.state.reserved == found.terminals

    async def scenario(box):
        await box.charge(claim_request("after", mandate="m9"), APPROVED)

    again(box, scenario)
    newest = box.rows(
        "select batch, stan from attempt join pos_attempt on attempt_id = id order by created_at desc limit 1"
    )[0]
    assert newest == pair(now + 5 + STAN_MAX)


def test_without_a_mark_the_attempts_themselves_are_counted(box):
    live(box, open_ones)
    box.open()
    newest = box.rows(
        "select max(batch * :n + stan) from attempt join pos_attempt on attempt_id = id where terminal = 'T0000001'",
        n=STAN_MAX,
    )[0][0]
    box.database.dispose()
    box.reader.dispose()
    box.clock.now = 1_577_836_900.0  # the clock says nothing: hardly after 2020
    box.mark.state = MarkState("0" * 32, 1)
    found = adopt(box)
    assert found.terminals[T1] == newest + STAN_MAX
    assert found.terminals[T1] > BLOCK


@pytest.mark.parametrize(("posted", "states"), [(True, ["approved"]), (False, ["declined"])])
def test_a_word_of_the_bank_ends_the_dispute(box, posted, states):
    async def one(box):
        await box.charge(claim_request("k", mandate="m1"), SILENT)

    live(box, one)
    adopt(box)

    async def scenario(box):
        (attempt_id,) = box.rows("select id from attempt")[0]
        effect = await box.in_books(
            lambda tx: resolve_attempt(tx, attempt_id, posted=posted, source="file", actor="li", rules=box.engine.rules)
        )
        assert effect is (LateEffect.SETTLED if posted else LateEffect.CLOSED)
        await box.collector.round()
        await box.drain()

    again(box, scenario)
    assert box.states("attempt") == states
    assert box.states() == ["funded" if posted else "owed"]
    assert open_items(box, "attempt_disputed") == []
    assert len(open_items(box, LOST)) == 1
    assert box.bank.heard[1:] == [], "of the claim itself nobody has said anything yet"


@pytest.mark.parametrize(("posted", "state"), [(True, "funded"), (False, "owed")])
def test_a_word_about_a_claim_that_is_not_decided_yet_waits_for_its_decision(box, posted, state):
    """The power went while its bank was asked; the day file is read before start-up has closed what it found."""

    async def one(box):
        async def dies(request, *, timeout_s):
            raise asyncio.CancelledError

        box.bank.exchange = dies
        with pytest.raises(asyncio.CancelledError):
            await box.charge(claim_request("k", mandate="m1"))

    exchange = box.bank.exchange
    live(box, one)
    box.bank.exchange = exchange
    adopt(box)
    assert (box.states(), box.states("attempt")) == (["held"], ["disputed"])

    async def scenario(box):
        ((attempt_id,),) = box.rows("select id from attempt")
        effect = await box.resolve_attempt(attempt_id, posted=posted, source="file", actor="li")
        assert effect is (LateEffect.SETTLED if posted else LateEffect.CLOSED)
        assert (box.states(), box.balance("bank"), box.balance("suspense")) == (["held"], 0, 0)
        await box.start_up()

    again(box, scenario)
    assert box.states() == [state]
    assert box.balance("bank") == (-1500 if posted else 0)


def test_a_claim_that_somebody_found_open_goes_on(box):
    async def one(box):
        await box.charge(claim_request("k", mandate="m1"), SILENT)

    live(box, one)
    adopt(box)

    async def scenario(box):
        from gateway.clearing.items import explain

        (attempt_id,) = box.rows("select id from attempt")[0]
        rules = box.engine.rules
        await box.in_books(
            lambda tx: resolve_attempt(tx, attempt_id, posted=False, source="file", actor="li", rules=rules)
        )
        (number,) = box.rows("select id from item where kind = 'outcome_lost'")[0]
        await box.in_books(lambda tx: explain(tx, number, "li", "asked the bank"))
        box.bank.answers.append(APPROVED)
        await box.collector.round()
        await box.drain()

    again(box, scenario)
    assert box.states() == ["funded"]
    assert box.kinds()[-1] == "advice"


def late_approval(box):
    async def scenario(box):
        await box.charge(claim_request("k", mandate="m1"), SILENT)
        await box.drain(1)
        await box.heard_late(APPROVED)

    live(box, scenario)
    assert box.rows("select late_approval from attempt where kind = 'sale'") == [(1,)]
    adopt(box)
    assert box.balance("suspense") == 1500


@pytest.mark.parametrize("posted", [True, False])
def test_a_late_approval_stays_in_suspense_until_somebody_knows(box, posted):
    late_approval(box)

    async def scenario(box):
        box.bank.heard.clear()
        box.clock.now += 86_400
        await box.drain()
        assert box.bank.heard == []
        (attempt_id,) = box.rows("select id from attempt where kind = 'sale'")[0]
        rules = box.engine.rules
        await box.in_books(
            lambda tx: resolve_attempt(tx, attempt_id, posted=posted, source="file", actor="li", rules=rules)
        )
        box.bank.answers.append(APPROVED)
        await box.drain(1)

    again(box, scenario)
    assert box.balance("suspense") == 0
    assert box.balance("bank") == 0
    assert box.kinds() == (["reversal"] if posted else [])


def test_a_refund_that_may_have_been_paid_is_not_asked_for_again(box):
    async def one(box):
        decision = await box.charge(claim_request("k", mandate="m1"), APPROVED)
        request = RefundRequest("r1", decision.debit_id, 500, "goodwill", "li")
        refund = await box.refund(request)
        assert refund.refund_id

    live(box, one)
    found = adopt(box)
    assert (found.disputed, found.refunds) == (0, 1)

    async def scenario(box):
        box.bank.heard.clear()
        await box.collector.round()
        await box.drain()
        assert box.bank.heard == []

    again(box, scenario)
    assert open_items(box, LOST) == box.rows("select id, amount from refund")


def test_a_claim_that_may_have_been_collected_is_not_asked_for_when_its_card_is_read_again(box):
    request = hold_request("k", funding=Funding.BANK_ONLINE)

    async def one(box):
        await box.engine.hold(request, timeout_s=5)

    live(box, one)
    adopt(box)

    async def scenario(box):
        await charge(box, request)
        assert box.bank.heard == []

    again(box, scenario)
    assert (box.states(), box.states("attempt")) == (["owed"], [])


def test_a_second_loss_lists_a_claim_again(box):
    async def one(box):
        await box.charge(claim_request("k", mandate="m1"), DECLINED)

    live(box, one)
    adopt(box)

    async def explained(box):
        from gateway.clearing.items import explain

        (number,) = box.rows("select id from item where kind = 'outcome_lost'")[0]
        await box.in_books(lambda tx: explain(tx, number, "li", "asked the bank"))

    again(box, explained)
    assert open_items(box, LOST) == []
    adopt(box, Birth("e" * 32, "restored again", "wang"))
    assert len(open_items(box, LOST)) == 1


def test_a_claim_made_since_is_none_of_this(box):
    live(box, open_ones)
    adopt(box)

    async def scenario(box):
        await box.charge(claim_request("new", mandate="m7"), SILENT)
        box.bank.answers += [NOT_FOUND, APPROVED, APPROVED]
        box.clock.now += 100
        await box.drain(3)
        box.clock.now += 100
        await box.drain(3)

    again(box, scenario)
    assert [state for key, state in box.rows("select idempotency_key, state from debit") if key == "new"] == ["funded"]


def test_a_ledger_that_nobody_refuses_is_not_adopted(tmp_path, box):
    live(box, open_ones)
    box.keep_mark()
    place = Place(box.path, Path(f"{box.path}.mark"))
    with pytest.raises(LedgerRefused) as refused:
        adoption.adopt(place, box.clock, KEYS, BIRTH)
    assert refused.value.reason == "ledger_known"
    with pytest.raises(LedgerRefused) as refused:
        adoption.adopt(Place(tmp_path / "no.db", tmp_path / "no.mark"), box.clock, KEYS, BIRTH)
    assert refused.value.reason == "ledger_missing"


# --- a mark that cannot be written ----------------------------------------------------------------------------------


class FullMark(MemoryMark):
    """Its disk is full."""

    def reserve(self, terminal, end):
        raise MarkUnwritable("no room", full=True)


def test_without_room_for_the_mark_no_bank_is_asked_and_vehicles_are_judged_as_after_silence(box):
    async def scenario(box):
        box.committer._mark = FullMark(first=0)
        box.committer._life = None
        decision = await box.charge(claim_request("k", mandate="m1"))
        assert decision.outcome == "owed"
        assert box.bank.heard == []
        assert box.rows("select count(*) from attempt") == [(0,)]
        with pytest.raises(StorageUnavailable):
            await box.writer.submit(lambda tx: tx.next_position("bank-1/T0000001"))
        box.committer._mark = box.mark
        box.committer._life = None
        box.clock.now += 60
        box.bank.answers.append(APPROVED)
        await box.collector.round()
        await box.drain()
        assert box.kinds() == ["advice"]

    live(box, scenario)
    assert box.states() == ["funded"]
