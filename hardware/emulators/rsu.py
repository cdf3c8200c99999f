"""A roadside antenna for the bench: real TCP, the real dialect, and real emulated tags, cards and PSAM behind it.

Theory of operation. The lane computer connects, sends C0, gets B0 and switches the radio on with C4. From then until
C4 00, another C0 or the end of the connection lasts a *spell*; every vehicle on the road has a task of its own that
reports it within the spell, one pass after another:

    searching --B2--> reported --C1--> reading --B4--> read --C6--> buying --B5--> result --C1--> guarded
                          \\------C8------------------------\\-------------------------\\--> proving --B8--> proved

`ANSWERS` has every turn. C2 ends a pass (search again after a pause, or freeze), or asks for the report once more. When
the lane stays silent for a second after a report, the antenna searches again; the end of a spell ends every pass at
once. Whatever ends it, the card keeps what has happened. One radio serves all: air time is taken in turns, and no
vehicle holds it while it waits for the lane.

Repetition, recognition of repeated frames and heartbeats are those of `protocols.rsu.session`; what goes wrong, and
when, is told over the control socket (`RsuEmulator.handlers` lists the commands).
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import random
import signal
import sys
from collections import Counter
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from enum import Enum
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeVar

from hardware.emulators.control import Capture, Command, ControlServer, Handler, parse_address
from hardware.emulators.psam import TERMINAL_DEFAULT
from hardware.emulators.road import (
    PURCHASE_FAULTS,
    AntennaPsam,
    Event,
    Fault,
    FaultKind,
    Mac1Fault,
    PausePoint,
    Phase,
    Script,
    Vehicle,
    VehicleSpec,
    build,
)
from hardware.emulators.transaction import (
    AirTransaction,
    DebitError,
    PurchaseResult,
    ReadError,
    TacAnswer,
    TacError,
    UserData,
)
from protocols.card.codes import TradeType
from protocols.errors import LocalProtocolError
from protocols.rsu.dialect import Dialect, Side
from protocols.rsu.messages import (
    AntennaStatus,
    Continue,
    Debit,
    DebitResult,
    DeviceStatus,
    DeviceType,
    FetchTac,
    Heartbeat,
    Initialise,
    Message,
    ObuReport,
    PsamStatus,
    RsuMessage,
    Stop,
    StopType,
    SwitchAntenna,
    TacResult,
    UserReport,
)
from protocols.rsu.registry import DIALECTS, dialect_named
from protocols.rsu.session import (
    DEFAULT_TIMING,
    BadBytes,
    Duplicate,
    Output,
    Received,
    Session,
    Timing,
    Unanswered,
)

READ_BYTES_MAX = 16 * 1024
WRITE_BYTES_MAX = 64 * 1024
"""Unread by the lane, above which the line counts as broken: hundreds of reports that nobody takes."""
TICK_MAX_S = 0.5
"""Longest sleep of a line's timer."""
LANE_DEAD_S = 30.0
"""A lane silent for three heartbeats has died without a goodbye: the next connection takes its place."""
VEHICLES_MAX = 4096
"""Vehicles of one run; each keeps its chips in memory for the final count."""
PRESENT_MAX = 16
"""Vehicles in the zone at once. A real one holds a handful."""
RESENDS_MAX = 10
"""Times a lane may ask for the same report again within one pass; then the antenna searches anew."""
WAIT_MS_DEFAULT = 10_000
WAIT_MS_MAX = 600_000
EXTRA_MS_MAX = 600_000
COUNT_MAX = 1_000_000
SECONDS_MAX = 3600

READ_SHARE, PURCHASE_SHARE, TAC_SHARE = 0.45, 0.55, 0.15
"""Parts of the radio time of a sale: before B4 and before B5. Asking for a TAC adds a little."""
CARD_SHARE = 0.6
"""Of a purchase's radio time, what passes before the card debits; MAC2, SetMMI and EventReport come after it."""
JITTER = 0.1

ANTENNA_ID = 1
CHANNEL = 1
EQUIPMENT = 0x10
"""B2 EquipmentCV: device class 1, version 0."""
TRANS_TYPE_READ = 0x10
"""B4 TransType: composite purchase."""
TRANS_TYPE_ONE_PIECE = 0x80
BALANCE_UNREAD = 0xFFFFFFFF
"""B5 balance when it could not be read (older dialect's word for it; one source)."""
MANUFACTURER = 0x77
"""In no published list."""
RSU_ID, RSU_VERSION = bytes.fromhex("9A0001"), bytes.fromhex("2001")

# B5 and B8 codes that `DebitError` and `TacError` leave out (one source, complete tables).
ONE_PIECE_NOT_WRITTEN = 0x0A
CPC_NOTHING_WRITTEN = 0x0E
EF04_ONLY_FAILED = 0x10
EF04_FAILED_TOO = 0x13
EF04_FAILED_PURCHASE_MADE = 0x14
EF04_FAILED_TAC_GIVEN = 0x05

TRADE_PURCHASE_ONLY = 2
TRADE_EF04_ONLY = 1

ANSWERS: Mapping[tuple[Phase, type[Message]], Phase] = MappingProxyType(
    {
        (Phase.REPORTED, Continue): Phase.READING,
        (Phase.REPORTED, FetchTac): Phase.PROVING,
        (Phase.REPORTED, Stop): Phase.SEARCHING,
        (Phase.READ, Debit): Phase.BUYING,
        (Phase.READ, FetchTac): Phase.PROVING,
        (Phase.READ, Continue): Phase.GUARDED,
        (Phase.READ, Stop): Phase.SEARCHING,
        (Phase.RESULT, Continue): Phase.GUARDED,
        (Phase.RESULT, FetchTac): Phase.PROVING,
        (Phase.RESULT, Stop): Phase.SEARCHING,
        (Phase.PROVED, Continue): Phase.GUARDED,
        (Phase.PROVED, Stop): Phase.SEARCHING,
    }
)
"""What the lane may say in which phase, and where it leads. Anything else is out of turn: counted, not followed."""

