"""Changes on attempts: one try each to collect a debit from a bank, or to pay some of it back.

Theory of operation. A *sale* is stored with its bytes and those of its reversal before it leaves. It ends approved or
declined, or nobody answers: then it is `unknown`, its reversal waits in the outbox, and the debit is owed on our own
decision. A bank that can tell what became of it is asked first. `reversing` is committed before the reversal's first
byte. When the reversal closes, an *advice* tells the bank what we decided. A *recovery* is a sale for a debt. A
*refund* gives back what was collected.

    sale, recovery   stored -> approved | declined | not_sent | unknown;  unknown -> approved | declined | reversing
                     reversing -> reversed;  not_sent | declined | reversed -> reversing (an approval came late)
    advice, refund   stored -> approved | declined | unknown (given up by the rules; an item asks a person)
                     unknown -> approved | declined
    all              stored | unknown | reversing -> disputed;  disputed -> approved | declined | reversing
                     declined -> disputed (advice, refund);  approved -> declined (a person's or the day file's word)

Sales and recoveries that nobody answers are reversed; advices and refunds are repeated, never reversed. At most one
attempt of a debit is unresolved at a time. What comes after its time is in `gateway.debit.late`.

`disputed`: nobody here can tell whether the bank booked it, and it is not ours to undo or to ask again. The bank has
answered that it knows the reference of a message that left once: it may be that of an earlier, paid sale, of a ledger
that was lost. Or its end may stand in a part of the ledger that was lost (`gateway.debit.adoption`). The debit
waits, with an item, for people or the bank's day file; its channel does not wait (`reference_known`).

An answer that says something else than was asked (another amount, currency, merchant) settles nothing: it is treated as
one without a final word, and an item names the field.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum

from sqlalchemy import bindparam, select, update

from gateway.banks.channel import (
    REPEATED_KINDS,
    REVERSED_KINDS,
    BankAnswer,
    BankChannel,
    NewAttempt,
    NothingFree,
    Order,
)
from gateway.debit import debts, refunds
from gateway.debit.claims import BankRequest
from gateway.debit.states import (
    CONTRADICTED,
    DIFFERS,
    DISPUTED,
    add_attempt,
    add_item,
    attempt_row,
    close_item,
    debit_row,
    in_doubt,
    outcome_lost,
    set_attempt,
    set_debit,
)
from gateway.ledger import tables
from gateway.ledger.books import AccountKind
from gateway.ledger.statements import Row
from gateway.ledger.transaction import Transaction
from gateway.model.answers import UNANSWERED, AnswerClass
from gateway.model.delivery import Delivery
from gateway.model.states import ANSWERABLE, AttemptState, DebitState
from gateway.rules.loading import DebitRules

_OFF_QUEUE = (
    update(tables.outbox)
    .where(tables.outbox.c.attempt_id == bindparam("attempt"), tables.outbox.c.done_at.is_(None))
    .values(done_at=bindparam("now"), last_answer=bindparam("why"))
)
_SALE_OF_DEBIT = select(tables.attempt).where(
    tables.attempt.c.debit_id == bindparam("debit"), tables.attempt.c.kind == "sale"
)


@dataclass(frozen=True, slots=True)
class Outgoing:
    """Message about to leave, for the outbox to send."""

    message: bytes
    reference: str
    sent_before: bool
    """True when it left, or may have left, once before."""


class Recovery(Enum):
    """Result of a try to collect a debt that was due."""

    QUEUED = "one more try"
    LATER = "nothing can be asked of its bank now"
    NOT_DUE = "no longer due"
    WITHOUT_BANK = "no bank can be asked for it, a person must see to it"


@dataclass(frozen=True, slots=True)
class Asking:
    """Way to ask or tell a bank: its channel and the new attempt."""

    channel: BankChannel
    new: NewAttempt
    charge_point: str | None = None
    """Charge point where a customer waits; None when none does."""


def store_sale(tx: Transaction, asking: Asking, debit: Row) -> BankRequest | None:
    """Store a sale, ready to be sent; None when its channel has nothing free for it.

    None also for a debit that is decided, or that a bank was asked about before: it is asked once.
    """
    if debit.state != DebitState.HELD or debit.contract_ref is None or sale_of(tx, debit.id) is not None:
        return None
    if outcome_lost(tx, debit.id):
        return None
    return _store(tx, asking, debit, "sale")


def store_recovery(tx: Transaction, asking: Asking, debit: Row) -> Recovery:
    """Make a new try to collect a debt, ready to be sent, where one can be made."""
    if debit.state != DebitState.DEBT or in_doubt(tx, debit.id):
        return Recovery.NOT_DUE
    if debit.contract_ref is None or not asking.channel.takes(debit.contract_ref):
        debts.without_bank(tx, debit)
        return Recovery.WITHOUT_BANK
    if _store(tx, asking, debit, "recovery") is None:
        return Recovery.LATER
    tx.update(tables.debit, {"id": debit.id}, retry_at=None, retries=debit.retries + 1)
    queue(tx, attempt_row(tx, asking.new.id), "recovery")
    return Recovery.QUEUED


def queue_advice(tx: Transaction, debit: Row, asking: Asking) -> None:
    """Queue an advice of what was decided in the bank's place. Only for an owed debit with no earlier attempt open."""
    if debit.state != DebitState.OWED or debit.contract_ref is None or in_doubt(tx, debit.id):
        return
    if _store(tx, asking, debit, "advice") is not None:
        queue(tx, attempt_row(tx, asking.new.id), "advice")


