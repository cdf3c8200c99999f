"""`etcgw run`: the gateway itself."""

from __future__ import annotations

import logging
import sys
from datetime import datetime
from enum import StrEnum
from typing import Annotated

import typer

from gateway.cli.help import Commands
from gateway.cli.options import ConfigOption, site_of
from gateway.cli.screen import visible

app = Commands("run")

READY = "ready"
"""The one line on stdout: lanes are open. A supervisor or a bench waits for it."""

LIBRARIES = ("alembic", "pymodbus", "asyncio")
"""Loggers whose records are of use with `--log-level debug` only."""


class LogLevel(StrEnum):
    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


class OneLine(logging.Formatter):
    """One line a record, whatever is in it: time with offset, level, logger, text."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(name)s: %(message)s")

    def formatTime(self, record: logging.LogRecord, datefmt: str | None = None) -> str:
        """ISO 8601 in the machine's zone, milliseconds."""
        return datetime.fromtimestamp(record.created).astimezone().isoformat(timespec="milliseconds")

    def format(self, record: logging.LogRecord) -> str:
        """The record with its traceback, if it has one, on the same line, and nothing a terminal would obey."""
        return visible(" | ".join(super().format(record).splitlines()))


@app.command("run")
def run(
    context: typer.Context,
    *,
    config: ConfigOption = None,
    log_level: Annotated[LogLevel, typer.Option("--log-level")] = LogLevel.INFO,
) -> None:
    """Serve the lanes of a site until SIGTERM or Ctrl-C; prints "ready" when they are open."""
    import asyncio

    site = site_of(context, config)
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(OneLine())
    logging.basicConfig(level=log_level.upper(), handlers=[handler], force=True)
    if log_level is not LogLevel.DEBUG:
        for name in LIBRARIES:
            logging.getLogger(name).setLevel(logging.WARNING)

    from gateway.runtime import Gateway

    def tell_ready() -> None:
        sys.stdout.write(f"{READY}\n")
        sys.stdout.flush()

    async def serve() -> None:
        await Gateway(site).run(tell_ready)

    asyncio.run(serve())
