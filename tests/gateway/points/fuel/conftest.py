"""One side of an island on the real engine and ledger, with a pump in memory and a bank that does as it is told."""

import asyncio
from collections import Counter
from contextlib import suppress
from datetime import UTC, datetime
from types import SimpleNamespace

import pytest

from gateway.debit.claims import Identity, Payer
from gateway.model.passage import DeclinePolicy, Funding
from gateway.points.etc.rsu_errors import PROFILES
from gateway.points.fuel import book
from gateway.points.fuel.charging import Charging
from gateway.points.fuel.island import Island
from gateway.points.fuel.point import FuelPoint
from gateway.points.fuel.services import FuelServices
from gateway.points.fuel.settings import FuelSettings, SideSettings
from gateway.points.fuel.side import Side
from gateway.points.fuel.witnesses import Rules, WitnessKind
from protocols.pump.bus import Offline, Online, Restarted
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
    SideState,
    StateSeen,
    Stop,
    TotalsSeen,
    VolumeLimit,
)
from tests.gateway.debit.conftest import APPROVED, Box

POINT, SIDE, NOZZLE, PRICE = "lane-1", 1, 1, 7850
"""The bank of the debit tests has terminals at lane-1."""
WITNESSES = {WitnessKind.ISLAND_ANTENNA: 6, WitnessKind.CAMERA: 6}
LIMIT = 20_000
SETTINGS = SideSettings(
    number=SIDE, pump="dart", address=80, grades={1: "92", 2: "95"}, decimals=Decimals(), totaliser_wraps_at_ml=10**9
)


class ModelPump:
    """A pump side in memory. Its power, its word and its obedience are the test's."""

    def __init__(self, book=None, *, tells_nozzle=True):
        self.book = SimpleNamespace(total_ml=1_209_090, volume_ml=0, amount=0) if book is None else book
        self.queue = asyncio.Queue()
        self.commands = []
        self.outcomes = {}
        """What becomes of a command, by its class; the next one only."""
        self.limit = None
        self.price = PRICE
        self.out = False
        self.say(Online(SIDE, 0.0), StateSeen(SideState.IDLE))
        if tells_nozzle:
            self.say(NozzleSeen(NOZZLE, out=False, unit_price_milli=PRICE))

    def say(self, *events):
        for event in events:
            self.queue.put_nowait(event)

    async def events(self):
        while True:
            yield await self.queue.get()

    async def do(self, command):
        self.commands.append(command)
        outcome = self.outcomes.pop(type(command), Outcome.ACCEPTED)
        if outcome in (Outcome.NOT_SENT, Outcome.REFUSED):
            return outcome
        match command:
            case AskTotals(nozzle=nozzle):
                self.say(TotalsSeen(nozzle, self.book.total_ml, None))
            case AskDelivered():
                self.say(Delivered(self.book.volume_ml, self.book.amount, self.price))
            case Authorise(limit=limit):
                self.limit = limit
                self.book.volume_ml = self.book.amount = 0
                self.say(StateSeen(SideState.AUTHORISED))
            case Stop() if self.limit is not None:
                self.limit = None
                self.say(StateSeen(SideState.STOPPED))
            case Clear():
                self.say(StateSeen(SideState.IDLE))
        return outcome

    # --- the driver's hands ---------------------------------------------------------------------------------------

    def lift(self, nozzle=NOZZLE):
        self.out = True
        self.say(NozzleSeen(nozzle, out=True, unit_price_milli=PRICE), StateSeen(SideState.CALLING))

    def flow(self, ml, *, quietly=False):
        """Fuel flows, up to the preset; `quietly`: nobody hears of it."""
        match self.limit:
            case VolumeLimit(volume_ml):
                most = volume_ml
            case AmountLimit(amount_minor):
                most = amount_minor * 10_000 // PRICE // 10 * 10
            case None:
                most = ml
        got = min(ml, most)
        self.book.volume_ml += got
        self.book.amount = (self.book.volume_ml * PRICE + 5000) // 10_000
        self.book.total_ml += got
        if not quietly:
            self.say(StateSeen(SideState.FUELLING), Delivered(self.book.volume_ml, self.book.amount))
            if got < ml:
                self.say(StateSeen(SideState.LIMIT_REACHED))

    def hang_up(self, *, quietly=False):
        self.out, self.limit = False, None
        if not quietly:
            self.say(NozzleSeen(NOZZLE, out=False), StateSeen(SideState.COMPLETED))

    def back(self, *, restarted=False):
        """The side is heard again, and says how it stands."""
        self.say(Online(SIDE, 1.0), *([Restarted(SIDE)] if restarted else []))
        self.say(NozzleSeen(NOZZLE, out=self.out, unit_price_milli=PRICE), StateSeen(SideState.COMPLETED))

    def gone(self):
        self.say(Offline(SIDE, 0.0))

    def did(self, kind):
        return sum(isinstance(command, kind) for command in self.commands)


