"""Result of a purchase as a B5 gives it, by the profile of its antenna. Pure.

A success is the card's word as an antenna passes it on. It must tell what the ledger compares it with (balance, card
serial, terminal and PSAM serial: `gateway.debit.purchase_proof`) and the TAC that clearing wants. What a maker's
antennas leave out, or tell in another way, stands in their profile (`rsu_errors.ResultFields`); a success that lacks
anything else is disputed.
"""

from __future__ import annotations

from dataclasses import dataclass

from gateway.debit.claims import PurchaseResult
from gateway.debit.purchase_proof import BALANCES, SERIALS
from gateway.model.passage import PurchaseOutcome
from gateway.points.etc.rsu_errors import (
    BalanceTold,
    CardSerialTold,
    MoneyMeaning,
    ReportType,
    ResultFields,
    RsuErrorProfile,
)
from protocols.rsu.messages import DebitResult

INCOMPLETE = "purchase_proof_incomplete"
"""Code of `gateway.model.reasons`."""


@dataclass(frozen=True, slots=True)
class Ordered:
    """Purchase that was ordered from the card."""

    purchase_time: str
    """Purchase time, YYYYMMDDhhmmss as in C6: MAC1 and TAC are made with it, so a true result carries it."""
    written_fen: int
    stored_value: bool
    """True when it pays from its purse; False for a charge card."""


def result_of(
    answer: DebitResult, ordered: Ordered, profile: RsuErrorProfile, *, fetched: bool = False
) -> PurchaseResult:
    """Result of the purchase. `fetched`: the B5 was asked for once more (C7), when file 0019 had proved the purchase;
    an antenna without power since then knows no PSAM serial of it and sends zero (inferred)."""
    meaning = profile.meaning(ReportType.RESULT, answer.error)
    outcome = {
        MoneyMeaning.TAKEN: PurchaseOutcome.DISPUTED if meaning.disputed else PurchaseOutcome.TAKEN,
        MoneyMeaning.NOT_TAKEN: PurchaseOutcome.NOT_TAKEN,
        MoneyMeaning.UNKNOWN: PurchaseOutcome.UNKNOWN,
    }[meaning.money]
    reason = None if meaning.reason is None else meaning.reason.code
    success = outcome is PurchaseOutcome.TAKEN
    if success and _lacks(answer):
        outcome, reason = PurchaseOutcome.DISPUTED, INCOMPLETE
    no_psam_serial = fetched or (profile.result.no_psam_serial_of_charge_cards and not ordered.stored_value)
    return PurchaseResult(
        outcome,
        reason=reason,
        error=answer.error,
        terminal=answer.terminal.hex(),
        # In a report that carries an error zero stands for "no purchase was numbered"; in a success it is a number.
        card_serial=_card_serial(answer, profile.result) if success else answer.card_serial or None,
        psam_serial=None if no_psam_serial and answer.psam_serial == 0 else answer.psam_serial,
        tac=answer.tac if success else None,
        tac_source="b5" if success else None,
        algorithm=answer.algorithm,
        key_version=answer.key_version,
        balance_after=_balance_after(answer, ordered, profile.result) if success else answer.balance_raw,
    )


def _lacks(answer: DebitResult) -> bool:
    """True when a success lacks a proof: the form of B5 for tags that hold no purse, or a TAC of zeros."""
    needed = (answer.tac, answer.card_serial, answer.psam_serial, answer.balance_raw)
    return any(value is None for value in needed) or not any(answer.tac or b"")


def _card_serial(answer: DebitResult, fields: ResultFields) -> int | None:
    """Number of this purchase on its card."""
    serial = answer.card_serial
    if serial is None or fields.card_serial is CardSerialTold.OF_PURCHASE:
        return serial
    return (serial + 1) % SERIALS


def _balance_after(answer: DebitResult, ordered: Ordered, fields: ResultFields) -> int | None:
    """Balance after, 32 bits as on the wire; None where the antenna could not read it and says so."""
    balance = answer.balance_raw
    if balance is None or balance == fields.balance_unread:
        return None
    if fields.balance is BalanceTold.BEFORE:
        return (balance - ordered.written_fen) % BALANCES
    return balance
