"""POS terminals of a bank: terminal, batch and trace number (STAN) name a message.

Theory of operation. On POS links a reversal goes out before the next sale of its terminal: so an attempt that is open
blocks its terminal, and only its terminal. Batch and STAN are one growing number (`gateway.ledger.positions`), reserved
in blocks whose end is durable outside the database before a block's first message. An advice or refund goes out at the
terminal of its debit's last message, behind what waits there.

A host may leave the terminal out of an answer, and most leave out the batch: a late answer is found by its STAN.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, Integer, bindparam, cast, func, select

from gateway.banks.channel import (
    REVERSED_KINDS,
    BankAnswer,
    LateAnswer,
    Meant,
    NewAttempt,
    NothingFree,
    Order,
)
from gateway.banks.turns import Turns
from gateway.ledger import tables
from gateway.ledger.marks import MarkState
from gateway.ledger.positions import STAN_MAX, MarkUnwritable, by_clock, next_batch_after, pair
from gateway.ledger.transaction import Transaction
from gateway.model.states import AWAITED
from protocols.bank.anchors import Anchor

_a, _p = tables.attempt, tables.pos_attempt
_BUSY = (
    select(_p.c.terminal, _a.c.id)
    .join_from(_a, _p, _p.c.attempt_id == _a.c.id)
    .where(tables.one_of(_a.c.state, *AWAITED), _a.c.channel == bindparam("channel"), _a.c.kind.in_(REVERSED_KINDS))
)
_LAST_OF_DEBIT = (
    select(_p.c.terminal)
    .join_from(_a, _p, _p.c.attempt_id == _a.c.id)
    .where(_a.c.debit_id == bindparam("debit"), _a.c.channel == bindparam("channel"))
    .order_by(_a.c.created_at.desc(), _a.c.id.desc())
    .limit(1)
)
_BY_STAN = (
    select(_p.c.terminal, _a.c.id, _a.c.state)
    .join_from(_p, _a, _a.c.id == _p.c.attempt_id)
    .where(_p.c.channel == bindparam("channel"), _p.c.stan == bindparam("stan"))
    .order_by(_a.c.created_at.desc(), _p.c.batch.desc())
)
"""Attempts by STAN, one a terminal, and one more each time its trace numbers were used up: newest first."""
_HIGHEST = select(
    _p.c.channel,
    _p.c.terminal,
    func.max(cast(_p.c.batch, Integer) * STAN_MAX + cast(_p.c.stan, Integer)).label("position"),
).group_by(_p.c.channel, _p.c.terminal)
_COUNTERS = "stan:"


@dataclass(frozen=True, slots=True)
class PosOrder:
    """Order of a terminal: facts for one message."""

    terminal: str
    batch: str
    stan: str
    amount_fen: int
    contract_ref: str
    at: datetime
    anchor: Anchor | None = None
    """Anchor (position of our ledger), for messages that tell it."""


@dataclass(frozen=True, slots=True)
class PosLateAnswer:
    """Late answer of a POS host, with the terminal and STAN it gives."""

    terminal: str | None
    """Terminal number; None where the host leaves field 41 out."""
    stan: str
    answer: BankAnswer
    compare: Callable[[bytes], BankAnswer] | None = None

    def __str__(self) -> str:
        return f"terminal {self.terminal} trace {self.stan}"

    def about(self, request: bytes) -> BankAnswer:
        """Compare the answer with what was asked."""
        return self.answer if self.compare is None else self.compare(request)

    def may_mean(self, reference: str) -> bool:
        """True when terminal and trace number fit; an answer without a terminal fits any."""
        terminal, _, stan = reference.split("/")
        return stan == self.stan and self.terminal in (None, terminal)


class PosChannel(ABC):
    """Channel to a bank that keeps its terminals: the POS part of a `BankChannel`."""

    query = None
    """Query of another message's end: none is known from a real POS sample."""

    def __init__(self, name: str, terminals: Mapping[str, Sequence[str]]) -> None:
        """`terminals`: numbers by charge point."""
        self.name = name
        self.turns = Turns()
        self._terminals = terminals
        # The last charge point's terminals first: the first one is the busiest at most sites.
        self._any = tuple(number for numbers in reversed(list(terminals.values())) for number in numbers)
        self._late: Callable[[LateAnswer], None] | None = None

    @abstractmethod
    def message(self, kind: str, order: PosOrder) -> bytes:
        """Make the bytes of a sale, its reversal, an advice or a refund."""

    def order(
        self,
        tx: Transaction,
        new: NewAttempt,
        kind: str,
        *,
        debit_id: str,
        amount_fen: int,
        contract_ref: str,
        charge_point: str | None,
    ) -> Order | NothingFree:
        """Make an order; a sale or recovery takes a free terminal. While it cannot be promised that batch and STAN
        never come again nothing is free: claims go on without a message, and the collector finds what is untold."""
        numbers = self._any if charge_point is None else self._terminals.get(charge_point, ())
        undone = kind in REVERSED_KINDS
        found = self._free(tx, numbers) if undone else self._of_debit(tx, debit_id, numbers)
        if isinstance(found, NothingFree):
            return found
        destination = f"{self.name}/{found}"
        try:
            batch, stan = pair(tx.next_position(destination))
        except MarkUnwritable:
            return NothingFree()
        order = PosOrder(found, batch, stan, amount_fen, contract_ref, new.at, None if undone else tx.anchor())
        undo = self.message("reversal", order) if undone else None
        request = self.message("sale" if undone else kind, order)
        tx.insert(_p, attempt_id=new.id, channel=self.name, terminal=found, batch=batch, stan=stan)
        return Order(f"{found}/{batch}/{stan}", destination, request, undo)

    def reference_known(self, tx: Transaction, attempt_id: str) -> None:
        """Continue the terminal in a new batch: the numbers of this one may be in use elsewhere."""
        row = tx.find(_p, attempt_id=attempt_id)
        if row is not None:
            tx.next_batch(f"{self.name}/{row.terminal}")

    def on_late(self, handler: Callable[[LateAnswer], None]) -> None:
        """Set the handler of answers that no exchange waits for."""
        self._late = handler

    def meant(self, tx: Transaction, heard: LateAnswer) -> Meant:
        """Find the newest attempt of its terminal: between it and the one before lie all the trace numbers there are.

        Without a terminal the trace number must be that of one terminal alone, settled attempts included: an answer
        repeated for one of them would else be taken for the answer of its namesake on another terminal.
        """
        told = _pos(heard)
        namesakes = tx.rows(_BY_STAN, channel=self.name, stan=told.stan)
        newest: dict[str, str] = {}
        for row in namesakes:
            if told.terminal in (None, row.terminal):
                newest.setdefault(row.terminal, row.id)
        waiting = tuple(row.id for row in namesakes if row.state in AWAITED)
        return Meant(tuple(newest.values()), () if newest else waiting)

    def _free(self, tx: Transaction, numbers: Sequence[str]) -> str | NothingFree:
        busy: dict[str, list[str]] = {}
        for row in tx.rows(_BUSY, channel=self.name):
            busy.setdefault(row.terminal, []).append(row.id)
        free = next((number for number in numbers if number not in busy), None)
        if free is not None:
            return free
        return NothingFree(tuple(busy[number][0] for number in numbers if len(busy[number]) == 1))

    def _of_debit(self, tx: Transaction, debit_id: str, numbers: Sequence[str]) -> str | NothingFree:
        last = tx.first(_LAST_OF_DEBIT, debit=debit_id, channel=self.name)
        if last is not None and last.terminal in self._any:
            return str(last.terminal)
        return next(iter(numbers or self._any), None) or NothingFree()


