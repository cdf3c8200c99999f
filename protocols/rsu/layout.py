"""What every dialect's layout module builds on: the one place that knows how construct behaves.

A `Layout` joins one type byte and one length rule to one message type through a construct Struct. Its names are the
field names of the message, its docs are what people read. The Struct is written once and used three ways: to parse,
to build, and to walk a damaged frame field by field.

Rules kept here for all of them: every Struct ends with Terminated; repetition is counted before parsing, never greedy;
numbers stay numbers, whatever they mean; construct's errors and a bare KeyError leave as ours.
"""

from __future__ import annotations

import dataclasses
import io
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias, cast

import construct

from protocols.errors import LocalProtocolError, RemoteProtocolError
from protocols.rsu.messages import Message

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

Construct: TypeAlias = Any
"""Any part of a layout. The library ships no types, so the checker takes this for Any."""

TYPE = "type"
"""Name of the first field of every layout: the type byte."""

Counts = Mapping[str, int]
"""How many elements each repeated field of a frame has, by field name."""
Plan = Callable[[bytes], Counts | None]
"""Tells from the whole DATA whether a layout fits, and its counts; None when it does not."""
Where = Callable[[bytes], bool]
"""Tells from DATA of the right length whether its content is the layout's."""


def _anywhere(_: bytes) -> bool:
    return True


@dataclass(frozen=True, slots=True)
class WalkedField:
    """One field as found in DATA. Offsets count from the type byte; `value` is None where the bytes ended."""

    name: str
    offset: int
    raw: bytes
    value: object
    doc: str
    problem: str = ""
    children: tuple[WalkedField, ...] = ()


@dataclass(frozen=True, slots=True)
class Layout:
    """One type byte with one length rule."""

    code: int
    rule: str
    """The length rule for people: `37`, or `18+9n`. With the code it names the layout."""
    message: type[Message]
    source: str
    """Document and version the layout comes from, and how sure it is."""
    struct: construct.Struct
    plan: Plan
    records: Mapping[str, type] = dataclasses.field(default_factory=dict)
    """Repeated fields whose elements are values of their own."""
    drops: frozenset[str] = frozenset()
    """Fields (`field`, or `records.field`) that other dialects need and this one has no place for. A message of ours
    may have them set: they are left out. Never a field that money or a file on a card depends on."""
    slots: Mapping[str, tuple[int, Mapping[str, object]]] = dataclasses.field(default_factory=dict)
    """Repeated fields of a fixed number: how many, and the record that fills the places a message of ours leaves."""

    @property
    def name(self) -> str:
        """`B4/183`: type byte in hex and length rule."""
        return f"{self.code:02X}/{self.rule}"

    @property
    def fields(self) -> tuple[str, ...]:
        """Names of the message fields that stand on the wire, in their order."""
        return tuple(sub.name for sub in self.struct.subcons if sub.name not in (None, TYPE))

    def decode(self, data: bytes, counts: Counts) -> Message:
        """The message in `data`. `counts` is what `plan` gave for it."""
        try:
            parsed = self.struct.parse(data, **counts)
        except (construct.ConstructError, KeyError) as error:
            raise RemoteProtocolError(
                f"{self.name} does not hold what its length promises",
                field=_field_of(error),
                data=data,
                clause=self.source,
                hint="keep the frame and compare it with the antenna's manual",
            ) from error
        make = cast("Callable[..., Message]", self.message)
        return make(**{name: self._value(name, parsed[name]) for name in self.fields})

    def misfit(self, message: Message) -> str | None:
        """The name of a field that keeps `message` from having this layout, None when all are there and no more."""
        present = set(self.fields)
        for field in dataclasses.fields(message):
            value = getattr(message, field.name)
            if field.name in present:
                if value is None and field.name not in self._optional():
                    return field.name
                if field.name in self.records and any(self._surplus(field.name, element) for element in value):
                    return field.name
            elif value != field.default and field.name not in self.drops:
                return field.name
        return None

    def encode(self, message: Message) -> bytes:
        """DATA for `message`, which `misfit` has accepted."""
        values = {name: self._plain(name, getattr(message, name)) for name in self.fields}
        for name, (count, blank) in self.slots.items():
            records = cast("list[object]", values[name])
            records += [blank] * (count - len(records))
        counts = {name: len(cast("list[object]", values[name])) for name in self.records}
        try:
            built = cast("bytes", self.struct.build(values, **counts))
        except (construct.ConstructError, KeyError) as error:
            raise LocalProtocolError(
                f"{self.message.__name__} does not fit {self.name}: {_cause_of(error)}",
                field=_field_of(error),
                clause=self.source,
                hint="give every field the size and range of its layout",
            ) from error
        if self.plan(built) != counts:
            raise LocalProtocolError(
                f"{self.name} would not be read back: counts {counts} contradict the counts declared in it",
                field=next(iter(self.records), TYPE),
                clause=self.source,
                hint="declare as many records as there are",
            )
        return built

    def walk(self, data: bytes, length: int) -> tuple[WalkedField, ...]:
        """Every field as far as `data` goes. `length` is what DATA should have, for the counts of a short frame."""
        counts = self.plan(data.ljust(length, b"\0")[:length]) or {}
        return _walk(self.struct, io.BytesIO(data), counts, prefix="")

    def _optional(self) -> set[str]:
        """Fields that are filled in when the message has None for them."""
        return {sub.name for sub in self.struct.subcons if isinstance(_inside(sub), construct.Default)}

    def _surplus(self, name: str, element: object) -> bool:
        """True when a record holds a value its layout has no place for: it would be lost on the wire."""
        array = next(_inside(sub) for sub in self.struct.subcons if sub.name == name)
        places = {sub.name for sub in array.subcon.subcons}
        places |= {drop.removeprefix(f"{name}.") for drop in self.drops}
        values = dataclasses.asdict(cast("DataclassInstance", element))
        return any(value is not None and field not in places for field, value in values.items())

    def _value(self, name: str, parsed: object) -> object:
        if not isinstance(parsed, construct.ListContainer):
            return parsed
        record = self.records.get(name)
        if record is None:
            return tuple(parsed)
        return tuple(record(**{key: value for key, value in item.items() if key != "_io"}) for item in parsed)

    def _plain(self, name: str, value: object) -> object:
        if not isinstance(value, tuple):
            return value
        return [dataclasses.asdict(element) for element in value] if name in self.records else list(value)


