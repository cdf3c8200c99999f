"""Changes on purchases: store the intent before the card is asked, and the end.

A result that says `taken` is checked against what is known (`gateway.debit.purchase_proof`) in the change that stores
it: of two that claim the same serial one passes, whether they come apart or in one group.
"""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import TypeVar

from sqlalchemy import Connection, bindparam, literal_column, or_, select

from gateway.debit import purchase_proof
from gateway.debit.claims import Payer, PreviousEntry, PreviousPassage, PreviousPurchase, PurchasePlan, PurchaseResult
from gateway.debit.states import add_purchase, set_purchase
from gateway.ledger import clock_readings, tables
from gateway.ledger.statements import Row
from gateway.ledger.transaction import Transaction
from gateway.model.clock import Clock
from gateway.model.passage import Funding, PassageOutcome, PurchaseOutcome, Release
from gateway.model.states import OPEN_PURCHASES, PurchaseState

T = TypeVar("T")

_p, _f, _d, _g, _s = tables.purchase, tables.purchase_file, tables.debit, tables.passage, tables.subject

PAYER = (
    *(_d.c.funding, _d.c.payer, _d.c.mandate_id, _d.c.contract_ref),
    *(tables.mandate.c.limit_fen, tables.mandate.c.stand_in_limit_fen),
)
_NEWEST_OF_CARD = (
    select(_p, _f.c.before, _f.c.after, _d.c.passage_id, _d.c.amount, _d.c.idempotency_key, *PAYER)
    .add_columns(_g.c.charge_point, _d.c.state.label("debit_state"))
    .join_from(_s, _g, _g.c.id == _s.c.id)
    .join(_d, _d.c.passage_id == _g.c.id)
    .join(_p, _p.c.debit_id == _d.c.id)
    .outerjoin(_f, _f.c.purchase_id == _p.c.id)  # a purchase may leave the files of its card alone
    .outerjoin(tables.mandate, tables.mandate.c.id == _d.c.mandate_id)
    .where(_s.c.card_number == bindparam("card"))
    .order_by(_d.c.hold_id.desc(), _p.c.attempt_no.desc())
    .limit(1)
)
_NEWEST_OF_TAG = (
    select(_d.c.id, _d.c.passage_id, _d.c.state, _d.c.amount, _g.c.charge_point, *PAYER)
    .join_from(_s, _g, _g.c.id == _s.c.id)
    .join(_d, _d.c.passage_id == _g.c.id)
    .outerjoin(tables.mandate, tables.mandate.c.id == _d.c.mandate_id)
    .where(_s.c.obu_id == bindparam("obu"), _s.c.contract == bindparam("contract"))
    .order_by(_d.c.hold_id.desc())
    .limit(1)
)
_CARD_OF_OPEN = (
    select(_s.c.card_number)
    .join_from(_s, _g, _g.c.id == _s.c.id)
    .join(_d, _d.c.passage_id == _g.c.id)
    .join(_p, _p.c.debit_id == _d.c.id)
    .where(_s.c.obu_id == bindparam("obu"), _p.c.state.in_(OPEN_PURCHASES))
    .order_by(_p.c.created_at.desc())
    .limit(1)
)
_NEWEST_OF_DEBIT = (
    select(_p)
    .where(_p.c.debit_id == bindparam("debit"))
    .order_by((_p.c.state == PurchaseState.TAKEN).desc(), _p.c.attempt_no.desc())
    .limit(1)
)
# The states go as parameters: written into the statement they would have the planner walk through all open purchases.
_OPEN = (
    select(_p.c.id)
    .join_from(_s, _g, _g.c.id == _s.c.id)
    .join(_d, _d.c.passage_id == _g.c.id)
    .join(_p, _p.c.debit_id == _d.c.id)
    .where(or_(_s.c.card_number == bindparam("card"), _s.c.obu_id == bindparam("obu")), _p.c.state.in_(OPEN_PURCHASES))
    .limit(1)
)
_NEWEST_ENTRY = (
    select(tables.decision.c.passage_id, tables.decision.c.charge_point, tables.decision.c.decided_at)
    .add_columns(tables.decision.c.record_no)
    .join_from(_s, _g, _g.c.id == _s.c.id)
    .join(tables.decision, tables.decision.c.passage_id == _g.c.id)
    .where(
        _s.c.card_number == bindparam("card"),
        _g.c.charge_point == bindparam("charge_point"),
        tables.decision.c.outcome == PassageOutcome.ENTERED.value,
    )
    .order_by(tables.decision.c.record_no.desc())
    .limit(1)
)
_SERIAL_OF_CARD = select(tables.card_serial.c.serial).where(tables.card_serial.c.card_number == bindparam("card"))
_PSAM_SERIAL_USED = (
    select(_p.c.id)
    .where(
        _p.c.terminal == bindparam("terminal"),
        _p.c.psam_serial == bindparam("psam_serial"),
        _p.c.state == literal_column(f"'{PurchaseState.TAKEN}'"),  # in the statement itself, for its partial index
    )
    .limit(1)
)
NEWEST_DECISION = (
    select(tables.decision)
    .where(tables.decision.c.passage_id == bindparam("passage"))
    .order_by(tables.decision.c.record_no.desc())
    .limit(1)
)


