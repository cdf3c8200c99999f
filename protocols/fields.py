"""Declarations of frames, files and bank messages, one language for all; the one module that knows construct.

A `Field` declares all of one value in one place: name, coding, meaning, words for its numbers, privacy, source.
A `Layout` is a run of fields without gaps. It is declared once and used to parse, to build, to change single fields
of bytes that came, to walk damaged bytes and to describe them.

Parsing and building first take the code that construct generates, which is several times quicker and checks nothing;
whatever it trips over is done again field by field, which names the field and the offset. Lengths are checked here,
since generated code reads past the end without an error. Codings of times, texts and plates are in `codings`.
"""

from __future__ import annotations

import dataclasses
import io
import struct
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeAlias, cast

import construct

from protocols.errors import LocalProtocolError, RemoteProtocolError
from protocols.masks import STARS, mask_number, mask_plate

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

Wire: TypeAlias = Any
"""A part of construct. The library ships no types."""

COMPILED_AFTER: Final = 3
"""Uses of a layout before code is generated for it, which takes milliseconds: a peer that sends another shape with
every frame makes none."""

BOUND_KEPT_MAX: Final = 32
"""Counts of records for which a layout is kept ready; a site's antennas use a few."""

_TRIPPED: Final = (construct.ConstructError, struct.error, KeyError, ValueError, TypeError, OverflowError)
"""Errors of generated code, construct's own and others, when bytes or values do not fit."""


class Label(NamedTuple):
    """A word in both languages."""

    zh: str
    en: str


Words: TypeAlias = Mapping[int, "Label | str"] | Callable[[Any, Mapping[str, Any]], "Label | str | None"]
"""A table for the numbers of a field, or what its value means from it and from its neighbours by name."""


class Privacy(Enum):
    """Privacy of a field: the part of it that anybody may see."""

    OPEN = "open"
    PLATE = "plate"
    NUMBER = "number"
    """Number of a card, a tag, an account: its last digits."""
    HIDDEN = "hidden"
    """A person's name, track data, keys, cryptograms: nothing."""

    def masked(self, text: str) -> str:
        """Text with everything hidden that not everybody may see."""
        return _MASKS[self](text)


_MASKS: Final[Mapping[Privacy, Callable[[str], str]]] = {
    Privacy.OPEN: str,
    Privacy.PLATE: mask_plate,
    Privacy.NUMBER: mask_number,
    Privacy.HIDDEN: lambda text: STARS,
}


def _plain_text(value: object) -> str:
    return value.hex() if isinstance(value, bytes) else str(value)


def _nothing_odd(_raw: bytes) -> str | None:
    return None


@dataclass(frozen=True, slots=True, eq=False)
class Coding:
    """One way to hold a value in bytes."""

    wire: Wire
    show: Callable[[Any], str] = _plain_text
    odd: Callable[[bytes], str | None] = _nothing_odd
    """Text about what is odd in readable bytes, None when nothing is."""
    notation: str = ""
    """Notation of the field's own documents, such as `n..19`."""


@dataclass(frozen=True, slots=True, eq=False)
class Field:
    """One value on the wire."""

    name: str
    coding: Coding
    meaning: str
    words: Words | Sequence[Words] | None = None
    """Words for its number; for each of several numbers: a sequence."""
    privacy: Privacy = Privacy.OPEN
    odd: Callable[[bytes], str | None] | None = None
    """Check that replaces the coding's own."""
    default: object = None
    """Value written in place of None or no bytes: the value itself, or what makes it from all values of the layout."""
    zh: str = ""
    source: str = ""
    """Source of this field where it is another than the layout's, and how sure it is."""

    @property
    def wire(self) -> Wire:
        """Construct part of this field."""
        return self.coding.wire

    def parse(self, raw: bytes) -> Any:  # noqa: ANN401 - the coding decides
        """The value of these bytes, which were found to hold one."""
        return self.wire.parse(raw)

    def complaint(self, raw: bytes) -> str | None:
        """Text about what is odd in these bytes, or None."""
        return (self.odd or self.coding.odd)(raw)

    def plain(self, value: object, values: Mapping[str, Any]) -> object:
        """`value` as it is written: filled in where it is missing."""
        if self.default is None or (value is not None and value != b""):
            return value
        return self.default(values) if callable(self.default) else self.default

    def text(self, value: object, *, unmask: bool) -> str:
        """Value as text for display."""
        shown = self.coding.show(value)
        return shown if unmask else self.privacy.masked(shown)

    def explained(self, value: object, neighbours: Mapping[str, Any], index: int | None = None) -> str:
        """Meaning of the value, '' where nothing is to be said."""
        word = self.word(value, neighbours, index)
        return word.en if isinstance(word, Label) else word or ""

    def word(self, value: object, neighbours: Mapping[str, Any], index: int | None = None) -> Label | str | None:
        """Word for the value, None where nothing is to be said."""
        words = self.words
        if isinstance(words, Sequence):
            words = None if index is None else words[index]
        if words is None or value is None:
            return None
        if callable(words):
            return words(value, neighbours)
        return words.get(value, f"{value:02X} is not listed") if isinstance(value, int) else None


