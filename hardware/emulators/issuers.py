"""Issuers of emulated cards, tags and PSAMs."""

from __future__ import annotations

from protocols.regions import BENCH, Region, region_of_network


def issuing_region(network: str) -> Region:
    """Region that issues under a network number; 99 is the bench's own, which no real card carries.

    Raises ValueError for one of no known region.
    """
    region = BENCH if network.startswith(BENCH.code) else region_of_network(network)
    if region is None:
        raise ValueError(f"network {network} belongs to no known region; the bench uses 9901")
    return region
