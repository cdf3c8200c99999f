"""Bytes of a stream that belong to no frame, as every deframer reports them."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class BadFrame:
    """Run of bytes that belongs to no frame, with the reason. One event for a run, not one for a byte."""

    problem: str
    field: str
    offset: int
    """Bytes from the first byte of the run to the field that is wrong."""
    position: int
    """Bytes from the start of the stream to the first byte of the run."""
    length: int
    data: bytes
    """The first bytes of the run, at most `protocols.errors.PREFIX_BYTES_MAX`."""
    hint: str
