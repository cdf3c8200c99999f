"""Limits: holds bind them, whoever comes together; changed at run time they bind at once; the box's own list."""

import asyncio
from dataclasses import replace

import pytest

from gateway.debit.claims import HoldPlaced, HoldRefused, Identity
from gateway.debit.debts import pay_at_till
from gateway.ledger import tables
from gateway.model.passage import Funding, PassageOutcome, Release, Service

from .conftest import APPROVED, CONTEXT, DECLINED, Box, claim_request, hold_request, live, payer_of, rules_of

ONLINE = Funding.BANK_ONLINE


def holds(limit=5000, number=6, amount=1000):
    payer = payer_of(ONLINE, limit=limit)
    return [hold_request(f"k{n}", payer=payer, amount=amount, card=f"9901{n:016d}") for n in range(number)]


def claims(number=6, **values):
    return [claim_request(f"k{n}", **{"amount": 1000, **values}) for n in range(number)]


async def set_limit(box, service="*", *, mandate="m1", **values):
    def change(tx):
        if tx.find(tables.mandate, id=mandate) is None:
            tx.insert(
                tables.mandate,
                id=mandate,
                status="active",
                funding="bank_online",
                limit_fen=None,
                stand_in_limit_fen=0,
                imported_at=0,
            )
        if not tx.update(tables.mandate_limit, {"mandate_id": mandate, "service": service}, **values):
            tx.insert(tables.mandate_limit, mandate_id=mandate, service=service, **values)

    await box.in_books(change)


# --- what is reserved and owed ------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["one after the other", "in one commit", "together"])
def test_of_six_holds_of_1000_on_a_limit_of_5000_the_sixth_is_refused(box, how):
    async def scenario(box):
        if how == "one after the other":
            return [await box.engine.hold(request, timeout_s=5) for request in holds()]
        if how == "in one commit":
            # Handed in by one turn of the loop: they go to the writer as one group.
            return await asyncio.gather(*(box.engine.hold(request, timeout_s=5) for request in holds()))

        async def after(turns, request):
            for _ in range(turns):
                await asyncio.sleep(0)
            return await box.engine.hold(request, timeout_s=5)

        return await asyncio.gather(*(after(n % 3, request) for n, request in enumerate(holds())))

    found = live(box, scenario)
    assert sum(isinstance(placed, HoldPlaced) for placed in found) == 5
    assert found.count(HoldRefused("limit_exceeded")) == 1
    assert box.rows("select sum(held) from account where kind = 'open'") == [(5000,)]


@pytest.mark.parametrize("funding", [ONLINE, Funding.ISSUER_CLEARING])
def test_of_six_charges_at_once_the_sixth_is_refused(box, funding):
    async def scenario(box):
        box.bank.answers.extend([DECLINED] * 6)
        return await asyncio.gather(*(box.charge(r) for r in claims(limit=5000, funding=funding)))

    found = live(box, scenario)
    assert [d.reason for d in found].count("limit_exceeded") == 1
    assert box.rows("select count(*) from debit") == [(5,)]


def test_what_was_paid_binds_no_more(box):
    async def scenario(box):
        return [(await box.charge(request, APPROVED)).outcome for request in claims(limit=5000, number=8)]

    assert set(live(box, scenario)) == {PassageOutcome.PAID}


def test_a_debt_binds_and_what_is_due_back_does_not_help(box):
    async def scenario(box):
        first = await box.charge(claim_request("k1", amount=3000, limit=5000), APPROVED)
        from gateway.debit.refunds import RefundRequest

        await box.refund(RefundRequest("r1", first.debit_id, 3000, "complaint", "ann"))
        assert box.balance("due_back") == 3000
        await box.charge(claim_request("k2", amount=3000, limit=5000), DECLINED)
        return await box.charge(claim_request("k3", amount=2001, limit=5000))

    assert live(box, scenario).reason == "limit_exceeded"


def test_a_hold_that_was_freed_binds_no_more(box):
    async def scenario(box):
        payer = payer_of(ONLINE, limit=5000)
        fuel = claim_request("k1", amount=5000, limit=5000, service=Service.FUEL)
        placed = await box.engine.hold(fuel, timeout_s=5)
        assert await box.engine.hold(holds(number=1)[0], timeout_s=5) == HoldRefused("limit_exceeded")
        await box.engine.release(placed.debit_id, CONTEXT)
        again = await box.engine.hold(hold_request("k2", payer=payer, amount=5000), timeout_s=5)
        assert isinstance(again, HoldPlaced)

    live(box, scenario)


