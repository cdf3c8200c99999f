"""Start-up of the debit engine: the last run's open debits are classified before charge points open, and closed after.

What a crash can leave and what becomes of it is in `gateway.debit.recovery`; here it is done, page by page.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Container, Mapping
from functools import partial

from gateway.banks.channel import NewAttempt
from gateway.debit import recovery
from gateway.debit.asking import Banks
from gateway.debit.upkeep import Upkeep
from gateway.ledger.batches import LedgerWriter, StorageUnavailable
from gateway.ledger.reading import LedgerReader
from gateway.ledger.transaction import Transaction
from gateway.model.clock import Clock
from gateway.model.ids import digest_of
from gateway.model.passage import DeclinePolicy
from gateway.rules.loading import DebitRules

log = logging.getLogger(__name__)


class StartUp:
    """Start-up of one engine: `recover`, then `close_backlog` as often as it takes."""

    def __init__(
        self,
        writer: LedgerWriter,
        reader: LedgerReader,
        banks: Banks,
        upkeep: Upkeep,
        taken_up: Container[str],
        *,
        clock: Clock,
        rules: DebitRules,
    ) -> None:
        """`taken_up`: debits that somebody is bringing in at this moment."""
        self._writer = writer
        self._reader = reader
        self._banks = banks
        self._upkeep = upkeep
        self._taken_up = taken_up
        self._clock = clock
        self._rules = rules
        self._closing: recovery.ClosingRules | None = None

    async def recover(
        self,
        decline_policies: Mapping[str, DeclinePolicy],
        stand_in_limits: Callable[[Transaction, str | None], int],
        progress: Callable[[recovery.Findings], None] | None = None,
    ) -> recovery.Findings:
        """Classify every open debit before a charge point opens; `decline_policies` by charge point.

        What is in doubt becomes `unknown` and is queued, so its card and tag are barred from a new purchase, and what
        its channel keeps for it from a new sale. Closing what can be closed comes after (`close_backlog`).
        """
        await self._writer.submit(lambda tx: recovery.keep_rules(tx, self._rules), essential=True)
        findings, after = recovery.Findings(), ""
        while True:
            page = partial(recovery.classify_attempts, after=after)
            last, found = await self._writer.submit(page, essential=True)
            findings += found
            if progress is not None:
                progress(findings)
            if last is None:
                break
            after = last
        findings += await self._writer.submit(recovery.classify_rest, essential=True)
        if progress is not None:
            progress(findings)
        self._closing = recovery.ClosingRules(
            self._rules,
            stand_in_limits,
            decline_policies,
            findings.newest_hold,
        )
        return findings

    async def close_backlog(self, progress: Callable[[recovery.Findings], None] | None = None) -> recovery.Findings:
        """Close what start-up found and needs no vehicle for; charge points may be open meanwhile.

        A debit that somebody is bringing in at this moment is left to that one. One that cannot be closed stays held,
        is told in the log and put on people's list; it keeps no other open.
        """
        rules, findings, after = self._closing, recovery.Findings(), ""
        while rules is not None:
            page = await self._reader.read(partial(recovery.page_of_held, after=after, newest_hold=rules.newest_hold))
            # Asked after it was read; what has ended since is found ended by the change.
            free = [debit_id for debit_id in page if debit_id not in self._taken_up]
            findings += await self._close(free, rules)
            if progress is not None:
                progress(findings)
            if len(page) < recovery.CLOSING_PAGE:
                break
            after = page[-1]
            await self._clock.sleep(0)
        ended = await self._reader.read(recovery.ended_after_all)  # and what has ended stays so
        if ended:
            await self._writer.submit(partial(recovery.take_off_list, debit_ids=ended), essential=True)
        return findings

    async def _close(self, debit_ids: list[str], rules: recovery.ClosingRules) -> recovery.Findings:
        """Close these in one change; where that fails, each in a change of its own."""
        closing = self._writer.submit(partial(self._close_page, debit_ids, rules), essential=True)
        try:
            return await closing
        except StorageUnavailable:
            raise
        except Exception as error:
            if len(debit_ids) == 1:
                log.exception("debit %s cannot be closed: it stays held until somebody has looked at it", *debit_ids)
                await self._upkeep.leave_to_people(recovery.NOT_CLOSED, debit_ids[0], error)
                return recovery.Findings(open_debits=1, not_closed=1)
        findings = recovery.Findings()
        for debit_id in debit_ids:
            # Somebody may have taken it up meanwhile.
            if debit_id not in self._taken_up:
                findings += await self._close([debit_id], rules)
        return findings

    def _close_page(self, debit_ids: list[str], rules: recovery.ClosingRules, tx: Transaction) -> recovery.Findings:
        findings = recovery.Findings()
        at = self._clock.utcnow()
        for debit_id in debit_ids:
            found = recovery.close(tx, debit_id, rules)
            if found.decided_now:
                # Same id whenever the change runs: it is made of nothing but the debit's.
                advice = NewAttempt(digest_of("advice at start-up", debit_id)[:32], at)
                self._banks.advise(tx, debit_id, found.charge_point, advice)
            findings += found
        return findings
