"""Late bank answers: answers no exchange waits for, and the results that a day file or a person gives.

An approval that comes while the reversal has not left settles the debit. Once the reversal left, the reversal wins:
the approval goes bank -> suspense, never to the debit, the reversal is opened again with the same bytes, and its close
moves the money back. Only the answer to a reversal that left after the approval was heard is such a close, and an
advice that has not been answered waits behind it. "Original not found" closes a reversal only when a message can no
longer be under way, and never one whose original the bank has approved.

Two opposite final answers to one message are a contradiction: money was possibly taken. What came first stays as it
came, an item tells people, and the debit is not asked anew before it is known which was true:

| first, then | sale, recovery | advice, refund |
|---|---|---|
| approved, declined | stays approved; the day file or a person ends it | the same |
| declined, approved | money in suspense, reversed as any late approval | disputed: it cannot be reversed |

Where the day file or a person then says that nothing was booked behind an approval, it is withdrawn: the money goes
back to the bank's account and the claim is a debt; one that nobody has decided yet stays held. Nothing of it may have
been given back or cleared before.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from enum import Enum

from sqlalchemy import bindparam, select

from gateway.banks.channel import REVERSED_KINDS, BankAnswer, BankChannel, LateAnswer
from gateway.debit import debts, refunds
from gateway.debit.attempts import (
    dispute,
    end_reversal,
    fund_by_bank,
    heard,
    note_difference,
    off_queue,
    queue,
    reference_known,
    settle_message,
)
from gateway.debit.states import (
    CONTRADICTED,
    DISPUTED,
    add_item,
    attempt_row,
    close_item,
    debit_row,
    has_open_item,
    set_attempt,
)
from gateway.ledger import tables
from gateway.ledger.books import AccountKind
from gateway.ledger.statements import Row
from gateway.ledger.transaction import Transaction
from gateway.model.answers import UNANSWERED, AnswerClass
from gateway.model.delivery import Delivery
from gateway.model.states import ANSWERABLE, AWAITED, BANK_DEBITS, UNRESOLVED, AttemptState, DebitState, RefundState
from gateway.rules.loading import DebitRules

_attempt = tables.attempt
_OPEN_ADVICES = select(_attempt).where(
    _attempt.c.debit_id == bindparam("debit"), _attempt.c.kind == "advice", _attempt.c.state == AttemptState.STORED
)


_ASKED_OF_DEBIT = (
    select(_attempt.c.id)
    .where(_attempt.c.debit_id == bindparam("debit"), _attempt.c.state.in_(UNRESOLVED), _attempt.c.late_approval == 0)
    .limit(1)
)
"""Unresolved attempt whose money may still come in; not one with a late approval, whose money only goes back."""


class LateEffect(Enum):
    """Effect of a late bank answer."""

    NO_SUCH_ATTEMPT = "no such attempt"
    AMBIGUOUS = "more than one attempt could be meant"
    NOTED = "noted before the decision"
    SETTLED = "settled the debit"
    DECLINED = "declined before the reversal left"
    REOPENED = "approval after the reversal: reversal opened again"
    CLOSED = "closed: the bank has nothing to undo"
    TOLD_AGAIN = "the bank is told again"
    CONTRADICTED = "the opposite of what was said before"
    DISPUTED = "disputed: the bank knows keys that we have sent once"
    DIFFERS = "something else than was asked: it settles nothing"
    WITHDRAWN = "approval withdrawn: the bank has booked nothing"
    IGNORED = "already known"


NO_NEWS = (LateEffect.NO_SUCH_ATTEMPT, LateEffect.IGNORED)
"""Effects that changed nothing: a link may bring any number of them."""


def late_answer(tx: Transaction, channel: BankChannel, told: LateAnswer, rules: DebitRules) -> LateEffect:
    """Book an answer to a sale, recovery, advice or refund that no exchange waits for any more."""
    meant = channel.meant(tx, told)
    if len(meant.attempts) > 1:
        return LateEffect.AMBIGUOUS
    if not meant.attempts:
        return _of_nobody(tx, meant.alike, told)
    row = attempt_row(tx, meant.attempts[0])
    return answered(tx, row, told.about(bytes(row.request)), rules, channel)


def answered(tx: Transaction, row: Row, answer: BankAnswer, rules: DebitRules, channel: BankChannel) -> LateEffect:
    """Book a bank answer on an attempt; there may have been another before."""
    note_difference(tx, row, answer)
    if row.state == AttemptState.DISPUTED:
        # Whose message such a word is about is what is in dispute.
        return LateEffect.IGNORED
    if answer.verdict is AnswerClass.DUPLICATE:
        return _reference_known(tx, row, answer, channel)
    if answer.verdict is AnswerClass.APPROVED:
        return _approved(tx, row, answer, rules)
    if answer.refused:
        return _declined(tx, row, answer, rules)
    return LateEffect.IGNORED if answer.difference is None else LateEffect.DIFFERS


def resolve_attempt(
    tx: Transaction,
    attempt_id: str,
    *,
    posted: bool,
    source: str,
    actor: str,
    rules: DebitRules,
    settlement_day: str | None = None,
) -> LateEffect:
    """Resolve an attempt by the bank's day file, or by a person who asked the bank: its money moved, or it did not.

    `source` names the file or the call, for the journal; `settlement_day` is the day the bank booked it on, where it
    is known. A word that changes nothing is not written down.
    """
    row = attempt_row(tx, attempt_id)
    if not _is_news(tx, row, posted=posted):
        return LateEffect.IGNORED
    tx.note(
        "person",
        row.id,
        "said_posted" if posted else "said_not_posted",
        debit_id=row.debit_id,
        detail=source[:400],
        actor=actor,
    )
    for kind in (f"{row.kind}_unanswered", CONTRADICTED, DISPUTED):
        close_item(tx, kind, row.id, note=source, actor=actor)
    word = AnswerClass.APPROVED if posted else AnswerClass.DECLINED
    day = settlement_day or row.settlement_day
    answer = BankAnswer(Delivery.ANSWERED, word, settlement_day=day)
    if row.state == AttemptState.DISPUTED and row.late_approval:
        return _suspense_told(tx, row, rules, posted=posted)
    if row.state == AttemptState.APPROVED:
        return LateEffect.SETTLED if posted else _withdraw(tx, row, answer, rules)
    if row.state == AttemptState.DECLINED and row.kind not in REVERSED_KINDS:
        if not posted:
            return LateEffect.CLOSED
        set_attempt(tx, row, AttemptState.DISPUTED)
        return _booked(tx, attempt_row(tx, row.id), answer, rules)
    if row.state == AttemptState.DISPUTED:
        return _booked(tx, row, answer, rules) if posted else _not_booked(tx, row, answer, rules)
    if posted:
        return _approved(tx, row, answer, rules)
    if row.kind in REVERSED_KINDS:
        _drop_queued(tx, row.id)
        if row.state == AttemptState.UNKNOWN:
            set_attempt(tx, row, AttemptState.REVERSING)
        end_reversal(tx, attempt_row(tx, row.id), None, rules)
        return LateEffect.CLOSED
    # It is told again from the start.
    set_attempt(tx, row, AttemptState.STORED)
    queue(tx, row, row.kind)
    return LateEffect.TOLD_AGAIN


def _is_news(tx: Transaction, row: Row, *, posted: bool) -> bool:
    """True when such a result changes anything. A "not posted" does not undo what the bank answered itself, unless the
    bank has contradicted itself."""
    if row.state == AttemptState.DISPUTED:
        return True
    if row.state == AttemptState.APPROVED:
        return has_open_item(tx, CONTRADICTED, row.id) and (posted or _can_be_withdrawn(tx, row))
    if row.kind not in REVERSED_KINDS and row.state == AttemptState.DECLINED:
        return _can_be_asked_again(tx, row) if posted else has_open_item(tx, CONTRADICTED, row.id)
    if row.kind not in REVERSED_KINDS:
        return row.state in (ANSWERABLE if posted else (AttemptState.UNKNOWN,))
    if posted:
        return not row.late_approval
    return row.state in (AttemptState.UNKNOWN, AttemptState.REVERSING)


def _of_nobody(tx: Transaction, alike: Sequence[str], told: LateAnswer) -> LateEffect:
    """Book an answer about none of our attempts. Where a single attempt waits for an answer much like it, it may be
    that one's, altered: people look at it; the attempt stays as it is after silence."""
    if len(alike) == 1:
        row = attempt_row(tx, alike[0])
        note_difference(tx, row, told.about(bytes(row.request)))
    return LateEffect.NO_SUCH_ATTEMPT


