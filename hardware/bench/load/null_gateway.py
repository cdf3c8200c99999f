"""Null gateway: the lane side of the same dialogue with canned replies, and one durable commit a passage.

It reads no card, checks nothing, asks no bank and keeps no books: C1 on B2, C6 on B4, and on B5 one row in SQLite with
`synchronous=FULL`, then C1 and the barrier. That is the least a lane can cost here, and what the gateway is compared
with. Run as a program with the site file as its only argument; it prints `ready` when it is about to connect.
"""

from __future__ import annotations

import asyncio
import itertools
import sqlite3
import struct
import sys
import time
import tomllib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from pathlib import Path
from typing import Any, Self

from hardware.emulators.program import run
from protocols.card.layout import STATION_HEADER
from protocols.card.station import STATION_BYTES
from protocols.rsu.dialect import Side
from protocols.rsu.messages import (
    Continue,
    Debit,
    DebitResult,
    DeviceStatus,
    Initialise,
    LaneMessage,
    ObuReport,
    SwitchAntenna,
    UserReport,
)
from protocols.rsu.registry import DIALECTS
from protocols.rsu.session import Received, Session

READ_BYTES_MAX = 16 * 1024
FARE_FEN = 1425
FILE_0019 = STATION_HEADER + bytes(STATION_BYTES - len(STATION_HEADER))
"""Entry data that every card gets."""
WRITE_COIL = struct.Struct(">HHHBBHH")
"""Modbus TCP: transaction, protocol, length, unit, function, coil, value; the answer is its echo."""
TABLE = """
create table decision (record_no integer primary key, charge_point text not null, release text not null,
  passage_id text not null, decided_at integer not null, amount integer not null, tac blob not null)
"""


class Store:
    """The one table, written by a thread of its own. Its columns are those that a relay board's check reads."""

    def __init__(self, path: Path) -> None:
        self._thread = ThreadPoolExecutor(1)
        self._connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        for statement in ("pragma journal_mode=wal", "pragma synchronous=full", TABLE):
            self._connection.execute(statement)

    async def keep(self, lane: str, result: DebitResult) -> None:
        """Make a passage durable."""
        row = (lane, result.obu_id.hex(), time.time_ns() // 1000, FARE_FEN, result.tac)
        await asyncio.get_running_loop().run_in_executor(self._thread, self._commit, row)

    def _commit(self, row: Sequence[Any]) -> None:
        self._connection.execute("insert into decision values (null, ?, 'go', ?, ?, ?, ?)", row)


class Board:
    """Connection to one relay board."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer
        self._numbers = itertools.cycle(range(1 << 16))
        self._answers: dict[int, asyncio.Future[None]] = {}

    @classmethod
    async def connect(cls, address: str) -> Self:
        """Connect to a board."""
        return cls(*await _connect(address))

    async def write(self, coil: int, *, on: bool) -> None:
        """Switch a coil and wait for the echo."""
        number = next(self._numbers)
        self._answers[number] = answer = asyncio.get_running_loop().create_future()
        self._writer.write(WRITE_COIL.pack(number, 0, 6, 1, 5, coil, 0xFF00 if on else 0))
        await answer

    async def read(self) -> None:
        """Read echoes until the connection ends."""
        while True:
            number, *_ = WRITE_COIL.unpack(await self._reader.readexactly(WRITE_COIL.size))
            self._answers.pop(number).set_result(None)


class Lane:
    """One lane: its antenna's connection, and its barrier's coil."""

    def __init__(self, point: dict[str, Any], board: Board, store: Store, factor: bytes) -> None:
        self._name, self._coil = point["name"], point["outputs"]["barrier"]
        self._address, self._gantry = point["antenna"]["address"], bytes.fromhex(point["gantry"])
        self._board, self._store, self._factor = board, store, factor
        self._session = Session(DIALECTS["pcrsu-v3"], Side.LANE)
        self._passing: set[asyncio.Task[None]] = set()

    async def serve(self) -> None:
        """Serve vehicles until the antenna hangs up."""
        reader, self._writer = await _connect(self._address)
        moment = datetime.now()  # noqa: DTZ005 - an antenna's clock is local
        self._send(Initialise(int(time.time()), moment.strftime("%Y%m%d%H%M%S"), 0x12, 10, 1, 0, 10, self._gantry))
        while data := await reader.read(READ_BYTES_MAX):
            output = self._session.receive(data, time.monotonic())
            self._writer.write(output.to_write)
            for event in output.events:
                if isinstance(event, Received):
                    self._received(event)

    def _received(self, event: Received) -> None:
        message = event.message
        if isinstance(message, DeviceStatus):
            self._send(SwitchAntenna(1))
        elif isinstance(message, ObuReport):
            self._send(Continue(message.obu_id, self._factor), event)
        elif isinstance(message, UserReport):
            moment = datetime.now().strftime("%Y%m%d%H%M%S")  # noqa: DTZ005 - as above
            self._send(Debit(message.obu_id, self._factor, FARE_FEN, moment, FILE_0019), event)
        elif isinstance(message, DebitResult):
            task = asyncio.get_running_loop().create_task(self._let_pass(event, message))
            self._passing.add(task)
            task.add_done_callback(self._passing.discard)

    async def _let_pass(self, event: Received, result: DebitResult) -> None:
        await self._store.keep(self._name, result)
        self._send(Continue(result.obu_id, self._factor), event)
        await self._board.write(self._coil, on=True)
        await self._board.write(self._coil, on=False)

    def _send(self, message: LaneMessage, answering: Received | None = None) -> None:
        self._writer.write(self._session.send(message, time.monotonic(), answering=answering).to_write)


async def _connect(address: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    host, _, port = address.rpartition(":")
    return await asyncio.open_connection(host, int(port))


async def serve(site: dict[str, Any], store: Store) -> None:
    """Serve every lane of a site until cancelled."""
    factor = bytes.fromhex(site["issuers"][0]["region"]) * 2
    boards = {board["name"]: await Board.connect(board["address"]) for board in site["relay_boards"]}
    lanes = [Lane(point, boards[point["outputs"]["board"]], store, factor) for point in site["charge_points"]]
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    await asyncio.gather(*(board.read() for board in boards.values()), *(lane.serve() for lane in lanes))


if __name__ == "__main__":
    site_file = Path(sys.argv[1])
    site = tomllib.loads(site_file.read_text())
    sys.exit(run("null_gateway", serve(site, Store(site_file.parent / site["storage"]["ledger"]))))
