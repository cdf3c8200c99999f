"""A bank's front end for the bench: real TCP, real ISO 8583, its own book.

It keeps accounts by contract reference in an SQLite file of its own, so that a run can be proved against a book the
gateway never sees, and it survives being killed. What it should do wrong is told over the control socket: stay
silent, post or answer late, cut the line, answer twice, first yes and then no, with any code, with altered fields,
answer thousands of times what nobody asked, begin a message and never end it.
Nothing in its bytes says that it is not a bank.

Rules of the book. A message is known by type, terminal, merchant, batch and STAN; the same message again gets the
first answer again, other content under the same keys gets 94. A reversal takes an original back once and is answered
00 from then on; without an original it is answered 25, and may find one later. An advice posts what already happened,
whether or not the account covers it.

Money posts when the request arrives; `latency_ms` later the answer leaves. `slow` makes that longer, and only `late`
moves the posting as well.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import hashlib
import itertools
import sqlite3
import sys
from collections import Counter, deque
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import Enum
from pathlib import Path
from typing import Any, Literal

from hardware.emulators.bank_day_file import MIDNIGHT, settlement_day, write_day_file
from hardware.emulators.control import (
    WAIT_MS_DEFAULT,
    Capture,
    Command,
    ControlServer,
    Handler,
    parse_address,
    utcnow_of_machine,
)
from hardware.emulators.flood import FLOOD_MS_MAX, PER_S_MAX, paced
from hardware.emulators.line import Line, TcpLine
from hardware.emulators.program import run, say_ready
from protocols.bank.anchors import Anchor, read_anchor, write_anchor
from protocols.bank.codec import Message, decode, encode
from protocols.bank.codings import Value
from protocols.bank.framing import FRAME_BYTES_MAX, KEEP_ALIVE, LENGTH_BYTES, Framer, frame
from protocols.bank.responses import ResponseClass, response_code
from protocols.bank.transactions import BEIJING_OFFSET_MIN, is_request, local_time, response_to
from protocols.errors import LocalProtocolError, RemoteProtocolError

CONNECTIONS_MAX = 64
"""Most gateways of a bench; more is a leak."""
ANSWERS_IN_WORK_MAX = 1024
"""Requests of one connection being worked on; above it the host stops reading, as a real one would."""
READ_BYTES_MAX = 64 * 1024
REQUEST_LOG_MAX = 100_000
"""Requests remembered for the `requests` command; the oldest leave first."""
DUPLICATE_GAP_S = 0.02
"""Time between an answer and its second copy: separate segments, same moment."""
FIRST_BATCH = "000001"
ANCHOR_FIELD = 62
"""Field in which the gateway may say how far its ledger has come."""
UNASKED_STANS = range(900_000, 900_256)
"""STANs of unrequested answers: a terminal of a bench never comes so far, so that none of them is a lie about
money."""
TRICKLED_PER_S = 10
"""Bytes of a message that never ends: each comes before the other side could take the line for quiet."""
CONTRACT_FIELD = 48
"""Field in which this host's agreements put the contract reference."""


class Mode(Enum):
    """Mode of answering a message instead of the rules of the book."""

    APPROVE = "approve"
    """Approve whatever the balance says."""
    DECLINE = "decline"
    SILENT_BUT_POSTED = "silent_but_posted"
    SILENT_NOT_POSTED = "silent_not_posted"
    LATE = "late"
    """Post and answer after `ms`, or at the command `deliver`: a reversal in between finds nothing."""
    SLOW = "slow"
    """Post at once and answer after `ms`, or at the command `deliver`: a reversal in between finds its original."""
    CUT = "cut"
    """Close the connection, nothing posted."""
    CUT_BEFORE_ANSWER = "cut_before_answer"
    """Post, then close the connection."""
    POSTED_BUT_CODE = "posted_but_code"
    """Do as the book says and answer `code` all the same, as a switch does that has lost the issuer's answer. An empty
    code: the answer has none."""
    APPROVE_THEN_DECLINE = "approve_then_decline"
    """Answer yes, and in the same moment, or after `ms`, no with `code`. `posted` tells which of them the book says."""
    DECLINE_THEN_APPROVE = "decline_then_approve"
    """Answer no, and then yes: the opposite of the above."""
    ALTERED = "altered"
    """Do as the book says, and answer `value` in `field`, whatever was asked."""
    DUPLICATE_ANSWER = "duplicate_answer"
    NO_F41 = "no_f41"
    """Answer without the terminal; after `ms`, where that is given."""


