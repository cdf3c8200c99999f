"""Texts of those who cannot import the catalogue: drivers say what they mean in English, with a code beside it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol, runtime_checkable

from gateway.texts.catalogue import Language, Pair, Text, Words, chinese


@runtime_checkable
class Coded(Protocol):
    """A text with the code and the values by which it can be told in another language: `drivers.said.Said`."""

    code: str
    values: Mapping[str, object]


def text_of(said: str) -> Pair:
    """Text of a driver in both languages; what the operating system or a peer says is the same in both."""
    template = chinese(f"driver.{said.code}") if isinstance(said, Coded) else None
    if not isinstance(said, Coded) or template is None:
        return Pair.same(said)
    told = {
        name: text_of(value).told(Language.ZH) if isinstance(value, str) else value
        for name, value in said.values.items()
    }
    return Pair(said, template.format_map(told))


def text_of_error(error: Exception) -> Text:
    """Text of an error that was raised with one; of any other the same in both languages."""
    said = error.args[0] if len(error.args) == 1 else None
    if isinstance(said, Words | Pair):
        return said
    return text_of(said if isinstance(said, str) else str(error))
