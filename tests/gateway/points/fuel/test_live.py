"""Live state of a side as it stands in the health file."""

from gateway.points.assemble import Point
from gateway.points.assemble import live as live_of
from protocols.pump.types import Delivered, SideState, StateSeen

from .conftest import POINT, PRICE, live
from .test_orders import order

ML, FEN = 10_000, 7850


def test_a_side_tells_its_place_its_pump_and_its_sale(box):
    async def scenario(court):
        await court.until(lambda: court.side.facts.tells_nozzle)
        (idle,) = court.point.pumps()
        assert (idle["lane"], idle["side"], idle["pump"], idle["address"]) == (POINT, 1, "dart", 80)
        assert (idle["online"], idle["state"], idle["out"], idle["sale_id"]) == (True, "idle", False, None)
        court.car()
        court.approve()
        box.clock.now += 60
        court.pump.lift()
        await court.authorised()
        court.pump.flow(ML)
        await court.until(lambda: court.point.pumps()[0]["volume_ml"] == ML)
        (flowing,) = court.point.pumps()
        assert (flowing["state"], flowing["out"], flowing["nozzle"], flowing["grade"]) == ("fuelling", True, 1, "92")
        assert (flowing["amount_fen"], flowing["unit_price_milli"]) == (FEN, PRICE)
        assert (flowing["sale_id"], flowing["sale_state"]) == (court.open_sale().id, "open")
        assert flowing["since_us"] - idle["since_us"] >= 60_000_000
        court.pump.gone()
        await court.until(lambda: not court.point.pumps()[0]["online"])

    live(box, scenario)


def test_an_order_that_waits_is_told_without_its_vehicle(box):
    async def scenario(court):
        given = await order(box, court, limit_fen=5_000)
        (side,) = court.point.pumps()
        assert side["order"] == {"order_id": given["order_id"], "cash": True, "limit_fen": 5_000}
        court.pump.lift()
        await court.authorised()
        assert court.point.pumps()[0]["order"] is None

    live(box, scenario)


def test_since_changes_with_the_state_and_not_with_the_litres(box):
    async def scenario(court):
        await court.until(lambda: court.side.facts.tells_nozzle)
        before = court.side.facts.since_us
        box.clock.now += 5
        court.pump.say(Delivered(10, 8))
        await court.until(lambda: court.side.facts.delivered is not None)
        assert court.side.facts.since_us == before
        court.pump.say(StateSeen(SideState.CLOSED))
        await court.until(lambda: court.side.facts.state is SideState.CLOSED)
        assert court.side.facts.since_us == before + 5_000_000

    live(box, scenario)


def test_places_of_all_points_are_listed_by_their_kind():
    points = [
        Point("a", None, {}, {"pumps": lambda: [{"side": 1}]}),
        Point("b", None, {}),
        Point("c", None, {}, {"pumps": lambda: [{"side": 2}], "bays": list}),
    ]
    assert live_of(points) == {"pumps": [{"side": 1}, {"side": 2}], "bays": []}
