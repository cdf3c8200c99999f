"""Search for a rate: what it ends at, however what it measures behaves, and how often it measures."""

import asyncio
import random

import pytest

from hardware.bench.load.search import HALVINGS_DOWN, Bounds, find, rates_sum_max

LIMITS = (50.0, 200.0)


def search(value_at, *, first=4.0, most=160.0, halvings=3):
    """Bounds of both limits, and the rates that were tried."""
    tried = []

    async def measure(rate):
        tried.append(rate)
        return value_at(rate)

    found = asyncio.run(find(LIMITS, measure, first=first, most=most, halvings=halvings))
    assert len(tried) == len(set(tried))
    assert max(tried) <= most
    assert sum(tried) <= rates_sum_max(most, len(LIMITS), halvings)
    return found, tried


@pytest.mark.parametrize("first", [1.0, 4.0, 50.0, 160.0, 1000.0])
@pytest.mark.parametrize("halvings", [1, 3, 8])
def test_the_bounds_close_in_on_the_limit_from_both_sides(first, halvings):
    found, _ = search(lambda rate: rate * 2, first=first, halvings=halvings)
    for limit, bounds in found.items():
        assert bounds.within < limit / 2 <= bounds.beyond
        assert bounds.beyond / bounds.within <= 1 + 0.5 ** (halvings - 1)


def test_each_step_halves_the_distance():
    found, tried = search(lambda rate: rate * 2)
    assert tried[:6] == [4.0, 8.0, 16.0, 32.0, 64.0, 128.0]
    assert found[50.0] == Bounds(24.0, 26.0)
    assert found[200.0] == Bounds(96.0, 104.0)


def test_what_always_holds_has_no_rate_beyond():
    found, tried = search(lambda _: 1.0)
    assert found == dict.fromkeys(LIMITS, Bounds(160.0, None))
    assert tried == [4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 160.0]


def test_what_never_holds_has_no_rate_within():
    found, tried = search(lambda _: float("inf"))
    assert found == dict.fromkeys(LIMITS, Bounds(None, tried[-1]))
    assert tried == [4.0 / 2**halved for halved in range(1 + HALVINGS_DOWN)]


def test_what_holds_one_limit_and_never_the_other_has_its_bounds():
    found, _ = search(lambda rate: 100.0 if rate < 30 else 300.0)
    assert found[50.0] == Bounds(None, 4.0 / 2**HALVINGS_DOWN)
    assert found[200.0].within < 30 <= found[200.0].beyond


@pytest.mark.parametrize("seed", range(50))
def test_noise_moves_the_bounds_by_no_more_than_the_noise(seed):
    chance = random.Random(seed)
    found, _ = search(lambda rate: rate * 2 * chance.uniform(0.8, 1.25), halvings=6)
    for limit, bounds in found.items():
        assert bounds.within < bounds.beyond
        assert limit / 2 * 0.8 <= bounds.beyond <= limit / 2 * 1.25 * 1.04
