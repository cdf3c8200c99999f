"""Cryptograms over commands: line protection and external authentication."""

from __future__ import annotations

from protocols.crypto.algorithm import Algorithm
from protocols.crypto.primitives import encrypt, expect_length, retail_mac, sm4_cbc_mac
from protocols.crypto.purse import MAC_BYTES


def line_mac(leaf: bytes, challenge: bytes, header: bytes, data: bytes, algorithm: Algorithm) -> bytes:
    """4-byte MAC of a line-protected command, under the application maintenance leaf.

    `header` is CLA INS P1 P2 Lc where Lc already counts the four MAC bytes; `challenge` the 4 bytes the card just
    gave (SM4 cards also take 16). 3DES: ISO 9797-1 algorithm 3, start value challenge | 00.. (agreed; one source
    chains full 3DES over every block, which differs as soon as header and data exceed one block). SM4: CBC-MAC from
    challenge | 00.. (agreed).
    """
    expect_length("header", header, 5)
    if algorithm is Algorithm.DES3:
        iv = expect_length("challenge", challenge, 4).ljust(8, b"\0")
        return retail_mac(leaf, header + data, iv)[:MAC_BYTES]
    iv = expect_length("challenge", challenge, 4, 16).ljust(16, b"\0")
    return sm4_cbc_mac(leaf, header + data, iv)[:MAC_BYTES]


def external_auth(leaf: bytes, challenge: bytes, algorithm: Algorithm) -> bytes:
    """The 8 bytes that answer GET CHALLENGE in EXTERNAL AUTHENTICATE. A 4-byte challenge is filled with 00 (agreed).

    3DES: the encrypted challenge. SM4: challenge | 00.. encrypted, then both halves XORed.
    """
    block = expect_length("challenge", challenge, 4, 8).ljust(8, b"\0")
    if algorithm is Algorithm.DES3:
        return encrypt(leaf, block, algorithm)
    cipher = encrypt(leaf, block + bytes(8), algorithm)
    return bytes(a ^ b for a, b in zip(cipher[:8], cipher[8:], strict=True))
