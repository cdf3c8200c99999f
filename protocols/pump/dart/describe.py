"""Description of one DART frame, byte by byte: each field's name, value and meaning, and what is wrong with it.

A damaged frame is described as far as its bytes go; nothing here raises because of what the bytes are. Who says it must
be known: the bytes of the two directions cannot be told apart.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from protocols.description import FieldDescription, FrameDescription, described, problems_of, span_of
from protocols.fields import Label
from protocols.pump.dart import framing, layout
from protocols.pump.dart.framing import ADDRESS_QUIRK, ADDRESSES, Control
from protocols.pump.dart.layout import HEAD_BYTES, Sender
from protocols.pump.dart.meanings import TITLES

NAME: Final = "wayne-dart"
CONTROLS: Final[Mapping[Control, Label]] = {
    Control.POLL: Label("轮询", "anything to say?"),
    Control.DATA: Label("数据", "data block"),
    Control.IAP: Label("固件装载（保留）", "firmware, reserved"),
    Control.NAK: Label("否认", "block refused: send it again"),
    Control.EOT: Label("无数据", "nothing to say"),
    Control.ACK: Label("确认", "block accepted"),
    Control.ACKPOLL: Label("确认并轮询", "block accepted, and anything more to say?"),
}
_CUT: Final = "cut short"
_CUT_HINT: Final = "give the whole frame, or wait for the repetition"


def describe(raw: bytes, sender: Sender) -> FrameDescription:
    """Describe one frame, whole or damaged, said by `sender`."""
    head = next((at for at, byte in enumerate(raw) if framing.is_address(byte)), len(raw))
    control = framing.control_of(raw[head + 1]) if head + 1 < len(raw) else None
    fields = tuple(_fields(raw, head, control, sender))
    return FrameDescription(
        dialect=NAME,
        raw=raw,
        code=raw[head + 1] if head + 1 < len(raw) else None,
        layout=None,
        message=None if control is None else control.name,
        sender=sender.value,
        source=framing.CLAUSE,
        fields=fields,
        problems=tuple(problems_of(fields)),
    )


def _fields(raw: bytes, head: int, control: Control | None, sender: Sender) -> Iterator[FieldDescription]:
    if head:
        yield FieldDescription(
            0,
            raw[:head],
            "noise",
            raw[:head].hex(),
            "no address of a side (50 to 6F)",
            "bytes before the frame",
            "a few are usual when the line turns round; else check speed and parity",
            zh="帧前杂散字节",
        )
    if head == len(raw):
        yield _missing(head, "ADR", "address of the side", "地址")
        return
    yield _address(raw, head)
    if head + 1 == len(raw):
        yield _missing(head + 1, "CTRL", "kind of frame", "控制字")
        return
    yield _control(raw, head + 1, control)
    if control is Control.DATA:
        yield from _data(raw, head, sender)
        return
    end = raw[head + 2 : head + 3]
    yield _end(head + 2, end)
    tail = raw[head + 3 :]
    if tail:
        yield FieldDescription(
            head + 3,
            tail,
            "tail",
            tail.hex(),
            "not of this frame",
            "bytes behind the frame",
            "give one frame at a time",
        )


def _missing(at: int, name: str, meaning: str, zh: str) -> FieldDescription:
    return FieldDescription(at, b"", name, "", meaning, _CUT, _CUT_HINT, zh=zh)


def _address(raw: bytes, at: int) -> FieldDescription:
    address = raw[at] & ~ADDRESS_QUIRK
    number = address - ADDRESSES[0] + 1
    quirk = ", with bit 7 set as some firmware answers" if raw[at] & ADDRESS_QUIRK else ""
    meaning = f"address of the side: {number} of {len(ADDRESSES)}{quirk}"
    return FieldDescription(at, raw[at : at + 1], "ADR", f"{address:02X}", meaning, zh=f"地址：第 {number} 面")


def _control(raw: bytes, at: int, control: Control | None) -> FieldDescription:
    byte = raw[at : at + 1]
    if control is None:
        problem = f"CTRL {raw[at]:02X} is none of DART"
        return FieldDescription(at, byte, "CTRL", f"{raw[at]:02X}", "kind of frame", problem, _CUT_HINT, zh="控制字")
    words = CONTROLS[control]
    number = raw[at] & 0x0F
    numbered = control is not Control.POLL and control is not Control.EOT
    if not numbered:
        return FieldDescription(at, byte, "CTRL", control.name, words.en, zh=words.zh)
    meaning, zh = f"{words.en}, TX# {number}", f"{words.zh}，序号 {number}"
    return FieldDescription(at, byte, "CTRL", f"{control.name} {number}", meaning, zh=zh)


def _end(at: int, byte: bytes) -> FieldDescription:
    if not byte:
        return _missing(at, "SF", "end of the frame", "帧尾")
    problem = "" if byte[0] == framing.SF else f"{byte.hex().upper()} stands for FA"
    return FieldDescription(
        at, byte, "SF", byte.hex().upper(), "end of the frame", problem, problem and _CUT_HINT, zh="帧尾"
    )


def _data(raw: bytes, head: int, sender: Sender) -> Iterator[FieldDescription]:
    """Transactions, check and end of a data frame from its address on."""
    ended = raw.endswith(bytes((framing.ETX, framing.SF)))
    end = len(raw) - 2 if ended else len(raw)
    content = framing.unescape(raw[head:end])
    checked = ended and len(content.values) >= HEAD_BYTES + framing.CHECK_BYTES
    data = content.values[HEAD_BYTES : -framing.CHECK_BYTES if checked else None]
    places = tuple(head + place for place in content.places[HEAD_BYTES:])
    for one in layout.slices(data, sender):
        yield _transaction(one, data, places)
    yield _check(content, head) if checked else _missing(end, "CRC", "check", "校验")
    if ended:
        yield FieldDescription(end, raw[end : end + 1], "ETX", "03", "end of the data", zh="数据结束")
    else:
        yield _missing(end, "ETX", "end of the data", "数据结束")
    yield _end(end + ended, raw[end + 1 :])


def _transaction(one: layout.Slice, data: bytes, places: Sequence[int]) -> FieldDescription:
    """One transaction with its fields inside. Offsets and lengths count escapes, as they stand in the frame."""
    name = one.declared.name if one.declared else f"TRANS {one.code:02X}"
    title = TITLES.get(name, Label("未知", "not known"))
    body_at = one.offset + HEAD_BYTES
    inside: tuple[FieldDescription, ...] = ()
    if one.layout is not None and not one.problem:
        walked = one.layout.walk(one.body)
        inside = described(walked, places[body_at:])
    elif one.body:
        inside = (
            FieldDescription(
                offset=places[body_at],
                raw=one.body,
                name="body",
                value=one.body.hex(),
                meaning="not taken apart",
                zh="未解析",
                span=span_of(body_at, len(one.body), places),
            ),
        )
    raw = data[one.offset : body_at + len(one.body)]
    return FieldDescription(
        offset=places[one.offset],
        raw=raw,
        name=name,
        value=f"{one.length} bytes",
        meaning=title.en,
        problem=one.problem,
        hint="compare with the pump's manual: its revision may differ" if one.problem else "",
        fields=inside,
        zh=title.zh,
        span=span_of(one.offset, len(raw), places),
    )


def _check(content: framing.Unescaped, head: int) -> FieldDescription:
    stated, computed = framing.checked(content.values)
    start, end = content.places[-framing.CHECK_BYTES - 1], content.places[-1]
    on_line = content.values[-framing.CHECK_BYTES :]
    return FieldDescription(
        offset=head + start,
        raw=on_line,
        name="CRC",
        value=f"{stated:04X}",
        meaning="CRC-16/ARC over ADR to the end of the data, without escapes",
        problem="" if stated == computed else f"expected {computed:04X}",
        hint="" if stated == computed else "bytes were lost or damaged, or the sender computes another check",
        zh="校验",
        span=None if end - start == len(on_line) else end - start,
    )