def queue_refund(tx: Transaction, refund: Row, debit: Row, asking: Asking) -> None:
    """Queue a refund that the bank pays; repeated until it answers. Not while it may have been asked before."""
    if outcome_lost(tx, refund.id):
        return
    if debit.contract_ref is None:
        raise ValueError(f"debit {debit.id} has no contract a refund could name")
    if _store(tx, asking, debit, "refund", amount=refund.amount) is not None:
        tx.update(tables.refund, {"id": refund.id}, attempt_id=asking.new.id, changed_at=tx.now_us)
        queue(tx, attempt_row(tx, asking.new.id), "refund")


def settle_answer(tx: Transaction, attempt_id: str, answer: BankAnswer, channel: BankChannel | None = None) -> Row:
    """Record the bank's answer, or its absence, on a stored sale; returns the attempt as it then stands.

    What is already known stands: an answer that came in by another way while this one was decided is not undone.
    """
    row = attempt_row(tx, attempt_id)
    note_difference(tx, row, answer)
    if row.state != AttemptState.STORED:
        return row
    if answer.verdict is AnswerClass.DUPLICATE:
        reference_known(tx, row, answer, channel)
    elif answer.verdict is AnswerClass.APPROVED:
        heard(tx, row, AttemptState.APPROVED, answer)
    elif answer.refused:
        heard(tx, row, AttemptState.DECLINED, answer)
    elif answer.delivery is Delivery.NOT_SENT:
        heard(tx, row, AttemptState.NOT_SENT, answer)
    else:
        heard(tx, row, AttemptState.UNKNOWN, answer)
        queue(tx, row, "reversal")
    return attempt_row(tx, attempt_id)


def begin_reversal(tx: Transaction, attempt_id: str) -> Outgoing | None:
    """Begin a reversal, durable before its first byte: from here on it wins. None when it is no longer wanted."""
    row = attempt_row(tx, attempt_id)
    if row.state not in (AttemptState.UNKNOWN, AttemptState.REVERSING) or row.kind not in REVERSED_KINDS:
        return None
    set_attempt(tx, row, AttemptState.REVERSING, sends=row.sends + 1)
    return Outgoing(bytes(row.reversal), row.reference, sent_before=row.sends > 0)


def begin_message(tx: Transaction, attempt_id: str) -> Outgoing | None:
    """Begin an advice, refund or recovery, durable before its first byte. None when the bank has answered it."""
    row = attempt_row(tx, attempt_id)
    if row.state != AttemptState.STORED:
        return None
    set_attempt(tx, row, AttemptState.STORED, sends=row.sends + 1)
    return Outgoing(bytes(row.request), row.reference, sent_before=row.sends > 0)


def close_reversal(tx: Transaction, attempt_id: str, answer: BankAnswer, *, aged: bool, rules: DebitRules) -> bool:
    """True when the answer ends a reversal; "original not found" only when `aged`: the sale can no longer arrive."""
    row = attempt_row(tx, attempt_id)
    note_difference(tx, row, answer)
    if row.state != AttemptState.REVERSING:
        return True
    found = answer.verdict is AnswerClass.APPROVED
    over = aged and not row.late_approval
    if not found and not (answer.verdict is AnswerClass.NOT_FOUND and over):
        return False
    end_reversal(tx, row, answer, rules)
    return True


