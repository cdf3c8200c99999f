"""Sales that a controller tells by itself: known ones are confirmed, others are found once."""

import asyncio
from dataclasses import replace
from datetime import datetime
from types import SimpleNamespace

import pytest

from gateway.ledger.batches import StorageTrouble, StorageUnavailable
from gateway.points.fuel.uploads import Uploads
from protocols.pump.jsonpts.sides import SaleKey, UploadedSale
from protocols.pump.types import (
    AskDelivered,
    Authorise,
    Clear,
    Delivered,
    Outcome,
    SideState,
    StateSeen,
    TotalsSeen,
)

from .conftest import POINT, PRICE, SETTINGS, live

STARTED = datetime.fromisoformat("2026-11-30T22:10:01")
NAME = "17 2026-11-30T22:10:01"
ML, FEN = 10_000, 7850
TOLD = UploadedSale(
    SaleKey("003A", 1, 17, STARTED), STARTED, 1, Delivered(ML, FEN, PRICE), TotalsSeen(1, 1_219_090, None), "", False
)


class Told:
    """A forecourt whose pump is one of a controller: its deliveries have names, and it tells of them itself."""

    def __init__(self, court, name=NAME):
        self.court, self.name, self.tag = court, name, None
        self.uploads = Uploads(POINT, {1: SETTINGS}, court.box.writer, court.services.engine.new_id)
        self._do = court.pump.do
        court.pump.do = self.do

    async def do(self, command):
        if isinstance(command, AskDelivered):
            self.court.pump.say(
                Delivered(self.court.pump.book.volume_ml, self.court.pump.book.amount, PRICE, self.name)
            )
            return Outcome.ACCEPTED
        if isinstance(command, Authorise):
            self.tag = command.tag
        return await self._do(command)

    async def begin(self):
        self.court.car()
        self.court.approve()
        self.court.pump.lift()
        await self.court.authorised()

    async def sell(self, state="billed", **fault):
        await self.begin()
        self.court.pump.flow(ML)
        for key, value in fault.items():
            setattr(self.court.pump.book, key, value)
        self.court.pump.hang_up()
        await self.court.sale_is(state)
        await self.court.until(lambda: self.court.pump.did(Clear))

    async def tell(self, **more):
        return await self.uploads.take(replace(TOLD, **more))

    def found(self):
        return self.court.box.rows("select state, volume, amount, reason from sale where debit_id is null")

    def ours(self):
        return self.court.box.rows("select state from sale where debit_id is not null")

    def items(self):
        return self.court.box.rows("select kind, state from item")


GROWN = TotalsSeen(1, TOLD.totals.volume_ml + ML, None)
"""Totaliser after a sale that came after ours."""
FOUND = [("billed", ML, FEN, "fuel_unexplained")]


def scenes(box, scenario):
    async def run(court):
        await scenario(Told(court))

    live(box, run)


def test_a_delivery_that_nobody_let_begin_is_found_once_however_often_it_is_told(box):
    async def scenario(at):
        assert await at.tell(by_hand=True)
        assert await at.tell(by_hand=True)
        assert at.found() == FOUND
        assert at.items() == [("fuel_unexplained", "open")]
        assert await at.tell(key=replace(TOLD.key, started=STARTED.replace(second=2)), totals=None)
        assert at.found() == FOUND * 2

    scenes(box, scenario)


def test_a_told_sale_of_ours_is_known_by_its_name(box):
    async def scenario(at):
        await at.sell()
        assert at.court.box.rows("select pump_sale from sale") == [(NAME,)]
        assert await at.tell()
        assert at.found() == at.items() == []
        other = {"key": replace(TOLD.key, transaction=18)}
        assert await at.tell(**other)
        assert at.found() == []  # its totaliser stands where our sale left it
        assert await at.tell(**other, totals=GROWN)
        assert at.found() == FOUND

    scenes(box, scenario)


