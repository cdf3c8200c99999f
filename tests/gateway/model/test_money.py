"""Money: integer fen in, two decimals out, and nothing guessed."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.model.money import format_fen, parse_yuan


@pytest.mark.parametrize(
    ("fen", "text"), [(2345, "23.45"), (0, "0.00"), (5, "0.05"), (-5, "-0.05"), (-12345, "-123.45")]
)
def test_format(fen, text):
    assert format_fen(fen) == text


@pytest.mark.parametrize(("text", "fen"), [("23.45", 2345), ("23.4", 2340), ("23", 2300), ("-0.05", -5), ("0.00", 0)])
def test_parse(text, fen):
    assert parse_yuan(text) == fen


@pytest.mark.parametrize(
    "text",
    ["", "23.", ".45", "23.456", "1,000.00", "+1", "1e3", " 1", "1 ", "٣", "１", "--1", "NaN", "12345678901", "1\n"],
)
def test_anything_else_is_refused(text):
    with pytest.raises(ValueError, match="not an amount in yuan"):
        parse_yuan(text)


@given(st.integers(min_value=-(10**12) + 1, max_value=10**12 - 1))
def test_there_and_back(fen):
    assert parse_yuan(format_fen(fen)) == fen