def _reference_known(tx: Transaction, row: Row, answer: BankAnswer, channel: BankChannel) -> LateEffect:
    """Book a late 94. It says nothing of a message that we have sent again; nor can what has ended be disputed."""
    sent_once = row.kind in REVERSED_KINDS or row.sends == 1
    if not sent_once or row.state not in AWAITED or row.late_approval:
        return LateEffect.IGNORED
    reference_known(tx, row, answer, channel)
    return LateEffect.DISPUTED


def _approved(tx: Transaction, row: Row, answer: BankAnswer, rules: DebitRules) -> LateEffect:
    if row.kind not in REVERSED_KINDS:
        if row.state == AttemptState.DECLINED:
            return _approved_after_all(tx, row)
        if row.state not in ANSWERABLE:
            return LateEffect.IGNORED
        _settle_message(tx, row, answer, rules)
        return LateEffect.SETTLED
    if row.state == AttemptState.STORED:
        heard(tx, row, AttemptState.APPROVED, answer)
        if row.kind == "recovery":
            _drop_queued(tx, row.id)
            fund_by_bank(tx, row, rules)
        return LateEffect.NOTED
    if row.state == AttemptState.UNKNOWN:
        heard(tx, row, AttemptState.APPROVED, answer)
        _drop_queued(tx, row.id)
        if debit_row(tx, row.debit_id).state in (DebitState.OWED, DebitState.DEBT):
            fund_by_bank(tx, row, rules)
        return LateEffect.SETTLED
    if row.state == AttemptState.APPROVED or row.late_approval:
        return LateEffect.IGNORED
    # Reversing, reversed, or answered otherwise before.
    if row.state == AttemptState.DECLINED:
        _contradicted(tx, row, f"the bank refused it with {row.response_code}, and approved it later")
    return _into_suspense(tx, row)