@dataclass(frozen=True, slots=True, eq=False)
class Repeated:
    """Records of one shape, one after the other."""

    name: str
    fields: tuple[Field, ...]
    meaning: str
    record: type
    """Frozen value of one record: its attributes are the fields."""
    count: int | None = None
    """None: the layout is bound to a count for every frame."""
    blank: Mapping[str, object] | None = None
    """Values that fill up to `count` where there are fewer records."""
    default: object = None

    @property
    def wire(self) -> Wire:
        """Construct part of these records."""
        return construct.Array(self.count, construct.Struct(*(one.name / one.wire for one in self.fields)))

    def values(self, parsed: Iterable[Any]) -> tuple[object, ...]:
        """The records of parsed elements."""
        return tuple(self.record(**{one.name: item[one.name] for one in self.fields}) for item in parsed)

    def plain(self, records: object, _values: Mapping[str, Any]) -> object:
        """Records as construct wants them."""
        plain = [dataclasses.asdict(cast("DataclassInstance", one)) for one in cast("Sequence[object]", records)]
        if self.count is not None and self.blank is not None:
            plain += [dict(self.blank)] * (self.count - len(plain))
        return plain


class FieldText(NamedTuple):
    """Field as text for display. A plain tuple, so it serialises to JSON as it is."""

    offset: int
    length: int
    name: str
    value: str
    meaning: str


@dataclass(frozen=True, slots=True)
class Walked:
    """One field as found in bytes, whole or damaged."""

    field: Field | Repeated
    name: str
    """`psams[0].auth` inside a record."""
    offset: int
    raw: bytes
    value: Any
    """None where it could not be read."""
    problem: str = ""
    at: int = 0
    """Offset of the problem in `raw`."""
    children: tuple[Walked, ...] = ()
    index: int | None = None
    """Index among several numbers of one field."""

    @property
    def ends(self) -> bool:
        """True when nothing after it can be read."""
        return bool(self.problem) or (bool(self.children) and self.children[-1].ends)

    def trouble(self) -> Walked | None:
        """This field, or its first child with a problem, None when there is none."""
        return self if self.problem else next((found for child in self.children if (found := child.trouble())), None)