def _pos(heard: LateAnswer) -> PosLateAnswer:
    if not isinstance(heard, PosLateAnswer):
        raise TypeError(f"{heard} is no answer to a POS terminal")
    return heard


def go_on_behind(tx: Transaction, mark: MarkState | None) -> dict[str, int]:
    """Let every terminal that ledger or mark know go on behind all of it, in another batch, and not behind the clock;
    for the adoption of a ledger that has lost its newest part."""
    tx.flush()
    known = _counted(tx.connection)
    for terminal, end in ({} if mark is None else mark.reserved).items():
        known[terminal] = max(known.get(terminal, 0), end)
    found = {}
    for terminal, position in sorted(known.items()):
        found[terminal] = max(next_batch_after(position), by_clock(tx.now_us))
        tx.set_position(terminal, found[terminal])
    return found


def _counted(connection: Connection) -> dict[str, int]:
    """Next position of every terminal (`channel/number`), by its counter and by its attempts."""
    c = tables.counter
    known = {
        row.name.removeprefix(_COUNTERS): int(row.value)
        for row in connection.execute(select(c).where(c.c.name.startswith(_COUNTERS), c.c.name.contains("/")))
    }
    for row in connection.execute(_HIGHEST):
        terminal = f"{row.channel}/{row.terminal}"
        known[terminal] = max(known.get(terminal, 0), int(row.position))
    return known