# --- limits of a debit and of a day -------------------------------------------------------------------------------

STATED = (
    # limits by service, the debits (service, day, amount), and the reason each is refused for
    (
        {"*": {"per_debit_fen": 1000}},
        [("toll", "1", 1000), ("toll", "1", 1001), ("fuel", "1", 1001)],
        [None, "limit_per_debit", "limit_per_debit"],
    ),
    (
        {"fuel": {"per_debit_fen": 1000}},
        [("toll", "1", 5000), ("fuel", "1", 1001), ("fuel", "1", 1000)],
        [None, "limit_per_debit", None],
    ),
    (
        {"*": {"per_day_fen": 2000}},
        [("toll", "1", 1500), ("fuel", "1", 501), ("fuel", "1", 500), ("toll", "1", 1), ("toll", "2", 2000)],
        [None, "limit_per_day", None, "limit_per_day", None],
    ),
    (
        {"fuel": {"per_day_fen": 2000}},
        [("toll", "1", 9000), ("fuel", "1", 2000), ("fuel", "1", 1), ("toll", "1", 9000), ("fuel", "2", 1)],
        [None, None, "limit_per_day", None, None],
    ),
    (
        {"*": {"per_day_count": 2}},
        [("toll", "1", 1), ("fuel", "1", 1), ("toll", "1", 1), ("toll", "2", 1)],
        [None, None, "limit_per_day_count", None],
    ),
    (
        {"parking": {"per_day_count": 1}, "*": {"per_day_count": 2}},
        [("parking", "1", 1), ("parking", "1", 1), ("toll", "1", 1), ("toll", "1", 1)],
        [None, "limit_per_day_count", None, "limit_per_day_count"],
    ),
    ({"*": {"per_day_count": 0}}, [("toll", "1", 1)], ["limit_per_day_count"]),
)


@pytest.mark.parametrize(("limits", "debits", "reasons"), STATED)
@pytest.mark.parametrize("together", [False, True])
def test_limits_of_a_debit_and_of_a_day(box, limits, debits, reasons, together):
    async def scenario(box):
        for service, values in limits.items():
            await set_limit(box, service, **values)
        requests = [
            claim_request(f"k{n}", service=Service(service), day=day, amount=amount, funding=Funding.ISSUER_CLEARING)
            for n, (service, day, amount) in enumerate(debits)
        ]
        if together:
            return await asyncio.gather(*(box.charge(request) for request in requests))
        return [await box.charge(request) for request in requests]

    assert [d.reason for d in live(box, scenario)] == reasons


def test_the_rules_limit_a_mandate_that_states_nothing(tmp_path):
    box = Box(tmp_path / "ledger.db", rules=rules_of("[limits.fuel]\nper_debit_fen = 1000"))

    async def scenario(box):
        refused = await box.charge(claim_request("k1", service=Service.FUEL, amount=1001))
        await set_limit(box, "fuel", per_debit_fen=None)
        paid = await box.charge(claim_request("k2", service=Service.FUEL, amount=1001), APPROVED)
        return refused.reason, paid.outcome

    assert live(box, scenario) == ("limit_per_debit", PassageOutcome.PAID)


def test_a_changed_limit_binds_the_next_request(box):
    async def scenario(box):
        reasons = []
        for n, allowed in enumerate((2, 3, 3, 1)):
            await set_limit(box, per_day_count=allowed)
            reasons.append((await box.charge(claim_request(f"k{n}"), APPROVED)).reason)
        return reasons

    assert live(box, scenario) == [None, None, None, "limit_per_day_count"]


def test_a_hold_that_was_voided_does_not_count_for_its_day(box):
    async def scenario(box):
        await set_limit(box, per_day_count=1)
        placed = await box.engine.hold(claim_request("k1", service=Service.FUEL), timeout_s=5)
        assert (await box.charge(claim_request("k2"))).reason == "limit_per_day_count"
        await box.engine.release(placed.debit_id, CONTEXT)
        return await box.charge(claim_request("k3"), APPROVED)

    assert live(box, scenario).outcome is PassageOutcome.PAID