@dataclass(slots=True)
class Behaviour:
    """One switched fault. `remaining` None lasts until changed; `mti` None fits every type."""

    mode: Mode
    mti: str | None
    contract: str | None = None
    code: str = "05"
    delay_ms: int | None = None
    """Delay of an answer that is late, slow or nameless; None waits for the command `deliver`, so that a scenario
    need not race a clock."""
    remaining: int | None = None
    posted: bool = True
    """True when, of two opposite answers, the one that says yes is true."""
    field: int = 4
    value: str = ""

    def fits(self, mti: str, contract: str | None) -> bool:
        """True when it applies to this message."""
        same_type = self.mti is None or self.mti[:3] == mti[:3]  # a repeat, 0221, counts as its 0220
        return same_type and (self.contract is None or self.contract == contract)


@dataclass(frozen=True, slots=True, kw_only=True)
class BankHostConfig:
    """Settings of one host."""

    listen: tuple[str, int] = ("127.0.0.1", 0)
    control: tuple[str, int] = ("127.0.0.1", 0)
    book: Path
    latency_ms: int = 180
    capture: Path | None = None
    cut_over: str = MIDNIGHT
    """Local time, HH:MM, from which F15 and the day file count the next day."""


class Book:
    """Accounts, postings and first answers, in one SQLite file."""

    def __init__(self, path: Path, utcnow: Callable[[], datetime] = utcnow_of_machine) -> None:
        """`path` may be `:memory:`. `utcnow` dates postings."""
        self._utcnow = utcnow
        self._database = sqlite3.connect(path, isolation_level=None)
        self._database.row_factory = sqlite3.Row
        self._database.executescript(_SCHEMA)

    def close(self) -> None:
        """Close the file."""
        self._database.close()

    def set_account(self, contract: str, balance_fen: int) -> None:
        """Open an account, or set what is left on it."""
        self._database.execute(
            "INSERT INTO account (contract, balance_fen) VALUES (?, ?)"
            " ON CONFLICT (contract) DO UPDATE SET balance_fen = excluded.balance_fen",
            (contract, balance_fen),
        )

    def balance(self, contract: str) -> int | None:
        """Balance of an account in fen, None when there is none."""
        row = self._database.execute("SELECT balance_fen FROM account WHERE contract = ?", (contract,)).fetchone()
        return None if row is None else int(row["balance_fen"])

    def first_answer(self, keys: Keys) -> tuple[bytes, dict[int, str]] | None:
        """Content hash and answer fields of a message seen before."""
        row = self._database.execute(f"SELECT * FROM message WHERE {_BY_KEYS}", keys.row()).fetchone()  # noqa: S608 - constant text
        if row is None:
            return None
        fields = self._database.execute("SELECT number, value FROM answer WHERE message = ?", (row["id"],))
        return row["content"], {int(item["number"]): str(item["value"]) for item in fields}

    def record(self, keys: Keys, content: bytes, answer: Mapping[int, str], posting: Posting | None) -> None:
        """Store a message, its answer and what it moved, in one database transaction."""
        self._database.execute("BEGIN IMMEDIATE")
        try:
            message = self._database.execute(
                "INSERT INTO message (kind, terminal, merchant, batch, stan, content) VALUES (?, ?, ?, ?, ?, ?)",
                (*keys.row(), content),
            ).lastrowid
            self._database.executemany(
                "INSERT INTO answer (message, number, value) VALUES (?, ?, ?)",
                [(message, number, value) for number, value in answer.items()],
            )
            if posting is not None:
                self._post(keys, posting, answer.get(37, ""))
        except BaseException:
            self._database.execute("ROLLBACK")
            raise
        self._database.execute("COMMIT")

    def sale(self, keys: Keys) -> sqlite3.Row | None:
        """The posted sale with these keys."""
        return self._database.execute(  # type: ignore[no-any-return]
            f"SELECT * FROM posting WHERE {_BY_KEYS}",  # noqa: S608 - constant text
            keys.row(),
        ).fetchone()

    def next_reference(self) -> int:
        """A number no answer of this book has carried."""
        rows = self._database.execute("UPDATE counter SET value = value + 1 RETURNING value").fetchall()
        return int(rows[0]["value"])

    def accounts(self) -> dict[str, dict[str, Any]]:
        """Per contract: what is left, and its postings in order."""
        accounts: dict[str, dict[str, Any]] = {
            row["contract"]: {"balance_fen": row["balance_fen"], "postings": []}
            for row in self._database.execute("SELECT * FROM account ORDER BY contract")
        }
        for row in self._database.execute("SELECT * FROM posting ORDER BY id"):
            accounts[row["contract"]]["postings"].append({key: row[key] for key in row.keys() if key != "contract"})  # noqa: SIM118 - a Row iterates values
        return accounts

    def keep_anchor(self, anchor: Anchor) -> None:
        """Remember the ledger position that the gateway told."""
        self._database.execute("INSERT INTO anchor (content) VALUES (?)", (write_anchor(anchor),))

    def anchor(self) -> Anchor | None:
        """Newest ledger position told, None when there was none."""
        row = self._database.execute("SELECT content FROM anchor ORDER BY id DESC LIMIT 1").fetchone()
        return None if row is None else read_anchor(row["content"])

    def _post(self, keys: Keys, posting: Posting, reference: str) -> None:
        self._database.execute(
            "INSERT INTO posting (kind, terminal, merchant, batch, stan, contract, amount_fen, at, reference)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (*keys.row(), posting.contract, posting.amount_fen, _text(self._utcnow()), reference),
        )
        self._database.execute(
            "UPDATE account SET balance_fen = balance_fen - ? WHERE contract = ?",
            (posting.amount_fen, posting.contract),
        )