def end_reversal(tx: Transaction, row: Row, answer: BankAnswer | None, rules: DebitRules) -> None:
    """Move reversing -> reversed; money of a late approval goes back to the bank."""
    if answer is None:
        set_attempt(tx, row, AttemptState.REVERSED)
    else:
        heard(tx, row, AttemptState.REVERSED, answer)
    if row.late_approval:
        tx.books.move(
            "late_approval_reversed",
            row.debit_id,
            source=(AccountKind.SUSPENSE, row.channel),
            target=(AccountKind.BANK, row.channel),
            amount=row.amount,
            event_us=tx.now_us,
            attempt_id=row.id,
        )
        tx.update(tables.attempt, {"id": row.id}, late_approval=0)
    close_item(tx, CONTRADICTED, row.id, note="it is reversed")
    if row.kind == "recovery":
        debts.refused_again(tx, row.debit_id, rules, UNANSWERED)


def settle_message(
    tx: Transaction, attempt_id: str, answer: BankAnswer, rules: DebitRules, channel: BankChannel | None = None
) -> bool:
    """Settle a message: True when the answer ends an advice, a refund or a recovery; False when it must be repeated."""
    row = attempt_row(tx, attempt_id)
    if row.state not in ANSWERABLE:
        return True
    if row.kind == "recovery":
        return _settle_recovery(tx, row, answer, rules, channel)
    note_difference(tx, row, answer)
    if answer.verdict is AnswerClass.DUPLICATE and row.sends == 1:
        reference_known(tx, row, answer, channel)
        return True
    approved = answer.verdict is AnswerClass.APPROVED
    if not (approved or answer.refused):
        return False
    heard(tx, row, AttemptState.APPROVED if approved else AttemptState.DECLINED, answer)
    if row.kind == "refund":
        refunds.answered(tx, row, approved=approved, code=answer.code)
    elif approved:
        fund_by_bank(tx, row, rules)
    else:
        debts.to_debt(tx, row.debit_id, rules, answer.refusal)
    return True


def give_up_message(tx: Transaction, attempt_id: str) -> None:
    """Give up a message that the rules repeat no longer: the bank may know of it or not, and a person must find out."""
    row = attempt_row(tx, attempt_id)
    if row.state != AttemptState.STORED or row.kind not in REPEATED_KINDS:
        return
    set_attempt(tx, row, AttemptState.UNKNOWN)
    kind = f"{row.kind}_unanswered"
    add_item(tx, kind, row.debit_id, "the bank never answered it", ref=row.id, amount=row.amount, again=True)


def reference_known(tx: Transaction, row: Row, answer: BankAnswer, channel: BankChannel | None) -> None:
    """Handle the bank's answer that it knows the keys of a message that left once."""
    heard(tx, row, AttemptState.DISPUTED, answer)
    dispute(tx, attempt_row(tx, row.id), "the bank knows these keys already, and they were sent once")
    if channel is not None:
        channel.reference_known(tx, row.id)


def dispute(tx: Transaction, row: Row, why: str) -> None:
    """Dispute an attempt: nothing is undone, repeated or asked anew before a word of people or the bank's day file.

    What waits in the queue for it is dropped, an item is opened. `why` is for people, 200 characters at most.
    """
    set_attempt(tx, row, AttemptState.DISPUTED)
    off_queue(tx, row.id, "disputed")
    add_item(tx, DISPUTED, row.debit_id, why, ref=row.id, amount=row.amount, again=True)


def note_difference(tx: Transaction, row: Row, answer: BankAnswer) -> None:
    """Open an item for people where an answer says something else than was asked."""
    if answer.difference is not None:
        add_item(tx, DIFFERS, row.debit_id, answer.difference[:200], ref=row.id, amount=row.amount)


def fund_by_bank(tx: Transaction, attempt: Row, rules: DebitRules) -> None:
    """Post bank -> open (or debt): the claim is paid."""
    debit = debit_row(tx, attempt.debit_id)
    if debit.state == DebitState.DEBT:
        bank = (AccountKind.BANK, attempt.channel)
        debts.recovered(tx, debit, bank, rules, event="bank_approved", attempt_id=attempt.id)
        return
    tx.books.move(
        "bank_approved",
        debit.id,
        source=(AccountKind.BANK, attempt.channel),
        target=(AccountKind.OPEN, debit.obligor_id),
        amount=attempt.amount,
        event_us=tx.now_us,
        attempt_id=attempt.id,
    )
    set_debit(tx, debit, DebitState.FUNDED, collected=attempt.amount)


