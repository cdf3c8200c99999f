"""Sixty cards with defects of many kinds: every planted one is found, and no good card is rejected."""

import asyncio
from datetime import datetime

import pytest

from gateway.cards.batch import Batch, Result, work_off
from gateway.texts.catalogue import Language
from protocols.codings import CHINA_TIME
from tests.gateway.cards.conftest import feed
from tests.gateway.cards.sixty import PLANTED, TODAY, card

CARDS = 60


@pytest.fixture
def work(tmp_path, golden):
    """Test chips with the record of this test, as a run of its own; gives the record's rows."""

    def call(chips, count):
        batch = Batch(tmp_path / "record.csv", golden, language=Language.EN, unmask=False)
        now = datetime(TODAY.year, TODAY.month, TODAY.day, 9, tzinfo=CHINA_TIME)
        try:
            asyncio.run(work_off(batch, feed(chips), count=count, now=lambda: now, tell=lambda _: None))
        finally:
            batch.close()
        return batch.tested

    return call


def check(tested):
    found = {one.no: one.defects for one in tested if one.result is Result.REJECTED}
    missed = {no: code for no, (code, _) in PLANTED.items() if no <= len(tested) and code not in found.get(no, ())}
    false = {no: codes for no, codes in found.items() if no not in PLANTED}
    assert (missed, false) == ({}, {})


def test_every_planted_defect_is_found_and_no_good_card_rejected(work):
    assert len({code for code, _ in PLANTED.values()}) >= 12
    tested = work(map(card, range(1, CARDS + 1)), CARDS)
    assert len(tested) == CARDS
    check(tested)


def test_a_batch_cut_short_goes_on_and_still_knows_its_doubles(work):
    work(map(card, range(1, 18)), 17)
    tested = work(map(card, range(18, CARDS + 1)), CARDS)
    assert [one.no for one in tested] == list(range(1, CARDS + 1))
    check(tested)
