"""TOML files that people write: sections with described keys, and errors that name key, value and cure.

Unknown keys are errors everywhere, because a misspelt key would be a setting that silently is not there.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Final

from pydantic import AfterValidator, BaseModel, ConfigDict, Field
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from gateway.schema_texts import text_of as text_of_finding
from gateway.text_files import NotText

VALUE_SHOWN_MAX = 60
"""Characters of a wrong value that are repeated in the error message."""

PORT_MAX = 65_535


def _with_port(address: str) -> str:
    if not 0 < int(address.rpartition(":")[2]) <= PORT_MAX:
        raise ValueError(f"the port is not between 1 and {PORT_MAX}")
    return address


Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]{0,39}$")]
Hex8 = Annotated[str, Field(pattern=r"^[0-9A-Fa-f]{8}$")]
HostPort = Annotated[str, Field(pattern=r"^[A-Za-z0-9_.\-\[\]:]+:[0-9]{1,5}$"), AfterValidator(_with_port)]


class Section(BaseModel):
    """A table of such a file; the text under a key is its description."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


@dataclass(frozen=True, slots=True)
class Problem:
    """Problem: one thing wrong with a file."""

    key: str
    value: str
    problem: str
    cure: str
    problem_zh: str = ""
    cure_zh: str = ""

    @property
    def words(self) -> tuple[tuple[str, str], tuple[str, str]]:
        """Problem and cure, each in English and Chinese; in English alone where nobody has translated it."""
        return (self.problem, self.problem_zh or self.problem), (self.cure, self.cure_zh or self.cure)

    def line(self, language: int) -> str:
        """All of it in one line; `language` is the place in `words`."""
        shown = f" = {self.value}" if self.value else ""
        problem, cure = self.words
        return f"{self.key}{shown}: {problem[language]}. {cure[language]}"

    def __str__(self) -> str:
        return self.line(0)


class DocumentError(Exception):
    """Error of a file that cannot be used; every problem names key, value and cure."""

    def __init__(self, path: Path, problems: list[Problem]) -> None:
        self.path = path
        self.problems = problems
        self.lines = [f"{path}: {problem}" for problem in problems]
        """Problems as text for people, one a line."""
        self.lines_zh = [f"{path}: {problem.line(1)}" for problem in problems]
        super().__init__("\n".join(self.lines))


def host_port(address: str) -> tuple[str, int]:
    """Split an address that the schema has accepted."""
    host, _, port = address.rpartition(":")
    return host.strip("[]"), int(port)


def parameters(model: type[BaseModel], prefix: str = "") -> Iterator[tuple[str, str, str]]:
    """Every key below `model` with its default and description: (key, default, description).

    A key that several kinds of a section share is told once, with all that is said of it.
    """
    for name, field in model.model_fields.items():
        inner = models_of(field.annotation)
        key = f"{prefix}{name}"
        if inner:
            yield from _of_any(inner, f"{key}.")
        else:
            yield key, "required" if field.is_required() else _default(field), described(field)


def _of_any(models: list[type[BaseModel]], prefix: str) -> Iterator[tuple[str, str, str]]:
    told: dict[str, tuple[str, list[str]]] = {}
    for model in models:
        for key, default, description in parameters(model, prefix):
            texts = told.setdefault(key, (default, []))[1]
            if description not in texts:
                texts.append(description)
    for key, (default, texts) in told.items():
        yield key, default, "; ".join(texts)


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


def described(field: FieldInfo) -> str:
    """Description of a key, from the text under it in the source, as one line."""
    return " ".join((field.description or "").split())


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
        cure = ("Remove it or correct its spelling", "请删除或更正拼写")
        return _problem(key, value, ("is not a known key", "不是已知的键"), cure)
    if found["type"] == "union_tag_invalid":
        context = found.get("ctx", {})
        known = ", ".join(re.findall("'([^']+)'", str(context.get("expected_tags"))))
        cure = (f"Known are: {known}", f"可用: {known}")
        return _problem(f"{key}.kind", repr(context.get("tag")), ("is not a known kind", "不是已知的类型"), cure)
    if found["type"] == "union_tag_not_found":
        cure = ("Add it: it says what this section is about", "请补上: 它说明本节是什么")
        return _problem(f"{key}.kind", "", _MISSING, cure)
    if found["type"] == "missing":
        cure = (f"Add it: {description}", f"请补上: {description}") if description else ("Add it", "请补上")
        return _problem(key, "", _MISSING, cure)
    cure = (f"Expected: {description}", f"应为: {description}") if description else ("Correct the value", "请更正")
    return _problem(key, value, text_of_finding(found), cure)


_MISSING: Final = ("is missing", "缺失")


def _problem(key: str, value: str, problem: tuple[str, str], cure: tuple[str, str]) -> Problem:
    return Problem(key, value, problem[0], cure[0], problem[1], cure[1])


def not_toml(error: ValueError) -> Problem:
    """Problem of a file that is not TOML: another encoding, a slip, or a number without end."""
    if isinstance(error, NotText):
        return _problem("file", "", (error.problem, error.problem_zh), (error.cure, error.cure_zh))
    cure = ("Correct the file at the place named", "请更正所指位置")
    return _problem("file", "", (f"is not TOML: {error}", f"不是 TOML: {error}"), cure)


def shortened(value: Any) -> str:  # noqa: ANN401 - whatever stood in the file
    """Value as it may be repeated in a message, shortened."""
    text = repr(value)
    return text if len(text) <= VALUE_SHOWN_MAX else text[: VALUE_SHOWN_MAX - 3] + "..."


def _place(path: tuple[int | str, ...], root: type[BaseModel]) -> tuple[str, str]:
    """Key as it stands in the file, and the description of the last one known."""
    models: list[type[BaseModel]] = [root]
    key = text = ""
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
        field = next((model.model_fields[part] for model in models if part in model.model_fields), None)
        if field is not None:
            text = described(field)
            models = models_of(field.annotation)
    return key or "file", text


def _kinds(model: type[BaseModel]) -> tuple[str, ...]:
    """Values of `kind` that choose this section."""
    kind = model.model_fields.get("kind")
    return () if kind is None else getattr(kind.annotation, "__args__", ())
