"""Relay board of a plaza: coils for barriers and lamps, inputs for the barriers' limit switches, over Modbus TCP.

Run as a program:

    python -m hardware.emulators.relay_board --listen 127.0.0.1:0 --control 127.0.0.1:0 \\
        --watch-database site.db --lanes '{"lane-1": {"barrier": 0, "green": 1, "red": 2}}'

It prints `ready <address> control <address>` once both sockets listen, runs until SIGTERM or SIGINT, and ends with
status 0, or 1 when a barrier or a green lamp was ever switched on without a committed decision (2 usage, 3
a port is taken or a file cannot be written). That check (`hardware.emulators.committed`) is made inside the coil write,
before the write is answered. A violation is recorded and the coil still switches, as on a real board, which does not
know what a decision is.

Coils follow the writes. Barrier: a rising edge of its coil makes the arm rise for `opening_ms`, then it stands open
until the vehicle has passed (`pass` command) or `hold_ms` are over, then it falls for `closing_ms`. Discrete inputs:
`opened_input` and `closed_input` of a lane are its limit switches; both read 0 while the arm moves, the latter from
`leaving_ms` after the arm began to.

Requests are executed one after the other, in the order in which they arrived on whatever connection. A frozen board
goes on receiving and executes nothing; what arrived meanwhile it executes when it thaws, for connections that are
closed by then, too.

Control commands (JSON lines, see `hardware.emulators.control`):

    state                               coils, lanes with barrier position and openings, listening, connections
    events {"since": N}                 coil edges and vehicles passing from number N on (default 0)
    verdict                             ok, edges checked, violations
    lifts                               records that allowed the barrier openings of each lane, in order; null for none
    wait_open {lane, count, timeout_ms} answers once the lane had `count` barrier openings since start
    freeze {lane}                       receive, and execute nothing; with a lane, from the next write that opens it on
    thaw {"lose": false, "closed": true}  execute what has arrived, or with "lose" forget it; with "closed" false
                                        forget what closed connections brought
    wait_held {count, timeout_ms}       answers once a frozen board holds `count` writes that open a barrier
    lose {lane, count, executed}        do not answer the next `count` writes that open the lane; with "executed" they
                                        open it all the same
    mute {"apply": false} / unmute      accept requests and never answer; with "apply" true writes still take effect
    refuse {"code": 6} / accept         answer writes with a Modbus exception; nothing switches
    down / up                           stop listening and cut every connection / listen again on the same port
    pass {lane}                         the vehicle has passed: the barrier falls

With `--journal` the board keeps in a file which decisions its edges used, and its violations, so that killing and
restarting it does not make it forget. Without it a restarted board starts with a clean sheet.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import os
import signal
import sys
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

from pymodbus.constants import ExcCodes
from pymodbus.server import ModbusTcpServer
from pymodbus.server.requesthandler import ServerRequestHandler
from pymodbus.simulator import DataType, SimData, SimDevice

from hardware.emulators.barrier import Barrier
from hardware.emulators.committed import CommittedRule, Ruling, Signal
from hardware.emulators.control import WAIT_MS_DEFAULT, Capture, Command, ControlServer, parse_address
from hardware.emulators.program import argument, say_ready

COIL_COUNT = 128
"""Coils and inputs of the board: 32 lanes of three outputs fit. Real boards have 4 to 32; larger plazas chain them."""

CONNECTIONS_MAX = 8
"""Modbus connections at a time. Boards of this kind have four to eight sockets; one gateway needs one."""

EVENTS_MAX = 20_000
"""Edges kept for `events`: about four thousand passages. Older ones are dropped and counted."""

VIOLATIONS_MAX = 1_000
"""Violations kept in full for `verdict`; the count goes on beyond it."""

FRAME_HEAD = 6
"""Bytes of a request up to and with its length."""

FRAME_BYTES_MIN, FRAME_BYTES_MAX = 8, 260
"""Shortest and longest request on the wire (Modbus messaging on TCP/IP, section 4.1)."""

REQUESTS_MAX = 1_000
"""Requests a frozen board holds. A real one has room for a few kilobytes; one that brings more is cut."""

JOURNAL_BYTES_MAX = 64 * 1024 * 1024
"""Largest journal read at start: hundreds of thousands of edges. A larger file is not ours."""

OPENING_MS = 600
CLOSING_MS = 900
HOLD_MS = 20_000
LEAVING_MS = 0
"""Default arm times in milliseconds: a fast toll barrier, and a vehicle that was admitted but does not move."""

READ_COILS, READ_INPUTS, WRITE_COIL, WRITE_COILS = 1, 2, 5, 15
"""Modbus function codes the board knows (Modbus application protocol V1.1b3 §6)."""

# The library reports every refused write and every unknown function as an error with a frame dump; the bench
# provokes these on purpose, and what it wants to know is in `events` and in the capture.
logging.getLogger("pymodbus").setLevel(logging.CRITICAL)


OnOpening = Callable[[str, Command, float], None]


@dataclass(frozen=True, slots=True)
class LaneWiring:
    """Wiring of a lane: its coils and inputs. Addresses count from 0, as on the wire."""

    barrier: int
    green: int
    red: int
    opened_input: int
    closed_input: int


@dataclass(frozen=True, slots=True)
class Config:
    """Settings one board is started with. Port 0 lets the system choose."""

    listen: tuple[str, int]
    control: tuple[str, int]
    watch_database: Path
    lanes: Mapping[str, LaneWiring]
    unit: int = 1
    opening_ms: int = OPENING_MS
    closing_ms: int = CLOSING_MS
    hold_ms: int = HOLD_MS
    leaving_ms: int = LEAVING_MS
    capture: Path | None = None
    journal: Path | None = None


def parse_lanes(text: str) -> dict[str, LaneWiring]:
    """Wiring from JSON: `{"lane-1": {"barrier": 0, "green": 1, "red": 2}, ...}`.

    `opened_input` and `closed_input` may be given; by default lane number i (from 0, in the order written) has
    inputs 2i and 2i+1. Raises ValueError naming lane and key.
    """
    given = json.loads(text)
    if not isinstance(given, dict) or not given:
        raise ValueError('lanes is a JSON object such as {"lane-1": {"barrier": 0, "green": 1, "red": 2}}')
    lanes: dict[str, LaneWiring] = {}
    coils: dict[int, str] = {}
    inputs: dict[int, str] = {}
    for number, (lane, wires) in enumerate(given.items()):
        addresses = {"opened_input": 2 * number, "closed_input": 2 * number + 1} | dict(wires)
        if set(addresses) != {"barrier", "green", "red", "opened_input", "closed_input"}:
            raise ValueError(f"lane {lane}: keys are barrier, green, red, and optionally opened_input, closed_input")
        for key, address in addresses.items():
            if type(address) is not int or not 0 <= address < COIL_COUNT:
                raise ValueError(f"lane {lane}: {key} {address!r} is not an address from 0 to {COIL_COUNT - 1}")
            taken = inputs if key.endswith("_input") else coils
            if address in taken:
                raise ValueError(f"lane {lane}: {key} {address} is already {taken[address]}")
            taken[address] = f"{key} of {lane}"
        lanes[lane] = LaneWiring(**addresses)
    return lanes


class Journal:
    """Journal that survives a kill of the board: one JSON line per judged edge. No path, no journal."""

    def __init__(self, path: Path | None) -> None:
        self._path = path

    def load(self) -> list[dict[str, Any]]:
        """Every entry of earlier runs. Half a last line, left by a kill, is cut off. Raises ValueError otherwise."""
        if self._path is None or not self._path.exists():
            return []
        if self._path.stat().st_size > JOURNAL_BYTES_MAX:
            raise ValueError(f"journal {self._path} is larger than {JOURNAL_BYTES_MAX} bytes: not a journal of ours")
        text = self._path.read_bytes()
        complete = text[: text.rfind(b"\n") + 1]
        if complete != text:
            os.truncate(self._path, len(complete))  # else the next entry would be glued to the half line
        try:
            return [json.loads(line) for line in complete.splitlines()]
        except ValueError as error:
            raise ValueError(f"journal {self._path}: {error}") from error

    def write(self, ruling: Ruling, at: str) -> None:
        """Append one ruling; the line is with the operating system when this returns."""
        if self._path is None:
            return
        entry = {
            "at": at,
            "lane": ruling.lane,
            "signal": ruling.signal.value,
            "record_no": None if ruling.opening is None else ruling.opening.record_no,
            "reason": ruling.reason,
        }
        with self._path.open("ab") as file:
            file.write(json.dumps(entry, ensure_ascii=False).encode() + b"\n")


class RelayBoard:
    """Coils, barriers and the check, without any socket. `now` and wall time are given by the caller."""

    def __init__(self, config: Config, on_opening: Callable[[str, Command], None]) -> None:
        self._on_opening = on_opening
        self.coils = [False] * COIL_COUNT
        self.lanes = dict(config.lanes)
        self.barriers = {
            lane: Barrier(
                opening_s=config.opening_ms / 1000,
                closing_s=config.closing_ms / 1000,
                hold_s=config.hold_ms / 1000,
                leaving_s=config.leaving_ms / 1000,
            )
            for lane in config.lanes
        }
        self.openings = dict.fromkeys(config.lanes, 0)
        self.last_opening: dict[str, Command] = {}
        self.lifts: dict[str, deque[int | None]] = {lane: deque(maxlen=EVENTS_MAX) for lane in config.lanes}
        self.events: deque[Command] = deque(maxlen=EVENTS_MAX)
        self.event_count = 0
        self.edges_checked = 0
        self.violation_count = 0
        self.violations: list[Command] = []
        self._meaning = {
            address: (lane, output)
            for lane, wiring in config.lanes.items()
            for output, address in (("barrier", wiring.barrier), ("green", wiring.green), ("red", wiring.red))
        }
        self._rule = CommittedRule(config.watch_database)
        self._journal = Journal(config.journal)
        self._resume()

    def _resume(self) -> None:
        for entry in self._journal.load():
            self.edges_checked += 1
            if entry["signal"] == Signal.BARRIER.value:
                self.lifts[entry["lane"]].append(entry["record_no"])
            if entry["record_no"] is None:
                self._record_violation({key: entry[key] for key in ("at", "lane", "signal", "reason")})
            else:
                self._rule.resume(entry["lane"], Signal(entry["signal"]), entry["record_no"])

    def _record_violation(self, violation: Command) -> None:
        self.violation_count += 1
        if len(self.violations) < VIOLATIONS_MAX:
            self.violations.append(violation)

    def behind(self, coils: Iterable[int]) -> dict[int, Ruling]:
        """Rulings now on a write that switches these coils on, for those that let somebody pass."""
        meant = {coil: self._meaning.get(coil, ("", "")) for coil in coils}
        return {
            coil: self._rule.behind(lane, Signal(output))
            for coil, (lane, output) in meant.items()
            if output in {Signal.BARRIER.value, Signal.GREEN.value}  # red, or a coil no lane uses: lets nobody pass
        }

    def lane_opened_by(self, coils: Iterable[int]) -> str | None:
        """The lane whose barrier one of these coils opens."""
        meant = (self._meaning.get(coil, ("", "")) for coil in coils)
        return next((lane for lane, output in meant if output == Signal.BARRIER.value), None)

    def write(
        self, address: int, values: Sequence[bool], behind: Mapping[int, Ruling], now: float, wall: datetime
    ) -> list[Ruling]:
        """Switch coils `address`, `address + 1`, ...; return the rulings that found a violation.

        `behind` has the rulings made when the write arrived. Every rising edge of a barrier or green coil is judged
        before any coil of the same write switches.
        """
        at = wall.isoformat(timespec="microseconds")
        edges = [(address + i, bool(value)) for i, value in enumerate(values) if self.coils[address + i] != bool(value)]
        rulings = {coil: self._judge(behind.get(coil), at) for coil, on in edges if on}
        for coil, on in edges:
            self.coils[coil] = on
            self._record_edge(coil, on, rulings.get(coil), at)
            lane, output = self._meaning.get(coil, (None, None))
            if on and lane is not None and output == "barrier":
                self.barriers[lane].command(now)
                self.openings[lane] += 1
                opening = None if (ruling := rulings.get(coil)) is None else ruling.opening
                self.lifts[lane].append(None if opening is None else opening.record_no)
                self.last_opening[lane] = self.events[-1]
                self._on_opening(lane, self.events[-1])
        return [ruling for ruling in rulings.values() if ruling is not None and not ruling.allowed]

    def _judge(self, behind: Ruling | None, at: str) -> Ruling | None:
        if behind is None:
            return None
        ruling = self._rule.use(behind)
        self._journal.write(ruling, at)
        self.edges_checked += 1
        if not ruling.allowed:
            self._record_violation(
                {"at": at, "lane": ruling.lane, "signal": ruling.signal.value, "reason": ruling.reason},
            )
        return ruling

    def _record_edge(self, coil: int, on: bool, ruling: Ruling | None, at: str) -> None:
        lane, output = self._meaning.get(coil, (None, None))
        opening = None if ruling is None else ruling.opening
        self._record_event(
            {
                "kind": "coil",
                "at": at,
                "coil": coil,
                "lane": lane,
                "output": output,
                "on": on,
                "record_no": None if opening is None else opening.record_no,
                "passage_id": None if opening is None else opening.passage_id,
                "violation": None if ruling is None else ruling.reason,
            }
        )

    def _record_event(self, event: Command) -> None:
        self.events.append({"number": self.event_count} | event)
        self.event_count += 1

    def passed(self, lane: str, now: float, wall: datetime) -> bool:
        """The vehicle in `lane` has passed. False when the barrier was not open for it."""
        through = self.barriers[lane].passed(now)
        at = wall.isoformat(timespec="microseconds")
        self._record_event({"kind": "pass", "at": at, "lane": lane, "open": through})
        return through

    def inputs(self, now: float) -> list[bool]:
        """State of all discrete inputs."""
        bits = [False] * COIL_COUNT
        for lane, wiring in self.lanes.items():
            barrier = self.barriers[lane]
            bits[wiring.opened_input] = barrier.position(now) == "open"
            bits[wiring.closed_input] = barrier.at_closed_limit(now)
        return bits


@dataclass(frozen=True, slots=True)
class _Request:
    """One request as it arrived."""

    connection: _Connection
    frame: bytes
    opens: str | None
    """Lane whose barrier coil it switches on."""
    behind: Mapping[int, Ruling]
    """Rulings on its coils, made when it arrived."""
    at: float
    """Time it arrived, by the loop's clock."""