class Layout:
    """A run of fields without gaps. Declarations are told apart by identity."""

    def __init__(
        self, name: str, source: str, fields: Iterable[Field | Repeated], *, told_by_length: bool = True
    ) -> None:
        """`told_by_length`: bytes of another length are something else, and not these fields."""
        self.name = name
        self.source = source
        """Document and clause, and how sure it is."""
        self.fields = tuple(fields)
        self._told_by_length = told_by_length
        self._bound: dict[tuple[int, ...], Layout] = {}
        self._uses = 0

    @cached_property
    def names(self) -> frozenset[str]:
        """Names of the fields."""
        return frozenset(one.name for one in self.fields)

    @cached_property
    def repeats(self) -> tuple[Repeated, ...]:
        """The fields that are records."""
        return tuple(one for one in self.fields if isinstance(one, Repeated))

    @cached_property
    def fixed_size(self) -> int | None:
        """Length of the whole, bytes; None where the bytes themselves tell it."""
        if not self._told_by_length:
            return None
        try:
            return int(sum(one.wire.sizeof() for one in self.fields))
        except construct.SizeofError:
            return None  # fields that tell their own length

    @property
    def size(self) -> int:
        """Length of a layout of fixed length, bytes."""
        if self.fixed_size is None:
            raise LocalProtocolError(f"{self.name} has no length of its own", field=self.name, clause=self.source)
        return self.fixed_size

    def bound(self, counts: Mapping[str, int]) -> Layout:
        """This layout with so many records in each `Repeated` that says no number."""
        if not any(one.count is None for one in self.repeats):
            return self
        key = tuple(counts.get(one.name, 0) for one in self.repeats)
        if key not in self._bound:
            numbers = dict(zip((one.name for one in self.repeats), key, strict=True))
            fields = (
                dataclasses.replace(one, count=numbers[one.name]) if isinstance(one, Repeated) else one
                for one in self.fields
            )
            if len(self._bound) >= BOUND_KEPT_MAX:
                del self._bound[next(iter(self._bound))]
            self._bound[key] = Layout(self.name, self.source, fields)
        return self._bound[key]

    # --- bytes to values ------------------------------------------------------------------------------------------

    def parse(self, data: bytes) -> dict[str, Any]:
        """Values by field name. Raises RemoteProtocolError with the field and the offset that do not fit."""
        if self.fixed_size is not None and len(data) != self.fixed_size:
            raise self._misfit(data)
        stream = io.BytesIO(data)
        try:
            parsed = self._code().parse_stream(stream)
        except _TRIPPED as error:
            raise self._misfit(data) from error
        short = self.fixed_size is None and any(len(parsed[name]) != size for name, size in self._sized)
        if short or stream.tell() != len(data):
            raise self._misfit(data)
        values = {name: parsed[name] for name in self._order}
        for one in self.repeats:
            values[one.name] = one.values(values[one.name])
        return values

    def walk(self, data: bytes) -> tuple[Walked, ...]:
        """Every field as far as `data` goes."""
        return tuple(_walked(self.fields, io.BytesIO(data), ""))

    def warnings(self, raw: bytes) -> tuple[str, ...]:
        """One sentence for every odd field, with its offset. Never a plate or a number of a person."""
        found = ((name, start, odd(raw[start:end])) for name, start, end, odd in self._checks)
        return tuple(f"{name} at offset {start} {complaint}" for name, start, complaint in found if complaint)

    def describe(self, raw: bytes, *, unmask: bool = False) -> list[FieldText]:
        """Every field as text with its meaning in English; one line for bytes of another length, whose fields would be
        others than they seem. Never raises."""
        if self.fixed_size not in (None, len(raw)):
            return unreadable(raw, self.name, self._misfit(raw).problem, unmask=unmask)
        return list(_rows(self.walk(raw), unmask=unmask))

    # --- values to bytes ------------------------------------------------------------------------------------------

    def build(self, **values: Any) -> bytes:  # noqa: ANN401 - the field's coding decides the type
        """New bytes. Every field must be given, as None where it has a default, and no other."""
        if self.names != values.keys():
            odd = ", ".join(sorted(self.names ^ values.keys()))
            raise LocalProtocolError(f"fields missing or unknown: {odd}", field=self.name, clause=self.source)
        plain = values
        for one in self._filled_in:
            plain[one.name] = one.plain(plain[one.name], plain)
        if not self.repeats and all(len(plain[name]) == size for name, size in self._sized):
            try:
                return cast("bytes", self._code().build(plain))
            except _TRIPPED:
                pass  # the slow way says which field it was
        return b"".join(self.written(one, plain[one.name]) for one in self.fields)

    def patch(self, raw: bytes, value: object) -> bytes:
        """`raw` with those fields written over that differ from the attributes of `value`.

        Fields that `value` has no attribute for stay, and so do filling, leftover bytes and unexplained codings.
        """
        out = bytearray()
        for _, one, part in self._parts(raw):
            found = one.parse(part)
            wanted = getattr(value, one.name, found)
            out += part if found == wanted else self.written(one, wanted)
        return bytes(out)

    # --- the insides ----------------------------------------------------------------------------------------------

    def _code(self) -> Wire:
        """The parser and builder: generated code, once the layout is used often enough."""
        self._uses += 1
        return self._compiled if self._uses > COMPILED_AFTER else self._struct

    @cached_property
    def _struct(self) -> Wire:
        return construct.Struct(*(one.name / one.wire for one in self.fields))

    @cached_property
    def _compiled(self) -> Wire:
        return self._struct.compile()

    @cached_property
    def _filled_in(self) -> tuple[Field | Repeated, ...]:
        """Fields written otherwise than given: records first, since counts are made from them."""
        return (*self.repeats, *(one for one in self.fields if isinstance(one, Field) and one.default is not None))

    @cached_property
    def _checks(self) -> tuple[tuple[str, int, int, Callable[[bytes], str | None]], ...]:
        """Name, place and check of the fields that can be odd."""
        places = ((offset, one, one.odd or one.coding.odd) for offset, one in self._places)
        return tuple(
            (one.name, offset, offset + one.wire.sizeof(), odd)
            for offset, one, odd in places
            if odd is not _nothing_odd
        )

    @cached_property
    def _order(self) -> tuple[str, ...]:
        return tuple(one.name for one in self.fields)

    @cached_property
    def _sized(self) -> tuple[tuple[str, int], ...]:
        """Bytes of a fixed number: generated code writes however many it is given."""
        return tuple((one.name, one.wire.sizeof()) for one in self.fields if isinstance(one.wire, construct.Bytes))

    @cached_property
    def _places(self) -> tuple[tuple[int, Field], ...]:
        """Offset and field of a layout of fixed length without records."""
        places, offset = [], 0
        for one in cast("tuple[Field, ...]", self.fields):
            places.append((offset, one))
            offset += one.wire.sizeof()
        return tuple(places)

    def _parts(self, raw: bytes) -> Iterator[tuple[int, Field, bytes]]:
        if len(raw) != self.size:
            raise self._misfit(raw)
        ends = (*(offset for offset, _ in self._places[1:]), self.size)
        return ((offset, one, raw[offset:end]) for (offset, one), end in zip(self._places, ends, strict=True))

    def written(self, one: Field | Repeated, value: object) -> bytes:
        """The bytes of one field. Raises LocalProtocolError with its name for what it cannot hold."""
        try:
            return cast("bytes", one.wire.build(value))
        except _TRIPPED as error:
            offset = sum(before.wire.sizeof() for before in self.fields[: self.fields.index(one)] if self.fixed_size)
            # The value itself stays out of the message: it may be a plate.
            raise LocalProtocolError(
                f"{self.name} cannot hold the value: {_cause_of(error)}",
                field=_inner(error, one.name),
                offset=offset if self.fixed_size is not None else None,
                hint=f"give {one.name} the size and range of its layout: {one.meaning}",
                clause=self.source,
            ) from error

    def _misfit(self, data: bytes) -> RemoteProtocolError:
        """Error that says why these bytes are not this layout's."""
        if self.fixed_size is not None and len(data) != self.fixed_size:
            return RemoteProtocolError(
                f"{len(data)} bytes, {self.fixed_size} wanted",
                field=self.name,
                offset=min(len(data), self.fixed_size),
                data=data,
                hint="read it again with the right length",
                clause=self.source,
            )
        walked = self.walk(data)
        for found in walked:
            trouble = found.trouble()
            if trouble is not None:
                return RemoteProtocolError(
                    trouble.problem,
                    field=trouble.name,
                    offset=trouble.offset + trouble.at,
                    data=trouble.raw,
                    hint="keep the bytes and compare them with the maker's or the host's manual",
                    clause=self.source,
                )
        end = sum(len(found.raw) for found in walked)
        return RemoteProtocolError(
            f"{len(data) - end} bytes left over after the last field",
            field=walked[-1].name if walked else self.name,
            offset=end,
            data=data[end:],
            hint="a length inside is wrong, or the sender packs a field differently",
            clause=self.source,
        )


