"""Section of the site file for a counter."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from pydantic import Field

from gateway.points.card.config import CardPoint
from gateway.points.config import Claim, belongs_to
from gateway.texts.catalogue import Pair, Words

READER_CHARS_MAX = 128
"""Longest name of a reader that PC/SC has (MAX_READERNAME)."""


class CounterPoint(CardPoint):
    """[[charge_points]] kind = "counter" """

    kind: Literal["counter"]
    """"counter" takes money from a user card on a PC/SC reader"""
    reader: str = Field(min_length=1, max_length=READER_CHARS_MAX)
    """name of the reader on the counter, whole or in part, as `etcgw readers` lists it"""
    psam: str = Field(min_length=1, max_length=READER_CHARS_MAX)
    """name of the reader with the PSAM, likewise"""
    repeat_window_s: float = Field(30.0, ge=0, le=86_400)
    """seconds for which a card does not pay the same amount here once more, unless it is asked to"""

    def claims(self) -> Iterator[Claim]:
        """Claims, also to both readers."""
        yield from super().claims()
        for key, value in (("reader", self.reader), ("psam", self.psam)):
            yield Claim(
                ("card reader", value.casefold()),
                key,
                repr(value),
                Pair.same(f"{self.name}.{key}"),
                belongs_to,
                Words("claim.own-reader"),
            )