def _switched_on(frame: bytes) -> list[int]:
    """Coils a request switches on (sections 6.5 and 6.11 of the application protocol)."""
    function, address = frame[7], int.from_bytes(frame[8:10], "big")
    if function == WRITE_COIL:
        return [address] if frame[10:11] == b"\xff" else []
    if function == WRITE_COILS:
        count = int.from_bytes(frame[10:12], "big")
        bits = int.from_bytes(frame[13:], "little")
        return [address + i for i in range(count) if bits >> i & 1]
    return []


class _Connection(ServerRequestHandler):
    """One Modbus connection: the library's handler with a tap on the raw bytes and a switch that mutes it.

    The library works on what arrives at once, and loses a second request that comes with the first; here each waits
    until the board takes it up.
    """

    def __init__(self, owner: _Listener, board: BoardServer) -> None:
        super().__init__(owner, None, None, None)  # type: ignore[no-untyped-call]
        self._board = board
        self._peer = "?"
        self._received = b""
        self.silent = False
        """True when the request that is worked on is not to be answered."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        host, port = transport.get_extra_info("peername")[:2]
        self._peer = f"{host}:{port}"
        super().connection_made(transport)
        if self._board.connection_count > CONNECTIONS_MAX:
            self.close()

    def data_received(self, data: bytes) -> None:
        self._board.capture.write("in", self._peer, data)
        self._received += data
        while len(self._received) >= FRAME_HEAD:
            size = FRAME_HEAD + int.from_bytes(self._received[4:FRAME_HEAD], "big")
            if not FRAME_BYTES_MIN <= size <= FRAME_BYTES_MAX or not self._board.has_room:
                self.close()
                return
            if len(self._received) < size:
                return
            frame, self._received = self._received[:size], self._received[size:]
            self._board.arrived(self, frame)

    async def work(self, frame: bytes) -> None:
        """Execute one request and answer it, unless its connection has closed."""
        super().data_received(frame)
        if self.last_pdu is not None:
            await self.handle_request()  # type: ignore[no-untyped-call]

    def handle_later(self) -> None:
        """Do nothing, where the library would begin at once; `work` does it."""

    def send(self, data: bytes, addr: tuple[Any, ...] | None = None) -> None:
        if self._board.muted or self.silent:
            return
        if self.transport is not None:  # cut while the request was worked on
            self._board.capture.write("out", self._peer, data)
            super().send(data, addr)


class _Listener(ModbusTcpServer):
    """The library's server, making connections of ours."""

    def __init__(self, device: SimDevice, address: tuple[str, int], board: BoardServer) -> None:
        super().__init__(device, address=address)
        self._board = board

    def callback_new_connection(self) -> _Connection:
        return _Connection(self, self._board)