SAID: Mapping[Phase, tuple[Phase, Event]] = MappingProxyType(
    {
        Phase.READING: (Phase.READ, Event.READ),
        Phase.BUYING: (Phase.RESULT, Event.RESULT_SENT),
        Phase.PROVING: (Phase.PROVED, Event.TAC_SENT),
    }
)
"""Phase and event of the report in which some work on the air ends."""

E = TypeVar("E", bound=Enum)


class SpellOver(Exception):
    """The radio is off or the lane is gone: no pass goes on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RsuConfig:
    """How to run one antenna."""

    listen: tuple[str, int] = ("127.0.0.1", 0)
    control: tuple[str, int] = ("127.0.0.1", 0)
    dialect: Dialect = DIALECTS["pcrsu-v3"]
    radio_ms: int = 280
    """Air time of one sale, the search before it not counted."""
    search_ms: int = 40
    """From driving up, or from the end of a pause, to B2."""
    terminal: bytes = TERMINAL_DEFAULT
    seed: int = 1
    capture: Path | None = None
    guard_s: float = 10.0
    """A finished or frozen OBU that stays is not reported for so long (one firmware)."""
    search_pause_s: float = 1.0
    """After C2 *search again*, and after a purchase that failed."""
    silence_s: float = 1.0
    """After a report the lane says nothing to, the antenna searches again (one firmware)."""
    timing: Timing = DEFAULT_TIMING


class _Line:
    """One lane computer's connection."""

    def __init__(
        self, config: RsuConfig, capture: Capture, writer: asyncio.StreamWriter, beat: Callable[[], Message]
    ) -> None:
        host, port = writer.get_extra_info("peername")[:2]
        self.peer = f"{host}:{port}"
        self.session = Session(config.dialect, Side.RSU, config.timing, heartbeat=beat)
        self.initialised: Initialise | None = None
        self.open = True
        self.heard_at = asyncio.get_running_loop().time()
        self.wake = asyncio.Event()
        self._capture = capture
        self._writer = writer

    def send(self, message: RsuMessage, *, answering: Received | None = None) -> None:
        """Say something. Raises SpellOver on a closed line."""
        if not self.open:
            raise SpellOver
        now = asyncio.get_running_loop().time()
        self.write(self.session.send(message, now, answering=answering).to_write)
        self.wake.set()

    def write(self, data: bytes) -> None:
        """Put bytes on the line as they are."""
        if not data or not self.open:
            return
        self._capture.write("out", self.peer, data)
        self._writer.write(data)
        if self._writer.transport.get_write_buffer_size() > WRITE_BYTES_MAX:
            self.close()

    def close(self) -> None:
        """Hang up."""
        self.open = False
        self.wake.set()
        self._writer.close()


