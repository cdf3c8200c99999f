"""A small toll plaza in virtual time: real lanes, engine and ledger; antennas, cars, boards and bank in memory.

Time jumps to the next timer whenever nobody has anything to do, and stands still while the ledger's writer thread
works, so nothing here depends on the speed of the machine. Promises that every passage must keep are looked at in every
test, from a database connection of the test's own: see `Plaza.broken`.
"""

import asyncio
import random
import selectors
import shutil
import sqlite3
from collections import Counter, deque
from contextlib import closing
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from types import SimpleNamespace

import pytest
from pydantic import TypeAdapter
from sqlalchemy.exc import DBAPIError

from gateway.assembly import assemble_point
from gateway.banks.channel import BankAnswer
from gateway.banks.pos import PosChannel
from gateway.config import PointSection
from gateway.debit.engine import DebitEngine
from gateway.ledger import engines
from gateway.ledger.hex_text import to_stored
from gateway.ledger.marks import MemoryMark
from gateway.ledger.positions import STAN_MAX
from gateway.ledger.reading import Reader
from gateway.ledger.verify import verify
from gateway.ledger.writer import Committer, Writer
from gateway.model.answers import AnswerClass
from gateway.model.clock import to_us
from gateway.model.delivery import Delivery
from gateway.payers import mandate_import, mandates, status_list_build
from gateway.payers.mandates import IssuerPolicy, MandateReader
from gateway.payers.status_lists import StatusLists
from gateway.points.assemble import Common
from gateway.points.gate.assemble import RelayBoards
from gateway.points.gate.config import RelayBoard
from gateway.points.ports import OutputFault
from gateway.points.toll.settings import LaneKind
from gateway.tariffs.loading import load_tariffs
from gateway.timekeeping import Timekeeper
from hardware.bench.chain_key import KEYS
from hardware.bench.clocks import StillClock
from hardware.bench.ledger_view import texts
from hardware.bench.ledgers import new_ledger
from protocols.card import card_file_new, station_new
from protocols.obu import obu_status_new, vehicle_file_new
from protocols.rsu.messages import (
    Continue,
    Debit,
    DebitResult,
    FetchTac,
    ObuReport,
    RecoverTac,
    Stop,
    TacResult,
    UserReport,
    WriteEntry,
    WriteResult,
)

AT = datetime(2026, 11, 23, 2, 0, tzinfo=UTC)
LOCAL_OFFSET_S = 8 * 3600
REGION = bytes.fromhex("B2E2CAD4")
ISSUER = REGION + bytes.fromhex("99010001")
RADIO_S = 0.1
"""From an order to the antenna to its next report."""
BOARD_S = 0.02
"""Until the board confirms a coil."""
CONFIRM_S = 2.0
"""Until it is known what became of an unanswered opening."""
STORAGE_WAIT_S = 300.0
"""Longest real wait for the writer's thread before a test counts as stuck."""

FARE, CLASS_WITHOUT_FARE, ABSURD_CLASS = 1500, 12, 4
TARIFF = """
version = "9920261101001"
valid_from = 2026-11-01T00:00:00+08:00
valid_to = 2027-05-01T00:00:00+08:00
longest_trip_hours = 72
[ceiling_fen]
1 = 20000
4 = 20000
[class_table.99010101]
1 = 1500
4 = 30000
[class_table.99010103]
1 = 1500
[matrix.99010202.99010102]
1 = 2300
"""
LISTED_CARD, LISTED_PLATE, LISTED_TAG = 17, 18, 19
COUNTER = "desk-0"


def mandate(number, *, status="active", funding="bank_online", channel="bank-1", limit="", stand_in=0, plate=None):
    """One line of a mandate file, for the car of this number: by its card, its tag and its plate."""
    contract = "" if funding == "issuer_clearing" else f"621799010{number}"
    tag = (ISSUER + bytes.fromhex(f"{number:016d}")).hex().upper()
    plate = plate or f"测A{number:05d}"
    return f"m{number},{status},{funding},{channel},{contract},{limit},{stand_in},9901{number:016d},{tag},{plate},0"


