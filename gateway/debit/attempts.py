"""Changes on attempts: one try each to collect a debit from a bank, and what must be said afterwards.

Theory of operation. A *sale* is stored with its bytes and those of its reversal before it leaves. It ends approved or
declined, or nobody answers: then it is `unknown`, its reversal waits in the outbox, and the debit is owed on our own
decision. `reversing` is committed before the reversal's first byte. When the reversal closes, an *advice* tells the
bank what we decided, and is repeated until answered; it is never reversed.

    sale     stored -> approved | declined | not_sent | unknown;  unknown -> approved | declined | reversing
             reversing -> reversed;  reversed -> reversing (an approval came late)
    advice   stored -> approved | declined

An approval that comes while the reversal has not left settles the debit. Once the reversal left, the reversal wins:
the approval goes bank -> suspense, the reversal is opened again with the same bytes, and its close moves the money
back. Only the answer to a reversal that left after the approval was heard is such a close, and an advice that has not
been answered waits behind it. "Original not found" closes a reversal only when a message can no longer be under way,
and never one whose original the bank has approved.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from enum import Enum

from sqlalchemy import bindparam, select, update

from gateway.banks.channel import AnswerClass, BankAnswer, BankChannel, SaleOrder
from gateway.debit.claims import BankRequest
from gateway.ledger import tables
from gateway.ledger.books import AccountKind
from gateway.ledger.statements import Row
from gateway.ledger.transaction import Transaction

UNRESOLVED = ("stored", "unknown", "reversing")

_BUSY_TERMINALS = select(tables.attempt.c.terminal).where(
    tables.attempt.c.state.in_(UNRESOLVED),
    tables.attempt.c.channel == bindparam("channel"),
    tables.attempt.c.kind == "sale",
)
_UNRESOLVED_OF_DEBIT = (
    select(tables.attempt.c.id)
    .where(tables.attempt.c.debit_id == bindparam("debit"), tables.attempt.c.state.in_(UNRESOLVED))
    .limit(1)
)
_attempt = tables.attempt
_BY_STAN = (
    select(_attempt)
    .where(_attempt.c.channel == bindparam("channel"), _attempt.c.stan == bindparam("stan"))
    .order_by(_attempt.c.created_at.desc())
)
_ATTEMPTS_BY_STAN = _BY_STAN.limit(2)
_ATTEMPT_AT_TERMINAL = _BY_STAN.where(_attempt.c.terminal == bindparam("terminal")).limit(1)
_OPEN_ADVICES = select(_attempt).where(
    _attempt.c.debit_id == bindparam("debit"), _attempt.c.kind == "advice", _attempt.c.state == "stored"
)
_DROP_QUEUED = (
    update(tables.outbox)
    .where(tables.outbox.c.attempt_id == bindparam("attempt"), tables.outbox.c.done_at.is_(None))
    .values(done_at=bindparam("now"), last_answer="answered late")
)
STAN_MAX = 989_999
"""The numbers above belong to sign-ins and echoes of the link."""


class LateEffect(Enum):
    """What an answer nobody waited for did."""

    NO_SUCH_ATTEMPT = "no such attempt"
    AMBIGUOUS = "more than one attempt could be meant"
    NOTED = "noted before the decision"
    SETTLED = "settled the debit"
    DECLINED = "declined before the reversal left"
    REOPENED = "approval after the reversal: reversal opened again"
    IGNORED = "already known"


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A reversal or an advice about to leave."""

    message: bytes
    sent_before: bool
    """It left, or may have left, once before."""


@dataclass(frozen=True, slots=True)
class Terminals:
    """The terminal numbers a charge point may use at a channel, and the batch they work in."""

    numbers: tuple[str, ...]
    batch: str


