"""Gilbarco two-wire: current loop or RS-485, nominally 5787 baud (5760 is used), 8E1.

The controller sends one byte, a command and a pump number; the pump answers with one byte, six bytes or a block, or not
at all. A block begins with FF and ends with F0; codes Fx open fields, digits go as E0 + digit, the least significant
first. Its check LRC is the two's complement of the sum of all low nibbles up to FB, one nibble.

How sure it is: the check, the layout of a transaction and that of a special function agree with a recorded block each.
Commands, states and all other blocks are of a public Chinese controller; that controller sends a preset with the length
nibble 3 whatever its length, the rule used here (two's complement of the bytes that follow) gives what it sends for all
other blocks. Resume is not known. No pump has heard what is written here.

Limit of the protocol: nothing answers a preset, and nothing but delivery shows whether the pump took it. Whoever
authorises watches the delivery and stops it above the limit.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final, cast

from protocols.codings import HEX_BYTE, octets
from protocols.errors import LocalProtocolError, RemoteProtocolError
from protocols.fields import Coding, Field, Label, Layout, Misfit, Repeated, coded, const
from protocols.pump import types
from protocols.pump.bus import LineFormat, Parity
from protocols.pump.exchanges import Answer, Find, Request, Timing
from protocols.pump.types import Command, Decimals, Reading, SideId, SideState

CLAUSE: Final = "Gilbarco two-wire, as a public Chinese controller speaks it"
START: Final = 0xFF
END: Final = 0xF0
CHECK: Final = 0xFB
BLOCK_MAX: Final = 512
SIDES: Final = range(1, 17)
"""Pump numbers; 16 goes as 0."""

STATES: Final[Mapping[int, SideState]] = MappingProxyType(
    {
        0x0: SideState.FAULT,
        0x6: SideState.IDLE,
        0x7: SideState.CALLING,
        0x8: SideState.AUTHORISED,
        0x9: SideState.FUELLING,
        0xA: SideState.COMPLETED,
        0xB: SideState.COMPLETED,
        0xC: SideState.STOPPED,
    }
)
DATA_NEXT: Final = 0xD
"""State nibble that answers command 2: send the block."""
ANSWERS: Final[Mapping[int, Label]] = MappingProxyType(
    {code: state.value for code, state in STATES.items()} | {DATA_NEXT: Label("可发送数据", "send the block")}
)
COMMANDS: Final[Mapping[int, Label]] = MappingProxyType(
    {
        0: Label("读状态", "ask the state"),
        1: Label("授权", "authorise"),
        2: Label("准备发送数据", "a block comes next"),
        3: Label("停止", "stop"),
        4: Label("读交易数据", "ask the transaction"),
        5: Label("读总累", "ask the totals"),
        6: Label("读实时金额", "ask the amount so far"),
    }
)
STOP_ALL: Final = b"\xfc"

# --- codings ----------------------------------------------------------------------------------------------------------


def _read_digits(content: bytes) -> int:
    for at, byte in enumerate(content):
        if byte >> 4 != 0xE or byte & 0x0F > 9:
            raise Misfit(f"{byte:02X} is no digit E0 to E9", at)
    return int("".join(str(byte & 0x0F) for byte in reversed(content)))


def _write_digits(value: int, size: int) -> bytes:
    text = f"{value:0{size}d}"
    if value < 0 or len(text) != size:
        raise Misfit(f"{value} does not fit {size} digits")
    return bytes(0xE0 | int(digit) for digit in reversed(text))


def digits(count: int) -> Coding:
    """Number of so many digits, one a byte, the least significant first."""
    return coded(count, _read_digits, _write_digits)


def _nibble(offset: int) -> Coding:
    """Number in a low nibble, `offset` less than meant."""

    def read(content: bytes) -> int:
        if content[0] >> 4 != 0xE:
            raise Misfit(f"{content[0]:02X} is none of E0 to EF")
        return (content[0] & 0x0F) + offset

    def write(value: int, _size: int) -> bytes:
        if not 0 <= value - offset <= 0x0F:
            raise Misfit(f"{value} does not fit a nibble")
        return bytes((0xE0 | value - offset,))

    return coded(1, read, write)


# --- blocks -----------------------------------------------------------------------------------------------------------


def _code(name: str, value: int, meaning: str, zh: str) -> Field:
    return Field(name, const(bytes((value,))), meaning, zh=zh, default=bytes((value,)))


_START: Final = _code("start", START, "start of a block", "起始符")
_LENGTH: Final = Field("length", _nibble(0), "two's complement of the bytes that follow, one nibble", zh="长度补码")
_TAIL: Final = (
    _code("check_code", CHECK, "check follows", "校验码标识"),
    Field("lrc", _nibble(0), "check", zh="校验"),
    _code("end", END, "end of a block", "结束符"),
)
_LEVEL: Final = Field("level", HEX_BYTE, "price level: F4 first, F5 second", zh="价格级别")

SPECIAL: Final = Layout(
    "special function",
    "seen: 010",
    (
        _START,
        _LENGTH,
        _code("special_code", 0xFE, "special function follows", "特殊功能标识"),
        Field("function", octets(3), "function, digits as they go", zh="特殊功能"),
        *_TAIL,
    ),
)
TRANSACTION: Final = Layout(
    "transaction",
    "seen: one block; the bytes before the grade are not explained but for the pump number",
    (
        _START,
        _code("block_code", 0xF1, "transaction", "交易数据"),
        _code("pump_code", 0xF8, "pump follows", "面板标识"),
        Field("head", octets(1), "not explained", zh="未说明"),
        Field("pump", _nibble(1), "pump, counted from 1", zh="面板号"),
        Field("errors", octets(3), "not explained", zh="未说明"),
        _code("grade_code", 0xF6, "grade follows", "油枪标识"),
        Field("grade", _nibble(1), "grade, counted from 1", zh="油枪"),
        _LEVEL,
        _code("price_code", 0xF7, "price follows", "单价标识"),
        Field("price_raw", digits(4), "unit price, digits without a point", zh="单价"),
        _code("volume_code", 0xF9, "volume follows", "油量标识"),
        Field("volume_raw", digits(6), "volume, digits without a point", zh="油量"),
        _code("amount_code", 0xFA, "amount follows", "金额标识"),
        Field("amount_raw", digits(6), "amount, digits without a point", zh="金额"),
        *_TAIL,
    ),
)
PRESETS: Final[Mapping[int, Layout]] = MappingProxyType(
    {
        kind: Layout(
            name,
            "code",
            (
                _START,
                _LENGTH,
                _code("preset_code", kind, name, zh),
                _LEVEL,
                _code("grade_code", 0xF6, "grade follows", "油枪标识"),
                Field("grade", _nibble(1), "grade, counted from 1", zh="油枪"),
                _code("preset_amount_code", 0xF8, "limit follows", "预置量标识"),
                Field("preset_raw", digits(6), "most volume or amount, digits without a point", zh="预置量"),
                *_TAIL,
            ),
        )
        for kind, name, zh in ((0xF1, "preset of a volume", "预置油量"), (0xF2, "preset of an amount", "预置金额"))
    }
)
PRICE: Final = Layout(
    "price",
    "code",
    (
        _START,
        _LENGTH,
        _LEVEL,
        _code("grade_code", 0xF6, "grade follows", "油枪标识"),
        Field("grade", _nibble(1), "grade, counted from 1", zh="油枪"),
        _code("price_code", 0xF7, "price follows", "单价标识"),
        Field("price_raw", digits(4), "unit price, digits without a point", zh="单价"),
        *_TAIL,
    ),
)
TOTALS_RECORD_BYTES: Final = 30
TOTALS_FRAME_BYTES: Final = 4


@dataclass(frozen=True, slots=True)
class GradeTotals:
    """Totals and prices of one grade."""

    grade_code: int
    grade: int
    volume_code: int
    volume_total_raw: int
    amount_code: int
    amount_total_raw: int
    price_code: int
    price_raw: int
    other_price_code: int
    other_price_raw: int


TOTALS: Final = Layout(
    "totals",
    "code: places of grade, totals and price; the codes are inferred from those of a transaction",
    (
        _START,
        Repeated(
            "grades",
            (
                Field("grade_code", HEX_BYTE, "grade follows", zh="油枪标识"),
                Field("grade", _nibble(1), "grade, counted from 1", zh="油枪"),
                Field("volume_code", HEX_BYTE, "volume follows", zh="油量标识"),
                Field("volume_total_raw", digits(8), "volume total, digits without a point", zh="油量总累"),
                Field("amount_code", HEX_BYTE, "amount follows", zh="金额标识"),
                Field("amount_total_raw", digits(8), "amount total, digits without a point", zh="金额总累"),
                Field("price_code", HEX_BYTE, "price follows", zh="单价标识"),
                Field("price_raw", digits(4), "unit price, digits without a point", zh="单价"),
                Field("other_price_code", HEX_BYTE, "price follows", zh="单价标识"),
                Field("other_price_raw", digits(4), "unit price of the other level", zh="另一级单价"),
            ),
            "totals by grade",
            GradeTotals,
        ),
        *_TAIL,
    ),
)
_BLOCKS: Final = re.compile(rb"\xff[^\xff\xf0]*\xfb[\xe0-\xef]\xf0")


def check_of(body: bytes) -> int:
    """Check over a block up to FB."""
    return -sum(byte & 0x0F for byte in body) & 0x0F


def find_block(received: bytes) -> bytes | None:
    """The first block with a right check, else the first block; None while there is none."""
    found = _BLOCKS.findall(received)
    return next((block for block in found if block[-2] & 0x0F == check_of(block[:-2])), next(iter(found), None))


def layout_of(block: bytes) -> Layout | None:
    """Layout of a block by its codes."""
    first, second = (*block[1:3], 0, 0)[:2]
    if first == 0xF1 and second == 0xF8:
        return TRANSACTION
    if first == 0xF6:
        count, rest = divmod(len(block) - TOTALS_FRAME_BYTES, TOTALS_RECORD_BYTES)
        return None if rest else TOTALS.bound({"grades": count})
    if first >> 4 != 0xE:
        return None
    return {0xFE: SPECIAL, 0xF4: PRICE, 0xF5: PRICE, **PRESETS}.get(second)


def read_block(block: bytes) -> tuple[Layout, dict[str, Any]]:
    """Layout and values of one block. Raises RemoteProtocolError with the field and the offset that do not fit."""
    if len(block) < TOTALS_FRAME_BYTES or block[0] != START or block[-1] != END:
        at = 0 if block[:1] != bytes((START,)) else len(block)
        raise _refused(f"{len(block)} bytes are no block from FF to F0", "start" if at == 0 else "end", at, block)
    stated, computed = block[-2] & 0x0F, check_of(block[:-2])
    if stated != computed:
        problem = f"LRC is {stated:X}, expected {computed:X} (two's complement of the low nibbles up to FB)"
        raise _refused(problem, "lrc", len(block) - 2, block)
    found = layout_of(block)
    if found is None:
        raise _refused("its codes are those of no block known", "code", 1, block)
    return found, found.parse(block)


def write_block(layout: Layout, **values: object) -> bytes:
    """A block with its length and its check. Fields that are always the same need not be given."""
    reckoned = {name: 0 for name in ("lrc", "length") if name in layout.names}
    given = dict.fromkeys(layout.names) | values | reckoned
    if "length" in reckoned:
        given["length"] = -(layout.size - 2) & 0x0F
    draft = layout.build(**given)
    return draft[:-2] + bytes((0xE0 | check_of(draft[:-2]), END))


def _refused(problem: str, field: str, offset: int, data: bytes) -> RemoteProtocolError:
    return RemoteProtocolError(
        problem,
        field=field,
        offset=offset,
        data=data[offset:],
        clause=CLAUSE,
        hint="ask again: bytes were lost or damaged on the line",
    )


# --- which nozzle is out ----------------------------------------------------------------------------------------------

_REPORT: Final = re.compile(rb":([0-9A-F]{14})([0-9A-F]{2})\r\n")


@dataclass(frozen=True, slots=True)
class NozzleReport:
    """Answer to special function 010: text with bit 7 set, a line in hexadecimal with its sum.

    Two such answers are quoted in public code; places of pump, nozzle and decimals are that code's.
    """

    pump: int
    decimals_flag: int
    """0 or 1: totals have one decimal; 2: two."""
    nozzle: int
    """0: all are in."""


def read_nozzle_report(raw: bytes) -> NozzleReport:
    """The report. Raises RemoteProtocolError when its sum is wrong."""
    line = _REPORT.fullmatch(bytes(byte & 0x7F for byte in raw))
    if line is None:
        raise _refused(f"{len(raw)} bytes are no line of 19 with a colon before and CR LF behind", "line", 0, raw)
    stated, computed = int(line[2], 16), -sum(bytes.fromhex(line[1].decode())) & 0xFF
    if stated != computed:
        raise _refused(f"sum is {stated:02X}, expected {computed:02X}", "sum", 15, raw)
    places = [int(place, 16) for place in line[1].decode()]
    return NozzleReport(places[2] or 16, places[8], places[13])


# --- dialect ----------------------------------------------------------------------------------------------------------


def _pump_nibble(side: SideId) -> int:
    return side & 0x0F


def _state(side: SideId) -> Find:
    """Answer to a poll: state and pump number in one byte. What else comes is noise."""

    def find(received: bytes) -> Answer | None:
        for at, byte in enumerate(received):
            if byte & 0x0F == _pump_nibble(side) and byte >> 4 in STATES:
                return Answer(received[at : at + 1], (types.StateSeen(STATES[byte >> 4]),))
        return None

    return find


def _data_next(side: SideId) -> Find:
    wanted = bytes((DATA_NEXT << 4 | _pump_nibble(side),))

    def find(received: bytes) -> Answer | None:
        return Answer(wanted) if wanted in received else None

    return find


def _block(decimals: Decimals) -> Find:
    def find(received: bytes) -> Answer | None:
        raw = find_block(received)
        if raw is None:
            return None
        layout, values = read_block(raw)
        return Answer(raw, readings(layout, values, decimals))

    return find


def readings(layout: Layout, values: Mapping[str, Any], decimals: Decimals) -> tuple[Reading, ...]:
    """Readings of a block of the pump."""
    if layout.name == TRANSACTION.name:
        price = decimals.unit_price_milli(values["price_raw"])
        volume, amount = decimals.volume_ml(values["volume_raw"]), decimals.amount_minor(values["amount_raw"])
        return (types.Delivered(volume, amount, price),)
    if layout.name == TOTALS.name:
        return tuple(
            types.TotalsSeen(
                one.grade, decimals.volume_ml(one.volume_total_raw), decimals.amount_minor(one.amount_total_raw)
            )
            for one in cast("tuple[GradeTotals, ...]", values["grades"])
        )
    return ()


_MONEY_BYTES: Final = 6
_AT_REST: Final = frozenset({SideState.IDLE, SideState.CALLING})
_PRICE_PAUSE_MS: Final = 2_000
"""Pause after a price, and before command 2 is tried again, in that controller."""


class TwoWire:
    """Gilbarco two-wire for `ExchangeMaster`."""

    name = "gilbarco-two-wire"
    sides = SIDES
    timing = Timing(LineFormat(5_760, Parity.EVEN), answer_ms=70, gap_ms=30, poll_ms=200)

    def poll(self, side: SideId, decimals: Decimals) -> Request:
        """Command 0."""
        return Request(bytes((_pump_nibble(side),)), _state(side))

    def requests(
        self, side: SideId, command: Command, decimals: Decimals, state: SideState | None
    ) -> tuple[Request, ...]:
        """A command as requests."""
        match command:
            case types.AskState():
                return (self.poll(side, decimals),)
            case types.Authorise(limit, nozzles):
                return self._authorise(side, limit, nozzles, decimals)
            case types.SetPrices(prices):
                blocks = (_price(at + 1, decimals.price_digits(price)) for at, price in enumerate(prices))
                pairs = (self._send_data(side, one, _PRICE_PAUSE_MS, _AT_REST, acts=True) for one in blocks)
                return tuple(request for pair in pairs for request in pair)
            case types.Stop():
                # A pump that calls goes on calling; one that was authorised is off, one that delivered is stopped.
                proof = frozenset({SideState.STOPPED, SideState.COMPLETED}) | _AT_REST
                return (Request(self._say(3, side), None, acts=True, proof=proof, insists=True, pause_ms=200),)
            case types.AskDelivered() if state is SideState.FUELLING:
                return (Request(self._say(6, side), _money(decimals)),)
            case types.AskDelivered():
                return (Request(self._say(4, side), _block(decimals)),)
            case types.AskTotals():
                return (Request(self._say(5, side), _block(decimals)),)
            case types.Clear():
                return ()  # the pump itself begins anew at the next nozzle
        raise LocalProtocolError(
            f"{type(command).__name__} is not known of {self.name}", field="command", hint="send Stop instead"
        )

    def _authorise(
        self, side: SideId, limit: types.VolumeLimit | types.AmountLimit, nozzles: tuple[int, ...], decimals: Decimals
    ) -> tuple[Request, ...]:
        """Preset and permission while the nozzle calls; the state alone shows that it was taken."""
        if len(nozzles) != 1:
            raise LocalProtocolError("a preset names one nozzle", field="nozzles", hint="authorise the one that is out")
        if isinstance(limit, types.VolumeLimit):
            layout, raw = PRESETS[0xF1], decimals.volume_digits(limit.volume_ml)
        else:
            layout, raw = PRESETS[0xF2], decimals.amount_digits(limit.amount_minor)
        if raw <= 0:
            raise LocalProtocolError("limit below the smallest step of the pump: it takes a preset back", field="limit")
        preset = write_block(layout, level=0xF4, grade=nozzles[0], preset_raw=raw)
        permission = Request(
            self._say(1, side),
            None,
            acts=True,
            needs=frozenset({SideState.CALLING}),
            proof=frozenset({SideState.AUTHORISED, SideState.FUELLING}),
        )
        return (*self._send_data(side, preset, 100, frozenset({SideState.CALLING})), permission)

    def _send_data(
        self, side: SideId, block: bytes, pause_ms: int, needs: frozenset[SideState], *, acts: bool = False
    ) -> tuple[Request, ...]:
        return (
            Request(self._say(2, side), _data_next(side), needs=needs, then_at_once=True),
            Request(block, None, acts=acts, needs=needs, pause_ms=pause_ms),
        )

    @staticmethod
    def _say(command: int, side: SideId) -> bytes:
        return bytes((command << 4 | _pump_nibble(side),))


def _price(grade: int, raw: int) -> bytes:
    return write_block(PRICE, level=0xF4, grade=grade, price_raw=raw)


def _money(decimals: Decimals) -> Find:
    def find(received: bytes) -> Answer | None:
        raw = received[:_MONEY_BYTES]
        if len(raw) < _MONEY_BYTES:
            return None
        try:
            amount = _read_digits(bytes(0xE0 | byte & 0x0F for byte in raw))
        except Misfit as error:
            raise _refused(error.problem, "amount_raw", error.at, raw) from error
        return Answer(raw, (types.Delivered(None, decimals.amount_minor(amount)),))

    return find


TWO_WIRE: Final = TwoWire()
