"""MAC1, MAC2 and TAC of purchase and load.

Every result is the first 4 bytes of the last block of a CBC chain over padded data. `time` is always 7 bytes BCD
YYYYMMDDhhmmss, and the very bytes that the card is sent: another second gives another MAC.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from protocols.crypto.algorithm import Algorithm
from protocols.crypto.keys import tac_key, uint
from protocols.crypto.primitives import des_cbc_mac, expect_length, sm4_cbc_mac

MAC_BYTES: Final = 4
"""Bytes of a MAC or TAC that are transmitted."""


@dataclass(frozen=True, slots=True)
class Trade:
    """Values that all cryptograms of one purchase or load have in common."""

    amount_fen: int
    """Unsigned 32 bits. Zero is legal: entry lanes purchase nothing and get a full TAC (verified)."""
    trade_type: int
    """09 composite purchase, 06 plain purchase, 02 load."""
    terminal: bytes
    """6 bytes of PSAM file 0016."""


def mac1(session: bytes, trade: Trade, time: bytes, algorithm: Algorithm) -> bytes:
    """MAC1 of a purchase: the PSAM proves to the card that it may debit. 3DES verified, SM4 agreed."""
    return _mac(session, _amount(trade) + _context(trade) + _time(time), algorithm)


def mac2(session: bytes, trade: Trade, algorithm: Algorithm) -> bytes:
    """MAC2 of a purchase, over the amount alone: the card proves to the PSAM that it has debited. Agreed."""
    return _mac(session, _amount(trade), algorithm)


def tac(leaf: bytes, trade: Trade, terminal_serial: int, time: bytes, algorithm: Algorithm) -> bytes:
    """TAC of a purchase over the card's TAC leaf. 3DES verified on two real transactions; SM4 inferred."""
    return _mac(tac_key(leaf, algorithm), tac_input(trade, terminal_serial, time), algorithm)


def tac_input(trade: Trade, terminal_serial: int, time: bytes) -> bytes:
    """The 22 bytes that a TAC covers, before padding (verified)."""
    return _amount(trade) + _context(trade) + uint(terminal_serial, 4, "terminal_serial") + _time(time)


def load_mac1(session: bytes, trade: Trade, old_balance: int, algorithm: Algorithm) -> bytes:
    """MAC1 of a load: the card proves its balance to the host (verified for 3DES)."""
    return _mac(session, uint(old_balance, 4, "old_balance") + _amount(trade) + _context(trade), algorithm)


def load_mac2(session: bytes, trade: Trade, time: bytes, algorithm: Algorithm) -> bytes:
    """MAC2 of a load: the host, with its own time, allows the card to add the amount (verified for 3DES)."""
    return _mac(session, _amount(trade) + _context(trade) + _time(time), algorithm)


def load_tac(
    leaf: bytes,
    trade: Trade,
    time: bytes,
    algorithm: Algorithm,
    *,
    new_balance: int,
    online_sequence: int,
    iv: bytes | None = None,
) -> bytes:
    """TAC of a load; `online_sequence` is the value before it. 3DES verified on a lab applet, SM4 inferred.

    Real cards start from zeros; that lab applet starts from eight times 11, hence `iv`.
    """
    data = (
        uint(new_balance, 4, "new_balance")
        + uint(online_sequence, 2, "online_sequence")
        + _amount(trade)
        + _context(trade)
        + _time(time)
    )
    return _mac(tac_key(leaf, algorithm), data, algorithm, iv)


def _mac(key: bytes, data: bytes, algorithm: Algorithm, iv: bytes | None = None) -> bytes:
    start = bytes(algorithm.block_bytes) if iv is None else iv
    chain = des_cbc_mac if algorithm is Algorithm.DES3 else sm4_cbc_mac
    return chain(key, data, start)[:MAC_BYTES]


def _amount(trade: Trade) -> bytes:
    return uint(trade.amount_fen, 4, "amount_fen")


def _context(trade: Trade) -> bytes:
    return uint(trade.trade_type, 1, "trade_type") + expect_length("terminal", trade.terminal, 6)


def _time(time: bytes) -> bytes:
    return expect_length("time", time, 7)
