"""Adoption of a ledger that is not the newest one this box has seen: a restored backup, a file that lost its log.

Theory of operation. What such a file says was true once. What it has open may have ended in the part that was lost:
been paid, undone, told. So nothing of it is undone, told or asked again before the bank's day file or a person has said
what became of it; and no number is used that may have been used in the lost part.

| found | becomes |
|---|---|
| terminal | goes on in a batch behind all that ledger, mark and clock know |
| attempt stored, unknown, reversing, a late approval in suspense | `disputed`, its messages dropped, an item |
| claim on a bank held, owed or a debt | item `outcome_lost`: no bank is asked for it while that is open |
| claim paid by a word that the bank has contradicted | the same: a person's word may make it a debt |
| refund by a bank, not paid | the same |

What the lost part had and this file has not becomes items when the bank's day files are cleared: a line whose keys we
do not know is "in the bank's file and not in ours". `gateway.clearing.lost` closes the claims that no such line can be.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from sqlalchemy import or_, select

from gateway.banks import pos
from gateway.debit import attempts
from gateway.debit.states import CONTRADICTED, LOST, add_item, set_item
from gateway.ledger import engines, file, incarnation, marks, schema, tables
from gateway.ledger.batches import Committer
from gateway.ledger.chain import ChainKeys
from gateway.ledger.incarnation import Birth, LedgerRefused, Place
from gateway.ledger.life import FIRST_LIFE, Head, Incarnation
from gateway.ledger.marks import MarkState, MarkTrouble, MemoryMark
from gateway.ledger.transaction import Transaction
from gateway.model.clock import Clock
from gateway.model.passage import Funding
from gateway.model.states import AWAITED, BANK_DEBITS, ItemState, RefundState
from gateway.texts.catalogue import Words

WHY_DISPUTED: Final = "the ledger lost its newest part: what became of it may stand there"
WHY_LOST: Final = "it was open when the ledger lost its newest part, and may have ended there"

_a, _d, _r, _i = tables.attempt, tables.debit, tables.refund, tables.item
_OPEN_ATTEMPTS = select(_a).where(tables.one_of(_a.c.state, *AWAITED)).order_by(_a.c.id)
_OPEN_CLAIMS = (
    select(_d)
    .where(
        _d.c.funding == Funding.BANK_ONLINE.value,
        or_(
            _d.c.state.in_(BANK_DEBITS),
            _d.c.id.in_(select(_i.c.debit_id).where(_i.c.kind == CONTRADICTED, _i.c.state == ItemState.OPEN)),
        ),
    )
    .order_by(_d.c.id)
)
_OPEN_REFUNDS = (
    select(_r)
    .where(_r.c.state == RefundState.DECIDED, _r.c.target == "bank", _r.c.attempt_id.is_(None))
    .order_by(_r.c.created_at, _r.c.id)
)


@dataclass(frozen=True, slots=True)
class Adopted:
    """New life of a ledger, and the counts of what was open in it."""

    incarnation: Incarnation
    why: str
    """Code of the reason for which a start would have refused the file."""
    terminals: Mapping[str, int]
    """Position each terminal goes on with, by channel and number."""
    disputed: int
    claims: int
    refunds: int


def adopt(place: Place, clock: Clock, keys: ChainKeys, birth: Birth) -> Adopted:
    """Begin a new life of a ledger that a start refuses; for a stopped gateway: raises AlreadyRunning.

    Raises `LedgerRefused` for one that a start does not refuse, and where there is nothing to go on with.
    """
    with ExitStack() as stack:
        if place.ledger.exists():
            stack.enter_context(file.held(place.ledger))
        return _adopt_alone(place, clock, keys, birth)


def _adopt_alone(place: Place, clock: Clock, keys: ChainKeys, birth: Birth) -> Adopted:
    refused = _why_refused(place)
    if refused.reason == "ledger_missing":
        raise refused
    mark: MarkState | None = None
    with suppress(MarkTrouble):
        mark = marks.read(place.mark)
    place.mark.parent.mkdir(parents=True, exist_ok=True)
    found, state = adopt_file(place.ledger, mark, clock, keys, birth)
    with marks.locked(place.mark):
        marks.write(place.mark, state)
    return replace(found, why=refused.reason)


def adopt_file(
    path: Path, mark: MarkState | None, clock: Clock, keys: ChainKeys, birth: Birth
) -> tuple[Adopted, MarkState]:
    """Adopt without asking why it was refused: one commit in the file, which is empty where it is gone; the new state
    of its mark."""
    engine = (engines.open_writer if path.exists() else engines.open_new)(path)
    try:
        schema.upgrade(engine)
        return begin_anew(Committer(engine, clock, keys=keys, mark=MemoryMark()), mark, birth)
    finally:
        engine.dispose()


def begin_anew(committer: Committer, mark: MarkState | None, birth: Birth) -> tuple[Adopted, MarkState]:
    """Make the one commit of an adoption."""
    found, first = committer.commit([lambda tx: _adopt(tx, mark, birth)])[0]
    head: Head | None = committer.head
    if head is None:
        raise RuntimeError("an adoption writes into the journal")
    begun = found.incarnation
    return found, MarkState(begun.id, begun.number, first, head.number, head.digest, found.terminals)


def _why_refused(place: Place) -> LedgerRefused:
    try:
        incarnation.stand(place)
    except LedgerRefused as refused:
        return refused
    raise LedgerRefused("ledger_known", Words("ledger-file.known", path=place.ledger, mark=place.mark))


def _adopt(tx: Transaction, mark: MarkState | None, birth: Birth) -> tuple[Adopted, int]:
    known = FIRST_LIFE if mark is None else mark.incarnation_number
    begun, first = incarnation.begin_life(tx, birth, known=known)
    terminals = pos.go_on_behind(tx, mark)
    open_attempts = tx.rows(_OPEN_ATTEMPTS)
    for row in open_attempts:
        attempts.dispute(tx, row, WHY_DISPUTED)
    claims, refunds = tx.rows(_OPEN_CLAIMS), tx.rows(_OPEN_REFUNDS)
    for row in claims:
        _list_lost(tx, row.id, row.id, row.amount)
    for row in refunds:
        _list_lost(tx, row.debit_id, row.id, row.amount)
    adopted = Adopted(begun, "", terminals, len(open_attempts), len(claims), len(refunds))
    return adopted, max(first, 0 if mark is None else mark.first)


def _list_lost(tx: Transaction, debit_id: str, ref: str, amount: int) -> None:
    """List an outcome as lost, also where an earlier adoption had listed it and its item was closed since."""
    known = tx.find(tables.item, kind=LOST, ref=ref)
    if known is None:
        add_item(tx, LOST, debit_id, WHY_LOST, ref=ref, amount=amount)
    elif known.state != ItemState.OPEN:
        set_item(tx, known, ItemState.OPEN, detail=LOST, note=WHY_LOST, amount=amount)
