"""Looking into the ledger: one read-only snapshot for one command."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from gateway.cli.exits import CliFault, ExitCode
from gateway.cli.screen import Words

if TYPE_CHECKING:
    from sqlalchemy import Connection, Engine

    from gateway.config import SiteFile


@contextmanager
def reader_of(site: SiteFile) -> Iterator[Engine]:
    """An engine that can only read; the gateway never notices it."""
    from gateway.ledger import database

    path = site.storage.ledger
    if not path.exists():
        raise CliFault(
            ExitCode.UNAVAILABLE,
            f"there is no ledger at {path}",
            Words("neither the gateway nor an import has run at this site yet", "该站点尚未运行过网关,也未导入过签约"),
            Words("etcgw run --config SITE makes one", "用 etcgw run --config SITE 创建"),
        )
    engine = database.open_reader(path)
    try:
        yield engine
    finally:
        engine.dispose()


@contextmanager
def ledger_of(site: SiteFile) -> Iterator[Connection]:
    """A connection whose queries all see the same state."""
    with reader_of(site) as engine, engine.connect() as connection:
        yield connection
