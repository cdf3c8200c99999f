"""Ledger for commands: a read-only snapshot to look, and changes of their own beside a running gateway."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

from gateway.cli.errors import CliFault, ExitCode
from gateway.cli.rights import need_right
from gateway.texts.catalogue import Words

if TYPE_CHECKING:
    from pathlib import Path

    from sqlalchemy import Connection, Engine

    from gateway.config import SiteFile
    from gateway.ledger.file import LedgerFile
    from gateway.ledger.incarnation import Place
    from gateway.ledger.marks import MarkFile
    from gateway.ledger.pace import Pace
    from gateway.ledger.transaction import Change, Transaction

BUSY_TRIES_MAX: Final = 50
"""Tries against a ledger in use; each waits 200 ms for its turn, so a gateway gets ten seconds to let us in."""

MAKE_ROOM: Final = 1.0
"""Rest after a change, as a share of the time it held the ledger: a gateway gets at least half of all time."""


@contextmanager
def reader_of(site: SiteFile) -> Iterator[Engine]:
    """An engine that can only read; the gateway never notices it."""
    from gateway.ledger import engines

    path = site.storage.ledger
    need_right(path)
    if not path.exists():
        raise CliFault(
            ExitCode.UNAVAILABLE,
            "no_ledger",
            Words("store.no-ledger", path=path),
            Words("store.this-new-site-or-disk"),
            Words("store.new-site-etcgw-ledger-create"),
        )
    engine = engines.open_reader(path)
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
def changes_of(site: SiteFile, pace: Pace | None = None) -> Iterator[Callable[[Change[Any]], Any]]:
    """Changes one by one, each durable when it returns, beside a gateway that may be running.

    `pace` hears how long each held the write lock. Raises `LedgerRefused` for a ledger that a gateway would refuse to
    work on, LedgerLost when it is replaced meanwhile, or was under the gateway.
    """
    with committing(site, pace) as (commit, _):
        yield commit


@contextmanager
def committing(
    site: SiteFile, pace: Pace | None = None, *, erasing: bool = False
) -> Iterator[tuple[Callable[[Change[Any]], Any], Engine]]:
    """Changes of the ledger of a site, one a commit, with its mark following; and the engine they go through.

    `pace` hears how long each held the write lock, and `erasing`: what is deleted is gone from the file. Raises as
    `changes_of`.
    """
    from drivers.clock import SystemClock
    from gateway.config import chain_keys_of
    from gateway.ledger import engines
    from gateway.ledger.file import LedgerLost
    from gateway.ledger.marks import FOLLOW_EVERY_S
    from gateway.ledger.writer import Committer

    with writer_of(site, engines.open_eraser if erasing else engines.open_writer) as (engine, file, mark):
        committer = Committer(engine, SystemClock(), file=file, keys=chain_keys_of(site), mark=mark)
        followed_at = time.monotonic()

        def commit(change: Change[Any]) -> Any:  # noqa: ANN401 - whatever the change returns
            nonlocal followed_at
            held_since = 0.0

            def timed(tx: Transaction) -> Any:  # noqa: ANN401 - as above
                nonlocal held_since
                held_since = time.monotonic()
                return change(tx)

            result = patiently(lambda: committer.commit([timed])[0])
            held_s = time.monotonic() - held_since
            if pace is not None:
                pace.took(held_s)
            if not committer.stands():
                raise LedgerLost(Words("ledger-file.replaced-while-changed", path=file.path))
            if time.monotonic() - followed_at >= FOLLOW_EVERY_S:
                committer.follow()
                followed_at = time.monotonic()
            time.sleep(held_s * MAKE_ROOM)
            return result

        yield commit, engine
        committer.follow()


@contextmanager
def writer_of(site: SiteFile, open_engine: Callable[[Path], Engine]) -> Iterator[tuple[Engine, LedgerFile, MarkFile]]:
    """An engine that writes beside a gateway that may be running, of this version's shape, with file and mark; all that
    it stored stands in the ledger's own file afterwards. Raises `LedgerRefused`, LedgerLost."""
    from gateway.ledger import engines, incarnation, schema
    from gateway.ledger import file as ledger_file

    need_right(site.storage.ledger, os.R_OK | os.W_OK)
    place = place_of(site)
    incarnation.marked(place)
    with ledger_file.beside(site.storage.ledger) as file:
        engine = open_engine(file.real)
        try:
            mark = patiently(lambda: incarnation.stand(place, engine))
            patiently(lambda: schema.upgrade(engine))
            file.watch(engine)
            yield engine, file, mark
        finally:
            if file.stands():
                engines.take_over_log(engine)
            engine.dispose()


def place_of(site: SiteFile) -> Place:
    """Place of the ledger and its mark."""
    from gateway.ledger.incarnation import Place

    return Place(site.storage.ledger, site.storage.mark_file)


def change_ledger(site: SiteFile, change: Change[Any]) -> Any:  # noqa: ANN401 - whatever the change returns
    """Make one change as `changes_of` does."""
    with changes_of(site) as commit:
        return commit(change)


def patiently(write: Callable[[], Any], tries_max: int | None = None) -> Any:  # noqa: ANN401 - whatever it returns
    """Try again while somebody else writes."""
    from sqlalchemy.exc import DBAPIError

    from gateway.ledger import engines

    tries = BUSY_TRIES_MAX if tries_max is None else tries_max
    for number in range(1, tries + 1):
        try:
            return write()
        except DBAPIError as error:
            busy = engines.trouble_of(error) is engines.StorageTrouble.BUSY
            if not busy or number == tries:
                raise
    raise RuntimeError("the last try returns or raises")
