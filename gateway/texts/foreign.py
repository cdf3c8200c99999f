"""Texts of those who cannot import the catalogue, told in both languages by what they say.

Drivers, codecs, queries that name a bad row of the ledger, and a running gateway's file of its condition give English.
Where the catalogue has that text, with whatever values, its Chinese is told with the same ones; what an operating
system or a peer says is the same in both languages.
"""

from __future__ import annotations

import re
import string
from collections.abc import Iterator, Mapping
from functools import cache, lru_cache
from types import MappingProxyType
from typing import Final

from gateway.texts.catalogue import Language, Pair, Text, Words, codes

FAMILIES: Final = ("said.", "storage.", "ledger-file.", "decode.")
"""Beginnings of the codes of texts that come to us as text."""

JOINTS: Final = ("; ", ": ", ", ")
"""Marks between two texts in one."""

LENGTH_MAX: Final = 1000
"""Characters of a text that is looked for; a longer one is none of ours."""

KNOWN_MAX: Final = 4096
"""Texts whose Chinese is kept: a capture says the same of thousands of frames."""

NO_LABELS: Final[Mapping[str, str]] = MappingProxyType({})


def text_of(english: str, labels: Mapping[str, str] = NO_LABELS) -> Pair:
    """Text that somebody has given in English. `labels`: Chinese of words that somebody else's table has."""
    return Pair(english, _chinese(english, labels) if len(english) <= LENGTH_MAX else english)


def text_of_error(error: Exception) -> Text:
    """Text of an error that was raised with one, else of what it says."""
    said = error.args[0] if len(error.args) == 1 else None
    return said if isinstance(said, Words | Pair) else text_of(str(error))


def _chinese(english: str, labels: Mapping[str, str] = NO_LABELS) -> str:
    whole = labels.get(english) or _status_words().get(english) or _known(english)
    if whole is not None:
        return whole
    for joint in JOINTS:
        parts = english.split(joint)
        for count in range(len(parts) - 1, 0, -1):
            begun = _known(joint.join(parts[:count]))
            if begun is not None:
                return f"{begun}{joint}{_chinese(joint.join(parts[count:]), labels)}"
    for joint in JOINTS:
        first, there, rest = english.partition(joint)
        if there:
            return f"{_chinese(first, labels)}{joint}{_chinese(rest, labels)}"
    return english


@cache
def _status_words() -> Mapping[str, str]:
    """Chinese of the status words of cards, which their table has in both languages."""
    # Every command imports this module, and few of them ever tell of a card.
    from protocols.card.apdu import STATUS_WORDS

    return {label.en: label.zh for label in STATUS_WORDS.values()}


@lru_cache(KNOWN_MAX)
def _known(english: str) -> str | None:
    """Chinese of a text that the catalogue has as a whole."""
    for own, pattern, code in _patterns():
        # Most are ruled out by their own words, in a tenth of the time.
        found = pattern.fullmatch(english) if own in english else None
        if found:
            told = {name: _chinese(value) for name, value in found.groupdict().items()}
            return Words(code, **told).told(Language.ZH)
    return None


@cache
def _patterns() -> tuple[tuple[str, re.Pattern[str], str], ...]:
    """Patterns of the texts, each behind the longest piece of its own; those with most words of their own first."""
    texts = {code: Words(code).told(Language.EN) for code in codes() if code.startswith(FAMILIES)}
    pieces = {code: [piece for piece, *_ in string.Formatter().parse(text)] for code, text in texts.items()}
    return tuple(
        (max(pieces[code], key=len), re.compile("".join(_pattern(texts[code])), re.DOTALL), code)
        for code in sorted(texts, key=lambda code: sum(map(len, pieces[code])), reverse=True)
    )


def _pattern(text: str) -> Iterator[str]:
    """Pieces of the pattern of a text. A value at its beginning takes in no other text before it."""
    begins = text.startswith("{") and ": " not in text
    for literal, name, _, _ in string.Formatter().parse(text):
        yield re.escape(literal)
        if name is not None:
            yield f"(?P<{name}>(?:(?![:,] ).)+?)" if begins else f"(?P<{name}>.+?)"
        begins = False
