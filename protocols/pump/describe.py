"""Description of one message of any pump protocol, byte by byte, in both languages.

A damaged message is described as far as its bytes go; nothing here raises because of what the bytes are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Final

from protocols.description import FieldDescription, FrameDescription, described, problems_of
from protocols.errors import RemoteProtocolError
from protocols.fields import Layout
from protocols.pump import ifsf, lanfeng, two_wire
from protocols.pump.dart import describe as dart
from protocols.pump.dart.layout import Sender

Describe = Callable[[bytes, Sender], FrameDescription]


def _frame(
    dialect: str, raw: bytes, sender: Sender, found: Layout | None, fields: tuple[FieldDescription, ...]
) -> FrameDescription:
    return FrameDescription(
        dialect=dialect,
        raw=raw,
        code=None,
        layout=None if found is None else found.name,
        message=None if found is None else found.name,
        sender=sender.value,
        source=None if found is None else found.source,
        fields=fields,
        problems=tuple(problems_of(fields)),
    )


def _unknown(raw: bytes, problem: str, hint: str) -> tuple[FieldDescription, ...]:
    """All bytes in one row."""
    return (FieldDescription(0, raw, "bytes", raw.hex(), "not taken apart", problem, hint, zh="未解析"),)


def _walked(raw: bytes, layout: Layout) -> tuple[FieldDescription, ...]:
    """Fields of a layout, and what stands behind them."""
    walked = layout.walk(raw)
    fields = described(walked, range(len(raw) + 1))
    end = sum(len(found.raw) for found in walked)
    if end == len(raw):
        return fields
    rest = raw[end:]
    hint = "give one message at a time, or look for lost bytes"
    return (
        *fields,
        FieldDescription(end, rest, "tail", rest.hex(), "not of it", "bytes behind the message", hint, zh="多余"),
    )


def _with_error(
    fields: tuple[FieldDescription, ...], error: RemoteProtocolError | None
) -> tuple[FieldDescription, ...]:
    """Fields with what is wrong with the whole, at the field it was found at."""
    if error is None or any(problems_of(fields)):
        return fields
    at = next((at for at, field in enumerate(fields) if field.name == error.field), len(fields) - 1)
    told = replace(fields[at], problem=error.problem, hint=error.hint or "")
    return (*fields[:at], told, *fields[at + 1 :])


def _error_of(read: Callable[[], object]) -> RemoteProtocolError | None:
    try:
        read()
    except RemoteProtocolError as error:
        return error
    return None


# --- Gilbarco two-wire ------------------------------------------------------------------------------------------------


def describe_two_wire(raw: bytes, sender: Sender) -> FrameDescription:
    """Describe a byte, a block, or the report of special function 010."""
    if len(raw) == 1:
        return _frame(two_wire.TWO_WIRE.name, raw, sender, None, (_two_wire_byte(raw, sender),))
    found = two_wire.layout_of(raw) if raw[:1] == bytes((two_wire.START,)) else None
    error = _error_of(lambda: two_wire.read_block(raw))
    if found is not None:
        return _frame(two_wire.TWO_WIRE.name, raw, sender, found, _with_error(_walked(raw, found), error))
    report = _error_of(lambda: two_wire.read_nozzle_report(raw))
    if report is None or report.field == "sum":
        fields = tuple(_two_wire_report(raw, report))
        return _frame(two_wire.TWO_WIRE.name, raw, sender, None, fields)
    fields = _unknown(raw, error.problem if error else "", "give one message at a time, from FF to F0")
    return _frame(two_wire.TWO_WIRE.name, raw, sender, None, fields)


def _two_wire_byte(raw: bytes, sender: Sender) -> FieldDescription:
    nibble, pump = raw[0] >> 4, raw[0] & 0x0F or two_wire.SIDES[-1]
    words = two_wire.COMMANDS if sender is Sender.CONTROLLER else two_wire.ANSWERS
    word = words.get(nibble)
    if raw == two_wire.STOP_ALL and sender is Sender.CONTROLLER:
        return FieldDescription(0, raw, "command", "FC", "stop all pumps", zh="命令：全部停止")
    name, zh = ("command", "命令") if sender is Sender.CONTROLLER else ("state", "状态")
    problem = "" if word else f"{nibble:X} is not listed"
    meaning = f"{name} for pump {pump}" if sender is Sender.CONTROLLER else f"{name} of pump {pump}"
    return FieldDescription(
        0,
        raw,
        name,
        f"{raw[0]:02X}",
        f"{meaning}: {word.en}" if word else meaning,
        problem,
        "check who said it, and the speed (5760 8E1)" if problem else "",
        zh=f"{pump} 号面板{zh}：{word.zh}" if word else zh,
    )


def _two_wire_report(raw: bytes, error: RemoteProtocolError | None) -> Iterator[FieldDescription]:
    text = bytes(byte & 0x7F for byte in raw).decode("ascii")
    for at, end, name, meaning, zh in (
        (0, 3, "head", "not explained", "未说明"),
        (3, 4, "pump", "pump, hexadecimal", "面板号"),
        (4, 9, "address", "not explained", "未说明"),
        (9, 10, "decimals_flag", "decimals of totals: 0 and 1 one, 2 two", "泵码小数位"),
        (10, 14, "data", "not explained", "未说明"),
        (14, 15, "nozzle", "nozzle that is out, 0 none", "提起的油枪"),
        (15, 17, "sum", "two's complement of the sum of the bytes written in hexadecimal", "校验"),
        (17, 19, "end", "end of the line", "行尾"),
    ):
        told = error if error is not None and error.field == name else None
        problem, hint = (told.problem, told.hint or "") if told else ("", "")
        yield FieldDescription(at, raw[at:end], name, text[at:end].strip(), meaning, problem, hint, zh=zh)


# --- Lanfeng ----------------------------------------------------------------------------------------------------------


def describe_lanfeng(raw: bytes, sender: Sender, asked: int | None = None) -> FrameDescription:
    """Describe twelve bytes. An answer does not say what it answers: `asked` is the command, that of the status when
    None."""
    layout = lanfeng.REQUEST
    if sender is Sender.PUMP:
        layout = lanfeng.ANSWERS.get(lanfeng.ASK_STATUS if asked is None else asked, lanfeng.REQUEST)
    error = _error_of(lambda: lanfeng.read(raw, layout))
    fields = _with_error(_walked(raw, layout), error) if raw else _unknown(raw, "no bytes", "give twelve bytes")
    return _frame(lanfeng.LANFENG.name, raw, sender, layout, fields)


# --- IFSF -------------------------------------------------------------------------------------------------------------


def describe_ifsf(raw: bytes, sender: Sender) -> FrameDescription:
    """Describe a message, or a heartbeat of ten bytes. Who says it stands in it; `sender` is only repeated."""
    if len(raw) == ifsf.HEARTBEAT.size and raw[8:9] == b"\x01":
        return _frame(ifsf.NAME, raw, sender, ifsf.HEARTBEAT, _walked(raw, ifsf.HEARTBEAT))
    error = _error_of(lambda: ifsf.read(raw))
    head = _walked(raw[: ifsf.HEAD_BYTES], ifsf.HEAD)
    if error is not None:
        rest = raw[ifsf.HEAD_BYTES :]
        row = FieldDescription(ifsf.HEAD_BYTES, rest, "body", rest.hex(), "not taken apart", zh="未解析")
        fields = _with_error((*head, row) if rest else head, error)
        told = any(problems_of(fields))
        return _frame(ifsf.NAME, raw, sender, ifsf.HEAD, fields if told else _unknown(raw, error.problem, ""))
    return _frame(ifsf.NAME, raw, sender, ifsf.HEAD, (*head, *_ifsf_body(raw)))


def _ifsf_body(raw: bytes) -> Iterator[FieldDescription]:
    message = ifsf.read(raw)
    at = ifsf.HEAD_BYTES
    address = message.database
    yield FieldDescription(at, raw[at : at + 1], "Ad_Lg", str(len(address)), "length of the address", zh="地址长度")
    if address:
        named = f"address of the database: {message.database_name}"
        yield FieldDescription(at + 1, address, "database", address.hex().upper(), named, zh="数据库地址")
    for one in message.elements:
        value = one.data.hex().upper() if one.number is None else str(one.number)
        word = f": {one.words.en}" if one.words else ""
        zh = one.zh or "未知"
        yield FieldDescription(
            offset=one.offset,
            raw=raw[one.offset : one.offset + 2 + len(one.data)],
            name=one.name or f"Data_Id {one.data_id}",
            value=value,
            meaning=f"data element {one.data_id}{word}",
            zh=f"{zh}：{one.words.zh}" if one.words else zh,
        )


DESCRIBERS: Final[Mapping[str, Describe]] = MappingProxyType(
    {
        dart.NAME: dart.describe,
        two_wire.TWO_WIRE.name: describe_two_wire,
        lanfeng.LANFENG.name: describe_lanfeng,
        ifsf.NAME: describe_ifsf,
    }
)
"""By the name of the protocol."""