def layout(
    code: int,
    length: int | None,
    message: type[Message],
    *fields: Construct,
    source: str,
    rule: str | None = None,
    plan: Plan | None = None,
    records: Mapping[str, type] | None = None,
    drops: frozenset[str] = frozenset(),
    slots: Mapping[str, tuple[int, Mapping[str, object]]] | None = None,
    where: Where = _anywhere,
) -> Layout:
    """Declare one layout: of one `length`, or of the lengths that `plan` accepts and `rule` names.

    `where` tells layouts of the same length apart by their content; `rule` then names them.
    """
    slots = slots or {}
    struct = construct.Struct(TYPE / construct.Const(bytes((code,))) * "message type", *fields, construct.Terminated)
    if length is not None:
        rule = str(length) if rule is None else rule
        plan = _of_length(length, where, {name: count for name, (count, _) in slots.items()})
        declared = sum(sub.sizeof() for sub in struct.subcons[:-1])
        if declared != length:
            raise LocalProtocolError(f"layout {code:02X}/{length} declares {declared} bytes", field=TYPE, clause=source)
    if plan is None or rule is None:
        raise LocalProtocolError(f"layout {code:02X} needs a length, or a rule and a plan", field=TYPE, clause=source)
    return Layout(code, rule, message, source, struct, plan, records or {}, drops, slots)


def _of_length(length: int, where: Where, counts: Counts) -> Plan:
    def plan(data: bytes) -> Counts | None:
        return counts if len(data) == length and where(data) else None

    return plan


# --- field types --------------------------------------------------------------------------------------------------

U8: Construct = construct.Int8ub
U16: Construct = construct.Int16ub
U32: Construct = construct.Int32ub


def raw(size: int) -> Construct:
    """`size` bytes, kept as they are."""
    return construct.Bytes(size)


def reserved(size: int) -> Construct:
    """`size` bytes nobody has explained: kept, and zero when a message of our own has none."""
    return construct.ExprAdapter(construct.Bytes(size), lambda value, _: value, lambda value, _: value or bytes(size))


class _Bcd(construct.Adapter):  # type: ignore[misc]  # the library has no types
    """Bytes to digits and back, as lower-case text."""

    def _decode(self, obj: bytes, context: object, path: str) -> str:
        return obj.hex()

    def _encode(self, obj: str, context: object, path: str) -> bytes:
        size = self.subcon.sizeof()
        if not re.fullmatch(rf"[0-9a-f]{{{2 * size}}}", obj):
            raise construct.ValidationError(f"{obj!r} is not {2 * size} BCD digits", path=path)
        return bytes.fromhex(obj)


def bcd(size: int) -> Construct:
    """`size` bytes as 2 * `size` digits. A nibble above 9 stays as a..f, so that it encodes again as it was."""
    return _Bcd(construct.Bytes(size))


def count_of(name: str) -> Construct:
    """A declared count: kept as it came, and the true number of `name` when a message of our own has None."""
    return construct.Default(construct.Int8ub, lambda context: len(context[name]))


def default(field: Construct, value: object) -> Construct:
    """`field`, and `value` when a message of our own has None."""
    return construct.Default(field, value)