def test_a_stored_sale_is_confirmed_though_the_next_one_is_open(box):
    async def scenario(at):
        await at.sell()
        at.court.car(2)
        at.court.pump.lift()
        await at.court.until(lambda: at.court.pump.did(Authorise) == 2)
        assert await at.tell()
        assert not await at.tell(key=replace(TOLD.key, transaction=18))

    scenes(box, scenario)


def test_what_the_controller_told_is_not_found_again_by_the_side(box):
    async def scenario(at):
        await at.sell()
        assert await at.tell(key=replace(TOLD.key, transaction=18), totals=None)
        at.name = NAME.replace("17", "18")
        at.court.pump.book.total_ml += ML
        at.court.pump.say(StateSeen(SideState.FUELLING), StateSeen(SideState.COMPLETED))
        await at.court.until(lambda: at.court.pump.did(Clear) == 2)
        assert at.found() == FOUND

    scenes(box, scenario)


def test_a_told_sale_of_ours_is_known_by_its_tag_where_the_pump_said_no_name(box):
    async def scenario(at):
        at.name = None
        await at.sell()
        assert await at.tell(tag=at.tag.upper())
        assert at.found() == []
        assert await at.tell(tag="ABCD", totals=GROWN)
        assert at.found() == FOUND

    scenes(box, scenario)


@pytest.mark.parametrize("tagged", [True, False])
def test_a_told_sale_is_not_confirmed_before_ours_is_settled(box, tagged):
    async def scenario(at):
        await at.begin()
        assert not await at.tell(tag=at.tag if tagged else "")
        assert at.found() == []
        assert await at.tell(by_hand=True, key=replace(TOLD.key, transaction=3))  # this one is none of ours
        assert at.found() == FOUND
        at.court.pump.flow(ML)
        at.court.pump.hang_up()
        await at.court.until(lambda: at.ours() == [("billed",)])
        assert await at.tell(tag=at.tag if tagged else "")
        assert at.found() == FOUND

    scenes(box, scenario)


def test_a_grey_sale_is_known_too(box):
    async def scenario(at):
        await at.sell("grey", amount=FEN + 7)
        assert await at.tell()
        assert await at.tell(key=replace(TOLD.key, transaction=4), tag=at.tag)
        assert at.found() == []

    scenes(box, scenario)


def test_fuel_under_a_sale_that_ended_with_nothing_is_found(box):
    async def scenario(at):
        await at.begin()
        at.court.pump.hang_up()
        await at.court.sale_is("nothing")
        assert await at.tell(tag=at.tag)
        assert at.found() == FOUND

    scenes(box, scenario)


def test_numbers_that_contradict_each_other_are_nobodys_sale(box):
    async def scenario(at):
        assert await at.tell(delivered=Delivered(ML, FEN + 7, PRICE))
        assert at.found() == [("grey", None, None, "fuel_unexplained")]

    scenes(box, scenario)


def test_the_last_sale_of_an_idle_pump_is_found_where_its_totaliser_grew(box):
    async def scenario(at):
        told = {"pushed": False, "key": replace(TOLD.key, transaction=2)}
        assert await at.tell(**told)
        assert at.found() == []  # nothing is known of this nozzle yet
        await at.sell()
        assert await at.tell(**told, totals=None)
        assert await at.tell(**told)
        assert at.found() == []  # the totaliser stands where our sale left it
        assert await at.tell(**told, totals=GROWN)
        assert await at.tell(**told, totals=GROWN)
        assert at.found() == FOUND

    scenes(box, scenario)


def test_a_sale_that_cannot_be_stored_is_not_confirmed():
    async def submit(*_, **__):
        raise StorageUnavailable(StorageTrouble.SLOW)

    uploads = Uploads(POINT, {1: SETTINGS}, SimpleNamespace(submit=submit), lambda: "0" * 32)
    assert not asyncio.run(uploads.take(TOLD))


def test_a_pump_that_is_no_side_of_ours_is_passed_over():
    uploads = Uploads(POINT, {2: SETTINGS}, None, lambda: "0" * 32)
    assert asyncio.run(uploads.take(TOLD))
