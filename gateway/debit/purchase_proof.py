"""Proof of a purchase: checks before it is believed that a card has paid. Pure: values in, codes of failed checks out.

An antenna's word is bytes from the roadside, and the TAC in it can be checked by nobody here: its key is the issuer's.
What can be checked is whether the rest fits what was known before:

    check                                      against                                 what fails it
    balance before - amount = balance after    reading and order of this purchase      nothing taken, or another amount
    card serial above the last one             last purchase taken of this card        a replay, another card's answer
    terminal + PSAM serial never seen          every purchase taken here               a replay, another card's answer

A value that is None was not told and is not compared: which ones a device may leave out is for whoever knows the device
(`gateway.points.etc.purchase_result`). A failed check says nothing of the money: the purchase is disputed, and people
look.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from gateway.debit.claims import PurchaseResult

BALANCE_WRONG: Final = "purchase_balance_wrong"
SERIAL_NOT_ABOVE: Final = "card_serial_not_above"
PSAM_SERIAL_REPEATED: Final = "psam_serial_repeated"
"""Codes of `gateway.model.reasons`."""

BALANCES: Final = 1 << 32
"""Balances are 32 bits; a charge card's is a counter that runs through zero (true of 1,989 of 1,989 real purchases)."""

SERIALS: Final = 1 << 16
"""Number of card serials: two bytes, beginning anew after the last."""

BETWEEN_MAX: Final = SERIALS // 2 - 1
"""Most that a serial may be above the last one: beyond half of the numbers above and below look alike (RFC 1982). Other
operators' lanes and gantries count as well; a lorry that passes 200 of them every day may stay away for 160 days.
"""


@dataclass(frozen=True, slots=True)
class Known:
    """Facts that the ledger knows of a purchase before its result is stored. Amounts are fen."""

    written_fen: int
    """Amount the card was ordered to pay."""
    balance_before: int | None
    """Balance read before the order, 32 bits as on the wire."""
    last_serial: int | None
    """Serial of the last purchase taken of this card; None for a card that is new here, or was erased."""
    psam_serial_used: bool
    """True when a purchase was taken before under this terminal and PSAM serial."""


def failed_checks(result: PurchaseResult, known: Known) -> tuple[str, ...]:
    """Codes of the checks that a result saying the card has paid fails, the gravest first; none: it may be believed."""
    return tuple(
        code
        for code, holds in (
            (BALANCE_WRONG, balance_agrees(known.balance_before, known.written_fen, result.balance_after)),
            (PSAM_SERIAL_REPEATED, not known.psam_serial_used),
            (SERIAL_NOT_ABOVE, serial_is_above(known.last_serial, result.card_serial)),
        )
        if not holds
    )


def balance_agrees(before: int | None, written_fen: int, after: int | None) -> bool:
    """True when a purchase of this amount leads from one balance to the other, or one of them is not known."""
    if before is None or after is None:
        return True
    return (before - written_fen - after) % BALANCES == 0


def serial_is_above(last: int | None, serial: int | None) -> bool:
    """True when a card's serial comes after the last one known, or one of them is not known."""
    if last is None or serial is None:
        return True
    return 0 < (serial - last) % SERIALS <= BETWEEN_MAX


def evidence(failed: tuple[str, ...], result: PurchaseResult, known: Known) -> str:
    """Text for the journal, on one line: the result told and the facts it contradicts."""
    tac = "none" if result.tac is None else result.tac.hex()
    return (
        f"{', '.join(failed)}: balance {known.balance_before} - {known.written_fen} told {result.balance_after};"
        f" card serial {result.card_serial} after {known.last_serial};"
        f" terminal {result.terminal} PSAM serial {result.psam_serial}; TAC {tac} ({result.tac_source})"
    )
