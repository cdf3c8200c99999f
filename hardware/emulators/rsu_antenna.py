"""The emulated antenna: its line to the lane computer, and the vehicles it trades with.

Theory of operation. The lane computer connects, sends C0, gets B0 and switches the radio on with C4. From then until
C4 00, another C0 or the end of the connection lasts a *spell*; every vehicle on the road has a task of its own that
reports it within the spell, one pass after another:

    searching --B2--> reported --C1--> reading --B4--> read --C6--> buying --B5--> result --C1--> guarded
                          \\------C8------------------------\\-------------------------\\--> proving --B8--> proved

Dialects that report the vehicle by itself have one step more, and other commands for the same ends:

    searching --B2--> reported --C1--> describing --B3--> described --C1--> reading --B4--> read
        read --C6--> buying | --C3--> writing | --C7--> recovering; each --B5--> result --C1--> guarded

`rsu_turns` has every turn of both. C2 ends a pass (search again after a pause, or freeze), or asks for the report once
more. When the lane stays silent for a second after a report, the antenna searches again; the end of a spell ends every
pass at once. Whatever ends it, the card keeps what has happened. One radio serves all: air time is taken in turns, and
no vehicle holds it while it waits for the lane.

On a serial line nobody connects: it is one connection from plugging the cable in to pulling it out, and a lane that
has started anew is known by its C0. Where a dialect marks the first frame after power-up, the antenna's first frame of
its life has the mark, and so has the first after `restart`; until C0 comes it sends B0 instead of heartbeats.
An empty frame says that a report was seen, and no more: the lane's second runs on.

Repetition, recognition of repeated frames and heartbeats are those of `protocols.rsu.session`.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import random
from collections import Counter
from collections.abc import Callable, Coroutine, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from types import MappingProxyType
from typing import Any

from hardware.emulators.control import Capture, utcnow_of_machine
from hardware.emulators.flood import paced
from hardware.emulators.line import Line, TcpLine
from hardware.emulators.psam import TERMINAL_DEFAULT
from hardware.emulators.pty_port import BAUD_DEFAULT, ListenAddress, PtyAddress, PtyPort
from hardware.emulators.road import AntennaPsam, Event, Phase, Script, Vehicle, VehicleSpec, build
from hardware.emulators.rsu_air import ANTENNA_ID, Air, Pass, Spell, SpellOver
from hardware.emulators.rsu_turns import manner_of
from protocols.rsu.dialect import Dialect, Side
from protocols.rsu.messages import (
    Acknowledge,
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
    RecoverTac,
    RsuMessage,
    Stop,
    StopType,
    SwitchAntenna,
    UserReport,
    WriteEntry,
    WriteResult,
)
from protocols.rsu.registry import DIALECTS
from protocols.rsu.session import (
    BadBytes,
    Duplicate,
    Output,
    Received,
    Session,
    Timing,
    Unanswered,
)

READ_BYTES_MAX = 16 * 1024
"""Bytes taken per read: more than a lane ever says at once."""
WRITE_BYTES_MAX = 64 * 1024
"""Bytes unread by the lane above which the line counts as broken: hundreds of reports that nobody takes."""
FLOOD_UNSENT_MAX = 4 * 1024
"""Bytes unread by the lane above which a flood waits: it is to be in the way, not to break the line."""
TICK_MAX_S = 0.5
"""Longest sleep of a line's timer."""
LANE_DEAD_S = 30.0
"""Silence of three heartbeats after which a lane has died without a goodbye: the next connection takes its place."""
VEHICLES_MAX = 4096
"""Vehicles of one run; each keeps its chips in memory for the final count."""
PRESENT_MAX = 16
"""Vehicles in the zone at once. A real one holds a handful."""
RESENDS_MAX = 10
"""Times a lane may ask for the same report again within one pass; then the antenna searches anew."""

STATION_DEFAULT = bytes.fromhex("99010101")
"""Station code of the bench's own network 9901."""

PSAM_CHANNEL = 1
MANUFACTURER = 0x77
"""Manufacturer code in no published list."""
RSU_ID, RSU_VERSION = bytes.fromhex("9A0001"), bytes.fromhex("2001")

