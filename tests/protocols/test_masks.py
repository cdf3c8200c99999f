"""Plates and numbers look alike wherever they are masked."""

import pytest

from protocols.masks import mask_number, mask_plate


@pytest.mark.parametrize(
    ("plate", "masked"),
    [("", ""), ("测", "***"), ("测A123", "***"), ("测A1234", "测A***34"), ("测A12345", "测A***45")],
)
def test_a_plate(plate, masked):
    assert mask_plate(plate) == masked


@pytest.mark.parametrize(
    ("number", "masked"),
    [("", ""), ("12", "***"), ("1234567", "***"), ("12345678", "***5678"), ("99012301220100000017", "***0017")],
)
def test_a_number(number, masked):
    assert mask_number(number) == masked
