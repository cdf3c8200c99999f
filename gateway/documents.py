"""TOML files that people write: sections with described keys, and errors that name key, value and cure.

Unknown keys are errors everywhere, because a misspelt key would be a setting that silently is not there.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from inspect import get_annotations
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from gateway.schema_texts import text_of as text_of_finding
from gateway.text_files import NotText
from gateway.texts.catalogue import Language, Pair, Text, Words, chinese

VALUE_SHOWN_MAX = 60
"""Characters of a wrong value that are repeated in the error message."""

PORT_MAX = 65_535


def with_port(address: str) -> str:
    """Check the port of an address."""
    if not 0 < int(address.rpartition(":")[2]) <= PORT_MAX:
        raise ValueError(Words("documents.port-out-of-range", highest=PORT_MAX))
    return address


_TIME = re.compile(r"([01][0-9]|2[0-3]):[0-5][0-9]", re.ASCII)


def _time(text: str) -> str:
    if _TIME.fullmatch(text) is None:
        raise ValueError(Words("documents.no-time"))
    return text


Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]{0,39}$")]
TimeOfDay = Annotated[str, AfterValidator(_time)]
"""Time of day, HH:MM."""
Hex8 = Annotated[str, Field(pattern=r"^[0-9A-Fa-f]{8}$")]
HostPort = Annotated[str, Field(pattern=r"^[A-Za-z0-9_.\-\[\]:]+:[0-9]{1,5}$"), AfterValidator(with_port)]


class Section(BaseModel):
    """A table of such a file; the text under a key is its description."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


@dataclass(frozen=True, slots=True)
class Problem:
    """Problem: one thing wrong with a file."""

    key: str
    value: str
    problem: Text
    cure: Text

    def told(self, language: Language) -> str:
        """All of it in one line."""
        shown = f" = {self.value}" if self.value else ""
        return f"{self.key}{shown}: {self.problem.told(language)}. {self.cure.told(language)}"

    def __str__(self) -> str:
        return self.told(Language.EN)


class DocumentError(Exception):
    """Error of a file that cannot be used; every problem names key, value and cure."""

    def __init__(self, path: Path, problems: list[Problem]) -> None:
        self.path = path
        self.problems = problems
        self.lines = [
            Pair(*(f"{path}: {problem.told(each)}" for each in (Language.EN, Language.ZH))) for problem in problems
        ]
        """Problems as text for people, one a line."""
        super().__init__("\n".join(line.en for line in self.lines))


def host_port(address: str) -> tuple[str, int]:
    """Split an address that the schema has accepted."""
    host, _, port = address.rpartition(":")
    return host.strip("[]"), int(port)


def parameters(model: type[BaseModel], prefix: str = "") -> Iterator[tuple[str, str, Pair]]:
    """Every key below `model` with its default and description: (key, default, description).

    A key that several kinds of a section share is told once, with all that is said of it.
    """
    for name, field in model.model_fields.items():
        inner = models_of(field.annotation)
        key = f"{prefix}{name}"
        if inner:
            yield from _of_any(inner, f"{key}.")
        else:
            yield key, "required" if field.is_required() else _default(field), described(model, name)


def _of_any(models: list[type[BaseModel]], prefix: str) -> Iterator[tuple[str, str, Pair]]:
    told: dict[str, tuple[str, list[Pair]]] = {}
    for model in models:
        for key, default, description in parameters(model, prefix):
            texts = told.setdefault(key, (default, []))[1]
            if description not in texts:
                texts.append(description)
    for key, (default, texts) in told.items():
        yield key, default, Pair(*map("; ".join, zip(*texts, strict=True)))


def _default(field: FieldInfo) -> str:
    """Default as it would stand in the file; nothing for a key that is left out."""
    value = field.get_default(call_default_factory=True)
    return "" if value is None or value in ({}, [], ()) else written(value)


def written(value: Any) -> str:  # noqa: ANN401 - whatever stands in a file
    """Value as a file has it: `true`, not `True`."""
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(written, value))}]"
    if isinstance(value, Mapping):
        return f"{{{', '.join(f'{key} = {written(item)}' for key, item in value.items())}}}"
    return str(value).lower() if isinstance(value, bool) else str(value)