def store_intent(tx: Transaction, *, purchase_id: str, debit_id: str, attempt_no: int, plan: PurchasePlan) -> None:
    """Store the purchase the card will be asked for, durable before it is asked."""
    add_purchase(
        tx,
        purchase_id,
        debit_id=debit_id,
        attempt_no=attempt_no,
        written_fen=plan.written_fen,
        purchase_time=plan.purchase_time,
        balance_before=plan.balance_before,
        **({} if plan.numbers is None else asdict(plan.numbers)),
    )
    if plan.file_before is not None and plan.file_after is not None:
        tx.insert(tables.purchase_file, purchase_id=purchase_id, before=plan.file_before, after=plan.file_after)


def store_result(
    tx: Transaction, purchase_id: str, result: PurchaseResult, card_number: str | None
) -> PurchaseResult | None:
    """Store the card's answer; returns it as stored. None when the purchase had ended before: its first end stands."""
    purchase = tx.find(tables.purchase, id=purchase_id)
    return None if purchase is None else end_purchase(tx, purchase, result, card_number)


def end_purchase(
    tx: Transaction, purchase: Row, result: PurchaseResult, card_number: str | None
) -> PurchaseResult | None:
    """End a purchase that was just read, as `store_result` does."""
    if purchase.state not in OPEN_PURCHASES:
        return None
    result = _with_numbers(result, purchase)
    if result.outcome is PurchaseOutcome.TAKEN:
        result = _proved(tx, purchase, result, card_number)
    set_purchase(
        tx,
        purchase,
        PurchaseState(result.outcome.value),
        error=result.error,
        reason=result.reason,
        terminal=result.terminal,
        card_serial=result.card_serial,
        psam_serial=result.psam_serial,
        tac=result.tac.hex() if result.tac is not None else None,
        tac_source=result.tac_source,
        algorithm=result.algorithm,
        key_version=result.key_version,
        balance_after=result.balance_after,
    )
    return result


def _numbered(purchase: Row) -> bool:
    """True when a purchase without an end has the numbers of its intent: those that came with an error code are what an
    antenna told of a purchase that may be another."""
    return purchase.terminal is not None and purchase.error is None


def _with_numbers(result: PurchaseResult, purchase: Row) -> PurchaseResult:
    """Fill in from the intent what the result does not tell."""
    if not _numbered(purchase):
        return result

    def known(told: T | None, ordered: T | None) -> T | None:
        return ordered if told is None else told

    return replace(
        result,
        terminal=known(result.terminal, purchase.terminal),
        card_serial=known(result.card_serial, purchase.card_serial),
        psam_serial=known(result.psam_serial, purchase.psam_serial),
        algorithm=known(result.algorithm, purchase.algorithm),
        key_version=known(result.key_version, purchase.key_version),
    )


def end_by_person(tx: Transaction, purchase: Row, *, taken: bool) -> None:
    """End a stuck purchase by the word of a person who knows what the card did.

    What was told of it stays, and where it was taken its PSAM serial is used. But no TAC that came with a doubt proves
    anything, and no serial that did is the last one of its card.
    """
    state = PurchaseState.TAKEN if taken else PurchaseState.NOT_TAKEN
    set_purchase(tx, purchase, state, tac=None, tac_source=None)


def _proved(tx: Transaction, purchase: Row, result: PurchaseResult, card_number: str | None) -> PurchaseResult:
    """Check a result: itself where nothing contradicts it, and the card's serial is remembered; else disputed."""
    last = None
    if card_number is not None and result.card_serial is not None:
        last = tx.find(tables.card_serial, card_number=card_number)
    used = result.terminal is not None and result.psam_serial is not None
    used = used and bool(tx.rows(_PSAM_SERIAL_USED, terminal=result.terminal, psam_serial=result.psam_serial))
    known = purchase_proof.Known(
        written_fen=purchase.written_fen,
        balance_before=purchase.balance_before,
        last_serial=None if last is None else last.serial,
        psam_serial_used=used,
    )
    failed = purchase_proof.failed_checks(result, known)
    if failed:
        evidence = purchase_proof.evidence(failed, result, known)
        tx.note("purchase", purchase.id, PurchaseState.DISPUTED.value, debit_id=purchase.debit_id, detail=evidence)
        return replace(result, outcome=PurchaseOutcome.DISPUTED, reason=failed[0])
    if card_number is not None and result.card_serial is not None:
        _remember_serial(tx, card_number, result.card_serial, new=last is None)
    return result