NOISE: Mapping[str, bytes] = MappingProxyType(
    {
        "all_ff": b"\xff" * 256,
        "false_headers": bytes.fromhex("FFFF008100000400") * 32,  # of v3: the longest frame, again and again
    }
)
"""Noise that costs a reader most: start marks in every place, and headers that promise a long frame."""

OrderOfObu = Continue | Stop | Debit | WriteEntry | RecoverTac | FetchTac
"""Order of the lane about one OBU."""

COUNTED = (
    "connections",
    "connections_refused",
    "connections_broken",
    "duplicates",
    "bad_bytes",
    "unanswered",
    "out_of_turn",
)
"""Counts kept of the line."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RsuConfig:
    """Settings of one antenna."""

    listen: ListenAddress = ("127.0.0.1", 0)
    """A TCP address, or the name of a pseudo terminal that plays a serial port."""
    baud: int = BAUD_DEFAULT
    """Speed of the serial port; TCP is not paced."""
    control: tuple[str, int] = ("127.0.0.1", 0)
    dialect: Dialect = DIALECTS["pcrsu-v3"]
    radio_ms: int = 280
    """Air time of one sale, the search before it not counted."""
    search_ms: int = 40
    """Time from driving up, or from the end of a pause, to B2."""
    terminal: bytes = TERMINAL_DEFAULT
    seed: int = 1
    capture: Path | None = None
    guard_s: float = 10.0
    """Time for which a finished or frozen OBU that stays is not reported (one firmware)."""
    search_pause_s: float = 1.0
    """Pause after C2 *search again*, and after a purchase that failed."""
    silence_s: float = 1.0
    """Silence of the lane after a report, after which the antenna searches again (one firmware)."""
    timing: Timing | None = None
    """Times of the conversation; None: those of the dialect."""
    station: bytes = STATION_DEFAULT
    """Network and station, 4 bytes: what the antenna adds to an entry that travels without them (serial dialects)."""


class _Line:
    """Connection of one lane computer, or all it sends on a serial line while the cable is in."""

    def __init__(
        self, config: RsuConfig, capture: Capture, wire: Line, beat: Callable[[], Message], *, powered_up: bool
    ) -> None:
        self.peer = wire.peer
        self.wire = wire
        self.initialised: Initialise | None = None
        self.radio_wanted = False
        """True when the lane has switched the radio on, perhaps before its C0."""
        self.open = True
        self._config = config
        self._beat = beat
        self.session = self._new_session(powered_up=powered_up)
        self.heard_at = asyncio.get_running_loop().time()
        self.wake = asyncio.Event()
        self._capture = capture

    def restart(self) -> None:
        """Start anew: the antenna has lost its power and has it back; the cable stayed where it is."""
        self.initialised = None
        self.radio_wanted = False
        self.session = self._new_session(powered_up=True)
        self.wake.set()

    def _new_session(self, *, powered_up: bool) -> Session:
        config = self._config
        return Session(config.dialect, Side.RSU, config.timing, heartbeat=self._beat, powered_up=powered_up)

    def send(self, message: RsuMessage, *, answering: Received | None = None) -> None:
        """Send a message. Raises SpellOver on a closed line."""
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
        self.wire.send(data)
        if self.wire.unsent > WRITE_BYTES_MAX:
            self.close()

    def close(self) -> None:
        """Hang up."""
        self.open = False
        self.wake.set()
        self.wire.close()


@dataclass(frozen=True, slots=True)
class _Question:
    """A report that waits for the lane. The answer is None when it said nothing."""

    message: RsuMessage
    sent_at: float
    answer: asyncio.Future[Received | None]

    def give_up(self) -> None:
        """Answer None: the lane has been silent for too long."""
        if not self.answer.done():
            self.answer.set_result(None)


@dataclass(frozen=True, slots=True)
class _Waiter:
    """A `wait` command."""

    vehicle: Vehicle
    event: Event
    count: int
    done: asyncio.Future[None]


class Antenna:
    """One antenna, from its socket to its road."""

    def __init__(
        self,
        config: RsuConfig,
        *,
        utcnow: Callable[[], datetime] = utcnow_of_machine,
        on_event: Callable[[Vehicle, Event], None] = lambda _vehicle, _event: None,
    ) -> None:
        """`utcnow` dates what is shown of a vehicle; the antenna's own clock is what C0 sets. `on_event` is told
        whatever can be waited for, at the moment it happens."""
        self._config = config
        self._utcnow = utcnow
        self._on_event = on_event
        self._capture = Capture(config.capture)
        self._server: asyncio.Server | None = None
        self._tcp: tuple[str, int] | None = None
        self._pty: PtyPort | None = None
        if isinstance(config.listen, PtyAddress):
            self._pty = PtyPort(config.listen, config.baud)
        else:
            self._tcp = config.listen
        chance = random.Random(f"{config.seed}:antenna")  # noqa: S311 - repeatable on purpose
        self._psam = AntennaPsam(mode="bench", terminal=config.terminal, random=chance.randbytes)
        self._manner = manner_of(config.dialect)
        self._marks_power_up = config.dialect.rules[Side.RSU].power_up_number is not None
        self._air = Air(
            self._psam,
            chance,
            self._note,
            stepwise=self._manner.stepwise,
            station=config.station,
            clock=self._clock,
        )
        self._powered_up = True
        self._clock_set = (0, 0.0)
        self._line: _Line | None = None
        self._spell: Spell | None = None
        self._vehicles: dict[str, Vehicle] = {}
        self._by_obu: dict[bytes, Vehicle] = {}
        self._scripts: dict[str, Script] = {}
        self._questions: dict[bytes, _Question] = {}
        self._waiters: list[_Waiter] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._stats: Counter[str] = Counter()
        self._overrun = 0
        self._shown: ObuReport | None = None
        self.failure: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        """Future that gets the exception when one of the antenna's tasks fails: a bug of the emulator."""

    @property
    def address(self) -> tuple[str, int]:
        """Address the lane connects to, port filled in. Raises LookupError when it listens on a serial line."""
        if self._tcp is None:
            raise LookupError(f"{self._config.listen} is no network address")
        return self._tcp

    @property
    def listening(self) -> bool:
        """True when the lane can reach it now."""
        return self._server is not None or (self._pty is not None and self._pty.plugged)

    @property
    def serial(self) -> bool:
        """True when it sits on a serial line."""
        return self._pty is not None

    @property
    def vehicles(self) -> Mapping[str, Vehicle]:
        """Every vehicle that has ever arrived, by its id."""
        return MappingProxyType(self._vehicles)

    async def close(self) -> None:
        """Cut everything."""
        await self.unlisten()
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._capture.close()
        self.failure.cancel()

    # --- what a bench does to it --------------------------------------------------------------------------------

    def script(self, name: str) -> Script:
        """Script of a vehicle, which need not have arrived."""
        if name not in self._scripts and len(self._scripts) >= VEHICLES_MAX:
            raise ValueError(f"{VEHICLES_MAX} vehicles are known already")
        return self._scripts.setdefault(name, Script())

    def arrive(self, spec: VehicleSpec) -> Vehicle:
        """A new vehicle drives up. Raises ValueError when it, or its tag, is known already, or when the dialect cannot
        tell of it."""
        if self._manner.stepwise and spec.device_type is not DeviceType.TWO_PIECE:
            raise ValueError(f"vehicle.device_type: {self._config.dialect.name} tells of tags with a card only")
        if spec.id in self._vehicles:
            raise ValueError(f"vehicle.id: {spec.id} has been here; use return")
        other = self._by_obu.get(bytes.fromhex(spec.obu.id))
        if other is not None:
            raise ValueError(f"vehicle.obu.id: {spec.obu.id} belongs to {other.spec.id}")
        vehicle = build(spec, self.script(spec.id), self._config.seed)
        self.enter(vehicle)
        return vehicle

    def enter(self, vehicle: Vehicle) -> None:
        """A vehicle that is not here drives up. Raises ValueError when there is no room."""
        if sum(1 for other in self._vehicles.values() if other.phase is not Phase.AWAY) >= PRESENT_MAX:
            raise ValueError(f"{PRESENT_MAX} vehicles stand here already")
        vehicle.drive_up()
        self._vehicles[vehicle.spec.id] = vehicle
        self._by_obu[vehicle.obu_id] = vehicle
        self._spawn(self._attend(vehicle))

    async def happened(self, vehicle: Vehicle, event: Event, count: int, timeout_s: float) -> None:
        """Return when `event` has happened `count` times. Raises TimeoutError."""
        if vehicle.events[event] >= count:
            return
        waiter = _Waiter(vehicle, event, count, asyncio.get_running_loop().create_future())
        self._waiters.append(waiter)
        try:
            async with asyncio.timeout(timeout_s):
                await waiter.done
        finally:
            self._waiters.remove(waiter)

    async def listen(self) -> None:
        """Let the lane reach it, at the same address as before: open the socket, or plug the serial cable in."""
        if self.listening:
            return
        if self._pty is not None:
            self._begin(self._pty.plug())
        elif self._tcp is not None:
            self._server = await asyncio.start_server(self._accept, *self._tcp)
            self._tcp = self._tcp[0], int(self._server.sockets[0].getsockname()[1])

    async def unlisten(self) -> None:
        """Close the socket and hang up, or pull the serial cable out."""
        if self._pty is not None:
            self._pty.unplug()
            self.hang_up()
        if self._server is not None:
            self._server.close()
            self.hang_up()
            await self._server.wait_closed()
            self._server = None

    def hang_up(self) -> bool:
        """Drop the lane's connection; False when there was none."""
        self._end_spell()
        line, self._line = self._line, None
        if line is not None:
            line.close()
            self._overrun += line.wire.overrun
        return line is not None

    def restart(self) -> None:
        """Power off and on. A TCP connection breaks; on a serial line the antenna says that it is back if it can."""
        self._end_spell()
        self._air.power_off()
        self._powered_up = True
        for vehicle in self._vehicles.values():
            vehicle.search_at = 0.0
            vehicle.wake.set()
        line = self._line
        if line is None or self._pty is None:
            self.hang_up()
            return
        line.restart()
        self._powered_up = False
        if self._marks_power_up:
            line.send(self._device_status(None))

    def write_raw(self, data: bytes) -> None:
        """Put bytes on the line. Raises LookupError when there is none."""
        if self._line is None:
            raise LookupError("no lane is connected")
        self._line.write(data)

    def flood(self, what: str, per_s: int, seconds: float) -> None:
        """Flood the line for so long, where there is one: NOISE by its name, or `reports`, each a B2 of another tag,
        like the last real one. Raises LookupError when no tag has been reported yet."""
        if what in NOISE:
            self._spawn(self._pour(itertools.repeat(NOISE[what]), per_s, seconds))
        elif self._shown is None:
            raise LookupError("no tag has been reported yet")
        else:
            self._spawn(self._pour(self._crowd(self._shown), per_s, seconds))

    async def _pour(self, pieces: Iterator[bytes], per_s: int, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                async for portion in paced(pieces, per_s):
                    if self._line is not None and self._line.wire.unsent < FLOOD_UNSENT_MAX:
                        self._line.write(portion)

    def _crowd(self, shown: ObuReport) -> Iterator[bytes]:
        """Frames of invented tags, each reported once and no further."""
        dialect = self._config.dialect
        numbers = itertools.cycle(dialect.rules[Side.RSU].numbers)
        for tag in itertools.cycle(range(1 << 24)):
            report = replace(shown, obu_id=b"\xee" + tag.to_bytes(3, "big"), serial=bytes.fromhex(f"99012309{tag:08d}"))
            yield dialect.framing.wrap(next(numbers), dialect.encode(report))

    def stats(self) -> dict[str, int | bool]:
        """Counts of the line since the start, and how it stands."""
        return {
            **{name: self._stats[name] for name in COUNTED},
            "bytes_overrun": self._overrun + (0 if self._line is None else self._line.wire.overrun),
            "listening": self.listening,
            "connected": self._line is not None,
            "initialised": self._line is not None and self._line.initialised is not None,
            "radio_on": self._spell is not None,
            "present": sum(1 for vehicle in self._vehicles.values() if vehicle.present),
            "psam_serial": self._psam.terminal_serial,
        }

    # --- the line -----------------------------------------------------------------------------------------------

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.attach(TcpLine(reader, writer))

    def attach(self, wire: Line) -> None:
        """Attach a lane that has connected. A second one is refused while the first lives."""
        line = self._line
        now = asyncio.get_running_loop().time()
        if line is not None and line.initialised is not None and now - line.heard_at < LANE_DEAD_S:
            self._stats["connections_refused"] += 1
            wire.close()
            return
        self.hang_up()
        self._begin(wire)

    def _begin(self, wire: Line) -> None:
        """Begin with a lane on the line."""
        self._stats["connections"] += 1
        self._line = line = _Line(self._config, self._capture, wire, self._say_alive, powered_up=self._powered_up)
        self._powered_up = False
        self._spawn(self._read(line))
        self._spawn(self._keep_time(line))

    async def _read(self, line: _Line) -> None:
        try:
            while line.open and (data := await line.wire.read(READ_BYTES_MAX)):
                self._capture.write("in", line.peer, data)
                line.heard_at = asyncio.get_running_loop().time()
                self._apply(line, line.session.receive(data, line.heard_at))
                line.wake.set()
        except ConnectionError:
            self._stats["connections_broken"] += 1
        finally:
            line.close()
            if self._line is line:
                self.hang_up()

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
        if self._line is line:  # closed from this side: too much unread
            self.hang_up()

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
            self._clock_set = (message.unix_seconds, event.at)
            line.send(self._device_status(message), answering=event)
            if self._manner.switch_before_start and line.radio_wanted:
                self._switch(line, on=True)
        elif isinstance(message, SwitchAntenna):
            line.radio_wanted = message.on != 0
            self._switch(line, on=line.radio_wanted)
        elif isinstance(message, Acknowledge):
            if event.answers is not None:
                self._give_up_later(event.answers)
        elif isinstance(message, OrderOfObu):
            self._answered(event, message)

    def _switch(self, line: _Line, *, on: bool) -> None:
        """Switch the radio, C4 or 4C. Before C0 there is nothing to switch."""
        if not on:
            self._end_spell()
        elif self._spell is None and line.initialised is not None:
            self._spell = Spell()
            for vehicle in self._vehicles.values():
                vehicle.wake.set()

    def _answered(self, event: Received, message: OrderOfObu) -> None:
        if self._config.dialect.empty_frames and not any(message.obu_id):
            return  # answers B0 or a heartbeat, where every report may be answered
        vehicle = self._by_obu.get(message.obu_id)
        if vehicle is None:
            self._stats["out_of_turn"] += 1
            return
        vehicle.messages[self._code(message)] += 1
        question = self._questions.get(message.obu_id)
        if question is None or question.answer.done() or (vehicle.phase, type(message)) not in self._manner.answers:
            self._stats["out_of_turn"] += 1
            return
        if isinstance(message, Continue) and vehicle.phase is Phase.REPORTED:
            self._note(vehicle, Event.ASKED)
        elif isinstance(message, Debit):
            self._note(vehicle, Event.ORDERED)
        elif isinstance(message, WriteEntry):
            self._note(vehicle, Event.ENTRY_ORDERED)
        elif isinstance(message, FetchTac | RecoverTac):
            self._note(vehicle, Event.TAC_ASKED)
        question.answer.set_result(event)

    def _unanswered(self, event: Unanswered) -> None:
        """Count a report repeated in vain. The lane still has what is left of its second."""
        self._stats["unanswered"] += 1
        self._give_up_later(event.message)

    def _give_up_later(self, report: Message) -> None:
        """Take the lane for silent when its second is over."""
        question = self._questions.get(self._config.dialect.obu_of(report))
        if question is not None and question.message is report:
            loop = asyncio.get_running_loop()
            loop.call_at(max(loop.time(), question.sent_at + self._config.silence_s), question.give_up)

    def _clock(self) -> int:
        """The antenna's clock, seconds since 1970 in UTC: as the last C0 has set it."""
        seconds, at = self._clock_set
        return seconds + int(asyncio.get_running_loop().time() - at)

    def _device_status(self, asked: Initialise | None) -> DeviceStatus:
        return DeviceStatus(
            rsu_status=0,
            psam_count_declared=None,
            psams=(PsamStatus(channel=PSAM_CHANNEL, auth=0, version=1, terminal=self._psam.terminal),),
            algorithm_id=0,
            manufacturer_id=MANUFACTURER,
            rsu_id=RSU_ID,
            rsu_version=RSU_VERSION,
            work_status=0,
            flag_id=bytes(3) if asked is None or asked.flag_id is None else asked.flag_id,
            reserved=b"",
        )

    def _say_alive(self) -> Message:
        """Message that the antenna sends by itself from time to time."""
        started = self._line is not None and self._line.initialised is not None
        return self._device_status(None) if self._marks_power_up and not started else self._heartbeat()

    def _heartbeat(self) -> Heartbeat:
        initialised = None if self._line is None else self._line.initialised
        power = 0 if initialised is None else initialised.tx_power
        channel = 0 if initialised is None else max(0, initialised.pll_channel - 1)
        return Heartbeat(
            control_status=(0x00, 0x11, 0x01),  # what single sets without a slave send (seen)
            psam1_count_declared=1,
            psams1=(PsamStatus(channel=PSAM_CHANNEL, auth=0, run=0),),
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

    async def _may_report(self, vehicle: Vehicle) -> Spell | None:
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

    async def _trade(self, vehicle: Vehicle, spell: Spell) -> None:
        """One pass. Raises SpellOver."""
        vehicle.phase = Phase.SEARCHING
        this = self._air.begin(vehicle, spell, radio_ms=self._config.radio_ms, search_ms=self._config.search_ms)
        report: RsuMessage = await self._air.identify(this)
        answer = await self._ask(this, report, Phase.REPORTED, Event.REPORTED)
        resends = 0
        while answer is not None:
            order = answer.message
            leads_to = self._manner.answers[vehicle.phase, type(order)]
            if isinstance(order, Stop):
                vehicle.last_stop = order.stop_type
            if isinstance(order, Stop) and order.stop_type == StopType.RESEND and resends < RESENDS_MAX:
                resends += 1
                answer = await self._ask(this, report, vehicle.phase, None)
                continue
            if leads_to not in self._manner.said:
                self._end(vehicle, order, report)
                return
            vehicle.phase = leads_to
            worked = await self._air.work(this, order)
            if worked is None:  # the antenna has lost the thread
                await spell.air(self._config.silence_s * 1000)
                break
            report = worked
            answer = await self._ask(this, report, *self._manner.said[leads_to])
        self._search(vehicle, 0.0)

    async def _ask(self, this: Pass, report: RsuMessage, phase: Phase, event: Event | None) -> Received | None:
        """Send a report and wait for the lane's answer; None when it stays silent."""
        vehicle, loop = this.vehicle, asyncio.get_running_loop()
        line = self._line
        if this.spell.over.is_set() or line is None:
            raise SpellOver
        vehicle.phase = phase
        question = _Question(report, loop.time(), loop.create_future())
        self._questions[vehicle.obu_id] = question
        try:
            line.send(report)
            vehicle.messages[self._code(report)] += 1
            if isinstance(report, ObuReport):
                self._shown = report
                vehicle.seen_at = self._utcnow().isoformat(timespec="milliseconds")
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
        """The lane's last order of a pass: C1, or a C2 that is no request to repeat."""
        if isinstance(order, Stop):
            self._note(vehicle, Event.STOPPED)
            if order.stop_type == StopType.FREEZE:
                self._guard(vehicle)
            else:
                self._search(vehicle, self._config.search_pause_s)
        elif isinstance(report, DebitResult | WriteResult) and report.error:
            # Acknowledged, not finished: after a failed purchase or writing the antenna looks for the OBU again.
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
        self._on_event(vehicle, event)
        for waiter in self._waiters:
            met = waiter.vehicle is vehicle and vehicle.events[waiter.event] >= waiter.count
            if met and not waiter.done.done():
                waiter.done.set_result(None)

    def _code(self, message: Message) -> str:
        code = self._config.dialect.code_of(message)
        return "" if code is None else f"{code:02X}"
