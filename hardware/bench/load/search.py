"""Search for the rates between which a figure passes limits: doubled or halved until both sides are known, bisected.

Rates below the lowest that does not hold a limit count as holding it: one bad try among good ones is where the search
goes on, not what it skips.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

HALVINGS_DOWN: Final = 4
"""Times the first rate is halved while not even that holds: to a sixteenth, where hardly a vehicle meets another."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """Highest rate tried that holds a limit, and lowest that does not; None where no rate tried does."""

    within: float | None
    beyond: float | None


async def find(
    limits: Sequence[float],
    measure: Callable[[float], Awaitable[float]],
    *,
    first: float,
    most: float,
    halvings: int,
) -> dict[float, Bounds]:
    """Bounds of each limit. Rates from the first up to `most` are tried, each once; `halvings` of them between the
    bounds of each limit."""
    tried: dict[float, float] = {}

    async def at(rate: float) -> float:
        if rate not in tried:
            tried[rate] = await measure(rate)
        return tried[rate]

    first = rate = min(first, most)
    while await at(rate) < max(limits) and rate < most:
        rate = min(2 * rate, most)
    for halved in range(1 + HALVINGS_DOWN):
        if await at(first / 2**halved) < min(limits):
            break
    for limit in limits:
        for _ in range(halvings):
            bounds = _bounds(tried, limit)
            if bounds.within is not None and bounds.beyond is not None:
                await at((bounds.within + bounds.beyond) / 2)
    return {limit: _bounds(tried, limit) for limit in limits}


def rates_sum_max(most: float, limits: int, halvings: int) -> float:
    """Sum of all rates that a search may try: those doubled below `most` are twice it, those halved once it."""
    return most * (4 + limits * halvings)


def _bounds(tried: Mapping[float, float], limit: float) -> Bounds:
    beyond = min((rate for rate, value in tried.items() if value >= limit), default=None)
    return Bounds(max((rate for rate in tried if beyond is None or rate < beyond), default=None), beyond)