GOOD, PAUSED, CLOSED, OTHER_PLATE, CLEARING, TIGHT, NO_BANK, NO_STAND_IN = range(101, 109)
"""Cars with a mandate, named by what it is like."""
MANDATES = [
    ",".join(mandates.COLUMNS),
    mandate(GOOD, limit=100_000, stand_in=5_000),
    mandate(PAUSED, status="paused"),
    mandate(CLOSED, status="closed"),
    mandate(OTHER_PLATE, plate="测A99999"),
    mandate(CLEARING, funding="issuer_clearing", channel=""),
    mandate(TIGHT, limit=1_499),
    mandate(NO_BANK, channel="bank-9"),
    mandate(NO_STAND_IN),
]

APPROVED = BankAnswer(Delivery.ANSWERED, AnswerClass.APPROVED, "00")
DECLINED = BankAnswer(Delivery.ANSWERED, AnswerClass.DECLINED_FOR_NOW, "51")
SILENT = BankAnswer(Delivery.SILENT)


# --- time -----------------------------------------------------------------------------------------------------------


class VirtualSelector(selectors.DefaultSelector):
    """Where a loop would sleep, the clock jumps; where the ledger is at work, it stands still."""

    now = 0.0
    storing = 0
    """Changes handed in and not yet answered."""
    reading = 0
    """Queries handed in and not yet answered."""
    storage_stuck = False
    """True while a test keeps the storage from working: then time passes all the same."""

    def select(self, timeout=None):
        if (self.reading or (self.storing and not self.storage_stuck)) and timeout != 0:
            ready = super().select(STORAGE_WAIT_S)
            if not ready:
                raise RuntimeError("the ledger does not answer")
            return ready
        ready = super().select(0)
        if not ready:
            if timeout is None:
                raise RuntimeError("everybody waits and no timer is set")
            self.now += timeout
        return ready


class VirtualLoop(asyncio.SelectorEventLoop):
    def __init__(self):
        self.virtual = VirtualSelector()
        super().__init__(self.virtual)

    def time(self):
        return self.virtual.now


class VirtualClock:
    """The loop's time, also for the writer's thread; `shift` is what somebody did to the wall clock."""

    boot = "first boot"

    def __init__(self, selector):
        self._selector = selector
        self.shift = timedelta()

    def monotonic(self):
        return self._selector.now

    def utcnow(self):
        return AT + self.shift + timedelta(seconds=self._selector.now)

    async def sleep(self, seconds):
        await asyncio.sleep(seconds)


class CountedWriter(Writer):
    """Tells the loop how many changes are on their way."""

    def __init__(self, committer, selector):
        super().__init__(committer)
        self._selector = selector

    def submit(self, change, *, essential=False, patient=False):
        # Time stands while a change is on its way: a patient one would wait for ever.
        future = super().submit(change, essential=essential)
        self._selector.storing += 1
        future.add_done_callback(lambda _: setattr(self._selector, "storing", self._selector.storing - 1))
        return future


class CountedReader(Reader):
    """Tells the loop how many queries are on their way."""

    def __init__(self, engine, selector):
        super().__init__(engine)
        self._selector = selector

    def _hand_in(self, query, *, urgent):
        future = super()._hand_in(query, urgent=urgent)
        self._selector.reading += 1
        future.add_done_callback(lambda _: setattr(self._selector, "reading", self._selector.reading - 1))
        return future


class FullDisk(Committer):
    """A committer whose disk is full while a test says so."""

    full = False

    def commit(self, changes):
        if self.full:
            with closing(sqlite3.connect(":memory:")):
                cause = sqlite3.OperationalError("database or disk is full")
                cause.sqlite_errorcode = sqlite3.SQLITE_FULL
                raise DBAPIError("commit", {}, cause)
        return super().commit(changes)


# --- road -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Purchase:
    """How the next purchase of a car goes: does the card pay, and what does the antenna say (None: nothing)?"""

    takes: bool = True
    error: int | None = 0
    then: object = None
    """Called with the antenna afterwards."""
    forged: object = None
    """Makes of the result and the car what the antenna says instead."""


