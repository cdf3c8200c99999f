"""Rule of two persons: what one has proposed another must agree to."""

from __future__ import annotations


def are_two(one: str | None, other: str | None) -> bool:
    """True when both are named, and not as one account that is written in another way."""
    first, second = (one or "").strip().casefold(), (other or "").strip().casefold()
    return first != "" != second and first != second
