"""Listener for late bank answers: hands them to the writer; `gateway.debit.late` says what they do.

While its sale is being asked or decided, a late answer waits for its turn (`gateway.banks.turns`).
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from functools import partial

from gateway.banks.channel import BankChannel, LateAnswer
from gateway.debit import late
from gateway.debit.late import LateEffect
from gateway.debit.waiting import FollowUps
from gateway.ledger.batches import LedgerWriter
from gateway.rules.loading import DebitRules

log = logging.getLogger(__name__)


class Listener:
    """Hands every channel's late answers to the writer."""

    def __init__(
        self,
        channels: Iterable[BankChannel],
        writer: LedgerWriter,
        follow_ups: FollowUps,
        rules: DebitRules,
    ) -> None:
        self._writer = writer
        self._follow_ups = follow_ups
        self._rules = rules
        for channel in channels:
            channel.on_late(partial(self._hear, channel))

    def _hear(self, channel: BankChannel, heard: LateAnswer) -> None:
        channel.turns.in_turn(heard.may_mean, partial(self._book, channel, heard))

    def _book(self, channel: BankChannel, heard: LateAnswer) -> None:
        future = self._writer.submit(lambda tx: late.late_answer(tx, channel, heard, self._rules), essential=True)
        self._follow_ups.follow(future, partial(_tell, channel.name, heard))


def _tell(channel: str, heard: LateAnswer, effect: LateEffect) -> None:
    log.log(
        logging.DEBUG if effect in late.NO_NEWS else logging.WARNING,
        "late answer %s of %s %s: %s",
        heard.answer.code,
        channel,
        heard,
        effect.value,
    )
