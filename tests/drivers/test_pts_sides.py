"""Sides of a PTS-2 controller as a charge point uses them, before an emulated controller."""

import asyncio
import contextlib

from drivers.clock import SystemClock
from drivers.http_client import HttpClientConfig
from drivers.pts import PtsConfig
from drivers.pts_sides import PtsSides
from hardware.emulators import pts as emulator
from protocols.pump.bus import Offline, Online
from protocols.pump.jsonpts.codec import Content, Message
from protocols.pump.jsonpts.messages import PumpGetTotals, TransactionState
from protocols.pump.types import (
    AmountLimit,
    AskDelivered,
    AskTotals,
    Authorise,
    Clear,
    Decimals,
    Delivered,
    NozzleSeen,
    Outcome,
    SetPrices,
    SideState,
    StateSeen,
    TotalsSeen,
)
from tests.drivers.test_pts import ADMIN, FAST, HOST, SLOW, play, running

TAG = "0123456789abcdef0123456789abcdef"


class Station:
    """An emulated controller, its sides, and what the first of them says."""

    def __init__(self, device, sides, sales):
        self.device, self.box, self.sides, self.sales = device, device.box, sides, sales
        self.side = sides.side(1)
        self._events = self.side.events()

    async def until(self, *wanted):
        """The next event that is one of these, or of one of these classes."""
        async for event in self._events:
            if any(event == one or (isinstance(one, type) and isinstance(event, one)) for one in wanted):
                return event
        raise AssertionError("the events end")

    async def state(self, state):
        await self.until(StateSeen(state))

    async def do(self, command):
        assert await self.side.do(command) is Outcome.ACCEPTED


@contextlib.asynccontextmanager
async def station(*, stored=lambda _sale: True, silence_s=10.0, poll_every_s=0.01, **config):
    device = emulator.PtsController(
        emulator.Config(listen=(HOST, 0), control=(HOST, 0), **{"rate_ml_s": FAST} | config)
    )
    port, _ = await device.start()
    sales = asyncio.Queue()

    async def on_sale(sale):
        sales.put_nowait(sale)
        return stored(sale)

    sides = PtsSides(
        PtsConfig(
            device="pts",
            pts_id=emulator.PTS_ID,
            pumps=(1, 2),
            decimals=Decimals(volume=2, amount=2, price=2),
            http=HttpClientConfig(device="pts", address=f"http://{HOST}:{port}", login=ADMIN),
            poll_every_s=poll_every_s,
            silence_s=silence_s,
        ),
        clock=SystemClock(),
        on_sale=on_sale,
    )
    try:
        async with running(sides.run()):
            yield Station(device, sides, sales)
    finally:
        await device.close()


def test_a_side_sells_like_one_of_a_line():
    async def sale():
        async with station(rate_ml_s=SLOW) as at:
            await at.until(Online)
            await at.state(SideState.IDLE)
            at.box.lift(1, 2)
            assert await at.until(NozzleSeen(2, True, 7850))
            await at.do(Authorise(AmountLimit(20_000), (2,), tag=TAG))
            flowing = await at.until(Delivered)
            while not flowing.volume_ml:
                flowing = await at.until(Delivered)
            at.box.hang_up(1)
            await at.state(SideState.COMPLETED)
            await at.do(AskDelivered())
            delivered = await at.until(Delivered)
            assert Decimals().explains(delivered, 7850)
            number, _, started = delivered.name.partition(" ")
            assert (number, len(started)) == ("1", len("2026-11-30T22:10:01"))
            await at.do(AskTotals(2))
            assert (await at.until(TotalsSeen)).volume_ml == delivered.volume_ml
            await at.do(Clear())
            await at.state(SideState.IDLE)
            assert at.box.uploads[-1].tag == TAG

    play(sale())