class BoardServer:
    """The board on its two sockets: Modbus for the gateway, control for the bench."""

    def __init__(self, config: Config, *, on_opening: OnOpening = lambda _lane, _event, _at: None) -> None:
        """`on_opening` is told lane and event of each barrier opening, and when its order arrived (loop's time)."""
        self._config = config
        self._address = config.listen
        self.board = RelayBoard(config, lambda lane, event: on_opening(lane, event, self._arrived_at))
        self.capture = Capture(config.capture)
        self.muted = False
        self._apply_when_muted = False
        self._requests: deque[_Request] = deque()
        self._changed = asyncio.Event()
        self._arrival = asyncio.Event()
        self._frozen = False
        self._freezes_at: str | None = None
        self._behind: Mapping[int, Ruling] = {}
        """Rulings on the request that is worked on."""
        self._arrived_at = 0.0
        self._to_lose: dict[str, int] = {}
        self._lost_are_executed = False
        self._worker: asyncio.Task[None] | None = None
        self._refusal: ExcCodes | None = None
        self._listener: _Listener | None = None
        self._opened = asyncio.Condition()
        self._control = ControlServer(
            {
                "state": self._state,
                "events": self._events,
                "verdict": self._verdict,
                "lifts": self._lifts,
                "wait_open": self._wait_open,
                "freeze": self._freeze,
                "thaw": self._thaw,
                "wait_held": self._wait_held,
                "lose": self._lose,
                "mute": self._mute,
                "unmute": self._unmute,
                "refuse": self._refuse,
                "accept": self._accept,
                "down": self._down,
                "up": self._up,
                "pass": self._pass,
            }
        )

    async def start(self) -> tuple[int, int]:
        """Listen on both sockets; return the real Modbus and control ports."""
        self._worker = asyncio.create_task(self._work())
        await self._listen()
        control_port = await self._control.start(*self._config.control)
        return self._address[1], control_port

    async def close(self) -> None:
        """Cut everything and release both ports."""
        if self._worker is not None:
            self._worker.cancel()
            await asyncio.wait({self._worker})
            if not self._worker.cancelled():
                self._worker.result()  # a board that has stopped working says why
        self._hang_up()
        await self._control.close()
        self.capture.close()

    @property
    def connection_count(self) -> int:
        """Open Modbus connections."""
        return 0 if self._listener is None else len(self._listener.active_connections)

    async def _listen(self) -> None:
        listener = _Listener(self._device(), self._address, self)
        if not await listener.listen():
            raise OSError(f"cannot listen on {self._address[0]}:{self._address[1]}; is the port taken?")
        self._listener = listener
        # The library keeps the asyncio server where connections keep their transport.
        sockets = cast(asyncio.Server, listener.transport).sockets
        self._address = (self._address[0], sockets[0].getsockname()[1])

    def _hang_up(self) -> None:
        if self._listener is not None:
            self._listener.close()
            self._listener = None

    def _device(self) -> SimDevice:
        bits = SimData(0, count=COIL_COUNT, values=False, datatype=DataType.BITS)
        # The library wants four blocks; the board has no registers, one unused stands for each kind.
        register = SimData(0, values=0, datatype=DataType.REGISTERS)
        return SimDevice(self._config.unit, ([bits], [bits], [register], [register]), action=self._request)

    # --- one request after the other ------------------------------------------------------------------------------

    @property
    def has_room(self) -> bool:
        """True when one more request can be held."""
        return len(self._requests) < REQUESTS_MAX

    def arrived(self, connection: _Connection, frame: bytes) -> None:
        """Take a whole request that has come in. Its rulings are made here and now, whenever it is executed."""
        at, coils = asyncio.get_running_loop().time(), _switched_on(frame)
        opens = self.board.lane_opened_by(coils)
        self._requests.append(_Request(connection, frame, opens, self.board.behind(coils), at))
        if opens is not None and opens == self._freezes_at:
            self._frozen, self._freezes_at = True, None
        self._changed.set()
        self._arrival.set()

    async def _work(self) -> None:
        while True:
            while not self._requests or self._frozen:
                self._changed.clear()
                await self._changed.wait()
            request = self._requests.popleft()
            lost = request.opens is not None and self._to_lose.get(request.opens, 0) > 0
            if lost and request.opens is not None:
                self._to_lose[request.opens] -= 1
                if not self._lost_are_executed:
                    continue
            self._behind, self._arrived_at = request.behind, request.at
            request.connection.silent = lost
            await request.connection.work(request.frame)

    async def _request(
        self,
        function: int,
        _start: int,
        address: int,
        _count: int,
        registers: list[int],
        values: list[int] | list[bool] | None,
    ) -> ExcCodes | None:
        """Called by the library for every request with addresses the board has, before it touches `registers` and
        before it answers.

        `registers` holds 16 bits each of the coils or inputs; ours are the truth and overwrite it. A written coil is
        read back by the library with function 5 and no values.
        """
        now = asyncio.get_running_loop().time()
        if function == READ_INPUTS:
            _pack(self.board.inputs(now), registers)
        elif function in {READ_COILS, WRITE_COIL, WRITE_COILS}:
            if values is not None:
                refused = await self._write(address, [bool(value) for value in values], now)
                if refused is not None:
                    return refused
            _pack(self.board.coils, registers)
        else:
            return ExcCodes.ILLEGAL_FUNCTION
        return None

    async def _write(self, address: int, values: list[bool], now: float) -> ExcCodes | None:
        if self.muted and not self._apply_when_muted:
            return ExcCodes.DEVICE_BUSY  # any code: nobody will hear it, and the coil does not switch
        if self._refusal is not None:
            return self._refusal
        # Blocks the loop for one short query on purpose: between the check and the switching nothing may happen.
        for ruling in self.board.write(address, values, self._behind, now, datetime.now(UTC)):
            sys.stderr.write(f"violation: {ruling.lane} {ruling.signal.value} on: {ruling.reason}\n")
            sys.stderr.flush()
        async with self._opened:
            self._opened.notify_all()
        return None

    # --- control commands ---------------------------------------------------------------------------------------

    async def _state(self, _command: Command) -> Command:
        now = asyncio.get_running_loop().time()
        board = self.board
        return {
            "coils": [address for address, on in enumerate(board.coils) if on],
            "lanes": {
                lane: {
                    "position": board.barriers[lane].position(now),
                    "openings": board.openings[lane],
                    "barrier": board.coils[wiring.barrier],
                    "green": board.coils[wiring.green],
                    "red": board.coils[wiring.red],
                }
                for lane, wiring in board.lanes.items()
            },
            "listening": self._listener is not None,
            "connections": self.connection_count,
            "muted": self.muted,
            "frozen": self._frozen,
            "refusing": None if self._refusal is None else self._refusal.value,
        }

    async def _events(self, command: Command) -> Command:
        since = _integer(command, "since", 0, self.board.event_count, default=0)
        kept = [event for event in self.board.events if event["number"] >= since]
        return {
            "events": kept,
            "next": self.board.event_count,
            "dropped": self.board.event_count - len(self.board.events),
        }

    async def _verdict(self, _command: Command) -> Command:
        return {
            "ok": self.board.violation_count == 0,
            "edges_checked": self.board.edges_checked,
            "violation_count": self.board.violation_count,
            "violations": self.board.violations,
        }

    async def _lifts(self, _command: Command) -> Command:
        return {"lifts": {lane: list(records) for lane, records in self.board.lifts.items()}}

    async def _freeze(self, command: Command) -> Command:
        self._freezes_at = self._lane(command) if "lane" in command else None
        self._frozen = self._freezes_at is None
        return {"frozen": self._frozen}

    async def _thaw(self, command: Command) -> Command:
        lose, closed = _flag(command, "lose", default=False), _flag(command, "closed", default=True)
        kept = [r for r in self._requests if not lose and (closed or r.connection.is_active())]
        forgotten = len(self._requests) - len(kept)
        self._requests = deque(kept)
        self._frozen = False
        self._changed.set()
        return {"frozen": False, "executing": len(kept), "forgotten": forgotten}

    async def _wait_held(self, command: Command) -> Command:
        count = _integer(command, "count", 1, REQUESTS_MAX, default=1)
        timeout_ms = _integer(command, "timeout_ms", 0, WAIT_MS_DEFAULT, default=WAIT_MS_DEFAULT)
        held = 0
        async with asyncio.timeout(timeout_ms / 1000):
            while (held := sum(r.opens is not None for r in self._requests)) < count:
                self._arrival.clear()
                await self._arrival.wait()
        return {"held": held}

    async def _lose(self, command: Command) -> Command:
        lane = self._lane(command)
        self._to_lose[lane] = _integer(command, "count", 0, REQUESTS_MAX, default=1)
        self._lost_are_executed = _flag(command, "executed", default=False)
        return {"lane": lane, "count": self._to_lose[lane], "executed": self._lost_are_executed}

    async def _wait_open(self, command: Command) -> Command:
        lane = self._lane(command)
        count = _integer(command, "count", 1, None, default=1)
        timeout_ms = _integer(command, "timeout_ms", 0, WAIT_MS_DEFAULT, default=WAIT_MS_DEFAULT)
        board = self.board
        try:
            async with asyncio.timeout(timeout_ms / 1000), self._opened:
                await self._opened.wait_for(lambda: board.openings[lane] >= count)
        except TimeoutError as error:
            seen = board.openings[lane]
            raise TimeoutError(f"{lane}: {seen} of {count} openings within {timeout_ms} ms") from error
        return {"lane": lane, "openings": board.openings[lane], "last": board.last_opening[lane]}

    async def _mute(self, command: Command) -> Command:
        apply = _flag(command, "apply", default=False)
        self.muted = True
        self._apply_when_muted = apply
        return {"muted": True, "apply": apply}

    async def _unmute(self, _command: Command) -> Command:
        self.muted = False
        return {"muted": False}

    async def _refuse(self, command: Command) -> Command:
        self._refusal = ExcCodes(_integer(command, "code", 1, 255, default=ExcCodes.DEVICE_BUSY.value))
        return {"refusing": self._refusal.value}

    async def _accept(self, _command: Command) -> Command:
        self._refusal = None
        return {"refusing": None}

    async def _down(self, _command: Command) -> Command:
        self._hang_up()
        return {"listening": False}

    async def _up(self, _command: Command) -> Command:
        if self._listener is None:
            await self._listen()
        return {"listening": True, "port": self._address[1]}

    async def _pass(self, command: Command) -> Command:
        lane = self._lane(command)
        open_for_it = self.board.passed(lane, asyncio.get_running_loop().time(), datetime.now(UTC))
        return {"lane": lane, "open": open_for_it}

    def _lane(self, command: Command) -> str:
        lane = command.get("lane")
        if not isinstance(lane, str) or lane not in self.board.lanes:
            raise ValueError(f"lane {lane!r} is not one of {', '.join(self.board.lanes)}")
        return lane