class _Spell:
    """A time with the radio on, for one lane."""

    def __init__(self, line: _Line) -> None:
        self.line = line
        self.over = asyncio.Event()

    async def air(self, milliseconds: float) -> None:
        """Let air time pass. Raises SpellOver when the spell ends meanwhile."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self.over.wait(), milliseconds / 1000)
        if self.over.is_set():
            raise SpellOver


@dataclass(frozen=True, slots=True)
class _Pass:
    """One attempt to trade with one vehicle."""

    vehicle: Vehicle
    spell: _Spell
    air: AirTransaction
    radio_ms: float

    async def take_air(self, share: float) -> None:
        """Let a share of the radio time pass, give or take the jitter."""
        jitter = self.vehicle.random.uniform(1 - JITTER, 1 + JITTER)
        await self.spell.air(self.radio_ms * share * jitter)


@dataclass(frozen=True, slots=True)
class _Question:
    """A report that waits for the lane. The answer is None when it said nothing."""

    message: RsuMessage
    sent_at: float
    answer: asyncio.Future[Received | None]

    def give_up(self) -> None:
        """The lane has been silent for too long."""
        if not self.answer.done():
            self.answer.set_result(None)


@dataclass(frozen=True, slots=True)
class _Waiter:
    """A `wait` command."""

    vehicle: str
    event: Event
    count: int
    done: asyncio.Future[None]


class RsuEmulator:
    """The antenna: its line, its road and its control socket."""

    def __init__(self, config: RsuConfig) -> None:
        self._config = config
        self._capture = Capture(config.capture)
        self._control = ControlServer(self.handlers())
        self._server: asyncio.Server | None = None
        self._port = config.listen[1]
        self._control_port = 0
        self._random = random.Random(f"{config.seed}:antenna")  # noqa: S311 - repeatable on purpose
        self._psam = AntennaPsam(mode="bench", terminal=config.terminal, random=self._random.randbytes)
        self._radio = asyncio.Lock()
        self._line: _Line | None = None
        self._spell: _Spell | None = None
        self._vehicles: dict[str, Vehicle] = {}
        self._by_obu: dict[bytes, Vehicle] = {}
        self._scripts: dict[str, Script] = {}
        self._questions: dict[bytes, _Question] = {}
        self._waiters: list[_Waiter] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._stats: Counter[str] = Counter()
        self.failure: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        """Gets the exception when one of the antenna's tasks fails: a bug of the emulator."""

    @property
    def address(self) -> tuple[str, int]:
        """Where the lane connects to, port filled in."""
        return self._config.listen[0], self._port

    @property
    def control_address(self) -> tuple[str, int]:
        """Where commands go."""
        return self._config.control[0], self._control_port

    async def start(self) -> None:
        """Open both sockets."""
        self._control_port = await self._control.start(*self._config.control)
        await self._listen()

    async def close(self) -> None:
        """Cut everything."""
        await self._control.close()
        await self._unlisten()
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._capture.close()
        self.failure.cancel()

    # --- the line -----------------------------------------------------------------------------------------------

    async def _listen(self) -> None:
        if self._server is None:
            self._server = await asyncio.start_server(self._accept, self._config.listen[0], self._port)
            self._port = int(self._server.sockets[0].getsockname()[1])

    async def _unlisten(self) -> None:
        if self._server is not None:
            self._server.close()
            self._hang_up()
            await self._server.wait_closed()
            self._server = None

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        line = self._line
        now = asyncio.get_running_loop().time()
        if line is not None and line.initialised is not None and now - line.heard_at < LANE_DEAD_S:
            self._stats["connections_refused"] += 1
            writer.close()
            return
        self._hang_up()
        self._stats["connections"] += 1
        self._line = line = _Line(self._config, self._capture, writer, self._heartbeat)
        self._spawn(self._read(line, reader))
        self._spawn(self._keep_time(line))

    async def _read(self, line: _Line, reader: asyncio.StreamReader) -> None:
        try:
            while line.open and (data := await reader.read(READ_BYTES_MAX)):
                self._capture.write("in", line.peer, data)
                line.heard_at = asyncio.get_running_loop().time()
                self._apply(line, line.session.receive(data, line.heard_at))
                line.wake.set()
        except ConnectionError:
            self._stats["connections_broken"] += 1
        finally:
            line.close()
            if self._line is line:
                self._hang_up()

    async def _keep_time(self, line: _Line) -> None:
        loop = asyncio.get_running_loop()
        while line.open:
            now = loop.time()
            due = line.session.next_tick(now)
            wait_s = TICK_MAX_S if due is None else min(TICK_MAX_S, max(0.0, due - now))
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(line.wake.wait(), wait_s)
            line.wake.clear()
            self._apply(line, line.session.tick(loop.time()))

    def _hang_up(self) -> None:
        self._end_spell()
        if self._line is not None:
            self._line.close()
            self._line = None

    def _end_spell(self) -> None:
        if self._spell is not None:
            self._spell.over.set()
            self._spell = None

    def _apply(self, line: _Line, output: Output) -> None:
        line.write(output.to_write)
        for event in output.events:
            if not line.open:
                return  # hung up by what came before in the same read
            if isinstance(event, Received):
                self._received(line, event)
            elif isinstance(event, Duplicate):
                self._stats["duplicates"] += 1
            elif isinstance(event, BadBytes):
                self._stats["bad_bytes"] += 1
            elif isinstance(event, Unanswered):
                self._unanswered(event)

    def _received(self, line: _Line, event: Received) -> None:
        message = event.message
        if isinstance(message, Initialise):
            self._end_spell()
            line.initialised = message
            line.send(self._device_status(message), answering=event)
        elif isinstance(message, SwitchAntenna):
            self._switch(line, on=message.on != 0)
        elif isinstance(message, Continue | Stop | Debit | FetchTac):
            self._answered(event, message)

    def _switch(self, line: _Line, *, on: bool) -> None:
        """C4. Before C0 there is nothing to switch."""
        if not on:
            self._end_spell()
        elif self._spell is None and line.initialised is not None:
            self._spell = _Spell(line)
            for vehicle in self._vehicles.values():
                vehicle.wake.set()

    def _answered(self, event: Received, message: Continue | Stop | Debit | FetchTac) -> None:
        vehicle = self._by_obu.get(message.obu_id)
        if vehicle is None:
            self._stats["out_of_turn"] += 1
            return
        vehicle.messages[self._code(message)] += 1
        question = self._questions.get(message.obu_id)
        if question is None or question.answer.done() or (vehicle.phase, type(message)) not in ANSWERS:
            self._stats["out_of_turn"] += 1
            return
        if isinstance(message, Debit):
            self._note(vehicle, Event.ORDERED)
        elif isinstance(message, FetchTac):
            self._note(vehicle, Event.TAC_ASKED)
        question.answer.set_result(event)

    def _unanswered(self, event: Unanswered) -> None:
        """Repeated in vain. The lane still has what is left of its second."""
        self._stats["unanswered"] += 1
        question = self._questions.get(self._config.dialect.obu_of(event.message))
        if question is not None and question.message is event.message:
            loop = asyncio.get_running_loop()
            loop.call_at(max(loop.time(), question.sent_at + self._config.silence_s), question.give_up)

    def _device_status(self, asked: Initialise) -> DeviceStatus:
        return DeviceStatus(
            rsu_status=0,
            psam_count_declared=None,
            psams=(PsamStatus(channel=CHANNEL, auth=0, version=1, terminal=self._psam.terminal),),
            algorithm_id=0,
            manufacturer_id=MANUFACTURER,
            rsu_id=RSU_ID,
            rsu_version=RSU_VERSION,
            work_status=0,
            flag_id=bytes(3) if asked.flag_id is None else asked.flag_id,
            reserved=bytes(4),
        )

    def _heartbeat(self) -> Heartbeat:
        initialised = None if self._line is None else self._line.initialised
        power = 0 if initialised is None else initialised.tx_power
        channel = 0 if initialised is None else max(0, initialised.pll_channel - 1)
        return Heartbeat(
            control_status=(0x00, 0x11, 0x01),  # what single sets without a slave send (seen)
            psam1_count_declared=1,
            psams1=(PsamStatus(channel=CHANNEL, auth=0, run=0),),
            psam2_count_declared=0,
            psams2=(),
            antennas=(AntennaStatus(antenna_id=ANTENNA_ID, status=0, channel=channel, power=power),),
            antenna_count_declared=1,
            antenna_ok_declared=1,
        )

    # --- the road -----------------------------------------------------------------------------------------------

    async def _attend(self, vehicle: Vehicle) -> None:
        """Report one vehicle as often as the rules want, until it has left."""
        while vehicle.present:
            spell = await self._may_report(vehicle)
            if spell is not None:
                with contextlib.suppress(SpellOver):
                    await self._trade(vehicle, spell)
        vehicle.phase = Phase.AWAY
        self._note(vehicle, Event.GONE)

    async def _may_report(self, vehicle: Vehicle) -> _Spell | None:
        """Wait for the radio and for the end of the vehicle's pause; None when it has left."""
        loop = asyncio.get_running_loop()
        while vehicle.present:
            now = loop.time()
            if now >= vehicle.search_at:
                vehicle.phase = Phase.SEARCHING
                if self._spell is not None:
                    return self._spell
            wait_s = None if now >= vehicle.search_at else vehicle.search_at - now
            vehicle.wake.clear()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(vehicle.wake.wait(), wait_s)
        return None

    async def _trade(self, vehicle: Vehicle, spell: _Spell) -> None:
        """One pass. Raises SpellOver."""
        vehicle.phase = Phase.SEARCHING
        slow = vehicle.script.strike(FaultKind.SLOW)
        extra_ms = 0 if slow is None else slow.extra_ms
        air = AirTransaction(vehicle.obu, vehicle.card_on_air, self._psam, random=self._random.randbytes)
        this = _Pass(vehicle, spell, air, self._config.radio_ms + extra_ms)
        report: RsuMessage = await self._identify(this)
        answer = await self._ask(this, report, Phase.REPORTED, Event.REPORTED)
        resends = 0
        while answer is not None:
            order = answer.message
            leads_to = ANSWERS[vehicle.phase, type(order)]
            if isinstance(order, Stop):
                vehicle.last_stop = order.stop_type
            if isinstance(order, Stop) and order.stop_type == StopType.RESEND and resends < RESENDS_MAX:
                resends += 1
                answer = await self._ask(this, report, vehicle.phase, None)
                continue
            if leads_to not in SAID:
                self._end(vehicle, order, report)
                return
            vehicle.phase = leads_to
            worked = await self._work(this, order)
            if worked is None:  # the antenna has lost the thread
                await spell.air(self._config.silence_s * 1000)
                break
            report = worked
            answer = await self._ask(this, report, *SAID[leads_to])
        self._search(vehicle, 0.0)

    async def _ask(self, this: _Pass, report: RsuMessage, phase: Phase, event: Event | None) -> Received | None:
        """Send a report and wait for the lane's word; None when it stays silent."""
        vehicle, loop = this.vehicle, asyncio.get_running_loop()
        if this.spell.over.is_set():
            raise SpellOver
        vehicle.phase = phase
        question = _Question(report, loop.time(), loop.create_future())
        self._questions[vehicle.obu_id] = question
        try:
            this.spell.line.send(report)
            vehicle.messages[self._code(report)] += 1
            if isinstance(report, ObuReport):
                vehicle.seen_at = _now()
            if event is not None:
                self._note(vehicle, event)
            ended = asyncio.ensure_future(this.spell.over.wait())
            try:
                await asyncio.wait((question.answer, ended), return_when=asyncio.FIRST_COMPLETED)
            finally:
                ended.cancel()
            if this.spell.over.is_set():
                raise SpellOver
            return question.answer.result()
        finally:
            question.answer.cancel()
            del self._questions[vehicle.obu_id]

    def _end(self, vehicle: Vehicle, order: Message, report: RsuMessage) -> None:
        """The lane's last word of a pass: C1, or a C2 that is no request to repeat."""
        if isinstance(order, Stop):
            self._note(vehicle, Event.STOPPED)
            if order.stop_type == StopType.FREEZE:
                self._guard(vehicle)
            else:
                self._search(vehicle, self._config.search_pause_s)
        elif isinstance(report, DebitResult) and report.error:
            # Acknowledged, not finished: after a failed purchase the antenna looks for the OBU again.
            self._search(vehicle, self._config.search_pause_s)
        else:
            if not isinstance(report, UserReport):
                self._note(vehicle, Event.FINISHED)
            self._guard(vehicle)

    def _search(self, vehicle: Vehicle, pause_s: float) -> None:
        vehicle.phase = Phase.SEARCHING
        vehicle.search_at = asyncio.get_running_loop().time() + pause_s

    def _guard(self, vehicle: Vehicle) -> None:
        self._search(vehicle, self._config.guard_s)
        vehicle.phase = Phase.GUARDED

    # --- the air ------------------------------------------------------------------------------------------------

    async def _identify(self, this: _Pass) -> ObuReport:
        async with self._radio:
            await this.spell.air(self._config.search_ms * this.vehicle.random.uniform(1 - JITTER, 1 + JITTER))
            if not this.vehicle.present:
                raise SpellOver
            seen = this.air.identify()
        system = seen.system_info.raw
        return ObuReport(
            obu_id=seen.obu_id,
            error=0,
            issuer=system[0:8],
            serial=system[10:18],
            issued=system[18:22],
            expires=system[22:26],
            equipment=EQUIPMENT,
            status=this.vehicle.status(),
            antenna_id=ANTENNA_ID,
            device_type=seen.device_type,
            contract_type=system[8],
            contract_version=system[9],
        )

    async def _work(self, this: _Pass, order: Message) -> RsuMessage | None:
        """Do on the air what the lane ordered; None when no report comes of it."""
        if isinstance(order, Debit):
            return await self._buy(this, order)
        if isinstance(order, FetchTac):
            return await self._prove(this, order)
        return await self._read_user(this)

    async def _read_user(self, this: _Pass) -> UserReport:
        vehicle = this.vehicle
        await self._hold(this, PausePoint.READ)
        async with self._radio:
            await this.take_air(READ_SHARE)
            if not vehicle.present or vehicle.script.strike(FaultKind.READ_ERROR) is not None:
                user = UserData(ReadError.NO_ANSWER)
            else:
                user = this.air.read_user()
        if user.error is ReadError.NO_CARD and vehicle.card is not None:
            user = replace(user, error=ReadError.CARD_FAILED)
        if vehicle.obu.device_type is DeviceType.CPC_CARD:
            return UserReport(
                obu_id=vehicle.obu_id,
                error=user.error,
                trans_type=TRANS_TYPE_READ,
                station=user.station,
                cpc_province=user.cpc_province or bytes(4),
                cpc_fee=user.cpc_fee or bytes(10),
            )
        return UserReport(
            obu_id=vehicle.obu_id,
            error=user.error,
            trans_type=TRANS_TYPE_READ,
            station=user.station,
            vehicle_file=user.vehicle_file,
            balance_raw=user.balance_raw,
            card_file=user.card_file,
        )

    async def _buy(self, this: _Pass, order: Debit) -> DebitResult | None:
        await self._hold(this, PausePoint.DEBIT)
        fault = None
        async with self._radio:
            await this.take_air(PURCHASE_SHARE * CARD_SHARE)
            if this.vehicle.obu.device_type is not DeviceType.TWO_PIECE:
                report = self._buy_nothing(this.vehicle, order)
            else:
                armed = this.vehicle.script.strike(*PURCHASE_FAULTS)
                fault = None if armed is None else armed.what
                result = self._debit(this, order, fault)
                report = _debit_result(order, result, keep_serial=fault is FaultKind.LOSE_ANSWER_KEEP_SERIAL)
            await this.take_air(PURCHASE_SHARE * (1 - CARD_SHARE))
        await self._hold(this, PausePoint.RESULT)
        return None if fault is FaultKind.DROP_RESULT else report

    def _debit(self, this: _Pass, order: Debit, fault: FaultKind | None) -> PurchaseResult:
        """The purchase itself, in one go: nothing comes between card and PSAM."""
        vehicle = this.vehicle
        if order.ef04 is not None and order.trade_type == TRADE_EF04_ONLY:
            return self._not_made(order, DebitError.PURCHASE_FAILED)
        before = None if vehicle.card is None else vehicle.card.offline_sequence
        self._psam.mac1_fault = {
            FaultKind.REFUSE_MAC1: Mac1Fault.REFUSE,
            FaultKind.PURCHASE_REFUSED: Mac1Fault.DAMAGE,
        }.get(fault or FaultKind.SLOW)
        try:
            result = this.air.purchase(
                order.amount_fen,
                order.purchase_time_bcd,
                order.station,
                region=order.div_factor if any(order.div_factor) else None,
                lose_answer=fault in (FaultKind.LOSE_ANSWER, FaultKind.LOSE_ANSWER_KEEP_SERIAL),
                leave_before_debit=not vehicle.present,
            )
        except LocalProtocolError:  # a purchase time that is none: the PSAM makes no MAC1 with it
            result = self._not_made(order, DebitError.MAC1_FAILED)
        finally:
            self._psam.mac1_fault = None
        if vehicle.card is not None and vehicle.purse is not None and vehicle.card.offline_sequence != before:
            vehicle.purse.update()
            self._note(vehicle, Event.TAKEN)
        return result

    def _not_made(self, order: Debit, error: DebitError) -> PurchaseResult:
        return PurchaseResult(error, self._psam.terminal, order.purchase_time_bcd, TradeType.COMPOSITE)

    def _buy_nothing(self, vehicle: Vehicle, order: Debit) -> DebitResult:
        """C6 to a device without a purse. Its files are not written: B5 says so."""
        cpc = vehicle.obu.device_type is DeviceType.CPC_CARD
        if not cpc:
            result = self._not_made(order, DebitError.PURCHASE_FAILED)
            plain = _debit_result(replace(order, ef04=None), result, keep_serial=False)
            return replace(plain, error=ONE_PIECE_NOT_WRITTEN, trans_type=TRANS_TYPE_ONE_PIECE)
        return DebitResult(
            obu_id=vehicle.obu_id,
            error=CPC_NOTHING_WRITTEN,
            terminal=self._psam.terminal,
            trans_time_bcd=order.purchase_time_bcd,
            trans_type=TradeType.COMPOSITE,
        )

    async def _prove(self, this: _Pass, order: FetchTac) -> TacResult:
        async with self._radio:
            await this.take_air(TAC_SHARE)
            answer = this.air.fetch_tac(order.card_serial) if this.vehicle.present else TacAnswer(TacError.NO_ANSWER)
        wants_ef04 = order.ef04_command == 1 or bool(order.ef04_extra and order.ef04_extra[0])
        error = int(answer.error)
        if wants_ef04 and answer.error is TacError.OK:
            error = EF04_FAILED_TAC_GIVEN  # the bench's tags have no such file
        return TacResult(this.vehicle.obu_id, error, answer.tac, answer.mac, answer.balance_raw)

    async def _hold(self, this: _Pass, point: PausePoint) -> None:
        """Stop here when told so, until `continue`, or until the vehicle leaves. Raises SpellOver."""
        script, vehicle = this.vehicle.script, this.vehicle
        if script.pause_before is not point:
            return
        script.pause_before = None
        script.proceed.clear()
        vehicle.paused_before = point
        self._note(vehicle, Event.PAUSED)
        try:
            await _first_of(script.proceed, vehicle.left, this.spell.over)
        finally:
            vehicle.paused_before = None
        if this.spell.over.is_set():
            raise SpellOver

    # --- bookkeeping --------------------------------------------------------------------------------------------

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        error = None if task.cancelled() else task.exception()
        if error is not None and not self.failure.done():
            self.failure.set_exception(error)

    def _note(self, vehicle: Vehicle, event: Event) -> None:
        vehicle.events[event] += 1
        for waiter in self._waiters:
            met = waiter.vehicle == vehicle.spec.id and vehicle.events[waiter.event] >= waiter.count
            if met and not waiter.done.done():
                waiter.done.set_result(None)

    def _code(self, message: Message) -> str:
        code = self._config.dialect.code_of(message)
        return "" if code is None else f"{code:02X}"

    def _vehicle(self, command: Command) -> Vehicle:
        name = command.get("id")
        vehicle = self._vehicles.get(name) if isinstance(name, str) else None
        if vehicle is None:
            raise LookupError(f"id: no vehicle {name!r} has arrived")
        return vehicle

    def _script(self, command: Command) -> Script:
        """Script of a vehicle, which need not have arrived."""
        name = command.get("id")
        if not isinstance(name, str) or not name:
            raise ValueError(f"id: a text is wanted, not {name!r}")
        return self._script_named(name)

    def _script_named(self, name: str) -> Script:
        if name not in self._scripts and len(self._scripts) >= VEHICLES_MAX:
            raise ValueError(f"{VEHICLES_MAX} vehicles are known already")
        return self._scripts.setdefault(name, Script())

    def _enter(self, vehicle: Vehicle) -> None:
        if sum(1 for other in self._vehicles.values() if other.phase is not Phase.AWAY) >= PRESENT_MAX:
            raise ValueError(f"{PRESENT_MAX} vehicles stand here already")
        vehicle.drive_up()
        self._vehicles[vehicle.spec.id] = vehicle
        self._by_obu[vehicle.obu_id] = vehicle
        self._spawn(self._attend(vehicle))

    # --- control commands ---------------------------------------------------------------------------------------

    def handlers(self) -> dict[str, Handler]:
        """The commands by name."""
        return {
            "arrive": self._command_arrive,
            "leave": self._command_leave,
            "return": self._command_return,
            "forget_guard": self._command_forget_guard,
            "vehicles": self._command_vehicles,
            "cards": self._command_cards,
            "wait": self._command_wait,
            "fault": self._command_fault,
            "pause": self._command_pause,
            "continue": self._command_continue,
            "cut": self._command_cut,
            "down": self._command_down,
            "up": self._command_up,
            "garbage": self._command_garbage,
            "stats": self._command_stats,
        }

    async def _command_arrive(self, command: Command) -> Command:
        """`{"vehicle": {...}}`, see VehicleSpec: a new vehicle drives up."""
        _only(command, "vehicle")
        spec = VehicleSpec.from_json(command.get("vehicle"))
        if spec.id in self._vehicles:
            raise ValueError(f"vehicle.id: {spec.id} has been here; use return")
        other = self._by_obu.get(bytes.fromhex(spec.obu.id))
        if other is not None:
            raise ValueError(f"vehicle.obu.id: {spec.obu.id} belongs to {other.spec.id}")
        vehicle = build(spec, self._script_named(spec.id), self._config.seed)
        self._enter(vehicle)
        return {"id": spec.id, "card_number": None if vehicle.card is None else vehicle.card.card_file.card_number}

    async def _command_leave(self, command: Command) -> Command:
        """`{"id"}`: it drives off, in the middle of whatever goes on. `gone` comes when the antenna is done with it."""
        _only(command, "id")
        vehicle = self._vehicle(command)
        if not vehicle.present:
            raise ValueError(f"id: {vehicle.spec.id} is not here")
        vehicle.drive_off()
        return {"id": vehicle.spec.id, "phase": vehicle.phase.value}

    async def _command_return(self, command: Command) -> Command:
        """`{"id"}`: the same vehicle and card, later; the antenna has forgotten its guard by then."""
        _only(command, "id")
        vehicle = self._vehicle(command)
        if vehicle.phase is not Phase.AWAY:
            raise ValueError(f"id: {vehicle.spec.id} is still {vehicle.phase.value}; leave, then wait for gone")
        self._enter(vehicle)
        return {"id": vehicle.spec.id}

    async def _command_forget_guard(self, command: Command) -> Command:
        """`{"id"}`: report a guarded or pausing vehicle again at once."""
        _only(command, "id")
        vehicle = self._vehicle(command)
        was_guarded = vehicle.phase is Phase.GUARDED
        vehicle.search_at = 0.0
        vehicle.wake.set()
        return {"id": vehicle.spec.id, "was_guarded": was_guarded}

    async def _command_vehicles(self, command: Command) -> Command:
        """Where every vehicle stands, what was said about it, what happened to it."""
        _only(command)
        return {"vehicles": [self._state(vehicle) for vehicle in self._vehicles.values()]}

    def _state(self, vehicle: Vehicle) -> Command:
        left_s = vehicle.search_at - asyncio.get_running_loop().time()
        waits = vehicle.phase in (Phase.GUARDED, Phase.SEARCHING) and left_s > 0
        return {
            "id": vehicle.spec.id,
            "phase": vehicle.phase.value,
            "present": vehicle.present,
            "paused_before": None if vehicle.paused_before is None else vehicle.paused_before.value,
            "quiet_ms": round(left_s * 1000) if waits else 0,
            "messages": dict(sorted(vehicle.messages.items())),
            "events": {event.value: vehicle.events[event] for event in Event},
            "last_stop": vehicle.last_stop,
            "seen_at": vehicle.seen_at,
            "faults": [{"what": fault.what.value, "times": fault.remaining} for fault in vehicle.script.faults],
        }

    async def _command_cards(self, command: Command) -> Command:
        """What every card says of itself, read as any reader would. Amounts are fen; vehicles without one are left out.

        `decrements` has the amount of every purchase since the vehicle first arrived, `transactions` the whole record.
        """
        _only(command)
        return {"cards": [card for vehicle in self._vehicles.values() if (card := _card_account(vehicle)) is not None]}

    async def _command_wait(self, command: Command) -> Command:
        """`{"id", "event", "count": 1, "timeout_ms": 10000}`: answer when the event has happened so often."""
        _only(command, "id", "event", "count", "timeout_ms")
        vehicle = self._vehicle(command)
        event = _one_of("event", command.get("event"), Event)
        count = _integer(command, "count", 1, COUNT_MAX, 1)
        timeout_ms = _integer(command, "timeout_ms", 0, WAIT_MS_MAX, WAIT_MS_DEFAULT)
        if vehicle.events[event] < count:
            waiter = _Waiter(vehicle.spec.id, event, count, asyncio.get_running_loop().create_future())
            self._waiters.append(waiter)
            try:
                async with asyncio.timeout(timeout_ms / 1000):
                    await waiter.done
            except TimeoutError as error:
                seen = vehicle.events[event]
                raise TimeoutError(
                    f"{vehicle.spec.id}: {seen} of {count} {event.value} within {timeout_ms} ms; it is"
                    f" {vehicle.phase.value}"
                ) from error
            finally:
                self._waiters.remove(waiter)
        return {"id": vehicle.spec.id, "event": event.value, "count": vehicle.events[event]}

    async def _command_fault(self, command: Command) -> Command:
        """`{"id", "what", "times": 1}`, for slow also `extra_ms`. The vehicle need not have arrived."""
        what = _one_of("what", command.get("what"), FaultKind)
        slow = what is FaultKind.SLOW
        _only(command, "id", "what", "times", *(("extra_ms",) if slow else ()))
        extra_ms = _integer(command, "extra_ms", 1, EXTRA_MS_MAX, None) if slow else 0
        times = _integer(command, "times", 1, COUNT_MAX, 1)
        script = self._script(command)
        script.arm(Fault(what, times, extra_ms))
        return {"id": command["id"], "faults": len(script.faults), "arrived": command["id"] in self._vehicles}

    async def _command_pause(self, command: Command) -> Command:
        """`{"id", "before": read | debit | result}`: hold it there, once. The vehicle need not have arrived."""
        _only(command, "id", "before")
        point = _one_of("before", command.get("before"), PausePoint)
        self._script(command).pause_before = point
        return {"id": command["id"], "before": point.value, "arrived": command["id"] in self._vehicles}

    async def _command_continue(self, command: Command) -> Command:
        """`{"id"}`: go on, or do not stop after all."""
        _only(command, "id")
        script = self._script(command)
        held = self._vehicles[command["id"]].paused_before if command["id"] in self._vehicles else None
        script.pause_before = None
        script.proceed.set()
        return {"id": command["id"], "was_paused_before": None if held is None else held.value}

    async def _command_cut(self, command: Command) -> Command:
        """Drop the lane's connection now."""
        _only(command)
        connected = self._line is not None
        self._hang_up()
        return {"was_connected": connected}

    async def _command_down(self, command: Command) -> Command:
        """Stop listening, and cut."""
        _only(command)
        await self._unlisten()
        return {"listening": False}

    async def _command_up(self, command: Command) -> Command:
        """Listen again, on the same port."""
        _only(command)
        await self._listen()
        return {"listening": True, "port": self._port}

    async def _command_garbage(self, command: Command) -> Command:
        """`{"hex"}`: put these bytes on the line."""
        _only(command, "hex")
        data = bytes.fromhex(str(command.get("hex", "")))
        if not data:
            raise ValueError("hex: at least one byte is wanted")
        if self._line is None:
            raise LookupError("no lane is connected")
        self._line.write(data)
        return {"written": len(data)}

    async def _command_stats(self, command: Command) -> Command:
        """Counts of the line since the start."""
        _only(command)
        names = (
            *("connections", "connections_refused", "connections_broken"),
            *("duplicates", "bad_bytes", "unanswered", "out_of_turn"),
        )
        return {
            **{name: self._stats[name] for name in names},
            "listening": self._server is not None,
            "connected": self._line is not None,
            "initialised": self._line is not None and self._line.initialised is not None,
            "radio_on": self._spell is not None,
            "present": sum(1 for vehicle in self._vehicles.values() if vehicle.present),
            "psam_serial": self._psam.terminal_serial,
        }