def store_sale(
    tx: Transaction,
    channel: BankChannel,
    terminals: Terminals,
    *,
    attempt_id: str,
    debit_id: str,
    amount_fen: int,
    contract_ref: str,
    at: datetime,
) -> BankRequest | None:
    """A sale on the first terminal that has no open attempt; None when every terminal waits for a reversal.

    None also for a debit that is decided, or that a bank was asked about before: it is asked once.

    On POS links a reversal goes out before the next sale of that terminal: so an open one blocks its terminal, and
    only its terminal.
    """
    terminal = _free_terminal(tx, channel.name, terminals.numbers)
    if terminal is None or sale_of(tx, debit_id) is not None or debit_row(tx, debit_id).state != "held":
        return None
    order = SaleOrder(
        terminal=terminal,
        batch=terminals.batch,
        stan=_next_stan(tx, channel.name, terminal),
        amount_fen=amount_fen,
        contract_ref=contract_ref,
        at=at,
    )
    request = channel.sale(order)
    _insert(
        tx,
        channel.name,
        order,
        attempt_id=attempt_id,
        debit_id=debit_id,
        kind="sale",
        request=request,
        reversal=channel.reversal(order),
    )
    return BankRequest(attempt_id, channel.name, terminal, order.stan, request)


def settle_answer(tx: Transaction, attempt_id: str, answer: BankAnswer) -> Row:
    """Put the bank's word, or its absence, on a stored sale; returns the attempt as it then stands.

    What is already known stands: an answer that came in by another way while this one was decided is not undone.
    """
    row = attempt_row(tx, attempt_id)
    if row.state != "stored":
        return row
    if answer.verdict is AnswerClass.APPROVED:
        _set(tx, attempt_id, "approved", answer)
    elif answer.verdict is AnswerClass.DECLINED:
        _set(tx, attempt_id, "declined", answer)
    elif answer.delivery == "not_sent":
        _set(tx, attempt_id, "not_sent", answer)
    else:
        _set(tx, attempt_id, "unknown", answer)
        _queue(tx, row, "reversal")
    return attempt_row(tx, attempt_id)


def queue_advice(
    tx: Transaction, debit: Row, channel: BankChannel, *, terminal: str, batch: str, attempt_id: str, at: datetime
) -> None:
    """Tell the bank what was decided in its place. Only for an owed debit with no earlier attempt open."""
    if debit.state != "owed" or debit.contract_ref is None or _has_unresolved(tx, debit.id):
        return
    order = SaleOrder(
        terminal=terminal,
        batch=batch,
        stan=_next_stan(tx, channel.name, terminal),
        amount_fen=debit.amount,
        contract_ref=debit.contract_ref,
        at=at,
    )
    _insert(
        tx,
        channel.name,
        order,
        attempt_id=attempt_id,
        debit_id=debit.id,
        kind="advice",
        request=channel.advice(order),
        reversal=None,
    )
    _queue(tx, attempt_row(tx, attempt_id), "advice")


def begin_reversal(tx: Transaction, attempt_id: str) -> Outgoing | None:
    """Durable before the reversal's first byte: from here on it wins. None when it is no longer wanted."""
    row = attempt_row(tx, attempt_id)
    if row.state not in ("unknown", "reversing"):
        return None
    _set(tx, attempt_id, "reversing", None, sends=row.sends + 1)
    return Outgoing(bytes(row.reversal), sent_before=row.sends > 0)


def begin_advice(tx: Transaction, attempt_id: str) -> Outgoing | None:
    """Durable before the advice's first byte. None when the bank has answered it."""
    row = attempt_row(tx, attempt_id)
    if row.state != "stored":
        return None
    _set(tx, attempt_id, "stored", None, sends=row.sends + 1)
    return Outgoing(bytes(row.request), sent_before=row.sends > 0)


def close_reversal(tx: Transaction, attempt_id: str, answer: BankAnswer, *, max_message_age_us: int) -> bool:
    """True when the answer ends the reversal; "original not found" only once the sale can no longer arrive."""
    row = attempt_row(tx, attempt_id)
    if row.state != "reversing":
        return True
    found = answer.verdict is AnswerClass.APPROVED
    aged = tx.now_us - row.created_at >= max_message_age_us and not row.late_approval
    if not found and not (answer.verdict is AnswerClass.NOT_FOUND and aged):
        return False
    _set(tx, attempt_id, "reversed", answer)
    if row.late_approval:
        _clear_suspense(tx, row)
    return True


