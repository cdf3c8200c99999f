"""Description of one frame, byte by byte: each field's name, value and meaning, and what is wrong with it.

A damaged frame is described as far as its bytes go; nothing here raises because of what the bytes are. Files inside a
frame (vehicle file, 0015, 0019) are one field each; the functions that read them are given by field name.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace

from protocols.description import FieldDescription, FrameDescription, problems_of
from protocols.errors import ProtocolError
from protocols.fields import Field, Privacy, Walked, meaning_of
from protocols.rsu.dialect import Dialect, Side
from protocols.rsu.framing import FrameField, Inspection
from protocols.rsu.layout import TYPE, FrameLayout

__all__ = ["FieldDescription", "FileDescriber", "FrameDescription", "describe_frame"]

FileRow = tuple[int, int, str, str, str]
"""Offset in the file, length in bytes, name, value, meaning."""
FileDescriber = Callable[[bytes], Iterable[FileRow]]
NO_FILES: Mapping[str, FileDescriber] = {}


def describe_frame(dialect: Dialect, raw: bytes, files: Mapping[str, FileDescriber] = NO_FILES) -> FrameDescription:
    """Describe one frame, whole or damaged. `files` reads the content of fields such as `card_file`, by name."""
    seen = dialect.framing.inspect(raw)
    length = len(seen.data) if seen.data_length is None else seen.data_length
    code = seen.data[0] if seen.data else None
    layout = _layout_for(dialect, seen.data, length)
    if layout is not None:
        inside = _Place(dialect, layout, seen, files).describe(seen.data, length)
        message: str | None = layout.message.__name__
    else:
        inside = _loose_fields(dialect, seen)
        message = "Unmodelled" if code in dialect.unmodelled else None
        if code is None and dialect.empty_frames and seen.data_length == 0:
            message = "Acknowledge"
    fields = (*map(_framing_field, seen.before), *inside, *map(_framing_field, seen.after))
    return FrameDescription(
        dialect=dialect.name,
        raw=raw,
        code=code,
        layout=layout.name if layout else None,
        message=message,
        sender=_sender(dialect, code),
        source=layout.source if layout else None,
        fields=fields,
        problems=tuple(problems_of(fields)),
    )


def _layout_for(dialect: Dialect, data: bytes, length: int) -> FrameLayout | None:
    """Layout by the bytes present, else by what LEN promises (a frame cut short)."""
    found = dialect.layout_of(data)
    if found is None and data and len(data) < length:
        for layout in dialect.layouts_of(data[0]):
            if layout.plan(data.ljust(length, b"\0")) is not None:
                return layout
    return found


def _sender(dialect: Dialect, code: int | None) -> str | None:
    return next((side.value for side in Side if code in dialect.rules[side].sends), None)


def _framing_field(field: FrameField) -> FieldDescription:
    return FieldDescription(field.offset, field.raw, field.name, field.value, field.meaning, field.problem, field.hint)


@dataclass(frozen=True, slots=True)
class _Place:
    """Context in which a field of DATA is described."""

    dialect: Dialect
    layout: FrameLayout
    seen: Inspection
    """Inspected frame, which tells where the bytes of DATA stand."""
    files: Mapping[str, FileDescriber]

    def describe(self, data: bytes, length: int) -> tuple[FieldDescription, ...]:
        """Every field of DATA; `length` is what LEN promises, which counts when bytes lack."""
        walked = self.layout.walk(data, len(data) if self.layout.plan(data) is not None else length)
        return tuple(_describe(self, field, walked) for field in walked)


def _describe(place: _Place, found: Walked, siblings: tuple[Walked, ...]) -> FieldDescription:
    field = found.field
    reader = None if found.problem else place.files.get(found.name)
    explained = ""
    if found.name == TYPE:
        explained = place.layout.message.__name__
    elif isinstance(field, Field) and reader is None and not found.children and not found.problem:
        explained = field.explained(found.value, {sibling.name: sibling.value for sibling in siblings}, found.index)
    described = FieldDescription(
        offset=place.seen.place(found.offset),
        raw=found.raw,
        span=_span(place.seen, found.offset, len(found.raw)),
        name=found.name,
        value=_value_text(found),
        meaning=meaning_of(field, explained),
        problem=found.problem,
        hint="the frame ends too early: give the whole frame, or wait for the repetition" if found.problem else "",
        privacy=field.privacy if isinstance(field, Field) else Privacy.OPEN,
        fields=tuple(_describe(place, child, found.children) for child in found.children),
    )
    return described if reader is None else _with_file(described, reader, found, place.seen)


def _span(seen: Inspection, start: int, length: int) -> int | None:
    """Bytes of the frame that `length` bytes of DATA take, None when they are as many."""
    span = seen.place(start + length) - seen.place(start)
    return None if span == length else span


def _with_file(field: FieldDescription, reader: FileDescriber, walked: Walked, seen: Inspection) -> FieldDescription:
    """The field with what its file holds; a file that cannot be read is a problem of this field only.

    The file may begin with bytes that do not go over the link (the header of 0019 in the serial dialects): a row inside
    them takes no bytes of the frame.
    """
    content = walked.value if isinstance(walked.value, bytes) else walked.raw
    unsent = len(content) - len(walked.raw)
    try:
        rows = tuple(reader(content))
    except ProtocolError as error:
        hint = error.hint or "show the raw bytes to whoever issued the card"
        return replace(field, problem=error.problem, hint=hint)
    return replace(
        field,
        fields=tuple(
            FieldDescription(
                offset=seen.place(start),
                raw=walked.raw[start - walked.offset : end - walked.offset],
                name=f"{field.name}.{name}",
                value=value,
                meaning=meaning,
                privacy=field.privacy,
                span=_span(seen, start, end - start),
            )
            for offset, length, name, value, meaning in rows
            for start in (walked.offset + max(0, offset - unsent),)
            for end in (walked.offset + max(0, offset + length - unsent),)
        ),
    )


def _loose_fields(dialect: Dialect, seen: Inspection) -> tuple[FieldDescription, ...]:
    """DATA without a layout: the type byte, and the rest in one piece."""
    data = seen.data
    if not data:
        return ()
    code = data[0]
    known = ", ".join(layout.rule for layout in dialect.layouts_of(code))
    problem = hint = ""
    meaning = "message type"
    other = dialect.foreign(data)
    if other is not None:
        problem = f"a frame of {other}"
        hint = "check address and dialect: the device speaks another"
    elif known:
        problem = f"{code:02X} of {len(data)} bytes has no layout, known are {known}"
        hint = "compare with the antenna's manual: it may speak another revision"
    elif code in dialect.unmodelled:
        meaning = "message type, known but not taken apart"
    else:
        problem = f"type {code:02X} is unknown to {dialect.name}"
        hint = "check which dialect the antenna speaks"
    span = _span(seen, 0, 1)
    fields = [FieldDescription(seen.place(0), data[:1], "type", f"{code:02X}", meaning, problem, hint, span=span)]
    if data[1:]:
        fields.append(
            FieldDescription(
                offset=seen.place(1),
                raw=data[1:],
                name="body",
                value=data[1:].hex(),
                meaning="not taken apart",
                privacy=Privacy.HIDDEN,
                span=_span(seen, 1, len(data) - 1),
            )
        )
    return tuple(fields)


def _value_text(found: Walked) -> str:
    """Text of a value; one of several numbers of a field is shown as a plain number."""
    if found.value is None or not isinstance(found.field, Field) or found.index is not None:
        return "" if found.value is None else str(found.value)
    return found.field.coding.show(found.value)