_BY_KEYS = "kind = ? AND terminal = ? AND merchant = ? AND batch = ? AND stan = ?"
_SCHEMA = """
PRAGMA journal_mode = WAL;
PRAGMA synchronous = FULL;
PRAGMA foreign_keys = ON;
PRAGMA busy_timeout = 2000;
CREATE TABLE IF NOT EXISTS account (contract TEXT PRIMARY KEY, balance_fen INTEGER NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS message (
    id INTEGER PRIMARY KEY, kind TEXT NOT NULL, terminal TEXT NOT NULL, merchant TEXT NOT NULL, batch TEXT NOT NULL,
    stan TEXT NOT NULL, content BLOB NOT NULL, UNIQUE (kind, terminal, merchant, batch, stan)) STRICT;
CREATE TABLE IF NOT EXISTS answer (
    message INTEGER NOT NULL REFERENCES message (id), number INTEGER NOT NULL, value TEXT NOT NULL,
    PRIMARY KEY (message, number)) STRICT;
CREATE TABLE IF NOT EXISTS posting (
    id INTEGER PRIMARY KEY, kind TEXT NOT NULL, terminal TEXT NOT NULL, merchant TEXT NOT NULL, batch TEXT NOT NULL,
    stan TEXT NOT NULL, contract TEXT NOT NULL REFERENCES account (contract), amount_fen INTEGER NOT NULL,
    at TEXT NOT NULL, reference TEXT NOT NULL, UNIQUE (kind, terminal, merchant, batch, stan)) STRICT;
CREATE TABLE IF NOT EXISTS anchor (id INTEGER PRIMARY KEY, content BLOB NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS counter (value INTEGER NOT NULL) STRICT;
INSERT INTO counter (value) SELECT 0 WHERE NOT EXISTS (SELECT 1 FROM counter);
"""

Kind = Literal["sale", "reversal", "advice", "refund"]
_KINDS: Mapping[str, Kind] = {"020": "sale", "040": "reversal", "022": "advice"}
"""Kind of a message by the first three digits of the MTI: the fourth only tells repeats."""

REFUND_PROCESSING = "200000"
"""F3 that makes an 0220 a refund."""


def _kind_of(request: Message) -> Kind | None:
    kind = _KINDS.get(request.mti[:3])
    return "refund" if kind == "advice" and request.text(3) == REFUND_PROCESSING else kind


@dataclass(frozen=True, slots=True)
class Keys:
    """Keys that name a message at this host."""

    kind: Kind
    terminal: str
    merchant: str
    batch: str
    stan: str

    def row(self) -> tuple[str, str, str, str, str]:
        """Values in the order of the tables."""
        return self.kind, self.terminal, self.merchant, self.batch, self.stan


@dataclass(frozen=True, slots=True)
class Posting:
    """Money taken from an account; negative gives it back."""

    contract: str
    amount_fen: int


@dataclass(eq=False, slots=True)
class _Connection:
    """Connection of one gateway."""

    line: Line
    slots: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(ANSWERS_IN_WORK_MAX))
    whole: asyncio.Event = field(default_factory=asyncio.Event)
    """Set while no message has been begun, so that others can be sent."""
    heard: Message | None = None
    """The newest request."""


def _say(text: str) -> None:
    sys.stderr.write(f"bank-host: {text}\n")