@dataclass
class Car:
    """A vehicle with tag and card. Cards keep what was written to them, whether anybody hears of it or not."""

    number: int
    card_type: int = 22
    balance: int = 50_000
    device_type: int = 1
    station: bytes = b""
    tag_error: int = 0
    user_error: int = 0
    issuer: bytes = ISSUER
    card_issuer: bytes = ISSUER
    tag_status: bytes = field(default_factory=obu_status_new)
    tag_dates: tuple = ("20250101", "20300101")
    card_dates: tuple = (date(2025, 1, 1), date(2030, 1, 1))
    plate: str | None = None
    card_plate: str | None = None
    plate_colour: int = 0
    card_colour: int = 0
    vehicle_class: int = 1
    card_class: int = 1
    files: bool = True
    vehicle_file: bool = True
    answers_user: bool = True
    tac_error: int | None = 0
    script: deque = field(default_factory=deque)
    serial: int = 40
    paid: list = field(default_factory=list)
    """(fen, station) of each purchase the card made."""

    def __post_init__(self):
        self.obu_id = self.number.to_bytes(4, "big")
        self.contract_serial = bytes.fromhex(f"{self.number:016d}")
        self.plate = f"测A{self.number:05d}" if self.plate is None else self.plate
        self.card_plate = self.plate if self.card_plate is None else self.card_plate
        self.station = self.station or entry_record()

    @property
    def card_number(self):
        return f"9901{self.number:016d}"

    def tag_report(self):
        return ObuReport(
            obu_id=self.obu_id,
            error=self.tag_error,
            issuer=self.issuer,
            serial=self.contract_serial,
            issued=bytes.fromhex(self.tag_dates[0]),
            expires=bytes.fromhex(self.tag_dates[1]),
            equipment=0,
            status=self.tag_status,
            antenna_id=1,
            device_type=self.device_type,
            contract_type=0,
            contract_version=1,
        )

    def user_report(self):
        card = card_file_new(
            issuer=self.card_issuer,
            card_type=self.card_type,
            version=0x40,
            network="9901",
            inner_number=bytes.fromhex(f"{self.number:016d}"),
            starts=self.card_dates[0],
            expires=self.card_dates[1],
            plate=self.card_plate,
            plate_colour=self.card_colour,
            vehicle_class=self.card_class,
        )
        vehicle = vehicle_file_new(plate=self.plate, plate_colour=self.plate_colour, vehicle_class=self.vehicle_class)
        two_piece = self.device_type == 1
        return UserReport(
            obu_id=self.obu_id,
            error=self.user_error,
            trans_type=0x10,
            station=self.station,
            vehicle_file=vehicle if self.files and self.vehicle_file else None,
            balance_raw=self.balance if two_piece else None,
            card_file=card if self.files and two_piece else None,
        )

    def result(self, order, error, psam=("019900000001", 1)):
        """`psam`: terminal and serial of this purchase."""
        return DebitResult(
            obu_id=self.obu_id,
            error=error,
            terminal=bytes.fromhex(psam[0]),
            trans_time_bcd=order.purchase_time_bcd,
            trans_type=9,
            algorithm=0,
            key_version=1,
            tac=self.tac(),
            card_serial=self.serial,
            psam_serial=psam[1],
            balance_raw=self.balance,
        )

    def tac(self):
        return b"TAC" + bytes([self.serial])

    def pay(self, order):
        self.serial += 1
        self.balance -= order.amount_fen
        self.station = order.station
        self.paid.append((order.amount_fen, order.station))


def entry_record(*, status=3, station="0102", at=AT - timedelta(hours=1)):
    """File 0019 as an ETC entry lane writes it."""
    return station_new(
        network="9901",
        station=station,
        lane=3,
        unix_seconds=int(at.timestamp()),
        vehicle_class=1,
        status=status,
        plate="测A00001",
        plate_colour=0,
    )


class Heard:
    """One report on its way to the lane."""

    def __init__(self, road, message, at):
        self.road, self.message, self.at = road, message, at
        self.up_to_date = True
        self.orders = []

    def answer(self, message):
        self.orders.append(message)
        self.road.obey(self, message)


