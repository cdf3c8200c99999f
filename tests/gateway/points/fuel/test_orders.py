"""What people order at an island: a side for a vehicle they name, or for whoever pays at the till."""

import asyncio

import pytest

from gateway.acts.actor import Actor
from gateway.acts.acts import AuthorisePump, Refused, Terms
from gateway.acts.doing import change_of
from gateway.points.fuel import orders
from gateway.rules.loading import shipped_rules
from protocols.pump.types import AmountLimit, Authorise, SideState, StateSeen

from .conftest import LIMIT, POINT, live

ML, FEN = 10_000, 7850


async def order(box, court=None, **what):
    """Give an order through the one door for acts; with `court`, its side hears of it as it does within a second."""
    act = AuthorisePump(charge_point=POINT, side=1, reason="asked at the counter", **what)
    change = change_of(act, Actor(0, "li", frozenset()), Terms(shipped_rules(), lambda: None), {})
    given = await box.writer.submit(change, essential=True)
    if court is not None:
        await court.point.follow_orders()
    return given


def states(box):
    return box.rows("select state, reason from pump_order order by created_at, id")


@pytest.mark.parametrize("lifted_first", [True, False])
def test_a_stranger_fills_up_and_pays_at_the_till(box, lifted_first):
    async def scenario(court):
        if lifted_first:
            court.pump.lift()
            await court.until(lambda: court.side.facts.out)
        await order(box, court)
        if not lifted_first:
            court.pump.lift()
        await court.authorised()
        assert states(box) == [("taken", None)]
        court.pump.flow(ML)
        court.pump.hang_up()
        await court.sale_is("billed")
        assert court.sales() == [("billed", ML, FEN, None)]
        assert court.debits() == {("funded", FEN): 1}
        assert box.rows("select proof from sale") == [("attendant",)]

    live(box, scenario)
    assert (box.balance("till"), box.balance("merchant")) == (-FEN, FEN)
    assert box.rows("select funding from debit") == [("cash",)]


def test_an_order_serves_once_and_within_its_limit(box):
    async def scenario(court):
        await order(box, court, limit_fen=5_000)
        court.pump.lift()
        await court.authorised()
        assert Authorise(AmountLimit(5_000), (1,)) in court.pump.commands
        court.pump.flow(ML)
        court.pump.hang_up()
        await court.sale_is("billed")
        court.pump.lift()
        await court.until(lambda: court.side.facts.out)
        court.car()  # proves itself: nobody pays at the till any more
        court.approve()
        await court.until(lambda: len(court.sales()) == 2)
        assert box.rows("select funding from debit order by id") == [("cash",), ("bank_online",)]

    live(box, scenario)


def test_an_order_says_which_of_two_vehicles_it_is(box):
    async def scenario(court):
        court.car(1)
        court.car(2)
        court.pump.lift()
        await court.until(lambda: box.rows("select reason from decision"))
        court.approve()
        await order(box, court, plate="测A00002", plate_colour=0)
        await court.authorised()
        court.pump.flow(ML)
        court.pump.hang_up()
        await court.sale_is("billed")
        assert box.rows("select mandate_id from debit") == [("m2",)]
        assert box.rows("select proof from sale") == [("attendant",)]

    live(box, scenario)


def test_a_vehicle_that_nobody_sees_is_not_served(box):
    async def scenario(court):
        await order(box, court, plate="测A99999", plate_colour=0)
        court.pump.lift()
        await court.until(lambda: states(box) == [("refused", "pump_vehicle_not_seen")])
        assert not court.pump.did(Authorise)

    live(box, scenario)


def test_one_order_waits_for_a_side(box):
    async def scenario(court):
        await order(box, court)
        with pytest.raises(Refused, match="pump_order_waits"):
            await order(box, court)

    live(box, scenario)


@pytest.mark.parametrize("seconds", [121, -1])
def test_an_order_that_nobody_used_in_time_lapses(box, seconds):
    """Also one that a clock set back makes come from the future: nobody knows how old it is."""

    async def scenario(court):
        await order(box)
        box.clock.now += seconds
        await court.point.follow_orders()
        assert states(box) == [("lapsed", "pump_order_lapsed")]
        court.pump.lift()
        await court.until(lambda: court.side.facts.out)
        assert not court.pump.did(Authorise)

    live(box, scenario)


def test_an_order_for_a_side_that_is_not_there_is_refused(box):
    async def scenario(court):
        await box.writer.submit(
            lambda tx: orders.give(
                tx, "a" * 32, charge_point=POINT, side=9, vehicle=None, limit_fen=None, actor="li", reason="x"
            )
        )
        await court.point.follow_orders()
        assert states(box) == [("refused", "pump_side_unknown")]

    live(box, scenario)


def test_the_pump_s_refusal_ends_the_order_with_its_sale(box):
    """What began on it is over; nobody fills up on the same word later."""

    async def scenario(court):
        await order(box, court)
        court.pump.lift()
        await court.authorised()
        court.pump.hang_up()
        await court.sale_is("nothing")
        await court.until(lambda: court.held() == 0)
        court.pump.say(StateSeen(SideState.IDLE))
        court.pump.lift()
        await court.until(lambda: court.side.facts.lifts == 2)
        await asyncio.sleep(0)
        assert (len(court.sales()), states(box)) == (1, [("taken", None)])

    live(box, scenario)


def test_a_hold_never_exceeds_the_island_s_limit(box):
    async def scenario(court):
        await order(box, court, limit_fen=LIMIT * 10)
        court.pump.lift()
        await court.authorised()
        assert court.held() == LIMIT

    live(box, scenario)
