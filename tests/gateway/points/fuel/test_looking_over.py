"""What a side looks over while nobody fills up: its prices, its totalisers, and evidence that a grey sale lacks."""

from dataclasses import replace
from types import SimpleNamespace

import pytest

from protocols.pump.types import (
    AskDelivered,
    AskTotals,
    Authorise,
    Clear,
    NozzleSeen,
    Outcome,
    SetPrices,
    SideState,
    StateSeen,
)

from .conftest import NOZZLE, PRICE, SETTINGS, live

ML, FEN = 10_000, 7850
PRICED = replace(SETTINGS, unit_prices={1: PRICE, 2: 8320})


def unexplained(box):
    return box.rows("select state, volume, reason, volume_after from sale where debit_id is null")


def test_a_pump_without_prices_gets_the_station_s(box):
    async def scenario(court):
        court.pump.say(StateSeen(SideState.NOT_PROGRAMMED))
        await court.until(lambda: court.pump.did(Clear))
        assert court.pump.commands[0] == SetPrices((PRICE, 8320))
        assert court.faults["prices-1"] is None

    live(box, scenario, side=PRICED)


def test_a_pump_without_prices_of_which_the_site_knows_none_is_told(box):
    async def scenario(court):
        court.pump.say(StateSeen(SideState.NOT_PROGRAMMED))
        await court.until(lambda: "prices-1" in court.faults)
        assert not court.pump.did(SetPrices)

    live(box, scenario)


def test_a_pump_with_another_price_sells_nothing_until_it_has_the_station_s(box):
    async def scenario(court):
        court.car()
        await court.until(lambda: court.pump.did(AskTotals) == 2)  # it was looked over as it came
        court.pump.out = True
        court.pump.say(NozzleSeen(NOZZLE, out=True, unit_price_milli=8000), StateSeen(SideState.CALLING))
        await court.until(lambda: box.rows("select reason from decision"))
        assert box.rows("select reason from decision") == [("pump_price_differs",)]
        court.pump.hang_up()
        court.pump.say(NozzleSeen(NOZZLE, out=False, unit_price_milli=8000), StateSeen(SideState.IDLE))
        await court.until(lambda: court.pump.did(SetPrices))
        assert not court.pump.did(Authorise)

    live(box, scenario, side=PRICED)


def test_a_price_that_changes_after_the_hold_is_the_one_that_is_billed(box):
    async def scenario(court):
        court.car()
        court.approve()
        court.pump.lift()
        await court.authorised()
        court.pump.say(NozzleSeen(NOZZLE, out=True, unit_price_milli=8000))
        court.pump.flow(ML)
        court.pump.book.amount = 8000
        court.pump.price = None  # the delivery says no price of its own
        court.pump.hang_up()
        court.pump.say(NozzleSeen(NOZZLE, out=False, unit_price_milli=8000))
        await court.sale_is("billed")
        assert box.rows("select amount, unit_price from sale") == [(8000, 8000)]

    live(box, scenario)


def test_a_totaliser_that_grew_without_a_sale_is_told_at_the_next_start(box):
    pump_book = SimpleNamespace(total_ml=1_209_090, volume_ml=0, amount=0)

    async def first(court):
        court.car()
        court.approve()
        court.pump.lift()
        await court.authorised()
        court.pump.flow(ML)
        court.pump.hang_up()
        await court.sale_is("billed")
        await court.until(lambda: court.pump.did(Clear))

    async def second(court):
        await court.until(lambda: unexplained(box))
        assert unexplained(box) == [("grey", None, "fuel_unexplained", 1_209_090 + ML + 5_000)]
        assert box.items() == [("fuel_unexplained", "open")]
        court.side.take_stock()
        await court.until(lambda: court.pump.did(AskTotals) == 4)
        assert len(unexplained(box)) == 1

    live(box, first, pump_book=pump_book)
    pump_book.total_ml += 5_000
    live(box, second, pump_book=pump_book)


def test_a_sale_whose_totaliser_was_not_read_is_no_gap(box):
    """Watched to its end it is billed without; what the totaliser grew by is explained by it."""
    pump_book = SimpleNamespace(total_ml=1_209_090, volume_ml=0, amount=0)

    async def first(court):
        for _ in range(2):
            court.car()
            court.approve()
            court.pump.lift()
            await court.authorised()
            court.pump.flow(ML)
            court.pump.outcomes[AskTotals] = Outcome.REFUSED if len(court.sales()) == 2 else Outcome.ACCEPTED
            court.pump.hang_up()
            done = len(court.sales())
            await court.until(lambda done=done: [row[0] for row in court.sales()] == ["billed"] * done)
            await court.until(lambda: court.side.sale is None)
            box.clock.now += 21

    async def second(court):
        await court.until(lambda: court.pump.did(AskTotals) == 2)
        court.car(2)
        court.pump.lift()
        await court.authorised()
        assert unexplained(box) == []

    live(box, first, pump_book=pump_book)
    live(box, second, pump_book=pump_book)


@pytest.mark.parametrize("restart", [False, True])
def test_a_grey_sale_ends_by_itself_when_the_pump_says_more(box, restart):
    pump_book = SimpleNamespace(total_ml=1_209_090, volume_ml=0, amount=0)

    async def first(court):
        court.car()
        court.pump.lift()
        await court.authorised()
        court.pump.gone()
        court.pump.flow(ML, quietly=True)
        court.pump.hang_up(quietly=True)
        court.pump.outcomes[AskTotals] = Outcome.REFUSED
        court.pump.back()
        await court.sale_is("grey")
        assert court.sales()[0][3] == "pump_totals_missing"
        assert not court.pump.did(Clear)  # what it shows is its evidence
        if not restart:
            await told(court)

    async def told(court):
        court.approve()
        await court.until(lambda: court.side.sale is not None and court.side.sale.state == "grey")
        if restart:
            court.pump.say(StateSeen(SideState.COMPLETED))
        box.clock.now += 6
        court.side.take_stock()
        await court.sale_is("billed")
        assert court.sales() == [("billed", ML, FEN, None)]
        assert box.items() == [("sale_grey", "corrected")]
        await court.until(lambda: court.pump.did(Clear))

    live(box, first, pump_book=pump_book)
    if restart:
        live(box, told, pump_book=pump_book)
    assert box.rows("select state, amount from debit") == [("funded", FEN)]


def test_the_next_customer_ends_the_waiting_for_a_grey_sale_s_evidence(box):
    async def scenario(court):
        court.car()
        court.pump.lift()
        await court.authorised()
        court.pump.gone()
        court.pump.flow(ML, quietly=True)
        court.pump.hang_up(quietly=True)
        court.pump.outcomes[AskDelivered] = court.pump.outcomes[AskTotals] = Outcome.REFUSED
        court.pump.back()
        await court.sale_is("grey")
        court.pump.outcomes[AskTotals] = Outcome.REFUSED
        court.car(2)
        court.approve()
        court.pump.lift()
        await court.until(lambda: court.pump.did(Clear))
        await court.until(lambda: len(court.sales()) == 2)
        assert sorted(row[0] for row in court.sales()) == ["grey", "open"]

    live(box, scenario)


def test_a_plate_at_the_side_tells_two_vehicles_apart(box):
    async def scenario(court):
        court.car(1)
        court.car(2)
        court.island.saw_plate(2, "测A00001", 0)
        court.island.saw_plate(1, "测A00002", 0)
        court.approve()
        court.pump.lift()
        await court.authorised()
        assert box.rows("select proof from sale") == [("camera+island_antenna 12:6",)]
        assert box.rows("select mandate_id from debit") == [("m2",)]

    live(box, scenario)
