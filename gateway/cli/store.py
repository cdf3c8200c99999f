"""The ledger as commands use it: a read-only snapshot to look, and changes of their own beside a running gateway."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

from gateway.cli.exits import CliFault, ExitCode
from gateway.cli.screen import Words

if TYPE_CHECKING:
    from pathlib import Path

    from sqlalchemy import Connection, Engine

    from gateway.config import SiteFile
    from gateway.ledger.file import LedgerFile
    from gateway.ledger.transaction import Change

BUSY_TRIES_MAX: Final = 50
"""Tries against a ledger in use; each waits 200 ms for its turn, so a gateway gets ten seconds to let us in."""

MAKE_ROOM: Final = 1.0
"""Rest after a change, as a share of the time it took: a gateway on the same ledger gets at least half of it."""


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


@contextmanager
def changes_of(site: SiteFile) -> Iterator[Callable[[Change[Any]], Any]]:
    """Changes one by one, each durable when it returns, beside a gateway that may be running.

    A ledger that is not there yet is made. Raises LedgerLost when it is replaced meanwhile, or was under the gateway.
    """
    from drivers.clock import SystemClock
    from gateway.ledger import file as ledger_file
    from gateway.ledger.file import LedgerLost
    from gateway.ledger.writer import Committer

    ledger_file.make(site.storage.ledger)
    with writer_of(site) as (engine, file):
        committer = Committer(engine, SystemClock(), file=file)

        def commit(change: Change[Any]) -> Any:  # noqa: ANN401 - whatever the change returns
            begun = time.monotonic()
            result = patiently(lambda: committer.commit([change])[0])
            if not committer.stands():
                raise LedgerLost(f"{file.path} was replaced while it was being changed")
            time.sleep((time.monotonic() - begun) * MAKE_ROOM)
            return result

        yield commit


@contextmanager
def writer_of(
    site: SiteFile, open_engine: Callable[[Path], Engine] | None = None
) -> Iterator[tuple[Engine, LedgerFile]]:
    """An engine that writes beside a gateway that may be running, of this version's shape; all that it stored stands
    in the ledger's own file afterwards."""
    from gateway.ledger import database, schema
    from gateway.ledger import file as ledger_file

    with ledger_file.beside(site.storage.ledger) as file:
        engine = (open_engine or database.open_writer)(file.real)
        try:
            patiently(lambda: schema.upgrade(engine))
            file.watch(engine)
            yield engine, file
        finally:
            if file.stands():
                database.take_over_log(engine)
            engine.dispose()


def change_ledger(site: SiteFile, change: Change[Any]) -> Any:  # noqa: ANN401 - whatever the change returns
    """One such change of a ledger that must be there: an empty one would only hide that the path is wrong."""
    with reader_of(site):
        pass
    with changes_of(site) as commit:
        return commit(change)


def patiently(write: Callable[[], Any], tries_max: int | None = None) -> Any:  # noqa: ANN401 - whatever it returns
    """Try again while somebody else writes."""
    from sqlalchemy.exc import DBAPIError

    from gateway.ledger import database

    tries = BUSY_TRIES_MAX if tries_max is None else tries_max
    for number in range(1, tries + 1):
        try:
            return write()
        except DBAPIError as error:
            busy = database.trouble_of(error) is database.StorageTrouble.BUSY
            if not busy or number == tries:
                raise
    raise RuntimeError("the last try returns or raises")