def test_a_delivery_that_the_preset_ended_is_over_when_the_nozzle_is_in():
    async def full():
        async with station() as at:
            await at.until(Online)
            at.box.lift(1, 1)
            await at.do(Authorise(AmountLimit(20_000)))
            await at.state(SideState.STOPPED)
            at.box.hang_up(1)
            await at.state(SideState.COMPLETED)
            assert await at.until(NozzleSeen(1, False, 7850))

    play(full())


def test_where_nothing_is_open_no_delivery_is_told_and_nothing_need_be_closed():
    async def nothing():
        async with station() as at:
            await at.until(Online)
            await at.do(AskDelivered())
            assert await at.until(Delivered) == Delivered(None, None)
            await at.do(Clear())
            assert not at.box.requests

    play(nothing())


def test_a_delivery_is_told_though_totals_come_in_place_of_the_status():
    async def both():
        async with station(poll_every_s=3600) as at:
            await at.until(Online)
            at.box.lift(1, 1)
            await at.do(Authorise(AmountLimit(20_000)))
            for _ in range(2):
                at.box.answer(Message((Content(1, PumpGetTotals(pump=1, nozzle=1)),)), "admin")
            await at.do(AskDelivered())
            assert (await at.until(Delivered)).volume_ml is not None

    play(both())


def test_a_pump_without_power_is_away_and_comes_back():
    async def away():
        async with station() as at:
            await at.until(Online)
            at.box.power(1, on=False)
            assert (await at.until(Offline, StateSeen(SideState.FAULT))).side == 1
            at.box.power(1, on=True)
            assert await at.until(Online, StateSeen(SideState.IDLE)) != StateSeen(SideState.IDLE)

    play(away())


def test_all_sides_are_away_with_their_controller():
    async def mute():
        async with station(silence_s=0.05) as at:
            await at.until(Online)
            at.device._mute = True
            await at.until(Offline)
            async for event in at.sides.side(2).events():
                if isinstance(event, Offline):
                    break

    play(mute())


def test_a_command_that_cannot_be_given_is_not_sent():
    async def refused():
        async with station() as at:
            await at.until(Online)
            assert await at.side.do(SetPrices((7_851,))) is Outcome.NOT_SENT  # three decimals at a pump of two
            assert not at.box.requests

    play(refused())


def test_the_last_sale_of_an_idle_pump_is_told_until_it_is_stored():
    async def last():
        answers = iter([False, False, True, True])
        async with station(stored=lambda _sale: next(answers)) as at:
            await at.until(Online)
            at.box.sell_by_hand(1, 1, 12_340)
            told = [await at.sales.get() for _ in range(3)]
            assert len(set(told)) == 1
            sale = told[0]
            assert (sale.pushed, sale.nozzle, sale.delivered.volume_ml) == (False, 1, 12_340)
            assert sale.totals == TotalsSeen(1, 12_340, sale.delivered.amount_minor)
            for _ in range(3):
                await at.do(AskDelivered())  # by now a poll has passed
            at.box.sell_by_hand(2, 1, 1_000)
            assert (await at.sales.get()).key.pump == 2

    play(last())


def test_totals_that_were_asked_for_do_not_wait_for_the_next_round():
    async def hurry():
        async with station(poll_every_s=3600) as at:
            await at.until(Online)
            await at.do(AskTotals(1))
            assert await at.until(TotalsSeen) == TotalsSeen(1, 0, 0)

    play(hurry())


def test_the_end_of_a_delivery_is_not_taken_from_a_status_push_that_knows_no_nozzle():
    async def push():
        async with station(poll_every_s=3600) as at:
            await at.until(Online)
            at.box.lift(1, 1)
            await at.do(Authorise(AmountLimit(20_000)))
            while at.box.pumps[1].sale.state is not TransactionState.END_OF_TRANSACTION:
                at.box.flow()
                await asyncio.sleep(0.001)
            await at.sides.controller.pushed(Message((Content(1, at.box.status()),)))
            await at.do(AskDelivered())
            over = StateSeen(SideState.COMPLETED), StateSeen(SideState.STOPPED)
            assert await at.until(*over) == StateSeen(SideState.STOPPED)

    play(push())