class Road:
    """An antenna: cars report, the lane answers, the radio does what the answer says."""

    def __init__(self, plaza, name, *, sells=True):
        """`sells`: its lane takes money, and does not only write entries."""
        self.plaza, self.name, self.sells = plaza, name, sells
        self.queue = asyncio.Queue()
        self.heard = []
        self.orders = []
        self.cars = {}
        self.terminal = f"01990000{name[-1]:0>4}"
        self.proof_off_fen = 0
        """So much the balance in B8 is wrong."""
        self.crossed = 0
        """So many of the next readings were made before the last purchase order had arrived."""

    async def run(self):
        """Nothing has to be kept connected."""

    async def reports(self):
        while True:
            yield await self.queue.get()

    def say(self, message):
        report = Heard(self, message, self.plaza.clock.monotonic())
        if self.crossed and isinstance(message, UserReport):
            self.crossed -= 1
            report.up_to_date = False
        self.heard.append(report)
        self.queue.put_nowait(report)
        return report

    def meet(self, car):
        """The car answers the beacon."""
        self.cars[car.obu_id] = car
        return self.say(car.tag_report())

    def later(self, make):
        asyncio.get_running_loop().call_later(RADIO_S, lambda: self.say(make()))

    def obey(self, report, order):
        self.orders.append(order)
        self.plaza.look_at_answer(report, order)
        car = self.cars.get(report.message.obu_id)
        if car is None:
            return
        if isinstance(order, Debit):
            self._purchase(car, order)
        elif isinstance(order, FetchTac) and car.tac_error is not None:
            right = order.card_serial == car.serial and car.paid
            error = car.tac_error if right else 3
            balance = car.balance + self.proof_off_fen
            self.later(lambda: TacResult(car.obu_id, error, car.tac(), bytes(4), balance))
        elif isinstance(order, RecoverTac) and car.tac_error is not None:
            # Without power since the purchase: it knows no PSAM serial of it.
            self.later(lambda: car.result(order, car.tac_error, (self.terminal, 0)))
        elif isinstance(order, WriteEntry):
            step = car.script.popleft() if car.script else Purchase()
            if step.takes:
                # The antenna knows where it stands.
                where = bytes.fromhex(self.plaza.lanes[self.name].section.station)
                car.station = car.station[:3] + where + order.station
            if step.error is not None:
                self.later(lambda: WriteResult(car.obu_id, step.error, 0, bytes(6)))
        elif isinstance(order, Continue) and isinstance(report.message, ObuReport) and car.answers_user:
            self.later(car.user_report)

    def _purchase(self, car, order):
        step = car.script.popleft() if car.script else Purchase()
        if step.takes:
            car.pay(order)
        if step.error is not None:
            self.plaza.psam_serials[self.name] += 1
            result = car.result(order, step.error, (self.terminal, self.plaza.psam_serials[self.name]))
            self.later(lambda: step.forged(result, car) if step.forged else result)
        if step.then is not None:
            step.then(self)

    def of(self, kind):
        return [order for order in self.orders if isinstance(order, kind)]


class Board:
    """Barrier and lamps that note what they are told, and fail as often as a test wants."""

    def __init__(self, plaza, name):
        self.plaza, self.name = plaza, name
        self.done = []
        self.tried = 0
        self.broken_lifts = 0
        self.unknown_lifts = deque()
        """What becomes of the next openings that are not answered: lifted, lost (and proved), or None for no word."""
        self.broken_lamps = 0
        self.records = []
        """Record of every opening ordered."""
        self._unanswered = {}

    async def open_barrier(self, record_no, *, timeout_s):
        self.tried += 1
        self.records.append(record_no)
        self.plaza.look_at_lift(self)
        if self.broken_lifts:
            self.broken_lifts -= 1
            await asyncio.sleep(timeout_s)
            raise OutputFault("the board is down", Delivery.NOT_SENT)
        if self.unknown_lifts:
            self._unanswered[record_no] = self.unknown_lifts.popleft()
            await asyncio.sleep(timeout_s)
            raise OutputFault("the board does not answer", Delivery.SILENT)
        await asyncio.sleep(BOARD_S)
        self.done.append("lift")

    async def confirm_opening(self, record_no):
        await asyncio.sleep(CONFIRM_S)
        became = self._unanswered.pop(record_no)
        if became == "lifted":
            self.done.append("lift")
        else:
            raise OutputFault(
                "no word" if became is None else "the arm has not moved",
                Delivery.NOT_SENT if became == "lost" else Delivery.SILENT,
            )

    async def show_go(self, *, timeout_s):
        await self._lamp("go")

    async def show_stop(self, *, timeout_s):
        await self._lamp("stop")

    async def _lamp(self, what):
        if self.broken_lamps:
            self.broken_lamps -= 1
            raise OutputFault("the lamp does not answer", Delivery.SILENT)
        await asyncio.sleep(BOARD_S)
        self.done.append(what)

    @property
    def lifts(self):
        return self.done.count("lift")


