"""Banks of a box as the debit engine asks them: which can be asked, in what time, and which a vehicle waits for.

What is asked is in `gateway.debit.attempts`, stored before it leaves; here it meets the channel that carries it.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager

from gateway.banks.channel import BankAnswer, BankChannel, NewAttempt
from gateway.debit import attempts, refunds
from gateway.debit.attempts import Asking, Recovery
from gateway.debit.claims import BankRequest, Payer
from gateway.debit.states import debit_row
from gateway.ledger.transaction import Transaction
from gateway.model.clock import Clock, to_us
from gateway.model.delivery import Delivery
from gateway.model.ids import RandomBits, new_id
from gateway.model.passage import Funding
from gateway.rules.loading import DebitRules

log = logging.getLogger(__name__)


class Banks:
    """Banks of the box, by the name of their channel."""

    def __init__(
        self, channels: Mapping[str, BankChannel], *, clock: Clock, random: RandomBits, rules: DebitRules
    ) -> None:
        self._channels = channels
        self._clock = clock
        self._random = random
        self._rules = rules
        self._waiting: Counter[str] = Counter()

    # --- whether, and in what time --------------------------------------------------------------------------------

    def fresh(self, channel: str) -> bool:
        """True while a vehicle waits for this bank: a backlog steps aside for it."""
        return self._waiting[channel] > 0

    def reachable(self, channel: str) -> bool:
        """True when this bank can be asked at this moment."""
        found = self._channels.get(channel)
        return found is not None and found.up

    def can_charge(self, payer: Payer) -> bool:
        """True when the mandate names a bank of this site and a contract its messages can carry."""
        channel = self._channels.get(payer.name)
        if channel is None or payer.contract_ref is None or not channel.takes(payer.contract_ref):
            log.error("mandate %s cannot be charged: no bank %s, or no usable contract", payer.mandate_id, payer.name)
            return False
        return True

    @contextmanager
    def waited_for(self, payer: Payer) -> Iterator[None]:
        """Mark this payer's bank as waited for while the block runs."""
        self._waiting[payer.name] += 1
        try:
            yield
        finally:
            self._waiting[payer.name] -= 1

    def channel(self, name: str) -> BankChannel | None:
        """Channel of a bank of this site, None for an unknown one."""
        return self._channels.get(name)

    def asking(self, payer: Payer, charge_point: str, deadline: float) -> Asking | None:
        """Way to ask the payer's bank, None when that would be in vain: no link of ours, or no time."""
        channel = self._channels.get(payer.name)
        worth_asking = self._time_left(deadline) > self._rules.deadline.bank_worth_asking_ms / 1000
        if payer.funding is not Funding.BANK_ONLINE or channel is None or not worth_asking:
            return None
        return Asking(channel, self.new_attempt(), charge_point)

    def _time_left(self, deadline: float) -> float:
        return deadline - self._rules.deadline.kept_back_ms / 1000 - self._clock.monotonic()

    # --- a sale that is stored ------------------------------------------------------------------------------------

    def turn(self, request: BankRequest) -> AbstractContextManager[Callable[[], None]]:
        """Hold back late answers to a sale while it is asked and decided; the given function tells of no answer."""
        return self._channels[request.channel].turns.asking(request.reference)

    async def ask(self, request: BankRequest, deadline: float) -> BankAnswer:
        """Send a stored sale and wait as long as the deadline allows."""
        timeout_s = self._time_left(deadline)
        if timeout_s <= 0:
            return BankAnswer(Delivery.NOT_SENT, detail="no time left to ask the bank")
        return await self._channels[request.channel].exchange(request.request, timeout_s=timeout_s)

    # --- what is told later ---------------------------------------------------------------------------------------

    def new_attempt(self) -> NewAttempt:
        """Make an attempt's id and time."""
        return NewAttempt(new_id(to_us(self._clock.utcnow()), self._random), self._clock.utcnow())

    def advise(self, tx: Transaction, debit_id: str, charge_point: str | None, new: NewAttempt) -> None:
        """Queue the advice of a debit that is owed and about which nothing is in doubt at the bank."""
        debit = debit_row(tx, debit_id)
        channel = self._channels.get(debit.payer)
        if channel is not None:
            attempts.queue_advice(tx, debit, Asking(channel, new, charge_point))

    def tell_refund(self, tx: Transaction, refund_id: str, new: NewAttempt) -> None:
        """Queue a refund that the bank pays."""
        refund = refunds.refund_row(tx, refund_id)
        debit = debit_row(tx, refund.debit_id)
        channel = self._channels.get(debit.payer)
        if refund.target == "bank" and channel is not None:
            attempts.queue_refund(tx, refund, debit, Asking(channel, new))

    def recover_debt(self, tx: Transaction, debit_id: str, new: NewAttempt) -> Recovery:
        """Queue one more try to collect a debt, where one can be made now."""
        debit = debit_row(tx, debit_id)
        channel = self._channels.get(debit.payer)
        return Recovery.LATER if channel is None else attempts.store_recovery(tx, Asking(channel, new), debit)
