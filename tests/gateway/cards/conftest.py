"""A pile of cards, and the golden card that they are tested against."""

from contextlib import asynccontextmanager

import pytest

from gateway.cards.compare import golden_of
from tests.gateway.cards.odd_cards import in_slot
from tests.gateway.cards.sixty import GOLDEN


def feed(chips):
    """Next card of a pile: laid there, and taken away when it was tested."""
    return laid(map(in_slot, chips))


def laid(slots):
    """Next of these slots."""
    pile = iter(slots)

    @asynccontextmanager
    async def next_card():
        yield Taken(next(pile))

    return next_card


class Taken:
    """A slot whose card is taken out as soon as somebody waits for it."""

    def __init__(self, slot):
        self._slot = slot

    def __getattr__(self, name):
        return getattr(self._slot, name)

    async def removed(self):
        self._slot.remove()


@pytest.fixture
def golden(tmp_path):
    file = tmp_path / "golden.toml"
    file.write_text(GOLDEN, encoding="utf-8")
    return golden_of(file)