class Bank(PosChannel):
    """A channel that answers as told, in virtual time; silence lasts as long as the asker waits."""

    max_message_age_s = 60.0
    up = True

    def __init__(self):
        names = [*(f"lane-{n}" for n in range(1, 10)), COUNTER]
        super().__init__("bank-1", {name: terminals(name).get("bank-1", ()) for name in names})
        self.answers = deque()
        self.heard = []
        self.delay_s = 0.05

    def takes(self, contract_ref):
        return True

    def message(self, kind, order):
        contract = f" {order.contract_ref}" if kind == "sale" else ""
        return f"{kind} {order.terminal} {order.stan} {order.amount_fen}{contract}".encode()

    def repeat(self, request):
        return request

    async def exchange(self, request, *, timeout_s):
        self.heard.append(request.decode())
        answer = self.answers.popleft() if self.answers else SILENT
        await asyncio.sleep(timeout_s if answer.delivery is Delivery.SILENT else self.delay_s)
        return answer


# --- plaza ----------------------------------------------------------------------------------------------------------


class Lane:
    """One lane with what stands around it."""

    def __init__(self, plaza, section, neighbours):
        self.plaza = plaza
        self.road = Road(plaza, section.name, sells=section.kind is not LaneKind.ENTRY)
        self.board = Board(plaza, section.name)
        self.timings = []
        self.faults = []
        self.section, self.neighbours = section, neighbours
        point = assemble_point(section, plaza.common(self, neighbours))
        self.lane = point.serving
        self.task = asyncio.create_task(self.lane.run())

    def tell(self, part, works, cause, code=None):
        self.faults.append((part.rpartition("/")[2], None if works else cause))

    def fault(self, part):
        """What was last said of a part."""
        return next((problem for name, problem in reversed(self.faults) if name == part), None)


class Surroundings:
    """Roads and boards in memory stand where drivers would."""

    def __init__(self, plaza, lane):
        self.clock, self.chance = plaza.clock, plaza.random
        self._devices = {f"{lane.road.name}/antenna": lane.road, f"{lane.road.name}/outputs": lane.board}

    def board(self, section, on_state):
        return SimpleNamespace(clock=self.clock, name=section.name)

    def device(self, name, make):
        return self._devices[name]