def shifted(field: Construct, by: int) -> Construct:
    """A number that stands on the link as value + `by`."""
    return construct.ExprAdapter(field, lambda value, _: value - by, lambda value, _: value + by)


class _Headed(construct.Adapter):  # type: ignore[misc]  # the library has no types
    """Bytes whose fixed beginning does not go over the link."""

    def __init__(self, subcon: Construct, header: bytes) -> None:
        super().__init__(subcon)
        self._header = header

    def _decode(self, obj: bytes, context: object, path: str) -> bytes:
        return self._header + obj

    def _encode(self, obj: bytes, context: object, path: str) -> bytes:
        size = len(self._header) + self.subcon.sizeof()
        if len(obj) != size or not obj.startswith(self._header):
            text = f"{len(obj)} bytes from {obj[: len(self._header)].hex()}, not {size} from {self._header.hex()}"
            raise construct.ValidationError(text, path=path)
        return obj[len(self._header) :]


def headed(size: int, header: bytes) -> Construct:
    """`size` bytes on the link, which the peer puts behind `header`: the value is both together."""
    return _Headed(construct.Bytes(size), header)


def numbers(count: int) -> Construct:
    """`count` numbers of one byte."""
    return construct.Array(count, construct.Int8ub)


def repeated(name: str, *fields: Construct) -> Construct:
    """As many records as the plan counted for `name`."""
    return name / construct.Array(lambda context: context._params[name], construct.Struct(*fields))


def filled(name: str, count: int, *fields: Construct) -> Construct:
    """Always `count` records."""
    return name / construct.Array(count, construct.Struct(*fields))


def count_of_filled(name: str, field: str) -> Construct:
    """A declared count, and the number of records with any bit set in `field` when a message of our own has None."""
    return construct.Default(construct.Int8ub, lambda context: sum(any(item[field]) for item in context[name]))


# --- walking ------------------------------------------------------------------------------------------------------


def _inside(sub: Construct) -> Construct:
    """What a field wraps: its name and its docs are a wrapper each."""
    while isinstance(sub, construct.Renamed):
        sub = sub.subcon
    return sub


def _walk(struct: Construct, stream: io.BytesIO, counts: Counts, prefix: str) -> tuple[WalkedField, ...]:
    found: list[WalkedField] = []
    for sub in struct.subcons:
        inner = _inside(sub)
        if sub.name is None:  # Terminated
            continue
        if isinstance(inner, construct.Array):
            field = _walk_array(sub, inner, stream, counts, prefix)
        else:
            field = _walk_leaf(prefix + sub.name, sub.docs, inner, stream)
        found.append(field)
        if _ends(field):
            break
    return tuple(found)


def _walk_array(sub: Construct, array: Construct, stream: io.BytesIO, counts: Counts, prefix: str) -> WalkedField:
    start = stream.tell()
    count = array.count if isinstance(array.count, int) else counts.get(sub.name, 0)
    children: list[WalkedField] = []
    for index in range(count):
        name = f"{prefix}{sub.name}[{index}]"
        if isinstance(array.subcon, construct.Struct):
            children.extend(_walk(array.subcon, stream, counts, f"{name}."))
        else:
            children.append(_walk_leaf(name, "", array.subcon, stream))
        if children and _ends(children[-1]):
            break
    raw_bytes = stream.getvalue()[start : stream.tell()]
    return WalkedField(prefix + sub.name, start, raw_bytes, count, sub.docs, "", tuple(children))


def _walk_leaf(name: str, doc: str, leaf: Construct, stream: io.BytesIO) -> WalkedField:
    start = stream.tell()
    needed = leaf.sizeof()
    raw_bytes = stream.read(needed)
    if len(raw_bytes) < needed:
        return WalkedField(name, start, raw_bytes, None, doc, f"needs {needed} bytes, {len(raw_bytes)} left")
    try:
        value = leaf.parse(raw_bytes)
    except construct.ConstructError as error:
        return WalkedField(name, start, raw_bytes, None, doc, _cause_of(error))
    return WalkedField(name, start, raw_bytes, value, doc)


def _ends(field: WalkedField) -> bool:
    """True when the bytes ended in this field or in the last of its children."""
    return bool(field.problem) or (bool(field.children) and _ends(field.children[-1]))


# --- errors -------------------------------------------------------------------------------------------------------


def _field_of(error: Exception) -> str:
    """The field construct was at: the end of its path, which reads `(parsing) -> name`."""
    path = getattr(error, "path", None)
    return path.rsplit(" -> ", 1)[-1] if path and " -> " in path else TYPE


def _cause_of(error: Exception) -> str:
    """The last line of construct's text: the lines before it repeat the path."""
    return str(error).splitlines()[-1]