def _into_suspense(tx: Transaction, row: Row) -> LateEffect:
    """Move the bank's money to suspense: it is in none of our claims, and goes back."""
    tx.books.move(
        "late_approval",
        row.debit_id,
        source=(AccountKind.BANK, row.channel),
        target=(AccountKind.SUSPENSE, row.channel),
        amount=row.amount,
        event_us=tx.now_us,
        attempt_id=row.id,
    )
    set_attempt(tx, row, AttemptState.REVERSING, late_approval=1)
    _drop_queued(tx, row.id)
    queue(tx, row, "reversal")
    _advice_behind(tx, row.debit_id)
    return LateEffect.REOPENED


def _approved_after_all(tx: Transaction, row: Row) -> LateEffect:
    """Book an approval of an advice or refund that the bank refused before. None of them can be reversed: where its
    money is still due it must not be asked for another way until it is known what the bank did."""
    effect = _contradicted(tx, row, f"the bank refused it with {row.response_code}, and approved it later")
    if _can_be_asked_again(tx, row):
        dispute(tx, row, "refused, then approved: it cannot be reversed")
    return effect


def _can_be_asked_again(tx: Transaction, row: Row) -> bool:
    """True when the money of a refused advice or refund is still due, and nothing else is under way for its debit."""
    if tx.first(_ASKED_OF_DEBIT, debit=row.debit_id) is not None:
        return False
    if row.kind == "refund":
        return bool(refunds.of_attempt(tx, row).state == RefundState.DECIDED)
    return bool(debit_row(tx, row.debit_id).state == DebitState.DEBT)


def _declined(tx: Transaction, row: Row, answer: BankAnswer, rules: DebitRules) -> LateEffect:
    if row.state == AttemptState.APPROVED:
        return _contradicted(tx, row, f"the bank approved it, and refused it later with {answer.code}")
    if row.kind not in REVERSED_KINDS:
        if row.state not in ANSWERABLE:
            return LateEffect.IGNORED
        _settle_message(tx, row, answer, rules)
        return LateEffect.DECLINED
    if row.state not in ANSWERABLE:
        return LateEffect.IGNORED
    heard(tx, row, AttemptState.DECLINED, answer)
    _drop_queued(tx, row.id)
    if row.kind == "recovery":
        debts.refused_again(tx, row.debit_id, rules, answer.refusal)
    elif debit_row(tx, row.debit_id).state == DebitState.OWED:
        debts.to_debt(tx, row.debit_id, rules, answer.refusal)
    return LateEffect.NOTED if row.state == AttemptState.STORED else LateEffect.DECLINED