class BankHost:
    """The host: listener, control socket, book and switched faults."""

    def __init__(
        self,
        config: BankHostConfig,
        *,
        utcnow: Callable[[], datetime] = utcnow_of_machine,
        choose: Callable[[Message], Behaviour | None] = lambda _: None,
        on_request: Callable[[Message], None] = lambda _: None,
        on_posting: Callable[[Keys, Posting], None] = lambda _keys, _posting: None,
        say: Callable[[str], None] = _say,
    ) -> None:
        """`choose` is asked about messages that no switched fault fits; the others are told what happens. `say` gets
        what the host has to complain about."""
        self._config = config
        self._utcnow = utcnow
        self._choose = choose
        self._on_request = on_request
        self._on_posting = on_posting
        self._say = say
        self._book = Book(config.book, utcnow)
        self._capture = Capture(config.capture)
        self._control = ControlServer(self._handlers())
        self._server: asyncio.Server | None = None
        self._port = config.listen[1]
        self._control_port = 0
        self._connections: dict[_Connection, None] = {}
        self._tasks: dict[asyncio.Task[None], None] = {}
        self._behaviours: list[Behaviour] = []
        self._requests: deque[dict[str, Any]] = deque(maxlen=REQUEST_LOG_MAX)
        self._seen: Counter[str] = Counter()
        self._arrival = asyncio.Condition()
        self._flowing = asyncio.Event()
        self._flowing.set()
        self._delivery = asyncio.Event()

    @property
    def address(self) -> tuple[str, int]:
        """Address the gateway connects to, port filled in."""
        return self._config.listen[0], self._port

    @property
    def control_address(self) -> tuple[str, int]:
        """Address commands go to."""
        return self._config.control[0], self._control_port

    @property
    def book(self) -> Book:
        """Accounts and postings."""
        return self._book

    async def start(self) -> None:
        """Open both sockets."""
        self._control_port = await self._control.start(*self._config.control)
        await self._listen()

    async def close(self) -> None:
        """Cut everything and close the book. What is posted stays posted."""
        await self._control.close()
        await self._unlisten()
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._book.close()
        self._capture.close()

    # --- the line -----------------------------------------------------------------------------------------------

    async def _listen(self) -> None:
        if self._server is None:
            self._server = await asyncio.start_server(self._accept, self._config.listen[0], self._port)
            self._port = int(self._server.sockets[0].getsockname()[1])

    async def _unlisten(self) -> None:
        if self._server is not None:
            self._server.close()
            for connection in list(self._connections):
                self._cut(connection)
            await self._server.wait_closed()
            self._server = None

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.attach(TcpLine(reader, writer))

    def attach(self, line: Line) -> None:
        """A gateway has connected."""
        if len(self._connections) >= CONNECTIONS_MAX:
            line.close()
            return
        connection = _Connection(line)
        connection.whole.set()
        self._connections[connection] = None
        self._spawn(self._serve(connection))

    async def _serve(self, connection: _Connection) -> None:
        framer = Framer()
        try:
            while data := await connection.line.read(READ_BYTES_MAX):
                self._capture.write("in", connection.line.peer, data)
                framer.feed(data)
                while (body := framer.next_frame()) is not None:
                    await self._frame(connection, body)
        except RemoteProtocolError as error:
            # A bank does not explain itself to a terminal that talks nonsense: it hangs up.
            self._say(f"{connection.line.peer}: {error}")
        except ConnectionError:
            pass
        finally:
            self._cut(connection)

    async def _frame(self, connection: _Connection, body: bytes) -> None:
        if not body:
            await self._send(connection, KEEP_ALIVE)
            return
        request = decode(body)
        if not is_request(request.mti):
            raise RemoteProtocolError(f"MTI {request.mti} is not a request", field="MTI")
        connection.heard = request
        await self._log(request)
        await connection.slots.acquire()
        self._spawn(self._handle(connection, request))

    async def _log(self, request: Message) -> None:
        self._on_request(request)
        amount = request.text(4)
        self._requests.append(
            {
                "mti": request.mti,
                "stan": request.text(11),
                "terminal": request.text(41),
                "batch": (request.text(60) or "")[2:8],
                "amount_fen": None if amount is None else int(amount),
                "contract": request.text(CONTRACT_FIELD),
                "at": _text(self._utcnow()),
            }
        )
        self._keep_anchor(request)
        self._seen[request.mti] += 1
        async with self._arrival:
            self._arrival.notify_all()

    def _keep_anchor(self, request: Message) -> None:
        """Keep the ledger position that a message tells; the newest stays, also over a restart of this host."""
        content = request.fields.get(ANCHOR_FIELD)
        anchor = read_anchor(content) if isinstance(content, bytes) else None
        if anchor is not None:
            self._book.keep_anchor(anchor)

    async def _handle(self, connection: _Connection, request: Message) -> None:
        try:
            behaviour = self._behaviour_for(request)
            if behaviour is not None and behaviour.mode is Mode.LATE:
                await self._delay(behaviour.delay_ms)
            mode = None if behaviour is None else behaviour.mode
            if mode is Mode.CUT:
                self._cut(connection)
            elif mode is not Mode.SILENT_NOT_POSTED:
                await self._answer(connection, request, behaviour)
        except ConnectionError:
            pass  # the gateway left before its answer; what was posted stays
        finally:
            connection.slots.release()

    async def _delay(self, delay_ms: int | None) -> None:
        if delay_ms is None:
            await self._delivery.wait()
        else:
            await asyncio.sleep(delay_ms / 1000)

    async def _answer(self, connection: _Connection, request: Message, behaviour: Behaviour | None) -> None:
        fields = self._decide(request, behaviour)
        mode = None if behaviour is None else behaviour.mode
        if mode is Mode.SILENT_BUT_POSTED:
            return
        if mode is Mode.CUT_BEFORE_ANSWER:
            self._cut(connection)
            return
        if mode is Mode.NO_F41:
            fields.pop(41, None)
        first, second = _spoken(fields, behaviour)
        data = self._encoded(request, first)
        timed = behaviour is not None and behaviour.delay_ms is not None and mode in _TIMED
        if behaviour is not None and (mode is Mode.SLOW or timed):
            await self._delay(behaviour.delay_ms)
        elif mode is not Mode.LATE:
            await asyncio.sleep(self._config.latency_ms / 1000)
        await self._flowing.wait()
        if second is not None and (behaviour is None or behaviour.delay_ms is None):
            data, second = data + self._encoded(request, second), None
        await self._send(connection, data)
        if mode is Mode.DUPLICATE_ANSWER:
            await asyncio.sleep(DUPLICATE_GAP_S)
            await self._send(connection, data)
        if second is not None and behaviour is not None:
            await self._delay(behaviour.delay_ms)
            await self._send(connection, self._encoded(request, second))

    def _encoded(self, request: Message, fields: Mapping[int, str]) -> bytes:
        answer = response_to(request, fields[39], dict(fields))
        if not fields[39]:
            answer = replace(answer, fields={n: value for n, value in answer.fields.items() if n != 39})
        return frame(encode(answer))

    async def _send(self, connection: _Connection, data: bytes) -> None:
        await connection.whole.wait()
        await self._write(connection, data)

    async def _write(self, connection: _Connection, data: bytes) -> None:
        if connection not in self._connections:
            raise ConnectionResetError(f"{connection.line.peer} is gone")
        self._capture.write("out", connection.line.peer, data)
        connection.line.send(data)
        await connection.line.drain()

    def _unasked(self, heard: Message) -> list[bytes]:
        """Approvals of sales that were never asked for, such as this terminal might get."""
        sale = replace(heard, mti="0200")
        fields = {**self._mirror(sale), 3: "000000", 4: f"{100:012d}", 37: "0" * 12, 38: "0" * 6, 39: "00", 49: "156"}
        return [self._encoded(sale, {**fields, 11: f"{stan:06d}"}) for stan in UNASKED_STANS]

    async def _flood(self, connection: _Connection, heard: Message, per_s: int, seconds: float) -> None:
        """Put unasked answers among the true ones, as many as the other side takes."""
        with contextlib.suppress(TimeoutError, ConnectionError):
            async with asyncio.timeout(seconds):
                async for portion in paced(itertools.cycle(self._unasked(heard)), per_s):
                    await self._send(connection, portion)

    async def _trickle(self, connection: _Connection, seconds: float) -> None:
        """Begin a message and go on with it byte by byte. It can only end by hanging up."""
        connection.whole.clear()
        with contextlib.suppress(TimeoutError, ConnectionError):
            async with asyncio.timeout(seconds):
                await self._write(connection, frame(bytes(FRAME_BYTES_MAX))[:LENGTH_BYTES])
                async for portion in paced(itertools.repeat(b"\x00"), TRICKLED_PER_S):
                    await self._write(connection, portion)
        self._cut(connection)
        connection.whole.set()

    def restart(self) -> None:
        """Lose every connection and whatever is being worked on; the book stays."""
        for connection in list(self._connections):
            self._cut(connection)
        for task in list(self._tasks):
            task.cancel()

    def _cut(self, connection: _Connection) -> None:
        self._connections.pop(connection, None)
        connection.line.close()

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks[task] = None
        task.add_done_callback(self._tasks.pop)

    # --- the book's rules ---------------------------------------------------------------------------------------

    def _decide(self, request: Message, behaviour: Behaviour | None) -> dict[int, str]:
        """Answer fields for a request, posted and stored."""
        base = self._mirror(request)
        if behaviour is not None and behaviour.mode is Mode.DECLINE and request.mti[1] == "8":
            return {**base, 39: behaviour.code}
        if request.mti[1] == "8":
            return {**base, **self._network(request)}
        kind = _kind_of(request)
        if kind is None:
            return {**base, 39: "40"}
        keys = _keys(request, kind)
        if keys is None:
            return {**base, 39: "30"}
        content = _content_hash(request)
        known = self._book.first_answer(keys)
        if known is not None:
            first_content, first_answer = known
            return first_answer if first_content == content else {**base, 39: "94"}
        if kind == "reversal":
            code, posting = self._reversal(request, keys, behaviour)
        else:
            code, posting = self._debit(request, kind, behaviour)
        answer = {**base, 37: self._reference(), 39: code}
        if code == "00" and kind == "sale":
            answer[38] = answer[37][-6:]
        if code == "00" or kind == "sale" or not (kind == "reversal" or _says_nothing(code)):
            # A reversal that found nothing leaves no trace: its original may still be under way to this host. Nor does
            # an advice that was answered without a final word: it comes again.
            self._book.record(keys, content, answer, posting)
            if posting is not None:
                self._on_posting(keys, posting)
        return answer

    def _debit(self, request: Message, kind: Kind, behaviour: Behaviour | None) -> tuple[str, Posting | None]:
        contract, amount_text = request.text(CONTRACT_FIELD), request.text(4)
        if contract is None or amount_text is None:
            return "30", None
        balance = self._book.balance(contract)
        if balance is None:
            return "14", None
        if behaviour is not None and behaviour.mode is Mode.DECLINE:
            return behaviour.code, None
        if behaviour is not None and behaviour.mode in _OPPOSITES and not behaviour.posted:
            return behaviour.code, None
        amount = int(amount_text)
        if amount == 0:
            return "13", None
        if kind == "refund":
            return "00", Posting(contract, -amount)
        forced = kind == "advice" or (behaviour is not None and behaviour.mode in (Mode.APPROVE, *_OPPOSITES))
        if amount > balance and not forced:
            return "51", None
        return "00", Posting(contract, amount)

    def _reversal(self, request: Message, keys: Keys, behaviour: Behaviour | None) -> tuple[str, Posting | None]:
        if behaviour is not None and behaviour.mode is Mode.DECLINE:
            return behaviour.code, None
        original = self._original(request, keys)
        if original is None:
            return "25", None
        if request.text(4) != f"{original['amount_fen']:012d}":
            return "64", None
        return "00", Posting(original["contract"], -original["amount_fen"])

    def _original(self, request: Message, keys: Keys) -> sqlite3.Row | None:
        named = request.text(61) or ""
        if len(named) < 12:
            return None
        return self._book.sale(Keys("sale", keys.terminal, keys.merchant, named[:6], named[6:12]))

    def _network(self, request: Message) -> dict[int, str]:
        """Sign-in, sign-out and echo; F60 names the batch the terminal works in."""
        named = request.text(60) or ""
        batch = named[2:8] if len(named) >= 8 and named[2:8] != "000000" else FIRST_BATCH
        return {37: self._reference(), 39: "00", 60: (named[:2] or "00") + batch + named[8:]}

    def _mirror(self, request: Message) -> dict[int, str]:
        """Fields that an answer repeats from its request, and the host's own clock."""
        now = local_time(self._utcnow(), BEIJING_OFFSET_MIN)
        fields = {number: value for number in (3, 4, 11, 25, 41, 42, 49, 60) if (value := request.text(number))}
        fields |= {12: now.strftime("%H%M%S"), 13: now.strftime("%m%d")}
        if request.mti[1] != "8":
            fields[15] = settlement_day(self._utcnow(), self._config.cut_over)[4:]
        return fields

    def _reference(self) -> str:
        return f"{self._book.next_reference():012d}"

    # --- what can be switched -----------------------------------------------------------------------------------

    def _behaviour_for(self, request: Message) -> Behaviour | None:
        contract = request.text(CONTRACT_FIELD)
        if contract is None and _KINDS.get(request.mti[:3]) == "reversal":
            keys = _keys(request, "reversal")
            original = None if keys is None else self._original(request, keys)
            contract = None if original is None else original["contract"]
        for behaviour in self._behaviours:
            if behaviour.fits(request.mti, contract):
                if behaviour.remaining is not None:
                    behaviour.remaining -= 1
                    if behaviour.remaining == 0:
                        self._behaviours.remove(behaviour)
                return behaviour
        return self._choose(request)

    def _handlers(self) -> dict[str, Handler]:
        return {
            "account": self._command_account,
            "behave": self._command_behave,
            "book": self._command_book,
            "anchor": self._command_anchor,
            "day_file": self._command_day_file,
            "requests": self._command_requests,
            "wait": self._command_wait,
            "hold": self._command_hold,
            "release": self._command_release,
            "deliver": self._command_deliver,
            "flood": self._command_flood,
            "down": self._command_down,
            "up": self._command_up,
        }

    async def _command_account(self, command: Command) -> Command:
        contract, balance = str(command["contract"]), int(command["balance_fen"])
        self._book.set_account(contract, balance)
        return {"contract": contract, "balance_fen": balance}

    async def _command_behave(self, command: Command) -> Command:
        """Switch a fault: mode, and any of mti ("0200" unless given, "any" for all), contract, next, code, ms, posted,
        field, value.

        Mode `normal` removes the switches of that contract and type. The newest switch that fits wins; those for
        the next N messages before lasting ones.
        """
        mode_text = str(command["mode"]).replace("-", "_")
        mti = str(command.get("mti", "0200"))
        contract = None if command.get("contract") is None else str(command["contract"])
        wanted_mti = None if mti == "any" else mti
        if mode_text == "normal":
            self._behaviours = [
                item
                for item in self._behaviours
                if not (
                    (wanted_mti is None or item.mti == wanted_mti) and (contract is None or item.contract == contract)
                )
            ]
            return {"behaviours": len(self._behaviours)}
        behaviour = Behaviour(
            mode=Mode(mode_text),
            mti=wanted_mti,
            contract=contract,
            code=str(command.get("code", "05")),
            delay_ms=None if command.get("ms") is None else int(command["ms"]),
            remaining=None if command.get("next") is None else int(command["next"]),
            posted=bool(command.get("posted", True)),
            field=int(command.get("field", 4)),
            value=str(command.get("value", "")),
        )
        if behaviour.remaining is not None and behaviour.remaining < 1:
            raise ValueError("next must be at least 1")
        self._behaviours.insert(0, behaviour)
        self._behaviours.sort(key=lambda item: item.remaining is None)
        return {"behaviours": len(self._behaviours)}

    async def _command_book(self, _: Command) -> Command:
        accounts = self._book.accounts()
        postings = [posting for account in accounts.values() for posting in account["postings"]]
        totals = {
            f"{kind}_fen": sum(posting["amount_fen"] for posting in postings if posting["kind"] == kind)
            for kind in (*_KINDS.values(), "refund")
        }
        return {
            "accounts": accounts,
            "totals": {**totals, "net_fen": sum(totals.values()), "postings": len(postings)},
        }

    async def _command_anchor(self, _: Command) -> Command:
        """Ledger position of the gateway when it last told it."""
        anchor = self._book.anchor()
        if anchor is None:
            return {"anchor": None}
        return {"anchor": {"life": anchor.life, "journal": anchor.journal, "head": anchor.head.hex()}}

    async def _command_day_file(self, command: Command) -> Command:
        """Write the day file of `day` (YYYYMMDD) to `path`."""
        path, day = Path(str(command["path"])), str(command["day"])
        accounts = self._book.accounts()
        postings = [{**p, "contract": contract} for contract, a in accounts.items() for p in a["postings"]]
        postings.sort(key=lambda posting: posting["id"])
        lines, net_fen = write_day_file(path, day, postings, self._config.cut_over)
        return {"path": str(path), "lines": lines, "net_fen": net_fen}

    async def _command_requests(self, _: Command) -> Command:
        return {"requests": list(self._requests)}

    async def _command_wait(self, command: Command) -> Command:
        mti, count = str(command["mti"]), int(command.get("count", 1))
        timeout_ms = int(command.get("timeout_ms", WAIT_MS_DEFAULT))
        try:
            async with asyncio.timeout(timeout_ms / 1000), self._arrival:
                await self._arrival.wait_for(lambda: self._seen[mti] >= count)
        except TimeoutError as error:
            raise TimeoutError(f"{self._seen[mti]} of {count} messages {mti} within {timeout_ms} ms") from error
        return {"mti": mti, "count": self._seen[mti]}

    async def _command_hold(self, _: Command) -> Command:
        self._flowing.clear()
        return {"held": True}

    async def _command_release(self, _: Command) -> Command:
        self._flowing.set()
        return {"held": False}

    async def _command_deliver(self, _: Command) -> Command:
        due, self._delivery = self._delivery, asyncio.Event()
        due.set()
        return {"delivered": True}

    async def _command_flood(self, command: Command) -> Command:
        """`{"what": answers | trickle, "ms", "per_s": 3000}`: on every connection, for so long; answered before.

        It waits for a terminal that has said something. `answers` are approvals that nobody asked for. `trickle` is a
        message that never ends: nothing else is said meanwhile, and then the line is cut.
        """
        what, ms, per_s = str(command["what"]), int(command["ms"]), int(command.get("per_s", 3000))
        if what not in ("answers", "trickle") or not 0 < ms <= FLOOD_MS_MAX or not 0 < per_s <= PER_S_MAX:
            raise ValueError(f"answers or trickle, ms up to {FLOOD_MS_MAX}, per_s up to {PER_S_MAX}")
        async with asyncio.timeout(WAIT_MS_DEFAULT / 1000), self._arrival:
            await self._arrival.wait_for(lambda: any(c.heard is not None for c in self._connections))
        flooded = 0
        for connection in list(self._connections):
            if connection.heard is not None and connection.whole.is_set():
                if what == "trickle":
                    self._spawn(self._trickle(connection, ms / 1000))
                else:
                    self._spawn(self._flood(connection, connection.heard, per_s, ms / 1000))
                flooded += 1
        return {"connections": flooded}

    async def _command_down(self, _: Command) -> Command:
        await self._unlisten()
        return {"listening": False}

    async def _command_up(self, _: Command) -> Command:
        await self._listen()
        return {"listening": True, "port": self._port}