def _card_account(vehicle: Vehicle) -> Command | None:
    """One card's history as JSON, None without a card."""
    card, purse = vehicle.card, vehicle.purse
    if card is None or purse is None:
        return None
    purse.update()
    return {
        "id": vehicle.spec.id,
        "card_number": card.card_file.card_number,
        "type": card.card_file.card_type,
        "balance_start": purse.start_fen,
        "balance": purse.balance_fen(),
        "decrements": [item.amount_fen for item in purse.decrements],
        "transactions": [
            {
                "sequence": item.sequence,
                "amount_fen": item.amount_fen,
                "trade_type": item.trade_type,
                "terminal": item.terminal.hex(),
                "at": item.at,
            }
            for item in purse.decrements
        ],
        "offline_serial": card.offline_sequence,
        "file_0019": purse.station().hex(),
    }


def _debit_result(order: Debit, result: PurchaseResult, *, keep_serial: bool) -> DebitResult:
    """B5 of a purchase. What the antenna does not know is zero, the balance all ones."""
    debited = result.error in (DebitError.OK, DebitError.MAC2_FAILED)
    return DebitResult(
        obu_id=order.obu_id,
        error=_with_ef04(order, result.error),
        terminal=result.terminal,
        trans_time_bcd=result.time,
        trans_type=result.trade_type,
        algorithm=0 if result.algorithm is None else result.algorithm,
        key_version=result.key_version or 0,
        tac=result.tac or bytes(4),
        card_serial=(result.card_serial or 0) if debited or keep_serial else 0,
        psam_serial=result.psam_serial or 0,
        balance_raw=BALANCE_UNREAD if result.balance_raw is None else result.balance_raw,
    )


