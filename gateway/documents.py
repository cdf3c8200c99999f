"""TOML files that people write: sections with described keys, and errors that name key, value and cure.

Unknown keys are errors everywhere, because a misspelt key would be a setting that silently is not there.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

VALUE_SHOWN_MAX = 60
"""Characters of a wrong value that are repeated to whoever wrote it."""


class Section(BaseModel):
    """A table of such a file; the text under a key is its description."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing wrong with a file."""

    key: str
    value: str
    problem: str
    cure: str

    def __str__(self) -> str:
        shown = f" = {self.value}" if self.value else ""
        return f"{self.key}{shown}: {self.problem}. {self.cure}"


class DocumentError(Exception):
    """The file cannot be used; every problem names key, value and cure."""

    def __init__(self, path: Path, problems: list[Problem]) -> None:
        self.path = path
        self.problems = problems
        self.lines = [f"{path}: {problem}" for problem in problems]
        """For people, one a problem."""
        super().__init__("\n".join(self.lines))


def parameters(model: type[BaseModel], prefix: str = "") -> Iterator[tuple[str, str, str]]:
    """Every key below `model` with its default and description: (key, default, description)."""
    for name, field in model.model_fields.items():
        inner = model_of(field.annotation)
        key = f"{prefix}{name}"
        if inner is not None:
            yield from parameters(inner, f"{key}.")
        else:
            default = "required" if field.is_required() else str(field.get_default(call_default_factory=True))
            yield key, default, described(field)


def described(field: FieldInfo) -> str:
    """What stands under a key in the source, as one line."""
    return " ".join((field.description or "").split())


def model_of(annotation: Any) -> type[BaseModel] | None:  # noqa: ANN401 - whatever a field is annotated with
    """The section behind an annotation, None for a plain value."""
    candidates = (annotation, *getattr(annotation, "__args__", ()))
    return next((c for c in candidates if isinstance(c, type) and issubclass(c, BaseModel)), None)


def problem_of(found: ErrorDetails, root: type[BaseModel]) -> Problem:
    """Turn a schema error in a file of shape `root` into key, value and cure."""
    path = found["loc"]
    key = ""
    for part in path:
        key += f"[{part}]" if isinstance(part, int) else f".{part}" if key else str(part)
    description = _description(path, root)
    if found["type"] == "extra_forbidden":
        return Problem(key, shortened(found["input"]), "is not a known key", "Remove it or correct its spelling")
    if found["type"] == "missing":
        return Problem(key, "", "is missing", f"Add it: {description}" if description else "Add it")
    return Problem(
        key, shortened(found["input"]), found["msg"], f"Expected: {description}" if description else "Correct the value"
    )


def shortened(value: Any) -> str:  # noqa: ANN401 - whatever stood in the file
    """A value as it may be repeated in a message."""
    text = repr(value)
    return text if len(text) <= VALUE_SHOWN_MAX else text[: VALUE_SHOWN_MAX - 3] + "..."


def _description(path: tuple[int | str, ...], root: type[BaseModel]) -> str:
    model: type[BaseModel] | None = root
    text = ""
    for part in path:
        if isinstance(part, int) or model is None or part not in model.model_fields:
            continue
        field = model.model_fields[part]
        text = described(field)
        model = model_of(field.annotation)
    return text