class StillClock:
    """The box's clock for a side: nobody's look at people's words comes by time."""

    def __init__(self, clock):
        self.monotonic, self.utcnow = clock.monotonic, clock.utcnow

    async def sleep(self, seconds):
        await asyncio.Event().wait()


class Forecourt:
    """The box of the debit tests with one side on it."""

    def __init__(self, box, pump_book=None, side=None, **pump):
        self.box = box
        self.faults = {}
        self.timings = []
        snapshot = SimpleNamespace(lookup=lambda kind, key: None, created_at=datetime.now(UTC), version="l1")
        time = SimpleNamespace(quality=SimpleNamespace(value="trusted"), trusted=True)
        self.pump = ModelPump(pump_book, **pump)
        settings = FuelSettings(
            name=POINT,
            merchant="road-1",
            decline_policy=DeclinePolicy.RELEASE_AS_DEBT,
            utc_offset_s=28_800,
            station="99010101",
            lane_no=1,
            gantry=bytes(3),
            sides=(SETTINGS,),
            proof=Rules(WITNESSES, need=6, lead=4, before_s=120),
            limit_fen=LIMIT,
        )
        self.services = FuelServices(
            settings=settings,
            engine=box.engine,
            mandates=None,
            lists=SimpleNamespace(snapshot=snapshot),
            clock=StillClock(box.clock),
            time=time,
            note_timing=self.timings.append,
            report_fault=self.faults.__setitem__,
            issuers=None,
            errors=next(iter(PROFILES.values())),
            writer=box.writer,
            reader=box.queries,
        )
        self.island = Island(box.clock, WitnessKind.ISLAND_ANTENNA, gone_s=20)
        self.charging = Charging(self.services, self.island)
        self.side = Side(self.services, side or SETTINGS, self.pump, self.island, self.charging)

    async def __aenter__(self):
        silent = SimpleNamespace(run=asyncio.Event().wait)
        self.point = FuelPoint(self.services, silent, [self.side], island=self.island, charging=self.charging)
        self.running = asyncio.create_task(self.point.run())
        return self

    async def __aexit__(self, *_):
        self.running.cancel()
        with suppress(asyncio.CancelledError):
            await self.running

    def car(self, number=1, *, funding=Funding.BANK_ONLINE, limit=None):
        """A vehicle whose tag the antenna reads."""
        seen = Identity(obu_id=number.to_bytes(4), contract=f"{number:032x}", plate=f"测A0000{number}", plate_colour=0)
        if funding is Funding.BANK_ONLINE:
            payer = Payer(funding, "bank-1", f"m{number}", f"contract-m{number}", limit, 100_000)
        else:
            payer = Payer(funding, "issuer-9901", None, None, limit, 0)
        self.island.saw(seen, payer)

    async def until(self, condition):
        """Wait for something that the side brings about by itself."""
        async with asyncio.timeout(30):
            while not condition():
                if self.running.done():
                    self.running.result()
                await asyncio.sleep(0.001)

    async def authorised(self):
        await self.until(lambda: self.pump.limit is not None)

    async def sale_is(self, state):
        await self.until(lambda: self.sales() and self.sales()[-1][0] == state)

    def sales(self):
        return self.box.rows("select state, volume, amount, reason from sale order by created_at, id")

    def approve(self, *answers):
        self.box.bank.answers.extend(answers or [APPROVED])

    def open_sale(self):
        with self.box.reader.connect() as connection:
            return book.open_sales(connection, POINT)[0]

    async def charge_what_is_known(self):
        sale = self.open_sale()
        await self.charging.charge(sale, sale.sold)

    def held(self):
        return self.box.rows("select coalesce(sum(held), 0) from account where kind = 'open'")[0][0]

    def debits(self):
        return Counter(self.box.rows("select state, amount from debit"))


@pytest.fixture
def box(tmp_path):
    return Box(tmp_path / "ledger.db")


def live(box, scenario, **kwargs):
    """Run one life of the gateway at the pump."""

    async def run():
        async with box, Forecourt(box, **kwargs) as court:
            await scenario(court)

    asyncio.run(run())
    box.open()
    box.check()