def sale_of(tx: Transaction, debit_id: str) -> Row | None:
    """Find the one sale of a debit, None when no bank was asked on line."""
    found = tx.rows(_SALE_OF_DEBIT, debit=debit_id)
    return found[0] if found else None


def heard(tx: Transaction, row: Row, state: AttemptState, answer: BankAnswer) -> None:
    """Move an attempt to the state an answer leads to, and keep the bank's codes; a person's or a day file's word has
    none, and earlier codes stay."""
    # From here on it is counted how often the reversal left: its first one is no repetition.
    over = row.kind == "recovery" and row.state == AttemptState.STORED
    said = {
        "response_code": answer.code,
        "answer_class": answer.verdict,
        "retrieval_reference": answer.retrieval_reference,
    }
    set_attempt(
        tx,
        row,
        state,
        sends=0 if over else row.sends,
        settlement_day=answer.settlement_day,
        **({} if answer.code is None else said),
    )


def queue(tx: Transaction, row: Row, kind: str) -> None:
    """Queue a message behind those that wait at its destination."""
    tx.insert(
        tables.outbox,
        id=tx.row_id(tables.outbox),
        destination=row.destination,
        kind=kind,
        attempt_id=row.id,
        created_at=tx.now_us,
        next_at=tx.now_us,
    )


def off_queue(tx: Transaction, attempt_id: str, why: str) -> None:
    """Take an attempt's messages off the queue: they are no longer wanted."""
    tx.execute(_OFF_QUEUE, attempt=attempt_id, now=tx.now_us, why=why)


def _settle_recovery(
    tx: Transaction, row: Row, answer: BankAnswer, rules: DebitRules, channel: BankChannel | None
) -> bool:
    """Settle a recovery; always an end of this message: what is in doubt is not repeated but reversed."""
    if row.state != AttemptState.STORED:
        return True
    settled = settle_answer(tx, row.id, answer, channel)
    if settled.state == AttemptState.APPROVED:
        fund_by_bank(tx, settled, rules)
    elif settled.state == AttemptState.DECLINED:
        debts.refused_again(tx, row.debit_id, rules, answer.refusal)
    elif settled.state == AttemptState.NOT_SENT:
        debts.not_tried(tx, row.debit_id, rules)
    return True


def _store(tx: Transaction, asking: Asking, debit: Row, kind: str, *, amount: int | None = None) -> BankRequest | None:
    """Store an attempt with its channel's order; None when the channel can make none now."""
    channel, fen = asking.channel, debit.amount if amount is None else amount

    def order() -> Order | NothingFree:
        return channel.order(
            tx,
            asking.new,
            kind,
            debit_id=debit.id,
            amount_fen=fen,
            contract_ref=debit.contract_ref,
            charge_point=asking.charge_point,
        )

    made = order()
    if isinstance(made, NothingFree) and kind == "sale" and _gives_way(tx, made.kept_by):
        made = order()
    if isinstance(made, NothingFree):
        return None
    add_attempt(
        tx,
        asking.new.id,
        debit_id=debit.id,
        channel=channel.name,
        reference=made.reference,
        destination=made.destination,
        kind=kind,
        amount=fen,
        request=made.request,
        reversal=made.reversal,
    )
    return BankRequest(channel.name, made.reference, made.request)


def _gives_way(tx: Transaction, kept_by: Iterable[str]) -> bool:
    """True when one of these was a recovery that has not left: it is cancelled and due again.

    Debts wait for days, and a vehicle does not wait for them.
    """
    for attempt_id in kept_by:
        recovery = attempt_row(tx, attempt_id)
        if (recovery.kind, recovery.state, recovery.sends) != ("recovery", AttemptState.STORED, 0):
            continue
        set_attempt(tx, recovery, AttemptState.NOT_SENT)
        off_queue(tx, recovery.id, "gave way to a vehicle")
        retries = debit_row(tx, recovery.debit_id).retries - 1
        tx.update(tables.debit, {"id": recovery.debit_id}, retries=retries, retry_at=tx.now_us)
        return True
    return False