def _keys(request: Message, kind: Kind) -> Keys | None:
    """Keys of a financial message, None when one is missing. A reversal belongs to its original's batch."""
    terminal, merchant, stan = request.text(41), request.text(42), request.text(11)
    batch = (request.text(61) or "")[:6] if kind == "reversal" else (request.text(60) or "")[2:8]
    if terminal is None or merchant is None or stan is None or len(batch) != 6:
        return None
    return Keys(kind, terminal, merchant, batch, stan)


_OPPOSITES = (Mode.APPROVE_THEN_DECLINE, Mode.DECLINE_THEN_APPROVE)
_TIMED = (Mode.NO_F41, Mode.POSTED_BUT_CODE, Mode.DECLINE)
"""Modes whose answer comes after `ms`, where that is given."""


def _spoken(fields: dict[int, str], behaviour: Behaviour | None) -> tuple[dict[int, str], dict[int, str] | None]:
    """Answer that replaces the book's, and the second one where there is one."""
    if behaviour is None:
        return fields, None
    if behaviour.mode is Mode.POSTED_BUT_CODE:
        return {**fields, 39: behaviour.code}, None
    if behaviour.mode is Mode.ALTERED:
        return {**fields, behaviour.field: behaviour.value}, None
    if behaviour.mode in _OPPOSITES:
        both = {**fields, 39: "00"}, {**fields, 39: behaviour.code}
        return both if behaviour.mode is Mode.APPROVE_THEN_DECLINE else both[::-1]
    return fields, None


