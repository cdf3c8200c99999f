"""Command lines that are wrong: our own refusals, and those of the library in our words and both languages."""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

import typer

from gateway.texts.catalogue import Pair, Text, Words

NAMES: Final = MappingProxyType(
    {
        "NoSuchOption": "no_such_option",
        "MissingParameter": "missing_value",
        "BadParameter": "bad_value",
        "UsageError": "wrong_usage",
    }
)
"""Class of the library, or one above it -> stable name of what is wrong with a command line."""

_SAID: Final[Mapping[str, str]] = MappingProxyType(
    {
        r"No such option: (?P<option>.+)": "usage.no-such-option",
        r"Option (?P<option>.+) requires an argument\.?": "usage.option-without-value",
        r"Option (?P<option>.+) does not take a value\.?": "usage.option-takes-no-value",
        r"No such command (?P<name>.+?)\. Did you mean (?P<meant>.+)\?": "usage.no-such-command-meant",
        r"No such command (?P<name>.+?)\.": "usage.no-such-command",
        r"Missing command\.": "usage.missing-command",
        r"Got unexpected extra argument(?:s|\(s\))? \((?P<arguments>.*)\)": "usage.too-many-arguments",
        r"(?P<value>.+) is not one of (?P<known>.+?)\.?": "usage.not-one-of",
        r"\w+ (?P<path>.+) does not exist\.": "usage.path-missing",
        r"\w+ (?P<path>.+) is a directory\.": "usage.path-is-folder",
        r"\w+ (?P<path>.+) is a file\.": "usage.path-is-file",
        r"\w+ (?P<path>.+) is not (readable|writable)\.": "usage.path-closed",
    }
)
"""Text of the library -> code of ours."""


class BadValue(typer.BadParameter):
    """A value that a command cannot take; `hint` names the option or argument it was given with."""

    def __init__(self, text: Text, hint: str | None = None) -> None:
        super().__init__(str(text), param_hint=hint)
        self.text = text


def problem_of(error: typer.TyperException) -> Text:
    """Problem of a command line, with the part that has it."""
    problem = error.text if isinstance(error, BadValue) else _problem(error)
    if not isinstance(error, typer.BadParameter):
        return problem
    hint = error.param_hint or (None if error.param is None else error.param.get_error_hint())
    place = hint if hint is None or isinstance(hint, str) else " / ".join(map(repr, hint))
    if any(kind.__name__ == "MissingParameter" for kind in type(error).__mro__):
        return Words("usage.missing", place=place)
    return problem if place is None else Words("usage.wrong-value", place=place, problem=problem)


def _problem(error: typer.TyperException) -> Text:
    message = error.message.removeprefix("Value error, ")
    for pattern, code in _SAID.items():
        said = re.fullmatch(pattern, message)
        if said:
            return Words(code, **said.groupdict())
    return _found_by_schema(error) or Pair.same(" ".join(error.format_message().split()))


def _found_by_schema(error: typer.TyperException) -> Text | None:
    """Text for what pydantic found wrong with a value: the library has it check types."""
    errors = getattr(error.__cause__, "errors", None)
    if errors is None:
        return None
    from gateway.schema_texts import text_of

    found = errors()[0]
    return Words("usage.value", value=repr(found["input"]), problem=text_of(found))
