"""Slices follow the time the last one took, and never outgrow their bounds."""

import itertools

import pytest

from gateway.ledger.pace import AIM, FIRST_ROWS, GROWTH_MAX, HELD_MS_MAX, ROWS_MAX, Pace

AIMED_S = HELD_MS_MAX / 1000 * AIM


def sizes(pace, count, seconds_of):
    """Rows of the first slices of an endless work whose transactions take so long."""
    found = []
    for piece in itertools.islice(pace.slices(itertools.count()), count):
        found.append(len(piece))
        pace.took(seconds_of(len(piece)))
    return found


def test_slices_grow_to_the_time_aimed_at_and_no_faster_than_twice():
    found = sizes(Pace(), 12, lambda rows: rows * 100e-6)
    assert found[0] == FIRST_ROWS
    assert all(after <= GROWTH_MAX * before for before, after in itertools.pairwise(found))
    assert found[-1] * 100e-6 == pytest.approx(AIMED_S, rel=0.05)


def test_no_slice_outgrows_the_largest_however_fast_the_last_was():
    assert max(sizes(Pace(), 20, lambda _: 0.0)) == ROWS_MAX


def test_a_slow_transaction_makes_the_next_one_small_at_once():
    pace = Pace()
    sizes(pace, 10, lambda _: 0.001)
    assert sizes(pace, 2, lambda _: 10.0)[1] <= 3
    assert sizes(pace, 5, lambda _: 10.0)[-1] == 1


def test_a_transaction_without_a_slice_tells_nothing():
    pace = Pace()
    pace.took(9.0)
    pace.took(0.0)
    assert pace.rows == FIRST_ROWS


def test_an_item_with_many_rows_stays_whole_and_counts_them():
    pieces = list(Pace().slices([30, 30, 500, 1, 1], rows_of=lambda rows: rows))
    assert pieces == [[30, 30], [500], [1, 1]]