def _suspense_told(tx: Transaction, row: Row, rules: DebitRules, *, posted: bool) -> LateEffect:
    """Resolve a late approval whose reversal may have ended in a part of the ledger that was lost."""
    if not posted:
        end_reversal(tx, row, None, rules)
        return LateEffect.CLOSED
    set_attempt(tx, row, AttemptState.REVERSING, sends=0)
    queue(tx, row, "reversal")
    return LateEffect.REOPENED


def _contradicted(tx: Transaction, row: Row, note: str) -> LateEffect:
    if has_open_item(tx, CONTRADICTED, row.id):
        return LateEffect.IGNORED
    add_item(tx, CONTRADICTED, row.debit_id, note, ref=row.id, amount=row.amount, again=True)
    return LateEffect.CONTRADICTED


def _booked(tx: Transaction, row: Row, answer: BankAnswer, rules: DebitRules) -> LateEffect:
    """Book a disputed attempt that the bank posted for us."""
    if row.kind == "refund":
        heard(tx, row, AttemptState.APPROVED, answer)
        refunds.answered(tx, row, approved=True, code=answer.code)
        return LateEffect.SETTLED
    state = debit_row(tx, row.debit_id).state
    if row.kind in REVERSED_KINDS and state not in BANK_DEBITS:
        # It was paid another way: this money is in none of our claims.
        return _into_suspense(tx, row)
    heard(tx, row, AttemptState.APPROVED, answer)
    if state != DebitState.HELD:
        fund_by_bank(tx, row, rules)
    return LateEffect.SETTLED


def _not_booked(tx: Transaction, row: Row, answer: BankAnswer, rules: DebitRules) -> LateEffect:
    """Close a disputed attempt that moved nothing: what is still due may be asked for again, under keys of its own."""
    heard(tx, row, AttemptState.DECLINED, answer)
    if row.kind == "recovery":
        debts.refused_again(tx, row.debit_id, rules, UNANSWERED)
    elif row.kind == "refund":
        refunds.tell_anew(tx, row)
    return LateEffect.CLOSED


def _can_be_withdrawn(tx: Transaction, row: Row) -> bool:
    cleared = tx.find(tables.clearing_row, ref=row.id)
    settled = cleared is not None and cleared.line_id is not None
    return not settled and (row.kind == "refund" or debit_row(tx, row.debit_id).refunded == 0)


def _withdraw(tx: Transaction, row: Row, answer: BankAnswer, rules: DebitRules) -> LateEffect:
    """Withdraw an approval for which the bank has booked nothing. A debit that is held stays held: its later decision
    treats this bank as one that did not answer."""
    held = debit_row(tx, row.debit_id).state == DebitState.HELD
    silent = replace(answer, verdict=UNANSWERED.answer, code=UNANSWERED.code)
    heard(tx, row, AttemptState.DECLINED, silent if held else answer)
    if row.kind == "refund":
        refunds.withdrawn(tx, row)
    elif not held:
        debts.approval_withdrawn(tx, row, rules)
    return LateEffect.WITHDRAWN


def _settle_message(tx: Transaction, row: Row, answer: BankAnswer, rules: DebitRules) -> None:
    settle_message(tx, row.id, answer, rules)
    _drop_queued(tx, row.id)
    close_item(tx, f"{row.kind}_unanswered", row.id, note="the bank answered after all")


def _advice_behind(tx: Transaction, debit_id: str) -> None:
    """Put a debit's unanswered advice behind what was queued last."""
    for row in tx.rows(_OPEN_ADVICES, debit=debit_id):
        _drop_queued(tx, row.id)
        queue(tx, row, "advice")


def _drop_queued(tx: Transaction, attempt_id: str) -> None:
    off_queue(tx, attempt_id, "answered late")