# --- the box's own list -------------------------------------------------------------------------------------------


def test_debts_put_a_payer_on_the_list_and_payment_takes_it_off(box):
    """Three debts are a mark of the rules shipped; every debt has to be paid before it is passed again."""

    async def scenario(box):
        for n in range(3):
            refused = await box.engine.hold(claim_request(f"f{n}", service=Service.FUEL), timeout_s=5)
            assert isinstance(refused, HoldPlaced)
            await box.charge(claim_request(f"k{n}"), DECLINED)
        debts = [row[0] for row in box.rows("select id from debit where state = 'debt' order by hold_id")]
        seen = {}
        for service in (Service.TOLL, Service.FUEL, Service.PARKING, Service.SERVICE_AREA):
            decision = await box.charge(claim_request(f"s-{service}", service=service), APPROVED)
            seen[service.value] = (decision.release, decision.reason)
        assert seen == {
            "toll": (Release.GO, None),
            "fuel": (Release.STOP, "debts_listed"),
            "parking": (Release.ATTENDANT, "debts_listed"),
            "service_area": (Release.STOP, "debts_listed"),
        }
        held = await box.engine.hold(claim_request("h", service=Service.FUEL), timeout_s=5)
        assert held == HoldRefused("debts_listed")
        other = await box.charge(claim_request("o", service=Service.FUEL, mandate="m2"), APPROVED)
        assert other.outcome is PassageOutcome.PAID
        rules = box.engine.rules
        for debit_id in debts:
            assert (await box.charge(claim_request(f"b-{debit_id}", service=Service.FUEL))).reason == "debts_listed"
            assert await box.in_books(lambda tx, d=debit_id: pay_at_till(tx, d, "till-1", "ann", rules)) is None
        return await box.charge(claim_request("after", service=Service.FUEL), APPROVED)

    assert live(box, scenario).outcome is PassageOutcome.PAID
    assert box.rows("select event from journal where kind = 'obligor'") == [("listed",), ("unlisted",)]


def test_a_debt_that_grows_old_lists_its_payer(tmp_path):
    box = Box(tmp_path / "ledger.db", rules=rules_of("[listing]\ndebt_age_s = 86400"))

    async def scenario(box):
        await box.charge(claim_request("k1"), DECLINED)
        young = await box.charge(claim_request("k2", service=Service.FUEL), APPROVED)
        box.clock.now += 86_400
        await box.collector.round()
        old = await box.charge(claim_request("k3", service=Service.FUEL))
        return young.outcome, old.reason

    assert live(box, scenario) == (PassageOutcome.PAID, "debts_listed")


@pytest.mark.parametrize(
    ("one", "other", "shared"),
    [
        (Identity(code="wallet-a-1"), Identity(code="wallet-a-2"), False),
        (Identity(code="wallet-a-1"), Identity(code="wallet-a-1"), True),
        (Identity(), Identity(), False),
        (Identity(code="1"), Identity(card_number="1"), False),
        (Identity(contract="c1"), Identity(contract="c1"), True),
    ],
)
def test_only_the_same_payer_is_the_same_obligor(box, one, other, shared):
    """Two codes are two people; so are two customers of whom nothing is known."""

    async def scenario(box):
        def of(key, identity):
            request = claim_request(key, funding=Funding.ISSUER_CLEARING, limit=1000, amount=1000)
            payer = replace(request.payer, mandate_id=None)
            return replace(request, payer=payer, sight=replace(request.sight, identity=identity))

        return [(await box.charge(of(f"k{n}", who))).reason for n, who in enumerate((one, other))]

    assert live(box, scenario) == [None, "limit_exceeded" if shared else None]


def test_a_plate_without_a_mandate_is_its_own_obligor(box):
    async def scenario(box):
        def of(key, plate):
            request = claim_request(key, funding=Funding.ISSUER_CLEARING, limit=1000, amount=1000, plate=plate)
            return replace(request, payer=replace(request.payer, mandate_id=None))

        return [(await box.charge(of(f"k{n}", plate))).reason for n, plate in enumerate(("A1", "A1", "A2"))]

    assert live(box, scenario) == [None, "limit_exceeded", None]
