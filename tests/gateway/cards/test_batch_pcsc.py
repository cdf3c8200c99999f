"""Cards of a delivery laid on a real reader one after another: found out by the batch as those in memory are."""

import asyncio
import json
import queue
import threading
from datetime import datetime

from gateway.cards.batch import Batch, Result, work_off
from gateway.cli.card_reader import cards
from gateway.texts.catalogue import Language
from protocols.codings import CHINA_TIME
from tests.gateway.cards.odd_cards import user_card
from tests.gateway.cards.sixty import PLANTED, TODAY, card
from tests.programs import program

DELIVERY = (1, 4, 7, 9, 12, 17, 18, 21, 24, 27, 30, 33, 36, 45, 51, 54, 60)
"""Places of the sixty cards: every kind of chip, the double with the card it doubles, and good ones."""


class Hand:
    """A person at the reader, who lays a card when the next is asked for and takes it away when its line was told."""

    def __init__(self, slot, chips):
        self._slot = slot
        self._signs = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._work, args=(chips,))
        self._thread.start()

    def asked(self):
        self._signs.put(True)

    def told(self, _):
        self._signs.put(True)

    def leave(self):
        self._signs.put(False)
        self._thread.join()

    def _work(self, chips):
        for chip in chips:
            if not self._signs.get():
                return
            self._slot.insert(chip)
            if not self._signs.get():
                return
            self._slot.remove()


def test_a_delivery_on_a_real_reader(pcsc, golden, tmp_path):
    slot = pcsc.slots[0]
    hand = Hand(slot, [card(number) for number in DELIVERY])
    batch = Batch(tmp_path / "record.csv", golden, language=Language.EN, unmask=False)
    now = datetime(TODAY.year, TODAY.month, TODAY.day, 9, tzinfo=CHINA_TIME)

    async def work():
        async with cards(slot.reader) as next_card:

            def next_asked():
                hand.asked()
                return next_card()

            await work_off(batch, next_asked, count=len(DELIVERY), now=lambda: now, tell=hand.told)

    try:
        asyncio.run(work())
    finally:
        hand.leave()
        batch.close()
    found = {number: one for number, one in zip(DELIVERY, batch.tested, strict=True)}
    assert {n for n, one in found.items() if one.result is Result.ACCEPTED} == set(DELIVERY) - set(PLANTED)
    missed = {n: found[n].defects for n in DELIVERY if n in PLANTED and PLANTED[n][0] not in found[n].defects}
    assert missed == {}


def test_a_card_on_a_real_reader_is_read_by_the_program(pcsc):
    slot = pcsc.slots[1]
    slot.insert(user_card())
    with program("gateway.cli.main", "card", "read", "--reader", slot.reader, "--json") as etcgw:
        found = json.loads(etcgw.stdout.read())
    assert (found["kind"], found["number"], found["balance_fen"]) == ("etc", "***0001", 50_000)