def is_fill(data: bytes) -> bool:
    """True for bytes that were never written: all 00 or all FF."""
    return data in (bytes(len(data)), b"\xff" * len(data))


def unreadable(raw: bytes, name: str, meaning: str, *, unmask: bool = False) -> list[FieldText]:
    """Description of bytes that fit no layout; hidden unless `unmask`, since a plate may be among them."""
    return [FieldText(0, len(raw), name, raw.hex().upper() if unmask else STARS, meaning)]


# --- codings of construct's own kinds ---------------------------------------------------------------------------------


class Misfit(construct.ConstructError):  # type: ignore[misc]  # the library has no types
    """Bytes or a value that a coding does not take."""

    def __init__(self, problem: str, at: int = 0) -> None:
        super().__init__(problem)
        self.problem = problem
        self.at = at
        """Bytes into the field."""


class _Coded(construct.Adapter):  # type: ignore[misc]  # the library has no types
    """A fixed number of bytes, read and written by two plain functions."""

    def __init__(self, size: int, read: Callable[[bytes], Any], write: Callable[[Any, int], bytes]) -> None:
        super().__init__(construct.Bytes(size))
        self._size = size
        self._read = read
        self._write = write

    def _decode(self, obj: bytes, _context: object, _path: str) -> Any:  # noqa: ANN401 - the coding decides
        if len(obj) != self._size:
            raise Misfit(f"needs {self._size} bytes, {len(obj)} left")
        return self._read(obj)

    def _encode(self, obj: Any, _context: object, _path: str) -> bytes:  # noqa: ANN401 - the coding decides
        written = self._write(obj, self._size)
        if len(written) != self._size:
            raise Misfit(f"{len(written)} bytes, {self._size} wanted")
        return written


