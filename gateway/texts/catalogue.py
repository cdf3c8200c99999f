"""Catalogues of texts: a code leads to the same text in every language.

A catalogue is a folder with a file of gettext for each language (`zh.po`, people edit it) and what the standard
library reads of it (`zh.mo`, made by `make texts`). Message ids are codes, so that English is a translation like any
other and correcting it touches no code. `{name}` in a text stands for a value that the code gives with it.
"""

from __future__ import annotations

import gettext
import os
from collections.abc import Mapping
from enum import StrEnum
from functools import cache
from pathlib import Path
from typing import ClassVar, NamedTuple, Protocol


class Language(StrEnum):
    """Language of texts for people. Codes and JSON keys never change with it."""

    ZH = "zh"
    EN = "en"

    @classmethod
    def of_environment(cls, environment: Mapping[str, str] = os.environ) -> Language:
        """Language of the locale, in its own order: LC_ALL, LC_MESSAGES, LANG."""
        for name in ("LC_ALL", "LC_MESSAGES", "LANG"):
            value = environment.get(name)
            if value:
                return cls.ZH if value.lower().startswith("zh") else cls.EN
        return cls.EN


class Text(Protocol):
    """A text that exists in every language."""

    def told(self, language: Language) -> str:
        """The text in one of them."""
        ...


class Pair(NamedTuple):
    """A text that somebody else's table gives in both languages: reasons, events, colours, fields of a protocol."""

    en: str
    zh: str

    def told(self, language: Language) -> str:
        """The text in one language."""
        return self.zh if language is Language.ZH else self.en

    def __str__(self) -> str:
        return self.en

    @classmethod
    def same(cls, text: str) -> Pair:
        """A text that is the same in every language: a code, a name, what another program said."""
        return cls(text, text)


class Words:
    """A text of the gateway's catalogue, by its code, with the values that stand in it.

    A value that is a text itself is told in the same language.
    """

    __slots__ = ("code", "values")

    FOLDER: ClassVar[Path] = Path(__file__).parent

    def __init__(self, code: str, /, **values: object) -> None:
        self.code = code
        self.values = values

    def told(self, language: Language) -> str:
        """The text in one language.

        Raises:
            KeyError: no such code, or a value is missing. A test finds both before anybody else does.
        """
        template = _messages(self.FOLDER, language)[self.code]
        if not self.values:
            return template
        told = {
            name: value.told(language) if isinstance(value, Words | Pair) else value
            for name, value in self.values.items()
        }
        return template.format_map(told)

    def __str__(self) -> str:
        return self.told(Language.EN)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join([repr(self.code), *(f'{k}={v!r}' for k, v in self.values.items())])})"

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and (other.code, other.values) == (self.code, self.values)

    def __hash__(self) -> int:
        return hash(self.code)


def has(code: str, folder: Path = Words.FOLDER) -> bool:
    """True when a catalogue knows a code."""
    return code in _messages(folder, Language.EN)


def chinese(code: str) -> str | None:
    """Chinese text of the gateway's catalogue for what says its English itself; None where nobody has translated it."""
    return _messages(Words.FOLDER, Language.ZH).get(code)


def codes(folder: Path = Words.FOLDER) -> frozenset[str]:
    """All codes of a catalogue."""
    return frozenset(_messages(folder, Language.EN))


@cache
def _messages(folder: Path, language: Language) -> Mapping[str, str]:
    with (folder / f"{language}.mo").open("rb") as file:
        return _Messages(file).by_code


class _Messages(gettext.GNUTranslations):
    """Reads a file of messages. `gettext()` would give back a code that it does not know: here that is an error."""

    _catalog: dict[str, str]

    @property
    def by_code(self) -> Mapping[str, str]:
        """Texts by code; the empty code is the file's own heading."""
        return {code: text for code, text in self._catalog.items() if code}
