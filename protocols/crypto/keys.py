"""Derivation of keys: from a root to the leaf in one card, and from a leaf to the key of one session."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from protocols.crypto.algorithm import Algorithm
from protocols.crypto.primitives import DES_KEY_BYTES, KEY_BYTES, encrypt, expect_length
from protocols.errors import LocalProtocolError

FACTOR_BYTES: Final = 8
"""A diversification factor: a region's text, a card's inner number or an OBU's contract serial."""

LOAD_BLOCK_TAIL: Final = b"\x80\x00"
"""Stands in a load session block where a purchase has the terminal serial (verified)."""


def diversify(root: bytes, factors: Sequence[bytes], algorithm: Algorithm) -> bytes:
    """Leaf key (16 bytes) of a 16-byte root for 8-byte `factors`, **first factor first**.

    Region factor, then inner number (card) or contract serial (OBU). Commands to a PSAM carry the factors in the
    other order. 3DES: E(f) | E(~f) (verified). SM4: E(f | ~f) (agreed).
    """
    key = expect_length("root", root, KEY_BYTES)
    for factor in factors:
        expect_length("factor", factor, FACTOR_BYTES)
        # As 3DES blocks are 8 bytes, one call covers E(f) | E(~f) there and E(f | ~f) for SM4.
        key = encrypt(key, factor + complement(factor), algorithm)
    return key


def session_key(
    leaf: bytes, card_random: bytes, offline_sequence: int, terminal_serial: int, algorithm: Algorithm
) -> bytes:
    """Session key of one purchase: 8 bytes for 3DES (a single DES key, verified), 16 for SM4 (one source).

    `card_random` (4 bytes) and `offline_sequence` come from the answer to 8050, `terminal_serial` from the PSAM.
    Only the low two bytes of the serial enter.
    """
    expect_length("card_random", card_random, 4)
    block = (
        card_random + uint(offline_sequence, 2, "offline_sequence") + uint(terminal_serial, 4, "terminal_serial")[2:]
    )
    return _session(leaf, block, algorithm)


def load_session_key(leaf: bytes, card_random: bytes, online_sequence: int, algorithm: Algorithm) -> bytes:
    """Session key of one load (圈存). 3DES verified; SM4 by analogy with the purchase (inferred)."""
    expect_length("card_random", card_random, 4)
    return _session(leaf, card_random + uint(online_sequence, 2, "online_sequence") + LOAD_BLOCK_TAIL, algorithm)


def tac_key(leaf: bytes, algorithm: Algorithm) -> bytes:
    """Key of the TAC chain. 3DES: both halves of the leaf XORed, 8 bytes (verified on real cards).

    SM4: the leaf as it is (inferred: no public SM4 TAC is known; confirm with a clearing centre).
    """
    expect_length("leaf", leaf, KEY_BYTES)
    if algorithm is Algorithm.SM4:
        return leaf
    return bytes(a ^ b for a, b in zip(leaf[:DES_KEY_BYTES], leaf[DES_KEY_BYTES:], strict=True))


def complement(data: bytes) -> bytes:
    """Bitwise complement."""
    return bytes(byte ^ 0xFF for byte in data)


def uint(value: int, length: int, name: str) -> bytes:
    """Big-endian unsigned integer. Raises LocalProtocolError when it does not fit."""
    if not 0 <= value < 1 << (8 * length):
        raise LocalProtocolError(f"{value} does not fit {length} unsigned bytes", field=name)
    return value.to_bytes(length, "big")


def _session(leaf: bytes, block: bytes, algorithm: Algorithm) -> bytes:
    return encrypt(leaf, block if algorithm is Algorithm.DES3 else block + complement(block), algorithm)
