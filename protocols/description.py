"""Description of one frame, byte by byte, whatever link it is of: values for a screen and for JSON."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from protocols.fields import Field, Label, Privacy, Walked, meaning_of


@dataclass(frozen=True, slots=True)
class FieldDescription:
    """One field. `offset` counts from the first byte of the frame as it came; `raw` is shorter when bytes lack."""

    offset: int
    raw: bytes
    name: str
    value: str
    meaning: str
    problem: str = ""
    hint: str = ""
    privacy: Privacy = Privacy.OPEN
    """Privacy that a display keeps for value and raw bytes."""
    fields: tuple[FieldDescription, ...] = ()
    zh: str = ""
    """Meaning in Chinese, where there is one."""
    span: int | None = None
    """Bytes of the frame that it takes where escaping makes that differ from `raw`; None: as many as `raw` has."""

    @property
    def private(self) -> bool:
        """True when it identifies a vehicle, a tag or a card."""
        return self.privacy is not Privacy.OPEN

    @property
    def length(self) -> int:
        """Bytes of the frame, as it came, that it takes."""
        return len(self.raw) if self.span is None else self.span

    def as_dict(self) -> dict[str, object]:
        """Values for JSON: bytes as hex text, stable keys."""
        return {
            "offset": self.offset,
            "length": self.length,
            "raw": self.raw.hex(),
            "name": self.name,
            "value": self.value,
            "meaning": self.meaning,
            "problem": self.problem or None,
            "hint": self.hint or None,
            "private": self.private,
            "fields": [field.as_dict() for field in self.fields],
        }


@dataclass(frozen=True, slots=True)
class Problem:
    """Fault of a frame, and what to do next."""

    field: str
    offset: int
    text: str
    next_step: str

    def as_dict(self) -> dict[str, object]:
        """Values for JSON."""
        return {"field": self.field, "offset": self.offset, "text": self.text, "next_step": self.next_step}


@dataclass(frozen=True, slots=True)
class FrameDescription:
    """A frame, its fields in the order of the bytes, and everything wrong with it."""

    dialect: str
    raw: bytes
    code: int | None
    layout: str | None
    """Name of the layout, `B4/183`; None when the type or the length is unknown or the type is kept whole."""
    message: str | None
    """Name of the message type."""
    sender: str | None
    """End of the link that says it, in the words of the dialect: `lane` or `rsu`, `controller` or `pump`."""
    source: str | None
    """Source of the layout and how sure it is."""
    fields: tuple[FieldDescription, ...]
    problems: tuple[Problem, ...]

    @property
    def ok(self) -> bool:
        """True when nothing is wrong."""
        return not self.problems

    def as_dict(self) -> dict[str, object]:
        """Values for JSON: bytes as hex text, stable keys."""
        return {
            "dialect": self.dialect,
            "raw": self.raw.hex(),
            "code": None if self.code is None else f"{self.code:02x}",
            "layout": self.layout,
            "message": self.message,
            "sender": self.sender,
            "source": self.source,
            "ok": self.ok,
            "fields": [field.as_dict() for field in self.fields],
            "problems": [problem.as_dict() for problem in self.problems],
        }


def problems_of(fields: Iterable[FieldDescription]) -> Iterable[Problem]:
    """All faults of these fields and what is inside them."""
    for field in fields:
        if field.problem:
            yield Problem(field.name, field.offset, field.problem, field.hint)
        yield from problems_of(field.fields)


def described(walked: tuple[Walked, ...], places: Sequence[int]) -> tuple[FieldDescription, ...]:
    """Fields of a layout as found in bytes, in both languages where they are declared so.

    `places`: offset in the frame of each byte walked, and at the end the end of the last of them.
    """
    values = {found.name: found.value for found in walked}
    return tuple(_described(found, values, places) for found in walked)


def _described(found: Walked, neighbours: dict[str, object], places: Sequence[int]) -> FieldDescription:
    one = found.field
    zh = one.zh if isinstance(one, Field) else ""
    value, meaning = "", one.meaning
    if isinstance(one, Field) and found.value is not None and not found.children:
        value = str(found.value) if found.index is not None else one.coding.show(found.value)
        word = one.word(found.value, neighbours, found.index)
        meaning = meaning_of(one, word.en if isinstance(word, Label) else word or "")
        zh = f"{zh}：{word.zh}" if isinstance(word, Label) else zh
    return FieldDescription(
        offset=places[found.offset],
        raw=found.raw,
        name=found.name,
        value=value,
        meaning=meaning,
        problem=found.problem,
        hint="keep the frame: its revision of the protocol may differ" if found.problem else "",
        privacy=one.privacy if isinstance(one, Field) else Privacy.OPEN,
        fields=described(found.children, places),
        zh=zh,
        span=span_of(found.offset, len(found.raw), places),
    )


def span_of(at: int, length: int, places: Sequence[int]) -> int | None:
    """Bytes of the frame that so many bytes take, None when they are as many."""
    span = places[at + length] - places[at]
    return None if span == length else span
