"""One ISO 8583 message of the UnionPay POS envelope: bytes to value and back, without losing a bit.

`TPDU(5) + header(6, some hosts leave it out) + MTI(2, packed) + bitmap(8) + fields in ascending order`.

Decoding consumes every byte and never continues past an error. A field whose sender packed it in another way than
we would (a pad nibble that is not zero) keeps its received bytes in `Message.as_received`, so that encoding gives
back what came.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import NoReturn

from protocols.bank.dialects import CUPS_POS_BCD, Dialect, FieldSpec, Kind, Length, Pad, Sensitivity
from protocols.errors import LocalProtocolError, RemoteProtocolError
from protocols.masks import mask_number

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
SECONDARY_BITMAP = 1
"""Field 1 would announce a second bitmap, which this envelope does not have."""

"""Characters of an identifier that stay readable: issuer in front, enough behind to tell two apart."""

Value = str | bytes
_NIBBLES = "0123456789ABCDEF"
_NIBBLES_ALL = frozenset(_NIBBLES)
_CLAUSE = "银联 POS 终端规范, field table"


@dataclass(frozen=True, slots=True, repr=False)
class Message:
    """One message. `fields` maps field numbers to text (digits, nibbles, GBK text) or bytes, ascending.

    `as_received` holds the wire bytes (length bytes included) of fields whose packing is not ours.
    """

    mti: str
    fields: Mapping[int, Value]
    tpdu: bytes = bytes([TPDU_ID, 0, 0, 0, 0])
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


@dataclass(frozen=True, slots=True)
class Described:
    """One field for people: `value` is masked unless asked otherwise, `offset` counts from the TPDU."""

    number: int
    english: str
    chinese: str
    value: str
    raw: bytes
    offset: int


def decode(data: bytes, dialect: Dialect = CUPS_POS_BCD) -> Message:
    """Decode one message without its length header. Raises RemoteProtocolError naming field and offset."""
    cursor = _Cursor(data)
    tpdu = cursor.take(TPDU_BYTES, "TPDU")
    if tpdu[0] != TPDU_ID:
        raise RemoteProtocolError(
            f"TPDU starts with {tpdu[0]:02X}, not {TPDU_ID:02X}",
            field="TPDU",
            offset=0,
            data=data,
            hint="remove the length header; this envelope always has a TPDU",
        )
    has_header = cursor.offset < len(data) and data[cursor.offset] >= HEADER_FIRST_MIN
    header = cursor.take(HEADER_BYTES, "header") if has_header else b""
    mti = _decode_mti(cursor)
    numbers = _decode_bitmap(cursor, dialect)
    fields: dict[int, Value] = {}
    as_received: dict[int, bytes] = {}
    for number in numbers:
        spec = dialect.fields[number]
        start = cursor.offset
        fields[number] = _decode_field(cursor, spec)
        received = data[start : cursor.offset]
        if received != _encode_field(spec, fields[number]):
            as_received[number] = received
    if cursor.offset != len(data):
        raise RemoteProtocolError(
            f"{len(data) - cursor.offset} bytes left over after the last field",
            field=f"F{numbers[-1]}" if numbers else "bitmap",
            offset=cursor.offset,
            data=data[cursor.offset :],
            hint="a length byte or the bitmap is wrong, or the host packs a field differently",
        )
    return Message(mti, fields, tpdu, header, as_received)


def encode(message: Message, dialect: Dialect = CUPS_POS_BCD) -> bytes:
    """Encode one message without its length header. Raises LocalProtocolError naming the field."""
    return b"".join(piece for _, piece in _pieces(message, dialect))


def describe(message: Message, dialect: Dialect = CUPS_POS_BCD, *, unmask: bool = False) -> list[Described]:
    """Every field with its name, value, wire bytes and offset from the TPDU; masked unless `unmask`.

    `raw` is masked as well: of a secret or identifying field it is empty unless `unmask`.
    """
    rows: list[Described] = []
    offset = 0
    for number, piece in _pieces(message, dialect):
        if number:
            spec = dialect.fields[number]
            value = message.fields[number]
            hidden = not unmask and spec.sensitivity is not Sensitivity.OPEN
            rows.append(
                Described(
                    number=number,
                    english=spec.english,
                    chinese=spec.chinese,
                    value=_masked(spec, value) if hidden else _shown(value),
                    raw=b"" if hidden else piece,
                    offset=offset,
                )
            )
        offset += len(piece)
    return rows


# --- decoding ---------------------------------------------------------------------------------------------------


class _Cursor:
    """Reads the message from front to back and knows where it is."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.offset = 0

    def take(self, count: int, name: str) -> bytes:
        end = self.offset + count
        if end > len(self.data):
            raise RemoteProtocolError(
                f"{count} bytes needed, {len(self.data) - self.offset} left",
                field=name,
                offset=self.offset,
                data=self.data[self.offset :],
                hint="the message is cut short, or an earlier length byte is wrong",
            )
        piece = self.data[self.offset : end]
        self.offset = end
        return piece