def late_answer(tx: Transaction, channel: str, terminal: str | None, stan: str, answer: BankAnswer) -> LateEffect:
    """An answer to a sale or advice that nobody waits for any more.

    Without a terminal the trace number must name one attempt alone, settled ones included: an answer repeated for one
    of them would else be taken for the answer of its namesake on another terminal.
    """
    if terminal is not None:
        rows = tx.rows(_ATTEMPT_AT_TERMINAL, channel=channel, stan=stan, terminal=terminal)
    else:
        rows = tx.rows(_ATTEMPTS_BY_STAN, channel=channel, stan=stan)
    if len(rows) != 1:
        return LateEffect.NO_SUCH_ATTEMPT if not rows else LateEffect.AMBIGUOUS
    row = rows[0]
    if answer.verdict is AnswerClass.APPROVED:
        return _late_approval(tx, row, answer)
    if answer.verdict is AnswerClass.DECLINED:
        return _late_decline(tx, row, answer)
    return LateEffect.IGNORED


def settle_advice(tx: Transaction, attempt_id: str, answer: BankAnswer) -> bool:
    """True when the answer ends the advice: paid, or a debt."""
    row = attempt_row(tx, attempt_id)
    if row.state != "stored":
        return True
    if answer.verdict is AnswerClass.APPROVED:
        _set(tx, attempt_id, "approved", answer)
        fund_by_bank(tx, row)
        return True
    if answer.verdict is AnswerClass.DECLINED:
        _set(tx, attempt_id, "declined", answer)
        to_debt(tx, row.debit_id)
        return True
    return False


def fund_by_bank(tx: Transaction, attempt: Row) -> None:
    """bank -> open, and the claim is paid."""
    debit = debit_row(tx, attempt.debit_id)
    if debit.state == "funded":
        raise RuntimeError(f"debit {debit.id} would be paid twice (attempt {attempt.id})")
    tx.books.move(
        "bank_approved",
        debit.id,
        source=(AccountKind.BANK, attempt.channel),
        target=(AccountKind.OPEN, debit.obligor_id),
        amount=attempt.amount,
        event_us=tx.now_us,
        attempt_id=attempt.id,
    )
    set_debit(tx, debit.id, "funded")


def to_debt(tx: Transaction, debit_id: str) -> None:
    """debt -> open: the bank said a final no; the claim stays, recovered by other ways."""
    debit = debit_row(tx, debit_id)
    tx.books.move(
        "declined",
        debit.id,
        source=(AccountKind.DEBT, debit.obligor_id),
        target=(AccountKind.OPEN, debit.obligor_id),
        amount=debit.amount,
        event_us=tx.now_us,
    )
    set_debit(tx, debit.id, "debt")


def sale_of(tx: Transaction, debit_id: str) -> Row | None:
    """The one sale of a debit, None when no bank was asked on line."""
    return tx.find(tables.attempt, debit_id=debit_id, kind="sale")


def debit_row(tx: Transaction, debit_id: str) -> Row:
    """One debit as it stands in this transaction."""
    return _one(tx.find(tables.debit, id=debit_id), f"debit {debit_id}")


def set_debit(tx: Transaction, debit_id: str, state: str, **values: int) -> None:
    """Move a debit to another state."""
    tx.update(tables.debit, {"id": debit_id}, state=state, changed_at=tx.now_us, **values)


def _late_approval(tx: Transaction, row: Row, answer: BankAnswer) -> LateEffect:
    if row.kind == "advice":
        if row.state != "stored":
            return LateEffect.IGNORED
        settle_advice(tx, row.id, answer)
        _drop_queued(tx, row.id)
        return LateEffect.SETTLED
    if row.state == "stored":
        _set(tx, row.id, "approved", answer)
        return LateEffect.NOTED
    if row.state == "unknown":
        _set(tx, row.id, "approved", answer)
        _drop_queued(tx, row.id)
        if debit_row(tx, row.debit_id).state == "owed":
            fund_by_bank(tx, row)
        return LateEffect.SETTLED
    if row.state in ("reversing", "reversed") and not row.late_approval:
        tx.books.move(
            "late_approval",
            row.debit_id,
            source=(AccountKind.BANK, row.channel),
            target=(AccountKind.SUSPENSE, row.channel),
            amount=row.amount,
            event_us=tx.now_us,
            attempt_id=row.id,
        )
        _set(tx, row.id, "reversing", None, late_approval=1)
        _drop_queued(tx, row.id)
        _queue(tx, row, "reversal")
        _advice_behind(tx, row.debit_id)
        return LateEffect.REOPENED
    return LateEffect.IGNORED


