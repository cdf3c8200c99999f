"""Keeper of the status lists at a running gateway: opened at its start, switched whenever newer ones are published."""

from __future__ import annotations

import asyncio
import logging
from datetime import timedelta
from pathlib import Path

from gateway.health import Tell
from gateway.model.clock import Clock
from gateway.payers.list_file import StatusListError
from gateway.payers.status_lists import DropBound, StatusLists, proved_times
from gateway.timekeeping import Timekeeper

log = logging.getLogger(__name__)


def open_lists(directory: Path, time: Timekeeper, drop_bound: DropBound) -> StatusLists:
    """Open the lists in force, or the nearest to it: a clock that is wrong stops no lane. Raises `StatusListError`."""
    for moment in proved_times(directory):
        time.passed(moment)
    lists = StatusLists.open(directory, time.now, drop_bound)
    if lists.refusal is not None:
        log.warning("status lists %s are used in place of the newest: %s", lists.version, lists.refusal)
    return lists


class ListKeeper:
    """Keeper that looks for newly published lists. They are read and checked outside the loop, switching is instant."""

    def __init__(
        self, lists: StatusLists, time: Timekeeper, clock: Clock, tell: Tell, *, age_limit_h: float, look_every_s: float
    ) -> None:
        self._lists = lists
        self._time = time
        self._clock = clock
        self._tell = tell
        self._limit = timedelta(hours=age_limit_h)
        self._look_every_s = look_every_s

    async def run(self) -> None:
        """Look for new lists again and again, for ever."""
        lists = self._lists
        while True:
            try:
                snapshot = await asyncio.to_thread(lists.prepare, self._time.now)
                if snapshot is not None:
                    lists.switch(snapshot)
                    self._time.passed(snapshot.created_at)
                    log.info("status lists %s in force", lists.version)
            except StatusListError:
                log.exception("status lists not switched")
            self._tell_state()
            await self._clock.sleep(self._look_every_s)

    def _tell_state(self) -> None:
        lists, now = self._lists, self._clock.utcnow()
        if lists.refusal is not None:
            cause = f"version {lists.version} in force, the newest is refused: {lists.refusal}"
            self._tell("lists", False, cause, "list_unavailable")
        elif self._time.trusted and lists.stale(now, self._limit):
            age_h = lists.age(now).total_seconds() / 3600
            self._tell("lists", False, f"version {lists.version} is {age_h:.1f} h old", "list_stale")
        else:
            self._tell("lists", True, f"version {lists.version} in force")
