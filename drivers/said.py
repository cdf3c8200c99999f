"""Texts of drivers: English for logs, with a code and values by which others can tell them in other languages."""

from __future__ import annotations

from collections.abc import Mapping


class Said(str):
    """English text, made of a template and its values; `code` never changes when the words do."""

    __slots__ = ("code", "values")

    code: str
    values: Mapping[str, object]


def said(code: str, template: str, /, **values: object) -> Said:
    """Text of a driver, from its code and its English template."""
    text = Said(template.format_map(values))
    text.code, text.values = code, values
    return text