def _late_decline(tx: Transaction, row: Row, answer: BankAnswer) -> LateEffect:
    if row.kind == "advice" and row.state == "stored":
        settle_advice(tx, row.id, answer)
        _drop_queued(tx, row.id)
        return LateEffect.DECLINED
    if row.kind == "sale" and row.state in ("stored", "unknown"):
        _set(tx, row.id, "declined", answer)
        _drop_queued(tx, row.id)
        if debit_row(tx, row.debit_id).state == "owed":
            to_debt(tx, row.debit_id)
        return LateEffect.NOTED if row.state == "stored" else LateEffect.DECLINED
    return LateEffect.IGNORED


def _clear_suspense(tx: Transaction, row: Row) -> None:
    tx.books.move(
        "late_approval_reversed",
        row.debit_id,
        source=(AccountKind.SUSPENSE, row.channel),
        target=(AccountKind.BANK, row.channel),
        amount=row.amount,
        event_us=tx.now_us,
        attempt_id=row.id,
    )
    _set(tx, row.id, "reversed", None, late_approval=0)


def _free_terminal(tx: Transaction, channel: str, numbers: Iterable[str]) -> str | None:
    taken = {row.terminal for row in tx.rows(_BUSY_TERMINALS, channel=channel)}
    return next((number for number in numbers if number not in taken), None)


def _has_unresolved(tx: Transaction, debit_id: str) -> bool:
    return tx.first(_UNRESOLVED_OF_DEBIT, debit=debit_id) is not None


def _next_stan(tx: Transaction, channel: str, terminal: str) -> str:
    return f"{tx.next_number(f'stan:{channel}:{terminal}', wrap_after=STAN_MAX):06d}"


def _insert(
    tx: Transaction,
    channel: str,
    order: SaleOrder,
    *,
    attempt_id: str,
    debit_id: str,
    kind: str,
    request: bytes,
    reversal: bytes | None,
) -> None:
    tx.insert(
        tables.attempt,
        id=attempt_id,
        debit_id=debit_id,
        channel=channel,
        terminal=order.terminal,
        batch=order.batch,
        stan=order.stan,
        kind=kind,
        state="stored",
        amount=order.amount_fen,
        request=request,
        reversal=reversal,
        created_at=tx.now_us,
        changed_at=tx.now_us,
    )


def attempt_row(tx: Transaction, attempt_id: str) -> Row:
    """One attempt as it stands in this transaction."""
    return _one(tx.find(tables.attempt, id=attempt_id), f"attempt {attempt_id}")


def _one(row: Row | None, what: str) -> Row:
    """A row that a foreign key promises."""
    if row is None:
        raise LookupError(f"the ledger has no {what}")
    return row


def _set(tx: Transaction, attempt_id: str, state: str, answer: BankAnswer | None, **values: int) -> None:
    if answer is not None:
        heard = {
            "response_code": answer.code,
            "retrieval_reference": answer.retrieval_reference,
            "settlement_day": answer.settlement_day,
        }
    else:
        heard = {}
    tx.update(tables.attempt, {"id": attempt_id}, state=state, changed_at=tx.now_us, **heard, **values)


def _queue(tx: Transaction, row: Row, kind: str) -> None:
    tx.insert(
        tables.outbox,
        id=tx.row_id(tables.outbox),
        destination=f"{row.channel}/{row.terminal}",
        kind=kind,
        attempt_id=row.id,
        created_at=tx.now_us,
        next_at=tx.now_us,
    )


def _advice_behind(tx: Transaction, debit_id: str) -> None:
    """Put a debit's unanswered advice behind what was queued last."""
    for row in tx.rows(_OPEN_ADVICES, debit=debit_id):
        _drop_queued(tx, row.id)
        _queue(tx, row, "advice")


def _drop_queued(tx: Transaction, attempt_id: str) -> None:
    tx.execute(_DROP_QUEUED, attempt=attempt_id, now=tx.now_us)
