"""Money is an integer number of minor units. Here the unit is the fen, one hundredth of a yuan (CNY)."""

from __future__ import annotations

import re
from typing import NewType

Fen = NewType("Fen", int)
"""Amount in fen. Never a float, never yuan."""

CURRENCY = "CNY"
FEN_PER_YUAN = 100

FEN_MAX = Fen(0xFFFF_FFFF)
"""Largest amount one debit may carry: the amount of a purchase command is 4 unsigned bytes (C6 ConsumeMoney)."""

_YUAN = re.compile(r"(-?)([0-9]{1,10})(?:\.([0-9]{1,2}))?", re.ASCII)
"""Ten digits of yuan are the twelve digits of fen that ISO 8583 field 4 can hold."""


def format_fen(amount: int) -> str:
    """Yuan with two decimals for people and for partners that want decimals: 2345 gives `23.45`, -5 gives `-0.05`."""
    yuan, fen = divmod(abs(amount), FEN_PER_YUAN)
    sign = "-" if amount < 0 else ""
    return f"{sign}{yuan}.{fen:02d}"


def parse_yuan(text: str) -> Fen:
    """Fen of a decimal yuan text such as `23.45`, `23.4` or `23`.

    Raises ValueError for anything else: no exponent, sign other than a leading minus, grouping or third decimal,
    because a guess here is somebody's money.
    """
    match = _YUAN.fullmatch(text)
    if match is None:
        raise ValueError(f"not an amount in yuan with at most two decimals: {text!r}; write it like 23.45")
    sign, yuan, fen = match.groups()
    amount = int(yuan) * FEN_PER_YUAN + int((fen or "").ljust(2, "0"))
    return Fen(-amount if sign else amount)