def _says_nothing(code: str) -> bool:
    """True when a code leaves open what became of the money."""
    return response_code(code).in_doubt in (ResponseClass.UNKNOWN, ResponseClass.KEYS)


def _content_hash(request: Message) -> bytes:
    """Hash over what must be equal for two messages with the same keys to be the same message."""
    digest = hashlib.sha256()
    for number in (3, 4, 25, CONTRACT_FIELD, 49, 61):
        value: Value = request.fields.get(number, "")
        content = value if isinstance(value, bytes) else value.encode()
        digest.update(b"%d:%d:" % (number, len(content)) + content)
    return digest.digest()


def _text(moment: datetime) -> str:
    return moment.isoformat(timespec="microseconds")


async def serve(config: BankHostConfig, days_behind: int = 0) -> None:
    """Run a host until cancelled; say `ready HOST:PORT control HOST:PORT` on stdout once both sockets listen."""
    host = BankHost(config, utcnow=lambda: utcnow_of_machine() - timedelta(days=days_behind))
    try:
        await host.start()
        say_ready("{}:{}".format(*host.address), host.control_address)
        await asyncio.get_running_loop().create_future()
    finally:
        await host.close()


def main(argv: Sequence[str] | None = None) -> int:
    """Command line: see --help."""
    parser = argparse.ArgumentParser(prog="bank-host", description="A bank front end for the bench.")
    parser.add_argument("--listen", type=parse_address, default=("127.0.0.1", 0), metavar="HOST:PORT")
    parser.add_argument("--control", type=parse_address, default=("127.0.0.1", 0), metavar="HOST:PORT")
    parser.add_argument("--book", type=Path, required=True, metavar="PATH", help="SQLite file, made when missing")
    parser.add_argument("--latency-ms", type=int, default=180)
    parser.add_argument("--capture", type=Path, metavar="PATH", help="append raw bytes as JSON lines")
    parser.add_argument("--cut-over", default=MIDNIGHT, metavar="HH:MM", help="local time at which its day turns")
    parser.add_argument("--days-behind", type=int, default=0, metavar="N", help="days its clock is behind")
    arguments = parser.parse_args(argv)
    config = BankHostConfig(
        listen=arguments.listen,
        control=arguments.control,
        book=arguments.book,
        latency_ms=arguments.latency_ms,
        capture=arguments.capture,
        cut_over=arguments.cut_over,
    )
    return run(
        "bank-host", serve(config, arguments.days_behind), (OSError, ValueError, sqlite3.Error, LocalProtocolError)
    )


if __name__ == "__main__":
    sys.exit(main())
