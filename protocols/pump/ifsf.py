"""IFSF over TCP/IP, read only: what dispensers and the controller of a station say to each other.

A message has a head (receiver, sender, kind, length), a database address and data elements `Data_Id Data_Lg Data`.
Heartbeats go by UDP. Numbers of five or four bytes say in the first byte how many digits stand before the point.

How sure it is: layout, addresses and numbers of elements are those of one public Chinese controller, which presents
twenty makes of pump as IFSF dispensers; kind 3 is general knowledge. Messages here were constructed, not recorded.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum
from types import MappingProxyType
from typing import Final

from protocols.codings import HEX_BYTE, octets
from protocols.errors import RemoteProtocolError
from protocols.fields import Field, Label, Layout, uint
from protocols.pump import types
from protocols.pump.types import PRICE_DECIMALS_MAX, VOLUME_DECIMALS_MAX, Reading, SideState

NAME: Final = "ifsf"
CLAUSE: Final = "IFSF over TCP/IP, as a public Chinese controller speaks it"
HEAD_BYTES: Final = 8
MESSAGE_MAX: Final = 2048
"""Longest message accepted; the longest known, a whole transaction, stays below 200 bytes."""


class Kind(IntEnum):
    """Bits 7 to 5 of M_St."""

    READ = 0
    ANSWER = 1
    WRITE = 2
    UNSOLICITED_ACKNOWLEDGED = 3
    UNSOLICITED = 4
    ACKNOWLEDGE = 7


KINDS: Final[Mapping[int, Label]] = MappingProxyType(
    {
        Kind.READ: Label("读", "read"),
        Kind.ANSWER: Label("回答", "answer"),
        Kind.WRITE: Label("写", "write"),
        Kind.UNSOLICITED_ACKNOWLEDGED: Label("主动上报，需确认", "unsolicited, with acknowledgement"),
        Kind.UNSOLICITED: Label("主动上报", "unsolicited"),
        Kind.ACKNOWLEDGE: Label("确认", "acknowledge"),
    }
)
CODES: Final[Mapping[int, Label]] = MappingProxyType({0: Label("应用", "application"), 1: Label("心跳", "heartbeat")})
SUBNETS: Final[Mapping[int, Label]] = MappingProxyType(
    {1: Label("加油机", "dispenser"), 2: Label("控制设备", "controlling device")}
)
FP_STATES: Final[Mapping[int, Label]] = MappingProxyType(
    {
        1: Label("不可用", "inoperative"),
        2: Label("关闭", "closed"),
        3: Label("空闲", "idle"),
        4: Label("提枪请求", "calling"),
        5: Label("已授权", "authorised"),
        6: Label("已开始", "started"),
        7: Label("开始后暂停", "suspended started"),
        8: Label("加油中", "fuelling"),
        9: Label("加油暂停", "suspended fuelling"),
    }
)
SIDE_STATES: Final[Mapping[int, SideState]] = MappingProxyType(
    {
        1: SideState.FAULT,
        2: SideState.CLOSED,
        3: SideState.IDLE,
        4: SideState.CALLING,
        5: SideState.AUTHORISED,
        6: SideState.AUTHORISED,
        7: SideState.SUSPENDED,
        8: SideState.FUELLING,
        9: SideState.SUSPENDED,
    }
)
"""Started without a flow counts as authorised."""
TRANSACTION_STATES: Final[Mapping[int, Label]] = MappingProxyType(
    {1: Label("已清除", "cleared"), 2: Label("待支付", "payable"), 3: Label("已锁定", "locked")}
)

# --- data elements ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Number:
    """Decimal number as it is on the wire."""

    digits: int
    decimals: int

    def __str__(self) -> str:
        text = f"{self.digits:0{self.decimals + 1}d}"
        return f"{text[: len(text) - self.decimals]}.{text[len(text) - self.decimals :]}" if self.decimals else text

    def in_units(self, decimals: int) -> int | None:
        """Number of units of so many decimals; None when it is finer."""
        units, rest = divmod(self.digits * 10 ** int(decimals), 10 ** int(self.decimals))
        return None if rest else int(units)


@dataclass(frozen=True, slots=True, eq=False)
class Meant:
    """One Data_Id of a database."""

    name: str
    zh: str
    size: int | None = None
    number: bool = False
    words: Mapping[int, Label] | None = None


_FUELLING_POINT: Final[Mapping[int, Meant]] = MappingProxyType(
    {
        20: Meant("FP_State", "加油点状态", 1, words=FP_STATES),
        21: Meant("Log_Noz_State", "油枪状态", 1),
        22: Meant("Assign_Contr_Id", "指定控制设备", 2),
        25: Meant("Log_Noz_Mask", "允许油枪", 1),
        27: Meant("Remote_Amount_Prepay", "预付金额", 5, number=True),
        28: Meant("Preset_Volume", "预置油量", 5, number=True),
        29: Meant("Transaction_Sequence_Nb", "当前交易序号", 2),
        34: Meant("Current_Amount", "当前金额", 5, number=True),
        35: Meant("Current_Volume", "当前油量", 5, number=True),
        36: Meant("Current_Unit_Price", "当前单价", 4, number=True),
        37: Meant("Current_Log_Noz", "当前油枪", 1),
        39: Meant("Current_Error", "当前错误"),
        59: Meant("Running_Message_Frequency", "实时消息间隔"),
        60: Meant("Open_FP", "打开"),
        61: Meant("Close_FP", "关闭"),
        62: Meant("Release_FP", "授权"),
        63: Meant("Terminate_FP", "终止"),
        64: Meant("Suspend_FP", "暂停"),
        65: Meant("Resume_FP", "继续"),
        66: Meant("Clear_Display", "清屏"),
        80: Meant("Alarm", "报警"),
        100: Meant("FP_Status_Message", "状态消息"),
        102: Meant("FP_Running_Transaction_Message", "实时交易消息"),
    }
)
_TRANSACTION: Final[Mapping[int, Meant]] = MappingProxyType(
    {
        1: Meant("TR_Seq_Nb", "交易序号", 2),
        2: Meant("TR_Contr_Id", "控制设备", 2),
        3: Meant("TR_Release_Token", "授权令牌"),
        4: Meant("TR_Fuelling_Mode", "加油模式"),
        5: Meant("TR_Amount", "金额", 5, number=True),
        6: Meant("TR_Volume", "油量", 5, number=True),
        7: Meant("TR_Unit_Price", "单价", 4, number=True),
        8: Meant("TR_Log_Noz", "油枪", 1),
        10: Meant("TR_Prod_Nb", "油品", 4),
        12: Meant("TR_Error_Code", "错误码"),
        14: Meant("TR_Security_Chksum", "校验和"),
        20: Meant("TR_Buff_Contr_Id", "缓冲区控制设备", 2),
        21: Meant("Trans_State", "交易状态", 1, words=TRANSACTION_STATES),
        30: Meant("Clear_Transaction", "清除交易"),
        31: Meant("Lock_Transaction", "锁定交易"),
        32: Meant("Unlock_Transaction", "解锁交易"),
        100: Meant("TR_Buff_Status_Message", "交易缓冲消息"),
    }
)
FUELLING_POINTS: Final = range(0x21, 0x25)
TRANSACTION_BUFFER: Final = 0x21
"""Second byte of the address of a transaction, after its fuelling point; two bytes of sequence follow [inferred]."""


def _database(address: bytes) -> tuple[str, Mapping[int, Meant]]:
    """Name of a database and its elements."""
    if address[:1] and address[0] in FUELLING_POINTS:
        if len(address) == 1:
            return "fuelling point", _FUELLING_POINT
        if address[1] == TRANSACTION_BUFFER:
            return "transaction", _TRANSACTION
        return "logical nozzle" if 0x11 <= address[1] <= 0x18 else "unknown", MappingProxyType({})
    names = ((range(1), "communication"), (range(1, 2), "calculator"), (range(0x41, 0x49), "product"))
    more = ((range(0x61, 0x62), "product per fuelling mode"), (range(0x81, 0x91), "meter"))
    found = (name for numbers, name in (*names, *more) if address[:1] and address[0] in numbers)
    return next(found, "unknown"), MappingProxyType({})


# --- messages ---------------------------------------------------------------------------------------------------------

HEAD: Final = Layout(
    "head",
    CLAUSE,
    (
        Field("to_subnet", HEX_BYTE, "receiver: subnet", words=SUBNETS, zh="接收方子网"),
        Field("to_node", HEX_BYTE, "receiver: node", zh="接收方节点"),
        Field("from_subnet", HEX_BYTE, "sender: subnet", words=SUBNETS, zh="发送方子网"),
        Field("from_node", HEX_BYTE, "sender: node", zh="发送方节点"),
        Field("code", uint(1), "message code", words=CODES, zh="消息类别"),
        Field("status", HEX_BYTE, "kind and token", words=lambda value, _: KINDS.get(value >> 5), zh="消息状态"),
        Field("length", uint(2), "bytes that follow", zh="长度"),
    ),
)
HEARTBEAT: Final = Layout(
    "heartbeat",
    CLAUSE,
    (
        Field("address", octets(4), "IPv4 address", zh="地址"),
        Field("port", uint(2), "TCP port", zh="端口"),
        Field("subnet", HEX_BYTE, "subnet", words=SUBNETS, zh="子网"),
        Field("node", HEX_BYTE, "node", zh="节点"),
        Field("code", uint(1), "message code", words=CODES, zh="消息类别"),
        Field("status", HEX_BYTE, "bit 1: wants its configuration; bit 8: wants its software", zh="状态"),
    ),
)


@dataclass(frozen=True, slots=True)
class Element:
    """One data element. Without data it is asked for, or is a command."""

    data_id: int
    name: str
    """Empty when it is not known."""
    zh: str
    data: bytes
    offset: int
    """Of Data_Id in the message."""
    number: Number | None = None
    words: Label | None = None


@dataclass(frozen=True, slots=True)
class Message:
    """One message."""

    receiver: tuple[int, int]
    """Subnet and node."""
    sender: tuple[int, int]
    code: int
    kind: Kind
    token: int
    database: bytes
    """Address."""
    database_name: str
    elements: tuple[Element, ...]


def read(raw: bytes) -> Message:
    """One message. Raises RemoteProtocolError with the field and the offset that do not fit."""
    if len(raw) <= HEAD_BYTES:
        raise _refused(f"{len(raw)} bytes, a message has {HEAD_BYTES + 1} or more", "length", len(raw), raw)
    head = HEAD.parse(raw[:HEAD_BYTES])
    if head["length"] != len(raw) - HEAD_BYTES:
        raise _refused(f"M_Lg is {head['length']}, {len(raw) - HEAD_BYTES} bytes follow", "length", 6, raw)
    try:
        kind = Kind(head["status"] >> 5)
    except ValueError as error:
        raise _refused(f"M_St {head['status']:02X} is of no known kind", "status", 5, raw) from error
    at = HEAD_BYTES + 1
    end = at + raw[HEAD_BYTES]
    if end > len(raw):
        raise _refused(f"Ad_Lg is {raw[HEAD_BYTES]}, {len(raw) - at} bytes are left", "Ad_Lg", HEAD_BYTES, raw)
    database = raw[at:end]
    name, meant = _database(database)
    elements = []
    while end < len(raw):
        one = _element(raw, end, meant)
        elements.append(one)
        end += 2 + len(one.data)
    return Message(
        receiver=(head["to_subnet"], head["to_node"]),
        sender=(head["from_subnet"], head["from_node"]),
        code=head["code"],
        kind=kind,
        token=head["status"] & 0x1F,
        database=database,
        database_name=name,
        elements=tuple(elements),
    )


def _element(raw: bytes, at: int, meant: Mapping[int, Meant]) -> Element:
    known = meant.get(raw[at], Meant("", ""))
    length = raw[at + 1] if at + 1 < len(raw) else None
    data = raw[at + 2 : at + 2 + (length or 0)]
    field = known.name or f"Data_Id {raw[at]}"
    if length is None or len(data) < length:
        raise _refused(f"{field}: Data_Lg is {length}, {len(data)} bytes are left", "Data_Lg", at + 1, raw)
    if data and known.size not in (None, length):
        raise _refused(f"{field} of {length} bytes, {known.size} wanted", field, at + 1, raw)
    number = _number(data, field, at + 2) if known.number and data else None
    words = known.words.get(data[0]) if known.words and data else None
    return Element(raw[at], known.name, known.zh, data, at, number, words)


def _number(data: bytes, field: str, at: int) -> Number:
    text = data[1:].hex()
    decimals = len(text) - data[0]
    if not text.isdecimal() or not 0 <= decimals <= len(text):
        raise _refused(f"{data.hex(' ').upper()} is no number", field, at, data)
    return Number(int(text), decimals)


def write(message: Message) -> bytes:
    """The bytes of a message that was read."""
    elements = b"".join(bytes((one.data_id, len(one.data))) + one.data for one in message.elements)
    body = bytes((len(message.database),)) + message.database + elements
    head = HEAD.build(
        to_subnet=message.receiver[0],
        to_node=message.receiver[1],
        from_subnet=message.sender[0],
        from_node=message.sender[1],
        code=message.code,
        status=message.kind << 5 | message.token,
        length=len(body),
    )
    return head + body


def readings(message: Message, currency_decimals: int = 2) -> tuple[Reading, ...]:
    """Readings of a message about a fuelling point or a transaction. Numbers finer than ours are left out."""
    found: dict[str, Element] = {one.name: one for one in message.elements if one.data}
    told: list[Reading] = []
    state = found.get("FP_State")
    if state is not None and state.data[0] in SIDE_STATES:
        told.append(types.StateSeen(SIDE_STATES[state.data[0]]))
    for amount, volume, price in (
        ("Current_Amount", "Current_Volume", "Current_Unit_Price"),
        ("TR_Amount", "TR_Volume", "TR_Unit_Price"),
    ):
        if amount in found or volume in found:
            told.append(
                types.Delivered(
                    _units(found.get(volume), VOLUME_DECIMALS_MAX),
                    _units(found.get(amount), currency_decimals),
                    _units(found.get(price), PRICE_DECIMALS_MAX),
                )
            )
    return tuple(told)


def _units(element: Element | None, decimals: int) -> int | None:
    return None if element is None or element.number is None else element.number.in_units(decimals)


class Deframer:
    """Cuts a TCP stream into messages. TCP loses nothing: a length that cannot be is the end of the connection."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    @property
    def pending(self) -> int:
        """Bytes of an unfinished message."""
        return len(self._buffer)

    def push(self, data: bytes) -> list[bytes]:
        """Take the next bytes of the stream, in pieces of any size."""
        self._buffer += data
        found = []
        while len(self._buffer) >= HEAD_BYTES:
            size = HEAD_BYTES + int.from_bytes(self._buffer[6:HEAD_BYTES], "big")
            if size > MESSAGE_MAX:
                problem = f"M_Lg is {size - HEAD_BYTES}, at most {MESSAGE_MAX - HEAD_BYTES} is possible"
                raise _refused(problem, "length", 6, bytes(self._buffer[:HEAD_BYTES]))
            if len(self._buffer) < size:
                break
            found.append(bytes(self._buffer[:size]))
            del self._buffer[:size]
        return found


def _refused(problem: str, field: str, offset: int, data: bytes) -> RemoteProtocolError:
    return RemoteProtocolError(
        problem,
        field=field,
        offset=offset,
        data=data,
        clause=CLAUSE,
        hint="close the connection and open it anew: the peer speaks something else, or another revision",
    )