def _decode_mti(cursor: _Cursor) -> str:
    offset = cursor.offset
    raw = cursor.take(MTI_BYTES, "MTI")
    mti = raw.hex()
    if not _is_mti(mti):
        raise RemoteProtocolError(
            "MTI is not four packed digits of a known version", field="MTI", offset=offset, data=raw
        )
    return mti


def _decode_bitmap(cursor: _Cursor, dialect: Dialect) -> list[int]:
    offset = cursor.offset
    raw = cursor.take(BITMAP_BYTES, "bitmap")
    bits = int.from_bytes(raw, "big")
    numbers = [number for number in range(1, FIELD_MAX + 1) if bits >> (FIELD_MAX - number) & 1]
    for number in numbers:
        if number == SECONDARY_BITMAP or number not in dialect.fields:
            raise RemoteProtocolError(
                f"bitmap announces field {number}, which {dialect.name} does not have",
                field="bitmap",
                offset=offset,
                data=raw,
                clause=_CLAUSE,
                hint="this envelope has one bitmap of 64 bits",
            )
    return numbers


def _decode_field(cursor: _Cursor, spec: FieldSpec) -> Value:
    name = f"F{spec.number}"
    count = spec.size
    if spec.length is not Length.FIXED:
        offset = cursor.offset
        prefix = cursor.take(spec.length.value, name)
        if not prefix.hex().isdecimal():
            raise RemoteProtocolError("length is not packed digits", field=name, offset=offset, data=prefix)
        count = int(prefix.hex())
        if count > spec.size:
            raise RemoteProtocolError(
                f"length {count}, at most {spec.size} allowed", field=name, offset=offset, data=prefix, clause=_CLAUSE
            )
    offset = cursor.offset
    raw = cursor.take((count + 1) // 2 if spec.packed else count, name)
    if spec.packed:
        return _decode_nibbles(spec, raw, count, offset)
    if spec.kind is Kind.TEXT:
        return _decode_text(raw)
    if spec.kind is Kind.PRINTABLE:
        text = raw.decode("latin-1")
        if not (text.isascii() and text.isprintable()):
            raise RemoteProtocolError("not printable ASCII", field=name, offset=offset, data=raw)
        return text
    return raw


def _decode_nibbles(spec: FieldSpec, raw: bytes, count: int, offset: int) -> str:
    nibbles = raw.hex().upper()
    skipped = len(nibbles) - count  # 1 for an odd count, else 0
    first = skipped if spec.pad is Pad.BEFORE else 0
    text = nibbles[first : first + count]
    if spec.kind is Kind.DIGITS and not text.isdecimal():
        for position, nibble in enumerate(text, first):
            if nibble not in "0123456789":
                raise RemoteProtocolError(
                    f"nibble {nibble} in packed digits",
                    field=f"F{spec.number}",
                    offset=offset + position // 2,
                    data=raw,
                )
    return text


def _decode_text(raw: bytes) -> Value:
    try:
        text = raw.decode("gbk")
    except UnicodeDecodeError:
        return raw
    # Control characters mean that a host put binary data here. Encoding gives the same bytes back: every GBK
    # sequence stands for a character of its own (all of them tried).
    return raw if any(character < " " or character == "\x7f" for character in text) else text


# --- encoding ---------------------------------------------------------------------------------------------------


def _pieces(message: Message, dialect: Dialect) -> list[tuple[int, bytes]]:
    """Wire bytes in order, with the field number, or 0 for what stands before the fields."""
    if len(message.tpdu) != TPDU_BYTES or message.tpdu[0] != TPDU_ID:
        _refuse("TPDU", f"is not {TPDU_BYTES} bytes starting with {TPDU_ID:02X}", message.tpdu)
    if message.header and (len(message.header) != HEADER_BYTES or message.header[0] < HEADER_FIRST_MIN):
        _refuse("header", f"is not {HEADER_BYTES} bytes starting at {HEADER_FIRST_MIN:02X} or above", message.header)
    if not _is_mti(message.mti):
        _refuse("MTI", f"{message.mti!r} is not four digits of a known version")
    bits = 0
    pieces = [(0, message.tpdu), (0, message.header), (0, bytes.fromhex(message.mti))]
    for number, value in message.fields.items():
        spec = dialect.fields.get(number)
        if spec is None:
            _refuse(f"F{number}", f"does not exist in {dialect.name}")
        bits |= 1 << (FIELD_MAX - number)
        # Received packing counts only for the value it stood for: a changed field is packed our way.
        received = message.as_received.get(number)
        if received is None or not _stands_for(spec, received, value):
            received = _encode_field(spec, value)
        pieces.append((number, received))
    pieces.insert(3, (0, bits.to_bytes(BITMAP_BYTES, "big")))
    return pieces


def _stands_for(spec: FieldSpec, received: bytes, value: Value) -> bool:
    cursor = _Cursor(received)
    try:
        return _decode_field(cursor, spec) == value and cursor.offset == len(received)
    except RemoteProtocolError:
        return False


def _encode_field(spec: FieldSpec, value: Value) -> bytes:
    name = f"F{spec.number}"
    content, count = _encode_content(spec, value, name)
    if spec.length is Length.FIXED:
        if count != spec.size:
            _refuse(name, f"has length {count}, not {spec.size}")
        return content
    if count > spec.size:
        _refuse(name, f"has length {count}, at most {spec.size} allowed")
    return bytes.fromhex(f"{count:0{2 * spec.length.value}d}") + content


def _encode_content(spec: FieldSpec, value: Value, name: str) -> tuple[bytes, int]:
    """Content bytes and the length in characters of the kind."""
    if isinstance(value, bytes):
        if spec.kind is not Kind.BINARY and spec.kind is not Kind.TEXT:
            _refuse(name, f"holds bytes, kind {spec.kind.value} takes text")
        return value, len(value)
    if spec.kind is Kind.BINARY:
        _refuse(name, "holds text, kind b takes bytes")
    if spec.packed:
        digits = spec.kind is Kind.DIGITS
        fine = value.isascii() and value.isdecimal() if digits else _NIBBLES_ALL.issuperset(value)
        if value and not fine:
            _refuse(name, f"holds characters outside {_NIBBLES[:10] if digits else _NIBBLES}", hint=_hint(spec))
        spare = "0" * (len(value) % 2)
        return bytes.fromhex(spare + value if spec.pad is Pad.BEFORE else value + spare), len(value)
    if spec.kind is Kind.PRINTABLE and not (value.isascii() and value.isprintable()):
        _refuse(name, "holds characters that are not printable ASCII")
    try:
        content = value.encode("gbk")
    except UnicodeEncodeError as error:
        raise LocalProtocolError(f"{name} holds characters GBK does not have", field=name) from error
    return content, len(content)


def _hint(spec: FieldSpec) -> str | None:
    if spec.number == 48:
        return "a contract reference is digits alone"
    return None


def _refuse(name: str, problem: str, data: bytes = b"", hint: str | None = None) -> NoReturn:
    raise LocalProtocolError(f"{name} {problem}", field=name, data=data, hint=hint)


def _is_mti(text: str) -> bool:
    return len(text) == 2 * MTI_BYTES and text.isascii() and text.isdigit() and int(text[0]) <= MTI_VERSION_MAX


# --- for people -------------------------------------------------------------------------------------------------


def _shown(value: Value) -> str:
    return f"0x{value.hex().upper()}" if isinstance(value, bytes) else value


def _masked(spec: FieldSpec, value: Value) -> str:
    if spec.sensitivity is Sensitivity.SECRET or isinstance(value, bytes):
        return f"<{len(value)} {'bytes' if isinstance(value, bytes) else 'characters'}>"
    return mask_number(value)
