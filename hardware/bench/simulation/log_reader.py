"""Reads the gateway's log as it is written: no plate, card number, contract or account may stand in it unmasked."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from hardware.bench.simulation import site

SOURCES = ("gateway", "drivers", "protocols", "asyncio")
"""Loggers of the product, and the one that tells of its forgotten tasks."""

ID = re.compile(rf"\b(?!{site.REGION.hex()})(?:[0-9a-f]{{32}}|[0-9a-f]{{64}})\b")
"""Id of a row, or a digest: hex by time and chance that may look like anything. A tag's contract is as long."""


class LogReader(logging.Handler):
    """Calls `fail` at the first line that names somebody."""

    def __init__(self, fail: Callable[[str], None]) -> None:
        super().__init__(logging.INFO)
        self.lines = 0
        self._fail = fail
        self._form = logging.Formatter()

    def emit(self, record: logging.LogRecord) -> None:
        """Look at one line, what it tells of an exception included."""
        self.lines += 1
        found = site.PERSONAL.search(ID.sub("", self._form.format(record)))
        if found is not None:
            self._fail(f"{record.name}:{record.lineno} writes {found.group()} into the log")


@contextmanager
def reading(reader: LogReader) -> Iterator[None]:
    """Read the log here; nothing of it goes anywhere else meanwhile."""
    loggers = [logging.getLogger(name) for name in SOURCES]
    before = [(logger.level, logger.propagate) for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.INFO)
        logger.propagate = False
        logger.addHandler(reader)
    try:
        yield
    finally:
        for logger, (level, propagate) in zip(loggers, before, strict=True):
            logger.removeHandler(reader)
            logger.setLevel(level)
            logger.propagate = propagate
