"""Results that antennas forge: what each kind tells, and which are known to be found out.

Only what contradicts something the ledger knows is forged; that is what the gateway promises to find. A result that is
right in everything but that the card has not paid could be told from a true one by its TAC alone, and its key is the
issuer's.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping

from hardware.bench.simulation.invariants import Purchase, Told
from hardware.emulators.road import Forgery

SERIAL_BACK_MAX = 5
SERIALS = 1 << 16


def _unchanged_balance(_told: Told, _card: str, _chance: random.Random) -> Forgery:
    """Success, and the purse as it was."""
    return Forgery(balance_unchanged=True)


def _other_amount(_told: Told, _card: str, chance: random.Random) -> Forgery:
    """Success, and another amount is gone."""
    return Forgery(balance_off_fen=chance.choice((-1, 1)) * chance.randint(1, 1_000))


def _balance_after_debit(_told: Told, _card: str, chance: random.Random) -> Forgery:
    """The card has paid, and its balance is told wrong."""
    return Forgery(debits=True, balance_off_fen=chance.choice((-1, 1)) * chance.randint(1, 1_000))


def _card_serial(told: Told, card: str, chance: random.Random) -> Forgery | None:
    """A serial that the card has used before."""
    last = told.last_serials.get(card)
    if last is None:
        return None
    return Forgery(card_serial=(last - chance.randint(0, SERIAL_BACK_MAX)) % SERIALS)


def _psam_serial(told: Told, _card: str, chance: random.Random) -> Forgery | None:
    """A terminal and PSAM serial that belong to an earlier purchase of whoever."""
    earlier = _pick(told.numbered, chance)
    return None if earlier is None else Forgery(terminal=_terminal(earlier), psam_serial=earlier.psam_serial)


def _other_card(told: Told, card: str, chance: random.Random) -> Forgery | None:
    """Another card's TAC and serials."""
    return _whole(_pick([purchase for purchase in told.numbered if purchase.card != card], chance))


def _replay(told: Told, card: str, chance: random.Random) -> Forgery | None:
    """Result the antenna has told of an earlier purchase of this card."""
    return _whole(_pick([purchase for purchase in told.numbered if purchase.card == card], chance))


def _pick(earlier: list[Purchase], chance: random.Random) -> Purchase | None:
    return chance.choice(earlier) if earlier else None


def _whole(earlier: Purchase | None) -> Forgery | None:
    if earlier is None:
        return None
    return Forgery(
        terminal=_terminal(earlier),
        psam_serial=earlier.psam_serial,
        card_serial=earlier.card_serial,
        tac=bytes.fromhex(earlier.tac or ""),
    )


def _terminal(earlier: Purchase) -> bytes:
    return bytes.fromhex(earlier.terminal or "")


FORGERIES: Mapping[str, Callable[[Told, str, random.Random], Forgery | None]] = {
    "unchanged_balance": _unchanged_balance,
    "other_amount": _other_amount,
    "balance_after_debit": _balance_after_debit,
    "card_serial": _card_serial,
    "psam_serial": _psam_serial,
    "other_card": _other_card,
    "replay": _replay,
}
"""Forgeries by name. Each gives what an antenna tells of a card instead of the truth; None where it has nothing."""


def draw(told: Told, card: str, chance: random.Random) -> tuple[str, Forgery] | None:
    """Draw one forgery of any kind."""
    name = chance.choice(list(FORGERIES))
    forgery = FORGERIES[name](told, card, chance)
    return None if forgery is None else (name, forgery)