def described(model: type[BaseModel], name: str) -> Pair:
    """Description of a key: the English text stands under it in the source, the Chinese one in the catalogue."""
    section = next(kind for kind in model.__mro__ if name in get_annotations(kind))
    english = " ".join((model.model_fields[name].description or "").split())
    return Pair(english, chinese(f"key.{section.__name__}.{name}") or english)


def models_of(annotation: Any) -> list[type[BaseModel]]:  # noqa: ANN401 - whatever a field is annotated with
    """Sections that an annotation allows: several where each has its own `kind`, none for a plain value."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for inner in getattr(annotation, "__args__", ()) for model in models_of(inner)]


def problem_of(found: ErrorDetails, root: type[BaseModel]) -> Problem:
    """Turn a schema error in a file of shape `root` into key, value and cure."""
    key, description = _place(found["loc"], root)
    value = shortened(found["input"])
    if found["type"] == "extra_forbidden":
        return Problem(key, value, Words("documents.unknown-key"), Words("documents.remove-or-correct-spelling"))
    if found["type"] == "union_tag_invalid":
        context = found.get("ctx", {})
        known = known_are(re.findall("'([^']+)'", str(context.get("expected_tags"))))
        return Problem(f"{key}.kind", repr(context.get("tag")), Words("documents.unknown-kind"), known)
    if found["type"] == "union_tag_not_found":
        return Problem(f"{key}.kind", "", Words("documents.missing"), Words("documents.add-kind"))
    if found["type"] == "missing":
        cure = Words("documents.add-described", description=description) if description.en else Words("documents.add")
        return Problem(key, "", Words("documents.missing"), cure)
    expected = Words("documents.expected", description=description) if description.en else Words("documents.correct")
    return Problem(key, value, text_of_finding(found), expected)


def known_are(names: Iterable[str]) -> Words:
    """Cure that lists what may stand there."""
    return Words("documents.known-are", known=", ".join(names))


def unreadable(error: OSError) -> Problem:
    """Problem of a file that cannot be read."""
    return Problem("file", "", Pair.same(error.strerror or str(error)), Words("documents.name-readable-file"))


def too_large(size: int) -> Problem:
    """Problem of a file that is larger than any of its kind."""
    return Problem("file", f"{size} bytes", Words("documents.too-large"), Words("documents.check-path"))


def not_toml(error: ValueError) -> Problem:
    """Problem of a file that is not TOML: another encoding, a slip, or a number without end."""
    if isinstance(error, NotText):
        return Problem("file", "", error.problem, error.cure)
    return Problem("file", "", Words("documents.not-toml", error=str(error)), Words("documents.correct-place"))


def shortened(value: Any) -> str:  # noqa: ANN401 - whatever stood in the file
    """Value as it may be repeated in a message, shortened."""
    text = repr(value)
    return text if len(text) <= VALUE_SHOWN_MAX else text[: VALUE_SHOWN_MAX - 3] + "..."


def _place(path: tuple[int | str, ...], root: type[BaseModel]) -> tuple[str, Pair]:
    """Key as it stands in the file, and the description of the last one known."""
    models: list[type[BaseModel]] = [root]
    key, text = "", Pair.same("")
    for part in path:
        if isinstance(part, int):
            key += f"[{part}]"
            continue
        if part == "[key]":  # not the value is wrong: the name it has
            continue
        of_kind = [model for model in models if part in _kinds(model)]
        if of_kind:  # not a key: which of several sections it is
            models = of_kind
            continue
        key += f".{part}" if key else part
        model = next((model for model in models if part in model.model_fields), None)
        if model is not None:
            text = described(model, part)
            models = models_of(model.model_fields[part].annotation)
    return key or "file", text


def _kinds(model: type[BaseModel]) -> tuple[str, ...]:
    """Values that choose this section: of its `kind`, or the `tag` of one that is told by other keys."""
    kind = model.model_fields.get("kind")
    return (getattr(model, "tag", ""),) if kind is None else getattr(kind.annotation, "__args__", ())
