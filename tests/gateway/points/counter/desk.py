"""A counter on the plaza's engine and ledger, with emulated cards in readers whose hands shake when a test says so."""

from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from types import SimpleNamespace

from pydantic import TypeAdapter

from drivers.errors import DeviceError, DeviceUnavailable, LinkLost
from gateway.config import PointSection
from gateway.points.counter.assemble import make
from gateway.points.counter.visit import Bill
from hardware.bench.chip_slot import ChipSlot, Pull
from hardware.emulators.card import make_card
from hardware.emulators.psam import Psam
from protocols.card import psam as sam
from protocols.card import purse
from protocols.card.apdu import Response
from protocols.card.codes import TradeType
from protocols.card.commands import ETC_APPLICATION, RECORD_AA, select_id
from tests.gateway.points.plaza import COUNTER, terminals

PRICE = 1250
PURSE = 10_000
TERMINAL = "019900000108"
"""No lane's: each PSAM counts for itself."""
APDU_S = 0.02


class Died(BaseException):
    """The gateway's process is gone."""


@dataclass(frozen=True)
class Fault(Pull):
    """The same, with what it looks like from here."""

    error: type[BaseException] = LinkLost


class Slot(ChipSlot):
    """A chip in a reader that takes its time."""

    def __init__(self, name, chip, clock, fault):
        super().__init__(name, chip, pull=fault)
        self._clock = clock

    async def transmit(self, command, **more):
        await self._clock.sleep(APDU_S)
        return await super().transmit(command, **more)

    def _lose(self):
        try:
            super()._lose()
        except LinkLost as lost:
            raise lost if self._pull.error is LinkLost else self._error() from None

    def _error(self):
        kind = self._pull.error
        return kind("no answer", device=self.name) if issubclass(kind, DeviceError) else kind()


class Readers:
    """The readers of the counter. `fault` befalls the next card on the reader, `psam_fault` the next PSAM session."""

    def __init__(self, clock, psam):
        self.clock = clock
        self.chips = {"counter": None, "psam": psam}
        self.faults = {}
        self.slots = []

    @asynccontextmanager
    async def open(self, selector, *, wait_s):
        del wait_s
        chip = self.chips[selector]
        if chip is None:
            raise DeviceUnavailable("no card", device=selector)
        slot = Slot(selector, chip, self.clock, self.faults.pop(selector, None))
        self.slots.append(slot)
        yield slot


class Desk:
    """A counter; the same readers, cards and PSAM go on behind it when its gateway dies."""

    def __init__(self, plaza, readers=None, psam=None, **changes):
        self.plaza = plaza
        self.psam = psam_new() if psam is None else psam
        self.readers = Readers(plaza.clock, self.psam) if readers is None else readers
        self.told = []
        section = TypeAdapter(PointSection).validate_python(
            {
                "name": COUNTER,
                "kind": "counter",
                "station": "99010108",
                "lane_no": 1,
                "gantry": "990108",
                "reader": "counter",
                "psam": "psam",
                "terminals": terminals(COUNTER),
                **changes,
            }
        )
        lane = SimpleNamespace(section=section, timings=[], tell=self._tell, road=SimpleNamespace(name=""), board=None)
        surroundings = SimpleNamespace(
            clock=plaza.clock, chance=plaza.random, device=self._device, card_readers=lambda: self.readers
        )
        self.counter = make(section, replace(plaza.common(lane, ()), surroundings=surroundings))

    async def pay(self, card, amount=PRICE, *, fault=None, psam_fault=None, **bill):
        """Lay a card on the reader and have it pay."""
        self._lay(card, fault, psam_fault)
        return await self.counter.pay(Bill(amount, **bill), wait_s=0)

    async def settle(self, card, *, fault=None):
        self._lay(card, fault, None)
        return await self.counter.settle(wait_s=0)

    def _device(self, name, make_it):
        self.terminal = make_it()
        return self.terminal

    def _tell(self, *what):
        self.told.append(what)

    def _lay(self, card, fault, psam_fault):
        self.readers.chips["counter"] = card
        for name, what in (("counter", fault), ("psam", psam_fault)):
            if what is not None:
                self.readers.faults[name] = what

    async def close_psam(self):
        """Have the PSAM opened anew by the next customer."""
        await self.terminal.close()

    def slot(self, name="counter"):
        """The last session with this reader."""
        return next(slot for slot in reversed(self.readers.slots) if slot.name == name)


def psam_new(**facts):
    return Psam(mode="bench", terminal=bytes.fromhex(TERMINAL), **facts)


def stored_value(number=1, balance=PURSE, **facts):
    facts.setdefault("plate", f"测A{number:05d}")
    return make_card(balance_raw=balance, inner_number=f"{number:016d}", **facts)


def charge_card(number, **facts):
    return stored_value(number, balance=0x7FFFFFFF, card_type=23, **facts)


def purchases(card):
    """(fen, terminal) of what this card has paid, oldest first."""
    return [(one.amount_fen, one.terminal.hex()) for one in reversed(card.transactions) if one.trade_type == 9]


def buy_elsewhere(card, amount_fen, *, terminal, time="20261123110000", record=None):
    """Have the card pay at a terminal that is none of this desk's. `record`: file 0019 as it is written."""
    psam = Psam(mode="bench", terminal=bytes.fromhex(terminal))
    ask(card, select_id(ETC_APPLICATION))
    opened = purse.parse_purchase_opened(ask(card, purse.init_purchase(1, amount_fen, psam.terminal)))
    if record is not None:
        ask(card, purse.update_cache(RECORD_AA, record))
    ask(psam, select_id(sam.PSAM_APPLICATION))
    file = card.card_file
    order = sam.init_sam_for_purchase(
        opened,
        amount_fen=amount_fen,
        trade_type=TradeType.COMPOSITE,
        time=time,
        inner_number=file.inner_number,
        region=file.region_factor,
    )
    made = sam.parse_sam_purchase(ask(psam, order))
    ask(card, purse.debit(made.terminal_serial, time, made.mac1))


def ask(chip, command):
    """Data of a good answer."""
    response = Response.decode(chip.process(command.encode()))
    assert response.ok, f"{response.sw:04X}"
    return response.data
