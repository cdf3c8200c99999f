"""Fixed-length files as one list of fields: decoding, encoding, warnings and descriptions all come from it.

Every file on a card or OBU is a run of fields without gaps, so a declaration needs lengths only; offsets add up.
Encoding a decoded value starts from the bytes it was read from and rewrites only what was changed: filling, garbage
and codings nobody has explained survive, and an unchanged value encodes byte for byte.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any, NamedTuple

from protocols.card.codes import Label
from protocols.card.coding import Coding
from protocols.errors import LocalProtocolError, RemoteProtocolError
from protocols.masks import STARS, mask_number, mask_plate


class Privacy(Enum):
    """What of a field may be shown to anybody."""

    OPEN = "open"
    PLATE = "plate"
    NUMBER = "number"
    HIDDEN = "hidden"
    """A person's name or document: never a part of it."""


class FieldText(NamedTuple):
    """One field of a file for people. A plain tuple, so it serialises to JSON as it is."""

    offset: int
    length: int
    name: str
    value: str
    meaning: str


@dataclass(frozen=True, slots=True, eq=False)
class Field:
    """One field of a record."""

    name: str
    length: int
    coding: Coding
    meaning: str
    labels: Mapping[int, Label] | Callable[[int], Label | None] | None = None
    """Words for the numbers of this field."""
    privacy: Privacy = Privacy.OPEN
    check: Callable[[bytes], str | None] | None = None
    """Instead of the coding's own check."""

    def complaint(self, raw: bytes) -> str | None:
        """What is odd about these bytes, or None."""
        return (self.check or self.coding.check)(raw)


@dataclass(frozen=True, slots=True, eq=False)
class Record:
    """One layout of one file. Declarations are told apart by identity."""

    name: str
    clause: str
    fields: tuple[Field, ...]

    @property
    def size(self) -> int:
        """Length of the whole file, bytes."""
        return sum(field.length for field in self.fields)

    def parts(self, raw: bytes) -> Iterator[tuple[int, Field, bytes]]:
        """Offset, field and bytes of every field, in order. Raises RemoteProtocolError for another length."""
        if len(raw) != self.size:
            raise RemoteProtocolError(
                f"{len(raw)} bytes, {self.size} wanted",
                field=self.name,
                offset=min(len(raw), self.size),
                data=raw,
                hint="read the file again with the right length",
                clause=self.clause,
            )
        offset = 0
        for field in self.fields:
            yield offset, field, raw[offset : offset + field.length]
            offset += field.length

    def read(self, raw: bytes) -> dict[str, Any]:
        """Values by field name."""
        return {field.name: field.coding.read(part) for _, field, part in self.parts(raw)}

    def warnings(self, raw: bytes) -> tuple[str, ...]:
        """One sentence for every odd field, with its offset. Never a plate or a number of a person."""
        found = []
        for offset, field, part in self.parts(raw):
            complaint = field.complaint(part)
            if complaint is not None:
                found.append(f"{field.name} at offset {offset} {complaint}")
        return tuple(found)

    def build(self, **values: Any) -> bytes:  # noqa: ANN401 - the field's coding decides the type
        """A new file. Every field must be given and no other."""
        names = {field.name for field in self.fields}
        if names != values.keys():
            odd = ", ".join(sorted(names ^ values.keys()))
            raise LocalProtocolError(f"fields missing or unknown: {odd}", field=self.name, clause=self.clause)
        return self._write(values, bytes(self.size), keep_equal=False)

    def patch(self, raw: bytes, values: Mapping[str, Any]) -> bytes:
        """The file `raw` with changed `values` written over; fields not in `values` stay."""
        return self._write(values, raw, keep_equal=True)

    def describe(self, raw: bytes, *, unmask: bool = False) -> list[FieldText]:
        """Every field for people: value as text, meaning in English. Plates and numbers masked unless `unmask`."""
        return [
            FieldText(offset, field.length, field.name, _value(field, part, unmask=unmask), _meaning(field, part))
            for offset, field, part in self.parts(raw)
        ]

    def _write(self, values: Mapping[str, Any], raw: bytes, *, keep_equal: bool) -> bytes:
        out = bytearray()
        for offset, field, part in self.parts(raw):
            if field.name not in values or (keep_equal and field.coding.read(part) == values[field.name]):
                out += part
                continue
            try:
                written = field.coding.write(values[field.name], field.length)
            except (ValueError, OverflowError, TypeError) as error:
                # The value itself stays out of the message: it may be a plate.
                raise LocalProtocolError(
                    f"value cannot be written: {type(error).__name__}",
                    field=f"{self.name} {field.name}",
                    offset=offset,
                    hint=f"the field holds {field.length} bytes: {field.meaning}",
                    clause=self.clause,
                ) from error
            out += written
        return bytes(out)


def values_of(record: Record, value: object) -> dict[str, Any]:
    """What `value` says about the fields of `record`; fields it has no attribute for are left out."""
    return {field.name: getattr(value, field.name) for field in record.fields if hasattr(value, field.name)}


def is_fill(data: bytes) -> bool:
    """True for bytes that were never written: all 00 or all FF."""
    return data in (bytes(len(data)), b"\xff" * len(data))


def unreadable(raw: bytes, name: str, meaning: str, *, unmask: bool = False) -> list[FieldText]:
    """Description of bytes that fit no layout; hidden unless `unmask`, since a plate may be among them."""
    return [FieldText(0, len(raw), name, raw.hex().upper() if unmask else STARS, meaning)]


def _value(field: Field, raw: bytes, *, unmask: bool) -> str:
    text = field.coding.show(field.coding.read(raw))
    if unmask or field.privacy is Privacy.OPEN:
        return text
    if field.privacy is Privacy.PLATE:
        return mask_plate(text)
    return mask_number(text) if field.privacy is Privacy.NUMBER else STARS


def _meaning(field: Field, raw: bytes) -> str:
    meaning = field.meaning
    label = _label(field, field.coding.read(raw))
    if label is not None:
        meaning = f"{meaning}: {label.en}"
    complaint = field.complaint(raw)
    return meaning if complaint is None else f"{meaning} (odd: {complaint})"


def _label(field: Field, value: object) -> Label | None:
    if field.labels is None or not isinstance(value, int):
        return None
    return field.labels(value) if callable(field.labels) else field.labels.get(value)
