"""TOML files that people write: sections with described keys, and errors that name key, value and cure.

Unknown keys are errors everywhere, because a misspelt key would be a setting that silently is not there.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

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

    def __str__(self) -> str:
        shown = f" = {self.value}" if self.value else ""
        return f"{self.key}{shown}: {self.problem}. {self.cure}"


class DocumentError(Exception):
    """Error of a file that cannot be used; every problem names key, value and cure."""

    def __init__(self, path: Path, problems: list[Problem]) -> None:
        self.path = path
        self.problems = problems
        self.lines = [f"{path}: {problem}" for problem in problems]
        """Problems as text for people, one a line."""
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
            default = "required" if field.is_required() else str(field.get_default(call_default_factory=True))
            yield key, default, described(field)


def _of_any(models: list[type[BaseModel]], prefix: str) -> Iterator[tuple[str, str, str]]:
    told: dict[str, tuple[str, list[str]]] = {}
    for model in models:
        for key, default, description in parameters(model, prefix):
            texts = told.setdefault(key, (default, []))[1]
            if description not in texts:
                texts.append(description)
    for key, (default, texts) in told.items():
        yield key, default, "; ".join(texts)


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
    expected = f"Expected: {description}" if description else "Correct the value"
    if found["type"] == "extra_forbidden":
        return Problem(key, shortened(found["input"]), "is not a known key", "Remove it or correct its spelling")
    if found["type"] == "union_tag_invalid":
        context = found.get("ctx", {})
        known = ", ".join(re.findall("'([^']+)'", str(context.get("expected_tags"))))
        return Problem(f"{key}.kind", repr(context.get("tag")), "is not a known kind", f"Known are: {known}")
    if found["type"] == "union_tag_not_found":
        return Problem(f"{key}.kind", "", "is missing", "Add it: it says what this section is about")
    if found["type"] == "missing":
        return Problem(key, "", "is missing", f"Add it: {description}" if description else "Add it")
    return Problem(key, shortened(found["input"]), found["msg"], expected)


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
        of_kind = [model for model in models if part in _kinds(model)]
        if of_kind:  # not a key: which of several sections it is
            models = of_kind
            continue
        key += f".{part}" if key else part
        field = next((model.model_fields[part] for model in models if part in model.model_fields), None)
        if field is not None:
            text = described(field)
            models = models_of(field.annotation)
    return key, text


def _kinds(model: type[BaseModel]) -> tuple[str, ...]:
    """Values of `kind` that choose this section."""
    kind = model.model_fields.get("kind")
    return () if kind is None else getattr(kind.annotation, "__args__", ())