class Plaza:
    """Lanes on one ledger. `broken` collects promises that were not kept."""

    def __init__(self, folder):
        self.folder = folder
        self.path = folder / "ledger.db"
        self.lanes = {}
        self.psam_serials = Counter()
        """Last one of the PSAM in each antenna: no crash of ours takes it back."""
        self.broken = []
        self.expect_trade_fault = False
        self.bank = Bank()
        self.random = random.Random(5)
        self.charge_cards = None

    async def __aenter__(self):
        self.selector = asyncio.get_running_loop().virtual
        self.clock = VirtualClock(self.selector)
        self.time = Timekeeper(self.clock)
        self.lists = StatusLists.open(self.folder / "lists", self.clock.utcnow())
        self.tariffs = load_tariffs(self.folder / "tariffs")
        self.mark = MemoryMark(first=STAN_MAX)
        self.open()
        return self

    def open(self):
        self.database = engines.open_writer(self.path)
        self.reader = engines.open_reader(self.path)
        self.queries = CountedReader(self.reader, self.selector)
        self.queries.start()
        self.committer = FullDisk(self.database, self.clock, keys=KEYS, mark=self.mark)
        self.writer = CountedWriter(self.committer, self.selector)
        self.writer.start()
        self.engine = DebitEngine(
            self.writer, self.queries, {"bank-1": self.bank}, clock=self.clock, random=self.random
        )

    async def __aexit__(self, error, *_):
        try:
            if error is None:
                await self.settle(1)
        finally:
            await self.close()
        if error is None:
            self.look_at_the_end()

    async def close(self):
        for name, lane in self.lanes.items():
            if lane.task.done() and not lane.task.cancelled():
                self.broken.append(f"{name} has stopped: {lane.task.exception()!r}")
            lane.task.cancel()
        await asyncio.gather(*(lane.task for lane in self.lanes.values()), return_exceptions=True)
        await asyncio.sleep(0)
        self.queries.stop()
        self.writer.stop()
        self.database.dispose()
        self.reader.dispose()

    async def crash(self):
        """The process dies and starts again: memory is lost, what was committed stays, open debits are classified."""
        await self.close()
        old = list(self.lanes.values())
        self.look_at_the_end()
        self.lanes = {}
        self.open()
        policies = {lane.section.name: lane.section.bank_declines for lane in old}
        await self.engine.start_up.recover(policies, mandates.stand_in_limit)
        await self.engine.start_up.close_backlog()
        for lane in old:
            self.lanes[lane.section.name] = Lane(self, lane.section, lane.neighbours)

    def lane(self, name="lane-1", *, neighbours=(), **changes):
        """A lane as a site file describes it; `neighbours`: names of the other lanes of its station."""
        section = TypeAdapter(PointSection).validate_python(
            {
                "name": name,
                "kind": "toll-open",
                "station": "99010101",
                "lane_no": 1,
                "gantry": "990101",
                "antenna": {"address": "127.0.0.1:1", "dialect": "pcrsu-v3"},
                "outputs": {"board": "plaza", "barrier": 0, "green": 1, "red": 2},
                "terminals": terminals(name),
                **changes,
            }
        )
        self.lanes[name] = lane = Lane(self, section, neighbours)
        return lane

    def common(self, lane, neighbours):
        """What an assembler of this lane is given."""
        surroundings = Surroundings(self, lane)
        boards = RelayBoards([RelayBoard(name="plaza", address="127.0.0.1:1")], surroundings, lane.tell)
        others = [lane.section.model_copy(update={"name": name}) for name in neighbours]
        return Common(
            merchant="road-1",
            utc_offset_min=LOCAL_OFFSET_S // 60,
            sections=[lane.section, *others],
            engine=self.engine,
            writer=self.writer,
            reader=self.queries,
            mandates=MandateReader(self.queries),
            issuers={REGION: IssuerPolicy("issuer-9901", self.charge_cards)},
            lists=self.lists,
            tariffs=self.tariffs,
            boards=boards,
            doors=None,
            surroundings=surroundings,
            time=self.time,
            note_timing=lane.timings.append,
            tell=lane.tell,
        )

    async def settle(self, seconds=5.0):
        """Let everything happen that happens within this virtual time."""
        await asyncio.sleep(seconds)

    # --- looking from outside ---------------------------------------------------------------------------------------

    def rows(self, sql, **values):
        """What a stranger reads from the file now: only what is committed."""
        with closing(sqlite3.connect(f"file:{self.path}?mode=ro", uri=True)) as connection:
            values = {name: to_stored(v) if isinstance(v, str) else v for name, v in values.items()}
            return [texts(row) for row in connection.execute(sql, values)]

    def decisions(self):
        """(charge point, outcome, release, reason, amount, recovered) in order."""
        return self.rows(
            "select charge_point, outcome, release, reason, amount, recovered from decision order by record_no"
        )

    def outcomes(self):
        return [(outcome, release, reason) for _, outcome, release, reason, _, _ in self.decisions()]

    def balance(self, kind):
        return self.rows("select coalesce(sum(balance), 0) from account where kind = :kind", kind=kind)[0][0]

    def look_at_answer(self, report, order):
        """At the very moment an answer leaves for the antenna."""
        if order.obu_id != report.message.obu_id:
            self.broken.append(f"{type(order).__name__} for another tag than the one that has reported")
        if isinstance(order, Stop) and order.stop_type is None:
            self.broken.append("C2 that does not say what becomes of the tag")
        if isinstance(order, Debit | WriteEntry) and order.div_factor != REGION * 2:
            self.broken.append("written with another region's factor: no card would accept it")
        if isinstance(order, Debit) and report.road.sells:
            found = self.rows(
                "select p.state, d.state, p.written_fen from purchase p join purchase_file f on f.purchase_id = p.id "
                "join debit d on d.id = p.debit_id where f.after = :after",
                after=order.station,
            )
            if found != [("intent", "held", order.amount_fen)]:
                self.broken.append(f"C6 without its durable intent: {found}")
            if order.station == report.message.station:
                self.broken.append("C6 writes file 0019 as it stands: nobody could tell whether it was taken")
        elif isinstance(report.message, DebitResult | TacResult):
            card = report.road.cars[report.message.obu_id].card_number
            waiting = self.rows(
                "select p.id from purchase p join debit d on d.id = p.debit_id join subject s on s.id = d.passage_id"
                " where s.card_number = :card and p.state = 'intent'",
                card=card,
            )
            if waiting:
                self.broken.append(f"{type(report.message).__name__} acknowledged before it was stored")

    def look_at_lift(self, board):
        """At the very moment the barrier is asked to open."""
        opened = self.rows(
            "select count(*) from decision where release = 'go' and charge_point = :name", name=board.name
        )[0][0]
        if opened <= board.lifts:
            self.broken.append(f"barrier of {board.name} opened {board.lifts + 1} times for {opened} decisions")

    def look_at_the_end(self):
        """What holds after whatever happened."""
        reader = engines.open_reader(self.path)
        try:
            self.broken += [finding for check in verify(reader, KEYS) for finding in check.findings]
        finally:
            reader.dispose()
        for lane in self.lanes.values():
            twice = [(type(h.message).__name__, h.orders) for h in lane.road.heard if len(h.orders) > 1]
            self.broken += [f"one report, several answers: {found}" for found in twice]
            problem = next((text for part, text in lane.faults if part == "trade" and text), None)
            if problem is not None and not self.expect_trade_fault:
                self.broken.append(f"a trade failed: {problem}")
            debits = lane.road.of(Debit)
            stations = [(order.obu_id, order.station) for order in debits]
            if len(set(stations)) != len(stations):
                self.broken.append("two C6 write the same file 0019")
        assert not self.broken, self.broken


