"""Delivery of a request to a bank or a board, and of the answer: it decides between asking again and finding out."""

from __future__ import annotations

from enum import StrEnum


class Delivery(StrEnum):
    """Delivery of one request; after `SILENT` alone it is open what was done."""

    ANSWERED = "answered"
    """Answer received: a yes, a no, or something else."""
    SILENT = "silent"
    """Sent, or partly sent, and no answer in time: it may have been acted on."""
    NOT_SENT = "not_sent"
    """Not one byte left."""