class _Counted(construct.Construct):  # type: ignore[misc]  # the library has no types
    """Content after its own length in packed digits; the length counts units, of which a byte holds one or two."""

    def __init__(
        self,
        prefix: int,
        most: int,
        per_byte: int,
        read: Callable[[bytes, int], Any],
        write: Callable[[Any], tuple[bytes, int]],
    ) -> None:
        super().__init__()
        self._prefix, self._most, self._per_byte = prefix, most, per_byte
        self._read, self._write = read, write

    def _parse(self, stream: io.BytesIO, _context: object, _path: str) -> Any:  # noqa: ANN401 - the coding decides
        digits = stream.read(self._prefix).hex()
        if len(digits) != 2 * self._prefix:
            raise Misfit(f"needs {self._prefix} bytes of length, {len(digits) // 2} left")
        if not digits.isdecimal():
            raise Misfit("length is not packed digits")
        count = int(digits)
        if count > self._most:
            raise Misfit(f"length {count}, at most {self._most} allowed")
        size = -(-count // self._per_byte)
        raw = stream.read(size)
        if len(raw) != size:
            raise Misfit(f"needs {size} bytes, {len(raw)} left", at=self._prefix)
        try:
            return self._read(raw, count)
        except Misfit as error:
            raise Misfit(error.problem, error.at + self._prefix) from error

    def _build(self, obj: Any, stream: io.BytesIO, _context: object, _path: str) -> Any:  # noqa: ANN401 - as above
        content, count = self._write(obj)
        if count > self._most:
            raise Misfit(f"has length {count}, at most {self._most} allowed")
        stream.write(bytes.fromhex(f"{count:0{2 * self._prefix}d}") + content)
        return obj


def coded(
    size: int,
    read: Callable[[bytes], Any],
    write: Callable[[Any, int], bytes],
    show: Callable[[Any], str] = _plain_text,
    odd: Callable[[bytes], str | None] = _nothing_odd,
) -> Coding:
    """`size` bytes by two functions. `read` raises `Misfit` for what it does not take; `write` gets value and size,
    and raises that, ValueError, TypeError or OverflowError."""
    return Coding(_Coded(size, read, write), show, odd)


def counted(
    prefix: int,
    most: int,
    per_byte: int,
    read: Callable[[bytes, int], Any],
    write: Callable[[Any], tuple[bytes, int]],
) -> Coding:
    """At most `most` units after `prefix` bytes of packed length digits; functions as of `coded`, with the count."""
    return Coding(_Counted(prefix, most, per_byte, read, write))


def const(value: bytes) -> Coding:
    """Bytes that are always these; None builds them."""
    return Coding(construct.Const(value), lambda found: found.hex().upper())


def raw(size: int, show: Callable[[Any], str] = _plain_text) -> Coding:
    """`size` bytes, kept as they are."""
    return Coding(construct.Bytes(size), show)


_INTEGERS: Final = {1: construct.Int8ub, 2: construct.Int16ub, 4: construct.Int32ub, 8: construct.Int64ub}


def uint(size: int, show: Callable[[Any], str] = str) -> Coding:
    """An unsigned number, high byte first."""
    return Coding(_INTEGERS.get(size) or construct.BytesInteger(size), show)


def numbers(count: int) -> Coding:
    """`count` numbers of one byte."""
    return coded(count, tuple, lambda value, _: bytes(value), lambda value: str(len(value)))


# --- walking ----------------------------------------------------------------------------------------------------------


def _walked(fields: Iterable[Field | Repeated], stream: io.BytesIO, prefix: str) -> Iterator[Walked]:
    for one in fields:
        found = _records(one, stream, prefix) if isinstance(one, Repeated) else _leaf(one, stream, prefix)
        yield found
        if found.ends:
            return


def _records(one: Repeated, stream: io.BytesIO, prefix: str) -> Walked:
    start = stream.tell()
    children: list[Walked] = []
    for index in range(one.count or 0):
        children.extend(_walked(one.fields, stream, f"{prefix}{one.name}[{index}]."))
        if children[-1].ends:
            break
    content = stream.getvalue()[start : stream.tell()]
    return Walked(one, prefix + one.name, start, content, one.count, children=tuple(children))


def _leaf(one: Field, stream: io.BytesIO, prefix: str) -> Walked:
    start, name = stream.tell(), prefix + one.name
    try:
        value, problem, at = one.wire.parse_stream(stream), "", 0
    except construct.StreamError:
        needed = one.wire.sizeof()
        stream.seek(0, io.SEEK_END)
        value, problem, at = None, f"needs {needed} bytes, {stream.tell() - start} left", 0
    except Misfit as error:
        value, problem, at = None, error.problem, error.at
    except _TRIPPED as error:
        value, problem, at = None, _cause_of(error), 0
    content = stream.getvalue()[start : stream.tell()]
    children: tuple[Walked, ...] = ()
    if isinstance(value, tuple):
        children = tuple(
            Walked(one, f"{name}[{index}]", start + index, content[index : index + 1], number, index=index)
            for index, number in enumerate(value)
        )
    return Walked(one, name, start, content, value, problem, at, children)


def _rows(walked: tuple[Walked, ...], *, unmask: bool) -> Iterator[FieldText]:
    values = {found.name: found.value for found in walked}
    for found in walked:
        one = found.field
        if isinstance(one, Repeated) or found.children:
            yield from _rows(found.children, unmask=unmask)
        elif found.problem:
            meaning = f"{one.meaning} (damaged: {found.problem})"
            yield FieldText(found.offset, len(found.raw), found.name, "", meaning)
        else:
            meaning = meaning_of(one, one.explained(found.value, values, found.index), one.complaint(found.raw))
            shown = str(found.value) if found.index is not None else one.text(found.value, unmask=unmask)
            yield FieldText(found.offset, len(found.raw), found.name, shown, meaning)


def meaning_of(field: Field | Repeated, explained: str, odd: str | None = None) -> str:
    """Meaning of a field and of its value, and what is odd about it."""
    meaning = f"{field.meaning}: {explained}" if explained and field.meaning else explained or field.meaning
    return meaning if odd is None else f"{meaning} (odd: {odd})"


# --- errors -----------------------------------------------------------------------------------------------------------


def _inner(error: Exception, name: str) -> str:
    """The field inside a record construct was at: the end of its path, which reads `(building) -> name`."""
    path = getattr(error, "path", None)
    return path.rsplit(" -> ", 1)[-1] if path and " -> " in path else name


def _cause_of(error: Exception) -> str:
    """Cause of an error, without the value: the last line of construct's text, before which it repeats the path."""
    if isinstance(error, Misfit):
        return error.problem
    return str(error).splitlines()[-1] if isinstance(error, construct.ConstructError) else type(error).__name__
