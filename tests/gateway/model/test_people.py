"""Two names are two people unless they are one account written in two ways."""

import pytest

from gateway.model.dual_control import are_two


@pytest.mark.parametrize(
    ("one", "other", "two"),
    [
        ("wang", "li", True),
        ("wang", "wang", False),
        ("wang", " Wang ", False),
        ("STRASSE", "straße", False),
        ("ÄNNE", "änne", False),
        (None, "li", False),
        ("wang", None, False),
        ("", "li", False),
        ("wang", "  ", False),
    ],
)
def test_two_names(one, other, two):
    assert are_two(one, other) is two
