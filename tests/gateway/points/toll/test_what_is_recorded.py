"""What stands in the ledger about a vehicle beside the decision: that it was recovered, and who was there."""

from dataclasses import replace

import pytest

from gateway.points.etc.settings import OnePiecePolicy
from protocols.rsu.messages import Debit, Stop, StopType
from tests.gateway.points import plaza as bench
from tests.gateway.points.plaza import FARE, Car, Purchase

plaza_made_once, play = bench.plaza_made_once, bench.play

LOST = Purchase(takes=True, error=None)


def test_a_late_result_is_recorded_as_recovered_with_its_fare(play):
    async def story(plaza):
        lane = plaza.lane()
        car = Car(1, script=bench.deque([LOST]))
        lane.road.meet(car)
        await plaza.settle()
        lane.road.say(car.result(lane.road.of(Debit)[0], 0))
        await plaza.settle()
        assert [(outcome, amount, bool(recovered)) for _, outcome, _, _, amount, recovered in plaza.decisions()] == [
            ("unknown", FARE, False),
            ("paid", FARE, True),
        ]

    play(story)


def test_a_one_piece_tag_is_recorded_with_the_vehicle_in_its_file(play):
    async def story(plaza):
        lane = plaza.lane(one_piece_tags=OnePiecePolicy.CONTRACT)
        plaza.bank.answers.append(bench.APPROVED)
        car = Car(bench.GOOD, device_type=2)
        lane.road.meet(car)
        await plaza.settle()
        (seen,) = plaza.rows("select plate, plate_colour, vehicle_class from subject s join passage p on p.id = s.id")
        assert seen == (car.plate, car.plate_colour, car.vehicle_class)

    play(story)


def test_a_card_is_recorded_with_the_vehicle_of_its_tag(play):
    async def story(plaza):
        car = Car(1, plate_colour=4, card_colour=4)
        plaza.lane().road.meet(car)
        await plaza.settle()
        (seen,) = plaza.rows("select plate, plate_colour, vehicle_class from subject s join passage p on p.id = s.id")
        assert seen == (car.plate, 4, car.vehicle_class)

    play(story)


def test_a_decision_is_recorded_with_the_age_its_lists_had_then(play, monkeypatch):
    """Not with the one they had when the amount was held: a slow radio lies between."""
    monkeypatch.setattr(bench, "RADIO_S", 0.6)

    async def story(plaza):
        plaza.lane().road.meet(Car(1))
        await plaza.settle()
        assert plaza.rows("select outcome, list_age_s from decision") == [("paid", 3601)]

    play(story)


SPARSE = {"address": "127.0.0.1:1", "errors": "l-bj-sparse"}
"""Its antennas tell zero for the PSAM's serial of charge cards."""


@pytest.mark.parametrize("late", [False, True])
@pytest.mark.parametrize(
    ("number", "card_type", "second"),
    [(bench.CLEARING, 23, ("paid", "go", None)), (1, 22, ("unknown", "attendant", "psam_serial_repeated"))],
)
def test_a_psam_serial_of_zero_is_none_only_of_charge_cards(play, number, card_type, second, late):
    def nothing(result, car):
        return replace(result, psam_serial=0)

    async def story(plaza):
        lane = plaza.lane(antenna=SPARSE)
        car = Car(number, card_type=card_type, script=bench.deque([Purchase(forged=nothing)] * 2))
        if late:
            car.script[1] = LOST
        lane.road.meet(car)
        await plaza.settle(400)
        lane.road.meet(car)
        await plaza.settle()
        if late:
            lane.road.say(nothing(car.result(lane.road.of(Debit)[-1], 0, (lane.road.terminal, 0)), car))
            await plaza.settle()
        assert (plaza.outcomes()[0], plaza.outcomes()[-1]) == (("paid", "go", None), second)
        assert len(car.paid) == 2

    play(story)


BALANCE_BEFORE = {"address": "127.0.0.1:1", "errors": "pcrsu-v3-balance-before"}


def test_a_result_is_read_by_the_profile_of_its_antenna(play):
    async def story(plaza):
        before_it = Purchase(forged=lambda result, car: replace(result, balance_raw=car.balance + FARE))
        plaza.lane(antenna=BALANCE_BEFORE).road.meet(Car(1, script=bench.deque([before_it])))
        await plaza.settle()
        assert plaza.outcomes() == [("paid", "go", None)]

    play(story)


def test_a_late_result_is_read_by_the_profile_of_its_antenna(play):
    """This one tells the balance before the purchase: what was ordered tells the balance after."""

    async def story(plaza):
        lane = plaza.lane(antenna=BALANCE_BEFORE)
        car = Car(1, script=bench.deque([LOST]))
        before = car.balance
        lane.road.meet(car)
        await plaza.settle()
        lane.road.say(replace(car.result(lane.road.of(Debit)[0], 0), balance_raw=before))
        await plaza.settle()
        assert plaza.outcomes()[-1] == ("paid", "go", None)
        assert plaza.rows("select balance_after from purchase") == [(before - FARE,)]

    play(story)


def test_a_one_piece_claim_finished_at_the_next_reading_is_recorded_as_recovered(play):
    async def story(plaza):
        plaza.expect_trade_fault = True
        lane = plaza.lane(one_piece_tags=OnePiecePolicy.CONTRACT)
        car = Car(bench.GOOD, device_type=2)
        exchange = plaza.bank.exchange

        async def breaks(request, *, timeout_s):
            plaza.bank.exchange = exchange
            raise RuntimeError("a bug in a link")

        plaza.bank.exchange = breaks
        for _ in range(2):
            lane.road.meet(car)
            await plaza.settle()
        assert [(outcome, bool(recovered)) for _, outcome, _, _, _, recovered in plaza.decisions()] == [("owed", True)]
        assert [order.stop_type for order in lane.road.of(Stop)][-2:] == [StopType.FREEZE, StopType.FREEZE]

    play(story)
