"""Collector: finds messages to a bank that are not queued yet, for debts whose next try is due and for acts of people.

People act through a program of their own (`etcgw debits`), which knows the ledger but no bank: it decides, and the
messages that follow are made here. Debts are left alone while a vehicle waits for the bank, or its link is down.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from functools import partial

from sqlalchemy import Connection, exists, func, or_, select

from gateway.debit.attempts import Recovery
from gateway.debit.engine import DebitEngine
from gateway.debit.states import CONTRADICTED, LOST
from gateway.debit.upkeep import NOT_TOLD
from gateway.ledger import tables
from gateway.ledger.batches import StorageUnavailable
from gateway.ledger.reading import LedgerReader
from gateway.model.clock import Clock, to_us
from gateway.model.states import UNRESOLVED, DebitState, ItemState, RefundState

POLL_S = 1.0
"""Seconds between two looks: debts wait for hours, and a person who decided something for seconds."""

FOUND_MAX = 50
"""Debts taken up in one look: the next finds the rest."""


UNTOLD_EVERY_S = 60.0
"""Seconds between two looks for everything untold, not only for what people touched: a message for which nothing was
free was not queued."""

LISTS_EVERY_S = 3600.0
"""Seconds between two looks at the age of debts, which rules count in days."""

_a, _d, _i = tables.attempt, tables.debit, tables.item
_IN_DOUBT = or_(
    exists().where(_a.c.debit_id == _d.c.id, _a.c.state.in_(UNRESOLVED)),
    exists().where(_i.c.debit_id == _d.c.id, _i.c.kind == CONTRADICTED, _i.c.state == ItemState.OPEN),
    exists().where(_i.c.kind == LOST, _i.c.ref == _d.c.id, _i.c.state == ItemState.OPEN),
)
"""Unknown end of an attempt or of the claim, or two ends told by the bank: nothing is asked until then."""


class Collector:
    """Collector for one channel."""

    def __init__(self, channel: str, engine: DebitEngine, reader: LedgerReader, *, clock: Clock) -> None:
        self._channel = channel
        self._banks = engine.banks
        self._upkeep = engine.upkeep
        self._reader = reader
        self._clock = clock
        self._seen: int | None = None
        self._lists_at = 0.0
        self._untold_at = 0.0
        self._log = logging.getLogger(f"{__name__}.{channel}")

    async def run(self) -> None:
        """Collect forever; ends only by cancellation."""
        while True:
            await self.round()
            await self._clock.sleep(POLL_S)

    async def round(self) -> None:
        """Queue what is due. Each change looks at its debit again: what was read may have changed by its turn."""
        await self._keep_lists()
        now = self._clock.monotonic()
        if now >= self._untold_at:
            self._untold_at, self._seen = now + UNTOLD_EVERY_S, None
        newest, left = await self._reader.read(partial(_left_by_people, self._channel, self._seen))
        for debit_id in left:
            await self._adopt(debit_id)
        self._seen = newest
        for debit_id in await self._due_debts():
            if self._banks.fresh(self._channel) or not self._banks.reachable(self._channel):
                # Vehicles wait, or the bank is away, for days perhaps: what is due stays due, and no try is wasted.
                return
            found = await self._upkeep.start_recovery(debit_id)
            if found is Recovery.LATER:
                return
            level = logging.ERROR if found is Recovery.WITHOUT_BANK else logging.INFO
            self._log.log(level, "debt of debit %s: %s", debit_id, found.value)

    async def _adopt(self, debit_id: str) -> None:
        """Queue what a person decided. A debit that no message can tell of must not stand before the others: it goes on
        people's list, and the next start tries it again."""
        try:
            await self._upkeep.adopt(debit_id)
        except StorageUnavailable:
            raise
        except Exception as error:  # noqa: BLE001 - whatever is wrong with one of them is wrong with that one
            self._log.exception("the bank cannot be told what was decided about debit %s", debit_id)
            await self._upkeep.leave_to_people(NOT_TOLD, debit_id, error)

    async def _keep_lists(self) -> None:
        """Keep the box's own list up to date for debts that have become old, not only for new ones."""
        now = self._clock.monotonic()
        if now < self._lists_at:
            return
        self._lists_at = now + LISTS_EVERY_S
        d, o = tables.debit, tables.obligor
        unlisted = (
            select(d.c.obligor_id)
            .join(o, o.c.id == d.c.obligor_id)
            .where(d.c.state == DebitState.DEBT, d.c.payer == self._channel, o.c.listed_at.is_(None))
            .distinct()
            .order_by(d.c.obligor_id)
        )
        owing = await self._reader.read(lambda connection: connection.execute(unlisted).scalars().all())
        for start in range(0, len(owing), FOUND_MAX):
            await self._upkeep.keep_lists(owing[start : start + FOUND_MAX])

    async def _due_debts(self) -> Sequence[str]:
        d = tables.debit
        now = to_us(self._clock.utcnow())
        due = (
            select(d.c.id)
            .where(d.c.state == DebitState.DEBT, d.c.payer == self._channel, d.c.retry_at <= now, ~_IN_DOUBT)
            .order_by(d.c.retry_at, d.c.id)
            .limit(FOUND_MAX)
        )
        return await self._reader.read(lambda connection: connection.execute(due).scalars().all())


def _left_by_people(channel: str, seen: int | None, connection: Connection) -> tuple[int, Sequence[str]]:
    """Debits that people touched since journal number `seen`; without one all that have something untold.

    With them the journal's newest number: the next look begins there, once these are dealt with.
    """
    d, j, r = tables.debit, tables.journal, tables.refund
    newest = connection.execute(select(func.coalesce(func.max(j.c.number), 0))).scalar_one()
    if seen is None:
        refunds = select(r.c.debit_id).where(
            r.c.state == RefundState.DECIDED, r.c.target == "bank", r.c.attempt_id.is_(None)
        )
        untold = ((d.c.state == DebitState.OWED) & ~_IN_DOUBT) | d.c.id.in_(refunds)
        wanted = select(d.c.id).where(d.c.payer == channel, untold)
    else:
        touched = select(j.c.debit_id).where(j.c.number > seen, j.c.actor.is_not(None))
        wanted = select(d.c.id).where(d.c.payer == channel, d.c.id.in_(touched))
    return newest, connection.execute(wanted.order_by(d.c.id)).scalars().all()
