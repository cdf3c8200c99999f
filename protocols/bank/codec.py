"""One ISO 8583 message of the UnionPay POS envelope: bytes to value and back, without losing a bit.

`TPDU(5) + header(6, some hosts leave it out) + MTI(2, packed) + bitmap(8) + fields in ascending order`.

Decoding consumes every byte and never continues past an error. A field whose sender packed it in another way than
we would (a pad nibble that is not zero) keeps its received bytes in `Message.as_received`, so that encoding gives
back what came.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from types import MappingProxyType
from typing import Final

from protocols.bank.codings import Value
from protocols.bank.dialects import CUPS_POS_BCD, Dialect
from protocols.errors import LocalProtocolError, RemoteProtocolError
from protocols.fields import Field, FieldText, Layout, Misfit, Repeated, coded, const, raw, unreadable

TPDU_BYTES = 5
TPDU_ID = 0x60
"""First byte of the TPDU: a transaction."""
HEADER_BYTES = 6
HEADER_FIRST_MIN = 0x60
"""Application classes start at 60 in every message seen, MTIs at 00 to 09: so a header left out is recognised."""
MTI_BYTES = 2
MTI_VERSION_MAX = 2
"""First digit: 0 is ISO 8583:1987, 1 is 1993, 2 is 2003; nothing else is defined for interchange."""
BITMAP_BYTES = 8
FIELD_MAX = 64
LAYOUTS_KEPT_MAX = 64
"""Bitmaps whose layout is kept ready: a terminal and its host use a dozen."""

_NO_TPDU = bytes([TPDU_ID, 0, 0, 0, 0])

_CLAUSE = "银联 POS 终端规范, field table"


@dataclass(frozen=True, slots=True, repr=False)
class Message:
    """One message. `fields` maps field numbers to text (digits, nibbles, GBK text) or bytes, ascending.

    `as_received` holds the wire bytes (length bytes included) of fields whose packing is not ours.
    """

    mti: str
    fields: Mapping[int, Value]
    tpdu: bytes = _NO_TPDU
    header: bytes = b""
    as_received: Mapping[int, bytes] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "fields", MappingProxyType(dict(sorted(self.fields.items()))))
        object.__setattr__(self, "as_received", MappingProxyType(dict(sorted(self.as_received.items()))))

    def __repr__(self) -> str:
        # Field values may be card numbers: a message in a log shows what it is, not what it holds.
        return f"Message({self.mti}, STAN {self.fields.get(11)!r}, fields {list(self.fields)})"

    def text(self, number: int) -> str | None:
        """Value of a text field, or None when it is absent. Raises RemoteProtocolError when it holds raw bytes."""
        value = self.fields.get(number)
        if isinstance(value, bytes):
            raise RemoteProtocolError("text expected, bytes that are not text found", field=f"F{number}", data=value)
        return value


def decode(data: bytes, dialect: Dialect = CUPS_POS_BCD) -> Message:
    """Decode one message without its length header. Raises RemoteProtocolError naming field and offset."""
    try:
        return _decode(data, dialect)
    except RemoteProtocolError:
        try:
            _decode(_NO_TPDU + data, dialect)
        except RemoteProtocolError:
            pass
        else:
            raise RemoteProtocolError(
                "the message has no TPDU: behind one it is in order",
                field="TPDU",
                offset=0,
                data=data,
                hint="ask the host for its TPDU; this envelope always has one",
            ) from None
        raise


def encode(message: Message, dialect: Dialect = CUPS_POS_BCD) -> bytes:
    """Encode one message without its length header. Raises LocalProtocolError naming the field."""
    layout = _layout_of(message, dialect)
    values = {"TPDU": message.tpdu, "header": message.header, "MTI": message.mti, "bitmap": None}
    values |= {f"F{number}": value for number, value in message.fields.items()}
    if not message.as_received:
        return layout.build(**{name: values[name] for name in layout.names})
    # Received packing counts only for the value it stood for: a changed field is packed our way.
    kept = {f"F{number}": raw for number, raw in message.as_received.items()}
    return b"".join(
        kept[one.name]
        if _stands_for(one, kept.get(one.name), values[one.name])
        else layout.written(one, values[one.name])
        for one in layout.fields
    )


def describe(data: bytes, dialect: Dialect = CUPS_POS_BCD, *, unmask: bool = False) -> list[FieldText]:
    """Every field of a message, whole or damaged, as far as its bytes go; masked unless `unmask`."""
    try:
        return _layout_in(data, dialect).describe(data, unmask=unmask)
    except RemoteProtocolError as error:
        return unreadable(data, error.field or "message", error.problem, unmask=unmask)


# --- the envelope -----------------------------------------------------------------------------------------------


def _read_tpdu(raw: bytes) -> bytes:
    if raw[0] != TPDU_ID:
        raise Misfit(f"TPDU starts with {raw[0]:02X}, not {TPDU_ID:02X}")
    return raw


def _write_tpdu(tpdu: bytes, _size: int) -> bytes:
    return _read_tpdu(tpdu) if tpdu else b""


def _write_header(header: bytes, _size: int) -> bytes:
    if header and header[0] < HEADER_FIRST_MIN:
        raise Misfit(f"does not start at {HEADER_FIRST_MIN:02X} or above")
    return header


def _read_mti(raw: bytes) -> str:
    mti = raw.hex()
    if not _is_mti(mti):
        raise Misfit("MTI is not four packed digits of a known version")
    return mti


def _write_mti(mti: str, _size: int) -> bytes:
    if not _is_mti(mti):
        raise Misfit(f"{mti!r} is not four digits of a known version")
    return bytes.fromhex(mti)


def _is_mti(text: str) -> bool:
    return len(text) == 2 * MTI_BYTES and text.isascii() and text.isdigit() and int(text[0]) <= MTI_VERSION_MAX


_TPDU: Final = Field("TPDU", coded(TPDU_BYTES, _read_tpdu, _write_tpdu), "transport addresses", zh="TPDU")
_HEADER: Final = Field("header", coded(HEADER_BYTES, bytes, _write_header), "application header", zh="报文头")
_MTI: Final = Field("MTI", coded(MTI_BYTES, _read_mti, _write_mti, str), "message type", zh="消息类型")
_BITMAP: Final = Field("bitmap", raw(BITMAP_BYTES), "fields that follow", zh="位图")


def _layout_in(data: bytes, dialect: Dialect) -> Layout:
    """The layout that the bitmap of a message announces."""
    with_header = len(data) > TPDU_BYTES and data[TPDU_BYTES] >= HEADER_FIRST_MIN
    at = TPDU_BYTES + (HEADER_BYTES if with_header else 0) + MTI_BYTES
    bitmap = data[at : at + BITMAP_BYTES]
    if len(bitmap) < BITMAP_BYTES:
        return _HEADS[with_header]
    numbers = _announced(bitmap)
    odd = next((number for number in numbers if number not in dialect.fields), None)
    if odd is not None:
        _HEADS[with_header].parse(data[: at + BITMAP_BYTES])  # what is wrong before it comes first
        raise RemoteProtocolError(
            f"bitmap announces field {odd}, which {dialect.name} does not have",
            field="bitmap",
            offset=at,
            data=bitmap,
            clause=_CLAUSE,
            hint="this envelope has one bitmap of 64 bits",
        )
    return _layout(dialect, with_header, numbers)


def _layout_of(message: Message, dialect: Dialect) -> Layout:
    for number in message.fields:
        if number not in dialect.fields:
            raise LocalProtocolError(f"F{number} does not exist in {dialect.name}", field=f"F{number}")
    return _layout(dialect, bool(message.header), tuple(message.fields))


@lru_cache(maxsize=LAYOUTS_KEPT_MAX)
def _announced(bitmap: bytes) -> tuple[int, ...]:
    bits = int.from_bytes(bitmap, "big")
    return tuple(number for number in range(1, FIELD_MAX + 1) if bits >> (FIELD_MAX - number) & 1)


@lru_cache(maxsize=LAYOUTS_KEPT_MAX)
def _layout(dialect: Dialect, with_header: bool, numbers: tuple[int, ...]) -> Layout:
    """The message of exactly these fields."""
    bitmap = sum(1 << (FIELD_MAX - number) for number in numbers).to_bytes(BITMAP_BYTES, "big")
    head = (*_head(with_header), replace(_BITMAP, coding=const(bitmap)))
    return Layout(dialect.name, _CLAUSE, (*head, *(dialect.fields[number] for number in numbers)), told_by_length=False)


def _head(with_header: bool) -> tuple[Field, ...]:
    return (_TPDU, _HEADER, _MTI) if with_header else (_TPDU, _MTI)


_HEADS: Final = {
    with_header: Layout("head of a bank message", _CLAUSE, (*_head(with_header), _BITMAP), told_by_length=False)
    for with_header in (False, True)
}


def _decode(data: bytes, dialect: Dialect) -> Message:
    layout = _layout_in(data, dialect)
    values = layout.parse(data)
    tpdu, header, mti = values.pop("TPDU"), values.pop("header", b""), values.pop("MTI")
    del values["bitmap"]
    message = Message(mti, {int(name[1:]): value for name, value in values.items()}, tpdu, header)
    if encode(message, dialect) == data:
        return message
    # The sender packs a field in another way than we would: its bytes are kept.
    as_received = {
        int(found.name[1:]): found.raw
        for found in layout.walk(data)
        if found.name in values and layout.written(found.field, found.value) != found.raw
    }
    return replace(message, as_received=as_received)


def _stands_for(field: Field | Repeated, received: bytes | None, value: Value | None) -> bool:
    """True when these received bytes, and no fewer, hold the value."""
    if received is None or not isinstance(field, Field):
        return False
    try:
        found = Layout("field", _CLAUSE, (field,), told_by_length=False).parse(received)
    except RemoteProtocolError:
        return False
    return bool(found[field.name] == value)
