"""Base of every dialect's layout module: one type byte with one length rule is one message type.

The names in a layout are the field names of the message, its meanings are for display. Repetition is counted from
the whole DATA before anything is parsed, never greedily.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, cast

from protocols.errors import LocalProtocolError, RemoteProtocolError
from protocols.fields import Field, Layout, Repeated, Walked, const
from protocols.rsu.messages import Message

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

TYPE = "type"
"""Name of the first field of every layout: the type byte."""

Counts = Mapping[str, int]
"""Number of elements of each repeated field of a frame, by field name."""
Plan = Callable[[bytes], Counts | None]
"""Tells from the whole DATA whether a layout fits, and its counts; None when it does not."""
Where = Callable[[bytes], bool]
"""Tells from DATA of the right length whether its content is the layout's."""


def _anywhere(_: bytes) -> bool:
    return True


@dataclass(frozen=True, eq=False)
class FrameLayout:
    """One type byte with one length rule."""

    code: int
    rule: str
    """Length rule for display: `37`, or `18+9n`. With the code it names the layout."""
    message: type[Message]
    layout: Layout
    plan: Plan
    drops: frozenset[str] = frozenset()
    """Fields (`field`, or `records.field`) that other dialects need and this one has no place for. A message of ours
    may have them set: they are left out. Never a field that money or a file on a card depends on."""

    @property
    def name(self) -> str:
        """`B4/183`: type byte in hex and length rule."""
        return f"{self.code:02X}/{self.rule}"

    @property
    def source(self) -> str:
        """Document and version the layout comes from, and how sure it is."""
        return self.layout.source

    @cached_property
    def fields(self) -> Mapping[str, Field | Repeated]:
        """The message's fields that stand on the wire, by name in their order."""
        return {one.name: one for one in self.layout.fields if one.name != TYPE}

    def decode(self, data: bytes, counts: Counts) -> Message:
        """The message in `data`. `counts` is what `plan` gave for it."""
        try:
            values = self.layout.bound(counts).parse(data)
        except RemoteProtocolError as error:
            raise RemoteProtocolError(
                f"{self.name} does not hold what its length promises: {error.problem}",
                field=error.field,
                offset=error.offset,
                data=data,
                clause=self.source,
                hint="keep the frame and compare it with the antenna's manual",
            ) from error
        del values[TYPE]
        return cast("Callable[..., Message]", self.message)(**values)

    def misfit(self, message: Message) -> str | None:
        """The name of a field that keeps `message` from having this layout, None when all are there and no more."""
        for field in dataclasses.fields(message):
            value = getattr(message, field.name)
            declared = self.fields.get(field.name)
            if declared is None:
                fits = value == field.default or field.name in self.drops
            elif isinstance(declared, Repeated):
                fits = not any(self._surplus(declared, element) for element in value)
            else:
                fits = value is not None or declared.default is not None
            if not fits:
                return field.name
        return None

    def encode(self, message: Message) -> bytes:
        """DATA for `message`, which `misfit` has accepted."""
        counts = {one.name: one.count or len(getattr(message, one.name)) for one in self.layout.repeats}
        values: dict[str, Any] = {name: getattr(message, name) for name in self.fields}
        try:
            built = self.layout.bound(counts).build(**{TYPE: None, **values})
        except LocalProtocolError as error:
            raise LocalProtocolError(
                f"{self.message.__name__} does not fit {self.name}: {error.problem}",
                field=error.field,
                clause=self.source,
                hint=error.hint,
            ) from error
        if self.plan(built) != counts:
            raise LocalProtocolError(
                f"{self.name} would not be read back: counts {counts} contradict the counts declared in it",
                field=next(iter(counts), TYPE),
                clause=self.source,
                hint="declare as many records as there are",
            )
        return built

    def walk(self, data: bytes, length: int) -> tuple[Walked, ...]:
        """Every field as far as `data` goes. `length` is what DATA should have, for the counts of a short frame."""
        return self.layout.bound(self.plan(data.ljust(length, b"\0")[:length]) or {}).walk(data)

    def _surplus(self, declared: Repeated, element: object) -> bool:
        """True when a record holds a value its layout has no place for: it would be lost on the wire."""
        places = {one.name for one in declared.fields}
        places |= {drop.removeprefix(f"{declared.name}.") for drop in self.drops}
        values = dataclasses.asdict(cast("DataclassInstance", element))
        return any(value is not None and name not in places for name, value in values.items())


def layout(
    code: int,
    length: int | None,
    message: type[Message],
    *fields: Field | Repeated,
    source: str,
    rule: str | None = None,
    plan: Plan | None = None,
    drops: frozenset[str] = frozenset(),
    where: Where = _anywhere,
) -> FrameLayout:
    """Declare one layout: of one `length`, or of the lengths that `plan` accepts and `rule` names.

    `where` tells layouts of the same length apart by their content; `rule` then names them.
    """
    rule = rule or (None if length is None else str(length))
    declared = Layout(f"{code:02X}/{rule}", source, (Field(TYPE, const(bytes((code,))), "message type"), *fields))
    if length is not None:
        plan = _of_length(length, where, {one.name: one.count or 0 for one in declared.repeats})
        if declared.size != length:
            raise LocalProtocolError(
                f"layout {code:02X}/{length} declares {declared.size} bytes", field=TYPE, clause=source
            )
    if plan is None or rule is None:
        raise LocalProtocolError(f"layout {code:02X} needs a length, or a rule and a plan", field=TYPE, clause=source)
    return FrameLayout(code, rule, message, declared, plan, drops)


def _of_length(length: int, where: Where, counts: Counts) -> Plan:
    def plan(data: bytes) -> Counts | None:
        return counts if len(data) == length and where(data) else None

    return plan


def count_of(name: str) -> Callable[[Mapping[str, Any]], int]:
    """Default of a declared count: the true number of `name` when a message of our own has None."""
    return lambda values: len(values[name])