def terminals(name):
    """Terminal numbers of a lane, by bank; they end in its own digit."""
    return {"bank-1": [f"T000001{name[-1]}", f"T000002{name[-1]}"]}


@pytest.fixture(scope="session")
def plaza_made_once(tmp_path_factory):
    """Lists, tariff and a ledger with mandates; copied for every test."""
    folder = tmp_path_factory.mktemp("plaza")
    (folder / "tariffs").mkdir()
    (folder / "lists").mkdir()
    (folder / "tariffs" / "a.toml").write_text(TARIFF, encoding="utf-8")
    delivery = folder / "delivery.csv"
    tag = (ISSUER + bytes.fromhex(f"{LISTED_TAG:016d}")).hex().upper()
    delivery.write_text(
        f"kind,key,list_type,sign\ncard,9901{LISTED_CARD:016d},4,1\nplate,测A{LISTED_PLATE:05d}|0,1,1\nobu,{tag},1,1\n",
        encoding="utf-8",
    )
    made = AT - timedelta(hours=1)
    status_list_build.build(delivery, folder / "lists", version="L1", created_at=made, effective_at=made)
    new_ledger(folder / "ledger.db", StillClock(to_us(AT)))
    engine = engines.open_writer(folder / "ledger.db")
    found, credentials = mandates.read_csv(MANDATES)
    committer = Committer(engine, StillClock(to_us(AT)), keys=KEYS)
    committer.commit([lambda tx: mandate_import.put_all(tx, found, credentials)])
    engine.dispose()
    return folder


@pytest.fixture
def play(tmp_path, plaza_made_once):
    """Run a story at a fresh plaza in virtual time."""

    def call(story):
        async def whole():
            folder = shutil.copytree(plaza_made_once, tmp_path / "plaza")
            async with Plaza(folder) as plaza:
                await story(plaza)

        with asyncio.Runner(loop_factory=VirtualLoop) as runner:
            runner.run(whole())

    return call
