"""Kinds of cards by their answers to reset; examples of PC/SC part 3 and of the virtual reader."""

import pytest

from protocols.card.atr import CardKind, card_kind


@pytest.mark.parametrize(
    ("atr", "kind"),
    [
        ("", None),
        ("3B6800000073C84000009000", CardKind.CONTACT),
        ("3F6525082F0468900000", CardKind.CONTACT),
        ("3B8180", CardKind.CONTACT),
        ("3B80800101", CardKind.CONTACTLESS),
        ("3B888001000000000000000009", CardKind.CONTACTLESS),
        ("3B8F8001804F0CA000000306030001000000006A", CardKind.MEMORY),
    ],
)
def test_a_kind_is_told_by_the_answer_to_reset(atr, kind):
    assert card_kind(bytes.fromhex(atr)) is kind