def newest_purchase(connection: Connection, card_number: str, clock: Clock) -> PreviousPurchase | None:
    """Newest purchase of a card: tells a new car from one we have already asked for money.

    Newest by the number of its hold, not by its time: the wall clock may have been set back in between.
    """
    row = connection.execute(_NEWEST_OF_CARD, {"card": card_number}).one_or_none()
    return None if row is None else _previous(connection, row, card_number, clock)


def newest_of_debit(tx: Transaction, debit_id: str) -> Row | None:
    """Purchase that counts for a debit: one that was taken, else the last that was tried."""
    return tx.first(_NEWEST_OF_DEBIT, debit=debit_id)


def has_open_purchase(tx: Transaction, card_number: str | None, obu_id: bytes | None) -> bool:
    """True while a purchase of this card or in this tag is neither proved nor disproved: no new one may start."""
    return bool(tx.rows(_OPEN, card=card_number, obu=None if obu_id is None else obu_id.hex()))


def open_in_tag(connection: Connection, obu_id: bytes, clock: Clock) -> tuple[str, PreviousPurchase] | None:
    """Card number and purchase for an answer that comes after its passage ended; None where none is open."""
    card_number = connection.execute(_CARD_OF_OPEN, {"obu": obu_id.hex()}).scalar()
    previous = None if card_number is None else newest_purchase(connection, card_number, clock)
    if card_number is None or previous is None or previous.state not in OPEN_PURCHASES:
        return None
    return card_number, previous


def newest_of_tag(connection: Connection, obu_id: bytes, contract: str, clock: Clock) -> PreviousPassage | None:
    """Newest claim on a tag with its contract, whatever its state: recognises a vehicle without a card."""
    row = connection.execute(_NEWEST_OF_TAG, {"obu": obu_id.hex(), "contract": contract}).one_or_none()
    if row is None:
        return None
    release, decided_s_ago = _decided(connection, row.passage_id, clock)
    return PreviousPassage(
        passage_id=row.passage_id,
        debit_id=row.id,
        debit_state=row.state,
        charge_point=row.charge_point,
        amount_fen=row.amount,
        payer=payer_in(row),
        release=release,
        decided_s_ago=decided_s_ago,
    )


def newest_entry(connection: Connection, card_number: str, charge_point: str, clock: Clock) -> PreviousEntry | None:
    """Newest entry of a card recorded at a lane."""
    row = connection.execute(_NEWEST_ENTRY, {"card": card_number, "charge_point": charge_point}).one_or_none()
    if row is None:
        return None
    age_s = clock_readings.age_s(connection, clock, row.record_no, row.decided_at)
    return PreviousEntry(row.passage_id, row.charge_point, age_s)


def payer_in(row: Row) -> Payer:
    """Payer of the debit whose `PAYER` columns a row has."""
    return Payer(
        Funding(row.funding),
        row.payer,
        row.mandate_id,
        row.contract_ref,
        row.limit_fen,
        row.stand_in_limit_fen or 0,
    )


def _decided(connection: Connection, passage_id: str, clock: Clock) -> tuple[Release | None, float | None]:
    """Newest decision about a passage, repeats included: a vehicle that stands still keeps its right. With the seconds
    since."""
    row = connection.execute(NEWEST_DECISION, {"passage": passage_id}).one_or_none()
    if row is None:
        return None, None
    return Release(row.release), clock_readings.age_s(connection, clock, row.record_no, row.decided_at)


def _previous(connection: Connection, row: Row, card_number: str, clock: Clock) -> PreviousPurchase:
    release, decided_s_ago = _decided(connection, row.passage_id, clock)
    serial = row.card_serial
    if serial is None:
        last = connection.execute(_SERIAL_OF_CARD, {"card": card_number}).one_or_none()
        serial = None if last is None else (last.serial + 1) & 0xFFFF
    return PreviousPurchase(
        purchase_id=row.id,
        passage_id=row.passage_id,
        debit_id=row.debit_id,
        charge_point=row.charge_point,
        idempotency_key=row.idempotency_key,
        attempt_no=row.attempt_no,
        state=row.state,
        file_before=row.before,
        file_after=row.after,
        written_fen=row.written_fen,
        amount_fen=row.amount,
        payer=payer_in(row),
        purchase_time=row.purchase_time,
        card_serial=serial,
        terminal=row.terminal if _numbered(row) else None,
        balance_before=row.balance_before,
        reason=row.reason,
        debit_state=row.debit_state,
        release=release,
        decided_s_ago=decided_s_ago,
    )


def _remember_serial(tx: Transaction, card_number: str, serial: int, *, new: bool) -> None:
    if new:
        tx.insert(tables.card_serial, card_number=card_number, serial=serial)
    else:
        tx.update(tables.card_serial, {"card_number": card_number}, serial=serial)
