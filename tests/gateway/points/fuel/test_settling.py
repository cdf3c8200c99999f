"""What a pump delivered: billed only where its word, its totaliser and what it was let deliver are one story."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.points.fuel.settling import Begun, Ended, Nothing, Sold, Unclear, settle
from protocols.pump.types import Decimals, Delivered

DECIMALS = Decimals()
WRAP = 1_000_000_000
PRICE = 7850
BEGUN = Begun(limit_fen=20_000, unit_price_milli=PRICE, totaliser_ml=1_209_090)


def ended(volume=25_470, amount=19_994, grown=25_470, *, watched=True, price=None):
    delivered = None if volume is None else Delivered(volume, amount, price)
    return Ended(delivered, None if grown is None else (1_209_090 + grown) % WRAP, watched)


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (ended(), Sold(25_470, 19_994, 7850)),
        (ended(watched=False), Sold(25_470, 19_994, 7850)),
        (ended(0, 0, 0), Nothing()),
        (ended(None, None, 0), Nothing()),
        (ended(watched=False, grown=0), Nothing()),  # the display shows the customer before
        (ended(grown=0), Unclear("pump_totals_differ")),  # it flowed under our eyes and the totaliser stood still
        (ended(grown=25_480), Sold(25_470, 19_994, 7850)),  # one step of the display
        (ended(grown=25_490), Unclear("pump_totals_differ")),
        (ended(grown=40_000, watched=False), Unclear("pump_totals_differ")),  # somebody else filled up, too
        (ended(grown=-100), Unclear("pump_totals_differ")),
        (ended(None, None), Unclear("pump_silent_on_sale")),
        (ended(25_470, None), Unclear("pump_silent_on_sale")),
        (ended(amount=19_995), Sold(25_470, 19_995, 7850)),  # one fen of rounding is the pump's affair
        (ended(amount=19_997), Unclear("pump_amount_differs")),
        (ended(amount=19_994, price=7950), Unclear("pump_amount_differs")),  # the price the pump says counts
        (ended(amount=20_248, price=7950), Sold(25_470, 20_248, 7950)),  # above the hold, and watched: an overrun
        (ended(amount=20_248, price=7950, watched=False), Unclear("pump_totals_differ")),
        (ended(grown=None), Sold(25_470, 19_994, 7850)),
        (ended(grown=None, watched=False), Unclear("pump_totals_missing")),
        (ended(0, 0, None), Nothing()),
        (ended(0, 0, None, watched=False), Unclear("pump_totals_missing")),
    ],
)
def test_settle(found, expected):
    assert settle(BEGUN, found, DECIMALS, wraps_at_ml=WRAP) == expected


def test_a_totaliser_that_begins_again_is_no_delivery_of_millions():
    begun = Begun(20_000, PRICE, WRAP - 5_000)
    found = Ended(Delivered(25_470, 19_994), 20_470, watched=True)
    assert settle(begun, found, DECIMALS, wraps_at_ml=WRAP) == Sold(25_470, 19_994, 7850)


def test_without_a_price_nothing_is_billed():
    begun = Begun(20_000, None, 1_209_090)
    assert settle(begun, ended(), DECIMALS, wraps_at_ml=WRAP) == Unclear("pump_amount_differs")


@given(st.integers(0, 10**6), st.integers(0, 10**6), st.integers(-(10**6), 10**6), st.booleans())
def test_whatever_is_billed_is_the_pump_s_own_amount_and_fits_its_totaliser(volume, amount, grown, watched):
    found = settle(BEGUN, ended(volume, amount, grown, watched=watched), DECIMALS, wraps_at_ml=WRAP)
    if isinstance(found, Sold):
        assert (found.volume_ml, found.amount_fen) == (volume, amount)
        assert abs(grown - volume) <= 10
        assert abs(amount - volume * PRICE / 10_000) <= 1.5