def _with_ef04(order: Debit, error: DebitError) -> int:
    """The code when the lane asked for EF04 too. The bench's tags have no such file, so it is never written."""
    if order.ef04 is None or order.trade_type == TRADE_PURCHASE_ONLY:
        return error
    if order.trade_type == TRADE_EF04_ONLY:
        return EF04_ONLY_FAILED
    return {DebitError.OK: EF04_FAILED_PURCHASE_MADE, DebitError.PURCHASE_FAILED: EF04_FAILED_TOO}.get(error, error)


async def _first_of(*events: asyncio.Event) -> None:
    """Return when one of the events is set."""
    waits = [asyncio.ensure_future(event.wait()) for event in events]
    try:
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for wait in waits:
            wait.cancel()


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")


# --- arguments of commands ------------------------------------------------------------------------------------------


def _only(command: Command, *known: str) -> None:
    unknown = sorted(command.keys() - {"cmd", *known})
    if unknown:
        raise ValueError(f"{unknown[0]}: unknown key; {command.get('cmd')} takes {', '.join(known) or 'none'}")


def _integer(command: Command, key: str, lowest: int, highest: int, default: int | None) -> int:
    value = command.get(key, default)
    if type(value) is not int or not lowest <= value <= highest:
        raise ValueError(f"{key}: a whole number from {lowest} to {highest} is wanted, not {value!r}")
    return value


