"""Upkeep of debits between vehicles: debts tried again, payers listed, and banks told what people decided.

The collector of debts (`gateway.outbox.collector`) finds what is due; here it becomes durable.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from gateway.banks.channel import NewAttempt
from gateway.debit import debts, refunds
from gateway.debit.asking import Banks
from gateway.debit.attempts import Recovery
from gateway.debit.states import add_item, close_item
from gateway.ledger.batches import LedgerWriter
from gateway.ledger.transaction import Transaction
from gateway.model.ids import digest_of
from gateway.rules.loading import DebitRules

NOT_TOLD = "decision_not_told"
"""Kind of the item of a debit whose bank cannot be told what a person decided; corrected when it is told."""


class Upkeep:
    """Upkeep of debits; each call is one durable change."""

    def __init__(self, writer: LedgerWriter, banks: Banks, rules: DebitRules) -> None:
        self._writer = writer
        self._banks = banks
        self._rules = rules

    async def start_recovery(self, debit_id: str) -> Recovery:
        """Queue one more try to collect a debt, where one can be made now."""
        new = self._banks.new_attempt()
        return await asyncio.shield(self._writer.submit(lambda tx: self._banks.recover_debt(tx, debit_id, new)))

    async def keep_lists(self, obligors: Sequence[str]) -> None:
        """Put these payers on the box's own list, or take them off, by their debts and how old those are."""

        def change(tx: Transaction) -> None:
            for obligor in obligors:
                debts.keep_list(tx, obligor, self._rules)

        await asyncio.shield(self._writer.submit(change))

    async def adopt(self, debit_id: str) -> None:
        """Queue the messages to the bank that a person's act left: an advice, refunds."""
        advice = self._banks.new_attempt()

        def change(tx: Transaction) -> None:
            self._banks.advise(tx, debit_id, None, advice)
            for refund in refunds.untold(tx, debit_id):
                # Same id whenever this change runs, and another one where the refund is told anew.
                new = NewAttempt(digest_of("refund", refund.id, advice.id)[:32], advice.at)
                self._banks.tell_refund(tx, refund.id, new)
            close_item(tx, NOT_TOLD, debit_id, note="it is told")

        await asyncio.shield(self._writer.submit(change, essential=True))

    async def leave_to_people(self, kind: str, debit_id: str, error: Exception) -> None:
        """Open an item for a debit that an error of ours keeps from being handled."""
        note = f"{type(error).__name__}: the log of this moment says more"
        await self._writer.submit(lambda tx: add_item(tx, kind, debit_id, note, again=True), essential=True)
