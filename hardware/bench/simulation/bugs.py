"""Known bugs that can be planted in the gateway's code to prove that the simulation finds them, see `planting`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from typing import Any

from sqlalchemy import bindparam, select

from drivers import bank, barrier_arm, lane_io
from gateway.banks import iso8583, pos, turns
from gateway.debit import (
    adoption,
    attempts,
    conclusions,
    holds,
    late,
    limits,
    purchase_proof,
    recovery,
    refunds,
    states,
)
from gateway.ledger import (
    batches,
    books,
    chain,
    clock_readings,
    incarnation,
    positions,
    seals,
    tables,
    transaction,
    verify_seals,
)
from gateway.model.clock import to_us
from gateway.model.states import AWAITED
from gateway.outbox import worker
from gateway.points.etc import antenna_point, purchase, seen_before, visit
from gateway.points.gate import gate
from gateway.points.toll import sale as toll_sale
from hardware.bench.simulation import site
from hardware.bench.simulation.fuel_bugs import FUEL_BUGS
from hardware.bench.simulation.planting import Bug, edit, put
from protocols.bank import responses


@contextmanager
def _answers_before_commit() -> Iterator[None]:
    """Answer every second group before it is stored together with the next one."""
    real = batches.Committer.commit
    kept: list[Any] = []

    def commit(self: batches.Committer, changes: list[Any]) -> list[Any]:
        if kept or len(changes) != 1:
            earlier, kept[:] = list(kept), []
            return real(self, [*earlier, *changes])[len(earlier) :]
        with self._engine.connect() as connection:
            tx = self.transaction(connection, to_us(self._clock.utcnow()))
            results = [change(tx) for change in changes]
            connection.rollback()
        kept.extend(changes)
        return results

    with put(batches.Committer, "commit", commit):
        yield


@contextmanager
def _outbox_outside() -> Iterator[None]:
    """Queue a message in the next change, not in the one that makes it necessary."""
    real = attempts.queue
    kept: list[Any] = []

    def queue(tx: Any, row: Any, kind: str) -> None:  # noqa: ANN401 - as the original
        earlier, kept[:] = list(kept), [(row, kind)]
        for one in earlier:
            real(tx, *one)

    with put(attempts, "queue", queue):
        yield


@contextmanager
def _disputes_forgotten() -> Iterator[None]:
    """Let a disputed attempt keep its debit from nothing."""
    a = tables.attempt
    open_ones = select(a.c.id).where(a.c.debit_id == bindparam("debit"), a.c.state.in_(AWAITED)).limit(1)
    with put(states, "_UNRESOLVED_OF_DEBIT", open_ones):
        yield


@contextmanager
def _nobody_let_through_again() -> Iterator[None]:
    """Leave out the row of those who have paid and are still there."""
    rest = tuple(row for row in seen_before.TABLE if row.then is not seen_before.Next.LET_THROUGH)
    with put(seen_before, "TABLE", rest):
        yield


def _from_the_first_row(
    patch: Callable[[], AbstractContextManager[None]],
) -> Callable[[], AbstractContextManager[None]]:
    """Plant a bug in what rows are vouched for with, also for the file that every run begins with."""

    @contextmanager
    def patched() -> Iterator[None]:
        site.template.cache_clear()
        try:
            with patch():
                yield
        finally:
            site.template.cache_clear()

    return patched


MOVES_UNCHECKED = (states, "check_move", "if after not in", "if False and after not in")
"""Edit beside bugs that the tables of states would stop before the simulation sees what they do."""

BUGS: Mapping[str, Bug] = {
    "hold_not_counted": Bug(
        "holds do not count towards the limit",
        edit((limits, "exposure", "books.held(AccountKind.OPEN, obligor)", "0")),
    ),
    "debt_not_counted": Bug(
        "what is owed does not count towards the limit",
        edit((limits, "exposure", "- books.balance(AccountKind.OPEN, obligor)", "- 0")),
    ),
    "late_approval_posted": Bug(
        "an approval that comes after the reversal left pays the debit",
        edit(
            (
                late,
                "_approved",
                "row.state == AttemptState.UNKNOWN",
                "row.state in (AttemptState.UNKNOWN, AttemptState.REVERSING)",
            ),
            MOVES_UNCHECKED,
        ),
    ),
    "late_approval_swallowed": Bug(
        "an approval that comes after the reversal left is dropped",
        edit((late, "_approved", "if row.state == AttemptState.APPROVED or row.late_approval:", "if True:")),
    ),
    "retry_with_new_key": Bug(
        "a repeated advice or reversal carries a trace number of its own",
        edit(
            (
                iso8583.Iso8583Channel,
                "repeat",
                "mti=kinds.get(message.mti, message.mti)",
                "mti=kinds.get(message.mti, message.mti), fields={**message.fields, 11: '777777',"
                " **({61: '000001777777' + str(message.fields[61])[12:]} if 61 in message.fields else {})}",
            )
        ),
    ),
    "outbox_outside_transaction": Bug("the outbox row is written by another change", _outbox_outside),
    "reversal_closed_early": Bug(
        'a reversal is closed by an early "not found"',
        edit((attempts, "close_reversal", "over = aged and", "over =")),
    ),
    "account_row_outside_batch": Bug(
        "a merchant's account is not written with the batch that moves it",
        edit((books.Books, "flush", "if a.changed)", "if a.changed and a.kind is not AccountKind.MERCHANT)")),
    ),
    "answer_before_commit": Bug("callers are answered before the commit", _answers_before_commit),
    "file_not_looked_at": Bug(
        "nobody looks whether the ledger's file is still there",
        edit((batches.Committer, "stands", "self._file.stands()", "True")),
    ),
    "file_not_looked_at_again": Bug(
        "what was committed is answered without a look whether the ledger's file is still there",
        edit((batches.Batches, "_stored", "if not self._committer.stands():", "if False:")),
    ),
    "lift_before_decision": Bug(
        "the barrier lifts when the card has paid, before the decision is durable",
        edit(
            (
                antenna_point.AntennaPoint,
                "_serve",
                "decision = await",
                "visit.outputs = self._releaser._outputs\n    decision = await",
            ),
            (
                visit.EtcVisit,
                "bring_in",
                "brought = await",
                'if result is not None and result.outcome == "taken" and hasattr(self, "outputs"):\n'
                "        await self.outputs.open_barrier(0, timeout_s=1.0)\n\n"
                "    brought = await",
            ),
        ),
        "lanes",
    ),
    "intent_not_stored": Bug(
        "the card is asked without a stored intent",
        edit(
            (
                holds,
                "place_hold",
                "    if request.plan is not None:\n        purchases.store_intent(",
                "    if False:\n        purchases.store_intent(",
            )
        ),
        "lanes",
    ),
    "unknown_is_not_taken": Bug(
        "a purchase without an answer counts as not taken",
        edit((purchase.CardPurchases, "buy", "PurchaseOutcome.UNKNOWN", "PurchaseOutcome.NOT_TAKEN")),
        "lanes",
    ),
    "repeat_not_recognised": Bug(
        "a vehicle that has paid and is still there is charged again",
        _nobody_let_through_again,
        "lanes",
    ),
    "advice_beside_reversal": Bug(
        "the advice leaves while the sale's reversal is open",
        edit((attempts, "queue_advice", "or in_doubt(tx, debit.id)", "")),
    ),
    "duplicate_answer_counts": Bug(
        "the second copy of an approval pays once more",
        edit(
            (
                late,
                "_approved",
                "if row.state == AttemptState.UNKNOWN:",
                "if row.state == AttemptState.APPROVED:\n        fund_by_bank(tx, row, rules)\n"
                "    if row.state == AttemptState.UNKNOWN:",
            ),
            MOVES_UNCHECKED,
        ),
    ),
    "replay_not_compared": Bug(
        "the same key with other content is taken for the same claim",
        edit((holds, "_replay", "known.content_hash != request.content_hash", "False")),
    ),
    "stan_reused": Bug(
        "trace numbers begin again after a while",
        edit((pos, "pair", "position % STAN_MAX + 1", "position % 12 + 1")),
    ),
    "positions_from_ledger_alone": Bug(
        "trace numbers go on where the ledger stands, whatever the mark has given out",
        edit(
            (positions.Positions, "_next", "self._mark.reserved(terminal) or 0", "0"),
            (
                pos,
                "go_on_behind",
                "max(next_batch_after(position), by_clock(tx.now_us))",
                "_counted(tx.connection).get(terminal, position)",
            ),
        ),
    ),
    "start_takes_older_ledger": Bug(
        "a start does not compare the ledger with its mark",
        edit(
            (incarnation, "compare", "head.number < state.journal", "False"),
            (incarnation, "compare", "if state.journal and", "if False and"),
        ),
    ),
    "adoption_keeps_queue": Bug(
        "an adopted ledger goes on undoing and telling what it had open",
        edit((adoption, "_adopt", "for row in open_attempts:", "for row in open_attempts[:0]:")),
    ),
    "adopted_claims_asked_again": Bug(
        "a claim that may have been paid in a lost part is asked for again",
        edit((states, "outcome_lost", "item.state == ItemState.OPEN", "False")),
    ),
    "stand_in_without_limit": Bug(
        "vehicles are let go on our own word without a limit",
        edit(
            (
                conclusions,
                "conclude",
                "stand_in_allowed=refusal is None",
                "stand_in_allowed=True",
            )
        ),
    ),
    "recovery_skipped": Bug(
        "start-up classifies nothing",
        edit(
            (recovery, "classify_attempts", "for row in rows:", "for row in rows[:0]:"),
            (recovery, "close", "if debit.state != DebitState.HELD:", "if True:"),
        ),
    ),
    "start_up_voids_intents": Bug(
        "start-up takes a purchase without an answer for one that was not made",
        edit(
            (recovery, "classify_rest", "intents_unknown(tx)", "pass"),
            (recovery, "close", "(*OPEN_PURCHASES, PurchaseState", "(PurchaseState.UNKNOWN, PurchaseState"),
            (
                recovery,
                "close",
                "purchase_id=purchase.id)",
                "purchase_id=purchase.id, result=PurchaseResult(PurchaseOutcome.NOT_TAKEN))",
            ),
        ),
    ),
    "record_number_gap": Bug(
        "a record number is left out now and then",
        edit(
            (
                transaction.Transaction,
                "insert_chained",
                "head.number = head.number + 1",
                'head.number = head.number + (2 if table.name == "decision" and head.number % 100 == 99 else 1)',
            )
        ),
    ),
    "advice_given_up": Bug(
        "an advice that is not answered is not repeated",
        edit((worker.OutboxWorker, "_settle", "return False", 'return bool(row.kind == "advice")')),
    ),
    "reversal_before_its_row": Bug(
        "a reversal leaves before its state says so",
        edit(
            (attempts, "begin_reversal", "AttemptState.REVERSING, sends", "AttemptState.UNKNOWN, sends"),
            MOVES_UNCHECKED,
        ),
    ),
    "terminal_not_blocked": Bug(
        "a terminal sells on while its reversal is open",
        edit((pos.PosChannel, "_free", "if number not in busy", "if True")),
    ),
    "silence_is_not_sent": Bug(
        "a request without an answer counts as never sent",
        edit(
            (
                iso8583.Iso8583Channel,
                "exchange",
                "error.delivery is Delivery.SILENT",
                "False",
            )
        ),
    ),
    "no_word_is_declined": Bug(
        "codes that say nothing about the money count as declined",
        edit(
            (
                iso8583,
                "_of_sale",
                "_VERDICTS[response.response_class]",
                "_VERDICTS.get(response.response_class) if response.response_class is not ResponseClass.UNKNOWN"
                " else AnswerClass.DECLINED",
            )
        ),
    ),
    "unknown_code_declines": Bug(
        "a code that no table knows is a decline",
        edit((responses, "_unlisted", "ResponseCode(code, _U,", "ResponseCode(code, _D,")),
    ),
    "amount_not_compared": Bug(
        "the amount of an answer is not compared with what was asked",
        edit((iso8583, "differences", "sorted(profile.echoed)", "sorted(profile.echoed - {AMOUNT})")),
    ),
    "merchant_not_compared": Bug(
        "the merchant of an answer is not compared with what was asked",
        edit((iso8583, "differences", "sorted(profile.echoed)", "sorted(profile.echoed - {42})")),
    ),
    "second_word_first": Bug(
        "a second answer that overtakes the booking of the first one wins: a decline over an earlier approval",
        edit((turns.Turns, "in_turn", "if behind is None:", "if True:")),
    ),
    "contradiction_swallowed": Bug(
        "a decline after an approval is told to nobody",
        edit((late, "_declined", "if row.state == AttemptState.APPROVED:", "if False:")),
    ),
    "duplicate_reversed": Bug(
        "a message that left once and whose keys the bank knows is reversed",
        edit((attempts, "settle_answer", "if answer.verdict is AnswerClass.DUPLICATE:", "if False:")),
    ),
    "dispute_forgotten": Bug("a debit is asked for anew while an attempt of it is disputed", _disputes_forgotten),
    "reversal_closed_by_12": Bug(
        "a reversal is closed by another answer than 00",
        edit(
            (
                iso8583.Iso8583Channel,
                "_verdict",
                "_OF_REVERSAL.get(answer.response.code,",
                '_OF_REVERSAL.get({"12": "00"}.get(answer.response.code, answer.response.code),',
            )
        ),
    ),
    "void_keeps_hold": Bug(
        "a hold that is freed still counts",
        edit((books.Books, "_free", "giver.held -= pending.amount", "giver.held -= 0")),
    ),
    "refund_above_collected": Bug(
        "more is given back than was collected",
        edit((refunds, "_refusal", "request.amount_fen > debit.collected - debit.refunded", "False")),
    ),
    "overrun_not_claimed": Bug(
        "what is delivered above the hold is not claimed",
        edit((holds, "post_hold", "if debit.amount > reserved:", "if False:")),
    ),
    "completed_as_held": Bug(
        "the hold is collected, not what was delivered",
        edit((holds, "post_hold", "amount=min(debit.amount, reserved)", "amount=reserved")),
    ),
    "half_paid": Bug(
        "one fen less is booked than the bank has paid",
        edit((attempts, "fund_by_bank", "amount=attempt.amount", "amount=attempt.amount - 1")),
    ),
    "namesakes_forgotten": Bug(
        "an answer that names no terminal is given to whoever waits with its trace number",
        edit(
            (bank._UnansweredRequests, "may_mean", "return any(", "return False and any("),
            (bank._Pending, "fits", "amount in (None, self.amount)", "True"),
        ),
    ),
    "age_by_time_of_day": Bug(
        "how long ago a vehicle paid is told by the time of day alone",
        edit(
            (clock_readings, "age_s", "before[0].boot == now.boot", "False"),
            (clock_readings, "age_s", "if after", "if False"),
        ),
        "lanes",
    ),
    "clock_read_once": Bug(
        "a clock that was set is not read again",
        edit((clock_readings, "cover", "or not now.agrees_with(newest)", "")),
        "lanes",
    ),
    "opening_repeated": Bug(
        "an opening that may have been carried out is ordered again",
        edit((lane_io.LaneOutputs, "_persist", "once and error.outcome is not RequestOutcome.NOT_SENT", "False")),
        "lanes",
    ),
    "lifted_again_without_proof": Bug(
        "a barrier that does not confirm is lifted again, whatever became of the first time",
        edit((gate.Gate, "_keep_lifting", "certain = fault.certain", "certain = True")),
        "lanes",
    ),
    "arm_not_given_its_time": Bug(
        "one look at the closed limit counts as proof that the arm has not moved",
        edit((barrier_arm.ArmWatch, "closed", "return asked_at >=", "return True or asked_at >=")),
        "lanes",
    ),
    "arm_not_watched": Bug(
        "the arm may have gone up and come down again before anybody looked",
        edit((barrier_arm.ArmWatch, "closed", "self.unbroken = False", "pass")),
        "lanes",
    ),
    "log_names_plate": Bug(
        "a line of the log names a plate",
        edit((toll_sale.Road, "price", "quoted.detail)", "vehicle.plate)")),
        "lanes",
    ),
    "balance_not_compared": Bug(
        "a success is believed whatever balance it tells",
        edit((purchase_proof, "balance_agrees", "(before - written_fen - after) % BALANCES == 0", "True")),
    ),
    "balance_shown_not_compared": Bug(
        "file 0019 proves a purchase whatever balance stands beside it",
        edit(
            (purchase.CardPurchases, "proof", "TAKEN, balance_after=balance_raw", "TAKEN"),
            (purchase.CardPurchases, "proof", "if not balance_agrees(", "if False and not balance_agrees("),
        ),
        "lanes",
    ),
    "card_serial_not_compared": Bug(
        "a success is believed whatever serial of the card it tells",
        edit((purchase_proof, "serial_is_above", "0 < (serial - last) % SERIALS <= BETWEEN_MAX", "True")),
    ),
    "replay_accepted": Bug(
        "a terminal and PSAM serial may come again",
        edit((purchase_proof, "failed_checks", "not known.psam_serial_used", "True")),
    ),
    "seal_leaves_columns_out": Bug(
        "every second column of a row is not sealed",
        _from_the_first_row(
            edit(
                (
                    seals.Layout,
                    "_lines",
                    "encode(values if",
                    "encode([None if i % 2 else v for i, v in enumerate(values)] if",
                )
            )
        ),
    ),
    "seals_not_verified": Bug(
        "rows are not compared with their seals",
        edit((verify_seals.SealedRows, "check", "self._findings(connection)", "()")),
    ),
    "missing_rows_not_seen": Bug(
        "a sealed row that is gone is passed over",
        edit((verify_seals.SealedRows, "_differences", "yield MISSING, wanted", "pass")),
    ),
    "updates_not_sealed": Bug(
        "only new rows are sealed",
        edit((transaction.Transaction, "update", "self._seals.put(layout, changed)", "pass")),
    ),
    "chain_not_keyed": Bug(
        "whoever knows how the chain is made can make it anew",
        _from_the_first_row(edit((chain, "link", "key=key.secret", "key=bytes(32)"))),
    ),
    "key_not_looked_up": Bug(
        "every call of one claim makes a debit",
        edit((holds, "place_hold", "if known is not None:", "if False:")),
    ),
    **FUEL_BUGS,
}


@contextmanager
def plant(name: str) -> Iterator[None]:
    """Run with the bug of this name. Raises ValueError for one that is not known, NoLongerFits for one outgrown."""
    bug = BUGS.get(name)
    if bug is None:
        raise ValueError(f"bug {name!r} is not known; known are {', '.join(BUGS)}")
    with bug.patch():
        yield