def _one_of(key: str, value: object, choices: type[E]) -> E:
    try:
        return choices(value)
    except ValueError as error:
        known = ", ".join(choice.value for choice in choices)
        raise ValueError(f"{key}: {value!r} is not one of {known}") from error


# --- the program ----------------------------------------------------------------------------------------------------


async def serve(config: RsuConfig) -> None:
    """Run an antenna until cancelled; say `ready HOST:PORT control HOST:PORT` on stdout once both sockets listen."""
    emulator = RsuEmulator(config)
    try:
        await emulator.start()
        address, control = emulator.address, emulator.control_address
        sys.stdout.write(f"ready {address[0]}:{address[1]} control {control[0]}:{control[1]}\n")
        sys.stdout.flush()
        await emulator.failure
    finally:
        await emulator.close()


async def _until_signal(config: RsuConfig) -> None:
    task = asyncio.current_task()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        if task is not None:
            loop.add_signal_handler(number, task.cancel)
    with contextlib.suppress(asyncio.CancelledError):
        await serve(config)


def _address(text: str) -> tuple[str, int]:
    try:
        return parse_address(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def _terminal(text: str) -> bytes:
    if len(text) != 12 or not text.isalnum():
        raise argparse.ArgumentTypeError(f"{text!r} is not a terminal number of 12 digits, such as 019900000001")
    try:
        return bytes.fromhex(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is not a terminal number of 12 digits") from error


def _at_least_zero(text: str) -> int:
    if not (text.isascii() and text.isdigit()):
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 0")
    return int(text)


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of seconds") from error
    if not 0 <= value <= SECONDS_MAX:
        raise argparse.ArgumentTypeError(f"{text} is not between 0 and {SECONDS_MAX} seconds")
    return value


def main(argv: Sequence[str] | None = None) -> int:
    """Command line: see --help."""
    parser = argparse.ArgumentParser(prog="rsu", description="An emulated roadside antenna with vehicles before it.")
    parser.add_argument("--listen", type=_address, default=("127.0.0.1", 0), metavar="HOST:PORT")
    parser.add_argument("--control", type=_address, default=("127.0.0.1", 0), metavar="HOST:PORT")
    parser.add_argument("--dialect", choices=sorted(DIALECTS), default="pcrsu-v3")
    parser.add_argument("--radio-ms", type=_at_least_zero, default=280, help="air time of one sale")
    parser.add_argument("--terminal", type=_terminal, default=TERMINAL_DEFAULT, help="PSAM terminal number, 12 digits")
    parser.add_argument("--seed", type=int, default=1, help="of card randoms and radio times")
    parser.add_argument("--guard-s", type=_seconds, default=10.0, help="a finished OBU is left alone so long")
    parser.add_argument("--search-pause-s", type=_seconds, default=1.0, help="pause after C2 and failed purchases")
    parser.add_argument("--capture", type=Path, metavar="PATH", help="append raw bytes as JSON lines")
    given = vars(parser.parse_args(argv))
    config = RsuConfig(**{**given, "dialect": dialect_named(given["dialect"])})
    try:
        asyncio.run(_until_signal(config))
    except OSError as error:  # a port or a file that cannot be used
        sys.stderr.write(f"rsu: {error}\n")
        return 3
    return 0


if __name__ == "__main__":
    os.umask(0o077)  # captures show who passed when
    sys.exit(main())
