"""A card pulled at a counter and shown in a lane, and the other way round: one intent, whoever sees the card."""

import pytest

from gateway.points.counter.point import Served
from protocols.rsu.messages import Debit
from tests.gateway.points import plaza as bench
from tests.gateway.points.counter.desk import PRICE, Desk, Fault, buy_elsewhere, purchases, stored_value
from tests.gateway.points.plaza import FARE, Car, Purchase

plaza_made_once, play = bench.plaza_made_once, bench.play


def car_with(card, number):
    """A vehicle with this card in its tag, as the antenna reads it."""
    return Car(number, balance=card.balance_raw, station=card.station, serial=card.offline_sequence)


@pytest.mark.parametrize("after", [False, True])
def test_pulled_at_the_counter_and_shown_in_a_lane(play, after):
    async def story(plaza):
        card = stored_value(1)
        desk, lane = Desk(plaza), plaza.lane()
        await desk.pay(stored_value(99))
        at = next(n for n, command in enumerate(desk.slot().commands, 1) if command[:2] == b"\x80\x54")
        first = await desk.pay(card, fault=Fault(at, after=after))
        assert first.decision.outcome == "unknown"
        await plaza.settle(60)
        car = car_with(card, 1)
        for _ in range(1 + after):  # what is settled of another place is settled alone
            lane.road.meet(car)
            await plaza.settle()
        states = plaza.rows(
            "select g.charge_point, d.amount, d.state from debit d join passage g on g.id = d.passage_id"
            " order by d.hold_id"
        )
        assert states[1:] == [("desk-0", PRICE, "funded" if after else "voided"), ("lane-1", FARE, "funded")]
        assert [fen for fen, _ in purchases(card)] == [PRICE] * after
        assert [fen for fen, _ in car.paid] == [FARE], "the road is sold once, whatever became of the counter's sale"
        assert lane.board.lifts == 1

    play(story)


@pytest.mark.parametrize("took", [False, True])
def test_lost_in_a_lane_and_shown_at_the_counter(play, took):
    """An antenna tells no number before the debit: the card's log has the purchase by its time, and gives its TAC."""

    async def story(plaza):
        card = stored_value(1)
        desk, lane = Desk(plaza), plaza.lane()
        car = car_with(card, 1)
        car.script.append(Purchase(takes=took, error=None))
        lane.road.meet(car)
        await plaza.settle(60)
        assert plaza.outcomes() == [("unknown", "stop", "purchase_unknown")]
        (order,) = lane.road.of(Debit)
        if took:
            buy_elsewhere(card, FARE, terminal="019900000055", time=order.purchase_time_bcd, record=order.station)
        served = await desk.pay(card)
        assert isinstance(served, Served)
        assert (served.decision.outcome, served.decision.amount_fen) == ("paid", PRICE)
        states = plaza.rows(
            "select g.charge_point, d.amount, d.state from debit d join passage g on g.id = d.passage_id"
            " order by d.hold_id"
        )
        assert states == [("lane-1", FARE, "funded" if took else "voided"), ("desk-0", PRICE, "funded")]
        tac = plaza.rows("select tac_source from purchase order by created_at")
        assert tac == [("5a" if took else None,), ("54",)]

    play(story)
