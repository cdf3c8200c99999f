"""The bench's judge of fillings bites: another litre, another fen, a purse, a delivery that no sale explains."""

import asyncio

import pytest

from hardware.bench.fillings import PURSE, Filler, Filling, car, priced
from hardware.bench.pump_site import Metered, Place

CAR = car(1, "a story", "island-1")
PAYS = car(1, "a story", "island-1", funding=None, card_type=PURSE)
ML, PRICE, FEN = 10_010, 7850, 7858


class Site:
    """Site with one side, whose pump counted one delivery."""

    def __init__(self, card_number, decrements, *metered):
        self.sides, self.islands = {1: Place("line", 80)}, ("island-1",)
        self.controls = {"island-1": self}
        self._card = {"card_number": card_number, "decrements": decrements}
        self._metered = metered

    async def request(self, command):
        assert command == "cards"
        return {"cards": [self._card]}

    async def book(self):
        return list(self._metered)

    async def totals_ml(self):
        return sum(one.volume_ml for one in self._metered)


class View:
    """Ledger with one sale, and what is in `more`."""

    def __init__(self, volume_ml, amount_fen, debit="funded", *more):
        funding = "bank_online"
        self._rows = [(1, "billed", debit, volume_ml, amount_fen, funding, CAR.obu_id, "d", None), *more]

    def table(self, _sql):
        return self._rows

    def value(self, _sql, *_arguments):
        return None


def judged(view, *metered, vehicle=CAR, decrements=(), **expected):
    """Problems of the filling, and names of the comparisons that do not agree."""
    filling, faults = Filling(vehicle, 1, "billed", "funded", **expected), []
    filler = Filler(Site(vehicle.card_number, decrements, *metered), view, faults, second=CAR)
    results, lines = asyncio.run(filler.judge([filling], {1: (PRICE,)}))
    return len(results[0].problems) + len(faults), {line.name for line in lines if not line.agrees}


def metered(volume_ml=ML, amount_fen=FEN):
    return Metered(1, 1, volume_ml, amount_fen, amount_fen)


ML_LINE, FEN_LINE = "fuel (ml)", "fuel sold"
UNEXPLAINED, CARDS = "fuel unexplained (count)", "cards debited wrongly at islands (count)"


def test_halves_are_rounded_up():
    assert [priced(ml, 7850) for ml in (ML, 10, 1000, 0)] == [FEN, 8, 785, 0]
    assert priced(10, 7500) == 8


def test_what_agrees_is_right():
    assert judged(View(ML, FEN), metered()) == (0, set())
    assert judged(View(ML, FEN), metered(), vehicle=PAYS, decrements=[0, FEN]) == (0, set())
    assert judged(View(ML, FEN), metered(), stops_ml=ML) == (0, set())


@pytest.mark.parametrize(
    ("view", "book", "more", "lines"),
    [
        (View(ML + 10, FEN), [metered()], {}, {ML_LINE}),
        (View(ML, FEN - 1), [metered()], {}, {FEN_LINE}),
        (View(ML, FEN - 1), [metered(amount_fen=FEN - 1)], {}, {FEN_LINE}),
        (View(ML, FEN, "debt"), [metered()], {}, set()),
        (View(ML, FEN), [metered(), metered()], {}, {ML_LINE}),
        (View(ML, FEN), [metered()], {"stops_ml": ML - 10}, set()),
        (View(ML, FEN), [metered()], {"price_milli": PRICE + 10}, {FEN_LINE}),
    ],
)
def test_what_differs_is_told(view, book, more, lines):
    problems, wrong = judged(view, *book, **more)
    assert problems > 0
    assert wrong == lines


@pytest.mark.parametrize(("vehicle", "decrements"), [(PAYS, []), (PAYS, [FEN, FEN]), (PAYS, [FEN - 1]), (CAR, [FEN])])
def test_each_purse_pays_once_and_no_other_card_anything(vehicle, decrements):
    assert judged(View(ML, FEN), metered(), vehicle=vehicle, decrements=decrements) == (0, {CARDS})


def test_a_delivery_that_no_sale_explains_is_told():
    alone = (1, "billed", None, 500, 393, None, None, None, "fuel_unexplained")
    assert judged(View(ML, FEN, "funded", alone), metered())[1] == {ML_LINE, FEN_LINE, UNEXPLAINED}