def _pack(bits: list[bool], registers: list[int]) -> None:
    """Write `bits` into 16-bit registers, lowest address in the lowest bit. Longer registers keep their tail."""
    for index in range(len(bits) // 16):
        registers[index] = sum(1 << i for i, bit in enumerate(bits[16 * index : 16 * index + 16]) if bit)


def _flag(command: Command, key: str, *, default: bool) -> bool:
    value = command.get(key, default)
    if not isinstance(value, bool):
        raise TypeError(f"{key} is true or false")
    return value


def _integer(command: Command, key: str, lowest: int, highest: int | None, *, default: int) -> int:
    value = command.get(key, default)
    if type(value) is not int or value < lowest or (highest is not None and value > highest):
        raise ValueError(f"{key} {value!r} is not an integer from {lowest} to {'any' if highest is None else highest}")
    return value


async def serve(config: Config) -> int:
    """Run one board until SIGTERM or SIGINT; return the exit status: 0, or 1 when the rule was broken."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    server = BoardServer(config)
    try:
        port, control_port = await server.start()
        say_ready(f"{config.listen[0]}:{port}", (config.control[0], control_port))
        await stop.wait()
    finally:
        await server.close()
    return 1 if server.board.violation_count else 0


def main(argv: Sequence[str] | None = None) -> int:
    """Command line of the board."""
    parser = argparse.ArgumentParser(prog="relay_board", description="Emulated Modbus TCP relay board of a plaza.")
    parser.add_argument("--listen", type=argument(parse_address), required=True, metavar="HOST:PORT")
    parser.add_argument("--control", type=argument(parse_address), required=True, metavar="HOST:PORT")
    parser.add_argument("--watch-database", type=Path, required=True, help="SQLite file with the table decision")
    parser.add_argument("--lanes", type=argument(parse_lanes), required=True, help="wiring as JSON")
    parser.add_argument("--unit", type=int, default=1, help="Modbus unit id")
    parser.add_argument("--opening-ms", type=int, default=OPENING_MS)
    parser.add_argument("--closing-ms", type=int, default=CLOSING_MS)
    parser.add_argument("--hold-ms", type=int, default=HOLD_MS, help="an open barrier nobody passes falls after this")
    parser.add_argument("--leaving-ms", type=int, default=LEAVING_MS, help="until a rising arm has left its limit")
    parser.add_argument("--capture", type=Path, help="append raw bytes as JSON lines")
    parser.add_argument("--journal", type=Path, help="remember used decisions and violations over a restart")
    given = parser.parse_args(argv)
    try:
        return asyncio.run(serve(Config(**vars(given))))
    except (OSError, ValueError) as error:  # a port, a file or an address that cannot be used
        sys.stderr.write(f"relay_board: {error}\n")
        return 3


if __name__ == "__main__":
    os.umask(0o077)  # captures and journals show who passed when
    sys.exit(main())
